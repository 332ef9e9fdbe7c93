//! Peers whose decision waits for evidence, and open associations whose peers are judged anew.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, SystemTime};

use homefleet_coap::SessionId;
use homefleet_net::dtls::{
    CloseReason, Config, Event, Failure, Role, SendError, TrustVerifier, Verifier, Versions,
};
use homefleet_trust::{
    Basis, Decision, Outcome, Policy, Refusal, Revocation, RevocationPolicy, Time, Unknown, Wanted,
    anchors_from_pem,
};

use crate::support::pair::{AGENT, CONTROLLER, Net, addr, expect};
use crate::support::pki::{Ca, Issued, Leaf, today};

const BOTH: [Versions; 2] = [Versions::Dtls12, Versions::Dtls13];

/// What is known about the peer's revocation, besides what the trust crate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Good,
    Nothing,
    Revoked,
}

/// The decision of the figure, with revocation and time as the test has them.
pub(crate) struct Tribunal {
    figure: TrustVerifier,
    known: Mutex<Known>,
    basis: Mutex<Option<Basis>>,
    valid_for: Mutex<Option<Duration>>,
    /// Seconds after the start of the tests' day.
    clock: Arc<AtomicU64>,
    asked: AtomicU64,
    cached: Mutex<Vec<bool>>,
}

impl Tribunal {
    pub(crate) fn new(ca: &Ca, known: Known) -> Arc<Self> {
        let clock = Arc::new(AtomicU64::new(0));
        let time = clock.clone();
        Arc::new(Self {
            figure: TrustVerifier::new(
                anchors_from_pem(&ca.root_pem()).unwrap(),
                Policy::default(),
                move || Time::Accurate(today() + Duration::from_secs(time.load(Ordering::SeqCst))),
            ),
            known: Mutex::new(known),
            basis: Mutex::new(None),
            valid_for: Mutex::new(None),
            clock,
            asked: AtomicU64::new(0),
            cached: Mutex::new(Vec::new()),
        })
    }

    pub(crate) fn set(&self, known: Known) {
        *self.known.lock().unwrap() = known;
    }

    pub(crate) fn set_basis(&self, basis: Basis) {
        *self.basis.lock().unwrap() = Some(basis);
    }

    pub(crate) fn set_valid_for(&self, left: Option<Duration>) {
        *self.valid_for.lock().unwrap() = left;
    }

    /// Of each question so far, whether it was about a resumed session.
    pub(crate) fn cached(&self) -> Vec<bool> {
        self.cached.lock().unwrap().clone()
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Verifier for Tribunal {
    fn verify(&self, chain: &[Vec<u8>], role: Role<'_>, cached: bool) -> Decision {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.cached.lock().unwrap().push(cached);
        let mut decision = self.figure.verify(chain, role, cached);
        if !decision.is_established() {
            return decision;
        }
        match *self.known.lock().unwrap() {
            Known::Good => {
                if let (Some(basis), Some(peer)) =
                    (*self.basis.lock().unwrap(), decision.peer.as_mut())
                {
                    peer.basis = basis;
                }
                if let Some(left) = *self.valid_for.lock().unwrap() {
                    decision.valid_until = self.time().map(|time| time + left);
                }
            }
            Known::Nothing => {
                decision.refuse(Refusal::NoCertificate);
                decision.outcome = Outcome::Hold(vec![Wanted::Crl {
                    url: "http://ca.example.com/crl".to_owned(),
                    issuer: Vec::new(),
                    for_ca: false,
                }]);
            }
            Known::Revoked => decision.refuse(Refusal::Expired { level: 0 }),
        }
        decision
    }

    fn generation(&self) -> u64 {
        self.figure.generation()
    }

    fn time(&self) -> Option<SystemTime> {
        self.figure.time()
    }
}

struct Court {
    net: Net,
    ca: Ca,
    agents: Arc<Tribunal>,
    controllers: Arc<Tribunal>,
}

/// An agent at `addr(1)` and a controller at `addr(2)`; each side knows this of the other.
fn court(config: Config, agents: Known, controllers: Known) -> Court {
    let ca = Ca::new("Test CA");
    let mut net = Net::new(1);
    let (agents, controllers) = (Tribunal::new(&ca, agents), Tribunal::new(&ca, controllers));
    net.add(addr(1), config.clone(), &ca.endpoint(AGENT), agents.clone());
    net.add(
        addr(2),
        config,
        &ca.endpoint(CONTROLLER),
        controllers.clone(),
    );
    Court {
        net,
        ca,
        agents,
        controllers,
    }
}

fn config(versions: Versions) -> Config {
    Config {
        versions,
        ..Config::default()
    }
}

fn judge_again(net: &mut Net, n: u16) {
    let now = net.now;
    net.node(addr(n)).sessions.judge_again(now);
    net.collect();
}

#[test]
fn held_peer_gets_and_says_nothing_until_the_evidence_is_there() {
    for versions in BOTH {
        for holder in [1, 2] {
            let known = |n| {
                if n == holder {
                    Known::Nothing
                } else {
                    Known::Good
                }
            };
            let Court {
                mut net,
                agents,
                controllers,
                ..
            } = court(config(versions), known(1), known(2));
            let id = net.connect(addr(1), addr(2), expect("localhost", Some(CONTROLLER)));
            // The other side may think that all is well, and talks, again and again.
            for _ in 0..20 {
                net.run(Duration::from_millis(500));
                let now = net.now;
                let _sent = net.node(addr(1)).sessions.send(now, id, b"early");
            }
            let node = net.node(addr(holder));
            assert!(
                matches!(&node.events[..], [Event::Held { wanted, .. }] if wanted.len() == 1),
                "{versions:?} {holder} {:?}",
                node.events
            );
            assert_eq!(node.sessions.held(), 1);
            assert_eq!(node.sessions.stats().held, 1);
            assert!(node.established().is_empty() && node.data().is_empty());
            let (tribunal, other) = if holder == 1 {
                (&agents, 2)
            } else {
                (&controllers, 1)
            };
            // Its own flight is not repeated while it waits, and it is not asked for every datagram.
            assert_eq!(tribunal.asked(), 1, "{versions:?} {holder}");
            let sent = node.sent_to[&addr(3 - holder)];
            assert!(sent < 3000, "{versions:?} {holder}: {sent} bytes");

            tribunal.set(Known::Good);
            judge_again(&mut net, holder);
            net.run(Duration::from_secs(20));
            assert_eq!(
                net.node(addr(holder)).established().len(),
                1,
                "{versions:?} {holder}"
            );
            assert_eq!(
                net.node(addr(other)).established().len(),
                1,
                "{versions:?} {holder}"
            );
            assert_eq!(net.node(addr(holder)).sessions.held(), 0);
            net.send(addr(1), id, b"now");
            net.run(Duration::from_secs(1));
            let data = net.node(addr(2)).data();
            assert_eq!(data.last().unwrap(), b"now", "{versions:?} {holder}");
            let back = net.node(addr(2)).established()[0].session;
            net.send(addr(2), back, b"and back");
            net.run(Duration::from_secs(1));
            assert_eq!(net.node(addr(1)).data(), [b"and back".to_vec()]);
        }
    }
}

#[test]
fn held_peer_that_proves_revoked_is_refused_with_the_alert() {
    for versions in BOTH {
        for holder in [1, 2] {
            let known = |n| {
                if n == holder {
                    Known::Nothing
                } else {
                    Known::Good
                }
            };
            let Court {
                mut net,
                agents,
                controllers,
                ..
            } = court(config(versions), known(1), known(2));
            net.connect(addr(1), addr(2), expect("localhost", Some(CONTROLLER)));
            net.run(Duration::from_secs(5));
            let tribunal = if holder == 1 { &agents } else { &controllers };
            tribunal.set(Known::Revoked);
            judge_again(&mut net, holder);
            net.run(Duration::from_secs(5));
            let node = net.node(addr(holder));
            assert!(
                matches!(
                    &node.events[1..],
                    [Event::Refused { decision, alert: Some(45), .. }]
                        if decision.refusal() == Some(&Refusal::Expired { level: 0 })
                ),
                "{versions:?} {holder} {:?}",
                node.events
            );
            assert!(node.sessions.is_empty() && node.sessions.held() == 0);
            let other = &net.node(addr(3 - holder)).events;
            assert!(
                other.iter().any(|event| matches!(
                    event,
                    Event::Failed {
                        failure: Failure::Alert(45),
                        ..
                    } | Event::Closed {
                        reason: CloseReason::Alert(45),
                        ..
                    }
                )),
                "{versions:?} {holder} {other:?}"
            );
        }
    }
}

#[test]
fn held_peers_are_bounded_in_time_and_number() {
    let Court { mut net, ca, .. } = court(
        Config {
            max_held: 3,
            ..Config::default()
        },
        Known::Good,
        Known::Nothing,
    );
    for n in 0..5 {
        let issued = ca.endpoint(&format!("os::dev-{n}"));
        net.add(addr(300 + n), Config::default(), &issued, ca.verifier());
        net.connect(
            addr(300 + n),
            addr(2),
            expect("localhost", Some(CONTROLLER)),
        );
        net.run(Duration::from_secs(1));
        assert!(net.node(addr(2)).sessions.held() <= 3);
    }
    let failures = |net: &mut Net| -> Vec<Failure> {
        let events = &net.node(addr(2)).events;
        let failures = events.iter().filter_map(|event| match event {
            Event::Failed { failure, .. } => Some(failure.clone()),
            _ => None,
        });
        failures.collect()
    };
    assert_eq!(failures(&mut net), [Failure::Evicted, Failure::Evicted]);
    net.run(Duration::from_secs(62));
    assert_eq!(failures(&mut net)[2..], vec![Failure::Undecided; 3]);
    let node = net.node(addr(2));
    assert!(node.sessions.is_empty() && node.sessions.held() == 0);
    assert_eq!(node.sessions.poll_timeout(), None);
    assert_eq!(node.sessions.stats().undecided, 5);
    // Each was told: certificate_unknown.
    for n in 0..5 {
        assert_eq!(net.node(addr(300 + n)).closed(), [CloseReason::Alert(46)]);
    }
}

#[test]
fn one_certificate_holds_a_bounded_number_of_places_whoever_shows_it() {
    let limits = Config {
        max_held: 8,
        ..Config::default()
    };
    let Court { mut net, ca, .. } = court(limits, Known::Good, Known::Nothing);
    let knock = |net: &mut Net, n: u16, issued: &Issued| {
        net.add(addr(n), Config::default(), issued, ca.verifier());
        net.connect(addr(n), addr(2), expect("localhost", Some(CONTROLLER)));
        net.run(Duration::from_millis(100));
    };
    knock(&mut net, 300, &ca.endpoint("os::honest"));
    let sniffed = ca.endpoint("os::sniffed");
    for n in 0..5 {
        knock(&mut net, 400 + n, &sniffed);
        assert!(net.node(addr(2)).sessions.held() <= 3);
    }
    let node = net.node(addr(2));
    assert_eq!(node.sessions.held(), 3);
    assert_eq!(node.sessions.stats().certificate_evicted, 3);
    let mut given_up = |n: u16| net.node(addr(n)).closed() == [CloseReason::Alert(46)];
    // The oldest of them went; whoever shows another certificate keeps the place.
    assert!([400, 401, 402].into_iter().all(&mut given_up));
    assert!(![300, 403, 404].into_iter().any(&mut given_up));
}

#[test]
fn times_without_end_are_cut_to_what_can_be_reckoned_with() {
    let forever = Config {
        idle_timeout: Duration::MAX,
        first_use_idle: Duration::MAX,
        handshake_timeout: Duration::MAX,
        initial_retransmit: Duration::MAX,
        ..Config::default()
    };
    let (Court { mut net, .. }, ids) = crowd(forever.clone(), 1);
    judge_again(&mut net, 2);
    net.run(Duration::from_secs(1));
    net.send(addr(300), ids[0], b"still here");
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(addr(2)).data().len(), 1);
    // As client, and held, too.
    let Court { mut net, ca, .. } = court(forever.clone(), Known::Good, Known::Nothing);
    net.add(addr(300), forever, &ca.endpoint("os::dev"), ca.verifier());
    net.connect(addr(300), addr(2), expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(10));
    assert_eq!(net.node(addr(2)).sessions.held(), 1);
}

/// A controller at `addr(2)` and so many agents with associations of theirs; the agents' ends.
fn crowd(config: Config, agents: u16) -> (Court, Vec<SessionId>) {
    let mut court = court(config, Known::Good, Known::Good);
    let mut ids = Vec::new();
    for n in 0..agents {
        let issued = court.ca.endpoint(&format!("os::dev-{n}"));
        let verifier = court.ca.verifier();
        let net = &mut court.net;
        net.add(addr(300 + n), Config::default(), &issued, verifier);
        let expected = expect("localhost", Some(CONTROLLER));
        ids.push(net.connect(addr(300 + n), addr(2), expected));
        net.run(Duration::from_millis(100));
    }
    assert_eq!(
        court.net.node(addr(2)).established().len(),
        usize::from(agents)
    );
    (court, ids)
}

#[test]
fn open_associations_in_doubt_are_not_ended_for_one_another() {
    let limits = Config {
        max_held: 2,
        ..Config::default()
    };
    let (mut court, ids) = crowd(limits, 6);
    let Court {
        net, controllers, ..
    } = &mut court;
    controllers.set(Known::Nothing);
    judge_again(net, 2);
    net.run(Duration::from_secs(10));
    assert_eq!(net.node(addr(2)).sessions.held(), 6);
    controllers.set(Known::Good);
    judge_again(net, 2);
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(addr(2)).sessions.held(), 0);
    assert!(net.node(addr(2)).closed().is_empty());
    for (n, id) in (0..).zip(ids) {
        net.send(addr(300 + n), id, b"still here");
    }
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(addr(2)).data().len(), 6);
}

#[test]
fn evidence_is_looked_at_once_more_before_an_association_in_doubt_is_ended() {
    let (mut court, _) = crowd(Config::default(), 1);
    let Court {
        net, controllers, ..
    } = &mut court;
    controllers.set(Known::Nothing);
    judge_again(net, 2);
    assert_eq!(net.node(addr(2)).sessions.held(), 1);
    // Nobody says that it has come.
    controllers.set(Known::Good);
    net.run(Duration::from_secs(62));
    assert_eq!(net.node(addr(2)).sessions.held(), 0);
    assert!(net.node(addr(2)).closed().is_empty());
}

#[test]
fn decisions_that_end_together_are_made_anew_a_few_at_a_time_and_nothing_passes_before() {
    const AGENTS: u16 = 50;
    const LIFE: u64 = 1000;
    let (mut court, ids) = {
        let (mut court, ids) = crowd(Config::default(), AGENTS);
        *court.controllers.valid_for.lock().unwrap() = Some(Duration::from_secs(LIFE));
        judge_again(&mut court.net, 2);
        court.net.run(Duration::from_secs(1));
        (court, ids)
    };
    let Court {
        net, controllers, ..
    } = &mut court;
    controllers.set(Known::Revoked);
    controllers.clock.store(LIFE, Ordering::SeqCst);
    net.now += Duration::from_secs(LIFE);
    let (asked, now) = (controllers.asked(), net.now);
    net.node(addr(2)).sessions.handle_timeout(now);
    let step = controllers.asked() - asked;
    assert!((1..u64::from(AGENTS)).contains(&step), "{step} at once");
    // Those whose turn has not come say nothing any more.
    for (n, id) in (0..).zip(ids) {
        let sessions = &mut net.node(addr(300 + n)).sessions;
        // The agent may know already that it is over.
        let _sent = sessions.send(now, id, b"revoked");
    }
    net.run(Duration::from_secs(5));
    assert!(net.node(addr(2)).data().is_empty());
    assert_eq!(
        net.node(addr(2)).closed(),
        vec![CloseReason::Distrusted; AGENTS.into()]
    );
    assert_eq!(controllers.asked() - asked, u64::from(AGENTS));
}

#[test]
fn decision_that_is_never_good_for_long_is_made_once_a_second() {
    let (mut court, _) = crowd(Config::default(), 1);
    let Court {
        net, controllers, ..
    } = &mut court;
    *controllers.valid_for.lock().unwrap() = Some(Duration::ZERO);
    judge_again(net, 2);
    let asked = controllers.asked();
    net.run(Duration::from_secs(10));
    let asked = controllers.asked() - asked;
    assert!((1..=10).contains(&asked), "{asked}");
}

#[test]
fn held_peers_are_not_judged_at_every_call() {
    let Court {
        mut net,
        controllers,
        ..
    } = court(Config::default(), Known::Good, Known::Nothing);
    net.connect(addr(1), addr(2), expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(1));
    let asked = controllers.asked();
    for _ in 0..100 {
        judge_again(&mut net, 2);
    }
    net.run(Duration::from_secs(1));
    // At once, and again for what came meanwhile.
    let asked = controllers.asked() - asked;
    assert!((1..=3).contains(&asked), "{asked}");
    controllers.set(Known::Good);
    judge_again(&mut net, 2);
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(addr(2)).established().len(), 1);
}

#[test]
fn held_resumption_waits_too() {
    for versions in BOTH {
        for holder in [1, 2] {
            let Court {
                mut net,
                agents,
                controllers,
                ..
            } = court(config(versions), Known::Good, Known::Good);
            let id = net.connect(addr(1), addr(2), expect("localhost", Some(CONTROLLER)));
            net.run(Duration::from_secs(3));
            let now = net.now;
            net.node(addr(1)).sessions.close(now, id);
            net.run(Duration::from_secs(3));
            for n in [1, 2] {
                net.node(addr(n)).events.clear();
            }
            let tribunal = if holder == 1 { &agents } else { &controllers };
            tribunal.set(Known::Nothing);
            let id = net.connect(addr(1), addr(2), expect("localhost", Some(CONTROLLER)));
            net.run(Duration::from_secs(3));
            let now = net.now;
            let _sent = net.node(addr(1)).sessions.send(now, id, b"early");
            net.run(Duration::from_secs(3));
            assert!(matches!(
                net.node(addr(holder)).events[..],
                [Event::Held { .. }]
            ));
            tribunal.set(Known::Good);
            judge_again(&mut net, holder);
            net.run(Duration::from_secs(10));
            let established = net.node(addr(holder)).established();
            assert!(
                established.len() == 1 && established[0].resumed,
                "{versions:?} {holder}"
            );
            net.send(addr(1), id, b"now");
            net.run(Duration::from_secs(1));
            assert_eq!(net.node(addr(2)).data().last().unwrap(), b"now");
        }
    }
}

#[test]
fn verifier_is_told_of_a_cached_session_for_the_same_purpose_only() {
    for versions in BOTH {
        let Court {
            mut net,
            agents,
            controllers,
            ..
        } = court(config(versions), Known::Good, Known::Good);
        let visit = |net: &mut Net, id| {
            let id = net.connect(addr(1), addr(2), expect("localhost", id));
            net.run(Duration::from_secs(3));
            let now = net.now;
            net.node(addr(1)).sessions.close(now, id);
            net.run(Duration::from_secs(3));
        };
        visit(&mut net, Some(CONTROLLER));
        visit(&mut net, Some(CONTROLLER));
        assert!(net.node(addr(1)).established()[1].resumed);
        for tribunal in [&agents, &controllers] {
            assert_eq!(
                tribunal.cached.lock().unwrap()[..],
                [false, true],
                "{versions:?}"
            );
        }
        // Of another purpose there is no ticket.
        visit(&mut net, None);
        assert!(!net.node(addr(1)).established()[2].resumed);
        assert_eq!(agents.cached.lock().unwrap()[2..], [false]);
    }
}

#[test]
fn revoked_peer_of_an_open_association_is_ended() {
    for versions in BOTH {
        let Court {
            mut net,
            controllers,
            ..
        } = court(config(versions), Known::Good, Known::Good);
        let id = net.connect(addr(1), addr(2), expect("localhost", Some(CONTROLLER)));
        net.run(Duration::from_secs(3));
        net.send(addr(1), id, b"before");
        net.run(Duration::from_secs(1));
        controllers.set(Known::Revoked);
        judge_again(&mut net, 2);
        net.run(Duration::from_secs(1));
        assert_eq!(
            net.node(addr(2)).closed(),
            [CloseReason::Distrusted],
            "{versions:?}"
        );
        assert_eq!(net.node(addr(1)).closed(), [CloseReason::Alert(45)]);
        assert!(net.node(addr(2)).sessions.is_empty());
        assert_eq!(net.node(addr(2)).sessions.stats().distrusted, 1);
    }
}

#[test]
fn open_association_is_held_while_its_peer_is_in_doubt() {
    for versions in BOTH {
        for verdict in [Known::Good, Known::Revoked, Known::Nothing] {
            let Court {
                mut net,
                controllers,
                ..
            } = court(config(versions), Known::Good, Known::Good);
            let id = net.connect(addr(1), addr(2), expect("localhost", Some(CONTROLLER)));
            net.run(Duration::from_secs(3));
            let back = net.node(addr(2)).established()[0].session;
            controllers.set(Known::Nothing);
            judge_again(&mut net, 2);
            assert_eq!(net.node(addr(2)).sessions.held(), 1);
            net.send(addr(1), id, b"in doubt");
            net.run(Duration::from_secs(1));
            let now = net.now;
            let node = net.node(addr(2));
            assert_eq!(
                node.sessions.send(now, back, b"secret"),
                Err(SendError::Held)
            );
            assert!(node.data().is_empty());
            assert_eq!(node.sessions.stats().held_messages, 1);
            controllers.set(verdict);
            judge_again(&mut net, 2);
            net.run(Duration::from_secs(61));
            if verdict == Known::Good {
                net.send(addr(1), id, b"again");
                net.run(Duration::from_secs(1));
                assert_eq!(net.node(addr(2)).data(), [b"again".to_vec()]);
                assert!(net.node(addr(2)).closed().is_empty());
                assert_eq!(net.node(addr(2)).sessions.held(), 0);
            } else {
                assert_eq!(net.node(addr(2)).closed(), [CloseReason::Distrusted]);
                assert_eq!(net.node(addr(1)).closed().len(), 1);
                assert!(net.node(addr(2)).sessions.is_empty());
            }
        }
    }
}

#[test]
fn peer_is_judged_anew_when_the_decision_is_out_of_date() {
    let Court {
        mut net,
        controllers,
        ..
    } = court(Config::default(), Known::Good, Known::Good);
    *controllers.valid_for.lock().unwrap() = Some(Duration::from_secs(1000));
    let id = net.connect(addr(1), addr(2), expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(2));
    assert_eq!(controllers.asked(), 1);
    // The clock of dates runs along, in steps.
    let pass = |net: &mut Net, seconds: u64| {
        for _ in 0..seconds / 10 {
            controllers.clock.fetch_add(10, Ordering::SeqCst);
            net.run(Duration::from_secs(10));
        }
    };
    pass(&mut net, 900);
    assert_eq!(controllers.asked(), 1);
    pass(&mut net, 200);
    assert_eq!(controllers.asked(), 2);
    assert!(net.node(addr(2)).closed().is_empty());
    net.send(addr(1), id, b"still trusted");
    controllers.set(Known::Revoked);
    pass(&mut net, 1100);
    assert_eq!(controllers.asked(), 3);
    assert_eq!(net.node(addr(2)).closed(), [CloseReason::Distrusted]);
}

#[test]
fn expired_peers_end_when_the_time_becomes_accurate() {
    use std::sync::atomic::AtomicBool;
    for versions in BOTH {
        let ca = Ca::new("Test CA");
        let mut net = Net::new(1);
        let accurate = Arc::new(AtomicBool::new(false));
        let known = accurate.clone();
        let verifier = Arc::new(TrustVerifier::new(
            anchors_from_pem(&ca.root_pem()).unwrap(),
            Policy::default(),
            move || {
                if known.load(Ordering::SeqCst) {
                    Time::Accurate(today())
                } else {
                    Time::Unknown
                }
            },
        ));
        net.add(
            addr(2),
            config(versions),
            &ca.endpoint(CONTROLLER),
            verifier,
        );
        for n in 0..100 {
            let mut leaf = Leaf::endpoint(&format!("os::dev-{n}"));
            if n % 2 == 0 {
                leaf.years = (2020, 2022);
            }
            net.add(
                addr(300 + n),
                config(versions),
                &ca.issue(&leaf),
                ca.verifier(),
            );
            net.connect(
                addr(300 + n),
                addr(2),
                expect("localhost", Some(CONTROLLER)),
            );
        }
        net.run(Duration::from_secs(5));
        assert_eq!(net.node(addr(2)).established().len(), 100);
        accurate.store(true, Ordering::SeqCst);
        judge_again(&mut net, 2);
        // Not all at once.
        assert!(net.node(addr(2)).sessions.len() > 60);
        net.run(Duration::from_secs(1));
        assert_eq!(
            net.node(addr(2)).closed(),
            vec![CloseReason::Distrusted; 50]
        );
        assert_eq!(net.node(addr(2)).sessions.stats().judged_again, 100);
        for n in 0..100 {
            let expected = if n % 2 == 0 {
                vec![CloseReason::Alert(45)]
            } else {
                Vec::new()
            };
            assert_eq!(
                net.node(addr(300 + n)).closed(),
                expected,
                "{versions:?} {n}"
            );
        }
    }
}

#[test]
fn changed_grounds_reach_idle_associations_too() {
    let Court {
        mut net,
        controllers,
        ..
    } = court(Config::default(), Known::Good, Known::Good);
    net.connect(addr(1), addr(2), expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(3));
    let other = Ca::new("Other CA");
    controllers
        .figure
        .replace_anchors(anchors_from_pem(&other.root_pem()).unwrap());
    judge_again(&mut net, 2);
    assert_eq!(net.node(addr(2)).closed(), [CloseReason::Distrusted]);
}

#[test]
fn peer_on_first_use_is_ended_when_it_says_nothing() {
    let limits = Config {
        first_use_idle: Duration::from_secs(20),
        ..Config::default()
    };
    let Court {
        mut net,
        controllers,
        ..
    } = court(limits, Known::Good, Known::Good);
    *controllers.basis.lock().unwrap() = Some(Basis::FirstUse);
    let id = net.connect(addr(1), addr(2), expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(2));
    let back = net.node(addr(2)).established()[0].session;
    for _ in 0..5 {
        net.run(Duration::from_secs(15));
        net.send(addr(1), id, b"usp");
    }
    assert!(net.node(addr(2)).closed().is_empty());
    // What we say does not count.
    net.run(Duration::from_secs(15));
    net.send(addr(2), back, b"anybody?");
    net.run(Duration::from_secs(6));
    assert_eq!(net.node(addr(2)).closed(), [CloseReason::Idle]);
    assert_eq!(net.node(addr(1)).closed(), [CloseReason::Peer]);
}

#[test]
fn list_of_the_revoked_is_waited_for_and_a_new_one_ends_the_association() {
    const LIST: &str = "http://ca.example.com/intermediate.crl";
    for versions in BOTH {
        let ca = Ca::new("Test CA");
        let verifier = ca.verifier();
        let policy = RevocationPolicy {
            unknown: Unknown::Refuse,
            ..RevocationPolicy::default()
        };
        let revocation = Arc::new(RwLock::new(Revocation::new(policy)));
        let wanted = Arc::new(Mutex::new(Vec::<Wanted>::new()));
        let fetched = wanted.clone();
        verifier.set_revocation(revocation.clone(), move |wanted| {
            fetched.lock().unwrap().extend_from_slice(wanted);
        });
        let mut net = Net::new(1);
        let mut leaf = Leaf::endpoint(AGENT);
        leaf.crl = Some((LIST, 4711));
        net.add(addr(1), config(versions), &ca.issue(&leaf), ca.verifier());
        net.add(
            addr(2),
            config(versions),
            &ca.endpoint(CONTROLLER),
            verifier,
        );
        let id = net.connect(addr(1), addr(2), expect("localhost", Some(CONTROLLER)));
        net.run(Duration::from_secs(3));
        assert_eq!(net.node(addr(2)).sessions.held(), 1, "{versions:?}");
        let asked = wanted.lock().unwrap()[0].clone();
        assert_eq!(asked.url(), LIST);

        let add = |der: &[u8]| {
            let time = Time::Accurate(today() + Duration::from_secs(60));
            revocation
                .write()
                .unwrap()
                .add(&asked, None, der, time)
                .unwrap();
        };
        add(&ca.crl(1, &[1, 2, 3]));
        judge_again(&mut net, 2);
        net.run(Duration::from_secs(10));
        assert_eq!(net.node(addr(2)).established().len(), 1, "{versions:?}");
        net.send(addr(1), id, b"good");
        net.run(Duration::from_secs(1));
        assert_eq!(net.node(addr(2)).data().last().unwrap(), b"good");

        add(&ca.crl(2, &[1, 4711]));
        judge_again(&mut net, 2);
        net.run(Duration::from_secs(1));
        assert_eq!(net.node(addr(2)).closed(), [CloseReason::Distrusted]);
        // certificate_revoked
        assert_eq!(net.node(addr(1)).closed(), [CloseReason::Alert(44)]);

        // Its ticket is of no use to it.
        net.node(addr(2)).events.clear();
        net.connect(addr(1), addr(2), expect("localhost", Some(CONTROLLER)));
        net.run(Duration::from_secs(5));
        assert!(
            matches!(
                &net.node(addr(2)).events[..],
                [Event::Refused {
                    alert: Some(44),
                    ..
                }]
            ),
            "{:?}",
            net.node(addr(2)).events
        );
    }
}

#[test]
fn what_comes_while_a_handshake_is_held_is_not_lost() {
    for versions in BOTH {
        let small = Config {
            mtu: 300,
            ..config(versions)
        };
        let Court {
            mut net,
            controllers,
            ..
        } = court(small, Known::Good, Known::Nothing);
        let id = net.connect(addr(1), addr(2), expect("localhost", Some(CONTROLLER)));
        net.run(Duration::from_millis(100));
        assert_eq!(net.node(addr(2)).sessions.held(), 1);
        let now = net.now;
        // In 1.3 the agent is done by now, and talks.
        let said = net.node(addr(1)).sessions.send(now, id, b"early").is_ok();
        net.run(Duration::from_millis(100));
        assert!(net.node(addr(2)).data().is_empty());
        controllers.set(Known::Good);
        judge_again(&mut net, 2);
        // Sooner than anybody repeats anything.
        net.run(Duration::from_millis(30));
        assert_eq!(net.node(addr(2)).established().len(), 1, "{versions:?}");
        assert_eq!(net.node(addr(1)).established().len(), 1, "{versions:?}");
        assert_eq!(
            net.node(addr(2)).data().len(),
            usize::from(said),
            "{versions:?}"
        );
        assert_eq!(net.node(addr(2)).sessions.stats().retransmissions, 0);
    }
}

#[test]
fn changed_grounds_are_noticed_at_the_next_datagram_and_end_idle_associations() {
    let Court {
        mut net,
        controllers,
        ..
    } = court(Config::default(), Known::Good, Known::Good);
    net.connect(addr(1), addr(2), expect("localhost", Some(CONTROLLER)));
    net.run(Duration::from_secs(3));
    let other = Ca::new("Other CA");
    controllers
        .figure
        .replace_anchors(anchors_from_pem(&other.root_pem()).unwrap());
    net.run(Duration::from_secs(1));
    assert!(net.node(addr(2)).closed().is_empty());
    net.inject(addr(900), addr(2), b"whatever");
    net.run(Duration::from_secs(1));
    assert_eq!(net.node(addr(2)).closed(), [CloseReason::Distrusted]);
}
