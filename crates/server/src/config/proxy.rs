//! `[proxy]`: CMP over CoAP passed on to servers that speak CMP over HTTP only. The same table makes a proxy of its own
//! (`homefleet cmp proxy`, [`ProxyFile`]).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use homefleet_cmp::asn1::BodyKind;
use homefleet_net::cmp::{Scheme, Target, Url};
use serde::Deserialize;

use super::{Config, ConfigError, Log};

/// Most upstreams, routes and roles, each.
const MAX_ENTRIES: usize = 256;
/// Longest time for an answer, in seconds: CoAP remembers no request for longer (RFC 7252 §4.8.2).
const MAX_TIMEOUT: u64 = 240;
/// The kinds of messages that a requester sends (RFC 9810 §5.1.2).
const KINDS: [BodyKind; 13] = [
    BodyKind::Ir,
    BodyKind::Cr,
    BodyKind::P10cr,
    BodyKind::Popdecr,
    BodyKind::Kur,
    BodyKind::Krr,
    BodyKind::Rr,
    BodyKind::Ccr,
    BodyKind::Nested,
    BodyKind::Genm,
    BodyKind::Error,
    BodyKind::CertConf,
    BodyKind::PollReq,
];

/// The configuration file of a proxy of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyFile {
    /// Version of the file's format: 1.
    pub version: u32,
    /// Logs.
    #[serde(default)]
    pub log: Log,
    /// The proxy.
    pub proxy: Proxy,
}

/// `[proxy]`. Off unless an address is given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proxy {
    /// Address for `coap`.
    pub coap_listen: Option<SocketAddr>,
    /// Address for `coaps`.
    pub coaps_listen: Option<SocketAddr>,
    /// Own certificate chain for `coaps`, PEM, leaf first; a server shows that of `[tls]` when there is none.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// Address for `/healthz`, `/readyz`, `/status` and `/metrics`; for a proxy of its own.
    pub status_listen: Option<SocketAddr>,
    /// Take messages as `application/octet-stream`, as clients from before RFC 9482 send them.
    pub accept_octet_stream: bool,
    /// Longest message, in bytes.
    pub max_message: usize,
    /// Messages under way at a time.
    pub at_once: usize,
    /// Messages of one client under way at a time.
    pub at_once_per_client: usize,
    /// Messages of one client in a second, in the long run.
    pub per_second: u32,
    /// Messages of one client at once.
    pub burst: u32,
    /// Bytes of messages held, of all clients.
    pub held_bytes: usize,
    /// Bytes of messages held of one client.
    pub held_bytes_per_client: usize,
    /// Seconds after which a message is forgotten of which no further block comes.
    pub gather_within: u64,
    /// The servers behind.
    pub upstream: Vec<ProxyUpstream>,
    /// What goes where; the first that fits.
    pub route: Vec<ProxyRoute>,
    /// Who may ask for what; everybody for everything when there is none.
    pub role: Vec<ProxyRole>,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            coap_listen: None,
            coaps_listen: None,
            certificate: None,
            key: None,
            status_listen: None,
            accept_octet_stream: false,
            max_message: 64 * 1024,
            at_once: 1024,
            at_once_per_client: 64,
            per_second: 50,
            burst: 200,
            held_bytes: 16 * 1024 * 1024,
            held_bytes_per_client: 512 * 1024,
            gather_within: 30,
            upstream: Vec::new(),
            route: Vec::new(),
            role: Vec::new(),
        }
    }
}

/// `[[proxy.upstream]]`: a server behind the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyUpstream {
    /// Its name, in routes, logs and metrics.
    pub name: String,
    /// Where it is: `http` or `https`.
    pub url: String,
    /// CAs of its TLS certificate, PEM.
    #[serde(default)]
    pub ca: Vec<PathBuf>,
    /// The certificate that is shown to it, PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// Whether it takes chunked requests.
    #[serde(default)]
    pub chunked: bool,
    /// Bytes of a chunk at most; 0: all of a message in one.
    #[serde(default)]
    pub chunk_size: usize,
    /// Seconds that an answer may take.
    #[serde(default = "timeout")]
    pub timeout: u64,
    /// Connections that are kept open.
    #[serde(default = "connections")]
    pub connections: usize,
    /// Messages under way to it at a time.
    #[serde(default = "at_once")]
    pub at_once: usize,
    /// Attempts to connect, one after the other, that fail before it is left alone; 0 = never.
    #[serde(default = "rest_after")]
    pub rest_after: u64,
    /// Seconds for which it then is.
    #[serde(default = "rest")]
    pub rest: u64,
    /// What is looked at.
    #[serde(default)]
    pub check: ProxyCheck,
    /// With `check = "protection"`: CAs of those that may sign, PEM; empty: everybody whose signature holds.
    #[serde(default)]
    pub signers: Vec<PathBuf>,
    /// With `check = "protection"`: whether messages protected by a MAC pass.
    #[serde(default = "yes")]
    pub macs: bool,
    /// Kinds of messages that may pass; empty: all.
    #[serde(default)]
    pub allow: Vec<String>,
}

/// What is looked at before a message is passed on; each includes those before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyCheck {
    /// Nothing.
    Nothing,
    /// That it is a PKIMessage.
    Shape,
    /// That its header keeps the rules.
    #[default]
    Header,
    /// That its protection holds.
    Protection,
}

/// `[[proxy.route]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyRoute {
    /// The upstream, by name.
    pub upstream: String,
    /// The label in the path; absent: the path without one.
    pub label: Option<String>,
    /// The host asked for; absent: any.
    pub host: Option<String>,
}

/// `[[proxy.role]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyRole {
    /// Its name.
    pub name: String,
    /// CAs of those who have it, PEM; empty: everybody.
    #[serde(default)]
    pub ca: Vec<PathBuf>,
    /// Only over `coaps`.
    #[serde(default)]
    pub coaps_only: bool,
    /// The labels that it may use; empty: all, and none.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Kinds of messages that it may send; empty: all.
    #[serde(default)]
    pub allow: Vec<String>,
}

fn timeout() -> u64 {
    30
}

fn connections() -> usize {
    8
}

fn at_once() -> usize {
    64
}

fn rest_after() -> u64 {
    3
}

fn rest() -> u64 {
    10
}

fn yes() -> bool {
    true
}

impl Proxy {
    /// Whether there is one.
    pub fn is_on(&self) -> bool {
        self.coap_listen.is_some() || self.coaps_listen.is_some()
    }

    /// Checks what the syntax cannot express.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key: &'static str, problem: String| Err(ConfigError::Value { key, problem });
        if !(4096..=1024 * 1024).contains(&self.max_message) {
            let found = self.max_message;
            return wrong(
                "proxy.max_message",
                format!("found {found}, expected 4096 to 1048576"),
            );
        }
        for (key, is_zero) in [
            ("proxy.at_once", self.at_once == 0),
            ("proxy.at_once_per_client", self.at_once_per_client == 0),
            ("proxy.per_second", self.per_second == 0),
            ("proxy.burst", self.burst == 0),
            ("proxy.gather_within", self.gather_within == 0),
        ] {
            if is_zero {
                return wrong(key, "found 0, expected at least 1".to_owned());
            }
        }
        for (key, found) in [
            ("proxy.held_bytes", self.held_bytes),
            ("proxy.held_bytes_per_client", self.held_bytes_per_client),
        ] {
            if found < self.max_message {
                let problem = format!("found {found}, expected at least proxy.max_message");
                return wrong(key, problem);
            }
        }
        if self.certificate.is_some() != self.key.is_some() {
            let problem = "a certificate needs its key, and the other way round".to_owned();
            return wrong("proxy.certificate", problem);
        }
        for (key, count) in [
            ("proxy.upstream", self.upstream.len()),
            ("proxy.route", self.route.len()),
            ("proxy.role", self.role.len()),
        ] {
            if count > MAX_ENTRIES {
                let problem = format!("found {count}, expected at most {MAX_ENTRIES}");
                return wrong(key, problem);
            }
        }
        for (place, upstream) in self.upstream.iter().enumerate() {
            upstream.check()?;
            let before = self.upstream.iter().take(place);
            if before.into_iter().any(|other| other.name == upstream.name) {
                let problem = format!("`{}` stands there twice", upstream.name);
                return wrong("proxy.upstream[].name", problem);
            }
        }
        for route in &self.route {
            if !self.upstream.iter().any(|it| it.name == route.upstream) {
                let problem = format!("there is no [[proxy.upstream]] `{}`", route.upstream);
                return wrong("proxy.route[].upstream", problem);
            }
            label("proxy.route[].label", route.label.as_ref())?;
        }
        for role in &self.role {
            kinds("proxy.role[].allow", &role.allow)?;
            for one in &role.labels {
                label("proxy.role[].labels", Some(one))?;
            }
        }
        if self.is_on() && self.route.is_empty() {
            let problem = "nothing leads anywhere: a proxy needs at least one".to_owned();
            return wrong("proxy.route", problem);
        }
        Ok(())
    }
}

impl ProxyUpstream {
    /// One with everything else by default.
    pub fn new(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            ca: Vec::new(),
            certificate: None,
            key: None,
            chunked: false,
            chunk_size: 0,
            timeout: timeout(),
            connections: connections(),
            at_once: at_once(),
            rest_after: rest_after(),
            rest: rest(),
            check: ProxyCheck::default(),
            signers: Vec::new(),
            macs: yes(),
            allow: Vec::new(),
        }
    }

    /// Where it is.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn url(&self) -> Result<Url, String> {
        let url: Url = self
            .url
            .parse()
            .map_err(|error: homefleet_net::cmp::UrlError| error.to_string())?;
        match url.scheme {
            Scheme::Http | Scheme::Https => Ok(url),
            _ => Err(format!(
                "`{}` is neither http:// nor https://: a device would ask there itself",
                self.url
            )),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key: &'static str, problem: String| Err(ConfigError::Value { key, problem });
        let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(word) {
            let problem = format!("`{}` is not 1 to 64 letters, digits, - and _", self.name);
            return wrong("proxy.upstream[].name", problem);
        }
        let url = match self.url() {
            Ok(url) => url,
            Err(problem) => return wrong("proxy.upstream[].url", problem),
        };
        if url.scheme == Scheme::Https && self.ca.is_empty() {
            let problem = format!("`{}`: nobody is trusted to be there", self.name);
            return wrong("proxy.upstream[].ca", problem);
        }
        if self.certificate.is_some() != self.key.is_some() {
            let problem = "a certificate needs its key, and the other way round".to_owned();
            return wrong("proxy.upstream[].certificate", problem);
        }
        for (key, found, most) in [
            ("proxy.upstream[].timeout", self.timeout, MAX_TIMEOUT),
            ("proxy.upstream[].at_once", self.at_once as u64, 65_536),
        ] {
            if !(1..=most).contains(&found) {
                return wrong(key, format!("found {found}, expected 1 to {most}"));
            }
        }
        kinds("proxy.upstream[].allow", &self.allow)?;
        Ok(())
    }
}

impl ProxyFile {
    /// Reads a file, applies the process's environment and checks the result.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read {
            path: path.display().to_string(),
            problem: error.to_string(),
        })?;
        let origin = path.display().to_string();
        Self::parse(&text, &origin, |name| std::env::var(name).ok())
    }

    /// Reads and checks a text; `variable` looks up environment variables. `origin` names the text in errors.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(
        text: &str,
        origin: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let file: Self = super::read(text, origin, is_of_proxy, variable)?;
        if file.version != 1 {
            return Err(ConfigError::Value {
                key: "version",
                problem: format!("found {}, expected 1", file.version),
            });
        }
        file.proxy.check()?;
        if !file.proxy.is_on() {
            return Err(ConfigError::Value {
                key: "proxy.coaps_listen",
                problem: "neither this nor proxy.coap_listen says where devices ask".to_owned(),
            });
        }
        if file.proxy.coaps_listen.is_some() && file.proxy.certificate.is_none() {
            return Err(ConfigError::Value {
                key: "proxy.certificate",
                problem: "proxy.coaps_listen needs a certificate".to_owned(),
            });
        }
        Ok(file)
    }
}

impl Config {
    /// Checks `[proxy]`.
    pub(super) fn check_proxy(&self) -> Result<(), ConfigError> {
        self.proxy.check()
    }
}

/// Whether a key belongs into the file of a proxy of its own.
pub(super) fn is_of_proxy(path: &str) -> bool {
    path == "version" || path.starts_with("log.") || path.starts_with("proxy.")
}

/// Kinds of messages by the names that RFC 9810 has for them; `None`: all.
pub(crate) fn kinds(
    key: &'static str,
    names: &[String],
) -> Result<Option<Vec<BodyKind>>, ConfigError> {
    let kind = |name: &String| {
        let known = KINDS.iter().copied().find(|kind| kind.to_string() == *name);
        known.ok_or_else(|| ConfigError::Value {
            key,
            problem: format!(
                "found `{name}`, expected some of {}",
                KINDS.map(|kind| kind.to_string()).join(", ")
            ),
        })
    };
    let found: Result<Vec<BodyKind>, _> = names.iter().map(kind).collect();
    found.map(|found| (!found.is_empty()).then_some(found))
}

/// A label that a path can have.
pub(super) fn label(key: &'static str, label: Option<&String>) -> Result<(), ConfigError> {
    let Some(label) = label else { return Ok(()) };
    let target = Target {
        label: Some(label.clone()),
        operation: None,
    };
    match Target::parse(&target.segments(true)) {
        Ok(read) if read == target => Ok(()),
        _ => Err(ConfigError::Value {
            key,
            problem: format!("`{label}` is not 1 to 255 bytes"),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::*;

    const GOOD: &str = "version = 1\n[proxy]\ncoap_listen = \"127.0.0.1:0\"\n\
        [[proxy.upstream]]\nname = \"ca\"\nurl = \"http://ca.example/cmp\"\n#up\n\
        [[proxy.route]]\nupstream = \"ca\"\n#route\n[[proxy.role]]\nname = \"all\"\n#role\n";

    fn parse(mark: &str, line: &str) -> Result<ProxyFile, ConfigError> {
        let text = GOOD.replacen(mark, &format!("{line}\n{mark}"), 1);
        ProxyFile::parse(&text, "proxy.toml", |_| None)
    }

    #[test]
    fn a_proxy_has_a_file_of_its_own_with_defaults() {
        let file = ProxyFile::parse(GOOD, "proxy.toml", |_| None).unwrap();
        let upstream = &file.proxy.upstream[0];
        assert_eq!(upstream, &ProxyUpstream::new("ca", "http://ca.example/cmp"));
        assert_eq!(upstream.check, ProxyCheck::Header);
        let given = |name: &str| (name == "HOMEFLEET_PROXY_UPSTREAM_0_TIMEOUT").then(|| "7".into());
        let file = ProxyFile::parse(GOOD, "proxy.toml", given).unwrap();
        assert_eq!(file.proxy.upstream[0].timeout, 7);
    }

    #[test]
    fn the_template_of_a_proxy_is_its_file() {
        let text = proxy_template();
        assert!(text.contains("[proxy]") && !text.contains("endpoint_id"));
        let all: Vec<&str> = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') => rest,
                _ => line,
            })
            .collect();
        let file = ProxyFile::parse(&all.join("\n"), "template", |_| None).unwrap();
        assert_eq!(file.proxy.at_once, Proxy::default().at_once);
        assert_eq!(file.proxy.held_bytes, Proxy::default().held_bytes);
        let upstream = &file.proxy.upstream[0];
        let plain = ProxyUpstream::new("ca", "");
        assert_eq!(
            (upstream.timeout, upstream.rest, upstream.connections),
            (plain.timeout, plain.rest, plain.connections)
        );
        assert_eq!((upstream.check, upstream.at_once), (plain.check, 64));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        for (mark, line, expected) in [
            ("#up", "timeout = 0", "proxy.upstream[].timeout"),
            ("#up", "at_once = 0", "proxy.upstream[].at_once"),
            ("#up", "allow = [\"ip\"]", "proxy.upstream[].allow"),
            ("#up", "certificate = \"a\"", "proxy.upstream[].certificate"),
            ("#route", "label = \"\"", "proxy.route[].label"),
            ("#role", "allow = [\"all\"]", "proxy.role[].allow"),
            ("#role", "labels = [\"\"]", "proxy.role[].labels"),
            ("coap_listen", "at_once = 0", "proxy.at_once"),
            ("coap_listen", "max_message = 1", "proxy.max_message"),
            ("coap_listen", "held_bytes = 5000", "proxy.held_bytes"),
            ("coap_listen", "key = \"k\"", "proxy.certificate"),
            (
                "coap_listen",
                "coaps_listen = \"127.0.0.1:0\"",
                "proxy.certificate",
            ),
        ] {
            match parse(mark, line) {
                Err(ConfigError::Value { key, .. }) => assert_eq!(key, expected, "{line}"),
                other => panic!("{line}: {other:?}"),
            }
        }
        for (from, to, expected) in [
            ("url = \"http", "url = \"coap", "proxy.upstream[].url"),
            ("url = \"http", "url = \"https", "proxy.upstream[].ca"),
            ("\"ca\"\nurl", "\"c a\"\nurl", "proxy.upstream[].name"),
            (
                "upstream = \"ca\"",
                "upstream = \"x\"",
                "proxy.route[].upstream",
            ),
            ("[[proxy.route]]\nupstream = \"ca\"\n", "", "proxy.route"),
            ("coap_listen = \"127.0.0.1:0\"", "", "proxy.coaps_listen"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            match ProxyFile::parse(&text, "proxy.toml", |_| None) {
                Err(ConfigError::Value { key, .. }) => assert_eq!(key, expected, "{to}"),
                other => panic!("{to}: {other:?}"),
            }
        }
        let twice = "[[proxy.upstream]]\nname = \"ca\"\nurl = \"http://b\"";
        let error = parse("[[proxy.route]]", twice).unwrap_err();
        assert!(error.to_string().contains("twice"), "{error}");
        let error = parse("#up", "unknown = 1").unwrap_err();
        assert!(error.to_string().starts_with("proxy.toml:7:1"), "{error}");
    }
}
