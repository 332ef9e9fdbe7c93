//! What a table of associations tells its owner.

use std::net::SocketAddr;
use std::ops::AddAssign;
use std::sync::Arc;

use homefleet_coap::SessionId;
use homefleet_trust::{Decision, PeerIdentity, Wanted};

use super::config::Version;

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// The UDP payload.
    pub payload: Vec<u8>,
}

/// Something happened to an association.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The handshake is done and the peer is who the verifier said it is.
    Established {
        /// The association.
        session: SessionId,
        /// The peer's address.
        addr: SocketAddr,
        /// Who the peer is, by its certificate.
        peer: Arc<PeerIdentity>,
        /// Whether [`Sessions::connect`](super::Sessions::connect) asked for it.
        initiated: bool,
        /// The server name the client sent (RFC 6066 §3).
        sni: Option<String>,
        /// The version negotiated.
        version: Version,
        /// Whether keys came from an earlier association. The identity was verified again.
        resumed: bool,
        /// The negotiated cipher suite, by its registered name.
        cipher: &'static str,
    },
    /// Application data of one record.
    Data {
        /// The association.
        session: SessionId,
        /// The peer's address.
        addr: SocketAddr,
        /// The plaintext.
        payload: Vec<u8>,
    },
    /// An established association is over.
    Closed {
        /// The association.
        session: SessionId,
        /// The peer's address.
        addr: SocketAddr,
        /// How it ended.
        reason: CloseReason,
    },
    /// The decision about the peer waits for evidence of its revocation. Nothing passes until
    /// [`Sessions::judge_again`](super::Sessions::judge_again) has it decided; [`Event::Established`], [`Event::Refused`],
    /// [`Event::Failed`] or, of an association that was established before, perhaps [`Event::Closed`] follows.
    Held {
        /// The association.
        session: SessionId,
        /// The peer's address.
        addr: SocketAddr,
        /// What is missing.
        wanted: Vec<Wanted>,
    },
    /// The peer was refused; it was sent `alert`.
    Refused {
        /// The association that never came to be.
        session: SessionId,
        /// The peer's address.
        addr: SocketAddr,
        /// Whether we had asked for the association.
        initiated: bool,
        /// The decision with every step.
        decision: Box<Decision>,
        /// Number of the alert sent, when the engine could send one.
        alert: Option<u8>,
    },
    /// The handshake failed for another reason than our decision.
    Failed {
        /// The association that never came to be.
        session: SessionId,
        /// The peer's address.
        addr: SocketAddr,
        /// Whether we had asked for the association.
        initiated: bool,
        /// What happened.
        failure: Failure,
    },
}

/// How an established association ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer sent close_notify.
    Peer,
    /// Nothing was heard or said for [`Config::idle_timeout`](super::Config::idle_timeout), or nothing heard for
    /// [`Config::first_use_idle`](super::Config::first_use_idle) from a peer accepted on first use.
    Idle,
    /// The peer authenticated again from the same address, as after a restart.
    Replaced {
        /// The association that took its place.
        by: SessionId,
    },
    /// The same certificate authenticated on more than [`Config::max_per_certificate`](super::Config::max_per_certificate)
    /// addresses, and this one had been silent for the longest.
    Crowded,
    /// The peer sent a fatal alert.
    Alert(u8),
    /// What the decision rests on changed or is out of date, and the verifier, asked again, refused the peer, or could not
    /// say in time.
    Distrusted,
    /// The engine gave up.
    Error(String),
}

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The peer sent this alert: it refused us, or understood nothing.
    Alert(u8),
    /// No end within [`Config::handshake_timeout`](super::Config::handshake_timeout).
    Timeout,
    /// Dropped as the oldest at [`Config::max_half_open`](super::Config::max_half_open) or, held, at
    /// [`Config::max_held`](super::Config::max_held).
    Evicted,
    /// The decision about the peer could not be made within [`Config::handshake_timeout`](super::Config::handshake_timeout).
    Undecided,
    /// The peer began anew from the same address.
    Restarted,
    /// A protocol error, in the engine's words.
    Engine(String),
}

/// Counters of a table, since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Datagrams that are not DTLS.
    pub garbage: u64,
    /// Datagrams from UDP port 0, which cannot be answered.
    pub from_port_zero: u64,
    /// DTLS records that belong to no association.
    pub stray: u64,
    /// Handshakes begun by us.
    pub handshakes_out: u64,
    /// Handshakes begun by peers.
    pub handshakes_in: u64,
    /// Of these, of clients that had been turned away for the global budget and came again.
    pub patient: u64,
    /// Handshakes that ended well.
    pub established: u64,
    /// Of these, resumed.
    pub resumed: u64,
    /// Handshakes we refused because of the peer's certificate, or its absence.
    pub refused: u64,
    /// Associations held because their decision waited for evidence.
    pub held: u64,
    /// Of these, ended because it did not come in time, or because too many waited.
    pub undecided: u64,
    /// Messages of established associations not delivered, because their decision waited for evidence.
    pub held_messages: u64,
    /// Established associations whose peer was judged anew.
    pub judged_again: u64,
    /// Associations ended because the verifier, asked again after a change, refused the peer.
    pub distrusted: u64,
    /// Handshakes that ended with an alert of the peer.
    pub peer_alerts: u64,
    /// Handshakes that took too long.
    pub handshake_timeouts: u64,
    /// Handshakes that failed otherwise.
    pub handshake_errors: u64,
    /// Half-open handshakes dropped at the bound.
    pub half_open_evicted: u64,
    /// Handshakes turned away: the prefix's budget was spent.
    pub prefix_budget_exceeded: u64,
    /// Handshakes turned away: the global budget was spent.
    pub global_budget_exceeded: u64,
    /// Handshakes turned away: the table was full.
    pub table_full: u64,
    /// Handshakes half-open that their peer began anew.
    pub restarted: u64,
    /// ClientHellos not taken up because another handshake with that address goes on.
    pub hellos_ignored: u64,
    /// Both sides began at once and we went on as client.
    pub glare_kept: u64,
    /// Both sides began at once and we became the server.
    pub glare_yielded: u64,
    /// Handshakes of peers that we went along with, got no further, and were begun by us after all.
    pub insisted: u64,
    /// Handshakes of ours begun anew after a datagram that anybody could have sent had spoilt them.
    pub begun_anew: u64,
    /// Unprotected alerts in handshakes that went on all the same: forged.
    pub forged_alerts: u64,
    /// Unprotected records kept from handshakes whose peer protects its records by now: forged, or late.
    pub late_plaintext: u64,
    /// Repetitions of a flight not sent to an unvalidated address that says nothing.
    pub repeats_withheld: u64,
    /// Associations closed because the same certificate had too many.
    pub certificate_evicted: u64,
    /// Datagrams held back by the limit of three times the received bytes.
    pub amplification_held: u64,
    /// Datagrams dropped by that limit.
    pub amplification_dropped: u64,
    /// Messages decrypted.
    pub messages_received: u64,
    /// Messages protected.
    pub messages_sent: u64,
    /// Associations closed by the peer.
    pub closed_by_peer: u64,
    /// Associations closed by us, idle ones included.
    pub closed_by_us: u64,
    /// Associations closed as idle.
    pub idle: u64,
    /// Associations whose peer authenticated again from the same address.
    pub replaced: u64,
    /// Engine timers that fired: flights sent again, and acknowledgements of DTLS 1.3 sent (RFC 9147 §7).
    pub retransmissions: u64,
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.datagrams_received += other.datagrams_received;
        self.datagrams_sent += other.datagrams_sent;
        self.bytes_received += other.bytes_received;
        self.bytes_sent += other.bytes_sent;
        self.garbage += other.garbage;
        self.from_port_zero += other.from_port_zero;
        self.stray += other.stray;
        self.handshakes_out += other.handshakes_out;
        self.handshakes_in += other.handshakes_in;
        self.patient += other.patient;
        self.established += other.established;
        self.resumed += other.resumed;
        self.refused += other.refused;
        self.held += other.held;
        self.undecided += other.undecided;
        self.held_messages += other.held_messages;
        self.judged_again += other.judged_again;
        self.distrusted += other.distrusted;
        self.peer_alerts += other.peer_alerts;
        self.handshake_timeouts += other.handshake_timeouts;
        self.handshake_errors += other.handshake_errors;
        self.half_open_evicted += other.half_open_evicted;
        self.prefix_budget_exceeded += other.prefix_budget_exceeded;
        self.global_budget_exceeded += other.global_budget_exceeded;
        self.table_full += other.table_full;
        self.restarted += other.restarted;
        self.hellos_ignored += other.hellos_ignored;
        self.glare_kept += other.glare_kept;
        self.glare_yielded += other.glare_yielded;
        self.insisted += other.insisted;
        self.begun_anew += other.begun_anew;
        self.forged_alerts += other.forged_alerts;
        self.late_plaintext += other.late_plaintext;
        self.repeats_withheld += other.repeats_withheld;
        self.certificate_evicted += other.certificate_evicted;
        self.amplification_held += other.amplification_held;
        self.amplification_dropped += other.amplification_dropped;
        self.messages_received += other.messages_received;
        self.messages_sent += other.messages_sent;
        self.closed_by_peer += other.closed_by_peer;
        self.closed_by_us += other.closed_by_us;
        self.idle += other.idle;
        self.replaced += other.replaced;
        self.retransmissions += other.retransmissions;
    }
}
