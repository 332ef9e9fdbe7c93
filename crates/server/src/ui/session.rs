//! Signing in and out.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::render;
use crate::http::{AppState, Caller, Fields, MaybeCaller, session};

#[derive(Template)]
#[template(path = "login.html")]
struct Page {
    message: Option<&'static str>,
    next: String,
}

/// Query of the login page.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    /// One-time key of a login link.
    key: Option<String>,
    /// Where to go afterwards.
    next: Option<String>,
}

/// Form of the login page.
#[derive(Deserialize)]
pub(super) struct Credentials {
    token: String,
    next: Option<String>,
}

/// `GET /login`: the form; with a one-time key, the session itself.
pub(super) async fn page(
    State(state): State<AppState>,
    MaybeCaller(caller): MaybeCaller,
    Query(asked): Query<Asked>,
) -> Response {
    let next = inside(asked.next);
    let Some(key) = asked.key else {
        if caller.is_some() {
            return Redirect::to(&next).into_response();
        }
        return render(
            StatusCode::OK,
            &Page {
                message: None,
                next,
            },
        );
    };
    match state.login.redeem(&key) {
        Some(token) => begin(&state, &token, next).await,
        // Used already: whoever is signed in by now need not be told.
        None if caller.is_some() => Redirect::to(&next).into_response(),
        None => refused(
            "This link was used already or is too old. Sign in with a token.",
            next,
        ),
    }
}

/// `POST /login`.
pub(super) async fn open(
    State(state): State<AppState>,
    headers: HeaderMap,
    Fields(form): Fields<Credentials>,
) -> Response {
    let next = inside(form.next);
    if !session::same_origin(&headers) {
        return refused(
            "This form was sent from another site. Try again here.",
            next,
        );
    }
    begin(&state, form.token.trim(), next).await
}

/// `POST /logout`.
pub(super) async fn close(
    State(state): State<AppState>,
    _caller: Caller,
    headers: HeaderMap,
) -> Response {
    if let Some(secret) = session::cookie(&headers) {
        state.core.close_session(secret);
    }
    let cookie = session::clear_cookie(state.secure_cookies);
    ([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response()
}

async fn begin(state: &AppState, token: &str, next: String) -> Response {
    match state.core.open_session(token).await {
        Ok(secret) => {
            let cookie = session::set_cookie(&secret, state.secure_cookies);
            ([(header::SET_COOKIE, cookie)], Redirect::to(&next)).into_response()
        }
        Err(_) => refused("No such token. It may have expired or been revoked.", next),
    }
}

fn refused(message: &'static str, next: String) -> Response {
    let page = Page {
        message: Some(message),
        next,
    };
    render(StatusCode::UNAUTHORIZED, &page)
}

/// A path of this site and nothing else: `next` comes from whoever made the link.
fn inside(next: Option<String>) -> String {
    next.filter(|next| {
        next.starts_with('/')
            && !next.starts_with("//")
            && !next.contains('\\')
            && !next.chars().any(char::is_control)
    })
    .unwrap_or_else(|| "/devices".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_site_are_gone_to_after_signing_in() {
        let go = |next: &str| inside(Some(next.to_owned()));
        assert_eq!(go("/tasks?state=failed"), "/tasks?state=failed");
        for outside in [
            "//evil.example",
            "https://evil.example",
            "/\\evil",
            "/a\r\nb",
            "",
        ] {
            assert_eq!(go(outside), "/devices", "{outside:?}");
        }
        assert_eq!(inside(None), "/devices");
    }
}
