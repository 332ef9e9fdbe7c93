//! A broker that does what the test says.

use bytes::{Buf, BytesMut};
use homefleet_net::mtp::MqttClient;
use homefleet_usp::mtp::retry::RetryPolicy;
use homefleet_usp::record::MqttVersion;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5::{
    self, ConnAck, ConnAckProperties, ConnectReturnCode, Packet, PublishProperties, SubAck,
    SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{Error, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{PATIENCE, plain};

pub(crate) struct Broker {
    listener: TcpListener,
}

impl Broker {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener }
    }

    /// Settings of a client of this broker, which tries again soon.
    pub(crate) fn client(&self, version: MqttVersion) -> MqttClient {
        MqttClient {
            retry: RetryPolicy::mqtt(0, 1000, 1),
            response_topic: Some("usp/agent".to_owned()),
            ..plain(version, self.listener.local_addr().unwrap().port())
        }
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> Peer {
        let accepted = timeout(PATIENCE, self.listener.accept()).await;
        Peer {
            stream: accepted.unwrap().unwrap().0,
            input: BytesMut::new(),
        }
    }

    /// The next connection, after CONNECT and a CONNACK that says nothing.
    pub(crate) async fn connected(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.connect().await;
        peer.connack(properties()).await;
        peer
    }

    /// The next connection, after a SUBSCRIBE that is granted.
    pub(crate) async fn subscribed(&self) -> Peer {
        let mut peer = self.connected().await;
        peer.grant().await;
        peer
    }
}

/// What came from the client.
#[derive(Debug)]
pub(crate) enum Got {
    Packet(Box<Packet>),
    /// With its reason code.
    Disconnect(u8),
    Closed,
}

/// A connection, at the broker's end.
pub(crate) struct Peer {
    stream: TcpStream,
    input: BytesMut,
}

impl Peer {
    async fn read(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await;
        // A client that ends with something unread resets the connection.
        matches!(read.unwrap(), Ok(1..))
    }

    /// The next packet of MQTT 5.0.
    pub(crate) async fn got(&mut self) -> Got {
        loop {
            match self.input.as_ref() {
                [0xE0, 0, ..] => {
                    self.input.advance(2);
                    return Got::Disconnect(0);
                }
                [0xE0, 1, code, ..] => {
                    let code = *code;
                    self.input.advance(3);
                    return Got::Disconnect(code);
                }
                _ => {}
            }
            match Packet::read(&mut self.input, None) {
                Ok(packet) => return Got::Packet(Box::new(packet)),
                Err(Error::InsufficientBytes(_)) => {
                    if !self.read().await {
                        return Got::Closed;
                    }
                }
                Err(error) => panic!("the client sent what is no packet: {error}"),
            }
        }
    }

    pub(crate) async fn packet(&mut self) -> Packet {
        match self.got().await {
            Got::Packet(packet) => *packet,
            other => panic!("no packet: {other:?}"),
        }
    }

    /// The next packet of MQTT 3.1.1.
    pub(crate) async fn packet4(&mut self) -> v4::Packet {
        loop {
            match v4::Packet::read(&mut self.input, usize::MAX) {
                Ok(packet) => return packet,
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {
                    assert!(self.read().await, "closed");
                }
                Err(error) => panic!("the client sent what is no packet: {error}"),
            }
        }
    }

    pub(crate) async fn connect(
        &mut self,
    ) -> (v5::Connect, Option<v5::LastWill>, Option<v5::Login>) {
        match self.packet().await {
            Packet::Connect(connect, will, login) => (connect, will, login),
            other => panic!("no CONNECT: {other:?}"),
        }
    }

    pub(crate) async fn subscribe(&mut self) -> v5::Subscribe {
        match self.packet().await {
            Packet::Subscribe(subscribe) => subscribe,
            other => panic!("no SUBSCRIBE: {other:?}"),
        }
    }

    pub(crate) async fn publish(&mut self) -> v5::Publish {
        match self.packet().await {
            Packet::Publish(publish) => publish,
            other => panic!("no PUBLISH: {other:?}"),
        }
    }

    /// Waits for the end, past whatever is still sent; the reason code of DISCONNECT, if it came.
    pub(crate) async fn end(&mut self) -> Option<u8> {
        let mut code = None;
        loop {
            match self.got().await {
                Got::Packet(_) => {}
                Got::Disconnect(said) => code = Some(said),
                Got::Closed => return code,
            }
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn send(&mut self, packet: &Packet) {
        let mut out = BytesMut::new();
        packet.write(&mut out, None).unwrap();
        self.write(&out).await;
    }

    pub(crate) async fn connack(&mut self, properties: ConnAckProperties) {
        self.connack_with(false, ConnectReturnCode::Success, properties)
            .await;
    }

    pub(crate) async fn connack_with(
        &mut self,
        session_present: bool,
        code: ConnectReturnCode,
        properties: ConnAckProperties,
    ) {
        self.send(&Packet::ConnAck(ConnAck {
            session_present,
            code,
            properties: Some(properties),
        }))
        .await;
    }

    /// Grants all of the next SUBSCRIBE; its filters.
    pub(crate) async fn grant(&mut self) -> Vec<String> {
        let subscribe = self.subscribe().await;
        let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
        self.suback(subscribe.pkid, vec![granted; subscribe.filters.len()])
            .await;
        subscribe
            .filters
            .into_iter()
            .map(|filter| filter.path)
            .collect()
    }

    pub(crate) async fn suback(&mut self, pkid: u16, return_codes: Vec<SubscribeReasonCode>) {
        self.send(&Packet::SubAck(SubAck {
            pkid,
            return_codes,
            properties: None,
        }))
        .await;
    }

    pub(crate) async fn puback(&mut self, pkid: u16) {
        self.send(&Packet::PubAck(v5::PubAck::new(pkid, None)))
            .await;
    }

    /// A Record comes from the broker.
    pub(crate) async fn deliver(&mut self, qos: QoS, pkid: u16, dup: bool, payload: Vec<u8>) {
        let properties = PublishProperties {
            content_type: Some("usp.msg".to_owned()),
            response_topic: Some("usp/controller".to_owned()),
            ..PublishProperties::default()
        };
        let mut publish = v5::Publish::new("usp/agent", qos, payload, Some(properties));
        publish.pkid = pkid;
        publish.dup = dup;
        self.send(&Packet::Publish(publish)).await;
    }
}

/// A CONNACK's that say nothing.
pub(crate) fn properties() -> ConnAckProperties {
    ConnAckProperties {
        session_expiry_interval: None,
        receive_max: None,
        max_qos: None,
        retain_available: None,
        max_packet_size: None,
        assigned_client_identifier: None,
        topic_alias_max: None,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: None,
        shared_subscription_available: None,
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    }
}
