//! Signatures and keys: RSA PKCS#1 v1.5 and PSS, ECDSA P-256 and P-384, Ed25519, with SHA-2 only.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1, ECDSA_P384_SHA256_ASN1,
    ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA512_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use der::{
    Decode, Reader, SliceReader, Tag, TagNumber,
    asn1::{AnyRef, ObjectIdentifier, UintRef},
};

use crate::certificate::{Algorithm, Certificate, PublicKey};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ECDSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED_25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");

/// What aws-lc verifies with.
const MAX_RSA_BITS: usize = 8192;

/// A key of a kind that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The hash is the one a PSS-only key is restricted to.
    Rsa {
        pss_only: bool,
        hash: Option<ObjectIdentifier>,
    },
    P256,
    P384,
    Ed25519,
}

/// Why a key is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyProblem {
    Size(usize),
    Algorithm(ObjectIdentifier),
}

/// Whether a key is of a kind and strength that is accepted.
pub(crate) fn check_key(key: &PublicKey<'_>, min_rsa_bits: usize) -> Result<(), KeyProblem> {
    if let Kind::Rsa { .. } = kind(key)? {
        let bits = modulus_bits(key.bytes).ok_or(KeyProblem::Algorithm(key.algorithm.oid))?;
        if bits < min_rsa_bits.max(2048) || bits > MAX_RSA_BITS {
            return Err(KeyProblem::Size(bits));
        }
    }
    Ok(())
}

fn kind(key: &PublicKey<'_>) -> Result<Kind, KeyProblem> {
    let algorithm = key.algorithm;
    let unknown = KeyProblem::Algorithm(algorithm.oid);
    match algorithm.oid {
        RSA if algorithm.is_bare() => Ok(Kind::Rsa {
            pss_only: false,
            hash: None,
        }),
        RSA_PSS => match algorithm.parameters {
            None => Ok(Kind::Rsa {
                pss_only: true,
                hash: None,
            }),
            Some(parameters) => {
                let hash = pss_hash(parameters).ok_or(unknown)?;
                Ok(Kind::Rsa {
                    pss_only: true,
                    hash: Some(hash),
                })
            }
        },
        EC_PUBLIC_KEY => {
            let curve = algorithm
                .parameters
                .and_then(|p| p.decode_as::<ObjectIdentifier>().ok());
            match curve {
                Some(P256) => Ok(Kind::P256),
                Some(P384) => Ok(Kind::P384),
                Some(curve) => Err(KeyProblem::Algorithm(curve)),
                None => Err(unknown),
            }
        }
        ED_25519 if algorithm.parameters.is_none() => Ok(Kind::Ed25519),
        _ => Err(unknown),
    }
}

fn modulus_bits(bytes: &[u8]) -> Option<usize> {
    let mut reader = SliceReader::new(bytes).ok()?;
    let modulus = reader
        .sequence(|r| {
            let modulus: UintRef<'_> = r.decode()?;
            let _exponent: UintRef<'_> = r.decode()?;
            Ok::<_, der::Error>(modulus)
        })
        .ok()?;
    reader.finish().ok()?;
    let bytes = modulus.as_bytes();
    let first = bytes.first()?;
    Some(bytes.len() * 8 - first.leading_zeros() as usize)
}

/// Why a signature is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignatureProblem {
    /// Too weak, or not implemented.
    Algorithm(ObjectIdentifier),
    /// It does not verify.
    Bad,
}

/// Whether the certificate's signature verifies under its issuer's key, over the bytes received (RFC 5280 §6.1.3 (a)(1)).
pub(crate) fn verify(
    certificate: &Certificate<'_>,
    issuer: &PublicKey<'_>,
) -> Result<(), SignatureProblem> {
    verify_bytes(
        &certificate.algorithm,
        certificate.tbs,
        certificate.signature,
        issuer,
    )
}

/// The same for anything signed.
pub(crate) fn verify_bytes(
    algorithm: &Algorithm<'_>,
    signed: &[u8],
    signature: &[u8],
    key: &PublicKey<'_>,
) -> Result<(), SignatureProblem> {
    let refused = SignatureProblem::Algorithm(algorithm.oid);
    let wanted = Wanted::of(algorithm).ok_or(refused)?;
    let kind = kind(key).map_err(|_| SignatureProblem::Bad)?;
    let algorithm = wanted.with(kind).ok_or(SignatureProblem::Bad)?;
    UnparsedPublicKey::new(algorithm, key.bytes)
        .verify(signed, signature)
        .map_err(|_| SignatureProblem::Bad)
}

/// What a signature's `AlgorithmIdentifier` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Pkcs1(ObjectIdentifier),
    Pss(ObjectIdentifier),
    Ecdsa(ObjectIdentifier),
    Ed25519,
}

impl Wanted {
    fn of(algorithm: &Algorithm<'_>) -> Option<Self> {
        let absent = algorithm.parameters.is_none();
        match algorithm.oid {
            RSA_SHA256 if algorithm.is_bare() => Some(Self::Pkcs1(SHA256)),
            RSA_SHA384 if algorithm.is_bare() => Some(Self::Pkcs1(SHA384)),
            RSA_SHA512 if algorithm.is_bare() => Some(Self::Pkcs1(SHA512)),
            RSA_PSS => pss_hash(algorithm.parameters?).map(Self::Pss),
            // Parameters are absent (RFC 5758 §3.2, RFC 8410 §3).
            ECDSA_SHA256 if absent => Some(Self::Ecdsa(SHA256)),
            ECDSA_SHA384 if absent => Some(Self::Ecdsa(SHA384)),
            ECDSA_SHA512 if absent => Some(Self::Ecdsa(SHA512)),
            ED_25519 if absent => Some(Self::Ed25519),
            _ => None,
        }
    }

    /// The verification for this kind of key; `None` when the key cannot have made such a signature.
    fn with(self, kind: Kind) -> Option<&'static dyn VerificationAlgorithm> {
        Some(match (self, kind) {
            (
                Self::Pkcs1(hash),
                Kind::Rsa {
                    pss_only: false, ..
                },
            ) => match hash {
                SHA256 => &RSA_PKCS1_2048_8192_SHA256,
                SHA384 => &RSA_PKCS1_2048_8192_SHA384,
                _ => &RSA_PKCS1_2048_8192_SHA512,
            },
            (Self::Pss(hash), Kind::Rsa { hash: only, .. })
                if only.is_none_or(|only| only == hash) =>
            {
                match hash {
                    SHA256 => &RSA_PSS_2048_8192_SHA256,
                    SHA384 => &RSA_PSS_2048_8192_SHA384,
                    _ => &RSA_PSS_2048_8192_SHA512,
                }
            }
            (Self::Ecdsa(hash), Kind::P256) => match hash {
                SHA256 => &ECDSA_P256_SHA256_ASN1,
                SHA384 => &ECDSA_P256_SHA384_ASN1,
                _ => &ECDSA_P256_SHA512_ASN1,
            },
            (Self::Ecdsa(hash), Kind::P384) => match hash {
                SHA256 => &ECDSA_P384_SHA256_ASN1,
                SHA384 => &ECDSA_P384_SHA384_ASN1,
                _ => &ECDSA_P384_SHA512_ASN1,
            },
            (Self::Ed25519, Kind::Ed25519) => &ED25519,
            _ => return None,
        })
    }
}

/// The hash of `RSASSA-PSS-params` (RFC 4055 §3.1) that are accepted: SHA-2 in both places, salt as long as the hash
/// (what RFC 8446 §4.2.3 asks for too), trailer 1. The defaults mean SHA-1 and are refused by being absent.
fn pss_hash(parameters: AnyRef<'_>) -> Option<ObjectIdentifier> {
    parameters.header().tag().assert_eq(Tag::Sequence).ok()?;
    let mut fields: [Option<&[u8]>; 4] = [None; 4];
    let mut reader = SliceReader::new(parameters.value()).ok()?;
    while !reader.is_finished() {
        let field: AnyRef<'_> = reader.decode().ok()?;
        let Tag::ContextSpecific {
            constructed: true,
            number: TagNumber(number),
        } = field.header().tag()
        else {
            return None;
        };
        let slot = fields.get_mut(usize::try_from(number).ok()?)?;
        if slot.replace(field.value()).is_some() {
            return None;
        }
    }
    let hash = hash(fields[0]?)?;
    let mut reader = SliceReader::new(fields[1]?).ok()?;
    let mask = Algorithm::read(&mut reader).ok()?;
    reader.finish().ok()?;
    let mut inner = Vec::new();
    der::Encode::encode_to_vec(&mask.parameters?, &mut inner).ok()?;
    let salt = u32::from_der(fields[2]?).ok()?;
    let trailer = fields[3].map_or(Some(1), |field| u32::from_der(field).ok())?;
    let length = match hash {
        SHA256 => 32,
        SHA384 => 48,
        _ => 64,
    };
    let accepted =
        mask.oid == MGF1 && self::hash(&inner)? == hash && salt == length && trailer == 1;
    accepted.then_some(hash)
}

fn hash(der: &[u8]) -> Option<ObjectIdentifier> {
    let mut reader = SliceReader::new(der).ok()?;
    let algorithm = Algorithm::read(&mut reader).ok()?;
    reader.finish().ok()?;
    (algorithm.is_bare() && [SHA256, SHA384, SHA512].contains(&algorithm.oid))
        .then_some(algorithm.oid)
}
