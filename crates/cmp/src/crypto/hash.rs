//! Hash functions and the MACs built on them.

use aws_lc_rs::{digest, hmac, pbkdf2};
use der::asn1::{Any, ObjectIdentifier};

use crate::{asn1::Algorithm, oid};

/// A hash function (RFC 9481 §2); SHA-1 only where a policy allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// By the hash's own identifier.
    pub fn from_oid(oid: ObjectIdentifier) -> Option<Self> {
        Some(match oid {
            oid::SHA1 => Self::Sha1,
            oid::SHA224 => Self::Sha224,
            oid::SHA256 => Self::Sha256,
            oid::SHA384 => Self::Sha384,
            oid::SHA512 => Self::Sha512,
            _ => return None,
        })
    }

    /// By the identifier of the HMAC with it.
    pub(crate) fn from_hmac(oid: ObjectIdentifier) -> Option<Self> {
        Some(match oid {
            oid::HMAC_SHA1 | oid::HMAC_SHA1_PKIX => Self::Sha1,
            oid::HMAC_SHA224 => Self::Sha224,
            oid::HMAC_SHA256 => Self::Sha256,
            oid::HMAC_SHA384 => Self::Sha384,
            oid::HMAC_SHA512 => Self::Sha512,
            _ => return None,
        })
    }

    /// The hash that a signature algorithm uses; nothing for those that name none, such as Ed25519.
    pub fn of_signature(algorithm: &Algorithm) -> Option<Self> {
        Some(match algorithm.oid {
            oid::RSA_SHA256 | oid::ECDSA_SHA256 => Self::Sha256,
            oid::RSA_SHA384 | oid::ECDSA_SHA384 => Self::Sha384,
            oid::RSA_SHA512 | oid::ECDSA_SHA512 => Self::Sha512,
            oid::RSA_PSS => return super::signature::pss_hash(algorithm),
            _ => return None,
        })
    }

    /// The hash's identifier, without parameters (RFC 5754 §2).
    pub fn algorithm(self) -> Algorithm {
        Algorithm {
            oid: match self {
                Self::Sha1 => oid::SHA1,
                Self::Sha224 => oid::SHA224,
                Self::Sha256 => oid::SHA256,
                Self::Sha384 => oid::SHA384,
                Self::Sha512 => oid::SHA512,
            },
            parameters: None,
        }
    }

    /// The identifier of the HMAC with it, with the NULL that RFC 8018 Appendix B.1.2 asks for.
    pub(crate) fn hmac_algorithm(self) -> Algorithm {
        Algorithm {
            oid: match self {
                Self::Sha1 => oid::HMAC_SHA1,
                Self::Sha224 => oid::HMAC_SHA224,
                Self::Sha256 => oid::HMAC_SHA256,
                Self::Sha384 => oid::HMAC_SHA384,
                Self::Sha512 => oid::HMAC_SHA512,
            },
            parameters: Some(Any::null()),
        }
    }

    /// Bytes of a hash.
    pub fn bytes(self) -> usize {
        self.digest_algorithm().output_len()
    }

    /// The hash of `data`.
    pub fn digest(self, data: &[u8]) -> Vec<u8> {
        digest::digest(self.digest_algorithm(), data)
            .as_ref()
            .to_vec()
    }

    pub(crate) fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(self.hmac_function(), key);
        hmac::sign(&key, data).as_ref().to_vec()
    }

    /// The function for PBKDF2; nothing for SHA-224, which aws-lc does not offer there.
    pub(crate) fn pbkdf2(self) -> Option<pbkdf2::Algorithm> {
        Some(match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha224 => return None,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha384 => pbkdf2::PBKDF2_HMAC_SHA384,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        })
    }

    pub(crate) fn digest_algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha224 => &digest::SHA224,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn hmac_function(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha224 => hmac::HMAC_SHA224,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }
}
