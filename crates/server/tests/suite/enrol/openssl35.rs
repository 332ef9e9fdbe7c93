//! `openssl cmp` of OpenSSL 3.5, which knows what RFC 9480 and RFC 9483 added to 3.0: support messages and profiles.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;

use super::world::{DEVICE, SECRET, World, by_certificate, by_secret};

/// The program that `scripts/install-openssl35` unpacked; nothing where it is missing, which it must not be where CI runs.
pub(super) fn program() -> Option<String> {
    let beside = || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../peers/openssl35/openssl");
    let path = std::env::var_os("HOMEFLEET_OPENSSL35").map_or_else(beside, PathBuf::from);
    let version = std::process::Command::new(&path).arg("version").output();
    match version {
        Ok(output) if output.stdout.starts_with(b"OpenSSL 3.5") => {
            println!("{}", String::from_utf8_lossy(&output.stdout).trim());
            Some(path.display().to_string())
        }
        _ => {
            assert!(
                std::env::var_os("CI").is_none(),
                "OpenSSL 3.5 is missing at {}",
                path.display()
            );
            println!(
                "SKIPPED, A PEER IS MISSING: OpenSSL 3.5 at {}",
                path.display()
            );
            None
        }
    }
}

async fn enrolled() -> Option<(World, String)> {
    let program = program()?;
    let world = World::new().await;
    world.add_secret(DEVICE, SECRET).await;
    world.key("device");
    let (good, printed) = world
        .cmp_by(
            &program,
            ".well-known/cmp/initialization",
            &format!(
                "-cmd ir {} -newkey device.key -subject /CN=new -certout device.pem",
                by_secret(DEVICE)
            ),
        )
        .await;
    assert!(good, "{printed}");
    Some((world, program))
}

#[tokio::test(flavor = "multi_thread")]
async fn support_messages_are_answered() {
    let Some((world, program)) = enrolled().await else {
        return;
    };
    let by = by_certificate("device");
    let (good, printed) = world
        .cmp_by(
            &program,
            ".well-known/cmp/getcacerts",
            &format!("-cmd genm {by} -infotype caCerts -cacertsout caCerts.pem"),
        )
        .await;
    assert!(good, "{printed}");
    world.shell("openssl verify -CAfile root.pem caCerts.pem");
    let (good, printed) = world
        .cmp_by(
            &program,
            ".well-known/cmp/getrootupdate",
            &format!(
                "-cmd genm {by} -infotype rootCaCert -oldwithold root.pem -newwithnew update.pem"
            ),
        )
        .await;
    assert!(good || printed.contains("no update"), "{printed}");
    assert!(!world.path("update.pem").exists() || world.read("update.pem").is_empty());
    let (good, printed) = world
        .cmp_by(
            &program,
            ".well-known/cmp/getcertreqtemplate",
            &format!("-cmd genm {by} -infotype certReqTemplate -template request.tmpl -keyspec request.keys"),
        )
        .await;
    assert!(good, "{printed}");
    assert!(!world.read("request.tmpl").is_empty());
    let (good, printed) = world
        .cmp_by(
            &program,
            ".well-known/cmp/getcrls",
            &format!("-cmd genm {by} -infotype crlStatusList -crlcert device.pem -crlout new.crl"),
        )
        .await;
    assert!(good, "{printed}");
    let printed = world.shell(
        "openssl crl -inform DER -in new.crl -noout -text -CAfile ca.pem 2>&1 || openssl crl -in new.crl -noout -text",
    );
    assert!(printed.contains("Certificate Revocation List"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_named() {
    let Some((world, program)) = enrolled().await else {
        return;
    };
    world.key("new");
    let ask = |profile: &str| {
        format!(
            "-cmd cr {} -profile {profile} -newkey new.key -subject /CN=made -certout made.pem",
            by_certificate("device")
        )
    };
    let path = ".well-known/cmp";
    let (good, printed) = world.cmp_by(&program, path, &ask("nobody")).await;
    assert!(!good && printed.contains("badRequest"), "{printed}");
    let (good, printed) = world.cmp_by(&program, path, &ask("open")).await;
    assert!(good, "{printed}");
    let found = world.access.certificates(Default::default()).await.unwrap();
    assert!(found.certificates.iter().any(|it| it.profile == "open"));
}

#[tokio::test(flavor = "multi_thread")]
async fn update_request_and_revocation() {
    let Some((world, program)) = enrolled().await else {
        return;
    };
    let by = by_certificate("device");
    world.key("new");
    world.shell("openssl req -new -key new.key -subj /CN=pkcs10 -out new.csr");
    for (path, options) in [
        (
            "keyupdate",
            format!("-cmd kur {by} -newkey new.key -certout new.pem"),
        ),
        (
            "p/open/certification",
            format!("-cmd cr {by} -newkey new.key -subject /CN=a -certout a.pem"),
        ),
        (
            "p/open/pkcs10",
            format!("-cmd p10cr {by} -csr new.csr -certout b.pem"),
        ),
        (
            "revocation",
            format!("-cmd rr {by} -oldcert device.pem -revreason 4"),
        ),
    ] {
        let (good, printed) = world
            .cmp_by(&program, &format!(".well-known/cmp/{path}"), &options)
            .await;
        assert!(good, "{path}: {printed}");
    }
    world.shell("openssl verify -CAfile root.pem -untrusted ca.pem new.pem a.pem b.pem");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_by_the_ca_is_delivered() {
    let Some(program) = program() else { return };
    let world = World::with(|config| config.cmp.bare_keys = true).await;
    world.add_secret(DEVICE, SECRET).await;
    world.key("device");
    let path = ".well-known/cmp/p/open";
    let first = format!(
        "-cmd ir {} -newkey device.key -subject /CN=new -certout device.pem",
        by_secret(DEVICE)
    );
    let (good, printed) = world.cmp_by(&program, path, &first).await;
    assert!(good, "{printed}");
    let made = format!(
        "-cmd cr {} -centralkeygen -newkeyout made.key -subject /CN=made -certout made.pem",
        by_certificate("device")
    );
    let (good, printed) = world.cmp_by(&program, path, &made).await;
    assert!(good, "{printed}");
    let of_key = world.shell("openssl pkey -in made.key -pubout");
    let of_certificate = world.shell("openssl x509 -in made.pem -noout -pubkey");
    assert_eq!(of_key, of_certificate);
}
