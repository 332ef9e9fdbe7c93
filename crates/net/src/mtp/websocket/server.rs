//! Sessions that peers open (R-WS.6).

use std::net::SocketAddr;
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
use super::config::WebSocketListener;
use super::gate::Ticket;
use super::peers::{Line, Seat};
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

/// Accepts connections until it is told to stop.
pub(super) async fn listen(
    shared: Arc<Shared>,
    listener: TcpListener,
    name: Arc<str>,
    settings: Arc<WebSocketListener>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            // Told to, or nobody is there who could tell.
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => match shared.gate.enter(from.ip()) {
                Some((ticket, evicted)) => {
                    let arrival = Arrival {
                        shared: Arc::clone(&shared),
                        listener: Arc::clone(&name),
                        settings: Arc::clone(&settings),
                        from,
                    };
                    tokio::spawn(arrival.serve(stream, ticket, evicted));
                }
                None => count(&shared.counters.turned_away),
            },
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
    listener: Arc<str>,
    settings: Arc<WebSocketListener>,
    from: SocketAddr,
}

/// What the client asked for, who it says it is, and what it is answered.
struct Admitted {
    head: Head,
    peer: Option<EndpointId>,
    response: Response,
    seat: Seat,
}

impl Arrival {
    /// Makes a session of the connection, in time, and runs it.
    async fn serve(self, stream: TcpStream, ticket: Ticket, evicted: oneshot::Receiver<()>) {
        let mut stop = self.shared.stop.clone();
        let limit = self.shared.config.limits.handshake;
        let opened = tokio::select! {
            opened = timeout(limit, self.open(stream)) => opened,
            _ = evicted => return,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let (counters, from) = (&self.shared.counters, self.from);
        match opened {
            Ok(Ok((opened, seat))) => {
                ticket.is_established();
                count(&counters.accepted);
                session::run(Arc::clone(&self.shared), opened).await;
                drop(seat);
            }
            Ok(Err(failure)) => {
                count(match &failure {
                    Failure::Tls(_) => &counters.tls_failed,
                    Failure::Rejected(Rejection::Full) => &counters.turned_away,
                    Failure::Rejected(_) => &counters.handshakes_refused,
                });
                tracing::debug!(%from, %failure, "a connection came to no WebSocket session");
            }
            Err(_) => {
                count(&counters.handshakes_late);
                tracing::debug!(%from, "a connection took too long to come to a WebSocket session");
            }
        }
    }

    async fn open(&self, stream: TcpStream) -> Result<(Opened, Seat), Failure> {
        // Records are written whole; waiting for more only makes them late.
        let _best_effort = stream.set_nodelay(true);
        let config = &self.shared.config;
        let mut stream = match &config.tls {
            Some(tls) if self.settings.secure => tls.accept_from(stream, self.from).await?.into(),
            _ => Stream::Tcp(stream),
        };
        let secure = stream.is_secure();
        let line = Line::new(&config.session, Opener::Peer, secure, Some(&self.listener));
        let admitted = match self.admit(&mut stream, &line.0).await {
            Ok(admitted) => admitted,
            Err(rejection) => {
                // Whether the peer reads it is its own affair.
                let _said = accept::refuse(&mut stream, &rejection).await;
                return Err(rejection.into());
            }
        };
        let proof = Proof::of(&stream);
        let frames = accept::frames(config.session.max_record);
        let opened = Opened {
            stream: accept::answer(stream, admitted.head, &admitted.response, frames).await?,
            line,
            connection: None,
            peer: admitted.peer.or_else(|| proof.sole_endpoint()),
            proof,
            keep_alive: config.session.keep_alive,
            on_up: Box::new(|| {}),
        };
        Ok((opened, admitted.seat))
    }

    /// Reads what the client asks for, and decides.
    async fn admit(&self, stream: &mut Stream, line: &Arc<Line>) -> Result<Admitted, Rejection> {
        let (config, peers) = (&self.shared.config, &self.shared.peers);
        let head = accept::read(stream, config.limits.max_head).await?;
        let identity = stream.identity();
        let certifies = |id: &EndpointId| proves(identity.as_deref(), id);
        let path = &self.settings.path;
        let (admission, response) = accept::admit(&head, path, &config.endpoint_id, certifies)?;
        // Who comes again does not make them more.
        let again = admission
            .peer
            .as_ref()
            .is_some_and(|id| peers.with(id).is_some());
        let max = config.limits.max_sessions + usize::from(again);
        Ok(Admitted {
            head,
            peer: admission.peer,
            response,
            seat: peers.enter(line, max).ok_or(Rejection::Full)?,
        })
    }
}
