//! `Device.X_HOMEFLEET_Telemetry.`: whom the agent tells what by UDP-notif, for Controllers to see and to change.
//!
//! TR-181 Device:2.16 has bulk data, but nothing for UDP-notif; so this is a vendor object, named as TR-106 §3.3 wants it.

use homefleet_model::{
    schema::{Object, ObjectAccess, Param},
    value::{ListType, Strength, Type},
};

use crate::local_agent::schema::{NUMBER, alias, enable};

/// The object.
pub(crate) const OBJECT: &str = "Device.X_HOMEFLEET_Telemetry.";
/// The table of receivers.
pub(crate) const RECEIVERS: &str = "Device.X_HOMEFLEET_Telemetry.Receiver.";
/// The table of subscriptions.
pub(crate) const SUBSCRIPTIONS: &str = "Device.X_HOMEFLEET_Telemetry.Subscription.";

static REFERENCES: ListType = ListType {
    item: Type::string(256),
    max_items: Some(32),
    ..ListType::of(Type::STRING)
};

/// Names of the generations that can be published.
const GENERATIONS: &[&str] = &[
    "draft-03", "draft-04", "draft-07", "draft-09", "draft-19", "draft-26",
];

const COUNTER: Type = Type::UnsignedLong;

/// What is told to whom.
pub static OBJECTS: &[Object] = &[
    Object {
        path: OBJECT,
        params: &[
            enable().default("true"),
            Param::rw("PublisherID", NUMBER).default("1"),
            Param::ro("ReceiverNumberOfEntries", NUMBER),
            Param::ro("SubscriptionNumberOfEntries", NUMBER),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.X_HOMEFLEET_Telemetry.Receiver.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["Alias"]],
        params: &[
            alias(),
            enable(),
            Param::ro(
                "Status",
                Type::Enum(&[
                    "Disabled",
                    "Connecting",
                    "Up",
                    "Away",
                    "Error_Misconfigured",
                ]),
            )
            .default("Disabled"),
            Param::ro("StatusReason", Type::string(256)).quiet(),
            Param::rw("Address", Type::string(256)),
            Param::rw("Port", Type::UnsignedIntIn(0, 65_535)),
            Param::rw("LocalAddress", Type::string(64)),
            Param::rw("LocalPort", Type::UnsignedIntIn(0, 65_535)),
            Param::rw(
                "Security",
                Type::Enum(&["DTLS1.3", "DTLS1.2", "DTLS", "None"]),
            )
            .default("DTLS1.3"),
            Param::rw("Generation", Type::Enum(GENERATIONS)).default("draft-26"),
            Param::rw("Framing", Type::Enum(&["Automatic", "Bare", "Framed"])).default("Automatic"),
            Param::rw("Encoding", Type::Enum(&["JSON", "CBOR", "XML"])).default("JSON"),
            Param::rw(
                "Envelope",
                Type::Enum(&["ietf-yp-notification", "ietf-notification"]),
            )
            .default("ietf-yp-notification"),
            Param::rw("EnableSegmentation", Type::Boolean).default("true"),
            Param::rw("MaxSegmentSize", Type::UnsignedIntIn(0, 65_535)),
            Param::rw("DSCP", Type::UnsignedIntIn(0, 63)).default("16"),
            Param::rw("MessagesPerSecond", NUMBER).default("1000"),
            Param::rw("BytesPerSecond", NUMBER).default("1250000"),
            Param::rw("MaxWaiting", Type::UnsignedIntIn(1, 65_536)).default("1024"),
            Param::rw("WhenFull", Type::Enum(&["DropOldest", "DropNewest"])).default("DropOldest"),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.X_HOMEFLEET_Telemetry.Receiver.{i}.Stats.",
        params: &[
            Param::ro("MessagesSent", COUNTER).quiet(),
            Param::ro("BytesSent", COUNTER).quiet(),
            Param::ro("DatagramsSent", COUNTER).quiet(),
            Param::ro("SegmentsSent", COUNTER).quiet(),
            Param::ro("MessagesFailed", COUNTER).quiet(),
            Param::ro("MessagesDroppedAway", COUNTER).quiet(),
            Param::ro("MessagesDroppedPacing", COUNTER).quiet(),
            Param::ro("MessagesTooLarge", COUNTER).quiet(),
            Param::ro("MessagesWaiting", COUNTER).quiet(),
            Param::ro("Connections", COUNTER).quiet(),
            Param::ro("Renewals", COUNTER).quiet(),
            Param::ro("ConnectionFailures", COUNTER).quiet(),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.X_HOMEFLEET_Telemetry.Subscription.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["Alias"]],
        params: &[
            alias(),
            enable(),
            Param::ro(
                "Status",
                Type::Enum(&["Disabled", "Active", "Error_Misconfigured"]),
            )
            .default("Disabled"),
            // 0: the number of the row.
            Param::rw("ID", NUMBER),
            Param::rw("Receiver", Type::Reference(Strength::Strong)),
            Param::rw("ReferenceList", Type::list(&REFERENCES)),
            Param::rw("Trigger", Type::Enum(&["Periodic", "OnChange"])).default("Periodic"),
            // Milliseconds.
            Param::rw("Period", Type::UnsignedIntIn(100, u32::MAX)).default("10000"),
            Param::rw("AnchorTime", Type::DateTime),
            // Milliseconds.
            Param::rw("DampeningPeriod", NUMBER),
            Param::rw("SyncOnStart", Type::Boolean).default("true"),
            Param::ro("EventRecordsSent", COUNTER).quiet(),
        ],
        ..Object::EMPTY
    },
];

/// Whether every generation of the table is one.
#[cfg(test)]
#[test]
fn every_generation_that_can_be_published_has_its_name() {
    use homefleet_notif::Generation;
    let known: Vec<&str> = Generation::ALL
        .into_iter()
        .filter(|generation| generation.is_publishable())
        .map(Generation::name)
        .collect();
    assert_eq!(GENERATIONS, known);
}
