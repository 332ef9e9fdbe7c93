//! All tasks.

use askama::Template;
use axum::extract::Query;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use homefleet_api::TaskState;
use homefleet_api::client::encode;
use serde::Deserialize;

use super::view::filters;
use super::view::task::Item;
use super::view::when::Clock;
use super::{Chrome, problem_page, render, sign_in_first};
use crate::core::TaskQuery;
use crate::http::MaybeCaller;

/// Tasks on one page.
const PAGE: usize = 50;

/// Query of the list.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    device: Option<String>,
    state: Option<String>,
    after: Option<String>,
    /// `table`: only the part that changes.
    part: Option<String>,
}

struct Pill {
    name: &'static str,
    href: String,
    current: bool,
}

#[derive(Template)]
#[template(path = "tasks.html")]
struct Page {
    page: Chrome,
    scope: String,
    pills: Vec<Pill>,
    fragment: String,
    tasks: Vec<Item>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "tasks_table.html")]
struct Table {
    tasks: Vec<Item>,
    next: Option<String>,
}

/// `GET /tasks`.
pub(super) async fn page(
    MaybeCaller(caller): MaybeCaller,
    uri: Uri,
    Query(asked): Query<Asked>,
) -> Response {
    let whole = asked.part.is_none();
    let Some(access) = caller else {
        return if whole {
            sign_in_first(&uri)
        } else {
            StatusCode::UNAUTHORIZED.into_response()
        };
    };
    let state: Option<TaskState> = asked.state.as_deref().and_then(|name| name.parse().ok());
    let query = TaskQuery {
        device: asked.device.clone(),
        state,
        limit: PAGE,
        after: asked.after.clone(),
    };
    let found = match access.tasks(query).await {
        Ok(found) => found,
        Err(error) => return problem_page(&access, "tasks", &error),
    };
    let clock = Clock::now();
    let tasks: Vec<Item> = found
        .tasks
        .iter()
        .map(|task| Item::new(task, &clock))
        .collect();
    let link = |state: Option<TaskState>, more: &[(&str, &str)]| {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        pairs.extend(asked.device.as_deref().map(|device| ("device", device)));
        pairs.extend(state.map(|state| ("state", state.as_str())));
        pairs.extend(more);
        href(&pairs)
    };
    let next = found
        .next
        .as_deref()
        .map(|after| link(state, &[("after", after)]));
    if !whole {
        return render(StatusCode::OK, &Table { tasks, next });
    }
    let mut here: Vec<(&str, &str)> = Vec::new();
    here.extend(asked.after.as_deref().map(|after| ("after", after)));
    here.push(("part", "table"));
    let page = Page {
        page: Chrome::new(&access, "tasks"),
        scope: match &asked.device {
            Some(device) => format!("of {device}, the newest first"),
            None => "of all devices, the newest first".to_owned(),
        },
        pills: pills(state, |state| link(state, &[])),
        fragment: link(state, &here),
        tasks,
        next,
    };
    render(StatusCode::OK, &page)
}

fn pills(current: Option<TaskState>, link: impl Fn(Option<TaskState>) -> String) -> Vec<Pill> {
    [
        ("All", None),
        ("Queued", Some(TaskState::Queued)),
        ("Sent", Some(TaskState::Sent)),
        ("Done", Some(TaskState::Done)),
        ("Failed", Some(TaskState::Failed)),
        ("Expired", Some(TaskState::Expired)),
        ("Cancelled", Some(TaskState::Cancelled)),
    ]
    .into_iter()
    .map(|(name, state)| Pill {
        name,
        href: link(state),
        current: state == current,
    })
    .collect()
}

fn href(pairs: &[(&str, &str)]) -> String {
    let query: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    if query.is_empty() {
        "/tasks".to_owned()
    } else {
        format!("/tasks?{}", query.join("&"))
    }
}
