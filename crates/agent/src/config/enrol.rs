//! `[enrol]`: where the agent's own certificate comes from.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use homefleet_cmp::crypto::KeyKind;
use homefleet_net::cmp::Url;
use serde::Deserialize;

use super::{ConfigError, invalid, keys, missing};

/// Shortest and longest part of a certificate's lifetime after which it is renewed, percent.
const RENEW_AFTER: std::ops::RangeInclusive<u8> = 10..=95;

/// Where the agent's own certificate comes from: a CA that speaks CMP (RFC 9483).
#[derive(Clone, Debug)]
pub struct EnrolConfig {
    /// The CA: `coaps`, `https`, `coap` or `http`; with its label.
    pub url: Url,
    /// The certificate profile to ask for (`certProfile`).
    pub profile: Option<String>,
    /// What the first request is protected with.
    pub first: FirstRequest,
    /// PEM file of the CAs that may answer, besides those of `trust.ca` and those received.
    pub ca: Option<PathBuf>,
    /// Whether a `coaps` or `https` server is believed because of its certificate.
    pub trust: ServerTrust,
    /// The kind of key that is made.
    pub key_type: KeyType,
    /// After which part of a certificate's lifetime it is renewed, percent. A twentieth of the lifetime varies among devices.
    pub renew_after: u8,
    /// How long after its end the certificate may still be used to ask for the next one. The CA has to allow it, too.
    pub grace: Duration,
    /// Whether the CAs are asked which CA certificates there are now.
    pub update_cas: bool,
    /// Whether the agent hears what the CA announces, where that is reached over `coaps` or `coap` (RFC 9482 §2.6).
    pub observe: bool,
    /// The rest after a failure or a refusal; it doubles up to an hour.
    pub retry: Duration,
}

/// What the first request is protected with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstRequest {
    /// A secret that the CA knows too.
    Secret {
        /// What names it (`senderKID`).
        reference: String,
        /// The file that holds it. Not needed any more once the agent is enrolled.
        file: PathBuf,
    },
    /// A certificate of the manufacturer's.
    Certificate {
        /// PEM file of the chain, leaf first.
        certificate: PathBuf,
        /// PEM file of its private key, PKCS #8.
        key: PathBuf,
    },
}

/// Whether the server is believed because of its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerTrust {
    /// Its certificate is issued by a CA of `enrol.ca`, `trust.ca`, or one received.
    Ca,
    /// CMP's own protection is what is believed until there is a CA to verify it by.
    FromCmp,
}

/// Kinds of keys that a USP Endpoint may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA P-256.
    P256,
    /// ECDSA P-384.
    P384,
    /// RSA with 3072 bits.
    Rsa,
}

impl KeyType {
    /// As CMP knows it.
    pub fn kind(self) -> KeyKind {
        match self {
            Self::P256 => KeyKind::P256,
            Self::P384 => KeyKind::P384,
            Self::Rsa => KeyKind::Rsa,
        }
    }
}

impl FromStr for KeyType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "p256" => Ok(Self::P256),
            "p384" => Ok(Self::P384),
            "rsa" => Ok(Self::Rsa),
            other => Err(format!("`{other}` is not one of `p256`, `p384`, `rsa`")),
        }
    }
}

impl FromStr for ServerTrust {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ca" => Ok(Self::Ca),
            "from-cmp" => Ok(Self::FromCmp),
            other => Err(format!("`{other}` is not one of `ca`, `from-cmp`")),
        }
    }
}

/// `[enrol]` as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnrolFile {
    #[serde(default, deserialize_with = "keys::parsed")]
    pub(crate) url: Option<Url>,
    pub(crate) label: Option<String>,
    pub(crate) profile: Option<String>,
    pub(crate) reference: Option<String>,
    pub(crate) secret_file: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) ca: Option<PathBuf>,
    #[serde(default, deserialize_with = "keys::parsed")]
    pub(crate) trust: Option<ServerTrust>,
    #[serde(default, deserialize_with = "keys::parsed")]
    pub(crate) key_type: Option<KeyType>,
    pub(crate) renew_after: Option<u8>,
    pub(crate) grace: Option<u32>,
    pub(crate) update_cas: Option<bool>,
    pub(crate) observe: Option<bool>,
    pub(crate) retry: Option<u32>,
}

impl EnrolFile {
    fn is_empty(&self) -> bool {
        let texts = [&self.label, &self.profile, &self.reference];
        let files = [&self.secret_file, &self.certificate, &self.key, &self.ca];
        self.url.is_none()
            && texts.iter().all(|text| text.is_none())
            && files.iter().all(|file| file.is_none())
            && self.trust.is_none()
            && self.key_type.is_none()
            && (self.renew_after, self.grace) == (None, None)
            && (self.update_cas, self.observe, self.retry) == (None, None, None)
    }

    /// `has_ca`: there is a `trust.ca`.
    pub(super) fn finish(
        self,
        base: &Path,
        has_ca: bool,
    ) -> Result<Option<EnrolConfig>, ConfigError> {
        if self.is_empty() {
            return Ok(None);
        }
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        let url = self.url.ok_or_else(|| missing("enrol.url"))?;
        let url = match some(self.label) {
            None => url,
            Some(label) => url.with_label(&label).ok_or_else(|| {
                invalid(
                    "enrol.label",
                    "the URL has a path already: write the label there, or leave the path out",
                )
            })?,
        };
        let first = match (self.reference, self.secret_file, self.certificate, self.key) {
            (Some(reference), Some(file), None, None) => FirstRequest::Secret {
                reference,
                file: base.join(file),
            },
            (None, None, Some(certificate), Some(key)) => FirstRequest::Certificate {
                certificate: base.join(certificate),
                key: base.join(key),
            },
            (Some(_), None, None, None) => return Err(missing("enrol.secret_file")),
            (None, Some(_), None, None) => return Err(missing("enrol.reference")),
            (None, None, Some(_), None) => return Err(missing("enrol.key")),
            (None, None, None, Some(_)) => return Err(missing("enrol.certificate")),
            (None, None, None, None) => return Err(missing("enrol.reference")),
            _ => {
                return Err(invalid(
                    "enrol.reference",
                    "the first request is protected with a secret (reference, secret_file) or by a certificate (certificate, key), not by both",
                ));
            }
        };
        let trust = self.trust.unwrap_or(ServerTrust::Ca);
        let has_ca = has_ca || self.ca.is_some();
        if trust == ServerTrust::Ca && url.scheme.is_secure() && !has_ca {
            return Err(invalid(
                "enrol.trust",
                "no CA is known to verify the server by: name it in enrol.ca or trust.ca, or set trust = \"from-cmp\", which believes the \
                 protection of the CMP messages until a CA was received",
            ));
        }
        if !has_ca && matches!(first, FirstRequest::Certificate { .. }) {
            return Err(invalid(
                "enrol.ca",
                "what answers a request that is signed with a certificate is signed too, and no CA is known to verify it by: name it here, or \
                 in trust.ca",
            ));
        }
        let renew_after = self.renew_after.unwrap_or(66);
        if !RENEW_AFTER.contains(&renew_after) {
            return Err(invalid(
                "enrol.renew_after",
                format!("{renew_after} is not a percentage from 10 to 95"),
            ));
        }
        Ok(Some(EnrolConfig {
            url,
            profile: some(self.profile),
            first,
            ca: self.ca.map(|path| base.join(path)),
            trust,
            key_type: self.key_type.unwrap_or(KeyType::P256),
            renew_after,
            grace: Duration::from_secs(self.grace.unwrap_or(30 * 86_400).into()),
            update_cas: self.update_cas.unwrap_or(true),
            observe: self.observe.unwrap_or(true),
            retry: Duration::from_secs(self.retry.unwrap_or(15).max(1).into()),
        }))
    }
}
