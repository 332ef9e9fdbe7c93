//! The fuzz bodies over the stored corpus and over seeded random mutations of it.

use homefleet_coap::fuzz;

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
