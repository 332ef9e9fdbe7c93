//! The certificate files: whom the agent trusts, and who it is.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use homefleet_net::dtls::{Credentials, CredentialsError, Role, TrustVerifier, Verifier};
use homefleet_trust::{
    Anchor, Basis, Connection, Context, Decision, FirstUse, Policy, Refusal, Revocation, Time,
    Wanted, anchors_from_pem, chain_from_pem, decide,
};

use super::revocation::check_lists;
use crate::{
    config::Config,
    engine::{CertificateInfo, Trusted},
    enrol::Identity,
    provider::time::Clock,
};

/// Certificates that were trusted on first use and are remembered until their first Message.
const MAX_MET: usize = 64;

/// Whom the agent trusts, and who it is.
#[derive(Clone)]
pub struct Trust {
    /// The trusted CAs (R-SEC.2).
    pub anchors: Vec<Anchor>,
    /// The Trusted Brokers (R-SEC.4a).
    pub brokers: Vec<Anchor>,
    /// The agent's own chain, DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The same with the key, for DTLS.
    pub credentials: Credentials,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust")
            .field("anchors", &self.anchors.len())
            .field("chain", &self.chain.len())
            .finish()
    }
}

/// A certificate or key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error("`{key}`: cannot read {path}: {source}", path = .path.display())]
    Read {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file does not hold what it should.
    #[error("`{key}`: {path}: {reason}", path = .path.display())]
    Content {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Key and certificate do not belong together, or the key is none.
    #[error("`trust.certificate` and `trust.key`: {0}")]
    Credentials(#[from] CredentialsError),
    /// The agent has no certificate yet.
    #[error("not enrolled yet: `homefleet-agent run` asks {0} for a certificate")]
    NotEnrolled(String),
    /// No CA came with the certificate, and the configuration names none.
    #[error(
        "no CA certificates came with the agent's certificate: name those that controllers have in `trust.ca`"
    )]
    NoAnchors,
    /// The store has another certificate or key than it should.
    #[error("the enrolled certificate cannot be used: {0}")]
    Enrolled(String),
    /// The certificate is somebody else's (R-SEC.10).
    #[error(
        "`trust.certificate`: {path} does not contain the Endpoint ID {endpoint_id} (it holds {found}): \
         issue it with the subjectAltName URI {urn}, or set `endpoint_id`", path = .path.display()
    )]
    Endpoint {
        /// The file.
        path: PathBuf,
        /// The agent's Endpoint ID.
        endpoint_id: String,
        /// What the certificate holds.
        found: String,
        /// What it should hold.
        urn: String,
    },
}

/// Figure MTP.1, and then R-SEC.23: what we send goes to the Controller that is meant.
///
/// The figure lets a peer pass whose certificate names the host of the URL, whoever it is; a Record without
/// USP-layer security may only go to an Endpoint whose certificate holds the Endpoint ID of its `to_id`.
///
/// Nor is a Controller that is known trusted on first use: somebody would only have to come first with its name; nor a
/// Trusted Broker accepted that comes to us instead of being gone to.
pub(crate) struct ControllerVerifier {
    figure: TrustVerifier,
    /// Endpoint IDs of the Controller table.
    known: RwLock<Vec<String>>,
    /// How often everything was to be decided anew.
    anew: AtomicU64,
    /// Certificates that were trusted on first use lately, by their SHA-256, the newest last.
    met: Mutex<VecDeque<([u8; 32], Vec<u8>)>>,
}

impl ControllerVerifier {
    /// Accepts whom the CAs of the configuration vouch for, until the engine says more.
    pub(crate) fn new(trust: &Trust, clock: Clock) -> Self {
        let policy = Policy::default();
        let figure = TrustVerifier::new(trust.anchors.clone(), policy, move || clock.time());
        figure.replace_brokers(trust.brokers.clone());
        Self {
            figure,
            known: RwLock::default(),
            anew: AtomicU64::new(0),
            met: Mutex::default(),
        }
    }

    /// From now on these are accepted, and no others; open sessions are judged again.
    pub(crate) fn trust(&self, trusted: Trusted) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = trusted.known;
        // They were read before they were kept.
        let read = |all: &[Vec<u8>]| {
            let anchors = all.iter();
            anchors
                .filter_map(|der| Anchor::from_der(der).ok())
                .collect()
        };
        self.figure.replace_anchors(read(&trusted.anchors));
        self.figure.replace_brokers(read(&trusted.brokers));
        self.figure.replace_stored(trusted.stored);
        self.figure.set_first_use(if trusted.first_use {
            FirstUse::Allow
        } else {
            FirstUse::Refuse
        });
    }

    /// From now on it is looked at whether certificates were revoked; what is missing goes to `fetch`.
    pub(super) fn look_at(
        &self,
        revocation: Arc<RwLock<Revocation>>,
        fetch: impl Fn(&[Wanted]) + Send + Sync + 'static,
    ) {
        self.figure.set_revocation(revocation, fetch);
    }

    /// What was decided before holds no longer: open sessions are judged again, and none from before is resumed.
    pub(crate) fn judge_again(&self) {
        self.anew.fetch_add(1, Ordering::SeqCst);
    }

    /// The certificate with this SHA-256, when it was trusted on first use lately.
    pub(crate) fn certificate(&self, fingerprint: &[u8; 32]) -> Option<Vec<u8>> {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.iter()
            .find(|(known, _)| known == fingerprint)
            .map(|(_, der)| der.clone())
    }

    fn remember(&self, fingerprint: [u8; 32], leaf: &[u8]) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.retain(|(known, _)| *known != fingerprint);
        if met.len() >= MAX_MET {
            met.pop_front();
        }
        met.push_back((fingerprint, leaf.to_vec()));
    }
}

impl Verifier for ControllerVerifier {
    fn verify(&self, chain: &[Vec<u8>], role: Role<'_>, cached: bool) -> Decision {
        let mut decision = self.figure.verify(chain, role, cached);
        let Some(peer) = &decision.peer else {
            return decision;
        };
        if let Role::Initiated {
            endpoint_id: Some(meant),
            ..
        } = role
            && !peer.is_endpoint(meant)
        {
            decision.refuse(Refusal::NameMismatch);
        } else if role == Role::Accepted && peer.basis == Basis::TrustedBroker {
            // Brokers are gone to. One that came to us would stand for every Controller.
            decision.refuse(Refusal::NameMismatch);
        } else if peer.basis == Basis::FirstUse {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if known.iter().any(|known| peer.is_endpoint(known)) {
                decision.refuse(Refusal::UnknownIssuer);
            } else if let Some(leaf) = chain.first() {
                self.remember(peer.fingerprint, leaf);
            }
        }
        decision
    }

    fn generation(&self) -> u64 {
        // Both only grow, so that no two grounds have one number.
        self.figure.generation() + self.anew.load(Ordering::SeqCst)
    }

    fn time(&self) -> Option<SystemTime> {
        self.figure.time()
    }
}

/// Reads and checks the certificate files of `config`; with `enrol`, who the agent is stands in its store instead.
///
/// # Errors
///
/// A [`TrustError`] that names the file and what is wrong with it.
pub fn load_trust(config: &Config, enrolled: Option<&Identity>) -> Result<Trust, TrustError> {
    let content = |key, path: &Path, reason: String| TrustError::Content {
        key,
        path: path.to_owned(),
        reason,
    };
    let mut anchors = match &config.trust.ca {
        Some(path) => read_anchors("trust.ca", path)?,
        None => Vec::new(),
    };
    let brokers = match &config.trust.brokers {
        Some(path) => read_anchors("trust.brokers", path)?,
        None => Vec::new(),
    };
    let (chain, credentials) = match (&config.trust.own, enrolled) {
        (Some(own), _) => {
            let path = &own.certificate;
            let pem = read("trust.certificate", path)?;
            let chain = chain_from_pem(&pem)
                .map_err(|e| content("trust.certificate", path, e.to_string()))?;
            let key = read("trust.key", &own.key)?;
            let credentials = Credentials::from_pem(&pem, &key)?;
            if config.usp {
                check_endpoint(config, path, &chain)?;
            }
            (chain, credentials)
        }
        (None, Some(identity)) => {
            let wrong = |error: &dyn std::fmt::Display| TrustError::Enrolled(error.to_string());
            let chain = chain_from_pem(&identity.chain).map_err(|error| wrong(&error))?;
            let credentials = Credentials::from_pem(&identity.chain, &identity.key)
                .map_err(|error| wrong(&error))?;
            for anchor in &identity.anchors {
                if anchors.iter().all(|known| known.der() != anchor.der()) {
                    anchors.push(anchor.clone());
                }
            }
            (chain, credentials)
        }
        (None, None) if !config.usp && config.enrol.is_none() => {
            (Vec::new(), Credentials::default())
        }
        (None, None) => {
            let enrol = config.enrol.as_ref();
            let url = enrol.map(|enrol| enrol.url.to_string());
            return Err(TrustError::NotEnrolled(url.unwrap_or_default()));
        }
    };
    if anchors.is_empty() && config.usp {
        return Err(TrustError::NoAnchors);
    }
    check_lists(&config.trust, &anchors, Time::Unknown)?;
    Ok(Trust {
        anchors,
        brokers,
        chain,
        credentials,
    })
}

fn read_anchors(key: &'static str, path: &Path) -> Result<Vec<Anchor>, TrustError> {
    let content = |reason: String| TrustError::Content {
        key,
        path: path.to_owned(),
        reason,
    };
    let anchors =
        anchors_from_pem(&read(key, path)?).map_err(|error| content(error.to_string()))?;
    if anchors.is_empty() {
        return Err(content("no certificate in it".into()));
    }
    Ok(anchors)
}

impl Trust {
    /// The trusted CAs as the data model shows them.
    pub fn certificates(&self) -> Vec<CertificateInfo> {
        shown(&self.anchors)
    }

    /// The Trusted Brokers likewise.
    pub fn brokers(&self) -> Vec<CertificateInfo> {
        shown(&self.brokers)
    }
}

fn shown(certificates: &[Anchor]) -> Vec<CertificateInfo> {
    let certificates = certificates.iter();
    certificates
        .filter_map(|certificate| CertificateInfo::from_der(certificate.der()))
        .collect()
}

/// R-SEC.10: a controller would refuse every Record of ours otherwise, so it is said here.
fn check_endpoint(config: &Config, path: &Path, chain: &[Vec<u8>]) -> Result<(), TrustError> {
    let content = |reason: String| TrustError::Content {
        key: "trust.certificate",
        path: path.to_owned(),
        reason,
    };
    let leaf = chain
        .first()
        .ok_or_else(|| content("no certificate in it".into()))?;
    // The certificate trusted as itself: the decision then only reads who it is.
    let anchor = Anchor::from_der(leaf).map_err(|error| content(error.to_string()))?;
    let (anchors, policy) = ([anchor], Policy::default());
    let context = Context::new(&anchors, Time::Unknown, Connection::Accepted, &policy);
    let decision = decide(std::slice::from_ref(leaf), &context);
    let endpoint_id = config.endpoint_id.to_string();
    match decision.peer {
        Some(peer) if peer.is_endpoint(&endpoint_id) => Ok(()),
        Some(peer) => Err(TrustError::Endpoint {
            path: path.to_owned(),
            found: if peer.endpoint_ids.is_empty() {
                "none".into()
            } else {
                peer.endpoint_ids.join(", ")
            },
            urn: config.endpoint_id.to_urn(),
            endpoint_id,
        }),
        None => Err(content(format!(
            "controllers will refuse it: {}",
            decision
                .refusal()
                .map_or_else(|| "no reason".to_owned(), ToString::to_string)
        ))),
    }
}

fn read(key: &'static str, path: &Path) -> Result<String, TrustError> {
    std::fs::read_to_string(path).map_err(|source| TrustError::Read {
        key,
        path: path.to_owned(),
        source,
    })
}
