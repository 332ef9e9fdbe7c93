//! Messages: structure, header, enumerations.

use homefleet_usp::{
    ErrorCode, Message, MsgId,
    message::{self, Body, MAX_MESSAGE, MAX_MSG_ID, MessageErrorKind, MsgType, Request, Response},
    proto::msg as pb,
    record::WireError,
};
use proptest::prelude::*;
use prost::Message as _;

use crate::{record::field, samples::messages};

#[test]
fn every_kind_of_message_round_trips() {
    let messages = messages();
    for message in &messages {
        assert_eq!(&Message::decode(&message.encode()).unwrap(), message);
    }
    let mut kinds: Vec<i32> = messages
        .iter()
        .map(|message| message.kind().into())
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, (0..=22).collect::<Vec<_>>());
}

fn header(id: &str, kind: u8) -> Vec<u8> {
    field(1, &[field(1, id.as_bytes()), vec![0x10, kind]].concat())
}

fn get() -> Vec<u8> {
    field(1, &field(1, &field(1, b"Device.")))
}

fn refused(bytes: &[u8]) -> (MessageErrorKind, u32) {
    let error = Message::decode(bytes).unwrap_err();
    (error.kind.clone(), error.code().0)
}

#[test]
fn a_message_has_exactly_one_header_and_one_body() {
    let once = |field, count| {
        (
            MessageErrorKind::Wire(WireError::Once {
                name: "Msg",
                field,
                count,
            }),
            7004,
        )
    };
    let body = field(2, &get());
    assert_eq!(refused(&body), once(1, 0));
    assert_eq!(refused(&header("1", 1)), once(2, 0));
    assert_eq!(
        refused(&[header("1", 1), header("1", 1), body.clone()].concat()),
        once(1, 2)
    );
    assert_eq!(
        refused(&[header("1", 1), body.clone(), body.clone()].concat()),
        once(2, 2)
    );
    assert!(Message::decode(&[header("1", 1), body].concat()).is_ok());
}

#[test]
fn a_oneof_without_exactly_one_element_is_7004() {
    let one_of = |name, count| {
        (
            MessageErrorKind::Wire(WireError::OneOf { name, count }),
            7004,
        )
    };
    let body = |inside: &[u8]| [header("1", 1), field(2, inside)].concat();
    assert_eq!(refused(&body(b"")), one_of("Body", 0));
    assert_eq!(
        refused(&body(&[get(), field(3, b"")].concat())),
        one_of("Body", 2)
    );
    assert_eq!(refused(&body(&field(1, b""))), one_of("Request", 0));
    assert_eq!(
        refused(&body(&field(1, &[field(1, b""), field(2, b"")].concat()))),
        one_of("Request", 2)
    );
    assert_eq!(refused(&body(&field(2, b""))), one_of("Response", 0));
    assert_eq!(
        refused(&body(&field(1, &field(8, b"")))),
        one_of("Notify", 0)
    );
    assert_eq!(
        refused(&body(&field(1, &field(8, &field(1, b"subscription"))))),
        one_of("Notify", 0)
    );
    assert_eq!(
        refused(&body(&field(1, &field(8, &field(7, b""))))),
        one_of("OperationComplete", 0)
    );
    assert_eq!(
        refused(&body(&field(2, &field(7, &field(1, b""))))),
        one_of("OperationResult", 0)
    );
    for response in [4, 5, 6, 10, 11] {
        let inside = |status: &[u8]| body(&field(2, &field(response, &field(1, status))));
        assert_eq!(
            refused(&inside(&field(2, b""))),
            one_of("OperationStatus", 0)
        );
        assert_eq!(
            refused(&inside(&field(2, &[field(1, b""), field(2, b"")].concat()))),
            one_of("OperationStatus", 2)
        );
        let once = WireError::Once {
            name: "result",
            field: 2,
            count: 0,
        };
        assert_eq!(refused(&inside(b"")), (MessageErrorKind::Wire(once), 7004));
    }
}

#[test]
fn a_kind_of_message_that_is_not_known_is_7001() {
    let bytes = [header("1", 1), field(2, &field(1, &field(12, b"")))].concat();
    assert_eq!(
        refused(&bytes),
        (
            MessageErrorKind::Wire(WireError::Unknown {
                name: "Request",
                field: 12
            }),
            7001
        )
    );
    let error = Message::decode(&bytes).unwrap_err();
    assert_eq!(
        (error.msg_id().unwrap().as_str(), error.is_request()),
        ("1", true)
    );
}

#[test]
fn a_message_id_is_there_and_bounded() {
    let with = |id: &str| [header(id, 1), field(2, &get())].concat();
    assert_eq!(refused(&with("")), (MessageErrorKind::MsgId(0), 7004));
    assert_eq!(
        refused(&with(&"x".repeat(MAX_MSG_ID + 1))).0,
        MessageErrorKind::MsgId(MAX_MSG_ID + 1)
    );
    assert!(Message::decode(&with(&"x".repeat(MAX_MSG_ID))).is_ok());
    assert_eq!(MsgId::new(""), None);
    assert_eq!(MsgId::from("").as_str(), "0");
    assert_eq!(
        MsgId::from("ä".repeat(MAX_MSG_ID)).as_str().len(),
        MAX_MSG_ID
    );
}

#[test]
fn the_body_counts_when_the_header_names_another_type() {
    let message = Message::decode(&[header("1", 8), field(2, &get())].concat()).unwrap();
    assert!(message.header_mismatch);
    assert_eq!(message.kind(), MsgType::Get);
    assert!(matches!(message.body, Body::Request(Request::Get(_))));
    assert!(
        !Message::decode(&[header("1", 1), field(2, &get())].concat())
            .unwrap()
            .header_mismatch
    );
}

#[test]
fn an_unknown_enumeration_value_is_7104() {
    let bytes = [header("1", 23), field(2, &get())].concat();
    assert_eq!(
        refused(&bytes),
        (
            MessageErrorKind::UnknownEnum {
                field: "msg_type",
                value: 23
            },
            7104
        )
    );
    let sample = messages()
        .into_iter()
        .find(|message| message.kind() == MsgType::GetSupportedDmResp)
        .unwrap();
    let Body::Response(Response::GetSupportedDmResp(response)) = sample.body else {
        panic!()
    };
    let with = |change: &dyn Fn(&mut pb::get_supported_dm_resp::SupportedObjectResult)| {
        let mut response = response.clone();
        change(&mut response.req_obj_results[0].supported_objs[0]);
        refused(&Message::response("1", response).encode())
    };
    let unknown = |field| (MessageErrorKind::UnknownEnum { field, value: 99 }, 7104);
    assert_eq!(with(&|object| object.access = 99), unknown("access"));
    assert_eq!(
        with(&|object| object.supported_params[0].access = 99),
        unknown("access")
    );
    assert_eq!(
        with(&|object| object.supported_params[0].value_type = 99),
        unknown("value_type")
    );
    assert_eq!(
        with(&|object| object.supported_params[0].value_change = 99),
        unknown("value_change")
    );
    assert_eq!(
        with(&|object| object.supported_commands[0].command_type = 99),
        unknown("command_type")
    );
}

#[test]
fn bytes_that_are_no_message_are_7100_and_keep_the_id_when_it_can_be_read() {
    for bytes in [&b"\xff"[..], b"\x0a\x7f", b"\x07"] {
        assert_eq!(refused(bytes).1, 7100);
    }
    let broken = [header("17", 1), field(2, &get()), vec![0xFF]].concat();
    let error = Message::decode(&broken).unwrap_err();
    assert_eq!(
        (error.code(), error.msg_id().map(MsgId::as_str)),
        (ErrorCode::RECORD_NOT_PARSED, Some("17"))
    );
    assert!(error.is_request());
    let text = [
        header("17", 1),
        field(2, &field(1, &field(1, &field(1, b"\xff")))),
    ]
    .concat();
    assert!(matches!(
        refused(&text),
        (MessageErrorKind::Decode(_), 7100)
    ));
    assert!(
        !Message::decode(&[header("17", 0), field(2, &field(2, b""))].concat())
            .unwrap_err()
            .is_request()
    );
    assert_eq!(
        refused(&vec![0; MAX_MESSAGE + 1]),
        (MessageErrorKind::TooLarge(MAX_MESSAGE + 1), 7005)
    );
}

#[test]
fn the_header_names_the_bodys_type() {
    for message in messages() {
        let raw = pb::Msg::decode(message.encode().as_slice()).unwrap();
        assert_eq!(raw.header.unwrap().msg_type, i32::from(message.kind()));
    }
    let error = Message::error("9", ErrorCode::INVALID_PATH, "no such path");
    let Body::Error(inside) = &error.body else {
        panic!()
    };
    assert_eq!(
        (inside.err_code, error.kind(), error.id.as_str()),
        (7026, MsgType::Error, "9")
    );
}

proptest! {
    #[test]
    fn any_get_and_set_round_trip(id in "[ -~]{1,40}", paths in prop::collection::vec("[ -~ä]{0,40}", 0..5), depth: u32, required: bool) {
        let get = Message::request(id.as_str(), message::get(paths.clone(), depth));
        prop_assert_eq!(Message::decode(&get.encode()), Ok(get));
        let objects = paths.iter().map(|path| message::update_object(path.as_str(), [(path.as_str(), id.as_str(), required)])).collect();
        let set = Message::request(id.as_str(), message::set(!required, objects));
        prop_assert_eq!(Message::decode(&set.encode()), Ok(set));
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert!(Message::decode(&message.encode()).is_ok());
        }
    }
}
