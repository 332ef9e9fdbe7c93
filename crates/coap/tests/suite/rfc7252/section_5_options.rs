//! Options (RFC 7252 §5.4, §5.10).

use std::time::Duration;

use homefleet_coap::{Code, Event, Message, Request, RequestError, Response, Type, number};

use crate::support::{MessageExt, Solo, message};

fn get(kind: Type) -> Message {
    message(kind, Code::GET, 7, &[1]).path("x")
}

#[test]
fn unknown_critical_option_is_4_02_for_con() {
    let mut solo = Solo::new();
    let answer = solo.ask(&get(Type::Confirmable).option(65_001, b"?"));
    assert_eq!(
        (answer.kind, answer.code),
        (Type::Acknowledgement, Code::BAD_OPTION)
    );
    assert_eq!(answer.payload, b"option 65001");
    assert!(solo.events.is_empty());
    assert_eq!(solo.endpoint.stats().bad_options, 1);
}

#[test]
fn unknown_critical_option_rejects_a_non() {
    let mut solo = Solo::new();
    assert_eq!(
        solo.send(&get(Type::NonConfirmable).option(65_001, b"?")),
        []
    );
    assert!(solo.events.is_empty());
    assert_eq!(solo.endpoint.stats().bad_options, 1);
}

#[test]
fn unknown_elective_option_is_ignored() {
    let mut solo = Solo::new();
    let ask = get(Type::Confirmable).option(65_000, b"?");
    assert_eq!(
        solo.serve(&ask, Response::new(Code::CONTENT)).code,
        Code::CONTENT
    );
}

#[test]
fn elective_option_of_wrong_length_is_ignored() {
    let mut solo = Solo::new();
    let ask = get(Type::Confirmable)
        .option(number::CONTENT_FORMAT, &[1, 2, 3])
        .option(number::SIZE1, &[0, 0, 0, 0, 1]);
    solo.send(&ask);
    let options = solo.got().request.options;
    assert!(!options.contains(number::CONTENT_FORMAT) && !options.contains(number::SIZE1));
    assert_eq!(options.path(), "x");
}

#[test]
fn critical_option_of_wrong_length_is_4_02() {
    for (number, value) in [
        (number::URI_HOST, &b""[..]),
        (number::URI_PORT, &[1, 2, 3]),
        (number::BLOCK1, &[0, 0, 0, 0]),
        (number::URI_QUERY, &[b'q'; 256]),
        (number::URI_PATH, b".."),
        (number::URI_PATH, b"\xff"),
    ] {
        let mut solo = Solo::new();
        let answer = solo.ask(&get(Type::Confirmable).option(number, value));
        assert_eq!(answer.code, Code::BAD_OPTION, "option {number}");
    }
}

#[test]
fn repeated_critical_option_is_4_02_and_repeated_elective_is_ignored() {
    let mut solo = Solo::new();
    let ask = get(Type::Confirmable)
        .option(number::URI_PORT, &[1])
        .option(number::URI_PORT, &[2]);
    assert_eq!(solo.ask(&ask).code, Code::BAD_OPTION);
    let mut ask = get(Type::Confirmable)
        .option(number::CONTENT_FORMAT, &[40])
        .option(number::CONTENT_FORMAT, &[41]);
    ask.id = 8;
    solo.send(&ask);
    let options = solo.got().request.options;
    assert_eq!(options.all(number::CONTENT_FORMAT).count(), 1);
    assert_eq!(options.content_format(), Some(40));
}

#[test]
fn critical_options_of_the_application_are_understood_when_configured() {
    let ask = get(Type::Confirmable).option(number::IF_NONE_MATCH, b"");
    assert_eq!(Solo::new().ask(&ask).code, Code::BAD_OPTION);
    let mut solo = Solo::with(|config| config.understood = vec![number::IF_NONE_MATCH]);
    solo.send(&ask);
    assert!(solo.got().request.options.contains(number::IF_NONE_MATCH));
}

#[test]
fn proxy_uri_and_proxy_scheme_are_5_05() {
    for (number, value) in [
        (number::PROXY_URI, "coap://elsewhere/x"),
        (number::PROXY_SCHEME, "coap"),
    ] {
        let mut solo = Solo::new();
        let answer = solo.ask(&get(Type::Confirmable).option(number, value.as_bytes()));
        assert_eq!(answer.code, Code::PROXYING_NOT_SUPPORTED);
        assert!(solo.events.is_empty());
        assert_eq!(solo.endpoint.stats().proxy_refused, 1);
    }
}

#[test]
fn unknown_critical_option_in_a_piggybacked_response_fails_the_request() {
    let mut solo = Solo::new();
    let (id, sent) = solo.request(Request::get("x"));
    let response = Solo::ack(&sent[0], Code::CONTENT).option(65_001, b"?");
    assert_eq!(solo.send(&response), []);
    let error = RequestError::BadResponse { option: 65_001 };
    assert_eq!(solo.take_event(), Some(Event::Failed { id, error }));
}

#[test]
fn unknown_critical_option_in_a_con_response_is_rejected_with_rst() {
    let mut solo = Solo::new();
    let (id, sent) = solo.request(Request::get("x"));
    let mut response = Solo::ack(&sent[0], Code::CONTENT).option(65_001, b"?");
    response.kind = Type::Confirmable;
    response.id = 77;
    assert_eq!(solo.ask(&response), Message::empty(Type::Reset, 77));
    let error = RequestError::BadResponse { option: 65_001 };
    assert_eq!(solo.take_event(), Some(Event::Failed { id, error }));
    assert_eq!(solo.advance(Duration::from_secs(60)), []);
}

#[test]
fn invalid_options_are_not_sent() {
    let mut solo = Solo::new();
    let long = Request::get(&"x".repeat(256));
    assert_eq!(
        solo.endpoint.request(solo.now, solo.peer, long),
        Err(RequestError::Invalid {
            option: Some(number::URI_PATH)
        })
    );
    let response = Request::new(Code::CONTENT);
    assert_eq!(
        solo.endpoint.request(solo.now, solo.peer, response),
        Err(RequestError::Invalid { option: None })
    );
    assert_eq!(solo.endpoint.peer_count(), 0);
}

#[test]
fn option_numbers_tell_their_class() {
    assert!(number::is_critical(number::URI_PATH) && !number::is_critical(number::SIZE1));
    assert!(number::is_unsafe(number::OBSERVE) && !number::is_unsafe(number::ETAG));
    assert!(
        number::is_no_cache_key(number::SIZE1) && !number::is_no_cache_key(number::REQUEST_TAG)
    );
}
