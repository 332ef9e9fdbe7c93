//! `/api/v1/homes`, `/api/v1/associations` and `/api/v1/devices/{id}/association`.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use homefleet_api::{Association, AssociationPage, Home, HomePage, ProblemCode, Task};
use serde::Deserialize;

use super::devices::query;
use super::{Caller, Refusal};
use crate::core::{AssociationQuery, HomeQuery};

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
pub(super) struct StatusQuery {
    status: Option<String>,
    #[serde(default)]
    limit: usize,
    after: Option<String>,
}

pub(super) async fn list(
    Caller(access): Caller,
    ask: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<HomePage>, Refusal> {
    let ListQuery {
        search,
        limit,
        after,
    } = query(ask)?;
    let query = HomeQuery {
        search,
        limit,
        after,
    };
    Ok(Json(access.homes(query).await?))
}

pub(super) async fn show(
    Caller(access): Caller,
    Path(id): Path<String>,
) -> Result<Json<Home>, Refusal> {
    Ok(Json(access.home(&id)?))
}

pub(super) async fn check(
    Caller(access): Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Task>), Refusal> {
    Ok((StatusCode::ACCEPTED, Json(access.check_home(&id).await?)))
}

pub(super) async fn associations(
    Caller(access): Caller,
    ask: Result<Query<StatusQuery>, QueryRejection>,
) -> Result<Json<AssociationPage>, Refusal> {
    let StatusQuery {
        status,
        limit,
        after,
    } = query(ask)?;
    let status = status.map(|text| text.parse()).transpose();
    let query = AssociationQuery {
        status: status.map_err(|problem| Refusal::new(ProblemCode::BadRequest, problem))?,
        limit,
        after,
    };
    Ok(Json(access.associations(query).await?))
}

pub(super) async fn association(
    Caller(access): Caller,
    Path(id): Path<String>,
) -> Result<Json<Association>, Refusal> {
    Ok(Json(access.association(&id)?))
}
