//! REST types, OpenAPI document and typed client of Homefleet.
//!
//! The types here are the vocabulary in which the server, the command line and the console speak about
//! devices and tasks. They carry no behaviour of a protocol: a task's [`Operation`] says what is wanted
//! of a device, whichever protocol the device speaks.
//!
//! - [`device`]: what is known of a device,
//! - [`task`]: an operation on a device, its states and its typed result,
//! - [`event`]: what the live stream `/api/v1/events` tells,
//! - [`home`]: gateways, and the devices behind them as both sides say,
//! - [`telemetry`]: what devices stream, as time series, and how that fares,
//! - [`account`]: tokens, roles and the audit log,
//! - [`tls`]: the server's own certificate, whom it trusts, whom it refused,
//! - [`certificate`]: what the CA issues, requests that wait for an operator, enrolment secrets,
//! - [`problem`]: the one shape of every error answer,
//! - [`openapi`]: the OpenAPI document,
//! - [`client`]: a blocking client.
//!
//! Every time is an RFC 3339 timestamp in UTC with milliseconds: `2026-11-20T19:17:00.123Z`.

#![forbid(unsafe_code)]

pub mod account;
pub mod certificate;
pub mod client;
pub mod device;
pub mod event;
pub mod home;
pub mod mtp;
pub mod openapi;
pub mod problem;
pub mod task;
pub mod telemetry;
pub mod tls;

pub use account::{Audit, AuditPage, CreatedToken, NewToken, Role, ServerInfo, Token, TokenList};
pub use certificate::{
    Approval, ApprovalPage, ApprovalState, CertificateCounts, CertificatePage, CertificateState,
    CreatedEnrolmentSecret, DecideApproval, EnrolmentSecret, EnrolmentSecretPage,
    IssuedCertificate, NewEnrolmentSecret, Pki, Revocation, RevocationReason, RevokeCertificate,
};
pub use device::{
    Address, Binding, Certificate, Connection, Cwmp, Device, DevicePage, DevicePatch,
    DeviceSummary, Mtp, Parameter, ParameterPage, Reachability, Subscription, SubscriptionState,
};
pub use event::{DeviceChange, Event, Notification};
pub use home::{
    Association, AssociationChange, AssociationCounts, AssociationPage, AssociationStatus,
    GatewayClaim, Home, HomeMember, HomePage, HomeStranger, HomeSummary, IdentityDifference,
    LocalIdentity, UnverifiableReason,
};
pub use mtp::{LinkState, MtpLink, MtpList, MtpStatus};
pub use problem::{Problem, ProblemCode, ProblemDetail};
pub use task::{
    AddObject, AddResult, CommandSupport, DeleteResult, EventSupport, GetResult, Instance,
    InstancesResult, NewTask, ObjectSupport, OperateResult, Operation, ParamError, ParamSetting,
    ParamSupport, PathError, ResolvedObject, SetObject, SetResult, SupportedResult, Task,
    TaskError, TaskErrorCode, TaskPage, TaskResult, TaskState, UpdatedInstance, WakeAttempt,
    WakeWay,
};
pub use telemetry::{
    OutputHealth, Publisher, Series, SeriesList, SeriesPoint, SeriesPoints, SeriesStatus,
    Telemetry, TelemetryOutput, TelemetrySocket,
};
pub use tls::{OwnCertificate, PeerRefusal, Tls, TrustedCertificate};

/// A time as RFC 3339 text in UTC with milliseconds, for example `2026-11-20T19:17:00.123Z`.
pub type Timestamp = String;
