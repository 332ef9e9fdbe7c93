//! What somebody between the two sides finds wrong with a request.

use std::time::Duration;

use der::asn1::{Null, OctetString};
use homefleet_cmp::asn1::{
    Body, BodyKind, EncodedMessage, ErrorMsg, Header, Limits, Message, PollRequest, StatusInfo,
};
use homefleet_cmp::asn1::{Failure, Kept};
use homefleet_cmp::{Refusal, TimePolicy, inspect};

use crate::world::{Requester, by_key, by_secret, later, moment};

fn judge(message: &Message) -> Result<(), Refusal> {
    inspect::request(
        message,
        &Limits::default(),
        moment(),
        &TimePolicy::default(),
    )
}

fn question(change: impl FnOnce(&mut Header)) -> Message {
    Requester::new(by_secret(), 1).message(Body::Genm(Vec::new()), None, change)
}

fn nested(messages: &[Message]) -> Message {
    let inner: Vec<EncodedMessage> = messages
        .iter()
        .map(|message| EncodedMessage::from_der(&message.encode().unwrap()).unwrap())
        .collect();
    Requester::new(by_key("server"), 7).message(Body::Nested(inner), None, |_| {})
}

#[test]
fn a_request_that_keeps_the_rules_passes_whoever_protects_it() {
    assert_eq!(judge(&question(|_| {})), Ok(()));
    let signed = Requester::new(by_key("device"), 1).message(Body::Genm(Vec::new()), None, |_| {});
    assert_eq!(judge(&signed), Ok(()));
    let polling = Body::PollReq(vec![PollRequest { cert_req_id: 0 }]);
    let polling = Requester::new(by_secret(), 1).message(polling, Some(&signed), |_| {});
    assert_eq!(judge(&polling), Ok(()));
    assert_eq!(judge(&nested(&[signed, question(|_| {})])), Ok(()));
}

#[test]
fn each_rule_for_headers_is_looked_at() {
    let short = OctetString::new([1; 15].as_slice()).unwrap();
    let early = later(moment(), Duration::from_secs(3600)).time;
    let early = early.and_then(|time| {
        let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
        let whole = Duration::from_secs(since.as_secs());
        der::asn1::GeneralizedTime::from_unix_duration(whole).ok()
    });
    assert_eq!(judge(&question(|it| it.pvno = 1)), Err(Refusal::Version(1)));
    assert_eq!(
        judge(&question(|it| it.transaction_id = None)),
        Err(Refusal::TransactionId { bytes: 0 })
    );
    assert_eq!(
        judge(&question(|it| it.sender_nonce = Some(short))),
        Err(Refusal::SenderNonce { bytes: 15 })
    );
    let late = judge(&question(|it| it.message_time = early));
    assert!(matches!(late, Err(Refusal::Time { .. })), "{late:?}");
    let nonce = OctetString::new([1; 16].as_slice()).unwrap();
    assert_eq!(
        judge(&question(|it| it.recip_nonce = Some(nonce))),
        Err(Refusal::RecipNonceUnasked)
    );
    let polling = Body::PollReq(vec![PollRequest { cert_req_id: 0 }]);
    let polling = Requester::new(by_secret(), 1).message(polling, None, |_| {});
    assert_eq!(judge(&polling), Err(Refusal::RecipNonce));
}

#[test]
fn a_message_that_goes_the_other_way_does_not_pass() {
    let confirmation = Requester::new(by_secret(), 1).message(Body::Pkiconf(Null), None, |_| {});
    assert_eq!(
        judge(&confirmation),
        Err(Refusal::UnexpectedBody(BodyKind::Pkiconf))
    );
}

#[test]
fn protection_has_to_be_there_but_for_errors() {
    let bare = |body: Body| {
        let whole = question(|_| {});
        let mut header = (*whole.header).clone();
        header.protection_alg = None;
        Message {
            header: Kept::new(header).unwrap(),
            body: Kept::new(body).unwrap(),
            protection: None,
            extra_certs: None,
        }
    };
    assert_eq!(
        judge(&bare(Body::Genm(Vec::new()))),
        Err(Refusal::Unprotected)
    );
    let error = ErrorMsg::from(StatusInfo::rejection(Failure::BadRequest, "no"));
    assert_eq!(judge(&bare(Body::Error(error))), Ok(()));
    let mut half = question(|_| {});
    half.protection = None;
    assert_eq!(judge(&half), Err(Refusal::ProtectionIncomplete));
}

#[test]
fn what_is_nested_is_looked_at_as_well() {
    let bad = question(|it| it.transaction_id = None);
    assert_eq!(
        judge(&nested(&[question(|_| {}), bad])),
        Err(Refusal::TransactionId { bytes: 0 })
    );
    assert_eq!(judge(&nested(&[])), Err(Refusal::Count { found: 0 }));
    let deep = nested(&[nested(&[nested(&[question(|_| {})])])]);
    assert!(matches!(judge(&deep), Err(Refusal::Malformed(_))));
    let kinds = inspect::kinds(&nested(&[question(|_| {})]), &Limits::default());
    assert_eq!(kinds, Ok(vec![BodyKind::Nested, BodyKind::Genm]));
}
