//! Certificates beside the CAs of the configuration: those stored for a Controller, those that come with the first use,
//! and CAs that a Controller adds (R-SEC.4, R-SEC.6 to R-SEC.8, R-SEC.22a, R-SEC.24a).

use std::{path::Path, time::Duration};

use homefleet_agent::{
    Agent, Config,
    engine::{CertificateInfo, Peer, Trusted},
    store::Store,
};
use homefleet_net::mtp::{Destination, SendError};
use homefleet_trust::{Basis, StoredCertificate};
use homefleet_usp::{
    Message,
    message::{Body, Response, delete, get, operate, set, update_object},
    proto::msg::{Notify, notify::Notification, operate_resp::operation_result::OperationResp},
};

use crate::{
    bench::{AGENT, Bench, CA, CONTROLLER, FULL_ACCESS, STRANGER, settings},
    pki::{Ca, Controller, Issued, der, install, self_signed, sessions_become},
};

const TRUST: &str = "Device.LocalAgent.ControllerTrust.";
const GUEST: &str = "Device.LocalAgent.Controller.2.";
const UNTRUSTED: &str = "Device.LocalAgent.ControllerTrust.Role.2";

/// Somebody with this certificate, trusted on first use.
fn first(certificate: &Issued) -> Peer {
    let der = der(&certificate.chain);
    Peer {
        basis: Basis::FirstUse,
        fingerprint: CertificateInfo::from_der(&der).unwrap().sha256,
        anchor: None,
        certificate: Some(der),
    }
}

fn stored(peer: &Peer, endpoint_id: &str) -> StoredCertificate {
    StoredCertificate {
        fingerprint: peer.fingerprint,
        endpoint_id: endpoint_id.into(),
    }
}

fn latest(bench: &Bench) -> Trusted {
    bench.trusted.last().unwrap().clone()
}

/// The code of the Error that the stranger gets with this certificate, 0 for a response.
fn code(bench: &mut Bench, from: &str, peer: &Peer) -> u32 {
    let own = std::mem::replace(&mut bench.peer, peer.clone());
    let answer = bench.ask_as(from, get(["Device.X_Test.Label"], 0));
    bench.peer = own;
    match answer {
        Body::Error(error) => error.err_code,
        _ => 0,
    }
}

#[test]
fn r_sec_6_who_comes_first_is_entered_as_untrusted_with_its_certificate() {
    let mut bench = Bench::new();
    let peer = first(&self_signed(STRANGER));
    assert_eq!(code(&mut bench, STRANGER, &peer), 7006);
    let values = bench.values(GUEST);
    let value = |name: &str| values[&format!("{GUEST}{name}")].as_str();
    assert_eq!(value("EndpointID"), STRANGER);
    assert_eq!(value("Enable"), "true");
    assert_eq!(value("AssignedRole"), UNTRUSTED);
    assert_eq!(value("Credential"), "Device.LocalAgent.Certificate.2");
    let issuer = bench.value("Device.LocalAgent.Certificate.2.Issuer");
    assert_eq!(issuer, format!("CN={STRANGER}"));
    // R-SEC.8: from now on this certificate is this Endpoint's.
    let trusted = latest(&bench);
    assert_eq!(trusted.stored, [stored(&peer, STRANGER)]);
    assert!(trusted.known.contains(&STRANGER.to_owned()));
}

#[test]
fn r_sec_7_a_controller_with_the_right_changes_the_role_of_one_that_came_first() {
    let mut bench = Bench::new();
    let mut peer = first(&self_signed(STRANGER));
    assert_eq!(code(&mut bench, STRANGER, &peer), 7006);
    bench.set(GUEST, "AssignedRole", FULL_ACCESS);
    assert_eq!(code(&mut bench, STRANGER, &peer), 0);
    peer.basis = Basis::StoredCertificate;
    assert_eq!(code(&mut bench, STRANGER, &peer), 0);
}

#[test]
fn r_sec_8_another_certificate_that_claims_the_same_endpoint_is_refused() {
    let mut bench = Bench::new();
    let peer = first(&self_signed(STRANGER));
    code(&mut bench, STRANGER, &peer);
    bench.set(GUEST, "AssignedRole", FULL_ACCESS);
    let other = first(&self_signed(STRANGER));
    assert_eq!(code(&mut bench, STRANGER, &other), 7006);
    // Nor does a certificate that is stored for one Endpoint speak for another.
    let stored_elsewhere = Peer {
        basis: Basis::StoredCertificate,
        ..peer.clone()
    };
    assert_eq!(code(&mut bench, CONTROLLER, &stored_elsewhere), 7006);
    assert_eq!(code(&mut bench, CONTROLLER, &other), 7006);
    assert_eq!(code(&mut bench, STRANGER, &peer), 0);
    assert_eq!(latest(&bench).stored, [stored(&peer, STRANGER)]);
}

#[test]
fn r_sec_8_what_was_accepted_is_remembered_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Bench::started(settings(), Store::open(directory.path()).unwrap());
    let peer = first(&self_signed(STRANGER));
    let mut bench = open();
    code(&mut bench, STRANGER, &peer);
    bench.set(GUEST, "AssignedRole", FULL_ACCESS);
    drop(bench);
    let mut bench = open();
    assert_eq!(latest(&bench).stored, [stored(&peer, STRANGER)]);
    let peer = Peer {
        basis: Basis::StoredCertificate,
        ..peer
    };
    assert_eq!(code(&mut bench, STRANGER, &peer), 0);
}

#[test]
fn r_sec_24_an_unknown_controller_of_a_trusted_ca_is_entered_as_untrusted_too() {
    let mut bench = Bench::new();
    let peer = bench.peer.clone();
    assert_eq!(code(&mut bench, STRANGER, &peer), 7006);
    assert_eq!(bench.value(&format!("{GUEST}AssignedRole")), UNTRUSTED);
    assert_eq!(bench.value(&format!("{GUEST}Credential")), "");
    assert!(latest(&bench).stored.is_empty());
}

#[test]
fn the_number_of_unknown_controllers_is_bounded_and_the_longest_silent_goes() {
    let mut settings = settings();
    settings.limits.max_unknown_controllers = 2;
    let mut bench = Bench::started(settings, Store::in_memory().unwrap());
    let peers: Vec<(String, Peer)> = (0..4)
        .map(|at| {
            let name = format!("self::unknown-{at}");
            let peer = first(&self_signed(&name));
            (name, peer)
        })
        .collect();
    let come = |bench: &mut Bench, at: usize| {
        bench.pass(Duration::from_secs(1));
        let (name, peer) = &peers[at];
        code(bench, name, peer);
    };
    come(&mut bench, 0);
    come(&mut bench, 1);
    // The second one is given a role: it stays whatever comes.
    bench.set(
        "Device.LocalAgent.Controller.3.",
        "AssignedRole",
        FULL_ACCESS,
    );
    come(&mut bench, 2);
    come(&mut bench, 0);
    come(&mut bench, 3);
    let known = latest(&bench).known;
    assert_eq!(
        known,
        [
            CONTROLLER,
            "self::unknown-0",
            "self::unknown-1",
            "self::unknown-3"
        ]
    );
    assert_eq!(bench.engine.stats().controllers_forgotten, 1);
    // The certificate of the forgotten one is gone with it.
    assert_eq!(
        bench.value("Device.LocalAgent.CertificateNumberOfEntries"),
        "4"
    );
    assert_eq!(latest(&bench).stored.len(), 3);
}

#[test]
fn a_disabled_controller_does_not_come_back_by_coming() {
    let mut bench = Bench::new();
    let peer = first(&self_signed(STRANGER));
    code(&mut bench, STRANGER, &peer);
    bench.set(GUEST, "AssignedRole", FULL_ACCESS);
    bench.set(GUEST, "Enable", "false");
    assert_eq!(code(&mut bench, STRANGER, &peer), 7006);
    assert_eq!(
        bench.value("Device.LocalAgent.ControllerNumberOfEntries"),
        "2"
    );
}

#[test]
fn a_disabled_controller_does_not_come_back_under_its_name_written_in_another_way() {
    for (name, same) in [
        ("self::guest", "self::%67uest"),
        ("fqdn::guest.example", "fqdn::Guest.example"),
    ] {
        let mut bench = Bench::new();
        let peer = bench.peer.clone();
        code(&mut bench, name, &peer);
        bench.set(GUEST, "Enable", "false");
        assert_eq!(code(&mut bench, same, &peer), 7006);
        assert_eq!(latest(&bench).known, [CONTROLLER, name]);
    }
}

#[test]
fn controllers_that_come_are_bounded_even_where_their_ca_gives_them_a_role() {
    let mut bench = Bench::new();
    bench.set(&format!("{TRUST}Credential.1."), "Role", FULL_ACCESS);
    let peer = bench.peer.clone();
    let codes: Vec<u32> = (1..=256)
        .map(|at| code(&mut bench, &format!("self::many-{at}"), &peer))
        .collect();
    assert!(codes[..255].iter().all(|code| *code == 0));
    assert_eq!(codes[255], 7006);
    assert_eq!(latest(&bench).known.len(), 256);
}

#[test]
fn a_certificate_of_a_stranger_never_takes_the_place_of_a_trusted_ca() {
    let directory = tempfile::tempdir().unwrap();
    let open = |ca: Option<CertificateInfo>| {
        let mut settings = settings();
        settings.certificates.extend(ca);
        Bench::started(settings, Store::open(directory.path()).unwrap())
    };
    let stranger = first(&self_signed(STRANGER));
    let mut bench = open(None);
    code(&mut bench, STRANGER, &stranger);
    let own = latest(&bench).anchors;
    drop(bench);
    // A CA that bears the same serial number and issuer is configured, and taken out again later.
    let der = stranger.certificate.clone().unwrap();
    let ca = CertificateInfo {
        sha256: [7; 32],
        der: b"the second CA".to_vec(),
        ..CertificateInfo::from_der(&der).unwrap()
    };
    let bench = open(Some(ca.clone()));
    assert_eq!(latest(&bench).anchors, [own.clone(), vec![ca.der]].concat());
    assert!(latest(&bench).stored.is_empty());
    drop(bench);
    assert_eq!(latest(&open(None)).anchors, own);
}

#[test]
fn who_has_a_role_from_its_ca_does_not_make_room_for_strangers_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let mut settings = settings();
        settings.limits.max_unknown_controllers = 2;
        Bench::started(settings, Store::open(directory.path()).unwrap())
    };
    let mut bench = open();
    bench.set(&format!("{TRUST}Credential.1."), "Role", FULL_ACCESS);
    let vouched = bench.peer.clone();
    assert_eq!(code(&mut bench, "self::vouched", &vouched), 0);
    drop(bench);
    let mut bench = open();
    for at in 0..4 {
        let name = format!("self::stranger-{at}");
        code(&mut bench, &name, &first(&self_signed(&name)));
    }
    let known = latest(&bench).known;
    assert!(known.contains(&"self::vouched".to_owned()), "{known:?}");
}

#[test]
fn who_came_first_in_the_name_of_the_configured_controller_gives_way_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let open = |known: &str| {
        let mut settings = settings();
        settings.controller.as_mut().unwrap().endpoint_id = known.parse().unwrap();
        Bench::started(settings, Store::open(directory.path()).unwrap())
    };
    let squatter = first(&self_signed(STRANGER));
    let mut bench = open(CONTROLLER);
    code(&mut bench, STRANGER, &squatter);
    drop(bench);
    let mut bench = open(STRANGER);
    assert!(latest(&bench).stored.is_empty());
    let vouched = bench.peer.clone();
    assert_eq!(code(&mut bench, STRANGER, &vouched), 0);
    let stored = Peer {
        basis: Basis::StoredCertificate,
        ..squatter
    };
    assert_eq!(code(&mut bench, STRANGER, &stored), 7006);
}

#[test]
fn who_came_by_itself_and_is_deleted_leaves_nothing() {
    let mut bench = Bench::new();
    let peer = first(&self_signed(STRANGER));
    let number = "Device.LocalAgent.CertificateNumberOfEntries";
    for _ in 0..2 {
        code(&mut bench, STRANGER, &peer);
        assert_eq!(bench.value(number), "2");
        let guest = "Device.LocalAgent.Controller.[EndpointID==\"proto::stranger\"].";
        bench.ask(delete(false, [guest]));
        assert_eq!(bench.value(number), "1");
        assert!(latest(&bench).stored.is_empty());
    }
}

#[test]
fn what_came_in_by_a_ca_that_is_trusted_no_more_is_refused() {
    let mut bench = Bench::new();
    let credential = format!("{TRUST}Credential.1.");
    let params = [
        ("EndpointID", STRANGER),
        ("Enable", "true"),
        ("AssignedRole", FULL_ACCESS),
    ];
    bench.add("Device.LocalAgent.Controller.", &params);
    let peer = bench.peer.clone();
    let get = |bench: &mut Bench| code(bench, STRANGER, &peer);
    assert_eq!(get(&mut bench), 0);
    // The one that says so speaks for itself this last time.
    bench.set(&credential, "Enable", "false");
    assert_eq!(get(&mut bench), 7006);
}

#[test]
fn first_use_is_off_until_the_configuration_or_a_controller_says_otherwise() {
    let mut bench = Bench::new();
    assert!(!latest(&bench).first_use);
    assert_eq!(bench.value(&format!("{TRUST}TOFUAllowed")), "false");
    bench.set(TRUST, "TOFUAllowed", "true");
    bench.set(TRUST, "TOFUInactivityTimer", "5");
    let trusted = latest(&bench);
    assert!(trusted.first_use);
    assert_eq!(trusted.first_use_idle.as_secs(), 5);

    let directory = tempfile::tempdir().unwrap();
    let open = |first_use| {
        let mut settings = settings();
        settings.first_use = first_use;
        Bench::started(settings, Store::open(directory.path()).unwrap())
    };
    let mut bench = open(Some((true, 7)));
    assert!(latest(&bench).first_use && latest(&bench).first_use_idle.as_secs() == 7);
    // What a Controller says lasts until the file says something else.
    bench.set(TRUST, "TOFUAllowed", "false");
    drop(bench);
    assert!(!latest(&open(Some((true, 7)))).first_use);
    assert!(latest(&open(Some((true, 8)))).first_use);
    assert!(!latest(&open(Some((false, 8)))).first_use);
}

/// The outcome of a command: the code of its failure, 0 for success.
fn call(bench: &mut Bench, from: &str, command: &str, args: &[(&str, &str)]) -> u32 {
    let args = args
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    match bench.ask_as(from, operate(command, "", true, args)) {
        Body::Response(Response::OperateResp(answer)) => {
            match answer.operation_results[0].operation_resp.clone().unwrap() {
                OperationResp::CmdFailure(failure) => failure.err_code,
                _ => 0,
            }
        }
        Body::Error(error) => error.err_code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_ca_that_a_controller_adds_is_trusted_once_a_credential_names_it() {
    let mut bench = Bench::new();
    let pem = Ca::new().pem();
    let add = "Device.LocalAgent.AddCertificate()";
    assert_eq!(call(&mut bench, CONTROLLER, add, &[]), 7027);
    assert_eq!(
        call(&mut bench, CONTROLLER, add, &[("Certificate", "nonsense")]),
        7027
    );
    let args = [("Certificate", pem.as_str()), ("Alias", "second")];
    assert_eq!(call(&mut bench, CONTROLLER, add, &args), 0);
    assert_eq!(
        call(&mut bench, CONTROLLER, add, &args),
        7022,
        "it is there already"
    );
    assert_eq!(
        bench.value("Device.LocalAgent.Certificate.2.Alias"),
        "second"
    );
    let anchors = |bench: &Bench| latest(bench).anchors;
    let own = anchors(&bench);
    assert!(!own.contains(&der(&pem)));
    let params = [
        ("Credential", "Device.LocalAgent.Certificate.2"),
        ("AllowedUses", "MTP-and-USP"),
        ("Enable", "true"),
    ];
    let credential = bench.add(&format!("{TRUST}Credential."), &params);
    assert!(anchors(&bench).contains(&der(&pem)));
    for (object, param, off, on) in [
        (credential.as_str(), "Enable", "false", "true"),
        (
            credential.as_str(),
            "AllowedUses",
            "MTP-only",
            "MTP-and-USP",
        ),
        (
            "Device.LocalAgent.Certificate.2.",
            "Enable",
            "false",
            "true",
        ),
    ] {
        bench.set(object, param, off);
        assert_eq!(anchors(&bench), own, "{object}{param}");
        bench.set(object, param, on);
        assert_ne!(anchors(&bench), own, "{object}{param}");
    }
    let delete = "Device.LocalAgent.Certificate.2.Delete()";
    assert_eq!(call(&mut bench, CONTROLLER, delete, &[]), 0);
    assert_eq!(anchors(&bench), own);
    assert_eq!(bench.value(&format!("{credential}Credential")), "");
    let delete = "Device.LocalAgent.Certificate.1.Delete()";
    assert_eq!(
        call(&mut bench, CONTROLLER, delete, &[]),
        7022,
        "it is the file's"
    );
}

#[test]
fn a_controller_adds_certificates_of_its_own_alone() {
    let mut bench = Bench::new();
    let issued = self_signed(CONTROLLER);
    let peer = first(&issued);
    let args = [("Certificate", issued.chain.as_str())];
    bench.add(
        "Device.LocalAgent.Controller.",
        &[
            ("EndpointID", STRANGER),
            ("Enable", "true"),
            ("AssignedRole", FULL_ACCESS),
        ],
    );
    let command = "Device.LocalAgent.Controller.1.AddMyCertificate()";
    assert_eq!(call(&mut bench, STRANGER, command, &args), 7006);
    assert_eq!(call(&mut bench, CONTROLLER, command, &args), 0);
    assert_eq!(latest(&bench).stored, [stored(&peer, CONTROLLER)]);
    let peer = Peer {
        basis: Basis::StoredCertificate,
        ..peer
    };
    assert_eq!(code(&mut bench, CONTROLLER, &peer), 0);
    assert_eq!(code(&mut bench, STRANGER, &peer), 7006);
    // Unless a CA vouches for that name: what one says is its own takes nothing from another.
    let peer = Peer {
        anchor: Some(CA),
        ..peer
    };
    assert_eq!(code(&mut bench, STRANGER, &peer), 0);
}

#[test]
fn certificates_are_bounded() {
    let mut bench = Bench::new();
    let add = "Device.LocalAgent.AddCertificate()";
    let codes: Vec<u32> = (0..64)
        .map(|at| {
            let pem = self_signed(&format!("self::{at}")).chain;
            call(&mut bench, CONTROLLER, add, &[("Certificate", &pem)])
        })
        .collect();
    assert!(codes[..63].iter().all(|code| *code == 0));
    assert_eq!(codes[63], 7022);
}

/// Two CAs of one chain are trusted, each with a role of its own.
#[test]
fn r_sec_25_the_first_trusted_ca_of_the_chain_gives_the_role() {
    let root = Ca::new();
    let issuing = root.intermediate();
    let issued = issuing.issue(STRANGER);
    let certificates =
        [&root, &issuing].map(|ca| CertificateInfo::from_der(&der(&ca.pem())).unwrap());
    let mut settings = settings();
    settings.certificates.extend(certificates);
    let mut bench = Bench::started(settings, Store::in_memory().unwrap());
    for (row, role) in [("2", FULL_ACCESS), ("3", UNTRUSTED)] {
        bench.set(&format!("{TRUST}Credential.{row}."), "Role", role);
    }
    let anchors: Vec<_> = [&root, &issuing]
        .iter()
        .map(|ca| homefleet_trust::Anchor::from_der(&der(&ca.pem())).unwrap())
        .collect();
    let policy = homefleet_trust::Policy::default();
    let context = homefleet_trust::Context::new(
        &anchors,
        homefleet_trust::Time::Unknown,
        homefleet_trust::Connection::Accepted,
        &policy,
    );
    // Leaf and intermediate, whose own issuer is trusted too.
    let chain = [der(&issued.chain), der(&issuing.pem())];
    let identity = homefleet_trust::decide(&chain, &context).peer.unwrap();
    let peer = Peer {
        basis: identity.basis,
        fingerprint: identity.fingerprint,
        anchor: identity.anchor,
        certificate: None,
    };
    assert_eq!(code(&mut bench, STRANGER, &peer), 7006);
    assert_eq!(bench.value(&format!("{GUEST}InheritedRole")), UNTRUSTED);
}

fn is_boot(notify: &Notify) -> bool {
    matches!(&notify.notification, Some(Notification::Event(event)) if event.event_name == "Boot!")
}

async fn start(directory: &Path, ca: &Ca, controller: &Controller, first_use: bool) -> Agent {
    let text = install(directory, ca, controller.port())
        .replace("[trust]\n", &format!("[trust]\nfirst_use = {first_use}\n"));
    let config = Config::parse(&text, &directory.join("agent.toml"), |_| None).unwrap();
    Agent::start(config).await.unwrap()
}

/// Somebody with a certificate of its own, who goes to the agent.
async fn stranger(issued: Issued, ca: &Ca, agent: &Agent) -> Controller {
    let mut stranger = Controller::with(issued, ca, STRANGER).await;
    stranger.claims = STRANGER.into();
    let uri = format!("coaps://{}/usp", agent.local_addr());
    stranger.agent = Some(Destination {
        uri: uri.parse().unwrap(),
        endpoint_id: Some(agent.endpoint_id().clone()),
    });
    stranger
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_default_nobody_is_trusted_on_first_use() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let mut controller = Controller::start(&ca, &ca, CONTROLLER).await;
    let agent = start(directory.path(), &ca, &controller, false).await;
    controller.notified(is_boot).await;
    let stranger = stranger(self_signed(STRANGER), &ca, &agent).await;
    let request = Message::request("1", get(["Device."], 1));
    let error = stranger.send(&request).await.unwrap_err();
    assert!(
        matches!(error, SendError::Handshake(_) | SendError::Timeout),
        "{error:?}"
    );
    assert_eq!(
        controller
            .value("Device.LocalAgent.ControllerNumberOfEntries")
            .await,
        "1"
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_trusted_on_first_use_gets_its_role_and_nobody_else_its_name() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let mut controller = Controller::start(&ca, &ca, CONTROLLER).await;
    let agent = start(directory.path(), &ca, &controller, true).await;
    controller.notified(is_boot).await;
    let issued = self_signed(STRANGER);
    let again = Issued {
        chain: issued.chain.clone(),
        key: issued.key.clone(),
    };
    let mut guest = stranger(issued, &ca, &agent).await;
    let ask = || get(["Device.LocalAgent.EndpointID"], 0);
    assert_eq!(guest.try_ask(ask()).await.unwrap_err(), 7006);
    controller.set(GUEST, "AssignedRole", FULL_ACCESS).await;
    assert!(guest.try_ask(ask()).await.is_ok());
    guest.mtp.shutdown().await;
    // It comes again with the same certificate, on another way.
    let mut guest = stranger(again, &ca, &agent).await;
    assert!(guest.try_ask(ask()).await.is_ok());
    // Another certificate with its name, and one with that of the Controller of the configuration.
    for name in [STRANGER, CONTROLLER] {
        let mut intruder = stranger(self_signed(name), &ca, &agent).await;
        intruder.claims = name.into();
        let error = intruder
            .send(&Message::request("1", ask()))
            .await
            .unwrap_err();
        assert!(
            matches!(error, SendError::Handshake(_) | SendError::Timeout),
            "{name}: {error:?}"
        );
    }
    // Deleted, it is nobody again.
    controller.ask(delete(false, [GUEST])).await;
    controller
        .ask(set(
            false,
            vec![update_object(TRUST, [("TOFUAllowed", "false", true)])],
        ))
        .await;
    let refused = guest.send(&Message::request("last", ask())).await;
    assert!(refused.is_err(), "{refused:?}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_use_without_a_message_ends_with_the_inactivity_timer() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let mut controller = Controller::start(&ca, &ca, CONTROLLER).await;
    let agent = start(directory.path(), &ca, &controller, true).await;
    controller.notified(is_boot).await;
    let guest = stranger(self_signed(STRANGER), &ca, &agent).await;
    // It looks what there is, and sends no Record.
    let uri: homefleet_coap::Uri = format!("coaps://{}/.well-known/core", agent.local_addr())
        .parse()
        .unwrap();
    let target = homefleet_net::coap::Target::new(&uri, Some(AGENT.into()));
    let request = uri.request(homefleet_coap::Code::GET);
    let answer = guest.mtp.node().request(&target, request).await.unwrap();
    assert!(answer.code.is_success());
    sessions_become(&agent, 2).await;
    controller.set(TRUST, "TOFUInactivityTimer", "1").await;
    sessions_become(&agent, 1).await;
    // The other session is none of first use.
    assert_eq!(
        controller
            .value("Device.LocalAgent.ControllerNumberOfEntries")
            .await,
        "1"
    );
    agent.stop().await;
}
