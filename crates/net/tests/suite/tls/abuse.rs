//! Peers that do not play by the rules.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use homefleet_net::dtls::Budget;
use homefleet_net::tls::{TlsConfig, TlsError};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{AGENT, CONTROLLER, PATIENCE, shake, tls, tls_with};
use crate::support::pki::{Ca, Issued};

const SOON: Duration = Duration::from_millis(50);
const FROM: &str = "192.0.2.1:5000";

/// A ClientHello of this version.
fn hello(version: u16) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    // No session, suites of every age, no compression; P-256, its points as they are, and ECDSA with SHA-256.
    body.extend([0, 0, 6, 0xC0, 0x2B, 0xC0, 0x0A, 0x00, 0x2F, 1, 0]);
    body.extend([0, 22, 0, 10, 0, 4, 0, 2, 0, 23]);
    body.extend([0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2, 4, 3]);
    let mut record = vec![22, 3, 1];
    record.extend(u16::try_from(body.len() + 4).unwrap().to_be_bytes());
    record.extend([1, 0]);
    record.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    record.extend(body);
    record
}

#[tokio::test]
async fn versions_before_1_2_are_refused() {
    let ca = Ca::new("ca");
    let controller = tls(&ca.endpoint(CONTROLLER), ca.verifier());
    for version in [0x0300, 0x0301, 0x0302] {
        let (mut near, far) = tokio::io::duplex(16_384);
        near.write_all(&hello(version)).await.unwrap();
        let client = async {
            let mut said = Vec::new();
            near.read_to_end(&mut said).await.unwrap();
            near.shutdown().await.unwrap();
            drop(near);
            said
        };
        let (said, error) = timeout(PATIENCE, async {
            tokio::join!(client, controller.accept(far))
        })
        .await
        .unwrap();
        assert!(matches!(error, Err(TlsError::Engine(_))), "{error:?}");
        // A fatal alert, protocol_version.
        assert_eq!(said[0], 21, "{said:?}");
        assert_eq!(&said[5..], [2, 70], "{said:?}");
    }
}

#[tokio::test]
async fn what_is_not_tls_is_refused_at_once() {
    let ca = Ca::new("ca");
    let controller = tls(&ca.endpoint(CONTROLLER), ca.verifier());
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        &[0; 64],
        &[0xFF; 64],
        // A record of more than there may be, and one of nothing.
        &[22, 3, 1, 0xFF, 0xFF, 1, 0, 0, 0],
        // A ClientHello of 16 MB that would have to be gathered.
        &[22, 3, 1, 0, 9, 1, 0xFF, 0xFF, 0xFF, 3, 3, 0, 0, 0],
    ] {
        let (mut near, far) = tokio::io::duplex(16_384);
        near.write_all(bytes).await.unwrap();
        near.shutdown().await.unwrap();
        let error = timeout(PATIENCE, controller.accept(far)).await.unwrap();
        assert!(
            matches!(error, Err(TlsError::Engine(_) | TlsError::Io(_))),
            "{error:?}"
        );
    }
    assert_eq!(controller.stats().handshake_errors, 5);
}

#[tokio::test]
async fn no_hello_with_a_wrong_byte_or_cut_short_comes_to_anything_but_an_error() {
    let ca = Ca::new("ca");
    let agent = tls(&ca.endpoint(AGENT), ca.verifier());
    let controller = tls(&ca.endpoint(CONTROLLER), ca.verifier());
    let (near, mut far) = tokio::io::duplex(16_384);
    let mut hello = vec![0; 16_384];
    let reading = async {
        let read = far.read(&mut hello).await.unwrap();
        drop(far);
        read
    };
    let (_, read) = tokio::join!(agent.connect(near, "localhost", None), reading);
    hello.truncate(read);
    for at in 0..hello.len() {
        let mut wrong = hello.clone();
        wrong[at] ^= 1 << (at % 8);
        for bytes in [&wrong[..], &hello[..at]] {
            let (mut near, far) = tokio::io::duplex(16_384);
            near.write_all(bytes).await.unwrap();
            near.shutdown().await.unwrap();
            let result = timeout(PATIENCE, controller.accept(far)).await.unwrap();
            assert!(
                matches!(result, Err(TlsError::Engine(_) | TlsError::Io(_))),
                "{at}: {result:?}"
            );
        }
    }
    assert_eq!(controller.stats().established, 0);
    assert_eq!(controller.stats().open, 0);
}

#[tokio::test]
async fn record_changed_on_its_way_ends_the_connection_before_it_is_heard() {
    let ca = Ca::new("ca");
    let agent = tls(&ca.endpoint(AGENT), ca.verifier());
    let controller = tls(&ca.endpoint(CONTROLLER), ca.verifier());
    let (near, mut relay_near) = tokio::io::duplex(16_384);
    let (mut relay_far, far) = tokio::io::duplex(16_384);
    let (change, mut changing) = tokio::sync::watch::channel(false);
    let relay = tokio::spawn(async move {
        let (mut up, mut down) = (vec![0; 16_384], vec![0; 16_384]);
        loop {
            tokio::select! {
                read = relay_near.read(&mut up) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(read) => {
                        if *changing.borrow_and_update() {
                            up[read - 1] ^= 1;
                        }
                        if relay_far.write_all(&up[..read]).await.is_err() {
                            return;
                        }
                    }
                },
                read = relay_far.read(&mut down) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(read) => {
                        if relay_near.write_all(&down[..read]).await.is_err() {
                            return;
                        }
                    }
                },
            }
        }
    });
    let (near, far) = tokio::join!(
        agent.connect(near, "localhost", None),
        controller.accept(far)
    );
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    super::pass(&mut near, &mut far, b"as it was")
        .await
        .unwrap();
    change.send(true).unwrap();
    near.write_all(b"not as it was").await.unwrap();
    near.flush().await.unwrap();
    let error = timeout(PATIENCE, far.read(&mut [0; 16])).await.unwrap();
    assert!(error.is_err(), "{error:?}");
    drop((near, far));
    timeout(PATIENCE, relay).await.unwrap().unwrap();
}

#[tokio::test]
async fn who_says_nothing_or_one_byte_at_a_time_is_given_up() {
    let ca = Ca::new("ca");
    let mut config = TlsConfig::default();
    config.handshake_timeout = SOON;
    let controller = tls_with(config, &ca.endpoint(CONTROLLER), ca.verifier());
    for bytes in [&b""[..], &hello(0x0303)[..9]] {
        let (mut near, far) = tokio::io::duplex(16_384);
        near.write_all(bytes).await.unwrap();
        let error = timeout(PATIENCE, controller.accept(far)).await.unwrap();
        assert!(matches!(error, Err(TlsError::Timeout)), "{error:?}");
        // The connection is gone.
        assert_eq!(near.read(&mut [0; 64]).await.unwrap(), 0);
    }
    assert_eq!(controller.stats().handshake_timeouts, 2);
}

#[tokio::test]
async fn server_that_says_nothing_is_given_up() {
    let ca = Ca::new("ca");
    let mut config = TlsConfig::default();
    config.handshake_timeout = SOON;
    let agent = tls_with(config, &ca.endpoint(AGENT), ca.verifier());
    let (near, _far) = tokio::io::duplex(16_384);
    let error = agent.connect(near, "localhost", None).await;
    assert!(matches!(error, Err(TlsError::Timeout)), "{error:?}");
}

#[tokio::test]
async fn beyond_the_bound_of_handshakes_the_oldest_is_ended_and_a_newcomer_gets_in() {
    let ca = Ca::new("ca");
    let mut config = TlsConfig::default();
    config.max_half_open = 2;
    let agent = tls(&ca.endpoint(AGENT), ca.verifier());
    let controller = tls_with(config, &ca.endpoint(CONTROLLER), ca.verifier());
    let mut idle = Vec::new();
    let began = controller.clone();
    for n in 1..=2 {
        let (near, far) = tokio::io::duplex(64);
        let controller = controller.clone();
        let accepting = tokio::spawn(async move { controller.accept(far).await });
        idle.push((near, accepting));
        while began.stats().handshakes_in < n {
            tokio::task::yield_now().await;
        }
    }
    let (near, far) = shake(&agent, &controller, "localhost", None).await;
    assert!(near.is_ok() && far.is_ok());
    let (_near, first) = idle.remove(0);
    let error = timeout(PATIENCE, first).await.unwrap().unwrap();
    assert!(matches!(error, Err(TlsError::Evicted)), "{error:?}");
    let (_near, second) = idle.remove(0);
    assert!(!second.is_finished());
    assert_eq!(controller.stats().half_open_evicted, 1);
    second.abort();
}

#[tokio::test]
async fn one_prefix_and_all_together_have_a_budget() {
    let ca = Ca::new("ca");
    let budget = |burst| Budget {
        burst,
        per_second: 0,
    };
    let mut config = TlsConfig::default();
    config.prefix_budget = budget(2);
    config.global_budget = budget(3);
    config.handshake_timeout = SOON;
    let controller = tls_with(config, &ca.endpoint(CONTROLLER), ca.verifier());
    let come = async |from: &str| {
        let (_near, far) = tokio::io::duplex(64);
        let from: SocketAddr = from.parse().unwrap();
        controller.accept_from(far, from).await.unwrap_err()
    };
    for _ in 0..2 {
        assert!(matches!(come(FROM).await, TlsError::Timeout));
    }
    assert!(matches!(come("192.0.2.77:1").await, TlsError::OverBudget));
    assert!(matches!(come("198.51.100.1:1").await, TlsError::Timeout));
    assert!(matches!(come("203.0.113.1:1").await, TlsError::OverBudget));
    let stats = controller.stats();
    assert_eq!(stats.handshakes_in, 3);
    assert_eq!(stats.prefix_budget_exceeded, 1);
    assert_eq!(stats.global_budget_exceeded, 1);
}

#[tokio::test]
async fn handshake_that_is_dropped_leaves_nothing_behind() {
    let ca = Ca::new("ca");
    let mut config = TlsConfig::default();
    config.max_half_open = 1;
    let controller = tls_with(config, &ca.endpoint(CONTROLLER), ca.verifier());
    for _ in 0..3 {
        let (_near, far) = tokio::io::duplex(64);
        assert!(
            timeout(Duration::from_millis(1), controller.accept(far))
                .await
                .is_err()
        );
    }
    assert_eq!(controller.stats().half_open_evicted, 0);
    assert_eq!(controller.stats().open, 0);
}

/// Somebody who shows a certificate, and signs with another key.
fn impostor(shown: &Issued, own: &Issued) -> Arc<CertifiedKey> {
    let chain = CertificateDer::pem_slice_iter(shown.chain.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    Arc::new(CertifiedKey::new(chain.map(Result::unwrap).collect(), key))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[tokio::test]
async fn client_that_does_not_hold_the_key_of_its_certificate_is_refused() {
    let ca = Ca::new("ca");
    let controller = tls(&ca.endpoint(CONTROLLER), ca.verifier());
    let keys = impostor(&ca.endpoint(AGENT), &ca.endpoint(AGENT));
    let mut roots = rustls::RootCertStore::empty();
    let root = ca.root_pem();
    for certificate in CertificateDer::pem_slice_iter(root.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(keys.clone())));
        let (near, far) = tokio::io::duplex(16_384);
        let name = "localhost".try_into().unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let client = async {
            if let Ok(mut stream) = connector.connect(name, near).await {
                stream.read(&mut [0; 1]).await.unwrap_err();
            }
        };
        let ((), result) = tokio::join!(client, controller.accept(far));
        assert!(
            matches!(&result, Err(TlsError::Engine(why)) if why.contains("BadSignature")),
            "{result:?}"
        );
    }
    assert_eq!(controller.stats().established, 0);
}

#[tokio::test]
async fn server_that_does_not_hold_the_key_of_its_certificate_is_refused() {
    let ca = Ca::new("ca");
    let agent = tls(&ca.endpoint(AGENT), ca.verifier());
    let keys = impostor(&ca.endpoint(CONTROLLER), &ca.endpoint(CONTROLLER));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(keys.clone())));
        let (near, far) = tokio::io::duplex(16_384);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (result, _) =
            tokio::join!(agent.connect(near, "localhost", None), acceptor.accept(far));
        assert!(
            matches!(&result, Err(TlsError::Engine(why)) if why.contains("BadSignature")),
            "{result:?}"
        );
    }
    assert_eq!(agent.stats().established, 0);
}
