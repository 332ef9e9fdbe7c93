//! aiocoap (Python) as plain CoAP client and server, with block-wise bodies.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use homefleet_coap::{Code, Config, Request, Scheme};
use homefleet_net::coap::Target;
use homefleet_net::dtls;

use crate::support::live::free_port;
use crate::support::nodes::{big, brisk, node, node_with};
use crate::support::pair::{AGENT, CONTROLLER};
use crate::support::pki::Ca;
use crate::support::relay::lossy;
use crate::support::tool::{Files, Tool, skip};

/// aiocoap repeats after two to three seconds, and a quarter of a few dozen datagrams is repeated.
const LIMIT: Duration = Duration::from_secs(180);

const CLIENT: &str = r#"
import asyncio, sys
from aiocoap import Context, Message, GET, POST, PUT
async def main(base, body, out):
    context = await Context.create_client_context()
    payload = open(body, 'rb').read()
    r = await context.request(Message(code=GET, uri=base + '/big')).response
    print('big', r.code, len(r.payload))
    r = await context.request(Message(code=POST, uri=base + '/echo', payload=payload, content_format=42)).response
    print('echo', r.code, len(r.payload))
    open(out, 'wb').write(r.payload)
    r = await context.request(Message(code=GET, uri=base + '/nowhere')).response
    print('nowhere', r.code)
    await context.shutdown()
    print('client done')
asyncio.run(main(*sys.argv[1:]))
"#;

const SERVER: &str = r#"
import asyncio, sys
from aiocoap import Context, Message, CHANGED, CONTENT
import aiocoap.resource as resource
class Echo(resource.Resource):
    async def render_post(self, request):
        return Message(code=CHANGED, payload=request.payload)
class Slow(resource.Resource):
    async def render_get(self, request):
        await asyncio.sleep(1.5)
        return Message(code=CONTENT, payload=b'slow but sure')
async def main(port):
    site = resource.Site()
    site.add_resource(['.well-known', 'core'], resource.WKCResource(site.get_resources_as_linkheader))
    site.add_resource(['echo'], Echo())
    site.add_resource(['slow'], Slow())
    await Context.create_server_context(site, bind=('127.0.0.1', int(port)))
    print('serving', flush=True)
    await asyncio.get_running_loop().create_future()
asyncio.run(main(*sys.argv[1:]))
"#;

/// A Python that has aiocoap: `HOMEFLEET_PYTHON`, or `python3`.
pub(crate) fn python() -> Option<String> {
    let candidates = [
        std::env::var("HOMEFLEET_PYTHON").ok(),
        Some("python3".to_owned()),
    ];
    for python in candidates.into_iter().flatten() {
        let output = Command::new(&python)
            .args([
                "-c",
                "import aiocoap, importlib.metadata as m; print(m.version('aiocoap'))",
            ])
            .stdin(Stdio::null())
            .output();
        if let Ok(output) = output
            && output.status.success()
        {
            println!(
                "peer: aiocoap {}",
                String::from_utf8_lossy(&output.stdout).trim()
            );
            return Some(python);
        }
    }
    skip("no Python with aiocoap (set HOMEFLEET_PYTHON)");
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn aiocoap_client_is_served() {
    client_is_served(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn aiocoap_client_is_served_at_25_percent_loss() {
    client_is_served(true).await;
}

async fn client_is_served(with_loss: bool) {
    let Some(python) = python() else { return };
    let ca = Ca::new("Interop CA");
    let issued = ca.endpoint(CONTROLLER);
    // aiocoap answers no Echo challenge outside OSCORE: it is served by who takes addresses as verified.
    let open = Config {
        amplification: 0,
        ..brisk()
    };
    let node = node_with(&issued, ca.verifier(), open, dtls::Config::default());
    let files = Files::new(&ca, &issued);
    let body: Vec<u8> = (0..6000_u32).map(|n| (n % 241) as u8).collect();
    std::fs::write(files.path("body"), &body).unwrap();
    std::fs::write(files.path("client.py"), CLIENT).unwrap();
    let mut address = node.plain_addr().unwrap();
    if with_loss {
        address = lossy(address).await;
    }
    let base = format!("coap://{address}");
    let (script, body_path, out) = (
        files.text("client.py"),
        files.text("body"),
        files.text("out"),
    );
    let tool = Tool::start(&python, &[&script, &base, &body_path, &out]);
    assert!(tool.wait_for("client done", LIMIT), "{}", tool.output());
    assert!(
        tool.output()
            .contains(&format!("big 2.05 Content {}", big().len())),
        "{}",
        tool.output()
    );
    assert!(tool.output().contains("nowhere 4.04"), "{}", tool.output());
    assert_eq!(std::fs::read(files.path("out")).unwrap(), body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn aiocoap_server_is_spoken_to() {
    server_is_spoken_to(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn aiocoap_server_is_spoken_to_at_25_percent_loss() {
    server_is_spoken_to(true).await;
}

async fn server_is_spoken_to(with_loss: bool) {
    let Some(python) = python() else { return };
    let ca = Ca::new("Interop CA");
    let issued = ca.endpoint(AGENT);
    let node = node(&issued, ca.verifier());
    let files = Files::new(&ca, &issued);
    std::fs::write(files.path("server.py"), SERVER).unwrap();
    let port = free_port();
    let (script, text) = (files.text("server.py"), port.to_string());
    let tool = Tool::start(&python, &[&script, &text]);
    assert!(tool.wait_for("serving", LIMIT), "{}", tool.output());
    let mut address = SocketAddr::from(([127, 0, 0, 1], port));
    if with_loss {
        address = lossy(address).await;
    }
    let target = Target {
        scheme: Scheme::Coap,
        host: address.ip().to_string(),
        port: address.port(),
        endpoint_id: None,
    };
    let body: Vec<u8> = (0..6000_u32).map(|n| (n % 241) as u8).collect();
    let response = node
        .request(&target, Request::post("echo").payload(body.clone()))
        .await
        .unwrap();
    assert_eq!(response.code, Code::CHANGED);
    assert_eq!(response.payload, body);
    let response = node.request(&target, Request::get("slow")).await.unwrap();
    assert_eq!(response.payload, b"slow but sure");
    let response = node
        .request(&target, Request::get(".well-known/core"))
        .await
        .unwrap();
    assert!(String::from_utf8_lossy(&response.payload).contains("/echo"));
}
