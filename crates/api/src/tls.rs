//! The server's own certificate, whom it trusts, and whom it refused.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// Certificates in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tls {
    /// The server's own.
    pub certificate: OwnCertificate,
    /// CAs that devices' certificates must lead to.
    pub anchors: Vec<TrustedCertificate>,
    /// When the files were last taken over.
    pub loaded: Timestamp,
    /// Why files that changed since were not taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Hosts that evidence about revocation cannot be fetched from, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreachable: Vec<String>,
    /// Peers refused because of their certificates, the last one first.
    pub refusals: Vec<PeerRefusal>,
}

/// The server's own certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnCertificate {
    /// Subject, as RFC 4514 text.
    pub subject: String,
    /// SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
    /// End of validity.
    pub not_after: Timestamp,
}

/// A trusted certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrustedCertificate {
    /// Subject, as RFC 4514 text.
    pub subject: String,
    /// SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
}

/// A peer that was refused because of its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerRefusal {
    /// When it happened last.
    pub time: Timestamp,
    /// How often, one after the other.
    pub count: u64,
    /// Kind of reason, as in the label of the metric `homefleet_refusals`.
    pub reason: String,
    /// The reason for a person.
    pub message: String,
    /// The TLS alert that the peer was sent.
    pub alert: u8,
    /// Subject of the certificate presented, which nobody has vouched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// SHA-256 of the certificate presented, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Whether the server had opened the connection.
    pub initiated: bool,
}
