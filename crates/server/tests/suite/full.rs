//! The whole loop: this server and our agent, for this very machine, over CoAP in DTLS.

use std::path::Path;

use homefleet_agent::{Agent, config as agent_config};
use homefleet_api::{
    AddObject, Event, NewTask, Notification, Operation, ParamSetting, SetObject, SubscriptionState,
    Task, TaskResult, TaskState,
};
use homefleet_server::{Access, Server};

use crate::common::{CONTROLLER, DEVICE, get};
use crate::live::{Authority, WAIT, config, operator};

fn agent(
    directory: &Path,
    authority: &Authority,
    server: std::net::SocketAddr,
) -> agent_config::Config {
    let (certificate, key) = authority.issue(DEVICE);
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let text = agent_config::template(&agent_config::Init {
        controller: Some(format!("coaps://{server}/usp")),
        controller_id: Some(CONTROLLER.to_owned()),
        endpoint_id: Some(DEVICE.to_owned()),
        ca: write("ca.pem", &authority.pem),
        certificate: write("agent.pem", &certificate),
        key: write("agent-key.pem", &key),
        data_dir: Some(directory.join("agent")),
        listen: Some("127.0.0.1:0".to_owned()),
        ..Default::default()
    });
    let accurate =
        |name: &str| (name == "HOMEFLEET_AGENT_TRUST_TIME").then(|| "accurate".to_owned());
    let mut config =
        agent_config::Config::parse(&text, &directory.join("agent.toml"), accurate).unwrap();
    config.device.restart = agent_config::Restart::Agent;
    config.device.allow_network_changes = false;
    config
}

async fn run(access: &Access, operation: Operation) -> Task {
    let task = access
        .submit(
            DEVICE,
            NewTask {
                operation,
                expires_in: None,
            },
        )
        .await
        .unwrap();
    let task = access.wait_task(&task.id, WAIT).await.unwrap();
    assert_eq!(task.state, TaskState::Done, "{task:?}");
    task
}

fn setting(name: &str, value: &str) -> ParamSetting {
    ParamSetting {
        name: name.to_owned(),
        value: value.to_owned(),
        required: true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_reads_sets_and_is_notified_by_a_real_agent() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("CA");
    let server = Server::start(config(directory.path(), &authority, &authority))
        .await
        .unwrap();
    let access = operator(&server).await;
    let mut events = access.events(None).unwrap();
    let agent = Agent::start(agent(directory.path(), &authority, server.coap_addr()))
        .await
        .unwrap();

    // Registered by its OnBoardRequest, read, and subscribed to.
    let device = tokio::time::timeout(WAIT, async {
        loop {
            if let Ok(device) = access.device(DEVICE).await
                && !device.subscriptions.is_empty()
                && device
                    .subscriptions
                    .iter()
                    .all(|one| one.state != SubscriptionState::Wanted)
            {
                break device;
            }
            events.next().await.unwrap();
        }
    })
    .await
    .expect("the device was not onboarded in time");
    assert!(
        device
            .subscriptions
            .iter()
            .all(|one| one.state == SubscriptionState::Active),
        "{:?}",
        device.subscriptions
    );
    assert!(device.parameter_count > 20, "{device:?}");

    let task = run(&access, get("Device.DeviceInfo.UpTime")).await;
    let Some(TaskResult::Get { paths }) = task.result else {
        panic!("{task:?}")
    };
    let up_time: f64 = paths[0].objects[0].params["UpTime"].parse().unwrap();
    let machine = std::fs::read_to_string("/proc/uptime").unwrap();
    let machine: f64 = machine.split(' ').next().unwrap().parse().unwrap();
    assert!(
        (machine - up_time).abs() < 60.0,
        "{up_time} is not this machine's {machine}"
    );

    let subscription = AddObject {
        path: "Device.LocalAgent.Subscription.".to_owned(),
        params: vec![
            setting("ID", "test"),
            setting("NotifType", "ValueChange"),
            setting("ReferenceList", "Device.DeviceInfo.ProvisioningCode"),
            setting("Enable", "true"),
        ],
    };
    run(
        &access,
        Operation::Add {
            allow_partial: false,
            objects: vec![subscription],
        },
    )
    .await;
    let object = SetObject {
        path: "Device.DeviceInfo.".to_owned(),
        params: vec![setting("ProvisioningCode", "floor-2")],
    };
    run(
        &access,
        Operation::Set {
            allow_partial: false,
            objects: vec![object],
        },
    )
    .await;
    let told = tokio::time::timeout(WAIT, async {
        loop {
            if let Event::Notification {
                notification: Notification::ValueChange { path, value },
                ..
            } = &*events.next().await.unwrap()
            {
                break (path.clone(), value.clone());
            }
        }
    });
    assert_eq!(
        told.await.unwrap(),
        (
            "Device.DeviceInfo.ProvisioningCode".to_owned(),
            "floor-2".to_owned()
        )
    );
    agent.stop().await;
    server.stop().await;
}
