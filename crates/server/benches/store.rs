//! Durable writes of the embedded store per second: each is on disk before it counts. `cargo bench -p homefleet-server --bench store`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Instant;

use homefleet_server::clock::Millis;
use homefleet_server::store::sqlite::SqliteStore;
use homefleet_server::store::{Batch, ParameterRecord, Store as _, Write};

const START: Millis = Millis(1_795_200_000_000);

fn value(path: &str, value: &str) -> ParameterRecord {
    ParameterRecord {
        path: path.to_owned(),
        value: value.to_owned(),
        seen: START,
    }
}

async fn rate(name: &str, rounds: u32, width: usize, batch: impl Fn(u32) -> Batch) {
    // Not on a memory file system: what is measured is reaching the disk.
    let directory =
        tempfile::tempdir_in(std::env::var_os("CARGO_TARGET_TMPDIR").unwrap_or_else(|| ".".into()))
            .unwrap();
    let store = SqliteStore::open(&directory.path().join("store.sqlite")).unwrap();
    let start = Instant::now();
    let mut waiting = std::collections::VecDeque::new();
    for round in 0..rounds {
        waiting.push_back(store.write(batch(round)));
        if waiting.len() >= width {
            waiting.pop_front().unwrap().await.unwrap();
        }
    }
    for write in waiting {
        write.await.unwrap();
    }
    let per_second = f64::from(rounds) / start.elapsed().as_secs_f64();
    println!("{name}, {width} at a time: {per_second:.0}/s durable");
}

#[tokio::main]
async fn main() {
    let upsert = |round: u32| {
        Batch::one(Write::Parameters {
            device: format!("os::{:05}", round % 10_000),
            values: vec![value("Device.DeviceInfo.UpTime", &round.to_string())],
            complete: Vec::new(),
        })
    };
    let notification = |round: u32| {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&round.to_be_bytes());
        Batch::one(Write::Notification {
            device: format!("os::{:05}", round % 10_000),
            key: Some(key),
            time: START,
            values: vec![value("Device.DeviceInfo.UpTime", &round.to_string())],
            removed: Vec::new(),
        })
    };
    rate("upserts", 200, 1, upsert).await;
    rate("upserts", 100_000, 1024, upsert).await;
    rate("notifications", 100_000, 1024, notification).await;
}
