//! libcoap's plain client and server.

use std::net::SocketAddr;
use std::time::Duration;

use homefleet_coap::{Code, Request, RequestId, Response, Type};

use super::client::{Client, by_hand};
use super::server::Server;
use super::{LIMIT, Table, check};
use crate::plugtest::{Plugtest, large};
use crate::support::live::free_port;
use crate::support::tool::{Tool, have};

/// Starts the server with room for resources that are made by PUT, and waits until it answers.
fn server(more: &[&str]) -> (Tool, SocketAddr) {
    let port = free_port();
    let text = port.to_string();
    let mut args = vec!["-A", "127.0.0.1", "-p", text.as_str(), "-d", "20"];
    args.extend(more);
    let tool = Tool::start("coap-server-notls", &args);
    (tool, SocketAddr::from(([127, 0, 0, 1], port)))
}

/// Both sides of the list that libcoap's example server has resources for: it knows no POST, no ETag and no conditional requests.
#[test]
fn etsi_list_with_our_client_and_the_libcoap_server() {
    if !have("coap-server-notls", &["-?"]) {
        return;
    }
    let (_tool, address) = server(&[]);
    let mut client = Client::new(address, 1024);
    let mut table = Table::new("our client and libcoap's server");
    let put = |path: &str, body: &[u8]| Request::put(path).content_format(0).payload(body);
    table.case("CORE_01", || {
        let shown = client.expect(Request::get("time"), Code::CONTENT)?;
        let piggybacked = client.kinds(Code::CONTENT) == [Type::Acknowledgement];
        check(piggybacked && !shown.payload.is_empty(), || {
            format!("{shown:?}")
        })
    });
    table.case("CORE_03", || {
        let shown = client.ask(put("test", b"hello"))?;
        let done = matches!(shown.code, Code::CREATED | Code::CHANGED);
        check(done, || format!("{shown:?}"))
    });
    table.case("CORE_05", || {
        let shown = client.expect(Request::get("test").non_confirmable(), Code::CONTENT)?;
        let non = client.kinds(Code::CONTENT) == [Type::NonConfirmable];
        check(non && shown.payload == b"hello", || format!("{shown:?}"))
    });
    table.case("CORE_07", || {
        let shown = client.expect(put("test", b"again").non_confirmable(), Code::CHANGED)?;
        let non = client.kinds(Code::CHANGED) == [Type::NonConfirmable];
        check(non, || format!("{shown:?}"))
    });
    table.case("CORE_02", || {
        client.ask(put("test", b"to go"))?;
        client.expect(Request::delete("test"), Code::DELETED)?;
        client.expect(Request::get("test"), Code::NOT_FOUND)?;
        Ok(())
    });
    table.case("CORE_06", || {
        client.ask(put("test", b"to go"))?;
        client.expect(Request::delete("test").non_confirmable(), Code::DELETED)?;
        Ok(())
    });
    for name in ["CORE_09", "CORE_11"] {
        table.case(name, || {
            let shown = client.expect(Request::get("async").query("1"), Code::CONTENT)?;
            let separate = client.kinds(Code::EMPTY).contains(&Type::Acknowledgement)
                && client.kinds(Code::CONTENT).contains(&Type::Confirmable);
            check(separate, || format!("{shown:?} {:?}", client.received))
        });
    }
    table.case("CORE_17", || {
        let request = Request::get("async").query("1").non_confirmable();
        let shown = client.expect(request, Code::CONTENT)?;
        let non = client.kinds(Code::EMPTY).is_empty()
            && client.kinds(Code::CONTENT) == [Type::NonConfirmable];
        check(non, || format!("{shown:?} {:?}", client.received))
    });
    table.case("CORE_12", || {
        let mut request = by_hand(Code::GET, 12, b"");
        request.options.set_path("time");
        let answer = client.by_hand(&request)?;
        let empty = answer.token.bytes().is_empty() && answer.id == 12;
        check(empty && answer.code == Code::CONTENT, || {
            format!("{answer:?}")
        })
    });
    table.case("CORE_13", || {
        client.ask(put("seg1/seg2/seg3", b"three"))?;
        let shown = client.expect(Request::get("seg1/seg2/seg3"), Code::CONTENT)?;
        check(shown.payload == b"three", || format!("{shown:?}"))
    });
    table.case("CORE_31", || {
        let pong = client.by_hand(&by_hand(Code::EMPTY, 31, b""))?;
        check((pong.kind, pong.id) == (Type::Reset, 31), || {
            format!("{pong:?}")
        })
    });
    links(&mut table, &mut client);
    blocks(&mut table, address);
    observations(&mut table, address);
    let (_tool, address) = server(&["-N"]);
    table.case("OBS_02", || {
        let mut client = Client::new(address, 1024);
        let observing = observe(&mut client)?;
        change(&mut client, observing)?;
        change(&mut client, observing)?;
        let kinds = client.kinds(Code::CONTENT);
        check(kinds == [Type::NonConfirmable], || format!("{kinds:?}"))
    });
    table.finish();
}

fn links(table: &mut Table, client: &mut Client) {
    let all = ["/time", "/example_data"];
    for (name, query, wanted, unwanted) in [
        ("LINK_01", None, &all[..], &[][..]),
        ("LINK_02", Some("rt=ticks"), &["/time"], &["/example_data"]),
        ("LINK_03", Some("rt=*"), &["/time"], &["/example_data"]),
        ("LINK_05", Some("if=clo*"), &["/time"], &["/example_data"]),
        (
            "LINK_07",
            Some("href=/time"),
            &["/time"],
            &["/example_data"],
        ),
        ("LINK_08", Some("href=/ti*"), &["/time"], &["/example_data"]),
    ] {
        table.case(name, || {
            let mut request = Request::get(".well-known/core");
            if let Some(query) = query {
                request = request.query(query);
            }
            let shown = client.expect(request, Code::CONTENT)?;
            let text = String::from_utf8_lossy(&shown.payload).into_owned();
            let links = homefleet_coap::link::parse(&text).map_err(|error| error.to_string())?;
            let has = |target: &&str| links.iter().any(|link| link.target == *target);
            let right = wanted.iter().all(has) && !unwanted.iter().any(has);
            let format = shown.options.content_format() == Some(40);
            check(right && format, || format!("{shown:?}"))
        });
    }
}

fn blocks(table: &mut Table, address: SocketAddr) {
    for (name, size) in [("BLOCK_01", 256), ("BLOCK_02", 1024), ("BLOCK_06", 16)] {
        table.case(name, || {
            let mut client = Client::new(address, size);
            let shown = client.expect(Request::get("example_data"), Code::CONTENT)?;
            let blocks = client.kinds(Code::CONTENT).len();
            let whole = shown.payload.len() > 1024 && blocks >= shown.payload.len() / size;
            check(whole, || {
                format!("{blocks} blocks, {}", shown.payload.len())
            })
        });
    }
    table.case("BLOCK_03", || {
        let mut client = Client::new(address, 512);
        let body = large(2500);
        let request = Request::put("large-update").content_format(0);
        let shown = client.ask(request.payload(body.clone()))?;
        let done = matches!(shown.code, Code::CREATED | Code::CHANGED);
        check(done && client.kinds(Code::CONTINUE).len() >= 4, || {
            format!("{shown:?}")
        })?;
        let shown = client.expect(Request::get("large-update"), Code::CONTENT)?;
        check(shown.payload == body, || "another body".to_owned())
    });
}

fn put(body: &str) -> Request {
    Request::put("obs").content_format(0).payload(body)
}

/// Makes `/obs` and observes it.
fn observe(client: &mut Client) -> Result<RequestId, String> {
    client.ask(put("first"))?;
    let observing = client.start(Request::get("obs").observe())?;
    client.answer(observing).map(|_| observing)
}

/// Writes `/obs`, of which its observer hears.
fn change(client: &mut Client, observing: RequestId) -> Result<Response, String> {
    let state = format!("{:?}", std::time::Instant::now());
    client.expect(put(&state), Code::CHANGED)?;
    let new = client.notification(observing)?;
    if new.payload == state.as_bytes() {
        Ok(new)
    } else {
        Err(format!("{state} expected: {new:?}"))
    }
}

fn observations(table: &mut Table, address: SocketAddr) {
    table.case("OBS_01", || {
        let mut client = Client::new(address, 1024);
        let observing = observe(&mut client)?;
        let first = change(&mut client, observing)?;
        let second = change(&mut client, observing)?;
        let kinds = client.kinds(Code::CONTENT);
        let grows = first.options.observe() < second.options.observe();
        check(grows && kinds == [Type::Confirmable], || {
            format!("{first:?} {second:?} {kinds:?}")
        })
    });
    table.case("OBS_03", || {
        let mut client = Client::new(address, 1024);
        let observing = observe(&mut client)?;
        change(&mut client, observing)?;
        client.cancel(observing);
        // The next notification is rejected, and none follows.
        client.expect(put("unheard"), Code::CHANGED)?;
        client.wait(Duration::from_millis(300));
        client.expect(put("not even sent"), Code::CHANGED)?;
        client.wait(Duration::from_millis(300));
        let received = client.received.len();
        check(received == 0, || format!("{received} more"))
    });
    table.case("OBS_07", || {
        let mut client = Client::new(address, 1024);
        let observing = observe(&mut client)?;
        client.expect(Request::delete("obs"), Code::DELETED)?;
        let last = client.notification(observing)?;
        check(last.code == Code::NOT_FOUND, || format!("{last:?}"))
    });
    table.case("OBS_09", || {
        let mut client = Client::new(address, 1024);
        let observing = observe(&mut client)?;
        change(&mut client, observing).map(|_| ())
    });
    table.case("OBS_10", || {
        let mut client = Client::new(address, 1024);
        let observing = observe(&mut client)?;
        let plain = client.expect(Request::get("obs"), Code::CONTENT)?;
        check(plain.options.observe().is_none(), || format!("{plain:?}"))?;
        change(&mut client, observing)?;
        change(&mut client, observing).map(|_| ())
    });
}

/// Runs the client; what it received.
fn run(uri: &str, args: &[&str]) -> Result<Vec<u8>, String> {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let mut all = vec!["-o", out.to_str().unwrap(), "-B", "10"];
    all.extend(args);
    all.push(uri);
    let mut tool = Tool::start("coap-client-notls", &all);
    check(tool.wait(LIMIT), || "it does not end".to_owned())?;
    let said = tool.output();
    check(!said.contains("4.") && !said.contains("5."), || said)?;
    Ok(std::fs::read(&out).unwrap_or_default())
}

/// libcoap's client against the plugtest server; what is on the wire is seen by the server.
#[test]
fn etsi_list_with_the_libcoap_client_and_our_server() {
    if !have("coap-client-notls", &["-?"]) {
        return;
    }
    let server = Server::start(Plugtest::config());
    let mut table = Table::new("libcoap's client and our server");
    let request = |code: Code| {
        let received = server.received();
        let found = received.iter().find(|message| message.code == code);
        found
            .cloned()
            .ok_or(format!("{code} did not come: {received:?}"))
    };
    for (kind, non) in [(Type::Confirmable, false), (Type::NonConfirmable, true)] {
        for (name, code, method) in [
            (if non { "CORE_05" } else { "CORE_01" }, Code::GET, "get"),
            (
                if non { "CORE_06" } else { "CORE_02" },
                Code::DELETE,
                "delete",
            ),
            (if non { "CORE_07" } else { "CORE_03" }, Code::PUT, "put"),
            (if non { "CORE_08" } else { "CORE_04" }, Code::POST, "post"),
        ] {
            table.case(name, || {
                let mut args = vec!["-m", method];
                if non {
                    args.push("-N");
                }
                if matches!(code, Code::PUT | Code::POST) {
                    args.extend(["-t", "0", "-e", "hello"]);
                }
                let shown = run(&server.uri("test"), &args)?;
                let request = request(code)?;
                check(request.kind == kind, || format!("{request:?}"))?;
                let text = code != Code::GET || shown == b"Hello from the plugtest";
                check(text, || format!("{shown:?}"))
            });
        }
    }
    for (name, path, args, wanted) in [
        ("CORE_09", "separate", &[][..], &b"That took some time"[..]),
        (
            "CORE_10",
            "test",
            &["-T", "tok"],
            b"Hello from the plugtest",
        ),
        (
            "CORE_11",
            "separate",
            &["-T", "tok"],
            b"That took some time",
        ),
        ("CORE_13", "seg1/seg2/seg3", &[], b"three segments"),
        (
            "CORE_14",
            "query?first=1&second=2",
            &[],
            b"first=1\nsecond=2",
        ),
        ("CORE_15", "test", &["-l", "1"], b"Hello from the plugtest"),
        ("CORE_17", "separate", &["-N"], b"That took some time"),
        ("CORE_20", "multi-format", &["-A", "0"], b"plain"),
        (
            "CORE_20",
            "multi-format",
            &["-A", "41"],
            b"<format>xml</format>",
        ),
        (
            "LINK_02",
            ".well-known/core?rt=Type1",
            &["-b", "1024"],
            b"</link1>",
        ),
        ("LINK_07", ".well-known/core?href=/link1", &[], b"</link1>"),
        ("LINK_09", "path/sub1", &[], b"/path/sub1"),
        ("BLOCK_01", "large", &["-b", "256"], &large(2100)),
        ("BLOCK_02", "large", &[], &large(2100)),
        ("BLOCK_06", "large", &["-b", "16"], &large(2100)),
        ("OBS_01", "obs", &["-s", "3"], b"tick"),
    ] {
        table.case(name, || {
            let shown = run(&server.uri(path), args)?;
            check(shown.starts_with(wanted), || {
                String::from_utf8_lossy(&shown).into_owned()
            })
        });
    }
    table.case("CORE_18", || {
        run(&server.uri("test"), &["-m", "post", "-e", "new"]).map(|_| ())
    });
    table.case("CORE_21", || {
        run(&server.uri("validate"), &["-O", "4,0xe700"])?;
        let request = request(Code::GET)?;
        check(request.options.etag() == Some(&[0xe7, 0]), || {
            format!("{request:?}")
        })
    });
    table.case("CORE_22", || {
        server.with(|app| app.validate.1 = 0);
        let args = ["-m", "put", "-e", "new", "-O", "1,0xe700"];
        run(&server.uri("validate"), &args)?;
        let refused = run(&server.uri("validate"), &args);
        check(refused.is_err_and(|said| said.contains("4.12")), || {
            "the second PUT was not refused".to_owned()
        })
    });
    table.case("CORE_23", || {
        server.with(|app| app.create1 = None);
        let args = ["-m", "put", "-e", "new", "-O", "5"];
        run(&server.uri("create1"), &args)?;
        let refused = run(&server.uri("create1"), &args);
        check(refused.is_err_and(|said| said.contains("4.12")), || {
            "the second PUT was not refused".to_owned()
        })
    });
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("body");
    std::fs::write(&file, large(2500)).unwrap();
    let file = file.to_str().unwrap();
    for (name, method, path, size) in [
        ("BLOCK_03", "put", "large-update", "1024"),
        ("BLOCK_03", "put", "large-update", "64"),
        ("BLOCK_04", "post", "large-create", "256"),
        ("BLOCK_05", "post", "large-post", "512"),
    ] {
        table.case(name, || {
            let args = ["-m", method, "-t", "0", "-f", file, "-b", size];
            let shown = run(&server.uri(path), &args)?;
            let body = large(2500);
            let right = server.with(|app| match name {
                "BLOCK_03" => app.large_update.body == body,
                "BLOCK_04" => app.created.iter().any(|state| state.body == body),
                _ => shown == body.to_ascii_uppercase(),
            });
            check(right, || format!("{} bytes", shown.len()))
        });
    }
    table.case("OBS_12", || {
        // It says good-bye by a GET with Observe 1.
        server.received();
        run(&server.uri("obs"), &["-s", "1"])?;
        let received = server.received();
        let left = received.iter().any(|m| m.options.observe() == Some(1));
        check(left, || format!("{received:?}"))
    });
    table.finish();
}
