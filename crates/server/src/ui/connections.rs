//! How the server is connected: where devices reach it, brokers, and what came and went.

use askama::Template;
use axum::extract::Query;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::view::connection::Section;
use super::view::when::Clock;
use super::{Chrome, problem_page, render, sign_in_first};
use crate::http::MaybeCaller;

/// Query of the page.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// `table`: only the part that changes.
    part: Option<String>,
}

#[derive(Template)]
#[template(path = "connections.html")]
struct Page {
    page: Chrome,
    sections: Vec<Section>,
}

#[derive(Template)]
#[template(path = "connections_table.html")]
struct Table {
    sections: Vec<Section>,
}

/// `GET /connections`.
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
    let list = match access.mtps() {
        Ok(list) => list,
        Err(error) => return problem_page(&access, "connections", &error),
    };
    let clock = Clock::now();
    let sections = list
        .mtps
        .iter()
        .map(|mtp| Section::new(mtp, &clock))
        .collect();
    if whole {
        let page = Chrome::new(&access, "connections");
        render(StatusCode::OK, &Page { page, sections })
    } else {
        render(StatusCode::OK, &Table { sections })
    }
}
