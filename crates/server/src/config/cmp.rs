//! `[cmp]`: certificates for devices over the Certificate Management Protocol.

use std::net::SocketAddr;
use std::path::PathBuf;

use homefleet_net::cmp::Url;
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
    /// Observers of announcements at a time; further ones are answered once. 0: nobody is kept.
    pub observers: usize,
    /// Seconds within which observers register again.
    pub announced_again: u64,
    /// The longest list of revoked certificates that is announced, in bytes. 0: none is.
    pub announced_list: usize,
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
    /// CAs elsewhere that this server is an RA of.
    pub upstream: Vec<CmpUpstream>,
}

/// `[[cmp.upstream]]`: a CA elsewhere that this server is an RA of.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CmpUpstream {
    /// The label that it is asked under.
    pub label: String,
    /// Where it is.
    pub url: String,
    /// CAs of its TLS certificate, PEM.
    #[serde(default)]
    pub ca: Vec<PathBuf>,
    /// CAs of who protects its CMP messages, PEM.
    #[serde(default)]
    pub trust: Vec<PathBuf>,
    /// Our certificate towards it, PEM; the CA's own for CMP without.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// Instead: a secret that we share with it, by its reference.
    pub reference: Option<String>,
    /// The file with the secret.
    pub secret_file: Option<PathBuf>,
    /// Add our protection to the requester's, rather than replace it.
    #[serde(default)]
    pub nest: bool,
    /// CAs of certificates that devices ask with, besides ours and those of manufacturers, PEM.
    #[serde(default)]
    pub devices: Vec<PathBuf>,
    /// Kinds of messages that pass; empty: all.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Kinds that an operator approves: ir, cr, kur, p10cr.
    #[serde(default)]
    pub approve: Vec<String>,
    /// Whether requests wait here while it cannot be reached.
    #[serde(default = "yes")]
    pub wait: bool,
    /// Whether it takes chunked requests.
    #[serde(default)]
    pub chunked: bool,
    /// Seconds that an answer may take.
    #[serde(default = "timeout")]
    pub timeout: u64,
}

fn yes() -> bool {
    true
}

fn timeout() -> u64 {
    30
}

impl CmpUpstream {
    /// One with everything else by default.
    pub fn new(label: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            url: url.into(),
            ca: Vec::new(),
            trust: Vec::new(),
            certificate: None,
            key: None,
            reference: None,
            secret_file: None,
            nest: false,
            devices: Vec::new(),
            allow: Vec::new(),
            approve: Vec::new(),
            wait: yes(),
            chunked: false,
            timeout: timeout(),
        }
    }

    /// Where it is.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn url(&self) -> Result<Url, String> {
        let url: Result<Url, homefleet_net::cmp::UrlError> = self.url.parse();
        url.map_err(|error| error.to_string())
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key: &'static str, problem: String| Err(ConfigError::Value { key, problem });
        super::proxy::label("cmp.upstream[].label", Some(&self.label))?;
        let url = match self.url() {
            Ok(url) => url,
            Err(problem) => return wrong("cmp.upstream[].url", problem),
        };
        if url.scheme.is_secure() && self.ca.is_empty() {
            let problem = format!("`{}`: nobody is trusted to be there", self.label);
            return wrong("cmp.upstream[].ca", problem);
        }
        for (key, one, other) in [
            (
                "cmp.upstream[].certificate",
                self.certificate.is_some(),
                self.key.is_some(),
            ),
            (
                "cmp.upstream[].reference",
                self.reference.is_some(),
                self.secret_file.is_some(),
            ),
        ] {
            if one != other {
                let problem = "one of the two is missing".to_owned();
                return wrong(key, problem);
            }
        }
        if self.certificate.is_some() && self.reference.is_some() {
            let problem = "there is a certificate as well; one protects".to_owned();
            return wrong("cmp.upstream[].reference", problem);
        }
        if !self.nest && self.trust.is_empty() && self.reference.is_none() {
            let problem = format!("`{}`: none of its answers could be believed", self.label);
            return wrong("cmp.upstream[].trust", problem);
        }
        if !(1..=240).contains(&self.timeout) {
            let problem = format!("found {}, expected 1 to 240", self.timeout);
            return wrong("cmp.upstream[].timeout", problem);
        }
        super::kinds("cmp.upstream[].allow", &self.allow)?;
        let asks = ["ir", "cr", "kur", "p10cr"];
        match self.approve.iter().find(|it| !asks.contains(&it.as_str())) {
            Some(other) => wrong(
                "cmp.upstream[].approve",
                format!("found `{other}`, expected some of {}", asks.join(", ")),
            ),
            None => Ok(()),
        }
    }
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
            observers: 65_536,
            announced_again: 3600,
            announced_list: 16 * 1024,
            transactions: 65_536,
            check_after: 30,
            poll_within: 86_400,
            confirm_within: 300,
            weak_macs: false,
            old_polling: false,
            bare_keys: false,
            revoke_without_reason: false,
            upstream: Vec::new(),
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
            ("cmp.announced_again", cmp.announced_again == 0),
            ("cmp.transactions", cmp.transactions == 0),
            ("cmp.check_after", cmp.check_after == 0),
            ("cmp.poll_within", cmp.poll_within == 0),
            ("cmp.confirm_within", cmp.confirm_within == 0),
        ] {
            if is_zero {
                return wrong(key, "found 0, expected at least 1".to_owned());
            }
        }
        for (place, upstream) in cmp.upstream.iter().enumerate() {
            upstream.check()?;
            let label = &upstream.label;
            let before = cmp.upstream.iter().take(place);
            let profiles = self.pki.profile.iter();
            if before.into_iter().any(|other| other.label == *label)
                || profiles.into_iter().any(|profile| profile.name == *label)
            {
                let problem = format!("`{label}` is the name of a profile, or stands there twice");
                return wrong("cmp.upstream[].label", problem);
            }
        }
        if !cmp.upstream.is_empty() && !self.pki.enabled {
            let problem =
                "an RA needs pki.enabled = true: it knows whose secrets and certificates are good"
                    .to_owned();
            return wrong("cmp.upstream", problem);
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

    #[test]
    fn a_ca_elsewhere_that_makes_no_sense_is_refused_by_its_key() {
        let good = CmpUpstream {
            trust: vec!["ca.pem".into()],
            ..CmpUpstream::new("ejbca", "http://ca.example/cmp")
        };
        let check = |upstream: CmpUpstream, enabled: bool| {
            let mut config = Config::parse(&template(), "test", |_| None).unwrap();
            config.pki.enabled = enabled;
            config.cmp.upstream = vec![upstream];
            config.check_cmp()
        };
        assert_eq!(check(good.clone(), true), Ok(()));
        let wrong = |change: fn(&mut CmpUpstream)| {
            let mut upstream = good.clone();
            change(&mut upstream);
            match check(upstream, true) {
                Err(ConfigError::Value { key, .. }) => key,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(wrong(|it| it.label.clear()), "cmp.upstream[].label");
        assert_eq!(wrong(|it| it.url.clear()), "cmp.upstream[].url");
        assert_eq!(
            wrong(|it| it.url = "https://ca.example".into()),
            "cmp.upstream[].ca"
        );
        assert_eq!(
            wrong(|it| it.key = Some("k".into())),
            "cmp.upstream[].certificate"
        );
        assert_eq!(
            wrong(|it| it.reference = Some("r".into())),
            "cmp.upstream[].reference"
        );
        assert_eq!(wrong(|it| it.trust.clear()), "cmp.upstream[].trust");
        assert_eq!(wrong(|it| it.timeout = 0), "cmp.upstream[].timeout");
        assert_eq!(
            wrong(|it| it.allow = vec!["x".into()]),
            "cmp.upstream[].allow"
        );
        assert_eq!(
            wrong(|it| it.approve = vec!["genm".into()]),
            "cmp.upstream[].approve"
        );
        let off = check(good.clone(), false);
        assert!(matches!(
            off,
            Err(ConfigError::Value {
                key: "cmp.upstream",
                ..
            })
        ));
    }
}
