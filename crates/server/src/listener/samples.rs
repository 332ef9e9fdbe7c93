//! What the MTPs count, for `/metrics`.

use homefleet_api::{LinkState, Mtp, MtpStatus};
use homefleet_net::mtp::NetStats;
use homefleet_net::mtp::websocket::WebSocketStats;
use homefleet_net::tls::TlsStats;

use super::network::Network;
use crate::metrics::Sample;

/// A column of the numbers that every MTP has.
type Column = (&'static str, &'static str, fn(&MtpStatus) -> u64);

const COLUMNS: &[Column] = &[
    ("mtp_records_in", "USP Records received, by MTP", |mtp| {
        mtp.records_in
    }),
    ("mtp_records_out", "USP Records sent, by MTP", |mtp| {
        mtp.records_out
    }),
    (
        "mtp_records_failed",
        "USP Records that could not be sent, by MTP",
        |mtp| mtp.records_failed,
    ),
    (
        "mtp_erroneous",
        "What came and was no valid USP Record, by MTP",
        |mtp| mtp.erroneous,
    ),
    (
        "mtp_forged",
        "USP Records in the name of another Endpoint than the channel proves, or from a broker that is not trusted, by MTP",
        |mtp| mtp.forged,
    ),
];

impl Network {
    /// Everything that is counted.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        // How many devices are connected, the list of MTPs says.
        let mtps = self.status(|_| 0).mtps;
        let mut samples = Vec::new();
        for (name, help, value) in COLUMNS {
            for mtp in &mtps {
                samples.push(
                    Sample::counter(name, help, value(mtp)).labelled("mtp", mtp.mtp.as_str()),
                );
            }
        }
        let stats = self.mtps.stats();
        let mut made = Vec::new();
        if let Some(websocket) = stats.websocket {
            made.push((Mtp::Websocket, websocket.opened, websocket.dials_failed));
        }
        if let Some(stomp) = stats.stomp {
            made.push((Mtp::Stomp, stomp.connected, stomp.failed));
        }
        if let Some(mqtt) = stats.mqtt {
            made.push((Mtp::Mqtt, mqtt.connections, mqtt.connection_errors));
        }
        for mtp in &mtps {
            let kept = mtp.links.iter();
            let up = kept.filter(|link| link.state == LinkState::Up).count();
            let help = "Connections of this server to brokers and agents that are up, by MTP";
            let up = i64::try_from(up).unwrap_or(i64::MAX);
            samples.push(Sample::gauge("mtp_links_up", help, up).labelled("mtp", mtp.mtp.as_str()));
        }
        for (mtp, connected, _) in &made {
            let help = "Times that a connection of this server came up, by MTP";
            samples.push(
                Sample::counter("mtp_connected", help, *connected).labelled("mtp", mtp.as_str()),
            );
        }
        for (mtp, _, failed) in &made {
            let help = "Times that a connection of this server failed or ended, by MTP";
            samples.push(
                Sample::counter("mtp_connection_failures", help, *failed)
                    .labelled("mtp", mtp.as_str()),
            );
        }
        if let Some(coap) = stats.coap {
            samples.extend(coap_samples(&coap));
        }
        if let Some(websocket) = stats.websocket {
            samples.extend(websocket_samples(&websocket));
        }
        if let Some(tls) = stats.tls {
            samples.extend(tls_samples(&tls));
        }
        samples
    }
}

fn now(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn coap_samples(stats: &NetStats) -> Vec<Sample> {
    let dtls = stats.node.dtls;
    let (sessions, states) = ("sessions", "DTLS associations and handshakes now, by state");
    let open = stats.node.sessions.saturating_sub(stats.node.half_open);
    let mut samples = vec![
        Sample::gauge(sessions, states, now(open)).labelled("state", "open"),
        Sample::gauge(sessions, states, now(stats.node.half_open)).labelled("state", "half_open"),
        Sample::gauge(sessions, states, now(stats.node.held)).labelled("state", "held"),
    ];
    for (name, help, value) in [
        (
            "coap_queue_full",
            "USP Records turned away because of load",
            stats.queue_full,
        ),
        (
            "coap_not_found",
            "CoAP requests to other resources",
            stats.not_found,
        ),
        (
            "dtls_handshakes_in",
            "Handshakes begun by peers",
            dtls.handshakes_in,
        ),
        (
            "dtls_handshakes_out",
            "Handshakes begun by this server",
            dtls.handshakes_out,
        ),
        (
            "dtls_established",
            "Handshakes that ended well",
            dtls.established,
        ),
        ("dtls_resumed", "Of these, resumed", dtls.resumed),
        (
            "dtls_refused",
            "Handshakes refused because of the certificate",
            dtls.refused,
        ),
        (
            "dtls_distrusted",
            "Associations ended because their peer, judged again, was refused",
            dtls.distrusted,
        ),
        (
            "dtls_held",
            "Associations held because their decision waited for evidence",
            dtls.held,
        ),
        (
            "dtls_undecided",
            "Of these, ended because it did not come in time",
            dtls.undecided,
        ),
        (
            "dtls_peer_alerts",
            "Handshakes that the peer refused",
            dtls.peer_alerts,
        ),
        (
            "dtls_handshake_timeouts",
            "Handshakes that took too long",
            dtls.handshake_timeouts,
        ),
        (
            "dtls_prefix_budget_exceeded",
            "Handshakes turned away because the budget of their source was spent",
            dtls.prefix_budget_exceeded,
        ),
        (
            "dtls_global_budget_exceeded",
            "Handshakes turned away because the budget of all was spent",
            dtls.global_budget_exceeded,
        ),
        (
            "dtls_half_open_evicted",
            "Half-open handshakes dropped for newer ones",
            dtls.half_open_evicted,
        ),
        (
            "dtls_amplification_held",
            "Datagrams held back because the address had sent less than a third",
            dtls.amplification_held,
        ),
        (
            "dtls_amplification_dropped",
            "Datagrams dropped because the address had sent less than a third",
            dtls.amplification_dropped,
        ),
        (
            "dtls_patient",
            "Handshakes of clients that had been turned away because the budget of all was spent and came again",
            dtls.patient,
        ),
        (
            "dtls_forged_alerts",
            "Unprotected alerts in handshakes that went on all the same",
            dtls.forged_alerts,
        ),
        (
            "dtls_begun_anew",
            "Handshakes of this server begun anew after unprotected datagrams had spoilt them",
            dtls.begun_anew,
        ),
        (
            "dtls_certificate_evicted",
            "Associations closed because the same certificate had too many",
            dtls.certificate_evicted,
        ),
        (
            "dtls_judged_again",
            "Open associations whose peer was judged again",
            dtls.judged_again,
        ),
    ] {
        samples.push(Sample::counter(name, help, value));
    }
    samples
}

fn websocket_samples(websocket: &WebSocketStats) -> Vec<Sample> {
    let (sessions, states) = (
        "websocket_sessions",
        "WebSocket sessions and handshakes now, by state",
    );
    let mut samples = vec![
        Sample::gauge(sessions, states, now(websocket.sessions)).labelled("state", "open"),
        Sample::gauge(sessions, states, now(websocket.half_open)).labelled("state", "half_open"),
    ];
    for (name, help, value) in [
        (
            "websocket_accepted",
            "WebSocket sessions that devices opened",
            websocket.accepted,
        ),
        (
            "websocket_handshakes_refused",
            "Opening handshakes answered with an error",
            websocket.handshakes_refused,
        ),
        (
            "websocket_certificates_refused",
            "Requests with a certificate in a header from who is no proxy",
            websocket.certificates_refused,
        ),
        (
            "websocket_turned_away",
            "Connections turned away because there were too many",
            websocket.turned_away,
        ),
        (
            "websocket_replaced",
            "Sessions that another one with the same device took the place of",
            websocket.replaced,
        ),
        (
            "websocket_unextractable",
            "Sessions ended because of a message that is no Record",
            websocket.unextractable,
        ),
        (
            "websocket_too_large",
            "Sessions ended because of a message that is too large",
            websocket.too_large,
        ),
        (
            "websocket_protocol_errors",
            "Sessions ended because of what breaks the WebSocket protocol",
            websocket.protocol_errors,
        ),
        (
            "websocket_distrusted",
            "Sessions ended because the device is not trusted any more",
            websocket.distrusted,
        ),
        (
            "websocket_unresponsive",
            "Sessions ended because nothing came after a Ping, or nothing was read for too long",
            websocket.unresponsive,
        ),
        (
            "websocket_held_back",
            "Times that a session was not read because of load",
            websocket.held_back,
        ),
    ] {
        samples.push(Sample::counter(name, help, value));
    }
    samples
}

fn tls_samples(tls: &TlsStats) -> Vec<Sample> {
    let mut samples = vec![Sample::gauge(
        "tls_open",
        "TLS connections with devices and brokers that are open",
        now(tls.open),
    )];
    for (name, help, value) in [
        (
            "tls_handshakes_in",
            "TLS handshakes begun by peers",
            tls.handshakes_in,
        ),
        (
            "tls_handshakes_out",
            "TLS handshakes begun by this server",
            tls.handshakes_out,
        ),
        (
            "tls_established",
            "TLS handshakes that ended well",
            tls.established,
        ),
        ("tls_resumed", "Of these, resumed", tls.resumed),
        (
            "tls_refused",
            "TLS handshakes refused because of the certificate",
            tls.refused,
        ),
        (
            "tls_held",
            "Times that the decision about a TLS peer waited for evidence",
            tls.held,
        ),
        (
            "tls_undecided",
            "Of these, ended because it did not come in time",
            tls.undecided,
        ),
        (
            "tls_judged_again",
            "Open TLS connections whose peer was judged again",
            tls.judged_again,
        ),
        (
            "tls_distrusted",
            "TLS connections ended because their peer, judged again, was refused",
            tls.distrusted,
        ),
        (
            "tls_peer_alerts",
            "TLS handshakes that the peer refused",
            tls.peer_alerts,
        ),
        (
            "tls_handshake_timeouts",
            "TLS handshakes that took too long",
            tls.handshake_timeouts,
        ),
        (
            "tls_handshake_errors",
            "TLS handshakes that failed otherwise",
            tls.handshake_errors,
        ),
        (
            "tls_half_open_evicted",
            "TLS handshakes dropped for newer ones",
            tls.half_open_evicted,
        ),
        (
            "tls_prefix_budget_exceeded",
            "TLS handshakes turned away because the budget of their source was spent",
            tls.prefix_budget_exceeded,
        ),
        (
            "tls_global_budget_exceeded",
            "TLS handshakes turned away because the budget of all was spent",
            tls.global_budget_exceeded,
        ),
    ] {
        samples.push(Sample::counter(name, help, value));
    }
    samples
}
