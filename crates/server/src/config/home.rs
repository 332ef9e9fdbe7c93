//! `[home]`: who is behind which gateway.

use std::time::Duration;

use serde::Deserialize;

use super::{Config, ConfigError};
use crate::home::HomeConfig;

/// `[home]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Home {
    /// Whether devices are asked for their gateways, and gateways for their devices.
    pub enabled: bool,
    /// Seconds that a gateway may take to list a device that just came.
    pub settle: u64,
    /// Seconds between two readings of one gateway, at least.
    pub pause: u64,
    /// Most rows kept of a gateway's table.
    pub max_rows: usize,
}

impl Default for Home {
    fn default() -> Self {
        let HomeConfig {
            enabled,
            settle,
            pause,
            rows,
        } = HomeConfig::default();
        Self {
            enabled,
            settle: settle.as_secs(),
            pause: pause.as_secs(),
            max_rows: rows,
        }
    }
}

impl Config {
    /// Checks `[home]`.
    pub(super) fn check_home(&self) -> Result<(), ConfigError> {
        let home = &self.home;
        let (key, problem) = if home.settle > 3600 {
            (
                "home.settle",
                format!("found {}, expected at most 3600", home.settle),
            )
        } else if home.pause > 3600 {
            (
                "home.pause",
                format!("found {}, expected at most 3600", home.pause),
            )
        } else if home.max_rows == 0 {
            ("home.max_rows", "found 0, expected at least 1".to_owned())
        } else {
            return Ok(());
        };
        Err(ConfigError::Value { key, problem })
    }

    /// What homes need of it.
    pub(super) fn homes(&self) -> HomeConfig {
        let home = &self.home;
        HomeConfig {
            enabled: home.enabled,
            settle: Duration::from_secs(home.settle),
            pause: Duration::from_secs(home.pause),
            rows: home.max_rows,
        }
    }
}
