//! The agent's own certificate: asked for before it connects, renewed in time, and never lost, whenever the power goes.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use homefleet_agent::{
    Agent, Config,
    config::ConfigError,
    enrol::{
        Enrolment,
        keys::{KeyState, Keys},
    },
    provider::time::Clock,
    store::Store,
};
use homefleet_cmp::{
    CertificateParts,
    asn1::{
        Body, CaKeyUpdate, CertId, Certificate, Failure, GeneralName, RevocationAnnouncement,
        RootCaKeyUpdate,
    },
    authority::RequestKind,
};
use homefleet_usp::proto::msg::{Notify, notify::Notification};
use x509_cert::der::asn1::{GeneralizedTime, Int};

use crate::{
    bench::{AGENT, CONTROLLER},
    cmp_ca::{CONFIRM_WITHIN, CmpCa, Http, Standing},
    pki::{Controller, Issued, PATIENCE},
};

const SECRET: &str = "one-time secret";

/// Every place at which the power may go.
const FAULTS: [&str; 8] = [
    "made",
    "requested",
    "answered",
    "received",
    "confirming",
    "answered the confirmation",
    "confirmed",
    "in use",
];

/// A CA behind HTTP, and a device that knows where it is and shares a secret with it.
struct World {
    ca: Arc<CmpCa>,
    http: Http,
    directory: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let ca = CmpCa::new();
        ca.add_secret("device-1", SECRET);
        ca.change(|policy| policy.one_time = true);
        let http = ca.serve().await;
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("enrol.secret");
        fs::write(&secret, format!("{SECRET}\n")).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        Self {
            ca,
            http,
            directory,
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// The configuration file, for a controller at this port.
    fn write(&self, controller: Option<u16>, more: &str) -> std::path::PathBuf {
        let controller = controller.map_or(String::new(), |port| {
            format!(
                "[controller]\nurl = \"coaps://127.0.0.1:{port}/usp\"\nendpoint_id = \"{CONTROLLER}\"\n"
            )
        });
        let text = format!(
            "version = 1\nendpoint_id = \"{AGENT}\"\ndata_dir = \"state\"\nlisten = \"127.0.0.1:0\"\n{controller}\
             [device]\nrestart = \"agent\"\n[trust]\ntime = \"accurate\"\n\
             [enrol]\nurl = \"{}\"\nretry = 1\n{}",
            self.http.url(),
            if more.contains("certificate =") {
                more.to_owned()
            } else {
                format!("reference = \"device-1\"\nsecret_file = \"enrol.secret\"\n{more}")
            }
        );
        let file = self.path("agent.toml");
        fs::write(&file, text).unwrap();
        file
    }

    fn config(&self, controller: Option<u16>, more: &str) -> Config {
        let file = self.write(controller, more);
        let text = fs::read_to_string(&file).unwrap();
        Config::parse(&text, &file, |_| None).unwrap()
    }

    fn enrolment(&self) -> Enrolment {
        let config = self.config(None, "");
        Enrolment::open(&config, &Clock::Accurate).unwrap().unwrap()
    }

    async fn controller(&self) -> Controller {
        let (chain, key) = self.ca.issue_endpoint(CONTROLLER, &["127.0.0.1"]);
        Controller::trusting(Issued { chain, key }, &self.ca.root_pem(), CONTROLLER).await
    }

    fn keys(&self) -> Keys {
        Keys::new(Store::open(&self.path("state")).unwrap())
    }

    /// The serial number of the certificate in use, after making sure that it is the only one, and that its key is there.
    fn in_use(&self) -> u64 {
        let mut keys = self.keys();
        assert_eq!(keys.coming().unwrap(), None, "nothing is left on its way");
        let credential = keys.in_use().unwrap().unwrap();
        assert_eq!(credential.state, KeyState::InUse);
        let chain = homefleet_trust::chain_from_pem(&credential.chain.unwrap()).unwrap();
        let leaf = Certificate::from_der(&chain[0]).unwrap();
        let parts = CertificateParts::read(&leaf).unwrap();
        let key = homefleet_net::cmp::entity::key_pair(&credential.key).unwrap();
        assert_eq!(
            homefleet_cmp::crypto::Signer::public_key(&key),
            parts.public_key
        );
        let records = self.ca.records();
        let record = records.iter().find(|record| record.certificate == leaf);
        let record = record.unwrap();
        assert_eq!(record.standing, Standing::Valid, "{records:#?}");
        record.serial
    }
}

/// The real program; it ends with this.
struct Running(Child);

impl Running {
    fn start(config: &Path, fault: Option<&str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_homefleet-agent"));
        command.args(["run", "--config"]).arg(config);
        if let Some(fault) = fault {
            command.env("HOMEFLEET_FAULT", fault);
        }
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// Waits until the fault has struck.
    async fn killed(mut self) {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                assert_eq!(status.signal(), Some(9), "{status}");
                return;
            }
            assert!(Instant::now() < end, "it goes on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn is_boot(notify: &Notify) -> bool {
    matches!(&notify.notification, Some(Notification::Event(event)) if event.event_name == "Boot!")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_nothing_but_a_secret_enrols_and_then_connects() {
    let world = World::new().await;
    let mut controller = world.controller().await;
    let config = world.config(Some(controller.port()), "");
    let agent = Agent::start(config).await.unwrap();
    controller.notified(is_boot).await;
    assert_eq!(world.ca.trace()[..2], ["ir ip", "certConf pkiconf"]);
    let serial = world.in_use();
    // What is seen of it in the data model: its own certificate, and the CA that came with it.
    let own = "Device.Security.Certificate.1.";
    let shown = controller.value(&format!("{own}SerialNumber")).await;
    assert_eq!(u64::from_str_radix(&shown, 16).unwrap(), serial);
    let names = controller.value(&format!("{own}SubjectAlt")).await;
    assert_eq!(names, format!("urn:bbf:usp:id:{AGENT}"));
    let ca = controller
        .value("Device.LocalAgent.Certificate.1.Issuer")
        .await;
    assert_eq!(ca, "CN=Test CMP CA");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_step_of_its_first_enrolment_it_ends_enrolled_with_one_certificate() {
    for fault in FAULTS {
        let world = World::new().await;
        let mut controller = world.controller().await;
        let config = world.write(Some(controller.port()), "");
        Running::start(&config, Some(fault)).killed().await;
        let _running = Running::start(&config, None);
        controller.notified(is_boot).await;
        world.in_use();
        // Whatever else was issued is revoked in the end, because nobody confirmed it.
        world.ca.pass(CONFIRM_WITHIN * 2);
        assert_eq!(
            world.ca.valid().len(),
            1,
            "{fault}: {:#?}",
            world.ca.trace()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_step_of_a_renewal_it_keeps_its_key_until_the_new_one_is_in_use() {
    for fault in FAULTS {
        let world = World::new().await;
        let mut controller = world.controller().await;
        // Due at once, and good for long enough yet.
        world.ca.change(|policy| policy.validity = (-86_400, 3_600));
        world.enrolment().ensure().await.unwrap();
        let first = world.in_use();
        world.ca.change(|policy| policy.validity = (-60, 86_400));
        let config = world.write(None, "");
        Running::start(&config, Some(fault)).killed().await;
        let config = world.write(Some(controller.port()), "");
        let in_use = world.keys().in_use().unwrap();
        assert!(
            in_use.is_some(),
            "{fault}: a working key is there at any time"
        );
        let _running = Running::start(&config, None);
        controller.notified(is_boot).await;
        until("the new certificate is in use", || {
            let mut keys = world.keys();
            keys.coming().unwrap().is_none()
        })
        .await;
        let second = world.in_use();
        assert_ne!(first, second, "{fault}");
        world.ca.pass(CONFIRM_WITHIN * 2);
        assert_eq!(
            world.ca.valid(),
            [first, second],
            "{fault}: {:#?}",
            world.ca.trace()
        );
        let kinds: Vec<_> = world
            .ca
            .records()
            .iter()
            .map(|record| record.kind)
            .collect();
        assert!(
            kinds[1..]
                .iter()
                .all(|kind| *kind == RequestKind::KeyUpdate),
            "{kinds:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let world = World::new().await;
    let mut controller = world.controller().await;
    world.ca.change(|policy| policy.validity = (-86_400, 3_600));
    world.enrolment().ensure().await.unwrap();
    let first = world.in_use();
    world.ca.change(|policy| policy.validity = (-60, 86_400));
    let config = world.config(Some(controller.port()), "");
    let agent = Agent::start(config).await.unwrap();
    controller.notified(is_boot).await;
    until("a second certificate", || world.ca.valid().len() == 2).await;
    let end = Instant::now() + PATIENCE;
    loop {
        let shown = controller
            .value("Device.Security.Certificate.*.SerialNumber")
            .await;
        if u64::from_str_radix(&shown, 16).unwrap() != first {
            break;
        }
        assert!(Instant::now() < end);
    }
    // A controller that connects now is shown the new one.
    let mut other = world.controller().await;
    other.agent = controller.agent.clone();
    other.value("Device.DeviceInfo.UpTime").await;
    let shown = other.shown().unwrap();
    let parts = CertificateParts::read(&Certificate::from_der(&shown).unwrap()).unwrap();
    let serial = parts
        .serial
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    assert_eq!(serial, world.in_use());
    assert_ne!(serial, first);
    agent.stop().await;
}

#[tokio::test]
async fn an_expired_certificate_is_updated_within_its_grace() {
    let world = World::new().await;
    world.ca.change(|policy| policy.validity = (-86_400, -60));
    // It is issued as expired: nothing is checked of it without the time.
    let config = world.config(None, "");
    let blind = Enrolment::open(&config, &Clock::Unknown).unwrap().unwrap();
    blind.ensure().await.unwrap();
    world.ca.change(|policy| {
        policy.validity = (-60, 86_400);
        policy.grace = 3_600;
    });
    world.enrolment().ensure().await.unwrap();
    assert_eq!(world.ca.trace()[2..], ["kur kup", "certConf pkiconf"]);
    world.in_use();
}

#[tokio::test]
async fn an_expired_certificate_that_the_ca_does_not_update_is_asked_for_anew() {
    let world = World::new().await;
    world.ca.change(|policy| {
        policy.validity = (-86_400, -60);
        policy.one_time = false;
    });
    let config = world.config(None, "");
    let blind = Enrolment::open(&config, &Clock::Unknown).unwrap().unwrap();
    blind.ensure().await.unwrap();
    world.ca.change(|policy| policy.validity = (-60, 86_400));
    world.enrolment().ensure().await.unwrap();
    assert_eq!(
        world.ca.trace()[2..],
        ["kur error", "ir ip", "certConf pkiconf"]
    );
    world.in_use();
}

#[tokio::test]
async fn after_its_grace_a_certificate_is_not_even_tried() {
    let world = World::new().await;
    world.ca.change(|policy| {
        policy.validity = (-86_400, -600);
        policy.one_time = false;
    });
    let config = world.config(None, "");
    let blind = Enrolment::open(&config, &Clock::Unknown).unwrap().unwrap();
    blind.ensure().await.unwrap();
    world.ca.change(|policy| policy.validity = (-60, 86_400));
    let config = world.config(None, "grace = 300\n");
    let enrolment = Enrolment::open(&config, &Clock::Accurate).unwrap().unwrap();
    enrolment.ensure().await.unwrap();
    assert_eq!(world.ca.trace()[2..], ["ir ip", "certConf pkiconf"]);
}

#[tokio::test]
async fn a_refused_device_comes_again_until_it_is_let_in() {
    let world = World::new().await;
    world
        .ca
        .change(|policy| policy.refuse = Some(Failure::NotAuthorized));
    let enrolment = world.enrolment();
    let (enrolled, ()) = tokio::join!(enrolment.ensure(), async {
        until("asked twice", || world.ca.trace().len() >= 2).await;
        world.ca.change(|policy| policy.refuse = None);
    });
    enrolled.unwrap();
    world.in_use();
}

#[tokio::test]
async fn an_operator_who_has_to_approve_is_waited_for() {
    let world = World::new().await;
    world.ca.change(|policy| policy.waits = 1);
    let enrolment = world.enrolment();
    let (enrolled, ()) = tokio::join!(enrolment.ensure(), async {
        until("polled", || {
            world.ca.trace().contains(&"pollReq pollRep".to_owned())
        })
        .await;
        world.ca.approve();
    });
    enrolled.unwrap();
    world.in_use();
    assert_eq!(world.ca.records().len(), 1);
}

#[tokio::test]
async fn a_certificate_for_somebody_else_is_declined() {
    let world = World::new().await;
    world.ca.change(|policy| policy.other_name = true);
    let enrolment = world.enrolment();
    let (enrolled, ()) = tokio::join!(enrolment.ensure(), async {
        until("declined", || {
            world
                .ca
                .records()
                .first()
                .is_some_and(|record| record.standing == Standing::Revoked)
        })
        .await;
        world.ca.change(|policy| policy.other_name = false);
    });
    enrolled.unwrap();
    world.in_use();
}

#[tokio::test]
async fn a_certificate_of_a_ca_that_is_not_trusted_is_declined() {
    // Protected by signatures, caPubs count for nothing: the manufacturer's device knows another CA than the one that issues.
    let (world, stranger) = (World::new().await, CmpCa::named("Another CA"));
    let (chain, key) = stranger.issue_endpoint("os::factory-1", &[]);
    let leaf = homefleet_trust::chain_from_pem(&chain).unwrap().remove(0);
    let leaf = Certificate::from_der(&leaf).unwrap();
    world.ca.change(|policy| policy.accepted.push(leaf));
    fs::write(world.path("factory.pem"), chain).unwrap();
    fs::write(world.path("factory.key"), key).unwrap();
    fs::write(world.path("other.pem"), stranger.root_pem()).unwrap();
    let more = "certificate = \"factory.pem\"\nkey = \"factory.key\"\nca = \"other.pem\"\n";
    let config = world.config(None, more);
    let enrolment = Enrolment::open(&config, &Clock::Accurate).unwrap().unwrap();
    let refused = tokio::time::timeout(Duration::from_secs(3), enrolment.ensure()).await;
    assert!(refused.is_err(), "it goes on asking");
    assert_eq!(world.ca.valid(), Vec::<u64>::new());
    // With the right CA it is enrolled.
    fs::write(world.path("other.pem"), world.ca.root_pem()).unwrap();
    let enrolment = Enrolment::open(&config, &Clock::Accurate).unwrap().unwrap();
    let identity = enrolment.ensure().await.unwrap();
    assert_eq!(identity.anchors[0].der(), world.ca.root().to_der());
    world.in_use();
}

#[tokio::test]
async fn a_wrong_secret_enrols_nobody() {
    let world = World::new().await;
    fs::write(world.path("enrol.secret"), "another").unwrap();
    let enrolment = world.enrolment();
    let refused = tokio::time::timeout(Duration::from_secs(3), enrolment.ensure()).await;
    assert!(refused.is_err(), "it goes on asking");
    assert!(world.ca.records().is_empty());
}

#[tokio::test]
async fn a_root_is_followed_by_the_one_that_it_has_signed() {
    let world = World::new().await;
    let enrolment = world.enrolment();
    enrolment.ensure().await.unwrap();
    assert!(enrolment.update_roots().await.unwrap().is_none(), "no news");
    // One that only says so.
    let impostor = CmpCa::named("Test CMP CA 2");
    world.ca.change(|policy| {
        policy.next_root = Some(impostor.root());
        policy.new_with_old = None;
    });
    assert!(enrolment.update_roots().await.unwrap().is_none());
    world
        .ca
        .change(|policy| policy.new_with_old = Some(impostor.root()));
    assert!(enrolment.update_roots().await.unwrap().is_none());
    // One that the old root has signed.
    let linked = world.ca.sign_root(&impostor);
    world.ca.change(|policy| policy.new_with_old = Some(linked));
    let identity = enrolment.update_roots().await.unwrap().unwrap();
    let anchors: Vec<_> = identity
        .anchors
        .iter()
        .map(|anchor| anchor.der().to_vec())
        .collect();
    assert_eq!(
        anchors,
        [world.ca.root().to_der(), impostor.root().to_der()]
    );
    assert!(
        enrolment.update_roots().await.unwrap().is_none(),
        "known already"
    );
}

/// The announcement that one root follows another, with both links.
fn followed(old: &CmpCa, new: &CmpCa) -> RootCaKeyUpdate {
    RootCaKeyUpdate {
        new_with_new: new.root(),
        new_with_old: Some(old.sign_root(new)),
        old_with_new: Some(new.sign_root(old)),
    }
}

/// The announcement that a root is given up, so long ago.
fn given_up(root: &CmpCa, ago: Duration) -> Body {
    let parts = CertificateParts::read(&root.root()).unwrap();
    let at = std::time::SystemTime::now() - ago;
    let at = at.duration_since(std::time::UNIX_EPOCH).unwrap();
    let at = GeneralizedTime::from_unix_duration(Duration::from_secs(at.as_secs())).unwrap();
    Body::Rann(RevocationAnnouncement {
        status: 5,
        cert_id: CertId {
            issuer: GeneralName::directory(&parts.issuer).unwrap(),
            serial_number: Int::new(&parts.serial).unwrap(),
        },
        will_be_revoked_at: at,
        bad_since_date: at,
        crl_details: None,
    })
}

fn update(update: &RootCaKeyUpdate) -> Body {
    Body::Ckuann(CaKeyUpdate::V3(update.clone()))
}

/// The CAs that came to the agent.
fn received(world: &World) -> Vec<Vec<u8>> {
    let anchors = world.keys().anchors().unwrap();
    anchors.iter().map(|root| root.der().to_vec()).collect()
}

#[tokio::test]
async fn an_announced_root_is_trusted_only_when_both_links_prove_it() {
    let world = World::new().await;
    let enrolment = world.enrolment();
    enrolment.ensure().await.unwrap();
    let (old, new) = (&world.ca, CmpCa::named("Test CMP CA 2"));
    let only = [old.root().to_der()];
    let good = followed(old, &new);
    // One that the old root has not signed, one that does not know the old root, one whose links are missing.
    let impostor = CmpCa::named("Test CMP CA 3");
    let unsigned = RootCaKeyUpdate {
        new_with_old: Some(impostor.sign_root(&new)),
        ..good.clone()
    };
    let unknowing = RootCaKeyUpdate {
        old_with_new: Some(impostor.sign_root(old)),
        ..good.clone()
    };
    let alone = RootCaKeyUpdate {
        old_with_new: None,
        ..good.clone()
    };
    for wrong in [unsigned, unknowing, alone] {
        let message = old.announced(vec![update(&wrong)], Vec::new());
        assert!(enrolment.hear(&message).unwrap().identity.is_none());
        assert_eq!(received(&world), only);
    }
    // The right one, said by somebody who is not believed.
    let message = impostor.announced(vec![update(&good)], Vec::new());
    assert!(enrolment.hear(&message).unwrap().identity.is_none());
    assert_eq!(received(&world), only);
    // By the CA.
    let message = old.announced(vec![update(&good)], Vec::new());
    let identity = enrolment.hear(&message).unwrap().identity.unwrap();
    assert_eq!(identity.anchors.len(), 2);
    let both = [old.root().to_der(), new.root().to_der()];
    assert_eq!(received(&world), both);
    assert!(
        enrolment.hear(&message).unwrap().identity.is_none(),
        "known"
    );
    assert!(enrolment.hear(b"").unwrap().identity.is_none(), "nothing");
    assert!(enrolment.hear(b"no message").is_err());
}

#[tokio::test]
async fn a_root_is_given_up_when_who_follows_it_says_so() {
    let world = World::new().await;
    let enrolment = world.enrolment();
    enrolment.ensure().await.unwrap();
    let (old, new) = (&world.ca, CmpCa::named("Test CMP CA 2"));
    let good = followed(old, &new);
    let link = good.new_with_old.clone().unwrap();
    let both = [old.root().to_der(), new.root().to_der()];
    // The old root cannot take itself away, and nothing is left without a root.
    let hour = Duration::from_secs(3600);
    let message = old.announced(vec![given_up(old, hour)], Vec::new());
    assert!(enrolment.hear(&message).unwrap().identity.is_none());
    let message = old.announced(vec![update(&good), given_up(old, hour)], Vec::new());
    assert!(enrolment.hear(&message).unwrap().identity.is_some());
    assert_eq!(received(&world), both);
    // The new one can, from the moment on that it names.
    let soon = given_up(old, Duration::ZERO);
    let Body::Rann(mut later) = soon else {
        panic!("a rann");
    };
    let ahead = std::time::SystemTime::now() + hour;
    let ahead = ahead.duration_since(std::time::UNIX_EPOCH).unwrap();
    later.will_be_revoked_at =
        GeneralizedTime::from_unix_duration(Duration::from_secs(ahead.as_secs())).unwrap();
    let message = new.announced(vec![Body::Rann(later)], vec![link.clone()]);
    assert!(enrolment.hear(&message).unwrap().identity.is_none());
    assert_eq!(received(&world), both);
    let message = new.announced(vec![given_up(old, hour)], vec![link]);
    let identity = enrolment.hear(&message).unwrap().identity.unwrap();
    assert_eq!(identity.anchors.len(), 1);
    assert_eq!(received(&world), [new.root().to_der()]);
}

#[tokio::test]
async fn a_root_of_a_file_stays_until_somebody_takes_it_out() {
    let world = World::new().await;
    fs::write(world.path("ca.pem"), world.ca.root_pem()).unwrap();
    let config = world.config(None, "ca = \"ca.pem\"\n");
    let enrolment = Enrolment::open(&config, &Clock::Accurate).unwrap().unwrap();
    enrolment.ensure().await.unwrap();
    let (old, new) = (&world.ca, CmpCa::named("Test CMP CA 2"));
    let good = followed(old, &new);
    let link = good.new_with_old.clone().unwrap();
    let given_up = given_up(old, Duration::from_secs(3600));
    let message = new.announced(vec![update(&good), given_up], vec![link]);
    assert!(enrolment.hear(&message).unwrap().identity.is_some());
    assert_eq!(received(&world), [new.root().to_der()]);
    // It is still believed: it stands in the file.
    let message = old.announced(vec![update(&good)], Vec::new());
    assert!(enrolment.hear(&message).is_ok());
    let third = CmpCa::named("Test CMP CA 3");
    let message = old.announced(vec![update(&followed(old, &third))], Vec::new());
    assert!(enrolment.hear(&message).unwrap().identity.is_some());
}

#[test]
fn a_secret_that_others_can_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    fs::write(&secret, SECRET).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    let file = directory.path().join("agent.toml");
    let text = "version = 1\nendpoint_id = \"self::a\"\n[enrol]\nurl = \"http://ca\"\nreference = \"a\"\nsecret_file = \"secret\"\n";
    let config = Config::parse(text, &file, |_| None).unwrap();
    let error = homefleet_agent::enrol::check(&config)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("enrol.secret_file") && error.contains("chmod 600"),
        "{error}"
    );
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    homefleet_agent::enrol::check(&config).unwrap();
    fs::write(&secret, "\n").unwrap();
    let error = homefleet_agent::enrol::check(&config)
        .unwrap_err()
        .to_string();
    assert!(error.contains("it is empty"), "{error}");
    assert!(
        !directory.path().join("state").exists(),
        "a check leaves no trace"
    );
}

#[test]
fn what_enrol_says_has_to_make_sense() {
    let refused = |more: &str| -> ConfigError {
        let text = format!("version = 1\nendpoint_id = \"self::a\"\n{more}");
        Config::parse(&text, Path::new("/etc/agent.toml"), |_| None).unwrap_err()
    };
    let url = "[enrol]\nurl = \"coaps://ca\"\n";
    let secret = "reference = \"a\"\nsecret_file = \"s\"\n";
    for (more, wanted) in [
        (format!("[enrol]\n{secret}"), "`enrol.url` is not set"),
        (url.to_owned(), "`enrol.reference` is not set"),
        (
            format!("{url}reference = \"a\"\n"),
            "`enrol.secret_file` is not set",
        ),
        (
            format!("{url}secret_file = \"a\"\n"),
            "`enrol.reference` is not set",
        ),
        (
            format!("{url}certificate = \"a\"\n"),
            "`enrol.key` is not set",
        ),
        (
            format!("{url}{secret}certificate = \"a\"\nkey = \"b\"\n"),
            "not by both",
        ),
        (format!("{url}{secret}"), "from-cmp"),
        (
            format!("{url}{secret}trust = \"all\"\n"),
            "`ca`, `from-cmp`",
        ),
        (format!("{url}{secret}colour = 1\n"), "colour"),
        (
            format!("{url}{secret}ca = \"c\"\nrenew_after = 99\n"),
            "10 to 95",
        ),
        (
            format!("{url}{secret}ca = \"c\"\nkey_type = \"dsa\"\n"),
            "`p256`",
        ),
        ("[enrol]\nurl = \"ftp://ca\"\n".to_owned(), "coap://"),
        (
            format!("[enrol]\nurl = \"coaps://ca/x\"\nlabel = \"y\"\nca = \"c\"\n{secret}"),
            "`enrol.label`",
        ),
        (
            format!("[trust]\ncertificate = \"a\"\nkey = \"b\"\n{url}ca = \"c\"\n{secret}"),
            "`trust.certificate`",
        ),
        (
            "[enrol]\nurl = \"http://ca\"\ncertificate = \"a\"\nkey = \"b\"\n".to_owned(),
            "`enrol.ca`",
        ),
    ] {
        let error = refused(&more).to_string();
        assert!(error.contains(wanted), "{more}: {error}");
    }
    let text = format!(
        "version = 1\nendpoint_id = \"self::a\"\n{url}label = \"home\"\n{secret}trust = \"from-cmp\"\n"
    );
    let config = Config::parse(&text, Path::new("/etc/agent.toml"), |_| None).unwrap();
    let enrol = config.enrol.unwrap();
    assert_eq!(enrol.url.to_string(), "coaps://ca/.well-known/cmp/p/home");
    assert_eq!((config.trust.own, enrol.renew_after), (None, 66));
}
