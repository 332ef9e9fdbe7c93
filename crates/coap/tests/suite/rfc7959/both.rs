//! Block1 and Block2 together, end to end, over good and bad networks (RFC 7959 §2.7, §3.3).

use std::time::Duration;

use homefleet_coap::{Code, Request, Response, number};

use crate::support::{Network, Pair, Side, block, body};

fn echo(seed: u64, network: Network, sizes: (usize, usize)) -> Pair {
    Pair::with(
        seed,
        network,
        |client, server| {
            client.block_size = sizes.0;
            server.block_size = sizes.1;
        },
        Box::new(|request| {
            let mut payload = request.payload.clone();
            payload.reverse();
            Some(
                Response::new(Code::CHANGED)
                    .content_format(42)
                    .payload(payload),
            )
        }),
    )
}

#[test]
fn a_large_request_gets_a_large_response() {
    for sizes in [(1024, 1024), (64, 1024), (1024, 64), (16, 16), (128, 32)] {
        for len in [0, 1, 15, 16, 17, 1024, 1025, 2048, 5000] {
            let mut pair = echo(1, Network::GOOD, sizes);
            let id = pair.request(Request::post("usp").payload(body(len, 1)));
            let response = pair.response(id).unwrap();
            let mut expected = body(len, 1);
            expected.reverse();
            assert_eq!(response.payload, expected, "{sizes:?} {len}");
            assert_eq!(pair.handled.len(), 1);
            assert_eq!(pair.handled[0].payload, body(len, 1));
            let tokens: Vec<_> = pair.log.iter().map(|(_, m)| m.token).collect();
            assert!(tokens.windows(2).all(|two| two[0] == two[1]), "one token");
        }
    }
}

#[test]
fn the_last_block_of_the_request_brings_the_first_of_the_response() {
    let mut pair = echo(1, Network::GOOD, (1024, 1024));
    let id = pair.request(Request::post("usp").payload(body(1500, 1)));
    pair.response(id).unwrap();
    let sent = pair.sent(Side::Server);
    assert_eq!(sent.len(), 3);
    assert_eq!(sent[0].code, Code::CONTINUE);
    assert_eq!(sent[1].options.block1(), block(1, false, 1024));
    assert_eq!(sent[1].options.block2(), block(0, true, 1024));
    assert_eq!(sent[2].options.block2(), block(1, false, 1024));
    assert!(!sent[2].options.contains(number::BLOCK1));
    let asked = pair.sent(Side::Client)[2];
    assert_eq!((asked.options.block1(), asked.payload.len()), (None, 0));
}

#[test]
fn a_mebibyte_goes_both_ways() {
    let mut pair = echo(1, Network::GOOD, (1024, 1024));
    let whole = body(1 << 20, 5);
    let id = pair.request(Request::post("usp").payload(whole.clone()));
    let mut response = pair.response(id).unwrap().payload;
    response.reverse();
    assert_eq!(response, whole);
    let id = pair.request(Request::post("usp").payload(body((1 << 20) + 1, 5)));
    let refused = pair.response(id).unwrap();
    assert_eq!(refused.code, Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(refused.options.size1(), Some(1 << 20));
}

#[test]
fn bodies_survive_loss_duplication_and_reordering() {
    let mut done = 0;
    for seed in 0..40 {
        let mut pair = echo(seed, Network::BAD, (256, 256));
        for n in 0..3u8 {
            let len = 300 * (usize::from(n) + 1);
            let id = pair.request(Request::post("usp").payload(body(len, n)));
            match pair.response(id) {
                Ok(response) => {
                    let mut expected = body(len, n);
                    expected.reverse();
                    assert_eq!(response.payload, expected, "seed {seed}");
                    done += 1;
                }
                Err(error) => assert!(error.contains("Timeout"), "seed {seed}: {error}"),
            }
        }
        for request in &pair.handled {
            let n = request.payload.len() / 300 - 1;
            assert_eq!(request.payload, body(request.payload.len(), n as u8));
        }
        assert!(
            pair.handled.len() <= 3,
            "seed {seed}: the handler ran twice"
        );
    }
    assert!(done >= 100, "{done} of 120");
}

#[test]
fn several_uploads_at_once_do_not_mix() {
    for seed in 0..10 {
        let mut pair = Pair::with(
            seed,
            Network::BAD,
            |client, _| {
                client.nstart = 4;
                client.block_size = 64;
            },
            Box::new(|request| Some(Response::new(Code::CHANGED).payload(request.payload.clone()))),
        );
        let ids: Vec<_> = (0..4u8)
            .map(|n| (n, pair.request(Request::post("usp").payload(body(400, n)))))
            .collect();
        for (n, id) in ids {
            if let Ok(response) = pair.response(id) {
                assert_eq!(response.code, Code::CHANGED);
                assert_eq!(response.payload, body(400, n), "seed {seed}");
            }
        }
        for request in &pair.handled {
            assert!(
                (0..4).any(|n| request.payload == body(400, n)),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn slow_servers_answer_blocks_separately() {
    let mut pair = Pair::new(3, Network::GOOD, Box::new(|_| None));
    let id = pair.request(Request::post("usp").payload(body(3000, 1)));
    pair.run_for(Duration::from_secs(2));
    let at = pair.server_events.len() - 1;
    let homefleet_coap::Event::Request {
        exchange, request, ..
    } = pair.server_events.remove(at)
    else {
        panic!()
    };
    assert_eq!(request.payload, body(3000, 1));
    let response = Response::content(42, body(5000, 2));
    pair.server.respond(pair.now, exchange, response).unwrap();
    assert_eq!(pair.response(id).unwrap().payload, body(5000, 2));
}

#[test]
fn an_error_with_a_large_body_is_read_whole() {
    for (sizes, len) in [((1024, 1024), 3000), ((64, 1024), 200), ((1024, 16), 100)] {
        let mut pair = Pair::with(
            1,
            Network::GOOD,
            |client, server| {
                client.block_size = sizes.0;
                server.block_size = sizes.1;
            },
            Box::new(move |_| Some(Response::new(Code::FORBIDDEN).payload(body(len, 1)))),
        );
        let id = pair.request(Request::post("usp").payload(body(500, 1)));
        let response = pair.response(id).unwrap();
        assert_eq!(response.code, Code::FORBIDDEN);
        assert_eq!(response.payload, body(len, 1), "{sizes:?}");
        assert_eq!(pair.handled.len(), 1);
    }
}
