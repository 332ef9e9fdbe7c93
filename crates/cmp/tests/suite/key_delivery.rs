//! Private keys that the CA generated (RFC 9483 §4.1.6), with `openssl cms` as second opinion.

use std::path::Path;

use der::{
    Decode, Encode,
    asn1::{Any, ContextSpecific, ObjectIdentifier},
};
use homefleet_cmp::{
    CertificateParts,
    asn1::{CertTemplate, Certificate, EncryptedKey, EnvelopedData, Name},
    authority::{Decision, Event, Issued, RequestKind},
    client::{ClientConfig, Outcome, Request},
    crypto::{KeyKind, KeyPair, MacPolicy, Secret, Signer},
    key_delivery::{KeyDeliveryError, Opener, PrivateKey, Recipient, open, seal, seal_bare},
    possession::Possession,
    protection::{Distrust, Peers},
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use tempfile::TempDir;

use crate::{
    openssl::{Known, SECRET, pki, shell},
    world::{Pair, authority_config, by_key, issue, nobody},
};

const ENVELOPED: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.3");
const SIGNED: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(11)
}

fn parts(name: &str) -> CertificateParts {
    CertificateParts::read(&pki().certificate(name)).unwrap()
}

fn key() -> PrivateKey {
    PrivateKey::from_pkcs8(&pki().read("new.pk8")).unwrap()
}

fn sealed(recipient: &Recipient<'_>) -> EnvelopedData {
    let chain = [pki().certificate("server")];
    seal(&key(), &*pki().key("server"), &chain, recipient, &mut rng()).unwrap()
}

fn policy() -> MacPolicy {
    MacPolicy::default()
}

/// `ContentInfo` (RFC 5652 §3).
fn content_info(kind: ObjectIdentifier, der: &[u8]) -> Vec<u8> {
    let content = ContextSpecific {
        tag_number: der::TagNumber(0),
        tag_mode: der::TagMode::Explicit,
        value: Any::from_der(der).unwrap(),
    };
    let inside = [kind.to_der().unwrap(), content.to_der().unwrap()].concat();
    Any::new(der::Tag::Sequence, inside)
        .unwrap()
        .to_der()
        .unwrap()
}

#[test]
fn a_key_is_sealed_for_each_kind_of_recipient_and_opened_by_it() {
    let cases = [
        ("device", KeyKind::P256),
        ("p384", KeyKind::P384),
        ("rsa", KeyKind::Rsa),
    ];
    for (name, kind) in cases {
        let parts = parts(name);
        let data = sealed(&Recipient::Certificate(&parts));
        let pkcs8 = pki().read(&format!("{name}.pk8"));
        let opener = match kind {
            KeyKind::P256 => Opener::P256(&pkcs8),
            KeyKind::P384 => Opener::P384(&pkcs8),
            _ => Opener::Rsa(&pkcs8),
        };
        assert_eq!(open(&data, &opener, &Known), Ok(key()), "{name}");
    }
    let secret = Secret::new(SECRET);
    let data = sealed(&Recipient::Secret {
        secret: &secret,
        iterations: 1_000,
    });
    assert_eq!(
        open(&data, &Opener::Secret(&secret, policy()), &Known),
        Ok(key())
    );
}

#[test]
fn openssl_decrypts_and_verifies_what_we_seal() {
    for name in ["device", "p384", "rsa"] {
        for signer in ["server", "rsa", "p384"] {
            let parts = parts(name);
            let chain = [pki().certificate(signer)];
            let recipient = Recipient::Certificate(&parts);
            let data = seal(&key(), &*pki().key(signer), &chain, &recipient, &mut rng()).unwrap();
            let directory = TempDir::new().unwrap();
            let at = directory.path();
            std::fs::write(
                at.join("sealed.der"),
                content_info(ENVELOPED, &data.to_der()),
            )
            .unwrap();
            let decrypted = in_pki(
                at,
                &format!(
                    "openssl cms -decrypt -binary -inform DER -in sealed.der -inkey $PKI/{name}.key -recip $PKI/{name}.pem -out signed"
                ),
                "signed",
            );
            std::fs::write(at.join("signed.der"), content_info(SIGNED, &decrypted)).unwrap();
            let package = in_pki(
                at,
                "openssl cms -verify -binary -purpose any -inform DER -in signed.der -CAfile $PKI/ca.pem -out package",
                "package",
            );
            let keys: Vec<Any> = Decode::from_der(&package).unwrap();
            assert_eq!(keys[0].to_der().unwrap(), pki().read("new.pk8"));
        }
    }
}

fn in_pki(at: &Path, script: &str, result: &str) -> Vec<u8> {
    shell(at, &format!("PKI={}\n{script}", pki().path("").display()));
    std::fs::read(at.join(result)).unwrap()
}

#[test]
fn nobody_else_opens_a_sealed_key() {
    let device = parts("device");
    let data = sealed(&Recipient::Certificate(&device));
    let other = pki().read("new.pk8");
    let rsa = pki().read("rsa.pk8");
    let secret = Secret::new(SECRET);
    for opener in [
        Opener::P256(&other),
        Opener::P384(&other),
        Opener::Rsa(&rsa),
        Opener::Secret(&secret, policy()),
    ] {
        assert_eq!(open(&data, &opener, &Known), Err(KeyDeliveryError::Decrypt));
    }
    let data = sealed(&Recipient::Secret {
        secret: &secret,
        iterations: 1_000,
    });
    let wrong = Secret::new("wrong");
    assert_eq!(
        open(&data, &Opener::Secret(&wrong, policy()), &Known),
        Err(KeyDeliveryError::Decrypt)
    );
}

#[test]
fn a_derivation_outside_of_the_policy_is_refused() {
    let secret = Secret::new(SECRET);
    let data = sealed(&Recipient::Secret {
        secret: &secret,
        iterations: 999,
    });
    assert_eq!(
        open(&data, &Opener::Secret(&secret, policy()), &Known),
        Err(KeyDeliveryError::Unsupported(
            "a key derivation outside of the policy"
        ))
    );
}

#[test]
fn a_key_of_an_authority_that_is_not_trusted_is_refused() {
    struct Nobody;
    impl Peers for Nobody {
        fn secret(&self, _: &[u8]) -> Option<Secret> {
            None
        }
        fn judge(&self, _: &Certificate, _: &[Certificate]) -> Result<(), Distrust> {
            Err(Distrust::Unauthorized("no cmKGA".to_owned()))
        }
    }
    let device = parts("device");
    let data = sealed(&Recipient::Certificate(&device));
    let pkcs8 = pki().read("device.pk8");
    assert_eq!(
        open(&data, &Opener::P256(&pkcs8), &Nobody),
        Err(KeyDeliveryError::Distrusted("no cmKGA".to_owned()))
    );
}

#[test]
fn a_key_signed_by_another_key_than_the_certificates_is_refused() {
    let device = parts("device");
    let data = seal(
        &key(),
        &*pki().key("device"),
        &[pki().certificate("server")],
        &Recipient::Certificate(&device),
        &mut rng(),
    )
    .unwrap();
    let pkcs8 = pki().read("device.pk8");
    assert_eq!(
        open(&data, &Opener::P256(&pkcs8), &Known),
        Err(KeyDeliveryError::Signature)
    );
}

#[test]
fn a_key_without_its_package_is_opened_too() {
    let device = parts("device");
    let chain = [pki().certificate("server")];
    let recipient = Recipient::Certificate(&device);
    let data = seal_bare(
        &key(),
        &*pki().key("server"),
        &chain,
        &recipient,
        &mut rng(),
    )
    .unwrap();
    let pkcs8 = pki().read("device.pk8");
    assert_eq!(open(&data, &Opener::P256(&pkcs8), &Known), Ok(key()));
}

#[test]
fn no_byte_of_a_sealed_key_can_be_changed() {
    let secret = Secret::new(SECRET);
    let recipient = Recipient::Secret {
        secret: &secret,
        iterations: 1_000,
    };
    let der = sealed(&recipient).to_der();
    for at in (0..der.len()).step_by(7) {
        let mut bent = der.clone();
        bent[at] ^= 1;
        if let Ok(data) = EnvelopedData::from_der(&bent) {
            // Content types and versions of others are refused or ignored; what opens is the key.
            match open(&data, &Opener::Secret(&secret, policy()), &Known) {
                Ok(opened) => assert_eq!(opened, key(), "{at}"),
                Err(error) => assert_ne!(error.to_string(), ""),
            }
        }
    }
}

#[test]
fn generated_keys_sign_and_are_never_shown() {
    for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519] {
        let pkcs8 = KeyPair::generate_pkcs8(kind).unwrap();
        let pair = KeyPair::from_pkcs8(kind, &pkcs8).unwrap();
        assert!(pair.sign(b"data").is_ok());
        let private = PrivateKey::from_pkcs8(&pkcs8).unwrap();
        assert_eq!(format!("{private:?}"), "PrivateKey(..)");
    }
}

#[test]
fn a_key_generated_by_the_ca_reaches_the_end_entity() {
    let request = Request::Certificate {
        kind: RequestKind::Certification,
        template: Box::new(CertTemplate {
            subject: Some(Name::common("new")),
            ..CertTemplate::default()
        }),
        controls: Vec::new(),
        key: None,
    };
    let config = ClientConfig::new(by_key("device"), nobody());
    let mut pair = Pair::new(config, request, authority_config());
    pair.run(|event| {
        let Event::Requested { request, .. } = event else {
            return None;
        };
        assert_eq!(request.possession, Possession::KeyWanted(None));
        let generated = KeyPair::generate_pkcs8(KeyKind::P256).unwrap();
        let public = KeyPair::from_pkcs8(KeyKind::P256, &generated).unwrap();
        let device = parts("device");
        let chain = [pki().certificate("server")];
        let data = seal(
            &PrivateKey::from_pkcs8(&generated).unwrap(),
            &*pki().key("server"),
            &chain,
            &Recipient::Certificate(&device),
            &mut rng(),
        )
        .unwrap();
        let mut issued = Issued::new(issue("new", &public.public_key()));
        issued.private_key = Some(EncryptedKey::EnvelopedData(data));
        Some(Decision::Issue(Box::new(issued)))
    });
    let Outcome::Certificate(offer) = pair.outcome() else {
        panic!("{:?}", pair.outcome());
    };
    let Some(EncryptedKey::EnvelopedData(data)) = &offer.private_key else {
        panic!("a key");
    };
    let pkcs8 = pki().read("device.pk8");
    let private = open(data, &Opener::P256(&pkcs8), &Known).unwrap();
    let own = KeyPair::from_pkcs8(KeyKind::P256, private.pkcs8()).unwrap();
    let certified = CertificateParts::read(&offer.certificate).unwrap();
    assert_eq!(own.public_key(), certified.public_key);
}
