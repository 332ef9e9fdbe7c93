//! Bodies for fuzzers; they must never panic. Replayed over the corpus by the test suite.

use std::time::{Duration, SystemTime};

use crate::{
    Anchor, Basis, Connection, Context, Policy, Time, anchors_from_pem, certificate::Certificate,
    chain_from_pem, decide, explain, extension, identity::PeerIdentity,
};

/// A good chain to start from: root, intermediate with name constraints, endpoint.
const CHAIN: [&[u8]; 3] = [
    include_bytes!("fuzz/endpoint.der"),
    include_bytes!("fuzz/intermediate.der"),
    include_bytes!("fuzz/root.der"),
];

/// The bytes as a certificate, as the contents of the extensions, as PEM text, and what comes of it as identity.
pub fn codec(data: &[u8]) {
    if let Ok(certificate) = Certificate::parse(data) {
        let identity = PeerIdentity::of(&certificate, None, Basis::FirstUse);
        for id in &identity.endpoint_ids {
            // A plain Endpoint ID is its own; one with a wildcard is nobody's.
            assert_eq!(identity.is_endpoint(id), !id.contains('*'));
        }
        let _anchor = Anchor::from_der(data);
    }
    extension::fuzz(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _anchors = anchors_from_pem(text);
        let _chain = chain_from_pem(text);
    }
}

/// The bytes as edits of a good chain, then a decision about it. The first byte chooses what we know; then each group
/// of four is an edit: which certificate, what to do, where.
pub fn machine(data: &[u8]) {
    let (first, edits) = data
        .split_first()
        .map_or((0, data), |(first, rest)| (*first, rest));
    let mut chain: Vec<Vec<u8>> = CHAIN.iter().map(|der| der.to_vec()).collect();
    for edit in edits.chunks_exact(4).take(64) {
        apply(&mut chain, [edit[0], edit[1], edit[2], edit[3]]);
    }
    let anchors: Vec<Anchor> = CHAIN[usize::from(first & 3).min(2)..]
        .iter()
        .copied()
        .chain(
            chain
                .iter()
                .map(Vec::as_slice)
                .take(usize::from(first >> 6)),
        )
        .filter_map(|der| Anchor::from_der(der).ok())
        .collect();
    let connection = match first >> 3 & 3 {
        0 => Connection::Accepted,
        1 => Connection::Initiated {
            host: "acs.example.com",
            endpoint_id: None,
        },
        2 => Connection::Initiated {
            host: "192.0.2.1",
            endpoint_id: Some("os::0044FF-0001"),
        },
        _ => Connection::Initiated {
            host: "",
            endpoint_id: Some(""),
        },
    };
    let time = match first >> 5 & 1 {
        0 => Time::Unknown,
        _ => Time::Accurate(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
    };
    let policy = Policy::default();
    let decision = decide(&chain, &Context::new(&anchors, time, connection, &policy));
    assert_eq!(decision.peer.is_some(), decision.is_established());
    assert!(!explain(&decision).is_empty());
}

fn apply(chain: &mut Vec<Vec<u8>>, [which, what, high, low]: [u8; 4]) {
    let count = chain.len();
    if count == 0 {
        return;
    }
    let index = usize::from(which >> 4) % count;
    let at = usize::from(u16::from_be_bytes([high, low]));
    match which & 7 {
        0 => chain.swap(index, at % count),
        1 if count < 10 => {
            let copy = chain[index].clone();
            chain.insert(at % (count + 1), copy);
        }
        2 => {
            chain.remove(index);
        }
        3 => {
            let length = at.min(chain[index].len());
            chain[index].truncate(length);
        }
        4 => {
            let length = chain[index].len().max(1);
            let at = if chain[index].is_empty() {
                0
            } else {
                at % length
            };
            chain[index].insert(at, what);
        }
        5 if !chain[index].is_empty() => {
            let length = chain[index].len();
            chain[index].remove(at % length);
        }
        _ => {
            let length = chain[index].len().max(1);
            if let Some(byte) = chain[index].get_mut(at % length) {
                *byte = what;
            }
        }
    }
}
