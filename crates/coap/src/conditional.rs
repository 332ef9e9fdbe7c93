//! What a resource owner decides by options before it acts: conditional requests (RFC 7252 §5.10.8), validation of
//! a stored response (§5.6.2), and the choice of a representation (§5.10.4).
//!
//! If-Match and If-None-Match are critical: a request that carries one is refused with 4.02 unless
//! [`crate::Config::conditional`] names its method and resource. Whoever is named there calls
//! [`Request::precondition`] before acting.
//!
//! ```
//! # use homefleet_coap::{Code, Request, Response, number};
//! # fn store(_: &[u8]) {}
//! fn put(request: &Request, current: Option<&[u8]>) -> Response {
//!     let proceed = match request.precondition(current) {
//!         Ok(proceed) => proceed,
//!         Err(refusal) => return refusal,
//!     };
//!     store(&request.payload);
//!     Response::new(proceed.stored())
//! }
//! let request = Request::put("a").option(number::IF_MATCH, b"old");
//! assert_eq!(put(&request, Some(b"new")).code, Code::PRECONDITION_FAILED);
//! assert_eq!(put(&request, Some(b"old")).code, Code::CHANGED);
//! ```

use std::time::Duration;

use crate::code::Code;
use crate::number;
use crate::options::Options;
use crate::request::{Request, Response};

/// Max-Age in seconds when a response has none (RFC 7252 §5.10.5).
pub const DEFAULT_MAX_AGE: u32 = 60;

/// A method on a resource, or on all below one, whose owner handles If-Match and If-None-Match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditional {
    method: Code,
    path: Vec<String>,
    below: bool,
}

impl Conditional {
    /// A method on a path like `"a/b"`; `"a/*"` stands for every resource below `a`, and `"*"` for every resource.
    pub fn new(method: Code, path: &str) -> Conditional {
        let path = path.strip_prefix('/').unwrap_or(path);
        let (path, below) = match path.strip_suffix('*') {
            Some(parent) => (parent.strip_suffix('/').unwrap_or(parent), true),
            None => (path, false),
        };
        let segments = path.split('/').map(str::to_owned);
        Conditional {
            method,
            path: if path.is_empty() {
                Vec::new()
            } else {
                segments.collect()
            },
            below,
        }
    }

    pub(crate) fn covers(&self, method: Code, options: &Options) -> bool {
        let mut asked = options.all(number::URI_PATH);
        self.method == method
            && self
                .path
                .iter()
                .all(|segment| asked.next() == Some(segment.as_bytes()))
            && (self.below || asked.next().is_none())
    }
}

/// The request's conditions hold: the method may be performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Proceed {
    exists: bool,
}

impl Proceed {
    /// The code of a PUT that succeeds: 2.04 for a resource that existed, 2.01 for one that is created (RFC 7252 §5.8.3).
    pub const fn stored(self) -> Code {
        if self.exists {
            Code::CHANGED
        } else {
            Code::CREATED
        }
    }
}

impl Request {
    /// Whether If-Match and If-None-Match allow the method on a resource in its current state (RFC 7252 §5.10.8).
    ///
    /// `current` is the ETag of the resource, empty when it has none, and `None` when there is no such resource.
    ///
    /// # Errors
    /// The 4.12 Precondition Failed to answer; the method must not be performed then.
    pub fn precondition(&self, current: Option<&[u8]>) -> Result<Proceed, Response> {
        let mut wanted = self.options.all(number::IF_MATCH).peekable();
        let exists = current.is_some();
        let matches = wanted.peek().is_none()
            // An empty If-Match asks for any state of an existing resource (§5.10.8.1).
            || wanted.any(|etag| exists && (etag.is_empty() || current == Some(etag)));
        let absent = self.options.contains(number::IF_NONE_MATCH);
        if matches && !(absent && exists) {
            Ok(Proceed { exists })
        } else {
            Err(Response::new(Code::PRECONDITION_FAILED))
        }
    }

    /// 2.03 Valid, when the client has a response stored with this ETag (RFC 7252 §5.6.2, §5.9.1.3); `None` when it
    /// needs the representation. Only GET and FETCH are answered so.
    pub fn validated(&self, current: &[u8]) -> Option<Response> {
        let stored =
            self.code.is_safe() && self.options.all(number::ETAG).any(|etag| etag == current);
        stored.then(|| Response::new(Code::VALID).etag(current))
    }

    /// The Content-Format to answer in, of those the resource has, the preferred one first (RFC 7252 §5.10.4).
    ///
    /// # Errors
    /// The 4.06 Not Acceptable to answer, when the client accepts another format only.
    pub fn negotiate(&self, offered: &[u16]) -> Result<u16, Response> {
        let chosen = match self.options.accept() {
            Some(accepted) => offered.iter().find(|format| **format == accepted),
            None => offered.first(),
        };
        chosen
            .copied()
            .ok_or_else(|| Response::new(Code::NOT_ACCEPTABLE))
    }

    /// Adds an If-Match: perform the method only in this state, or, when empty, only if the resource exists
    /// (RFC 7252 §5.10.8.1). May be added several times.
    #[must_use]
    pub fn if_match(self, etag: &[u8]) -> Request {
        self.option(number::IF_MATCH, etag)
    }

    /// Perform the method only if the resource does not exist (RFC 7252 §5.10.8.2).
    #[must_use]
    pub fn if_none_match(mut self) -> Request {
        self.options.set(number::IF_NONE_MATCH, b"");
        self
    }

    /// Adds an ETag of a response stored earlier, for 2.03 Valid (RFC 7252 §5.10.6.2). May be added several times.
    #[must_use]
    pub fn etag(self, etag: &[u8]) -> Request {
        self.option(number::ETAG, etag)
    }

    /// Asks for the size of the response's body (Size2 of value 0, RFC 7959 §4).
    #[must_use]
    pub fn ask_size(mut self) -> Request {
        self.options.set_size2(0);
        self
    }
}

impl Response {
    /// 2.01 Created, with the new resource's path like `"a/b"` (RFC 7252 §5.9.1.1, §5.10.7).
    pub fn created(path: &str) -> Response {
        let mut response = Response::new(Code::CREATED);
        response.options.set_location_path(path);
        response
    }

    /// Adds a Location-Query argument (RFC 7252 §5.10.7).
    #[must_use]
    pub fn location_query(mut self, argument: &str) -> Response {
        self.options
            .add(number::LOCATION_QUERY, argument.as_bytes());
        self
    }

    /// How long the response is fresh: Max-Age, 60 seconds without one (RFC 7252 §5.6.1).
    pub fn fresh_for(&self) -> Duration {
        let seconds = self.options.max_age().unwrap_or(DEFAULT_MAX_AGE);
        Duration::from_secs(u64::from(seconds))
    }
}
