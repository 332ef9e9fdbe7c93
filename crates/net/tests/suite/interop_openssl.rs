//! OpenSSL's `s_client` and `s_server` as DTLS 1.2 peers.

use std::time::{Duration, Instant};

use homefleet_net::dtls::{CloseReason, Config, Event, Failure, Version};
use homefleet_trust::Refusal;

use crate::support::live::{Live, free_port};
use crate::support::pair::{AGENT, CONTROLLER, expect};
use crate::support::pki::{Ca, Leaf};
use crate::support::tool::{Files, Tool, have};

const LIMIT: Duration = Duration::from_secs(15);

fn openssl() -> bool {
    have("openssl", &["version"])
}

fn s_client(files: &Files, port: u16, more: &[&str]) -> Tool {
    let target = format!("127.0.0.1:{port}");
    let ca = files.text("ca.pem");
    let mut args = vec![
        "s_client",
        "-dtls1_2",
        "-connect",
        &target,
        "-CAfile",
        &ca,
        "-verify_return_error",
        "-servername",
        "localhost",
        "-nocommands",
    ];
    args.extend(more);
    Tool::start("openssl", &args)
}

#[test]
fn s_client_is_verified_and_echoed() {
    if !openssl() {
        return;
    }
    let ca = Ca::new("Interop CA");
    let mut live = Live::new(Config::default(), &ca.endpoint(CONTROLLER), ca.verifier());
    live.echo = true;
    let files = Files::new(&ca, &ca.endpoint(AGENT));
    let (chain, key) = (files.text("chain.pem"), files.text("key.pem"));
    let mut client = s_client(
        &files,
        live.addr().port(),
        &["-cert", &chain, "-cert_chain", &chain, "-key", &key],
    );
    client.say("hello from openssl\n");
    assert!(
        live.run(LIMIT, |live| !live.data().is_empty()
            && client.output().contains("hello from openssl")),
        "{}\n{:?}",
        client.output(),
        live.events
    );
    assert_eq!(live.data(), b"hello from openssl\n");
    assert!(live.has(
        |event| matches!(event, Event::Established { peer, version: Version::Dtls12, sni: Some(sni), initiated: false, .. }
            if peer.is_endpoint(AGENT) && sni == "localhost")
    ));
    client.hang_up();
    assert!(live.run(LIMIT, |live| live.has(|event| matches!(
        event,
        Event::Closed {
            reason: CloseReason::Peer,
            ..
        }
    ))));
}

#[test]
fn s_client_without_certificate_is_refused() {
    if !openssl() {
        return;
    }
    let ca = Ca::new("Interop CA");
    let mut live = Live::new(Config::default(), &ca.endpoint(CONTROLLER), ca.verifier());
    let files = Files::new(&ca, &ca.endpoint(AGENT));
    let mut client = s_client(&files, live.addr().port(), &[]);
    client.say("hello from openssl\n");
    assert!(live.run(LIMIT, |_| client.output().contains("alert")));
    assert!(
        client.output().contains("handshake failure"),
        "{}",
        client.output()
    );
    assert!(live.has(
        |event| matches!(event, Event::Refused { decision, alert: Some(40), .. }
        if decision.refusal() == Some(&Refusal::NoCertificate))
    ));
    assert!(live.data().is_empty());
}

#[test]
fn s_client_of_another_ca_is_refused() {
    if !openssl() {
        return;
    }
    let ca = Ca::new("Interop CA");
    let other = Ca::new("Other CA");
    let mut live = Live::new(Config::default(), &ca.endpoint(CONTROLLER), ca.verifier());
    let files = Files::new(&ca, &other.endpoint(AGENT));
    let (chain, key) = (files.text("chain.pem"), files.text("key.pem"));
    let mut client = s_client(
        &files,
        live.addr().port(),
        &["-cert", &chain, "-cert_chain", &chain, "-key", &key],
    );
    client.say("hello from openssl\n");
    assert!(
        live.run(LIMIT, |_| client.output().contains("unknown ca")),
        "{}",
        client.output()
    );
    assert!(live.data().is_empty() && !live.is_established());
}

fn s_server(files: &Files, port: u16, more: &[&str]) -> Tool {
    let accept = format!("127.0.0.1:{port}");
    let (ca, chain, key) = (
        files.text("ca.pem"),
        files.text("chain.pem"),
        files.text("key.pem"),
    );
    let mut args = vec![
        "s_server",
        "-dtls1_2",
        "-accept",
        &accept,
        "-CAfile",
        &ca,
        "-Verify",
        "3",
        "-verify_return_error",
        "-cert",
        &chain,
        "-cert_chain",
        &chain,
        "-key",
        &key,
    ];
    args.extend(more);
    let tool = Tool::start("openssl", &args);
    assert!(tool.wait_for("ACCEPT", LIMIT), "{}", tool.output());
    tool
}

fn visit_s_server(more: &[&str]) {
    if !openssl() {
        return;
    }
    let ca = Ca::new("Interop CA");
    let mut live = Live::new(Config::default(), &ca.endpoint(AGENT), ca.verifier());
    let files = Files::new(&ca, &ca.endpoint(CONTROLLER));
    let port = free_port();
    let mut server = s_server(&files, port, more);
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
    server.say("and back\n");
    assert!(
        live.run(LIMIT, |live| live.data() == b"and back\n"
            && server.output().contains("hello from homefleet")),
        "{}",
        server.output()
    );
    live.sessions.close(Instant::now(), id);
    assert!(live.run(LIMIT, |_| server.output().contains("DONE")
        || server.output().contains("shutdown")
        || server.output().contains("CONNECTION CLOSED")));
}

#[test]
fn s_server_is_verified_and_spoken_to() {
    visit_s_server(&[]);
}

#[test]
fn s_server_with_hello_verify_request_is_spoken_to() {
    visit_s_server(&["-listen"]);
}

#[test]
fn s_server_with_another_name_is_refused_and_told() {
    if !openssl() {
        return;
    }
    let ca = Ca::new("Interop CA");
    let mut live = Live::new(Config::default(), &ca.endpoint(AGENT), ca.verifier());
    let mut leaf = Leaf::endpoint("self::someone.else");
    leaf.dns = vec!["elsewhere.example.net".to_owned()];
    let files = Files::new(&ca, &ca.issue(&leaf));
    let port = free_port();
    let server = s_server(&files, port, &[]);
    live.sessions
        .connect(
            Instant::now(),
            ([127, 0, 0, 1], port).into(),
            expect("acs.example.net", Some(CONTROLLER)),
        )
        .unwrap();
    assert!(
        live.run(LIMIT, |_| server.output().contains("bad certificate")),
        "{}",
        server.output()
    );
    assert!(live.has(
        |event| matches!(event, Event::Refused { decision, alert: Some(42), initiated: true, .. }
        if decision.refusal() == Some(&Refusal::NameMismatch))
    ));
}

#[test]
fn s_server_without_certificate_is_not_spoken_to() {
    if !openssl() {
        return;
    }
    let ca = Ca::new("Interop CA");
    let mut live = Live::new(Config::default(), &ca.endpoint(AGENT), ca.verifier());
    let port = free_port();
    let accept = format!("127.0.0.1:{port}");
    let server = Tool::start(
        "openssl",
        &[
            "s_server",
            "-dtls1_2",
            "-accept",
            &accept,
            "-nocert",
            "-cipher",
            "ALL:aNULL:@SECLEVEL=0",
        ],
    );
    assert!(server.wait_for("ACCEPT", LIMIT), "{}", server.output());
    live.sessions
        .connect(
            Instant::now(),
            ([127, 0, 0, 1], port).into(),
            expect("localhost", Some(CONTROLLER)),
        )
        .unwrap();
    assert!(live.run(LIMIT, |live| live.has(|event| matches!(
        event,
        Event::Failed {
            failure: Failure::Alert(40),
            ..
        }
    ))));
    assert!(!live.is_established());
}

#[test]
fn s_server_that_refuses_our_certificate_is_reported() {
    if !openssl() {
        return;
    }
    let ca = Ca::new("Interop CA");
    let other = Ca::new("Other CA");
    let mut live = Live::new(Config::default(), &other.endpoint(AGENT), ca.verifier());
    let files = Files::new(&ca, &ca.endpoint(CONTROLLER));
    let port = free_port();
    let _server = s_server(&files, port, &[]);
    live.sessions
        .connect(
            Instant::now(),
            ([127, 0, 0, 1], port).into(),
            expect("localhost", Some(CONTROLLER)),
        )
        .unwrap();
    assert!(
        live.run(LIMIT, |live| live.has(|event| matches!(
            event,
            Event::Failed {
                failure: Failure::Alert(48),
                initiated: true,
                ..
            }
        ))),
        "{:?}",
        live.events
    );
}

#[test]
fn visit_of_s_server_shows_our_certificate() {
    if !openssl() {
        return;
    }
    let ca = Ca::new("Interop CA");
    let mut live = Live::new(Config::default(), &ca.endpoint(AGENT), ca.verifier());
    let files = Files::new(&ca, &ca.endpoint(CONTROLLER));
    let port = free_port();
    // -Verify fails the handshake without a client certificate.
    let server = s_server(&files, port, &[]);
    live.sessions
        .connect(
            Instant::now(),
            ([127, 0, 0, 1], port).into(),
            expect("localhost", Some(CONTROLLER)),
        )
        .unwrap();
    assert!(live.run(LIMIT, |live| live.is_established()));
    assert!(
        server.wait_for(&format!("CN = {AGENT}"), LIMIT),
        "{}",
        server.output()
    );
}

#[test]
fn only_forward_secret_aead_suites_are_negotiated() {
    if !openssl() {
        return;
    }
    let ca = Ca::new("Interop CA");
    for (cipher, accepted) in [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", true),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", true),
        ("ECDHE-ECDSA-AES128-SHA", false),
        ("ECDHE-ECDSA-AES256-SHA384", false),
        ("AES128-GCM-SHA256", false),
        ("NULL-SHA256:@SECLEVEL=0", false),
    ] {
        let mut live = Live::new(Config::default(), &ca.endpoint(CONTROLLER), ca.verifier());
        let files = Files::new(&ca, &ca.endpoint(AGENT));
        let (chain, key) = (files.text("chain.pem"), files.text("key.pem"));
        let client = s_client(
            &files,
            live.addr().port(),
            &[
                "-cipher",
                cipher,
                "-cert",
                &chain,
                "-cert_chain",
                &chain,
                "-key",
                &key,
            ],
        );
        let established = live.run(Duration::from_secs(5), |live| {
            live.is_established() || live.has(|event| matches!(event, Event::Failed { .. }))
        }) && live.is_established();
        assert_eq!(established, accepted, "{cipher}: {}", client.output());
    }
}

#[test]
fn dtls_1_0_is_refused() {
    if !openssl() {
        return;
    }
    let ca = Ca::new("Interop CA");
    let mut live = Live::new(Config::default(), &ca.endpoint(CONTROLLER), ca.verifier());
    let target = format!("127.0.0.1:{}", live.addr().port());
    let client = Tool::start(
        "openssl",
        &[
            "s_client",
            "-dtls1",
            "-cipher",
            "ALL:@SECLEVEL=0",
            "-connect",
            &target,
        ],
    );
    assert!(
        live.run(LIMIT, |live| live
            .has(|event| matches!(event, Event::Failed { .. }))),
        "{}",
        client.output()
    );
    assert!(!live.is_established());
}

#[test]
fn renegotiation_is_refused() {
    if !openssl() {
        return;
    }
    let ca = Ca::new("Interop CA");
    let mut live = Live::new(Config::default(), &ca.endpoint(CONTROLLER), ca.verifier());
    let files = Files::new(&ca, &ca.endpoint(AGENT));
    let (chain, key) = (files.text("chain.pem"), files.text("key.pem"));
    let target = format!("127.0.0.1:{}", live.addr().port());
    let root = files.text("ca.pem");
    let args = [
        "s_client",
        "-dtls1_2",
        "-connect",
        &target,
        "-CAfile",
        &root,
        "-cert",
        &chain,
        "-cert_chain",
        &chain,
        "-key",
        &key,
    ];
    let mut client = Tool::start("openssl", &args);
    assert!(live.run(LIMIT, |live| live.is_established()));
    // Its command for a renegotiation.
    client.say("R\n");
    let ended = live.run(LIMIT, |live| {
        live.has(|event| matches!(event, Event::Closed { .. }))
    });
    assert!(ended, "{} {:?}", client.output(), live.events);
    assert!(
        client.output().contains("RENEGOTIATING"),
        "{}",
        client.output()
    );
    let handshakes = live.sessions.stats();
    assert_eq!((handshakes.established, handshakes.handshakes_in), (1, 1));
    assert!(live.data().is_empty());
}
