//! Devices behind address translation: set up for STUN, found and woken (TR-111 Part 2).

use std::net::SocketAddr;
use std::time::Duration;

use homefleet_api::{
    Device as Shown, NewTask, Operation, Role, Task, TaskResult, TaskState, WakeAttempt, WakeWay,
};
use homefleet_cwmp::message::Notification;
use homefleet_cwmp::{EventCode, ValueType};
use homefleet_net::stun::{Device, DeviceConfig, DeviceEvent, StunSettings, Waker};
use homefleet_server::config::{Learn, UnknownCpes};
use homefleet_server::{Access, Config, RunningServer, Server};
use homefleet_tr111::connection_request::Last;
use tokio::sync::mpsc;

use crate::cpe::{Cpe, End, ID};
use crate::live::{Authority, WAIT, access, config};

const MS: &str = "Device.ManagementServer.";

/// The configuration of a server with STUN.
fn settings(directory: &tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Config {
    let authority = Authority::new("CA");
    let mut config = config(directory.path(), &authority, &authority);
    config.acs.listen = Some(([127, 0, 0, 1], 0).into());
    config.acs.unknown = UnknownCpes::Admit;
    config.stun.listen = Some(([127, 0, 0, 1], 0).into());
    config.stun.wait = 20;
    // Devices of these tests are on this very machine.
    config.acs.call_networks = vec!["127.0.0.0/8".to_owned()];
    change(&mut config);
    config
}

async fn start(change: impl FnOnce(&mut Config)) -> (tempfile::TempDir, RunningServer, Access) {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(settings(&directory, change)).await.unwrap();
    let access = access(&server, Role::Admin).await;
    (directory, server, access)
}

/// A device with the parameters of UDPConnReq:1 that says that it listens at `url`.
fn cpe(server: &RunningServer, url: &str) -> Cpe {
    let mut cpe = Cpe::new(server.acs_addr().unwrap());
    for (name, kind, value) in [
        ("UDPConnectionRequestAddress", ValueType::String, ""),
        (
            "UDPConnectionRequestAddressNotificationLimit",
            ValueType::UnsignedInt,
            "0",
        ),
        ("STUNEnable", ValueType::Boolean, "0"),
        ("STUNServerAddress", ValueType::String, "x"),
        ("STUNServerPort", ValueType::UnsignedInt, "3478"),
        ("STUNUsername", ValueType::String, ""),
        ("STUNPassword", ValueType::String, ""),
        ("STUNMaximumKeepAlivePeriod", ValueType::Int, "-1"),
        ("STUNMinimumKeepAlivePeriod", ValueType::UnsignedInt, "1"),
        ("NATDetected", ValueType::Boolean, "0"),
    ] {
        let entry = (kind, value.to_owned());
        cpe.model.insert(format!("{MS}{name}"), entry);
    }
    cpe.set(&format!("{MS}ConnectionRequestURL"), url);
    cpe
}

fn value<'a>(cpe: &'a Cpe, name: &str) -> &'a str {
    cpe.value(&format!("{MS}{name}"))
}

/// The other half of the device, as it was set up.
fn reachable(cpe: &Cpe, stun: SocketAddr, last: Last) -> (Device, mpsc::Receiver<DeviceEvent>) {
    let config = DeviceConfig {
        stun: Some(StunSettings {
            host: stun.ip().to_string(),
            port: value(cpe, "STUNServerPort").parse().unwrap(),
            username: value(cpe, "STUNUsername").to_owned(),
            password: value(cpe, "STUNPassword").as_bytes().to_vec(),
            minimum: Duration::from_secs(30),
            maximum: None,
        }),
        waker: waker(cpe),
    };
    Device::bind(([127, 0, 0, 1], 0).into(), config, last).unwrap()
}

fn waker(cpe: &Cpe) -> Waker {
    Waker {
        username: value(cpe, "ConnectionRequestUsername").to_owned(),
        password: value(cpe, "ConnectionRequestPassword").as_bytes().to_vec(),
    }
}

async fn woken(events: &mut mpsc::Receiver<DeviceEvent>) -> Last {
    loop {
        let event = tokio::time::timeout(WAIT, events.recv()).await;
        if let Some(DeviceEvent::Woken { last, .. }) = event.unwrap() {
            return last;
        }
    }
}

async fn wake(access: &Access, expires_in: u64) -> Task {
    let new = NewTask {
        operation: Operation::Wake {},
        expires_in: Some(expires_in),
    };
    access.submit(ID, new).await.unwrap()
}

async fn ended(access: &Access, task: &Task) -> Task {
    let task = access.wait_task(&task.id, WAIT).await.unwrap();
    assert!(task.state.is_final(), "{task:?}");
    task
}

/// What the registry says, once `wanted`.
async fn shown(access: &Access, wanted: impl Fn(&Shown) -> bool) -> Shown {
    let limit = tokio::time::Instant::now() + WAIT;
    loop {
        let device = access.device(ID).await.unwrap();
        if wanted(&device) {
            return device;
        }
        assert!(tokio::time::Instant::now() < limit, "{device:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn attempts(task: &Task) -> (&[WakeAttempt], &[String]) {
    match &task.result {
        Some(TaskResult::Wake { attempts, events }) => (attempts, events),
        _ => panic!("{task:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_set_up_for_stun_with_a_login_of_its_own() {
    let (_directory, server, access) = start(|config| {
        config.stun.advertise = Some("stun.example:3479".to_owned());
        (config.stun.minimum_period, config.stun.maximum_period) = (20, 200);
        config.stun.notification_limit = 7;
        config.subscribe.value_change = Vec::new();
    })
    .await;
    let mut cpe = cpe(&server, "");
    assert_eq!(cpe.session(EventCode::Bootstrap).await, End::Done);
    for (name, wanted) in [
        ("STUNEnable", "true"),
        ("STUNServerAddress", "stun.example"),
        ("STUNServerPort", "3479"),
        ("STUNMinimumKeepAlivePeriod", "20"),
        ("STUNMaximumKeepAlivePeriod", "200"),
        ("UDPConnectionRequestAddressNotificationLimit", "7"),
    ] {
        assert_eq!(value(&cpe, name), wanted, "{name}");
    }
    let login =
        |cpe: &Cpe| ["STUNUsername", "STUNPassword"].map(|name| value(cpe, name).to_owned());
    let first = login(&cpe);
    assert_eq!((first[0].len() % 4, first[1].len()), (0, 24));
    for name in ["UDPConnectionRequestAddress", "NATDetected"] {
        let told = cpe.attributes.remove(&format!("{MS}{name}"));
        assert_eq!(told.unwrap().notification, Notification::Active, "{name}");
    }
    // Once is enough; after a reset to what the factory made it, everything is given again, and nothing twice the same.
    assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
    assert_eq!(login(&cpe), first);
    let calls = value(&cpe, "ConnectionRequestPassword").to_owned();
    assert_eq!(cpe.session(EventCode::Bootstrap).await, End::Done);
    let second = login(&cpe);
    assert!(first[0] != second[0] && first[1] != second[1]);
    assert_ne!(value(&cpe, "ConnectionRequestPassword"), calls);
    assert_eq!(cpe.attributes.len(), 2);
    drop(access);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_knows_no_stun_is_managed_all_the_same() {
    let (_directory, server, access) = start(|config| {
        // Of what else devices are asked to tell, this one knows as little.
        config.subscribe.value_change.clear();
        config.home.enabled = false;
    })
    .await;
    let mut cpe = Cpe::new(server.acs_addr().unwrap());
    assert_eq!(cpe.session(EventCode::Bootstrap).await, End::Done);
    assert_eq!(value(&cpe, "ConnectionRequestUsername"), ID);
    // It is not asked again for what it does not know, until it starts anew.
    let asked = cpe.asked.len();
    assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
    assert_eq!(cpe.asked.len(), asked, "{:?}", cpe.asked);
    assert_eq!(cpe.session(EventCode::Boot).await, End::Done);
    assert_eq!(
        cpe.asked[asked..],
        ["SetParameterValues", "SetParameterAttributes"]
    );
    drop(access);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_woken_where_the_stun_server_saw_it() {
    let (directory, server, access) = start(|_| {}).await;
    let stun = server.stun_addr().unwrap();
    let url = "http://192.168.1.20:7547/x";
    let mut device = cpe(&server, url);
    assert_eq!(device.session(EventCode::Bootstrap).await, End::Done);
    let (socket, mut events) = reachable(&device, stun, Last::default());
    let here = socket.local_addr().to_string();
    let found = shown(&access, |it| it.cwmp.as_ref().unwrap().binding.is_some()).await;
    let binding = found.cwmp.unwrap().binding.unwrap();
    assert_eq!((&binding.address, binding.local), (&here, stun.to_string()));

    // It was seen elsewhere than it says that it is: there is translation in between, and TCP is not even tried.
    let task = wake(&access, 60).await;
    let last = woken(&mut events).await;
    assert_eq!(
        device.session(EventCode::ConnectionRequest).await,
        End::Done
    );
    let done = ended(&access, &task).await;
    let wanted = WakeAttempt {
        way: WakeWay::Udp,
        to: here.clone(),
        from: Some(stun.to_string()),
        copies: 3,
        outcome: "the device came".to_owned(),
    };
    let events_told = ["6 CONNECTION REQUEST".to_owned()];
    assert_eq!(attempts(&done), (&[wanted][..], &events_told[..]));

    // A task has it come in the same way.
    let get = Operation::Get {
        paths: vec!["Device.DeviceInfo.UpTime".to_owned()],
        max_depth: 0,
    };
    let new = NewTask {
        operation: get,
        expires_in: None,
    };
    let task = access.submit(ID, new).await.unwrap();
    let second = woken(&mut events).await;
    assert!(second.timestamp > last.timestamp);
    assert_eq!(
        device.session(EventCode::ConnectionRequest).await,
        End::Done
    );
    assert_eq!(ended(&access, &task).await.state, TaskState::Done);
    server.stop().await;

    // After a restart the binding is still known, and the next request is newer than the last.
    let again = settings(&directory, |config| config.stun.listen = Some(stun));
    let server = Server::start(again).await.unwrap();
    let access = access_of(&server).await;
    let task = wake(&access, 60).await;
    assert!(woken(&mut events).await.timestamp > second.timestamp);
    device.move_to(server.acs_addr().unwrap());
    assert_eq!(
        device.session(EventCode::ConnectionRequest).await,
        End::Done
    );
    assert_eq!(ended(&access, &task).await.state, TaskState::Done);
    server.stop().await;
}

async fn access_of(server: &RunningServer) -> Access {
    access(server, Role::Admin).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_woken_where_it_says_that_it_listens() {
    let (_directory, server, access) = start(|config| {
        config.stun.learn = Learn::Notification;
        config.stun.copies = 2;
    })
    .await;
    let mut device = cpe(&server, "http://192.168.1.20:7547/x");
    device.informs = vec![
        "ManagementServer.UDPConnectionRequestAddress",
        "ManagementServer.NATDetected",
    ];
    assert_eq!(device.session(EventCode::Bootstrap).await, End::Done);
    let config = DeviceConfig {
        stun: None,
        waker: waker(&device),
    };
    let (socket, mut events) =
        Device::bind(([127, 0, 0, 1], 0).into(), config, Last::default()).unwrap();
    // By name, as devices may.
    let told = format!("localhost:{}", socket.local_addr().port());
    device.set(&format!("{MS}UDPConnectionRequestAddress"), &told);
    device.set(&format!("{MS}NATDetected"), "1");
    assert_eq!(device.session(EventCode::ValueChange).await, End::Done);
    let cwmp = access.device(ID).await.unwrap().cwmp.unwrap();
    assert_eq!(cwmp.nat_detected, Some(true));
    assert_eq!(cwmp.udp_connection_request_address, Some(told.clone()));
    let task = wake(&access, 60).await;
    woken(&mut events).await;
    assert_eq!(
        device.session(EventCode::ConnectionRequest).await,
        End::Done
    );
    let done = ended(&access, &task).await;
    let (tried, _) = attempts(&done);
    assert_eq!(
        (tried.len(), tried[0].to.as_str(), tried[0].copies),
        (1, told.as_str(), 2)
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_come_is_told_with_what_was_tried() {
    let (_directory, server, access) = start(|config| config.stun.wait = 1).await;
    let mut device = cpe(&server, "http://127.0.0.1:1/x");
    device.informs = vec![
        "ManagementServer.UDPConnectionRequestAddress",
        "ManagementServer.NATDetected",
    ];
    device.set(&format!("{MS}UDPConnectionRequestAddress"), "127.0.0.1:9");
    assert_eq!(device.session(EventCode::Bootstrap).await, End::Done);
    let task = ended(&access, &wake(&access, 4).await).await;
    assert_eq!(task.state, TaskState::Expired);
    let said = task.error.unwrap().message;
    // No translation: TCP first, then UDP.
    assert!(said.contains("tcp to http://127.0.0.1:1/x: "), "{said}");
    let udp = format!(
        "udp to 127.0.0.1:9 from {}, 3 copies: no session within 1 s",
        server.stun_addr().unwrap()
    );
    assert!(said.contains(&udp), "{said}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_was_taken_away_proves_nothing_any_more() {
    let (_directory, server, access) = start(|_| {}).await;
    let stun = server.stun_addr().unwrap();
    let mut device = cpe(&server, "");
    assert_eq!(device.session(EventCode::Bootstrap).await, End::Done);
    let (_old, mut old_events) = reachable(&device, stun, Last::default());
    let first = shown(&access, |it| it.cwmp.as_ref().unwrap().binding.is_some()).await;
    assert_eq!(device.session(EventCode::Bootstrap).await, End::Done);
    let (_stale, mut events) = {
        // With the new login it is somewhere else, and that counts.
        let (socket, events) = reachable(&device, stun, Last::default());
        let here = socket.local_addr().to_string();
        shown(&access, |it| {
            let binding = it.cwmp.as_ref().unwrap().binding.as_ref();
            binding.is_some_and(|binding| binding.address == here)
        })
        .await;
        (socket, events)
    };
    let now = access.device(ID).await.unwrap();
    assert_ne!(first.cwmp.unwrap().binding, now.cwmp.unwrap().binding);
    let task = wake(&access, 60).await;
    woken(&mut events).await;
    assert_eq!(
        device.session(EventCode::ConnectionRequest).await,
        End::Done
    );
    assert_eq!(ended(&access, &task).await.state, TaskState::Done);
    while let Ok(event) = old_events.try_recv() {
        assert!(!matches!(event, DeviceEvent::Woken { .. }));
    }
    server.stop().await;
}
