//! Tokens, roles, the audit log and what the server says of itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// What the holder of a token may do. Each role includes those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, including tokens and the audit log.
    Admin,
    /// Reads, and submits or cancels tasks, labels and removes devices.
    Operator,
    /// Reads.
    Viewer,
}

impl Role {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
        }
    }

    /// Whether this role includes `needed`.
    pub fn includes(self, needed: Role) -> bool {
        let rank = |role| match role {
            Self::Admin => 2,
            Self::Operator => 1,
            Self::Viewer => 0,
        };
        rank(self) >= rank(needed)
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "admin" => Ok(Self::Admin),
            "operator" => Ok(Self::Operator),
            "viewer" => Ok(Self::Viewer),
            _ => Err(UnknownRole(text.to_owned())),
        }
    }
}

/// A text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown role `{0}`, expected admin, operator or viewer")]
pub struct UnknownRole(pub String);

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What it is for, at most 64 characters.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Seconds until it expires; absent = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
}

/// A token as listed: never the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Identifier, for revoking it.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created: Timestamp,
    /// When it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// A new token with its secret, which is shown once and stored nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// What is listed from now on.
    #[serde(flatten)]
    pub token: Token,
    /// The secret: `hf_` and 43 characters.
    pub secret: String,
}

/// All tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// Tokens in the order they were made.
    pub tokens: Vec<Token>,
}

/// One line of the audit log: a write, by whom, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Audit {
    /// Position in the log, ascending.
    pub sequence: u64,
    /// When.
    pub time: Timestamp,
    /// Name and identifier of the token.
    pub who: String,
    /// What: `task.create`, `task.cancel`, `device.remove`, `device.label`, `token.create`, `token.revoke`,
    /// `session.open`, `device.certificate`, `tls.reload`.
    pub action: String,
    /// On what: Endpoint ID, task ID or token ID.
    pub subject: String,
    /// Details as text; never a secret.
    pub detail: String,
    /// Whether it was allowed and done.
    pub allowed: bool,
}

/// A page of the audit log, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// Entries.
    pub entries: Vec<Audit>,
    /// Value for `before` to fetch older ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// What the server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerInfo {
    /// Version of the program.
    pub version: String,
    /// The server's own Endpoint ID as a USP Controller.
    pub endpoint_id: String,
    /// Where it listens for devices over CoAP.
    pub coap_address: String,
    /// Where it listens for devices over WebSocket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub websocket_address: Option<String>,
    /// Name of the token that asked.
    pub token_name: String,
    /// Role of the token that asked.
    pub role: Role,
    /// When the server was started.
    pub started: Timestamp,
}
