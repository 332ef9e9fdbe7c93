//! What every command of `homefleet cmp` has: which CA, who asks, whom it believes, how long.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use homefleet_cmp::asn1::{GeneralName, Name};
use homefleet_cmp::client::{ClientConfig, Outcome};
use homefleet_cmp::crypto::{Hash, Mac, MacPolicy, Secret, Signer as _};
use homefleet_cmp::protection::{ProtectionPolicy, Protector};
use homefleet_net::cmp::entity::Believed;
use homefleet_net::cmp::session::{
    Applicant, Backoff, Progress, Server, Session, SessionConfig, SessionError, TransferError,
};
use homefleet_net::cmp::{Client, ClientConfig as TransferConfig, ServerTrust, Url};
use homefleet_trust::Anchor;

use super::files;
use crate::failure::Failure;
use crate::output;
use crate::serve::{Ended, runtime};

/// Which CA, and who asks.
#[derive(Debug, Args)]
pub(super) struct Ask {
    /// The CA: coaps://, https://, coap:// or http://; without a path /.well-known/cmp
    #[arg(long, value_name = "URL")]
    pub(super) url: Url,
    /// The CA or certificate profile by its label: /.well-known/cmp/p/LABEL
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,
    /// Name of the certificate profile in the request
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// What names the secret that protects the messages
    #[arg(
        long,
        value_name = "REFERENCE",
        requires = "secret_file",
        help_heading = "Who asks"
    )]
    reference: Option<String>,
    /// File that holds the secret; only its owner may read it
    #[arg(
        long,
        value_name = "FILE",
        requires = "reference",
        conflicts_with = "cert",
        help_heading = "Who asks"
    )]
    secret_file: Option<PathBuf>,
    /// PEM file of the certificate that the messages are signed with, and its chain
    #[arg(
        long,
        value_name = "FILE",
        requires = "key",
        required_unless_present = "reference",
        help_heading = "Who asks"
    )]
    pub(super) cert: Option<PathBuf>,
    /// PEM file of its private key
    #[arg(
        long,
        value_name = "FILE",
        requires = "cert",
        help_heading = "Who asks"
    )]
    key: Option<PathBuf>,
    /// The MAC that the secret is used with
    #[arg(long, value_enum, default_value_t, help_heading = "Who asks")]
    mac: MacKind,
    /// PEM file of the CAs that may answer, and that vouch for a coaps or https server
    #[arg(long, value_name = "FILE", help_heading = "Who is believed")]
    pub(super) ca: Option<PathBuf>,
    /// Talk to a coaps or https server whoever it is: the protection of the CMP messages is what is believed
    #[arg(long, help_heading = "Who is believed")]
    trust_from_cmp: bool,
    /// Accept MACs with SHA-1 and few iterations, as old CAs use them
    #[arg(long, help_heading = "Who is believed")]
    allow_weak_mac: bool,
    /// Seconds for everything, polling included
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    timeout: u64,
    /// Say nothing about how it goes
    #[arg(long, short)]
    quiet: bool,
}

/// A MAC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum MacKind {
    /// PasswordBasedMac with SHA-256 (RFC 9810 §5.1.3.1)
    #[default]
    Pbm,
    /// PBMAC1 with SHA-256 (RFC 9481 §6.1)
    Pbmac1,
}

/// Who asks, read.
pub(super) struct Asker {
    server: Server,
    config: SessionConfig,
    /// Whom it believes.
    pub(super) peers: Believed,
    /// The secret, where messages are protected by one.
    pub(super) secret: Option<Secret>,
    /// The key of the certificate, PKCS #8, where messages are signed.
    pub(super) signing_key: Option<Vec<u8>>,
    quiet: bool,
}

impl Ask {
    /// Reads what the options name.
    pub(super) fn asker(&self, implicit_confirm: bool) -> Result<Asker, Failure> {
        let anchors: Vec<Anchor> = match &self.ca {
            Some(path) => files::anchors(path)?,
            None => Vec::new(),
        };
        let unusable = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
        let mut secret = None;
        let mut signing_key = None;
        let protector = match (&self.reference, &self.secret_file, &self.cert, &self.key) {
            (Some(reference), Some(file), _, _) => {
                let found = files::secret(file)?;
                secret = Some((reference.clone().into_bytes(), found.clone()));
                Protector::secret(reference.as_bytes(), found, mac(self.mac))
                    .map_err(|error| unusable(&error))?
            }
            (_, _, Some(certificate), Some(key)) => {
                let chain = files::certificates(certificate)?;
                let (pkcs8, pair) = files::key(key)?;
                let leaf = homefleet_cmp::CertificateParts::read(&chain[0])
                    .map_err(|error| unusable(&error))?;
                if leaf.public_key != pair.public_key() {
                    return Err(Failure::Usage(format!(
                        "the key {} does not belong to the certificate {}",
                        key.display(),
                        certificate.display()
                    )));
                }
                signing_key = Some(pkcs8);
                Protector::signer(Arc::new(pair), chain).map_err(|error| unusable(&error))?
            }
            _ => {
                return Err(Failure::Usage(
                    "who asks? give --reference and --secret-file, or --cert and --key".to_owned(),
                ));
            }
        };
        if secret.is_none() && anchors.is_empty() {
            return Err(Failure::Usage(
                "answers to a request that is signed are signed too: name the CAs that may answer with --ca".to_owned(),
            ));
        }
        let url = match &self.label {
            None => self.url.clone(),
            Some(label) => self.url.with_label(label).ok_or_else(|| {
                Failure::Usage("the URL has a path already: write the label there".to_owned())
            })?,
        };
        let trust = match (
            self.trust_from_cmp,
            url.scheme.is_secure(),
            anchors.is_empty(),
        ) {
            (true, _, _) | (_, false, _) => ServerTrust::FromCmp,
            (false, true, false) => ServerTrust::Anchors(anchors.clone()),
            (false, true, true) => {
                return Err(Failure::Usage(
                    "which CA vouches for the server? name it with --ca, or believe the CMP messages alone with --trust-from-cmp".to_owned(),
                ));
            }
        };
        let recipient = GeneralName::directory(&Name::null()).map_err(|error| unusable(&error))?;
        let mut client = ClientConfig {
            profile: self.profile.clone(),
            implicit_confirm,
            ..ClientConfig::new(protector, recipient)
        };
        if self.allow_weak_mac {
            client.protection = ProtectionPolicy {
                mac: MacPolicy::lenient(),
                ..ProtectionPolicy::default()
            };
        }
        let server = Server {
            client: Client::new(TransferConfig::new(trust)).map_err(|error| unusable(&error))?,
            url,
            operation: None,
        };
        Ok(Asker {
            server,
            config: SessionConfig {
                within: Duration::from_secs(self.timeout),
                backoff: Backoff::default(),
                ..SessionConfig::new(client)
            },
            peers: Believed {
                secret: secret.clone(),
                ..Believed::new(anchors)
            },
            secret: secret.map(|(_, secret)| secret),
            signing_key,
            quiet: self.quiet,
        })
    }
}

impl Asker {
    /// One transaction; Ctrl-C ends it.
    pub(super) fn run(&self, applicant: &mut dyn Applicant) -> Result<Outcome, Failure> {
        runtime()?.block_on(async {
            let mut ended = Ended::new()?;
            let session = Session {
                transfer: &self.server,
                peers: &self.peers,
                config: &self.config,
            };
            tokio::select! {
                outcome = session.run(applicant) => outcome.map_err(failure),
                () = ended.wait() => Err(Failure::Failed("stopped".to_owned())),
            }
        })
    }

    /// Tells a person how it goes.
    pub(super) fn teller(&self) -> fn(&Progress) {
        if self.quiet { |_| {} } else { tell }
    }
}

fn tell(progress: &Progress) {
    output::note(&match progress {
        Progress::Began(transaction) => {
            let id: String = transaction
                .iter()
                .take(8)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("transaction {id}…")
        }
        Progress::Sent(kind) => format!("{kind} sent"),
        Progress::TransferFailed {
            reason,
            again_after,
        } => {
            format!("{reason}; again in {:.1} s", again_after.as_secs_f32())
        }
        Progress::Waiting {
            check_after,
            reason,
        } => {
            let reason = reason.as_deref().unwrap_or("it does not say why");
            format!(
                "the CA wants us to wait ({reason}); asking again in {} s",
                check_after.as_secs()
            )
        }
        Progress::Restarted => "an answer was lost; beginning anew".to_owned(),
        Progress::Offered { key_fits: true } => "a certificate came".to_owned(),
        Progress::Offered { key_fits: false } => {
            "a certificate for another key came; it is declined".to_owned()
        }
    });
}

/// What a session's end means for the exit code.
fn failure(error: SessionError) -> Failure {
    let text = error.to_string();
    match error {
        SessionError::Transfer(TransferError::Refused { .. })
        | SessionError::Unacceptable { .. }
        | SessionError::ConfirmationUnclear(_) => Failure::Refused(text),
        SessionError::Transfer(_) | SessionError::TimedOut | SessionError::Restarts => {
            Failure::Unreachable(text)
        }
        SessionError::Applicant(_) | SessionError::Protect(_) => Failure::Failed(text),
    }
}

/// A transaction that ended otherwise than with what was asked for.
pub(super) fn otherwise(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Rejected(status) => Failure::Refused(format!("the CA refuses: {status}")),
        Outcome::Declined(status) => {
            Failure::Refused(format!("the certificate was declined: {status}"))
        }
        Outcome::Failed(error) => Failure::Unreachable(error.to_string()),
        _ => Failure::Failed("the CA answered something else than was asked".to_owned()),
    }
}

/// With a salt of the moment; each message gets a fresh one.
fn mac(kind: MacKind) -> Mac {
    const ITERATIONS: u32 = 10_000;
    let nanos = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let salt = nanos.to_be_bytes().to_vec();
    match kind {
        MacKind::Pbm => Mac::PasswordBased {
            salt,
            owf: Hash::Sha256,
            iterations: ITERATIONS,
            mac: Hash::Sha256,
        },
        MacKind::Pbmac1 => Mac::Pbmac1 {
            salt,
            iterations: ITERATIONS,
            key_bytes: 32,
            prf: Hash::Sha256,
            mac: Hash::Sha256,
        },
    }
}
