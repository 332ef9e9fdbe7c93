//! Certificates from PEM text (RFC 7468 §5.1).

use homefleet_trust::{Anchor, AnchorError, PemError, anchors_from_pem, chain_from_pem};

use crate::forge::Entity;

#[test]
fn certificates_are_read_in_order_and_other_text_is_skipped() {
    let (a, b) = (Entity::root("A"), Entity::root("B"));
    let key = a.key.serialize_pem();
    let text = format!(
        "Certificate: A\n{}{key}\r\n# B\r\n{}trailer",
        a.pem(),
        b.pem().replace('\n', "\r\n")
    );
    assert_eq!(
        chain_from_pem(&text).unwrap(),
        [a.der.clone(), b.der.clone()]
    );
    let anchors = anchors_from_pem(&text).unwrap();
    assert_eq!(anchors, [a.anchor(), b.anchor()]);
    assert_eq!(anchors[1].subject(), "CN=B,O=Homefleet Test");
    assert_eq!(anchors[1].der(), b.der);
}

#[test]
fn one_anchor_is_one_certificate() {
    let a = Entity::root("A");
    assert_eq!(Anchor::from_pem(&a.pem()).unwrap(), a.anchor());
    assert_eq!(
        Anchor::from_pem(&a.pem().repeat(2)),
        Err(AnchorError::Several { found: 2 })
    );
}

#[test]
fn what_is_missing_or_broken_is_said_with_its_line() {
    let a = Entity::root("A");
    assert_eq!(chain_from_pem(""), Err(PemError::NoCertificate));
    assert_eq!(
        chain_from_pem(&a.key.serialize_pem()),
        Err(PemError::NoCertificate)
    );
    let begin = "-----BEGIN CERTIFICATE-----";
    assert_eq!(
        chain_from_pem(&format!("\n{begin}\nAAAA\n")),
        Err(PemError::NoEnd { line: 2 })
    );
    assert_eq!(
        chain_from_pem(&format!("{begin}\nAAAA\n{}", a.pem())),
        Err(PemError::NoEnd { line: 1 })
    );
    let broken = format!("{}{begin}\nA*AA\n-----END CERTIFICATE-----\n", a.pem());
    let line = a.pem().lines().count() + 1;
    assert_eq!(chain_from_pem(&broken), Err(PemError::Base64 { line }));
    let error = AnchorError::from(PemError::NoCertificate);
    assert_eq!(error.to_string(), "the trusted certificates cannot be read");
}
