//! Every path through Figure MTP.1, for connections we accepted and connections we initiated.

use homefleet_trust::{Answer, Connection, DefaultEdge, Element, Level, Outcome, Refusal, Time};
use rcgen::date_time_ymd;

use crate::forge::{CONTROLLER, Entity, HOST, Judge, With, ca, endpoint, three};

const PASSED: (Element, Answer) = (Element::CertificatePresented, Answer::Yes);
const CACHED: (Element, Answer) = (Element::CachedSession, Answer::NotDone(DefaultEdge::No));
const STORED: (Element, Answer) = (Element::StoredCertificate, Answer::NotDone(DefaultEdge::No));
const TOFU: (Element, Answer) = (
    Element::TrustedSignatureRequired,
    Answer::NotDone(DefaultEdge::Yes),
);
const REVOKED: (Element, Answer) = (Element::Revoked, Answer::NotDone(DefaultEdge::No));

struct Row {
    what: &'static str,
    initiated: Option<(&'static str, Option<&'static str>)>,
    peer: Peer,
    time_known: bool,
    steps: Vec<(Element, Answer)>,
    outcome: Outcome,
}

#[derive(Clone, Copy)]
enum Peer {
    None,
    Good,
    Expired,
    NotYetValid,
    Unknown,
    ExpiredAndUnknown,
}

#[test]
fn every_path_of_the_figure_is_walked_as_drawn() {
    let root = Entity::root("Root");
    let stranger = Entity::root("Stranger");
    let expired = || endpoint("peer").with(|p| p.not_after = date_time_ymd(2026, 5, 31));
    let good = root.issue(endpoint("peer"));
    let past = root.issue(expired());
    let future = root.issue(endpoint("peer").with(|p| p.not_before = date_time_ymd(2026, 6, 2)));
    let unknown = stranger.issue(endpoint("peer"));
    let both = stranger.issue(expired());

    use Answer::{No, NotApplicable, Yes};
    use Element::{DatesValid, NameMatches, TrustedCa};
    let terminate = Outcome::Terminate;
    let server = Some((HOST, Some(CONTROLLER)));
    let mut rows = Vec::new();
    let mut row = |what, initiated, peer, time_known, steps: &[_], outcome| {
        rows.push(Row {
            what,
            initiated,
            peer,
            time_known,
            steps: steps.to_vec(),
            outcome,
        });
    };

    row(
        "no certificate, accepted",
        None,
        Peer::None,
        true,
        &[(Element::CertificatePresented, No)],
        terminate(Refusal::NoCertificate),
    );
    row(
        "no certificate, initiated",
        server,
        Peer::None,
        true,
        &[(Element::CertificatePresented, No)],
        terminate(Refusal::NoCertificate),
    );

    for (what, initiated, name) in [
        ("accepted", None, (NameMatches, NotApplicable)),
        ("initiated, host and id", server, (NameMatches, Yes)),
        (
            "initiated, host only",
            Some((HOST, None)),
            (NameMatches, Yes),
        ),
        (
            "initiated, id only",
            Some(("other.example.net", Some(CONTROLLER))),
            (NameMatches, Yes),
        ),
        (
            "initiated, id only at an address",
            Some(("192.0.2.1", Some(CONTROLLER))),
            (NameMatches, Yes),
        ),
        (
            "initiated, .local",
            Some(("controller.local", None)),
            (NameMatches, Yes),
        ),
        (
            "initiated, .home.arpa",
            Some(("controller.home.arpa.", Some("self::other"))),
            (NameMatches, Yes),
        ),
    ] {
        row(
            what,
            initiated,
            Peer::Good,
            true,
            &[
                PASSED,
                CACHED,
                (DatesValid, Yes),
                name,
                STORED,
                (TrustedCa, Yes),
                REVOKED,
            ],
            Outcome::Establish,
        );
        let no_time = (DatesValid, NotApplicable);
        for peer in [Peer::Good, Peer::Expired, Peer::NotYetValid] {
            row(
                what,
                initiated,
                peer,
                false,
                &[
                    PASSED,
                    CACHED,
                    no_time,
                    name,
                    STORED,
                    (TrustedCa, Yes),
                    REVOKED,
                ],
                Outcome::Establish,
            );
        }
        for (peer, refusal) in [
            (Peer::Expired, Refusal::Expired { level: 0 }),
            (Peer::NotYetValid, Refusal::NotYetValid { level: 0 }),
            (Peer::ExpiredAndUnknown, Refusal::Expired { level: 0 }),
        ] {
            row(
                what,
                initiated,
                peer,
                true,
                &[PASSED, CACHED, (DatesValid, No)],
                terminate(refusal),
            );
        }
        row(
            what,
            initiated,
            Peer::Unknown,
            true,
            &[
                PASSED,
                CACHED,
                (DatesValid, Yes),
                name,
                STORED,
                (TrustedCa, No),
                TOFU,
            ],
            terminate(Refusal::UnknownIssuer),
        );
        row(
            what,
            initiated,
            Peer::ExpiredAndUnknown,
            false,
            &[PASSED, CACHED, no_time, name, STORED, (TrustedCa, No), TOFU],
            terminate(Refusal::UnknownIssuer),
        );
    }
    for (what, initiated) in [
        ("initiated, wrong host", Some(("other.example.net", None))),
        (
            "initiated, wrong host and id",
            Some(("other.example.net", Some("self::other"))),
        ),
        (
            "initiated, wrong address",
            Some(("192.0.2.1", Some("self::other"))),
        ),
        ("initiated, bare local", Some(("local", None))),
    ] {
        row(
            what,
            initiated,
            Peer::Good,
            true,
            &[PASSED, CACHED, (DatesValid, Yes), (NameMatches, No)],
            terminate(Refusal::NameMismatch),
        );
        row(
            what,
            initiated,
            Peer::Expired,
            true,
            &[PASSED, CACHED, (DatesValid, No)],
            terminate(Refusal::Expired { level: 0 }),
        );
        row(
            what,
            initiated,
            Peer::Unknown,
            true,
            &[PASSED, CACHED, (DatesValid, Yes), (NameMatches, No)],
            terminate(Refusal::NameMismatch),
        );
        row(
            what,
            initiated,
            Peer::Good,
            false,
            &[
                PASSED,
                CACHED,
                (DatesValid, NotApplicable),
                (NameMatches, No),
            ],
            terminate(Refusal::NameMismatch),
        );
    }

    for row in rows {
        let mut judge = Judge::trusting(&[&root]);
        if !row.time_known {
            judge.time = Time::Unknown;
        }
        let chain: &[&Entity] = match row.peer {
            Peer::None => &[],
            Peer::Good => &[&good],
            Peer::Expired => &[&past],
            Peer::NotYetValid => &[&future],
            Peer::Unknown => &[&unknown],
            Peer::ExpiredAndUnknown => &[&both],
        };
        let decision = match row.initiated {
            Some((host, id)) => judge.initiated(chain, host, id),
            None => judge.accepted(chain),
        };
        let steps: Vec<_> = decision
            .steps
            .iter()
            .map(|step| (step.element, step.answer))
            .collect();
        assert_eq!(
            (steps, &decision.outcome),
            (row.steps, &row.outcome),
            "{}: {decision:#?}",
            row.what
        );
    }
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
