//! The POSTs of devices: login, cookie, session (TR-069 §3.4.2, §3.4.5).

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::header::{CONNECTION, CONTENT_TYPE, COOKIE, HOST, RETRY_AFTER, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::BytesMut;
use homefleet_cwmp::acs::Transmit;
use http_body_util::BodyExt as _;
use tokio::sync::{mpsc, oneshot};

use super::listen::Peer;
use super::{Acs, Open, Post, files, login, session};
use crate::acs::session::Origin;

/// Longest message of a device.
const MAX_BODY: usize = 32 << 20;
/// Longest message that may begin a session.
const MAX_INFORM: usize = 1 << 20;
/// Time for a message to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// The name of the cookie.
const COOKIE_NAME: &str = "homefleet-session";
/// Seconds after which a device that was turned away comes again, at least; at most twice as many.
const COME_AGAIN: u32 = 30;
/// Most cookies of ours that are looked at in one request.
const MOST_COOKIES: usize = 16;
/// POSTs of one session that wait; a device sends the next one when it has the answer.
const WAITING: usize = 1;

/// Answers a request of a device.
pub(super) async fn answer(acs: Acs, peer: Arc<Peer>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    if files::is_path(head.uri.path()) {
        let (method, path) = (&head.method, head.uri.path());
        return files::answer(&acs, method, path, &head.headers, body).await;
    }
    if head.method != Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let session = match find(&acs, &peer, &head.headers) {
        Ok(session) => session,
        Err(Ambiguous) => {
            acs.counted().ambiguous_cookies += 1;
            return StatusCode::BAD_REQUEST.into_response();
        }
    };
    if let Some(session) = session {
        return match read(&acs, body, MAX_BODY).await {
            Ok(body) => hand(&session, body, None).await,
            Err(refusal) => *refusal,
        };
    }
    // Nothing is read of somebody who has yet to log in.
    let login = match login::login(&acs, &peer, &head.method, &head.uri, &head.headers) {
        Ok(login) => login,
        Err(challenge) => return *challenge,
    };
    let body = match read(&acs, body, MAX_INFORM).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    if body.iter().all(u8::is_ascii_whitespace) {
        acs.counted().without_session += 1;
        return StatusCode::BAD_REQUEST.into_response();
    }
    let Some(cookie) = new_cookie() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let (posts, inbox) = mpsc::channel(WAITING);
    // What cannot be stored soon is better told later: the device keeps its events until then.
    let stored_soon = acs.0.core.inner().store.has_room();
    {
        let mut sessions = acs.sessions();
        if !stored_soon || sessions.by_cookie.len() >= acs.0.policy.sessions {
            drop(sessions);
            acs.counted().overloaded += 1;
            return come_again();
        }
        let open = Open {
            posts: posts.clone(),
            secure: peer.secure,
            certificate: peer.fingerprint(),
        };
        sessions.by_cookie.insert(cookie.clone(), open);
    }
    if acs.0.policy.cookieless {
        *super::lock(&peer.last) = Some(cookie.clone());
    }
    let origin = Origin {
        login,
        address: peer.from,
        found_at: found_at(&peer, &head.headers),
    };
    tokio::spawn(session::run(acs, cookie.clone(), origin, inbox));
    hand(&posts, body, Some(&cookie)).await
}

/// Where the device found us, for URLs that are told to it alone.
fn found_at(peer: &Peer, headers: &HeaderMap) -> String {
    let scheme = if peer.secure { "https" } else { "http" };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let is_host = |host: &&str| {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        host.len() <= 256 && host.bytes().all(fine)
    };
    format!("{scheme}://{}", host.filter(is_host).unwrap_or_default())
}

/// The cookies name more than one session.
struct Ambiguous;

/// The session that a request belongs to: by its cookie, or where that is allowed by its connection.
fn find(
    acs: &Acs,
    peer: &Peer,
    headers: &HeaderMap,
) -> Result<Option<mpsc::Sender<Post>>, Ambiguous> {
    let mut given: Vec<&str> = cookies(headers).take(MOST_COOKIES).collect();
    given.sort_unstable();
    given.dedup();
    let connected = super::lock(&peer.last).clone();
    if given.is_empty() && acs.0.policy.cookieless {
        given.extend(connected.as_deref());
    }
    let kept = cookies(headers).next().is_some();
    let sessions = acs.sessions();
    // A session that began in secret does not go on in the open, nor with somebody else's certificate.
    let fits = |open: &&Open| open.secure == peer.secure && open.certificate == peer.fingerprint();
    let mut found = given
        .into_iter()
        .filter_map(|cookie| sessions.by_cookie.get(cookie))
        .filter(fits);
    let first = found.next().map(|open| open.posts.clone());
    if found.next().is_some() {
        return Err(Ambiguous);
    }
    drop(sessions);
    if first.is_some() && !kept {
        acs.counted().cookieless += 1;
    }
    Ok(first)
}

/// A body of at most `most` bytes that comes in time. A long one needs one of the few places for such, so that devices cannot fill the memory.
async fn read(acs: &Acs, mut body: Body, most: usize) -> Result<Bytes, Box<Response>> {
    let refuse = |status: StatusCode| {
        let mut response = status.into_response();
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
        Box::new(response)
    };
    let too_long = || {
        acs.counted().too_long += 1;
        refuse(StatusCode::PAYLOAD_TOO_LARGE)
    };
    let told = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if told > most {
        return Err(too_long());
    }
    let reading = async {
        let mut bytes = BytesMut::new();
        let mut place = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| refuse(StatusCode::BAD_REQUEST))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if bytes.len() + data.len() > most {
                return Err(too_long());
            }
            if bytes.len() + data.len() > MAX_INFORM && place.is_none() {
                place = acs.0.long_bodies.try_acquire().ok();
                if place.is_none() {
                    acs.counted().overloaded += 1;
                    return Err(Box::new(come_again()));
                }
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.freeze())
    };
    match tokio::time::timeout(BODY_WITHIN, reading).await {
        Ok(read) => read,
        Err(_) => Err(refuse(StatusCode::REQUEST_TIMEOUT)),
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

/// Not all at the same time, so that they find room when they do.
pub(super) fn come_again() -> Response {
    let mut chance = [0];
    if getrandom::fill(&mut chance).is_err() {
        tracing::warn!("no randomness: devices that are turned away come back together");
    }
    let after = COME_AGAIN + u32::from(chance[0]) % COME_AGAIN;
    let mut response = StatusCode::SERVICE_UNAVAILABLE.into_response();
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(after));
    response
}
