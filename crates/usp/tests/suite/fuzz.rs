//! The fuzz bodies over the corpus, every sample, and seeded mutations of both: nothing panics, every round trip holds.

use homefleet_usp::{Message, Record, fuzz};

use crate::{
    replay::{corpus, replay},
    samples,
};

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = corpus("usp");
    seeds.extend(samples::messages().iter().map(Message::encode));
    seeds.extend(samples::records().iter().map(Record::encode));
    seeds
}

#[test]
fn fuzz_codec_never_panics() {
    replay(&seeds(), 8_000, fuzz::codec);
}

#[test]
fn fuzz_machine_never_panics() {
    replay(&seeds(), 8_000, fuzz::machine);
}

#[test]
fn fuzz_sessions_never_panic() {
    let start = samples::start();
    replay(&seeds(), 8_000, |bytes| fuzz::sessions(start, bytes));
}
