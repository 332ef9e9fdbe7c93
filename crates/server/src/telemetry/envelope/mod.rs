//! What a telemetry message says around its data: when, who, which subscription. Only that is read here; the data itself is
//! skipped, and read by [`Envelope::leaves`] when somebody wants its numbers.
//!
//! Known are `<notification>` (RFC 5277), `ietf-notification:notification`, `ietf-yp-notification:envelope`, and in them the
//! notifications of YANG-Push (RFC 8641: `push-update`, `push-change-update`), in XML, JSON (RFC 7951) and CBOR (RFC 9254).
//! What is none of these is an error that is counted; the message itself is kept and handed on all the same.

use std::ops::Range;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::Millis;

mod cbor;
mod json;
mod leaves;
mod xml;

pub use leaves::{Leaf, Leaves};

/// Deepest nesting that is followed.
const MAX_DEPTH: usize = 32;
/// Most members of an envelope.
const MAX_MEMBERS: usize = 64;
/// Longest text of an envelope that is kept, in bytes.
const MAX_TEXT: usize = 256;
/// Leaves that name an entry of a list, in the order in which they are looked for.
const KEYS: [&str; 5] = ["name", "id", "index", "key", "if-index"];
/// Most nodes of one message that are looked at for numbers.
const MAX_NODES: usize = 100_000;

/// How a message is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// CBOR (RFC 9254).
    Cbor,
    /// JSON (RFC 7951).
    Json,
    /// XML (RFC 7950).
    Xml,
}

impl Encoding {
    /// The name in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cbor => "cbor",
            Self::Json => "json",
            Self::Xml => "xml",
        }
    }
}

/// Which envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `<notification>` of RFC 5277, or `ietf-notification:notification`, its like in YANG.
    Notification,
    /// `ietf-yp-notification:envelope`.
    Envelope,
}

/// What stands around the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Which.
    pub shape: Shape,
    /// When the publisher says that it happened.
    pub event_time: Option<Millis>,
    /// Name that the publisher gives itself.
    pub hostname: Option<String>,
    /// Number of the notification at its publisher.
    pub sequence: Option<u64>,
    /// What the notification is, by its qualified name, for example `ietf-yang-push:push-update`.
    pub notification: Option<String>,
    /// Identifier of the subscription.
    pub subscription: Option<String>,
    encoding: Encoding,
    /// Where the notification's own content lies in the message.
    contents: Range<usize>,
}

/// Why a message has no envelope that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum EnvelopeError {
    /// A bound of depth or number was passed.
    #[error("it is deeper or has more parts than is followed")]
    Bound,
    /// XML with a document type declaration, a processing instruction or an entity of its own.
    #[error("it has a DTD, a processing instruction or an entity")]
    Forbidden,
    /// The bytes are not of the encoding that they are marked with.
    #[error("it is not well-formed {}", .0.as_str())]
    Malformed(Encoding),
    /// Well-formed, and no envelope that is known.
    #[error("it is none of the known envelopes")]
    Unknown,
}

impl EnvelopeError {
    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bound => "bound",
            Self::Forbidden => "forbidden",
            Self::Malformed(_) => "malformed",
            Self::Unknown => "unknown",
        }
    }
}

impl Envelope {
    /// Reads the envelope of a message; of the data only as much as is needed to step over it.
    ///
    /// # Errors
    /// When there is none, see [`EnvelopeError`].
    pub fn decode(encoding: Encoding, message: &[u8]) -> Result<Self, EnvelopeError> {
        match encoding {
            Encoding::Cbor => cbor::envelope(message),
            Encoding::Json => json::envelope(message),
            Encoding::Xml => xml::envelope(message),
        }
    }

    /// The numbers in the data, at most `limit`.
    ///
    /// # Errors
    /// When the data is deeper or larger than is followed, or not well-formed.
    pub fn leaves(&self, message: &[u8], limit: usize) -> Result<Leaves, EnvelopeError> {
        // What is told about subscriptions themselves (RFC 8639 §2.7) is no data.
        if self
            .notification
            .as_deref()
            .is_some_and(|name| local(name).starts_with("subscription-"))
        {
            return Ok(Leaves::default());
        }
        let contents = message
            .get(self.contents.clone())
            .ok_or(EnvelopeError::Malformed(self.encoding))?;
        let node = match self.encoding {
            Encoding::Cbor => cbor::node(contents)?,
            Encoding::Json => json::node(contents)?,
            Encoding::Xml => xml::node(contents)?,
        };
        Ok(leaves::collect(&node, limit))
    }

    fn new(shape: Shape, encoding: Encoding) -> Self {
        Self {
            shape,
            event_time: None,
            hostname: None,
            sequence: None,
            notification: None,
            subscription: None,
            encoding,
            contents: 0..0,
        }
    }

    /// Takes a member that is not the notification itself; whether it was one.
    fn take(&mut self, name: &str, value: &str) -> bool {
        match name {
            "event-time" | "eventTime" => self.event_time = instant(value),
            "hostname" | "sysName" => self.hostname = Some(short(value)),
            "sequence-number" | "sequenceNumber" => self.sequence = value.parse().ok(),
            _ => return false,
        }
        true
    }
}

/// The data of a message as a tree, whichever encoding it came in.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// Members in their order.
    Object(Vec<(String, Node)>),
    /// Entries.
    List(Vec<Node>),
    /// A number.
    Number(f64),
    /// A text, which may be a number too: 64-bit numbers are texts in JSON, and everything is in XML.
    Text(String),
    /// Nothing that could be a number.
    Other,
}

/// A name without its module.
fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

/// A text of bounded length.
fn short(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_TEXT);
    text.get(..end).unwrap_or_default().to_owned()
}

/// A date-and-time of YANG.
fn instant(text: &str) -> Option<Millis> {
    let time = OffsetDateTime::parse(text.trim(), &Rfc3339).ok()?;
    let millis = time.unix_timestamp_nanos() / 1_000_000;
    u64::try_from(millis).ok().map(Millis)
}

#[cfg(test)]
mod tests;
