//! Proof of possession of private keys: verifying and making (RFC 4211 §4, RFC 9483 §4.1.1 and §4.1.3).

use der::{Decode, Encode, asn1::BitString};

use crate::{
    asn1::{
        AuthInfo, CertReqMsg, CertRequest, Kept, ProofOfPossession, PublicKeyInfo, SignatureInput,
        SigningKeyProof,
    },
    certificate::RequestParts,
    crypto::{Mac, MacPolicy, SignError, Signer, verify_signature},
    protection::Protection,
    refusal::Refusal,
};

/// What a request proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Possession {
    /// The requester has the private key of this public key.
    Proven(PublicKeyInfo),
    /// An RA says that it verified it (`raVerified`); whether that RA may is for the authority to decide.
    RaVerified(PublicKeyInfo),
    /// The CA shall generate the key; the algorithm may stand in a key without bits (RFC 9483 §4.1.6).
    KeyWanted(Option<PublicKeyInfo>),
}

/// Verifies the proof of a request over the received bytes.
pub fn verify(
    request: &CertReqMsg,
    protection: &Protection,
    policy: &MacPolicy,
) -> Result<Possession, Refusal> {
    let template = &request.cert_req.cert_template;
    let key = template.public_key.as_ref();
    let absent = key.is_none_or(is_without_bits);
    match (&request.popo, key) {
        (None, key) if absent => Ok(Possession::KeyWanted(key.cloned())),
        (Some(_), _) if absent => Err(Refusal::Possession(
            "a key that the CA generates cannot be proven",
        )),
        (Some(ProofOfPossession::Signature(proof)), Some(key)) => {
            verify_signing(request, proof, key, protection, policy)?;
            Ok(Possession::Proven(key.clone()))
        }
        (Some(ProofOfPossession::RaVerified(_)), Some(key)) => {
            Ok(Possession::RaVerified(key.clone()))
        }
        (Some(_), _) => Err(Refusal::Possession("only signatures are supported")),
        (None, _) => Err(Refusal::Possession("it is missing")),
    }
}

/// A `SubjectPublicKeyInfo` whose BIT STRING is empty.
fn is_without_bits(key: &PublicKeyInfo) -> bool {
    x509_cert::spki::SubjectPublicKeyInfoOwned::from_der(&key.to_der())
        .is_ok_and(|info| info.subject_public_key.bit_len() == 0)
}

fn verify_signing(
    request: &CertReqMsg,
    proof: &SigningKeyProof,
    key: &PublicKeyInfo,
    protection: &Protection,
    policy: &MacPolicy,
) -> Result<(), Refusal> {
    let template = &request.cert_req.cert_template;
    let signed = match &proof.input {
        // RFC 4211 §4.1: without the input, subject and key have to stand in the template.
        None if template.subject.is_none() => {
            return Err(Refusal::Possession(
                "a template without subject needs poposkInput",
            ));
        }
        None => request.cert_req.der().to_vec(),
        Some(input) => {
            if input.public_key != *key {
                return Err(Refusal::Possession("poposkInput is about another key"));
            }
            if !is_authentic(input, protection, policy) {
                return Err(Refusal::Possession("poposkInput is by another sender"));
            }
            // The SEQUENCE that it is, without its tag [0]. Its parts are kept as received, and DER has one way to write the rest.
            input
                .to_der()
                .map_err(|_| Refusal::Possession("poposkInput cannot be encoded"))?
        }
    };
    let signature = proof
        .signature
        .as_bytes()
        .ok_or(Refusal::Possession("the signature has odd bits"))?;
    verify_signature(&proof.algorithm, key, &signed, signature)
        .map_err(|_| Refusal::Possession("the signature does not verify"))
}

/// The sender that the protection proves, or a MAC over the key with the secret of the protection (RFC 4211 §4.1).
fn is_authentic(input: &SignatureInput, protection: &Protection, policy: &MacPolicy) -> bool {
    match (&input.auth_info, protection) {
        (AuthInfo::Sender(name), Protection::Certificate { parts, .. }) => {
            name.as_directory().as_ref() == Some(&parts.subject)
        }
        (AuthInfo::PublicKeyMac(value), Protection::Secret { secret, .. }) => {
            let (Ok(mac), Some(tag)) =
                (Mac::read(&value.algorithm, policy), value.value.as_bytes())
            else {
                return false;
            };
            mac.verify(secret, &input.public_key.to_der(), tag)
        }
        _ => false,
    }
}

/// Verifies the proof of a PKCS #10 request: its signature.
pub fn verify_pkcs10(request: &RequestParts) -> Result<Possession, Refusal> {
    request
        .verify()
        .map_err(|_| Refusal::Possession("the signature does not verify"))?;
    Ok(Possession::Proven(request.public_key.clone()))
}

/// Proves possession of the key of the template by a signature over the request.
pub fn prove(
    cert_req: &Kept<CertRequest>,
    key: &dyn Signer,
) -> Result<ProofOfPossession, SignError> {
    let signature = key.sign(cert_req.der())?;
    Ok(ProofOfPossession::Signature(SigningKeyProof {
        input: None,
        algorithm: key.algorithm(),
        signature: BitString::from_bytes(&signature)
            .map_err(|error| SignError(error.to_string()))?,
    }))
}
