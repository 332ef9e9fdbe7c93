//! `homefleet serve` with a configuration file, as an operator runs it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Child;

use homefleet_cli::demo::pki::Authority;

use crate::support::{command, finish, fresh_dir, run, signal};

/// A configuration in `dir` with certificates of its own.
fn configure(dir: &Path) -> PathBuf {
    let authority = Authority::open(dir).unwrap();
    authority
        .endpoint(dir, "server", "proto::serve-test", &["127.0.0.1"])
        .unwrap();
    let file = dir.join("homefleet.toml");
    let text = format!(
        "version = 1\nendpoint_id = \"proto::serve-test\"\ndata_dir = \"{dir}/data\"\n\
         [coap]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [tls]\ncertificate = \"{dir}/server.pem\"\nkey = \"{dir}/server.key\"\nanchors = \"{dir}/ca.pem\"\n\
         [log]\nfilter = \"off\"\n",
        dir = dir.display()
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// Starts the server; its console's address is in the one line it says.
fn start(config: &str) -> (Child, String) {
    let mut child = command(&["serve", "--config", config]).spawn().unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    said.read_line(&mut line).unwrap();
    let url = line
        .split_whitespace()
        .find(|word| word.starts_with("http://"))
        .unwrap_or_else(|| panic!("{line}"))
        .trim_end_matches(',')
        .to_owned();
    // What it says at the end has somewhere to go.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    (child, url)
}

#[test]
fn a_server_runs_from_its_file_takes_a_token_made_beside_it_and_ends_on_sigterm() {
    let dir = fresh_dir("serve");
    let file = configure(&dir);
    let config = file.to_str().unwrap();
    run(&["config", "check", "--config", config]).code(0);
    run(&["serve", "--config", config, "--check-config"]).code(0);
    let (child, url) = start(config);
    let made = run(&[
        "token", "create", "--name", "first", "--role", "admin", "--config", config,
    ])
    .code(0);
    let token = made.out.trim();
    let ran = run(&[
        "--server", &url, "--token", token, "--json", "device", "list",
    ])
    .code(0);
    assert_eq!(ran.json()["devices"], serde_json::json!([]));
    signal(&child, "TERM");
    finish(child).code(0);
}

#[test]
fn a_check_reads_the_files_that_the_configuration_names() {
    let dir = fresh_dir("serve-check");
    let file = configure(&dir);
    let config = file.to_str().unwrap();
    let check = || run(&["config", "check", "--config", config]);
    check().code(0);
    let text = std::fs::read_to_string(&file).unwrap();
    let list = dir.join("list.pem");
    std::fs::write(&list, "no list").unwrap();
    let revocation = format!(
        "[tls.revocation]\ncheck = \"leaf\"\ncrls = [\"{}\"]\n",
        list.display()
    );
    std::fs::write(&file, format!("{text}\n{revocation}")).unwrap();
    let ran = check().code(2);
    assert!(
        ran.err.contains("tls.revocation.crls") && ran.err.contains("list.pem"),
        "{}",
        ran.err
    );
    run(&["serve", "--config", config, "--check-config"]).code(2);
    std::fs::write(&file, text).unwrap();
    std::fs::write(dir.join("ca.pem"), "no certificate").unwrap();
    let ran = check().code(2);
    assert!(ran.err.contains("tls.anchors"), "{}", ran.err);
}

#[test]
fn a_key_that_is_not_the_certificates_is_told_before_anything_listens() {
    let dir = fresh_dir("serve-key");
    let file = configure(&dir);
    std::fs::copy(dir.join("ca.key"), dir.join("server.key")).unwrap();
    let ran = run(&["serve", "--config", file.to_str().unwrap()]);
    assert!(ran.code == 1 || ran.code == 2, "{ran:?}");
    assert!(ran.err.contains("key"), "{ran:?}");
}

#[test]
fn a_hangup_has_new_certificates_taken_over_and_bad_ones_refused() {
    let dir = fresh_dir("serve-hangup");
    let file = configure(&dir);
    let config = file.to_str().unwrap();
    let mut child = command(&["serve", "--config", config]).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = said.next().unwrap().unwrap();
    let url = line
        .split_whitespace()
        .find(|word| word.starts_with("http://"));
    let url = url.unwrap().trim_end_matches(',').to_owned();
    let made = run(&[
        "token", "create", "--name", "t", "--role", "admin", "--config", config,
    ])
    .code(0);
    let asked = |verb| run(&["--server", &url, "--token", made.out.trim(), "trust", verb]);

    let anchors = std::fs::read_to_string(dir.join("ca.pem")).unwrap();
    std::fs::write(dir.join("ca.pem"), anchors.repeat(2)).unwrap();
    signal(&child, "HUP");
    let line = said.next().unwrap().unwrap();
    assert!(line.ends_with(", 2 trusted"), "{line}");

    std::fs::copy(dir.join("ca.key"), dir.join("server.key")).unwrap();
    signal(&child, "HUP");
    let line = said.next().unwrap().unwrap();
    assert!(
        line.contains("nothing is taken over: tls.certificate"),
        "{line}"
    );
    let ran = asked("reload").code(4);
    assert!(ran.err.contains("private key does not belong"), "{ran:?}");
    let ran = asked("status").code(0);
    assert!(
        ran.err.contains("newer files are not taken over"),
        "{ran:?}"
    );

    signal(&child, "TERM");
    std::thread::spawn(move || said.count());
    finish(child).code(0);
}
