//! R-COAP.0 to R-COAP.16 between two live MTPs on loopback.

use std::time::Duration;

use homefleet_coap::{Code, Request, Scheme, content_format, link};
use homefleet_net::coap::Target;
use homefleet_net::mtp::{
    CoapMtp, Destination, Event, Interface, Mtps, MtpsStats, Route, SendError,
};
use homefleet_trust::{Basis, Refusal};
use homefleet_usp::Record;
use tokio::time::timeout;

use crate::judge::{Known, Tribunal};
use crate::support::nodes::{Inbox, Received, bind, destination, mtp_config};
use crate::support::pair::{AGENT, CONTROLLER};
use crate::support::pki::{Ca, Leaf};

const LIMIT: Duration = Duration::from_secs(20);

struct Fleet {
    ca: Ca,
    agent: CoapMtp,
    at_agent: Inbox,
    controller: CoapMtp,
    at_controller: Inbox,
}

async fn fleet() -> Fleet {
    let ca = Ca::new("Test CA");
    let (agent, at_agent) = bind(mtp_config(
        AGENT,
        Interface::Agent,
        &ca.endpoint(AGENT),
        ca.verifier(),
    ))
    .await;
    let (controller, at_controller) = bind(mtp_config(
        CONTROLLER,
        Interface::Controller,
        &ca.endpoint(CONTROLLER),
        ca.verifier(),
    ))
    .await;
    Fleet {
        ca,
        agent,
        at_agent,
        controller,
        at_controller,
    }
}

fn record(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    Record::no_session(to.parse().unwrap(), from.parse().unwrap(), payload.to_vec()).encode()
}

async fn next(receiver: &mut Inbox) -> Received {
    timeout(LIMIT, receiver.recv()).await.unwrap().unwrap()
}

fn to(mtp: &CoapMtp, id: &str) -> Destination {
    destination("coaps", mtp.local_addr(), Some(id))
}

#[tokio::test]
async fn records_travel_both_ways_over_one_association() {
    let mut f = fleet().await;
    f.agent
        .send(
            &to(&f.controller, CONTROLLER),
            record(AGENT, CONTROLLER, b"notify"),
        )
        .await
        .unwrap();
    let received = next(&mut f.at_controller).await;
    assert_eq!(received.record.message(), Some(&b"notify"[..]));
    assert_eq!(received.record.from_id().as_str(), AGENT);
    assert!(received.identity.unwrap().is_endpoint(AGENT));
    // The way back is the agent's own socket and path (R-COAP.2, R-COAP.2a).
    assert_eq!(
        received.reply_to.uri.to_string(),
        format!("coaps://127.0.0.1:{}/usp", f.agent.local_addr().port())
    );
    assert_eq!(
        received.reply_to.endpoint_id.as_ref().unwrap().as_str(),
        AGENT
    );

    f.controller
        .send(&received.reply_to, record(CONTROLLER, AGENT, b"response"))
        .await
        .unwrap();
    let received = next(&mut f.at_agent).await;
    assert_eq!(received.record.message(), Some(&b"response"[..]));

    let stats = f.controller.stats();
    assert_eq!(stats.records_in, 1);
    assert_eq!(stats.records_out, 1);
    assert_eq!(
        stats.node.dtls.handshakes_out, 0,
        "the agent's association served"
    );
    assert_eq!(stats.node.sessions_reused, 1);
    assert_eq!(stats.node.sessions, 1);
}

#[tokio::test]
async fn open_association_serves_an_endpoint_whose_host_means_nothing_here() {
    let mut f = fleet().await;
    f.agent
        .send(
            &to(&f.controller, CONTROLLER),
            record(AGENT, CONTROLLER, b"notify"),
        )
        .await
        .unwrap();
    let mut reply_to = next(&mut f.at_controller).await.reply_to;
    reply_to.uri.host = "gateway.invalid".to_owned();
    f.controller
        .send(&reply_to, record(CONTROLLER, AGENT, b"response"))
        .await
        .unwrap();
    let received = next(&mut f.at_agent).await;
    assert_eq!(received.record.message(), Some(&b"response"[..]));
    assert_eq!(f.controller.stats().node.sessions_reused, 1);

    reply_to.endpoint_id = Some("os::00D09E-0002".parse().unwrap());
    assert_eq!(
        f.controller
            .send(&reply_to, record(CONTROLLER, AGENT, b"elsewhere"))
            .await,
        Err(SendError::Unresolvable)
    );
}

#[tokio::test]
async fn open_association_serves_an_endpoint_whose_address_is_now_another_ones() {
    const OTHER: &str = "os::00D09E-0002";
    let mut f = fleet().await;
    let (other, _at_other) = bind(mtp_config(
        OTHER,
        Interface::Agent,
        &f.ca.endpoint(OTHER),
        f.ca.verifier(),
    ))
    .await;
    for (mtp, id) in [(&f.agent, AGENT), (&other, OTHER)] {
        mtp.send(
            &to(&f.controller, CONTROLLER),
            record(id, CONTROLLER, b"notify"),
        )
        .await
        .unwrap();
    }
    f.controller
        .send(&to(&other, AGENT), record(CONTROLLER, AGENT, b"response"))
        .await
        .unwrap();
    let received = next(&mut f.at_agent).await;
    assert_eq!(received.record.message(), Some(&b"response"[..]));
    let stats = f.controller.stats().node;
    assert_eq!((stats.sessions_reused, stats.dtls.handshakes_out), (1, 0));
}

#[tokio::test]
async fn large_records_go_block_wise_both_ways() {
    let mut f = fleet().await;
    let body: Vec<u8> = (0..20_000_u32).map(|n| (n % 253) as u8).collect();
    f.agent
        .send(
            &to(&f.controller, CONTROLLER),
            record(AGENT, CONTROLLER, &body),
        )
        .await
        .unwrap();
    let received = next(&mut f.at_controller).await;
    assert_eq!(received.record.message(), Some(&body[..]));
    f.controller
        .send(&received.reply_to, record(CONTROLLER, AGENT, &body))
        .await
        .unwrap();
    assert_eq!(
        next(&mut f.at_agent).await.record.message(),
        Some(&body[..])
    );
}

#[tokio::test]
async fn many_records_at_once_all_arrive_in_order() {
    let mut f = fleet().await;
    let destination = to(&f.controller, CONTROLLER);
    let mut sends = Vec::new();
    for n in 0..100_u8 {
        let (agent, destination) = (f.agent.clone(), destination.clone());
        sends.push(tokio::spawn(async move {
            agent
                .send(&destination, record(AGENT, CONTROLLER, &[n]))
                .await
        }));
    }
    let mut seen = Vec::new();
    for _ in 0..100 {
        seen.push(next(&mut f.at_controller).await.record.message().unwrap()[0]);
    }
    for send in sends {
        send.await.unwrap().unwrap();
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<u8>>());
    assert_eq!(f.controller.stats().node.dtls.handshakes_in, 1);
}

#[tokio::test]
async fn record_of_another_from_id_is_forbidden_and_not_delivered() {
    let mut f = fleet().await;
    let result = f
        .agent
        .send(
            &to(&f.controller, CONTROLLER),
            record("os::00D09E-0002", CONTROLLER, b"liar"),
        )
        .await;
    assert!(
        matches!(
            &result,
            Err(SendError::Refused {
                code: Code::FORBIDDEN,
                ..
            })
        ),
        "{result:?}"
    );
    let stats = f.controller.stats();
    assert_eq!((stats.identity_mismatch, stats.records_in), (1, 0));
    f.agent
        .send(
            &to(&f.controller, CONTROLLER),
            record(AGENT, CONTROLLER, b"honest"),
        )
        .await
        .unwrap();
    assert_eq!(
        next(&mut f.at_controller).await.record.message(),
        Some(&b"honest"[..])
    );
}

#[tokio::test]
async fn untrusted_controller_gets_no_record() {
    let f = fleet().await;
    let other = Ca::new("Other CA");
    let (impostor, mut at_impostor) = bind(mtp_config(
        CONTROLLER,
        Interface::Controller,
        &other.endpoint(CONTROLLER),
        f.ca.verifier(),
    ))
    .await;
    let result = f
        .agent
        .send(
            &to(&impostor, CONTROLLER),
            record(AGENT, CONTROLLER, b"secret"),
        )
        .await;
    assert_eq!(result, Err(SendError::Untrusted(Refusal::UnknownIssuer)));
    assert!(at_impostor.try_recv().is_err());
    assert_eq!(impostor.stats().node.coap.datagrams_in, 0);
}

#[tokio::test]
async fn controller_with_another_endpoint_id_and_name_gets_no_record() {
    let f = fleet().await;
    let mut leaf = Leaf::endpoint("self::somebody.else");
    leaf.dns = vec!["elsewhere.example.com".to_owned()];
    let (other, mut at_other) = bind(mtp_config(
        "self::somebody.else",
        Interface::Controller,
        &f.ca.issue(&leaf),
        f.ca.verifier(),
    ))
    .await;
    let result = f
        .agent
        .send(
            &to(&other, CONTROLLER),
            record(AGENT, CONTROLLER, b"secret"),
        )
        .await;
    assert_eq!(result, Err(SendError::Untrusted(Refusal::NameMismatch)));
    assert!(at_other.try_recv().is_err());
}

#[tokio::test]
async fn untrusted_agent_is_refused_and_learns_it() {
    let mut f = fleet().await;
    let other = Ca::new("Other CA");
    let (impostor, _at_impostor) = bind(mtp_config(
        AGENT,
        Interface::Agent,
        &other.endpoint(AGENT),
        f.ca.verifier(),
    ))
    .await;
    let result = impostor
        .send(
            &to(&f.controller, CONTROLLER),
            record(AGENT, CONTROLLER, b"liar"),
        )
        .await;
    assert!(
        matches!(&result, Err(SendError::Handshake(text)) if text.contains("alert 48")),
        "{result:?}"
    );
    assert!(f.at_controller.try_recv().is_err());
    assert_eq!(f.controller.stats().node.dtls.refused, 1);
}

#[tokio::test]
async fn unprotected_destination_is_refused_where_it_is_not_enabled() {
    let f = fleet().await;
    let result = f
        .agent
        .send(
            &destination("coap", f.controller.local_addr(), Some(CONTROLLER)),
            record(AGENT, CONTROLLER, b"secret"),
        )
        .await;
    assert_eq!(result, Err(SendError::WeakerChannel));
    assert_eq!(f.controller.stats().node.secure.received, 0);
}

#[tokio::test]
async fn unprotected_records_travel_where_both_enable_them() {
    let ca = Ca::new("Test CA");
    let plain = |id, interface| {
        let mut config = mtp_config(id, interface, &ca.endpoint(id), ca.verifier());
        config.plain_listen = Some("127.0.0.1:0".parse().unwrap());
        config
    };
    let (agent, mut at_agent) = bind(plain(AGENT, Interface::Agent)).await;
    let (controller, mut at_controller) = bind(plain(CONTROLLER, Interface::Controller)).await;
    let to = destination("coap", controller.plain_addr().unwrap(), Some(CONTROLLER));
    agent
        .send(&to, record(AGENT, CONTROLLER, b"in the clear"))
        .await
        .unwrap();
    let received = next(&mut at_controller).await;
    assert!(received.identity.is_none());
    assert_eq!(received.reply_to.uri.scheme, Scheme::Coap);
    assert_eq!(
        received.reply_to.uri.port,
        agent.plain_addr().unwrap().port()
    );
    controller
        .send(&received.reply_to, record(CONTROLLER, AGENT, b"back"))
        .await
        .unwrap();
    assert_eq!(
        next(&mut at_agent).await.record.message(),
        Some(&b"back"[..])
    );
}

fn target(mtp: &CoapMtp) -> Target {
    Target {
        scheme: Scheme::Coaps,
        host: "localhost".to_owned(),
        port: mtp.local_addr().port(),
        endpoint_id: None,
    }
}

#[tokio::test]
async fn wrong_requests_get_the_code_the_binding_names() {
    let mut f = fleet().await;
    let good = || {
        Request::post("usp")
            .query("reply-to=coaps://127.0.0.1:9/usp")
            .content_format(42)
            .payload(record(AGENT, CONTROLLER, b"x"))
    };
    let mut get = good();
    get.code = Code::GET;
    let cases = [
        ("method", get, Code::METHOD_NOT_ALLOWED),
        (
            "format",
            good().content_format(50),
            Code::UNSUPPORTED_CONTENT_FORMAT,
        ),
        (
            "record",
            good().payload(b"\xff\xff\xff".to_vec()),
            Code::BAD_REQUEST,
        ),
        (
            "no reply-to",
            Request::post("usp")
                .content_format(42)
                .payload(record(AGENT, CONTROLLER, b"x")),
            Code::BAD_REQUEST,
        ),
        (
            "reply-to with a query",
            Request::post("usp")
                .query("reply-to=coaps://127.0.0.1:9/usp?a=b")
                .content_format(42)
                .payload(record(AGENT, CONTROLLER, b"x")),
            Code::BAD_REQUEST,
        ),
        (
            "weaker reply-to",
            Request::post("usp")
                .query("reply-to=coap://127.0.0.1:9/usp")
                .content_format(42)
                .payload(record(AGENT, CONTROLLER, b"x")),
            Code::BAD_REQUEST,
        ),
        ("path", Request::post("elsewhere"), Code::NOT_FOUND),
    ];
    for (what, request, code) in cases {
        let response = f
            .agent
            .node()
            .request(&target(&f.controller), request)
            .await
            .unwrap();
        assert_eq!(response.code, code, "{what}");
    }
    assert!(f.at_controller.try_recv().is_err());
    let stats = f.controller.stats();
    assert_eq!((stats.rejected, stats.not_found), (6, 1));
    let response = f
        .agent
        .node()
        .request(&target(&f.controller), good())
        .await
        .unwrap();
    assert_eq!(response.code, Code::CHANGED);
    next(&mut f.at_controller).await;
}

#[tokio::test]
async fn what_is_no_record_is_told_with_its_way_back_unless_it_is_in_the_name_of_another() {
    let mut f = fleet().await;
    let newer = |from: &str| {
        let (to, from) = (CONTROLLER.parse().unwrap(), from.parse().unwrap());
        let mut record = Record::no_session(to, from, b"x".to_vec());
        record.version = "2.0".to_owned();
        Request::post("usp")
            .query("reply-to=coaps://127.0.0.1:9/usp")
            .content_format(42)
            .payload(record.encode())
    };
    for from in ["os::00D09E-0666", AGENT] {
        let response = f
            .agent
            .node()
            .request(&target(&f.controller), newer(from))
            .await
            .unwrap();
        // R-COAP.13.
        assert_eq!(response.code, Code::BAD_REQUEST, "{from}");
    }
    // R-MTP.5 is decided about by the receiver of the events.
    let Event::Erroneous { error, origin } = f.at_controller.0.try_recv().unwrap() else {
        panic!("no erroneous Record");
    };
    assert_eq!(error.from_id().unwrap().as_str(), AGENT);
    assert!(origin.identity.unwrap().is_endpoint(AGENT));
    assert_eq!(
        origin.reply_to.unwrap().to_string(),
        "coaps://127.0.0.1:9/usp"
    );
    assert!(f.at_controller.try_recv().is_err());
    let stats = f.controller.stats();
    assert_eq!((stats.rejected, stats.identity_mismatch), (2, 1));
}

#[tokio::test]
async fn trusted_broker_vouches_for_those_it_lets_send() {
    let ca = Ca::new("Test CA");
    let tribunal = Tribunal::new(&ca, Known::Good);
    tribunal.set_basis(Basis::TrustedBroker);
    let issued = ca.endpoint(CONTROLLER);
    let config = mtp_config(CONTROLLER, Interface::Controller, &issued, tribunal);
    let (controller, mut inbox) = bind(config).await;
    let config = mtp_config(AGENT, Interface::Agent, &ca.endpoint(AGENT), ca.verifier());
    let (broker, _) = bind(config).await;
    let other = "os::00D09E-0666";
    broker
        .send(
            &to(&controller, CONTROLLER),
            record(other, CONTROLLER, b"passed on"),
        )
        .await
        .unwrap();
    let received = next(&mut inbox).await;
    assert_eq!(received.record.from_id().as_str(), other);
    assert_eq!(controller.stats().identity_mismatch, 0);
}

#[tokio::test]
async fn all_mtps_as_one_send_by_route_and_refuse_what_is_not_there() {
    let mut f = fleet().await;
    let mut mtps = Mtps::default();
    let (id, route) = (
        CONTROLLER.parse().unwrap(),
        Route::Coap(to(&f.controller, CONTROLLER).uri),
    );
    let sent = || record(AGENT, CONTROLLER, b"x");
    for route in [&route, &Route::Uds, &Route::WebSocket { secure: true }] {
        assert_eq!(
            mtps.send(route, &id, sent()).await,
            Err(SendError::NoMtp),
            "{route}"
        );
    }
    assert_eq!(mtps.stats(), MtpsStats::default());
    mtps.coap = Some(f.agent.clone());
    mtps.send(&route, &id, sent()).await.unwrap();
    next(&mut f.at_controller).await;
    mtps.send_once(&route, &id, sent()).await.unwrap();
    next(&mut f.at_controller).await;
    assert_eq!(mtps.stats().coap.unwrap().records_out, 2);
    mtps.shutdown().await;
    assert_eq!(mtps.send(&route, &id, sent()).await, Err(SendError::Closed));
}

#[tokio::test]
async fn resource_is_discovered_with_its_type_and_interface() {
    let f = fleet().await;
    for (from, at, interface) in [
        (&f.agent, &f.controller, "bbf.usp.c"),
        (&f.controller, &f.agent, "bbf.usp.a"),
    ] {
        let response = from
            .node()
            .request(
                &target(at),
                Request::get(".well-known/core").query("rt=bbf.usp.endpoint"),
            )
            .await
            .unwrap();
        assert_eq!(response.code, Code::CONTENT);
        assert_eq!(
            response.options.content_format(),
            Some(content_format::LINK_FORMAT)
        );
        let links = link::parse(std::str::from_utf8(&response.payload).unwrap()).unwrap();
        assert_eq!(links.len(), 1);
        assert_eq!(links[0].target, "/usp");
        assert_eq!(links[0].value("rt"), Some("bbf.usp.endpoint"));
        assert_eq!(links[0].value("if"), Some(interface));
        let response = from
            .node()
            .request(
                &target(at),
                Request::get(".well-known/core").query("rt=other"),
            )
            .await
            .unwrap();
        assert!(response.payload.is_empty());
    }
}

#[tokio::test]
async fn full_queue_answers_5_03_and_loses_nothing_it_took() {
    let mut f = fleet().await;
    let destination = to(&f.controller, CONTROLLER);
    let mut refused = None;
    let mut taken = 0;
    for n in 0..5000_u32 {
        match f
            .agent
            .send(&destination, record(AGENT, CONTROLLER, &n.to_be_bytes()))
            .await
        {
            Ok(()) => taken += 1,
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    assert!(
        matches!(
            refused,
            Some(SendError::Refused {
                code: Code::SERVICE_UNAVAILABLE,
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(f.controller.stats().queue_full, 1);
    for n in 0..taken {
        assert_eq!(
            next(&mut f.at_controller).await.record.message(),
            Some(&u32::to_be_bytes(n)[..])
        );
    }
    f.agent
        .send(&destination, record(AGENT, CONTROLLER, b"room again"))
        .await
        .unwrap();
}

#[tokio::test]
async fn nobody_there_is_a_failure_in_time() {
    let f = fleet().await;
    let mut config = mtp_config(
        AGENT,
        Interface::Agent,
        &f.ca.endpoint(AGENT),
        f.ca.verifier(),
    );
    config.dtls.handshake_timeout = Duration::from_secs(2);
    let (hasty, _inbox) = bind(config).await;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let result = hasty
        .send(
            &destination("coaps", silent.local_addr().unwrap(), Some(CONTROLLER)),
            record(AGENT, CONTROLLER, b"x"),
        )
        .await;
    assert!(
        matches!(&result, Err(SendError::Handshake(text)) if text.contains("did not answer in time")),
        "{result:?}"
    );
    let result = hasty
        .send(
            &Destination {
                uri: "coaps://no-such-host.invalid/usp".parse().unwrap(),
                endpoint_id: None,
            },
            record(AGENT, CONTROLLER, b"x"),
        )
        .await;
    assert_eq!(result, Err(SendError::Unresolvable));
}

#[tokio::test]
async fn unanswered_record_is_a_timeout() {
    // Over coap, where nothing but CoAP itself can notice.
    let ca = Ca::new("Test CA");
    let mut config = mtp_config(AGENT, Interface::Agent, &ca.endpoint(AGENT), ca.verifier());
    config.plain_listen = Some("127.0.0.1:0".parse().unwrap());
    config.coap.ack_timeout = Duration::from_millis(100);
    config.coap.max_retransmit = 2;
    let (agent, _inbox) = bind(config).await;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let result = agent
        .send(
            &destination("coap", silent.local_addr().unwrap(), None),
            record(AGENT, CONTROLLER, b"x"),
        )
        .await;
    assert_eq!(result, Err(SendError::Timeout));
    assert_eq!(agent.stats().records_failed, 1);
}

#[tokio::test]
async fn shutdown_says_close_notify_and_fails_what_is_under_way() {
    let mut f = fleet().await;
    let destination = to(&f.controller, CONTROLLER);
    f.agent
        .send(&destination, record(AGENT, CONTROLLER, b"one"))
        .await
        .unwrap();
    next(&mut f.at_controller).await;
    f.controller.shutdown().await;
    for _ in 0..200 {
        if f.agent.stats().node.dtls.closed_by_peer == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(f.agent.stats().node.dtls.closed_by_peer, 1);
    assert_eq!(f.agent.stats().node.sessions, 0);
    assert!(f.at_controller.recv().await.is_none());
    assert_eq!(
        f.controller
            .send(&to(&f.agent, AGENT), record(CONTROLLER, AGENT, b"late"))
            .await,
        Err(SendError::Closed)
    );
}

#[test]
fn peer_that_died_and_came_back_is_reached_over_a_new_association() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let ca = Ca::new("Test CA");
    let issued = ca.endpoint(CONTROLLER);
    let controller = |listen: &str| {
        let mut config = mtp_config(CONTROLLER, Interface::Controller, &issued, ca.verifier());
        config.listen = listen.parse().unwrap();
        config
    };
    let ours = runtime();
    let theirs = runtime();
    let (first, first_inbox) = theirs.block_on(bind(controller("127.0.0.1:0")));
    let addr = first.local_addr();
    let (agent, _inbox) = ours.block_on(bind(mtp_config(
        AGENT,
        Interface::Agent,
        &ca.endpoint(AGENT),
        ca.verifier(),
    )));
    let to = destination("coaps", addr, Some(CONTROLLER));
    ours.block_on(agent.send(&to, record(AGENT, CONTROLLER, b"one")))
        .unwrap();
    // It dies without a word, and comes back on the same port with an empty memory.
    theirs.shutdown_timeout(Duration::from_secs(5));
    drop((first, first_inbox));
    let theirs = runtime();
    let (_second, mut inbox) = theirs.block_on(bind(controller(&addr.to_string())));
    ours.block_on(async {
        timeout(LIMIT, agent.send(&to, record(AGENT, CONTROLLER, b"two")))
            .await
            .unwrap()
    })
    .unwrap();
    let received = theirs.block_on(next(&mut inbox));
    assert_eq!(received.record.message(), Some(&b"two"[..]));
    assert_eq!(agent.stats().node.doubted, 1);
}

#[test]
fn record_that_goes_once_is_not_sent_over_another_association() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let ca = Ca::new("Test CA");
    let issued = ca.endpoint(CONTROLLER);
    let controller = |listen: &str| {
        let mut config = mtp_config(CONTROLLER, Interface::Controller, &issued, ca.verifier());
        config.listen = listen.parse().unwrap();
        config
    };
    let mut config = mtp_config(AGENT, Interface::Agent, &ca.endpoint(AGENT), ca.verifier());
    // Longer than the silence after which `send` tries another association.
    config.coap.ack_timeout = Duration::from_millis(500);
    config.coap.max_retransmit = 3;
    let ours = runtime();
    let theirs = runtime();
    let (first, first_inbox) = theirs.block_on(bind(controller("127.0.0.1:0")));
    let addr = first.local_addr();
    let (agent, _inbox) = ours.block_on(bind(config));
    let to = destination("coaps", addr, Some(CONTROLLER));
    ours.block_on(agent.send_once(&to, record(AGENT, CONTROLLER, b"one")))
        .unwrap();
    theirs.shutdown_timeout(Duration::from_secs(5));
    drop((first, first_inbox));
    let theirs = runtime();
    let (_second, mut inbox) = theirs.block_on(bind(controller(&addr.to_string())));
    let result = ours.block_on(async {
        timeout(
            LIMIT,
            agent.send_once(&to, record(AGENT, CONTROLLER, b"once only")),
        )
        .await
        .unwrap()
    });
    assert_eq!(result, Err(SendError::Timeout));
    assert_eq!(agent.stats().node.doubted, 0);
    // The silent association is given up: what comes next has a new one, and is all that arrives.
    ours.block_on(agent.send_once(&to, record(AGENT, CONTROLLER, b"two")))
        .unwrap();
    let received = theirs.block_on(next(&mut inbox));
    assert_eq!(received.record.message(), Some(&b"two"[..]));
    assert!(inbox.try_recv().is_err());
}
