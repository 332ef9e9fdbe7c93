//! The REST API: one file per noun, paths as in the URLs.
//!
//! A handler does three things: take a [`Caller`] (nobody gets further without), call the core through it,
//! and turn the outcome into JSON. Requests authenticate with a bearer token; the console's session cookie is
//! accepted too, but for anything that changes something only from the console's own origin.

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use homefleet_api::{Problem, ProblemCode};

use crate::core::Core;
use crate::metrics::Sample;

mod account;
mod certificates;
mod devices;
mod events;
mod extract;
mod health;
mod homes;
mod mtps;
mod problem;
mod serve;
pub mod session;
mod tasks;
mod telemetry;
mod tls;

pub use extract::{Body, Caller, Fields, MaybeCaller};
pub use problem::Refusal;
pub(crate) use serve::serve;
pub use session::same_origin;

/// What handlers share.
#[derive(Clone, Debug)]
pub struct AppState {
    /// The core.
    pub core: Core,
    /// One-time login keys of the console.
    pub login: crate::ui::LoginKeys,
    /// Whether `/metrics` needs no token.
    pub public_metrics: bool,
    /// Whether browsers reach this server through TLS, so that cookies are marked Secure.
    pub secure_cookies: bool,
    /// What the network part and the certificates count.
    pub network: Option<Samples>,
}

/// Reads what other parts of the server count.
#[derive(Clone)]
pub struct Samples(pub std::sync::Arc<dyn Fn() -> Vec<Sample> + Send + Sync>);

impl std::fmt::Debug for Samples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Samples")
    }
}

/// Longest time a request may wait for a task.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

const POLICY: &str = "default-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self'; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// Everything that is served over HTTP.
pub fn router(state: AppState, body_limit: usize) -> Router {
    let api = Router::new()
        .route("/devices", get(devices::list))
        .route(
            "/devices/{id}",
            get(devices::show)
                .patch(devices::patch)
                .delete(devices::remove),
        )
        .route("/devices/{id}/parameters", get(devices::parameters))
        .route("/devices/{id}/association", get(homes::association))
        .route("/homes", get(homes::list))
        .route("/homes/{id}", get(homes::show))
        .route("/homes/{id}/check", post(homes::check))
        .route("/associations", get(homes::associations))
        .route("/devices/{id}/series", get(telemetry::series))
        .route("/devices/{id}/series/{*path}", get(telemetry::points))
        .route("/devices/{id}/tasks", post(tasks::create))
        .route("/tasks", get(tasks::list))
        .route("/tasks/{id}", get(tasks::show).delete(tasks::cancel))
        .route("/events", get(events::stream))
        .route("/info", get(account::info))
        .route("/mtps", get(mtps::list))
        .route("/telemetry", get(telemetry::show))
        .route("/tls", get(tls::show))
        .route("/tls/reload", post(tls::reload))
        .route("/tokens", get(account::tokens).post(account::create_token))
        .route("/tokens/{id}", delete(account::revoke_token))
        .route("/audit", get(account::audit))
        .route("/pki", get(certificates::pki))
        .route("/certificates", get(certificates::list))
        .route("/certificates/{serial}", get(certificates::show))
        .route("/certificates/{serial}/revoke", post(certificates::revoke))
        .route("/approvals", get(certificates::approvals))
        .route(
            "/approvals/{id}",
            get(certificates::approval).post(certificates::decide),
        )
        .route(
            "/enrolment-secrets",
            get(certificates::secrets).post(certificates::add_secret),
        )
        .route(
            "/enrolment-secrets/{reference}",
            delete(certificates::remove_secret),
        )
        .route("/openapi.json", get(health::openapi))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method);
    Router::new()
        .nest("/api/v1", api)
        .route("/openapi.json", get(health::openapi))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .with_state(state.clone())
        .merge(crate::ui::router(state.clone()))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(body_limit))
        .layer(middleware::from_fn_with_state(state, finish))
}

async fn no_such_path(request: Request) -> Response {
    let path = request.uri().path().to_owned();
    Refusal(
        Problem::new(
            ProblemCode::NotFound,
            format!("nothing is served at {path}"),
        )
        .at(path),
    )
    .into_response()
}

async fn no_such_method(request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    Refusal(
        Problem::new(
            ProblemCode::MethodNotAllowed,
            format!("{method} is not defined for {path}"),
        )
        .at(path),
    )
    .into_response()
}

/// Headers that every answer has, and the count of answers.
async fn finish(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let is_api = request.uri().path().starts_with("/api/");
    let head = request.method() == Method::HEAD;
    let mut response = next.run(request).await;
    state
        .core
        .inner()
        .metrics
        .answered(response.status().as_u16());
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    if is_api {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    // The framework's own refusals are plain text: one shape for all.
    let status = response.status();
    let json = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if is_api && status.is_client_error() && !json && !head {
        let code = match status {
            StatusCode::PAYLOAD_TOO_LARGE => ProblemCode::TooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => ProblemCode::UnsupportedMediaType,
            StatusCode::METHOD_NOT_ALLOWED => ProblemCode::MethodNotAllowed,
            StatusCode::NOT_FOUND => ProblemCode::NotFound,
            _ => ProblemCode::BadRequest,
        };
        let reason = status
            .canonical_reason()
            .unwrap_or("bad request")
            .to_lowercase();
        return Refusal(Problem::new(code, reason)).into_response();
    }
    response
}
