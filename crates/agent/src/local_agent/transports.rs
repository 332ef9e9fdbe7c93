//! How the agent and its Controllers are reached, as in TR-181 Device:2.16: the MTP tables, and the connections to brokers
//! and UNIX domain sockets that these refer to.
//!
//! Not offered: mDNS (`EnableMDNS`), binding to some interfaces only (`Interfaces`), what the standard has deprecated, and
//! MQTT's client as anything but a USP MTP (`UserProperty.`, WebSocket as its transport).

use homefleet_model::{
    schema::{Command, Object, ObjectAccess, Param},
    value::{ListType, Strength, Type},
};

use super::schema::{NUMBER, PORT, alias, enable};

/// Names of the MTPs this agent can use.
pub(super) const PROTOCOLS: &[&str] = &["CoAP", "MQTT", "STOMP", "UDS", "WebSocket"];
pub(super) static PROTOCOL_LIST: ListType = ListType::of(Type::Enum(PROTOCOLS));

/// Values of `Device.MQTT.Client.{i}.ProtocolVersion`.
const MQTT_VERSIONS: &[&str] = &["3.1.1", "5.0"];
/// Values of `Device.MQTT.Client.{i}.TransportProtocol`.
const MQTT_TRANSPORTS: &[&str] = &["TCP/IP", "TLS"];
static MQTT_VERSION_LIST: ListType = ListType::of(Type::Enum(MQTT_VERSIONS));
static MQTT_TRANSPORT_LIST: ListType = ListType::of(Type::Enum(MQTT_TRANSPORTS));

/// Subscriptions of one MQTT client besides its response topic.
pub(crate) const MAX_MQTT_SUBSCRIPTIONS: usize = 16;

const ROW: Type = Type::Reference(Strength::Strong);
const SECONDS: Type = Type::UnsignedIntIn(1, u32::MAX);
const RETRY_SECONDS: Type = Type::UnsignedIntIn(1, 65_535);
const MULTIPLIER: Type = Type::UnsignedIntIn(1000, 65_535);
const QOS: Type = Type::UnsignedIntIn(0, 2);
/// MQTT's longest string.
const TOPIC: Type = Type::string(65_535);

/// The MTP tables and what they refer to.
pub static TRANSPORTS: &[Object] = &[
    Object {
        path: "Device.LocalAgent.MTP.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["Alias"]],
        params: &[
            alias(),
            enable(),
            Param::ro("Status", Type::Enum(&["Up", "Down", "Error"])).default("Down"),
            Param::rw("Protocol", Type::Enum(PROTOCOLS)).default("CoAP"),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.MTP.{i}.CoAP.",
        params: &[
            Param::rw("Port", PORT).default("5683"),
            Param::rw("Path", Type::STRING),
            Param::rw("EnableEncryption", Type::Boolean).default("true"),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.MTP.{i}.STOMP.",
        params: &[
            Param::rw("Reference", ROW),
            Param::rw("Destination", Type::STRING),
            Param::ro("DestinationFromServer", Type::STRING),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.MTP.{i}.WebSocket.",
        params: &[
            Param::rw("Port", PORT).default("5683"),
            Param::rw("Path", Type::STRING),
            Param::rw("EnableEncryption", Type::Boolean).default("true"),
            Param::rw("KeepAliveInterval", SECONDS).default("60"),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.MTP.{i}.MQTT.",
        params: &[
            Param::rw("Reference", ROW),
            Param::rw("ResponseTopicConfigured", TOPIC),
            Param::ro("ResponseTopicDiscovered", TOPIC),
            Param::rw("PublishQoS", QOS).default("1"),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.MTP.{i}.UDS.",
        params: &[Param::rw("UnixDomainSocketRef", ROW)],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.Controller.{i}.MTP.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["Protocol"], &["Alias"]],
        params: &[
            alias(),
            enable(),
            Param::rw("Protocol", Type::Enum(PROTOCOLS)).default("CoAP"),
            Param::rw("Order", Type::UnsignedIntIn(1, u32::MAX)).default("1"),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.Controller.{i}.MTP.{i}.CoAP.",
        params: &[
            Param::rw("Host", Type::string(256)),
            Param::rw("Port", PORT).default("5684"),
            Param::rw("Path", Type::STRING),
            Param::rw("EnableEncryption", Type::Boolean).default("true"),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.Controller.{i}.MTP.{i}.STOMP.",
        params: &[
            Param::rw("Reference", ROW),
            Param::rw("Destination", Type::STRING),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.Controller.{i}.MTP.{i}.WebSocket.",
        params: &[
            Param::rw("Host", Type::string(256)),
            Param::rw("Port", PORT).default("443"),
            Param::rw("Path", Type::STRING),
            Param::rw("EnableEncryption", Type::Boolean).default("true"),
            Param::rw("KeepAliveInterval", SECONDS).default("60"),
            Param::ro("CurrentRetryCount", NUMBER),
            Param::rw("SessionRetryMinimumWaitInterval", RETRY_SECONDS).default("5"),
            Param::rw("SessionRetryIntervalMultiplier", MULTIPLIER).default("2000"),
        ],
        commands: &[Command {
            name: "Reset()",
            is_async: false,
            input: &[],
            output: &[],
        }],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.Controller.{i}.MTP.{i}.MQTT.",
        params: &[
            Param::rw("Reference", ROW),
            Param::rw("Topic", TOPIC),
            Param::rw("AgentMTPReference", ROW),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.Controller.{i}.MTP.{i}.UDS.",
        params: &[Param::rw("UnixDomainSocketRef", ROW)],
        ..Object::EMPTY
    },
    Object {
        path: "Device.STOMP.",
        params: &[Param::ro("ConnectionNumberOfEntries", NUMBER)],
        ..Object::EMPTY
    },
    Object {
        path: "Device.STOMP.Connection.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["Host", "Username", "VirtualHost"], &["Alias"]],
        params: &[
            alias(),
            enable(),
            Param::ro(
                "Status",
                Type::Enum(&[
                    "Enabled",
                    "Disabled",
                    "Unknown",
                    "Connecting",
                    "ServerNotPresent",
                    "Error_Misconfigured",
                    "Error_AuthenticationFailure",
                    "Error",
                ]),
            )
            .default("Disabled"),
            Param::ro("LastChangeDate", Type::DateTime),
            Param::rw("Host", Type::string(256)),
            Param::rw("Port", PORT).default("61613"),
            Param::rw("Username", Type::string(256)),
            Param::rw("Password", Type::string(256)).secret(),
            Param::rw("VirtualHost", Type::string(256)),
            Param::rw("EnableHeartbeats", Type::Boolean).default("false"),
            Param::rw("OutgoingHeartbeat", NUMBER).default("0"),
            Param::rw("IncomingHeartbeat", NUMBER).default("0"),
            Param::rw("ServerRetryInitialInterval", RETRY_SECONDS).default("60"),
            Param::rw("ServerRetryIntervalMultiplier", MULTIPLIER).default("2000"),
            Param::rw("ServerRetryMaxInterval", SECONDS).default("30720"),
            Param::rw("EnableEncryption", Type::Boolean).default("true"),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.MQTT.",
        params: &[Param::ro("ClientNumberOfEntries", NUMBER)],
        ..Object::EMPTY
    },
    Object {
        path: "Device.MQTT.Capabilities.",
        params: &[
            Param::ro("ProtocolVersionsSupported", Type::list(&MQTT_VERSION_LIST))
                .default("3.1.1,5.0"),
            Param::ro(
                "TransportProtocolSupported",
                Type::list(&MQTT_TRANSPORT_LIST),
            )
            .default("TCP/IP,TLS"),
            Param::ro("MaxNumberOfClientSubscriptions", NUMBER).default("16"),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.MQTT.Client.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["Alias"], &["Name"]],
        params: &[
            alias(),
            Param::rw("Name", Type::string(64)),
            enable(),
            Param::ro(
                "Status",
                Type::Enum(&[
                    "Disabled",
                    "Connecting",
                    "Connected",
                    "Error_Misconfigured",
                    "Error_BrokerUnreachable",
                    "Error",
                ]),
            )
            .default("Disabled"),
            Param::rw("ProtocolVersion", Type::Enum(MQTT_VERSIONS)).default("5.0"),
            Param::rw("BrokerAddress", Type::string(256)),
            Param::rw("BrokerPort", PORT).default("1883"),
            Param::rw("TransportProtocol", Type::Enum(MQTT_TRANSPORTS)).default("TCP/IP"),
            Param::rw("CleanSession", Type::Boolean).default("true"),
            Param::rw("CleanStart", Type::Boolean).default("true"),
            Param::rw("WillEnable", Type::Boolean).default("false"),
            Param::rw("WillQoS", QOS).default("0"),
            Param::rw("WillRetain", Type::Boolean).default("false"),
            Param::rw("WillTopic", TOPIC),
            Param::rw("WillValue", TOPIC),
            Param::rw("KeepAliveTime", Type::UnsignedIntIn(0, 65_535)).default("60"),
            Param::rw("SessionExpiryInterval", NUMBER),
            Param::rw("ClientID", TOPIC),
            Param::rw("Username", Type::string(256)),
            Param::rw("Password", Type::string(256)).secret(),
            // Of MQTT 3.1 alone, which is not spoken here.
            Param::rw("MessageRetryTime", SECONDS).default("5"),
            Param::rw("ConnectRetryTime", SECONDS).default("5"),
            Param::rw("ConnectRetryIntervalMultiplier", MULTIPLIER).default("2000"),
            Param::rw("ConnectRetryMaxInterval", SECONDS).default("30720"),
            Param::ro("ResponseInformation", TOPIC),
            Param::ro("SubscriptionNumberOfEntries", NUMBER),
        ],
        commands: &[Command {
            name: "ForceReconnect()",
            is_async: false,
            input: &[],
            output: &[],
        }],
        ..Object::EMPTY
    },
    Object {
        path: "Device.MQTT.Client.{i}.Stats.",
        params: &[
            Param::ro("BrokerConnectionEstablished", Type::DateTime),
            Param::ro("LastPublishMessageSent", Type::DateTime).quiet(),
            Param::ro("LastPublishMessageReceived", Type::DateTime).quiet(),
            Param::ro("PublishSent", Type::UnsignedLong).quiet(),
            Param::ro("PublishReceived", Type::UnsignedLong).quiet(),
            Param::ro("SubscribeSent", Type::UnsignedLong).quiet(),
            Param::ro("UnSubscribeSent", Type::UnsignedLong).quiet(),
            Param::ro("MQTTMessagesSent", Type::UnsignedLong).quiet(),
            Param::ro("MQTTMessagesReceived", Type::UnsignedLong).quiet(),
            Param::ro("ConnectionErrors", NUMBER).quiet(),
            Param::ro("PublishErrors", NUMBER).quiet(),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.MQTT.Client.{i}.Subscription.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["Topic"], &["Alias"]],
        params: &[
            alias(),
            enable(),
            Param::ro(
                "Status",
                Type::Enum(&["Unsubscribed", "Subscribed", "Error"]),
            )
            .default("Unsubscribed"),
            Param::rw("Topic", TOPIC),
            Param::rw("QoS", QOS).default("1"),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.UnixDomainSockets.",
        params: &[Param::ro("UnixDomainSocketNumberOfEntries", NUMBER)],
        ..Object::EMPTY
    },
    Object {
        // The rows are those of the configuration file.
        path: "Device.UnixDomainSockets.UnixDomainSocket.{i}.",
        unique_keys: &[&["Path"], &["Alias"]],
        params: &[
            alias(),
            Param::ro("Mode", Type::Enum(&["Listen", "Connect"])).default("Listen"),
            Param::ro("Path", Type::string(4096)),
        ],
        ..Object::EMPTY
    },
];
