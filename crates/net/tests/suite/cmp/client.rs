//! Our client: transactions over CoAP and HTTP, and what it makes of bad answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use homefleet_cmp::client::Outcome;
use homefleet_coap::{Code, Response};
use homefleet_net::cmp::{
    Answer, Client, ClientConfig, ExchangeError, ResponseCode, ServerTrust, Status, Url,
};
use homefleet_net::coap::{Incoming, Node, NodeConfig};
use homefleet_net::tls::{Tls, TlsError};
use homefleet_trust::{Refusal, anchors_from_pem};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufStream,
};
use tokio::net::TcpListener;

use super::world::{TestCa, always, bind, echo, enroll, message, plain, plain_url};
use crate::cmp_world::{by_key, by_secret};
use crate::support::nodes::{LOOPBACK, brisk};
use crate::support::pair::{AGENT, CONTROLLER};
use crate::support::pki::Ca;
use crate::support::relay::lossy;
use crate::support::web::{Page, Web};

pub(super) fn config(trust: ServerTrust) -> ClientConfig {
    ClientConfig {
        coap: brisk(),
        ..ClientConfig::new(trust)
    }
}

fn client() -> Client {
    Client::new(config(ServerTrust::FromCmp)).unwrap()
}

fn certified(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Certificate(_))
}

#[tokio::test]
async fn a_certificate_is_requested_and_confirmed_over_coap() {
    let ca = TestCa::new();
    let listener = bind(plain(), ca.clone());
    for protector in [by_secret(), by_key("device")] {
        let outcome = enroll(&client(), &plain_url(&listener), protector).await;
        assert!(certified(&outcome.unwrap()));
    }
    let requests = ca.requests();
    assert_eq!(requests.len(), 4);
    assert!(
        requests.iter().all(|request| request.identity.is_none()
            && request.scheme == homefleet_net::cmp::Scheme::Coap)
    );
}

#[tokio::test]
async fn a_certificate_is_requested_and_confirmed_at_25_percent_loss() {
    let ca = TestCa::slow(Duration::from_millis(200));
    let listener = bind(plain(), ca.clone());
    let through = lossy(listener.plain_addr().unwrap()).await;
    let url: Url = format!("coap://{through}").parse().unwrap();
    let outcome = enroll(&client(), &url, by_key("device")).await;
    assert!(certified(&outcome.unwrap()));
    // Each message came to the CA once.
    assert_eq!(ca.requests().len(), 2);
}

#[tokio::test]
async fn an_error_message_is_an_answer_whatever_its_code() {
    for status in [Status::BadRequest, Status::Forbidden, Status::Unavailable] {
        let answer = Answer::Message {
            bytes: message(2000),
            status,
        };
        let listener = bind(plain(), always(answer));
        let answer = client().exchange(&plain_url(&listener), None, b"x").await;
        assert_eq!(answer.unwrap(), message(2000));
    }
}

#[tokio::test]
async fn a_code_without_a_message_is_told_with_its_diagnostic() {
    let listener = bind(
        plain(),
        always(Answer::Busy {
            retry_after: Duration::from_secs(7),
        }),
    );
    let error = client().exchange(&plain_url(&listener), None, b"x").await;
    let Err(ExchangeError::Refused {
        code, retry_after, ..
    }) = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(*code, ResponseCode::Coap(Code::SERVICE_UNAVAILABLE));
    assert_eq!(*retry_after, Some(Duration::from_secs(7)));
    assert!(error.unwrap_err().is_transient());

    let nothing: Url = format!("{}/elsewhere", plain_url(&listener))
        .parse()
        .unwrap();
    let error = client().exchange(&nothing, None, b"x").await.unwrap_err();
    assert_eq!(error.to_string(), "the server answered 4.04");
    assert!(!error.is_transient());

    let empty = client().exchange(&plain_url(&listener), None, b"").await;
    let error = empty.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server answered 4.00: there is no message"
    );
}

fn node(answer: impl Fn() -> Response + Send + 'static) -> (Node, Url) {
    let config = NodeConfig {
        secure: None,
        plain_listen: Some(LOOPBACK.parse().unwrap()),
        groups: Vec::new(),
        coap: brisk(),
        max_requests: 1,
        doubt_after: Duration::ZERO,
    };
    let node = Node::bind(config, move |incoming: Incoming<'_>| {
        assert!(incoming.request.confirmable);
        assert_eq!(incoming.request.options.content_format(), Some(259));
        Some(answer())
    })
    .unwrap();
    let url = format!("coap://{}", node.plain_addr().unwrap());
    (node, url.parse().unwrap())
}

#[tokio::test]
async fn a_success_that_is_no_message_is_refused() {
    let (_node, url) = node(|| Response::new(Code::CHANGED));
    let error = client().exchange(&url, None, b"x").await.unwrap_err();
    assert!(matches!(error, ExchangeError::NoMessage(None)), "{error}");
    let (_node, url) = node(|| Response::content(60, b"cbor".to_vec()));
    let error = client().exchange(&url, None, b"x").await.unwrap_err();
    assert!(error.to_string().contains("application/cbor"), "{error}");
}

#[tokio::test]
async fn octet_stream_is_taken_of_old_servers_where_that_is_switched_on() {
    let (_node, url) = node(|| Response::content(42, b"answer".to_vec()));
    let error = client().exchange(&url, None, b"x").await.unwrap_err();
    assert!(
        matches!(error, ExchangeError::NoMessage(Some(_))),
        "{error}"
    );
    let lenient = ClientConfig {
        accept_octet_stream: true,
        ..config(ServerTrust::FromCmp)
    };
    let lenient = Client::new(lenient).unwrap();
    let answer = lenient.exchange(&url, None, b"x").await.unwrap();
    assert_eq!(answer, b"answer");
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_given_up() {
    let listener = bind(plain(), echo());
    let small = ClientConfig {
        max_answer: 3000,
        ..config(ServerTrust::FromCmp)
    };
    let small = Client::new(small).unwrap();
    let url = plain_url(&listener);
    let answer = small.exchange(&url, None, &message(3000)).await.unwrap();
    assert_eq!(answer.len(), 3000);
    let listener = bind(plain(), always(Answer::message(message(3001))));
    let url = plain_url(&listener);
    let error = small.exchange(&url, None, b"x").await.unwrap_err();
    assert!(
        matches!(error, ExchangeError::TooLarge { limit: 3000 }),
        "{error}"
    );
}

#[tokio::test]
async fn nobody_there_is_no_answer() {
    // Bound, and never read.
    let socket = std::net::UdpSocket::bind(LOOPBACK).unwrap();
    let url: Url = format!("coap://{}", socket.local_addr().unwrap())
        .parse()
        .unwrap();
    let impatient = ClientConfig {
        timeout: Duration::from_millis(300),
        ..config(ServerTrust::FromCmp)
    };
    let impatient = Client::new(impatient).unwrap();
    let error = impatient.exchange(&url, None, b"x").await.unwrap_err();
    assert!(matches!(error, ExchangeError::NoAnswer), "{error}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn nothing_is_sent_to_a_group() {
    for url in ["coap://224.0.1.187", "coaps://[ff02::fd]"] {
        let error = client().exchange(&url.parse().unwrap(), None, b"x").await;
        assert!(matches!(error, Err(ExchangeError::NotUnicast)), "{error:?}");
    }
}

#[tokio::test]
async fn a_name_without_address_is_told() {
    let url = "coap://nowhere.invalid".parse().unwrap();
    let error = client().exchange(&url, None, b"x").await.unwrap_err();
    assert!(matches!(error, ExchangeError::Unresolvable(_)), "{error}");
    let url = "http://nowhere.invalid".parse().unwrap();
    let error = client().exchange(&url, None, b"x").await.unwrap_err();
    assert!(matches!(error, ExchangeError::Unresolvable(_)), "{error}");
}

pub(super) fn http(status: &str, media: &str, body: &[u8]) -> Page {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Page::Bytes([head.as_bytes(), body].concat())
}

#[tokio::test]
async fn http_carries_a_message_and_its_answer() {
    let web = Web::start().await;
    web.put(
        "/.well-known/cmp/initialization",
        http("200 OK", "application/pkixcmp", b"answer"),
    );
    let url: Url = web.url("").parse().unwrap();
    let operation = Some(homefleet_net::cmp::Operation::Initialization);
    let answer = client().exchange(&url, operation, b"question").await;
    assert_eq!(answer.unwrap(), b"answer");
    let asked = web.asked().remove(0).to_ascii_lowercase();
    for line in [
        "post /.well-known/cmp/initialization http/1.1",
        "content-type: application/pkixcmp",
        "content-length: 8",
        "host: 127.0.0.1",
    ] {
        assert!(asked.contains(line), "{asked}");
    }
}

#[tokio::test]
async fn http_statuses_and_formats_are_told_apart() {
    let web = Web::start().await;
    let ask = async |page: Page| {
        web.put("/pkix/", page);
        let url: Url = web.url("/pkix/").parse().unwrap();
        client().exchange(&url, None, b"x").await
    };
    // An error message may come with any status (RFC 9811 §3.2).
    let page = http("400 Bad Request", "application/pkixcmp; x=y", b"error");
    assert_eq!(ask(page).await.unwrap(), b"error");
    let error = ask(http("404 Not Found", "text/html", b"<p>")).await;
    let error = error.unwrap_err();
    assert_eq!(error.to_string(), "the server answered HTTP 404");
    let page = http("503 Later", "text/plain", b"in a\nmoment");
    let error = ask(page).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server answered HTTP 503: in a moment"
    );
    assert!(error.is_transient());
    let error = ask(http("302 Found", "text/html", b"")).await.unwrap_err();
    assert_eq!(error.to_string(), "the server answered HTTP 302");
    let error = ask(http("200 OK", "text/html", b"<p>")).await.unwrap_err();
    assert!(error.to_string().contains("text/html"), "{error}");
    let error = ask(http("200 OK", "application/pkixcmp", b"")).await;
    assert!(matches!(error, Err(ExchangeError::NoMessage(None))));
    let error = ask(Page::Bytes(b"SSH-2.0-x\r\n".to_vec())).await;
    assert!(
        matches!(error, Err(ExchangeError::Protocol(_))),
        "{error:?}"
    );
    let error = ask(Page::Bytes(Vec::new())).await;
    assert!(
        matches!(error, Err(ExchangeError::Interrupted(_))),
        "{error:?}"
    );
    let long = message(200_000);
    let error = ask(http("200 OK", "application/pkixcmp", &long)).await;
    assert!(matches!(error, Err(ExchangeError::TooLarge { .. })));
}

/// Answers each request with what it was, on as many connections as are opened; each ends without a word after `requests`.
pub(super) async fn http_echo(tls: Option<Tls>, requests: usize) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    Some(tls) => echoes(tls.accept(tcp).await.unwrap(), requests).await,
                    None => echoes(tcp, requests).await,
                }
            });
        }
    });
    (port, connections)
}

async fn echoes(stream: impl AsyncRead + AsyncWrite + Unpin, requests: usize) {
    let mut stream = BufStream::new(stream);
    for _ in 0..requests {
        let mut length = 0;
        let mut chunked = false;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            chunked |= line == "transfer-encoding: chunked";
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        // What is chunked is given back as it came.
        while chunked && !body.ends_with(b"0\r\n\r\n") {
            body.push(stream.read_u8().await.unwrap());
        }
        let Page::Bytes(answer) = http("200 OK", "application/pkixcmp", &body) else {
            return;
        };
        stream.write_all(&answer).await.unwrap();
        stream.flush().await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_is_kept_and_replaced_when_it_has_ended() {
    let (port, connections) = http_echo(None, 2).await;
    let url: Url = format!("http://127.0.0.1:{port}").parse().unwrap();
    let client = client();
    for n in 1..=5_usize {
        let answer = client.exchange(&url, None, &message(n)).await.unwrap();
        assert_eq!(answer, message(n));
        assert_eq!(connections.load(Ordering::SeqCst), n.div_ceil(2));
    }
}

#[tokio::test]
async fn https_verifies_the_server_unless_cmp_itself_says_whom_to_believe() {
    let ca = Ca::new("CMP CA");
    let other = Ca::new("Another CA");
    // A web server has no opinion about its clients; this one wants to see a certificate, so the client shows one.
    let tls = Tls::new(&ca.endpoint(CONTROLLER).credentials(), ca.verifier()).unwrap();
    let (port, _) = http_echo(Some(tls), 10).await;
    let url: Url = format!("https://localhost:{port}").parse().unwrap();
    let exchange = async |trust| {
        let config = ClientConfig {
            identity: Some(ca.endpoint(AGENT).credentials()),
            ..config(trust)
        };
        let client = Client::new(config).unwrap();
        client.exchange(&url, None, b"x").await
    };
    let anchors = |ca: &Ca| ServerTrust::Anchors(anchors_from_pem(&ca.root_pem()).unwrap());
    assert_eq!(exchange(anchors(&ca)).await.unwrap(), b"x");
    assert_eq!(exchange(ServerTrust::FromCmp).await.unwrap(), b"x");
    let refused = exchange(anchors(&other)).await;
    assert!(
        matches!(refused, Err(ExchangeError::Untrusted(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn https_without_an_identity_shows_none() {
    let ca = Ca::new("CMP CA");
    let tls = Tls::new(&ca.endpoint(CONTROLLER).credentials(), ca.verifier()).unwrap();
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        tls.accept(tcp).await.unwrap_err()
    });
    let url: Url = format!("https://localhost:{port}").parse().unwrap();
    let refused = client().exchange(&url, None, b"x").await.unwrap_err();
    assert!(refused.is_transient(), "{refused}");
    let TlsError::Refused(decision) = asked.await.unwrap() else {
        panic!("the client showed a certificate");
    };
    assert_eq!(decision.refusal(), Some(&Refusal::NoCertificate));
}

#[tokio::test]
async fn nobody_at_the_port_is_no_connection() {
    let port = crate::support::live::free_port();
    let url: Url = format!("http://127.0.0.1:{port}").parse().unwrap();
    let error = client().exchange(&url, None, b"x").await.unwrap_err();
    assert!(matches!(error, ExchangeError::Connect(_)), "{error}");
}

#[tokio::test]
async fn clients_share_what_is_open() {
    let listener = bind(plain(), echo());
    let one = client();
    let other = one.clone();
    let url = plain_url(&listener);
    let (a, b) = tokio::join!(
        one.exchange(&url, None, b"a"),
        other.exchange(&url, None, b"b")
    );
    assert_eq!((a.unwrap(), b.unwrap()), (b"a".to_vec(), b"b".to_vec()));
    let debug = format!("{one:?}");
    assert!(debug.contains("FromCmp"), "{debug}");
}
