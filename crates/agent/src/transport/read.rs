//! Reads the plan and the Controllers' ways from the tree.

use homefleet_model::{path::ObjectPath, tree::Tree};
use homefleet_net::mtp::Route;

use super::{
    CoapServer, MqttLink, Plan, Secret, StompLink, UdsLink, Way, WebSocketLink, WebSocketServer,
    Will,
};
use crate::{
    controllers,
    local_agent::{MAX_MQTT_SUBSCRIPTIONS, is_true, number, table, text},
};

/// Path of the agent's own MTPs.
pub(crate) const MTPS: &str = "Device.LocalAgent.MTP.";

/// What the MTPs are to do. Without `insecure` nothing unprotected is opened (R-MTP.0), but sockets within the device.
pub(crate) fn plan(tree: &Tree, insecure: bool) -> Plan {
    let mut plan = Plan::default();
    for row in tree.rows(&table(MTPS)) {
        if is_true(tree, &row, "Enable") {
            own(tree, &row, insecure, &mut plan);
        }
    }
    for controller in tree.rows(&table(controllers::TABLE)) {
        if !is_true(tree, &controller, "Enable") {
            continue;
        }
        for row in enabled(tree, &controller, "WebSocket") {
            let endpoint_id = text(tree, &controller, "EndpointID");
            if let Some(link) = websocket(tree, &row.child("WebSocket"), endpoint_id)
                && (link.secure || insecure)
            {
                plan.websocket.insert(name(&row), link);
            }
        }
    }
    plan
}

/// One row of the agent's own MTPs.
fn own(tree: &Tree, row: &ObjectPath, insecure: bool, plan: &mut Plan) {
    match text(tree, row, "Protocol") {
        "CoAP" => {
            let coap = row.child("CoAP");
            let server = CoapServer {
                port: port(tree, &coap, "Port"),
                path: text(tree, &coap, "Path").trim_matches('/').to_owned(),
            };
            // There is one socket of each kind: the first row has it.
            if is_true(tree, &coap, "EnableEncryption") {
                plan.coaps.get_or_insert(server);
            } else if insecure {
                plan.coap.get_or_insert(server);
            }
        }
        "WebSocket" => {
            let websocket = row.child("WebSocket");
            let server = WebSocketServer {
                port: port(tree, &websocket, "Port"),
                path: absolute(text(tree, &websocket, "Path")),
                secure: is_true(tree, &websocket, "EnableEncryption"),
                keep_alive: number(tree, &websocket, "KeepAliveInterval").max(1),
            };
            if server.secure || insecure {
                plan.websocket_servers.insert(name(row), server);
            }
        }
        "STOMP" => {
            let stomp = row.child("STOMP");
            let destination = some(text(tree, &stomp, "Destination"));
            if let Some((name, connection)) = reference(tree, &stomp, "Reference")
                && let Some(link) = stomp_link(tree, &connection, destination)
                && (link.secure || insecure)
            {
                plan.stomp.entry(name).or_insert(link);
            }
        }
        "MQTT" => {
            if let Some((name, client)) = reference(tree, &row.child("MQTT"), "Reference")
                && let Some(link) = mqtt_link(tree, &client, &row.child("MQTT"))
                && (link.secure || insecure)
            {
                plan.mqtt.entry(name).or_insert(link);
            }
        }
        "UDS" => {
            if let Some((name, socket)) = reference(tree, &row.child("UDS"), "UnixDomainSocketRef")
                && let Some(path) = some(text(tree, &socket, "Path"))
            {
                let listens = text(tree, &socket, "Mode") == "Listen";
                plan.uds.entry(name).or_insert(UdsLink { path, listens });
            }
        }
        _ => {}
    }
}

fn websocket(tree: &Tree, object: &ObjectPath, endpoint_id: &str) -> Option<WebSocketLink> {
    Some(WebSocketLink {
        endpoint_id: some(endpoint_id)?,
        host: some(text(tree, object, "Host"))?,
        port: port(tree, object, "Port"),
        path: absolute(text(tree, object, "Path")),
        secure: is_true(tree, object, "EnableEncryption"),
        keep_alive: number(tree, object, "KeepAliveInterval").max(1),
        retry_wait: number(tree, object, "SessionRetryMinimumWaitInterval").max(1),
        retry_multiplier: number(tree, object, "SessionRetryIntervalMultiplier").max(1000),
    })
}

fn stomp_link(tree: &Tree, row: &ObjectPath, destination: Option<String>) -> Option<StompLink> {
    if !is_true(tree, row, "Enable") {
        return None;
    }
    let heart_beat = is_true(tree, row, "EnableHeartbeats").then(|| {
        (
            number(tree, row, "OutgoingHeartbeat"),
            number(tree, row, "IncomingHeartbeat"),
        )
    });
    Some(StompLink {
        host: some(text(tree, row, "Host"))?,
        port: port(tree, row, "Port"),
        secure: is_true(tree, row, "EnableEncryption"),
        virtual_host: some(text(tree, row, "VirtualHost")),
        login: login(tree, row),
        heart_beat,
        destination,
        retry: (
            number(tree, row, "ServerRetryInitialInterval").max(1),
            number(tree, row, "ServerRetryIntervalMultiplier").max(1000),
            number(tree, row, "ServerRetryMaxInterval").max(1),
        ),
    })
}

fn mqtt_link(tree: &Tree, row: &ObjectPath, mtp: &ObjectPath) -> Option<MqttLink> {
    if !is_true(tree, row, "Enable") {
        return None;
    }
    let version_5 = text(tree, row, "ProtocolVersion") != "3.1.1";
    let mut subscriptions: Vec<(String, u8)> = tree
        .rows(&row.child("Subscription"))
        .into_iter()
        .filter(|row| is_true(tree, row, "Enable") && !text(tree, row, "Topic").is_empty())
        .map(|row| (text(tree, &row, "Topic").to_owned(), qos(tree, &row, "QoS")))
        .collect();
    subscriptions.truncate(MAX_MQTT_SUBSCRIPTIONS);
    let will = is_true(tree, row, "WillEnable").then(|| Will {
        topic: text(tree, row, "WillTopic").to_owned(),
        value: text(tree, row, "WillValue").to_owned(),
        qos: qos(tree, row, "WillQoS"),
        retain: is_true(tree, row, "WillRetain"),
    });
    let clean = if version_5 {
        "CleanStart"
    } else {
        "CleanSession"
    };
    Some(MqttLink {
        host: some(text(tree, row, "BrokerAddress"))?,
        port: port(tree, row, "BrokerPort"),
        secure: text(tree, row, "TransportProtocol") == "TLS",
        version_5,
        client_id: some(text(tree, row, "ClientID")),
        login: login(tree, row),
        keep_alive: u16::try_from(number(tree, row, "KeepAliveTime")).unwrap_or(u16::MAX),
        clean: is_true(tree, row, clean),
        session_expiry: number(tree, row, "SessionExpiryInterval"),
        // Without both it is misconfigured, and the client without a will the better one (Device:2.16, WillEnable).
        will: will.filter(|will| !will.topic.is_empty() && !will.value.is_empty()),
        subscriptions,
        response_topic: some(text(tree, mtp, "ResponseTopicConfigured")),
        publish_qos: qos(tree, mtp, "PublishQoS"),
        retry: (
            number(tree, row, "ConnectRetryTime").max(1),
            number(tree, row, "ConnectRetryIntervalMultiplier").max(1000),
            number(tree, row, "ConnectRetryMaxInterval").max(1),
        ),
    })
}

/// The ways to a Controller, by `Order`.
pub(crate) fn ways(tree: &Tree, controller: &ObjectPath) -> Vec<Way> {
    let mut rows: Vec<(u32, ObjectPath)> = tree
        .rows(&controller.child("MTP"))
        .into_iter()
        .filter(|row| is_true(tree, row, "Enable"))
        .map(|row| (number(tree, &row, "Order"), row))
        .collect();
    rows.sort_by_key(|(order, row)| (*order, row.instance()));
    rows.into_iter()
        .filter_map(|(_, row)| way(tree, row))
        .collect()
}

fn way(tree: &Tree, row: ObjectPath) -> Option<Way> {
    let (route, secure) = match text(tree, &row, "Protocol") {
        "CoAP" => coap(tree, &row.child("CoAP"))?,
        "WebSocket" => {
            // Without a host it is the Controller that connects.
            let secure = is_true(tree, &row.child("WebSocket"), "EnableEncryption");
            (Route::WebSocket { secure }, secure)
        }
        "STOMP" => {
            let stomp = row.child("STOMP");
            let (connection, broker) = reference(tree, &stomp, "Reference")?;
            let destination = some(text(tree, &stomp, "Destination"))?;
            let secure = is_true(tree, &broker, "EnableEncryption");
            (
                Route::Stomp {
                    connection,
                    destination,
                },
                secure,
            )
        }
        "MQTT" => {
            let mqtt = row.child("MQTT");
            let (connection, broker) = match reference(tree, &mqtt, "AgentMTPReference") {
                Some((_, mtp)) => reference(tree, &mtp.child("MQTT"), "Reference"),
                None => reference(tree, &mqtt, "Reference"),
            }?;
            let topic = some(text(tree, &mqtt, "Topic"))?;
            let secure = text(tree, &broker, "TransportProtocol") == "TLS";
            (Route::Mqtt { connection, topic }, secure)
        }
        "UDS" => (Route::Uds, false),
        _ => return None,
    };
    Some(Way { row, route, secure })
}

fn coap(tree: &Tree, coap: &ObjectPath) -> Option<(Route, bool)> {
    let host = some(text(tree, coap, "Host"))?;
    let secure = is_true(tree, coap, "EnableEncryption");
    let scheme = if secure { "coaps" } else { "coap" };
    let host = if host.contains(':') {
        format!("[{}]", host.trim_matches(['[', ']']))
    } else {
        host
    };
    let path = text(tree, coap, "Path").trim_matches('/');
    let port = number(tree, coap, "Port");
    let uri = format!("{scheme}://{host}:{port}/{path}").parse().ok()?;
    Some((Route::Coap(uri), secure))
}

fn enabled(tree: &Tree, controller: &ObjectPath, protocol: &str) -> Vec<ObjectPath> {
    let mut rows = tree.rows(&controller.child("MTP"));
    rows.retain(|row| is_true(tree, row, "Enable") && text(tree, row, "Protocol") == protocol);
    rows
}

/// The row that a parameter refers to, with its name.
fn reference(tree: &Tree, object: &ObjectPath, param: &str) -> Option<(String, ObjectPath)> {
    let text = text(tree, object, param).trim_end_matches('.');
    let row: ObjectPath = format!("{text}.").parse().ok()?;
    tree.exists(&row).then(|| (text.to_owned(), row))
}

fn login(tree: &Tree, row: &ObjectPath) -> Option<(String, Secret)> {
    let user = some(text(tree, row, "Username"))?;
    let password = tree.reveal(&row.param("Password")).ok()?;
    Some((user, Secret::new(password.as_str())))
}

/// The name of a connection: the path of its row.
pub(crate) fn name(row: &ObjectPath) -> String {
    row.to_reference().to_owned()
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A path of a URL.
fn absolute(path: &str) -> String {
    format!("/{}", path.trim_start_matches('/'))
}

fn port(tree: &Tree, object: &ObjectPath, param: &str) -> u16 {
    u16::try_from(number(tree, object, param)).unwrap_or(0)
}

fn qos(tree: &Tree, object: &ObjectPath, param: &str) -> u8 {
    u8::try_from(number(tree, object, param))
        .unwrap_or(0)
        .min(2)
}
