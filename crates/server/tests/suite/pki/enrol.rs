//! Who may enrol: secrets and approvals.

use std::time::Duration;

use homefleet_server::clock::Clock;
use homefleet_server::pki::{
    ApprovalError, Authorisation, EnrolmentSecret, IssueError, NewApproval, NewSecret, Order, Pki,
    Reason, SecretError,
};
use homefleet_server::store::Unmet;
use homefleet_server::store::pki::ApprovalState;

use super::world::{DEVICE, World, order};

const DAY: Duration = Duration::from_secs(86_400);

fn new(uses: Option<u32>) -> NewSecret {
    NewSecret {
        device: Some(DEVICE.to_owned()),
        uses,
        ..NewSecret::default()
    }
}

fn by(secret: &EnrolmentSecret) -> Order {
    let mut order = order(DEVICE);
    order.authorisation = Authorisation::Secret {
        reference: secret.reference.clone(),
    };
    order
}

#[tokio::test]
async fn a_secret_comes_back_as_it_was_and_the_disk_does_not_have_it() {
    let world = World::new().await;
    let secret = world.pki.add_secret(new(Some(1)), "test").await.unwrap();
    assert_eq!(secret.reference, DEVICE.as_bytes());
    let found = world.pki.secret(DEVICE.as_bytes()).await.unwrap().unwrap();
    assert_eq!(found.secret, secret.secret);
    assert!(found.left);
    assert!(!format!("{found:?}").contains(std::str::from_utf8(&secret.secret).unwrap()));
    for file in ["store.sqlite", "store.sqlite-wal"] {
        let bytes = std::fs::read(world.dir.path().join(file)).unwrap();
        let there = bytes
            .windows(secret.secret.len())
            .any(|part| part == secret.secret.as_slice());
        assert!(!there, "{file}");
    }
    assert!(world.pki.secret(b"other").await.unwrap().is_none());
}

#[tokio::test]
async fn a_one_time_secret_is_spent_once() {
    let world = World::new().await;
    let secret = world.pki.add_secret(new(Some(1)), "test").await.unwrap();
    // At the same moment: one of them wins.
    let (one, two) = (by(&secret), by(&secret));
    let (one, two) = tokio::join!(
        world.pki.issue(one, world.now()),
        world.pki.issue(two, world.now())
    );
    // The second one gave up what the first had not confirmed.
    let (first, second) = (one.unwrap(), two.unwrap());
    assert!(world.pki.confirm(&first.serial).await.is_err());
    world.pki.confirm(&second.serial).await.unwrap();
    let refused = world.pki.issue(by(&secret), world.now()).await;
    assert_eq!(refused, Err(IssueError::Secret(Unmet::Used)));
    assert!(
        !world
            .pki
            .secret(&secret.reference)
            .await
            .unwrap()
            .unwrap()
            .left
    );
}

#[tokio::test]
async fn a_use_comes_back_when_its_certificate_was_never_confirmed() {
    let mut world = World::new().await;
    let secret = world.pki.add_secret(new(Some(2)), "test").await.unwrap();
    let lost = world.pki.issue(by(&secret), world.now()).await.unwrap();
    let reason = Reason::CessationOfOperation;
    world
        .pki
        .revoke(&lost.serial, reason, "no confirmation")
        .await
        .unwrap();
    let used = async |world: &World| world.pki.secrets(None, None, 9).await.unwrap()[0].used;
    assert_eq!(used(&world).await, 0);
    world.pki.issue(by(&secret), world.now()).await.unwrap();
    assert_eq!(used(&world).await, 1);
    world.again().await;
    assert_eq!(used(&world).await, 0);
    // A certificate that was confirmed has used it for good.
    let kept = world.pki.issue(by(&secret), world.now()).await.unwrap();
    world.pki.confirm(&kept.serial).await.unwrap();
    world
        .pki
        .revoke(&kept.serial, reason, "test")
        .await
        .unwrap();
    assert_eq!(used(&world).await, 1);
}

#[tokio::test]
async fn a_secret_is_for_its_device_its_profile_and_its_time() {
    let world = World::new().await;
    let secret = NewSecret {
        expires: Some(world.now().plus(DAY)),
        profile: Some("device".to_owned()),
        ..new(None)
    };
    let secret = world.pki.add_secret(secret, "test").await.unwrap();
    let mut other = by(&secret);
    other.device = Some("os::00D09E-666".to_owned());
    let refused = world.pki.issue(other, world.now()).await;
    assert_eq!(refused, Err(IssueError::Secret(Unmet::Other)));
    world.pki.issue(by(&secret), world.now()).await.unwrap();
    world.pass(DAY);
    assert!(world.pki.secret(&secret.reference).await.unwrap().is_none());
    let refused = world.pki.issue(by(&secret), world.now()).await;
    assert_eq!(refused, Err(IssueError::Secret(Unmet::Expired)));
    world
        .pki
        .remove_secret(&secret.reference, "test")
        .await
        .unwrap();
    let refused = world.pki.issue(by(&secret), world.now()).await;
    assert_eq!(refused, Err(IssueError::Secret(Unmet::Missing)));
    let refused = world.pki.remove_secret(&secret.reference, "test").await;
    assert_eq!(refused, Err(SecretError::Unmet(Unmet::Missing)));
}

#[tokio::test]
async fn a_secret_for_another_profile_is_refused() {
    let world = World::with(Default::default(), |config| {
        config.pki.profile = vec![super::world::profile("phone", |_| ())];
    })
    .await;
    let secret = NewSecret {
        profile: Some("phone".to_owned()),
        ..new(None)
    };
    let secret = world.pki.add_secret(secret, "test").await.unwrap();
    let refused = world.pki.issue(by(&secret), world.now()).await;
    assert_eq!(refused, Err(IssueError::Secret(Unmet::Other)));
}

#[tokio::test]
async fn secrets_that_make_no_sense_are_refused() {
    let world = World::with(Default::default(), |config| config.pki.max_secrets = 1).await;
    let refused = async |new| world.pki.add_secret(new, "test").await.err().unwrap();
    let short = NewSecret {
        secret: Some(b"1234567".to_vec().into()),
        ..new(None)
    };
    let length = |found| SecretError::Length {
        found,
        least: 8,
        most: 256,
    };
    assert_eq!(refused(short).await, length(7));
    let long = NewSecret {
        secret: Some(vec![1; 257].into()),
        ..new(None)
    };
    assert_eq!(refused(long).await, length(257));
    for reference in [Vec::new(), vec![1; 129]] {
        let bad = NewSecret {
            reference: Some(reference),
            ..new(None)
        };
        assert_eq!(refused(bad).await, SecretError::Reference { most: 128 });
    }
    assert_eq!(refused(new(Some(0))).await, SecretError::Useless);
    let late = NewSecret {
        expires: Some(world.now()),
        ..new(None)
    };
    assert_eq!(refused(late).await, SecretError::Useless);
    let profile = NewSecret {
        profile: Some("phone".to_owned()),
        ..new(None)
    };
    assert_eq!(
        refused(profile).await,
        SecretError::Profile("phone".to_owned())
    );
    world.pki.add_secret(new(None), "test").await.unwrap();
    assert_eq!(refused(new(None)).await, SecretError::Unmet(Unmet::Full));
    world
        .pki
        .remove_secret(DEVICE.as_bytes(), "test")
        .await
        .unwrap();
    world.pki.add_secret(new(None), "test").await.unwrap();
}

#[tokio::test]
async fn a_secret_of_another_ca_does_not_open() {
    let (world, other) = (World::new().await, World::new().await);
    world.pki.add_secret(new(None), "test").await.unwrap();
    let mut config = other.config.clone();
    config.passphrase = world.config.passphrase.clone();
    let store = world.store.clone();
    let other = Pki::open(&config, store, Clock::system()).await.unwrap();
    let refused = other.secret(DEVICE.as_bytes()).await.err();
    assert_eq!(refused, Some(SecretError::Sealed));
}

#[tokio::test]
async fn a_reference_is_taken_once() {
    let world = World::new().await;
    world.pki.add_secret(new(None), "test").await.unwrap();
    let refused = world.pki.add_secret(new(None), "test").await.err();
    assert_eq!(refused, Some(SecretError::Unmet(Unmet::Exists)));
}

#[tokio::test]
async fn expired_secrets_are_forgotten() {
    let world = World::new().await;
    let short = NewSecret {
        expires: Some(world.now().plus(DAY)),
        ..new(None)
    };
    world.pki.add_secret(short, "test").await.unwrap();
    world.pass(9 * DAY);
    world.pki.upkeep().await.unwrap();
    assert_eq!(world.pki.secrets(None, None, 9).await.unwrap(), []);
}

fn waiting(order: &Order) -> NewApproval {
    NewApproval {
        profile: "device".to_owned(),
        subject: format!("CN={DEVICE}"),
        device: Some(DEVICE.to_owned()),
        requester: "somebody".to_owned(),
        public_key: order.public_key.clone(),
        request: b"the request".to_vec(),
    }
}

fn approved(mut order: Order, id: &str) -> Order {
    order.authorisation = Authorisation::Approval { id: id.to_owned() };
    order
}

#[tokio::test]
async fn an_approval_outlives_a_restart_and_is_good_for_one_certificate_of_its_key() {
    let mut world = World::new().await;
    let order = order(DEVICE);
    let mut decisions = world.pki.decisions();
    let waiting = world.pki.add_approval(waiting(&order)).await.unwrap();
    let issue = async |world: &World, order: &Order| {
        world
            .pki
            .issue(approved(order.clone(), &waiting.id), world.now())
            .await
    };
    let refused = issue(&world, &order).await;
    assert_eq!(refused, Err(IssueError::Approval(Unmet::State)));
    world
        .pki
        .decide(&waiting.id, true, "anna", Some("known"))
        .await
        .unwrap();
    let told = decisions.recv().await.unwrap();
    assert_eq!(
        (told.id.as_str(), told.decision.by.as_str()),
        (waiting.id.as_str(), "anna")
    );
    world.again().await;
    let stored = world.pki.approval(&waiting.id).await.unwrap().unwrap();
    assert_eq!(stored.state, ApprovalState::Approved);
    assert_eq!(stored.request, b"the request");
    assert_eq!(stored.decision, Some(told.decision));
    let other = super::world::order(DEVICE);
    let refused = issue(&world, &other).await;
    assert_eq!(refused, Err(IssueError::Approval(Unmet::Other)));
    let issued = issue(&world, &order).await.unwrap();
    let refused = issue(&world, &order).await;
    assert_eq!(refused, Err(IssueError::Approval(Unmet::Used)));
    let used = world.pki.approval(&waiting.id).await.unwrap().unwrap();
    assert_eq!(used.state, ApprovalState::Used);
    assert_eq!(used.serial.as_deref(), Some(issued.serial.as_bytes()));
}

#[tokio::test]
async fn a_decision_is_made_once_and_in_time() {
    let world = World::new().await;
    let order = order(DEVICE);
    let first = world.pki.add_approval(waiting(&order)).await.unwrap();
    world
        .pki
        .decide(&first.id, false, "anna", None)
        .await
        .unwrap();
    let decide = async |id: &str| world.pki.decide(id, true, "anna", None).await.unwrap_err();
    assert_eq!(decide(&first.id).await, ApprovalError::Unmet(Unmet::State));
    assert_eq!(
        decide("nothing").await,
        ApprovalError::Unmet(Unmet::Missing)
    );
    let refused = world
        .pki
        .issue(approved(order.clone(), &first.id), world.now())
        .await;
    assert_eq!(refused, Err(IssueError::Approval(Unmet::State)));
    let late = world.pki.add_approval(waiting(&order)).await.unwrap();
    let pending = world
        .pki
        .approvals(Some(ApprovalState::Pending), None, 9)
        .await
        .unwrap();
    assert_eq!(pending, std::slice::from_ref(&late));
    world.pass(7 * DAY);
    assert_eq!(decide(&late.id).await, ApprovalError::Unmet(Unmet::Expired));
    world.pass(8 * DAY);
    world.pki.upkeep().await.unwrap();
    assert_eq!(world.pki.approvals(None, None, 9).await.unwrap(), []);
}

#[tokio::test]
async fn more_or_longer_requests_than_there_is_room_for_are_refused() {
    let world = World::with(Default::default(), |config| config.pki.max_approvals = 1).await;
    let order = order(DEVICE);
    let mut long = waiting(&order);
    long.request = vec![0; homefleet_server::pki::MAX_REQUEST + 1];
    let refused = world.pki.add_approval(long).await.unwrap_err();
    assert!(matches!(refused, ApprovalError::Length { .. }), "{refused}");
    let first = world.pki.add_approval(waiting(&order)).await.unwrap();
    let refused = world.pki.add_approval(waiting(&order)).await;
    assert_eq!(refused, Err(ApprovalError::Unmet(Unmet::Full)));
    world
        .pki
        .decide(&first.id, true, "anna", None)
        .await
        .unwrap();
    world.pki.add_approval(waiting(&order)).await.unwrap();
}
