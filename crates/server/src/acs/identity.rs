//! Which device of the registry a CPE is.

use std::fmt::Write as _;

use homefleet_cwmp::message::DeviceId;

/// Longest part of an identity, in bytes.
const MOST: usize = 64;

/// `cwmp:OUI-ProductClass-SerialNumber`, or without the product class where the device has none (TR-069 §3.4.4); what is not a letter, a digit,
/// `.`, `_` or `~` is percent-encoded. `None` when the OUI or the serial number is missing, or a part is too long.
pub fn device_id(device: &DeviceId) -> Option<String> {
    let parts = [&device.oui, &device.product_class, &device.serial_number];
    let missing = device.oui.is_empty() || device.serial_number.is_empty();
    if missing || parts.iter().any(|part| part.len() > MOST) {
        return None;
    }
    let mut id = "cwmp:".to_owned();
    encode(&mut id, &device.oui.to_ascii_uppercase());
    for part in [&device.product_class, &device.serial_number] {
        if !part.is_empty() {
            id.push('-');
            encode(&mut id, part);
        }
    }
    Some(id)
}

fn encode(id: &mut String, part: &str) {
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"._~".contains(&byte) {
            id.push(char::from(byte));
        } else {
            // Writing into a String does not fail.
            let _written = write!(id, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(oui: &str, class: &str, serial: &str) -> Option<String> {
        device_id(&DeviceId {
            manufacturer: String::new(),
            oui: oui.to_owned(),
            product_class: class.to_owned(),
            serial_number: serial.to_owned(),
        })
    }

    #[test]
    fn a_device_is_its_oui_class_and_serial_number() {
        assert_eq!(
            id("00d09e", "IGD", "1").as_deref(),
            Some("cwmp:00D09E-IGD-1")
        );
        assert_eq!(id("00D09E", "", "1").as_deref(), Some("cwmp:00D09E-1"));
        assert_eq!(
            id("00D09E", "a-b", "c/d").as_deref(),
            Some("cwmp:00D09E-a%2Db-c%2Fd")
        );
        assert_ne!(id("00D09E", "a-b", "c"), id("00D09E", "a", "b-c"));
    }

    #[test]
    fn who_does_not_say_who_it_is_is_nobody() {
        assert_eq!(id("", "IGD", "1"), None);
        assert_eq!(id("00D09E", "IGD", ""), None);
        assert_eq!(id("00D09E", "IGD", &"1".repeat(65)), None);
    }
}
