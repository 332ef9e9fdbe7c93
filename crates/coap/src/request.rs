//! Requests and responses as an application sees them: whole bodies, no message layer.

use crate::code::Code;
use crate::number;
use crate::options::Options;

/// A request with its whole body (RFC 7252 §5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Method.
    pub code: Code,
    /// Sent as Confirmable (`true`) or Non-confirmable messages.
    pub confirmable: bool,
    /// Options without Block1 and Size1, which the endpoint adds and removes itself.
    pub options: Options,
    /// The body.
    pub payload: Vec<u8>,
}

impl Request {
    /// A Confirmable request without options.
    pub fn new(code: Code) -> Request {
        Request {
            code,
            confirmable: true,
            options: Options::new(),
            payload: Vec::new(),
        }
    }

    fn with_path(code: Code, path: &str) -> Request {
        let mut request = Request::new(code);
        request.options.set_path(path);
        request
    }

    /// GET of a path like `"a/b"`.
    pub fn get(path: &str) -> Request {
        Request::with_path(Code::GET, path)
    }

    /// POST to a path like `"a/b"`.
    pub fn post(path: &str) -> Request {
        Request::with_path(Code::POST, path)
    }

    /// PUT to a path like `"a/b"`.
    pub fn put(path: &str) -> Request {
        Request::with_path(Code::PUT, path)
    }

    /// DELETE of a path like `"a/b"`.
    pub fn delete(path: &str) -> Request {
        Request::with_path(Code::DELETE, path)
    }

    /// FETCH from a path like `"a/b"`.
    pub fn fetch(path: &str) -> Request {
        Request::with_path(Code::FETCH, path)
    }

    /// Adds a Uri-Query argument (at most 255 bytes, RFC 7252 §5.10).
    #[must_use]
    pub fn query(mut self, argument: &str) -> Request {
        self.options.add_query(argument);
        self
    }

    /// Sets Uri-Host (RFC 7252 §5.10.1).
    #[must_use]
    pub fn host(mut self, host: &str) -> Request {
        self.options.set(number::URI_HOST, host.as_bytes());
        self
    }

    /// Sets the Content-Format.
    #[must_use]
    pub fn content_format(mut self, format: u16) -> Request {
        self.options.set_content_format(format);
        self
    }

    /// Sets Accept.
    #[must_use]
    pub fn accept(mut self, format: u16) -> Request {
        self.options.set_accept(format);
        self
    }

    /// Adds any option.
    #[must_use]
    pub fn option(mut self, number: u16, value: &[u8]) -> Request {
        self.options.add(number, value);
        self
    }

    /// Asks for notifications (Observe 0, RFC 7641 §3.1).
    #[must_use]
    pub fn observe(mut self) -> Request {
        self.options.set_observe(0);
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Request {
        self.payload = payload.into();
        self
    }

    /// Sends Non-confirmable messages (RFC 7252 §4.3).
    #[must_use]
    pub fn non_confirmable(mut self) -> Request {
        self.confirmable = false;
        self
    }
}

/// A response with its whole body (RFC 7252 §5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Response code.
    pub code: Code,
    /// Options; Block1, Block2 and Observe are the endpoint's own business.
    pub options: Options,
    /// The body.
    pub payload: Vec<u8>,
}

impl Response {
    /// A response without options and body.
    pub fn new(code: Code) -> Response {
        Response {
            code,
            options: Options::new(),
            payload: Vec::new(),
        }
    }

    /// 2.05 Content with a body.
    pub fn content(format: u16, payload: impl Into<Vec<u8>>) -> Response {
        Response::new(Code::CONTENT)
            .content_format(format)
            .payload(payload)
    }

    /// Sets a diagnostic payload: human-readable UTF-8, without Content-Format (RFC 7252 §5.5.2).
    #[must_use]
    pub fn diagnostic(mut self, text: &str) -> Response {
        self.options.remove(number::CONTENT_FORMAT);
        self.payload = text.as_bytes().to_vec();
        self
    }

    /// Sets the Content-Format.
    #[must_use]
    pub fn content_format(mut self, format: u16) -> Response {
        self.options.set_content_format(format);
        self
    }

    /// Sets Max-Age in seconds.
    #[must_use]
    pub fn max_age(mut self, seconds: u32) -> Response {
        self.options.set_max_age(seconds);
        self
    }

    /// Sets the ETag (1 to 8 bytes).
    #[must_use]
    pub fn etag(mut self, etag: &[u8]) -> Response {
        self.options.set_etag(etag);
        self
    }

    /// Adds any option.
    #[must_use]
    pub fn option(mut self, number: u16, value: &[u8]) -> Response {
        self.options.add(number, value);
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Response {
        self.payload = payload.into();
        self
    }
}
