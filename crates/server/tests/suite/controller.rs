//! The USP Controller, with devices played by the test.

use std::collections::BTreeMap;
use std::time::Duration;

use homefleet_api::{
    Event, NewTask, Notification, Operation, Role, SubscriptionState, TaskErrorCode, TaskResult,
    TaskState,
};
use homefleet_server::core::{DeviceQuery, ParameterQuery};
use homefleet_server::device::Proof;
use homefleet_usp::message::{Body, Message, Request, Response};
use homefleet_usp::proto::msg;
use homefleet_usp::record::{PayloadSarState, PayloadSecurity, RecordBody, SessionContext};
use homefleet_usp::{ErrorCode, Record};

use crate::common::{
    CONTROLLER, DEVICE, Lab, get, get_resp, notify, on_board, operate, value_change,
};

const WAIT: Duration = Duration::from_secs(20);

fn new_task(operation: Operation) -> NewTask {
    NewTask {
        operation,
        expires_in: None,
    }
}

fn record(from: &str, to: &str, payload: Vec<u8>) -> Record {
    Record::no_session(to.parse().unwrap(), from.parse().unwrap(), payload)
}

async fn values(lab: &Lab, path: &str) -> Vec<(String, String)> {
    let (access, _) = lab.access(Role::Viewer).await;
    let query = ParameterQuery {
        path: Some(path.to_owned()),
        ..Default::default()
    };
    let page = access.parameters(DEVICE, query).await.unwrap();
    page.parameters
        .into_iter()
        .map(|value| (value.path, value.value))
        .collect()
}

async fn device_ids(lab: &Lab) -> Vec<String> {
    let (access, _) = lab.access(Role::Viewer).await;
    let page = access.devices(DeviceQuery::default()).await.unwrap();
    page.devices.into_iter().map(|device| device.id).collect()
}

#[tokio::test]
async fn on_board_request_registers_reads_and_subscribes() {
    let mut lab = Lab::new().await;
    assert!(lab.receive(DEVICE, on_board("boot-1")).await);

    // R-NOT.6a: the OnBoardRequest is answered, to its reply-to; then the device is read.
    let mut answered = false;
    let (id, request) = loop {
        let sent = lab.next().await;
        assert_eq!(
            (sent.endpoint.as_str(), sent.uri.as_str()),
            (DEVICE, "coaps://192.0.2.7/usp")
        );
        match sent.message.body {
            Body::Response(Response::NotifyResp(response)) => {
                assert_eq!(
                    (sent.message.id.as_str(), response.subscription_id.as_str()),
                    ("boot-1", "")
                );
                answered = true;
            }
            Body::Request(request) => break (sent.message.id, request),
            other => panic!("{other:?}"),
        }
    };
    let Request::Get(asked) = request else {
        panic!("{request:?}")
    };
    assert_eq!(
        asked.param_paths,
        ["Device.DeviceInfo.", "Device.LocalAgent."]
    );
    let mut response = get_resp(
        &[(
            "Device.DeviceInfo.",
            &[("ModelName", "Gate"), ("UpTime", "7")],
        )],
        "Device.DeviceInfo.",
    );
    let Response::GetResp(result) = &mut response else {
        unreachable!()
    };
    let Response::GetResp(agent) = get_resp(
        &[("Device.LocalAgent.", &[("EndpointID", DEVICE)])],
        "Device.LocalAgent.",
    ) else {
        unreachable!()
    };
    result.req_path_results.extend(agent.req_path_results);
    lab.receive(DEVICE, Message::response(id, response)).await;

    let (id, request) = loop {
        let sent = lab.next().await;
        match sent.message.body {
            Body::Request(request) => break (sent.message.id, request),
            Body::Response(Response::NotifyResp(_)) => answered = true,
            other => panic!("{other:?}"),
        }
    };
    assert!(answered);
    let Request::Add(add) = request else {
        panic!("{request:?}")
    };
    let settings: BTreeMap<&str, &str> = add.create_objs[0]
        .param_settings
        .iter()
        .map(|setting| (setting.param.as_str(), setting.value.as_str()))
        .collect();
    assert_eq!(
        add.create_objs[0].obj_path,
        "Device.LocalAgent.Subscription."
    );
    assert_eq!(
        (
            settings["ID"],
            settings["NotifType"],
            settings["ReferenceList"]
        ),
        ("homefleet-boot", "Event", "Device.Boot!")
    );
    use msg::add_resp::created_object_result::{OperationStatus, operation_status};
    let success = operation_status::OperationSuccess {
        instantiated_path: "Device.LocalAgent.Subscription.4.".to_owned(),
        param_errs: Vec::new(),
        unique_keys: BTreeMap::new(),
    };
    let response = msg::AddResp {
        created_obj_results: vec![msg::add_resp::CreatedObjectResult {
            requested_path: "Device.LocalAgent.Subscription.".to_owned(),
            oper_status: Some(OperationStatus {
                oper_status: Some(operation_status::OperStatus::OperSuccess(success)),
            }),
        }],
    };
    lab.receive(DEVICE, Message::response(id, Response::AddResp(response)))
        .await;

    let (access, _) = lab.access(Role::Viewer).await;
    let device = access.device(DEVICE).await.unwrap();
    assert_eq!(device.summary.oui.as_deref(), Some("00D09E"));
    assert_eq!(device.summary.model_name.as_deref(), Some("Gate"));
    assert_eq!(device.protocol_versions, ["1.2", "1.3"]);
    assert_eq!(device.subscriptions.len(), 1);
    assert_eq!(device.subscriptions[0].state, SubscriptionState::Active);
    assert_eq!(
        device.subscriptions[0].instance.as_deref(),
        Some("Device.LocalAgent.Subscription.4.")
    );
    assert!(device.certificate.is_some());
    assert_eq!(
        values(&lab, "Device.DeviceInfo.UpTime").await,
        [("Device.DeviceInfo.UpTime".to_owned(), "7".to_owned())]
    );
}

#[tokio::test]
async fn a_subscription_that_is_there_is_not_added_again() {
    let mut lab = Lab::new().await;
    lab.receive(DEVICE, on_board("1")).await;
    let (id, _) = lab.next_request().await;
    let objects: &[(&str, &[(&str, &str)])] = &[
        (
            "Device.LocalAgent.Controller.2.",
            &[("EndpointID", CONTROLLER)],
        ),
        (
            "Device.LocalAgent.Subscription.1.",
            &[
                ("ID", "homefleet-boot"),
                ("NotifType", "Event"),
                ("ReferenceList", "Device.Boot!"),
                ("Recipient", "Device.LocalAgent.Controller.2"),
            ],
        ),
        (
            "Device.LocalAgent.Subscription.2.",
            &[
                ("ID", "homefleet-old"),
                ("NotifType", "Event"),
                ("ReferenceList", "Device.X!"),
            ],
        ),
        (
            "Device.LocalAgent.Subscription.3.",
            &[
                ("ID", "homefleet-other"),
                ("NotifType", "Event"),
                ("Recipient", "Device.LocalAgent.Controller.1"),
            ],
        ),
    ];
    lab.receive(
        DEVICE,
        Message::response(id, get_resp(objects, "Device.LocalAgent.")),
    )
    .await;
    // What is ours and no longer wanted goes; another Controller's stays.
    let (_, request) = lab.next_request().await;
    let Request::Delete(delete) = request else {
        panic!("{request:?}")
    };
    assert_eq!(delete.obj_paths, ["Device.LocalAgent.Subscription.2."]);
    let (access, _) = lab.access(Role::Viewer).await;
    let device = access.device(DEVICE).await.unwrap();
    assert_eq!(device.subscriptions[0].state, SubscriptionState::Active);
    assert_eq!(device.summary.open_tasks, 1);
}

/// The device answers its first reading; what the server asks next.
async fn asked_after(lab: &mut Lab, subscription: &[(&str, &str)]) -> Vec<Request> {
    lab.receive(DEVICE, on_board("1")).await;
    let (id, _) = lab.next_request().await;
    let objects: &[(&str, &[(&str, &str)])] = &[
        (
            "Device.LocalAgent.Controller.2.",
            &[("EndpointID", CONTROLLER)],
        ),
        ("Device.LocalAgent.Subscription.1.", subscription),
    ];
    let response = get_resp(objects, "Device.LocalAgent.");
    lab.receive(DEVICE, Message::response(id, response)).await;
    let (access, _) = lab.access(Role::Viewer).await;
    let open = access.device(DEVICE).await.unwrap().summary.open_tasks;
    let mut requests = Vec::new();
    for _ in 0..open {
        requests.push(lab.next_request().await.1);
    }
    requests
}

#[tokio::test]
async fn a_factory_subscription_that_tells_the_same_is_enough() {
    let boot = [
        ("ID", "factory-boot"),
        ("NotifType", "Event"),
        ("ReferenceList", "Device.Boot!"),
        ("Recipient", "Device.LocalAgent.Controller.2"),
        ("Enable", "true"),
    ];
    let mut lab = Lab::new().await;
    assert_eq!(asked_after(&mut lab, &boot).await, []);
    let (access, _) = lab.access(Role::Viewer).await;
    let found = access.device(DEVICE).await.unwrap().subscriptions;
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].id.as_str(), found[0].state, &found[0].instance),
        (
            "homefleet-boot",
            SubscriptionState::Active,
            &Some("Device.LocalAgent.Subscription.1.".to_owned())
        )
    );
    // One that is disabled, tells of something else or tells somebody else is not.
    for (name, value) in [
        ("Enable", "false"),
        ("ReferenceList", "Device.X!"),
        ("NotifType", "ValueChange"),
        ("Recipient", "Device.LocalAgent.Controller.1"),
    ] {
        let other = boot.map(|(of, text)| (of, if of == name { value } else { text }));
        let asked = asked_after(&mut Lab::new().await, &other).await;
        assert!(matches!(asked[..], [Request::Add(_)]), "{name}: {asked:?}");
    }
}

#[tokio::test]
async fn any_authenticated_record_registers_its_device() {
    let lab = Lab::new().await;
    lab.receive("os::00D09E-2", value_change("1", false, "Device.A", "1"))
        .await;
    assert_eq!(device_ids(&lab).await, ["os::00D09E-2"]);
}

#[tokio::test]
async fn a_retried_notification_is_answered_again_and_counted_once() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    let (access, _) = lab.access(Role::Viewer).await;
    let mut events = access.events(Some(DEVICE.to_owned())).unwrap();
    for _ in 0..2 {
        lab.receive(DEVICE, value_change("n-1", true, "Device.A", "on"))
            .await;
        let sent = lab.next().await;
        assert_eq!(sent.message.id.as_str(), "n-1");
        // R-NOT.10.
        let Body::Response(Response::NotifyResp(response)) = sent.message.body else {
            panic!("{sent:?}")
        };
        assert_eq!(response.subscription_id, "homefleet-value");
    }
    // The same ID with another content is another notification.
    lab.receive(DEVICE, value_change("n-1", true, "Device.A", "off"))
        .await;
    let mut told = Vec::new();
    while told.len() < 2 {
        let event = tokio::time::timeout(WAIT, events.next())
            .await
            .unwrap()
            .unwrap();
        if let Event::Notification {
            notification: Notification::ValueChange { value, .. },
            ..
        } = &*event
        {
            told.push(value.clone());
        }
    }
    assert_eq!(told, ["on", "off"]);
    assert_eq!(
        values(&lab, "Device.A").await,
        [("Device.A".to_owned(), "off".to_owned())]
    );
}

#[tokio::test]
async fn a_notification_without_send_resp_is_not_answered() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    lab.receive(DEVICE, value_change("n-1", false, "Device.A", "on"))
        .await;
    lab.receive(DEVICE, value_change("n-2", true, "Device.A", "off"))
        .await;
    assert_eq!(lab.next().await.message.id.as_str(), "n-2");
}

#[tokio::test]
async fn a_notification_that_cannot_be_stored_is_not_acknowledged() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    lab.store.close();
    assert!(
        lab.receive(DEVICE, value_change("n-1", true, "Device.A", "on"))
            .await
    );
    assert!(lab.pending().is_empty());
}

#[tokio::test]
async fn a_record_for_another_endpoint_is_ignored() {
    let lab = Lab::new().await;
    let message = on_board("1").encode();
    assert!(
        !lab.receive_record(record(DEVICE, "proto::someone-else", message), true)
            .await
    );
    assert!(device_ids(&lab).await.is_empty());
}

#[tokio::test]
async fn a_device_that_proved_itself_is_refused_without_a_certificate() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    let message = value_change("n-1", true, "Device.A", "forged").encode();
    assert!(
        !lab.receive_record(record(DEVICE, CONTROLLER, message), false)
            .await
    );
    assert!(lab.pending().is_empty());
    assert!(values(&lab, "Device.A").await.is_empty());
}

#[tokio::test]
async fn a_request_other_than_notify_is_answered_7001() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    let request = Request::Get(msg::Get {
        param_paths: vec!["Device.".to_owned()],
        max_depth: 0,
    });
    lab.receive(DEVICE, Message::request("q", request)).await;
    let sent = lab.next().await;
    let Body::Error(error) = sent.message.body else {
        panic!("{sent:?}")
    };
    assert_eq!(
        (sent.message.id.as_str(), error.err_code),
        ("q", ErrorCode::MESSAGE_NOT_SUPPORTED.0)
    );
}

#[tokio::test]
async fn a_malformed_request_with_an_id_is_answered_with_an_error() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    // A Notify without a notification: header with msg_id, body without its content.
    let broken = Message::request("m-1", Request::Notify(msg::Notify::default())).encode();
    assert!(
        lab.receive_record(record(DEVICE, CONTROLLER, broken), true)
            .await
    );
    let sent = lab.next().await;
    assert_eq!(sent.message.id.as_str(), "m-1");
    assert!(matches!(sent.message.body, Body::Error(_)), "{sent:?}");
    // Bytes that are no message at all are ignored.
    assert!(
        !lab.receive_record(record(DEVICE, CONTROLLER, vec![0xff; 9]), true)
            .await
    );
    assert!(lab.pending().is_empty());
}

fn session(sar: PayloadSarState, payload: Vec<u8>) -> Record {
    let mut session = record(DEVICE, CONTROLLER, vec![1]);
    session.body = RecordBody::Session(SessionContext {
        session_id: 1,
        sequence_id: 1,
        expected_id: 1,
        retransmit_id: 0,
        payload_sar_state: sar,
        payloadrec_sar_state: sar,
        payload: vec![payload],
    });
    session
}

#[tokio::test]
async fn a_request_in_a_session_context_is_refused_with_the_code_that_says_why() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    let request = || on_board("s-1").encode();
    let mut secured = session(PayloadSarState::None, request());
    secured.payload_security = PayloadSecurity::Tls12;
    let mut secured_alone = record(DEVICE, CONTROLLER, request());
    secured_alone.payload_security = PayloadSecurity::Tls12;
    for (refused, code) in [
        (
            session(PayloadSarState::None, request()),
            ErrorCode::SESSION_CONTEXT_NOT_ALLOWED,
        ),
        (
            session(PayloadSarState::Begin, request()),
            ErrorCode::SAR_NOT_SUPPORTED,
        ),
        (secured, ErrorCode::SECURE_SESSION_NOT_SUPPORTED),
        (secured_alone, ErrorCode::SECURE_SESSION_NOT_SUPPORTED),
    ] {
        lab.receive_record(refused, true).await;
        let sent = lab.next().await;
        let Body::Error(error) = sent.message.body else {
            panic!("{sent:?}")
        };
        assert_eq!(error.err_code, code.0);
        assert_eq!(sent.message.id.as_str(), "s-1");
    }
}

#[tokio::test]
async fn a_session_context_without_a_request_is_ignored() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    let response = Message::response("s-1", get_resp(&[], "Device."));
    for payload in [response.encode(), vec![0xff; 20], Vec::new()] {
        assert!(
            !lab.receive_record(session(PayloadSarState::None, payload), true)
                .await
        );
    }
    assert!(lab.pending().is_empty());
}

#[tokio::test]
async fn a_disconnect_record_is_taken_without_an_answer() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    let mut disconnect = record(DEVICE, CONTROLLER, vec![1]);
    disconnect.body = RecordBody::Disconnect {
        reason: "bye".to_owned(),
        code: 0,
    };
    assert!(lab.receive_record(disconnect, true).await);
    assert!(lab.pending().is_empty());
}

#[tokio::test]
async fn a_get_ends_with_its_values_stored() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    let (access, _) = lab.access(Role::Operator).await;
    let task = access
        .submit(DEVICE, new_task(get("Device.IP.Interface.1.")))
        .await
        .unwrap();
    let (id, _) = lab.next_request().await;
    assert!(id.as_str().starts_with(&task.id));
    let response = get_resp(
        &[("Device.IP.Interface.1.", &[("Name", "eth0")])],
        "Device.IP.Interface.1.",
    );
    // Another device cannot answer for it.
    lab.receive(
        "os::00D09E-9",
        Message::response(id.clone(), response.clone()),
    )
    .await;
    assert_eq!(access.task(&task.id).await.unwrap().state, TaskState::Sent);
    lab.receive(DEVICE, Message::response(id, response)).await;
    let done = access.wait_task(&task.id, WAIT).await.unwrap();
    assert_eq!(done.state, TaskState::Done);
    let Some(TaskResult::Get { paths }) = done.result else {
        panic!("{:?}", done.result)
    };
    assert_eq!(paths[0].objects[0].params["Name"], "eth0");
    assert_eq!(
        values(&lab, "Device.IP.").await,
        [("Device.IP.Interface.1.Name".to_owned(), "eth0".to_owned())]
    );
}

#[tokio::test]
async fn a_response_of_another_kind_fails_the_task() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    let (access, _) = lab.access(Role::Operator).await;
    let task = access
        .submit(DEVICE, new_task(get("Device.A")))
        .await
        .unwrap();
    let (id, _) = lab.next_request().await;
    lab.receive(
        DEVICE,
        Message::response(id, Response::SetResp(msg::SetResp::default())),
    )
    .await;
    let failed = access.wait_task(&task.id, WAIT).await.unwrap();
    assert_eq!(failed.error.unwrap().code, TaskErrorCode::InvalidAnswer);
}

#[tokio::test]
async fn a_usp_error_fails_the_task_with_its_details() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    let (access, _) = lab.access(Role::Operator).await;
    let task = access
        .submit(DEVICE, new_task(get("Device.A")))
        .await
        .unwrap();
    let (id, _) = lab.next_request().await;
    let detail = msg::error::ParamError {
        param_path: "Device.A".to_owned(),
        err_code: 7010,
        err_msg: String::new(),
    };
    lab.receive(
        DEVICE,
        Message::error_with(id, ErrorCode::INVALID_ARGUMENTS, "no", vec![detail]),
    )
    .await;
    let error = access
        .wait_task(&task.id, WAIT)
        .await
        .unwrap()
        .error
        .unwrap();
    assert_eq!(
        (error.code, error.usp_code),
        (TaskErrorCode::Device, Some(7004))
    );
    assert_eq!(
        (
            error.param_errors[0].path.as_str(),
            error.param_errors[0].code
        ),
        ("Device.A", 7010)
    );
}

#[tokio::test]
async fn an_asynchronous_operate_ends_with_its_completion() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    let (access, _) = lab.access(Role::Operator).await;
    let task = access
        .submit(DEVICE, new_task(operate("Device.IP.Diagnostics.IPPing()")))
        .await
        .unwrap();
    let (id, request) = lab.next_request().await;
    let Request::Operate(operate) = request else {
        panic!("{request:?}")
    };
    assert!(operate.send_resp);
    assert_eq!(operate.command_key, task.id);
    let response = msg::OperateResp {
        operation_results: vec![msg::operate_resp::OperationResult {
            executed_command: operate.command.clone(),
            operation_resp: Some(
                msg::operate_resp::operation_result::OperationResp::ReqObjPath(
                    "Device.LocalAgent.Request.1.".to_owned(),
                ),
            ),
        }],
    };
    lab.receive(
        DEVICE,
        Message::response(id, Response::OperateResp(response)),
    )
    .await;
    assert_eq!(access.task(&task.id).await.unwrap().state, TaskState::Sent);
    let complete = msg::notify::OperationComplete {
        obj_path: "Device.IP.Diagnostics.".to_owned(),
        command_name: "IPPing()".to_owned(),
        command_key: operate.command_key,
        operation_resp: Some(
            msg::notify::operation_complete::OperationResp::ReqOutputArgs(
                msg::notify::operation_complete::OutputArgs {
                    output_args: [("SuccessCount".to_owned(), "3".to_owned())].into(),
                },
            ),
        ),
    };
    lab.receive(
        DEVICE,
        notify(
            "n",
            "homefleet-complete",
            true,
            msg::notify::Notification::OperComplete(complete),
        ),
    )
    .await;
    let done = access.wait_task(&task.id, WAIT).await.unwrap();
    assert_eq!(done.state, TaskState::Done);
    let Some(TaskResult::Operate { commands }) = done.result else {
        panic!("{:?}", done.result)
    };
    assert_eq!(
        commands[0].request.as_deref(),
        Some("Device.LocalAgent.Request.1.")
    );
    assert_eq!(commands[0].output["SuccessCount"], "3");
}

#[tokio::test]
async fn an_object_that_was_deleted_takes_its_values_with_it() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    lab.receive(DEVICE, value_change("1", false, "Device.X.1.A", "1"))
        .await;
    lab.receive(DEVICE, value_change("2", false, "Device.X.2.A", "2"))
        .await;
    let deletion = msg::notify::ObjectDeletion {
        obj_path: "Device.X.1.".to_owned(),
    };
    lab.receive(
        DEVICE,
        notify(
            "3",
            "s",
            false,
            msg::notify::Notification::ObjDeletion(deletion),
        ),
    )
    .await;
    assert_eq!(
        values(&lab, "Device.X.").await,
        [("Device.X.2.A".to_owned(), "2".to_owned())]
    );
}

#[tokio::test]
async fn a_boot_makes_the_server_read_the_device_again() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    let boot = msg::notify::Event {
        obj_path: "Device.".to_owned(),
        event_name: "Boot!".to_owned(),
        params: [("Cause".to_owned(), "LocalReboot".to_owned())].into(),
    };
    lab.receive(
        DEVICE,
        notify(
            "b",
            "homefleet-boot",
            true,
            msg::notify::Notification::Event(boot),
        ),
    )
    .await;
    let (_, request) = lab.next_request().await;
    assert!(matches!(request, Request::Get(_)), "{request:?}");
}

#[tokio::test]
async fn a_duplicate_of_a_request_in_process_is_ignored() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    // The first is taken and waits for the disk; its duplicate comes meanwhile.
    let first = lab.controller.accept(repeated(&lab)).expect("taken");
    assert!(lab.controller.accept(repeated(&lab)).is_none());
    first.await;
    assert_eq!(lab.next().await.message.id.as_str(), "n-1");
    // Once processed, a repetition is answered again.
    lab.controller.accept(repeated(&lab)).expect("taken").await;
    assert_eq!(lab.next().await.message.id.as_str(), "n-1");
}

fn repeated(lab: &Lab) -> homefleet_server::controller::Incoming {
    lab.incoming(
        record(
            DEVICE,
            CONTROLLER,
            value_change("n-1", true, "Device.A", "on").encode(),
        ),
        true,
    )
}

#[tokio::test]
async fn a_new_certificate_of_a_known_device_is_in_the_audit_log() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    let mut incoming = repeated(&lab);
    let Proof::Certificate(certificate) = &mut incoming.proof else {
        panic!("{incoming:?}")
    };
    certificate.fingerprint = "bb".repeat(32);
    lab.controller.accept(incoming).expect("taken").await;
    let (admin, _) = lab.access(Role::Admin).await;
    let log = admin.audit(None, 0).await.unwrap().entries;
    assert_eq!(
        (log[0].action.as_str(), log[0].subject.as_str()),
        ("device.certificate", DEVICE)
    );
    assert_eq!(
        log.iter()
            .filter(|entry| entry.action == "device.certificate")
            .count(),
        1
    );
}
