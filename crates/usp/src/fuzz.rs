//! Entry points for fuzzing; they never panic.

use std::time::{Duration, Instant};

use crate::{
    EndpointId, Message, Record,
    mtp::{
        coap::{self, Inbound},
        mqtt, stomp, uds, websocket,
    },
};

/// Bytes as a Record and as a Message: what decodes is encoded again and decodes to the same.
///
/// # Panics
/// When a round trip loses something: that is what fuzzing looks for.
pub fn codec(bytes: &[u8]) {
    if let Ok(record) = Record::decode(bytes) {
        assert_eq!(Record::decode(&record.encode()).as_ref(), Ok(&record));
        if let Some(message) = record.message() {
            codec_message(message);
        }
    }
    codec_message(bytes);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(id) = text.parse::<EndpointId>()
    {
        assert_eq!(EndpointId::from_urn(&id.to_urn()).as_ref(), Ok(&id));
    }
    codec_uds(bytes);
    codec_stomp(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        codec_websocket(text);
        codec_mqtt(text);
    }
}

/// A target and header lines, one on each line: who is admitted is read again out of what names it.
fn codec_websocket(text: &str) {
    let Ok(own) = "self::own".parse::<EndpointId>() else {
        return;
    };
    let mut lines = text.lines();
    let target = lines.next().unwrap_or_default();
    let headers: Vec<&str> = lines.collect();
    let path = target.split('?').next().unwrap_or_default();
    let protocols = [websocket::SUBPROTOCOL];
    let admit = |target: &str, extensions: &[&str]| {
        let request = websocket::Request {
            target,
            protocols: &protocols,
            extensions,
        };
        websocket::handshake::admit(request, path, &own, |_| true)
    };
    if let Ok(websocket::Admission { peer: Some(id), .. }) = admit(target, &headers) {
        let named = websocket::handshake::target(target, &id);
        assert_eq!(
            admit(&named, &[]).map(|again| again.peer),
            Ok(Some(id.clone()))
        );
        let line = websocket::handshake::extension(&id);
        let response = websocket::handshake::check_response(&protocols, &[&line], &own, None);
        assert_eq!(response, Ok(Some(id)));
    }
}

/// A Topic and a way back, one on each line.
fn codec_mqtt(text: &str) {
    use mqtt::topic::{check_filter, check_name, covers, split_reply_to, with_reply_to};
    let (topic, other) = text.split_once('\n').unwrap_or((text, "a"));
    if let Ok(name) = with_reply_to(topic, other) {
        assert_eq!(split_reply_to(&name), Some((topic, other.to_owned())));
    }
    assert!(check_name(topic).is_err() || check_filter(topic).is_ok());
    if check_filter(topic).is_ok() {
        assert!(covers(topic, topic) || topic.starts_with("$share/"));
        assert!(!covers(other, topic) || !covers(topic, "b") || covers(other, "b"));
    }
}

/// Frames of a UNIX domain socket: cut in any way they are the same, and each round-trips.
fn codec_uds(bytes: &[u8]) {
    let decode = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut decoder = uds::Decoder::new(600);
        let mut frames = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            while let Ok(Some(frame)) = decoder.next_frame() {
                frames.push(frame);
            }
            assert!(decoder.buffered() <= 608 + piece.len());
        }
        (frames, decoder.next_frame().err())
    };
    let whole = decode(&mut [bytes].into_iter());
    assert_eq!(decode(&mut bytes.chunks(1)), whole);
    for frame in whole.0 {
        let bytes = frame.encode();
        assert_eq!(
            decode(&mut [bytes.as_slice()].into_iter()),
            (vec![frame], None)
        );
    }
}

/// The same for STOMP.
fn codec_stomp(bytes: &[u8]) {
    let limits = stomp::Limits {
        headers: 8,
        line: 100,
        body: 300,
    };
    let decode = |pieces: &mut dyn Iterator<Item = &[u8]>, limits: &stomp::Limits| {
        let mut decoder = stomp::Decoder::new(limits.clone());
        let mut frames = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            while let Ok(Some(frame)) = decoder.next_frame() {
                frames.push(frame);
            }
            assert!(decoder.buffered() <= 302 + piece.len());
        }
        (frames, decoder.next_frame().err())
    };
    let whole = decode(&mut [bytes].into_iter(), &limits);
    assert_eq!(decode(&mut bytes.chunks(1), &limits), whole);
    // A bare colon gets longer when it is escaped.
    let wide = stomp::Limits {
        line: 300,
        ..limits
    };
    for mut frame in whole.0 {
        if frame.dropped_body > 0 {
            assert!(frame.body.is_empty());
            continue;
        }
        frame.dropped_headers = 0;
        let bytes = frame.encode();
        let again = decode(&mut [bytes.as_slice()].into_iter(), &wide);
        assert_eq!(again, (vec![frame], None));
    }
}

fn codec_message(bytes: &[u8]) {
    if let Ok(mut message) = Message::decode(bytes) {
        message.header_mismatch = false;
        assert_eq!(Message::decode(&message.encode()).as_ref(), Ok(&message));
    }
}

/// The binding's decision: the first byte is the method, the second the Content-Format, then a line with
/// the query, then the payload.
pub fn machine(bytes: &[u8]) {
    let (head, rest) = bytes.split_at(bytes.len().min(2));
    let at = rest
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(rest.len());
    let (query, payload) = rest.split_at(at);
    let query = String::from_utf8_lossy(query);
    let inbound = Inbound {
        method: head.first().copied().unwrap_or_default(),
        content_format: head.get(1).copied().map(u16::from),
        queries: &[&query],
        payload: payload.get(1..).unwrap_or_default(),
    };
    for secure in [false, true] {
        if let Err(rejection) = coap::accept(inbound, secure) {
            assert!(matches!(rejection.code, 0x80 | 0x85 | 0x8F));
        }
    }
}

/// A script of bytes, time, Records and ends for one session of each connected binding, with small bounds.
///
/// The first byte chooses the binding. Each step is one byte of what to do, one of how long the step's data is,
/// and the data. `start` is any time: the session only sees how much of it passes.
///
/// # Panics
/// When a session goes on after its end, or keeps more than its bounds: that is what fuzzing looks for.
pub fn sessions(start: Instant, bytes: &[u8]) {
    let (Ok(own), Ok(other)) = ("self::a".parse(), "self::b".parse()) else {
        return;
    };
    let record = Record::no_session(other, own, vec![7; 40]);
    match bytes.split_first() {
        Some((0..=63, script)) => uds(start, &record, true, script),
        Some((64..=127, script)) => uds(start, &record, false, script),
        Some((128..=159, script)) => websocket(start, &record, script),
        Some((160..=191, script)) => mqtt(&record, script),
        Some((_, script)) => stomp(start, &record, script),
        None => {}
    }
}

fn steps(script: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = script;
    std::iter::from_fn(move || {
        let (&[what, length], tail) = rest.split_first_chunk()?;
        let (step, tail) = tail.split_at(usize::from(length).min(tail.len()));
        rest = tail;
        Some((what, step))
    })
}

fn uds(start: Instant, record: &Record, is_client: bool, script: &[u8]) {
    let mut now = start;
    let config = uds::Config {
        max_record: 300,
        max_frame: 400,
        max_queued: 500,
        ..uds::Config::default()
    };
    let own = record.from_id.clone();
    let mut session = if is_client {
        uds::Session::client(now, own, config)
    } else {
        uds::Session::server(now, own, config)
    };
    let mut over = false;
    let mut waiting = 0;
    for (what, step) in steps(script) {
        match what % 8 {
            0..=3 => session.handle_input(step),
            4 => {
                now += Duration::from_millis(u64::from(what) * 100);
                session.handle_timeout(now);
            }
            5 => waiting += usize::from(session.send(record).is_ok()),
            6 if what > 250 => session.close(),
            6 if what > 240 => session.handle_disconnect(),
            6 => session.handle_input(&uds::Frame::one(what >> 5, step).encode()),
            _ => {
                while session.poll_transmit().is_some() {}
                waiting = 0;
            }
        }
        assert!(waiting <= 8, "what waits is bounded");
        while let Some(event) = session.poll_event() {
            assert!(!over, "nothing happens after the end");
            over = matches!(event, uds::Event::Closed(_));
        }
        assert!(!over || session.poll_timeout().is_none());
    }
}

fn stomp(start: Instant, record: &Record, script: &[u8]) {
    let mut now = start;
    let login = stomp::Login::Certificate;
    let mut session = stomp::Session::new(
        now,
        stomp::Config {
            destination: Some("/queue/a".to_owned()),
            heart_beat: Some(stomp::HeartBeat {
                outgoing: 1000,
                incoming: 1000,
            }),
            limits: stomp::Limits {
                headers: 8,
                line: 100,
                body: 300,
            },
            max_queued: 500,
            ..stomp::Config::new(record.from_id.clone(), login)
        },
    );
    let mut over = false;
    let mut waiting = 0;
    for (what, step) in steps(script) {
        let text = || String::from_utf8_lossy(step).into_owned();
        match what % 8 {
            0..=2 => session.handle_input(now, step),
            3 => {
                now += Duration::from_millis(u64::from(what) * 20);
                session.handle_timeout(now);
            }
            4 => {
                waiting += usize::from(
                    session
                        .send(now, &text(), record.to_id(), record.encode())
                        .is_ok(),
                )
            }
            5 if what > 250 => session.disconnect(now),
            5 if what > 240 => session.handle_disconnect(),
            5 => session.set_destination(now, Some(text())),
            6 => {
                let frame = stomp::Command::ALL
                    .get(usize::from(what >> 3) % 15)
                    .map(|command| stomp::Frame::new(*command).with("version", "1.2"));
                if let Some(frame) = frame {
                    session.set_reading(now, what < 128);
                    let frame = frame.with("receipt-id", text()).with("heart-beat", text());
                    session.handle_input(now, &frame.encode());
                }
            }
            _ => {
                while session.poll_transmit().is_some() {}
                waiting = 0;
            }
        }
        assert!(waiting <= 8, "what waits is bounded");
        while let Some(event) = session.poll_event() {
            assert!(!over, "nothing happens after the end");
            over = matches!(event, stomp::Event::Closed(_));
        }
        assert!(!over || session.poll_timeout().is_none());
    }
}

fn websocket(start: Instant, record: &Record, script: &[u8]) {
    let mut now = start;
    let config = websocket::Config {
        max_record: 300,
        max_queued: 500,
        ..websocket::Config::default()
    };
    let mut session = websocket::Session::new(now, None, config);
    let mut over = false;
    let mut waiting = 0;
    for (what, step) in steps(script) {
        use websocket::Inbound as In;
        let code = step.first_chunk().map(|code| u16::from_be_bytes(*code));
        match what % 16 {
            0..=3 => session.handle_input(now, In::Binary(step)),
            4 => session.handle_input(now, In::Text),
            5 => session.handle_input(now, In::Close(code)),
            6 => session.handle_input(now, In::Ping),
            7 => session.handle_input(now, In::Pong),
            8 => session.handle_input(now, In::TooLarge),
            9 | 10 => {
                now += Duration::from_millis(u64::from(what) * 400);
                session.handle_timeout(now);
            }
            11 => waiting += usize::from(session.send(record.encode()).is_ok()),
            12 if what > 0xc0 => session.fail(now, websocket::CloseReason::GoingAway),
            12 if what > 0x80 => session.close(now),
            12 => session.replace(now),
            13 if what > 0x80 => session.handle_disconnect(),
            13 => session.set_keep_alive(code.map(|code| Duration::from_secs(code.into()))),
            _ => {
                while session.poll_transmit().is_some() {}
                waiting = 0;
            }
        }
        assert!(waiting <= 8, "what waits is bounded");
        while let Some(event) = session.poll_event() {
            assert!(!over, "nothing happens after the end");
            over = matches!(event, websocket::Event::Closed(_));
        }
        assert!(!over || session.poll_timeout().is_none());
    }
}

fn mqtt(record: &Record, script: &[u8]) {
    for version in [mqtt::MqttVersion::V5, mqtt::MqttVersion::V311] {
        let mut config = mqtt::Config::new(version, record.from_id.clone());
        config.max_record = 300;
        let mut session = mqtt::Session::new(config);
        let mut answers = 0;
        for (what, step) in steps(script) {
            let text = String::from_utf8_lossy(step);
            let mut parts = text.split('\n');
            let mut part = || {
                parts
                    .next()
                    .filter(|part| !part.is_empty())
                    .map(str::to_owned)
            };
            match what % 8 {
                0 => drop(session.connect()),
                1 => {
                    let connack = mqtt::Connack {
                        assigned_client_id: part(),
                        response_information: part(),
                        maximum_qos: (what > 127).then_some(mqtt::Qos::AtMostOnce),
                        user_properties: parts
                            .map(|topic| (mqtt::SUBSCRIBE_TOPIC.to_owned(), topic.to_owned()))
                            .collect(),
                    };
                    answers = session
                        .connected(connack)
                        .map_or(0, |connected| connected.subscribe.len());
                }
                2 => {
                    let answers: Vec<bool> = (0..answers)
                        .map(|bit| what >> 3 >> (bit % 5) & 1 == 0)
                        .collect();
                    let granted = session.subscribed(&answers).is_ok();
                    assert!(
                        granted
                            || session
                                .publish("t", record.to_id(), record.encode())
                                .is_err()
                    );
                }
                3 => {
                    let topic = part();
                    let subscriptions = parts
                        .map(|filter| mqtt::Subscription {
                            filter: filter.to_owned(),
                            qos: mqtt::Qos::AtMostOnce,
                        })
                        .collect();
                    answers = session
                        .reconfigure(subscriptions, topic)
                        .map_or(0, |changes| changes.subscribe.len());
                }
                4 => {
                    if let Ok(publish) = session.publish(&text, record.to_id(), record.encode()) {
                        assert_eq!(mqtt::topic::check_name(&publish.topic), Ok(()));
                    }
                }
                _ => {
                    let (head, payload) = step.split_at(step.len().min(usize::from(what >> 3)));
                    let topic = String::from_utf8_lossy(head);
                    session.receive(mqtt::Incoming {
                        topic: &topic,
                        content_type: (what % 8 > 5).then_some(mqtt::CONTENT_TYPE),
                        response_topic: Some(&topic),
                        payload,
                    });
                }
            }
        }
    }
}
