//! `/api/v1/pki`, `/api/v1/certificates`, `/api/v1/approvals`, `/api/v1/enrolment-secrets`.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use homefleet_api::{
    Approval, ApprovalPage, CertificatePage, CreatedEnrolmentSecret, DecideApproval,
    EnrolmentSecretPage, IssuedCertificate, NewEnrolmentSecret, Pki, ProblemCode,
    RevokeCertificate,
};
use serde::Deserialize;

use super::devices::query;
use super::{Body, Caller, Refusal};
use crate::core::CertificateSearch;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    search: Option<String>,
    device: Option<String>,
    state: Option<String>,
    profile: Option<String>,
    expiring_in: Option<u64>,
    #[serde(default)]
    limit: usize,
    after: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApprovalQuery {
    state: Option<String>,
    #[serde(default)]
    limit: usize,
    after: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretQuery {
    device: Option<String>,
    #[serde(default)]
    limit: usize,
    after: Option<String>,
}

/// A word of a query.
fn word<T: std::str::FromStr<Err: ToString>>(text: Option<String>) -> Result<Option<T>, Refusal> {
    let parsed = text.map(|text| text.parse::<T>()).transpose();
    parsed.map_err(|error| Refusal::new(ProblemCode::BadRequest, error.to_string()))
}

pub(super) async fn pki(Caller(access): Caller) -> Result<Json<Pki>, Refusal> {
    Ok(Json(access.pki().await?))
}

pub(super) async fn list(
    Caller(access): Caller,
    ask: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<CertificatePage>, Refusal> {
    let asked = query(ask)?;
    let search = CertificateSearch {
        search: asked.search,
        device: asked.device,
        state: word(asked.state)?,
        profile: asked.profile,
        expiring_in: asked.expiring_in,
        limit: asked.limit,
        after: asked.after,
    };
    Ok(Json(access.certificates(search).await?))
}

pub(super) async fn show(
    Caller(access): Caller,
    Path(serial): Path<String>,
) -> Result<Json<IssuedCertificate>, Refusal> {
    Ok(Json(access.certificate(&serial).await?))
}

pub(super) async fn revoke(
    Caller(access): Caller,
    Path(serial): Path<String>,
    Body(revoke): Body<RevokeCertificate>,
) -> Result<Json<IssuedCertificate>, Refusal> {
    Ok(Json(access.revoke_certificate(&serial, revoke).await?))
}

pub(super) async fn approvals(
    Caller(access): Caller,
    ask: Result<Query<ApprovalQuery>, QueryRejection>,
) -> Result<Json<ApprovalPage>, Refusal> {
    let asked = query(ask)?;
    let state = word(asked.state)?;
    let found = access.approvals(state, asked.after, asked.limit).await?;
    Ok(Json(found))
}

pub(super) async fn approval(
    Caller(access): Caller,
    Path(id): Path<String>,
) -> Result<Json<Approval>, Refusal> {
    Ok(Json(access.approval(&id).await?))
}

pub(super) async fn decide(
    Caller(access): Caller,
    Path(id): Path<String>,
    Body(decision): Body<DecideApproval>,
) -> Result<Json<Approval>, Refusal> {
    Ok(Json(access.decide_approval(&id, decision).await?))
}

pub(super) async fn secrets(
    Caller(access): Caller,
    ask: Result<Query<SecretQuery>, QueryRejection>,
) -> Result<Json<EnrolmentSecretPage>, Refusal> {
    let asked = query(ask)?;
    let found = access.enrolment_secrets(asked.device, asked.after, asked.limit);
    Ok(Json(found.await?))
}

pub(super) async fn add_secret(
    Caller(access): Caller,
    Body(new): Body<NewEnrolmentSecret>,
) -> Result<(StatusCode, Json<CreatedEnrolmentSecret>), Refusal> {
    let created = access.add_enrolment_secret(new).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

pub(super) async fn remove_secret(
    Caller(access): Caller,
    Path(reference): Path<String>,
) -> Result<StatusCode, Refusal> {
    access.remove_enrolment_secret(&reference).await?;
    Ok(StatusCode::NO_CONTENT)
}
