//! `openssl s_client` and `s_server`, `gnutls-cli` and `gnutls-serv` as peers over TLS 1.2 and 1.3.

use std::sync::{Arc, RwLock};

use homefleet_net::dtls::{TrustVerifier, Verifier};
use homefleet_net::tls::{Tls, TlsConfig, TlsError, TlsStream, TlsVersions};
use homefleet_trust::{Policy, Refusal, Revocation, RevocationPolicy, Time, anchors_from_pem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{AGENT, CONTROLLER, PATIENCE, shake, tls, tls_with};
use crate::support::pki::{Ca, Issued, Leaf, today};
use crate::support::tool::{Files, Tool, have};

const VERSIONS: [(&str, &str); 2] = [("-tls1_2", "TLSv1_2"), ("-tls1_3", "TLSv1_3")];

fn openssl() -> bool {
    have("openssl", &["version"])
}

/// Waits until the tool has said it, without keeping the runtime from its work.
async fn says(tool: &Tool, text: &str) {
    let said = async {
        while !tool.output().contains(text) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    assert!(
        timeout(PATIENCE, said).await.is_ok(),
        "`{text}` is not in: {}",
        tool.output()
    );
}

/// Our side as server, and a listener for it.
async fn server(ca: &Ca, verifier: Arc<dyn Verifier>) -> (Tls, TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    (tls(&ca.endpoint(CONTROLLER), verifier), listener, at)
}

fn s_client(files: &Files, at: &str, certificate: bool, more: &[&str]) -> Tool {
    let (ca, chain, key) = (
        files.text("ca.pem"),
        files.text("chain.pem"),
        files.text("key.pem"),
    );
    let mut args = vec![
        "s_client",
        "-connect",
        at,
        "-CAfile",
        &ca,
        "-verify_return_error",
        "-servername",
        "localhost",
        "-nocommands",
    ];
    if certificate {
        args.extend(["-cert", &chain, "-cert_chain", &chain, "-key", &key]);
    }
    args.extend(more);
    Tool::start("openssl", &args)
}

async fn accept(tls: &Tls, listener: &TcpListener) -> Result<TlsStream<TcpStream>, TlsError> {
    timeout(PATIENCE, async {
        let (tcp, from) = listener.accept().await.unwrap();
        tls.accept_from(tcp, from).await
    })
    .await
    .unwrap()
}

fn refusal<T: std::fmt::Debug>(result: Result<T, TlsError>) -> Refusal {
    match result {
        Err(TlsError::Refused(decision)) => decision.refusal().unwrap().clone(),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_client_is_verified_and_heard_and_answered() {
    if !openssl() {
        return;
    }
    let ca = Ca::new("Interop CA");
    let (tls, listener, at) = server(&ca, ca.verifier()).await;
    let files = Files::new(&ca, &ca.endpoint(AGENT));
    for (flag, version) in VERSIONS {
        let mut client = s_client(&files, &at, true, &[flag]);
        client.say("hello from openssl\n");
        let mut stream = accept(&tls, &listener).await.unwrap();
        assert!(stream.identity().is_endpoint(AGENT));
        assert_eq!(stream.version(), version);
        let mut said = [0; 19];
        stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello from openssl\n");
        stream.write_all(b"hello from rustls\n").await.unwrap();
        stream.flush().await.unwrap();
        says(&client, "hello from rustls").await;
        says(&client, "Verify return code: 0 (ok)").await;
        client.hang_up();
        assert_eq!(stream.read(&mut said).await.unwrap(), 0, "close_notify");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_client_is_refused_with_the_alert_that_the_decision_names() {
    if !openssl() {
        return;
    }
    let (ca, other) = (Ca::new("Interop CA"), Ca::new("Other CA"));
    let mut leaf = Leaf::endpoint(AGENT);
    leaf.years = (2020, 2022);
    let (good, expired, foreign) = (ca.endpoint(AGENT), ca.issue(&leaf), other.endpoint(AGENT));
    let (tls, listener, at) = server(&ca, ca.verifier()).await;
    for (flag, _) in VERSIONS {
        for (issued, certificate, alert) in [
            (&good, false, "alert certificate required"),
            (&foreign, true, "alert unknown ca"),
            (&expired, true, "alert certificate expired"),
        ] {
            let files = Files::new(&ca, issued);
            let client = s_client(&files, &at, certificate, &[flag]);
            let refusal = refusal(accept(&tls, &listener).await);
            match alert {
                "alert certificate required" => assert_eq!(refusal, Refusal::NoCertificate),
                "alert unknown ca" => assert_eq!(refusal, Refusal::UnknownIssuer),
                _ => assert!(matches!(refusal, Refusal::Expired { .. }), "{refusal}"),
            }
            says(&client, alert).await;
        }
    }
    assert_eq!(tls.stats().refused, 6);
    assert_eq!(tls.stats().established, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_client_that_has_nothing_newer_than_tls_1_1_is_refused() {
    if !openssl() {
        return;
    }
    let ca = Ca::new("Interop CA");
    let (tls, listener, at) = server(&ca, ca.verifier()).await;
    let files = Files::new(&ca, &ca.endpoint(AGENT));
    let old = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
    let client = s_client(&files, &at, true, &old);
    let result = accept(&tls, &listener).await;
    assert!(matches!(result, Err(TlsError::Engine(_))), "{result:?}");
    // It lists no signature algorithms, as 1.1 has none: the first thing that is missing.
    says(&client, "alert handshake failure").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_client_that_offers_only_weak_suites_is_refused() {
    if !openssl() {
        return;
    }
    let ca = Ca::new("Interop CA");
    let (tls, listener, at) = server(&ca, ca.verifier()).await;
    let files = Files::new(&ca, &ca.endpoint(AGENT));
    // Without forward secrecy, and without authenticated encryption.
    for suite in ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256"] {
        let client = s_client(&files, &at, true, &["-tls1_2", "-cipher", suite]);
        let result = accept(&tls, &listener).await;
        assert!(matches!(result, Err(TlsError::Engine(_))), "{result:?}");
        says(&client, "alert handshake failure").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_client_that_renegotiates_gets_nothing_by_it() {
    if !openssl() {
        return;
    }
    let ca = Ca::new("Interop CA");
    let (tls, listener, at) = server(&ca, ca.verifier()).await;
    let files = Files::new(&ca, &ca.endpoint(AGENT));
    let (root, chain, key) = (
        files.text("ca.pem"),
        files.text("chain.pem"),
        files.text("key.pem"),
    );
    let mut client = Tool::start(
        "openssl",
        &[
            "s_client",
            "-connect",
            &at,
            "-CAfile",
            &root,
            "-tls1_2",
            "-cert",
            &chain,
            "-cert_chain",
            &chain,
            "-key",
            &key,
        ],
    );
    let (mut reader, mut writer) = tokio::io::split(accept(&tls, &listener).await.unwrap());
    says(&client, "Verify return code").await;
    client.say("R\n");
    let reading = tokio::spawn(async move { reader.read(&mut [0; 16]).await });
    says(&client, "RENEGOTIATING").await;
    // No second handshake, and what is said meanwhile has the client give up.
    let answering = async {
        while writer.write_all(b".").await.is_ok() && writer.flush().await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, answering).await.unwrap();
    says(&client, "error:").await;
    let read = timeout(PATIENCE, reading).await.unwrap().unwrap();
    assert!(!matches!(read, Ok(1..)), "nothing was said: {read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_data_is_not_offered() {
    if !openssl() {
        return;
    }
    let ca = Ca::new("Interop CA");
    let (tls, listener, at) = server(&ca, ca.verifier()).await;
    let files = Files::new(&ca, &ca.endpoint(AGENT));
    let session = files.text("session");
    let mut client = s_client(&files, &at, true, &["-tls1_3", "-sess_out", &session]);
    let mut stream = accept(&tls, &listener).await.unwrap();
    stream.write_all(b"welcome\n").await.unwrap();
    stream.flush().await.unwrap();
    says(&client, "welcome").await;
    client.hang_up();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    assert!(tokio::task::block_in_place(|| client.wait(PATIENCE)));
    let shown = Tool::start("openssl", &["sess_id", "-in", &session, "-text", "-noout"]);
    says(&shown, "TLS session ticket lifetime hint").await;
    says(&shown, "Max Early Data: 0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_client_that_was_revoked_is_held_until_the_list_is_there_and_then_refused() {
    if !openssl() {
        return;
    }
    let ca = Ca::new("Interop CA");
    let mut leaf = Leaf::endpoint(AGENT);
    leaf.crl = Some(("http://ca.example.com/crl", 7));
    let files = Files::new(&ca, &ca.issue(&leaf));
    let verifier = ca.verifier();
    let revocation = Arc::new(RwLock::new(Revocation::new(RevocationPolicy::default())));
    verifier.set_revocation(revocation.clone(), |_| {});
    let (tls, listener, at) = server(&ca, verifier).await;
    let chain = std::fs::read_to_string(files.path("chain.pem")).unwrap();
    let anchors = anchors_from_pem(&chain).unwrap();
    // Every way of protecting the last record.
    let ways: [&[&str]; 6] = [
        &["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"],
        &["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"],
        &["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"],
    ];
    for (way, number) in ways.into_iter().zip(1..) {
        // Nothing is known of it.
        *revocation.write().unwrap() = Revocation::new(RevocationPolicy::default());
        let mut client = s_client(&files, &at, true, way);
        client.say("not to be heard\n");
        let judging = async {
            while tls.stats().held < number {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            revocation
                .write()
                .unwrap()
                .add_crl(&ca.crl(1, &[7]), &anchors, Time::Accurate(today()))
                .unwrap();
            tls.judge_again().await;
        };
        let (result, ()) = tokio::join!(accept(&tls, &listener), judging);
        assert!(matches!(refusal(result), Refusal::Revoked { .. }));
        says(&client, "alert certificate revoked").await;
    }
    for (flag, _) in VERSIONS {
        let client = s_client(&files, &at, true, &[flag]);
        let refusal = refusal(accept(&tls, &listener).await);
        assert!(matches!(refusal, Refusal::Revoked { .. }), "{refusal}");
        says(&client, "alert certificate revoked").await;
    }
    assert_eq!(tls.stats().held, 6);
    assert_eq!(tls.stats().established, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_client_resumes_its_session() {
    if !openssl() {
        return;
    }
    let ca = Ca::new("Interop CA");
    let (tls, listener, at) = server(&ca, ca.verifier()).await;
    let files = Files::new(&ca, &ca.endpoint(AGENT));
    let session = files.text("session");
    for (flag, _) in VERSIONS {
        for (option, resumed) in [("-sess_out", false), ("-sess_in", true)] {
            let mut client = s_client(&files, &at, true, &[flag, option, &session]);
            let mut stream = accept(&tls, &listener).await.unwrap();
            assert_eq!(stream.resumed(), resumed, "{flag}");
            assert!(stream.identity().is_endpoint(AGENT));
            // A ticket of 1.3 comes with the first data.
            stream.write_all(b"welcome\n").await.unwrap();
            stream.flush().await.unwrap();
            says(&client, "welcome").await;
            client.hang_up();
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
            assert!(tokio::task::block_in_place(|| client.wait(PATIENCE)));
        }
    }
}

/// A server that answers every line with its reverse; where it listens.
async fn s_server(files: &Files, more: &[&str]) -> (Tool, String) {
    let (ca, chain, key) = (
        files.text("ca.pem"),
        files.text("chain.pem"),
        files.text("key.pem"),
    );
    let mut args = vec![
        "s_server",
        "-accept",
        "127.0.0.1:0",
        "-CAfile",
        &ca,
        "-cert",
        &chain,
        "-cert_chain",
        &chain,
        "-key",
        &key,
        "-rev",
    ];
    args.extend(more);
    let server = Tool::start("openssl", &args);
    says(&server, "ACCEPT 127.0.0.1:").await;
    let output = server.output();
    let at = output.split("ACCEPT ").nth(1).unwrap();
    let at = at.lines().next().unwrap().trim().to_owned();
    (server, at)
}

async fn reach(
    tls: &Tls,
    at: &str,
    host: &str,
    endpoint_id: Option<&str>,
) -> Result<TlsStream<TcpStream>, TlsError> {
    timeout(PATIENCE, async {
        let tcp = TcpStream::connect(at).await.unwrap();
        tls.connect(tcp, host, endpoint_id).await
    })
    .await
    .unwrap()
}

async fn ask(stream: &mut TlsStream<TcpStream>) -> std::io::Result<()> {
    timeout(PATIENCE, async {
        stream.write_all(b"hello\n").await?;
        stream.flush().await?;
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"olleh\n");
        Ok(())
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_server_is_verified_and_answers_and_resumes() {
    if !openssl() {
        return;
    }
    let ca = Ca::new("Interop CA");
    let agent = tls(&ca.endpoint(AGENT), ca.verifier());
    let files = Files::new(&ca, &ca.endpoint(CONTROLLER));
    for (flag, version) in VERSIONS {
        let demands = [flag, "-Verify", "3", "-verify_return_error"];
        let (_server, at) = s_server(&files, &demands).await;
        for (host, endpoint_id) in [("localhost", None), ("127.0.0.1", Some(CONTROLLER))] {
            let mut stream = reach(&agent, &at, host, endpoint_id).await.unwrap();
            assert!(stream.identity().is_endpoint(CONTROLLER));
            assert_eq!(stream.version(), version);
            ask(&mut stream).await.unwrap();
        }
    }
    // A server that asks for no certificate is a server all the same.
    let (_server, at) = s_server(&files, &[]).await;
    let mut stream = reach(&agent, &at, "localhost", None).await.unwrap();
    ask(&mut stream).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_server_is_refused_with_the_alert_that_the_decision_names() {
    if !openssl() {
        return;
    }
    let (ca, other) = (Ca::new("Interop CA"), Ca::new("Other CA"));
    let agent = tls(&ca.endpoint(AGENT), ca.verifier());
    let mut leaf = Leaf::endpoint(CONTROLLER);
    leaf.years = (2020, 2022);
    let cases: [(Issued, &str, Option<&str>, &str); 4] = [
        (
            other.endpoint(CONTROLLER),
            "localhost",
            None,
            "alert unknown ca",
        ),
        (
            ca.issue(&leaf),
            "localhost",
            None,
            "alert certificate expired",
        ),
        (
            ca.endpoint(CONTROLLER),
            "elsewhere.example",
            None,
            "alert bad certificate",
        ),
        (
            ca.endpoint(CONTROLLER),
            "elsewhere.example",
            Some("os::00D09E-other"),
            "alert bad certificate",
        ),
    ];
    for (flag, _) in VERSIONS {
        for (issued, host, endpoint_id, alert) in &cases {
            let files = Files::new(&ca, issued);
            let (server, at) = s_server(&files, &[flag]).await;
            let refusal = refusal(reach(&agent, &at, host, *endpoint_id).await);
            match *alert {
                "alert unknown ca" => assert_eq!(refusal, Refusal::UnknownIssuer),
                "alert bad certificate" => assert_eq!(refusal, Refusal::NameMismatch),
                _ => assert!(matches!(refusal, Refusal::Expired { .. }), "{refusal}"),
            }
            says(&server, alert).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_server_that_refuses_us_is_told_apart_from_a_broken_connection() {
    if !openssl() {
        return;
    }
    let (ca, other) = (Ca::new("Interop CA"), Ca::new("Other CA"));
    let agent = tls(&other.endpoint(AGENT), ca.verifier());
    let files = Files::new(&ca, &ca.endpoint(CONTROLLER));
    for (flag, _) in VERSIONS {
        let demands = [flag, "-Verify", "3", "-verify_return_error"];
        let (_server, at) = s_server(&files, &demands).await;
        match reach(&agent, &at, "localhost", None).await {
            Err(TlsError::Alert(48)) => assert_eq!(flag, "-tls1_2"),
            // In 1.3 the client is done before the server has looked.
            Ok(mut stream) => {
                let error = ask(&mut stream).await.unwrap_err();
                assert!(error.to_string().contains("UnknownCA"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gnutls_cli_is_verified_and_without_a_certificate_refused() {
    if !have("gnutls-cli", &["--version"]) {
        return;
    }
    let ca = Ca::new("Interop CA");
    let (tls, listener, at) = server(&ca, ca.verifier()).await;
    let port = at.rsplit(':').next().unwrap();
    let files = Files::new(&ca, &ca.endpoint(AGENT));
    let (root, chain, key) = (
        files.text("ca.pem"),
        files.text("chain.pem"),
        files.text("key.pem"),
    );
    for priority in [
        "NORMAL:-VERS-ALL:+VERS-TLS1.2",
        "NORMAL:-VERS-ALL:+VERS-TLS1.3",
    ] {
        let usual = [
            "--port",
            port,
            "--x509cafile",
            &root,
            "--priority",
            priority,
            "localhost",
        ];
        let ours = ["--x509certfile", &chain, "--x509keyfile", &key];
        let mut client = Tool::start("gnutls-cli", &[&ours[..], &usual[..]].concat());
        let mut stream = accept(&tls, &listener).await.unwrap();
        assert!(stream.identity().is_endpoint(AGENT));
        says(&client, "Simple Client Mode").await;
        client.say("hello from gnutls\n");
        let mut said = [0; 18];
        timeout(PATIENCE, stream.read_exact(&mut said))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&said, b"hello from gnutls\n");
        drop(stream);

        let _client = Tool::start("gnutls-cli", &usual);
        assert_eq!(
            refusal(accept(&tls, &listener).await),
            Refusal::NoCertificate
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gnutls_serv_is_verified_and_echoes() {
    if !have("gnutls-serv", &["--version"]) {
        return;
    }
    let ca = Ca::new("Interop CA");
    let agent = tls(&ca.endpoint(AGENT), ca.verifier());
    let files = Files::new(&ca, &ca.endpoint(CONTROLLER));
    let (root, chain, key) = (
        files.text("ca.pem"),
        files.text("chain.pem"),
        files.text("key.pem"),
    );
    let port = free_tcp_port().await.to_string();
    let server = Tool::start(
        "gnutls-serv",
        &[
            "--echo",
            "--port",
            &port,
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
    says(&server, "listening").await;
    let at = format!("127.0.0.1:{port}");
    // It says so before it is true.
    let listening = async {
        while TcpStream::connect(&at).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, listening).await.unwrap();
    let mut stream = reach(&agent, &at, "localhost", None).await.unwrap();
    assert!(stream.identity().is_endpoint(CONTROLLER));
    stream.write_all(b"hello\n").await.unwrap();
    stream.flush().await.unwrap();
    let mut echo = [0; 6];
    timeout(PATIENCE, stream.read_exact(&mut echo))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&echo, b"hello\n");
}

async fn free_tcp_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_every_usual_kind_are_shown_and_verified() {
    if !openssl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (key, certificate) = (path("key.pem"), path("certificate.pem"));
    for kind in [
        &["rsa:2048"][..],
        &["rsa:3072"],
        &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        &["ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
    ] {
        let names = format!("subjectAltName=URI:urn:bbf:usp:id:{AGENT},DNS:localhost");
        let mut args = vec!["req", "-x509", "-nodes", "-newkey"];
        args.extend(kind);
        args.extend([
            "-keyout",
            &key,
            "-out",
            &certificate,
            "-days",
            "3650",
            "-subj",
            "/CN=any key",
            "-addext",
            &names,
            "-addext",
            "extendedKeyUsage=serverAuth,clientAuth",
        ]);
        let mut tool = Tool::start("openssl", &args);
        assert!(tokio::task::block_in_place(|| tool.wait(PATIENCE)));
        let issued = Issued {
            chain: std::fs::read_to_string(&certificate).unwrap(),
            key: std::fs::read_to_string(&key).unwrap(),
        };
        // Its own authority.
        let anchors = anchors_from_pem(&issued.chain).unwrap();
        let verifier = TrustVerifier::new(anchors, Policy::default(), || Time::Unknown);
        let verifier: Arc<dyn Verifier> = Arc::new(verifier);
        for versions in [TlsVersions::Tls12, TlsVersions::Tls13] {
            let mut config = TlsConfig::default();
            config.versions = versions;
            let one = tls_with(config, &issued, verifier.clone());
            let (near, far) = shake(&one, &one, "localhost", None).await;
            assert!(near.unwrap().identity().is_endpoint(AGENT), "{kind:?}");
            assert!(far.unwrap().identity().is_endpoint(AGENT), "{kind:?}");
        }
    }
}
