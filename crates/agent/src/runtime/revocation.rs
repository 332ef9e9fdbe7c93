//! Whether a Controller's certificate was revoked: lists from files, and what is fetched (Figure MTP.1, "Revoked?").

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard},
    time::{Duration, SystemTime},
};

use homefleet_net::revocation::{FetchConfig, Fetcher};
use homefleet_trust::{
    Anchor, Revocation, RevocationPolicy, RevocationScope, Time, Unknown, Wanted,
};
use x509_cert::der::Document;

use super::network::Network;
use super::trust::{ControllerVerifier, TrustError};
use crate::{
    config::{RevocationCheck, RevocationUnknown, TrustConfig},
    provider::time::Clock,
};

/// Bytes of one list: a device has little room, and its operator few Controllers.
const MAX_LIST: usize = 1 << 20;

/// How often it is looked whether a file has changed.
const LOOK_AT_FILES: Duration = Duration::from_secs(60);

/// Certificates in one list.
const MAX_LISTED: usize = 32_768;

/// What is known about revocation, and who finds out more.
#[derive(Debug)]
pub(super) struct Evidence {
    revocation: Arc<RwLock<Revocation>>,
    fetcher: Fetcher,
    mtp: Arc<OnceLock<Network>>,
    anchors: RwLock<Vec<Anchor>>,
    clock: Clock,
    /// The files, with their time of change when they were last read.
    files: Mutex<Vec<(PathBuf, Option<SystemTime>)>>,
}

impl Evidence {
    /// Starts with the lists of the configuration's files; `None` when revocation is not looked at. A list whose time is
    /// over is logged and left out: what then follows says the policy for what is not known.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub(super) fn start(
        config: &TrustConfig,
        anchors: &[Anchor],
        clock: &Clock,
    ) -> Result<Option<Self>, TrustError> {
        let Some(policy) = policy(config) else {
            return Ok(None);
        };
        let mut revocation = Revocation::new(policy);
        let mut files = Vec::new();
        for path in &config.crls {
            files.push((path.clone(), changed(path)));
            take(&mut revocation, path, &list(path)?, anchors, clock);
        }
        let revocation = Arc::new(RwLock::new(revocation));
        let mtp: Arc<OnceLock<Network>> = Arc::default();
        let (judge, time) = (mtp.clone(), clock.clone());
        let fetcher = Fetcher::start(
            revocation.clone(),
            FetchConfig::default(),
            move || time.time(),
            move || {
                if let Some(mtp) = judge.get().cloned() {
                    tokio::spawn(async move { mtp.judge_again().await });
                }
            },
        );
        Ok(Some(Self {
            revocation,
            fetcher,
            mtp,
            anchors: RwLock::new(anchors.to_vec()),
            clock: clock.clone(),
            files: Mutex::new(files),
        }))
    }

    /// Reads the files again that have changed; open sessions are judged by what is in them.
    pub(super) async fn look_at_files(&self) {
        let mut read = false;
        {
            let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
            for (path, known) in files.iter_mut() {
                let now = changed(path);
                if now == *known {
                    continue;
                }
                match list(path) {
                    Ok(der) => {
                        let mut revocation = self
                            .revocation
                            .write()
                            .unwrap_or_else(PoisonError::into_inner);
                        let anchors = self.anchors();
                        take(&mut revocation, path, &der, &anchors, &self.clock);
                        read = true;
                    }
                    Err(error) => tracing::error!(%error, "a revocation list is no good"),
                }
                *known = now;
            }
        }
        if read && let Some(mtp) = self.mtp.get() {
            mtp.judge_again().await;
        }
    }

    fn anchors(&self) -> RwLockReadGuard<'_, Vec<Anchor>> {
        self.anchors.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on these CAs may have lists. The files are read again: one that was no good may be of a CA that is trusted now.
    pub(super) async fn trust(&self, anchors: Vec<Anchor>) {
        *self.anchors.write().unwrap_or_else(PoisonError::into_inner) = anchors;
        {
            let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
            for (_, known) in files.iter_mut() {
                *known = None;
            }
        }
        self.look_at_files().await;
    }

    /// Takes lists that somebody has announced, each only if it is of a CA that is trusted and good now; open sessions are judged by them.
    pub(super) async fn take_lists(&self, lists: Vec<Vec<u8>>) {
        let mut taken = false;
        {
            let anchors = self.anchors();
            let mut revocation = self
                .revocation
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            for list in lists {
                match revocation.add_crl(&list, &anchors, self.clock.time()) {
                    Ok(()) => taken = true,
                    Err(error) => {
                        tracing::debug!(%error, "an announced revocation list is no good")
                    }
                }
            }
        }
        if taken && let Some(mtp) = self.mtp.get() {
            tracing::info!("the CA announced a revocation list");
            mtp.judge_again().await;
        }
    }

    /// From now on the verifier looks at it.
    pub(super) fn serve(&self, verifier: &ControllerVerifier) {
        let fetcher = self.fetcher.clone();
        let fetch = move |wanted: &[Wanted]| fetcher.want(wanted);
        verifier.look_at(self.revocation.clone(), fetch);
    }

    /// Whose sessions are judged again when something has come.
    pub(super) fn judge(&self, mtp: &Network) {
        // There is one to an agent.
        drop(self.mtp.set(mtp.clone()));
    }
}

/// Looks at the files now and then, as long as the agent runs.
pub(super) async fn watch(evidence: Arc<Evidence>) {
    loop {
        tokio::time::sleep(LOOK_AT_FILES).await;
        evidence.look_at_files().await;
    }
}

/// When a file was last changed; `None` while it is not there.
fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path)
        .and_then(|file| file.modified())
        .ok()
}

fn take(revocation: &mut Revocation, path: &Path, der: &[u8], anchors: &[Anchor], clock: &Clock) {
    match revocation.add_crl(der, anchors, clock.time()) {
        Ok(()) => tracing::info!(file = %path.display(), "revocation list"),
        Err(error) => {
            tracing::error!(file = %path.display(), %error, "a revocation list is no good");
        }
    }
}

/// Whether every list of the configuration would be taken at this time.
///
/// # Errors
///
/// A file that cannot be read, or is no list of one of `anchors` that is good now.
pub(crate) fn check_lists(
    config: &TrustConfig,
    anchors: &[Anchor],
    time: Time,
) -> Result<(), TrustError> {
    let Some(policy) = policy(config) else {
        return Ok(());
    };
    let mut revocation = Revocation::new(policy);
    config.crls.iter().try_for_each(|path| {
        revocation
            .add_crl(&list(path)?, anchors, time)
            .map_err(|error| wrong(path, error.to_string()))
    })
}

/// What the configuration asks for; `None` when revocation is not looked at.
fn policy(config: &TrustConfig) -> Option<RevocationPolicy> {
    let scope = match config.revocation {
        RevocationCheck::Off => return None,
        RevocationCheck::Leaf => RevocationScope::Leaf,
        RevocationCheck::Chain => RevocationScope::Chain,
    };
    Some(RevocationPolicy {
        scope,
        unknown: match config.revocation_unknown {
            RevocationUnknown::Allow => Unknown::Allow,
            RevocationUnknown::Refuse => Unknown::Refuse,
        },
        max_crl_bytes: MAX_LIST,
        max_crl_entries: MAX_LISTED,
        max_crls: 16,
        max_ocsp_answers: 256,
        max_failures: 256,
        ..RevocationPolicy::default()
    })
}

/// The list in a file, PEM or DER.
fn list(path: &Path) -> Result<Vec<u8>, TrustError> {
    let bytes = std::fs::read(path).map_err(|source| TrustError::Read {
        key: "trust.crls",
        path: path.to_owned(),
        source,
    })?;
    match std::str::from_utf8(&bytes) {
        Ok(text) if text.contains("-----BEGIN") => {
            let (label, document) =
                Document::from_pem(text).map_err(|error| wrong(path, error.to_string()))?;
            if label != "X509 CRL" {
                return Err(wrong(
                    path,
                    format!("a {label} where an X509 CRL is expected"),
                ));
            }
            Ok(document.as_bytes().to_vec())
        }
        _ => Ok(bytes),
    }
}

fn wrong(path: &Path, reason: String) -> TrustError {
    TrustError::Content {
        key: "trust.crls",
        path: PathBuf::from(path),
        reason,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
        DnType, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
    };

    use super::*;
    use crate::config::TimeSource;

    /// A CA's certificate, and its list of revoked ones.
    fn ca(name: &str) -> (Anchor, Vec<u8>) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(4000, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&ca).unwrap().der().to_vec();
        (Anchor::from_der(ca.der()).unwrap(), list)
    }

    fn lists(evidence: &Evidence) -> usize {
        evidence.revocation.read().unwrap().sizes().0
    }

    #[tokio::test]
    async fn lists_of_a_ca_that_is_received_while_the_agent_runs_are_read_and_taken() {
        let directory = tempfile::tempdir().unwrap();
        let ((first, _), (second, file)) = (ca("First"), ca("Second"));
        let path = directory.path().join("second.crl");
        std::fs::write(&path, file).unwrap();
        let config = TrustConfig {
            ca: None,
            brokers: None,
            own: None,
            time: TimeSource::Accurate,
            revocation: RevocationCheck::Leaf,
            revocation_unknown: RevocationUnknown::Allow,
            crls: vec![path],
            first_use: None,
            wait_for_time: Duration::ZERO,
        };
        let known = [first.clone()];
        let evidence = Evidence::start(&config, &known, &Clock::Accurate);
        let evidence = evidence.unwrap().unwrap();
        assert_eq!(lists(&evidence), 0);
        // Its list is in a file, and counts from now on.
        evidence.trust(vec![first, second]).await;
        assert_eq!(lists(&evidence), 1);
        // One that is announced counts when its CA is trusted.
        let ((third, announced), (_, strange)) = (ca("Third"), ca("Stranger"));
        evidence
            .take_lists(vec![strange, b"no list".to_vec(), announced.clone()])
            .await;
        assert_eq!(lists(&evidence), 1);
        let mut all = evidence.anchors().clone();
        all.push(third);
        evidence.trust(all).await;
        evidence.take_lists(vec![announced]).await;
        assert_eq!(lists(&evidence), 2);
    }
}
