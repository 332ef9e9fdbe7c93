//! The optional boxes of the figure in detail: cached session, stored certificate, Trusted Broker, trust on first use.

use std::time::Duration;

use homefleet_trust::{
    Answer, Basis, Connection, Decision, Element, FirstUse, Outcome, Refusal, Source,
    StoredCertificate, Time,
};
use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose, date_time_ymd};

use crate::forge::{
    CONTROLLER, Entity, HOST, Judge, With, ca, ders, dns, endpoint, extension, now, uri,
};

fn stored(entity: &Entity, endpoint_id: &str) -> StoredCertificate {
    StoredCertificate {
        fingerprint: entity.anchor().fingerprint(),
        endpoint_id: endpoint_id.into(),
    }
}

fn answer(decision: &Decision, element: Element) -> Option<Answer> {
    let step = decision.steps.iter().find(|step| step.element == element)?;
    Some(step.answer)
}

fn lone() -> Entity {
    Entity::self_signed(endpoint("peer"))
}

fn allowing_first_use() -> Judge {
    Judge {
        first_use: FirstUse::Allow,
        ..Judge::trusting(&[&Entity::root("Root")])
    }
}

#[test]
fn a_stored_certificate_makes_the_peer_the_endpoint_it_is_stored_for_and_no_other() {
    let peer = Entity::self_signed(endpoint("peer").with(|p| {
        p.subject_alt_names = vec![
            uri("urn:bbf:usp:id:self::claimed"),
            dns("claimed.example.com"),
        ];
    }));
    let mut judge = Judge::trusting(&[]);
    judge.stored = vec![stored(&peer, "self::known")];
    let decision = judge.accepted(&[&peer]);
    assert_eq!(decision.basis, Some(Basis::StoredCertificate));
    let identity = decision.peer.unwrap();
    assert_eq!(identity.basis, Basis::StoredCertificate);
    assert_eq!(identity.endpoint_ids, ["self::known"]);
    assert!(identity.is_endpoint("self::known"));
    assert!(!identity.is_endpoint("self::claimed"));
    assert!(!identity.is_endpoint("fqdn::claimed.example.com"));
    assert_eq!(identity.anchor, None);
}

#[test]
fn a_certificate_stored_for_another_controller_is_not_ok_for_this_one() {
    let peer = lone();
    let mut judge = Judge::trusting(&[]);
    judge.stored = vec![stored(&peer, "self::other")];
    let decision = judge.initiated(&[&peer], HOST, Some(CONTROLLER));
    assert_eq!(
        answer(&decision, Element::StoredCertificate),
        Some(Answer::No)
    );
    assert_eq!(decision.refusal(), Some(&Refusal::UnknownIssuer));
    judge.stored.push(stored(&peer, "self::controll%65r"));
    let decision = judge.initiated(&[&peer], HOST, Some(CONTROLLER));
    assert_eq!(decision.basis, Some(Basis::StoredCertificate));
    let identity = decision.peer.unwrap();
    assert!(identity.is_endpoint(CONTROLLER) && !identity.is_endpoint("self::other"));
}

#[test]
fn a_stored_wildcard_is_for_nobody() {
    let peer = lone();
    let mut judge = Judge::trusting(&[]);
    judge.stored = vec![stored(&peer, "oui:0044FF:*")];
    assert_eq!(judge.refusal(&[&peer]), Some(Refusal::UnknownIssuer));
}

#[test]
fn another_certificate_of_the_same_key_and_names_is_not_the_stored_one() {
    let peer = lone();
    let again = Entity::self_signed_with(endpoint("peer"), peer.key.clone());
    let mut judge = Judge::trusting(&[]);
    judge.stored = vec![stored(&peer, CONTROLLER)];
    assert_eq!(judge.refusal(&[&peer]), None);
    assert_eq!(judge.refusal(&[&again]), Some(Refusal::UnknownIssuer));
}

#[test]
fn a_stored_or_brokers_certificate_has_to_be_valid_in_itself() {
    let purpose = homefleet_trust::Purpose::ClientAuth;
    let odd = der::asn1::ObjectIdentifier::new("1.2.3.4").unwrap();
    let faults: [(rcgen::CertificateParams, Refusal); 3] = [
        (
            endpoint("peer").with(|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]),
            Refusal::KeyUsage { level: 0 },
        ),
        (
            endpoint("peer")
                .with(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            Refusal::ExtendedKeyUsage { level: 0, purpose },
        ),
        (
            endpoint("peer")
                .with(|p| p.custom_extensions = vec![extension(&[1, 2, 3, 4], true, &[5, 0])]),
            Refusal::CriticalExtension {
                level: 0,
                extension: odd,
            },
        ),
    ];
    for (params, refusal) in faults {
        let peer = Entity::self_signed(params);
        let mut judge = Judge::trusting(&[]);
        judge.stored = vec![stored(&peer, CONTROLLER)];
        let decision = judge.accepted(&[&peer]);
        assert_eq!(
            answer(&decision, Element::StoredCertificate),
            Some(Answer::No)
        );
        assert_eq!(decision.refusal(), Some(&Refusal::UnknownIssuer));

        let mut judge = Judge::trusting(&[]);
        judge.brokers = vec![peer.anchor()];
        assert_eq!(judge.refusal(&[&peer]), Some(refusal.clone()));

        let mut judge = allowing_first_use();
        let decision = judge.accepted(&[&peer]);
        assert_eq!(decision.refusal(), Some(&refusal), "{decision:#?}");
        judge.brokers = vec![peer.anchor()];
        assert_eq!(judge.refusal(&[&peer]), Some(refusal));
    }
}

#[test]
fn a_stored_certificate_does_not_fail_with_its_issuers() {
    let root = Entity::root("Root");
    let middle = root.issue(ca("Middle").with(|p| p.not_after = date_time_ymd(2026, 5, 31)));
    let peer = middle.issue(endpoint("peer"));
    let mut judge = Judge::trusting(&[&root]);
    assert_eq!(
        judge.refusal(&[&peer, &middle]),
        Some(Refusal::Expired { level: 1 })
    );
    judge.stored = vec![stored(&peer, CONTROLLER)];
    let decision = judge.accepted(&[&peer, &middle]);
    assert_eq!(decision.basis, Some(Basis::StoredCertificate));
}

#[test]
fn the_anchor_of_a_stored_certificate_with_a_path_is_told() {
    let root = Entity::root("Root");
    let peer = root.issue(endpoint("peer"));
    let mut judge = Judge::trusting(&[&root]);
    judge.stored = vec![stored(&peer, CONTROLLER)];
    let identity = judge.accepted(&[&peer]).peer.unwrap();
    assert_eq!(identity.basis, Basis::StoredCertificate);
    assert_eq!(identity.anchor, Some(root.anchor().fingerprint()));
}

#[test]
fn a_certificate_stored_for_another_is_not_taken_from_the_one_a_ca_issued_it_to() {
    let root = Entity::root("Root");
    let peer = root.issue(endpoint("peer").with(|p| {
        p.subject_alt_names = vec![uri("urn:bbf:usp:id:self::owner")];
    }));
    let mut judge = Judge::trusting(&[&root]);
    judge.stored = vec![stored(&peer, "self::other")];
    let identity = judge.accepted(&[&peer]).peer.unwrap();
    assert_eq!(identity.endpoint_ids, ["self::owner", "self::other"]);
    // Without the CA it is nobody's but the one's it is stored for.
    judge.anchors.clear();
    let identity = judge.accepted(&[&peer]).peer.unwrap();
    assert_eq!(identity.endpoint_ids, ["self::other"]);
}

#[test]
fn a_trusted_broker_is_known_by_its_very_certificate() {
    let broker = lone();
    let other = Entity::self_signed_with(endpoint("peer"), broker.key.clone());
    let mut judge = Judge::trusting(&[]);
    judge.brokers = vec![Entity::root("Other").anchor(), broker.anchor()];
    let decision = judge.initiated(&[&broker], HOST, None);
    assert_eq!(decision.basis, Some(Basis::TrustedBroker));
    assert_eq!(decision.peer.unwrap().basis, Basis::TrustedBroker);
    let [certificate] = decision.chain.as_slice() else {
        panic!("{:#?}", decision.chain)
    };
    assert_eq!(certificate.source, Source::Broker(1));
    assert_eq!(
        judge.initiated(&[&other], HOST, None).refusal(),
        Some(&Refusal::UnknownIssuer)
    );
}

#[test]
fn a_trusted_broker_issues_nothing() {
    let broker = Entity::root("Broker");
    let peer = broker.issue(endpoint("peer"));
    let mut judge = Judge::trusting(&[]);
    judge.brokers = vec![broker.anchor()];
    assert_eq!(
        judge.refusal(&[&peer, &broker]),
        Some(Refusal::UnknownIssuer)
    );
}

#[test]
fn a_broker_under_a_trusted_ca_is_a_broker() {
    let root = Entity::root("Root");
    let broker = root.issue(endpoint("broker"));
    let mut judge = Judge::trusting(&[&root]);
    judge.brokers = vec![broker.anchor()];
    assert_eq!(judge.accepted(&[&broker]).basis, Some(Basis::TrustedBroker));
}

#[test]
fn by_default_nobody_is_trusted_on_first_use() {
    let decision = Judge::trusting(&[]).accepted(&[&lone()]);
    assert_eq!(decision.refusal(), Some(&Refusal::UnknownIssuer));
    let last = decision.steps.last().unwrap();
    assert_eq!(last.element, Element::TrustedSignatureRequired);
    assert_eq!(last.answer, Answer::Yes);
}

#[test]
fn on_first_use_a_peer_is_who_it_says_without_wildcards_and_revocation() {
    let peer = Entity::self_signed(endpoint("peer").with(|p| {
        p.subject_alt_names = vec![
            uri("urn:bbf:usp:id:oui:0044FF:*"),
            uri("urn:bbf:usp:id:self::controller"),
        ];
    }));
    let decision = allowing_first_use().accepted(&[&peer]);
    assert_eq!(decision.outcome, Outcome::Establish);
    assert_eq!(decision.basis, Some(Basis::FirstUse));
    assert_eq!(answer(&decision, Element::Revoked), None);
    let identity = decision.peer.unwrap();
    assert_eq!(identity.basis, Basis::FirstUse);
    assert_eq!(identity.endpoint_ids, [CONTROLLER]);
    assert!(!identity.is_endpoint("oui:0044FF:1"));
}

#[test]
fn on_first_use_only_an_unknown_issuer_is_forgiven() {
    let root = Entity::root("Root");
    let judge = Judge {
        first_use: FirstUse::Allow,
        ..Judge::trusting(&[&root])
    };
    let forged = root.impostor().issue(endpoint("peer"));
    assert_eq!(
        judge.refusal(&[&forged]),
        Some(Refusal::BadSignature { level: 0 })
    );
    let leaf = root.issue(endpoint("leaf"));
    let below = leaf.issue(endpoint("peer"));
    assert_eq!(
        judge.refusal(&[&below, &leaf]),
        Some(Refusal::NotACa { level: 1 })
    );
    let expired = Entity::self_signed(endpoint("peer").with(|p| {
        p.not_after = date_time_ymd(2026, 5, 31);
    }));
    assert_eq!(
        judge.refusal(&[&expired]),
        Some(Refusal::Expired { level: 0 })
    );
    // Under a CA that nobody knows it is as good as self-signed.
    let stranger = Entity::root("Stranger").issue(endpoint("peer"));
    assert_eq!(judge.accepted(&[&stranger]).basis, Some(Basis::FirstUse));
}

#[test]
fn on_first_use_a_self_signed_certificate_has_to_be_signed_by_itself() {
    let mut peer = lone();
    *peer.der.last_mut().unwrap() ^= 1;
    assert_eq!(
        allowing_first_use().refusal(&[&peer]),
        Some(Refusal::BadSignature { level: 0 })
    );
}

#[test]
fn an_endpoint_whose_certificate_is_known_does_not_come_first_with_another() {
    let known = lone();
    let impostor = lone();
    let mut judge = allowing_first_use();
    judge.stored = vec![stored(&known, CONTROLLER)];
    let taken = Refusal::OtherCertificateStored {
        endpoint_id: CONTROLLER.into(),
    };
    assert_eq!(judge.refusal(&[&impostor]), Some(taken.clone()));
    assert_eq!(taken.alert().code(), 46);
    assert_eq!(
        judge.accepted(&[&known]).basis,
        Some(Basis::StoredCertificate)
    );
    // Somebody else by name, where the known one was meant.
    let other = Entity::self_signed(
        endpoint("other").with(|p| p.subject_alt_names = vec![uri("urn:bbf:usp:id:self::x")]),
    );
    let decision = judge.initiated(&[&other], "gateway.local", Some(CONTROLLER));
    assert_eq!(decision.refusal(), Some(&taken));
    assert_eq!(judge.accepted(&[&other]).basis, Some(Basis::FirstUse));
    // A wildcard that covers it.
    judge.stored = vec![stored(&known, "oui:0044FF:7")];
    let many = Entity::self_signed(endpoint("many").with(|p| {
        p.subject_alt_names = vec![uri("urn:bbf:usp:id:oui:0044FF:*")];
    }));
    let endpoint_id = "oui:0044FF:7".into();
    assert_eq!(
        judge.refusal(&[&many]),
        Some(Refusal::OtherCertificateStored { endpoint_id })
    );
}

#[test]
fn a_cached_session_takes_the_short_way() {
    let root = Entity::root("Root");
    let peer = root.issue(endpoint("peer"));
    let mut judge = Judge::trusting(&[&root]);
    judge.cached = true;
    // The name was compared when the session was made.
    let decision = judge.initiated(&[&peer], "other.example.net", None);
    let steps: Vec<_> = decision
        .steps
        .iter()
        .map(|s| (s.element, s.answer))
        .collect();
    assert_eq!(
        steps,
        [
            (Element::CertificatePresented, Answer::Yes),
            (Element::CachedSession, Answer::Yes)
        ]
    );
    assert_eq!(decision.basis, Some(Basis::CachedSession));
    // What the identity rests on is told as it is.
    assert_eq!(decision.peer.unwrap().basis, Basis::TrustedCa);
}

#[test]
fn a_cached_session_does_not_outlive_its_certificates() {
    let root = Entity::root("Root");
    let middle = root.issue(ca("Middle").with(|p| p.not_after = date_time_ymd(2026, 7, 1)));
    let peer = middle.issue(endpoint("peer"));
    let mut judge = Judge::trusting(&[&root]);
    judge.cached = true;
    let decision = judge.accepted(&[&peer, &middle]);
    assert_eq!(decision.basis, Some(Basis::CachedSession));
    let month = Duration::from_secs(31 * 86_400);
    assert_eq!(
        decision.valid_until,
        Some(now() + Duration::from_secs(30 * 86_400))
    );
    judge.time = Time::Accurate(now() + month);
    let decision = judge.accepted(&[&peer, &middle]);
    assert_eq!(answer(&decision, Element::CachedSession), Some(Answer::No));
    assert_eq!(decision.refusal(), Some(&Refusal::Expired { level: 1 }));
}

#[test]
fn a_cached_session_of_a_peer_trusted_on_first_use_is_a_first_use_again() {
    let mut judge = allowing_first_use();
    judge.cached = true;
    let decision = judge.accepted(&[&lone()]);
    assert_eq!(answer(&decision, Element::CachedSession), Some(Answer::No));
    assert_eq!(decision.basis, Some(Basis::FirstUse));
}

#[test]
fn a_cached_session_needs_grounds_that_still_hold() {
    let root = Entity::root("Root");
    let peer = root.issue(endpoint("peer"));
    let mut judge = Judge::trusting(&[]);
    judge.cached = true;
    assert_eq!(judge.refusal(&[&peer]), Some(Refusal::UnknownIssuer));

    // A certificate that may not sign, as one that was stored under a laxer rule.
    let params = endpoint("peer").with(|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    let unusable = Entity::self_signed(params);
    judge.stored = vec![stored(&unusable, CONTROLLER)];
    assert_eq!(judge.refusal(&[&unusable]), Some(Refusal::UnknownIssuer));
    judge.stored.clear();
    judge.brokers = vec![unusable.anchor()];
    assert_eq!(
        judge.refusal(&[&unusable]),
        Some(Refusal::KeyUsage { level: 0 })
    );
}

#[test]
fn a_decision_says_until_when_its_certificates_are_valid() {
    let root = Entity::root("Root");
    let day = |n| date_time_ymd(2026, 6, n);
    let peer = root.issue(endpoint("peer").with(|p| p.not_after = day(11)));
    let mut judge = Judge::trusting(&[&root]);
    let ten_days = Duration::from_secs(10 * 86_400);
    assert_eq!(judge.accepted(&[&peer]).valid_until, Some(now() + ten_days));
    assert_eq!(
        judge
            .ask(&ders(&[&peer, &root]), Connection::Accepted)
            .valid_until,
        Some(now() + ten_days)
    );
    judge.time = Time::Unknown;
    assert_eq!(judge.accepted(&[&peer]).valid_until, None);
    judge.time = Time::Accurate(now() + 2 * ten_days);
    assert_eq!(judge.accepted(&[&peer]).valid_until, None);
}
