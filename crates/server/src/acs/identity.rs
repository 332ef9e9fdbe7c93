//! Which device of the registry a CPE is.

use std::fmt::Write as _;

use homefleet_cwmp::message::DeviceId;
use homefleet_trust::PeerIdentity;

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

/// Whether a certificate is this device's: its common name is `OUI-ProductClass-SerialNumber` or `OUI-SerialNumber`, percent-encoded as in
/// [`device_id`] (TR-069 §3.4.4), or it has the Endpoint ID `ops::…` or `os::…` of the same (R-ARC.2).
pub(super) fn is_named(peer: &PeerIdentity, device: &DeviceId) -> bool {
    let oui = |text: &str| text.eq_ignore_ascii_case(&device.oui);
    let full = |name: &str| match name.split('-').collect::<Vec<_>>().as_slice() {
        [own, class, serial] => {
            oui(own) && is(class, &device.product_class) && is(serial, &device.serial_number)
        }
        _ => false,
    };
    let short = |name: &str| {
        let parts = name.split_once('-');
        parts.is_some_and(|(own, serial)| oui(own) && is(serial, &device.serial_number))
    };
    let is_short = |name: &str| name.matches('-').count() == 1 && short(name);
    let mut names = common_names(&peer.subject);
    let mut ids = peer.endpoint_ids.iter();
    !device.oui.is_empty()
        && !device.serial_number.is_empty()
        && (names.any(|name| full(name) || is_short(name))
            || ids.any(|id| {
                id.strip_prefix("os::").is_some_and(short)
                    || id.strip_prefix("ops::").is_some_and(full)
            }))
}

/// The common names of a subject in the text of RFC 4514; one with anything escaped is none that a device has.
fn common_names(subject: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    let parts = subject.split(move |letter| {
        let separates = !escaped && matches!(letter, ',' | '+');
        escaped = !escaped && letter == '\\';
        separates
    });
    parts
        .filter_map(|part| part.strip_prefix("CN="))
        .filter(|name| !name.contains(['\\', '#', '"']))
}

/// Whether percent-encoded text stands for this.
fn is(encoded: &str, plain: &str) -> bool {
    let mut bytes = encoded.bytes();
    let mut plain = plain.bytes();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let (Some(high), Some(low)) = (digit(), digit()) else {
                return false;
            };
            u8::try_from(high * 16 + low).unwrap_or_default()
        } else {
            byte
        };
        if plain.next() != Some(byte) {
            return false;
        }
    }
    plain.next().is_none()
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

    fn device(class: &str, serial: &str) -> DeviceId {
        DeviceId {
            manufacturer: String::new(),
            oui: "00D09E".to_owned(),
            product_class: class.to_owned(),
            serial_number: serial.to_owned(),
        }
    }

    fn certificate(subject: &str, ids: &[&str]) -> PeerIdentity {
        let mut identity = homefleet_trust::Decision::not_verified(&[])
            .peer
            .expect("a peer");
        identity.subject = subject.to_owned();
        identity.endpoint_ids = ids.iter().map(|id| (*id).to_owned()).collect();
        identity
    }

    #[test]
    fn a_certificate_is_that_of_the_device_it_names() {
        let gateway = device("IGD", "HF-1");
        for subject in [
            "CN=00D09E-IGD-HF%2D1",
            "CN=00d09e-IGD-HF%2d1,O=Maker",
            "O=Maker,CN=00D09E-HF%2D1",
            "O=Maker+CN=00D09E-HF%2D1",
        ] {
            assert!(is_named(&certificate(subject, &[]), &gateway), "{subject}");
        }
        for id in [
            "os::00D09E-HF-1",
            "os::00D09E-HF%2D1",
            "ops::00D09E-IGD-HF%2D1",
        ] {
            assert!(is_named(&certificate("", &[id]), &gateway), "{id}");
        }
        for subject in [
            "",
            "CN=",
            "CN=00D09E-IGD-HF%2D2",
            "CN=00D09E-IGX-HF%2D1",
            "CN=00D09F-IGD-HF%2D1",
            // The parts are told apart by the hyphens.
            "CN=00D09E-IGD-HF-1",
            "CN=00D09E-HF-1",
            "CN=00D09E-IGD-HF%2D1%",
            "CN=00D09E-IGD-HF%2D1-x",
            "OU=00D09E-IGD-HF%2D1",
            "O=x\\,CN=00D09E-IGD-HF%2D1",
            "CN=00D09E-IGD-HF%2D1\\,x",
        ] {
            assert!(!is_named(&certificate(subject, &[]), &gateway), "{subject}");
        }
        for id in [
            "os::00D09E-HF-2",
            "self::00D09E-HF-1",
            "ops::00D09E-IGD-HF-1",
            "os::*",
            "*",
        ] {
            assert!(!is_named(&certificate("", &[id]), &gateway), "{id}");
        }
        let nobody = certificate("CN=-", &["os::-"]);
        let empty = DeviceId {
            oui: String::new(),
            ..device("", "")
        };
        assert!(!is_named(&nobody, &empty));
    }

    #[test]
    fn who_does_not_say_who_it_is_is_nobody() {
        assert_eq!(id("", "IGD", "1"), None);
        assert_eq!(id("00D09E", "IGD", ""), None);
        assert_eq!(id("00D09E", "IGD", &"1".repeat(65)), None);
    }
}
