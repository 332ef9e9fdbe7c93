//! Time series in their file.

use std::time::Duration;

use homefleet_server::clock::Millis;
use homefleet_server::telemetry::envelope::Leaf;
use homefleet_server::telemetry::series::{
    Bucket, Sampled, SeriesLimits, SeriesQuery, SeriesStore,
};
use tempfile::TempDir;

use crate::common::START;

const DEVICE: &str = "os::00D09E-1";

fn limits() -> SeriesLimits {
    SeriesLimits {
        keep: Duration::from_secs(7 * 86_400),
        raw: Duration::from_secs(86_400),
        per_device: 10,
        total: 1_000_000,
    }
}

fn open(directory: &TempDir, limits: SeriesLimits) -> SeriesStore {
    SeriesStore::open(&directory.path().join("telemetry.sqlite"), limits).unwrap()
}

fn at(seconds: u64) -> Millis {
    START.plus(Duration::from_secs(seconds))
}

fn sample(device: &str, time: Millis, leaves: &[(&str, f64)]) -> Sampled {
    let leaves = leaves.iter();
    Sampled {
        device: device.to_owned(),
        time,
        leaves: leaves
            .map(|(path, value)| Leaf {
                path: (*path).to_owned(),
                value: *value,
            })
            .collect(),
    }
}

async fn points(
    store: &SeriesStore,
    path: &str,
    from: u64,
    to: u64,
    step: u64,
) -> Option<Vec<Bucket>> {
    let query = SeriesQuery {
        device: DEVICE.to_owned(),
        path: path.to_owned(),
        from: at(from),
        to: at(to),
        step: step * 1000,
    };
    store.points(query).await.unwrap()
}

#[tokio::test]
async fn numbers_come_back_by_step_with_least_mean_most_and_last() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory, limits());
    for second in 0..20 {
        #[allow(clippy::cast_precision_loss)]
        let value = if second == 3 { 100.0 } else { second as f64 };
        store.add(sample(DEVICE, at(second), &[("a/b", value)]));
    }
    store.sync(None);
    let buckets = points(&store, "a/b", 0, 20, 10).await.unwrap();
    assert_eq!(
        buckets,
        [
            Bucket {
                time: at(0),
                count: 10,
                least: 0.0,
                mean: 14.2,
                most: 100.0,
                last: 9.0
            },
            Bucket {
                time: at(10),
                count: 10,
                least: 10.0,
                mean: 14.5,
                most: 19.0,
                last: 19.0
            },
        ]
    );
    assert_eq!(points(&store, "a/b", 5, 7, 1).await.unwrap().len(), 2);
    assert_eq!(points(&store, "a/c", 0, 20, 10).await, None);
    let list = store.list(DEVICE).await.unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!(
        (list[0].first, list[0].last, list[0].value),
        (at(0), at(19), 19.0)
    );
}

#[tokio::test]
async fn a_device_has_a_bounded_number_of_series_and_others_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory, limits());
    let names: Vec<String> = (0..15).map(|number| format!("leaf{number}")).collect();
    let leaves: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
    store.add(sample(DEVICE, at(0), &leaves));
    store.add(sample("os::other", at(0), &leaves[..3]));
    store.sync(None);
    let stats = store.stats();
    assert_eq!(
        (stats.series, stats.written, stats.refused, stats.points),
        (13, 13, 5, 13)
    );
    store.remove(DEVICE);
    store.sync(None);
    assert_eq!(store.stats().points, 3);
    assert!(store.list(DEVICE).await.unwrap().is_empty());
    assert_eq!(store.list("os::other").await.unwrap().len(), 3);
}

#[tokio::test]
async fn old_points_become_one_for_five_minutes_and_then_go() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory, limits());
    // START is not at the begin of five minutes' worth for sure: the first that is.
    let base = START.0.div_ceil(300_000) * 300_000 - START.0;
    let base = base / 1000;
    for second in 0..600 {
        #[allow(clippy::cast_precision_loss)]
        let value = second as f64;
        store.add(sample(DEVICE, at(base + second), &[("a", value)]));
    }
    store.sync(None);
    assert_eq!(store.stats().points, 600);
    let day = 86_400;
    store.sync(Some(at(base + day + 600)));
    assert_eq!(store.stats().points, 2);
    let buckets = points(&store, "a", base, base + 600, 300).await.unwrap();
    assert_eq!(
        buckets,
        [
            Bucket {
                time: at(base),
                count: 300,
                least: 0.0,
                mean: 149.5,
                most: 299.0,
                last: 299.0
            },
            Bucket {
                time: at(base + 300),
                count: 300,
                least: 300.0,
                mean: 449.5,
                most: 599.0,
                last: 599.0
            },
        ]
    );
    // Again is the same.
    store.sync(Some(at(base + day + 700)));
    assert_eq!(store.stats().points, 2);
    store.sync(Some(at(base + 7 * day + 300)));
    assert_eq!(store.stats().points, 1);
    store.sync(Some(at(base + 8 * day)));
    let stats = store.stats();
    assert_eq!((stats.points, stats.series, stats.failures), (0, 0, 0));
}

#[tokio::test]
async fn too_many_points_in_all_lose_the_oldest() {
    let directory = tempfile::tempdir().unwrap();
    let bounded = SeriesLimits {
        total: 50,
        ..limits()
    };
    let store = open(&directory, bounded);
    for second in 0..100 {
        store.add(sample(DEVICE, at(second), &[("a", 1.0)]));
    }
    store.sync(Some(at(100)));
    let left = points(&store, "a", 0, 100, 1).await.unwrap();
    assert!(!left.is_empty() && left.len() <= 50, "{}", left.len());
    assert_eq!(left.last().unwrap().time, at(99));
    assert_eq!(store.stats().points, left.len() as u64);
}

#[tokio::test]
async fn a_restart_keeps_what_was_written_and_a_second_value_of_a_moment_wins() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory, limits());
    store.add(sample(DEVICE, at(0), &[("a", 1.0)]));
    store.add(sample(DEVICE, at(0), &[("a", 2.0)]));
    // What comes late belongs to its own time.
    store.add(sample(DEVICE, at(10), &[("a", 3.0)]));
    store.add(sample(DEVICE, at(5), &[("a", 9.0)]));
    store.close();
    store.add(sample(DEVICE, at(11), &[("a", 9.0)]));
    assert_eq!(store.stats().dropped, 1);
    drop(store);
    let store = open(&directory, limits());
    let values: Vec<f64> = points(&store, "a", 0, 20, 1)
        .await
        .unwrap()
        .iter()
        .map(|bucket| bucket.last)
        .collect();
    assert_eq!(values, [2.0, 9.0, 3.0]);
    assert_eq!(store.list(DEVICE).await.unwrap()[0].value, 3.0);
    assert_eq!(store.stats().points, 3);
}

#[tokio::test]
async fn more_points_than_may_wait_are_dropped_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory, limits());
    let leaves = |number| {
        let leaf = Leaf {
            path: "a".to_owned(),
            value: 1.0,
        };
        vec![leaf; number]
    };
    let add = |number, second| {
        store.add(Sampled {
            device: DEVICE.to_owned(),
            time: at(second),
            leaves: leaves(number),
        });
    };
    add(250_000, 0);
    add(1000, 1);
    store.sync(None);
    let stats = store.stats();
    assert_eq!((stats.dropped, stats.written), (250_000, 1000));
    // What was dropped does not wait for ever.
    add(150_000, 2);
    store.sync(None);
    assert_eq!(store.stats().written, 151_000);
}
