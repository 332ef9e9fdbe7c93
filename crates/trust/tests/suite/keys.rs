//! Kinds and strengths of keys and signatures that rcgen can make; the others are in `openssl`.

use std::rc::Rc;

use der::asn1::ObjectIdentifier;
use homefleet_trust::Refusal;
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519,
    PKCS_RSA_SHA256, PKCS_RSA_SHA384, PKCS_RSA_SHA512, RsaKeySize, SignatureAlgorithm,
};

use crate::forge::{Entity, Judge, ca, endpoint};

fn key(algorithm: &'static SignatureAlgorithm) -> Rc<KeyPair> {
    Rc::new(KeyPair::generate_for(algorithm).unwrap())
}

#[test]
fn each_accepted_kind_of_key_signs_for_each_other() {
    let kinds = [
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ED25519,
        &PKCS_RSA_SHA256,
    ];
    for ca_kind in kinds {
        let root = Entity::self_signed_with(ca("Root"), key(ca_kind));
        for peer_kind in kinds {
            let peer = root.issue_with(endpoint("peer"), key(peer_kind));
            assert_eq!(
                Judge::trusting(&[&root]).refusal(&[&peer]),
                None,
                "{peer_kind:?} by {ca_kind:?}"
            );
        }
    }
}

#[test]
fn rsa_signs_with_each_sha_2() {
    for kind in [&PKCS_RSA_SHA256, &PKCS_RSA_SHA384, &PKCS_RSA_SHA512] {
        let root = Entity::self_signed_with(ca("Root"), key(kind));
        let peer = root.issue(endpoint("peer"));
        assert_eq!(
            Judge::trusting(&[&root]).refusal(&[&peer]),
            None,
            "{kind:?}"
        );
        let peer = Entity::self_signed_with(ca("Root"), key(kind)).issue(endpoint("peer"));
        assert_eq!(
            Judge::trusting(&[&root]).refusal(&[&peer]),
            Some(Refusal::BadSignature { level: 0 })
        );
    }
}

#[test]
fn a_curve_that_is_not_accepted_is_refused_as_peer_and_as_issuer() {
    let algorithm = ObjectIdentifier::new("1.3.132.0.35").unwrap();
    let root = Entity::root("Root");
    let peer = root.issue_with(endpoint("peer"), key(&PKCS_ECDSA_P521_SHA512));
    assert_eq!(
        Judge::trusting(&[&root]).refusal(&[&peer]),
        Some(Refusal::KeyAlgorithm {
            level: 0,
            algorithm
        })
    );
    let root = Entity::self_signed_with(ca("Root"), key(&PKCS_ECDSA_P521_SHA512));
    let peer = root.issue(endpoint("peer"));
    assert_eq!(
        Judge::trusting(&[&root]).refusal(&[&peer]),
        Some(Refusal::KeyAlgorithm {
            level: 1,
            algorithm
        })
    );
}

#[test]
fn a_signature_of_another_kind_than_the_issuers_key_is_bad() {
    let root = Entity::root("Root");
    let peer = Entity::self_signed_with(ca("Root"), key(&PKCS_RSA_SHA256)).issue(endpoint("peer"));
    assert_eq!(
        Judge::trusting(&[&root]).refusal(&[&peer]),
        Some(Refusal::BadSignature { level: 0 })
    );
}

#[test]
fn the_policy_sets_the_smallest_rsa_key_at_every_level() {
    let small = || key(&PKCS_RSA_SHA256);
    let large = Rc::new(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072).unwrap());
    let strict = |root: &Entity| {
        let mut judge = Judge::trusting(&[root]);
        judge.policy.min_rsa_bits = 3072;
        judge
    };
    let root = Entity::self_signed_with(ca("Root"), large.clone());
    let peer = root.issue_with(endpoint("peer"), small());
    assert_eq!(
        strict(&root).refusal(&[&peer]),
        Some(Refusal::KeySize {
            level: 0,
            bits: 2048
        })
    );
    assert_eq!(
        strict(&root).refusal(&[&root.issue(endpoint("peer"))]),
        None
    );
    let root = Entity::self_signed_with(ca("Root"), small());
    let peer = root.issue_with(endpoint("peer"), large);
    assert_eq!(
        strict(&root).refusal(&[&peer]),
        Some(Refusal::KeySize {
            level: 1,
            bits: 2048
        })
    );
}
