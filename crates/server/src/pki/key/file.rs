//! Secrets in files under a passphrase: PKCS #8 `EncryptedPrivateKeyInfo` (RFC 5958) with PBES2 (RFC 8018), PBKDF2-HMAC-SHA256 and
//! AES-256-CBC. `openssl pkcs8` reads them; others by PBES2, also with scrypt, are read too.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use der::asn1::OctetString;
use der::pem::{LineEnding, PemLabel as _};
use der::{Decode as _, Encode as _};
use pkcs8::EncryptedPrivateKeyInfoOwned;
use pkcs8::pkcs5::{EncryptionScheme, pbes2};
use zeroize::Zeroizing;

use super::super::error::PkiError;

/// Iterations of PBKDF2: half a second of one core for whoever guesses once.
pub(in super::super) const ITERATIONS: u32 = 1_000_000;
/// Least characters of a passphrase.
pub(in super::super) const MIN_PASSPHRASE: usize = 8;
/// Longest file that is read.
const MAX_FILE: u64 = 64 * 1024;

/// Encrypts under a passphrase, as PEM.
pub(in super::super) fn encrypt(
    plain: &[u8],
    passphrase: &str,
    iterations: u32,
) -> Result<String, PkiError> {
    let found = passphrase.chars().count();
    if found < MIN_PASSPHRASE {
        return Err(PkiError::WeakPassphrase {
            found,
            least: MIN_PASSPHRASE,
        });
    }
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| PkiError::Random(error.to_string()))?;
    let (salt, iv) = random.split_at(16);
    let mut vector = [0; 16];
    vector.copy_from_slice(iv);
    let failed = |error: pkcs8::pkcs5::Error| PkiError::Key(error.to_string());
    let scheme: EncryptionScheme =
        pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(iterations, salt, vector)
            .map_err(failed)?
            .into();
    let encrypted = scheme.encrypt(passphrase, plain).map_err(failed)?;
    let failed = |error: der::Error| PkiError::Key(error.to_string());
    let info = EncryptedPrivateKeyInfoOwned {
        encryption_algorithm: scheme,
        encrypted_data: OctetString::new(encrypted).map_err(failed)?,
    };
    der::pem::encode_string(
        EncryptedPrivateKeyInfoOwned::PEM_LABEL,
        LineEnding::LF,
        &info.to_der().map_err(failed)?,
    )
    .map_err(|error| PkiError::Key(error.to_string()))
}

/// Decrypts what a file holds.
pub(in super::super) fn decrypt(
    path: &Path,
    passphrase: &str,
) -> Result<Zeroizing<Vec<u8>>, PkiError> {
    let text = read(path)?;
    let bad = |problem: String| PkiError::File {
        path: path.to_owned(),
        problem,
    };
    let (label, der) = der::pem::decode_vec(&text)
        .map_err(|error| bad(format!("no PEM with an encrypted key: {error}")))?;
    if label != EncryptedPrivateKeyInfoOwned::PEM_LABEL {
        return Err(bad(format!(
            "found `{label}`, expected `{}`: a key under a passphrase (`openssl pkcs8 -topk8` makes one)",
            EncryptedPrivateKeyInfoOwned::PEM_LABEL
        )));
    }
    let info = EncryptedPrivateKeyInfoOwned::from_der(&der)
        .map_err(|error| {
            bad(format!(
                "no encrypted key that is accepted ({error}): `openssl pkcs8 -topk8 -v2 aes-256-cbc` makes one of it"
            ))
        })?;
    info.encryption_algorithm
        .decrypt(passphrase, info.encrypted_data.as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| PkiError::WrongPassphrase(path.to_owned()))
}

/// Reads a file that is not too long.
pub(in super::super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, PkiError> {
    let bad = |problem: String| PkiError::File {
        path: path.to_owned(),
        problem,
    };
    let length = std::fs::metadata(path)
        .map_err(|error| bad(error.to_string()))?
        .len();
    if length > MAX_FILE {
        return Err(bad(format!("{length} bytes, expected at most {MAX_FILE}")));
    }
    std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(|error| bad(error.to_string()))
}

/// Writes a new file, whole and on disk, or none: never over another one, never readable by others where `private`.
pub(in super::super) fn write_new(path: &Path, text: &str, private: bool) -> Result<(), PkiError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    let written = match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(if private { 0o600 } else { 0o644 })
            .open(&temporary)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())
                    .and_then(|()| file.sync_all())
            })
            // Unlike rename, this fails when the file is there.
            .and_then(|()| std::fs::hard_link(&temporary, path))
            .and_then(|()| std::fs::remove_file(&temporary)),
    };
    written.map_err(|error| PkiError::File {
        path: path.to_owned(),
        problem: error.to_string(),
    })
}
