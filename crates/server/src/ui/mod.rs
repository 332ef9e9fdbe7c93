//! The web console: pages rendered by the server, with a little JavaScript of our own.
//!
//! A page is plain HTML that works by itself; `static/console.js` adds what moves: values that change,
//! tasks that end, the drawer in which a task is staged and then committed. The script speaks to the
//! same REST API as everyone else, with the session's cookie, and asks here for *parts* of a page
//! (`/devices/{id}/parameters`) when a part is to be drawn again: there is one rendering, and it is here.
//!
//! - `session`: signing in (by token, or by a one-time link) and out,
//! - `devices`, `device`, `homes`, `tasks`, `telemetry`, `connections`: the pages,
//! - `view`: what templates show, made from the API's types; no I/O,
//! - `assets`: style, script and icon, compiled in.
//!
//! Nothing is inline and nothing comes from elsewhere, so that the content security policy can forbid both.

use askama::Template;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};

use crate::core::{Access, CoreError};
use crate::http::AppState;

mod assets;
mod certificates;
mod connections;
mod device;
mod devices;
mod homes;
mod login;
mod session;
mod tasks;
mod telemetry;
mod view;

pub use login::{KEY_LIFETIME, LoginKeys, MAX_KEYS};

/// The console's pages.
pub fn router(state: AppState) -> Router {
    Router::new()
        .route("/", get(|| async { Redirect::to("/devices") }))
        .route("/login", get(session::page).post(session::open))
        .route("/logout", post(session::close))
        .route("/devices", get(devices::page))
        .route("/devices/{id}", get(device::page))
        .route("/devices/{id}/{part}", get(device::part))
        .route("/homes", get(homes::page))
        .route("/homes/{id}", get(homes::home))
        .route("/tasks", get(tasks::page))
        .route("/certificates", get(certificates::certificates))
        .route("/approvals", get(certificates::approvals))
        .route("/connections", get(connections::page))
        .route("/telemetry", get(telemetry::page))
        .route("/telemetry/{id}", get(telemetry::device))
        .route("/static/{name}", get(assets::serve))
        .with_state(state)
}

/// What every page shows around its content.
#[derive(Debug)]
pub(crate) struct Chrome {
    section: &'static str,
    who: String,
    can_act: bool,
}

impl Chrome {
    fn new(access: &Access, section: &'static str) -> Self {
        let role = access.role();
        Self {
            section,
            who: format!("{} ({role})", access.name()),
            can_act: role.includes(homefleet_api::Role::Operator),
        }
    }
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message {
    page: Chrome,
    heading: String,
    text: String,
}

/// Renders a template. A page holds what is true for one reader at one moment: it is not stored.
fn render(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => (status, [(header::CACHE_CONTROL, "no-store")], Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page of the console cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A page that says what went wrong.
fn problem_page(access: &Access, section: &'static str, error: &CoreError) -> Response {
    let problem = error.problem();
    let status = StatusCode::from_u16(problem.error.code.status())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let heading = match status {
        StatusCode::NOT_FOUND => "Not here",
        StatusCode::BAD_REQUEST => "That cannot be understood",
        _ => "That did not work",
    };
    let page = Message {
        page: Chrome::new(access, section),
        heading: heading.to_owned(),
        text: problem.to_string(),
    };
    render(status, &page)
}

/// To the login page, and back here afterwards.
fn sign_in_first(uri: &axum::http::Uri) -> Response {
    let here = uri.path_and_query().map_or("/", |path| path.as_str());
    let next = homefleet_api::client::encode(here);
    Redirect::to(&format!("/login?next={next}")).into_response()
}
