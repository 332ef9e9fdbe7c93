//! Bodies for fuzzers; they must never panic. Replayed over the corpus by the test suite.

use std::time::{Duration, Instant, SystemTime};

use crate::{
    Anchor, Basis, CertIdHash, Connection, Context, FirstUse, Outcome, Policy, Preference, Refusal,
    Revocation, RevocationPolicy, RevocationScope, StoredCertificate, Time, Unknown, Wanted,
    anchors_from_pem, certificate::Certificate, chain_from_pem, decide, explain, extension,
    identity::PeerIdentity, revocation,
};

/// A good chain to start from: root, intermediate with name constraints, endpoint.
const CHAIN: [&[u8]; 3] = [
    include_bytes!("fuzz/endpoint.der"),
    include_bytes!("fuzz/intermediate.der"),
    include_bytes!("fuzz/root.der"),
];

/// What is known about a peer: its root and certificate, a CRL that does not list it, an OCSP answer "good" by the root, and
/// one "revoked" by a responder that the root authorised.
const ROOT: &[u8] = include_bytes!("fuzz/evidence/root.der");
const PEER: &[u8] = include_bytes!("fuzz/evidence/peer.der");
const EVIDENCE: [&[u8]; 3] = [
    include_bytes!("fuzz/evidence/list.der"),
    include_bytes!("fuzz/evidence/good.der"),
    include_bytes!("fuzz/evidence/revoked.der"),
];
const SERIAL: [u8; 5] = [0x11, 0, 0, 0, 7];

/// The bytes as a certificate, as a CRL, as an OCSP response, as the contents of the extensions, as PEM text, and what comes of it as identity.
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
    revocation::fuzz(data, ROOT, &SERIAL);
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
    let mut context = Context::new(&anchors, time, connection, &policy);
    let stored = [StoredCertificate {
        fingerprint: crate::fingerprint(CHAIN[0]),
        endpoint_id: "os::0044FF-0001".into(),
    }];
    let revocation = Revocation::new(RevocationPolicy::default());
    // Four bits of the length choose what else is known.
    context.cached = data.len() & 1 != 0;
    if data.len() & 2 != 0 {
        context.stored = &stored;
    }
    if data.len() & 4 != 0 {
        context.first_use = FirstUse::Allow;
    }
    if data.len() & 8 != 0 {
        context.revocation = Some(&revocation);
    }
    let decision = decide(&chain, &context);
    assert_eq!(decision.peer.is_some(), decision.is_established());
    assert!(!explain(&decision).is_empty());
}

/// The bytes as edits of good evidence about a good peer, then a decision with what of it is believed; any instant will do. The first byte says what
/// comes and how it is looked at; then each group of four is an edit, as in [`machine`].
pub fn evidence(data: &[u8], at: Instant) {
    let (first, edits) = data
        .split_first()
        .map_or((0, data), |(first, rest)| (*first, rest));
    let mut evidence: Vec<Vec<u8>> = EVIDENCE.iter().map(|der| der.to_vec()).collect();
    for edit in edits.chunks_exact(4).take(16) {
        apply(&mut evidence, [edit[0], edit[1], edit[2], edit[3]]);
    }
    let flag = |bit: u8| first >> bit & 1 != 0;
    let mut revocation = Revocation::new(RevocationPolicy {
        preference: if flag(3) {
            Preference::Crl
        } else {
            Preference::Ocsp
        },
        unknown: if flag(4) {
            Unknown::Refuse
        } else {
            Unknown::Allow
        },
        scope: if flag(5) {
            RevocationScope::Chain
        } else {
            RevocationScope::Leaf
        },
        ..RevocationPolicy::default()
    });
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_272_000);
    let time = if flag(6) {
        Time::Unknown
    } else {
        Time::Accurate(now)
    };
    let issuer = ROOT.to_vec();
    let list = Wanted::Crl {
        url: "http://crl.example.com/issuer.crl".into(),
        issuer: issuer.clone(),
        for_ca: false,
    };
    let answer = Wanted::Ocsp {
        url: "http://ocsp.example.com/".into(),
        issuer,
        serial: SERIAL.to_vec(),
        hash: CertIdHash::Sha1,
    };
    let mut believed = [false; 3];
    for (index, der) in evidence.iter().enumerate().take(3) {
        if first >> index & 1 != 0 {
            let wanted = if index == 0 { &list } else { &answer };
            believed[index] = revocation.add(wanted, None, der, time).is_ok();
        }
    }
    let anchors: Vec<Anchor> = Anchor::from_der(ROOT).into_iter().collect();
    let policy = Policy::default();
    let mut context = Context::new(&anchors, time, Connection::Accepted, &policy);
    context.revocation = Some(&revocation);
    let decision = decide(&[PEER.to_vec()], &context);
    assert!(!explain(&decision).is_empty());
    // Nothing that does not verify can acquit the peer, and every edit but of what is not signed breaks the signature.
    match &decision.outcome {
        Outcome::Establish => assert!(believed.contains(&true)),
        Outcome::Hold(wanted) => {
            assert_eq!(believed, [false; 3]);
            for one in wanted {
                assert!(one.request(Some(edits)).is_some() || matches!(one, Wanted::Crl { .. }));
            }
            revocation.failed(&wanted[0], at);
            revocation.handle_timeout(at);
        }
        Outcome::Terminate(refusal) => {
            assert!(matches!(refusal, Refusal::Revoked { level: 0, .. }));
            assert!(believed.contains(&true));
        }
    }
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
