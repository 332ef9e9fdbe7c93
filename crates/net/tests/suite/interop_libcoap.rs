//! libcoap's clients and servers (OpenSSL, GnuTLS and plain builds) against a live endpoint, both ways, with
//! block-wise bodies, on a good network and at 25 % loss.

use std::time::Duration;

use homefleet_coap::{Code, Request, Scheme};
use homefleet_net::coap::{Node, Target};
use homefleet_net::dtls;

use crate::support::live::free_port;
use crate::support::nodes::{big, brisk, node_with};
use crate::support::pair::{AGENT, CONTROLLER};
use crate::support::pki::{Ca, Issued, Leaf};
use crate::support::tool::{Files, Tool, have};

const LIMIT: Duration = Duration::from_secs(90);

/// libcoap presents exactly one certificate, so it is issued by the root.
fn direct(ca: &Ca, id: &str) -> Issued {
    let mut leaf = Leaf::endpoint(id);
    leaf.through_intermediate = false;
    ca.issue(&leaf)
}

fn body(len: usize) -> Vec<u8> {
    (0..len).map(|n| b'a' + (n % 23) as u8).collect()
}

/// Tries at 25 % loss: libcoap's clients give up a handshake after a few lost flights, and their servers take the repetition
/// of a last block (its acknowledgement was lost) for a body of its own.
const TRIES: usize = 8;

/// Runs a client, at 25 % loss until it has received something; what that is, and what it said.
fn run_client(
    program: &str,
    files: &Files,
    secure: bool,
    loss: bool,
    uri: &str,
    more: &[&str],
) -> (Vec<u8>, String) {
    let mut said = String::new();
    for _ in 0..if loss { TRIES } else { 1 } {
        let (received, output) = run_client_once(program, files, secure, loss, uri, more);
        said = output;
        if !received.is_empty() {
            return (received, said);
        }
    }
    (Vec::new(), said)
}

fn run_client_once(
    program: &str,
    files: &Files,
    secure: bool,
    loss: bool,
    uri: &str,
    more: &[&str],
) -> (Vec<u8>, String) {
    let (chain, key, root, out) = (
        files.text("chain.pem"),
        files.text("key.pem"),
        files.text("ca.pem"),
        files.text("out"),
    );
    // The file of an earlier run must not be taken for this one's.
    let _gone = std::fs::remove_file(files.path("out"));
    let mut args = vec!["-o", out.as_str(), "-B", "60"];
    if secure {
        args.extend(["-c", &chain, "-j", &key, "-C", &root]);
    }
    if loss {
        args.extend(["-l", "25%"]);
    }
    args.extend(more);
    args.push(uri);
    let mut tool = Tool::start(program, &args);
    assert!(
        tool.wait(LIMIT),
        "{program} does not end: {}",
        tool.output()
    );
    (
        std::fs::read(files.path("out")).unwrap_or_default(),
        tool.output(),
    )
}

struct Served {
    _runtime: tokio::runtime::Runtime,
    node: Node,
    ca: Ca,
}

fn serve() -> Served {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let ca = Ca::new("Interop CA");
    let node = {
        let _guard = runtime.enter();
        // Where a peer drops a handshake for good, it is begun anew soon.
        let hurried = dtls::Config {
            initial_retransmit: Duration::from_millis(400),
            handshake_timeout: Duration::from_secs(15),
            ..dtls::Config::default()
        };
        node_with(&direct(&ca, CONTROLLER), ca.verifier(), brisk(), hurried)
    };
    Served {
        _runtime: runtime,
        node,
        ca,
    }
}

fn coaps_client(program: &str, loss: bool) {
    if !have(program, &["-?"]) {
        return;
    }
    let served = serve();
    let files = Files::new(&served.ca, &direct(&served.ca, AGENT));
    let base = format!(
        "coaps://127.0.0.1:{}",
        served.node.local_addr().unwrap().port()
    );
    let request = body(4500);
    std::fs::write(files.path("body"), &request).unwrap();
    let text = files.text("body");

    let (received, said) = run_client(program, &files, true, loss, &format!("{base}/who"), &[]);
    assert_eq!(String::from_utf8_lossy(&received), AGENT, "{said}");
    let (received, said) = run_client(program, &files, true, loss, &format!("{base}/big"), &[]);
    assert!(received == big(), "{} bytes; {said}", received.len());
    let (received, said) = run_client(
        program,
        &files,
        true,
        loss,
        &format!("{base}/echo"),
        &["-m", "post", "-f", &text, "-t", "42"],
    );
    assert!(received == request, "{} bytes; {said}", received.len());
}

#[test]
fn libcoap_openssl_client_is_served() {
    coaps_client("coap-client-openssl", false);
}

#[test]
fn libcoap_openssl_client_is_served_at_25_percent_loss() {
    coaps_client("coap-client-openssl", true);
}

#[test]
fn libcoap_gnutls_client_is_served() {
    coaps_client("coap-client-gnutls", false);
}

#[test]
fn libcoap_gnutls_client_is_served_at_25_percent_loss() {
    coaps_client("coap-client-gnutls", true);
}

fn coap_client(loss: bool) {
    let program = "coap-client-notls";
    if !have(program, &["-?"]) {
        return;
    }
    let served = serve();
    let files = Files::new(&served.ca, &direct(&served.ca, AGENT));
    let base = format!(
        "coap://127.0.0.1:{}",
        served.node.plain_addr().unwrap().port()
    );
    let request = body(4500);
    std::fs::write(files.path("body"), &request).unwrap();
    let text = files.text("body");
    let (received, said) = run_client(program, &files, false, loss, &format!("{base}/big"), &[]);
    assert!(received == big(), "{} bytes; {said}", received.len());
    let sizes: &[&str] = if loss { &["1024"] } else { &["64", "1024"] };
    for size in sizes {
        let (received, said) = run_client(
            program,
            &files,
            false,
            loss,
            &format!("{base}/echo"),
            &["-m", "put", "-f", &text, "-b", size],
        );
        assert!(received == request, "{} bytes; {said}", received.len());
    }
}

#[test]
fn libcoap_plain_client_is_served() {
    coap_client(false);
}

#[test]
fn libcoap_plain_client_is_served_at_25_percent_loss() {
    coap_client(true);
}

#[test]
fn libcoap_client_without_certificate_gets_nothing() {
    for program in ["coap-client-openssl", "coap-client-gnutls"] {
        if !have(program, &["-?"]) {
            continue;
        }
        let served = serve();
        let files = Files::new(&served.ca, &direct(&served.ca, AGENT));
        let uri = format!(
            "coaps://127.0.0.1:{}/who",
            served.node.local_addr().unwrap().port()
        );
        // A PKI client without a certificate of its own.
        let (out, root) = (files.text("out"), files.text("ca.pem"));
        let _tool = Tool::start(
            program,
            &["-o", &out, "-B", "5", "-R", &root, "-C", &root, &uri],
        );
        let other = Ca::new("Other CA");
        let strangers = Files::new(&served.ca, &direct(&other, AGENT));
        let (received, _said) = run_client(program, &strangers, true, false, &uri, &["-B", "5"]);
        assert!(received.is_empty());
        assert!(
            std::fs::read(files.path("out"))
                .unwrap_or_default()
                .is_empty()
        );
        let stats = served.node.stats();
        assert_eq!(stats.dtls.established, 0);
        assert!(stats.dtls.refused >= 1);
        assert_eq!(stats.coap.requests_delivered, 0);
    }
}

/// Asks a server, at 25 % loss up to `TRIES` servers: one that has lost its last flight of a handshake takes the client's next
/// hello for a part of it, as long as it comes from the same port.
fn server(program: &str, secure: bool, loss: bool) {
    if !have(program, &["-?"]) {
        return;
    }
    let mut said = String::new();
    for _ in 0..if loss { TRIES } else { 1 } {
        match server_once(program, secure, loss) {
            Ok(()) => return,
            Err(error) => said.push_str(&error),
        }
    }
    panic!("{said}");
}

fn server_once(program: &str, secure: bool, loss: bool) -> Result<(), String> {
    let served = serve();
    let files = Files::new(&served.ca, &direct(&served.ca, "self::libcoap"));
    let port = free_port();
    let (text, chain, key, root) = (
        port.to_string(),
        files.text("chain.pem"),
        files.text("key.pem"),
        files.text("ca.pem"),
    );
    let mut args = vec![
        "-A",
        "127.0.0.1",
        "-p",
        text.as_str(),
        "-d",
        "10",
        "-v",
        "4",
    ];
    if secure {
        args.extend(["-c", &chain, "-j", &key, "-C", &root]);
    }
    if loss {
        args.extend(["-l", "25%"]);
    }
    let tool = Tool::start(program, &args);
    let target = Target {
        scheme: if secure { Scheme::Coaps } else { Scheme::Coap },
        host: "localhost".to_owned(),
        port: if secure { port + 1 } else { port },
        endpoint_id: secure.then(|| "self::libcoap".to_owned()),
    };
    let content = body(5000);
    let tries = if loss { TRIES } else { 1 };
    let ask = async |request: Request| {
        let answer = served.node.request(&target, request).await;
        answer.map_err(|error| format!("{error}: {}\n", tool.output()))
    };
    let outcome = served._runtime.block_on(async {
        // It needs a moment to bind; the handshake and CoAP retransmit meanwhile.
        let mut stored = false;
        for _ in 0..tries {
            let put = Request::put("stored")
                .content_format(0)
                .payload(content.clone());
            let code = ask(put).await?.code;
            assert!(code == Code::CREATED || code == Code::CHANGED, "{code}");
            let response = ask(Request::get("stored")).await?;
            assert_eq!(response.code, Code::CONTENT);
            if response.payload == content {
                stored = true;
                break;
            }
            assert!(
                loss && content.ends_with(&response.payload),
                "{} bytes",
                response.payload.len()
            );
        }
        assert!(stored);
        let core = Request::get(".well-known/core");
        let response = ask(core).await?;
        assert_eq!(response.options.content_format(), Some(40));
        let slow = Request::get("async").query("1");
        let response = ask(slow).await?;
        assert_eq!(response.code, Code::CONTENT, "a separate response");
        Ok(())
    });
    served._runtime.block_on(served.node.shutdown());
    outcome
}

#[test]
fn libcoap_openssl_server_is_spoken_to() {
    server("coap-server-openssl", true, false);
}

#[test]
fn libcoap_openssl_server_is_spoken_to_at_25_percent_loss() {
    server("coap-server-openssl", true, true);
}

#[test]
fn libcoap_gnutls_server_is_spoken_to() {
    server("coap-server-gnutls", true, false);
}

#[test]
fn libcoap_gnutls_server_is_spoken_to_at_25_percent_loss() {
    server("coap-server-gnutls", true, true);
}

#[test]
fn libcoap_plain_server_is_spoken_to() {
    server("coap-server-notls", false, false);
}

#[test]
fn libcoap_plain_server_is_spoken_to_at_25_percent_loss() {
    server("coap-server-notls", false, true);
}
