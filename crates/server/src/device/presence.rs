//! Where devices are at this moment: sessions with them, and brokers at which they are (R-MTP.6 to R-MTP.9).
//!
//! ```text
//!   Up ──► a channel ──── Connect Record, or any other ────► the device is there
//!             │                                                │        │
//!             │                                     Disconnect Record   │
//!             │                                                ▼        │
//!             │                                      it has left: nothing is sent there
//!             └─ Down ──► whoever was there over a session is gone; who was at a broker is again when its channel is
//! ```
//!
//! A session ends with its channel. A broker's channel is ours, not the device's: a device stays at the broker until it says
//! that it leaves, or its Last Will does. CoAP has no channels, and devices are never there over it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use homefleet_api as api;
use homefleet_net::mtp::{Channel, ChannelId, Connect, Route};

use crate::clock::Millis;

/// Who is where.
#[derive(Debug, Default)]
pub struct Presence {
    channels: HashMap<ChannelId, Link>,
    /// Names of connections to brokers that are up.
    brokers: BTreeMap<Way, ChannelId>,
    devices: BTreeMap<String, BTreeMap<Way, Place>>,
}

/// A channel that is up.
#[derive(Debug, Clone)]
struct Link {
    way: Way,
    mtp: api::Mtp,
    /// Whose session it is, once it has spoken.
    device: Option<String>,
}

/// How a device is connected: by a session of its own, or at the broker of one of our connections.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Broker(api::Mtp, String),
    Session(ChannelId),
}

#[derive(Debug, Clone)]
struct Place {
    mtp: api::Mtp,
    since: Millis,
    /// It said that it leaves.
    left: bool,
}

/// What a Record says about where its sender is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// A Connect Record of this MTP.
    Here(api::Mtp),
    /// A Disconnect Record.
    Leaves,
    /// Anything else.
    Speaks,
}

/// Why a Record is ignored (R-MTP.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// A Connect Record of another MTP than it came over.
    #[error("a Connect Record of another MTP")]
    WrongConnect,
    /// It came over a session whose device had said that it leaves, and was not back.
    #[error("the session was left by a Disconnect Record, and no Connect Record came since")]
    Left,
}

/// Whether an address leads somewhere now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alive {
    /// A session with the device is open.
    Session,
    /// Nothing speaks against it: CoAP, or a broker to which we are connected and that the device has not left.
    Maybe,
    /// There is no session, or no connection to the broker, now.
    No,
    /// The device said that it leaves: nothing is sent there until it is back (R-MTP.8).
    Left,
}

impl Presence {
    /// A channel is up.
    pub fn up(&mut self, channel: &Channel) {
        let mtp = mtp(&channel.connect);
        let way = match (&channel.connect, &channel.connection) {
            (Connect::Stomp { .. } | Connect::Mqtt { .. }, Some(name)) => {
                let way = Way::Broker(mtp, name.clone());
                self.brokers.insert(way.clone(), channel.id);
                way
            }
            _ => Way::Session(channel.id),
        };
        let link = Link {
            way,
            mtp,
            device: None,
        };
        self.channels.insert(channel.id, link);
    }

    /// A channel has gone; the devices that were there over it.
    pub fn down(&mut self, id: ChannelId) -> BTreeSet<String> {
        let Some(link) = self.channels.remove(&id) else {
            return BTreeSet::new();
        };
        if self.brokers.get(&link.way) == Some(&id) {
            self.brokers.remove(&link.way);
        }
        let here =
            |places: &BTreeMap<Way, Place>| places.get(&link.way).is_some_and(|place| !place.left);
        if let Way::Broker(..) = link.way {
            let devices = self.devices.iter();
            return devices
                .filter(|(_, places)| here(places))
                .map(|(device, _)| device.clone())
                .collect();
        }
        let mut gone = BTreeSet::new();
        if let Some(device) = link.device
            && let Some(places) = self.devices.get_mut(&device)
        {
            let was_here = here(places);
            places.remove(&link.way);
            if places.is_empty() {
                self.devices.remove(&device);
            }
            if was_here {
                gone.insert(device);
            }
        }
        gone
    }

    /// A device said something over a channel; whether that makes a difference.
    pub fn said(
        &mut self,
        now: Millis,
        device: &str,
        channel: Option<ChannelId>,
        says: Says,
    ) -> Result<bool, Misplaced> {
        let Some(link) = channel.and_then(|id| self.channels.get_mut(&id)) else {
            // Over CoAP nobody is connected; what a Connect Record says there means nothing.
            return match says {
                Says::Here(_) => Err(Misplaced::WrongConnect),
                _ => Ok(false),
            };
        };
        if matches!(says, Says::Here(mtp) if mtp != link.mtp) {
            return Err(Misplaced::WrongConnect);
        }
        if let Way::Session(_) = link.way
            && link.device.is_none()
        {
            link.device = Some(device.to_owned());
        }
        let here = Place {
            mtp: link.mtp,
            since: now,
            left: false,
        };
        let places = self.devices.entry(device.to_owned()).or_default();
        let Some(place) = places.get_mut(&link.way) else {
            let left = says == Says::Leaves;
            places.insert(link.way.clone(), Place { left, ..here });
            return Ok(true);
        };
        match says {
            Says::Here(_) => *place = here,
            Says::Leaves => place.left = true,
            Says::Speaks if !place.left => return Ok(false),
            // A Last Will may come late, after the device is back: at a broker, who speaks is there.
            Says::Speaks if matches!(link.way, Way::Broker(..)) => *place = here,
            Says::Speaks => return Err(Misplaced::Left),
        }
        Ok(true)
    }

    /// Forgets a device; it is there again as soon as it says something.
    pub fn remove(&mut self, device: &str) {
        self.devices.remove(device);
    }

    /// Whether a route leads to a device now.
    pub fn alive(&self, device: &str, route: &Route) -> Alive {
        let places = self.devices.get(device);
        let way = match route {
            Route::Coap(_) => return Alive::Maybe,
            Route::WebSocket { .. } => return Self::session(places, api::Mtp::Websocket),
            Route::Uds => return Self::session(places, api::Mtp::Uds),
            Route::Stomp { connection, .. } => Way::Broker(api::Mtp::Stomp, connection.clone()),
            Route::Mqtt { connection, .. } => Way::Broker(api::Mtp::Mqtt, connection.clone()),
        };
        let left = places
            .and_then(|places| places.get(&way))
            .is_some_and(|place| place.left);
        match (self.brokers.contains_key(&way), left) {
            (_, true) => Alive::Left,
            (true, false) => Alive::Maybe,
            (false, false) => Alive::No,
        }
    }

    fn session(places: Option<&BTreeMap<Way, Place>>, mtp: api::Mtp) -> Alive {
        let sessions = places
            .into_iter()
            .flatten()
            .filter(|(way, place)| matches!(way, Way::Session(_)) && place.mtp == mtp);
        sessions
            .map(|(_, place)| match place.left {
                true => Alive::Left,
                false => Alive::Session,
            })
            .min()
            .unwrap_or(Alive::No)
    }

    /// Over what a device is connected now, the newest first.
    pub fn connections(&self, device: &str) -> Vec<api::Connection> {
        let mut found: Vec<(Millis, api::Connection)> = self
            .devices
            .get(device)
            .into_iter()
            .flatten()
            .filter(|(way, place)| {
                !place.left && (matches!(way, Way::Session(_)) || self.brokers.contains_key(way))
            })
            .map(|(way, place)| {
                let broker = match way {
                    Way::Broker(_, name) => Some(name.clone()),
                    Way::Session(_) => None,
                };
                let connection = api::Connection {
                    mtp: place.mtp,
                    broker,
                    since: place.since.to_timestamp(),
                };
                (place.since, connection)
            })
            .collect();
        found.sort_by_key(|(since, _)| std::cmp::Reverse(*since));
        found
            .into_iter()
            .map(|(_, connection)| connection)
            .collect()
    }

    /// The connection of ours that a channel belongs to.
    pub fn broker(&self, channel: ChannelId) -> Option<&str> {
        match &self.channels.get(&channel)?.way {
            Way::Broker(_, name) => Some(name),
            Way::Session(_) => None,
        }
    }

    /// How many devices are connected now over each MTP.
    pub fn count(&self) -> BTreeMap<api::Mtp, usize> {
        let mut count = BTreeMap::new();
        for (way, place) in self.devices.values().flatten() {
            if !place.left && (matches!(way, Way::Session(_)) || self.brokers.contains_key(way)) {
                *count.entry(place.mtp).or_default() += 1;
            }
        }
        count
    }
}

fn mtp(connect: &Connect) -> api::Mtp {
    match connect {
        Connect::WebSocket => api::Mtp::Websocket,
        Connect::Stomp { .. } => api::Mtp::Stomp,
        Connect::Mqtt { .. } => api::Mtp::Mqtt,
        Connect::Uds => api::Mtp::Uds,
    }
}
