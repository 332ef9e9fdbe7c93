//! The power fails where ten thousand devices are; an operator reads meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use homefleet_api::client::Client as Operator;
use homefleet_api::{NewTask, Operation, TaskState};

use crate::fleet::{Fleet, Histogram};
use crate::process::{process_cpu, resident};
use crate::{Place, id, runtime};

/// Devices without power.
const DEVICES: u64 = 10_000;
/// Devices elsewhere, which the operator reads.
const ELSEWHERE: u64 = 100;
/// The time over which the devices come for the first time.
const RAMP: Duration = Duration::from_secs(60);
/// How long there is no power.
const OUTAGE: Duration = Duration::from_secs(5);
/// The time over which devices are up again.
const SPREAD: Duration = Duration::from_secs(20);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two readings of the operator.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) fn run() {
    let place = Place::start(false);
    let runtime = runtime();
    let first = DEVICES + 1;
    let elsewhere = runtime
        .block_on(Fleet::start(place.plan(false, first, ELSEWHERE)))
        .unwrap();
    let mut plan = place.plan(false, 1, DEVICES);
    plan.ramp = RAMP;
    let begun = Instant::now();
    let fleet = runtime.block_on(Fleet::start(plan)).unwrap();
    until(|| fleet.stats().contacted == DEVICES && elsewhere.stats().contacted == ELSEWHERE);
    until(|| fleet.stats().in_session == 0);
    println!(
        "  {DEVICES} devices came for the first time within {:.1} s, spread over {:.0} s; {:.1} MB",
        begun.elapsed().as_secs_f64(),
        RAMP.as_secs_f64(),
        resident(place.server.pid()) as f64 / 1e6,
    );
    let stop = Arc::new(AtomicBool::new(false));
    let live = operator(&place, &stop, move |operator, number| {
        let new = NewTask {
            operation: Operation::Get {
                paths: vec!["Device.DeviceInfo.UpTime".to_owned()],
                max_depth: 0,
            },
            expires_in: None,
        };
        let device = id(first + number % ELSEWHERE);
        let task = operator
            .submit(&device, &new, Duration::from_secs(60))
            .unwrap();
        assert_eq!(task.state, TaskState::Done, "{task:?}");
    });
    let stored = operator(&place, &stop, |operator, number| {
        let device = id(1 + (number * 37) % DEVICES);
        operator.parameters(&device, None, None).unwrap();
    });
    let cpu = process_cpu(place.server.pid());
    let completed = fleet.stats().completed;
    fleet.cut_power(OUTAGE, SPREAD);
    until(|| fleet.stats().back.count() == DEVICES);
    until(|| fleet.stats().in_session == 0);
    let cpu = process_cpu(place.server.pid()) - cpu;
    stop.store(true, Ordering::Relaxed);
    let (live, stored) = (live.join().unwrap(), stored.join().unwrap());
    let stats = fleet.stats();
    let sessions = stats.completed - completed;
    println!(
        "  power back, devices up within {:.0} s: the last one's Inform is answered after {:.1} s; {sessions} sessions, {} failed; {:.3} ms of server CPU each",
        SPREAD.as_secs_f64(),
        stats.back.max().as_secs_f64(),
        stats.failures(),
        cpu.as_secs_f64() * 1e3 / f64::from(u32::try_from(sessions.max(1)).unwrap()),
    );
    for (what, times) in [
        ("answer to an Inform, first contact included", &stats.inform),
        (
            "an operator's reading of a device, over a Connection Request",
            &live,
        ),
        ("an operator's reading of what is stored", &stored),
    ] {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "  {what}: {} times, p50 {:.0} ms, p99 {:.0} ms, longest {:.0} ms",
            times.count(),
            ms(times.percentile(0.5)),
            ms(times.percentile(0.99)),
            ms(times.max()),
        );
    }
    println!(
        "  resident {:.1} MB",
        resident(place.server.pid()) as f64 / 1e6
    );
    drop((fleet, elsewhere));
    runtime.shutdown_background();
}

/// Somebody who reads again and again, and how long each took.
fn operator(
    place: &Place,
    stop: &Arc<AtomicBool>,
    read: impl Fn(&Operator, u64) + Send + 'static,
) -> JoinHandle<Histogram> {
    let operator = Operator::new(&place.http, Some(&place.token)).unwrap();
    let stop = stop.clone();
    std::thread::spawn(move || {
        let mut times = Histogram::default();
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let start = Instant::now();
            read(&operator, number);
            times.add(start.elapsed());
            std::thread::sleep(PAUSE);
        }
        times
    })
}

fn until(done: impl Fn() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < patience, "not within ten minutes");
        std::thread::sleep(Duration::from_millis(20));
    }
}
