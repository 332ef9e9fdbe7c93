//! The operator's STUN server (TR-111 Part 2 §2.2.2.1): answers Binding Requests and learns on which bindings devices listen.
//!
//! One datagram comes in, at most one goes out: [`Server::handle_input`] writes it into a buffer of the caller's, so that nothing is allocated per request.
//! A request may be answered to the address it came from, or to another *port* there (RESPONSE-ADDRESS); never to another address, so that nobody can make this
//! server send to a third party.

mod bindings;
mod config;
mod wake;

use std::{net::SocketAddr, time::Instant};

use crate::stun::{Attribute, Builder, ErrorCode, Message, Method, Padding};
pub use bindings::Binding;
use bindings::{Bindings, Recent};
pub use config::{Authenticate, Credentials, ServerConfig};
pub use wake::{Wake, WakeConfig, Wakes, next_timestamp};

/// From which of the server's addresses a response leaves (RFC 3489 §8.1): that on which the request came, or the other one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Via {
    /// From the other address.
    pub other_address: bool,
    /// From the other port.
    pub other_port: bool,
}

/// Where the response in the buffer is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// To this address.
    pub to: SocketAddr,
    /// From this one of ours.
    pub via: Via,
}

/// What a datagram led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The response to send, in the buffer.
    pub reply: Option<Reply>,
    /// A device's binding that is new, or another one than before: its STUNUsername is given.
    pub learned: Option<Vec<u8>>,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerStats {
    /// Binding Requests.
    pub requests: u64,
    /// Binding Responses.
    pub responses: u64,
    /// Datagrams that are no STUN message, ignored.
    pub malformed: u64,
    /// Messages that are no Binding Request, ignored.
    pub unexpected: u64,
    /// Requests from an address that cannot be answered, ignored.
    pub unanswerable: u64,
    /// Requests with a mandatory attribute that is not known: 420.
    pub unknown_attributes: u64,
    /// Requests that must come again with MESSAGE-INTEGRITY: 401.
    pub unauthorized: u64,
    /// Requests with an unknown USERNAME, or without one: 430, 432.
    pub unknown_users: u64,
    /// Requests with a wrong MESSAGE-INTEGRITY: 431.
    pub forged: u64,
    /// RESPONSE-ADDRESSes that were not the requester's own, or no address to send to, not followed.
    pub foreign_responses: u64,
    /// Authenticated requests that came again with a transaction ID that was taken already.
    pub repeated: u64,
    /// Bindings learned, changes counted.
    pub learned: u64,
    /// Bindings that were not kept because there are too many.
    pub full: u64,
}

/// The server: its bindings, and what it must remember to take a request once.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    bindings: Bindings,
    recent: Recent,
    stats: ServerStats,
}

impl Server {
    /// A server without bindings.
    pub fn new(config: ServerConfig) -> Self {
        Self {
            bindings: Bindings::new(config.max_bindings),
            recent: Recent::new(config.max_recent),
            config,
            stats: ServerStats::default(),
        }
    }

    /// Counters since the start.
    pub fn stats(&self) -> ServerStats {
        self.stats
    }

    /// Takes a datagram that came to `local`, our own address. The answer, if any, is in `out`; what was in it goes.
    pub fn handle_input(
        &mut self,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        datagram: &[u8],
        credentials: &impl Credentials,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let Ok(message) = Message::decode(datagram) else {
            self.stats.malformed += 1;
            return Outcome::default();
        };
        if message.method != Method::BindingRequest {
            self.stats.unexpected += 1;
            return Outcome::default();
        }
        if from.port() == 0 || from.ip().is_unspecified() || from.ip().is_multicast() {
            self.stats.unanswerable += 1;
            return Outcome::default();
        }
        self.stats.requests += 1;
        let request = Request::read(&message);
        match self.judge(&message, &request, credentials) {
            Ok(proven) => {
                let learned = proven
                    .as_ref()
                    .filter(|_| request.listening)
                    .and_then(|proven| self.learn(now, local, from, &message, proven.username));
                let reply = self.respond(local, from, &message, &request, proven, out);
                Outcome {
                    reply: Some(reply),
                    learned,
                }
            }
            Err(code) => {
                refuse(&message, code, out);
                let via = Via::default();
                Outcome {
                    reply: Some(Reply { to: from, via }),
                    learned: None,
                }
            }
        }
    }

    /// Whether a request may be answered, and by whom it is when it proves that (RFC 3489 §8.1, §8.2).
    fn judge<'a>(
        &mut self,
        message: &Message<'a>,
        request: &Request,
        credentials: &'a impl Credentials,
    ) -> Result<Option<Proven<'a>>, ErrorCode> {
        if message.unknown_mandatory().next().is_some() {
            self.stats.unknown_attributes += 1;
            return Err(ErrorCode::UNKNOWN_ATTRIBUTE);
        }
        let Some(integrity) = message.integrity() else {
            if self
                .config
                .authenticate
                .asks(request.listening, request.changed)
            {
                self.stats.unauthorized += 1;
                return Err(ErrorCode::UNAUTHORIZED);
            }
            return Ok(None);
        };
        let Some(username) = message.username() else {
            self.stats.unknown_users += 1;
            return Err(ErrorCode::MISSING_USERNAME);
        };
        let Some(password) = credentials.password(username) else {
            self.stats.unknown_users += 1;
            return Err(ErrorCode::STALE_CREDENTIALS);
        };
        let Some(padding) = integrity.verify(password) else {
            self.stats.forged += 1;
            return Err(ErrorCode::INTEGRITY_CHECK_FAILURE);
        };
        Ok(Some(Proven {
            username,
            password,
            padding,
        }))
    }

    /// Records the binding of an authenticated request, once for its transaction ID (§2.2.2.2.1).
    fn learn(
        &mut self,
        now: Instant,
        local: SocketAddr,
        from: SocketAddr,
        message: &Message<'_>,
        username: &[u8],
    ) -> Option<Vec<u8>> {
        if !self.recent.first(message.transaction, from) {
            self.stats.repeated += 1;
            return None;
        }
        match self.bindings.record(now, username, from, local) {
            Some(true) => {
                self.stats.learned += 1;
                Some(username.to_vec())
            }
            Some(false) => None,
            None => {
                self.stats.full += 1;
                None
            }
        }
    }

    /// A Binding Response (RFC 3489 §8.1).
    fn respond(
        &mut self,
        local: SocketAddr,
        from: SocketAddr,
        message: &Message<'_>,
        request: &Request,
        proven: Option<Proven<'_>>,
        out: &mut Vec<u8>,
    ) -> Reply {
        let other = self.config.other_of(local);
        let via = if other.is_some() {
            request.change
        } else {
            Via::default()
        };
        let source = other.map_or(local, |other| pick(local, other, via));
        let everything = Via {
            other_address: true,
            other_port: true,
        };
        let changed = other.map_or(local, |other| pick(local, other, everything));
        let to = self.response_to(from, request);
        // Who speaks RFC 5389 may understand only this one; to others it is an unknown mandatory attribute.
        let cookie = message.transaction.has_cookie();
        let masked = cookie.then_some(Attribute::XorMappedAddress(from));
        let reflected = (to != from).then_some(Attribute::ReflectedFrom(from));
        let buffer = std::mem::take(out);
        let builder = Builder::reuse(buffer, Method::BindingResponse, message.transaction)
            .attribute(Attribute::MappedAddress(from))
            .attribute(Attribute::SourceAddress(source))
            .attribute(Attribute::ChangedAddress(changed))
            .optional(reflected)
            .optional(masked);
        *out = match proven {
            Some(proven) => builder.protect(proven.password, proven.padding),
            None => builder.build(),
        };
        self.stats.responses += 1;
        Reply { to, via }
    }

    /// RESPONSE-ADDRESS, when it is at the requester's own address.
    fn response_to(&mut self, from: SocketAddr, request: &Request) -> SocketAddr {
        match request.response {
            None => from,
            Some(to) if to.ip() == from.ip() && to.port() != 0 => to,
            Some(_) => {
                self.stats.foreign_responses += 1;
                from
            }
        }
    }

    /// The address of ours from which a response to what came to `local` leaves.
    pub fn source(&self, local: SocketAddr, via: Via) -> SocketAddr {
        self.config
            .other_of(local)
            .map_or(local, |other| pick(local, other, via))
    }

    /// The binding of a device, by its STUNUsername.
    pub fn binding(&self, username: &[u8]) -> Option<Binding> {
        self.bindings.get(username)
    }

    /// Puts back what was learned before a restart; what is older than what is there does not count.
    pub fn restore(&mut self, username: &[u8], binding: Binding) {
        if self
            .bindings
            .get(username)
            .is_none_or(|known| known.seen < binding.seen)
        {
            let _ = self.bindings.insert(username, binding);
        }
    }

    /// Forgets a device.
    pub fn forget(&mut self, username: &[u8]) {
        self.bindings.remove(username);
    }

    /// How many bindings are held.
    pub fn bindings(&self) -> usize {
        self.bindings.len()
    }
}

/// What a request asks for.
struct Request {
    listening: bool,
    changed: bool,
    response: Option<SocketAddr>,
    change: Via,
}

impl Request {
    fn read(message: &Message<'_>) -> Self {
        let mut request = Self {
            listening: false,
            changed: false,
            response: None,
            change: Via::default(),
        };
        for attribute in message.attributes() {
            match attribute {
                Attribute::ConnectionRequestBinding => request.listening = true,
                Attribute::BindingChange => request.changed = true,
                Attribute::ResponseAddress(to) if request.response.is_none() => {
                    request.response = Some(to);
                }
                Attribute::ChangeRequest { address, port } => {
                    request.change = Via {
                        other_address: address,
                        other_port: port,
                    };
                }
                _ => {}
            }
        }
        request
    }
}

/// Who a request is by, as its integrity proves.
struct Proven<'a> {
    username: &'a [u8],
    password: &'a [u8],
    /// As the request's, so that the device understands the answer.
    padding: Padding,
}

/// A Binding Error Response (RFC 3489 §8.2).
fn refuse(message: &Message<'_>, code: ErrorCode, out: &mut Vec<u8>) {
    let mut types = Vec::new();
    if code == ErrorCode::UNKNOWN_ATTRIBUTE {
        for kind in message.unknown_mandatory() {
            types.extend_from_slice(&kind.to_be_bytes());
        }
        // A multiple of four octets: the last type is repeated (RFC 3489 §11.2.10).
        if types.len() % 4 != 0 {
            types.extend_from_within(types.len() - 2..);
        }
    }
    let unknown = (!types.is_empty()).then_some(Attribute::UnknownAttributes(&types));
    let buffer = std::mem::take(out);
    *out = Builder::reuse(buffer, Method::BindingErrorResponse, message.transaction)
        .attribute(Attribute::ErrorCode(code))
        .optional(unknown)
        .build();
}

fn pick(local: SocketAddr, other: SocketAddr, via: Via) -> SocketAddr {
    let ip = if via.other_address {
        other.ip()
    } else {
        local.ip()
    };
    let port = if via.other_port {
        other.port()
    } else {
        local.port()
    };
    SocketAddr::new(ip, port)
}
