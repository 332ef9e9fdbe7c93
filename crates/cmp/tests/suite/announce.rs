//! Announcements (RFC 9810 §5.3.13 to §5.3.16, RFC 9482 §2.6): made, read, and refused.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, SystemTime};

use der::asn1::Null;
use homefleet_cmp::{
    Refusal,
    announce::{Announcement, Announcer, read},
    asn1::{
        Body, BodyKind, CaKeyUpdate, CaKeyUpdateV2, Certificate, EncodedMessage, Limits, Message,
        RootCaKeyUpdate,
    },
    protection::{Distrust, Peers, Protection, ProtectionPolicy, Protector},
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{
    openssl::{Known, pki},
    world::{by_key, nobody},
};

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(5)
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn announced(bodies: Vec<Body>) -> Vec<u8> {
    let announcer = Announcer::new(by_key("server"), vec![pki().certificate("ca")]);
    announcer.bulletin(bodies, Some(now()), &mut rng()).unwrap()
}

fn said(bulletin: &[u8], peers: &dyn Peers) -> Result<Vec<Result<Announcement, Refusal>>, Refusal> {
    read(
        bulletin,
        &Limits::default(),
        &ProtectionPolicy::default(),
        peers,
    )
}

fn cann() -> Body {
    Body::Cann(pki().certificate("device"))
}

fn ckuann() -> Body {
    let ca = pki().certificate("ca");
    Body::Ckuann(CaKeyUpdate::V2(CaKeyUpdateV2 {
        old_with_new: ca.clone(),
        new_with_old: ca.clone(),
        new_with_new: ca,
    }))
}

/// Somebody who believes nobody.
struct Nobody;

impl Peers for Nobody {
    fn secret(&self, _: &[u8]) -> Option<homefleet_cmp::crypto::Secret> {
        None
    }

    fn judge(&self, _: &Certificate, _: &[Certificate]) -> Result<(), Distrust> {
        Err(Distrust::Untrusted("nobody is".to_owned()))
    }
}

#[test]
fn one_announcement_is_a_message_by_itself_to_everybody() {
    let bytes = announced(vec![cann()]);
    let message = Message::decode(&bytes, &Limits::default()).unwrap();
    assert_eq!(message.header.recipient, nobody());
    assert_eq!(message.header.pvno, 2);
    assert_eq!(
        message
            .header
            .transaction_id
            .as_ref()
            .unwrap()
            .as_bytes()
            .len(),
        16
    );
    let all = said(&bytes, &Known).unwrap();
    let [Ok(one)] = all.as_slice() else {
        panic!("{all:?}");
    };
    assert_eq!(one.body, cann());
    assert_eq!(one.time, Some(now()));
    assert!(matches!(one.protection, Protection::Certificate { .. }));
    assert!(one.extra_certs.contains(&pki().certificate("ca")));
}

#[test]
fn several_announcements_are_one_nested_message_each_protected() {
    let bytes = announced(vec![ckuann(), cann()]);
    let message = Message::decode(&bytes, &Limits::default()).unwrap();
    assert_eq!(message.body.kind(), BodyKind::Nested);
    let all = said(&bytes, &Known).unwrap();
    let bodies: Vec<Body> = all.into_iter().map(|one| one.unwrap().body).collect();
    assert_eq!(bodies, [ckuann(), cann()]);
}

#[test]
fn nothing_that_is_announced_is_no_bytes() {
    assert_eq!(announced(Vec::new()), Vec::<u8>::new());
}

#[test]
fn an_update_in_version_3_is_a_message_of_version_3() {
    let body = Body::Ckuann(CaKeyUpdate::V3(RootCaKeyUpdate {
        new_with_new: pki().certificate("ca"),
        new_with_old: None,
        old_with_new: None,
    }));
    let message = Message::decode(&announced(vec![body]), &Limits::default()).unwrap();
    assert_eq!(message.header.pvno, 3);
}

#[test]
fn an_announcement_of_somebody_unknown_is_refused() {
    let all = said(&announced(vec![cann()]), &Nobody).unwrap();
    assert_eq!(all, [Err(Refusal::Untrusted("nobody is".to_owned()))]);
}

#[test]
fn an_announcement_without_protection_is_refused() {
    let protector = Protector::None { sender: nobody() };
    let announcer = Announcer::new(protector, Vec::new());
    let one = announcer.bulletin(vec![cann()], None, &mut rng()).unwrap();
    assert_eq!(said(&one, &Known).unwrap(), [Err(Refusal::Unprotected)]);
    // Those in a nested message that is not protected stand for themselves.
    let two = announcer
        .bulletin(vec![cann(), ckuann()], None, &mut rng())
        .unwrap();
    let refused = [Err(Refusal::Unprotected), Err(Refusal::Unprotected)];
    assert_eq!(said(&two, &Known).unwrap(), refused);
}

#[test]
fn a_changed_announcement_is_refused_and_takes_nothing_from_the_others() {
    let announcer = Announcer::new(by_key("server"), Vec::new());
    let good = announcer.bulletin(vec![cann()], None, &mut rng()).unwrap();
    let mut bad = announced(vec![ckuann()]);
    let at = bad.len() / 3;
    bad[at] ^= 1;
    let inner = [&bad, &good].map(|der| EncodedMessage::from_der(der).unwrap());
    let nested = Announcer::new(by_key("server"), Vec::new())
        .bulletin(vec![Body::Nested(inner.to_vec())], None, &mut rng())
        .unwrap();
    match said(&nested, &Known) {
        Ok(all) => {
            assert!(all[0].is_err(), "{all:?}");
            assert_eq!(all[1].as_ref().unwrap().body, cann());
        }
        Err(refusal) => assert!(matches!(refusal, Refusal::Malformed(_)), "{refusal}"),
    }
}

#[test]
fn a_changed_bundle_is_refused_whole() {
    let bytes = announced(vec![ckuann(), cann()]);
    let message = Message::decode(&bytes, &Limits::default()).unwrap();
    let part = message.protected_part();
    // A byte of the nested body: in the time of its first message.
    let at = bytes
        .windows(14)
        .rposition(|text| text == b"20270115080000")
        .unwrap();
    assert!(part.windows(14).any(|text| text == b"20270115080000"));
    let mut changed = bytes.clone();
    changed[at] = b'3';
    assert_eq!(said(&changed, &Known), Err(Refusal::BadProtection));
}

#[test]
fn what_is_no_announcement_is_refused() {
    let all = said(&announced(vec![Body::Pkiconf(Null)]), &Known).unwrap();
    assert_eq!(all, [Err(Refusal::UnexpectedBody(BodyKind::Pkiconf))]);
    assert!(matches!(said(b"", &Known), Err(Refusal::Malformed(_))));
    assert!(matches!(
        said(b"0\x03abc", &Known),
        Err(Refusal::Malformed(_))
    ));
    // Bundles do not stand in bundles.
    let inner = announced(vec![ckuann(), cann()]);
    let inner = EncodedMessage::from_der(&inner).unwrap();
    let one = announced(vec![cann()]);
    let one = EncodedMessage::from_der(&one).unwrap();
    let nested = announced(vec![Body::Nested(vec![inner, one])]);
    let all = said(&nested, &Known).unwrap();
    assert_eq!(all[0], Err(Refusal::UnexpectedBody(BodyKind::Nested)));
    assert!(all[1].is_ok());
}

#[test]
fn more_announcements_than_the_limit_are_refused() {
    let bytes = announced(vec![cann(), cann(), cann()]);
    let limits = Limits {
        entries: 2,
        ..Limits::default()
    };
    let read = read(&bytes, &limits, &ProtectionPolicy::default(), &Known);
    assert!(matches!(read, Err(Refusal::Malformed(_))));
}
