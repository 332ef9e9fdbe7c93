//! `homefleet ca rollover …`: a new root, in three steps.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use homefleet_server::clock::Millis;
use homefleet_server::config::PASSPHRASE_VARIABLE;
use homefleet_server::pki::{self, CaKeyKind};
use zeroize::Zeroizing;

use super::{Place, ROOT_PASSPHRASE_VARIABLE, failure, show};
use crate::cli::Global;
use crate::failure::Failure;
use crate::output;
use crate::passphrase;
use crate::token::seconds;

/// Environment variable with the passphrase of the new root's key.
const NEW_PASSPHRASE_VARIABLE: &str = "HOMEFLEET_PKI_NEW_ROOT_PASSPHRASE";

/// What `homefleet ca rollover` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Rollover {
    /// Make the new root and what links it with the old one; a server that runs announces it within a minute
    #[command(after_help = "\
The key of the old root signs the new one: bring it back for this step. Nothing else changes: certificates still lead to the old
root, and who hears of the new one trusts both.

Example:
  homefleet ca rollover begin --config homefleet.toml")]
    Begin(Begin),
    /// Have certificates lead to the new root; who trusts the old one only is led there by a link
    Switch(Step),
    /// Give the old root up: the server does not trust it any more, and says so
    #[command(after_help = "\
A device that slept through all of it still learns of the new root when it asks, for as long as the old one has not ended. Before
this step every certificate that others check without our help, such as that of a USP Controller, has to lead to the new root.")]
    Retire(Step),
}

/// `ca rollover begin`.
#[derive(Debug, Args)]
pub(crate) struct Begin {
    #[command(flatten)]
    place: Place,
    /// File with the old root's key [default: where it was made]
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,
    /// Kind of the new root's key: p256, p384, ed25519, rsa3072, rsa4096
    #[arg(long, value_name = "KIND", default_value = "p256")]
    key: CaKeyKind,
    /// Validity of the new root
    #[arg(long, value_name = "TIME", default_value = "7300d", value_parser = seconds)]
    lifetime: u64,
    /// Validity of the issuing CA's certificate by the new root
    #[arg(long, value_name = "TIME", default_value = "3650d", value_parser = seconds)]
    issuing_lifetime: u64,
    /// Where the new root's list of revoked CAs will be, as the issuing CA's certificate says; may be given again
    #[arg(long, value_name = "URL")]
    root_crl_url: Vec<String>,
    /// Where the new root's certificate will be, likewise
    #[arg(long, value_name = "URL")]
    root_ca_issuers_url: Vec<String>,
    /// File with the passphrase of the old root's key [default: HOMEFLEET_PKI_ROOT_PASSPHRASE, that of the CA's key files, or asked for]
    #[arg(long, value_name = "FILE")]
    root_passphrase_file: Option<PathBuf>,
    /// File with another passphrase for the new root's key [default: HOMEFLEET_PKI_NEW_ROOT_PASSPHRASE, or the same]
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
}

/// A step that needs no key.
#[derive(Debug, Args)]
pub(crate) struct Step {
    #[command(flatten)]
    place: Place,
}

impl Rollover {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        let now = Millis::from(SystemTime::now());
        let (directory, next) = match self {
            Self::Begin(command) => (command.run(now)?, BEGUN),
            Self::Switch(step) => {
                let directory = step.place.find()?.directory;
                pki::switch(&directory, now).map_err(failure)?;
                (directory, SWITCHED)
            }
            Self::Retire(step) => {
                let directory = step.place.find()?.directory;
                pki::retire(&directory, now).map_err(failure)?;
                (directory, RETIRED)
            }
        };
        show(&directory, global)?;
        output::note(next);
        Ok(())
    }
}

const BEGUN: &str = "\
the new root is announced within a minute. Next:
  take the keys of both roots away
  where devices are checked by a file of roots (tls.ca), name roots.pem of the CA's directory there
  when devices had the time to follow: homefleet ca rollover switch";
const SWITCHED: &str = "\
certificates lead to the new root within a minute. Next:
  have the certificates renewed that others check, such as the server's own
  when that is done: homefleet ca rollover retire";
const RETIRED: &str =
    "the old root is given up within a minute; it stays known for devices that still ask by it";

impl Begin {
    fn run(self, now: Millis) -> Result<PathBuf, Failure> {
        let found = self.place.find()?;
        let read =
            |path: &PathBuf| homefleet_server::config::read_secret(path).map_err(Failure::Usage);
        let variable = |name: &str| std::env::var(name).ok().map(Zeroizing::new);
        let root_passphrase = match &self.root_passphrase_file {
            Some(path) => read(path)?,
            None => match variable(ROOT_PASSPHRASE_VARIABLE) {
                Some(passphrase) => passphrase,
                None => passphrase::existing(
                    "Passphrase of the old root's key",
                    found.passphrase_file.as_deref(),
                    PASSPHRASE_VARIABLE,
                )?,
            },
        };
        let new_passphrase = match &self.new_passphrase_file {
            Some(path) => Some(read(path)?),
            None => variable(NEW_PASSPHRASE_VARIABLE),
        };
        let begin = pki::Begin {
            directory: found.directory.clone(),
            root_key: self.root_key.clone(),
            root_passphrase,
            new_passphrase,
            key: self.key,
            lifetime: Duration::from_secs(self.lifetime),
            issuing_lifetime: Duration::from_secs(self.issuing_lifetime),
            root_crl_urls: self.root_crl_url.clone(),
            root_ca_issuers_urls: self.root_ca_issuers_url.clone(),
            iterations: None,
        };
        pki::begin(&begin, now).map_err(failure)?;
        Ok(found.directory)
    }
}
