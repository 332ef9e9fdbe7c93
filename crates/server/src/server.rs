//! Starting and stopping the whole server.

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use homefleet_api::{self as api, CreatedToken, NewToken, Role, TokenList};
use homefleet_net::cmp::CoapListener;
use homefleet_net::dtls::{Credentials, TrustVerifier, Verifier};
use homefleet_trust::{Policy, Time};
use homefleet_usp::EndpointId;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::acs::Acs;
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::controller::Controller;
use crate::core::{CertificateAuthority, Core, CoreError};
use crate::enrol::{self, EnrolError, Enrolment};
use crate::http::{self, AppState, Samples};
use crate::listener;
use crate::listener::network::{Means, Network};
use crate::listener::verifier::{Certificates, DeviceVerifier};
use crate::pki::{Pki, PkiError};
use crate::proxy::{Front, ProxyError};
use crate::store::sqlite::SqliteStore;
use crate::store::{DeviceRecord, Store, StoreError, TaskRecord};
use crate::task::driver::{self, Protocol, Sending};
use crate::task::queue::Delivery;
use crate::telemetry::{Telemetry, TelemetryError};
use crate::tls::{self, Evidence, Material, Refusals, Renewal, TlsError};

/// Longest time a stop waits for requests under way.
const GRACE: Duration = Duration::from_secs(5);
/// What MTPs tell and nobody has taken yet; beyond it they wait, and CoAP answers 5.03.
const EVENTS: usize = 4096;
/// Longest time an HTTP client may take to say what it wants.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The server.
#[derive(Debug)]
pub struct Server;

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The core refused.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A file of the certificate configuration cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address cannot be listened on.
    #[error("{key}: cannot listen on {address}: {problem}")]
    Listen {
        /// Configuration key.
        key: &'static str,
        /// Address.
        address: SocketAddr,
        /// Why.
        problem: String,
    },
    /// The data directory cannot be used.
    #[error("data_dir: {path}: {problem}")]
    DataDir {
        /// Directory.
        path: String,
        /// Why.
        problem: String,
    },
    /// The CA cannot be opened.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The CA cannot be asked.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// CMP cannot be passed on to CAs elsewhere.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// Telemetry cannot be received, kept or handed on.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
}

impl Server {
    /// Starts listening; returns once devices and operators can connect.
    pub async fn start(config: Config) -> Result<RunningServer, StartError> {
        config.check()?;
        let clock = Clock::system();
        let endpoint_id: EndpointId =
            config
                .endpoint_id
                .parse()
                .map_err(|error| ConfigError::Value {
                    key: "endpoint_id",
                    problem: format!("{error}"),
                })?;
        let stamps = tls::stamps(&config.tls);
        let material = Material::load(&config.tls, &config.endpoint_id, SystemTime::now())?;
        let refusals = Arc::new(Refusals::default());
        // A server's clock is taken to be right: certificates' dates are always validated (R-MTP.3).
        let trust = TrustVerifier::new(material.anchors.clone(), Policy::default(), || {
            Time::Accurate(SystemTime::now())
        });
        trust.replace_brokers(material.brokers.clone());
        let evidence = Evidence::start(&config.tls.revocation, &material.lists);
        if let Some(evidence) = &evidence {
            let fetcher = evidence.fetcher();
            trust.set_revocation(evidence.revocation(), move |wanted| fetcher.want(wanted));
        }
        let verifier = Arc::new(DeviceVerifier::new(trust, Arc::clone(&refusals)));
        let store = Arc::new(open_store(&config)?);
        let lock = lock(&config)?;
        let core = Core::open(
            config.core(),
            clock.clone(),
            Arc::clone(&store) as Arc<dyn Store>,
        )
        .await?;

        let credentials = &material.credentials;
        let authority = authority(&config, &clock, &core, &store, credentials).await?;
        let proxy = if config.proxy.is_on() {
            Some(Front::start(&config.proxy, Some(credentials))?)
        } else {
            None
        };
        let http_listener = listen("http.listen", config.http.listen).await?;
        let (events, happened) = mpsc::channel(EVENTS);
        let network = Network::start(Means {
            config: &config,
            endpoint_id: &endpoint_id,
            credentials: &material.credentials,
            verifier: Arc::clone(&verifier) as Arc<dyn Verifier>,
            events,
        })
        .await?;
        let mut streamed = None;
        let telemetry = if config.notif.is_on() {
            let telemetry = Telemetry::open(&config.notif, &config.data_dir, core.clone())?;
            let verifier = Arc::clone(&verifier) as Arc<dyn Verifier>;
            streamed = Some(telemetry.listen(&config.notif, &material.credentials, verifier)?);
            core.set_telemetry(&telemetry);
            Some(telemetry)
        } else {
            None
        };
        let acs = acs_sockets(&config, &core, credentials, &verifier).await?;
        let acs_tls = acs.as_ref().and_then(|acs| acs.https.as_ref());
        let acs_tls = acs_tls.map(|(_, tls)| tls.clone());
        if let Some(evidence) = &evidence {
            evidence.serve(&network.mtps, telemetry.clone(), acs_tls.clone());
        }
        let coap_addr = network.coap_addr().unwrap_or(config.coap.listen);
        let http_addr = http_listener.local_addr().unwrap_or(config.http.listen);
        core.set_network(network.clone());

        let cmp_coap = authority.as_ref().and_then(|it| it.coap.clone());
        let renewal = Arc::new(Renewal::new(
            config.tls.clone(),
            config.endpoint_id.clone(),
            Box::new(Certificates {
                network: network.clone(),
                cmp_tls: authority
                    .as_ref()
                    .and_then(|it| Some(it.https.as_ref()?.1.clone())),
                verifier,
                acs_tls,
                telemetry: telemetry.clone(),
                cmp: cmp_coap.clone(),
                proxy: proxy.clone(),
                evidence,
            }),
            refusals,
            &material,
            stamps,
        ));
        core.set_renewal(Arc::clone(&renewal));

        let (stop, stopped) = watch::channel(false);
        let controller = Controller::new(core.clone(), endpoint_id, Box::new(network.clone()));
        let (counted, certificates) = (network.clone(), Arc::clone(&renewal));
        let streams = telemetry.clone();
        let enrolment = authority.as_ref().map(|it| it.enrolment.clone());
        let announced = enrolment.clone();
        let cmp_counted = cmp_coap.clone();
        let devices = acs.as_ref().map(|acs| acs.acs.clone());
        let passed_on = proxy.clone();
        let bindings = match (&devices, config.stun.listen) {
            (Some(acs), Some(address)) => {
                let told = acs.listen_stun(address, &config.stun);
                let told = told.map_err(|error| StartError::Listen {
                    key: "stun.listen",
                    address,
                    problem: error.to_string(),
                })?;
                Some((acs.clone(), told))
            }
            _ => None,
        };
        let homes = core.clone();
        let app = AppState {
            core: core.clone(),
            login: crate::ui::LoginKeys::default(),
            public_metrics: config.http.public_metrics,
            secure_cookies: config.http.behind_tls_proxy,
            network: Some(Samples(Arc::new(move || {
                let mut samples = certificates.samples();
                samples.extend(counted.samples());
                samples.extend(streams.iter().flat_map(Telemetry::samples));
                samples.extend(enrolment.iter().flat_map(Enrolment::samples));
                samples.extend(cmp_counted.iter().flat_map(listener::cmp::samples));
                samples.extend(devices.iter().flat_map(Acs::samples));
                samples.extend(passed_on.iter().flat_map(Front::samples));
                samples.extend(homes.home_samples());
                samples
            }))),
        };
        let router = http::router(app.clone(), config.http.body_limit);
        let kept_acs = acs.as_ref().map(|acs| acs.acs.clone());
        let acs_addr = acs.as_ref().and_then(|acs| acs.http_addr);
        let acs_tls_addr = acs.as_ref().and_then(|acs| acs.https_addr);
        let protocols = Protocols {
            usp: controller.clone(),
            cwmp: acs.as_ref().map(|acs| acs.acs.clone()),
        };
        let mut parts = vec![
            tokio::spawn(listener::run(
                controller.clone(),
                happened,
                clock,
                stopped.clone(),
            )),
            tokio::spawn(driver::run(
                core.clone(),
                Arc::new(protocols),
                driver::Room::default(),
                stopped.clone(),
            )),
            tokio::spawn(http::serve(
                http_listener,
                router,
                HEAD_TIMEOUT,
                stopped.clone(),
            )),
            tokio::spawn(core.clone().run_upkeep(stopped.clone())),
        ];
        if let (Some(telemetry), Some(streamed)) = (&telemetry, streamed) {
            parts.push(tokio::spawn(
                telemetry.clone().run(streamed, stopped.clone()),
            ));
        }
        let cmp_http_addr = authority.as_ref().and_then(|it| it.http_addr);
        let cmp_https_addr = authority.as_ref().and_then(|it| it.https_addr);
        if let Some(authority) = authority {
            parts.extend(authority.enrolment.run(stopped.clone()));
            if let Some(listener) = authority.http {
                parts.push(authority.enrolment.serve_http(listener, stopped.clone()));
            }
            if let Some(listener) = authority.https {
                let (listener, tls) = listener;
                let served = authority
                    .enrolment
                    .serve_https(listener, tls, stopped.clone());
                parts.push(served);
            }
        }
        if let Some((acs, told)) = bindings {
            parts.push(tokio::spawn(acs.follow_bindings(told, stopped.clone())));
        }
        if let Some(AcsSockets {
            acs, http, https, ..
        }) = acs
        {
            let http = http.map(|listener| (listener, None));
            let https = https.map(|(listener, tls)| (listener, Some(tls)));
            for (listener, tls) in http.into_iter().chain(https) {
                let served = acs.clone().serve(listener, tls, stopped.clone());
                parts.push(tokio::spawn(served));
            }
        }
        if config.tls.watch > 0 {
            let interval = Duration::from_secs(config.tls.watch);
            parts.push(tokio::spawn(Arc::clone(&renewal).run(interval, stopped)));
        }
        tracing::info!(%coap_addr, %http_addr, "listening");
        Ok(RunningServer {
            endpoint_id: config.endpoint_id,
            http_addr,
            coap_addr,
            cmp_http_addr,
            cmp_coap,
            enrolment: announced,
            cmp_https_addr,
            acs: kept_acs,
            proxy,
            acs_addr,
            acs_tls_addr,
            network,
            core,
            app,
            store,
            renewal,
            telemetry,
            stop,
            parts,
            lock,
        })
    }

    /// Makes a token, beside a running server or without one. The server takes it at once.
    pub async fn create_token(config: &Config, new: NewToken) -> Result<CreatedToken, StartError> {
        let core = offline(config).await?;
        Ok(core
            .local_access("command line", Role::Admin)
            .create_token(new)
            .await?)
    }

    /// Lists the tokens of a store.
    pub async fn tokens(config: &Config) -> Result<TokenList, StartError> {
        let core = offline(config).await?;
        Ok(core
            .local_access("command line", Role::Admin)
            .tokens()
            .await?)
    }

    /// Revokes a token. A running server refuses it within five seconds.
    pub async fn revoke_token(config: &Config, id: &str) -> Result<(), StartError> {
        let core = offline(config).await?;
        Ok(core
            .local_access("command line", Role::Admin)
            .revoke_token(id)
            .await?)
    }
}

/// A server that runs until it is stopped.
#[derive(Debug)]
pub struct RunningServer {
    endpoint_id: String,
    http_addr: SocketAddr,
    coap_addr: SocketAddr,
    cmp_http_addr: Option<SocketAddr>,
    cmp_coap: Option<CoapListener>,
    enrolment: Option<Enrolment>,
    cmp_https_addr: Option<SocketAddr>,
    acs: Option<Acs>,
    proxy: Option<Front>,
    acs_addr: Option<SocketAddr>,
    acs_tls_addr: Option<SocketAddr>,
    network: Network,
    core: Core,
    app: AppState,
    store: Arc<SqliteStore>,
    renewal: Arc<Renewal>,
    telemetry: Option<Telemetry>,
    stop: watch::Sender<bool>,
    parts: Vec<JoinHandle<()>>,
    /// Held until the server is gone.
    lock: File,
}

impl RunningServer {
    /// Where the REST API and the console listen.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Has the CA announce what is to be announced now, its new roots among it, without waiting for the minute to be over.
    ///
    /// # Errors
    /// When the CA's directory or its list of revoked certificates cannot be used.
    pub async fn announce(&self) -> Result<(), EnrolError> {
        match &self.enrolment {
            Some(enrolment) => enrolment.announce().await,
            None => Ok(()),
        }
    }

    /// Where devices connect.
    pub fn coap_addr(&self) -> SocketAddr {
        self.coap_addr
    }

    /// Where devices ask for certificates over HTTP, when they can.
    pub fn cmp_http_addr(&self) -> Option<SocketAddr> {
        self.cmp_http_addr
    }

    /// Where devices ask for certificates over CoAP, when they can.
    pub fn cmp_coap_addr(&self) -> Option<SocketAddr> {
        self.cmp_coap.as_ref()?.plain_addr()
    }

    /// Where devices ask for certificates over CoAP and DTLS, when they can.
    pub fn cmp_coaps_addr(&self) -> Option<SocketAddr> {
        self.cmp_coap.as_ref()?.secure_addr()
    }

    /// The same over HTTPS.
    pub fn cmp_https_addr(&self) -> Option<SocketAddr> {
        self.cmp_https_addr
    }

    /// The proxy to CAs elsewhere, when there is one.
    pub fn proxy(&self) -> Option<&Front> {
        self.proxy.as_ref()
    }

    /// Where devices that speak TR-069 connect; `None` when there is no such address.
    pub fn acs_addr(&self) -> Option<SocketAddr> {
        self.acs_addr
    }

    /// Where devices behind address translation ask for their addresses, and from where they are woken.
    pub fn stun_addr(&self) -> Option<SocketAddr> {
        self.acs.as_ref().and_then(Acs::stun_addr)
    }

    /// The ACS, where there is one.
    pub fn acs(&self) -> Option<&Acs> {
        self.acs.as_ref()
    }

    /// The same over HTTPS.
    pub fn acs_tls_addr(&self) -> Option<SocketAddr> {
        self.acs_tls_addr
    }

    /// Where devices connect over an MTP, as a URI; `None` when there is no such address.
    pub fn address(&self, mtp: api::Mtp) -> Option<String> {
        self.network.address(mtp)
    }

    /// Telemetry, where it is listened for.
    pub fn telemetry(&self) -> Option<&Telemetry> {
        self.telemetry.as_ref()
    }

    /// Own Endpoint ID.
    pub fn endpoint_id(&self) -> &str {
        &self.endpoint_id
    }

    /// The core.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Makes a token.
    pub async fn create_token(&self, new: NewToken) -> Result<CreatedToken, CoreError> {
        self.core
            .local_access("server", Role::Admin)
            .create_token(new)
            .await
    }

    /// A link that logs a browser in once, as the token.
    pub fn login_link(&self, token: &str) -> String {
        format!(
            "http://{}/login?key={}",
            self.http_addr,
            self.app.login.issue(token)
        )
    }

    /// Reads the certificate files again and takes over what changed in them; sessions stay open.
    ///
    /// # Errors
    /// When one of them is no good; everything then stays as it was.
    pub async fn reload(&self) -> Result<api::Tls, TlsError> {
        self.renewal.reload().await
    }

    /// Stops: takes nothing new, stores what is under way, tells devices goodbye.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for part in self.parts {
            let abort = part.abort_handle();
            if tokio::time::timeout(GRACE, part).await.is_err() {
                // A listener of the live stream holds its connection for ever.
                abort.abort();
            }
        }
        if let Some(acs) = &self.acs {
            acs.stop_stun().await;
        }
        drop(tokio::time::timeout(GRACE, self.network.shutdown()).await);
        if let Some(cmp) = &self.cmp_coap {
            drop(tokio::time::timeout(GRACE, cmp.shutdown()).await);
        }
        if let Some(proxy) = &self.proxy {
            drop(tokio::time::timeout(GRACE, proxy.shutdown()).await);
        }
        let store = self.store;
        drop(tokio::task::spawn_blocking(move || store.close()).await);
        drop(self.lock);
    }
}

/// The CA with its front and its socket.
struct Authority {
    enrolment: Enrolment,
    http: Option<TcpListener>,
    http_addr: Option<SocketAddr>,
    coap: Option<CoapListener>,
    https: Option<(TcpListener, homefleet_net::tls::Tls)>,
    https_addr: Option<SocketAddr>,
}

/// Opens the CA, when this server is one.
async fn authority(
    config: &Config,
    clock: &Clock,
    core: &Core,
    store: &Arc<SqliteStore>,
    credentials: &Credentials,
) -> Result<Option<Authority>, StartError> {
    if !config.pki.enabled {
        return Ok(None);
    }
    let store = Arc::clone(store) as Arc<dyn Store>;
    let pki = Pki::open(&config.pki_config()?, store, clock.clone()).await?;
    let enrolment = Enrolment::start(&config.cmp, pki.clone(), clock.clone()).await?;
    let http = listen_if("cmp.http_listen", config.cmp.http_listen).await?;
    let https = match listen_if("cmp.https_listen", config.cmp.https_listen).await? {
        None => None,
        Some(listener) => {
            let tls = enrol::client_optional_tls(credentials);
            let tls = tls.map_err(|error| EnrolError::Certificate(error.to_string()))?;
            Some((listener, tls))
        }
    };
    let https_addr = https.as_ref().and_then(|it| it.0.local_addr().ok());
    let http_addr = http
        .as_ref()
        .and_then(|listener| listener.local_addr().ok());
    let known = enrolment.known();
    let coap = listener::cmp::start(&config.cmp, credentials, known, enrolment.service())?;
    let coap_addr = coap.as_ref().and_then(CoapListener::plain_addr);
    let coaps_addr = coap.as_ref().and_then(CoapListener::secure_addr);
    let addresses = [
        ("coaps", coaps_addr),
        ("coap", coap_addr),
        ("https", https_addr),
        ("http", http_addr),
    ];
    let addresses = addresses
        .into_iter()
        .filter_map(|(scheme, at)| Some(enrol::url(scheme, at?)));
    core.set_ca(CertificateAuthority {
        pki,
        enrolment: enrolment.clone(),
        addresses: addresses.collect(),
    });
    Ok(Some(Authority {
        enrolment,
        http,
        http_addr,
        coap,
        https,
        https_addr,
    }))
}

/// The ACS with its sockets.
struct AcsSockets {
    acs: Acs,
    http: Option<TcpListener>,
    http_addr: Option<SocketAddr>,
    https: Option<(TcpListener, homefleet_net::tls::Tls)>,
    https_addr: Option<SocketAddr>,
}

/// Makes the ACS, when devices are to come by TR-069.
async fn acs_sockets(
    config: &Config,
    core: &Core,
    credentials: &Credentials,
    verifier: &Arc<DeviceVerifier>,
) -> Result<Option<AcsSockets>, StartError> {
    let http = listen_if("acs.listen", config.acs.listen).await?;
    let https = match listen_if("acs.tls_listen", config.acs.tls_listen).await? {
        None => None,
        Some(listener) => {
            let verifier = Arc::clone(verifier) as Arc<dyn Verifier>;
            let tls = Acs::tls(credentials, verifier).map_err(|error| ConfigError::Value {
                key: "acs.tls_listen",
                problem: error.to_string(),
            })?;
            Some((listener, tls))
        }
    };
    if http.is_none() && https.is_none() {
        return Ok(None);
    }
    Ok(Some(AcsSockets {
        acs: Acs::new(core.clone(), config)?,
        http_addr: http.as_ref().and_then(|it| it.local_addr().ok()),
        https_addr: https.as_ref().and_then(|it| it.0.local_addr().ok()),
        http,
        https,
    }))
}

/// A socket, when one is wanted.
async fn listen_if(
    key: &'static str,
    address: Option<SocketAddr>,
) -> Result<Option<TcpListener>, StartError> {
    match address {
        Some(address) => listen(key, address).await.map(Some),
        None => Ok(None),
    }
}

/// Each device by its own protocol.
struct Protocols {
    usp: Controller,
    cwmp: Option<Acs>,
}

impl Protocol for Protocols {
    fn probe(&self, device: &DeviceRecord) -> Sending {
        match (&device.cwmp, &self.cwmp) {
            (None, _) => self.usp.probe(device),
            (Some(_), Some(acs)) => acs.probe(device),
            (Some(_), None) => nobody(),
        }
    }

    fn run(&self, device: &DeviceRecord, task: &TaskRecord) -> Sending {
        match (&device.cwmp, &self.cwmp) {
            (None, _) => self.usp.run(device, task),
            (Some(_), Some(acs)) => acs.run(device, task),
            (Some(_), None) => nobody(),
        }
    }
}

/// The device speaks TR-069, and nobody listens for it.
fn nobody() -> Sending {
    let problem = "the device speaks TR-069, and acs.listen is not set".to_owned();
    Box::pin(std::future::ready(Delivery::NotDelivered(problem)))
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| StartError::Listen {
        key,
        address,
        problem: error.to_string(),
    })
}

fn open_store(config: &Config) -> Result<SqliteStore, StartError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_dir)
        .map_err(|error| StartError::DataDir {
            path: config.data_dir.display().to_string(),
            problem: error.to_string(),
        })?;
    Ok(SqliteStore::open_with(
        &config.store_path(),
        config.limits(),
    )?)
}

/// Two servers on one store would run the same tasks.
fn lock(config: &Config) -> Result<File, StartError> {
    let path = config.data_dir.join("lock");
    let failed = |problem: String| StartError::DataDir {
        path: path.display().to_string(),
        problem,
    };
    let file = File::create(&path).map_err(|error| failed(error.to_string()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(failed("another server is running on it".to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(error.to_string())),
    }
}

/// A core for the tokens of a store, beside a running server: it must not touch the tasks.
async fn offline(config: &Config) -> Result<Core, StartError> {
    let store: Arc<dyn Store> = Arc::new(open_store(config)?);
    Ok(Core::open_accounts(config.core(), Clock::system(), store).await?)
}
