//! Taking over new files while the server runs: asked for, or because they changed.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use homefleet_api as api;
use homefleet_net::dtls::Credentials;
use homefleet_trust::Anchor;
use tokio::sync::watch;

use super::{List, Material, Own, Refusals, TlsError, revocation};
use crate::account::hex;
use crate::clock::Millis;
use crate::config::Tls;
use crate::metrics::Sample;

/// Before its end, an own certificate that nobody renewed is worth a warning, once a day.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);

/// What takes new certificates over: the listeners. Sessions stay open.
pub(crate) trait Target: Send + Sync {
    /// Shows this certificate in handshakes from now on.
    ///
    /// The error says why it cannot; the old one is then still shown.
    fn credentials(
        &self,
        new: Credentials,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>>;

    /// Trusts these, and judges the peers of open sessions again.
    fn anchors(&self, new: Vec<Anchor>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Has these brokers vouch for who sends through them, and no other, on connections made anew.
    fn brokers(&self, new: Vec<Anchor>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Knows these lists of revoked certificates too, and judges the peers of open sessions again.
    fn lists(&self, new: Vec<List>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// What is counted about revocation, and hosts that evidence cannot be fetched from.
    fn revocation(&self) -> (Vec<Sample>, Vec<String>);
}

/// The files in force, and the way to newer ones.
pub(crate) struct Renewal {
    files: Tls,
    endpoint_id: String,
    target: Box<dyn Target>,
    refusals: Arc<Refusals>,
    state: Mutex<State>,
    /// One reload at a time.
    turn: tokio::sync::Mutex<()>,
}

struct State {
    own: Own,
    anchors: Vec<api::TrustedCertificate>,
    digest: super::Digest,
    /// Of the files when they were last read, whatever came of it.
    stamps: Vec<Stamp>,
    loaded: SystemTime,
    problem: Option<String>,
    reloads: u64,
    failures: u64,
}

impl Renewal {
    /// What is in force at the start; `stamps` are those of the files from before they were read.
    pub(crate) fn new(
        files: Tls,
        endpoint_id: String,
        target: Box<dyn Target>,
        refusals: Arc<Refusals>,
        material: &Material,
        stamps: Vec<Stamp>,
    ) -> Self {
        if let Some(problem) = &material.own.problem {
            tracing::error!(certificate = %files.certificate.display(), problem, "the own certificate is no good");
        }
        Self {
            files,
            endpoint_id,
            target,
            refusals,
            state: Mutex::new(State {
                own: material.own.clone(),
                anchors: trusted(&material.anchors),
                digest: material.digest,
                stamps,
                loaded: SystemTime::now(),
                problem: None,
                reloads: 0,
                failures: 0,
            }),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Reads the files and takes over what changed in them.
    ///
    /// # Errors
    /// When one of them is no good; everything then stays as it was.
    pub(crate) async fn reload(&self) -> Result<api::Tls, TlsError> {
        self.attempt(false).await
    }

    /// `unasked`: the same problem as before is not told again.
    async fn attempt(&self, unasked: bool) -> Result<api::Tls, TlsError> {
        let _turn = self.turn.lock().await;
        let (files, endpoint_id) = (self.files.clone(), self.endpoint_id.clone());
        let read = tokio::task::spawn_blocking(move || {
            let stamps = stamps(&files);
            (
                stamps,
                Material::load(&files, &endpoint_id, SystemTime::now()),
            )
        })
        .await;
        let taken = match read {
            Ok((stamps, material)) => {
                self.state().stamps = stamps;
                match material {
                    Ok(material) => self.take(material).await,
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(self.error(format!("the files could not be read: {error}"))),
        };
        match taken {
            Ok(()) => Ok(self.status()),
            Err(error) => {
                let problem = Some(error.to_string());
                let mut state = self.state();
                if !unasked || state.problem != problem {
                    tracing::error!(%error, "new certificates are not taken over, the old ones stay in force");
                    state.failures += 1;
                    state.problem = problem;
                }
                Err(error)
            }
        }
    }

    async fn take(&self, material: Material) -> Result<(), TlsError> {
        let before = self.state().digest;
        if let Some(problem) = &material.own.problem {
            return Err(self.error(problem.clone()));
        }
        // Another's list that grew old must not keep our own certificate from being renewed.
        let listed = match revocation::policy(&self.files.revocation) {
            Some(policy) => revocation::judge(&policy, &material.lists, SystemTime::now()),
            None => Ok(()),
        };
        let Material {
            credentials,
            anchors,
            brokers,
            lists,
            own,
            mut digest,
        } = material;
        if digest.own != before.own {
            self.target
                .credentials(credentials)
                .await
                .map_err(|problem| self.error(problem))?;
            tracing::info!(
                subject = own.subject,
                until = Millis::from(own.not_after).to_timestamp(),
                "a new certificate is in force"
            );
        }
        let names = trusted(&anchors);
        if digest.anchors != before.anchors {
            self.target.anchors(anchors).await;
            tracing::info!(
                anchors = names.len(),
                "new trusted certificates are in force"
            );
        }
        if digest.brokers != before.brokers {
            let count = brokers.len();
            self.target.brokers(brokers).await;
            tracing::info!(brokers = count, "new Trusted Brokers are in force");
        }
        if listed.is_err() {
            digest.lists = before.lists;
        }
        if digest.lists != before.lists {
            let count = lists.len();
            self.target.lists(lists).await;
            tracing::info!(lists = count, "new revocation lists are in force");
        }
        let mut state = self.state();
        if listed.is_ok() {
            state.problem = None;
        }
        if digest != before {
            state.reloads += 1;
            state.loaded = SystemTime::now();
            (state.own, state.anchors, state.digest) = (own, names, digest);
        }
        listed
    }

    /// What is in force.
    pub(crate) fn status(&self) -> api::Tls {
        let (refusals, (_, unreachable)) = (self.refusals.last(), self.target.revocation());
        let state = self.state();
        api::Tls {
            certificate: api::OwnCertificate {
                subject: state.own.subject.clone(),
                fingerprint: hex(&state.own.fingerprint),
                not_after: Millis::from(state.own.not_after).to_timestamp(),
            },
            anchors: state.anchors.clone(),
            loaded: Millis::from(state.loaded).to_timestamp(),
            problem: state.problem.clone(),
            unreachable,
            refusals,
        }
    }

    /// For `/metrics`.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let state = self.state();
        let days = match state.own.not_after.duration_since(SystemTime::now()) {
            Ok(left) => days(left),
            Err(past) => -days(past.duration()) - 1,
        };
        let mut samples = vec![
            Sample::gauge(
                "certificate_days",
                "Whole days until the own certificate ends; negative when it has ended",
                days,
            ),
            Sample::counter(
                "certificate_reloads",
                "Times that new certificates were taken over",
                state.reloads,
            ),
            Sample::counter(
                "certificate_reload_failures",
                "Times that new certificates were no good, a problem that stays counted once",
                state.failures,
            ),
        ];
        samples.extend(self.target.revocation().0);
        samples.extend(
            self.refusals
                .by_reason()
                .into_iter()
                .map(|(reason, count)| {
                    Sample::counter(
                        "refusals",
                        "Decisions against a peer because of its certificate, by reason",
                        count,
                    )
                    .labelled("reason", reason)
                }),
        );
        samples
    }

    /// Looks at the files every `interval` until `stop` changes. A change counts once the files have stood still
    /// from one look to the next: certificate and key are written one after the other. Files that were no good are read again at
    /// every look: a date may have come, or a permission.
    pub(crate) async fn run(self: Arc<Self>, interval: Duration, mut stop: watch::Receiver<bool>) {
        let mut seen: Option<Vec<Stamp>> = None;
        let mut warned: Option<SystemTime> = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                _ = stop.changed() => return,
            }
            let files = self.files.clone();
            let Ok(found) = tokio::task::spawn_blocking(move || stamps(&files)).await else {
                continue;
            };
            let due = {
                let state = self.state();
                state.problem.is_some() || found != state.stamps
            };
            if due && seen.as_ref() == Some(&found) {
                // What is wrong has been logged.
                drop(self.attempt(true).await);
            }
            seen = Some(found);
            self.warn(&mut warned);
        }
    }

    fn warn(&self, warned: &mut Option<SystemTime>) {
        let now = SystemTime::now();
        let end = self.state().own.not_after;
        let due = warned.is_none_or(|last| now.duration_since(last).is_ok_and(|past| past >= DAY));
        if due && end <= now + WARN_BEFORE {
            *warned = Some(now);
            tracing::warn!(
                until = Millis::from(end).to_timestamp(),
                "the own certificate has to be renewed"
            );
        }
    }

    fn error(&self, problem: String) -> TlsError {
        TlsError {
            key: "tls.certificate",
            path: self.files.certificate.clone(),
            problem,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Renewal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewal")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// The stamps of all files, following links; `None`-like zeros for a file that is not there.
pub(crate) fn stamps(files: &Tls) -> Vec<Stamp> {
    files.paths().map(stamp).collect()
}

fn stamp(path: &Path) -> Stamp {
    std::fs::metadata(path).map_or(
        Stamp {
            inode: 0,
            size: 0,
            modified: (0, 0),
        },
        |meta| Stamp {
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        },
    )
}

fn trusted(anchors: &[Anchor]) -> Vec<api::TrustedCertificate> {
    anchors
        .iter()
        .map(|anchor| api::TrustedCertificate {
            subject: anchor.subject().to_owned(),
            fingerprint: hex(&anchor.fingerprint()),
        })
        .collect()
}

fn days(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs() / DAY.as_secs()).unwrap_or(i64::MAX)
}
