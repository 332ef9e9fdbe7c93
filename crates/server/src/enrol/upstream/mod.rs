//! An RA in front of CAs elsewhere: what is asked for under their labels is verified here, approved here, and passed on to them with our
//! protection instead of the requester's, or around it (RFC 9483 §5.2).
//!
//! ```text
//!   device ─ message ─▶ relay: whose? may it? ─▶ (an operator approves) ─▶ way: reprotected, or nested ─▶ CA over HTTP(S)
//!          ◀─ answer ── reprotected, as it asked ◀──────────────── verified ◀─────────────────────────────┘
//! ```
//!
//! Transactions are the requester's and the CA's: identifiers and nonces pass through, so what waits at the CA is polled for at the CA, and
//! survives our restart because nothing of it is here. What waits here (for an operator, or for a CA that is not there) is a request for
//! approval in the store, with its first message; its sender polls, and the answer of the CA comes with one of its polls.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use homefleet_cmp::asn1::{Certificate, Limits};
use homefleet_cmp::crypto::{Mac, Secret};
use homefleet_cmp::protection::{ProtectionPolicy, Protector};
use homefleet_net::cmp::entity::{Believed, key_from_pem, key_pair};
use homefleet_net::cmp::{Client, ClientConfig, ServerTrust};
use homefleet_trust::{Anchor, AnchorError, chain_from_pem};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

use self::relay::Relay;
use self::way::Way;
use super::counts::Counts;
use super::decide::Ca;
use super::standing::{Grounds, NewGrounds};
use super::waiting::Waiting;
use super::{EnrolError, anchors};
use crate::clock::Clock;
use crate::config::{self, CmpUpstream};
use crate::metrics::Sample;
use crate::pki::{Hierarchy, Pki};

mod relay;
mod way;

/// Iterations of the MACs that we make.
const ITERATIONS: u32 = 1000;

/// What all relays have in common.
pub(super) struct Means<'a> {
    pub(super) config: &'a config::Cmp,
    pub(super) pki: &'a Pki,
    pub(super) manufacturers: &'a [Anchor],
    pub(super) counts: &'a Arc<Counts>,
    pub(super) clock: &'a Clock,
    pub(super) limits: Limits,
    /// How we protect what we send, unless an upstream has a key of its own.
    pub(super) protector: &'a Protector,
}

/// The CAs elsewhere, by their labels.
#[derive(Default)]
pub(super) struct Upstreams(Vec<Arc<Relay>>);

impl Upstreams {
    /// Reads the files that the configuration names, and takes over what waits.
    pub(super) async fn open(means: Means<'_>) -> Result<Self, EnrolError> {
        let mut all = Vec::new();
        for upstream in &means.config.upstream {
            let waiting = super::waiting(means.pki, &means.limits).await?;
            all.push(Arc::new(open(&means, upstream, waiting)?));
        }
        Ok(Self(all))
    }

    /// The one under a label.
    pub(super) fn of(&self, label: Option<&str>) -> Option<Arc<Relay>> {
        let label = label?;
        self.0.iter().find(|relay| relay.label() == label).cloned()
    }

    pub(super) fn labels(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|relay| relay.label().to_owned())
    }

    /// Our certificate was renewed.
    pub(super) fn replace_protector(&self, protector: &Protector) {
        for relay in &self.0 {
            relay.replace_protector(protector);
        }
    }

    /// Our own certificates lead to other roots.
    pub(super) fn replace_roots(&self, hierarchy: &Hierarchy) -> Result<(), AnchorError> {
        self.0
            .iter()
            .try_for_each(|relay| relay.replace_roots(hierarchy))
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        relay::samples(&self.0)
    }
}

fn open(means: &Means<'_>, it: &CmpUpstream, waiting: Waiting) -> Result<Relay, EnrolError> {
    let key = "cmp.upstream[].url";
    let url = it.url().map_err(|problem| wrong(key, "", problem))?;
    let mut manufacturers = means.manufacturers.to_vec();
    manufacturers.extend(anchors("cmp.upstream[].devices", &it.devices)?);
    let grounds = Grounds::new(NewGrounds {
        manufacturers,
        relays: Vec::new(),
        grace: Duration::ZERO,
        strangers: !it.approve.is_empty(),
    });
    grounds
        .replace_roots(&means.pki.hierarchy())
        .map_err(|error| EnrolError::Certificate(error.to_string()))?;
    let kinds = |key, names: &[String]| {
        config::kinds(key, names).map_err(|error| wrong(key, "", error.to_string()))
    };
    let trust = ServerTrust::Anchors(anchors("cmp.upstream[].ca", &it.ca)?);
    let client = Client::new(ClientConfig {
        timeout: Duration::from_secs(it.timeout),
        chunked: it.chunked,
        ..ClientConfig::new(trust)
    });
    let client = client.map_err(|error| wrong("cmp.upstream[].ca", "", error.to_string()))?;
    let mut believed = Believed::new(anchors("cmp.upstream[].trust", &it.trust)?);
    let own = own(it)?;
    if let Some(Protector::Secret {
        reference, secret, ..
    }) = &own
    {
        believed.secret = Some((reference.clone(), secret.clone()));
    }
    let ca = Ca {
        waiting,
        grounds: Arc::new(grounds),
        counts: Arc::clone(means.counts),
        bare_keys: false,
        check_after: Duration::from_secs(means.config.check_after),
        limits: means.limits,
        clock: means.clock.clone(),
        pki: means.pki.clone(),
    };
    let policy = ProtectionPolicy {
        mac: super::mac_policy(means.config),
        ..ProtectionPolicy::default()
    };
    let way = Way::new(client, url, it.nest, own, believed, policy);
    Ok(Relay::new(
        it.label.clone(),
        relay::Rules {
            kinds: kinds("cmp.upstream[].allow", &it.allow)?,
            approve: kinds("cmp.upstream[].approve", &it.approve)?.unwrap_or_default(),
            wait: it.wait,
            old_polling: means.config.old_polling,
            policy,
        },
        super::bounds(means.config),
        ca,
        way,
        means.protector.clone(),
    ))
}

/// The protection towards the CA, where it is not our usual one.
fn own(it: &CmpUpstream) -> Result<Option<Protector>, EnrolError> {
    let failed = |key, path: &PathBuf| {
        let shown = path.display().to_string();
        move |problem: String| wrong(key, &shown, problem)
    };
    if let (Some(reference), Some(file)) = (&it.reference, &it.secret_file) {
        let failed = failed("cmp.upstream[].secret_file", file);
        let text = config::read_secret(file).map_err(|error| failed(error.to_string()))?;
        let mut rng = rng()?;
        let mac = Mac::password_based(ITERATIONS, &mut rng);
        let secret = Secret::new(text.as_bytes().to_vec());
        let protector = Protector::secret(reference.as_bytes(), secret, mac);
        return protector
            .map(Some)
            .map_err(|error| failed(error.to_string()));
    }
    let (Some(certificate), Some(key)) = (&it.certificate, &it.key) else {
        return Ok(None);
    };
    let chain = std::fs::read_to_string(certificate).map_err(|error| error.to_string());
    let chain = chain
        .and_then(|text| chain_from_pem(&text).map_err(|error| error.to_string()))
        .and_then(|chain| {
            let read = chain.iter().map(|der| Certificate::from_der(der));
            read.collect::<Result<Vec<_>, _>>()
                .map_err(|error| error.to_string())
        });
    let chain = chain.map_err(failed("cmp.upstream[].certificate", certificate))?;
    let pair = std::fs::read_to_string(key).map_err(|error| error.to_string());
    let pair = pair.and_then(|text| {
        let pkcs8 = key_from_pem(&text).ok_or("no PKCS #8 private key in it")?;
        key_pair(&pkcs8).ok_or_else(|| "a key of an unknown kind".to_owned())
    });
    let pair = pair.map_err(failed("cmp.upstream[].key", key))?;
    let protector = Protector::signer(Arc::new(pair), chain);
    let protector = protector.map_err(|error| error.to_string());
    protector
        .map(Some)
        .map_err(failed("cmp.upstream[].certificate", certificate))
}

fn rng() -> Result<ChaCha20Rng, EnrolError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| EnrolError::Random(error.to_string()))?;
    Ok(ChaCha20Rng::from_seed(seed))
}

fn wrong(key: &'static str, path: &str, problem: String) -> EnrolError {
    EnrolError::Anchors {
        key,
        path: PathBuf::from(path),
        problem,
    }
}
