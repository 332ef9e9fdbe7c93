//! Certificates for devices: the CA as requesters see it, over CMP (RFC 9810, RFC 9483), whatever brings the messages.
//!
//! ```text
//!   HTTP, HTTPS (http) ─┐                 ┌─ standing: whose certificate, whose secret
//!                       ├─► machine ──► decide ─┼─ waiting: operators' approvals
//!   CoAP, CoAPS (net) ──┘  (cmp::Authority)     ├─ info, revocation, keys
//!                                               └─► pki: issued, confirmed, revoked, audited: on disk
//! ```
//!
//! [`Enrolment`] is the [`Service`] that all listeners share. What it promises:
//! - nobody is told that a certificate is issued, confirmed or revoked before that is on disk;
//! - who asks for too much, or comes while there is no room, is told so and costs nothing more ([`crate::config::Cmp`]);
//! - what is refused is told by the failInfo that RFC 9483 names, counted, and written into the audit log.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use homefleet_cmp::asn1::{Certificate, Limits};
use homefleet_cmp::authority::AuthorityConfig;
use homefleet_cmp::crypto::MacPolicy;
use homefleet_cmp::protection::{ProtectionPolicy, Protector};
use homefleet_net::cmp::{Answer, BoxFuture, Bulletin, File, Media, Request, Service};
use homefleet_net::dtls::Credentials;
use homefleet_net::tls::Tls;
use homefleet_trust::{Anchor, anchors_from_pem};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::announce::Announcements;
use self::counts::Counts;
use self::decide::Ca;
use self::limit::Rate;
use self::machine::{Bounds, Machines};
use self::standing::{Grounds, NewGrounds};
use self::upstream::{Means, Upstreams};
use self::waiting::Waiting;
use crate::clock::Clock;
use crate::config;
use crate::metrics::Sample;
use crate::pki::{Credential, Pki, PkiError, Who};
use crate::store::pki::ApprovalState;

mod announce;
mod counts;
mod decide;
mod http;
mod info;
mod keys;
mod limit;
mod machine;
mod pkcs10;
mod revocation;
mod standing;
mod text;
mod upstream;
mod waiting;

/// The list of revoked certificates.
pub const CRL_PATH: &str = "pki/ca.crl";
/// The issuing CA's certificate.
pub const CA_PATH: &str = "pki/ca.cer";
/// The root's certificate.
pub const ROOT_PATH: &str = "pki/root.cer";
/// The OCSP responder.
pub const OCSP_PATH: &str = "pki/ocsp";

/// How long a CA certificate may be kept without asking again.
const CERTIFICATE_AGE: Duration = Duration::from_secs(86_400);
/// How long a list of revoked certificates may.
const CRL_AGE: Duration = Duration::from_secs(300);
/// How often the CA is looked after.
const UPKEEP: Duration = Duration::from_secs(60);
/// Requests for approval read at once.
const PAGE: usize = 500;

/// Why the front does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolError {
    /// A file of trusted CAs cannot be used.
    #[error("{key}: {path}: {problem}")]
    Anchors {
        /// Configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// The CA cannot be used.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A certificate of the CA cannot be read.
    #[error("a certificate of the CA cannot be read: {0}")]
    Certificate(String),
    /// There is no randomness.
    #[error("no random numbers: {0}")]
    Random(String),
    /// What waits for approval cannot be read.
    #[error("requests for approval cannot be read: {0}")]
    Approvals(String),
}

/// The front of the CA. Clones are the same one.
#[derive(Clone)]
pub struct Enrolment(Arc<Inner>);

struct Inner {
    pki: Pki,
    machines: Arc<Machines>,
    upstreams: Upstreams,
    counts: Arc<Counts>,
    /// The CAs of manufacturers.
    manufacturers: Vec<Anchor>,
    grounds: Arc<Grounds>,
    announcements: Announcements,
    /// The longest list of revoked certificates that is announced.
    announced_list: usize,
    clock: Clock,
    max_message: usize,
}

impl std::fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Enrolment({:?})", self.0.pki)
    }
}

impl Enrolment {
    /// Takes over what waits for approval.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub async fn start(config: &config::Cmp, pki: Pki, clock: Clock) -> Result<Self, EnrolError> {
        let profiles = pki.profiles();
        let grace = profiles.iter().map(|profile| profile.renewal_grace()).max();
        let manufacturers = anchors("cmp.manufacturers", &config.manufacturers)?;
        let grounds = Arc::new(Grounds::new(NewGrounds {
            manufacturers: manufacturers.clone(),
            relays: anchors(
                "cmp.registration_authorities",
                &config.registration_authorities,
            )?,
            grace: grace.unwrap_or_default(),
            strangers: profiles.iter().any(|profile| profile.admits(Who::Approval)),
        }));
        grounds
            .replace_roots(&pki.hierarchy())
            .map_err(|error| EnrolError::Certificate(error.to_string()))?;
        let limits = Limits {
            bytes: config.max_message,
            ..Limits::default()
        };
        let counts = Arc::new(Counts::default());
        let ca = Ca {
            waiting: waiting(&pki, &limits).await?,
            grounds: Arc::clone(&grounds),
            counts: Arc::clone(&counts),
            bare_keys: config.bare_keys,
            check_after: Duration::from_secs(config.check_after),
            limits,
            clock: clock.clone(),
            pki: pki.clone(),
        };
        let protector = protector(&pki.signer()?)?;
        let upstreams = Upstreams::open(Means {
            config,
            pki: &pki,
            manufacturers: &manufacturers,
            counts: &counts,
            clock: &ca.clock,
            limits,
            protector: &protector,
        });
        let upstreams = upstreams.await?;
        let authority = authority(config, limits, protector);
        let bounds = bounds(config);
        // One for each machine, before any is made: a failure is told here.
        let mut master = [0; 32];
        getrandom::fill(&mut master).map_err(|error| EnrolError::Random(error.to_string()))?;
        let machines = Machines::new(&authority, &bounds, Arc::new(ca), master);
        Ok(Self(Arc::new(Inner {
            machines: Arc::new(machines),
            upstreams,
            max_message: config.max_message,
            counts,
            manufacturers,
            grounds,
            announcements: Announcements::default(),
            announced_list: config.announced_list,
            clock,
            pki,
        })))
    }

    /// The CAs whose certificates say who a device is: ours, and those of manufacturers.
    pub fn known(&self) -> Vec<Anchor> {
        let roots = self.0.pki.hierarchy().roots;
        let roots = roots.iter().filter_map(|der| Anchor::from_der(der).ok());
        roots.chain(self.0.manufacturers.iter().cloned()).collect()
    }

    /// Takes over what has happened to the CA's roots, and announces what is to be announced now. It is done by itself once a minute.
    ///
    /// # Errors
    /// When the CA's directory or its list of revoked certificates cannot be used.
    pub async fn announce(&self) -> Result<(), EnrolError> {
        self.0.announce().await
    }

    /// The same as what listeners ask.
    pub fn service(&self) -> Arc<dyn Service> {
        Arc::clone(&self.0) as Arc<dyn Service>
    }

    /// Does what is due, and looks after the CA, until `stop` changes.
    pub fn run(&self, stop: watch::Receiver<bool>) -> [JoinHandle<()>; 2] {
        let machines = Arc::clone(&self.0.machines).run(stop.clone());
        [
            tokio::spawn(machines),
            tokio::spawn(Arc::clone(&self.0).look_after(stop)),
        ]
    }

    /// Serves HTTP on a socket until `stop` changes.
    pub fn serve_http(&self, listener: TcpListener, stop: watch::Receiver<bool>) -> JoinHandle<()> {
        self.serve(listener, None, stop)
    }

    /// Serves HTTPS on a socket until `stop` changes, with what [`client_optional_tls`] made.
    pub fn serve_https(
        &self,
        listener: TcpListener,
        tls: Tls,
        stop: watch::Receiver<bool>,
    ) -> JoinHandle<()> {
        self.serve(listener, Some(tls), stop)
    }

    fn serve(
        &self,
        listener: TcpListener,
        tls: Option<Tls>,
        stop: watch::Receiver<bool>,
    ) -> JoinHandle<()> {
        let front = Arc::new(http::Front {
            service: self.service(),
            max_message: self.0.max_message,
            tls,
        });
        tokio::spawn(http::serve(listener, front, stop))
    }

    /// Transactions under way.
    pub fn transactions(&self) -> usize {
        self.0.machines.open()
    }

    /// What is counted.
    pub fn samples(&self) -> Vec<Sample> {
        let mut samples = self.0.machines.samples();
        samples.extend(self.0.counts.samples());
        samples.extend(self.0.upstreams.samples());
        samples
    }
}

impl Inner {
    async fn announce(&self) -> Result<(), EnrolError> {
        let unreadable = |error: der::Error| EnrolError::Certificate(error.to_string());
        if self.pki.reload_roots()? {
            let hierarchy = self.pki.hierarchy();
            self.grounds
                .replace_roots(&hierarchy)
                .and_then(|()| self.upstreams.replace_roots(&hierarchy))
                .map_err(|error| EnrolError::Certificate(error.to_string()))?;
            let stage = hierarchy.rollovers.last().map(|rollover| rollover.stage);
            tracing::info!(?stage, "the CA's roots have changed");
        }
        let protector = protector(&self.pki.signer()?)?;
        self.machines.replace_protector(&protector);
        self.upstreams.replace_protector(&protector);
        let list = self.pki.crl().await?;
        let list = (list.len() <= self.announced_list).then_some(list);
        let list = list.as_ref().map(|list| list.as_slice());
        let bodies = announce::bodies(&self.pki.hierarchy(), list, self.clock.now());
        let posted = self.announcements.post(
            bodies.map_err(unreadable)?,
            &protector,
            std::time::SystemTime::now(),
        );
        posted.map(drop).map_err(EnrolError::Certificate)
    }

    async fn look_after(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(UPKEEP);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = stop.changed() => return,
            }
            if let Err(error) = self.pki.upkeep().await {
                tracing::error!(%error, "the CA could not be looked after");
            }
            if let Err(error) = self.announce().await {
                tracing::error!(%error, "what the CA announces is not up to date");
            }
        }
    }
}

impl Service for Inner {
    fn answer(self: Arc<Self>, request: Request) -> BoxFuture<'static, Answer> {
        match self.upstreams.of(request.target.label.as_deref()) {
            Some(relay) => Box::pin(relay.answer(request)),
            None => Box::pin(Arc::clone(&self.machines).answer(request)),
        }
    }

    fn labels(&self) -> Vec<String> {
        let profiles = self.pki.profiles().iter();
        let profiles = profiles.map(|profile| profile.name().to_owned());
        profiles.chain(self.upstreams.labels()).collect()
    }

    /// One for all labels: the CA is one.
    fn bulletin(&self, label: Option<&str>, _: Option<&str>) -> Option<Bulletin> {
        let known = label.is_none_or(|label| self.pki.profile(Some(label)).is_some());
        known.then(|| self.announcements.bulletin())
    }

    fn files(&self) -> Vec<(String, Media)> {
        vec![
            (CRL_PATH.to_owned(), Media::Crl),
            (CA_PATH.to_owned(), Media::Certificate),
            (ROOT_PATH.to_owned(), Media::Certificate),
            (OCSP_PATH.to_owned(), Media::Ocsp),
        ]
    }

    fn file(self: Arc<Self>, path: &str) -> BoxFuture<'static, Option<File>> {
        let path = path.to_owned();
        Box::pin(async move {
            let certificate = |der: &[u8]| File {
                media: Media::Certificate,
                bytes: Arc::new(der.to_vec()),
                max_age: CERTIFICATE_AGE,
            };
            match path.as_str() {
                CRL_PATH => {
                    let crl = self.pki.crl().await.inspect_err(|error| {
                        tracing::error!(%error, "there is no list of revoked certificates");
                    });
                    Some(File {
                        media: Media::Crl,
                        bytes: crl.ok()?,
                        max_age: CRL_AGE,
                    })
                }
                CA_PATH => Some(certificate(self.pki.chain().first()?)),
                ROOT_PATH => Some(certificate(&self.pki.root())),
                _ => None,
            }
        })
    }

    fn ocsp(self: Arc<Self>, request: Vec<u8>) -> BoxFuture<'static, Option<Vec<u8>>> {
        Box::pin(async move { Some(self.pki.ocsp(&request).await) })
    }
}

/// A name as RFC 4514 text.
pub(crate) fn name_text(name: &homefleet_cmp::asn1::Name) -> String {
    text::name(name)
}

/// TLS for clients that need no certificate.
///
/// # Errors
/// When the credentials cannot be used.
pub fn client_optional_tls(credentials: &Credentials) -> std::io::Result<Tls> {
    http::tls(credentials)
}

/// Where devices ask, as a URL.
pub fn url(scheme: &str, address: SocketAddr) -> String {
    format!("{scheme}://{address}/.well-known/cmp")
}

fn authority(config: &config::Cmp, limits: Limits, protector: Protector) -> AuthorityConfig {
    AuthorityConfig {
        limits,
        protection: ProtectionPolicy {
            mac: mac_policy(config),
            ..ProtectionPolicy::default()
        },
        max_transactions: config.transactions,
        check_after: Duration::from_secs(config.check_after),
        poll_within: Duration::from_secs(config.poll_within),
        confirm_within: Duration::from_secs(config.confirm_within),
        revocation_needs_reason: !config.revoke_without_reason,
        delayed_answer_names_poll: config.old_polling,
        ..AuthorityConfig::new(protector)
    }
}

fn mac_policy(config: &config::Cmp) -> MacPolicy {
    if config.weak_macs {
        MacPolicy::lenient()
    } else {
        MacPolicy::default()
    }
}

fn bounds(config: &config::Cmp) -> Bounds {
    Bounds {
        at_once: config.at_once,
        rate: Rate {
            per_second: config.per_second,
            burst: config.burst,
        },
    }
}

/// How our messages are protected.
fn protector(credential: &Credential) -> Result<Protector, EnrolError> {
    let unreadable = |error: der::Error| EnrolError::Certificate(error.to_string());
    let chain: Result<Vec<_>, _> = credential
        .chain
        .iter()
        .map(|der| Certificate::from_der(der))
        .collect();
    Protector::signer(Arc::clone(&credential.signer), chain.map_err(unreadable)?)
        .map_err(unreadable)
}

fn anchors(key: &'static str, files: &[PathBuf]) -> Result<Vec<Anchor>, EnrolError> {
    let mut all = Vec::new();
    for path in files {
        all.extend(read_anchors(path).map_err(|problem| EnrolError::Anchors {
            key,
            path: path.clone(),
            problem,
        })?);
    }
    Ok(all)
}

fn read_anchors(path: &Path) -> Result<Vec<Anchor>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    anchors_from_pem(&text).map_err(|error| error.to_string())
}

/// The requests that a poll may ask for.
async fn waiting(pki: &Pki, limits: &Limits) -> Result<Waiting, EnrolError> {
    let waiting = Waiting::default();
    for state in [
        ApprovalState::Pending,
        ApprovalState::Approved,
        ApprovalState::Denied,
    ] {
        let mut before: Option<String> = None;
        loop {
            let page = pki
                .approvals(Some(state), before.as_deref(), PAGE)
                .await
                .map_err(|error| EnrolError::Approvals(error.to_string()))?;
            for approval in &page {
                let kept = waiting::read(&approval.request);
                let id = kept.and_then(|kept| waiting::transaction(&kept.message, limits));
                let who = approval.requester.rsplit_once(" at ").map(|(who, _)| who);
                if let (Some(id), Some(who)) = (id, who) {
                    waiting.add(&id, approval.key, who, &approval.id);
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => before = Some(last.id.clone()),
                _ => break,
            }
        }
    }
    Ok(waiting)
}
