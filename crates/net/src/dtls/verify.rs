//! Who decides about a peer's certificate, and what it is told.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use homefleet_trust::{
    Anchor, Connection, Context, Decision, FirstUse, Outcome, Policy, Revocation, SignatureMemory,
    StoredCertificate, Time, Wanted,
};

/// Signatures of certificates remembered as verified, so that a device that comes back costs none: some 1.3 MB at most.
const MAX_SIGNATURES: usize = 16_384;

/// What the association is for, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role<'a> {
    /// We wanted to reach this host, or this Endpoint.
    Initiated {
        /// Host of the URI: a name or an address literal.
        host: &'a str,
        /// Endpoint ID expected behind it, when known.
        endpoint_id: Option<&'a str>,
    },
    /// The peer came to us.
    Accepted,
}

/// [`Role`] with its own strings.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    Initiated {
        host: String,
        endpoint_id: Option<String>,
    },
    Accepted,
}

impl Purpose {
    pub(crate) fn role(&self) -> Role<'_> {
        match self {
            Self::Initiated { host, endpoint_id } => Role::Initiated {
                host,
                endpoint_id: endpoint_id.as_deref(),
            },
            Self::Accepted => Role::Accepted,
        }
    }
}

/// Decides about the certificates a peer presented, leaf first, before any application data passes.
pub trait Verifier: Send + Sync {
    /// Decides. An empty chain means that the peer presented none: for USP it must be refused (R-MTP.1). `cached`: the
    /// association is resumed from one that this verifier accepted for the same purpose and in the same
    /// [`generation`](Verifier::generation).
    ///
    /// A decision that holds the association keeps it waiting: nothing passes until
    /// [`Sessions::judge_again`](super::Sessions::judge_again) has it decided anew.
    fn verify(&self, chain: &[Vec<u8>], role: Role<'_>, cached: bool) -> Decision;

    /// A number that changes when what the decision rests on changes (anchors, policy): sessions from before are
    /// not resumed, and peers of open associations are judged again before anything more passes.
    fn generation(&self) -> u64 {
        0
    }

    /// The time that decisions go by, if it is accurate: an association is judged anew when its decision's
    /// `valid_until` has passed.
    fn time(&self) -> Option<SystemTime> {
        Some(SystemTime::now())
    }
}

type Fetch = dyn Fn(&[Wanted]) + Send + Sync;

struct Grounds {
    anchors: Vec<Anchor>,
    brokers: Vec<Anchor>,
    stored: Vec<StoredCertificate>,
    policy: Policy,
    first_use: FirstUse,
    revocation: Option<(Arc<RwLock<Revocation>>, Arc<Fetch>)>,
}

/// The decision of Figure MTP.1 over grounds that can be replaced at run time. With every replacement tickets from before
/// are void and peers of open associations are judged again.
pub struct TrustVerifier {
    grounds: RwLock<Grounds>,
    generation: AtomicU64,
    signatures: SignatureMemory,
    time: Box<dyn Fn() -> Time + Send + Sync>,
}

impl TrustVerifier {
    /// Trusts `anchors` under `policy`; `time` says what time it is, or that nobody knows (R-MTP.2). Nothing is stored, no
    /// broker trusted, revocation is not looked at, and nobody is trusted on first use.
    pub fn new(
        anchors: Vec<Anchor>,
        policy: Policy,
        time: impl Fn() -> Time + Send + Sync + 'static,
    ) -> Self {
        Self {
            grounds: RwLock::new(Grounds {
                anchors,
                brokers: Vec::new(),
                stored: Vec::new(),
                policy,
                first_use: FirstUse::Refuse,
                revocation: None,
            }),
            generation: AtomicU64::new(1),
            signatures: SignatureMemory::new(MAX_SIGNATURES),
            time: Box::new(time),
        }
    }

    /// Remembers this many signatures of certificates as verified, some 80 bytes each, instead of 16,384. They are
    /// verified once then, however often a peer comes; everything else about a certificate is looked at every time.
    #[must_use]
    pub fn remembering(mut self, signatures: usize) -> Self {
        self.signatures = SignatureMemory::new(signatures);
        self
    }

    /// Trusts `anchors` from now on, and no other.
    pub fn replace_anchors(&self, anchors: Vec<Anchor>) {
        self.change(|grounds| grounds.anchors = anchors);
    }

    /// Applies `policy` from now on.
    pub fn replace_policy(&self, policy: Policy) {
        self.change(|grounds| grounds.policy = policy);
    }

    /// Takes these certificates for these Endpoints from now on, and no other (R-SEC.4, R-SEC.8).
    pub fn replace_stored(&self, stored: Vec<StoredCertificate>) {
        self.change(|grounds| grounds.stored = stored);
    }

    /// Trusts these brokers from now on, and no other (R-SEC.4a).
    pub fn replace_brokers(&self, brokers: Vec<Anchor>) {
        self.change(|grounds| grounds.brokers = brokers);
    }

    /// What becomes of a peer that nobody vouches for, from now on.
    pub fn set_first_use(&self, first_use: FirstUse) {
        self.change(|grounds| grounds.first_use = first_use);
    }

    /// Looks at `revocation` from now on. What a held association waits for goes to `fetch`, which must not block, and is told the
    /// same again while it is missing. When evidence has come, the owner of the associations is to
    /// [judge again](super::Sessions::judge_again); tickets stay good, since dates and revocation are looked at
    /// whenever one is used.
    pub fn set_revocation(
        &self,
        revocation: Arc<RwLock<Revocation>>,
        fetch: impl Fn(&[Wanted]) + Send + Sync + 'static,
    ) {
        self.change(|grounds| grounds.revocation = Some((revocation, Arc::new(fetch))));
    }

    fn change(&self, change: impl FnOnce(&mut Grounds)) {
        change(&mut self.grounds.write().unwrap_or_else(PoisonError::into_inner));
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

impl Verifier for TrustVerifier {
    fn verify(&self, chain: &[Vec<u8>], role: Role<'_>, cached: bool) -> Decision {
        let grounds = self.grounds.read().unwrap_or_else(PoisonError::into_inner);
        let evidence = grounds
            .revocation
            .as_ref()
            .map(|(revocation, _)| revocation.read().unwrap_or_else(PoisonError::into_inner));
        let connection = match role {
            Role::Initiated { host, endpoint_id } => Connection::Initiated { host, endpoint_id },
            Role::Accepted => Connection::Accepted,
        };
        let mut context =
            Context::new(&grounds.anchors, (self.time)(), connection, &grounds.policy);
        context.stored = &grounds.stored;
        context.brokers = &grounds.brokers;
        context.cached = cached;
        context.signatures = Some(&self.signatures);
        context.revocation = evidence.as_deref();
        context.first_use = grounds.first_use;
        let decision = homefleet_trust::decide(chain, &context);
        drop(evidence);
        let fetch = grounds
            .revocation
            .as_ref()
            .map(|(_, fetch)| Arc::clone(fetch));
        drop(grounds);
        if let (Outcome::Hold(wanted), Some(fetch)) = (&decision.outcome, fetch) {
            fetch(wanted);
        }
        decision
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    fn time(&self) -> Option<SystemTime> {
        match (self.time)() {
            Time::Accurate(time) => Some(time),
            Time::Unknown => None,
        }
    }
}

impl fmt::Debug for TrustVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let anchors = self
            .grounds
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .anchors
            .len();
        f.debug_struct("TrustVerifier")
            .field("anchors", &anchors)
            .finish_non_exhaustive()
    }
}
