//! Issuing.

use super::world::{DEVICE, World, openssl, order};

#[tokio::test]
async fn openssl_verifies_what_is_issued() {
    let world = World::new().await;
    let issued = world.pki.issue(order(DEVICE), world.now()).await.unwrap();
    let [root, chain, certificate] = world.files(&issued.der);
    let (good, text) = openssl(&[
        "verify",
        "-x509_strict",
        "-CAfile",
        &root,
        "-untrusted",
        &chain,
        &certificate,
    ]);
    assert!(good, "{text}");
    let (_, text) = openssl(&["x509", "-in", &certificate, "-noout", "-text"]);
    assert!(
        text.contains(&format!("URI:urn:bbf:usp:id:{DEVICE}")),
        "{text}"
    );
    assert!(text.contains(&format!("Subject: CN = {DEVICE}")), "{text}");
    assert!(
        text.contains("TLS Web Server Authentication, TLS Web Client Authentication"),
        "{text}"
    );
    assert_eq!(issued.serial.as_bytes().len(), 16);
    assert!(!issued.modified);
}
