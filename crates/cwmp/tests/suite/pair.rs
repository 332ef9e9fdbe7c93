//! Both machines talk to each other: every RPC, and any order of things.

use std::collections::VecDeque;

use homefleet_cwmp::{
    acs::{self, AcsEvent, Outcome},
    cpe::{self, Cpe, CpeEvent, HttpFailure, Reply, Saved},
    *,
};
use proptest::prelude::*;

use crate::{
    samples,
    world::{content, cpe_config, seconds, start},
};

/// A device and its server, with what both have seen.
struct Pair {
    now: std::time::Instant,
    cpe: Cpe,
    acs: acs::Session,
    /// Requests that the server still wants to send.
    tasks: VecDeque<Message>,
    hold: bool,
    /// Methods in the order in which their responses arrived, at the device and at the server.
    answered_to_device: Vec<Method>,
    answered_to_server: Vec<Method>,
    informs: Vec<Vec<Event>>,
    ended: u32,
    failed: u32,
}

impl Pair {
    fn new(cpe_version: Version, acs_version: Version) -> Self {
        let now = start();
        let config = cpe::Config {
            version: cpe_version,
            ..cpe_config()
        };
        let acs_config = acs::Config {
            version: acs_version,
            ..acs::Config::default()
        };
        Self {
            now,
            cpe: Cpe::new(now, config, Saved::default(), [1; 32]),
            acs: acs::Session::new(now, acs_config),
            tasks: VecDeque::new(),
            hold: false,
            answered_to_device: Vec::new(),
            answered_to_server: Vec::new(),
            informs: Vec::new(),
            ended: 0,
            failed: 0,
        }
    }

    /// Carries messages back and forth until nothing moves. What `lose` says true for, by its number, does not arrive.
    fn run(&mut self, mut lose: impl FnMut(usize) -> bool) {
        let mut messages = 0;
        loop {
            while let Some(event) = self.cpe.poll_event() {
                self.at_device(event);
            }
            let Some(transmit) = self.cpe.poll_transmit() else {
                return;
            };
            let cpe::Transmit::Post(body) = transmit else {
                continue;
            };
            messages += 1;
            if lose(messages) {
                self.cpe
                    .handle_reply(self.now, Reply::Failed(HttpFailure::Connection));
                continue;
            }
            self.acs.set_hold(self.hold);
            self.acs.handle_input(self.now, &body).unwrap();
            while let Some(event) = self.acs.poll_event() {
                self.at_server(event);
            }
            let reply = self.acs.poll_transmit().unwrap();
            messages += 1;
            let reply = match reply.status {
                _ if lose(messages) => Reply::Failed(HttpFailure::Connection),
                200 => Reply::Envelope(&reply.body),
                204 => Reply::Empty,
                status => Reply::Failed(HttpFailure::Status(status)),
            };
            self.cpe.handle_reply(self.now, reply);
        }
    }

    fn at_device(&mut self, event: CpeEvent) {
        match event {
            CpeEvent::Starting => self.cpe.begin(self.now, content()).unwrap(),
            CpeEvent::Request(request) => {
                let response = samples::response(&request);
                self.cpe.respond(self.now, response).unwrap();
            }
            CpeEvent::Answered { response, .. } => {
                self.answered_to_device.push(response.method().unwrap());
            }
            CpeEvent::Ended => self.ended += 1,
            CpeEvent::Failed { .. } => self.failed += 1,
            CpeEvent::Informed { .. } | CpeEvent::Refused { .. } => {}
        }
    }

    fn at_server(&mut self, event: AcsEvent) {
        match event {
            AcsEvent::Inform { inform, .. } => {
                self.informs.push(inform.events);
                self.acs.accept(self.now).unwrap();
            }
            AcsEvent::Request(request) => {
                let response = samples::response(&request);
                self.acs.respond(self.now, response).unwrap();
            }
            AcsEvent::Ready => match self.tasks.front().cloned() {
                Some(task) => drop(self.acs.send(self.now, task).unwrap()),
                None => self.acs.finish(self.now).unwrap(),
            },
            AcsEvent::Response { message, .. } => {
                self.answered_to_server.push(message.method().unwrap());
                self.tasks.pop_front();
            }
            AcsEvent::Ended { outcome, .. } => {
                assert!(
                    matches!(
                        outcome,
                        Outcome::Done | Outcome::Interrupted | Outcome::TimedOut
                    ),
                    "{outcome:?}"
                );
            }
            AcsEvent::Fault { .. } | AcsEvent::Unreadable { .. } => panic!("{event:?}"),
        }
    }
}

#[test]
fn every_rpc_goes_from_end_to_end_in_every_version_that_has_it() {
    for cpe_version in Version::ALL {
        for acs_version in Version::ALL {
            let version = cpe_version.min(acs_version);
            for hold in [false, true] {
                let mut pair = Pair::new(cpe_version, acs_version);
                pair.hold = hold;
                let known = |message: &Message| message.method().unwrap().since() <= version;
                pair.tasks = samples::to_cpe().into_iter().filter(known).collect();
                let expected: Vec<_> = pair.tasks.iter().filter_map(Message::method).collect();
                let own: Vec<_> = samples::to_acs().into_iter().filter(known).collect();
                for message in &own {
                    pair.cpe.queue(message.clone(), None).unwrap();
                }
                pair.cpe.raise(Event::new(EventCode::Bootstrap));
                for message in &own {
                    pair.cpe.queue(message.clone(), None).unwrap();
                }
                pair.run(|_| false);
                assert_eq!(
                    pair.answered_to_server, expected,
                    "{cpe_version} with {acs_version}"
                );
                let own: Vec<_> = own.iter().filter_map(Message::method).collect();
                assert_eq!(
                    pair.answered_to_device, own,
                    "{cpe_version} with {acs_version}"
                );
                assert_eq!((pair.ended, pair.failed), (1, 0));
                assert_eq!(pair.acs.counters().malformed, 0);
                assert_eq!(pair.cpe.saved(pair.now), Saved::default());
            }
        }
    }
}

proptest! {
    /// Whatever is lost, when, and whatever happens meanwhile: in the end everything was told and answered, in its order.
    #[test]
    fn nothing_is_lost_but_what_may_be(
        steps in prop::collection::vec((0..7_u8, 0..20_usize, 1..200_u64), 1..12),
        hold: bool,
    ) {
        let mut pair = Pair::new(Version::V1_4, Version::V1_4);
        pair.hold = hold;
        let mut tasks = 0;
        let mut transfers = 0;
        let mut reboots = Vec::new();
        for (what, lost, time) in steps {
            match what {
                0 => {
                    let key = reboots.len().to_string();
                    reboots.push(key.clone());
                    pair.cpe.raise(Event::of(Method::Reboot, key));
                }
                1 => {
                    let message = message::TransferComplete::default();
                    transfers += usize::from(pair.cpe.queue(message.into(), Some(Method::Upload)).is_ok());
                }
                2 => {
                    tasks += 1;
                    pair.tasks.push_back(message::GetParameterValues { names: vec!["Device.".to_owned()] }.into());
                    pair.cpe.raise(Event::new(EventCode::ConnectionRequest));
                }
                3 => {
                    let now = pair.now;
                    let saved = pair.cpe.saved(now);
                    pair.cpe = Cpe::new(now, cpe_config(), saved, [9; 32]);
                }
                4 => pair.cpe.raise(Event::new(EventCode::Periodic)),
                _ => {}
            }
            pair.now += seconds(time);
            pair.cpe.handle_timeout(pair.now);
            pair.acs.handle_timeout(pair.now);
            pair.run(|message| message == lost);
        }
        // The line is good again.
        pair.cpe.raise(Event::new(EventCode::Boot));
        pair.run(|_| false);
        prop_assert_eq!(pair.answered_to_server.len(), tasks);
        prop_assert!(pair.answered_to_device.len() <= transfers, "each is confirmed once");
        prop_assert!(pair.tasks.is_empty());
        let left = pair.cpe.saved(pair.now);
        prop_assert_eq!(left.requests.len(), 0);
        prop_assert_eq!(left.events.len(), 0);
        prop_assert_eq!(left.retry_count, 0);
        let told: Vec<&Event> = pair.informs.iter().flatten().collect();
        for key in reboots {
            prop_assert!(told.contains(&&Event::of(Method::Reboot, key)));
        }
    }
}
