//! A blocking client of the REST API.
//!
//! One method per endpoint, typed both ways, with an error that says who is to blame:
//! the network ([`ClientError::Unreachable`]), the token ([`ClientError::Unauthorized`]), the request
//! ([`ClientError::NotFound`], [`ClientError::Refused`]) or the server ([`ClientError::Failed`]).
//!
//! It speaks plain HTTP: a server on another machine belongs behind a proxy that terminates TLS,
//! or at the end of a tunnel.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{
    Approval, ApprovalPage, ApprovalState, CertificatePage, CertificateState,
    CreatedEnrolmentSecret, DecideApproval, EnrolmentSecretPage, IssuedCertificate,
    NewEnrolmentSecret, Pki, RevokeCertificate,
};
use crate::{
    Association, AssociationPage, AssociationStatus, AuditPage, CreatedToken, Device, DevicePage,
    DevicePatch, Event, Home, HomePage, MtpList, NewTask, NewToken, ParameterPage, Problem,
    ProblemCode, SeriesList, SeriesPoints, ServerInfo, Task, TaskPage, TaskState, Telemetry, Tls,
    TokenList,
};

/// How long an answer may take beyond the time a request asks the server to hold it.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How long a connection may take to open.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Longest answer read, in bytes.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;
/// Longest line of the event stream, in bytes.
const MAX_EVENT_LINE: u64 = 4 * 1024 * 1024;
/// Longest time the server holds one request that waits for a task.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address of the server cannot be used.
    #[error("`{url}` is not the address of a server: {reason}")]
    BadAddress {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The server failed (a status of 500 or more).
    #[error("the server failed: {0}")]
    Failed(Problem),
    /// The answer is not what this client understands.
    #[error("the answer of {url} makes no sense: {reason}")]
    InvalidAnswer {
        /// Requested URL.
        url: String,
        /// What was found.
        reason: String,
    },
    /// No such device, task or token.
    #[error("{0}")]
    NotFound(Problem),
    /// The server understood and refused; the message is the server's own.
    #[error("{0}")]
    Refused(Problem),
    /// No token, or one that is unknown or has expired.
    #[error("{0}")]
    Unauthorized(Problem),
    /// No connection, or none that lasted until the answer.
    #[error("cannot reach the server at {url}: {reason}")]
    Unreachable {
        /// Address of the server.
        url: String,
        /// What the network said.
        reason: String,
    },
}

/// Which certificates; every condition given has to hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CertificateSearch<'a> {
    /// Text in the subject; a serial number in hexadecimal finds just that one.
    pub search: Option<&'a str>,
    /// Endpoint ID.
    pub device: Option<&'a str>,
    /// State.
    pub state: Option<CertificateState>,
    /// Name of a profile.
    pub profile: Option<&'a str>,
    /// Only those that end within so many seconds, and have not ended.
    pub expiring_in: Option<u64>,
}

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    base: String,
    token: Option<String>,
}

impl Client {
    /// A client of the server at `url` (`http://127.0.0.1:8080`), with a token for its `Authorization`.
    ///
    /// # Errors
    /// [`ClientError::BadAddress`] when `url` is not a plain-HTTP URL with a host.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, ClientError> {
        let base = url.trim().trim_end_matches('/').to_owned();
        let bad = |reason| ClientError::BadAddress {
            url: url.to_owned(),
            reason,
        };
        if base.starts_with("https://") {
            return Err(bad(
                "this client speaks http:// only; use a tunnel, or a proxy on this machine",
            ));
        }
        let host = base
            .strip_prefix("http://")
            .ok_or_else(|| bad("it must start with http://"))?;
        if host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
            return Err(bad("expected http://HOST:PORT"));
        }
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIME))
            .user_agent(concat!("homefleet/", env!("CARGO_PKG_VERSION")));
        if is_loopback(host) {
            // A proxy configured for the outside has no way to this machine's own loopback.
            config = config.proxy(None);
        }
        Ok(Self {
            agent: config.build().new_agent(),
            base,
            token: token.map(str::to_owned),
        })
    }

    /// Address of the server.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// `GET /info`.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn info(&self) -> Result<ServerInfo, ClientError> {
        self.get("/info", &[], Duration::ZERO)
    }

    /// `GET /mtps`: the Message Transfer Protocols in use.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn mtps(&self) -> Result<MtpList, ClientError> {
        self.get("/mtps", &[], Duration::ZERO)
    }

    /// `GET /telemetry`: how the receiver of telemetry, its publishers and its outputs fare.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn telemetry(&self) -> Result<Telemetry, ClientError> {
        self.get("/telemetry", &[], Duration::ZERO)
    }

    /// `GET /devices/{id}/series`: the time series of a device.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn series(&self, device: &str) -> Result<SeriesList, ClientError> {
        let path = format!("/devices/{}/series", encode(device));
        self.get(&path, &[], Duration::ZERO)
    }

    /// `GET /devices/{id}/series/{path}`: a stretch of a time series, from and to as RFC 3339, the step in seconds.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn series_points(
        &self,
        device: &str,
        path: &str,
        from: Option<&str>,
        to: Option<&str>,
        step: Option<f64>,
    ) -> Result<SeriesPoints, ClientError> {
        let address = format!("/devices/{}/series/{}", encode(device), encode(path));
        let step = step.map(|step| step.to_string());
        let query = [("from", from), ("to", to), ("step", step.as_deref())];
        self.get(&address, &query, Duration::ZERO)
    }

    /// `GET /devices/{id}/association`: the gateway that a device says it is behind, cross-checked, with its history.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn association(&self, device: &str) -> Result<Association, ClientError> {
        let path = format!("/devices/{}/association", encode(device));
        self.get(&path, &[], Duration::ZERO)
    }

    /// `GET /associations`: a page of what devices say of their gateways.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn associations(
        &self,
        status: Option<AssociationStatus>,
        limit: Option<usize>,
        after: Option<&str>,
    ) -> Result<AssociationPage, ClientError> {
        let limit = limit.map(|limit| limit.to_string());
        let status = status.map(AssociationStatus::as_str);
        let query = [
            ("status", status),
            ("limit", limit.as_deref()),
            ("after", after),
        ];
        self.get("/associations", &query, Duration::ZERO)
    }

    /// `GET /homes`: a page of gateways, of those that match `search` if given.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn homes(
        &self,
        search: Option<&str>,
        limit: Option<usize>,
        after: Option<&str>,
    ) -> Result<HomePage, ClientError> {
        let limit = limit.map(|limit| limit.to_string());
        let query = [
            ("search", search),
            ("limit", limit.as_deref()),
            ("after", after),
        ];
        self.get("/homes", &query, Duration::ZERO)
    }

    /// `GET /homes/{id}`: a gateway and the devices behind it.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn home(&self, gateway: &str) -> Result<Home, ClientError> {
        self.get(&format!("/homes/{}", encode(gateway)), &[], Duration::ZERO)
    }

    /// `POST /homes/{id}/check`: reads the gateway's table of devices now.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn check_home(&self, gateway: &str) -> Result<Task, ClientError> {
        let path = format!("/homes/{}/check", encode(gateway));
        self.post(&path, &[], &(), Duration::ZERO)
    }

    /// `GET /tls`: the certificates in force, and the peers refused.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn tls(&self) -> Result<Tls, ClientError> {
        self.get("/tls", &[], Duration::ZERO)
    }

    /// `POST /tls/reload`: takes over new certificate files.
    ///
    /// # Errors
    /// As every request: see [`ClientError`]; [`ClientError::Refused`] when a file is no good.
    pub fn reload_tls(&self) -> Result<Tls, ClientError> {
        self.post("/tls/reload", &[], &(), Duration::ZERO)
    }

    /// `GET /devices`: a page of devices, of those that match `search` if given.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn devices(
        &self,
        search: Option<&str>,
        limit: Option<usize>,
        after: Option<&str>,
    ) -> Result<DevicePage, ClientError> {
        let limit = limit.map(|limit| limit.to_string());
        let query = [
            ("search", search),
            ("limit", limit.as_deref()),
            ("after", after),
        ];
        self.get("/devices", &query, Duration::ZERO)
    }

    /// `GET /devices/{id}`.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn device(&self, id: &str) -> Result<Device, ClientError> {
        self.get(&format!("/devices/{}", encode(id)), &[], Duration::ZERO)
    }

    /// `DELETE /devices/{id}`: removes it from the registry.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn remove_device(&self, id: &str) -> Result<(), ClientError> {
        self.delete(&format!("/devices/{}", encode(id)))
    }

    /// `PATCH /devices/{id}`.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn patch_device(&self, id: &str, patch: &DevicePatch) -> Result<Device, ClientError> {
        let path = format!("/devices/{}", encode(id));
        let url = self.address(&path, &[]);
        let request = self.authorized(self.agent.patch(&url));
        self.read(&url, timed(request, Duration::ZERO).send_json(patch))
    }

    /// `GET /devices/{id}/parameters`: last known values below `path`.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn parameters(
        &self,
        id: &str,
        path: Option<&str>,
        after: Option<&str>,
    ) -> Result<ParameterPage, ClientError> {
        let query = [("path", path), ("after", after)];
        let url = format!("/devices/{}/parameters", encode(id));
        self.get(&url, &query, Duration::ZERO)
    }

    /// `POST /devices/{id}/tasks`: queues a task; with a `wait`, holds until it has ended, at most
    /// [`MAX_WAIT`].
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn submit(
        &self,
        device: &str,
        task: &NewTask,
        wait: Duration,
    ) -> Result<Task, ClientError> {
        let seconds = wait_seconds(wait);
        let path = format!("/devices/{}/tasks", encode(device));
        self.post(&path, &[("wait", seconds.as_deref())], task, wait)
    }

    /// `GET /tasks`: a page of tasks, newest first.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn tasks(
        &self,
        device: Option<&str>,
        state: Option<TaskState>,
        limit: Option<usize>,
        after: Option<&str>,
    ) -> Result<TaskPage, ClientError> {
        let limit = limit.map(|limit| limit.to_string());
        let query = [
            ("device", device),
            ("state", state.map(TaskState::as_str)),
            ("limit", limit.as_deref()),
            ("after", after),
        ];
        self.get("/tasks", &query, Duration::ZERO)
    }

    /// `GET /tasks/{id}`; with a `wait`, holds until it has ended, at most [`MAX_WAIT`].
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn task(&self, id: &str, wait: Duration) -> Result<Task, ClientError> {
        let seconds = wait_seconds(wait);
        let query = [("wait", seconds.as_deref())];
        self.get(&format!("/tasks/{}", encode(id)), &query, wait)
    }

    /// `DELETE /tasks/{id}`: withdraws a task that was not sent yet.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when it was sent or has ended.
    pub fn cancel_task(&self, id: &str) -> Result<(), ClientError> {
        self.delete(&format!("/tasks/{}", encode(id)))
    }

    /// `GET /pki`: the CA.
    ///
    /// # Errors
    /// As every request: see [`ClientError`]; [`ClientError::NotFound`] when the server is no CA.
    pub fn pki(&self) -> Result<Pki, ClientError> {
        self.get("/pki", &[], Duration::ZERO)
    }

    /// `GET /certificates`: a page of certificates, newest first.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn certificates(
        &self,
        wanted: &CertificateSearch<'_>,
        limit: Option<usize>,
        after: Option<&str>,
    ) -> Result<CertificatePage, ClientError> {
        let limit = limit.map(|limit| limit.to_string());
        let expiring = wanted.expiring_in.map(|seconds| seconds.to_string());
        let query = [
            ("search", wanted.search),
            ("device", wanted.device),
            ("state", wanted.state.map(CertificateState::as_str)),
            ("profile", wanted.profile),
            ("expiring_in", expiring.as_deref()),
            ("limit", limit.as_deref()),
            ("after", after),
        ];
        self.get("/certificates", &query, Duration::ZERO)
    }

    /// `GET /certificates/{serial}`.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn certificate(&self, serial: &str) -> Result<IssuedCertificate, ClientError> {
        let path = format!("/certificates/{}", encode(serial));
        self.get(&path, &[], Duration::ZERO)
    }

    /// `POST /certificates/{serial}/revoke`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when it is revoked for good already.
    pub fn revoke_certificate(
        &self,
        serial: &str,
        revoke: &RevokeCertificate,
    ) -> Result<IssuedCertificate, ClientError> {
        let path = format!("/certificates/{}/revoke", encode(serial));
        self.post(&path, &[], revoke, Duration::ZERO)
    }

    /// `GET /approvals`: a page of requests, newest first.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn approvals(
        &self,
        state: Option<ApprovalState>,
        limit: Option<usize>,
        after: Option<&str>,
    ) -> Result<ApprovalPage, ClientError> {
        let limit = limit.map(|limit| limit.to_string());
        let query = [
            ("state", state.map(ApprovalState::as_str)),
            ("limit", limit.as_deref()),
            ("after", after),
        ];
        self.get("/approvals", &query, Duration::ZERO)
    }

    /// `POST /approvals/{id}`: approves or denies a request.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when it was decided already.
    pub fn decide_approval(
        &self,
        id: &str,
        decision: &DecideApproval,
    ) -> Result<Approval, ClientError> {
        let path = format!("/approvals/{}", encode(id));
        self.post(&path, &[], decision, Duration::ZERO)
    }

    /// `GET /enrolment-secrets`: a page of enrolment secrets, by reference.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn enrolment_secrets(
        &self,
        device: Option<&str>,
        limit: Option<usize>,
        after: Option<&str>,
    ) -> Result<EnrolmentSecretPage, ClientError> {
        let limit = limit.map(|limit| limit.to_string());
        let query = [
            ("device", device),
            ("limit", limit.as_deref()),
            ("after", after),
        ];
        self.get("/enrolment-secrets", &query, Duration::ZERO)
    }

    /// `POST /enrolment-secrets`.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn add_enrolment_secret(
        &self,
        secret: &NewEnrolmentSecret,
    ) -> Result<CreatedEnrolmentSecret, ClientError> {
        self.post("/enrolment-secrets", &[], secret, Duration::ZERO)
    }

    /// `DELETE /enrolment-secrets/{reference}`.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn remove_enrolment_secret(&self, reference: &str) -> Result<(), ClientError> {
        self.delete(&format!("/enrolment-secrets/{}", encode(reference)))
    }

    /// `GET /tokens`.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn tokens(&self) -> Result<TokenList, ClientError> {
        self.get("/tokens", &[], Duration::ZERO)
    }

    /// `POST /tokens`.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn create_token(&self, token: &NewToken) -> Result<CreatedToken, ClientError> {
        self.post("/tokens", &[], token, Duration::ZERO)
    }

    /// `DELETE /tokens/{id}`.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn revoke_token(&self, id: &str) -> Result<(), ClientError> {
        self.delete(&format!("/tokens/{}", encode(id)))
    }

    /// `GET /audit`: a page of the audit log, newest first.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn audit(
        &self,
        before: Option<u64>,
        limit: Option<usize>,
    ) -> Result<AuditPage, ClientError> {
        let before = before.map(|before| before.to_string());
        let limit = limit.map(|limit| limit.to_string());
        let query = [("before", before.as_deref()), ("limit", limit.as_deref())];
        self.get("/audit", &query, Duration::ZERO)
    }

    /// `GET /events`: the live stream, of one device if given. The connection is open, and every
    /// later event is seen, when this returns.
    ///
    /// # Errors
    /// As every request: see [`ClientError`].
    pub fn events(&self, device: Option<&str>) -> Result<EventStream, ClientError> {
        let url = self.address("/events", &[("device", device)]);
        let request = self.authorized(self.agent.get(&url));
        let request = request
            .config()
            .timeout_recv_response(Some(ANSWER_TIME))
            .build();
        let response = self.check(&url, request.header("Accept", "text/event-stream").call())?;
        let body = response.into_body().into_with_config().limit(u64::MAX);
        Ok(EventStream {
            lines: BufReader::new(Box::new(body.reader())),
            url: self.base.clone(),
            data: String::new(),
        })
    }

    fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, Option<&str>)],
        held: Duration,
    ) -> Result<T, ClientError> {
        let url = self.address(path, query);
        let request = self.authorized(self.agent.get(&url));
        self.read(&url, timed(request, held).call())
    }

    fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, Option<&str>)],
        body: &impl Serialize,
        held: Duration,
    ) -> Result<T, ClientError> {
        let url = self.address(path, query);
        let request = self.authorized(self.agent.post(&url));
        self.read(&url, timed(request, held).send_json(body))
    }

    fn delete(&self, path: &str) -> Result<(), ClientError> {
        let url = self.address(path, &[]);
        let request = self.authorized(self.agent.delete(&url));
        self.check(&url, timed(request, Duration::ZERO).call())
            .map(|_| ())
    }

    fn address(&self, path: &str, query: &[(&str, Option<&str>)]) -> String {
        let mut url = format!("{}/api/v1{path}", self.base);
        let mut separator = '?';
        for (name, value) in query {
            if let Some(value) = value {
                url.push(separator);
                url.push_str(name);
                url.push('=');
                url.push_str(&encode(value));
                separator = '&';
            }
        }
        url
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn read<T: DeserializeOwned>(
        &self,
        url: &str,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, ClientError> {
        let mut response = self.check(url, answer)?;
        let body = response.body_mut().with_config().limit(MAX_ANSWER);
        let bytes = body
            .read_to_vec()
            .map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::InvalidAnswer {
            url: url.to_owned(),
            reason: error.to_string(),
        })
    }

    /// The answer when its status is one of success, the error it stands for otherwise.
    fn check(
        &self,
        url: &str,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<ureq::http::Response<ureq::Body>, ClientError> {
        let mut response = answer.map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(response);
        }
        let body = response
            .body_mut()
            .with_config()
            .limit(1024 * 1024)
            .read_to_vec()
            .unwrap_or_default();
        let Ok(problem) = serde_json::from_slice::<Problem>(&body) else {
            return Err(ClientError::InvalidAnswer {
                url: url.to_owned(),
                reason: format!("status {status} without the error that this API sends with it"),
            });
        };
        Err(match problem.error.code {
            ProblemCode::Unauthorized => ClientError::Unauthorized(problem),
            ProblemCode::NotFound => ClientError::NotFound(problem),
            _ if status >= 500 && problem.error.code != ProblemCode::Overloaded => {
                ClientError::Failed(problem)
            }
            _ => ClientError::Refused(problem),
        })
    }

    fn unreachable(&self, error: &ureq::Error) -> ClientError {
        let reason = match error {
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::HostNotFound => "no such host".to_owned(),
            ureq::Error::Timeout(_) => "no answer in time".to_owned(),
            error => error.to_string(),
        };
        ClientError::Unreachable {
            url: self.base.clone(),
            reason,
        }
    }
}

/// Live events, in the order in which the server tells them. Ends with an error when the connection does.
pub struct EventStream {
    lines: BufReader<Box<dyn Read + Send>>,
    url: String,
    data: String,
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream")
            .field("url", &self.url)
            .finish()
    }
}

impl Iterator for EventStream {
    type Item = Result<Event, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut line = Vec::new();
            let read = (&mut self.lines)
                .take(MAX_EVENT_LINE)
                .read_until(b'\n', &mut line);
            match read {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    return Some(Err(ClientError::Unreachable {
                        url: self.url.clone(),
                        reason: error.to_string(),
                    }));
                }
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if let Some(data) = line.strip_prefix("data:") {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            } else if line.is_empty() && !self.data.is_empty() {
                let data = std::mem::take(&mut self.data);
                match serde_json::from_str(&data) {
                    Ok(event) => return Some(Ok(event)),
                    // A newer server may tell events this client does not know: they are passed over.
                    Err(_) if serde_json::from_str::<serde_json::Value>(&data).is_ok() => {}
                    Err(error) => {
                        return Some(Err(ClientError::InvalidAnswer {
                            url: self.url.clone(),
                            reason: error.to_string(),
                        }));
                    }
                }
            }
        }
    }
}

fn timed<B>(request: ureq::RequestBuilder<B>, held: Duration) -> ureq::RequestBuilder<B> {
    request
        .config()
        .timeout_global(Some(held.min(MAX_WAIT) + ANSWER_TIME))
        .build()
}

fn wait_seconds(wait: Duration) -> Option<String> {
    let seconds = wait.min(MAX_WAIT).as_secs();
    (seconds > 0).then(|| seconds.to_string())
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Percent-encodes everything but the unreserved characters of RFC 3986 §2.3.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                use std::fmt::Write as _;
                // Writing to a String cannot fail.
                write!(out, "%{byte:02X}").unwrap_or_default();
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn endpoint_ids_are_encoded_for_a_path() {
        assert_eq!(encode("os::012345-A B/ü"), "os%3A%3A012345-A%20B%2F%C3%BC");
    }

    #[test]
    fn only_plain_http_urls_with_a_host_are_servers() {
        for good in [
            "http://127.0.0.1:8080",
            "http://localhost/",
            "http://[::1]:80",
        ] {
            assert!(Client::new(good, None).is_ok(), "{good}");
        }
        for bad in [
            "https://h",
            "h:80",
            "http://",
            "http://h/path",
            "http://user@h",
            "",
        ] {
            let error = Client::new(bad, None).unwrap_err();
            assert!(matches!(error, ClientError::BadAddress { .. }), "{bad}");
        }
    }

    #[test]
    fn the_query_leaves_out_what_is_absent_and_encodes_the_rest() {
        let client = Client::new("http://h", None).unwrap();
        let query = [
            ("search", Some("a&b")),
            ("after", None),
            ("limit", Some("5")),
        ];
        assert_eq!(
            client.address("/devices", &query),
            "http://h/api/v1/devices?search=a%26b&limit=5"
        );
    }

    #[test]
    fn event_stream_joins_data_lines_and_passes_over_comments_and_unknown_kinds() {
        let text = ": hello\n\nevent: missed\r\ndata: {\"type\":\"missed\",\r\ndata: \"count\":3}\r\n\r\n\
                    data: {\"type\":\"later\"}\n\ndata: nonsense\n\n";
        let mut stream = EventStream {
            lines: BufReader::new(Box::new(std::io::Cursor::new(text.as_bytes().to_vec()))),
            url: "http://h".to_owned(),
            data: String::new(),
        };
        let first = stream.next().unwrap().unwrap();
        assert_eq!(first, Event::Missed { count: 3 });
        let second = stream.next().unwrap().unwrap_err();
        assert!(matches!(second, ClientError::InvalidAnswer { .. }));
        assert!(stream.next().is_none());
    }

    #[test]
    fn loopback_is_recognised_with_and_without_a_port() {
        for yes in ["127.0.0.1:8080", "localhost", "[::1]:80", "[::1]"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["192.0.2.1:80", "example.com", "10.0.0.1"] {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
