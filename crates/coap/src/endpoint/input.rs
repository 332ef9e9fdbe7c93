//! A datagram comes in (RFC 7252 §4).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use super::Endpoint;
use super::dedup::Lookup;
use crate::message::{Message, Type};
use crate::peer::Peer;

/// Whether a datagram can be sent there, to one receiver: neither port 0 nor an unspecified, multicast or
/// broadcast address.
pub(super) fn is_unicast(peer: &Peer) -> bool {
    let ip = peer.addr.ip();
    let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    peer.addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

impl Endpoint {
    /// Takes in a datagram. Whatever it contains, it changes at most what it legitimately concerns.
    pub fn handle_input(&mut self, now: Instant, from: Peer, datagram: &[u8]) {
        self.stats.datagrams_in += 1;
        if !is_unicast(&from) {
            self.stats.unanswerable_source += 1;
            return;
        }
        let message = match Message::decode(datagram) {
            Ok(message) => message,
            Err(error) => {
                match error.header {
                    None if matches!(error.error, crate::FormatError::Version(_)) => {
                        self.stats.version_ignored += 1;
                    }
                    None => self.stats.format_errors += 1,
                    Some((kind, id)) => {
                        self.stats.format_errors += 1;
                        // RFC 7252 §4.2: reject a Confirmable message; everything else is ignored.
                        if kind == Type::Confirmable {
                            self.send_reset(from, id);
                        }
                    }
                }
                return;
            }
        };
        match message.kind {
            Type::Reset => {
                if let Some(peer) = self.hear(&from) {
                    self.rejected(now, peer, message.id);
                } else {
                    self.stats.unmatched_replies += 1;
                }
            }
            Type::Acknowledgement if message.code.is_empty() => {
                if let Some(peer) = self.hear(&from) {
                    self.acknowledged(now, peer, message.id);
                } else {
                    self.stats.unmatched_replies += 1;
                }
            }
            Type::Acknowledgement => self.piggybacked(now, from, message),
            Type::Confirmable if message.code.is_empty() => {
                // RFC 7252 §4.3: "CoAP ping".
                self.stats.pings += 1;
                self.hear(&from);
                self.send_reset(from, message.id);
            }
            Type::Confirmable | Type::NonConfirmable if message.code.is_request() => {
                self.request_received(now, from, message, datagram.len(), false);
            }
            Type::Confirmable | Type::NonConfirmable => self.separate_received(now, from, message),
        }
        self.welcome_back(now);
    }

    pub(super) fn send_reset(&mut self, to: Peer, id: u16) {
        self.stats.resets_sent += 1;
        self.transmit(to, Message::empty(Type::Reset, id).encode());
    }

    /// Deals with a duplicate (RFC 7252 §4.5); `false` when the message is new.
    pub(super) fn is_duplicate(
        &mut self,
        now: Instant,
        peer: super::peers::PeerKey,
        message: &Message,
    ) -> bool {
        let lookup = self
            .dedup
            .look_up(now, &self.peers, peer, message.id, &message.token);
        match lookup {
            Lookup::New => return false,
            Lookup::Replay(answer) if message.kind == Type::Confirmable => {
                let answer = answer.to_vec();
                self.stats.duplicates_replayed += 1;
                if message.code.is_request() {
                    self.transmit_within(peer, answer);
                } else {
                    // An ACK or RST, no longer than what it answers.
                    self.transmit_to(peer, answer);
                }
            }
            Lookup::Replay(_) | Lookup::Ignore => self.stats.duplicates_ignored += 1,
        }
        true
    }
}
