//! A new root in the place of the old one: announced, followed, switched to, the old one given up; and nobody is cut off.
#![allow(clippy::print_stdout)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use homefleet_cmp::asn1::{Certificate, RootCaKeyUpdate};
use homefleet_net::cmp::entity::Believed;
use homefleet_net::cmp::roots::{Link, NotProven, news, successor};
use homefleet_net::cmp::watch::{Heard, Schedule, Watch};
use homefleet_net::cmp::{Client, ClientConfig, ServerTrust, Url};
use homefleet_server::clock::Millis;
use homefleet_server::pki::{self, Begin, CaKeyKind, PkiError, Stage};
use homefleet_trust::{Anchor, Time, anchors_from_pem};
use tokio::sync::{Mutex, watch};

use super::openssl35;
use super::world::{DEVICE, SECRET, World, by_secret};
use crate::pki::world::PASSPHRASE;

const YEAR: Duration = Duration::from_secs(365 * 86_400);
const LIMIT: Duration = Duration::from_secs(300);
/// Devices that follow at the same time, and how many of them over DTLS.
const DEVICES: (usize, usize) = (1000, 100);

fn loopback() -> Option<SocketAddr> {
    Some(SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn now() -> Millis {
    Millis::from(SystemTime::now())
}

fn accurate() -> Time {
    Time::Accurate(SystemTime::now())
}

async fn world() -> World {
    World::with(|config| {
        config.cmp.coap_listen = loopback();
        config.cmp.coaps_listen = loopback();
    })
    .await
}

impl World {
    fn begin(&self) -> Begin {
        Begin {
            directory: self.config.pki_directory(),
            root_key: None,
            root_passphrase: PASSPHRASE.to_owned().into(),
            new_passphrase: None,
            key: CaKeyKind::P256,
            lifetime: 20 * YEAR,
            issuing_lifetime: 10 * YEAR,
            root_crl_urls: Vec::new(),
            root_ca_issuers_urls: Vec::new(),
            iterations: Some(1000),
        }
    }

    async fn step(&self, stage: Stage) {
        let directory = self.config.pki_directory();
        match stage {
            Stage::Announced => pki::begin(&self.begin(), now()).unwrap(),
            Stage::Switched => pki::switch(&directory, now()).unwrap(),
            Stage::Retired => pki::retire(&directory, now()).unwrap(),
        }
        self.server.announce().await.unwrap();
    }

    /// The first root, as devices got it.
    fn root(&self) -> Anchor {
        Anchor::from_der(&self.read("root.der")).unwrap()
    }

    fn hierarchy(&self) -> pki::Hierarchy {
        pki::hierarchy(&self.config.pki_directory()).unwrap()
    }

    /// Writes the newest root and all links where `openssl` finds them.
    fn write_new_root(&self) {
        let last = self.hierarchy().rollovers.last().cloned().unwrap();
        for (name, der) in [
            ("new", &last.new),
            ("new-with-old", &last.new_with_old),
            ("old-with-new", &last.old_with_new),
        ] {
            std::fs::write(self.path(&format!("{name}.der")), der).unwrap();
            self.shell(&format!(
                "openssl x509 -inform DER -in {name}.der -out {name}.pem"
            ));
        }
    }

    /// Asks for the next certificate with the one of `NAME`, believing this root and nothing else.
    async fn renews(&self, name: &str, root: &str) -> (bool, String) {
        self.key("next");
        self.cmp(&format!(
            "-cmd kur -cert {name}.pem -key {name}.key -trusted {root}.pem -newkey next.key -certout next.pem -extracertsout extra.pem"
        ))
        .await
    }
}

/// A device as far as whom it trusts goes.
struct Device {
    trusted: Mutex<Vec<Anchor>>,
    changed: watch::Sender<usize>,
    heard: watch::Sender<usize>,
}

impl Device {
    fn start(url: Url, root: Anchor) -> (Arc<Self>, tokio::task::JoinHandle<()>) {
        let device = Arc::new(Self {
            trusted: Mutex::new(vec![root]),
            changed: watch::Sender::new(1),
            heard: watch::Sender::new(0),
        });
        let task = tokio::spawn(Arc::clone(&device).follow(url));
        (device, task)
    }

    async fn follow(self: Arc<Self>, url: Url) {
        let client = Client::new(ClientConfig::new(ServerTrust::FromCmp)).unwrap();
        let schedule = Schedule {
            first: Duration::from_millis(500),
            ..Schedule::default()
        };
        let mut watch = Watch::new(client, url, schedule);
        loop {
            let Heard::Announced { message, kept } = watch.next().await else {
                continue;
            };
            assert!(kept);
            let mut trusted = self.trusted.lock().await;
            let believed = Believed::new(trusted.clone());
            let news = news(&message, &believed).unwrap();
            assert_eq!(news.refused, Vec::<String>::new());
            if news.apply(&mut trusted, accurate()) {
                self.changed.send_modify(|changes| *changes += 1);
            }
            self.heard.send_modify(|heard| *heard += 1);
        }
    }

    async fn until(&self, changes: usize) {
        let mut changed = self.changed.subscribe();
        let until = changed.wait_for(|known| *known >= changes);
        tokio::time::timeout(LIMIT, until).await.unwrap().unwrap();
    }

    async fn trusts(&self) -> Vec<Vec<u8>> {
        let trusted = self.trusted.lock().await;
        trusted.iter().map(|root| root.der().to_vec()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_devices_follow_a_new_root_and_give_the_old_one_up() {
    let world = world().await;
    let old = world.root();
    let plain = world.server.cmp_coap_addr().unwrap();
    let secure = world.server.cmp_coaps_addr().unwrap();
    let (all, with_dtls) = DEVICES;
    let devices: Vec<_> = (0..all)
        .map(|number| {
            let url = if number < with_dtls {
                format!("coaps://{secure}")
            } else {
                format!("coap://{plain}")
            };
            Device::start(url.parse().unwrap(), old.clone())
        })
        .collect();
    // The list of revoked certificates is what is announced at first.
    for (device, _) in &devices {
        let mut heard = device.heard.subscribe();
        let first = heard.wait_for(|heard| *heard > 0);
        tokio::time::timeout(LIMIT, first).await.unwrap().unwrap();
    }

    let begun = std::time::Instant::now();
    world.step(Stage::Announced).await;
    let new = world.hierarchy().roots[0].clone();
    for (device, _) in &devices {
        device.until(2).await;
        assert_eq!(device.trusts().await, [old.der().to_vec(), new.clone()]);
    }
    println!(
        "{all} devices trust the new root after {:?}",
        begun.elapsed()
    );

    // What certificates lead to changes; whom devices trust does not.
    world.step(Stage::Switched).await;
    let begun = std::time::Instant::now();
    world.step(Stage::Retired).await;
    for (device, _) in &devices {
        device.until(3).await;
        assert_eq!(device.trusts().await, std::slice::from_ref(&new));
    }
    println!(
        "{all} devices gave the old root up after {:?}",
        begun.elapsed()
    );
    for (_, task) in devices {
        task.abort();
    }
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_trusts_one_root_only_renews_at_each_step() {
    let world = world().await;
    world.enrol("device", DEVICE).await;
    for stage in [Stage::Announced, Stage::Switched, Stage::Retired] {
        world.step(stage).await;
        if stage == Stage::Announced {
            world.write_new_root();
        }
        // One that slept, and one that was given the new root only.
        for root in ["root", "new"] {
            let (good, printed) = world.renews("device", root).await;
            assert!(good, "{stage:?} by {root}\n{printed}");
            // A certificate is updated once: go on with the next.
            world.shell("mv next.pem device.pem; mv next.key device.key; rm extra.pem");
        }
    }
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_lead_to_the_new_root_once_it_is_switched_to() {
    let world = world().await;
    let root_of = async |name: &str, device: &str| {
        world.add_secret(device, SECRET).await;
        world.key(name);
        let (good, printed) = world
            .cmp(&format!(
                "-cmd ir {} -newkey {name}.key -subject /CN=new -certout {name}.pem -cacertsout {name}-root.pem -extracertsout {name}-extra.pem",
                by_secret(device)
            ))
            .await;
        assert!(good, "{printed}");
        world.shell(&format!(
            "openssl verify -partial_chain -CAfile {name}-root.pem -untrusted {name}-extra.pem {name}.pem"
        ));
        let pem = String::from_utf8(world.read(&format!("{name}-root.pem"))).unwrap();
        anchors_from_pem(&pem).unwrap()[0].der().to_vec()
    };
    let old = world.root().der().to_vec();
    world.step(Stage::Announced).await;
    assert_eq!(root_of("first", "os::00D09E-1").await, old);
    world.step(Stage::Switched).await;
    let new = world.hierarchy().roots[0].clone();
    assert_eq!(root_of("second", "os::00D09E-2").await, new);
    // What was issued before is verified by the issuing CA's certificate of either root.
    world.write_new_root();
    let issuing = &world.hierarchy().issuing[0];
    std::fs::write(world.path("issuing.der"), issuing).unwrap();
    world.shell("openssl x509 -inform DER -in issuing.der -out issuing.pem");
    world.shell("openssl verify -CAfile new.pem -untrusted issuing.pem first.pem");
    world.shell("cat issuing.pem new-with-old.pem > chain.pem; openssl verify -CAfile root.pem -untrusted chain.pem second.pem");
    world.shell("cat ca.pem old-with-new.pem > chain.pem; openssl verify -CAfile new.pem -untrusted chain.pem first.pem");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_slept_through_it_learns_of_the_new_root_by_asking() {
    let Some(program) = openssl35::program() else {
        return;
    };
    let world = world().await;
    world.enrol("device", DEVICE).await;
    for stage in [Stage::Announced, Stage::Switched, Stage::Retired] {
        world.step(stage).await;
    }
    world.write_new_root();
    let (good, printed) = world
        .cmp_by(
            &program,
            ".well-known/cmp/getrootupdate",
            "-cmd genm -infotype rootCaCert -cert device.pem -key device.key -trusted root.pem -untrusted ca.pem \
             -oldwithold root.pem -newwithnew got.pem -newwithold got-nwo.pem -oldwithnew got-own.pem",
        )
        .await;
    assert!(good, "{printed}");
    for (got, made) in [
        ("got", "new"),
        ("got-nwo", "new-with-old"),
        ("got-own", "old-with-new"),
    ] {
        world.shell(&format!(
            "openssl x509 -in {got}.pem -outform DER | cmp - {made}.der"
        ));
    }
    // Nothing has followed the new one.
    let (good, printed) = world
        .cmp_by(
            &program,
            ".well-known/cmp/getrootupdate",
            "-cmd genm -infotype rootCaCert -cert device.pem -key device.key -trusted new.pem -untrusted ca.pem -oldwithold new.pem -newwithnew none.pem",
        )
        .await;
    assert!(!world.path("none.pem").exists(), "{good} {printed}");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_survives_a_restart_and_goes_on_to_the_next_root() {
    let world = world().await;
    let first = world.root();
    for stage in [Stage::Announced, Stage::Switched, Stage::Retired] {
        world.step(stage).await;
    }
    let world = world.restart().await;
    for stage in [Stage::Announced, Stage::Switched, Stage::Retired] {
        world.step(stage).await;
    }
    assert_eq!(world.hierarchy().rollovers.len(), 2);
    // Who slept through both is led over both links.
    let url: Url = format!("coap://{}", world.server.cmp_coap_addr().unwrap())
        .parse()
        .unwrap();
    let (device, task) = Device::start(url, first);
    device.until(2).await;
    let newest = world.hierarchy().roots[0].clone();
    assert_eq!(device.trusts().await, [newest]);
    task.abort();
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_out_of_order_are_refused_and_change_nothing() {
    let world = world().await;
    let directory = world.config.pki_directory();
    let refused = |result: Result<(), PkiError>, says: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    refused(pki::switch(&directory, now()), "begin one first");
    refused(pki::retire(&directory, now()), "begin one first");
    let begin = world.begin();
    let wrong = Begin {
        root_passphrase: "something else".to_owned().into(),
        ..begin.clone()
    };
    assert_eq!(
        pki::begin(&wrong, now()),
        Err(PkiError::WrongPassphrase(directory.join("root.key")))
    );
    let away = Begin {
        root_key: Some(directory.join("nowhere.key")),
        ..begin.clone()
    };
    refused(pki::begin(&away, now()), "is not there");
    let other = Begin {
        root_key: Some(directory.join("issuing.key")),
        ..begin.clone()
    };
    assert_eq!(pki::begin(&other, now()), Err(PkiError::KeyDiffers));
    let long = Begin {
        issuing_lifetime: 21 * YEAR,
        ..begin.clone()
    };
    refused(pki::begin(&long, now()), "outlive");
    assert!(world.hierarchy().rollovers.is_empty());

    pki::begin(&begin, now()).unwrap();
    refused(pki::begin(&begin, now()), "not finished");
    refused(pki::retire(&directory, now()), "switch first");
    pki::switch(&directory, now()).unwrap();
    refused(pki::switch(&directory, now()), "further already");
    pki::retire(&directory, now()).unwrap();
    refused(pki::retire(&directory, now()), "begin one first");
    assert_eq!(world.hierarchy().rollovers.len(), 1);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_is_followed_only_where_both_links_prove_it() {
    let world = world().await;
    world.step(Stage::Announced).await;
    let last = world.hierarchy().rollovers.last().cloned().unwrap();
    let read = |der: &[u8]| Certificate::from_der(der).unwrap();
    let old = world.root();
    let update = RootCaKeyUpdate {
        new_with_new: read(&last.new),
        new_with_old: Some(read(&last.new_with_old)),
        old_with_new: Some(read(&last.old_with_new)),
    };
    let judged = |update: &RootCaKeyUpdate| successor(&old, update, accurate(), true);
    assert_eq!(judged(&update).unwrap().der(), last.new);

    let with = |change: &dyn Fn(&mut RootCaKeyUpdate)| {
        let mut update = update.clone();
        change(&mut update);
        judged(&update).unwrap_err()
    };
    let missing = |link| NotProven::Missing(link);
    assert_eq!(
        with(&|it| it.new_with_old = None),
        missing(Link::NewWithOld)
    );
    assert_eq!(
        with(&|it| it.old_with_new = None),
        missing(Link::OldWithNew)
    );
    let answer = RootCaKeyUpdate {
        old_with_new: None,
        ..update.clone()
    };
    assert!(successor(&old, &answer, accurate(), false).is_ok());
    // The links changed for each other, and for the roots themselves.
    assert_eq!(
        with(&|it| it.new_with_old = Some(read(&last.old_with_new))),
        NotProven::Key(Link::NewWithOld)
    );
    assert_eq!(
        with(&|it| it.old_with_new = Some(read(&last.new_with_old))),
        NotProven::Key(Link::OldWithNew)
    );
    assert_eq!(
        with(&|it| it.new_with_old = Some(read(&last.new))),
        NotProven::Signature(Link::NewWithOld)
    );
    assert_eq!(
        with(&|it| it.old_with_new = Some(read(old.der()))),
        NotProven::Signature(Link::OldWithNew)
    );
    assert_eq!(
        with(&|it| it.new_with_new = read(&last.new_with_old)),
        NotProven::Signature(Link::NewWithNew)
    );
    // Who has a certificate of the old root, and is no CA, makes no root of itself.
    world.shell(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout e.key -subj /CN=evil -days 9 -out e.pem -outform PEM 2>/dev/null
         openssl pkcs8 -in ca/root.key -passin 'pass:correct horse' -out root.plain
         openssl req -new -key e.key -subj /CN=evil -out e.csr
         printf 'basicConstraints=CA:false\n' > e.ext
         openssl x509 -req -in e.csr -CA root.pem -CAkey root.plain -set_serial 7 -days 9 -extfile e.ext -outform DER -out e.der 2>/dev/null
         openssl x509 -in e.pem -outform DER -out e-self.der",
    );
    assert_eq!(
        with(&|it| {
            it.new_with_new = read(&world.read("e-self.der"));
            it.new_with_old = Some(read(&world.read("e.der")));
        }),
        NotProven::NoCa(Link::NewWithOld)
    );
    // Long before, and long after.
    for at in [SystemTime::now() - YEAR, SystemTime::now() + 30 * YEAR] {
        let error = successor(&old, &update, Time::Accurate(at), true).unwrap_err();
        assert_eq!(error, NotProven::Date(Link::NewWithNew));
    }
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_is_not_given_up_by_what_only_it_vouches_for() {
    let world = world().await;
    for stage in [Stage::Announced, Stage::Switched, Stage::Retired] {
        world.step(stage).await;
    }
    let url: Url = format!("coap://{}", world.server.cmp_coap_addr().unwrap())
        .parse()
        .unwrap();
    let client = Client::new(ClientConfig::new(ServerTrust::FromCmp)).unwrap();
    let bulletin = client.observe(&url).await.unwrap().next().await;
    let bulletin = bulletin.unwrap().unwrap();
    let old = world.root();
    let new = Anchor::from_der(&world.hierarchy().roots[0]).unwrap();
    // Both roots, or the old one that the new one follows: it goes.
    let heard = news(&bulletin, &Believed::new(vec![old.clone(), new.clone()])).unwrap();
    assert_eq!((heard.followed.len(), heard.retired.len()), (0, 1));
    assert_eq!(heard.certificates.len(), 1);
    assert_eq!(heard.lists.len(), 1);
    let mut trusted = vec![old.clone(), new.clone()];
    assert!(!heard.apply(&mut trusted, Time::Unknown));
    assert!(heard.apply(&mut trusted, accurate()));
    assert_eq!(trusted.len(), 1);
    // The last one stays, whatever is announced.
    let mut last = vec![old.clone()];
    assert!(!heard.apply(&mut last, accurate()));
    // Nobody but the old root vouches for it: nothing is believed of what would replace it by nothing.
    let mut spoiled = heard;
    spoiled.followed.clear();
    assert!(!spoiled.apply(&mut last, accurate()));
    // Whom nobody vouches for says nothing.
    let stranger = crate::live::Authority::new("stranger");
    let stranger = anchors_from_pem(&stranger.pem).unwrap();
    assert!(news(&bulletin, &Believed::new(stranger)).is_err());
    world.server.stop().await;
}

/// The configuration of an agent that enrols at this server over CoAP, and does nothing else.
fn agent(world: &World) -> homefleet_agent::Config {
    use std::os::unix::fs::PermissionsExt as _;

    let secret = world.path("agent.secret");
    std::fs::write(&secret, SECRET).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "version = 1\nendpoint_id = \"{DEVICE}\"\ndata_dir = \"agent\"\nlisten = \"127.0.0.1:0\"\n\
         [device]\nrestart = \"agent\"\n[trust]\ntime = \"accurate\"\n\
         [enrol]\nurl = \"coap://{}\"\nretry = 1\nreference = \"{DEVICE}\"\nsecret_file = \"agent.secret\"\n",
        world.server.cmp_coap_addr().unwrap()
    );
    homefleet_agent::Config::parse(&text, &world.path("agent.toml"), |_| None).unwrap()
}

/// Waits until the agent trusts these roots of its CA, as its state says.
async fn trusts(config: &homefleet_agent::Config, roots: &[Vec<u8>]) {
    let holds = async {
        loop {
            let identity = homefleet_agent::enrol::look(config).unwrap();
            let trusted: Vec<Vec<u8>> = identity
                .iter()
                .flat_map(|identity| identity.anchors.iter().map(|root| root.der().to_vec()))
                .collect();
            if trusted == roots {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, holds).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_follows_while_it_runs_and_asks_when_it_has_slept() {
    let world = world().await;
    world.add_secret(DEVICE, SECRET).await;
    let config = agent(&world);
    let running = homefleet_agent::Agent::start(config.clone()).await.unwrap();
    let first = world.root().der().to_vec();
    trusts(&config, std::slice::from_ref(&first)).await;

    world.step(Stage::Announced).await;
    let second = world.hierarchy().roots[0].clone();
    trusts(&config, &[first, second.clone()]).await;
    world.step(Stage::Switched).await;
    world.step(Stage::Retired).await;
    trusts(&config, std::slice::from_ref(&second)).await;
    running.stop().await;

    // While it sleeps the next one comes and goes.
    for stage in [Stage::Announced, Stage::Switched, Stage::Retired] {
        world.step(stage).await;
    }
    let third = world.hierarchy().roots[0].clone();
    let clock = homefleet_agent::provider::time::Clock::Accurate;
    let enrolment = homefleet_agent::enrol::Enrolment::open(&config, &clock);
    let enrolment = enrolment.unwrap().unwrap();
    assert!(enrolment.update_roots().await.unwrap().is_some());
    trusts(&config, &[second, third.clone()]).await;
    // And what it has not heard it hears now.
    let running = homefleet_agent::Agent::start(config.clone()).await.unwrap();
    trusts(&config, &[third]).await;
    running.stop().await;
    world.server.stop().await;
}
