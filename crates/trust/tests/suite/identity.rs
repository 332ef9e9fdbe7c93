//! Who the peer is: R-SEC.0a, R-SEC.3, R-SEC.10a, R-SEC.12, R-ARC.4a.

use std::time::{Duration, SystemTime};

use homefleet_trust::{Basis, PeerIdentity, same_endpoint};
use rcgen::SanType;

use crate::forge::{Entity, Judge, With, dns, endpoint, uri};

fn identity(names: Vec<SanType>) -> PeerIdentity {
    let root = Entity::root("Root");
    let peer = root.issue(endpoint("peer").with(|p| p.subject_alt_names = names));
    Judge::trusting(&[&root]).accepted(&[&peer]).peer.unwrap()
}

fn ids(uris: &[&str]) -> Vec<String> {
    identity(uris.iter().map(|text| uri(text)).collect()).endpoint_ids
}

#[test]
fn the_identity_holds_what_the_certificate_says() {
    let root = Entity::root("Root");
    let peer = root.issue(endpoint("peer").with(|p| {
        p.subject_alt_names = vec![
            uri("urn:bbf:usp:id:os::0044FF-0001"),
            dns("CPE.example.com"),
            uri("urn:bbf:usp:id:oui:0044FF:second"),
        ];
    }));
    let identity = Judge::trusting(&[&root]).accepted(&[&peer]).peer.unwrap();
    let expected = PeerIdentity {
        endpoint_ids: vec!["os::0044FF-0001".into(), "oui:0044FF:second".into()],
        dns_names: vec!["cpe.example.com".into()],
        subject: "CN=peer,O=Homefleet Test".into(),
        fingerprint: peer.anchor().fingerprint(),
        not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(2_051_222_400),
        anchor: Some(root.anchor().fingerprint()),
        basis: Basis::TrustedCa,
    };
    assert_eq!(identity, expected);
}

#[test]
fn endpoint_ids_come_from_usp_urns_in_the_certificates_order() {
    let uris = [
        "https://example.com/",
        "urn:bbf:usp:id:self::b",
        "URN:BBF:usp:id:self::a",
        "urn:bbf:USP:ID:self::c",
        "urn:bbf:usp:other:self::d",
        "xurn:bbf:usp:id:self::e",
        "urn:abc:usp:id:self::f",
        "urn:bbf:usp:id:",
        "urn:bbf:usp:id:noscheme",
        "urn:bbf:usp:id::x:y",
        "urn:bbf:usp:id:self::",
    ];
    assert_eq!(ids(&uris), ["self::b", "self::a"]);
}

#[test]
fn percent_encoding_is_normalised_and_broken_encoding_is_no_endpoint_id() {
    let uris = [
        "urn:bbf:usp:id:os::0044FF%2D%41%62",
        "urn:bbf:usp:id:os::0044FF-a%20b%2f",
        "urn:bbf:usp:id:os::0044FF-%2A",
        "urn:bbf:usp:id:os::0044FF-%",
        "urn:bbf:usp:id:os::0044FF-%4",
        "urn:bbf:usp:id:os::0044FF-%4G",
    ];
    assert_eq!(
        ids(&uris),
        ["os::0044FF-Ab", "os::0044FF-a%20b%2F", "os::0044FF-%2A"]
    );
    let identity = identity(vec![uri("urn:bbf:usp:id:os::0044FF-a%20b%2f")]);
    assert!(identity.is_endpoint("os::0044FF-a%20b%2F"));
    assert!(identity.is_endpoint("os::0044FF-%61%20b%2f"));
    assert!(!identity.is_endpoint("os::0044FF-a b/"));
}

#[test]
fn an_endpoint_id_is_compared_as_a_whole() {
    let identity = identity(vec![
        uri("urn:bbf:usp:id:os::0044FF-0001"),
        uri("urn:bbf:usp:id:self::two"),
    ]);
    for (id, expected) in [
        ("os::0044FF-0001", true),
        ("self::two", true),
        ("os::0044FF-00012", false),
        ("os::0044FF-000", false),
        ("os::0044ff-0001", false),
        ("urn:bbf:usp:id:os::0044FF-0001", false),
        ("", false),
        ("peer", false),
        ("os::0044FF-0001\0", false),
    ] {
        assert_eq!(identity.is_endpoint(id), expected, "{id}");
    }
}

#[test]
fn an_fqdn_endpoint_is_represented_by_its_dns_name() {
    let identity = identity(vec![dns("acs.example.com"), dns("*.example.net")]);
    assert_eq!(identity.endpoint_ids, Vec::<String>::new());
    for (id, expected) in [
        ("fqdn::acs.example.com", true),
        ("fqdn::ACS.example.com", true),
        ("fqdn::example.com", false),
        ("fqdn::www.example.net", false),
        ("fqdn::*.example.net", false),
        ("fqdn:x:acs.example.com", false),
        ("self::acs.example.com", false),
        ("acs.example.com", false),
    ] {
        assert_eq!(identity.is_endpoint(id), expected, "{id}");
    }
    assert!(
        self::identity(vec![uri("urn:bbf:usp:id:fqdn::acs.example.com")])
            .is_endpoint("fqdn::acs.example.com")
    );
}

#[test]
fn wildcards_cover_instance_ids_of_the_schemes_that_r_sec_12_names() {
    for (pattern, id, expected) in [
        ("oui:0044FF:*", "oui:0044FF:anything", true),
        ("oui:0044FF:model-*", "oui:0044FF:model-17", true),
        ("oui:0044FF:model-*", "oui:0044FF:other-17", false),
        ("oui:0044FF:*-b-*", "oui:0044FF:a-b-c", true),
        ("oui:0044FF:*-b-*", "oui:0044FF:a-c", false),
        ("oui:0044FF:*ab", "oui:0044FF:aab", true),
        ("oui:0044FF:*ab", "oui:0044FF:aba", false),
        ("cid:3AA3F8:*", "cid:3AA3F8:x", true),
        ("pen:3561:*", "pen:3561:x", true),
        ("os::0044FF-*", "os::0044FF-0001", true),
        ("ops::0044FF-STB-*", "ops::0044FF-STB-1", true),
        ("ops::0044FF-*-*", "ops::0044FF-STB-1", true),
        ("oui:0044FF:*", "oui:0044FE:x", false),
        ("oui:0044FF:*", "cid:0044FF:x", false),
        // The assigning entity must not be wildcarded.
        ("oui:*:x", "oui:0044FF:x", false),
        ("oui:*:*", "oui:0044FF:x", false),
        ("oui::*", "oui::x", false),
        ("os::*", "os::0044FF-0001", false),
        ("os::0044*-0001", "os::0044FF-0001", false),
        ("os::0044FF*", "os::0044FF-0001", false),
        ("os::NOTHEX-*", "os::NOTHEX-0001", false),
        ("ops::*-STB-1", "ops::0044FF-STB-1", false),
        ("ops::*", "ops::0044FF-STB-1", false),
        // Other schemes have no wildcards.
        ("self::*", "self::x", false),
        ("user:a:*", "user:a:x", false),
        (
            "uuid::*",
            "uuid::f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            false,
        ),
        ("imei::*", "imei::990000862471854", false),
        ("proto::*", "proto::x", false),
        ("doc::*", "doc::x", false),
        ("fqdn::*.example.com", "fqdn::a.example.com", false),
        ("*::x", "self::x", false),
        // Nobody is called by a wildcard.
        ("os::0044FF-*", "os::0044FF-*", false),
        ("self::*", "self::*", false),
        // A percent-encoded asterisk is a character.
        ("os::0044FF-%2A", "os::0044FF-0001", false),
    ] {
        let identity = identity(vec![uri(&format!("urn:bbf:usp:id:{pattern}"))]);
        assert_eq!(identity.is_endpoint(id), expected, "{pattern} for {id}");
    }
}

#[test]
fn certificate_is_shared_by_several_agents_where_r_sec_12_lets_it_be() {
    for (pattern, expected) in [
        ("oui:0044FF:*", true),
        ("os::0044FF-*", true),
        ("os::0044FF-0001", false),
        ("os::0044FF-%2A", false),
        ("os::*", false),
        ("self::*", false),
        ("oui:*:x", false),
    ] {
        let name = |id: &str| uri(&format!("urn:bbf:usp:id:{id}"));
        let shared = identity(vec![name("self::own"), name(pattern)]);
        assert_eq!(shared.is_shared(), expected, "{pattern}");
    }
}

#[test]
fn a_refused_peer_has_no_identity() {
    let root = Entity::root("Root");
    let peer = Entity::root("Other").issue(endpoint("peer"));
    assert_eq!(Judge::trusting(&[&root]).accepted(&[&peer]).peer, None);
}

#[test]
fn one_endpoint_id_is_written_in_several_ways() {
    assert!(same_endpoint("os::0044FF-%61", "os::0044FF-a"));
    assert!(same_endpoint(
        "fqdn::CPE.example.com",
        "fqdn::cpe.example.com"
    ));
    assert!(!same_endpoint("os::0044FF-A", "os::0044FF-a"));
    assert!(!same_endpoint("oui:0044FF:*", "oui:0044FF:*"));
    assert!(!same_endpoint("nonsense", "nonsense"));
}
