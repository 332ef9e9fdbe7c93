//! The way to the ACS: sessions over HTTP, calls, files, and what DHCP says.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use homefleet_cwmp::{FaultCode, Secret, cpe::HttpFailure};
use homefleet_net::{
    cwmp::{
        Answer, CallHandle, CallListener, Caller, CallsConfig, Client, ClientConfig, FileError,
        FileServer, fetch, send,
    },
    dtls::{Credentials, Verifier},
    tls::Tls,
};
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};

use super::{Event, StartError, telemetry::ReceiverVerifier, trust::ControllerVerifier};
use crate::{
    config::Config,
    cwmp::{AcsAction, AcsEvent, AcsLink, Content, CwmpConfig, Discovered, FileDone, TransferJob},
};

/// Actions that wait: the engine has one POST out at a time, and few of the others.
const QUEUE: usize = 64;

/// The largest file, in bytes.
const MAX_FILE: u64 = 4 << 30;

/// How long a file server may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the file of the DHCP client is looked at.
const LOOK_AT_DHCP: Duration = Duration::from_secs(5);

/// How long a program may take to install a file.
const INSTALL: Duration = Duration::from_secs(3600);

/// The way to the ACS.
pub(super) struct Acs {
    actions: mpsc::Sender<AcsAction>,
    tls: Option<Tls>,
    listening: Option<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
}

impl Acs {
    /// Binds the socket for calls, and waits for the engine.
    pub(super) async fn start(
        config: &Config,
        credentials: &Credentials,
        verifier: Arc<ControllerVerifier>,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, StartError> {
        let own = &config.cwmp;
        let verifier: Arc<dyn Verifier> = Arc::new(ReceiverVerifier(verifier));
        let tls = Tls::new(credentials, verifier)
            .inspect_err(|error| tracing::error!(%error, "no TLS towards the ACS"))
            .ok();
        let mut tasks = Vec::new();
        let mut calls = None;
        let mut listening = None;
        if let Some(address) = own.connection_request.filter(|_| own.enabled) {
            let bind = |source| StartError::Bind { address, source };
            let listener = CallListener::bind(address, CallsConfig::default(), seed()).await;
            let listener = listener.map_err(bind)?;
            listening = Some(listener.local_addr().map_err(bind)?);
            calls = Some(listener.handle());
            let events = events.clone();
            tasks.push(tokio::spawn(listener.run(move || {
                // The engine is busy: the ACS calls again.
                if events.try_send(Event::Acs(AcsEvent::Called)).is_err() {
                    tracing::warn!("a call of the ACS is lost: the engine is busy");
                }
            })));
        }
        if let Some(path) = own.dhcp.clone().filter(|_| own.enabled) {
            tasks.push(tokio::spawn(watch_dhcp(path, events.clone())));
        }
        let (actions, queue) = mpsc::channel(QUEUE);
        let way = Way {
            config: own.clone(),
            data_dir: config.data_dir.clone(),
            tls: tls.clone(),
            events,
            calls,
            listening,
            link: None,
            client: None,
            told: None,
            in_session: false,
            files: JoinSet::new(),
        };
        tasks.push(tokio::spawn(way.run(queue)));
        Ok(Self {
            actions,
            tls,
            listening,
            tasks,
        })
    }

    /// Gives the engine's actions to the task.
    pub(super) fn sender(&self) -> mpsc::Sender<AcsAction> {
        self.actions.clone()
    }

    /// Where calls are taken.
    pub(super) fn listening(&self) -> Option<SocketAddr> {
        self.listening
    }

    /// The sessions' TLS, for new credentials.
    pub(super) fn tls(&self) -> Option<Tls> {
        self.tls.clone()
    }

    pub(super) fn end(&self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl std::fmt::Debug for Acs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acs")
            .field("listening", &self.listening)
            .finish_non_exhaustive()
    }
}

/// What the task knows.
struct Way {
    config: CwmpConfig,
    data_dir: PathBuf,
    tls: Option<Tls>,
    events: mpsc::Sender<Event>,
    calls: Option<CallHandle>,
    listening: Option<SocketAddr>,
    link: Option<AcsLink>,
    client: Option<Client>,
    /// The address that the engine was told.
    told: Option<String>,
    in_session: bool,
    files: JoinSet<()>,
}

impl Way {
    async fn run(mut self, mut queue: mpsc::Receiver<AcsAction>) {
        let mut next = None;
        loop {
            let action = match next.take() {
                Some(action) => Some(action),
                None => queue.recv().await,
            };
            let Some(action) = action else { return };
            while self.files.try_join_next().is_some() {}
            match action {
                AcsAction::Connect(link) => self.connect(link).await,
                AcsAction::Listen(_) | AcsAction::Transfer(_) | AcsAction::Install { .. } => {
                    self.aside(action);
                }
                AcsAction::Post(body) => {
                    if !std::mem::replace(&mut self.in_session, true) {
                        self.tell_address().await;
                    }
                    next = self.post(body, &mut queue).await;
                }
                AcsAction::Close => {
                    self.in_session = false;
                    if let Some(client) = &mut self.client {
                        client.close();
                    }
                }
            }
        }
    }

    /// Sends a POST and tells what came of it. What ends the session meanwhile is returned: the machine gives up what takes too long.
    async fn post(
        &mut self,
        body: Vec<u8>,
        queue: &mut mpsc::Receiver<AcsAction>,
    ) -> Option<AcsAction> {
        let Some(mut client) = self.client.take() else {
            let failed = Answer::Failed(HttpFailure::Connection);
            self.tell(AcsEvent::Reply(failed)).await;
            return None;
        };
        let end = {
            let mut exchange = std::pin::pin!(client.post(body));
            loop {
                tokio::select! {
                    answer = &mut exchange => break Ok(answer),
                    action = queue.recv() => match action {
                        Some(AcsAction::Connect(_) | AcsAction::Post(_) | AcsAction::Close) | None => {
                            break Err(action);
                        }
                        Some(aside) => self.aside(aside),
                    },
                }
            }
        };
        let next = match end {
            Ok(answer) => {
                self.tell(AcsEvent::Reply(answer)).await;
                None
            }
            Err(next) => {
                client.close();
                Some(next.unwrap_or(AcsAction::Close))
            }
        };
        self.client = Some(client);
        next
    }

    /// What does not concern the session.
    fn aside(&mut self, action: AcsAction) {
        match action {
            AcsAction::Listen(login) => {
                let Some(calls) = &self.calls else { return };
                calls.set(match login.enabled {
                    true => Caller {
                        path: login.path,
                        username: login.username,
                        password: Secret::from(login.password.reveal()),
                    },
                    false => Caller::default(),
                });
            }
            AcsAction::Transfer(job) => self.transfer(job),
            AcsAction::Install {
                id,
                file_type,
                target,
            } => self.install(id, file_type, target),
            AcsAction::Connect(_) | AcsAction::Post(_) | AcsAction::Close => {}
        }
    }

    async fn tell(&self, event: AcsEvent) {
        // The engine has ended: nobody wants to know.
        self.events.send(Event::Acs(event)).await.ok();
    }

    async fn connect(&mut self, link: Option<AcsLink>) {
        self.in_session = false;
        self.client = link.as_ref().and_then(|link| {
            let config = ClientConfig {
                username: link.username.clone(),
                password: Secret::from(link.password.reveal()),
                tls: self.tls.clone(),
                ..ClientConfig::new(link.url.clone())
            };
            Client::new(config, seed())
                .inspect_err(|error| tracing::error!(%error, "the ACS cannot be reached"))
                .ok()
        });
        self.link = link;
        // The engine may be a new one, which knows nothing yet.
        self.told = None;
        self.tell_address().await;
        self.tell(AcsEvent::Ready).await;
    }

    /// Where calls reach this device, when that has changed.
    async fn tell_address(&mut self) {
        let address = self.address().await;
        if self.told.as_ref() != Some(&address) {
            self.told = Some(address.clone());
            self.tell(AcsEvent::Address(address)).await;
        }
    }

    async fn address(&self) -> String {
        let Some(listening) = self.listening else {
            return String::new();
        };
        if let Some(host) = &self.config.connection_request_host {
            let has_port = host.rsplit_once(':').is_some_and(|(before, port)| {
                port.parse::<u16>().is_ok() && (!before.contains(':') || before.ends_with(']'))
            });
            return match has_port {
                true => host.clone(),
                false => format!("{host}:{}", listening.port()),
            };
        }
        let ip = match listening.ip().is_unspecified() {
            true => match &self.link {
                Some(link) => local_ip(&link.url).await,
                None => None,
            },
            false => Some(listening.ip()),
        };
        ip.map_or_else(String::new, |ip| {
            SocketAddr::new(ip, listening.port()).to_string()
        })
    }

    fn file(&self, id: u64) -> PathBuf {
        self.data_dir.join("transfers").join(id.to_string())
    }

    /// Fetches or sends a file beside the sessions.
    fn transfer(&mut self, job: TransferJob) {
        let server = FileServer {
            url: job.url,
            username: job.username,
            password: job.password,
            tls: self.tls.clone(),
            most: MAX_FILE,
            patience: PATIENCE,
            seed: seed(),
        };
        let (id, content) = (job.id, job.content);
        let (to, log) = (self.file(id), self.config.log_file.clone());
        let events = self.events.clone();
        self.files.spawn(async move {
            let done = match content {
                Content::Fetch => match fetch_to(server, &to).await {
                    Ok(()) => FileDone::Fetched,
                    Err(error) => failed(&error, true),
                },
                Content::Send(bytes) => sent(send(server, bytes).await),
                Content::SendLog => match read_log(log.as_deref()).await {
                    Ok(bytes) => sent(send(server, bytes).await),
                    Err(text) => FileDone::Failed(FaultCode::UPLOAD_FAILURE, text),
                },
            };
            events
                .send(Event::Acs(AcsEvent::File { id, done }))
                .await
                .ok();
        });
    }

    /// Hands a file that was fetched to the program, or keeps it.
    fn install(&mut self, id: u64, file_type: String, target: String) {
        let (file, program) = (self.file(id), self.config.install.clone());
        let (data_dir, events) = (self.data_dir.clone(), self.events.clone());
        self.files.spawn(async move {
            let result = match program {
                Some(program) => run_program(&program, &file_type, &file, &target).await,
                None => keep(&data_dir, &file_type, &file).await,
            };
            let done = match result {
                Ok(()) => FileDone::Complete,
                Err(text) => FileDone::Failed(FaultCode::TRANSFER_CORRUPTED, text),
            };
            events
                .send(Event::Acs(AcsEvent::File { id, done }))
                .await
                .ok();
        });
    }
}

async fn fetch_to(server: FileServer, to: &Path) -> Result<(), FileError> {
    if let Some(directory) = to.parent() {
        tokio::fs::create_dir_all(directory).await?;
    }
    let fetched = fetch(server, to).await?;
    tracing::info!(
        size = fetched.size,
        resumed = fetched.resumed,
        "file fetched"
    );
    Ok(())
}

fn sent(result: Result<(), FileError>) -> FileDone {
    match result {
        Ok(()) => FileDone::Complete,
        Err(error) => failed(&error, false),
    }
}

/// What an ACS is told about a failed transfer (TR-069 A.5).
fn failed(error: &FileError, fetching: bool) -> FileDone {
    tracing::info!(%error, "file not transferred");
    let code = match error {
        FileError::Url => FaultCode::TRANSFER_PROTOCOL,
        FileError::Contact => FaultCode::TRANSFER_CONTACT,
        FileError::Unauthorized => FaultCode::TRANSFER_AUTHENTICATION,
        FileError::Status(_) if fetching => FaultCode::TRANSFER_ACCESS,
        FileError::Broken if fetching => FaultCode::TRANSFER_INCOMPLETE,
        FileError::TooLarge(_) => FaultCode::TRANSFER_CORRUPTED,
        FileError::Write(_) if fetching => FaultCode::DOWNLOAD_FAILURE,
        _ => FaultCode::UPLOAD_FAILURE,
    };
    FileDone::Failed(code, error.to_string())
}

async fn read_log(path: Option<&Path>) -> Result<Vec<u8>, String> {
    let Some(path) = path else {
        return Err("this device's configuration names no log file".into());
    };
    let length = tokio::fs::metadata(path)
        .await
        .map_err(|error| error.to_string())?;
    if length.len() > 64 << 20 {
        return Err("the log is larger than 64 MiB".into());
    }
    tokio::fs::read(path)
        .await
        .map_err(|error| error.to_string())
}

/// Runs the program; no shell reads its arguments.
async fn run_program(
    program: &Path,
    file_type: &str,
    file: &Path,
    target: &str,
) -> Result<(), String> {
    let mut command = tokio::process::Command::new(program);
    command
        .arg(file_type)
        .arg(file)
        .arg(target)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let status = tokio::time::timeout(INSTALL, command.status()).await;
    match status {
        Ok(Ok(status)) if status.success() => {
            // It may have taken the file away.
            tokio::fs::remove_file(file).await.ok();
            Ok(())
        }
        Ok(Ok(status)) => Err(format!("the program that installs it ended with {status}")),
        Ok(Err(error)) => Err(format!("the program that installs it: {error}")),
        Err(_) => Err("the program that installs it does not end".into()),
    }
}

/// Keeps a file under its type: `files/3`, the latest of each.
async fn keep(data_dir: &Path, file_type: &str, file: &Path) -> Result<(), String> {
    let directory = data_dir.join("files");
    let name: String = file_type
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect();
    let moved = async {
        tokio::fs::create_dir_all(&directory).await?;
        tokio::fs::rename(file, directory.join(name)).await
    };
    moved.await.map_err(|error| error.to_string())
}

/// The address from which the ACS is reached.
async fn local_ip(url: &str) -> Option<IpAddr> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let port = if scheme == "https" { 443 } else { 80 };
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let place = match has_port {
        true => authority.to_owned(),
        false => format!("{authority}:{port}"),
    };
    let to = tokio::net::lookup_host(place).await.ok()?.next()?;
    let any: IpAddr = match to.is_ipv4() {
        true => [0, 0, 0, 0].into(),
        false => [0u16; 8].into(),
    };
    // Nothing is sent: only the route is asked for.
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    socket.connect(to).await.ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Tells the engine what the DHCP client's hook wrote, at first and whenever that changes.
async fn watch_dhcp(path: PathBuf, events: mpsc::Sender<Event>) {
    let mut known: Option<(SystemTime, u64)> = None;
    loop {
        let changed = std::fs::metadata(&path)
            .ok()
            .and_then(|data| Some((data.modified().ok()?, data.len())));
        if changed != known {
            known = changed;
            if let Some(found) = Discovered::read(&path) {
                let event = Event::Acs(AcsEvent::Discovered(found));
                if events.send(event).await.is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(LOOK_AT_DHCP).await;
    }
}

fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    // Without random numbers the engine does not start either.
    getrandom::fill(&mut seed).ok();
    seed
}
