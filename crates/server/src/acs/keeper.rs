//! Passwords that have to be kept as they are, because they are computed with: sealed in the store, under a key in a file beside it.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use zeroize::Zeroizing;

use crate::account::hex;
use crate::pki::Vault;
use crate::store::SecretText;

/// The key's file in the data directory.
const FILE: &str = "acs.key";
/// What a sealed text begins with; one that does not is from before there were seals.
const SEALED: &str = "sealed:";

/// Seals and opens passwords, and makes tags that nobody else can make.
pub(crate) struct Keeper {
    vault: Vault,
    tags: hmac::Key,
}

impl Keeper {
    /// With the key of this data directory; made when there is none.
    ///
    /// # Errors
    /// What is wrong with the file, in words.
    pub(crate) fn load(data_dir: &Path) -> Result<Self, String> {
        let path = data_dir.join(FILE);
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let key = match std::fs::read_to_string(&path) {
            Ok(text) => {
                let key = unhex(text.trim()).map(Zeroizing::new);
                key.ok_or_else(|| format!("{}: not a key in hexadecimal", path.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = Vault::generate().map_err(|error| format!("no randomness: {error}"))?;
                let new = path.with_extension("key.new");
                // Left behind by a start that was cut short.
                drop(std::fs::remove_file(&new));
                let mut options = std::fs::OpenOptions::new();
                let mut file = options
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&new)
                    .map_err(failed)?;
                let text = Zeroizing::new(hex(&key) + "\n");
                file.write_all(text.as_bytes()).map_err(failed)?;
                file.sync_all().map_err(failed)?;
                std::fs::rename(&new, &path).map_err(failed)?;
                key
            }
            Err(error) => return Err(failed(error)),
        };
        let vault = Vault::new(&key).map_err(|error| format!("{}: {error}", path.display()))?;
        let tags = hmac::sign(&hmac::Key::new(HMAC_SHA256, &key), b"tags");
        let tags = hmac::Key::new(HMAC_SHA256, tags.as_ref());
        Ok(Self { vault, tags })
    }

    /// Seals a password of a device. `None` without randomness.
    pub(crate) fn seal(&self, device: &str, password: &str) -> Option<SecretText> {
        let sealed = self
            .vault
            .seal(&context(device), password.as_bytes())
            .ok()?;
        Some(SecretText::new(format!("{SEALED}{}", hex(&sealed))))
    }

    /// The password; `None` when it was sealed for another device or under another key.
    pub(crate) fn open(&self, device: &str, kept: &SecretText) -> Option<Zeroizing<String>> {
        let Some(sealed) = kept.reveal().strip_prefix(SEALED) else {
            return Some(Zeroizing::new(kept.reveal().to_owned()));
        };
        let plain = self.vault.open(&context(device), &unhex(sealed)?)?;
        let text = String::from_utf8(plain.to_vec()).ok()?;
        Some(Zeroizing::new(text))
    }
}

impl Keeper {
    /// A tag of these words, none of which has a zero byte: 32 hexadecimal digits.
    pub(crate) fn tag(&self, words: &[&str]) -> String {
        let tag = hmac::sign(&self.tags, words.join("\0").as_bytes());
        hex(tag.as_ref().split_at(16).0)
    }
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keeper")
    }
}

fn context(device: &str) -> Vec<u8> {
    [b"acs password ", device.as_bytes()].concat()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| match pair {
            [high, low] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                u8::try_from(digit(high)? * 16 + digit(low)?).ok()
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_kept_is_read_by_the_same_key_for_the_same_device() {
        let directory = tempfile::tempdir().unwrap();
        let keeper = Keeper::load(directory.path()).unwrap();
        let kept = keeper.seal("cwmp:a", "open sesame").unwrap();
        assert!(!kept.reveal().contains("open"));
        let again = Keeper::load(directory.path()).unwrap();
        assert_eq!(again.open("cwmp:a", &kept).unwrap().as_str(), "open sesame");
        assert_eq!(again.open("cwmp:b", &kept), None);
        let other = tempfile::tempdir().unwrap();
        let other = Keeper::load(other.path()).unwrap();
        assert_eq!(other.open("cwmp:a", &kept), None);
        for wrong in ["sealed:", "sealed:0", "sealed:zz", "sealed:00"] {
            let wrong = SecretText::new(wrong.to_owned());
            assert_eq!(again.open("cwmp:a", &wrong), None);
        }
    }

    #[test]
    fn what_was_kept_before_there_were_seals_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let keeper = Keeper::load(directory.path()).unwrap();
        let plain = SecretText::new("plain".to_owned());
        assert_eq!(keeper.open("cwmp:a", &plain).unwrap().as_str(), "plain");
    }

    #[test]
    fn a_file_that_holds_no_key_is_told() {
        let directory = tempfile::tempdir().unwrap();
        for wrong in ["", "00", "zz"] {
            std::fs::write(directory.path().join(FILE), wrong).unwrap();
            let problem = Keeper::load(directory.path()).unwrap_err();
            assert!(problem.contains(FILE), "{problem}");
        }
    }

    #[test]
    fn the_key_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        Keeper::load(directory.path()).unwrap();
        let file = std::fs::metadata(directory.path().join(FILE)).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
    }
}
