//! `[acs]`: devices over TR-069.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Config, ConfigError};
use crate::acs::reach::Reach;

/// `[acs]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Acs {
    /// Address for CWMP over HTTP; absent = none.
    pub listen: Option<SocketAddr>,
    /// Address for CWMP over HTTPS, with the certificate of `[tls]`; absent = none.
    pub tls_listen: Option<SocketAddr>,
    /// Name that devices log in with before they have their own; needs `password_file`.
    pub username: Option<String>,
    /// File with the password to it, readable by its owner only.
    pub password_file: Option<PathBuf>,
    /// Whether each device is given a name and a password of its own to log in with.
    pub device_logins: bool,
    /// What happens to a device that is not known.
    pub unknown: UnknownCpes,
    /// Networks that Connection Requests may go to; none = only the address that the device's session came from.
    pub call_networks: Vec<String>,
    /// Whether a device that keeps no cookies is known by its connection.
    pub cookieless: bool,
    /// Whether devices are asked to hold their own requests until the server has no more.
    pub hold_requests: bool,
    /// Where a browser is sent that comes by way of a device's Kicked; absent = nowhere.
    pub kicked_url: Option<String>,
    /// Directory with files for devices, and what they send; absent = no files.
    pub files: Option<PathBuf>,
    /// What URLs of files begin with; absent = as the device found the ACS.
    pub files_url: Option<String>,
    /// Longest file that a device may send, in bytes.
    pub max_upload: u64,
    /// Most objects of a device's data model that are listed in one session, when nothing else is to be done; 0 = none.
    pub discover: u32,
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
            tls_listen: None,
            username: None,
            password_file: None,
            device_logins: true,
            unknown: UnknownCpes::Quarantine,
            call_networks: Vec::new(),
            cookieless: false,
            hold_requests: false,
            kicked_url: None,
            files: None,
            files_url: None,
            max_upload: 64 << 20,
            discover: 0,
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
        if let Err(network) = Reach::parse(&acs.call_networks) {
            return wrong("acs.call_networks", &not_a_network(&network));
        }
        for (key, url) in [
            ("acs.files_url", &acs.files_url),
            ("acs.kicked_url", &acs.kicked_url),
        ] {
            let is_url = |url: &str| url.starts_with("http://") || url.starts_with("https://");
            if url.as_deref().is_some_and(|url| !is_url(url)) {
                return wrong(key, "expected a URL that begins with http:// or https://");
            }
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

/// What is told of a text that is no network.
pub(crate) fn not_a_network(text: &str) -> String {
    format!("found `{text}`, expected an address or a network such as 10.0.0.0/8")
}
