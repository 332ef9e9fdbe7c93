//! What is counted, for the data model's `Stats.` and for metrics.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of an MTP, or of one of its clients.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct MqttStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The same, being counted.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
            pub(super) times: Mutex<MqttTimes>,
        }

        impl Counters {
            pub(super) fn read(&self) -> MqttStats {
                MqttStats { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl std::ops::AddAssign for MqttStats {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// Connections that came up.
    connections,
    /// Attempts that failed and connections that ended without our asking: `ConnectionErrors`.
    connection_errors,
    /// `PublishSent`
    publish_sent,
    /// `PublishReceived`
    publish_received,
    /// `PublishErrors`: Records that the broker or the binding refused.
    publish_errors,
    /// `SubscribeSent`
    subscribe_sent,
    /// `UnSubscribeSent`
    unsubscribe_sent,
    /// `MQTTMessagesSent`
    packets_sent,
    /// `MQTTMessagesReceived`
    packets_received,
    /// Records handed to the owner.
    records_in,
    /// Records that were delivered to the broker.
    records_out,
    /// PUBLISH for USP that held no valid Record.
    erroneous,
    /// Records from Endpoints of another version of MQTT (R-MQTT.26a).
    mismatched,
    /// PUBLISH that were not for USP.
    other_content,
    /// Records that were ignored because neither is the broker trusted nor does its certificate prove their sender.
    untrusted,
    /// Records that were ignored because they came over a topic that is not their sender's (R-SEC.4c).
    forged,
    /// PUBLISH of QoS 2 that were there already.
    duplicates,
    /// PUBLISH that were dropped because too many came before the subscription stood.
    early,
    /// Packets that were none, or did not belong; each ended its connection.
    faults,
    /// Records that were not taken because too many were on their way.
    busy,
}

/// When something last happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MqttTimes {
    /// `BrokerConnectionEstablished`
    pub established: Option<SystemTime>,
    /// `LastPublishMessageSent`
    pub last_sent: Option<SystemTime>,
    /// `LastPublishMessageReceived`
    pub last_received: Option<SystemTime>,
}

impl Counters {
    pub(super) fn read_times(&self) -> MqttTimes {
        *self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, note: impl FnOnce(&mut MqttTimes)) {
        note(&mut self.times.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
