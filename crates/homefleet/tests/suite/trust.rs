//! `homefleet trust explain` on certificates made by the demo's authority.

use std::path::PathBuf;

use homefleet_cli::demo::pki::Authority;

use crate::support::{Ran, fresh_dir, run};

fn explain(name: &str, more: &[&str]) -> Ran {
    let dir = fresh_dir(name);
    let authority = Authority::open(&dir).unwrap();
    let issued = authority
        .endpoint(&dir, "peer", "os::012345-1", &["gateway.example"])
        .unwrap();
    let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let (chain, anchors) = (text(&issued.certificate), text(&authority.certificate));
    let mut args = vec!["trust", "explain", "--chain", &chain, "--anchors", &anchors];
    args.extend(more);
    run(&args)
}

#[test]
fn a_good_certificate_is_walked_to_its_end() {
    let ran = explain("good", &["--host", "gateway.example"]).code(0);
    for step in ["Dates valid?", "Name matches?", "Signed by a trusted CA?"] {
        assert!(ran.out.contains(step), "{step}: {}", ran.out);
    }
}

#[test]
fn another_host_is_refused_with_exit_code_4() {
    let ran = explain("host", &["--host", "other.example"]).code(4);
    assert!(ran.out.contains("Name matches?"), "{ran:?}");
    assert!(ran.err.contains("refused"), "{ran:?}");
}

#[test]
fn the_endpoint_id_stands_in_for_the_host() {
    explain(
        "eid",
        &["--host", "192.0.2.1", "--endpoint-id", "os::012345-1"],
    )
    .code(0);
    explain(
        "eid",
        &["--host", "192.0.2.1", "--endpoint-id", "os::012345-2"],
    )
    .code(4);
}

#[test]
fn an_accepted_peer_may_speak_for_its_own_endpoint_id_only() {
    explain("accepted", &["--accepted", "--endpoint-id", "os::012345-1"]).code(0);
    let ran = explain("accepted", &["--accepted", "--endpoint-id", "os::012345-2"]).code(4);
    assert!(ran.err.contains("R-SEC.0a"), "{ran:?}");
}

#[test]
fn dates_count_unless_the_time_is_unknown() {
    explain("time", &["--accepted", "--at", "2199-01-01T00:00:00Z"]).code(4);
    explain("time", &["--accepted", "--time-unknown"]).code(0);
    explain("time", &["--accepted", "--at", "yesterday"]).code(2);
}

#[test]
fn the_decision_is_told_as_json() {
    let ran = explain("json", &["--accepted", "--json"]).code(0);
    let decision = ran.json();
    assert_eq!(decision["outcome"], "establish");
    assert_eq!(decision["peer"]["endpoint_ids"][0], "os::012345-1");
    assert!(
        decision["steps"].as_array().unwrap().len() >= 4,
        "{decision}"
    );
}

#[test]
fn files_that_are_not_there_or_not_certificates_are_said_so() {
    let dir = fresh_dir("files");
    let junk = dir.join("junk.pem");
    std::fs::write(&junk, "hello").unwrap();
    let junk = junk.to_str().unwrap();
    run(&[
        "trust",
        "explain",
        "--chain",
        "/nonexistent.pem",
        "--anchors",
        junk,
        "--accepted",
    ])
    .code(3);
    let ran = run(&[
        "trust",
        "explain",
        "--chain",
        junk,
        "--anchors",
        junk,
        "--accepted",
    ])
    .code(1);
    assert!(ran.err.contains("no certificate"), "{ran:?}");
}
