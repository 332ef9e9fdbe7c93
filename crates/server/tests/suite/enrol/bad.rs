//! Bad input: what is told is the failInfo that RFC 9483 §3.5 and §3.6 name, it is in the audit log, and nothing is issued.

use der::asn1::OctetString;
use homefleet_cmp::asn1::{Body, BodyKind, CertStatus, EncodedMessage, Failure, Message};
use homefleet_cmp::crypto::{Hash, KeyKind};

use super::client::{Http, Reply, Requester, certificate, key, request, template};
use super::world::{DEVICE, SECRET, World};

/// A CA, a device with a secret, and a connection.
async fn world() -> (World, Http) {
    let world = World::with(|config| config.cmp.weak_macs = false).await;
    world.add_secret(DEVICE, SECRET).await;
    let http = Http::to(world.address());
    (world, http)
}

/// The answer refuses for this, there is a line about it in the audit log, and there is no certificate.
async fn assert_refused(world: &World, reply: &Reply, failure: Failure) {
    assert_eq!(reply.failure(), [failure], "{}", reply.status_info());
    let audit = world.audit().await;
    let (_, _, detail, allowed) = audit.iter().find(|it| !it.3).unwrap();
    assert!(
        !allowed && detail.starts_with(&format!("{failure:?}: ")),
        "{detail}"
    );
    assert_eq!(world.issued().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_der_is_bad_data() {
    let (world, mut http) = world().await;
    let ir = Requester::by_secret(DEVICE).ir(&key(KeyKind::P256));
    for length in [0, 1, 7, ir.len() / 2, ir.len() - 1] {
        let reply = http.post(&ir[..length]);
        assert_refused(&world, &reply, Failure::BadDataFormat).await;
    }
    let longer = [&ir[..], &[0]].concat();
    assert_refused(&world, &http.post(&longer), Failure::BadDataFormat).await;
    // The same connection, and the message whole.
    assert!(http.post(&ir).failure().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_message_is_not_read() {
    let (world, mut http) = world().await;
    let reply = http.post(&vec![0x30; 64 * 1024 + 1]);
    assert_eq!(reply.status, 413);
    assert_eq!(world.issued().await, 0);
    // One without a length is not read any further either.
    let mut chunked = b"POST /.well-known/cmp HTTP/1.1\r\nHost: ca\r\nContent-Type: application/pkixcmp\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..70 {
        chunked.extend_from_slice(b"400\r\n");
        chunked.extend_from_slice(&[0x30; 1024]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(Http::to(world.address()).raw(&chunked).status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn deeply_nested_der_is_bad_data() {
    let (world, mut http) = world().await;
    let mut deep = Vec::new();
    for _ in 0..10_000 {
        let mut next = vec![0x30, 0x84];
        next.extend_from_slice(&u32::try_from(deep.len()).unwrap().to_be_bytes());
        next.append(&mut deep);
        deep = next;
    }
    assert_refused(&world, &http.post(&deep), Failure::BadDataFormat).await;
    // Messages in messages, deeper than they may be: the outer protection already has no right to be there.
    let mut requester = Requester::by_secret(DEVICE);
    let mut message = requester.ir(&key(KeyKind::P256));
    for _ in 0..5 {
        let inner = EncodedMessage::from_der(&message).unwrap();
        message = requester.message(Body::Nested(vec![inner]), None, |_| ());
    }
    let reply = http.post(&message);
    assert!(!reply.failure().is_empty());
    assert_eq!(world.issued().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_content_type_or_method_or_path_is_refused_by_http() {
    let (world, mut http) = world().await;
    let ir = Requester::by_secret(DEVICE).ir(&key(KeyKind::P256));
    let send = |http: &mut Http, line: &str, kind: &str| {
        let head = format!(
            "{line} HTTP/1.1\r\nHost: ca\r\n{kind}Content-Length: {}\r\n\r\n",
            ir.len()
        );
        http.raw(&[head.as_bytes(), &ir].concat())
    };
    let path = "POST /.well-known/cmp";
    for kind in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/pkixcmpx\r\n",
    ] {
        assert_eq!(send(&mut http, path, kind).status, 415);
    }
    let good = "Content-Type: application/PKIXCMP; charset=x\r\n";
    let reply = send(&mut http, "PUT /.well-known/cmp", good);
    assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")));
    for path in [
        "POST /",
        "POST /.well-known/cmpx",
        "POST /.well-known/cmp/unknown",
        "POST /.well-known/cmp/p/nobody",
    ] {
        assert_eq!(send(&mut http, path, good).status, 404, "{path}");
    }
    assert_eq!(world.issued().await, 0);
    assert_eq!(send(&mut http, path, good).status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_mac_is_a_bad_message_check() {
    let (world, mut http) = world().await;
    let key = key(KeyKind::P256);
    let wrong = Requester::by(DEVICE, "guessed").ir(&key);
    assert_refused(&world, &http.post(&wrong), Failure::BadMessageCheck).await;
    // Who is not known is told the same.
    let unknown = Requester::by("os::00D09E-1", SECRET).ir(&key);
    let reply = http.post(&unknown);
    assert_refused(&world, &reply, Failure::BadMessageCheck).await;
    let texts = [http.post(&wrong), reply].map(|reply| reply.status_info().status_string);
    assert_eq!(texts[0], texts[1]);
    // What was changed on the way.
    let mut changed = Requester::by_secret(DEVICE).ir(&key);
    let at = changed.windows(3).position(|it| it == b"new").unwrap();
    changed[at] ^= 1;
    assert_refused(&world, &http.post(&changed), Failure::BadMessageCheck).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unprotected_message_is_a_bad_message_check() {
    let (world, mut http) = world().await;
    let ir = Requester::by_secret(DEVICE).ir(&key(KeyKind::P256));
    let mut message = Message::decode(&ir, &Default::default()).unwrap();
    message.protection = None;
    let reply = http.post(&message.encode().unwrap());
    assert_refused(&world, &reply, Failure::BadMessageCheck).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weak_mac_is_a_bad_algorithm() {
    let (world, _) = world().await;
    world.key("new");
    let (good, printed) = world
        .cmp(&format!(
            "-cmd ir {} -newkey new.key -subject /CN=new -certout new.pem",
            super::world::by_secret(DEVICE)
        ))
        .await;
    // It cannot verify a signature, so it does not believe the reason; the audit log has it.
    assert!(!good, "{printed}");
    let audit = world.audit().await;
    assert!(audit.iter().any(|it| it.2.starts_with("BadAlg: ") && !it.3));
    assert_eq!(world.issued().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_transaction_is_in_use() {
    let (world, mut http) = world().await;
    let mut requester = Requester::by_secret(DEVICE);
    let key = key(KeyKind::P256);
    let ir = requester.ir(&key);
    assert!(http.post(&ir).failure().is_empty());
    let again = http.post(&ir);
    assert_eq!(again.failure(), [Failure::TransactionIdInUse]);
    // Another connection, another message, the same transaction.
    let other = Http::to(world.address()).post(&requester.ir(&key));
    assert_eq!(other.failure(), [Failure::TransactionIdInUse]);
    assert_eq!(world.issued().await, 1);
    let audit = world.audit().await;
    assert!(
        audit
            .iter()
            .any(|it| it.2.starts_with("TransactionIdInUse: "))
    );
}

/// The confirmation of a certificate, with this hash.
fn cert_conf(hash: &[u8]) -> Body {
    Body::CertConf(vec![CertStatus {
        cert_hash: OctetString::new(hash).unwrap(),
        cert_req_id: 0,
        status_info: None,
        hash_alg: None,
    }])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_nonce_is_a_bad_nonce() {
    let (world, mut http) = world().await;
    let mut requester = Requester::by_secret(DEVICE);
    let ir = requester.ir(&key(KeyKind::P256));
    let first = Message::decode(&ir, &Default::default()).unwrap();
    let ip = http.post(&ir).message();
    let hash = Hash::Sha256.digest(&certificate(&ip).to_der());
    let used = first.header.sender_nonce.clone();
    let replayed = requester.message(cert_conf(&hash), Some(&ip), |header| {
        header.sender_nonce = used
    });
    assert_eq!(http.post(&replayed).failure(), [Failure::BadSenderNonce]);
    let unasked = requester.message(cert_conf(&hash), Some(&first), |_| ());
    assert_eq!(http.post(&unasked).failure(), [Failure::BadRecipientNonce]);
    // The transaction is none the worse for it.
    let good = requester.message(cert_conf(&hash), Some(&ip), |_| ());
    assert_eq!(http.post(&good).message().body.kind(), BodyKind::Pkiconf);
    let found = world.access.certificates(Default::default()).await.unwrap();
    assert!(
        found
            .certificates
            .iter()
            .all(|it| it.state == homefleet_api::CertificateState::Valid)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_of_another_certificate_revokes_ours() {
    let (world, mut http) = world().await;
    let mut requester = Requester::by_secret(DEVICE);
    let ip = http.post(&requester.ir(&key(KeyKind::P256))).message();
    let wrong = requester.message(cert_conf(&[7; 32]), Some(&ip), |_| ());
    assert_eq!(http.post(&wrong).failure(), [Failure::BadCertId]);
    let found = world.access.certificates(Default::default()).await.unwrap();
    let ours = found
        .certificates
        .iter()
        .find(|it| it.device.is_some())
        .unwrap();
    assert_eq!(ours.state, homefleet_api::CertificateState::Revoked);
    // It used up nothing: the device may ask again.
    let mut requester = Requester::by_secret(DEVICE);
    assert!(
        http.post(&requester.ir(&key(KeyKind::P256)))
            .failure()
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_confirms_is_revoked() {
    let world = World::with(|config| config.cmp.confirm_within = 1).await;
    world.add_secret(DEVICE, SECRET).await;
    let mut http = Http::to(world.address());
    let ip = http.post(&Requester::by_secret(DEVICE).ir(&key(KeyKind::P256)));
    assert!(ip.failure().is_empty());
    for _ in 0..600 {
        let found = world.access.certificates(Default::default()).await.unwrap();
        let ours = found
            .certificates
            .into_iter()
            .find(|it| it.device.is_some())
            .unwrap();
        if ours.state == homefleet_api::CertificateState::Revoked {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("it is still good");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_by_another_key_is_a_bad_pop() {
    let (world, mut http) = world().await;
    let mut requester = Requester::by_secret(DEVICE);
    let (mine, other) = (key(KeyKind::P256), key(KeyKind::P256));
    let body = Body::Ir(vec![request(template("new", &other), Some(&mine))]);
    let reply = http.post(&requester.message(body, None, |_| ()));
    assert_refused(&world, &reply, Failure::BadPop).await;
    let body = Body::Ir(vec![request(template("new", &other), None)]);
    let reply = http.post(&Requester::by_secret(DEVICE).message(body, None, |_| ()));
    assert_refused(&world, &reply, Failure::BadPop).await;
    // Only an RA may say that it was verified.
    let mut vouched = request(template("new", &other), None);
    vouched.popo = Some(homefleet_cmp::asn1::ProofOfPossession::RaVerified(
        der::asn1::Null,
    ));
    let reply =
        http.post(&Requester::by_secret(DEVICE).message(Body::Ir(vec![vouched]), None, |_| ()));
    assert_refused(&world, &reply, Failure::BadPop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_outside_the_profile_is_a_bad_algorithm() {
    let world = World::with(|config| {
        config.pki.profile[0].keys = vec!["p384".to_owned()];
        config.pki.default_profile = "open".to_owned();
    })
    .await;
    world.add_secret(DEVICE, SECRET).await;
    let mut http = Http::to(world.address());
    let reply = http.post(&Requester::by_secret(DEVICE).ir(&key(KeyKind::P256)));
    assert_refused(&world, &reply, Failure::BadAlg).await;
    let reply = http.post(&Requester::by_secret(DEVICE).ir(&key(KeyKind::P384)));
    assert!(reply.failure().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_profiles_in_one_request_are_a_bad_request() {
    let (world, mut http) = world().await;
    let key = key(KeyKind::P256);
    let mut ask = |path: &str, profile: &str| {
        let mut requester = Requester::by_secret(DEVICE);
        let body = Body::Ir(vec![request(template("new", &key), Some(&key))]);
        let info = homefleet_cmp::asn1::Info::CertProfile(vec![profile.to_owned()]);
        let ir = requester.message(body, None, |header| {
            header.general_info = Some(vec![info.write().unwrap()]);
        });
        http.post_to(path, &ir)
    };
    let reply = ask("/.well-known/cmp/p/open", "device");
    assert_refused(&world, &reply, Failure::BadRequest).await;
    let reply = ask("/.well-known/cmp", "nobody");
    assert_refused(&world, &reply, Failure::BadRequest).await;
    assert!(ask("/.well-known/cmp/p/open", "open").failure().is_empty());
    let found = world.access.certificates(Default::default()).await.unwrap();
    assert!(found.certificates.iter().any(|it| it.profile == "open"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_too_often_is_told_when_to_come_again() {
    let world = World::with(|config| {
        (config.cmp.per_second, config.cmp.burst) = (1, 3);
    })
    .await;
    let mut http = Http::to(world.address());
    for _ in 0..3 {
        assert_eq!(http.post(b"x").status, 200);
    }
    let reply = http.post(b"x");
    assert_eq!(reply.status, 429);
    assert!(reply.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_1_0_client_is_told_the_length() {
    let (_world, mut http) = world().await;
    let ir = Requester::by_secret(DEVICE).ir(&key(KeyKind::P256));
    let head = format!(
        "POST /.well-known/cmp HTTP/1.0\r\nContent-Type: application/pkixcmp\r\nContent-Length: {}\r\n\r\n",
        ir.len()
    );
    let reply = http.raw(&[head.as_bytes(), &ir].concat());
    assert!(reply.header("transfer-encoding").is_none());
    assert!(reply.failure().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_for_the_next_request() {
    let (world, mut http) = world().await;
    let mut requester = Requester::by_secret(DEVICE);
    let ip = http.post(&requester.ir(&key(KeyKind::P256))).message();
    let hash = Hash::Sha256.digest(&certificate(&ip).to_der());
    let conf = requester.message(cert_conf(&hash), Some(&ip), |_| ());
    assert_eq!(http.post(&conf).message().body.kind(), BodyKind::Pkiconf);
    assert_eq!(world.issued().await, 1);
}
