//! TD_COAP_LINK_01 to 09: resource discovery (RFC 6690).

use homefleet_coap::link::{Link, parse};
use homefleet_coap::{Code, Request, content_format, number};

use super::lab::Lab;
use crate::plugtest::Plugtest;

/// Asks for links; their targets, after the checks that every description has.
fn links(lab: &mut Lab, path: &str, query: Option<&str>) -> Vec<Link> {
    let mut request = Request::get(path);
    if let Some(query) = query {
        request = request.query(query);
    }
    let shown = lab.ask(request);
    let packets = lab.wire();
    let (request, response) = (&packets[0], &packets[1]);
    let wanted: Vec<&[u8]> = query.iter().map(|text| text.as_bytes()).collect();
    request.has(number::URI_QUERY, &wanted);
    assert_eq!(response.code, Code::CONTENT);
    assert_eq!(
        response.options.content_format(),
        Some(content_format::LINK_FORMAT)
    );
    parse(std::str::from_utf8(&shown.payload).unwrap()).unwrap()
}

fn discover(query: Option<&str>) -> Vec<Link> {
    links(&mut Lab::new(), ".well-known/core", query)
}

fn targets(query: &str) -> Vec<String> {
    discover(Some(query))
        .into_iter()
        .map(|link| link.target)
        .collect()
}

/// `/.well-known/core`: 2.05 in format 40 with all the links of the server.
#[test]
fn td_coap_link_01() {
    assert_eq!(discover(None), Plugtest::links());
}

/// `rt=observe`: only the links of that type.
#[test]
fn td_coap_link_02() {
    assert_eq!(targets("rt=observe"), ["/obs", "/obs-non"]);
}

/// `rt=*`: only the links that have an `rt` attribute.
#[test]
fn td_coap_link_03() {
    assert_eq!(
        targets("rt=*"),
        ["/obs", "/obs-non", "/link1", "/link2", "/link3", "/link4"]
    );
}

/// `rt=Type2`: of links with several types those that have it among them.
#[test]
fn td_coap_link_04() {
    assert_eq!(targets("rt=Type2"), ["/link1", "/link2"]);
}

/// `if=If*`: the links whose interface description begins so.
#[test]
fn td_coap_link_05() {
    assert_eq!(targets("if=If*"), ["/link1", "/link2"]);
}

/// `sz=*`: only the links that have an `sz` attribute.
#[test]
fn td_coap_link_06() {
    assert_eq!(targets("sz=*"), ["/large"]);
}

/// `href=/link1`: that link only.
#[test]
fn td_coap_link_07() {
    assert_eq!(targets("href=/link1"), ["/link1"]);
}

/// `href=/link*`: the links whose target begins so.
#[test]
fn td_coap_link_08() {
    assert_eq!(
        targets("href=/link*"),
        ["/link1", "/link2", "/link3", "/link4"]
    );
}

/// A hierarchy: `/path` is listed with `ct=40`, it lists its sub-resources, and they can be read.
#[test]
fn td_coap_link_09() {
    let mut lab = Lab::new();
    let all = links(&mut lab, ".well-known/core", None);
    let path = all.iter().find(|link| link.target == "/path").unwrap();
    assert_eq!(path.value("ct"), Some("40"));
    let subs = links(&mut lab, "path", None);
    assert!(!subs.is_empty());
    for sub in subs {
        let shown = lab.ask(Request::get(&sub.target));
        assert_eq!(shown.code, Code::CONTENT);
        assert_eq!(shown.payload, sub.target.as_bytes());
    }
}
