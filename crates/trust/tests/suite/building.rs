//! Finding a path: intermediates in any order, superfluous ones, cross-certificates, anchors at every level
//! (RFC 5280 §6.1, R-SEC.2; RFC 8446 §4.4.2 on order).

use homefleet_trust::{Decision, Refusal, Source};
use rcgen::{DistinguishedName, DnType, DnValue};

use crate::forge::{Entity, Judge, With, ca, endpoint, extension, fresh_key, same, three};

struct Deep {
    root: Entity,
    upper: Entity,
    lower: Entity,
    peer: Entity,
}

fn deep() -> Deep {
    let root = Entity::root("Root");
    let upper = root.issue(ca("Upper"));
    let lower = upper.issue(ca("Lower"));
    let peer = lower.issue(endpoint("peer"));
    Deep {
        root,
        upper,
        lower,
        peer,
    }
}

fn sources(decision: &Decision) -> Vec<Source> {
    decision
        .chain
        .iter()
        .map(|certificate| certificate.source)
        .collect()
}

#[test]
fn intermediates_out_of_order_are_put_in_order() {
    let d = deep();
    let decision = Judge::trusting(&[&d.root]).accepted(&[&d.peer, &d.root, &d.upper, &d.lower]);
    let path = [
        Source::Presented(0),
        Source::Presented(3),
        Source::Presented(2),
        Source::Anchor(0),
    ];
    assert_eq!(sources(&decision), path);
    assert!(decision.is_established());
}

#[test]
fn superfluous_and_repeated_certificates_are_passed_over() {
    let d = deep();
    let stranger = Entity::root("Stranger");
    let chain = [&d.peer, &stranger, &d.lower, &d.lower, &d.peer, &d.upper];
    assert_eq!(Judge::trusting(&[&d.root]).refusal(&chain), None);
}

#[test]
fn a_missing_intermediate_is_refused() {
    let d = deep();
    let judge = Judge::trusting(&[&d.root]);
    assert_eq!(
        judge.refusal(&[&d.peer, &d.lower]),
        Some(Refusal::UnknownIssuer)
    );
    assert_eq!(
        judge.refusal(&[&d.peer, &d.upper]),
        Some(Refusal::UnknownIssuer)
    );
    assert_eq!(judge.refusal(&[&d.peer]), Some(Refusal::UnknownIssuer));
}

#[test]
fn an_anchor_may_be_a_root_an_intermediate_or_the_direct_issuer() {
    let d = deep();
    for (anchor, length) in [(&d.root, 4), (&d.upper, 3), (&d.lower, 2)] {
        for chain in [
            vec![&d.peer, &d.lower, &d.upper],
            vec![&d.peer, &d.lower, &d.upper, &d.root],
        ] {
            let decision = Judge::trusting(&[anchor]).accepted(&chain);
            assert_eq!(decision.chain.len(), length);
            assert_eq!(
                decision.peer.unwrap().anchor,
                Some(anchor.anchor().fingerprint())
            );
        }
    }
    assert_eq!(Judge::trusting(&[&d.lower]).refusal(&[&d.peer]), None);
}

#[test]
fn a_certificate_that_is_itself_configured_is_trusted() {
    let peer = Entity::self_signed(endpoint("peer"));
    let decision = Judge::trusting(&[&peer]).accepted(&[&peer]);
    assert!(decision.is_established());
    assert_eq!(sources(&decision), [Source::Anchor(0)]);
    // Another one with the same name and key is not.
    let other = Entity::self_signed_with(
        endpoint("peer").with(|p| p.subject_alt_names.clear()),
        peer.key.clone(),
    );
    assert_eq!(
        Judge::trusting(&[&peer]).refusal(&[&other]),
        Some(Refusal::NotACa { level: 1 })
    );
}

#[test]
fn a_self_signed_stranger_is_refused() {
    let root = Entity::root("Root");
    let peer = Entity::self_signed(endpoint("peer"));
    assert_eq!(
        Judge::trusting(&[&root]).refusal(&[&peer]),
        Some(Refusal::UnknownIssuer)
    );
}

#[test]
fn a_root_that_the_peer_brings_is_not_trusted() {
    let d = deep();
    let other = Entity::root("Other");
    let refusal = Judge::trusting(&[&other]).refusal(&[&d.peer, &d.lower, &d.upper, &d.root]);
    assert_eq!(refusal, Some(Refusal::UnknownIssuer));
}

#[test]
fn a_ca_of_the_same_name_and_another_key_is_refused() {
    let root = Entity::root("Root");
    let peer = root.impostor().issue(endpoint("peer"));
    assert_eq!(
        Judge::trusting(&[&root]).refusal(&[&peer]),
        Some(Refusal::BadSignature { level: 0 })
    );
    // Nor does it help to bring the impostor's own root along.
    let impostor = Entity::root("Root");
    let peer = impostor.issue(endpoint("peer"));
    let refusal = Judge::trusting(&[&root]).refusal(&[&peer, &impostor]);
    assert_eq!(refusal, Some(Refusal::BadSignature { level: 0 }));
}

#[test]
fn signatures_are_verified_at_every_level() {
    let root = Entity::root("Root");
    let real = root.issue(ca("Intermediate"));
    let forged = root
        .impostor()
        .issue_with(ca("Intermediate"), real.key.clone());
    let peer = real.issue(endpoint("peer"));
    let judge = Judge::trusting(&[&root]);
    assert_eq!(judge.refusal(&[&peer, &real]), None);
    assert_eq!(
        judge.refusal(&[&peer, &forged]),
        Some(Refusal::BadSignature { level: 1 })
    );
    let peer = real.impostor().issue(endpoint("peer"));
    assert_eq!(
        judge.refusal(&[&peer, &real]),
        Some(Refusal::BadSignature { level: 0 })
    );
}

#[test]
fn a_new_root_key_beside_the_old_one_is_found() {
    let old = Entity::root("Root");
    let new = Entity::root("Root");
    for issuer in [&old, &new] {
        let peer = issuer.issue(endpoint("peer"));
        assert_eq!(Judge::trusting(&[&old, &new]).refusal(&[&peer]), None);
        assert_eq!(Judge::trusting(&[&new, &old]).refusal(&[&peer]), None);
    }
}

#[test]
fn a_cross_certificate_leads_to_the_other_root() {
    let ours = Entity::root("Ours");
    let theirs = Entity::root("Theirs");
    let theirs_by_ours = ours.issue_with(ca("Theirs"), theirs.key.clone());
    let peer = theirs.issue(endpoint("peer"));
    assert_eq!(
        Judge::trusting(&[&ours]).refusal(&[&peer, &theirs, &theirs_by_ours]),
        None
    );
    assert_eq!(
        Judge::trusting(&[&ours]).refusal(&[&peer, &theirs_by_ours, &theirs]),
        None
    );
    assert_eq!(
        Judge::trusting(&[&theirs]).refusal(&[&peer, &theirs_by_ours]),
        None
    );
}

#[test]
fn a_second_path_is_tried_when_the_first_is_not_valid() {
    let root = Entity::root("Root");
    let key = fresh_key();
    let expired = root.issue_with(
        ca("Intermediate").with(|p| p.not_after = rcgen::date_time_ymd(2026, 1, 1)),
        key.clone(),
    );
    let renewed = root.issue_with(ca("Intermediate"), key);
    let peer = renewed.issue(endpoint("peer"));
    let judge = Judge::trusting(&[&root]);
    assert_eq!(
        judge.refusal(&[&peer, &expired]),
        Some(Refusal::Expired { level: 1 })
    );
    assert_eq!(judge.refusal(&[&peer, &expired, &renewed]), None);
    assert_eq!(judge.refusal(&[&peer, &renewed, &expired]), None);
}

#[test]
fn certificates_that_sign_each_other_end_the_search() {
    let (a, b) = (Entity::root("A"), Entity::root("B"));
    let a_by_b = b.issue_with(ca("A"), a.key.clone());
    let b_by_a = a.issue_with(ca("B"), b.key.clone());
    let peer = a.issue(endpoint("peer"));
    let root = Entity::root("Root");
    let refusal = Judge::trusting(&[&root]).refusal(&[&peer, &a_by_b, &b_by_a, &a, &b]);
    assert_eq!(refusal, Some(Refusal::UnknownIssuer));
}

#[test]
fn superfluous_garbage_is_left_out_and_said() {
    let d = deep();
    let mut chain = crate::forge::ders(&[&d.peer, &d.lower, &d.upper]);
    chain.insert(1, b"garbage".to_vec());
    let decision = Judge::trusting(&[&d.root]).ask(&chain, homefleet_trust::Connection::Accepted);
    assert!(decision.is_established());
    assert!(
        decision.steps[0].detail.contains("1 that cannot be read"),
        "{}",
        decision.steps[0]
    );
}

#[test]
fn names_compare_without_regard_to_case_white_space_and_string_type() {
    let named = |organisation: DnValue, name: DnValue| {
        DistinguishedName::new().with(|dn| {
            dn.push(DnType::OrganizationName, organisation);
            dn.push(DnType::CommonName, name);
        })
    };
    let utf8 = |text: &str| DnValue::Utf8String(text.into());
    let printable = |text: &str| DnValue::PrintableString(text.try_into().unwrap());
    let root = Entity::self_signed(
        ca("").with(|p| p.distinguished_name = named(utf8("Fleet One"), utf8("Root"))),
    );
    let judge = Judge::trusting(&[&root]);
    let same = [
        named(printable("FLEET  ONE"), printable("root")),
        named(
            utf8(" fleet one "),
            DnValue::BmpString("ROOT".try_into().unwrap()),
        ),
    ];
    for issuer in same {
        let alias = root.clone().with(|r| r.params.distinguished_name = issuer);
        assert_eq!(judge.refusal(&[&alias.issue(endpoint("peer"))]), None);
    }
    let different = [
        named(utf8("FleetOne"), utf8("Root")),
        named(utf8("Fleet One"), utf8("Root 2")),
        DistinguishedName::new().with(|dn| dn.push(DnType::CommonName, "Root")),
        DistinguishedName::new().with(|dn| {
            dn.push(DnType::CommonName, "Root");
            dn.push(DnType::OrganizationName, "Fleet One");
        }),
    ];
    for issuer in different {
        let alias = root.clone().with(|r| r.params.distinguished_name = issuer);
        assert_eq!(
            judge.refusal(&[&alias.issue(endpoint("peer"))]),
            Some(Refusal::UnknownIssuer)
        );
    }
}

#[test]
fn a_wrong_key_identifier_alone_does_not_break_a_path() {
    // AuthorityKeyIdentifier { keyIdentifier [0] "x" }: a hint for the search (RFC 5280 §4.2.1.1).
    let hint = [0x30, 0x03, 0x80, 0x01, b'x'];
    let three = three(same, same, |p| {
        p.custom_extensions = vec![extension(&[2, 5, 29, 35], false, &hint)]
    });
    assert_eq!(three.refusal(), None);
}
