//! The POSTs of devices: login, cookie, session (TR-069 §3.4.2, §3.4.5).

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, COOKIE, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use homefleet_cwmp::acs::Transmit;
use homefleet_cwmp::auth::Refusal;
use tokio::sync::{mpsc, oneshot};

use super::{Acs, Post, session};

/// Longest message of a device.
const MAX_BODY: usize = 32 << 20;
/// Longest message that may begin a session.
const MAX_INFORM: usize = 1 << 20;
/// Time for a message to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// The name of the cookie.
const COOKIE_NAME: &str = "homefleet-session";
/// Seconds after which a device that was turned away comes again.
const COME_AGAIN: u32 = 30;
/// POSTs of one session that wait; a device sends the next one when it has the answer.
const WAITING: usize = 1;

pub(super) fn router(acs: Acs) -> Router {
    Router::new().fallback(post).with_state(acs)
}

async fn post(State(acs): State<Acs>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let (method, uri, headers) = (head.method, head.uri, head.headers);
    if method != Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let known = cookies(&headers)
        .filter_map(|cookie| acs.sessions().by_cookie.get(cookie).cloned())
        .next();
    if let Some(session) = known {
        return match read(body, MAX_BODY).await {
            Ok(body) => hand(&session, body, None).await,
            Err(status) => status.into_response(),
        };
    }
    // Nothing is read of somebody who has yet to log in.
    let username = match login(&acs, &method, &uri, &headers) {
        Ok(username) => username,
        Err(challenge) => return *challenge,
    };
    let body = match read(body, MAX_INFORM).await {
        Ok(body) => body,
        Err(status) => return status.into_response(),
    };
    if body.iter().all(u8::is_ascii_whitespace) {
        acs.counted().without_session += 1;
        return StatusCode::BAD_REQUEST.into_response();
    }
    let Some(cookie) = new_cookie() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let (posts, inbox) = mpsc::channel(WAITING);
    {
        let mut sessions = acs.sessions();
        if sessions.by_cookie.len() >= acs.0.policy.sessions {
            drop(sessions);
            acs.counted().overloaded += 1;
            return come_again();
        }
        sessions.by_cookie.insert(cookie.clone(), posts.clone());
    }
    tokio::spawn(session::run(acs, cookie.clone(), username, inbox));
    hand(&posts, body, Some(&cookie)).await
}

/// A body of at most `most` bytes that comes in time.
async fn read(body: Body, most: usize) -> Result<Bytes, StatusCode> {
    match tokio::time::timeout(BODY_WITHIN, to_bytes(body, most)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

/// Gives a message to its session, and its answer back.
async fn hand(session: &mpsc::Sender<Post>, body: Bytes, cookie: Option<&str>) -> Response {
    let (answer, answered) = oneshot::channel();
    // While one is worked on and another waits, there is a third: that is no device that keeps to the rules.
    if session.try_send(Post { body, answer }).is_err() {
        return come_again();
    }
    let Ok(Transmit {
        status,
        body,
        close,
    }) = answered.await
    else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let has_body = !body.is_empty();
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.remove(CONTENT_TYPE);
    if has_body {
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/xml; charset=utf-8"),
        );
        headers.insert("SOAPServer", HeaderValue::from_static("homefleet"));
    }
    if close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let cookie = cookie.map(|cookie| format!("{COOKIE_NAME}={cookie}; Path=/; HttpOnly"));
    if let Some(Ok(cookie)) = cookie.map(HeaderValue::try_from) {
        headers.insert(SET_COOKIE, cookie);
    }
    response
}

/// Who logs in; `None` where nobody has to. An error is the challenge.
fn login(
    acs: &Acs,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Option<String>, Box<Response>> {
    let policy = &acs.0.policy;
    let given = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    if policy.login.is_none() && given.is_none() {
        return Ok(None);
    }
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let now = Instant::now();
    let mut digest = super::lock(&acs.0.digest);
    let refusal = match given {
        None => None,
        Some(given) => {
            let password = |name: &str| acs.password(name);
            match digest.authorize(now, method.as_str(), target, given, password) {
                Ok(username) => return Ok(Some(username)),
                Err(refusal) => Some(refusal),
            }
        }
    };
    let challenges = digest.challenge(now, refusal);
    drop(digest);
    match refusal {
        None | Some(Refusal::Stale) => acs.counted().challenged += 1,
        Some(refusal) => {
            tracing::debug!(%refusal, "a device's login was refused");
            acs.counted().refused_logins += 1;
        }
    }
    let mut response = StatusCode::UNAUTHORIZED.into_response();
    for challenge in challenges {
        if let Ok(challenge) = HeaderValue::try_from(challenge) {
            response.headers_mut().append(WWW_AUTHENTICATE, challenge);
        }
    }
    Err(Box::new(response))
}

/// The values of our cookie; a device may send it more than once.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let all = headers.get_all(COOKIE).into_iter();
    all.filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| name.trim() == COOKIE_NAME)
        .map(|(_, value)| value.trim().trim_matches('"'))
}

/// A cookie that nobody guesses.
fn new_cookie() -> Option<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).ok()?;
    Some(crate::account::hex(&random))
}

fn come_again() -> Response {
    let mut response = StatusCode::SERVICE_UNAVAILABLE.into_response();
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(COME_AGAIN));
    response
}
