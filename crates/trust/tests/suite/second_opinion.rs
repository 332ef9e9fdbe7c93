//! A second opinion: `openssl verify` over the same chains, with the same anchor, purpose and time.
//!
//! Accept and refuse have to agree for every chain, but for the differences listed in [`DIFFERENCES`], which have to
//! be there exactly as listed.

use std::{fmt::Write as _, path::Path, process::Command};

use homefleet_trust::Connection;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints, SanType,
    date_time_ymd,
};
use tempfile::TempDir;

use crate::forge::{Entity, HOST, Judge, ca, dn, dns, endpoint, extension, tlv, uri};

/// 2026-06-01T00:00:00Z, as `forge::now`.
const NOW: &str = "1780272000";

type Change = fn(&mut CertificateParams);

/// What is done to one certificate of an otherwise good chain.
#[derive(Clone, Copy)]
enum Fault {
    Params(Change),
    /// Signed by another key than its issuer's.
    WrongKey,
    /// The issuer's name is of nobody in the chain.
    WrongIssuer,
    /// A bit of the signature is changed.
    BrokenSignature,
    /// Not presented.
    Missing,
}

fn constrain(
    p: &mut CertificateParams,
    permitted: Vec<GeneralSubtree>,
    excluded: Vec<GeneralSubtree>,
) {
    p.name_constraints = Some(NameConstraints {
        permitted_subtrees: permitted,
        excluded_subtrees: excluded,
    });
}

fn domain(name: &str) -> Vec<GeneralSubtree> {
    vec![GeneralSubtree::DnsName(name.into())]
}

fn network(third: u8) -> Vec<GeneralSubtree> {
    vec![GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(
        [192, 0, third, 0],
        24,
    ))]
}

fn directory(organisation: &str) -> Vec<GeneralSubtree> {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, organisation);
    vec![GeneralSubtree::DirectoryName(name)]
}

/// `nameConstraints` with one permitted URI host.
fn permitted_uri(host: &str) -> Vec<u8> {
    tlv(
        0x30,
        &[&tlv(0xA0, &[&tlv(0x30, &[&tlv(0x86, &[host.as_bytes()])])])],
    )
}

/// For every certificate.
const ANYWHERE: &[(&str, Fault)] = &[
    (
        "expired",
        Fault::Params(|p| p.not_after = date_time_ymd(2026, 5, 31)),
    ),
    (
        "not yet valid",
        Fault::Params(|p| p.not_before = date_time_ymd(2026, 6, 2)),
    ),
    (
        "ends now",
        Fault::Params(|p| p.not_after = date_time_ymd(2026, 6, 1)),
    ),
    (
        "unknown critical extension",
        Fault::Params(|p| p.custom_extensions = vec![extension(&[1, 2, 3, 4], true, &[5, 0])]),
    ),
    (
        "unknown extension",
        Fault::Params(|p| p.custom_extensions = vec![extension(&[1, 2, 3, 4], false, &[5, 0])]),
    ),
    ("key usage absent", Fault::Params(|p| p.key_usages.clear())),
    (
        "extended key usage absent",
        Fault::Params(|p| p.extended_key_usages.clear()),
    ),
    (
        "extended key usage codeSigning",
        Fault::Params(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]),
    ),
    (
        "extended key usage serverAuth",
        Fault::Params(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
    ),
    (
        "extended key usage clientAuth",
        Fault::Params(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
    ),
    (
        "extended key usage any",
        Fault::Params(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]),
    ),
    (
        "critical certificate policies",
        Fault::Params(|p| {
            p.custom_extensions = vec![extension(
                &[2, 5, 29, 32],
                true,
                &[0x30, 0x08, 0x30, 0x06, 0x06, 0x04, 0x55, 0x1D, 0x20, 0x00],
            )]
        }),
    ),
    (
        "critical policy constraints",
        Fault::Params(|p| {
            p.custom_extensions = vec![extension(
                &[2, 5, 29, 36],
                true,
                &[0x30, 0x03, 0x80, 0x01, 0x05],
            )]
        }),
    ),
];

/// For every certificate but the root.
const ISSUED: &[(&str, Fault)] = &[
    ("wrong key", Fault::WrongKey),
    ("wrong issuer", Fault::WrongIssuer),
    ("broken signature", Fault::BrokenSignature),
];

/// For every CA certificate.
const AUTHORITY: &[(&str, Fault)] = &[
    (
        "basic constraints absent",
        Fault::Params(|p| p.is_ca = IsCa::NoCa),
    ),
    (
        "basic constraints and key usage absent",
        Fault::Params(|p| {
            p.is_ca = IsCa::NoCa;
            p.key_usages.clear();
        }),
    ),
    ("CA false", Fault::Params(|p| p.is_ca = IsCa::ExplicitNoCa)),
    (
        "path length 0",
        Fault::Params(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
    ),
    (
        "path length 1",
        Fault::Params(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(1))),
    ),
    (
        "path length 2",
        Fault::Params(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(2))),
    ),
    (
        "key usage without keyCertSign",
        Fault::Params(|p| {
            p.key_usages = vec![KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature]
        }),
    ),
    (
        "permits example.com",
        Fault::Params(|p| constrain(p, domain("example.com"), vec![])),
    ),
    (
        "permits .example.com",
        Fault::Params(|p| constrain(p, domain(".example.com"), vec![])),
    ),
    (
        "permits example.net",
        Fault::Params(|p| constrain(p, domain("example.net"), vec![])),
    ),
    (
        "permits both",
        Fault::Params(|p| {
            constrain(
                p,
                [domain("example.net"), domain("example.com")].concat(),
                vec![],
            )
        }),
    ),
    (
        "excludes example.com",
        Fault::Params(|p| constrain(p, vec![], domain("example.com"))),
    ),
    (
        "excludes example.net",
        Fault::Params(|p| constrain(p, vec![], domain("example.net"))),
    ),
    (
        "excludes the host within the permitted",
        Fault::Params(|p| constrain(p, domain("example.com"), domain(HOST))),
    ),
    (
        "permits the network",
        Fault::Params(|p| constrain(p, network(2), vec![])),
    ),
    (
        "permits another network",
        Fault::Params(|p| constrain(p, network(3), vec![])),
    ),
    (
        "excludes the network",
        Fault::Params(|p| constrain(p, vec![], network(2))),
    ),
    (
        "permits the organisation",
        Fault::Params(|p| constrain(p, directory("HOMEFLEET test"), vec![])),
    ),
    (
        "permits another organisation",
        Fault::Params(|p| constrain(p, directory("Other"), vec![])),
    ),
    (
        "excludes the organisation",
        Fault::Params(|p| constrain(p, vec![], directory("Homefleet Test"))),
    ),
    (
        "excludes another organisation",
        Fault::Params(|p| constrain(p, vec![], directory("Other"))),
    ),
    (
        "permits a URI host",
        Fault::Params(|p| {
            p.custom_extensions = vec![extension(
                &[2, 5, 29, 30],
                true,
                &permitted_uri("acs.example.com"),
            )]
        }),
    ),
];

/// For intermediates.
const INTERMEDIATE: &[(&str, Fault)] = &[("missing", Fault::Missing)];

/// For the peer's certificate.
const PEER: &[(&str, Fault)] = &[
    ("good", Fault::Params(|_| {})),
    (
        "key usage keyEncipherment",
        Fault::Params(|p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
    ),
    (
        "key usage keyAgreement",
        Fault::Params(|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]),
    ),
    (
        "key usage keyCertSign",
        Fault::Params(|p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign]),
    ),
    (
        "key usage both",
        Fault::Params(|p| {
            p.key_usages = vec![
                KeyUsagePurpose::DigitalSignature,
                KeyUsagePurpose::KeyEncipherment,
            ]
        }),
    ),
    (
        "is a CA",
        Fault::Params(|p| {
            p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            p.key_usages.push(KeyUsagePurpose::KeyCertSign);
        }),
    ),
    ("CA false", Fault::Params(|p| p.is_ca = IsCa::ExplicitNoCa)),
    (
        "no subject",
        Fault::Params(|p| p.distinguished_name = DistinguishedName::new()),
    ),
    (
        "no alternative names",
        Fault::Params(|p| p.subject_alt_names.clear()),
    ),
    (
        "a name twice",
        Fault::Params(|p| p.subject_alt_names = vec![dns(HOST), dns(HOST)]),
    ),
];

/// Where the two opinions have to differ: fault, levels it is at, on connections we initiated, accepted, and why.
/// `true` is "accept".
struct Difference {
    fault: &'static str,
    at: fn(level: usize, depth: usize) -> bool,
    initiated: Option<bool>,
    accepted: Option<bool>,
    #[expect(dead_code, reason = "for the reader")]
    reason: &'static str,
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        fault: "ends now",
        at: |_, _| true,
        initiated: Some(true),
        accepted: Some(true),
        reason: "OpenSSL ends validity at notAfter; RFC 5280 §4.1.2.5 includes that second",
    },
    Difference {
        fault: "basic constraints absent",
        at: |level, depth| level == depth,
        initiated: Some(false),
        accepted: Some(false),
        reason: "OpenSSL without -x509_strict takes keyUsage keyCertSign for a root's mark; a root of version 3 has to say cA TRUE as any CA (RFC 5280 §6.1.4 (k))",
    },
    Difference {
        fault: "extended key usage any",
        at: |_, _| true,
        initiated: Some(true),
        accepted: Some(true),
        reason: "OpenSSL's purposes do not know anyExtendedKeyUsage; RFC 5280 §4.2.1.12 lets it stand for every purpose",
    },
    Difference {
        fault: "critical policy constraints",
        at: |_, _| true,
        initiated: Some(false),
        accepted: Some(false),
        reason: "OpenSSL counts the extension as processed even without -policy_check; no policy tree is built here, so it is refused",
    },
    Difference {
        fault: "key usage keyEncipherment",
        at: |_, _| true,
        initiated: Some(false),
        accepted: None,
        reason: "good for RSA key transport, which no offered cipher suite does; both sides sign",
    },
    Difference {
        fault: "key usage keyAgreement",
        at: |_, _| true,
        initiated: Some(false),
        accepted: Some(false),
        reason: "good for static ECDH, which no offered cipher suite does; both sides sign",
    },
];

/// What the list says about a case: the answer expected here, when it differs from OpenSSL's.
fn difference(fault: &str, level: usize, depth: usize, initiated: bool) -> Option<bool> {
    let found = DIFFERENCES
        .iter()
        .find(|d| d.fault == fault && (d.at)(level, depth))?;
    if initiated {
        found.initiated
    } else {
        found.accepted
    }
}

/// The root first, the peer's last; `None` for one that is not presented.
fn chain(depth: usize, level: usize, fault: Fault) -> Vec<Option<Entity>> {
    let mut chain: Vec<Entity> = Vec::new();
    let mut missing = None;
    for index in 0..=depth {
        let at = depth - index;
        let mut params = match at {
            0 => endpoint("peer"),
            _ => ca(&format!("CA {at}")),
        };
        if at == 0 {
            params
                .subject_alt_names
                .push(SanType::IpAddress([192, 0, 2, 9].into()));
            params
                .subject_alt_names
                .push(uri("coaps://acs.example.com/usp"));
        }
        let hit = at == level;
        if let (true, Fault::Params(change)) = (hit, fault) {
            change(&mut params);
        }
        let Some(issuer) = chain.last() else {
            chain.push(Entity::self_signed(params));
            continue;
        };
        let mut entity = match fault {
            Fault::WrongKey if hit => issuer.impostor().issue(params),
            Fault::WrongIssuer if hit => {
                let mut other = issuer.clone();
                other.params.distinguished_name = dn("Nobody");
                other.issue(params)
            }
            _ => issuer.issue(params),
        };
        if hit && matches!(fault, Fault::BrokenSignature) {
            *entity.der.last_mut().unwrap() ^= 1;
        }
        if hit && matches!(fault, Fault::Missing) {
            missing = Some(index);
        }
        chain.push(entity);
    }
    chain
        .into_iter()
        .enumerate()
        .map(|(index, e)| (missing != Some(index)).then_some(e))
        .collect()
}

fn openssl(directory: &Path, initiated: bool) -> (bool, String) {
    let purpose = if initiated { "sslserver" } else { "sslclient" };
    let output = Command::new("openssl")
        .args([
            "verify",
            "-no-CApath",
            "-no-CAstore",
            "-attime",
            NOW,
            "-purpose",
            purpose,
        ])
        .args([
            "-CAfile",
            "root.pem",
            "-untrusted",
            "between.pem",
            "peer.pem",
        ])
        .current_dir(directory)
        .output()
        .unwrap();
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// What came of the chains of one length.
#[derive(Default)]
struct Asked {
    asked: usize,
    accepted: usize,
    differed: usize,
    /// Where the two disagree and should not, for a person.
    wrong: String,
}

fn ask_about_chains(depth: usize) -> Asked {
    let directory = TempDir::new().unwrap();
    let write =
        |name: &str, text: String| std::fs::write(directory.path().join(name), text).unwrap();
    let mut out = Asked::default();
    for level in 0..=depth {
        let mut faults = ANYWHERE.to_vec();
        faults.extend(if level < depth { ISSUED } else { &[] });
        faults.extend(if level > 0 { AUTHORITY } else { PEER });
        faults.extend(if level > 0 && level < depth {
            INTERMEDIATE
        } else {
            &[]
        });
        for (name, fault) in faults {
            let entities = chain(depth, level, fault);
            let root = entities[0].as_ref().unwrap();
            let mut presented: Vec<&Entity> = entities[1..].iter().flatten().collect();
            presented.reverse();
            write("root.pem", root.pem());
            write("peer.pem", presented[0].pem());
            // The root again, so that the file is never empty.
            let between: String = presented[1..].iter().map(|e| e.pem()).collect();
            write("between.pem", between + &root.pem());
            let judge = Judge::trusting(&[root]);
            let ders = crate::forge::ders(&presented);
            for initiated in [true, false] {
                let connection = match initiated {
                    // A name that passes, since `openssl verify` looks at none.
                    true => Connection::Initiated {
                        host: "peer.local",
                        endpoint_id: None,
                    },
                    false => Connection::Accepted,
                };
                let decision = judge.ask(&ders, connection);
                let ours = decision.is_established();
                let (theirs, why) = openssl(directory.path(), initiated);
                out.asked += 1;
                out.accepted += usize::from(ours);
                let agreed = match difference(name, level, depth, initiated) {
                    Some(expected) => {
                        out.differed += 1;
                        ours == expected && theirs != expected
                    }
                    None => ours == theirs,
                };
                if !agreed {
                    let role = if initiated { "initiated" } else { "accepted" };
                    writeln!(out.wrong, "depth {depth}, level {level}, {name}, {role}: {:?}; openssl: {theirs} {why}", decision.outcome).unwrap();
                }
            }
        }
    }
    out
}

#[test]
fn openssl_verify_agrees_on_every_generated_chain() {
    let ask = |depth| std::thread::spawn(move || ask_about_chains(depth));
    let threads: Vec<_> = (1..=3).map(ask).collect();
    let mut all = Asked::default();
    for thread in threads {
        let of_one = thread.join().unwrap();
        all.asked += of_one.asked;
        all.accepted += of_one.accepted;
        all.differed += of_one.differed;
        all.wrong += &of_one.wrong;
    }
    let Asked {
        asked,
        accepted,
        differed,
        wrong,
    } = all;
    assert!(wrong.is_empty(), "{wrong}");
    assert!(
        asked >= 500 && accepted >= 50 && asked - accepted >= 50,
        "{asked} asked, {accepted} accepted"
    );
    assert!(
        differed > 0 && differed * 5 < asked,
        "{differed} of {asked} differ"
    );
}
