//! The reverse proxy from CoAP to HTTP (RFC 9482 §3): whom it reaches, what it lets pass, what it makes of servers that fail.

use std::sync::Arc;
use std::time::Duration;

use homefleet_cmp::asn1::BodyKind;
use homefleet_cmp::client::Outcome;
use homefleet_coap::{Code, link};
use homefleet_net::cmp::proxy::{Check, NoUpstream, Proxy, Rest, Route, Upstream};
use homefleet_net::cmp::{
    Client, ClientConfig, CoapListener, ExchangeError, ResponseCode, ServerTrust, Url,
};

use super::client::{config, http, http_echo};
use super::peers::{large_ir_of_openssl, mock};
use super::world::{bind, enroll, plain, plain_url, secure, secure_url};
use crate::cmp_world::by_key;
use crate::support::pki::Ca;
use crate::support::web::{Page, Web};

fn client() -> Client {
    Client::new(config(ServerTrust::FromCmp)).unwrap()
}

fn upstream(url: &str) -> Upstream {
    Upstream {
        name: "ca".to_owned(),
        url: url.parse().unwrap(),
        client: client(),
        kinds: None,
        check: Check::Nothing,
        max_under_way: 16,
        rest: Rest::default(),
    }
}

fn route(label: Option<&str>, host: Option<&str>, upstream: usize) -> Route {
    Route {
        label: label.map(str::to_owned),
        host: host.map(str::to_owned),
        upstream,
    }
}

/// In front of one server.
fn before(upstream: Upstream) -> (CoapListener, Arc<Proxy>) {
    let proxy = Arc::new(Proxy::new(vec![upstream], vec![route(None, None, 0)]).unwrap());
    (bind(plain(), proxy.clone()), proxy)
}

fn code(error: ExchangeError) -> (Code, Option<Duration>) {
    match error {
        ExchangeError::Refused {
            code: ResponseCode::Coap(code),
            retry_after,
            ..
        } => (code, retry_after),
        other => panic!("{other}"),
    }
}

async fn refused(listener: &CoapListener, message: &[u8]) -> (Code, Option<Duration>) {
    let answer = client().exchange(&plain_url(listener), None, message).await;
    code(answer.unwrap_err())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_device_enrols_over_coaps_at_openssl_behind_the_proxy() {
    let (_mock, port) = mock();
    let ca = Ca::new("CMP CA");
    let behind = Upstream {
        check: Check::Shape,
        ..upstream(&format!("http://127.0.0.1:{port}/pkix/"))
    };
    let proxy = Proxy::new(vec![behind], vec![route(Some("home"), None, 0)]).unwrap();
    let proxy = Arc::new(proxy);
    let listener = bind(secure(&ca, None), proxy.clone());
    for base in [plain_url(&listener), secure_url(&listener)] {
        let url = base.with_label("home").unwrap();
        let outcome = enroll(&client(), &url, by_key("device")).await.unwrap();
        assert!(matches!(outcome, Outcome::Certificate(_)), "{outcome:?}");
    }
    let stats = proxy.stats().remove(0);
    assert_eq!((stats.forwarded, stats.answered), (4, 4));
    assert_eq!((stats.failed, stats.failures_in_a_row), (0, 0));
}

#[tokio::test]
async fn only_servers_that_are_configured_are_reached_by_label_host_and_server_name() {
    let web = Web::start().await;
    for name in ["a", "b", "c"] {
        web.put(
            &format!("/{name}"),
            http("200 OK", "application/pkixcmp", name.as_bytes()),
        );
    }
    let behind = ["a", "b", "c"].map(|name| upstream(&web.url(&format!("/{name}"))));
    let routes = vec![
        route(Some("home"), None, 0),
        route(None, Some("localhost"), 1),
        route(None, Some("127.0.0.1"), 2),
    ];
    let proxy = Arc::new(Proxy::new(behind.into(), routes).unwrap());
    let ca = Ca::new("CMP CA");
    let listener = bind(secure(&ca, None), proxy);
    let ask = async |url: Url| client().exchange(&url, None, b"x").await;
    let plain = plain_url(&listener);
    let port = plain.port;
    assert_eq!(ask(plain.with_label("home").unwrap()).await.unwrap(), b"a");
    // By Uri-Host, and by the name that DTLS was opened for.
    let by_name: Url = format!("coap://localhost:{port}").parse().unwrap();
    assert_eq!(ask(by_name).await.unwrap(), b"b");
    assert_eq!(ask(secure_url(&listener)).await.unwrap(), b"b");
    for elsewhere in [plain.clone(), plain.with_label("other").unwrap()] {
        let (code, _) = code(ask(elsewhere).await.unwrap_err());
        assert_eq!(code, Code::NOT_FOUND);
    }
    let wrong = Proxy::new(Vec::new(), vec![route(None, None, 0)]);
    assert_eq!(wrong.unwrap_err(), NoUpstream(0));
}

#[tokio::test]
async fn the_operation_is_passed_on_by_its_name_over_http() {
    let web = Web::start().await;
    let path = "/.well-known/cmp/keyupdate";
    web.put(path, http("200 OK", "application/pkixcmp", b"answer"));
    let (listener, _) = before(upstream(&web.url("")));
    let operation = Some(homefleet_net::cmp::Operation::KeyUpdate);
    let url = plain_url(&listener);
    let answer = client().exchange(&url, operation, b"x").await;
    assert_eq!(answer.unwrap(), b"answer");
}

#[tokio::test]
async fn a_server_that_fails_is_told_apart_and_counted() {
    let web = Web::start().await;
    let (listener, proxy) = before(upstream(&web.url("/cmp")));
    let later = "HTTP/1.1 503 Later\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n";
    for (page, expected, retry) in [
        (
            http("500 Oh", "text/plain", b"secret"),
            Code::BAD_GATEWAY,
            None,
        ),
        (http("200 OK", "text/html", b"<p>"), Code::BAD_GATEWAY, None),
        (
            Page::Bytes(b"garbage\r\n\r\n".to_vec()),
            Code::BAD_GATEWAY,
            None,
        ),
        (Page::Bytes(Vec::new()), Code::BAD_GATEWAY, None),
        (http("404 No", "text/html", b""), Code::NOT_FOUND, None),
        (
            Page::Bytes(later.as_bytes().to_vec()),
            Code::SERVICE_UNAVAILABLE,
            Some(Duration::from_secs(9)),
        ),
    ] {
        web.put("/cmp", page);
        assert_eq!(refused(&listener, b"x").await, (expected, retry));
    }
    let stats = proxy.stats().remove(0);
    assert_eq!((stats.failed, stats.failures_in_a_row), (6, 6));
    assert_eq!(
        stats.last_failure.as_deref(),
        Some("the server answered HTTP 503")
    );
    web.put("/cmp", http("200 OK", "application/pkixcmp", b"answer"));
    let answer = client().exchange(&plain_url(&listener), None, b"x").await;
    assert_eq!(answer.unwrap(), b"answer");
    assert_eq!(proxy.stats().remove(0).failures_in_a_row, 0);
}

#[tokio::test]
async fn an_error_message_of_the_server_passes() {
    let web = Web::start().await;
    web.put("/cmp", http("400 Bad", "application/pkixcmp", b"error"));
    let (listener, _) = before(upstream(&web.url("/cmp")));
    let answer = client().exchange(&plain_url(&listener), None, b"x").await;
    assert_eq!(answer.unwrap(), b"error");
}

#[tokio::test]
async fn a_server_that_hangs_is_5_04_and_one_that_is_not_there_5_02() {
    let web = Web::start().await;
    web.put("/cmp", Page::Silence);
    let impatient = ClientConfig {
        timeout: Duration::from_millis(200),
        ..config(ServerTrust::FromCmp)
    };
    let (listener, _) = before(Upstream {
        client: Client::new(impatient).unwrap(),
        ..upstream(&web.url("/cmp"))
    });
    let (code, _) = refused(&listener, b"x").await;
    assert_eq!(code, Code::GATEWAY_TIMEOUT);
    let port = crate::support::live::free_port();
    let (listener, _) = before(upstream(&format!("http://127.0.0.1:{port}")));
    let (code, _) = refused(&listener, b"x").await;
    assert_eq!(code, Code::BAD_GATEWAY);
}

#[tokio::test]
async fn messages_under_way_to_a_server_are_bounded() {
    let web = Web::start().await;
    web.put("/cmp", Page::Silence);
    let (listener, proxy) = before(Upstream {
        max_under_way: 1,
        ..upstream(&web.url("/cmp"))
    });
    let url = plain_url(&listener);
    let first = client();
    let second = async {
        while proxy.stats().remove(0).forwarded == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        refused(&listener, b"x").await
    };
    tokio::select! {
        _ = first.exchange(&url, None, b"x") => panic!("nobody answers that"),
        (code, retry) = second => {
            assert_eq!(code, Code::SERVICE_UNAVAILABLE);
            assert_eq!(retry, Some(Duration::from_secs(30)));
        }
    }
    assert_eq!(proxy.stats().remove(0).busy, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_no_message_or_may_not_pass_is_refused_before_the_server_hears_of_it() {
    let web = Web::start().await;
    let ir = tokio::task::spawn_blocking(large_ir_of_openssl)
        .await
        .unwrap();
    web.put("/cmp", http("200 OK", "application/pkixcmp", &ir));
    let (listener, proxy) = before(Upstream {
        check: Check::Shape,
        ..upstream(&web.url("/cmp"))
    });
    assert_eq!(refused(&listener, b"x").await.0, Code::BAD_REQUEST);
    let answer = client().exchange(&plain_url(&listener), None, &ir).await;
    assert_eq!(answer.unwrap(), ir);
    assert_eq!(proxy.stats().remove(0).refused, 1);

    let (listener, _) = before(Upstream {
        kinds: Some(vec![BodyKind::Kur, BodyKind::CertConf]),
        ..upstream(&web.url("/cmp"))
    });
    assert_eq!(refused(&listener, &ir).await.0, Code::FORBIDDEN);
    assert_eq!(web.asked().len(), 1);
}

#[tokio::test]
async fn a_message_is_chunked_where_that_is_configured_in_one_chunk() {
    let (port, _) = http_echo(None, 10).await;
    let url: Url = format!("http://127.0.0.1:{port}").parse().unwrap();
    let chunked = ClientConfig {
        chunked: true,
        ..config(ServerTrust::FromCmp)
    };
    let chunked = Client::new(chunked).unwrap();
    // The server gives back what it read as chunks, sizes and all.
    let answer = chunked.exchange(&url, None, &[b'x'; 20]).await.unwrap();
    assert_eq!(
        String::from_utf8(answer).unwrap(),
        format!("14\r\n{}\r\n0\r\n\r\n", "x".repeat(20))
    );
}

#[tokio::test]
async fn the_proxy_is_discovered_with_its_labels() {
    let (listener, _) = {
        let routes = vec![
            route(Some("home"), Some("a"), 0),
            route(Some("home"), Some("b"), 0),
            route(Some("work"), None, 0),
        ];
        let proxy = Proxy::new(vec![upstream("http://127.0.0.1:1")], routes).unwrap();
        (bind(plain(), Arc::new(proxy)), ())
    };
    let url = plain_url(&listener);
    let node = super::rules::Asker::new(&listener);
    let core = homefleet_coap::Request::get(".well-known/core").query("ct=259");
    let links = node.ask(core).await.payload;
    let links = link::parse(std::str::from_utf8(&links).unwrap()).unwrap();
    let targets: Vec<&str> = links.iter().map(|link| link.target.as_str()).collect();
    // Nothing is behind the path without a label.
    let labelled = ["/.well-known/cmp/p/home", "/.well-known/cmp/p/work"];
    assert_eq!(targets, labelled, "{url}");
    let bare = before(upstream("http://127.0.0.1:1")).0;
    let node = super::rules::Asker::new(&bare);
    let core = homefleet_coap::Request::get(".well-known/core");
    let links = node.ask(core).await.payload;
    assert_eq!(links, b"</.well-known/cmp>;ct=259");
}
