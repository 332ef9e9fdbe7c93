//! Requests that an operator decides: the device polls until then (RFC 9483 §4.4), over a restart of the server too.

use std::time::Duration;

use homefleet_api::{ApprovalState, DecideApproval};
use homefleet_server::config::PkiProfile;

use super::world::World;

/// A CA that gives certificates to anybody whom an operator approves.
async fn world() -> World {
    World::with(|config| {
        config.cmp.old_polling = true;
        config.pki.profile.push(PkiProfile {
            name: "asked".to_owned(),
            who: vec!["approval".to_owned()],
            subject: None,
            san: Vec::new(),
            from_request: vec!["subject".to_owned()],
            ..PkiProfile::device()
        });
    })
    .await
}

/// A device with a certificate of a manufacturer that nobody here knows.
fn stranger(world: &World) {
    world.key("stranger");
    world.key("maker");
    world.shell(
        "openssl req -x509 -new -key maker.key -subj /CN=maker -days 2 -out maker.pem
         openssl req -new -key stranger.key -subj /CN=stranger -out stranger.csr
         openssl x509 -req -in stranger.csr -CA maker.pem -CAkey maker.key -set_serial 7 -days 2 -out stranger.pem",
    );
}

/// `openssl cmp` asks and polls, while `meanwhile` happens.
async fn ask<T>(world: &World, meanwhile: impl Future<Output = T>) -> ((bool, String), T) {
    let options = "-cmd ir -cert stranger.pem -key stranger.key -trusted root.pem -untrusted ca.pem -newkey stranger.key \
                   -subject /CN=stranger -certout got.pem -total_timeout 100";
    tokio::join!(world.cmp_at(".well-known/cmp/p/asked", options), meanwhile)
}

/// Waits until a request is there, and tells its identifier.
async fn request(world: &World) -> String {
    for _ in 0..600 {
        let page = world
            .access
            .approvals(Some(ApprovalState::Pending), None, 10)
            .await
            .unwrap();
        if let [approval] = page.approvals.as_slice() {
            assert_eq!(approval.subject, "CN=stranger");
            assert_eq!(approval.profile, "asked");
            return approval.id.clone();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no request for approval came");
}

async fn decide(world: &World, id: &str, approve: bool) {
    let decision = DecideApproval {
        approve,
        reason: Some("seen it".to_owned()),
    };
    world.access.decide_approval(id, decision).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_polls_until_an_operator_approves() {
    let world = world().await;
    stranger(&world);
    let ((good, printed), id) = ask(&world, async {
        let id = request(&world).await;
        assert_eq!(world.issued().await, 0);
        decide(&world, &id, true).await;
        id
    })
    .await;
    assert!(good, "{printed}");
    world.shell("openssl verify -CAfile root.pem -untrusted ca.pem got.pem");
    let approval = world.access.approval(&id).await.unwrap();
    assert_eq!(approval.state, ApprovalState::Used);
    assert!(approval.serial.is_some());
    let actions: Vec<String> = world.audit().await.into_iter().map(|it| it.0).collect();
    assert!(
        actions.contains(&"approval.approve".to_owned()),
        "{actions:?}"
    );
    assert!(
        actions.contains(&"certificate.issue".to_owned()),
        "{actions:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_is_denied_is_told_why() {
    let world = world().await;
    stranger(&world);
    let ((good, printed), ()) = ask(&world, async {
        let id = request(&world).await;
        decide(&world, &id, false).await;
    })
    .await;
    assert!(!good && printed.contains("notAuthorized"), "{printed}");
    assert!(printed.contains("seen it"), "{printed}");
    assert_eq!(world.issued().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_without_a_profile_that_asks_is_not_trusted() {
    let world = world().await;
    stranger(&world);
    let options = "-cmd ir -cert stranger.pem -key stranger.key -trusted root.pem -untrusted ca.pem -newkey stranger.key -subject /CN=stranger \
                   -certout got.pem";
    let (good, printed) = world.cmp_at(".well-known/cmp/p/open", options).await;
    assert!(!good && printed.contains("signerNotTrusted"), "{printed}");
    let (good, printed) = world
        .cmp_at(
            ".well-known/cmp/p/asked",
            &options.replace("-cmd ir", "-cmd cr"),
        )
        .await;
    assert!(!good && printed.contains("signerNotTrusted"), "{printed}");
    assert_eq!(world.issued().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_survives_a_restart() {
    let world = world().await;
    stranger(&world);
    let address = world.address();
    let dir = world.dir.path().to_owned();
    let client = tokio::task::spawn_blocking(move || {
        let script = format!(
            "exec timeout 120 openssl cmp -config '' -server {address} -path .well-known/cmp/p/asked -cmd ir -cert stranger.pem \
             -key stranger.key -trusted root.pem -untrusted ca.pem -newkey stranger.key -subject /CN=stranger -certout got.pem 2>&1"
        );
        super::world::run(&dir, &script)
    });
    let id = request(&world).await;
    let world = world.restart().await;
    decide(&world, &id, true).await;
    let (good, printed) = client.await.unwrap();
    // While the server is away, a client may find nobody: then it comes again, and finds that it was approved.
    if !good {
        assert!(
            printed.contains("refused") || printed.contains("transfer"),
            "{printed}"
        );
        let ((good, printed), ()) = ask(&world, async {}).await;
        assert!(good, "{printed}");
    }
    let approval = world.access.approval(&id).await.unwrap();
    assert_eq!(approval.state, ApprovalState::Used);
    assert_eq!(world.issued().await, 1);
}
