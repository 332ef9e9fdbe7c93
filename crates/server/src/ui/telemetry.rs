//! Telemetry: how it fares, and the time series of a device as plots.

use askama::Template;
use axum::extract::{Path, Query};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use homefleet_api::Series;
use homefleet_api::client::encode;
use serde::Deserialize;

use super::view::filters;
use super::view::plot::Plot;
use super::view::stream::Streams;
use super::view::when::Clock;
use super::{Chrome, problem_page, render, sign_in_first};
use crate::clock::Millis;
use crate::core::{Access, CoreError, SeriesQuery};
use crate::http::MaybeCaller;

/// Plots on the page of a device.
const FEW: usize = 6;
/// Plots on the page of its telemetry.
const MANY: usize = 60;
/// Stretches that are offered: name, seconds.
const RANGES: [(&str, u64); 5] = [
    ("10m", 600),
    ("1h", 3600),
    ("6h", 21_600),
    ("24h", 86_400),
    ("7d", 604_800),
];

/// Query of the pages.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// `table` or `plots`: only the part that changes.
    part: Option<String>,
    /// Name of a stretch.
    range: Option<String>,
    /// Words that paths contain.
    search: Option<String>,
}

#[derive(Template)]
#[template(path = "telemetry.html")]
struct Page {
    page: Chrome,
    streams: Option<Streams>,
}

#[derive(Template)]
#[template(path = "telemetry_tables.html")]
struct Tables {
    streams: Option<Streams>,
}

#[derive(Template)]
#[template(path = "series.html")]
struct SeriesPage {
    page: Chrome,
    device: String,
    device_href: String,
    here: String,
    fragment: String,
    search: String,
    ranges: Vec<Range>,
    range: &'static str,
    plots: Plots,
}

#[derive(Template)]
#[template(path = "plots.html")]
struct PlotsPart {
    plots: Plots,
}

/// A stretch that is offered.
struct Range {
    name: &'static str,
    href: String,
    chosen: bool,
}

/// Plots, and how many there are besides.
pub(super) struct Plots {
    pub(super) plots: Vec<Plot>,
    pub(super) more: usize,
    pub(super) href: String,
}

/// `GET /telemetry`.
pub(super) async fn page(
    MaybeCaller(caller): MaybeCaller,
    uri: Uri,
    Query(asked): Query<Asked>,
) -> Response {
    let whole = asked.part.is_none();
    let Some(access) = caller else {
        return refused(whole, &uri);
    };
    let streams = match access.telemetry() {
        Ok(telemetry) => Some(Streams::new(&telemetry, &Clock::now())),
        Err(CoreError::NotFound { .. }) => None,
        Err(error) => return problem_page(&access, "telemetry", &error),
    };
    if whole {
        let page = Chrome::new(&access, "telemetry");
        render(StatusCode::OK, &Page { page, streams })
    } else {
        render(StatusCode::OK, &Tables { streams })
    }
}

/// `GET /telemetry/{id}`: the series of a device.
pub(super) async fn device(
    MaybeCaller(caller): MaybeCaller,
    uri: Uri,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Response {
    let whole = asked.part.is_none();
    let Some(access) = caller else {
        return refused(whole, &uri);
    };
    let (range, span) = RANGES
        .into_iter()
        .find(|(name, _)| asked.range.as_deref() == Some(*name))
        .unwrap_or(("10m", 600));
    let search = asked.search.unwrap_or_default();
    let plots = match plots(&access, &id, span, MANY, &search).await {
        Ok(plots) => plots,
        Err(error) => return problem_page(&access, "telemetry", &error),
    };
    if !whole {
        return render(StatusCode::OK, &PlotsPart { plots });
    }
    let here = format!("/telemetry/{}", encode(&id));
    let with = |range: &str| format!("{here}?range={range}&search={}", encode(&search));
    let page = SeriesPage {
        page: Chrome::new(&access, "telemetry"),
        device_href: format!("/devices/{}", encode(&id)),
        fragment: format!("{}&part=plots", with(range)),
        ranges: RANGES
            .iter()
            .map(|(name, _)| Range {
                name,
                href: with(name),
                chosen: *name == range,
            })
            .collect(),
        device: id,
        here,
        search,
        range,
        plots,
    };
    render(StatusCode::OK, &page)
}

/// The plots on the page of a device; none where nothing is kept.
pub(super) async fn few(access: &Access, id: &str) -> Result<Plots, CoreError> {
    match plots(access, id, 600, FEW, "").await {
        Err(CoreError::NotFound { what: "thing", .. }) => Ok(Plots {
            plots: Vec::new(),
            more: 0,
            href: String::new(),
        }),
        other => other,
    }
}

/// The same, drawn again.
pub(super) async fn few_part(access: &Access, id: &str) -> Result<Response, CoreError> {
    let plots = few(access, id).await?;
    Ok(render(StatusCode::OK, &PlotsPart { plots }))
}

async fn plots(
    access: &Access,
    id: &str,
    span: u64,
    most: usize,
    search: &str,
) -> Result<Plots, CoreError> {
    let words: Vec<String> = search.split_whitespace().map(str::to_lowercase).collect();
    let wanted = |series: &Series| {
        let path = series.path.to_lowercase();
        words.iter().all(|word| path.contains(word))
    };
    let mut all = access.series(id).await?.series;
    all.retain(wanted);
    // One moment for all, so that they line up.
    let now = Millis::from(std::time::SystemTime::now());
    let from = Millis(now.0.saturating_sub(span * 1000)).to_timestamp();
    if most == FEW {
        // What still comes goes before what is over.
        all.sort_by_key(|series| series.last < from);
    }
    let more = all.len().saturating_sub(most);
    all.truncate(most);
    let mut plots = Vec::new();
    for series in all {
        let query = SeriesQuery {
            from: Some(from.clone()),
            to: Some(now.to_timestamp()),
            step: None,
        };
        match access.series_points(id, &series.path, query).await {
            Ok(points) => plots.push(Plot::new(&points)),
            // Gone in between.
            Err(CoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Plots {
        plots,
        more,
        href: format!("/telemetry/{}", encode(id)),
    })
}

fn refused(whole: bool, uri: &Uri) -> Response {
    if whole {
        sign_in_first(uri)
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}
