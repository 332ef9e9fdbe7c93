//! The publisher's session with its receiver: the client's side of DTLS, one association at a time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use homefleet_coap::SessionId;

use super::Dtls;
use crate::dtls::{
    CloseReason, Config, Credentials, Event, Expected, SendError, Sessions, Version,
};

/// Most bytes of one record (RFC 9147 §4, RFC 6347 §4.1).
const RECORD: usize = 16_384;
/// How often a decision that waits for evidence is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a look at the session brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The handshake has ended: messages may leave.
    Up(Version, &'static str),
    /// The session was made anew, the old one replaced.
    Renewed(Version, &'static str),
    /// There is no session any more, or none came to be.
    Over(String),
}

/// The session with one receiver over one socket.
pub(super) struct Session {
    sessions: Sessions,
    remote: SocketAddr,
    expected: Expected,
    renew_every: Duration,
    established: Option<SessionId>,
    renewing: Option<SessionId>,
    renew_at: Option<Instant>,
    look_again: Option<Instant>,
}

impl Session {
    /// Begins the handshake. `room` is what the path takes of UDP.
    ///
    /// # Errors
    /// When the engine refuses the credentials, in its words.
    pub(super) fn begin(
        dtls: &Dtls,
        host: &str,
        remote: SocketAddr,
        room: usize,
        now: Instant,
    ) -> Result<Self, String> {
        let config = Config {
            mtu: room,
            max_sessions: 2,
            handshake_timeout: dtls.handshake_timeout,
            idle_timeout: Duration::MAX,
            versions: dtls.versions,
            max_tickets: 4,
            ..Config::default()
        };
        let sessions = Sessions::new(config, dtls.credentials.clone(), dtls.verifier.clone())
            .map_err(|error| error.to_string())?;
        let mut session = Self {
            sessions,
            remote,
            expected: Expected {
                host: host.to_owned(),
                endpoint_id: None,
            },
            renew_every: dtls.renew_every,
            established: None,
            renewing: None,
            renew_at: None,
            look_again: None,
        };
        session.connect(now)?;
        Ok(session)
    }

    fn connect(&mut self, now: Instant) -> Result<(), String> {
        let id = self
            .sessions
            .connect(now, self.remote, self.expected.clone())
            .map_err(|error| error.to_string())?;
        self.renewing = Some(id);
        Ok(())
    }

    /// Uses other credentials for renewals.
    pub(super) fn replace_credentials(&mut self, credentials: Credentials) {
        if let Err(error) = self.sessions.replace_credentials(credentials) {
            tracing::error!(%error, "the new certificate is not used towards the receiver");
        }
    }

    /// Bytes that one record takes on a path with `room` for UDP.
    pub(super) fn room(&self, room: usize) -> usize {
        let overhead = RECORD_OVERHEAD;
        room.saturating_sub(overhead)
            .min(self.sessions.max_payload())
            .min(RECORD)
    }

    pub(super) fn handle_input(&mut self, now: Instant, datagram: &[u8]) {
        self.sessions.handle_input(now, self.remote, datagram);
    }

    /// Lets time pass: repetitions, renewals.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.sessions.handle_timeout(now);
        if self.look_again.is_some_and(|at| at <= now) {
            self.look_again = None;
            self.sessions.judge_again(now);
        }
        if self.renewing.is_none() && self.renew_at.is_some_and(|at| at <= now) {
            self.renew_at = None;
            if let Err(reason) = self.connect(now) {
                // The session that there is serves on.
                tracing::debug!(reason, "the session is not renewed");
                self.renew_at = Some(now + self.renew_every);
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.sessions.poll_timeout(), self.renew_at, self.look_again]
            .into_iter()
            .flatten()
            .min()
    }

    /// What happened; `None`: nothing that matters.
    pub(super) fn poll(&mut self, now: Instant) -> Option<News> {
        while let Some(event) = self.sessions.poll_event() {
            match event {
                Event::Established {
                    session,
                    version,
                    cipher,
                    resumed,
                    ..
                } => {
                    let renewed = self.established.replace(session).is_some();
                    self.renewing = None;
                    self.look_again = None;
                    if !self.renew_every.is_zero() {
                        self.renew_at = now.checked_add(self.renew_every);
                    }
                    tracing::debug!(%version, cipher, resumed, renewed, "session with the receiver");
                    return Some(if renewed {
                        News::Renewed(version, cipher)
                    } else {
                        News::Up(version, cipher)
                    });
                }
                // The new one is told next.
                Event::Closed {
                    reason: CloseReason::Replaced { .. },
                    ..
                } => {}
                Event::Closed {
                    session, reason, ..
                } if self.established == Some(session) => {
                    self.established = None;
                    return Some(News::Over(format!("the session ended: {reason:?}")));
                }
                Event::Refused {
                    session, decision, ..
                } if self.concerns(session) => {
                    let why = decision.refusal().map(ToString::to_string);
                    let why = why.unwrap_or_else(|| "no reason".to_owned());
                    return Some(News::Over(format!("its certificate was refused: {why}")));
                }
                Event::Failed {
                    session, failure, ..
                } if self.concerns(session) => {
                    return Some(News::Over(format!("the handshake failed: {failure:?}")));
                }
                Event::Held { .. } => self.look_again = Some(now + LOOK_AGAIN),
                // A receiver has nothing to say, and what it says is not ours to hear.
                _ => {}
            }
        }
        None
    }

    fn concerns(&self, session: SessionId) -> bool {
        self.renewing == Some(session) || self.established == Some(session)
    }

    /// The next datagram of the engine's own.
    pub(super) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.sessions
            .poll_transmit()
            .map(|transmit| transmit.payload)
    }

    /// One record with `message`; [`poll_transmit`](Self::poll_transmit) was drained before. Whatever else the engine wants to send
    /// comes before it in the list.
    pub(super) fn protect(
        &mut self,
        now: Instant,
        message: &[u8],
    ) -> Result<Vec<Vec<u8>>, SendError> {
        let id = self.established.ok_or(SendError::NotEstablished)?;
        self.sessions.send(now, id, message)?;
        let mut datagrams = Vec::with_capacity(1);
        while let Some(datagram) = self.poll_transmit() {
            datagrams.push(datagram);
        }
        Ok(datagrams)
    }

    /// Says close_notify (-26 §6.1.3).
    pub(super) fn close(&mut self, now: Instant) {
        self.sessions.close_all(now);
    }
}

/// Bytes that a record adds, as [`Sessions::max_payload`] reckons.
const RECORD_OVERHEAD: usize = 40;
