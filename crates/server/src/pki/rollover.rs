//! A new root in place of the old one, so that nobody is cut off (RFC 9810 §4.4).
//!
//! ```text
//!   begin ──▶ announced ──▶ switch ──▶ switched ──▶ retire ──▶ retired
//!   new root, links,        the CA's certificate is         the old root is not
//!   nothing else changes    by the new root                 trusted any more
//! ```
//!
//! The issuing CA keeps its key and its name: what it has issued stays good, under its certificate by the old root as under the one by the new.
//! Whoever trusts one root only is led to it by a link: the new key signed with the old one (newWithOld), the old key signed with the new one
//! (oldWithNew). Each step is one file that takes its name when it is whole; a server that runs sees it within a minute.
//!
//! ```text
//!   rollover-1/root.key           the new root's key, under its passphrase: nothing reads it but the next rollover, take it away
//!   rollover-1/root.crl           the new root's list of revoked CAs: none
//!   rollover-1/certificates.pem   new root, newWithOld, oldWithNew, the issuing CA's certificate by the new root
//!   rollover-1/state.toml         how far it has come
//!   roots.pem                     whom to trust now: for `tls.ca`
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use der::{Decode as _, Encode as _};
use homefleet_cmp::crypto::Signer as _;
use serde::{Deserialize, Serialize};
use x509_cert::Certificate;
use x509_cert::ext::pkix::BasicConstraints;
use zeroize::Zeroizing;

use super::error::PkiError;
use super::key::{CaKeyKind, file, from_pkcs8};
use super::setup::{self, Ca, CaShape};
use crate::clock::Millis;

const CERTIFICATES: &str = "certificates.pem";
const STATE: &str = "state.toml";
/// Whom to trust now.
const ROOTS: &str = "roots.pem";
/// Rollovers of one CA.
const MAX: u32 = 64;

/// How far a rollover has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The new root is announced; the old one is still what certificates lead to.
    Announced,
    /// Certificates lead to the new root; the old one is still trusted.
    Switched,
    /// The old root is not trusted any more.
    Retired,
}

/// One rollover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollover {
    /// How far it has come.
    pub stage: Stage,
    /// When it came there.
    pub since: Millis,
    /// The root that is replaced.
    pub old: Vec<u8>,
    /// The new root.
    pub new: Vec<u8>,
    /// The new root's key, signed with the old one's.
    pub new_with_old: Vec<u8>,
    /// The old root's key, signed with the new one's.
    pub old_with_new: Vec<u8>,
    /// The issuing CA's certificate by the new root.
    pub issuing: Vec<u8>,
}

/// A rollover to be begun.
#[derive(Clone)]
pub struct Begin {
    /// The CA's directory.
    pub directory: PathBuf,
    /// Where the old root's key is; `None`: where it was made.
    pub root_key: Option<PathBuf>,
    /// Passphrase of the old root's key.
    pub root_passphrase: Zeroizing<String>,
    /// Passphrase of the new root's key; `None` = the same.
    pub new_passphrase: Option<Zeroizing<String>>,
    /// Kind of the new root's key.
    pub key: CaKeyKind,
    /// Validity of the new root.
    pub lifetime: Duration,
    /// Validity of the issuing CA's certificate by it.
    pub issuing_lifetime: Duration,
    /// Where the new root's list of revoked CAs will be.
    pub root_crl_urls: Vec<String>,
    /// Where the new root's certificate will be.
    pub root_ca_issuers_urls: Vec<String>,
    /// Iterations of the key derivation; `None` = as many as are good.
    pub iterations: Option<u32>,
}

/// `state.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    version: u32,
    stage: Stage,
    /// Milliseconds since 1970.
    since: u64,
}

/// Whom the CA's certificates lead to, and how those get there who trust another root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchy {
    /// The issuing CA's certificate first, those above it, the root last.
    pub chain: Vec<Vec<u8>>,
    /// Every certificate of the issuing CA that may be in use, the newest first.
    pub issuing: Vec<Vec<u8>>,
    /// The roots that are trusted, the newest first.
    pub roots: Vec<Vec<u8>>,
    /// Links between roots, for who trusts another one than the chain leads to.
    pub links: Vec<Vec<u8>>,
    /// The rollovers, oldest first.
    pub rollovers: Vec<Rollover>,
}

impl Hierarchy {
    /// That of a CA with this first chain, after what happened to it since.
    pub(super) fn new(first: Vec<Vec<u8>>, rollovers: Vec<Rollover>) -> Self {
        let mut of = Self {
            issuing: first.first().cloned().into_iter().collect(),
            roots: first.last().cloned().into_iter().collect(),
            chain: first,
            ..Self::default()
        };
        for rollover in &rollovers {
            of.roots.insert(0, rollover.new.clone());
            of.issuing.insert(0, rollover.issuing.clone());
            if rollover.stage == Stage::Announced {
                of.links.push(rollover.old_with_new.clone());
                continue;
            }
            of.chain = vec![rollover.issuing.clone(), rollover.new.clone()];
            of.links.push(rollover.new_with_old.clone());
            if rollover.stage == Stage::Retired {
                of.roots.retain(|root| *root != rollover.old);
            }
        }
        of.rollovers = rollovers;
        of
    }

    /// What followed this root.
    pub fn after(&self, root: &[u8]) -> Option<&Rollover> {
        self.rollovers.iter().find(|rollover| rollover.old == root)
    }
}

/// Every rollover of a CA, oldest first.
///
/// # Errors
/// When a file cannot be read or used.
pub(super) fn read(directory: &Path, first_root: &[u8]) -> Result<Vec<Rollover>, PkiError> {
    let mut old = first_root.to_vec();
    let mut all: Vec<Rollover> = Vec::new();
    for number in 1..=MAX {
        let place = place(directory, number);
        if !place.exists() {
            break;
        }
        let state = read_state(&place)?;
        let path = place.join(CERTIFICATES);
        let certificates = setup::read_chain(&path)?;
        let [new, new_with_old, old_with_new, issuing] = certificates.as_slice() else {
            return Err(PkiError::Certificate {
                path,
                problem: format!("{} certificates, expected 4", certificates.len()),
            });
        };
        let rollover = Rollover {
            stage: state.stage,
            since: Millis(state.since),
            old: old.clone(),
            new: new.clone(),
            new_with_old: new_with_old.clone(),
            old_with_new: old_with_new.clone(),
            issuing: issuing.clone(),
        };
        old.clone_from(new);
        all.push(rollover);
    }
    Ok(all)
}

/// Makes a new root, the links between it and the old one, and the issuing CA's certificate by it.
///
/// # Errors
/// [`PkiError`]; then nothing has changed.
pub fn begin(begin: &Begin, now: Millis) -> Result<(), PkiError> {
    let directory = &begin.directory;
    let hierarchy = setup::hierarchy(directory)?;
    let chain_path = directory.join(setup::CHAIN);
    let wrong = |problem: &str| PkiError::Certificate {
        path: chain_path.clone(),
        problem: problem.to_owned(),
    };
    let [issuing, old] = hierarchy.chain.as_slice() else {
        return Err(wrong(
            "a root is rolled over where the chain is the issuing CA's certificate and the root's",
        ));
    };
    let number = u32::try_from(hierarchy.rollovers.len()).unwrap_or(MAX) + 1;
    if number > MAX {
        return Err(PkiError::Option(format!("{MAX} rollovers are the most")));
    }
    if let Some(last) = hierarchy.rollovers.last()
        && last.stage != Stage::Retired
    {
        return Err(PkiError::Option(
            "the last rollover is not finished: retire its old root first".to_owned(),
        ));
    }
    if begin.issuing_lifetime > begin.lifetime {
        return Err(PkiError::Option(
            "the issuing CA would outlive its root".to_owned(),
        ));
    }
    let read = |der: &[u8]| Certificate::from_der(der).map_err(|error| wrong(&error.to_string()));
    let (issuing, old) = (read(issuing)?, read(old)?);

    let old_key_path = begin.root_key.clone().unwrap_or_else(|| match number {
        1 => directory.join(setup::ROOT_KEY),
        more => place(directory, more - 1).join(setup::ROOT_KEY),
    });
    if !old_key_path.exists() {
        return Err(PkiError::File {
            path: old_key_path,
            problem: "the root's key is not there: bring it back, it signs the new one".to_owned(),
        });
    }
    let old_key = from_pkcs8(&file::decrypt(&old_key_path, &begin.root_passphrase)?)?;
    let old_spki = spki(&old)?;
    if old_key.public_key().to_der() != old_spki {
        return Err(PkiError::KeyDiffers);
    }
    let new_pkcs8 = begin.key.generate()?;
    let new_key = from_pkcs8(&new_pkcs8)?;
    let new_spki = new_key.public_key().to_der();

    let name = old.tbs_certificate().subject().clone();
    let shape = |lifetime| CaShape {
        subject: name.to_string(),
        key: begin.key,
        lifetime,
    };
    let validity = old.tbs_certificate().validity();
    let old_end = Millis::from(validity.not_after.to_system_time());
    let old_begin = Millis::from(validity.not_before.to_system_time());
    let root_shape = shape(begin.lifetime);
    let root_path_len = path_len(&old)?;
    let root = Ca {
        shape: &root_shape,
        subject: &name,
        public_key: &new_spki,
        path_len: root_path_len,
        urls: (&[], &[]),
        validity: None,
    };
    let new = root.certificate(&new_key, &name, now)?;
    // RFC 9810 §4.4: good no longer than the old key.
    let new_with_old = Ca {
        validity: Some((now, old_end)),
        ..root
    };
    let new_with_old = new_with_old.certificate(&old_key, &name, now)?;
    let old_with_new = Ca {
        public_key: &old_spki,
        validity: Some((old_begin, old_end)),
        ..root
    };
    let old_with_new = old_with_new.certificate(&new_key, &name, now)?;
    let issuing_name = issuing.tbs_certificate().subject().clone();
    let issuing_shape = CaShape {
        subject: issuing_name.to_string(),
        ..shape(begin.issuing_lifetime)
    };
    let issuing = Ca {
        shape: &issuing_shape,
        subject: &issuing_name,
        public_key: &spki(&issuing)?,
        path_len: path_len(&issuing)?,
        urls: (&begin.root_crl_urls, &begin.root_ca_issuers_urls),
        validity: None,
    };
    let issuing = issuing.certificate(&new_key, &name, now)?;

    let iterations = begin.iterations.unwrap_or(file::ITERATIONS);
    let passphrase = begin.new_passphrase.as_ref();
    let passphrase = passphrase.unwrap_or(&begin.root_passphrase);
    let building = Building::start(place(directory, number))?;
    let key = file::encrypt(&new_pkcs8, passphrase, iterations)?;
    file::write_new(&building.temporary.join(setup::ROOT_KEY), &key, true)?;
    let list = setup::root_list(&new_key, &name, now, begin.lifetime)?;
    let list = setup::pem("X509 CRL", &list)?;
    file::write_new(&building.temporary.join(setup::ROOT_CRL), &list, false)?;
    let mut text = String::new();
    for der in [&new, &new_with_old, &old_with_new, &issuing] {
        text.push_str(&setup::pem("CERTIFICATE", der)?);
    }
    file::write_new(&building.temporary.join(CERTIFICATES), &text, false)?;
    let state = State {
        version: 1,
        stage: Stage::Announced,
        since: now.0,
    };
    write_state(&building.temporary, state)?;
    building.finish()?;
    write_roots(directory)
}

/// From now on certificates lead to the new root.
///
/// # Errors
/// [`PkiError`]; then nothing has changed.
pub fn switch(directory: &Path, now: Millis) -> Result<(), PkiError> {
    step(directory, Stage::Announced, Stage::Switched, now)
}

/// From now on the old root is not trusted.
///
/// # Errors
/// [`PkiError`]; then nothing has changed.
pub fn retire(directory: &Path, now: Millis) -> Result<(), PkiError> {
    step(directory, Stage::Switched, Stage::Retired, now)
}

fn step(directory: &Path, from: Stage, to: Stage, now: Millis) -> Result<(), PkiError> {
    let rollovers = setup::hierarchy(directory)?.rollovers;
    let stage = rollovers.last().map(|rollover| rollover.stage);
    if stage != Some(from) {
        return Err(PkiError::Option(match (stage, to) {
            (None | Some(Stage::Retired), _) => {
                "no rollover is under way: begin one first".to_owned()
            }
            (Some(Stage::Announced), Stage::Retired) => {
                "certificates still lead to the old root: switch first".to_owned()
            }
            (Some(stage), _) => format!("the rollover has come further already: {stage:?}"),
        }));
    }
    let number = u32::try_from(rollovers.len()).unwrap_or(MAX);
    let state = State {
        version: 1,
        stage: to,
        since: now.0,
    };
    write_state(&place(directory, number), state)?;
    write_roots(directory)
}

/// Writes whom to trust now. Once a root is retired the issuing CA stands beside the new one, for devices whose chain still leads to the old.
fn write_roots(directory: &Path) -> Result<(), PkiError> {
    let hierarchy = setup::hierarchy(directory)?;
    let retired = hierarchy.rollovers.last().map(|it| it.stage) == Some(Stage::Retired);
    let beside = hierarchy.issuing.first().filter(|_| retired);
    let mut text = String::new();
    for der in hierarchy.roots.iter().chain(beside) {
        text.push_str(&setup::pem("CERTIFICATE", der)?);
    }
    replace(&directory.join(ROOTS), &text)
}

fn place(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("rollover-{number}"))
}

fn spki(certificate: &Certificate) -> Result<Vec<u8>, PkiError> {
    let info = certificate.tbs_certificate().subject_public_key_info();
    info.to_der().map_err(unreadable)
}

fn path_len(certificate: &Certificate) -> Result<Option<u8>, PkiError> {
    let tbs = certificate.tbs_certificate();
    let constraints = tbs.get_extension::<BasicConstraints>();
    let constraints = constraints.map_err(unreadable)?;
    Ok(constraints.and_then(|(_, constraints)| constraints.path_len_constraint))
}

fn unreadable(error: der::Error) -> PkiError {
    PkiError::Option(format!("a certificate of the CA cannot be read: {error}"))
}

fn read_state(place: &Path) -> Result<State, PkiError> {
    let path = place.join(STATE);
    let text = file::read(&path)?;
    let bad = |problem: String| PkiError::File {
        path: path.clone(),
        problem,
    };
    let text = std::str::from_utf8(&text).map_err(|error| bad(error.to_string()))?;
    let state: State = toml::from_str(text).map_err(|error| bad(error.message().to_owned()))?;
    match state.version {
        1 => Ok(state),
        found => Err(bad(format!("found version {found}, expected 1"))),
    }
}

fn write_state(place: &Path, state: State) -> Result<(), PkiError> {
    let text = toml::to_string(&state).map_err(|error| PkiError::Option(error.to_string()))?;
    replace(&place.join(STATE), &text)
}

/// Puts a file in the place of another, whole or not at all.
fn replace(path: &Path, text: &str) -> Result<(), PkiError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let temporary = PathBuf::from(name);
    // Left by one that was killed.
    drop(std::fs::remove_file(&temporary));
    file::write_new(&temporary, text, false)?;
    std::fs::rename(&temporary, path)
        .and_then(|()| sync_above(path))
        .map_err(|error| setup::failed(path, &error))
}

fn sync_above(path: &Path) -> std::io::Result<()> {
    let above = path.parent().filter(|path| !path.as_os_str().is_empty());
    std::fs::File::open(above.unwrap_or(Path::new(".")))?.sync_all()
}

/// A directory that is being filled: it takes its name when it is complete, and is gone when it does not get there.
struct Building {
    directory: PathBuf,
    temporary: PathBuf,
}

impl Building {
    fn start(directory: PathBuf) -> Result<Self, PkiError> {
        use std::os::unix::fs::DirBuilderExt as _;

        let mut name = directory.as_os_str().to_owned();
        name.push(format!(".new-{}", std::process::id()));
        let temporary = PathBuf::from(name);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&temporary);
        made.map_err(|error| setup::failed(&temporary, &error))?;
        Ok(Self {
            directory,
            temporary,
        })
    }

    fn finish(self) -> Result<(), PkiError> {
        std::fs::rename(&self.temporary, &self.directory)
            .and_then(|()| sync_above(&self.directory))
            .map_err(|error| setup::failed(&self.directory, &error))
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        // After the rename there is nothing to remove.
        drop(std::fs::remove_dir_all(&self.temporary));
    }
}
