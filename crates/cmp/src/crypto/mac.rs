//! MACs by a shared secret: the password-based MAC of RFC 4211 §4.4 (RFC 9810 §5.1.3.1) and PBMAC1 (RFC 8018 §7.1, RFC 9481 §6.1).

use std::{fmt, num::NonZeroU32};

use aws_lc_rs::pbkdf2;
use der::{
    Decode, Encode, Sequence,
    asn1::{Any, ObjectIdentifier, OctetString},
};
use rand_core::Rng;
use subtle::ConstantTimeEq;

use super::Hash;
use crate::{asn1::Algorithm, oid};

/// Key of PBMAC1 in bytes when the parameters do not say.
const PBMAC1_KEY: usize = 32;

/// A secret that both sides know. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the secret's bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Which MACs of others are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacPolicy {
    /// Iterations at least: fewer make guessing the secret cheap.
    pub min_iterations: u32,
    /// Iterations at most: more make asking expensive for us.
    pub max_iterations: u32,
    /// Bytes of salt at least.
    pub min_salt: usize,
    /// Whether SHA-1 is accepted.
    pub sha1: bool,
}

impl Default for MacPolicy {
    /// 1,000 to 100,000 iterations, 8 bytes of salt, no SHA-1.
    fn default() -> Self {
        Self {
            min_iterations: 1_000,
            max_iterations: 100_000,
            min_salt: 8,
            sha1: false,
        }
    }
}

impl MacPolicy {
    /// For clients whose default is HMAC-SHA1 with 500 iterations, which is common in the field.
    pub fn lenient() -> Self {
        Self {
            min_iterations: 100,
            sha1: true,
            ..Self::default()
        }
    }
}

/// Why a MAC algorithm is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    /// Not a MAC algorithm that is implemented.
    #[error("the algorithm {0} is not implemented")]
    Unsupported(ObjectIdentifier),
    /// The parameters cannot be read.
    #[error("the parameters of {0} cannot be read")]
    Parameters(ObjectIdentifier),
    /// SHA-1, and [`MacPolicy::sha1`] is not set.
    #[error("SHA-1 is not accepted")]
    Sha1,
    /// Fewer than [`MacPolicy::min_iterations`].
    #[error("{iterations} iterations, at least {limit} are asked for")]
    TooFewIterations {
        /// How many.
        iterations: u32,
        /// The limit.
        limit: u32,
    },
    /// More than [`MacPolicy::max_iterations`].
    #[error("{iterations} iterations, at most {limit} are done")]
    TooManyIterations {
        /// How many; the largest number there is stands for all above.
        iterations: u32,
        /// The limit.
        limit: u32,
    },
    /// Less than [`MacPolicy::min_salt`].
    #[error("{bytes} bytes of salt, at least {limit} are asked for")]
    ShortSalt {
        /// How many.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// A MAC algorithm with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mac {
    /// `id-PasswordBasedMac`.
    PasswordBased {
        /// The salt.
        salt: Vec<u8>,
        /// The one-way function.
        owf: Hash,
        /// How often it is applied, the first time included.
        iterations: u32,
        /// The hash of the HMAC.
        mac: Hash,
    },
    /// `id-PBMAC1` with PBKDF2.
    Pbmac1 {
        /// The salt.
        salt: Vec<u8>,
        /// Iterations of PBKDF2.
        iterations: u32,
        /// Bytes of the derived key.
        key_bytes: usize,
        /// The hash of PBKDF2's HMAC.
        prf: Hash,
        /// The hash of the HMAC.
        mac: Hash,
    },
}

impl Mac {
    /// A password-based MAC with SHA-256 in both places and a fresh salt of 16 bytes.
    pub fn password_based(iterations: u32, rng: &mut impl Rng) -> Self {
        Self::PasswordBased {
            salt: salt(rng),
            owf: Hash::Sha256,
            iterations,
            mac: Hash::Sha256,
        }
    }

    /// PBMAC1 with SHA-256 in both places and a fresh salt of 16 bytes.
    pub fn pbmac1(iterations: u32, rng: &mut impl Rng) -> Self {
        Self::Pbmac1 {
            salt: salt(rng),
            iterations,
            key_bytes: PBMAC1_KEY,
            prf: Hash::Sha256,
            mac: Hash::Sha256,
        }
    }

    /// The same algorithms and iterations with a fresh salt.
    #[must_use]
    pub fn with_fresh_salt(&self, rng: &mut impl Rng) -> Self {
        let mut mac = self.clone();
        match &mut mac {
            Self::PasswordBased { salt: old, .. } | Self::Pbmac1 { salt: old, .. } => {
                *old = salt(rng);
            }
        }
        mac
    }

    /// Whether the identifier is one of a MAC, accepted or not.
    pub fn is_mac(oid: ObjectIdentifier) -> bool {
        matches!(
            oid,
            oid::PASSWORD_BASED_MAC | oid::PBMAC1 | oid::DH_BASED_MAC | oid::KEM_BASED_MAC
        )
    }

    /// Reads a MAC algorithm that the policy accepts.
    pub fn read(algorithm: &Algorithm, policy: &MacPolicy) -> Result<Self, MacError> {
        let parameters = algorithm
            .parameters
            .as_ref()
            .ok_or(MacError::Parameters(algorithm.oid));
        let mac = match algorithm.oid {
            oid::PASSWORD_BASED_MAC => password_based(parameters?)?,
            oid::PBMAC1 => pbmac1(parameters?)?,
            other => return Err(MacError::Unsupported(other)),
        };
        mac.check(policy)?;
        Ok(mac)
    }

    fn check(&self, policy: &MacPolicy) -> Result<(), MacError> {
        let (Self::PasswordBased {
            salt,
            owf: first,
            iterations,
            mac: second,
        }
        | Self::Pbmac1 {
            salt,
            iterations,
            prf: first,
            mac: second,
            ..
        }) = self;
        let iterations = *iterations;
        if !policy.sha1 && [first, second].contains(&&Hash::Sha1) {
            return Err(MacError::Sha1);
        }
        if iterations < policy.min_iterations {
            return Err(MacError::TooFewIterations {
                iterations,
                limit: policy.min_iterations,
            });
        }
        if iterations > policy.max_iterations {
            return Err(MacError::TooManyIterations {
                iterations,
                limit: policy.max_iterations,
            });
        }
        if salt.len() < policy.min_salt {
            return Err(MacError::ShortSalt {
                bytes: salt.len(),
                limit: policy.min_salt,
            });
        }
        Ok(())
    }

    /// As it stands in a header.
    pub fn write(&self) -> der::Result<Algorithm> {
        let null = |algorithm: Algorithm| Algorithm {
            parameters: Some(Any::null()),
            ..algorithm
        };
        let (oid, parameters) = match self {
            Self::PasswordBased {
                salt,
                owf,
                iterations,
                mac,
            } => (
                oid::PASSWORD_BASED_MAC,
                Any::encode_from(&PbmParameter {
                    salt: OctetString::new(salt.as_slice())?,
                    owf: null(owf.algorithm()),
                    iterations: i64::from(*iterations),
                    mac: mac.hmac_algorithm(),
                })?,
            ),
            Self::Pbmac1 {
                salt,
                iterations,
                key_bytes,
                prf,
                mac,
            } => (
                oid::PBMAC1,
                Any::encode_from(&Pbmac1Parameters {
                    derivation: write_pbkdf2(salt, *iterations, Some(*key_bytes), *prf)?,
                    mac: mac.hmac_algorithm(),
                })?,
            ),
        };
        Ok(Algorithm {
            oid,
            parameters: Some(parameters),
        })
    }

    /// The MAC over `data`.
    pub fn compute(&self, secret: &Secret, data: &[u8]) -> Vec<u8> {
        match self {
            Self::PasswordBased {
                salt,
                owf,
                iterations,
                mac,
            } => {
                let mut key = [secret.bytes(), salt].concat();
                for _ in 0..*iterations {
                    key = owf.digest(&key);
                }
                mac.hmac(&key, data)
            }
            Self::Pbmac1 {
                salt,
                iterations,
                key_bytes,
                prf,
                mac,
            } => {
                let key = derive(*prf, *iterations, salt, secret, *key_bytes);
                mac.hmac(&key, data)
            }
        }
    }

    /// Whether `tag` is the MAC over `data`, compared in constant time.
    pub fn verify(&self, secret: &Secret, data: &[u8], tag: &[u8]) -> bool {
        self.compute(secret, data).ct_eq(tag).into()
    }
}

/// PBKDF2 (RFC 8018 §5.2). A hash or a number of iterations that it is not done with gives no bytes, which is no key of any MAC.
pub(crate) fn derive(
    prf: Hash,
    iterations: u32,
    salt: &[u8],
    secret: &Secret,
    bytes: usize,
) -> Vec<u8> {
    let (Some(algorithm), Some(iterations)) = (prf.pbkdf2(), NonZeroU32::new(iterations)) else {
        return Vec::new();
    };
    let mut key = vec![0; bytes];
    pbkdf2::derive(algorithm, iterations, salt, secret.bytes(), &mut key);
    key
}

fn salt(rng: &mut impl Rng) -> Vec<u8> {
    let mut salt = vec![0; 16];
    rng.fill_bytes(&mut salt);
    salt
}

/// `PBMParameter` (RFC 4211 §4.4).
#[derive(Sequence)]
struct PbmParameter {
    salt: OctetString,
    owf: Algorithm,
    iterations: i64,
    mac: Algorithm,
}

/// `PBMAC1-params` (RFC 8018 Appendix A.5).
#[derive(Sequence)]
struct Pbmac1Parameters {
    derivation: Algorithm,
    mac: Algorithm,
}

/// `PBKDF2-params` (RFC 8018 Appendix A.2); a salt from elsewhere is not implemented, as nobody has a source.
#[derive(Sequence)]
struct Pbkdf2Parameters {
    salt: OctetString,
    iterations: i64,
    #[asn1(optional = "true")]
    key_bytes: Option<u16>,
    #[asn1(optional = "true")]
    prf: Option<Algorithm>,
}

fn password_based(parameters: &Any) -> Result<Mac, MacError> {
    let wrong = MacError::Parameters(oid::PASSWORD_BASED_MAC);
    let parameters: PbmParameter = parameters.decode_as().map_err(|_| wrong)?;
    Ok(Mac::PasswordBased {
        salt: parameters.salt.as_bytes().to_vec(),
        owf: Hash::from_oid(parameters.owf.oid).ok_or(MacError::Unsupported(parameters.owf.oid))?,
        iterations: clamp(parameters.iterations),
        mac: hmac(&parameters.mac)?,
    })
}

fn pbmac1(parameters: &Any) -> Result<Mac, MacError> {
    let wrong = || MacError::Parameters(oid::PBMAC1);
    let parameters: Pbmac1Parameters = parameters.decode_as().map_err(|_| wrong())?;
    let (salt, iterations, key_bytes, prf) = read_pbkdf2(&parameters.derivation)?;
    let key_bytes = key_bytes.unwrap_or(PBMAC1_KEY);
    if !(16..=128).contains(&key_bytes) {
        return Err(wrong());
    }
    Ok(Mac::Pbmac1 {
        salt,
        iterations,
        key_bytes,
        prf,
        mac: hmac(&parameters.mac)?,
    })
}

/// Salt, iterations, bytes of the key, hash.
pub(crate) fn read_pbkdf2(
    algorithm: &Algorithm,
) -> Result<(Vec<u8>, u32, Option<usize>, Hash), MacError> {
    if algorithm.oid != oid::PBKDF2 {
        return Err(MacError::Unsupported(algorithm.oid));
    }
    let parameters: Pbkdf2Parameters = algorithm
        .parameters
        .as_ref()
        .and_then(|any| any.to_der().ok())
        .and_then(|der| Decode::from_der(&der).ok())
        .ok_or(MacError::Parameters(oid::PBKDF2))?;
    let prf = parameters.prf.map_or(Ok(Hash::Sha1), |prf| hmac(&prf))?;
    if prf.pbkdf2().is_none() {
        return Err(MacError::Unsupported(prf.hmac_algorithm().oid));
    }
    Ok((
        parameters.salt.as_bytes().to_vec(),
        clamp(parameters.iterations),
        parameters.key_bytes.map(usize::from),
        prf,
    ))
}

pub(crate) fn write_pbkdf2(
    salt: &[u8],
    iterations: u32,
    key_bytes: Option<usize>,
    prf: Hash,
) -> der::Result<Algorithm> {
    Ok(Algorithm {
        oid: oid::PBKDF2,
        parameters: Some(Any::encode_from(&Pbkdf2Parameters {
            salt: OctetString::new(salt)?,
            iterations: i64::from(iterations),
            key_bytes: key_bytes.and_then(|bytes| u16::try_from(bytes).ok()),
            prf: (prf != Hash::Sha1).then(|| prf.hmac_algorithm()),
        })?),
    })
}

/// A count that is not one, or too large, stays outside of every policy.
fn clamp(iterations: i64) -> u32 {
    u32::try_from(iterations.max(0)).unwrap_or(u32::MAX)
}

fn hmac(algorithm: &Algorithm) -> Result<Hash, MacError> {
    Hash::from_hmac(algorithm.oid).ok_or(MacError::Unsupported(algorithm.oid))
}
