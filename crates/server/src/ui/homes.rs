//! Homes: the list of gateways, and a gateway with its devices as a picture.

use askama::Template;
use axum::extract::{Path, Query};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use homefleet_api::AssociationStatus;
use homefleet_api::client::encode;
use serde::Deserialize;

use super::view::home::{Claim, Line, Picture};
use super::view::when::Clock;
use super::{Chrome, problem_page, render, sign_in_first};
use crate::core::{Access, AssociationQuery, CoreError, HomeQuery};
use crate::http::MaybeCaller;

/// Homes on one page.
const PAGE: usize = 100;
/// Claims of each kind that are shown below.
const CLAIMS: usize = 20;

/// Query of the pages.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    search: Option<String>,
    after: Option<String>,
    /// `table` or `home`: only the part that changes.
    part: Option<String>,
}

#[derive(Template)]
#[template(path = "homes.html")]
struct Page {
    page: Chrome,
    search: String,
    fragment: String,
    list: List,
}

#[derive(Template)]
#[template(path = "homes_table.html")]
struct Table {
    list: List,
}

/// What the list shows.
struct List {
    lines: Vec<Line>,
    claims: Vec<Claim>,
    searching: bool,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage {
    page: Chrome,
    home: Picture,
}

#[derive(Template)]
#[template(path = "home_picture.html")]
struct HomePart {
    home: Picture,
}

/// `GET /homes`.
pub(super) async fn page(
    MaybeCaller(caller): MaybeCaller,
    uri: Uri,
    Query(asked): Query<Asked>,
) -> Response {
    let whole = asked.part.is_none();
    let Some(access) = caller else {
        return refused(whole, &uri);
    };
    let search = asked.search.as_deref().map(str::trim).unwrap_or_default();
    let base = format!("/homes?search={}&", encode(search));
    let list = match list(&access, search, asked.after.as_deref(), &base).await {
        Ok(list) => list,
        Err(error) => return problem_page(&access, "homes", &error),
    };
    if !whole {
        return render(StatusCode::OK, &Table { list });
    }
    let after = asked.after.as_deref().map(encode);
    let after = after.map_or_else(String::new, |after| format!("after={after}&"));
    let page = Page {
        page: Chrome::new(&access, "homes"),
        search: search.to_owned(),
        fragment: format!("{base}{after}part=table"),
        list,
    };
    render(StatusCode::OK, &page)
}

async fn list(
    access: &Access,
    search: &str,
    after: Option<&str>,
    base: &str,
) -> Result<List, CoreError> {
    let clock = Clock::now();
    let query = HomeQuery {
        search: Some(search.to_owned()).filter(|search| !search.is_empty()),
        limit: PAGE,
        after: after.map(str::to_owned),
    };
    let found = access.homes(query).await?;
    let mut claims = Vec::new();
    for status in [AssociationStatus::Refuted, AssociationStatus::Unverifiable] {
        let query = AssociationQuery {
            status: Some(status),
            limit: CLAIMS,
            after: None,
        };
        let page = access.associations(query).await?;
        claims.extend(page.associations.iter().map(|it| Claim::new(it, &clock)));
    }
    Ok(List {
        lines: found
            .homes
            .iter()
            .map(|home| Line::new(home, &clock))
            .collect(),
        claims,
        searching: !search.is_empty(),
        next: found
            .next
            .map(|after| format!("{base}after={}", encode(&after))),
    })
}

/// `GET /homes/{id}`.
pub(super) async fn home(
    MaybeCaller(caller): MaybeCaller,
    uri: Uri,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Response {
    let whole = asked.part.is_none();
    let Some(access) = caller else {
        return refused(whole, &uri);
    };
    let home = match access.home(&id) {
        Ok(home) => Picture::new(&home, &Clock::now()),
        Err(error) => return problem_page(&access, "homes", &error),
    };
    if whole {
        let page = Chrome::new(&access, "homes");
        render(StatusCode::OK, &HomePage { page, home })
    } else {
        render(StatusCode::OK, &HomePart { home })
    }
}

fn refused(whole: bool, uri: &Uri) -> Response {
    if whole {
        sign_in_first(uri)
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}
