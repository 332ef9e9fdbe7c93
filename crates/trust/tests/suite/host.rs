//! The name box: RFC 6125 §6.4, the local domains, the target's Endpoint ID.

use homefleet_trust::{Outcome, Refusal};
use rcgen::{DistinguishedName, DnType, SanType};

use crate::forge::{Entity, Judge, With, dns, endpoint, uri};

/// Whether a peer with these names is the one at `host`.
fn fits(names: Vec<SanType>, host: &str, endpoint_id: Option<&str>) -> bool {
    let root = Entity::root("Root");
    let peer = root.issue(endpoint("peer").with(|p| p.subject_alt_names = names));
    match Judge::trusting(&[&root])
        .initiated(&[&peer], host, endpoint_id)
        .outcome
    {
        Outcome::Establish => true,
        Outcome::Terminate(Refusal::NameMismatch) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn dns_names_match_label_by_label_without_regard_to_case() {
    for (name, host, expected) in [
        ("acs.example.com", "acs.example.com", true),
        ("acs.example.com", "ACS.Example.COM", true),
        ("acs.example.com", "acs.example.com.", true),
        ("acs.example.com.", "acs.example.com", true),
        ("acs.example.com", "example.com", false),
        ("example.com", "acs.example.com", false),
        ("acs.example.com", "acs.example.com.evil.net", false),
        ("acs.example.com", "", false),
        ("", "", false),
        ("acs.example.com", "acs example.com", false),
    ] {
        assert_eq!(
            fits(vec![dns(name)], host, None),
            expected,
            "{name} for {host}"
        );
    }
}

#[test]
fn a_wildcard_is_the_whole_left_most_label_and_stands_for_one_label() {
    for (name, host, expected) in [
        ("*.example.com", "acs.example.com", true),
        ("*.example.com", "ACS.EXAMPLE.com", true),
        ("*.example.com", "a.b.example.com", false),
        ("*.example.com", "example.com", false),
        ("*.example.com", ".example.com", false),
        ("a*.example.com", "acs.example.com", false),
        ("*s.example.com", "acs.example.com", false),
        ("a*s.example.com", "acs.example.com", false),
        ("acs.*.com", "acs.example.com", false),
        ("acs.*", "acs.example", false),
        ("*.*.com", "acs.example.com", false),
        ("**.example.com", "acs.example.com", false),
        ("*", "acs", false),
        ("*", "acs.example.com", false),
        ("*.com", "example.com", false),
        ("*.example.com", "*.example.com", false),
    ] {
        assert_eq!(
            fits(vec![dns(name)], host, None),
            expected,
            "{name} for {host}"
        );
    }
}

#[test]
fn an_address_matches_only_an_ip_address_name() {
    let ip = |text: &str| SanType::IpAddress(text.parse().unwrap());
    assert!(fits(vec![ip("192.0.2.1")], "192.0.2.1", None));
    assert!(fits(
        vec![dns("a.example"), ip("2001:db8::1")],
        "2001:db8::1",
        None
    ));
    assert!(fits(vec![ip("2001:db8::1")], "[2001:db8:0::1]", None));
    assert!(!fits(vec![ip("192.0.2.1")], "192.0.2.2", None));
    assert!(!fits(vec![ip("192.0.2.1")], "::ffff:192.0.2.1", None));
    assert!(!fits(vec![dns("192.0.2.1")], "192.0.2.1", None));
    assert!(!fits(vec![dns("*.0.2.1")], "192.0.2.1", None));
    assert!(!fits(vec![ip("192.0.2.1")], "a.example.com", None));
}

#[test]
fn local_domains_pass_whatever_the_certificate_names() {
    for (host, expected) in [
        ("controller.local", true),
        ("controller.LOCAL.", true),
        ("a.b.local", true),
        ("controller.home.arpa", true),
        ("local", false),
        ("home.arpa", false),
        (".local", false),
        ("controllerlocal", false),
        ("controller.local.example.com", false),
        ("controller.arpa", false),
        ("contröller.local", false),
    ] {
        assert_eq!(fits(vec![], host, None), expected, "{host}");
    }
}

#[test]
fn the_targets_endpoint_id_stands_in_for_the_host() {
    let names = || {
        vec![
            dns("acs.example.com"),
            uri("urn:bbf:usp:id:oui:0044FF:controller-1"),
        ]
    };
    assert!(fits(names(), "10.0.0.1", Some("oui:0044FF:controller-1")));
    assert!(!fits(names(), "10.0.0.1", Some("oui:0044FF:controller-2")));
    assert!(!fits(names(), "10.0.0.1", Some("")));
    assert!(!fits(names(), "10.0.0.1", None));
    // The host is enough, even where another Endpoint was expected: the boxes are joined by "or".
    assert!(fits(
        names(),
        "acs.example.com",
        Some("oui:0044FF:controller-2")
    ));
}

#[test]
fn the_common_name_is_not_a_host_name() {
    let root = Entity::root("Root");
    let peer = root.issue(endpoint("peer").with(|p| {
        p.subject_alt_names.clear();
        p.distinguished_name =
            DistinguishedName::new().with(|dn| dn.push(DnType::CommonName, "acs.example.com"));
    }));
    let decision = Judge::trusting(&[&root]).initiated(&[&peer], "acs.example.com", None);
    assert_eq!(decision.outcome, Outcome::Terminate(Refusal::NameMismatch));
}

#[test]
fn other_names_are_not_taken_for_host_names() {
    let mail = SanType::Rfc822Name("acs.example.com".try_into().unwrap());
    assert!(!fits(
        vec![uri("acs.example.com"), mail],
        "acs.example.com",
        None
    ));
}
