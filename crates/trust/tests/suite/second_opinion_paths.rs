//! A second opinion where several paths are possible: generated authorities that certify each other, with faults.
//!
//! OpenSSL does not come back from a path that turns out bad, so it may refuse where a good one is left. What it accepts has to be
//! accepted here; and a path accepted here has to be good for it when it is given nothing else.

use std::{path::Path, process::Command};

use homefleet_trust::{Connection, Decision, Source};
use rcgen::{
    BasicConstraints, CertificateParams, GeneralSubtree, IsCa, NameConstraints, date_time_ymd,
};
use tempfile::TempDir;

use crate::forge::{Entity, Judge, With, ca, ders, endpoint};

/// 2026-06-01T00:00:00Z, as `forge::now`.
const NOW: &str = "1780272000";
const GRAPHS: u64 = 150;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap() % bound
    }
}

fn fault(random: &mut Random, p: &mut CertificateParams) {
    match random.below(12) {
        0 => p.not_after = date_time_ymd(2026, 5, 31),
        1 => p.is_ca = IsCa::ExplicitNoCa,
        2 => p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
        3 => {
            p.name_constraints = Some(NameConstraints {
                permitted_subtrees: vec![],
                excluded_subtrees: vec![GeneralSubtree::DnsName("example.com".into())],
            });
        }
        4 => p.not_before = date_time_ymd(2026, 6, 2),
        _ => {}
    }
}

/// Two roots, the presented certificates, the peer's first.
fn graph(random: &mut Random) -> ([Entity; 2], Vec<Entity>) {
    let roots = ["Root 0", "Root 1"].map(Entity::root);
    let middles = ["Middle 0", "Middle 1", "Middle 2"].map(Entity::root);
    let mut presented = Vec::new();
    for (index, middle) in middles.iter().enumerate() {
        // One to three certificates of the same name and key, by a root or by another one of them.
        for _ in 0..=random.below(2) {
            let issuer = match random.below(5) {
                root @ 0..=1 => &roots[root],
                // Not by itself: OpenSSL ends every path at a certificate that signed itself.
                other if other - 2 == index => &roots[0],
                other => &middles[other - 2],
            };
            let issuer = match random.below(8) {
                0 => issuer.impostor(),
                _ => issuer.clone(),
            };
            let params = ca(&format!("Middle {index}")).with(|p| fault(random, p));
            presented.push(issuer.issue_with(params, middle.key.clone()));
        }
    }
    for at in (1..presented.len()).rev() {
        presented.swap(at, random.below(at + 1));
    }
    let peer = middles[random.below(3)].issue(endpoint("peer"));
    presented.insert(0, peer);
    (roots, presented)
}

fn openssl(directory: &Path, trusted: &[&Entity], between: &[&Entity], peer: &Entity) -> bool {
    let write = |name: &str, list: &[&Entity]| {
        let text: String = list.iter().map(|e| e.pem()).collect();
        std::fs::write(directory.join(name), text).unwrap();
    };
    write("trusted.pem", trusted);
    // Never empty.
    write("between.pem", &[between, &trusted[..1]].concat());
    write("peer.pem", &[peer]);
    let output = Command::new("openssl")
        .args(["verify", "-no-CApath", "-no-CAstore", "-attime", NOW])
        .args(["-purpose", "sslclient", "-CAfile", "trusted.pem"])
        .args(["-untrusted", "between.pem", "peer.pem"])
        .current_dir(directory)
        .output()
        .unwrap();
    output.status.success()
}

/// Whether OpenSSL accepts the path found when it has no other.
fn confirmed(
    directory: &Path,
    decision: &Decision,
    presented: &[Entity],
    roots: &[&Entity],
) -> bool {
    let mut between = Vec::new();
    let mut trusted = Vec::new();
    for certificate in &decision.chain {
        match certificate.source {
            Source::Presented(0) => {}
            Source::Presented(index) => between.push(&presented[index]),
            Source::Anchor(index) => trusted.push(roots[index]),
            Source::Broker(_) => panic!("there are no brokers"),
        }
    }
    openssl(directory, &trusted, &between, &presented[0])
}

#[test]
fn openssl_agrees_where_authorities_certify_each_other() {
    let directory = TempDir::new().unwrap();
    let (mut both, mut only_ours, mut neither) = (0, 0, 0);
    for seed in 1..=GRAPHS {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (roots, presented) = graph(&mut random);
        let trusted: Vec<&Entity> = match random.below(3) {
            0 => vec![&roots[0]],
            1 => vec![&roots[1]],
            _ => roots.iter().collect(),
        };
        let links: Vec<&Entity> = presented.iter().collect();
        let decision = Judge::trusting(&trusted).ask(&ders(&links), Connection::Accepted);
        let theirs = openssl(directory.path(), &trusted, &links[1..], links[0]);
        match (decision.is_established(), theirs) {
            (false, true) => panic!("graph {seed}: openssl accepts; {decision:#?}"),
            (false, false) => neither += 1,
            (true, _) => {
                assert!(
                    confirmed(directory.path(), &decision, &presented, &trusted),
                    "graph {seed}: {decision:#?}"
                );
                both += usize::from(theirs);
                only_ours += usize::from(!theirs);
            }
        }
    }
    assert!(
        both >= 30 && neither >= 30 && only_ours > 0,
        "{both} accepted, {neither} refused, {only_ours} only here"
    );
}
