//! The list of keys, each with its environment variable: the one place from which the overlay, the
//! reference in the manual and the tests are made.

use std::{fmt::Display, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::File;

/// One key of the configuration.
#[derive(Clone, Copy)]
pub struct Key {
    /// Dotted name, for example `trust.ca`.
    pub name: &'static str,
    /// Sets it from text, as the environment does.
    pub(crate) set: fn(&mut File, &str) -> Result<(), String>,
}

impl Key {
    /// The environment variable that sets this key.
    pub fn variable(&self) -> String {
        variable(self.name)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Every key there is.
pub const KEYS: &[Key] = &[
    Key {
        name: "version",
        set: |f, v| put(&mut f.version, v),
    },
    Key {
        name: "endpoint_id",
        set: |f, v| put(&mut f.endpoint_id, v),
    },
    Key {
        name: "data_dir",
        set: |f, v| put(&mut f.data_dir, v),
    },
    Key {
        name: "listen",
        set: |f, v| put(&mut f.listen, v),
    },
    Key {
        name: "plain_listen",
        set: |f, v| put(&mut f.plain_listen, v),
    },
    Key {
        name: "discovery",
        set: |f, v| put(&mut f.discovery, v),
    },
    Key {
        name: "path",
        set: |f, v| put(&mut f.path, v),
    },
    Key {
        name: "advertise",
        set: |f, v| put(&mut f.advertise, v),
    },
    Key {
        name: "allow_insecure",
        set: |f, v| put(&mut f.allow_insecure, v),
    },
    Key {
        name: "rollback_after",
        set: |f, v| put(&mut f.rollback_after, v),
    },
    Key {
        name: "websocket.listen",
        set: |f, v| put(&mut f.websocket.listen, v),
    },
    Key {
        name: "websocket.path",
        set: |f, v| put(&mut f.websocket.path, v),
    },
    Key {
        name: "websocket.encrypted",
        set: |f, v| put(&mut f.websocket.encrypted, v),
    },
    Key {
        name: "uds.listen",
        set: |f, v| put(&mut f.uds.listen, v),
    },
    Key {
        name: "uds.connect",
        set: |f, v| put(&mut f.uds.connect, v),
    },
    Key {
        name: "controller.endpoint_id",
        set: |f, v| put(&mut f.controller.endpoint_id, v),
    },
    Key {
        name: "controller.url",
        set: |f, v| put(&mut f.controller.url, v),
    },
    Key {
        name: "controller.username",
        set: |f, v| put(&mut f.controller.username, v),
    },
    Key {
        name: "controller.password",
        set: |f, v| put(&mut f.controller.password, v),
    },
    Key {
        name: "controller.password_file",
        set: |f, v| put(&mut f.controller.password_file, v),
    },
    Key {
        name: "controller.virtual_host",
        set: |f, v| put(&mut f.controller.virtual_host, v),
    },
    Key {
        name: "controller.subscribe",
        set: |f, v| put(&mut f.controller.subscribe, v),
    },
    Key {
        name: "controller.mqtt_version",
        set: |f, v| put(&mut f.controller.mqtt_version, v),
    },
    Key {
        name: "trust.ca",
        set: |f, v| put(&mut f.trust.ca, v),
    },
    Key {
        name: "trust.brokers",
        set: |f, v| put(&mut f.trust.brokers, v),
    },
    Key {
        name: "trust.certificate",
        set: |f, v| put(&mut f.trust.certificate, v),
    },
    Key {
        name: "trust.key",
        set: |f, v| put(&mut f.trust.key, v),
    },
    Key {
        name: "trust.time",
        set: |f, v| put(&mut f.trust.time, v),
    },
    Key {
        name: "trust.revocation",
        set: |f, v| put(&mut f.trust.revocation, v),
    },
    Key {
        name: "trust.revocation_unknown",
        set: |f, v| put(&mut f.trust.revocation_unknown, v),
    },
    Key {
        name: "trust.crls",
        set: |f, v| {
            let files = v.split(',').map(str::trim).filter(|file| !file.is_empty());
            f.trust.crls = Some(files.map(Into::into).collect());
            Ok(())
        },
    },
    Key {
        name: "trust.first_use",
        set: |f, v| put(&mut f.trust.first_use, v),
    },
    Key {
        name: "trust.first_use_timer",
        set: |f, v| put(&mut f.trust.first_use_timer, v),
    },
    Key {
        name: "trust.wait_for_time",
        set: |f, v| put(&mut f.trust.wait_for_time, v),
    },
    Key {
        name: "enrol.url",
        set: |f, v| put(&mut f.enrol.url, v),
    },
    Key {
        name: "enrol.label",
        set: |f, v| put(&mut f.enrol.label, v),
    },
    Key {
        name: "enrol.profile",
        set: |f, v| put(&mut f.enrol.profile, v),
    },
    Key {
        name: "enrol.reference",
        set: |f, v| put(&mut f.enrol.reference, v),
    },
    Key {
        name: "enrol.secret_file",
        set: |f, v| put(&mut f.enrol.secret_file, v),
    },
    Key {
        name: "enrol.certificate",
        set: |f, v| put(&mut f.enrol.certificate, v),
    },
    Key {
        name: "enrol.key",
        set: |f, v| put(&mut f.enrol.key, v),
    },
    Key {
        name: "enrol.ca",
        set: |f, v| put(&mut f.enrol.ca, v),
    },
    Key {
        name: "enrol.trust",
        set: |f, v| put(&mut f.enrol.trust, v),
    },
    Key {
        name: "enrol.key_type",
        set: |f, v| put(&mut f.enrol.key_type, v),
    },
    Key {
        name: "enrol.renew_after",
        set: |f, v| put(&mut f.enrol.renew_after, v),
    },
    Key {
        name: "enrol.grace",
        set: |f, v| put(&mut f.enrol.grace, v),
    },
    Key {
        name: "enrol.update_cas",
        set: |f, v| put(&mut f.enrol.update_cas, v),
    },
    Key {
        name: "enrol.observe",
        set: |f, v| put(&mut f.enrol.observe, v),
    },
    Key {
        name: "enrol.retry",
        set: |f, v| put(&mut f.enrol.retry, v),
    },
    Key {
        name: "telemetry.publisher_id",
        set: |f, v| put(&mut f.telemetry.publisher_id, v),
    },
    Key {
        name: "telemetry.yang",
        set: |f, v| put(&mut f.telemetry.yang, v),
    },
    Key {
        name: "association.gateway",
        set: |f, v| put(&mut f.association.gateway, v),
    },
    Key {
        name: "association.lan",
        set: |f, v| {
            let names = v.split(',').map(str::trim).filter(|name| !name.is_empty());
            f.association.lan = Some(names.map(str::to_owned).collect());
            Ok(())
        },
    },
    Key {
        name: "association.probe_interval",
        set: |f, v| put(&mut f.association.probe_interval, v),
    },
    Key {
        name: "association.max_devices",
        set: |f, v| put(&mut f.association.max_devices, v),
    },
    Key {
        name: "association.device",
        set: |f, v| put(&mut f.association.device, v),
    },
    Key {
        name: "association.inform",
        set: |f, v| put(&mut f.association.inform, v),
    },
    Key {
        name: "association.inform_interval",
        set: |f, v| put(&mut f.association.inform_interval, v),
    },
    Key {
        name: "association.socket",
        set: |f, v| put(&mut f.association.socket, v),
    },
    Key {
        name: "device.oui",
        set: |f, v| put(&mut f.device.oui, v),
    },
    Key {
        name: "device.serial_number",
        set: |f, v| put(&mut f.device.serial_number, v),
    },
    Key {
        name: "device.product_class",
        set: |f, v| put(&mut f.device.product_class, v),
    },
    Key {
        name: "cwmp.enable",
        set: |f, v| put(&mut f.cwmp.enable, v),
    },
    Key {
        name: "cwmp.url",
        set: |f, v| put(&mut f.cwmp.url, v),
    },
    Key {
        name: "cwmp.username",
        set: |f, v| put(&mut f.cwmp.username, v),
    },
    Key {
        name: "cwmp.password",
        set: |f, v| put(&mut f.cwmp.password, v),
    },
    Key {
        name: "cwmp.password_file",
        set: |f, v| put(&mut f.cwmp.password_file, v),
    },
    Key {
        name: "cwmp.root",
        set: |f, v| put(&mut f.cwmp.root, v),
    },
    Key {
        name: "cwmp.periodic",
        set: |f, v| put(&mut f.cwmp.periodic, v),
    },
    Key {
        name: "cwmp.connection_request",
        set: |f, v| put(&mut f.cwmp.connection_request, v),
    },
    Key {
        name: "cwmp.connection_request_host",
        set: |f, v| put(&mut f.cwmp.connection_request_host, v),
    },
    Key {
        name: "cwmp.dhcp",
        set: |f, v| put(&mut f.cwmp.dhcp, v),
    },
    Key {
        name: "cwmp.install",
        set: |f, v| put(&mut f.cwmp.install, v),
    },
    Key {
        name: "cwmp.log_file",
        set: |f, v| put(&mut f.cwmp.log_file, v),
    },
    Key {
        name: "stun.listen",
        set: |f, v| put(&mut f.stun.listen, v),
    },
    Key {
        name: "stun.enable",
        set: |f, v| put(&mut f.stun.enable, v),
    },
    Key {
        name: "stun.server",
        set: |f, v| put(&mut f.stun.server, v),
    },
    Key {
        name: "stun.port",
        set: |f, v| put(&mut f.stun.port, v),
    },
    Key {
        name: "stun.username",
        set: |f, v| put(&mut f.stun.username, v),
    },
    Key {
        name: "stun.password_file",
        set: |f, v| put(&mut f.stun.password_file, v),
    },
    Key {
        name: "stun.minimum",
        set: |f, v| put(&mut f.stun.minimum, v),
    },
    Key {
        name: "stun.maximum",
        set: |f, v| put(&mut f.stun.maximum, v),
    },
    Key {
        name: "device.restart",
        set: |f, v| put(&mut f.device.restart, v),
    },
    Key {
        name: "device.allow_network_changes",
        set: |f, v| put(&mut f.device.allow_network_changes, v),
    },
    Key {
        name: "limits.max_subscriptions",
        set: |f, v| put(&mut f.limits.max_subscriptions, v),
    },
    Key {
        name: "limits.max_pending",
        set: |f, v| put(&mut f.limits.max_pending, v),
    },
    Key {
        name: "limits.max_requests",
        set: |f, v| put(&mut f.limits.max_requests, v),
    },
    Key {
        name: "limits.max_record",
        set: |f, v| put(&mut f.limits.max_record, v),
    },
    Key {
        name: "limits.max_unknown_controllers",
        set: |f, v| put(&mut f.limits.max_unknown_controllers, v),
    },
    Key {
        name: "log.filter",
        set: |f, v| put(&mut f.log.filter, v),
    },
    Key {
        name: "log.json",
        set: |f, v| put(&mut f.log.json, v),
    },
];

/// Every variable of ours begins so.
pub(super) const PREFIX: &str = "HOMEFLEET_AGENT_";

/// `trust.ca` is `HOMEFLEET_AGENT_TRUST_CA`.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

/// A value written as a string that has its own form; a bad one is refused at its place in the file.
pub(super) fn parsed<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: Display,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(D::Error::custom)
}

fn put<T>(slot: &mut Option<T>, text: &str) -> Result<(), String>
where
    T: FromStr,
    T::Err: Display,
{
    *slot = Some(text.parse().map_err(|e: T::Err| e.to_string())?);
    Ok(())
}
