//! OnBoardRequest: R-NOT.5, R-NOT.6, R-NOT.6a.

use std::time::Duration;

use homefleet_agent::store::Store;
use homefleet_usp::{
    ErrorCode, Message,
    message::{Response, operate},
    proto::msg::{notify::Notification, operate_resp::operation_result::OperationResp},
};

use crate::bench::{Bench, CONTROLLER, Sent, settings};

fn onboard_requests(bench: &Bench) -> Vec<Sent> {
    let is = |sent: &&Sent| {
        matches!(
            sent.notify().notification,
            Some(Notification::OnBoardReq(_))
        )
    };
    bench.notifications.iter().filter(is).cloned().collect()
}

#[test]
fn r_not_5_a_new_controller_is_sent_an_onboard_request() {
    let bench = Bench::started(settings(), Store::in_memory().unwrap());
    let sent = onboard_requests(&bench);
    assert_eq!(sent.len(), 1);
    let notify = sent[0].notify();
    assert!(notify.send_resp && notify.subscription_id.is_empty());
    let Some(Notification::OnBoardReq(request)) = &notify.notification else {
        panic!()
    };
    assert_eq!(
        request.agent_supported_protocol_versions,
        "1.0,1.1,1.2,1.3,1.4"
    );
    assert!(!request.serial_number.is_empty());
}

#[test]
fn r_not_6_it_follows_the_retry_algorithm_and_never_expires() {
    let mut bench = Bench::started(settings(), Store::in_memory().unwrap());
    bench.pass(Duration::from_secs(30 * 86_400));
    let sent = onboard_requests(&bench);
    assert!(sent.len() > 500, "{}", sent.len());
    let wait = sent[1].at - sent[0].at;
    assert!(
        wait >= Duration::from_secs(5) && wait <= Duration::from_secs(10),
        "{wait:?}"
    );
}

#[test]
fn r_not_6a_only_a_notify_response_ends_it() {
    let mut bench = Bench::started(settings(), Store::in_memory().unwrap());
    let id = onboard_requests(&bench)[0].message.id.clone();
    bench.message(
        CONTROLLER,
        &Message::error(id.clone(), ErrorCode(7000), "not now"),
    );
    bench.notifications.clear();
    bench.pass(Duration::from_secs(10));
    assert_eq!(onboard_requests(&bench).len(), 1);
    bench.message(
        CONTROLLER,
        &Message::response(id, homefleet_usp::proto::msg::NotifyResp::default()),
    );
    bench.notifications.clear();
    bench.pass(Duration::from_secs(86_400));
    assert!(onboard_requests(&bench).is_empty());
}

#[test]
fn send_onboard_request_sends_one_to_an_enabled_controller() {
    let mut bench = Bench::new();
    let command =
        "Device.LocalAgent.Controller.[EndpointID==\"proto::controller\"].SendOnBoardRequest()";
    bench.ask(operate(command, "key", true, Default::default()));
    assert_eq!(onboard_requests(&bench).len(), 1);
    bench.add(
        "Device.LocalAgent.Controller.",
        &[("EndpointID", "proto::other")],
    );
    let command = "Device.LocalAgent.Controller.2.SendOnBoardRequest()";
    let Response::OperateResp(response) = bench.ask(operate(command, "", true, Default::default()))
    else {
        panic!()
    };
    assert!(matches!(
        response.operation_results[0].operation_resp,
        Some(OperationResp::CmdFailure(_))
    ));
}
