//! What happens to a Record before its Message is processed: R-MSG, R-SEC, R-MTP.5.

use homefleet_usp::{
    Message, Record,
    message::{Body, get, set, update_object},
    record::{PayloadSarState, PayloadSecurity, RecordBody, SessionContext},
};

use homefleet_agent::engine::{Inbound, Source};

use crate::bench::{AGENT, Bench, CONTROLLER, FULL_ACCESS, STRANGER, id, record_with, settings};

fn request(msg_id: &str) -> Message {
    Message::request(msg_id, get(["Device.X_Test.Label"], 0))
}

fn plain(message: &Message) -> Record {
    Record::no_session(id(AGENT), id(CONTROLLER), message.encode())
}

/// Code of the one Error that was answered.
fn error(bench: &mut Bench) -> u32 {
    assert_eq!(bench.answers.len(), 1);
    match bench.answers.remove(0).message.body {
        Body::Error(error) => error.err_code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn r_sec_0_a_record_over_an_unencrypted_mtp_is_7101() {
    let mut bench = Bench::new();
    bench.record(plain(&request("1")), false);
    assert_eq!(error(&mut bench), 7101);
    assert_eq!(bench.engine.stats().requests, 0);
}

#[test]
fn allow_insecure_takes_records_of_a_controller_that_is_reached_unencrypted() {
    let mut settings = settings();
    settings.allow_insecure = true;
    settings.controller.as_mut().unwrap().url = "coap://192.0.2.1:5683/usp".parse().unwrap();
    let mut bench = Bench::started(
        settings,
        homefleet_agent::store::Store::in_memory().unwrap(),
    );
    bench.record(plain(&request("1")), false);
    assert!(matches!(
        bench.answers.remove(0).message.body,
        Body::Response(_)
    ));
}

#[test]
fn allow_insecure_lends_nobody_the_name_of_a_controller_that_is_reached_over_dtls() {
    let mut settings = settings();
    settings.allow_insecure = true;
    let store = homefleet_agent::store::Store::in_memory().unwrap();
    let mut bench = Bench::started(settings, store);
    bench.record(plain(&request("1")), false);
    assert_eq!(error(&mut bench), 7101);
    assert_eq!(bench.engine.stats().requests, 0);
}

#[test]
fn r_sec_1_who_is_not_in_the_controller_table_is_refused() {
    let mut bench = Bench::new();
    let Body::Error(error) = bench.ask_as(STRANGER, get(["Device."], 0)) else {
        panic!()
    };
    assert_eq!(error.err_code, 7006);
    let update = update_object("Device.X_Test.", [("Label", "x", true)]);
    assert!(matches!(
        bench.ask_as(STRANGER, set(true, vec![update])),
        Body::Error(_)
    ));
    assert_eq!(bench.value("Device.X_Test.Label"), "");
    assert_eq!(bench.engine.stats().permission_denied, 2);
}

#[test]
fn a_disabled_controller_is_refused() {
    let mut bench = Bench::new();
    bench.add(
        "Device.LocalAgent.Controller.",
        &[
            ("EndpointID", STRANGER),
            ("Enable", "true"),
            ("AssignedRole", FULL_ACCESS),
        ],
    );
    assert!(matches!(
        bench.ask_as(STRANGER, get(["Device."], 1)),
        Body::Response(_)
    ));
    bench.set("Device.LocalAgent.Controller.2.", "Enable", "false");
    assert!(matches!(
        bench.ask_as(STRANGER, get(["Device."], 1)),
        Body::Error(_)
    ));
}

#[test]
fn r_mtp_5_a_record_for_somebody_else_is_ignored() {
    let mut bench = Bench::new();
    bench.record(
        Record::no_session(id("proto::other"), id(CONTROLLER), request("1").encode()),
        true,
    );
    bench.record(
        Record::no_session(id(AGENT), id(AGENT), request("1").encode()),
        true,
    );
    assert!(bench.answers.is_empty());
    assert_eq!(bench.engine.stats().records_ignored, 2);
}

#[test]
fn r_mtp_5_a_session_context_is_7106_when_it_holds_a_request() {
    let mut bench = Bench::new();
    let session = |message: Vec<u8>| {
        record_with(RecordBody::Session(SessionContext {
            session_id: 2,
            sequence_id: 1,
            expected_id: 1,
            retransmit_id: 0,
            payload_sar_state: PayloadSarState::None,
            payloadrec_sar_state: PayloadSarState::None,
            payload: vec![message],
        }))
    };
    bench.record(session(request("1").encode()), true);
    assert_eq!(error(&mut bench), 7106);
    bench.record(session(b"garbage".to_vec()), true);
    let response = Message::response("1", homefleet_usp::proto::msg::NotifyResp::default());
    bench.record(session(response.encode()), true);
    assert!(bench.answers.is_empty());
}

#[test]
fn r_mtp_5_an_encrypted_payload_has_no_message_id_and_is_ignored() {
    let mut bench = Bench::new();
    let mut record = plain(&request("1"));
    record.payload_security = PayloadSecurity::Tls12;
    bench.record(record, true);
    assert!(bench.answers.is_empty());
    assert_eq!(bench.engine.stats().records_refused, 1);
}

#[test]
fn connect_and_disconnect_records_are_noted_only() {
    let mut bench = Bench::new();
    bench.record(record_with(RecordBody::WebSocketConnect), true);
    bench.record(
        Record::disconnect(
            id(AGENT),
            id(CONTROLLER),
            homefleet_usp::ErrorCode(7105),
            "bye",
        ),
        true,
    );
    assert!(bench.answers.is_empty());
}

#[test]
fn r_msg_0_r_msg_9_every_request_is_answered_with_its_message_id() {
    let mut bench = Bench::new();
    bench.message(CONTROLLER, &request("my own id"));
    assert_eq!(bench.answers.remove(0).message.id.as_str(), "my own id");
}

#[test]
fn r_msg_1_a_message_that_is_not_understood_is_answered_or_ignored() {
    let mut bench = Bench::new();
    bench.record(
        Record::no_session(id(AGENT), id(CONTROLLER), b"\xff\xff\xff".to_vec()),
        true,
    );
    assert!(bench.answers.is_empty());
    // A header with a Message ID, and a request of a type that does not exist: field 99.
    let mut bytes = vec![0x0a, 0x05, 0x0a, 0x03];
    bytes.extend(b"abc");
    bytes.extend([0x12, 0x05, 0x0a, 0x03, 0x9a, 0x06, 0x00]);
    bench.record(Record::no_session(id(AGENT), id(CONTROLLER), bytes), true);
    let answer = bench.answers.remove(0);
    assert_eq!(answer.message.id.as_str(), "abc");
    assert!(matches!(answer.message.body, Body::Error(_)));
}

#[test]
fn r_msg_4_a_request_that_comes_twice_is_done_once_and_answered_the_same() {
    let mut bench = Bench::new();
    let create =
        homefleet_usp::message::create_object("Device.X_Test.Item.", [("Name", "once", true)]);
    let message = Message::request("twice", homefleet_usp::message::add(false, vec![create]));
    bench.message(CONTROLLER, &message);
    bench.message(CONTROLLER, &message);
    assert_eq!(bench.answers.len(), 2);
    assert_eq!(bench.answers[0].message, bench.answers[1].message);
    assert_eq!(bench.value("Device.X_Test.ItemNumberOfEntries"), "1");
    assert_eq!(bench.engine.stats().duplicates, 1);
}

#[test]
fn a_message_id_with_another_content_is_a_new_request() {
    let mut bench = Bench::new();
    bench.message(CONTROLLER, &request("1"));
    bench.message(
        CONTROLLER,
        &Message::request("1", get(["Device.X_Test.Level"], 0)),
    );
    assert_eq!(bench.engine.stats().duplicates, 0);
    assert_ne!(bench.answers[0].message, bench.answers[1].message);
}

#[test]
fn r_msg_10_the_body_counts_when_the_header_names_another_type() {
    let mut bench = Bench::new();
    let mut bytes = request("1").encode();
    let at = bytes
        .windows(2)
        .position(|pair| pair == [0x10, 0x01])
        .unwrap();
    bytes[at + 1] = 4; // SET
    bench.record(Record::no_session(id(AGENT), id(CONTROLLER), bytes), true);
    assert!(matches!(
        bench.answers.remove(0).message.body,
        Body::Response(_)
    ));
}

#[test]
fn an_unasked_response_changes_nothing() {
    let mut bench = Bench::new();
    bench.message(
        CONTROLLER,
        &Message::response("x", homefleet_usp::proto::msg::GetResp::default()),
    );
    bench.message(
        CONTROLLER,
        &Message::response("x", homefleet_usp::proto::msg::NotifyResp::default()),
    );
    bench.message(
        CONTROLLER,
        &Message::error("x", homefleet_usp::ErrorCode(7000), "no"),
    );
    assert!(bench.answers.is_empty());
}

#[test]
fn an_answer_never_leaves_on_a_weaker_channel() {
    let mut bench = Bench::new();
    let record = plain(&request("1"));
    let source = Source {
        peer: Some(bench.peer.clone()),
        channel: None,
        reply_to: Some("coap://192.0.2.1/usp".parse().unwrap()),
    };
    bench
        .engine
        .handle_record(bench.now, Inbound { record, source });
    bench.drain();
    assert!(bench.answers.is_empty());
    assert_eq!(bench.engine.stats().records_ignored, 1);
}

/// Every kind of request, spoiled in many ways: the engine answers or ignores, and goes on.
#[test]
fn no_message_stops_the_agent() {
    let mut bench = Bench::new();
    bench.add("Device.X_Test.Item.", &[("Name", "a")]);
    let create =
        homefleet_usp::message::create_object("Device.X_Test.Item.", [("Name", "b", true)]);
    let update = update_object("Device.X_Test.Item.*.", [("Label", "x", true)]);
    let seeds = [
        request("1"),
        Message::request("2", set(true, vec![update])),
        Message::request("3", homefleet_usp::message::add(true, vec![create])),
        Message::request(
            "4",
            homefleet_usp::message::delete(true, ["Device.X_Test.Item.[Name==\"b\"]."]),
        ),
        Message::request(
            "5",
            homefleet_usp::message::operate("Device.X_Test.Slow()", "k", true, Default::default()),
        ),
        Message::request(
            "6",
            homefleet_usp::message::get_instances(["Device."], false),
        ),
        Message::request(
            "7",
            homefleet_usp::message::get_supported_dm(["Device.X_Test.Item.1."], false),
        ),
    ];
    let mut state = 1_u64;
    let mut random = |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    for round in 0..20_000 {
        let mut bytes = seeds[round % seeds.len()].encode();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes[at] ^= 1 << random(8),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"*.[]=\"{}#+!()"[random(13)]),
            }
        }
        bench.record(Record::no_session(id(AGENT), id(CONTROLLER), bytes), true);
        bench.answers.clear();
        bench.notifications.clear();
    }
    bench.pass(std::time::Duration::from_secs(60));
    assert_eq!(bench.value("Device.LocalAgent.EndpointID"), AGENT);
}

#[test]
fn a_response_that_no_mtp_would_take_is_7005() {
    let mut settings = settings();
    settings.limits.max_record = 1500;
    let mut bench = Bench::started(
        settings,
        homefleet_agent::store::Store::in_memory().unwrap(),
    );
    let Body::Error(error) = bench.ask_as(CONTROLLER, get(["Device."], 0)) else {
        panic!()
    };
    assert_eq!(error.err_code, 7005);
    assert!(matches!(
        bench.ask_as(CONTROLLER, get(["Device.X_Test."], 0)),
        Body::Response(_)
    ));
}

#[test]
fn a_response_is_given_up_as_soon_as_no_mtp_would_take_it() {
    let mut bench = Bench::new();
    bench.ask(get(["Device.X_Test."], 0));
    let before = bench.system.lock().unwrap().refreshed;
    for request in [
        get(vec!["Device."; 20_000], 0),
        homefleet_usp::proto::msg::GetInstances {
            obj_paths: vec!["Device.LocalAgent.Controller.".into(); 60_000],
            first_level_only: false,
        }
        .into(),
        homefleet_usp::proto::msg::GetSupportedDm {
            obj_paths: vec!["Device.".into(); 20_000],
            return_params: true,
            ..Default::default()
        }
        .into(),
    ] {
        let (code, _) = bench.ask_error(request);
        assert_eq!(code, 7005);
    }
    let refreshed = bench.system.lock().unwrap().refreshed - before;
    assert!(refreshed < 5000, "{refreshed} of 20,000 paths were read");
}

#[test]
fn r_msg_4_strangers_do_not_push_the_answers_of_controllers_out() {
    let mut bench = Bench::new();
    let touch = Message::request(
        "once",
        homefleet_usp::message::operate(
            "Device.X_Test.Echo()",
            "",
            true,
            [("Text".to_owned(), "x".to_owned())].into(),
        ),
    );
    bench.message(CONTROLLER, &touch);
    for number in 0..300 {
        bench.message(STRANGER, &request(&format!("s{number}")));
    }
    bench.message(CONTROLLER, &touch);
    assert_eq!(bench.engine.stats().duplicates, 1);
    assert_eq!(bench.system.lock().unwrap().operated.len(), 1);
}
