//! Bodies in block-wise transfer as server, in both directions, with their bounds (RFC 7959 §2.4, §2.5).
//!
//! A transfer belongs to one peer and one request key: method, and every option that is part of the
//! cache key (Uri-Query, Request-Tag and Content-Format among them), so that interleaved transfers
//! never mix.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use super::Endpoint;
use super::peers::PeerKey;
use super::slab::Slab;
use super::timers::after;
use crate::code::Code;
use crate::number;
use crate::options::Options;

/// What is being transferred.
pub(super) enum Kind {
    /// A request body that is being put together (Block1).
    Upload,
    /// A response body of which blocks are asked for (Block2).
    Download {
        code: Code,
        options: Options,
        /// Tells requests of one key but different payloads apart (RFC 8132 §2).
        payload_hash: u64,
    },
}

/// One body.
pub(super) struct Transfer {
    pub(super) peer: PeerKey,
    pub(super) key: u64,
    pub(super) kind: Kind,
    pub(super) body: Vec<u8>,
    touched: Instant,
    /// Position in the order of eviction: unauthenticated before authenticated, old before new.
    order: (bool, u64),
}

/// All bodies.
pub(super) struct Transfers {
    table: Slab<Transfer>,
    order: BTreeMap<(bool, u64), u64>,
    bytes: usize,
    stamp: u64,
}

impl Transfers {
    pub(super) fn new() -> Transfers {
        Transfers {
            table: Slab::new(),
            order: BTreeMap::new(),
            bytes: 0,
            stamp: 0,
        }
    }

    pub(super) fn get(&self, id: u64) -> Option<&Transfer> {
        self.table.get(id)
    }

    /// The oldest transfer of each class.
    fn oldest(&self) -> impl Iterator<Item = (u64, Instant)> + '_ {
        let plain = self.order.range(..(true, 0)).next();
        let secure = self.order.range((true, 0)..).next();
        [plain, secure]
            .into_iter()
            .flatten()
            .filter_map(|(_, id)| Some((*id, self.table.get(*id)?.touched)))
    }

    pub(super) fn next_at(&self, timeout: Duration) -> Option<Instant> {
        self.oldest().map(|(_, at)| after(at, timeout)).min()
    }
}

impl Endpoint {
    /// Hash of what makes two requests "the same" for a transfer: method and cache key (RFC 7252 §5.6,
    /// RFC 7959 §2.4), Block options, Observe and No-Response excepted.
    pub(super) fn request_key(&self, code: Code, options: &Options) -> u64 {
        let mut hasher = self.hash.build_hasher();
        hasher.write_u8(code.byte());
        for (number, value) in options.iter() {
            let apart = matches!(
                number,
                number::BLOCK1 | number::BLOCK2 | number::OBSERVE | number::NO_RESPONSE
            );
            if !apart && !number::is_no_cache_key(number) {
                hasher.write_u32((u32::from(number) << 16) | (value.len() as u32 & 0xffff));
                hasher.write(value);
            }
        }
        hasher.finish()
    }

    pub(super) fn bytes_hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.hash.build_hasher();
        hasher.write_usize(bytes.len());
        hasher.write(bytes);
        hasher.finish()
    }

    /// The peer's upload of this key.
    pub(super) fn find_upload(&self, peer: PeerKey, key: u64) -> Option<u64> {
        self.find_transfer(peer, |t| t.key == key && matches!(t.kind, Kind::Upload))
    }

    /// The peer's download of this key and request payload.
    pub(super) fn find_download(&self, peer: PeerKey, key: u64, payload: u64) -> Option<u64> {
        self.find_transfer(peer, |t| {
            t.key == key
                && matches!(t.kind, Kind::Download { payload_hash, .. } if payload_hash == payload)
        })
    }

    fn find_transfer(&self, peer: PeerKey, fits: impl Fn(&Transfer) -> bool) -> Option<u64> {
        let transfers = &self.peers.get(peer)?.transfers;
        transfers
            .iter()
            .copied()
            .find(|id| self.transfers.get(*id).is_some_and(&fits))
    }

    /// Starts a transfer, making room at the bounds.
    pub(super) fn put_transfer(
        &mut self,
        now: Instant,
        peer: PeerKey,
        key: u64,
        kind: Kind,
        body: Vec<u8>,
    ) {
        let Some(state) = self.peers.get(peer) else {
            return;
        };
        let secure = state.peer.session.is_some();
        if state.transfers.len() >= self.config.max_block_transfers_per_peer.max(1) {
            // In order of their start; each peer has few.
            let oldest = state.transfers.iter().copied().min_by_key(|id| {
                self.transfers
                    .get(*id)
                    .map_or(0, |transfer| transfer.order.1)
            });
            self.evict_transfer(oldest);
        }
        while self.transfers.table.len() >= self.config.max_block_transfers.max(1) {
            self.evict_oldest();
        }
        self.make_room(body.len(), None);
        self.transfers.stamp += 1;
        let order = (secure, self.transfers.stamp);
        self.transfers.bytes += body.len();
        let id = self.transfers.table.insert(Transfer {
            peer,
            key,
            kind,
            body,
            touched: now,
            order,
        });
        self.transfers.order.insert(order, id);
        if let Some(state) = self.peers.get_mut(peer) {
            state.transfers.push(id);
        }
    }

    fn evict_oldest(&mut self) {
        let oldest = self.transfers.order.first_key_value().map(|(_, id)| *id);
        self.evict_transfer(oldest);
    }

    fn evict_transfer(&mut self, id: Option<u64>) {
        if let Some(id) = id {
            self.stats.transfers_evicted += 1;
            if let Some(transfer) = self.end_transfer(id) {
                self.peers.release(transfer.peer);
            }
        }
    }

    /// Evicts until `more` bytes fit, sparing one transfer; `false` when they cannot.
    fn make_room(&mut self, more: usize, spare: Option<u64>) -> bool {
        while self.transfers.bytes + more > self.config.max_block_bytes {
            let Some(oldest) = self
                .transfers
                .order
                .values()
                .copied()
                .find(|id| Some(*id) != spare)
            else {
                return false;
            };
            self.evict_transfer(Some(oldest));
        }
        true
    }

    /// Appends a block to an upload; `false` when the memory for it is not there.
    pub(super) fn grow_transfer(&mut self, now: Instant, id: u64, block: &[u8]) -> bool {
        if !self.make_room(block.len(), Some(id)) {
            return false;
        }
        self.touch_transfer(now, id);
        let Some(transfer) = self.transfers.table.get_mut(id) else {
            return false;
        };
        transfer.body.extend_from_slice(block);
        self.transfers.bytes += block.len();
        true
    }

    pub(super) fn touch_transfer(&mut self, now: Instant, id: u64) {
        let Some(transfer) = self.transfers.table.get_mut(id) else {
            return;
        };
        self.transfers.stamp += 1;
        self.transfers.order.remove(&transfer.order);
        transfer.order.1 = self.transfers.stamp;
        transfer.touched = now;
        self.transfers.order.insert(transfer.order, id);
    }

    /// Removes a transfer and hands out its body.
    pub(super) fn end_transfer(&mut self, id: u64) -> Option<Transfer> {
        let transfer = self.transfers.table.remove(id)?;
        self.transfers.order.remove(&transfer.order);
        self.transfers.bytes -= transfer.body.len();
        if let Some(state) = self.peers.get_mut(transfer.peer) {
            state.transfers.retain(|other| *other != id);
        }
        Some(transfer)
    }

    pub(super) fn expire_transfers(&mut self, now: Instant) {
        loop {
            let timeout = self.config.block_timeout;
            let Some((id, _)) = self
                .transfers
                .oldest()
                .find(|(_, at)| after(*at, timeout) <= now)
            else {
                return;
            };
            self.stats.transfers_expired += 1;
            if let Some(transfer) = self.end_transfer(id) {
                self.peers.release(transfer.peer);
            }
        }
    }

    pub(super) fn forget_transfers(&mut self, peer: PeerKey) {
        let ids = self
            .peers
            .get_mut(peer)
            .map(|state| std::mem::take(&mut state.transfers))
            .unwrap_or_default();
        for id in ids {
            self.end_transfer(id);
        }
    }
}
