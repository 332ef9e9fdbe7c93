//! What one device, or one client, can do to the others: nothing.

use std::time::Duration;

use homefleet_api::{Operation, Role, TaskState};
use homefleet_server::clock::Millis;
use homefleet_server::controller::{Controller, Parcel, Transport};
use homefleet_server::core::{ParameterQuery, TaskQuery};
use homefleet_server::device::{Contact, Proof, Registry};
use homefleet_server::store::sqlite::SqliteStore;
use homefleet_server::store::{Batch, Limits, Parameters as _, Store as _, Write};
use homefleet_server::task::driver::Sending;
use homefleet_usp::Record;
use homefleet_usp::message::{Body, Message, Response};
use homefleet_usp::proto::msg;
use tokio::sync::mpsc;

use crate::common::{
    CONTROLLER, DEVICE, Lab, get, get_resp, notify, on_board, seconds, value, value_change,
};

/// A network in which nothing ever arrives.
struct Hole(mpsc::UnboundedSender<String>);

impl Transport for Hole {
    fn send(&self, parcel: Parcel) -> Sending {
        self.0.send(parcel.endpoint.to_string()).unwrap();
        Box::pin(std::future::pending())
    }
}

fn boot(msg_id: &str) -> Message {
    let event = msg::notify::Event {
        obj_path: "Device.".to_owned(),
        event_name: "Boot!".to_owned(),
        params: [].into(),
    };
    notify(msg_id, "b", false, msg::notify::Notification::Event(event))
}

#[tokio::test]
async fn a_device_that_takes_no_answers_leaves_room_for_those_of_others() {
    let lab = Lab::new().await;
    let (sent, mut answers) = mpsc::unbounded_channel();
    let controller = Controller::new(
        lab.core.clone(),
        CONTROLLER.parse().unwrap(),
        Box::new(Hole(sent)),
    );
    let tell = async |device: &str, id: u32| {
        let message = value_change(&id.to_string(), true, "Device.X", &id.to_string());
        let record = Record::no_session(
            CONTROLLER.parse().unwrap(),
            device.parse().unwrap(),
            message.encode(),
        );
        controller.accept(lab.incoming(record, true)).unwrap().await;
    };
    for id in 0..200 {
        tell("os::00D09E-9", id).await;
    }
    tell(DEVICE, 1).await;
    let to: Vec<String> = std::iter::from_fn(|| answers.try_recv().ok()).collect();
    assert_eq!(to.iter().filter(|to| *to == "os::00D09E-9").count(), 64);
    assert_eq!(to.iter().filter(|to| *to == DEVICE).count(), 1);
}

#[tokio::test]
async fn a_device_that_boots_without_end_is_read_twelve_times_an_hour() {
    let mut lab = Lab::new().await;
    lab.receive(DEVICE, on_board("1")).await;
    let mut reads = 0;
    for round in 0..30 {
        tokio::task::yield_now().await;
        while let Ok(request) = tokio::time::timeout(Duration::from_millis(200), lab.next()).await {
            if let Body::Request(_) = request.message.body {
                reads += 1;
                let response = get_resp(&[], "Device.DeviceInfo.");
                lab.receive(DEVICE, Message::response(request.message.id, response))
                    .await;
                break;
            }
        }
        lab.receive(DEVICE, boot(&format!("b{round}"))).await;
    }
    assert_eq!(reads, 12);
    lab.clock.advance(Duration::from_secs(3600));
    lab.receive(DEVICE, boot("later")).await;
    lab.next_request().await;
}

#[tokio::test]
async fn a_long_answer_to_an_own_task_is_not_kept_twice() {
    let mut lab = Lab::new().await;
    lab.receive(DEVICE, on_board("1")).await;
    let (id, _) = lab.next_request().await;
    let text = "x".repeat(1000);
    let names: Vec<String> = (0..100).map(|number| format!("P{number}")).collect();
    let params: Vec<(&str, &str)> = names.iter().map(|name| (&name[..], &text[..])).collect();
    let response = get_resp(&[("Device.DeviceInfo.", &params)], "Device.DeviceInfo.");
    lab.receive(DEVICE, Message::response(id, response)).await;
    let (access, _) = lab.access(Role::Viewer).await;
    let page = access.tasks(TaskQuery::default()).await.unwrap();
    let done: Vec<_> = page
        .tasks
        .iter()
        .filter(|task| task.state == TaskState::Done)
        .collect();
    assert_eq!(done.len(), 1);
    assert!(serde_json::to_string(done[0]).unwrap().len() < 4096);
    let values = access.parameters(DEVICE, ParameterQuery::default()).await;
    assert_eq!(values.unwrap().parameters.len(), 100);
}

#[tokio::test]
async fn what_a_device_says_of_itself_is_short() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    let path = "Device.DeviceInfo.SerialNumber";
    let long = "9".repeat(100_000);
    lab.receive(DEVICE, value_change("v1", true, path, &long))
        .await;
    let message = notify(
        "v2",
        "",
        true,
        msg::notify::Notification::OnBoardReq(msg::notify::OnBoardRequest {
            oui: long.clone(),
            product_class: long.clone(),
            serial_number: long.clone(),
            agent_supported_protocol_versions: "1.3,".repeat(100_000),
        }),
    );
    lab.receive(DEVICE, message).await;
    let (access, _) = lab.access(Role::Viewer).await;
    let device = access.device(DEVICE).await.unwrap();
    assert_eq!(device.summary.serial_number.as_deref(), Some("1"));
    assert_eq!(device.summary.oui.as_deref(), Some("00D09E"));
    assert!(device.protocol_versions.len() <= 32);
}

#[tokio::test]
async fn an_endless_value_is_not_kept_and_the_old_one_neither() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("store.sqlite")).unwrap();
    let long = "x".repeat(64 * 1024 + 1);
    let mut refused = Vec::new();
    for text in ["short", &long] {
        let write = Write::Parameters {
            device: DEVICE.to_owned(),
            values: vec![value("Device.A", text), value("Device.B", "1")],
            complete: Vec::new(),
        };
        refused.push(store.write(Batch::one(write)).await.unwrap().refused);
    }
    assert_eq!(refused, [0, 1]);
    assert_eq!(store.parameter_count(DEVICE).await.unwrap(), 1);
}

#[tokio::test]
async fn notifications_remembered_per_device_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let store = SqliteStore::open(&path).unwrap();
    let tell = |number: u64| Write::Notification {
        device: DEVICE.to_owned(),
        key: Some(u128::from(number).to_be_bytes()),
        time: Millis(1000 + number),
        values: Vec::new(),
        removed: Vec::new(),
    };
    for group in 0..20 {
        let batch = (0..500).map(|number| tell(group * 500 + number)).collect();
        store.write(Batch(batch)).await.unwrap();
    }
    let kept: i64 = rusqlite::Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM seen", [], |row| row.get(0))
        .unwrap();
    assert!((8192..8500).contains(&kept), "{kept}");
    let last = store.write(Batch::one(tell(9_999))).await.unwrap();
    assert!(last.duplicate, "the newest are the ones remembered");
}

#[tokio::test]
async fn a_task_is_sent_even_when_whoever_asked_goes_away() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    let (access, _) = lab.access(Role::Operator).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    lab.pending();
    let new = homefleet_api::NewTask {
        operation: get("Device.Late."),
        expires_in: None,
    };
    tokio::select! {
        biased;
        _ = access.submit(DEVICE, new) => {}
        () = std::future::ready(()) => {}
    }
    lab.next_request().await;
}

#[tokio::test]
async fn waiting_for_tasks_and_going_away_leaves_nothing_behind() {
    let lab = Lab::new().await;
    let (access, _) = lab.access(Role::Viewer).await;
    for number in 0..10_001 {
        let id = format!("{number:026}");
        tokio::select! {
            biased;
            _ = access.wait_task(&id, Duration::from_secs(9)) => {}
            () = std::future::ready(()) => {}
        }
    }
    let refused = access
        .wait_task("00000000000000000000000000", Duration::from_secs(1))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("no task"), "{refused}");
}

#[test]
fn a_clock_that_ran_ahead_keeps_no_device_reachable() {
    let mut registry = Registry::default();
    let contact = || Contact {
        id: DEVICE.to_owned(),
        proof: Proof::Nobody,
        address: None,
    };
    registry.heard(seconds(1_000_000), contact()).unwrap();
    registry.heard(seconds(10), contact()).unwrap();
    assert_eq!(registry.device(DEVICE).unwrap().last_contact, seconds(10));
    registry.taken(seconds(20), DEVICE);
    assert_eq!(registry.device(DEVICE).unwrap().last_contact, seconds(20));
}

#[tokio::test]
async fn a_retried_completion_ends_no_second_task_with_the_same_key() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    let (access, _) = lab.access(Role::Operator).await;
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let operation = Operation::Operate {
            command: "Device.Slow()".to_owned(),
            args: [].into(),
            command_key: Some("mine".to_owned()),
        };
        let new = homefleet_api::NewTask {
            operation,
            expires_in: None,
        };
        tasks.push(access.submit(DEVICE, new).await.unwrap().id);
        let (id, _) = lab.next_request().await;
        let accepted = msg::OperateResp {
            operation_results: vec![msg::operate_resp::OperationResult {
                executed_command: "Device.Slow()".to_owned(),
                operation_resp: Some(
                    msg::operate_resp::operation_result::OperationResp::ReqObjPath(
                        "Device.LocalAgent.Request.1.".to_owned(),
                    ),
                ),
            }],
        };
        lab.receive(
            DEVICE,
            Message::response(id, Response::OperateResp(accepted)),
        )
        .await;
    }
    let complete = msg::notify::OperationComplete {
        obj_path: "Device.".to_owned(),
        command_name: "Slow()".to_owned(),
        command_key: "mine".to_owned(),
        operation_resp: Some(
            msg::notify::operation_complete::OperationResp::ReqOutputArgs(
                msg::notify::operation_complete::OutputArgs::default(),
            ),
        ),
    };
    let complete = msg::notify::Notification::OperComplete(complete);
    for _ in 0..2 {
        let message = notify("same", "c", true, complete.clone());
        lab.receive(DEVICE, message).await;
    }
    let state = async |place: usize| access.task(&tasks[place]).await.unwrap().state;
    assert_eq!(state(0).await, TaskState::Done);
    assert_eq!(state(1).await, TaskState::Sent);
    lab.receive(DEVICE, notify("other", "c", true, complete))
        .await;
    assert_eq!(state(1).await, TaskState::Done);
}

#[tokio::test]
async fn a_device_whose_first_reading_failed_is_read_again_after_an_hour() {
    let mut lab = Lab::new().await;
    lab.receive(DEVICE, on_board("1")).await;
    let (id, _) = lab.next_request().await;
    let refused = homefleet_usp::ErrorCode(7003);
    lab.receive(DEVICE, Message::error(id, refused, "not now"))
        .await;
    lab.receive(DEVICE, value_change("2", false, "Device.X", "1"))
        .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let requests = lab.pending().into_iter();
    let requests = requests.filter(|sent| matches!(sent.message.body, Body::Request(_)));
    assert_eq!(requests.count(), 0);
    lab.clock.advance(Duration::from_secs(3600));
    lab.receive(DEVICE, value_change("3", false, "Device.X", "2"))
        .await;
    lab.next_request().await;
}

#[tokio::test]
async fn long_values_count_by_their_weight() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits {
        values: 10,
        ..Limits::default()
    };
    let store = SqliteStore::open_with(&directory.path().join("store.sqlite"), limits).unwrap();
    let put = async |device: &str, path: &str, length: usize| {
        let write = Write::Parameters {
            device: device.to_owned(),
            values: vec![value(path, &"x".repeat(length))],
            complete: Vec::new(),
        };
        store.write(Batch::one(write)).await.unwrap().refused
    };
    let long = 4 * 1024;
    assert_eq!(put("os::1", "Device.A", long).await, 0);
    assert_eq!(put("os::1", "Device.B", long).await, 0);
    assert_eq!(put("os::1", "Device.C", 1).await, 1);
    // Another device has its own room; the same length again takes none.
    assert_eq!(put("os::2", "Device.C", 1).await, 0);
    assert_eq!(put("os::1", "Device.A", long).await, 0);
    // What grows beyond the room goes, and leaves its own.
    assert_eq!(put("os::1", "Device.B", long + 1024).await, 1);
    assert_eq!(put("os::1", "Device.C", 1).await, 0);
    assert_eq!(store.parameter_count("os::1").await.unwrap(), 2);
}

#[tokio::test]
async fn the_limits_of_the_store_are_those_configured() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits {
        value_length: 10,
        seen: 100,
        ..Limits::default()
    };
    let store = SqliteStore::open_with(&directory.path().join("store.sqlite"), limits).unwrap();
    let tell = |number: u64, text: &str| {
        Batch::one(Write::Notification {
            device: DEVICE.to_owned(),
            key: Some(u128::from(number).to_be_bytes()),
            time: Millis(1000 + number),
            values: vec![value("Device.A", text)],
            removed: Vec::new(),
        })
    };
    let mut forgotten = 0;
    for number in 0..1000 {
        let written = store.write(tell(number, "0123456789")).await.unwrap();
        assert_eq!(written.refused, 0);
        forgotten += written.forgotten;
    }
    assert!((800..=900).contains(&forgotten), "{forgotten}");
    let long = store.write(tell(1000, "0123456789x")).await.unwrap();
    assert_eq!(long.refused, 1);
}
