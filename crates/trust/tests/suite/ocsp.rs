//! OCSP by the clauses of RFC 6960, RFC 5019 and RFC 9654.

use std::{rc::Rc, time::Duration};

use homefleet_trust::{
    CertIdHash, Connection, Decision, EvidenceError, Outcome, Refusal, Revocation,
    RevocationPolicy, RevocationReason, Time, Wanted,
};
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P521_SHA512, date_time_ymd,
};

use crate::{
    evidence::{DAY, OCSP_URL, ODD, Ocsp, Said, raw_extension, revocable, serial, wanted_ocsp},
    forge::{Entity, Judge, With, ca, ders, dn, extension, now, tlv},
};

struct Scene {
    root: Entity,
    peer: Entity,
    judge: Judge,
    revocation: Revocation,
}

impl Scene {
    fn new() -> Self {
        let root = Entity::root("Root");
        Self {
            peer: root.issue(revocable(7, None, Some(OCSP_URL))),
            judge: Judge::trusting(&[&root]),
            revocation: Revocation::new(RevocationPolicy::default()),
            root,
        }
    }

    fn add(&mut self, der: &[u8]) -> Result<(), EvidenceError> {
        self.add_with_nonce(None, der)
    }

    fn add_with_nonce(&mut self, nonce: Option<&[u8]>, der: &[u8]) -> Result<(), EvidenceError> {
        let wanted = wanted_ocsp(&self.root, 7);
        self.revocation.add(&wanted, nonce, der, self.judge.time)
    }

    fn decide(&self) -> Decision {
        let chain = ders(&[&self.peer]);
        let connection = Connection::Accepted;
        self.judge
            .ask_with(&chain, connection, Some(&self.revocation))
    }

    /// A response of the issuer's own, as changed.
    fn answered(
        said: Said,
        change: impl FnOnce(&mut Ocsp),
    ) -> (Result<(), EvidenceError>, Decision) {
        let mut scene = Self::new();
        let der = Ocsp::says(said, 7).with(change).by(&scene.root);
        let result = scene.add(&der);
        (result, scene.decide())
    }

    /// "Good" by a responder of the root's with these parameters.
    fn delegated(change: impl FnOnce(&mut CertificateParams)) -> Result<(), EvidenceError> {
        let mut scene = Self::new();
        let responder = scene.root.issue(responder().with(change));
        let ocsp = Ocsp::says(Said::Good, 7).with(|o| o.certificates = vec![responder.der.clone()]);
        scene.add(&ocsp.signed(&scene.root, &responder, &responder))
    }
}

fn responder() -> CertificateParams {
    ca("Responder").with(|p| {
        p.is_ca = IsCa::NoCa;
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
    })
}

fn unchanged(_: &mut Ocsp) {}

fn revoked(reason: RevocationReason) -> Option<Refusal> {
    Some(Refusal::Revoked { level: 0, reason })
}

#[test]
fn the_peer_is_held_until_the_responder_has_answered() {
    let mut scene = Scene::new();
    let wanted = wanted_ocsp(&scene.root, 7);
    assert_eq!(scene.decide().outcome, Outcome::Hold(vec![wanted]));
    let der = Ocsp::says(Said::Good, 7).by(&scene.root);
    scene.add(&der).unwrap();
    let decision = scene.decide();
    assert_eq!(decision.outcome, Outcome::Establish);
    assert_eq!(decision.valid_until, Some(now() + DAY));
}

#[test]
fn good_revoked_and_unknown_are_told_apart() {
    let outcome = |said| {
        let (result, decision) = Scene::answered(said, unchanged);
        result.unwrap();
        decision.outcome
    };
    assert_eq!(outcome(Said::Good), Outcome::Establish);
    // The responder does not know: by default, that lets pass.
    assert_eq!(outcome(Said::Unknown), Outcome::Establish);
    for (code, reason) in [
        (None, RevocationReason::Unspecified),
        (Some(1), RevocationReason::KeyCompromise),
    ] {
        let refusal = Refusal::Revoked { level: 0, reason };
        assert_eq!(outcome(Said::Revoked(code)), Outcome::Terminate(refusal));
    }
}

#[test]
fn an_answer_unknown_is_none_under_a_policy_that_refuses_then() {
    let mut scene = Scene::new();
    scene.revocation = Revocation::new(RevocationPolicy {
        unknown: homefleet_trust::Unknown::Refuse,
        ..RevocationPolicy::default()
    });
    let der = Ocsp::says(Said::Unknown, 7).by(&scene.root);
    scene.add(&der).unwrap();
    let refusal = Refusal::RevocationUnknown { level: 0 };
    assert_eq!(refusal.alert().code(), 46);
    assert_eq!(scene.decide().outcome, Outcome::Terminate(refusal));
}

#[test]
fn the_responder_may_name_itself_by_key_or_name_and_the_issuer_by_either_hash() {
    for by_name in [true, false] {
        for sha256 in [true, false] {
            let (result, decision) = Scene::answered(Said::Good, |ocsp| {
                ocsp.by_name = by_name;
                ocsp.sha256 = sha256;
            });
            assert_eq!((result, decision.outcome), (Ok(()), Outcome::Establish));
        }
    }
}

#[test]
fn a_responder_that_the_issuer_authorised_is_believed() {
    assert_eq!(Scene::delegated(|_| {}), Ok(()));
    // What only says that its own status is not to be asked for (RFC 6960 §4.2.2.2.1).
    let no_check = extension(&[1, 3, 6, 1, 5, 5, 7, 48, 1, 5], true, &[5, 0]);
    assert_eq!(
        Scene::delegated(|p| p.custom_extensions = vec![no_check]),
        Ok(())
    );
}

#[test]
fn a_responder_that_the_issuer_did_not_authorise_is_not_believed() {
    use EvidenceError::Responder;
    let not = |change: fn(&mut CertificateParams)| {
        assert_eq!(Scene::delegated(change), Err(Responder));
    };
    not(|p| p.extended_key_usages.clear());
    not(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]);
    not(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    not(|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    not(|p| p.not_after = date_time_ymd(2026, 5, 31));
    not(|p| p.not_before = date_time_ymd(2026, 6, 2));
    not(|p| p.custom_extensions = vec![extension(&[1, 2, 3, 4], true, &[5, 0])]);

    let mut scene = Scene::new();
    let respond = |scene: &mut Scene, by: &Entity, presented: Vec<Vec<u8>>| {
        let ocsp = Ocsp::says(Said::Good, 7).with(|o| o.certificates = presented);
        scene.add(&ocsp.signed(&scene.root, by, by))
    };
    // Of another CA; below a CA of the root's; in the root's name by another key; not shown; itself.
    let other = Entity::root("Other").issue(responder());
    assert_eq!(
        respond(&mut scene, &other, vec![other.der.clone()]),
        Err(Responder)
    );
    let middle = scene.root.issue(ca("Middle"));
    let below = middle.issue(responder());
    let shown = vec![below.der.clone(), middle.der.clone()];
    assert_eq!(respond(&mut scene, &below, shown), Err(Responder));
    let forged = scene.root.impostor().issue(responder());
    assert_eq!(
        respond(&mut scene, &forged, vec![forged.der.clone()]),
        Err(Responder)
    );
    let mut renamed = scene.root.clone();
    renamed.params.distinguished_name = dn("Nobody");
    let foreign = renamed.issue(responder());
    assert_eq!(
        respond(&mut scene, &foreign, vec![foreign.der.clone()]),
        Err(Responder)
    );
    let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap();
    let odd_key = scene.root.issue_with(responder(), Rc::new(key));
    assert_eq!(
        respond(&mut scene, &odd_key, vec![odd_key.der.clone()]),
        Err(Responder)
    );
    let hidden = scene.root.issue(responder());
    assert_eq!(respond(&mut scene, &hidden, vec![]), Err(Responder));
    let peer = scene.peer.clone();
    assert_eq!(
        respond(&mut scene, &peer, vec![peer.der.clone()]),
        Err(Responder)
    );
    assert!(matches!(scene.decide().outcome, Outcome::Hold(_)));
}

#[test]
fn a_response_is_believed_by_its_signature_only() {
    let mut scene = Scene::new();
    let ocsp = Ocsp::says(Said::Good, 7);
    let (root, impostor) = (scene.root.clone(), scene.root.impostor());
    assert_eq!(
        scene.add(&ocsp.signed(&root, &root, &impostor)),
        Err(EvidenceError::Signature)
    );
    let responder = root.issue(responder());
    let ocsp = ocsp.with(|o| o.certificates = vec![responder.der.clone()]);
    assert_eq!(
        scene.add(&ocsp.signed(&root, &responder, &root)),
        Err(EvidenceError::Signature)
    );
}

#[test]
fn a_response_about_another_certificate_or_issuer_says_nothing() {
    let (result, _) = Scene::answered(Said::Good, |o| o.serial = serial(8));
    assert_eq!(result, Err(EvidenceError::OtherCertificate));
    let mut scene = Scene::new();
    let ocsp = Ocsp::says(Said::Good, 7);
    let other = Entity::root("Other");
    let der = ocsp.signed(&other, &scene.root, &scene.root);
    assert_eq!(scene.add(&der), Err(EvidenceError::OtherCertificate));
    let other_name = Entity::self_signed_with(ca("Other"), scene.root.key.clone());
    let der = ocsp.signed(&other_name, &scene.root, &scene.root);
    assert_eq!(scene.add(&der), Err(EvidenceError::OtherCertificate));
    let namesake = Entity::root("Root");
    let der = ocsp.signed(&namesake, &scene.root, &scene.root);
    assert_eq!(scene.add(&der), Err(EvidenceError::OtherCertificate));
}

#[test]
fn a_response_is_good_from_this_update_to_next_update() {
    let second = Duration::from_secs(1);
    let (result, _) = Scene::answered(Said::Good, |o| o.this_update = now() + 301 * second);
    assert_eq!(result, Err(EvidenceError::NotYetValid));
    let (result, _) = Scene::answered(Said::Good, |o| o.this_update = now() + 300 * second);
    assert_eq!(result, Ok(()));
    let (result, _) = Scene::answered(Said::Good, |o| o.next_update = Some(now() - second));
    assert_eq!(result, Err(EvidenceError::OutOfDate));
    let (result, decision) = Scene::answered(Said::Good, |o| {
        o.this_update = now();
        o.next_update = None;
    });
    assert_eq!(result, Ok(()));
    assert_eq!(decision.valid_until, Some(now() + 3600 * second));
}

#[test]
fn an_old_response_without_next_update_is_not_taken_for_news() {
    let second = Duration::from_secs(1);
    let replayed = |age| {
        let (result, _) = Scene::answered(Said::Good, |o| {
            o.this_update = now() - age;
            o.next_update = None;
        });
        result
    };
    assert_eq!(replayed(3600 * second), Ok(()));
    assert_eq!(replayed(3601 * second), Err(EvidenceError::OutOfDate));
}

#[test]
fn an_answer_that_runs_out_is_wanted_anew_and_what_it_revoked_stays_revoked() {
    for said in [Said::Good, Said::Unknown, Said::Revoked(None)] {
        let mut scene = Scene::new();
        let der = Ocsp::says(said, 7).by(&scene.root);
        scene.add(&der).unwrap();
        scene.judge.time = Time::Accurate(now() + DAY + Duration::from_secs(1));
        let decision = scene.decide();
        if let Said::Revoked(_) = said {
            assert_eq!(
                decision.refusal().cloned(),
                revoked(RevocationReason::Unspecified)
            );
        } else {
            let wanted = wanted_ocsp(&scene.root, 7);
            assert_eq!(decision.outcome, Outcome::Hold(vec![wanted]));
        }
    }
}

#[test]
fn without_accurate_time_the_dates_of_a_response_are_ignored() {
    let mut scene = Scene::new();
    scene.judge.time = Time::Unknown;
    let ocsp = Ocsp::says(Said::Good, 7).with(|o| o.next_update = Some(now() - DAY));
    let der = ocsp.by(&scene.root);
    assert_eq!(scene.add(&der), Ok(()));
    assert_eq!(scene.decide().outcome, Outcome::Establish);
    scene.judge.time = Time::Accurate(now());
    assert!(matches!(scene.decide().outcome, Outcome::Hold(_)));
}

#[test]
fn a_nonce_that_comes_back_has_to_be_the_one_sent() {
    let with = |sent: Option<&[u8]>, back: Option<&[u8]>| {
        let mut scene = Scene::new();
        let ocsp = Ocsp::says(Said::Good, 7).with(|o| o.nonce = back.map(<[u8]>::to_vec));
        let der = ocsp.by(&scene.root);
        scene.add_with_nonce(sent, &der)
    };
    assert_eq!(with(Some(b"one"), Some(b"one")), Ok(()));
    assert_eq!(with(Some(b"one"), Some(b"two")), Err(EvidenceError::Nonce));
    // Responders that answer from a store send none (RFC 5019 §4).
    assert_eq!(with(Some(b"one"), None), Ok(()));
    assert_eq!(with(None, Some(b"two")), Ok(()));
}

#[test]
fn a_responder_that_does_not_answer_is_told_by_its_status() {
    let mut scene = Scene::new();
    for status in [1, 2, 3, 5, 6] {
        let der = tlv(0x30, &[&[0x0A, 1, status]]);
        assert_eq!(scene.add(&der), Err(EvidenceError::Status(status)));
    }
    let der = tlv(0x30, &[&[0x0A, 1, 0]]);
    assert!(matches!(
        scene.add(&der),
        Err(EvidenceError::Malformed { .. })
    ));
    assert!(matches!(scene.decide().outcome, Outcome::Hold(_)));
}

#[test]
fn other_versions_kinds_and_critical_extensions_are_refused() {
    let (result, _) = Scene::answered(Said::Good, |o| o.version = Some(1));
    assert_eq!(result, Err(EvidenceError::Version));
    let (result, _) = Scene::answered(Said::Good, |o| o.kind = ODD);
    assert!(matches!(result, Err(EvidenceError::Malformed { .. })));
    let odd = |critical| {
        let (result, _) = Scene::answered(Said::Good, |o| {
            o.extensions = vec![raw_extension(ODD, critical, &[5, 0])];
        });
        result
    };
    let oid = der::asn1::ObjectIdentifier::new("1.2.3.4").unwrap();
    assert_eq!(odd(true), Err(EvidenceError::CriticalExtension(oid)));
    let single = |critical| {
        let (result, _) = Scene::answered(Said::Good, |o| {
            o.single_extensions = vec![raw_extension(ODD, critical, &[5, 0])];
        });
        result
    };
    assert_eq!(single(true), Err(EvidenceError::CriticalExtension(oid)));
    assert_eq!(single(false), Ok(()));
    assert_eq!(odd(false), Ok(()));
}

#[test]
fn an_older_answer_does_not_take_the_place_of_a_newer() {
    let mut scene = Scene::new();
    let newer = Ocsp::says(Said::Revoked(Some(1)), 7).by(&scene.root);
    let older = Ocsp::says(Said::Good, 7).with(|o| o.this_update -= Duration::from_secs(1));
    let older = older.by(&scene.root);
    scene.add(&older).unwrap();
    scene.add(&newer).unwrap();
    assert_eq!(scene.add(&older), Err(EvidenceError::Older));
    assert_eq!(
        scene.decide().refusal().cloned(),
        revoked(RevocationReason::KeyCompromise)
    );
}

#[test]
fn a_response_has_bounds() {
    let mut scene = Scene::new();
    let der = Ocsp::says(Said::Good, 7).by(&scene.root);
    let (bytes, limit) = (der.len(), der.len() - 1);
    scene.revocation = Revocation::new(RevocationPolicy {
        max_ocsp_bytes: limit,
        ..RevocationPolicy::default()
    });
    assert_eq!(
        scene.add(&der),
        Err(EvidenceError::TooLarge { bytes, limit })
    );
    assert_eq!(
        scene.revocation.max_bytes(&wanted_ocsp(&scene.root, 7)),
        limit
    );
}

#[test]
fn only_three_certificates_are_tried_as_the_responders() {
    let mut scene = Scene::new();
    let real = scene.root.issue(responder());
    // Of the responder's name and key, and not authorised.
    let fakes = (0..3).map(|_| Entity::self_signed_with(responder(), real.key.clone()).der);
    let mut presented: Vec<Vec<u8>> = fakes.collect();
    presented.push(real.der.clone());
    let ocsp = |certificates: &[Vec<u8>]| {
        let ocsp = Ocsp::says(Said::Good, 7).with(|o| o.certificates = certificates.to_vec());
        ocsp.signed(&scene.root, &real, &real)
    };
    let (four, three) = (ocsp(&presented), ocsp(&presented[1..]));
    assert_eq!(scene.add(&four), Err(EvidenceError::Responder));
    assert_eq!(scene.add(&three), Ok(()));
}

#[test]
fn the_request_names_the_certificate_and_carries_the_nonce() {
    let scene = Scene::new();
    let wanted = wanted_ocsp(&scene.root, 7);
    let plain = wanted.request(None).unwrap();
    let nonce = [0xA5; 32];
    let with = wanted.request(Some(&nonce)).unwrap();
    let holds = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|w| w == part);
    assert!(holds(&plain, &serial(7)) && holds(&with, &serial(7)));
    assert!(!holds(&plain, &nonce) && holds(&with, &nonce));
    let Wanted::Ocsp {
        url,
        issuer,
        serial,
        ..
    } = wanted
    else {
        panic!()
    };
    let hash = CertIdHash::Sha256;
    let wanted = Wanted::Ocsp {
        url,
        issuer,
        serial,
        hash,
    };
    assert_eq!(wanted.request(None).unwrap().len(), plain.len() + 28);
    assert_eq!(crate::evidence::wanted_crl(&scene.root).request(None), None);
}
