//! Telemetry in virtual time: what is told when, in which form, and how the data model and the configuration say so.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use homefleet_agent::{
    Config,
    config::ConfigError,
    engine::Settings,
    store::Store,
    telemetry::{Encoding, Envelope, Receiver},
};
use homefleet_net::dtls::Versions;
use homefleet_notif::{Generation, publisher::Dropped};
use homefleet_usp::message;

use crate::bench::{Bench, settings};

const SECOND: Duration = Duration::from_secs(1);
const OBJECT: &str = "Device.X_HOMEFLEET_Telemetry.";

/// A configuration file with this `[telemetry]`.
fn parse(telemetry: &str) -> Result<Config, ConfigError> {
    let text = format!(
        "version = 1\nendpoint_id = \"self::a\"\n[trust]\nca = \"ca.pem\"\ncertificate = \"a.pem\"\nkey = \"a.key\"\n{telemetry}"
    );
    Config::parse(&text, Path::new("/etc/agent.toml"), |_| None)
}

fn with(telemetry: &str) -> Settings {
    Settings {
        telemetry: parse(telemetry).unwrap().telemetry,
        ..settings()
    }
}

fn started(telemetry: &str) -> Bench {
    let mut bench = Bench::started(with(telemetry), Store::in_memory().unwrap());
    bench.answer_notifications();
    bench.notifications.clear();
    bench
}

const RECEIVER: &str =
    "[[telemetry.receiver]]\nname = \"c\"\naddress = \"192.0.2.9\"\nport = 4739\n";

fn periodic(paths: &str, more: &str) -> String {
    format!(
        "{RECEIVER}[[telemetry.subscription]]\nname = \"s\"\nreceiver = \"c\"\npaths = [{paths}]\n{more}"
    )
}

impl Bench {
    /// Messages published since the last call, as text.
    fn texts(&mut self) -> Vec<String> {
        let published = std::mem::take(&mut self.published);
        let texts = published.into_iter();
        texts
            .map(|(_, message)| String::from_utf8(message).unwrap())
            .collect()
    }

    /// Their contents: what is in `contents` of the envelope.
    fn contents(&mut self) -> Vec<String> {
        let texts = self.texts();
        let contents = texts.iter().map(|text| {
            let (_, rest) = text.split_once("\"contents\":").unwrap();
            rest.strip_suffix("}}").unwrap().to_owned()
        });
        contents.collect()
    }

    fn serving(&self) -> &[(String, Receiver)] {
        self.receivers.last().map_or(&[], Vec::as_slice)
    }
}

fn update(data: &str) -> String {
    format!("{{\"ietf-yang-push:push-update\":{{\"id\":1,\"datastore-contents\":{data}}}}}")
}

#[test]
fn a_periodic_subscription_begins_with_its_start_and_tells_every_period() {
    let mut bench = started(&periodic("\"Device.X_Test.Counter\"", "period = 2"));
    bench.system.lock().unwrap().counter = 5;
    bench.pass(Duration::ZERO);
    assert_eq!(
        bench.texts(),
        [
            "{\"ietf-yp-notification:envelope\":{\"event-time\":\"2027-01-15T08:00:00Z\",\"sequence-number\":0,\"contents\":\
             {\"ietf-subscribed-notifications:subscription-started\":{\"id\":1,\
             \"ietf-yang-push:datastore\":\"ietf-datastores:operational\",\
             \"ietf-yang-push:datastore-xpath-filter\":\"/homefleet-tr181:Device/X_Test/Counter\",\
             \"ietf-yang-push:periodic\":{\"period\":200}}}}}",
            "{\"ietf-yp-notification:envelope\":{\"event-time\":\"2027-01-15T08:00:00Z\",\"sequence-number\":1,\"contents\":\
             {\"ietf-yang-push:push-update\":{\"id\":1,\"datastore-contents\":\
             {\"homefleet-tr181:Device\":{\"X_Test\":{\"Counter\":5}}}}}}}",
        ]
    );
    bench.system.lock().unwrap().counter = 6;
    bench.pass(SECOND);
    assert!(bench.texts().is_empty());
    bench.pass(5 * SECOND);
    let contents = bench.contents();
    let six = update("{\"homefleet-tr181:Device\":{\"X_Test\":{\"Counter\":6}}}");
    assert_eq!(contents, [six.clone(), six.clone(), six]);
}

#[test]
fn an_anchor_says_when_whoever_starts_when() {
    // The bench's clock starts at 08:00:00.
    let anchor = "period = 10\nanchor_time = \"2020-01-01T00:00:03Z\"";
    let mut bench = started(&periodic("\"Device.X_Test.Counter\"", anchor));
    bench.published.clear();
    bench.pass(Duration::from_millis(2999));
    assert!(bench.published.is_empty());
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.published.len(), 1);
    bench.pass(10 * SECOND);
    assert_eq!(bench.published.len(), 2);
    assert_eq!(
        bench.wall(),
        UNIX_EPOCH + Duration::from_secs(1_800_000_013)
    );
}

#[test]
fn wildcards_and_expressions_choose_rows_and_tables_are_lists() {
    let mut bench = started(&periodic(
        "\"Device.X_Test.Item.*.Stats.\", \"Device.X_Test.Item.[Name==\\\"b\\\"].Level\"",
        "period = 1",
    ));
    for name in ["a", "b"] {
        bench.add("Device.X_Test.Item.", &[("Name", name)]);
    }
    bench.pass(Duration::ZERO);
    bench.published.clear();
    bench.pass(SECOND);
    let stats = "\"Stats\":{\"Hits\":0,\"Limit\":0}";
    assert_eq!(
        bench.contents(),
        [update(&format!(
            "{{\"homefleet-tr181:Device\":{{\"X_Test\":{{\"Item\":[{{\"index\":1,{stats}}},{{\"index\":2,\"Level\":5,{stats}}}]}}}}}}"
        ))]
    );
}

#[test]
fn secrets_are_not_told() {
    let mut bench = started(&periodic("\"Device.X_Test.\"", "period = 1"));
    bench.set("Device.X_Test.", "Password", "hunter2");
    bench.pass(2 * SECOND);
    let texts = bench.texts();
    assert!(texts.len() > 2 && texts.iter().all(|text| !text.contains("hunter2")));
}

fn on_change(paths: &str, more: &str) -> String {
    periodic(paths, &format!("on_change = true\n{more}"))
}

fn changed(id: u32, edits: &str) -> String {
    format!(
        "{{\"ietf-yang-push:push-change-update\":{{\"id\":1,\"datastore-changes\":{{\"yang-patch\":{{\"patch-id\":\"{id}\",\"edit\":[{edits}]}}}}}}}}"
    )
}

#[test]
fn on_change_everything_is_told_at_the_start_and_then_what_changed() {
    let mut bench = started(&on_change(
        "\"Device.X_Test.Counter\", \"Device.X_Test.Label\"",
        "dampening = 3",
    ));
    bench.pass(Duration::ZERO);
    let contents = bench.contents();
    assert!(contents[0].contains(
        "\"ietf-yang-push:on-change\":{\"dampening-period\":300,\"sync-on-start\":true}"
    ));
    assert_eq!(
        contents[1],
        update("{\"homefleet-tr181:Device\":{\"X_Test\":{\"Counter\":0,\"Label\":\"\"}}}")
    );
    bench.pass(5 * SECOND);
    assert!(bench.published.is_empty());
    // Set by a Controller: at once.
    bench.set("Device.X_Test.", "Label", "new");
    let edit = |number: u32, name: &str, value: &str| {
        format!(
            "{{\"edit-id\":\"{number}\",\"operation\":\"replace\",\"target\":\"/homefleet-tr181:Device/X_Test/{name}\",\"value\":{{\"homefleet-tr181:{name}\":{value}}}}}"
        )
    };
    assert_eq!(bench.contents(), [changed(2, &edit(1, "Label", "\"new\""))]);
    // Then the period is waited for, and the latest values are told.
    bench.set("Device.X_Test.", "Label", "newer");
    bench.set("Device.X_Test.", "Label", "newest");
    bench.system.lock().unwrap().counter = 9;
    bench.pass(Duration::from_millis(2900));
    assert!(bench.published.is_empty());
    bench.pass(Duration::from_millis(100));
    let both = [edit(1, "Counter", "9"), edit(2, "Label", "\"newest\"")].join(",");
    assert_eq!(bench.contents(), [changed(3, &both)]);
    bench.pass(10 * SECOND);
    assert!(
        bench.published.is_empty(),
        "what stays the same is not told"
    );
}

#[test]
fn on_change_rows_that_come_and_go_are_told_and_those_that_came_and_went_are_not() {
    let mut bench = started(&on_change(
        "\"Device.X_Test.Row.\"",
        "dampening = 1\nsync_on_start = false",
    ));
    bench.pass(Duration::ZERO);
    assert_eq!(bench.contents().len(), 1, "the start alone");
    bench.system.lock().unwrap().rows = vec!["a".into()];
    bench.pass(2 * SECOND);
    assert_eq!(
        bench.contents(),
        [changed(
            1,
            "{\"edit-id\":\"1\",\"operation\":\"create\",\"target\":\"/homefleet-tr181:Device/X_Test/Row=1\",\
             \"value\":{\"homefleet-tr181:Row\":[{\"index\":1,\"Name\":\"a\",\"Note\":\"\"}]}}"
        )]
    );
    bench.set("Device.X_Test.Row.1.", "Note", "x");
    let _note = bench.contents();
    bench.system.lock().unwrap().rows = vec!["b".into()];
    bench.engine.handle_wake(bench.now);
    bench.system.lock().unwrap().rows = Vec::new();
    bench.engine.handle_wake(bench.now);
    bench.drain();
    bench.pass(2 * SECOND);
    assert_eq!(
        bench.contents(),
        [changed(
            3,
            "{\"edit-id\":\"1\",\"operation\":\"delete\",\"target\":\"/homefleet-tr181:Device/X_Test/Row=1\"}"
        )]
    );
}

#[test]
fn on_change_what_changes_all_the_time_is_not_told() {
    let mut bench = started(&on_change("\"Device.X_Test.\"", "sync_on_start = false"));
    bench.pass(SECOND);
    bench.published.clear();
    bench.system.lock().unwrap().clock = 99;
    bench.pass(5 * SECOND);
    assert!(bench.published.is_empty());
}

#[test]
fn nobody_looks_at_the_system_for_telemetry_when_there_is_none() {
    let mut bench = started(RECEIVER);
    let before = bench.system.lock().unwrap().refreshed;
    bench.pass(60 * SECOND);
    assert_eq!(bench.system.lock().unwrap().refreshed, before);
}

#[test]
fn a_receiver_chooses_encoding_and_envelope() {
    for (lines, first) in [
        ("encoding = \"cbor\"", b"\xa1\x78\x1dietf-yp-notification:envelope".as_slice()),
        (
            "encoding = \"xml\"",
            b"<envelope xmlns=\"urn:ietf:params:xml:ns:yang:ietf-yp-notification\">",
        ),
        (
            "encoding = \"xml\"\nenvelope = \"ietf-notification\"",
            b"<notification xmlns=\"urn:ietf:params:xml:ns:netconf:notification:1.0\"><eventTime>2027-",
        ),
        (
            "envelope = \"ietf-notification\"",
            b"{\"ietf-notification:notification\":{\"eventTime\":\"2027-",
        ),
    ] {
        let config = periodic("\"Device.X_Test.Counter\"", "");
        let config = config.replace("port = 4739\n", &format!("port = 4739\n{lines}\n"));
        let mut bench = started(&config);
        bench.pass(Duration::ZERO);
        assert_eq!(bench.published.len(), 2, "{lines}");
        for (_, message) in &bench.published {
            assert!(message.starts_with(first), "{}", String::from_utf8_lossy(message));
        }
    }
}

#[test]
fn the_configuration_file_becomes_receivers() {
    let bench = started(&format!(
        "[telemetry]\npublisher_id = 9\n{RECEIVER}security = \"dtls1.2\"\ngeneration = \"draft-03\"\nencoding = \"xml\"\n\
         max_segment_size = 600\ndscp = 0\nmessages_per_second = 0\nbytes_per_second = 0\nmax_waiting = 7\n\
         when_full = \"drop-newest\"\nsegmentation = true\nlocal_port = 5000\nlocal_address = \"192.0.2.1\""
    ));
    let [(row, receiver)] = bench.serving() else {
        panic!("{:?}", bench.receivers)
    };
    assert_eq!(row, "Device.X_HOMEFLEET_Telemetry.Receiver.1");
    assert_eq!(
        (receiver.address.as_str(), receiver.port),
        ("192.0.2.9", 4739)
    );
    assert_eq!(receiver.dtls, Some(Versions::Dtls12));
    assert_eq!(receiver.generation, Generation::Draft03);
    assert_eq!(
        (receiver.encoding, receiver.envelope),
        (Encoding::Xml, Envelope::YpNotification)
    );
    assert_eq!(
        (receiver.max_segment_size, receiver.dscp, receiver.pacing),
        (600, 0, None)
    );
    assert_eq!(
        (receiver.max_waiting, receiver.dropped),
        (7, Dropped::Newest)
    );
    assert_eq!(
        (receiver.local_port, receiver.publisher_id),
        (Some(5000), 9)
    );
    assert!(matches!(
        receiver.framing,
        homefleet_notif::publisher::Framing::Framed { .. }
    ));
}

#[test]
fn without_a_word_it_is_dtls_1_3_of_26_with_a_pace() {
    let bench = started(RECEIVER);
    let (_, receiver) = &bench.serving()[0];
    assert_eq!(receiver.dtls, Some(Versions::Dtls13));
    assert_eq!(receiver.generation, Generation::Draft26);
    assert!(receiver.pacing.is_some());
    assert_eq!(receiver.dscp, 16);
}

#[test]
fn a_controller_configures_telemetry_while_the_agent_runs_and_it_lasts() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::started(settings(), Store::open(dir.path()).unwrap());
    bench.answer_notifications();
    assert!(bench.serving().is_empty());
    let receiver = bench.add(
        &format!("{OBJECT}Receiver."),
        &[
            ("Address", "192.0.2.7"),
            ("Port", "4000"),
            ("Enable", "true"),
        ],
    );
    assert_eq!(bench.serving()[0].1.port, 4000);
    let subscription = bench.add(
        &format!("{OBJECT}Subscription."),
        &[
            ("Receiver", receiver.trim_end_matches('.')),
            ("ReferenceList", "Device.X_Test.Counter"),
            ("Period", "1000"),
            ("Enable", "true"),
        ],
    );
    assert_eq!(bench.value(&format!("{subscription}Status")), "Active");
    bench.pass(SECOND);
    assert_eq!(bench.contents().len(), 3, "the start, and two periods");
    assert_eq!(bench.value(&format!("{subscription}EventRecordsSent")), "3");
    // Another period: another stream.
    bench.set(&subscription, "Period", "500");
    bench.pass(Duration::ZERO);
    let contents = bench.contents();
    assert!(
        contents[0].contains("subscription-terminated"),
        "{contents:?}"
    );
    assert!(contents[1].contains("\"period\":50"), "{contents:?}");
    bench.pass(SECOND);
    assert_eq!(bench.contents().len(), 2);
    // Another port: another receiver.
    bench.set(&receiver, "Port", "4001");
    assert_eq!(bench.serving()[0].1.port, 4001);
    let contents = bench.contents();
    assert!(contents[0].contains("subscription-started"), "{contents:?}");
    drop(bench);
    // It is there after a restart.
    let mut bench = Bench::started(settings(), Store::open(dir.path()).unwrap());
    bench.answer_notifications();
    assert_eq!(bench.serving()[0].1.port, 4001);
    bench.pass(SECOND);
    assert!(bench.published.len() >= 3);
    // The subscription ends with its receiver.
    bench.ask(message::delete(false, [receiver.as_str()]));
    assert!(bench.serving().is_empty());
    bench.published.clear();
    bench.pass(5 * SECOND);
    assert!(bench.published.is_empty());
}

#[test]
fn what_cannot_be_followed_is_told_as_misconfigured_and_does_nothing() {
    let mut bench = Bench::new();
    let table = format!("{OBJECT}Receiver.");
    for (name, value) in [
        ("Port", "0"),
        ("Address", ""),
        ("LocalAddress", "here"),
        ("MaxSegmentSize", "100"),
    ] {
        let mut values = vec![
            ("Address", "192.0.2.7"),
            ("Port", "4000"),
            ("Enable", "true"),
        ];
        values.retain(|(known, _)| *known != name);
        values.push((name, value));
        let row = bench.add(&table, &values);
        assert_eq!(
            bench.value(&format!("{row}Status")),
            "Error_Misconfigured",
            "{name}"
        );
    }
    assert!(bench.serving().is_empty());
    let row = bench.add(
        &format!("{OBJECT}Subscription."),
        &[
            ("Receiver", "Device.X_HOMEFLEET_Telemetry.Receiver.1"),
            ("ReferenceList", "Device.X_Test."),
            ("Enable", "true"),
        ],
    );
    assert_eq!(bench.value(&format!("{row}Status")), "Error_Misconfigured");
    bench.pass(20 * SECOND);
    assert!(bench.published.is_empty());
}

#[test]
fn telemetry_as_a_whole_can_be_switched_off() {
    let mut bench = started(&periodic("\"Device.X_Test.Counter\"", "period = 1"));
    bench.set(OBJECT, "Enable", "false");
    assert!(bench.serving().is_empty());
    bench.published.clear();
    bench.pass(5 * SECOND);
    assert!(bench.published.is_empty());
    assert_eq!(
        bench.value(&format!("{OBJECT}Receiver.1.Status")),
        "Disabled"
    );
}

#[test]
fn what_a_controller_changed_stays_until_the_file_says_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let start = |telemetry: &str| {
        let mut bench = Bench::started(with(telemetry), Store::open(dir.path()).unwrap());
        bench.answer_notifications();
        bench
    };
    let file = periodic("\"Device.X_Test.Counter\"", "period = 1");
    let mut bench = start(&file);
    bench.set(&format!("{OBJECT}Receiver.1."), "Port", "4001");
    drop(bench);
    let bench = start(&file);
    assert_eq!(bench.serving()[0].1.port, 4001);
    drop(bench);
    let bench = start(&file.replace("4739", "4740"));
    assert_eq!(bench.serving()[0].1.port, 4740);
    assert_eq!(bench.serving().len(), 1);
    drop(bench);
    let mut bench = start("");
    assert!(bench.serving().is_empty());
    assert_eq!(
        bench.value(&format!("{OBJECT}SubscriptionNumberOfEntries")),
        "0"
    );
}

#[test]
fn nothing_is_published_before_the_time_is_known_or_given_up() {
    let settings = Settings {
        wait_for_time: Duration::from_secs(60),
        ..with(&periodic("\"Device.X_Test.Counter\"", "period = 1"))
    };
    let mut bench = Bench::started(settings, Store::in_memory().unwrap());
    bench.pass(30 * SECOND);
    assert!(bench.receivers.is_empty() && bench.published.is_empty());
    bench.engine.handle_clock(bench.now, true);
    bench.drain();
    assert_eq!(bench.serving().len(), 1);
    bench.pass(SECOND);
    assert_eq!(bench.published.len(), 3);
}

#[test]
fn json_by_the_yang_names_does_the_same_and_tables_without_a_number_mean_every_row() {
    let dir = tempfile::tempdir().unwrap();
    let json = r#"{"ietf-subscribed-notifications:subscriptions": {
      "subscription": [{"id": 40, "encoding": "encode-json",
        "ietf-yang-push:datastore-xpath-filter": "/homefleet-tr181:Device/X_Test/Item/Level",
        "ietf-yang-push:periodic": {"period": 100},
        "receivers": {"receiver": [{"name": "r", "ietf-subscribed-notif-receivers:receiver-instance-ref": "c"}]}}],
      "ietf-subscribed-notif-receivers:receiver-instances": {"receiver-instance": [{"name": "c",
        "ietf-udp-notif-transport:udp-notif-receiver": {"remote-address": "192.0.2.9", "remote-port": 4739, "dtls": {}}}]}}}"#;
    let file = dir.path().join("telemetry.json");
    std::fs::write(&file, json).unwrap();
    let mut bench = started(&format!(
        "[telemetry]\nyang = {:?}\n",
        file.to_str().unwrap()
    ));
    assert_eq!(bench.serving()[0].1.dtls, Some(Versions::Dtls13));
    bench.add("Device.X_Test.Item.", &[("Name", "a")]);
    bench.pass(Duration::ZERO);
    bench.published.clear();
    bench.pass(SECOND);
    let contents = bench.contents();
    assert_eq!(
        contents,
        [update(
            "{\"homefleet-tr181:Device\":{\"X_Test\":{\"Item\":[{\"index\":1,\"Level\":5}]}}}"
        )
        .replace("\"id\":1", "\"id\":40")]
    );
    std::fs::write(&file, "{}").unwrap();
    let error = parse(&format!(
        "[telemetry]\nyang = {:?}\n",
        file.to_str().unwrap()
    ))
    .unwrap_err();
    assert!(error.to_string().contains("telemetry.json"), "{error}");
}

#[test]
fn what_the_file_says_wrong_is_refused_with_its_reason() {
    let subscription = |lines: &str| periodic("\"Device.X_Test.\"", lines);
    for (text, what) in [
        (RECEIVER.replace("4739", "0"), "a port that is not 0"),
        (
            RECEIVER.replace("name = \"c\"", "name = \"\""),
            "1 to 64 characters",
        ),
        (format!("{RECEIVER}{RECEIVER}"), "twice"),
        (format!("{RECEIVER}generation = \"draft-99\""), "draft-99"),
        (
            format!("{RECEIVER}generation = \"pub-channel\""),
            "pub-channel",
        ),
        (format!("{RECEIVER}max_segment_size = 100"), "at least 384"),
        (format!("{RECEIVER}dscp = 64"), "0 to 63"),
        (format!("{RECEIVER}max_waiting = 0"), "1 to 65536"),
        (format!("{RECEIVER}security = \"tls\""), "unknown variant"),
        (format!("{RECEIVER}color = 1"), "unknown field"),
        (
            subscription("").replace("receiver = \"c\"", "receiver = \"d\""),
            "no receiver \"d\"",
        ),
        (
            subscription("").replace("Device.X_Test.", "Device..x"),
            "Device..x",
        ),
        (
            subscription("").replace("\"Device.X_Test.\"", ""),
            "1 to 32 paths",
        ),
        (subscription("period = 0.01"), "at least 0.1"),
        (subscription("period = inf"), "period is"),
        (subscription("anchor_time = \"noon\""), "anchor_time"),
        (subscription("dampening = 1"), "on_change"),
        (subscription("on_change = true\nperiod = 1"), "no period"),
        (
            subscription("on_change = true\ndampening = -1"),
            "dampening is",
        ),
    ] {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(what), "{text}: {error}");
    }
}

#[test]
fn more_than_one_message_takes_is_told_in_several() {
    let mut bench = started(&periodic("\"Device.X_Test.Row.\"", "period = 1000"));
    // Rows of some 150 bytes.
    bench.system.lock().unwrap().rows = (0..3000).map(|number| format!("row {number}")).collect();
    bench.pass(Duration::ZERO);
    let texts = bench.texts();
    let updates: Vec<_> = texts
        .iter()
        .filter(|text| text.contains("push-update"))
        .collect();
    let rows: usize = updates
        .iter()
        .map(|text| text.matches("\"index\":").count())
        .sum();
    assert_eq!(rows, 3000);
    assert!(updates.len() > 1);
    assert!(updates.iter().all(|text| text.len() <= 73_728));
}
