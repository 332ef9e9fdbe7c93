//! The bounds on work.

use homefleet_trust::{Policy, Refusal};
use rcgen::SanType;

use crate::forge::{Entity, Judge, With, ca, dns, endpoint};

/// A peer under `depth` CA certificates, the root not among them.
fn chain(root: &Entity, depth: usize) -> Vec<Entity> {
    let mut chain = vec![root.clone()];
    for level in 0..depth {
        chain.push(chain.last().unwrap().issue(ca(&format!("CA {level}"))));
    }
    chain.push(chain.last().unwrap().issue(endpoint("peer")));
    chain.remove(0);
    chain.reverse();
    chain
}

fn judge(root: &Entity, policy: Policy) -> Judge {
    Judge {
        policy,
        ..Judge::trusting(&[root])
    }
}

#[test]
fn more_certificates_than_allowed_are_not_read() {
    let root = Entity::root("Root");
    let peer = root.issue(endpoint("peer"));
    let limit = Policy::default().max_chain;
    let judge = Judge::trusting(&[&root]);
    assert_eq!(judge.refusal(&vec![&peer; limit]), None);
    let presented = limit + 1;
    assert_eq!(
        judge.refusal(&vec![&peer; presented]),
        Some(Refusal::ChainTooLong { presented, limit })
    );
}

#[test]
fn a_path_longer_than_allowed_is_not_followed() {
    let root = Entity::root("Root");
    let chain = chain(&root, 3);
    let links: Vec<&Entity> = chain.iter().collect();
    let allow = |max_chain| {
        judge(
            &root,
            Policy {
                max_chain,
                ..Policy::default()
            },
        )
    };
    assert_eq!(allow(5).refusal(&links), None);
    assert_eq!(allow(4).refusal(&links), Some(Refusal::SearchLimit));
}

#[test]
fn large_certificates_are_not_read() {
    let root = Entity::root("Root");
    let names: Vec<SanType> = (0..1000)
        .map(|n| dns(&format!("host-{n:06}.example.com")))
        .collect();
    let large = root.issue(endpoint("large").with(|p| p.subject_alt_names = names));
    let peer = root.issue(endpoint("peer"));
    let (bytes, limit) = (large.der.len(), Policy::default().max_certificate_bytes);
    let judge = Judge::trusting(&[&root]);
    assert_eq!(
        judge.refusal(&[&large]),
        Some(Refusal::CertificateTooLarge {
            index: 0,
            bytes,
            limit
        })
    );
    assert_eq!(
        judge.refusal(&[&peer, &large]),
        Some(Refusal::CertificateTooLarge {
            index: 1,
            bytes,
            limit
        })
    );
    let mut wide = judge.clone();
    wide.policy.max_certificate_bytes = bytes;
    assert_eq!(wide.refusal(&[&large]), None);
    wide.policy.max_chain_bytes = 2 * bytes - 1;
    let refusal = Refusal::ChainTooLarge {
        bytes: 2 * bytes,
        limit: 2 * bytes - 1,
    };
    assert_eq!(wide.refusal(&[&large, &large]), Some(refusal));
}

#[test]
fn signature_checks_are_counted() {
    let root = Entity::root("Root");
    let chain = chain(&root, 3);
    let links: Vec<&Entity> = chain.iter().collect();
    let allow = |max_signature_checks| {
        judge(
            &root,
            Policy {
                max_signature_checks,
                ..Policy::default()
            },
        )
    };
    assert_eq!(allow(4).refusal(&links), None);
    assert_eq!(allow(3).refusal(&links), Some(Refusal::SearchLimit));
    assert_eq!(allow(0).refusal(&links), Some(Refusal::SearchLimit));
}

#[test]
fn a_signature_is_verified_once_however_many_paths_use_it() {
    let root = Entity::root("Root");
    let upper = root.issue(ca("Upper"));
    // Four certificates of the same intermediate, none of them by the real root but one.
    let lower: Vec<Entity> = (0..4)
        .map(|_| upper.impostor().issue_with(ca("Lower"), upper.key.clone()))
        .collect();
    let real = upper.issue_with(ca("Lower"), upper.key.clone());
    let peer = real.issue(endpoint("peer"));
    let mut links = vec![&peer, &upper];
    links.extend(&lower);
    links.push(&real);
    // peer by real, real by upper, upper by root, and one failure for each of the four.
    let judge = judge(
        &root,
        Policy {
            max_signature_checks: 7,
            ..Policy::default()
        },
    );
    assert_eq!(judge.refusal(&links), None);
}

#[test]
fn search_steps_are_counted() {
    let root = Entity::root("Root");
    let chain = chain(&root, 2);
    let links: Vec<&Entity> = chain.iter().collect();
    let allow = |max_search_steps| {
        judge(
            &root,
            Policy {
                max_search_steps,
                ..Policy::default()
            },
        )
    };
    assert_eq!(allow(3).refusal(&links), None);
    assert_eq!(allow(2).refusal(&links), Some(Refusal::SearchLimit));
}

#[test]
fn a_tangle_of_cross_certificates_ends_at_the_limit() {
    // Every one of seven CAs of one name certifies every other: without a bound, factorial work.
    let knot: Vec<Entity> = (0..7).map(|_| Entity::root("Knot")).collect();
    let peer = knot[0].issue(endpoint("peer"));
    let mut links = vec![&peer];
    links.extend(&knot);
    let root = Entity::root("Root");
    assert_eq!(
        Judge::trusting(&[&root]).refusal(&links),
        Some(Refusal::SearchLimit)
    );
}
