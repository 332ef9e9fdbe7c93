//! Starting and stopping the whole server.

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use homefleet_api::{CreatedToken, NewToken, Role, TokenList};
use homefleet_net::dtls::{self, Credentials, TrustVerifier};
use homefleet_net::mtp::{CoapMtp, CoapMtpConfig, Interface};
use homefleet_trust::{Policy, Time, anchors_from_pem};
use homefleet_usp::EndpointId;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::controller::Controller;
use crate::core::{Core, CoreError};
use crate::http::{self, AppState, NetworkCounters};
use crate::listener::coap::{self, CoapTransport, DeviceVerifier};
use crate::store::sqlite::SqliteStore;
use crate::store::{Store, StoreError};
use crate::task::driver;

/// Longest time a stop waits for requests under way.
const GRACE: Duration = Duration::from_secs(5);

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
    #[error("{key}: {path}: {problem}")]
    Tls {
        /// Configuration key.
        key: &'static str,
        /// File.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
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
        let mtp_config = mtp_config(&config, endpoint_id.clone())?;
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
        let (mtp, records) =
            CoapMtp::bind(mtp_config)
                .await
                .map_err(|error| StartError::Listen {
                    key: "coap.listen",
                    address: listen,
                    problem: error.to_string(),
                })?;
        let coap_addr = mtp.local_addr();
        let http_addr = http_listener.local_addr().unwrap_or(config.http.listen);
        core.set_coap_address(match &config.coap.advertise {
            Some(advertise) => format!("coaps://{advertise}/{}", config.coap.path),
            None => format!("coaps://{coap_addr}/{}", config.coap.path),
        });

        let (stop, stopped) = watch::channel(false);
        let controller = Controller::new(
            core.clone(),
            endpoint_id,
            Box::new(CoapTransport(mtp.clone())),
        );
        let network = mtp.clone();
        let app = AppState {
            core: core.clone(),
            login: crate::ui::LoginKeys::default(),
            public_metrics: config.http.public_metrics,
            secure_cookies: config.http.behind_tls_proxy,
            network: Some(NetworkCounters(Arc::new(move || {
                network_counters(&network)
            }))),
        };
        let router = http::router(app.clone(), config.http.body_limit);
        let mut stop_http = stopped.clone();
        let serve = async move {
            let graceful = async move { drop(stop_http.changed().await) };
            if let Err(error) = axum::serve(http_listener, router)
                .with_graceful_shutdown(graceful)
                .await
            {
                tracing::error!(%error, "the HTTP listener failed");
            }
        };
        let parts = vec![
            tokio::spawn(coap::run(
                controller.clone(),
                records,
                clock,
                stopped.clone(),
            )),
            tokio::spawn(driver::run(
                core.clone(),
                Arc::new(controller),
                stopped.clone(),
            )),
            tokio::spawn(serve),
            tokio::spawn(core.clone().run_upkeep(stopped)),
        ];
        tracing::info!(%coap_addr, %http_addr, "listening");
        Ok(RunningServer {
            endpoint_id: config.endpoint_id,
            http_addr,
            coap_addr,
            mtp,
            core,
            app,
            store,
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
    mtp: CoapMtp,
    core: Core,
    app: AppState,
    store: Arc<SqliteStore>,
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
        drop(tokio::time::timeout(GRACE, self.mtp.shutdown()).await);
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

fn read(key: &'static str, path: &Path) -> Result<String, StartError> {
    std::fs::read_to_string(path).map_err(|error| StartError::Tls {
        key,
        path: path.display().to_string(),
        problem: error.to_string(),
    })
}

fn mtp_config(config: &Config, endpoint_id: EndpointId) -> Result<CoapMtpConfig, StartError> {
    let tls = &config.tls;
    let credentials = Credentials::from_pem(
        &read("tls.certificate", &tls.certificate)?,
        &read("tls.key", &tls.key)?,
    )
    .map_err(|error| StartError::Tls {
        key: "tls.certificate",
        path: tls.certificate.display().to_string(),
        problem: error.to_string(),
    })?;
    let wrong = |problem: String| StartError::Tls {
        key: "tls.anchors",
        path: tls.anchors.display().to_string(),
        problem,
    };
    let anchors = anchors_from_pem(&read("tls.anchors", &tls.anchors)?)
        .map_err(|error| wrong(error.to_string()))?;
    if anchors.is_empty() {
        return Err(wrong(
            "holds no certificate: no device could ever be trusted".to_owned(),
        ));
    }
    // A server's clock is taken to be right: certificates' dates are always validated (R-MTP.3).
    let verifier = TrustVerifier::new(anchors, Policy::default(), || {
        Time::Accurate(SystemTime::now())
    });
    Ok(CoapMtpConfig {
        endpoint_id,
        interface: Interface::Controller,
        listen: config.coap.listen,
        plain_listen: config.coap.plain_listen,
        path: config.coap.path.clone(),
        advertise: config.coap.advertise.clone(),
        credentials,
        verifier: Arc::new(DeviceVerifier(verifier)),
        coap: homefleet_coap::Config::default(),
        dtls: dtls::Config::default(),
    })
}

fn network_counters(mtp: &CoapMtp) -> Vec<(&'static str, u64)> {
    let stats = mtp.stats();
    vec![
        ("mtp_records_in", stats.records_in),
        ("mtp_records_out", stats.records_out),
        ("mtp_records_failed", stats.records_failed),
        ("mtp_rejected", stats.rejected),
        ("mtp_identity_mismatch", stats.identity_mismatch),
        ("mtp_queue_full", stats.queue_full),
        ("mtp_not_found", stats.not_found),
    ]
}
