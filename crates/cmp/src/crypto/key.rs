//! Keys that sign. Where the key lives is the [`Signer`]'s business: in memory here, in a PKCS#11 token elsewhere.

use std::fmt;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
    },
};
use der::asn1::Any;

use super::{Hash, signature::PssParameters};
use crate::{
    asn1::{Algorithm, PublicKeyInfo},
    oid,
};

/// A signature could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot sign: {0}")]
pub struct SignError(pub String);

/// A private key that signs.
pub trait Signer: Send + Sync {
    /// How it signs.
    fn algorithm(&self) -> Algorithm;
    /// Its public half.
    fn public_key(&self) -> PublicKeyInfo;
    /// The signature over `data`.
    fn sign(&self, data: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// Kinds of keys, each with its signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA P-256 with SHA-256.
    P256,
    /// ECDSA P-384 with SHA-384.
    P384,
    /// RSA with PKCS #1 v1.5 and SHA-256.
    Rsa,
    /// RSA with PSS and SHA-256.
    RsaPss,
    /// Ed25519.
    Ed25519,
}

/// A key is not one that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no private key of this kind that is accepted")]
pub struct KeyError;

/// A private key in memory. `Debug` shows its kind only.
pub struct KeyPair {
    kind: KeyKind,
    inner: Inner,
    public: PublicKeyInfo,
}

enum Inner {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl KeyPair {
    /// A key from its PKCS #8 `PrivateKeyInfo` in DER.
    pub fn from_pkcs8(kind: KeyKind, der: &[u8]) -> Result<Self, KeyError> {
        let (inner, public) = match kind {
            KeyKind::P256 | KeyKind::P384 => {
                let algorithm = match kind {
                    KeyKind::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
                    _ => &ECDSA_P384_SHA384_ASN1_SIGNING,
                };
                let key = EcdsaKeyPair::from_pkcs8(algorithm, der).map_err(|_| KeyError)?;
                let public = x509(key.public_key())?;
                (Inner::Ecdsa(key), public)
            }
            KeyKind::Rsa | KeyKind::RsaPss => {
                let key = RsaKeyPair::from_pkcs8(der).map_err(|_| KeyError)?;
                let public = x509(key.public_key())?;
                (Inner::Rsa(key), public)
            }
            KeyKind::Ed25519 => {
                let key = Ed25519KeyPair::from_pkcs8(der).map_err(|_| KeyError)?;
                let public = x509(key.public_key())?;
                (Inner::Ed25519(key), public)
            }
        };
        Ok(Self {
            kind,
            inner,
            public,
        })
    }

    /// A fresh key in PKCS #8. Its random numbers are the cryptographic library's own. RSA keys have 3072 bits, which takes its time.
    pub fn generate_pkcs8(kind: KeyKind) -> Result<Vec<u8>, KeyError> {
        let failed = |_| KeyError;
        let pkcs8 = match kind {
            KeyKind::P256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
                .and_then(|key| key.to_pkcs8v1())
                .map_err(failed)?
                .as_ref()
                .to_vec(),
            KeyKind::P384 => EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING)
                .and_then(|key| key.to_pkcs8v1())
                .map_err(failed)?
                .as_ref()
                .to_vec(),
            KeyKind::Rsa | KeyKind::RsaPss => {
                let key = RsaKeyPair::generate(KeySize::Rsa3072).map_err(failed)?;
                let der: Pkcs8V1Der<'_> = key.as_der().map_err(failed)?;
                der.as_ref().to_vec()
            }
            KeyKind::Ed25519 => Ed25519KeyPair::generate()
                .and_then(|key| key.to_pkcs8v1())
                .map_err(failed)?
                .as_ref()
                .to_vec(),
        };
        Ok(pkcs8)
    }

    /// Which kind.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }
}

fn x509(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Result<PublicKeyInfo, KeyError> {
    let der = key.as_der().map_err(|_| KeyError)?;
    PublicKeyInfo::from_der(der.as_ref()).map_err(|_| KeyError)
}

impl Signer for KeyPair {
    fn algorithm(&self) -> Algorithm {
        let (oid, parameters) = match self.kind {
            KeyKind::P256 => (oid::ECDSA_SHA256, None),
            KeyKind::P384 => (oid::ECDSA_SHA384, None),
            KeyKind::Rsa => (oid::RSA_SHA256, Some(Any::null())),
            KeyKind::RsaPss => (oid::RSA_PSS, pss_sha256().ok()),
            KeyKind::Ed25519 => (oid::ED25519, None),
        };
        Algorithm { oid, parameters }
    }

    fn public_key(&self) -> PublicKeyInfo {
        self.public.clone()
    }

    fn sign(&self, data: &[u8]) -> Result<Vec<u8>, SignError> {
        let failed = |_| SignError("the cryptographic library refused".to_owned());
        // aws-lc takes its random numbers itself; the argument is there for compatibility with another library.
        let random = SystemRandom::new();
        match &self.inner {
            Inner::Ecdsa(key) => Ok(key.sign(&random, data).map_err(failed)?.as_ref().to_vec()),
            Inner::Ed25519(key) => Ok(key.sign(data).as_ref().to_vec()),
            Inner::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let padding = match self.kind {
                    KeyKind::RsaPss => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                key.sign(padding, &random, data, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

fn pss_sha256() -> der::Result<Any> {
    let hash = Algorithm {
        parameters: Some(Any::null()),
        ..Hash::Sha256.algorithm()
    };
    Any::encode_from(&PssParameters {
        mask: Some(Algorithm {
            oid: oid::MGF1,
            parameters: Some(Any::encode_from(&hash)?),
        }),
        hash: Some(hash),
        salt: Some(32),
        trailer: None,
    })
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({:?})", self.kind)
    }
}
