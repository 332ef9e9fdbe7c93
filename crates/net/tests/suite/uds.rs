//! R-UDS.2 to R-UDS.25 on real sockets: two live MTPs, and a scripted peer.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use homefleet_net::mtp::{
    Channel, ChannelId, Connect, Event, Greeter, Mtps, Outgoing, Route, SendError, State,
    UdsConnection, UdsListener, UdsMtp, UdsMtpConfig, UdsStats,
};
use homefleet_usp::mtp::retry::RetryPolicy;
use homefleet_usp::mtp::uds::frame::{ERROR, HANDSHAKE, RECORD};
use homefleet_usp::mtp::uds::{Decoder, Frame, Tlv};
use homefleet_usp::record::RecordBody;
use homefleet_usp::{EndpointId, Record};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::pair::{AGENT, CONTROLLER};

/// For what has to happen, on a machine that is busy with something else.
const LIMIT: Duration = Duration::from_secs(30);
const SOCKET: &str = "socket";

pub(crate) fn id(text: &str) -> EndpointId {
    text.parse().unwrap()
}

pub(crate) fn record(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    Record::no_session(id(to), id(from), payload.to_vec()).encode()
}

/// Greets with a Connect Record, as an Agent does.
pub(crate) struct Greets(pub(crate) EndpointId);

impl Greeter for Greets {
    fn greet(&self, channel: &Channel) -> Vec<Outgoing> {
        assert_eq!(channel.connect, Connect::Uds);
        let to = channel.endpoint_id.clone().unwrap();
        let record = Record::with(to.clone(), self.0.clone(), RecordBody::UdsConnect).encode();
        let greeting = |route, endpoint_id| Outgoing {
            route,
            endpoint_id,
            record: record.clone(),
        };
        vec![
            greeting(Route::WebSocket { secure: true }, to.clone()),
            greeting(Route::Uds, id("self::somebody-else")),
            greeting(Route::Uds, to),
        ]
    }
}

/// An MTP and what it told.
pub(crate) struct Side {
    pub(crate) mtp: UdsMtp,
    pub(crate) events: mpsc::Receiver<Event>,
}

impl Side {
    pub(crate) fn new(endpoint_id: &str) -> Self {
        Self::with(endpoint_id, 64, |_| {})
    }

    /// An impatient one: tries again at once.
    pub(crate) fn with(
        endpoint_id: &str,
        queue: usize,
        change: impl FnOnce(&mut UdsMtpConfig),
    ) -> Self {
        let (sender, events) = mpsc::channel(queue);
        let mut config = UdsMtpConfig::new(id(endpoint_id), sender);
        config.retry = RetryPolicy::websocket(0, 1000);
        change(&mut config);
        Self {
            mtp: UdsMtp::new(config),
            events,
        }
    }

    pub(crate) async fn event(&mut self) -> Event {
        timeout(LIMIT, self.events.recv()).await.unwrap().unwrap()
    }

    pub(crate) async fn up(&mut self) -> Channel {
        match self.event().await {
            Event::Up(channel) => channel,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn down(&mut self) -> (ChannelId, String) {
        match self.event().await {
            Event::Down { id, reason } => (id, reason),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn record(&mut self) -> Record {
        match self.event().await {
            Event::Record { record, origin } => {
                assert!(origin.channel.is_some());
                assert_eq!((origin.identity, origin.reply_to), (None, Some(Route::Uds)));
                *record
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn message(&mut self) -> Vec<u8> {
        self.record().await.message().unwrap().to_vec()
    }

    pub(crate) async fn send(&self, to: &str, record: Vec<u8>) -> Result<(), SendError> {
        let to = id(to);
        let sent = self.mtp.send(&Route::Uds, &to, record);
        timeout(LIMIT, sent).await.unwrap()
    }

    pub(crate) async fn listen(&self, path: &Path) {
        let spec = UdsListener::new(path);
        self.mtp.listen(SOCKET, spec).await.unwrap();
    }

    pub(crate) async fn open(&self, path: &Path) {
        self.mtp.open(SOCKET, UdsConnection::new(path)).await;
    }

    /// Waits until the counters are so.
    async fn counted(&self, test: impl Fn(&UdsStats) -> bool) {
        wait(|| test(&self.mtp.stats())).await;
    }

    /// Waits until the connection has failed, and says why.
    async fn failure(&self) -> String {
        wait(|| matches!(self.state(), State::Error(_))).await;
        match self.state() {
            State::Error(why) => why,
            other => panic!("{other:?}"),
        }
    }

    fn state(&self) -> State {
        self.mtp.status(SOCKET).unwrap().state
    }
}

async fn wait(test: impl Fn() -> bool) {
    let done = async {
        while !test() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, done).await.unwrap();
}

/// A peer that says what the test says.
struct Raw {
    stream: UnixStream,
    decoder: Decoder,
}

impl Raw {
    fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            decoder: Decoder::new(1 << 24),
        }
    }

    async fn connect(path: &Path) -> Self {
        Self::new(UnixStream::connect(path).await.unwrap())
    }

    /// Connected, the handshake done.
    async fn open(path: &Path, name: &str) -> Self {
        let mut raw = Self::connect(path).await;
        raw.say(HANDSHAKE, name).await;
        assert_eq!(raw.frame().await, Some(Frame::one(HANDSHAKE, AGENT)));
        raw
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn say(&mut self, kind: u8, value: impl Into<Vec<u8>>) {
        self.write(&Frame::one(kind, value).encode()).await;
    }

    /// The next frame; `None` at the end.
    async fn frame(&mut self) -> Option<Frame> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            let read = timeout(LIMIT, self.stream.read(&mut buffer)).await.unwrap();
            // What we said may not have been read when the other side went.
            let length = read.unwrap_or(0);
            if length == 0 {
                return None;
            }
            self.decoder.push(&buffer[..length]);
        }
    }

    async fn error(&mut self) -> String {
        let frame = self.frame().await.unwrap();
        let [Tlv { kind: ERROR, value }] = frame.tlvs.as_slice() else {
            panic!("{frame:?}");
        };
        let text = String::from_utf8(value.clone()).unwrap();
        assert_eq!(self.frame().await, None, "an Error is the last word");
        text
    }
}

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("usp.sock");
    (directory, path)
}

/// An Agent that listens and a Controller that connected to it.
struct Pair {
    _directory: TempDir,
    path: PathBuf,
    agent: Side,
    controller: Side,
}

async fn pair() -> Pair {
    let (directory, path) = directory();
    let agent = Side::with(AGENT, 64, |config| {
        config.greeter = Arc::new(Greets(id(AGENT)));
    });
    agent.listen(&path).await;
    let controller = Side::new(CONTROLLER);
    controller.open(&path).await;
    Pair {
        _directory: directory,
        path,
        agent,
        controller,
    }
}

#[tokio::test]
async fn records_go_both_ways_over_the_one_session() {
    let mut p = pair().await;
    let at_agent = p.agent.up().await;
    assert_eq!(at_agent.endpoint_id, Some(id(CONTROLLER)));
    assert_eq!((at_agent.connection, at_agent.identity), (None, None));
    let at_controller = p.controller.up().await;
    assert_eq!(at_controller.endpoint_id, Some(id(AGENT)));
    assert_eq!(at_controller.connection.as_deref(), Some(SOCKET));
    assert_ne!(at_controller.id, at_agent.id);
    let greeting = p.controller.record().await;
    assert_eq!(greeting.body, RecordBody::UdsConnect);

    let large = vec![7; 300_000];
    p.controller
        .send(AGENT, record(CONTROLLER, AGENT, &large))
        .await
        .unwrap();
    assert_eq!(p.agent.message().await, large);
    p.agent
        .send(CONTROLLER, record(AGENT, CONTROLLER, b"answer"))
        .await
        .unwrap();
    assert_eq!(p.controller.message().await, b"answer");

    let stats = p.agent.mtp.stats();
    assert_eq!((stats.accepted, stats.connected, stats.sessions), (1, 0, 1));
    assert_eq!((stats.records_in, stats.records_out), (1, 2));
    let stats = p.controller.mtp.stats();
    assert_eq!((stats.accepted, stats.connected, stats.sessions), (0, 1, 1));
    assert_eq!((stats.records_in, stats.records_out), (2, 1));
    assert_eq!(p.controller.state(), State::Up);
    assert_eq!(p.agent.mtp.peers(), [id(CONTROLLER)]);
}

#[tokio::test]
async fn the_greeting_is_the_first_record_however_early_another_is_sent() {
    let (_directory, path) = directory();
    let mut agent = Side::with(AGENT, 64, |config| {
        config.greeter = Arc::new(Greets(id(AGENT)));
    });
    agent.listen(&path).await;
    let mtp = agent.mtp.clone();
    let early = tokio::spawn(async move {
        let early = record(AGENT, CONTROLLER, b"early");
        while mtp
            .send(&Route::Uds, &id(CONTROLLER), early.clone())
            .await
            .is_err()
        {
            tokio::task::yield_now().await;
        }
    });
    let mut raw = Raw::open(&path, CONTROLLER).await;
    let greeting = Record::with(id(CONTROLLER), id(AGENT), RecordBody::UdsConnect).encode();
    assert_eq!(raw.frame().await, Some(Frame::one(RECORD, greeting)));
    let early_record = Frame::one(RECORD, record(AGENT, CONTROLLER, b"early"));
    assert_eq!(raw.frame().await, Some(early_record));
    early.await.unwrap();
    agent.up().await;
}

#[tokio::test]
async fn records_that_cannot_be_sent_say_why() {
    let p = pair().await;
    let send = |route: &str, to: &str, length| {
        let (mtp, route, to) = (p.agent.mtp.clone(), route.parse().unwrap(), id(to));
        async move { mtp.send(&route, &to, vec![0; length]).await }
    };
    assert_eq!(send("wss:", CONTROLLER, 1).await, Err(SendError::NoMtp));
    assert_eq!(
        send("uds:", "self::nobody", 1).await,
        Err(SendError::NotConnected)
    );
    let max = UdsMtpConfig::new(id(AGENT), mpsc::channel(1).0)
        .session
        .max_record;
    assert_eq!(
        send("uds:", CONTROLLER, max + 1).await,
        Err(SendError::TooLarge)
    );
    p.agent.mtp.shutdown().await;
    assert_eq!(send("uds:", CONTROLLER, 1).await, Err(SendError::Closed));
    assert_eq!(p.agent.mtp.stats().records_failed, 3);
}

#[tokio::test]
async fn the_way_of_all_transfers_leads_over_the_session() {
    let mut p = pair().await;
    p.agent.up().await;
    p.controller.up().await;
    p.controller.record().await;
    let ways = Mtps {
        uds: Some(p.agent.mtp.clone()),
        ..Mtps::default()
    };
    let (to, hello) = (id(CONTROLLER), record(AGENT, CONTROLLER, b"hello"));
    ways.send(&Route::Uds, &to, hello.clone()).await.unwrap();
    assert_eq!(p.controller.message().await, b"hello");
    ways.send_once(&Route::Uds, &to, hello.clone())
        .await
        .unwrap();
    assert_eq!(p.controller.message().await, b"hello");
    assert_eq!(ways.stats().uds, Some(p.agent.mtp.stats()));
    ways.shutdown().await;
    assert!(!p.path.exists());
    let none = Mtps::default().send(&Route::Uds, &to, hello).await;
    assert_eq!(none, Err(SendError::NoMtp));
}

#[tokio::test]
async fn the_socket_file_has_its_permissions_and_goes_with_the_listener() {
    let (_directory, path) = directory();
    let side = Side::new(AGENT);
    side.listen(&path).await;
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        mode(),
        0o600,
        "for our own user only, unless told otherwise"
    );
    let mut wider = UdsListener::new(&path);
    wider.mode = 0o660;
    side.mtp.listen(SOCKET, wider).await.unwrap();
    assert_eq!(mode(), 0o660);
    side.mtp.close(SOCKET).await;
    assert!(!path.exists());
    assert_eq!(side.mtp.status(SOCKET), None);
}

#[tokio::test]
async fn the_socket_file_goes_with_the_last_owner() {
    let (_directory, path) = directory();
    let side = Side::new(AGENT);
    side.listen(&path).await;
    let mut raw = Raw::open(&path, CONTROLLER).await;
    let clone = side.mtp.clone();
    drop(side);
    assert!(path.exists());
    drop(clone);
    assert_eq!(raw.frame().await, None);
    wait(|| !path.exists()).await;
}

#[tokio::test]
async fn a_socket_file_that_another_put_there_is_not_removed() {
    let (_directory, path) = directory();
    let side = Side::new(AGENT);
    side.listen(&path).await;
    fs::remove_file(&path).unwrap();
    let _other = StdListener::bind(&path).unwrap();
    side.mtp.close(SOCKET).await;
    assert!(path.exists());
}

#[tokio::test]
async fn only_a_socket_that_nobody_listens_on_is_replaced() {
    let (directory, path) = directory();
    let side = Side::new(AGENT);
    let listen = async |path: &Path| side.mtp.listen(SOCKET, UdsListener::new(path)).await;

    drop(StdListener::bind(&path).unwrap());
    assert!(path.exists(), "left behind");
    listen(&path).await.unwrap();
    Raw::open(&path, CONTROLLER).await;
    side.mtp.close(SOCKET).await;

    let busy = StdListener::bind(&path).unwrap();
    let error = listen(&path).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}");
    assert!(
        error.to_string().contains(path.to_str().unwrap()),
        "{error}"
    );
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    drop(busy);

    let file = directory.path().join("notes.txt");
    fs::write(&file, "mine").unwrap();
    let error = listen(&file).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists, "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");

    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(listen(&link).await.is_err(), "a link is no socket");
    assert!(listen(&directory.path().join("none/usp")).await.is_err());
    assert_eq!(side.mtp.status(SOCKET), None);
}

#[tokio::test]
async fn a_path_that_does_not_fit_is_refused_by_both_sides() {
    let side = Side::new(AGENT);
    for path in ["".to_owned(), format!("/tmp/{}", "a".repeat(103))] {
        let error = side
            .mtp
            .listen(SOCKET, UdsListener::new(&path))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("1 to 107 bytes"), "{error}");
        let waiting = Side::with(CONTROLLER, 1, |config| config.retry = RetryPolicy::uds());
        waiting.open(Path::new(&path)).await;
        waiting.counted(|stats| stats.connect_failed == 1).await;
        let error = waiting.failure().await;
        assert!(error.contains("1 to 107 bytes"), "{error}");
    }
}

#[tokio::test]
async fn a_user_that_is_not_allowed_is_told_so_and_let_go() {
    let (_directory, path) = directory();
    let side = Side::new(AGENT);
    let mut spec = UdsListener::new(&path);
    spec.allowed_uids = Some(vec![u32::MAX - 7]);
    side.mtp.listen(SOCKET, spec.clone()).await.unwrap();
    let mut raw = Raw::connect(&path).await;
    assert_eq!(raw.error().await, "this user is not allowed here");
    assert_eq!(side.mtp.stats().refused_user, 1);

    spec.allowed_uids = Some(vec![owner(&path)]);
    side.mtp.listen(SOCKET, spec).await.unwrap();
    Raw::open(&path, CONTROLLER).await;
}

/// Our own user ID: that of the file we made.
fn owner(path: &Path) -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).unwrap().uid()
}

#[tokio::test]
async fn a_server_of_another_user_than_allowed_is_not_spoken_to() {
    let (_directory, path) = directory();
    let server = UnixListener::bind(&path).unwrap();
    let side = Side::with(CONTROLLER, 1, |config| config.retry = RetryPolicy::uds());
    let mut spec = UdsConnection::new(&path);
    spec.allowed_uids = Some(vec![u32::MAX - 7]);
    side.mtp.open(SOCKET, spec).await;
    let (stream, _) = timeout(LIMIT, server.accept()).await.unwrap().unwrap();
    assert_eq!(Raw::new(stream).frame().await, None, "not even a handshake");
    let error = side.failure().await;
    assert!(error.contains("not allowed"), "{error}");
    assert_eq!(side.mtp.stats().refused_user, 1);
}

#[tokio::test]
async fn a_connection_that_fails_is_tried_again_after_1_to_5_seconds() {
    let (_directory, path) = directory();
    let mut side = Side::with(CONTROLLER, 1, |config| config.retry = RetryPolicy::uds());
    side.open(&path).await;
    assert!(side.failure().await.contains("No such file"));
    assert_eq!(side.mtp.status(SOCKET).unwrap().failures, 1);

    let mut agent = Side::new(AGENT);
    agent.listen(&path).await;
    agent.up().await;
    side.up().await;
    let status = side.mtp.status(SOCKET).unwrap();
    assert_eq!((status.state, status.failures), (State::Up, 0));
}

#[tokio::test]
async fn a_session_that_ends_is_opened_again() {
    let mut p = pair().await;
    let first = p.controller.up().await.id;
    p.controller.record().await;
    p.agent.up().await;
    p.agent.mtp.close(SOCKET).await;
    assert_eq!(
        p.controller.down().await,
        (first, "the connection ended".to_owned())
    );
    assert!(matches!(
        p.controller.send(AGENT, vec![1]).await,
        Err(SendError::NotConnected)
    ));
    p.agent.listen(&p.path).await;
    let second = p.controller.up().await.id;
    assert_ne!(first, second);
    p.controller
        .send(AGENT, record(CONTROLLER, AGENT, b"again"))
        .await
        .unwrap();
    assert!(matches!(p.agent.event().await, Event::Down { .. }));
    p.agent.up().await;
    assert_eq!(p.agent.message().await, b"again");
}

#[tokio::test]
async fn the_same_endpoint_connecting_anew_ends_its_older_session() {
    let (_directory, path) = directory();
    let mut agent = Side::new(AGENT);
    agent.listen(&path).await;
    let mut first = Raw::open(&path, CONTROLLER).await;
    let older = agent.up().await.id;
    let mut second = Raw::open(&path, CONTROLLER).await;
    let newer = agent.up().await.id;
    assert_ne!(older, newer);
    assert!(first.error().await.contains("another session"));
    assert_eq!(agent.down().await.0, older);
    agent
        .send(CONTROLLER, record(AGENT, CONTROLLER, b"here"))
        .await
        .unwrap();
    let here = Frame::one(RECORD, record(AGENT, CONTROLLER, b"here"));
    assert_eq!(second.frame().await, Some(here));
    let stats = agent.mtp.stats();
    assert_eq!((stats.replaced, stats.sessions), (1, 1));
}

#[tokio::test]
async fn a_session_in_the_other_direction_does_not_replace_one_that_stands() {
    let mut p = pair().await;
    let standing = p.agent.up().await.id;
    p.controller.up().await;
    p.controller.record().await;
    let second = p.path.with_file_name("second.sock");
    let spec = UdsListener::new(&second);
    p.controller.mtp.listen("second", spec).await.unwrap();
    p.agent
        .mtp
        .open("second", UdsConnection::new(&second))
        .await;
    p.agent.counted(|stats| stats.refused_endpoint >= 1).await;
    p.agent.mtp.close("second").await;
    p.agent
        .send(CONTROLLER, record(AGENT, CONTROLLER, b"still"))
        .await
        .unwrap();
    assert_eq!(p.controller.message().await, b"still");
    assert!(p.agent.events.try_recv().is_err(), "{standing:?} stays");
}

#[tokio::test]
async fn another_endpoint_than_expected_is_refused() {
    let (_directory, path) = directory();
    let server = UnixListener::bind(&path).unwrap();
    let mut side = Side::new(CONTROLLER);
    let mut spec = UdsConnection::new(&path);
    spec.endpoint_id = Some(id(AGENT));
    side.mtp.open(SOCKET, spec).await;
    let accept = async || {
        let (stream, _) = timeout(LIMIT, server.accept()).await.unwrap().unwrap();
        let mut raw = Raw::new(stream);
        assert_eq!(raw.frame().await, Some(Frame::one(HANDSHAKE, CONTROLLER)));
        raw
    };
    let mut other = accept().await;
    other.say(HANDSHAKE, "self::another").await;
    assert!(other.error().await.contains("another Endpoint is expected"));
    assert_eq!(side.mtp.stats().refused_endpoint, 1);
    let mut right = accept().await;
    right.say(HANDSHAKE, AGENT).await;
    assert_eq!(side.up().await.endpoint_id, Some(id(AGENT)));
}

#[tokio::test]
async fn a_side_that_sends_no_handshake_is_told_and_let_go() {
    let (_directory, path) = directory();
    let hasty = |name| {
        Side::with(name, 8, |config| {
            config.session.handshake_timeout = Duration::from_millis(50);
        })
    };
    let server = hasty(AGENT);
    server.listen(&path).await;
    let mut silent = Raw::connect(&path).await;
    assert!(silent.error().await.contains("no handshake in time"));
    assert_eq!(server.mtp.stats().errors_sent, 1);

    let other = path.with_file_name("other.sock");
    let listener = UnixListener::bind(&other).unwrap();
    let client = hasty(CONTROLLER);
    client.open(&other).await;
    let (stream, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    let mut silent = Raw::new(stream);
    assert_eq!(
        silent.frame().await,
        Some(Frame::one(HANDSHAKE, CONTROLLER))
    );
    assert!(silent.error().await.contains("no handshake in time"));
}

#[tokio::test]
async fn what_cannot_be_understood_is_answered_with_an_error_and_the_end() {
    let (_directory, path) = directory();
    let mut agent = Side::with(AGENT, 64, |config| config.session.max_record = 2000);
    agent.listen(&path).await;
    let bad_tlv = [&b"_USP\0\0\0\x05\x03"[..], &[0, 0, 0, 9]].concat();
    let cases = [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "_USP"),
        (bad_tlv, "ends beyond the frame"),
        (Frame::one(RECORD, "a text").encode(), "no protobuf"),
        (Frame::one(RECORD, vec![0; 2001]).encode(), "2001 bytes"),
        (b"_USP\xff\xff\xff\xff".to_vec(), "4294967295 bytes"),
    ];
    for (number, (bytes, why)) in cases.iter().enumerate() {
        let mut raw = Raw::open(&path, CONTROLLER).await;
        agent.up().await;
        raw.write(bytes).await;
        let error = raw.error().await;
        assert!(error.contains(why), "{why}: {error}");
        let (_, reason) = agent.down().await;
        assert_eq!(reason, error);
        assert_eq!(agent.mtp.stats().errors_sent, number as u64 + 1);
    }
    for name in ["", "mac::1", AGENT] {
        let mut raw = Raw::connect(&path).await;
        raw.say(HANDSHAKE, name).await;
        raw.error().await;
    }
    assert!(agent.events.try_recv().is_err());
    assert_eq!(agent.mtp.stats().sessions, 0);
}

#[tokio::test]
async fn an_error_received_ends_the_session_without_an_answer() {
    let (_directory, path) = directory();
    let mut agent = Side::new(AGENT);
    agent.listen(&path).await;
    let mut raw = Raw::open(&path, CONTROLLER).await;
    agent.up().await;
    raw.say(ERROR, "I am full").await;
    assert_eq!(raw.frame().await, None);
    assert_eq!(agent.down().await.1, "the other side says: I am full");
    let stats = agent.mtp.stats();
    assert_eq!((stats.errors_received, stats.errors_sent), (1, 0));
}

#[tokio::test]
async fn what_is_ignored_is_counted_and_the_session_stays() {
    let (_directory, path) = directory();
    let mut agent = Side::new(AGENT);
    agent.listen(&path).await;
    let mut raw = Raw::connect(&path).await;
    raw.say(RECORD, record(CONTROLLER, AGENT, b"too early"))
        .await;
    raw.say(HANDSHAKE, CONTROLLER).await;
    raw.say(HANDSHAKE, "self::another").await;
    raw.say(77, "a later version's").await;
    raw.say(RECORD, record("self::another", AGENT, b"forged"))
        .await;
    raw.say(RECORD, record(CONTROLLER, AGENT, b"good")).await;
    assert_eq!(agent.up().await.endpoint_id, Some(id(CONTROLLER)));
    assert_eq!(agent.message().await, b"good");
    let stats = agent.mtp.stats();
    assert_eq!(
        (
            stats.early_records,
            stats.late_handshakes,
            stats.unknown_tlvs,
            stats.forged
        ),
        (1, 1, 1, 1)
    );
    assert_eq!((stats.records_in, stats.sessions), (1, 1));
}

#[tokio::test]
async fn a_wrong_record_that_can_be_read_is_handed_on_as_wrong() {
    let (_directory, path) = directory();
    let mut agent = Side::new(AGENT);
    agent.listen(&path).await;
    let mut raw = Raw::open(&path, CONTROLLER).await;
    agent.up().await;
    let mut wrong = Record::no_session(id(AGENT), id(CONTROLLER), b"x".to_vec());
    wrong.version = "2.0".to_owned();
    raw.say(RECORD, wrong.encode()).await;
    match agent.event().await {
        Event::Erroneous { error, origin } => {
            assert_eq!(error.from_id(), Some(&id(CONTROLLER)));
            assert_eq!(origin.reply_to, Some(Route::Uds));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(agent.mtp.stats().erroneous, 1);
    raw.say(RECORD, record(CONTROLLER, AGENT, b"good")).await;
    assert_eq!(agent.message().await, b"good");
}

#[tokio::test]
async fn beyond_the_bound_newcomers_are_turned_away() {
    let (_directory, path) = directory();
    let mut agent = Side::with(AGENT, 64, |config| config.max_sessions = 2);
    agent.listen(&path).await;
    let _first = Raw::open(&path, "self::first").await;
    let second = Raw::connect(&path).await;
    agent.counted(|stats| stats.accepted == 2).await;
    let mut third = Raw::connect(&path).await;
    assert_eq!(third.error().await, "too many sessions");
    assert_eq!(agent.mtp.stats().refused_full, 1);
    drop(second);
    agent.up().await;
    // The place is free as soon as the end of the second is seen.
    loop {
        let mut raw = Raw::connect(&path).await;
        raw.say(HANDSHAKE, "self::third").await;
        if raw.frame().await == Some(Frame::one(HANDSHAKE, AGENT)) {
            break;
        }
    }
}

#[tokio::test]
async fn what_waits_for_a_slow_reader_is_bounded_and_arrives_when_it_reads() {
    let (_directory, path) = directory();
    let agent = Side::with(AGENT, 64, |config| {
        config.session.max_record = 100_000;
        config.session.max_queued = 300_000;
    });
    agent.listen(&path).await;
    let mut raw = Raw::open(&path, CONTROLLER).await;
    let large = record(AGENT, CONTROLLER, &[9; 90_000]);
    let mut waiting = Vec::new();
    // Sooner or later the kernel takes no more, and then what waits here is at its bound.
    let busy = || agent.mtp.stats().busy > 0;
    while !busy() {
        let (mtp, record) = (agent.mtp.clone(), large.clone());
        waiting.push(tokio::spawn(async move {
            mtp.send(&Route::Uds, &id(CONTROLLER), record).await
        }));
        tokio::task::yield_now().await;
        assert!(waiting.len() < 10_000);
    }
    let expected = Frame::one(RECORD, large);
    let mut results = Vec::new();
    let reading = tokio::spawn(async move {
        let mut read = 0;
        while raw.frame().await == Some(expected.clone()) {
            read += 1;
        }
        read
    });
    for send in waiting {
        results.push(timeout(LIMIT, send).await.unwrap().unwrap());
    }
    let sent = results.iter().filter(|result| result.is_ok()).count();
    let refused = results
        .iter()
        .filter(|result| **result == Err(SendError::Busy))
        .count();
    assert_eq!(sent + refused, results.len());
    assert!(refused > 0);
    agent.mtp.shutdown().await;
    assert_eq!(timeout(LIMIT, reading).await.unwrap().unwrap(), sent);
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_given_up() {
    let (_directory, path) = directory();
    let mut agent = Side::with(AGENT, 64, |config| {
        config.write_timeout = Duration::from_millis(50);
    });
    agent.listen(&path).await;
    let _raw = Raw::open(&path, CONTROLLER).await;
    let id = agent.up().await.id;
    // More than any socket buffer takes.
    let large = record(AGENT, CONTROLLER, &vec![9; 4_000_000]);
    assert_eq!(agent.send(CONTROLLER, large).await, Err(SendError::Lost));
    assert_eq!(
        agent.down().await,
        (id, "refused here: the other side reads nothing".to_owned())
    );
    let stats = agent.mtp.stats();
    assert_eq!(
        (stats.stalled, stats.records_failed, stats.sessions),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn a_slow_receiver_of_events_holds_up_the_peer_and_loses_nothing() {
    let (_directory, path) = directory();
    let mut agent = Side::with(AGENT, 1, |_| {});
    agent.listen(&path).await;
    let mut controller = Side::new(CONTROLLER);
    controller.open(&path).await;
    controller.up().await;
    let mtp = controller.mtp.clone();
    let sending = tokio::spawn(async move {
        for number in 0..2000_u32 {
            let record = record(
                CONTROLLER,
                AGENT,
                &[&number.to_be_bytes()[..], &[0; 1000]].concat(),
            );
            mtp.send(&Route::Uds, &id(AGENT), record).await.unwrap();
        }
    });
    // Nothing is taken out until the sockets are full and the sender stands still.
    let sent = || controller.mtp.stats().records_out;
    let mut before = u64::MAX;
    while sent() != before {
        before = sent();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    agent.up().await;
    for number in 0..2000_u32 {
        assert_eq!(agent.message().await[..4], number.to_be_bytes());
    }
    timeout(LIMIT, sending).await.unwrap().unwrap();
}

#[tokio::test]
async fn two_sides_with_much_to_say_do_not_block_each_other() {
    let (_directory, path) = directory();
    let mut agent = Side::with(AGENT, 1, |_| {});
    let mut controller = Side::with(CONTROLLER, 1, |_| {});
    agent.listen(&path).await;
    controller.open(&path).await;
    agent.up().await;
    controller.up().await;
    // Each side takes an event only after it has sent a Record.
    let talk = |mut side: Side, from: &'static str, to: &'static str| async move {
        let large = record(from, to, &[1; 50_000]);
        for _ in 0..100 {
            side.send(to, large.clone()).await.unwrap();
            assert_eq!(side.message().await.len(), 50_000);
        }
        side
    };
    let both = async {
        tokio::join!(
            talk(agent, AGENT, CONTROLLER),
            talk(controller, CONTROLLER, AGENT)
        )
    };
    timeout(LIMIT, both).await.unwrap();
}

#[tokio::test]
async fn what_waits_is_written_before_a_session_is_closed_and_events_are_not_waited_for() {
    let (_directory, path) = directory();
    let mut agent = Side::with(AGENT, 1, |_| {});
    agent.listen(&path).await;
    let mut raw = Raw::open(&path, CONTROLLER).await;
    agent.counted(|stats| stats.sessions == 1).await;
    let large = record(AGENT, CONTROLLER, &[5; 1_000_000]);
    let (mtp, sent) = (agent.mtp.clone(), large.clone());
    let sending = tokio::spawn(async move { mtp.send(&Route::Uds, &id(CONTROLLER), sent).await });
    tokio::task::yield_now().await;
    // `Up` fills the queue: `Down` has no room yet, and whoever closes may be who would make it.
    let mtp = agent.mtp.clone();
    let closing = tokio::spawn(async move { mtp.close(SOCKET).await });
    let frame = raw.frame().await;
    if frame.is_some() {
        assert_eq!(frame, Some(Frame::one(RECORD, large)));
        assert_eq!(raw.frame().await, None);
        assert_eq!(sending.await.unwrap(), Ok(()));
    } else {
        // Closed before the Record came to the session at all.
        assert!(sending.await.unwrap().is_err());
    }
    timeout(LIMIT, closing).await.unwrap().unwrap();
    agent.up().await;
    assert_eq!(agent.down().await.1, "closed here");
}

#[tokio::test]
async fn the_same_settings_again_change_nothing_and_others_take_effect() {
    let mut p = pair().await;
    p.agent.up().await;
    p.controller.up().await;
    p.controller.record().await;
    p.agent.listen(&p.path).await;
    p.controller.open(&p.path).await;
    p.controller
        .send(AGENT, record(CONTROLLER, AGENT, b"the same session"))
        .await
        .unwrap();
    assert_eq!(p.agent.message().await, b"the same session");
    assert_eq!(p.agent.mtp.stats().accepted, 1);

    let moved = p.path.with_file_name("moved.sock");
    p.agent.listen(&moved).await;
    assert!(!p.path.exists());
    assert!(matches!(p.agent.event().await, Event::Down { .. }));
    p.controller.open(&moved).await;
    p.agent.up().await;
    assert!(matches!(p.controller.event().await, Event::Down { .. }));
    p.controller.up().await;
}

#[tokio::test]
async fn many_endpoints_have_each_their_session() {
    let (_directory, path) = directory();
    let mut agent = Side::new(AGENT);
    agent.listen(&path).await;
    let names: Vec<String> = (0..20).map(|n| format!("self::service-{n}")).collect();
    let services: Vec<Side> = names.iter().map(|name| Side::new(name)).collect();
    for service in &services {
        service.open(&path).await;
    }
    for _ in &services {
        agent.up().await;
    }
    for (name, mut service) in names.iter().zip(services) {
        service.up().await;
        agent
            .send(name, record(AGENT, name, name.as_bytes()))
            .await
            .unwrap();
        assert_eq!(service.message().await, name.as_bytes());
    }
}
