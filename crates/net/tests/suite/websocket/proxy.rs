//! A reverse proxy in front of the Controller: one that passes TLS through, and one that ends it and hands the client's certificate
//! on (RFC 9440). The proxy is HAProxy, with the configuration of the manual.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use homefleet_net::dtls::TrustVerifier;
use homefleet_net::mtp::SendError;
use homefleet_net::mtp::websocket::WebSocketConnection;
use homefleet_net::tls::Tls;
use tokio::net::TcpStream;

use super::raw::{Raw, V1, request};
use super::{AGENT, CONTROLLER, PATIENCE, SECURE, Side, id, listener, record, side_with, to};
use crate::support::pki::{Ca, Issued, Leaf};
use crate::support::tool::{Files, Tool, have};

const SOON: Duration = Duration::from_millis(20);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Every HAProxy of these tests.
const COMMON: &str = "
global
  # Tickets and a cache would let a client come again without its chain.
  tune.ssl.cachesize 0
defaults
  timeout connect 5s
  timeout client  1h
  timeout server  1h
  timeout tunnel  1h
";

/// A Controller behind a proxy at this address, with nothing but certificates.
async fn behind(ca: &Ca, proxy: IpAddr, secure: bool) -> (Side, Arc<TrustVerifier>, SocketAddr) {
    let verifier = ca.verifier();
    let credentials = ca.endpoint(CONTROLLER).credentials();
    let tls = Tls::new(&credentials, verifier.clone()).unwrap();
    let side = side_with(CONTROLLER, |config| {
        config.tls = Some(tls);
        // Which does not open a listener that is a proxy's.
        config.allow_plain = proxy != LOOPBACK;
    });
    let listener = listener("127.0.0.1:0", secure);
    let proxies = vec![proxy];
    let address = side.mtp.listen_behind("all", listener, proxies).await;
    (side, verifier, address.unwrap())
}

/// The headers for a certificate.
fn headers(issued: &Issued) -> String {
    let ders: Vec<String> = issued
        .chain
        .split("-----BEGIN CERTIFICATE-----")
        .skip(1)
        .map(|block| {
            let body = block.split("-----END").next().unwrap();
            let bytes = STANDARD.decode(body.replace(char::is_whitespace, ""));
            format!(":{}:", STANDARD.encode(bytes.unwrap()))
        })
        .collect();
    let (leaf, rest) = ders.split_first().unwrap();
    format!(
        "{V1}Client-Cert: {leaf}\r\nClient-Cert-Chain: {}\r\n",
        rest.join(", ")
    )
}

/// What the Controller answers to this request.
async fn ask(address: SocketAddr, request: &str) -> (Raw, String) {
    let mut raw = Raw::connect(address).await;
    raw.write(request.as_bytes()).await;
    let answer = raw.head().await;
    (raw, answer)
}

#[tokio::test]
async fn a_client_is_who_the_certificate_that_the_proxy_hands_on_says() {
    let ca = Ca::new("Test CA");
    let (mut controller, _, address) = behind(&ca, LOOPBACK, false).await;
    let good = request("/usp", &headers(&ca.endpoint(AGENT)));
    let (mut raw, answer) = ask(address, &good).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let channel = controller.up().await;
    assert_eq!(channel.endpoint_id, Some(id(AGENT)));
    assert!(channel.identity.unwrap().is_endpoint(AGENT));
    raw.record(&record(AGENT, CONTROLLER, b"notify")).await;
    let (_, origin) = controller.record().await;
    assert_eq!(origin.reply_to, Some(SECURE));
    let sent = record(CONTROLLER, AGENT, b"get");
    let outcome = controller.mtp.send(&SECURE, &id(AGENT), sent.clone()).await;
    outcome.unwrap();
    assert_eq!(raw.read().await.1, sent);
}

#[tokio::test]
async fn what_a_proxy_hands_on_is_decided_about_like_every_certificate() {
    let (ca, stranger) = (Ca::new("Test CA"), Ca::new("Other CA"));
    let (mut controller, _, address) = behind(&ca, LOOPBACK, false).await;
    let expired = ca.issue(&Leaf {
        years: (2020, 2022),
        ..Leaf::endpoint(AGENT)
    });
    let agent = ca.endpoint(AGENT);
    let twice = format!("{}{}", headers(&agent), headers(&agent).replace(V1, ""));
    let cases = [
        ("403", request("/usp", &headers(&stranger.endpoint(AGENT)))),
        ("403", request("/usp", &headers(&expired))),
        // None at all (R-MTP.1).
        ("403", request("/usp", V1)),
        (
            "403",
            request("/usp?eid=os::00256D-other", &headers(&agent)),
        ),
        ("400", request("/usp", &twice)),
        ("400", request("/usp", &format!("{V1}Client-Cert: :x:\r\n"))),
    ];
    for (status, request) in &cases {
        let (_, answer) = ask(address, request).await;
        let line = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&line), "{answer} to {request}");
    }
    let stats = controller
        .stats(|stats| stats.tls_failed == 3 && stats.handshakes_refused == 3)
        .await;
    assert_eq!(stats.accepted, 0);
    assert!(controller.events.try_recv().is_err());
}

#[tokio::test]
async fn a_certificate_in_a_header_from_who_is_no_proxy_is_refused_and_counted() {
    let ca = Ca::new("Test CA");
    let elsewhere = "192.0.2.1".parse().unwrap();
    // Over TLS, with an honest certificate of its own.
    let (controller, _, address) = behind(&ca, elsewhere, true).await;
    let tls = Tls::new(&ca.endpoint(AGENT).credentials(), ca.verifier()).unwrap();
    let stream = homefleet_net::tls::dial("localhost", address.port(), Some((&tls, None))).await;
    let mut raw = Raw::over(stream.unwrap());
    let forged = request("/usp", &headers(&ca.endpoint("os::00256D-other")));
    raw.write(forged.as_bytes()).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 400 "));
    drop(raw);
    controller
        .stats(|stats| stats.certificates_refused == 1)
        .await;
    // Without TLS, where nobody but the proxy is let in.
    let (controller, _, address) = behind(&ca, elsewhere, false).await;
    let mut raw = Raw::connect(address).await;
    raw.write(forged.as_bytes()).await;
    controller.stats(|stats| stats.turned_away == 1).await;
    // And where everybody is.
    let open = super::side(CONTROLLER);
    let (_, answer) = ask(open.listen().await, &forged).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    open.stats(|stats| stats.certificates_refused == 1).await;
}

#[tokio::test]
async fn a_session_through_a_proxy_ends_when_its_certificate_is_no_longer_trusted() {
    let ca = Ca::new("Test CA");
    let (mut controller, verifier, address) = behind(&ca, LOOPBACK, false).await;
    let good = request("/usp", &headers(&ca.endpoint(AGENT)));
    let (mut first, _) = ask(address, &good).await;
    controller.up().await;
    verifier.replace_anchors(Vec::new());
    // Nobody says that there is something to judge anew.
    first.record(&record(AGENT, CONTROLLER, b"too late")).await;
    let reason = controller.down().await;
    assert!(reason.contains("refused"), "{reason}");
    assert_eq!(controller.mtp.stats().records_in, 0);
    let sent = controller.mtp.send(&SECURE, &id(AGENT), vec![1]).await;
    assert_eq!(sent, Err(SendError::NotConnected));
}

/// HAProxy in front of `backend`, and its port.
async fn haproxy(files: &Files, frontend: &str, backend: SocketAddr) -> (Tool, u16) {
    let directory = files.path("ca.pem").parent().unwrap().display().to_string();
    let pem = ["chain.pem", "key.pem"].map(|name| std::fs::read(files.path(name)).unwrap());
    std::fs::write(files.path("server.pem"), pem.concat()).unwrap();
    let mut said = Vec::new();
    // Somebody else may take the port before HAProxy does.
    for _ in 0..10 {
        let probe = std::net::TcpListener::bind((LOOPBACK, 0)).unwrap();
        let port = probe.local_addr().unwrap().port();
        drop(probe);
        let config = format!("{COMMON}{frontend}\n  server homefleet {backend}\n")
            .replace("PORT", &port.to_string())
            .replace("DIRECTORY", &directory);
        std::fs::write(files.path("haproxy.cfg"), config).unwrap();
        let config = files.text("haproxy.cfg");
        // In the foreground: it ends with the test.
        let args = ["--pdeathsig", "KILL", "haproxy", "-db", "-f", &config];
        let mut tool = Tool::start("setpriv", &args);
        let end = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < end && !tool.wait(SOON) {
            if TcpStream::connect((LOOPBACK, port)).await.is_ok() && !tool.wait(SOON) {
                return (tool, port);
            }
            tokio::time::sleep(SOON).await;
        }
        said.push(tool.output());
    }
    panic!("HAProxy does not listen: {said:?}");
}

/// An Agent that connects through the proxy, once that listens, and what both sides say to each other.
async fn meet(ca: &Ca, controller: &mut Side, port: u16, proxy: &Tool) {
    let tls = Tls::new(&ca.endpoint(AGENT).credentials(), ca.verifier()).unwrap();
    let mut agent = side_with(AGENT, |config| config.tls = Some(tls));
    let connection = WebSocketConnection {
        secure: true,
        host: "localhost".to_owned(),
        ..to(SocketAddr::from((LOOPBACK, port)))
    };
    agent.mtp.open("main", connection);
    let up = tokio::time::timeout(PATIENCE, agent.events.recv()).await;
    assert!(
        up.is_ok(),
        "{:?} {}",
        agent.mtp.status("main"),
        proxy.output()
    );
    let channel = controller.up().await;
    assert!(channel.identity.unwrap().is_endpoint(AGENT));
    for (from, to, from_id, to_id) in [
        (&agent.mtp, &mut controller.events, AGENT, CONTROLLER),
        (&controller.mtp, &mut agent.events, CONTROLLER, AGENT),
    ] {
        let (there, sent) = (id(to_id), record(from_id, to_id, b"x"));
        from.send(&SECURE, &there, sent).await.unwrap();
        tokio::time::timeout(PATIENCE, to.recv()).await.unwrap();
    }
}

#[tokio::test]
async fn haproxy_passes_tls_through() {
    if !have("haproxy", &["-v"]) {
        return;
    }
    let ca = Ca::new("Test CA");
    let elsewhere = "192.0.2.1".parse().unwrap();
    let (mut controller, _, address) = behind(&ca, elsewhere, true).await;
    let files = Files::new(&ca, &ca.endpoint(CONTROLLER));
    let frontend = "listen usp\n  mode tcp\n  bind 127.0.0.1:PORT";
    let (proxy, port) = haproxy(&files, frontend, address).await;
    meet(&ca, &mut controller, port, &proxy).await;
}

#[tokio::test]
async fn haproxy_ends_tls_and_hands_the_certificate_on() {
    if !have("haproxy", &["-v"]) {
        return;
    }
    let ca = Ca::new("Test CA");
    let (mut controller, _, address) = behind(&ca, LOOPBACK, false).await;
    // It presents the Controller's certificate: the Agent wants the Controller's Endpoint ID.
    let files = Files::new(&ca, &ca.endpoint(CONTROLLER));
    let frontend = "listen usp
  mode http
  bind 127.0.0.1:PORT ssl crt DIRECTORY/server.pem alpn http/1.1 no-tls-tickets verify required ca-file DIRECTORY/ca.pem ca-ignore-err all crt-ignore-err all
  http-request del-header Client-Cert
  http-request del-header Client-Cert-Chain
  http-request set-header Client-Cert :%[ssl_c_der,base64]:
  http-request set-header Client-Cert-Chain :%[ssl_c_chain_der,base64]: if { ssl_c_chain_der -m found }";
    let (proxy, port) = haproxy(&files, frontend, address).await;
    meet(&ca, &mut controller, port, &proxy).await;
}
