//! `[stun]`: reaching devices behind address translation.

use std::net::SocketAddr;

use serde::Deserialize;

use super::{Config, ConfigError};

/// `[stun]` (TR-111 Part 2).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stun {
    /// Address of the STUN server, from which UDP Connection Requests leave; absent = none.
    pub listen: Option<SocketAddr>,
    /// The server's other address and port, for CHANGE-REQUEST; different from `listen` in both.
    pub other: Option<SocketAddr>,
    /// `host` or `host:port` that devices are told; absent = they use the ACS's host and the port of `listen`.
    pub advertise: Option<String>,
    /// Whether devices are set up for it.
    pub provision: bool,
    /// How bindings are learned.
    pub learn: Learn,
    /// Which Binding Requests must prove who sent them.
    pub authenticate: Authenticate,
    /// Shortest period between the requests that keep a binding alive, in seconds.
    pub minimum_period: u32,
    /// Longest, in seconds; -1 = none.
    pub maximum_period: i64,
    /// Shortest time between notifications of a device's UDPConnectionRequestAddress, in seconds.
    pub notification_limit: u32,
    /// Identical copies of a UDP Connection Request.
    pub copies: u32,
    /// Milliseconds between them.
    pub spacing: u64,
    /// Seconds that a device may take to come after them.
    pub wait: u64,
    /// Most bindings that are held.
    pub bindings: usize,
}

/// How bindings are learned (§2.2.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Learn {
    /// By both; the newest counts.
    Both,
    /// By notifications of UDPConnectionRequestAddress.
    Notification,
    /// By what devices tell the STUN server.
    Stun,
}

/// Which Binding Requests must prove who sent them (§2.2.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Authenticate {
    /// Those that say that a binding changed.
    Changes,
    /// Every one that says on which binding a device listens.
    Listening,
}

impl Default for Stun {
    fn default() -> Self {
        Self {
            listen: None,
            other: None,
            advertise: None,
            provision: true,
            learn: Learn::Both,
            authenticate: Authenticate::Changes,
            minimum_period: 30,
            maximum_period: 300,
            notification_limit: 60,
            copies: 3,
            spacing: 100,
            wait: 10,
            bindings: 1_000_000,
        }
    }
}

impl Stun {
    /// What devices are told: a host, empty for the ACS's own, and a port. `bound` is the port that is listened on.
    pub(crate) fn told(&self, bound: u16) -> (String, u16) {
        let Some(text) = &self.advertise else {
            return (String::new(), bound);
        };
        match split(text) {
            Some((host, port)) => (host, port.unwrap_or(bound)),
            None => (text.clone(), bound),
        }
    }
}

/// Host and port of `host`, `host:port`, `[address]` or `[address]:port`; `None` when it is none of these.
pub(crate) fn split(text: &str) -> Option<(String, Option<u16>)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest)
        }
        None => match text.find(':') {
            Some(colon) => text.split_at(colon),
            None => (text, ""),
        },
    };
    let port = match rest.strip_prefix(':') {
        Some(port) if port.bytes().all(|digit| digit.is_ascii_digit()) => Some(port.parse().ok()?),
        Some(_) => return None,
        None if rest.is_empty() => None,
        None => return None,
    };
    let named = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
    let good = !host.is_empty() && host.len() <= 253 && host.chars().all(named) && port != Some(0);
    good.then(|| (host.to_owned(), port))
}

impl Config {
    /// Checks `[stun]`.
    pub(super) fn check_stun(&self) -> Result<(), ConfigError> {
        let stun = &self.stun;
        let wrong = |key: &'static str, problem: &str| {
            Err(ConfigError::Value {
                key,
                problem: problem.to_owned(),
            })
        };
        let Some(listen) = stun.listen else {
            return Ok(());
        };
        if self.acs.listen.is_none() {
            return wrong(
                "stun.listen",
                "acs.listen is not set, and nobody would come",
            );
        }
        if let Some(other) = stun.other
            && (other.ip() == listen.ip()
                || other.port() == listen.port()
                || other.is_ipv4() != listen.is_ipv4()
                || listen.ip().is_unspecified()
                || other.ip().is_unspecified())
        {
            return wrong(
                "stun.other",
                "expected an address that differs from stun.listen in host and port; both are to be named",
            );
        }
        if let Some(text) = &stun.advertise
            && split(text).is_none()
        {
            return wrong("stun.advertise", "expected a host, or host:port");
        }
        let longest = stun.maximum_period;
        if longest != -1 && longest < i64::from(stun.minimum_period).max(1) {
            return wrong(
                "stun.maximum_period",
                "expected -1, or at least stun.minimum_period",
            );
        }
        if !(1..=16).contains(&stun.copies) {
            return wrong("stun.copies", "expected 1 to 16");
        }
        if !(10..=10_000).contains(&stun.spacing) {
            return wrong("stun.spacing", "expected 10 to 10000 milliseconds");
        }
        if !(1..=300).contains(&stun.wait) {
            return wrong("stun.wait", "expected 1 to 300 seconds");
        }
        if stun.bindings == 0 {
            return wrong("stun.bindings", "found 0, expected at least 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_come_with_and_without_ports() {
        let of = |text: &str| split(text).map(|(host, port)| format!("{host} {port:?}"));
        assert_eq!(of("a.example"), Some("a.example None".to_owned()));
        assert_eq!(of("a.example:80"), Some("a.example Some(80)".to_owned()));
        assert_eq!(of("192.0.2.1:7"), Some("192.0.2.1 Some(7)".to_owned()));
        assert_eq!(of("[2001:db8::1]"), Some("2001:db8::1 None".to_owned()));
        assert_eq!(
            of("[2001:db8::1]:9"),
            Some("2001:db8::1 Some(9)".to_owned())
        );
    }

    #[test]
    fn what_is_no_host_is_none() {
        for text in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:b",
            "a:+1",
            "a b",
            "a/b",
            "2001:db8::1",
            "[a]:1",
            "[2001:db8::1",
            "[2001:db8::1]x",
            "user@host",
        ] {
            assert_eq!(split(text), None, "{text}");
        }
    }
}
