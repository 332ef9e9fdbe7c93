//! The CoAP binding's decision, R-COAP.

use homefleet_usp::{
    Record,
    mtp::coap::{
        self, Accepted, BAD_REQUEST, INTERFACE_AGENT, INTERFACE_CONTROLLER, Inbound,
        METHOD_NOT_ALLOWED, Reason, Rejection, ReplyToError, UNSUPPORTED_CONTENT_FORMAT, accept,
        reply_to_query,
    },
};

use crate::samples::{agent, controller};

fn record() -> Record {
    Record::no_session(agent(), controller(), vec![1])
}

fn send(
    method: u8,
    format: Option<u16>,
    queries: &[&str],
    payload: &[u8],
    secure: bool,
) -> Result<Accepted, Rejection> {
    accept(
        Inbound {
            method,
            content_format: format,
            queries,
            payload,
        },
        secure,
    )
}

fn replying(query: &str, secure: bool) -> Result<String, Reason> {
    match send(coap::POST, Some(42), &[query], &record().encode(), secure) {
        Ok(accepted) => Ok(accepted.reply_to),
        Err(rejection) => {
            assert_eq!(rejection.code, BAD_REQUEST);
            Err(rejection.reason)
        }
    }
}

#[test]
fn a_posted_record_is_accepted_with_its_way_back() {
    let accepted = send(
        2,
        Some(42),
        &["x=1", "reply-to=coap://192.0.2.1:5683/usp", "y"],
        &record().encode(),
        false,
    )
    .unwrap();
    assert_eq!(
        accepted,
        Accepted {
            record: record(),
            reply_to: "coap://192.0.2.1:5683/usp".to_owned()
        }
    );
    assert_eq!((coap::CHANGED, coap::CONTENT_FORMAT), (0x44, 42));
    assert_eq!(
        (coap::RESOURCE_TYPE, INTERFACE_AGENT, INTERFACE_CONTROLLER),
        ("bbf.usp.endpoint", "bbf.usp.a", "bbf.usp.c")
    );
}

#[test]
fn another_method_is_answered_4_05() {
    for method in [0x01, 0x03, 0x04, 0x05, 0x06, 0x07, 0x1F] {
        let rejection = send(method, Some(42), &[], b"", false).unwrap_err();
        assert_eq!(
            rejection,
            Rejection {
                code: METHOD_NOT_ALLOWED,
                reason: Reason::Method,
                reply_to: None,
            }
        );
    }
    assert_eq!(METHOD_NOT_ALLOWED, 4 << 5 | 5);
}

#[test]
fn another_content_format_is_answered_4_15() {
    for format in [None, Some(0), Some(50), Some(0x113A)] {
        let rejection = send(
            2,
            format,
            &["reply-to=coap://a/usp"],
            &record().encode(),
            false,
        )
        .unwrap_err();
        assert_eq!(
            rejection,
            Rejection {
                code: UNSUPPORTED_CONTENT_FORMAT,
                reason: Reason::ContentFormat,
                reply_to: None,
            }
        );
    }
    assert_eq!(UNSUPPORTED_CONTENT_FORMAT, 4 << 5 | 15);
}

#[test]
fn an_undecodable_record_is_answered_4_00() {
    for payload in [&b""[..], b"\xff\xff", b"no record"] {
        let rejection = send(2, Some(42), &["reply-to=coap://a/usp"], payload, false).unwrap_err();
        assert_eq!(rejection.code, 4 << 5);
        assert!(matches!(rejection.reason, Reason::Record(_)));
        // R-MTP.5: an Error can go somewhere.
        assert_eq!(rejection.reply_to.as_deref(), Some("coap://a/usp"));
        assert!(!rejection.to_string().is_empty());
    }
}

#[test]
fn the_way_back_is_a_coap_uri_without_a_query() {
    for uri in [
        "coap://192.0.2.1",
        "coap://192.0.2.1:5683/usp",
        "coaps://[2001:db8::1]:5684/usp",
        "coaps://[::1]",
        "COAPS://host.example/a/b",
        "coap://host:/usp",
    ] {
        assert_eq!(
            replying(&format!("reply-to={uri}"), false),
            Ok(uri.to_owned())
        );
        assert_eq!(reply_to_query(uri).unwrap(), format!("reply-to={uri}"));
    }
    use ReplyToError as E;
    for (uri, error) in [
        ("", E::Scheme),
        ("http://host/usp", E::Scheme),
        ("coap:host", E::Scheme),
        ("coap://", E::Authority),
        ("coap:///usp", E::Authority),
        ("coap://:5683/usp", E::Authority),
        ("coap://host:0/usp", E::Authority),
        ("coap://host:65536/usp", E::Authority),
        ("coap://host:1:2/usp", E::Authority),
        ("coap://user@host/usp", E::Authority),
        ("coap://[::1/usp", E::Authority),
        ("coap://[::g]/usp", E::Authority),
        ("coap://[::1]5683/usp", E::Authority),
        ("coap://host/usp?x=1", E::Query),
        ("coap://host/usp#x", E::Query),
        ("coap://ho st/usp", E::Character),
        ("coap://höst/usp", E::Character),
    ] {
        assert_eq!(
            replying(&format!("reply-to={uri}"), false),
            Err(Reason::ReplyTo(error)),
            "{uri}"
        );
        assert_eq!(reply_to_query(uri), Err(error));
    }
    let long = format!("coap://{}", "h".repeat(250));
    assert_eq!(reply_to_query(&long), Err(E::TooLong));
    assert_eq!(replying("x=coap://host/usp", false), Err(Reason::NoReplyTo));
    assert_eq!(replying("reply-to", false), Err(Reason::NoReplyTo));
    let twice = send(
        2,
        Some(42),
        &["reply-to=coap://a", "reply-to=coap://b"],
        &record().encode(),
        false,
    );
    assert_eq!(twice.unwrap_err().reason, Reason::SeveralReplyTo);
}

#[test]
fn a_secured_request_is_never_answered_in_the_clear() {
    assert_eq!(
        replying("reply-to=coap://host/usp", true),
        Err(Reason::WeakerReplyTo)
    );
    assert!(replying("reply-to=coaps://host/usp", true).is_ok());
    assert!(replying("reply-to=coaps://host/usp", false).is_ok());
}
