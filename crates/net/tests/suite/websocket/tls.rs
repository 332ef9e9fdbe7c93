//! TLS with certificates both ways (R-WS.22, R-MTP.1, R-MTP.4), and what they say about the sessions over it.

use std::net::SocketAddr;
use std::sync::Arc;

use homefleet_net::dtls::TrustVerifier;
use homefleet_net::mtp::websocket::WebSocketConnection;
use homefleet_net::mtp::{Event, Greeter, SendError, State};
use homefleet_net::tls::{Tls, dial};

use super::raw::{Raw, V1, request};
use super::{
    AGENT, CONTROLLER, Hello, PLAIN, SECURE, Side, id, listener, record, side, side_with, to,
};
use crate::support::pki::{Ca, Issued, Leaf};

const OTHER: &str = "os::00256D-other";

fn tls(ca: &Ca, issued: &Issued) -> (Tls, Arc<TrustVerifier>) {
    let verifier = ca.verifier();
    let tls = Tls::new(&issued.credentials(), verifier.clone()).unwrap();
    (tls, verifier)
}

/// An Endpoint with this certificate.
fn secure(own: &'static str, ca: &Ca, issued: &Issued) -> (Side, Arc<TrustVerifier>) {
    let (tls, verifier) = tls(ca, issued);
    let side = side_with(own, |config| {
        config.tls = Some(tls);
        config.allow_plain = false;
    });
    (side, verifier)
}

async fn listen(side: &Side) -> SocketAddr {
    let listener = listener("127.0.0.1:0", true);
    side.mtp.listen("secure", listener).await.unwrap()
}

fn over_tls(address: SocketAddr, endpoint_id: Option<&str>) -> WebSocketConnection {
    WebSocketConnection {
        secure: true,
        host: "localhost".to_owned(),
        endpoint_id: endpoint_id.map(id),
        ..to(address)
    }
}

/// A client byte by byte, with this certificate.
async fn raw(ca: &Ca, issued: &Issued, address: SocketAddr) -> Raw {
    let (tls, _) = tls(ca, issued);
    let stream = dial("localhost", address.port(), Some((&tls, None))).await;
    Raw::over(stream.unwrap())
}

#[tokio::test]
async fn both_sides_prove_who_they_are_before_a_record_passes() {
    let ca = Ca::new("Test CA");
    let (mut agent, _) = secure(AGENT, &ca, &ca.endpoint(AGENT));
    let (mut controller, _) = secure(CONTROLLER, &ca, &ca.endpoint(CONTROLLER));
    let address = listen(&controller).await;
    agent.mtp.open("main", over_tls(address, Some(CONTROLLER)));
    let (there, here) = (agent.up().await, controller.up().await);
    assert!(there.identity.unwrap().is_endpoint(CONTROLLER));
    assert!(here.identity.unwrap().is_endpoint(AGENT));
    let (a, c) = (id(AGENT), id(CONTROLLER));
    let notify = record(AGENT, CONTROLLER, b"notify");
    agent.mtp.send(&SECURE, &c, notify.clone()).await.unwrap();
    let (_, origin) = controller.record().await;
    assert!(origin.identity.unwrap().is_endpoint(AGENT));
    assert_eq!(origin.reply_to, Some(SECURE));
    let get = record(CONTROLLER, AGENT, b"get");
    // A way that wants no security may have it.
    controller.mtp.send(&PLAIN, &a, get).await.unwrap();
    assert_eq!(agent.payload().await, b"get");
}

#[tokio::test]
async fn a_controller_opens_a_session_with_an_agent_that_listens() {
    let ca = Ca::new("Test CA");
    let (mut agent, _) = secure(AGENT, &ca, &ca.endpoint(AGENT));
    let (mut controller, _) = secure(CONTROLLER, &ca, &ca.endpoint(CONTROLLER));
    let address = listen(&agent).await;
    controller.mtp.open("agent", over_tls(address, Some(AGENT)));
    controller.up().await;
    agent.up().await;
    let notify = record(AGENT, CONTROLLER, b"notify");
    let sent = agent.mtp.send(&SECURE, &id(CONTROLLER), notify).await;
    sent.unwrap();
    assert_eq!(controller.payload().await, b"notify");
}

#[tokio::test]
async fn a_peer_that_we_do_not_trust_comes_to_no_session() {
    let (ca, theirs) = (Ca::new("Test CA"), Ca::new("Other CA"));
    let (mut controller, _) = secure(CONTROLLER, &ca, &ca.endpoint(CONTROLLER));
    let address = listen(&controller).await;
    // It trusts us, we do not trust it.
    let stranger = Tls::new(&theirs.endpoint(AGENT).credentials(), ca.verifier()).unwrap();
    let agent = side_with(AGENT, |config| config.tls = Some(stranger));
    agent.mtp.open("main", over_tls(address, Some(CONTROLLER)));
    controller.stats(|stats| stats.tls_failed >= 1).await;
    agent
        .fares("main", |state| matches!(state, State::Error(_)))
        .await;
    assert_eq!(controller.mtp.stats().accepted, 0);
    assert!(controller.events.try_recv().is_err());
    // We trust it, it does not trust us.
    let stranger = Tls::new(&ca.endpoint(AGENT).credentials(), theirs.verifier()).unwrap();
    let agent = side_with(AGENT, |config| config.tls = Some(stranger));
    agent.mtp.open("main", over_tls(address, Some(CONTROLLER)));
    let refused = |state: &State| matches!(state, State::Error(why) if why.contains("refused"));
    agent.fares("main", refused).await;
    assert_eq!(agent.mtp.stats().opened, 0);
}

#[tokio::test]
async fn who_speaks_no_tls_comes_to_no_session() {
    let ca = Ca::new("Test CA");
    let (controller, _) = secure(CONTROLLER, &ca, &ca.endpoint(CONTROLLER));
    let address = listen(&controller).await;
    let agent = side(AGENT);
    agent.mtp.open("main", to(address));
    controller.stats(|stats| stats.tls_failed >= 1).await;
    assert_eq!(controller.mtp.stats().handshakes_refused, 0);
}

#[tokio::test]
async fn an_eid_that_is_not_the_certificates_is_answered_403() {
    let ca = Ca::new("Test CA");
    let (controller, _) = secure(CONTROLLER, &ca, &ca.endpoint(CONTROLLER));
    let address = listen(&controller).await;
    let mut raw = raw(&ca, &ca.endpoint(AGENT), address).await;
    raw.write(request(&format!("/usp?eid={OTHER}"), V1).as_bytes())
        .await;
    assert!(raw.head().await.starts_with("HTTP/1.1 403 "));
    drop(raw);
    controller
        .stats(|stats| stats.handshakes_refused == 1)
        .await;
}

#[tokio::test]
async fn a_certificate_with_one_endpoint_names_a_client_that_says_nothing() {
    let ca = Ca::new("Test CA");
    let (mut controller, _) = secure(CONTROLLER, &ca, &ca.endpoint(CONTROLLER));
    let address = listen(&controller).await;
    let _raw = raw(&ca, &ca.endpoint(AGENT), address)
        .await
        .opened("/usp")
        .await;
    assert_eq!(controller.up().await.endpoint_id, Some(id(AGENT)));
}

#[tokio::test]
async fn a_first_record_that_the_certificate_does_not_stand_for_closes_with_1008() {
    let ca = Ca::new("Test CA");
    let (mut controller, _) = secure(CONTROLLER, &ca, &ca.endpoint(CONTROLLER));
    let address = listen(&controller).await;
    let nobody = ca.issue(&Leaf {
        endpoint_id: None,
        ..Leaf::endpoint(AGENT)
    });
    let mut raw = raw(&ca, &nobody, address).await.opened("/usp").await;
    raw.record(&record(AGENT, CONTROLLER, b"forged")).await;
    assert_eq!(raw.close_code().await, 1008);
    drop(raw);
    controller.stats(|stats| stats.distrusted == 1).await;
    assert!(controller.events.try_recv().is_err(), "nothing was told");
}

#[tokio::test]
async fn a_record_of_another_endpoint_is_dropped_over_tls_too() {
    let ca = Ca::new("Test CA");
    let (mut controller, _) = secure(CONTROLLER, &ca, &ca.endpoint(CONTROLLER));
    let address = listen(&controller).await;
    let raw = raw(&ca, &ca.endpoint(AGENT), address).await;
    let mut raw = raw.opened(&format!("/usp?eid={AGENT}")).await;
    controller.up().await;
    raw.record(&record(OTHER, CONTROLLER, b"forged")).await;
    raw.record(&record(AGENT, CONTROLLER, b"honest")).await;
    assert_eq!(controller.payload().await, b"honest");
    assert_eq!(controller.mtp.stats().forged_records, 1);
}

#[tokio::test]
async fn a_server_whose_certificate_is_only_its_hosts_comes_to_no_session() {
    let ca = Ca::new("Test CA");
    let (mut agent, _) = secure(AGENT, &ca, &ca.endpoint(AGENT));
    let host = ca.issue(&Leaf {
        endpoint_id: None,
        ..Leaf::endpoint(CONTROLLER)
    });
    let (controller, _) = secure(CONTROLLER, &ca, &host);
    let address = listen(&controller).await;
    agent.mtp.open("main", over_tls(address, Some(CONTROLLER)));
    let why = "the certificate is not that of os::00256D-controller";
    agent
        .fares(
            "main",
            |state| matches!(state, State::Error(text) if text.contains(why)),
        )
        .await;
    assert!(agent.events.try_recv().is_err());
}

#[tokio::test]
async fn a_session_ends_when_the_peer_is_judged_again_and_refused() {
    let ca = Ca::new("Test CA");
    let (mut agent, _) = secure(AGENT, &ca, &ca.endpoint(AGENT));
    let (mut controller, verifier) = secure(CONTROLLER, &ca, &ca.endpoint(CONTROLLER));
    let address = listen(&controller).await;
    agent.mtp.open("main", over_tls(address, Some(CONTROLLER)));
    agent.up().await;
    controller.up().await;
    verifier.replace_anchors(Vec::new());
    controller.mtp.judge_again().await;
    let reason = controller.down().await;
    assert!(reason.contains("refused"), "{reason}");
    agent.down().await;
    assert_eq!(controller.mtp.stats().distrusted, 1);
    let sent = controller.mtp.send(&SECURE, &id(AGENT), vec![1]).await;
    assert_eq!(sent, Err(SendError::NotConnected));
    // Nor is it let in again.
    controller.stats(|stats| stats.tls_failed >= 1).await;
}

#[tokio::test]
async fn what_comes_after_the_grounds_have_changed_is_not_taken() {
    let ca = Ca::new("Test CA");
    let (mut controller, verifier) = secure(CONTROLLER, &ca, &ca.endpoint(CONTROLLER));
    let address = listen(&controller).await;
    let raw = raw(&ca, &ca.endpoint(AGENT), address).await;
    let mut raw = raw.opened(&format!("/usp?eid={AGENT}")).await;
    controller.up().await;
    // Nobody says that there is something to judge anew.
    verifier.replace_anchors(Vec::new());
    raw.record(&record(AGENT, CONTROLLER, b"too late")).await;
    controller.down().await;
    let stats = controller.mtp.stats();
    assert_eq!((stats.records_in, stats.distrusted), (0, 1));
}

#[tokio::test]
async fn a_session_without_tls_never_takes_the_place_of_one_with_it() {
    let ca = Ca::new("Test CA");
    let (tls, _) = tls(&ca, &ca.endpoint(CONTROLLER));
    let mut controller = side_with(CONTROLLER, |config| config.tls = Some(tls));
    let (with, without) = (listen(&controller).await, controller.listen().await);
    let raw = raw(&ca, &ca.endpoint(AGENT), with).await;
    let mut proved = raw.opened(&format!("/usp?eid={AGENT}")).await;
    let channel = controller.up().await;
    let mut claimed = Raw::open(without, &format!("/usp?eid={AGENT}")).await;
    claimed.record(&record(AGENT, CONTROLLER, b"forged")).await;
    assert_eq!(claimed.close_code().await, 1000);
    proved.record(&record(AGENT, CONTROLLER, b"honest")).await;
    let (honest, origin) = controller.record().await;
    assert_eq!(honest.message(), Some(&b"honest"[..]));
    assert_eq!(origin.channel, Some(channel.id));
    // But one with TLS takes the place of one without.
    drop(proved);
    controller.down().await;
    let mut claimed = Raw::open(without, &format!("/usp?eid={AGENT}")).await;
    let claimed_channel = controller.up().await;
    let _proved = self::raw(&ca, &ca.endpoint(AGENT), with)
        .await
        .opened("/usp")
        .await;
    assert_eq!(claimed.close_code().await, 1000);
    drop(claimed);
    let mut ups = 0;
    for _ in 0..2 {
        match controller.next().await {
            Event::Up(channel) => ups += usize::from(channel.identity.is_some()),
            Event::Down { id, .. } => assert_eq!(id, claimed_channel.id),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ups, 1);
}

#[tokio::test]
async fn the_greeting_goes_out_over_tls_when_the_peer_has_proved_who_it_is() {
    let ca = Ca::new("Test CA");
    let (tls, _) = tls(&ca, &ca.endpoint(AGENT));
    let greeter: Arc<dyn Greeter> = Arc::new(Hello(AGENT));
    let mut agent = side_with(AGENT, |config| {
        config.tls = Some(tls);
        config.greeter = greeter;
    });
    let (mut controller, _) = secure(CONTROLLER, &ca, &ca.endpoint(CONTROLLER));
    let address = listen(&controller).await;
    agent.mtp.open("main", over_tls(address, None));
    agent.up().await;
    controller.up().await;
    let (hello, _) = controller.record().await;
    assert_eq!(hello.from_id().as_str(), AGENT);
    assert_eq!(hello.message(), None);
}
