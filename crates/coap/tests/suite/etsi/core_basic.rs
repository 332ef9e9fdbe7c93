//! TD_COAP_CORE_01 to 17 and 31: methods, types, tokens, separate responses, loss (RFC 7252 §§4, 5.2, 5.3, 5.8).

use std::time::Duration;

use homefleet_coap::{Code, Request, Type, number};

use super::lab::{Lab, Packet, by_hand};
use crate::support::Side::{Client, Server};

const SECOND: Duration = Duration::from_secs(1);

fn body(request: Request) -> Request {
    request.content_format(0).payload("as the test says")
}

/// GET in CON mode: 2.05 with the request's message ID and token, Content-Format and payload.
#[test]
fn td_coap_core_01() {
    let mut lab = Lab::new();
    let shown = lab.ask(Request::get("test"));
    let [_, response] = lab.piggybacked(Code::GET, Code::CONTENT);
    response.has_format_and_payload();
    assert_eq!(shown.payload, response.payload);
}

/// DELETE in CON mode: 2.02 with the request's message ID and token.
#[test]
fn td_coap_core_02() {
    let mut lab = Lab::new();
    assert_eq!(lab.ask(Request::delete("test")).code, Code::DELETED);
    let [_, response] = lab.piggybacked(Code::DELETE, Code::DELETED);
    response.has_format_if_payload();
}

/// PUT in CON mode: the server gets body and format; 2.04 with the request's message ID and token.
#[test]
fn td_coap_core_03() {
    let mut lab = Lab::new();
    assert_eq!(lab.ask(body(Request::put("test"))).code, Code::CHANGED);
    let [request, response] = lab.piggybacked(Code::PUT, Code::CHANGED);
    request.has_format_and_payload();
    response.has_format_if_payload();
    assert_eq!(lab.app.received[0].payload, b"as the test says");
}

/// POST in CON mode: the server gets body and format; 2.01 with the request's message ID and token.
#[test]
fn td_coap_core_04() {
    let mut lab = Lab::new();
    assert_eq!(lab.ask(body(Request::post("test"))).code, Code::CREATED);
    let [request, response] = lab.piggybacked(Code::POST, Code::CREATED);
    request.has_format_and_payload();
    response.has_format_if_payload();
    assert_eq!(lab.app.received[0].payload, b"as the test says");
}

/// GET in NON mode: a NON 2.05 with the request's token and a message ID of the server.
#[test]
fn td_coap_core_05() {
    let mut lab = Lab::new();
    let shown = lab.ask(Request::get("test").non_confirmable());
    let [_, response] = lab.non_confirmable(Code::GET, Code::CONTENT);
    response.has_format_and_payload();
    assert_eq!(shown.payload, response.payload);
}

/// DELETE in NON mode: a NON 2.02 with the request's token.
#[test]
fn td_coap_core_06() {
    let mut lab = Lab::new();
    lab.ask(Request::delete("test").non_confirmable());
    let [_, response] = lab.non_confirmable(Code::DELETE, Code::DELETED);
    response.has_format_if_payload();
}

/// PUT in NON mode: the server gets body and format; a NON 2.04 with the request's token.
#[test]
fn td_coap_core_07() {
    let mut lab = Lab::new();
    lab.ask(body(Request::put("test")).non_confirmable());
    let [request, response] = lab.non_confirmable(Code::PUT, Code::CHANGED);
    request.has_format_and_payload();
    response.has_format_if_payload();
    assert_eq!(lab.app.received[0].payload, b"as the test says");
}

/// POST in NON mode: the server gets body and format; a NON 2.01 with the request's token.
#[test]
fn td_coap_core_08() {
    let mut lab = Lab::new();
    lab.ask(body(Request::post("test")).non_confirmable());
    let [request, response] = lab.non_confirmable(Code::POST, Code::CREATED);
    request.has_format_and_payload();
    response.has_format_if_payload();
    assert_eq!(lab.app.received[0].payload, b"as the test says");
}

/// The four messages of a separate exchange: request, Empty ACK, response in a CON of its own, Empty ACK.
fn separate(lab: &mut Lab) -> [Packet; 4] {
    let shown = lab.ask(Request::get("separate"));
    lab.run_for(SECOND);
    let packets: [Packet; 4] = lab.packets();
    let [request, acknowledged, response, done] = &packets;
    request.is(Client, Type::Confirmable, Code::GET);
    acknowledged
        .is(Server, Type::Acknowledgement, Code::EMPTY)
        .is_empty_message(request.id);
    assert_eq!(response.token, request.token);
    response
        .is(Server, Type::Confirmable, Code::CONTENT)
        .has_format_and_payload();
    assert!(
        response.at - acknowledged.at >= SECOND,
        "a couple of seconds"
    );
    done.is(Client, Type::Acknowledgement, Code::EMPTY)
        .is_empty_message(response.id);
    assert_eq!(shown.payload, response.payload);
    packets
}

/// GET with a separate response: Empty ACK, seconds later a CON 2.05 with the token, which is acknowledged.
#[test]
fn td_coap_core_09() {
    separate(&mut Lab::new());
}

/// GET with a token of 1 to 8 bytes: the response has the same.
#[test]
fn td_coap_core_10() {
    let mut lab = Lab::new();
    lab.ask(Request::get("test"));
    let [request, response] = lab.piggybacked(Code::GET, Code::CONTENT);
    assert!((1..=8).contains(&request.token.bytes().len()));
    response.has_format_and_payload();
}

/// GET with a token of 1 to 8 bytes and a separate response, which has the same token.
#[test]
fn td_coap_core_11() {
    let [request, _, response, _] = separate(&mut Lab::new());
    assert!((1..=8).contains(&request.token.bytes().len()));
    assert_eq!(response.token, request.token);
}

/// GET with an empty token: the response has an empty token too. Our own client always sends eight bytes, so a request by hand plays it.
#[test]
fn td_coap_core_12() {
    let mut lab = Lab::new();
    let mut request = by_hand(Code::GET, 0x1234, b"");
    request.options.set_path("test");
    lab.send_by_hand(&request);
    lab.run_for(SECOND);
    let packets = lab.wire();
    let [request, response, ..] = packets.as_slice() else {
        panic!("{packets:?}");
    };
    assert!(request.token.bytes().is_empty());
    response
        .is(Server, Type::Acknowledgement, Code::CONTENT)
        .same_id_and_token(request)
        .has_format_and_payload();
}

/// GET of `/seg1/seg2/seg3`: three Uri-Path options.
#[test]
fn td_coap_core_13() {
    let mut lab = Lab::new();
    lab.ask(Request::get("seg1/seg2/seg3"));
    let [request, response] = lab.piggybacked(Code::GET, Code::CONTENT);
    request.has(number::URI_PATH, &[b"seg1", b"seg2", b"seg3"]);
    response.has_format_and_payload();
}

/// GET of `/query?first=1&second=2&third=3`: three Uri-Query options, which reach the resource.
#[test]
fn td_coap_core_14() {
    let mut lab = Lab::new();
    let uri: homefleet_coap::Uri = "coap://192.0.2.7/query?first=1&second=2&third=3"
        .parse()
        .unwrap();
    let shown = lab.ask(uri.request(Code::GET));
    let [request, response] = lab.piggybacked(Code::GET, Code::CONTENT);
    request.has(number::URI_QUERY, &[b"first=1", b"second=2", b"third=3"]);
    response.has_format_and_payload();
    assert_eq!(shown.payload, b"first=1\nsecond=2\nthird=3");
}

/// Piggybacked responses in a lossy context: a lost request and a lost response both lead to a retransmission, byte for byte, and
/// the request is served once.
#[test]
fn td_coap_core_15() {
    // The messages of each run: what is lost, and what is sent in all.
    for (lost, count) in [(&[0], 3), (&[1], 4)] {
        let mut lab = Lab::new();
        lab.lose_nth(lost);
        let shown = lab.ask(Request::get("test"));
        assert_eq!(shown.code, Code::CONTENT);
        let packets = lab.wire();
        assert_eq!(packets.len(), count, "{packets:#?}");
        let requests: Vec<&Packet> = packets.iter().filter(|p| p.from == Client).collect();
        let [first, again] = requests.as_slice() else {
            panic!("{packets:#?}");
        };
        assert_eq!(first.bytes, again.bytes);
        let wait = again.at - first.at;
        assert!((2 * SECOND..=3 * SECOND).contains(&wait), "{wait:?}");
        for response in packets.iter().filter(|p| p.from == Server) {
            response
                .is(Server, Type::Acknowledgement, Code::CONTENT)
                .same_id_and_token(first)
                .has_format_and_payload();
        }
        assert_eq!(lab.app.received.len(), 1);
    }
}

/// Separate responses in a lossy context: a lost request, request ACK, response, and response ACK each lead to a retransmission; when
/// the request ACK is lost, the CON response stops the request's retransmission.
#[test]
fn td_coap_core_16() {
    // Which message is lost, and who repeats its own.
    for (lost, repeats) in [
        (&[0], Client),
        (&[1], Client),
        (&[2], Server),
        (&[3], Server),
    ] {
        let mut lab = Lab::new();
        // Longer than the client's first wait, so that it repeats before the response comes.
        lab.app.delay = 4 * SECOND;
        lab.lose_nth(lost);
        let shown = lab.ask(Request::get("separate"));
        assert_eq!(shown.code, Code::CONTENT);
        lab.run_for(100 * SECOND);
        let packets = lab.wire();
        let of = |side, code: Code| -> Vec<&Packet> {
            packets
                .iter()
                .filter(|p| p.from == side && p.code == code)
                .collect()
        };
        let requests = of(Client, Code::GET);
        let responses = of(Server, Code::CONTENT);
        let expected = if repeats == Client { (2, 1) } else { (1, 2) };
        assert_eq!((requests.len(), responses.len()), expected, "{packets:#?}");
        assert!(requests.iter().all(|p| p.bytes == requests[0].bytes));
        assert!(responses.iter().all(|p| p.bytes == responses[0].bytes));
        responses[0].is(Server, Type::Confirmable, Code::CONTENT);
        assert_eq!(responses[0].token, requests[0].token);
        for acknowledgement in of(Server, Code::EMPTY) {
            acknowledgement.is_empty_message(requests[0].id);
        }
        // Each copy of the response that arrives is acknowledged.
        let arrived = responses.iter().filter(|p| !p.lost).count();
        let done = of(Client, Code::EMPTY);
        assert_eq!(done.len(), arrived);
        for acknowledgement in done {
            acknowledgement
                .is(Client, Type::Acknowledgement, Code::EMPTY)
                .is_empty_message(responses[0].id);
        }
        assert_eq!(lab.app.received.len(), 1);
        assert_eq!(lab.client.stats().timeouts, 0);
    }
}

/// GET with a separate response in NON mode: no ACK for the request, seconds later a NON 2.05 with the token.
#[test]
fn td_coap_core_17() {
    let mut lab = Lab::new();
    let shown = lab.ask(Request::get("separate").non_confirmable());
    lab.run_for(SECOND);
    let [request, response] = lab.non_confirmable(Code::GET, Code::CONTENT);
    response.has_format_and_payload();
    assert!(response.at - request.at >= SECOND);
    assert_eq!(shown.payload, response.payload);
}

/// Ping: an Empty CON of four bytes is answered with an RST of four bytes and the same message ID.
#[test]
fn td_coap_core_31() {
    let mut lab = Lab::new();
    lab.send_by_hand(&by_hand(Code::EMPTY, 0x3131, b""));
    lab.run_for(SECOND);
    let [ping, pong] = lab.packets();
    ping.is(Client, Type::Confirmable, Code::EMPTY)
        .is_empty_message(0x3131);
    pong.is(Server, Type::Reset, Code::EMPTY)
        .is_empty_message(0x3131);
}
