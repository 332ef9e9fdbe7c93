//! `[cwmp]`: the ACS, for devices that speak TR-069.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{ConfigError, invalid, keys};
use crate::{
    cwmp::{CwmpConfig, Root},
    transport::Secret,
};

/// `[cwmp]` as written.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CwmpFile {
    pub(crate) enable: Option<bool>,
    pub(crate) url: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "keys::parsed")]
    pub(crate) root: Option<Root>,
    pub(crate) periodic: Option<u32>,
    pub(crate) connection_request: Option<SocketAddr>,
    pub(crate) connection_request_host: Option<String>,
    pub(crate) dhcp: Option<PathBuf>,
    pub(crate) install: Option<PathBuf>,
    pub(crate) log_file: Option<PathBuf>,
}

impl CwmpFile {
    pub(super) fn finish(self, base: &Path) -> Result<CwmpConfig, ConfigError> {
        let url = self.url.unwrap_or_default();
        let enabled = self
            .enable
            .unwrap_or(!url.is_empty() || self.dhcp.is_some());
        if !enabled {
            return Ok(CwmpConfig::default());
        }
        if !(url.is_empty() || url.starts_with("http://") || url.starts_with("https://")) {
            return Err(invalid(
                "cwmp.url",
                format!("`{url}` is not the http:// or https:// URL of an ACS"),
            ));
        }
        let password = match (self.password, self.password_file) {
            (Some(password), _) => Some(Secret::new(password)),
            (None, Some(path)) => {
                let path = base.join(path);
                let text = std::fs::read_to_string(&path)
                    .map_err(|source| ConfigError::Read { path, source })?;
                Some(Secret::new(text.trim_end_matches(['\r', '\n'])))
            }
            (None, None) => None,
        };
        if password.is_some() && self.username.is_none() {
            return Err(super::missing("cwmp.username"));
        }
        let file = |path: Option<PathBuf>| path.map(|path| base.join(path));
        Ok(CwmpConfig {
            enabled,
            url,
            username: self.username.unwrap_or_default(),
            password,
            root: self.root.unwrap_or_default(),
            periodic: self.periodic,
            connection_request: self.connection_request,
            connection_request_host: self.connection_request_host.filter(|host| !host.is_empty()),
            dhcp: file(self.dhcp),
            install: file(self.install),
            log_file: file(self.log_file),
        })
    }
}
