//! Why there is no TLS connection, or none any more.

use std::fmt;
use std::io;
use std::sync::Arc;

use homefleet_trust::Decision;

/// Why there is no TLS connection.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// We refused the peer because of its certificate, or because it has none (R-MTP.1, R-MTP.4). It was told by the alert
    /// that the decision names, unless the decision came after the handshake.
    #[error("the peer was refused: {}", refusal(.0))]
    Refused(Box<Decision>),
    /// The decision about the peer waited for evidence in vain, or too many waited.
    #[error("the peer could not be decided about: the evidence about its revocation did not come")]
    Undecided,
    /// The peer sent this alert: it refused us, or understood nothing.
    #[error("the peer ended the handshake with alert {0}")]
    Alert(u8),
    /// The handshake did not end in time.
    #[error("the TLS handshake took too long")]
    Timeout,
    /// The oldest of too many handshakes at once.
    #[error("too many TLS handshakes are under way")]
    Evicted,
    /// The peer's address, or everybody together, began too many handshakes.
    #[error("too many TLS handshakes were begun")]
    OverBudget,
    /// The host is neither an address nor a name that a certificate can be about.
    #[error("`{0}` is neither an IP address nor a host name")]
    Host(String),
    /// The connection underneath failed.
    #[error("the connection failed in the TLS handshake: {0}")]
    Io(Arc<io::Error>),
    /// A protocol error, in the engine's words.
    #[error("TLS: {0}")]
    Engine(String),
}

fn refusal(decision: &Decision) -> String {
    decision
        .refusal()
        .map_or_else(|| "no reason given".to_owned(), ToString::to_string)
}

/// Why the peer of an open connection is not trusted any more.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Distrust {
    /// Judged again, it was refused: what the decision rests on changed or is out of date.
    Refused(Arc<Decision>),
    /// Judged again, the decision waited for evidence in vain.
    Undecided,
    /// It was accepted on nothing but first use and has said nothing for too long (R-SEC.6).
    Idle,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(decision) => write!(f, "judged again and refused: {}", refusal(decision)),
            Self::Undecided => {
                f.write_str("judged again, and the evidence about its revocation did not come")
            }
            Self::Idle => f.write_str("accepted on first use only, and silent for too long"),
        }
    }
}

impl std::error::Error for Distrust {}
