//! What is fetched, in which order, how long it is kept, and what follows when it cannot be had.

use std::time::Duration;

use homefleet_trust::{
    Answer, Basis, CertIdHash, Connection, Decision, DefaultEdge, Element, Outcome, Preference,
    Refusal, Revocation, RevocationPolicy, RevocationReason, RevocationScope, StoredCertificate,
    Time, Unknown, Wanted,
};
use rcgen::CrlDistributionPoint;

use crate::{
    evidence::{
        CRL_URL, Crl, DAY, OCSP_URL, Ocsp, Said, access, instant, name_addresses, revocable,
        serial, wanted_crl, wanted_ocsp,
    },
    forge::{CONTROLLER, Entity, Judge, With, ca, ders, extension, now, tlv},
};

const SECOND: Duration = Duration::from_secs(1);

struct Scene {
    root: Entity,
    chain: Vec<Entity>,
    judge: Judge,
    revocation: Revocation,
}

impl Scene {
    /// A peer with both addresses.
    fn new(policy: RevocationPolicy) -> Self {
        Self::with(policy, |p| {
            name_addresses(p, 7, Some(CRL_URL), Some(OCSP_URL))
        })
    }

    fn with(policy: RevocationPolicy, peer: impl FnOnce(&mut rcgen::CertificateParams)) -> Self {
        let root = Entity::root("Root");
        Self {
            chain: vec![root.issue(crate::forge::endpoint("peer").with(peer))],
            judge: Judge::trusting(&[&root]),
            revocation: Revocation::new(policy),
            root,
        }
    }

    fn decide(&self) -> Decision {
        let chain: Vec<&Entity> = self.chain.iter().collect();
        let revocation = Some(&self.revocation);
        self.judge
            .ask_with(&ders(&chain), Connection::Accepted, revocation)
    }

    /// Fails to fetch whatever is wanted until nothing is; gives the addresses in order.
    fn fail_all(&mut self) -> Vec<String> {
        let mut urls = Vec::new();
        while let Some(wanted) = self.wanted().first() {
            assert!(urls.len() < 20, "the same is wanted again: {urls:?}");
            urls.push(wanted.url().to_owned());
            self.revocation.failed(wanted, instant());
        }
        urls
    }

    fn wanted(&self) -> Vec<Wanted> {
        match self.decide().outcome {
            Outcome::Hold(wanted) => wanted,
            _ => vec![],
        }
    }

    fn add(&mut self, wanted: &Wanted, der: &[u8]) {
        self.revocation
            .add(wanted, None, der, self.judge.time)
            .unwrap();
    }
}

fn policy(change: impl FnOnce(&mut RevocationPolicy)) -> RevocationPolicy {
    RevocationPolicy::default().with(change)
}

fn last(decision: &Decision) -> (Element, Answer) {
    let step = decision.steps.last().unwrap();
    (step.element, step.answer)
}

#[test]
fn one_thing_is_wanted_at_a_time_in_the_order_of_preference() {
    for preference in [Preference::Ocsp, Preference::Crl] {
        let mut scene = Scene::new(policy(|p| p.preference = preference));
        let mut order = vec![wanted_ocsp(&scene.root, 7), wanted_crl(&scene.root)];
        if preference == Preference::Crl {
            order.reverse();
        }
        let at = instant();
        for wanted in order {
            assert_eq!(scene.wanted(), std::slice::from_ref(&wanted));
            scene.revocation.failed(&wanted, at);
        }
        let decision = scene.decide();
        assert_eq!(decision.outcome, Outcome::Establish);
        assert_eq!(
            last(&decision),
            (Element::Revoked, Answer::Unclear(DefaultEdge::No))
        );
    }
}

#[test]
fn the_policy_says_what_follows_when_it_cannot_be_found_out() {
    let mut scene = Scene::new(policy(|p| p.unknown = Unknown::Refuse));
    assert_eq!(scene.fail_all(), [OCSP_URL, CRL_URL]);
    let decision = scene.decide();
    let refusal = Refusal::RevocationUnknown { level: 0 };
    assert_eq!(decision.outcome, Outcome::Terminate(refusal.clone()));
    assert_eq!(
        last(&decision),
        (Element::Revoked, Answer::Unclear(DefaultEdge::Yes))
    );
    // The same for a certificate that names no address.
    let scene = Scene::with(policy(|p| p.unknown = Unknown::Refuse), |_| {});
    assert_eq!(scene.decide().outcome, Outcome::Terminate(refusal));
    let scene = Scene::with(policy(|_| {}), |_| {});
    assert_eq!(scene.decide().outcome, Outcome::Establish);
}

#[test]
fn what_could_not_be_found_out_is_tried_again() {
    let mut scene = Scene::with(policy(|_| {}), |p| {
        name_addresses(p, 7, Some(CRL_URL), None);
    });
    let wanted = scene.wanted();
    scene.revocation.failed(&wanted[0], instant());
    let decision = scene.decide();
    assert!(decision.is_established());
    assert_eq!(decision.valid_until, Some(now() + 300 * SECOND));
    // With nothing to try, there is nothing to wait for.
    let scene = Scene::with(policy(|_| {}), |_| {});
    let end = crate::forge::endpoint("peer").not_after;
    assert_eq!(scene.decide().valid_until, Some(end.into()));
    // What the responder does not know today, it may know later.
    let mut scene = Scene::with(policy(|_| {}), |p| {
        name_addresses(p, 7, None, Some(OCSP_URL));
    });
    let der = Ocsp::says(Said::Unknown, 7).by(&scene.root);
    scene.add(&wanted_ocsp(&scene.root, 7), &der);
    assert_eq!(scene.decide().valid_until, Some(now() + 300 * SECOND));
}

#[test]
fn a_failure_is_forgotten_after_its_time() {
    let mut scene = Scene::with(policy(|_| {}), |p| {
        name_addresses(p, 7, Some(CRL_URL), None)
    });
    let wanted = scene.wanted();
    let at = instant();
    assert_eq!(scene.revocation.poll_timeout(), None);
    scene.revocation.failed(&wanted[0], at);
    let five_minutes = 300 * SECOND;
    assert_eq!(scene.revocation.poll_timeout(), Some(at + five_minutes));
    scene.revocation.handle_timeout(at + five_minutes - SECOND);
    assert_eq!(scene.wanted(), []);
    scene.revocation.handle_timeout(at + five_minutes);
    assert_eq!(scene.wanted(), wanted);
}

#[test]
fn what_comes_after_all_ends_the_failure() {
    let mut scene = Scene::new(policy(|_| {}));
    let at = instant();
    let (ocsp, crl) = (wanted_ocsp(&scene.root, 7), wanted_crl(&scene.root));
    scene.revocation.failed(&ocsp, at);
    scene.revocation.failed(&crl, at);
    let der = Crl::of(&[7]).signed(&scene.root);
    scene.add(&crl, &der);
    assert!(matches!(
        scene.decide().refusal(),
        Some(Refusal::Revoked { level: 0, .. })
    ));
    scene.revocation.handle_timeout(at + 300 * SECOND);
    assert_eq!(scene.revocation.poll_timeout(), None);
}

#[test]
fn what_the_responder_does_not_know_is_looked_for_in_the_crl() {
    let mut scene = Scene::new(policy(|_| {}));
    let der = Ocsp::says(Said::Unknown, 7).by(&scene.root);
    scene.add(&wanted_ocsp(&scene.root, 7), &der);
    assert_eq!(scene.wanted(), [wanted_crl(&scene.root)]);
    let der = Crl::of(&[]).signed(&scene.root);
    scene.add(&wanted_crl(&scene.root), &der);
    assert_eq!(scene.decide().outcome, Outcome::Establish);
}

#[test]
fn whoever_says_revoked_is_believed() {
    let root = Entity::root("Root");
    let (good, revoked) = (Said::Good, Said::Revoked(None));
    for (said, listed) in [(good, 7), (revoked, 8), (revoked, 7)] {
        let mut scene = Scene::new(policy(|_| {}));
        scene.chain = vec![root.issue(revocable(7, Some(CRL_URL), Some(OCSP_URL)))];
        scene.judge = Judge::trusting(&[&root]);
        scene.add(&wanted_ocsp(&root, 7), &Ocsp::says(said, 7).by(&root));
        scene.add(&wanted_crl(&root), &Crl::of(&[listed]).signed(&root));
        assert!(matches!(
            scene.decide().refusal(),
            Some(Refusal::Revoked { level: 0, .. })
        ));
    }
}

/// Root, a CA that can be revoked, a peer that can be.
fn deep(policy: RevocationPolicy) -> Scene {
    let root = Entity::root("Root");
    let address = "http://root.example.com/root.crl";
    let middle = root.issue(ca("Middle").with(|p| name_addresses(p, 5, Some(address), None)));
    let peer = middle.issue(revocable(7, Some(CRL_URL), None));
    Scene {
        judge: Judge::trusting(&[&root]),
        chain: vec![peer, middle],
        revocation: Revocation::new(policy),
        root,
    }
}

#[test]
fn the_scope_is_the_leaf_or_the_chain_without_the_anchor() {
    let mut scene = deep(policy(|_| {}));
    let of_middle = wanted_crl(&scene.chain[1]);
    let of_root = Wanted::Crl {
        url: "http://root.example.com/root.crl".into(),
        issuer: scene.root.der.clone(),
        for_ca: true,
    };
    assert_eq!(scene.wanted(), std::slice::from_ref(&of_middle));
    let der = Crl::of(&[]).signed(&scene.chain[1]);
    scene.add(&of_middle, &der);
    assert_eq!(scene.decide().outcome, Outcome::Establish);

    scene.revocation = Revocation::new(policy(|p| p.scope = RevocationScope::Chain));
    assert_eq!(scene.wanted(), [of_middle.clone(), of_root.clone()]);
    scene.add(&of_middle, &der);
    assert_eq!(scene.wanted(), std::slice::from_ref(&of_root));
    let der = Crl::of(&[5]).signed(&scene.root);
    scene.add(&of_root, &der);
    let reason = RevocationReason::Unspecified;
    assert_eq!(
        scene.decide().outcome,
        Outcome::Terminate(Refusal::Revoked { level: 1, reason })
    );
    // What is known to be revoked is not waited for.
    let mut scene = deep(policy(|p| p.scope = RevocationScope::Chain));
    let der = Crl::of(&[5]).signed(&scene.root);
    let of_root = Wanted::Crl {
        url: "http://root.example.com/root.crl".into(),
        issuer: scene.root.der.clone(),
        for_ca: true,
    };
    scene.add(&of_root, &der);
    assert!(matches!(
        scene.decide().refusal(),
        Some(Refusal::Revoked { level: 1, .. })
    ));
}

#[test]
fn what_cannot_be_found_out_is_not_waited_for_when_that_refuses() {
    let change = |p: &mut RevocationPolicy| {
        p.scope = RevocationScope::Chain;
        p.unknown = Unknown::Refuse;
    };
    let mut scene = deep(policy(change));
    let wanted = scene.wanted();
    assert_eq!(wanted.len(), 2);
    scene.revocation.failed(&wanted[1], instant());
    assert_eq!(
        scene.decide().outcome,
        Outcome::Terminate(Refusal::RevocationUnknown { level: 1 })
    );
    let mut scene = deep(policy(|p| p.scope = RevocationScope::Chain));
    let wanted = scene.wanted();
    scene.revocation.failed(&wanted[1], instant());
    assert_eq!(scene.wanted(), wanted[..1]);
}

#[test]
fn nothing_is_wanted_for_a_peer_that_is_refused_anyway() {
    let mut scene = Scene::new(policy(|_| {}));
    let stranger = Entity::root("Stranger");
    scene.judge = Judge::trusting(&[&stranger]);
    assert_eq!(
        scene.decide().outcome,
        Outcome::Terminate(Refusal::UnknownIssuer)
    );
    // The issuer's name with another key: addresses in such a certificate come from anybody.
    let forged = scene
        .root
        .impostor()
        .issue(revocable(7, Some(CRL_URL), None));
    scene.judge = Judge::trusting(&[&scene.root]);
    scene.chain = vec![forged];
    assert_eq!(
        scene.decide().outcome,
        Outcome::Terminate(Refusal::BadSignature { level: 0 })
    );
    let chain = ders(&[&scene.root.issue(revocable(7, Some(CRL_URL), None))]);
    let connection = Connection::Initiated {
        host: "other.example.net",
        endpoint_id: None,
    };
    let revocation = Some(&scene.revocation);
    let decision = scene.judge.ask_with(&chain, connection, revocation);
    assert_eq!(decision.outcome, Outcome::Terminate(Refusal::NameMismatch));
}

fn crl_points(points: &[&[u8]]) -> rcgen::CustomExtension {
    extension(&[2, 5, 29, 31], false, &tlv(0x30, points))
}

fn point(fields: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, fields)
}

fn full(urls: &[&str]) -> Vec<u8> {
    let names: Vec<Vec<u8>> = urls.iter().map(|u| tlv(0x86, &[u.as_bytes()])).collect();
    tlv(0xA0, &[&tlv(0xA0, &[&names.concat()])])
}

/// Everything that a certificate with this extension would have fetched, in order.
fn addresses(custom: rcgen::CustomExtension) -> Vec<String> {
    let mut scene = Scene::with(policy(|_| {}), |p| p.custom_extensions = vec![custom]);
    scene.fail_all()
}

#[test]
fn only_plain_http_addresses_are_read() {
    let long = format!("http://a/{}", "x".repeat(1016));
    let odd = [
        "https://a/1",
        "ldap://a/2",
        "http://",
        "http:///3",
        "http://a/ 4",
        "http://a/\u{1}5",
        "file:///6",
        "7",
        &long,
    ];
    assert_eq!(addresses(crl_points(&[&point(&[&full(&odd)])])), [""; 0]);
    let plain = [
        "HTTP://a/1",
        "HTTP://a/1",
        "HTTP://a/1",
        "HTTP://a/1",
        "http://b/2",
    ];
    assert_eq!(
        addresses(crl_points(&[&point(&[&full(&plain)])])),
        ["HTTP://a/1", "http://b/2"]
    );
    let many: Vec<String> = (0..9).map(|n| format!("http://a/{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(addresses(crl_points(&[&point(&[&full(&many)])])), many[..4]);
}

#[test]
fn only_distribution_points_of_the_issuers_complete_list_are_read() {
    let reasons = point(&[&full(&["http://a/reasons"]), &[0x81, 2, 6, 0x40]]);
    let by_other = point(&[
        &full(&["http://a/other"]),
        &tlv(0xA2, &[&tlv(0x82, &[b"other.example"])]),
    ]);
    let relative = point(&[&tlv(0xA0, &[&tlv(0xA1, &[])])]);
    let good = point(&[&full(&["http://a/good"])]);
    assert_eq!(
        addresses(crl_points(&[&reasons, &by_other, &relative, &good])),
        ["http://a/good"]
    );
    let oid = [1, 3, 6, 1, 5, 5, 7, 1, 1];
    let access = access(&[(2, "http://a/issuer"), (1, "http://a/ocsp")]);
    assert_eq!(
        addresses(extension(&oid, false, &access)),
        ["http://a/ocsp"]
    );
}

#[test]
fn addresses_that_cannot_be_read_are_as_good_as_none_unless_critical() {
    assert_eq!(addresses(crl_points(&[b"junk"])), [""; 0]);
    for (oid, arcs) in [
        ("2.5.29.31", &[2, 5, 29, 31][..]),
        ("1.3.6.1.5.5.7.1.1", &[1, 3, 6, 1, 5, 5, 7, 1, 1]),
    ] {
        let junk = extension(arcs, true, b"junk");
        let scene = Scene::with(policy(|_| {}), |p| p.custom_extensions = vec![junk]);
        let extension = der::asn1::ObjectIdentifier::new(oid).unwrap();
        assert_eq!(
            scene.decide().refusal(),
            Some(&Refusal::CriticalExtension {
                level: 0,
                extension
            })
        );
    }
}

#[test]
fn what_is_used_is_due_before_it_runs_out() {
    let mut scene = Scene::new(policy(|_| {}));
    let (ocsp, crl) = (wanted_ocsp(&scene.root, 7), wanted_crl(&scene.root));
    let answer = Ocsp::says(Said::Good, 7).with(|o| o.next_update = Some(now() + 1000 * SECOND));
    let answer = answer.by(&scene.root);
    let list = Crl::of(&[]).signed(&scene.root);
    scene.add(&ocsp, &answer);
    scene.add(&crl, &list);
    // Nobody has asked for it.
    assert_eq!(scene.revocation.due(now() + DAY), []);
    assert!(scene.decide().is_established());
    assert_eq!(scene.revocation.due(now() + 899 * SECOND), []);
    assert_eq!(
        scene.revocation.due(now() + 900 * SECOND),
        std::slice::from_ref(&ocsp)
    );
    let mut due = scene.revocation.due(now() + 3600 * SECOND);
    due.sort_by_key(|wanted| wanted.url().to_owned());
    assert_eq!(due, [crl.clone(), ocsp.clone()]);
    scene.revocation.failed(&ocsp, instant());
    assert_eq!(scene.revocation.due(now() + 3600 * SECOND), [crl]);
}

#[test]
fn a_crl_from_a_file_is_used_and_never_due() {
    let mut scene = Scene::new(policy(|p| p.unknown = Unknown::Refuse));
    let der = Crl::of(&[8]).signed(&scene.root);
    let issuers = [Entity::root("Other").anchor(), scene.root.anchor()];
    let time = scene.judge.time;
    scene.revocation.add_crl(&der, &issuers, time).unwrap();
    let decision = scene.decide();
    assert_eq!(decision.outcome, Outcome::Establish);
    assert_eq!(decision.valid_until, Some(now() + 7 * DAY));
    assert_eq!(scene.revocation.due(now() + 6 * DAY), []);
}

#[test]
fn evidence_is_dropped_at_the_bounds_and_counted() {
    let root = Entity::root("Root");
    let time = Time::Accurate(now());
    let mut revocation = Revocation::new(policy(|p| {
        p.max_ocsp_answers = 2;
        p.max_crls = 2;
        p.max_failures = 2;
    }));
    for number in 1..=3 {
        let ends = now() + DAY * number;
        let ocsp = Ocsp::says(Said::Good, number).with(|o| o.next_update = Some(ends));
        let wanted = wanted_ocsp(&root, number);
        revocation
            .add(&wanted, None, &ocsp.by(&root), time)
            .unwrap();
        let other = Entity::root(&format!("Root {number}"));
        let crl = Crl::of(&[1]).with(|c| c.next_update = Some(ends));
        let wanted = wanted_crl(&other);
        revocation
            .add(&wanted, None, &crl.signed(&other), time)
            .unwrap();
    }
    assert_eq!(revocation.sizes(), (2, 2, 2));
    assert_eq!(revocation.dropped(), 2);
    let at = instant();
    for number in 1..=3 {
        revocation.failed(&wanted_ocsp(&root, number), at + SECOND * number);
    }
    assert_eq!(revocation.dropped(), 3);
    // The one that would have been forgotten first.
    assert_eq!(revocation.poll_timeout(), Some(at + 302 * SECOND));
}

#[test]
fn a_certificate_that_is_trusted_itself_is_refused_when_its_issuer_revoked_it() {
    let root = Entity::root("Root");
    let peer = root.issue(revocable(7, Some(CRL_URL), None));
    let stored = StoredCertificate {
        fingerprint: peer.anchor().fingerprint(),
        endpoint_id: CONTROLLER.into(),
    };
    let time = Time::Accurate(now());
    let mut trusting = Judge::trusting(&[&peer]);
    let mut storing = Judge::trusting(&[]);
    storing.stored = vec![stored.clone()];
    let mut knowing = Judge::trusting(&[]);
    knowing.brokers = vec![peer.anchor()];
    let ask = |judge: &Judge, revocation: &Revocation| {
        judge.ask_with(&ders(&[&peer]), Connection::Accepted, Some(revocation))
    };
    for said in [None, Some(Said::Revoked(None)), Some(Said::Good)] {
        let mut revocation = Revocation::new(policy(|p| p.unknown = Unknown::Refuse));
        let expected = match said {
            Some(said) => {
                let wanted = wanted_ocsp(&root, 7);
                let der = Ocsp::says(said, 7).by(&root);
                revocation.add(&wanted, None, &der, time).unwrap();
                matches!(said, Said::Revoked(_))
            }
            None => {
                let der = Crl::of(&[7]).signed(&root);
                revocation
                    .add(&wanted_crl(&root), None, &der, time)
                    .unwrap();
                true
            }
        };
        for judge in [&trusting, &storing, &knowing] {
            let decision = ask(judge, &revocation);
            let refused = matches!(decision.refusal(), Some(Refusal::Revoked { level: 0, .. }));
            assert_eq!(refused, expected, "{decision:#?}");
            assert!(refused || decision.is_established());
        }
    }
    // Where its issuer is trusted too, it is asked.
    trusting.anchors = vec![root.anchor()];
    trusting.stored = vec![stored];
    let decision = ask(&trusting, &Revocation::new(policy(|_| {})));
    assert_eq!(decision.outcome, Outcome::Hold(vec![wanted_crl(&root)]));
}

#[test]
fn a_cached_session_ends_with_the_news_that_its_certificate_is_revoked() {
    let mut scene = Scene::new(policy(|p| p.unknown = Unknown::Refuse));
    scene.judge.cached = true;
    // Not known any more: looked up anew.
    assert_eq!(scene.wanted(), [wanted_ocsp(&scene.root, 7)]);
    let good = Ocsp::says(Said::Good, 7).by(&scene.root);
    scene.add(&wanted_ocsp(&scene.root, 7), &good);
    let decision = scene.decide();
    assert_eq!(decision.basis, Some(Basis::CachedSession));
    assert_eq!(decision.valid_until, Some(now() + DAY));
    let revoked = Ocsp::says(Said::Revoked(None), 7).by(&scene.root);
    scene.add(&wanted_ocsp(&scene.root, 7), &revoked);
    assert!(matches!(
        scene.decide().refusal(),
        Some(Refusal::Revoked { level: 0, .. })
    ));
    // Neither is to be had: the policy refuses a resumed session too.
    let mut scene = Scene::with(policy(|p| p.unknown = Unknown::Refuse), |_| {});
    scene.judge.cached = true;
    assert_eq!(
        scene.decide().refusal(),
        Some(&Refusal::RevocationUnknown { level: 0 })
    );
}

#[test]
fn evidence_under_one_issuer_says_nothing_about_the_serial_number_of_another() {
    let mut scene = Scene::new(policy(|_| {}));
    let other = Entity::root("Other");
    let der = Ocsp::says(Said::Good, 7).by(&other);
    scene.add(&wanted_ocsp(&other, 7), &der);
    let der = Crl::of(&[7]).signed(&other);
    scene.add(&wanted_crl(&other), &der);
    assert_eq!(scene.wanted(), [wanted_ocsp(&scene.root, 7)]);
}

#[test]
fn the_hash_in_requests_is_the_policys() {
    let scene = Scene::new(policy(|p| p.cert_id_hash = CertIdHash::Sha256));
    let wanted = Wanted::Ocsp {
        url: OCSP_URL.into(),
        issuer: scene.root.der.clone(),
        serial: serial(7),
        hash: CertIdHash::Sha256,
    };
    assert_eq!(scene.wanted(), [wanted]);
}

#[test]
fn two_addresses_of_one_list_are_tried_in_turn() {
    let mut scene = Scene::with(policy(|_| {}), |p| {
        p.crl_distribution_points = vec![
            CrlDistributionPoint {
                uris: vec!["http://a.example/1".into()],
            },
            CrlDistributionPoint {
                uris: vec!["http://b.example/1".into()],
            },
        ];
    });
    let urls =
        |wanted: &[Wanted]| -> Vec<String> { wanted.iter().map(|w| w.url().to_owned()).collect() };
    let wanted = scene.wanted();
    assert_eq!(urls(&wanted), ["http://a.example/1"]);
    scene.revocation.failed(&wanted[0], instant());
    assert_eq!(urls(&scene.wanted()), ["http://b.example/1"]);
}
