//! The list of devices.

use askama::Template;
use axum::extract::Query;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use homefleet_api::client::encode;
use serde::Deserialize;

use super::view::device::Row;
use super::view::when::Clock;
use super::{Chrome, problem_page, render, sign_in_first};
use crate::core::DeviceQuery;
use crate::http::MaybeCaller;

/// Devices on one page.
const PAGE: usize = 100;

/// Query of the list.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    search: Option<String>,
    after: Option<String>,
    /// `table`: only the part that changes.
    part: Option<String>,
}

#[derive(Template)]
#[template(path = "devices.html")]
struct Page {
    page: Chrome,
    count_text: String,
    search: String,
    fragment: String,
    rows: Vec<Row>,
    searching: bool,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "devices_table.html")]
struct Table {
    rows: Vec<Row>,
    searching: bool,
    next: Option<String>,
}

/// `GET /devices`.
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
    let search = asked
        .search
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty());
    let query = DeviceQuery {
        search: search.clone(),
        limit: PAGE,
        after: asked.after.clone(),
    };
    let found = match access.devices(query).await {
        Ok(found) => found,
        Err(error) => return problem_page(&access, "devices", &error),
    };
    let clock = Clock::now();
    let rows: Vec<Row> = found
        .devices
        .iter()
        .map(|device| Row::new(device, &clock))
        .collect();
    let base = search.as_deref().map_or_else(
        || "/devices?".to_owned(),
        |text| format!("/devices?search={}&", encode(text)),
    );
    let next = found
        .next
        .map(|after| format!("{base}after={}", encode(&after)));
    let searching = search.is_some();
    if !whole {
        return render(
            StatusCode::OK,
            &Table {
                rows,
                searching,
                next,
            },
        );
    }
    let after = asked
        .after
        .map(|after| format!("after={}&", encode(&after)))
        .unwrap_or_default();
    let page = Page {
        page: Chrome::new(&access, "devices"),
        count_text: count_text(rows.len(), next.is_some(), searching),
        search: search.unwrap_or_default(),
        fragment: format!("{base}{after}part=table"),
        rows,
        searching,
        next,
    };
    render(StatusCode::OK, &page)
}

fn count_text(shown: usize, more: bool, searching: bool) -> String {
    let what = if searching { "match" } else { "devices" };
    match (shown, more) {
        (_, true) => format!("{shown} shown, more on the next page"),
        (1, false) if searching => "1 matches".to_owned(),
        (1, false) => "1 device".to_owned(),
        (shown, false) => format!("{shown} {what}"),
    }
}
