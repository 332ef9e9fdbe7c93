//! What a message is encoded in.

use std::fmt;

/// The encoding of a notification message, whatever number a generation gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MediaType {
    /// `application/yang-data+json`.
    Json,
    /// `application/yang-data+xml`.
    Xml,
    /// `application/yang-data+cbor`.
    Cbor,
    /// Protocol Buffers, in the header of pub-channel only.
    Gpb,
    /// The private space of the S flag, 0 to 15: agreed upon by its users.
    Private(u8),
    /// A number that the message's generation gives no meaning, or reserves, 0 to 15.
    Unassigned(u8),
}

impl MediaType {
    /// The name used in configurations and outputs: `json`, `xml`, `cbor`, `gpb`, `private`, `unassigned`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Xml => "xml",
            Self::Cbor => "cbor",
            Self::Gpb => "gpb",
            Self::Private(_) => "private",
            Self::Unassigned(_) => "unassigned",
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private(code) | Self::Unassigned(code) => write!(f, "{} {code}", self.name()),
            _ => f.write_str(self.name()),
        }
    }
}
