//! Why the core refuses or fails.

use homefleet_api::{Problem, ProblemCode};

use crate::store::StoreError;

/// Why a request was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CoreError {
    /// Something in the request is malformed.
    #[error("{message}")]
    Bad {
        /// What was found and what was expected.
        message: String,
        /// Where.
        path: Option<String>,
    },
    /// The state of the thing does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// The role does not allow it.
    #[error("the role of this token is {role}, this needs {needed}")]
    Forbidden {
        /// Role of the token.
        role: homefleet_api::Role,
        /// Role needed.
        needed: homefleet_api::Role,
    },
    /// The server failed.
    #[error("{0}")]
    Internal(String),
    /// No such thing.
    #[error("no {what} `{id}`")]
    NotFound {
        /// Kind.
        what: &'static str,
        /// Identifier.
        id: String,
    },
    /// A bounded queue is full.
    #[error("{0}")]
    Overloaded(String),
    /// No valid token.
    #[error(
        "no valid token: send `Authorization: Bearer hf_…`, made with `homefleet token create`"
    )]
    Unauthorized,
}

impl CoreError {
    pub(crate) fn bad(message: impl Into<String>, path: impl Into<String>) -> Self {
        Self::Bad {
            message: message.into(),
            path: Some(path.into()),
        }
    }

    pub(crate) fn no(what: &'static str, id: &str) -> Self {
        Self::NotFound {
            what,
            id: id.to_owned(),
        }
    }

    /// As the REST API tells it.
    pub fn problem(&self) -> Problem {
        let code = match self {
            Self::Bad { .. } => ProblemCode::BadRequest,
            Self::Conflict(_) => ProblemCode::Conflict,
            Self::Forbidden { .. } => ProblemCode::Forbidden,
            Self::Internal(_) => ProblemCode::Internal,
            Self::NotFound { .. } => ProblemCode::NotFound,
            Self::Overloaded(_) => ProblemCode::Overloaded,
            Self::Unauthorized => ProblemCode::Unauthorized,
        };
        let message = match self {
            // Details of a failure are for the log.
            Self::Internal(_) => "the server failed, its log says why".to_owned(),
            other => other.to_string(),
        };
        let problem = Problem::new(code, message);
        match self {
            Self::Bad {
                path: Some(path), ..
            } => problem.at(path),
            Self::NotFound { id, .. } => problem.at(id),
            _ => problem,
        }
    }
}

impl From<StoreError> for CoreError {
    fn from(error: StoreError) -> Self {
        Self::Internal(error.to_string())
    }
}
