//! What the store must not be able to read: sealed with AES-256-GCM under a key that is in a file under the CA's passphrase.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::error::PkiError;

/// Bytes of the key.
pub(crate) const KEY: usize = 32;

/// Seals and opens.
pub(crate) struct Vault(LessSafeKey);

impl Vault {
    pub(crate) fn new(key: &[u8]) -> Result<Self, PkiError> {
        let key = UnboundKey::new(&AES_256_GCM, key)
            .map_err(|_| PkiError::Key(format!("the key of the secrets is not {KEY} bytes")))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// A fresh key.
    pub(crate) fn generate() -> Result<Zeroizing<Vec<u8>>, getrandom::Error> {
        let mut key = Zeroizing::new(vec![0; KEY]);
        getrandom::fill(&mut key)?;
        Ok(key)
    }

    /// Seals what belongs to a name: it does not open under another one.
    pub(crate) fn seal(&self, name: &[u8], plain: &[u8]) -> Result<Vec<u8>, getrandom::Error> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce)?;
        let mut sealed = plain.to_vec();
        let nonce_text = nonce;
        // Fails only for plain texts of 64 GiB.
        if self
            .0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(name),
                &mut sealed,
            )
            .is_err()
        {
            return Err(getrandom::Error::UNEXPECTED);
        }
        let mut out = nonce_text.to_vec();
        out.append(&mut sealed);
        Ok(out)
    }

    /// Opens what was sealed under the name.
    pub(crate) fn open(&self, name: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let mut text = Zeroizing::new(text.to_vec());
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self
            .0
            .open_in_place(nonce, Aad::from(name), &mut text)
            .ok()?;
        Some(Zeroizing::new(plain.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_sealed_opens_under_its_name_and_key_only() {
        let vault = Vault::new(&[1; KEY]).unwrap();
        let sealed = vault.seal(b"a", b"the secret").unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_eq!(vault.open(b"a", &sealed).unwrap().as_slice(), b"the secret");
        assert_eq!(vault.open(b"b", &sealed), None);
        assert_eq!(Vault::new(&[2; KEY]).unwrap().open(b"a", &sealed), None);
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(vault.open(b"a", &changed), None);
        assert_eq!(vault.open(b"a", &[1; 5]), None);
        assert_ne!(vault.seal(b"a", b"the secret").unwrap(), sealed);
    }
}
