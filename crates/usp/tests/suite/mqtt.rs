//! MQTT: what stands in the packets and what is read out of them, R-MQTT.

use homefleet_usp::{
    EndpointId, ErrorCode, Record,
    mtp::mqtt::{
        Changes, Config, Connack, Incoming, MqttVersion, Publish, Qos, Received, SendError,
        Senders, Session, Stop, Subscription, TopicError,
        session::{MAX_FROM_BROKER, MAX_MISMATCHED},
    },
    record::RecordBody,
};
use proptest::prelude::*;

use crate::{
    record::field,
    samples::{agent, controller},
};

const V5: MqttVersion = MqttVersion::V5;
const V3: MqttVersion = MqttVersion::V311;
const BOTH: [MqttVersion; 2] = [V3, V5];

fn config(version: MqttVersion) -> Config {
    Config {
        response_topic: Some("usp/agent".into()),
        ..Config::new(version, agent())
    }
}

fn at(filter: &str) -> Subscription {
    Subscription {
        filter: filter.into(),
        qos: Qos::AtLeastOnce,
    }
}

fn publish(session: &mut Session, topic: &str, record: &Record) -> Result<Publish, SendError> {
    session.publish(topic, record.to_id(), record.encode())
}

fn filters(subscriptions: &[Subscription]) -> Vec<&str> {
    subscriptions
        .iter()
        .map(|subscription| subscription.filter.as_str())
        .collect()
}

fn telling(topics: &[&str]) -> Connack {
    let property = |topic: &&str| ("subscribe-topic".to_owned(), (*topic).to_owned());
    Connack {
        user_properties: topics.iter().map(property).collect(),
        ..Connack::default()
    }
}

/// A session that is subscribed to all it asked for.
fn subscribed(config: Config, connack: Connack) -> Session {
    let mut session = Session::new(config);
    session.connect();
    let asked = session.connected(connack).unwrap().subscribe.len();
    session.subscribed(&vec![true; asked]).unwrap();
    session
}

fn record() -> Record {
    Record::no_session(controller(), agent(), vec![0; 300])
}

fn from_controller() -> Record {
    Record::no_session(agent(), controller(), vec![0; 300])
}

#[test]
fn the_client_identifier_is_configured_or_empty_or_the_endpoint_id() {
    for (version, configured, sent) in [
        (V5, Some("mine"), "mine"),
        (V3, Some("mine"), "mine"),
        (V5, None, ""),
        (V5, Some(""), ""),
        (V3, None, agent().as_str()),
        (V3, Some(""), agent().as_str()),
    ] {
        let client_id = configured.map(str::to_owned);
        let mut session = Session::new(Config {
            client_id,
            ..config(version)
        });
        assert_eq!(session.connect().client_id, sent);
    }
}

#[test]
fn an_assigned_client_identifier_is_saved_and_used_from_then_on() {
    let assigned = Connack {
        assigned_client_id: Some("auto-7".into()),
        ..Connack::default()
    };
    let mut session = Session::new(config(V5));
    assert_eq!(session.connect().client_id, "");
    let connected = session.connected(assigned.clone()).unwrap();
    assert_eq!(connected.save_client_id.as_deref(), Some("auto-7"));
    assert_eq!(session.connect().client_id, "auto-7");
    let again = session.connected(Connack::default()).unwrap();
    assert_eq!(again.save_client_id, None);
    assert_eq!(session.connect().client_id, "auto-7");
    let mut session = Session::new(config(V3));
    session.connect();
    assert_eq!(session.connected(assigned).unwrap().save_client_id, None);
    assert_eq!(session.connect().client_id, agent().as_str());
}

#[test]
fn login_and_keep_alive_are_those_configured() {
    for version in BOTH {
        let login = Some(("user".to_owned(), "secret".to_owned()));
        let config = Config {
            login: login.clone(),
            keep_alive: 77,
            ..config(version)
        };
        assert!(!format!("{config:?}").contains("secret"));
        let connect = Session::new(config).connect();
        assert_eq!((connect.login, connect.keep_alive), (login, 77));
        assert_eq!(
            Session::new(Config::new(version, agent())).connect().login,
            None
        );
    }
}

#[test]
fn an_mqtt_5_connect_names_the_endpoint_and_asks_for_response_information() {
    let connect = Session::new(config(V5)).connect();
    assert!(connect.request_response_information);
    let named = ("usp-endpoint-id".to_owned(), agent().to_string());
    assert_eq!(connect.user_properties, [named]);
    let connect = Session::new(config(V3)).connect();
    assert!(!connect.request_response_information && connect.user_properties.is_empty());
}

#[test]
fn everything_configured_and_told_is_subscribed_to_once() {
    let mut configured = config(V5);
    configured.subscriptions = vec![
        Subscription {
            filter: "cfg/+".into(),
            qos: Qos::AtMostOnce,
        },
        at("other"),
    ];
    let mut session = Session::new(configured);
    session.connect();
    let mut connack = telling(&["told/#", "cfg/+", "told/#"]);
    connack
        .user_properties
        .push(("else".into(), "nothing".into()));
    connack.response_information = Some("answers/me".into());
    let connected = session.connected(connack).unwrap();
    assert_eq!(
        filters(&connected.subscribe),
        ["cfg/+", "other", "told/#", "answers/me"]
    );
    assert_eq!(
        connected
            .subscribe
            .iter()
            .map(|one| one.qos)
            .collect::<Vec<_>>(),
        [
            Qos::AtMostOnce,
            Qos::AtLeastOnce,
            Qos::AtLeastOnce,
            Qos::AtLeastOnce
        ]
    );
    assert_eq!(connected.response_topic.as_deref(), Some("answers/me"));
}

#[test]
fn a_response_topic_that_a_filter_covers_is_not_subscribed_to_again() {
    let asked = |version, filter: &str, information: Option<&str>| {
        let mut configured = config(version);
        configured.subscriptions = vec![at(filter)];
        let mut session = Session::new(configured);
        session.connect();
        let connack = Connack {
            response_information: information.map(str::to_owned),
            ..Connack::default()
        };
        let connected = session.connected(connack).unwrap();
        filters(&connected.subscribe).join(" ")
    };
    assert_eq!(asked(V5, "answers/#", Some("answers/me")), "answers/#");
    assert_eq!(asked(V5, "answers/me", Some("answers/me")), "answers/me");
    assert_eq!(
        asked(V5, "answer/#", Some("answers/me")),
        "answer/# answers/me"
    );
    assert_eq!(asked(V5, "usp/+", None), "usp/+");
    assert_eq!(asked(V5, "x", None), "x usp/agent");
    assert_eq!(asked(V3, "usp/#", None), "usp/#");
    assert_eq!(asked(V3, "usp/agent", None), "usp/agent usp/agent/#");
}

#[test]
fn response_information_takes_the_place_of_the_configured_response_topic() {
    let mut session = Session::new(config(V5));
    session.connect();
    let connack = Connack {
        response_information: Some("answers/me".into()),
        ..Connack::default()
    };
    assert_eq!(
        filters(&session.connected(connack).unwrap().subscribe),
        ["answers/me"]
    );
    session.subscribed(&[true]).unwrap();
    assert_eq!(session.reply_to(), Some("answers/me"));
}

#[test]
fn an_mqtt_3_1_1_client_subscribes_below_its_response_topic_and_takes_nothing_from_connack() {
    let mut session = Session::new(config(V3));
    session.connect();
    let mut connack = telling(&["told"]);
    connack.response_information = Some("answers/me".into());
    let connected = session.connected(connack).unwrap();
    assert_eq!(filters(&connected.subscribe), ["usp/agent/#"]);
    assert_eq!(connected.response_topic, None);
}

#[test]
fn with_nothing_to_subscribe_to_the_client_stops_and_stays_away() {
    for version in BOTH {
        for connack in [Connack::default(), telling(&["a+", ""])] {
            let mut session = Session::new(Config::new(version, agent()));
            session.connect();
            assert_eq!(session.connected(connack), Err(Stop::NothingToSubscribe));
            assert_eq!(
                publish(&mut session, "t", &record()),
                Err(SendError::NotSubscribed)
            );
        }
    }
    assert!(!Stop::NothingToSubscribe.is_retried());
}

#[test]
fn with_no_subscription_granted_the_client_stops_and_publishes_nothing() {
    for answers in [&[][..], &[false], &[false, false]] {
        let mut configured = config(V5);
        configured.subscriptions = vec![at("a")];
        let mut session = Session::new(configured);
        session.connect();
        assert_eq!(
            session
                .connected(Connack::default())
                .unwrap()
                .subscribe
                .len(),
            2
        );
        assert_eq!(
            publish(&mut session, "t", &record()),
            Err(SendError::NotSubscribed)
        );
        assert_eq!(session.subscribed(answers), Err(Stop::NotSubscribed));
        assert_eq!(
            publish(&mut session, "t", &record()),
            Err(SendError::NotSubscribed)
        );
    }
    assert!(Stop::NotSubscribed.is_retried());
}

#[test]
fn one_granted_subscription_is_enough() {
    let mut configured = config(V5);
    configured.subscriptions = vec![at("a"), at("b")];
    let mut session = Session::new(configured);
    session.connect();
    session.connected(Connack::default()).unwrap();
    session.subscribed(&[false, true, false]).unwrap();
    assert!(publish(&mut session, "t", &record()).is_ok());
}

#[test]
fn topics_that_are_none_and_too_many_topics_are_left_out() {
    let mut session = Session::new(config(V5));
    session.connect();
    let many: Vec<String> = (0..MAX_FROM_BROKER + 5)
        .map(|number| format!("t/{number}"))
        .collect();
    let mut topics: Vec<&str> = many.iter().map(String::as_str).collect();
    topics.insert(0, "a/#/b");
    let mut connack = telling(&topics);
    connack.response_information = Some("answers/+".into());
    let asked = session.connected(connack).unwrap().subscribe;
    assert_eq!(asked.len(), MAX_FROM_BROKER + 1);
    assert_eq!(
        asked.last(),
        Some(&at("usp/agent")),
        "a wildcard is no Response Information"
    );
    assert_eq!(session.stats().topics_left_out, 6);
}

#[test]
fn a_record_is_published_with_the_properties_of_mqtt_5() {
    let mut session = subscribed(config(V5), Connack::default());
    assert_eq!(
        publish(&mut session, "usp/controller", &record()),
        Ok(Publish {
            topic: "usp/controller".into(),
            qos: Qos::AtLeastOnce,
            content_type: Some("usp.msg"),
            response_topic: Some("usp/agent".into()),
            payload: record().encode(),
        })
    );
    assert_eq!(session.stats().records_out, 1);
}

#[test]
fn a_record_is_published_with_the_way_back_in_the_topic_of_mqtt_3_1_1() {
    let mut session = subscribed(config(V3), Connack::default());
    assert_eq!(
        publish(&mut session, "usp/controller", &record()),
        Ok(Publish {
            topic: "usp/controller/reply-to=usp%2Fagent".into(),
            qos: Qos::AtLeastOnce,
            content_type: None,
            response_topic: None,
            payload: record().encode(),
        })
    );
}

#[test]
fn the_quality_of_service_is_the_configured_one_as_far_as_the_broker_goes() {
    use Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};
    for (configured, most, used) in [
        (AtMostOnce, None, AtMostOnce),
        (AtLeastOnce, None, AtLeastOnce),
        (ExactlyOnce, None, ExactlyOnce),
        (AtLeastOnce, Some(AtMostOnce), AtMostOnce),
        (ExactlyOnce, Some(AtLeastOnce), AtLeastOnce),
        (AtMostOnce, Some(AtLeastOnce), AtMostOnce),
    ] {
        let connack = Connack {
            maximum_qos: most,
            ..Connack::default()
        };
        let mut session = subscribed(
            Config {
                publish_qos: configured,
                ..config(V5)
            },
            connack,
        );
        assert_eq!(publish(&mut session, "t", &record()).unwrap().qos, used);
    }
}

#[test]
fn the_way_back_is_a_granted_topic_without_wildcards_when_none_is_told() {
    let reached = |version, filter: &str| {
        let mut configured = Config::new(version, agent());
        configured.subscriptions = vec![at("+/x"), at(filter)];
        subscribed(configured, Connack::default())
            .reply_to()
            .map(str::to_owned)
    };
    assert_eq!(reached(V5, "a/b").as_deref(), Some("a/b"));
    assert_eq!(reached(V5, "a/b/#").as_deref(), Some("a/b"));
    assert_eq!(reached(V5, "a/+/#"), None);
    assert_eq!(reached(V5, "$share/g/a"), None);
    assert_eq!(reached(V3, "a/b/#").as_deref(), Some("a/b"));
    assert_eq!(
        reached(V3, "a/b"),
        None,
        "nothing with a way back after it would arrive"
    );
}

#[test]
fn a_configured_way_back_that_the_broker_refuses_is_not_told() {
    for version in BOTH {
        let mut configured = config(version);
        configured.subscriptions = vec![at("other/#")];
        let mut session = Session::new(configured);
        session.connect();
        session.connected(Connack::default()).unwrap();
        session.subscribed(&[true, false]).unwrap();
        assert_eq!(session.reply_to(), Some("other"));
    }
}

#[test]
fn records_that_cannot_be_sent_are_refused() {
    let mut configured = Config::new(V5, agent());
    configured.subscriptions = vec![at("+/x")];
    let mut session = subscribed(configured, Connack::default());
    assert_eq!(
        publish(&mut session, "t", &record()),
        Err(SendError::NoReplyTo)
    );
    for version in BOTH {
        let mut session = subscribed(
            Config {
                max_record: 200,
                ..config(version)
            },
            Connack::default(),
        );
        let length = record().encode().len();
        assert_eq!(
            publish(&mut session, "t", &record()),
            Err(SendError::TooLarge { length, max: 200 })
        );
        for (topic, error) in [
            ("", TopicError::Length),
            ("a/#", TopicError::Wildcard),
            ("a\0", TopicError::Nul),
        ] {
            assert_eq!(
                publish(&mut session, topic, &record()),
                Err(SendError::Topic(error))
            );
        }
    }
    let mut configured = config(V3);
    configured.response_topic = Some("usp%2Fagent".into());
    let mut session = subscribed(configured, Connack::default());
    assert_eq!(
        publish(&mut session, "t", &record()),
        Err(SendError::Topic(TopicError::Ambiguous))
    );
}

fn receive(
    version: MqttVersion,
    topic: &str,
    content_type: Option<&str>,
    response_topic: Option<&str>,
    payload: &[u8],
) -> Received {
    let mut session = subscribed(config(version), Connack::default());
    session.receive(Incoming {
        topic,
        content_type,
        response_topic,
        payload,
    })
}

#[test]
fn both_content_types_are_a_record_in_mqtt_5() {
    let bytes = from_controller().encode();
    for content_type in ["usp.msg", "application/vnd.bbf.usp.msg"] {
        assert_eq!(
            receive(
                V5,
                "usp/agent",
                Some(content_type),
                Some("usp/controller"),
                &bytes
            ),
            Received::Record {
                record: from_controller(),
                reply_to: Some("usp/controller".into())
            }
        );
    }
    for content_type in [
        None,
        Some(""),
        Some("usp.error"),
        Some("text/plain"),
        Some("USP.MSG"),
    ] {
        let received = receive(
            V5,
            "usp/agent",
            content_type,
            Some("usp/controller"),
            &bytes,
        );
        assert_eq!(received, Received::Other, "{content_type:?}");
    }
}

#[test]
fn the_way_back_of_mqtt_5_is_the_response_topic_and_nothing_else() {
    let bytes = from_controller().encode();
    for (topic, response) in [
        ("usp/agent", None),
        ("usp/agent/reply-to=x", None),
        ("usp/agent", Some("a/#")),
    ] {
        assert_eq!(
            receive(V5, topic, Some("usp.msg"), response, &bytes),
            Received::Record {
                record: from_controller(),
                reply_to: None
            }
        );
    }
}

#[test]
fn the_way_back_of_mqtt_3_1_1_is_read_out_of_the_topic() {
    let bytes = from_controller().encode();
    assert_eq!(
        receive(
            V3,
            "usp/agent/reply-to=usp%2Fcontroller",
            None,
            None,
            &bytes
        ),
        Received::Record {
            record: from_controller(),
            reply_to: Some("usp/controller".into())
        }
    );
}

#[test]
fn what_is_no_record_is_told_with_its_way_back() {
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
        let error = Record::decode(&bytes).unwrap_err();
        assert_eq!(error.code(), Some(code));
        let told = Received::Erroneous {
            error,
            reply_to: Some("c".into()),
        };
        assert_eq!(
            receive(V5, "usp/agent", Some("usp.msg"), Some("c"), &bytes),
            told
        );
        assert_eq!(
            receive(V3, "usp/agent/reply-to=c", None, None, &bytes),
            told
        );
        assert_eq!(
            receive(V3, "usp/agent", None, None, &bytes),
            Received::Other
        );
    }
}

#[test]
fn a_record_over_the_limit_is_erroneous() {
    let mut session = subscribed(
        Config {
            max_record: 200,
            ..config(V5)
        },
        Connack::default(),
    );
    let bytes = from_controller().encode();
    let received = session.receive(Incoming {
        topic: "usp/agent",
        content_type: Some("usp.msg"),
        response_topic: None,
        payload: &bytes,
    });
    let error = Record::decode_within(&bytes, 200).unwrap_err();
    assert_eq!(
        received,
        Received::Erroneous {
            error,
            reply_to: None
        }
    );
}

fn connect_record(version: MqttVersion) -> Record {
    let topic = "usp/controller".to_owned();
    Record::with(
        agent(),
        controller(),
        RecordBody::MqttConnect { version, topic },
    )
}

fn take(session: &mut Session, topic: &str, content: Option<&str>, record: &Record) -> Received {
    session.receive(Incoming {
        topic,
        content_type: content,
        response_topic: None,
        payload: &record.encode(),
    })
}

#[test]
fn a_connect_record_of_another_version_is_a_mismatch_and_its_topic_the_way_back() {
    for (version, other, topic, content, reply_to) in [
        (V5, V3, "usp/agent", Some("usp.msg"), "usp/controller"),
        (V3, V5, "usp/agent/reply-to=x", None, "x"),
        (V3, V5, "usp/agent", None, "usp/controller"),
        (V3, V3, "usp/agent", None, "usp/controller"),
    ] {
        let mut session = subscribed(config(version), Connack::default());
        let record = connect_record(other);
        assert_eq!(
            take(&mut session, topic, content, &record),
            Received::Mismatch {
                record,
                reply_to: Some(reply_to.into())
            }
        );
    }
    let mut session = subscribed(config(V5), Connack::default());
    let fits = take(
        &mut session,
        "usp/agent",
        Some("usp.msg"),
        &connect_record(V5),
    );
    assert!(matches!(fits, Received::Record { .. }));
}

#[test]
fn a_publish_of_another_version_is_a_mismatch() {
    let mut v5 = subscribed(config(V5), Connack::default());
    assert_eq!(
        take(
            &mut v5,
            "usp/agent/reply-to=usp%2Fcontroller",
            None,
            &from_controller()
        ),
        Received::Mismatch {
            record: from_controller(),
            reply_to: Some("usp/controller".into())
        }
    );
    let mut v3 = subscribed(config(V3), Connack::default());
    assert_eq!(
        take(&mut v3, "usp/agent", None, &from_controller()),
        Received::Mismatch {
            record: from_controller(),
            reply_to: None
        }
    );
    assert_eq!(v3.stats().mismatches, 1);
}

#[test]
fn after_a_mismatch_one_answer_goes_out_and_nothing_more_until_the_version_fits() {
    let mut session = subscribed(config(V5), Connack::default());
    take(
        &mut session,
        "usp/agent/reply-to=c",
        None,
        &from_controller(),
    );
    assert!(publish(&mut session, "c", &record()).is_ok(), "the answer");
    assert_eq!(
        publish(&mut session, "c", &record()),
        Err(SendError::Mismatch)
    );
    let another = Record::no_session("self::other".parse().unwrap(), agent(), vec![1]);
    assert!(
        publish(&mut session, "c", &another).is_ok(),
        "others are not concerned"
    );
    take(
        &mut session,
        "usp/agent",
        Some("usp.msg"),
        &connect_record(V5),
    );
    assert!(publish(&mut session, "c", &record()).is_ok());
    assert!(publish(&mut session, "c", &record()).is_ok());
}

#[test]
fn the_memory_of_mismatches_is_bounded() {
    let mut session = subscribed(config(V5), Connack::default());
    let name = |number: usize| format!("self::n{number}").parse::<EndpointId>().unwrap();
    for number in 0..MAX_MISMATCHED + 2 {
        let record = Record::no_session(agent(), name(number), vec![1]);
        take(&mut session, "usp/agent/reply-to=c", None, &record);
    }
    let mut refused = |number| {
        let record = Record::no_session(name(number), agent(), vec![1]);
        publish(&mut session, "c", &record).unwrap();
        publish(&mut session, "c", &record) == Err(SendError::Mismatch)
    };
    assert!(refused(MAX_MISMATCHED - 1) && !refused(MAX_MISMATCHED));
    assert_eq!(session.stats().mismatches, MAX_MISMATCHED as u64 + 2);
}

#[test]
fn changed_topics_are_subscribed_to_and_dropped_ones_unsubscribed_from() {
    let mut configured = config(V5);
    configured.subscriptions = vec![at("a"), at("b")];
    let mut session = subscribed(configured, telling(&["told"]));
    assert_eq!(
        session.reconfigure(vec![at("b"), at("c")], Some("usp/new".into())),
        Ok(Changes {
            unsubscribe: vec!["a".into(), "usp/agent".into()],
            subscribe: vec![at("c"), at("usp/new")],
        })
    );
    session.subscribed(&[true, true]).unwrap();
    assert_eq!(session.reply_to(), Some("usp/new"));
    let same = session.reconfigure(vec![at("b"), at("c")], Some("usp/new".into()));
    assert_eq!(same, Ok(Changes::default()));
    let lower = Subscription {
        filter: "b".into(),
        qos: Qos::AtMostOnce,
    };
    assert_eq!(
        session.reconfigure(vec![lower.clone(), at("c")], Some("usp/new".into())),
        Ok(Changes {
            unsubscribe: vec![],
            subscribe: vec![lower]
        })
    );
    session.subscribed(&[true]).unwrap();
    let fewer = session.reconfigure(vec![], None).unwrap();
    let mut dropped = fewer.unsubscribe;
    dropped.sort();
    assert_eq!(dropped, ["b", "c", "usp/new"]);
    assert_eq!(
        (fewer.subscribe, session.reply_to()),
        (vec![], Some("told"))
    );
}

#[test]
fn taking_all_topics_away_stops_the_client() {
    let mut session = subscribed(config(V5), Connack::default());
    assert_eq!(
        session.reconfigure(vec![], None),
        Err(Stop::NothingToSubscribe)
    );
}

#[test]
fn a_new_connection_begins_without_the_old_subscriptions() {
    let mut session = subscribed(config(V5), telling(&["told"]));
    assert!(publish(&mut session, "t", &record()).is_ok());
    session.connect();
    assert_eq!(
        (publish(&mut session, "t", &record()), session.reply_to()),
        (Err(SendError::NotSubscribed), None)
    );
    assert_eq!(
        filters(&session.connected(Connack::default()).unwrap().subscribe),
        ["usp/agent"]
    );
}

proptest! {
    #[test]
    fn what_one_version_sends_the_same_version_reads(topic in "[a-z:/._-]{1,20}", own in "[a-z:/._=-]{1,20}") {
        for version in BOTH {
            let mut sender = subscribed(Config { response_topic: Some(own.clone()), ..config(version) }, Connack::default());
            let publish = publish(&mut sender, &topic, &record()).unwrap();
            let mut receiver = subscribed(config(version), Connack::default());
            let received = receiver.receive(Incoming {
                topic: &publish.topic,
                content_type: publish.content_type,
                response_topic: publish.response_topic.as_deref(),
                payload: &publish.payload,
            });
            prop_assert_eq!(received, Received::Record { record: record(), reply_to: Some(own.clone()) });
        }
    }
}

#[test]
fn each_endpoint_is_heard_over_its_own_topic_only() {
    for version in BOTH {
        let senders: Senders = "usp/in/{endpoint-id}".parse().unwrap();
        let mut configured = Config::new(version, controller());
        configured.senders = Some(senders.clone());
        let mut session = Session::new(configured);
        session.connect();
        let connected = session.connected(Connack::default()).unwrap();
        let filter = if version == V5 {
            "usp/in/+"
        } else {
            "usp/in/+/#"
        };
        assert_eq!(filters(&connected.subscribe), [filter]);
        session.subscribed(&[true]).unwrap();

        let own = senders.destination(&agent());
        let request = Record::no_session(agent(), controller(), b"request".to_vec());
        let published = publish(&mut session, "usp/agent", &request).unwrap();
        let payload = Record::no_session(controller(), agent(), b"answer".to_vec()).encode();
        let mut over = |topic: &str| {
            let in_topic = format!("{topic}/reply-to=usp%2Fagent");
            session.receive(Incoming {
                topic: if version == V5 { topic } else { &in_topic },
                content_type: (version == V5).then_some("usp.msg"),
                response_topic: (version == V5).then_some("usp/agent"),
                payload: &payload,
            })
        };
        assert!(matches!(over(&own), Received::Record { .. }));
        for another in ["usp/in/os::012345-another", "usp/in", "usp/in/x/y"] {
            assert_eq!(over(another), Received::Forged, "{another}");
        }
        if version == V5 {
            assert_eq!(published.response_topic, Some(own));
        } else {
            let way_back = own.replace('/', "%2F");
            assert_eq!(published.topic, format!("usp/agent/reply-to={way_back}"));
        }
        assert_eq!(session.stats().forged, 3);
    }
}
