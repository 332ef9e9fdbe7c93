//! A second opinion about revocation: `openssl verify -crl_check` and `-crl_check_all` over the same chains and CRLs, and answers
//! of the real `openssl ocsp` responder.

use std::{
    fmt::Write as _,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use homefleet_trust::{
    CertIdHash, Connection, EvidenceError, Outcome, Refusal, Revocation, RevocationPolicy,
    RevocationReason, RevocationScope, Time, Unknown, Wanted,
};
use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use tempfile::TempDir;

use crate::{
    evidence::{
        CRL_NUMBER, CRL_URL, Crl, DAY, DELTA, OCSP_URL, ODD, Ocsp, Said, full_name, name_addresses,
        point, raw_extension, reason, revocable, serial, subject,
    },
    forge::{Entity, Judge, With, ca, ders, now, pem},
};

/// 2026-06-01T00:00:00Z, as `forge::now`.
const NOW: &str = "1780272000";

/// What is done to one of two good CRLs, the one of the peer's issuer or the root's.
#[derive(Clone, Copy)]
enum Fault {
    Crl(fn(&mut Crl)),
    /// Of the issuer's name and another key.
    WrongKey,
    /// Of another issuer.
    WrongIssuer,
    BrokenSignature,
    /// Its issuer's key usage does not allow it.
    NoCrlSign,
    Missing,
}

fn scoped(crl: &mut Crl, fields: &[&[u8]]) {
    crl.extensions.push(point(fields));
}

const FAULTS: &[(&str, Fault)] = &[
    ("good", Fault::Crl(|_| {})),
    (
        "not yet valid",
        Fault::Crl(|c| c.this_update = now() + 2 * DAY),
    ),
    (
        "out of date",
        Fault::Crl(|c| c.next_update = Some(now() - DAY)),
    ),
    (
        "no nextUpdate",
        Fault::Crl(|c| {
            c.next_update = None;
        }),
    ),
    (
        "unknown critical extension",
        Fault::Crl(|c| c.extensions.push(raw_extension(ODD, true, &[5, 0]))),
    ),
    (
        "unknown extension",
        Fault::Crl(|c| c.extensions.push(raw_extension(ODD, false, &[5, 0]))),
    ),
    (
        "unknown critical entry extension",
        Fault::Crl(|c| {
            c.revoked[0].1 = vec![raw_extension(ODD, true, &[5, 0])];
        }),
    ),
    (
        "unknown entry extension",
        Fault::Crl(|c| {
            c.revoked[0].1 = vec![raw_extension(ODD, false, &[5, 0])];
        }),
    ),
    ("on hold", Fault::Crl(|c| c.revoked[0].1 = reason(6))),
    ("removed", Fault::Crl(|c| c.revoked[0].1 = reason(8))),
    (
        "version 1",
        Fault::Crl(|c| {
            c.version = None;
            c.extensions.clear();
        }),
    ),
    (
        "delta",
        Fault::Crl(|c| {
            c.extensions = vec![
                raw_extension(CRL_NUMBER, false, &[2, 1, 5]),
                raw_extension(DELTA, true, &[2, 1, 4]),
            ];
        }),
    ),
    ("users only", Fault::Crl(|c| scoped(c, &[&[0x81, 1, 0xFF]]))),
    ("CAs only", Fault::Crl(|c| scoped(c, &[&[0x82, 1, 0xFF]]))),
    (
        "some reasons only",
        Fault::Crl(|c| scoped(c, &[&[0x83, 2, 6, 0x40]])),
    ),
    ("indirect", Fault::Crl(|c| scoped(c, &[&[0x84, 1, 0xFF]]))),
    (
        "attribute certificates only",
        Fault::Crl(|c| scoped(c, &[&[0x85, 1, 0xFF]])),
    ),
    (
        "the certificate's distribution point",
        Fault::Crl(|c| scoped(c, &[&full_name(CRL_URL)])),
    ),
    (
        "another distribution point",
        Fault::Crl(|c| scoped(c, &[&full_name("http://crl.example.com/other.crl")])),
    ),
    ("wrong key", Fault::WrongKey),
    ("wrong issuer", Fault::WrongIssuer),
    ("broken signature", Fault::BrokenSignature),
    ("no cRLSign", Fault::NoCrlSign),
    ("missing", Fault::Missing),
];

/// The one fault about which the two have to differ: OpenSSL 3 takes a delta CRL for a complete one where it has no other;
/// only what it adds is in it (RFC 5280 §5.2.4), so what it does not list may be revoked all the same.
const TAKEN_BY_OPENSSL_ONLY: &str = "delta";

fn list(crl: &Crl, issuer: &Entity, fault: Fault) -> Option<Vec<u8>> {
    let mut crl = crl.clone();
    Some(match fault {
        Fault::Crl(change) => {
            change(&mut crl);
            crl.signed(issuer)
        }
        Fault::WrongKey => crl.signed_by(issuer, &issuer.impostor()),
        Fault::WrongIssuer => crl.signed(&Entity::root("Nobody")),
        Fault::BrokenSignature => {
            let mut der = crl.signed(issuer);
            *der.last_mut().unwrap() ^= 1;
            der
        }
        Fault::NoCrlSign => crl.signed(issuer),
        Fault::Missing => return None,
    })
}

fn crl_pem(der: &[u8]) -> String {
    pem(der).replace("CERTIFICATE", "X509 CRL")
}

#[test]
fn openssl_agrees_on_every_generated_crl() {
    let directory = TempDir::new().unwrap();
    let write =
        |name: &str, text: String| std::fs::write(directory.path().join(name), text).unwrap();
    let (mut asked, mut accepted, mut differed) = (0, 0, 0);
    let mut wrong = String::new();
    for (name, fault) in FAULTS {
        for at_root in [false, true] {
            let limited = |hit: bool, name: &str| {
                ca(name).with(|p| {
                    if hit && matches!(fault, Fault::NoCrlSign) {
                        p.key_usages = vec![KeyUsagePurpose::KeyCertSign];
                    }
                })
            };
            let root = Entity::self_signed(limited(at_root, "Root").with(|p| {
                name_addresses(p, 1, Some(CRL_URL), None);
            }));
            let middle = root.issue(limited(!at_root, "Middle").with(|p| {
                name_addresses(p, 5, Some(CRL_URL), None);
            }));
            let peers = [7, 8].map(|number| middle.issue(revocable(number, Some(CRL_URL), None)));
            let none = Fault::Crl(|_| {});
            let (of_middle, of_root) = if at_root {
                (none, *fault)
            } else {
                (*fault, none)
            };
            for middle_listed in [false, true] {
                if middle_listed && !at_root {
                    continue;
                }
                let listed = if middle_listed { 5 } else { 99 };
                let lists: Vec<Vec<u8>> = [
                    list(&Crl::of(&[7]), &middle, of_middle),
                    list(&Crl::of(&[listed]), &root, of_root),
                ]
                .into_iter()
                .flatten()
                .collect();
                write("root.pem", root.pem());
                write("middle.pem", middle.pem());
                write("crls.pem", lists.iter().map(|der| crl_pem(der)).collect());
                for (index, peer) in peers.iter().enumerate() {
                    write(&format!("peer{index}.pem"), peer.pem());
                }
                for scope in [RevocationScope::Leaf, RevocationScope::Chain] {
                    let theirs = openssl_verify(directory.path(), scope);
                    for (index, peer) in peers.iter().enumerate() {
                        let ours = decide(&root, &middle, peer, &lists, scope);
                        asked += 1;
                        let ours_is_yes = ours == Outcome::Establish;
                        accepted += usize::from(ours_is_yes);
                        if *name == TAKEN_BY_OPENSSL_ONLY && !ours_is_yes && theirs[index] {
                            differed += 1;
                        } else if ours_is_yes != theirs[index] {
                            writeln!(
                                wrong,
                                "{name}, at root {at_root}, middle listed {middle_listed}, {scope:?}, peer {index}: {ours:?}; openssl {theirs:?}"
                            )
                            .unwrap();
                        }
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(differed, 3);
    assert!(
        asked >= 250 && accepted >= 50,
        "{asked} asked, {accepted} accepted"
    );
}

fn openssl_verify(directory: &Path, scope: RevocationScope) -> [bool; 2] {
    let check = match scope {
        RevocationScope::Leaf => "-crl_check",
        RevocationScope::Chain => "-crl_check_all",
    };
    let output = Command::new("openssl")
        .args(["verify", "-no-CApath", "-no-CAstore", "-attime", NOW, check])
        .args(["-CAfile", "root.pem", "-untrusted", "middle.pem"])
        .args(["-CRLfile", "crls.pem", "peer0.pem", "peer1.pem"])
        .current_dir(directory)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ["peer0.pem: OK", "peer1.pem: OK"].map(|line| text.lines().any(|l| l == line))
}

fn decide(
    root: &Entity,
    middle: &Entity,
    peer: &Entity,
    lists: &[Vec<u8>],
    scope: RevocationScope,
) -> Outcome {
    let mut revocation = Revocation::new(RevocationPolicy {
        scope,
        unknown: Unknown::Refuse,
        ..RevocationPolicy::default()
    });
    let judge = Judge::trusting(&[root]);
    for der in lists {
        // What is not taken is missing.
        let _taken = revocation.add_crl(der, &[root.anchor(), middle.anchor()], judge.time);
    }
    let chain = ders(&[peer, middle]);
    judge
        .ask_with(&chain, Connection::Accepted, Some(&revocation))
        .outcome
}

/// The responder and what it answers from.
struct Responder {
    directory: TempDir,
    root: Entity,
    signer: Entity,
}

impl Responder {
    fn new(root: &Entity, signer: &Entity) -> Self {
        let directory = TempDir::new().unwrap();
        let write =
            |name: &str, text: String| std::fs::write(directory.path().join(name), text).unwrap();
        write("ca.pem", root.pem());
        write("signer.pem", signer.pem());
        write("signer.key", signer.key.serialize_pem());
        let hex =
            |number| -> String { serial(number).iter().map(|b| format!("{b:02X}")).collect() };
        let good = format!("V\t350101000000Z\t\t{}\tunknown\t/CN=good\n", hex(7));
        let bad = format!(
            "R\t350101000000Z\t260101000000Z,keyCompromise\t{}\tunknown\t/CN=bad\n",
            hex(8)
        );
        write("index.txt", good + &bad);
        Self {
            directory,
            root: root.clone(),
            signer: signer.clone(),
        }
    }

    /// Its answer about this number.
    fn ask(&self, number: u32, hash: CertIdHash, nonce: Option<&[u8]>) -> (Wanted, Vec<u8>) {
        let wanted = Wanted::Ocsp {
            url: OCSP_URL.into(),
            issuer: self.root.der.clone(),
            serial: serial(number),
            hash,
        };
        let path = self.directory.path();
        std::fs::write(path.join("request.der"), wanted.request(nonce).unwrap()).unwrap();
        let output = Command::new("openssl")
            .args([
                "ocsp",
                "-index",
                "index.txt",
                "-CA",
                "ca.pem",
                "-ndays",
                "1",
            ])
            .args(["-rsigner", "signer.pem", "-rkey", "signer.key"])
            .args(["-reqin", "request.der", "-respout", "answer.der"])
            .current_dir(path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        (wanted, std::fs::read(path.join("answer.der")).unwrap())
    }

    /// Whether `openssl ocsp` as a client believes it.
    fn believed(&self, peer: &Entity, answer: &[u8]) -> bool {
        let path = self.directory.path();
        std::fs::write(path.join("answer.der"), answer).unwrap();
        std::fs::write(path.join("peer.pem"), peer.pem()).unwrap();
        let output = Command::new("openssl")
            .args(["ocsp", "-respin", "answer.der", "-issuer", "ca.pem"])
            .args(["-cert", "peer.pem", "-CAfile", "ca.pem", "-no-CApath"])
            .args(["-no-CAstore", "-attime", NOW])
            .current_dir(path)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stderr).contains("Response verify OK")
    }
}

fn responder() -> rcgen::CertificateParams {
    ca("Responder").with(|p| {
        p.is_ca = IsCa::NoCa;
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
    })
}

/// The responder answers at the time it is.
#[expect(
    clippy::disallowed_methods,
    reason = "the responder has a clock of its own"
)]
fn real_time() -> Time {
    Time::Accurate(SystemTime::now() + Duration::from_secs(60))
}

#[test]
fn the_openssl_responder_is_asked_and_understood() {
    let root = Entity::root("Root");
    let delegated = root.issue(responder());
    for signer in [&root, &delegated] {
        let responder = Responder::new(&root, signer);
        for hash in [CertIdHash::Sha1, CertIdHash::Sha256] {
            for nonce in [None, Some(&[0xA5; 32][..])] {
                for number in [7, 8, 9] {
                    let (wanted, answer) = responder.ask(number, hash, nonce);
                    let mut revocation = Revocation::new(RevocationPolicy {
                        unknown: Unknown::Refuse,
                        ..RevocationPolicy::default()
                    });
                    let time = real_time();
                    revocation.add(&wanted, nonce, &answer, time).unwrap();
                    if nonce.is_some() {
                        let other = Some(&[0x5A; 32][..]);
                        assert_eq!(
                            revocation.add(&wanted, other, &answer, time),
                            Err(EvidenceError::Nonce)
                        );
                    }
                    let mut judge = Judge::trusting(&[&root]);
                    judge.time = time;
                    let peer = root.issue(revocable(number, None, Some(OCSP_URL)));
                    let chain = ders(&[&peer]);
                    let decision = judge.ask_with(&chain, Connection::Accepted, Some(&revocation));
                    let (level, reason) = (0, RevocationReason::KeyCompromise);
                    let expected = match number {
                        7 => Outcome::Establish,
                        8 => Outcome::Terminate(Refusal::Revoked { level, reason }),
                        _ => Outcome::Terminate(Refusal::RevocationUnknown { level }),
                    };
                    assert_eq!(decision.outcome, expected);
                }
            }
        }
    }
}

#[test]
fn openssl_agrees_which_responders_are_to_be_believed() {
    let root = Entity::root("Root");
    let peer = root.issue(revocable(7, None, Some(OCSP_URL)));
    let impostor = root.impostor();
    let middle = root.issue(ca("Middle"));
    let without = |usages: Vec<ExtendedKeyUsagePurpose>| {
        root.issue(responder().with(|p| p.extended_key_usages = usages))
    };
    let plain = without(vec![]);
    let any = without(vec![ExtendedKeyUsagePurpose::Any]);
    let authorised = root.issue(responder());
    let stranger = Entity::root("Stranger").issue(responder());
    // The responder as it is named, the one that signs, what is presented.
    let cases: [(&str, &Entity, &Entity, Vec<&Entity>); 9] = [
        ("the issuer", &root, &root, vec![]),
        ("another key", &root, &impostor, vec![]),
        ("authorised", &authorised, &authorised, vec![&authorised]),
        (
            "authorised, not presented",
            &authorised,
            &authorised,
            vec![],
        ),
        ("no purpose", &plain, &plain, vec![&plain]),
        ("any purpose", &any, &any, vec![&any]),
        ("the peer itself", &peer, &peer, vec![&peer]),
        ("of a stranger", &stranger, &stranger, vec![&stranger]),
        ("the CA below", &middle, &middle, vec![&middle]),
    ];
    let helper = Responder::new(&root, &root);
    assert_eq!(subject(&helper.signer), subject(&root));
    for (what, named, signer, presented) in cases {
        for by_name in [false, true] {
            let ocsp = Ocsp::says(Said::Good, 7).with(|o| {
                o.by_name = by_name;
                o.certificates = presented.iter().map(|e| e.der.clone()).collect();
            });
            let der = ocsp.signed(&root, named, signer);
            let mut revocation = Revocation::new(RevocationPolicy::default());
            let wanted = crate::evidence::wanted_ocsp(&root, 7);
            let ours = revocation.add(&wanted, None, &der, Time::Accurate(now()));
            assert_eq!(
                ours.is_ok(),
                helper.believed(&peer, &der),
                "{what}, by name {by_name}: {ours:?}"
            );
        }
    }
}
