//! DHCP exchanges on a gateway's LAN, heard as they pass: who identified itself, and who got DHCPACK (§1.2.1).
//!
//! It works with every DHCP server, and is the only way to hear of DHCPINFORM, for which dnsmasq runs no script. Answers count only when
//! this machine sends them: what others on the LAN answer makes no entry.

use std::{
    collections::{BTreeMap, VecDeque},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use homefleet_tr111::identity::{Identity, Role};

use super::{
    event::{Event, Mac},
    message::{Kind, Message},
};

/// Requests that wait for their DHCPACK; beyond, the oldest goes.
const MAX_WAITING: usize = 256;
/// How long one waits.
const WAIT: Duration = Duration::from_secs(60);

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It came from the LAN.
    In,
    /// This machine sent it.
    Out,
}

/// The exchanges that are under way.
#[derive(Debug, Default)]
pub struct Exchanges {
    waiting: BTreeMap<(Mac, u32), Identity>,
    order: VecDeque<(Instant, (Mac, u32))>,
    /// What happened to messages.
    pub counters: Counters,
}

/// What happened to messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counters {
    /// DHCP messages.
    pub messages: u64,
    /// What was to a DHCP port and is no message of interest.
    pub others: u64,
    /// Requests that held a Device Identity, and those in which something about one was wrong.
    pub identified: u64,
    pub malformed: u64,
    /// DHCPACKs of others on the LAN.
    pub foreign: u64,
    /// Requests that were forgotten because too many waited.
    pub crowded: u64,
}

impl Exchanges {
    /// A datagram to a DHCP port passed; what follows from it.
    pub fn handle(&mut self, now: Instant, direction: Direction, payload: &[u8]) -> Option<Event> {
        let Some(message) = Message::decode(payload) else {
            self.counters.others += 1;
            return None;
        };
        self.counters.messages += 1;
        let (mac, key) = (message.mac, (message.mac, message.xid));
        match (message.kind, direction) {
            (Kind::Discover | Kind::Request | Kind::Inform, Direction::In) => {
                let ignored = message.identity.ignored;
                if ignored.malformed + ignored.truncated + ignored.repeated > 0 {
                    self.counters.malformed += 1;
                }
                if let Some(identity) = message.identity.identity(Role::Device) {
                    self.counters.identified += 1;
                    self.wait(now, key, identity);
                }
                None
            }
            (Kind::Ack, Direction::Out) => {
                let identity = self.waiting.remove(&key);
                let none = Ipv4Addr::UNSPECIFIED;
                // DHCPINFORM is answered without an address (RFC 2131 §4.3.5).
                let address = [message.yiaddr, message.ciaddr].into_iter();
                let address = address.into_iter().find(|address| *address != none)?;
                Some(Event::Leased {
                    mac,
                    address,
                    identity,
                    lease: message.lease.filter(|_| message.yiaddr != none),
                })
            }
            (Kind::Ack, Direction::In) => {
                self.counters.foreign += 1;
                None
            }
            (Kind::Release, Direction::In) => Some(Event::Ended {
                mac,
                address: Some(message.ciaddr),
            }),
            (Kind::Decline, Direction::In) => Some(Event::Ended { mac, address: None }),
            _ => None,
        }
    }

    fn wait(&mut self, now: Instant, key: (Mac, u32), identity: Identity) {
        while let Some((since, oldest)) = self.order.front() {
            let old = now.saturating_duration_since(*since) >= WAIT;
            if !old && self.order.len() < MAX_WAITING {
                break;
            }
            let answered = self.waiting.remove(oldest).is_none();
            self.counters.crowded += u64::from(!old && !answered);
            self.order.pop_front();
        }
        if self.waiting.insert(key, identity).is_none() {
            self.order.push_back((now, key));
        }
    }
}
