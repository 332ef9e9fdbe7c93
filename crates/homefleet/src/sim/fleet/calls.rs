//! Connection Requests (TR-069 §3.2.2): one listener for all devices, each with a path of its own.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use homefleet_cwmp::auth::{DigestConfig, DigestServer, Stored};
use homefleet_cwmp::calls::{Admission, Calls as Limit};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

use super::lock;

/// How long a caller may take.
const WITHIN: Duration = Duration::from_secs(15);
/// Callers at once.
const AT_ONCE: usize = 1024;
/// Calls that a device takes within a minute.
const A_MINUTE: usize = 60;

/// Who can be called.
pub(super) struct Calls {
    devices: Mutex<HashMap<String, Callee>>,
    digest: Mutex<DigestServer>,
    refused: Mutex<u64>,
}

/// A device that can be called.
struct Callee {
    username: String,
    password: String,
    limit: Limit,
    wake: mpsc::Sender<()>,
}

impl Calls {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        let config = DigestConfig::new("homefleet-sim");
        Self {
            devices: Mutex::default(),
            digest: Mutex::new(DigestServer::new(Instant::now(), config, seed)),
            refused: Mutex::default(),
        }
    }

    /// A device has power: it is called so, by who logs in so.
    pub(super) fn set(
        &self,
        path: &str,
        username: String,
        password: String,
        wake: &mpsc::Sender<()>,
    ) {
        let mut devices = lock(&self.devices);
        let limit = match devices.remove(path) {
            Some(before) => before.limit,
            None => Limit::new(A_MINUTE, Duration::from_secs(60)),
        };
        let callee = Callee {
            username,
            password,
            limit,
            wake: wake.clone(),
        };
        devices.insert(path.to_owned(), callee);
    }

    /// A device has no power.
    pub(super) fn remove(&self, path: &str) {
        lock(&self.devices).remove(path);
    }

    /// Requests that led to no session.
    pub(super) fn refused(&self) -> u64 {
        *lock(&self.refused)
    }

    /// Answers callers for ever.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors, mostly: others end first.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let calls = self.clone();
            tokio::spawn(async move {
                let _permit = permit;
                let answer = service_fn(move |request| {
                    let calls = calls.clone();
                    async move { Ok::<_, Infallible>(calls.answer(&request)) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), answer);
                // A caller who is too slow or breaks off has not called.
                drop(tokio::time::timeout(WITHIN, connection).await);
            });
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Empty<Bytes>> {
        let mut response = Response::new(Empty::new());
        let status = self.status(request, &mut response);
        if status != StatusCode::OK {
            *lock(&self.refused) += 1;
        }
        *response.status_mut() = status;
        response
    }

    fn status(
        &self,
        request: &Request<Incoming>,
        response: &mut Response<Empty<Bytes>>,
    ) -> StatusCode {
        if request.method() != Method::GET {
            return StatusCode::METHOD_NOT_ALLOWED;
        }
        let path = request.uri().path();
        let mut devices = lock(&self.devices);
        let Some(callee) = devices.get_mut(path) else {
            return StatusCode::NOT_FOUND;
        };
        let now = Instant::now();
        let given = request.headers().get(AUTHORIZATION);
        let given = given.and_then(|value| value.to_str().ok());
        let mut digest = lock(&self.digest);
        // Before the ACS has set a login, nobody has one.
        let password = |name: &str| {
            let known = !callee.username.is_empty() && name == callee.username;
            known.then(|| Stored::Password(callee.password.as_str().into()))
        };
        let target = request
            .uri()
            .path_and_query()
            .map_or(path, |target| target.as_str());
        let refusal = match given {
            None => None,
            Some(given) => match digest.authorize(now, "GET", target, given, password) {
                Ok(_) => {
                    if let Admission::TooMany { wait } = callee.limit.admit(now) {
                        let seconds = HeaderValue::from(wait.as_secs() + 1);
                        response.headers_mut().insert(RETRY_AFTER, seconds);
                        return StatusCode::SERVICE_UNAVAILABLE;
                    }
                    // One that waits already is enough.
                    let _waits = callee.wake.try_send(());
                    return StatusCode::OK;
                }
                Err(refusal) => Some(refusal),
            },
        };
        for challenge in digest.challenge(now, refusal) {
            if let Ok(challenge) = HeaderValue::try_from(challenge) {
                response.headers_mut().append(WWW_AUTHENTICATE, challenge);
            }
        }
        StatusCode::UNAUTHORIZED
    }
}

/// Where callers reach a listener.
pub(super) fn url(at: SocketAddr, path: &str) -> String {
    format!("http://{at}{path}")
}
