//! `[association]`: who is behind which gateway (TR-111 Part 1).

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use homefleet_tr111::identity::Identity;
use serde::Deserialize;

use super::{ConfigError, invalid};
use crate::{
    association::{Settings, event::is_interface, own},
    provider,
};

/// How often a gateway is asked by DHCPINFORM, seconds.
const INFORM_INTERVAL: u32 = 3600;
/// How often a gateway looks whether its devices are there, seconds.
const PROBE_INTERVAL: u32 = 30;
/// How many devices a gateway remembers.
const MAX_DEVICES: usize = 256;
/// On how many interfaces a gateway listens.
const MAX_LANS: usize = 16;
/// The longest path of a UNIX socket (unix(7)).
const MAX_SOCKET: usize = 107;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AssociationFile {
    pub(crate) gateway: Option<bool>,
    pub(crate) lan: Option<Vec<String>>,
    pub(crate) probe_interval: Option<u32>,
    pub(crate) max_devices: Option<usize>,
    pub(crate) device: Option<bool>,
    pub(crate) inform: Option<String>,
    pub(crate) inform_interval: Option<u32>,
    pub(crate) socket: Option<PathBuf>,
}

/// Six upper-case hexadecimal digits.
#[derive(Clone, Debug)]
pub(crate) struct Oui(pub(crate) String);

impl FromStr for Oui {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let oui = Identity::new(text, "0", None);
        oui.map(|_| Self(text.to_owned()))
            .map_err(|error| format!("`{text}`: {error}"))
    }
}

impl AssociationFile {
    pub(super) fn finish(
        self,
        base: &Path,
        data_dir: &Path,
        identity: &provider::Identity,
    ) -> Result<Option<Settings>, ConfigError> {
        let (gateway, device) = (self.gateway.unwrap_or(false), self.device.unwrap_or(false));
        let lan = self.lan.unwrap_or_default();
        let inform = self.inform.iter();
        let named = lan.iter().map(|name| ("association.lan", name, gateway));
        let named = named.chain(inform.map(|name| ("association.inform", name, device)));
        for (key, interface, role) in named {
            if !is_interface(interface) {
                let reason = format!("{interface:?} is not the name of a network interface");
                return Err(invalid(key, reason));
            }
            if !role {
                let reason = "it is of no use to a machine without the role: set gateway = true for `lan`, device = true for `inform`";
                return Err(invalid(key, reason));
            }
        }
        if lan.len() > MAX_LANS {
            let reason = format!("at most {MAX_LANS} interfaces are listened to");
            return Err(invalid("association.lan", reason));
        }
        if !gateway && !device {
            return Ok(None);
        }
        own(identity).map_err(|error| {
            invalid(
                "association",
                format!(
                    "what this machine says of itself cannot be told by DHCP ({error}): set oui, serial_number and product_class under [device]"
                ),
            )
        })?;
        let socket = self.socket.unwrap_or_else(|| data_dir.join("dhcp.sock"));
        let socket = base.join(socket);
        if socket.as_os_str().len() > MAX_SOCKET {
            let reason = format!("a path of a UNIX socket has at most {MAX_SOCKET} octets");
            return Err(invalid("association.socket", reason));
        }
        let seconds = |seconds: Option<u32>, default: u32| {
            Duration::from_secs(seconds.unwrap_or(default).into())
        };
        let inform_interval = seconds(self.inform_interval, INFORM_INTERVAL);
        if inform_interval.is_zero() {
            return Err(invalid("association.inform_interval", "at least a second"));
        }
        Ok(Some(Settings {
            gateway,
            device,
            lan,
            inform: self.inform,
            inform_interval,
            probe_interval: seconds(self.probe_interval, PROBE_INTERVAL),
            max_devices: self.max_devices.unwrap_or(MAX_DEVICES),
            socket,
            file: Some(data_dir.join("association.json")),
        }))
    }
}
