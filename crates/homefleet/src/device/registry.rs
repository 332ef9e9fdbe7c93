//! What the server itself knows: `device list`, `show`, `label`, `forget`, and `get --stored`.

use clap::Args;
use homefleet_api::{Cwmp, DevicePatch, DeviceSummary, Parameter};
use serde_json::json;

use crate::cli::Global;
use crate::failure::Failure;
use crate::output::{self, Table};
use crate::pick;

/// `device list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only devices with this in their Endpoint ID, label, serial number, manufacturer or model
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
}

impl List {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.client()?;
        let mut devices: Vec<DeviceSummary> = Vec::new();
        let mut after: Option<String> = None;
        let more = loop {
            let left = self.limit.saturating_sub(devices.len()).min(200);
            if left == 0 {
                break after.is_some();
            }
            let page = client.devices(self.search.as_deref(), Some(left), after.as_deref())?;
            devices.extend(page.devices);
            after = page.next;
            if after.is_none() {
                break false;
            }
        };
        if global.json {
            return output::json(&json!({ "devices": devices, "more": more }));
        }
        if devices.is_empty() {
            output::note("no device");
            return Ok(());
        }
        let mut table = Table::new(&[
            "DEVICE",
            "NAME",
            "STATE",
            "SOFTWARE",
            "ADDRESS",
            "LAST CONTACT",
            "OPEN TASKS",
        ]);
        for device in &devices {
            table.row([
                device.id.clone(),
                name(device),
                device.reachability.to_string(),
                device.software_version.clone().unwrap_or_default(),
                where_to(device),
                output::ago(&device.last_contact),
                device.open_tasks.to_string(),
            ]);
        }
        table.print()?;
        if more {
            output::note("there are more: raise --limit");
        }
        Ok(())
    }
}

/// Its address; of a session, the MTP is all there is to say.
fn where_to(device: &DeviceSummary) -> String {
    match (&device.address, device.mtp) {
        (Some(address), Some(mtp)) if address.ends_with(':') => mtp.name().to_owned(),
        (Some(address), _) => address.clone(),
        (None, _) => String::new(),
    }
}

/// What a person calls the device: its label, else what it says of itself.
fn name(device: &DeviceSummary) -> String {
    if let Some(label) = &device.label {
        return label.clone();
    }
    [&device.manufacturer, &device.model_name]
        .into_iter()
        .flatten()
        .filter(|text| !text.is_empty() && !text.eq_ignore_ascii_case("unknown"))
        .cloned()
        .collect::<Vec<_>>()
        .join(" ")
}

/// `device show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Endpoint ID, the unambiguous beginning of one, or a serial number
    #[arg(value_name = "DEVICE")]
    device: String,
}

impl Show {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.client()?;
        let device = client.device(&pick::device(&client, &self.device)?)?;
        if global.json {
            return output::json(&device);
        }
        let summary = &device.summary;
        let mut table = Table::default();
        table.row(["Endpoint ID", &summary.id]);
        for (label, value) in [
            ("Label", &summary.label),
            ("Manufacturer", &summary.manufacturer),
            ("Model", &summary.model_name),
            ("OUI", &summary.oui),
            ("Product class", &summary.product_class),
            ("Serial number", &summary.serial_number),
            ("Software", &summary.software_version),
        ] {
            if let Some(value) = value {
                table.row([label, value]);
            }
        }
        table.row(["State", summary.reachability.as_str()]);
        for connection in &device.connections {
            let broker = connection.broker.as_ref();
            let at = broker.map_or(String::new(), |broker| format!(" at {broker}"));
            table.row([
                "Connected",
                &format!(
                    "{}{at} ({})",
                    connection.mtp.name(),
                    output::ago(&connection.since)
                ),
            ]);
        }
        for address in &device.addresses {
            let protection = match address.secure {
                true if address.uri.starts_with("coaps:") => "DTLS",
                true if address.uri.starts_with("uds:") => "on this machine",
                true => "TLS",
                false => "not protected",
            };
            table.row([
                "Address",
                &format!(
                    "{} ({protection}, {})",
                    address.uri,
                    output::ago(&address.seen)
                ),
            ]);
        }
        if let Some(cwmp) = &device.cwmp {
            tr069(&mut table, cwmp);
        }
        table.row(["First contact", &summary.first_contact]);
        table.row([
            "Last contact",
            &format!(
                "{} ({})",
                summary.last_contact,
                output::ago(&summary.last_contact)
            ),
        ]);
        if let (Some(when), Some(reason)) = (&device.last_failure, &device.last_failure_reason) {
            table.row(["Last failure", &format!("{when}: {reason}")]);
        }
        if let Some(certificate) = &device.certificate {
            table.row([
                "Certificate",
                &format!("{} until {}", certificate.subject, certificate.not_after),
            ]);
            table.row(["SHA-256", &certificate.fingerprint]);
        }
        if !device.protocol_versions.is_empty() {
            table.row(["USP", &device.protocol_versions.join(" ")]);
        }
        table.row(["Parameters", &format!("{} stored", device.parameter_count)]);
        table.row(["Open tasks", &summary.open_tasks.to_string()]);
        for subscription in &device.subscriptions {
            let state = match &subscription.problem {
                Some(problem) => format!("refused: {problem}"),
                None => format!("{:?}", subscription.state).to_lowercase(),
            };
            table.row([
                "Subscription",
                &format!(
                    "{} {} {} ({state})",
                    subscription.id,
                    subscription.notification,
                    subscription.paths.join(",")
                ),
            ]);
        }
        table.print()
    }
}

/// What is known of a device as one that speaks TR-069, and how it is called.
fn tr069(table: &mut Table, cwmp: &Cwmp) {
    let state = match cwmp.admitted {
        true => "managed",
        false => "in quarantine",
    };
    let root = cwmp.root.trim_end_matches('.');
    let version = &cwmp.version;
    table.row(["TR-069", &format!("CWMP {version}, {root}, {state}")]);
    if !cwmp.events.is_empty() {
        table.row(["Last session", &cwmp.events.join(", ")]);
    }
    if let Some(url) = &cwmp.connection_request_url {
        table.row(["Called at", url]);
    }
    if let Some(address) = &cwmp.udp_connection_request_address {
        table.row(["Called over UDP at", address]);
    }
    if let Some(nat) = cwmp.nat_detected {
        table.row(["NAT detected", if nat { "yes" } else { "no" }]);
    }
    if let Some(binding) = &cwmp.binding {
        let (since, seen) = (output::ago(&binding.since), output::ago(&binding.seen));
        let proven = format!(
            "{} from {} (since {since}, proven {seen})",
            binding.address, binding.local
        );
        table.row(["Binding", &proven]);
    }
}

/// `device label`.
#[derive(Debug, Args)]
pub(crate) struct Label {
    /// Endpoint ID, the unambiguous beginning of one, or a serial number
    #[arg(value_name = "DEVICE")]
    device: String,
    /// The name
    #[arg(value_name = "TEXT")]
    label: String,
}

impl Label {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.client()?;
        let id = pick::device(&client, &self.device)?;
        let patch = DevicePatch {
            label: Some(self.label),
            ..DevicePatch::default()
        };
        let device = client.patch_device(&id, &patch)?;
        if global.json {
            return output::json(&device);
        }
        output::line(&format!(
            "{id} {}",
            device.summary.label.unwrap_or_default()
        ))
    }
}

/// `device admit`.
#[derive(Debug, Args)]
pub(crate) struct Admit {
    /// ID of a device that speaks TR-069, the unambiguous beginning of one, or a serial number
    #[arg(value_name = "DEVICE")]
    device: String,
    /// Put it into quarantine instead
    #[arg(long)]
    undo: bool,
}

impl Admit {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.client()?;
        let id = pick::device(&client, &self.device)?;
        let patch = DevicePatch {
            admitted: Some(!self.undo),
            ..DevicePatch::default()
        };
        let device = client.patch_device(&id, &patch)?;
        if global.json {
            return output::json(&device);
        }
        let now = if self.undo {
            "in quarantine"
        } else {
            "admitted: managed from its next session on"
        };
        output::line(&format!("{id} {now}"))
    }
}

/// `device forget`.
#[derive(Debug, Args)]
pub(crate) struct Forget {
    /// Endpoint ID, in full
    #[arg(value_name = "DEVICE")]
    device: String,
}

impl Forget {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.client()?;
        // Deliberately not the beginning of an ID: what is removed is named in full.
        client.remove_device(&self.device)?;
        if global.json {
            return output::json(&json!({ "removed": self.device }));
        }
        output::line(&format!("{} is forgotten", self.device))
    }
}

/// `device get --stored`.
pub(super) fn stored(
    global: &Global,
    device: &str,
    paths: &[String],
    values: bool,
) -> Result<(), Failure> {
    let client = global.client()?;
    let id = pick::device(&client, device)?;
    let mut parameters: Vec<Parameter> = Vec::new();
    for path in paths {
        let mut after: Option<String> = None;
        let before = parameters.len();
        loop {
            let page = client.parameters(&id, Some(path), after.as_deref())?;
            parameters.extend(page.parameters);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if parameters.len() == before {
            return Err(Failure::NotFound(format!(
                "the server has no value of {path} from {id}; without --stored the device is asked"
            )));
        }
    }
    if global.json {
        return output::json(&json!({ "parameters": parameters }));
    }
    let mut table = Table::default();
    for parameter in &parameters {
        if values {
            table.row([parameter.value.clone()]);
        } else {
            table.row([
                parameter.path.clone(),
                parameter.value.clone(),
                output::ago(&parameter.seen),
            ]);
        }
    }
    table.print()
}
