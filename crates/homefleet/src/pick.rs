//! Which device is meant: an Endpoint ID, the beginning of one, or a serial number.

use homefleet_api::DeviceSummary;
use homefleet_api::client::{Client, ClientError};

use crate::failure::Failure;

/// How many devices an ambiguous name lists.
const LISTED: usize = 8;

/// The Endpoint ID of the one device that `name` means: exactly that ID, or the only device whose ID
/// begins with it (with or without the `os::` before it), or whose serial number it is.
pub(crate) fn device(client: &Client, name: &str) -> Result<String, Failure> {
    if name.is_empty() {
        return Err(Failure::Usage("the name of the device is empty".to_owned()));
    }
    if name.contains("::") {
        match client.device(name) {
            Ok(device) => return Ok(device.summary.id),
            Err(ClientError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut matching: Vec<DeviceSummary> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = client.devices(Some(name), Some(200), after.as_deref())?;
        matching.extend(
            page.devices
                .into_iter()
                .filter(|device| means(device, name)),
        );
        after = page.next;
        if after.is_none() || matching.len() > LISTED {
            break;
        }
    }
    let exact: Vec<&DeviceSummary> = matching
        .iter()
        .filter(|device| device.id == name || device.serial_number.as_deref() == Some(name))
        .collect();
    if let [only] = exact.as_slice() {
        return Ok(only.id.clone());
    }
    match matching.as_slice() {
        [] => Err(Failure::NotFound(format!(
            "no device's Endpoint ID begins with `{name}`, and none has it as serial number; `homefleet device list` shows all"
        ))),
        [only] => Ok(only.id.clone()),
        several => {
            let names: Vec<&str> = several
                .iter()
                .take(LISTED)
                .map(|device| device.id.as_str())
                .collect();
            let more = if several.len() > LISTED { ", …" } else { "" };
            Err(Failure::Usage(format!(
                "`{name}` means more than one device: {}{more}",
                names.join(", ")
            )))
        }
    }
}

fn means(device: &DeviceSummary, name: &str) -> bool {
    let begins = |text: &str| {
        text.get(..name.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(name))
    };
    let after_scheme = device.id.split_once("::").map_or("", |(_, rest)| rest);
    begins(&device.id)
        || begins(after_scheme)
        || device
            .serial_number
            .as_deref()
            .is_some_and(|serial| serial.eq_ignore_ascii_case(name))
        || device.label.as_deref() == Some(name)
}
