//! `homefleet ca …`: works on the CA's directory, with no server running.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use homefleet_server::clock::Millis;
use homefleet_server::config::{PASSPHRASE_VARIABLE, PIN_VARIABLE};
use homefleet_server::pki::{self, CaKeyKind, CaShape, ImportedKey, PkiError, TokenPlace};
use zeroize::Zeroizing;

use crate::cli::Global;
use crate::failure::Failure;
use crate::output::{self, Table};
use crate::passphrase;
use crate::token::seconds;

mod rollover;

/// Environment variable with the passphrase of the root's key.
const ROOT_PASSPHRASE_VARIABLE: &str = "HOMEFLEET_PKI_ROOT_PASSPHRASE";
/// Environment variable with the passphrase of a key file that is imported.
const IMPORT_PASSPHRASE_VARIABLE: &str = "HOMEFLEET_PKI_IMPORT_PASSPHRASE";

/// What `homefleet ca` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Ca {
    /// Make a root and an issuing CA
    #[command(after_help = "Examples:
  homefleet ca init --config homefleet.toml
  homefleet ca init --config homefleet.toml --subject 'CN=Devices CA,O=Example' --key p384
  homefleet ca init --config homefleet.toml --pkcs11-module /usr/lib/softhsm/libsofthsm2.so --pkcs11-token homefleet")]
    Init(Init),
    /// Take over an issuing CA that there is: its chain and its key
    #[command(after_help = "Example:
  homefleet ca import --config homefleet.toml --chain chain.pem --key issuing.key")]
    Import(Import),
    /// Put a new root in the place of the old one, step by step: nobody is cut off
    #[command(subcommand)]
    Rollover(rollover::Rollover),
    /// Show the CA's certificates and where their keys are; needs no passphrase
    Show(Place),
}

impl Ca {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Init(command) => command.run(global),
            Self::Import(command) => command.run(global),
            Self::Rollover(command) => command.run(global),
            Self::Show(place) => show(&place.find()?.directory, global),
        }
    }
}

/// Which directory.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Server configuration: the CA's directory is the one it names
    #[arg(long, value_name = "FILE", required_unless_present = "directory")]
    config: Option<PathBuf>,
    /// The CA's directory
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    directory: Option<PathBuf>,
}

/// A directory, and the files that the configuration names.
struct Found {
    directory: PathBuf,
    passphrase_file: Option<PathBuf>,
    pin_file: Option<PathBuf>,
}

impl Place {
    fn find(&self) -> Result<Found, Failure> {
        if let Some(directory) = &self.directory {
            return Ok(Found {
                directory: directory.clone(),
                passphrase_file: None,
                pin_file: None,
            });
        }
        // clap wants one of the two.
        let config = crate::config::load(self.config.as_deref().unwrap_or(Path::new("")))?;
        Ok(Found {
            directory: config.pki_directory(),
            passphrase_file: config.pki.passphrase_file,
            pin_file: config.pki.pin_file,
        })
    }
}

/// A key in a PKCS#11 token.
#[derive(Debug, Args)]
struct Token {
    /// PKCS#11 module, a shared library: the issuing CA's key is in its token, not in a file
    #[arg(long, value_name = "FILE", requires = "pkcs11_token")]
    pkcs11_module: Option<PathBuf>,
    /// Label of the token
    #[arg(long, value_name = "LABEL", requires = "pkcs11_module")]
    pkcs11_token: Option<String>,
    /// Label of the key pair in the token
    #[arg(long, value_name = "LABEL", default_value = "homefleet-issuing")]
    pkcs11_key: String,
    /// File with the token's PIN [default: HOMEFLEET_PKI_PIN, or asked for]
    #[arg(long, value_name = "FILE")]
    pin_file: Option<PathBuf>,
}

impl Token {
    fn place(&self, found: &Found) -> Result<Option<(TokenPlace, Zeroizing<String>)>, Failure> {
        let (Some(module), Some(token)) = (&self.pkcs11_module, &self.pkcs11_token) else {
            return Ok(None);
        };
        let file = self.pin_file.as_deref().or(found.pin_file.as_deref());
        let pin = passphrase::existing("PIN of the token", file, PIN_VARIABLE)?;
        let place = TokenPlace {
            module: module.clone(),
            token: token.clone(),
            key: self.pkcs11_key.clone(),
        };
        Ok(Some((place, pin)))
    }
}

/// `ca init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    #[command(flatten)]
    place: Place,
    /// Subject of the issuing CA
    #[arg(long, value_name = "NAME", default_value = "CN=Homefleet Issuing CA")]
    subject: String,
    /// Subject of the root
    #[arg(long, value_name = "NAME", default_value = "CN=Homefleet Root CA")]
    root_subject: String,
    /// Kind of the issuing CA's key: p256, p384, ed25519, rsa3072, rsa4096
    #[arg(long, value_name = "KIND", default_value = "p256")]
    key: CaKeyKind,
    /// Kind of the root's key [default: as the issuing CA's]
    #[arg(long, value_name = "KIND")]
    root_key: Option<CaKeyKind>,
    /// Validity of the issuing CA
    #[arg(long, value_name = "TIME", default_value = "3650d", value_parser = seconds)]
    lifetime: u64,
    /// Validity of the root
    #[arg(long, value_name = "TIME", default_value = "7300d", value_parser = seconds)]
    root_lifetime: u64,
    /// How many CAs there may be below the issuing one
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    path_len: u8,
    /// Where the root's list of revoked CAs will be, as the issuing CA's certificate says; may be given again
    #[arg(long, value_name = "URL")]
    root_crl_url: Vec<String>,
    /// Where the root's certificate will be, likewise
    #[arg(long, value_name = "URL")]
    root_ca_issuers_url: Vec<String>,
    /// File with the passphrase of the key files [default: the configuration's, HOMEFLEET_PKI_PASSPHRASE, or asked for]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// File with another passphrase for the root's key [default: HOMEFLEET_PKI_ROOT_PASSPHRASE, or the same passphrase]
    #[arg(long, value_name = "FILE")]
    root_passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    token: Token,
}

impl Init {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let found = self.place.find()?;
        let root_passphrase = match &self.root_passphrase_file {
            Some(path) => {
                Some(homefleet_server::config::read_secret(path).map_err(Failure::Usage)?)
            }
            None => std::env::var(ROOT_PASSPHRASE_VARIABLE)
                .ok()
                .map(Zeroizing::new),
        };
        let init = pki::Init {
            directory: found.directory.clone(),
            root: CaShape {
                subject: self.root_subject.clone(),
                key: self.root_key.unwrap_or(self.key),
                lifetime: Duration::from_secs(self.root_lifetime),
            },
            issuing: CaShape {
                subject: self.subject.clone(),
                key: self.key,
                lifetime: Duration::from_secs(self.lifetime),
            },
            path_len: self.path_len,
            root_crl_urls: self.root_crl_url.clone(),
            root_ca_issuers_urls: self.root_ca_issuers_url.clone(),
            token: self.token.place(&found)?,
            passphrase: new_passphrase(self.passphrase_file.as_deref(), &found)?,
            root_passphrase,
            iterations: None,
        };
        pki::init(&init, Millis::from(SystemTime::now())).map_err(failure)?;
        show(&found.directory, global)?;
        let root = found.directory.join("root.key");
        output::note(&format!(
            "the CA is in {}; nothing needs {} any more but the making of another issuing CA: take it away",
            found.directory.display(),
            root.display()
        ));
        Ok(())
    }
}

/// `ca import`.
#[derive(Debug, Args)]
pub(crate) struct Import {
    #[command(flatten)]
    place: Place,
    /// PEM file with the issuing CA's certificate first and the root's last
    #[arg(long, value_name = "FILE")]
    chain: PathBuf,
    /// PEM file with the issuing CA's key under a passphrase (PKCS #8)
    #[arg(long, value_name = "FILE", required_unless_present = "pkcs11_module")]
    key: Option<PathBuf>,
    /// File with the passphrase of that key [default: HOMEFLEET_PKI_IMPORT_PASSPHRASE, or asked for]
    #[arg(long, value_name = "FILE")]
    key_passphrase_file: Option<PathBuf>,
    /// File with the passphrase that the CA's key files get [default: the configuration's, HOMEFLEET_PKI_PASSPHRASE, or asked for]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    token: Token,
}

impl Import {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let found = self.place.find()?;
        let key = match (self.token.place(&found)?, &self.key) {
            (Some((place, pin)), _) => ImportedKey::Token(place, pin),
            (None, Some(path)) => {
                let passphrase = passphrase::existing(
                    "Passphrase of the key file",
                    self.key_passphrase_file.as_deref(),
                    IMPORT_PASSPHRASE_VARIABLE,
                )?;
                ImportedKey::File(path.clone(), passphrase)
            }
            (None, None) => return Err(Failure::Usage("give --key or --pkcs11-module".to_owned())),
        };
        let import = pki::Import {
            directory: found.directory.clone(),
            chain: self.chain.clone(),
            key,
            passphrase: new_passphrase(self.passphrase_file.as_deref(), &found)?,
            iterations: None,
        };
        pki::import(&import).map_err(failure)?;
        show(&found.directory, global)
    }
}

fn new_passphrase(file: Option<&Path>, found: &Found) -> Result<Zeroizing<String>, Failure> {
    let file = file.or(found.passphrase_file.as_deref());
    passphrase::new(
        "Passphrase of the CA's key files",
        file,
        PASSPHRASE_VARIABLE,
    )
}

fn show(directory: &Path, global: &Global) -> Result<(), Failure> {
    let shown = pki::show(directory).map_err(failure)?;
    if global.json {
        return output::json(&serde_json::json!({
            "directory": directory,
            "certificates": shown,
        }));
    }
    let mut table = Table::new(&["SUBJECT", "KEY", "IN", "VALID UNTIL", "SHA-256"]);
    for ca in &shown {
        table.row([
            ca.subject.as_str(),
            &ca.key,
            &ca.key_in,
            &ca.not_after,
            &ca.sha256,
        ]);
    }
    table.print()
}

fn failure(error: PkiError) -> Failure {
    let text = error.to_string();
    match error {
        PkiError::Missing(_) => Failure::NotFound(text),
        PkiError::Exists(_) | PkiError::WrongPassphrase(_) | PkiError::KeyDiffers => {
            Failure::Refused(text)
        }
        PkiError::NoPassphrase
        | PkiError::NoPin
        | PkiError::WeakPassphrase { .. }
        | PkiError::Option(_)
        | PkiError::Certificate { .. } => Failure::Usage(text),
        _ => Failure::Failed(text),
    }
}
