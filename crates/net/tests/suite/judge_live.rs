//! The same between live MTPs on loopback: peers that are held, judged anew, and shown another certificate.

use std::time::Duration;

use homefleet_net::dtls::Verifier;
use homefleet_net::mtp::{CoapMtp, Interface, SendError};
use homefleet_trust::{Refusal, anchors_from_pem};
use homefleet_usp::Record;
use tokio::time::timeout;

use crate::judge::{Known, Tribunal};
use crate::support::nodes::{Inbox, Received, bind, destination, mtp_config};
use crate::support::pair::{AGENT, CONTROLLER};
use crate::support::pki::{Ca, Leaf};

const LIMIT: Duration = Duration::from_secs(20);

fn record(payload: &[u8]) -> Vec<u8> {
    let (to, from) = (CONTROLLER.parse().unwrap(), AGENT.parse().unwrap());
    Record::no_session(to, from, payload.to_vec()).encode()
}

async fn send(from: &CoapMtp, to: &CoapMtp, payload: &[u8]) -> Result<(), SendError> {
    let to = destination("coaps", to.local_addr(), Some(CONTROLLER));
    timeout(LIMIT, from.send(&to, record(payload)))
        .await
        .unwrap()
}

async fn next(receiver: &mut Inbox) -> Received {
    timeout(LIMIT, receiver.recv()).await.unwrap().unwrap()
}

/// Waits until a counter of the MTP says so.
async fn until(mtp: &CoapMtp, done: impl Fn(&CoapMtp) -> bool) {
    timeout(LIMIT, async {
        while !done(mtp) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn held_agent_is_served_once_the_evidence_has_come() {
    let ca = Ca::new("Test CA");
    let tribunal = Tribunal::new(&ca, Known::Nothing);
    let issued = ca.endpoint(CONTROLLER);
    let config = mtp_config(CONTROLLER, Interface::Controller, &issued, tribunal.clone());
    let (controller, mut inbox) = bind(config).await;
    let config = mtp_config(AGENT, Interface::Agent, &ca.endpoint(AGENT), ca.verifier());
    let (agent, _at_agent) = bind(config).await;
    let sending = {
        let (agent, controller) = (agent.clone(), controller.clone());
        tokio::spawn(async move { send(&agent, &controller, b"patient").await })
    };
    until(&controller, |mtp| mtp.stats().node.held == 1).await;
    assert!(inbox.try_recv().is_err());
    assert_eq!(controller.stats().node.dtls.established, 0);
    tribunal.set(Known::Good);
    controller.judge_again().await;
    sending.await.unwrap().unwrap();
    let received = next(&mut inbox).await;
    assert_eq!(received.record.message(), Some(&b"patient"[..]));
    assert!(received.identity.unwrap().is_endpoint(AGENT));
    assert_eq!(controller.stats().node.dtls.held, 1);
    assert_eq!(controller.stats().node.held, 0);
}

#[tokio::test]
async fn controller_that_proves_revoked_while_held_gets_no_record() {
    let ca = Ca::new("Test CA");
    let issued = ca.endpoint(CONTROLLER);
    let config = mtp_config(CONTROLLER, Interface::Controller, &issued, ca.verifier());
    let (controller, mut inbox) = bind(config).await;
    let tribunal = Tribunal::new(&ca, Known::Nothing);
    let config = mtp_config(
        AGENT,
        Interface::Agent,
        &ca.endpoint(AGENT),
        tribunal.clone(),
    );
    let (agent, _at_agent) = bind(config).await;
    let sending = {
        let (agent, controller) = (agent.clone(), controller.clone());
        tokio::spawn(async move { send(&agent, &controller, b"secret").await })
    };
    until(&agent, |mtp| mtp.stats().node.held == 1).await;
    tribunal.set(Known::Revoked);
    agent.judge_again().await;
    let refusal = Refusal::Expired { level: 0 };
    assert_eq!(sending.await.unwrap(), Err(SendError::Untrusted(refusal)));
    assert!(inbox.try_recv().is_err());
}

#[tokio::test]
async fn live_association_ends_when_its_peer_is_judged_anew_and_refused() {
    let ca = Ca::new("Test CA");
    let verifier = ca.verifier();
    let issued = ca.endpoint(CONTROLLER);
    let config = mtp_config(CONTROLLER, Interface::Controller, &issued, verifier.clone());
    let (controller, mut inbox) = bind(config).await;
    let config = mtp_config(AGENT, Interface::Agent, &ca.endpoint(AGENT), ca.verifier());
    let (agent, _at_agent) = bind(config).await;
    send(&agent, &controller, b"one").await.unwrap();
    next(&mut inbox).await;
    let other = Ca::new("Other CA");
    verifier.replace_anchors(anchors_from_pem(&other.root_pem()).unwrap());
    assert!(verifier.generation() > 1);
    // Nobody says anything; it ends all the same, and the agent hears why.
    controller.judge_again().await;
    until(&agent, |mtp| mtp.stats().node.sessions == 0).await;
    assert_eq!(controller.stats().node.dtls.distrusted, 1);
    let result = send(&agent, &controller, b"two").await;
    assert!(
        matches!(&result, Err(SendError::Handshake(text)) if text.contains("alert 48")),
        "{result:?}"
    );
}

#[tokio::test]
async fn certificate_is_renewed_while_records_travel() {
    let ca = Ca::new("Test CA");
    let first = ca.endpoint(CONTROLLER);
    let config = mtp_config(CONTROLLER, Interface::Controller, &first, ca.verifier());
    let (controller, mut inbox) = bind(config).await;
    let issued = ca.endpoint(AGENT);
    let config = mtp_config(AGENT, Interface::Agent, &issued, ca.verifier());
    let (agent, mut at_agent) = bind(config).await;
    let mut fingerprints = Vec::new();
    for n in 0..3_u8 {
        for m in 0..3_u8 {
            send(&agent, &controller, &[n, m]).await.unwrap();
            let received = next(&mut inbox).await;
            assert_eq!(received.record.message(), Some(&[n, m][..]));
            // The way back is the association that was there before.
            let back = Record::no_session(
                AGENT.parse().unwrap(),
                CONTROLLER.parse().unwrap(),
                vec![n, m],
            );
            controller
                .send(&received.reply_to, back.encode())
                .await
                .unwrap();
            let answer = next(&mut at_agent).await;
            fingerprints.push(answer.identity.unwrap().fingerprint);
        }
        let mut leaf = Leaf::endpoint(CONTROLLER);
        leaf.years = (2025, 2037 + i32::from(n));
        let renewed = ca.issue(&leaf).credentials();
        controller.replace_credentials(renewed).await.unwrap();
    }
    assert_eq!(controller.stats().node.dtls.handshakes_in, 1);
    assert!(fingerprints.iter().all(|one| *one == fingerprints[0]));
    // Whoever comes next sees the newest.
    agent.node().disconnect(None).await;
    send(&agent, &controller, b"again").await.unwrap();
    let received = next(&mut inbox).await;
    let back = Record::no_session(AGENT.parse().unwrap(), CONTROLLER.parse().unwrap(), vec![9]);
    controller
        .send(&received.reply_to, back.encode())
        .await
        .unwrap();
    let answer = next(&mut at_agent).await;
    assert_ne!(answer.identity.unwrap().fingerprint, fingerprints[0]);
    controller.shutdown().await;
    assert!(
        controller
            .replace_credentials(first.credentials())
            .await
            .is_err()
    );
}
