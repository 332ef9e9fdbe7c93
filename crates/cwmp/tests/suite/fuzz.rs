//! The fuzz bodies over the corpus, every sample, and seeded mutations of both: nothing panics, every round trip holds.

use homefleet_cwmp::{Envelope, Header, Namespace, fuzz};

use crate::{
    replay::{corpus, replay},
    samples, world,
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

#[test]
fn fuzz_machines_never_panic() {
    let start = world::start();
    replay(&world::scripts(), 6_000, |bytes| {
        fuzz::machines(start, bytes)
    });
}

#[test]
fn fuzz_logins_never_panic() {
    let start = world::start();
    let seeds: Vec<Vec<u8>> = [
        "Digest realm=\"realm\", nonce=\"n\", qop=\"auth,auth-int\", stale=true\nDigest username=\"user\", realm=\"realm\", nonce=\"n\", uri=\"/\", response=\"0\", qop=auth, nc=00000001, cnonce=\"c\"",
        "Basic realm=\"realm\"\nBasic dXNlcjpwYXNzd29yZA==",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    replay(&seeds, 4_000, |bytes| {
        fuzz::logins(start, &String::from_utf8_lossy(bytes))
    });
}
