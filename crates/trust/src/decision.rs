//! The answer: outcome, steps, identity.

use std::{fmt, time::SystemTime};

use crate::{error::Refusal, identity::PeerIdentity, revocation::Wanted};

/// What [`crate::decide`] decided, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Establish the session, hold it, or terminate it.
    pub outcome: Outcome,
    /// The boxes of Figure MTP.1 in the order they were passed.
    pub steps: Vec<Step>,
    /// Who the peer is. `Some` exactly when the outcome is [`Outcome::Establish`].
    pub peer: Option<PeerIdentity>,
    /// The path found, peer's certificate first; when none was found, the certificates presented.
    pub chain: Vec<ChainCertificate>,
    /// By which way through the figure the session was established. `Some` exactly when the outcome is [`Outcome::Establish`].
    pub basis: Option<Basis>,
    /// When to decide anew: the earliest end of what the decision rests on (validity of a certificate of the path, revocation
    /// evidence), or when what could not be found out is worth another try. `None` when the session is not established, or there is no accurate absolute time.
    pub valid_until: Option<SystemTime>,
}

impl Decision {
    /// Takes a peer without judging it: for protocols that run over DTLS or TLS for secrecy only. The identity says nothing of what the
    /// certificate says, if there is one, but its fingerprint.
    pub fn not_verified(chain: &[Vec<u8>]) -> Self {
        Self {
            outcome: Outcome::Establish,
            steps: Vec::new(),
            peer: Some(PeerIdentity::not_verified(chain.first().map(Vec::as_slice))),
            chain: Vec::new(),
            basis: Some(Basis::NotVerified),
            valid_until: None,
        }
    }

    /// The reason of a refusal.
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.outcome {
            Outcome::Establish | Outcome::Hold(_) => None,
            Outcome::Terminate(refusal) => Some(refusal),
        }
    }

    /// Turns the decision into this refusal: for a caller whose own rule comes after the figure's.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.outcome = Outcome::Terminate(refusal);
        self.peer = None;
        self.basis = None;
        self.valid_until = None;
    }

    /// Whether the session is established.
    pub fn is_established(&self) -> bool {
        self.outcome == Outcome::Establish
    }
}

/// The two ends of Figure MTP.1, and the wait before its last box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// "Establish encrypted MTP session".
    Establish,
    /// Everything else is passed and the box "Revoked?" cannot be answered yet: fetch this, give it to
    /// [`crate::Revocation`], and decide again. Nothing may pass until then. Never empty.
    Hold(Vec<Wanted>),
    /// "Terminate communication".
    Terminate(Refusal),
}

/// What a session or an identity rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// The transport resumed a session that was accepted before. Of a decision only, never of an identity.
    CachedSession,
    /// The certificate is stored for this Endpoint (R-SEC.4, R-SEC.8).
    StoredCertificate,
    /// A path to a trusted CA, or the certificate is itself configured as trusted.
    TrustedCa,
    /// The certificate is a Trusted Broker's (R-SEC.4a): it vouches for the `from_id` of others.
    TrustedBroker,
    /// Nothing at all: the peer showed no certificate, or one that nobody judged, to somebody who takes such peers because what they send
    /// proves its origin itself. [`crate::decide`] never says so.
    NotVerified,
    /// Nothing but that this peer came first: it is who it says only as far as later connections go (R-SEC.6).
    FirstUse,
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Basis::CachedSession => "cached session",
            Basis::StoredCertificate => "stored certificate",
            Basis::TrustedCa => "trusted CA",
            Basis::TrustedBroker => "Trusted Broker",
            Basis::NotVerified => "nothing",
            Basis::FirstUse => "trust on first use",
        })
    }
}

/// One box of the figure as it was passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which box.
    pub element: Element,
    /// The answer given.
    pub answer: Answer,
    /// Why, for a person.
    pub detail: String,
}

impl Step {
    /// Whether the box is mandatory (R-MTP.4) or optional (R-MTP.4a).
    pub fn level(&self) -> Level {
        self.element.level()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} [{}] {}: {}",
            self.element,
            self.level(),
            self.answer,
            self.detail
        )
    }
}

/// The boxes of Figure MTP.1 (USP 1.2 `mtp.md`), in its order, after R-MTP.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Element {
    /// "Certificate Presented": where the figure starts; without one R-MTP.1 ends the walk.
    CertificatePresented,
    /// "Cached encrypted session?" (OPT)
    CachedSession,
    /// "Dates valid?" (MUST)
    DatesValid,
    /// "Domain in server cert matches URL (wildcard ok) -or- URL is *.local. or *.home.arpa -or- EID in cert matches target Controller EID?" (MUST)
    NameMatches,
    /// "Matches stored, valid cert ok for Controller?" (OPT)
    StoredCertificate,
    /// "Signed by a trusted CA or is Trusted Broker?" (MUST)
    TrustedCa,
    /// "Trusted signature required?" (OPT)
    TrustedSignatureRequired,
    /// "Revoked?" (OPT)
    Revoked,
}

impl Element {
    /// Every box, in the figure's order.
    pub const ALL: [Self; 8] = [
        Self::CertificatePresented,
        Self::CachedSession,
        Self::DatesValid,
        Self::NameMatches,
        Self::StoredCertificate,
        Self::TrustedCa,
        Self::TrustedSignatureRequired,
        Self::Revoked,
    ];

    /// MUST or OPT, as the figure marks it (R-MTP.1 for the start).
    pub fn level(self) -> Level {
        match self {
            Self::CertificatePresented | Self::DatesValid | Self::NameMatches | Self::TrustedCa => {
                Level::Must
            }
            Self::CachedSession
            | Self::StoredCertificate
            | Self::TrustedSignatureRequired
            | Self::Revoked => Level::Opt,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::CertificatePresented => "Certificate presented?",
            Self::CachedSession => "Cached encrypted session?",
            Self::DatesValid => "Dates valid?",
            Self::NameMatches => "Name matches?",
            Self::StoredCertificate => "Matches stored certificate?",
            Self::TrustedCa => "Signed by a trusted CA?",
            Self::TrustedSignatureRequired => "Trusted signature required?",
            Self::Revoked => "Revoked?",
        })
    }
}

/// How binding a box is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// R-MTP.4.
    Must,
    /// R-MTP.4a.
    Opt,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Must => "MUST",
            Level::Opt => "OPT",
        })
    }
}

/// The answer in a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Y.
    Yes,
    /// N.
    No,
    /// The box does not concern this connection; the walk goes on.
    NotApplicable,
    /// The optional check is not done; the figure's default edge is taken (`Y` or `N`).
    NotDone(DefaultEdge),
    /// The check could not be completed; the policy for that takes this edge.
    Unclear(DefaultEdge),
    /// The check waits for evidence: the session is held.
    Waiting,
}

/// The edge that leaves an optional box when its check is not done or not completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DefaultEdge {
    /// Y.
    Yes,
    /// N.
    No,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Answer::Yes => "yes",
            Answer::No => "no",
            Answer::NotApplicable => "not applicable",
            Answer::NotDone(DefaultEdge::Yes) => "not done: default edge Y",
            Answer::NotDone(DefaultEdge::No) => "not done: default edge N",
            Answer::Unclear(DefaultEdge::Yes) => "could not be found out: edge Y by policy",
            Answer::Unclear(DefaultEdge::No) => "could not be found out: edge N by policy",
            Answer::Waiting => "waiting for evidence",
        })
    }
}

/// One certificate of the path found, for a person to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainCertificate {
    /// Subject, as RFC 4514 text.
    pub subject: String,
    /// Issuer, as RFC 4514 text.
    pub issuer: String,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
    /// SHA-256 of the DER.
    pub fingerprint: [u8; 32],
    /// Where it came from.
    pub source: Source,
}

/// Where a certificate of the path came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The peer presented it, at this index.
    Presented(usize),
    /// It is the anchor at this index of [`crate::Context::anchors`].
    Anchor(usize),
    /// It is the Trusted Broker at this index of [`crate::Context::brokers`].
    Broker(usize),
}
