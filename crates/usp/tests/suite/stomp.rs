//! STOMP: a client's session with a scripted broker, R-STOMP.

use std::time::{Duration, Instant};

use homefleet_usp::{
    ErrorCode, Record,
    mtp::stomp::{
        CONTENT_TYPE, CloseReason, Command, Config, DecodeError, Decoder, Event, Frame, HeartBeat,
        Limits, Login, SendError, Senders, Session, Violation,
    },
    record::RecordBody,
};

use crate::{
    record::field,
    samples::{agent, controller, start},
};

/// A broker that says what the test tells it, and keeps what it is told.
struct Broker {
    now: Instant,
    session: Session,
    decoder: Decoder,
}

fn config() -> Config {
    Config {
        destination: Some("/queue/agent".into()),
        ..Config::new(agent(), Login::Certificate)
    }
}

fn connected() -> Frame {
    Frame::new(Command::Connected).with("version", "1.2")
}

fn message(record: &Record) -> Frame {
    Frame::new(Command::Message)
        .with("destination", "/queue/agent")
        .with("message-id", "1")
        .with("subscription", "1")
        .with("content-type", CONTENT_TYPE)
        .with("reply-to-dest", "/queue/controller")
        .with_body(record.encode())
}

fn record() -> Record {
    Record::no_session(agent(), controller(), vec![0; 300])
}

impl Broker {
    fn new(config: Config) -> Self {
        let now = start();
        let limits = Limits {
            headers: 20,
            line: 1000,
            body: 1 << 20,
        };
        Self {
            now,
            session: Session::new(now, config),
            decoder: Decoder::new(limits),
        }
    }

    /// One that took the client, which subscribed.
    fn connected(config: Config) -> Self {
        let mut broker = Self::new(config);
        assert_eq!(broker.commands(), [Command::Stomp]);
        broker.say(&connected());
        assert_eq!(broker.commands(), [Command::Subscribe]);
        assert!(matches!(broker.events()[..], [Event::Connected { .. }]));
        broker.say(&Frame::new(Command::Receipt).with("receipt-id", "1"));
        assert!(matches!(broker.events()[..], [Event::Subscribed { .. }]));
        broker
    }

    fn say(&mut self, frame: &Frame) {
        self.session.handle_input(self.now, &frame.encode());
    }

    fn hear(&mut self) -> Vec<Frame> {
        while let Some(bytes) = self.session.poll_transmit() {
            self.decoder.push(&bytes);
        }
        std::iter::from_fn(|| self.decoder.next_frame().unwrap()).collect()
    }

    fn commands(&mut self) -> Vec<Command> {
        self.hear().iter().map(|frame| frame.command).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    fn closed(&mut self) -> CloseReason {
        let events = self.events();
        let [Event::Closed(reason)] = &events[..] else {
            panic!("{events:?} is not the end");
        };
        assert_eq!(self.session.poll_timeout(), None);
        assert_eq!(
            self.session
                .send(self.now, "/queue/x", &controller(), record().encode()),
            Err(SendError::NotConnected)
        );
        self.say(&message(&record()));
        self.session.handle_disconnect();
        self.session.disconnect(self.now);
        assert_eq!(self.events(), []);
        reason.clone()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
    }
}

fn header<'a>(frame: &'a Frame, name: &str) -> Option<&'a str> {
    frame.header(name)
}

#[test]
fn the_session_begins_with_a_stomp_frame_that_names_the_endpoint() {
    let mut session = Session::new(start(), config());
    let bytes = session.poll_transmit().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let id = agent().as_str().replace(':', "\\c");
    assert_eq!(
        text,
        format!("STOMP\naccept-version:1.2\nendpoint-id:{id}\n\n\0")
    );
    assert_eq!(session.poll_transmit(), None);
}

#[test]
fn login_and_passcode_are_sent_without_a_client_certificate_and_only_then() {
    let login = Login::Password {
        login: "u:1".into(),
        passcode: "p\\".into(),
    };
    assert_eq!(format!("{login:?}"), "Password(\"u:1\")");
    let mut broker = Broker::new(Config { login, ..config() });
    let frame = broker.hear().remove(0);
    assert_eq!(
        (header(&frame, "login"), header(&frame, "passcode")),
        (Some("u:1"), Some("p\\"))
    );
    assert_eq!(header(&frame, "endpoint-id"), Some(agent().as_str()));
    let frame = Broker::new(config()).hear().remove(0);
    assert_eq!(
        (header(&frame, "login"), header(&frame, "passcode")),
        (None, None)
    );
}

#[test]
fn the_host_is_sent_when_it_is_configured() {
    for (host, sent) in [(Some("usp"), Some("usp")), (Some(""), None), (None, None)] {
        let mut broker = Broker::new(Config {
            host: host.map(str::to_owned),
            ..config()
        });
        assert_eq!(header(&broker.hear()[0], "host"), sent);
    }
}

#[test]
fn the_client_subscribes_to_the_configured_destination_with_ack_auto() {
    let mut broker = Broker::new(config());
    broker.hear();
    broker.say(&connected());
    let frame = broker.hear().remove(0);
    assert_eq!(frame.command, Command::Subscribe);
    assert_eq!(
        (
            header(&frame, "id"),
            header(&frame, "destination"),
            header(&frame, "ack")
        ),
        (Some("1"), Some("/queue/agent"), Some("auto"))
    );
    let destination = "/queue/agent".to_owned();
    assert_eq!(
        broker.events(),
        [Event::Connected {
            destination: destination.clone(),
            from_server: false
        }]
    );
    let receipt =
        Frame::new(Command::Receipt).with("receipt-id", header(&frame, "receipt").unwrap());
    broker.say(&receipt);
    assert_eq!(broker.events(), [Event::Subscribed { destination }]);
    assert_eq!(broker.session.destination(), "/queue/agent");
}

#[test]
fn a_destination_from_the_broker_goes_before_the_configured_one() {
    for destination in [None, Some("/queue/agent".to_owned())] {
        let mut broker = Broker::new(Config {
            destination,
            ..config()
        });
        broker.hear();
        broker.say(&connected().with("subscribe-dest", "/queue/os::1"));
        assert_eq!(
            header(&broker.hear()[0], "destination"),
            Some("/queue/os::1")
        );
        assert_eq!(
            broker.events(),
            [Event::Connected {
                destination: "/queue/os::1".into(),
                from_server: true
            }]
        );
    }
}

#[test]
fn without_any_destination_the_client_disconnects_and_tries_again() {
    for destination in [None, Some(String::new())] {
        let mut broker = Broker::new(Config {
            destination,
            ..config()
        });
        broker.hear();
        broker.say(&connected().with("subscribe-dest", ""));
        assert_eq!(broker.commands(), [Command::Disconnect]);
        let reason = broker.closed();
        assert_eq!(reason, CloseReason::NoDestination);
        assert!(reason.is_retried());
    }
}

#[test]
fn a_record_is_sent_with_its_type_length_and_way_back() {
    let mut broker = Broker::connected(config());
    broker
        .session
        .send(
            broker.now,
            "/queue/controller",
            &controller(),
            record().encode(),
        )
        .unwrap();
    let frame = broker.hear().remove(0);
    let body = record().encode();
    assert!(body.contains(&0));
    let headers: Vec<_> = frame
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        headers,
        [
            ("destination", "/queue/controller"),
            ("content-type", "application/vnd.bbf.usp.msg"),
            ("reply-to-dest", "/queue/agent"),
            ("receipt", "record-3"),
            ("content-length", body.len().to_string().as_str()),
        ]
    );
    assert_eq!((frame.command, frame.body), (Command::Send, body));
}

#[test]
fn a_message_is_a_record_and_its_way_back() {
    let mut broker = Broker::connected(config());
    broker.say(&message(&record()));
    assert_eq!(
        broker.events(),
        [Event::Record {
            record: record(),
            reply_to: Some("/queue/controller".into())
        }]
    );
    for way in [None, Some("")] {
        let mut frame = message(&record());
        frame.headers.retain(|(name, _)| name != "reply-to-dest");
        if let Some(way) = way {
            frame = frame.with("reply-to-dest", way);
        }
        broker.say(&frame);
        let reply_to = None;
        assert_eq!(
            broker.events(),
            [Event::Record {
                record: record(),
                reply_to
            }]
        );
    }
    assert_eq!(broker.session.stats().records_in, 3);
}

#[test]
fn a_message_of_another_content_type_is_dropped() {
    let mut broker = Broker::connected(config());
    for content in [
        None,
        Some("text/plain"),
        Some("application/vnd.bbf.usp.error"),
    ] {
        let mut frame = message(&record());
        frame.headers.retain(|(name, _)| name != "content-type");
        if let Some(content) = content {
            frame = frame.with("content-type", content);
        }
        broker.say(&frame);
    }
    assert_eq!(
        (broker.events(), broker.session.stats().other_content),
        (vec![], 3)
    );
    let mut frame = message(&record());
    frame.headers.retain(|(name, _)| name != "content-type");
    broker.say(&frame.with("content-type", "Application/VND.bbf.usp.msg; v=1"));
    assert_eq!(broker.events().len(), 1);
}

#[test]
fn a_wrong_record_is_told_with_its_way_back_and_the_session_stays() {
    let mut broker = Broker::connected(config());
    let wrong = [
        field(1, b"2.0"),
        field(2, agent().as_str().as_bytes()),
        field(3, controller().as_str().as_bytes()),
        field(7, &field(2, b"x")),
    ]
    .concat();
    for (bytes, code) in [
        (b"this is text".to_vec(), ErrorCode::RECORD_NOT_PARSED),
        (wrong, ErrorCode::INVALID_RECORD_VALUE),
    ] {
        let mut frame = message(&record());
        frame.headers.retain(|(name, _)| name != "content-length");
        broker.say(&frame.with_body(bytes.clone()));
        let error = Record::decode(&bytes).unwrap_err();
        assert_eq!(error.code(), Some(code));
        let reply_to = Some("/queue/controller".into());
        assert_eq!(broker.events(), [Event::Erroneous { error, reply_to }]);
        assert_eq!(broker.hear(), []);
    }
    assert_eq!(broker.session.stats().erroneous_records, 2);
    assert!(
        broker
            .session
            .send(broker.now, "/queue/x", &controller(), record().encode())
            .is_ok()
    );
}

#[test]
fn an_error_frame_ends_the_session_and_it_is_tried_again() {
    let frame = Frame::new(Command::Error)
        .with("message", "Bad CONNECT\n")
        .with_body("é".repeat(300).into_bytes());
    for mut broker in [Broker::new(config()), Broker::connected(config())] {
        broker.hear();
        broker.say(&frame);
        let reason = broker.closed();
        assert!(reason.is_retried());
        let CloseReason::Server { message, detail } = reason else {
            panic!("{reason:?} is not the broker's");
        };
        assert_eq!((message.as_str(), detail.len()), ("Bad CONNECT ", 256));
        assert_eq!(broker.hear(), []);
    }
}

#[test]
fn a_broker_of_another_version_is_left() {
    for (version, told) in [(Some("1.1"), "1.1"), (None, "")] {
        let mut broker = Broker::new(config());
        let mut frame = Frame::new(Command::Connected);
        if let Some(version) = version {
            frame = frame.with("version", version);
        }
        broker.say(&frame);
        let reason = CloseReason::Violation(Violation::Version(told.into()));
        assert_eq!(broker.closed(), reason);
    }
}

#[test]
fn a_frame_out_of_place_ends_the_session() {
    let unexpected = |command| CloseReason::Violation(Violation::Unexpected(command));
    for command in Command::ALL {
        if command != Command::Error && command != Command::Connected {
            let mut broker = Broker::new(config());
            broker.say(&Frame::new(command));
            assert_eq!(broker.closed(), unexpected(command));
        }
        if !matches!(
            command,
            Command::Error | Command::Message | Command::Receipt
        ) {
            let mut broker = Broker::connected(config());
            broker.say(&Frame::new(command));
            assert_eq!(broker.closed(), unexpected(command));
        }
    }
}

#[test]
fn what_is_no_stomp_ends_the_session() {
    let mut broker = Broker::connected(config());
    broker
        .session
        .handle_input(broker.now, b"HTTP/1.1 400 Bad Request\r\n");
    assert_eq!(
        broker.closed(),
        CloseReason::Decode(DecodeError::Command("HTTP/1.1 400 Bad Request".into()))
    );
}

#[test]
fn a_broker_that_does_not_answer_is_left_after_the_timeout() {
    let mut broker = Broker::new(config());
    assert_eq!(
        broker.session.poll_timeout(),
        Some(broker.now + Duration::from_secs(30))
    );
    broker.pass(Duration::from_millis(29_999));
    assert_eq!(broker.events(), []);
    broker.pass(Duration::from_millis(1));
    let reason = broker.closed();
    assert!(reason == CloseReason::ConnectTimeout && reason.is_retried());
}

#[test]
fn the_end_of_the_connection_is_told_and_it_is_tried_again() {
    let mut broker = Broker::connected(config());
    broker.session.handle_disconnect();
    let reason = broker.closed();
    assert!(reason == CloseReason::Lost && reason.is_retried());
}

fn beating(outgoing: u32, incoming: u32, theirs: &str) -> Broker {
    let heart_beat = Some(HeartBeat { outgoing, incoming });
    let mut broker = Broker::new(Config {
        heart_beat,
        ..config()
    });
    let frame = broker.hear().remove(0);
    let offered = format!("{outgoing},{incoming}");
    assert_eq!(header(&frame, "heart-beat"), Some(offered.as_str()));
    broker.say(&connected().with("heart-beat", theirs));
    broker.say(&Frame::new(Command::Receipt).with("receipt-id", "1"));
    broker.hear();
    broker.events();
    broker
}

#[test]
fn heart_beats_are_offered_only_when_enabled() {
    let mut broker = Broker::new(config());
    assert_eq!(header(&broker.hear()[0], "heart-beat"), None);
    broker.say(&connected().with("heart-beat", "100,100"));
    broker.say(&Frame::new(Command::Receipt).with("receipt-id", "1"));
    assert_eq!(broker.session.poll_timeout(), None);
}

#[test]
fn the_client_beats_within_the_negotiated_interval() {
    for (outgoing, wanted, most) in [(1000, 4000, 4000), (4000, 1000, 4000), (500, 500, 500)] {
        let mut broker = beating(outgoing, 0, &format!("0,{wanted}"));
        let due = broker.session.poll_timeout().unwrap() - broker.now;
        assert!(due <= Duration::from_millis(most) && due >= Duration::from_millis(most * 3 / 4));
        broker.pass(due - Duration::from_millis(1));
        assert_eq!(broker.session.poll_transmit(), None);
        broker.pass(Duration::from_millis(1));
        assert_eq!(broker.session.poll_transmit(), Some(b"\n".to_vec()));
        assert_eq!(broker.session.poll_timeout(), Some(broker.now + due));
        assert_eq!(broker.session.stats().heart_beats_out, 1);
    }
}

#[test]
fn heart_beats_do_not_pile_up_on_a_connection_that_stands_still() {
    let mut broker = beating(1000, 0, "0,1000");
    for _ in 0..50 {
        broker.pass(Duration::from_secs(1));
    }
    assert!(broker.session.poll_transmit().is_some());
    assert_eq!(broker.session.poll_transmit(), None);
}

#[test]
fn a_record_takes_the_place_of_a_heart_beat() {
    let mut broker = beating(1000, 0, "0,1000");
    let first = broker.session.poll_timeout().unwrap();
    broker.now += Duration::from_millis(500);
    broker
        .session
        .send(broker.now, "/queue/x", &controller(), record().encode())
        .unwrap();
    assert_eq!(
        broker.session.poll_timeout(),
        Some(first + Duration::from_millis(500))
    );
}

#[test]
fn no_heart_beats_without_both_sides() {
    for (outgoing, incoming, theirs) in [
        (0, 0, "1000,1000"),
        (1000, 1000, "0,0"),
        (1000, 0, "1000,0"),
        (0, 1000, "0,1000"),
    ] {
        assert_eq!(
            beating(outgoing, incoming, theirs).session.poll_timeout(),
            None
        );
    }
}

#[test]
fn a_missed_heart_beat_ends_the_session_and_anything_heard_is_one() {
    let mut broker = beating(0, 1000, "3000,0");
    assert_eq!(
        broker.session.poll_timeout(),
        Some(broker.now + Duration::from_secs(6))
    );
    broker.pass(Duration::from_secs(5));
    broker.session.handle_input(broker.now, b"\n");
    broker.pass(Duration::from_secs(5));
    broker.say(&message(&record()));
    assert_eq!(broker.events().len(), 1);
    broker.pass(Duration::from_millis(5999));
    assert_eq!(broker.events(), []);
    broker.session.handle_input(broker.now, b"");
    broker.pass(Duration::from_millis(1));
    let reason = broker.closed();
    assert!(reason == CloseReason::HeartBeatMissed && reason.is_retried());
}

#[test]
fn heart_beats_that_are_no_numbers_end_the_session() {
    for theirs in ["", "1000", "a,b", "1,-1", "1,2,3", "99999999999,0"] {
        let mut broker = Broker::new(config());
        broker.say(&connected().with("heart-beat", theirs));
        assert_eq!(
            broker.closed(),
            CloseReason::Violation(Violation::HeartBeat(theirs.into()))
        );
    }
}

#[test]
fn a_changed_destination_moves_the_subscription() {
    let mut broker = Broker::connected(config());
    broker
        .session
        .set_destination(broker.now, Some("/queue/new".into()));
    let frames = broker.hear();
    assert_eq!(
        (frames[0].command, header(&frames[0], "id")),
        (Command::Unsubscribe, Some("1"))
    );
    assert_eq!(frames[1].command, Command::Subscribe);
    assert_eq!(
        (header(&frames[1], "id"), header(&frames[1], "destination")),
        (Some("2"), Some("/queue/new"))
    );
    assert_eq!(
        broker.events(),
        [Event::Connected {
            destination: "/queue/new".into(),
            from_server: false
        }]
    );
    broker.say(&Frame::new(Command::Receipt).with("receipt-id", "1"));
    assert_eq!(
        broker.events(),
        [],
        "the receipt of the old subscription says nothing of the new"
    );
    broker
        .session
        .send(broker.now, "/queue/x", &controller(), record().encode())
        .unwrap();
    assert_eq!(
        header(&broker.hear()[0], "reply-to-dest"),
        Some("/queue/new")
    );
    broker
        .session
        .set_destination(broker.now, Some("/queue/new".into()));
    assert_eq!((broker.hear(), broker.events()), (vec![], vec![]));
}

#[test]
fn a_destination_from_the_broker_is_not_moved() {
    let mut broker = Broker::new(config());
    broker.say(&connected().with("subscribe-dest", "/queue/told"));
    broker.hear();
    broker.events();
    broker
        .session
        .set_destination(broker.now, Some("/queue/new".into()));
    broker.session.set_destination(broker.now, None);
    assert_eq!((broker.hear(), broker.events()), (vec![], vec![]));
    assert_eq!(broker.session.destination(), "/queue/told");
}

#[test]
fn a_destination_taken_away_ends_the_session() {
    let mut broker = Broker::connected(config());
    broker
        .session
        .set_destination(broker.now, Some(String::new()));
    assert_eq!(
        broker.commands(),
        [Command::Unsubscribe, Command::Disconnect]
    );
    assert_eq!(broker.closed(), CloseReason::NoDestination);
}

#[test]
fn disconnecting_waits_for_its_receipt() {
    let mut broker = Broker::connected(config());
    broker.session.disconnect(broker.now);
    broker.session.disconnect(broker.now);
    let frames = broker.hear();
    assert_eq!((frames.len(), frames[0].command), (1, Command::Disconnect));
    assert_eq!(
        broker
            .session
            .send(broker.now, "/queue/x", &controller(), record().encode()),
        Err(SendError::NotConnected)
    );
    broker.say(&message(&record()));
    assert_eq!(broker.events().len(), 1, "what was on its way still comes");
    broker.say(&Frame::new(Command::Receipt).with("receipt-id", "1"));
    assert_eq!(broker.events(), []);
    let id = header(&frames[0], "receipt").unwrap();
    broker.say(&Frame::new(Command::Receipt).with("receipt-id", id));
    let reason = broker.closed();
    assert!(reason == CloseReason::Local && !reason.is_retried());
    assert_eq!(broker.session.stats().receipts, 3);
}

#[test]
fn disconnecting_ends_without_its_receipt_too() {
    let mut broker = Broker::connected(config());
    broker.session.disconnect(broker.now);
    broker.pass(Duration::from_millis(4999));
    assert_eq!(broker.events(), []);
    broker.pass(Duration::from_millis(1));
    assert_eq!(broker.closed(), CloseReason::Local);
    let mut broker = Broker::connected(config());
    broker.session.disconnect(broker.now);
    broker.session.handle_disconnect();
    assert_eq!(broker.closed(), CloseReason::Local);
    let mut broker = Broker::new(config());
    broker.session.disconnect(broker.now);
    assert_eq!(broker.closed(), CloseReason::Local);
}

#[test]
fn records_that_cannot_be_sent_are_refused() {
    let mut broker = Broker::new(config());
    assert_eq!(
        broker
            .session
            .send(broker.now, "/queue/x", &controller(), record().encode()),
        Err(SendError::NotConnected)
    );
    let mut config = config();
    (config.limits.body, config.max_queued) = (600, 1000);
    let mut broker = Broker::connected(config);
    assert_eq!(
        broker
            .session
            .send(broker.now, "", &controller(), record().encode()),
        Err(SendError::NoDestination)
    );
    let large = Record::no_session(controller(), agent(), vec![1; 600]);
    let length = large.encode().len();
    assert_eq!(
        broker
            .session
            .send(broker.now, "/queue/x", &controller(), large.encode()),
        Err(SendError::TooLarge { length, max: 600 })
    );
    assert_eq!(
        broker
            .session
            .send(broker.now, "/queue/x", &controller(), record().encode()),
        Ok(3)
    );
    assert_eq!(
        broker
            .session
            .send(broker.now, "/queue/x", &controller(), record().encode()),
        Ok(4)
    );
    assert_eq!(
        broker
            .session
            .send(broker.now, "/queue/x", &controller(), record().encode()),
        Err(SendError::Full)
    );
    assert_eq!(
        (broker.hear().len(), broker.session.stats().refused_full),
        (2, 1)
    );
    assert_eq!(
        broker
            .session
            .send(broker.now, "/queue/x", &controller(), record().encode()),
        Ok(5)
    );
}

#[test]
fn no_transactional_or_acknowledging_frame_is_ever_sent() {
    let mut broker = Broker::new(Config {
        heart_beat: Some(HeartBeat {
            outgoing: 10,
            incoming: 10,
        }),
        ..config()
    });
    let mut sent = Vec::new();
    broker.say(&connected().with("heart-beat", "10,10"));
    // A broker that asks for an acknowledgement, in an open transaction.
    broker.say(&message(&record()).with("ack", "7").with("transaction", "t"));
    let connect = Record::with(
        controller(),
        agent(),
        RecordBody::StompConnect {
            destination: "/queue/agent".into(),
        },
    );
    broker
        .session
        .send(broker.now, "/queue/x", &controller(), connect.encode())
        .unwrap();
    broker
        .session
        .set_destination(broker.now, Some("/queue/new".into()));
    broker.pass(Duration::from_millis(9));
    broker.session.disconnect(broker.now);
    sent.extend(broker.commands());
    assert_eq!(
        sent,
        [
            Command::Stomp,
            Command::Subscribe,
            Command::Send,
            Command::Unsubscribe,
            Command::Subscribe,
            Command::Disconnect,
        ]
    );
}

#[test]
fn each_record_is_acknowledged_by_a_broker_that_sends_receipts() {
    let mut broker = Broker::connected(config());
    assert!(broker.session.acknowledges());
    let send = |broker: &mut Broker| {
        broker
            .session
            .send(broker.now, "/queue/x", &controller(), vec![1])
    };
    let (first, second) = (send(&mut broker).unwrap(), send(&mut broker).unwrap());
    let frames = broker.hear();
    let receipt = |index: usize| {
        let id = header(&frames[index], "receipt").unwrap();
        Frame::new(Command::Receipt).with("receipt-id", id)
    };
    broker.say(&receipt(1));
    broker.say(&receipt(1));
    broker.say(&Frame::new(Command::Receipt).with("receipt-id", "record-99"));
    assert_eq!(broker.events(), [Event::Acknowledged(second)]);
    broker.say(&receipt(0));
    assert_eq!(broker.events(), [Event::Acknowledged(first)]);
}

#[test]
fn records_that_wait_for_their_receipts_are_bounded() {
    let mut broker = Broker::connected(Config {
        max_unacknowledged: 2,
        ..config()
    });
    let send = |broker: &mut Broker| {
        broker
            .session
            .send(broker.now, "/queue/x", &controller(), vec![1])
    };
    assert!(send(&mut broker).is_ok() && send(&mut broker).is_ok());
    let id = header(&broker.hear()[0], "receipt").unwrap().to_owned();
    assert_eq!(send(&mut broker), Err(SendError::Full));
    broker.say(&Frame::new(Command::Receipt).with("receipt-id", id));
    assert!(send(&mut broker).is_ok());
    assert_eq!(broker.session.stats().refused_full, 1);
}

#[test]
fn a_broker_without_receipts_is_given_time_to_refuse_the_subscription() {
    let taken = || {
        let mut broker = Broker::new(config());
        broker.say(&connected());
        broker.hear();
        broker.events();
        broker
    };
    let subscribed = Event::Subscribed {
        destination: "/queue/agent".into(),
    };
    let mut broker = taken();
    broker.pass(Duration::from_millis(4999));
    assert_eq!(broker.events(), []);
    broker.pass(Duration::from_millis(1));
    assert_eq!(broker.events(), std::slice::from_ref(&subscribed));
    assert!(!broker.session.acknowledges());
    broker
        .session
        .send(broker.now, "/queue/x", &controller(), vec![1])
        .unwrap();
    assert_eq!(header(&broker.hear()[0], "receipt"), None);

    let mut broker = taken();
    broker.say(&message(&record()));
    let events = broker.events();
    assert_eq!((events.len(), &events[0]), (2, &subscribed));
    broker.say(&message(&record()));
    assert_eq!(broker.events().len(), 1);
}

#[test]
fn no_heart_beat_is_missed_while_the_application_does_not_read() {
    let mut broker = beating(0, 1000, "1000,0");
    broker.session.set_reading(broker.now, false);
    broker.pass(Duration::from_secs(60));
    assert_eq!(broker.events(), []);
    broker.session.set_reading(broker.now, true);
    broker.pass(Duration::from_millis(1999));
    assert_eq!(broker.events(), []);
    broker.pass(Duration::from_millis(1));
    assert_eq!(broker.closed(), CloseReason::HeartBeatMissed);
}

#[test]
fn an_endpoint_speaks_over_its_own_destination_and_is_told_which_that_is() {
    let senders: Senders = "/topic/usp.{endpoint-id}".parse().unwrap();
    let mut broker = Broker::connected(Config {
        senders: Some(senders),
        ..config()
    });
    let own = format!("/topic/usp.{}", controller());
    broker
        .session
        .send(broker.now, "/queue/c", &controller(), vec![1])
        .unwrap();
    assert_eq!(
        header(&broker.hear()[0], "reply-to-dest"),
        Some(own.as_str())
    );
    let over = |destination: &str, body: Vec<u8>| {
        let mut frame = message(&record());
        frame
            .headers
            .retain(|(name, _)| name != "destination" && name != "content-length");
        frame.with("destination", destination).with_body(body)
    };
    broker.say(&over(&own, record().encode()));
    assert!(matches!(broker.events()[..], [Event::Record { .. }]));
    let wrong = [field(1, b"2.0"), field(3, controller().as_str().as_bytes())].concat();
    for body in [record().encode(), wrong] {
        broker.say(&over("/topic/usp.os::012345-ANOTHER", body));
        assert_eq!(broker.events(), []);
    }
    broker.say(&over("/topic/usp.os::012345-ANOTHER", b"text".to_vec()));
    assert!(matches!(broker.events()[..], [Event::Erroneous { .. }]));
    assert_eq!(broker.session.stats().forged, 2);
}

#[test]
fn a_record_that_is_too_large_is_told_without_being_kept_and_the_session_stays() {
    let mut config = config();
    config.limits.body = 1000;
    let mut broker = Broker::connected(config);
    let large = Record::no_session(agent(), controller(), vec![1; 2000]);
    broker.say(&message(&large));
    match &broker.events()[..] {
        [Event::Erroneous { error, reply_to }] => {
            assert_eq!(error.code(), Some(ErrorCode::RESOURCES_EXCEEDED));
            assert_eq!(reply_to.as_deref(), Some("/queue/controller"));
        }
        other => panic!("{other:?}"),
    }
    broker.say(&message(&record()));
    assert!(matches!(broker.events()[..], [Event::Record { .. }]));
}
