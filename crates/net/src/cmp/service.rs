//! What answers requests: an RA, a CA, or something in front of one.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use homefleet_cmp::asn1::{Body, Failure, Limits, Message, Status as PkiStatus};
use homefleet_coap::{Code, content_format};
use homefleet_trust::PeerIdentity;

use super::bulletin::Bulletin;
use super::target::Target;

/// The tag of an `error` body (RFC 9810 §5.1.2).
const ERROR: u8 = 0xa0 | 23;

/// Failures that are more than a bad request, the gravest first.
const FAILURES: &[(Failure, Status)] = &[
    (Failure::SystemFailure, Status::Failure),
    (Failure::SystemUnavail, Status::Unavailable),
    (Failure::TimeNotAvailable, Status::Unavailable),
    (Failure::NotAuthorized, Status::Forbidden),
    (Failure::BadMessageCheck, Status::Unauthorized),
    (Failure::SignerNotTrusted, Status::Unauthorized),
    (Failure::WrongIntegrity, Status::Unauthorized),
    (Failure::TransactionIdInUse, Status::Conflict),
    (Failure::DuplicateCertReq, Status::Conflict),
    (Failure::CertConfirmed, Status::Conflict),
];

/// A future behind a pointer, so that a trait object can return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Answers what comes over any of the four schemes.
pub trait Service: Send + Sync + 'static {
    /// Answers one message. It may take its time: over CoAP the answer then comes separately (RFC 9482 §2.3), and a requester that has
    /// stopped waiting is told nothing.
    fn answer(self: Arc<Self>, request: Request) -> BoxFuture<'static, Answer>;

    /// Whether the bare `/.well-known/cmp` is served, for discovery (RFC 9482 §2.2).
    fn is_bare(&self) -> bool {
        true
    }

    /// The labels that are served besides the bare `/.well-known/cmp`, for discovery (RFC 9482 §2.2).
    fn labels(&self) -> Vec<String> {
        Vec::new()
    }

    /// What is announced under a label, or without one, to those who asked for this host (RFC 9482 §2.6). `None`: announcements are not
    /// served there. It is asked from inside of the endpoint, so it must not wait.
    fn bulletin(&self, label: Option<&str>, host: Option<&str>) -> Option<Bulletin> {
        let _ = (label, host);
        None
    }

    /// What else is served, for discovery: paths without their leading slash, such as `pki/ca.crl`, with what is there. A path with
    /// [`Media::Ocsp`] takes OCSP requests by POST, every other one is read by GET.
    fn files(&self) -> Vec<(String, Media)> {
        Vec::new()
    }

    /// The file at a path of [`Service::files`], without leading slash; `None` when there is none.
    fn file(self: Arc<Self>, path: &str) -> BoxFuture<'static, Option<File>> {
        drop(path.to_owned());
        Box::pin(async { None })
    }

    /// Answers an OCSP request (RFC 6960), both in DER; `None` when OCSP is not served.
    fn ocsp(self: Arc<Self>, request: Vec<u8>) -> BoxFuture<'static, Option<Vec<u8>>> {
        drop(request);
        Box::pin(async { None })
    }
}

/// A message, and how it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Where it was sent to.
    pub target: Target,
    /// The PKIMessage as it came, DER: nothing was looked at but its size.
    pub message: Vec<u8>,
    /// Who sent it; behind a proxy, that.
    pub from: SocketAddr,
    /// Over which scheme.
    pub scheme: Scheme,
    /// The host that was asked for, where that was said: by Uri-Host, by the Host of HTTP, or by the name that DTLS or TLS was opened for.
    pub host: Option<String>,
    /// Who it is, where (D)TLS has shown a certificate of somebody that is trusted here; the usual is that nobody is, and the message's own
    /// protection has to say who asks.
    pub identity: Option<Arc<PeerIdentity>>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("target", &self.target)
            .field("bytes", &self.message.len())
            .field("from", &self.from)
            .field("scheme", &self.scheme)
            .field("host", &self.host)
            .field(
                "identity",
                &self.identity.as_ref().map(|peer| &peer.subject),
            )
            .finish()
    }
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A PKIMessage; [`Answer::message`] finds the status.
    Message {
        /// The message, DER.
        bytes: Vec<u8>,
        /// What the response's code says.
        status: Status,
    },
    /// There is no such label, or no such operation here.
    NoSuchTarget,
    /// The service is busy, or not ready yet; nothing was done.
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// This requester asks for too much; nothing was done.
    TooMany {
        /// When to try again.
        retry_after: Duration,
    },
    /// There is no answer, and never will be: what came deserves none.
    Refused(Status),
    /// The server behind this one gave no answer.
    Gateway(Gateway),
}

/// What became of a message that was passed on (RFC 7252 §10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gateway {
    /// There is no connection to the server, or what it answers is not understood: 5.02, or 502.
    Bad,
    /// The server did not answer in time: 5.04, or 504.
    Timeout,
}

impl Answer {
    /// An answer with the status that belongs to its body, see [`Status::of`].
    pub fn message(bytes: Vec<u8>) -> Self {
        let status = Status::of(&bytes);
        Self::Message { bytes, status }
    }
}

/// What becomes of a request as far as the transfer is concerned. The reasons are in decision 0008.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It was processed: also when a certificate or a revocation was denied, or is still to be decided about.
    Ok,
    /// It is not what it should be.
    BadRequest,
    /// Nobody believes who sent it: protection that is missing, wrong, or of somebody unknown.
    Unauthorized,
    /// The sender may not do that.
    Forbidden,
    /// It contradicts what is under way.
    Conflict,
    /// The server failed.
    Failure,
    /// The server cannot do it now.
    Unavailable,
}

impl Status {
    /// The status of an answer in DER: anything but an `error` body is [`Status::Ok`]; of an `error` body the failInfo decides, unless it only
    /// says that the answer is still to come (RFC 9483 §4.4).
    pub fn of(message: &[u8]) -> Self {
        if body_tag(message) != Some(ERROR) {
            return Self::Ok;
        }
        let Ok(message) = Message::decode(message, &Limits::default()) else {
            // Not ours to judge: a CA behind us may send what we cannot read.
            return Self::Failure;
        };
        let Body::Error(error) = &*message.body else {
            return Self::Ok;
        };
        let info = &error.status_info;
        if info.status() == PkiStatus::WAITING {
            return Self::Ok;
        }
        FAILURES
            .iter()
            .find(|(failure, _)| info.has(*failure))
            .map_or(Self::BadRequest, |(_, status)| *status)
    }

    /// The status of a refusal by its failInfo.
    pub(super) fn of_failure(failure: Failure) -> Self {
        FAILURES
            .iter()
            .find(|(known, _)| *known == failure)
            .map_or(Self::BadRequest, |(_, status)| *status)
    }

    /// The code of a CoAP response.
    pub fn coap(self) -> Code {
        match self {
            Self::Ok => Code::CHANGED,
            Self::BadRequest => Code::BAD_REQUEST,
            Self::Unauthorized => Code::UNAUTHORIZED,
            Self::Forbidden => Code::FORBIDDEN,
            Self::Conflict => Code::CONFLICT,
            Self::Failure => Code::INTERNAL_SERVER_ERROR,
            Self::Unavailable => Code::SERVICE_UNAVAILABLE,
        }
    }
}

/// The URI scheme that a message travels over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// CoAP over UDP (RFC 9482).
    Coap,
    /// CoAP over DTLS (RFC 9482 §4).
    Coaps,
    /// HTTP (RFC 9811).
    Http,
    /// HTTP over TLS (RFC 9811).
    Https,
}

impl Scheme {
    /// The scheme of a URL, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Coap, Self::Coaps, Self::Http, Self::Https]
            .into_iter()
            .find(|scheme| scheme.as_str().eq_ignore_ascii_case(text))
    }

    /// As in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coap => "coap",
            Self::Coaps => "coaps",
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port when the URL names none (RFC 9482 §2.2).
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Coap => 5683,
            Self::Coaps => 5684,
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// Whether it is CoAP rather than HTTP.
    pub const fn is_coap(self) -> bool {
        matches!(self, Self::Coap | Self::Coaps)
    }

    /// Whether it is over DTLS or TLS.
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::Coaps | Self::Https)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Something to read besides CMP: a CRL, certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// What it is.
    pub media: Media,
    /// Its bytes.
    pub bytes: Arc<Vec<u8>>,
    /// How long it may be kept without asking again.
    pub max_age: Duration,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Media {
    /// One certificate, DER.
    Certificate,
    /// Certificates, PKCS #7 without signatures.
    Certificates,
    /// A CRL, DER. CoAP has no format of its own for it.
    Crl,
    /// OCSP requests and responses, DER. CoAP has no formats of its own for them.
    Ocsp,
}

impl Media {
    /// The Content-Format over CoAP.
    pub fn content_format(self) -> u16 {
        match self {
            Self::Certificate => 287,
            Self::Certificates => 281,
            Self::Crl | Self::Ocsp => content_format::OCTET_STREAM,
        }
    }

    /// The media type over HTTP, of what is sent to a requester.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Certificate => "application/pkix-cert",
            Self::Certificates => "application/pkcs7-mime; smime-type=certs-only",
            Self::Crl => "application/pkix-crl",
            Self::Ocsp => "application/ocsp-response",
        }
    }
}

/// The tag of a PKIMessage's body, without reading more of the message than that takes.
fn body_tag(message: &[u8]) -> Option<u8> {
    let (SEQUENCE, inside, _) = element(message)? else {
        return None;
    };
    let (SEQUENCE, _, body) = element(inside)? else {
        return None;
    };
    body.first().copied()
}

/// Whether this is a PKIMessage as far as its outside goes: a SEQUENCE without anything after it, of a header and one of the bodies.
pub(super) fn is_message(message: &[u8]) -> bool {
    let whole = matches!(element(message), Some((SEQUENCE, _, [])));
    whole && matches!(body_tag(message), Some(0xa0..=0xba))
}

const SEQUENCE: u8 = 0x30;

/// Tag and content of the first element of some DER, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut len = usize::from(first);
    if first >= 0x80 {
        let (bytes, after) = rest.split_at_checked(len & 0x7f)?;
        if bytes.len() > 4 {
            return None;
        }
        len = bytes
            .iter()
            .fold(0, |len, byte| len << 8 | usize::from(*byte));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(len)?;
    Some((tag, content, after))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn error(status: PkiStatus, failure: Option<Failure>) -> Vec<u8> {
        use homefleet_cmp::asn1::{ErrorMsg, GeneralName, Header, Kept, Name, StatusInfo};

        let mut info = match failure {
            Some(failure) => StatusInfo::rejection(failure, "no"),
            None => StatusInfo::new(status),
        };
        info.status = status.0;
        let nobody = GeneralName::directory(&Name::null()).unwrap();
        let header = Header::new(2, nobody.clone(), nobody);
        let message = Message {
            header: Kept::new(header).unwrap(),
            body: Kept::new(Body::Error(ErrorMsg::from(info))).unwrap(),
            protection: None,
            extra_certs: None,
        };
        message.encode().unwrap()
    }

    #[test]
    fn an_error_has_the_status_of_its_fail_info() {
        for (failure, status) in [
            (Failure::BadDataFormat, Status::BadRequest),
            (Failure::BadAlg, Status::BadRequest),
            (Failure::BadMessageCheck, Status::Unauthorized),
            (Failure::SignerNotTrusted, Status::Unauthorized),
            (Failure::NotAuthorized, Status::Forbidden),
            (Failure::TransactionIdInUse, Status::Conflict),
            (Failure::SystemUnavail, Status::Unavailable),
            (Failure::SystemFailure, Status::Failure),
        ] {
            let message = error(PkiStatus::REJECTION, Some(failure));
            assert_eq!(Status::of(&message), status, "{failure:?}");
        }
        assert_eq!(
            Status::of(&error(PkiStatus::REJECTION, None)),
            Status::BadRequest
        );
    }

    #[test]
    fn an_error_that_says_wait_is_a_success() {
        assert_eq!(Status::of(&error(PkiStatus::WAITING, None)), Status::Ok);
    }

    #[test]
    fn a_message_has_a_header_and_a_body_and_nothing_after_it() {
        let good = error(PkiStatus::WAITING, None);
        assert!(is_message(&good));
        let short = good.split_last().unwrap().1;
        for bad in [&b""[..], b"answer", short, &[&good[..], b"x"].concat()] {
            assert!(!is_message(bad), "{bad:x?}");
        }
        assert!(!is_message(b"\x30\x04\x30\x00\xbb\x00"));
    }

    #[test]
    fn whatever_is_no_error_is_a_success() {
        for bytes in [
            &b""[..],
            b"0",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\x80",
            b"hello",
            b"\x30\x02\x30\x00",
        ] {
            assert_eq!(Status::of(bytes), Status::Ok);
        }
        // An error that cannot be read is one all the same.
        assert_eq!(Status::of(b"\x30\x04\x30\x00\xb7\x00"), Status::Failure);
    }
}
