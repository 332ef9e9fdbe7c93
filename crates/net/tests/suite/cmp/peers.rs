//! Programs of others: `openssl cmp` whose messages libcoap's clients carry, aiocoap, and servers that our client speaks to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use homefleet_cmp::asn1::{BodyKind, Limits, Message};
use homefleet_cmp::client::Outcome;
use homefleet_coap::link;
use homefleet_net::cmp::{Client, CoapConfig, ServerTrust, Url};

use super::client::config;
use super::world::{TestCa, bind, crl, enroll, plain, plain_url, secure};
use crate::cmp_world::by_key;
use crate::interop_aiocoap::python;
use crate::openssl::{by_certificate, by_secret, pki};
use crate::support::live::free_port;
use crate::support::pair::AGENT;
use crate::support::pki::Ca;
use crate::support::relay::lossy;
use crate::support::tool::{Files, Tool, have};

pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// Transactions begun at 25 % loss until one is through: libcoap's client gives up after a few lost repetitions.
pub(super) const TRIES: usize = 8;

/// Reads one HTTP message; gives its body.
fn read_http(stream: &TcpStream) -> Option<Vec<u8>> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            return Some(body);
        }
    }
}

/// Runs `openssl cmp`, whose messages `carry` takes to the server and brings the answers of. Whether it was content, and what it said.
pub(super) fn openssl(options: &str, mut carry: impl FnMut(&[u8]) -> Vec<u8>) -> (bool, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut tool = {
        let script = format!(
            "cd {} && exec openssl cmp -config '' -server {address} -path pkix/ -recipient /O=Test/CN=server {options} 2>&1; echo \"over $?\"",
            pki().path("").display()
        );
        Tool::start("setpriv", &["--pdeathsig", "KILL", "sh", "-c", &script])
    };
    listener.set_nonblocking(true).unwrap();
    while !tool.wait(Duration::from_millis(1)) {
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        let Some(message) = read_http(&stream) else {
            continue;
        };
        let answer = carry(&message);
        let head = format!(
            "HTTP/1.0 200 OK\r\nContent-Type: application/pkixcmp\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        // A client that goes away is none of the test's business.
        let _sent = stream.write_all(&[head.as_bytes(), &answer].concat());
    }
    let said = tool.output();
    (said.contains("received PKICONF"), said)
}

pub(super) fn ir(protection: &str) -> String {
    let out = pki().path("over-coap.pem");
    format!(
        "-cmd ir -newkey new.key -subject /CN=new {protection} -certout {}",
        out.display()
    )
}

/// One request by libcoap's client; what came back.
pub(super) fn libcoap(program: &str, files: &Files, more: &[&str], url: &str) -> Vec<u8> {
    let out = files.text("out");
    // The file of an earlier request must not be taken for this one's.
    let _gone = std::fs::remove_file(files.path("out"));
    let mut args = vec!["-o", out.as_str(), "-B", "60"];
    args.extend(more);
    args.push(url);
    let mut tool = Tool::start(program, &args);
    assert!(tool.wait(LIMIT), "{program}: {}", tool.output());
    std::fs::read(files.path("out")).unwrap_or_default()
}

/// `openssl cmp` gets a certificate and confirms it, over libcoap's client.
fn enrolled_by(program: &str, config: CoapConfig, base: &str, more: &[&str], loss: bool) {
    if !have(program, &["-?"]) {
        return;
    }
    let runtime = runtime();
    let _guard = runtime.enter();
    let ca = Ca::new("CMP CA");
    let config = CoapConfig {
        secure: secure(&ca, None).secure,
        ..config
    };
    let service = TestCa::new();
    let listener = bind(config, service.clone());
    let files = Files::new(&ca, &ca.endpoint(AGENT));
    let root = files.text("ca.pem");
    let addr = if base == "coap" {
        listener.plain_addr().unwrap()
    } else {
        listener.secure_addr().unwrap()
    };
    let url = format!(
        "{base}://127.0.0.1:{}/.well-known/cmp/p/home/ir",
        addr.port()
    );
    let body = files.text("body");
    let mut args = vec!["-m", "post", "-t", "259", "-f", &body];
    if base == "coaps" {
        args.extend(["-C", &root]);
    }
    args.extend(more);
    if loss {
        args.extend(["-l", "25%"]);
    }
    for protection in [by_secret(), by_certificate("device")] {
        let mut said = String::new();
        let done = (0..if loss { TRIES } else { 1 }).any(|_| {
            let done;
            (done, said) = openssl(&ir(&protection), |message| {
                std::fs::write(files.path("body"), message).unwrap();
                libcoap(program, &files, &args, &url)
            });
            done
        });
        assert!(done, "{program}: {said}");
    }
    let requests = service.requests();
    assert!(requests.len() >= 4);
    assert!(requests.iter().all(|request| {
        request.target.label.as_deref() == Some("home") && request.scheme.as_str() == base
    }));
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn openssl_enrols_over_coap_by_libcoap() {
    enrolled_by("coap-client-notls", plain(), "coap", &[], false);
}

#[test]
fn openssl_enrols_over_coap_by_libcoap_in_small_blocks() {
    enrolled_by("coap-client-notls", plain(), "coap", &["-b", "64"], false);
}

#[test]
fn openssl_enrols_over_coap_by_libcoap_at_25_percent_loss() {
    let more = &["-b", "256"];
    enrolled_by("coap-client-notls", plain(), "coap", more, true);
}

#[test]
fn openssl_enrols_over_coaps_by_libcoap_without_a_certificate() {
    enrolled_by("coap-client-openssl", plain(), "coaps", &[], false);
    enrolled_by("coap-client-gnutls", plain(), "coaps", &[], false);
}

#[test]
fn openssl_enrols_over_coaps_by_libcoap_at_25_percent_loss() {
    enrolled_by("coap-client-openssl", plain(), "coaps", &[], true);
}

#[test]
fn libcoap_discovers_the_server_and_reads_its_files() {
    let program = "coap-client-notls";
    if !have(program, &["-?"]) {
        return;
    }
    let runtime = runtime();
    let _guard = runtime.enter();
    let listener = bind(plain(), TestCa::new());
    let ca = Ca::new("CMP CA");
    let files = Files::new(&ca, &ca.endpoint(AGENT));
    let url = plain_url(&listener);
    let all = libcoap(program, &files, &[], &format!("{url}/.well-known/core"));
    let all = link::parse(std::str::from_utf8(&all).unwrap()).unwrap();
    assert_eq!(all.len(), 5);
    let core = format!("{url}/.well-known/core?ct=259");
    let cmp = libcoap(program, &files, &[], &core);
    let cmp = link::parse(std::str::from_utf8(&cmp).unwrap()).unwrap();
    let targets: Vec<&str> = cmp.iter().map(|link| link.target.as_str()).collect();
    assert_eq!(targets, ["/.well-known/cmp", "/.well-known/cmp/p/home"]);
    let list = libcoap(program, &files, &[], &format!("{url}/pki/ca.crl"));
    assert_eq!(list, crl());
}

const AIOCOAP: &str = r#"
import asyncio, sys
from aiocoap import Context, Message, GET, POST
async def main(base, body, out):
    context = await Context.create_client_context()
    r = await context.request(Message(code=GET, uri=base + '/.well-known/core?ct=259')).response
    print('links', r.code, r.opt.content_format, r.payload.decode())
    payload = open(body, 'rb').read()
    r = await context.request(Message(code=POST, uri=base + '/.well-known/cmp', payload=payload, content_format=259)).response
    print('answer', r.code, int(r.opt.content_format))
    open(out, 'wb').write(r.payload)
    r = await context.request(Message(code=POST, uri=base + '/.well-known/cmp', payload=payload, content_format=42)).response
    print('old', r.code, r.opt.content_format, r.payload.decode())
    r = await context.request(Message(code=GET, uri=base + '/.well-known/cmp')).response
    print('get', r.code)
    await context.shutdown()
    print('client done')
asyncio.run(main(*sys.argv[1:]))
"#;

fn aiocoap_posts(loss: bool) {
    let Some(python) = python() else { return };
    let runtime = runtime();
    let _guard = runtime.enter();
    // aiocoap answers no Echo challenge outside OSCORE.
    let open = CoapConfig {
        coap: homefleet_coap::Config {
            amplification: 0,
            ..plain().coap
        },
        ..plain()
    };
    let listener = bind(open, TestCa::new());
    let mut address = listener.plain_addr().unwrap();
    if loss {
        address = runtime.block_on(lossy(address));
    }
    let ca = Ca::new("CMP CA");
    let files = Files::new(&ca, &ca.endpoint(AGENT));
    let message = large_ir_of_openssl();
    assert!(message.len() > 3 * 1024);
    std::fs::write(files.path("body"), &message).unwrap();
    std::fs::write(files.path("client.py"), AIOCOAP).unwrap();
    let base = format!("coap://{address}");
    let (script, body, out) = (
        files.text("client.py"),
        files.text("body"),
        files.text("out"),
    );
    let tool = Tool::start(&python, &[&script, &base, &body, &out]);
    assert!(tool.wait_for("client done", LIMIT), "{}", tool.output());
    let said = tool.output();
    for text in [
        "links 2.05 Content",
        "</.well-known/cmp>;ct=259,</.well-known/cmp/p/home>;ct=259",
        "answer 2.04 Changed 259",
        "old 4.15",
        "get 4.05",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert_eq!(
        kind(&std::fs::read(files.path("out")).unwrap()),
        BodyKind::Ip
    );
}

#[test]
fn aiocoap_posts_a_message_of_openssl_and_discovers_the_server() {
    aiocoap_posts(false);
}

#[test]
fn aiocoap_posts_a_message_of_openssl_at_25_percent_loss() {
    aiocoap_posts(true);
}

pub(super) fn kind(message: &[u8]) -> BodyKind {
    let message = Message::decode(message, &Limits::default()).unwrap();
    message.body.kind()
}

/// A request of `openssl cmp` with certificates besides that nobody needs.
pub(super) fn large_ir_of_openssl() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let certificates = directory.path().join("extra.pem");
    let all = ["rsa", "p384", "server", "ed25519", "new", "ca"];
    let all = all.map(|name| std::fs::read_to_string(pki().path(&format!("{name}.pem"))).unwrap());
    std::fs::write(&certificates, all.concat()).unwrap();
    let options = format!(
        "{} -extracerts {}",
        ir(&by_certificate("device")),
        certificates.display()
    );
    let mut first = None;
    openssl(&options, |message| {
        first.get_or_insert_with(|| message.to_vec());
        Vec::new()
    });
    first.unwrap()
}

const OLD_SERVER: &str = r#"
import asyncio, sys, urllib.request
from aiocoap import Context, Message, CHANGED, BAD_REQUEST
import aiocoap.resource as resource
class Cmp(resource.Resource):
    def __init__(self, http):
        super().__init__()
        self.http = http
    async def render_post(self, request):
        if request.opt.content_format != 259:
            return Message(code=BAD_REQUEST)
        await asyncio.sleep(0.3)
        call = urllib.request.Request(self.http, data=request.payload, headers={'Content-Type': 'application/pkixcmp'})
        answer = await asyncio.to_thread(lambda: urllib.request.urlopen(call).read())
        return Message(code=CHANGED, payload=answer, content_format=259)
async def main(port, http):
    site = resource.Site()
    site.add_resource(['.well-known', 'cmp', 'ir'], Cmp(http))
    await Context.create_server_context(site, bind=('127.0.0.1', int(port)))
    print('serving', flush=True)
    await asyncio.get_running_loop().create_future()
asyncio.run(main(*sys.argv[1:]))
"#;

/// The mock server of `openssl cmp`, on a port of its own.
pub(super) fn mock() -> (Tool, u16) {
    let port = free_port();
    let script = format!(
        "cd {} && exec openssl cmp -config '' -port {port} -srv_cert server.pem -srv_key server.key -srv_trusted ca.pem -rsp_cert new.pem \
         -rsp_extracerts ca.pem 2>&1",
        pki().path("").display()
    );
    let tool = Tool::start("setpriv", &["--pdeathsig", "KILL", "sh", "-c", &script]);
    assert!(tool.wait_for("ACCEPT", LIMIT), "{}", tool.output());
    (tool, port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn our_client_enrols_at_openssl_over_http() {
    let (_mock, port) = mock();
    let client = Client::new(config(ServerTrust::FromCmp)).unwrap();
    for _ in 0..2 {
        let url: Url = format!("http://127.0.0.1:{port}/pkix/").parse().unwrap();
        let outcome = enroll(&client, &url, by_key("device")).await.unwrap();
        assert!(matches!(outcome, Outcome::Certificate(_)), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn our_client_enrols_over_aiocoap_and_separate_responses() {
    let Some(python) = python() else { return };
    let (_mock, port) = mock();
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("server.py");
    std::fs::write(&script, OLD_SERVER).unwrap();
    let coap = free_port();
    let http = format!("http://127.0.0.1:{port}/pkix/");
    let arguments = [text(&script), coap.to_string(), http];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = Tool::start(&python, &arguments);
    assert!(server.wait_for("serving", LIMIT), "{}", server.output());
    let client = Client::new(config(ServerTrust::FromCmp)).unwrap();
    let url: Url = format!("coap://127.0.0.1:{coap}").parse().unwrap();
    let outcome = enroll(&client, &url, by_key("device")).await.unwrap();
    assert!(matches!(outcome, Outcome::Certificate(_)), "{outcome:?}");
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// `openssl` is always there; its version is told once.
#[test]
fn the_version_of_openssl_is_told() {
    let output = Command::new("openssl").arg("version").output().unwrap();
    println!("peer: {}", String::from_utf8_lossy(&output.stdout).trim());
    assert!(output.status.success());
}
