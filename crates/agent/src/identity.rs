//! Who this machine is: OUI, serial number, and the Endpoint ID made from them.
//!
//! TR-369 §"Endpoint Identifier": with the authority scheme `os` the instance-id is
//! `<OUI>-<SerialNumber>`, percent-encoded where it is not an unreserved character, at most 50 long.

use std::{fs, path::Path};

use homefleet_usp::EndpointId;

/// Longest instance-id of an Endpoint ID (R-ARC.3).
const MAX_INSTANCE_ID: usize = 50;

/// Derives the Endpoint ID `os::OUI-serial` from this machine.
///
/// # Errors
///
/// The reason, when the machine has neither a hardware address nor a machine ID.
pub fn endpoint_id() -> Result<EndpointId, String> {
    endpoint_id_of(None, None)
}

/// The same with what somebody says instead of the machine: an operator holds a device to its Endpoint ID.
///
/// # Errors
///
/// As [`endpoint_id`].
pub fn endpoint_id_of(oui: Option<&str>, serial: Option<&str>) -> Result<EndpointId, String> {
    let serial = serial.map(str::to_owned).or_else(serial_number);
    let serial = serial.ok_or("no hardware address, no serial number and no machine ID")?;
    let oui = oui.map(str::to_owned).or_else(self::oui);
    let oui = oui.unwrap_or_else(|| "000000".into());
    let mut instance: String = format!("{oui}-{serial}").chars().map(encode).collect();
    while instance.len() > MAX_INSTANCE_ID || instance.ends_with('%') {
        instance.pop();
    }
    format!("os::{instance}")
        .parse()
        .map_err(|e| format!("os::{instance}: {e}"))
}

/// Organisationally unique identifier: six upper-case hexadecimal digits of the first network card's address.
pub fn oui() -> Option<String> {
    hardware_address().map(|address| address[..6].to_owned())
}

/// The manufacturer's serial number (DMI or device tree), else the first network card's address, else the
/// first half of the machine ID.
pub fn serial_number() -> Option<String> {
    for path in [
        "/sys/class/dmi/id/product_serial",
        "/proc/device-tree/serial-number",
    ] {
        if let Some(text) = read(path).filter(|text| is_serial(text)) {
            return Some(text);
        }
    }
    hardware_address().or_else(|| {
        // Half of it, so that the identifier that must stay on the machine does.
        read("/etc/machine-id").and_then(|id| id.get(..16).map(str::to_ascii_uppercase))
    })
}

/// The first network card's address, twelve upper-case hexadecimal digits: a card with a globally unique
/// address if there is one, in the order of the interface names.
fn hardware_address() -> Option<String> {
    let mut names: Vec<_> = fs::read_dir("/sys/class/net")
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    names.sort();
    let addresses: Vec<String> = names.iter().filter_map(|path| address(path)).collect();
    addresses
        .iter()
        .find(|address| is_global(address))
        .or_else(|| addresses.first())
        .cloned()
}

fn address(interface: &Path) -> Option<String> {
    let text = fs::read_to_string(interface.join("address")).ok()?;
    let digits: String = text
        .trim()
        .chars()
        .filter(char::is_ascii_hexdigit)
        .collect();
    let usable = digits.len() == 12 && digits.chars().any(|digit| digit != '0');
    usable.then(|| digits.to_ascii_uppercase())
}

/// Not a locally administered address: the second-lowest bit of the first byte is clear (IEEE 802).
fn is_global(address: &str) -> bool {
    address
        .get(..2)
        .and_then(|byte| u8::from_str_radix(byte, 16).ok())
        .is_some_and(|byte| byte & 2 == 0)
}

/// Not one of the texts that boards without a serial number carry.
fn is_serial(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let filler = [
        "none",
        "default string",
        "to be filled",
        "not specified",
        "system serial",
        "0123456789",
    ];
    text.chars().any(|c| c != '0' && c.is_ascii_alphanumeric())
        && !filler.iter().any(|word| lower.starts_with(word))
}

fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    (!text.is_empty()).then(|| text.to_owned())
}

fn encode(character: char) -> String {
    if character.is_ascii_alphanumeric() || "-._".contains(character) {
        return character.to_string();
    }
    let mut bytes = [0; 4];
    character
        .encode_utf8(&mut bytes)
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_endpoint_id_is_derived_and_stable() {
        let first = endpoint_id().unwrap();
        assert_eq!(first, endpoint_id().unwrap());
        assert!(first.to_string().starts_with("os::"));
    }

    #[test]
    fn board_filler_is_no_serial_number() {
        assert!(!is_serial("To be filled by O.E.M."));
        assert!(!is_serial("0000000"));
        assert!(is_serial("PF2X9K1A"));
    }

    #[test]
    fn reserved_characters_are_percent_encoded() {
        assert_eq!("A b/c".chars().map(encode).collect::<String>(), "A%20b%2Fc");
    }
}
