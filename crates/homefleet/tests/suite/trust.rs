//! `homefleet trust explain` on certificates made by the demo's authority.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// Runs shell commands in a directory.
fn shell(dir: &Path, script: &str) {
    let ran = Command::new("sh")
        .args(["-e", "-c", script])
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

/// What the manual's recipes make, in a directory of its own.
fn by_the_manual(name: &str) -> PathBuf {
    let manual =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/manual/certificates.md");
    let text = std::fs::read_to_string(manual).unwrap();
    let recipes: String = text
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    let dir = fresh_dir(name);
    shell(&dir, &recipes);
    dir
}

#[test]
fn a_certificate_revoked_by_the_manuals_recipe_is_refused() {
    let dir = by_the_manual("revoked");
    let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let ask = |chain: &str, more: &[&str]| {
        let (chain, anchors) = (file(chain), file("ca.pem"));
        let mut args = vec![
            "trust",
            "explain",
            "--chain",
            &chain,
            "--anchors",
            &anchors,
            "--accepted",
        ];
        args.extend(more);
        run(&args)
    };
    let list = file("revoked.pem");
    ask("device-chain.pem", &[]).code(0);
    let ran = ask("device-chain.pem", &["--crl", &list]).code(4);
    assert!(
        ran.err.contains("revoked") && ran.err.contains("alert 44"),
        "{ran:?}"
    );
    ask("server-chain.pem", &["--crl", &list, "--unknown", "refuse"]).code(0);
    // Nothing tells about the issuing CA.
    let refuse = [
        "--crl",
        &list,
        "--revocation",
        "chain",
        "--unknown",
        "refuse",
    ];
    let ran = ask("server-chain.pem", &refuse).code(4);
    assert!(ran.err.contains("could not be found out"), "{ran:?}");
    let ran = ask("server-chain.pem", &[&refuse[..], &["--json"]].concat()).code(4);
    assert_eq!(ran.json()["outcome"], "terminate");
    // A list that no issuer signed is told, not used.
    let ran = ask("device-chain.pem", &["--crl", &file("ca.pem")]).code(1);
    assert!(ran.err.contains("ca.pem"), "{ran:?}");
}

#[test]
fn what_certificates_name_is_fetched_when_asked_for() {
    let dir = by_the_manual("fetched");
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = web.local_addr().unwrap();
    // Another certificate of the same device, revoked too, which names where the list is.
    shell(
        &dir,
        &format!(
            "echo 'crlDistributionPoints = URI:http://{at}/issuing.der.crl' >> device.cnf
             openssl x509 -req -in device.csr -CA issuing.pem -CAkey issuing.key -set_serial 0x77 -sha256 -days 30 \
                 -extfile device.cnf -extensions extensions -out named.pem
             cat named.pem issuing.pem > named-chain.pem
             openssl ca -config revoke.cnf -revoke named.pem
             openssl ca -config revoke.cnf -gencrl -out issuing.crl
             openssl crl -in issuing.crl -outform DER -out issuing.der.crl"
        ),
    );
    let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (chain, anchors) = (file("named-chain.pem"), file("ca.pem"));
    let ask = |more: &[&str]| {
        let mut args = vec![
            "trust",
            "explain",
            "--chain",
            &chain,
            "--anchors",
            &anchors,
            "--accepted",
        ];
        args.extend(more);
        run(&args)
    };
    let list = std::fs::read(dir.join("issuing.der.crl")).unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = web.accept().unwrap();
        let mut asked = vec![0; 4096];
        let length = stream.read(&mut asked).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", list.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&list).unwrap();
        String::from_utf8_lossy(&asked[..length]).into_owned()
    });
    ask(&[]).code(0);
    let ran = ask(&["--fetch"]).code(4);
    assert!(ran.err.contains("alert 44"), "{ran:?}");
    assert!(served.join().unwrap().starts_with("GET /issuing.der.crl "));
    // Now there is nobody: it is said, and the policy decides.
    let ran = ask(&["--fetch"]).code(0);
    assert!(ran.err.contains(&format!("{at}: no connection")), "{ran:?}");
    ask(&["--fetch", "--unknown", "refuse"]).code(4);
    ask(&["--revocation", "leaf", "--unknown", "refuse"]).code(4);
}
