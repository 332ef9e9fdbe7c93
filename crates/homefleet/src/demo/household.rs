//! The demo's home: this machine as the gateway, and three devices behind it.
//!
//! Their agents run in the demo's own process, each with its own key, certificate and Endpoint ID. No DHCP server runs, as that would take
//! root and a network: what it would tell is told to the agents as its scripts do (`homefleet-agent dhcp-event`), on both sides. What follows is
//! real: the gateway lists its devices, each device names its gateway, and the server asks both and compares.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use homefleet_agent::association::{Event, Mac, event, inbox};

/// The longest path of a UNIX socket (unix(7)).
const MAX_SOCKET: usize = 107;
/// OUI of the devices.
const OUI: &str = "00D09E";
/// Name of files and directory, product class, serial number of each.
const MEMBERS: [(&str, &str, &str); 3] = [
    ("stb", "SetTopBox", "STB-0001"),
    ("phone", "Phone", "TEL-0001"),
    ("sensor", "Sensor", "SEN-0001"),
];

/// A device of the demo.
#[derive(Debug, Clone)]
pub(super) struct Who {
    /// What its files and directory are called.
    pub(super) name: String,
    /// Endpoint ID.
    pub(super) id: String,
    /// OUI, serial number, product class; `None` = as the machine says.
    identity: Option<[String; 3]>,
    gateway: bool,
}

impl Who {
    /// This machine, as it is.
    pub(super) fn unnamed(id: &str) -> Self {
        Self {
            name: "agent".to_owned(),
            id: id.to_owned(),
            identity: None,
            gateway: false,
        }
    }

    /// This machine as a gateway, by the OUI and serial number in its Endpoint ID.
    pub(super) fn this_machine(id: &str) -> Option<Self> {
        let (oui, serial) = id.strip_prefix("os::")?.split_once('-')?;
        let class = "Gateway";
        event::identity_of(oui, serial, class)?;
        // Percent-encoded, it would not be the serial number itself.
        let identity = [oui, serial, class].map(str::to_owned);
        (!id.contains('%')).then(|| Self {
            identity: Some(identity),
            gateway: true,
            ..Self::unnamed(id)
        })
    }

    fn member((name, class, serial): (&str, &str, &str)) -> Self {
        Self {
            name: name.to_owned(),
            id: format!("os::{OUI}-{serial}"),
            identity: Some([OUI, serial, class].map(str::to_owned)),
            gateway: false,
        }
    }

    /// What its configuration says beside that of every agent of the demo, by the names of variables.
    pub(super) fn setting(&self, variable: &str) -> Option<String> {
        let [oui, serial, class] = self.identity.as_ref()?;
        let value = match variable.strip_prefix("HOMEFLEET_AGENT_")? {
            "DEVICE_OUI" => oui,
            "DEVICE_SERIAL_NUMBER" => serial,
            "DEVICE_PRODUCT_CLASS" => class,
            "ASSOCIATION_GATEWAY" => return Some(self.gateway.to_string()),
            "ASSOCIATION_DEVICE" => return Some((!self.gateway).to_string()),
            // They have no addresses of their own that a neighbour table could hold.
            "ASSOCIATION_PROBE_INTERVAL" => return Some("0".to_owned()),
            _ => return None,
        };
        Some(value.clone())
    }
}

/// A gateway and the devices behind it.
#[derive(Debug)]
pub(super) struct Household {
    gateway: Who,
    members: Vec<Who>,
}

impl Household {
    /// The home of this gateway; `None` where a socket's path would be too long.
    pub(super) fn new(dir: &Path, gateway: Who) -> Option<Self> {
        let members: Vec<Who> = MEMBERS.into_iter().map(Who::member).collect();
        let home = Self { gateway, members };
        let fits = |who: &Who| socket(dir, who).as_os_str().len() <= MAX_SOCKET;
        let all_fit = fits(&home.gateway) && home.members.iter().all(fits);
        all_fit.then_some(home)
    }

    /// The gateway.
    pub(super) fn gateway(&self) -> &Who {
        &self.gateway
    }

    /// The devices behind it.
    pub(super) fn members(&self) -> &[Who] {
        &self.members
    }

    /// Tells the gateway of its devices and them of it, as DHCP would.
    pub(super) fn connect(&self, dir: &Path) -> io::Result<()> {
        let of = |who: &Who| who.identity.clone().unwrap_or_default();
        for (who, host) in self.members.iter().zip(2_u8..) {
            let [oui, serial, class] = of(who);
            let leased = Event::Leased {
                mac: Mac([2, 0, 0, 0, 0, host]),
                address: Ipv4Addr::new(192, 0, 2, host),
                identity: event::identity_of(&oui, &serial, &class),
                lease: None,
            };
            inbox::tell(&socket(dir, &self.gateway), &leased)?;
            let [oui, serial_number, product_class] = of(&self.gateway);
            let acknowledged = Event::Acknowledged {
                interface: "lo".to_owned(),
                oui,
                serial_number,
                product_class,
                lease: None,
            };
            inbox::tell(&socket(dir, who), &acknowledged)?;
        }
        Ok(())
    }
}

/// Where an agent is told of DHCP.
fn socket(dir: &Path, who: &Who) -> PathBuf {
    dir.join(&who.name).join("dhcp.sock")
}
