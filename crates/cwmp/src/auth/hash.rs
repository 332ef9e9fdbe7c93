//! The hashes of RFC 7616 §3.4.

use std::fmt;

use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::Secret;

/// The hash of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// Broken for signatures, and what TR-069 asks for.
    Md5,
    /// RFC 7616.
    Sha256,
}

impl Algorithm {
    /// As in headers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    /// The algorithm of a header, and whether it is the `-sess` variant.
    pub(super) fn parse(text: &str) -> Option<(Self, bool)> {
        let upper = text.to_ascii_uppercase();
        let (name, session) = match upper.strip_suffix("-SESS") {
            Some(name) => (name, true),
            None => (upper.as_str(), false),
        };
        match name {
            "MD5" => Some((Self::Md5, session)),
            "SHA-256" => Some((Self::Sha256, session)),
            _ => None,
        }
    }

    /// The hash of parts joined by colons, in hexadecimal.
    pub(super) fn hash(self, parts: &[&str]) -> String {
        let text = parts.join(":");
        match self {
            Self::Md5 => hex(&Md5::digest(text.as_bytes())),
            Self::Sha256 => hex(&Sha256::digest(text.as_bytes())),
        }
    }
}

/// Lower case, as all of RFC 7616.
pub(super) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a String does not fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

/// What is kept of a password: itself, or its hashes for one realm, so that a database has no passwords in it.
#[derive(Clone, PartialEq, Eq)]
pub enum Stored {
    /// The password.
    Password(Secret),
    /// `H(username:realm:password)` by each algorithm, in lower-case hexadecimal.
    Hashes {
        /// By MD5.
        md5: Option<Secret>,
        /// By SHA-256.
        sha256: Option<Secret>,
    },
}

impl Stored {
    /// The hashes to keep of a password.
    pub fn hashed(username: &str, realm: &str, password: &str) -> Self {
        let hash = |algorithm: Algorithm| Some(algorithm.hash(&[username, realm, password]).into());
        Self::Hashes {
            md5: hash(Algorithm::Md5),
            sha256: hash(Algorithm::Sha256),
        }
    }

    /// Whether this is the password, as somebody told it who has not computed with it (RFC 7617). The time it takes does not tell how much of it is right.
    pub fn is(&self, username: &str, realm: &str, password: &Secret) -> bool {
        use subtle::ConstantTimeEq as _;
        let same = |kept: &str, given: &str| bool::from(kept.as_bytes().ct_eq(given.as_bytes()));
        let hash = |algorithm: Algorithm| algorithm.hash(&[username, realm, password.reveal()]);
        match self {
            Self::Password(own) => same(own.reveal(), password.reveal()),
            Self::Hashes {
                sha256: Some(kept), ..
            } => same(kept.reveal(), &hash(Algorithm::Sha256)),
            Self::Hashes {
                md5: Some(kept), ..
            } => same(kept.reveal(), &hash(Algorithm::Md5)),
            Self::Hashes { .. } => false,
        }
    }

    /// `H(A1)` of RFC 7616 §3.4.2.
    pub(super) fn ha1(&self, algorithm: Algorithm, username: &str, realm: &str) -> Option<String> {
        match (self, algorithm) {
            (Self::Password(password), _) => {
                Some(algorithm.hash(&[username, realm, password.reveal()]))
            }
            (Self::Hashes { md5: kept, .. }, Algorithm::Md5)
            | (Self::Hashes { sha256: kept, .. }, Algorithm::Sha256) => {
                kept.as_ref().map(|kept| kept.reveal().to_owned())
            }
        }
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password",
            Self::Hashes { .. } => "Hashes",
        })
    }
}
