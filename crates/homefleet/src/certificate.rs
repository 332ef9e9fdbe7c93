//! `homefleet certificate …`: what the server's CA issued.

use clap::{Args, Subcommand};
use homefleet_api::client::CertificateSearch;
use homefleet_api::{CertificateState, IssuedCertificate, RevocationReason, RevokeCertificate};
use serde_json::json;

use crate::cli::Global;
use crate::failure::Failure;
use crate::output::{self, Table, ago};

/// What `homefleet certificate` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Certificate {
    /// List certificates, the newest first
    #[command(after_help = "Examples:
  homefleet certificate list --device os::00D09E-1
  homefleet certificate list --state valid --expiring-in 14d
  homefleet certificate list --search floor-2")]
    List(List),
    /// Show a certificate
    #[command(after_help = "Examples:
  homefleet certificate show 4f0c…
  homefleet certificate show 4f0c… --pem | openssl x509 -text")]
    Show(Show),
    /// Revoke a certificate, put it on hold, or take it off hold
    #[command(after_help = "Examples:
  homefleet certificate revoke 4f0c… --reason key-compromise
  homefleet certificate revoke 4f0c… --reason certificate-hold
  homefleet certificate revoke 4f0c… --reason remove-from-crl")]
    Revoke(Revoke),
    /// Show the CA: whom devices have to trust, where they ask, how much there is
    Status,
}

impl Certificate {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::List(command) => command.run(global),
            Self::Show(command) => command.run(global),
            Self::Revoke(command) => command.run(global),
            Self::Status => status(global),
        }
    }
}

/// `certificate list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Text in the subject, or a serial number
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only those of this device
    #[arg(long, value_name = "ENDPOINT_ID")]
    device: Option<String>,
    /// Only those in this state: unconfirmed, valid, revoked or expired
    #[arg(long, value_name = "STATE")]
    state: Option<CertificateState>,
    /// Only those of this profile
    #[arg(long, value_name = "PROFILE")]
    profile: Option<String>,
    /// Only those that end within this time: 12h, 14d, or seconds
    #[arg(long, value_name = "TIME", value_parser = crate::token::seconds)]
    expiring_in: Option<u64>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

impl List {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.client()?;
        let wanted = CertificateSearch {
            search: self.search.as_deref(),
            device: self.device.as_deref(),
            state: self.state,
            profile: self.profile.as_deref(),
            expiring_in: self.expiring_in,
        };
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        while found.len() < self.limit {
            let left = (self.limit - found.len()).min(200);
            let page = client.certificates(&wanted, Some(left), after.as_deref())?;
            found.extend(page.certificates);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if global.json {
            return output::json(&json!({ "certificates": found, "more": after.is_some() }));
        }
        if found.is_empty() {
            output::note("no certificate");
            return Ok(());
        }
        let mut table = Table::new(&[
            "SERIAL", "STATE", "SUBJECT", "DEVICE", "PROFILE", "ISSUED", "ENDS",
        ]);
        for certificate in &found {
            table.row([
                certificate.serial.as_str(),
                certificate.state.as_str(),
                &certificate.subject,
                certificate.device.as_deref().unwrap_or("-"),
                &certificate.profile,
                &ago(&certificate.issued),
                &certificate.not_after,
            ]);
        }
        table.print()
    }
}

/// `certificate show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Serial number, in hexadecimal
    #[arg(value_name = "SERIAL")]
    serial: String,
    /// Print the certificate itself, PEM
    #[arg(long)]
    pem: bool,
}

impl Show {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let certificate = global.client()?.certificate(&self.serial)?;
        if self.pem {
            return output::line(certificate.pem.as_deref().unwrap_or_default().trim_end());
        }
        print(global, &certificate)
    }
}

/// `certificate revoke`.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Serial number, in hexadecimal
    #[arg(value_name = "SERIAL")]
    serial: String,
    /// Why: unspecified, key-compromise, affiliation-changed, superseded, cessation-of-operation, certificate-hold,
    /// remove-from-crl or privilege-withdrawn
    #[arg(long, value_name = "REASON", default_value = "unspecified")]
    reason: RevocationReason,
}

impl Revoke {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let revoke = RevokeCertificate {
            reason: self.reason,
        };
        let certificate = global.client()?.revoke_certificate(&self.serial, &revoke)?;
        print(global, &certificate)
    }
}

fn print(global: &Global, certificate: &IssuedCertificate) -> Result<(), Failure> {
    if global.json {
        return output::json(certificate);
    }
    let mut table = Table::default();
    table.row(["Serial", &certificate.serial]);
    table.row(["State", certificate.state.as_str()]);
    table.row(["Subject", &certificate.subject]);
    if let Some(device) = &certificate.device {
        table.row(["Device", device]);
    }
    table.row(["Profile", &certificate.profile]);
    table.row(["Asked by", &certificate.requester]);
    table.row(["Issued", &certificate.issued]);
    table.row(["Valid from", &certificate.not_before]);
    table.row(["Valid until", &certificate.not_after]);
    table.row(["SHA-256", &certificate.fingerprint]);
    if let Some(revocation) = &certificate.revocation {
        table.row(["Revoked", &revocation.time]);
        table.row(["Reason", &revocation.reason]);
        table.row(["Revoked by", &revocation.by]);
    }
    table.print()
}

fn status(global: &Global) -> Result<(), Failure> {
    let pki = global.client()?.pki()?;
    if global.json {
        return output::json(&pki);
    }
    let mut table = Table::default();
    table.row(["CA", &pki.subject]);
    table.row(["Valid until", &pki.not_after]);
    table.row(["SHA-256", &pki.fingerprint]);
    table.row(["Root SHA-256", &pki.root_fingerprint]);
    table.row(["Profiles", &pki.profiles.join(", ")]);
    for address in &pki.addresses {
        table.row(["Devices ask at", address]);
    }
    let counts = pki.certificates;
    table.row(["Valid", &counts.valid.to_string()]);
    table.row(["Not confirmed", &counts.unconfirmed.to_string()]);
    table.row(["Revoked", &counts.revoked.to_string()]);
    table.row(["Expired", &counts.expired.to_string()]);
    table.row(["Wait for approval", &pki.pending_approvals.to_string()]);
    table.row(["Transactions", &pki.transactions.to_string()]);
    table.print()
}
