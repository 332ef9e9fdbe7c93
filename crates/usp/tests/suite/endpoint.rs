//! Endpoint IDs, R-ARC.2a to R-ARC.6.

use homefleet_usp::{
    EndpointId,
    endpoint::{EndpointIdError, Scheme},
};
use proptest::prelude::*;

#[test]
fn every_scheme_of_the_standard_is_accepted() {
    for text in [
        "oui:00256D:my-unique-bbf-id-42",
        "oui:00256D1:x",
        "oui:00256d123:x",
        "cid:3AA3F8:my-unique-usp-id-42",
        "pen:3561:my-unique-bbf-id-42",
        "self::my-Agent",
        "self:a_1.-Z:x",
        "user:me:x",
        "user::x",
        "os::00256D-0123456789",
        "ops::00256D-STB-0123456789",
        "ops::00256D-Set-top-0123%2056789",
        "uuid::f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "imei::990000862471854",
        "proto::my-Agent",
        "doc:1.2:example",
        "fqdn::www.example.org",
    ] {
        let id: EndpointId = text.parse().unwrap();
        assert_eq!(
            (id.to_string().as_str(), id.scheme().as_str()),
            (text, id.authority_scheme())
        );
        assert_eq!(
            format!(
                "{}:{}:{}",
                id.authority_scheme(),
                id.authority_id(),
                id.instance_id()
            ),
            text
        );
        assert_eq!(EndpointId::from_urn(&id.to_urn()), Ok(id));
    }
}

#[test]
fn an_id_that_breaks_its_schemes_rules_is_refused() {
    use EndpointIdError as E;
    let instance = |text: &str| text.parse::<EndpointId>().unwrap_err();
    for text in ["", "oui", "oui:00256D", "controller-temp"] {
        assert_eq!(instance(text), E::Form, "{text}");
    }
    for text in ["mac::x", "OUI:00256D:x", ":00256D:x"] {
        assert_eq!(instance(text), E::Scheme, "{text}");
    }
    for text in [
        "oui::x",
        "oui:00256:x",
        "oui:00256G:x",
        "oui:00256D12:x",
        "cid:3AA3F81:x",
        "pen::x",
        "pen:3561a:x",
        "self:toolong:x",
        "user:a/b:x",
        "os:1:00256D-1",
        "ops:1:00256D-A-1",
        "uuid:1:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "imei:1:990000862471854",
        "fqdn:1:www.example.org",
        "proto:a.b:x",
        "doc:a%20:x",
    ] {
        assert!(matches!(instance(text), E::Authority(..)), "{text}");
    }
    for text in [
        "os::00256D",
        "os::00256D-",
        "os::0025-1",
        "ops::00256D-STB",
        "ops::00256D-STB-",
        "uuid::f81d4fae7dec11d0a76500a0c91e6bf6",
        "uuid::f81d4fae-7dec-11d0-a765-00a0c91e6bfg",
        "imei::99000086247185x",
        "imei::1",
        "fqdn::localhost",
        "fqdn::-x.example.org",
        "fqdn::www..org",
        "fqdn::a_b.example.org",
    ] {
        assert!(matches!(instance(text), E::Instance(..)), "{text}");
    }
    assert!(matches!(instance("fqdn::*.example.org"), E::Character(6)));
}

#[test]
fn an_instance_id_has_1_to_50_unreserved_or_encoded_characters() {
    let long = format!("self::{}", "a".repeat(50));
    assert!(long.parse::<EndpointId>().is_ok());
    assert_eq!(
        format!("{long}a").parse::<EndpointId>(),
        Err(EndpointIdError::Length)
    );
    assert_eq!("self::".parse::<EndpointId>(), Err(EndpointIdError::Length));
    for (text, offset) in [
        ("self::a b", 7),
        ("self::a:b", 7),
        ("self::ab%2", 8),
        ("self::%GG", 6),
        ("self::ä", 6),
        ("self::a~", 7),
    ] {
        assert_eq!(
            text.parse::<EndpointId>(),
            Err(EndpointIdError::Character(offset)),
            "{text}"
        );
    }
}

#[test]
fn prototypes_and_documentation_are_marked() {
    assert!(!Scheme::Proto.is_for_production());
    assert!(!Scheme::Doc.is_for_production());
    assert!(Scheme::Os.is_for_production());
}

#[test]
fn a_certificates_urn_names_an_id() {
    let id: EndpointId = "self::my-Agent".parse().unwrap();
    assert_eq!(id.to_urn(), "urn:bbf:usp:id:self::my-Agent");
    assert_eq!(
        EndpointId::from_urn("URN:BBF:usp:id:self::my-Agent"),
        Ok(id)
    );
    for urn in [
        "self::my-Agent",
        "urn:bbf:usp:self::x",
        "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "urn:bbf:usp:id",
        "ürn:bbf:usp:id:self::x",
    ] {
        assert_eq!(
            EndpointId::from_urn(urn),
            Err(EndpointIdError::Urn),
            "{urn}"
        );
    }
    assert_eq!(
        EndpointId::from_urn("urn:bbf:usp:id:self:"),
        Err(EndpointIdError::Form)
    );
}

proptest! {
    #[test]
    fn any_text_is_an_id_or_an_error(text in "(oui|cid|pen|self|user|os|ops|uuid|imei|proto|doc|fqdn):[0-9A-Fa-z.]{0,7}:[-A-Za-z0-9._%]{0,52}") {
        if let Ok(id) = text.parse::<EndpointId>() {
            prop_assert!(id.instance_id().len() <= 50);
            prop_assert_eq!(EndpointId::from_urn(&id.to_urn()), Ok(id));
        }
    }
}
