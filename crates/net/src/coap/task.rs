//! The task that owns sockets, associations and the CoAP engine.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use homefleet_coap::{
    Code, Endpoint, Event, ExchangeId, Peer, Request, RequestId, Response, SessionId,
};
use homefleet_trust::PeerIdentity;
use tokio::sync::{mpsc, oneshot};

use super::client::{Repeat, RequestFailure, Target};
use super::groups::Groups;
use super::jobs::{Job, JobId, Reply};
use super::node::{Incoming, NodeStats, Service};
use super::observe::{TopicId, Topics};
use crate::dtls::{self, CloseReason, Credentials, EngineError, Sessions};
use crate::udp::UdpSocket;

/// Batches taken from one socket before everything else gets its turn.
const BATCHES_PER_TURN: usize = 8;
/// Sleep when nothing at all is due.
const FOREVER: Duration = Duration::from_secs(3600);

/// What the handle asks of the task.
pub(super) enum Command {
    Request {
        addrs: Vec<SocketAddr>,
        target: Target,
        request: Request,
        repeat: Repeat,
        reply: Reply,
    },
    /// Nobody listens to this observation any more.
    Deregister(JobId),
    Publish {
        topic: TopicId,
        response: Response,
    },
    Respond {
        exchange: ExchangeId,
        response: Response,
    },
    Disconnect {
        addr: Option<SocketAddr>,
    },
    FirstUseIdle(Duration),
    JudgeAgain,
    ReplaceCredentials {
        credentials: Box<Credentials>,
        reply: oneshot::Sender<Result<(), EngineError>>,
    },
    Shutdown {
        reply: oneshot::Sender<()>,
    },
}

/// Sockets, engines and the requests under way.
pub(super) struct Task {
    pub(super) coap: Endpoint,
    pub(super) secure: Option<(UdpSocket, Sessions)>,
    pub(super) plain: Option<UdpSocket>,
    pub(super) groups: Groups,
    pub(super) commands: mpsc::WeakSender<Command>,
    pub(super) shared: Arc<Mutex<NodeStats>>,
    pub(super) max_requests: usize,
    pub(super) doubt_after: Duration,
    pub(super) next_job: u64,
    pub(super) jobs: HashMap<JobId, Job>,
    pub(super) by_request: HashMap<RequestId, JobId>,
    pub(super) by_session: HashMap<SessionId, HashSet<JobId>>,
    pub(super) doubts: BTreeSet<(Instant, JobId)>,
    /// The association last authenticated as an Endpoint, to reach it where its own address cannot be.
    pub(super) by_endpoint: HashMap<String, SessionId>,
    /// Who the peers of `by_endpoint` are.
    pub(super) peers: HashMap<SessionId, Arc<PeerIdentity>>,
    pub(super) reused: u64,
    pub(super) doubted: u64,
    /// Who is told of what.
    pub(super) topics: Topics,
}

impl Task {
    pub(super) fn new(
        coap: Endpoint,
        secure: Option<(UdpSocket, Sessions)>,
        plain: Option<UdpSocket>,
        commands: mpsc::WeakSender<Command>,
        shared: Arc<Mutex<NodeStats>>,
        max_requests: usize,
        doubt_after: Duration,
    ) -> Self {
        Self {
            coap,
            secure,
            plain,
            groups: Groups::default(),
            commands,
            shared,
            max_requests,
            doubt_after,
            next_job: 0,
            jobs: HashMap::new(),
            by_request: HashMap::new(),
            by_session: HashMap::new(),
            doubts: BTreeSet::new(),
            by_endpoint: HashMap::new(),
            peers: HashMap::new(),
            reused: 0,
            doubted: 0,
            topics: Topics::default(),
        }
    }

    /// Has these groups heard.
    pub(super) fn with_groups(self, groups: Groups) -> Self {
        Self { groups, ..self }
    }

    /// Runs until told to stop, or until every handle is gone.
    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Command>,
        mut service: Box<dyn Service>,
    ) {
        loop {
            self.settle(service.as_mut());
            let wake = tokio::time::Instant::from_std(
                self.next_timeout()
                    .unwrap_or_else(|| Instant::now() + FOREVER),
            );
            tokio::select! {
                biased;
                command = inbox.recv() => match command {
                    Some(Command::Shutdown { reply }) => {
                        self.stop();
                        // The caller may have stopped waiting.
                        let _told = reply.send(());
                        return;
                    }
                    Some(command) => self.command(Instant::now(), command),
                    None => {
                        self.stop();
                        return;
                    }
                },
                () = ready(self.secure.as_ref().map(|(socket, _)| socket)) => {}
                () = ready(self.plain.as_ref()) => {}
                () = tokio::time::sleep_until(wake) => {}
            }
            // Commands that came together are taken together.
            while let Ok(command) = inbox.try_recv() {
                if let Command::Shutdown { reply } = command {
                    self.stop();
                    let _told = reply.send(());
                    return;
                }
                self.command(Instant::now(), command);
            }
            self.receive(service.as_mut());
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        [
            self.coap.poll_timeout(),
            self.secure
                .as_ref()
                .and_then(|(_, sessions)| sessions.poll_timeout()),
            self.doubts.first().map(|(due, _)| *due),
            self.groups.poll_timeout(),
            self.topics.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn receive(&mut self, service: &mut dyn Service) {
        for _ in 0..BATCHES_PER_TURN {
            let now = Instant::now();
            let mut count = 0;
            if let Some((socket, sessions)) = &mut self.secure {
                count +=
                    socket.receive(|from, datagram| sessions.handle_input(now, from, datagram));
            }
            if let Some(socket) = &mut self.plain {
                let coap = &mut self.coap;
                count += socket.receive_to(|from, to, datagram| match to {
                    Some(group) if group.is_multicast() => {
                        coap.handle_multicast(now, Peer::plain(from), datagram);
                    }
                    _ => coap.handle_input(now, Peer::plain(from), datagram),
                });
            }
            if count == 0 {
                return;
            }
            self.drain(now, service);
        }
    }

    /// Timers, then everything that is to be said and sent.
    fn settle(&mut self, service: &mut dyn Service) {
        let now = Instant::now();
        if let Some((_, sessions)) = &mut self.secure {
            sessions.handle_timeout(now);
        }
        if self.coap.poll_timeout().is_some_and(|due| due <= now) {
            self.coap.handle_timeout(now);
        }
        self.groups.handle_timeout(now, self.plain.as_ref());
        self.topics.handle_timeout(now, &mut self.coap);
        while let Some(&(due, job)) = self.doubts.first() {
            if due > now {
                break;
            }
            self.doubts.pop_first();
            self.doubt(now, job);
        }
        self.drain(now, service);
        self.publish();
    }

    /// Moves events and datagrams along until there are none.
    fn drain(&mut self, now: Instant, service: &mut dyn Service) {
        loop {
            let mut moved = false;
            while let Some(event) = self
                .secure
                .as_mut()
                .and_then(|(_, sessions)| sessions.poll_event())
            {
                moved = true;
                self.dtls_event(now, event);
            }
            while let Some(event) = self.coap.poll_event() {
                moved = true;
                self.coap_event(now, event, service);
            }
            while let Some(transmit) = self.coap.poll_transmit() {
                moved = true;
                match (transmit.to.session, &mut self.secure, &mut self.plain) {
                    (Some(session), Some((_, sessions)), _) => {
                        // An association that is gone has told so; CoAP's retransmission covers the rest.
                        let _sent = sessions.send(now, session, &transmit.payload);
                    }
                    (None, _, Some(socket)) => socket.queue(transmit.to.addr, transmit.payload),
                    _ => {}
                }
            }
            if let Some((socket, sessions)) = &mut self.secure {
                while let Some(transmit) = sessions.poll_transmit() {
                    moved = true;
                    socket.queue(transmit.to, transmit.payload);
                }
            }
            if moved {
                // Who has an answer finds it counted.
                self.publish();
            }
            if let Some((socket, _)) = &mut self.secure {
                socket.flush();
            }
            if let Some(socket) = &mut self.plain {
                socket.flush();
            }
            if !moved {
                return;
            }
        }
    }

    fn publish(&self) {
        let mut stats = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        *stats = NodeStats {
            secure: self
                .secure
                .as_ref()
                .map(|(socket, _)| socket.stats())
                .unwrap_or_default(),
            plain: self
                .plain
                .as_ref()
                .map(UdpSocket::stats)
                .unwrap_or_default(),
            groups: self.groups.joined(),
            dtls: self
                .secure
                .as_ref()
                .map(|(_, sessions)| sessions.stats())
                .unwrap_or_default(),
            sessions: self
                .secure
                .as_ref()
                .map_or(0, |(_, sessions)| sessions.len() as u64),
            held: self
                .secure
                .as_ref()
                .map_or(0, |(_, sessions)| sessions.held() as u64),
            half_open: self
                .secure
                .as_ref()
                .map_or(0, |(_, sessions)| sessions.half_open() as u64),
            coap: self.coap.stats(),
            sessions_reused: self.reused,
            doubted: self.doubted,
            requests_under_way: self.jobs.len() as u64,
            observers: self.topics.observers() as u64,
        };
    }

    fn command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Request {
                addrs,
                target,
                request,
                repeat,
                reply,
            } => self.begin(now, addrs, target, request, repeat, reply),
            Command::Deregister(job) => self.deregister(now, job),
            Command::Publish { topic, response } => self.topics.publish(now, topic, response),
            Command::Respond { exchange, response } => {
                // An exchange that expired or whose peer is gone needs no answer.
                let _sent = self.coap.respond(now, exchange, response);
            }
            Command::Disconnect { addr } => {
                let Some((_, sessions)) = &mut self.secure else {
                    return;
                };
                let ids = match addr {
                    Some(addr) => sessions.established(addr).into_iter().collect(),
                    None => sessions.ids(),
                };
                for id in ids {
                    self.drop_session(now, id);
                }
            }
            Command::FirstUseIdle(idle) => {
                if let Some((_, sessions)) = &mut self.secure {
                    sessions.set_first_use_idle(idle);
                    sessions.judge_again(now);
                }
            }
            Command::JudgeAgain => {
                if let Some((_, sessions)) = &mut self.secure {
                    sessions.judge_again(now);
                }
            }
            Command::ReplaceCredentials { credentials, reply } => {
                let result = match &mut self.secure {
                    Some((_, sessions)) => sessions.replace_credentials(*credentials),
                    None => Ok(()),
                };
                // The caller may have stopped waiting.
                let _told = reply.send(result);
            }
            Command::Shutdown { .. } => {}
        }
    }

    pub(super) fn drop_session(&mut self, now: Instant, id: SessionId) {
        let Some((_, sessions)) = &mut self.secure else {
            return;
        };
        let addr = sessions.addr(id);
        sessions.close(now, id);
        if let Some(addr) = addr {
            self.coap.forget_peer(now, Peer::secure(addr, id));
        }
        self.forget_peer(id);
        let reason = "the association was closed here".to_owned();
        self.handshake_failed(now, id, addr, reason, false);
    }

    fn forget_peer(&mut self, session: SessionId) {
        if let Some(peer) = self.peers.remove(&session) {
            for endpoint_id in &peer.endpoint_ids {
                if self.by_endpoint.get(endpoint_id) == Some(&session) {
                    self.by_endpoint.remove(endpoint_id);
                }
            }
        }
    }

    fn dtls_event(&mut self, now: Instant, event: dtls::Event) {
        match event {
            dtls::Event::Established {
                session,
                addr,
                peer,
                version,
                ..
            } => {
                tracing::debug!(%session, %version, subject = %peer.subject, "association established");
                for endpoint_id in peer.endpoint_ids.iter().filter(|id| !id.contains('*')) {
                    self.by_endpoint.insert(endpoint_id.clone(), session);
                }
                self.peers.insert(session, peer);
                for id in self.by_session.remove(&session).unwrap_or_default() {
                    self.established(now, id, addr, session);
                }
            }
            dtls::Event::Data {
                session,
                addr,
                payload,
            } => self
                .coap
                .handle_input(now, Peer::secure(addr, session), &payload),
            dtls::Event::Held {
                session, wanted, ..
            } => {
                tracing::debug!(%session, wanted = wanted.len(), "peer held");
            }
            dtls::Event::Closed {
                session,
                addr,
                reason,
            } => {
                tracing::debug!(%session, ?reason, "association closed");
                self.forget_peer(session);
                if let CloseReason::Alert(code) = reason {
                    self.told_off(now, session, addr, code);
                }
                self.coap.forget_peer(now, Peer::secure(addr, session));
            }
            dtls::Event::Refused {
                session,
                addr,
                decision,
                ..
            } => {
                tracing::info!(%session, refusal = ?decision.refusal(), "peer refused");
                self.handshake_refused(now, session, addr, &decision);
            }
            dtls::Event::Failed {
                session,
                addr,
                failure,
                ..
            } => {
                tracing::debug!(%session, ?failure, "handshake failed");
                let silent = failure == dtls::Failure::Timeout;
                let reason = match failure {
                    dtls::Failure::Alert(code) => format!("the peer sent alert {code}"),
                    dtls::Failure::Timeout => "the peer did not answer in time".to_owned(),
                    dtls::Failure::Evicted => "too many handshakes are under way".to_owned(),
                    dtls::Failure::Undecided => {
                        "it could not be found out in time whether the peer's certificate is revoked"
                            .to_owned()
                    }
                    dtls::Failure::Restarted => "it was begun anew".to_owned(),
                    dtls::Failure::Engine(text) => text,
                };
                self.handshake_failed(now, session, Some(addr), reason, silent);
            }
        }
    }

    fn coap_event(&mut self, now: Instant, event: Event, service: &mut dyn Service) {
        match event {
            Event::Request {
                exchange,
                from,
                request,
            } => {
                let identity = match (from.session, &self.secure) {
                    (None, _) => None,
                    (Some(session), Some((_, sessions))) => match sessions.peer(session) {
                        Some(peer) => Some(peer.clone()),
                        // Nobody acts before being authenticated; an association that is gone has nobody.
                        None => return,
                    },
                    (Some(_), None) => return,
                };
                let server_name = from.session.and_then(|session| {
                    let (_, sessions) = self.secure.as_ref()?;
                    sessions.server_name(session)
                });
                let topic = Cell::new(None);
                let response = service.handle(Incoming {
                    from: from.addr,
                    identity: identity.as_ref(),
                    server_name,
                    request,
                    to_group: self.coap.is_multicast(exchange),
                    exchange,
                    commands: &self.commands,
                    topic: &topic,
                });
                if let (Some(topic), Some(response)) = (topic.get(), &response)
                    && response.code.is_success()
                {
                    self.topics.register(topic, exchange, &mut self.coap);
                }
                if let Some(response) = response
                    && self.coap.respond(now, exchange, response).is_err()
                {
                    // The service's response was not valid CoAP; the peer still gets an answer.
                    let _sent = self.coap.respond(
                        now,
                        exchange,
                        Response::new(Code::INTERNAL_SERVER_ERROR),
                    );
                }
            }
            Event::Response { id, response, .. } => {
                if let Some(job) = self.by_request.get(&id).copied() {
                    self.answered(now, job, response);
                }
            }
            Event::Notification { id, response } => {
                if let Some(job) = self.by_request.get(&id).copied() {
                    self.notified(now, job, response);
                }
            }
            Event::Failed { id, error } => {
                if let Some(job) = self.by_request.remove(&id) {
                    self.failed(now, job, error);
                }
            }
            Event::ObserverGone { id } => self.topics.gone(id),
        }
    }

    /// Says close_notify to everybody and fails what is under way.
    fn stop(&mut self) {
        let now = Instant::now();
        if let Some((socket, sessions)) = &mut self.secure {
            sessions.close_all(now);
            while let Some(transmit) = sessions.poll_transmit() {
                socket.queue(transmit.to, transmit.payload);
            }
            socket.flush();
        }
        let jobs: Vec<JobId> = self.jobs.keys().copied().collect();
        for id in jobs {
            self.finish(id, Err(RequestFailure::Closed));
        }
        self.publish();
    }
}

async fn ready(socket: Option<&UdpSocket>) {
    match socket {
        Some(socket) => {
            if socket.ready().await.is_err() {
                // Only when the runtime goes down: then this task goes down with it.
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}
