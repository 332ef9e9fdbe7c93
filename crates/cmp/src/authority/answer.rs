//! Bodies of answers, and the check of what comes back to them.

use crate::{
    asn1::{
        Body, BodyKind, CertRepMessage, CertResponse, CertStatus, Certificate, ErrorMsg,
        RevRepContent, Status, StatusInfo,
    },
    certificate::CertificateParts,
    crypto::Hash,
    refusal::Refusal,
};

/// The response that belongs to the request, with a status instead of a certificate; an error message for requests that have none.
pub(super) fn rejection_body(kind: BodyKind, cert_req_id: Option<i64>, status: StatusInfo) -> Body {
    match (kind, cert_req_id) {
        (_, Some(cert_req_id)) => certificate_body(
            kind,
            CertRepMessage {
                ca_pubs: None,
                response: vec![CertResponse {
                    cert_req_id,
                    status,
                    certified_key_pair: None,
                    rsp_info: None,
                }],
            },
        ),
        (BodyKind::Rr, None) if status.status() != Status::WAITING => Body::Rp(RevRepContent {
            status: vec![status],
            rev_certs: None,
            crls: None,
        }),
        _ => Body::Error(ErrorMsg::from(status)),
    }
}

pub(super) fn certificate_body(kind: BodyKind, content: CertRepMessage) -> Body {
    match kind {
        BodyKind::Ir => Body::Ip(content),
        BodyKind::Kur => Body::Kup(content),
        _ => Body::Cp(content),
    }
}

/// The confirmation is about this certificate (RFC 9810 §5.3.18).
pub(super) fn check_confirmation(
    status: &CertStatus,
    expected: i64,
    pvno: i64,
    certificate: &Certificate,
) -> Result<(), Refusal> {
    if status.cert_req_id != expected {
        return Err(Refusal::CertReqId {
            expected,
            found: status.cert_req_id,
        });
    }
    let hash = match &status.hash_alg {
        Some(_) if pvno < 3 => return Err(Refusal::HashAlgVersion),
        Some(algorithm) => Hash::from_oid(algorithm.oid)
            .filter(|hash| *hash != Hash::Sha1)
            .ok_or(Refusal::HashAlgorithm(algorithm.oid))?,
        None => CertificateParts::read(certificate)
            .ok()
            .and_then(|parts| parts.confirmation_hash())
            .ok_or_else(|| Refusal::Internal("the certificate's signature has no hash".into()))?,
    };
    if hash.digest(&certificate.to_der()) != status.cert_hash.as_bytes() {
        return Err(Refusal::CertHash);
    }
    Ok(())
}
