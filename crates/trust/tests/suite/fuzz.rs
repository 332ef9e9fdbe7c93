//! The fuzz bodies over the corpus, over mutations of it, and over noise.

use homefleet_trust::fuzz::{codec, evidence, machine};

use crate::{
    evidence::instant,
    replay::{corpus, replay},
};

#[test]
fn fuzz_codec_never_panics() {
    replay(&corpus("trust/codec"), 30_000, codec);
}

#[test]
fn fuzz_machine_never_panics() {
    replay(&corpus("trust/machine"), 1_500, machine);
}

#[test]
fn fuzz_evidence_never_panics() {
    let at = instant();
    replay(&corpus("trust/evidence"), 1_500, |data| evidence(data, at));
}
