//! `/api/v1/telemetry`, and the time series of `/api/v1/devices/{id}/series`.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use homefleet_api::{SeriesList, SeriesPoints, Telemetry};
use serde::Deserialize;

use super::devices::query;
use super::{Caller, Refusal};
use crate::core::SeriesQuery;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StretchQuery {
    from: Option<String>,
    to: Option<String>,
    step: Option<f64>,
}

pub(super) async fn show(Caller(access): Caller) -> Result<Json<Telemetry>, Refusal> {
    Ok(Json(access.telemetry()?))
}

pub(super) async fn series(
    Caller(access): Caller,
    Path(id): Path<String>,
) -> Result<Json<SeriesList>, Refusal> {
    Ok(Json(access.series(&id).await?))
}

pub(super) async fn points(
    Caller(access): Caller,
    Path((id, path)): Path<(String, String)>,
    ask: Result<Query<StretchQuery>, QueryRejection>,
) -> Result<Json<SeriesPoints>, Refusal> {
    let StretchQuery { from, to, step } = query(ask)?;
    let query = SeriesQuery { from, to, step };
    Ok(Json(access.series_points(&id, &path, query).await?))
}
