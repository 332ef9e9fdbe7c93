//! Hashes, MACs, signatures and keys, by aws-lc.

mod hash;
mod key;
mod mac;
mod signature;

pub use hash::Hash;
pub use key::{KeyError, KeyKind, KeyPair, SignError, Signer};
pub use mac::{Mac, MacError, MacPolicy, Secret};
pub(crate) use mac::{derive, read_pbkdf2, write_pbkdf2};
pub use signature::{SignatureError, public_key_bits, verify_signature};
