//! New certificate files are taken over by a running server, bad ones are not.

use std::path::Path;
use std::time::Duration;

use homefleet_api::{NewToken, Role, TaskState};
use homefleet_server::config::{RevocationCheck, RevocationUnknown};
use homefleet_server::core::DeviceQuery;
use homefleet_server::{Access, Config, CoreError, RunningServer, Server};
use rcgen::date_time_ymd;

use crate::common::{CONTROLLER, DEVICE, on_board};
use crate::live::{Agent, Authority, WAIT, access, config, read};
use crate::rest::exchange;

/// A server whose clients are of `authority`, in a directory of its own.
async fn server(authority: &Authority, watch: u64) -> (tempfile::TempDir, RunningServer, Access) {
    server_with(authority, |config| config.tls.watch = watch).await
}

async fn server_with(
    authority: &Authority,
    change: impl FnOnce(&mut Config),
) -> (tempfile::TempDir, RunningServer, Access) {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path(), authority, authority);
    change(&mut config);
    let server = Server::start(config).await.unwrap();
    let access = access(&server, Role::Admin).await;
    (directory, server, access)
}

/// Puts new files where the server has its own certificate.
fn write(directory: &Path, (certificate, key): &(String, String)) {
    std::fs::write(directory.join("server.pem"), certificate).unwrap();
    std::fs::write(directory.join("server-key.pem"), key).unwrap();
}

/// Waits until what the server says of its certificates is as wanted.
async fn until(
    access: &Access,
    wanted: impl Fn(&homefleet_api::Tls) -> bool,
) -> homefleet_api::Tls {
    let looked = async {
        loop {
            let status = access.tls().unwrap();
            if wanted(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT, looked)
        .await
        .unwrap_or_else(|_| panic!("{:?}", access.tls()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_authority_is_trusted_without_a_restart_and_sessions_stay_open() {
    let (authority, newer) = (Authority::new("CA"), Authority::new("New CA"));
    let (directory, server, access) = server(&authority, 0).await;
    let mut old = Agent::start(
        DEVICE,
        authority.issue(DEVICE),
        &authority,
        server.coap_addr(),
    )
    .await;
    old.send(on_board("boot")).await;
    old.answer_gets("Device.LocalAgent.").await;

    let id = "os::00D09E-2";
    let stranger = Agent::start(id, newer.issue(id), &authority, server.coap_addr()).await;
    assert!(stranger.send_as(id, on_board("boot")).await.is_err());
    let refused = until(&access, |status| !status.refusals.is_empty()).await;
    let refused = &refused.refusals[0];
    assert_eq!(
        (refused.reason.as_str(), refused.alert),
        ("unknown_issuer", 48)
    );
    assert_eq!(refused.subject.as_deref(), Some("CN=os::00D09E-2"));

    let both = format!("{}{}", authority.pem, newer.pem);
    std::fs::write(directory.path().join("anchors.pem"), both).unwrap();
    let status = access.reload_tls().await.unwrap();
    let subjects: Vec<_> = status
        .anchors
        .iter()
        .map(|anchor| anchor.subject.as_str())
        .collect();
    assert_eq!(subjects, ["CN=CA", "CN=New CA"]);

    stranger.send(on_board("boot")).await;
    let task = access
        .submit(DEVICE, read("Device.DeviceInfo.UpTime"))
        .await
        .unwrap();
    old.answer_gets("Device.DeviceInfo.UpTime").await;
    let done = access.wait_task(&task.id, WAIT).await.unwrap();
    assert_eq!(done.state, TaskState::Done, "{done:?}");
    let devices = access
        .devices(DeviceQuery::default())
        .await
        .unwrap()
        .devices;
    assert_eq!(devices.len(), 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_no_good_are_refused_and_the_old_stay_in_force() {
    let authority = Authority::new("CA");
    let (directory, server, access) = server(&authority, 0).await;
    let before = access.tls().unwrap();
    let good = authority.issue(CONTROLLER);
    let expired = authority.issue_with(CONTROLLER, |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let early = authority.issue_with(CONTROLLER, |params| {
        params.not_before = date_time_ymd(2200, 1, 1);
        params.not_after = date_time_ymd(2201, 1, 1);
    });
    let other_key = (good.0.clone(), authority.issue(CONTROLLER).1);
    let other_id = authority.issue("proto::another");
    let client_only = authority.issue_with(CONTROLLER, |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    for (files, says) in [
        (&expired, "expired"),
        (&early, "not valid yet"),
        (&other_key, "private key does not belong"),
        (&other_id, "Endpoint ID"),
        (&client_only, "serverAuth"),
        (&("nothing".to_owned(), good.1.clone()), "server.pem"),
    ] {
        write(directory.path(), files);
        let error = access.reload_tls().await.unwrap_err();
        assert!(matches!(error, CoreError::Conflict(_)), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
        let now = access.tls().unwrap();
        assert_eq!(now.certificate, before.certificate);
        assert_eq!(now.problem, Some(error.to_string()));
    }
    write(directory.path(), &good);
    std::fs::write(directory.path().join("anchors.pem"), "").unwrap();
    let error = access.reload_tls().await.unwrap_err();
    assert!(error.to_string().contains("tls.anchors"), "{error}");
    assert_eq!(access.tls().unwrap().anchors, before.anchors);

    let audit = access.audit(None, 0).await.unwrap().entries;
    let reloads = audit.iter().filter(|entry| entry.action == "tls.reload");
    assert!(reloads.clone().all(|entry| !entry.allowed));
    assert_eq!(reloads.count(), 7);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_files_are_noticed() {
    let (authority, newer) = (Authority::new("CA"), Authority::new("New CA"));
    let (directory, server, access) = server(&authority, 1).await;
    std::fs::write(directory.path().join("anchors.pem"), "half a fi").unwrap();
    until(&access, |status| status.problem.is_some()).await;
    assert_eq!(access.tls().unwrap().anchors.len(), 1);
    // Replaced, as tools that write certificates do.
    let both = format!("{}{}", authority.pem, newer.pem);
    std::fs::write(directory.path().join("new"), both).unwrap();
    std::fs::rename(
        directory.path().join("new"),
        directory.path().join("anchors.pem"),
    )
    .unwrap();
    let status = until(&access, |status| status.anchors.len() == 2).await;
    assert_eq!(status.problem, None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_were_no_good_are_taken_once_they_are_though_they_look_the_same() {
    let (authority, newer) = (Authority::new("CA"), Authority::new("New CA"));
    let (directory, server, access) = server(&authority, 1).await;
    let file = directory.path().join("anchors.pem");
    let both = format!("{}{}", authority.pem, newer.pem);
    std::fs::write(&file, both.replace("BEGIN", "BEGUN")).unwrap();
    until(&access, |status| status.problem.is_some()).await;
    // Size and time are those of before, as with a date that has come, or a permission.
    let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
    std::fs::write(&file, both).unwrap();
    let open = std::fs::File::options().write(true).open(&file).unwrap();
    open.set_modified(modified).unwrap();
    let status = until(&access, |status| status.anchors.len() == 2).await;
    assert_eq!(status.problem, None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_administrator_reloads() {
    let authority = Authority::new("CA");
    let (_directory, server, _) = server(&authority, 0).await;
    let operator = access(&server, Role::Operator).await;
    let refused = operator.reload_tls().await.unwrap_err();
    assert!(
        matches!(refused, CoreError::Forbidden { .. }),
        "{refused:?}"
    );
    assert_eq!(operator.tls().unwrap().anchors.len(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_shown_from_the_next_handshake_and_sessions_stay_open() {
    let authority = Authority::new("CA");
    let (directory, server, access) = server(&authority, 0).await;
    let addr = server.coap_addr();
    let mut old = Agent::start(DEVICE, authority.issue(DEVICE), &authority, addr).await;
    old.send(on_board("boot")).await;
    let (_, before) = old.next_from().await;
    assert_eq!(hex(&before), access.tls().unwrap().certificate.fingerprint);

    write(directory.path(), &authority.issue(CONTROLLER));
    let renewed = access.reload_tls().await.unwrap().certificate.fingerprint;
    assert_ne!(renewed, hex(&before));
    // The device that is here goes on over its session, and sees who it saw before.
    old.send(on_board("boot again")).await;
    assert_eq!(old.next_from().await.1, before);
    let id = "os::00D09E-2";
    let mut new = Agent::start(id, authority.issue(id), &authority, addr).await;
    new.send(on_board("boot")).await;
    assert_eq!(hex(&new.next_from().await.1), renewed);
    // A second reload finds nothing new.
    let loaded = access.tls().unwrap().loaded;
    assert_eq!(access.reload_tls().await.unwrap().loaded, loaded);
    server.stop().await;
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A server that reads a list of revoked certificates, and a device with serial number 7.
async fn with_list(
    authority: &Authority,
    list: String,
    unknown: RevocationUnknown,
) -> (tempfile::TempDir, RunningServer, Access, Agent) {
    let (directory, server, access) = server_with(authority, |config| {
        let file = config.tls.anchors.with_file_name("list.pem");
        std::fs::write(&file, list).unwrap();
        config.tls.revocation.check = RevocationCheck::Leaf;
        config.tls.revocation.unknown = unknown;
        config.tls.revocation.crls = vec![file];
    })
    .await;
    let issued = authority.issue_with(DEVICE, |params| params.serial_number = Some(7.into()));
    let agent = Agent::start(DEVICE, issued, authority, server.coap_addr()).await;
    (directory, server, access, agent)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_on_a_revocation_list_is_refused_and_shown() {
    let authority = Authority::new("CA");
    let list = authority.list(1, &[7]);
    let (_directory, server, access, agent) =
        with_list(&authority, list, RevocationUnknown::Allow).await;
    assert!(agent.send_as(DEVICE, on_board("boot")).await.is_err());
    let refusal = access.tls().unwrap().refusals.remove(0);
    assert_eq!((refusal.reason.as_str(), refusal.alert), ("revoked", 44));

    let id = "os::00D09E-2";
    let good = Agent::start(id, authority.issue(id), &authority, server.coap_addr()).await;
    good.send(on_board("boot")).await;

    let new = NewToken {
        name: "scraper".to_owned(),
        role: Role::Viewer,
        expires_in: None,
    };
    let token = server.create_token(new).await.unwrap().secret;
    let asked = format!(
        "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let metrics = exchange(server.http_addr(), asked.as_bytes()).await;
    assert_eq!(metrics.status, 200);
    for line in [
        "# TYPE homefleet_refusals counter",
        "homefleet_refusals_total{reason=\"revoked\"} ",
        "homefleet_revocation_known{kind=\"list\"} 1\n",
        "homefleet_revocation_known{kind=\"listed\"} 1\n",
        "homefleet_sessions{state=\"open\"} 1\n",
        "homefleet_sessions{state=\"held\"} 0\n",
        "homefleet_dtls_amplification_held_total ",
        "homefleet_certificate_days ",
    ] {
        assert!(metrics.body.contains(line), "{line}: {}", metrics.body);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_revocation_list_ends_the_session_of_its_device() {
    let authority = Authority::new("CA");
    let list = authority.list(1, &[]);
    let (directory, server, access, mut agent) =
        with_list(&authority, list, RevocationUnknown::Refuse).await;
    agent.send(on_board("boot")).await;
    agent.answer_gets("Device.LocalAgent.").await;
    assert_eq!(access.tls().unwrap().refusals, []);

    // A list of somebody else changes nothing.
    let file = directory.path().join("list.pem");
    std::fs::write(&file, Authority::new("Stranger").list(2, &[7])).unwrap();
    let error = access.reload_tls().await.unwrap_err();
    assert!(
        error.to_string().starts_with("tls.revocation.crls: "),
        "{error}"
    );
    agent.send(on_board("boot again")).await;

    std::fs::write(&file, authority.list(2, &[7])).unwrap();
    access.reload_tls().await.unwrap();
    let status = until(&access, |status| !status.refusals.is_empty()).await;
    assert_eq!(status.refusals[0].reason, "revoked");
    assert!(agent.send_as(DEVICE, on_board("boot")).await.is_err());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_is_no_good_keeps_no_certificate_from_being_renewed() {
    let authority = Authority::new("CA");
    let (directory, server, access, _agent) = with_list(
        &authority,
        authority.list(1, &[7]),
        RevocationUnknown::Allow,
    )
    .await;
    let before = access.tls().unwrap();
    let strange = Authority::new("Stranger").list(2, &[]);
    std::fs::write(directory.path().join("list.pem"), strange).unwrap();
    write(directory.path(), &authority.issue(CONTROLLER));
    let error = access.reload_tls().await.unwrap_err();
    assert!(
        error.to_string().starts_with("tls.revocation.crls: "),
        "{error}"
    );
    let now = access.tls().unwrap();
    assert_ne!(now.certificate.fingerprint, before.certificate.fingerprint);
    assert_eq!(now.problem, Some(error.to_string()));
    // A good list is taken over although nothing else has changed.
    let list = authority.list(2, &[]);
    std::fs::write(directory.path().join("list.pem"), list).unwrap();
    assert_eq!(access.reload_tls().await.unwrap().problem, None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_of_which_nothing_is_known_is_refused_when_configured() {
    let authority = Authority::new("CA");
    let (_directory, server, access) = server_with(&authority, |config| {
        config.tls.revocation.check = RevocationCheck::Leaf;
        config.tls.revocation.unknown = RevocationUnknown::Refuse;
    })
    .await;
    let agent = Agent::start(
        DEVICE,
        authority.issue(DEVICE),
        &authority,
        server.coap_addr(),
    )
    .await;
    assert!(agent.send_as(DEVICE, on_board("boot")).await.is_err());
    let refusal = access.tls().unwrap().refusals.remove(0);
    assert_eq!(refusal.reason, "revocation_unknown");
    server.stop().await;
}
