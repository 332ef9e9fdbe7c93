//! What the configuration file says about MTPs and the first Controller, as rows of the data model. It is entered when it is new
//! there, or has changed there: what a Controller changes in the data model stays until then.

use homefleet_model::{error::PutError, path::ObjectPath, tree::Tree, value::date_time};

use super::{Engine, EngineError, OwnMtp, boot::fact};
use crate::{
    config::{ControllerConfig, ControllerUrl, Place},
    controllers,
    local_agent::{table, text},
    notify,
    provider::Now,
    role::FULL_ACCESS,
    transport::MTPS,
};

const STOMP: &str = "Device.STOMP.Connection.";
const MQTT: &str = "Device.MQTT.Client.";
const SOCKETS: &str = "Device.UnixDomainSockets.UnixDomainSocket.";

/// Kinds of own MTPs, of which the configuration file names at most one each.
const KINDS: &[&str] = &["coaps", "coap", "websocket", "uds_listen", "uds_connect"];

impl OwnMtp {
    fn kind(&self) -> &'static str {
        match self {
            Self::Coap { encrypted, .. } if *encrypted => "coaps",
            Self::Coap { .. } => "coap",
            Self::WebSocket { .. } => "websocket",
            Self::Uds { listens: true, .. } => "uds_listen",
            Self::Uds { .. } => "uds_connect",
        }
    }
}

impl Engine {
    /// Enters where the configuration file has the agent listen.
    pub(super) fn enter_own_mtps(&mut self) -> Result<(), EngineError> {
        for kind in KINDS {
            let key = format!("{}{kind}", fact::MTP);
            let known = self.store.fact(&key)?.unwrap_or_default();
            let (row, was) = known.split_once(' ').unwrap_or_default();
            let row: Option<ObjectPath> = row.parse().ok();
            let row = row.filter(|row| self.device.tree.exists(row));
            let own = self.settings.mtps.iter().find(|mtp| mtp.kind() == *kind);
            if let Some(OwnMtp::Uds { path, listens }) = own.cloned() {
                // Rows that nobody but the configuration file makes: they are not kept.
                if let Err(error) = enter_socket(&mut self.device.tree, &path, listens) {
                    tracing::error!(%error, "the tree refused a UNIX domain socket");
                }
            }
            match own.cloned() {
                Some(own) if was == format!("{own:?}") => {}
                Some(own) => match enter_mtp(&mut self.device.tree, row, &own) {
                    Ok(row) => {
                        let value = format!("{row} {own:?}");
                        self.batch.facts.push((key, value));
                    }
                    Err(error) => {
                        tracing::error!(%error, "the tree refused an MTP of the configuration file");
                    }
                },
                None => {
                    if let Some(row) = row {
                        self.device.tree.remove_instance(&row);
                        self.batch.facts.push((key, String::new()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Enters the controller of the configuration file when it is new there, or has changed there.
    pub(super) fn enter_factory_controller(&mut self, now: Now) -> Result<(), EngineError> {
        let Some(controller) = self.settings.controller.clone() else {
            return Ok(());
        };
        if let ControllerUrl::Uds(path) = &controller.url
            && let Err(error) = enter_socket(&mut self.device.tree, path, false)
        {
            tracing::error!(%error, "the tree refused a UNIX domain socket");
        }
        let broker = &controller.broker;
        let mut wanted = format!("{} {}", controller.endpoint_id, controller.url);
        if controller.url.is_brokered() {
            let password = broker.password.as_ref().map(|secret| secret.reveal());
            wanted.push_str(&format!(
                " {:?} {:?} {:?} {:?} {}",
                broker.username, password, broker.virtual_host, broker.subscribe, broker.mqtt_5
            ));
        }
        let known = self.store.fact(fact::FACTORY)?.unwrap_or_default();
        if known == wanted {
            return Ok(());
        }
        let before = known.split(' ').nth(1).and_then(|url| url.parse().ok());
        self.batch.facts.push((fact::FACTORY.into(), wanted));
        match self.write_factory_controller(&controller, before.as_ref(), now) {
            Ok(row) => self.assign(&row, FULL_ACCESS),
            Err(error) => {
                tracing::error!(%error, "the tree refused the controller of the configuration file");
            }
        }
        Ok(())
    }

    fn write_factory_controller(
        &mut self,
        controller: &ControllerConfig,
        before: Option<&ControllerUrl>,
        now: Now,
    ) -> Result<ObjectPath, PutError> {
        let tree = &self.device.tree;
        let endpoint_id = controller.endpoint_id.to_string();
        let known = tree
            .rows(&table(controllers::TABLE))
            .into_iter()
            .find(|row| text(tree, row, "EndpointID") == endpoint_id);
        let known = known.filter(|row| !self.is_taken_over(row));
        let own_id = self.settings.endpoint_id.to_string();
        let tree = &mut self.device.tree;
        let (row, new) = match known {
            Some(row) => (row, false),
            None => (tree.create_persistent(&table(controllers::TABLE))?, true),
        };
        put(
            tree,
            &row,
            &[("EndpointID", &endpoint_id), ("Enable", "true")],
        )?;
        let mtps = row.child("MTP");
        let of = |tree: &Tree, protocol: &str| {
            let mut rows = tree.rows(&mtps).into_iter();
            rows.find(|mtp| text(tree, mtp, "Protocol") == protocol)
        };
        let protocol = controller.url.protocol();
        let mtp = match of(tree, protocol) {
            Some(mtp) => mtp,
            None => tree.create_persistent(&mtps)?,
        };
        let was = before.and_then(|before| {
            let old = of(tree, before.protocol())?;
            Some(text(tree, &old.child(before.protocol()), "Reference").to_owned())
        });
        put(tree, &mtp, &[("Protocol", protocol), ("Enable", "true")])?;
        if let Some(old) = before
            .map(ControllerUrl::protocol)
            .filter(|old| *old != protocol)
            && let Some(old) = of(tree, old)
        {
            put(tree, &old, &[("Enable", "false")])?;
        }
        enter_way(tree, &mtp, controller, &own_id)?;
        if let Some(was) = was {
            leave_broker(tree, &was)?;
        }
        if new {
            let boot = tree.create_persistent(&table(notify::TABLE))?;
            let recipient = row.as_str().trim_end_matches('.').to_owned();
            let values = [
                ("Recipient", recipient.as_str()),
                ("CreationDate", &date_time(now.wall)),
                ("ID", "factory-boot"),
                ("NotifType", "Event"),
                ("ReferenceList", "Device.Boot!"),
                ("Persistent", "true"),
                ("NotifRetry", "true"),
                ("Enable", "true"),
            ];
            put(tree, &boot, &values)?;
        }
        Ok(row)
    }
}

/// The connection to a broker that no Controller is reached over any more is not kept open.
fn leave_broker(tree: &mut Tree, connection: &str) -> Result<(), PutError> {
    let refers = |tree: &Tree, mtp: &ObjectPath| {
        ["STOMP", "MQTT"].iter().any(|protocol| {
            text(tree, mtp, "Protocol") == *protocol
                && text(tree, mtp, "Enable") == "true"
                && text(tree, &mtp.child(protocol), "Reference") == connection
        })
    };
    let controllers = tree.rows(&table(controllers::TABLE));
    let mut ways = controllers
        .iter()
        .flat_map(|row| tree.rows(&row.child("MTP")));
    if connection.is_empty() || ways.any(|mtp| refers(tree, &mtp)) {
        return Ok(());
    }
    for mtp in tree.rows(&table(MTPS)) {
        if refers(tree, &mtp) {
            put(tree, &mtp, &[("Enable", "false")])?;
        }
    }
    Ok(())
}

/// The Controller's MTP row, and what it refers to.
fn enter_way(
    tree: &mut Tree,
    mtp: &ObjectPath,
    controller: &ControllerConfig,
    own_id: &str,
) -> Result<(), PutError> {
    match &controller.url {
        ControllerUrl::Coap(uri) => put(
            tree,
            &mtp.child("CoAP"),
            &[
                ("Host", &uri.host),
                ("Port", &uri.port.to_string()),
                ("Path", &uri.path.join("/")),
                ("EnableEncryption", yes(controller.url.is_protected())),
            ],
        ),
        ControllerUrl::WebSocket(place) => put(
            tree,
            &mtp.child("WebSocket"),
            &[
                ("Host", &place.host),
                ("Port", &place.port.to_string()),
                ("Path", &place.path),
                ("EnableEncryption", yes(place.secure)),
            ],
        ),
        ControllerUrl::Stomp(place) => {
            let connection = enter_stomp(tree, place, controller)?;
            let own = own_mtp(tree, "STOMP", "Reference", &connection)?;
            let destination = controller.broker.subscribe.clone();
            let destination =
                destination.unwrap_or_else(|| format!("/topic/usp.agent.{}", plain(own_id)));
            put(tree, &own.child("STOMP"), &[("Destination", &destination)])?;
            let values = [
                ("Reference", connection.as_str()),
                ("Destination", &place.path),
            ];
            put(tree, &mtp.child("STOMP"), &values)
        }
        ControllerUrl::Mqtt(place) => {
            let client = enter_mqtt(tree, place, controller)?;
            let own = own_mtp(tree, "MQTT", "Reference", &client)?;
            let topic = controller.broker.subscribe.clone();
            let topic = topic.unwrap_or_else(|| format!("usp/agent/{}", plain(own_id)));
            put(
                tree,
                &own.child("MQTT"),
                &[("ResponseTopicConfigured", &topic)],
            )?;
            let values = [
                ("Reference", client.as_str()),
                ("AgentMTPReference", own.to_reference()),
                ("Topic", &place.path),
            ];
            put(tree, &mtp.child("MQTT"), &values)
        }
        ControllerUrl::Uds(path) => {
            let socket = enter_socket(tree, path, false)?;
            own_mtp(tree, "UDS", "UnixDomainSocketRef", &socket)?;
            put(tree, &mtp.child("UDS"), &[("UnixDomainSocketRef", &socket)])
        }
    }
}

fn enter_stomp(
    tree: &mut Tree,
    place: &Place,
    controller: &ControllerConfig,
) -> Result<String, PutError> {
    let broker = &controller.broker;
    let user = broker.username.as_deref().unwrap_or_default();
    let host = broker.virtual_host.as_deref().unwrap_or_default();
    let row = find_or_make(
        tree,
        STOMP,
        &[
            ("Host", &place.host),
            ("Username", user),
            ("VirtualHost", host),
        ],
    )?;
    let password = broker
        .password
        .as_ref()
        .map_or("", |secret| secret.reveal());
    let values = [
        ("Port", place.port.to_string()),
        ("EnableEncryption", yes(place.secure).to_owned()),
        ("Password", password.to_owned()),
        ("Enable", "true".to_owned()),
    ];
    put_all(tree, &row, &values)?;
    Ok(row.to_reference().to_owned())
}

fn enter_mqtt(
    tree: &mut Tree,
    place: &Place,
    controller: &ControllerConfig,
) -> Result<String, PutError> {
    let broker = &controller.broker;
    let row = find_or_make(tree, MQTT, &[("Name", "factory")])?;
    let transport = if place.secure { "TLS" } else { "TCP/IP" };
    let password = broker
        .password
        .as_ref()
        .map_or("", |secret| secret.reveal());
    let values = [
        ("BrokerAddress", place.host.clone()),
        ("BrokerPort", place.port.to_string()),
        ("TransportProtocol", transport.to_owned()),
        ("Username", broker.username.clone().unwrap_or_default()),
        ("Password", password.to_owned()),
        (
            "ProtocolVersion",
            if broker.mqtt_5 { "5.0" } else { "3.1.1" }.to_owned(),
        ),
        ("Enable", "true".to_owned()),
    ];
    put_all(tree, &row, &values)?;
    Ok(row.to_reference().to_owned())
}

/// The row of a UNIX domain socket, by its path.
fn enter_socket(tree: &mut Tree, path: &str, listens: bool) -> Result<String, PutError> {
    let row = tree.ensure_row(&table(SOCKETS), &[("Path", path)])?;
    tree.put(
        &row.param("Mode"),
        if listens { "Listen" } else { "Connect" },
    )?;
    Ok(row.to_reference().to_owned())
}

/// The agent's own MTP that refers to this connection, made when there is none.
fn own_mtp(
    tree: &mut Tree,
    protocol: &str,
    param: &str,
    reference: &str,
) -> Result<ObjectPath, PutError> {
    let known = tree.rows(&table(MTPS)).into_iter().find(|row| {
        text(tree, row, "Protocol") == protocol
            && text(tree, &row.child(protocol), param) == reference
    });
    let row = match known {
        Some(row) => row,
        None => tree.create_persistent(&table(MTPS))?,
    };
    put(tree, &row, &[("Protocol", protocol), ("Enable", "true")])?;
    put(tree, &row.child(protocol), &[(param, reference)])?;
    Ok(row)
}

fn enter_mtp(
    tree: &mut Tree,
    row: Option<ObjectPath>,
    own: &OwnMtp,
) -> Result<ObjectPath, PutError> {
    if let OwnMtp::Uds { path, listens } = own {
        let socket = enter_socket(tree, path, *listens)?;
        return own_mtp(tree, "UDS", "UnixDomainSocketRef", &socket);
    }
    let row = match row {
        Some(row) => row,
        None => tree.create_persistent(&table(MTPS))?,
    };
    let (protocol, port, path, encrypted) = match own {
        OwnMtp::Coap {
            port,
            path,
            encrypted,
        } => ("CoAP", port, path, encrypted),
        OwnMtp::WebSocket {
            port,
            path,
            encrypted,
        } => ("WebSocket", port, path, encrypted),
        OwnMtp::Uds { .. } => return Ok(row),
    };
    put(tree, &row, &[("Protocol", protocol), ("Enable", "true")])?;
    let values = [
        ("Port", port.to_string()),
        ("Path", path.clone()),
        ("EnableEncryption", yes(*encrypted).to_owned()),
    ];
    put_all(tree, &row.child(protocol), &values)?;
    Ok(row)
}

fn find_or_make(
    tree: &mut Tree,
    of: &'static str,
    keys: &[(&str, &str)],
) -> Result<ObjectPath, PutError> {
    let is = |row: &ObjectPath| {
        keys.iter()
            .all(|(name, value)| text(tree, row, name) == *value)
    };
    if let Some(row) = tree.rows(&table(of)).into_iter().find(is) {
        return Ok(row);
    }
    let row = tree.create_persistent(&table(of))?;
    put(tree, &row, keys)?;
    Ok(row)
}

fn put(tree: &mut Tree, row: &ObjectPath, values: &[(&str, &str)]) -> Result<(), PutError> {
    for (name, value) in values {
        tree.put_persistent(&row.param(name), value)?;
    }
    Ok(())
}

fn put_all(tree: &mut Tree, row: &ObjectPath, values: &[(&str, String)]) -> Result<(), PutError> {
    for (name, value) in values {
        tree.put_persistent(&row.param(name), value)?;
    }
    Ok(())
}

fn yes(is: bool) -> &'static str {
    if is { "true" } else { "false" }
}

/// An Endpoint ID as one level of a topic and one name of a queue.
fn plain(endpoint_id: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    endpoint_id
        .chars()
        .map(|c| if fits(c) { c } else { '-' })
        .collect()
}
