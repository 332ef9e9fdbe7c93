//! `/api/v1/tls`.

use axum::Json;
use homefleet_api::Tls;

use super::{Caller, Refusal};

pub(super) async fn show(Caller(access): Caller) -> Result<Json<Tls>, Refusal> {
    Ok(Json(access.tls()?))
}

pub(super) async fn reload(Caller(access): Caller) -> Result<Json<Tls>, Refusal> {
    Ok(Json(access.reload_tls().await?))
}
