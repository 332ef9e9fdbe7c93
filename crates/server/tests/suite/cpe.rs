//! A device that speaks CWMP, of the simplest kind: a table of values behind the CPE's machine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use homefleet_cwmp::auth::DigestClient;
use homefleet_cwmp::cpe::{
    Config, Cpe as Machine, CpeEvent, Failure, InformContent, Reply, Saved, Transmit,
};
use homefleet_cwmp::message::*;
use homefleet_cwmp::value::ParameterInfos;
use homefleet_cwmp::{
    Envelope, Event, EventCode, Fault, FaultCode, Message, Method, ParameterFault, ParameterValues,
    Value, ValueType,
};
use homefleet_net::tls::Tls;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) const SERIAL: &str = "HF-1";
pub(crate) const ID: &str = "cwmp:00D09E-IGD-HF%2D1";

/// How a session ended.
#[derive(Debug, PartialEq)]
pub(crate) enum End {
    Done,
    Failed(Failure),
    /// In the middle of it.
    CutOff,
}

pub(crate) struct Cpe {
    pub(crate) acs: SocketAddr,
    pub(crate) machine: Machine,
    pub(crate) model: BTreeMap<String, (ValueType, String)>,
    pub(crate) serial: String,
    login: Option<DigestClient>,
    cookies: Vec<String>,
    /// Parameters below the root that its Informs tell beside the usual ones.
    pub(crate) informs: Vec<&'static str>,
    /// RPCs that were asked of it, in order.
    pub(crate) asked: Vec<&'static str>,
    /// It forgets its cookies.
    pub(crate) forgetful: bool,
    /// TLS with what it shows.
    pub(crate) tls: Option<Tls>,
    /// It sends this as its Authorization, unasked.
    pub(crate) authorization: Option<String>,
    /// Of challenges, it knows only those with this in them.
    pub(crate) knows: &'static str,
    /// What it sent, by name.
    pub(crate) told: Vec<&'static str>,
    /// What it was asked to fetch from or send to, and how long that is.
    pub(crate) urls: Vec<(String, u32)>,
    /// What it was asked to do to its software.
    pub(crate) units: Vec<ChangeDUState>,
    /// Where the ACS sends the browser that kicked it.
    pub(crate) kicked_to: Option<String>,
    /// Notification attributes.
    pub(crate) attributes: BTreeMap<String, SetAttributes>,
    /// How often it cannot read its values yet.
    pub(crate) busy: u32,
    /// It is cut off once it has been asked this.
    pub(crate) cut_off_by: &'static str,
    /// How many names it has more than it has values, for its answer to GetParameterNames.
    pub(crate) more_names: usize,
}

impl Cpe {
    pub(crate) fn new(acs: SocketAddr) -> Self {
        let config = Config {
            methods: Method::ALL.to_vec(),
            ..Config::default()
        };
        let machine = Machine::new(Instant::now(), config, Saved::default(), [5; 32]);
        let root = "Device.";
        let mut cpe = Self {
            acs,
            machine,
            model: BTreeMap::new(),
            serial: SERIAL.to_owned(),
            login: None,
            cookies: Vec::new(),
            informs: Vec::new(),
            asked: Vec::new(),
            forgetful: false,
            tls: None,
            authorization: None,
            knows: "",
            told: Vec::new(),
            urls: Vec::new(),
            units: Vec::new(),
            kicked_to: None,
            attributes: BTreeMap::new(),
            busy: 0,
            cut_off_by: "-",
            more_names: 0,
        };
        for (name, kind, value) in [
            ("DeviceInfo.Manufacturer", ValueType::String, "Homefleet"),
            ("DeviceInfo.ModelName", ValueType::String, "Tester"),
            ("DeviceInfo.SoftwareVersion", ValueType::String, "1.0"),
            ("DeviceInfo.UpTime", ValueType::UnsignedInt, "77"),
            (
                "ManagementServer.ConnectionRequestURL",
                ValueType::String,
                "",
            ),
            (
                "ManagementServer.ConnectionRequestUsername",
                ValueType::String,
                "",
            ),
            (
                "ManagementServer.ConnectionRequestPassword",
                ValueType::String,
                "",
            ),
            ("ManagementServer.ParameterKey", ValueType::String, ""),
            ("ManagementServer.Username", ValueType::String, ""),
            ("ManagementServer.Password", ValueType::String, ""),
            (
                "ManagementServer.PeriodicInformEnable",
                ValueType::Boolean,
                "0",
            ),
            (
                "ManagementServer.PeriodicInformInterval",
                ValueType::UnsignedInt,
                "86400",
            ),
            (
                "IP.Diagnostics.IPPing.DiagnosticsState",
                ValueType::String,
                "None",
            ),
            ("IP.Diagnostics.IPPing.Host", ValueType::String, ""),
            (
                "IP.Diagnostics.IPPing.NumberOfRepetitions",
                ValueType::UnsignedInt,
                "1",
            ),
            (
                "IP.Diagnostics.IPPing.SuccessCount",
                ValueType::UnsignedInt,
                "0",
            ),
            (
                "SoftwareModules.DeploymentUnit.3.UUID",
                ValueType::String,
                "u-u-i-d",
            ),
            (
                "SoftwareModules.DeploymentUnit.3.Version",
                ValueType::String,
                "1.1",
            ),
            (
                "SoftwareModules.DeploymentUnit.3.ExecutionEnvRef",
                ValueType::String,
                "",
            ),
            ("WiFi.SSID.1.SSID", ValueType::String, "home"),
            ("WiFi.SSID.1.Enable", ValueType::Boolean, "1"),
            ("WiFi.SSID.2.SSID", ValueType::String, "guest"),
            ("WiFi.SSID.2.Enable", ValueType::Boolean, "0"),
        ] {
            let entry = (kind, value.to_owned());
            cpe.model.insert(format!("{root}{name}"), entry);
        }
        cpe
    }

    pub(crate) fn login(mut self, username: &str, password: &str) -> Self {
        self.login = Some(DigestClient::new(username, password.into(), false, [6; 32]));
        self
    }

    pub(crate) fn value(&self, name: &str) -> &str {
        &self.model[name].1
    }

    /// The ACS is somewhere else now.
    pub(crate) fn move_to(&mut self, acs: SocketAddr) {
        self.acs = acs;
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let entry = self.model.get_mut(name).unwrap();
        entry.1 = value.to_owned();
    }

    /// A session because of this.
    pub(crate) async fn session(&mut self, code: EventCode) -> End {
        self.machine.raise(Event {
            code,
            command_key: String::new(),
        });
        self.run().await
    }

    /// Runs what is due until the session is over.
    pub(crate) async fn run(&mut self) -> End {
        loop {
            while let Some(event) = self.machine.poll_event() {
                match event {
                    CpeEvent::Starting => {
                        let content = self.content();
                        self.machine.begin(Instant::now(), content).unwrap();
                    }
                    CpeEvent::Request(message) => {
                        let cut_off = message.name() == self.cut_off_by;
                        let answer = self.answer(message);
                        if cut_off {
                            return End::CutOff;
                        }
                        self.machine.respond(Instant::now(), answer).unwrap();
                    }
                    CpeEvent::Answered {
                        response: Message::KickedResponse(response),
                        ..
                    } => self.kicked_to = Some(response.next_url),
                    CpeEvent::Ended => return End::Done,
                    CpeEvent::Failed { reason, .. } => return End::Failed(reason),
                    _ => {}
                }
            }
            match self.machine.poll_transmit() {
                Some(Transmit::Post(body)) => {
                    let (status, body) = self.post(&body).await;
                    let reply = match status {
                        200 if !body.is_empty() => Reply::Envelope(&body),
                        200 | 204 => Reply::Empty,
                        503 => Reply::Unavailable(Some(Duration::from_secs(1))),
                        401 => Reply::Failed(homefleet_cwmp::cpe::HttpFailure::Unauthorized),
                        other => Reply::Failed(homefleet_cwmp::cpe::HttpFailure::Status(other)),
                    };
                    self.machine.handle_reply(Instant::now(), reply);
                }
                Some(Transmit::Close) => self.cookies.clear(),
                None => panic!("the machine does nothing more"),
            }
        }
    }

    fn content(&self) -> InformContent {
        let mut values = ParameterValues::new();
        let usual = [
            "DeviceInfo.SoftwareVersion",
            "ManagementServer.ConnectionRequestURL",
        ];
        for name in usual.iter().chain(&self.informs) {
            let name = format!("Device.{name}");
            let (kind, text) = &self.model[&name];
            values.push(&name, Value { kind: *kind, text });
        }
        InformContent {
            device: DeviceId {
                manufacturer: "Homefleet".to_owned(),
                oui: "00D09E".to_owned(),
                product_class: "IGD".to_owned(),
                serial_number: self.serial.clone(),
            },
            values,
            ..InformContent::default()
        }
    }

    /// A POST, again with credentials when they are asked for.
    pub(crate) async fn post(&mut self, body: &[u8]) -> (u16, Vec<u8>) {
        let envelope = Envelope::decode(body, &homefleet_cwmp::Limits::default());
        self.told
            .extend(envelope.ok().map(|told| told.message.name()));
        for _ in 0..3 {
            let mut head = format!(
                "POST /acs HTTP/1.1\r\nHost: acs\r\nConnection: close\r\nContent-Length: {}\r\n",
                body.len()
            );
            for cookie in &self.cookies {
                head += &format!("Cookie: {cookie}\r\n");
            }
            if let Some(authorization) = &self.authorization {
                head += &format!("Authorization: {authorization}\r\n");
            } else if let Some(login) = &mut self.login
                && let Some(authorization) = login.authorization("POST", "/acs")
            {
                head += &format!("Authorization: {authorization}\r\n");
            }
            if !body.is_empty() {
                head += "Content-Type: text/xml; charset=utf-8\r\nSOAPAction: \r\n";
            }
            let mut request = (head + "\r\n").into_bytes();
            request.extend_from_slice(body);
            let stream = TcpStream::connect(self.acs).await.unwrap();
            let (status, head, body) = match &self.tls {
                None => exchange(stream, &request).await,
                Some(tls) => match tls.connect(stream, "127.0.0.1", None).await {
                    Ok(stream) => exchange(stream, &request).await,
                    Err(_) => return (0, Vec::new()),
                },
            };
            let values = |name: &str| {
                let lines = head.lines().filter_map(|line| line.split_once(": "));
                lines
                    .filter(|(own, _)| own.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value)
                    .collect::<Vec<_>>()
            };
            if !self.forgetful {
                let new = values("set-cookie")
                    .into_iter()
                    .filter_map(|value| value.split(';').next());
                self.cookies.extend(new.map(str::to_owned));
            }
            if status == 401
                && let Some(login) = &mut self.login
                && self.authorization.is_none()
                && let challenges = values("www-authenticate")
                && let known = challenges
                    .into_iter()
                    .filter(|one| one.contains(self.knows))
                && login.challenged(&known.collect::<Vec<_>>()).is_ok()
            {
                continue;
            }
            return (status, body);
        }
        (401, Vec::new())
    }

    fn answer(&mut self, request: Message) -> Message {
        self.asked.push(request.name());
        match request {
            Message::GetParameterValues(_) if self.busy > 0 => {
                self.busy -= 1;
                Fault::new(FaultCode::RESOURCES_EXCEEDED).into()
            }
            Message::GetParameterValues(request) => {
                let mut values = ParameterValues::new();
                for wanted in &request.names {
                    let before = values.len();
                    for (name, (kind, text)) in &self.model {
                        let below = wanted.ends_with('.') && name.starts_with(wanted.as_str());
                        if below || name == wanted {
                            let hidden = name.ends_with("Password");
                            let text = if hidden { "" } else { text };
                            values.push(name, Value { kind: *kind, text });
                        }
                    }
                    if values.len() == before {
                        return Fault::new(FaultCode::INVALID_PARAMETER_NAME).into();
                    }
                }
                GetParameterValuesResponse { values }.into()
            }
            Message::GetParameterNames(request) => {
                let mut infos = ParameterInfos::new();
                let mut names = std::collections::BTreeSet::new();
                for name in self
                    .model
                    .keys()
                    .filter(|name| name.starts_with(&request.path))
                {
                    names.insert(name.clone());
                    for (dot, _) in name.match_indices('.') {
                        let object = &name[..=dot];
                        if object.starts_with(&request.path) {
                            names.insert(object.to_owned());
                        }
                    }
                }
                if names.is_empty() {
                    return Fault::new(FaultCode::INVALID_PARAMETER_NAME).into();
                }
                if request.next_level {
                    names.retain(|name| {
                        let below = name.strip_prefix(&request.path).unwrap_or_default();
                        let below = below.strip_suffix('.').unwrap_or(below);
                        !below.is_empty() && !below.contains('.')
                    });
                }
                names.iter().for_each(|name| infos.push(name, true));
                for number in 0..self.more_names {
                    infos.push(&format!("{}{}.", request.path, number + 1000), false);
                }
                GetParameterNamesResponse { infos }.into()
            }
            Message::SetParameterValues(request) => {
                let mut fault = Fault::new(FaultCode::INVALID_ARGUMENTS);
                for (name, value) in request.values.iter() {
                    let code = match self.model.get(name) {
                        None => FaultCode::INVALID_PARAMETER_NAME,
                        Some(_) if name.ends_with("UpTime") => FaultCode::NOT_WRITABLE,
                        Some((kind, _)) if *kind != value.kind => FaultCode::INVALID_PARAMETER_TYPE,
                        Some(_) => continue,
                    };
                    fault.parameters.push(ParameterFault {
                        name: name.to_owned(),
                        code,
                        text: code.text().to_owned(),
                    });
                }
                if !fault.parameters.is_empty() {
                    return fault.into();
                }
                for (name, value) in request.values.iter() {
                    self.model
                        .insert(name.to_owned(), (value.kind, value.text.to_owned()));
                }
                let set = |name: &str| {
                    let name = format!("Device.ManagementServer.{name}");
                    let value = request.values.iter().find(|(own, _)| *own == name);
                    value.map(|(_, value)| value.text.to_owned())
                };
                if let (Some(username), Some(password)) = (set("Username"), set("Password")) {
                    let (username, password) = (username.as_str(), password.as_str().into());
                    self.login = Some(DigestClient::new(username, password, false, [7; 32]));
                }
                SetParameterValuesResponse::default().into()
            }
            Message::AddObject(request) => {
                let taken = |n: u32| {
                    let object = format!("{}{n}.", request.object);
                    self.model.keys().any(|name| name.starts_with(&object))
                };
                let instance = (1..).find(|n| !taken(*n)).unwrap();
                let object = format!("{}{instance}.", request.object);
                self.model
                    .insert(format!("{object}SSID"), (ValueType::String, String::new()));
                self.model.insert(
                    format!("{object}Enable"),
                    (ValueType::Boolean, "0".to_owned()),
                );
                AddObjectResponse {
                    instance,
                    ..Default::default()
                }
                .into()
            }
            Message::DeleteObject(request) => {
                let before = self.model.len();
                self.model
                    .retain(|name, _| !name.starts_with(&request.object));
                if self.model.len() == before {
                    return Fault::new(FaultCode::INVALID_PARAMETER_NAME).into();
                }
                DeleteObjectResponse::default().into()
            }
            Message::Reboot(_) => RebootResponse {}.into(),
            Message::FactoryReset(_) => FactoryResetResponse {}.into(),
            Message::Download(request) => {
                self.urls.push((request.url, request.file_size));
                DownloadResponse {
                    status: Status::Pending,
                    ..Default::default()
                }
                .into()
            }
            Message::ScheduleInform(_) => ScheduleInformResponse {}.into(),
            Message::Upload(request) => {
                self.urls.push((request.url, 0));
                UploadResponse {
                    status: Status::Pending,
                    ..Default::default()
                }
                .into()
            }
            Message::ScheduleDownload(request) => {
                self.urls.push((request.url, request.windows[0].end));
                ScheduleDownloadResponse {}.into()
            }
            Message::CancelTransfer(_) => CancelTransferResponse {}.into(),
            Message::GetQueuedTransfers(_) => GetQueuedTransfersResponse {
                transfers: vec![QueuedTransfer {
                    command_key: "key-1".to_owned(),
                    state: TransferState::InProgress,
                }],
            }
            .into(),
            Message::GetAllQueuedTransfers(_) => GetAllQueuedTransfersResponse {
                transfers: vec![AnyQueuedTransfer {
                    is_download: true,
                    file_type: "3 Vendor Configuration File".to_owned(),
                    ..AnyQueuedTransfer::default()
                }],
            }
            .into(),
            Message::GetOptions(request) => GetOptionsResponse {
                options: vec![DeviceOption {
                    name: request.name,
                    voucher_serial_number: 7,
                    ..DeviceOption::default()
                }],
            }
            .into(),
            Message::SetVouchers(request) if request.vouchers == [b"<voucher/>"] => {
                SetVouchersResponse {}.into()
            }
            Message::ChangeDUState(request) => {
                self.units.push(request);
                ChangeDUStateResponse {}.into()
            }
            Message::SetParameterAttributes(request) => {
                for attributes in request.attributes {
                    if !self.model.contains_key(&attributes.name) {
                        return Fault::new(FaultCode::INVALID_PARAMETER_NAME).into();
                    }
                    self.attributes.insert(attributes.name.clone(), attributes);
                }
                SetParameterAttributesResponse {}.into()
            }
            Message::GetParameterAttributes(request) => {
                let known = request.names.iter().map(|name| Attributes {
                    name: name.clone(),
                    notification: self
                        .attributes
                        .get(name)
                        .map_or(Notification::Off, |known| known.notification),
                    access_list: vec!["Subscriber".to_owned()],
                });
                GetParameterAttributesResponse {
                    attributes: known.collect(),
                }
                .into()
            }
            _ => Fault::new(FaultCode::METHOD_NOT_SUPPORTED).into(),
        }
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> (u16, String, Vec<u8>) {
    drop(stream.write_all(request).await);
    let mut bytes = Vec::new();
    drop(stream.read_to_end(&mut bytes).await);
    let end = bytes
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = bytes.get(end + 4..).unwrap_or_default().to_vec();
    (status.unwrap_or(0), head, body)
}
