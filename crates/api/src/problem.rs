//! The one shape of every error answer: `{ "error": { "code": …, "message": …, "path": … } }`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of every answer with a status of 400 or more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What went wrong.
    pub error: ProblemDetail,
}

/// What went wrong, what was expected, where, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemDetail {
    /// Kind, stable for programs.
    pub code: ProblemCode,
    /// Text for a person.
    pub message: String,
    /// URL path, data-model path or JSON field the problem is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Line in the body, from 1, for malformed JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Column in that line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
}

/// Kind of a problem. The HTTP status follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// 400: the body, a path or a query value is malformed.
    BadRequest,
    /// 409: the state of the thing does not allow it, for example cancelling a sent task.
    Conflict,
    /// 403: the token's role does not allow it, or the request came from another site.
    Forbidden,
    /// 500: the server failed; the log says why.
    Internal,
    /// 405: the method is not defined for the path.
    MethodNotAllowed,
    /// 404: no such device, task, token or URL.
    NotFound,
    /// 503: a bounded queue is full; try again later.
    Overloaded,
    /// 413: the body is larger than the limit.
    TooLarge,
    /// 401: no token, or one that is unknown or has expired.
    Unauthorized,
    /// 415: the body is not `application/json`.
    UnsupportedMediaType,
    /// A kind this version does not know.
    #[serde(other)]
    Unknown,
}

impl ProblemCode {
    /// HTTP status code.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Conflict => 409,
            Self::Forbidden => 403,
            Self::Internal | Self::Unknown => 500,
            Self::MethodNotAllowed => 405,
            Self::NotFound => 404,
            Self::Overloaded => 503,
            Self::TooLarge => 413,
            Self::Unauthorized => 401,
            Self::UnsupportedMediaType => 415,
        }
    }
}

impl Problem {
    /// A problem without a place.
    pub fn new(code: ProblemCode, message: impl Into<String>) -> Self {
        Self {
            error: ProblemDetail {
                code,
                message: message.into(),
                path: None,
                line: None,
                column: None,
            },
        }
    }

    /// Names what it is about.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.error.path = Some(path.into());
        self
    }

    /// Names the place in the body.
    #[must_use]
    pub fn at_line(mut self, line: usize, column: usize) -> Self {
        self.error.line = Some(line);
        self.error.column = Some(column);
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.error.message)?;
        if let Some(path) = &self.error.path {
            write!(f, " ({path})")?;
        }
        if let (Some(line), Some(column)) = (self.error.line, self.error.column) {
            write!(f, " at line {line} column {column}")?;
        }
        Ok(())
    }
}
