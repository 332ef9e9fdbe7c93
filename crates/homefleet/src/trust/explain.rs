//! `homefleet trust explain`: what would be decided about a peer's certificate, and why.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use homefleet_net::revocation::{FetchConfig, FetchStats, Fetcher};
use homefleet_trust::{
    Anchor, Connection, Context, Decision, Outcome, Policy, Revocation, RevocationPolicy,
    RevocationScope, Time, Wanted,
};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::Global;
use crate::failure::Failure;
use crate::output;

/// `trust explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// PEM file with the certificates the peer presents, its own first
    #[arg(long, value_name = "FILE")]
    chain: PathBuf,
    /// PEM file with the trusted certificates
    #[arg(long, value_name = "FILE")]
    anchors: PathBuf,
    /// We opened the connection to this host (name or address of the URL)
    #[arg(
        long,
        value_name = "HOST",
        required_unless_present = "accepted",
        conflicts_with = "accepted"
    )]
    host: Option<String>,
    /// The peer opened the connection to us
    #[arg(long)]
    accepted: bool,
    /// Endpoint ID we expect: of the peer we connect to, or compared with the accepted peer's certificate
    #[arg(long, value_name = "ID")]
    endpoint_id: Option<String>,
    /// File with revocation lists, PEM or DER; may be given several times
    #[arg(long, value_name = "FILE")]
    crl: Vec<PathBuf>,
    /// Fetch revocation lists (CRL) and answers (OCSP) from where the certificates say
    #[arg(long)]
    fetch: bool,
    /// Which certificates must not be revoked [default: leaf with --crl or --fetch, else none]
    #[arg(long, value_name = "WHICH", value_enum)]
    revocation: Option<Scope>,
    /// When it cannot be found out whether a certificate is revoked
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = Unknown::Allow)]
    unknown: Unknown,
    /// Decide as at this time (RFC 3339) instead of now
    #[arg(long, value_name = "TIME", conflicts_with = "time_unknown")]
    at: Option<String>,
    /// Decide without accurate absolute time: dates are ignored (R-MTP.2)
    #[arg(long)]
    time_unknown: bool,
}

impl Explain {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let chain = homefleet_trust::chain_from_pem(&read(&self.chain)?)
            .map_err(|error| unusable(&self.chain, &error))?;
        let anchors = homefleet_trust::anchors_from_pem(&read(&self.anchors)?)
            .map_err(|error| unusable(&self.anchors, &error))?;
        let connection = match &self.host {
            Some(host) => Connection::Initiated {
                host,
                endpoint_id: self.endpoint_id.as_deref(),
            },
            None => Connection::Accepted,
        };
        let policy = Policy::default();
        let time = self.time()?;
        let context = Context::new(&anchors, time, connection, &policy);
        let decision = match self.evidence(&chain, &anchors, time)? {
            None => homefleet_trust::decide(&chain, &context),
            Some(mut evidence) => loop {
                let asked = Context {
                    revocation: Some(&evidence),
                    ..context
                };
                let decision = homefleet_trust::decide(&chain, &asked);
                let Outcome::Hold(wanted) = &decision.outcome else {
                    break decision;
                };
                evidence = fetched(evidence, wanted, self.fetch, time)?;
            },
        };
        if global.json {
            output::json(&as_json(&decision))?;
        } else {
            output::line(homefleet_trust::explain(&decision).trim_end())?;
        }
        match &decision.outcome {
            Outcome::Terminate(refusal) => {
                let alert = refusal.alert().0;
                Err(Failure::Refused(format!(
                    "refused: {refusal} (alert {alert})"
                )))
            }
            Outcome::Hold(_) => Err(Failure::Refused(
                "undecided: it is not known whether a certificate is revoked".into(),
            )),
            Outcome::Establish => self.check_identity(&decision),
        }
    }

    /// What the files know about revocation; `None` when it is not looked at.
    fn evidence(
        &self,
        chain: &[Vec<u8>],
        anchors: &[Anchor],
        time: Time,
    ) -> Result<Option<Revocation>, Failure> {
        let scope = match self.revocation {
            Some(Scope::Leaf) => RevocationScope::Leaf,
            Some(Scope::Chain) => RevocationScope::Chain,
            None if self.fetch || !self.crl.is_empty() => RevocationScope::Leaf,
            None => return Ok(None),
        };
        let mut evidence = Revocation::new(RevocationPolicy {
            scope,
            unknown: match self.unknown {
                Unknown::Allow => homefleet_trust::Unknown::Allow,
                Unknown::Refuse => homefleet_trust::Unknown::Refuse,
            },
            ..RevocationPolicy::default()
        });
        let mut issuers = anchors.to_vec();
        issuers.extend(chain.iter().filter_map(|der| Anchor::from_der(der).ok()));
        let limit = evidence.policy().max_crl_bytes;
        let lists = homefleet_server::tls::lists(&self.crl, &issuers, limit).map_err(|error| {
            Failure::Failed(format!(
                "--crl: {}: {}",
                error.path.display(),
                error.problem
            ))
        })?;
        for list in lists {
            evidence
                .add_crl(&list.der, &list.issuers, time)
                .map_err(|error| unusable(&list.path, &error))?;
        }
        Ok(Some(evidence))
    }

    /// For an accepted peer, the Endpoint ID is not part of the figure; it binds `from_id` (R-SEC.0a).
    fn check_identity(&self, decision: &Decision) -> Result<(), Failure> {
        match (&self.endpoint_id, &decision.peer) {
            (Some(id), Some(peer)) if self.accepted && !peer.is_endpoint(id) => {
                Err(Failure::Refused(format!(
                    "the session is established, but Records from `{id}` are refused: the certificate authenticates {} (R-SEC.0a)",
                    if peer.endpoint_ids.is_empty() {
                        "no Endpoint ID".to_owned()
                    } else {
                        peer.endpoint_ids.join(", ")
                    }
                )))
            }
            _ => Ok(()),
        }
    }

    fn time(&self) -> Result<Time, Failure> {
        if self.time_unknown {
            return Ok(Time::Unknown);
        }
        let Some(text) = &self.at else {
            return Ok(Time::Accurate(SystemTime::now()));
        };
        OffsetDateTime::parse(text, &Rfc3339)
            .map(|time| Time::Accurate(time.into()))
            .map_err(|_| {
                Failure::Usage(format!(
                    "`{text}` is not a time such as 2027-01-01T00:00:00Z"
                ))
            })
    }
}

/// Which certificates must not be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scope {
    /// The peer's own
    Leaf,
    /// All but the trusted one
    Chain,
}

/// When nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Unknown {
    /// Go on
    Allow,
    /// Refuse the peer
    Refuse,
}

/// Fetches what is wanted, or notes that it is not to be had, and says what came of it.
fn fetched(
    evidence: Revocation,
    wanted: &[Wanted],
    fetch: bool,
    time: Time,
) -> Result<Revocation, Failure> {
    let evidence = Arc::new(RwLock::new(evidence));
    let troubles = crate::serve::runtime()?.block_on(async {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let config = FetchConfig {
            fetch,
            ..FetchConfig::default()
        };
        let fetcher = Fetcher::start(
            Arc::clone(&evidence),
            config,
            move || time,
            move || tell.send(()).unwrap_or_default(),
        );
        fetcher.want(wanted);
        let answered = |stats: FetchStats| {
            stats.taken + stats.failed + stats.no_evidence + stats.not_tried + stats.dropped
        };
        while answered(fetcher.stats()) < wanted.len() as u64 {
            told.recv().await;
        }
        fetcher.troubles()
    });
    for trouble in troubles {
        output::note(&format!("{}: {}", trouble.host, trouble.problem));
    }
    // The runtime is gone, and the fetcher with it.
    Arc::try_unwrap(evidence)
        .map(|evidence| {
            evidence
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner)
        })
        .map_err(|_| Failure::Failed("fetching did not end".to_owned()))
}

fn as_json(decision: &Decision) -> serde_json::Value {
    let steps: Vec<_> = decision
        .steps
        .iter()
        .map(|step| {
            json!({
                "check": step.element.to_string(),
                "level": step.level().to_string(),
                "answer": step.answer.to_string(),
                "detail": step.detail,
            })
        })
        .collect();
    let (outcome, refusal, alert) = match &decision.outcome {
        Outcome::Establish => ("establish", None, None),
        Outcome::Hold(_) => ("hold", None, None),
        Outcome::Terminate(refusal) => (
            "terminate",
            Some(refusal.to_string()),
            Some(refusal.alert().0),
        ),
    };
    let peer = decision.peer.as_ref().map(|peer| {
        json!({
            "endpoint_ids": peer.endpoint_ids,
            "dns_names": peer.dns_names,
            "subject": peer.subject,
            "fingerprint": hex(&peer.fingerprint),
            "basis": peer.basis.to_string(),
            "not_after": OffsetDateTime::from(peer.not_after).format(&Rfc3339).unwrap_or_default(),
        })
    });
    json!({ "outcome": outcome, "refusal": refusal, "alert": alert, "steps": steps, "peer": peer })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        let text = format!("cannot read {}: {error}", path.display());
        match error.kind() {
            std::io::ErrorKind::NotFound => Failure::NotFound(text),
            _ => Failure::Failed(text),
        }
    })
}

fn unusable(path: &Path, error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut text = format!("{}: {error}", path.display());
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    Failure::Failed(text)
}
