//! Private keys that the CA generated, on their way to the end entity (RFC 9483 §4.1.6): an asymmetric key package (RFC 5958), signed by the
//! key generation authority, encrypted for the one who asked (RFC 5652).
//!
//! ```text
//! EnvelopedData { recipient, AES-CBC { SignedData { certificates, signature, AsymmetricKeyPackage { OneAsymmetricKey } } } }
//! ```

mod envelope;
mod recipient;
mod signed;

use std::fmt;

use der::{Decode, Encode, Tagged, asn1::Any};
use rand_core::Rng;

pub use recipient::{Opener, Recipient};

use crate::{
    asn1::{Certificate, EnvelopedData},
    crypto::{SignError, Signer},
    protection::{Distrust, Peers},
};

/// A private key in its `OneAsymmetricKey` (PKCS #8). `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(Vec<u8>);

impl PrivateKey {
    /// Takes a `PrivateKeyInfo` or `OneAsymmetricKey` in DER.
    pub fn from_pkcs8(der: &[u8]) -> der::Result<Self> {
        let any = Any::from_der(der)?;
        any.tag().assert_eq(der::Tag::Sequence)?;
        Ok(Self(der.to_vec()))
    }

    /// The DER, for [`crate::crypto::KeyPair::from_pkcs8`].
    pub fn pkcs8(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// Why a private key cannot be delivered or taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyDeliveryError {
    /// Not the structure that it has to be.
    #[error("it cannot be read: {0}")]
    Malformed(der::ErrorKind),
    /// Something that is not implemented.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// It is for another recipient, or was changed on the way.
    #[error("it cannot be decrypted with this key or secret")]
    Decrypt,
    /// The cryptographic library refused.
    #[error("it cannot be encrypted")]
    Encrypt,
    /// The signature of the key generation authority does not verify.
    #[error("the signature of the key generation authority does not verify")]
    Signature,
    /// The key generation authority is not trusted, or may not do this.
    #[error("the key generation authority is not accepted: {0}")]
    Distrusted(String),
    /// The key generation authority cannot sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl From<der::Error> for KeyDeliveryError {
    fn from(error: der::Error) -> Self {
        Self::Malformed(error.kind())
    }
}

/// Signs a private key as key generation authority and encrypts it for its owner. The first certificate of the chain is that of `signer`.
pub fn seal(
    key: &PrivateKey,
    signer: &dyn Signer,
    chain: &[Certificate],
    recipient: &Recipient<'_>,
    rng: &mut impl Rng,
) -> Result<EnvelopedData, KeyDeliveryError> {
    // AsymmetricKeyPackage ::= SEQUENCE OF OneAsymmetricKey
    let package = vec![Any::from_der(key.pkcs8())?].to_der()?;
    let signed = signed::sign(&package, signer, chain)?;
    envelope::encrypt(&signed, recipient, rng)
}

/// As [`seal`], with the key itself where RFC 9483 §4.1.6 has a package of one: what OpenSSL 3.5 reads.
///
/// # Errors
/// As [`seal`].
pub fn seal_bare(
    key: &PrivateKey,
    signer: &dyn Signer,
    chain: &[Certificate],
    recipient: &Recipient<'_>,
    rng: &mut impl Rng,
) -> Result<EnvelopedData, KeyDeliveryError> {
    let signed = signed::sign(key.pkcs8(), signer, chain)?;
    envelope::encrypt(&signed, recipient, rng)
}

/// Decrypts a private key and verifies that an authority signed it which `peers` accepts. [`Peers::judge`] has to ask for the extended key
/// usage `id-kp-cmKGA` where the authority is not the CA itself (RFC 9483 §4.1.6).
pub fn open(
    data: &EnvelopedData,
    opener: &Opener<'_>,
    peers: &dyn Peers,
) -> Result<PrivateKey, KeyDeliveryError> {
    let content = envelope::decrypt(data, opener)?;
    let (package, signer, others) = signed::verify(&content)?;
    peers
        .judge(&signer, &others)
        .map_err(|distrust| match distrust {
            Distrust::Untrusted(why) | Distrust::Unauthorized(why) => {
                KeyDeliveryError::Distrusted(why)
            }
        })?;
    let keys: Vec<Any> = Decode::from_der(&package)?;
    // A key by itself, as OpenSSL 3.5 sends it, begins with its version.
    if keys
        .first()
        .is_some_and(|first| first.tag() == der::Tag::Integer)
    {
        return Ok(PrivateKey::from_pkcs8(&package)?);
    }
    let [key] = keys.as_slice() else {
        return Err(KeyDeliveryError::Unsupported("more or less than one key"));
    };
    Ok(PrivateKey::from_pkcs8(&key.to_der()?)?)
}
