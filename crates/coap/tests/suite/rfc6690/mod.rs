//! RFC 6690, the CoRE link format.

use homefleet_coap::link::{self, Link, LinkError};
use proptest::prelude::*;

fn links() -> Vec<Link> {
    vec![
        Link::new("/usp")
            .attribute("rt", "bbf.usp.endpoint")
            .attribute("if", "bbf.usp.c")
            .attribute("ct", "42"),
        Link::new("/sensors/temp")
            .attribute("rt", "temperature-c sensor")
            .attribute("if", "sensor")
            .attribute("sz", "1024")
            .flag("obs"),
        Link::new("/sensors/light")
            .attribute("rt", "light-lux")
            .attribute("if", "sensor")
            .attribute("title", "say \"hi\", \\o/"),
    ]
}

fn filtered(query: &[&str]) -> Vec<String> {
    let body = link::core(&links(), query.iter().copied());
    let parsed = link::parse(&body).unwrap();
    parsed.into_iter().map(|link| link.target).collect()
}

#[test]
fn links_are_written_as_in_section_2() {
    let text = link::core(&links(), std::iter::empty());
    assert_eq!(
        text,
        "</usp>;rt=\"bbf.usp.endpoint\";if=\"bbf.usp.c\";ct=42,\
         </sensors/temp>;rt=\"temperature-c sensor\";if=\"sensor\";sz=1024;obs,\
         </sensors/light>;rt=\"light-lux\";if=\"sensor\";title=\"say \\\"hi\\\", \\\\o/\""
    );
    assert_eq!(link::parse(&text).unwrap(), links());
}

#[test]
fn a_filter_compares_the_whole_value() {
    assert_eq!(filtered(&["rt=light-lux"]), ["/sensors/light"]);
    assert_eq!(filtered(&["rt=light"]), [""; 0]);
    assert_eq!(filtered(&["title=say \"hi\", \\o/"]), ["/sensors/light"]);
    assert_eq!(filtered(&["nothing=x"]), [""; 0]);
}

#[test]
fn a_star_compares_the_beginning() {
    assert_eq!(filtered(&["rt=light*"]), ["/sensors/light"]);
    assert_eq!(filtered(&["rt=*"]).len(), 3);
    assert_eq!(filtered(&["sz=*"]), ["/sensors/temp"]);
}

#[test]
fn href_compares_the_target() {
    assert_eq!(filtered(&["href=/usp"]), ["/usp"]);
    assert_eq!(filtered(&["href=/sensors/*"]).len(), 2);
    assert_eq!(filtered(&["href=*"]).len(), 3);
}

#[test]
fn relation_types_match_one_of_the_list() {
    assert_eq!(filtered(&["rt=sensor"]), ["/sensors/temp"]);
    assert_eq!(filtered(&["rt=temperature-c"]), ["/sensors/temp"]);
    assert_eq!(filtered(&["rt=temp*"]), ["/sensors/temp"]);
    assert_eq!(filtered(&["if=sensor"]).len(), 2);
}

#[test]
fn several_filters_have_to_match_all() {
    assert_eq!(filtered(&["if=sensor", "sz=1024"]), ["/sensors/temp"]);
    assert_eq!(filtered(&["if=sensor", "ct=42"]), [""; 0]);
}

#[test]
fn a_bare_name_asks_for_presence() {
    assert_eq!(filtered(&["obs"]), ["/sensors/temp"]);
}

#[test]
fn foreign_link_format_is_read() {
    let text = "</a>;ct=\"0 40\"; title*=UTF-8''x ,\n</b,c;d>;rt=x;if = \"y;z\" , <coap://h/>";
    let links = link::parse(text).unwrap();
    assert_eq!(links.len(), 3);
    assert_eq!(links[0].value("title*"), Some("UTF-8''x"));
    assert!(links[0].matches("ct=40"));
    assert_eq!(links[1].target, "/b,c;d");
    assert_eq!(links[1].value("if"), Some("y;z"));
    assert_eq!(link::parse("").unwrap(), []);
}

#[test]
fn mistakes_are_named_with_their_place() {
    assert_eq!(link::parse("/a"), Err(LinkError::Target(0)));
    assert_eq!(link::parse("</a>,x"), Err(LinkError::Target(5)));
    assert_eq!(link::parse("</a"), Err(LinkError::UnclosedTarget(0)));
    assert_eq!(link::parse("</a>;=1"), Err(LinkError::AttributeName(5)));
    assert_eq!(
        link::parse("</a>;t=\"x\\\""),
        Err(LinkError::UnclosedQuote(7))
    );
    assert_eq!(link::parse("</a> </b>"), Err(LinkError::Separator(5)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn links_survive_a_round_trip(
        list in prop::collection::vec(
            ("[^>\u{0}-\u{1f}]{0,10}", prop::collection::vec(
                ("[a-z][a-z0-9*]{0,5}", prop::option::of("[^\u{0}-\u{1f}]{0,10}")), 0..4)),
            0..4,
        )
    ) {
        let links: Vec<Link> = list
            .into_iter()
            .map(|(target, attributes)| Link { target, attributes })
            .collect();
        prop_assert_eq!(link::parse(&link::core(&links, std::iter::empty())), Ok(links));
    }

    #[test]
    fn any_text_parses_or_fails(text in "[<>;,=\"\\\\a ]{0,30}") {
        link::parse(&text).ok();
    }
}
