//! `homefleet home …`: gateways, and the devices behind them, cross-checked.

use clap::Subcommand;
use homefleet_api::client::ClientError;
use homefleet_api::{Association, AssociationStatus, DeviceSummary, Home as Found, HomeSummary};

use crate::cli::Global;
use crate::failure::Failure;
use crate::output::{self, Table, ago, printable};
use crate::pick;

/// Rows asked for at a time.
const PAGE: usize = 500;

/// What `homefleet home` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Home {
    /// List homes: each gateway, with what the cross-check found of the devices that name it
    #[command(after_help = "Examples:
  homefleet home list
  homefleet home list --search lobby
  homefleet home list --status refuted     the devices themselves, of that status
  homefleet --json home list")]
    List {
        /// Only gateways whose Endpoint ID, label or product contains this
        #[arg(long, value_name = "TEXT", conflicts_with = "status")]
        search: Option<String>,
        /// Devices instead of homes: checking, confirmed, left, refuted or unverifiable
        #[arg(long, value_name = "STATUS")]
        status: Option<AssociationStatus>,
    },
    /// Show a home: its gateway and the devices behind it; of a device, its gateway and what that was before
    #[command(after_help = "Examples:
  homefleet home show os::00D09E-GW1
  homefleet home show SERIAL")]
    Show {
        /// Endpoint ID of a gateway or device, the beginning of one, or a serial number
        device: String,
    },
    /// Read a gateway's table of devices now
    #[command(after_help = "Examples:
  homefleet home check os::00D09E-GW1")]
    Check {
        /// Endpoint ID of the gateway, the beginning of one, or a serial number
        gateway: String,
    },
}

impl Home {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::List {
                status: Some(status),
                ..
            } => devices(global, status),
            Self::List { search, .. } => list(global, search.as_deref()),
            Self::Show { device } => show(global, &device),
            Self::Check { gateway } => check(global, &gateway),
        }
    }
}

fn list(global: &Global, search: Option<&str>) -> Result<(), Failure> {
    let client = global.client()?;
    let (mut homes, mut after): (Vec<HomeSummary>, Option<String>) = (Vec::new(), None);
    let claims = loop {
        let page = client.homes(search, Some(PAGE), after.as_deref())?;
        homes.extend(page.homes);
        after = page.next;
        if after.is_none() {
            break page.claims;
        }
    };
    if global.json {
        return output::json(&serde_json::json!({ "homes": homes, "claims": claims }));
    }
    let mut table = Table::new(&[
        "GATEWAY",
        "NAME",
        "LISTS",
        "CONFIRMED",
        "CHECKING",
        "REFUTED",
        "UNVERIFIABLE",
        "READ",
    ]);
    for home in &homes {
        let counts = &home.devices;
        let listed = home.listed.map(|listed| listed.to_string());
        table.row([
            home.gateway.id.as_str(),
            name(&home.gateway),
            listed.as_deref().unwrap_or("-"),
            &counts.confirmed.to_string(),
            &counts.checking.to_string(),
            &counts.refuted.to_string(),
            &counts.unverifiable.to_string(),
            &home.checked.as_deref().map_or("-".to_owned(), ago),
        ]);
    }
    table.print()?;
    for home in &homes {
        if let Some(problem) = &home.problem {
            output::note(&format!("{}: {}", home.gateway.id, printable(problem)));
        }
    }
    if claims.refuted > 0 {
        output::note(&format!(
            "{} refuted: `homefleet home list --status refuted` shows them",
            claims.refuted
        ));
    }
    Ok(())
}

fn devices(global: &Global, status: AssociationStatus) -> Result<(), Failure> {
    let client = global.client()?;
    let (mut found, mut after): (Vec<Association>, Option<String>) = (Vec::new(), None);
    loop {
        let page = client.associations(Some(status), Some(PAGE), after.as_deref())?;
        found.extend(page.associations);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if global.json {
        return output::json(&found);
    }
    let mut table = Table::new(&["DEVICE", "SAYS IT IS BEHIND", "SINCE", "WHY"]);
    for association in &found {
        table.row([
            association.device.as_str(),
            &said(association),
            &ago(&association.since),
            &association.detail,
        ]);
    }
    table.print()
}

fn show(global: &Global, name: &str) -> Result<(), Failure> {
    let client = global.client()?;
    let id = pick::device(&client, name)?;
    let home = match client.home(&id) {
        Ok(home) => Some(home),
        Err(ClientError::NotFound(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let association = match client.association(&id) {
        Ok(association) => Some(association),
        Err(ClientError::NotFound(_)) => None,
        Err(error) => return Err(error.into()),
    };
    if home.is_none() && association.is_none() {
        return Err(Failure::NotFound(format!(
            "{id} names no gateway, keeps no table of devices, and no device names it as its gateway"
        )));
    }
    if global.json {
        return output::json(&serde_json::json!({ "home": home, "association": association }));
    }
    if let Some(home) = &home {
        draw(home)?;
    }
    if let Some(association) = &association {
        if home.is_some() {
            output::line("")?;
        }
        tell(association)?;
    }
    Ok(())
}

/// The gateway, and what is behind it as branches.
fn draw(home: &Found) -> Result<(), Failure> {
    let gateway = &home.summary.gateway;
    let read = match &home.summary.checked {
        Some(checked) => format!("its table was read {}", ago(checked)),
        None => "its table was not read yet".to_owned(),
    };
    output::line(&printable(&format!(
        "{}  {}  gateway, {}; {read}",
        gateway.id,
        name(gateway),
        gateway.reachability
    )))?;
    if let Some(problem) = &home.summary.problem {
        output::line(&format!("  {}", printable(problem)))?;
    }
    let mut table = Table::new(&[]);
    for member in &home.members {
        let association = &member.association;
        let elsewhere = association.gateway.as_deref() != Some(gateway.id.as_str());
        let (status, detail) = if elsewhere {
            let detail = format!("it names {} now: {}", said(association), association.status);
            ("confirmed before", detail)
        } else {
            (association.status.as_str(), association.detail.clone())
        };
        let branch = match association.status {
            _ if elsewhere => "  ├┄",
            AssociationStatus::Confirmed => "  ├─",
            AssociationStatus::Refuted => "  ├╳",
            _ => "  ├┄",
        };
        table.row([
            branch,
            member.device.id.as_str(),
            name(&member.device),
            status,
            &detail,
        ]);
    }
    for stranger in &home.strangers {
        let (id, detail) = match &stranger.device {
            Some(id) => (
                id.as_str(),
                "the gateway lists it; it does not say so itself",
            ),
            None => ("-", "the gateway lists it; no such device is known"),
        };
        let identity = stranger.identity.to_string();
        table.row(["  ├?", id, &identity, "listed only", detail]);
    }
    table.print()?;
    if home.more > 0 {
        output::line(&format!("  └ and {} more", home.more))?;
    }
    Ok(())
}

/// What a device says, and what that was before.
fn tell(association: &Association) -> Result<(), Failure> {
    output::line(&printable(&format!(
        "{}  says it is behind {}: {}, {}",
        association.device,
        said(association),
        association.status,
        association.detail
    )))?;
    if let Some(associated) = &association.associated
        && association.gateway.as_ref() != Some(associated)
    {
        output::line(&format!("  confirmed before, and not over: {associated}"))?;
    }
    let mut table = Table::new(&[]);
    for was in &association.history {
        let gateway = was.gateway.as_deref().unwrap_or("-");
        let status = was.status.as_str();
        table.row(["  ", &was.time, status, gateway, &was.detail]);
    }
    table.print()
}

fn check(global: &Global, name: &str) -> Result<(), Failure> {
    let client = global.client()?;
    let id = pick::device(&client, name)?;
    let task = client.check_home(&id)?;
    if global.json {
        return output::json(&task);
    }
    output::line(&format!(
        "{}  queued; `homefleet home show {id}` shows what it found",
        task.id
    ))
}

/// The gateway that a device names.
fn said(association: &Association) -> String {
    match (&association.gateway, &association.claim) {
        (Some(gateway), _) => gateway.clone(),
        (None, Some(claim)) => match &claim.endpoint_id {
            Some(id) if claim.identity.serial_number.is_empty() => id.clone(),
            _ => claim.identity.to_string(),
        },
        (None, None) => "no gateway".to_owned(),
    }
}

fn name(device: &DeviceSummary) -> &str {
    let names = [&device.label, &device.model_name, &device.product_class];
    names.into_iter().flatten().next().map_or("-", |name| name)
}
