//! A change that cuts the way over which it was asked for is on trial: unless the Controller is heard by another way in time, it is
//! undone.
//!
//! ```text
//! Set, Add, Delete ── its way ends, no other is up ──▶ on trial ── heard, or a channel to it is up ──▶ stays
//!                                                        │ kept in the store, with what was before
//!                                                        └── time is over ──▶ undone
//! ```

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use homefleet_model::tree::Row;
use homefleet_net::mtp::{Channel, ChannelId, Route};
use homefleet_usp::EndpointId;

use super::{Engine, EngineError, Source, boot::fact};
use crate::{
    controllers, notify,
    provider::Now,
    transport::{self, MTPS, Plan, leads_over},
};

/// What is undone: how the agent and its Controllers are reached, and what goes with a Controller.
const PREFIXES: &[&str] = &[
    MTPS,
    controllers::TABLE,
    notify::TABLE,
    "Device.STOMP.",
    "Device.MQTT.",
];

/// A change on trial.
#[derive(Debug)]
pub(super) struct Trial {
    /// Who has to be heard; absent: any Controller.
    waits_for: Option<String>,
    until: Instant,
    /// The state before the change, as far as it is undone.
    before: Vec<Row>,
    /// Channels that end with the change: what comes over them proves nothing.
    doomed: Vec<ChannelId>,
    /// The MTPs have followed the change.
    applied: bool,
}

/// Who asked for a change, and by which way.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) endpoint_id: EndpointId,
    pub(super) source: Source,
}

impl Engine {
    /// A request has changed how the agent or its Controllers are reached: if that cuts whoever asked, it is on trial.
    pub(super) fn consider_trial(&mut self, now: Now, asked: &Asked) {
        let timeout = self.settings.rollback_after;
        if self.trial.is_some() || timeout.is_zero() {
            return;
        }
        let new = transport::plan(&self.device.tree, self.settings.allow_insecure);
        let controllers = controllers::read(&self.device.tree);
        let stays = controllers
            .values()
            .any(|known| known.enabled && known.endpoint_id == asked.endpoint_id.as_str());
        if stays && new == self.plan || !self.cuts(asked, stays, &controllers, &new) {
            return;
        }
        let before = self.store.tree();
        let inside = |row: &Row| PREFIXES.iter().any(|prefix| row.path.starts_with(prefix));
        let trial = Trial {
            waits_for: stays.then(|| asked.endpoint_id.to_string()),
            until: now.instant + timeout,
            before: before.into_iter().filter(inside).collect(),
            doomed: self.doomed(&self.plan, &new),
            applied: false,
        };
        let until = crate::time::seconds(now.wall + timeout);
        tracing::warn!(
            controller = %asked.endpoint_id,
            seconds = timeout.as_secs(),
            "a change cuts the way it came by: it is undone unless the controller is heard in time"
        );
        self.batch
            .facts
            .push((fact::TRIAL.into(), trial.encode(until)));
        self.stats.trials += 1;
        self.trial = Some(trial);
    }

    /// Whether nobody could undo the change any more.
    fn cuts(
        &self,
        asked: &Asked,
        stays: bool,
        controllers: &controllers::Controllers,
        new: &Plan,
    ) -> bool {
        let connection = |id: ChannelId| {
            let channel = self.channels.of(id)?;
            channel.connection.as_deref()
        };
        let kept = |route: &Route, channel: Option<ChannelId>| {
            let name = channel.and_then(connection);
            self.plan.lifeline(route, name) == new.lifeline(route, name)
        };
        let doomed = self.doomed(&self.plan, new);
        let reached = |endpoint_id: &EndpointId| {
            let known = controllers
                .values()
                .find(|known| known.endpoint_id == endpoint_id.as_str());
            let up = |channel: &&Channel| !doomed.contains(&channel.id);
            self.channels.iter().filter(up).any(|channel| {
                channel.endpoint_id.as_ref() == Some(endpoint_id)
                    || known.is_some_and(|known| {
                        let mut ways = known.ways.iter();
                        ways.any(|way| leads_over(&way.route, endpoint_id, channel))
                    })
            })
        };
        if stays {
            let Some(route) = &asked.source.reply_to else {
                return false;
            };
            return !kept(route, asked.source.channel) && !reached(&asked.endpoint_id);
        }
        // It has taken itself out, which it may while somebody else is left.
        !controllers.values().any(|known| {
            let id: Result<EndpointId, _> = known.endpoint_id.parse();
            let coap = known
                .ways
                .iter()
                .any(|way| matches!(way.route, Route::Coap(_)) && kept(&way.route, None));
            known.enabled && id.is_ok_and(|id| coap || reached(&id))
        })
    }

    /// A Record of a Controller came in.
    pub(super) fn confirm_by_record(&mut self, from: &EndpointId, source: &Source) {
        let Some(trial) = &self.trial else { return };
        let new = match source.channel {
            Some(id) => !trial.doomed.contains(&id),
            None => trial.applied,
        };
        if new && trial.waits_for(from) {
            self.confirm();
        }
    }

    /// A channel has come up.
    pub(super) fn confirm_by_channel(&mut self, channel: &Channel) {
        let Some(trial) = &self.trial else { return };
        let leads = self.controllers.values().any(|known| {
            let to: Result<EndpointId, _> = known.endpoint_id.parse();
            known.enabled
                && to.is_ok_and(|to| {
                    let mut ways = known.ways.iter();
                    trial.waits_for(&to)
                        && (channel.endpoint_id.as_ref() == Some(&to)
                            || ways.any(|way| leads_over(&way.route, &to, channel)))
                })
        });
        if leads {
            self.confirm();
        }
    }

    /// A notification was delivered.
    pub(super) fn confirm_by_delivery(&mut self, to: &EndpointId) {
        if self
            .trial
            .as_ref()
            .is_some_and(|trial| trial.applied && trial.waits_for(to))
        {
            self.confirm();
        }
    }

    /// The MTPs have followed the latest [`Action::Plan`](super::Action::Plan): what was to end has ended.
    pub fn handle_applied(&mut self, now: Now) {
        let Some(trial) = &mut self.trial else { return };
        trial.applied = true;
        // CoAP has no connection that would show that the Controller is there, nor would it know the agent's new address: so it is
        // told something, and who is told can answer.
        let waited = trial.waits_for.clone();
        let row = self.controllers.iter().find(|(_, known)| {
            known.enabled
                && waited.as_ref() == Some(&known.endpoint_id)
                && known
                    .ways
                    .iter()
                    .any(|way| matches!(way.route, Route::Coap(_)))
        });
        if let Some((row, _)) = row {
            let row = row.clone();
            self.request_onboarding(&row);
            self.settle(now, None);
        }
    }

    fn confirm(&mut self) {
        tracing::info!("the change that was on trial stays: the controller is there");
        self.trial = None;
        self.batch.facts.push((fact::TRIAL.into(), String::new()));
    }

    /// Undoes the change when its time is over.
    pub(super) fn end_trial(&mut self, now: Now) {
        let Some(trial) = self.trial.take_if(|trial| trial.until <= now.instant) else {
            return;
        };
        tracing::warn!("nobody was heard: the change that was on trial is undone");
        self.stats.rollbacks += 1;
        self.device.tree.restore(PREFIXES, &trial.before);
        self.batch.facts.push((fact::TRIAL.into(), String::new()));
        self.plan_changed = true;
    }

    /// When [`end_trial`](Self::end_trial) has something to do.
    pub(super) fn trial_until(&self) -> Option<Instant> {
        self.trial.as_ref().map(|trial| trial.until)
    }

    /// A change was on trial when the agent stopped: it goes on, or is undone at once.
    pub(super) fn resume_trial(&mut self, now: Now) -> Result<(), EngineError> {
        let stored = self.store.fact(fact::TRIAL)?.unwrap_or_default();
        if stored.is_empty() {
            return Ok(());
        }
        let Some((until, waits_for, before)) = decode(&stored) else {
            tracing::error!("the change that was on trial cannot be read: it stays");
            return Ok(());
        };
        let left = u64::try_from(until - crate::time::seconds(now.wall)).unwrap_or(0);
        // A clock that was set back does not make it longer.
        let left = Duration::from_secs(left).min(self.settings.rollback_after);
        self.trial = Some(Trial {
            waits_for,
            until: now.instant + left,
            before,
            doomed: Vec::new(),
            applied: true,
        });
        self.end_trial(now);
        Ok(())
    }
}

impl Trial {
    fn waits_for(&self, endpoint_id: &EndpointId) -> bool {
        let waited = self.waits_for.as_deref();
        waited.is_none_or(|waited| waited == endpoint_id.as_str())
    }

    /// `until`, who is waited for, and each row with the length of its value in bytes.
    fn encode(&self, until: i64) -> String {
        let mut out = format!(
            "{until}\n{}\n",
            self.waits_for.as_deref().unwrap_or_default()
        );
        for row in &self.before {
            let length = row.value.len();
            // Writing to a string does not fail.
            writeln!(out, "{} {} {length}", row.kind.as_str(), row.path).ok();
            out.push_str(&row.value);
        }
        out
    }
}

fn decode(text: &str) -> Option<(i64, Option<String>, Vec<Row>)> {
    let (until, rest) = text.split_once('\n')?;
    let (waits_for, mut rest) = rest.split_once('\n')?;
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let (head, values) = rest.split_once('\n')?;
        let (kind, head) = head.split_once(' ')?;
        let (path, length) = head.rsplit_once(' ')?;
        let (value, after) = values.split_at_checked(length.parse().ok()?)?;
        rows.push(Row {
            kind: kind.parse().ok()?,
            path: path.to_owned(),
            value: value.to_owned(),
        });
        rest = after;
    }
    let waits_for = Some(waits_for.to_owned()).filter(|text| !text.is_empty());
    Some((until.parse().ok()?, waits_for, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_is_read_back_as_it_was_written() {
        let row = |path: &str, value: &str| Row {
            kind: homefleet_model::tree::RowKind::Value,
            path: path.to_owned(),
            value: value.to_owned(),
        };
        let trial = Trial {
            waits_for: Some("proto::a".to_owned()),
            until: Instant::now(),
            before: vec![
                row("Device.A", "x\ny z"),
                row("Device.B", ""),
                row("Device.C", "ü"),
            ],
            doomed: Vec::new(),
            applied: false,
        };
        let (until, waits_for, rows) = decode(&trial.encode(-5)).expect("a trial");
        assert_eq!((until, waits_for), (-5, trial.waits_for));
        assert_eq!(rows, trial.before);
        for broken in [
            "",
            "x",
            "1\n",
            "1\n\nvalue Device.A 9\nx",
            "1\n\nvalue Device.A",
        ] {
            assert!(broken == "1\n\n" || decode(broken).is_none(), "{broken:?}");
        }
    }
}
