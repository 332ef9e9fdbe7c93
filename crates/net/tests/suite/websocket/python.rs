//! `websockets` (Python) as client and as server, with TLS and without.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use homefleet_net::mtp::State;
use homefleet_net::mtp::websocket::WebSocketConnection;
use homefleet_net::tls::Tls;

use super::{
    AGENT, CONTROLLER, PATIENCE, PLAIN, SECURE, Side, id, listener, record, side_with, to,
};
use crate::support::pki::Ca;
use crate::support::tool::{Files, Tool, skip};

/// What both scripts begin with.
const BOTH: &str = r#"
import ssl, sys, threading
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidHandshake
def context(purpose, directory):
    if directory == '-':
        return None
    c = ssl.SSLContext(purpose)
    c.load_verify_locations(directory + '/ca.pem')
    c.load_cert_chain(directory + '/chain.pem', directory + '/key.pem')
    c.verify_mode = ssl.CERT_REQUIRED
    return c
def say(*words):
    print(*words, flush=True)
"#;

const CLIENT: &str = r#"
from websockets.sync.client import connect
uri, path, directory, notify, out = sys.argv[1:]
notify = bytes.fromhex(notify)
def open(target, protocols=['v1.usp'], with_certificate=True):
    c = context(ssl.PROTOCOL_TLS_CLIENT, directory)
    if c and not with_certificate:
        c = ssl.create_default_context(cafile=directory + '/ca.pem')
    return connect(uri + target, subprotocols=protocols, ssl=c, max_size=8_000_000)
def closed(send):
    with open(path) as ws:
        send(ws)
        try:
            ws.recv(timeout=60)
        except ConnectionClosed as e:
            return e.rcvd.code
with open(path) as ws:
    say('subprotocol', ws.subprotocol)
    ws.send(notify)
    say('answered', ws.recv(timeout=60).hex() == out)
    say('pong', ws.ping(b'x').wait(60))
    ws.send([notify[:3], notify[3:7], notify[7:]])
    say('fragments', ws.recv(timeout=60).hex() == out)
say('closed', ws.close_code)
say('text', closed(lambda ws: ws.send('text')))
say('garbage', closed(lambda ws: ws.send(b'\xff\xff\xff')))
say('large', closed(lambda ws: ws.send(b'x' * 5_000_000)))
say('large in fragments', closed(lambda ws: ws.send([b'x' * 1_000_000] * 5)))
for name, target, protocols in [('no subprotocol', path, None), ('wrong subprotocol', path, ['v2.usp']), ('path', '/other', ['v1.usp']),
                                ('eid', '/usp?eid=nobody', ['v1.usp'])]:
    try:
        open(target, protocols)
    except InvalidStatus as e:
        say(name, e.response.status_code)
if directory != '-':
    try:
        with open(path, with_certificate=False) as ws:
            ws.recv(timeout=60)
    except (ssl.SSLError, OSError, ConnectionClosed, InvalidHandshake) as e:
        say('no certificate', 'refused')
say('client done')
"#;

const SERVER: &str = r#"
from websockets.sync.server import serve
directory, mode, get = sys.argv[1:]
get = bytes.fromhex(get)
def handler(ws):
    try:
        say('asked', ws.request.path)
        say('received', ws.recv(timeout=60).hex())
        if mode == 'text':
            ws.send('text')
        elif mode == 'large':
            ws.send(b'x' * 5_000_000)
        elif mode == 'fragments':
            ws.send([get[:1], b'', get[1:]])
        else:
            ws.send(get)
        if mode not in ('text', 'large'):
            say('pong', ws.ping().wait(60))
        ws.recv(timeout=60)
    except ConnectionClosed as e:
        say('closed', e.rcvd.code if e.rcvd else None)
def answer(ws, request, response):
    # Not offered by a client of today, and encoded, which the standard does not ask for.
    if mode == 'extension':
        response.headers['Sec-WebSocket-Extensions'] = 'bbf-usp-protocol; eid=os%3A%3A00256D-controller'
protocols = None if mode == 'no subprotocol' else ['v1.usp']
select = (lambda ws, offered: None) if mode == 'no subprotocol' else None
with serve(handler, '127.0.0.1', 0, subprotocols=protocols, select_subprotocol=select, process_response=answer,
           ssl=context(ssl.PROTOCOL_TLS_SERVER, directory), max_size=8_000_000) as server:
    say('serving', server.socket.getsockname()[1], '.')
    server.serve_forever()
"#;

/// A Python that has `websockets`: `HOMEFLEET_PYTHON`, or `python3`.
fn python() -> Option<String> {
    let candidates = [
        std::env::var("HOMEFLEET_PYTHON").ok(),
        Some("python3".to_owned()),
    ];
    for python in candidates.into_iter().flatten() {
        let output = Command::new(&python)
            .args([
                "-c",
                "import websockets.sync.client, websockets.version as v; print(v.version)",
            ])
            .stdin(Stdio::null())
            .output();
        if let Ok(output) = output
            && output.status.success()
        {
            let version = String::from_utf8_lossy(&output.stdout);
            println!("peer: websockets {}", version.trim());
            return Some(python);
        }
    }
    skip("no Python with websockets (set HOMEFLEET_PYTHON)");
    None
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Ours, and the files of the Python peer, which is `other`.
struct Both {
    ours: Side,
    files: Files,
    secure: bool,
}

impl Both {
    fn new(own: &'static str, other: &str, secure: bool) -> Self {
        let ca = Ca::new("Interop CA");
        let tls = Tls::new(&ca.endpoint(own).credentials(), ca.verifier()).unwrap();
        let ours = side_with(own, |config| config.tls = secure.then_some(tls));
        let files = Files::new(&ca, &ca.endpoint(other));
        Self {
            ours,
            files,
            secure,
        }
    }

    fn start(&self, python: &str, script: &str, args: &[&str]) -> Tool {
        std::fs::write(self.files.path("peer.py"), format!("{BOTH}{script}")).unwrap();
        let script = self.files.text("peer.py");
        Tool::start(python, &[&[script.as_str()], args].concat())
    }

    /// Where the peer's certificate is, if it is to use one.
    fn directory(&self) -> String {
        if self.secure {
            let file = self.files.path("ca.pem");
            file.parent().unwrap().to_str().unwrap().to_owned()
        } else {
            "-".to_owned()
        }
    }
}

async fn says(tool: &Tool, text: &str) {
    // Blocks: the other tasks of the test have threads of their own.
    assert!(
        tokio::task::block_in_place(|| tool.wait_for(text, PATIENCE)),
        "{text} in\n{}",
        tool.output()
    );
}

async fn client_is_served(secure: bool) {
    let Some(python) = python() else { return };
    let mut both = Both::new(CONTROLLER, AGENT, secure);
    let listener = listener("127.0.0.1:0", secure);
    let address = both.ours.mtp.listen("all", listener).await.unwrap();
    let scheme = if secure { "wss" } else { "ws" };
    let (notify, get) = (
        record(AGENT, CONTROLLER, b"notify"),
        record(CONTROLLER, AGENT, b"get"),
    );
    let tool = both.start(
        &python,
        CLIENT,
        &[
            &format!("{scheme}://localhost:{}", address.port()),
            "/usp?x=1&eid=os%3A%3A00256D-agent",
            &both.directory(),
            &hex(&notify),
            &hex(&get),
        ],
    );
    both.ours.up().await;
    let route = if secure { SECURE } else { PLAIN };
    for _ in 0..2 {
        let (notify, origin) = both.ours.record().await;
        assert_eq!(notify.message(), Some(&b"notify"[..]));
        assert_eq!(origin.identity.is_some(), secure);
        let sent = both.ours.mtp.send(&route, &id(AGENT), get.clone()).await;
        sent.unwrap();
    }
    says(&tool, "client done").await;
    let output = tool.output();
    for line in [
        "subprotocol v1.usp",
        "answered True",
        "pong True",
        "fragments True",
        "closed 1000",
        "text 1003",
        "garbage 1003",
        "large 1009",
        "large in fragments 1009",
        "no subprotocol 400",
        "wrong subprotocol 400",
        "path 404",
        "eid 400",
    ] {
        assert!(output.lines().any(|said| said == line), "{line}: {output}");
    }
    assert_eq!(
        output.contains("no certificate refused"),
        secure,
        "{output}"
    );
    let stats = both.ours.mtp.stats();
    assert_eq!((stats.unextractable, stats.too_large), (2, 2));
    assert_eq!(stats.records_in, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_client_is_served() {
    client_is_served(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_client_is_served_over_tls_with_certificates() {
    client_is_served(true).await;
}

/// Ours as client of a Python server that does as `mode` says, and the server.
async fn at_server(mode: &str, secure: bool) -> Option<(Both, Tool)> {
    let python = python()?;
    let both = Both::new(AGENT, CONTROLLER, secure);
    let get = hex(&record(CONTROLLER, AGENT, b"get"));
    let tool = both.start(&python, SERVER, &[&both.directory(), mode, &get]);
    says(&tool, " .\n").await;
    let output = tool.output();
    let port = output.split("serving ").nth(1).unwrap();
    let port = port.split(' ').next().unwrap().parse().unwrap();
    let connection = WebSocketConnection {
        secure,
        host: "localhost".to_owned(),
        endpoint_id: (mode != "extension").then(|| id(CONTROLLER)),
        ..to(SocketAddr::from(([127, 0, 0, 1], port)))
    };
    both.ours.mtp.open("main", connection);
    Some((both, tool))
}

async fn notify(both: &mut Both) {
    both.ours.up().await;
    let (route, sent) = (
        if both.secure { SECURE } else { PLAIN },
        record(AGENT, CONTROLLER, b"notify"),
    );
    let sent = both.ours.mtp.send(&route, &id(CONTROLLER), sent).await;
    sent.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_server_is_spoken_to() {
    for (mode, secure) in [
        ("whole", false),
        ("whole", true),
        ("fragments", false),
        ("extension", false),
    ] {
        let Some((mut both, tool)) = at_server(mode, secure).await else {
            return;
        };
        notify(&mut both).await;
        assert_eq!(both.ours.payload().await, b"get", "{mode}");
        says(&tool, "pong True").await;
        let notify = hex(&record(AGENT, CONTROLLER, b"notify"));
        says(&tool, &format!("received {notify}")).await;
        says(&tool, "asked /usp?eid=os::00256D-agent\n").await;
        both.ours.mtp.close("main").await;
        says(&tool, "closed 1000").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_server_is_told_what_is_wrong_with_what_it_sends() {
    for (mode, code) in [("text", "closed 1003"), ("large", "closed 1009")] {
        let Some((mut both, tool)) = at_server(mode, false).await else {
            return;
        };
        notify(&mut both).await;
        both.ours.down().await;
        says(&tool, code).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_server_without_the_subprotocol_gets_no_session() {
    let Some((both, tool)) = at_server("no subprotocol", false).await else {
        return;
    };
    let why = |state: &State| matches!(state, State::Error(why) if why.contains("v1.usp"));
    both.ours.fares("main", why).await;
    assert_eq!(both.ours.mtp.stats().opened, 0);
    drop(tool);
}
