//! The OpenAPI document of the REST API.
//!
//! The functions here are never called: each carries the description of one operation.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::{
    Approval, ApprovalPage, CertificatePage, CreatedEnrolmentSecret, DecideApproval,
    EnrolmentSecretPage, IssuedCertificate, NewEnrolmentSecret, Pki, RevokeCertificate,
};
use crate::{
    Association, AssociationPage, AuditPage, CreatedToken, Device, DevicePage, DevicePatch, Event,
    Home, HomePage, MtpList, NewTask, NewToken, ParameterPage, Problem, SeriesList, SeriesPoints,
    ServerInfo, Task, TaskPage, Telemetry, Tls, TokenList,
};

/// The document as JSON text, with every path, type and error of `/api/v1`.
pub fn document() -> String {
    // The document is built from constants: its serialisation cannot fail.
    Document::openapi().to_pretty_json().unwrap_or_default()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Homefleet",
        description = "Remote management of every device in every home: devices, tasks on them, what they tell."
    ),
    paths(
        list_devices,
        show_device,
        patch_device,
        remove_device,
        list_parameters,
        list_series,
        show_series,
        show_association,
        list_homes,
        show_home,
        check_home,
        list_associations,
        show_telemetry,
        create_task,
        list_tasks,
        show_task,
        cancel_task,
        events,
        info,
        list_mtps,
        show_tls,
        reload_tls,
        show_pki,
        list_certificates,
        show_certificate,
        revoke_certificate,
        list_approvals,
        show_approval,
        decide_approval,
        list_secrets,
        add_secret,
        remove_secret,
        list_tokens,
        create_token,
        revoke_token,
        audit
    ),
    components(schemas(Event, Problem)),
    modifiers(&Bearer),
    security(("token" = []))
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token made with `homefleet token create`."))
            .build();
        if let Some(components) = document.components.as_mut() {
            components.add_security_scheme("token", SecurityScheme::Http(scheme));
        }
    }
}

#[utoipa::path(get, path = "/api/v1/devices", tag = "devices", summary = "Devices in the order of their Endpoint ID",
    params(
        ("search" = Option<String>, Query, description = "Text in the Endpoint ID, label, product, serial number or address"),
        ("limit" = Option<usize>, Query, description = "1 to 1000, by default 100"),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, body = DevicePage), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn list_devices() {}

#[utoipa::path(get, path = "/api/v1/devices/{id}", tag = "devices", summary = "Everything the registry knows of a device",
    params(("id" = String, Path, description = "Endpoint ID, percent-encoded")),
    responses((status = 200, body = Device), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn show_device() {}

#[utoipa::path(patch, path = "/api/v1/devices/{id}", tag = "devices", summary = "Labels a device",
    params(("id" = String, Path, description = "Endpoint ID, percent-encoded")),
    request_body = DevicePatch,
    responses((status = 200, body = Device), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn patch_device() {}

#[utoipa::path(delete, path = "/api/v1/devices/{id}", tag = "devices",
    summary = "Forgets a device, its values and open tasks; it comes back when it is heard again",
    params(("id" = String, Path, description = "Endpoint ID, percent-encoded")),
    responses((status = 204), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn remove_device() {}

#[utoipa::path(get, path = "/api/v1/devices/{id}/parameters", tag = "devices", summary = "Last known values",
    params(
        ("id" = String, Path, description = "Endpoint ID, percent-encoded"),
        ("path" = Option<String>, Query, description = "Parameter path or object path ending with a dot; `*` for an instance number"),
        ("limit" = Option<usize>, Query, description = "1 to 10,000, by default 1000"),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, body = ParameterPage), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn list_parameters() {}

#[utoipa::path(get, path = "/api/v1/devices/{id}/series", tag = "telemetry", summary = "Time series of what the device streams",
    params(("id" = String, Path, description = "Endpoint ID, percent-encoded")),
    responses((status = 200, body = SeriesList), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn list_series() {}

#[utoipa::path(get, path = "/api/v1/devices/{id}/series/{path}", tag = "telemetry", summary = "A stretch of a time series",
    params(
        ("id" = String, Path, description = "Endpoint ID, percent-encoded"),
        ("path" = String, Path, description = "Path of the series; slashes may stand, a percent sign in it is percent-encoded"),
        ("from" = Option<String>, Query, description = "RFC 3339; by default an hour before `to`"),
        ("to" = Option<String>, Query, description = "RFC 3339; by default now"),
        ("step" = Option<f64>, Query, description = "Seconds that one point stands for; by default so that there are about 500 points")),
    responses((status = 200, body = SeriesPoints), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn show_series() {}

#[utoipa::path(get, path = "/api/v1/telemetry", tag = "telemetry", summary = "How the receiver of telemetry, its publishers and its outputs fare",
    responses((status = 200, body = Telemetry), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn show_telemetry() {}

#[utoipa::path(post, path = "/api/v1/devices/{id}/tasks", tag = "tasks", summary = "Queues an operation on a device",
    params(
        ("id" = String, Path, description = "Endpoint ID, percent-encoded"),
        ("wait" = Option<u64>, Query, description = "Hold the answer until the task is final, at most so many seconds (0 to 60)")),
    request_body = NewTask,
    responses(
        (status = 202, body = Task, description = "Accepted and on disk"),
        (status = 200, body = Task, description = "Final within `wait`"),
        (status = "4XX", body = Problem),
        (status = 503, body = Problem, description = "A bounded queue is full")))]
#[allow(dead_code)]
fn create_task() {}

#[utoipa::path(get, path = "/api/v1/tasks", tag = "tasks", summary = "Tasks, newest first",
    params(
        ("device" = Option<String>, Query, description = "Endpoint ID"),
        ("state" = Option<String>, Query, description = "queued, sent, done, failed, expired or cancelled"),
        ("limit" = Option<usize>, Query, description = "1 to 1000, by default 100"),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, body = TaskPage), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn list_tasks() {}

#[utoipa::path(get, path = "/api/v1/tasks/{id}", tag = "tasks", summary = "A task",
    params(
        ("id" = String, Path, description = "Task ID"),
        ("wait" = Option<u64>, Query, description = "Hold the answer until the task is final, at most so many seconds (0 to 60)")),
    responses((status = 200, body = Task), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn show_task() {}

#[utoipa::path(delete, path = "/api/v1/tasks/{id}", tag = "tasks", summary = "Withdraws a task that is still queued",
    params(("id" = String, Path, description = "Task ID")),
    responses((status = 200, body = Task), (status = 409, body = Problem, description = "Sent or final"), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn cancel_task() {}

#[utoipa::path(get, path = "/api/v1/events", tag = "events", summary = "What happens from now on, as server-sent events",
    params(("device" = Option<String>, Query, description = "Endpoint ID")),
    responses((status = 200, body = Event, content_type = "text/event-stream"), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn events() {}

#[utoipa::path(get, path = "/api/v1/devices/{id}/association", tag = "homes",
    summary = "The gateway that a device says it is behind, and what the cross-check found, with its history",
    params(("id" = String, Path, description = "Endpoint ID, percent-encoded")),
    responses((status = 200, body = Association), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn show_association() {}

#[utoipa::path(get, path = "/api/v1/homes", tag = "homes", summary = "Gateways and how many devices say they are behind each, in the order of their Endpoint ID",
    params(
        ("search" = Option<String>, Query, description = "Text in the gateway's Endpoint ID, label or product"),
        ("limit" = Option<usize>, Query, description = "1 to 1000, by default 100"),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, body = HomePage), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn list_homes() {}

#[utoipa::path(get, path = "/api/v1/homes/{id}", tag = "homes", summary = "A gateway and the devices behind it, cross-checked",
    params(("id" = String, Path, description = "Endpoint ID of the gateway, percent-encoded")),
    responses((status = 200, body = Home), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn show_home() {}

#[utoipa::path(post, path = "/api/v1/homes/{id}/check", tag = "homes", summary = "Reads the gateway's table of devices now (operator)",
    params(("id" = String, Path, description = "Endpoint ID of the gateway, percent-encoded")),
    responses((status = 202, body = Task), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn check_home() {}

#[utoipa::path(get, path = "/api/v1/associations", tag = "homes", summary = "What devices say of their gateways, in the order of their Endpoint ID",
    params(
        ("status" = Option<String>, Query, description = "checking, confirmed, left, refuted or unverifiable"),
        ("limit" = Option<usize>, Query, description = "1 to 1000, by default 100"),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, body = AssociationPage), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn list_associations() {}

#[utoipa::path(get, path = "/api/v1/info", tag = "server", summary = "What the server says of itself and of the token",
    responses((status = 200, body = ServerInfo), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn info() {}

#[utoipa::path(get, path = "/api/v1/mtps", tag = "server", summary = "The server's Message Transfer Protocols: where devices connect, brokers, counters",
    responses((status = 200, body = MtpList), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn list_mtps() {}

#[utoipa::path(get, path = "/api/v1/tls", tag = "server", summary = "The server's own certificate, whom it trusts, and whom it refused",
    responses((status = 200, body = Tls), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn show_tls() {}

#[utoipa::path(post, path = "/api/v1/tls/reload", tag = "server", summary = "Reads the certificate files again and takes over what changed (admin)",
    responses(
        (status = 200, body = Tls),
        (status = 409, body = Problem, description = "A file is no good; the old ones stay in force"),
        (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn reload_tls() {}

#[utoipa::path(get, path = "/api/v1/pki", tag = "certificates", summary = "The CA: whom devices have to trust, where they ask, how much there is",
    responses((status = 200, body = Pki), (status = 404, body = Problem, description = "This server is no CA"), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn show_pki() {}

#[utoipa::path(get, path = "/api/v1/certificates", tag = "certificates", summary = "Certificates that the CA issued, newest first",
    params(
        ("search" = Option<String>, Query, description = "Text in the subject; a serial number in hexadecimal finds just that one"),
        ("device" = Option<String>, Query, description = "Endpoint ID"),
        ("state" = Option<String>, Query, description = "unconfirmed, valid, revoked or expired"),
        ("profile" = Option<String>, Query, description = "Name of a profile"),
        ("expiring_in" = Option<u64>, Query, description = "Only those that end within so many seconds, and have not ended"),
        ("limit" = Option<usize>, Query, description = "1 to 1000, by default 100"),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, body = CertificatePage), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn list_certificates() {}

#[utoipa::path(get, path = "/api/v1/certificates/{serial}", tag = "certificates", summary = "A certificate",
    params(("serial" = String, Path, description = "Serial number, in hexadecimal")),
    responses((status = 200, body = IssuedCertificate), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn show_certificate() {}

#[utoipa::path(post, path = "/api/v1/certificates/{serial}/revoke", tag = "certificates",
    summary = "Revokes a certificate, puts it on hold, or takes it off hold (operator)",
    params(("serial" = String, Path, description = "Serial number, in hexadecimal")),
    request_body = RevokeCertificate,
    responses(
        (status = 200, body = IssuedCertificate),
        (status = 409, body = Problem, description = "Revoked for good already, or not on hold"),
        (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn revoke_certificate() {}

#[utoipa::path(get, path = "/api/v1/approvals", tag = "certificates", summary = "Requests that wait for an operator or did, newest first",
    params(
        ("state" = Option<String>, Query, description = "pending, approved, denied or used"),
        ("limit" = Option<usize>, Query, description = "1 to 1000, by default 100"),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, body = ApprovalPage), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn list_approvals() {}

#[utoipa::path(get, path = "/api/v1/approvals/{id}", tag = "certificates", summary = "A request for approval",
    params(("id" = String, Path, description = "Identifier")),
    responses((status = 200, body = Approval), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn show_approval() {}

#[utoipa::path(post, path = "/api/v1/approvals/{id}", tag = "certificates", summary = "Approves or denies a request (operator)",
    params(("id" = String, Path, description = "Identifier")),
    request_body = DecideApproval,
    responses(
        (status = 200, body = Approval),
        (status = 409, body = Problem, description = "Decided already, or expired"),
        (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn decide_approval() {}

#[utoipa::path(get, path = "/api/v1/enrolment-secrets", tag = "certificates", summary = "Enrolment secrets, without what is secret (operator)",
    params(
        ("device" = Option<String>, Query, description = "Endpoint ID"),
        ("limit" = Option<usize>, Query, description = "1 to 1000, by default 100"),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, body = EnrolmentSecretPage), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn list_secrets() {}

#[utoipa::path(post, path = "/api/v1/enrolment-secrets", tag = "certificates", summary = "Keeps an enrolment secret; it is told once (operator)",
    request_body = NewEnrolmentSecret,
    responses((status = 201, body = CreatedEnrolmentSecret), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn add_secret() {}

#[utoipa::path(delete, path = "/api/v1/enrolment-secrets/{reference}", tag = "certificates", summary = "Removes an enrolment secret (operator)",
    params(("reference" = String, Path, description = "Reference, percent-encoded")),
    responses((status = 204), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn remove_secret() {}

#[utoipa::path(get, path = "/api/v1/tokens", tag = "accounts", summary = "Tokens, without their secrets (admin)",
    responses((status = 200, body = TokenList), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn list_tokens() {}

#[utoipa::path(post, path = "/api/v1/tokens", tag = "accounts", summary = "Makes a token; its secret is told once (admin)",
    request_body = NewToken,
    responses((status = 201, body = CreatedToken), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn create_token() {}

#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "accounts", summary = "Revokes a token and its sessions (admin)",
    params(("id" = String, Path, description = "Token ID")),
    responses((status = 204), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn revoke_token() {}

#[utoipa::path(get, path = "/api/v1/audit", tag = "accounts", summary = "Every write and every refused one, newest first (admin)",
    params(
        ("before" = Option<u64>, Query, description = "`next` of the page before"),
        ("limit" = Option<usize>, Query, description = "1 to 1000, by default 100")),
    responses((status = 200, body = AuditPage), (status = "4XX", body = Problem)))]
#[allow(dead_code)]
fn audit() {}
