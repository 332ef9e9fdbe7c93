//! Messages recorded from other implementations: read without loss.
//!
//! `HOMEFLEET_CMP_CORPUS` names a folder of them, one PKIMessage in each file; deliberately broken ones may be among them.

use std::{path::Path, process::Command};

use der::{Decode, Encode};
use homefleet_cmp::{
    Refusal,
    asn1::{Body, Certificate, Info, Limits, Message},
    crypto::{MacPolicy, Secret},
    protection::{Distrust, Peers, Protection, ProtectionPolicy, verify},
};

/// Decodes, and compares what the decoded values encode to with what was received, part by part.
pub fn check_lossless(bytes: &[u8]) -> Result<Message, String> {
    let message = Message::decode(bytes, &Limits::default()).map_err(|e| e.to_string())?;
    let same = |part: &str, ours: Vec<u8>, theirs: &[u8]| {
        (ours == theirs)
            .then_some(())
            .ok_or(format!("{part} encodes differently"))
    };
    same("message", message.encode().unwrap(), bytes)?;
    same(
        "header",
        (*message.header).to_der().unwrap(),
        message.header.der(),
    )?;
    same(
        "body",
        (*message.body).to_der().unwrap(),
        message.body.der(),
    )?;
    let protected = message.protected_part();
    let inside = der::asn1::AnyRef::from_der(&protected).unwrap();
    assert_eq!(
        inside.value(),
        [message.header.der(), message.body.der()].concat()
    );
    match &*message.body {
        Body::Ir(requests) | Body::Cr(requests) | Body::Kur(requests) | Body::Ccr(requests) => {
            for request in requests {
                same(
                    "certReq",
                    (*request.cert_req).to_der().unwrap(),
                    request.cert_req.der(),
                )?;
            }
        }
        Body::Genm(infos) | Body::Genp(infos) => {
            for info in infos {
                let read = Info::read(info).map_err(|e| format!("info {}: {e}", info.info_type))?;
                same(
                    "info",
                    read.write().unwrap().to_der().unwrap(),
                    &info.to_der().unwrap(),
                )?;
            }
        }
        Body::Nested(_) => {
            for inner in message
                .nested(&Limits::default())
                .map_err(|e| e.to_string())?
            {
                check_lossless(&inner.encode().unwrap())?;
            }
        }
        _ => {}
    }
    Ok(message)
}

fn check_folder(folder: &Path) -> usize {
    let mut problems = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        count += 1;
        if let Err(problem) = check_lossless(&bytes)
            && is_der(&path)
        {
            problems.push(format!("{}: {problem}", path.display()));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    count
}

/// Whether `openssl asn1parse` can read it, a second opinion about what is broken on purpose.
fn is_der(path: &Path) -> bool {
    Command::new("openssl")
        .args(["asn1parse", "-inform", "DER", "-in"])
        .arg(path)
        .output()
        .unwrap()
        .status
        .success()
}

/// Whoever signs, and the secret of the recording's test system, which `HOMEFLEET_CMP_SECRET` names.
struct Anybody(Option<String>);

impl Peers for Anybody {
    fn secret(&self, _: &[u8]) -> Option<Secret> {
        self.0.clone().map(Secret::new)
    }

    fn judge(&self, _: &Certificate, _: &[Certificate]) -> Result<(), Distrust> {
        Ok(())
    }
}

#[test]
fn every_recorded_message_decodes_without_loss() {
    match std::env::var_os("HOMEFLEET_CMP_CORPUS") {
        Some(folder) => {
            let count = check_folder(Path::new(&folder));
            eprintln!("{count} recorded messages");
        }
        None => eprintln!("SKIPPED: HOMEFLEET_CMP_CORPUS names no folder of recorded messages"),
    }
}

#[test]
fn no_recorded_protection_fails_to_verify() {
    let Some(folder) = std::env::var_os("HOMEFLEET_CMP_CORPUS") else {
        eprintln!("SKIPPED: HOMEFLEET_CMP_CORPUS names no folder of recorded messages");
        return;
    };
    let anybody = Anybody(std::env::var("HOMEFLEET_CMP_SECRET").ok());
    let policy = ProtectionPolicy {
        mac: MacPolicy::lenient(),
        ..ProtectionPolicy::default()
    };
    let mut verified = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let Ok(message) = Message::decode(&bytes, &Limits::default()) else {
            continue;
        };
        match verify(&message, &policy, &anybody) {
            Ok(Protection::None) => {}
            Ok(_) => verified += 1,
            Err(refusal) => assert_ne!(refusal, Refusal::BadProtection, "{}", path.display()),
        }
    }
    eprintln!("{verified} recorded messages with protection that verifies");
}
