//! `[stun]`: being reached behind address translation.

use std::{net::SocketAddr, path::Path, path::PathBuf};

use serde::Deserialize;

use super::{ConfigError, Secret, invalid};
use crate::stun::StunConfig;

/// The section as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StunFile {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) enable: Option<bool>,
    pub(crate) server: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) username: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) minimum: Option<u32>,
    pub(crate) maximum: Option<u32>,
}

impl StunFile {
    pub(super) fn finish(self, base: &Path) -> Result<StunConfig, ConfigError> {
        // Empty is none, as in the template.
        let file = self.password_file;
        let file = file.filter(|file| !file.as_os_str().is_empty());
        let others = self.enable.is_some()
            || self.server.is_some()
            || self.port.is_some()
            || self.username.is_some()
            || file.is_some();
        if self.listen.is_none() && others {
            let reason = "not set: there is nothing for STUN to find out".to_owned();
            return Err(invalid("stun.listen", reason));
        }
        if let (Some(minimum), Some(maximum)) = (self.minimum, self.maximum)
            && maximum < minimum
        {
            let reason = format!("{maximum} is less than stun.minimum, {minimum}");
            return Err(invalid("stun.maximum", reason));
        }
        if self.port == Some(0) {
            return Err(invalid("stun.port", "0 is no port".to_owned()));
        }
        let password = match file {
            None => None,
            Some(file) => {
                let file = base.join(file);
                let text = std::fs::read_to_string(&file).map_err(|error| {
                    invalid("stun.password_file", format!("{}: {error}", file.display()))
                })?;
                Some(Secret::new(text.trim_end_matches(['\r', '\n'])))
            }
        };
        Ok(StunConfig {
            listen: self.listen,
            enable: self.enable.unwrap_or(false),
            server: self.server.unwrap_or_default(),
            port: self.port,
            username: self.username.unwrap_or_default(),
            password,
            minimum: self.minimum,
            maximum: self.maximum,
        })
    }
}
