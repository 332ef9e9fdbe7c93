//! `[cmp]`: certificates for devices over the Certificate Management Protocol.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Config, ConfigError};

/// `[cmp]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cmp {
    /// Address for CMP over HTTP, and for CRLs and OCSP; absent = none.
    pub http_listen: Option<SocketAddr>,
    /// The same over HTTPS; absent = none.
    pub https_listen: Option<SocketAddr>,
    /// Address for CMP over CoAP, and for the same lists and OCSP; absent = none.
    pub coap_listen: Option<SocketAddr>,
    /// The same over DTLS; absent = none.
    pub coaps_listen: Option<SocketAddr>,
    /// Take messages as `application/octet-stream` over CoAP, as clients from before RFC 9482 send them.
    pub accept_octet_stream: bool,
    /// PEM files with the CAs of manufacturers whose devices may ask for a first certificate.
    pub manufacturers: Vec<PathBuf>,
    /// PEM files with CAs of registration authorities that are not ours.
    pub registration_authorities: Vec<PathBuf>,
    /// Longest message, in bytes.
    pub max_message: usize,
    /// Messages worked on at a time.
    pub at_once: usize,
    /// Messages of one source in a second, in the long run.
    pub per_second: u32,
    /// Messages of one source at once.
    pub burst: u32,
    /// Most open transactions.
    pub transactions: usize,
    /// Seconds after which somebody who waits for a decision shall ask again.
    pub check_after: u64,
    /// Seconds that somebody who waits may be silent.
    pub poll_within: u64,
    /// Seconds within which a certificate has to be confirmed.
    pub confirm_within: u64,
    /// Accept MACs with SHA-1 and from 100 iterations on.
    pub weak_macs: bool,
    /// Answer a delayed request with the nonce of the last polling request.
    pub old_polling: bool,
    /// Deliver keys that the CA made without the package around them, as OpenSSL 3.5 reads them.
    pub bare_keys: bool,
    /// Take requests for revocation that say no reason.
    pub revoke_without_reason: bool,
}

impl Default for Cmp {
    fn default() -> Self {
        Self {
            http_listen: None,
            https_listen: None,
            coap_listen: None,
            coaps_listen: None,
            accept_octet_stream: false,
            manufacturers: Vec::new(),
            registration_authorities: Vec::new(),
            max_message: 64 * 1024,
            at_once: 1024,
            per_second: 50,
            burst: 200,
            transactions: 65_536,
            check_after: 30,
            poll_within: 86_400,
            confirm_within: 300,
            weak_macs: false,
            old_polling: false,
            bare_keys: false,
            revoke_without_reason: false,
        }
    }
}

impl Config {
    /// Checks `[cmp]`.
    pub(super) fn check_cmp(&self) -> Result<(), ConfigError> {
        let cmp = &self.cmp;
        let wrong = |key: &'static str, problem: String| Err(ConfigError::Value { key, problem });
        if !(4096..=1024 * 1024).contains(&cmp.max_message) {
            return wrong(
                "cmp.max_message",
                format!("found {}, expected 4096 to 1048576", cmp.max_message),
            );
        }
        for (key, is_zero) in [
            ("cmp.at_once", cmp.at_once == 0),
            ("cmp.per_second", cmp.per_second == 0),
            ("cmp.burst", cmp.burst == 0),
            ("cmp.transactions", cmp.transactions == 0),
            ("cmp.check_after", cmp.check_after == 0),
            ("cmp.poll_within", cmp.poll_within == 0),
            ("cmp.confirm_within", cmp.confirm_within == 0),
        ] {
            if is_zero {
                return wrong(key, "found 0, expected at least 1".to_owned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::*;

    #[test]
    fn bounds_of_nothing_are_refused() {
        let parse = |line: &str| {
            let text = template().replacen("[cmp]\n", &format!("[cmp]\n{line}\n"), 1);
            Config::parse(&text, "test", |_| None).unwrap().check()
        };
        assert_eq!(parse("at_once = 1"), Ok(()));
        for (line, key) in [
            ("at_once = 0", "cmp.at_once"),
            ("burst = 0", "cmp.burst"),
            ("confirm_within = 0", "cmp.confirm_within"),
            ("max_message = 100", "cmp.max_message"),
        ] {
            match parse(line) {
                Err(ConfigError::Value { key: found, .. }) => assert_eq!(found, key),
                other => panic!("{line}: {other:?}"),
            }
        }
    }
}
