//! The MQTT binding (TR-369 §4.5, R-MQTT.7 to R-MQTT.36), as far as it is USP's and not MQTT's.
//!
//! | module | holds |
//! |---|---|
//! | [`topic`] | Topic Names and Filters, and the way back inside a Topic Name of MQTT 3.1.1 |
//! | [`session`] | what stands in CONNECT, SUBSCRIBE and PUBLISH, and what is read out of CONNACK, SUBACK and PUBLISH |
//!
//! Packets, acknowledgements and PINGREQ are an MQTT library's. When an Endpoint connects again (R-MQTT.10) is
//! [`RetryPolicy::mqtt`](super::retry::RetryPolicy::mqtt).

pub mod session;
pub mod topic;

pub use super::senders::{Senders, SendersError};
pub use crate::record::MqttVersion;
pub use session::{
    Changes, Config, Connack, Connect, Connected, Incoming, Publish, Qos, Received, SendError,
    Session, Stats, Stop, Subscription,
};
pub use topic::TopicError;

/// The Content Type of a Record (R-MQTT.27).
pub const CONTENT_TYPE: &str = "usp.msg";

/// The registered type, which means the same (R-MQTT.27a).
pub const REGISTERED_CONTENT_TYPE: &str = "application/vnd.bbf.usp.msg";

/// The User Property of CONNECT that names the Endpoint (R-MQTT.13).
pub const ENDPOINT_ID: &str = "usp-endpoint-id";

/// The User Property of CONNACK that names a Topic Filter (R-MQTT.15).
pub const SUBSCRIBE_TOPIC: &str = "subscribe-topic";
