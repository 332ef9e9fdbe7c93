//! `/api/v1/tokens`, `/api/v1/audit`, `/api/v1/info`.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use homefleet_api::{AuditPage, CreatedToken, NewToken, ServerInfo, TokenList};
use serde::Deserialize;

use super::devices::query;
use super::{Body, Caller, Refusal};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    before: Option<u64>,
    #[serde(default)]
    limit: usize,
}

pub(super) async fn info(Caller(access): Caller) -> Json<ServerInfo> {
    Json(access.info())
}

pub(super) async fn tokens(Caller(access): Caller) -> Result<Json<TokenList>, Refusal> {
    Ok(Json(access.tokens().await?))
}

pub(super) async fn create_token(
    Caller(access): Caller,
    Body(new): Body<NewToken>,
) -> Result<(StatusCode, Json<CreatedToken>), Refusal> {
    Ok((StatusCode::CREATED, Json(access.create_token(new).await?)))
}

pub(super) async fn revoke_token(
    Caller(access): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    access.revoke_token(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn audit(
    Caller(access): Caller,
    ask: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<AuditPage>, Refusal> {
    let AuditQuery { before, limit } = query(ask)?;
    Ok(Json(access.audit(before, limit).await?))
}
