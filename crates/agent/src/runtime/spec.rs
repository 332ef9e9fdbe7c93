//! What a plan says about one connection, as its MTP wants to be told.

use std::time::Duration;

use homefleet_net::mtp::{
    MqttClient, UdsConnection, UdsListener, WebSocketConnection, mqtt::LastWill,
    stomp::StompConnection,
};
use homefleet_usp::{
    mtp::{
        mqtt::{Qos, Subscription},
        retry::RetryPolicy,
        stomp::{HeartBeat, Login},
    },
    record::MqttVersion,
};

use crate::transport::{MqttLink, StompLink, UdsLink, WebSocketLink};

pub(super) fn websocket(link: &WebSocketLink) -> WebSocketConnection {
    WebSocketConnection {
        endpoint_id: link.endpoint_id.parse().ok(),
        keep_alive: Some(Duration::from_secs(link.keep_alive.into())),
        retry: RetryPolicy::websocket(link.retry_wait, link.retry_multiplier),
        ..WebSocketConnection::new(&link.host, link.port, &link.path, link.secure)
    }
}

pub(super) fn stomp(link: &StompLink) -> StompConnection {
    let login = match &link.login {
        Some((login, password)) => Login::Password {
            login: login.clone(),
            passcode: password.reveal().to_owned(),
        },
        None => Login::Certificate,
    };
    let (initial, multiplier, longest) = link.retry;
    StompConnection {
        port: link.port,
        encryption: link.secure,
        virtual_host: link.virtual_host.clone(),
        heart_beat: link
            .heart_beat
            .map(|(outgoing, incoming)| HeartBeat { outgoing, incoming }),
        destination: link.destination.clone(),
        retry: RetryPolicy::stomp(initial, multiplier, longest),
        ..StompConnection::new(&link.host, login)
    }
}

pub(super) fn mqtt(link: &MqttLink) -> MqttClient {
    let version = if link.version_5 {
        MqttVersion::V5
    } else {
        MqttVersion::V311
    };
    let (initial, multiplier, longest) = link.retry;
    let login = link.login.as_ref();
    MqttClient {
        tls: link.secure,
        client_id: link.client_id.clone(),
        login: login.map(|(user, password)| (user.clone(), password.reveal().to_owned())),
        keep_alive: link.keep_alive,
        clean_start: link.clean,
        session_expiry: link.session_expiry,
        will: link.will.as_ref().map(|will| LastWill {
            topic: will.topic.clone(),
            value: will.value.clone().into_bytes(),
            qos: qos(will.qos),
            retain: will.retain,
            delay: 0,
            expiry: 0,
            content_type: None,
            response_topic: None,
        }),
        subscriptions: link
            .subscriptions
            .iter()
            .map(|(filter, of)| Subscription {
                filter: filter.clone(),
                qos: qos(*of),
            })
            .collect(),
        response_topic: link.response_topic.clone(),
        publish_qos: qos(link.publish_qos),
        retry: RetryPolicy::mqtt(initial, multiplier, longest),
        ..MqttClient::new(version, &link.host, link.port)
    }
}

pub(super) fn uds_listener(link: &UdsLink) -> UdsListener {
    UdsListener::new(&link.path)
}

pub(super) fn uds_connection(link: &UdsLink) -> UdsConnection {
    UdsConnection::new(&link.path)
}

fn qos(level: u8) -> Qos {
    match level {
        0 => Qos::AtMostOnce,
        1 => Qos::AtLeastOnce,
        _ => Qos::ExactlyOnce,
    }
}
