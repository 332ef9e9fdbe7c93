//! The CoAP endpoint on real sockets: separate responses, several addresses, reuse, limits.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use homefleet_coap::{Code, Request, Response, Scheme};
use homefleet_net::coap::{Incoming, Node, NodeConfig, Repeat, RequestFailure, Target};

use crate::support::nodes::{big, brisk, echo, node};
use crate::support::pair::{AGENT, CONTROLLER};
use crate::support::pki::Ca;

fn target(node: &Node, scheme: Scheme, id: Option<&str>) -> Target {
    Target {
        scheme,
        host: "localhost".to_owned(),
        port: node.addr_of(scheme).unwrap().port(),
        endpoint_id: id.map(str::to_owned),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_know_each_other_by_certificate_on_coaps_only() {
    let ca = Ca::new("Test CA");
    let server = node(&ca.endpoint(CONTROLLER), ca.verifier());
    let client = node(&ca.endpoint(AGENT), ca.verifier());
    for (scheme, who) in [(Scheme::Coaps, AGENT), (Scheme::Coap, "nobody")] {
        let response = client
            .request(&target(&server, scheme, None), Request::get("who"))
            .await
            .unwrap();
        assert_eq!(response.payload, who.as_bytes());
        let response = client
            .request(&target(&server, scheme, None), Request::get("big"))
            .await
            .unwrap();
        assert_eq!(response.payload, big());
    }
    assert_eq!(server.stats().dtls.handshakes_in, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_can_answer_later() {
    let later = |incoming: Incoming<'_>| -> Option<Response> {
        let responder = incoming.later();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(400)).await;
            responder
                .respond(Response::new(Code::CONTENT).payload(b"at last".to_vec()))
                .await;
        });
        None
    };
    let plain = |service: fn(Incoming<'_>) -> Option<Response>| {
        Node::bind(
            NodeConfig {
                secure: None,
                plain_listen: Some("127.0.0.1:0".parse().unwrap()),
                groups: Vec::new(),
                coap: brisk(),
                max_requests: 10,
                doubt_after: Duration::from_secs(1),
            },
            service,
        )
        .unwrap()
    };
    let server = plain(later);
    let client = plain(|_| None);
    let response = client
        .request(&target(&server, Scheme::Coap, None), Request::get("x"))
        .await
        .unwrap();
    assert_eq!(response.payload, b"at last");
    // It came separately: the request was acknowledged before and not repeated.
    assert_eq!(server.stats().coap.requests_delivered, 1);
    assert_eq!(
        client
            .request(
                &Target {
                    scheme: Scheme::Coaps,
                    ..target(&server, Scheme::Coap, None)
                },
                Request::get("x")
            )
            .await,
        Err(RequestFailure::Disabled(Scheme::Coaps))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_directions_share_an_association_and_glare_is_settled_live() {
    let ca = Ca::new("Test CA");
    let a = node(&ca.endpoint(AGENT), ca.verifier());
    let b = node(&ca.endpoint(CONTROLLER), ca.verifier());
    let (to_a, to_b) = (
        target(&a, Scheme::Coaps, Some(AGENT)),
        target(&b, Scheme::Coaps, Some(CONTROLLER)),
    );
    let (one, two) = tokio::join!(
        a.request(&to_b, Request::get("who")),
        b.request(&to_a, Request::get("who"))
    );
    assert_eq!(one.unwrap().payload, AGENT.as_bytes());
    assert_eq!(two.unwrap().payload, CONTROLLER.as_bytes());
    // Loopback may be quicker than glare; either way one association is left.
    assert_eq!((a.stats().sessions, b.stats().sessions), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn next_address_is_tried_when_one_stays_silent() {
    let ca = Ca::new("Test CA");
    let server = node(&ca.endpoint(CONTROLLER), ca.verifier());
    let client = node(&ca.endpoint(AGENT), ca.verifier());
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addrs: Vec<SocketAddr> = vec![silent.local_addr().unwrap(), server.local_addr().unwrap()];
    let begun = Instant::now();
    let response = client
        .request_addrs(
            addrs,
            &target(&server, Scheme::Coaps, Some(CONTROLLER)),
            Request::get("who"),
            Repeat::Freely,
        )
        .await
        .unwrap();
    assert_eq!(response.payload, AGENT.as_bytes());
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_the_limit_are_turned_away() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = Node::bind(
        NodeConfig {
            secure: None,
            plain_listen: Some("127.0.0.1:0".parse().unwrap()),
            groups: Vec::new(),
            coap: brisk(),
            max_requests: 3,
            doubt_after: Duration::from_secs(1),
        },
        |_: Incoming<'_>| None,
    )
    .unwrap();
    let to = Target {
        scheme: Scheme::Coap,
        host: "127.0.0.1".to_owned(),
        port: silent.local_addr().unwrap().port(),
        endpoint_id: None,
    };
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let (client, to) = (client.clone(), to.clone());
        waiting.push(tokio::spawn(async move {
            client.request(&to, Request::get("x")).await
        }));
    }
    for _ in 0..100 {
        if client.stats().requests_under_way == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        client.request(&to, Request::get("x")).await,
        Err(RequestFailure::Busy)
    );
    client.shutdown().await;
    for one in waiting {
        assert_eq!(one.await.unwrap(), Err(RequestFailure::Closed));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn association_of_another_endpoint_is_not_reused() {
    let ca = Ca::new("Test CA");
    let server = node(&ca.endpoint(CONTROLLER), ca.verifier());
    let client = node(&ca.endpoint(AGENT), ca.verifier());
    client
        .request(
            &target(&server, Scheme::Coaps, Some(CONTROLLER)),
            Request::get("who"),
        )
        .await
        .unwrap();
    let stranger = Target {
        host: "127.0.0.1".to_owned(),
        ..target(&server, Scheme::Coaps, Some("self::somebody.else"))
    };
    let result = client.request(&stranger, Request::get("who")).await;
    assert!(
        matches!(result, Err(RequestFailure::Untrusted { .. })),
        "{result:?}"
    );
    // The one that was open is still there.
    let response = client
        .request(
            &target(&server, Scheme::Coaps, Some(CONTROLLER)),
            Request::get("who"),
        )
        .await
        .unwrap();
    assert_eq!(response.payload, AGENT.as_bytes());
    assert_eq!(server.stats().dtls.established, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_leave_from_the_address_that_was_asked() {
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let server = Node::bind(
            NodeConfig {
                secure: None,
                plain_listen: Some(listen.parse().unwrap()),
                groups: Vec::new(),
                coap: brisk(),
                max_requests: 10,
                doubt_after: Duration::from_secs(1),
            },
            echo,
        )
        .unwrap();
        let port = server.plain_addr().unwrap().port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        // Another address of this host than the one that the route back begins with.
        for asked in ["127.0.0.2", "127.0.0.3"] {
            let asked: SocketAddr = format!("{asked}:{port}").parse().unwrap();
            client.send_to(&[0x40, 0, 0, 1], asked).unwrap();
            let mut buffer = [0; 16];
            assert_eq!(client.recv_from(&mut buffer).unwrap(), (4, asked));
        }
    }
}
