//! The issuing CA as it runs: its certificate, those above it, and its key.

use std::path::Path;
use std::sync::Arc;

use der::{Decode as _, Encode as _};
use homefleet_cmp::crypto::{SignError, Signer};
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectKeyIdentifier};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::certificate;
use super::error::PkiError;
use super::rollover::Hierarchy;
use crate::clock::Millis;

/// Most certificates of a chain.
const MAX_CHAIN: usize = 8;

/// An issuing CA.
pub(super) struct Authority {
    /// Whom it leads to.
    pub(super) hierarchy: Hierarchy,
    pub(super) certificate: Certificate,
    /// The subject in DER.
    pub(super) name: Vec<u8>,
    pub(super) key_id: Vec<u8>,
    pub(super) not_before: Millis,
    pub(super) not_after: Millis,
    /// The signature algorithm in DER.
    pub(super) algorithm: Vec<u8>,
    signer: Arc<dyn Signer>,
    /// Signing waits for a device or takes its time.
    blocking: bool,
}

impl Authority {
    /// A CA from its chain, issuing CA first, and its key.
    pub(super) fn new(
        path: &Path,
        hierarchy: Hierarchy,
        signer: Arc<dyn Signer>,
        blocking: bool,
    ) -> Result<Self, PkiError> {
        let wrong = |problem: String| PkiError::Certificate {
            path: path.to_owned(),
            problem,
        };
        let chain = &hierarchy.chain;
        if chain.is_empty() || chain.len() > MAX_CHAIN {
            let found = chain.len();
            return Err(wrong(format!(
                "{found} certificates, expected 1 to {MAX_CHAIN}"
            )));
        }
        let read: Vec<Certificate> = chain
            .iter()
            .map(|der| Certificate::from_der(der).map_err(|error| wrong(error.to_string())))
            .collect::<Result<_, _>>()?;
        for (place, ca) in read.iter().enumerate() {
            check_ca(ca, place).map_err(&wrong)?;
            // The root is there by the operator's word; every other one by the signature of the next.
            if let Some(above) = chain.get(place + 1) {
                check_signed(&chain[place], above).map_err(&wrong)?;
            }
        }
        // Not empty: see above.
        let certificate = read[0].clone();
        let tbs = certificate.tbs_certificate();
        let encode = |error: der::Error| wrong(error.to_string());
        let spki = tbs.subject_public_key_info().to_der().map_err(encode)?;
        if spki != signer.public_key().to_der() {
            return Err(PkiError::KeyDiffers);
        }
        let given = tbs
            .get_extension::<SubjectKeyIdentifier>()
            .map_err(encode)?;
        let seconds = |time: &x509_cert::time::Time| Millis::from(time.to_system_time());
        Ok(Self {
            name: tbs.subject().to_der().map_err(encode)?,
            key_id: match given {
                Some((_, id)) => id.0.as_bytes().to_vec(),
                None => key_id(&spki),
            },
            not_before: seconds(&tbs.validity().not_before),
            not_after: seconds(&tbs.validity().not_after),
            algorithm: signer.algorithm().to_der().map_err(encode)?,
            hierarchy,
            certificate,
            signer,
            blocking,
        })
    }

    /// The same CA, with the same key, after something has happened to those above it.
    pub(super) fn under(&self, path: &Path, hierarchy: Hierarchy) -> Result<Self, PkiError> {
        Self::new(path, hierarchy, Arc::clone(&self.signer), self.blocking)
    }

    /// Whether its certificate is valid at a time.
    pub(super) fn is_valid(&self, now: Millis) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// Signs what is in DER, and puts both together.
    pub(super) async fn sign(&self, contents: Vec<u8>) -> Result<Vec<u8>, SignError> {
        if !self.blocking {
            let signature = self.signer.sign(&contents)?;
            return Ok(certificate::signed(&contents, &self.algorithm, &signature));
        }
        let signer = Arc::clone(&self.signer);
        let (contents, signature) = tokio::task::spawn_blocking(move || {
            let signature = signer.sign(&contents);
            (contents, signature)
        })
        .await
        .map_err(|error| SignError(error.to_string()))?;
        Ok(certificate::signed(&contents, &self.algorithm, &signature?))
    }
}

/// A key identifier: 160 bits of SHA-256 over the key (RFC 7093 §2).
pub(super) fn key_id(spki: &[u8]) -> Vec<u8> {
    let bits = SubjectPublicKeyInfoRef::from_der(spki)
        .ok()
        .and_then(|info| info.subject_public_key.as_bytes());
    Sha256::digest(bits.unwrap_or(spki))[..20].to_vec()
}

fn check_ca(certificate: &Certificate, below: usize) -> Result<(), String> {
    let tbs = certificate.tbs_certificate();
    let name = tbs.subject().to_string();
    let constraints = tbs
        .get_extension::<BasicConstraints>()
        .map_err(|error| error.to_string())?;
    let Some((_, constraints)) = constraints.filter(|(_, constraints)| constraints.ca) else {
        return Err(format!("{name} is not the certificate of a CA"));
    };
    // `below` counts the CAs between this one and the certificates that are issued.
    if constraints
        .path_len_constraint
        .is_some_and(|most| usize::from(most) < below)
    {
        return Err(format!(
            "{name} may not have {below} CAs below it (pathLenConstraint)"
        ));
    }
    let usage = tbs
        .get_extension::<KeyUsage>()
        .map_err(|error| error.to_string())?;
    if let Some((_, usage)) = usage
        && !(usage.key_cert_sign() && usage.crl_sign())
    {
        return Err(format!(
            "{name} may not sign certificates and lists (keyUsage)"
        ));
    }
    Ok(())
}

fn check_signed(certificate: &[u8], above: &[u8]) -> Result<(), String> {
    let parts = |der: &[u8]| {
        homefleet_cmp::asn1::Certificate::from_der(der)
            .and_then(|certificate| homefleet_cmp::CertificateParts::read(&certificate))
            .map_err(|error| error.to_string())
    };
    let (certificate, above) = (parts(certificate)?, parts(above)?);
    if certificate.issuer != above.subject {
        return Err("a certificate of the chain is not issued by the next one".to_owned());
    }
    certificate.verify(&above.public_key).map_err(|error| {
        format!("a certificate of the chain is not signed by the next one: {error}")
    })
}
