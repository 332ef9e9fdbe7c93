//! Settings of an end entity, and what it asks for.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    asn1::{
        CertTemplate, CertificationRequest, GeneralName, Info, Limits, RevDetails, TypeAndValue,
    },
    authority::RequestKind,
    crypto::Signer,
    protection::{ProtectionPolicy, Protector},
    rules::TimePolicy,
};

/// Settings of an end entity.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// What is read at most.
    pub limits: Limits,
    /// Which protection of answers is accepted.
    pub protection: ProtectionPolicy,
    /// How far `messageTime` may be away.
    pub time: TimePolicy,
    /// How we protect what we send.
    pub protector: Protector,
    /// The RA or CA; NULL-DN when its name is not known.
    pub recipient: GeneralName,
    /// The certificate profile to ask for.
    pub profile: Option<String>,
    /// Whether to ask for implicit confirmation.
    pub implicit_confirm: bool,
    /// How long one answer may take.
    pub answer_within: Duration,
    /// The shortest rest between polling requests, whatever the other side says.
    pub poll_at_least: Duration,
    /// The longest rest between polling requests, whatever the other side says.
    pub poll_at_most: Duration,
    /// When polling ends, counted from the start.
    pub give_up_after: Duration,
    /// Whether errors without protection end the transaction. Anybody on the way could send them.
    pub unprotected_errors: bool,
}

impl ClientConfig {
    /// A minute for each answer; polls each second to each hour, for a week; only protected errors.
    pub fn new(protector: Protector, recipient: GeneralName) -> Self {
        Self {
            limits: Limits::default(),
            protection: ProtectionPolicy::default(),
            time: TimePolicy::default(),
            protector,
            recipient,
            profile: None,
            implicit_confirm: false,
            answer_within: Duration::from_secs(60),
            poll_at_least: Duration::from_secs(1),
            poll_at_most: Duration::from_secs(3_600),
            give_up_after: Duration::from_secs(7 * 86_400),
            unprotected_errors: false,
        }
    }
}

/// What is asked for.
pub enum Request {
    /// A certificate: ir, cr or kur ([`RequestKind::Pkcs10`] counts as cr).
    Certificate {
        /// Which request.
        kind: RequestKind,
        /// What it shall contain; the key is filled in.
        template: Box<CertTemplate>,
        /// What controls its issue.
        controls: Vec<TypeAndValue>,
        /// The key; `None`: the CA shall generate it (RFC 9483 §4.1.6).
        key: Option<Arc<dyn Signer>>,
    },
    /// A certificate by a PKCS #10 request: p10cr.
    Pkcs10(CertificationRequest),
    /// A revocation: rr.
    Revocation(Box<RevDetails>),
    /// Information: genm.
    Info(Vec<Info>),
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate { kind, .. } => write!(f, "Request::Certificate({kind:?})"),
            Self::Pkcs10(_) => f.write_str("Request::Pkcs10"),
            Self::Revocation(_) => f.write_str("Request::Revocation"),
            Self::Info(_) => f.write_str("Request::Info"),
        }
    }
}
