//! What can be wrong: with bytes from the network, with a transfer, and with a call.

use thiserror::Error;

use crate::code::Code;
use crate::message::Type;

/// What is wrong with a datagram (RFC 7252 §3, §4.1 to §4.3). Offsets count from the datagram's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FormatError {
    /// Shorter than the 4-byte header.
    #[error("{len} bytes are too short for the 4-byte header")]
    TooShort {
        /// Bytes received.
        len: usize,
    },
    /// A version other than 1 (RFC 7252 §3: silently ignored).
    #[error("version {0} instead of 1")]
    Version(u8),
    /// Token length 9 to 15 (RFC 7252 §3).
    #[error("token length {0} is reserved, at most 8")]
    TokenLength(u8),
    /// The datagram ends inside the token.
    #[error("the datagram ends inside the token")]
    TruncatedToken,
    /// Code class 1, 6 or 7 (RFC 7252 §3).
    #[error("code {0} is of a reserved class")]
    ReservedClass(Code),
    /// An Empty message with a token, options or payload (RFC 7252 §4.1).
    #[error("an Empty message has bytes after its header")]
    EmptyWithContent,
    /// A Non-confirmable Empty message (RFC 7252 §4.3).
    #[error("a Non-confirmable message is Empty")]
    EmptyNonConfirmable,
    /// A Reset with a code other than Empty (RFC 7252 §4.2).
    #[error("a Reset is not Empty")]
    ResetNotEmpty,
    /// An Acknowledgement that carries a request (RFC 7252 §4.2).
    #[error("an Acknowledgement carries a request")]
    RequestInAcknowledgement,
    /// Option delta 15 that is no payload marker (RFC 7252 §3.1).
    #[error("option at byte {offset}: delta 15 is reserved")]
    ReservedOptionDelta {
        /// Where the option starts.
        offset: usize,
    },
    /// Option length 15 (RFC 7252 §3.1).
    #[error("option at byte {offset}: length 15 is reserved")]
    ReservedOptionLength {
        /// Where the option starts.
        offset: usize,
    },
    /// An option number above 65535.
    #[error("option at byte {offset}: its number exceeds 65535")]
    OptionNumber {
        /// Where the option starts.
        offset: usize,
    },
    /// The datagram ends inside an option.
    #[error("option at byte {offset}: the datagram ends inside it")]
    TruncatedOption {
        /// Where the option starts.
        offset: usize,
    },
    /// A payload marker followed by nothing (RFC 7252 §3).
    #[error("payload marker at byte {offset} without payload")]
    MarkerWithoutPayload {
        /// Where the marker stands.
        offset: usize,
    },
}

/// A datagram that is no CoAP message, with as much of its header as can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{error}")]
pub struct DecodeError {
    /// What is wrong.
    pub error: FormatError,
    /// Type and message ID, unless the header is missing or of another version.
    pub header: Option<(Type, u16)>,
}

impl DecodeError {
    pub(crate) const fn without_header(error: FormatError) -> DecodeError {
        DecodeError {
            error,
            header: None,
        }
    }
}

/// What a peer did wrong in a block-wise transfer (RFC 7959).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BlockError {
    /// A block of another position than the one asked for.
    #[error("block at byte {found} instead of {expected}")]
    Unexpected {
        /// Where the body stands.
        expected: usize,
        /// Where the received block belongs.
        found: usize,
    },
    /// The reserved size exponent 7 (RFC 7959 §2.2).
    #[error("the reserved block size exponent 7")]
    ReservedSize,
    /// More blocks announced, but this one is not full (RFC 7959 §2.2).
    #[error("a block of {len} bytes instead of {size}, and more to follow")]
    Short {
        /// Payload bytes.
        len: usize,
        /// Block size.
        size: usize,
    },
    /// The ETag changed between blocks, more than once (RFC 7959 §2.4).
    #[error("the resource changed while it was being read")]
    Changed,
    /// The body needs a block number over 20 bits.
    #[error("the body has too many blocks of the size the peer wants")]
    TooManyBlocks,
}

/// Why a request has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// No acknowledgement after MAX_RETRANSMIT (RFC 7252 §4.2), or no response in time.
    #[error("the peer did not answer in time")]
    Timeout,
    /// The request asked for no response (RFC 7967), and none came: nobody knows what became of it.
    #[error("no response came, as the request asked")]
    Unanswered,
    /// The time for answers to a request to a group is over; those that came were told.
    #[error("the time for answers of the group is over")]
    GroupOver,
    /// The peer rejected the request with RST (RFC 7252 §4.2).
    #[error("the peer rejected the message with a Reset")]
    Reset,
    /// [`crate::Endpoint::cancel`] was called.
    #[error("the request was cancelled")]
    Cancelled,
    /// The response body exceeds [`crate::Config::max_body`].
    #[error("the response body is over the limit of {limit} bytes")]
    TooLarge {
        /// The configured limit.
        limit: usize,
    },
    /// [`crate::Endpoint::forget_peer`] was called.
    #[error("the association with the peer is gone")]
    PeerGone,
    /// A queue or table is full; see [`crate::Config::max_queue`] and [`crate::Config::max_requests`].
    #[error("too many requests are waiting")]
    QueueFull,
    /// Port 0, or an unspecified, multicast or broadcast address.
    #[error("no message can be sent to this address")]
    InvalidDestination,
    /// The code is not a method, or an option has a value outside its range.
    #[error("the request is not valid: option {option:?}")]
    Invalid {
        /// The offending option; `None` when the code is not a method.
        option: Option<u16>,
    },
    /// The response carries a critical option that is not understood (RFC 7252 §5.4.1).
    #[error("the response has critical option {option}, which is not understood")]
    BadResponse {
        /// The option's number.
        option: u16,
    },
    /// The peer broke the rules of block-wise transfer.
    #[error("block-wise transfer: {0}")]
    Block(BlockError),
    /// The server ended the observation (RFC 7641 §3.2).
    #[error("the server ended the observation")]
    ObservationEnded,
}

/// Why a response cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RespondError {
    /// The exchange was answered, expired, or its peer is gone.
    #[error("there is no such exchange")]
    UnknownExchange,
    /// The code is not a response code, or an option has a value outside its range.
    #[error("the response is not valid: option {option:?}")]
    Invalid {
        /// The offending option; `None` when the code is not a response code.
        option: Option<u16>,
    },
    /// The body exceeds what block numbers can address.
    #[error("the body is too large for block-wise transfer")]
    TooLarge,
}

/// Why an observer cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ObserveError {
    /// The exchange was answered, expired, or its peer is gone.
    #[error("there is no such exchange")]
    UnknownExchange,
    /// The request does not ask for notifications.
    #[error("the request has no Observe option of value 0")]
    NotAsked,
    /// Nobody has shown that the client is at its address ([`crate::Config::amplification`]).
    #[error("the client's address is not verified")]
    Unverified,
    /// [`crate::Config::max_observations`] or the limit per peer is reached.
    #[error("too many observations")]
    Limit,
    /// The observation ended.
    #[error("there is no such observation")]
    UnknownObservation,
    /// The notification is not a valid response.
    #[error(transparent)]
    Respond(#[from] RespondError),
}
