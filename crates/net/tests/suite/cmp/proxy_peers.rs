//! Programs of others on both sides of the proxy: libcoap and aiocoap in front, with loss, `openssl cmp` behind.

use std::sync::Arc;

use homefleet_cmp::asn1::BodyKind;
use homefleet_net::cmp::proxy::{Check, Keys, Proxy, Rest, Route, Upstream};
use homefleet_net::cmp::{Client, ClientConfig, CoapConfig, CoapListener, ServerTrust};

use super::client::config;
use super::peers::{LIMIT, TRIES, ir, kind, large_ir_of_openssl, libcoap, mock, openssl, runtime};
use super::world::{bind, plain, secure};
use crate::interop_aiocoap::python;
use crate::openssl::by_certificate;
use crate::support::pair::AGENT;
use crate::support::pki::Ca;
use crate::support::relay::lossy;
use crate::support::tool::{Files, Tool, have};

/// In front of OpenSSL's mock server, which takes no chunked requests.
fn before(port: u16, config_of_listener: CoapConfig) -> (CoapListener, Arc<Proxy>) {
    let upstream = Upstream {
        name: "openssl".to_owned(),
        url: format!("http://127.0.0.1:{port}/pkix/").parse().unwrap(),
        client: Client::new(ClientConfig {
            chunked: false,
            ..config(ServerTrust::FromCmp)
        })
        .unwrap(),
        kinds: None,
        check: Check::Protection(Keys {
            anchors: Vec::new(),
            strangers: true,
            macs: false,
        }),
        max_under_way: 16,
        rest: Rest::default(),
    };
    let route = Route {
        label: Some("home".to_owned()),
        host: None,
        upstream: 0,
    };
    let proxy = Arc::new(Proxy::new(vec![upstream], vec![route]).unwrap());
    (bind(config_of_listener, proxy.clone()), proxy)
}

/// `openssl cmp` asks and confirms by libcoap's client, the proxy, and `openssl cmp` again.
fn enrolled_by(program: &str, scheme: &str, more: &[&str], loss: bool) {
    if !have(program, &["-?"]) {
        return;
    }
    let runtime = runtime();
    let _guard = runtime.enter();
    let ca = Ca::new("CMP CA");
    let (_mock, port) = mock();
    let (listener, proxy) = before(port, secure(&ca, None));
    let files = Files::new(&ca, &ca.endpoint(AGENT));
    let addr = if scheme == "coap" {
        listener.plain_addr().unwrap()
    } else {
        listener.secure_addr().unwrap()
    };
    let url = format!(
        "{scheme}://127.0.0.1:{}/.well-known/cmp/p/home/ir",
        addr.port()
    );
    let (body, root) = (files.text("body"), files.text("ca.pem"));
    let mut args = vec!["-m", "post", "-t", "259", "-f", &body];
    if scheme == "coaps" {
        args.extend(["-C", &root]);
    }
    args.extend(more);
    if loss {
        args.extend(["-l", "25%"]);
    }
    let mut said = String::new();
    let done = (0..if loss { TRIES } else { 1 }).any(|_| {
        let done;
        (done, said) = openssl(&ir(&by_certificate("device")), |message| {
            std::fs::write(files.path("body"), message).unwrap();
            libcoap(program, &files, &args, &url)
        });
        done
    });
    assert!(done, "{program}: {said}");
    let stats = proxy.stats().remove(0);
    assert!(stats.answered >= 2, "{stats:?}");
    assert_eq!(stats.refused, 0);
}

#[test]
fn openssl_enrols_at_openssl_by_libcoap_and_the_proxy() {
    enrolled_by("coap-client-notls", "coap", &["-b", "128"], false);
    enrolled_by("coap-client-openssl", "coaps", &[], false);
    enrolled_by("coap-client-gnutls", "coaps", &[], false);
}

#[test]
fn openssl_enrols_at_openssl_by_libcoap_and_the_proxy_at_25_percent_loss() {
    enrolled_by("coap-client-notls", "coap", &["-b", "256"], true);
    enrolled_by("coap-client-openssl", "coaps", &[], true);
}

const AIOCOAP: &str = r#"
import asyncio, sys
from aiocoap import Context, Message, GET, POST
async def main(base, body, out):
    context = await Context.create_client_context()
    r = await context.request(Message(code=GET, uri=base + '/.well-known/core?ct=259')).response
    print('links', r.code, r.payload.decode())
    payload = open(body, 'rb').read()
    r = await context.request(Message(code=POST, uri=base + '/.well-known/cmp/p/home/ir', payload=payload, content_format=259)).response
    print('answer', r.code, int(r.opt.content_format))
    open(out, 'wb').write(r.payload)
    r = await context.request(Message(code=POST, uri=base + '/.well-known/cmp/p/home/ir', payload=b'0', content_format=259)).response
    print('bad', r.code)
    r = await context.request(Message(code=POST, uri=base + '/.well-known/cmp', payload=payload, content_format=259)).response
    print('astray', r.code)
    await context.shutdown()
    print('client done')
asyncio.run(main(*sys.argv[1:]))
"#;

#[test]
fn aiocoap_posts_through_the_proxy_to_openssl_at_25_percent_loss() {
    let Some(python) = python() else { return };
    let runtime = runtime();
    let _guard = runtime.enter();
    let (_mock, port) = mock();
    // aiocoap answers no Echo challenge outside OSCORE.
    let open = CoapConfig {
        coap: homefleet_coap::Config {
            amplification: 0,
            ..plain().coap
        },
        ..plain()
    };
    let (listener, proxy) = before(port, open);
    let address = runtime.block_on(lossy(listener.plain_addr().unwrap()));
    let ca = Ca::new("CMP CA");
    let files = Files::new(&ca, &ca.endpoint(AGENT));
    std::fs::write(files.path("body"), large_ir_of_openssl()).unwrap();
    std::fs::write(files.path("client.py"), AIOCOAP).unwrap();
    let base = format!("coap://{address}");
    let names = ["client.py", "body", "out"].map(|name| files.text(name));
    let tool = Tool::start(&python, &[&names[0], &base, &names[1], &names[2]]);
    assert!(tool.wait_for("client done", LIMIT), "{}", tool.output());
    let said = tool.output();
    for text in [
        "links 2.05 Content </.well-known/cmp/p/home>;ct=259",
        "answer 2.04 Changed 259",
        "bad 4.00",
        "astray 4.04",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    let answer = std::fs::read(files.path("out")).unwrap();
    assert_eq!(kind(&answer), BodyKind::Ip);
    // Whatever was lost, the CA heard it once.
    assert_eq!(proxy.stats().remove(0).forwarded, 1);
    assert_eq!(proxy.counts().astray, 1);
}
