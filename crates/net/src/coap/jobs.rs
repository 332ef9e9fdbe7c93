//! Requests of ours, from the handle to the answer: which association, which address, when to give up.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use homefleet_coap::{Peer, Request, RequestError, RequestId, Response, SessionId};
use homefleet_trust::Decision;
use tokio::sync::oneshot;

use super::client::{Repeat, RequestFailure, Target};
use super::observe::Observing;
use super::task::Task;
use crate::dtls;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct JobId(pub(super) u64);

/// Where a request of ours stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    /// Its association is being made.
    Handshake(SessionId),
    /// CoAP has it.
    UnderWay(RequestId, Peer),
}

/// Who waits for what comes.
pub(super) enum Reply {
    /// For one response.
    Once(oneshot::Sender<Result<Response, RequestFailure>>),
    /// For the notifications that follow it, too.
    Observing(Observing),
}

impl Reply {
    /// The last word.
    pub(super) fn end(self, result: Result<Response, RequestFailure>) {
        match self {
            // The caller may have stopped waiting.
            Self::Once(reply) => drop(reply.send(result)),
            Self::Observing(observing) => observing.end(result),
        }
    }
}

/// A request of ours.
pub(super) struct Job {
    pub(super) target: Target,
    /// Addresses not tried yet.
    pub(super) addrs: VecDeque<SocketAddr>,
    pub(super) request: Request,
    pub(super) reply: Reply,
    pub(super) stage: Stage,
    /// The address of the association it goes out on, if that was open before.
    pub(super) reused: bool,
    /// When silence begins to look suspicious.
    pub(super) doubt_at: Option<Instant>,
    /// A handshake beside the silent association.
    pub(super) doubt: Option<SessionId>,
    /// The handshake it waits for is another one's.
    pub(super) waiting: bool,
    /// Already sent a second time because its association was replaced.
    pub(super) repeated: bool,
    /// Whether it leaves over another association.
    pub(super) repeat: Repeat,
    /// When it was handed to CoAP.
    pub(super) sent: Instant,
}

impl Task {
    pub(super) fn begin(
        &mut self,
        now: Instant,
        addrs: Vec<SocketAddr>,
        target: Target,
        request: Request,
        repeat: Repeat,
        reply: Reply,
    ) {
        if self.jobs.len() >= self.max_requests {
            reply.end(Err(RequestFailure::Busy));
            return;
        }
        let id = JobId(self.next_job);
        self.next_job += 1;
        if let Reply::Observing(observing) = &reply {
            observing.is_job(id);
        }
        let host = target.host.clone();
        self.jobs.insert(
            id,
            Job {
                target,
                addrs: addrs.into(),
                request,
                reply,
                stage: Stage::Handshake(SessionId(0)),
                reused: false,
                doubt_at: None,
                doubt: None,
                waiting: false,
                repeated: false,
                repeat,
                sent: now,
            },
        );
        self.next_address(now, id, RequestFailure::Unresolvable { host });
    }

    /// Takes the next address of a job; without one the job fails with `failure`.
    pub(super) fn next_address(&mut self, now: Instant, id: JobId, failure: RequestFailure) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if !job.target.scheme.is_secure() {
            match job.addrs.pop_front() {
                Some(addr) => self.submit(now, id, Peer::plain(addr), false),
                None => self.finish(id, Err(failure)),
            }
            return;
        }
        let Some((_, sessions)) = &mut self.secure else {
            self.finish(id, Err(failure));
            return;
        };
        // An open association with one of its addresses, or with the Endpoint itself wherever it is.
        let expected = job.target.expected();
        let here = job
            .addrs
            .iter()
            .filter_map(|addr| sessions.established(*addr));
        let elsewhere = job
            .target
            .endpoint_id
            .as_ref()
            .and_then(|endpoint_id| self.by_endpoint.get(endpoint_id).copied());
        let open: Vec<SessionId> = here.chain(elsewhere).collect();
        let open = open.into_iter().find(|session| {
            sessions
                .peer(*session)
                .is_some_and(|peer| job.target.is(peer))
                || sessions.serves(*session, &expected)
        });
        if let Some(session) = open
            && let Some(addr) = sessions.addr(session)
        {
            self.reused += 1;
            self.submit(now, id, Peer::secure(addr, session), true);
            return;
        }
        let Some(addr) = job.addrs.pop_front() else {
            self.finish(id, Err(failure));
            return;
        };
        match sessions.connect(now, addr, expected) {
            Ok(session) => {
                job.stage = Stage::Handshake(session);
                self.by_session.entry(session).or_default().insert(id);
                if !job.addrs.is_empty() {
                    let due = now + self.doubt_after;
                    job.doubt_at = Some(due);
                    self.doubts.insert((due, id));
                }
            }
            Err(dtls::ConnectError::UnderWay(session)) => {
                job.addrs.push_front(addr);
                job.waiting = true;
                job.stage = Stage::Handshake(session);
                self.by_session.entry(session).or_default().insert(id);
            }
            Err(dtls::ConnectError::Full) => self.finish(id, Err(RequestFailure::Busy)),
            Err(error) => {
                let failure = RequestFailure::Handshake {
                    addr,
                    reason: error.to_string(),
                };
                self.next_address(now, id, failure);
            }
        }
    }

    /// Hands a job to CoAP.
    pub(super) fn submit(&mut self, now: Instant, id: JobId, peer: Peer, reused: bool) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        match self.coap.request(now, peer, job.request.clone()) {
            Ok(request) => {
                job.stage = Stage::UnderWay(request, peer);
                job.reused = reused;
                job.sent = now;
                self.by_request.insert(request, id);
                if let Some(due) = job.doubt_at.take() {
                    self.doubts.remove(&(due, id));
                }
                if reused && job.repeat != Repeat::Never {
                    let due = now + self.doubt_after;
                    job.doubt_at = Some(due);
                    self.doubts.insert((due, id));
                }
            }
            Err(error) => self.finish(id, Err(error.into())),
        }
    }

    pub(super) fn finish(&mut self, id: JobId, result: Result<Response, RequestFailure>) {
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        match job.stage {
            Stage::Handshake(session) => self.unlink(session, id),
            Stage::UnderWay(request, _) => {
                self.by_request.remove(&request);
            }
        }
        if let Some(session) = job.doubt {
            self.unlink(session, id);
        }
        if let Some(due) = job.doubt_at {
            self.doubts.remove(&(due, id));
        }
        job.reply.end(result);
    }

    pub(super) fn unlink(&mut self, session: SessionId, id: JobId) {
        if let Some(jobs) = self.by_session.get_mut(&session) {
            jobs.remove(&id);
            if jobs.is_empty() {
                self.by_session.remove(&session);
            }
        }
    }

    /// A request on an association that was open before is still unanswered: make a new one beside it. A handshake with
    /// one of several addresses is not done: try the next one.
    pub(super) fn doubt(&mut self, now: Instant, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.doubt_at = None;
        let peer = match job.stage {
            Stage::UnderWay(_, peer) => peer,
            Stage::Handshake(session) => {
                let host = job.target.host.clone();
                self.unlink(session, id);
                self.next_address(now, id, RequestFailure::Unresolvable { host });
                return;
            }
        };
        let Some((_, sessions)) = &mut self.secure else {
            return;
        };
        let Some(heard) = peer
            .session
            .and_then(|session| sessions.last_heard(session))
        else {
            return;
        };
        if job.repeated || job.repeat == Repeat::UntilHeard && heard > job.sent {
            return;
        }
        // It was heard from meanwhile: it lives, and the answer takes its time. It may still fall silent.
        let due = heard + self.doubt_after;
        if due > now {
            job.doubt_at = Some(due);
            self.doubts.insert((due, id));
            return;
        }
        let addr = job.addrs.front().copied().unwrap_or(peer.addr);
        if let Ok(session) = sessions.connect(now, addr, job.target.expected()) {
            self.doubted += 1;
            job.doubt = Some(session);
            self.by_session.entry(session).or_default().insert(id);
        }
    }

    /// The peer ended an association by an alert. In DTLS 1.3 a client learns only so that its certificate was refused: what
    /// went out on it fails for that reason.
    pub(super) fn told_off(
        &mut self,
        now: Instant,
        session: SessionId,
        addr: SocketAddr,
        code: u8,
    ) {
        let under_way: Vec<(JobId, RequestId)> = self
            .jobs
            .iter()
            .filter(|(_, job)| !job.reused)
            .filter_map(|(id, job)| match job.stage {
                Stage::UnderWay(request, peer) if peer.session == Some(session) => {
                    Some((*id, request))
                }
                _ => None,
            })
            .collect();
        for (id, request) in under_way {
            self.by_request.remove(&request);
            self.coap.cancel(now, request);
            let failure = RequestFailure::Handshake {
                addr,
                reason: format!("the peer sent alert {code}"),
            };
            self.finish(id, Err(failure));
        }
    }

    /// The association a job waited for is there.
    pub(super) fn established(
        &mut self,
        now: Instant,
        id: JobId,
        addr: SocketAddr,
        session: SessionId,
    ) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        match job.stage {
            // It was made for somebody else, and may suit.
            Stage::Handshake(_) if std::mem::take(&mut job.waiting) => {
                let host = job.target.host.clone();
                self.next_address(now, id, RequestFailure::Unresolvable { host });
            }
            Stage::Handshake(_) => self.submit(now, id, Peer::secure(addr, session), false),
            Stage::UnderWay(request, _) => {
                // The open association stayed silent, the new one answers.
                job.doubt = None;
                job.repeated = true;
                self.by_request.remove(&request);
                self.coap.cancel(now, request);
                self.submit(now, id, Peer::secure(addr, session), false);
            }
        }
    }

    pub(super) fn handshake_refused(
        &mut self,
        now: Instant,
        session: SessionId,
        addr: SocketAddr,
        decision: &Decision,
    ) {
        for id in self.by_session.remove(&session).unwrap_or_default() {
            let failure = RequestFailure::Untrusted {
                addr,
                decision: Box::new(decision.clone()),
            };
            self.give_up_address(now, id, failure);
        }
    }

    pub(super) fn handshake_failed(
        &mut self,
        now: Instant,
        session: SessionId,
        addr: Option<SocketAddr>,
        reason: String,
        silent: bool,
    ) {
        for id in self.by_session.remove(&session).unwrap_or_default() {
            let failure = match addr {
                Some(addr) => RequestFailure::Handshake {
                    addr,
                    reason: reason.clone(),
                },
                None => RequestFailure::Closed,
            };
            // Where nobody answered one, nobody answers another.
            if silent
                && let Some(job) = self.jobs.get_mut(&id)
                && std::mem::take(&mut job.waiting)
            {
                job.addrs.pop_front();
            }
            self.give_up_address(now, id, failure);
        }
    }

    pub(super) fn give_up_address(&mut self, now: Instant, id: JobId, failure: RequestFailure) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.waiting = false;
        match job.stage {
            Stage::Handshake(_) => self.next_address(now, id, failure),
            // A doubt that came to nothing: CoAP goes on over the open association.
            Stage::UnderWay(..) => job.doubt = None,
        }
    }

    pub(super) fn failed(&mut self, now: Instant, id: JobId, error: RequestError) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Stage::UnderWay(_, peer) = job.stage else {
            return;
        };
        match error {
            // An observation that has begun is begun anew by who observes.
            RequestError::PeerGone if job.is_observing() => self.finish(id, Err(error.into())),
            // The association ended under the request: once more over a new one, which the peer asked for by ending it.
            RequestError::PeerGone
                if job.reused && !job.repeated && job.repeat != Repeat::Never =>
            {
                job.repeated = true;
                job.reused = false;
                job.addrs.push_front(peer.addr);
                let failure = RequestFailure::Coap(error);
                self.next_address(now, id, failure);
            }
            // Nobody answers there: the next address, and no more trust in an open association.
            RequestError::Timeout => {
                let last = job.reused || job.repeat == Repeat::Never || job.is_observing();
                let silent = peer.session.filter(|session| {
                    self.secure.as_ref().is_some_and(|(_, sessions)| {
                        sessions.last_heard(*session).is_some_and(|heard| {
                            now.saturating_duration_since(heard) >= self.doubt_after
                        })
                    })
                });
                if let Some(session) = silent {
                    self.drop_session(now, session);
                }
                if last {
                    self.finish(id, Err(error.into()));
                } else {
                    self.next_address(now, id, RequestFailure::Coap(error));
                }
            }
            _ => self.finish(id, Err(error.into())),
        }
    }
}
