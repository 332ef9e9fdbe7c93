//! How many bytes of messages are held for the servers behind, in all and of one client (RFC 9482 §4).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of messages that are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// In all; over it 5.03. Default 16 MiB.
    pub bytes: usize,
    /// Of one client, which is an IPv4 address or an IPv6 network of 64 bits; over it 4.29. Default 512 KiB.
    pub per_client: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            bytes: 16 * 1024 * 1024,
            per_client: 512 * 1024,
        }
    }
}

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    Client,
    All,
}

#[derive(Debug)]
pub(super) struct Rooms {
    limit: Room,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    total: usize,
    most: usize,
    clients: HashMap<IpAddr, usize>,
}

impl Rooms {
    pub(super) fn new(limit: Room) -> Self {
        Self {
            limit,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for so many bytes, until what comes back is dropped.
    pub(super) fn take(self: &Arc<Self>, from: IpAddr, bytes: usize) -> Result<Held, Full> {
        let client = network(from);
        let mut state = self.lock();
        if state.total.saturating_add(bytes) > self.limit.bytes {
            return Err(Full::All);
        }
        let has = state.clients.get(&client).copied().unwrap_or_default();
        if has.saturating_add(bytes) > self.limit.per_client {
            return Err(Full::Client);
        }
        state.clients.insert(client, has + bytes);
        state.total += bytes;
        state.most = state.most.max(state.total);
        Ok(Held {
            rooms: Arc::clone(self),
            client,
            bytes,
        })
    }

    /// Bytes held now, and the most that ever were.
    pub(super) fn held(&self) -> (usize, usize) {
        let state = self.lock();
        (state.total, state.most)
    }
}

/// Some of the room.
#[derive(Debug)]
pub(super) struct Held {
    rooms: Arc<Rooms>,
    client: IpAddr,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.rooms.lock();
        state.total = state.total.saturating_sub(self.bytes);
        if let Some(has) = state.clients.get_mut(&self.client) {
            *has = has.saturating_sub(self.bytes);
            if *has == 0 {
                state.clients.remove(&self.client);
            }
        }
    }
}

fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_client_and_all_together_have_so_much_room_and_give_it_back() {
        let limit = Room {
            bytes: 250,
            per_client: 100,
        };
        let rooms = Arc::new(Rooms::new(limit));
        let take = |ip: &str, bytes| rooms.take(ip.parse().unwrap(), bytes);
        let first = take("192.0.2.1", 100).unwrap();
        assert_eq!(take("192.0.2.1", 1).unwrap_err(), Full::Client);
        assert_eq!(take("::ffff:192.0.2.1", 1).unwrap_err(), Full::Client);
        let second = take("2001:db8::1", 60).unwrap();
        // A network is one client.
        assert_eq!(take("2001:db8::2", 60).unwrap_err(), Full::Client);
        let third = take("2001:db8:0:1::2", 90).unwrap();
        assert_eq!(take("192.0.2.2", 1).unwrap_err(), Full::All);
        assert_eq!(rooms.held(), (250, 250));
        drop(first);
        assert_eq!(rooms.held(), (150, 250));
        drop(take("192.0.2.1", 100).unwrap());
        drop((second, third));
        assert_eq!(rooms.held(), (0, 250));
        assert!(rooms.lock().clients.is_empty());
    }
}
