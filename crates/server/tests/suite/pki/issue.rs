//! Issuing: what a certificate has, and every reason not to issue one.

use std::time::Duration;

use homefleet_cmp::asn1::Failure;
use homefleet_cmp::crypto::KeyKind;
use homefleet_server::pki::{
    AltName, Authorisation, CaKeyKind, Initial, IssueError, KeyClass, KeyRefusal, Reason,
    Requested, TemplateError, Who,
};
use homefleet_server::store::AuditLog as _;
use homefleet_server::store::pki::{CertificateQuery, CertificateState};

use super::world::{DEVICE, World, key, openssl, order, profile};

const DAY: Duration = Duration::from_secs(86_400);

/// What a request asks for, from DER as it comes.
fn requested(subject: &str, san: &[&str]) -> Requested {
    Requested {
        subject: Some(subject.parse().unwrap()),
        san: san.iter().map(|name| name.parse().unwrap()).collect(),
        ..Requested::default()
    }
}

#[tokio::test]
async fn openssl_verifies_what_is_issued() {
    let urls = |config: &mut homefleet_server::Config| {
        config.pki.crl_urls = vec!["http://ca.example.net/crl".to_owned()];
        config.pki.ocsp_urls = vec!["http://ca.example.net/ocsp".to_owned()];
        config.pki.ca_issuers_urls = vec!["http://ca.example.net/ca".to_owned()];
    };
    for kind in CaKeyKind::ALL {
        // RSA keys of 4096 bits take seconds to make; 3072 bits go the same way.
        if kind == CaKeyKind::Rsa4096 {
            continue;
        }
        let world = World::with(kind, urls).await;
        let issued = world.pki.issue(order(DEVICE), world.now()).await.unwrap();
        let [root, chain, certificate] = world.files(&issued.der);
        let (good, text) = openssl(&[
            "verify",
            "-x509_strict",
            "-purpose",
            "sslclient",
            "-CAfile",
            &root,
            "-untrusted",
            &chain,
            &certificate,
        ]);
        assert!(good, "{kind}: {text}");
        let (_, text) = openssl(&["x509", "-in", &certificate, "-noout", "-text"]);
        for part in [
            &format!("URI:urn:bbf:usp:id:{DEVICE}"),
            &format!("Subject: CN = {DEVICE}"),
            "TLS Web Server Authentication, TLS Web Client Authentication",
            "URI:http://ca.example.net/crl",
            "OCSP - URI:http://ca.example.net/ocsp",
            "CA Issuers - URI:http://ca.example.net/ca",
            "CA:FALSE",
        ] {
            assert!(text.contains(part), "{kind}: {part} in {text}");
        }
        assert_eq!(issued.serial.as_bytes().len(), 16);
        assert!(!issued.modified);
    }
}

#[tokio::test]
async fn trust_establishes_the_endpoint_of_an_issued_certificate() {
    use homefleet_trust::{Connection, Context, Policy, Time};
    let world = World::new().await;
    let issued = world.pki.issue(order(DEVICE), world.now()).await.unwrap();
    let [root, _, certificate] = world.files(&issued.der);
    let chain = world.dir.path().join("chain.pem");
    let presented =
        std::fs::read_to_string(certificate).unwrap() + &std::fs::read_to_string(chain).unwrap();
    let chain = homefleet_trust::chain_from_pem(&presented).unwrap();
    let root = std::fs::read_to_string(root).unwrap();
    let anchors = homefleet_trust::anchors_from_pem(&root).unwrap();
    let policy = Policy::default();
    let time = Time::Accurate(std::time::SystemTime::now());
    let context = Context::new(&anchors, time, Connection::Accepted, &policy);
    let decision = homefleet_trust::decide(&chain, &context);
    assert!(decision.is_established(), "{decision:?}");
    assert_eq!(decision.peer.unwrap().endpoint_ids, [DEVICE]);
}

#[tokio::test]
async fn what_is_issued_is_in_the_inventory_and_the_audit_log() {
    let world = World::new().await;
    let issued = world.pki.issue(order(DEVICE), world.now()).await.unwrap();
    let record = world
        .pki
        .certificate(&issued.serial)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(record.der, issued.der);
    assert_eq!(record.serial_number(), issued.serial);
    assert_eq!(record.state, CertificateState::Unconfirmed);
    assert_eq!(record.device.as_deref(), Some(DEVICE));
    assert_eq!(
        record.not_after,
        homefleet_server::clock::Millis(world.now().plus(90 * DAY).0 / 1000 * 1000)
    );
    let audit = world.store.audit(None, 1).await.unwrap();
    assert_eq!(audit[0].action, "certificate.issue");
    assert_eq!(audit[0].subject, issued.serial.to_string());
    assert!(
        audit[0].allowed && audit[0].detail.contains("manufacturer"),
        "{audit:?}"
    );
}

#[tokio::test]
async fn a_profile_that_is_not_there_is_refused() {
    let world = World::new().await;
    let mut order = order(DEVICE);
    order.profile = Some("phone".to_owned());
    let refused = world.pki.issue(order, world.now()).await.unwrap_err();
    assert_eq!(refused, IssueError::Profile("phone".to_owned()));
    assert_eq!(refused.failure(), Failure::BadCertTemplate);
}

#[tokio::test]
async fn who_the_profile_does_not_admit_is_refused() {
    let world = World::with(CaKeyKind::P256, |config| {
        let closed = profile("closed", |profile| {
            profile.who = vec!["approval".to_owned()]
        });
        config.pki.profile = vec![closed];
    })
    .await;
    let mut order = order(DEVICE);
    order.profile = Some("closed".to_owned());
    let refused = world
        .pki
        .issue(order.clone(), world.now())
        .await
        .unwrap_err();
    let expected = IssueError::NotAdmitted {
        profile: "closed".to_owned(),
        who: Who::Manufacturer,
    };
    assert_eq!(refused, expected);
    order.profile = None;
    order.central_key = true;
    let refused = world.pki.issue(order, world.now()).await.unwrap_err();
    assert_eq!(refused, IssueError::CentralKey);
    assert_eq!(refused.failure(), Failure::NotAuthorized);
}

#[tokio::test]
async fn a_key_outside_the_profile_is_refused() {
    let world = World::with(CaKeyKind::P256, |config| {
        let small = profile("small", |profile| profile.keys = vec!["p256".to_owned()]);
        let large = profile("large", |profile| profile.min_rsa_bits = 4096);
        config.pki.profile = vec![small, large];
    })
    .await;
    let refused = async |profile: &str, public_key: Vec<u8>| {
        let mut order = order(DEVICE);
        order.profile = Some(profile.to_owned());
        order.public_key = public_key;
        world.pki.issue(order, world.now()).await.unwrap_err()
    };
    let not = |class| IssueError::Key(KeyRefusal::NotInProfile(class));
    assert_eq!(
        refused("small", key(KeyKind::P384)).await,
        not(KeyClass::P384)
    );
    assert_eq!(
        refused("small", key(KeyKind::Ed25519)).await,
        not(KeyClass::Ed25519)
    );
    let small = refused("large", key(KeyKind::Rsa)).await;
    let expected = KeyRefusal::Size {
        found: 3072,
        least: 4096,
        most: 4096,
    };
    assert_eq!(small, IssueError::Key(expected));
    assert_eq!(small.failure(), Failure::BadCertTemplate);

    let unreadable = refused("small", vec![0x30, 0]).await;
    assert_eq!(unreadable, IssueError::Key(KeyRefusal::Kind));
    assert_eq!(unreadable.failure(), Failure::BadAlg);
    let mut off_curve = key(KeyKind::P256);
    *off_curve.last_mut().unwrap() ^= 1;
    assert_eq!(
        refused("small", off_curve).await,
        IssueError::Key(KeyRefusal::Invalid)
    );
    assert_eq!(
        world.pki.find(all(&world)).await.unwrap().len(),
        2,
        "the CA's own"
    );
}

fn all(world: &World) -> CertificateQuery {
    CertificateQuery {
        now: world.now(),
        limit: 100,
        ..CertificateQuery::default()
    }
}

#[tokio::test]
async fn a_request_for_another_device_is_refused() {
    let world = World::new().await;
    let mut order = order(DEVICE);
    order.requested = requested("CN=x", &["URI:urn:bbf:usp:id:os::00D09E-666"]);
    let refused = world
        .pki
        .issue(order.clone(), world.now())
        .await
        .unwrap_err();
    let expected = IssueError::OtherDevice {
        asked: "os::00D09E-666".to_owned(),
        known: DEVICE.to_owned(),
    };
    assert_eq!(refused, expected);
    assert_eq!(refused.failure(), Failure::NotAuthorized);
    // Nothing tells which device it is, and the profile does not leave that to the request.
    order.device = None;
    let refused = world.pki.issue(order, world.now()).await.unwrap_err();
    let unknown = TemplateError::Unknown("endpoint_id".to_owned());
    assert_eq!(refused, IssueError::Template(unknown));
}

#[tokio::test]
async fn a_profile_may_leave_the_device_to_the_request() {
    let world = World::with(CaKeyKind::P256, |config| {
        let open = profile("device", |profile| {
            profile.from_request = vec!["device".to_owned()]
        });
        config.pki.profile = vec![open];
    })
    .await;
    let mut order = order(DEVICE);
    order.device = None;
    order.requested.san = vec![format!("URI:urn:bbf:usp:id:{DEVICE}").parse().unwrap()];
    let issued = world.pki.issue(order, world.now()).await.unwrap();
    assert_eq!(issued.record.device.as_deref(), Some(DEVICE));
    assert!(!issued.modified);
}

#[tokio::test]
async fn what_the_profile_overrides_is_told_or_refused() {
    let world = World::with(CaKeyKind::P256, |config| {
        config.pki.profile = vec![profile("strict", |profile| profile.strict = true)];
    })
    .await;
    let other: AltName = "DNS:router.example.net".parse().unwrap();
    let usage = "1.3.6.1.5.5.7.3.8".parse().unwrap();
    let wanted: [(Requested, IssueError); 6] = [
        (
            requested("CN=other", &[]),
            IssueError::Subject("CN=other".to_owned()),
        ),
        (
            Requested {
                san: vec![other.clone()],
                ..Requested::default()
            },
            IssueError::AltName(other.to_string()),
        ),
        (
            Requested {
                not_after: Some(world.now().plus(DAY)),
                ..Requested::default()
            },
            IssueError::Validity,
        ),
        (
            Requested {
                key_usage: Some(0x2000),
                ..Requested::default()
            },
            IssueError::Extension("2.5.29.15".parse().unwrap()),
        ),
        (
            Requested {
                extended_key_usage: Some(vec![usage]),
                ..Requested::default()
            },
            IssueError::Extension("2.5.29.37".parse().unwrap()),
        ),
        (
            Requested {
                others: vec![usage],
                ..Requested::default()
            },
            IssueError::Extension(usage),
        ),
    ];
    for (requested, refusal) in wanted {
        let mut order = order(DEVICE);
        order.requested = requested;
        let issued = world.pki.issue(order.clone(), world.now()).await.unwrap();
        assert!(issued.modified, "{refusal}");
        assert_eq!(issued.record.subject, format!("CN={DEVICE}"));
        order.profile = Some("strict".to_owned());
        assert_eq!(world.pki.issue(order, world.now()).await, Err(refusal));
    }
    let mut same = order(DEVICE);
    same.profile = Some("strict".to_owned());
    same.requested = requested(&format!("CN={DEVICE}"), &[]);
    same.requested.key_usage = Some(0x8000);
    assert!(!world.pki.issue(same, world.now()).await.unwrap().modified);
}

#[tokio::test]
async fn a_request_chooses_what_the_profile_leaves_to_it() {
    let world = World::with(CaKeyKind::P256, |config| {
        let free = profile("free", |profile| {
            profile.from_request = ["subject", "lifetime", "dns", "ip", "email", "uri"]
                .map(str::to_owned)
                .into();
        });
        config.pki.profile = vec![free];
    })
    .await;
    let mut order = order(DEVICE);
    order.profile = Some("free".to_owned());
    let names = [
        "DNS:a.example",
        "IP:192.0.2.1",
        "email:a@example.net",
        "URI:https://a.example/",
    ];
    order.requested = requested("CN=chosen,O=Example", &names);
    let end = world.now().plus(DAY);
    order.requested.not_after = Some(end);
    let issued = world.pki.issue(order.clone(), world.now()).await.unwrap();
    assert!(!issued.modified);
    assert_eq!(issued.record.subject, "CN=chosen,O=Example");
    assert_eq!(issued.record.not_after.0, end.0 / 1000 * 1000);
    let [_, _, certificate] = world.files(&issued.der);
    let (_, text) = openssl(&[
        "x509",
        "-in",
        &certificate,
        "-noout",
        "-ext",
        "subjectAltName",
    ]);
    assert!(
        text.contains(&format!(
            "URI:urn:bbf:usp:id:{DEVICE}, DNS:a.example, IP Address:192.0.2.1, email:a@example.net, URI:https://a.example/"
        )),
        "{text}"
    );
    // Longer than the profile has it is never given, and neither is another kind of name.
    order.requested.not_after = Some(world.now().plus(900 * DAY));
    order.requested.san = vec![AltName::Other(vec![0x88, 1, 42])];
    let issued = world.pki.issue(order, world.now()).await.unwrap();
    assert!(issued.modified);
    assert!(issued.record.not_after <= world.now().plus(90 * DAY));
}

#[tokio::test]
async fn a_certificate_of_a_ca_is_refused() {
    let world = World::new().await;
    let mut order = order(DEVICE);
    // basicConstraints CA:TRUE, as a request carries it.
    let extensions = [
        0x30, 0x11, 0x30, 0x0F, 0x06, 0x03, 0x55, 0x1D, 0x13, 0x01, 0x01, 0xFF, 0x04, 0x05, 0x30,
        0x03, 0x01, 0x01, 0xFF,
    ];
    order.requested = Requested::read(None, Some(&extensions)).unwrap();
    assert_eq!(
        world.pki.issue(order, world.now()).await,
        Err(IssueError::CaRequested)
    );
    let bad = Requested::read(Some(&[0x30, 0x05]), None);
    assert_eq!(bad, Err(IssueError::Malformed("the subject")));
    let bad = Requested::read(None, Some(&extensions[..18]));
    assert_eq!(bad, Err(IssueError::Malformed("the extensions")));
}

#[tokio::test]
async fn more_names_than_a_certificate_may_have_are_refused() {
    let world = World::with(CaKeyKind::P256, |config| {
        let open = profile("open", |profile| {
            profile.from_request = vec!["dns".to_owned()]
        });
        config.pki.profile = vec![open];
    })
    .await;
    let mut order = order(DEVICE);
    order.profile = Some("open".to_owned());
    order.requested.san = (0..32)
        .map(|n| AltName::Dns(format!("d{n}.example")))
        .collect();
    let refused = world.pki.issue(order, world.now()).await.unwrap_err();
    assert_eq!(refused, IssueError::TooManyNames { most: 32 });
}

#[tokio::test]
async fn a_certificate_without_a_name_is_refused() {
    let world = World::with(CaKeyKind::P256, |config| {
        let bare = profile("bare", |profile| {
            profile.subject = None;
            profile.san = Vec::new();
            profile.from_request = vec!["subject".to_owned()];
        });
        config.pki.profile = vec![bare];
    })
    .await;
    let mut order = order(DEVICE);
    order.profile = Some("bare".to_owned());
    assert_eq!(
        world.pki.issue(order, world.now()).await,
        Err(IssueError::Nameless)
    );
}

#[tokio::test]
async fn a_certificate_does_not_outlive_its_ca_and_none_is_issued_after_that() {
    let world = World::new().await;
    world.pass(3649 * DAY);
    let issued = world.pki.issue(order(DEVICE), world.now()).await.unwrap();
    assert!(issued.record.not_after < world.now().plus(2 * DAY));
    world.pass(2 * DAY);
    let refused = world.pki.issue(order(DEVICE), world.now()).await;
    assert_eq!(refused, Err(IssueError::AuthorityExpired));
}

#[tokio::test]
async fn a_renewal_keeps_profile_and_device_and_works_until_the_grace_ends() {
    let world = World::with(CaKeyKind::P256, |config| {
        let phone = profile("phone", |profile| profile.renewal_grace = 10 * 86_400);
        config.pki.profile = vec![phone];
    })
    .await;
    let mut first = order(DEVICE);
    first.profile = Some("phone".to_owned());
    let old = world.pki.issue(first, world.now()).await.unwrap();
    let mut renewal = order(DEVICE);
    renewal.device = None;
    renewal.authorisation = Authorisation::Renewal {
        serial: old.serial.clone(),
    };
    let refused = world.pki.issue(renewal.clone(), world.now()).await;
    assert_eq!(
        refused,
        Err(IssueError::UnconfirmedCertificate(old.serial.clone()))
    );
    world.pki.confirm(&old.serial).await.unwrap();
    let new = world.pki.issue(renewal.clone(), world.now()).await.unwrap();
    assert_eq!(new.record.profile, "phone");
    assert_eq!(new.record.device.as_deref(), Some(DEVICE));

    let mut other = renewal.clone();
    other.device = Some("os::00D09E-666".to_owned());
    let refused = world.pki.issue(other, world.now()).await.unwrap_err();
    assert!(
        matches!(refused, IssueError::OtherDevice { .. }),
        "{refused}"
    );

    world.pass(99 * DAY);
    world.pki.issue(renewal.clone(), world.now()).await.unwrap();
    // Another certificate is not a renewal: there is no grace for it.
    let mut another = renewal.clone();
    another.authorisation = Authorisation::Certificate {
        serial: old.serial.clone(),
    };
    let refused = world.pki.issue(another, world.now()).await.unwrap_err();
    assert!(
        matches!(refused, IssueError::ExpiredCertificate { .. }),
        "{refused}"
    );
    world.pass(2 * DAY);
    let refused = world
        .pki
        .issue(renewal.clone(), world.now())
        .await
        .unwrap_err();
    let expected = IssueError::ExpiredCertificate {
        serial: old.serial.clone(),
        end: old.record.not_after,
    };
    assert_eq!(refused, expected);
    assert_eq!(refused.failure(), Failure::NotAuthorized);

    world
        .pki
        .revoke(&old.serial, Reason::KeyCompromise, "test")
        .await
        .unwrap();
    let refused = world
        .pki
        .issue(renewal.clone(), world.now())
        .await
        .unwrap_err();
    assert_eq!(refused, IssueError::RevokedCertificate(old.serial));
    assert_eq!(refused.failure(), Failure::CertRevoked);
    let unknown = "4711".parse::<homefleet_server::pki::Serial>().unwrap();
    renewal.authorisation = Authorisation::Renewal {
        serial: unknown.clone(),
    };
    let refused = world.pki.issue(renewal, world.now()).await;
    assert_eq!(refused, Err(IssueError::UnknownCertificate(unknown)));
}

#[tokio::test]
async fn when_the_disk_is_full_nothing_is_issued() {
    let world = World::new().await;
    let database = rusqlite::Connection::open(world.dir.path().join("store.sqlite")).unwrap();
    database
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON certificate BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END",
        )
        .unwrap();
    let before = world.store.audit(None, 100).await.unwrap();
    let refused = world
        .pki
        .issue(order(DEVICE), world.now())
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, IssueError::Store(problem) if problem.contains("disk is full")),
        "{refused}"
    );
    assert!(refused.to_string().contains("none was issued"), "{refused}");
    assert_eq!(refused.failure(), Failure::SystemUnavail);
    assert_eq!(
        world.pki.find(all(&world)).await.unwrap().len(),
        2,
        "the CA's own"
    );
    assert_eq!(world.store.audit(None, 100).await.unwrap(), before);
}

#[tokio::test]
async fn certificates_that_were_never_confirmed_are_revoked_at_a_restart() {
    let mut world = World::new().await;
    let open = world.pki.issue(order(DEVICE), world.now()).await.unwrap();
    let confirmed = world.pki.issue(order(DEVICE), world.now()).await.unwrap();
    world.pki.confirm(&confirmed.serial).await.unwrap();
    let mut at_once = order(DEVICE);
    at_once.initial = Initial::Valid;
    let at_once = world.pki.issue(at_once, world.now()).await.unwrap();
    world.again().await;
    let state = async |serial| world.pki.certificate(serial).await.unwrap().unwrap().state;
    assert_eq!(state(&open.serial).await, CertificateState::Revoked);
    assert_eq!(state(&confirmed.serial).await, CertificateState::Valid);
    assert_eq!(state(&at_once.serial).await, CertificateState::Valid);
}

#[tokio::test]
async fn the_inventory_is_searched_and_paged() {
    use homefleet_server::store::pki::StateQuery;
    let world = World::new().await;
    let mut serials = Vec::new();
    for number in 0..5 {
        let device = format!("os::00D09E-{number}");
        let issued = world.pki.issue(order(&device), world.now()).await.unwrap();
        serials.push(issued.serial);
    }
    world.pki.confirm(&serials[0]).await.unwrap();
    world
        .pki
        .revoke(&serials[1], Reason::Superseded, "test")
        .await
        .unwrap();
    let find = async |change: &dyn Fn(&mut CertificateQuery)| {
        let mut query = all(&world);
        query.profile = Some("device".to_owned());
        change(&mut query);
        let found = world.pki.find(query).await.unwrap();
        let place = |serial| serials.iter().position(|known| *known == serial).unwrap();
        found
            .iter()
            .map(|record| place(record.serial_number()))
            .collect::<Vec<_>>()
    };
    assert_eq!(find(&|_| ()).await, [4, 3, 2, 1, 0]);
    let state = |state| move |query: &mut CertificateQuery| query.state = Some(state);
    assert_eq!(find(&state(StateQuery::Valid)).await, [0]);
    assert_eq!(find(&state(StateQuery::Revoked)).await, [1]);
    assert_eq!(find(&state(StateQuery::Unconfirmed)).await, [4, 3, 2]);
    assert!(find(&state(StateQuery::Expired)).await.is_empty());
    assert_eq!(
        find(&|query| query.device = Some("os::00D09E-3".to_owned())).await,
        [3]
    );
    assert_eq!(
        find(&|query| query.subject = Some("cn=OS::00d09e-2".to_owned())).await,
        [2]
    );
    assert_eq!(
        find(&|query| query.serial = Some(serials[4].as_bytes().to_vec())).await,
        [4]
    );
    let soon = find(&|query| query.expiring_before = Some(query.now.plus(89 * DAY))).await;
    assert!(soon.is_empty());
    assert_eq!(
        find(&|query| query.expiring_before = Some(query.now.plus(91 * DAY)))
            .await
            .len(),
        5
    );
    let mut page = all(&world);
    page.limit = 2;
    let first = world.pki.find(page.clone()).await.unwrap();
    page.before = Some(first[1].sequence);
    let second = world.pki.find(page).await.unwrap();
    assert_eq!(second[0].serial_number(), serials[2]);
    let counts = world.pki.counts().await.unwrap();
    assert_eq!(
        (counts.unconfirmed, counts.valid, counts.revoked),
        (3, 3, 1)
    );
    world.pass(91 * DAY);
    assert_eq!(
        find(&|query| {
            query.state = Some(StateQuery::Expired);
            query.now = query.now.plus(91 * DAY);
        })
        .await,
        [4, 3, 2, 0]
    );
    assert_eq!(world.pki.counts().await.unwrap().expired, 6);
}

#[tokio::test]
async fn a_certificate_that_was_revoked_meanwhile_is_found_out_by_the_write() {
    use homefleet_server::store::pki::PkiWrite;
    use homefleet_server::store::{Batch, Store as _, StoreError, Unmet, Write};
    let world = World::new().await;
    let issued = world.pki.issue(order(DEVICE), world.now()).await.unwrap();
    let require = async || {
        let serial = issued.serial.as_bytes().to_vec();
        let write = Write::Pki(PkiWrite::RequireValid { serial });
        world.store.write(Batch::one(write)).await
    };
    let unmet = |answer| match answer {
        Err(StoreError::Condition { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    assert_eq!(unmet(require().await), Unmet::State);
    world.pki.confirm(&issued.serial).await.unwrap();
    require().await.unwrap();
    world
        .pki
        .revoke(&issued.serial, Reason::CertificateHold, "test")
        .await
        .unwrap();
    assert_eq!(unmet(require().await), Unmet::State);
}
