//! `/api/v1/mtps`.

use axum::Json;
use homefleet_api::MtpList;

use super::{Caller, Refusal};

pub(super) async fn list(Caller(access): Caller) -> Result<Json<MtpList>, Refusal> {
    Ok(Json(access.mtps()?))
}
