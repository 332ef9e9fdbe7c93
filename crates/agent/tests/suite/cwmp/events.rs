//! Why sessions are, and what outlives a restart (TR-069 §3.7.1.5).

use std::time::Duration;

use homefleet_agent::{
    cwmp::{AcsAction, AcsEvent, Answer},
    store::Store,
};
use homefleet_cwmp::{
    Message, ValueType,
    cpe::HttpFailure,
    message::{FactoryReset, Reboot, ScheduleInform},
};

use super::{
    ACS, ask, call, codes, happen, inform, posted, ready, session, set, settled, speaks, started,
    with,
};
use crate::bench::Bench;

#[test]
fn the_first_session_with_an_acs_says_bootstrap_and_boot_and_who_it_is() {
    let mut bench = started(with(|_| {}), Store::in_memory().unwrap());
    let (inform, []) = session(&mut bench, []);
    assert_eq!(codes(&inform), ["0 BOOTSTRAP", "1 BOOT"]);
    assert_eq!((inform.max_envelopes, inform.retry_count), (1, 0));
    assert!(inform.current_time.unix().is_some());
    for name in [
        "Device.RootDataModelVersion",
        "Device.ManagementServer.ParameterKey",
        "Device.ManagementServer.ConnectionRequestURL",
    ] {
        assert!(inform.values.value(name).is_some(), "{name} is forced");
    }
}

#[test]
fn bootstrap_is_said_until_it_is_confirmed_and_then_only_to_another_acs() {
    let directory = tempfile::tempdir().unwrap();
    let open = || started(with(|_| {}), Store::open(directory.path()).unwrap());
    let mut bench = open();
    assert!(speaks(&bench), "an Inform that nobody answers");
    drop(bench);
    bench = open();
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["0 BOOTSTRAP", "1 BOOT"]);
    drop(bench);
    bench = open();
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["1 BOOT"]);
    let url = (
        "Device.ManagementServer.URL",
        ValueType::String,
        "http://other/",
    );
    call(&mut bench, set(&[url]));
    let connects = AcsAction::Connect(Some(homefleet_agent::cwmp::AcsLink {
        url: "http://other/".into(),
        username: "device".into(),
        password: homefleet_agent::config::Secret::new("word"),
    }));
    assert!(bench.acs.contains(&connects), "{:?}", bench.acs);
    assert!(!speaks(&bench), "not before the way is there");
    ready(&mut bench);
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["0 BOOTSTRAP"]);
}

#[test]
fn a_call_begins_a_session_and_during_one_the_next() {
    let mut bench = settled();
    bench.engine.handle_connection_request(bench.now);
    bench.drain();
    let told = inform(&mut bench);
    assert_eq!(codes(&told), ["6 CONNECTION REQUEST"]);
    posted(&mut bench);
    // Twice while the session goes on: one more session.
    happen(&mut bench, AcsEvent::Called);
    happen(&mut bench, AcsEvent::Called);
    assert!(!speaks(&bench));
    super::end(&mut bench);
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["6 CONNECTION REQUEST"]);
    assert!(!speaks(&bench));
}

#[test]
fn a_device_without_an_acs_says_nothing_until_a_controller_names_one() {
    let mut bench = Bench::new();
    bench.pass(Duration::from_secs(100_000));
    assert!(!speaks(&bench));
    bench.set("Device.ManagementServer.", "URL", ACS);
    assert!(
        !bench
            .acs
            .iter()
            .any(|action| matches!(action, AcsAction::Connect(Some(_))))
    );
    bench.set("Device.ManagementServer.", "EnableCWMP", "true");
    ready(&mut bench);
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["0 BOOTSTRAP", "1 BOOT"]);
    assert_eq!(bench.value("Device.ManagementServer.URL"), ACS);
}

#[test]
fn a_reboot_comes_after_the_session_and_is_told_with_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let open = || started(with(|_| {}), Store::open(directory.path()).unwrap());
    let mut bench = open();
    session(&mut bench, []);
    happen(&mut bench, AcsEvent::Called);
    inform(&mut bench);
    posted(&mut bench);
    let command_key = "upgrade-7".to_owned();
    let answer = ask(&mut bench, Reboot { command_key });
    assert!(matches!(answer, Message::RebootResponse(_)));
    assert_eq!(bench.system.lock().unwrap().reboots, 0);
    super::end(&mut bench);
    assert_eq!(bench.system.lock().unwrap().reboots, 1);
    drop(bench);
    let mut bench = open();
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["1 BOOT", "M Reboot"]);
    assert_eq!(told.events[1].command_key, "upgrade-7");
    drop(bench);
    let mut bench = open();
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["1 BOOT"], "it is told once");
}

#[test]
fn after_a_factory_reset_the_device_knows_no_acs_but_that_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let open = || started(with(|_| {}), Store::open(directory.path()).unwrap());
    let mut bench = open();
    session(&mut bench, []);
    let name = "Device.X_Test.Label";
    call(&mut bench, set(&[(name, ValueType::String, "here")]));
    call(&mut bench, FactoryReset {});
    drop(bench);
    let mut bench = open();
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["0 BOOTSTRAP", "1 BOOT"]);
    assert_eq!(super::value(&mut bench, name), "");
}

#[test]
fn scheduled_informs_come_in_time_and_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = started(with(|_| {}), Store::open(directory.path()).unwrap());
    session(&mut bench, []);
    for (delay_seconds, key) in [(60, "soon"), (600, "later")] {
        let command_key = key.to_owned();
        let answer = call(
            &mut bench,
            ScheduleInform {
                delay_seconds,
                command_key,
            },
        );
        assert!(matches!(answer, Message::ScheduleInformResponse(_)));
    }
    bench.pass(Duration::from_secs(59));
    assert!(!speaks(&bench));
    bench.pass(Duration::from_secs(1));
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["3 SCHEDULED", "M ScheduleInform"]);
    assert_eq!(told.events[1].command_key, "soon");
    drop(bench);
    let mut bench = started(with(|_| {}), Store::open(directory.path()).unwrap());
    session(&mut bench, []);
    bench.pass(Duration::from_secs(600));
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["3 SCHEDULED", "M ScheduleInform"]);
    assert_eq!(told.events[1].command_key, "later");
    let command_key = String::new();
    let refused = call(
        &mut bench,
        ScheduleInform {
            delay_seconds: 0,
            command_key,
        },
    );
    assert_eq!(super::fault(refused).code.0, 9003);
}

#[test]
fn periodic_informs_follow_interval_and_reference() {
    let mut bench = settled();
    call(
        &mut bench,
        set(&[
            (
                "Device.ManagementServer.PeriodicInformEnable",
                ValueType::Boolean,
                "1",
            ),
            (
                "Device.ManagementServer.PeriodicInformInterval",
                ValueType::UnsignedInt,
                "300",
            ),
            // The bench's clock stands at 1,800,000,000.
            (
                "Device.ManagementServer.PeriodicInformTime",
                ValueType::DateTime,
                "2027-01-15T08:00:40Z",
            ),
        ]),
    );
    bench.pass(Duration::from_secs(39));
    assert!(!speaks(&bench));
    bench.pass(Duration::from_secs(1));
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["2 PERIODIC"]);
    bench.pass(Duration::from_secs(299));
    assert!(!speaks(&bench));
    bench.pass(Duration::from_secs(1));
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["2 PERIODIC"]);
}

#[test]
fn a_failed_session_is_tried_again_within_the_ranges_of_the_policy() {
    let mut bench = started(with(|_| {}), Store::in_memory().unwrap());
    let name = "CWMPRetryMinimumWaitInterval";
    bench.set("Device.ManagementServer.", name, "10");
    for (retry, range) in [(0, 10..=20), (1, 20..=40), (2, 40..=80)] {
        let envelope = super::decode(&posted(&mut bench));
        let Message::Inform(inform) = envelope.message else {
            panic!("no Inform")
        };
        assert_eq!(inform.retry_count, retry);
        let failure = Answer::Failed(HttpFailure::Connection);
        happen(&mut bench, AcsEvent::Reply(failure));
        assert!(!speaks(&bench));
        bench.pass(Duration::from_secs(range.start() - 1));
        assert!(!speaks(&bench), "not before {range:?}");
        bench.pass(Duration::from_secs(range.end() - range.start() + 1));
        assert!(speaks(&bench), "within {range:?}");
    }
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["0 BOOTSTRAP", "1 BOOT"]);
    assert_eq!(told.retry_count, 3);
}

#[test]
fn a_factory_reset_that_was_promised_is_done_after_a_power_cut_too() {
    let directory = tempfile::tempdir().unwrap();
    let open = || started(with(|_| {}), Store::open(directory.path()).unwrap());
    let mut bench = open();
    session(&mut bench, []);
    let name = "Device.X_Test.Label";
    call(&mut bench, set(&[(name, ValueType::String, "here")]));
    happen(&mut bench, AcsEvent::Called);
    inform(&mut bench);
    posted(&mut bench);
    let answer = ask(&mut bench, FactoryReset {});
    assert!(matches!(answer, Message::FactoryResetResponse(_)));
    // The power fails before the session is over.
    drop(bench);
    let mut bench = open();
    let (told, []) = session(&mut bench, []);
    assert_eq!(codes(&told), ["0 BOOTSTRAP", "1 BOOT"]);
    assert_eq!(super::value(&mut bench, name), "");
}

#[test]
fn a_device_that_speaks_no_cwmp_takes_no_calls_and_starts_no_session() {
    let mut bench = Bench::new();
    bench.engine.handle_connection_request(bench.now);
    bench.drain();
    assert!(!speaks(&bench));
    let listens = bench
        .acs
        .iter()
        .any(|action| matches!(action, AcsAction::Listen(login) if login.enabled));
    assert!(!listens, "without a name and a password nobody may call");
}
