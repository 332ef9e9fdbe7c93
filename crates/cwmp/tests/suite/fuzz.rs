//! The fuzz bodies over the corpus, every sample, and seeded mutations of both: nothing panics, every round trip holds.

use homefleet_cwmp::{Envelope, Header, Namespace, fuzz};

use crate::{
    replay::{corpus, replay},
    samples,
};

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = corpus("cwmp");
    seeds.extend(
        samples::messages()
            .into_iter()
            .map(|message| Envelope::new(Namespace::V1_2, Header::with_id("1"), message).encode()),
    );
    seeds
}

#[test]
fn fuzz_codec_never_panics() {
    replay(&seeds(), 4_000, fuzz::codec);
}
