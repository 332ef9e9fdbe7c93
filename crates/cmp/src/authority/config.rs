//! Settings of an RA or CA.

use std::time::Duration;

use crate::{
    asn1::{GeneralName, Limits},
    protection::{Protection, ProtectionPolicy, Protector},
    rules::TimePolicy,
};

/// Settings of an RA or CA.
#[derive(Clone, Debug)]
pub struct AuthorityConfig {
    /// What is read at most.
    pub limits: Limits,
    /// Which protection is accepted.
    pub protection: ProtectionPolicy,
    /// How we protect answers to requests with a signature, and errors to those whom we do not know. Answers to requests with a MAC
    /// have a MAC by the same secret.
    pub protector: Protector,
    /// How far `messageTime` may be away.
    pub time: TimePolicy,
    /// Open transactions at most; more are told systemUnavail.
    pub max_transactions: usize,
    /// Transactions that are over and remembered, so that their first messages are refused when they are replayed. What is forgotten is
    /// kept out by `messageTime` alone.
    pub max_finished: usize,
    /// How long a decision may take until the requester is told to wait and poll.
    pub decide_within: Duration,
    /// After which time a waiting requester shall poll, when the decision does not say.
    pub check_after: Duration,
    /// How long a waiting requester may be silent until the transaction ends.
    pub poll_within: Duration,
    /// How long a certificate may stay unconfirmed.
    pub confirm_within: Duration,
    /// Whether implicit confirmation is granted to those who ask for it.
    pub implicit_confirm: bool,
    /// Whether a request for revocation needs a reason, as RFC 9483 §4.2 says. `openssl cmp` leaves it out unless it is told one.
    pub revocation_needs_reason: bool,
    /// A delayed answer names in `recipNonce` the nonce of the last polling request instead of that of the request, which RFC 9483 §3.1
    /// asks for: clients older than that, such as OpenSSL 3.0, expect it.
    pub delayed_answer_names_poll: bool,
}

impl AuthorityConfig {
    /// 4,096 transactions, 65,536 remembered; 5 s to decide, then polling each 30 s and at least each day; 5 minutes to confirm.
    pub fn new(protector: Protector) -> Self {
        Self {
            limits: Limits::default(),
            protection: ProtectionPolicy::default(),
            protector,
            time: TimePolicy::default(),
            max_transactions: 4_096,
            max_finished: 65_536,
            decide_within: Duration::from_secs(5),
            check_after: Duration::from_secs(30),
            poll_within: Duration::from_secs(86_400),
            confirm_within: Duration::from_secs(300),
            implicit_confirm: true,
            revocation_needs_reason: true,
            delayed_answer_names_poll: false,
        }
    }

    /// The name we send under.
    pub(crate) fn sender(&self) -> GeneralName {
        self.protector.sender().clone()
    }

    /// A MAC by the requester's own secret and algorithm, else the protection that is set.
    pub(crate) fn protector_for(&self, requester: &Protection) -> Protector {
        crate::relay::protector_for(requester, &self.protector)
    }
}
