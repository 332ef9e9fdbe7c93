//! What is answered: responses and their codes.

use std::time::Duration;

use aws_lc_rs::digest;
use homefleet_coap::{Code, Options, Response, number};

use super::limits::Over;
use crate::cmp::service::{Answer, File, Gateway, Media, Status};

/// When to come back to a server that has too much to do.
const LATER: Duration = Duration::from_secs(5);
/// Bytes of an ETag (RFC 7252 §5.10.6).
const ETAG: usize = 8;

/// The response to a CMP message, in the format of the request.
pub(super) fn response(answer: Answer, format: u16) -> Response {
    match answer {
        Answer::Message { bytes, status } => Response::new(status.coap())
            .content_format(format)
            .payload(bytes),
        Answer::NoSuchTarget => Response::new(Code::NOT_FOUND),
        Answer::Busy { retry_after } => later(Code::SERVICE_UNAVAILABLE, retry_after),
        Answer::TooMany { retry_after } => later(Code::TOO_MANY_REQUESTS, retry_after),
        Answer::Gateway(Gateway::Bad) => Response::new(Code::BAD_GATEWAY),
        Answer::Gateway(Gateway::Timeout) => Response::new(Code::GATEWAY_TIMEOUT),
        // Nothing to say is no success.
        Answer::Refused(Status::Ok) => Response::new(Code::INTERNAL_SERVER_ERROR),
        Answer::Refused(status) => Response::new(status.coap()),
    }
}

/// The response to a request over a limit.
pub(super) fn over(over: Over) -> Response {
    match over {
        Over::Client => later(Code::TOO_MANY_REQUESTS, LATER),
        Over::All => later(Code::SERVICE_UNAVAILABLE, LATER),
    }
}

/// Max-Age says when to try again (RFC 7252 §5.9.3.4, RFC 8516 §3): whole seconds, rounded up, one at least.
fn later(code: Code, after: Duration) -> Response {
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    Response::new(code).max_age(u32::try_from(seconds.max(1)).unwrap_or(u32::MAX))
}

/// A file, or only that the one which the client has is still good (RFC 7252 §5.10.6.2).
pub(super) fn file(file: Option<File>, request: &Options) -> Response {
    let Some(file) = file else {
        return Response::new(Code::NOT_FOUND);
    };
    let digest = digest::digest(&digest::SHA256, &file.bytes);
    let etag = digest.as_ref().get(..ETAG).unwrap_or_default();
    let max_age = u32::try_from(file.max_age.as_secs()).unwrap_or(u32::MAX);
    let known = request.all(number::ETAG).any(|known| known == etag);
    let response = if known {
        Response::new(Code::VALID)
    } else {
        Response::content(file.media.content_format(), file.bytes.to_vec())
    };
    response.etag(etag).max_age(max_age)
}

/// An OCSP response; what is asked for safely is content (RFC 8132 §2).
pub(super) fn ocsp(answer: Option<Vec<u8>>, method: Code) -> Response {
    let code = if method == Code::FETCH {
        Code::CONTENT
    } else {
        Code::CHANGED
    };
    match answer {
        Some(answer) => Response::new(code)
            .content_format(Media::Ocsp.content_format())
            .payload(answer),
        None => Response::new(Code::NOT_FOUND),
    }
}
