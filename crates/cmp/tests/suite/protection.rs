//! Protection (RFC 9810 §5.1.3, RFC 9481, RFC 9483 §3.2): that of `openssl cmp` is verified, ours comes back, and everything else is refused.

use der::asn1::{Any, BitString, Null, OctetString};
use homefleet_cmp::{
    Refusal,
    asn1::{Algorithm, Body, Certificate, GeneralName, Header, Kept, Limits, Message, Name},
    crypto::{Hash, KeyKind, KeyPair, Mac, MacError, MacPolicy, Secret, SignatureError, Signer},
    oid,
    protection::{Distrust, Peers, Protection, ProtectionPolicy, Protector, verify},
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{
    openssl::{Known, REFERENCE, SECRET, by_certificate, by_secret, pki},
    recorded::check_lossless,
};

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(7)
}

fn lenient() -> ProtectionPolicy {
    ProtectionPolicy {
        mac: MacPolicy::lenient(),
        ..ProtectionPolicy::default()
    }
}

fn decode(bytes: &[u8]) -> Message {
    Message::decode(bytes, &Limits::default()).unwrap()
}

/// A protected pkiconf.
fn protected(protector: &Protector) -> Message {
    let header = Header::new(
        2,
        protector.sender().clone(),
        GeneralName::directory(&Name::null()).unwrap(),
    );
    let message = protector
        .protect(header, Body::Pkiconf(Null), &[], &mut rng())
        .unwrap();
    decode(&message.encode().unwrap())
}

fn by_mac(mac: Mac) -> Protector {
    Protector::secret(REFERENCE.as_bytes(), Secret::new(SECRET), mac).unwrap()
}

fn pbm(iterations: u32, owf: Hash, mac: Hash) -> Mac {
    Mac::PasswordBased {
        salt: vec![7; 16],
        owf,
        iterations,
        mac,
    }
}

fn signer(name: &str) -> Protector {
    Protector::signer(pki().key(name), vec![pki().certificate(name)]).unwrap()
}

fn refused(message: &Message) -> Refusal {
    verify(message, &ProtectionPolicy::default(), &Known).unwrap_err()
}

/// The message with another header; the protection stays.
fn with_header(message: &Message, change: impl FnOnce(&mut Header)) -> Message {
    let mut header = (*message.header).clone();
    change(&mut header);
    Message {
        header: Kept::new(header).unwrap(),
        ..message.clone()
    }
}

#[test]
fn messages_of_openssl_protected_by_a_secret_decode_and_verify() {
    for operation in [
        "-cmd ir -newkey new.key -subject /O=Test/CN=new",
        "-cmd cr -newkey new.key -subject /O=Test/CN=new",
        "-cmd p10cr -csr new.csr",
        "-cmd genm",
        "-cmd ir -newkey new.key -subject /O=Test/CN=new -digest sha512 -mac hmacWithSHA512",
    ] {
        let messages = pki().cmp(&format!("{operation} {}", by_secret()));
        assert!(messages.len() >= 2, "{operation}: {}", messages.len());
        for bytes in messages {
            let message = check_lossless(&bytes).unwrap();
            let protection = verify(&message, &lenient(), &Known)
                .unwrap_or_else(|e| panic!("{operation} {}: {e}", message.body.kind()));
            assert!(
                matches!(protection, Protection::Secret { reference, .. } if reference == REFERENCE.as_bytes())
            );
        }
    }
}

#[test]
fn messages_of_openssl_protected_by_a_signature_decode_and_verify() {
    // Ed25519 is left out: openssl cmp 3.0 cannot protect with it.
    for name in ["device", "p384", "rsa"] {
        for operation in [
            "-cmd cr -newkey new.key -subject /O=Test/CN=new",
            "-cmd p10cr -csr new.csr",
            "-cmd kur -newkey new.key -oldcert new.pem",
            "-cmd rr -oldcert new.pem -revreason 1",
            "-cmd genm",
        ] {
            let messages = pki().cmp(&format!("{operation} {}", by_certificate(name)));
            assert!(messages.len() >= 2, "{operation}: {}", messages.len());
            for bytes in messages {
                let message = check_lossless(&bytes).unwrap();
                let protection = verify(&message, &ProtectionPolicy::default(), &Known)
                    .unwrap_or_else(|e| panic!("{name} {operation} {}: {e}", message.body.kind()));
                assert!(matches!(protection, Protection::Certificate { .. }));
            }
        }
    }
}

#[test]
fn what_we_protect_verifies() {
    for mac in [
        pbm(1_000, Hash::Sha256, Hash::Sha256),
        pbm(1_000, Hash::Sha224, Hash::Sha384),
        pbm(1_000, Hash::Sha512, Hash::Sha512),
        Mac::pbmac1(1_000, &mut rng()),
    ] {
        let message = protected(&by_mac(mac));
        let protection = verify(&message, &ProtectionPolicy::default(), &Known).unwrap();
        assert!(matches!(protection, Protection::Secret { .. }));
    }
    for name in ["device", "p384", "rsa", "ed25519"] {
        let message = protected(&signer(name));
        let protection = verify(&message, &ProtectionPolicy::default(), &Known).unwrap();
        let Protection::Certificate { certificate, .. } = protection else {
            panic!("a signature");
        };
        assert_eq!(certificate, pki().certificate(name));
    }
    let pss = Protector::signer(
        pki().key_as("rsa", KeyKind::RsaPss),
        vec![pki().certificate("rsa")],
    )
    .unwrap();
    let message = protected(&pss);
    assert_eq!(
        message.header.protection_alg.as_ref().unwrap().oid,
        oid::RSA_PSS
    );
    verify(&message, &ProtectionPolicy::default(), &Known).unwrap();
}

#[test]
fn each_message_has_its_own_salt() {
    let protector = by_mac(Mac::password_based(1_000, &mut rng()));
    let mut rng = rng();
    let mut message = || {
        let header = Header::new(
            2,
            protector.sender().clone(),
            GeneralName::directory(&Name::null()).unwrap(),
        );
        protector
            .protect(header, Body::Pkiconf(Null), &[], &mut rng)
            .unwrap()
    };
    assert_ne!(
        message().header.protection_alg,
        message().header.protection_alg
    );
}

#[test]
fn one_changed_byte_of_header_or_body_is_refused() {
    for protector in [
        by_mac(Mac::password_based(1_000, &mut rng())),
        signer("device"),
    ] {
        let message = protected(&protector);
        let other = with_header(&message, |header| header.pvno = 3);
        assert_eq!(refused(&other), Refusal::BadProtection);
        let other = Message {
            body: Kept::new(Body::Genm(Vec::new())).unwrap(),
            ..message
        };
        assert_eq!(refused(&other), Refusal::BadProtection);
    }
}

#[test]
fn a_wrong_secret_is_refused() {
    let protector = Protector::secret(
        REFERENCE.as_bytes(),
        Secret::new("another"),
        pbm(1_000, Hash::Sha256, Hash::Sha256),
    )
    .unwrap();
    assert_eq!(refused(&protected(&protector)), Refusal::BadProtection);
}

#[test]
fn an_unknown_reference_is_refused_with_the_words_of_a_wrong_secret() {
    let protector = Protector::secret(
        b"somebody",
        Secret::new(SECRET),
        pbm(1_000, Hash::Sha256, Hash::Sha256),
    )
    .unwrap();
    let refusal = refused(&protected(&protector));
    assert_eq!(refusal, Refusal::SecretUnknown);
    assert_eq!(refusal.status_info(), Refusal::BadProtection.status_info());
}

#[test]
fn a_mac_without_reference_is_refused() {
    let message = protected(&by_mac(pbm(1_000, Hash::Sha256, Hash::Sha256)));
    let message = with_header(&message, |header| header.sender_kid = None);
    assert_eq!(refused(&message), Refusal::SenderKidMissing);
}

#[test]
fn weak_macs_are_refused_unless_the_policy_is_lenient() {
    let cases = [
        (pbm(1_000, Hash::Sha1, Hash::Sha256), MacError::Sha1),
        (pbm(1_000, Hash::Sha256, Hash::Sha1), MacError::Sha1),
        (
            pbm(500, Hash::Sha256, Hash::Sha256),
            MacError::TooFewIterations {
                iterations: 500,
                limit: 1_000,
            },
        ),
        (
            Mac::Pbmac1 {
                salt: vec![1; 16],
                iterations: 999,
                key_bytes: 32,
                prf: Hash::Sha256,
                mac: Hash::Sha256,
            },
            MacError::TooFewIterations {
                iterations: 999,
                limit: 1_000,
            },
        ),
    ];
    for (mac, why) in cases {
        let message = protected(&by_mac(mac));
        assert_eq!(refused(&message), Refusal::MacAlgorithm(why));
        verify(&message, &lenient(), &Known).unwrap();
    }
}

#[test]
fn iterations_over_the_limit_are_refused_before_they_are_done() {
    let message = protected(&by_mac(pbm(1_000, Hash::Sha256, Hash::Sha256)));
    let algorithm = pbm(u32::MAX, Hash::Sha256, Hash::Sha256).write().unwrap();
    let message = with_header(&message, |header| header.protection_alg = Some(algorithm));
    assert_eq!(
        refused(&message),
        Refusal::MacAlgorithm(MacError::TooManyIterations {
            iterations: u32::MAX,
            limit: 100_000,
        })
    );
}

#[test]
fn a_short_salt_is_refused() {
    let algorithm = Mac::PasswordBased {
        salt: vec![1; 7],
        owf: Hash::Sha256,
        iterations: 1_000,
        mac: Hash::Sha256,
    }
    .write()
    .unwrap();
    assert_eq!(
        Mac::read(&algorithm, &MacPolicy::default()),
        Err(MacError::ShortSalt { bytes: 7, limit: 8 })
    );
}

#[test]
fn mac_algorithms_without_sense_are_refused() {
    let policy = MacPolicy::default();
    for oid in [oid::PASSWORD_BASED_MAC, oid::PBMAC1] {
        for parameters in [None, Some(Any::null())] {
            let algorithm = Algorithm { oid, parameters };
            assert_eq!(
                Mac::read(&algorithm, &policy),
                Err(MacError::Parameters(oid))
            );
        }
    }
    let kem = Algorithm {
        oid: oid::KEM_BASED_MAC,
        parameters: None,
    };
    let message = protected(&by_mac(pbm(1_000, Hash::Sha256, Hash::Sha256)));
    let message = with_header(&message, |header| header.protection_alg = Some(kem));
    assert_eq!(
        refused(&message),
        Refusal::MacAlgorithm(MacError::Unsupported(oid::KEM_BASED_MAC))
    );
}

#[test]
fn half_a_protection_is_refused() {
    let message = protected(&signer("device"));
    let without = Message {
        protection: None,
        ..message.clone()
    };
    assert_eq!(refused(&without), Refusal::ProtectionIncomplete);
    let without = with_header(&message, |header| header.protection_alg = None);
    assert_eq!(refused(&without), Refusal::ProtectionIncomplete);
}

#[test]
fn an_unprotected_message_is_protected_by_nobody() {
    let protector = Protector::None {
        sender: GeneralName::directory(&Name::null()).unwrap(),
    };
    assert_eq!(
        verify(&protected(&protector), &ProtectionPolicy::default(), &Known),
        Ok(Protection::None)
    );
}

#[test]
fn the_wrong_kind_of_protection_is_wrong_integrity() {
    let no_secrets = ProtectionPolicy {
        secrets: false,
        ..ProtectionPolicy::default()
    };
    let no_signatures = ProtectionPolicy {
        signatures: false,
        ..ProtectionPolicy::default()
    };
    let mac = protected(&by_mac(pbm(1_000, Hash::Sha256, Hash::Sha256)));
    assert_eq!(
        verify(&mac, &no_secrets, &Known),
        Err(Refusal::WrongProtection("a MAC"))
    );
    let signature = protected(&signer("device"));
    assert_eq!(
        verify(&signature, &no_signatures, &Known),
        Err(Refusal::WrongProtection("a signature"))
    );
}

#[test]
fn a_signature_without_certificate_needs_one_that_is_known() {
    struct Knows(Certificate);
    impl Peers for Knows {
        fn secret(&self, _: &[u8]) -> Option<Secret> {
            None
        }
        fn judge(&self, _: &Certificate, _: &[Certificate]) -> Result<(), Distrust> {
            Ok(())
        }
        fn certificate(&self, _: &Name, _: Option<&[u8]>) -> Option<Certificate> {
            Some(self.0.clone())
        }
    }
    let message = Message {
        extra_certs: None,
        ..protected(&signer("device"))
    };
    assert_eq!(refused(&message), Refusal::CertificateMissing);
    let knows = Knows(pki().certificate("device"));
    verify(&message, &ProtectionPolicy::default(), &knows).unwrap();
}

#[test]
fn the_first_extra_certificate_has_to_be_the_signers() {
    let message = protected(&signer("device"));
    let other = Message {
        extra_certs: Some(vec![pki().certificate("server")]),
        ..message.clone()
    };
    assert_eq!(refused(&other), Refusal::SenderDiffers);
    let garbage = Certificate::from_der(&[0x30, 2, 5, 0]).unwrap();
    let other = Message {
        extra_certs: Some(vec![garbage]),
        ..message.clone()
    };
    assert_eq!(refused(&other), Refusal::CertificateMalformed);
    let other = with_header(&message, |header| {
        header.sender_kid = Some(OctetString::new([1, 2, 3]).unwrap());
    });
    assert_eq!(refused(&other), Refusal::SenderKidDiffers);
}

#[test]
fn a_signer_that_is_not_trusted_or_not_authorised_is_refused_as_such() {
    struct Nobody(Distrust);
    impl Peers for Nobody {
        fn secret(&self, _: &[u8]) -> Option<Secret> {
            None
        }
        fn judge(&self, _: &Certificate, _: &[Certificate]) -> Result<(), Distrust> {
            Err(self.0.clone())
        }
    }
    let message = protected(&signer("device"));
    let refusal =
        |distrust| verify(&message, &ProtectionPolicy::default(), &Nobody(distrust)).unwrap_err();
    assert_eq!(
        refusal(Distrust::Untrusted("expired".into())),
        Refusal::Untrusted("expired".into())
    );
    assert_eq!(
        refusal(Distrust::Unauthorized("no RA".into())),
        Refusal::Unauthorized("no RA".into())
    );
}

#[test]
fn signature_algorithms_that_are_weak_or_do_not_fit_the_key_are_refused() {
    const SHA1_WITH_RSA: der::asn1::ObjectIdentifier =
        der::asn1::ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5");
    let message = protected(&signer("rsa"));
    for oid in [SHA1_WITH_RSA, oid::ECDSA_SHA256, oid::ED25519, oid::RSA_PSS] {
        let algorithm = Algorithm {
            oid,
            parameters: None,
        };
        let message = with_header(&message, |header| header.protection_alg = Some(algorithm));
        assert_eq!(
            refused(&message),
            Refusal::SignatureAlgorithm(SignatureError::Algorithm(oid))
        );
    }
}

#[test]
fn a_signature_with_odd_bits_is_refused() {
    let message = Message {
        protection: Some(BitString::new(4, [0xF0]).unwrap()),
        ..protected(&signer("device"))
    };
    assert_eq!(refused(&message), Refusal::BadProtection);
}

#[test]
fn no_debug_output_shows_a_secret_or_a_key() {
    let protector = by_mac(pbm(1_000, Hash::Sha256, Hash::Sha256));
    let message = protected(&protector);
    let protection = verify(&message, &ProtectionPolicy::default(), &Known).unwrap();
    for shown in [format!("{protector:?}"), format!("{protection:?}")] {
        assert!(
            !shown.contains("correct") && !shown.contains("99, 111, 114"),
            "{shown}"
        );
    }
    assert_eq!(format!("{:?}", pki().key("device")), "KeyPair(P256)");
    assert!(KeyPair::from_pkcs8(KeyKind::P384, &pki().read("device.pk8")).is_err());
    assert_eq!(pki().key("device").algorithm().oid, oid::ECDSA_SHA256);
}
