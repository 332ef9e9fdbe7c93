//! URIs (RFC 7252 §6).

use homefleet_coap::uri::UriError;
use homefleet_coap::{Code, Scheme, Uri};
use proptest::prelude::*;

fn uri(text: &str) -> Uri {
    text.parse().unwrap()
}

#[test]
fn default_ports_are_5683_and_5684() {
    assert_eq!(uri("coap://a").port, 5683);
    assert_eq!(uri("coaps://a").port, 5684);
    assert_eq!(uri("coap://a:").port, 5683);
    assert_eq!(uri("coaps://a:5684/").to_string(), "coaps://a");
    assert_eq!(uri("coap://a:5684/x").to_string(), "coap://a:5684/x");
}

#[test]
fn equivalent_uris_of_section_6_3_decompose_alike() {
    let all = [
        "coap://example.com:5683/~sensors/temp.xml",
        "coap://EXAMPLE.com/%7Esensors/temp.xml",
        "coap://EXAMPLE.com:/%7esensors/temp.xml",
    ];
    for text in all {
        assert_eq!(uri(text), uri(all[0]));
        assert_eq!(
            uri(text).to_string(),
            "coap://example.com/~sensors/temp.xml"
        );
    }
}

#[test]
fn paths_and_queries_are_split_and_decoded() {
    let uri = uri("coaps://[2001:DB8::1]:61616//%2F/%2e%2e/a%20b/?q=1&%26=%3D&x");
    assert_eq!((uri.scheme, uri.port), (Scheme::Coaps, 61616));
    assert_eq!(uri.host, "2001:db8::1");
    assert_eq!(uri.ip(), Some("2001:db8::1".parse().unwrap()));
    assert_eq!(uri.path, ["", "a b", ""]);
    assert_eq!(uri.query, ["q=1", "&==", "x"]);
    assert_eq!(
        uri.to_string(),
        "coaps://[2001:db8::1]:61616//a%20b/?q=1&%26==&x"
    );
    let root = "coap://h?q".parse::<Uri>().unwrap();
    assert_eq!(root.to_string(), "coap://h/?q");
}

#[test]
fn a_uri_makes_a_request() {
    let request = uri("coap://Device.example/usp?reply-to=coaps://b/usp").request(Code::POST);
    assert_eq!(request.options.uri_host(), Some("device.example"));
    assert_eq!(request.options.path(), "usp");
    assert_eq!(request.options.query("reply-to"), Some("coaps://b/usp"));
    let literal = uri("coap://[::1]/x").request(Code::GET);
    assert_eq!(literal.options.uri_host(), None);
}

#[test]
fn link_local_addresses_keep_their_zone() {
    let uri = uri("coap://[fe80::1%25eth0]/x");
    assert_eq!(uri.host, "fe80::1%eth0");
}

#[test]
fn what_is_no_coap_uri_is_refused_for_its_reason() {
    let error = |text: &str| text.parse::<Uri>().unwrap_err();
    assert_eq!(error("http://a/"), UriError::Scheme);
    assert_eq!(error("coap:/a"), UriError::Scheme);
    assert_eq!(error("coap://a/#x"), UriError::Fragment);
    assert_eq!(error("coap://u@a/"), UriError::UserInfo);
    assert_eq!(error("coap:///x"), UriError::Host(String::new()));
    assert_eq!(error("coap://[::1/x"), UriError::Host("[::1".to_owned()));
    assert_eq!(error("coap://a:0/"), UriError::Port("0".to_owned()));
    assert_eq!(error("coap://a:70000/"), UriError::Port("70000".to_owned()));
    assert_eq!(error("coap://a:+1/"), UriError::Port("+1".to_owned()));
    assert_eq!(error("coap://a/%4"), UriError::Encoding("%4".to_owned()));
    assert_eq!(error("coap://a/%ff"), UriError::Encoding("%ff".to_owned()));
    assert_eq!(error("coap://a/b c"), UriError::Character(' '));
    let long = format!("coap://a/{}", "x".repeat(256));
    assert_eq!(error(&long), UriError::TooLong { len: 256 });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn uris_survive_a_round_trip(
        secure in any::<bool>(),
        host in "[a-z0-9.-]{1,20}",
        port in 1u16..,
        path in prop::collection::vec("[^/.\u{0}-\u{1f}]{1,12}", 0..4),
        query in prop::collection::vec("[^\u{0}-\u{1f}]{1,12}", 0..3),
    ) {
        let scheme = if secure { Scheme::Coaps } else { Scheme::Coap };
        let uri = Uri { scheme, host, port, path, query };
        prop_assert_eq!(uri.to_string().parse::<Uri>(), Ok(uri));
    }

    #[test]
    fn any_text_parses_or_fails(text in ".{0,40}") {
        format!("coap://{text}").parse::<Uri>().ok();
    }
}
