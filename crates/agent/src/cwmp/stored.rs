//! What of the sessions with the ACS survives a restart, as one fact of the store.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use homefleet_cwmp::{
    Envelope, Event, EventCode, Header, Limits, Method, Namespace,
    cpe::{Saved, Waiting},
};
use serde::{Deserialize, Serialize};

use super::transfer::Transfer;

/// What survives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Stored {
    /// The ACS that has confirmed a `0 BOOTSTRAP`.
    pub(crate) bootstrapped: String,
    /// Who set the ACS's URL.
    pub(crate) source: UrlSource,
    /// The path of `ConnectionRequestURL`.
    pub(crate) call_path: String,
    /// Code and CommandKey.
    events: Vec<(String, String)>,
    /// Requests as envelopes, each with the method that led to it.
    requests: Vec<(String, Option<String>)>,
    /// When, in seconds since 1970, and the CommandKey.
    scheduled: Vec<(u64, String)>,
    retry_count: u32,
    /// Files that wait, or are on their way.
    pub(crate) transfers: Vec<Transfer>,
    /// The number of the last one.
    pub(crate) transfer_ids: u64,
    /// Requests that go into the next session, as envelopes with the method that led to each.
    pub(crate) late: Vec<(String, Option<String>)>,
    /// A factory reset was promised.
    pub(crate) reset: bool,
    /// What the ACS set, by paths of the tree: the number of a notification.
    pub(crate) attributes: BTreeMap<String, u8>,
    /// The values that the ACS knows, of what is watched.
    pub(crate) known: BTreeMap<String, String>,
}

/// Who set the ACS's URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum UrlSource {
    /// Nobody has.
    #[default]
    Nobody,
    /// The configuration file.
    File,
    /// DHCP, which may change it.
    Dhcp,
    /// An ACS or a Controller.
    Remote,
}

impl Stored {
    /// Reads what [`Stored::to_text`] wrote; what cannot be read is as if it was not there.
    pub(crate) fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|error| {
            tracing::error!(%error, "what was stored about the ACS cannot be read");
            Self::default()
        })
    }

    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What the machine goes on with.
    pub(crate) fn saved(&self, wall: SystemTime) -> Saved {
        let now = seconds(wall);
        let request = |(xml, cause): &(String, Option<String>)| {
            let envelope = Envelope::decode(xml.as_bytes(), &Limits::default()).ok()?;
            let cause = cause.as_ref().and_then(|name| name.parse::<Method>().ok());
            Some(Waiting {
                message: envelope.message,
                cause,
            })
        };
        let event = |(code, key): &(String, String)| Event {
            code: EventCode::parse(code),
            command_key: key.clone(),
        };
        let left =
            |(at, key): &(u64, String)| (Duration::from_secs(at.saturating_sub(now)), key.clone());
        Saved {
            events: self.events.iter().map(event).collect(),
            requests: self.requests.iter().filter_map(request).collect(),
            scheduled: self.scheduled.iter().map(left).collect(),
            retry_count: self.retry_count,
        }
    }

    pub(crate) fn keep(&mut self, saved: &Saved, wall: SystemTime) {
        let now = seconds(wall);
        let event = |event: &Event| (event.code.to_string(), event.command_key.clone());
        self.events = saved.events.iter().map(event).collect();
        let request = |waiting: &Waiting| {
            let message = waiting.message.clone();
            let xml = Envelope::new(Namespace::V1_2, Header::default(), message).encode();
            let cause = waiting.cause.map(|method| method.name().to_owned());
            (String::from_utf8_lossy(&xml).into_owned(), cause)
        };
        self.requests = saved.requests.iter().map(request).collect();
        let due = |(left, key): &(Duration, String)| {
            // Rounded up, so that what is late by less than a second is not early after a restart.
            let left = left.as_secs() + u64::from(left.subsec_nanos() > 0);
            (now.saturating_add(left), key.clone())
        };
        self.scheduled = saved.scheduled.iter().map(due).collect();
        self.retry_count = saved.retry_count;
    }
}

/// Seconds since 1970.
pub(crate) fn seconds(wall: SystemTime) -> u64 {
    wall.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
