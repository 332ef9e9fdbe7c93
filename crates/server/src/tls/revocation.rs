//! Whether certificates were revoked: lists from files, and what is fetched.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use homefleet_net::mtp::Mtps;
use homefleet_net::revocation::{FetchConfig, Fetcher};
use homefleet_net::tls::Tls;
use homefleet_trust::{
    Anchor, Evidence as Known, Revocation, RevocationPolicy, RevocationScope, Time, Unknown,
    anchors_from_pem,
};

use super::TlsError;
use crate::config::{self, RevocationCheck, RevocationUnknown};
use crate::metrics::Sample;
use crate::telemetry::Telemetry;

const KEY: &str = "tls.revocation.crls";
const BEGIN: &str = "-----BEGIN X509 CRL-----";
const END: &str = "-----END X509 CRL-----";

/// A list from a file, with the certificates that may have signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// The file.
    pub path: PathBuf,
    /// The list.
    pub der: Vec<u8>,
    /// Who may have signed it.
    pub issuers: Vec<Anchor>,
}

/// Reads the lists of all files. `anchors` may have signed them, and the certificates that stand beside them. `limit`: bytes of a list.
///
/// # Errors
/// When a file cannot be read, or is not what its framing says. Whether it is a list is found when it is used.
pub fn lists(files: &[PathBuf], anchors: &[Anchor], limit: usize) -> Result<Vec<List>, TlsError> {
    let mut lists = Vec::new();
    for path in files {
        let bytes = read(path, limit)?;
        let ders = match std::str::from_utf8(&bytes) {
            Ok(text) if text.contains(BEGIN) => {
                from_pem(text).ok_or_else(|| wrong(path, "a list in it is not PEM".to_owned()))?
            }
            _ => vec![bytes.clone()],
        };
        let mut issuers = anchors.to_vec();
        if let Some(beside) = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| anchors_from_pem(text).ok())
        {
            issuers.extend(beside);
        }
        lists.extend(ders.into_iter().map(|der| List {
            path: path.clone(),
            der,
            issuers: issuers.clone(),
        }));
    }
    Ok(lists)
}

fn read(path: &Path, limit: usize) -> Result<Vec<u8>, TlsError> {
    let size = std::fs::metadata(path).map_err(|error| wrong(path, error.to_string()))?;
    // PEM is a third longer, and certificates may stand beside the list.
    let most = limit.saturating_mul(2).saturating_add(64 * 1024);
    if usize::try_from(size.len()).unwrap_or(usize::MAX) > most {
        return Err(wrong(
            path,
            format!(
                "it has {} bytes, more than tls.revocation.max_crl_size allows",
                size.len()
            ),
        ));
    }
    std::fs::read(path).map_err(|error| wrong(path, error.to_string()))
}

fn from_pem(text: &str) -> Option<Vec<Vec<u8>>> {
    // The same framing as that of certificates (RFC 7468 §6).
    let as_certificates: String = text
        .split(BEGIN)
        .skip(1)
        .map(|rest| {
            let body = rest.split(END).next().unwrap_or_default();
            format!("-----BEGIN CERTIFICATE-----{body}-----END CERTIFICATE-----\n")
        })
        .collect();
    homefleet_trust::chain_from_pem(&as_certificates).ok()
}

fn wrong(path: &Path, problem: String) -> TlsError {
    TlsError {
        key: KEY,
        path: path.to_owned(),
        problem,
    }
}

/// What the configuration asks for; `None` when revocation is not looked at.
pub(super) fn policy(config: &config::Revocation) -> Option<RevocationPolicy> {
    let scope = match config.check {
        RevocationCheck::Off => return None,
        RevocationCheck::Leaf => RevocationScope::Leaf,
        RevocationCheck::Chain => RevocationScope::Chain,
    };
    Some(RevocationPolicy {
        scope,
        unknown: match config.unknown {
            RevocationUnknown::Allow => Unknown::Allow,
            RevocationUnknown::Refuse => Unknown::Refuse,
        },
        remember_failure: Duration::from_secs(config.retry),
        refresh_after: Duration::from_secs(config.refresh),
        max_crl_bytes: config.max_crl_size,
        max_ocsp_bytes: config.max_ocsp_size,
        ..RevocationPolicy::default()
    })
}

/// Whether each list would be taken.
pub(super) fn judge(
    policy: &RevocationPolicy,
    lists: &[List],
    now: SystemTime,
) -> Result<(), TlsError> {
    let mut scratch = Revocation::new(policy.clone());
    for list in lists {
        scratch
            .add_crl(&list.der, &list.issuers, Time::Accurate(now))
            .map_err(|error| wrong(&list.path, error.to_string()))?;
    }
    Ok(())
}

/// What is known about revocation, and who finds out more.
#[derive(Debug)]
pub(crate) struct Evidence {
    revocation: Arc<RwLock<Revocation>>,
    fetcher: Fetcher,
    ways: Arc<OnceLock<Ways>>,
}

/// Who holds sessions with peers that were judged.
type Ways = (Mtps, Option<Telemetry>, Option<Tls>);

impl Evidence {
    /// Starts with the lists of the files; `None` when revocation is not looked at. A list that is no good is logged and left out: the policy
    /// for what is not known decides.
    pub(crate) fn start(config: &config::Revocation, lists: &[List]) -> Option<Self> {
        let revocation = Arc::new(RwLock::new(Revocation::new(policy(config)?)));
        let ways: Arc<OnceLock<Ways>> = Arc::default();
        let judge = Arc::clone(&ways);
        let fetcher = Fetcher::start(
            Arc::clone(&revocation),
            FetchConfig {
                fetch: config.fetch,
                timeout: Duration::from_secs(config.timeout),
                ..FetchConfig::default()
            },
            || Time::Accurate(SystemTime::now()),
            move || {
                if let Some((ways, telemetry, tls)) = judge.get().cloned() {
                    if let Some(telemetry) = telemetry {
                        telemetry.judge_again();
                    }
                    tokio::spawn(async move {
                        ways.judge_again().await;
                        if let Some(tls) = tls {
                            tls.judge_again().await;
                        }
                    });
                }
            },
        );
        let evidence = Self {
            revocation,
            fetcher,
            ways,
        };
        evidence.take(lists);
        Some(evidence)
    }

    /// What decisions look at.
    pub(crate) fn revocation(&self) -> Arc<RwLock<Revocation>> {
        Arc::clone(&self.revocation)
    }

    /// Who fetches.
    pub(crate) fn fetcher(&self) -> Fetcher {
        self.fetcher.clone()
    }

    /// Whose sessions are judged again when something has come.
    pub(crate) fn serve(&self, ways: &Mtps, telemetry: Option<Telemetry>, tls: Option<Tls>) {
        // There is one to a server.
        drop(self.ways.set((ways.clone(), telemetry, tls)));
    }

    /// Takes the lists of files.
    pub(crate) fn take(&self, lists: &[List]) {
        let now = Time::Accurate(SystemTime::now());
        let write = || {
            self.revocation
                .write()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let policy = write().policy().clone();
        for list in lists {
            // Decisions must not wait while a long list is verified.
            let taken = Known::list(&policy, &list.der, &list.issuers, now)
                .and_then(|evidence| write().take(evidence));
            if let Err(error) = taken {
                tracing::error!(file = %list.path.display(), %error, "a revocation list is no good");
            }
        }
        write().handle_timeout(Instant::now());
    }

    /// For `/metrics`.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let stats = self.fetcher.stats();
        let (lists, listed, answers) = self
            .revocation
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .sizes();
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let (known, known_help) = (
            "revocation_known",
            "Evidence about revocation kept, by kind",
        );
        let (fetches, fetches_help) = (
            "revocation_fetches",
            "Fetches of evidence about revocation, by outcome",
        );
        vec![
            Sample::gauge(known, known_help, number(lists)).labelled("kind", "list"),
            Sample::gauge(known, known_help, number(listed)).labelled("kind", "listed"),
            Sample::gauge(known, known_help, number(answers)).labelled("kind", "answer"),
            Sample::counter(fetches, fetches_help, stats.taken).labelled("outcome", "taken"),
            Sample::counter(fetches, fetches_help, stats.failed).labelled("outcome", "failed"),
            Sample::counter(fetches, fetches_help, stats.no_evidence)
                .labelled("outcome", "no_evidence"),
            Sample::counter(fetches, fetches_help, stats.not_tried)
                .labelled("outcome", "not_tried"),
            Sample::counter(fetches, fetches_help, stats.dropped).labelled("outcome", "dropped"),
        ]
    }

    /// Hosts that evidence cannot be fetched from, and why.
    pub(crate) fn troubles(&self) -> Vec<String> {
        self.fetcher
            .troubles()
            .into_iter()
            .map(|trouble| format!("{}: {}", trouble.host, trouble.problem))
            .collect()
    }
}
