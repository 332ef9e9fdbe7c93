//! What DHCP said, and how dnsmasq, kea, udhcpc and dhclient tell it to their scripts.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use homefleet_tr111::identity::{Found, Identity, Role};
use serde::{Deserialize, Serialize};

/// Longest name of a network interface that the kernel takes.
const MAX_INTERFACE: usize = 15;

/// A hardware address of Ethernet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// Something that happened to a lease.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// Gateway: DHCPACK went to a device.
    Leased {
        /// Its hardware address.
        mac: Mac,
        /// Its IP address.
        address: Ipv4Addr,
        /// The identity in what it asked; absent: none was told this time.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "identity")]
        identity: Option<Identity>,
        /// Seconds the lease lasts; absent: no end is known (DHCPINFORM, infinite).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease: Option<u64>,
    },
    /// Gateway: a lease was released or has expired.
    Ended {
        /// The device's hardware address.
        mac: Mac,
        /// The address it had; absent: whichever it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<Ipv4Addr>,
    },
    /// Device: DHCPACK came. What it did not say of the gateway is empty (§1.2.2).
    Acknowledged {
        /// The interface it came in at.
        interface: String,
        /// The gateway's OUI.
        #[serde(default)]
        oui: String,
        /// Its serial number.
        #[serde(default)]
        serial_number: String,
        /// Its product class.
        #[serde(default)]
        product_class: String,
        /// Seconds the lease lasts; absent: no end is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease: Option<u64>,
    },
    /// Device: the lease was released or has expired.
    Lost {
        /// The interface that had it.
        interface: String,
    },
}

/// What a script was told is not what the program documents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// An argument or variable is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// An argument or variable has another form.
    #[error("{name}: {value:?} is not {expected}")]
    Form {
        /// Its name.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

impl Event {
    /// DHCPACK at `interface`, with what option 125 held.
    pub fn acknowledged(interface: &str, option: &[u8], lease: Option<u64>) -> Self {
        let found = Found::decode([option]);
        let [oui, serial, class] = found
            .elements(Role::Gateway)
            .map(|text| text.unwrap_or_default().to_owned());
        Self::Acknowledged {
            interface: interface.to_owned(),
            oui,
            serial_number: serial,
            product_class: class,
            lease,
        }
    }

    /// What dnsmasq tells its script (`--dhcp-script`): `add`, `old` or `del`, hardware address, address; `None` for what is not about
    /// IPv4 leases of Ethernet devices.
    ///
    /// # Errors
    ///
    /// An [`EventError`] that names the argument.
    pub fn of_dnsmasq(
        arguments: &[String],
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, EventError> {
        let [action, hardware, address, ..] = arguments else {
            // `init` comes alone.
            return match arguments.first() {
                Some(_) => Ok(None),
                None => Err(EventError::Missing("dnsmasq's action")),
            };
        };
        if !matches!(action.as_str(), "add" | "old" | "del") {
            return Ok(None);
        }
        // Another kind of hardware has its number in front; DHCPv6 has a DUID here.
        let (Ok(mac), Ok(address)) = (hardware.parse::<Mac>(), address.parse::<Ipv4Addr>()) else {
            return Ok(None);
        };
        if action == "del" {
            let address = Some(address);
            return Ok(Some(Self::Ended { mac, address }));
        }
        let lease = number("DNSMASQ_TIME_REMAINING", &environment)?;
        let text = |name| environment(name).unwrap_or_default();
        Ok(Some(Self::Leased {
            mac,
            address,
            identity: identity_of(
                &text("DNSMASQ_CPEWAN_OUI"),
                &text("DNSMASQ_CPEWAN_SERIAL"),
                &text("DNSMASQ_CPEWAN_CLASS"),
            ),
            lease: lease.filter(|seconds| *seconds > 0),
        }))
    }

    /// What kea tells its script (hook library `run_script`). It does not hand on option 125: that is heard on the wire.
    ///
    /// # Errors
    ///
    /// An [`EventError`] that names the variable.
    pub fn of_kea(
        arguments: &[String],
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, EventError> {
        let point = arguments.first();
        let point = point.ok_or(EventError::Missing("kea's hook point"))?;
        let (hardware, address, seconds) = match point.as_str() {
            "lease4_release" | "lease4_expire" | "lease4_decline" => {
                ("LEASE4_HWADDR", "LEASE4_ADDRESS", None)
            }
            "lease4_renew" => (
                "LEASE4_HWADDR",
                "LEASE4_ADDRESS",
                Some("LEASE4_VALID_LIFETIME"),
            ),
            "leases4_committed" => (
                "LEASES4_AT0_HWADDR",
                "LEASES4_AT0_ADDRESS",
                Some("LEASES4_AT0_VALID_LIFETIME"),
            ),
            _ => return Ok(None),
        };
        // Nothing was committed.
        if environment(hardware).is_none_or(|text| text.is_empty()) {
            return Ok(None);
        }
        let mac = read(hardware, "a hardware address", &environment)?;
        let address = read(address, "an IPv4 address", &environment)?;
        Ok(Some(match seconds {
            None => Self::Ended {
                mac,
                address: Some(address),
            },
            Some(seconds) => Self::Leased {
                mac,
                address,
                identity: None,
                // All ones: for ever.
                lease: number(seconds, &environment)?.filter(|n| *n < u64::from(u32::MAX)),
            },
        }))
    }

    /// What busybox's udhcpc tells its script: `deconfig`, `bound`, `renew`, `leasefail` or `nak`.
    ///
    /// # Errors
    ///
    /// An [`EventError`] that names the variable.
    pub fn of_udhcpc(
        arguments: &[String],
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, EventError> {
        let action = arguments.first();
        let action = action.ok_or(EventError::Missing("udhcpc's action"))?;
        let interface = interface("interface", &environment)?;
        Ok(match action.as_str() {
            "deconfig" => Some(Self::Lost { interface }),
            "bound" | "renew" => {
                let option = environment("opt125").unwrap_or_default();
                let option = hexadecimal("opt125", &option)?;
                let lease = number("lease", &environment)?;
                Some(Self::acknowledged(&interface, &option, lease))
            }
            _ => None,
        })
    }

    /// What ISC's dhclient tells its hooks; option 125 has the name that [`super::snippet`] gives it.
    ///
    /// # Errors
    ///
    /// An [`EventError`] that names the variable.
    pub fn of_dhclient(
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, EventError> {
        let reason = environment("reason").ok_or(EventError::Missing("reason"))?;
        let interface = interface("interface", &environment)?;
        Ok(match reason.as_str() {
            "BOUND" | "RENEW" | "REBIND" | "REBOOT" => {
                let option = environment("new_homefleet_identity").unwrap_or_default();
                let option = colons("new_homefleet_identity", &option)?;
                let lease = number("new_dhcp_lease_time", &environment)?;
                Some(Self::acknowledged(&interface, &option, lease))
            }
            "EXPIRE" | "FAIL" | "RELEASE" | "STOP" => Some(Self::Lost { interface }),
            _ => None,
        })
    }
}

/// An identity as a script tells it; `None` when it is none.
pub fn identity_of(oui: &str, serial: &str, class: &str) -> Option<Identity> {
    Identity::new(&oui.to_ascii_uppercase(), serial, Some(class)).ok()
}

fn interface(
    name: &'static str,
    environment: &impl Fn(&str) -> Option<String>,
) -> Result<String, EventError> {
    let value = environment(name).ok_or(EventError::Missing(name))?;
    if is_interface(&value) {
        return Ok(value);
    }
    Err(EventError::Form {
        name,
        value,
        expected: "the name of an interface",
    })
}

/// Whether the kernel would take it as the name of an interface.
pub(crate) fn is_interface(name: &str) -> bool {
    let odd = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    (1..=MAX_INTERFACE).contains(&name.len()) && !name.contains(odd)
}

fn read<T: FromStr>(
    name: &'static str,
    expected: &'static str,
    environment: &impl Fn(&str) -> Option<String>,
) -> Result<T, EventError> {
    let value = environment(name).ok_or(EventError::Missing(name))?;
    value.parse().map_err(|_| EventError::Form {
        name,
        value,
        expected,
    })
}

fn number(
    name: &'static str,
    environment: &impl Fn(&str) -> Option<String>,
) -> Result<Option<u64>, EventError> {
    match environment(name) {
        None => Ok(None),
        Some(_) => read(name, "a number of seconds", environment).map(Some),
    }
}

/// `00000de9…`, as udhcpc writes options that it does not know.
fn hexadecimal(name: &'static str, text: &str) -> Result<Vec<u8>, EventError> {
    let octets = text.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair)
            .ok()
            .filter(|pair| pair.len() == 2)?;
        octet(pair)
    });
    octets
        .collect::<Option<_>>()
        .ok_or_else(|| EventError::Form {
            name,
            value: text.to_owned(),
            expected: "hexadecimal octets",
        })
}

/// `0:0:d:e9:…`, as dhclient writes them.
fn colons(name: &'static str, text: &str) -> Result<Vec<u8>, EventError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let octets = text.split(':').map(octet);
    octets
        .collect::<Option<_>>()
        .ok_or_else(|| EventError::Form {
            name,
            value: text.to_owned(),
            expected: "hexadecimal octets with colons between",
        })
}

fn octet(text: &str) -> Option<u8> {
    let digits = matches!(text.len(), 1 | 2) && text.chars().all(|c| c.is_ascii_hexdigit());
    u8::from_str_radix(text, 16).ok().filter(|_| digits)
}

/// An identity in an [`Event`]: its texts.
mod identity {
    use super::{Identity, identity_of};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    #[derive(Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    struct Texts {
        oui: String,
        serial_number: String,
        #[serde(default)]
        product_class: String,
    }

    pub(super) fn serialize<S: Serializer>(
        identity: &Option<Identity>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let texts = identity.as_ref().map(|identity| Texts {
            oui: identity.oui().to_owned(),
            serial_number: identity.serial().to_owned(),
            product_class: identity.product_class().unwrap_or_default().to_owned(),
        });
        texts.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Identity>, D::Error> {
        let Some(texts) = Option::<Texts>::deserialize(deserializer)? else {
            return Ok(None);
        };
        identity_of(&texts.oui, &texts.serial_number, &texts.product_class)
            .map(Some)
            .ok_or_else(|| D::Error::custom("not an identity"))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02X}:{b:02X}:{c:02X}:{d:02X}:{e:02X}:{g:02X}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let octets: Option<Vec<u8>> = text.split(':').map(octet).collect();
        let octets = octets.and_then(|octets| octets.try_into().ok());
        octets
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a hardware address like 02:00:00:00:00:01"))
    }
}

impl TryFrom<String> for Mac {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}
