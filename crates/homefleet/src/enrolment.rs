//! `homefleet enrolment …`: who may have a first certificate.

use clap::{Args, Subcommand};
use homefleet_api::{Approval, ApprovalState, DecideApproval, NewEnrolmentSecret};
use serde_json::json;

use crate::cli::Global;
use crate::failure::Failure;
use crate::output::{self, Table, ago};

/// What `homefleet enrolment` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Enrolment {
    /// Secrets by which devices ask for their first certificate
    #[command(subcommand)]
    Secret(Secret),
    /// List requests for approval, the newest first
    #[command(after_help = "Examples:
  homefleet enrolment list                    those that wait
  homefleet enrolment list --state denied")]
    List(List),
    /// Approve a request: the device gets its certificate when it asks again
    Approve(Decide),
    /// Deny a request
    #[command(after_help = "Example:
  homefleet enrolment deny 01JD… --reason 'not ours'")]
    Deny(Decide),
}

/// What `homefleet enrolment secret` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Add a secret; it is printed once and not shown again
    #[command(after_help = "Examples:
  homefleet enrolment secret add --device os::00D09E-1 --expires-in 7d
  homefleet enrolment secret add --reference batch-7 --uses 100")]
    Add(Add),
    /// List secrets, without what is secret
    List(ListSecrets),
    /// Remove a secret
    Remove(Remove),
}

impl Enrolment {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Secret(Secret::Add(command)) => command.run(global),
            Self::Secret(Secret::List(command)) => command.run(global),
            Self::Secret(Secret::Remove(command)) => command.run(global),
            Self::List(command) => command.run(global),
            Self::Approve(command) => command.run(global, true),
            Self::Deny(command) => command.run(global, false),
        }
    }
}

/// `enrolment secret add`.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Endpoint ID of the device that it is for [default: whichever knows it]
    #[arg(long, value_name = "ENDPOINT_ID")]
    device: Option<String>,
    /// What names it in messages [default: the device]
    #[arg(long, value_name = "TEXT")]
    reference: Option<String>,
    /// Profile that it is for [default: any that admits secrets]
    #[arg(long, value_name = "PROFILE")]
    profile: Option<String>,
    /// How often it may be used; 0 = without limit
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u32,
    /// When it expires: 12h, 30d, or seconds [default: never]
    #[arg(long, value_name = "TIME", value_parser = crate::token::seconds)]
    expires_in: Option<u64>,
    /// The secret, such as the one on the device's label; better given in the environment [default: a random one]
    #[arg(
        long,
        value_name = "TEXT",
        env = "HOMEFLEET_ENROLMENT_SECRET",
        hide_env_values = true
    )]
    secret: Option<String>,
}

impl Add {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let given = self.secret.is_some();
        let created = global.client()?.add_enrolment_secret(&NewEnrolmentSecret {
            reference: self.reference,
            secret: self.secret,
            device: self.device,
            profile: self.profile,
            uses: Some(self.uses),
            expires_in: self.expires_in,
        })?;
        if global.json {
            return output::json(&created);
        }
        if !given {
            output::line(&created.secret)?;
        }
        let reference = output::printable(&created.reference);
        output::note(&match given {
            true => format!("the reference of the secret is `{reference}`"),
            false => {
                format!(
                    "the reference is `{reference}`: keep the secret now, it is not shown again"
                )
            }
        });
        Ok(())
    }
}

/// `enrolment secret list`.
#[derive(Debug, Args)]
pub(crate) struct ListSecrets {
    /// Only those of this device
    #[arg(long, value_name = "ENDPOINT_ID")]
    device: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

impl ListSecrets {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.client()?;
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        while found.len() < self.limit {
            let left = (self.limit - found.len()).min(200);
            let device = self.device.as_deref();
            let page = client.enrolment_secrets(device, Some(left), after.as_deref())?;
            found.extend(page.secrets);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if global.json {
            return output::json(&json!({ "secrets": found, "more": after.is_some() }));
        }
        if found.is_empty() {
            output::note("no secret");
            return Ok(());
        }
        let mut table = Table::new(&[
            "REFERENCE",
            "DEVICE",
            "PROFILE",
            "USED",
            "CREATED",
            "BY",
            "EXPIRES",
        ]);
        for secret in &found {
            let used = match secret.uses {
                Some(uses) => format!("{} of {uses}", secret.used),
                None => secret.used.to_string(),
            };
            table.row([
                secret.reference.as_str(),
                secret.device.as_deref().unwrap_or("-"),
                secret.profile.as_deref().unwrap_or("-"),
                &used,
                &ago(&secret.created),
                &secret.created_by,
                secret.expires.as_deref().unwrap_or("never"),
            ]);
        }
        table.print()
    }
}

/// `enrolment secret remove`.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Its reference
    #[arg(value_name = "REFERENCE")]
    reference: String,
}

impl Remove {
    fn run(self, global: &Global) -> Result<(), Failure> {
        global.client()?.remove_enrolment_secret(&self.reference)?;
        if global.json {
            return output::json(&json!({ "removed": self.reference }));
        }
        output::line(&format!(
            "{} is removed",
            output::printable(&self.reference)
        ))
    }
}

/// `enrolment list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those in this state: pending, approved, denied or used
    #[arg(long, value_name = "STATE", default_value = "pending")]
    state: ApprovalState,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

impl List {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.client()?;
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        while found.len() < self.limit {
            let left = (self.limit - found.len()).min(200);
            let page = client.approvals(Some(self.state), Some(left), after.as_deref())?;
            found.extend(page.approvals);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if global.json {
            return output::json(&json!({ "approvals": found, "more": after.is_some() }));
        }
        if found.is_empty() {
            output::note("no request");
            return Ok(());
        }
        let mut table = Table::new(&[
            "ID",
            "STATE",
            "SUBJECT",
            "DEVICE",
            "PROFILE",
            "ASKED BY",
            "ASKED",
            "KEY (SHA-256)",
        ]);
        for approval in &found {
            table.row([
                approval.id.as_str(),
                approval.state.as_str(),
                &approval.subject,
                approval.device.as_deref().unwrap_or("-"),
                &approval.profile,
                &approval.requester,
                &ago(&approval.created),
                &approval.key,
            ]);
        }
        table.print()
    }
}

/// `enrolment approve` and `enrolment deny`.
#[derive(Debug, Args)]
pub(crate) struct Decide {
    /// Identifier of the request
    #[arg(value_name = "ID")]
    id: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Decide {
    fn run(self, global: &Global, approve: bool) -> Result<(), Failure> {
        let decision = DecideApproval {
            approve,
            reason: self.reason,
        };
        let approval = global.client()?.decide_approval(&self.id, &decision)?;
        if global.json {
            return output::json(&approval);
        }
        output::line(&said(&approval))
    }
}

fn said(approval: &Approval) -> String {
    let whose = if approval.subject.is_empty() {
        approval.id.as_str()
    } else {
        &approval.subject
    };
    format!("{} is {}", output::printable(whose), approval.state)
}
