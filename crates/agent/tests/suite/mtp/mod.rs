//! Several MTPs: what the engine does with channels, ways and plans. Time is virtual, MTPs are scripted.

mod brokers;
mod errors;
mod model;
mod rollback;
mod ways;

use homefleet_agent::engine::{Peer, Source};
use homefleet_net::mtp::ChannelId;
use homefleet_trust::Basis;

use crate::bench::{Bench, CA, route};

/// Row of the controller.
pub(super) const ROW: &str = "Device.LocalAgent.Controller.1.";

/// Adds a WebSocket MTP to the controller; its row.
pub(super) fn add_websocket(bench: &mut Bench) -> String {
    let mtp = bench.add(
        &format!("{ROW}MTP."),
        &[("Protocol", "WebSocket"), ("Enable", "true")],
    );
    let websocket = format!("{mtp}WebSocket.");
    bench.set(&websocket, "Host", "c.example");
    bench.set(&websocket, "Path", "usp");
    mtp
}

/// Adds a STOMP connection, the agent's MTP at it, and the controller's.
pub(super) fn add_stomp(bench: &mut Bench) -> String {
    let connection = bench.add(
        "Device.STOMP.Connection.",
        &[
            ("Host", "broker.example"),
            ("Username", "agent"),
            ("Password", "hush"),
            ("Enable", "true"),
        ],
    );
    let reference = connection.trim_end_matches('.').to_owned();
    let own = bench.add("Device.LocalAgent.MTP.", &[("Protocol", "STOMP")]);
    bench.set(&format!("{own}STOMP."), "Reference", &reference);
    bench.set(&format!("{own}STOMP."), "Destination", "/queue/agent");
    bench.set(&own, "Enable", "true");
    let mtp = bench.add(&format!("{ROW}MTP."), &[("Protocol", "STOMP")]);
    bench.set(&format!("{mtp}STOMP."), "Reference", &reference);
    bench.set(&format!("{mtp}STOMP."), "Destination", "/queue/controller");
    bench.set(&mtp, "Enable", "true");
    reference
}

/// What comes over this channel from a peer with a certificate.
pub(super) fn from(channel: ChannelId, reply_to: &str) -> Source {
    Source {
        peer: Some(peer(Basis::TrustedCa)),
        channel: Some(channel),
        reply_to: Some(route(reply_to)),
    }
}

pub(super) fn peer(basis: Basis) -> Peer {
    Peer {
        basis,
        fingerprint: [1; 32],
        anchor: Some(CA),
        certificate: None,
    }
}
