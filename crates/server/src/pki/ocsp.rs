//! The OCSP responder (RFC 6960), with nonces by RFC 8954.
//!
//! It answers for the certificates of the issuing CA, from the store: a revocation counts with its commit. The hash in a CertID
//! may be SHA-1, which most clients send and which protects nothing here.

use std::time::Duration;

use der::asn1::{Any, Int, ObjectIdentifier, OctetString};
use der::{Decode as _, Encode as _, Sequence};
use homefleet_cmp::crypto::Hash;
use x509_cert::ext::Extensions;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoRef};

use super::Pki;
use super::asn1::{
    ENUMERATED, OCTETS, context, context_primitive, generalized_time, list, oid, sequence, tlv,
};
use super::certificate::{extension, signed};
use super::error::PkiError;
use super::serial::Serial;
use crate::store::pki::CertificateState;

/// Longest request, in bytes.
pub const MAX_OCSP_REQUEST: usize = 8 * 1024;
/// Most certificates asked about in one request.
const MAX_ENTRIES: usize = 16;
/// Longest nonce (RFC 8954 §2.1).
const MAX_NONCE: usize = 32;

const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
const NONCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.2");

/// `OCSPResponseStatus` without an answer (RFC 6960 §4.2.1).
#[derive(Clone, Copy)]
enum Failure {
    MalformedRequest = 1,
    InternalError = 2,
}

impl Pki {
    /// The response to a request, both in DER. There is always one: what went wrong is said in it.
    pub async fn ocsp(&self, request: &[u8]) -> Vec<u8> {
        let failure = |failure: Failure| sequence(&[&tlv(ENUMERATED, &[&[failure as u8]])]);
        let Some(request) = Request::read(request) else {
            return failure(Failure::MalformedRequest);
        };
        match self.ocsp_answer(&request).await {
            Ok(response) => response,
            Err(error) => {
                tracing::error!(%error, "no OCSP response");
                failure(Failure::InternalError)
            }
        }
    }

    async fn ocsp_answer(&self, request: &Request) -> Result<Vec<u8>, PkiError> {
        let signer = self.ocsp_signer()?;
        let now = self.0.clock.now();
        let lifetime = Duration::from_secs(self.0.settings.ocsp_lifetime);
        let mut entries = Vec::with_capacity(request.certificates.len());
        for id in &request.certificates {
            let status = self.ocsp_status(id).await?;
            entries.push(sequence(&[
                &id.der,
                &status,
                &generalized_time(now),
                &context(0, &[&generalized_time(now.plus(lifetime))]),
            ]));
        }
        let key = signer.signer.public_key().to_der();
        let responder = context(2, &[&tlv(OCTETS, &[&Hash::Sha1.digest(key_bits(&key))])]);
        let nonce = match &request.nonce {
            Some(nonce) => context(1, &[&list(&[extension(NONCE, false, nonce)])]),
            None => Vec::new(),
        };
        let contents = sequence(&[&responder, &generalized_time(now), &list(&entries), &nonce]);
        let failed = |error: String| PkiError::Key(error);
        let signature = signer.signer.sign(&contents);
        let signature = signature.map_err(|error| failed(error.to_string()))?;
        let algorithm = signer.signer.algorithm().to_der();
        let algorithm = algorithm.map_err(|error| failed(error.to_string()))?;
        let certificates = context(0, &[&list(&signer.chain[..1])]);
        // BasicOCSPResponse is something signed, with certificates after it.
        let bare = signed(&contents, &algorithm, &signature);
        let inner = Any::from_der(&bare).map_err(|error| failed(error.to_string()))?;
        let basic = sequence(&[inner.value(), &certificates]);
        let bytes = sequence(&[&oid(BASIC), &tlv(OCTETS, &[&basic])]);
        Ok(sequence(&[
            &tlv(ENUMERATED, &[&[0]]),
            &context(0, &[&bytes]),
        ]))
    }

    /// `CertStatus` in DER.
    async fn ocsp_status(&self, id: &CertId) -> Result<Vec<u8>, PkiError> {
        let unknown = || Ok(context_primitive(2, &[]));
        if !self.is_issuer(id) {
            return unknown();
        }
        let Ok(serial) = Serial::from_integer(id.serial.as_bytes()) else {
            return unknown();
        };
        let found = self.0.store.certificate(serial.as_bytes()).await?;
        let Some(record) = found.filter(|record| record.issuer == self.0.authority().key_id) else {
            return unknown();
        };
        Ok(match (record.state, record.revocation) {
            (CertificateState::Revoked, Some(revocation)) => {
                let reason = match revocation.reason {
                    0 => Vec::new(),
                    code => context(0, &[&tlv(ENUMERATED, &[&[code]])]),
                };
                context(1, &[&generalized_time(revocation.at), &reason])
            }
            _ => context_primitive(0, &[]),
        })
    }

    /// Whether the CertID names our issuing CA.
    fn is_issuer(&self, id: &CertId) -> bool {
        let authority = self.0.authority();
        let tbs = authority.certificate.tbs_certificate();
        let Ok(key) = tbs.subject_public_key_info().to_der() else {
            return false;
        };
        id.name_hash == id.hash.digest(&authority.name)
            && id.key_hash == id.hash.digest(key_bits(&key))
    }
}

/// The bits of a SubjectPublicKeyInfo, which key hashes are over.
fn key_bits(spki: &[u8]) -> &[u8] {
    SubjectPublicKeyInfoRef::from_der(spki)
        .ok()
        .and_then(|info| info.subject_public_key.as_bytes())
        .unwrap_or_default()
}

/// What is asked.
struct Request {
    certificates: Vec<CertId>,
    /// The value of the nonce's extension, an OCTET STRING in DER.
    nonce: Option<Vec<u8>>,
}

/// Which certificate is asked about.
struct CertId {
    /// As it came: the response repeats it.
    der: Vec<u8>,
    hash: Hash,
    name_hash: Vec<u8>,
    key_hash: Vec<u8>,
    serial: Int,
}

impl Request {
    fn read(der: &[u8]) -> Option<Self> {
        if der.len() > MAX_OCSP_REQUEST {
            return None;
        }
        // A signature is not asked for, and not looked at (RFC 6960 §4.1.2).
        let request = OcspRequest::from_der(der).ok()?.request;
        if request.version != 0 || !(1..=MAX_ENTRIES).contains(&request.list.len()) {
            return None;
        }
        let certificates = request
            .list
            .iter()
            .map(CertId::read)
            .collect::<Option<_>>()?;
        let extensions = request.extensions.unwrap_or_default();
        let nonce = extensions
            .iter()
            .find(|extension| extension.extn_id == NONCE);
        let nonce = match nonce {
            None => None,
            Some(extension) => {
                let value = extension.extn_value.as_bytes();
                let nonce = OctetString::from_der(value).ok()?;
                if !(1..=MAX_NONCE).contains(&nonce.as_bytes().len()) {
                    return None;
                }
                Some(value.to_vec())
            }
        };
        Some(Self {
            certificates,
            nonce,
        })
    }
}

impl CertId {
    fn read(entry: &Entry) -> Option<Self> {
        let id: WireCertId = entry.id.decode_as().ok()?;
        Some(Self {
            der: entry.id.to_der().ok()?,
            hash: Hash::from_oid(id.algorithm.oid)?,
            name_hash: id.name_hash.as_bytes().to_vec(),
            key_hash: id.key_hash.as_bytes().to_vec(),
            serial: id.serial,
        })
    }
}

#[derive(Sequence)]
struct OcspRequest {
    request: TbsRequest,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    signature: Option<Any>,
}

#[derive(Sequence)]
struct TbsRequest {
    #[asn1(
        context_specific = "0",
        tag_mode = "EXPLICIT",
        default = "Default::default"
    )]
    version: u8,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    requestor: Option<Any>,
    list: Vec<Entry>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Extensions>,
}

#[derive(Sequence)]
struct Entry {
    id: Any,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Any>,
}

#[derive(Sequence)]
struct WireCertId {
    algorithm: AlgorithmIdentifierOwned,
    name_hash: OctetString,
    key_hash: OctetString,
    serial: Int,
}
