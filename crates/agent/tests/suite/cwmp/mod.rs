//! The device towards an ACS, in virtual time: the ACS answers what the engine posts.

mod attributes;
mod events;
mod parameters;
mod stun;
mod transfers;

use homefleet_agent::{
    cwmp::{AcsAction, AcsEvent, Answer, CwmpConfig, Root},
    engine::Settings,
    store::Store,
};
use homefleet_cwmp::{
    Envelope, Event, Fault, Header, Limits, Message, Namespace, ParameterValues, Value, ValueType,
    message::{GetParameterNames, GetParameterValues, Inform, InformResponse, SetParameterValues},
};

use crate::bench::{Bench, settings};

pub(crate) const ACS: &str = "http://acs.example.net/acs";

/// The settings of a device with an ACS.
pub(crate) fn with(change: impl FnOnce(&mut CwmpConfig)) -> Settings {
    let mut cwmp = CwmpConfig {
        enabled: true,
        url: ACS.into(),
        username: "device".into(),
        password: Some(homefleet_agent::config::Secret::new("word")),
        periodic: Some(0),
        ..CwmpConfig::default()
    };
    change(&mut cwmp);
    Settings { cwmp, ..settings() }
}

/// A device that has just started, and whose way to the ACS is there.
pub(crate) fn started(settings: Settings, store: Store) -> Bench {
    let mut bench = Bench::started(settings, store);
    ready(&mut bench);
    bench
}

/// A device that has told the ACS about its start.
pub(crate) fn settled() -> Bench {
    let mut bench = started(with(|_| {}), Store::in_memory().unwrap());
    session(&mut bench, []);
    bench
}

/// The way to the ACS is made as the engine wants it.
pub(crate) fn ready(bench: &mut Bench) {
    let connects = |action: &AcsAction| matches!(action, AcsAction::Connect(Some(_)));
    if bench.acs.iter().any(connects) {
        bench.acs.retain(|action| !connects(action));
        happen(bench, AcsEvent::Ready);
    }
}

pub(crate) fn happen(bench: &mut Bench, event: AcsEvent) {
    bench.engine.handle_acs(bench.now, event);
    bench.drain();
}

/// The POST that waits for its answer; empty when the device has nothing to say.
pub(crate) fn posted(bench: &mut Bench) -> Vec<u8> {
    let at = bench
        .acs
        .iter()
        .position(|action| matches!(action, AcsAction::Post(_)));
    let Some(AcsAction::Post(body)) = at.map(|at| bench.acs.remove(at)) else {
        panic!("nothing was posted")
    };
    body
}

/// Whether a POST waits for its answer.
pub(crate) fn speaks(bench: &Bench) -> bool {
    let posts = |action: &AcsAction| matches!(action, AcsAction::Post(_));
    bench.acs.iter().any(posts)
}

pub(crate) fn decode(body: &[u8]) -> Envelope {
    Envelope::decode(body, &Limits::default()).unwrap()
}

/// The ACS sends this.
pub(crate) fn send(bench: &mut Bench, id: Option<String>, message: impl Into<Message>) {
    let header = Header {
        id,
        ..Header::default()
    };
    let body = Envelope::new(Namespace::V1_2, header, message).encode();
    happen(bench, AcsEvent::Reply(Answer::Envelope(body)));
}

/// The Inform that was posted is answered.
pub(crate) fn inform(bench: &mut Bench) -> Inform {
    let envelope = decode(&posted(bench));
    let Message::Inform(inform) = envelope.message else {
        panic!("no Inform: {:?}", envelope.message)
    };
    send(
        bench,
        envelope.header.id,
        InformResponse { max_envelopes: 1 },
    );
    inform
}

/// The ACS asks in the session that goes on; the answer.
pub(crate) fn ask(bench: &mut Bench, request: impl Into<Message>) -> Message {
    send(bench, Some("ask".into()), request);
    let envelope = decode(&posted(bench));
    assert_eq!(envelope.header.id.as_deref(), Some("ask"));
    envelope.message
}

/// The ACS has nothing more to ask.
pub(crate) fn end(bench: &mut Bench) {
    happen(bench, AcsEvent::Reply(Answer::Empty));
}

/// A whole session that the device has begun: its Inform, and the answers to what the ACS asks.
pub(crate) fn session<const N: usize>(
    bench: &mut Bench,
    requests: [Message; N],
) -> (Inform, [Message; N]) {
    let told = inform(bench);
    assert_eq!(posted(bench), b"", "the device has nothing to ask");
    let answers = requests.map(|request| ask(bench, request));
    end(bench);
    (told, answers)
}

/// The ACS calls, and asks this in the session that follows.
pub(crate) fn call(bench: &mut Bench, request: impl Into<Message>) -> Message {
    happen(bench, AcsEvent::Called);
    let (_, [answer]) = session(bench, [request.into()]);
    answer
}

pub(crate) fn codes(inform: &Inform) -> Vec<String> {
    let code = |event: &Event| event.code.to_string();
    inform.events.iter().map(code).collect()
}

pub(crate) fn get(name: &str) -> GetParameterValues {
    GetParameterValues {
        names: vec![name.to_owned()],
    }
}

pub(crate) fn names(path: &str, next_level: bool) -> GetParameterNames {
    GetParameterNames {
        path: path.to_owned(),
        next_level,
    }
}

pub(crate) fn set(values: &[(&str, ValueType, &str)]) -> SetParameterValues {
    let mut list = ParameterValues::new();
    for (name, kind, text) in values {
        list.push(name, Value { kind: *kind, text });
    }
    SetParameterValues {
        values: list,
        parameter_key: "key".into(),
    }
}

pub(crate) fn fault(answer: Message) -> Fault {
    match answer {
        Message::Fault(fault) => fault,
        other => panic!("no fault: {other:?}"),
    }
}

/// The value of a parameter, by a session.
pub(crate) fn value(bench: &mut Bench, name: &str) -> String {
    let Message::GetParameterValuesResponse(response) = call(bench, get(name)) else {
        panic!("{name} is not there")
    };
    response.values.value(name).unwrap().text.to_owned()
}

/// The same device with its data model as `InternetGatewayDevice`.
pub(crate) fn gateway() -> Bench {
    let settings = with(|cwmp| cwmp.root = Root::InternetGatewayDevice);
    let mut bench = started(settings, Store::in_memory().unwrap());
    session(&mut bench, []);
    bench
}
