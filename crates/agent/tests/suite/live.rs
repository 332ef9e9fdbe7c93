//! The agent of this very machine and a controller, over DTLS on the loopback interface.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use homefleet_agent::{Agent, Config};
use homefleet_net::mtp::{Destination, SendError};
use homefleet_usp::{
    Message,
    message::{Response, add, create_object, get, operate},
    proto::msg::{Notify, notify::Notification, operate_resp::operation_result::OperationResp},
};

use crate::{
    bench::{CONTROLLER, STRANGER},
    pki::{Ca, Controller, PATIENCE, install},
};

fn is_onboarding(notify: &Notify) -> bool {
    matches!(notify.notification, Some(Notification::OnBoardReq(_)))
}

fn is_boot(notify: &Notify) -> bool {
    matches!(&notify.notification, Some(Notification::Event(event)) if event.event_name == "Boot!")
}

async fn start(directory: &Path, ca: &Ca, controller: &Controller) -> Agent {
    let text = install(directory, ca, controller.port());
    let config = Config::parse(&text, &directory.join("agent.toml"), |_| None).unwrap();
    Agent::start(config).await.unwrap()
}

/// Waits until the agent has given up a delivery.
async fn not_delivered(agent: &Agent) {
    let end = Instant::now() + PATIENCE;
    while agent.stats().await.unwrap().deliveries_failed == 0 {
        assert!(
            Instant::now() < end,
            "nothing was refused: {:?}",
            agent.net_stats()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn agent_at(agent: &Agent) -> Destination {
    let uri = format!("coaps://{}/usp", agent.local_addr())
        .parse()
        .unwrap();
    Destination {
        uri,
        endpoint_id: Some(agent.endpoint_id().clone()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_manages_this_machine_over_dtls() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let mut controller = Controller::start(&ca, &ca, CONTROLLER).await;
    let agent = start(directory.path(), &ca, &controller).await;
    controller.notified(is_onboarding).await;
    let boot = controller.notified(is_boot).await;
    assert_eq!(boot.subscription_id, "factory-boot");

    // Real values of this machine.
    let uptime: f64 = std::fs::read_to_string("/proc/uptime")
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let seen: f64 = controller
        .value("Device.DeviceInfo.UpTime")
        .await
        .parse()
        .unwrap();
    assert!((seen - uptime).abs() <= 30.0, "{seen} and {uptime}");
    let Response::GetResp(response) = controller.ask(get(["Device."], 0)).await else {
        panic!()
    };
    let objects = &response.req_path_results[0].resolved_path_results;
    assert!(
        objects.len() > 30,
        "a whole tree in many blocks: {} objects",
        objects.len()
    );

    // A subscription, a change, a notification.
    let params = [
        ("ID", "live", true),
        ("NotifType", "ValueChange", true),
        (
            "ReferenceList",
            "Device.LocalAgent.Controller.1.ProvisioningCode",
            true,
        ),
        ("Enable", "true", true),
        ("NotifRetry", "true", true),
    ];
    controller
        .ask(add(
            false,
            vec![create_object("Device.LocalAgent.Subscription.", params)],
        ))
        .await;
    controller
        .set(
            "Device.LocalAgent.Controller.1.",
            "ProvisioningCode",
            "gold",
        )
        .await;
    let change = controller
        .notified(|notify| notify.subscription_id == "live")
        .await;
    let Some(Notification::ValueChange(change)) = change.notification else {
        panic!("{change:?}")
    };
    assert_eq!(change.param_value, "gold");
    assert_eq!(
        controller
            .value("Device.LocalAgent.Controller.1.ProvisioningCode")
            .await,
        "gold"
    );

    // An asynchronous command.
    let params = [
        ("ID", "ping", true),
        ("NotifType", "OperationComplete", true),
        ("ReferenceList", "Device.IP.Diagnostics.IPPing()", true),
        ("Enable", "true", true),
    ];
    controller
        .ask(add(
            false,
            vec![create_object("Device.LocalAgent.Subscription.", params)],
        ))
        .await;
    let args = [
        ("Host", "127.0.0.1"),
        ("ProtocolVersion", "IPv4"),
        ("NumberOfRepetitions", "1"),
        ("Timeout", "1000"),
        ("DataBlockSize", "64"),
    ];
    let args = args
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let request = operate("Device.IP.Diagnostics.IPPing()", "ping-1", true, args);
    let Response::OperateResp(response) = controller.ask(request).await else {
        panic!()
    };
    assert!(matches!(
        response.operation_results[0].operation_resp,
        Some(OperationResp::ReqObjPath(_))
    ));
    let done = controller
        .notified(|notify| notify.subscription_id == "ping")
        .await;
    let Some(Notification::OperComplete(done)) = done.notification else {
        panic!("{done:?}")
    };
    assert_eq!(
        (done.command_name.as_str(), done.command_key.as_str()),
        ("IPPing()", "ping-1")
    );

    let stats = agent.stats().await.unwrap();
    assert!(stats.requests >= 6 && stats.errors_sent == 0, "{stats:?}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reboot_restarts_the_agent_alone_when_it_is_told_so() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let mut controller = Controller::start(&ca, &ca, CONTROLLER).await;
    let agent = start(directory.path(), &ca, &controller).await;
    controller.notified(is_boot).await;
    controller
        .set(
            "Device.LocalAgent.Controller.1.",
            "ProvisioningCode",
            "kept",
        )
        .await;
    controller
        .ask(operate(
            "Device.Reboot()",
            "again",
            true,
            Default::default(),
        ))
        .await;
    let boot = controller.notified(is_boot).await;
    let Some(Notification::Event(event)) = boot.notification else {
        panic!()
    };
    assert_eq!(
        (
            event.params["Cause"].as_str(),
            event.params["CommandKey"].as_str()
        ),
        ("RemoteReboot", "again")
    );
    assert_eq!(
        controller
            .value("Device.LocalAgent.Controller.1.ProvisioningCode")
            .await,
        "kept"
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_sec_2_a_controller_of_another_ca_is_refused() {
    let (directory, ca, other) = (tempfile::tempdir().unwrap(), Ca::new(), Ca::new());
    let mut controller = Controller::start(&ca, &ca, CONTROLLER).await;
    let agent = start(directory.path(), &ca, &controller).await;
    controller.notified(is_boot).await;
    // It trusts the agent; the agent has no reason to trust it.
    let mut intruder = Controller::start(&other, &ca, CONTROLLER).await;
    intruder.agent = Some(agent_at(&agent));
    let before = agent.stats().await.unwrap();
    let error = intruder
        .send(&Message::request("1", get(["Device."], 1)))
        .await
        .unwrap_err();
    assert!(
        matches!(error, SendError::Handshake(_) | SendError::Timeout),
        "{error:?}"
    );
    assert_eq!(agent.stats().await.unwrap().requests, before.requests);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_sec_0a_a_record_that_claims_another_endpoint_is_refused() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let mut controller = Controller::start(&ca, &ca, CONTROLLER).await;
    let agent = start(directory.path(), &ca, &controller).await;
    controller.notified(is_boot).await;
    // A certificate of the right CA, but for another endpoint; its Records claim to be the controller's.
    let mut impostor = Controller::start(&ca, &ca, STRANGER).await;
    impostor.agent = Some(agent_at(&agent));
    let before = agent.stats().await.unwrap();
    let error = impostor
        .send(&Message::request("1", get(["Device."], 1)))
        .await
        .unwrap_err();
    let SendError::Refused { code, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(code.to_string(), "4.03");
    assert_eq!(agent.stats().await.unwrap().requests, before.requests);
    assert_eq!(agent.net_stats().identity_mismatch, 1);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_tells_nothing_to_a_controller_it_does_not_trust() {
    let (directory, ca, other) = (tempfile::tempdir().unwrap(), Ca::new(), Ca::new());
    // At the controller's address, with the controller's name, but signed by another CA.
    let mut intruder = Controller::start(&other, &ca, CONTROLLER).await;
    let agent = start(directory.path(), &ca, &intruder).await;
    not_delivered(&agent).await;
    assert!(intruder.notifications.is_empty() && intruder.mtp.stats().records_in == 0);
    intruder.notifications.clear();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_sec_23_another_endpoint_at_the_controllers_address_is_told_nothing() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    // The right CA, the right address, but a certificate of another endpoint.
    let other = Controller::with(ca.issue_for_this_host(STRANGER), &ca, STRANGER).await;
    let agent = start(directory.path(), &ca, &other).await;
    not_delivered(&agent).await;
    assert_eq!(other.mtp.stats().records_in, 0);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_source_decides_whether_dates_count() {
    let ca = Ca::new();
    for (time, trusted) in [("unknown", true), ("accurate", false)] {
        let directory = tempfile::tempdir().unwrap();
        let mut controller = Controller::with(ca.issue_expired(CONTROLLER), &ca, CONTROLLER).await;
        let text = install(directory.path(), &ca, controller.port())
            .replace("time = \"accurate\"", &format!("time = \"{time}\""));
        let config = Config::parse(&text, &directory.path().join("agent.toml"), |_| None).unwrap();
        let agent = Agent::start(config).await.unwrap();
        if trusted {
            controller.notified(is_boot).await;
        } else {
            not_delivered(&agent).await;
            assert_eq!(controller.mtp.stats().records_in, 0);
        }
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_does_not_start_again_is_noticed() {
    use homefleet_agent::provider::reboot::{Action, Restart};
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let text = install(directory.path(), &ca, 9);
    let path = directory.path().join("agent.toml");
    let mut config = Config::parse(&text, &path, |_| None).unwrap();
    config.device.restart = homefleet_agent::config::Restart::Agent;
    let (calls, restarts) = std::sync::mpsc::channel();
    let providers = move |restart| {
        // The test holds the other end until the first call.
        assert!(calls.send(restart).is_ok(), "no second start");
        Vec::new()
    };
    let agent = Agent::start_with(config, Box::new(providers))
        .await
        .unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), agent.ended()).await;
    assert!(early.is_err());
    let Restart::Call(restart) = restarts.recv().unwrap() else {
        panic!()
    };
    drop(restarts);
    restart(Action::Reboot);
    tokio::time::timeout(PATIENCE, agent.ended()).await.unwrap();
    agent.stop().await;
}
