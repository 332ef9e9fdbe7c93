//! The ETSI CoAP plugtest list with independent peers: our client against the servers of libcoap and aiocoap, and their clients against the
//! plugtest server. What a peer cannot do is left out; each test prints what it ran.
//!
//! The list itself, with every message inspected, is in the suite of `homefleet-coap`.

mod aiocoap;
mod client;
mod libcoap;
mod server;

use std::time::Duration;

/// How long one step may take, on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(60);
/// Foreign peers give up now and then when the machine is busy.
const TRIES: usize = 4;

/// The cases that one peer can play, and how they went.
struct Table {
    peer: &'static str,
    rows: Vec<(String, Result<(), String>)>,
}

impl Table {
    fn new(peer: &'static str) -> Table {
        let rows = Vec::new();
        Table { peer, rows }
    }

    /// Runs a case until it passes.
    fn case(&mut self, name: &str, mut case: impl FnMut() -> Result<(), String>) {
        let mut result = Ok(());
        for _ in 0..TRIES {
            result = case();
            if result.is_ok() {
                break;
            }
        }
        self.rows.push((name.to_owned(), result));
    }

    /// Prints the table; every case has to have passed.
    fn finish(self) {
        println!("ETSI plugtest list, {}:", self.peer);
        for (name, result) in &self.rows {
            match result {
                Ok(()) => println!("  TD_COAP_{name}: passed"),
                Err(problem) => println!("  TD_COAP_{name}: FAILED: {problem}"),
            }
        }
        let passed = self
            .rows
            .iter()
            .filter(|(_, result)| result.is_ok())
            .count();
        println!("  {passed} of {} passed", self.rows.len());
        assert_eq!(passed, self.rows.len());
    }
}

/// `Ok` when it holds, otherwise what it is about.
fn check(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
