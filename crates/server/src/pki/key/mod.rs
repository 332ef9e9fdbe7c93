//! Keys: the CA's own, in a file under a passphrase or in a PKCS#11 token, and the public ones of others.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RsaKeyPair,
};
use der::Decode as _;
use der::asn1::ObjectIdentifier;
use homefleet_cmp::crypto::{KeyKind, KeyPair};
use homefleet_cmp::oid;
use pkcs8::PrivateKeyInfoRef;
use x509_cert::spki::SubjectPublicKeyInfoRef;
use zeroize::Zeroizing;

use super::error::{KeyRefusal, PkiError};
use super::profile::KeyClass;

pub(super) mod file;
pub(super) mod pkcs11;

pub use pkcs11::TokenPlace;

/// Kinds of keys that a CA may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CaKeyKind {
    /// ECDSA P-256.
    #[default]
    P256,
    /// ECDSA P-384.
    P384,
    /// Ed25519.
    Ed25519,
    /// RSA of 3072 bits.
    Rsa3072,
    /// RSA of 4096 bits.
    Rsa4096,
}

impl CaKeyKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::P256,
        Self::P384,
        Self::Ed25519,
        Self::Rsa3072,
        Self::Rsa4096,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::Ed25519 => "ed25519",
            Self::Rsa3072 => "rsa3072",
            Self::Rsa4096 => "rsa4096",
        }
    }

    pub(super) fn kind(self) -> KeyKind {
        match self {
            Self::P256 => KeyKind::P256,
            Self::P384 => KeyKind::P384,
            Self::Ed25519 => KeyKind::Ed25519,
            Self::Rsa3072 | Self::Rsa4096 => KeyKind::Rsa,
        }
    }

    /// A fresh key in PKCS #8.
    pub(super) fn generate(self) -> Result<Zeroizing<Vec<u8>>, PkiError> {
        let failed = || PkiError::Key(format!("no {self} key could be made"));
        let size = match self {
            Self::Rsa3072 => KeySize::Rsa3072,
            Self::Rsa4096 => KeySize::Rsa4096,
            other => {
                return KeyPair::generate_pkcs8(other.kind())
                    .map(Zeroizing::new)
                    .map_err(|_| failed());
            }
        };
        let key = RsaKeyPair::generate(size).map_err(|_| failed())?;
        let der: Pkcs8V1Der<'_> = key.as_der().map_err(|_| failed())?;
        Ok(Zeroizing::new(der.as_ref().to_vec()))
    }
}

impl fmt::Display for CaKeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CaKeyKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("`{text}` is none of {all}"))
    }
}

/// A private key from its PKCS #8, of whatever kind it is.
pub(super) fn from_pkcs8(der: &[u8]) -> Result<KeyPair, PkiError> {
    let unknown = || PkiError::Key("of a kind that is not accepted".to_owned());
    let info = PrivateKeyInfoRef::from_der(der).map_err(|_| unknown())?;
    let kind = match info.algorithm.oid {
        oid::RSA => KeyKind::Rsa,
        oid::ED25519 => KeyKind::Ed25519,
        oid::EC_PUBLIC_KEY => {
            let curve = info.algorithm.parameters;
            match curve.and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok()) {
                Some(oid::P256) => KeyKind::P256,
                Some(oid::P384) => KeyKind::P384,
                _ => return Err(unknown()),
            }
        }
        _ => return Err(unknown()),
    };
    KeyPair::from_pkcs8(kind, der).map_err(|error| PkiError::Key(error.to_string()))
}

/// Whether a public key is one: a point of its curve, a modulus with an exponent.
pub(super) fn check_public(class: KeyClass, spki: &[u8]) -> Result<(), KeyRefusal> {
    let info = SubjectPublicKeyInfoRef::from_der(spki).map_err(|_| KeyRefusal::Kind)?;
    let bytes = info
        .subject_public_key
        .as_bytes()
        .ok_or(KeyRefusal::Invalid)?;
    parse(class, bytes).map(drop).ok_or(KeyRefusal::Invalid)
}

fn parse(class: KeyClass, bytes: &[u8]) -> Option<ParsedPublicKey> {
    match class {
        KeyClass::P256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, bytes),
        KeyClass::P384 => ParsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, bytes),
        KeyClass::Ed25519 => ParsedPublicKey::new(&ED25519, bytes),
        KeyClass::Rsa => ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, bytes),
    }
    .ok()
}
