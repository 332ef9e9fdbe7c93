//! The types of RFC 9810 and RFC 4211 as DER: limits, tags, and what others write.

use der::{
    Decode, Encode,
    asn1::{Any, BitString, GeneralizedTime, Int, Null, OctetString},
};
use homefleet_cmp::{
    DecodeError,
    asn1::{
        Algorithm, Body, BodyKind, CaKeyUpdate, CaKeyUpdateV2, CertId, CertReqMsg, CertReqTemplate,
        CertRequest, CertTemplate, CertificateList, Control, CrlSource, CrlStatus,
        DistributionPointName, EncodedMessage, EncryptedKey, EnvelopedData, ErrorMsg, FailInfo,
        Failure, GeneralName, GeneralNames, Header, Info, InfoTypeAndValue, Kept, Limits, MacValue,
        Message, Name, PrivateKeyProof, ProofOfPossession, RevocationAnnouncement, RootCaKeyUpdate,
        Status, StatusInfo,
    },
    oid,
};
use proptest::prelude::*;

use crate::{openssl::pki, recorded::check_lossless, replay::corpus};

fn null_name() -> GeneralName {
    GeneralName::directory(&Name::null()).unwrap()
}

fn message(body: Body) -> Message {
    Message {
        header: Kept::new(Header::new(2, null_name(), null_name())).unwrap(),
        body: Kept::new(body).unwrap(),
        protection: None,
        extra_certs: None,
    }
}

fn nest(inner: &Message) -> Message {
    let inner = EncodedMessage::from_der(&inner.encode().unwrap()).unwrap();
    message(Body::Nested(vec![inner]))
}

fn decode(message: &Message, limits: &Limits) -> Result<Message, DecodeError> {
    Message::decode(&message.encode().unwrap(), limits)
}

#[test]
fn messages_of_openssl_decode_without_loss() {
    for bytes in corpus("cmp/codec") {
        check_lossless(&bytes).unwrap();
    }
}

#[test]
fn a_message_over_the_limit_is_refused() {
    let bytes = message(Body::Pkiconf(Null)).encode().unwrap();
    let limits = Limits {
        bytes: bytes.len() - 1,
        ..Limits::default()
    };
    assert_eq!(
        Message::decode(&bytes, &limits),
        Err(DecodeError::TooLarge {
            bytes: bytes.len(),
            limit: bytes.len() - 1
        })
    );
}

#[test]
fn a_list_over_the_limit_is_refused() {
    let limits = Limits {
        entries: 3,
        ..Limits::default()
    };
    let infos = |count| vec![InfoTypeAndValue::ask(oid::CA_CERTS); count];
    assert!(decode(&message(Body::Genm(infos(3))), &limits).is_ok());
    let many = Err(DecodeError::TooMany {
        entries: 4,
        limit: 3,
    });
    assert_eq!(decode(&message(Body::Genm(infos(4))), &limits), many);
    let certificates = Message {
        extra_certs: Some(vec![pki().certificate("ca"); 4]),
        ..message(Body::Pkiconf(Null))
    };
    assert_eq!(decode(&certificates, &limits), many);
    let mut header = Header::new(2, null_name(), null_name());
    header.general_info = Some(infos(4));
    let message = Message {
        header: Kept::new(header).unwrap(),
        ..message(Body::Pkiconf(Null))
    };
    assert_eq!(decode(&message, &limits), many);
}

#[test]
fn messages_nest_as_deep_as_the_limit_and_no_deeper() {
    let deep = nest(&nest(&message(Body::Pkiconf(Null))));
    let mut limits = Limits {
        nesting: 2,
        ..Limits::default()
    };
    let middle = deep.nested(&limits).unwrap().remove(0);
    limits.nesting = 1;
    let inner = middle.nested(&limits).unwrap().remove(0);
    assert_eq!(inner.body.kind(), BodyKind::Pkiconf);
    limits.nesting = 0;
    assert_eq!(deep.nested(&limits), Err(DecodeError::TooDeep));
    assert_eq!(inner.nested(&limits), Ok(Vec::new()));
}

#[test]
fn bytes_after_a_message_and_truncated_messages_are_refused() {
    let bytes = message(Body::Pkiconf(Null)).encode().unwrap();
    let limits = Limits::default();
    for length in 0..bytes.len() {
        assert!(
            Message::decode(&bytes[..length], &limits).is_err(),
            "{length}"
        );
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(
        Message::decode(&longer, &limits),
        Err(DecodeError::Der { .. })
    ));
}

#[test]
fn fail_info_with_trailing_zero_bits_is_kept_as_it_came() {
    // 27 bits, of which only badRequest (2) is set; DER would send three bits.
    let der = [0x03, 0x05, 0x05, 0x20, 0, 0, 0];
    let info = FailInfo::from_der(&der).unwrap();
    assert_eq!(info.iter().collect::<Vec<_>>(), [Failure::BadRequest]);
    assert_eq!(info.to_der().unwrap(), der);
    assert_eq!(
        FailInfo::from(Failure::BadRequest).to_der().unwrap(),
        [0x03, 0x02, 0x05, 0x20]
    );
}

#[test]
fn each_failure_is_the_bit_of_its_number() {
    assert_eq!(Failure::ALL.len(), 27);
    for (number, failure) in Failure::ALL.iter().enumerate() {
        assert_eq!(*failure as usize, number);
        let info = FailInfo::from(*failure);
        assert_eq!(info.iter().collect::<Vec<_>>(), [*failure]);
        assert_eq!(FailInfo::from_der(&info.to_der().unwrap()), Ok(info));
    }
    assert_eq!(Failure::BadTime as usize, 3);
    assert_eq!(Failure::DuplicateCertReq as usize, 26);
}

/// RFC 4211 Appendix B: the module has IMPLICIT tags, but a CHOICE is tagged explicitly.
#[test]
fn proofs_of_possession_have_the_tags_of_the_standard() {
    let bits = BitString::from_bytes(&[0xAA]).unwrap();
    let algorithm = Algorithm {
        oid: oid::HMAC_SHA256,
        parameters: None,
    };
    let mac = MacValue {
        algorithm,
        value: bits.clone(),
    };
    let envelope = EnvelopedData::from_der(&[0x30, 3, 2, 1, 2]).unwrap();
    let cases: [(ProofOfPossession, &[u8]); 6] = [
        (ProofOfPossession::RaVerified(Null), &[0x80, 0]),
        (
            ProofOfPossession::KeyEncipherment(PrivateKeyProof::ThisMessage(bits.clone())),
            &[0xA2, 4, 0x80, 2, 0, 0xAA],
        ),
        (
            ProofOfPossession::KeyEncipherment(PrivateKeyProof::SubsequentMessage(1)),
            &[0xA2, 3, 0x81, 1, 1],
        ),
        (
            ProofOfPossession::KeyAgreement(PrivateKeyProof::DhMac(bits)),
            &[0xA3, 4, 0x82, 2, 0, 0xAA],
        ),
        (
            ProofOfPossession::KeyAgreement(PrivateKeyProof::AgreeMac(mac)),
            &[
                0xA3, 18, 0xA3, 16, 0x30, 10, 6, 8, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 2, 9, 3, 2,
                0, 0xAA,
            ],
        ),
        (
            ProofOfPossession::KeyEncipherment(PrivateKeyProof::EncryptedKey(envelope)),
            &[0xA2, 5, 0xA4, 3, 2, 1, 2],
        ),
    ];
    for (proof, der) in cases {
        assert_eq!(proof.to_der().unwrap(), der, "{proof:?}");
        assert_eq!(ProofOfPossession::from_der(der).unwrap(), proof);
    }
}

#[test]
fn an_encrypted_key_is_a_sequence_or_tag_0() {
    for (der, enveloped) in [
        (&[0x30, 3, 2, 1, 2][..], false),
        (&[0xA0, 3, 2, 1, 2][..], true),
    ] {
        let key = EncryptedKey::from_der(der).unwrap();
        assert_eq!(matches!(key, EncryptedKey::EnvelopedData(_)), enveloped);
        assert_eq!(key.to_der().unwrap(), der);
    }
    assert!(EncryptedKey::from_der(&[0xA1, 0]).is_err());
}

#[test]
fn a_template_has_implicit_tags_and_explicit_ones_for_names() {
    let template = CertTemplate {
        serial_number: Some(Int::new(&[5]).unwrap()),
        issuer: Some(Name::null()),
        subject: Some(Name::null()),
        ..CertTemplate::default()
    };
    let der = [0x30, 11, 0x81, 1, 5, 0xA3, 2, 0x30, 0, 0xA5, 2, 0x30, 0];
    assert_eq!(template.to_der().unwrap(), der);
    assert_eq!(CertTemplate::from_der(&der).unwrap(), template);
}

#[test]
fn general_information_of_rfc_9480_is_read_and_written() {
    let ca = pki().certificate("ca");
    let crl = CertificateList::from_der(&[0x30, 0]).unwrap();
    let names = GeneralNames::from_der(&[0x30, 3, 0x82, 1, b'a']).unwrap();
    let status = |source| CrlStatus {
        source,
        this_update: None,
    };
    let infos = [
        Info::ImplicitConfirm,
        Info::ConfirmWaitTime(
            GeneralizedTime::from_unix_duration(std::time::Duration::from_secs(1_800_000_000))
                .unwrap(),
        ),
        Info::CertProfile(vec!["device".to_owned()]),
        Info::CaCerts(None),
        Info::CaCerts(Some(vec![ca.clone(), ca.clone()])),
        Info::RootCaCert(Some(ca.clone())),
        Info::RootCaKeyUpdate(Some(Box::new(RootCaKeyUpdate {
            new_with_new: ca.clone(),
            new_with_old: Some(ca.clone()),
            old_with_new: None,
        }))),
        Info::CertReqTemplate(Some(Box::new(CertReqTemplate {
            cert_template: CertTemplate::default(),
            key_spec: Some(vec![Control::RsaKeyLen(3072).write().unwrap()]),
        }))),
        Info::CrlStatusList(vec![
            status(CrlSource::Issuer(names.clone())),
            status(CrlSource::DistributionPoint(
                DistributionPointName::FullName(names),
            )),
        ]),
        Info::Crls(Some(vec![crl.clone()])),
        Info::CurrentCrl(Some(crl)),
        Info::UnsupportedOids(vec![oid::CRLS]),
        Info::SuppLangTags(vec!["de".to_owned()]),
        Info::KeyPairTypes(oid::SIGN_KEY_PAIR_TYPES, None),
    ];
    for info in infos {
        let entry = info.write().unwrap();
        let received = InfoTypeAndValue::from_der(&entry.to_der().unwrap()).unwrap();
        assert_eq!(Info::read(&received), Ok(info));
    }
}

#[test]
fn general_information_of_another_type_is_refused() {
    for info_type in [
        oid::IMPLICIT_CONFIRM,
        oid::CONFIRM_WAIT_TIME,
        oid::CERT_PROFILE,
        oid::CA_CERTS,
        oid::ROOT_CA_CERT,
        oid::ROOT_CA_KEY_UPDATE,
        oid::CERT_REQ_TEMPLATE,
        oid::CRL_STATUS_LIST,
        oid::CRLS,
    ] {
        let entry = InfoTypeAndValue {
            info_type,
            info_value: Some(Any::encode_from(&7_u8).unwrap()),
        };
        assert!(Info::read(&entry).is_err(), "{info_type}");
    }
}

#[test]
fn announcements_are_read_and_written() {
    let ca = pki().certificate("ca");
    let time = GeneralizedTime::from_unix_duration(std::time::Duration::from_secs(1)).unwrap();
    let bodies = [
        Body::Ckuann(CaKeyUpdate::V2(CaKeyUpdateV2 {
            old_with_new: ca.clone(),
            new_with_old: ca.clone(),
            new_with_new: ca.clone(),
        })),
        Body::Ckuann(CaKeyUpdate::V3(RootCaKeyUpdate {
            new_with_new: ca.clone(),
            new_with_old: None,
            old_with_new: Some(ca.clone()),
        })),
        Body::Cann(ca),
        Body::Rann(RevocationAnnouncement {
            status: Status::REVOCATION_WARNING.0,
            cert_id: CertId {
                issuer: null_name(),
                serial_number: Int::new(&[5]).unwrap(),
            },
            will_be_revoked_at: time,
            bad_since_date: time,
            crl_details: None,
        }),
        Body::Crlann(vec![CertificateList::from_der(&[0x30, 0]).unwrap()]),
    ];
    for body in bodies {
        let bytes = message(body.clone()).encode().unwrap();
        assert_eq!(*check_lossless(&bytes).unwrap().body, body);
    }
}

#[test]
fn controls_are_read_and_written() {
    for control in [
        Control::RegToken("token".to_owned()),
        Control::Authenticator("name of the dog".to_owned()),
        Control::AlgId(Algorithm {
            oid: oid::ED25519,
            parameters: None,
        }),
        Control::RsaKeyLen(2048),
    ] {
        assert_eq!(Control::read(&control.write().unwrap()), Ok(control));
    }
}

#[test]
fn a_status_reads_as_a_sentence() {
    let info = StatusInfo::rejection(Failure::BadPop, "no\nproof");
    assert_eq!(info.to_string(), "rejection BadPop: no\\nproof");
    assert_eq!(StatusInfo::new(Status(9)).to_string(), "status 9");
}

prop_compose! {
    fn any_octets()(octets in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40))) -> Option<OctetString> {
        octets.map(|octets| OctetString::new(octets).unwrap())
    }
}

prop_compose! {
    fn any_header()(
        pvno in any::<i64>(),
        kid in any_octets(),
        id in any_octets(),
        sender_nonce in any_octets(),
        recip_nonce in any_octets(),
        text in proptest::option::of(proptest::collection::vec(".{0,20}", 1..4)),
        name in ".{0,300}",
    ) -> Header {
        let mut header = Header::new(pvno, GeneralName::directory(&Name::common(&name)).unwrap(), null_name());
        header.sender_kid = kid;
        header.transaction_id = id;
        header.sender_nonce = sender_nonce;
        header.recip_nonce = recip_nonce;
        header.free_text = text;
        header
    }
}

prop_compose! {
    fn any_body()(
        which in 0..4,
        number in any::<i64>(),
        texts in proptest::collection::vec(".{0,200}", 1..4),
        subject in proptest::option::of(".{0,200}"),
        failure in 0..Failure::ALL.len(),
    ) -> Body {
        match which {
            0 => Body::Pkiconf(Null),
            1 => Body::Error(ErrorMsg {
                status_info: StatusInfo {
                    status_string: Some(texts),
                    ..StatusInfo::rejection(Failure::ALL[failure], "")
                },
                error_code: Some(number),
                error_details: None,
            }),
            2 => Body::Cr(vec![CertReqMsg {
                cert_req: Kept::new(CertRequest {
                    cert_req_id: number,
                    cert_template: CertTemplate {
                        subject: subject.map(|text| Name::common(&text)),
                        ..CertTemplate::default()
                    },
                    controls: Some(vec![Control::RegToken(texts.concat()).write().unwrap()]),
                }).unwrap(),
                popo: None,
                reg_info: None,
            }]),
            _ => Body::Genm(vec![Info::CertProfile(texts).write().unwrap()]),
        }
    }
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(header in any_header(), body in any_body()) {
        let message = Message {
            header: Kept::new(header).unwrap(),
            body: Kept::new(body).unwrap(),
            protection: None,
            extra_certs: None,
        };
        let bytes = message.encode().unwrap();
        prop_assert_eq!(Message::decode(&bytes, &Limits::default()), Ok(message));
        check_lossless(&bytes).unwrap();
    }
}
