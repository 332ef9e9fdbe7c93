//! What an RA or CA refuses, and the failInfo it names (RFC 9483 §3.5, §3.6, §4).

use std::time::Duration;

use der::asn1::{Any, GeneralizedTime, Int, Null, OctetString};
use homefleet_cmp::{
    CertificateParts, DecodeError, Refusal, TimePolicy,
    asn1::{
        Algorithm, AuthInfo, Body, BodyKind, CertId, CertReqMsg, CertRequest, CertStatus,
        CertTemplate, Control, EncodedMessage, ErrorMsg, Extensions, Failure, GeneralName, Info,
        InfoTypeAndValue, Kept, MacValue, Message, Name, PollRequest, PrivateKeyProof,
        ProofOfPossession, PublicKeyInfo, RevDetails, SignatureInput, SigningKeyProof, Status,
        StatusInfo,
    },
    authority::{AuthorityConfig, Decision, Event, UnknownTransaction},
    crypto::{Hash, Mac, MacError, Secret, Signer},
    oid,
    possession::{Possession, prove},
    protection::{Protection, ProtectionPolicy, Protector},
};

use crate::{
    openssl::{SECRET, pki},
    transactions::revocation,
    world::{CONFIRM_WITHIN, Ca, Requester, authority_config, by_key, by_secret, grant, nobody},
};

fn requester() -> Requester {
    Requester::new(by_secret(), 1)
}

fn template() -> CertTemplate {
    CertTemplate {
        subject: Some(Name::common("new")),
        public_key: Some(pki().key("new").public_key()),
        ..CertTemplate::default()
    }
}

/// A request with a proof of possession by the key "new".
fn request(cert_req_id: i64, template: CertTemplate, controls: Vec<Control>) -> CertReqMsg {
    let cert_req = Kept::new(CertRequest {
        cert_req_id,
        cert_template: template,
        controls: (!controls.is_empty())
            .then(|| controls.iter().map(|c| c.write().unwrap()).collect()),
    })
    .unwrap();
    let popo = prove(&cert_req, &*pki().key("new")).unwrap();
    CertReqMsg {
        cert_req,
        popo: Some(popo),
        reg_info: None,
    }
}

fn ir(template: CertTemplate) -> Body {
    Body::Ir(vec![request(0, template, Vec::new())])
}

fn genm() -> Body {
    Body::Genm(vec![InfoTypeAndValue::ask(oid::CA_CERTS)])
}

fn octets(bytes: &[u8]) -> Option<OctetString> {
    Some(OctetString::new(bytes).unwrap())
}

/// The message is answered with an error that names the failure, and the application is told why.
fn assert_refused(ca: &mut Ca, message: &Message, refusal: Refusal) {
    let answer = ca.send(message).unwrap();
    assert_error(ca, &answer, message, refusal);
}

fn assert_error(ca: &mut Ca, answer: &Message, message: &Message, refusal: Refusal) {
    let Body::Error(error) = &*answer.body else {
        panic!("{} instead of {refusal}", answer.body.kind());
    };
    assert_eq!(error.status_info, refusal.status_info(), "{refusal}");
    assert_eq!(error.status_info.status(), Status::REJECTION);
    assert!(error.status_info.has(refusal.failure()));
    assert_eq!(answer.header.recip_nonce, message.header.sender_nonce);
    assert_eq!(answer.header.transaction_id, message.header.transaction_id);
    assert!(answer.header.sender_nonce.is_some());
    assert!(answer.protection.is_some());
    let told = std::iter::from_fn(|| ca.event()).find_map(|event| match event {
        Event::Refused { refusal, .. } => Some(refusal),
        _ => None,
    });
    assert_eq!(told, Some(refusal));
}

/// A first message with this body is refused.
fn assert_body_refused(body: Body, refusal: Refusal) {
    let mut ca = Ca::new();
    let message = requester().message(body, None, |_| {});
    assert_refused(&mut ca, &message, refusal);
    assert_eq!(ca.authority.open(), 0);
}

/// An authority that issued a certificate for an ir, and the ip.
fn issued() -> (Ca, Requester, Message) {
    let mut ca = Ca::new();
    let mut requester = requester();
    let message = requester.message(ir(template()), None, |_| {});
    assert_eq!(ca.send(&message), None);
    let event = ca.event().unwrap();
    let Event::Requested { transaction, .. } = &event else {
        panic!("{event:?}");
    };
    ca.authority
        .decide(ca.moment, transaction, grant(&event).unwrap())
        .unwrap();
    let answer = ca.answer().unwrap();
    (ca, requester, answer)
}

/// An authority that makes a requester wait, and its last message.
fn waiting() -> (Ca, Requester, Message) {
    let mut ca = Ca::new();
    let mut requester = requester();
    let message = requester.message(ir(template()), None, |_| {});
    assert_eq!(ca.send(&message), None);
    ca.decide(Decision::Wait {
        check_after: Duration::from_secs(10),
        reason: None,
    });
    let answer = ca.answer().unwrap();
    (ca, requester, answer)
}

fn poll(cert_req_id: i64) -> Body {
    Body::PollReq(vec![PollRequest { cert_req_id }])
}

fn certificate_of(answer: &Message) -> Vec<u8> {
    let Body::Ip(content) = &*answer.body else {
        panic!("{}", answer.body.kind());
    };
    let pair = content.response[0].certified_key_pair.as_ref().unwrap();
    match &pair.cert_or_enc_cert {
        homefleet_cmp::asn1::CertOrEncCert::Certificate(certificate) => certificate.to_der(),
        other => panic!("{other:?}"),
    }
}

fn cert_conf(certificate: &[u8], change: impl FnOnce(&mut CertStatus)) -> Body {
    let mut status = CertStatus {
        cert_hash: OctetString::new(Hash::Sha256.digest(certificate)).unwrap(),
        cert_req_id: 0,
        status_info: None,
        hash_alg: None,
    };
    change(&mut status);
    Body::CertConf(vec![status])
}

// Headers (RFC 9483 §3.1, §3.5).

#[test]
fn what_is_no_message_is_bad_data_format() {
    for bytes in [
        &b""[..],
        b"GET / HTTP/1.1",
        &[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF],
    ] {
        let mut ca = Ca::new();
        let answer = ca.send_bytes(bytes).unwrap();
        let Body::Error(error) = &*answer.body else {
            panic!("{}", answer.body.kind());
        };
        assert!(error.status_info.has(Failure::BadDataFormat));
        assert!(matches!(
            ca.event(),
            Some(Event::Refused {
                refusal: Refusal::Malformed(DecodeError::Der { .. }),
                requester: None,
                ..
            })
        ));
    }
}

#[test]
fn a_version_that_is_not_2_or_3_is_unsupported_version() {
    for pvno in [1, 4] {
        let mut ca = Ca::new();
        let message = requester().message(genm(), None, |header| header.pvno = pvno);
        assert_refused(&mut ca, &message, Refusal::Version(pvno));
    }
    for pvno in [2, 3] {
        let mut ca = Ca::new();
        let message = requester().message(genm(), None, |header| header.pvno = pvno);
        assert_eq!(ca.send(&message), None);
        ca.decide(Decision::Answer(Vec::new()));
        assert_eq!(ca.answer().unwrap().header.pvno, pvno);
    }
}

#[test]
fn a_transaction_id_that_is_missing_or_short_is_bad_data_format() {
    for (id, bytes) in [(None, 0), (octets(&[1; 15]), 15), (octets(&[1; 65]), 65)] {
        let mut ca = Ca::new();
        let message = requester().message(genm(), None, |header| header.transaction_id = id);
        assert_refused(&mut ca, &message, Refusal::TransactionId { bytes });
    }
}

#[test]
fn a_sender_nonce_that_is_missing_or_short_is_bad_sender_nonce() {
    for (nonce, bytes) in [(None, 0), (octets(&[1; 15]), 15)] {
        let mut ca = Ca::new();
        let message = requester().message(genm(), None, |header| header.sender_nonce = nonce);
        assert_refused(&mut ca, &message, Refusal::SenderNonce { bytes });
    }
}

#[test]
fn a_first_message_with_a_recip_nonce_is_bad_recipient_nonce() {
    let mut ca = Ca::new();
    let message = requester().message(genm(), None, |header| header.recip_nonce = octets(&[1; 16]));
    assert_refused(&mut ca, &message, Refusal::RecipNonceUnasked);
}

#[test]
fn a_message_time_too_far_away_is_bad_time() {
    let mut ca = Ca::new();
    let now = ca.moment.time.unwrap();
    let mut seed = 0;
    let mut message = |time| {
        seed += 1;
        let time = GeneralizedTime::from_system_time(time).unwrap();
        let message = Requester::new(by_secret(), seed)
            .message(genm(), None, |header| header.message_time = Some(time));
        (message, time.to_system_time())
    };
    let tolerance = Duration::from_secs(600);
    let near = Duration::from_secs(590);
    for time in [now + near, now - near] {
        assert_eq!(ca.send(&message(time).0), None);
    }
    for time in [now + tolerance + near, now - tolerance - near] {
        // messageTime has whole seconds.
        let (message, sent) = message(time);
        let away = sent
            .duration_since(now)
            .unwrap_or_else(|error| error.duration());
        let seconds = away.as_secs();
        assert_refused(&mut ca, &message, Refusal::Time { seconds });
    }
    assert_eq!(ca.authority.open(), 2);
}

#[test]
fn a_message_time_that_is_asked_for_and_missing_is_missing_time_stamp() {
    let mut ca = Ca::with(AuthorityConfig {
        time: TimePolicy {
            required: true,
            ..TimePolicy::default()
        },
        ..authority_config()
    });
    let message = requester().message(genm(), None, |_| {});
    assert_refused(&mut ca, &message, Refusal::TimeMissing);
}

#[test]
fn general_information_that_is_not_of_its_type_is_bad_data_format() {
    let mut ca = Ca::new();
    let message = requester().message(genm(), None, |header| {
        header.general_info = Some(vec![InfoTypeAndValue {
            info_type: oid::CERT_PROFILE,
            info_value: Some(Any::null()),
        }]);
    });
    assert_refused(&mut ca, &message, Refusal::GeneralInfo(oid::CERT_PROFILE));
}

// Protection (RFC 9483 §3.2).

#[test]
fn requests_without_protection_are_bad_message_check() {
    let mut ca = Ca::new();
    let mut requester = Requester::new(Protector::None { sender: nobody() }, 1);
    let message = requester.message(genm(), None, |_| {});
    assert_refused(&mut ca, &message, Refusal::Unprotected);
}

#[test]
fn a_bad_mac_or_signature_is_bad_message_check() {
    for protector in [by_secret(), by_key("device")] {
        let mut ca = Ca::new();
        let message = Requester::new(protector, 1).message(genm(), None, |_| {});
        let mut header = (*message.header).clone();
        header.transaction_id = octets(&[9; 16]);
        let message = Message {
            header: Kept::new(header).unwrap(),
            ..message
        };
        assert_refused(&mut ca, &message, Refusal::BadProtection);
    }
}

#[test]
fn a_weak_mac_is_bad_alg() {
    let weak = Mac::PasswordBased {
        salt: vec![1; 16],
        owf: Hash::Sha256,
        iterations: 500,
        mac: Hash::Sha1,
    };
    let protector = Protector::secret(b"device-1", Secret::new("correct horse"), weak).unwrap();
    let mut ca = Ca::new();
    let message = Requester::new(protector, 1).message(genm(), None, |_| {});
    assert_refused(&mut ca, &message, Refusal::MacAlgorithm(MacError::Sha1));
}

#[test]
fn a_mac_where_signatures_are_asked_for_is_wrong_integrity() {
    let mut ca = Ca::with(AuthorityConfig {
        protection: ProtectionPolicy {
            secrets: false,
            ..ProtectionPolicy::default()
        },
        ..authority_config()
    });
    let message = requester().message(genm(), None, |_| {});
    assert_refused(&mut ca, &message, Refusal::WrongProtection("a MAC"));
}

// Bodies (RFC 9483 §4).

#[test]
fn bodies_that_are_not_supported_are_bad_request() {
    let requests = || vec![request(0, template(), Vec::new())];
    let certificate = pki().certificate("ca");
    for body in [
        Body::Krr(requests()),
        Body::Ccr(requests()),
        Body::Popdecr(Vec::new()),
        Body::Cann(certificate),
        Body::Crlann(Vec::new()),
    ] {
        let kind = body.kind();
        assert_body_refused(body, Refusal::UnsupportedBody(kind));
    }
}

#[test]
fn responses_sent_to_an_authority_are_bad_request() {
    for body in [
        Body::Pkiconf(Null),
        Body::Genp(Vec::new()),
        Body::PollRep(Vec::new()),
    ] {
        let kind = body.kind();
        assert_body_refused(body, Refusal::UnexpectedBody(kind));
    }
}

#[test]
fn more_or_less_than_one_request_is_bad_request() {
    let two = vec![request(0, template(), Vec::new()); 2];
    assert_body_refused(Body::Ir(two.clone()), Refusal::Count { found: 2 });
    assert_body_refused(Body::Cr(Vec::new()), Refusal::Count { found: 0 });
    assert_body_refused(Body::Rr(Vec::new()), Refusal::Count { found: 0 });
}

#[test]
fn a_cert_req_id_that_is_not_0_is_bad_request() {
    let body = Body::Ir(vec![request(1, template(), Vec::new())]);
    assert_body_refused(
        body,
        Refusal::CertReqId {
            expected: 0,
            found: 1,
        },
    );
}

#[test]
fn templates_with_what_the_ca_chooses_are_bad_cert_template() {
    let bits = der::asn1::BitString::from_bytes(&[1]).unwrap();
    type Change = fn(&mut CertTemplate, der::asn1::BitString);
    let cases: [(Change, &str); 7] = [
        (|t, _| t.version = Some(0), "version is not v3"),
        (
            |t, _| t.serial_number = Some(Int::new(&[1]).unwrap()),
            "the CA chooses the serial number",
        ),
        (
            |t, _| t.signing_alg = Some(Hash::Sha256.algorithm()),
            "the CA chooses its signature algorithm",
        ),
        (
            |t, bits| t.issuer_uid = Some(bits),
            "unique identifiers are obsolete",
        ),
        (
            |t, bits| t.subject_uid = Some(bits),
            "unique identifiers are obsolete",
        ),
        (
            |t, _| t.extensions = Some(Extensions::from_der(&[0x30, 2, 5, 0]).unwrap()),
            "the extensions cannot be read",
        ),
        (|t, _| t.subject = None, "the subject is missing"),
    ];
    for (change, why) in cases {
        let mut template = template();
        change(&mut template, bits.clone());
        assert_body_refused(ir(template), Refusal::Template(why));
    }
}

#[test]
fn a_proof_of_possession_that_is_missing_or_wrong_is_bad_pop() {
    let good = request(0, template(), Vec::new());
    let with = |popo| {
        Body::Ir(vec![CertReqMsg {
            popo,
            ..good.clone()
        }])
    };
    assert_body_refused(with(None), Refusal::Possession("it is missing"));
    let another = prove(&good.cert_req, &*pki().key("device")).unwrap();
    assert_body_refused(
        with(Some(another)),
        Refusal::Possession("the signature does not verify"),
    );
    let encipherment = ProofOfPossession::KeyEncipherment(PrivateKeyProof::SubsequentMessage(0));
    assert_body_refused(
        with(Some(encipherment)),
        Refusal::Possession("only signatures are supported"),
    );
    // A proof over another request.
    let other = request(
        0,
        CertTemplate {
            subject: Some(Name::common("somebody else")),
            ..template()
        },
        Vec::new(),
    );
    assert_body_refused(
        with(other.popo),
        Refusal::Possession("the signature does not verify"),
    );
}

#[test]
fn a_proof_without_key_is_bad_pop() {
    let body = ir(CertTemplate {
        public_key: None,
        ..template()
    });
    assert_body_refused(
        body,
        Refusal::Possession("a key that the CA generates cannot be proven"),
    );
}

#[test]
fn a_proof_over_the_key_and_its_sender_is_verified() {
    let mac_over = |secret: &str, key: &PublicKeyInfo, iterations| {
        let mac = Mac::PasswordBased {
            salt: vec![3; 16],
            owf: Hash::Sha256,
            iterations,
            mac: Hash::Sha256,
        };
        let tag = mac.compute(&Secret::new(secret), &key.to_der());
        AuthInfo::PublicKeyMac(MacValue {
            algorithm: mac.write().unwrap(),
            value: der::asn1::BitString::from_bytes(&tag).unwrap(),
        })
    };
    let sender = |name: &str| {
        let parts = CertificateParts::read(&pki().certificate(name)).unwrap();
        AuthInfo::Sender(parts.subject_name().unwrap())
    };
    let key = pki().key("new").public_key();
    let other = pki().key("device").public_key();
    let another_key = Some("poposkInput is about another key");
    let another_sender = Some("poposkInput is by another sender");
    let does_not_verify = Some("the signature does not verify");
    let cases = [
        (by_key("device"), sender("device"), &key, "new", None),
        (
            by_key("device"),
            sender("server"),
            &key,
            "new",
            another_sender,
        ),
        (by_secret(), sender("device"), &key, "new", another_sender),
        (
            by_secret(),
            mac_over(SECRET, &key, 1_000),
            &key,
            "new",
            None,
        ),
        (
            by_secret(),
            mac_over("wrong", &key, 1_000),
            &key,
            "new",
            another_sender,
        ),
        (
            by_secret(),
            mac_over(SECRET, &other, 1_000),
            &key,
            "new",
            another_sender,
        ),
        (
            by_secret(),
            mac_over(SECRET, &key, 999),
            &key,
            "new",
            another_sender,
        ),
        (
            by_key("device"),
            mac_over(SECRET, &key, 1_000),
            &key,
            "new",
            another_sender,
        ),
        (
            by_key("device"),
            sender("device"),
            &other,
            "new",
            another_key,
        ),
        (
            by_key("device"),
            sender("device"),
            &key,
            "device",
            does_not_verify,
        ),
    ];
    for (protector, auth_info, public_key, signer, refusal) in cases {
        let input = SignatureInput {
            auth_info,
            public_key: public_key.clone(),
        };
        let signature = pki()
            .key(signer)
            .sign(&der::Encode::to_der(&input).unwrap())
            .unwrap();
        let popo = ProofOfPossession::Signature(SigningKeyProof {
            input: Some(input),
            algorithm: pki().key(signer).algorithm(),
            signature: der::asn1::BitString::from_bytes(&signature).unwrap(),
        });
        let body = Body::Cr(vec![CertReqMsg {
            popo: Some(popo),
            ..request(0, template(), Vec::new())
        }]);
        let mut ca = Ca::new();
        let message = Requester::new(protector, 1).message(body, None, |_| {});
        match refusal {
            Some(why) => assert_refused(&mut ca, &message, Refusal::Possession(why)),
            None => assert_eq!(ca.send(&message), None),
        }
    }
}

#[test]
fn an_ra_that_verified_the_proof_is_told_apart() {
    let mut ca = Ca::new();
    let good = request(0, template(), Vec::new());
    let body = Body::Ir(vec![CertReqMsg {
        popo: Some(ProofOfPossession::RaVerified(Null)),
        ..good
    }]);
    assert_eq!(ca.send(&requester().message(body, None, |_| {})), None);
    assert!(matches!(
        ca.event(),
        Some(Event::Requested { request, .. }) if matches!(request.possession, Possession::RaVerified(_))
    ));
}

#[test]
fn a_pkcs10_request_with_a_wrong_signature_is_bad_pop() {
    let pem = String::from_utf8(pki().read("new.csr")).unwrap();
    let (_, mut der) = der::pem::decode_vec(pem.as_bytes()).unwrap();
    // The last byte belongs to the signature.
    *der.last_mut().unwrap() ^= 1;
    let request = homefleet_cmp::asn1::CertificationRequest::from_der(&der).unwrap();
    assert_body_refused(
        Body::P10cr(request),
        Refusal::Possession("the signature does not verify"),
    );
}

#[test]
fn an_old_certificate_other_than_that_of_a_kur_is_bad_cert_id() {
    let id = |name: &str| {
        let parts = CertificateParts::read(&pki().certificate(name)).unwrap();
        Control::OldCertId(CertId {
            issuer: GeneralName::directory(&parts.issuer).unwrap(),
            serial_number: Int::new(&parts.serial).unwrap(),
        })
    };
    let kur = |name| Body::Kur(vec![request(0, template(), vec![id(name)])]);
    let mut ca = Ca::new();
    let message = Requester::new(by_key("device"), 1).message(kur("server"), None, |_| {});
    assert_refused(&mut ca, &message, Refusal::OldCertId);
    let message = Requester::new(by_key("device"), 2).message(kur("device"), None, |_| {});
    assert_eq!(ca.send(&message), None);
    let Some(Event::Requested { request: asked, .. }) = ca.event() else {
        panic!("a request");
    };
    assert!(asked.old_certificate.is_some());
    // Without the control it is the certificate that protects the request.
    let plain = Body::Kur(vec![request(0, template(), Vec::new())]);
    let message = Requester::new(by_key("device"), 3).message(plain, None, |_| {});
    assert_eq!(ca.send(&message), None);
    let Some(Event::Requested {
        request: implied, ..
    }) = ca.event()
    else {
        panic!("a request");
    };
    assert_eq!(implied.old_certificate, asked.old_certificate);
}

#[test]
fn a_kur_with_a_mac_is_wrong_integrity() {
    let body = Body::Kur(vec![request(0, template(), Vec::new())]);
    assert_body_refused(body, Refusal::WrongProtection("a MAC"));
}

#[test]
fn a_control_that_is_not_of_its_type_is_bad_data_format() {
    let other = Control::Other(homefleet_cmp::asn1::TypeAndValue {
        oid: oid::OLD_CERT_ID,
        value: Any::null(),
    });
    let body = Body::Ir(vec![request(0, template(), vec![other])]);
    assert_body_refused(body, Refusal::Control(oid::OLD_CERT_ID));
}

#[test]
fn a_revocation_without_details_is_add_info_not_available() {
    let good = revocation("device", 4);
    type Change = fn(&mut RevDetails);
    let cases: [(Change, &str); 3] = [
        (
            |details| details.cert_details.issuer = None,
            "issuer and serial number",
        ),
        (
            |details| details.cert_details.serial_number = None,
            "issuer and serial number",
        ),
        (|details| details.crl_entry_details = None, "a reason"),
    ];
    for (change, why) in cases {
        let mut details = good.clone();
        change(&mut details);
        assert_body_refused(Body::Rr(vec![details]), Refusal::RevocationDetails(why));
    }
    let unknown = revocation("device", 11);
    assert_body_refused(
        Body::Rr(vec![unknown]),
        Refusal::RevocationDetails("a reason"),
    );
}

#[test]
fn a_question_that_is_not_of_its_type_is_bad_data_format() {
    let body = Body::Genm(vec![InfoTypeAndValue {
        info_type: oid::ROOT_CA_CERT,
        info_value: Some(Any::null()),
    }]);
    assert_body_refused(body, Refusal::GeneralInfo(oid::ROOT_CA_CERT));
}

// RAs (RFC 9483 §5.2.2).

fn nested(messages: &[&Message]) -> Body {
    Body::Nested(
        messages
            .iter()
            .map(|message| EncodedMessage::from_der(&message.encode().unwrap()).unwrap())
            .collect(),
    )
}

#[test]
fn an_ra_adds_its_protection_to_a_request_and_its_confirmation() {
    let mut ca = Ca::new();
    let mut device = requester();
    let mut ra = Requester::new(by_key("server"), 2);
    let inner = device.message(ir(template()), None, |_| {});
    let outer = ra.message(nested(&[&inner]), None, |_| {});
    assert_eq!(ca.send(&outer), None);
    let event = ca.event().unwrap();
    let Event::Requested {
        transaction,
        request,
    } = &event
    else {
        panic!("{event:?}");
    };
    assert_eq!(transaction.as_bytes(), device.transaction);
    assert!(matches!(request.requester, Protection::Secret { .. }));
    let Some(Protection::Certificate { certificate, .. }) = &request.relay else {
        panic!("{:?}", request.relay);
    };
    assert_eq!(*certificate, pki().certificate("server"));
    ca.authority
        .decide(ca.moment, transaction, grant(&event).unwrap())
        .unwrap();
    let answer = ca.answer().unwrap();
    assert_eq!(answer.header.recip_nonce, inner.header.sender_nonce);
    let body = cert_conf(&certificate_of(&answer), |_| {});
    let inner = device.message(body, Some(&answer), |_| {});
    let outer = ra.message(nested(&[&inner]), None, |_| {});
    let answer = ca.send(&outer).unwrap();
    assert_eq!(answer.body.kind(), BodyKind::Pkiconf);
    assert_eq!(answer.header.recip_nonce, inner.header.sender_nonce);
}

#[test]
fn nobody_but_an_ra_wraps_the_messages_of_others() {
    let mut ca = Ca::new();
    let inner = requester().message(genm(), None, |_| {});
    let outer = Requester::new(by_key("device"), 2).message(nested(&[&inner]), None, |_| {});
    assert_refused(
        &mut ca,
        &outer,
        Refusal::Unauthorized("not an RA".to_owned()),
    );
    let outer = Requester::new(by_secret(), 3).message(nested(&[&inner]), None, |_| {});
    assert_refused(&mut ca, &outer, Refusal::SecretUnknown);
    let nobody = Protector::None { sender: nobody() };
    let outer = Requester::new(nobody, 4).message(nested(&[&inner]), None, |_| {});
    assert_refused(&mut ca, &outer, Refusal::Unprotected);
}

#[test]
fn the_wrapped_message_is_judged_as_any_other() {
    let mut ca = Ca::new();
    let mut ra = Requester::new(by_key("server"), 2);
    let mut nobody = Requester::new(Protector::None { sender: nobody() }, 3);
    let inner = nobody.message(genm(), None, |_| {});
    let outer = ra.message(nested(&[&inner]), None, |_| {});
    let answer = ca.send(&outer).unwrap();
    assert_error(&mut ca, &answer, &inner, Refusal::Unprotected);
    let inner = requester().message(genm(), None, |_| {});
    for messages in [&[][..], &[&inner, &inner]] {
        let outer = ra.message(nested(messages), None, |_| {});
        let found = messages.len();
        assert_refused(&mut ca, &outer, Refusal::Count { found });
    }
    let twice = ra.message(nested(&[&inner]), None, |_| {});
    let outer = ra.message(nested(&[&twice]), None, |_| {});
    let answer = ca.send(&outer).unwrap();
    let refusal = Refusal::UnsupportedBody(BodyKind::Nested);
    assert_error(&mut ca, &answer, &twice, refusal);
}

// Transactions.

#[test]
fn a_replayed_request_is_transaction_id_in_use_while_it_runs_and_after() {
    let mut ca = Ca::new();
    let message = requester().message(genm(), None, |_| {});
    assert_eq!(ca.send(&message), None);
    let event = ca.event().unwrap();
    assert_refused(&mut ca, &message, Refusal::TransactionInUse);
    let Event::InfoRequested { transaction, .. } = event else {
        panic!("{event:?}");
    };
    let answer = Decision::Answer(Vec::new());
    ca.authority
        .decide(ca.moment, &transaction, answer.clone())
        .unwrap();
    // It goes out under the first exchange.
    assert!(ca.authority.poll_transmit().is_some());
    assert_refused(&mut ca, &message, Refusal::TransactionInUse);
    assert_eq!(
        ca.authority.decide(ca.moment, &transaction, answer),
        Err(UnknownTransaction)
    );
}

#[test]
fn transactions_over_the_limit_are_system_unavail_and_the_oldest_finished_is_forgotten() {
    let mut ca = Ca::with(AuthorityConfig {
        max_transactions: 2,
        max_finished: 1,
        ..authority_config()
    });
    let messages: Vec<_> = (0..3)
        .map(|seed| Requester::new(by_secret(), seed).message(genm(), None, |_| {}))
        .collect();
    assert_eq!(ca.send(&messages[0]), None);
    ca.decide(Decision::Answer(Vec::new()));
    assert!(ca.answer().is_some());
    assert_eq!(ca.send(&messages[1]), None);
    ca.decide(Decision::Answer(Vec::new()));
    assert!(ca.answer().is_some());
    assert_refused(&mut ca, &messages[1], Refusal::TransactionInUse);
    // The first is forgotten; it and the third take both places.
    assert_eq!(ca.send(&messages[0]), None);
    assert_eq!(ca.send(&messages[2]), None);
    let fourth = Requester::new(by_secret(), 9).message(genm(), None, |_| {});
    assert_refused(&mut ca, &fourth, Refusal::Busy);
    assert_eq!(Refusal::Busy.failure(), Failure::SystemUnavail);
    assert_eq!(ca.authority.open(), 2);
}

#[test]
fn a_later_message_of_no_transaction_is_bad_request() {
    for body in [poll(0), cert_conf(b"", |_| {})] {
        let mut ca = Ca::new();
        let message =
            requester().message(body, None, |header| header.recip_nonce = octets(&[1; 16]));
        assert_refused(&mut ca, &message, Refusal::TransactionUnknown);
    }
}

#[test]
fn a_later_message_with_another_recip_nonce_is_bad_recipient_nonce_and_changes_nothing() {
    let (mut ca, mut requester, answer) = issued();
    let body = || cert_conf(&certificate_of(&answer), |_| {});
    for nonce in [None, octets(&[1; 16])] {
        let message = requester.message(body(), Some(&answer), |header| header.recip_nonce = nonce);
        assert_refused(&mut ca, &message, Refusal::RecipNonce);
    }
    let message = requester.message(body(), Some(&answer), |_| {});
    let answer = ca.send(&message).unwrap();
    assert_eq!(answer.body.kind(), BodyKind::Pkiconf);
}

#[test]
fn a_sender_nonce_that_comes_twice_is_bad_sender_nonce() {
    let (mut ca, mut requester, answer) = waiting();
    let nonce = octets(&[7; 16]);
    let message = requester.message(poll(0), Some(&answer), |header| {
        header.sender_nonce.clone_from(&nonce);
    });
    let answer = ca.send(&message).unwrap();
    assert_eq!(answer.body.kind(), BodyKind::PollRep);
    let message = requester.message(poll(0), Some(&answer), |header| header.sender_nonce = nonce);
    assert_refused(&mut ca, &message, Refusal::SenderNonceUsed);
}

#[test]
fn somebody_else_cannot_go_on_with_a_transaction() {
    let (mut ca, requester, answer) = issued();
    let mut other = Requester::new(by_key("device"), 5);
    other.transaction.clone_from(&requester.transaction);
    let body = cert_conf(&certificate_of(&answer), |_| {});
    let message = other.message(body, Some(&answer), |_| {});
    assert_refused(&mut ca, &message, Refusal::PeerDiffers);
    assert_eq!(ca.authority.open(), 1);
}

#[test]
fn a_certificate_comes_with_the_time_until_when_it_has_to_be_confirmed() {
    let (ca, _, answer) = issued();
    let until = ca.moment.time.unwrap() + CONFIRM_WITHIN;
    let info = answer.header.info(oid::CONFIRM_WAIT_TIME).unwrap();
    let Ok(Info::ConfirmWaitTime(time)) = Info::read(info) else {
        panic!("{info:?}");
    };
    // It has whole seconds.
    let before = until.duration_since(time.to_system_time()).unwrap();
    assert!(before < Duration::from_secs(1), "{before:?}");
}

#[test]
fn a_confirmation_of_another_certificate_is_bad_cert_id_and_ours_is_to_be_revoked() {
    let (mut ca, mut requester, answer) = issued();
    let body = cert_conf(b"another certificate", |_| {});
    let message = requester.message(body, Some(&answer), |_| {});
    let error = ca.send(&message).unwrap();
    let declined = ca.event();
    assert!(
        matches!(&declined, Some(Event::Declined { certificate, .. }) if certificate.to_der() == certificate_of(&answer)),
        "{declined:?}"
    );
    assert_error(&mut ca, &error, &message, Refusal::CertHash);
    assert_eq!(ca.authority.open(), 0);
}

#[test]
fn a_confirmation_with_a_hash_algorithm_needs_version_3_and_one_that_is_strong() {
    let sha512 = |status: &mut CertStatus, certificate: &[u8]| {
        status.cert_hash = OctetString::new(Hash::Sha512.digest(certificate)).unwrap();
        status.hash_alg = Some(Hash::Sha512.algorithm());
    };
    let (mut ca, mut requester, answer) = issued();
    let certificate = certificate_of(&answer);
    let body = cert_conf(&certificate, |status| sha512(status, &certificate));
    let message = requester.message(body, Some(&answer), |_| {});
    let error = ca.send(&message).unwrap();
    assert_error(&mut ca, &error, &message, Refusal::HashAlgVersion);

    let sha1 = Algorithm {
        oid: oid::SHA1,
        parameters: None,
    };
    for (alg, refusal) in [
        (sha1, Some(Refusal::HashAlgorithm(oid::SHA1))),
        (Hash::Sha512.algorithm(), None),
    ] {
        let mut ca = Ca::new();
        let mut requester = Requester::new(by_secret(), 1);
        let message = requester.message(ir(template()), None, |header| header.pvno = 3);
        assert_eq!(ca.send(&message), None);
        let event = ca.event().unwrap();
        let Event::Requested { transaction, .. } = &event else {
            panic!("{event:?}");
        };
        let decision = grant(&event).unwrap();
        ca.authority
            .decide(ca.moment, transaction, decision)
            .unwrap();
        let answer = ca.answer().unwrap();
        let certificate = certificate_of(&answer);
        let body = cert_conf(&certificate, |status| {
            sha512(status, &certificate);
            status.hash_alg = Some(alg);
        });
        let message = requester.message(body, Some(&answer), |header| header.pvno = 3);
        let answer = ca.send(&message).unwrap();
        match refusal {
            Some(refusal) => assert_error(&mut ca, &answer, &message, refusal),
            None => assert_eq!(answer.body.kind(), BodyKind::Pkiconf),
        }
    }
}

#[test]
fn a_confirmation_with_another_cert_req_id_is_bad_request() {
    let (mut ca, mut requester, answer) = issued();
    let body = cert_conf(&certificate_of(&answer), |status| status.cert_req_id = 1);
    let message = requester.message(body, Some(&answer), |_| {});
    let error = ca.send(&message).unwrap();
    let refusal = Refusal::CertReqId {
        expected: 0,
        found: 1,
    };
    assert_error(&mut ca, &error, &message, refusal);
}

#[test]
fn a_confirmation_of_nothing_declines_everything() {
    let (mut ca, mut requester, answer) = issued();
    let message = requester.message(Body::CertConf(Vec::new()), Some(&answer), |_| {});
    assert_eq!(ca.send(&message).unwrap().body.kind(), BodyKind::Pkiconf);
    assert!(matches!(ca.event(), Some(Event::Declined { .. })));
}

#[test]
fn two_confirmations_are_bad_request() {
    let (mut ca, mut requester, answer) = issued();
    let Body::CertConf(mut statuses) = cert_conf(&certificate_of(&answer), |_| {}) else {
        unreachable!()
    };
    statuses.push(statuses[0].clone());
    let message = requester.message(Body::CertConf(statuses), Some(&answer), |_| {});
    assert_refused(&mut ca, &message, Refusal::Count { found: 2 });
}

#[test]
fn an_error_of_the_requester_ends_the_transaction_and_the_certificate_is_to_be_revoked() {
    let (mut ca, mut requester, answer) = issued();
    let status = StatusInfo::rejection(Failure::BadCertTemplate, "no");
    let body = Body::Error(ErrorMsg::from(status.clone()));
    let message = requester.message(body, Some(&answer), |_| {});
    assert_eq!(ca.send(&message).unwrap().body.kind(), BodyKind::Pkiconf);
    assert!(matches!(ca.event(), Some(Event::Declined { status: why, .. }) if why == status));
    assert_eq!(ca.authority.open(), 0);
}

#[test]
fn polling_is_only_for_those_who_wait_and_by_their_cert_req_id() {
    let (mut ca, mut requester, answer) = waiting();
    let message = requester.message(poll(-1), Some(&answer), |_| {});
    let refusal = Refusal::CertReqId {
        expected: 0,
        found: -1,
    };
    assert_refused(&mut ca, &message, refusal);
    let message = requester.message(Body::PollReq(Vec::new()), Some(&answer), |_| {});
    assert_refused(&mut ca, &message, Refusal::Count { found: 0 });
    let (mut ca, mut requester, answer) = issued();
    let message = requester.message(poll(0), Some(&answer), |_| {});
    assert_refused(
        &mut ca,
        &message,
        Refusal::UnexpectedBody(BodyKind::PollReq),
    );
    let (mut ca, mut requester, answer) = waiting();
    let message = requester.message(cert_conf(b"", |_| {}), Some(&answer), |_| {});
    assert_refused(
        &mut ca,
        &message,
        Refusal::UnexpectedBody(BodyKind::CertConf),
    );
}

#[test]
fn a_decided_certificate_that_nobody_fetches_is_to_be_revoked() {
    let mut ca = Ca::new();
    let message = requester().message(ir(template()), None, |_| {});
    assert_eq!(ca.send(&message), None);
    let event = ca.event().unwrap();
    let Event::Requested { transaction, .. } = &event else {
        panic!("{event:?}");
    };
    ca.sleep(Duration::from_secs(5));
    assert!(ca.answer().is_some());
    ca.authority
        .decide(ca.moment, transaction, grant(&event).unwrap())
        .unwrap();
    ca.sleep(Duration::from_secs(86_400));
    assert!(matches!(ca.event(), Some(Event::Unconfirmed { .. })));
}

#[test]
fn a_key_without_bits_asks_for_a_key_of_its_algorithm() {
    // SEQUENCE { AlgorithmIdentifier Ed25519, BIT STRING "" }
    let wanted =
        PublicKeyInfo::from_der(&[0x30, 10, 0x30, 5, 6, 3, 0x2B, 0x65, 0x70, 3, 1, 0]).unwrap();
    let mut ca = Ca::new();
    let good = request(
        0,
        CertTemplate {
            public_key: Some(wanted.clone()),
            ..template()
        },
        Vec::new(),
    );
    let body = Body::Ir(vec![CertReqMsg { popo: None, ..good }]);
    assert_eq!(ca.send(&requester().message(body, None, |_| {})), None);
    assert!(matches!(
        ca.event(),
        Some(Event::Requested { request, .. }) if request.possession == Possession::KeyWanted(Some(wanted.clone()))
    ));
}
