//! The fuzz bodies over the corpus, over mutations of it, and over noise.

use homefleet_cmp::fuzz::codec;

use crate::replay::{corpus, replay};

#[test]
fn fuzz_codec_never_panics() {
    replay(&corpus("cmp/codec"), 2_000, codec);
}
