//! The fuzz bodies over the stored corpus and over seeded random mutations of it.

use homefleet_tr111::fuzz;

use crate::{
    replay::{corpus, replay},
    world::start,
};

#[test]
fn fuzz_stun_never_panics() {
    replay(&corpus("tr111/stun"), 20_000, fuzz::stun);
}

#[test]
fn fuzz_requests_never_panic() {
    replay(&corpus("tr111/requests"), 20_000, fuzz::requests);
}

#[test]
fn fuzz_machines_never_panic_and_send_to_no_third_party() {
    let now = start();
    replay(&corpus("tr111/stun"), 3_000, |data| {
        fuzz::machines(now, data)
    });
}
