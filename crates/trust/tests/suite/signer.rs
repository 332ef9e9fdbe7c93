//! Who signs messages: path validation without a connection.

use std::time::Duration;

use homefleet_trust::{Policy, Purpose, Refusal, Time, validate_signer};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyUsagePurpose};

use crate::forge::{Entity, With, ca, endpoint, now};

const PURPOSES: [Purpose; 3] = [
    Purpose::Messages,
    Purpose::RegistrationAuthority,
    Purpose::KeyGeneration,
];

/// cmcRA and cmKGA (RFC 9810 §4.5).
const CMC_RA: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 28];
const CM_KGA: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 32];

fn refusals(root: &Entity, signer: &Entity) -> Vec<Option<Refusal>> {
    let judge = |purpose| {
        let (chain, time) = ([signer.der.clone()], Time::Accurate(now()));
        validate_signer(&chain, &[root.anchor()], time, purpose, &Policy::default()).err()
    };
    PURPOSES.into_iter().map(judge).collect()
}

fn usages(usages: Vec<ExtendedKeyUsagePurpose>) -> CertificateParams {
    endpoint("signer").with(|p| p.extended_key_usages = usages)
}

fn not_for(purpose: Purpose) -> Option<Refusal> {
    Some(Refusal::ExtendedKeyUsage { level: 0, purpose })
}

#[test]
fn messages_may_be_signed_with_any_extended_key_usage_and_the_others_have_to_be_named() {
    let root = Entity::root("root");
    let [messages, relay, keys] = PURPOSES.map(not_for);
    let judged = |list: Vec<ExtendedKeyUsagePurpose>| refusals(&root, &root.issue(usages(list)));
    let other = |oid: &[u64]| ExtendedKeyUsagePurpose::Other(oid.to_vec());
    let neither = vec![None, relay.clone(), keys.clone()];
    assert_ne!(messages, None);
    assert_eq!(judged(vec![]), neither);
    assert_eq!(judged(vec![ExtendedKeyUsagePurpose::Any]), neither);
    assert_eq!(judged(vec![ExtendedKeyUsagePurpose::CodeSigning]), neither);
    assert_eq!(judged(vec![other(&CMC_RA)]), [None, None, keys]);
    assert_eq!(judged(vec![other(&CM_KGA)]), [None, relay, None]);
}

#[test]
fn a_ca_that_may_sign_may_sign_keys_that_it_made() {
    let root = Entity::root("root");
    let signing = root.issue(ca("issuing").with(|p| {
        p.key_usages.push(KeyUsagePurpose::DigitalSignature);
    }));
    assert_eq!(
        refusals(&root, &signing),
        [None, not_for(Purpose::RegistrationAuthority), None]
    );
}

#[test]
fn the_key_usage_has_to_allow_signatures() {
    let root = Entity::root("root");
    let signer = root.issue(endpoint("signer").with(|p| {
        p.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    }));
    assert_eq!(
        refusals(&root, &signer)[0],
        Some(Refusal::KeyUsage { level: 0 })
    );
}

#[test]
fn a_signer_needs_a_path_that_is_valid_now() {
    let (root, other) = (Entity::root("root"), Entity::root("other"));
    let issuing = root.issue(ca("issuing"));
    let signer = issuing.issue(endpoint("signer"));
    let judge = |chain: &[&Entity], anchor: &Entity, time| {
        let chain: Vec<Vec<u8>> = chain.iter().map(|entity| entity.der.clone()).collect();
        let policy = Policy::default();
        let found = validate_signer(&chain, &[anchor.anchor()], time, Purpose::Messages, &policy);
        found.map(|path| path.len())
    };
    let time = Time::Accurate(now());
    assert_eq!(judge(&[&signer, &issuing], &root, time), Ok(3));
    // In any order, with others among them.
    assert_eq!(
        judge(&[&signer, &other, &root, &issuing], &root, time),
        Ok(3)
    );
    assert_eq!(judge(&[&signer], &issuing, time), Ok(2));
    assert_eq!(judge(&[&signer], &signer, time), Ok(1));
    assert_eq!(judge(&[&signer], &root, time), Err(Refusal::UnknownIssuer));
    assert_eq!(
        judge(&[&signer, &issuing], &other, time),
        Err(Refusal::UnknownIssuer)
    );
    let forged = issuing.impostor().issue(endpoint("signer"));
    assert_eq!(
        judge(&[&forged, &issuing], &root, time),
        Err(Refusal::BadSignature { level: 0 })
    );
    let late = Time::Accurate(now() + Duration::from_secs(20 * 366 * 86_400));
    assert!(matches!(
        judge(&[&signer, &issuing], &root, late),
        Err(Refusal::Expired { .. })
    ));
    assert_eq!(judge(&[&signer, &issuing], &root, Time::Unknown), Ok(3));
    assert_eq!(judge(&[], &root, time), Err(Refusal::NoCertificate));
}
