//! The CA's directory: making it, importing into it, opening it.
//!
//! ```text
//!   chain.pem     the issuing CA's certificate first, the root's last
//!   issuing.key   the issuing CA's key, under the passphrase
//!   root.key      the root's key, under its own passphrase: nothing reads it, take it away
//!   root.crl      the root's list of revoked CAs: none
//!   secrets.key   the key that seals what the store keeps, under the passphrase
//!   ca.toml       where the issuing CA's key is
//!   rollover-N/   the Nth new root, see `rollover`
//! ```

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use der::Encode as _;
use der::pem::LineEnding;
use homefleet_cmp::crypto::{KeyKind, KeyPair, Signer};
use serde::{Deserialize, Serialize};
use x509_cert::name::Name;
use zeroize::Zeroizing;

use super::authority::{Authority, key_id};
use super::certificate::{
    CA_USAGE, Unsigned, authority_info, authority_key_id, basic_constraints,
    crl_distribution_points, key_usage, signed, subject_key_id,
};
use super::error::PkiError;
use super::key::pkcs11::TokenKey;
use super::key::{CaKeyKind, TokenPlace, file, from_pkcs8};
use super::rollover::{self, Hierarchy};
use super::serial::Serial;
use super::vault::Vault;
use super::{PkiConfig, crl};
use crate::clock::Millis;

pub(super) const CHAIN: &str = "chain.pem";
const ISSUING_KEY: &str = "issuing.key";
pub(super) const ROOT_KEY: &str = "root.key";
pub(super) const ROOT_CRL: &str = "root.crl";
const SECRETS_KEY: &str = "secrets.key";
const DESCRIPTION: &str = "ca.toml";
/// By how much the validity of a CA begins earlier than now.
const BACKDATE: Duration = Duration::from_secs(86_400);

/// A CA of the hierarchy.
#[derive(Debug, Clone)]
pub struct CaShape {
    /// Subject, as `CN=Example Root CA,O=Example`.
    pub subject: String,
    /// Kind of its key.
    pub key: CaKeyKind,
    /// Its validity.
    pub lifetime: Duration,
}

/// A hierarchy to be made: a root and an issuing CA.
#[derive(Clone)]
pub struct Init {
    /// Directory; it must not have a CA.
    pub directory: PathBuf,
    /// The root.
    pub root: CaShape,
    /// The issuing CA.
    pub issuing: CaShape,
    /// How many CAs there may be below the issuing one.
    pub path_len: u8,
    /// Where the root's list of revoked CAs will be, as the issuing CA's certificate says.
    pub root_crl_urls: Vec<String>,
    /// Where the root's certificate will be, likewise.
    pub root_ca_issuers_urls: Vec<String>,
    /// Passphrase of the issuing CA's key and of the secrets.
    pub passphrase: Zeroizing<String>,
    /// The issuing CA's key is made in this token, instead of a file.
    pub token: Option<(TokenPlace, Zeroizing<String>)>,
    /// Passphrase of the root's key; `None` = the same.
    pub root_passphrase: Option<Zeroizing<String>>,
    /// Iterations of the key derivation; `None` = as many as are good. Tests have less time.
    pub iterations: Option<u32>,
}

/// An issuing CA to be imported.
#[derive(Clone)]
pub struct Import {
    /// Directory; it must not have a CA.
    pub directory: PathBuf,
    /// File with its certificate first, the root's last, in PEM.
    pub chain: PathBuf,
    /// Where its key is.
    pub key: ImportedKey,
    /// Passphrase that the key and the secrets are kept under.
    pub passphrase: Zeroizing<String>,
    /// Iterations of the key derivation; `None` = as many as are good.
    pub iterations: Option<u32>,
}

/// The key of a CA that is imported.
#[derive(Clone)]
pub enum ImportedKey {
    /// In a file, PEM, under a passphrase. It is copied, under the CA's own passphrase.
    File(PathBuf, Zeroizing<String>),
    /// At hand: PKCS #8. It is kept under the CA's own passphrase.
    Pkcs8(Zeroizing<Vec<u8>>),
    /// In a PKCS#11 token, with its PIN. It stays there.
    Token(TokenPlace, Zeroizing<String>),
}

/// A certificate of the hierarchy, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Subject.
    pub subject: String,
    /// Issuer.
    pub issuer: String,
    /// Serial number.
    pub serial: String,
    /// Kind and size of the key.
    pub key: String,
    /// Begin of validity.
    pub not_before: String,
    /// End of validity.
    pub not_after: String,
    /// SHA-256 of the certificate.
    pub sha256: String,
    /// Where its key is: `file`, `pkcs11`, `offline`.
    pub key_in: String,
}

/// `ca.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    version: u32,
    /// Where the issuing CA's key is; absent = in its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pkcs11: Option<TokenPlace>,
}

/// An opened directory.
pub(super) struct Opened {
    pub(super) authority: Authority,
    pub(super) vault: Vault,
}

/// Opens the CA.
pub(super) fn open(config: &PkiConfig) -> Result<Opened, PkiError> {
    let directory = &config.directory;
    let description = describe(directory)?;
    let path = directory.join(CHAIN);
    let hierarchy = hierarchy(directory)?;
    let passphrase = config.passphrase.as_ref().ok_or(PkiError::NoPassphrase)?;
    let (key, blocking): (Arc<dyn Signer>, bool) = match &description.pkcs11 {
        Some(place) => {
            let pin = config.pin.as_ref().ok_or(PkiError::NoPin)?;
            (Arc::new(TokenKey::open(place, pin)?), true)
        }
        None => {
            let pkcs8 = file::decrypt(&directory.join(ISSUING_KEY), passphrase)?;
            let key = from_pkcs8(&pkcs8)?;
            let blocking = key.kind() == KeyKind::Rsa;
            (Arc::new(key), blocking)
        }
    };
    let authority = Authority::new(&path, hierarchy, key, blocking)?;
    let secrets = file::decrypt(&directory.join(SECRETS_KEY), passphrase)?;
    Ok(Opened {
        authority,
        vault: Vault::new(&secrets)?,
    })
}

/// Whom the CA in the directory leads to, after what happened to it since it was made.
///
/// # Errors
/// When a file cannot be read or used.
pub fn hierarchy(directory: &Path) -> Result<Hierarchy, PkiError> {
    describe(directory)?;
    let chain = read_chain(&directory.join(CHAIN))?;
    let root = chain.last().map(Vec::as_slice).unwrap_or_default();
    let rollovers = rollover::read(directory, root)?;
    Ok(Hierarchy::new(chain, rollovers))
}

/// Makes a root and an issuing CA.
///
/// # Errors
/// [`PkiError`]; then there is no CA.
pub fn init(init: &Init, now: Millis) -> Result<(), PkiError> {
    let building = Building::start(&init.directory)?;
    let iterations = init.iterations.unwrap_or(file::ITERATIONS);
    let root_passphrase = init.root_passphrase.as_ref().unwrap_or(&init.passphrase);
    if init.issuing.lifetime > init.root.lifetime {
        return Err(PkiError::Option(
            "the issuing CA would outlive its root".to_owned(),
        ));
    }

    let root_pkcs8 = init.root.key.generate()?;
    let root_key = from_pkcs8(&root_pkcs8)?;
    let root_name = name(&init.root.subject)?;
    let root = Ca {
        shape: &init.root,
        subject: &root_name,
        public_key: &root_key.public_key().to_der(),
        path_len: Some(init.path_len.saturating_add(1)),
        urls: (&[], &[]),
        validity: None,
    };
    let root_der = root.certificate(&root_key, &root_name, now)?;
    building.write(
        ROOT_KEY,
        &file::encrypt(&root_pkcs8, root_passphrase, iterations)?,
        true,
    )?;
    let root_crl = root_list(&root_key, &root_name, now, init.root.lifetime)?;
    building.write(ROOT_CRL, &pem("X509 CRL", &root_crl)?, false)?;

    let subject = name(&init.issuing.subject)?;
    if subject == root_name {
        return Err(PkiError::Option(
            "root and issuing CA have the same subject".to_owned(),
        ));
    }
    let public_key = match &init.token {
        Some((place, pin)) => TokenKey::generate(place, pin, init.issuing.key)?.public_key(),
        None => {
            let pkcs8 = init.issuing.key.generate()?;
            let text = file::encrypt(&pkcs8, &init.passphrase, iterations)?;
            building.write(ISSUING_KEY, &text, true)?;
            from_pkcs8(&pkcs8)?.public_key()
        }
    };
    let issuing = Ca {
        shape: &init.issuing,
        subject: &subject,
        public_key: &public_key.to_der(),
        path_len: Some(init.path_len),
        urls: (&init.root_crl_urls, &init.root_ca_issuers_urls),
        validity: None,
    };
    let issuing_der = issuing.certificate(&root_key, &root_name, now)?;
    let chain = pem("CERTIFICATE", &issuing_der)? + &pem("CERTIFICATE", &root_der)?;
    building.write(CHAIN, &chain, false)?;
    let place = init.token.as_ref().map(|(place, _)| place.clone());
    building.finish(&init.passphrase, iterations, place)
}

/// Takes over an issuing CA that there is.
///
/// # Errors
/// [`PkiError`]; then there is no CA in the directory.
pub fn import(import: &Import) -> Result<(), PkiError> {
    let building = Building::start(&import.directory)?;
    let iterations = import.iterations.unwrap_or(file::ITERATIONS);
    let chain = read_chain(&import.chain)?;
    // Judged as it will be when it is opened.
    let first = || Hierarchy::new(chain.clone(), Vec::new());
    let judge = |key: Arc<dyn Signer>| Authority::new(&import.chain, first(), key, false);
    let keep = |building: &Building, pkcs8: &[u8]| {
        judge(Arc::new(from_pkcs8(pkcs8)?))?;
        let text = file::encrypt(pkcs8, &import.passphrase, iterations)?;
        building.write(ISSUING_KEY, &text, true)
    };
    let place = match &import.key {
        ImportedKey::File(path, passphrase) => {
            keep(&building, &file::decrypt(path, passphrase)?)?;
            None
        }
        ImportedKey::Pkcs8(pkcs8) => {
            keep(&building, pkcs8)?;
            None
        }
        ImportedKey::Token(place, pin) => {
            judge(Arc::new(TokenKey::open(place, pin)?))?;
            Some(place.clone())
        }
    };
    let mut text = String::new();
    for certificate in &chain {
        text.push_str(&pem("CERTIFICATE", certificate)?);
    }
    building.write(CHAIN, &text, false)?;
    building.finish(&import.passphrase, iterations, place)
}

/// The certificates of the CA, the issuing one first; needs no passphrase.
///
/// # Errors
/// [`PkiError`].
pub fn show(directory: &Path) -> Result<Vec<Shown>, PkiError> {
    let description = describe(directory)?;
    let path = directory.join(CHAIN);
    let hierarchy = hierarchy(directory)?;
    let (chain, roots) = (&hierarchy.chain, &hierarchy.roots);
    let others = roots.iter().filter(|root| !chain.contains(root));
    let is_there = |root: &Vec<u8>| {
        let made = hierarchy.rollovers.iter().position(|it| it.new == *root);
        let place = made.map_or(directory.to_owned(), |at| {
            directory.join(format!("rollover-{}", at + 1))
        });
        place.join(ROOT_KEY).exists()
    };
    chain
        .iter()
        .chain(others)
        .enumerate()
        .map(|(place, der)| {
            let key_in = match place {
                0 if description.pkcs11.is_some() => "pkcs11",
                0 => "file",
                _ if roots.contains(der) && is_there(der) => "file",
                _ => "offline",
            };
            shown(der, key_in).map_err(|problem| PkiError::Certificate {
                path: path.clone(),
                problem,
            })
        })
        .collect()
}

fn shown(der: &[u8], key_in: &str) -> Result<Shown, String> {
    use der::Decode as _;
    let failed = |error: der::Error| error.to_string();
    let certificate = x509_cert::Certificate::from_der(der).map_err(failed)?;
    let tbs = certificate.tbs_certificate();
    let spki = tbs.subject_public_key_info().to_der().map_err(failed)?;
    let info = homefleet_cmp::asn1::PublicKeyInfo::from_der(&spki).map_err(failed)?;
    let time = |time: &x509_cert::time::Time| Millis::from(time.to_system_time()).to_timestamp();
    use homefleet_cmp::oid;
    Ok(Shown {
        subject: tbs.subject().to_string(),
        issuer: tbs.issuer().to_string(),
        serial: crate::account::hex(tbs.serial_number().as_bytes()),
        key: match homefleet_cmp::crypto::public_key_bits(&info) {
            Some((oid::P256, _)) => "ECDSA P-256".to_owned(),
            Some((oid::P384, _)) => "ECDSA P-384".to_owned(),
            Some((oid::ED25519, _)) => "Ed25519".to_owned(),
            Some((_, bits)) => format!("RSA {bits}"),
            None => "unknown".to_owned(),
        },
        not_before: time(&tbs.validity().not_before),
        not_after: time(&tbs.validity().not_after),
        sha256: crate::account::hex(&super::sha256(der)),
        key_in: key_in.to_owned(),
    })
}

/// A directory that is being filled: it takes its name when it is complete, and is gone when it does not get there.
struct Building {
    directory: PathBuf,
    temporary: PathBuf,
}

impl Building {
    fn start(directory: &Path) -> Result<Self, PkiError> {
        if directory.join(DESCRIPTION).exists() || directory.join(ISSUING_KEY).exists() {
            return Err(PkiError::Exists(directory.to_owned()));
        }
        let mut name = directory.as_os_str().to_owned();
        name.push(format!(".new-{}", std::process::id()));
        let temporary = PathBuf::from(name);
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&temporary);
        made.map_err(|error| failed(&temporary, &error))?;
        Ok(Self {
            directory: directory.to_owned(),
            temporary,
        })
    }

    fn write(&self, name: &str, text: &str, private: bool) -> Result<(), PkiError> {
        file::write_new(&self.temporary.join(name), text, private)
    }

    fn finish(
        self,
        passphrase: &str,
        iterations: u32,
        pkcs11: Option<TokenPlace>,
    ) -> Result<(), PkiError> {
        let key = Vault::generate().map_err(|error| PkiError::Random(error.to_string()))?;
        self.write(
            SECRETS_KEY,
            &file::encrypt(&key, passphrase, iterations)?,
            true,
        )?;
        let description = toml::to_string(&Description { version: 1, pkcs11 });
        let description = description.map_err(|error| PkiError::Option(error.to_string()))?;
        self.write(DESCRIPTION, &description, false)?;
        // Works over an empty directory, and over no other one.
        std::fs::rename(&self.temporary, &self.directory)
            .and_then(|()| {
                let above = self
                    .directory
                    .parent()
                    .filter(|path| !path.as_os_str().is_empty());
                std::fs::File::open(above.unwrap_or(Path::new(".")))?.sync_all()
            })
            .map_err(|error| failed(&self.directory, &error))
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        // After the rename there is nothing to remove.
        drop(std::fs::remove_dir_all(&self.temporary));
    }
}

/// A CA's certificate to be made.
#[derive(Clone, Copy)]
pub(super) struct Ca<'a> {
    pub(super) shape: &'a CaShape,
    pub(super) subject: &'a Name,
    pub(super) public_key: &'a [u8],
    pub(super) path_len: Option<u8>,
    /// Where list and certificate of its issuer are.
    pub(super) urls: (&'a [String], &'a [String]),
    /// From when until when; `None`: from now on, for its lifetime.
    pub(super) validity: Option<(Millis, Millis)>,
}

impl Ca<'_> {
    pub(super) fn certificate(
        &self,
        issuer_key: &KeyPair,
        issuer: &Name,
        now: Millis,
    ) -> Result<Vec<u8>, PkiError> {
        let failed = |error: der::Error| PkiError::Option(error.to_string());
        let serial = Serial::random().map_err(|error| PkiError::Random(error.to_string()))?;
        let mut extensions = vec![
            basic_constraints(true, self.path_len),
            key_usage(CA_USAGE),
            subject_key_id(&key_id(self.public_key)),
            authority_key_id(&key_id(&issuer_key.public_key().to_der())),
        ];
        if !self.urls.0.is_empty() {
            extensions.push(crl_distribution_points(self.urls.0));
        }
        if !self.urls.1.is_empty() {
            extensions.push(authority_info(&[], self.urls.1));
        }
        let algorithm = issuer_key.algorithm().to_der().map_err(failed)?;
        let backdate = u64::try_from(BACKDATE.as_millis()).unwrap_or(0);
        let (not_before, not_after) = self.validity.unwrap_or((
            Millis(now.0.saturating_sub(backdate)),
            now.plus(self.shape.lifetime),
        ));
        let contents = Unsigned {
            serial: &serial,
            algorithm: &algorithm,
            issuer: &issuer.to_der().map_err(failed)?,
            not_before,
            not_after,
            subject: &self.subject.to_der().map_err(failed)?,
            public_key: self.public_key,
            extensions: &extensions,
        }
        .to_der();
        let signature = issuer_key.sign(&contents);
        let signature = signature.map_err(|error| PkiError::Key(error.to_string()))?;
        Ok(signed(&contents, &algorithm, &signature))
    }
}

/// The root's list: no CA is revoked. It is good as long as the root, because the root's key is to be away.
pub(super) fn root_list(
    key: &KeyPair,
    root: &Name,
    now: Millis,
    lifetime: Duration,
) -> Result<Vec<u8>, PkiError> {
    let failed = |error: der::Error| PkiError::Option(error.to_string());
    let algorithm = key.algorithm().to_der().map_err(failed)?;
    let contents = crl::unsigned_list(&crl::Contents {
        algorithm: &algorithm,
        issuer: &root.to_der().map_err(failed)?,
        key_id: &key_id(&key.public_key().to_der()),
        number: 1,
        this_update: now,
        next_update: now.plus(lifetime),
        revoked: &[],
    });
    let signature = key.sign(&contents);
    let signature = signature.map_err(|error| PkiError::Key(error.to_string()))?;
    Ok(signed(&contents, &algorithm, &signature))
}

fn describe(directory: &Path) -> Result<Description, PkiError> {
    let path = directory.join(DESCRIPTION);
    if !path.exists() {
        return Err(PkiError::Missing(directory.to_owned()));
    }
    let bad = |problem: String| PkiError::File {
        path: path.clone(),
        problem,
    };
    let text = file::read(&path)?;
    let text = std::str::from_utf8(&text).map_err(|error| bad(error.to_string()))?;
    let description: Description =
        toml::from_str(text).map_err(|error| bad(error.message().to_owned()))?;
    match description.version {
        1 => Ok(description),
        found => Err(bad(format!("found version {found}, expected 1"))),
    }
}

pub(super) fn read_chain(path: &Path) -> Result<Vec<Vec<u8>>, PkiError> {
    let text = file::read(path)?;
    let bad = |problem: String| PkiError::Certificate {
        path: path.to_owned(),
        problem,
    };
    let chain = x509_cert::Certificate::load_pem_chain(&text)
        .map_err(|error| bad(format!("no certificates in PEM: {error}")))?;
    chain
        .iter()
        .map(|certificate| certificate.to_der().map_err(|error| bad(error.to_string())))
        .collect()
}

fn name(text: &str) -> Result<Name, PkiError> {
    Name::from_str(text)
        .ok()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| {
            PkiError::Option(format!(
                "`{text}` is no subject: expected attributes such as CN=Example CA,O=Example"
            ))
        })
}

pub(super) fn pem(label: &str, der: &[u8]) -> Result<String, PkiError> {
    der::pem::encode_string(label, LineEnding::LF, der)
        .map_err(|error| PkiError::Option(error.to_string()))
}

pub(super) fn failed(path: &Path, error: &std::io::Error) -> PkiError {
    PkiError::File {
        path: path.to_owned(),
        problem: error.to_string(),
    }
}
