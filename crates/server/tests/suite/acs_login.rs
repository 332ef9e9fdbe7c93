//! Who a device is: certificates, Digest, Basic, and passwords of its own.

use std::sync::Arc;
use std::time::SystemTime;

use homefleet_api::{DevicePatch, TaskState};
use homefleet_cwmp::cpe::{Failure, HttpFailure};
use homefleet_cwmp::{EventCode, FaultCode};
use homefleet_net::dtls::{Credentials, TrustVerifier};
use homefleet_net::tls::Tls;
use homefleet_server::Config;
use homefleet_trust::{Policy, Time, anchors_from_pem};
use rcgen::{DistinguishedName, DnType};

use crate::acs::{Acs, acs, operate};
use crate::cpe::{Cpe, End, ID};
use crate::live::Authority;

const UNAUTHORIZED: End = End::Failed(Failure::Http(HttpFailure::Unauthorized));
const DENIED: End = End::Failed(Failure::Refused(FaultCode::ACS_REQUEST_DENIED));
const USERNAME: &str = "Device.ManagementServer.Username";

/// Devices begin with the name `bootstrap`.
fn common(config: &mut Config) {
    let file = config.data_dir.with_file_name("password");
    std::fs::write(&file, "open sesame\n").unwrap();
    config.acs.username = Some("bootstrap".to_owned());
    config.acs.password_file = Some(file);
    config.acs.tls_listen = Some(([127, 0, 0, 1], 0).into());
}

fn begins(acs: &Acs) -> Cpe {
    acs.cpe().login("bootstrap", "open sesame")
}

/// A device over TLS that shows this, if anything.
fn over_tls(acs: &Acs, shown: Option<&(String, String)>) -> Cpe {
    let mut cpe = Cpe::new(acs.server.acs_tls_addr().unwrap());
    let credentials = match shown {
        Some((certificate, key)) => Credentials::from_pem(certificate, key).unwrap(),
        None => Credentials::default(),
    };
    let anchors = anchors_from_pem(&acs.authority.pem).unwrap();
    let verifier = TrustVerifier::new(anchors, Policy::default(), || {
        Time::Accurate(SystemTime::now())
    });
    cpe.tls = Some(Tls::new(&credentials, Arc::new(verifier)).unwrap());
    cpe
}

fn named(authority: &Authority, name: &str) -> (String, String) {
    authority.issue_with("self::maker", |params| {
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_a_device_is_the_one_its_certificate_names() {
    let acs = acs(common).await;
    let own = named(&acs.authority, "00D09E-IGD-HF%2D1");
    let mut cpe = over_tls(&acs, Some(&own));
    assert_eq!(cpe.session(EventCode::Bootstrap).await, End::Done);
    let device = acs.access.device(ID).await.unwrap();
    assert!(device.certificate.is_some());
    assert_eq!(cpe.value(USERNAME), "", "it needs no password");
    // Nobody else is it.
    let mut other = over_tls(&acs, Some(&own));
    other.serial = "HF-2".to_owned();
    assert_eq!(other.session(EventCode::Bootstrap).await, DENIED);
    assert!(acs.access.device("cwmp:00D09E-IGD-HF%2D2").await.is_err());
    assert_eq!(acs.server.acs().unwrap().counters().refused_informs, 1);
    // And it does not come by less from then on.
    assert_eq!(begins(&acs).session(EventCode::Boot).await, DENIED);
    // An Endpoint ID is as good a name.
    let agent = acs.authority.issue("os::00D09E-HF-3");
    let mut cpe = over_tls(&acs, Some(&agent));
    cpe.serial = "HF-3".to_owned();
    assert_eq!(cpe.session(EventCode::Bootstrap).await, End::Done);
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_nobody_vouches_for_is_refused_and_none_at_all_has_to_log_in() {
    let acs = acs(common).await;
    let forged = named(&Authority::new("Elsewhere"), "00D09E-IGD-HF%2D1");
    let mut forger = over_tls(&acs, Some(&forged));
    assert_eq!(forger.post(b"x").await.0, 0, "there is no answer");
    assert!(acs.access.device(ID).await.is_err());
    let mut nobody = over_tls(&acs, None);
    assert_eq!(nobody.session(EventCode::Boot).await, UNAUTHORIZED);
    let mut cpe = over_tls(&acs, None).login("bootstrap", "open sesame");
    assert_eq!(cpe.session(EventCode::Bootstrap).await, End::Done);
    assert_eq!(cpe.value(USERNAME), "00D09E-IGD-HF%2D1");
    assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn basic_does_over_tls_and_nowhere_else() {
    let acs = acs(common).await;
    let right = homefleet_cwmp::auth::basic("bootstrap", &"open sesame".into());
    let wrong = homefleet_cwmp::auth::basic("bootstrap", &"open barley".into());
    let nobody = homefleet_cwmp::auth::basic("nobody", &"open sesame".into());
    let mut in_the_open = acs.cpe();
    in_the_open.authorization = Some(right.clone());
    assert_eq!(
        in_the_open.session(EventCode::Bootstrap).await,
        UNAUTHORIZED
    );
    for refused in [wrong, nobody] {
        let mut cpe = over_tls(&acs, None);
        cpe.authorization = Some(refused);
        assert_eq!(cpe.session(EventCode::Bootstrap).await, UNAUTHORIZED);
    }
    assert_eq!(acs.server.acs().unwrap().counters().refused_logins, 3);
    let mut cpe = over_tls(&acs, None);
    cpe.authorization = Some(right);
    assert_eq!(cpe.session(EventCode::Bootstrap).await, End::Done);
    // With its own password too.
    let password = cpe.value("Device.ManagementServer.Password").into();
    cpe.authorization = Some(homefleet_cwmp::auth::basic(cpe.value(USERNAME), &password));
    assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
    assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_logs_in_by_either_algorithm() {
    let acs = acs(common).await;
    for (serial, algorithm) in [("HF-1", "SHA-256"), ("HF-2", "algorithm=MD5")] {
        let mut cpe = begins(&acs);
        cpe.serial = serial.to_owned();
        cpe.knows = algorithm;
        assert_eq!(cpe.session(EventCode::Bootstrap).await, End::Done);
        assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
    }
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_has_shown_its_own_password_cannot_be_impersonated_by_the_common_one() {
    let acs = acs(common).await;
    let mut cpe = begins(&acs);
    assert_eq!(cpe.session(EventCode::Bootstrap).await, End::Done);
    assert_eq!(cpe.value(USERNAME), "00D09E-IGD-HF%2D1");
    // Until it has, the answer may have been lost: the common one does.
    assert_eq!(begins(&acs).session(EventCode::Boot).await, End::Done);
    assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
    assert_eq!(begins(&acs).session(EventCode::Boot).await, DENIED);
    // Its password is good for itself only.
    cpe.serial = "HF-2".to_owned();
    assert_eq!(cpe.session(EventCode::Periodic).await, DENIED);
    assert!(acs.access.device("cwmp:00D09E-IGD-HF%2D2").await.is_err());
    cpe.serial = "HF-1".to_owned();
    assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
    assert_eq!(acs.server.acs().unwrap().counters().refused_informs, 2);
    // An operator lets it begin again; its own does as well.
    let admitted = DevicePatch {
        admitted: Some(true),
        ..DevicePatch::default()
    };
    acs.access.patch_device(ID, admitted).await.unwrap();
    let mut again = begins(&acs);
    assert_eq!(again.session(EventCode::Bootstrap).await, End::Done);
    assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
    assert_eq!(again.session(EventCode::Periodic).await, End::Done);
    assert_eq!(begins(&acs).session(EventCode::Boot).await, DENIED);
    assert_eq!(
        cpe.session(EventCode::Periodic).await,
        UNAUTHORIZED,
        "the old one is no good once the new one was used"
    );
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_cut_off_when_it_is_given_its_password_gets_in_with_either() {
    for took_it in [false, true] {
        let acs = acs(common).await;
        let mut cpe = begins(&acs);
        cpe.cut_off_by = "SetParameterValues";
        assert_eq!(cpe.session(EventCode::Bootstrap).await, End::CutOff);
        let password = cpe.value("Device.ManagementServer.Password");
        let mut cpe = if took_it {
            acs.cpe().login(cpe.value(USERNAME), password)
        } else {
            begins(&acs)
        };
        assert_eq!(cpe.session(EventCode::Boot).await, End::Done);
        assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
        assert_eq!(begins(&acs).session(EventCode::Boot).await, DENIED);
        acs.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_the_server_reset_begins_with_the_common_password_again() {
    let acs = acs(common).await;
    let mut cpe = begins(&acs);
    cpe.session(EventCode::Bootstrap).await;
    let reset = acs
        .run(&mut cpe, operate("Device.FactoryReset()", &[]))
        .await;
    assert_eq!(reset.state, TaskState::Done, "{reset:?}");
    let mut cpe = begins(&acs);
    assert_eq!(cpe.session(EventCode::Bootstrap).await, End::Done);
    assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
    assert_eq!(begins(&acs).session(EventCode::Boot).await, DENIED);
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_device_logins_the_common_one_is_all_there_is() {
    let acs = acs(|config| {
        common(config);
        config.acs.device_logins = false;
    })
    .await;
    let mut cpe = begins(&acs);
    assert_eq!(cpe.session(EventCode::Bootstrap).await, End::Done);
    assert_eq!(cpe.value(USERNAME), "");
    assert_eq!(begins(&acs).session(EventCode::Boot).await, End::Done);
    acs.server.stop().await;
}
