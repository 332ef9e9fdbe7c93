//! No-Response: which classes of responses a client does not want (RFC 7967).

use crate::code::Code;
use crate::number;
use crate::options::Options;
use crate::request::Request;

/// A set of response classes that a client has no interest in (RFC 7967 §2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NoResponse(u8);

impl NoResponse {
    /// Every response is wanted: the value 0.
    pub const NONE: NoResponse = NoResponse(0);
    /// No 2.xx.
    pub const SUCCESS: NoResponse = NoResponse(2);
    /// No 4.xx.
    pub const CLIENT_ERROR: NoResponse = NoResponse(8);
    /// No 5.xx.
    pub const SERVER_ERROR: NoResponse = NoResponse(16);
    /// No response at all.
    pub const ALL: NoResponse = NoResponse(2 | 8 | 16);

    /// A set from its option value; bits of classes that there are not are kept and mean nothing.
    pub const fn from_bits(bits: u8) -> NoResponse {
        NoResponse(bits)
    }

    /// The option value.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: NoResponse) -> NoResponse {
        NoResponse(self.0 | other.0)
    }

    /// Whether a response with this code is not wanted.
    pub const fn covers(self, code: Code) -> bool {
        let class = code.class();
        class >= 2 && class <= 5 && (self.0 >> (class - 1)) & 1 == 1
    }

    /// Whether no class of responses is wanted.
    pub const fn is_all(self) -> bool {
        self.0 & NoResponse::ALL.0 == NoResponse::ALL.0
    }
}

impl Options {
    /// No-Response (RFC 7967 §2); `None` when absent or malformed, which means that every response is wanted, but to a
    /// group's request only what tells something (RFC 7252 §8.2).
    pub fn no_response(&self) -> Option<NoResponse> {
        match self.first(number::NO_RESPONSE)? {
            [] => Some(NoResponse::NONE),
            [bits] => Some(NoResponse(*bits)),
            _ => None,
        }
    }
}

impl Request {
    /// Asks the server not to send responses of these classes (RFC 7967). If none comes, the request ends with
    /// [`crate::RequestError::Unanswered`]: at once, as far as no class is wanted.
    #[must_use]
    pub fn no_response(mut self, unwanted: NoResponse) -> Request {
        self.options
            .set_uint(number::NO_RESPONSE, u32::from(unwanted.bits()));
        self
    }
}
