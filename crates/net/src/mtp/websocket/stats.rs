//! What happened so far.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Counters of the binding since it was made.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct WebSocketStats {
            /// Sessions open now.
            pub sessions: u64,
            /// Connections that have not come to a session yet, now.
            pub half_open: u64,
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
        }

        impl Counters {
            pub(super) fn read(&self, sessions: usize, half_open: usize) -> WebSocketStats {
                WebSocketStats {
                    sessions: sessions as u64,
                    half_open: half_open as u64,
                    $($name: self.$name.load(Ordering::Relaxed),)*
                }
            }
        }
    };
}

counters! {
    /// Sessions that we opened.
    opened,
    /// Sessions that peers opened.
    accepted,
    /// Attempts of ours that came to no session.
    dials_failed,
    /// Connections of peers whose TLS handshake failed or whose certificate was refused.
    tls_failed,
    /// Requests with a certificate in a header (RFC 9440) from who is no proxy of ours; refused.
    certificates_refused,
    /// Opening handshakes of peers that were answered with an error: not a WebSocket request, another path, no subprotocol, a
    /// wrong Endpoint ID.
    handshakes_refused,
    /// Connections of peers that did not get through the opening handshake in time.
    handshakes_late,
    /// Connections turned away because of their prefix, or because there were too many sessions.
    turned_away,
    /// Connections dropped before they became a session, because there were too many of them.
    evicted,
    /// Sessions that another one with the same Endpoint took the place of (R-WS.4).
    replaced,
    /// Sessions ended because of a text message or one that is no Record (1003, R-WS.16).
    unextractable,
    /// Sessions ended because of a message that is too large (1009).
    too_large,
    /// Sessions ended because of what breaks the WebSocket protocol (1002).
    protocol_errors,
    /// Sessions ended because the peer is not, or is no longer, trusted (1008).
    distrusted,
    /// Sessions ended because nothing came after a Ping (R-WS.17), or nothing was read for too long.
    unresponsive,
    /// Sessions whose connection ended without Close.
    lost,
    /// Records handed to the application.
    records_in,
    /// Records written to a connection.
    records_out,
    /// Records handed to the application as wrong.
    erroneous_records,
    /// Records whose `from_id` is not the Endpoint of the session; dropped.
    forged_records,
    /// Records not taken for sending because too much waited to be written.
    busy,
    /// Times that a session was not read because the application had not taken what came before.
    held_back,
    /// Pings sent.
    pings_out,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn add(counter: &AtomicU64, more: u64) {
    if more > 0 {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}
