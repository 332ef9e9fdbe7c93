//! What is counted of the proxy.

use homefleet_net::cmp::CoapStats;
use homefleet_net::cmp::proxy::{Health, ProxyStats, UpstreamStats};

use crate::metrics::Sample;

/// A number of each upstream: its name, its meaning, the number.
type Counter = (&'static str, &'static str, fn(&UpstreamStats) -> u64);

const COUNTERS: [Counter; 5] = [
    (
        "cmp_proxy_forwarded",
        "CMP messages passed on to an upstream",
        |it| it.forwarded,
    ),
    (
        "cmp_proxy_answered",
        "CMP messages that an upstream answered",
        |it| it.answered,
    ),
    (
        "cmp_proxy_failed",
        "CMP messages that an upstream did not answer",
        |it| it.failed,
    ),
    (
        "cmp_proxy_refused",
        "CMP messages that were not passed on to an upstream for what they are",
        |it| it.refused,
    ),
    (
        "cmp_proxy_busy",
        "CMP messages told to come again, because the upstream is busy or not there",
        |it| it.busy,
    ),
];

/// Samples of one name follow each other.
pub(super) fn of(
    coap: &CoapStats,
    counts: &ProxyStats,
    upstreams: &[UpstreamStats],
) -> Vec<Sample> {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let mut samples = vec![
        Sample::counter(
            "cmp_proxy_messages",
            "CMP messages that came to the proxy",
            coap.messages,
        ),
        Sample::counter(
            "cmp_proxy_rejected",
            "CoAP requests to the proxy that are none of CMP",
            coap.rejected,
        ),
        Sample::counter(
            "cmp_proxy_over_limit",
            "CoAP requests to the proxy that were told to come again later",
            coap.over_limit,
        ),
        Sample::gauge(
            "cmp_proxy_associations",
            "DTLS associations of the proxy",
            i64::try_from(coap.node.sessions).unwrap_or(i64::MAX),
        ),
        Sample::counter(
            "cmp_proxy_astray",
            "CMP messages that no route fits",
            counts.astray,
        ),
        Sample::counter(
            "cmp_proxy_forbidden",
            "CMP messages that none of the sender's roles allows",
            counts.forbidden,
        ),
        Sample::counter(
            "cmp_proxy_no_room",
            "CMP messages that there was no room for",
            counts.no_room,
        ),
        Sample::gauge(
            "cmp_proxy_held_bytes",
            "Bytes of CMP messages held for upstreams",
            number(counts.held),
        ),
    ];
    for (name, help, read) in COUNTERS {
        samples.extend(upstreams.iter().map(|upstream| {
            Sample::counter(name, help, read(upstream)).labelled("upstream", &upstream.name)
        }));
    }
    samples.extend(upstreams.iter().map(|upstream| {
        Sample::gauge(
            "cmp_proxy_under_way",
            "CMP messages that an upstream is to answer",
            number(upstream.under_way),
        )
        .labelled("upstream", &upstream.name)
    }));
    samples.extend(upstreams.iter().map(|upstream| {
        let up = matches!(upstream.health, Health::Good | Health::Unknown);
        Sample::gauge(
            "cmp_proxy_up",
            "Whether the upstream answered the last CMP message",
            i64::from(up),
        )
        .labelled("upstream", &upstream.name)
    }));
    samples
}
