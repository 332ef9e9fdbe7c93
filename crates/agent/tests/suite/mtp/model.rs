//! The data model of the MTPs: what Controllers write takes effect, and what is secret stays so.

use homefleet_agent::engine::OwnMtp;
use homefleet_agent::store::Store;
use homefleet_usp::message::Body;
use homefleet_usp::message::{add, create_object, delete, operate};

use crate::bench::{Bench, CONTROLLER, settings, stomp, websocket};
use crate::mtp::{ROW, add_stomp, add_websocket};

#[test]
fn the_configured_mtp_is_the_first_plan() {
    let bench = Bench::new();
    let plan = bench.plan();
    let coaps = plan.coaps.as_ref().unwrap();
    assert_eq!((coaps.port, coaps.path.as_str()), (5684, "usp"));
    assert!(plan.coap.is_none() && plan.stomp.is_empty() && plan.websocket.is_empty());
}

#[test]
fn a_controllers_websocket_is_opened_as_soon_as_it_is_written() {
    let mut bench = Bench::new();
    let mtp = add_websocket(&mut bench);
    let link = &bench.plan().websocket[mtp.trim_end_matches('.')];
    assert_eq!(
        (link.endpoint_id.as_str(), link.host.as_str(), link.port),
        (CONTROLLER, "c.example", 443)
    );
    assert_eq!((link.path.as_str(), link.secure), ("/usp", true));
    assert_eq!(
        (link.retry_wait, link.retry_multiplier, link.keep_alive),
        (5, 2000, 60)
    );
    bench.set(
        &format!("{mtp}WebSocket."),
        "SessionRetryMinimumWaitInterval",
        "7",
    );
    assert_eq!(
        bench.plan().websocket[mtp.trim_end_matches('.')].retry_wait,
        7
    );
    bench.ask(delete(false, [mtp.as_str()]));
    assert!(bench.plan().websocket.is_empty());
}

#[test]
fn r_stomp_3_a_stomp_connection_is_opened_with_what_was_written() {
    let mut bench = Bench::new();
    let name = add_stomp(&mut bench);
    let link = &bench.plan().stomp[&name];
    assert_eq!(
        (link.host.as_str(), link.port, link.secure),
        ("broker.example", 61613, true)
    );
    let (user, password) = link.login.as_ref().unwrap();
    assert_eq!((user.as_str(), password.reveal()), ("agent", "hush"));
    assert_eq!(link.destination.as_deref(), Some("/queue/agent"));
    assert_eq!((link.retry, link.heart_beat), ((60, 2000, 30720), None));
    let connection = format!("{name}.");
    bench.set(&connection, "OutgoingHeartbeat", "3000");
    bench.set(&connection, "EnableHeartbeats", "true");
    assert_eq!(bench.plan().stomp[&name].heart_beat, Some((3000, 0)));
    // TP-469 6.10: another destination is another subscription of the same connection.
    bench.set(
        "Device.LocalAgent.MTP.2.STOMP.",
        "Destination",
        "/queue/other",
    );
    assert_eq!(
        bench.plan().stomp[&name].destination.as_deref(),
        Some("/queue/other")
    );
    bench.set(&connection, "Enable", "false");
    assert!(bench.plan().stomp.is_empty());
}

#[test]
fn an_mqtt_client_is_opened_with_what_was_written() {
    let mut bench = Bench::new();
    let client = bench.add(
        "Device.MQTT.Client.",
        &[
            ("BrokerAddress", "broker.example"),
            ("BrokerPort", "8883"),
            ("TransportProtocol", "TLS"),
            ("Enable", "true"),
            ("WillEnable", "true"),
            ("WillTopic", "gone"),
            ("WillValue", "agent"),
        ],
    );
    let reference = client.trim_end_matches('.');
    let subscription = bench.add(
        &format!("{client}Subscription."),
        &[("Topic", "usp/all"), ("QoS", "2"), ("Enable", "true")],
    );
    let own = bench.add(
        "Device.LocalAgent.MTP.",
        &[("Protocol", "MQTT"), ("Enable", "true")],
    );
    assert!(bench.plan().mqtt.is_empty(), "no MTP uses it");
    bench.set(&format!("{own}MQTT."), "Reference", reference);
    bench.set(
        &format!("{own}MQTT."),
        "ResponseTopicConfigured",
        "usp/agent",
    );
    let link = &bench.plan().mqtt[reference];
    assert_eq!((link.port, link.secure, link.version_5), (8883, true, true));
    assert_eq!(link.subscriptions, [("usp/all".to_owned(), 2)]);
    assert_eq!(link.response_topic.as_deref(), Some("usp/agent"));
    assert_eq!(link.will.as_ref().unwrap().topic, "gone");
    assert_eq!(link.client_id, None);
    bench.set(&subscription, "Enable", "false");
    assert!(bench.plan().mqtt[reference].subscriptions.is_empty());
    // R-MQTT.9: what the broker assigned is kept, and changes nothing that is open.
    let plans = bench.plans.len();
    bench
        .engine
        .handle_client_id(bench.now, reference, "auto-1");
    bench.drain();
    assert_eq!(bench.plans.len(), plans);
    assert_eq!(bench.value(&format!("{client}ClientID")), "auto-1");
}

#[test]
fn what_is_not_protected_is_not_opened_unless_the_configuration_allows_it() {
    for allowed in [false, true] {
        let mut settings = settings();
        settings.allow_insecure = allowed;
        let mut bench = Bench::started(settings, Store::in_memory().unwrap());
        let mtp = add_websocket(&mut bench);
        bench.set(&format!("{mtp}WebSocket."), "EnableEncryption", "false");
        let name = add_stomp(&mut bench);
        bench.set(&format!("{name}."), "EnableEncryption", "false");
        let own = bench.add(
            "Device.LocalAgent.MTP.",
            &[("Protocol", "WebSocket"), ("Enable", "true")],
        );
        bench.set(&format!("{own}WebSocket."), "EnableEncryption", "false");
        let plan = bench.plan();
        assert_eq!(plan.websocket.is_empty(), !allowed);
        assert_eq!(plan.stomp.is_empty(), !allowed);
        assert_eq!(plan.websocket_servers.is_empty(), !allowed);
        let status = bench.value(&format!("{name}.Status"));
        assert_eq!(status == "Error_Misconfigured", !allowed, "{status}");
    }
}

#[test]
fn passwords_read_as_empty_and_are_told_to_nobody() {
    let mut bench = Bench::new();
    bench.subscribe("ValueChange", "Device.STOMP.", &[]);
    let name = add_stomp(&mut bench);
    bench.notifications.clear();
    bench.set(&format!("{name}."), "Password", "other");
    assert_eq!(bench.value(&format!("{name}.Password")), "");
    let told = format!("{:?}", bench.changes());
    assert!(!told.contains("other") && !told.contains("hush"), "{told}");
    assert!(!format!("{:?}", bench.plan()).contains("other"));
    assert_eq!(
        bench.plan().stomp[&name].login.as_ref().unwrap().1.reveal(),
        "other"
    );
}

#[test]
fn status_follows_the_channel() {
    let mut bench = Bench::new();
    let name = add_stomp(&mut bench);
    let status = |bench: &mut Bench| bench.value(&format!("{name}.Status"));
    assert_eq!(status(&mut bench), "Connecting");
    assert_eq!(bench.value("Device.LocalAgent.MTP.2.Status"), "Down");
    let channel = bench.up(stomp(&name, "/queue/told"));
    assert_eq!(status(&mut bench), "Enabled");
    assert_eq!(bench.value("Device.LocalAgent.MTP.2.Status"), "Up");
    assert_eq!(
        bench.value("Device.LocalAgent.MTP.2.STOMP.DestinationFromServer"),
        "/queue/told"
    );
    bench.down(channel);
    assert_eq!(status(&mut bench), "Connecting");
    bench.set(&format!("{name}."), "Enable", "false");
    assert_eq!(status(&mut bench), "Disabled");
}

#[test]
fn a_controllers_next_mtp_comes_after_those_it_has() {
    let mut bench = Bench::new();
    let mtp = add_websocket(&mut bench);
    assert_eq!(bench.value(&format!("{mtp}Order")), "2");
    // `Protocol` is a unique key: one of each.
    let again = create_object(format!("{ROW}MTP."), [("Protocol", "WebSocket", true)]);
    let Body::Error(error) = bench.ask_as(CONTROLLER, add(false, vec![again])) else {
        panic!()
    };
    assert!([7021, 7025].contains(&error.err_code), "{error:?}");
}

#[test]
fn the_mtps_of_the_file_are_entered_once_and_followed_when_they_change() {
    let directory = tempfile::tempdir().unwrap();
    let mut with = settings();
    with.mtps.push(OwnMtp::WebSocket {
        port: 8443,
        path: "/usp".into(),
        encrypted: true,
    });
    with.mtps.push(OwnMtp::Uds {
        path: "/run/usp.sock".into(),
        listens: true,
    });
    let mut bench = Bench::started(with.clone(), Store::open(directory.path()).unwrap());
    assert_eq!(
        bench.plan().websocket_servers["Device.LocalAgent.MTP.2"].port,
        8443
    );
    assert!(bench.plan().uds["Device.UnixDomainSockets.UnixDomainSocket.1"].listens);
    // What a controller changes stays, until the file changes.
    bench.set("Device.LocalAgent.MTP.2.WebSocket.", "Port", "9443");
    let channel = websocket(None);
    bench.up(channel);
    drop(bench);
    let bench = Bench::started(with.clone(), Store::open(directory.path()).unwrap());
    assert_eq!(
        bench.plan().websocket_servers["Device.LocalAgent.MTP.2"].port,
        9443
    );
    drop(bench);
    with.mtps.truncate(1);
    with.mtps.push(OwnMtp::WebSocket {
        port: 8444,
        path: "/usp".into(),
        encrypted: true,
    });
    let bench = Bench::started(with, Store::open(directory.path()).unwrap());
    assert_eq!(
        bench.plan().websocket_servers["Device.LocalAgent.MTP.2"].port,
        8444
    );
    assert!(bench.plan().uds.is_empty());
}

#[test]
fn the_controller_of_the_file_is_reached_as_its_url_says() {
    let mut settings = settings();
    let controller = settings.controller.as_mut().unwrap();
    controller.url = "stomps://broker.example/queue/controller".parse().unwrap();
    controller.broker.username = Some("agent".into());
    let bench = Bench::started(settings.clone(), Store::in_memory().unwrap());
    let link = &bench.plan().stomp["Device.STOMP.Connection.1"];
    assert_eq!((link.host.as_str(), link.port), ("broker.example", 61614));
    assert_eq!(
        link.destination.as_deref(),
        Some("/topic/usp.agent.proto::agent")
    );
    settings.controller.as_mut().unwrap().url = "mqtts://b.example/usp/c".parse().unwrap();
    let bench = Bench::started(settings.clone(), Store::in_memory().unwrap());
    let link = &bench.plan().mqtt["Device.MQTT.Client.1"];
    assert_eq!(
        link.response_topic.as_deref(),
        Some("usp/agent/proto::agent")
    );
    settings.controller.as_mut().unwrap().url = "uds:/run/c.sock".parse().unwrap();
    let bench = Bench::started(settings.clone(), Store::in_memory().unwrap());
    assert_eq!(
        bench.plan().uds.values().next().unwrap().path,
        "/run/c.sock"
    );
    settings.controller.as_mut().unwrap().url = "wss://c.example/usp".parse().unwrap();
    let bench = Bench::started(settings, Store::in_memory().unwrap());
    assert_eq!(bench.plan().websocket.len(), 1);
}

#[test]
fn a_connection_is_made_anew_after_the_answer_when_a_controller_wants_that() {
    let mut bench = Bench::new();
    let mtp = add_websocket(&mut bench);
    let name = mtp.trim_end_matches('.').to_owned();
    bench.up(websocket(Some(&name)));
    bench.order.clear();
    bench.ask(operate(
        format!("{mtp}WebSocket.Reset()"),
        "",
        true,
        Default::default(),
    ));
    assert_eq!(bench.reconnects, [name]);
    let kinds: Vec<&str> = bench.order.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds, ["answer", "disconnect"]);
    bench.set(&mtp, "Enable", "false");
    bench.ask(operate(
        format!("{mtp}WebSocket.Reset()"),
        "",
        true,
        Default::default(),
    ));
    assert_eq!(bench.reconnects.len(), 1, "there is nothing to make anew");
}

#[test]
fn a_broker_that_the_file_names_no_more_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let start = |url: &str| {
        let mut settings = settings();
        settings.controller.as_mut().unwrap().url = url.parse().unwrap();
        Bench::started(settings, Store::open(directory.path()).unwrap())
    };
    let hosts = |bench: &Bench| -> Vec<String> {
        let links = bench.plan().stomp.values();
        links.map(|link| link.host.clone()).collect()
    };
    assert_eq!(
        hosts(&start("stomps://one.example/topic/c")),
        ["one.example"]
    );
    assert_eq!(
        hosts(&start("stomps://two.example/topic/c")),
        ["two.example"]
    );
    let bench = start("mqtts://b.example/usp/c");
    assert!(bench.plan().stomp.is_empty() && bench.plan().mqtt.len() == 1);
    let bench = start("wss://c.example/usp");
    assert!(bench.plan().mqtt.is_empty() && bench.plan().websocket.len() == 1);
}

#[test]
fn a_plan_without_any_mtp_is_told_too() {
    let mut settings = settings();
    settings.controller = None;
    settings.mtps.clear();
    let bench = Bench::started(settings, Store::in_memory().unwrap());
    assert_eq!(
        bench.plans,
        [Default::default()],
        "what was open before is to end"
    );
}

#[test]
fn a_change_of_status_is_told_when_it_happens() {
    let mut bench = Bench::new();
    let name = add_stomp(&mut bench);
    bench.value(&format!("{name}.Status"));
    bench.subscribe("ValueChange", &format!("{name}.Status"), &[]);
    let channel = bench.up(stomp(&name, "/queue/agent"));
    bench.down(channel);
    let told: Vec<String> = bench
        .changes()
        .into_iter()
        .map(|(_, value)| value)
        .collect();
    assert_eq!(told, ["Enabled", "Connecting"]);
}
