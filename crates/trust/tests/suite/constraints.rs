//! Name constraints (RFC 5280 §4.2.1.10, §6.1.3 (b), (c)).

use homefleet_trust::Refusal;
use rcgen::{
    CertificateParams, CidrSubnet, DistinguishedName, DnType, GeneralSubtree, NameConstraints,
    SanType,
};

use crate::forge::{Entity, Judge, With, ca, dn, dns, endpoint, extension, same, three, tlv, uri};

fn permit(subtrees: Vec<GeneralSubtree>) -> impl FnOnce(&mut CertificateParams) {
    |p| {
        p.name_constraints = Some(NameConstraints {
            permitted_subtrees: subtrees,
            excluded_subtrees: vec![],
        })
    }
}

fn exclude(subtrees: Vec<GeneralSubtree>) -> impl FnOnce(&mut CertificateParams) {
    |p| {
        p.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![],
            excluded_subtrees: subtrees,
        })
    }
}

fn dns_tree(text: &str) -> Vec<GeneralSubtree> {
    vec![GeneralSubtree::DnsName(text.into())]
}

fn named(names: &[SanType]) -> impl FnOnce(&mut CertificateParams) + use<> {
    let names = names.to_vec();
    |p| p.subject_alt_names = names
}

/// The name refused, if one is.
fn refused(refusal: Option<Refusal>) -> Option<String> {
    match refusal {
        None => None,
        Some(Refusal::NameConstraint {
            level: 0,
            by: 1,
            name,
        }) => Some(name),
        Some(other) => panic!("{other:?}"),
    }
}

#[test]
fn dns_names_have_to_be_permitted() {
    for (base, name, inside) in [
        ("example.com", "example.com", true),
        ("example.com", "acs.example.com", true),
        ("example.com", "a.b.EXAMPLE.com", true),
        ("example.com", "badexample.com", false),
        ("example.com", "example.net", false),
        ("example.com", "com", false),
        (".example.com", "acs.example.com", true),
        (".example.com", "example.com", false),
        ("", "anything.example", true),
        ("example.com", "*.example.com", true),
        ("example.com", "*.a.example.com", true),
        ("a.example.com", "*.example.com", false),
    ] {
        let three = three(same, permit(dns_tree(base)), named(&[dns(name)]));
        let expected = (!inside).then(|| format!("DNS:{name}"));
        assert_eq!(refused(three.refusal()), expected, "{name} under {base}");
    }
}

#[test]
fn dns_names_must_not_be_excluded() {
    for (base, name, outside) in [
        ("example.com", "example.com", false),
        ("example.com", "acs.example.com", false),
        ("example.com", "badexample.com", true),
        ("a.example.com", "b.example.com", true),
        ("a.example.com", "*.example.com", false),
        ("a.b.example.com", "*.example.com", true),
        ("example.com", "*.example.com", false),
        ("", "anything.example", false),
    ] {
        let three = three(same, exclude(dns_tree(base)), named(&[dns(name)]));
        let expected = (!outside).then(|| format!("DNS:{name}"));
        assert_eq!(
            refused(three.refusal()),
            expected,
            "{name} with {base} excluded"
        );
    }
}

#[test]
fn every_name_is_looked_at() {
    let three = three(
        same,
        permit(dns_tree("example.com")),
        named(&[dns("a.example.com"), dns("evil.example.net")]),
    );
    assert_eq!(
        refused(three.refusal()),
        Some("DNS:evil.example.net".into())
    );
}

#[test]
fn a_constraint_on_one_form_does_not_limit_others() {
    let names = [
        uri("urn:bbf:usp:id:self::x"),
        SanType::IpAddress([192, 0, 2, 1].into()),
    ];
    assert_eq!(
        three(same, permit(dns_tree("example.com")), named(&names)).refusal(),
        None
    );
}

#[test]
fn directory_names_have_to_be_below_the_base() {
    let organisation =
        |name: &str| DistinguishedName::new().with(|dn| dn.push(DnType::OrganizationName, name));
    let tree = |name| vec![GeneralSubtree::DirectoryName(organisation(name))];
    assert_eq!(
        three(same, permit(tree("homefleet  TEST")), same).refusal(),
        None
    );
    let outside = three(same, permit(tree("Someone Else")), same);
    assert_eq!(
        refused(outside.refusal()),
        Some("DirName:CN=peer,O=Homefleet Test".into())
    );
    let excluded = three(same, exclude(tree("Homefleet Test")), same);
    assert_eq!(
        refused(excluded.refusal()),
        Some("DirName:CN=peer,O=Homefleet Test".into())
    );
    // An empty subject has no directory name to limit.
    let empty = three(same, permit(tree("Someone Else")), |p| {
        p.distinguished_name = DistinguishedName::new()
    });
    assert_eq!(empty.refusal(), None);
}

#[test]
fn addresses_have_to_be_in_the_network() {
    let net = || {
        vec![GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(
            [192, 0, 2, 0],
            24,
        ))]
    };
    let at = |ip: std::net::IpAddr| named(&[SanType::IpAddress(ip)]);
    assert_eq!(
        three(same, permit(net()), at([192, 0, 2, 77].into())).refusal(),
        None
    );
    let outside = three(same, permit(net()), at([192, 0, 3, 1].into()));
    assert_eq!(refused(outside.refusal()), Some("IP:192.0.3.1".into()));
    let inside = three(same, exclude(net()), at([192, 0, 2, 77].into()));
    assert_eq!(refused(inside.refusal()), Some("IP:192.0.2.77".into()));
    let v6 = three(same, permit(net()), at("2001:db8::1".parse().unwrap()));
    assert_eq!(refused(v6.refusal()), Some("IP:2001:db8::1".into()));
}

#[test]
fn mail_addresses_are_compared_by_host_and_mailbox() {
    let mail = |text: &str| SanType::Rfc822Name(text.try_into().unwrap());
    let tree = |text: &str| vec![GeneralSubtree::Rfc822Name(text.into())];
    for (base, name, inside) in [
        ("example.com", "a@example.com", true),
        ("example.com", "a@b.example.com", false),
        (".example.com", "a@b.example.com", true),
        ("a@example.com", "a@EXAMPLE.com", true),
        ("a@example.com", "b@example.com", false),
    ] {
        let three = three(same, permit(tree(base)), named(&[mail(name)]));
        assert_eq!(
            refused(three.refusal()),
            (!inside).then(|| format!("email:{name}")),
            "{name} under {base}"
        );
    }
    // One in the subject counts too.
    let subject = three(same, permit(tree("example.com")), |p| {
        p.distinguished_name = dn("peer").with(|dn| {
            dn.push(
                DnType::from_oid(&[1, 2, 840, 113549, 1, 9, 1]),
                "a@example.net",
            );
        });
    });
    assert_eq!(
        refused(subject.refusal()),
        Some("email:a@example.net".into())
    );
}

/// `nameConstraints` with one permitted subtree, from the DER of its contents.
fn permit_der(subtree: &[&[u8]]) -> impl FnOnce(&mut CertificateParams) {
    let content = tlv(0x30, &[&tlv(0xA0, &[&tlv(0x30, subtree)])]);
    move |p| p.custom_extensions = vec![extension(&[2, 5, 29, 30], true, &content)]
}

#[test]
fn uri_constraints_apply_to_the_host() {
    for (base, name, inside) in [
        ("example.com", "coaps://example.com:5684/usp", true),
        ("example.com", "https://user@EXAMPLE.com", true),
        ("example.com", "coaps://a.example.com/", false),
        (".example.com", "coaps://a.example.com/?x=y", true),
        (".example.com", "coaps://example.com/", false),
        // Without a host, or with an address, it has to be refused.
        ("example.com", "urn:bbf:usp:id:self::controller", false),
        ("example.com", "coaps://192.0.2.1/", false),
        ("example.com", "coaps://[2001:db8::1]/", false),
    ] {
        let three = three(
            same,
            permit_der(&[&tlv(0x86, &[base.as_bytes()])]),
            named(&[uri(name)]),
        );
        assert_eq!(
            refused(three.refusal()),
            (!inside).then(|| format!("URI:{name}")),
            "{name} under {base}"
        );
    }
}

#[test]
fn a_uri_whose_host_cannot_be_compared_is_refused_where_uris_are_excluded() {
    let excluded = tlv(
        0x30,
        &[&tlv(0xA1, &[&tlv(0x30, &[&tlv(0x86, &[b"example.com"])])])],
    );
    for (name, outside) in [
        ("coaps://example.net/", true),
        ("coaps://example.com/", false),
        ("coaps://192.0.2.1/", false),
        ("coaps://[2001:db8::1]/", false),
        ("coaps:///usp", false),
        ("urn:bbf:usp:id:self::controller", false),
    ] {
        let constrain = |p: &mut CertificateParams| {
            p.custom_extensions = vec![extension(&[2, 5, 29, 30], true, &excluded)]
        };
        let three = three(same, constrain, named(&[uri(name)]));
        assert_eq!(
            refused(three.refusal()),
            (!outside).then(|| format!("URI:{name}")),
            "{name}"
        );
    }
}

#[test]
fn a_constraint_with_distances_is_not_understood() {
    let base = tlv(0x82, &[b"example.com"]);
    let three = three(same, permit_der(&[&base, &[0x80, 0x01, 0x01]]), same);
    assert_eq!(
        three.refusal(),
        Some(Refusal::UnsupportedNameConstraint { level: 1 })
    );
}

#[test]
fn a_name_of_a_limited_form_that_cannot_be_compared_is_refused() {
    // registeredID 1.2.3.4
    let id = [0x88, 0x03, 0x2A, 0x03, 0x04];
    let alt_names = tlv(0x30, &[&id]);
    let with_id = |p: &mut CertificateParams| {
        p.subject_alt_names.clear();
        p.custom_extensions = vec![extension(&[2, 5, 29, 17], false, &alt_names)];
    };
    assert_eq!(three(same, same, with_id).refusal(), None);
    let limited = three(same, permit_der(&[&id]), with_id);
    assert_eq!(
        refused(limited.refusal()),
        Some("a name of form [8]".into())
    );
    // A certificate without such a name is not concerned.
    assert_eq!(three(same, permit_der(&[&id]), same).refusal(), None);
}

#[test]
fn constraints_of_the_anchor_bind_and_reach_every_level_below() {
    let root = Entity::self_signed(ca("Root").with(permit(dns_tree("example.com"))));
    let middle = root.issue(ca("Intermediate"));
    let peer = middle.issue(endpoint("peer").with(named(&[dns("acs.example.net")])));
    let refusal = Judge::trusting(&[&root]).refusal(&[&peer, &middle]);
    let name = "DNS:acs.example.net".into();
    assert_eq!(
        refusal,
        Some(Refusal::NameConstraint {
            level: 0,
            by: 2,
            name
        })
    );

    let middle =
        root.issue(ca("Intermediate").with(|p| p.subject_alt_names = vec![dns("ca.example.net")]));
    let peer = middle.issue(endpoint("peer"));
    let refusal = Judge::trusting(&[&root]).refusal(&[&peer, &middle]);
    let name = "DNS:ca.example.net".into();
    assert_eq!(
        refusal,
        Some(Refusal::NameConstraint {
            level: 1,
            by: 2,
            name
        })
    );
}

#[test]
fn a_self_issued_intermediate_is_exempt_from_name_constraints() {
    let tree = vec![GeneralSubtree::DirectoryName(dn("peer"))];
    let root = Entity::self_signed(ca("Root").with(permit(tree)));
    let next = root.issue(ca("Root"));
    let peer = next.issue(endpoint("peer"));
    assert_eq!(Judge::trusting(&[&root]).refusal(&[&peer, &next]), None);
}

#[test]
fn a_self_issued_peer_is_not_exempt_from_name_constraints() {
    let three = three(same, permit(dns_tree("example.com")), |p| {
        p.distinguished_name = dn("Intermediate");
        p.subject_alt_names = vec![dns("acs.example.net")];
    });
    assert_eq!(refused(three.refusal()), Some("DNS:acs.example.net".into()));
}
