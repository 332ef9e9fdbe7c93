//! What a session costs the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use homefleet_api::client::Client as Operator;
use homefleet_api::{NewTask, Operation, TaskState};
use homefleet_cwmp::message::{DeviceId, Inform};
use homefleet_cwmp::{
    DateTime, Envelope, Event, EventCode, Header, Namespace, ParameterValues, Value,
};
use homefleet_net::cwmp::{Answer, Client, ClientConfig};

use crate::fleet::Fleet;
use crate::process::{process_cpu, resident};
use crate::{LOGIN, PASSWORD, Place, id, runtime};

/// Devices that the server knows with all their parameters.
const DEVICES: u64 = 200;
/// Devices in a session at a time.
const AT_ONCE: u64 = 16;
/// How long is measured.
const MEASURE: Duration = Duration::from_secs(10);
/// For tables and the store's cache to warm up.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long anything may take before.
const PATIENCE: Duration = Duration::from_secs(120);

/// A kind of session.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    label: &'static str,
    /// One value is another each time.
    changes: bool,
    login: bool,
}

pub(crate) const KINDS: [Kind; 3] = [
    Kind {
        name: "inform",
        label: "2 PERIODIC, nothing has changed",
        changes: false,
        login: false,
    },
    Kind {
        name: "change",
        label: "4 VALUE CHANGE, one value is new",
        changes: true,
        login: false,
    },
    Kind {
        name: "login",
        label: "2 PERIODIC, with the challenge of a Digest login",
        changes: false,
        login: true,
    },
];

pub(crate) fn run(kind: &Kind) {
    let place = Place::start(kind.login);
    let parameters = learn(&place, kind.login);
    let runtime = runtime();
    let done = Arc::new(AtomicU64::new(0));
    runtime.block_on(async {
        for lane in 0..AT_ONCE {
            let (acs, done) = (place.acs.clone(), done.clone());
            let (changes, login) = (kind.changes, kind.login);
            tokio::spawn(async move {
                let own = (1..=DEVICES).filter(|number| number % AT_ONCE == lane);
                let own: Vec<u64> = own.collect();
                for round in 0_u64.. {
                    for number in &own {
                        session(&acs, *number, changes.then_some(round), login).await;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        tokio::time::sleep(WARM_UP).await;
        let pid = place.server.pid();
        let (before, cpu, start) = (
            done.load(Ordering::Relaxed),
            process_cpu(pid),
            Instant::now(),
        );
        tokio::time::sleep(MEASURE).await;
        let sessions = done.load(Ordering::Relaxed) - before;
        let cpu = process_cpu(pid) - cpu;
        let sessions = f64::from(u32::try_from(sessions.max(1)).unwrap());
        let each = cpu.as_secs_f64() * 1e3 / sessions;
        println!(
            "  {:<50} {each:>6.3} ms of server CPU each; {:>6.0}/s here, {:>6.0}/s on two cores; {parameters} parameters of {DEVICES} devices; {:.1} MB",
            kind.label,
            sessions / start.elapsed().as_secs_f64(),
            2e3 / each,
            resident(pid) as f64 / 1e6,
        );
    });
    runtime.shutdown_background();
}

/// Has the devices come, and reads all that they have; how many parameters each has.
fn learn(place: &Place, login: bool) -> usize {
    let runtime = runtime();
    let fleet = runtime
        .block_on(Fleet::start(place.plan(login, 1, DEVICES)))
        .unwrap();
    let patience = Instant::now() + PATIENCE;
    while fleet.stats().completed < DEVICES {
        assert!(Instant::now() < patience, "{:?}", fleet.stats());
        std::thread::sleep(Duration::from_millis(20));
    }
    let operator = Operator::new(&place.http, Some(&place.token)).unwrap();
    let new = NewTask {
        operation: Operation::Get {
            paths: vec!["Device.".to_owned()],
            max_depth: 0,
        },
        expires_in: None,
    };
    for number in 1..=DEVICES {
        let task = operator
            .submit(&id(number), &new, Duration::from_secs(60))
            .unwrap();
        assert_eq!(task.state, TaskState::Done, "{task:?}");
    }
    fleet.parameters()
}

/// A session as a device has one when it has nothing more to say than why it comes.
async fn session(acs: &str, number: u64, change: Option<u64>, login: bool) {
    let mut config = ClientConfig::new(acs);
    if login {
        config.username = LOGIN.to_owned();
        config.password = PASSWORD.into();
    }
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    let mut client = Client::new(config, seed).unwrap();
    match client.post(inform(number, change)).await {
        Answer::Envelope(_) => {}
        other => panic!("the answer to an Inform: {other:?}"),
    }
    let end = client.post(Vec::new()).await;
    assert_eq!(end, Answer::Empty);
    client.close();
}

/// Ten parameters, as a gateway tells them.
fn inform(number: u64, change: Option<u64>) -> Vec<u8> {
    let change = change.map_or("100.64.0.1".to_owned(), |round| {
        format!("100.{}.{}.1", number % 200, round % 250)
    });
    let call = format!("http://127.0.0.1:7548/{number:016x}");
    let mut values = ParameterValues::new();
    for (name, text) in [
        ("RootDataModelVersion", "2.17"),
        ("DeviceInfo.HardwareVersion", "1.2"),
        ("DeviceInfo.SoftwareVersion", "3.4.1"),
        ("DeviceInfo.ProvisioningCode", ""),
        ("ManagementServer.ParameterKey", ""),
        ("ManagementServer.ConnectionRequestURL", &call),
        ("IP.Interface.1.IPv4Address.1.IPAddress", &change),
        ("IP.Interface.1.Status", "Up"),
        ("DSL.Line.1.Status", "Up"),
        ("DeviceInfo.ModelName", "Simulated gateway"),
    ] {
        values.push(&format!("Device.{name}"), Value::string(text));
    }
    let code = match change.as_str() {
        "100.64.0.1" => EventCode::Periodic,
        _ => EventCode::ValueChange,
    };
    let inform = Inform {
        device: DeviceId {
            manufacturer: "Homefleet".to_owned(),
            oui: "00D09E".to_owned(),
            product_class: "Bench".to_owned(),
            serial_number: format!("B{number:08}"),
        },
        events: vec![Event::new(code)],
        max_envelopes: 1,
        current_time: DateTime::UNKNOWN,
        retry_count: 0,
        values,
    };
    Envelope::new(Namespace::V1_2, Header::with_id("1".to_owned()), inform).encode()
}
