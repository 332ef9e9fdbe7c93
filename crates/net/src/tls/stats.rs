//! What is counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a [`Tls`](super::Tls), since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsStats {
    /// Connections open now.
    pub open: u64,
    /// Handshakes begun by us.
    pub handshakes_out: u64,
    /// Handshakes begun by peers.
    pub handshakes_in: u64,
    /// Handshakes that ended well.
    pub established: u64,
    /// Of these, resumed.
    pub resumed: u64,
    /// Handshakes we refused because of the peer's certificate, or its absence.
    pub refused: u64,
    /// Times that the decision about a peer waited for evidence.
    pub held: u64,
    /// Of these, ended because it did not come in time, or because too many waited.
    pub undecided: u64,
    /// Open connections whose peer was judged anew.
    pub judged_again: u64,
    /// Open connections whose peer is not trusted any more.
    pub distrusted: u64,
    /// Handshakes that ended with an alert of the peer.
    pub peer_alerts: u64,
    /// Handshakes that took too long.
    pub handshake_timeouts: u64,
    /// Handshakes that failed otherwise.
    pub handshake_errors: u64,
    /// Handshakes of peers dropped at the bound.
    pub half_open_evicted: u64,
    /// Handshakes turned away: the prefix's budget was spent.
    pub prefix_budget_exceeded: u64,
    /// Handshakes turned away: the global budget was spent.
    pub global_budget_exceeded: u64,
}

macro_rules! counters {
    ($($name:ident),*) => {
        #[derive(Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
        }

        impl Counters {
            pub(super) fn read(&self, open: usize) -> TlsStats {
                TlsStats {
                    open: open as u64,
                    $($name: self.$name.load(Ordering::Relaxed),)*
                }
            }
        }
    };
}

counters!(
    handshakes_out,
    handshakes_in,
    established,
    resumed,
    refused,
    held,
    undecided,
    judged_again,
    distrusted,
    peer_alerts,
    handshake_timeouts,
    handshake_errors,
    half_open_evicted,
    prefix_budget_exceeded,
    global_budget_exceeded
);

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
