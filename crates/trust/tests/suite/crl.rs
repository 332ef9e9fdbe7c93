//! CRLs by the clauses of RFC 5280 §5 and §6.3.

use std::time::Duration;

use homefleet_trust::{
    Connection, Decision, EvidenceError, Outcome, Refusal, Revocation, RevocationPolicy,
    RevocationReason, Time,
};
use rcgen::KeyUsagePurpose;

use crate::{
    evidence::{
        CERTIFICATE_ISSUER, CRL_URL, Crl, DAY, DELTA, ECDSA_SHA384, ODD, REASON, full_name, point,
        raw_extension, reason, revocable, serial, wanted_crl,
    },
    forge::{Entity, Judge, With, ca, ders, now, tlv},
};

struct Scene {
    root: Entity,
    peer: Entity,
    judge: Judge,
    revocation: Revocation,
}

impl Scene {
    fn new() -> Self {
        Self::under(Entity::root("Root"))
    }

    fn under(root: Entity) -> Self {
        Self {
            peer: root.issue(revocable(7, Some(CRL_URL), None)),
            judge: Judge::trusting(&[&root]),
            revocation: Revocation::new(RevocationPolicy::default()),
            root,
        }
    }

    fn add(&mut self, der: &[u8]) -> Result<(), EvidenceError> {
        let wanted = wanted_crl(&self.root);
        self.revocation.add(&wanted, None, der, self.judge.time)
    }

    fn decide(&self) -> Decision {
        let chain = ders(&[&self.peer]);
        let connection = Connection::Accepted;
        self.judge
            .ask_with(&chain, connection, Some(&self.revocation))
    }

    /// Adds a CRL and decides.
    fn with(crl: &Crl) -> Decision {
        let mut scene = Self::new();
        scene.add(&crl.signed(&scene.root)).unwrap();
        scene.decide()
    }
}

fn refused(crl: &Crl) -> EvidenceError {
    let mut scene = Scene::new();
    let error = scene.add(&crl.signed(&scene.root)).unwrap_err();
    // And it does not count.
    assert_eq!(
        scene.decide().outcome,
        Outcome::Hold(vec![wanted_crl(&scene.root)])
    );
    error
}

fn revoked(reason: RevocationReason) -> Option<Refusal> {
    Some(Refusal::Revoked { level: 0, reason })
}

#[test]
fn a_listed_certificate_is_revoked_and_an_unlisted_one_is_not() {
    assert_eq!(Scene::with(&Crl::of(&[8])).outcome, Outcome::Establish);
    assert_eq!(Scene::with(&Crl::of(&[])).outcome, Outcome::Establish);
    let decision = Scene::with(&Crl::of(&[8, 7, 6]));
    assert_eq!(
        decision.refusal().cloned(),
        revoked(RevocationReason::Unspecified)
    );
    assert_eq!(decision.refusal().unwrap().alert().code(), 44);
}

#[test]
fn a_version_1_crl_is_good_without_extensions_only() {
    let mut crl = Crl::of(&[7]);
    crl.version = None;
    assert_eq!(refused(&crl), EvidenceError::Version);
    crl.extensions.clear();
    assert_eq!(
        Scene::with(&crl).refusal().cloned(),
        revoked(RevocationReason::Unspecified)
    );
    crl.revoked[0].1 = reason(1);
    assert_eq!(refused(&crl), EvidenceError::Version);
    crl.version = Some(2);
    assert_eq!(refused(&crl), EvidenceError::Version);
}

#[test]
fn the_reason_is_told() {
    for (code, expected) in [
        (1, RevocationReason::KeyCompromise),
        (6, RevocationReason::CertificateHold),
        (7, RevocationReason::Other(7)),
    ] {
        let mut crl = Crl::of(&[7]);
        crl.revoked[0].1 = reason(code);
        assert_eq!(Scene::with(&crl).refusal().cloned(), revoked(expected));
    }
}

#[test]
fn an_entry_removed_from_the_crl_is_not_revoked() {
    let mut crl = Crl::of(&[7]);
    crl.revoked[0].1 = reason(8);
    assert_eq!(Scene::with(&crl).outcome, Outcome::Establish);
}

#[test]
fn the_crl_has_to_be_signed_by_the_issuer() {
    let mut scene = Scene::new();
    let crl = Crl::of(&[]);
    let impostor = scene.root.impostor();
    let der = crl.signed_by(&scene.root, &impostor);
    assert_eq!(scene.add(&der), Err(EvidenceError::Signature));
    let other = Entity::root("Other");
    assert_eq!(
        scene.add(&crl.signed(&other)),
        Err(EvidenceError::Issuer {
            found: "CN=Other,O=Homefleet Test".into()
        })
    );
    let mut broken = crl.signed(&scene.root);
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(scene.add(&broken), Err(EvidenceError::Signature));
}

#[test]
fn the_two_signature_algorithms_of_a_crl_have_to_agree() {
    let mut crl = Crl::of(&[]);
    crl.algorithm = ECDSA_SHA384;
    assert!(matches!(refused(&crl), EvidenceError::Malformed { .. }));
}

#[test]
fn a_crl_of_an_issuer_of_the_same_name_and_another_key_says_nothing() {
    let mut scene = Scene::new();
    let namesake = Entity::root("Root");
    let time = scene.judge.time;
    let der = Crl::of(&[7]).signed(&namesake);
    let issuers = [namesake.anchor()];
    scene.revocation.add_crl(&der, &issuers, time).unwrap();
    assert!(matches!(scene.decide().outcome, Outcome::Hold(_)));
}

#[test]
fn an_issuer_whose_key_usage_lacks_crl_sign_lists_nothing() {
    let only = |usages: Vec<KeyUsagePurpose>| ca("Root").with(|p| p.key_usages = usages);
    let root = Entity::self_signed(only(vec![KeyUsagePurpose::KeyCertSign]));
    let mut scene = Scene::under(root);
    let der = Crl::of(&[7]).signed(&scene.root);
    assert_eq!(scene.add(&der), Err(EvidenceError::KeyUsage));
    // The same CA certified again with cRLSign: its list is believed, but not under the certificate without.
    let both = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let again = Entity::self_signed_with(only(both), scene.root.key.clone());
    let time = scene.judge.time;
    scene
        .revocation
        .add_crl(&der, &[again.anchor()], time)
        .unwrap();
    assert!(matches!(scene.decide().outcome, Outcome::Hold(_)));
    scene.judge.anchors = vec![again.anchor()];
    assert_eq!(
        scene.decide().refusal().cloned(),
        revoked(RevocationReason::Unspecified)
    );
}

#[test]
fn a_crl_is_good_from_this_update_to_next_update() {
    let mut crl = Crl::of(&[]);
    crl.this_update = now() + Duration::from_secs(301);
    assert_eq!(refused(&crl), EvidenceError::NotYetValid);
    crl.this_update = now() + Duration::from_secs(300);
    assert_eq!(Scene::with(&crl).outcome, Outcome::Establish);
    crl.this_update = now() - DAY;
    crl.next_update = Some(now() - Duration::from_secs(1));
    assert_eq!(refused(&crl), EvidenceError::OutOfDate);
    crl.next_update = Some(now());
    let decision = Scene::with(&crl);
    assert_eq!(decision.valid_until, Some(now()));
    assert_eq!(decision.outcome, Outcome::Establish);
}

#[test]
fn a_crl_that_runs_out_is_wanted_anew_and_what_it_revoked_stays_revoked() {
    for (listed, expected) in [(8, None), (7, revoked(RevocationReason::Unspecified))] {
        let mut scene = Scene::new();
        let der = Crl::of(&[listed]).signed(&scene.root);
        scene.add(&der).unwrap();
        scene.judge.time = Time::Accurate(now() + 7 * DAY + Duration::from_secs(1));
        let decision = scene.decide();
        match &expected {
            None => assert_eq!(
                decision.outcome,
                Outcome::Hold(vec![wanted_crl(&scene.root)])
            ),
            Some(_) => assert_eq!(decision.refusal().cloned(), expected),
        }
    }
}

#[test]
fn without_accurate_time_the_dates_of_a_crl_are_ignored() {
    let mut crl = Crl::of(&[]);
    crl.this_update = now() - 20 * DAY;
    crl.next_update = Some(now() - 10 * DAY);
    let mut scene = Scene::new();
    scene.judge.time = Time::Unknown;
    scene.add(&crl.signed(&scene.root)).unwrap();
    assert_eq!(scene.decide().outcome, Outcome::Establish);
    // Once time is known, they count.
    scene.judge.time = Time::Accurate(now());
    assert!(matches!(scene.decide().outcome, Outcome::Hold(_)));
}

#[test]
fn a_crl_without_next_update_is_good_for_a_while_after_it_came() {
    let mut crl = Crl::of(&[]);
    crl.next_update = None;
    let mut scene = Scene::new();
    scene.add(&crl.signed(&scene.root)).unwrap();
    let hour = Duration::from_secs(3600);
    assert_eq!(scene.decide().valid_until, Some(now() + hour));
    scene.judge.time = Time::Accurate(now() + hour + Duration::from_secs(1));
    assert!(matches!(scene.decide().outcome, Outcome::Hold(_)));
}

#[test]
fn delta_indirect_and_partial_crls_are_not_used() {
    let mut crl = Crl::of(&[]);
    crl.extensions = vec![raw_extension(DELTA, true, &[2, 1, 4])];
    assert_eq!(refused(&crl), EvidenceError::Delta);
    crl.extensions = vec![point(&[&[0x84, 1, 0xFF]])];
    assert_eq!(refused(&crl), EvidenceError::Indirect);
    crl.extensions = vec![point(&[&[0x83, 2, 6, 0x40]])];
    assert_eq!(refused(&crl), EvidenceError::Scope);
    crl.extensions = vec![point(&[&[0x85, 1, 0xFF]])];
    assert_eq!(refused(&crl), EvidenceError::Scope);
    let mut crl = Crl::of(&[8]);
    let name = tlv(0x30, &[&tlv(0x82, &[b"ca.example"])]);
    crl.revoked[0].1 = vec![raw_extension(CERTIFICATE_ISSUER, true, &name)];
    assert_eq!(refused(&crl), EvidenceError::Indirect);
}

#[test]
fn unknown_critical_extensions_of_a_crl_and_of_its_entries_are_refused() {
    let oid = der::asn1::ObjectIdentifier::new("1.2.3.4").unwrap();
    let mut crl = Crl::of(&[8]);
    crl.extensions.push(raw_extension(ODD, true, &[5, 0]));
    assert_eq!(refused(&crl), EvidenceError::CriticalExtension(oid));
    let mut crl = Crl::of(&[8]);
    crl.revoked[0].1 = vec![raw_extension(ODD, true, &[5, 0])];
    assert_eq!(refused(&crl), EvidenceError::CriticalExtension(oid));
    let mut crl = Crl::of(&[8]);
    crl.extensions.push(raw_extension(ODD, false, &[5, 0]));
    crl.revoked[0].1 = vec![raw_extension(ODD, false, &[5, 0])];
    assert_eq!(Scene::with(&crl).outcome, Outcome::Establish);
    crl.extensions.push(raw_extension(ODD, false, &[5, 0]));
    assert!(matches!(refused(&crl), EvidenceError::Malformed { .. }));
    let mut crl = Crl::of(&[8]);
    crl.revoked[0].1 = vec![raw_extension(REASON, false, &[2, 1, 1])];
    assert!(matches!(refused(&crl), EvidenceError::Malformed { .. }));
}

#[test]
fn a_crl_covers_what_its_issuing_distribution_point_says() {
    let mut crl = Crl::of(&[7]);
    crl.extensions = vec![point(&[&[0x81, 1, 0xFF]])];
    assert_eq!(
        Scene::with(&crl).refusal().cloned(),
        revoked(RevocationReason::Unspecified)
    );
    crl.extensions = vec![point(&[&[0x82, 1, 0xFF]])];
    assert_eq!(refused(&crl), EvidenceError::Scope);
    crl.extensions = vec![point(&[&full_name(CRL_URL)])];
    assert_eq!(
        Scene::with(&crl).refusal().cloned(),
        revoked(RevocationReason::Unspecified)
    );
    crl.extensions = vec![point(&[&full_name("http://crl.example.com/other.crl")])];
    assert_eq!(refused(&crl), EvidenceError::Scope);
}

#[test]
fn a_list_for_a_point_that_is_not_fetched_counts_when_it_comes_by_other_means() {
    for url in ["https://crl.example.com/root.crl", "ldap:///CN=Root?x"] {
        let root = Entity::root("Root");
        let mut scene = Scene::under(root);
        scene.peer = scene.root.issue(revocable(7, Some(url), None));
        let mut crl = Crl::of(&[7]);
        crl.extensions = vec![point(&[&full_name(url)])];
        let der = crl.signed(&scene.root);
        let issuers = [scene.root.anchor()];
        scene
            .revocation
            .add_crl(&der, &issuers, scene.judge.time)
            .unwrap();
        assert_eq!(
            scene.decide().refusal().cloned(),
            revoked(RevocationReason::Unspecified),
            "{url}"
        );
    }
}

#[test]
fn lists_of_users_and_of_cas_stand_side_by_side() {
    let root = Entity::root("Root");
    let middle = root.issue(ca("Middle").with(|p| {
        crate::evidence::name_addresses(p, 7, Some(CRL_URL), None);
    }));
    let peer = middle.issue(revocable(7, Some(CRL_URL), None));
    let policy = RevocationPolicy {
        scope: homefleet_trust::RevocationScope::Chain,
        ..RevocationPolicy::default()
    };
    let mut revocation = Revocation::new(policy);
    let judge = Judge::trusting(&[&root]);
    let ask = |revocation: &Revocation| {
        judge.ask_with(
            &ders(&[&peer, &middle]),
            Connection::Accepted,
            Some(revocation),
        )
    };
    let of_cas = |serials: &[u32]| {
        Crl::of(serials).with(|c| c.extensions = vec![point(&[&[0x82, 1, 0xFF]])])
    };
    let of_users = |serials: &[u32]| {
        Crl::of(serials).with(|c| c.extensions = vec![point(&[&[0x81, 1, 0xFF]])])
    };
    let issuers = [root.anchor(), middle.anchor()];
    for der in [
        of_users(&[7]).signed(&root),
        of_cas(&[7]).signed(&middle),
        of_users(&[]).signed(&middle),
        of_cas(&[]).signed(&root),
    ] {
        assert!(!ask(&revocation).is_established());
        revocation.add_crl(&der, &issuers, judge.time).unwrap();
    }
    // Each certificate is listed only where it is not covered.
    let decision = ask(&revocation);
    assert_eq!(decision.outcome, Outcome::Establish);
    assert_eq!(revocation.sizes(), (4, 2, 0));
    let der = of_cas(&[7]).signed(&root);
    revocation.add_crl(&der, &issuers, judge.time).unwrap();
    let reason = RevocationReason::Unspecified;
    assert_eq!(
        ask(&revocation).refusal(),
        Some(&Refusal::Revoked { level: 1, reason })
    );
}

#[test]
fn an_older_crl_does_not_take_the_place_of_a_newer() {
    let mut scene = Scene::new();
    let older = Crl::of(&[]).with(|crl| crl.this_update = now() - 2 * DAY);
    let (older, newer) = (older.signed(&scene.root), Crl::of(&[7]).signed(&scene.root));
    scene.add(&newer).unwrap();
    assert_eq!(scene.add(&older), Err(EvidenceError::Older));
    assert_eq!(
        scene.decide().refusal().cloned(),
        revoked(RevocationReason::Unspecified)
    );
    // The same again is news of its time.
    assert_eq!(scene.add(&newer), Ok(()));
}

#[test]
fn a_crl_has_bounds() {
    let der = Crl::of(&[1, 2, 3]).signed(&Entity::root("Root"));
    let with = |policy| {
        let mut scene = Scene::new();
        scene.revocation = Revocation::new(policy);
        let error = scene.add(&der).unwrap_err();
        assert_eq!(scene.revocation.sizes(), (0, 0, 0));
        error
    };
    let (bytes, limit) = (der.len(), der.len() - 1);
    let policy = RevocationPolicy {
        max_crl_bytes: limit,
        ..RevocationPolicy::default()
    };
    assert_eq!(with(policy), EvidenceError::TooLarge { bytes, limit });
    let policy = RevocationPolicy {
        max_crl_entries: 2,
        ..RevocationPolicy::default()
    };
    assert_eq!(with(policy), EvidenceError::TooManyEntries { limit: 2 });
}

#[test]
fn one_of_a_hundred_thousand_is_found() {
    let mut scene = Scene::new();
    // Not in order, of every length up to the 20 octets that serial numbers have at most (RFC 5280 §4.1.2.2).
    let odd = |n: u32| {
        let mut bytes = serial(n.wrapping_mul(2_654_435_761));
        bytes.resize(5 + n as usize % 16, 0xA5);
        bytes
    };
    let mut crl = Crl::of(&[]);
    crl.revoked = (0..100_000).map(|n| (odd(n), Vec::new())).collect();
    crl.revoked[61_803] = (serial(7), reason(4));
    let der = crl.signed(&scene.root);
    scene.add(&der).unwrap();
    assert_eq!(scene.revocation.sizes(), (1, 100_000, 0));
    assert_eq!(
        scene.decide().refusal().cloned(),
        revoked(RevocationReason::Superseded)
    );
    scene.peer = scene.root.issue(revocable(8, Some(CRL_URL), None));
    assert_eq!(scene.decide().outcome, Outcome::Establish);
}

#[test]
fn what_follows_a_crl_or_is_cut_off_is_refused() {
    let mut scene = Scene::new();
    let der = Crl::of(&[8]).signed(&scene.root);
    let mut longer = der.clone();
    longer.push(0);
    for bytes in [
        &longer[..],
        &der[..der.len() - 1],
        &[],
        &scene.peer.der.clone()[..],
    ] {
        let error = scene.add(bytes).unwrap_err();
        assert!(matches!(error, EvidenceError::Malformed { .. }), "{error}");
    }
}
