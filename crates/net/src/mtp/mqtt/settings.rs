//! What one client is told: `Device.MQTT.Client.{i}.`, or the server's configuration.

use std::fmt;

use homefleet_usp::EndpointId;
use homefleet_usp::mtp::mqtt::topic::{check_filter, check_name};
use homefleet_usp::mtp::mqtt::{Config, MqttVersion, Qos, Senders, Subscription};
use homefleet_usp::mtp::retry::RetryPolicy;

/// The longest text or binary value of MQTT, in bytes (MQTT 5.0 §1.5.4, §1.5.6).
const MAX_TEXT: usize = 65_535;
/// The most Topic Filters and User Properties that are configured; a bound of ours.
const MAX_ENTRIES: usize = 256;

/// One client of one broker. [`Debug`](fmt::Debug) shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct MqttClient {
    /// `ProtocolVersion`
    pub version: MqttVersion,
    /// `BrokerAddress`: a name or an address.
    pub host: String,
    /// `BrokerPort`
    pub port: u16,
    /// `TransportProtocol` is `TLS`.
    pub tls: bool,
    /// `ClientID`; what a broker assigns takes its place (R-MQTT.8, R-MQTT.9).
    pub client_id: Option<String>,
    /// `Username` and `Password` (R-MQTT.7).
    pub login: Option<(String, String)>,
    /// `KeepAliveTime` in seconds; 0 for none (R-MQTT.14).
    pub keep_alive: u16,
    /// `CleanStart`, or `CleanSession` of MQTT 3.1.1.
    pub clean_start: bool,
    /// `SessionExpiryInterval` in seconds; MQTT 5.0 only.
    pub session_expiry: u32,
    /// The Will, when `WillEnable`.
    pub will: Option<LastWill>,
    /// `RequestResponseInfo`; MQTT 5.0 only (R-MQTT.12).
    pub request_response_info: bool,
    /// `RequestProblemInfo`; MQTT 5.0 only.
    pub request_problem_info: bool,
    /// `ReceiveMaximum`: how many PUBLISH of QoS 1 and 2 the broker may have on their way to us; MQTT 5.0 only. 0 is taken
    /// as our own bound.
    pub receive_maximum: u16,
    /// `MaximumPacketSize` in bytes, never more than our own bound, which 0 stands for.
    pub maximum_packet_size: u32,
    /// `UserProperty.{i}.` of CONNECT, besides `usp-endpoint-id`; MQTT 5.0 only.
    pub user_properties: Vec<(String, String)>,
    /// The enabled ones of `Subscription.{i}.`
    pub subscriptions: Vec<Subscription>,
    /// `ResponseTopicConfigured`
    pub response_topic: Option<String>,
    /// Where each Endpoint publishes what is for us, when that is not the response topic: it is told this topic to answer to,
    /// and believed only over it. With a broker that lets each Endpoint publish to its own topic only, nobody speaks as
    /// another then (R-SEC.4c).
    pub senders: Option<Senders>,
    /// The Quality of Service for what is subscribed to besides `subscriptions`.
    pub subscribe_qos: Qos,
    /// `PublishQoS`
    pub publish_qos: Qos,
    /// `PublishMessageExpiryInterval` in seconds; 0 for none. MQTT 5.0 only.
    pub message_expiry: u32,
    /// `ConnectRetryTime`, `ConnectRetryIntervalMultiplier`, `ConnectRetryMaxInterval` (R-MQTT.10, R-MQTT.33).
    pub retry: RetryPolicy,
}

/// What the broker publishes when this client is gone without DISCONNECT (MQTT 5.0 §3.1.2.5).
#[derive(Clone, PartialEq, Eq)]
pub struct LastWill {
    /// `WillTopic`
    pub topic: String,
    /// `WillValue`
    pub value: Vec<u8>,
    /// `WillQoS`
    pub qos: Qos,
    /// `WillRetain`
    pub retain: bool,
    /// `WillDelayInterval` in seconds; MQTT 5.0 only.
    pub delay: u32,
    /// `WillMessageExpiryInterval` in seconds; 0 for none. MQTT 5.0 only.
    pub expiry: u32,
    /// `WillContentType`; MQTT 5.0 only.
    pub content_type: Option<String>,
    /// `WillResponseTopic`; MQTT 5.0 only.
    pub response_topic: Option<String>,
}

impl MqttClient {
    /// A client with TR-181's defaults: TLS is on, nothing else is configured.
    pub fn new(version: MqttVersion, host: &str, port: u16) -> Self {
        Self {
            version,
            host: host.to_owned(),
            port,
            tls: true,
            client_id: None,
            login: None,
            keep_alive: 60,
            clean_start: true,
            session_expiry: 0,
            will: None,
            request_response_info: true,
            request_problem_info: true,
            receive_maximum: 0,
            maximum_packet_size: 0,
            user_properties: Vec::new(),
            subscriptions: Vec::new(),
            response_topic: None,
            senders: None,
            subscribe_qos: Qos::AtLeastOnce,
            publish_qos: Qos::AtLeastOnce,
            message_expiry: 0,
            retry: RetryPolicy::mqtt(5, 2000, 30_720),
        }
    }

    /// What is wrong with it, for a person: the client stays away until it is changed (`Error_Misconfigured`).
    ///
    /// # Errors
    /// Names the first thing.
    pub fn check(&self) -> Result<(), String> {
        if self.host.is_empty() || self.port == 0 {
            return Err("no broker is configured".to_owned());
        }
        let text = |name: &str, text: &str| match text {
            _ if text.len() > MAX_TEXT => Err(format!("{name} is longer than {MAX_TEXT} bytes")),
            _ if text.contains('\0') => Err(format!("{name} has a NUL")),
            _ => Ok(()),
        };
        text(
            "the client identifier",
            self.client_id.as_deref().unwrap_or(""),
        )?;
        if let Some((name, password)) = &self.login {
            text("the user name", name)?;
            text("the password", password)?;
            if name.is_empty() {
                return Err("a password without a user name".to_owned());
            }
        }
        if self.subscriptions.len() > MAX_ENTRIES || self.user_properties.len() > MAX_ENTRIES {
            return Err(format!(
                "more than {MAX_ENTRIES} subscriptions or user properties"
            ));
        }
        for (name, value) in &self.user_properties {
            text("a user property", name)?;
            text("a user property", value)?;
        }
        for subscription in &self.subscriptions {
            check_filter(&subscription.filter)
                .map_err(|error| format!("topic filter {:?}: {error}", subscription.filter))?;
        }
        let topic = |name: &str, topic: &str| {
            check_name(topic).map_err(|error| format!("{name} {topic:?}: {error}"))
        };
        if let Some(response_topic) = &self.response_topic {
            topic("the response topic", response_topic)?;
        }
        if let Some(will) = &self.will {
            topic("the topic of the will", &will.topic)?;
            if will.value.is_empty() || will.value.len() > MAX_TEXT {
                return Err(format!("the will has 1 to {MAX_TEXT} bytes"));
            }
            text(
                "the content type of the will",
                will.content_type.as_deref().unwrap_or(""),
            )?;
            if let Some(response_topic) = &will.response_topic {
                topic("the response topic of the will", response_topic)?;
            }
        }
        Ok(())
    }

    /// Whether the broker keeps our session when the connection ends.
    pub(super) fn keeps_session(&self) -> bool {
        !self.clean_start && (self.version == MqttVersion::V311 || self.session_expiry > 0)
    }

    /// Whether a connection made with these settings serves `other` too, once the Topics are changed.
    pub(super) fn is_same_connection(&self, other: &Self) -> bool {
        let topics_aside = |settings: &Self| Self {
            subscriptions: Vec::new(),
            response_topic: None,
            retry: self.retry,
            // A client that was assigned its identifier goes on with it (R-MQTT.11).
            client_id: None,
            ..settings.clone()
        };
        let id = |settings: &Self| settings.client_id.clone().filter(|id| !id.is_empty());
        topics_aside(self) == topics_aside(other)
            && (id(self) == id(other) || id(self).is_none() || id(other).is_none())
    }

    /// The part that is USP's.
    pub(super) fn session(&self, endpoint_id: &EndpointId, max_record: usize) -> Config {
        Config {
            client_id: self.client_id.clone(),
            login: self.login.clone(),
            keep_alive: self.keep_alive,
            subscriptions: self.subscriptions.clone(),
            response_topic: self.response_topic.clone(),
            senders: self.senders.clone(),
            subscribe_qos: self.subscribe_qos,
            publish_qos: self.publish_qos,
            max_record,
            ..Config::new(self.version, endpoint_id.clone())
        }
    }
}

impl fmt::Debug for MqttClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the password nor the will's value goes into a log.
        f.debug_struct("MqttClient")
            .field("version", &self.version)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .field("client_id", &self.client_id)
            .field("login", &self.login.as_ref().map(|(name, _)| name))
            .field("subscriptions", &self.subscriptions)
            .field("response_topic", &self.response_topic)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LastWill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastWill")
            .field("topic", &self.topic)
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .finish_non_exhaustive()
    }
}
