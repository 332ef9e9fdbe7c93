//! Observing a peer's resource (RFC 7641 §3).

use std::time::{Duration, Instant};

use rand_core::Rng;

use super::Endpoint;
use super::client::{Step, without_blocks};
use super::peers::Work;
use super::timers::{Timer, TimerKey, after};
use crate::error::RequestError;
use crate::event::{Event, RequestId};
use crate::request::Response;

/// Age after which any notification is newer (RFC 7641 §3.4).
const FRESH: Duration = Duration::from_secs(128);
/// Max-Age when a response has none (RFC 7252 §5.10.5).
const DEFAULT_MAX_AGE: u32 = 60;

/// A registered observation.
pub(super) struct Watch {
    seq: u32,
    at: Instant,
    pub(super) timer: Option<TimerKey>,
}

/// Whether sequence number `new` is later than `old`, in 24-bit arithmetic (RFC 7641 §3.4).
fn is_newer(old: u32, new: u32) -> bool {
    const HALF: u32 = 1 << 23;
    (old < new && new - old < HALF) || (old > new && old - new > HALF)
}

impl Endpoint {
    /// The server registered us.
    pub(super) fn watch(&mut self, now: Instant, id: u64, seq: u32, max_age: Option<u32>) {
        let old = self
            .requests
            .get_mut(id)
            .and_then(|request| request.watch.take());
        self.timers.cancel(old.and_then(|watch| watch.timer));
        let timer = self.config.reregister.then(|| {
            // RFC 7641 §3.3.1: not before Max-Age is over, and 5 to 15 s of chance on top.
            let age = u64::from(max_age.unwrap_or(DEFAULT_MAX_AGE));
            let spread = u64::from(self.rng.next_u32() % 10_000);
            let wait = Duration::from_secs(age + 5) + Duration::from_millis(spread);
            self.timers.set(after(now, wait), Timer::Reregister(id))
        });
        if let Some(request) = self.requests.get_mut(id) {
            request.fetch = None;
            request.watch = Some(Watch {
                seq,
                at: now,
                timer,
            });
        }
    }

    /// Notifications are overdue: the same request again, with the same token (RFC 7641 §3.3.1).
    pub(super) fn register_again(&mut self, now: Instant, id: u64) {
        if let Some(watch) = self
            .requests
            .get_mut(id)
            .and_then(|request| request.watch.as_mut())
        {
            watch.timer = None;
            self.drop_fetch(id);
            self.settle(id);
            self.send_next(now, id);
        }
    }

    /// A notification, or the answer to a further registration (RFC 7641 §3.2 to §3.4).
    pub(super) fn notified(&mut self, now: Instant, id: u64, response: Response, solicited: bool) {
        let Some(watch) = self.requests.get(id).and_then(|r| r.watch.as_ref()) else {
            return;
        };
        let seq = response.options.observe();
        let Some(seq) = seq.filter(|_| response.code.is_success()) else {
            // RFC 7641 §3.2: without Observe, or with an error code, this was the last one.
            self.push_notification(id, response);
            return self.fail(now, id, RequestError::ObservationEnded);
        };
        let newer = is_newer(watch.seq, seq) || now.saturating_duration_since(watch.at) > FRESH;
        if !newer && !solicited {
            self.stats.notifications_stale += 1;
            return;
        }
        self.settle(id);
        self.leave_queue(id);
        self.drop_fetch(id);
        self.watch(now, id, seq, response.options.max_age());
        self.release_slot(now, id);
        let block = response.options.block2().filter(|block| block.more);
        let Some(block) = block else {
            return self.push_notification(id, response);
        };
        let Some(peer) = self.requests.get(id).map(|request| request.peer) else {
            return;
        };
        let token = self.new_token(peer);
        match self.start_fetch(id, block, response, Some(token)) {
            Step::Again => {
                self.tokens.insert((peer, token), id);
                self.send_next(now, id);
            }
            step => self.take_step(now, id, step),
        }
    }

    /// What waits for NSTART is not needed any more: a registration again, or a block of an older state
    /// (RFC 7641 §3.3.1: no registration while the state is fresh).
    fn leave_queue(&mut self, id: u64) {
        let Some(peer) = self.requests.get(id).map(|request| request.peer) else {
            return;
        };
        if let Some(state) = self.peers.get_mut(peer) {
            state.queue.retain(|work| *work != Work::Request(id));
        }
    }

    /// The rest of a large notification is here.
    pub(super) fn notification_fetched(&mut self, now: Instant, id: u64, response: Response) {
        self.drop_fetch(id);
        self.release_slot(now, id);
        self.push_notification(id, response);
    }

    /// Stops reading the body of an older notification.
    pub(super) fn drop_fetch(&mut self, id: u64) {
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        if let Some(token) = request.fetch.take().and_then(|fetch| fetch.token) {
            self.tokens.remove(&(request.peer, token));
        }
    }

    fn push_notification(&mut self, id: u64, response: Response) {
        self.stats.notifications_in += 1;
        self.events.push_back(Event::Notification {
            id: RequestId(id),
            response: Response {
                options: without_blocks(response.options),
                ..response
            },
        });
    }
}
