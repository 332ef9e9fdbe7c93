//! `/healthz`, `/readyz`, `/metrics`, `/openapi.json`.

use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};

use super::{AppState, Caller, Refusal};

/// The process answers.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// New work is accepted.
pub(super) async fn ready(State(state): State<AppState>) -> (StatusCode, &'static str) {
    if state.core.inner().store.has_room() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the store is behind\n")
    }
}

/// Prometheus exposition; with a viewer's token unless the configuration makes it public.
pub(super) async fn metrics(
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, Refusal> {
    if !state.public_metrics {
        let (mut parts, _) = request.into_parts();
        Caller::from_request_parts(&mut parts, &state).await?;
    }
    let metrics = &state.core.inner().metrics;
    {
        let now = state.core.now();
        let core = state.core.state();
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        metrics.devices.set(number(core.registry.len()));
        metrics
            .devices_reachable
            .set(number(core.registry.reachable(now)));
        metrics.tasks_open.set(number(core.queue.len()));
    }
    let samples = state
        .network
        .as_ref()
        .map(|network| (network.0)())
        .unwrap_or_default();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, kind)], metrics.with_samples(&samples)).into_response())
}

/// The OpenAPI document.
pub(super) async fn openapi() -> Response {
    (
        [(CONTENT_TYPE, "application/json")],
        homefleet_api::openapi::document(),
    )
        .into_response()
}
