//! Confirmation of certificates and polling (RFC 9810 §5.3.18, §5.3.22).

use der::{Sequence, asn1::OctetString};

use super::{Algorithm, FreeText, StatusInfo};

/// `CertStatus` (RFC 9810 §5.3.18).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct CertStatus {
    /// Hash of the certificate.
    pub cert_hash: OctetString,
    /// Of the request; 0 in the Lightweight CMP Profile, -1 for p10cr.
    pub cert_req_id: i64,
    /// Whether the certificate is accepted; absent means it is.
    #[asn1(optional = "true")]
    pub status_info: Option<StatusInfo>,
    /// The hash algorithm when the certificate's signature names none (version 3, RFC 9480 §2.10).
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub hash_alg: Option<Algorithm>,
}

/// One entry of `PollReqContent` (RFC 9810 §5.3.22).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Sequence)]
pub struct PollRequest {
    /// Of the request; -1 when a whole message is waited for (RFC 9483 §4.4).
    pub cert_req_id: i64,
}

/// One entry of `PollRepContent` (RFC 9810 §5.3.22).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct PollResponse {
    /// Of the request.
    pub cert_req_id: i64,
    /// Seconds to wait before the next polling request.
    pub check_after: i64,
    /// Why it takes so long.
    #[asn1(optional = "true")]
    pub reason: Option<FreeText>,
}
