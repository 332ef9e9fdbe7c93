//! Private keys that the CA makes for those that cannot (RFC 9483 §4.1.6): made, signed, encrypted, forgotten.

use der::Decode as _;
use der::asn1::ObjectIdentifier;
use homefleet_cmp::CertificateParts;
use homefleet_cmp::asn1::{Certificate, EncryptedKey, Failure, PublicKeyInfo};
use homefleet_cmp::crypto::{KeyKind, KeyPair, Secret, Signer as _};
use homefleet_cmp::key_delivery::{self, PrivateKey};
use homefleet_cmp::oid;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use x509_cert::spki::SubjectPublicKeyInfoRef;
use zeroize::Zeroizing;

use super::decide::{No, Requester};
use crate::pki::{Credential, KeyClass, Profile};

/// Iterations of PBKDF2 where a key is encrypted under a secret.
const ITERATIONS: u32 = 100_000;

/// For whom a key is encrypted.
pub(super) enum Recipient {
    Certificate(Box<CertificateParts>),
    Secret(Secret),
}

impl Recipient {
    pub(super) fn of(requester: &Requester) -> Result<Self, No> {
        match requester {
            Requester::Secret { secret, .. } => Ok(Self::Secret(secret.clone())),
            Requester::Certificate { parts, .. } => {
                let key = parts.public_key.to_der();
                let algorithm = SubjectPublicKeyInfoRef::from_der(&key).map(|it| it.algorithm.oid);
                match algorithm {
                    Ok(oid::EC_PUBLIC_KEY | oid::RSA) => Ok(Self::Certificate(parts.clone())),
                    _ => Err(No::new(
                        Failure::BadAlg,
                        "nothing can be encrypted for the key that protects the request",
                    )),
                }
            }
        }
    }
}

/// A key pair.
pub(super) struct Made {
    pkcs8: Zeroizing<Vec<u8>>,
    /// SubjectPublicKeyInfo.
    pub(super) public_key: Vec<u8>,
}

/// Which kind of key is wanted: the one that the request names, or the first one of the profile.
pub(super) fn kind(wanted: Option<&PublicKeyInfo>, profile: &Profile) -> Result<KeyKind, No> {
    let Some(wanted) = wanted else {
        let first = profile.keys().first().copied();
        return Ok(kind_of(first.unwrap_or(KeyClass::P256)));
    };
    let der = wanted.to_der();
    let bad = |text: &str| No::new(Failure::BadAlg, text.to_owned());
    let info = SubjectPublicKeyInfoRef::from_der(&der)
        .map_err(|_| bad("the kind of key cannot be read"))?;
    let curve: Option<ObjectIdentifier> = info
        .algorithm
        .parameters
        .and_then(|parameters| parameters.decode_as().ok());
    let class = match (info.algorithm.oid, curve) {
        (oid::EC_PUBLIC_KEY, Some(oid::P256)) => KeyClass::P256,
        (oid::EC_PUBLIC_KEY, Some(oid::P384)) => KeyClass::P384,
        (oid::ED25519, _) => KeyClass::Ed25519,
        (oid::RSA, _) => KeyClass::Rsa,
        _ => return Err(bad("no keys of this kind are made here")),
    };
    if !profile.keys().contains(&class) {
        return Err(bad("the profile has no keys of this kind"));
    }
    Ok(kind_of(class))
}

fn kind_of(class: KeyClass) -> KeyKind {
    match class {
        KeyClass::P256 => KeyKind::P256,
        KeyClass::P384 => KeyKind::P384,
        KeyClass::Ed25519 => KeyKind::Ed25519,
        KeyClass::Rsa => KeyKind::Rsa,
    }
}

/// Makes a key pair.
pub(super) async fn make(kind: KeyKind) -> Result<Made, No> {
    let failed = || No::new(Failure::SystemFailure, "no key could be made");
    let made = tokio::task::spawn_blocking(move || {
        let pkcs8 = Zeroizing::new(KeyPair::generate_pkcs8(kind).ok()?);
        let pair = KeyPair::from_pkcs8(kind, &pkcs8).ok()?;
        let public_key = pair.public_key().to_der();
        Some(Made { pkcs8, public_key })
    });
    made.await.ok().flatten().ok_or_else(failed)
}

/// Signs it and encrypts it for whoever asked; `bare` without the package around it.
pub(super) fn seal(
    made: &Made,
    credential: &Credential,
    recipient: &Recipient,
    bare: bool,
) -> Result<EncryptedKey, No> {
    let failed = |why: String| {
        tracing::error!(why, "a private key could not be encrypted");
        No::new(Failure::SystemFailure, "the key could not be encrypted")
    };
    let chain: Result<Vec<Certificate>, _> = credential
        .chain
        .iter()
        .map(|der| Certificate::from_der(der))
        .collect();
    let chain = chain.map_err(|error| failed(error.to_string()))?;
    let key = PrivateKey::from_pkcs8(&made.pkcs8).map_err(|error| failed(error.to_string()))?;
    let recipient = match recipient {
        Recipient::Certificate(parts) => key_delivery::Recipient::Certificate(parts),
        Recipient::Secret(secret) => key_delivery::Recipient::Secret {
            secret,
            iterations: ITERATIONS,
        },
    };
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| failed(error.to_string()))?;
    let mut rng = ChaCha20Rng::from_seed(seed);
    let signer = &*credential.signer;
    let sealed = if bare {
        key_delivery::seal_bare(&key, signer, &chain, &recipient, &mut rng)
    } else {
        key_delivery::seal(&key, signer, &chain, &recipient, &mut rng)
    };
    sealed
        .map(EncryptedKey::EnvelopedData)
        .map_err(|error| failed(error.to_string()))
}
