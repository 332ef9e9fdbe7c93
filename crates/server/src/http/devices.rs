//! `/api/v1/devices`.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use homefleet_api::{Device, DevicePage, DevicePatch, ParameterPage, ProblemCode};
use serde::Deserialize;

use super::{Body, Caller, Refusal};
use crate::core::{DeviceQuery, ParameterQuery};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    search: Option<String>,
    #[serde(default)]
    limit: usize,
    after: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ValueQuery {
    path: Option<String>,
    #[serde(default)]
    limit: usize,
    after: Option<String>,
}

/// A query, with a refusal that says what is wrong with it.
pub(super) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Refusal> {
    query
        .map(|Query(query)| query)
        .map_err(|rejection| Refusal::new(ProblemCode::BadRequest, rejection.body_text()))
}

pub(super) async fn list(
    Caller(access): Caller,
    ask: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<DevicePage>, Refusal> {
    let ListQuery {
        search,
        limit,
        after,
    } = query(ask)?;
    Ok(Json(
        access
            .devices(DeviceQuery {
                search,
                limit,
                after,
            })
            .await?,
    ))
}

pub(super) async fn show(
    Caller(access): Caller,
    Path(id): Path<String>,
) -> Result<Json<Device>, Refusal> {
    Ok(Json(access.device(&id).await?))
}

pub(super) async fn patch(
    Caller(access): Caller,
    Path(id): Path<String>,
    Body(patch): Body<DevicePatch>,
) -> Result<Json<Device>, Refusal> {
    Ok(Json(access.patch_device(&id, patch).await?))
}

pub(super) async fn remove(
    Caller(access): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    access.remove_device(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn parameters(
    Caller(access): Caller,
    Path(id): Path<String>,
    ask: Result<Query<ValueQuery>, QueryRejection>,
) -> Result<Json<ParameterPage>, Refusal> {
    let ValueQuery { path, limit, after } = query(ask)?;
    Ok(Json(
        access
            .parameters(&id, ParameterQuery { path, limit, after })
            .await?,
    ))
}
