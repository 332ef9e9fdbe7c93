//! Which way a Record goes, and what is said on coming and leaving (R-MTP.6 to R-MTP.9).

use std::time::Duration;

use homefleet_agent::engine::Source;
use homefleet_net::mtp::Channel;
use homefleet_trust::Basis;
use homefleet_usp::{
    Message, Record,
    message::{Body, get},
    record::RecordBody,
};

use crate::bench::{AGENT, Bench, CONTROLLER, id, settings, stomp, websocket};
use crate::mtp::{ROW, add_stomp, add_websocket, from, peer};

fn label(bench: &mut Bench, text: &str) {
    let update = homefleet_usp::message::update_object("Device.X_Test.", [("Label", text, true)]);
    bench.ask(homefleet_usp::message::set(false, vec![update]));
}

fn request(msg_id: &str) -> Message {
    Message::request(msg_id, get(["Device.X_Test.Label"], 0))
}

/// A controller with CoAP and, by choice first, WebSocket; subscribed with retries.
fn with_websocket_first() -> Bench {
    let mut bench = Bench::new();
    let mtp = add_websocket(&mut bench);
    bench.set(&format!("{ROW}MTP.1."), "Order", "9");
    bench.set(&mtp, "Order", "1");
    bench.subscribe(
        "ValueChange",
        "Device.X_Test.Label",
        &[("NotifRetry", "true")],
    );
    bench.notifications.clear();
    bench.order.clear();
    bench
}

fn routes(bench: &Bench) -> Vec<&str> {
    bench
        .notifications
        .iter()
        .map(|sent| sent.uri.as_str())
        .collect()
}

#[test]
fn the_first_way_that_is_up_is_used() {
    let mut bench = with_websocket_first();
    label(&mut bench, "a");
    assert_eq!(
        routes(&bench),
        ["coaps://192.0.2.1/usp"],
        "WebSocket is not up"
    );
    bench.notifications.clear();
    let channel = bench.up(websocket(Some("Device.LocalAgent.Controller.1.MTP.2")));
    label(&mut bench, "b");
    assert_eq!(routes(&bench), ["wss:"]);
    bench.notifications.clear();
    bench.down(channel);
    label(&mut bench, "c");
    assert_eq!(routes(&bench), ["coaps://192.0.2.1/usp"]);
}

#[test]
fn the_next_way_is_used_when_one_fails() {
    let mut bench = with_websocket_first();
    bench.up(websocket(None));
    label(&mut bench, "a");
    let sent = bench.notifications.remove(0);
    assert_eq!(sent.uri, "wss:");
    bench.delivered(&sent, false);
    let again = bench.notifications.remove(0);
    assert_eq!(again.uri, "coaps://192.0.2.1/usp");
    assert_eq!(again.message, sent.message, "the same Message ID");
    bench.delivered(&again, false);
    assert!(bench.notifications.is_empty(), "every way was tried");
    assert_eq!(bench.engine.pending(), 1);
    assert_eq!(bench.engine.stats().detours, 1);
}

#[test]
fn nothing_that_is_repeated_is_lost_when_a_channel_dies() {
    let mut bench = with_websocket_first();
    bench.set(&format!("{ROW}MTP.1."), "Enable", "false");
    label(&mut bench, "a");
    assert!(bench.notifications.is_empty(), "there is no way");
    let channel = bench.up(websocket(None));
    assert_eq!(routes(&bench), ["wss:"], "at once when there is one");
    let sent = bench.notifications.remove(0);
    bench.down(channel);
    bench.delivered(&sent, false);
    bench.pass(Duration::from_secs(3600));
    assert_eq!(bench.engine.pending(), 1);
    bench.notifications.clear();
    bench.up(websocket(None));
    assert_eq!(bench.notifications.len(), 1);
    assert_eq!(bench.notifications[0].message, sent.message);
    bench.answer_notifications();
    assert_eq!(bench.engine.pending(), 0);
}

#[test]
fn what_is_not_repeated_waits_a_minute_for_a_channel() {
    for (wait, comes) in [(59, true), (61, false)] {
        let mut bench = with_websocket_first();
        bench.set(&format!("{ROW}MTP.1."), "Enable", "false");
        bench.subscribe("ValueChange", "Device.X_Test.Level", &[("ID", "once")]);
        bench.set("Device.X_Test.", "Level", "7");
        assert!(bench.notifications.is_empty());
        bench.pass(Duration::from_secs(wait));
        bench.up(websocket(None));
        assert_eq!(bench.notifications.len(), usize::from(comes), "{wait}");
        assert_eq!(
            bench.engine.stats().notifications_dropped,
            u64::from(!comes)
        );
    }
}

#[test]
fn an_answer_goes_by_the_mtp_of_its_request() {
    let mut bench = with_websocket_first();
    let name = add_stomp(&mut bench);
    let session = bench.up(websocket(None));
    let broker = bench.up(stomp(&name, "/queue/agent"));
    bench.answers.clear();
    bench.message_by(CONTROLLER, &request("1"), from(session, "wss:"));
    let mut source = from(broker, &format!("stomp:{name}/%2Fqueue%2Felsewhere"));
    source.peer = Some(peer(Basis::TrustedBroker));
    bench.message_by(CONTROLLER, &request("2"), source.clone());
    let uris: Vec<&str> = bench.answers.iter().map(|sent| sent.uri.as_str()).collect();
    assert_eq!(
        uris,
        ["wss:", &format!("stomp:{name}/%2Fqueue%2Felsewhere")]
    );
    // Without a way back told, the one that is configured at the same broker.
    bench.answers.clear();
    source.reply_to = None;
    bench.message_by(CONTROLLER, &request("3"), source);
    assert_eq!(
        bench.answers[0].uri,
        format!("stomp:{name}/%2Fqueue%2Fcontroller")
    );
}

#[test]
fn a_request_that_comes_over_two_mtps_is_done_once_and_answered_on_both() {
    let mut bench = with_websocket_first();
    let session = bench.up(websocket(None));
    let create =
        homefleet_usp::message::create_object("Device.X_Test.Item.", [("Name", "once", true)]);
    let message = Message::request("twice", homefleet_usp::message::add(false, vec![create]));
    bench.answers.clear();
    bench.message(CONTROLLER, &message);
    bench.message_by(CONTROLLER, &message, from(session, "wss:"));
    assert_eq!(bench.answers.len(), 2);
    assert_eq!(bench.answers[0].message, bench.answers[1].message);
    assert_ne!(bench.answers[0].uri, bench.answers[1].uri);
    assert_eq!(bench.value("Device.X_Test.ItemNumberOfEntries"), "1");
}

#[test]
fn an_answer_never_leaves_on_a_weaker_channel_whatever_the_mtp() {
    let mut bench = with_websocket_first();
    let session = bench.up(websocket(None));
    bench.answers.clear();
    for weaker in [
        "ws:",
        "coap://192.0.2.1/usp",
        "stomp:unknown/x",
        "mqtt:unknown/x",
    ] {
        let mut source = from(session, weaker);
        source.peer = Some(peer(Basis::TrustedBroker));
        bench.message_by(CONTROLLER, &request(weaker), source);
        assert!(bench.answers.is_empty(), "{weaker}");
    }
}

#[test]
fn a_certificate_of_a_broker_that_is_not_trusted_proves_no_controller() {
    let mut bench = Bench::new();
    let name = add_stomp(&mut bench);
    let mut channel = stomp(&name, "/queue/agent");
    channel.identity = Some(std::sync::Arc::new(crate::bench::identity(
        Basis::TrustedCa,
        &[],
    )));
    let broker = bench.up(channel);
    bench.answers.clear();
    let reply_to = format!("stomp:{name}/%2Fqueue%2Fx");
    bench.message_by(CONTROLLER, &request("1"), from(broker, &reply_to));
    let Body::Error(error) = &bench.answers[0].message.body else {
        panic!()
    };
    assert_eq!(error.err_code, 7101);
}

#[test]
fn a_socket_of_this_device_speaks_for_controllers_that_are_reached_there_alone() {
    let mut bench = Bench::new();
    let channel = Channel {
        connect: homefleet_net::mtp::Connect::Uds,
        identity: None,
        ..websocket(None)
    };
    let channel = bench.up(channel);
    let source = Source {
        peer: None,
        channel: Some(channel),
        reply_to: Some(crate::bench::route("uds:")),
    };
    bench.answers.clear();
    bench.message_by(CONTROLLER, &request("1"), source.clone());
    let Body::Error(error) = &bench.answers[0].message.body else {
        panic!()
    };
    assert_eq!(error.err_code, 7101);
    bench.add(
        &format!("{ROW}MTP."),
        &[("Protocol", "UDS"), ("Enable", "true")],
    );
    bench.answers.clear();
    bench.message_by(CONTROLLER, &request("2"), source);
    assert!(matches!(bench.answers[0].message.body, Body::Response(_)));
    assert_eq!(bench.answers[0].uri, "uds:");
}

#[test]
fn r_mtp_6_the_connect_record_goes_out_before_anything_else() {
    let mut bench = with_websocket_first();
    label(&mut bench, "a");
    bench.order.clear();
    bench.others.clear();
    bench.up(websocket(None));
    label(&mut bench, "b");
    assert_eq!(bench.order[0], ("wss:".to_owned(), "connect"));
    assert_eq!(bench.others.len(), 1, "once");
    assert_eq!(bench.others[0].2, RecordBody::WebSocketConnect);
}

#[test]
fn r_mtp_6_a_broker_hands_a_connect_record_to_every_controller_that_is_reached_over_it() {
    let mut bench = Bench::new();
    let name = add_stomp(&mut bench);
    bench.others.clear();
    bench.up(stomp(&name, "/queue/told"));
    let body = RecordBody::StompConnect {
        destination: "/queue/told".into(),
    };
    let to = format!("stomp:{name}/%2Fqueue%2Fcontroller");
    assert_eq!(bench.others, [(to, CONTROLLER.to_owned(), body.clone())]);
    // One that gets its way later is greeted then.
    bench.others.clear();
    let row = bench.add(
        "Device.LocalAgent.Controller.",
        &[("EndpointID", "proto::second"), ("Enable", "true")],
    );
    let mtp = bench.add(
        &format!("{row}MTP."),
        &[("Protocol", "STOMP"), ("Enable", "true")],
    );
    bench.set(&format!("{mtp}STOMP."), "Reference", &name);
    assert!(bench.others.is_empty());
    bench.set(&format!("{mtp}STOMP."), "Destination", "/queue/second");
    assert_eq!(
        bench.others,
        [(
            format!("stomp:{name}/%2Fqueue%2Fsecond"),
            "proto::second".to_owned(),
            body
        )]
    );
}

#[test]
fn r_mtp_8_after_a_disconnect_record_a_connect_record_comes_first() {
    let mut bench = with_websocket_first();
    let session = bench.up(websocket(None));
    let goodbye = Record::disconnect(
        id(AGENT),
        id(CONTROLLER),
        homefleet_usp::ErrorCode(7105),
        "bye",
    );
    let inbound = homefleet_agent::engine::Inbound {
        record: goodbye,
        source: from(session, "wss:"),
    };
    bench.order.clear();
    bench.engine.handle_record(bench.now, inbound);
    bench.drain();
    assert!(bench.order.is_empty(), "nothing is said to who is leaving");
    bench.message_by(CONTROLLER, &request("1"), from(session, "wss:"));
    bench.message_by(CONTROLLER, &request("2"), from(session, "wss:"));
    let kinds: Vec<&str> = bench.order.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds, ["connect", "answer", "answer"]);
    assert_eq!(bench.engine.stats().disconnects, 1);
}

#[test]
fn r_mtp_7_r_mtp_9_who_was_greeted_is_told_when_the_agent_stops_and_why() {
    let mut bench = Bench::new();
    let name = add_stomp(&mut bench);
    bench.up(stomp(&name, "/queue/agent"));
    bench.up(websocket(None));
    bench.others.clear();
    bench.engine.handle_stop();
    bench.drain();
    assert_eq!(bench.others.len(), 2);
    for (_, to, body) in &bench.others {
        assert_eq!(to, CONTROLLER);
        let RecordBody::Disconnect { reason, code } = body else {
            panic!("{body:?}")
        };
        assert!((7100..=7199).contains(code) && !reason.is_empty());
    }
    bench.others.clear();
    bench.engine.handle_stop();
    bench.drain();
    assert!(bench.others.is_empty(), "once");
}

#[test]
fn r_mtp_7_a_channel_that_a_change_ends_is_left_after_the_answer_and_with_a_disconnect_record() {
    let mut bench = Bench::new();
    let name = add_stomp(&mut bench);
    bench.up(stomp(&name, "/queue/agent"));
    bench.order.clear();
    bench.set(&format!("{name}."), "Enable", "false");
    let kinds: Vec<&str> = bench.order.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds, ["answer", "disconnect"]);
    assert!(bench.plan().stomp.is_empty());
}

#[test]
fn tp_469_7_3_a_controller_that_connects_is_reached_over_its_own_session() {
    let mut bench = Bench::new();
    let mtp = bench.add(
        &format!("{ROW}MTP."),
        &[("Protocol", "WebSocket"), ("Enable", "true")],
    );
    bench.set(&format!("{ROW}MTP.1."), "Enable", "false");
    assert!(
        bench.plan().websocket.is_empty(),
        "there is no host to connect to"
    );
    bench.subscribe("ValueChange", "Device.X_Test.Label", &[]);
    let session = bench.up(websocket(None));
    label(&mut bench, "a");
    assert_eq!(routes(&bench), ["wss:"]);
    bench.down(session);
    let _ = mtp;
}

#[test]
fn an_unprotected_way_is_not_used_unless_the_configuration_allows_it() {
    for allowed in [false, true] {
        let mut settings = settings();
        settings.allow_insecure = allowed;
        let mut bench = Bench::started(
            settings,
            homefleet_agent::store::Store::in_memory().unwrap(),
        );
        bench.answer_notifications();
        let mtp = add_websocket(&mut bench);
        bench.set(&format!("{mtp}WebSocket."), "EnableEncryption", "false");
        bench.set(&format!("{ROW}MTP.1."), "Enable", "false");
        bench.subscribe("ValueChange", "Device.X_Test.Label", &[]);
        bench.notifications.clear();
        bench.up(Channel {
            identity: None,
            ..websocket(None)
        });
        label(&mut bench, "a");
        assert_eq!(routes(&bench).len(), usize::from(allowed));
    }
}

#[test]
fn r_sec_19_no_session_is_opened_before_there_is_accurate_time() {
    let mut settings = settings();
    settings.wait_for_time = Duration::from_secs(60);
    settings.controller.as_mut().unwrap().url = "wss://c.example/usp".parse().unwrap();
    let store = || homefleet_agent::store::Store::in_memory().unwrap();
    let mut bench = Bench::started(settings.clone(), store());
    assert!(bench.plan().websocket.is_empty() && bench.plan().coaps.is_some());
    bench.engine.handle_clock(bench.now, true);
    bench.drain();
    assert_eq!(bench.plan().websocket.len(), 1);
    // Without it they are opened after a while.
    let mut bench = Bench::started(settings, store());
    bench.pass(Duration::from_secs(61));
    assert_eq!(bench.plan().websocket.len(), 1);
}
