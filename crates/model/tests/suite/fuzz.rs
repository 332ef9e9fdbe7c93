//! The fuzz bodies over the corpus and seeded mutations of it: nothing panics, every round trip holds.

use homefleet_model::fuzz;

use crate::replay::{corpus, replay};

#[test]
fn fuzz_codec_never_panics() {
    let mut seeds = corpus("model");
    for seed in corpus("model") {
        seeds.extend(seed.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
    }
    replay(&seeds, 2_000, fuzz::codec);
}

#[test]
fn fuzz_machine_never_panics() {
    replay(&corpus("model"), 800, fuzz::machine);
}
