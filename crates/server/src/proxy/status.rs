//! What a proxy of its own shows to its operator, over HTTP: `/healthz`, `/readyz`, `/status`, `/metrics`.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use homefleet_net::cmp::proxy::UpstreamStats;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Front;
use crate::metrics;

/// Longest time a client may take to say what it wants.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize)]
struct Status {
    ready: bool,
    held_bytes: usize,
    astray: u64,
    forbidden: u64,
    no_room: u64,
    upstreams: Vec<Upstream>,
}

#[derive(Debug, Serialize)]
struct Upstream {
    name: String,
    health: &'static str,
    under_way: usize,
    forwarded: u64,
    answered: u64,
    refused: u64,
    busy: u64,
    failed: u64,
    failures_in_a_row: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failure: Option<String>,
}

impl From<UpstreamStats> for Upstream {
    fn from(stats: UpstreamStats) -> Self {
        Self {
            health: stats.health.as_str(),
            name: stats.name,
            under_way: stats.under_way,
            forwarded: stats.forwarded,
            answered: stats.answered,
            refused: stats.refused,
            busy: stats.busy,
            failed: stats.failed,
            failures_in_a_row: stats.failures_in_a_row,
            last_failure: stats.last_failure,
        }
    }
}

impl Front {
    /// Serves the status on a socket until `stop` changes.
    pub fn serve_status(
        &self,
        listener: TcpListener,
        stop: watch::Receiver<bool>,
    ) -> JoinHandle<()> {
        let router = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/status", get(status))
            .route("/metrics", get(metrics))
            .with_state(self.clone());
        tokio::spawn(crate::http::serve(listener, router, HEAD_TIMEOUT, stop))
    }
}

async fn ready(State(front): State<Front>) -> (StatusCode, &'static str) {
    if front.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        let text = "no upstream can be connected to\n";
        (StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

async fn status(State(front): State<Front>) -> Json<Status> {
    let counts = front.counts();
    Json(Status {
        ready: front.is_ready(),
        held_bytes: counts.held,
        astray: counts.astray,
        forbidden: counts.forbidden,
        no_room: counts.no_room,
        upstreams: front.upstreams().into_iter().map(Upstream::from).collect(),
    })
}

async fn metrics(State(front): State<Front>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = metrics::exposition(&front.samples());
    ([(CONTENT_TYPE, kind)], text).into_response()
}
