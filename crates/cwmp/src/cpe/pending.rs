//! Events and requests that are not delivered yet (TR-069 §3.7.1.5).
//!
//! | event | in one Inform | kept when a session fails | confirmed by |
//! |---|---|---|---|
//! | 0 BOOTSTRAP | once | always; all others but 1 BOOT are discarded for it | InformResponse |
//! | 1 BOOT, 4 VALUE CHANGE, 8 DIAGNOSTICS COMPLETE, 13 WAKEUP | once | until a restart | InformResponse |
//! | 2 PERIODIC, 3 SCHEDULED | once | always | InformResponse |
//! | 6 CONNECTION REQUEST | once | not | InformResponse |
//! | 5 KICKED | once | always | KickedResponse |
//! | 7 TRANSFER COMPLETE, M Download, M ScheduleDownload, M Upload | 7 once, M each | always | TransferCompleteResponse |
//! | 9 REQUEST DOWNLOAD | once | always | RequestDownloadResponse |
//! | 10 AUTONOMOUS TRANSFER COMPLETE | once | always | AutonomousTransferCompleteResponse |
//! | 11 DU STATE CHANGE COMPLETE, M ChangeDUState | 11 once, M each | always | DUStateChangeCompleteResponse |
//! | 12 AUTONOMOUS DU STATE CHANGE COMPLETE | once | always | AutonomousDUStateChangeCompleteResponse |
//! | M Reboot, M ScheduleInform, vendors' | each | always | InformResponse |
//!
//! What a response other than that to Inform confirms is not kept as an event, but as the request that waits for it.

use crate::{Event, EventCode, Message, Method};

/// How long an event that was not delivered stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Until it is delivered, whatever happens.
    Always,
    /// For one session: it is not delivered again.
    Once,
    /// Until the device restarts.
    UntilRestart,
}

impl EventCode {
    /// How long the event stays when it is not delivered.
    pub const fn keep(&self) -> Keep {
        match self {
            Self::ConnectionRequest => Keep::Once,
            Self::Boot | Self::ValueChange | Self::DiagnosticsComplete | Self::Wakeup => {
                Keep::UntilRestart
            }
            _ => Keep::Always,
        }
    }

    /// Whether several of it stand in one Inform, each with its CommandKey.
    pub const fn is_cumulative(&self) -> bool {
        matches!(self, Self::Method(_) | Self::Other(_))
    }
}

/// A request of ours that waits for its response, in this session or a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// TransferComplete and its like, RequestDownload, Kicked, or GetRPCMethods.
    pub message: Message,
    /// The method of the ACS that led to it: of TransferComplete Download, ScheduleDownload or Upload.
    pub cause: Option<Method>,
}

impl Waiting {
    /// The events that go with it, in every Inform until it is answered.
    pub fn events(&self) -> Vec<Event> {
        let (code, key) = match &self.message {
            Message::TransferComplete(message) => {
                (EventCode::TransferComplete, Some(&message.command_key))
            }
            Message::AutonomousTransferComplete(_) => (EventCode::AutonomousTransferComplete, None),
            Message::DUStateChangeComplete(message) => {
                (EventCode::DuStateChangeComplete, Some(&message.command_key))
            }
            Message::AutonomousDUStateChangeComplete(_) => {
                (EventCode::AutonomousDuStateChangeComplete, None)
            }
            Message::RequestDownload(_) => (EventCode::RequestDownload, None),
            Message::Kicked(_) => (EventCode::Kicked, None),
            _ => return Vec::new(),
        };
        let mut events = vec![Event::new(code)];
        if let (Some(method), Some(key)) = (self.cause, key) {
            events.push(Event::of(method, key.clone()));
        }
        events
    }
}

/// What waits to be delivered, in the order in which it happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    events: Vec<Held>,
    requests: Vec<(RequestId, Waiting)>,
    next: u64,
    /// Counts every change of what survives.
    pub(super) changes: u64,
}

/// Names a request of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

#[derive(Clone, Debug)]
struct Held {
    event: Event,
    /// In the Inform of the session that goes on.
    in_session: bool,
}

impl Pending {
    /// Adds an event; false when it was there already or a cumulative one had to go for it.
    pub(super) fn raise(&mut self, event: Event, most: usize) -> bool {
        if event.code == EventCode::Bootstrap {
            self.events
                .retain(|held| held.event.code == EventCode::Boot);
            self.requests.clear();
        }
        let cumulative = event.code.is_cumulative();
        let same = |held: &Held| match cumulative {
            true => held.event == event,
            false => held.event.code == event.code,
        };
        // One that is being delivered does not count: what happens now may not be in what was sent.
        if self
            .events
            .iter()
            .any(|held| !held.in_session && same(held))
        {
            return false;
        }
        self.changes += 1;
        let of_kind = |held: &Held| held.event.code.is_cumulative();
        let full = cumulative && self.events.iter().filter(|held| of_kind(held)).count() >= most;
        if full && let Some(oldest) = self.events.iter().position(of_kind) {
            self.events.remove(oldest);
        }
        self.events.push(Held {
            event,
            in_session: false,
        });
        !full
    }

    pub(super) fn queue(&mut self, waiting: Waiting) -> RequestId {
        self.changes += 1;
        self.next += 1;
        let id = RequestId(self.next);
        self.requests.push((id, waiting));
        id
    }

    pub(super) fn queued(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.requests.is_empty()
    }

    /// What an Inform says: each event of one kind once, numbers first.
    pub(super) fn include(&mut self) -> Vec<Event> {
        let mut all: Vec<Event> = Vec::new();
        let mut add = |event: &Event| {
            if !all.contains(event) {
                all.push(event.clone());
            }
        };
        for held in &mut self.events {
            held.in_session = true;
            add(&held.event);
        }
        for (_, waiting) in &self.requests {
            waiting.events().iter().for_each(&mut add);
        }
        let place = |event: &Event| {
            let mut numbered = EventCode::NUMBERED.iter();
            numbered
                .position(|code| *code == event.code)
                .unwrap_or(usize::MAX)
        };
        all.sort_by_key(place);
        all
    }

    /// The Inform was answered: what it said is delivered, and told.
    pub(super) fn delivered(&mut self) -> Vec<Event> {
        self.changes += 1;
        let mut all = Vec::new();
        self.events.retain(|held| {
            if held.in_session {
                all.push(held.event.clone());
            }
            !held.in_session
        });
        all
    }

    /// The session failed before that.
    pub(super) fn failed(&mut self) {
        self.changes += 1;
        self.events.retain_mut(|held| {
            let stays = !held.in_session || held.event.code.keep() != Keep::Once;
            held.in_session = false;
            stays
        });
        // What happened again while it was being sent is one with it now.
        let mut seen: Vec<Event> = Vec::new();
        self.events.retain(|held| {
            let known = match held.event.code.is_cumulative() {
                true => seen.contains(&held.event),
                false => seen.iter().any(|event| event.code == held.event.code),
            };
            if !known {
                seen.push(held.event.clone());
            }
            !known
        });
    }

    /// The oldest request that `may` be sent.
    pub(super) fn first(&self, may: impl Fn(&Message) -> bool) -> Option<(RequestId, Message)> {
        let mut all = self.requests.iter();
        let (id, waiting) = all.find(|(_, waiting)| may(&waiting.message))?;
        Some((*id, waiting.message.clone()))
    }

    pub(super) fn message(&self, id: RequestId) -> Option<Message> {
        let mut all = self.requests.iter();
        let (_, waiting) = all.find(|(own, _)| *own == id)?;
        Some(waiting.message.clone())
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, id: RequestId) {
        self.changes += 1;
        self.requests.retain(|(own, _)| *own != id);
    }

    /// What survives a restart.
    pub(super) fn kept(&self) -> (Vec<Event>, Vec<Waiting>) {
        let mut events = Vec::new();
        for held in &self.events {
            if held.event.code.keep() == Keep::Always && !events.contains(&held.event) {
                events.push(held.event.clone());
            }
        }
        let requests = self.requests.iter().map(|(_, waiting)| waiting.clone());
        (events, requests.collect())
    }
}
