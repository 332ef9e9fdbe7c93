//! Signatures that were verified before, and that this decides nothing else.

use std::time::Duration;

use homefleet_trust::{Connection, Context, Refusal, SignatureMemory, Time, decide};

use crate::forge::{Entity, Judge, ca, ders, now, same, three};

fn ask(judge: &Judge, chain: &[&Entity], memory: &SignatureMemory) -> Option<Refusal> {
    let mut context = Context::new(
        &judge.anchors,
        judge.time,
        Connection::Accepted,
        &judge.policy,
    );
    context.signatures = Some(memory);
    let decision = decide(&ders(chain), &context);
    decision.refusal().cloned()
}

#[test]
fn signatures_of_a_path_are_remembered_and_the_answer_stays() {
    let made = three(same, same, same);
    let judge = Judge::trusting(&[&made.root]);
    let memory = SignatureMemory::new(100);
    for _ in 0..3 {
        assert_eq!(ask(&judge, &[&made.peer, &made.ca], &memory), None);
        assert_eq!(memory.len(), 2);
    }
}

#[test]
fn remembered_signature_says_nothing_about_another_key_of_the_same_name() {
    let made = three(same, same, same);
    let memory = SignatureMemory::new(100);
    let good = Judge::trusting(&[&made.root]);
    assert_eq!(ask(&good, &[&made.peer, &made.ca], &memory), None);
    let other = Entity::self_signed(ca("Root"));
    let judge = Judge::trusting(&[&other]);
    assert_eq!(
        ask(&judge, &[&made.peer, &made.ca], &memory),
        Some(Refusal::BadSignature { level: 1 })
    );
}

#[test]
fn remembered_signature_does_not_carry_over_to_changed_bytes() {
    let made = three(same, same, same);
    let memory = SignatureMemory::new(100);
    let judge = Judge::trusting(&[&made.root]);
    assert_eq!(ask(&judge, &[&made.peer, &made.ca], &memory), None);
    let mut forged = made.peer.clone();
    let at = forged.der.windows(4).position(|w| w == b"peer").unwrap();
    forged.der[at] = b'q';
    assert_eq!(
        ask(&judge, &[&forged, &made.ca], &memory),
        Some(Refusal::BadSignature { level: 0 })
    );
    assert_eq!(memory.len(), 2);
}

#[test]
fn remembered_certificate_still_expires() {
    let made = three(same, same, same);
    let memory = SignatureMemory::new(100);
    let mut judge = Judge::trusting(&[&made.root]);
    assert_eq!(ask(&judge, &[&made.peer, &made.ca], &memory), None);
    judge.time = Time::Accurate(now() + Duration::from_secs(20 * 365 * 86_400));
    assert_eq!(
        ask(&judge, &[&made.peer, &made.ca], &memory),
        Some(Refusal::Expired { level: 0 })
    );
}

#[test]
fn nothing_is_remembered_that_no_anchor_stands_behind() {
    let made = three(same, same, same);
    // The intermediate's signature on the peer holds, the one above it does not.
    let other = Entity::self_signed(ca("Root"));
    let memory = SignatureMemory::new(100);
    let judge = Judge::trusting(&[&other]);
    assert_eq!(
        ask(&judge, &[&made.peer, &made.ca], &memory),
        Some(Refusal::BadSignature { level: 1 })
    );
    assert!(memory.is_empty());
}
