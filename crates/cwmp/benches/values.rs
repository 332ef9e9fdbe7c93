//! CPU time of the SOAP codec and of sessions: an answer with 1,000 parameters written and read, an Inform read, and a whole session of
//! Inform, empty POST and end on either side. No socket, no store.
//!
//! `cargo bench -p homefleet-cwmp --bench values`
#![allow(clippy::print_stdout, clippy::unwrap_used)] // a bench prints its figures

use std::time::Instant;

use homefleet_cwmp::{
    Envelope, Event, EventCode, Header, Limits, Namespace, ParameterValues, ValueType,
    acs::{self, AcsEvent},
    cpe::{self, Cpe, InformContent, Reply, Saved},
    message::{DeviceId, GetParameterNamesResponse, GetParameterValuesResponse, Inform},
};

fn main() {
    let limits = Limits::default();
    let values = GetParameterValuesResponse {
        values: parameters(1_000),
    };
    measure("1,000 values", values, &limits, 1_000);
    let infos = parameters(1_000);
    let infos = GetParameterNamesResponse {
        infos: infos.iter().map(|(name, _)| (name, true)).collect(),
    };
    measure("1,000 names", infos, &limits, 1_000);
    measure("Inform", inform(), &limits, 20_000);
    sessions(20_000);
}

fn parameters(count: usize) -> ParameterValues {
    (0..count)
        .map(|number| {
            let object = number / 10 + 1;
            let name = match number % 10 {
                0 => format!("InternetGatewayDevice.LANDevice.1.Hosts.Host.{object}.IPAddress"),
                other => {
                    format!(
                        "InternetGatewayDevice.WANDevice.{object}.WANConnectionDevice.1.P{other}"
                    )
                }
            };
            match number % 3 {
                0 => (
                    name,
                    ValueType::String,
                    format!("192.168.1.{}", number % 250),
                ),
                1 => (name, ValueType::UnsignedInt, number.to_string()),
                _ => (name, ValueType::Boolean, "1".to_owned()),
            }
        })
        .collect()
}

fn inform() -> Inform {
    Inform {
        device: DeviceId {
            manufacturer: "Example".to_owned(),
            oui: "00D09E".to_owned(),
            product_class: "Gateway".to_owned(),
            serial_number: "S-1".to_owned(),
        },
        events: vec![Event::new(EventCode::Periodic)],
        max_envelopes: 1,
        values: parameters(9),
        ..Inform::default()
    }
}

fn measure(what: &str, message: impl Into<homefleet_cwmp::Message>, limits: &Limits, rounds: u64) {
    let envelope = Envelope::new(Namespace::V1_2, Header::with_id("1"), message);
    let bytes = envelope.encode();
    let busy = cpu();
    for _ in 0..rounds {
        assert_eq!(envelope.encode().len(), bytes.len());
    }
    let write = (cpu() - busy) / rounds;
    let busy = cpu();
    for _ in 0..rounds {
        assert!(Envelope::decode(&bytes, limits).is_ok());
    }
    let read = (cpu() - busy) / rounds;
    let size = bytes.len();
    println!("{what:>14}: {size:>7} bytes, write {write:>7} ns, read {read:>7} ns");
}

/// Inform, empty POST, 204: what each side costs.
fn sessions(rounds: u64) {
    #[allow(clippy::disallowed_methods)] // any start of virtual time will do
    let now = Instant::now();
    let mut response = Vec::new();
    let post = Envelope::new(Namespace::V1_2, Header::with_id("1"), inform()).encode();
    let busy = cpu();
    for _ in 0..rounds {
        let mut session = acs::Session::new(now, acs::Config::default());
        session.handle_input(now, &post).unwrap();
        assert!(matches!(
            session.poll_event(),
            Some(AcsEvent::Inform { .. })
        ));
        session.accept(now).unwrap();
        response = session.poll_transmit().unwrap().body;
        session.handle_input(now, b"").unwrap();
        assert!(matches!(session.poll_event(), Some(AcsEvent::Ready)));
        session.finish(now).unwrap();
        assert_eq!(session.poll_transmit().unwrap().status, 204);
    }
    let acs = (cpu() - busy) / rounds;
    let mut device = Cpe::new(now, cpe::Config::default(), Saved::default(), [1; 32]);
    let content = InformContent {
        device: inform().device,
        values: parameters(9),
        ..InformContent::default()
    };
    let busy = cpu();
    for _ in 0..rounds {
        device.raise(Event::new(EventCode::Periodic));
        device.begin(now, content.clone()).unwrap();
        while device.poll_transmit().is_some() {}
        device.handle_reply(now, Reply::Envelope(&response));
        while device.poll_transmit().is_some() {}
        device.handle_reply(now, Reply::Empty);
        while device.poll_transmit().is_some() {}
        while device.poll_event().is_some() {}
        assert!(!device.is_in_session());
    }
    let cpe = (cpu() - busy) / rounds;
    println!("{:>14}: ACS {acs:>7} ns, CPE {cpe:>7} ns", "session");
}

/// Nanoseconds this thread has had a CPU: what other programs do at the same time does not count.
fn cpu() -> u64 {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
