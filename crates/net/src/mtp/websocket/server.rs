//! Sessions that peers open (R-WS.6).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use homefleet_usp::EndpointId;
use homefleet_usp::mtp::websocket::Opener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::handshake::server::Response;

use crate::mtp::proves;
use crate::tls::{Stream, TlsError};

use super::Shared;
use super::accept::{self, Head, Rejection};
use super::forwarded;
use super::gate::Ticket;
use super::peers::{Inbox, Line, Seat};
use super::session::{self, Opened, Proof};
use super::stats::count;

/// How long nothing is accepted after the system has said that it cannot.
const OUT_OF_FILES: Duration = Duration::from_millis(200);

/// Why a connection came to no session.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

/// An address that is listened at.
pub(super) struct Place {
    /// Names it.
    pub(super) name: String,
    /// Path of our resource.
    pub(super) path: String,
    /// TLS.
    pub(super) secure: bool,
    /// Who hands on certificates of others.
    pub(super) proxies: Vec<IpAddr>,
}

/// Accepts connections until it is told to stop.
pub(super) async fn listen(
    shared: Arc<Shared>,
    listener: TcpListener,
    place: Arc<Place>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            // Told to, or nobody is there who could tell.
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let is_proxy = place.proxies.contains(&from.ip().to_canonical());
                let Some((ticket, evicted)) = shared.gate.enter(from.ip(), is_proxy) else {
                    count(&shared.counters.turned_away);
                    continue;
                };
                let arrival = Arrival {
                    shared: Arc::clone(&shared),
                    place: Arc::clone(&place),
                    from,
                    is_proxy,
                };
                tokio::spawn(arrival.serve(stream, ticket, evicted));
            }
            Err(error) => {
                tracing::warn!(%error, "a WebSocket connection cannot be accepted");
                sleep(OUT_OF_FILES).await;
            }
        }
    }
}

/// A connection that a peer opened.
struct Arrival {
    shared: Arc<Shared>,
    place: Arc<Place>,
    from: SocketAddr,
    is_proxy: bool,
}

/// What the client asked for, who it says it is, and what it is answered.
struct Admitted {
    head: Head,
    peer: Option<EndpointId>,
    response: Response,
    line: (Arc<Line>, Inbox),
    seat: Seat,
}

impl Arrival {
    /// Makes a session of the connection, in time, and runs it.
    async fn serve(self, stream: TcpStream, ticket: Ticket, evicted: oneshot::Receiver<()>) {
        let mut stop = self.shared.stop.clone();
        let opened = tokio::select! {
            opened = self.open(stream) => opened,
            _ = evicted => return,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let (counters, from) = (&self.shared.counters, self.from);
        match opened {
            Ok((opened, seat)) => {
                ticket.is_established();
                count(&counters.accepted);
                session::run(Arc::clone(&self.shared), opened).await;
                drop(seat);
            }
            Err(failure) => {
                count(match &failure {
                    Failure::Tls(_) => &counters.tls_failed,
                    Failure::Rejected(Rejection::Untrusted(_)) => &counters.tls_failed,
                    Failure::Rejected(Rejection::Late) => &counters.handshakes_late,
                    Failure::Rejected(Rejection::Foreign) => &counters.certificates_refused,
                    Failure::Rejected(Rejection::Full | Rejection::NoProxy) => {
                        &counters.turned_away
                    }
                    Failure::Rejected(_) => &counters.handshakes_refused,
                });
                tracing::debug!(%from, %failure, "a connection came to no WebSocket session");
            }
        }
    }

    async fn open(&self, stream: TcpStream) -> Result<(Opened, Seat), Failure> {
        // Records are written whole; waiting for more only makes them late.
        let _best_effort = stream.set_nodelay(true);
        let config = &self.shared.config;
        let stream = match &config.tls {
            // The clients behind it share its address, and it bounds them.
            Some(tls) if self.place.secure && self.is_proxy => tls.accept(stream).await?.into(),
            Some(tls) if self.place.secure => tls.accept_from(stream, self.from).await?.into(),
            _ => Stream::Tcp(stream),
        };
        let (stream, admitted) = match self.admit(stream).await {
            Ok(admitted) => admitted,
            Err((mut stream, rejection)) => {
                // Whether the peer reads it is its own affair.
                let said = accept::refuse(&mut stream, &rejection);
                let _said = timeout(config.session.close_timeout, said).await;
                return Err(rejection.into());
            }
        };
        let proof = Proof::of(&stream);
        let frames = accept::frames(config.session.max_record);
        let answered = accept::answer(stream, admitted.head, &admitted.response, frames);
        let answered = timeout(config.limits.handshake, answered).await;
        let opened = Opened {
            stream: answered.map_err(|_| Rejection::Late)??,
            line: admitted.line,
            connection: None,
            peer: admitted.peer.or_else(|| proof.sole_endpoint()),
            proof,
            keep_alive: config.session.keep_alive,
            on_up: Box::new(|| {}),
        };
        Ok((opened, admitted.seat))
    }

    /// Reads what the client asks for, and decides.
    async fn admit(&self, mut stream: Stream) -> Result<(Stream, Admitted), (Stream, Rejection)> {
        let (head, chain) = match self.read(&mut stream).await {
            Ok(read) => read,
            Err(rejection) => return Err((stream, rejection)),
        };
        let stream = match (&self.shared.config.tls, self.is_proxy) {
            (Some(tls), true) => match tls.vouch(stream, chain).await {
                Ok(vouched) => Stream::Vouched(Box::new(vouched)),
                Err((error, stream)) => return Err((stream, Rejection::Untrusted(error))),
            },
            _ => stream,
        };
        match self.decide(&stream, head) {
            Ok(admitted) => Ok((stream, admitted)),
            Err(rejection) => Err((stream, rejection)),
        }
    }

    /// Reads the request, and the certificates that a proxy hands on.
    async fn read(&self, stream: &mut Stream) -> Result<(Head, Vec<Vec<u8>>), Rejection> {
        let config = &self.shared.config;
        // A listener without TLS that has proxies is theirs alone.
        if !self.is_proxy && !stream.is_secure() && !self.place.proxies.is_empty() {
            return Err(Rejection::NoProxy);
        }
        let head = accept::read(stream, config.limits.max_head);
        let head = timeout(config.limits.handshake, head).await;
        let head = head.map_err(|_| Rejection::Late)??;
        let chain = forwarded::certificates(head.request.headers());
        if !self.is_proxy && chain != Ok(Vec::new()) {
            return Err(Rejection::Foreign);
        }
        Ok((head, chain?))
    }

    fn decide(&self, stream: &Stream, head: Head) -> Result<Admitted, Rejection> {
        let (config, peers) = (&self.shared.config, &self.shared.peers);
        let identity = stream.identity();
        let certifies = |id: &EndpointId| proves(identity.as_deref(), id);
        let path = &self.place.path;
        let (admission, response) = accept::admit(&head, path, &config.endpoint_id, certifies)?;
        // Who comes again does not make them more.
        let named = admission.peer.as_ref();
        let again = named.is_some_and(|id| peers.with(id).is_some());
        let max = config.limits.max_sessions + usize::from(again);
        let secure = stream.is_secure();
        let line = Line::new(
            &config.session,
            Opener::Peer,
            secure,
            Some(&self.place.name),
        );
        let seat = peers.enter(&line.0, max).ok_or(Rejection::Full)?;
        Ok(Admitted {
            head,
            peer: admission.peer,
            response,
            line,
            seat,
        })
    }
}
