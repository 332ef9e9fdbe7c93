//! A CPE and an ACS in virtual time, and a line between them.

use std::time::{Duration, Instant};

use homefleet_cwmp::{
    Envelope, Event, EventCode, Header, Limits, Message, Method, Namespace,
    acs::{self, AcsEvent},
    cpe::{self, Cpe, CpeEvent, HttpFailure, InformContent, Reply, Saved},
};

use crate::samples;

/// Any start of virtual time will do.
#[allow(clippy::disallowed_methods)]
pub(crate) fn start() -> Instant {
    Instant::now()
}

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) fn content() -> InformContent {
    let inform = samples::inform();
    InformContent {
        device: inform.device,
        current_time: inform.current_time,
        values: inform.values,
    }
}

/// What both have of all methods.
pub(crate) fn cpe_config() -> cpe::Config {
    cpe::Config {
        methods: Method::of_cpe().collect(),
        ..cpe::Config::default()
    }
}

/// A CPE under test, played the ACS by hand.
pub(crate) struct Device {
    pub(crate) now: Instant,
    pub(crate) cpe: Cpe,
    pub(crate) namespace: Namespace,
}

impl Device {
    pub(crate) fn new() -> Self {
        Self::with(cpe_config(), Saved::default())
    }

    pub(crate) fn with(config: cpe::Config, saved: Saved) -> Self {
        let now = start();
        Self {
            now,
            cpe: Cpe::new(now, config, saved, [1; 32]),
            namespace: Namespace::V1_2,
        }
    }

    /// A device in a session for an event, after the InformResponse.
    pub(crate) fn informed(code: EventCode) -> Self {
        let mut device = Self::new();
        device.cpe.raise(Event::new(code));
        device.begin();
        device.reply(
            None,
            homefleet_cwmp::message::InformResponse { max_envelopes: 1 },
        );
        assert!(matches!(device.event(), Some(CpeEvent::Informed { .. })));
        device
    }

    pub(crate) fn event(&mut self) -> Option<CpeEvent> {
        self.cpe.poll_event()
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.cpe.handle_timeout(self.now);
    }

    /// Begins the session that is due, and returns its events and Inform.
    pub(crate) fn begin(&mut self) -> (Vec<Event>, homefleet_cwmp::message::Inform) {
        assert_eq!(self.event(), Some(CpeEvent::Starting));
        let events = self.cpe.due();
        self.cpe.begin(self.now, content()).unwrap();
        let Some(Message::Inform(inform)) = self.post().map(|envelope| envelope.message) else {
            panic!("no Inform");
        };
        assert_eq!(inform.events, events);
        (events, inform)
    }

    /// The POST that is due; `None` for an empty one.
    pub(crate) fn post(&mut self) -> Option<Envelope> {
        match self.cpe.poll_transmit() {
            Some(cpe::Transmit::Post(body)) if body.is_empty() => None,
            Some(cpe::Transmit::Post(body)) => {
                Some(Envelope::decode(&body, &Limits::default()).unwrap())
            }
            other => panic!("no POST but {other:?}"),
        }
    }

    pub(crate) fn closes(&mut self) -> bool {
        self.cpe.poll_transmit() == Some(cpe::Transmit::Close)
    }

    /// The ACS answers with a message.
    pub(crate) fn reply(&mut self, id: Option<&str>, message: impl Into<Message>) {
        let header = Header {
            id: id.map(str::to_owned),
            ..Header::default()
        };
        self.reply_with(header, message);
    }

    pub(crate) fn reply_with(&mut self, header: Header, message: impl Into<Message>) {
        let envelope = Envelope::new(self.namespace, header, message);
        self.cpe
            .handle_reply(self.now, Reply::Envelope(&envelope.encode()));
    }

    pub(crate) fn reply_empty(&mut self) {
        self.cpe.handle_reply(self.now, Reply::Empty);
    }

    pub(crate) fn lose(&mut self) {
        self.cpe
            .handle_reply(self.now, Reply::Failed(HttpFailure::Connection));
    }

    /// The session fails, and this is how long until the next.
    pub(crate) fn failed(&mut self) -> (cpe::Failure, Duration) {
        match self.event() {
            Some(CpeEvent::Failed { reason, wait }) => (reason, wait),
            other => panic!("no failure but {other:?}"),
        }
    }
}

/// An ACS under test, played the CPE by hand.
pub(crate) struct Server {
    pub(crate) now: Instant,
    pub(crate) session: acs::Session,
    pub(crate) namespace: Namespace,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(acs::Config::default())
    }

    pub(crate) fn with(config: acs::Config) -> Self {
        let now = start();
        Self {
            now,
            session: acs::Session::new(now, config),
            namespace: Namespace::V1_2,
        }
    }

    /// A session after its Inform.
    pub(crate) fn informed() -> Self {
        let mut server = Self::new();
        server.inform();
        server
    }

    /// A session whose turn is ours.
    pub(crate) fn ready() -> Self {
        let mut server = Self::informed();
        server.post_empty();
        assert_eq!(server.event(), Some(AcsEvent::Ready));
        server
    }

    pub(crate) fn inform(&mut self) {
        self.post(Some("1"), samples::inform());
        assert!(matches!(self.event(), Some(AcsEvent::Inform { .. })));
        self.session.accept(self.now).unwrap();
        let answer = self.answer();
        assert!(matches!(answer.message, Message::InformResponse(_)));
    }

    pub(crate) fn post(&mut self, id: Option<&str>, message: impl Into<Message>) {
        let header = Header {
            id: id.map(str::to_owned),
            ..Header::default()
        };
        self.post_with(header, message);
    }

    pub(crate) fn post_with(&mut self, header: Header, message: impl Into<Message>) {
        let envelope = Envelope::new(self.namespace, header, message);
        self.session
            .handle_input(self.now, &envelope.encode())
            .unwrap();
    }

    pub(crate) fn post_empty(&mut self) {
        self.session.handle_input(self.now, b"").unwrap();
    }

    pub(crate) fn event(&mut self) -> Option<AcsEvent> {
        self.session.poll_event()
    }

    /// The only answer, which is an envelope.
    pub(crate) fn answer(&mut self) -> Envelope {
        let transmit = self.session.poll_transmit().unwrap();
        assert_eq!((transmit.status, transmit.close), (200, false));
        assert_eq!(self.session.poll_transmit(), None);
        Envelope::decode(&transmit.body, &Limits::default()).unwrap()
    }

    /// The status of the only answer, which is empty.
    pub(crate) fn status(&mut self) -> u16 {
        let transmit = self.session.poll_transmit().unwrap();
        assert_eq!(transmit.body, []);
        assert_eq!(self.session.poll_transmit(), None);
        transmit.status
    }

    pub(crate) fn ended(&mut self) -> (acs::Outcome, Option<acs::RequestId>) {
        match self.event() {
            Some(AcsEvent::Ended {
                outcome,
                unanswered,
            }) => (outcome, unanswered),
            other => panic!("not the end but {other:?}"),
        }
    }
}

/// Scripts for the fuzz body that reach far: a step is what to do and its data.
pub(crate) fn scripts() -> Vec<Vec<u8>> {
    let script = |steps: &[(u8, &[u8])]| -> Vec<u8> {
        let bytes = steps.iter().flat_map(|(what, data)| {
            let length = u8::try_from(data.len()).unwrap();
            [&[*what, length], *data].concat()
        });
        bytes.collect()
    };
    // An exchange: the POST arrives, the application acts, the reply arrives.
    let boot: &[(u8, &[u8])] = &[(0, &[1]), (3, &[]), (4, &[]), (13, &[]), (8, &[])];
    let ask = |number: &'static [u8]| -> Vec<(u8, &[u8])> {
        vec![(4, &[]), (13, number), (8, &[]), (12, &[])]
    };
    let whole = [boot, &ask(&[3]), &ask(&[1]), &ask(&[2]), &ask(&[0])].concat();
    let transfer = [
        &[(1, b"k".as_slice())],
        boot,
        &[(4, &[]), (45, &[]), (8, &[])],
        &ask(&[0]),
    ]
    .concat();
    let held = [
        boot,
        &[(4, &[]), (29, &[3]), (8, &[]), (1, b"k"), (12, &[])],
        &ask(&[0]),
    ]
    .concat();
    let lost: Vec<(u8, &[u8])> = vec![
        (0, &[6]),
        (3, &[]),
        (27, &[]),
        (2, &[10]),
        (3, &[]),
        (43, &[5]),
        (2, &[5]),
        (3, &[]),
    ];
    [whole, transfer, held, lost]
        .iter()
        .map(|steps| script(steps))
        .collect()
}
