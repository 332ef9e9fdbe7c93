//! The device: the tree, and the providers behind its parts.

use std::{collections::BTreeMap, sync::Arc};

use homefleet_model::{
    path::{ParamPath, Path, Segment, Target},
    schema::{Object, Schema, SchemaError},
    tree::{Resolved, Row, Tree},
};

use crate::{
    local_agent,
    provider::{Now, Operation, Provider, Wake},
    request::Fault,
};

/// The tree, and the providers behind its parts.
pub struct Device {
    /// The instantiated data model.
    pub tree: Tree,
    pub(crate) providers: Vec<Box<dyn Provider>>,
    failures: u64,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device")
            .field("providers", &self.providers.len())
            .finish_non_exhaustive()
    }
}

impl Device {
    /// A device with the core's objects and those of `providers`, and the state kept in `rows`.
    ///
    /// # Errors
    ///
    /// When the tables contradict each other: a mistake in this program.
    pub fn new(providers: Vec<Box<dyn Provider>>, rows: Vec<Row>) -> Result<Self, SchemaError> {
        let mut tables: Vec<&'static [Object]> = vec![
            local_agent::OBJECTS,
            local_agent::TRANSPORTS,
            crate::telemetry::OBJECTS,
            crate::cwmp::OBJECTS,
            crate::stun::OBJECTS,
            crate::cwmp::diagnostics::OBJECTS,
        ];
        tables.extend(providers.iter().map(|provider| provider.objects()));
        let mut tree = Tree::new(Arc::new(Schema::new(&tables)?));
        let report = tree.import(rows);
        tracing::debug!(?report, "state imported");
        Ok(Self {
            tree,
            providers,
            failures: 0,
        })
    }

    /// Gives every provider the means to tell that something changed.
    pub fn watch(&mut self, wake: &Wake) {
        for provider in &mut self.providers {
            provider.watch(wake.clone());
        }
    }

    /// Lets the providers behind anything that `path` can reach read the system again.
    pub fn refresh(&mut self, path: &Path, now: Now) {
        self.refresh_any(std::slice::from_ref(path), now);
    }

    /// Lets the providers behind anything that one of `paths` can reach read the system again, each once.
    pub(crate) fn refresh_any(&mut self, paths: &[Path], now: Now) {
        let reaches: Vec<Reach> = paths.iter().map(Reach::of).collect();
        self.refresh_where(now, |prefix| {
            reaches.iter().any(|reach| reach.includes(prefix))
        });
    }

    /// Lets every provider read the system again.
    pub fn refresh_all(&mut self, now: Now) {
        self.refresh_where(now, |_| true);
    }

    /// Lets those providers read the system again of whose prefixes `wanted` holds for one.
    pub(crate) fn refresh_where(&mut self, now: Now, wanted: impl Fn(&str) -> bool) {
        for provider in &mut self.providers {
            if !provider.prefixes().iter().any(|prefix| wanted(prefix)) {
                continue;
            }
            if let Err(error) = provider.refresh(&mut self.tree, now) {
                // What could not be read keeps its last value; once is enough to be seen.
                self.failures += 1;
                tracing::debug!(prefixes = ?provider.prefixes(), %error, failures = self.failures, "provider failed");
            }
        }
    }

    /// How often a provider could not read the system.
    pub fn provider_failures(&self) -> u64 {
        self.failures
    }

    /// Whether any provider fills something that `path` can reach.
    pub(crate) fn has_provider(&self, path: &Path) -> bool {
        let reach = Reach::of(path);
        self.providers.iter().any(|provider| {
            provider
                .prefixes()
                .iter()
                .any(|prefix| reach.includes(prefix))
        })
    }

    /// Everything that `path` names now.
    pub(crate) fn resolve(&self, path: &Path) -> Result<Vec<Resolved>, Fault> {
        self.tree
            .resolve(path)
            .map_err(|error| Fault::new(error.code(), error.to_string()))
    }

    /// Runs a command of a provider; `None` when none of them knows it.
    pub(crate) fn operate(
        &mut self,
        command: &str,
        args: &BTreeMap<String, String>,
    ) -> Option<Operation> {
        self.providers
            .iter_mut()
            .find_map(|provider| provider.operate(command, args))
    }
}

/// Makes the system follow what a controller set in `tree`: the provider with the longest prefix.
pub(crate) fn apply(
    providers: &mut [Box<dyn Provider>],
    tree: &Tree,
    path: &ParamPath,
    value: &str,
) -> Result<(), crate::provider::ProviderError> {
    let text = path.to_string();
    let matching = |provider: &dyn Provider| {
        provider
            .prefixes()
            .iter()
            .filter(|prefix| text.starts_with(**prefix))
            .map(|prefix| prefix.len())
            .max()
    };
    let best = providers
        .iter_mut()
        .filter_map(|provider| matching(provider.as_ref()).map(|length| (length, provider)))
        .max_by_key(|(length, _)| *length);
    match best {
        Some((_, provider)) => provider.apply(tree, path, value),
        None => Ok(()),
    }
}

/// What a path can lead to, as far as its text tells.
struct Reach {
    /// The part before the first instance identifier; `Device.` when a reference is followed, because the
    /// reference can lead anywhere.
    fixed: String,
    /// Also what lies below it.
    below: bool,
}

impl Reach {
    fn of(path: &Path) -> Self {
        if path
            .segments()
            .iter()
            .any(|segment| matches!(segment, Segment::Follow { .. }))
        {
            return Self {
                fixed: "Device.".into(),
                below: true,
            };
        }
        let mut fixed = String::new();
        let mut below = *path.target() == Target::Object;
        for segment in path.segments() {
            let Segment::Name(name) = segment else {
                below = true;
                break;
            };
            fixed.push_str(name);
            fixed.push('.');
        }
        // A number of entries is what a table below holds.
        below |= matches!(path.target(), Target::Param(name) if name.ends_with("NumberOfEntries"));
        Self { fixed, below }
    }

    /// Whether a provider of this prefix can have filled something of it.
    fn includes(&self, prefix: &str) -> bool {
        self.fixed.starts_with(prefix) || (self.below && prefix.starts_with(&self.fixed))
    }
}
