//! One transaction, seen from the RA or CA.

use std::time::{Duration, Instant};

use super::{Decision, ExchangeId};
use crate::{
    asn1::{BodyKind, Certificate, GeneralName},
    protection::Protection,
};

pub(super) struct Transaction {
    /// The request.
    pub(super) kind: BodyKind,
    pub(super) pvno: i64,
    pub(super) peer: GeneralName,
    pub(super) protection: Protection,
    /// Of a request for a certificate.
    pub(super) cert_req_id: Option<i64>,
    pub(super) wants_implicit: bool,
    pub(super) request_nonce: Vec<u8>,
    /// Nonces that must not come again: that of the message before. An older one does not get here, as our nonce is fresh in each message.
    pub(super) seen: Vec<Vec<u8>>,
    /// Our last nonce; `None`: it is not known any more.
    pub(super) sent_nonce: Option<Vec<u8>>,
    pub(super) state: State,
    pub(super) deadline: Instant,
}

impl Transaction {
    /// `certReqId` of polling: that of the request, or -1 when a whole message is waited for (RFC 9483 §4.4).
    pub(super) fn poll_id(&self) -> i64 {
        self.cert_req_id.unwrap_or(-1)
    }
}

pub(super) enum State {
    /// The application decides; the exchange stays open.
    Deciding {
        exchange: ExchangeId,
        /// The requester's nonce, for the answer.
        nonce: Vec<u8>,
    },
    /// The requester polls.
    Waiting {
        check_after: Duration,
        reason: Option<String>,
    },
    /// Decided; the next polling request gets it.
    Ready(Box<Decision>),
    /// The certificate is out and has to be confirmed.
    Confirming { certificate: Certificate },
}
