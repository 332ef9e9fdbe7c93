//! Our ACS and our device, each as it is shipped, over real sockets; and what they say to each other judged by the Broadband Forum's schemas.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use homefleet_agent::{Agent, config as agent_config, provider};
use homefleet_api::{
    AddObject, NewTask, Operation, ParamSetting, Role, SetObject, Task, TaskResult, TaskState,
};
use homefleet_cwmp::message::RequestDownload;
use homefleet_server::config::UnknownCpes;
use homefleet_server::core::{DeviceQuery, ParameterQuery};
use homefleet_server::{Access, Config, RunningServer, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::live::{Authority, WAIT, access, config};

/// What passed between the two.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<Vec<u8>>>>);

impl Said {
    /// The envelopes in it.
    fn envelopes(&self) -> Vec<String> {
        let said = self.0.lock().unwrap();
        let mut all = Vec::new();
        for bytes in said.iter() {
            let text = String::from_utf8_lossy(bytes);
            let end = "</SOAP-ENV:Envelope>";
            for part in text.split_inclusive(end).filter(|part| part.ends_with(end)) {
                if let Some(at) = part.find("<SOAP-ENV:Envelope") {
                    all.push(part[at..].to_owned());
                }
            }
        }
        all
    }

    fn has(&self, element: &str) -> bool {
        let element = format!("<cwmp:{element}");
        self.envelopes().iter().any(|one| one.contains(&element))
    }

    /// By the schema of CWMP 1.4, which is what these two speak.
    #[expect(clippy::print_stdout, reason = "a check that is left out says so")]
    fn validate(&self) {
        let folder = tempfile::tempdir().unwrap();
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cwmp/tests/data/xsd");
        let schema = format!(
            r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
            <xs:import namespace="http://schemas.xmlsoap.org/soap/envelope/" schemaLocation="{0}/soap-envelope.xsd"/>
            <xs:import namespace="urn:dslforum-org:cwmp-1-2" schemaLocation="{0}/cwmp-1-4.xsd"/></xs:schema>"#,
            data.display(),
        );
        let schema_file = folder.path().join("all.xsd");
        std::fs::write(&schema_file, schema).unwrap();
        let mut command = Command::new("xmllint");
        command
            .env("XML_CATALOG_FILES", data.join("catalog.xml"))
            .args(["--nonet", "--noout", "--schema"])
            .arg(&schema_file);
        let all = self.envelopes();
        assert!(all.len() > 10, "{} envelopes", all.len());
        for (number, text) in all.iter().enumerate() {
            let file = folder.path().join(format!("{number}.xml"));
            std::fs::write(&file, text).unwrap();
            command.arg(file);
        }
        match command.output() {
            Ok(output) => assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            ),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "xmllint: {error}");
                println!("SKIPPED: xmllint (package libxml2-utils) is missing: {error}");
            }
        }
    }
}

/// Passes bytes on to `to` and keeps them.
async fn relay(to: SocketAddr, said: Said) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(to).await else {
                continue;
            };
            let (near, far) = (near.into_split(), far.into_split());
            tokio::spawn(pass(near.0, far.1, said.clone()));
            tokio::spawn(pass(far.0, near.1, said.clone()));
        }
    });
    (address, task)
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    said: Said,
) {
    let at = {
        let mut all = said.0.lock().unwrap();
        all.push(Vec::new());
        all.len() - 1
    };
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read) = from.read(&mut buffer).await
        && read > 0
    {
        said.0.lock().unwrap()[at].extend_from_slice(&buffer[..read]);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    to.shutdown().await.ok();
}

/// A file server: gives the same file to everybody who logs in, and keeps what is sent.
async fn files(content: &'static str, kept: Arc<Mutex<Vec<u8>>>) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/file", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let (head, body) = loop {
                let mut buffer = [0; 4096];
                let read = stream.read(&mut buffer).await.unwrap_or(0);
                bytes.extend_from_slice(&buffer[..read]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, _)) = text.split_once("\r\n\r\n") else {
                    if read == 0 {
                        break (String::new(), Vec::new());
                    }
                    continue;
                };
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("content-length")
                        .then(|| value.parse::<usize>().ok())?
                });
                let body = bytes[head.len() + 4..].to_vec();
                if body.len() >= length.unwrap_or(0) || read == 0 {
                    break (head.to_owned(), body);
                }
            };
            let answer = if !head.contains("uthorization: Digest username=\"files\"")
                && !head.contains("uthorization: Digest")
            {
                "HTTP/1.1 401 Who\r\nWWW-Authenticate: Digest realm=\"f\", qop=\"auth\", nonce=\"n\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
            } else if head.starts_with("PUT") {
                *kept.lock().unwrap() = body;
                "HTTP/1.1 201 Made\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
            } else {
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{content}",
                    content.len()
                )
            };
            stream.write_all(answer.as_bytes()).await.ok();
            stream.shutdown().await.ok();
        }
    });
    (url, task)
}

struct World {
    directory: tempfile::TempDir,
    server: RunningServer,
    access: Access,
    agent: Agent,
    said: Said,
    tasks: Vec<JoinHandle<()>>,
    root: &'static str,
    id: String,
}

/// A server, a device that has found it, and a relay between the two that listens.
async fn world(root: &'static str, change: impl FnOnce(&mut Config)) -> World {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("CA");
    let mut config = config(directory.path(), &authority, &authority);
    config.acs.listen = Some(([127, 0, 0, 1], 0).into());
    config.acs.unknown = UnknownCpes::Admit;
    config.acs.call_networks = vec!["127.0.0.0/8".to_owned()];
    // What every device is made with; each is given its own.
    let password = directory.path().join("acs-password");
    std::fs::write(&password, "word").unwrap();
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    config.acs.username = Some("made".to_owned());
    config.acs.password_file = Some(password);
    change(&mut config);
    let server = Server::start(config).await.unwrap();
    let access = access(&server, Role::Admin).await;
    let said = Said::default();
    let (acs, task) = relay(server.acs_addr().unwrap(), said.clone()).await;
    let log = directory.path().join("device.log");
    std::fs::write(&log, "what the device logged").unwrap();
    let text = format!(
        "version = 1\nendpoint_id = \"os::00D09E-HF1\"\ndata_dir = \"{dir}\"\n\
         [trust]\ntime = \"accurate\"\n[device]\nrestart = \"agent\"\n\
         [cwmp]\nurl = \"http://{acs}/\"\nusername = \"made\"\npassword = \"word\"\nroot = \"{root}\"\nperiodic = 0\nconnection_request = \"127.0.0.1:0\"\nlog_file = \"{log}\"\n",
        dir = directory.path().join("agent").display(),
        log = log.display(),
    );
    let agent_config =
        agent_config::Config::parse(&text, Path::new("agent.toml"), |_| None).unwrap();
    let agent = start(agent_config).await;
    let mut world = World {
        directory,
        server,
        access,
        agent,
        said,
        tasks: vec![task],
        root,
        id: String::new(),
    };
    world.id = world.registered().await;
    world
}

async fn start(config: agent_config::Config) -> Agent {
    let providers = |restart| {
        let identity = provider::Identity {
            manufacturer: Some("Homefleet".into()),
            oui: Some("00D09E".into()),
            product_class: Some("Agent".into()),
            serial_number: Some("HF1".into()),
            software_version: Some("1.0".into()),
            hardware_version: Some("A".into()),
            ..provider::Identity::default()
        };
        provider::all(&provider::Options {
            identity,
            restart,
            restart_delay: Duration::ZERO,
            ..provider::Options::default()
        })
    };
    Agent::start_with(config, Box::new(providers))
        .await
        .unwrap()
}

impl World {
    async fn registered(&self) -> String {
        tokio::time::timeout(WAIT, async {
            loop {
                let page = self.access.devices(DeviceQuery::default()).await.unwrap();
                if let Some(device) = page.devices.first() {
                    return device.id.clone();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
        .expect("the device registers")
    }

    /// The server calls the device, which comes and does it.
    async fn run(&self, operation: Operation) -> Task {
        let new = NewTask {
            operation,
            expires_in: None,
        };
        let task = self.access.submit(&self.id, new).await.unwrap();
        let task = self.access.wait_task(&task.id, 4 * WAIT).await.unwrap();
        assert!(task.state.is_final(), "{task:?}");
        task
    }

    async fn done(&self, operation: Operation) -> TaskResult {
        let task = self.run(operation).await;
        assert_eq!(task.state, TaskState::Done, "{task:?}");
        task.result.unwrap()
    }

    fn get(&self, path: &str) -> Operation {
        Operation::Get {
            paths: vec![format!("{}{path}", self.root)],
            max_depth: 0,
        }
    }

    fn set(&self, path: &str, name: &str, value: &str) -> Operation {
        Operation::Set {
            allow_partial: false,
            objects: vec![SetObject {
                path: format!("{}{path}", self.root),
                params: vec![setting(name, value)],
            }],
        }
    }

    async fn stored(&self, path: &str) -> Option<String> {
        let query = ParameterQuery {
            path: Some(format!("{}{path}", self.root)),
            ..Default::default()
        };
        let page = self.access.parameters(&self.id, query).await.unwrap();
        page.parameters.first().map(|value| value.value.clone())
    }

    async fn said(&self, element: &str) {
        tokio::time::timeout(WAIT, async {
            while !self.said.has(element) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("nobody says {element}"));
    }

    async fn end(self) {
        self.said.validate();
        for task in &self.tasks {
            task.abort();
        }
        self.agent.stop().await;
        self.server.stop().await;
    }
}

fn setting(name: &str, value: &str) -> ParamSetting {
    ParamSetting {
        name: name.to_owned(),
        value: value.to_owned(),
        required: true,
    }
}

fn operate(command: &str, args: &[(&str, &str)], key: &str) -> Operation {
    let args = args
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Operation::Operate {
        command: command.to_owned(),
        args: args.collect(),
        command_key: Some(key.to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_called_read_set_and_configured_by_our_acs() {
    let world = world("Device.", |_| {}).await;
    assert_eq!(world.id, "cwmp:00D09E-Agent-HF1");
    // The server has given it a login for calls; from now on each task is done at once. It has a login of its own, too.
    world.done(world.get("DeviceInfo.UpTime")).await;
    world
        .done(world.set("DeviceInfo.", "ProvisioningCode", "floor-2"))
        .await;
    assert_eq!(
        world.stored("DeviceInfo.ProvisioningCode").await.as_deref(),
        Some("floor-2")
    );
    let refused = world.run(world.set("DeviceInfo.", "UpTime", "1")).await;
    assert!(refused.error.unwrap().message.starts_with("9003 "));
    // Telemetry is configured over CWMP as over USP.
    let receivers = "Device.X_HOMEFLEET_Telemetry.Receiver.";
    let add = Operation::Add {
        allow_partial: false,
        objects: vec![AddObject {
            path: receivers.into(),
            params: vec![setting("Address", "127.0.0.1"), setting("Port", "4739")],
        }],
    };
    world.done(add).await;
    let instances = Operation::GetInstances {
        paths: vec![receivers.into()],
        first_level_only: true,
    };
    let TaskResult::GetInstances { paths } = world.done(instances).await else {
        panic!("no instances")
    };
    assert_eq!(paths[0].instances.len(), 1);
    let row = paths[0].instances[0].path.clone();
    let delete = Operation::Delete {
        allow_partial: false,
        paths: vec![row],
    };
    world.done(delete).await;
    world.done(world.get("ManagementServer.Username")).await;
    let own = world.stored("ManagementServer.Username").await;
    assert_eq!(own.as_deref(), Some("00D09E-Agent-HF1"));
    // A request out of the blue is answered, and the session goes on.
    let wants = RequestDownload {
        file_type: "2 Web Content".into(),
        arguments: Vec::new(),
    };
    world.agent.ask_acs(wants).await;
    world.said("RequestDownloadResponse").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_of_tr_098_is_managed_by_its_own_names() {
    let world = world("InternetGatewayDevice.", |_| {}).await;
    world.done(world.get("DeviceInfo.UpTime")).await;
    world
        .done(world.set("DeviceInfo.", "ProvisioningCode", "floor-3"))
        .await;
    assert_eq!(
        world.stored("DeviceInfo.ProvisioningCode").await.as_deref(),
        Some("floor-3")
    );
    world
        .done(world.get("LANDevice.1.Hosts.HostNumberOfEntries"))
        .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_go_both_ways_and_their_end_is_told() {
    let world = world("Device.", |_| {}).await;
    let kept = Arc::new(Mutex::new(Vec::new()));
    let (url, serving) = files("the new settings", kept.clone()).await;
    let login = [
        ("URL", url.as_str()),
        ("Username", "files"),
        ("Password", "word"),
    ];
    let with = |file_type| {
        let mut args = vec![("FileType", file_type)];
        args.extend(login);
        args
    };
    let file = "3 Vendor Configuration File";
    world
        .done(operate("Device.Download()", &with(file), "down-1"))
        .await;
    let there = world.directory.path().join("agent/files/3");
    assert_eq!(std::fs::read_to_string(there).unwrap(), "the new settings");
    let file = "2 Vendor Log File";
    world
        .done(operate("Device.Upload()", &with(file), "up-1"))
        .await;
    assert_eq!(kept.lock().unwrap().as_slice(), b"what the device logged");
    let file = "1 Vendor Configuration File";
    world
        .done(operate("Device.Upload()", &with(file), "up-2"))
        .await;
    assert!(kept.lock().unwrap().starts_with(b"{"));
    serving.abort();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/file", nobody.local_addr().unwrap());
    drop(nobody);
    let args = [
        ("FileType", "3 Vendor Configuration File"),
        ("URL", url.as_str()),
    ];
    let failed = world
        .run(operate("Device.Download()", &args, "down-2"))
        .await;
    assert_eq!(failed.state, TaskState::Failed);
    assert_eq!(
        failed.error.as_ref().unwrap().usp_code,
        Some(9015),
        "{failed:?}"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_and_what_is_scheduled_come_back_with_their_keys() {
    let world = world("Device.", |_| {}).await;
    world
        .done(world.set("DeviceInfo.", "ProvisioningCode", "kept"))
        .await;
    world
        .done(operate("Device.Reboot()", &[], "reboot-1"))
        .await;
    world.said("RebootResponse").await;
    world
        .done(operate(
            "Device.ScheduleInform()",
            &[("DelaySeconds", "1")],
            "soon",
        ))
        .await;
    let told = |code: &'static str, key: &'static str| {
        let said = world.said.clone();
        async move {
            tokio::time::timeout(4 * WAIT, async {
                loop {
                    let text =
                        format!("<EventCode>{code}</EventCode><CommandKey>{key}</CommandKey>");
                    if said.envelopes().iter().any(|one| one.contains(&text)) {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            })
            .await
            .unwrap_or_else(|_| panic!("{code} is not told"));
        }
    };
    told("M Reboot", "reboot-1").await;
    told("M ScheduleInform", "soon").await;
    world.done(world.get("DeviceInfo.ProvisioningCode")).await;
    assert_eq!(
        world.stored("DeviceInfo.ProvisioningCode").await.as_deref(),
        Some("kept")
    );
    // An Inform that is challenged is sent twice.
    let bootstraps = || {
        let all = world.said.envelopes();
        all.iter().filter(|one| one.contains("0 BOOTSTRAP")).count()
    };
    let before = bootstraps();
    world.done(operate("Device.FactoryReset()", &[], "")).await;
    // It comes back as new: it has forgotten its logins, and is given others.
    tokio::time::timeout(4 * WAIT, async {
        while bootstraps() == before {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("a second bootstrap");
    world.done(world.get("DeviceInfo.ProvisioningCode")).await;
    assert_eq!(
        world.stored("DeviceInfo.ProvisioningCode").await.as_deref(),
        Some("")
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rpc_of_our_acs_is_answered_by_our_device() {
    let world = world("Device.", |_| {}).await;
    let code = "Device.DeviceInfo.ProvisioningCode";
    let watch = [("Path", code), ("Notification", "1")];
    world
        .done(operate("Device.SetParameterAttributes()", &watch, ""))
        .await;
    let read = world
        .done(operate(
            "Device.GetParameterAttributes()",
            &[("Path", code)],
            "",
        ))
        .await;
    let output = |result: &TaskResult| match result {
        TaskResult::Operate { commands } => commands[0].output.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(output(&read)[&format!("{code}.Notification")], "1");
    let methods = world.done(operate("Device.GetRPCMethods()", &[], "")).await;
    for method in [
        "ScheduleDownload",
        "CancelTransfer",
        "ChangeDUState",
        "Upload",
    ] {
        assert!(output(&methods)["Methods"].contains(method), "{method}");
    }
    world.done(operate("Device.GetOptions()", &[], "")).await;
    let vouchers = [("Voucher", "PHZvdWNoZXIvPg==")];
    let denied = world
        .run(operate("Device.SetVouchers()", &vouchers, ""))
        .await;
    assert!(denied.error.unwrap().message.starts_with("9001"));
    for list in [
        "Device.GetQueuedTransfers()",
        "Device.GetAllQueuedTransfers()",
    ] {
        world.done(operate(list, &[], "")).await;
    }
    let key = [("CommandKey", "nothing")];
    world
        .done(operate("Device.CancelTransfer()", &key, ""))
        .await;
    let kept = Arc::new(Mutex::new(Vec::new()));
    let (url, serving) = files("at night", kept).await;
    let scheduled = [
        ("FileType", "3 Vendor Configuration File"),
        ("URL", url.as_str()),
        ("Username", "files"),
        ("Password", "word"),
        ("TimeWindow.1.Start", "0"),
        ("TimeWindow.1.End", "3600"),
        ("TimeWindow.1.Mode", "1 At Any Time"),
    ];
    world
        .done(operate("Device.ScheduleDownload()", &scheduled, "night"))
        .await;
    let there = world.directory.path().join("agent/files/3");
    assert_eq!(std::fs::read_to_string(there).unwrap(), "at night");
    serving.abort();
    let unit = [("URL", "http://127.0.0.1:1/unit")];
    let refused = world
        .run(operate("Device.InstallDU()", &unit, "unit"))
        .await;
    assert_eq!(refused.state, TaskState::Failed);
    assert_eq!(
        refused.error.as_ref().unwrap().usp_code,
        Some(9023),
        "{refused:?}"
    );
    let ping = [
        ("Host", "127.0.0.1"),
        ("NumberOfRepetitions", "1"),
        ("Timeout", "1000"),
    ];
    let pinged = world
        .run(operate("Device.IP.Diagnostics.IPPing()", &ping, ""))
        .await;
    assert!(pinged.state.is_final(), "{pinged:?}");
    world.said("GetParameterValues>").await;
    assert!(world.said.has("Inform>") && !world.said.has("AutonomousTransferComplete>"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_the_device_speaks_only_with_an_acs_that_a_ca_of_its_vouches_for() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new("CA"), Authority::new("Stranger"));
    let mut config = config(directory.path(), &authority, &authority);
    config.acs.tls_listen = Some(([127, 0, 0, 1], 0).into());
    config.acs.unknown = UnknownCpes::Admit;
    let server = Server::start(config).await.unwrap();
    let access = access(&server, Role::Admin).await;
    let said = Said::default();
    let (acs, task) = relay(server.acs_tls_addr().unwrap(), said.clone()).await;
    for (name, ca, trusted) in [("stranger", &stranger, false), ("own", &authority, true)] {
        let file = directory.path().join(format!("{name}.pem"));
        std::fs::write(&file, &ca.pem).unwrap();
        let text = format!(
            "version = 1\nendpoint_id = \"os::00D09E-HF1\"\ndata_dir = \"{dir}\"\n\
             [trust]\ntime = \"accurate\"\nca = \"{ca}\"\n[cwmp]\nurl = \"https://{acs}/\"\nperiodic = 0\n",
            dir = directory.path().join(name).display(),
            ca = file.display(),
        );
        let parsed = agent_config::Config::parse(&text, Path::new("agent.toml"), |_| None);
        let agent = start(parsed.unwrap()).await;
        let known = async {
            loop {
                let page = access.devices(DeviceQuery::default()).await.unwrap();
                let tried = said.0.lock().unwrap().iter().any(|bytes| !bytes.is_empty());
                match trusted {
                    true if !page.devices.is_empty() => return,
                    // It has said something, its first handshake is over, and it tries again.
                    false if tried && said.0.lock().unwrap().len() >= 4 => {
                        assert!(page.devices.is_empty());
                        return;
                    }
                    _ => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        tokio::time::timeout(4 * WAIT, known)
            .await
            .expect("it comes");
        assert!(said.envelopes().is_empty(), "nobody can read it");
        agent.stop().await;
    }
    task.abort();
    server.stop().await;
}
