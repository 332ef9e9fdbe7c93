//! Sessions that are resumed, and those that must not be.

use homefleet_net::tls::{Tls, TlsConfig, TlsError, TlsVersions};
use homefleet_trust::{Refusal, anchors_from_pem};

use super::{AGENT, CONTROLLER, pass, shake, tls_with};
use crate::judge::{Known, Tribunal};
use crate::support::pki::{Ca, Leaf};

const BOTH: [TlsVersions; 2] = [TlsVersions::Tls12, TlsVersions::Tls13];

fn config(versions: TlsVersions) -> TlsConfig {
    let mut config = TlsConfig::default();
    config.versions = versions;
    config
}

/// One connection that carries something both ways; whether it was resumed.
async fn visit(agent: &Tls, controller: &Tls, endpoint_id: Option<&str>) -> bool {
    let (near, far) = shake(agent, controller, "localhost", endpoint_id).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    assert!(near.identity().is_endpoint(CONTROLLER));
    assert!(far.identity().is_endpoint(AGENT));
    pass(&mut near, &mut far, b"up").await.unwrap();
    pass(&mut far, &mut near, b"down").await.unwrap();
    assert_eq!(near.resumed(), far.resumed());
    near.resumed()
}

#[tokio::test]
async fn session_is_resumed_and_both_peers_are_judged_as_cached() {
    for versions in BOTH {
        let ca = Ca::new("ca");
        let (agents, controllers) = (
            Tribunal::new(&ca, Known::Good),
            Tribunal::new(&ca, Known::Good),
        );
        let agent = tls_with(config(versions), &ca.endpoint(AGENT), agents.clone());
        let controller = tls_with(
            config(versions),
            &ca.endpoint(CONTROLLER),
            controllers.clone(),
        );
        assert!(!visit(&agent, &controller, None).await);
        assert_eq!(agents.cached(), [false]);
        assert_eq!(controllers.cached(), [false]);
        assert!(visit(&agent, &controller, None).await, "{versions:?}");
        assert_eq!(agents.cached(), [false, true]);
        assert_eq!(controllers.cached(), [false, true]);
        assert!(visit(&agent, &controller, None).await, "{versions:?}");
        assert_eq!(controller.stats().resumed, 2);
        assert_eq!(agent.stats().resumed, 2);
    }
}

#[tokio::test]
async fn session_for_another_purpose_is_not_resumed() {
    for versions in BOTH {
        let ca = Ca::new("ca");
        let agent = tls_with(config(versions), &ca.endpoint(AGENT), ca.verifier());
        let controller = tls_with(config(versions), &ca.endpoint(CONTROLLER), ca.verifier());
        assert!(!visit(&agent, &controller, None).await);
        assert!(!visit(&agent, &controller, Some(CONTROLLER)).await);
        assert!(visit(&agent, &controller, Some(CONTROLLER)).await);
    }
}

#[tokio::test]
async fn sessions_from_before_the_grounds_changed_are_void() {
    for versions in BOTH {
        let ca = Ca::new("ca");
        let (ours, theirs) = (ca.verifier(), ca.verifier());
        let agent = tls_with(config(versions), &ca.endpoint(AGENT), ours.clone());
        let controller = tls_with(config(versions), &ca.endpoint(CONTROLLER), theirs.clone());
        assert!(!visit(&agent, &controller, None).await);
        theirs.replace_anchors(anchors_from_pem(&ca.root_pem()).unwrap());
        assert!(!visit(&agent, &controller, None).await, "the server's");
        ours.replace_anchors(anchors_from_pem(&ca.root_pem()).unwrap());
        assert!(!visit(&agent, &controller, None).await, "the client's");
        assert!(visit(&agent, &controller, None).await);
    }
}

#[tokio::test]
async fn peer_that_was_revoked_since_gets_a_whole_handshake_and_the_alert() {
    for versions in BOTH {
        let ca = Ca::new("ca");
        let tribunal = Tribunal::new(&ca, Known::Good);
        let agent = tls_with(config(versions), &ca.endpoint(AGENT), ca.verifier());
        let controller = tls_with(config(versions), &ca.endpoint(CONTROLLER), tribunal.clone());
        assert!(!visit(&agent, &controller, None).await);
        tribunal.set(Known::Revoked);
        let (_near, far) = shake(&agent, &controller, "localhost", None).await;
        let Err(TlsError::Refused(decision)) = far else {
            panic!("not refused: {far:?}");
        };
        assert_eq!(decision.refusal(), Some(&Refusal::Expired { level: 0 }));
        assert_eq!(tribunal.cached(), [false, true, false]);
    }
}

#[tokio::test]
async fn session_of_a_server_that_was_revoked_since_is_not_offered() {
    for versions in BOTH {
        let ca = Ca::new("ca");
        let tribunal = Tribunal::new(&ca, Known::Good);
        let agent = tls_with(config(versions), &ca.endpoint(AGENT), tribunal.clone());
        let controller = tls_with(config(versions), &ca.endpoint(CONTROLLER), ca.verifier());
        assert!(!visit(&agent, &controller, None).await);
        tribunal.set(Known::Revoked);
        let (near, _far) = shake(&agent, &controller, "localhost", None).await;
        assert!(matches!(near, Err(TlsError::Refused(_))), "{near:?}");
        assert_eq!(tribunal.cached(), [false, true, false]);
    }
}

#[tokio::test]
async fn forgotten_or_disabled_sessions_only_cost_a_whole_handshake() {
    for versions in BOTH {
        let ca = Ca::new("ca");
        let mut few = config(versions);
        few.max_sessions = 1;
        let agent = tls_with(config(versions), &ca.endpoint(AGENT), ca.verifier());
        let other = tls_with(config(versions), &ca.endpoint(AGENT), ca.verifier());
        let controller = tls_with(few, &ca.endpoint(CONTROLLER), ca.verifier());
        assert!(!visit(&agent, &controller, None).await);
        assert!(!visit(&other, &controller, None).await);
        assert!(!visit(&agent, &controller, None).await, "pushed out");
        assert!(visit(&agent, &controller, None).await);

        let mut none = config(versions);
        none.resumption = false;
        let controller = tls_with(none, &ca.endpoint(CONTROLLER), ca.verifier());
        for _ in 0..2 {
            assert!(!visit(&other, &controller, None).await);
        }
    }
}

#[tokio::test]
async fn session_of_a_peer_with_a_huge_certificate_is_not_kept() {
    for versions in BOTH {
        let ca = Ca::new("ca");
        let mut leaf = Leaf::endpoint(AGENT);
        leaf.padding = 9000;
        let agent = tls_with(config(versions), &ca.issue(&leaf), ca.verifier());
        let controller = tls_with(config(versions), &ca.endpoint(CONTROLLER), ca.verifier());
        for _ in 0..2 {
            assert!(!visit(&agent, &controller, None).await);
        }
    }
}
