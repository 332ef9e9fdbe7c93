//! Method and response codes (RFC 7252 §3 and §12.1).

use std::fmt;

/// A message's code: three bits of class, five bits of detail (RFC 7252 §3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u8);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $class:literal . $detail:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Code = Code(($class << 5) | $detail);)*

            /// The registered name, e.g. `"Changed"`, for diagnostics.
            pub fn name(self) -> Option<&'static str> {
                match self { $(Code::$name => Some(stringify!($name)),)* _ => None }
            }
        }
    };
}

codes! {
    /// 0.00 Empty message (RFC 7252 §4.1).
    EMPTY = 0 . 0;
    /// 0.01 GET (RFC 7252 §5.8.1).
    GET = 0 . 1;
    /// 0.02 POST (RFC 7252 §5.8.2).
    POST = 0 . 2;
    /// 0.03 PUT (RFC 7252 §5.8.3).
    PUT = 0 . 3;
    /// 0.04 DELETE (RFC 7252 §5.8.4).
    DELETE = 0 . 4;
    /// 0.05 FETCH (RFC 8132 §2).
    FETCH = 0 . 5;
    /// 0.06 PATCH (RFC 8132 §3).
    PATCH = 0 . 6;
    /// 0.07 iPATCH (RFC 8132 §3).
    IPATCH = 0 . 7;
    /// 2.01 Created (RFC 7252 §5.9.1.1).
    CREATED = 2 . 1;
    /// 2.02 Deleted (RFC 7252 §5.9.1.2).
    DELETED = 2 . 2;
    /// 2.03 Valid (RFC 7252 §5.9.1.3).
    VALID = 2 . 3;
    /// 2.04 Changed (RFC 7252 §5.9.1.4).
    CHANGED = 2 . 4;
    /// 2.05 Content (RFC 7252 §5.9.1.5).
    CONTENT = 2 . 5;
    /// 2.31 Continue (RFC 7959 §2.9.1).
    CONTINUE = 2 . 31;
    /// 4.00 Bad Request (RFC 7252 §5.9.2.1).
    BAD_REQUEST = 4 . 0;
    /// 4.01 Unauthorized (RFC 7252 §5.9.2.2).
    UNAUTHORIZED = 4 . 1;
    /// 4.02 Bad Option (RFC 7252 §5.9.2.3).
    BAD_OPTION = 4 . 2;
    /// 4.03 Forbidden (RFC 7252 §5.9.2.4).
    FORBIDDEN = 4 . 3;
    /// 4.04 Not Found (RFC 7252 §5.9.2.5).
    NOT_FOUND = 4 . 4;
    /// 4.05 Method Not Allowed (RFC 7252 §5.9.2.6).
    METHOD_NOT_ALLOWED = 4 . 5;
    /// 4.06 Not Acceptable (RFC 7252 §5.9.2.7).
    NOT_ACCEPTABLE = 4 . 6;
    /// 4.08 Request Entity Incomplete (RFC 7959 §2.9.2).
    REQUEST_ENTITY_INCOMPLETE = 4 . 8;
    /// 4.09 Conflict (RFC 8132 §3.4).
    CONFLICT = 4 . 9;
    /// 4.12 Precondition Failed (RFC 7252 §5.9.2.8).
    PRECONDITION_FAILED = 4 . 12;
    /// 4.13 Request Entity Too Large (RFC 7252 §5.9.2.9, RFC 7959 §2.9.3).
    REQUEST_ENTITY_TOO_LARGE = 4 . 13;
    /// 4.15 Unsupported Content-Format (RFC 7252 §5.9.2.10).
    UNSUPPORTED_CONTENT_FORMAT = 4 . 15;
    /// 4.22 Unprocessable Entity (RFC 8132 §3.4).
    UNPROCESSABLE_ENTITY = 4 . 22;
    /// 4.29 Too Many Requests (RFC 8516).
    TOO_MANY_REQUESTS = 4 . 29;
    /// 5.00 Internal Server Error (RFC 7252 §5.9.3.1).
    INTERNAL_SERVER_ERROR = 5 . 0;
    /// 5.01 Not Implemented (RFC 7252 §5.9.3.2).
    NOT_IMPLEMENTED = 5 . 1;
    /// 5.02 Bad Gateway (RFC 7252 §5.9.3.3).
    BAD_GATEWAY = 5 . 2;
    /// 5.03 Service Unavailable (RFC 7252 §5.9.3.4).
    SERVICE_UNAVAILABLE = 5 . 3;
    /// 5.04 Gateway Timeout (RFC 7252 §5.9.3.5).
    GATEWAY_TIMEOUT = 5 . 4;
    /// 5.05 Proxying Not Supported (RFC 7252 §5.9.3.6).
    PROXYING_NOT_SUPPORTED = 5 . 5;
    /// 5.08 Hop Limit Reached (RFC 8768).
    HOP_LIMIT_REACHED = 5 . 8;
}

impl Code {
    /// A code from its class (0 to 7) and detail (0 to 31); higher bits are cut off.
    pub const fn new(class: u8, detail: u8) -> Code {
        Code(((class & 7) << 5) | (detail & 31))
    }

    /// The code as it stands in the header's second byte.
    pub const fn from_byte(byte: u8) -> Code {
        Code(byte)
    }

    /// The header's second byte.
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// The class: 0 request or Empty, 2 success, 4 client error, 5 server error.
    pub const fn class(self) -> u8 {
        self.0 >> 5
    }

    /// The detail within the class.
    pub const fn detail(self) -> u8 {
        self.0 & 31
    }

    /// Whether this is the Empty code 0.00 (RFC 7252 §4.1).
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this is a method code, registered or not (0.01 to 0.31, RFC 7252 §12.1.1).
    pub const fn is_request(self) -> bool {
        self.0 >= 1 && self.0 <= 31
    }

    /// Whether this is a response code (class 2 to 5, RFC 7252 §12.1.2).
    pub const fn is_response(self) -> bool {
        self.class() >= 2 && self.class() <= 5
    }

    /// Whether this is a success response (class 2, RFC 7252 §5.9.1).
    pub const fn is_success(self) -> bool {
        self.class() == 2
    }

    /// Whether the class is reserved: 1, 6 or 7 (RFC 7252 §3 and §12.1).
    pub const fn is_reserved(self) -> bool {
        matches!(self.class(), 1 | 6 | 7)
    }

    /// Whether repeating the method has no effect of its own, so that a response body can be
    /// fetched anew (GET and FETCH; RFC 7252 §5.1, RFC 8132 §2.1).
    pub const fn is_safe(self) -> bool {
        matches!(self, Code::GET | Code::FETCH)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.class(), self.detail())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{self} {name}"),
            None => write!(f, "{self}"),
        }
    }
}
