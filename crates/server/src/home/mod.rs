//! Homes: who is behind which gateway (TR-111 Part 1 §1.2.3).
//!
//! A device says which gateway it is behind (`GatewayInfo`). That comes by DHCP, which nobody protects, so it is a *claim*: it counts once
//! the gateway, which proved itself to this server as the device did, lists the device in its table (`ManageableDevice`).
//!
//! ```text
//!  values, answers ─┐                     ┌─► confirmed: every element of the device's identity is in the table
//!  devices changed ─┼─► claim ─► judge ───┼─► refuted: the table does not have it, and how it differs
//!  readings failed ─┘     ▲       │       ├─► unverifiable: and why
//!                         │       └─ wish ┴─► checking: the gateway's table is read, by a task in its queue
//!              time ──────┘
//! ```
//!
//! `Homes` is a machine without I/O: it looks at every change that the core makes (`Homes::look`), whichever protocol brought it, and says
//! what is to be written, read and told. A table proves something only when it was read after the device said so; a device that just came is
//! refuted only after the gateway had time to list it. What a notification says is a reason to read, never a value: notifications may come
//! late and twice, and one parameter at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use homefleet_api::{
    AssociationCounts, AssociationStatus, GatewayClaim, LocalIdentity, Operation, TaskErrorCode,
    TaskResult, TaskState, UnverifiableReason,
};

use crate::clock::Millis;
use crate::device::Registry;
use crate::metrics::Sample;
use crate::store::home::{AssociationRecord, HistoryRecord, HomeWrite, TableRecord};
use crate::store::{Batch, ParameterRecord, TaskRecord, Write};

mod judge;
mod paths;
mod view;

pub(crate) use paths::{GATEWAY_INFO, first_reading, read_table, subscriptions};

/// Who the server is in its own tasks.
const SELF: &str = "server";
/// Changes kept of each association.
const HISTORY: usize = 32;
/// Longest element that is kept of what a device or gateway says, in bytes; none that is valid is longer.
const LONGEST: usize = 256;
/// Longest problem that is kept, in characters.
const LONGEST_PROBLEM: usize = 300;

/// Policy and bounds of homes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeConfig {
    /// Whether devices are asked for their gateways, and gateways for their devices.
    pub enabled: bool,
    /// How long a gateway may take to list a device that just came.
    pub settle: Duration,
    /// The shortest time between two readings of one device for this.
    pub pause: Duration,
    /// Most rows kept of a gateway's table.
    pub rows: usize,
}

impl Default for HomeConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            settle: Duration::from_secs(20),
            pause: Duration::from_secs(5),
            rows: 1024,
        }
    }
}

/// What is to be read of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) device: String,
    pub(crate) operation: Operation,
}

/// All homes.
#[derive(Debug, Default)]
pub(crate) struct Homes {
    config: HomeConfig,
    associations: BTreeMap<String, AssociationRecord>,
    tables: BTreeMap<String, Table>,
    /// Devices by the gateway they mean, or were confirmed behind: (gateway, device).
    members: BTreeSet<(String, String)>,
    /// Devices by the OUI and serial number they name: (name, device).
    named: BTreeSet<(String, String)>,
    /// Readings made a moment ago; whether another is wanted.
    asked: BTreeMap<Reading, bool>,
    timers: BTreeSet<(Millis, Timer)>,
    wishes: Vec<Wish>,
    writes: Vec<HomeWrite>,
    /// Devices whose associations changed.
    told: Vec<String>,
    counted: AssociationCounts,
    counters: Counters,
}

/// What is known of a gateway's table.
#[derive(Debug)]
struct Table {
    record: TableRecord,
    /// Why it could not be read last.
    problem: Option<Problem>,
}

#[derive(Debug)]
struct Problem {
    time: Millis,
    reason: UnverifiableReason,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Reading {
    Claim(String),
    Table(String),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Look at this device's association again.
    Device(String),
    /// This may be read again.
    Pause(Reading),
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    claims: u64,
    verdicts: [u64; AssociationStatus::ALL.len()],
    readings: u64,
    failures: u64,
    refused: u64,
}

impl Homes {
    /// The homes of an earlier life.
    pub(crate) fn restore(
        config: HomeConfig,
        now: Millis,
        associations: Vec<AssociationRecord>,
        tables: Vec<TableRecord>,
    ) -> Self {
        let mut homes = Self {
            config,
            ..Self::default()
        };
        for mut record in associations {
            homes.enter(&record);
            // What was being checked when the server stopped is looked at at once.
            let due = (record.status == AssociationStatus::Checking).then_some(now);
            record.due = due;
            if let Some(due) = due {
                homes
                    .timers
                    .insert((due, Timer::Device(record.device.clone())));
            }
            homes.associations.insert(record.device.clone(), record);
        }
        for record in tables {
            let table = Table {
                record,
                problem: None,
            };
            homes.tables.insert(table.record.gateway.clone(), table);
        }
        homes
    }

    /// Looks at a change: what is written, which tasks changed, and how late it is.
    pub(crate) fn look(
        &mut self,
        now: Millis,
        registry: &Registry,
        batch: &Batch,
        tasks: &[TaskRecord],
    ) {
        if !self.config.enabled {
            return;
        }
        for write in &batch.0 {
            match write {
                Write::Device(device) => self.changed(now, registry, &device.id),
                Write::RemoveDevice(id) => self.removed(now, registry, id),
                Write::Parameters {
                    device,
                    values,
                    complete,
                } => self.values(now, registry, device, values, complete),
                Write::Notification {
                    device,
                    values,
                    removed,
                    ..
                } => self.notified(now, registry, device, values, removed),
                _ => {}
            }
        }
        for task in tasks.iter().filter(|task| task.created_by == SELF) {
            self.task(now, registry, task);
        }
        while let Some((at, _)) = self.timers.first()
            && *at <= now
        {
            match self.timers.pop_first() {
                Some((_, Timer::Device(device))) => {
                    if let Some(record) = self.associations.get_mut(&device) {
                        record.due = None;
                    }
                    self.evaluate(now, registry, &device);
                }
                Some((_, Timer::Pause(reading))) => {
                    if self.asked.remove(&reading) == Some(true) {
                        self.want(now, registry, reading);
                    }
                }
                None => break,
            }
        }
    }

    /// When [`Homes::look`] has something to do again.
    pub(crate) fn poll_timeout(&self) -> Option<Millis> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// What is to be read.
    pub(crate) fn drain_wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }

    /// What is to be written.
    pub(crate) fn drain_writes(&mut self) -> Vec<HomeWrite> {
        std::mem::take(&mut self.writes)
    }

    /// Whose associations changed.
    pub(crate) fn drain_told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    /// A gateway cannot be asked: no task was made.
    pub(crate) fn not_asked(&mut self, now: Millis, registry: &Registry, id: &str, why: &str) {
        let why = format!("the gateway could not be asked: {why}");
        self.failed(
            now,
            registry,
            id,
            UnverifiableReason::GatewayUnreachable,
            &why,
        );
    }

    /// What `/metrics` tells.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let counts = self.counts();
        let number = |status| match status {
            AssociationStatus::Checking => counts.checking,
            AssociationStatus::Confirmed => counts.confirmed,
            AssociationStatus::Left => counts.left,
            AssociationStatus::Refuted => counts.refuted,
            AssociationStatus::Unverifiable => counts.unverifiable,
        };
        let mut all: Vec<_> = AssociationStatus::ALL
            .iter()
            .map(|status| {
                let help = "Devices that named a gateway, by what the cross-check found";
                Sample::gauge("associations", help, i64::from(number(*status)))
                    .labelled("status", status.as_str())
            })
            .collect();
        for (status, count) in AssociationStatus::ALL.iter().zip(self.counters.verdicts) {
            let help = "Changes of what the cross-check found";
            let sample = Sample::counter("association_verdicts", help, count);
            all.push(sample.labelled("status", status.as_str()));
        }
        let Counters {
            claims,
            readings,
            failures,
            refused,
            ..
        } = self.counters;
        all.extend([
            Sample::counter(
                "association_claims",
                "Changes of the gateways that devices name",
                claims,
            ),
            Sample::counter(
                "gateway_readings",
                "Readings of gateways' tables and devices' gateways asked for",
                readings,
            ),
            Sample::counter(
                "gateway_reading_failures",
                "Readings of gateways' tables that failed",
                failures,
            ),
            Sample::counter(
                "gateway_rows_refused",
                "Rows of gateways' tables not kept, because there are too many or they are too long",
                refused,
            ),
        ]);
        all
    }

    /// Something is known of a device that was not before, or it was heard.
    fn changed(&mut self, now: Millis, registry: &Registry, id: &str) {
        let Some(device) = registry.device(id) else {
            return;
        };
        let mut affected = BTreeSet::new();
        if self.associations.contains_key(id) {
            affected.insert(id.to_owned());
        }
        if let Some(table) = self.tables.get_mut(id)
            && let Some(problem) = &table.problem
            && problem.reason == UnverifiableReason::GatewayUnreachable
            && device.last_contact > problem.time
        {
            // It is back: who waits for it is looked at again.
            table.problem = None;
        }
        affected.extend(self.members_of(id).map(str::to_owned));
        if let Some(own) = judge::said(device) {
            affected.extend(named_by(&self.named, &name(&own)).map(str::to_owned));
        }
        for device in affected {
            self.evaluate(now, registry, &device);
        }
    }

    /// A device is forgotten, as a device and as a gateway.
    fn removed(&mut self, now: Millis, registry: &Registry, id: &str) {
        // The store removes what it has of it by itself.
        self.tables.remove(id);
        if let Some(record) = self.associations.remove(id) {
            self.leave(&record);
            if let Some(due) = record.due {
                self.timers.remove(&(due, Timer::Device(id.to_owned())));
            }
        }
        let members: Vec<String> = self.members_of(id).map(str::to_owned).collect();
        for device in members {
            self.evaluate(now, registry, &device);
        }
    }

    /// A device or gateway said what some of its parameters are.
    fn values(
        &mut self,
        now: Millis,
        registry: &Registry,
        id: &str,
        values: &[ParameterRecord],
        complete: &[String],
    ) {
        let mut claim: Option<GatewayClaim> = None;
        if complete.iter().any(|object| paths::covers_claim(object)) {
            claim = Some(GatewayClaim::default());
        }
        let mut count = None;
        let mut rows: BTreeMap<&str, LocalIdentity> = BTreeMap::new();
        for value in values {
            match paths::part(&value.path) {
                None => {}
                Some(paths::Part::Claim(element)) => {
                    let known = || self.associations.get(id)?.claim.clone();
                    let claim = claim.get_or_insert_with(|| known().unwrap_or_default());
                    let text = self.element(&value.value);
                    match element {
                        paths::Element::EndpointId => {
                            claim.endpoint_id = Some(text).filter(|id| !id.is_empty());
                        }
                        other => set(&mut claim.identity, other, text),
                    }
                }
                Some(paths::Part::Count) => count = value.value.trim().parse::<u32>().ok(),
                Some(paths::Part::Row(instance, element)) => {
                    if !rows.contains_key(instance) && rows.len() >= self.config.rows {
                        self.counters.refused += 1;
                        continue;
                    }
                    let text = self.element(&value.value);
                    let row = rows.entry(instance).or_default();
                    if let Some(element) = element {
                        set(row, element, text);
                    }
                }
            }
        }
        if let Some(claim) = claim {
            let nothing = claim == GatewayClaim::default();
            self.claim(now, registry, id, Some(claim).filter(|_| !nothing));
        }
        let covered = complete
            .iter()
            .filter_map(|object| paths::covers_table(object));
        let covered = covered.max();
        // Without a number of entries, an object around it shows that there is no table.
        let table = match covered {
            Some(true) => true,
            Some(false) => count.is_some(),
            None => count == Some(0),
        };
        if table {
            let rows = rows.into_iter();
            let rows = rows.map(|(instance, row)| (instance.to_owned(), row));
            self.table(now, registry, id, rows.collect(), count);
        } else if let Some(count) = count {
            let known = self.tables.get(id).and_then(|table| table.record.count);
            if known != Some(count) {
                self.entry(id).record.count = Some(count);
                self.want(now, registry, Reading::Table(id.to_owned()));
            }
        } else if covered == Some(false) && self.tables.remove(id).is_some() {
            self.writes.push(HomeWrite::RemoveTable(id.to_owned()));
            self.members_again(now, registry, id);
        }
    }

    /// A device told that something of this changed: it is read as a whole.
    fn notified(
        &mut self,
        now: Millis,
        registry: &Registry,
        id: &str,
        values: &[ParameterRecord],
        removed: &[String],
    ) {
        let paths = values.iter().map(|value| value.path.as_str());
        for path in paths.chain(removed.iter().map(String::as_str)) {
            match paths::part(path) {
                Some(paths::Part::Claim(_)) => {
                    self.want(now, registry, Reading::Claim(id.to_owned()));
                }
                Some(paths::Part::Count | paths::Part::Row(..)) => {
                    self.want(now, registry, Reading::Table(id.to_owned()));
                }
                None => {}
            }
        }
    }

    /// One of the server's own tasks changed.
    fn task(&mut self, now: Millis, registry: &Registry, task: &TaskRecord) {
        let Some(device) = registry.device(&task.device) else {
            return;
        };
        if task.operation != paths::read_table(device) {
            return;
        }
        use UnverifiableReason::{GatewayUnreachable, NoTable};
        let id = &task.device;
        match (task.state, &task.error) {
            (TaskState::Queued, _) => {
                if let Some(problem) = &task.last_problem {
                    let text =
                        format!("the gateway was not reached, and is tried again: {problem}");
                    self.failed(now, registry, id, GatewayUnreachable, &text);
                }
            }
            (TaskState::Done, _) => {
                let known = self.tables.get(id).and_then(|table| table.record.read);
                if known != Some(now) {
                    let text = format!("the gateway keeps no table of devices{}", refusal(task));
                    self.failed(now, registry, id, NoTable, &text);
                }
            }
            (TaskState::Failed, Some(error)) if error.code == TaskErrorCode::Device => {
                let text = format!("the gateway keeps no table of devices: {}", error.message);
                self.failed(now, registry, id, NoTable, &text);
            }
            (TaskState::Failed | TaskState::Expired | TaskState::Cancelled, error) => {
                let why = error.as_ref().map_or("it was cancelled", |e| &e.message);
                let text = format!("the gateway's table could not be read: {why}");
                self.failed(now, registry, id, GatewayUnreachable, &text);
            }
            (TaskState::Sent, _) => {}
        }
    }

    /// What a device says of its gateway now.
    fn claim(&mut self, now: Millis, registry: &Registry, id: &str, claim: Option<GatewayClaim>) {
        let known = self.associations.get(id).map(|record| &record.claim);
        match (known, &claim) {
            (None, None) => return,
            (Some(known), claim) if known == claim => {
                self.evaluate(now, registry, id);
                return;
            }
            _ => {}
        }
        self.counters.claims += 1;
        let mut record = self.take(id).unwrap_or_else(|| AssociationRecord {
            device: id.to_owned(),
            claim: None,
            claimed: now,
            status: AssociationStatus::Checking,
            since: now,
            reason: None,
            detail: String::new(),
            differences: Vec::new(),
            gateway: None,
            associated: None,
            history: Default::default(),
            due: None,
        });
        record.claim = claim;
        record.claimed = now;
        record.status = AssociationStatus::Checking;
        // It shows as changed, whatever it comes to.
        record.detail.clear();
        self.put(record);
        self.evaluate(now, registry, id);
    }

    /// A gateway's table was read.
    fn table(
        &mut self,
        now: Millis,
        registry: &Registry,
        id: &str,
        rows: BTreeMap<String, LocalIdentity>,
        count: Option<u32>,
    ) {
        let number = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let table = self.entry(id);
        table.problem = None;
        let before = std::mem::replace(&mut table.record.rows, rows);
        table.record.count = Some(count.unwrap_or(number));
        table.record.read = Some(now);
        let record = Box::new(table.record.clone());
        self.writes.push(HomeWrite::Table(record.clone()));
        self.members_again(now, registry, id);
        // Who is listed and has not said where it is may have learned it before it was subscribed to.
        for row in record.rows.values() {
            if before.values().any(|known| known == row) {
                continue;
            }
            let silent = registry
                .named(&row.oui, &row.serial_number)
                .filter(|device| {
                    let known = self.associations.get(&device.id);
                    known.is_none_or(|known| known.claim.is_none())
                });
            let silent: Vec<String> = silent.map(|device| device.id.clone()).collect();
            for device in silent {
                self.want(now, registry, Reading::Claim(device));
            }
        }
    }

    /// A gateway's table could not be read.
    fn failed(
        &mut self,
        now: Millis,
        registry: &Registry,
        id: &str,
        reason: UnverifiableReason,
        text: &str,
    ) {
        self.counters.failures += 1;
        let text = text.chars().take(LONGEST_PROBLEM).collect();
        self.entry(id).problem = Some(Problem {
            time: now,
            reason,
            text,
        });
        self.members_again(now, registry, id);
    }

    fn members_again(&mut self, now: Millis, registry: &Registry, gateway: &str) {
        let members: Vec<String> = self.members_of(gateway).map(str::to_owned).collect();
        for device in members {
            self.evaluate(now, registry, &device);
        }
    }

    /// Judges what a device says, and takes over what that comes to.
    fn evaluate(&mut self, now: Millis, registry: &Registry, id: &str) {
        let Some(mut record) = self.take(id) else {
            return;
        };
        let settle = self.config.settle;
        let of = |record: &AssociationRecord| {
            let gateways = (record.gateway.clone(), record.associated.clone());
            (record.status, record.reason, gateways)
        };
        let before = of(&record);
        let detail = record.detail.clone();
        // Who left and speaks again, without another word of its gateway, says anew what it said before.
        if record.status == AssociationStatus::Left
            && record.claim.is_some()
            && let Some(device) = registry.device(id)
            && let Some(gateway) = &record.gateway
            && let Some(read) = self.tables.get(gateway).and_then(|table| table.record.read)
            && device.last_contact > read.plus(settle).max(record.claimed)
        {
            record.claimed = device.last_contact;
            record.status = AssociationStatus::Checking;
        }
        let found = judge::judge(now, registry, &record, settle, |gateway| {
            self.tables.get(gateway)
        });
        if let Some(old) = &record.associated {
            let ended = match found.status {
                AssociationStatus::Confirmed | AssociationStatus::Left => true,
                AssociationStatus::Refuted => found.gateway.as_ref() == Some(old),
                _ => false,
            };
            // Another claim is not confirmed: what was before holds for as long as that gateway lists the device.
            if ended || self.is_gone(registry, old, id) {
                record.associated = None;
            }
        }
        if found.status == AssociationStatus::Confirmed {
            record.associated.clone_from(&found.gateway);
        }
        record.status = found.status;
        record.reason = found.reason;
        record.gateway = found.gateway;
        record.detail = found.detail;
        record.differences = found.differences;
        let changed = before != of(&record);
        if changed || detail.is_empty() {
            record.since = now;
            self.note(now, &mut record);
            self.told.push(id.to_owned());
        }
        if changed || detail != record.detail {
            self.writes
                .push(HomeWrite::Association(Box::new(record.clone())));
        }
        let gateway = record.gateway.clone();
        if let Some(due) = record.due.take() {
            self.timers.remove(&(due, Timer::Device(id.to_owned())));
        }
        if let Some(at) = found.read.filter(|at| *at > now) {
            record.due = Some(at);
            self.timers.insert((at, Timer::Device(id.to_owned())));
        }
        self.put(record);
        // A reading that is due: now, or because the time to settle is over.
        if let (Some(at), Some(gateway)) = (found.read, gateway)
            && at <= now
        {
            self.want(now, registry, Reading::Table(gateway));
        }
    }

    /// Whether a gateway is known not to list a device any more.
    fn is_gone(&self, registry: &Registry, gateway: &str, id: &str) -> bool {
        let own = registry.device(id).and_then(judge::said);
        let (Some(own), Some(_)) = (own, registry.device(gateway)) else {
            return true;
        };
        let table = self.tables.get(gateway);
        table.is_none_or(|table| !table.record.rows.values().any(|row| judge::same(row, &own)))
    }

    /// Remembers what an association came to.
    fn note(&mut self, now: Millis, record: &mut AssociationRecord) {
        let place = AssociationStatus::ALL
            .iter()
            .position(|status| *status == record.status);
        if let Some(count) = place.and_then(|place| self.counters.verdicts.get_mut(place)) {
            *count += 1;
        }
        if record.status == AssociationStatus::Checking {
            return;
        }
        let known = record.history.front();
        if known.is_some_and(|last| {
            (last.status, &last.claim, &last.gateway)
                == (record.status, &record.claim, &record.gateway)
                && last.detail == record.detail
        }) {
            return;
        }
        record.history.truncate(HISTORY - 1);
        record.history.push_front(HistoryRecord {
            time: now,
            status: record.status,
            claim: record.claim.clone(),
            gateway: record.gateway.clone(),
            detail: record.detail.clone(),
        });
    }

    /// Asks for a reading, unless that was done a moment ago: then it is done after the pause.
    fn want(&mut self, now: Millis, registry: &Registry, reading: Reading) {
        if let Some(again) = self.asked.get_mut(&reading) {
            *again = true;
            return;
        }
        let (id, operation) = match &reading {
            Reading::Claim(id) => (id, registry.device(id).map(|_| paths::read_claim())),
            Reading::Table(id) => (id, registry.device(id).map(paths::read_table)),
        };
        let Some(operation) = operation else { return };
        self.counters.readings += 1;
        self.wishes.push(Wish {
            device: id.clone(),
            operation,
        });
        let until = now.plus(self.config.pause);
        self.asked.insert(reading.clone(), false);
        self.timers.insert((until, Timer::Pause(reading)));
    }

    fn entry(&mut self, gateway: &str) -> &mut Table {
        self.tables
            .entry(gateway.to_owned())
            .or_insert_with(|| Table {
                record: TableRecord {
                    gateway: gateway.to_owned(),
                    rows: BTreeMap::new(),
                    count: None,
                    read: None,
                },
                problem: None,
            })
    }

    fn take(&mut self, id: &str) -> Option<AssociationRecord> {
        let record = self.associations.remove(id)?;
        self.leave(&record);
        Some(record)
    }

    fn put(&mut self, record: AssociationRecord) {
        self.enter(&record);
        self.associations.insert(record.device.clone(), record);
    }

    fn enter(&mut self, record: &AssociationRecord) {
        self.counted.add(record.status);
        for gateway in record.gateway.iter().chain(&record.associated) {
            self.members
                .insert((gateway.clone(), record.device.clone()));
        }
        if let Some(claim) = &record.claim {
            let name = name(&claim.identity);
            self.named.insert((name, record.device.clone()));
        }
    }

    fn leave(&mut self, record: &AssociationRecord) {
        self.counted.remove(record.status);
        for gateway in record.gateway.iter().chain(&record.associated) {
            self.members
                .remove(&(gateway.clone(), record.device.clone()));
        }
        if let Some(claim) = &record.claim {
            let name = name(&claim.identity);
            self.named.remove(&(name, record.device.clone()));
        }
    }

    /// Devices that mean this gateway, or were confirmed behind it.
    fn members_of<'h>(&'h self, gateway: &str) -> impl Iterator<Item = &'h str> {
        named_by(&self.members, gateway)
    }

    /// An element as it is kept.
    fn element(&mut self, text: &str) -> String {
        if text.len() > LONGEST {
            self.counters.refused += 1;
            return text.chars().take(LONGEST / 4).collect();
        }
        text.to_owned()
    }
}

/// The second parts of those pairs whose first part is this.
fn named_by<'s>(
    pairs: &'s BTreeSet<(String, String)>,
    first: &str,
) -> impl Iterator<Item = &'s str> {
    let wanted = first.to_owned();
    pairs
        .range((wanted.clone(), String::new())..)
        .take_while(move |(first, _)| *first == wanted)
        .map(|(_, second)| second.as_str())
}

fn name(identity: &LocalIdentity) -> String {
    let LocalIdentity {
        oui, serial_number, ..
    } = identity;
    format!("{}-{serial_number}", oui.to_ascii_uppercase())
}

fn set(identity: &mut LocalIdentity, element: paths::Element, text: String) {
    match element {
        paths::Element::Oui => identity.oui = text,
        paths::Element::SerialNumber => identity.serial_number = text,
        paths::Element::ProductClass => identity.product_class = text,
        paths::Element::EndpointId => {}
    }
}

/// What the device said why it has none.
fn refusal(task: &TaskRecord) -> String {
    let Some(TaskResult::Get { paths }) = &task.result else {
        return String::new();
    };
    let error = paths.iter().find_map(|path| path.error.as_ref());
    error.map_or_else(String::new, |error| {
        format!(": {} {}", error.code, error.message)
    })
}
