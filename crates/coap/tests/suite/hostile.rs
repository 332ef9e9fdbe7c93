//! Datagrams that have stopped or corrupted other implementations: none disturbs anything here.

use std::time::Duration;

use homefleet_coap::{Code, Message, Peer, Response, Type, number};

use crate::support::{MessageExt, Solo, body, message, peer};

fn post(id: u16) -> Message {
    message(Type::Confirmable, Code::POST, id, &[1]).path("usp")
}

/// The endpoint still serves everyone, and keeps nothing of what came before.
fn is_undisturbed(solo: &mut Solo) {
    solo.events.clear();
    solo.peer = peer(60_000);
    let answer = solo.serve(&post(60_000).body("ok"), Response::new(Code::CHANGED));
    assert_eq!(answer.code, Code::CHANGED);
    solo.advance(Duration::from_secs(1000));
    assert_eq!(solo.endpoint.peer_count(), 0);
    assert_eq!(solo.endpoint.poll_timeout(), None);
}

#[test]
fn a_datagram_from_port_0_is_dropped_and_never_answered() {
    let mut solo = Solo::new();
    for (n, datagram) in [
        post(1).encode(),
        Message::empty(Type::Confirmable, 2).encode(),
        vec![0x40, 1, 0, 1, 0xff],
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(solo.input_from(peer(0), datagram), []);
        assert_eq!(solo.endpoint.stats().unanswerable_source, n as u64 + 1);
    }
    for nowhere in ["0.0.0.0:5683", "224.0.1.187:5683", "[ff02::fd]:5683"] {
        let nowhere = Peer::plain(nowhere.parse().unwrap());
        assert_eq!(solo.input_from(nowhere, &post(1).encode()), []);
    }
    assert!(solo.events.is_empty());
    assert_eq!(solo.endpoint.peer_count(), 0);
    is_undisturbed(&mut solo);
}

#[test]
fn a_uri_path_of_1300_bytes_is_answered_4_02() {
    let mut solo = Solo::new();
    let ask =
        message(Type::Confirmable, Code::GET, 1, &[1]).option(number::URI_PATH, &[b'a'; 1300]);
    let answer = solo.ask(&ask);
    assert_eq!(answer.code, Code::BAD_OPTION);
    assert!(answer.encode().len() < 64, "the path is not echoed");
    assert!(solo.events.is_empty());
    is_undisturbed(&mut solo);
}

/// A Block1 request whose header, token and options are exactly so long.
fn with_options_of(len: usize, payload: &[u8], more: bool) -> Message {
    let mut ask = post(1).block1(0, more, 0).body(payload);
    let mut rest = len - (ask.encode().len() - 1 - payload.len());
    while rest > 0 {
        // Uri-Query of up to 255 bytes: one byte of header below 13 bytes, two otherwise.
        let value = if rest > 300 {
            253
        } else if rest > 14 {
            rest.min(200) - 2
        } else {
            rest - 1
        };
        ask = ask.option(number::URI_QUERY, &vec![b'q'; value]);
        rest = len.saturating_sub(ask.encode().len() - 1 - payload.len());
    }
    assert_eq!(ask.encode().len() - 1 - payload.len(), len);
    ask
}

#[test]
fn options_of_exactly_1140_bytes_disturb_nothing() {
    for len in 1130..1160 {
        for more in [true, false] {
            let mut solo = Solo::new();
            let ask = with_options_of(len, &[7; 16], more);
            if more {
                assert_eq!(solo.ask(&ask).code, Code::CONTINUE, "{len}");
            } else {
                let answer = solo.serve(&ask, Response::content(42, body(3000, 1)));
                assert_eq!(answer.payload.len(), 1024, "{len}");
            }
            is_undisturbed(&mut solo);
        }
    }
}

#[test]
fn a_response_with_options_longer_than_a_message_still_goes_out() {
    let mut solo = Solo::new();
    let mut response = Response::content(42, body(100, 1));
    for _ in 0..6 {
        response.options.add(number::LOCATION_QUERY, &[b'l'; 250]);
    }
    let answer = solo.serve(&post(1), response);
    assert_eq!(answer.payload.len(), 16, "the smallest block");
    is_undisturbed(&mut solo);
}

#[test]
fn a_request_with_options_longer_than_a_message_still_goes_out() {
    let mut solo = Solo::new();
    let mut request = homefleet_coap::Request::post("usp").payload(body(100, 1));
    for _ in 0..6 {
        request = request.query(&"q".repeat(250));
    }
    let (_, sent) = solo.request(request);
    assert_eq!(sent[0].payload.len(), 16);
}

#[test]
fn block_number_70000_and_a_first_block_numbered_5_disturb_no_upload() {
    let mut solo = Solo::new();
    let whole = body(48, 1);
    let part = |id: u16, num: usize, more| {
        post(id)
            .block1(num as u32, more, 0)
            .body(&whole[num * 16..num * 16 + 16])
    };
    assert_eq!(solo.ask(&part(1, 0, true)).code, Code::CONTINUE);
    for (n, (num, more)) in [(70_000, true), (70_000, false), (5, true), (5, false)]
        .into_iter()
        .enumerate()
    {
        let from = peer(100 + n as u16);
        let ask = post(9).block1(num, more, 0).body([0; 16]);
        let sent = solo.input_from(from, &ask.encode());
        assert_eq!(sent[0].code, Code::REQUEST_ENTITY_INCOMPLETE);
    }
    assert_eq!(solo.ask(&part(2, 1, true)).code, Code::CONTINUE);
    solo.send(&part(3, 2, false));
    assert_eq!(solo.got().request.payload, whole);
    is_undisturbed(&mut solo);
}

#[test]
fn sequential_blocks_without_end_stop_at_the_limit() {
    let mut solo = Solo::new();
    let mut accepted = 0;
    for num in 0..5000u32 {
        let ask = post(num as u16).block1(num, true, 6).body(body(1024, 1));
        let answer = solo.ask(&ask);
        if answer.code != Code::CONTINUE {
            assert_eq!(answer.code, Code::REQUEST_ENTITY_TOO_LARGE);
            break;
        }
        accepted += 1;
    }
    assert_eq!(accepted, 1024);
    is_undisturbed(&mut solo);
}

#[test]
fn a_flood_from_many_peers_stays_within_the_bounds() {
    let mut solo = Solo::with(|config| {
        config.dedup_total = 1000;
        config.max_exchanges = 100;
        config.max_block_transfers = 50;
    });
    for n in 0..20_000u32 {
        let from = Peer::plain(std::net::SocketAddr::from((
            [10, 0, (n >> 8) as u8, n as u8],
            1000,
        )));
        let ask = if n % 2 == 0 {
            post(n as u16).block1(0, true, 0).body([0; 16])
        } else {
            post(n as u16).body("x")
        };
        solo.input_from(from, &ask.encode());
        solo.log.clear();
    }
    let stats = solo.endpoint.stats();
    let peers = solo.endpoint.peer_count();
    assert!(peers <= 1150, "{peers} peers");
    solo.advance(Duration::from_secs(300));
    assert_eq!(solo.endpoint.stats().unanswered, 100);
    assert_eq!(stats.requests_delivered, 100);
    assert_eq!(stats.overload_refused, 9900);
    assert_eq!(stats.transfers_evicted, 9950);
    is_undisturbed(&mut solo);
}

#[test]
fn absurd_configurations_do_not_panic() {
    let mut solo = Solo::with(|config| {
        config.ack_timeout = Duration::MAX;
        config.ack_random_factor = f64::NAN;
        config.max_retransmit = u32::MAX;
        config.nstart = 0;
        config.separate_after = Duration::MAX;
        config.block_timeout = Duration::MAX;
        config.response_timeout = Duration::MAX;
        config.exchange_timeout = Duration::MAX;
        config.block_size = 0;
        config.max_message = 0;
        config.dedup_per_peer = 0;
        config.dedup_total = 0;
        config.dedup_bytes = 0;
        config.max_block_transfers = 0;
        config.max_block_transfers_per_peer = 0;
        config.probing_rate = 0;
        config.notify_con_every = 0;
    });
    solo.request(homefleet_coap::Request::get("x").payload(body(100, 0)));
    solo.request(homefleet_coap::Request::get("x").non_confirmable());
    solo.send(&post(1));
    if let Some(got) = solo.take_request() {
        solo.respond(got.exchange, Response::content(0, body(100, 0)));
    }
    solo.send(&post(2).block1(0, true, 0).body([0; 16]));
    solo.endpoint.poll_timeout();
    solo.endpoint
        .handle_timeout(solo.now + Duration::from_secs(1 << 33));
}

#[test]
fn a_peer_that_resets_a_separate_response_is_not_kept_for_ever() {
    let mut solo = Solo::with(|config| config.dedup_total = 1);
    assert_eq!(solo.send(&post(1)), []);
    solo.advance(Duration::from_millis(200));
    let exchange = solo.got().exchange;
    let sent = solo.respond(exchange, Response::new(Code::CHANGED));
    // Others push out everything else that is remembered of it.
    let resetting = solo.peer;
    for port in 50_000..50_010 {
        solo.peer = peer(port);
        solo.serve(&post(1), Response::new(Code::CHANGED));
    }
    solo.peer = resetting;
    assert_eq!(solo.empty(Type::Reset, sent[0].id), []);
    is_undisturbed(&mut solo);
}
