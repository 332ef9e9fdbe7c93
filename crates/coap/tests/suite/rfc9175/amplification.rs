//! An unverified address never gets more than three times what it sent (section 2.4, RFC 7252 §11.3).

use std::time::Duration;

use homefleet_coap::{
    Code, Event, Message, ObserveError, Peer, Request, Response, SessionId, Type, number,
};

use crate::support::{MessageExt, Network, Pair, Solo, body, message, peer};

fn solo() -> Solo {
    Solo::with(|config| config.amplification = 3)
}

fn get(id: u16) -> Message {
    message(Type::Confirmable, Code::GET, id, &id.to_be_bytes()).path("x")
}

fn post(id: u16) -> Message {
    message(Type::Confirmable, Code::POST, id, &id.to_be_bytes()).path("x")
}

/// Bytes sent so far.
fn sent(solo: &Solo) -> usize {
    solo.log.iter().map(|(_, _, m)| m.encode().len()).sum()
}

fn large() -> Response {
    Response::content(42, body(1000, 1))
}

/// Makes the address a verified one.
fn verify(solo: &mut Solo, id: u16) {
    let challenge = solo.serve(&get(id), large());
    let echo = challenge.options.first(number::ECHO).unwrap();
    let answer = solo.serve(&get(id + 1).option(number::ECHO, echo), large());
    assert_eq!(answer.code, Code::CONTENT);
}

#[test]
fn a_large_response_to_a_stranger_is_a_challenge_and_with_its_value_the_content() {
    let mut solo = solo();
    let challenge = solo.serve(&get(1), large());
    assert_eq!(challenge.code, Code::UNAUTHORIZED);
    assert!(challenge.payload.is_empty());
    assert!(challenge.encode().len() <= 3 * get(1).encode().len());
    let echo = challenge.options.first(number::ECHO).unwrap().to_vec();
    assert_eq!(echo.len(), 8);
    let answer = solo.serve(&get(2).option(number::ECHO, &echo), large());
    assert_eq!(answer.code, Code::CONTENT);
    assert_eq!(answer.payload.len(), 1000);
    // Once verified, always: no value is needed any more.
    assert_eq!(solo.serve(&get(3), large()).payload.len(), 1000);
    assert_eq!(solo.endpoint.stats().amplification_limited, 1);
    assert_eq!(solo.endpoint.stats().challenges, 1);
}

#[test]
fn what_fits_is_answered_at_once() {
    let mut solo = solo();
    let ask = get(1);
    let fits = 3 * ask.encode().len();
    let overhead = 4 + 2 + 1;
    let answer = solo.serve(
        &ask,
        Response::new(Code::CONTENT).payload(body(fits - overhead, 1)),
    );
    assert_eq!((answer.code, answer.encode().len()), (Code::CONTENT, fits));
    let over = Response::new(Code::CONTENT).payload(body(fits - overhead + 1, 1));
    assert_eq!(solo.serve(&get(2), over).code, Code::UNAUTHORIZED);
}

#[test]
fn a_wrong_value_verifies_nothing() {
    let mut solo = solo();
    let echo = solo.serve(&get(1), large());
    let echo = echo.options.first(number::ECHO).unwrap().to_vec();
    let mut wrong = echo.clone();
    wrong[0] ^= 1;
    let answer = solo.serve(&get(2).option(number::ECHO, &wrong), large());
    assert_eq!(answer.code, Code::UNAUTHORIZED);
    // Nor does one that another address got, or a value that is too old.
    solo.peer = peer(41_000);
    let answer = solo.serve(&get(3).option(number::ECHO, &echo), large());
    assert_eq!(answer.code, Code::UNAUTHORIZED);
    solo.peer = peer(40_000);
    solo.advance(Duration::from_secs(61));
    let answer = solo.serve(&get(4).option(number::ECHO, &echo), large());
    assert_eq!(answer.code, Code::UNAUTHORIZED);
}

#[test]
fn the_shortest_request_gets_a_shorter_value() {
    let mut solo = solo();
    let ask = message(Type::Confirmable, Code::GET, 1, &[]);
    let challenge = solo.serve(&ask, large());
    assert_eq!(challenge.encode().len(), 12);
    let echo = challenge.options.first(number::ECHO).unwrap().to_vec();
    assert_eq!(echo.len(), 6);
    let mut ask = ask.option(number::ECHO, &echo);
    ask.id = 2;
    assert_eq!(solo.serve(&ask, large()).code, Code::CONTENT);
}

#[test]
fn what_has_been_done_is_never_asked_for_again_but_answered_in_smaller_blocks() {
    let mut solo = solo();
    let ask = post(1).body([7; 20]);
    let first = solo.serve(&ask, large());
    assert_eq!(first.code, Code::CONTENT);
    assert!(first.encode().len() <= 3 * ask.encode().len());
    let mut whole = first.payload.clone();
    let mut block = first.options.block2().unwrap();
    assert!(block.more);
    let mut id = 2;
    let mut paid = 3 * ask.encode().len();
    while block.more {
        let next = whole.len() / block.size();
        let ask = post(id).block2(next as u32, false, block.szx);
        let answer = solo.ask(&ask);
        paid += 3 * ask.encode().len();
        assert!(sent(&solo) <= paid);
        block = answer.options.block2().unwrap();
        assert_eq!(block.offset(), whole.len());
        whole.extend(answer.payload);
        id += 1;
    }
    assert_eq!(whole, body(1000, 1));
    assert!(solo.events.is_empty(), "the application ran once");
}

#[test]
fn when_not_even_a_small_block_fits_the_code_is_what_is_left() {
    let mut solo = solo();
    let mut response = Response::content(42, body(10, 1));
    response.options.set_location_path(&"p".repeat(60));
    let answer = solo.serve(&post(1), response);
    assert_eq!(answer.code, Code::CONTENT);
    assert!(answer.options.is_empty() && answer.payload.is_empty());
}

#[test]
fn errors_lose_their_diagnostic_payload_first() {
    let mut solo = solo();
    let response = Response::new(Code::SERVICE_UNAVAILABLE)
        .max_age(5)
        .payload(body(60, 1));
    let answer = solo.serve(&get(1), response);
    assert_eq!(answer.code, Code::SERVICE_UNAVAILABLE);
    assert_eq!(answer.options.max_age(), Some(5));
    assert!(answer.payload.is_empty());
    // Those of the endpoint itself too.
    solo.peer = peer(41_000);
    let mut ask = message(Type::Confirmable, Code::GET, 2, &[]);
    ask.options.add(number::IF_MATCH, b"");
    let answer = solo.ask(&ask);
    assert_eq!((answer.code, answer.payload.len()), (Code::BAD_OPTION, 0));
}

#[test]
fn repetitions_are_replayed_only_as_far_as_they_pay() {
    let mut solo = solo();
    let ask = get(1).option(number::SIZE1, &[1, 2, 3, 4]);
    let paid = 3 * ask.encode().len();
    let answer = Response::new(Code::CONTENT).payload(body(paid - 7, 1));
    assert_eq!(solo.serve(&ask, answer).encode().len(), paid);
    // A repetition of the same length pays for itself, a shorter one does not.
    assert_eq!(solo.send(&ask).len(), 1);
    let short = message(Type::Confirmable, Code::GET, 1, &1u16.to_be_bytes());
    assert_eq!(solo.send(&short), []);
    assert_eq!(solo.endpoint.stats().amplification_held, 1);
    assert_eq!(
        solo.send(&short).len(),
        usize::from(paid <= 6 * short.encode().len())
    );
}

#[test]
fn a_separate_response_is_repeated_only_as_far_as_the_request_pays() {
    let mut solo = solo();
    let ask = post(1).body([0; 10]);
    let paid = 3 * ask.encode().len();
    solo.send(&ask);
    solo.advance(Duration::from_secs(1));
    let exchange = solo.got().exchange;
    solo.respond(exchange, Response::new(Code::CHANGED).payload(body(20, 1)));
    solo.advance(Duration::from_secs(300));
    assert!(sent(&solo) <= paid, "{} of {paid}", sent(&solo));
    assert!(solo.log.len() > 1);
    assert!(solo.endpoint.stats().amplification_held > 0);
    assert_eq!(solo.endpoint.peer_count(), 0);
}

#[test]
fn an_acknowledgement_is_no_evidence_but_a_response_to_our_own_request_is() {
    let mut solo = solo();
    solo.send(&post(1).body([0; 40]));
    solo.advance(Duration::from_secs(1));
    let exchange = solo.got().exchange;
    let separate = solo
        .respond(exchange, Response::new(Code::CHANGED))
        .remove(0);
    solo.empty(Type::Acknowledgement, separate.id);
    assert_eq!(solo.serve(&get(2), large()).code, Code::UNAUTHORIZED);
    let (_, ours) = solo.request(Request::get("y"));
    solo.send(&Solo::ack(&ours[0], Code::CONTENT));
    assert_eq!(solo.serve(&get(3), large()).code, Code::CONTENT);
}

#[test]
fn a_peer_behind_dtls_is_verified_and_the_limit_can_be_switched_off() {
    let mut secure = solo();
    secure.peer = Peer::secure(peer(7).addr, SessionId(1));
    assert_eq!(secure.serve(&get(1), large()).code, Code::CONTENT);
    let mut free = Solo::with(|config| config.amplification = 0);
    assert_eq!(free.serve(&get(1), large()).code, Code::CONTENT);
}

#[test]
fn only_verified_addresses_are_observers() {
    let mut solo = solo();
    let observe = |id| get(id).option(number::OBSERVE, b"");
    solo.send(&observe(1));
    let exchange = solo.got().exchange;
    assert_eq!(
        solo.endpoint.accept_observer(exchange),
        Err(ObserveError::Unverified)
    );
    let challenge = solo
        .respond(exchange, Response::new(Code::CONTENT))
        .remove(0);
    assert_eq!(challenge.code, Code::UNAUTHORIZED);
    let echo = challenge.options.first(number::ECHO).unwrap();
    solo.send(&observe(2).option(number::ECHO, echo));
    let exchange = solo.got().exchange;
    assert!(solo.endpoint.accept_observer(exchange).is_ok());
    let first = solo
        .respond(exchange, Response::new(Code::CONTENT))
        .remove(0);
    assert!(first.options.observe().is_some());
    // An error is an error, whoever asks.
    solo.peer = peer(41_000);
    solo.send(&observe(3));
    let exchange = solo.got().exchange;
    assert!(solo.endpoint.accept_observer(exchange).is_err());
    let answer = solo
        .respond(exchange, Response::new(Code::NOT_FOUND))
        .remove(0);
    assert_eq!(answer.code, Code::NOT_FOUND);
}

#[test]
fn a_forgotten_address_has_to_show_itself_again() {
    let mut solo = solo();
    verify(&mut solo, 1);
    solo.advance(Duration::from_secs(600));
    assert_eq!(solo.endpoint.peer_count(), 0);
    assert_eq!(solo.serve(&get(1), large()).code, Code::UNAUTHORIZED);
}

#[test]
fn our_own_client_notices_nothing() {
    for seed in 0..20 {
        let network = if seed == 0 {
            Network::GOOD
        } else {
            Network::BAD
        };
        let mut pair = Pair::with(
            seed,
            network,
            |client, server| {
                client.max_retransmit = 10;
                server.amplification = 3;
            },
            Box::new(|_| Some(Response::content(42, body(5000, 1)))),
        );
        for request in [
            Request::get("x"),
            Request::post("x").payload("y"),
            Request::post("x").payload(body(3000, 2)),
            Request::get("x").observe(),
        ] {
            let id = pair.request(request);
            assert_eq!(pair.response(id).unwrap().payload, body(5000, 1));
        }
    }
}

#[test]
fn a_verified_client_observes() {
    let mut pair = Pair::with(
        1,
        Network::GOOD,
        |_, server| server.amplification = 3,
        Box::new(|_| None),
    );
    let id = pair.request(Request::get("x").observe());
    let mut observation = None;
    for _ in 0..2 {
        pair.run_for(Duration::from_millis(50));
        let Some(Event::Request { exchange, .. }) = pair.server_events.pop() else {
            panic!("no request")
        };
        observation = pair.server.accept_observer(exchange).ok();
        pair.server
            .respond(pair.now, exchange, Response::new(Code::CONTENT))
            .unwrap();
    }
    assert!(pair.response(id).unwrap().options.observe().is_some());
    pair.server
        .notify(pair.now, observation.unwrap(), large())
        .unwrap();
    pair.run_for(Duration::from_secs(1));
    assert!(matches!(
        &pair.client_events[..],
        [Event::Notification { .. }]
    ));
}

/// Whatever strangers ask, and whatever the application answers: no address gets more than three times its bytes.
#[test]
fn no_address_ever_gets_more_than_three_times_its_bytes() {
    use rand_chacha::ChaCha8Rng;
    use rand_core::{Rng, SeedableRng};
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mut solo = solo();
    let peers: Vec<_> = (1..6).map(peer).collect();
    let mut paid = vec![0usize; peers.len()];
    for round in 0..4000u16 {
        let n = rng.next_u32() as usize % peers.len();
        let mut pick = |below: u32| rng.next_u32() % below;
        let kind = [Type::Confirmable, Type::NonConfirmable][pick(2) as usize];
        let code = [
            Code::GET,
            Code::POST,
            Code::PUT,
            Code::FETCH,
            Code::new(0, 20),
        ][pick(5) as usize];
        let id = if pick(4) == 0 {
            round.saturating_sub(1)
        } else {
            round
        };
        let token = vec![pick(256) as u8; pick(9) as usize];
        let mut ask = message(kind, code, id, &token);
        match pick(8) {
            0 => {
                ask = ask
                    .block1(pick(3), pick(2) == 1, pick(8) as u8)
                    .body(body(16, 1))
            }
            1 => ask = ask.block2(pick(70), false, pick(8) as u8),
            2 => ask = ask.option(number::OBSERVE, b""),
            3 => ask = ask.option(number::ECHO, b"12345678"),
            4 => ask = ask.option(65_001, b"?"),
            5 => ask = Message::empty(Type::Confirmable, id),
            _ => ask = ask.path("some/path").body(body(pick(40) as usize, 2)),
        }
        let datagram = ask.encode();
        paid[n] += datagram.len();
        solo.input_from(peers[n], &datagram);
        while let Some(got) = solo.take_request() {
            let observation = solo.endpoint.accept_observer(got.exchange);
            assert!(observation.is_err());
            let code = [
                Code::CONTENT,
                Code::CREATED,
                Code::NOT_FOUND,
                Code::INTERNAL_SERVER_ERROR,
            ][rng.next_u32() as usize % 4];
            let len = rng.next_u32() as usize % [4, 60, 3000][rng.next_u32() as usize % 3];
            if rng.next_u32() % 4 == 0 {
                solo.advance(Duration::from_millis(150));
            }
            let response = Response::new(code).payload(body(len, 1));
            let _gone = solo.endpoint.respond(solo.now, got.exchange, response);
            solo.drain();
        }
        if rng.next_u32() % 8 == 0 {
            solo.advance(Duration::from_secs(u64::from(rng.next_u32() % 40)));
        }
    }
    solo.advance(Duration::from_secs(1000));
    for (peer, paid) in peers.iter().zip(paid) {
        let got: usize = (solo.log.iter())
            .filter(|(_, to, _)| to == peer)
            .map(|(_, _, m)| m.encode().len())
            .sum();
        assert!(got <= 3 * paid, "{got} of {paid}");
        assert!(got > paid / 4, "{got} of {paid}: something is answered");
    }
    let stats = solo.endpoint.stats();
    assert!(
        stats.challenges > 100 && stats.amplification_held > 10,
        "{stats:?}"
    );
}

#[test]
fn nothing_is_kept_of_a_response_that_became_a_challenge() {
    let mut solo = solo();
    let challenge = solo.serve(&get(1), Response::content(42, body(3000, 1)));
    assert_eq!(challenge.code, Code::UNAUTHORIZED);
    assert_eq!(solo.send(&get(2).block2(1, false, 0)), []);
    assert!(solo.take_request().is_some(), "asked of the application");
}
