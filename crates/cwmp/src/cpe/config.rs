//! What a CPE is told, and what it tells.

use std::time::Duration;

use super::{RequestId, RetryPolicy, Waiting};
use crate::{
    DateTime, DecodeError, Event, Fault, FaultCode, Limits, Message, Method, ParameterValues,
    Version, message::DeviceId,
};

/// Settings of a [`super::Cpe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The newest version spoken. Default 1.4.
    pub version: Version,
    /// The methods that the application answers; others are answered with 9000. GetRPCMethods is always answered. Default: those every CPE has to have.
    pub methods: Vec<Method>,
    /// Vendors' methods that GetRPCMethods tells too.
    pub vendor_methods: Vec<String>,
    /// How long to wait before a failed session is tried again.
    pub retry: RetryPolicy,
    /// How long an answer of the ACS may take. Default 60 s; TR-069 wants at least 30 s.
    pub timeout: Duration,
    /// `SessionTimeout` for the ACS, in seconds (CWMP 1.3). Default none.
    pub session_timeout: Option<u32>,
    /// How often the same request is sent again in one session because the ACS asks for it (8005). Default 3.
    pub repeats: u32,
    /// The most events `M` and vendors' that wait; the oldest goes first. Default 32.
    pub most_events: usize,
    /// The most requests that wait. Default 16.
    pub most_requests: usize,
    /// The most informs that are scheduled. Default 16.
    pub most_scheduled: usize,
    /// The most exchanges of one session; an ACS that goes on for longer is left. Default 100,000.
    pub most_exchanges: u32,
    /// How much of an envelope is read.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            version: Version::V1_4,
            methods: vec![
                Method::SetParameterValues,
                Method::GetParameterValues,
                Method::GetParameterNames,
                Method::SetParameterAttributes,
                Method::GetParameterAttributes,
                Method::AddObject,
                Method::DeleteObject,
                Method::Reboot,
                Method::Download,
            ],
            vendor_methods: Vec::new(),
            retry: RetryPolicy::default(),
            timeout: Duration::from_secs(60),
            session_timeout: None,
            repeats: 3,
            most_events: 32,
            most_requests: 16,
            most_scheduled: 16,
            most_exchanges: 100_000,
            limits: Limits::default(),
        }
    }
}

/// What the application puts into an Inform.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InformContent {
    /// Who the device is.
    pub device: DeviceId,
    /// Its clock.
    pub current_time: DateTime,
    /// The forced parameters, and those whose change is to be told.
    pub values: ParameterValues,
}

/// What the HTTP layer got for a POST. It follows redirects and answers challenges itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// 200 with a body.
    Envelope(&'a [u8]),
    /// 204, or 200 without a body.
    Empty,
    /// 503, with the wait that Retry-After names.
    Unavailable(Option<Duration>),
    /// Any other end of the exchange.
    Failed(HttpFailure),
}

/// Why a POST had no answer of CWMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpFailure {
    /// No connection, or it broke.
    #[error("the connection to the ACS failed")]
    Connection,
    /// 401 or 407, again after the credentials.
    #[error("the ACS does not take the credentials")]
    Unauthorized,
    /// More redirects than are followed.
    #[error("too many redirects")]
    Redirects,
    /// Another status.
    #[error("the HTTP status {0}")]
    Status(u16),
}

/// What the HTTP layer has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// Send a POST, on the session's connection, with its cookies. The first one opens them. An empty one has neither Content-Type nor SOAPAction.
    Post(Vec<u8>),
    /// The session is over: forget connection and cookies.
    Close,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpeEvent {
    /// A session is due: call [`super::Cpe::begin`]. [`super::Cpe::due`] tells why.
    Starting,
    /// The ACS has answered the Inform.
    Informed {
        /// The version of the session.
        version: Version,
        /// The events that are delivered with it.
        delivered: Vec<Event>,
    },
    /// The ACS asks for something: call [`super::Cpe::respond`].
    Request(Message),
    /// The ACS has answered a request of ours.
    Answered {
        /// Which.
        id: RequestId,
        /// The response.
        response: Message,
    },
    /// The ACS refuses a request of ours; it is not sent again.
    Refused {
        /// Which.
        id: RequestId,
        /// Why.
        fault: Fault,
    },
    /// The session is over. What was put off until then, such as a restart, is due.
    Ended,
    /// The session failed, and is tried again.
    Failed {
        /// Why.
        reason: Failure,
        /// How long the wait is.
        wait: Duration,
    },
}

/// Why a session failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// HTTP had no answer.
    #[error(transparent)]
    Http(HttpFailure),
    /// The ACS is overloaded.
    #[error("the ACS is not available now")]
    Unavailable,
    /// No answer in time.
    #[error("the ACS did not answer in time")]
    TimedOut,
    /// The ACS refuses the Inform.
    #[error("the ACS refuses the Inform: {0}")]
    Refused(FaultCode),
    /// The answer cannot be read.
    #[error("the answer of the ACS: {0}")]
    Malformed(DecodeError),
    /// The answer is not what comes now.
    #[error("{0} came when {1} was due")]
    OutOfOrder(&'static str, &'static str),
    /// The answer names another request.
    #[error("an answer with the ID of another request")]
    WrongId,
    /// The ACS chose a version that we do not speak.
    #[error("the ACS chose a version that was not offered")]
    Version,
    /// The ACS asks for more than one session does.
    #[error("the session does not come to an end")]
    TooLong,
    /// The application gave it up.
    #[error("the session was given up")]
    Aborted,
}

/// What outlives a restart of the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Undelivered events.
    pub events: Vec<Event>,
    /// Unanswered requests.
    pub requests: Vec<Waiting>,
    /// Informs to come, by the time that is left and their CommandKey.
    pub scheduled: Vec<(Duration, String)>,
    /// How often the session was tried.
    pub retry_count: u32,
}

/// Why a request was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// [`Config::most_requests`] wait already.
    #[error("as many requests wait as may")]
    Full,
    /// Not a request to an ACS, or Inform.
    #[error("no request that a CPE queues")]
    NotARequest,
}

/// Why a call does not fit what is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not now")]
pub struct NotNow;
