//! Peers that are judged later than when they showed their certificate, or again.
//!
//! A decision that waits for evidence holds its association: the engine stops at the certificate, what the peer sends meanwhile is kept,
//! and nothing is delivered or sent. An open association whose decision is made anew and has to wait is held too: its messages
//! are dropped, and CoAP repeats them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use homefleet_coap::SessionId;

use super::Sessions;
use crate::dtls::engine::{EngineFailure, Verdict};
use crate::dtls::event::{Event, Failure};

/// Open associations judged anew at once, and the pause after them: a decision verifies signatures, and others want to be served.
const AT_ONCE: usize = 32;
const PAUSE: Duration = Duration::from_millis(50);
/// The clock of dates may be set: whether a decision is out of date is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// Open associations still to be judged anew.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    left: VecDeque<SessionId>,
    due: Option<Instant>,
    /// Once more from the beginning when this round is over.
    again: bool,
}

impl Sweep {
    pub(super) fn begin(&mut self, now: Instant, all: impl Iterator<Item = SessionId>) {
        if self.left.is_empty() {
            self.left.extend(all);
            self.due = (!self.left.is_empty()).then_some(now);
        } else {
            self.again = true;
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}

impl Sessions {
    /// Judges the next open associations anew.
    pub(super) fn sweep_on(&mut self, now: Instant) {
        let mut judged = 0;
        while judged < AT_ONCE
            && let Some(id) = self.sweep.left.pop_front()
        {
            let Some(session) = self.sessions.get_mut(&id) else {
                continue;
            };
            if session.held_since.is_some() {
                judged += 1;
                self.release(now, id);
            } else if session.established {
                judged += 1;
                self.judge_now(now, id);
            }
        }
        self.sweep.due = (!self.sweep.left.is_empty()).then_some(now + PAUSE);
        if self.sweep.left.is_empty() && std::mem::take(&mut self.sweep.again) {
            self.sweep.begin(now + PAUSE, self.sessions.keys().copied());
        }
    }

    fn judge_now(&mut self, now: Instant, id: SessionId) {
        let generation = self.generation;
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        self.stats.judged_again += 1;
        let verdict = session.judge(generation);
        self.apply(now, id, verdict);
    }

    /// Carries out what the verifier said about an established association.
    pub(super) fn apply(&mut self, now: Instant, id: SessionId, verdict: Verdict) {
        match verdict {
            Verdict::Trusted | Verdict::Held => {
                self.note_decision(now, id);
                self.arm(now, id);
            }
            Verdict::Refused => {
                self.flush(id);
                self.over(id, EngineFailure::Refused);
            }
        }
    }

    /// Has the decisions made that are waited for, and begins with those about open associations.
    pub(super) fn judge_all(&mut self, now: Instant) {
        let held: Vec<SessionId> = self.held.iter().map(|(_, id)| *id).collect();
        let open = self.sessions.iter();
        let open = open.filter(|(_, session)| session.established && session.held_since.is_none());
        self.sweep.begin(now, open.map(|(id, _)| *id));
        for id in held {
            self.release(now, id);
        }
        self.sweep_on(now);
    }

    fn release(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.established {
            self.judge_now(now, id);
            return;
        }
        let generation = self.generation;
        session.generation = generation;
        let mut messages = Vec::new();
        let progress = session.association.resume(&mut messages);
        self.settle(now, id, progress, messages);
        // What came meanwhile, as long as it goes on.
        while let Some(session) = self.sessions.get_mut(&id)
            && session.held_since.is_none()
            && let Some(datagram) = session.kept.pop_front()
        {
            session.received = session.received.saturating_sub(datagram.len() as u64);
            self.feed(now, id, &datagram);
        }
    }

    /// Notes whether the decision about a peer waits, and until when it is good.
    pub(super) fn note_decision(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut session.decision_noted, session.established) {
            return;
        }
        let waits = session.association.is_held();
        match (session.held_since, waits) {
            (None, true) => {
                session.held_since = Some(now);
                let event = Event::Held {
                    session: id,
                    addr: session.addr,
                    wanted: session.association.wanted().unwrap_or_default(),
                };
                self.events.push_back(event);
                self.stats.held += 1;
                self.held.insert((now, id));
                while self.held.len() > self.config.max_held.max(1)
                    && let Some(&(_, oldest)) = self.held.first()
                {
                    self.undecided(oldest, Failure::Evicted);
                }
            }
            (Some(since), false) => {
                session.held_since = None;
                self.held.remove(&(since, id));
            }
            _ => {}
        }
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.judge_at = match (session.established, session.held_since) {
            // Of an open association, the wait is as long as a handshake may take.
            (true, Some(since)) => Some(since + self.config.handshake_timeout),
            (true, None) => session
                .association
                .valid_until()
                .zip(self.verifier.time())
                .map(|(until, time)| {
                    let left = until.duration_since(time).unwrap_or_default();
                    now + left.min(LOOK_EVERY)
                }),
            (false, _) => None,
        };
    }

    /// An established association whose decision was waited for in vain, or is out of date. `true`: it is over.
    pub(super) fn look_at_decision(&mut self, now: Instant, id: SessionId) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else {
            return true;
        };
        if session.judge_at.is_none_or(|due| due > now) {
            return false;
        }
        if session.held_since.is_some() {
            self.undecided(id, Failure::Undecided);
            return true;
        }
        let out_of_date = session
            .association
            .valid_until()
            .zip(self.verifier.time())
            .is_some_and(|(until, time)| until <= time);
        session.decision_noted = false;
        if out_of_date {
            self.judge_now(now, id);
        } else {
            self.note_decision(now, id);
        }
        !self.sessions.contains_key(&id)
    }

    /// Ends an association whose decision was waited for in vain.
    pub(super) fn undecided(&mut self, id: SessionId, failure: Failure) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        self.stats.undecided += 1;
        session.association.give_up();
        let established = session.established;
        self.flush(id);
        if established {
            self.over(id, EngineFailure::Refused);
        } else {
            self.fail(id, failure);
        }
    }
}
