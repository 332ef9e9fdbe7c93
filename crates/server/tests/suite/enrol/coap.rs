//! The same CA over CoAP, plain and over DTLS (RFC 9482).

use std::net::SocketAddr;

use der::asn1::OctetString;
use homefleet_cmp::asn1::{Body, BodyKind, CertStatus, Message};
use homefleet_cmp::crypto::{Hash, KeyKind};
use homefleet_net::cmp::{Client, ClientConfig, ExchangeError, Operation, ServerTrust, Url};

use super::client::{Requester, certificate, key};
use super::world::{SECRET, World};

fn loopback() -> Option<SocketAddr> {
    Some(SocketAddr::from(([127, 0, 0, 1], 0)))
}

async fn exchange(url: &Url, operation: Operation, message: &[u8]) -> Message {
    // The secret is all that is known; what protects the answer is what is believed.
    let client = Client::new(ClientConfig::new(ServerTrust::FromCmp)).unwrap();
    let answer = client.exchange(url, Some(operation), message).await;
    Message::decode(&answer.unwrap(), &Default::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_get_their_certificates_over_coap_and_coaps() {
    let world = World::with(|config| {
        config.cmp.coap_listen = loopback();
        config.cmp.coaps_listen = loopback();
    })
    .await;
    let ways = [
        ("coap", world.server.cmp_coap_addr().unwrap()),
        ("coaps", world.server.cmp_coaps_addr().unwrap()),
    ];
    for (scheme, address) in ways {
        let device = format!("os::00D09E-{scheme}");
        world.add_secret(&device, SECRET).await;
        let url: Url = format!("{scheme}://{address}").parse().unwrap();
        let url = url.with_label("device").unwrap();
        let mut requester = Requester::by_secret(&device);
        let ir = requester.ir(&key(KeyKind::P256));
        let ip = exchange(&url, Operation::Initialization, &ir).await;
        assert_eq!(ip.body.kind(), BodyKind::Ip);
        let hash = Hash::Sha256.digest(&certificate(&ip).to_der());
        let confirmation = Body::CertConf(vec![CertStatus {
            cert_hash: OctetString::new(hash).unwrap(),
            cert_req_id: 0,
            status_info: None,
            hash_alg: None,
        }]);
        let confirmation = requester.message(confirmation, Some(&ip), |_| ());
        let done = exchange(&url, Operation::Initialization, &confirmation).await;
        assert_eq!(done.body.kind(), BodyKind::Pkiconf);
    }
    assert_eq!(world.issued().await, 2);

    // What is refused is refused in CMP, with a code that says so, and a label that is not there by CoAP.
    let url: Url = format!("coap://{}", ways[0].1).parse().unwrap();
    let mut stranger = Requester::by("os::00D09E-none", "not it");
    let ir = stranger.ir(&key(KeyKind::P256));
    let error = exchange(&url, Operation::Initialization, &ir).await;
    assert_eq!(error.body.kind(), BodyKind::Error);
    let client = Client::new(ClientConfig::new(ServerTrust::FromCmp)).unwrap();
    let nowhere = url.with_label("nowhere").unwrap();
    let answer = client.exchange(&nowhere, None, &ir).await;
    let Err(ExchangeError::Refused { code, .. }) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(code.to_string(), "4.04");
    assert_eq!(world.issued().await, 2);
    world.server.stop().await;
}
