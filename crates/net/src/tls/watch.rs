//! Whether the peer of a connection is still trusted.
//!
//! ```text
//!   handshake ──▶ held ──evidence──▶ trusted ──judged again──▶ distrusted: for good
//!                  │  ◀──waits again──  │  ▲                      ▲
//!                  └────── in vain ─────┼──┼──────────────────────┘
//! ```
//!
//! A decision is made anew when it is asked for ([`Tls::judge_again`](super::Tls::judge_again)), when it is out of date, and
//! before anything more passes after the verifier's grounds changed.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use homefleet_trust::{Basis, Decision, Outcome, PeerIdentity};
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Shared;
use super::error::Distrust;
use super::link::{Chain, Link, Verdict};
use super::stats::count;

/// The clock of dates may be set: whether a decision is out of date is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// A decision that is out of date as soon as it is made is not made again before.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How a peer stands.
#[derive(Debug, Clone)]
pub(super) enum Standing {
    /// The decision waits for evidence. Nothing passes.
    Held,
    /// Accepted.
    Trusted,
    /// Not any more, and never again on this connection.
    Distrusted(Distrust),
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

struct State {
    identity: Option<Arc<PeerIdentity>>,
    generation: u64,
    valid_until: Option<SystemTime>,
    /// When to look whether the decision is still good, or, held, when the wait is over.
    look_at: Option<Instant>,
    heard: Instant,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The decision about the peer of one connection, and what it is made anew from.
pub(super) struct Watch {
    pub(super) id: u64,
    shared: Arc<Shared>,
    link: Arc<Link>,
    chain: Chain,
    /// One decision at a time, so that an older one never replaces a newer.
    judging: Mutex<()>,
    state: Mutex<State>,
    standing: watch::Sender<Standing>,
    /// The connection was handed out.
    established: AtomicBool,
    /// There is another time to wait for.
    armed: Notify,
}

impl Watch {
    pub(super) fn new(id: u64, shared: Arc<Shared>, link: Arc<Link>, verdict: Verdict) -> Self {
        let now = Instant::now();
        let held = matches!(verdict.decision.outcome, Outcome::Hold(_));
        let watch = Self {
            id,
            shared,
            link,
            chain: verdict.chain,
            judging: Mutex::new(()),
            state: Mutex::new(State {
                identity: None,
                generation: verdict.generation,
                valid_until: None,
                look_at: None,
                heard: now,
                reader: None,
                writer: None,
            }),
            standing: watch::channel(Standing::Held).0,
            established: AtomicBool::new(false),
            armed: Notify::new(),
        };
        if held {
            count(&watch.shared.counters.held);
            watch.lock().look_at = Some(now + watch.shared.config.decision_timeout);
        } else {
            watch.apply(verdict.generation, verdict.decision);
        }
        watch
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who the peer is, by the last decision that accepted it.
    pub(super) fn identity(&self) -> Option<Arc<PeerIdentity>> {
        self.lock().identity.clone()
    }

    /// The connection is handed out now.
    pub(super) fn establish(&self) {
        self.established.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_established(&self) -> bool {
        self.established.load(Ordering::Relaxed)
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Held)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Has the decision made anew.
    pub(super) fn judge(&self) {
        let _one = self.judging.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*self.standing.borrow(), Standing::Distrusted(_)) {
            return;
        }
        let generation = self.link.verifier.generation();
        let role = self.link.purpose.role();
        let decision = self.link.verifier.verify(&self.chain, role, false);
        self.apply(generation, decision);
    }

    fn apply(&self, generation: u64, decision: Decision) {
        let now = Instant::now();
        let standing = match decision.outcome {
            Outcome::Establish => {
                let mut state = self.lock();
                state.generation = generation;
                state.valid_until = decision.valid_until;
                state.identity = decision.peer.map(Arc::new);
                state.look_at = self.next_look(&state, now);
                if state.identity.is_some() {
                    Standing::Trusted
                } else {
                    Standing::Distrusted(Distrust::Undecided)
                }
            }
            Outcome::Hold(_) => {
                let mut state = self.lock();
                state.generation = generation;
                if !self.is_held() {
                    count(&self.shared.counters.held);
                    state.look_at = Some(now + self.shared.config.decision_timeout);
                }
                Standing::Held
            }
            Outcome::Terminate(_) => Standing::Distrusted(Distrust::Refused(Arc::new(decision))),
        };
        self.stand(standing);
    }

    fn stand(&self, standing: Standing) {
        if matches!(standing, Standing::Distrusted(_)) && self.is_established() {
            count(&self.shared.counters.distrusted);
        }
        self.standing.send_replace(standing);
        self.armed.notify_one();
        let mut state = self.lock();
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        for waker in wakers.into_iter().flatten() {
            waker.wake();
        }
    }

    /// Ends it: nothing passes any more.
    pub(super) fn distrust(&self, why: Distrust) {
        let _one = self.judging.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*self.standing.borrow(), Standing::Distrusted(_)) {
            self.stand(Standing::Distrusted(why));
        }
    }

    /// When an accepted peer is looked at next.
    fn next_look(&self, state: &State, now: Instant) -> Option<Instant> {
        let dates = state
            .valid_until
            .zip(self.link.verifier.time())
            .map(|(until, time)| {
                let left = until.duration_since(time).unwrap_or_default();
                now + left.clamp(LOOK_AGAIN, LOOK_EVERY)
            });
        [dates, self.idle_at(state)].into_iter().flatten().min()
    }

    /// When silence will have lasted too long, for a peer that is here on first use only.
    fn idle_at(&self, state: &State) -> Option<Instant> {
        let identity = state.identity.as_ref()?;
        (identity.basis == Basis::FirstUse).then(|| state.heard + self.shared.first_use_idle())
    }

    /// Looks whether the decision is still good, as often as it has to be, until the peer is not trusted any more.
    pub(super) async fn keep(self: Arc<Self>) {
        while !matches!(self.standing(), Standing::Distrusted(_)) {
            let look_at = self.lock().look_at;
            let due = async {
                match look_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.armed.notified() => {}
                () = due => self.look(),
            }
        }
    }

    fn look(&self) {
        let now = Instant::now();
        if self.lock().look_at.is_none_or(|at| at > now) {
            return;
        }
        if self.is_held() {
            // Its turn may not have come since there was something new.
            self.judge();
            if self.is_held() {
                count(&self.shared.counters.undecided);
                self.distrust(Distrust::Undecided);
            }
            return;
        }
        let mut state = self.lock();
        if self.idle_at(&state).is_some_and(|at| at <= now) {
            drop(state);
            self.distrust(Distrust::Idle);
            return;
        }
        let out_of_date = state
            .valid_until
            .zip(self.link.verifier.time())
            .is_some_and(|(until, time)| until <= time);
        if out_of_date {
            drop(state);
            count(&self.shared.counters.judged_again);
            self.judge();
        } else {
            state.look_at = self.next_look(&state, now);
            drop(state);
            self.armed.notify_one();
        }
    }

    /// The time after which silent peers on first use are put out has changed.
    pub(super) fn rearm(&self) {
        if matches!(*self.standing.borrow(), Standing::Trusted) {
            let mut state = self.lock();
            state.look_at = self.next_look(&state, Instant::now());
            drop(state);
            self.armed.notify_one();
        }
    }

    /// Whether bytes may pass: at once when the peer is trusted, never again when it is not, and not before a decision when one
    /// is waited for. The task is woken when that changes.
    pub(super) fn poll_pass(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
    ) -> Poll<io::Result<()>> {
        let (changed, due) = {
            let state = self.lock();
            (
                state.generation != self.link.verifier.generation(),
                state.look_at.is_some_and(|at| at <= Instant::now()),
            )
        };
        if changed {
            count(&self.shared.counters.judged_again);
            self.judge();
        } else if due {
            self.look();
        }
        // First the waker, then the look: whoever changes how the peer stands does it the other way round.
        {
            let mut state = self.lock();
            let waker = match direction {
                Direction::Read => &mut state.reader,
                Direction::Write => &mut state.writer,
            };
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
        }
        match &*self.standing.borrow() {
            Standing::Trusted => Poll::Ready(Ok(())),
            Standing::Held => Poll::Pending,
            Standing::Distrusted(why) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                why.clone(),
            ))),
        }
    }

    /// A byte came.
    pub(super) fn heard(&self) {
        self.lock().heard = Instant::now();
    }

    /// The certificates that the peer showed, leaf first.
    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }
}
