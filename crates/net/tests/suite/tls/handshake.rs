//! Handshakes with itself, in both roles.

use homefleet_net::tls::{Stream, TlsConfig, TlsError, TlsVersions, dial};
use homefleet_trust::Refusal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{AGENT, CONTROLLER, Side, pass, shake, tls, tls_with};
use crate::support::pki::{Ca, Leaf};

fn refusal(side: Side) -> Refusal {
    match side {
        Err(TlsError::Refused(decision)) => decision.refusal().unwrap().clone(),
        other => panic!("not refused: {other:?}"),
    }
}

/// What the other side heard: an alert in the handshake, or, in TLS 1.3, where the client is done before the server has looked,
/// with the first read.
async fn alert(side: Side) -> u8 {
    let error = match side {
        Err(TlsError::Alert(code)) => return code,
        Err(error) => panic!("no alert: {error:?}"),
        Ok(mut stream) => stream.read(&mut [0; 1]).await.unwrap_err(),
    };
    let inner = error.get_ref().unwrap();
    match inner.downcast_ref::<rustls::Error>() {
        Some(rustls::Error::AlertReceived(alert)) => u8::from(*alert),
        other => panic!("no alert: {other:?}"),
    }
}

#[tokio::test]
async fn both_sides_know_who_the_other_is_in_every_version() {
    let ca = Ca::new("ca");
    for versions in [TlsVersions::Both, TlsVersions::Tls12, TlsVersions::Tls13] {
        let mut config = TlsConfig::default();
        config.versions = versions;
        let agent = tls_with(config.clone(), &ca.endpoint(AGENT), ca.verifier());
        let controller = tls_with(config, &ca.endpoint(CONTROLLER), ca.verifier());
        let (near, far) = shake(&agent, &controller, "localhost", None).await;
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        assert!(near.identity().is_endpoint(CONTROLLER));
        assert!(far.identity().is_endpoint(AGENT));
        let expected = if versions == TlsVersions::Tls12 {
            "TLSv1_2"
        } else {
            "TLSv1_3"
        };
        assert_eq!(near.version(), expected);
        assert_eq!(far.version(), expected);
        pass(&mut near, &mut far, b"up").await.unwrap();
        pass(&mut far, &mut near, b"down").await.unwrap();
        assert_eq!(agent.stats().open, 1);
        drop(near);
        assert_eq!(agent.stats().open, 0);
        assert_eq!(agent.stats().established, 1);
        assert_eq!(controller.stats().handshakes_in, 1);
    }
}

#[tokio::test]
async fn client_of_another_ca_is_refused_with_unknown_ca() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    for versions in [TlsVersions::Tls12, TlsVersions::Tls13] {
        let mut config = TlsConfig::default();
        config.versions = versions;
        let agent = tls_with(config.clone(), &other.endpoint(AGENT), ca.verifier());
        let controller = tls_with(config, &ca.endpoint(CONTROLLER), ca.verifier());
        let (near, far) = shake(&agent, &controller, "localhost", None).await;
        assert_eq!(refusal(far), Refusal::UnknownIssuer);
        assert_eq!(alert(near).await, 48);
        assert_eq!(controller.stats().refused, 1);
        assert_eq!(controller.stats().established, 0);
    }
}

#[tokio::test]
async fn server_of_another_ca_is_refused_with_unknown_ca() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    for versions in [TlsVersions::Tls12, TlsVersions::Tls13] {
        let mut config = TlsConfig::default();
        config.versions = versions;
        let agent = tls_with(config.clone(), &ca.endpoint(AGENT), ca.verifier());
        let controller = tls_with(config, &other.endpoint(CONTROLLER), ca.verifier());
        let (near, far) = shake(&agent, &controller, "localhost", None).await;
        assert_eq!(refusal(near), Refusal::UnknownIssuer);
        assert_eq!(alert(far).await, 48);
        assert_eq!(agent.stats().refused, 1);
        assert_eq!(controller.stats().peer_alerts, 1);
    }
}

#[tokio::test]
async fn server_of_another_name_is_refused_unless_it_is_the_endpoint_wanted() {
    let ca = Ca::new("ca");
    let agent = tls(&ca.endpoint(AGENT), ca.verifier());
    let controller = tls(&ca.endpoint(CONTROLLER), ca.verifier());
    let (near, far) = shake(&agent, &controller, "elsewhere.example", None).await;
    assert_eq!(refusal(near), Refusal::NameMismatch);
    assert_eq!(alert(far).await, 42);
    let (near, _far) = shake(&agent, &controller, "elsewhere.example", Some("os::other")).await;
    assert_eq!(refusal(near), Refusal::NameMismatch);
    let (near, far) = shake(&agent, &controller, "elsewhere.example", Some(CONTROLLER)).await;
    assert!(near.is_ok() && far.is_ok());
    let (near, far) = shake(&agent, &controller, "192.0.2.1", Some(CONTROLLER)).await;
    assert!(near.is_ok() && far.is_ok());
}

#[tokio::test]
async fn expired_certificate_is_refused_in_both_roles() {
    let ca = Ca::new("ca");
    let mut leaf = Leaf::endpoint(AGENT);
    leaf.years = (2020, 2022);
    let expired = tls(&ca.issue(&leaf), ca.verifier());
    let good = tls(&ca.endpoint(CONTROLLER), ca.verifier());
    let (near, far) = shake(&expired, &good, "localhost", None).await;
    assert!(matches!(refusal(far), Refusal::Expired { .. }));
    assert_eq!(alert(near).await, 45);
    let (near, far) = shake(&good, &expired, "localhost", None).await;
    assert!(matches!(refusal(near), Refusal::Expired { .. }));
    assert_eq!(alert(far).await, 45);
}

#[tokio::test]
async fn peer_that_is_refused_can_say_the_rest_of_it_and_hears_why() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let agent = tls(&other.endpoint(AGENT), ca.verifier());
    let controller = tls(&ca.endpoint(CONTROLLER), ca.verifier());
    let (near, far) = tokio::io::duplex(16_384);
    let client = async {
        let mut stream = agent.connect(near, "localhost", None).await.unwrap();
        // More than is on its way when the server refuses.
        stream.write_all(&[7; 40_000]).await.unwrap();
        stream.flush().await.unwrap();
        alert(Ok(stream)).await
    };
    let (heard, refused) = tokio::join!(client, controller.accept(far));
    assert_eq!(refusal(refused), Refusal::UnknownIssuer);
    assert_eq!(heard, 48);
}

#[tokio::test]
async fn connection_that_ends_without_close_notify_is_an_error() {
    let ca = Ca::new("ca");
    let agent = tls(&ca.endpoint(AGENT), ca.verifier());
    let controller = tls(&ca.endpoint(CONTROLLER), ca.verifier());
    for clean in [true, false] {
        let (near, far) = shake(&agent, &controller, "localhost", None).await;
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        if clean {
            near.shutdown().await.unwrap();
        }
        drop(near);
        let read = far.read(&mut [0; 1]).await.map_err(|error| error.kind());
        let expected = if clean {
            Ok(0)
        } else {
            Err(std::io::ErrorKind::UnexpectedEof)
        };
        assert_eq!(read, expected);
    }
}

#[tokio::test]
async fn name_is_asked_for_and_an_address_is_not() {
    let ca = Ca::new("ca");
    let agent = tls(&ca.endpoint(AGENT), ca.verifier());
    for (host, asked) in [
        ("Broker.example", Some("broker.example")),
        ("broker.example.", Some("broker.example")),
        ("127.0.0.1", None),
        ("::1", None),
        ("[2001:db8::1]", None),
        ("fe80::1%eth0", None),
    ] {
        let (near, far) = tokio::io::duplex(16_384);
        let hello = async {
            let acceptor = tokio_rustls::LazyConfigAcceptor::new(Default::default(), far);
            let start = acceptor.await.unwrap();
            let hello = start.client_hello();
            hello.server_name().map(str::to_lowercase)
        };
        let (_, name) = tokio::join!(agent.connect(near, host, None), hello);
        assert_eq!(name.as_deref(), asked, "{host}");
    }
}

#[tokio::test]
async fn host_that_no_certificate_can_be_about_is_refused() {
    let ca = Ca::new("ca");
    let agent = tls(&ca.endpoint(AGENT), ca.verifier());
    for host in ["", "a b", "..", "user@host"] {
        let (near, _far) = tokio::io::duplex(64);
        let error = agent.connect(near, host, None).await.unwrap_err();
        assert!(matches!(error, TlsError::Host(_)), "{host}: {error:?}");
    }
}

#[tokio::test]
async fn dial_reaches_a_name_with_tls_and_without() {
    let ca = Ca::new("ca");
    let agent = tls(&ca.endpoint(AGENT), ca.verifier());
    let controller = tls(&ca.endpoint(CONTROLLER), ca.verifier());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = async {
        let (tcp, from) = listener.accept().await.unwrap();
        let mut stream = controller.accept_from(tcp, from).await.unwrap();
        stream.write_all(b"secure").await.unwrap();
        stream.shutdown().await.unwrap();
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(b"plain").await.unwrap();
    };
    let client = async {
        let mut text = String::new();
        let mut stream = dial("localhost", port, Some((&agent, Some(CONTROLLER))))
            .await
            .unwrap();
        assert!(stream.is_secure());
        assert!(stream.identity().unwrap().is_endpoint(CONTROLLER));
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "secure");
        let mut stream = dial("127.0.0.1", port, None).await.unwrap();
        assert_eq!(stream.identity(), None);
        let Stream::Tcp(tcp) = &stream else {
            panic!("not plain");
        };
        assert!(
            socket2::SockRef::from(tcp).keepalive().unwrap(),
            "a peer that has gone is noticed"
        );
        text.clear();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "plain");
    };
    tokio::join!(server, client);
}
