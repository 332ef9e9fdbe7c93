//! Whole transactions of our client with our RA/CA, in virtual time (RFC 9483 §4).

use std::time::Duration;

use der::{Encode, asn1::Int};
use homefleet_cmp::{
    CertificateParts, Refusal,
    asn1::{
        CertTemplate, CertificationRequest, Extensions, Failure, Info, Limits, Message, RevDetails,
        RevRepContent, Status, StatusInfo,
    },
    authority::{Authority, Decision, Event, Issued, RequestKind},
    client::{ClientConfig, ClientError, ClientEvent, Outcome, Request},
    oid,
    protection::Protector,
};

use crate::{
    openssl::{Known, pki},
    world::{
        CONFIRM_WITHIN, Pair, authority_config, by_key, by_secret, certificate_request, grant,
        issue, nobody,
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn config(protector: Protector) -> ClientConfig {
    ClientConfig::new(protector, nobody())
}

/// rr for a certificate with a reason.
pub fn revocation(name: &str, reason: u8) -> RevDetails {
    let parts = CertificateParts::read(&pki().certificate(name)).unwrap();
    let extension = x509_cert::ext::Extension {
        extn_id: oid::REASON_CODE,
        critical: false,
        extn_value: der::asn1::OctetString::new([0x0A, 1, reason]).unwrap(),
    };
    RevDetails {
        cert_details: CertTemplate {
            issuer: Some(parts.issuer.clone()),
            serial_number: Some(Int::new(&parts.serial).unwrap()),
            ..CertTemplate::default()
        },
        crl_entry_details: Some(Extensions::from_der(&vec![extension].to_der().unwrap()).unwrap()),
    }
}

fn pkcs10() -> CertificationRequest {
    let pem = String::from_utf8(pki().read("new.csr")).unwrap();
    let (_, der) = der::pem::decode_vec(pem.as_bytes()).unwrap();
    CertificationRequest::from_der(&der).unwrap()
}

fn ca_certs() -> Request {
    Request::Info(vec![Info::CaCerts(None)])
}

fn answer_ca_certs(event: &Event) -> Option<Decision> {
    matches!(event, Event::InfoRequested { .. })
        .then(|| Decision::Answer(vec![Info::CaCerts(Some(vec![pki().certificate("ca")]))]))
}

fn revoked(event: &Event) -> Option<Decision> {
    matches!(event, Event::RevocationRequested { .. }).then(|| {
        Decision::Revoked(RevRepContent {
            status: vec![StatusInfo::new(Status::ACCEPTED)],
            rev_certs: None,
            crls: None,
        })
    })
}

/// Each request for a certificate, with its protector and the trace of its messages.
fn certificate_requests() -> [(Request, Protector, [&'static str; 4]); 5] {
    [
        (
            certificate_request(RequestKind::Initialization),
            by_secret(),
            ["ir", "ip", "certConf", "pkiconf"],
        ),
        (
            certificate_request(RequestKind::Initialization),
            by_key("device"),
            ["ir", "ip", "certConf", "pkiconf"],
        ),
        (
            certificate_request(RequestKind::Certification),
            by_key("device"),
            ["cr", "cp", "certConf", "pkiconf"],
        ),
        (
            certificate_request(RequestKind::KeyUpdate),
            by_key("device"),
            ["kur", "kup", "certConf", "pkiconf"],
        ),
        (
            Request::Pkcs10(pkcs10()),
            by_secret(),
            ["p10cr", "cp", "certConf", "pkiconf"],
        ),
    ]
}

#[test]
fn a_certificate_is_requested_issued_and_confirmed() {
    for (request, protector, trace) in certificate_requests() {
        let mut pair = Pair::new(config(protector), request, authority_config());
        pair.run(grant);
        assert_eq!(pair.trace, trace);
        let Outcome::Certificate(offer) = pair.outcome() else {
            panic!("{:?}", pair.outcome());
        };
        assert!(matches!(
            pair.ca_events.last(),
            Some(Event::Confirmed { certificate, implicit: false, .. }) if *certificate == offer.certificate
        ));
        assert_eq!(offer.extra_certs.last(), Some(&pki().certificate("ca")));
        assert_eq!(pair.ca.authority.open(), 0);
        assert_eq!(pair.client.poll_timeout(), None);
        assert_eq!(pair.ca.authority.poll_timeout(), None);
    }
}

#[test]
fn implicit_confirmation_spares_the_confirmation_when_both_want_it() {
    for (asks, grants, messages) in [(true, true, 2), (true, false, 4), (false, true, 4)] {
        for (request, protector, trace) in certificate_requests() {
            let mut authority = authority_config();
            authority.implicit_confirm = grants;
            let mut client = config(protector);
            client.implicit_confirm = asks;
            let mut pair = Pair::new(client, request, authority);
            pair.run(grant);
            assert_eq!(pair.trace, trace[..messages], "{asks} {grants}");
            assert!(matches!(pair.outcome(), Outcome::Certificate(_)));
            assert!(matches!(
                pair.ca_events.last(),
                Some(Event::Confirmed { implicit, .. }) if *implicit == (messages == 2)
            ));
        }
    }
}

#[test]
fn a_decision_can_ask_for_confirmation_whatever_the_requester_wishes() {
    let mut client = config(by_key("device"));
    client.implicit_confirm = true;
    let request = certificate_request(RequestKind::Initialization);
    let mut pair = Pair::new(client, request, authority_config());
    pair.run(|event| {
        let Event::Requested { request, .. } = event else {
            return None;
        };
        assert!(request.implicit_confirm);
        grant(event).map(|decision| match decision {
            Decision::Issue(mut issued) => {
                issued.implicit_confirm = false;
                Decision::Issue(issued)
            }
            other => other,
        })
    });
    assert_eq!(pair.trace, ["ir", "ip", "certConf", "pkiconf"]);
}

#[test]
fn a_requester_that_waits_is_answered_by_an_authority_that_was_made_anew() {
    for (request, protector, trace) in delayed() {
        let mut pair = Pair::new(config(protector), request, authority_config());
        pair.run(|_| None);
        pair.pass(5 * SECOND, |_| None);
        assert_eq!(pair.trace.len(), 2);
        let first = Message::decode(&pair.messages[0], &Limits::default()).unwrap();
        pair.ca.authority = Authority::new(authority_config(), [9; 32]);
        let moment = pair.ca.moment;
        let asked = pair.ca.authority.resume(moment, &first, &Known).unwrap();
        let (Event::Requested { transaction, .. }
        | Event::RevocationRequested { transaction, .. }
        | Event::InfoRequested { transaction, .. }) = &asked
        else {
            panic!("{asked:?}");
        };
        assert!(pair.ca.authority.is_open(transaction.as_bytes()));
        assert_eq!(
            pair.ca.authority.resume(moment, &first, &Known),
            Err(Refusal::TransactionInUse)
        );
        let decision = grant(&asked)
            .or_else(|| revoked(&asked))
            .or_else(|| answer_ca_certs(&asked));
        pair.ca
            .authority
            .decide(moment, transaction, decision.unwrap())
            .unwrap();
        pair.pass(SECOND, |_| None);
        pair.pass(30 * SECOND, |_| None);
        assert!(
            matches!(
                pair.outcome(),
                Outcome::Certificate(_) | Outcome::Revoked(_) | Outcome::Info(_)
            ),
            "{:?} {trace:?}",
            pair.outcome()
        );
    }
}

#[test]
fn only_a_first_message_is_resumed() {
    let mut pair = Pair::new(
        config(by_secret()),
        certificate_request(RequestKind::Initialization),
        authority_config(),
    );
    pair.run(|_| None);
    pair.pass(5 * SECOND, |_| None);
    pair.pass(SECOND, |_| None);
    let poll = Message::decode(&pair.messages[2], &Limits::default()).unwrap();
    let mut authority = Authority::new(authority_config(), [9; 32]);
    assert_eq!(
        authority.resume(pair.ca.moment, &poll, &Known),
        Err(Refusal::RecipNonceUnasked)
    );
    let mut forged = Message::decode(&pair.messages[0], &Limits::default()).unwrap();
    forged.protection = Some(der::asn1::BitString::from_bytes(&[7; 32]).unwrap());
    assert_eq!(
        authority.resume(pair.ca.moment, &forged, &Known),
        Err(Refusal::BadProtection)
    );
    assert_eq!(authority.open(), 0);
}

#[test]
fn a_revocation_is_requested_and_answered() {
    let request = Request::Revocation(Box::new(revocation("device", 1)));
    let mut pair = Pair::new(config(by_key("device")), request, authority_config());
    pair.run(revoked);
    assert_eq!(pair.trace, ["rr", "rp"]);
    assert!(matches!(pair.outcome(), Outcome::Revoked(_)));
    assert!(matches!(
        &pair.ca_events[..],
        [Event::RevocationRequested { details, .. }] if details.reason() == Some(1)
    ));
}

#[test]
fn information_is_asked_for_and_answered() {
    for protector in [by_secret(), by_key("device")] {
        let mut pair = Pair::new(config(protector), ca_certs(), authority_config());
        pair.run(answer_ca_certs);
        assert_eq!(pair.trace, ["genm", "genp"]);
        let answer = Info::CaCerts(Some(vec![pki().certificate("ca")]));
        assert_eq!(*pair.outcome(), Outcome::Info(vec![answer]));
        assert!(matches!(
            &pair.ca_events[..],
            [Event::InfoRequested { infos, .. }] if *infos == [Info::CaCerts(None)]
        ));
    }
}

#[test]
fn a_profile_is_named_in_requests_and_questions() {
    let mut client = config(by_secret());
    client.profile = Some("sensors".to_owned());
    let request = certificate_request(RequestKind::Initialization);
    let mut pair = Pair::new(client.clone(), request, authority_config());
    pair.run(grant);
    assert!(matches!(
        &pair.ca_events[0],
        Event::Requested { request, .. } if request.profile.as_deref() == Some("sensors")
    ));
    let mut pair = Pair::new(client, ca_certs(), authority_config());
    pair.run(answer_ca_certs);
    assert!(matches!(
        &pair.ca_events[0],
        Event::InfoRequested { profile, .. } if profile.as_deref() == Some("sensors")
    ));
}

/// Every request, with the trace of its messages when the answer is delayed.
fn delayed() -> Vec<(Request, Protector, Vec<&'static str>)> {
    let mut cases: Vec<_> = certificate_requests()
        .into_iter()
        .map(|(request, protector, [a, b, c, d])| {
            let trace = vec![a, b, "pollReq", "pollRep", "pollReq", b, c, d];
            (request, protector, trace)
        })
        .collect();
    let waiting = |a, b| vec![a, "error", "pollReq", "pollRep", "pollReq", b];
    cases.push((
        Request::Revocation(Box::new(revocation("device", 1))),
        by_key("device"),
        waiting("rr", "rp"),
    ));
    cases.push((ca_certs(), by_secret(), waiting("genm", "genp")));
    cases
}

#[test]
fn what_takes_long_is_polled_for_and_delivered_later() {
    let decide = |event: &Event| {
        grant(event)
            .or_else(|| revoked(event))
            .or_else(|| answer_ca_certs(event))
    };
    for delayed_answer_names_poll in [false, true] {
        for (request, protector, trace) in delayed() {
            let mut authority = authority_config();
            authority.delayed_answer_names_poll = delayed_answer_names_poll;
            let mut pair = Pair::new(config(protector), request, authority);
            pair.run(|_| None);
            assert_eq!(pair.trace.len(), 1);
            // The authority says that it takes time, once it has taken its time.
            pair.pass(5 * SECOND, |_| None);
            pair.pass(SECOND, |_| None);
            assert_eq!(pair.trace, trace[..4]);
            let asked = pair.ca_events.remove(0);
            let (Event::Requested { transaction, .. }
            | Event::RevocationRequested { transaction, .. }
            | Event::InfoRequested { transaction, .. }) = &asked
            else {
                panic!("{asked:?}");
            };
            pair.ca
                .authority
                .decide(pair.ca.moment, transaction, decide(&asked).unwrap())
                .unwrap();
            pair.run(|_| None);
            assert_eq!(
                pair.trace,
                trace[..4],
                "nothing is sent without being asked for"
            );
            // checkAfter of the authority.
            pair.pass(29 * SECOND, |_| None);
            assert_eq!(pair.trace, trace[..4]);
            pair.pass(SECOND, |_| None);
            assert_eq!(pair.trace, trace);
            assert!(
                matches!(
                    pair.outcome(),
                    Outcome::Certificate(_) | Outcome::Revoked(_) | Outcome::Info(_)
                ),
                "{:?}",
                pair.outcome()
            );
        }
    }
}

#[test]
fn a_decision_to_wait_says_how_long_and_why() {
    let mut pair = Pair::new(
        config(by_secret()),
        certificate_request(RequestKind::Initialization),
        authority_config(),
    );
    let wait = |event: &Event| {
        matches!(event, Event::Requested { .. }).then(|| Decision::Wait {
            check_after: 100 * SECOND,
            reason: Some("an operator looks at it".to_owned()),
        })
    };
    pair.run(wait);
    pair.pass(SECOND, |_| None);
    assert_eq!(pair.trace, ["ir", "ip", "pollReq", "pollRep"]);
    let reasons: Vec<_> = pair
        .client_events
        .iter()
        .map(|event| match event {
            ClientEvent::Waiting {
                check_after,
                reason,
            } => (check_after.as_secs(), reason.clone().unwrap()),
            other => panic!("{other:?}"),
        })
        .collect();
    let why = "an operator looks at it".to_owned();
    assert_eq!(reasons, [(1, why.clone()), (100, why)]);
}

#[test]
fn a_rejection_ends_the_transaction_on_both_sides() {
    let status = StatusInfo::rejection(Failure::BadCertTemplate, "no such profile");
    for (request, protector, trace) in certificate_requests() {
        let mut pair = Pair::new(config(protector), request, authority_config());
        pair.run(|_| Some(Decision::Reject(status.clone())));
        assert_eq!(pair.trace, trace[..2]);
        assert_eq!(*pair.outcome(), Outcome::Rejected(status.clone()));
        assert_eq!(pair.ca.authority.open(), 0);
    }
    let request = Request::Revocation(Box::new(revocation("device", 1)));
    let mut pair = Pair::new(config(by_key("device")), request, authority_config());
    pair.run(|_| Some(Decision::Reject(status.clone())));
    assert_eq!(pair.trace, ["rr", "rp"]);
    assert_eq!(*pair.outcome(), Outcome::Rejected(status.clone()));
    let mut pair = Pair::new(config(by_secret()), ca_certs(), authority_config());
    pair.run(|_| Some(Decision::Reject(status.clone())));
    assert_eq!(pair.trace, ["genm", "error"]);
    assert_eq!(*pair.outcome(), Outcome::Rejected(status));
}

#[test]
fn a_certificate_that_nobody_confirms_is_to_be_revoked() {
    for (request, protector, _) in certificate_requests() {
        let mut pair = Pair::new(config(protector), request, authority_config());
        // The answer gets lost.
        let bytes = pair.client.poll_transmit().unwrap();
        assert!(pair.ca.send_bytes(&bytes).is_none());
        let event = pair.ca.event().unwrap();
        let Event::Requested { transaction, .. } = &event else {
            panic!("{event:?}");
        };
        let decision = grant(&event).unwrap();
        pair.ca
            .authority
            .decide(pair.ca.moment, transaction, decision)
            .unwrap();
        pair.ca.answer().unwrap();
        pair.ca.sleep(CONFIRM_WITHIN - SECOND);
        assert_eq!(pair.ca.event(), None);
        pair.ca.sleep(SECOND);
        assert!(matches!(pair.ca.event(), Some(Event::Unconfirmed { .. })));
        assert_eq!(pair.ca.authority.open(), 0);
    }
}

#[test]
fn a_certificate_that_is_not_wanted_is_declined_and_to_be_revoked() {
    let mut pair = Pair::new(
        config(by_secret()),
        certificate_request(RequestKind::Initialization),
        authority_config(),
    );
    pair.accept = false;
    pair.run(grant);
    assert_eq!(pair.trace, ["ir", "ip", "certConf", "pkiconf"]);
    assert!(
        matches!(pair.outcome(), Outcome::Declined(status) if status.has(Failure::BadCertTemplate))
    );
    assert!(matches!(
        pair.ca_events.last(),
        Some(Event::Declined { status, .. }) if status.has(Failure::BadCertTemplate)
    ));
}

#[test]
fn a_certificate_for_another_key_is_declined_by_itself() {
    let mut pair = Pair::new(
        config(by_secret()),
        certificate_request(RequestKind::Initialization),
        authority_config(),
    );
    let key = CertificateParts::read(&pki().certificate("device"))
        .unwrap()
        .public_key;
    let other = issue("new", &key);
    pair.run(|event| grant(event).map(|_| Decision::Issue(Box::new(Issued::new(other.clone())))));
    assert!(
        matches!(pair.outcome(), Outcome::Declined(status) if status.has(Failure::IncorrectData))
    );
    assert!(matches!(
        pair.ca_events.last(),
        Some(Event::Declined { status, .. }) if status.has(Failure::IncorrectData)
    ));
}

#[test]
fn a_client_without_answer_gives_up_in_time() {
    for (request, protector, _) in certificate_requests() {
        let mut pair = Pair::new(config(protector), request, authority_config());
        pair.client.poll_transmit().unwrap();
        pair.pass(59 * SECOND, |_| None);
        assert!(pair.client_events.is_empty());
        pair.pass(SECOND, |_| None);
        assert_eq!(*pair.outcome(), Outcome::Failed(ClientError::TimedOut));
    }
}

#[test]
fn a_client_polls_no_longer_than_it_was_told() {
    let mut client = config(by_secret());
    client.give_up_after = 60 * SECOND;
    let mut pair = Pair::new(
        client,
        certificate_request(RequestKind::Initialization),
        authority_config(),
    );
    pair.run(|_| None);
    pair.pass(5 * SECOND, |_| None);
    for _ in 0..4 {
        pair.pass(30 * SECOND, |_| None);
    }
    assert_eq!(*pair.outcome(), Outcome::Failed(ClientError::GaveUp));
}

#[test]
fn a_transaction_that_nobody_polls_is_abandoned() {
    let mut pair = Pair::new(
        config(by_secret()),
        certificate_request(RequestKind::Initialization),
        authority_config(),
    );
    pair.run(|_| None);
    pair.ca.sleep(5 * SECOND);
    pair.ca.answer().unwrap();
    pair.ca.sleep(86_400 * SECOND);
    assert!(matches!(pair.ca.event(), Some(Event::Abandoned { .. })));
    assert_eq!(pair.ca.authority.open(), 0);
}

#[test]
fn ca_certificates_are_only_taken_from_an_answer_with_a_secret() {
    for (protector, trusted) in [(by_secret(), 1), (by_key("device"), 0)] {
        let mut pair = Pair::new(
            config(protector),
            certificate_request(RequestKind::Initialization),
            authority_config(),
        );
        pair.run(|event| {
            grant(event).map(|decision| match decision {
                Decision::Issue(mut issued) => {
                    issued.ca_pubs = vec![pki().certificate("ca")];
                    Decision::Issue(issued)
                }
                other => other,
            })
        });
        assert!(
            matches!(pair.outcome(), Outcome::Certificate(offer) if offer.ca_pubs.len() == trusted)
        );
    }
}

#[test]
fn a_request_without_key_asks_the_ca_to_generate_one_in_version_3() {
    let request = Request::Certificate {
        kind: RequestKind::Certification,
        template: Box::new(CertTemplate {
            subject: Some(homefleet_cmp::asn1::Name::common("new")),
            ..CertTemplate::default()
        }),
        controls: Vec::new(),
        key: None,
    };
    let mut pair = Pair::new(config(by_key("device")), request, authority_config());
    let key = CertificateParts::read(&pki().certificate("new"))
        .unwrap()
        .public_key;
    let envelope = homefleet_cmp::asn1::EnvelopedData::from_der(&[0x30, 3, 2, 1, 2]).unwrap();
    let mut issued = Issued::new(issue("new", &key));
    issued.private_key = Some(homefleet_cmp::asn1::EncryptedKey::EnvelopedData(envelope));
    pair.run(|event| match event {
        Event::Requested { request, .. } => {
            assert_eq!(
                request.possession,
                homefleet_cmp::possession::Possession::KeyWanted(None)
            );
            Some(Decision::Issue(Box::new(issued.clone())))
        }
        _ => None,
    });
    assert!(
        matches!(pair.outcome(), Outcome::Certificate(offer) if offer.private_key == issued.private_key)
    );
}

#[test]
fn a_decision_that_does_not_fit_the_request_is_an_internal_failure() {
    let mut pair = Pair::new(config(by_secret()), ca_certs(), authority_config());
    pair.run(|event| {
        let key = CertificateParts::read(&pki().certificate("new"))
            .unwrap()
            .public_key;
        matches!(event, Event::InfoRequested { .. })
            .then(|| Decision::Issue(Box::new(Issued::new(issue("new", &key)))))
    });
    assert!(
        matches!(pair.outcome(), Outcome::Rejected(status) if status.has(Failure::SystemFailure))
    );
}
