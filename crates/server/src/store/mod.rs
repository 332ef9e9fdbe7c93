//! Durable state: records, what can be written, what can be asked.
//!
//! Writing is batch-first: a [`Batch`] of [`Write`]s of any aggregates is applied completely or not at
//! all, and the future of [`Store::write`] resolves only when it is on disk. So a device's answer, the
//! values learned from it and the end of its task become durable together.
//!
//! Reading is one narrow trait per aggregate ([`Devices`], [`Parameters`], [`Tasks`], [`Subscriptions`],
//! [`Tokens`], [`AuditLog`], [`Homes`](home::Homes), [`Certificates`](pki::Certificates)). [`sqlite`] is the embedded backend; a cluster will have another.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use homefleet_api::{Operation, Role, SubscriptionState, TaskError, TaskResult, TaskState};
use serde::{Deserialize, Serialize};

use crate::clock::Millis;

pub mod home;
pub mod pki;
pub mod sort;
pub mod sqlite;

/// What a store's method returns.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// A whole store.
pub trait Store:
    Devices
    + Parameters
    + Tasks
    + Subscriptions
    + Tokens
    + AuditLog
    + home::Homes
    + pki::Certificates
    + Send
    + Sync
{
    /// Applies a batch completely or not at all. The order of calls is the order of effect, even before
    /// the first future is polled. When it resolves to `Ok`, the batch is on disk.
    fn write(&self, batch: Batch) -> Answer<Written>;

    /// Whether new work should be accepted: false while too many writes wait.
    fn has_room(&self) -> bool;
}

/// Reads about devices.
pub trait Devices {
    /// All devices.
    fn devices(&self) -> Answer<Vec<DeviceRecord>>;
}

/// Reads about last known values.
pub trait Parameters {
    /// Values under a path in path order: `path` is a parameter path, an object path ending with a dot,
    /// or either with `*` for instance numbers; empty = all.
    fn parameters(
        &self,
        device: &str,
        path: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Answer<Vec<ParameterRecord>>;

    /// How many values of a device are stored.
    fn parameter_count(&self, device: &str) -> Answer<u64>;
}

/// Reads about tasks.
pub trait Tasks {
    /// Tasks not yet final, in the order of creation.
    fn open_tasks(&self) -> Answer<Vec<TaskRecord>>;

    /// One task.
    fn task(&self, id: &str) -> Answer<Option<TaskRecord>>;

    /// Tasks before `after`, newest first.
    fn tasks(
        &self,
        device: Option<&str>,
        state: Option<TaskState>,
        after: Option<&str>,
        limit: usize,
    ) -> Answer<Vec<TaskRecord>>;
}

/// Reads about subscriptions.
pub trait Subscriptions {
    /// The subscriptions wanted on a device.
    fn subscriptions(&self, device: &str) -> Answer<Vec<SubscriptionRecord>>;
}

/// Reads about API tokens.
pub trait Tokens {
    /// All tokens in the order they were made.
    fn tokens(&self) -> Answer<Vec<TokenRecord>>;
}

/// Reads of the audit log.
pub trait AuditLog {
    /// Entries before `before`, newest first.
    fn audit(&self, before: Option<u64>, limit: usize) -> Answer<Vec<AuditRecord>>;
}

/// Most of what is kept per device: no device fills the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most values; one longer than 1 KiB counts once more for each further KiB.
    pub values: u32,
    /// Longest value, in bytes.
    pub value_length: usize,
    /// Most notifications remembered, so that a retry is recognised; the oldest are forgotten first.
    pub seen: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            values: 100_000,
            value_length: 64 * 1024,
            seen: 8192,
        }
    }
}

/// Writes that become durable together.
#[derive(Debug, Clone, Default)]
pub struct Batch(pub Vec<Write>);

impl Batch {
    /// A batch of one.
    pub fn one(write: Write) -> Self {
        Self(vec![write])
    }

    /// Adds a write.
    pub fn push(&mut self, write: Write) {
        self.0.push(write);
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One write.
#[derive(Debug, Clone)]
pub enum Write {
    /// Appends to the audit log; `sequence` is assigned by the store.
    Audit(AuditRecord),
    /// Inserts or replaces a device.
    Device(Box<DeviceRecord>),
    /// What is known of homes.
    Home(home::HomeWrite),
    /// Removes finished tasks updated before `before`, notifications seen before `seen_before`, and entries of the audit
    /// log from before `audit_before`, of which many go in several rounds.
    Prune {
        /// For tasks.
        before: Millis,
        /// For notifications.
        seen_before: Millis,
        /// For the audit log.
        audit_before: Millis,
    },
    /// Removes a device with its values, subscriptions and notifications; tasks stay as history.
    RemoveDevice(String),
    /// Removes every value at or under a path (object path ending with a dot, or parameter path).
    RemoveParameters {
        /// Endpoint ID.
        device: String,
        /// Path.
        path: String,
    },
    /// Removes a subscription.
    RemoveSubscription {
        /// Endpoint ID.
        device: String,
        /// Subscription ID.
        id: String,
    },
    /// Removes a token.
    RemoveToken(String),
    /// Inserts or replaces values; differences are told in [`Written::changed`].
    Parameters {
        /// Endpoint ID.
        device: String,
        /// Values.
        values: Vec<ParameterRecord>,
        /// Object paths that were read completely: values under them that are not in `values` are gone.
        complete: Vec<String>,
    },
    /// What a notification says, once: when a notification with this key was stored before, nothing of this
    /// write is done and [`Written::duplicate`] is set.
    Notification {
        /// Endpoint ID.
        device: String,
        /// Digest of its message; `None` = not retried by the device, always new.
        key: Option<[u8; 16]>,
        /// When.
        time: Millis,
        /// Values it tells.
        values: Vec<ParameterRecord>,
        /// Objects it says are gone.
        removed: Vec<String>,
    },
    /// What the CA keeps.
    Pki(pki::PkiWrite),
    /// Inserts or replaces a subscription.
    Subscription(SubscriptionRecord),
    /// Inserts or replaces a task.
    Task(Box<TaskRecord>),
    /// Inserts or replaces a token.
    Token(TokenRecord),
}

/// What a batch did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Values that are new or differ from what was stored: (device, value).
    pub changed: Vec<(String, ParameterRecord)>,
    /// The notification of the batch was stored before; nothing of it was written.
    pub duplicate: bool,
    /// Values not kept, because the device has its full number or they or their paths are too long.
    pub refused: u64,
    /// Notifications that are no longer remembered, because the device has its full number.
    pub forgotten: u64,
    /// Certificates revoked.
    pub revoked: u64,
}

/// A device as stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRecord {
    /// Endpoint ID.
    pub id: String,
    /// Operator's name for it.
    pub label: Option<String>,
    /// OUI.
    pub oui: Option<String>,
    /// Product class.
    pub product_class: Option<String>,
    /// Serial number.
    pub serial_number: Option<String>,
    /// Manufacturer.
    pub manufacturer: Option<String>,
    /// Model name.
    pub model_name: Option<String>,
    /// Software version.
    pub software_version: Option<String>,
    /// Certificate its identity is bound to; `None` for a device that only ever came over a plain channel.
    pub certificate: Option<CertificateRecord>,
    /// The Trusted Broker that vouched for it last.
    pub broker: Option<CertificateRecord>,
    /// USP versions.
    pub versions: Vec<String>,
    /// Reply addresses, newest first.
    pub addresses: Vec<AddressRecord>,
    /// First heard.
    pub first_contact: Millis,
    /// Last heard.
    pub last_contact: Millis,
    /// Last failure to send.
    pub last_failure: Option<Millis>,
    /// Why.
    pub last_failure_reason: Option<String>,
    /// What is known of a device that speaks CWMP; `None` for one that speaks USP.
    pub cwmp: Option<CwmpRecord>,
    /// When its DeviceInfo and LocalAgent were last read completely.
    pub read: Option<Millis>,
    /// When the hour began in which it was read so often; not stored.
    #[serde(skip)]
    pub reads: (Millis, u32),
    /// Digests of its latest completions, the newest last; not stored.
    #[serde(skip)]
    pub completions: VecDeque<[u8; 16]>,
}

impl DeviceRecord {
    /// Whether a certificate or a Trusted Broker ever stood for it.
    pub fn is_secure(&self) -> bool {
        self.certificate.is_some() || self.broker.is_some()
    }
}

/// What is known of a device that speaks CWMP.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CwmpRecord {
    /// Whether it is managed; else it is in quarantine.
    pub admitted: bool,
    /// What its data model begins with: `Device.` or `InternetGatewayDevice.`.
    pub root: String,
    /// The version of its last session.
    pub version: String,
    /// The events of its last session.
    pub events: Vec<String>,
    /// Where it takes Connection Requests.
    pub connection_request_url: Option<String>,
    /// What it takes them with; the password is sealed.
    pub connection_request: Option<LoginRecord>,
    /// What it logs in with, once it has shown that it has a password of its own.
    pub login: Option<HashedLogin>,
    /// The same, as it was given to it last; not used yet.
    pub next_login: Option<HashedLogin>,
    /// It may have forgotten that: the login of all devices does for it once more.
    pub again: bool,
    /// Where its last session came from.
    pub address: Option<String>,
    /// How far its data model is known; `None`: nobody has asked.
    pub discovery: Option<Discovery>,
    /// What it was given when it began to be managed, by name, and whether it took it.
    pub given: BTreeMap<String, Given>,
    /// Whether it found address translation (NATDetected); `None` when it never said.
    pub nat: Option<bool>,
    /// When it said so.
    pub nat_seen: Millis,
    /// Where it says that it takes UDP Connection Requests.
    pub udp_address: Option<ToldAddress>,
    /// Its STUNUsername and STUNPassword.
    pub stun: Option<LoginRecord>,
    /// Where the STUN server saw it listening.
    pub binding: Option<BindingRecord>,
    /// `ts` of the UDP Connection Request that was sent to it last, in seconds since 1970: it takes only later ones.
    pub last_wake: u64,
}

/// How far a data model is known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Discovery {
    /// Objects that are still to be listed, the next one last.
    pub left: Vec<String>,
    /// Objects that were listed.
    pub listed: u32,
    /// Objects that were not, because there were too many or the device refused.
    pub left_out: u32,
}

/// Whether a device took what it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Given {
    /// It has it.
    Taken,
    /// It refused it, and why.
    Refused(String),
}

/// An address as a device told it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ToldAddress {
    /// `host` or `host:port`.
    pub address: String,
    /// When it was told.
    pub seen: Millis,
}

/// A binding as the STUN server learned it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingRecord {
    /// The device's address as seen here.
    pub at: SocketAddr,
    /// The address of ours that it sends to.
    pub local: SocketAddr,
    /// When it came to be this.
    pub since: Millis,
    /// When it was last proven.
    pub seen: Millis,
}

/// What is kept of a password that is only compared: `H(username:realm:password)`, as Digest computes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HashedLogin {
    /// By MD5, in hexadecimal.
    pub md5: SecretText,
    /// By SHA-256, in hexadecimal.
    pub sha256: SecretText,
}

/// A login as stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LoginRecord {
    /// Name.
    pub username: String,
    /// Password.
    pub password: SecretText,
}

/// A secret that has to be kept as it is; it does not show.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// A secret.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("secret")
    }
}

/// A certificate as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRecord {
    /// SHA-256 of the DER, hexadecimal.
    pub fingerprint: String,
    /// Subject.
    pub subject: String,
    /// End of validity.
    pub not_after: Millis,
    /// First presented.
    pub first_seen: Millis,
}

/// An address as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRecord {
    /// The text of a [`Route`](homefleet_net::mtp::Route).
    pub uri: String,
    /// Whether a certificate or a Trusted Broker stood for the device there.
    pub secure: bool,
    /// Last stated.
    pub seen: Millis,
}

/// A value as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterRecord {
    /// Full path.
    pub path: String,
    /// Text.
    pub value: String,
    /// Last stated.
    pub seen: Millis,
}

/// A task as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Identifier.
    pub id: String,
    /// Endpoint ID.
    pub device: String,
    /// What is wanted.
    pub operation: Operation,
    /// State.
    pub state: TaskState,
    /// Accepted.
    pub created: Millis,
    /// Last state change.
    pub updated: Millis,
    /// Given up.
    pub expires: Millis,
    /// Times given to the network.
    pub attempts: u32,
    /// Next attempt.
    pub next_attempt: Option<Millis>,
    /// Why the last attempt failed.
    pub last_problem: Option<String>,
    /// Who asked.
    pub created_by: String,
    /// The answer. While `sent`: the acceptance of an asynchronous command.
    pub result: Option<TaskResult>,
    /// Why it failed.
    pub error: Option<TaskError>,
}

/// A subscription as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionRecord {
    /// Endpoint ID.
    pub device: String,
    /// Subscription ID.
    pub id: String,
    /// NotifType.
    pub notification: String,
    /// ReferenceList.
    pub paths: Vec<String>,
    /// State.
    pub state: SubscriptionState,
    /// Instance on the device.
    pub instance: Option<String>,
    /// Why it was refused.
    pub problem: Option<String>,
}

/// A token as stored: never its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Identifier.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// Made.
    pub created: Millis,
    /// Expires.
    pub expires: Option<Millis>,
}

/// A line of the audit log as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Position.
    pub sequence: u64,
    /// When.
    pub time: Millis,
    /// Who.
    pub who: String,
    /// What.
    pub action: String,
    /// On what.
    pub subject: String,
    /// Details.
    pub detail: String,
    /// Whether it was allowed.
    pub allowed: bool,
}

/// Which condition of a write does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// It is there already.
    #[error("is there already")]
    Exists,
    /// It has expired.
    #[error("has expired")]
    Expired,
    /// There are as many as there may be.
    #[error("no room, there are as many as there may be")]
    Full,
    /// It is not there.
    #[error("does not exist")]
    Missing,
    /// It is for another device, profile or key.
    #[error("is for another device, profile or key")]
    Other,
    /// It is in another state.
    #[error("is in another state")]
    State,
    /// No use of it is left.
    #[error("no use is left")]
    Used,
}

/// Why a store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// What a write asks for does not hold; nothing of its batch was written.
    #[error("{what} `{id}`: {problem}")]
    Condition {
        /// Kind of the record.
        what: &'static str,
        /// Its identifier.
        id: String,
        /// What does not hold.
        problem: Unmet,
    },
    /// A stored record cannot be read.
    #[error("stored {what} `{id}` cannot be read: {problem}")]
    Corrupt {
        /// Kind of the record.
        what: &'static str,
        /// Its identifier.
        id: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The database failed.
    #[error("database: {0}")]
    Database(String),
    /// The file was written by a newer version of this program.
    #[error(
        "the store has schema version {found}, this program knows {known}: run the program that wrote it"
    )]
    Newer {
        /// In the file.
        found: i64,
        /// Of this program.
        known: i64,
    },
    /// The file cannot be opened.
    #[error("cannot open the store {path}: {problem}")]
    Open {
        /// File.
        path: String,
        /// Why.
        problem: String,
    },
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.to_string())
    }
}
