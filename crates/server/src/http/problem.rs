//! Refusals as JSON.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use homefleet_api::{Problem, ProblemCode};

use crate::core::CoreError;

/// An answer that refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub Problem);

impl Refusal {
    /// A refusal of this kind.
    pub fn new(code: ProblemCode, message: impl Into<String>) -> Self {
        Self(Problem::new(code, message))
    }
}

impl From<CoreError> for Refusal {
    fn from(error: CoreError) -> Self {
        if let CoreError::Internal(problem) = &error {
            tracing::error!(problem, "a request failed");
        }
        Self(error.problem())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = self.0.error.code;
        let status =
            StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.0)).into_response();
        match code {
            ProblemCode::Unauthorized => {
                response.headers_mut().insert(
                    WWW_AUTHENTICATE,
                    HeaderValue::from_static("Bearer realm=\"homefleet\""),
                );
            }
            ProblemCode::Overloaded => {
                response
                    .headers_mut()
                    .insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response
    }
}
