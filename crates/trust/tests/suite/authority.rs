//! What a certificate may be used for: RFC 5280 §6.1.4 (k) to (o), §6.1.5 (e), §4.2.1.3, §4.2.1.9, §4.2.1.12.

use der::asn1::ObjectIdentifier;
use homefleet_trust::{Purpose, Refusal};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};

use crate::forge::{Entity, Judge, With, ca, ca_with_path_len, endpoint, extension, same, three};

#[test]
fn a_good_chain_is_accepted_in_both_roles() {
    let three = three(same, same, same);
    assert_eq!(three.refusal(), None);
    assert_eq!(three.refusal_as_server(), None);
}

#[test]
fn an_issuer_without_basic_constraints_is_no_ca() {
    let three = three(same, |p| p.is_ca = IsCa::NoCa, same);
    assert_eq!(three.refusal(), Some(Refusal::NotACa { level: 1 }));
}

#[test]
fn an_issuer_with_ca_false_is_no_ca() {
    let three = three(same, |p| p.is_ca = IsCa::ExplicitNoCa, same);
    assert_eq!(three.refusal(), Some(Refusal::NotACa { level: 1 }));
}

#[test]
fn an_anchor_that_is_no_ca_issues_nothing() {
    let three = three(|p| p.is_ca = IsCa::NoCa, same, same);
    assert_eq!(three.refusal(), Some(Refusal::NotACa { level: 2 }));
}

#[test]
fn path_length_zero_allows_only_end_entities() {
    let root = Entity::self_signed(ca_with_path_len("Root", 0));
    let middle = root.issue(ca("Intermediate"));
    let judge = Judge::trusting(&[&root]);
    assert_eq!(judge.refusal(&[&root.issue(endpoint("peer"))]), None);
    let peer = middle.issue(endpoint("peer"));
    assert_eq!(
        judge.refusal(&[&peer, &middle]),
        Some(Refusal::PathLength {
            level: 2,
            allowed: 0
        })
    );
}

#[test]
fn path_length_counts_the_intermediates_below() {
    let root = Entity::self_signed(ca_with_path_len("Root", 1));
    let upper = root.issue(ca("Upper"));
    let lower = upper.issue(ca("Lower"));
    let judge = Judge::trusting(&[&root]);
    assert_eq!(
        judge.refusal(&[&upper.issue(endpoint("peer")), &upper]),
        None
    );
    let peer = lower.issue(endpoint("peer"));
    assert_eq!(
        judge.refusal(&[&peer, &lower, &upper]),
        Some(Refusal::PathLength {
            level: 3,
            allowed: 1
        })
    );
}

#[test]
fn path_length_of_an_intermediate_binds_too() {
    let root = Entity::root("Root");
    let upper = root.issue(ca_with_path_len("Upper", 0));
    let lower = upper.issue(ca("Lower"));
    let peer = lower.issue(endpoint("peer"));
    let refusal = Judge::trusting(&[&root]).refusal(&[&peer, &lower, &upper]);
    assert_eq!(
        refusal,
        Some(Refusal::PathLength {
            level: 2,
            allowed: 0
        })
    );
}

#[test]
fn self_issued_intermediates_do_not_count_for_path_length() {
    let root = Entity::self_signed(ca_with_path_len("Root", 0));
    // The root's next key, certified by its present one (RFC 5280 §6.1, "self-issued").
    let next = root.issue(ca("Root"));
    let peer = next.issue(endpoint("peer"));
    assert_eq!(Judge::trusting(&[&root]).refusal(&[&peer, &next]), None);
}

#[test]
fn a_ca_key_without_key_cert_sign_issues_nothing() {
    let only_crl = vec![KeyUsagePurpose::CrlSign];
    let below = three(same, |p| p.key_usages = only_crl.clone(), same);
    assert_eq!(below.refusal(), Some(Refusal::KeyUsage { level: 1 }));
    let anchor = three(|p| p.key_usages = only_crl.clone(), same, same);
    assert_eq!(anchor.refusal(), Some(Refusal::KeyUsage { level: 2 }));
}

#[test]
fn a_ca_without_key_usage_extension_may_sign() {
    assert_eq!(
        three(|p| p.key_usages.clear(), |p| p.key_usages.clear(), same).refusal(),
        None
    );
}

#[test]
fn a_peer_key_that_may_not_sign_is_refused() {
    let three = three(same, same, |p| {
        p.key_usages = vec![KeyUsagePurpose::KeyEncipherment]
    });
    assert_eq!(three.refusal(), Some(Refusal::KeyUsage { level: 0 }));
    assert_eq!(
        three.refusal_as_server(),
        Some(Refusal::KeyUsage { level: 0 })
    );
}

#[test]
fn a_peer_without_key_usage_extensions_is_accepted() {
    let three = three(same, same, |p| {
        p.key_usages.clear();
        p.extended_key_usages.clear();
    });
    assert_eq!(three.refusal(), None);
    assert_eq!(three.refusal_as_server(), None);
}

#[test]
fn the_extended_key_usage_has_to_allow_the_role() {
    let server = three(same, same, |p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]
    });
    let (level, purpose) = (0, Purpose::ClientAuth);
    assert_eq!(
        server.refusal(),
        Some(Refusal::ExtendedKeyUsage { level, purpose })
    );
    assert_eq!(server.refusal_as_server(), None);

    let client = three(same, same, |p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]
    });
    let purpose = Purpose::ServerAuth;
    assert_eq!(client.refusal(), None);
    assert_eq!(
        client.refusal_as_server(),
        Some(Refusal::ExtendedKeyUsage { level, purpose })
    );
}

#[test]
fn any_extended_key_usage_allows_both_roles() {
    let three = three(same, same, |p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]
    });
    assert_eq!(three.refusal(), None);
    assert_eq!(three.refusal_as_server(), None);
}

#[test]
fn the_extended_key_usage_of_a_ca_limits_what_it_issues() {
    let three = three(
        same,
        |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning],
        same,
    );
    let purpose = Purpose::ClientAuth;
    assert_eq!(
        three.refusal(),
        Some(Refusal::ExtendedKeyUsage { level: 1, purpose })
    );
}

const UNKNOWN: &[u64] = &[1, 3, 6, 1, 4, 1, 3561, 99, 1];

#[test]
fn an_unknown_critical_extension_is_refused_at_every_level() {
    let odd = || vec![extension(UNKNOWN, true, &[5, 0])];
    let extension = ObjectIdentifier::new("1.3.6.1.4.1.3561.99.1").unwrap();
    let cases = [
        three(same, same, |p| p.custom_extensions = odd()),
        three(same, |p| p.custom_extensions = odd(), same),
        three(|p| p.custom_extensions = odd(), same, same),
    ];
    for (level, case) in cases.iter().enumerate() {
        assert_eq!(
            case.refusal(),
            Some(Refusal::CriticalExtension { level, extension })
        );
    }
}

#[test]
fn an_unknown_extension_that_is_not_critical_is_passed_over() {
    let odd = || vec![extension(UNKNOWN, false, b"not even DER")];
    let three = three(
        |p| p.custom_extensions = odd(),
        |p| p.custom_extensions = odd(),
        |p| p.custom_extensions = odd(),
    );
    assert_eq!(three.refusal(), None);
}

#[test]
fn critical_certificate_policies_are_accepted_and_critical_policy_constraints_are_not() {
    // SEQUENCE { SEQUENCE { OID 2.5.29.32.0 } }
    let any_policy = [0x30, 0x08, 0x30, 0x06, 0x06, 0x04, 0x55, 0x1D, 0x20, 0x00];
    let policies = three(same, same, |p| {
        p.custom_extensions = vec![extension(&[2, 5, 29, 32], true, &any_policy)]
    });
    assert_eq!(policies.refusal(), None);
    // SEQUENCE { requireExplicitPolicy [0] 0 }
    let explicit = [0x30, 0x03, 0x80, 0x01, 0x00];
    let constraints = three(
        same,
        |p| p.custom_extensions = vec![extension(&[2, 5, 29, 36], true, &explicit)],
        same,
    );
    let extension = ObjectIdentifier::new("2.5.29.36").unwrap();
    assert_eq!(
        constraints.refusal(),
        Some(Refusal::CriticalExtension {
            level: 1,
            extension
        })
    );
}

#[test]
fn a_ca_certificate_may_itself_be_a_peer() {
    let root = Entity::root("Root");
    let peer =
        root.issue(endpoint("peer").with(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)));
    assert_eq!(Judge::trusting(&[&root]).refusal(&[&peer]), None);
}
