//! `[pki]`: the CA, and `[[pki.profile]]`: the kinds of certificates that it issues.

use std::path::PathBuf;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Config, ConfigError};
use crate::pki::{PkiConfig, Profile};

/// Most profiles.
const MAX_PROFILES: usize = 64;
/// Environment variable with the passphrase of the CA's key files.
pub const PASSPHRASE_VARIABLE: &str = "HOMEFLEET_PKI_PASSPHRASE";
/// Environment variable with the PIN of the PKCS#11 token.
pub const PIN_VARIABLE: &str = "HOMEFLEET_PKI_PIN";

/// `[pki]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pki {
    /// The server is a CA.
    pub enabled: bool,
    /// Directory of the CA's keys and certificates; absent = `pki` below the data directory.
    pub directory: Option<PathBuf>,
    /// File with the passphrase of the key files.
    pub passphrase_file: Option<PathBuf>,
    /// File with the PIN of the PKCS#11 token.
    pub pin_file: Option<PathBuf>,
    /// Where the list of revoked certificates is, as certificates say.
    pub crl_urls: Vec<String>,
    /// Where the OCSP responder is, as certificates say.
    pub ocsp_urls: Vec<String>,
    /// Where the issuing CA's certificate is, as certificates say.
    pub ca_issuers_urls: Vec<String>,
    /// Seconds for which a list of revoked certificates is good.
    pub crl_lifetime: u64,
    /// Seconds after which a list is made anew though nothing changed.
    pub crl_refresh: u64,
    /// Seconds for which an OCSP response is good.
    pub ocsp_lifetime: u64,
    /// Most enrolment secrets.
    pub max_secrets: u64,
    /// Most requests that wait for an operator.
    pub max_approvals: u64,
    /// Seconds that a request waits for an operator.
    pub approval_lifetime: u64,
    /// The profile of requests that name none.
    pub default_profile: String,
    /// The kinds of certificates; `device` is there unless one here has its name.
    pub profile: Vec<PkiProfile>,
}

impl Default for Pki {
    fn default() -> Self {
        Self {
            enabled: false,
            directory: None,
            passphrase_file: None,
            pin_file: None,
            crl_urls: Vec::new(),
            ocsp_urls: Vec::new(),
            ca_issuers_urls: Vec::new(),
            crl_lifetime: 7 * 86_400,
            crl_refresh: 86_400,
            ocsp_lifetime: 3600,
            max_secrets: 1_000_000,
            max_approvals: 10_000,
            approval_lifetime: 7 * 86_400,
            default_profile: "device".to_owned(),
            profile: Vec::new(),
        }
    }
}

/// `[[pki.profile]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PkiProfile {
    /// Name: the label in the path of a CMP address, or `certProfile`.
    pub name: String,
    /// Kinds of keys accepted: `p256`, `p384`, `ed25519`, `rsa`.
    #[serde(default = "PkiProfile::default_keys")]
    pub keys: Vec<String>,
    /// Least bits of an RSA key.
    #[serde(default = "PkiProfile::default_rsa_bits")]
    pub min_rsa_bits: usize,
    /// Seconds of validity.
    #[serde(default = "PkiProfile::default_lifetime")]
    pub lifetime: u64,
    /// Seconds by which validity begins before the time of issue, for devices whose clocks are late.
    #[serde(default = "PkiProfile::default_backdate")]
    pub backdate: u64,
    /// Subject, with variables; absent = as asked for.
    #[serde(default)]
    pub subject: Option<String>,
    /// Names in subjectAltName, with variables.
    #[serde(default)]
    pub san: Vec<String>,
    /// What a request may choose: `subject`, `device` (its own Endpoint ID), `lifetime` (a shorter one), `dns`, `email`, `ip`, `uri`.
    #[serde(default)]
    pub from_request: Vec<String>,
    /// Refuse a request that wants something else than it gets, instead of telling it.
    #[serde(default)]
    pub strict: bool,
    /// Key usage.
    #[serde(default = "PkiProfile::default_key_usage")]
    pub key_usage: Vec<String>,
    /// Extended key usage: `server_auth`, `client_auth` and the like, or object identifiers.
    #[serde(default = "PkiProfile::default_extended_key_usage")]
    pub extended_key_usage: Vec<String>,
    /// Who may ask: `secret`, `manufacturer`, `approval`, `certificate`, `renewal`, `operator`.
    #[serde(default = "PkiProfile::default_who")]
    pub who: Vec<String>,
    /// Seconds after its end in which a certificate can still be renewed.
    #[serde(default)]
    pub renewal_grace: u64,
    /// The CA may make the private key, for devices that cannot.
    #[serde(default)]
    pub central_keys: bool,
    /// A certificate needs no confirmation when the request asks for that.
    #[serde(default)]
    pub implicit_confirm: bool,
}

impl PkiProfile {
    /// The built-in profile of devices: what USP asks of an Endpoint's certificate (R-SEC.0, R-SEC.0a).
    pub fn device() -> Self {
        Self {
            name: "device".to_owned(),
            keys: Self::default_keys(),
            min_rsa_bits: Self::default_rsa_bits(),
            lifetime: Self::default_lifetime(),
            backdate: Self::default_backdate(),
            subject: Some("CN={endpoint_id}".to_owned()),
            san: vec!["URI:urn:bbf:usp:id:{endpoint_id}".to_owned()],
            from_request: Vec::new(),
            strict: false,
            key_usage: Self::default_key_usage(),
            extended_key_usage: Self::default_extended_key_usage(),
            who: Self::default_who(),
            renewal_grace: 30 * 86_400,
            central_keys: false,
            implicit_confirm: false,
        }
    }

    fn default_keys() -> Vec<String> {
        ["p256", "p384", "ed25519", "rsa"].map(str::to_owned).into()
    }

    fn default_rsa_bits() -> usize {
        2048
    }

    fn default_lifetime() -> u64 {
        90 * 86_400
    }

    fn default_backdate() -> u64 {
        3600
    }

    fn default_key_usage() -> Vec<String> {
        vec!["digital_signature".to_owned()]
    }

    fn default_extended_key_usage() -> Vec<String> {
        ["server_auth", "client_auth"].map(str::to_owned).into()
    }

    fn default_who() -> Vec<String> {
        ["secret", "manufacturer", "approval", "renewal"]
            .map(str::to_owned)
            .into()
    }
}

impl Config {
    /// Directory of the CA's keys and certificates.
    pub fn pki_directory(&self) -> PathBuf {
        let directory = self.pki.directory.clone();
        directory.unwrap_or_else(|| self.data_dir.join("pki"))
    }

    /// What the CA needs of it, with passphrase and PIN from the files named, or else from the environment.
    ///
    /// # Errors
    /// When a file cannot be read, or a profile makes no sense.
    pub fn pki_config(&self) -> Result<PkiConfig, ConfigError> {
        let secret = |key, file: &Option<PathBuf>, variable: &str| match file {
            Some(path) => read_secret(path)
                .map(Some)
                .map_err(|problem| ConfigError::Value { key, problem }),
            None => Ok(std::env::var(variable).ok().map(Zeroizing::new)),
        };
        Ok(PkiConfig {
            directory: self.pki_directory(),
            passphrase: secret(
                "pki.passphrase_file",
                &self.pki.passphrase_file,
                PASSPHRASE_VARIABLE,
            )?,
            pin: secret("pki.pin_file", &self.pki.pin_file, PIN_VARIABLE)?,
            profiles: self.pki.profiles()?,
            settings: self.pki.clone(),
        })
    }

    pub(super) fn check_pki(&self) -> Result<(), ConfigError> {
        let wrong = |key: &'static str, problem: String| Err(ConfigError::Value { key, problem });
        let pki = &self.pki;
        for (key, value) in [
            ("pki.crl_lifetime", pki.crl_lifetime),
            ("pki.crl_refresh", pki.crl_refresh),
            ("pki.ocsp_lifetime", pki.ocsp_lifetime),
            ("pki.max_secrets", pki.max_secrets),
            ("pki.max_approvals", pki.max_approvals),
            ("pki.approval_lifetime", pki.approval_lifetime),
        ] {
            if value == 0 {
                return wrong(key, "found 0, expected at least 1".to_owned());
            }
        }
        if pki.crl_refresh > pki.crl_lifetime {
            return wrong(
                "pki.crl_refresh",
                format!(
                    "found {}, expected at most pki.crl_lifetime, {}",
                    pki.crl_refresh, pki.crl_lifetime
                ),
            );
        }
        for (key, urls) in [
            ("pki.crl_urls", &pki.crl_urls),
            ("pki.ocsp_urls", &pki.ocsp_urls),
            ("pki.ca_issuers_urls", &pki.ca_issuers_urls),
        ] {
            if let Some(url) = urls.iter().find(|url| !is_url(url)) {
                return wrong(
                    key,
                    format!("`{url}` is not an address such as http://ca.example.net/crl"),
                );
            }
        }
        pki.profiles().map(drop)
    }
}

impl Pki {
    /// All profiles, the default one first.
    pub(super) fn profiles(&self) -> Result<Vec<Profile>, ConfigError> {
        let wrong = |problem: String| ConfigError::Value {
            key: "pki.profile",
            problem,
        };
        if self.profile.len() > MAX_PROFILES {
            let found = self.profile.len();
            return Err(wrong(format!(
                "found {found}, expected at most {MAX_PROFILES}"
            )));
        }
        let mut profiles = Vec::new();
        for profile in &self.profile {
            if self
                .profile
                .iter()
                .filter(|other| other.name == profile.name)
                .count()
                > 1
            {
                return Err(wrong(format!("`{}` is there twice", profile.name)));
            }
            let read = Profile::new(profile);
            profiles.push(read.map_err(|error| wrong(format!("`{}`: {error}", profile.name)))?);
        }
        if !self.profile.iter().any(|profile| profile.name == "device") {
            let device = Profile::new(&PkiProfile::device());
            profiles.push(device.map_err(|error| wrong(error.to_string()))?);
        }
        let default = profiles
            .iter()
            .position(|profile| profile.name() == self.default_profile)
            .ok_or_else(|| ConfigError::Value {
                key: "pki.default_profile",
                problem: format!("there is no profile `{}`", self.default_profile),
            })?;
        profiles.swap(0, default);
        Ok(profiles)
    }
}

/// The first line of a file: a passphrase or a PIN.
///
/// # Errors
/// What is wrong with the file, without anything of what is in it.
pub fn read_secret(path: &std::path::Path) -> Result<Zeroizing<String>, String> {
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(format!("the first line of {} is empty", path.display()));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

fn is_url(url: &str) -> bool {
    url.is_ascii()
        && url.split_once("://").is_some_and(|(scheme, rest)| {
            ["http", "https", "coap", "coaps", "ldap"].contains(&scheme) && !rest.is_empty()
        })
        && !url
            .chars()
            .any(|letter| letter.is_control() || letter == ' ')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::*;

    fn parsed(section: &str) -> Result<Config, ConfigError> {
        let text = format!("{}\n{section}", template());
        Config::parse(&text, "test", |_| None)
    }

    fn wrong(section: &str) -> &'static str {
        match parsed(section).unwrap().check().unwrap_err() {
            ConfigError::Value { key, .. } => key,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn an_unknown_key_of_a_profile_is_refused() {
        let error = parsed("[[pki.profile]]\nname = \"x\"\nkind = \"y\"\n").unwrap_err();
        assert!(
            error.to_string().contains("unknown field `kind`"),
            "{error}"
        );
        let error = parsed("[[pki.profile]]\nlifetime = 5\n").unwrap_err();
        assert!(
            error.to_string().contains("missing field `name`"),
            "{error}"
        );
    }

    #[test]
    fn profiles_that_make_no_sense_are_refused() {
        let twice = "[[pki.profile]]\nname = \"x\"\nsubject = \"CN=x\"\n";
        assert_eq!(wrong(&format!("{twice}{twice}")), "pki.profile");
        assert_eq!(wrong("[[pki.profile]]\nname = \"x\"\n"), "pki.profile");
        let many: String = (0..65)
            .map(|n| format!("[[pki.profile]]\nname = \"p{n}\"\nsubject = \"CN=x\"\n"))
            .collect();
        assert_eq!(wrong(&many), "pki.profile");
        let mut config = parsed("").unwrap();
        config.pki.default_profile = "phone".to_owned();
        let error = config.check().unwrap_err();
        assert!(
            error.to_string().starts_with("pki.default_profile"),
            "{error}"
        );
    }

    #[test]
    fn the_default_profile_is_first_and_device_can_be_replaced() {
        let phone = "[[pki.profile]]\nname = \"phone\"\nsubject = \"CN={device}\"\n";
        let mut config = parsed(&format!(
            "{phone}[[pki.profile]]\nname = \"device\"\nsubject = \"CN=x\"\n"
        ))
        .unwrap();
        let names = |config: &Config| {
            let profiles = config.pki.profiles().unwrap();
            profiles
                .iter()
                .map(|profile| profile.name().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&config), ["device", "phone"]);
        config.pki.default_profile = "phone".to_owned();
        assert_eq!(names(&config), ["phone", "device"]);
        assert_eq!(names(&parsed("").unwrap()), ["device"]);
    }

    #[test]
    fn numbers_and_addresses_that_make_no_sense_are_refused() {
        let refused = |change: &dyn Fn(&mut Pki)| {
            let mut config = parsed("").unwrap();
            change(&mut config.pki);
            match config.check().unwrap_err() {
                ConfigError::Value { key, .. } => key,
                other => panic!("{other}"),
            }
        };
        assert_eq!(refused(&|pki| pki.crl_lifetime = 0), "pki.crl_lifetime");
        assert_eq!(refused(&|pki| pki.crl_refresh = 0), "pki.crl_refresh");
        assert_eq!(
            refused(&|pki| pki.crl_refresh = pki.crl_lifetime + 1),
            "pki.crl_refresh"
        );
        assert_eq!(refused(&|pki| pki.ocsp_lifetime = 0), "pki.ocsp_lifetime");
        assert_eq!(refused(&|pki| pki.max_secrets = 0), "pki.max_secrets");
        assert_eq!(refused(&|pki| pki.max_approvals = 0), "pki.max_approvals");
        assert_eq!(
            refused(&|pki| pki.approval_lifetime = 0),
            "pki.approval_lifetime"
        );
        for url in [
            "ca.example.net",
            "ftp://x",
            "http://",
            "http://a b",
            "http://ä",
        ] {
            assert_eq!(
                refused(&|pki| pki.crl_urls = vec![url.to_owned()]),
                "pki.crl_urls"
            );
            assert_eq!(
                refused(&|pki| pki.ocsp_urls = vec![url.to_owned()]),
                "pki.ocsp_urls"
            );
        }
    }

    #[test]
    fn a_passphrase_is_the_first_line_of_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("passphrase");
        let mut config = parsed("").unwrap();
        config.pki.passphrase_file = Some(file.clone());
        assert!(config.pki_config().is_err(), "no file");
        std::fs::write(&file, "\nsecond").unwrap();
        let error = config.pki_config().unwrap_err().to_string();
        assert!(
            error.contains("is empty") && !error.contains("second"),
            "{error}"
        );
        std::fs::write(&file, "correct horse\nsecond").unwrap();
        let read = config.pki_config().unwrap();
        assert_eq!(read.passphrase.as_ref().unwrap().as_str(), "correct horse");
        assert!(!format!("{read:?}").contains("horse"));
    }
}
