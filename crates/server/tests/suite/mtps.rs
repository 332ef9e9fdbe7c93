//! Devices that come over several MTPs: where they are, and which way they are reached. The test plays the MTPs.

use std::time::Duration;

use homefleet_api::{Mtp, NewTask, Operation, Reachability, Role, TaskErrorCode, TaskState};
use homefleet_net::mtp::{Channel, ChannelId, Connect};
use homefleet_server::controller::Wrong;
use homefleet_server::device::Proof;
use homefleet_usp::message::{Body, Message, Response};
use homefleet_usp::proto::msg;
use homefleet_usp::record::{MqttVersion, RecordBody};
use homefleet_usp::{EndpointId, ErrorCode, Record};

use crate::common::{CONTROLLER, DEVICE, Lab, get, get_resp, on_board, operate, value_change};

const WAIT: Duration = Duration::from_secs(20);
/// Channels of the test.
const WEBSOCKET: u64 = 1_000_001;
const BROKER: u64 = 1_000_002;

fn endpoint(id: &str) -> EndpointId {
    id.parse().unwrap()
}

fn with(body: RecordBody) -> Record {
    Record::with(endpoint(CONTROLLER), endpoint(DEVICE), body)
}

fn says(message: &Message) -> Record {
    with(RecordBody::NoSession(message.encode()))
}

fn goodbye() -> Record {
    with(RecordBody::Disconnect {
        reason: "bye".to_owned(),
        code: 0,
    })
}

fn at_topic(topic: &str) -> Record {
    with(RecordBody::MqttConnect {
        version: MqttVersion::V5,
        topic: topic.to_owned(),
    })
}

impl Lab {
    /// A session with the device is up.
    fn session(&self, id: u64) {
        self.controller.up(&Channel {
            id: ChannelId(id),
            connection: None,
            endpoint_id: Some(endpoint(DEVICE)),
            identity: None,
            connect: Connect::WebSocket,
        });
    }

    /// The connection `home` to an MQTT broker is up.
    fn mqtt(&self, id: u64) {
        self.controller.up(&Channel {
            id: ChannelId(id),
            connection: Some("home".to_owned()),
            endpoint_id: None,
            identity: None,
            connect: Connect::Mqtt {
                version: MqttVersion::V5,
                topic: "usp/controller".to_owned(),
            },
        });
    }

    async fn down(&self, id: u64) {
        self.controller
            .down(ChannelId(id), "the test ends it")
            .await;
    }

    /// The device connects over WebSocket and says so.
    async fn over_websocket(&self) {
        self.session(WEBSOCKET);
        let connect = with(RecordBody::WebSocketConnect);
        assert!(
            self.over(WEBSOCKET, self.certificate(), Some("wss:"), connect)
                .await
        );
    }

    /// The device is at the broker and says where it is reached.
    async fn over_mqtt(&self) {
        self.mqtt(BROKER);
        assert!(
            self.over(BROKER, self.broker(), None, at_topic("usp/agent"))
                .await
        );
    }

    async fn submit(&self, operation: Operation) -> String {
        let (access, _) = self.access(Role::Operator).await;
        let new = NewTask {
            operation,
            expires_in: None,
        };
        access.submit(DEVICE, new).await.unwrap().id
    }

    async fn task(&self, id: &str) -> homefleet_api::Task {
        let (access, _) = self.access(Role::Viewer).await;
        access.task(id).await.unwrap()
    }

    async fn device(&self) -> homefleet_api::Device {
        let (access, _) = self.access(Role::Viewer).await;
        access.device(DEVICE).await.unwrap()
    }

    async fn until(&self, id: &str, state: TaskState) -> homefleet_api::Task {
        tokio::time::timeout(WAIT, async {
            loop {
                let task = self.task(id).await;
                if task.state == state {
                    return task;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the task does not get there")
    }

    fn connections(device: &homefleet_api::Device) -> Vec<(Mtp, Option<&str>)> {
        let connections = device.connections.iter();
        connections
            .map(|connection| (connection.mtp, connection.broker.as_deref()))
            .collect()
    }
}

#[tokio::test]
async fn a_device_is_shown_connected_while_its_session_is_open() {
    let mut lab = Lab::new().await;
    lab.over_websocket().await;
    lab.next_request().await;
    let device = lab.device().await;
    assert_eq!(Lab::connections(&device), [(Mtp::Websocket, None)]);
    assert_eq!(device.summary.mtp, Some(Mtp::Websocket));
    assert_eq!(device.summary.address.as_deref(), Some("wss:"));
    assert_eq!(device.summary.reachability, Reachability::Reachable);

    lab.down(WEBSOCKET).await;
    let device = lab.device().await;
    assert!(device.connections.is_empty());
    assert_eq!(device.summary.reachability, Reachability::Unreachable);
    let reason = device.last_failure_reason.unwrap();
    assert!(reason.contains("the test ends it"), "{reason}");
}

#[tokio::test]
async fn a_device_at_a_broker_is_connected_until_it_leaves_or_the_broker_goes() {
    let mut lab = Lab::new().await;
    lab.over_mqtt().await;
    lab.next_request().await;
    let device = lab.device().await;
    assert_eq!(Lab::connections(&device), [(Mtp::Mqtt, Some("home"))]);
    assert_eq!(
        device.summary.address.as_deref(),
        Some("mqtt:home/usp%2Fagent")
    );

    lab.down(BROKER).await;
    assert!(lab.device().await.connections.is_empty());
    // The broker is back, and the device never left it.
    lab.mqtt(BROKER + 1);
    assert_eq!(
        Lab::connections(&lab.device().await),
        [(Mtp::Mqtt, Some("home"))]
    );
    lab.over(BROKER + 1, lab.broker(), None, goodbye()).await;
    let device = lab.device().await;
    assert!(device.connections.is_empty());
    assert_eq!(device.summary.reachability, Reachability::Unreachable);
}

#[tokio::test]
async fn a_brokers_certificate_is_never_the_devices() {
    let lab = Lab::new().await;
    lab.over_mqtt().await;
    let device = lab.device().await;
    assert_eq!(device.certificate, None);
    assert_eq!(device.broker.unwrap().subject, "CN=broker");
    // Nor does it replace the one that the device showed itself.
    lab.over_websocket().await;
    lab.over(BROKER, lab.broker(), None, at_topic("usp/agent"))
        .await;
    let device = lab.device().await;
    assert_eq!(device.certificate.unwrap().subject, "CN=device");
}

#[tokio::test]
async fn whom_a_trusted_broker_vouched_for_is_never_accepted_without() {
    let lab = Lab::new().await;
    lab.over_mqtt().await;
    let forged = says(&value_change("f-1", true, "Device.A", "forged"));
    assert!(!lab.receive_record(forged, false).await);
    let addresses = lab.device().await.addresses;
    assert!(
        addresses.iter().all(|address| address.secure),
        "{addresses:?}"
    );
}

#[tokio::test]
async fn an_open_session_comes_before_every_other_way() {
    let mut lab = Lab::new().await;
    lab.over_websocket().await;
    lab.next_request().await;
    // It was heard last over CoAP, and still has its session.
    lab.receive(DEVICE, value_change("v-1", false, "Device.A", "1"))
        .await;
    assert_eq!(lab.device().await.summary.mtp, Some(Mtp::Coap));
    lab.submit(get("Device.A")).await;
    // The device's own reading is under way over the session: answer it to see where the next goes.
    lab.over(
        WEBSOCKET,
        lab.certificate(),
        Some("wss:"),
        with(RecordBody::WebSocketConnect),
    )
    .await;
    lab.down(WEBSOCKET).await;
    lab.receive(DEVICE, value_change("v-2", false, "Device.A", "2"))
        .await;
    let sent = lab.next().await;
    assert_eq!(sent.uri, "coaps://192.0.2.7/usp");
    lab.session(WEBSOCKET + 1);
    let connect = with(RecordBody::WebSocketConnect);
    lab.over(WEBSOCKET + 1, lab.certificate(), Some("wss:"), connect)
        .await;
    lab.receive(
        DEVICE,
        Message::response(sent.message.id, get_resp(&[], "Device.")),
    )
    .await;
    assert_eq!(lab.next().await.uri, "wss:");
}

#[tokio::test]
async fn a_way_that_certainly_leads_nowhere_gives_way_to_the_next() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    lab.over_mqtt().await;
    lab.pending();
    // The first to be tried is the broker: heard of last.
    assert!(lab.device().await.addresses[0].uri.starts_with("mqtt:"));
    lab.dead.lock().unwrap().push("mqtt:".to_owned());
    lab.submit(get("Device.A")).await;
    assert_eq!(lab.next().await.uri, "coaps://192.0.2.7/usp");
}

#[tokio::test]
async fn nothing_is_sent_to_a_device_that_said_goodbye() {
    let mut lab = Lab::new().await;
    lab.over_websocket().await;
    let (reading, _) = lab.next_request().await;
    lab.over(WEBSOCKET, lab.certificate(), Some("wss:"), goodbye())
        .await;
    let id = lab.submit(get("Device.A")).await;
    // What it says without coming back is ignored (R-MTP.8).
    let answer = Message::response(reading.clone(), get_resp(&[], "Device."));
    lab.over(WEBSOCKET, lab.certificate(), Some("wss:"), says(&answer))
        .await;
    lab.clock.advance(Duration::from_secs(3));
    assert_eq!(lab.task(&id).await.state, TaskState::Queued);
    assert!(lab.pending().is_empty());

    let connect = with(RecordBody::WebSocketConnect);
    lab.over(WEBSOCKET, lab.certificate(), Some("wss:"), connect)
        .await;
    let sent = lab.next().await;
    assert_eq!(sent.uri, "wss:");
}

#[tokio::test]
async fn a_connect_record_of_another_mtp_is_ignored() {
    let lab = Lab::new().await;
    lab.session(WEBSOCKET);
    lab.over(
        WEBSOCKET,
        lab.certificate(),
        Some("wss:"),
        at_topic("usp/agent"),
    )
    .await;
    let device = lab.device().await;
    assert!(device.connections.is_empty());
    assert!(device.addresses.iter().all(|address| address.uri == "wss:"));
}

#[tokio::test]
async fn an_answer_goes_the_way_its_request_came() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    lab.over_websocket().await;
    lab.over_mqtt().await;
    lab.pending();
    let notify = |id: &str| says(&value_change(id, true, "Device.A", id));
    lab.over(WEBSOCKET, lab.certificate(), Some("wss:"), notify("n-1"))
        .await;
    let topic = Some("mqtt:home/elsewhere");
    lab.over(BROKER, lab.broker(), topic, notify("n-2")).await;
    // Without a way back of its own, to where the device is reached at this broker.
    lab.over(BROKER, lab.broker(), None, notify("n-3")).await;
    let mut ways = Vec::new();
    while ways.len() < 3 {
        let sent = lab.next().await;
        if let Body::Response(_) = sent.message.body {
            ways.push((sent.message.id.as_str().to_owned(), sent.uri));
        }
    }
    let expected = [
        ("n-1", "wss:"),
        ("n-2", "mqtt:home/elsewhere"),
        ("n-3", "mqtt:home/elsewhere"),
    ];
    let found: Vec<(&str, &str)> = ways
        .iter()
        .map(|(id, uri)| (id.as_str(), uri.as_str()))
        .collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_notification_retried_over_another_mtp_is_counted_once_and_answered_on_both() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    lab.over_websocket().await;
    lab.over_mqtt().await;
    lab.pending();
    let before = lab.core.metrics().notifications.get();
    let notify = says(&value_change("n-1", true, "Device.A", "on"));
    lab.over(WEBSOCKET, lab.certificate(), Some("wss:"), notify.clone())
        .await;
    lab.over(BROKER, lab.broker(), None, notify).await;
    let mut ways = Vec::new();
    while ways.len() < 2 {
        let sent = lab.next().await;
        if let Body::Response(Response::NotifyResp(_)) = sent.message.body {
            ways.push(sent.uri);
        }
    }
    assert_eq!(ways, ["wss:", "mqtt:home/usp%2Fagent"]);
    let metrics = lab.core.metrics();
    assert_eq!(metrics.notifications.get() - before, 1);
    assert_eq!(metrics.notifications_repeated.get(), 1);
}

#[tokio::test]
async fn answers_count_by_their_message_id_whatever_their_order_and_way() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    lab.over_websocket().await;
    lab.over_mqtt().await;
    lab.pending();
    let first = lab.submit(get("Device.A")).await;
    let (id, _) = lab.next_request().await;
    // A stranger to the queue comes first, and the answer over the other MTP.
    let stray = Message::response("01K0000000000000000000000/1", get_resp(&[], "Device.B"));
    lab.over(WEBSOCKET, lab.certificate(), Some("wss:"), says(&stray))
        .await;
    assert_eq!(lab.task(&first).await.state, TaskState::Sent);
    let answer = Message::response(id, get_resp(&[("Device.", &[("A", "1")])], "Device.A"));
    lab.over(BROKER, lab.broker(), None, says(&answer)).await;
    assert_eq!(lab.task(&first).await.state, TaskState::Done);
}

#[tokio::test]
async fn a_task_on_its_way_through_a_session_that_ends_is_tried_again() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    lab.over_websocket().await;
    lab.pending();
    let id = lab.submit(get("Device.A")).await;
    let (first, _) = lab.next_request().await;
    lab.until(&id, TaskState::Sent).await;
    lab.dead.lock().unwrap().push("coaps:".to_owned());
    tokio::time::timeout(WAIT, async {
        // Only once it is known to be on its way.
        while lab.task(&id).await.state == TaskState::Sent {
            lab.down(WEBSOCKET).await;
            lab.session(WEBSOCKET);
            let connect = with(RecordBody::WebSocketConnect);
            lab.over(WEBSOCKET, lab.certificate(), Some("wss:"), connect)
                .await;
            let again = lab.next_request().await.0;
            if again != first {
                return;
            }
        }
    })
    .await
    .expect("it is not tried again");
}

#[tokio::test]
async fn what_a_broker_took_is_no_sign_of_the_device() {
    let mut lab = Lab::new().await;
    lab.over_mqtt().await;
    let (reading, _) = lab.next_request().await;
    lab.over(
        BROKER,
        lab.broker(),
        None,
        says(&Message::response(reading, get_resp(&[], "Device."))),
    )
    .await;
    lab.clock.advance(Duration::from_secs(600));
    let heard = lab.device().await.summary.last_contact;
    // A command that must not run twice waits until the device answers the probe.
    lab.submit(operate("Device.Reboot()")).await;
    let probe = lab.next().await;
    assert_eq!(probe.message.id.as_str(), "probe");
    assert_eq!(lab.device().await.summary.last_contact, heard);
    assert!(lab.pending().is_empty());
    let alive = Message::response(
        "probe",
        Response::GetSupportedProtocolResp(msg::GetSupportedProtocolResp {
            agent_supported_protocol_versions: "1.3".to_owned(),
        }),
    );
    lab.over(BROKER, lab.broker(), None, says(&alive)).await;
    let sent = lab.next().await;
    assert!(matches!(sent.message.body, Body::Request(_)), "{sent:?}");
    assert!(sent.once, "a command is not sent again on a guess");
}

#[tokio::test]
async fn a_late_answer_corrects_a_task_whose_outcome_was_unknown() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    let id = lab.submit(operate("Device.X()")).await;
    let (msg_id, _) = lab.next_request().await;
    lab.until(&id, TaskState::Sent).await;
    tokio::time::timeout(WAIT, async {
        while lab.task(&id).await.state != TaskState::Failed {
            lab.clock.advance(Duration::from_secs(30));
            lab.core.wake();
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("patience never ends");
    let task = lab.task(&id).await;
    assert_eq!(task.error.unwrap().code, TaskErrorCode::UnknownOutcome);
    use msg::operate_resp::operation_result::{OperationResp, OutputArgs};
    let response = msg::OperateResp {
        operation_results: vec![msg::operate_resp::OperationResult {
            executed_command: "Device.X()".to_owned(),
            operation_resp: Some(OperationResp::ReqOutputArgs(OutputArgs {
                output_args: [("Done".to_owned(), "yes".to_owned())].into(),
            })),
        }],
    };
    // Only from the device that was asked.
    let answer = Message::response(msg_id, Response::OperateResp(response));
    lab.receive("os::00D09E-2", answer.clone()).await;
    assert_eq!(lab.task(&id).await.state, TaskState::Failed);
    lab.receive(DEVICE, answer).await;
    let task = lab.task(&id).await;
    assert_eq!((task.state, task.error), (TaskState::Done, None));
}

/// What is wrong with the record of this version, and would be answered.
fn wrong(record: &Record, spoil: impl FnOnce(&mut Vec<u8>)) -> homefleet_usp::record::RecordError {
    let mut bytes = record.encode();
    spoil(&mut bytes);
    Record::decode(&bytes).unwrap_err()
}

/// `payload_security` with a value that there is not.
fn unknown_security(bytes: &mut Vec<u8>) {
    bytes.extend([4 << 3, 77]);
}

#[tokio::test]
async fn an_erroneous_record_with_a_request_for_us_is_answered_the_way_it_came() {
    let mut lab = Lab::new().await;
    lab.onboard().await;
    let request = says(&value_change("e-1", true, "Device.A", "1"));
    let finish = lab.controller.wrong(Wrong {
        error: wrong(&request, unknown_security),
        secure: true,
        reply_to: Some("wss:".parse().unwrap()),
    });
    finish.expect("an answer").await;
    let sent = lab.next().await;
    let Body::Error(error) = sent.message.body else {
        panic!("{sent:?}")
    };
    assert_eq!(
        (sent.uri.as_str(), sent.endpoint.as_str()),
        ("wss:", DEVICE)
    );
    assert_eq!(sent.message.id.as_str(), "e-1");
    assert_eq!(error.err_code, ErrorCode::INVALID_RECORD_VALUE.0);
}

#[tokio::test]
async fn an_erroneous_record_is_ignored_unless_every_condition_holds() {
    let lab = Lab::new().await;
    let refused = |record: &Record, reply_to: Option<&str>| {
        lab.controller.wrong(Wrong {
            error: wrong(record, unknown_security),
            secure: true,
            reply_to: reply_to.map(|route| route.parse().unwrap()),
        })
    };
    let request = value_change("e-1", true, "Device.A", "1");
    let good = says(&request);
    assert!(refused(&good, Some("wss:")).is_some());
    // No way back.
    assert!(refused(&good, None).is_none());
    // Not for us.
    let other = Record::no_session(endpoint("proto::other"), endpoint(DEVICE), request.encode());
    assert!(refused(&other, Some("wss:")).is_none());
    // No Request.
    let response = says(&Message::response("e-1", get_resp(&[], "Device.")));
    assert!(refused(&response, Some("wss:")).is_none());
    let error = says(&Message::error("e-1", ErrorCode::INTERNAL_ERROR, "no"));
    assert!(refused(&error, Some("wss:")).is_none());
    // No Message, or none whose ID can be read.
    assert!(refused(&with(RecordBody::WebSocketConnect), Some("wss:")).is_none());
    let garbage = with(RecordBody::NoSession(vec![0xff, 0xff]));
    assert!(refused(&garbage, Some("wss:")).is_none());
    // No valid sender.
    let mut bytes = good.encode();
    let at = bytes.windows(4).position(|four| four == b"os::").unwrap();
    bytes[at] = b'?';
    let error = Record::decode(&bytes).unwrap_err();
    assert_eq!(error.from_id(), None);
    let nobody = lab.controller.wrong(Wrong {
        error,
        secure: true,
        reply_to: Some("wss:".parse().unwrap()),
    });
    assert!(nobody.is_none());
}

#[tokio::test]
async fn a_device_that_never_tells_that_it_connects_is_there_when_it_speaks() {
    let mut lab = Lab::new().await;
    lab.session(WEBSOCKET);
    lab.over(
        WEBSOCKET,
        lab.certificate(),
        Some("wss:"),
        says(&on_board("1")),
    )
    .await;
    assert_eq!(
        Lab::connections(&lab.device().await),
        [(Mtp::Websocket, None)]
    );
    assert_eq!(lab.next().await.uri, "wss:");
}

#[tokio::test]
async fn a_last_will_that_comes_late_does_not_shut_a_device_out() {
    let lab = Lab::new().await;
    lab.over_mqtt().await;
    lab.over(BROKER, lab.broker(), None, goodbye()).await;
    assert!(lab.device().await.connections.is_empty());
    let notify = says(&value_change("n-1", true, "Device.A", "1"));
    lab.over(BROKER, lab.broker(), None, notify).await;
    assert_eq!(lab.device().await.connections.len(), 1);
}

#[tokio::test]
async fn a_topic_with_wildcards_is_no_address() {
    let lab = Lab::new().await;
    lab.mqtt(BROKER);
    lab.over(BROKER, lab.broker(), None, at_topic("usp/#"))
        .await;
    assert!(lab.device().await.addresses.is_empty());
    // Without security nobody stands for anybody, and nothing is kept of it once somebody does.
    lab.over(BROKER, Proof::Nobody, None, at_topic("usp/agent"))
        .await;
    assert!(lab.device().await.addresses.is_empty());
}
