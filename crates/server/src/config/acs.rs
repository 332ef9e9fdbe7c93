//! `[acs]`: devices over TR-069.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Config, ConfigError};

/// `[acs]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Acs {
    /// Address for CWMP over HTTP; absent = none.
    pub listen: Option<SocketAddr>,
    /// Name that devices log in with before they have their own; needs `password_file`.
    pub username: Option<String>,
    /// File with the password to it, readable by its owner only.
    pub password_file: Option<PathBuf>,
    /// What happens to a device that is not known.
    pub unknown: UnknownCpes,
    /// Most sessions at a time; beyond it devices are told to come again.
    pub sessions: usize,
    /// Seconds that a device may take for its next message.
    pub timeout: u64,
    /// Seconds between the sessions that a device is to open by itself; 0 = as it was made.
    pub inform_interval: u32,
}

/// What happens to a device that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownCpes {
    /// It is managed at once.
    Admit,
    /// It is registered and nothing else, until an operator admits it.
    Quarantine,
    /// It is refused.
    Refuse,
}

impl Default for Acs {
    fn default() -> Self {
        Self {
            listen: None,
            username: None,
            password_file: None,
            unknown: UnknownCpes::Quarantine,
            sessions: 10_000,
            timeout: 30,
            inform_interval: 0,
        }
    }
}

impl Config {
    /// Checks `[acs]`.
    pub(super) fn check_acs(&self) -> Result<(), ConfigError> {
        let acs = &self.acs;
        let wrong = |key: &'static str, problem: &str| {
            Err(ConfigError::Value {
                key,
                problem: problem.to_owned(),
            })
        };
        match (&acs.username, &acs.password_file) {
            (Some(_), None) => return wrong("acs.password_file", "missing beside acs.username"),
            (None, Some(_)) => return wrong("acs.username", "missing beside acs.password_file"),
            _ => {}
        }
        if acs.sessions == 0 {
            return wrong("acs.sessions", "found 0, expected at least 1");
        }
        if !(5..=3600).contains(&acs.timeout) {
            return wrong("acs.timeout", "expected 5 to 3600 seconds");
        }
        Ok(())
    }
}
