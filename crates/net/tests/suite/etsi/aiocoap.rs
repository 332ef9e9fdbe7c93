//! aiocoap's client and server.

use std::net::SocketAddr;

use homefleet_coap::{Code, Request, Type, number};

use super::client::{Client, by_hand};
use super::server::Server;
use super::{LIMIT, Table, check};
use crate::interop_aiocoap::python;
use crate::plugtest::{Plugtest, large};
use crate::support::live::free_port;
use crate::support::tool::Tool;

/// The script as a file, in a directory that lives as long as the result.
fn script(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("script.py");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

/// Our client against the plugtest resources on aiocoap's server.
#[test]
fn etsi_list_with_our_client_and_the_aiocoap_server() {
    let Some(python) = python() else { return };
    let (_directory, path) = script(include_str!("aiocoap_server.py"));
    let port = free_port();
    let tool = Tool::start(&python, &[&path, &port.to_string()]);
    assert!(tool.wait_for("serving", LIMIT), "{}", tool.output());
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut client = Client::new(address, 1024);
    let mut table = Table::new("our client and aiocoap's server");
    let text = |request: Request| request.content_format(0).payload("hello");
    for (name, request, code) in [
        ("CORE_01", Request::get("test"), Code::CONTENT),
        ("CORE_02", Request::delete("test"), Code::DELETED),
        ("CORE_03", text(Request::put("test")), Code::CHANGED),
        ("CORE_04", text(Request::post("test")), Code::CREATED),
        ("CORE_10", Request::get("test"), Code::CONTENT),
    ] {
        table.case(name, || {
            client.expect(request.clone(), code)?;
            let kinds = client.kinds(code);
            check(kinds.contains(&Type::Acknowledgement), || {
                format!("{kinds:?}")
            })
        });
    }
    for (name, request, code) in [
        ("CORE_05", Request::get("test"), Code::CONTENT),
        ("CORE_06", Request::delete("test"), Code::DELETED),
        ("CORE_07", text(Request::put("test")), Code::CHANGED),
        ("CORE_08", text(Request::post("test")), Code::CREATED),
        ("CORE_17", Request::get("separate"), Code::CONTENT),
    ] {
        table.case(name, || {
            client.expect(request.clone().non_confirmable(), code)?;
            let kinds = client.kinds(code);
            check(kinds.contains(&Type::NonConfirmable), || {
                format!("{kinds:?}")
            })
        });
    }
    for name in ["CORE_09", "CORE_11"] {
        table.case(name, || {
            let shown = client.expect(Request::get("separate"), Code::CONTENT)?;
            let separate = client.kinds(Code::EMPTY).contains(&Type::Acknowledgement)
                && client.kinds(Code::CONTENT).contains(&Type::Confirmable);
            check(separate, || format!("{shown:?} {:?}", client.received))
        });
    }
    table.case("CORE_12", || {
        let mut request = by_hand(Code::GET, 12, b"");
        request.options.set_path("test");
        let answer = client.by_hand(&request)?;
        check(answer.token.bytes().is_empty() && answer.id == 12, || {
            format!("{answer:?}")
        })
    });
    for (name, request, wanted) in [
        ("CORE_13", Request::get("seg1/seg2/seg3"), "three segments"),
        (
            "CORE_14",
            Request::get("query").query("first=1").query("second=2"),
            "first=1\nsecond=2",
        ),
        ("CORE_20", Request::get("multi-format").accept(0), "plain"),
        ("CORE_20", Request::get("multi-format").accept(41), "<xml/>"),
        ("LINK_01", Request::get(".well-known/core"), ""),
        (
            "LINK_07",
            Request::get(".well-known/core").query("href=/test"),
            "</test>",
        ),
    ] {
        table.case(name, || {
            let shown = client.expect(request.clone(), Code::CONTENT)?;
            check(shown.payload.starts_with(wanted.as_bytes()), || {
                format!("{shown:?}")
            })
        });
    }
    for (name, path, option, values) in [
        (
            "CORE_18",
            "test",
            number::LOCATION_PATH,
            &["location1", "location2", "location3"][..],
        ),
        (
            "CORE_19",
            "location-query",
            number::LOCATION_QUERY,
            &["first=1", "second=2"],
        ),
    ] {
        table.case(name, || {
            let shown = client.expect(text(Request::post(path)), Code::CREATED)?;
            let found: Vec<&[u8]> = shown.options.all(option).collect();
            let wanted: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
            check(found == wanted, || format!("{shown:?}"))
        });
    }
    conditions(&mut table, &mut client);
    table.case("CORE_31", || {
        let pong = client.by_hand(&by_hand(Code::EMPTY, 31, b""))?;
        check((pong.kind, pong.id) == (Type::Reset, 31), || {
            format!("{pong:?}")
        })
    });
    blocks(&mut table, address);
    table.case("OBS_01", || {
        let mut client = Client::new(address, 1024);
        let observing = client.start(Request::get("obs").observe())?;
        client.answer(observing)?;
        let first = client.notification(observing)?;
        let second = client.notification(observing)?;
        check(first.options.observe() < second.options.observe(), || {
            format!("{first:?} {second:?}")
        })
    });
    table.finish();
}

fn conditions(table: &mut Table, client: &mut Client) {
    let put = |path: &str| Request::put(path).content_format(0).payload("new");
    table.case("CORE_21", || {
        let first = client.expect(Request::get("validate"), Code::CONTENT)?;
        let etag = first.options.etag().ok_or("no ETag")?.to_vec();
        let again = Request::get("validate").option(number::ETAG, &etag);
        client.expect(again.clone(), Code::VALID)?;
        client.expect(put("validate"), Code::CHANGED)?;
        client.expect(again, Code::CONTENT).map(|_| ())
    });
    table.case("CORE_22", || {
        let first = client.expect(Request::get("validate"), Code::CONTENT)?;
        let etag = first.options.etag().ok_or("no ETag")?.to_vec();
        let put = put("validate").option(number::IF_MATCH, &etag);
        client.expect(put.clone(), Code::CHANGED)?;
        client.expect(put, Code::PRECONDITION_FAILED).map(|_| ())
    });
    table.case("CORE_23", || {
        client.expect(Request::delete("create1"), Code::DELETED)?;
        let put = put("create1").option(number::IF_NONE_MATCH, b"");
        client.expect(put.clone(), Code::CREATED)?;
        client.expect(put, Code::PRECONDITION_FAILED).map(|_| ())
    });
}

fn blocks(table: &mut Table, address: SocketAddr) {
    for (name, size) in [("BLOCK_01", 256), ("BLOCK_02", 1024), ("BLOCK_06", 16)] {
        table.case(name, || {
            let mut client = Client::new(address, size);
            let shown = client.expect(Request::get("large"), Code::CONTENT)?;
            check(shown.payload == large(2100), || {
                format!("{} bytes", shown.payload.len())
            })
        });
    }
    table.case("BLOCK_03", || {
        let mut client = Client::new(address, 256);
        let body = large(2500);
        let put = Request::put("large-update").content_format(0);
        client.expect(put.payload(body.clone()), Code::CHANGED)?;
        let shown = client.expect(Request::get("large-update"), Code::CONTENT)?;
        check(shown.payload == body, || "another body".to_owned())
    });
    table.case("BLOCK_05", || {
        let mut client = Client::new(address, 1024);
        let body = large(2500);
        let post = Request::post("large-post").content_format(0);
        let shown = client.expect(post.payload(body.clone()), Code::CHANGED)?;
        check(shown.payload == body.to_ascii_uppercase(), || {
            format!("{} bytes", shown.payload.len())
        })
    });
}

/// aiocoap's client against the plugtest server.
#[test]
fn etsi_list_with_the_aiocoap_client_and_our_server() {
    let Some(python) = python() else { return };
    let (_directory, path) = script(include_str!("aiocoap_client.py"));
    let server = Server::start(Plugtest::config());
    let base = format!("coap://{}", server.address);
    let tool = Tool::start(&python, &[&path, &base]);
    assert!(tool.wait_for("client done", 5 * LIMIT), "{}", tool.output());
    let mut table = Table::new("aiocoap's client and our server");
    for line in tool.output().lines() {
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("passed"), Some(name), _) => table.case(name, || Ok(())),
            (Some("failed"), Some(name), why) => {
                let why = why.unwrap_or_default();
                table.case(name, || Err(why.to_owned()));
            }
            _ => {}
        }
    }
    assert!(table.rows.len() >= 30, "{}", tool.output());
    table.finish();
}
