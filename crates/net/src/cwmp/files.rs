//! The files that an ACS names (TR-069 §3.2.1, A.3.2.8, A.4.1.5): fetched and sent over HTTP with a login, fetched on where a connection broke.

use std::io::SeekFrom;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use homefleet_cwmp::Secret;
use homefleet_cwmp::auth::DigestClient;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HOST, HeaderMap, IF_RANGE,
    LOCATION, RANGE, USER_AGENT, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::client::{MAX_HEAD, Place, text};
use crate::tls::{Tls, dial};

/// Redirects, and challenges, that one request follows.
const MOST_TURNS: u32 = 5;
/// How often a fetch goes on after a connection broke.
const MOST_RESUMPTIONS: u32 = 5;

/// Where a file is, or goes.
pub struct FileServer {
    /// `http://` or `https://`.
    pub url: String,
    /// For the login; empty for none.
    pub username: String,
    /// For the login.
    pub password: Secret,
    /// For `https://`.
    pub tls: Option<Tls>,
    /// The largest file, in bytes.
    pub most: u64,
    /// How long nothing may come.
    pub patience: Duration,
    /// Random, for the login.
    pub seed: [u8; 32],
}

impl std::fmt::Debug for FileServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A URL may be a secret of its own.
        f.write_str("FileServer")
    }
}

/// A file was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes.
    pub size: u64,
    /// How often it went on after a connection broke.
    pub resumed: u32,
}

/// Why a file was not transferred.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The URL is none of HTTP.
    #[error("not an http:// or https:// URL with a host")]
    Url,
    /// The server cannot be reached, or is not trusted.
    #[error("the file server cannot be reached")]
    Contact,
    /// It does not take the credentials.
    #[error("the file server does not take the credentials")]
    Unauthorized,
    /// It does not give or take the file.
    #[error("the file server answers {0}")]
    Status(u16),
    /// It broke off.
    #[error("the transfer broke off")]
    Broken,
    /// The file is larger than may be.
    #[error("the file is larger than {0} bytes")]
    TooLarge(u64),
    /// The file cannot be kept here.
    #[error("the file cannot be written: {0}")]
    Write(#[from] std::io::Error),
}

/// Fetches a file to `to`, which is overwritten.
///
/// # Errors
/// [`FileError`]; what is at `to` then is no whole file.
pub async fn fetch(server: FileServer, to: &Path) -> Result<Fetched, FileError> {
    let mut file = File::create(to).await?;
    let mut session = Session::new(server)?;
    let (mut size, mut resumed) = (0, 0);
    let mut etag: Option<String> = None;
    loop {
        let broken = match session.get(size, etag.as_deref()).await {
            Ok(response) => {
                match begin(&response, size) {
                    Start::Over => {
                        size = 0;
                        file.set_len(0).await?;
                        file.seek(SeekFrom::Start(0)).await?;
                    }
                    Start::On => {}
                    Start::Refused(status) => return Err(FileError::Status(status)),
                }
                let own = text(response.headers(), &ETAG).map(str::to_owned);
                etag = own.filter(|tag| !tag.starts_with("W/"));
                let expected = length(response.headers()).map(|length| size + length);
                if expected.is_some_and(|expected| expected > session.server.most) {
                    return Err(FileError::TooLarge(session.server.most));
                }
                match session
                    .gather(response.into_body(), &mut file, &mut size)
                    .await
                {
                    Ok(()) if expected.is_none_or(|expected| expected == size) => {
                        file.flush().await?;
                        file.sync_all().await?;
                        return Ok(Fetched { size, resumed });
                    }
                    Ok(()) => FileError::Broken,
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        let goes_on = matches!(broken, FileError::Broken)
            || (resumed > 0 && matches!(broken, FileError::Contact));
        if !goes_on || resumed >= MOST_RESUMPTIONS {
            return Err(broken);
        }
        resumed += 1;
    }
}

/// Sends a file by PUT.
///
/// # Errors
/// [`FileError`].
pub async fn send(server: FileServer, content: Vec<u8>) -> Result<(), FileError> {
    let mut session = Session::new(server)?;
    let content = Bytes::from(content);
    let response = session
        .request(Method::PUT, &content, |request| {
            request
                .header(CONTENT_LENGTH, content.len())
                .header(CONTENT_TYPE, "application/octet-stream")
        })
        .await?;
    match response.status() {
        status if status.is_success() => Ok(()),
        status => Err(FileError::Status(status.as_u16())),
    }
}

enum Start {
    Over,
    On,
    Refused(u16),
}

/// Whether what comes is the whole file, or goes on at `size`.
fn begin(response: &Response<Incoming>, size: u64) -> Start {
    match response.status() {
        StatusCode::OK => Start::Over,
        StatusCode::PARTIAL_CONTENT => {
            let range = text(response.headers(), &CONTENT_RANGE).unwrap_or_default();
            let from = range
                .strip_prefix("bytes ")
                .and_then(|range| range.split('-').next());
            match from.and_then(|from| from.parse::<u64>().ok()) == Some(size) {
                true => Start::On,
                false => Start::Refused(206),
            }
        }
        other => Start::Refused(other.as_u16()),
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    text(headers, &CONTENT_LENGTH)?.parse().ok()
}

/// Requests to one server, and to where it sends us.
struct Session {
    server: FileServer,
    place: Place,
    login: DigestClient,
}

impl Session {
    fn new(server: FileServer) -> Result<Self, FileError> {
        let place = Place::parse(&server.url).ok_or(FileError::Url)?;
        let login = DigestClient::new(
            server.username.clone(),
            server.password.clone(),
            place.secure,
            server.seed,
        );
        Ok(Self {
            server,
            place,
            login,
        })
    }

    async fn get(
        &mut self,
        from: u64,
        etag: Option<&str>,
    ) -> Result<Response<Incoming>, FileError> {
        // Without a strong validator it could be another file by now: then it begins anew.
        let on = etag.filter(|_| from > 0);
        self.request(Method::GET, &Bytes::new(), |request| match on {
            Some(etag) => request
                .header(RANGE, format!("bytes={from}-"))
                .header(IF_RANGE, etag),
            None => request,
        })
        .await
    }

    /// One request, through challenges and redirects.
    async fn request(
        &mut self,
        method: Method,
        body: &Bytes,
        headers: impl Fn(hyper::http::request::Builder) -> hyper::http::request::Builder,
    ) -> Result<Response<Incoming>, FileError> {
        for _ in 0..=MOST_TURNS {
            let mut request = Request::builder()
                .method(method.clone())
                .uri(&self.place.target)
                .header(HOST, self.place.authority())
                .header(USER_AGENT, concat!("homefleet/", env!("CARGO_PKG_VERSION")));
            if let Some(login) = self
                .login
                .authorization(method.as_str(), &self.place.target)
            {
                request = request.header(AUTHORIZATION, login);
            }
            let request = headers(request)
                .body(Full::new(body.clone()))
                .map_err(|_| FileError::Url)?;
            let response = timeout(self.server.patience, self.exchange(request)).await;
            let response = response.map_err(|_| FileError::Contact)??;
            match response.status() {
                StatusCode::UNAUTHORIZED => self.challenged(response.headers())?,
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => self.redirected(response.headers())?,
                _ => return Ok(response),
            }
        }
        Err(FileError::Contact)
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, FileError> {
        let tls = match (self.place.secure, &self.server.tls) {
            (true, Some(tls)) => Some((tls, None)),
            (true, None) => return Err(FileError::Contact),
            (false, _) => None,
        };
        let stream = dial(&self.place.host, self.place.port, tls).await;
        let stream = stream.map_err(|error| {
            tracing::debug!(%error, "no connection to the file server");
            FileError::Contact
        })?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| FileError::Contact)?;
        tokio::spawn(async move { drop(connection.await) });
        sender
            .send_request(request)
            .await
            .map_err(|_| FileError::Broken)
    }

    fn challenged(&mut self, headers: &HeaderMap) -> Result<(), FileError> {
        let challenges: Vec<&str> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|header| header.to_str().ok())
            .collect();
        let known = !self.server.username.is_empty();
        if known && self.login.challenged(&challenges).is_ok() {
            return Ok(());
        }
        Err(FileError::Unauthorized)
    }

    /// From TLS there is no way back into the open; credentials stay where they were given.
    fn redirected(&mut self, headers: &HeaderMap) -> Result<(), FileError> {
        let location = text(headers, &LOCATION).and_then(|to| self.place.redirected(to));
        let place = location.filter(|place| place.secure || !self.place.secure);
        let place = place.ok_or(FileError::Contact)?;
        if !place.is_at(&self.place) {
            self.login.forget();
            self.server.username.clear();
        }
        self.place = place;
        Ok(())
    }

    async fn gather(
        &self,
        mut body: Incoming,
        file: &mut File,
        size: &mut u64,
    ) -> Result<(), FileError> {
        loop {
            let frame = timeout(self.server.patience, body.frame()).await;
            let frame = frame.map_err(|_| FileError::Broken)?;
            let Some(frame) = frame else {
                return Ok(());
            };
            let frame = frame.map_err(|_| FileError::Broken)?;
            if let Some(data) = frame.data_ref() {
                let added = u64::try_from(data.len()).unwrap_or(u64::MAX);
                if size.saturating_add(added) > self.server.most {
                    return Err(FileError::TooLarge(self.server.most));
                }
                file.write_all(data).await?;
                *size += added;
            }
        }
    }
}
