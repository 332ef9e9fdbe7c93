//! `homefleet ca …`: on a directory, with no server running.

use std::path::{Path, PathBuf};

use crate::support::{Ran, fresh_dir, run};

fn passphrase(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, format!("{text}\n")).unwrap();
    path
}

fn ca(dir: &Path, verb: &[&str], options: &[&str]) -> Ran {
    let directory = dir.join("pki").display().to_string();
    let mut arguments = verb.to_vec();
    arguments.extend(["--directory", &directory]);
    arguments.extend_from_slice(options);
    run(&arguments)
}

#[test]
fn a_ca_is_made_and_shown() {
    let dir = fresh_dir("ca-init");
    let file = passphrase(&dir, "passphrase", "correct horse")
        .display()
        .to_string();
    let options = [
        "--passphrase-file",
        &file,
        "--subject",
        "CN=Devices,O=Example",
        "--root-key",
        "p384",
    ];
    let made = ca(&dir, &["ca", "init"], &options).code(0);
    assert!(made.out.contains("CN=Devices,O=Example"), "{made:?}");
    assert!(made.err.contains("root.key"), "{made:?}");
    let shown = ca(&dir, &["--json", "ca", "show"], &[]).code(0).json();
    let [issuing, root] = shown["certificates"].as_array().unwrap().as_slice() else {
        panic!("{shown}");
    };
    assert_eq!(
        (issuing["key"].as_str(), issuing["key_in"].as_str()),
        (Some("ECDSA P-256"), Some("file"))
    );
    assert_eq!(
        (root["key"].as_str(), root["subject"].as_str()),
        (Some("ECDSA P-384"), Some("CN=Homefleet Root CA"))
    );
    // Not over it, and not with less than a passphrase.
    ca(&dir, &["ca", "init"], &options).code(4);
    let weak = passphrase(&dir, "weak", "horse").display().to_string();
    let other = fresh_dir("ca-weak");
    let refused = ca(&other, &["ca", "init"], &["--passphrase-file", &weak]).code(2);
    assert!(refused.err.contains("8"), "{refused:?}");
    let refused = ca(&other, &["ca", "init"], &["--passphrase-file", "/nowhere"]).code(2);
    assert!(refused.err.contains("/nowhere"), "{refused:?}");
    ca(&other, &["ca", "show"], &[]).code(3);
    ca(&other, &["ca", "init"], &["--key", "dsa"]).code(2);
}

#[test]
fn a_root_is_rolled_over_in_three_steps() {
    let dir = fresh_dir("ca-rollover");
    let file = passphrase(&dir, "passphrase", "correct horse")
        .display()
        .to_string();
    ca(&dir, &["ca", "init"], &["--passphrase-file", &file]).code(0);
    let roots = || {
        let shown = ca(&dir, &["--json", "ca", "show"], &[]).code(0).json();
        let all = shown["certificates"].as_array().unwrap().clone();
        let text = std::fs::read_to_string(dir.join("pki/roots.pem")).unwrap_or_default();
        let hash = |at: usize| all[at]["sha256"].as_str().unwrap().to_owned();
        (hash(1), all.len(), text.matches("BEGIN CERT").count())
    };
    let (old, ..) = roots();
    ca(&dir, &["ca", "rollover", "switch"], &[]).code(2);
    let wrong = passphrase(&dir, "wrong", "another horse")
        .display()
        .to_string();
    let begin = ["ca", "rollover", "begin"];
    ca(&dir, &begin, &["--root-passphrase-file", &wrong]).code(4);
    let begun = ca(&dir, &begin, &["--root-passphrase-file", &file]).code(0);
    assert!(begun.err.contains("rollover switch"), "{begun:?}");
    // Both are trusted, and certificates lead to the old one.
    let announced = roots();
    assert_eq!(announced, (old.clone(), 3, 2));
    ca(&dir, &["ca", "rollover", "switch"], &[]).code(0);
    let (new, shown, trusted) = roots();
    assert!(new != old);
    assert_eq!((shown, trusted), (3, 2));
    ca(&dir, &["ca", "rollover", "retire"], &[]).code(0);
    // The issuing CA stands beside the new root, for chains that lead to the old one.
    assert_eq!(roots(), (new, 2, 2));
    ca(&dir, &["ca", "rollover", "retire"], &[]).code(2);
    // The key of the last root is away.
    std::fs::rename(dir.join("pki/rollover-1/root.key"), dir.join("usb.key")).unwrap();
    let away = ca(&dir, &begin, &["--root-passphrase-file", &file]).code(1);
    assert!(away.err.contains("bring it back"), "{away:?}");
    let there = dir.join("usb.key").display().to_string();
    let from = ["--root-passphrase-file", &file, "--root-key", &there];
    ca(&dir, &begin, &from).code(0);
}

#[test]
fn a_ca_is_imported_under_another_passphrase() {
    let dir = fresh_dir("ca-import");
    let first = passphrase(&dir, "first", "correct horse")
        .display()
        .to_string();
    let second = passphrase(&dir, "second", "another horse")
        .display()
        .to_string();
    ca(&dir, &["ca", "init"], &["--passphrase-file", &first]).code(0);
    let path = |name: &str| dir.join("pki").join(name).display().to_string();
    let (chain, key) = (path("chain.pem"), path("issuing.key"));
    let other = fresh_dir("ca-imported");
    let import = |key_passphrase: &str| {
        ca(
            &other,
            &["ca", "import"],
            &[
                "--chain",
                &chain,
                "--key",
                &key,
                "--key-passphrase-file",
                key_passphrase,
                "--passphrase-file",
                &second,
            ],
        )
    };
    import(&second).code(4);
    import(&first).code(0);
    let shown = ca(&other, &["--json", "ca", "show"], &[]).code(0).json();
    assert_eq!(shown["certificates"][1]["key_in"], "offline");
}

#[test]
fn without_terminal_file_and_variable_nothing_is_made() {
    let dir = fresh_dir("ca-silent");
    // A process without a terminal of its own cannot be asked.
    let output = std::process::Command::new("setsid")
        .args([
            "--wait",
            env!("CARGO_BIN_EXE_homefleet"),
            "ca",
            "init",
            "--directory",
        ])
        .arg(dir.join("pki"))
        .env_remove("HOMEFLEET_PKI_PASSPHRASE")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("HOMEFLEET_PKI_PASSPHRASE"), "{text}");
    assert!(!dir.join("pki").exists());
}
