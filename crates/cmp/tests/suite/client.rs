//! What an end entity ignores (RFC 9483 §3.5), and that it goes on waiting after it.

use der::asn1::{Null, OctetString};
use homefleet_cmp::{
    DecodeError, Refusal,
    asn1::{
        Body, BodyKind, CertOrEncCert, CertRepMessage, CertResponse, CertifiedKeyPair,
        EncryptedKey, EnvelopedData, ErrorMsg, Failure, Header, Info, InfoTypeAndValue, Limits,
        Message, PollResponse, Status, StatusInfo,
    },
    authority::{Decision, RequestKind},
    client::{Client, ClientConfig, ClientEvent, Outcome, Request},
    crypto::Signer,
    oid,
    protection::Protector,
};

use crate::{
    openssl::{Known, pki},
    world::{Ca, Requester, by_key, by_secret, certificate_request, issue, moment, nobody},
};

/// A client whose request was taken, and somebody who can answer it in any way.
struct Asked {
    client: Client,
    request: Message,
    server: Requester,
    at: homefleet_cmp::Moment,
}

impl Asked {
    fn new(request: Request) -> Self {
        Self::with(ClientConfig::new(by_secret(), nobody()), request)
    }

    fn with(config: ClientConfig, request: Request) -> Self {
        let at = moment();
        let mut client = Client::start(config, request, at, [4; 32]).unwrap();
        let bytes = client.poll_transmit().unwrap();
        let request = Message::decode(&bytes, &Limits::default()).unwrap();
        let mut server = Requester::new(by_secret(), 8);
        server.transaction = client.transaction().to_vec();
        Self {
            client,
            request,
            server,
            at,
        }
    }

    fn ir() -> Self {
        Self::new(certificate_request(RequestKind::Initialization))
    }

    fn answer(&mut self, body: Body, change: impl FnOnce(&mut Header)) {
        let message = self.server.message(body, Some(&self.request), change);
        self.deliver(&message);
    }

    fn deliver(&mut self, message: &Message) {
        let bytes = message.encode().unwrap();
        self.client.handle_input(self.at, &bytes, &Known);
    }

    /// The last answer was ignored, and a good one is taken still.
    fn assert_ignored(&mut self, refusal: Refusal) {
        assert_eq!(
            self.client.poll_event(),
            Some(ClientEvent::Ignored(refusal))
        );
        assert_eq!(self.client.poll_event(), None);
        assert!(self.client.poll_transmit().is_none());
        let body = good();
        self.server.protector = by_secret();
        let message = self.server.message(body, Some(&self.request), |_| {});
        self.deliver(&message);
        assert!(matches!(
            self.client.poll_event(),
            Some(ClientEvent::Offered(_))
        ));
    }
}

fn response(change: impl FnOnce(&mut CertResponse)) -> Body {
    let certificate = issue("new", &pki().key("new").public_key());
    let mut response = CertResponse {
        cert_req_id: 0,
        status: StatusInfo::new(Status::ACCEPTED),
        certified_key_pair: Some(CertifiedKeyPair::new(certificate)),
        rsp_info: None,
    };
    change(&mut response);
    Body::Ip(CertRepMessage {
        ca_pubs: None,
        response: vec![response],
    })
}

fn good() -> Body {
    response(|_| {})
}

fn octets(bytes: &[u8]) -> Option<OctetString> {
    Some(OctetString::new(bytes).unwrap())
}

#[test]
fn what_is_no_message_is_ignored() {
    let mut asked = Asked::ir();
    asked
        .client
        .handle_input(asked.at, b"502 Bad Gateway", &Known);
    let Some(ClientEvent::Ignored(Refusal::Malformed(DecodeError::Der { .. }))) =
        asked.client.poll_event()
    else {
        panic!("ignored");
    };
    asked.answer(good(), |_| {});
    assert!(matches!(
        asked.client.poll_event(),
        Some(ClientEvent::Offered(_))
    ));
}

#[test]
fn headers_that_break_a_rule_are_ignored() {
    type Change = fn(&mut Header);
    let cases: [(Change, Refusal); 8] = [
        (|header| header.pvno = 1, Refusal::Version(1)),
        (
            |header| header.transaction_id = None,
            Refusal::TransactionId { bytes: 0 },
        ),
        (
            |header| header.transaction_id = octets(&[9; 16]),
            Refusal::TransactionDiffers,
        ),
        (
            |header| header.sender_nonce = None,
            Refusal::SenderNonce { bytes: 0 },
        ),
        (|header| header.recip_nonce = None, Refusal::RecipNonce),
        (
            |header| header.recip_nonce = octets(&[9; 16]),
            Refusal::RecipNonce,
        ),
        (
            |header| {
                let time = der::asn1::GeneralizedTime::from_unix_duration(
                    std::time::Duration::from_secs(1),
                );
                header.message_time = time.ok();
            },
            Refusal::Time { seconds: 0 },
        ),
        (
            |header| {
                header.general_info = Some(vec![homefleet_cmp::asn1::InfoTypeAndValue::ask(
                    oid::CONFIRM_WAIT_TIME,
                )]);
            },
            Refusal::GeneralInfo(oid::CONFIRM_WAIT_TIME),
        ),
    ];
    for (change, refusal) in cases {
        let mut asked = Asked::ir();
        asked.answer(good(), change);
        let refusal = match refusal {
            Refusal::Time { .. } => {
                let since = asked.at.time.unwrap().duration_since(std::time::UNIX_EPOCH);
                Refusal::Time {
                    seconds: since.unwrap().as_secs() - 1,
                }
            }
            other => other,
        };
        asked.assert_ignored(refusal);
    }
}

#[test]
fn answers_without_protection_are_ignored_even_errors_unless_they_are_allowed() {
    let error = || {
        Body::Error(ErrorMsg::from(StatusInfo::rejection(
            Failure::SystemFailure,
            "",
        )))
    };
    for body in [good(), Body::Pkiconf(Null), error()] {
        let mut asked = Asked::ir();
        asked.server.protector = Protector::None { sender: nobody() };
        asked.answer(body, |_| {});
        asked.assert_ignored(Refusal::Unprotected);
    }
    let config = ClientConfig {
        unprotected_errors: true,
        ..ClientConfig::new(by_secret(), nobody())
    };
    let mut asked = Asked::with(config, certificate_request(RequestKind::Initialization));
    asked.server.protector = Protector::None { sender: nobody() };
    asked.answer(good(), |_| {});
    assert_eq!(
        asked.client.poll_event(),
        Some(ClientEvent::Ignored(Refusal::Unprotected))
    );
    asked.answer(error(), |_| {});
    assert!(matches!(
        asked.client.poll_event(),
        Some(ClientEvent::Finished(Outcome::Rejected(status))) if status.has(Failure::SystemFailure)
    ));
}

#[test]
fn answers_that_do_not_verify_are_ignored() {
    let mut asked = Asked::ir();
    let message = asked.server.message(good(), Some(&asked.request), |_| {});
    let bent = Message {
        body: homefleet_cmp::asn1::Kept::new(response(|r| r.cert_req_id = 1)).unwrap(),
        ..message
    };
    asked.deliver(&bent);
    asked.assert_ignored(Refusal::BadProtection);
}

#[test]
fn somebody_else_cannot_go_on_with_the_transaction() {
    let mut asked = Asked::ir();
    asked.answer(good(), |_| {});
    assert!(matches!(
        asked.client.poll_event(),
        Some(ClientEvent::Offered(_))
    ));
    asked.client.accept(asked.at).unwrap();
    let confirmation = asked.client.poll_transmit().unwrap();
    let confirmation = Message::decode(&confirmation, &Limits::default()).unwrap();
    assert_eq!(confirmation.body.kind(), BodyKind::CertConf);
    asked.server.protector = by_key("server");
    let message = asked
        .server
        .message(Body::Pkiconf(Null), Some(&confirmation), |_| {});
    asked.deliver(&message);
    assert_eq!(
        asked.client.poll_event(),
        Some(ClientEvent::Ignored(Refusal::PeerDiffers))
    );
    asked.server.protector = by_secret();
    let message = asked
        .server
        .message(Body::Pkiconf(Null), Some(&confirmation), |_| {});
    asked.deliver(&message);
    assert!(matches!(
        asked.client.poll_event(),
        Some(ClientEvent::Finished(Outcome::Certificate(_)))
    ));
}

#[test]
fn a_nonce_that_comes_twice_is_ignored() {
    let mut asked = Asked::ir();
    asked.answer(good(), |header| header.sender_nonce = octets(&[5; 16]));
    assert!(matches!(
        asked.client.poll_event(),
        Some(ClientEvent::Offered(_))
    ));
    asked.client.accept(asked.at).unwrap();
    let bytes = asked.client.poll_transmit().unwrap();
    asked.request = Message::decode(&bytes, &Limits::default()).unwrap();
    asked.answer(Body::Pkiconf(Null), |header| {
        header.sender_nonce = octets(&[5; 16]);
    });
    assert_eq!(
        asked.client.poll_event(),
        Some(ClientEvent::Ignored(Refusal::SenderNonceUsed))
    );
}

#[test]
fn bodies_that_answer_something_else_are_ignored() {
    let content = || match good() {
        Body::Ip(content) => content,
        _ => unreachable!(),
    };
    for body in [
        Body::Cp(content()),
        Body::Kup(content()),
        Body::Pkiconf(Null),
        Body::Genp(Vec::new()),
        Body::Genm(Vec::new()),
        Body::PollRep(Vec::new()),
        Body::Nested(Vec::new()),
    ] {
        let kind = body.kind();
        let mut asked = Asked::ir();
        asked.answer(body, |_| {});
        asked.assert_ignored(Refusal::UnexpectedBody(kind));
    }
}

#[test]
fn responses_that_do_not_fit_the_request_are_ignored() {
    let mut asked = Asked::ir();
    asked.answer(response(|response| response.cert_req_id = 1), |_| {});
    asked.assert_ignored(Refusal::CertReqId {
        expected: 0,
        found: 1,
    });
    let mut asked = Asked::ir();
    let none = Body::Ip(CertRepMessage {
        ca_pubs: None,
        response: Vec::new(),
    });
    asked.answer(none, |_| {});
    asked.assert_ignored(Refusal::Count { found: 0 });
    let mut asked = Asked::ir();
    asked.answer(
        response(|response| response.certified_key_pair = None),
        |_| {},
    );
    asked.assert_ignored(Refusal::Template("the certificate is missing"));
    let mut asked = Asked::ir();
    let envelope = EnvelopedData::from_der(&[0x30, 0]).unwrap();
    asked.answer(
        response(|response| {
            response
                .certified_key_pair
                .as_mut()
                .unwrap()
                .cert_or_enc_cert =
                CertOrEncCert::EncryptedCert(EncryptedKey::EnvelopedData(envelope));
        }),
        |_| {},
    );
    asked.assert_ignored(Refusal::Possession(
        "an encrypted certificate was not asked for",
    ));
}

#[test]
fn information_that_is_not_of_its_type_is_ignored() {
    let mut asked = Asked::new(Request::Info(vec![Info::CaCerts(None)]));
    let answer = |info_value| {
        Body::Genp(vec![InfoTypeAndValue {
            info_type: oid::CA_CERTS,
            info_value,
        }])
    };
    asked.answer(answer(Some(der::asn1::Any::null())), |_| {});
    assert_eq!(
        asked.client.poll_event(),
        Some(ClientEvent::Ignored(Refusal::GeneralInfo(oid::CA_CERTS)))
    );
    asked.answer(answer(None), |_| {});
    assert_eq!(
        asked.client.poll_event(),
        Some(ClientEvent::Finished(Outcome::Info(vec![Info::CaCerts(
            None
        )])))
    );
}

#[test]
fn polling_responses_are_for_those_who_polled_and_by_their_cert_req_id() {
    let mut ca = Ca::new();
    let config = ClientConfig::new(by_secret(), nobody());
    let request = certificate_request(RequestKind::Initialization);
    let mut client = Client::start(config, request, ca.moment, [4; 32]).unwrap();
    let bytes = client.poll_transmit().unwrap();
    assert_eq!(ca.send_bytes(&bytes), None);
    ca.decide(Decision::Wait {
        check_after: std::time::Duration::from_secs(1),
        reason: None,
    });
    let answer = ca.answer().unwrap().encode().unwrap();
    client.handle_input(ca.moment, &answer, &Known);
    assert!(matches!(
        client.poll_event(),
        Some(ClientEvent::Waiting { .. })
    ));
    ca.sleep(std::time::Duration::from_secs(1));
    client.handle_timeout(ca.moment).unwrap();
    let poll = Message::decode(&client.poll_transmit().unwrap(), &Limits::default()).unwrap();
    let mut server = Requester::new(by_secret(), 8);
    server.transaction = client.transaction().to_vec();
    let entry = |cert_req_id| PollResponse {
        cert_req_id,
        check_after: 1,
        reason: None,
    };
    let cases = [
        (Vec::new(), Refusal::Count { found: 0 }),
        (
            vec![entry(1)],
            Refusal::CertReqId {
                expected: 0,
                found: 1,
            },
        ),
    ];
    for (entries, refusal) in cases {
        let message = server.message(Body::PollRep(entries), Some(&poll), |_| {});
        client.handle_input(ca.moment, &message.encode().unwrap(), &Known);
        assert_eq!(client.poll_event(), Some(ClientEvent::Ignored(refusal)));
    }
    // A polling response has to name the polling request, not the one before.
    let request = Message::decode(&bytes, &Limits::default()).unwrap();
    let message = server.message(Body::PollRep(vec![entry(0)]), Some(&request), |_| {});
    client.handle_input(ca.moment, &message.encode().unwrap(), &Known);
    assert_eq!(
        client.poll_event(),
        Some(ClientEvent::Ignored(Refusal::RecipNonce))
    );
    let message = server.message(Body::PollRep(vec![entry(0)]), Some(&poll), |_| {});
    client.handle_input(ca.moment, &message.encode().unwrap(), &Known);
    assert!(matches!(
        client.poll_event(),
        Some(ClientEvent::Waiting { .. })
    ));
}

#[test]
fn what_comes_when_nothing_is_asked_is_ignored() {
    let mut asked = Asked::ir();
    asked.answer(good(), |_| {});
    assert!(matches!(
        asked.client.poll_event(),
        Some(ClientEvent::Offered(_))
    ));
    asked.answer(good(), |_| {});
    assert_eq!(
        asked.client.poll_event(),
        Some(ClientEvent::Ignored(Refusal::UnexpectedBody(BodyKind::Ip)))
    );
}

#[test]
fn an_error_ends_the_transaction_with_what_it_says() {
    let mut asked = Asked::ir();
    let status = StatusInfo::rejection(Failure::NotAuthorized, "not you");
    asked.answer(Body::Error(ErrorMsg::from(status.clone())), |_| {});
    assert_eq!(
        asked.client.poll_event(),
        Some(ClientEvent::Finished(Outcome::Rejected(status)))
    );
    assert_eq!(asked.client.poll_timeout(), None);
}

#[test]
fn a_certificate_without_hash_in_its_signature_is_confirmed_with_sha_512() {
    // RFC 9481 §2 about Ed25519. The certificate is the CA's own of that kind: what matters is its signature.
    let directory = tempfile::TempDir::new().unwrap();
    crate::openssl::shell(
        directory.path(),
        "openssl genpkey -algorithm ED25519 -out ca.key
         openssl req -x509 -new -key ca.key -days 30 -subj /CN=CA -out ca.pem
         openssl x509 -in ca.pem -outform DER -out ca.der",
    );
    let der = std::fs::read(directory.path().join("ca.der")).unwrap();
    let certificate = homefleet_cmp::asn1::Certificate::from_der(&der).unwrap();
    let request = Request::Certificate {
        kind: RequestKind::Initialization,
        template: Box::default(),
        controls: Vec::new(),
        key: None,
    };
    let mut asked = Asked::new(request);
    asked.answer(
        response(|r| r.certified_key_pair = Some(CertifiedKeyPair::new(certificate))),
        |_| {},
    );
    asked.client.accept(asked.at).unwrap();
    let bytes = asked.client.poll_transmit().unwrap();
    let message = Message::decode(&bytes, &Limits::default()).unwrap();
    let Body::CertConf(statuses) = &*message.body else {
        panic!("{}", message.body.kind());
    };
    assert_eq!(
        statuses[0].cert_hash.as_bytes(),
        homefleet_cmp::crypto::Hash::Sha512.digest(&der)
    );
    assert_eq!(statuses[0].hash_alg, None);
}

#[test]
fn nothing_is_accepted_that_was_not_offered() {
    let mut asked = Asked::ir();
    asked.client.accept(asked.at).unwrap();
    let status = StatusInfo::rejection(Failure::BadCertTemplate, "");
    asked.client.decline(asked.at, status).unwrap();
    assert!(asked.client.poll_transmit().is_none());
}
