//! WebSocket: the opening handshake, the session and its refusals, and the one that stays, R-WS.

use std::time::{Duration, Instant};

use homefleet_usp::{
    EndpointId, Record,
    endpoint::EndpointIdError,
    mtp::websocket::{
        Admission, CloseReason, Config, Event, HandshakeError, Inbound, Opener, Request, SendError,
        Session, Transmit, handshake, newcomer_stays, single::CROSSING,
    },
    record::RecordBody,
};
use proptest::prelude::*;

use crate::{
    record::field,
    samples::{agent, controller, start},
};

const PROTOCOL: &[&str] = &["v1.usp"];

fn id(text: &str) -> EndpointId {
    text.parse().unwrap()
}

fn admit(
    target: &str,
    protocols: &[&str],
    extensions: &[&str],
) -> Result<Admission, HandshakeError> {
    handshake::admit(
        Request {
            target,
            protocols,
            extensions,
        },
        "/usp",
        &controller(),
        |_| true,
    )
}

fn peer(target: &str, extensions: &[&str]) -> Result<Option<EndpointId>, HandshakeError> {
    admit(target, PROTOCOL, extensions).map(|admission| admission.peer)
}

#[test]
fn the_target_names_the_endpoint_and_encodes_its_percent_characters() {
    for (path, own, target) in [
        ("/usp", "doc::agent", "/usp?eid=doc::agent"),
        ("usp", "doc::agent", "/usp?eid=doc::agent"),
        ("/", "doc::agent%21", "/?eid=doc::agent%2521"),
        ("", "doc::agent", "/?eid=doc::agent"),
        ("/a/b?x=1&y", "doc::agent", "/a/b?x=1&y&eid=doc::agent"),
        (
            "/usp?eid=doc::old&x=1",
            "doc::agent",
            "/usp?x=1&eid=doc::agent",
        ),
    ] {
        assert_eq!(handshake::target(path, &id(own)), target);
    }
}

#[test]
fn a_server_reads_the_endpoint_out_of_the_query() {
    for (target, named) in [
        ("/usp?eid=doc::agent", Some("doc::agent")),
        ("usp?x=1&eid=doc::agent&y=2", Some("doc::agent")),
        ("/usp?eid=doc::agent%2521", Some("doc::agent%21")),
        ("/usp?eid=doc::agent%21", Some("doc::agent%21")),
        ("/usp?eid=doc%3A%3Aagent", Some("doc::agent")),
        ("/usp?eid=doc%3a%3aagent%252F", Some("doc::agent%2F")),
        ("/usp?eid=doc::agent&eid=doc%3A%3Aagent", Some("doc::agent")),
        ("/usp?xeid=doc::agent", None),
        ("/usp?eid", None),
        ("/usp", None),
    ] {
        assert_eq!(peer(target, &[]), Ok(named.map(id)), "{target}");
    }
}

proptest! {
    #[test]
    fn any_endpoint_survives_the_query(instance in "([a-zA-Z0-9._-]|%[0-9A-Fa-f]{2}){1,16}") {
        let own = id(&format!("self::{instance}"));
        prop_assert_eq!(peer(&handshake::target("/usp", &own), &[]), Ok(Some(own)));
    }

    #[test]
    fn any_headers_are_admitted_or_refused(target in "/usp[?a-z=&:%0-9]{0,30}", extension in "[a-z;=, \":%-]{0,40}") {
        let lines = [extension.as_str(), "bbf-usp-protocol; eid=self::x"];
        prop_assert!(admit(&target, PROTOCOL, &lines).map_or_else(|error| error.status() >= 400, |_| true));
    }
}

#[test]
fn a_request_without_the_subprotocol_is_refused() {
    for protocols in [
        &[][..],
        &["v2.usp"],
        &["V1.USP"],
        &["v1.usp.x", "mqtt"],
        &[""],
    ] {
        let error = admit("/usp", protocols, &[]).unwrap_err();
        assert_eq!((error.status(), error), (400, HandshakeError::Subprotocol));
        let refused = handshake::check_response(protocols, &[], &agent(), None);
        assert_eq!(refused, Err(HandshakeError::Subprotocol));
    }
    for protocols in [&["mqtt, v1.usp"][..], &["mqtt", " v1.usp "]] {
        assert!(admit("/usp", protocols, &[]).is_ok());
    }
}

#[test]
fn a_request_for_another_resource_is_refused_with_404() {
    for target in ["/", "/usp/x", "/USP", "/x?eid=doc::agent"] {
        let error = admit(target, PROTOCOL, &[]).unwrap_err();
        assert!(matches!(error, HandshakeError::Path(_)));
        assert_eq!(error.status(), 404);
    }
}

#[test]
fn an_eid_that_is_no_endpoint_is_refused() {
    let refused = |text: &str, error| {
        Err(HandshakeError::Endpoint {
            text: text.to_owned(),
            error,
        })
    };
    assert_eq!(peer("/usp?eid=", &[]), refused("", EndpointIdError::Form));
    assert_eq!(
        peer("/usp?eid=mac::1", &[]),
        refused("mac::1", EndpointIdError::Scheme)
    );
    assert_eq!(
        peer("/usp?eid=%FF%FE", &[]),
        refused("%FF%FE", EndpointIdError::Form)
    );
    assert_eq!(
        peer("/usp", &["bbf-usp-protocol; eid=\"agent\""]),
        refused("agent", EndpointIdError::Form)
    );
    let long = format!("/usp?eid={}", "x".repeat(5000));
    let Err(HandshakeError::Endpoint { text, .. }) = peer(&long, &[]) else {
        panic!("refused");
    };
    assert_eq!(text.len(), 80);
}

#[test]
fn the_extension_is_answered_only_when_it_is_offered() {
    let admission = admit("/usp?eid=doc::agent", PROTOCOL, &[]).unwrap();
    assert_eq!(
        admission,
        Admission {
            peer: Some(id("doc::agent")),
            extension: None
        }
    );
    for offer in [
        "bbf-usp-protocol",
        "bbf-usp-protocol; eid=\"doc::agent\"",
        "permessage-deflate; x=\"a,b;c\", BBF-usp-protocol ; eid = doc%3A%3Aagent",
    ] {
        let admission = admit("/usp?eid=doc::agent", PROTOCOL, &[offer]).unwrap();
        let answer = format!("bbf-usp-protocol; eid=\"{}\"", controller());
        assert_eq!(admission.extension, Some(answer), "{offer}");
        assert_eq!(admission.peer, Some(id("doc::agent")));
    }
    let other = [
        "permessage-deflate; eid=\"doc::agent\"",
        "x; y=\"z, bbf-usp-protocol; eid=doc::agent\"",
        "x-bbf-usp-protocol",
    ];
    let admission = admit("/usp", PROTOCOL, &other).unwrap();
    assert_eq!(
        admission,
        Admission {
            peer: None,
            extension: None
        }
    );
}

#[test]
fn an_endpoint_in_the_extension_is_read_as_it_is_or_percent_encoded() {
    for (line, named) in [
        ("bbf-usp-protocol; eid=\"doc::agent\"", "doc::agent"),
        ("bbf-usp-protocol; eid=doc::agent", "doc::agent"),
        ("bbf-usp-protocol; eid=\"doc%3A%3Aagent\"", "doc::agent"),
        ("bbf-usp-protocol; eid=\"doc::agent%21\"", "doc::agent%21"),
        ("bbf-usp-protocol;x=1;eid=\"doc::agent\"", "doc::agent"),
    ] {
        assert_eq!(peer("/usp", &[line]), Ok(Some(id(named))), "{line}");
    }
}

#[test]
fn a_handshake_with_two_identities_is_refused() {
    let (a, b) = (id("doc::a"), id("doc::b"));
    let both = Err(HandshakeError::SeveralEndpoints(a.clone(), b.clone()));
    assert_eq!(peer("/usp?eid=doc::a&eid=doc::b", &[]), both);
    assert_eq!(
        peer("/usp?eid=doc::a", &["bbf-usp-protocol; eid=\"doc::b\""]),
        both
    );
    assert_eq!(
        peer(&handshake::target("/usp", &controller()), &[]),
        Err(HandshakeError::OwnEndpoint)
    );
    let claims = |target: &str| {
        let request = Request {
            target,
            protocols: PROTOCOL,
            extensions: &[],
        };
        handshake::admit(request, "/usp", &controller(), |id| *id == a)
    };
    let error = claims("/usp?eid=doc::b").unwrap_err();
    assert_eq!(
        (error.status(), error),
        (403, HandshakeError::NotCertified(b))
    );
    assert_eq!(claims("/usp?eid=doc::a").unwrap().peer, Some(a.clone()));
    assert_eq!(claims("/usp").unwrap().peer, None);
}

#[test]
fn a_client_takes_a_response_with_and_without_the_extension() {
    let check = |extensions: &[&str], expected: Option<&EndpointId>| {
        handshake::check_response(PROTOCOL, extensions, &agent(), expected)
    };
    let named = handshake::extension(&controller());
    assert_eq!(check(&[], None), Ok(None));
    assert_eq!(check(&[], Some(&controller())), Ok(Some(controller())));
    assert_eq!(check(&[&named], None), Ok(Some(controller())));
    assert_eq!(
        check(&[&named], Some(&controller())),
        Ok(Some(controller()))
    );
    assert_eq!(
        check(&[&named], Some(&id("doc::x"))),
        Err(HandshakeError::OtherEndpoint {
            claimed: controller(),
            expected: id("doc::x")
        })
    );
    assert_eq!(
        check(&[&handshake::extension(&agent())], None),
        Err(HandshakeError::OwnEndpoint)
    );
}

/// A session of the agent with the controller.
struct Open {
    now: Instant,
    session: Session,
}

fn open(config: Config) -> Open {
    let now = start();
    Open {
        now,
        session: Session::new(now, Some(controller()), config),
    }
}

fn record() -> Record {
    Record::no_session(agent(), controller(), vec![0; 300])
}

impl Open {
    fn hear(&mut self, message: Inbound<'_>) {
        self.session.handle_input(self.now, message);
    }

    fn sent(&mut self) -> Vec<Transmit> {
        std::iter::from_fn(|| self.session.poll_transmit()).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
    }

    /// We closed for this reason with this code; the other side answers, and it is over.
    fn assert_closes(&mut self, code: u16, reason: &CloseReason) {
        let sent = self.sent();
        let [
            Transmit::Close {
                code: told,
                reason: text,
            },
        ] = &sent[..]
        else {
            panic!("{sent:?} is not one Close");
        };
        assert_eq!(
            (*told, text.is_empty(), text.len() <= 123),
            (code, false, true)
        );
        assert_eq!(self.events(), [], "the other side has not answered yet");
        assert_eq!(
            self.session.send(record().encode()),
            Err(SendError::NotOpen)
        );
        self.hear(Inbound::Binary(&record().encode()));
        self.hear(Inbound::Close(Some(code)));
        assert_eq!(self.events(), [Event::Closed(reason.clone())]);
        self.hear(Inbound::Binary(&record().encode()));
        self.session.handle_disconnect();
        self.session.close(self.now);
        assert_eq!((self.events(), self.sent()), (vec![], vec![]));
        assert_eq!(self.session.poll_timeout(), None);
    }
}

#[test]
fn what_ends_a_session_from_outside_is_told_by_its_code() {
    for (code, reason, retried) in [
        (1001, CloseReason::GoingAway, false),
        (1002, CloseReason::Protocol("bad mask".to_owned()), true),
        (1008, CloseReason::Untrusted("revoked".to_owned()), true),
    ] {
        let mut open = open(Config::default());
        assert!(open.session.is_open());
        open.session.fail(open.now, reason.clone());
        assert!(!open.session.is_open());
        open.assert_closes(code, &reason);
        assert_eq!(reason.is_retried(), retried);
    }
}

#[test]
fn a_record_is_one_binary_message() {
    let mut open = open(Config::default());
    let connect = Record::with(controller(), agent(), RecordBody::WebSocketConnect);
    open.session.send(connect.encode()).unwrap();
    assert_eq!(open.sent(), [Transmit::Binary(connect.encode())]);
    open.hear(Inbound::Binary(&record().encode()));
    assert_eq!(open.events(), [Event::Record(record())]);
    assert_eq!(
        (
            open.session.stats().records_in,
            open.session.stats().records_out
        ),
        (1, 1)
    );
}

#[test]
fn a_text_message_closes_with_1003() {
    let mut open = open(Config::default());
    open.hear(Inbound::Text);
    open.assert_closes(1003, &CloseReason::Text);
    assert!(CloseReason::Text.is_retried());
}

#[test]
fn a_message_that_is_no_record_closes_with_1003() {
    for bytes in [&b"\xff\xff"[..], b"this is text", b"\x0a"] {
        let mut open = open(Config::default());
        open.hear(Inbound::Binary(bytes));
        let error = Record::decode(bytes).unwrap_err();
        open.assert_closes(1003, &CloseReason::Record(error));
    }
}

#[test]
fn a_message_over_the_limit_closes_with_1009() {
    let config = Config {
        max_record: 200,
        ..Config::default()
    };
    let mut one = open(config.clone());
    one.hear(Inbound::Binary(&record().encode()));
    one.assert_closes(1009, &CloseReason::TooLarge(200));
    let mut other = open(config);
    other.hear(Inbound::TooLarge);
    other.assert_closes(1009, &CloseReason::TooLarge(200));
}

#[test]
fn a_record_with_a_wrong_value_is_handed_on_and_the_session_stays() {
    let mut open = open(Config::default());
    let wrong = |from: &EndpointId| {
        [
            field(1, b"2.0"),
            field(2, agent().as_str().as_bytes()),
            field(3, from.as_str().as_bytes()),
            field(7, &field(2, b"x")),
        ]
        .concat()
    };
    let bytes = wrong(&controller());
    open.hear(Inbound::Binary(&bytes));
    assert_eq!(
        open.events(),
        [Event::Erroneous(Record::decode(&bytes).unwrap_err())]
    );
    open.hear(Inbound::Binary(&wrong(&id("doc::x"))));
    assert_eq!((open.events(), open.sent()), (vec![], vec![]));
    let stats = open.session.stats();
    assert_eq!((stats.erroneous_records, stats.forged_records), (1, 1));
}

#[test]
fn a_record_in_the_name_of_another_endpoint_is_dropped() {
    let mut open = open(Config::default());
    let forged = Record::no_session(agent(), id("doc::x"), vec![1]);
    open.hear(Inbound::Binary(&forged.encode()));
    assert_eq!((open.events(), open.sent()), (vec![], vec![]));
    assert_eq!(open.session.stats().forged_records, 1);
}

#[test]
fn the_first_record_names_an_endpoint_that_the_handshake_did_not() {
    let mut open = open(Config::default());
    open.session = Session::new(open.now, None, Config::default());
    open.hear(Inbound::Binary(&record().encode()));
    assert_eq!(open.session.peer(), Some(&controller()));
    open.hear(Inbound::Binary(
        &Record::no_session(agent(), id("doc::x"), vec![1]).encode(),
    ));
    assert_eq!(
        (open.events().len(), open.session.stats().forged_records),
        (1, 1)
    );
}

#[test]
fn a_ping_goes_out_every_interval_and_anything_that_comes_answers_it() {
    let mut open = open(Config::default());
    for message in [
        Inbound::Pong,
        Inbound::Ping,
        Inbound::Binary(&record().encode()),
    ] {
        assert_eq!(
            open.session.poll_timeout(),
            Some(open.now + Duration::from_secs(60))
        );
        open.pass(Duration::from_millis(59_999));
        assert_eq!(open.sent(), []);
        open.pass(Duration::from_millis(1));
        assert_eq!(open.sent(), [Transmit::Ping]);
        open.hear(message);
    }
    assert_eq!(open.session.stats().pings_out, 3);
    open.hear(Inbound::Pong);
    assert_eq!(open.events().len(), 1, "an unsolicited Pong means nothing");
}

#[test]
fn a_ping_without_answer_ends_the_session() {
    let mut open = open(Config::default());
    open.pass(Duration::from_secs(60));
    open.pass(Duration::from_millis(19_999));
    assert_eq!(open.events(), []);
    open.pass(Duration::from_millis(1));
    assert_eq!(open.events(), [Event::Closed(CloseReason::KeepAlive)]);
    assert!(CloseReason::KeepAlive.is_retried());
    assert_eq!(
        (open.session.poll_timeout(), open.sent()),
        (None, vec![Transmit::Ping])
    );
}

#[test]
fn the_interval_of_pings_can_be_set() {
    let mut open = open(Config::default());
    open.session.set_keep_alive(Some(Duration::from_secs(5)));
    assert_eq!(
        open.session.poll_timeout(),
        Some(open.now + Duration::from_secs(5))
    );
    for never in [None, Some(Duration::ZERO)] {
        open.session.set_keep_alive(never);
        assert_eq!(open.session.poll_timeout(), None);
        open.pass(Duration::from_secs(100));
        assert_eq!(open.sent(), []);
    }
}

#[test]
fn a_close_of_the_other_side_is_answered_with_its_code() {
    for (code, answer) in [
        (Some(1000), 1000),
        (Some(1003), 1003),
        (Some(4000), 4000),
        (Some(1005), 1000),
        (Some(1006), 1000),
        (Some(1015), 1000),
        (Some(0), 1000),
        (None, 1000),
    ] {
        let mut open = open(Config::default());
        open.hear(Inbound::Close(code));
        assert_eq!(
            open.sent(),
            [Transmit::Close {
                code: answer,
                reason: String::new()
            }]
        );
        assert_eq!(open.events(), [Event::Closed(CloseReason::Peer(code))]);
    }
}

#[test]
fn a_close_that_nobody_answers_ends_the_session_all_the_same() {
    let mut open = open(Config::default());
    open.session.close(open.now);
    open.pass(Duration::from_millis(1000));
    open.session.replace(open.now);
    open.pass(Duration::from_millis(3999));
    assert_eq!(open.events(), []);
    open.pass(Duration::from_millis(1));
    assert_eq!(open.events(), [Event::Closed(CloseReason::Local)]);
    assert_eq!(open.sent().len(), 1);
}

#[test]
fn a_connection_that_ends_is_lost_unless_it_was_closing() {
    let mut one = open(Config::default());
    one.session.handle_disconnect();
    assert_eq!(one.events(), [Event::Closed(CloseReason::Lost)]);
    assert!(CloseReason::Lost.is_retried());
    let mut other = open(Config::default());
    other.session.close(other.now);
    other.session.handle_disconnect();
    assert_eq!(other.events(), [Event::Closed(CloseReason::Local)]);
}

#[test]
fn what_was_wanted_is_not_retried() {
    let mut one = open(Config::default());
    one.session.close(one.now);
    one.assert_closes(1000, &CloseReason::Local);
    let mut other = open(Config::default());
    other.session.replace(other.now);
    other.assert_closes(1000, &CloseReason::Replaced);
    assert!(!CloseReason::Local.is_retried() && !CloseReason::Replaced.is_retried());
    assert!(CloseReason::Peer(Some(1000)).is_retried());
}

#[test]
fn records_that_cannot_be_sent_are_refused() {
    let mut open = open(Config {
        max_record: 600,
        max_queued: 1000,
        ..Config::default()
    });
    let large = Record::no_session(controller(), agent(), vec![1; 600]);
    let length = large.encode().len();
    assert_eq!(
        open.session.send(large.encode()),
        Err(SendError::TooLarge { length, max: 600 })
    );
    assert_eq!(open.session.send(record().encode()), Ok(()));
    assert_eq!(open.session.send(record().encode()), Ok(()));
    assert_eq!(open.session.send(record().encode()), Err(SendError::Full));
    assert_eq!(
        (open.sent().len(), open.session.stats().refused_full),
        (2, 1)
    );
    assert_eq!(open.session.send(record().encode()), Ok(()));
}

#[test]
fn of_two_sessions_the_newer_stays() {
    let (a, b) = (id("doc::a"), id("doc::b"));
    let long = CROSSING + Duration::from_millis(1);
    for (own, peer) in [(&a, &b), (&b, &a)] {
        for opener in [Opener::Us, Opener::Peer] {
            assert!(newcomer_stays(own, peer, opener, Duration::ZERO, opener));
        }
        assert!(newcomer_stays(own, peer, Opener::Us, long, Opener::Peer));
        assert!(newcomer_stays(own, peer, Opener::Peer, long, Opener::Us));
    }
}

#[test]
fn of_two_crossing_sessions_both_sides_keep_the_same() {
    let (a, b) = (id("doc::a"), id("doc::b"));
    // Which session an Endpoint keeps, told by who opened it, when the one that `a` opened is the newer there.
    let kept = |own: &EndpointId, newer_is_a: bool| {
        let peer = if *own == a { &b } else { &a };
        let (of_a, of_b) = if *own == a {
            (Opener::Us, Opener::Peer)
        } else {
            (Opener::Peer, Opener::Us)
        };
        let (old, new) = if newer_is_a {
            (of_b, of_a)
        } else {
            (of_a, of_b)
        };
        let kept = if newcomer_stays(own, peer, old, CROSSING, new) {
            new
        } else {
            old
        };
        kept == of_a
    };
    for newer_at_a in [true, false] {
        for newer_at_b in [true, false] {
            assert!(
                kept(&a, newer_at_a) && kept(&b, newer_at_b),
                "the one that doc::a opened"
            );
        }
    }
}
