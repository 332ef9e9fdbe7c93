//! The answer: outcome, steps, identity.

use std::{fmt, time::SystemTime};

use crate::{error::Refusal, identity::PeerIdentity};

/// What [`crate::decide`] decided, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Establish the session or terminate it.
    pub outcome: Outcome,
    /// The boxes of Figure MTP.1 in the order they were passed.
    pub steps: Vec<Step>,
    /// Who the peer is. `Some` exactly when the outcome is [`Outcome::Establish`].
    pub peer: Option<PeerIdentity>,
    /// The path found, peer's certificate first; when none was found, the certificates presented.
    pub chain: Vec<ChainCertificate>,
}

impl Decision {
    /// The reason of a refusal.
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.outcome {
            Outcome::Establish => None,
            Outcome::Terminate(refusal) => Some(refusal),
        }
    }

    /// Whether the session is established.
    pub fn is_established(&self) -> bool {
        self.outcome == Outcome::Establish
    }
}

/// The two ends of Figure MTP.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// "Establish encrypted MTP session".
    Establish,
    /// "Terminate communication".
    Terminate(Refusal),
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
}

/// The edge that leaves an optional box when its check is not done.
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
}
