//! Sessions that we open, and open again whenever they end (R-WS.5, R-WS.19 to R-WS.21).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use homefleet_usp::EndpointId;
use homefleet_usp::mtp::retry::{Retry, RetryPolicy};
use homefleet_usp::mtp::websocket::{CloseReason, HandshakeError, Opener, SUBPROTOCOL, handshake};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response, generate_key};
use tokio_tungstenite::tungstenite::http::{self, HeaderName, header};

use crate::mtp::{State, Status};
use crate::tls::{DialError, dial};

use super::Shared;
use super::accept;
use super::config::WebSocketConnection;
use super::peers::{Command, Line, Seat};
use super::session::{self, Opened, Proof};
use super::stats::count;

/// Whatever is configured, nobody is dialled more often.
const SHORTEST: Duration = Duration::from_millis(20);

/// Why an attempt came to no session.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("TLS is not set up here")]
    NoTls,
    #[error("sessions without TLS are not enabled here")]
    Plain,
    #[error("the address is not usable: {0}")]
    Address(http::Error),
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    #[error("the server answered {0}")]
    Status(http::StatusCode),
    #[error("{0}")]
    WebSocket(WsError),
    #[error("the opening handshake took too long")]
    Late,
    #[error("too many sessions")]
    Full,
}

/// How a connection of ours fares, for whoever asks.
#[derive(Debug)]
pub(super) struct Report(Mutex<Status>);

impl Report {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Status::connecting())))
    }

    pub(super) fn read(&self) -> Status {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn becomes(&self, state: State, failures: u32) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .becomes(state, failures);
    }
}

/// Keeps a session open as `settings` say, until they say nothing any more.
pub(super) async fn keep(
    shared: Arc<Shared>,
    name: String,
    settings: watch::Receiver<Option<WebSocketConnection>>,
    report: Arc<Report>,
) {
    let mut keeper = Keeper {
        shared,
        name,
        settings,
        report,
        retry: Retry::new(RetryPolicy::websocket(5, 2000)),
        peer: None,
    };
    while let Some(wanted) = keeper.wanted() {
        keeper.retry.set_policy(wanted.retry);
        keeper.once(wanted).await;
    }
}

struct Keeper {
    shared: Arc<Shared>,
    name: String,
    /// What is wanted; `None` for the end.
    settings: watch::Receiver<Option<WebSocketConnection>>,
    report: Arc<Report>,
    /// In memory only: a reboot begins anew (R-WS.21).
    retry: Retry,
    /// Who was there last.
    peer: Option<EndpointId>,
}

impl Keeper {
    fn wanted(&mut self) -> Option<WebSocketConnection> {
        if self.settings.has_changed().is_err() {
            return None;
        }
        self.settings.borrow_and_update().clone()
    }

    /// One session, or one attempt, and the wait after it.
    async fn once(&mut self, wanted: WebSocketConnection) {
        let mut settings = self.settings.clone();
        if let Some(peer) = wanted.endpoint_id.as_ref().or(self.peer.as_ref())
            && self.shared.peers.with(peer).is_some()
        {
            // It has opened one itself, and one is enough (R-WS.4).
            self.report.becomes(State::Up, 0);
            tokio::select! {
                () = self.shared.peers.absence(peer) => {}
                () = elsewhere(&mut settings, &wanted) => {
                    self.peer = None;
                    return;
                }
            }
        }
        self.report.becomes(State::Connecting, self.retry.count());
        let opened = tokio::select! {
            opened = self.connect(&wanted) => opened,
            () = elsewhere(&mut settings, &wanted) => {
                self.peer = None;
                return;
            }
        };
        let reason = match opened {
            Ok((opened, seat)) => {
                count(&self.shared.counters.opened);
                self.peer.clone_from(&opened.peer);
                let reason = self.run(opened, wanted).await;
                drop(seat);
                if self.report.read().is_up() {
                    self.retry.succeeded();
                }
                let stays = matches!(reason, CloseReason::Replaced) && self.peer.is_some();
                if stays || matches!(reason, CloseReason::Local | CloseReason::GoingAway) {
                    return;
                }
                reason.to_string()
            }
            Err(failure) => {
                count(&self.shared.counters.dials_failed);
                tracing::debug!(connection = self.name, %failure, "no WebSocket session");
                failure.to_string()
            }
        };
        let wait = self.retry.failed(getrandom::u32().unwrap_or(0));
        let wait = wait.max(SHORTEST);
        self.report
            .becomes(State::Error(reason), self.retry.count());
        tokio::select! {
            () = sleep(wait) => {}
            // With other settings it may work at once.
            _ = self.settings.changed() => self.settings.mark_changed(),
        }
    }

    /// Runs the session until it ends, or has to because of other settings.
    async fn run(&mut self, opened: Opened, mut wanted: WebSocketConnection) -> CloseReason {
        let line = Arc::clone(&opened.line.0);
        let running = session::run(Arc::clone(&self.shared), opened);
        tokio::pin!(running);
        loop {
            tokio::select! {
                reason = &mut running => return reason,
                changed = self.settings.changed() => {
                    let next = self.settings.borrow_and_update().clone();
                    match next.filter(|next| changed.is_ok() && next.leads_where(&wanted)) {
                        Some(next) => {
                            self.retry.set_policy(next.retry);
                            line.tell(Command::KeepAlive(next.keep_alive));
                            wanted = next;
                        }
                        None => {
                            self.peer = None;
                            line.tell(Command::Close(CloseReason::Local));
                            return running.await;
                        }
                    }
                }
            }
        }
    }

    async fn connect(&self, wanted: &WebSocketConnection) -> Result<(Opened, Seat), Failure> {
        let config = &self.shared.config;
        let expected = wanted.endpoint_id.as_ref();
        let tls = match &config.tls {
            Some(tls) if wanted.secure => Some((tls, expected.map(EndpointId::as_str))),
            None if wanted.secure => return Err(Failure::NoTls),
            _ if !config.allow_plain => return Err(Failure::Plain),
            _ => None,
        };
        let request = request(wanted, &config.endpoint_id)?;
        let stream = dial(wanted.bare_host(), wanted.port, tls).await?;
        let (proof, secure) = (Proof::of(&stream), stream.is_secure());
        let frames = accept::frames(config.session.max_record);
        let shaken = client_async_with_config(request, stream, Some(frames));
        let (stream, response) = match timeout(config.limits.handshake, shaken).await {
            Ok(shaken) => shaken.map_err(Failure::of)?,
            Err(_) => return Err(Failure::Late),
        };
        let named = check(&response, &config.endpoint_id, expected)?;
        let line = Line::new(&config.session, Opener::Us, secure, None);
        let seat = self.shared.peers.enter(&line.0, config.limits.max_sessions);
        let report = Arc::clone(&self.report);
        let opened = Opened {
            stream,
            line,
            connection: Some(self.name.clone()),
            peer: named.or_else(|| proof.sole_endpoint()),
            proof,
            keep_alive: wanted.keep_alive,
            on_up: Box::new(move || report.becomes(State::Up, 0)),
        };
        Ok((opened, seat.ok_or(Failure::Full)?))
    }
}

impl Failure {
    fn of(error: WsError) -> Self {
        match error {
            WsError::Http(response) => Self::Status(response.status()),
            WsError::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => {
                Self::Handshake(HandshakeError::Subprotocol)
            }
            error => Self::WebSocket(error),
        }
    }
}

/// Resolves when the settings want no session, or one that leads elsewhere.
async fn elsewhere(
    settings: &mut watch::Receiver<Option<WebSocketConnection>>,
    wanted: &WebSocketConnection,
) {
    let differ = |next: &Option<WebSocketConnection>| {
        next.as_ref().is_none_or(|next| !next.leads_where(wanted))
    };
    // Nobody is there who could want anything: the same.
    let _gone = settings.wait_for(differ).await;
}

/// The request of the opening handshake (R-WS.7, R-WS.10, R-WS.10b). The extension is not offered: R-WS.10a is no more, and an
/// Endpoint ID is no value that RFC 6455 §9.1 allows there, so that strict servers answer 400.
fn request(wanted: &WebSocketConnection, own: &EndpointId) -> Result<Request, Failure> {
    let scheme = if wanted.secure { "wss" } else { "ws" };
    let (authority, target) = (wanted.authority(), handshake::target(&wanted.path, own));
    Request::builder()
        .uri(format!("{scheme}://{authority}{target}"))
        .header(header::HOST, authority)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, generate_key())
        .header(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
        .body(())
        .map_err(Failure::Address)
}

/// Who the server says it is (R-WS.11b, R-WS.12).
fn check(
    response: &Response,
    own: &EndpointId,
    expected: Option<&EndpointId>,
) -> Result<Option<EndpointId>, HandshakeError> {
    let lines = |name: HeaderName| -> Vec<&str> {
        let lines = response.headers().get_all(name).into_iter();
        lines.filter_map(|line| line.to_str().ok()).collect()
    };
    let protocols = lines(header::SEC_WEBSOCKET_PROTOCOL);
    let extensions = lines(header::SEC_WEBSOCKET_EXTENSIONS);
    handshake::check_response(&protocols, &extensions, own, expected)
}
