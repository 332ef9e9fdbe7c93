//! Verifying signatures: RSA PKCS#1 v1.5 and PSS, ECDSA P-256 and P-384, Ed25519, with SHA-2 only (RFC 9481 §3).

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1, ECDSA_P384_SHA256_ASN1,
    ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA512_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use der::{
    Decode, Sequence,
    asn1::{Any, BitString, ObjectIdentifier, UintRef},
};

use super::Hash;
use crate::{
    asn1::{Algorithm, PublicKeyInfo},
    oid,
};

/// Why a signature is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The signature algorithm is too weak or not implemented.
    #[error("the signature algorithm {0} is not accepted")]
    Algorithm(ObjectIdentifier),
    /// The key is of a kind that is not implemented, or cannot be read.
    #[error("the key is of a kind that is not accepted")]
    Key,
    /// It does not verify.
    #[error("the signature does not verify")]
    Bad,
}

/// Whether `signature` over `signed` verifies under `key`.
pub fn verify_signature(
    algorithm: &Algorithm,
    key: &PublicKeyInfo,
    signed: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    let key = Key::read(key)?;
    let function = function(algorithm, &key).ok_or(SignatureError::Algorithm(algorithm.oid))?;
    UnparsedPublicKey::new(function, &key.bytes)
        .verify(signed, signature)
        .map_err(|_| SignatureError::Bad)
}

/// Kind and size of a key: bits of the modulus, of the curve, or 256 for Ed25519. Other kinds have none.
pub fn public_key_bits(key: &PublicKeyInfo) -> Option<(ObjectIdentifier, usize)> {
    let key = Key::read(key).ok()?;
    let bits = match key.kind {
        Kind::P256 | Kind::Ed25519 => 256,
        Kind::P384 => 384,
        Kind::Rsa | Kind::RsaPss => {
            let modulus = RsaKey::from_der(&key.bytes).ok()?.modulus;
            let first = modulus.as_bytes().first()?;
            modulus.as_bytes().len() * 8 - first.leading_zeros() as usize
        }
    };
    let oid = match key.kind {
        Kind::Rsa => oid::RSA,
        Kind::RsaPss => oid::RSA_PSS,
        Kind::P256 => oid::P256,
        Kind::P384 => oid::P384,
        Kind::Ed25519 => oid::ED25519,
    };
    Some((oid, bits))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    RsaPss,
    P256,
    P384,
    Ed25519,
}

struct Key {
    kind: Kind,
    bytes: Vec<u8>,
}

impl Key {
    fn read(key: &PublicKeyInfo) -> Result<Self, SignatureError> {
        let info = Info::from_der(&key.to_der()).map_err(|_| SignatureError::Key)?;
        let parameters = info.algorithm.parameters;
        let kind = match info.algorithm.oid {
            oid::RSA => Kind::Rsa,
            oid::RSA_PSS => Kind::RsaPss,
            oid::EC_PUBLIC_KEY => {
                match parameters.and_then(|p| p.decode_as::<ObjectIdentifier>().ok()) {
                    Some(oid::P256) => Kind::P256,
                    Some(oid::P384) => Kind::P384,
                    _ => return Err(SignatureError::Key),
                }
            }
            oid::ED25519 => Kind::Ed25519,
            _ => return Err(SignatureError::Key),
        };
        let bytes = info.bits.as_bytes().ok_or(SignatureError::Key)?.to_vec();
        Ok(Self { kind, bytes })
    }
}

#[derive(Sequence)]
struct Info {
    algorithm: Algorithm,
    bits: BitString,
}

#[derive(Sequence)]
struct RsaKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// The verification for this algorithm with this kind of key; nothing when they do not belong together.
fn function(algorithm: &Algorithm, key: &Key) -> Option<&'static dyn VerificationAlgorithm> {
    let bare = algorithm.parameters.as_ref().is_none_or(Any::is_null);
    Some(match (algorithm.oid, key.kind) {
        (oid::RSA_SHA256, Kind::Rsa) if bare => &RSA_PKCS1_2048_8192_SHA256,
        (oid::RSA_SHA384, Kind::Rsa) if bare => &RSA_PKCS1_2048_8192_SHA384,
        (oid::RSA_SHA512, Kind::Rsa) if bare => &RSA_PKCS1_2048_8192_SHA512,
        (oid::RSA_PSS, Kind::Rsa | Kind::RsaPss) => match pss_hash(algorithm)? {
            Hash::Sha256 => &RSA_PSS_2048_8192_SHA256,
            Hash::Sha384 => &RSA_PSS_2048_8192_SHA384,
            Hash::Sha512 => &RSA_PSS_2048_8192_SHA512,
            Hash::Sha1 | Hash::Sha224 => return None,
        },
        (oid::ECDSA_SHA256, Kind::P256) => &ECDSA_P256_SHA256_ASN1,
        (oid::ECDSA_SHA384, Kind::P256) => &ECDSA_P256_SHA384_ASN1,
        (oid::ECDSA_SHA512, Kind::P256) => &ECDSA_P256_SHA512_ASN1,
        (oid::ECDSA_SHA256, Kind::P384) => &ECDSA_P384_SHA256_ASN1,
        (oid::ECDSA_SHA384, Kind::P384) => &ECDSA_P384_SHA384_ASN1,
        (oid::ECDSA_SHA512, Kind::P384) => &ECDSA_P384_SHA512_ASN1,
        (oid::ED25519, Kind::Ed25519) => &ED25519,
        _ => return None,
    })
}

/// `RSASSA-PSS-params` (RFC 4055 §3.1). The defaults mean SHA-1.
#[derive(Sequence)]
pub(crate) struct PssParameters {
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub(crate) hash: Option<Algorithm>,
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    pub(crate) mask: Option<Algorithm>,
    #[asn1(context_specific = "2", optional = "true", tag_mode = "EXPLICIT")]
    pub(crate) salt: Option<u16>,
    #[asn1(context_specific = "3", optional = "true", tag_mode = "EXPLICIT")]
    pub(crate) trailer: Option<u16>,
}

/// The hash of PSS parameters that are accepted: SHA-2, the same in the mask, and a salt as long as it.
pub(crate) fn pss_hash(algorithm: &Algorithm) -> Option<Hash> {
    let parameters: PssParameters = algorithm.parameters.as_ref()?.decode_as().ok()?;
    let hash = Hash::from_oid(parameters.hash?.oid)?;
    let mask = parameters.mask?;
    let mask_hash: Algorithm = mask.parameters?.decode_as().ok()?;
    let accepted = matches!(hash, Hash::Sha256 | Hash::Sha384 | Hash::Sha512)
        && mask.oid == oid::MGF1
        && Hash::from_oid(mask_hash.oid) == Some(hash)
        && parameters.salt.map(usize::from) == Some(hash.bytes())
        && parameters.trailer.is_none_or(|trailer| trailer == 1);
    accepted.then_some(hash)
}
