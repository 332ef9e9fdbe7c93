//! RFC 9482 clause by clause at our server: what is refused, and with what.

use std::sync::Arc;
use std::time::Duration;

use homefleet_cmp::asn1::{Failure, StatusInfo};
use homefleet_cmp::authority::RequestKind;
use homefleet_coap::{Code, Request, Response, Scheme, content_format, link, number};
use homefleet_net::cmp::{Answer, BoxFuture, CoapConfig, CoapListener, Operation, Service, Status};
use homefleet_net::coap::{Incoming, Node, NodeConfig, Target};
use homefleet_net::dtls::Budget;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use super::world::{Scripted, TestCa, always, bind, crl, echo, message, plain};
use crate::cmp_world::{by_secret, certificate_request, moment, nobody};
use crate::support::nodes::{LOOPBACK, brisk};

const CMP: &str = ".well-known/cmp";

/// A CoAP client that sends whatever it is told.
pub(super) struct Asker {
    node: Node,
    target: Target,
}

impl Asker {
    pub(super) fn new(listener: &CoapListener) -> Self {
        let config = NodeConfig {
            secure: None,
            plain_listen: Some(LOOPBACK.parse().unwrap()),
            groups: Vec::new(),
            coap: homefleet_coap::Config {
                nstart: 8,
                ..brisk()
            },
            max_requests: 100,
            doubt_after: Duration::from_secs(60),
        };
        let addr = listener.plain_addr().unwrap();
        Self {
            node: Node::bind(config, |_: Incoming<'_>| None).unwrap(),
            target: Target {
                scheme: Scheme::Coap,
                host: addr.ip().to_string(),
                port: addr.port(),
                endpoint_id: None,
            },
        }
    }

    pub(super) async fn ask(&self, request: Request) -> Response {
        self.node.request(&self.target, request).await.unwrap()
    }
}

fn post(path: &str) -> Request {
    Request::post(path)
        .content_format(content_format::PKIXCMP)
        .payload(message(100))
}

fn listen(config: CoapConfig, service: Arc<dyn Service>) -> (CoapListener, Asker) {
    let listener = bind(config, service);
    let asker = Asker::new(&listener);
    (listener, asker)
}

#[tokio::test]
async fn a_message_by_post_is_answered_with_2_04_in_its_format() {
    let (listener, asker) = listen(plain(), echo());
    let response = asker.ask(post(CMP)).await;
    assert_eq!(response.code, Code::CHANGED);
    assert_eq!(response.options.content_format(), Some(259));
    assert_eq!(response.payload, message(100));
    assert_eq!(listener.stats().messages, 1);
}

#[tokio::test]
async fn every_path_of_rfc_9482_is_served_and_no_other() {
    let ask_path = |path: String| {
        let seen: Arc<std::sync::Mutex<Option<homefleet_net::cmp::Target>>> = Arc::default();
        let noted = seen.clone();
        let service = Scripted(
            move |request: homefleet_net::cmp::Request| -> BoxFuture<'static, Answer> {
                *noted.lock().unwrap() = Some(request.target);
                Box::pin(async move { Answer::message(request.message) })
            },
        );
        async move {
            let (_listener, asker) = listen(plain(), Arc::new(service));
            let code = asker.ask(post(&path)).await.code;
            (code, seen.lock().unwrap().clone())
        }
    };
    for operation in [
        None,
        Some(Operation::Initialization),
        Some(Operation::Nested),
    ] {
        for label in [None, Some("home")] {
            for over_coap in [true, false] {
                let target = homefleet_net::cmp::Target {
                    label: label.map(str::to_owned),
                    operation,
                };
                let path = target.segments(over_coap).join("/");
                let (code, seen) = ask_path(path.clone()).await;
                assert_eq!((code, seen), (Code::CHANGED, Some(target)), "{path}");
            }
        }
    }
    for path in [
        "",
        "cmp",
        ".well-known/cmp/p",
        ".well-known/cmp/x",
        ".well-known",
    ] {
        let (code, seen) = ask_path(path.to_owned()).await;
        assert_eq!((code, seen), (Code::NOT_FOUND, None), "{path}");
    }
}

#[tokio::test]
async fn a_label_that_the_service_does_not_have_is_4_04() {
    let (_listener, asker) = listen(plain(), TestCa::new());
    let response = asker.ask(post(".well-known/cmp/p/other")).await;
    assert_eq!(response.code, Code::NOT_FOUND);
}

#[tokio::test]
async fn segments_that_are_no_text_make_no_other_path() {
    let (listener, _asker) = listen(plain(), echo());
    let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
    socket
        .connect(listener.plain_addr().unwrap())
        .await
        .unwrap();
    // CON POST, a Uri-Path with a third segment that is no UTF-8, Content-Format 259, a payload.
    let ask = async |third: &[u8]| {
        let mut datagram = vec![0x40, 2, 0x12, 0x34 ^ third[0], 0xbb];
        datagram.extend(b".well-known");
        datagram.extend(b"\x03cmp");
        datagram.push(u8::try_from(third.len()).unwrap());
        datagram.extend(third);
        datagram.extend(b"\x12\x01\x03\xffmessage");
        socket.send(&datagram).await.unwrap();
        let mut answer = [0; 64];
        let len = socket.recv(&mut answer).await.unwrap();
        assert!(len >= 4);
        Code::from_byte(answer[1])
    };
    assert_eq!(ask(b"ir").await, Code::CHANGED);
    assert_eq!(ask(b"\xff\xff").await, Code::BAD_OPTION);
}

#[tokio::test]
async fn a_query_is_4_04() {
    let (_listener, asker) = listen(plain(), echo());
    assert_eq!(
        asker.ask(post(CMP).query("a=b")).await.code,
        Code::NOT_FOUND
    );
}

#[tokio::test]
async fn other_methods_than_post_are_4_05() {
    let (listener, asker) = listen(plain(), echo());
    for code in [Code::GET, Code::PUT, Code::DELETE, Code::FETCH] {
        let mut request = post(CMP);
        request.code = code;
        assert_eq!(asker.ask(request).await.code, Code::METHOD_NOT_ALLOWED);
    }
    assert_eq!(listener.stats().messages, 0);
    assert_eq!(listener.stats().rejected, 4);
}

#[tokio::test]
async fn a_request_that_is_not_confirmable_is_4_00() {
    let (listener, asker) = listen(plain(), echo());
    let response = asker.ask(post(CMP).non_confirmable()).await;
    assert_eq!(response.code, Code::BAD_REQUEST);
    assert_eq!(response.options.content_format(), None);
    assert_eq!(listener.stats().messages, 0);
}

#[tokio::test]
async fn another_content_format_or_none_is_4_15() {
    let (listener, asker) = listen(plain(), echo());
    for format in [None, Some(42), Some(0), Some(60)] {
        let mut request = Request::post(CMP).payload(message(10));
        if let Some(format) = format {
            request = request.content_format(format);
        }
        let response = asker.ask(request).await;
        assert_eq!(
            response.code,
            Code::UNSUPPORTED_CONTENT_FORMAT,
            "{format:?}"
        );
    }
    assert_eq!(listener.stats().messages, 0);
}

#[tokio::test]
async fn octet_stream_is_taken_from_old_clients_where_that_is_switched_on() {
    let config = CoapConfig {
        accept_octet_stream: true,
        ..plain()
    };
    let (_listener, asker) = listen(config, echo());
    for format in [42, 259] {
        let request = Request::post(CMP)
            .content_format(format)
            .payload(message(10));
        let response = asker.ask(request).await;
        assert_eq!(response.code, Code::CHANGED);
        assert_eq!(response.options.content_format(), Some(format));
    }
    let request = Request::post(CMP).content_format(0).payload(message(10));
    let response = asker.ask(request).await;
    assert_eq!(response.code, Code::UNSUPPORTED_CONTENT_FORMAT);
}

#[tokio::test]
async fn an_answer_in_another_format_is_4_06() {
    let (_listener, asker) = listen(plain(), echo());
    assert_eq!(asker.ask(post(CMP).accept(259)).await.code, Code::CHANGED);
    assert_eq!(
        asker.ask(post(CMP).accept(42)).await.code,
        Code::NOT_ACCEPTABLE
    );
}

#[tokio::test]
async fn an_empty_message_is_4_00() {
    let (_listener, asker) = listen(plain(), echo());
    let request = post(CMP).payload(Vec::new());
    assert_eq!(asker.ask(request).await.code, Code::BAD_REQUEST);
}

#[tokio::test]
async fn what_is_too_large_is_4_13_with_the_limit() {
    let config = CoapConfig {
        max_message: 3000,
        ..plain()
    };
    let (listener, asker) = listen(config, echo());
    let fits = asker.ask(post(CMP).payload(message(3000))).await;
    assert_eq!((fits.code, fits.payload.len()), (Code::CHANGED, 3000));
    let response = asker.ask(post(CMP).payload(message(3001))).await;
    assert_eq!(response.code, Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(response.options.size1(), Some(3000));
    assert_eq!(listener.stats().messages, 1);
}

#[tokio::test]
async fn large_messages_travel_in_blocks_of_1024_bytes_both_ways() {
    let (listener, asker) = listen(plain(), echo());
    let response = asker.ask(post(CMP).payload(message(20_000))).await;
    assert_eq!(response.payload, message(20_000));
    // 20 blocks each way, each with its acknowledgement: were they smaller, there would be more.
    assert_eq!(listener.stats().node.plain.received, 20 + 19);
    assert_eq!(listener.stats().messages, 1);
}

#[tokio::test]
async fn a_quick_answer_comes_with_the_acknowledgement() {
    let (listener, asker) = listen(plain(), echo());
    asker.ask(post(CMP)).await;
    let stats = listener.stats().node.plain;
    assert_eq!((stats.received, stats.sent), (1, 1));
}

#[tokio::test]
async fn an_answer_that_takes_time_comes_separately() {
    let go = Arc::new(Notify::new());
    let wait = go.clone();
    let service = Scripted(
        move |request: homefleet_net::cmp::Request| -> BoxFuture<'static, Answer> {
            let wait = wait.clone();
            Box::pin(async move {
                wait.notified().await;
                Answer::message(request.message)
            })
        },
    );
    let (listener, asker) = listen(plain(), Arc::new(service));
    let asked = asker.ask(post(CMP));
    let acknowledged = async {
        // The Empty acknowledgement leaves before there is an answer.
        while listener.stats().node.plain.sent == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        go.notify_one();
    };
    let (response, ()) = tokio::join!(asked, acknowledged);
    assert_eq!(response.code, Code::CHANGED);
    assert_eq!(listener.stats().messages, 1);
    assert!(listener.stats().node.plain.sent >= 2);
}

#[tokio::test]
async fn an_error_message_comes_with_the_code_of_its_failure() {
    let (_listener, asker) = listen(plain(), TestCa::new());
    // Not a PKIMessage: the CA says so in one.
    let response = asker.ask(post(CMP)).await;
    assert_eq!(response.code, Code::BAD_REQUEST);
    assert_eq!(response.options.content_format(), Some(259));
    assert!(!response.payload.is_empty());

    for (status, code) in [
        (Status::Unauthorized, Code::UNAUTHORIZED),
        (Status::Forbidden, Code::FORBIDDEN),
        (Status::Conflict, Code::CONFLICT),
        (Status::Failure, Code::INTERNAL_SERVER_ERROR),
        (Status::Unavailable, Code::SERVICE_UNAVAILABLE),
    ] {
        let answer = Answer::Message {
            bytes: b"error".to_vec(),
            status,
        };
        let (_listener, asker) = listen(plain(), always(answer));
        let response = asker.ask(post(CMP)).await;
        assert_eq!(
            (response.code, response.payload.as_slice()),
            (code, &b"error"[..])
        );
    }
}

#[tokio::test]
async fn a_certificate_that_is_denied_is_a_success_of_the_transfer() {
    use homefleet_cmp::authority::{Authority, Decision, Event, ExchangeId};
    use homefleet_cmp::client;

    let config = client::ClientConfig::new(by_secret(), nobody());
    let request = certificate_request(RequestKind::Initialization);
    let mut client = client::Client::start(config, request, moment(), [7; 32]).unwrap();
    let ir = client.poll_transmit().unwrap();
    let mut authority = Authority::new(crate::cmp_world::authority_config(), [3; 32]);
    authority.handle_input(moment(), ExchangeId(1), &ir, &crate::openssl::Known);
    let Some(Event::Requested { transaction, .. }) = authority.poll_event() else {
        panic!("nothing was asked for");
    };
    let no = StatusInfo::rejection(Failure::BadCertTemplate, "no");
    authority
        .decide(moment(), &transaction, Decision::Reject(no))
        .unwrap();
    let (_, ip) = authority.poll_transmit().unwrap();
    assert_eq!(Status::of(&ip), Status::Ok);
    let (_listener, asker) = listen(plain(), always(Answer::message(ip)));
    assert_eq!(asker.ask(post(CMP)).await.code, Code::CHANGED);
}

#[tokio::test]
async fn who_has_too_much_to_do_says_when_to_come_back() {
    for (answer, code, seconds) in [
        (
            Answer::Busy {
                retry_after: Duration::from_millis(7500),
            },
            Code::SERVICE_UNAVAILABLE,
            8,
        ),
        (
            Answer::TooMany {
                retry_after: Duration::ZERO,
            },
            Code::TOO_MANY_REQUESTS,
            1,
        ),
    ] {
        let (_listener, asker) = listen(plain(), always(answer));
        let response = asker.ask(post(CMP)).await;
        assert_eq!(
            (response.code, response.options.max_age()),
            (code, Some(seconds))
        );
    }
}

/// A service that never answers.
fn silent() -> Arc<dyn Service> {
    Arc::new(Scripted(|_| -> BoxFuture<'static, Answer> {
        Box::pin(std::future::pending())
    }))
}

#[tokio::test]
async fn one_client_has_a_bounded_number_of_requests_under_way() {
    let config = CoapConfig {
        max_under_way_per_client: 1,
        ..plain()
    };
    let (listener, asker) = listen(config, silent());
    let second = async {
        while listener.stats().messages == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        asker.ask(post(CMP)).await
    };
    tokio::select! {
        _ = asker.ask(post(CMP)) => panic!("nobody answers that"),
        response = second => {
            assert_eq!(response.code, Code::TOO_MANY_REQUESTS);
            assert_eq!(response.options.max_age(), Some(5));
        }
    }
    assert_eq!(listener.stats().over_limit, 1);
}

#[tokio::test]
async fn all_together_have_a_bounded_number_of_requests_under_way() {
    let config = CoapConfig {
        max_under_way: 1,
        ..plain()
    };
    let (listener, asker) = listen(config, silent());
    let second = async {
        while listener.stats().messages == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        asker.ask(post(CMP)).await
    };
    tokio::select! {
        _ = asker.ask(post(CMP)) => panic!("nobody answers that"),
        response = second => assert_eq!(response.code, Code::SERVICE_UNAVAILABLE),
    }
}

#[tokio::test]
async fn a_client_that_comes_too_often_is_4_29() {
    let config = CoapConfig {
        client_budget: Budget {
            burst: 2,
            per_second: 0,
        },
        ..plain()
    };
    let (listener, asker) = listen(config, echo());
    assert_eq!(asker.ask(post(CMP)).await.code, Code::CHANGED);
    assert_eq!(asker.ask(post(CMP)).await.code, Code::CHANGED);
    assert_eq!(asker.ask(post(CMP)).await.code, Code::TOO_MANY_REQUESTS);
    assert_eq!(listener.stats().messages, 2);
}

#[tokio::test]
async fn all_that_come_too_often_are_5_03() {
    let config = CoapConfig {
        budget: Budget {
            burst: 1,
            per_second: 0,
        },
        ..plain()
    };
    let (_listener, asker) = listen(config, echo());
    assert_eq!(asker.ask(post(CMP)).await.code, Code::CHANGED);
    assert_eq!(asker.ask(post(CMP)).await.code, Code::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn discovery_lists_the_targets_with_ct_259_and_filters() {
    let (_listener, asker) = listen(plain(), TestCa::new());
    let discover = async |query: &str| {
        let mut request = Request::get(".well-known/core");
        if !query.is_empty() {
            request = request.query(query);
        }
        let response = asker.ask(request).await;
        assert_eq!(response.code, Code::CONTENT);
        assert_eq!(response.options.content_format(), Some(40));
        let text = String::from_utf8(response.payload).unwrap();
        link::parse(&text).unwrap()
    };
    let all = discover("").await;
    let of = |target: &str| all.iter().find(|link| link.target == target).unwrap();
    assert_eq!(of("/.well-known/cmp").value("ct"), Some("259"));
    assert_eq!(of("/.well-known/cmp/p/home").value("ct"), Some("259"));
    assert_eq!(of("/pki/ca.cer").value("ct"), Some("287"));
    assert_eq!(of("/pki/ca.crl").value("ct"), Some("42"));
    assert_eq!(all.len(), 5);
    let cmp = discover("ct=259").await;
    assert_eq!(cmp.len(), 2);
    assert!(
        cmp.iter()
            .all(|link| link.target.starts_with("/.well-known/cmp"))
    );
    assert_eq!(discover("href=/.well-known/cmp").await.len(), 1);
    assert_eq!(discover("href=/.well-known/cmp*").await.len(), 2);
    assert_eq!(discover("ct=1").await.len(), 0);
    let post = Request::post(".well-known/core");
    assert_eq!(asker.ask(post).await.code, Code::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_list_of_the_revoked_is_read_in_blocks_and_validated_by_its_tag() {
    let (listener, asker) = listen(plain(), TestCa::new());
    let response = asker.ask(Request::get("pki/ca.crl")).await;
    assert_eq!(response.code, Code::CONTENT);
    assert_eq!(response.payload, crl());
    assert_eq!(response.options.max_age(), Some(3600));
    let tag = response.options.etag().unwrap().to_vec();
    let known = Request::get("pki/ca.crl").option(number::ETAG, &tag);
    let response = asker.ask(known).await;
    assert_eq!((response.code, response.payload.len()), (Code::VALID, 0));
    assert_eq!(response.options.etag(), Some(&tag[..]));
    let other = Request::get("pki/ca.crl").option(number::ETAG, b"other");
    assert_eq!(asker.ask(other).await.code, Code::CONTENT);
    let wrong = Request::get("pki/ca.crl").accept(0);
    assert_eq!(asker.ask(wrong).await.code, Code::NOT_ACCEPTABLE);
    assert_eq!(
        asker.ask(post("pki/ca.crl")).await.code,
        Code::METHOD_NOT_ALLOWED
    );
    assert_eq!(
        asker.ask(Request::get("pki/none")).await.code,
        Code::NOT_FOUND
    );
    // Who asks for little and gets much has to show first that it is there, so that some are asked for twice.
    assert!(listener.stats().files >= 3);
}

#[tokio::test]
async fn ocsp_is_asked_by_post_and_by_fetch() {
    let (_listener, asker) = listen(plain(), TestCa::new());
    for (method, code) in [(Code::POST, Code::CHANGED), (Code::FETCH, Code::CONTENT)] {
        let mut request = Request::post("pki/ocsp").content_format(42).payload("x");
        request.code = method;
        let response = asker.ask(request).await;
        assert_eq!(
            (response.code, response.payload.as_slice()),
            (code, &b"about x"[..])
        );
    }
    let get = Request::get("pki/ocsp");
    assert_eq!(asker.ask(get).await.code, Code::METHOD_NOT_ALLOWED);
    let wrong = Request::post("pki/ocsp").content_format(0).payload("x");
    assert_eq!(
        asker.ask(wrong).await.code,
        Code::UNSUPPORTED_CONTENT_FORMAT
    );
}

#[tokio::test]
async fn announcements_are_not_there_yet() {
    let (_listener, asker) = listen(plain(), TestCa::new());
    for path in [".well-known/cmp/ann", ".well-known/cmp/p/home/ann"] {
        let request = Request::get(path).observe();
        assert_eq!(asker.ask(request).await.code, Code::NOT_FOUND);
    }
}
