//! The fuzz bodies over the stored corpus and over seeded random mutations of it.

use homefleet_coap::{Stats, fuzz};

use crate::{
    replay::{corpus, replay},
    support::start,
};

#[test]
fn fuzz_codec_never_panics() {
    replay(&corpus("coap/codec"), 20_000, fuzz::codec);
}

#[test]
fn fuzz_machine_never_panics_and_forgets_everything() {
    replay(&corpus("coap/machine"), 3_000, |data| {
        fuzz::machine(start(), data);
    });
}

/// The scripts of the corpus come to the states that noise hardly reaches.
#[test]
fn the_corpus_reaches_deep_states() {
    type Counter = (&'static str, fn(&Stats) -> u64);
    const REACHED: [Counter; 32] = [
        ("5.05", |s| s.proxy_refused),
        ("4.05", |s| s.unknown_methods),
        ("4.02", |s| s.bad_options),
        ("5.03", |s| s.overload_refused),
        ("an exchange evicted", |s| s.exchanges_evicted),
        ("an exchange without answer", |s| s.unanswered),
        ("Empty ACKs", |s| s.separate_acks),
        ("duplicates answered again", |s| s.duplicates_replayed),
        ("duplicates ignored", |s| s.duplicates_ignored),
        ("message IDs forgotten at a bound", |s| s.dedup_evicted),
        ("responses nobody took", |s| s.responses_undelivered),
        ("RST for something of ours", |s| s.resets_received),
        ("responses of peers", |s| s.responses_in),
        ("time-outs", |s| s.timeouts),
        ("blocks received", |s| s.blocks_in),
        ("blocks sent", |s| s.blocks_out),
        ("4.08", |s| s.blocks_incomplete),
        ("4.13", |s| s.bodies_too_large),
        ("bad blocks", |s| s.bad_blocks),
        ("transfers evicted", |s| s.transfers_evicted),
        ("transfers expired", |s| s.transfers_expired),
        ("notifications sent", |s| s.notifications_out),
        ("notifications superseded", |s| s.notifications_superseded),
        ("notifications received", |s| s.notifications_in),
        ("stale notifications", |s| s.notifications_stale),
        ("observers refused", |s| s.observers_refused),
        ("challenges", |s| s.challenges),
        ("wrong Echo values", |s| s.echoes_invalid),
        ("Echo values sent back", |s| s.echoes_sent),
        ("limited answers", |s| s.amplification_limited),
        ("suppressed responses", |s| s.responses_suppressed),
        ("a crowded group", |s| s.leisurely_dropped),
    ];
    let stats: Vec<Stats> = corpus("coap/machine")
        .iter()
        .map(|script| fuzz::machine(start(), script))
        .collect();
    for (what, counter) in REACHED {
        assert!(stats.iter().any(|stats| counter(stats) > 0), "{what}");
    }
}
