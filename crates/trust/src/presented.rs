//! Reading what the peer presented, within the limits.

use crate::{
    certificate::Certificate,
    context::Policy,
    decision::{ChainCertificate, Source},
    error::Refusal,
};

/// The certificates that could be read, each with its place, the peer's own first; and how many could not.
pub(crate) type Presented<'a> = (Vec<(usize, Certificate<'a>)>, usize);

/// Reads the presented certificates. The peer's own has to be readable; others only fail to help.
pub(crate) fn read<'a>(chain: &'a [Vec<u8>], policy: &Policy) -> Result<Presented<'a>, Refusal> {
    let Some(leaf) = chain.first() else {
        return Err(Refusal::NoCertificate);
    };
    let (presented, limit) = (chain.len(), policy.max_chain);
    if presented > limit {
        return Err(Refusal::ChainTooLong { presented, limit });
    }
    let limit = policy.max_certificate_bytes;
    if let Some((index, der)) = chain.iter().enumerate().find(|(_, der)| der.len() > limit) {
        return Err(Refusal::CertificateTooLarge {
            index,
            bytes: der.len(),
            limit,
        });
    }
    let bytes = chain.iter().map(Vec::len).sum();
    if bytes > policy.max_chain_bytes {
        return Err(Refusal::ChainTooLarge {
            bytes,
            limit: policy.max_chain_bytes,
        });
    }
    let leaf = Certificate::parse(leaf).map_err(|problem| Refusal::Malformed { problem })?;
    let mut certificates = vec![(0, leaf)];
    certificates.extend(
        chain
            .iter()
            .enumerate()
            .skip(1)
            .filter_map(|(index, der)| Some((index, Certificate::parse(der).ok()?))),
    );
    let unread = chain.len() - certificates.len();
    Ok((certificates, unread))
}

/// For a person to read.
pub(crate) fn describe(certificate: &Certificate<'_>, source: Source) -> ChainCertificate {
    ChainCertificate {
        subject: certificate.subject.to_string(),
        issuer: certificate.issuer.to_string(),
        not_before: certificate.not_before,
        not_after: certificate.not_after,
        fingerprint: certificate.fingerprint(),
        source,
    }
}
