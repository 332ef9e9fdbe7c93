//! What one idle association costs, measured in a process of its own.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use homefleet_net::dtls::{Config, Event, Role, Sessions, Verifier, Versions};
use homefleet_trust::Decision;

use crate::support::pair::{AGENT, CONTROLLER, addr, expect};
use crate::support::pki::Ca;

const SESSIONS: u32 = 10_000;
/// Most bytes that one may take of this process, all told.
const MOST: u64 = 40_000;
/// Says that this process measures, and which version.
const MEASURE: &str = "HOMEFLEET_MEASURE_SESSIONS";

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

/// Asks once and repeats the answer: what is measured here is not the decision.
struct Remembered {
    verifier: Arc<dyn Verifier>,
    decision: Mutex<Option<Decision>>,
}

impl Verifier for Remembered {
    fn verify(&self, chain: &[Vec<u8>], role: Role<'_>, cached: bool) -> Decision {
        let mut decision = self.decision.lock().unwrap();
        decision
            .get_or_insert_with(|| self.verifier.verify(chain, role, cached))
            .clone()
    }
}

fn remembered(ca: &Ca) -> Arc<Remembered> {
    Arc::new(Remembered {
        verifier: ca.verifier(),
        decision: Mutex::new(None),
    })
}

/// Establishes the sessions from one address each and gives the server's table.
fn fill(versions: Versions) -> (Sessions, u64) {
    let ca = Ca::new("Test CA");
    let config = Config {
        versions,
        max_per_certificate: usize::MAX,
        ..Config::default()
    };
    let mut server = Sessions::new(
        config.clone(),
        ca.endpoint(CONTROLLER).credentials(),
        remembered(&ca),
    )
    .unwrap();
    let mut client =
        Sessions::new(config, ca.endpoint(AGENT).credentials(), remembered(&ca)).unwrap();
    let to = addr(0);
    let mut now = Instant::now();
    let mut before = 0;
    for n in 0..SESSIONS + 100 {
        if n == 100 {
            // Tables, keys and the allocator's own start are paid for.
            before = resident();
        }
        let from = ([10, 0, (n >> 8) as u8, n as u8], 5684).into();
        let id = client
            .connect(now, to, expect("localhost", Some(CONTROLLER)))
            .unwrap();
        loop {
            let mut moved = false;
            while let Some(transmit) = client.poll_transmit() {
                moved = true;
                server.handle_input(now, from, &transmit.payload);
            }
            while let Some(transmit) = server.poll_transmit() {
                moved = true;
                client.handle_input(now, to, &transmit.payload);
            }
            if !moved {
                break;
            }
        }
        // Gone without a word: the server keeps its end.
        client.close(now, id);
        while client.poll_transmit().is_some() {}
        while client.poll_event().is_some() {}
        while let Some(event) = server.poll_event() {
            assert!(matches!(event, Event::Established { .. }), "{event:?}");
        }
        now += Duration::from_millis(10);
    }
    (server, before)
}

#[test]
fn idle_sessions_cost_little_memory() {
    if let Ok(which) = std::env::var(MEASURE) {
        let versions = if which == "1.2" {
            Versions::Dtls12
        } else {
            Versions::Dtls13
        };
        let (server, before) = fill(versions);
        let grown = resident().saturating_sub(before);
        assert_eq!(server.len(), SESSIONS as usize + 100);
        let each = grown / u64::from(SESSIONS);
        println!("DTLS {which}: {SESSIONS} idle sessions take {grown} bytes, {each} each");
        assert!(each < MOST, "{each} bytes");
        return;
    }
    for which in ["1.2", "1.3"] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory::idle_sessions_cost_little_memory"])
            .args(["--nocapture", "--test-threads=1"])
            .env(MEASURE, which)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        println!(
            "{}",
            said.lines()
                .find(|line| line.contains("idle"))
                .unwrap_or("")
        );
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
