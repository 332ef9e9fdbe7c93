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
/// Held handshakes decided about at once, with the same pause: as many may wait, and evidence may come for one after the other.
const HELD_AT_ONCE: usize = 128;
/// The clock of dates may be set: whether a decision is out of date is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// A decision that is out of date as soon as it is made is not made again before.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Associations still to be judged anew.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Handshakes that are held.
    held: VecDeque<SessionId>,
    /// Open ones.
    left: VecDeque<SessionId>,
    due: Option<Instant>,
    /// The pause after the last step ends.
    rested: Option<Instant>,
    /// The held ones once more when they are through.
    held_again: bool,
    /// The open ones once more from the beginning when this round is over.
    again: bool,
}

impl Sweep {
    pub(super) fn begin(
        &mut self,
        now: Instant,
        held: impl Iterator<Item = SessionId>,
        all: impl Iterator<Item = SessionId>,
    ) {
        if self.held.is_empty() {
            self.held.extend(held);
        } else {
            self.held_again = true;
        }
        if self.left.is_empty() {
            self.left.extend(all);
        } else {
            self.again = true;
        }
        self.plan(now);
    }

    /// One more open association.
    fn add(&mut self, now: Instant, id: SessionId) {
        self.left.push_back(id);
        self.plan(now);
    }

    fn plan(&mut self, now: Instant) {
        let nothing = self.held.is_empty() && self.left.is_empty();
        self.due = (!nothing).then(|| self.rested.map_or(now, |rested| rested.max(now)));
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}

impl Sessions {
    /// Judges the next associations anew.
    pub(super) fn sweep_on(&mut self, now: Instant) {
        let mut judged = 0;
        while judged < HELD_AT_ONCE
            && let Some(id) = self.sweep.held.pop_front()
        {
            if self
                .sessions
                .get(&id)
                .is_some_and(|session| session.held_since.is_some())
            {
                judged += 1;
                self.release(now, id);
            }
        }
        let mut judged = 0;
        while judged < AT_ONCE
            && let Some(id) = self.sweep.left.pop_front()
        {
            if self
                .sessions
                .get(&id)
                .is_some_and(|session| session.established)
            {
                judged += 1;
                self.judge_now(now, id);
            }
        }
        if self.sweep.held.is_empty() && std::mem::take(&mut self.sweep.held_again) {
            self.sweep.held.extend(self.held.iter().map(|(_, id)| *id));
        }
        if self.sweep.left.is_empty() && std::mem::take(&mut self.sweep.again) {
            let open = self
                .sessions
                .iter()
                .filter(|(_, session)| session.established);
            self.sweep.left.extend(open.map(|(id, _)| *id));
        }
        self.sweep.rested = Some(now + PAUSE);
        self.sweep.plan(now);
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
        self.plan_all(now);
        if self.sweep.due().is_some_and(|due| due <= now) {
            self.sweep_on(now);
        }
    }

    /// Has every association judged anew, a few at a time.
    pub(super) fn plan_all(&mut self, now: Instant) {
        let open = self
            .sessions
            .iter()
            .filter(|(_, session)| session.established);
        self.sweep.begin(
            now,
            self.held.iter().map(|(_, id)| *id),
            open.map(|(id, _)| *id),
        );
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
                if session.established {
                    // It has its place already, and evidence that is late for one may be late for all of them.
                    self.in_doubt.insert((now, id));
                    session.judge_at = Some(now + self.config.handshake_timeout);
                    return;
                }
                self.held.insert((now, id));
                self.uncrowd_held(id);
                while self.held.len() > self.config.max_held.max(1)
                    && let Some(&(_, oldest)) = self.held.first()
                {
                    self.undecided(oldest, Failure::Evicted);
                }
            }
            (Some(since), false) => {
                session.held_since = None;
                self.held.remove(&(since, id));
                self.in_doubt.remove(&(since, id));
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
                    now + left.clamp(LOOK_AGAIN, LOOK_EVERY)
                }),
            (false, _) => None,
        };
    }

    /// Of too many held handshakes with one certificate the oldest is ended: in DTLS 1.2 the peer shows its certificate before it
    /// proves that it has the key, and whoever has seen somebody's certificate on the wire could fill all places with it.
    fn uncrowd_held(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let shown = session.association.peer_fingerprint();
        session.held_certificate = shown;
        let with_it = |id: &SessionId| {
            let session = self.sessions.get(id);
            session.is_some_and(|session| session.held_certificate == shown)
        };
        let same = self.held.iter().map(|(_, id)| *id).filter(with_it);
        let same: Vec<SessionId> = same.collect();
        if same.len() > (self.config.max_held / 4).max(1)
            && let Some(oldest) = same.first()
        {
            self.stats.certificate_evicted += 1;
            self.undecided(*oldest, Failure::Evicted);
        }
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
            // Its turn may not have come since there was something new.
            self.judge_now(now, id);
            if self
                .sessions
                .get(&id)
                .is_some_and(|session| session.held_since.is_some())
            {
                self.undecided(id, Failure::Undecided);
            }
            return !self.sessions.contains_key(&id);
        }
        let out_of_date = session
            .association
            .valid_until()
            .zip(self.verifier.time())
            .is_some_and(|(until, time)| until <= time);
        if out_of_date {
            // What one list says of all of them is out of date for all at the same moment.
            session.out_of_date = true;
            session.judge_at = None;
            self.sweep.add(now, id);
        } else {
            session.decision_noted = false;
            self.note_decision(now, id);
        }
        false
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
