//! Starting and stopping the whole server.

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use homefleet_api::{self as api, CreatedToken, NewToken, Role, TokenList};
use homefleet_net::dtls::{self, TrustVerifier};
use homefleet_net::mtp::{CoapMtp, CoapMtpConfig, Event, Interface, Mtps};
use homefleet_trust::{Policy, Time};
use homefleet_usp::EndpointId;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::controller::Controller;
use crate::core::{Core, CoreError};
use crate::http::{self, AppState, Samples};
use crate::listener;
use crate::listener::verifier::{Certificates, DeviceVerifier};
use crate::metrics::Sample;
use crate::store::sqlite::SqliteStore;
use crate::store::{Store, StoreError};
use crate::task::driver;
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
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
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

        let http_listener = TcpListener::bind(config.http.listen)
            .await
            .map_err(|error| StartError::Listen {
                key: "http.listen",
                address: config.http.listen,
                problem: error.to_string(),
            })?;
        let listen = config.coap.listen;
        let (events, happened) = mpsc::channel(EVENTS);
        let mtp = CoapMtp::bind(mtp_config(
            &config,
            endpoint_id.clone(),
            &material,
            Arc::clone(&verifier),
            events,
        ))
        .await
        .map_err(|error| StartError::Listen {
            key: "coap.listen",
            address: listen,
            problem: error.to_string(),
        })?;
        let ways = Mtps {
            coap: Some(mtp.clone()),
            ..Mtps::default()
        };
        if let Some(evidence) = &evidence {
            evidence.serve(&ways);
        }
        let coap_addr = mtp.local_addr();
        let http_addr = http_listener.local_addr().unwrap_or(config.http.listen);
        core.set_coap_address(match &config.coap.advertise {
            Some(advertise) => format!("coaps://{advertise}/{}", config.coap.path),
            None => format!("coaps://{coap_addr}/{}", config.coap.path),
        });

        let renewal = Arc::new(Renewal::new(
            config.tls.clone(),
            config.endpoint_id.clone(),
            Box::new(Certificates {
                ways: ways.clone(),
                verifier,
                evidence,
            }),
            refusals,
            &material,
            stamps,
        ));
        core.set_renewal(Arc::clone(&renewal));

        let (stop, stopped) = watch::channel(false);
        let controller = Controller::new(core.clone(), endpoint_id, Box::new(ways.clone()));
        let (network, certificates) = (mtp.clone(), Arc::clone(&renewal));
        let app = AppState {
            core: core.clone(),
            login: crate::ui::LoginKeys::default(),
            public_metrics: config.http.public_metrics,
            secure_cookies: config.http.behind_tls_proxy,
            network: Some(Samples(Arc::new(move || {
                let mut samples = certificates.samples();
                samples.extend(network_samples(&network));
                samples
            }))),
        };
        let router = http::router(app.clone(), config.http.body_limit);
        let mut parts = vec![
            tokio::spawn(listener::run(
                controller.clone(),
                happened,
                clock,
                stopped.clone(),
            )),
            tokio::spawn(driver::run(
                core.clone(),
                Arc::new(controller),
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
        if config.tls.watch > 0 {
            let interval = Duration::from_secs(config.tls.watch);
            parts.push(tokio::spawn(Arc::clone(&renewal).run(interval, stopped)));
        }
        tracing::info!(%coap_addr, %http_addr, "listening");
        Ok(RunningServer {
            endpoint_id: config.endpoint_id,
            http_addr,
            coap_addr,
            ways,
            core,
            app,
            store,
            renewal,
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
    ways: Mtps,
    core: Core,
    app: AppState,
    store: Arc<SqliteStore>,
    renewal: Arc<Renewal>,
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

    /// Where devices connect.
    pub fn coap_addr(&self) -> SocketAddr {
        self.coap_addr
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
        drop(tokio::time::timeout(GRACE, self.ways.shutdown()).await);
        let store = self.store;
        drop(tokio::task::spawn_blocking(move || store.close()).await);
        drop(self.lock);
    }
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

fn mtp_config(
    config: &Config,
    endpoint_id: EndpointId,
    material: &Material,
    verifier: Arc<DeviceVerifier>,
    events: mpsc::Sender<Event>,
) -> CoapMtpConfig {
    CoapMtpConfig {
        endpoint_id,
        interface: Interface::Controller,
        listen: config.coap.listen,
        plain_listen: config.coap.plain_listen,
        groups: Vec::new(),
        path: config.coap.path.clone(),
        advertise: config.coap.advertise.clone(),
        credentials: material.credentials.clone(),
        verifier,
        coap: homefleet_coap::Config::default(),
        dtls: dtls::Config::default(),
        events,
    }
}

fn network_samples(mtp: &CoapMtp) -> Vec<Sample> {
    let stats = mtp.stats();
    let dtls = stats.node.dtls;
    let now = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let (sessions, states) = ("sessions", "DTLS associations and handshakes now, by state");
    let open = stats.node.sessions.saturating_sub(stats.node.half_open);
    let mut samples = vec![
        Sample::gauge(sessions, states, now(open)).labelled("state", "open"),
        Sample::gauge(sessions, states, now(stats.node.half_open)).labelled("state", "half_open"),
        Sample::gauge(sessions, states, now(stats.node.held)).labelled("state", "held"),
    ];
    for (name, help, value) in [
        ("mtp_records_in", "USP Records received", stats.records_in),
        (
            "mtp_records_out",
            "USP Records delivered",
            stats.records_out,
        ),
        (
            "mtp_records_failed",
            "USP Records not delivered",
            stats.records_failed,
        ),
        (
            "mtp_rejected",
            "CoAP requests that carry no USP Record",
            stats.rejected,
        ),
        (
            "mtp_identity_mismatch",
            "USP Records in the name of another Endpoint than the certificate's",
            stats.identity_mismatch,
        ),
        (
            "mtp_queue_full",
            "USP Records turned away because of load",
            stats.queue_full,
        ),
        (
            "mtp_not_found",
            "CoAP requests to other resources",
            stats.not_found,
        ),
        (
            "dtls_handshakes_in",
            "Handshakes begun by peers",
            dtls.handshakes_in,
        ),
        (
            "dtls_handshakes_out",
            "Handshakes begun by this server",
            dtls.handshakes_out,
        ),
        (
            "dtls_established",
            "Handshakes that ended well",
            dtls.established,
        ),
        ("dtls_resumed", "Of these, resumed", dtls.resumed),
        (
            "dtls_refused",
            "Handshakes refused because of the certificate",
            dtls.refused,
        ),
        (
            "dtls_distrusted",
            "Associations ended because their peer, judged again, was refused",
            dtls.distrusted,
        ),
        (
            "dtls_held",
            "Associations held because their decision waited for evidence",
            dtls.held,
        ),
        (
            "dtls_undecided",
            "Of these, ended because it did not come in time",
            dtls.undecided,
        ),
        (
            "dtls_peer_alerts",
            "Handshakes that the peer refused",
            dtls.peer_alerts,
        ),
        (
            "dtls_handshake_timeouts",
            "Handshakes that took too long",
            dtls.handshake_timeouts,
        ),
        (
            "dtls_prefix_budget_exceeded",
            "Handshakes turned away because the budget of their source was spent",
            dtls.prefix_budget_exceeded,
        ),
        (
            "dtls_global_budget_exceeded",
            "Handshakes turned away because the budget of all was spent",
            dtls.global_budget_exceeded,
        ),
        (
            "dtls_half_open_evicted",
            "Half-open handshakes dropped for newer ones",
            dtls.half_open_evicted,
        ),
        (
            "dtls_amplification_held",
            "Datagrams held back because the address had sent less than a third",
            dtls.amplification_held,
        ),
        (
            "dtls_amplification_dropped",
            "Datagrams dropped because the address had sent less than a third",
            dtls.amplification_dropped,
        ),
        (
            "dtls_patient",
            "Handshakes of clients that had been turned away because the budget of all was spent and came again",
            dtls.patient,
        ),
        (
            "dtls_forged_alerts",
            "Unprotected alerts in handshakes that went on all the same",
            dtls.forged_alerts,
        ),
        (
            "dtls_begun_anew",
            "Handshakes of this server begun anew after unprotected datagrams had spoilt them",
            dtls.begun_anew,
        ),
        (
            "dtls_certificate_evicted",
            "Associations closed because the same certificate had too many",
            dtls.certificate_evicted,
        ),
        (
            "dtls_judged_again",
            "Open associations whose peer was judged again",
            dtls.judged_again,
        ),
    ] {
        samples.push(Sample::counter(name, help, value));
    }
    samples
}
