//! Devices that speak TR-069, over real HTTP.

use std::time::{Duration, Instant};

use homefleet_api::{
    AddObject, DevicePatch, NewTask, Operation, ParamSetting, Reachability, Role, SetObject, Task,
    TaskResult, TaskState,
};
use homefleet_cwmp::auth::{DigestConfig, DigestServer, Stored};
use homefleet_cwmp::cpe::{Failure, HttpFailure};
use homefleet_cwmp::message::{DeviceId, Inform, RequestDownload, TransferComplete};
use homefleet_cwmp::{Envelope, EventCode, FaultCode, Header, Method, Namespace};
use homefleet_server::config::UnknownCpes;
use homefleet_server::core::ParameterQuery;
use homefleet_server::{Access, Config, RunningServer, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::cpe::{Cpe, End, ID};
use crate::live::{Authority, WAIT, access, config};

pub(crate) struct Acs {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) server: RunningServer,
    pub(crate) access: Access,
    /// Whom the server trusts, and who made its certificate.
    pub(crate) authority: Authority,
    pub(crate) config: Config,
}

pub(crate) async fn acs(change: impl FnOnce(&mut Config)) -> Acs {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("CA");
    let mut config = config(directory.path(), &authority, &authority);
    config.acs.listen = Some(([127, 0, 0, 1], 0).into());
    config.acs.unknown = UnknownCpes::Admit;
    config.acs.call_networks = vec!["127.0.0.0/8".to_owned()];
    change(&mut config);
    let server = Server::start(config.clone()).await.unwrap();
    let access = access(&server, Role::Admin).await;
    Acs {
        config,
        directory,
        server,
        access,
        authority,
    }
}

impl Acs {
    pub(crate) fn cpe(&self) -> Cpe {
        Cpe::new(self.server.acs_addr().unwrap())
    }

    pub(crate) async fn task(&self, operation: Operation) -> Task {
        let new = NewTask {
            operation,
            expires_in: None,
        };
        self.access.submit(ID, new).await.unwrap()
    }

    pub(crate) async fn ended(&self, task: &Task) -> Task {
        let task = self.access.wait_task(&task.id, WAIT).await.unwrap();
        assert!(task.state.is_final(), "{task:?}");
        task
    }

    /// Runs the operation in a session that the device opens by itself.
    pub(crate) async fn run(&self, cpe: &mut Cpe, operation: Operation) -> Task {
        let task = self.task(operation).await;
        assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
        self.ended(&task).await
    }

    pub(crate) async fn stored(&self, path: &str) -> Option<String> {
        let query = ParameterQuery {
            path: Some(path.to_owned()),
            ..Default::default()
        };
        let page = self.access.parameters(ID, query).await.unwrap();
        page.parameters.first().map(|value| value.value.clone())
    }
}

pub(crate) fn get(path: &str) -> Operation {
    Operation::Get {
        paths: vec![path.to_owned()],
        max_depth: 0,
    }
}

fn setting(name: &str, value: &str) -> ParamSetting {
    ParamSetting {
        name: name.to_owned(),
        value: value.to_owned(),
        required: true,
    }
}

pub(crate) fn set(path: &str, name: &str, value: &str) -> Operation {
    Operation::Set {
        allow_partial: false,
        objects: vec![SetObject {
            path: path.to_owned(),
            params: vec![setting(name, value)],
        }],
    }
}

pub(crate) fn operate(command: &str, args: &[(&str, &str)]) -> Operation {
    let args = args
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Operation::Operate {
        command: command.to_owned(),
        args: args.collect(),
        command_key: Some("key-1".to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_informs_is_registered_read_and_given_a_login_for_calls() {
    let acs = acs(|_| {}).await;
    let mut cpe = acs.cpe();
    assert_eq!(cpe.session(EventCode::Bootstrap).await, End::Done);
    let device = acs.access.device(ID).await.unwrap();
    assert_eq!(device.summary.oui.as_deref(), Some("00D09E"));
    assert_eq!(device.summary.product_class.as_deref(), Some("IGD"));
    assert_eq!(device.summary.model_name.as_deref(), Some("Tester"));
    assert_eq!(device.summary.software_version.as_deref(), Some("1.0"));
    assert_eq!(
        acs.stored("Device.DeviceInfo.UpTime").await.as_deref(),
        Some("77")
    );
    assert_eq!(
        cpe.value("Device.ManagementServer.ConnectionRequestUsername"),
        ID
    );
    let password = cpe.value("Device.ManagementServer.ConnectionRequestPassword");
    assert_eq!(password.len(), 24);
    // Once is enough.
    let (password, asked) = (password.to_owned(), cpe.asked.len());
    assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
    assert_eq!(
        cpe.value("Device.ManagementServer.ConnectionRequestPassword"),
        password
    );
    assert_eq!(cpe.asked.len(), asked);
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_left_the_factory_again_is_given_everything_anew() {
    let acs = acs(|config| config.acs.inform_interval = 60).await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    let given = |cpe: &Cpe| {
        let value = |name: &str| {
            cpe.value(&format!("Device.ManagementServer.{name}"))
                .to_owned()
        };
        (
            value("ConnectionRequestPassword"),
            value("PeriodicInformInterval"),
        )
    };
    let (first, interval) = given(&cpe);
    assert_eq!((first.len(), interval.as_str()), (24, "60"));
    cpe.session(EventCode::Boot).await;
    assert_eq!(given(&cpe).0, first);
    cpe.set("Device.ManagementServer.PeriodicInformInterval", "86400");
    cpe.session(EventCode::Bootstrap).await;
    let (second, interval) = given(&cpe);
    assert_ne!(second, first);
    assert_eq!((second.len(), interval.as_str()), (24, "60"));
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_device_refuses_to_be_given_is_not_given_again_and_harms_nothing_else() {
    let acs = acs(|config| config.acs.inform_interval = 60).await;
    let mut cpe = acs.cpe();
    let refused = "Device.ManagementServer.ConnectionRequestPassword";
    cpe.model.remove(refused);
    cpe.session(EventCode::Bootstrap).await;
    assert_eq!(
        cpe.value("Device.ManagementServer.ConnectionRequestUsername"),
        "",
        "all of a part, or nothing"
    );
    assert_eq!(
        cpe.value("Device.ManagementServer.PeriodicInformInterval"),
        "60"
    );
    let asked = cpe.asked.len();
    cpe.session(EventCode::Periodic).await;
    assert_eq!(cpe.asked.len(), asked);
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_has_no_password_of_a_device() {
    let acs = acs(|_| {}).await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    let password = cpe.value("Device.ManagementServer.ConnectionRequestPassword");
    let password = password.to_owned();
    let directory = acs.directory.path().join("data");
    acs.server.stop().await;
    let mut looked_at = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes
                .windows(password.len())
                .any(|part| part == password.as_bytes());
            assert!(!found, "{}", path.display());
            looked_at += 1;
        }
    }
    assert!(looked_at > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operations_of_the_queue_are_done_in_a_session() {
    let acs = acs(|_| {}).await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;

    let read = acs.run(&mut cpe, get("Device.WiFi.SSID.*.SSID")).await;
    let Some(TaskResult::Get { paths }) = read.result else {
        panic!("{read:?}")
    };
    let found: Vec<_> = paths[0]
        .objects
        .iter()
        .map(|o| (o.path.as_str(), o.params["SSID"].as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("Device.WiFi.SSID.1.", "home"),
            ("Device.WiFi.SSID.2.", "guest")
        ]
    );

    // A value goes with the type that the device has for it.
    let done = acs
        .run(&mut cpe, set("Device.WiFi.SSID.2.", "Enable", "1"))
        .await;
    assert_eq!(done.state, TaskState::Done, "{done:?}");
    assert_eq!(cpe.value("Device.WiFi.SSID.2.Enable"), "1");
    assert_eq!(
        acs.stored("Device.WiFi.SSID.2.Enable").await.as_deref(),
        Some("1")
    );

    let add = Operation::Add {
        allow_partial: false,
        objects: vec![AddObject {
            path: "Device.WiFi.SSID.".to_owned(),
            params: vec![setting("SSID", "new")],
        }],
    };
    let added = acs.run(&mut cpe, add).await;
    let Some(TaskResult::Add { objects }) = added.result else {
        panic!("{added:?}")
    };
    assert_eq!(objects[0].path.as_deref(), Some("Device.WiFi.SSID.3."));
    assert_eq!(cpe.value("Device.WiFi.SSID.3.SSID"), "new");

    let instances = Operation::GetInstances {
        paths: vec!["Device.WiFi.SSID.".to_owned()],
        first_level_only: true,
    };
    let listed = acs.run(&mut cpe, instances).await;
    let Some(TaskResult::GetInstances { paths }) = listed.result else {
        panic!("{listed:?}")
    };
    assert_eq!(paths[0].instances.len(), 3);

    let delete = Operation::Delete {
        allow_partial: false,
        paths: vec!["Device.WiFi.SSID.3.".to_owned()],
    };
    assert_eq!(acs.run(&mut cpe, delete).await.state, TaskState::Done);
    assert!(!cpe.model.contains_key("Device.WiFi.SSID.3.SSID"));
    assert_eq!(acs.stored("Device.WiFi.SSID.3.SSID").await, None);

    assert_eq!(
        acs.run(&mut cpe, operate("Device.Reboot()", &[]))
            .await
            .state,
        TaskState::Done
    );
    assert_eq!(cpe.asked.last(), Some(&"Reboot"));
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_device_refuses_is_told_with_its_fault() {
    let acs = acs(|_| {}).await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    let read_only = acs
        .run(&mut cpe, set("Device.DeviceInfo.", "UpTime", "0"))
        .await;
    let error = read_only.error.unwrap();
    assert_eq!(read_only.state, TaskState::Failed);
    assert!(error.message.starts_with("9003 "), "{error:?}");
    assert_eq!(
        (
            error.param_errors[0].path.as_str(),
            error.param_errors[0].code
        ),
        ("Device.DeviceInfo.UpTime", 9008)
    );
    let unknown = acs.run(&mut cpe, get("Device.Nothing.")).await;
    assert!(unknown.error.unwrap().message.starts_with("9005 "));
    // An object whose values are refused is not left behind.
    let add = Operation::Add {
        allow_partial: false,
        objects: vec![AddObject {
            path: "Device.WiFi.SSID.".to_owned(),
            params: vec![setting("Nothing", "x")],
        }],
    };
    assert_eq!(acs.run(&mut cpe, add).await.state, TaskState::Failed);
    assert!(!cpe.model.contains_key("Device.WiFi.SSID.3.SSID"));
    let command = acs.run(&mut cpe, operate("Device.Dance()", &[])).await;
    assert!(command.error.unwrap().message.contains("Download()"));
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_device_cannot_do_for_the_time_being_is_tried_again_and_not_for_ever() {
    let acs = acs(|_| {}).await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    for (busy, state) in [(2, TaskState::Done), (100, TaskState::Failed)] {
        cpe.busy = busy;
        let asked = cpe.asked.len();
        let task = acs.task(get("Device.DeviceInfo.UpTime")).await;
        let behind = acs.task(set("Device.WiFi.SSID.1.", "SSID", "new")).await;
        let mut sessions = 0;
        while !acs.access.task(&task.id).await.unwrap().state.is_final() {
            assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
            let reachable = acs.access.device(ID).await.unwrap().summary.reachability;
            assert_eq!(reachable, Reachability::Reachable);
            sessions += 1;
            assert!(sessions < 10);
        }
        let ended = acs.ended(&task).await;
        assert_eq!(ended.state, state, "{ended:?}");
        let tries = cpe.asked[asked..].iter();
        let tries = tries.filter(|name| **name == "GetParameterValues").count();
        if state == TaskState::Failed {
            assert!(ended.error.unwrap().message.starts_with("9004 "));
            assert!(tries >= 4, "{tries}");
        }
        // Those behind it keep their order.
        cpe.busy = 0;
        while !acs.access.task(&behind.id).await.unwrap().state.is_final() {
            assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
        }
        assert_eq!(acs.ended(&behind).await.state, TaskState::Done);
    }
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_ends_when_the_device_says_so() {
    let acs = acs(|_| {}).await;
    let mut cpe = acs.cpe();
    cpe.session(EventCode::Bootstrap).await;
    let args = [
        ("FileType", "1 Firmware Upgrade Image"),
        ("URL", "http://files/firmware"),
    ];
    let task = acs.task(operate("Device.Download()", &args)).await;
    assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
    let open = acs.access.task(&task.id).await.unwrap();
    assert_eq!(open.state, TaskState::Sent, "{open:?}");
    let done = TransferComplete {
        command_key: "key-1".to_owned(),
        ..Default::default()
    };
    cpe.machine
        .queue(done.into(), Some(Method::Download))
        .unwrap();
    assert_eq!(cpe.run().await, End::Done);
    assert_eq!(acs.ended(&task).await.state, TaskState::Done);
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_called_when_there_is_something_to_do() {
    let acs = acs(|_| {}).await;
    let mut cpe = acs.cpe();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/call", listener.local_addr().unwrap());
    cpe.set("Device.ManagementServer.ConnectionRequestURL", &url);
    cpe.session(EventCode::Bootstrap).await;
    let password = cpe
        .value("Device.ManagementServer.ConnectionRequestPassword")
        .to_owned();
    let task = acs.task(get("Device.DeviceInfo.UpTime")).await;
    let mut digest = DigestServer::new(Instant::now(), DigestConfig::new("cpe"), [1; 32]);
    let kept = Stored::hashed(ID, "cpe", &password);
    // Called until the credentials are right.
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut request).await.unwrap() > 0);
        }
        let request = String::from_utf8(request).unwrap();
        assert!(request.starts_with("GET /call HTTP/1.1\r\n"), "{request}");
        let header = request.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("authorization").then_some(value)
        });
        let now = Instant::now();
        let user = header.map(|header| {
            digest.authorize(now, "GET", "/call", header, |name| {
                (name == ID).then(|| kept.clone())
            })
        });
        let challenge = match user {
            Some(Ok(_)) => {
                stream
                    .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                    .await
                    .unwrap();
                break;
            }
            other => digest.challenge(now, other.and_then(Result::err)),
        };
        let mut answer = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n".to_owned();
        for challenge in challenge {
            answer += &format!("WWW-Authenticate: {challenge}\r\n");
        }
        stream
            .write_all((answer + "\r\n").as_bytes())
            .await
            .unwrap();
    }
    assert_eq!(cpe.session(EventCode::ConnectionRequest).await, End::Done);
    assert_eq!(acs.ended(&task).await.state, TaskState::Done);
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_know_the_password_gets_no_session() {
    let acs = acs(|config| {
        let file = config.data_dir.with_file_name("password");
        std::fs::write(&file, "open sesame\n").unwrap();
        config.acs.username = Some("bootstrap".to_owned());
        config.acs.password_file = Some(file);
    })
    .await;
    let unauthorized = End::Failed(Failure::Http(HttpFailure::Unauthorized));
    for mut stranger in [
        acs.cpe(),
        acs.cpe().login("bootstrap", "open barley"),
        acs.cpe().login("somebody", "open sesame"),
    ] {
        assert_eq!(stranger.session(EventCode::Bootstrap).await, unauthorized);
    }
    assert!(acs.access.device(ID).await.is_err());
    let mut cpe = acs.cpe().login("bootstrap", "open sesame");
    assert_eq!(cpe.session(EventCode::Bootstrap).await, End::Done);
    assert!(acs.access.device(ID).await.is_ok());
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_not_known_is_refused_or_left_alone() {
    let refusing = acs(|config| config.acs.unknown = UnknownCpes::Refuse).await;
    let refused = End::Failed(Failure::Refused(FaultCode::ACS_REQUEST_DENIED));
    assert_eq!(refusing.cpe().session(EventCode::Bootstrap).await, refused);
    assert!(refusing.access.device(ID).await.is_err());
    refusing.server.stop().await;

    let acs = acs(|config| config.acs.unknown = UnknownCpes::Quarantine).await;
    let mut cpe = acs.cpe();
    assert_eq!(cpe.session(EventCode::Bootstrap).await, End::Done);
    assert!(acs.access.device(ID).await.is_ok());
    assert_eq!(cpe.asked, [] as [&str; 0], "nothing is asked of it");
    assert_eq!(acs.stored("Device.DeviceInfo.SoftwareVersion").await, None);
    assert!(!acs.access.device(ID).await.unwrap().cwmp.unwrap().admitted);
    let admitted = DevicePatch {
        admitted: Some(true),
        ..DevicePatch::default()
    };
    acs.access.patch_device(ID, admitted).await.unwrap();
    assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
    assert_eq!(
        acs.stored("Device.DeviceInfo.UpTime").await.as_deref(),
        Some("77")
    );
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_out_of_order_is_refused_and_others_go_on() {
    let acs = acs(|config| config.acs.sessions = 4).await;
    let mut cpe = acs.cpe();
    // Nothing, garbage, and a request before any Inform.
    assert_eq!(cpe.post(b"").await.0, 400);
    assert_eq!(cpe.post(b"<not soap").await.0, 400);
    let envelope = Envelope::new(
        Namespace::V1_0,
        Header::default(),
        RequestDownload::default(),
    );
    let (status, body) = acs.cpe().post(&envelope.encode()).await;
    let fault = Envelope::decode(&body, &Default::default())
        .unwrap()
        .message;
    assert!(
        status == 200
            && matches!(&fault, homefleet_cwmp::Message::Fault(fault) if fault.code == FaultCode::ACS_REQUEST_DENIED),
        "{fault:?}"
    );
    // A device that forgets its cookie never gets beyond its Inform.
    let mut forgetful = acs.cpe();
    forgetful.forgetful = true;
    forgetful.serial = "HF-2".to_owned();
    let lost = End::Failed(Failure::Http(HttpFailure::Status(400)));
    assert_eq!(forgetful.session(EventCode::Boot).await, lost);
    // Sessions that nobody goes on with fill the room, until their time is over.
    for serial in ["HF-3", "HF-4", "HF-5", "HF-6"] {
        let mut abandoned = acs.cpe();
        abandoned.forgetful = true;
        abandoned.serial = serial.to_owned();
        abandoned.session(EventCode::Boot).await;
    }
    assert_eq!(
        acs.cpe().session(EventCode::Boot).await,
        End::Failed(Failure::Unavailable)
    );
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_begins_anew_leaves_its_old_session_behind() {
    let acs = acs(|_| {}).await;
    let mut first = acs.cpe();
    first.forgetful = true;
    first.session(EventCode::Boot).await;
    let mut cpe = acs.cpe();
    assert_eq!(cpe.session(EventCode::Boot).await, End::Done);
    let task = acs.task(get("Device.DeviceInfo.UpTime")).await;
    assert_eq!(cpe.session(EventCode::Periodic).await, End::Done);
    assert_eq!(acs.ended(&task).await.state, TaskState::Done);
    tokio::time::timeout(Duration::from_secs(60), acs.server.stop())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_stays_with_the_device_that_began_it() {
    let acs = acs(|_| {}).await;
    let mut cpe = acs.cpe();
    let inform = |serial: &str| {
        let inform = Inform {
            device: DeviceId {
                oui: "00D09E".to_owned(),
                product_class: "IGD".to_owned(),
                serial_number: serial.to_owned(),
                ..DeviceId::default()
            },
            ..Inform::default()
        };
        Envelope::new(Namespace::V1_0, Header::default(), inform).encode()
    };
    let answer = |body: &[u8]| Envelope::decode(body, &Default::default()).unwrap().message;
    let (status, _) = cpe.post(&inform("HF-1")).await;
    assert_eq!(status, 200);
    // With the cookie of one, nobody speaks as another.
    let (_, body) = cpe.post(&inform("HF-2")).await;
    assert!(
        matches!(answer(&body), homefleet_cwmp::Message::Fault(fault) if fault.code == FaultCode::ACS_REQUEST_DENIED)
    );
    assert!(acs.access.device("cwmp:00D09E-IGD-HF%2D2").await.is_err());
    acs.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_first_message_is_refused() {
    let acs = acs(|_| {}).await;
    let long = vec![b' '; (1 << 20) + 1];
    assert_eq!(acs.cpe().post(&long).await.0, 413);
    acs.server.stop().await;
}
