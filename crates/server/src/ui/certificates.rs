//! Certificates that the CA issued, and requests that wait for an operator.

use askama::Template;
use axum::extract::Query;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use homefleet_api::client::encode;
use homefleet_api::{Approval, ApprovalState, CertificateState, IssuedCertificate};
use serde::Deserialize;

use super::view::when::{Clock, When};
use super::{Chrome, problem_page, render, sign_in_first};
use crate::core::CertificateSearch;
use crate::http::MaybeCaller;

/// Rows on one page.
const PAGE: usize = 50;

/// Query of either list.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    search: Option<String>,
    state: Option<String>,
    after: Option<String>,
    /// `table`: only the part that changes.
    part: Option<String>,
}

struct Pill {
    name: &'static str,
    href: String,
    current: bool,
}

/// A certificate, for a person.
struct Row {
    serial: String,
    subject: String,
    device: String,
    profile: String,
    requester: String,
    state: &'static str,
    state_text: String,
    issued: When,
    ends: String,
}

impl Row {
    fn new(certificate: &IssuedCertificate, clock: &Clock) -> Self {
        let (state, text) = match certificate.state {
            CertificateState::Unconfirmed => ("unknown", "Not confirmed".to_owned()),
            CertificateState::Valid => ("reachable", "Valid".to_owned()),
            CertificateState::Revoked => {
                let why = certificate.revocation.as_ref().map(|it| it.reason.as_str());
                (
                    "unreachable",
                    format!("Revoked: {}", why.unwrap_or("unspecified")),
                )
            }
            CertificateState::Expired => ("unknown", "Expired".to_owned()),
        };
        Self {
            serial: certificate.serial.clone(),
            subject: certificate.subject.clone(),
            device: certificate.device.clone().unwrap_or_default(),
            profile: certificate.profile.clone(),
            requester: certificate.requester.clone(),
            state,
            state_text: text,
            issued: clock.when(&certificate.issued),
            ends: certificate
                .not_after
                .get(..10)
                .unwrap_or_default()
                .to_owned(),
        }
    }
}

/// A request, for a person.
struct Request {
    id: String,
    subject: String,
    device: String,
    profile: String,
    requester: String,
    key: String,
    asked: When,
    pending: bool,
    state: &'static str,
    state_text: String,
}

impl Request {
    fn new(approval: &Approval, clock: &Clock) -> Self {
        let by = approval.decided_by.as_deref().unwrap_or_default();
        let (state, text) = match approval.state {
            ApprovalState::Pending => ("unknown", "Waits".to_owned()),
            ApprovalState::Approved => ("reachable", format!("Approved by {by}")),
            ApprovalState::Denied => ("unreachable", format!("Denied by {by}")),
            ApprovalState::Used => ("reachable", format!("Issued, approved by {by}")),
        };
        Self {
            id: approval.id.clone(),
            subject: approval.subject.clone(),
            device: approval.device.clone().unwrap_or_default(),
            profile: approval.profile.clone(),
            requester: approval.requester.clone(),
            key: approval.key.clone(),
            asked: clock.when(&approval.created),
            pending: approval.state == ApprovalState::Pending,
            state,
            state_text: text,
        }
    }
}

#[derive(Template)]
#[template(path = "certificates.html")]
struct Certificates {
    page: Chrome,
    ca: String,
    search: String,
    pills: Vec<Pill>,
    fragment: String,
    rows: Vec<Row>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "certificates_table.html")]
struct CertificatesTable {
    page: Chrome,
    rows: Vec<Row>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "approvals.html")]
struct Approvals {
    page: Chrome,
    pills: Vec<Pill>,
    fragment: String,
    requests: Vec<Request>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "approvals_table.html")]
struct ApprovalsTable {
    page: Chrome,
    requests: Vec<Request>,
    next: Option<String>,
}

/// `GET /certificates`.
pub(super) async fn certificates(
    MaybeCaller(caller): MaybeCaller,
    uri: Uri,
    Query(asked): Query<Asked>,
) -> Response {
    let whole = asked.part.is_none();
    let Some(access) = caller else {
        return anonymous(whole, &uri);
    };
    let state: Option<CertificateState> = asked.state.as_deref().and_then(|it| it.parse().ok());
    let search = asked.search.filter(|search| !search.is_empty());
    let found = access
        .certificates(CertificateSearch {
            search: search.clone(),
            state,
            limit: PAGE,
            after: asked.after.clone(),
            ..CertificateSearch::default()
        })
        .await;
    let found = match found {
        Ok(found) => found,
        Err(error) => return problem_page(&access, "certificates", &error),
    };
    let clock = Clock::now();
    let rows = found
        .certificates
        .iter()
        .map(|it| Row::new(it, &clock))
        .collect();
    let link = |state: Option<CertificateState>, more: &[(&str, &str)]| {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        pairs.extend(search.as_deref().map(|search| ("search", search)));
        pairs.extend(state.map(|state| ("state", state.as_str())));
        pairs.extend(more);
        href("/certificates", &pairs)
    };
    let next = found
        .next
        .as_deref()
        .map(|after| link(state, &[("after", after)]));
    let page = Chrome::new(&access, "certificates");
    if !whole {
        return render(StatusCode::OK, &CertificatesTable { page, rows, next });
    }
    let ca = match access.pki().await {
        Ok(pki) => format!(
            "of {}, until {}; {} valid, {} revoked",
            pki.subject,
            pki.not_after.get(..10).unwrap_or_default(),
            pki.certificates.valid,
            pki.certificates.revoked
        ),
        Err(error) => return problem_page(&access, "certificates", &error),
    };
    let mut here: Vec<(&str, &str)> = Vec::new();
    here.extend(asked.after.as_deref().map(|after| ("after", after)));
    here.push(("part", "table"));
    let pill = |name, wanted| Pill {
        name,
        href: link(wanted, &[]),
        current: state == wanted,
    };
    let shown = Certificates {
        page,
        ca,
        pills: vec![
            pill("All", None),
            pill("Valid", Some(CertificateState::Valid)),
            pill("Not confirmed", Some(CertificateState::Unconfirmed)),
            pill("Revoked", Some(CertificateState::Revoked)),
            pill("Expired", Some(CertificateState::Expired)),
        ],
        fragment: link(state, &here),
        search: search.clone().unwrap_or_default(),
        rows,
        next,
    };
    render(StatusCode::OK, &shown)
}

/// `GET /approvals`.
pub(super) async fn approvals(
    MaybeCaller(caller): MaybeCaller,
    uri: Uri,
    Query(asked): Query<Asked>,
) -> Response {
    let whole = asked.part.is_none();
    let Some(access) = caller else {
        return anonymous(whole, &uri);
    };
    // Those that wait are what one comes for.
    let state = match asked.state.as_deref() {
        None => Some(ApprovalState::Pending),
        Some(name) => name.parse().ok(),
    };
    let found = match access.approvals(state, asked.after.clone(), PAGE).await {
        Ok(found) => found,
        Err(error) => return problem_page(&access, "approvals", &error),
    };
    let clock = Clock::now();
    let requests = found
        .approvals
        .iter()
        .map(|it| Request::new(it, &clock))
        .collect();
    let link = |state: Option<ApprovalState>, more: &[(&str, &str)]| {
        let mut pairs = vec![("state", state.map_or("all", ApprovalState::as_str))];
        pairs.extend(more);
        href("/approvals", &pairs)
    };
    let next = found
        .next
        .as_deref()
        .map(|after| link(state, &[("after", after)]));
    let page = Chrome::new(&access, "approvals");
    if !whole {
        return render(
            StatusCode::OK,
            &ApprovalsTable {
                page,
                requests,
                next,
            },
        );
    }
    let mut here: Vec<(&str, &str)> = Vec::new();
    here.extend(asked.after.as_deref().map(|after| ("after", after)));
    here.push(("part", "table"));
    let pill = |name, wanted| Pill {
        name,
        href: link(wanted, &[]),
        current: state == wanted,
    };
    let shown = Approvals {
        page,
        pills: vec![
            pill("Waiting", Some(ApprovalState::Pending)),
            pill("Approved", Some(ApprovalState::Approved)),
            pill("Denied", Some(ApprovalState::Denied)),
            pill("Issued", Some(ApprovalState::Used)),
            pill("All", None),
        ],
        fragment: link(state, &here),
        requests,
        next,
    };
    render(StatusCode::OK, &shown)
}

fn anonymous(whole: bool, uri: &Uri) -> Response {
    if whole {
        sign_in_first(uri)
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

fn href(path: &str, pairs: &[(&str, &str)]) -> String {
    let query: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", query.join("&"))
    }
}
