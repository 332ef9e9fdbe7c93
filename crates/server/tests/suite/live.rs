//! The whole server over real sockets: CoAP in DTLS with certificates on both sides, devices played by the test.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use homefleet_api::{NewTask, NewToken, Reachability, Role, TaskState};
use homefleet_net::dtls::{Config as DtlsConfig, Credentials, TrustVerifier};
use homefleet_net::mtp::{CoapMtp, CoapMtpConfig, Destination, Event, Interface};
use homefleet_server::config::Tls;
use homefleet_server::core::DeviceQuery;
use homefleet_server::{Access, Config, RunningServer, Server};
use homefleet_trust::{Policy, Time, anchors_from_pem};
use homefleet_usp::message::{Body, Message, Request, Response};
use homefleet_usp::{EndpointId, Record};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, date_time_ymd,
};
use tokio::sync::mpsc;

use crate::common::{CONTROLLER, DEVICE, get, get_resp, on_board, value_change};

pub(crate) const WAIT: Duration = Duration::from_secs(30);

/// A certificate authority of the test.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for an Endpoint ID (R-SEC.0a) at loopback, and its key.
    pub(crate) fn issue(&self, endpoint: &str) -> (String, String) {
        self.issue_with(endpoint, |_| {})
    }

    /// The same with changes.
    pub(crate) fn issue_with(
        &self,
        endpoint: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, endpoint);
        let urn = endpoint.parse::<EndpointId>().unwrap().to_urn();
        params.subject_alt_names = vec![
            SanType::URI(urn.try_into().unwrap()),
            SanType::IpAddress("127.0.0.1".parse().unwrap()),
        ];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

impl Authority {
    /// A list of certificates revoked, by their serial numbers.
    pub(crate) fn list(&self, number: u64, revoked: &[u64]) -> String {
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2200, 1, 1),
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&self.issuer)
        .unwrap()
        .pem()
        .unwrap()
    }
}

pub(crate) fn config(directory: &Path, authority: &Authority, devices: &Authority) -> Config {
    let (certificate, key) = authority.issue(CONTROLLER);
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let tls = Tls::new(
        write("server.pem", &certificate),
        write("server-key.pem", &key),
        write("anchors.pem", &devices.pem),
    );
    let mut config = Config::new(CONTROLLER, directory.join("data"), tls);
    config.task.retry_first = 1;
    config.task.retry_max = 1;
    config
}

pub(crate) async fn operator(server: &RunningServer) -> Access {
    access(server, Role::Operator).await
}

pub(crate) async fn access(server: &RunningServer, role: Role) -> Access {
    let new = NewToken {
        name: "test".to_owned(),
        role,
        expires_in: None,
    };
    let token = server.create_token(new).await.unwrap();
    server.core().authenticate(&token.secret).await.unwrap()
}

async fn bind(
    id: &str,
    (certificate, key): &(String, String),
    trusts: &Authority,
    listen: SocketAddr,
) -> std::io::Result<(CoapMtp, mpsc::Receiver<Event>)> {
    let (events, inbox) = mpsc::channel(4096);
    let anchors = anchors_from_pem(&trusts.pem).unwrap();
    let verifier = TrustVerifier::new(anchors, Policy::default(), || {
        Time::Accurate(SystemTime::now())
    });
    let mtp = CoapMtp::bind(CoapMtpConfig {
        endpoint_id: id.parse().unwrap(),
        interface: Interface::Agent,
        listen,
        plain_listen: None,
        groups: Vec::new(),
        path: "usp".to_owned(),
        advertise: None,
        credentials: Credentials::from_pem(certificate, key).unwrap(),
        verifier: Arc::new(verifier),
        coap: homefleet_coap::Config::default(),
        dtls: DtlsConfig::default(),
        events,
    })
    .await?;
    Ok((mtp, inbox))
}

/// A device with an Agent of the simplest kind.
pub(crate) struct Agent {
    id: EndpointId,
    pub(crate) mtp: CoapMtp,
    records: mpsc::Receiver<Event>,
    server: Destination,
}

impl Agent {
    pub(crate) async fn start(
        id: &str,
        issued: (String, String),
        trusts: &Authority,
        server: SocketAddr,
    ) -> Self {
        let (mtp, records) = bind(id, &issued, trusts, "127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let server = Destination {
            uri: format!("coaps://{server}/usp").parse().unwrap(),
            endpoint_id: Some(CONTROLLER.parse().unwrap()),
        };
        Self {
            id: id.parse().unwrap(),
            mtp,
            records,
            server,
        }
    }

    pub(crate) async fn send_as(
        &self,
        from: &str,
        message: Message,
    ) -> Result<(), homefleet_net::mtp::SendError> {
        let record = Record::no_session(
            CONTROLLER.parse().unwrap(),
            from.parse().unwrap(),
            message.encode(),
        );
        self.mtp.send(&self.server, record.encode()).await
    }

    pub(crate) async fn send(&self, message: Message) {
        self.send_as(self.id.as_str(), message).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        self.next_from().await.0
    }

    /// The next message, and the certificate of who sent it.
    pub(crate) async fn next_from(&mut self) -> (Message, [u8; 32]) {
        let event = tokio::time::timeout(WAIT, self.records.recv())
            .await
            .expect("nothing came")
            .unwrap();
        let Event::Record { record, origin } = event else {
            panic!("no Record: {event:?}");
        };
        assert_eq!(record.from_id.as_str(), CONTROLLER);
        let message = Message::decode(record.message().unwrap()).unwrap();
        (message, origin.identity.unwrap().fingerprint)
    }

    /// Answers every Get with the same values until a request for `path` was answered.
    pub(crate) async fn answer_gets(&mut self, path: &str) {
        loop {
            let message = self.next().await;
            let Body::Request(Request::Get(asked)) = message.body else {
                continue;
            };
            let response = get_resp(
                &[(
                    "Device.DeviceInfo.",
                    &[("UpTime", "42"), ("ModelName", "Gate")],
                )],
                &asked.param_paths[0],
            );
            self.send(Message::response(message.id, response)).await;
            if asked.param_paths.iter().any(|asked| asked == path) {
                return;
            }
        }
    }
}

pub(crate) fn read(path: &str) -> NewTask {
    NewTask {
        operation: get(path),
        expires_in: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_comes_over_dtls_and_answers_what_the_operator_asks() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("CA");
    let server = Server::start(config(directory.path(), &authority, &authority))
        .await
        .unwrap();
    let access = operator(&server).await;
    let mut agent = Agent::start(
        DEVICE,
        authority.issue(DEVICE),
        &authority,
        server.coap_addr(),
    )
    .await;

    agent.send(on_board("boot")).await;
    agent.answer_gets("Device.LocalAgent.").await;
    let task = access
        .submit(DEVICE, read("Device.DeviceInfo.UpTime"))
        .await
        .unwrap();
    agent.answer_gets("Device.DeviceInfo.UpTime").await;
    let done = access.wait_task(&task.id, WAIT).await.unwrap();
    assert_eq!(done.state, TaskState::Done, "{done:?}");

    let device = access.device(DEVICE).await.unwrap();
    assert_eq!(device.summary.reachability, Reachability::Reachable);
    assert_eq!(device.summary.model_name.as_deref(), Some("Gate"));
    assert!(
        device
            .summary
            .address
            .unwrap()
            .starts_with("coaps://127.0.0.1:")
    );
    assert_eq!(device.certificate.unwrap().fingerprint.len(), 64);

    agent
        .send(value_change("n-1", true, "Device.A", "on"))
        .await;
    loop {
        let message = agent.next().await;
        if matches!(message.body, Body::Response(Response::NotifyResp(_)))
            && message.id.as_str() == "n-1"
        {
            break;
        }
    }
    agent.mtp.shutdown().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_with_a_certificate_of_an_unknown_authority_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new("CA"), Authority::new("Stranger"));
    let server = Server::start(config(directory.path(), &authority, &authority))
        .await
        .unwrap();
    let access = operator(&server).await;
    let agent = Agent::start(
        DEVICE,
        stranger.issue(DEVICE),
        &authority,
        server.coap_addr(),
    )
    .await;
    let sent = tokio::time::timeout(WAIT, agent.send_as(DEVICE, on_board("boot"))).await;
    assert!(!matches!(sent, Ok(Ok(()))), "{sent:?}");
    assert!(
        access
            .devices(DeviceQuery::default())
            .await
            .unwrap()
            .devices
            .is_empty()
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_in_the_name_of_another_device_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("CA");
    let server = Server::start(config(directory.path(), &authority, &authority))
        .await
        .unwrap();
    let access = operator(&server).await;
    let agent = Agent::start(
        "os::00D09E-2",
        authority.issue("os::00D09E-2"),
        &authority,
        server.coap_addr(),
    )
    .await;
    let refused = agent.send_as(DEVICE, on_board("boot")).await;
    assert!(
        refused.is_err(),
        "R-SEC.10a: from_id is not in the certificate"
    );
    assert!(
        access
            .devices(DeviceQuery::default())
            .await
            .unwrap()
            .devices
            .is_empty()
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_does_not_speak_to_a_device_that_is_not_the_one_it_knows() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("CA");
    let server = Server::start(config(directory.path(), &authority, &authority))
        .await
        .unwrap();
    let access = operator(&server).await;
    let mut agent = Agent::start(
        DEVICE,
        authority.issue(DEVICE),
        &authority,
        server.coap_addr(),
    )
    .await;
    agent.send(on_board("boot")).await;
    agent.answer_gets("Device.LocalAgent.").await;
    // Another device of the same operator takes over the address.
    let addr = agent.mtp.local_addr();
    agent.mtp.shutdown().await;
    drop(agent);
    let other = authority.issue("os::00D09E-2");
    let (_mtp, mut records) = loop {
        // The socket is free again once the first device's tasks have ended.
        match bind("os::00D09E-2", &other, &authority, addr).await {
            Ok(bound) => break bound,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse),
        }
        tokio::task::yield_now().await;
    };
    let task = access
        .submit(
            DEVICE,
            NewTask {
                expires_in: Some(8),
                ..read("Device.DeviceInfo.UpTime")
            },
        )
        .await
        .unwrap();
    let ended = access.wait_task(&task.id, WAIT * 5).await.unwrap();
    assert_eq!(ended.state, TaskState::Expired, "{ended:?}");
    assert!(
        records.try_recv().is_err(),
        "the request reached another device"
    );
    assert_eq!(
        access.device(DEVICE).await.unwrap().summary.reachability,
        Reachability::Unreachable
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_knows_its_devices_and_finishes_its_tasks() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("CA");
    let mut config = config(directory.path(), &authority, &authority);
    let server = Server::start(config.clone()).await.unwrap();
    config.coap.listen = server.coap_addr();
    let mut agent = Agent::start(
        DEVICE,
        authority.issue(DEVICE),
        &authority,
        server.coap_addr(),
    )
    .await;
    agent.send(on_board("boot")).await;
    agent.answer_gets("Device.LocalAgent.").await;
    let access = operator(&server).await;
    let task = access
        .submit(DEVICE, read("Device.DeviceInfo.UpTime"))
        .await
        .unwrap();
    // The device takes the request and says nothing; the server goes away.
    agent.next().await;
    server.stop().await;

    let server = Server::start(config).await.unwrap();
    let access = operator(&server).await;
    assert_eq!(
        access
            .device(DEVICE)
            .await
            .unwrap()
            .summary
            .model_name
            .as_deref(),
        Some("Gate")
    );
    agent.answer_gets("Device.DeviceInfo.UpTime").await;
    let done = access.wait_task(&task.id, WAIT).await.unwrap();
    assert_eq!(
        (done.state, done.attempts >= 2),
        (TaskState::Done, true),
        "{done:?}"
    );
    server.stop().await;
}

const DIRECTORY: &str = "HOMEFLEET_TEST_SERVER";

fn config_in(directory: &Path) -> Config {
    let tls = Tls::new(
        directory.join("server.pem"),
        directory.join("server-key.pem"),
        directory.join("anchors.pem"),
    );
    let mut config = Config::new(CONTROLLER, directory.join("data"), tls);
    config.task.retry_first = 1;
    config.task.retry_max = 1;
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_the_same_store_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("CA");
    let config = config(directory.path(), &authority, &authority);
    let server = Server::start(config.clone()).await.unwrap();
    let refused = Server::start(config.clone()).await.unwrap_err().to_string();
    assert!(
        refused.ends_with("another server is running on it"),
        "{refused}"
    );
    // Tokens are made beside it, and it takes them.
    let new = NewToken {
        name: "beside".to_owned(),
        role: Role::Viewer,
        expires_in: None,
    };
    let token = Server::create_token(&config, new).await.unwrap();
    server.core().authenticate(&token.secret).await.unwrap();
    server.stop().await;
    Server::start(config).await.unwrap().stop().await;
}

/// The server that is killed.
#[test]
#[ignore = "started by accepted_tasks_survive_kill_9_and_an_operate_runs_once"]
fn helper_serves_until_killed() {
    use std::io::Write as _;
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let server = Server::start(config_in(Path::new(&directory)))
            .await
            .unwrap();
        let access = operator(&server).await;
        let mut out = std::io::stdout();
        writeln!(out, "listening {}", server.coap_addr()).unwrap();
        // Queues what the test asks for, as soon as the device is there.
        let mut events = access.events(None).unwrap();
        while access.device(DEVICE).await.is_err() {
            events.next().await.unwrap();
        }
        for operation in [
            crate::common::operate("Device.X()"),
            get("Device.DeviceInfo.UpTime"),
        ] {
            let task = access
                .submit(
                    DEVICE,
                    NewTask {
                        operation,
                        expires_in: None,
                    },
                )
                .await
                .unwrap();
            writeln!(out, "accepted {}", task.id).unwrap();
        }
        std::future::pending::<()>().await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_tasks_survive_kill_9_and_an_operate_runs_once() {
    use std::io::{BufRead as _, BufReader};
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("CA");
    config(directory.path(), &authority, &authority);
    let mut helper = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "live::helper_serves_until_killed",
            "--nocapture",
        ])
        .env(DIRECTORY, directory.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(helper.stdout.take().unwrap()).lines();
    let mut said = move |what: &str| loop {
        let line = lines.next().expect("the server ended").unwrap();
        if let Some((_, value)) = line.split_once(what) {
            break value.trim().to_owned();
        }
    };
    let addr: SocketAddr = said("listening ").parse().unwrap();
    let mut agent = Agent::start(DEVICE, authority.issue(DEVICE), &authority, addr).await;
    agent.send(on_board("boot")).await;
    let (operate, read) = (said("accepted "), said("accepted "));
    agent.answer_gets("Device.LocalAgent.").await;
    // The device gets the command and the server is killed before it hears of it.
    loop {
        if matches!(agent.next().await.body, Body::Request(Request::Operate(_))) {
            break;
        }
    }
    helper.kill().unwrap();
    helper.wait().unwrap();

    let mut again = config_in(directory.path());
    again.coap.listen = addr;
    let server = Server::start(again).await.unwrap();
    let access = operator(&server).await;
    let failed = access.task(&operate).await.unwrap();
    assert_eq!(
        failed.error.unwrap().code,
        homefleet_api::TaskErrorCode::UnknownOutcome
    );
    // The reading that waited behind it runs; the command does not come again.
    loop {
        let message = agent.next().await;
        match message.body {
            Body::Request(Request::Operate(_)) => panic!("the command was sent twice"),
            Body::Request(Request::Get(_)) => {
                let response = get_resp(
                    &[("Device.DeviceInfo.", &[("UpTime", "42")])],
                    "Device.DeviceInfo.UpTime",
                );
                agent.send(Message::response(message.id, response)).await;
                break;
            }
            _ => {}
        }
    }
    assert_eq!(
        access.wait_task(&read, WAIT).await.unwrap().state,
        TaskState::Done
    );
    server.stop().await;
}
