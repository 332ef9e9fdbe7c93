//! Own certificate and trusted CAs: read from files, judged, taken over while the server runs.
//!
//! ```text
//!   files ──► Material (read, judged) ──► Renewal ──► DTLS credentials, for handshakes from now on
//!                  │ bad: refused, the old stays ├──► the verifier's anchors: open sessions are judged again
//!                  │                             ├──► its Trusted Brokers: the same
//!                  │                             └──► what is known about revocation: the same
//! ```
//!
//! - `Material`: what the files hold,
//! - `renewal`: when they are read again, and what then happens,
//! - `revocation`: whether certificates were revoked,
//! - `refusals`: which peers were refused, and why.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use homefleet_net::dtls::Credentials;
use homefleet_trust::{
    Anchor, Connection, Context, Policy, Time, anchors_from_pem, chain_from_pem, decide,
};
use sha2::{Digest as _, Sha256};

use crate::config::{RevocationCheck, Tls};

mod refusals;
mod renewal;
mod revocation;

pub use refusals::Refusals;
pub(crate) use renewal::{Renewal, Target, stamps};
pub(crate) use revocation::Evidence;
pub use revocation::{List, lists};

/// A file of the certificate configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {}: {problem}", path.display())]
pub struct TlsError {
    /// Configuration key.
    pub key: &'static str,
    /// File.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

/// What the files of `[tls]` hold.
pub(crate) struct Material {
    /// Own chain and key.
    pub(crate) credentials: Credentials,
    /// Whom we trust.
    pub(crate) anchors: Vec<Anchor>,
    /// Which brokers vouch for who sends through them.
    pub(crate) brokers: Vec<Anchor>,
    /// What was revoked, as far as files say.
    pub(crate) lists: Vec<List>,
    /// Own certificate.
    pub(crate) own: Own,
    /// To tell whether anything changed.
    pub(crate) digest: Digest,
}

/// SHA-256 of what the files say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest {
    own: [u8; 32],
    anchors: [u8; 32],
    brokers: [u8; 32],
    lists: [u8; 32],
}

/// The server's own certificate, as it shows it to its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Own {
    /// Subject, as RFC 4514 text.
    pub(crate) subject: String,
    /// SHA-256 of its DER.
    pub(crate) fingerprint: [u8; 32],
    /// End of validity.
    pub(crate) not_after: SystemTime,
    /// What makes peers refuse it at this moment.
    pub(crate) problem: Option<String>,
}

impl Material {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read or used, the key is another certificate's, or nobody would be trusted.
    pub(crate) fn load(tls: &Tls, endpoint_id: &str, now: SystemTime) -> Result<Self, TlsError> {
        let chain = read("tls.certificate", &tls.certificate)?;
        let wrong = |key, path: &Path, problem: String| TlsError {
            key,
            path: path.to_owned(),
            problem,
        };
        let key = read("tls.key", &tls.key)?;
        let credentials = Credentials::from_pem(&chain, &key)
            .map_err(|error| wrong("tls.certificate", &tls.certificate, error.to_string()))?;
        let own = Own::judge(&chain, endpoint_id, now)
            .map_err(|problem| wrong("tls.certificate", &tls.certificate, problem))?;
        let trusted = read("tls.anchors", &tls.anchors)?;
        let anchors = anchors_from_pem(&trusted)
            .map_err(|error| wrong("tls.anchors", &tls.anchors, with_source(&error)))?;
        let (vouching, brokers) = match &tls.brokers {
            Some(path) => {
                let text = read("tls.brokers", path)?;
                let brokers = anchors_from_pem(&text)
                    .map_err(|error| wrong("tls.brokers", path, with_source(&error)))?;
                (text, brokers)
            }
            None => Default::default(),
        };
        let revocation = &tls.revocation;
        let lists = match revocation.check {
            RevocationCheck::Off => Vec::new(),
            _ => revocation::lists(&revocation.crls, &anchors, revocation.max_crl_size)?,
        };
        let listed = lists
            .iter()
            .fold(Sha256::new(), |digest, list| digest.chain_update(&list.der));
        Ok(Self {
            credentials,
            anchors,
            brokers,
            lists,
            own,
            digest: Digest {
                lists: listed.finalize().into(),
                own: Sha256::new()
                    .chain_update(&chain)
                    .chain_update(&key)
                    .finalize()
                    .into(),
                anchors: Sha256::digest(&trusted).into(),
                brokers: Sha256::digest(&vouching).into(),
            },
        })
    }
}

impl Own {
    /// Judges the own certificate as a peer would that trusts exactly this one, reached as `endpoint_id`.
    fn judge(chain: &str, endpoint_id: &str, now: SystemTime) -> Result<Self, String> {
        let mut chain = chain_from_pem(chain).map_err(|error| error.to_string())?;
        chain.truncate(1);
        let leaf = chain.first().map(Vec::as_slice).unwrap_or_default();
        let anchors = [Anchor::from_der(leaf).map_err(|error| error.to_string())?];
        let decision = decide(
            &chain,
            &Context::new(
                &anchors,
                Time::Accurate(now),
                Connection::Initiated {
                    host: "",
                    endpoint_id: Some(endpoint_id),
                },
                &Policy::default(),
            ),
        );
        let described = decision
            .chain
            .first()
            .ok_or_else(|| "its certificate cannot be read".to_owned())?;
        Ok(Self {
            subject: described.subject.clone(),
            fingerprint: described.fingerprint,
            not_after: described.not_after,
            problem: decision
                .refusal()
                .map(|refusal| format!("peers will refuse it: {refusal}")),
        })
    }
}

/// Reads every file of `[tls]` and judges it as a start would, and a reload.
///
/// # Errors
/// Names the first file that is no good.
pub fn check(config: &crate::config::Config) -> Result<(), TlsError> {
    let now = SystemTime::now();
    let material = Material::load(&config.tls, &config.endpoint_id, now)?;
    if let Some(problem) = material.own.problem {
        return Err(TlsError {
            key: "tls.certificate",
            path: config.tls.certificate.clone(),
            problem,
        });
    }
    match revocation::policy(&config.tls.revocation) {
        Some(policy) => revocation::judge(&policy, &material.lists, now),
        None => Ok(()),
    }
}

fn read(key: &'static str, path: &Path) -> Result<String, TlsError> {
    std::fs::read_to_string(path).map_err(|error| TlsError {
        key,
        path: path.to_owned(),
        problem: error.to_string(),
    })
}

fn with_source(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
