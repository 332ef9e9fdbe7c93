//! `homefleet cmp revoke`: a request for revocation (RFC 9483 §4.2).

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use homefleet_cmp::CertificateParts;
use homefleet_cmp::asn1::RevDetails;
use homefleet_cmp::client::{Outcome, Request};
use homefleet_net::cmp::entity::revocation;
use homefleet_net::cmp::session::{Applicant, Progress};
use serde_json::json;

use super::ask::{Ask, otherwise};
use super::files;
use crate::cli::Global;
use crate::failure::Failure;
use crate::output;

/// `cmp revoke`.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    ask: Ask,
    /// PEM file of the certificate to be revoked [default: the one that the request is signed with]
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Why
    #[arg(long, value_enum, default_value_t)]
    reason: Reason,
}

/// Reasons of RFC 5280 §5.3.1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Reason {
    /// None in particular
    #[default]
    Unspecified,
    /// Somebody else may have the key
    KeyCompromise,
    /// What it says of its holder is not true any more
    AffiliationChanged,
    /// There is another one
    Superseded,
    /// It is not needed any more
    CessationOfOperation,
    /// For now
    CertificateHold,
}

impl Reason {
    fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::CertificateHold => 6,
        }
    }
}

struct Revoking {
    details: RevDetails,
    tell: fn(&Progress),
}

impl Applicant for Revoking {
    fn request(&mut self) -> Result<Request, String> {
        Ok(Request::Revocation(Box::new(self.details.clone())))
    }

    fn progress(&mut self, progress: &Progress) {
        (self.tell)(progress);
    }
}

impl Revoke {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let path = self.certificate.as_ref().or(self.ask.cert.as_ref());
        let Some(path) = path else {
            return Err(Failure::Usage(
                "which certificate? give --certificate, or --cert and --key of its own".to_owned(),
            ));
        };
        let certificate = files::certificates(path)?.swap_remove(0);
        let failed = |error: x509_cert::der::Error| Failure::Failed(error.to_string());
        let parts = CertificateParts::read(&certificate).map_err(failed)?;
        let asker = self.ask.asker(false)?;
        let mut revoking = Revoking {
            details: revocation(&certificate, self.reason.code()).map_err(failed)?,
            tell: asker.teller(),
        };
        match asker.run(&mut revoking)? {
            Outcome::Revoked(_) => {}
            other => return Err(otherwise(other)),
        }
        let serial: String = parts
            .serial
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        if global.json {
            return output::json(&json!({ "revoked": serial, "certificate": path }));
        }
        output::line(&format!("{}  serial {serial} is revoked", path.display()))
    }
}
