//! What an ERROR-CODE says.

use std::fmt;

/// Why a request was refused (RFC 3489 §11.2.9): 100 to 699.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorCode(u16);

impl ErrorCode {
    /// The request was malformed.
    pub const BAD_REQUEST: Self = Self(400);
    /// The request must come again with MESSAGE-INTEGRITY.
    pub const UNAUTHORIZED: Self = Self(401);
    /// The request has a mandatory attribute that the server does not know.
    pub const UNKNOWN_ATTRIBUTE: Self = Self(420);
    /// The username is not known (any more).
    pub const STALE_CREDENTIALS: Self = Self(430);
    /// The MESSAGE-INTEGRITY is wrong.
    pub const INTEGRITY_CHECK_FAILURE: Self = Self(431);
    /// The request has MESSAGE-INTEGRITY and no USERNAME.
    pub const MISSING_USERNAME: Self = Self(432);
    /// The server has a temporary fault; the request may come again.
    pub const SERVER_ERROR: Self = Self(500);
    /// The server refuses for good.
    pub const GLOBAL_FAILURE: Self = Self(600);

    /// A code of 100 to 699.
    pub fn new(code: u16) -> Option<Self> {
        (100..700).contains(&code).then_some(Self(code))
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }

    /// A phrase for people, of a length that is a multiple of four (RFC 3489 §11.2.9).
    pub fn reason(self) -> &'static str {
        match self {
            Self::BAD_REQUEST => "Bad Request ",
            Self::UNAUTHORIZED => "Unauthorized",
            Self::UNKNOWN_ATTRIBUTE => "Unknown Attribute   ",
            Self::STALE_CREDENTIALS => "Stale Credentials   ",
            Self::INTEGRITY_CHECK_FAILURE => "Integrity Check Failure ",
            Self::MISSING_USERNAME => "Missing Username",
            Self::SERVER_ERROR => "Server Error",
            Self::GLOBAL_FAILURE => "Global Failure  ",
            _ => "Error   ",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.reason().trim_end())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_lengths_that_are_multiples_of_four() {
        for code in (100..700).filter_map(ErrorCode::new) {
            assert_eq!(code.reason().len() % 4, 0, "{code}");
        }
        assert_eq!(ErrorCode::new(99), None);
        assert_eq!(ErrorCode::new(700), None);
    }
}
