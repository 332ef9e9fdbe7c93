//! The fuzz bodies over the corpus, over mutations of it, and over noise.

use homefleet_notif::fuzz::{codec, machine};

use crate::replay::{corpus, replay};

#[test]
fn fuzz_codec_never_panics() {
    replay(&corpus("notif/codec"), 20_000, codec);
}

#[test]
fn fuzz_machine_never_panics() {
    let now = crate::now();
    replay(&corpus("notif/machine"), 5_000, |data| machine(data, now));
}
