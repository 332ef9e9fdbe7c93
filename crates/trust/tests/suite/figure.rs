//! Every path through Figure MTP.1, for connections we accepted and connections we initiated.

use std::collections::{BTreeMap, BTreeSet};

use homefleet_trust::{
    Answer, Basis, Connection, DefaultEdge, Element, FirstUse, Level, Outcome, Refusal, Revocation,
    RevocationPolicy, RevocationReason, StoredCertificate, Time, Unknown,
};
use rcgen::date_time_ymd;

use crate::{
    evidence::{CRL_URL, Crl, instant, name_addresses, wanted_crl},
    forge::{CONTROLLER, Entity, HOST, Judge, With, ca, endpoint, now, three},
};

/// The host and the Endpoint ID of a connection that we initiated.
type Target = Option<(&'static str, Option<&'static str>)>;
/// Boxes with their answers, the end, the way, the reason.
type Drawn = (Vec<(Element, Answer)>, End, Option<Basis>, Option<Refusal>);

/// What it is, and whether the peer's names fit it.
const CONNECTIONS: &[(&str, Target, bool)] = &[
    ("accepted", None, true),
    ("host and id", Some((HOST, Some(CONTROLLER))), true),
    ("host only", Some((HOST, None)), true),
    (
        "id only",
        Some(("other.example.net", Some(CONTROLLER))),
        true,
    ),
    (
        "id only, at an address",
        Some(("192.0.2.1", Some(CONTROLLER))),
        true,
    ),
    (".local", Some(("controller.local", None)), true),
    (
        ".home.arpa",
        Some(("controller.home.arpa.", Some(CONTROLLER))),
        true,
    ),
    ("wrong host", Some(("other.example.net", None)), false),
    ("wrong address", Some(("192.0.2.1", None)), false),
    ("bare local", Some(("local", None)), false),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dates {
    Valid,
    Expired,
    NotYetValid,
    TimeUnknown,
    ExpiredAndTimeUnknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Nothing,
    Other,
    ForAnother,
    ForThis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vouched {
    ByCa,
    AsBroker,
    ByNobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Revoked {
    NotLookedAt,
    No,
    Yes,
    Missing,
    Unclear(Unknown),
}

struct Case {
    initiated: Target,
    name_fits: bool,
    presented: bool,
    cached: bool,
    dates: Dates,
    kept: Kept,
    vouched: Vouched,
    first_use: FirstUse,
    revoked: Revoked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Establish,
    Hold,
    Terminate,
}

/// The figure, read with a finger: which boxes, which answers, which end.
fn drawn(case: &Case) -> Drawn {
    use Answer::{No, NotApplicable, NotDone, Unclear, Waiting, Yes};
    let mut steps = Vec::new();
    if !case.presented {
        steps.push((Element::CertificatePresented, No));
        return (steps, End::Terminate, None, Some(Refusal::NoCertificate));
    }
    steps.push((Element::CertificatePresented, Yes));

    let out_of_date = match case.dates {
        Dates::Expired => Some(Refusal::Expired { level: 0 }),
        Dates::NotYetValid => Some(Refusal::NotYetValid { level: 0 }),
        Dates::Valid | Dates::TimeUnknown | Dates::ExpiredAndTimeUnknown => None,
    };
    // A target Endpoint ID has to be the stored one.
    let is_kept = case.kept == Kept::ForThis
        || (case.kept == Kept::ForAnother && !matches!(case.initiated, Some((_, Some(_)))));
    let ground = match (is_kept, case.vouched) {
        (true, _) => Some(Basis::StoredCertificate),
        (false, Vouched::ByCa) => Some(Basis::TrustedCa),
        (false, Vouched::AsBroker) => Some(Basis::TrustedBroker),
        (false, Vouched::ByNobody) => None,
    };
    let reason = RevocationReason::Unspecified;
    let (revoked, end) = match (case.revoked, case.vouched) {
        (Revoked::NotLookedAt, _) => (NotDone(DefaultEdge::No), None),
        // Nobody could have revoked it.
        (_, Vouched::AsBroker | Vouched::ByNobody) => (NotApplicable, None),
        (Revoked::No, _) => (No, None),
        (Revoked::Yes, _) => (
            Yes,
            Some((End::Terminate, Some(Refusal::Revoked { level: 0, reason }))),
        ),
        (Revoked::Missing, _) => (Waiting, Some((End::Hold, None))),
        (Revoked::Unclear(Unknown::Allow), _) => (Unclear(DefaultEdge::No), None),
        (Revoked::Unclear(Unknown::Refuse), _) => (
            Unclear(DefaultEdge::Yes),
            Some((
                End::Terminate,
                Some(Refusal::RevocationUnknown { level: 0 }),
            )),
        ),
    };

    if case.cached && out_of_date.is_none() && ground.is_some() && end.is_none() {
        steps.push((Element::CachedSession, Yes));
        return (steps, End::Establish, Some(Basis::CachedSession), None);
    }
    steps.push((Element::CachedSession, No));

    let unknown = matches!(
        case.dates,
        Dates::TimeUnknown | Dates::ExpiredAndTimeUnknown
    );
    match out_of_date {
        _ if unknown => steps.push((Element::DatesValid, NotApplicable)),
        None => steps.push((Element::DatesValid, Yes)),
        refusal => {
            steps.push((Element::DatesValid, No));
            return (steps, End::Terminate, None, refusal);
        }
    }
    match (case.initiated, case.name_fits) {
        (None, _) => steps.push((Element::NameMatches, NotApplicable)),
        (Some(_), true) => steps.push((Element::NameMatches, Yes)),
        (Some(_), false) => {
            steps.push((Element::NameMatches, No));
            return (steps, End::Terminate, None, Some(Refusal::NameMismatch));
        }
    }
    steps.push(match (case.kept, is_kept) {
        (Kept::Nothing, _) => (Element::StoredCertificate, NotDone(DefaultEdge::No)),
        (_, false) => (Element::StoredCertificate, No),
        (_, true) => (Element::StoredCertificate, Yes),
    });
    if !is_kept {
        if ground.is_none() {
            steps.push((Element::TrustedCa, No));
            return match case.first_use {
                FirstUse::Refuse => {
                    steps.push((Element::TrustedSignatureRequired, Yes));
                    (steps, End::Terminate, None, Some(Refusal::UnknownIssuer))
                }
                FirstUse::Allow => {
                    steps.push((Element::TrustedSignatureRequired, No));
                    (steps, End::Establish, Some(Basis::FirstUse), None)
                }
            };
        }
        steps.push((Element::TrustedCa, Yes));
    }
    steps.push((Element::Revoked, revoked));
    match end {
        Some((end, refusal)) => (steps, end, None, refusal),
        None => (steps, End::Establish, ground, None),
    }
}

/// The peers of the table, by who vouches and by dates.
struct Peers {
    root: Entity,
    issued: [Entity; 3],
    lone: [Entity; 3],
}

impl Peers {
    fn new() -> Self {
        let root = Entity::root("Root");
        let past = date_time_ymd(2026, 5, 31);
        let future = date_time_ymd(2026, 6, 2);
        let params = |name: &str| {
            let params = || endpoint(name).with(|p| name_addresses(p, 7, Some(CRL_URL), None));
            [
                params(),
                params().with(|p| p.not_after = past),
                params().with(|p| p.not_before = future),
            ]
        };
        let issued = params("peer").map(|params| root.issue(params));
        let lone = params("lone").map(Entity::self_signed);
        Self { root, issued, lone }
    }

    fn of(&self, case: &Case) -> &Entity {
        let of_dates = match case.vouched {
            Vouched::ByCa => &self.issued,
            Vouched::AsBroker | Vouched::ByNobody => &self.lone,
        };
        match case.dates {
            Dates::Valid | Dates::TimeUnknown => &of_dates[0],
            Dates::Expired | Dates::ExpiredAndTimeUnknown => &of_dates[1],
            Dates::NotYetValid => &of_dates[2],
        }
    }
}

fn revocation(case: &Case, root: &Entity) -> Option<Revocation> {
    let policy = RevocationPolicy {
        unknown: match case.revoked {
            Revoked::Unclear(unknown) => unknown,
            _ => Unknown::Allow,
        },
        ..RevocationPolicy::default()
    };
    let mut revocation = Revocation::new(policy);
    let time = Time::Accurate(now());
    match case.revoked {
        Revoked::NotLookedAt => return None,
        Revoked::Missing => {}
        Revoked::No | Revoked::Yes => {
            let listed: &[u32] = if case.revoked == Revoked::Yes {
                &[7, 8]
            } else {
                &[8]
            };
            let crl = Crl::of(listed).signed(root);
            revocation.add(&wanted_crl(root), None, &crl, time).unwrap();
        }
        Revoked::Unclear(_) => revocation.failed(&wanted_crl(root), instant()),
    }
    Some(revocation)
}

fn every_case(mut with: impl FnMut(&Case)) {
    for (_, initiated, name_fits) in CONNECTIONS {
        for presented in [true, false] {
            for cached in [false, true] {
                for dates in [
                    Dates::Valid,
                    Dates::Expired,
                    Dates::NotYetValid,
                    Dates::TimeUnknown,
                    Dates::ExpiredAndTimeUnknown,
                ] {
                    for kept in [Kept::Nothing, Kept::Other, Kept::ForAnother, Kept::ForThis] {
                        for vouched in [Vouched::ByCa, Vouched::AsBroker, Vouched::ByNobody] {
                            for first_use in [FirstUse::Refuse, FirstUse::Allow] {
                                for revoked in [
                                    Revoked::NotLookedAt,
                                    Revoked::No,
                                    Revoked::Yes,
                                    Revoked::Missing,
                                    Revoked::Unclear(Unknown::Allow),
                                    Revoked::Unclear(Unknown::Refuse),
                                ] {
                                    with(&Case {
                                        initiated: *initiated,
                                        name_fits: *name_fits,
                                        presented,
                                        cached,
                                        dates,
                                        kept,
                                        vouched,
                                        first_use,
                                        revoked,
                                    });
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_path_of_the_figure_is_walked_as_drawn() {
    let peers = Peers::new();
    let mut revocations: BTreeMap<String, Option<Revocation>> = BTreeMap::new();
    let mut paths: BTreeMap<bool, BTreeSet<String>> = BTreeMap::new();
    let mut seen: BTreeSet<(Element, String)> = BTreeSet::new();
    let mut cases = 0;
    every_case(|case| {
        // Without a certificate nothing else matters: once is enough for each connection.
        let plain = case.dates == Dates::Valid && case.kept == Kept::Nothing && !case.cached;
        if !case.presented && !plain {
            return;
        }
        cases += 1;
        let peer = peers.of(case);
        let mut judge = Judge::trusting(&[&peers.root]);
        if matches!(
            case.dates,
            Dates::TimeUnknown | Dates::ExpiredAndTimeUnknown
        ) {
            judge.time = Time::Unknown;
        }
        judge.cached = case.cached;
        judge.first_use = case.first_use;
        if case.vouched == Vouched::AsBroker {
            judge.brokers = vec![peer.anchor()];
        }
        let entry = |entity: &Entity, id: &str| StoredCertificate {
            fingerprint: entity.anchor().fingerprint(),
            endpoint_id: id.into(),
        };
        judge.stored = match case.kept {
            Kept::Nothing => vec![],
            Kept::Other => vec![entry(&peers.root, "self::somebody")],
            Kept::ForAnother => vec![entry(peer, "self::another")],
            Kept::ForThis => vec![entry(peer, "self::another"), entry(peer, CONTROLLER)],
        };
        let chain = match case.presented {
            true => vec![peer.der.clone()],
            false => vec![],
        };
        let connection = match case.initiated {
            Some((host, endpoint_id)) => Connection::Initiated { host, endpoint_id },
            None => Connection::Accepted,
        };
        let known = revocations
            .entry(format!("{:?}", case.revoked))
            .or_insert_with(|| revocation(case, &peers.root));
        let decision = judge.ask_with(&chain, connection, known.as_ref());

        let steps: Vec<_> = decision
            .steps
            .iter()
            .map(|step| (step.element, step.answer))
            .collect();
        let end = match &decision.outcome {
            Outcome::Establish => End::Establish,
            Outcome::Hold(wanted) => {
                assert_eq!(*wanted, [wanted_crl(&peers.root)]);
                End::Hold
            }
            Outcome::Terminate(_) => End::Terminate,
        };
        let walked = (steps, end, decision.basis, decision.refusal().cloned());
        assert_eq!(walked, drawn(case), "{decision:#?}");
        for (element, answer) in &walked.0 {
            seen.insert((*element, format!("{answer:?}")));
        }
        paths
            .entry(case.initiated.is_some())
            .or_default()
            .insert(format!("{:?}", (walked.0, walked.1)));
    });
    // After a certificate that is there, a session that is new, and dates that are valid or ignored (and names that fit or do
    // not matter), 25 ways remain: "stored?" is not done or no, then "trusted CA?" is no with its 2 ends or yes with 7 answers
    // to "revoked?", so 2 × 9; or "stored?" is yes with those 7.
    let beyond_names = 2 * (2 * (2 + 7) + 7);
    // And: no certificate; a cached session; dates that are not valid.
    let accepted = 3 + beyond_names;
    // And: a name that does not fit, dates being valid or ignored.
    let initiated = accepted + 2;
    let count = |initiated| paths.get(&initiated).map_or(0, BTreeSet::len);
    assert_eq!((count(false), count(true)), (accepted, initiated));
    assert_eq!((cases, accepted, initiated), (14_760, 53, 55));
    let all: BTreeSet<Element> = seen.iter().map(|(element, _)| *element).collect();
    assert_eq!(all, Element::ALL.into_iter().collect());
}

#[test]
fn the_boxes_are_marked_must_and_opt_as_in_the_figure() {
    let must: Vec<_> = Element::ALL
        .into_iter()
        .filter(|e| e.level() == Level::Must)
        .collect();
    let drawn = [
        Element::CertificatePresented,
        Element::DatesValid,
        Element::NameMatches,
        Element::TrustedCa,
    ];
    assert_eq!(must, drawn);
}

#[test]
fn a_peer_without_certificate_is_refused_in_both_roles() {
    let root = Entity::root("Root");
    let judge = Judge::trusting(&[&root]);
    for connection in [
        Connection::Accepted,
        Connection::Initiated {
            host: "a.local",
            endpoint_id: None,
        },
    ] {
        let decision = judge.ask(&[], connection);
        assert_eq!(decision.outcome, Outcome::Terminate(Refusal::NoCertificate));
        assert_eq!(decision.steps.len(), 1);
    }
}

#[test]
fn dates_are_validated_at_every_level_when_time_is_known() {
    let past = date_time_ymd(2026, 5, 31);
    let future = date_time_ymd(2026, 6, 2);
    let same = |_: &mut rcgen::CertificateParams| {};
    let cases = [
        (
            three(same, same, |p| p.not_after = past),
            Refusal::Expired { level: 0 },
        ),
        (
            three(same, |p| p.not_after = past, same),
            Refusal::Expired { level: 1 },
        ),
        (
            three(|p| p.not_after = past, same, same),
            Refusal::Expired { level: 2 },
        ),
        (
            three(same, same, |p| p.not_before = future),
            Refusal::NotYetValid { level: 0 },
        ),
        (
            three(same, |p| p.not_before = future, same),
            Refusal::NotYetValid { level: 1 },
        ),
        (
            three(|p| p.not_before = future, same, same),
            Refusal::NotYetValid { level: 2 },
        ),
    ];
    for (three, refusal) in cases {
        let judge = Judge::trusting(&[&three.root]);
        let decision = judge.accepted(&[&three.peer, &three.ca]);
        assert_eq!(decision.outcome, Outcome::Terminate(refusal));
        let last = decision.steps.last().unwrap();
        assert_eq!(
            (last.element, last.answer),
            (Element::DatesValid, Answer::No)
        );

        let unknown = Judge {
            time: Time::Unknown,
            ..judge
        };
        assert_eq!(unknown.refusal(&[&three.peer, &three.ca]), None, "R-MTP.2");
    }
}

#[test]
fn both_ends_of_the_validity_are_part_of_it() {
    let root = Entity::root("Root");
    let day = date_time_ymd(2026, 6, 1);
    for params in [
        endpoint("p").with(|p| p.not_before = day),
        endpoint("p").with(|p| p.not_after = day),
    ] {
        let peer = root.issue(params);
        assert_eq!(Judge::trusting(&[&root]).refusal(&[&peer]), None);
    }
}

#[test]
fn without_any_trusted_ca_everyone_is_refused() {
    let root = Entity::self_signed(ca("Root"));
    let peer = root.issue(endpoint("peer"));
    assert_eq!(
        Judge::trusting(&[]).refusal(&[&peer, &root]),
        Some(Refusal::UnknownIssuer)
    );
}
