//! POSTs of a session, one after the other over one connection.

use std::time::Duration;

use homefleet_cwmp::auth::DigestClient;
use homefleet_cwmp::cpe::{HttpFailure, Reply};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, LOCATION,
    RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::cookies::Cookies;
use crate::tls::{Tls, dial};

/// Bytes of the head of an answer.
pub(super) const MAX_HEAD: usize = 32 * 1024;

/// How often one POST is sent again because of a challenge: the first, and one that says the nonce is too old.
const CHALLENGES: u32 = 2;

/// What a [`Client`] is told.
pub struct ClientConfig {
    /// The ACS: `http://` or `https://`.
    pub url: String,
    /// For logins; empty for none.
    pub username: String,
    /// For logins.
    pub password: homefleet_cwmp::Secret,
    /// Decides about the ACS's certificate, and has the device's own. Without it, `https://` cannot be reached.
    pub tls: Option<Tls>,
    /// How long one exchange may take, redirects and logins included.
    pub timeout: Duration,
    /// The largest answer, in bytes.
    pub max_answer: usize,
    /// How many redirects one POST follows; TR-069 §3.4.1 wants up to five.
    pub max_redirects: u32,
}

impl ClientConfig {
    /// The defaults: 60 s, 32 MiB, five redirects; no login and no TLS.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            username: String::new(),
            password: homefleet_cwmp::Secret::default(),
            tls: None,
            timeout: Duration::from_secs(60),
            max_answer: 32 << 20,
            max_redirects: 5,
        }
    }
}

/// A URL that is none of an ACS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an http:// or https:// URL with a host")]
pub struct UrlError;

/// What came of a POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200 with a body.
    Envelope(Vec<u8>),
    /// 204, or 200 without a body.
    Empty,
    /// 503, with the wait that Retry-After names in seconds.
    Unavailable(Option<Duration>),
    /// Any other end.
    Failed(HttpFailure),
}

impl Answer {
    /// For [`homefleet_cwmp::cpe::Cpe::handle_reply`].
    pub fn as_reply(&self) -> Reply<'_> {
        match self {
            Self::Envelope(body) => Reply::Envelope(body),
            Self::Empty => Reply::Empty,
            Self::Unavailable(wait) => Reply::Unavailable(*wait),
            Self::Failed(failure) => Reply::Failed(*failure),
        }
    }
}

type Sender = SendRequest<Full<Bytes>>;

/// The HTTP of a device's sessions with its ACS.
///
/// [`Client::post`] for each [`homefleet_cwmp::cpe::Transmit::Post`], [`Client::close`] for each `Close`. Dropping a `post` before its end ends the session.
pub struct Client {
    config: ClientConfig,
    own: Place,
    /// Where this session is: elsewhere after a redirect.
    place: Place,
    sender: Option<Sender>,
    cookies: Cookies,
    login: DigestClient,
}

/// Where POSTs go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) secure: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) target: String,
}

impl Place {
    pub(super) fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.trim().parse().ok()?;
        let secure = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let host = uri.host().filter(|host| !host.is_empty())?;
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        Some(Self {
            secure,
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            target: target.to_owned(),
        })
    }

    /// The place of a Location header: a URL, or a path on the same host.
    pub(super) fn redirected(&self, location: &str) -> Option<Self> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Some(Self {
                target: location.to_owned(),
                ..self.clone()
            });
        }
        Self::parse(location)
    }

    pub(super) fn is_at(&self, other: &Self) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }

    pub(super) fn authority(&self) -> String {
        match (self.secure, self.port) {
            (false, 80) | (true, 443) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }
}

impl Client {
    /// A client that is not connected. `seed` is random, for its logins.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn new(config: ClientConfig, seed: [u8; 32]) -> Result<Self, UrlError> {
        let own = Place::parse(&config.url).ok_or(UrlError)?;
        // Basic only where nobody listens (TR-069 §3.4.5).
        let login = DigestClient::new(
            config.username.clone(),
            config.password.clone(),
            own.secure,
            seed,
        );
        Ok(Self {
            place: own.clone(),
            own,
            sender: None,
            cookies: Cookies::default(),
            login,
            config,
        })
    }

    /// Sends a POST, empty or with an envelope, and waits for what comes of it.
    pub async fn post(&mut self, body: Vec<u8>) -> Answer {
        let limit = self.config.timeout;
        match timeout(limit, self.exchange(Bytes::from(body))).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(failure)) => self.failed(failure),
            Err(_) => self.failed(HttpFailure::Connection),
        }
    }

    /// Ends the session: connection and cookies are forgotten, and a redirect with them (TR-069 §3.4.1). A login that was good stays known.
    pub fn close(&mut self) {
        self.sender = None;
        self.cookies.clear();
        self.place = self.own.clone();
    }

    fn failed(&mut self, failure: HttpFailure) -> Answer {
        self.sender = None;
        Answer::Failed(failure)
    }

    async fn exchange(&mut self, body: Bytes) -> Result<Answer, HttpFailure> {
        let (mut redirects, mut challenges) = (0, 0);
        loop {
            let response = self.send(body.clone()).await?;
            let (head, content) = response.into_parts();
            self.cookies.take(&head.headers);
            let content = self.gather(content).await?;
            match head.status {
                StatusCode::OK if content.is_empty() => {
                    return Ok(self.answered(&head.headers, Answer::Empty));
                }
                StatusCode::OK => {
                    return Ok(self.answered(&head.headers, Answer::Envelope(content)));
                }
                StatusCode::NO_CONTENT => return Ok(self.answered(&head.headers, Answer::Empty)),
                StatusCode::UNAUTHORIZED => {
                    challenges += 1;
                    if challenges > CHALLENGES || !self.challenged(&head.headers) {
                        return Err(HttpFailure::Unauthorized);
                    }
                }
                StatusCode::FOUND | StatusCode::TEMPORARY_REDIRECT => {
                    redirects += 1;
                    if redirects > self.config.max_redirects {
                        return Err(HttpFailure::Redirects);
                    }
                    self.redirected(head.status, &head.headers)?;
                }
                StatusCode::SERVICE_UNAVAILABLE => {
                    let seconds =
                        text(&head.headers, &RETRY_AFTER).and_then(|text| text.trim().parse().ok());
                    self.sender = None;
                    return Ok(Answer::Unavailable(seconds.map(Duration::from_secs)));
                }
                other => return Err(HttpFailure::Status(other.as_u16())),
            }
        }
    }

    /// Notes what a good answer says about the next login.
    fn answered(&mut self, headers: &HeaderMap, answer: Answer) -> Answer {
        let info = HeaderName::from_static("authentication-info");
        if let Some(info) = text(headers, &info) {
            self.login.handle_info(info);
        }
        answer
    }

    /// Whether there is an answer to the challenge.
    fn challenged(&mut self, headers: &HeaderMap) -> bool {
        let challenges: Vec<&str> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|header| header.to_str().ok())
            .collect();
        !self.config.username.is_empty() && self.login.challenged(&challenges).is_ok()
    }

    /// The rest of the session is elsewhere. From TLS there is no way back into the open.
    fn redirected(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), HttpFailure> {
        let location =
            text(headers, &LOCATION).and_then(|location| self.place.redirected(location));
        let place = location
            .filter(|place| place.secure || !self.place.secure)
            .ok_or(HttpFailure::Status(status.as_u16()))?;
        if !place.is_at(&self.place) {
            self.sender = None;
            self.cookies.clear();
            self.login.forget();
        }
        self.place = place;
        Ok(())
    }

    /// Sends over the connection that is there, or a new one. One that was closed meanwhile, so that nothing was sent, is replaced once.
    async fn send(&mut self, body: Bytes) -> Result<Response<Incoming>, HttpFailure> {
        if let Some(mut sender) = self.sender.take()
            && sender.ready().await.is_ok()
        {
            let request = self.request(body.clone())?;
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.sender = Some(sender);
                    return Ok(response);
                }
                // The request comes back only when nothing of it was sent.
                Err(error) if error.message().is_some() => {}
                Err(_) => return Err(HttpFailure::Connection),
            }
        }
        let mut sender = self.open().await?;
        let request = self.request(body)?;
        let response = sender.send_request(request).await;
        let response = response.map_err(|_| HttpFailure::Connection)?;
        self.sender = Some(sender);
        Ok(response)
    }

    async fn open(&self) -> Result<Sender, HttpFailure> {
        let tls = match (self.place.secure, &self.config.tls) {
            (true, Some(tls)) => Some((tls, None)),
            (true, None) => return Err(HttpFailure::Connection),
            (false, _) => None,
        };
        let stream = dial(&self.place.host, self.place.port, tls).await;
        let stream = stream.map_err(|error| {
            tracing::debug!(%error, "no connection to the ACS");
            HttpFailure::Connection
        })?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| HttpFailure::Connection)?;
        // It ends when the sender is dropped, or the server closes it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    fn request(&mut self, body: Bytes) -> Result<Request<Full<Bytes>>, HttpFailure> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.place.target)
            .header(HOST, self.place.authority())
            .header(USER_AGENT, concat!("homefleet/", env!("CARGO_PKG_VERSION")));
        // An empty POST says so (RFC 9110 §8.6).
        request = request.header(CONTENT_LENGTH, body.len());
        if !body.is_empty() {
            // An empty POST has neither (TR-069 §3.4.1).
            request = request
                .header(CONTENT_TYPE, "text/xml; charset=\"utf-8\"")
                .header(HeaderName::from_static("soapaction"), "");
        }
        if let Some(cookies) = self.cookies.header() {
            request = request.header(COOKIE, cookies);
        }
        if let Some(login) = self.login.authorization("POST", &self.place.target) {
            request = request.header(AUTHORIZATION, login);
        }
        request
            .body(Full::new(body))
            .map_err(|_| HttpFailure::Connection)
    }

    /// The body, within the limit.
    async fn gather(&mut self, mut body: Incoming) -> Result<Vec<u8>, HttpFailure> {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| HttpFailure::Connection)?;
            if let Some(data) = frame.data_ref() {
                if bytes.len() + data.len() > self.config.max_answer {
                    return Err(HttpFailure::Connection);
                }
                bytes.extend_from_slice(data);
            }
        }
        Ok(bytes)
    }
}

pub(super) fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
