//! One device: summary, parameters, the task drawer, tasks, subscriptions.

use askama::Template;
use axum::extract::Path;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use homefleet_api::{Device, Parameter};

use super::telemetry::{self, Plots};
use super::view::device::{Subscription, Summary, subscriptions};
use super::view::filters;
use super::view::home::Place;
use super::view::task::Item as TaskItem;
use super::view::tree::{Item, Tree};
use super::view::when::Clock;
use super::{Chrome, problem_page, render, sign_in_first};
use crate::core::{Access, CoreError, ParameterQuery, TaskQuery};
use crate::http::MaybeCaller;

/// Values shown on one page; what lies beyond is counted and said.
const VALUES: usize = 4000;
/// Bytes of their paths and values.
const WEIGHT: usize = 1024 * 1024;
/// Tasks shown beside a device.
const TASKS: usize = 15;
/// Subtree of the subscriptions.
const SUBSCRIPTIONS: &str = "Device.LocalAgent.Subscription.";

#[derive(Template)]
#[template(path = "device.html")]
struct Page {
    page: Chrome,
    device: Summary,
    plots: Plots,
    tree: Tree,
    tasks: Vec<TaskItem>,
    subscriptions: Vec<Subscription>,
}

#[derive(Template)]
#[template(path = "device_summary.html")]
struct SummaryPart {
    device: Summary,
}

#[derive(Template)]
#[template(path = "parameters.html")]
struct ParametersPart {
    tree: Tree,
}

#[derive(Template)]
#[template(path = "tasks_list.html")]
struct TasksPart {
    tasks: Vec<TaskItem>,
}

#[derive(Template)]
#[template(path = "subscriptions.html")]
struct SubscriptionsPart {
    subscriptions: Vec<Subscription>,
}

/// `GET /devices/{id}`.
pub(super) async fn page(
    MaybeCaller(caller): MaybeCaller,
    uri: Uri,
    Path(id): Path<String>,
) -> Response {
    let Some(access) = caller else {
        return sign_in_first(&uri);
    };
    match whole(&access, &id).await {
        Ok(page) => render(StatusCode::OK, &page),
        Err(error) => problem_page(&access, "devices", &error),
    }
}

async fn whole(access: &Access, id: &str) -> Result<Page, CoreError> {
    let clock = Clock::now();
    let device = access.device(id).await?;
    let parameters = parameters(access, id, None).await?;
    Ok(Page {
        page: Chrome::new(access, "devices"),
        subscriptions: subscriptions(&device, &parameters),
        tasks: tasks(access, id, &clock).await?,
        plots: telemetry::few(access, id).await?,
        tree: Tree::new(&parameters, device.parameter_count, &clock),
        device: Summary {
            places: places(access, &device),
            ..Summary::new(&device, &parameters, &clock)
        },
    })
}

/// `GET /devices/{id}/{part}`: one part of the page, drawn again.
pub(super) async fn part(
    MaybeCaller(caller): MaybeCaller,
    Path((id, part)): Path<(String, String)>,
) -> Response {
    let Some(access) = caller else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    match one_part(&access, &id, &part).await {
        Ok(response) => response,
        Err(error) => problem_page(&access, "devices", &error),
    }
}

async fn one_part(access: &Access, id: &str, part: &str) -> Result<Response, CoreError> {
    let clock = Clock::now();
    let device = access.device(id).await?;
    Ok(match part {
        "summary" => {
            let parameters = parameters(access, id, Some("Device.DeviceInfo.")).await?;
            let places = places(access, &device);
            let device = Summary {
                places,
                ..Summary::new(&device, &parameters, &clock)
            };
            render(StatusCode::OK, &SummaryPart { device })
        }
        "parameters" => {
            let parameters = parameters(access, id, None).await?;
            let tree = Tree::new(&parameters, device.parameter_count, &clock);
            render(StatusCode::OK, &ParametersPart { tree })
        }
        "tasks" => {
            let tasks = tasks(access, id, &clock).await?;
            render(StatusCode::OK, &TasksPart { tasks })
        }
        "series" => telemetry::few_part(access, id).await?,
        "subscriptions" => {
            let parameters = parameters(access, id, Some(SUBSCRIPTIONS)).await?;
            let subscriptions = subscriptions(&device, &parameters);
            render(StatusCode::OK, &SubscriptionsPart { subscriptions })
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    })
}

/// The home that it is the gateway of, and the gateway that it is behind.
fn places(access: &Access, device: &Device) -> Vec<Place> {
    let id = &device.summary.id;
    let own = access
        .home(id)
        .ok()
        .map(|_| Place::gateway(&device.summary));
    let behind = access.association(id).ok();
    let behind = behind.and_then(|found| Place::new(&found));
    own.into_iter().chain(behind).collect()
}

async fn parameters(
    access: &Access,
    id: &str,
    path: Option<&str>,
) -> Result<Vec<Parameter>, CoreError> {
    let (mut all, mut weight) = (Vec::new(), 0);
    let mut after = None;
    while all.len() < VALUES {
        let query = ParameterQuery {
            path: path.map(str::to_owned),
            limit: (VALUES - all.len()).min(1000),
            after,
        };
        let page = access.parameters(id, query).await?;
        for parameter in page.parameters {
            weight += parameter.path.len() + parameter.value.len();
            if weight > WEIGHT {
                return Ok(all);
            }
            all.push(parameter);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(all)
}

async fn tasks(access: &Access, id: &str, clock: &Clock) -> Result<Vec<TaskItem>, CoreError> {
    let query = TaskQuery {
        device: Some(id.to_owned()),
        state: None,
        limit: TASKS,
        after: None,
    };
    let page = access.tasks(query).await?;
    Ok(page
        .tasks
        .iter()
        .map(|task| TaskItem::new(task, clock))
        .collect())
}
