//! Peers whose decision waits for evidence, and open connections whose peers are judged anew.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use homefleet_net::dtls::TrustVerifier;
use homefleet_net::tls::{Distrust, Tls, TlsConfig, TlsError, TlsStats};
use homefleet_trust::{Basis, Policy, Refusal, Time, anchors_from_pem};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use super::{AGENT, CONTROLLER, PATIENCE, Side, pass, shake, tls, tls_with};
use crate::judge::{Known, Tribunal};
use crate::support::pki::{Ca, Leaf, today};

const SOON: Duration = Duration::from_millis(50);

/// Waits until the counters say so.
async fn until(tls: &Tls, done: impl Fn(TlsStats) -> bool) {
    timeout(PATIENCE, async {
        while !done(tls.stats()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap();
}

struct Court {
    ca: Ca,
    agent: Tls,
    controller: Tls,
    /// What the controller knows of the agent.
    tribunal: Arc<Tribunal>,
}

fn court(config: TlsConfig, known: Known) -> Court {
    let ca = Ca::new("ca");
    let tribunal = Tribunal::new(&ca, known);
    Court {
        agent: tls(&ca.endpoint(AGENT), ca.verifier()),
        controller: tls_with(config, &ca.endpoint(CONTROLLER), tribunal.clone()),
        tribunal,
        ca,
    }
}

impl Court {
    /// An agent that has come in and wants to say something, and the controller's accept.
    async fn come(&self) -> (tokio::task::JoinHandle<Side>, tokio::task::JoinHandle<Side>) {
        let (near, far) = tokio::io::duplex(16_384);
        let controller = self.controller.clone();
        let accepting = tokio::spawn(async move { controller.accept(far).await });
        let agent = self.agent.clone();
        let coming = tokio::spawn(async move {
            let mut stream = agent.connect(near, "localhost", None).await?;
            stream.write_all(b"me first").await.unwrap();
            stream.flush().await.unwrap();
            Ok(stream)
        });
        (coming, accepting)
    }

    async fn open(
        &self,
    ) -> (
        homefleet_net::tls::TlsStream<DuplexStream>,
        homefleet_net::tls::TlsStream<DuplexStream>,
    ) {
        let (near, far) = shake(&self.agent, &self.controller, "localhost", None).await;
        settle().await;
        (near.unwrap(), far.unwrap())
    }
}

#[tokio::test]
async fn held_peer_is_waited_for_and_served_once_the_evidence_has_come() {
    let court = court(TlsConfig::default(), Known::Nothing);
    let (coming, accepting) = court.come().await;
    until(&court.controller, |stats| stats.held == 1).await;
    let mut near = coming.await.unwrap().unwrap();
    court.controller.judge_again().await;
    assert!(!accepting.is_finished());
    assert_eq!(court.controller.stats().established, 0);
    court.tribunal.set(Known::Good);
    court.controller.judge_again().await;
    let mut far = accepting.await.unwrap().unwrap();
    let mut said = [0; 8];
    far.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"me first");
    pass(&mut far, &mut near, b"welcome").await.unwrap();
    let stats = court.controller.stats();
    assert_eq!((stats.held, stats.established, stats.undecided), (1, 1, 0));
}

#[tokio::test]
async fn held_peer_that_proves_revoked_is_refused_with_the_alert_over_tls() {
    let court = court(TlsConfig::default(), Known::Nothing);
    let (coming, accepting) = court.come().await;
    until(&court.controller, |stats| stats.held == 1).await;
    court.tribunal.set(Known::Revoked);
    court.controller.judge_again().await;
    let error = accepting.await.unwrap().unwrap_err();
    let TlsError::Refused(decision) = error else {
        panic!("not refused: {error:?}");
    };
    assert_eq!(decision.refusal(), Some(&Refusal::Expired { level: 0 }));
    let mut near = coming.await.unwrap().unwrap();
    let error = near.read(&mut [0; 1]).await.unwrap_err();
    assert!(error.to_string().contains("CertificateExpired"), "{error}");
    let stats = court.controller.stats();
    assert_eq!((stats.refused, stats.established, stats.open), (1, 0, 0));
}

#[tokio::test]
async fn held_server_is_sent_nothing() {
    let ca = Ca::new("ca");
    let tribunal = Tribunal::new(&ca, Known::Nothing);
    let mut config = TlsConfig::default();
    config.decision_timeout = SOON;
    let agent = tls_with(config, &ca.endpoint(AGENT), tribunal);
    let controller = tls(&ca.endpoint(CONTROLLER), ca.verifier());
    let (near, far) = shake(&agent, &controller, "localhost", None).await;
    assert!(matches!(near, Err(TlsError::Undecided)), "{near:?}");
    let error = far.unwrap().read(&mut [0; 1]).await.unwrap_err();
    assert!(error.to_string().contains("CertificateUnknown"), "{error}");
    let stats = agent.stats();
    assert_eq!((stats.held, stats.undecided, stats.open), (1, 1, 0));
}

#[tokio::test]
async fn beyond_the_bound_of_held_peers_the_oldest_is_ended() {
    let mut config = TlsConfig::default();
    config.max_held = 1;
    let mut court = court(config, Known::Nothing);
    let (_coming, first) = court.come().await;
    until(&court.controller, |stats| stats.held == 1).await;
    court.agent = tls(&court.ca.endpoint(AGENT), court.ca.verifier());
    let (_coming, second) = court.come().await;
    let error = first.await.unwrap().unwrap_err();
    assert!(matches!(error, TlsError::Undecided), "{error:?}");
    court.tribunal.set(Known::Good);
    until(&court.controller, |stats| stats.held == 2).await;
    court.controller.judge_again().await;
    second.await.unwrap().unwrap();
}

#[tokio::test]
async fn one_certificate_fills_no_more_than_a_quarter_of_the_held_places() {
    let mut config = TlsConfig::default();
    config.max_held = 8;
    let court = court(config, Known::Nothing);
    let mut held = Vec::new();
    for number in 1..=3 {
        held.push(court.come().await);
        until(&court.controller, |stats| stats.held == number).await;
    }
    let (_coming, first) = held.remove(0);
    let error = first.await.unwrap().unwrap_err();
    assert!(matches!(error, TlsError::Undecided), "{error:?}");
    court.tribunal.set(Known::Good);
    court.controller.judge_again().await;
    for (_coming, accepting) in held {
        accepting.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn time_without_end_is_a_long_time() {
    let mut config = TlsConfig::default();
    config.decision_timeout = Duration::MAX;
    config.handshake_timeout = Duration::MAX;
    config.first_use_idle = Duration::MAX;
    let court = court(config, Known::Nothing);
    court.tribunal.set_basis(Basis::FirstUse);
    let (_coming, accepting) = court.come().await;
    until(&court.controller, |stats| stats.held == 1).await;
    court.tribunal.set(Known::Good);
    court.controller.judge_again().await;
    accepting.await.unwrap().unwrap();
}

#[tokio::test]
async fn open_connection_ends_when_its_peer_judged_again_is_refused() {
    let court = court(TlsConfig::default(), Known::Good);
    let (mut near, mut far) = court.open().await;
    pass(&mut near, &mut far, b"before").await.unwrap();
    let distrusted = far.distrusted();
    // A reader that waits learns of it.
    let reading = tokio::spawn(async move {
        let read = far.read(&mut [0; 1]).await;
        (read, far)
    });
    settle().await;
    court.tribunal.set(Known::Revoked);
    court.controller.judge_again().await;
    let why = timeout(PATIENCE, distrusted).await.unwrap();
    let Distrust::Refused(decision) = why else {
        panic!("{why}");
    };
    assert_eq!(decision.refusal(), Some(&Refusal::Expired { level: 0 }));
    let (read, mut far) = timeout(PATIENCE, reading).await.unwrap().unwrap();
    assert_eq!(read.unwrap_err().kind(), ErrorKind::PermissionDenied);
    let error = far.write_all(b"after").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    // For good.
    court.tribunal.set(Known::Good);
    court.controller.judge_again().await;
    assert!(far.write_all(b"after").await.is_err());
    far.shutdown().await.unwrap();
    assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(court.controller.stats().distrusted, 1);
    drop(far);
    assert_eq!(court.controller.stats().open, 0);
}

#[tokio::test]
async fn not_a_byte_passes_while_the_decision_made_anew_waits() {
    let court = court(TlsConfig::default(), Known::Good);
    let (mut near, mut far) = court.open().await;
    court.tribunal.set(Known::Nothing);
    court.controller.judge_again().await;
    near.write_all(b"early").await.unwrap();
    near.flush().await.unwrap();
    let mut byte = [0; 1];
    for _ in 0..100 {
        tokio::task::yield_now().await;
        let waited = once(far.read(&mut byte)).await;
        assert!(waited.is_none(), "{waited:?}");
        let waited = once(far.write(b"x")).await;
        assert!(waited.is_none(), "{waited:?}");
    }
    let reading = tokio::spawn(async move {
        let mut said = [0; 5];
        far.read_exact(&mut said).await.map(|_| said)
    });
    settle().await;
    court.tribunal.set(Known::Good);
    court.controller.judge_again().await;
    let said = timeout(PATIENCE, reading).await.unwrap().unwrap();
    assert_eq!(&said.unwrap(), b"early");
    let stats = court.controller.stats();
    assert_eq!(
        (stats.held, stats.judged_again, stats.distrusted),
        (1, 2, 0)
    );
}

/// Lets every other task go as far as it can.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Polls once.
async fn once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(done) => Some(done),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn open_connection_whose_decision_waits_in_vain_ends() {
    let mut config = TlsConfig::default();
    config.decision_timeout = SOON;
    let court = court(config, Known::Good);
    let (_near, mut far) = court.open().await;
    court.tribunal.set(Known::Nothing);
    court.controller.judge_again().await;
    let why = timeout(PATIENCE, far.distrusted()).await.unwrap();
    assert!(matches!(why, Distrust::Undecided), "{why}");
    let error = far.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let stats = court.controller.stats();
    assert_eq!((stats.undecided, stats.distrusted), (1, 1));
}

#[tokio::test]
async fn decision_that_is_out_of_date_is_made_anew() {
    let court = court(TlsConfig::default(), Known::Good);
    court.tribunal.set_valid_for(Some(Duration::ZERO));
    let (_near, far) = court.open().await;
    let asked = court.tribunal.asked();
    until(&court.controller, |stats| stats.judged_again >= 1).await;
    assert!(court.tribunal.asked() > asked);
    court.tribunal.set(Known::Revoked);
    let why = timeout(PATIENCE, far.distrusted()).await.unwrap();
    assert!(matches!(why, Distrust::Refused(_)), "{why}");
}

#[tokio::test]
async fn dates_count_from_the_moment_the_time_is_known() {
    let ca = Ca::new("ca");
    let known = Arc::new(AtomicBool::new(false));
    let clock = known.clone();
    let anchors = anchors_from_pem(&ca.root_pem()).unwrap();
    let verifier = TrustVerifier::new(anchors, Policy::default(), move || {
        if clock.load(Ordering::SeqCst) {
            Time::Accurate(today())
        } else {
            Time::Unknown
        }
    });
    let mut leaf = Leaf::endpoint(CONTROLLER);
    leaf.years = (2020, 2022);
    let agent = tls(&ca.endpoint(AGENT), Arc::new(verifier));
    let controller = tls(&ca.issue(&leaf), ca.verifier());
    let (near, _far) = shake(&agent, &controller, "localhost", None).await;
    let distrusted = near.as_ref().unwrap().distrusted();
    known.store(true, Ordering::SeqCst);
    agent.judge_again().await;
    let why = timeout(PATIENCE, distrusted).await.unwrap();
    assert!(matches!(why, Distrust::Refused(_)), "{why}");
    let (near, _far) = shake(&agent, &controller, "localhost", None).await;
    assert!(matches!(near, Err(TlsError::Refused(_))), "{near:?}");
}

#[tokio::test]
async fn nothing_more_passes_when_the_grounds_have_changed_and_the_peer_is_not_accepted_by_them() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let verifier = ca.verifier();
    let agent = tls(&ca.endpoint(AGENT), ca.verifier());
    let controller = tls(&ca.endpoint(CONTROLLER), verifier.clone());
    let (near, far) = shake(&agent, &controller, "localhost", None).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    pass(&mut near, &mut far, b"before").await.unwrap();
    // The same again, with other words: still accepted.
    verifier.replace_anchors(anchors_from_pem(&(ca.root_pem() + &other.root_pem())).unwrap());
    pass(&mut near, &mut far, b"between").await.unwrap();
    verifier.replace_anchors(anchors_from_pem(&other.root_pem()).unwrap());
    let error = pass(&mut near, &mut far, b"after").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let stats = controller.stats();
    assert_eq!((stats.judged_again, stats.distrusted), (2, 1));
}

#[tokio::test]
async fn renewed_credentials_are_shown_from_now_on_and_open_connections_stay() {
    let ca = Ca::new("ca");
    let agent = tls(&ca.endpoint(AGENT), ca.verifier());
    let controller = tls(&ca.endpoint(CONTROLLER), ca.verifier());
    let (near, far) = shake(&agent, &controller, "localhost", None).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    pass(&mut far, &mut near, b"ticket").await.unwrap();
    controller
        .replace_credentials(&ca.endpoint(CONTROLLER).credentials())
        .unwrap();
    pass(&mut near, &mut far, b"still").await.unwrap();
    pass(&mut far, &mut near, b"here").await.unwrap();
    let (renewed, far) = shake(&agent, &controller, "localhost", None).await;
    let renewed = renewed.unwrap();
    assert_ne!(renewed.identity().fingerprint, near.identity().fingerprint);
    assert!(!renewed.resumed() && !far.unwrap().resumed());
}

#[tokio::test]
async fn peer_on_first_use_that_says_nothing_is_put_out() {
    let mut config = TlsConfig::default();
    config.first_use_idle = SOON;
    let court = court(config, Known::Good);
    let (_near, far) = court.open().await;
    tokio::time::sleep(SOON * 2).await;
    assert_eq!(court.controller.stats().distrusted, 0, "of a trusted CA");
    drop(far);
    court.tribunal.set_basis(Basis::FirstUse);
    let (_near, far) = court.open().await;
    let why = timeout(PATIENCE, far.distrusted()).await.unwrap();
    assert!(matches!(why, Distrust::Idle), "{why}");

    court.controller.set_first_use_idle(Duration::MAX);
    let (_near, far) = court.open().await;
    let distrusted = far.distrusted();
    court.controller.set_first_use_idle(SOON);
    let why = timeout(PATIENCE, distrusted).await.unwrap();
    assert!(matches!(why, Distrust::Idle), "{why}");
}

#[tokio::test]
async fn judging_again_many_times_at_once_is_done_once_more_for_all() {
    let court = court(TlsConfig::default(), Known::Good);
    let (_near, _far) = court.open().await;
    let mut all = Vec::new();
    for _ in 0..50 {
        let controller = court.controller.clone();
        all.push(tokio::spawn(async move { controller.judge_again().await }));
    }
    for one in all {
        one.await.unwrap();
    }
    let judged = court.controller.stats().judged_again;
    assert!((1..=2).contains(&judged), "{judged}");
}
