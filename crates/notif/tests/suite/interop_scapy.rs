//! Datagrams that scapy builds from its own descriptions of the headers.

use std::process::Command;

use homefleet_notif::{Message, Profile};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/made_by_scapy.py");

/// What scapy made; nothing when it is missing, which fails in CI.
fn datagrams() -> Vec<serde_json::Value> {
    let python = std::env::var("HOMEFLEET_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(&python).arg(SCRIPT).output();
    let (ok, why) = match &output {
        Ok(output) => (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ),
        Err(error) => (false, error.to_string()),
    };
    eprintln!("peer: {why}");
    if !ok {
        assert!(
            std::env::var_os("CI").is_none(),
            "a peer is missing and CI is set: {python} with scapy: {why}"
        );
        eprintln!("SKIPPED, A PEER IS MISSING: {python} with scapy");
        return Vec::new();
    }
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn datagrams_of_every_generation_made_by_scapy_are_read() {
    let datagrams = datagrams();
    assert!(datagrams.is_empty() || datagrams.len() > 60);
    for made in &datagrams {
        let text = |name: &str| made[name].as_str().unwrap();
        let profile = Profile::from_name(text("generation")).unwrap_or_default();
        let datagram = hex(text("datagram"));
        let message = Message::decode(&datagram, profile).unwrap();
        let header = message.header;
        assert_eq!(header.generation.name(), text("generation"), "{made}");
        assert_eq!(header.media_type.to_string(), text("media"), "{made}");
        assert_eq!(
            u64::from(header.publisher_id),
            made["publisher"].as_u64().unwrap()
        );
        assert_eq!(
            u64::from(header.message_id),
            made["message"].as_u64().unwrap()
        );
        assert_eq!(message.payload, hex(text("payload")));
        let segment = header
            .segment
            .map(|segment| (u64::from(segment.number), segment.last));
        let expected = made["segment"]
            .as_array()
            .map(|pair| (pair[0].as_u64().unwrap(), pair[1].as_bool().unwrap()));
        assert_eq!(segment, expected, "{made}");
        assert_eq!(
            message.private_encoding(),
            made["private"].as_str().map(str::as_bytes)
        );
        // Except for options we do not write, what scapy builds is what we write.
        if header.generation.is_publishable() && message.options.find(200).is_none() {
            let mut out = Vec::new();
            header
                .encode(message.private_encoding(), message.payload, &mut out)
                .unwrap();
            assert_eq!(out, datagram, "{made}");
        }
    }
}
