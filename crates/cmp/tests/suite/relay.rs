//! An RA between our client and our CA: protection replaced and added, messages batched, and what it says itself.

use std::time::Duration;

use homefleet_cmp::Refusal;
use homefleet_cmp::asn1::{Body, BodyKind, Failure, Kept, Limits, Message, StatusInfo};
use homefleet_cmp::authority::RequestKind;
use homefleet_cmp::client::{Client, ClientConfig, ClientEvent, Outcome};
use homefleet_cmp::protection::{Protection, ProtectionPolicy, Protector, verify};
use homefleet_cmp::relay::{Words, belongs, nest, own_only, protector_for, reprotect, unnest};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::openssl::{Known, pki};
use crate::world::{
    Ca, Requester, by_key, by_secret, certificate_request, grant, later, moment, nobody,
};

/// An RA with a signature of its own before a CA.
struct Ra {
    ca: Ca,
    own: Protector,
    nests: bool,
    rng: ChaCha8Rng,
    /// What went to the CA.
    sent: Vec<Message>,
}

fn policy() -> ProtectionPolicy {
    ProtectionPolicy::default()
}

impl Ra {
    fn new(own: &str, nests: bool) -> Self {
        Self {
            ca: Ca::new(),
            own: by_key(own),
            nests,
            rng: ChaCha8Rng::seed_from_u64(9),
            sent: Vec::new(),
        }
    }

    fn who(&self, message: &Message) -> Protection {
        verify(message, &policy(), &Known).unwrap()
    }

    /// To the CA and back, as its requester is answered.
    fn pass(&mut self, message: &Message, to: &Message) -> Message {
        let up = if self.nests {
            let rng = &mut self.rng;
            nest(
                std::slice::from_ref(message),
                &nobody(),
                &self.own,
                moment(),
                rng,
            )
        } else {
            reprotect(message, &self.own, |_| {}, &mut self.rng)
        };
        let up = up.unwrap();
        let mut answer = self.ca.send(&up);
        while let Some(event) = self.ca.event() {
            if let Some(decision) = grant(&event)
                && let homefleet_cmp::authority::Event::Requested { transaction, .. } = &event
            {
                let now = self.ca.moment;
                let ca = &mut self.ca.authority;
                ca.decide(now, transaction, decision).unwrap();
                answer = self.ca.answer();
            }
        }
        self.sent.push(up);
        let answer = answer.unwrap();
        belongs(&answer, message).unwrap();
        if self.nests {
            return answer;
        }
        let protector = protector_for(&self.who(to), &self.own);
        reprotect(&answer, &protector, |_| {}, &mut self.rng).unwrap()
    }

    fn words<'a>(&self, to: &'a Message, protector: &'a Protector) -> Words<'a> {
        Words {
            to,
            protector,
            moment: self.ca.moment,
        }
    }
}

fn client(protector: Protector) -> Client {
    let request = certificate_request(RequestKind::Initialization);
    Client::start(
        ClientConfig::new(protector, nobody()),
        request,
        moment(),
        [5; 32],
    )
    .unwrap()
}

fn next(client: &mut Client) -> Option<Message> {
    let bytes = client.poll_transmit()?;
    Some(Message::decode(&bytes, &Limits::default()).unwrap())
}

fn give(client: &mut Client, now: homefleet_cmp::Moment, answer: &Message) -> Option<ClientEvent> {
    client.handle_input(now, &answer.encode().unwrap(), &Known);
    client.poll_event()
}

/// Runs a client to its end through the RA.
fn enrol(ra: &mut Ra, client: &mut Client) -> Outcome {
    loop {
        let message = next(client).unwrap();
        let answer = ra.pass(&message, &message);
        match give(client, ra.ca.moment, &answer) {
            Some(ClientEvent::Offered(_)) => client.accept(ra.ca.moment).unwrap(),
            Some(ClientEvent::Finished(outcome)) => return outcome,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn protection_is_replaced_both_ways_and_the_proof_of_possession_stays_good() {
    for protector in [by_secret(), by_key("device")] {
        let mut ra = Ra::new("p384", false);
        let outcome = enrol(&mut ra, &mut client(protector));
        assert!(matches!(outcome, Outcome::Certificate(_)), "{outcome:?}");
        // The CA heard the RA, in the end entity's transaction.
        let [request, confirmation] = ra.sent.as_slice() else {
            panic!("{}", ra.sent.len());
        };
        let by = |message: &Message| match verify(message, &policy(), &Known) {
            Ok(Protection::Certificate { certificate, .. }) => certificate,
            other => panic!("{other:?}"),
        };
        assert_eq!(by(request), pki().certificate("p384"));
        assert_eq!(by(confirmation), pki().certificate("p384"));
        assert_eq!(
            request.header.transaction_id,
            confirmation.header.transaction_id
        );
    }
}

#[test]
fn a_body_is_passed_on_as_it_came_to_the_byte() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for message in pki().cmp(&format!(
        "-cmd ir -newkey new.key -subject /CN=new {}",
        crate::openssl::by_certificate("device")
    )) {
        let message = Message::decode(&message, &Limits::default()).unwrap();
        let passed = reprotect(&message, &by_key("p384"), |_| {}, &mut rng).unwrap();
        assert_eq!(passed.body.der(), message.body.der());
        assert_eq!(passed.header.sender_nonce, message.header.sender_nonce);
        assert_eq!(passed.header.recip_nonce, message.header.recip_nonce);
        assert!(verify(&passed, &policy(), &Known).is_ok());
    }
}

#[test]
fn protection_is_added_and_the_end_entity_hears_the_ca() {
    let mut ra = Ra::new("server", true);
    let outcome = enrol(&mut ra, &mut client(by_secret()));
    assert!(matches!(outcome, Outcome::Certificate(_)), "{outcome:?}");
    for message in &ra.sent {
        assert_eq!(message.body.kind(), BodyKind::Nested);
        let inner = message.nested(&Limits::default()).unwrap();
        assert_eq!(
            inner[0].header.transaction_id,
            message.header.transaction_id
        );
    }
}

#[test]
fn who_waits_for_the_ra_gets_the_cas_answer_in_the_end() {
    for protector in [by_secret(), by_key("device")] {
        let mut ra = Ra::new("p384", false);
        let mut client = client(protector);
        let first = next(&mut client).unwrap();
        let protector = protector_for(&ra.who(&first), &ra.own);
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let words = ra.words(&first, &protector).waiting("asking", &mut rng);
        let event = give(&mut client, ra.ca.moment, &words.unwrap());
        assert!(
            matches!(event, Some(ClientEvent::Waiting { .. })),
            "{event:?}"
        );
        let poll = |client: &mut Client, ra: &mut Ra| {
            ra.ca.moment = later(ra.ca.moment, Duration::from_secs(120));
            client.handle_timeout(ra.ca.moment).unwrap();
            let poll = next(client).unwrap();
            assert_eq!(poll.body.kind(), BodyKind::PollReq);
            poll
        };
        let polled = poll(&mut client, &mut ra);
        let words = ra.words(&polled, &protector);
        let words = words.still_waiting(Duration::from_secs(7), "asking", &mut rng);
        let event = give(&mut client, ra.ca.moment, &words.unwrap());
        let Some(ClientEvent::Waiting { check_after, .. }) = event else {
            panic!("{event:?}");
        };
        assert_eq!(check_after, Duration::from_secs(7));
        // Now the first message goes to the CA, and the poll is answered with what comes.
        let polled = poll(&mut client, &mut ra);
        let answer = ra.pass(&first, &polled);
        let event = give(&mut client, ra.ca.moment, &answer);
        assert!(matches!(event, Some(ClientEvent::Offered(_))), "{event:?}");
        client.accept(ra.ca.moment).unwrap();
        let confirmation = next(&mut client).unwrap();
        let answer = ra.pass(&confirmation, &confirmation);
        let event = give(&mut client, ra.ca.moment, &answer);
        let Some(ClientEvent::Finished(Outcome::Certificate(_))) = event else {
            panic!("{event:?}");
        };
    }
}

#[test]
fn who_is_not_approved_is_rejected_in_the_answer_that_belongs_to_the_request() {
    let ra = Ra::new("p384", false);
    let mut client = client(by_secret());
    let first = next(&mut client).unwrap();
    let protector = protector_for(&ra.who(&first), &ra.own);
    let status = StatusInfo::rejection(Failure::NotAuthorized, "not ours");
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let words = ra.words(&first, &protector);
    let answer = words.status(&first, status.clone(), &mut rng).unwrap();
    assert_eq!(answer.body.kind(), BodyKind::Ip);
    let event = give(&mut client, ra.ca.moment, &answer);
    assert_eq!(
        event,
        Some(ClientEvent::Finished(Outcome::Rejected(status.clone())))
    );
    let mut requester = Requester::new(by_secret(), 2);
    let question = requester.message(Body::Genm(Vec::new()), None, |_| {});
    let words = ra.words(&question, &protector);
    let answer = words.status(&question, status, &mut rng).unwrap();
    assert_eq!(answer.body.kind(), BodyKind::Error);
    let refusal = words.refuse(&Refusal::BadProtection, &mut rng).unwrap();
    assert!(
        matches!(&*refusal.body, Body::Error(error) if error.status_info.has(Failure::BadMessageCheck))
    );
    belongs(&refusal, &question).unwrap();
}

#[test]
fn an_answer_of_another_transaction_or_to_another_message_belongs_not() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let own = by_key("p384");
    let ask =
        |seed| Requester::new(by_secret(), seed).message(Body::Genm(Vec::new()), None, |_| {});
    let (one, other) = (ask(1), ask(2));
    let words = Words {
        to: &one,
        protector: &own,
        moment: moment(),
    };
    let answer = words.waiting("later", &mut rng).unwrap();
    assert_eq!(belongs(&answer, &one), Ok(()));
    assert_eq!(belongs(&answer, &other), Err(Refusal::TransactionDiffers));
    let again = reprotect(&one, &by_secret(), |it| it.sender_nonce = None, &mut rng).unwrap();
    assert_eq!(belongs(&answer, &again), Err(Refusal::RecipNonce));
}

#[test]
fn several_messages_travel_in_one_and_each_finds_its_answer() {
    let mut rng = ChaCha8Rng::seed_from_u64(77);
    let own = by_key("server");
    let ask =
        |seed| Requester::new(by_secret(), seed).message(Body::Genm(Vec::new()), None, |_| {});
    let asked = [ask(1), ask(2), ask(3)];
    let batch = nest(&asked, &nobody(), &own, moment(), &mut rng).unwrap();
    assert_eq!(batch.nested(&Limits::default()).unwrap(), asked);
    assert!(
        asked
            .iter()
            .all(|one| one.header.transaction_id != batch.header.transaction_id)
    );
    let mut answer = |to: &Message| {
        let words = Words {
            to,
            protector: &own,
            moment: moment(),
        };
        words.waiting("later", &mut rng).unwrap()
    };
    // In another order, one missing, one of somebody else.
    let stranger = ask(9);
    let answers = [answer(&asked[2]), answer(&stranger), answer(&asked[0])];
    let back = nest(&answers, &nobody(), &own, moment(), &mut rng).unwrap();
    let found = unnest(&back, &asked, &Limits::default()).unwrap();
    assert_eq!(found, [(2, answers[0].clone()), (0, answers[2].clone())]);
    assert_eq!(
        unnest(&answers[0], &asked, &Limits::default()),
        Err(Refusal::UnexpectedBody(BodyKind::Error))
    );
}

/// The first message of an `openssl cmp` command.
fn first_of(command: &str) -> Message {
    let messages = pki().cmp(command);
    Message::decode(&messages[0], &Limits::default()).unwrap()
}

#[test]
fn nobody_asks_for_the_update_or_revocation_of_anothers_certificate() {
    // The mock server revokes and updates the certificate of `new` only.
    let (own, device) = (
        crate::openssl::by_certificate("new"),
        crate::openssl::by_certificate("device"),
    );
    // What openssl 3.0 does unless it is told otherwise.
    let lenient = ProtectionPolicy {
        mac: homefleet_cmp::crypto::MacPolicy::lenient(),
        ..policy()
    };
    let judge = |command: &str| {
        let message = first_of(command);
        let who = verify(&message, &lenient, &Known).unwrap();
        own_only(&message, &who)
    };
    for own in [
        format!("-cmd rr -oldcert new.pem -revreason 1 {own}"),
        format!("-cmd kur -newkey new.key {own}"),
        format!("-cmd cr -newkey new.key -subject /CN=new {device}"),
    ] {
        assert_eq!(judge(&own), Ok(()), "{own}");
    }
    let by_secret = crate::openssl::by_secret();
    for other in [
        format!("-cmd rr -oldcert new.pem -revreason 1 {device}"),
        format!("-cmd rr -oldcert new.pem -revreason 1 {by_secret}"),
        format!("-cmd kur -newkey new.key -oldcert new.pem {device}"),
    ] {
        let judged = judge(&other);
        assert!(
            matches!(judged, Err(Refusal::Unauthorized(_))),
            "{other}: {judged:?}"
        );
    }
    // Nor does an update give another subject.
    let message = first_of(&format!("-cmd kur -newkey new.key {own}"));
    let who = verify(&message, &policy(), &Known).unwrap();
    let mut body = (*message.body).clone();
    let Body::Kur(requests) = &mut body else {
        panic!("{}", body.kind());
    };
    let server = homefleet_cmp::asn1::Name::common("server");
    let mut request = (*requests[0].cert_req).clone();
    request.cert_template.subject = Some(server);
    requests[0].cert_req = Kept::new(request).unwrap();
    let body = Kept::new(body).unwrap();
    let message = Message { body, ..message };
    let judged = own_only(&message, &who);
    assert!(
        matches!(judged, Err(Refusal::Unauthorized(_))),
        "{judged:?}"
    );
}
