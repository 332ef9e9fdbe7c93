//! Security associations (RFC 7252 §9.1).

use homefleet_coap::{
    Code, Event, Peer, Request, RequestError, RespondError, Response, SessionId, Type,
};

use crate::support::{MessageExt, Solo, message, peer};

#[test]
fn a_response_counts_only_in_the_association_of_its_request() {
    let mut solo = Solo::new();
    let addr = peer(5684).addr;
    solo.peer = Peer::secure(addr, SessionId(1));
    let (_, sent) = solo.request(Request::get("x"));
    let response = Solo::ack(&sent[0], Code::CONTENT).encode();
    assert_eq!(solo.input_from(Peer::plain(addr), &response), []);
    assert_eq!(
        solo.input_from(Peer::secure(addr, SessionId(2)), &response),
        []
    );
    assert!(solo.events.is_empty());
    solo.input(&response);
    assert!(matches!(solo.take_event(), Some(Event::Response { from, .. }) if from == solo.peer));
}

#[test]
fn message_ids_are_told_apart_by_association() {
    let mut solo = Solo::new();
    let addr = peer(5684).addr;
    let ask = message(Type::Confirmable, Code::POST, 7, &[1]).path("x");
    for session in 1..4 {
        solo.peer = Peer::secure(addr, SessionId(session));
        solo.serve(&ask, Response::new(Code::CHANGED));
    }
    assert_eq!(solo.endpoint.stats().requests_delivered, 3);
}

#[test]
fn forgetting_a_peer_fails_its_requests_and_drops_its_state() {
    let mut solo = Solo::new();
    solo.peer = Peer::secure(peer(5684).addr, SessionId(1));
    let (first, _) = solo.request(Request::get("1"));
    let (second, _) = solo.request(Request::get("2"));
    let get = message(Type::Confirmable, Code::GET, 7, &[1])
        .path("x")
        .option(6, &[]);
    solo.send(&get);
    let exchange = solo.got().exchange;
    let observation = solo.endpoint.accept_observer(exchange).unwrap();
    solo.respond(exchange, Response::content(0, "state"));
    solo.send(&message(Type::Confirmable, Code::POST, 8, &[2]).path("y"));
    let open = solo.got().exchange;
    let upload = message(Type::Confirmable, Code::POST, 9, &[3])
        .path("z")
        .block1(0, true, 0)
        .body([0; 16]);
    assert_eq!(solo.ask(&upload).code, Code::CONTINUE);

    solo.endpoint.forget_peer(solo.now, solo.peer);
    assert_eq!(solo.drain(), []);
    assert_eq!(solo.endpoint.peer_count(), 0);
    let error = RequestError::PeerGone;
    let mut events = std::mem::take(&mut solo.events);
    assert!(events.contains(&Event::Failed { id: first, error }));
    assert!(events.contains(&Event::Failed { id: second, error }));
    events.retain(|event| matches!(event, Event::ObserverGone { .. }));
    assert_eq!(events, [Event::ObserverGone { id: observation }]);
    assert_eq!(
        solo.endpoint
            .respond(solo.now, open, Response::new(Code::CHANGED)),
        Err(RespondError::UnknownExchange)
    );
    assert_eq!(solo.advance(std::time::Duration::from_secs(600)), []);
    assert_eq!(solo.endpoint.poll_timeout(), None);
}
