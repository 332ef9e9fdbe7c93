//! The fuzz bodies over the corpus, over mutations of it, and over noise.

use homefleet_cmp::fuzz::{codec, machine};

use crate::{
    replay::{corpus, replay},
    world::moment,
};

#[test]
fn fuzz_codec_never_panics() {
    replay(&corpus("cmp/codec"), 2_000, codec);
}

#[test]
fn fuzz_machine_never_panics() {
    let now = moment().now;
    replay(&corpus("cmp/machine"), 1_000, |data| machine(data, now));
}
