//! What a session of an ACS is told, and what it tells.

use std::time::Duration;

use super::RequestId;
use crate::{DecodeError, Fault, Limits, Message, Method, Version, fault::Retry, message::Inform};

/// Settings of a [`super::Session`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The newest version spoken. Default 1.4.
    pub version: Version,
    /// The methods of a CPE's requests that the application answers; others are answered with 8000. GetRPCMethods is always answered. Default: all.
    pub methods: Vec<Method>,
    /// How long the CPE may take for its next POST. Default 30 s (TR-069 §3.2.1).
    pub timeout: Duration,
    /// The longest time that its SessionTimeout header can ask for instead. Default 300 s.
    pub longest_timeout: Duration,
    /// How long after our last word a request of the CPE still belongs to the session. Default 5 s.
    pub linger: Duration,
    /// The most POSTs of one session. Default 100,000.
    pub most_posts: u32,
    /// How much of an envelope is read.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            version: Version::V1_4,
            methods: Method::of_acs().collect(),
            timeout: Duration::from_secs(30),
            longest_timeout: Duration::from_secs(300),
            linger: Duration::from_secs(5),
            most_posts: 100_000,
            limits: Limits::default(),
        }
    }
}

/// The answer to a POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// 200 with a body, 204, or 400.
    pub status: u16,
    /// An envelope, or nothing.
    pub body: Vec<u8>,
    /// The connection is no more use.
    pub close: bool,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcsEvent {
    /// A CPE begins: call [`super::Session::accept`] or [`super::Session::refuse`], after its identity is established.
    Inform {
        /// Who and why.
        inform: Box<Inform>,
        /// The version of the session.
        version: Version,
    },
    /// The CPE asks for something: call [`super::Session::respond`] or [`super::Session::refuse`].
    Request(Message),
    /// It is our turn: call [`super::Session::send`] or [`super::Session::finish`].
    Ready,
    /// The CPE has answered.
    Response {
        /// Which request.
        id: RequestId,
        /// The response.
        message: Message,
    },
    /// The CPE refuses a request.
    Fault {
        /// Which request.
        id: RequestId,
        /// Why.
        fault: Fault,
        /// Whether trying again can help.
        retry: Retry,
    },
    /// The CPE's answer to a request cannot be read. What the request did is not known.
    Unreadable {
        /// Which request.
        id: RequestId,
        /// Why.
        error: DecodeError,
    },
    /// The session is over.
    Ended {
        /// How.
        outcome: Outcome,
        /// A request that was sent and not answered: what it did is not known.
        unanswered: Option<RequestId>,
    },
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both sides had nothing more to say.
    Done,
    /// We refused its Inform.
    Refused,
    /// The CPE was silent for too long.
    TimedOut,
    /// The CPE began again without ending this one.
    Interrupted,
    /// The CPE sent what does not come now.
    OutOfOrder(&'static str),
    /// The CPE sent what is no SOAP.
    Malformed(DecodeError),
    /// The CPE's answer names another request.
    WrongId,
    /// More POSTs than a session may have.
    TooLong,
    /// The application ended it.
    Aborted,
}

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It is not our turn.
    #[error("it is not the ACS's turn")]
    NotNow,
    /// The version of the session does not have the method.
    #[error("the session's version {0} does not have the method")]
    Version(Version),
    /// Not a request to a CPE.
    #[error("no request to a CPE")]
    NotARequest,
}

/// What a session has put up with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// POSTs.
    pub posts: u64,
    /// POSTs that could not be read.
    pub malformed: u64,
    /// Requests before any Inform.
    pub out_of_the_blue: u64,
    /// Requests for methods that are not answered.
    pub unsupported: u64,
    /// Answers without the ID of their request.
    pub without_id: u64,
}
