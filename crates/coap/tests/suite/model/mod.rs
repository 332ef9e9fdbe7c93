//! A reference model of the endpoint, run against it under random transitions.
//!
//! [`World`] does things at random: peers ask, answer, fall silent and restart, the network loses, repeats and reorders, the application
//! answers early, late or never, and time passes. After each of them the [`reference`] says whether what the endpoint did is allowed, and whether
//! everything it had to do is done. A failure is made as short as possible and printed with all that happened.
//!
//! `HOMEFLEET_FUZZ_ROUNDS` says how many transitions, in runs of [`LENGTH`]; every run of the same number does the same.

mod peers;
mod reference;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use homefleet_coap::Stats;
use world::{Op, World};

/// A critical option that no endpoint here understands.
const CRITICAL: u16 = 9999;
/// Transitions of one run.
const LENGTH: usize = 400;
/// Transitions in all, unless `HOMEFLEET_FUZZ_ROUNDS` says otherwise.
const ROUNDS: usize = 80_000;

/// Does `ops` one by one, and lets everything end; what is wrong then.
fn run(ops: &[Op], log: bool) -> (Result<Stats, String>, Vec<String>) {
    let mut world = World::new(log);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        for op in ops {
            world.transition(op)?;
        }
        world.finish()
    }));
    let outcome = match outcome {
        Ok(Ok(())) => Ok(world.endpoint.stats()),
        Ok(Err(problem)) => Err(problem),
        Err(panic) => Err(match panic.downcast_ref::<String>() {
            Some(text) => format!("panic: {text}"),
            None => format!("panic: {:?}", panic.downcast_ref::<&str>()),
        }),
    };
    (outcome, world.log)
}

/// The first words of a problem: what kind it is.
fn kind(problem: &str) -> Vec<&str> {
    problem.split(' ').take(3).collect()
}

/// Leaves out whatever does not matter for the failure, in ever smaller pieces.
fn shrink(mut ops: Vec<Op>, problem: &str) -> Vec<Op> {
    let mut piece = ops.len() / 2;
    let mut tries = 5000;
    while piece > 0 && tries > 0 {
        let before = ops.len();
        let mut at = 0;
        while at < ops.len() && tries > 0 {
            tries -= 1;
            let mut fewer = ops.clone();
            fewer.drain(at..(at + piece).min(ops.len()));
            let fails = run(&fewer, false).0.err();
            if fails.is_some_and(|other| kind(&other) == kind(problem)) {
                ops = fewer;
            } else {
                at += piece;
            }
        }
        if ops.len() == before || piece > 1 {
            piece /= 2;
        }
    }
    ops
}

#[test]
fn fuzz_model_allows_everything_the_endpoint_does() {
    let rounds = match std::env::var("HOMEFLEET_FUZZ_ROUNDS") {
        Ok(text) => text.parse().expect("HOMEFLEET_FUZZ_ROUNDS is a number"),
        Err(_) => ROUNDS,
    };
    let runs = rounds.div_ceil(LENGTH) as u64;
    let mut seen = Vec::new();
    for seed in 0..runs {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let ops: Vec<Op> = (0..LENGTH).map(|_| Op::random(rng.next_u64())).collect();
        match run(&ops, false).0 {
            Ok(stats) => seen.push(stats),
            Err(problem) => {
                let ops = shrink(ops, &problem);
                let (outcome, log) = run(&ops, true);
                panic!(
                    "run {seed}: {problem}\nshrunk to {} transitions: {:?}\n{}",
                    ops.len(),
                    outcome.err(),
                    log.join("\n")
                );
            }
        }
    }
    // The runs went where it matters.
    let sum = |field: fn(&Stats) -> u64| seen.iter().map(field).sum::<u64>();
    for (what, count, least) in [
        ("requests delivered", sum(|s| s.requests_delivered), 20),
        ("duplicates replayed", sum(|s| s.duplicates_replayed), 5),
        ("duplicates ignored", sum(|s| s.duplicates_ignored), 1),
        ("Empty ACKs", sum(|s| s.separate_acks), 3),
        ("retransmissions", sum(|s| s.retransmissions), 20),
        ("responses", sum(|s| s.responses_in), 3),
        ("time-outs", sum(|s| s.timeouts), 1),
        ("RST received", sum(|s| s.resets_received), 1),
        ("blocks received", sum(|s| s.blocks_in), 5),
        ("blocks sent", sum(|s| s.blocks_out), 1),
        ("4.08", sum(|s| s.blocks_incomplete), 1),
        ("notifications sent", sum(|s| s.notifications_out), 1),
        ("notifications received", sum(|s| s.notifications_in), 1),
        ("superseded states", sum(|s| s.notifications_superseded), 0),
        ("stale notifications", sum(|s| s.notifications_stale), 0),
    ] {
        assert!(count >= least * runs / 2, "{what}: {count} in {runs} runs");
    }
}
