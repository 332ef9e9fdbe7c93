//! What handlers take: the caller, JSON bodies with useful errors, and forms.

use std::time::Duration;

use axum::Form;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use homefleet_api::{Problem, ProblemCode};
use serde::de::DeserializeOwned;

use super::{AppState, Refusal, session};
use crate::core::{Access, CoreError};

/// Longest time a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// An authenticated request: by bearer token, or by the console's cookie, which for anything that changes something
/// must come from the console's own pages.
#[derive(Debug, Clone)]
pub struct Caller(pub Access);

impl FromRequestParts<AppState> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &AppState,
    ) -> Result<Self, Self::Rejection> {
        if let Some(header) = parts.headers.get(AUTHORIZATION) {
            let secret = header
                .to_str()
                .ok()
                .and_then(|text| {
                    let (scheme, secret) = text.split_once(' ')?;
                    scheme
                        .eq_ignore_ascii_case("bearer")
                        .then_some(secret.trim())
                })
                .ok_or(CoreError::Unauthorized)?;
            return Ok(Self(state.core.authenticate(secret).await?));
        }
        let secret = session::cookie(&parts.headers).ok_or(CoreError::Unauthorized)?;
        let access = state.core.session(secret)?;
        if !parts.method.is_safe() && !session::same_origin(&parts.headers) {
            return Err(Refusal::new(
                ProblemCode::Forbidden,
                "the request came from another site",
            ));
        }
        Ok(Self(access))
    }
}

/// The caller, if there is one: for pages that send others to the login page.
#[derive(Debug, Clone)]
pub struct MaybeCaller(pub Option<Access>);

impl FromRequestParts<AppState> for MaybeCaller {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &AppState,
    ) -> Result<Self, Self::Rejection> {
        match Caller::from_request_parts(parts, state).await {
            Ok(caller) => Ok(Self(Some(caller.0))),
            Err(refusal) if refusal.0.error.code == ProblemCode::Unauthorized => Ok(Self(None)),
            Err(refusal) => Err(refusal),
        }
    }
}

/// A JSON body.
#[derive(Debug, Clone)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        if !is_json(request.headers()) {
            return Err(Refusal::new(
                ProblemCode::UnsupportedMediaType,
                "the body is not marked `Content-Type: application/json`",
            ));
        }
        let bytes = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, state))
            .await
            .map_err(|_| Refusal::new(ProblemCode::BadRequest, "the body did not come in time"))?
            .map_err(|rejection| unreadable(&rejection))?;
        parse(&bytes).map(Self)
    }
}

/// The fields of an HTML form.
#[derive(Debug, Clone)]
pub struct Fields<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Fields<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        Self::within(BODY_TIMEOUT, request, state).await
    }
}

impl<T: DeserializeOwned> Fields<T> {
    async fn within<S: Send + Sync>(
        limit: Duration,
        request: Request,
        state: &S,
    ) -> Result<Self, Response> {
        match tokio::time::timeout(limit, Form::from_request(request, state)).await {
            Ok(Ok(Form(fields))) => Ok(Self(fields)),
            Ok(Err(rejection)) => Err(rejection.into_response()),
            Err(_) => Err(StatusCode::REQUEST_TIMEOUT.into_response()),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| {
            kind.split(';')
                .next()
                .unwrap_or("")
                .trim()
                .eq_ignore_ascii_case("application/json")
        })
}

fn unreadable(rejection: &BytesRejection) -> Refusal {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Refusal::new(
            ProblemCode::TooLarge,
            "the body is larger than this server's http.body_limit",
        );
    }
    Refusal::new(ProblemCode::BadRequest, "the body could not be read")
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        let mut problem = Problem::new(ProblemCode::BadRequest, without_place(&error.to_string()));
        // Errors found after reading (a wrong variant, say) have no place.
        if error.line() > 0 {
            problem = problem.at_line(error.line(), error.column());
        }
        Refusal(problem)
    })
}

/// The place is told in its own fields.
fn without_place(text: &str) -> &str {
    text.rfind(" at line ").map_or(text, |at| &text[..at])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;

    use axum::body::Body as Stream;

    use super::*;

    #[tokio::test]
    async fn form_that_does_not_come_is_not_waited_for() {
        let nothing = tokio_stream::pending::<Result<Bytes, std::io::Error>>();
        let request = Request::post("/")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Stream::from_stream(nothing))
            .unwrap();
        let limit = Duration::from_millis(1);
        let refused = Fields::<HashMap<String, String>>::within(limit, request, &()).await;
        assert_eq!(refused.unwrap_err().status(), StatusCode::REQUEST_TIMEOUT);
    }
}
