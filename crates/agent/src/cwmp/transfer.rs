//! Files that the ACS wants fetched or sent: what waits, and for when (TR-069 A.3.2.8, A.4.1).

use homefleet_cwmp::{
    Fault, FaultCode, Method, Secret,
    message::{Download, ScheduleDownload, TimeWindow, TransferState, Upload},
};
use serde::{Deserialize, Serialize};

/// The most that wait; more are answered 9004. TR-069 wants at least three.
pub(crate) const MOST: usize = 16;

/// Seconds between attempts within a time window.
const AGAIN: u64 = 30;

/// Attempts where `MaxRetries` leaves it to the device.
const OWN_RETRIES: i32 = 3;

/// A transfer, until it is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transfer {
    pub(crate) id: u64,
    pub(crate) command_key: String,
    pub(crate) kind: Kind,
    pub(crate) file_type: String,
    pub(crate) url: String,
    pub(crate) username: String,
    #[serde(with = "plain")]
    pub(crate) password: Secret,
    pub(crate) file_size: u32,
    pub(crate) target: String,
    pub(crate) state: State,
    /// When it may begin next, in seconds since 1970.
    pub(crate) due: u64,
    /// When it began.
    pub(crate) started: Option<u64>,
    windows: Vec<Window>,
    tries: i32,
}

/// The method that led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Download,
    Scheduled,
    Upload,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    Waiting,
    Running,
    /// The file is there; the software was this before it was installed.
    Installing(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Window {
    start: u64,
    end: u64,
    retries: i32,
}

/// What follows from a failure.
pub(crate) enum Next {
    /// It is tried again.
    Again,
    /// It is over.
    Over,
}

/// A password as the store keeps it: the store is for its owner only.
mod plain {
    use homefleet_cwmp::Secret;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret.reveal())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
        String::deserialize(from).map(Secret::from)
    }
}

impl Kind {
    pub(crate) fn method(self) -> Method {
        match self {
            Self::Download => Method::Download,
            Self::Scheduled => Method::ScheduleDownload,
            Self::Upload => Method::Upload,
        }
    }

    pub(crate) fn is_download(self) -> bool {
        self != Self::Upload
    }
}

impl Transfer {
    pub(crate) fn download(id: u64, now: u64, request: Download) -> Result<Self, Fault> {
        check(&request.command_key, &request.url)?;
        check_type(&request.file_type, &["1 ", "2 ", "3 ", "4 ", "5 "])?;
        Ok(Self {
            id,
            command_key: request.command_key,
            kind: Kind::Download,
            file_type: request.file_type,
            url: request.url,
            username: request.username,
            password: request.password,
            file_size: request.file_size,
            target: request.target_file_name,
            state: State::Waiting,
            due: now.saturating_add(request.delay_seconds.into()),
            started: None,
            windows: Vec::new(),
            tries: 0,
        })
    }

    pub(crate) fn upload(id: u64, now: u64, request: Upload) -> Result<Self, Fault> {
        check(&request.command_key, &request.url)?;
        check_type(&request.file_type, &["1 ", "2 ", "3 ", "4 "])?;
        Ok(Self {
            id,
            command_key: request.command_key,
            kind: Kind::Upload,
            file_type: request.file_type,
            url: request.url,
            username: request.username,
            password: request.password,
            file_size: 0,
            target: String::new(),
            state: State::Waiting,
            due: now.saturating_add(request.delay_seconds.into()),
            started: None,
            windows: Vec::new(),
            tries: 0,
        })
    }

    pub(crate) fn scheduled(id: u64, now: u64, request: ScheduleDownload) -> Result<Self, Fault> {
        check(&request.command_key, &request.url)?;
        check_type(&request.file_type, &["1 ", "2 ", "3 ", "4 ", "5 "])?;
        let windows = windows(now, &request.windows)?;
        Ok(Self {
            id,
            command_key: request.command_key,
            kind: Kind::Scheduled,
            file_type: request.file_type,
            url: request.url,
            username: request.username,
            password: request.password,
            file_size: request.file_size,
            target: request.target_file_name,
            state: State::Waiting,
            due: windows.first().map_or(now, |window| window.start),
            started: None,
            windows,
            tries: 0,
        })
    }

    /// As TR-069 tells it.
    pub(crate) fn progress(&self) -> TransferState {
        match self.state {
            State::Waiting => TransferState::NotYetStarted,
            State::Running => TransferState::InProgress,
            State::Installing(_) => TransferState::Completed,
        }
    }

    /// Whether there is still a time for it; a download without windows may happen at any.
    pub(crate) fn has_time(&mut self, now: u64) -> bool {
        if self.kind != Kind::Scheduled {
            return true;
        }
        while self.windows.first().is_some_and(|window| window.end <= now) {
            self.windows.remove(0);
            self.tries = 0;
        }
        match self.windows.first() {
            Some(window) => {
                self.due = self.due.max(window.start);
                true
            }
            None => false,
        }
    }

    /// An attempt has failed.
    pub(crate) fn failed(&mut self, now: u64) -> Next {
        let Some(window) = self.windows.first() else {
            return Next::Over;
        };
        let most = match window.retries {
            own if own < 0 => OWN_RETRIES,
            given => given,
        };
        self.tries += 1;
        self.due = now.saturating_add(AGAIN);
        if self.tries > most || self.due >= window.end {
            self.windows.remove(0);
            self.tries = 0;
            let Some(window) = self.windows.first() else {
                return Next::Over;
            };
            self.due = window.start;
        }
        self.state = State::Waiting;
        Next::Again
    }
}

/// One or two, in order, within reach of `now`.
fn windows(now: u64, asked: &[TimeWindow]) -> Result<Vec<Window>, Fault> {
    let wrong = |text: &str| Fault::with_text(FaultCode::INVALID_ARGUMENTS, text);
    if asked.is_empty() || asked.len() > 2 {
        return Err(wrong("one or two time windows"));
    }
    let mut all: Vec<Window> = Vec::new();
    for one in asked {
        if one.start >= one.end {
            return Err(wrong("a time window that ends before it begins"));
        }
        if !["1 ", "2 ", "3 "]
            .iter()
            .any(|mode| one.mode.starts_with(mode))
        {
            return Err(wrong("nobody can confirm here: modes 1 to 3 only"));
        }
        let window = Window {
            start: now.saturating_add(one.start.into()),
            end: now.saturating_add(one.end.into()),
            retries: one.max_retries,
        };
        if all.last().is_some_and(|before| before.end > window.start) {
            return Err(wrong("time windows that overlap"));
        }
        all.push(window);
    }
    Ok(all)
}

fn check(command_key: &str, url: &str) -> Result<(), Fault> {
    if command_key.chars().count() > 32 {
        let text = "a CommandKey of more than 32 characters";
        return Err(Fault::with_text(FaultCode::INVALID_ARGUMENTS, text));
    }
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    let Some(rest) = rest else {
        return Err(Fault::new(FaultCode::TRANSFER_PROTOCOL));
    };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    if host.is_empty() || host.contains('@') || url.len() > 1024 {
        let text = "a URL without a host, or with credentials in it";
        return Err(Fault::with_text(FaultCode::INVALID_ARGUMENTS, text));
    }
    Ok(())
}

fn check_type(file_type: &str, known: &[&str]) -> Result<(), Fault> {
    let vendors = file_type.starts_with("X ");
    if vendors || known.iter().any(|known| file_type.starts_with(known)) {
        return Ok(());
    }
    let text = "a FileType that this device does not have";
    Err(Fault::with_text(FaultCode::INVALID_ARGUMENTS, text))
}
