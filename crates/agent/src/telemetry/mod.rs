//! Telemetry: what the agent tells receivers of UDP-notif, periodically or when it changes.
//!
//! ```text
//! [telemetry] of the configuration, JSON by YANG, Controllers ─▶ Device.X_HOMEFLEET_Telemetry. ─▶ View
//! View ─▶ engine: when ─▶ content: what ─▶ item: JSON, CBOR, XML ─▶ runtime: net::notif::send ─▶ receiver
//! ```

use std::time::{Duration, SystemTime};

use homefleet_model::path::{ObjectPath, Path};
use homefleet_model::tree::Tree;
use homefleet_model::value::list_items;
use homefleet_net::dtls::Versions;
use homefleet_notif::publisher::{Dropped, Framing, MIN_ROOM, Pacing, default_framing};
use homefleet_notif::{Generation, MediaType};

use crate::local_agent::{is_true, number, table, text};

pub(crate) mod content;
pub mod factory;
mod item;
mod schema;
pub(crate) mod yang;

pub use schema::OBJECTS;
pub(crate) use schema::{OBJECT, RECEIVERS, SUBSCRIPTIONS};

/// Receivers that are served; more rows are misconfigured.
pub(crate) const MAX_RECEIVERS: usize = 16;
/// Subscriptions that are served, likewise.
pub(crate) const MAX_SUBSCRIPTIONS: usize = 64;
/// The shortest time between two push-change-updates, so that a value that flickers does not flood anybody (-26 §5.1).
const LEAST_DAMPENING: Duration = Duration::from_millis(100);

/// Whether a parameter or row of the data model says something about telemetry, other than how it stands.
pub(crate) fn is_setting(path: &str) -> bool {
    let told = ["Status", "StatusReason", "EventRecordsSent"];
    path.strip_prefix(OBJECT).is_some_and(|rest| {
        let name = rest.rsplit('.').next().unwrap_or_default();
        !rest.contains(".Stats.") && !name.ends_with("NumberOfEntries") && !told.contains(&name)
    })
}

/// How notifications are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 7951.
    Json,
    /// RFC 9254, with names.
    Cbor,
    /// RFC 7950.
    Xml,
}

impl Encoding {
    /// What UDP-notif calls it.
    pub fn media_type(self) -> MediaType {
        match self {
            Self::Json => MediaType::Json,
            Self::Cbor => MediaType::Cbor,
            Self::Xml => MediaType::Xml,
        }
    }
}

/// What stands around a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// `ietf-yp-notification:envelope` (draft-ietf-netconf-notif-envelope).
    YpNotification,
    /// `ietf-notification:notification`, in XML the `<notification>` of RFC 5277.
    Notification,
}

/// A receiver, as it is to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Host or address.
    pub address: String,
    /// UDP port.
    pub port: u16,
    /// Address to send from.
    pub local_address: Option<std::net::IpAddr>,
    /// Port to send from.
    pub local_port: Option<u16>,
    /// Versions of DTLS; absent: without.
    pub dtls: Option<Versions>,
    /// Generation of UDP-notif.
    pub generation: Generation,
    /// How records are framed.
    pub framing: Framing,
    /// How notifications are encoded.
    pub encoding: Encoding,
    /// What stands around them.
    pub envelope: Envelope,
    /// Segmentation may be used.
    pub segmentation: bool,
    /// Largest segment.
    pub max_segment_size: u16,
    /// Differentiated services code point.
    pub dscp: u8,
    /// The pace; absent: none.
    pub pacing: Option<Pacing>,
    /// Messages that may wait.
    pub max_waiting: usize,
    /// What is dropped when more comes.
    pub dropped: Dropped,
    /// Message Publisher ID.
    pub publisher_id: u32,
}

/// When a subscription tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    Periodic {
        period: Duration,
        anchor: Option<SystemTime>,
    },
    OnChange {
        dampening: Duration,
        sync: bool,
    },
}

/// A reference of a subscription.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) path: Path,
}

/// A subscription that is served.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(crate) row: ObjectPath,
    pub(crate) id: u32,
    /// Row of the receiver, without its last dot.
    pub(crate) receiver: String,
    pub(crate) filters: Vec<Filter>,
    pub(crate) trigger: Trigger,
    /// The references as they are written, to notice a change.
    text: String,
}

impl Subscription {
    /// Whether it tells the same to the same receiver in the same way.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.id == other.id
            && self.receiver == other.receiver
            && self.text == other.text
            && self.trigger == other.trigger
    }

    pub(crate) fn paths(&self) -> Vec<Path> {
        self.filters
            .iter()
            .map(|filter| filter.path.clone())
            .collect()
    }
}

/// What the data model says about telemetry.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// By row, without its last dot.
    pub(crate) receivers: Vec<(String, Receiver)>,
    pub(crate) subscriptions: Vec<Subscription>,
    /// Rows and how they stand, where that does not depend on what happens.
    pub(crate) statuses: Vec<(ObjectPath, &'static str)>,
}

impl View {
    pub(crate) fn read(tree: &Tree) -> Self {
        let mut view = Self::default();
        let object = table(OBJECT);
        let enabled = is_true(tree, &object, "Enable");
        let publisher_id = number(tree, &object, "PublisherID");
        for row in tree.rows(&table(RECEIVERS)) {
            if !enabled || !is_true(tree, &row, "Enable") {
                view.statuses.push((row, "Disabled"));
                continue;
            }
            match receiver(tree, &row, publisher_id) {
                Some(receiver) if view.receivers.len() < MAX_RECEIVERS => {
                    view.receivers
                        .push((row.to_reference().to_owned(), receiver));
                }
                _ => view.statuses.push((row, "Error_Misconfigured")),
            }
        }
        for row in tree.rows(&table(SUBSCRIPTIONS)) {
            let status = if !enabled || !is_true(tree, &row, "Enable") {
                "Disabled"
            } else {
                match subscription(tree, &row) {
                    Some(subscription)
                        if view.subscriptions.len() < MAX_SUBSCRIPTIONS
                            && view
                                .receivers
                                .iter()
                                .any(|(name, _)| *name == subscription.receiver) =>
                    {
                        view.subscriptions.push(subscription);
                        "Active"
                    }
                    _ => "Error_Misconfigured",
                }
            };
            view.statuses.push((row, status));
        }
        view
    }

    pub(crate) fn receiver(&self, name: &str) -> Option<&Receiver> {
        let mut all = self.receivers.iter();
        all.find(|(row, _)| row == name)
            .map(|(_, receiver)| receiver)
    }
}

fn receiver(tree: &Tree, row: &ObjectPath, publisher_id: u32) -> Option<Receiver> {
    let value = |name| text(tree, row, name);
    let port = |name| {
        u16::try_from(number(tree, row, name))
            .ok()
            .filter(|port| *port > 0)
    };
    let generation = Generation::from_name(value("Generation"))?;
    let local_address = match value("LocalAddress") {
        "" => None,
        text => Some(text.parse().ok()?),
    };
    let max_segment_size = match u16::try_from(number(tree, row, "MaxSegmentSize")).ok()? {
        0 => u16::MAX,
        // `unsupported-max-segment-size`: smaller ones would have no room for headers.
        small if usize::from(small) < MIN_ROOM => return None,
        size => size,
    };
    let rate = |name| u64::from(number(tree, row, name));
    let pacing = match (rate("MessagesPerSecond"), rate("BytesPerSecond")) {
        // Somebody asked for it (-26 §5.1).
        (0, 0) => None,
        (messages, bytes) => Some(Pacing {
            messages_per_second: if messages == 0 {
                u64::from(u32::MAX)
            } else {
                messages
            },
            bytes_per_second: if bytes == 0 {
                u64::from(u32::MAX)
            } else {
                bytes
            },
            ..Pacing::default()
        }),
    };
    Some(Receiver {
        address: Some(value("Address"))
            .filter(|text| !text.is_empty())?
            .to_owned(),
        port: port("Port")?,
        local_address,
        local_port: port("LocalPort"),
        dtls: match value("Security") {
            "None" => None,
            "DTLS1.2" => Some(Versions::Dtls12),
            "DTLS" => Some(Versions::Both),
            _ => Some(Versions::Dtls13),
        },
        generation,
        framing: match value("Framing") {
            "Bare" => Framing::Bare,
            "Framed" => Framing::Framed { share: true },
            _ => default_framing(generation),
        },
        encoding: match value("Encoding") {
            "CBOR" => Encoding::Cbor,
            "XML" => Encoding::Xml,
            _ => Encoding::Json,
        },
        envelope: match value("Envelope") {
            "ietf-notification" => Envelope::Notification,
            _ => Envelope::YpNotification,
        },
        segmentation: is_true(tree, row, "EnableSegmentation"),
        max_segment_size,
        dscp: u8::try_from(number(tree, row, "DSCP")).unwrap_or(homefleet_net::notif::send::CS2),
        pacing,
        max_waiting: usize::try_from(number(tree, row, "MaxWaiting")).ok()?,
        dropped: match value("WhenFull") {
            "DropNewest" => Dropped::Newest,
            _ => Dropped::Oldest,
        },
        publisher_id,
    })
}

fn subscription(tree: &Tree, row: &ObjectPath) -> Option<Subscription> {
    let millis = |name| Duration::from_millis(number(tree, row, name).into());
    let references = text(tree, row, "ReferenceList");
    let filters: Option<Vec<Filter>> = list_items(references)
        .map(|reference| {
            Some(Filter {
                path: Path::parse(reference).ok()?,
            })
        })
        .collect();
    let filters = filters.filter(|filters| !filters.is_empty())?;
    Some(Subscription {
        id: match number(tree, row, "ID") {
            0 => row.instance()?,
            id => id,
        },
        row: row.clone(),
        receiver: text(tree, row, "Receiver").trim_end_matches('.').to_owned(),
        filters,
        trigger: match text(tree, row, "Trigger") {
            "OnChange" => Trigger::OnChange {
                dampening: millis("DampeningPeriod").max(LEAST_DAMPENING),
                sync: is_true(tree, row, "SyncOnStart"),
            },
            _ => Trigger::Periodic {
                period: millis("Period"),
                anchor: crate::time::parse(text(tree, row, "AnchorTime")),
            },
        },
        text: references.to_owned(),
    })
}
