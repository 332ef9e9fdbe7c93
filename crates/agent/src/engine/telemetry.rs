//! When subscriptions of telemetry tell, and what goes to which receiver.
//!
//! A periodic subscription tells when its period is over, counted from its anchor or its start. One on change tells at once, then
//! not before its dampening period is over, everything that has changed meanwhile (RFC 8641 §3.1, §3.2). Each stream begins with
//! `subscription-started` (-26 §3.1).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use homefleet_model::{
    path::{ObjectPath, ParamPath, Path},
    tree::{Change, Tree},
};
use homefleet_net::notif::send;

use super::{Action, Engine, EngineError, boot::fact};
use crate::{
    local_agent::table,
    notify::PathView,
    provider::Now,
    telemetry::{
        OBJECT, RECEIVERS, Receiver, Subscription, Trigger, View,
        content::{self, Edit, Writer},
        factory,
    },
};

/// Changes that wait for the end of a dampening period; beyond, everything is told anew instead.
const MAX_PENDING: usize = 4096;

/// Who knows how receivers stand, and what was sent to them.
pub trait Publishers: Send + std::fmt::Debug {
    /// The counters of the receiver in this row of `Device.X_HOMEFLEET_Telemetry.Receiver.`, without its last dot.
    fn stats(&self, receiver: &str) -> Option<send::Stats>;
}

/// What is told, and when.
#[derive(Debug, Default)]
pub(super) struct Telemetry {
    view: View,
    active: BTreeMap<ObjectPath, Active>,
    /// Numbers of the notifications to each receiver.
    sequences: BTreeMap<String, u32>,
    /// What the publishers were told last.
    published: Vec<(String, Receiver)>,
    publishers: Option<Box<dyn Publishers>>,
}

/// A subscription that runs.
#[derive(Debug)]
struct Active {
    subscription: Subscription,
    /// When it tells next; on change: when what is pending may be told.
    next: Option<Instant>,
    /// On change: not before.
    rest: Option<Instant>,
    pending: BTreeMap<String, Pending>,
    /// Everything is told anew, as at the start.
    resync: bool,
    sent: u64,
}

/// What happened to a row or a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pending {
    Created(ObjectPath),
    Deleted,
    Changed(ParamPath),
}

impl Telemetry {
    pub(super) fn timeout(&self) -> Option<Instant> {
        self.active.values().filter_map(|active| active.next).min()
    }

    /// What has to be looked at every second, because somebody wants to know when it changes.
    pub(super) fn watched(&self) -> Vec<Path> {
        let on_change = self.active.values().filter(|active| active.is_on_change());
        on_change
            .flat_map(|active| active.subscription.paths())
            .collect()
    }

    /// Notes what has changed for those who want to know.
    pub(super) fn on_changes(&mut self, now: Now, tree: &Tree, changes: &[Change]) {
        for active in self
            .active
            .values_mut()
            .filter(|active| active.is_on_change())
        {
            let paths = active.subscription.paths();
            let mut view = PathView::new(tree, &paths);
            for change in changes {
                active.on_change(tree, &mut view, change);
            }
            if !active.pending.is_empty() && active.next.is_none() {
                active.next = Some(
                    active
                        .rest
                        .map_or(now.instant, |rest| rest.max(now.instant)),
                );
            }
        }
    }
}

impl Active {
    fn new(subscription: Subscription, now: Now) -> Self {
        let (next, resync) = match &subscription.trigger {
            Trigger::Periodic { period, anchor } => {
                let first = anchor.map_or(Duration::ZERO, |anchor| until(now, anchor, *period));
                (Some(now.instant + first), false)
            }
            Trigger::OnChange { sync, .. } => (sync.then_some(now.instant), *sync),
        };
        Self {
            subscription,
            next,
            rest: None,
            pending: BTreeMap::new(),
            resync,
            sent: 0,
        }
    }

    fn is_on_change(&self) -> bool {
        matches!(self.subscription.trigger, Trigger::OnChange { .. })
    }

    fn on_change(&mut self, tree: &Tree, view: &mut PathView<'_>, change: &Change) {
        match change {
            Change::ValueChanged { path, .. } => {
                // What changes all the time is not told on change; it has periods for that.
                let told = tree.schema().param(path).is_some_and(|param| param.notify);
                if told && !path.as_str().starts_with(OBJECT) && view.names_param(path) {
                    let known = self.pending.entry(path.as_str().to_owned());
                    known.or_insert_with(|| Pending::Changed(path.clone()));
                }
            }
            Change::Created { path } => {
                if view.names_row(path) {
                    let created = Pending::Created(path.clone());
                    self.pending.insert(path.as_str().to_owned(), created);
                }
            }
            Change::Deleted { path, .. } => {
                let below = path.as_str();
                let was_new = matches!(self.pending.get(below), Some(Pending::Created(_)));
                self.pending.retain(|known, _| !known.starts_with(below));
                if !was_new && view.names_row(path) {
                    self.pending.insert(below.to_owned(), Pending::Deleted);
                }
            }
        }
        if self.pending.len() > MAX_PENDING {
            self.pending.clear();
            self.resync = true;
        }
    }

    /// The edits that are pending, with the values of now.
    fn edits(&mut self, tree: &Tree) -> Vec<(String, Edit)> {
        let pending = std::mem::take(&mut self.pending).into_iter();
        let edits = pending.filter_map(|(path, pending)| {
            let edit = match pending {
                Pending::Created(row) if tree.exists(&row) => {
                    Edit::Create(content::row(tree, &row))
                }
                Pending::Changed(param) => Edit::Replace(content::scalar(tree.get(&param).ok()?)),
                Pending::Created(_) => return None,
                Pending::Deleted => Edit::Delete,
            };
            Some((path, edit))
        });
        edits.collect()
    }
}

/// How long until the next of the times that are multiples of the period from the anchor.
fn until(now: Now, anchor: std::time::SystemTime, period: Duration) -> Duration {
    let step = period.as_millis().max(1);
    let left = match now.wall.duration_since(anchor) {
        Ok(since) => step - since.as_millis() % step,
        Err(ahead) => match ahead.duration().as_millis() % step {
            0 => step,
            left => left,
        },
    };
    Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX))
}

impl Engine {
    /// Asks these how receivers stand.
    pub fn set_publishers(&mut self, publishers: Box<dyn Publishers>) {
        self.telemetry.publishers = Some(publishers);
    }

    /// Enters what the configuration says.
    pub(super) fn enter_telemetry(&mut self) -> Result<(), EngineError> {
        let known = self.store.fact(fact::TELEMETRY)?.unwrap_or_default();
        match factory::enter(&mut self.device.tree, &self.settings.telemetry, &known) {
            Ok(entered) if entered == known => {}
            Ok(entered) => self.batch.facts.push((fact::TELEMETRY.into(), entered)),
            Err(error) => {
                tracing::error!(%error, "the tree refused telemetry of the configuration file");
            }
        }
        Ok(())
    }

    /// Follows what the data model says about telemetry.
    pub(super) fn reload_telemetry(&mut self, now: Now) {
        if self.silent_until.is_some() {
            // R-SEC.19: nobody is contacted yet.
            return;
        }
        let view = View::read(&self.device.tree);
        for (row, status) in &view.statuses {
            self.fill(row, "Status", status);
        }
        let known = std::mem::take(&mut self.telemetry.published);
        let changed = |name: &str| {
            let before = known.iter().find(|(row, _)| row == name);
            before.map(|(_, receiver)| receiver) != view.receiver(name)
        };
        let watched = self.telemetry.watched();
        let mut before = std::mem::take(&mut self.telemetry.active);
        let mut ended = Vec::new();
        let mut begun = Vec::new();
        for subscription in &view.subscriptions {
            let row = subscription.row.clone();
            let same = before.remove(&row);
            let fresh = changed(&subscription.receiver);
            match same {
                Some(active) if active.subscription.is_like(subscription) && !fresh => {
                    self.telemetry.active.insert(row, active);
                }
                other => {
                    if let Some(active) = other
                        && !changed(&active.subscription.receiver)
                    {
                        ended.push(active.subscription);
                    }
                    begun.push(row.clone());
                    let active = Active::new(subscription.clone(), now);
                    self.telemetry.active.insert(row, active);
                }
            }
        }
        let gone = before.into_values().map(|active| active.subscription);
        ended.extend(gone.filter(|gone| !changed(&gone.receiver)));
        if known != view.receivers {
            self.actions
                .push_back(Action::Telemetry(view.receivers.clone()));
        }
        self.telemetry.published = view.receivers.clone();
        let receivers = &self.telemetry.published;
        let is_there = |name: &String, _: &mut u32| receivers.iter().any(|(row, _)| row == name);
        self.telemetry.sequences.retain(is_there);
        self.telemetry.view = view;
        for subscription in ended {
            let id = subscription.id;
            self.tell(now, &subscription.receiver, |writer, sequence| {
                vec![writer.terminated(id, sequence)]
            });
        }
        for row in begun {
            let Some(active) = self.telemetry.active.get(&row) else {
                continue;
            };
            let subscription = active.subscription.clone();
            let sent = self.tell(now, &subscription.receiver, |writer, sequence| {
                vec![writer.started(&subscription, sequence)]
            });
            self.count_sent(&row, sent);
        }
        if watched != self.telemetry.watched() {
            self.reload_subscriptions(now);
        }
    }

    /// Tells what is due.
    pub(super) fn run_telemetry(&mut self, now: Now) {
        let is_due = |active: &Active| active.next.is_some_and(|at| at <= now.instant);
        let due = self.telemetry.active.iter();
        let due = due.filter(|(_, active)| is_due(active));
        let due: Vec<ObjectPath> = due.map(|(row, _)| row.clone()).collect();
        if due.is_empty() {
            return;
        }
        // One round of reading for all of them.
        let periodic = due.iter().filter_map(|row| self.telemetry.active.get(row));
        let periodic = periodic.filter(|active| !active.is_on_change() || active.resync);
        let paths: Vec<Path> = periodic
            .flat_map(|active| active.subscription.paths())
            .collect();
        if !paths.is_empty() {
            self.device.refresh_any(&paths, now);
            if paths.iter().any(names_own) {
                self.refresh_own(now);
            }
        }
        for row in due {
            self.run_one(now, &row);
        }
    }

    /// Tells what has changed and need not wait.
    pub(super) fn tell_changes(&mut self, now: Now) {
        let due = self.telemetry.active.iter().filter(|(_, active)| {
            !active.pending.is_empty()
                && !active.resync
                && active.next.is_some_and(|at| at <= now.instant)
        });
        let due: Vec<ObjectPath> = due.map(|(row, _)| row.clone()).collect();
        for row in due {
            self.run_one(now, &row);
        }
    }

    fn run_one(&mut self, now: Now, row: &ObjectPath) {
        let tree = &self.device.tree;
        let Some(active) = self.telemetry.active.get_mut(row) else {
            return;
        };
        let (id, receiver) = (active.subscription.id, active.subscription.receiver.clone());
        let mut edits = Vec::new();
        let everything = match &active.subscription.trigger {
            Trigger::Periodic { period, anchor } => {
                let step = match (anchor, active.next) {
                    (Some(anchor), _) => until(now, *anchor, *period),
                    // What was missed, as in a sleep of the machine, is not made up for.
                    (None, Some(due)) => {
                        let late = now.instant.saturating_duration_since(due).as_nanos();
                        let late = late % period.as_nanos().max(1);
                        *period - Duration::from_nanos(u64::try_from(late).unwrap_or(0))
                    }
                    (None, None) => *period,
                };
                active.next = Some(now.instant + step);
                true
            }
            Trigger::OnChange { dampening, .. } => {
                active.next = None;
                active.rest = Some(now.instant + *dampening);
                let resync = std::mem::take(&mut active.resync);
                if resync {
                    active.pending.clear();
                } else {
                    edits = active.edits(tree);
                }
                resync
            }
        };
        let sent = if everything {
            let values = content::gather(tree, &active.subscription.filters);
            self.tell(now, &receiver, |writer, sequence| {
                writer.update(id, &values, sequence)
            })
        } else if edits.is_empty() {
            0
        } else {
            self.tell(now, &receiver, |writer, sequence| {
                writer.changes(id, &edits, sequence)
            })
        };
        self.count_sent(row, sent);
    }

    /// Has notifications written for a receiver, and sent; how many.
    fn tell(
        &mut self,
        now: Now,
        receiver: &str,
        write: impl FnOnce(&Writer<'_>, &mut u32) -> Vec<Vec<u8>>,
    ) -> u64 {
        let Some(known) = self.telemetry.view.receiver(receiver) else {
            return 0;
        };
        let hostname = self.device.tree.text("Device.DeviceInfo.HostName");
        let writer = Writer {
            encoding: known.encoding,
            envelope: known.envelope,
            hostname: hostname.filter(|name| !name.is_empty()),
            at: now.wall,
        };
        let sequence = self.telemetry.sequences.entry(receiver.to_owned());
        let messages = write(&writer, sequence.or_default());
        let count = messages.len() as u64;
        for message in messages {
            self.actions.push_back(Action::Publish {
                receiver: receiver.to_owned(),
                message,
            });
        }
        count
    }

    fn count_sent(&mut self, row: &ObjectPath, sent: u64) {
        if let Some(active) = self.telemetry.active.get_mut(row) {
            active.sent += sent;
        }
    }

    /// Puts how receivers stand, and the counters, into the tree.
    pub(super) fn refresh_telemetry(&mut self) {
        let sent: Vec<(ObjectPath, u64)> = self
            .telemetry
            .active
            .iter()
            .map(|(row, active)| (row.clone(), active.sent))
            .collect();
        for (row, sent) in sent {
            self.fill(&row, "EventRecordsSent", &sent.to_string());
        }
        for row in self.device.tree.rows(&table(RECEIVERS)) {
            let name = row.to_reference();
            if self.telemetry.view.receiver(name).is_none() {
                continue;
            }
            let publishers = self.telemetry.publishers.as_ref();
            let Some(stats) = publishers.and_then(|publishers| publishers.stats(name)) else {
                continue;
            };
            let (status, reason) = match &stats.status {
                send::Status::Connecting => ("Connecting", String::new()),
                send::Status::Up {
                    remote, session, ..
                } => match session {
                    Some((version, cipher)) => ("Up", format!("{remote}, {version}, {cipher}")),
                    None => ("Up", format!("{remote}, without DTLS")),
                },
                send::Status::Away { reason } => ("Away", reason.clone()),
                send::Status::Stopped => ("Disabled", String::new()),
            };
            self.fill(&row, "Status", status);
            let end = reason.floor_char_boundary(256);
            self.fill(&row, "StatusReason", &reason[..end]);
            let counted = row.child("Stats");
            let messages = &stats.messages;
            for (name, value) in [
                ("MessagesSent", messages.sent),
                ("BytesSent", messages.sent_bytes),
                ("DatagramsSent", messages.datagrams),
                ("SegmentsSent", messages.segments),
                ("MessagesFailed", messages.failed),
                ("MessagesDroppedAway", messages.dropped_away),
                ("MessagesDroppedPacing", messages.dropped_paced),
                ("MessagesTooLarge", messages.too_large),
                ("MessagesWaiting", stats.waiting as u64),
                ("Connections", stats.connected),
                ("Renewals", stats.renewed),
                ("ConnectionFailures", stats.failed),
            ] {
                self.fill(&counted, name, &value.to_string());
            }
        }
    }
}

/// Whether a path can lead to values that the core itself keeps.
fn names_own(path: &Path) -> bool {
    let text = path.to_string();
    ["Device.LocalAgent.", OBJECT]
        .iter()
        .any(|own| text.starts_with(own) || own.starts_with(&text))
}
