//! What is told of a fleet: a line while it goes on, and the figures at the end.

use std::time::Duration;

use serde_json::{Value, json};

use super::fleet::{Histogram, Stats};

/// The shares of a distribution that are told.
const SHARES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

/// One line; `since` is the time since the last one, when `before` sessions were complete.
pub(crate) fn progress(stats: &Stats, age: Duration, since: Duration, before: u64) -> String {
    let mut text = format!(
        "{} s: {} with power, {} seen by the server, {} in a session; {:.0} sessions/s, {} failed; answer to Inform p50 {}, p99 {}",
        age.as_secs(),
        stats.powered,
        stats.contacted,
        stats.in_session,
        rate(stats.completed - before, since),
        stats.failures(),
        ms(stats.inform.percentile(0.5)),
        ms(stats.inform.percentile(0.99)),
    );
    if stats.outages > 0 {
        text.push_str(&format!("; {} back", stats.back.count()));
    }
    text
}

/// The figures for a person.
pub(crate) fn words(stats: &Stats, devices: u64, parameters: usize, age: Duration) -> String {
    let mut lines = vec![format!(
        "{devices} devices of {parameters} parameters for {:.1} s: {} seen by the server",
        age.as_secs_f64(),
        stats.contacted
    )];
    lines.push(format!(
        "sessions: {} begun, {} completed ({:.0}/s), {} failed",
        stats.begun,
        stats.completed,
        rate(stats.completed, age),
        stats.failures()
    ));
    for (reason, count) in &stats.failed {
        lines.push(format!("  {count} {reason}"));
    }
    for (what, times) in [
        ("answer to Inform", &stats.inform),
        ("whole session", &stats.session),
        ("back after the power came back", &stats.back),
    ] {
        if times.count() > 0 {
            lines.push(format!("{what}: {}", distribution(times)));
        }
    }
    let counted = |title: &str, all: Vec<(String, u64)>| {
        let all: Vec<String> = all
            .into_iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        (!all.is_empty()).then(|| format!("{title}: {}", all.join(", ")))
    };
    let names = |name: &&'static str| (*name).to_owned();
    lines.extend(counted(
        "events taken",
        stats.events.iter().map(|(k, v)| (k.clone(), *v)).collect(),
    ));
    lines.extend(counted(
        "requests of the server",
        stats.requests.iter().map(|(k, v)| (names(k), *v)).collect(),
    ));
    lines.extend(counted(
        "faults given",
        stats
            .faults
            .iter()
            .map(|(k, v)| (k.to_string(), *v))
            .collect(),
    ));
    let others = [
        (stats.calls, "Connection Requests taken"),
        (stats.refused_calls, "challenged or refused"),
        (stats.answered, "requests of devices answered"),
        (stats.refused, "refused"),
        (stats.transfers, "transfers"),
        (stats.failed_transfers, "failed transfers"),
        (stats.reboots, "restarts"),
        (stats.resets, "factory resets"),
        (stats.outages, "power failures of a device"),
    ];
    let others = others.into_iter().filter(|(count, _)| *count > 0);
    lines.extend(counted(
        "others",
        others
            .map(|(count, name)| (name.to_owned(), count))
            .collect(),
    ));
    lines.join("\n")
}

/// The figures for a program; times in milliseconds.
pub(crate) fn json(stats: &Stats, devices: u64, parameters: usize, age: Duration) -> Value {
    json!({
        "devices": devices,
        "parameters": parameters,
        "seconds": age.as_secs_f64(),
        "contacted": stats.contacted,
        "sessions": {
            "begun": stats.begun,
            "completed": stats.completed,
            "per_second": rate(stats.completed, age),
            "failed": stats.failures(),
            "reasons": stats.failed,
        },
        "inform_ms": times(&stats.inform),
        "session_ms": times(&stats.session),
        "back_ms": times(&stats.back),
        "events": stats.events,
        "requests": stats.requests,
        "faults": stats.faults,
        "device_requests": { "answered": stats.answered, "refused": stats.refused },
        "connection_requests": { "taken": stats.calls, "refused": stats.refused_calls },
        "transfers": { "done": stats.transfers, "failed": stats.failed_transfers },
        "restarts": stats.reboots,
        "factory_resets": stats.resets,
        "outages": stats.outages,
    })
}

pub(crate) fn times(times: &Histogram) -> Value {
    let mut all = json!({ "count": times.count() });
    if times.count() > 0 {
        all["mean"] = json!(times.mean().as_secs_f64() * 1e3);
        all["max"] = json!(times.max().as_secs_f64() * 1e3);
        for (name, share) in SHARES {
            all[name] = json!(times.percentile(share).as_secs_f64() * 1e3);
        }
    }
    all
}

pub(crate) fn distribution(times: &Histogram) -> String {
    let shares = SHARES.map(|(name, share)| format!("{name} {}", ms(times.percentile(share))));
    format!("{}, longest {}", shares.join(", "), ms(times.max()))
}

pub(crate) fn ms(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 10.0 => format!("{seconds:.1} s"),
        seconds => format!("{:.1} ms", seconds * 1e3),
    }
}

fn rate(count: u64, time: Duration) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = count as f64 / time.as_secs_f64().max(1e-9);
    rate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_happen_is_not_told() {
        let mut stats = Stats::default();
        let text = words(&stats, 3, 1000, Duration::from_secs(2));
        assert_eq!(
            text,
            "3 devices of 1000 parameters for 2.0 s: 0 seen by the server\n\
             sessions: 0 begun, 0 completed (0/s), 0 failed"
        );
        stats.completed = 8;
        stats.failed.insert("out of luck".to_owned(), 2);
        stats.inform.add(Duration::from_millis(4));
        stats.faults.insert(9002, 1);
        let text = words(&stats, 3, 1000, Duration::from_secs(2));
        for part in [
            "8 completed (4/s), 2 failed",
            "  2 out of luck",
            "answer to Inform: p50 4.0 ms",
            "faults given: 1 9002",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let json = json(&stats, 3, 1000, Duration::from_secs(2));
        assert_eq!(json["sessions"]["failed"], 2);
        assert_eq!(json["inform_ms"]["count"], 1);
        assert_eq!(json["back_ms"], json!({ "count": 0 }));
    }
}
