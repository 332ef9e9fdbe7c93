//! CMP over HTTP and HTTPS (RFC 9811), and what else a PKI serves there: CRLs, CA certificates, OCSP (RFC 5280 §4.2.1.13, RFC 6960 §A.1).
//!
//! A PKIMessage is always answered with 200, also when it is an error message: that is CMP's to tell (RFC 9811 §3.4). Other codes say that
//! there is no PKIMessage in the answer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use homefleet_net::cmp::{
    Answer, File, Gateway, Media, Request as Asked, Scheme, Service, Status, Target,
};
use homefleet_net::dtls::{Credentials, Role, Verifier};
use homefleet_net::tls::{Tls, TlsConfig};
use homefleet_trust::{Decision, PeerIdentity};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// The media type of PKIMessages (RFC 9811 §3.3).
const PKIXCMP: &str = "application/pkixcmp";
/// The media type of OCSP requests (RFC 6960 §C.1).
const OCSP_REQUEST: &str = "application/ocsp-request";
/// Longest OCSP request in bytes, with many certificates in it.
const MAX_OCSP: usize = 16 * 1024;
/// Most connections at a time; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 4096;
/// Longest time between two requests, and for the head of one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed accept: out of descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(100);

type Reply = Response<Full<Bytes>>;

/// What every connection has in common.
pub(super) struct Front {
    /// What answers.
    pub(super) service: Arc<dyn Service>,
    /// Longest PKIMessage in bytes.
    pub(super) max_message: usize,
    /// TLS on every connection; `None`: HTTP without.
    pub(super) tls: Option<Tls>,
}

/// Accepts and answers until `stop` changes, then finishes what is under way.
pub(super) async fn serve(
    listener: TcpListener,
    front: Arc<Front>,
    mut stop: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, (stream, from)) = tokio::select! {
            accepted = accepted => match accepted {
                (Ok(permit), Ok(accepted)) => (permit, accepted),
                (_, accepted) => {
                    if let Err(error) = accepted {
                        tracing::warn!(%error, "an HTTP connection could not be accepted");
                    }
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
            _ = stop.changed() => break,
        };
        // Small answers to a requester that waits for them.
        drop(stream.set_nodelay(true));
        let caller = Arc::new(Caller {
            front: Arc::clone(&front),
            from,
            scheme: match front.tls {
                Some(_) => Scheme::Https,
                None => Scheme::Http,
            },
            identity: None,
        });
        let service = service_fn(move |request| {
            let caller = Arc::clone(&caller);
            async move { Ok::<_, Infallible>(caller.answer(request).await) }
        });
        let Some(tls) = front.tls.clone() else {
            let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
            tokio::spawn(async move {
                // A client that goes away in the middle is its own affair.
                drop(connection.await);
                drop(permit);
            });
            continue;
        };
        let (http, watcher) = (http.clone(), graceful.watcher());
        tokio::spawn(async move {
            // Handshakes are bounded and counted by whoever makes them.
            if let Ok(stream) = tls.accept_from(stream, from).await {
                let connection = http.serve_connection(TokioIo::new(stream), service);
                drop(watcher.watch(connection).await);
            }
            drop(permit);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// TLS for clients that have no certificate yet: it keeps secret what passes, and shows who we are. A certificate that a client shows stands for
/// nothing: CMP's own protection says who asks.
///
/// # Errors
/// When the credentials cannot be used.
pub(super) fn tls(credentials: &Credentials) -> std::io::Result<Tls> {
    let mut config = TlsConfig::default();
    config.anonymous = true;
    config.resumption = false;
    Tls::with_config(config, credentials, Arc::new(Anybody))
}

/// Takes every client, as nobody in particular.
struct Anybody;

impl Verifier for Anybody {
    fn verify(&self, chain: &[Vec<u8>], _: Role<'_>, _: bool) -> Decision {
        Decision::not_verified(chain)
    }
}

/// Whoever is at the other end of a connection.
struct Caller {
    front: Arc<Front>,
    from: SocketAddr,
    scheme: Scheme,
    identity: Option<Arc<PeerIdentity>>,
}

impl Caller {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let path = request.uri().path();
        if path == "/.well-known/cmp" || path.starts_with("/.well-known/cmp/") {
            let Ok(target) = Target::parse_path(path) else {
                return refusal(StatusCode::NOT_FOUND, "nothing is served at this path");
            };
            return self.cmp(target, request).await;
        }
        let path = path.trim_start_matches('/').to_owned();
        let files = self.front.service.files();
        // OCSP by GET has the request behind the path (RFC 6960 §A.1).
        let found = files.iter().find(|(name, media)| {
            let rest = path.strip_prefix(name.as_str());
            rest.is_some_and(|rest| {
                rest.is_empty() || (*media == Media::Ocsp && rest.starts_with('/'))
            })
        });
        match found {
            Some((name, Media::Ocsp)) => self.ocsp(path[name.len()..].to_owned(), request).await,
            Some((name, _)) => self.file(name, request.method()).await,
            None => refusal(StatusCode::NOT_FOUND, "nothing is served at this path"),
        }
    }

    async fn cmp(&self, target: Target, request: Request<Incoming>) -> Reply {
        if request.method() != Method::POST {
            let reply = refusal(StatusCode::METHOD_NOT_ALLOWED, "PKIMessages come by POST");
            return with(reply, ALLOW, "POST");
        }
        if !is_of(request.headers(), PKIXCMP) {
            return refusal(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "a PKIMessage is application/pkixcmp",
            );
        }
        let host = request.headers().get(HOST);
        let host = host.and_then(|host| host.to_str().ok()).map(str::to_owned);
        let message = match read(request, self.front.max_message).await {
            Ok(message) => message,
            Err(reply) => return reply,
        };
        let answer = Arc::clone(&self.front.service)
            .answer(Asked {
                target,
                message,
                from: self.from,
                scheme: self.scheme,
                host,
                identity: self.identity.clone(),
            })
            .await;
        match answer {
            Answer::Message { bytes, .. } => {
                let reply = body(StatusCode::OK, PKIXCMP, bytes.into());
                with(reply, CACHE_CONTROL, "no-store")
            }
            Answer::NoSuchTarget => refusal(StatusCode::NOT_FOUND, "there is no such label"),
            Answer::Busy { retry_after } => later(StatusCode::SERVICE_UNAVAILABLE, retry_after),
            Answer::TooMany { retry_after } => later(StatusCode::TOO_MANY_REQUESTS, retry_after),
            Answer::Refused(status) => refusal(code(status), "there is no answer"),
            Answer::Gateway(Gateway::Bad) => refusal(StatusCode::BAD_GATEWAY, "there is no answer"),
            Answer::Gateway(Gateway::Timeout) => {
                refusal(StatusCode::GATEWAY_TIMEOUT, "there is no answer in time")
            }
        }
    }

    async fn ocsp(&self, rest: String, request: Request<Incoming>) -> Reply {
        let question = match (request.method().clone(), rest.strip_prefix('/')) {
            (Method::POST, None) if !is_of(request.headers(), OCSP_REQUEST) => {
                return refusal(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "an OCSP request is application/ocsp-request",
                );
            }
            (Method::POST, None) => match read(request, MAX_OCSP).await {
                Ok(question) => question,
                Err(reply) => return reply,
            },
            (Method::GET, Some(encoded)) => match from_path(encoded) {
                Some(question) => question,
                None => {
                    return refusal(
                        StatusCode::BAD_REQUEST,
                        "an OCSP request in a path is base64",
                    );
                }
            },
            _ => {
                let reply = refusal(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "OCSP requests come by POST, or by GET in the path",
                );
                return with(reply, ALLOW, "GET, POST");
            }
        };
        match Arc::clone(&self.front.service).ocsp(question).await {
            Some(answer) => body(StatusCode::OK, Media::Ocsp.media_type(), answer.into()),
            None => refusal(StatusCode::NOT_FOUND, "nothing is served at this path"),
        }
    }

    async fn file(&self, path: &str, method: &Method) -> Reply {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let reply = refusal(StatusCode::METHOD_NOT_ALLOWED, "files are read");
            return with(reply, ALLOW, "GET, HEAD");
        }
        match Arc::clone(&self.front.service).file(path).await {
            Some(File {
                media,
                bytes,
                max_age,
            }) => {
                let bytes = Bytes::copy_from_slice(&bytes);
                let reply = body(StatusCode::OK, media.media_type(), bytes);
                let kept = format!("public, max-age={}", max_age.as_secs());
                with(reply, CACHE_CONTROL, &kept)
            }
            None => refusal(StatusCode::NOT_FOUND, "nothing is served at this path"),
        }
    }
}

/// The body of a request, when it comes in time and is not too long.
async fn read(request: Request<Incoming>, limit: usize) -> Result<Vec<u8>, Reply> {
    let collected = timeout(
        BODY_TIMEOUT,
        Limited::new(request.into_body(), limit).collect(),
    );
    match collected.await {
        Ok(Ok(body)) => Ok(body.to_bytes().into()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is longer than what is read here",
        )),
        Ok(Err(_)) => Err(refusal(
            StatusCode::BAD_REQUEST,
            "the body could not be read",
        )),
        Err(_) => Err(refusal(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come in time",
        )),
    }
}

/// Whether a body says that it is of this media type; parameters do not matter.
fn is_of(headers: &HeaderMap, media: &str) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case(media))
}

/// base64 with its signs percent-encoded, as RFC 6960 §A.1 puts it into a path.
fn from_path(encoded: &str) -> Option<Vec<u8>> {
    if encoded.len() > 2 * MAX_OCSP {
        return None;
    }
    let mut text = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                text.push(u8::from_str_radix(digits, 16).ok()?);
            }
            byte => text.push(byte),
        }
    }
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

fn code(status: Status) -> StatusCode {
    match status {
        Status::Ok => StatusCode::OK,
        Status::BadRequest => StatusCode::BAD_REQUEST,
        Status::Unauthorized | Status::Forbidden => StatusCode::FORBIDDEN,
        Status::Conflict => StatusCode::CONFLICT,
        Status::Failure => StatusCode::INTERNAL_SERVER_ERROR,
        Status::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn later(status: StatusCode, after: Duration) -> Reply {
    // A whole second at least, so that nobody comes back at once.
    let seconds = after.as_secs().saturating_add(1).to_string();
    with(refusal(status, "try again later"), RETRY_AFTER, &seconds)
}

fn refusal(status: StatusCode, why: &'static str) -> Reply {
    body(
        status,
        "text/plain; charset=utf-8",
        format!("{why}\n").into(),
    )
}

fn body(status: StatusCode, media: &'static str, bytes: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(bytes));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media));
    reply
}

fn with(mut reply: Reply, name: HeaderName, value: &str) -> Reply {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
    reply
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_ocsp_request_in_a_path_is_base64_with_its_signs_encoded() {
        assert_eq!(from_path("MAA%3D").unwrap(), [0x30, 0]);
        assert_eq!(from_path("MAA=").unwrap(), [0x30, 0]);
        assert_eq!(from_path("%2B%2F8%3d").unwrap(), [0xFB, 0xFF]);
        for wrong in ["MAA", "MAA%3", "MAA%zz", "MA\u{e4}="] {
            assert_eq!(from_path(wrong), None, "{wrong}");
        }
    }
}
