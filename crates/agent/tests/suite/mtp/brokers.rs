//! Trusted Brokers on the agent's side (R-SEC.4a, R-SEC.26).

use homefleet_agent::{
    engine::{CertificateInfo, Source},
    store::Store,
};
use homefleet_trust::Basis;
use homefleet_usp::{
    Message,
    message::{Body, get},
};

use crate::bench::{Bench, CONTROLLER, FULL_ACCESS, STRANGER, route, settings, stomp};
use crate::mtp::{add_stomp, peer};

const BROKER: [u8; 32] = [0xBB; 32];

/// An agent that trusts a broker, and what comes through it.
fn trusting() -> (Bench, Source) {
    let mut settings = settings();
    settings.brokers = vec![CertificateInfo {
        serial: "0B".into(),
        issuer: "CN=Broker".into(),
        sha256: BROKER,
        der: b"the broker".to_vec(),
    }];
    let mut bench = Bench::started(settings, Store::in_memory().unwrap());
    bench.answer_notifications();
    let name = add_stomp(&mut bench);
    let channel = bench.up(stomp(&name, "/queue/agent"));
    let mut peer = peer(Basis::TrustedBroker);
    peer.fingerprint = BROKER;
    let source = Source {
        peer: Some(peer),
        channel: Some(channel),
        reply_to: Some(route(&format!("stomp:{name}/%2Fqueue%2Fx"))),
    };
    (bench, source)
}

fn ask(bench: &mut Bench, from: &str, source: &Source) -> Body {
    bench.answers.clear();
    let id = format!("b{}", bench.engine.stats().records);
    let message = Message::request(id, get(["Device.X_Test.Label"], 0));
    bench.message_by(from, &message, source.clone());
    assert_eq!(bench.answers.len(), 1);
    bench.answers.remove(0).message.body
}

#[test]
fn r_sec_26_a_trusted_broker_vouches_for_a_controller_that_is_known() {
    let (mut bench, source) = trusting();
    assert!(matches!(
        ask(&mut bench, CONTROLLER, &source),
        Body::Response(_)
    ));
}

#[test]
fn r_sec_4a_the_broker_of_the_file_is_a_credential_for_brokers() {
    let (mut bench, _) = trusting();
    let credential = "Device.LocalAgent.ControllerTrust.Credential.2.";
    assert_eq!(
        bench.value(&format!("{credential}AllowedUses")),
        "MTP-and-broker"
    );
    assert_eq!(
        bench.trusted.last().unwrap().brokers,
        [b"the broker".to_vec()]
    );
    assert_eq!(
        bench.trusted.last().unwrap().anchors,
        [b"the test CA".to_vec()]
    );
}

#[test]
fn r_sec_26_a_broker_that_is_trusted_no_more_vouches_for_nobody() {
    let (mut bench, source) = trusting();
    bench.set(
        "Device.LocalAgent.ControllerTrust.Credential.2.",
        "Enable",
        "false",
    );
    assert!(bench.trusted.last().unwrap().brokers.is_empty());
    let Body::Error(error) = ask(&mut bench, CONTROLLER, &source) else {
        panic!()
    };
    assert_eq!(error.err_code, 7006);
}

#[test]
fn r_sec_26a_a_broker_gives_the_role_of_its_credential_to_who_it_vouches_for() {
    let (mut bench, source) = trusting();
    // Somebody unknown is entered as untrusted, which permits nothing.
    let Body::Error(error) = ask(&mut bench, STRANGER, &source) else {
        panic!()
    };
    assert_eq!(error.err_code, 7006);
    let credential = "Device.LocalAgent.ControllerTrust.Credential.2.";
    bench.set(credential, "Role", FULL_ACCESS);
    assert!(matches!(
        ask(&mut bench, STRANGER, &source),
        Body::Response(_)
    ));
    assert_eq!(
        bench.value("Device.LocalAgent.Controller.2.InheritedRole"),
        FULL_ACCESS
    );
}

#[test]
fn nothing_is_told_through_a_broker_that_is_not_trusted() {
    let (mut bench, source) = trusting();
    let name = "Device.STOMP.Connection.1";
    bench.set("Device.LocalAgent.Controller.1.MTP.1.", "Enable", "false");
    bench.subscribe(
        "ValueChange",
        "Device.X_Test.Label",
        &[("NotifRetry", "true")],
    );
    bench.notifications.clear();
    // The same broker's name, another certificate: of a CA of ours, which vouches for nobody behind it.
    let mut other = stomp(name, "/queue/agent");
    other.identity = Some(std::sync::Arc::new(crate::bench::identity(
        Basis::TrustedCa,
        &[],
    )));
    bench.down(source.channel.unwrap());
    bench.up(other);
    bench.set("Device.X_Test.", "Label", "a");
    assert!(bench.notifications.is_empty());
    assert_eq!(bench.engine.pending(), 1, "it waits for a way that is one");
}
