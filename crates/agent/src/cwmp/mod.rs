//! The device towards an ACS (TR-069): what of it needs neither the engine nor a socket.
//!
//! ```text
//! ACS ◀─ HTTP ─▶ runtime::cwmp ◀─ AcsAction, AcsEvent ─▶ engine::cwmp ─▶ homefleet_cwmp::cpe::Cpe (sessions, events)
//!                 calls, files                               │
//!                                              schema (ManagementServer.), view (names of either root)
//! ```
//!
//! The tree has TR-181's names; [`Root`] translates them for devices that an ACS knows as `InternetGatewayDevice`. Other modules put
//! parameters under `Device.ManagementServer.` by a table of their own that names this path, and what is told at once by
//! default into [`schema::DEFAULT_ACTIVE`].

use std::{net::SocketAddr, path::PathBuf};

use homefleet_cwmp::FaultCode;
pub use homefleet_net::cwmp::Answer;

pub(crate) mod diagnostics;
mod discovery;
pub mod schema;
pub(crate) mod stored;
pub(crate) mod transfer;
pub mod view;

pub use self::{discovery::Discovered, schema::OBJECTS, view::Root};
use crate::transport::Secret;

/// The object.
pub const OBJECT: &str = "Device.ManagementServer.";

/// What the configuration file says about the ACS.
#[derive(Clone, Debug, Default)]
pub struct CwmpConfig {
    /// There is such a section: the device speaks CWMP.
    pub enabled: bool,
    /// Where the ACS is; empty: DHCP, or a Controller, will tell.
    pub url: String,
    /// For the login at the ACS.
    pub username: String,
    /// For the login at the ACS.
    pub password: Option<Secret>,
    /// What the data model is called towards the ACS.
    pub root: Root,
    /// Seconds between periodic informs; 0: none. `None`: a day.
    pub periodic: Option<u32>,
    /// Where Connection Requests are taken; absent: nowhere.
    pub connection_request: Option<SocketAddr>,
    /// `host[:port]` in `ConnectionRequestURL` where that is not the local address.
    pub connection_request_host: Option<String>,
    /// Where the DHCP client leaves what it was told of an ACS.
    pub dhcp: Option<PathBuf>,
    /// A program that installs what was downloaded: its type, the file, the name that the ACS gave it.
    pub install: Option<PathBuf>,
    /// The file that an Upload of the log sends.
    pub log_file: Option<PathBuf>,
}

/// How the ACS is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcsLink {
    /// `http://` or `https://`.
    pub url: String,
    /// For the login; empty: none.
    pub username: String,
    /// For the login.
    pub password: Secret,
}

/// Who may call the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallLogin {
    /// The path of the URL, which is not to be guessed.
    pub path: String,
    /// `ConnectionRequestUsername`.
    pub username: String,
    /// `ConnectionRequestPassword`.
    pub password: Secret,
    /// `HTTPConnectionRequestEnable`, and there is a name and a password.
    pub enabled: bool,
}

/// What the engine wants done about the ACS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcsAction {
    /// From the next session on this is the ACS; then [`AcsEvent::Ready`] is told. `None`: there is none.
    Connect(Option<AcsLink>),
    /// Who may call.
    Listen(CallLogin),
    /// Send a POST; its end is told as [`AcsEvent::Reply`].
    Post(Vec<u8>),
    /// The session is over.
    Close,
    /// Fetch or send a file; then [`AcsEvent::File`] is told.
    Transfer(TransferJob),
    /// Install what was fetched; then [`AcsEvent::File`] is told.
    Install {
        /// Of the transfer.
        id: u64,
        /// As the ACS calls it.
        file_type: String,
        /// The name that the ACS gave it; mostly empty.
        target: String,
    },
}

/// A file to fetch or to send.
#[derive(Clone, PartialEq, Eq)]
pub struct TransferJob {
    /// Of the transfer.
    pub id: u64,
    /// Where it is, or goes.
    pub url: String,
    /// For the login; empty: none.
    pub username: String,
    /// For the login.
    pub password: homefleet_cwmp::Secret,
    /// What it is.
    pub content: Content,
}

impl std::fmt::Debug for TransferJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its URL may be a secret of its own.
        f.debug_struct("TransferJob")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What a transfer moves.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// A file to this device.
    Fetch,
    /// These bytes to the server.
    Send(Vec<u8>),
    /// The log to the server.
    SendLog,
}

/// How far a transfer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileDone {
    /// The file is here.
    Fetched,
    /// It was sent, or installed.
    Complete,
    /// It failed.
    Failed(FaultCode, String),
}

/// What the engine is told about the ACS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcsEvent {
    /// The last [`AcsAction::Connect`] is in effect.
    Ready,
    /// Where calls reach this device: `host:port`, empty for nowhere.
    Address(String),
    /// What came of the POST.
    Reply(Answer),
    /// The ACS called, and has proven who it is.
    Called,
    /// A step of a transfer is over.
    File {
        /// Of the transfer.
        id: u64,
        /// How.
        done: FileDone,
    },
    /// What DHCP says about the ACS.
    Discovered(Discovered),
}
