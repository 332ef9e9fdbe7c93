//! `/api/v1/tasks` and `/api/v1/devices/{id}/tasks`.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use homefleet_api::{NewTask, ProblemCode, Task, TaskPage, TaskState};
use serde::Deserialize;

use super::devices::query;
use super::{Body, Caller, MAX_WAIT, Refusal};
use crate::core::TaskQuery;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    device: Option<String>,
    state: Option<String>,
    #[serde(default)]
    limit: usize,
    after: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitQuery {
    #[serde(default)]
    wait: u64,
}

impl WaitQuery {
    fn duration(&self) -> Result<Duration, Refusal> {
        let wait = Duration::from_secs(self.wait);
        if wait > MAX_WAIT {
            let message = format!(
                "wait is {}, expected at most {} seconds",
                self.wait,
                MAX_WAIT.as_secs()
            );
            return Err(Refusal::new(ProblemCode::BadRequest, message));
        }
        Ok(wait)
    }
}

/// 202 with the task; with `wait`, 200 once it has a result.
pub(super) async fn create(
    Caller(access): Caller,
    Path(id): Path<String>,
    ask: Result<Query<WaitQuery>, QueryRejection>,
    Body(new): Body<NewTask>,
) -> Result<Response, Refusal> {
    let wait = query(ask)?.duration()?;
    let mut task = access.submit(&id, new).await?;
    if !wait.is_zero() {
        task = access.wait_task(&task.id, wait).await?;
    }
    let status = if task.state.is_final() {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    let location = HeaderValue::from_str(&format!("/api/v1/tasks/{}", task.id)).ok();
    let mut response = (status, Json(task)).into_response();
    if let Some(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

pub(super) async fn list(
    Caller(access): Caller,
    ask: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<TaskPage>, Refusal> {
    let ListQuery {
        device,
        state,
        limit,
        after,
    } = query(ask)?;
    let state = state
        .map(|state| state.parse::<TaskState>())
        .transpose()
        .map_err(|error| Refusal::new(ProblemCode::BadRequest, error.to_string()))?;
    Ok(Json(
        access
            .tasks(TaskQuery {
                device,
                state,
                limit,
                after,
            })
            .await?,
    ))
}

pub(super) async fn show(
    Caller(access): Caller,
    Path(id): Path<String>,
    ask: Result<Query<WaitQuery>, QueryRejection>,
) -> Result<Json<Task>, Refusal> {
    let wait = query(ask)?.duration()?;
    let task = if wait.is_zero() {
        access.task(&id).await?
    } else {
        access.wait_task(&id, wait).await?
    };
    Ok(Json(task))
}

pub(super) async fn cancel(
    Caller(access): Caller,
    Path(id): Path<String>,
) -> Result<Json<Task>, Refusal> {
    Ok(Json(access.cancel_task(&id).await?))
}
