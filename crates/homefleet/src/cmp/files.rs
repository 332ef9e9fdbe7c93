//! Files of keys, certificates and secrets: read with a name in every complaint, written once and for their owner alone.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use homefleet_cmp::asn1::Certificate;
use homefleet_cmp::crypto::{KeyPair, Secret};
use homefleet_net::cmp::entity::{key_from_pem, key_pair};
use homefleet_trust::{Anchor, anchors_from_pem, chain_from_pem};

use crate::failure::Failure;

/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// A file's bytes.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| {
        let text = format!("{}: {error}", path.display());
        match error.kind() {
            ErrorKind::NotFound => Failure::NotFound(text),
            _ => Failure::Failed(text),
        }
    };
    if std::fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(wrong(path, "it is larger than anything that belongs here"));
    }
    std::fs::read(path).map_err(failed)
}

fn text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read(path)?).map_err(|_| wrong(path, "it is not text, so no PEM"))
}

/// Certificates of a PEM file, in its order.
pub(super) fn certificates(path: &Path) -> Result<Vec<Certificate>, Failure> {
    let chain = chain_from_pem(&text(path)?).map_err(|error| wrong(path, error))?;
    if chain.is_empty() {
        return Err(wrong(path, "no certificate in it"));
    }
    chain
        .iter()
        .map(|der| Certificate::from_der(der).map_err(|error| wrong(path, error)))
        .collect()
}

/// CA certificates of a PEM file.
pub(super) fn anchors(path: &Path) -> Result<Vec<Anchor>, Failure> {
    let anchors = anchors_from_pem(&text(path)?).map_err(|error| wrong(path, error))?;
    if anchors.is_empty() {
        return Err(wrong(path, "no certificate in it"));
    }
    Ok(anchors)
}

/// A private key of a PEM file: PKCS #8, and as such.
pub(super) fn key(path: &Path) -> Result<(Vec<u8>, KeyPair), Failure> {
    let pkcs8 = key_from_pem(&text(path)?).ok_or_else(|| {
        wrong(
            path,
            "no PKCS #8 private key in it; `openssl pkcs8 -topk8 -nocrypt` makes one of others",
        )
    })?;
    let pair = key_pair(&pkcs8).ok_or_else(|| {
        wrong(
            path,
            "the key is none of ECDSA P-256 and P-384, RSA from 2048 bits, Ed25519",
        )
    })?;
    Ok((pkcs8, pair))
}

/// A secret: what is in the file, without white space at its end.
pub(super) fn secret(path: &Path) -> Result<Secret, Failure> {
    let bytes = read(path)?;
    let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        return Err(wrong(
            path,
            "others than its owner can read it: `chmod 600` it",
        ));
    }
    match bytes.trim_ascii_end() {
        [] => Err(wrong(path, "it is empty")),
        secret => Ok(Secret::new(secret)),
    }
}

/// Refuses a file that is there already, before anything is asked for.
pub(super) fn not_there(path: Option<&Path>) -> Result<(), Failure> {
    match path {
        Some(path) if path.exists() => Err(exists(path)),
        _ => Ok(()),
    }
}

/// Writes a new file that only its owner can read; it is on disk when this returns.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => exists(path),
        _ => Failure::Failed(format!("{}: {error}", path.display())),
    })
}

/// Puts bytes in the place of a file's, whole or not at all; who may read it stays as it was.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Failed(format!("{}: {error}", path.display()));
    let permissions = std::fs::metadata(path).map_err(failed)?.permissions();
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let new = std::path::PathBuf::from(name);
    write(&new, bytes)?;
    std::fs::set_permissions(&new, permissions)
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|error| {
            // It is of no use to anybody.
            drop(std::fs::remove_file(&new));
            failed(error)
        })
}

fn exists(path: &Path) -> Failure {
    Failure::Usage(format!(
        "{} is there already, and is not overwritten",
        path.display()
    ))
}

fn wrong(path: &Path, reason: impl std::fmt::Display) -> Failure {
    Failure::Usage(format!("{}: {reason}", path.display()))
}
