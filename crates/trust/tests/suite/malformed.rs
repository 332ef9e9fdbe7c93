//! Bytes that are no certificate, or one that contradicts itself (RFC 5280 §4.1, §4.2).

use der::asn1::ObjectIdentifier;
use homefleet_trust::{Anchor, AnchorError, Connection, Problem, Refusal};

use crate::forge::{Entity, Judge, With, endpoint, extension, same, three, tlv};

/// What is said about these bytes as the peer's certificate.
fn refusal(der: &[u8]) -> Option<Refusal> {
    let root = Entity::root("Root");
    Judge::trusting(&[&root])
        .ask(&[der.to_vec()], Connection::Accepted)
        .refusal()
        .cloned()
}

fn problem(der: &[u8]) -> Problem {
    match refusal(der) {
        Some(Refusal::Malformed { problem }) => problem,
        other => panic!("{other:?}"),
    }
}

/// The positions at which `needle` occurs.
fn positions(hay: &[u8], needle: &[u8]) -> Vec<usize> {
    (0..hay.len().saturating_sub(needle.len()))
        .filter(|&at| hay[at..].starts_with(needle))
        .collect()
}

/// ecdsa-with-SHA256, the OID's DER.
const ECDSA_SHA256: [u8; 10] = [0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02];

#[test]
fn what_is_not_der_is_malformed() {
    let good = Entity::root("Root").der;
    assert!(matches!(problem(b""), Problem::Der { .. }));
    assert!(matches!(problem(b"garbage"), Problem::Der { .. }));
    for end in [1, 10, 100, good.len() - 1] {
        assert!(
            matches!(problem(&good[..end]), Problem::Der { .. }),
            "cut at {end}"
        );
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(
        matches!(problem(&longer), Problem::Der { .. }),
        "a byte behind the certificate"
    );
}

#[test]
fn the_two_signature_algorithms_have_to_agree() {
    let mut der = Entity::root("Root").der;
    let at = positions(&der, &ECDSA_SHA256);
    assert_eq!(at.len(), 2);
    der[at[1] + 9] = 3;
    assert_eq!(problem(&der), Problem::SignatureAlgorithmsDiffer);
}

#[test]
fn an_extension_twice_is_malformed() {
    let twice = || {
        vec![
            extension(&[1, 2, 3, 4], false, &[5, 0]),
            extension(&[1, 2, 3, 4], false, &[5, 0]),
        ]
    };
    let three = three(same, same, |p| p.custom_extensions = twice());
    let problem = Problem::DuplicateExtension(ObjectIdentifier::new("1.2.3.4").unwrap());
    assert_eq!(three.refusal(), Some(Refusal::Malformed { problem }));
}

#[test]
fn a_processed_extension_that_cannot_be_decoded_is_malformed() {
    for (oid, content) in [
        (&[2, 5, 29, 17], tlv(0x30, &[&[0x82, 0x05, b'x']])),
        (&[2, 5, 29, 17], tlv(0x30, &[&tlv(0x86, &[&[0xFF]])])),
        (&[2, 5, 29, 17], tlv(0x04, &[b"x"])),
        (&[2, 5, 29, 30], tlv(0x30, &[&tlv(0xA2, &[])])),
        (
            &[2, 5, 29, 30],
            tlv(0x30, &[&tlv(0xA1, &[]), &tlv(0xA0, &[])]),
        ),
        (&[2, 5, 29, 19], b"\x30\x03\x01\x01\x01".to_vec()),
        (&[2, 5, 29, 19], b"\x30\x03\x02\x01\xFF".to_vec()),
    ] {
        let peer = Entity::root("Root").issue(endpoint("peer").with(|p| {
            p.subject_alt_names.clear();
            p.custom_extensions = vec![extension(oid, false, &content)];
        }));
        let oid = oid.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
        let expected = Problem::Extension(ObjectIdentifier::new(&oid).unwrap());
        assert_eq!(problem(&peer.der), expected, "{content:02x?}");
    }
}

#[test]
fn extensions_need_version_3_and_versions_end_there() {
    let good = Entity::root("Root").der;
    let version = positions(&good, &[0xA0, 0x03, 0x02, 0x01, 0x02]);
    for value in [0, 1, 3, 0x7F] {
        let mut der = good.clone();
        der[version[0] + 4] = value;
        assert_eq!(problem(&der), Problem::Version, "{value}");
    }
}

#[test]
fn a_changed_byte_of_the_signed_part_breaks_the_signature() {
    let root = Entity::root("Root");
    let peer = root.issue(endpoint("peer"));
    let at = positions(&peer.der, b"peer");
    let changed = peer.clone().with(|peer| peer.der[at[0]] = b'q');
    let judge = Judge::trusting(&[&root]);
    assert_eq!(judge.refusal(&[&peer]), None);
    assert_eq!(
        judge.refusal(&[&changed]),
        Some(Refusal::BadSignature { level: 0 })
    );
}

#[test]
fn a_changed_byte_of_the_signature_is_noticed() {
    let root = Entity::root("Root");
    let peer = root.issue(endpoint("peer"));
    let changed = peer.with(|peer| *peer.der.last_mut().unwrap() ^= 1);
    assert_eq!(
        Judge::trusting(&[&root]).refusal(&[&changed]),
        Some(Refusal::BadSignature { level: 0 })
    );
}

#[test]
fn no_single_changed_byte_is_accepted() {
    let root = Entity::root("Root");
    let peer = root.issue(endpoint("peer"));
    let judge = Judge::trusting(&[&root]);
    for at in 0..peer.der.len() {
        for bit in [0x01, 0x80] {
            let mut der = peer.der.clone();
            der[at] ^= bit;
            let decision = judge.ask(&[der], Connection::Accepted);
            assert!(!decision.is_established(), "byte {at} changed by {bit:#x}");
        }
    }
}

#[test]
fn an_anchor_has_to_be_a_certificate() {
    assert!(matches!(
        Anchor::from_der(b"garbage"),
        Err(AnchorError::Certificate(Problem::Der { .. }))
    ));
}
