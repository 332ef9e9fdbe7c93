//! CMP over DTLS: clients with and without a certificate, servers that can be verified and that cannot be yet.

use std::sync::Arc;
use std::time::Duration;

use homefleet_cmp::client::Outcome;
use homefleet_net::cmp::{
    Client, ClientConfig, CoapConfig, CoapListener, ExchangeError, Scheme, Secure, ServerTrust,
};
use homefleet_net::dtls::{self, Verifier, Versions};
use homefleet_trust::{Refusal, anchors_from_pem};

use super::client::config;
use super::world::{TestCa, bind, direct, echo, enroll, secure, secure_url};
use crate::cmp_world::by_secret;
use crate::support::pair::AGENT;
use crate::support::pki::Ca;

fn anchored(ca: &Ca) -> ServerTrust {
    ServerTrust::Anchors(anchors_from_pem(&ca.root_pem()).unwrap())
}

fn at(versions: Versions, config: ClientConfig) -> ClientConfig {
    ClientConfig {
        dtls: dtls::Config {
            versions,
            ..config.dtls.clone()
        },
        ..config
    }
}

fn callers(ca: &Ca) -> Option<Arc<dyn Verifier>> {
    Some(ca.verifier())
}

#[tokio::test]
async fn a_client_without_a_certificate_is_served_and_nobody_is_named() {
    let ca = Ca::new("CMP CA");
    for versions in [Versions::Dtls12, Versions::Dtls13] {
        let service = TestCa::new();
        let listener = bind(secure(&ca, callers(&ca)), service.clone());
        let client = Client::new(at(versions, config(anchored(&ca)))).unwrap();
        let outcome = enroll(&client, &secure_url(&listener), by_secret()).await;
        assert!(matches!(outcome.unwrap(), Outcome::Certificate(_)));
        let requests = service.requests();
        assert_eq!(requests.len(), 2);
        assert!(
            requests
                .iter()
                .all(|request| { request.scheme == Scheme::Coaps && request.identity.is_none() })
        );
        assert_eq!(listener.stats().identified, 0);
        // One association for the whole transaction (RFC 9482 §4).
        assert_eq!(listener.stats().node.dtls.established, 1);
    }
}

#[tokio::test]
async fn a_client_whose_certificate_is_good_is_named() {
    let ca = Ca::new("CMP CA");
    for versions in [Versions::Dtls12, Versions::Dtls13] {
        let service = TestCa::new();
        let listener = bind(secure(&ca, callers(&ca)), service.clone());
        let config = ClientConfig {
            identity: Some(ca.endpoint(AGENT).credentials()),
            ..at(versions, config(anchored(&ca)))
        };
        let client = Client::new(config).unwrap();
        let outcome = enroll(&client, &secure_url(&listener), by_secret()).await;
        assert!(matches!(outcome.unwrap(), Outcome::Certificate(_)));
        let requests = service.requests();
        assert!(requests.iter().all(|request| {
            let identity = request.identity.as_ref();
            identity.is_some_and(|peer| peer.is_endpoint(AGENT))
        }));
        assert_eq!(listener.stats().identified, 2);
    }
}

#[tokio::test]
async fn a_client_whose_certificate_is_not_good_is_served_and_not_named() {
    let ca = Ca::new("CMP CA");
    let other = Ca::new("Another CA");
    for trusted in [callers(&ca), None] {
        let service = TestCa::new();
        let listener = bind(secure(&ca, trusted), service.clone());
        let config = ClientConfig {
            identity: Some(direct(&other, AGENT).credentials()),
            ..config(anchored(&ca))
        };
        let client = Client::new(config).unwrap();
        let outcome = enroll(&client, &secure_url(&listener), by_secret()).await;
        assert!(matches!(outcome.unwrap(), Outcome::Certificate(_)));
        let requests = service.requests();
        assert!(requests.iter().all(|request| request.identity.is_none()));
    }
}

#[tokio::test]
async fn a_server_that_is_not_trusted_gets_nothing() {
    let ca = Ca::new("CMP CA");
    let other = Ca::new("Another CA");
    let service = TestCa::new();
    let listener = bind(secure(&ca, None), service.clone());
    let client = Client::new(config(anchored(&other))).unwrap();
    let outcome = enroll(&client, &secure_url(&listener), by_secret()).await;
    let Err(ExchangeError::Untrusted(refusal)) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(*refusal, Refusal::UnknownIssuer);
    assert_eq!(service.requests().len(), 0);
}

#[tokio::test]
async fn a_server_under_another_name_gets_nothing() {
    let ca = Ca::new("CMP CA");
    let listener = bind(secure(&ca, None), echo());
    let client = Client::new(config(anchored(&ca))).unwrap();
    let port = listener.secure_addr().unwrap().port();
    let url = format!("coaps://127.0.0.1:{port}").parse().unwrap();
    let error = client.exchange(&url, None, b"x").await.unwrap_err();
    let ExchangeError::Untrusted(refusal) = error else {
        panic!("{error:?}");
    };
    assert_eq!(*refusal, Refusal::NameMismatch);
}

#[tokio::test]
async fn any_server_is_talked_to_where_cmp_itself_says_whom_to_believe() {
    let ca = Ca::new("CMP CA");
    let service = TestCa::new();
    let listener = bind(secure(&ca, None), service.clone());
    for versions in [Versions::Dtls12, Versions::Dtls13] {
        let client = Client::new(at(versions, config(ServerTrust::FromCmp))).unwrap();
        let outcome = enroll(&client, &secure_url(&listener), by_secret()).await;
        assert!(matches!(outcome.unwrap(), Outcome::Certificate(_)));
    }
}

#[tokio::test]
async fn associations_without_certificate_are_bounded_and_the_most_silent_goes() {
    let ca = Ca::new("CMP CA");
    let config_of_server = secure(&ca, None);
    let listener = bind(
        CoapConfig {
            dtls: dtls::Config {
                max_not_verified: 2,
                max_per_certificate: 1,
                ..config_of_server.dtls.clone()
            },
            ..config_of_server
        },
        echo(),
    );
    let url = secure_url(&listener);
    let clients: Vec<Client> = (0..3)
        .map(|_| Client::new(config(ServerTrust::FromCmp)).unwrap())
        .collect();
    for client in &clients {
        assert_eq!(client.exchange(&url, None, b"x").await.unwrap(), b"x");
    }
    let stats = listener.stats().node;
    assert_eq!(stats.sessions, 2);
    assert_eq!(stats.dtls.certificate_evicted, 1);
    // The one that was put out comes again.
    assert_eq!(clients[0].exchange(&url, None, b"y").await.unwrap(), b"y");
}

#[tokio::test]
async fn an_association_is_reused_by_transactions_that_follow_and_opened_anew_after_it_ended() {
    let ca = Ca::new("CMP CA");
    let listener = bind(secure(&ca, None), TestCa::new());
    let client = Client::new(config(ServerTrust::FromCmp)).unwrap();
    let url = secure_url(&listener);
    for _ in 0..2 {
        enroll(&client, &url, by_secret()).await.unwrap();
    }
    assert_eq!(listener.stats().node.dtls.established, 1);
    client.close().await;
    enroll(&client, &url, by_secret()).await.unwrap();
    assert_eq!(listener.stats().node.dtls.established, 2);
}

#[tokio::test]
async fn a_server_that_restarted_is_reached_over_a_new_association() {
    let ca = Ca::new("CMP CA");
    let bound = secure(&ca, None);
    let listener = bind(bound.clone(), echo());
    let client = Client::new(config(ServerTrust::FromCmp)).unwrap();
    let url = secure_url(&listener);
    assert_eq!(client.exchange(&url, None, b"x").await.unwrap(), b"x");
    let address = listener.secure_addr().unwrap();
    listener.shutdown().await;
    drop(listener);
    let again = CoapConfig {
        secure: bound.secure.clone().map(|secure| Secure {
            listen: address,
            ..secure
        }),
        ..bound
    };
    let listener = loop {
        match CoapListener::bind(again.clone(), echo()) {
            Ok(listener) => break listener,
            // The old one is still on its way out.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    assert_eq!(client.exchange(&url, None, b"y").await.unwrap(), b"y");
    assert_eq!(listener.stats().messages, 1);
}

#[tokio::test]
async fn a_server_that_takes_long_gets_the_message_once() {
    let ca = Ca::new("CMP CA");
    let service = TestCa::slow(Duration::from_secs(1));
    let listener = bind(secure(&ca, None), service.clone());
    let doubtful = ClientConfig {
        doubt_after: Duration::from_millis(200),
        ..config(ServerTrust::FromCmp)
    };
    let client = Client::new(doubtful).unwrap();
    // The second exchange finds an open association, and its answer comes later than doubts would.
    let outcome = enroll(&client, &secure_url(&listener), by_secret()).await;
    assert!(matches!(outcome.unwrap(), Outcome::Certificate(_)));
    assert_eq!(service.requests().len(), 2);
    assert_eq!(listener.stats().node.dtls.established, 1);
}
