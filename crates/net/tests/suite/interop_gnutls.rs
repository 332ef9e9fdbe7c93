//! GnuTLS's `gnutls-cli` and `gnutls-serv` as DTLS 1.2 peers.

use std::time::{Duration, Instant};

use homefleet_net::dtls::{Config, Event, Version};
use homefleet_trust::Refusal;

use crate::support::live::{Live, free_port};
use crate::support::pair::{AGENT, CONTROLLER, expect};
use crate::support::pki::Ca;
use crate::support::tool::{Files, Tool, have};

const LIMIT: Duration = Duration::from_secs(15);

fn client(files: &Files, port: u16, certificate: bool) -> Tool {
    let (ca, chain, key) = (
        files.text("ca.pem"),
        files.text("chain.pem"),
        files.text("key.pem"),
    );
    let port = port.to_string();
    let mut args = vec!["--udp", "--port", &port, "--x509cafile", &ca, "localhost"];
    if certificate {
        args.extend(["--x509certfile", &chain, "--x509keyfile", &key]);
    }
    Tool::start("gnutls-cli", &args)
}

#[test]
fn gnutls_cli_is_verified_and_echoed() {
    if !have("gnutls-cli", &["--version"]) {
        return;
    }
    let ca = Ca::new("Interop CA");
    let mut live = Live::new(Config::default(), &ca.endpoint(CONTROLLER), ca.verifier());
    live.echo = true;
    let files = Files::new(&ca, &ca.endpoint(AGENT));
    let mut client = client(&files, live.addr().port(), true);
    assert!(
        live.run(LIMIT, |live| live.is_established()),
        "{}\n{:?}",
        client.output(),
        live.events
    );
    client.say("hello from gnutls\n");
    assert!(
        live.run(LIMIT, |live| live.data() == b"hello from gnutls\n"
            && client.output().contains("hello from gnutls")),
        "{}",
        client.output()
    );
    assert!(live.has(
        |event| matches!(event, Event::Established { peer, version: Version::Dtls12, .. } if peer.is_endpoint(AGENT))
    ));
}

#[test]
fn gnutls_cli_without_certificate_is_refused() {
    if !have("gnutls-cli", &["--version"]) {
        return;
    }
    let ca = Ca::new("Interop CA");
    let mut live = Live::new(Config::default(), &ca.endpoint(CONTROLLER), ca.verifier());
    let files = Files::new(&ca, &ca.endpoint(AGENT));
    let client = client(&files, live.addr().port(), false);
    assert!(
        live.run(LIMIT, |live| live.has(
            |event| matches!(event, Event::Refused { decision, alert: Some(40), .. }
            if decision.refusal() == Some(&Refusal::NoCertificate))
        )),
        "{}\n{:?}",
        client.output(),
        live.events
    );
    assert!(!live.is_established() && live.data().is_empty());
}

#[test]
fn gnutls_serv_is_verified_and_echoes() {
    if !have("gnutls-serv", &["--version"]) {
        return;
    }
    let ca = Ca::new("Interop CA");
    let mut live = Live::new(Config::default(), &ca.endpoint(AGENT), ca.verifier());
    let files = Files::new(&ca, &ca.endpoint(CONTROLLER));
    let port = free_port();
    let (root, chain, key, text) = (
        files.text("ca.pem"),
        files.text("chain.pem"),
        files.text("key.pem"),
        port.to_string(),
    );
    let server = Tool::start(
        "gnutls-serv",
        &[
            "--udp",
            "--echo",
            "--port",
            &text,
            "--x509cafile",
            &root,
            "--x509certfile",
            &chain,
            "--x509keyfile",
            &key,
            "--require-client-cert",
            "--verify-client-cert",
        ],
    );
    assert!(
        server.wait_for("listening", LIMIT) || server.output().contains("Echo"),
        "{}",
        server.output()
    );
    let id = live
        .sessions
        .connect(
            Instant::now(),
            ([127, 0, 0, 1], port).into(),
            expect("localhost", Some(CONTROLLER)),
        )
        .unwrap();
    assert!(
        live.run(LIMIT, |live| live.is_established()),
        "{}\n{:?}",
        server.output(),
        live.events
    );
    live.sessions
        .send(Instant::now(), id, b"hello from homefleet\n")
        .unwrap();
    assert!(
        live.run(LIMIT, |live| live.data() == b"hello from homefleet\n"),
        "{}\n{:?}",
        server.output(),
        live.events
    );
}
