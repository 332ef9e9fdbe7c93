//! CMP over CoAP passed on to servers that speak CMP over HTTP only (RFC 9482 §3): the proxy of `[proxy]`, in a server or by itself.
//!
//! ```text
//!   devices ── coap, coaps ──▶ CoapListener ──▶ net::cmp::proxy::Proxy ── http, https ──▶ upstreams
//!                                                   │ counts, health
//!   an operator ── http ──▶ status, or the server's /metrics
//! ```
//!
//! It reads the files that the configuration names, and opens the sockets; what is passed on, and what is not, decides the library. It holds
//! no key of a CA and no secret of a device.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use homefleet_net::cmp::proxy::{
    Check, Health, Keys, Proxy as Passing, ProxyStats, Rest, Role, Room, Route, Upstream,
    UpstreamStats,
};

use homefleet_net::cmp::{
    Client, ClientConfig, CoapConfig, CoapListener, Secure, ServerTrust, Service,
};
use homefleet_net::dtls::{Budget, Credentials, TrustVerifier, Verifier};
use homefleet_trust::{Anchor, Policy, Time, anchors_from_pem};

use crate::config::{self, Proxy, ProxyCheck, ProxyRole, ProxyUpstream};
use crate::metrics::Sample;

mod samples;
mod status;

/// All clients together may send this many times what one may.
const CLIENTS: u32 = 20;

/// Why the proxy does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// A file cannot be used.
    #[error("{key}: {}: {problem}", path.display())]
    File {
        /// Configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// A value makes no sense.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// An address cannot be listened on.
    #[error("{key}: cannot listen on {address}: {problem}")]
    Listen {
        /// Configuration key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        problem: String,
    },
    /// An upstream cannot be made use of.
    #[error("proxy.upstream `{name}`: {problem}")]
    Upstream {
        /// Its name.
        name: String,
        /// Why.
        problem: String,
    },
}

/// A proxy that runs. Clones are the same one; it ends when the last is dropped, or by [`Front::shutdown`].
#[derive(Debug, Clone)]
pub struct Front {
    passing: Arc<Passing>,
    listener: CoapListener,
    /// Whether the certificate is one of its own, not the server's.
    own: Option<(PathBuf, PathBuf)>,
}

impl Front {
    /// Reads the files and listens. `credentials` are shown over `coaps` where the configuration names none.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub fn start(config: &Proxy, credentials: Option<&Credentials>) -> Result<Self, ProxyError> {
        let (passing, known) = passing(config)?;
        let own = config.certificate.clone().zip(config.key.clone());
        let credentials = match &own {
            Some((certificate, key)) => own_credentials(certificate, key)?,
            None => credentials.cloned().unwrap_or_default(),
        };
        let callers: Arc<dyn Verifier> =
            Arc::new(TrustVerifier::new(known, Policy::default(), || {
                Time::Accurate(SystemTime::now())
            }));
        let coap = CoapConfig {
            plain_listen: config.coap_listen,
            secure: config.coaps_listen.map(|listen| Secure {
                listen,
                credentials,
                callers: Some(callers),
            }),
            max_message: config.max_message,
            accept_octet_stream: config.accept_octet_stream,
            max_under_way: config.at_once,
            max_under_way_per_client: config.at_once_per_client,
            client_budget: Budget {
                burst: config.burst,
                per_second: config.per_second,
            },
            budget: Budget {
                burst: config.burst.saturating_mul(CLIENTS),
                per_second: config.per_second.saturating_mul(CLIENTS),
            },
            coap: homefleet_coap::Config {
                block_timeout: Duration::from_secs(config.gather_within),
                max_block_bytes: config.held_bytes,
                ..homefleet_coap::Config::default()
            },
            ..CoapConfig::default()
        };
        let passing = Arc::new(passing);
        let service = Arc::clone(&passing) as Arc<dyn Service>;
        let listener = CoapListener::bind(coap, service).map_err(|error| {
            let (key, address) = taken(config);
            ProxyError::Listen {
                key,
                address,
                problem: error.to_string(),
            }
        })?;
        Ok(Self {
            passing,
            listener,
            own,
        })
    }

    /// Where devices ask over CoAP.
    pub fn coap_addr(&self) -> Option<SocketAddr> {
        self.listener.plain_addr()
    }

    /// Where they ask over CoAP in DTLS.
    pub fn coaps_addr(&self) -> Option<SocketAddr> {
        self.listener.secure_addr()
    }

    /// How the upstreams fare.
    pub fn upstreams(&self) -> Vec<UpstreamStats> {
        self.passing.stats()
    }

    /// What else was counted.
    pub fn counts(&self) -> ProxyStats {
        self.passing.counts()
    }

    /// What passes messages on, for whoever asks upstreams on its own account.
    pub fn passing(&self) -> &Arc<Passing> {
        &self.passing
    }

    /// Whether messages can be passed on: an upstream is there, or nothing is known yet.
    pub fn is_ready(&self) -> bool {
        let upstreams = self.upstreams();
        upstreams.is_empty()
            || upstreams
                .iter()
                .any(|upstream| upstream.health != Health::Resting)
    }

    /// Reads its own certificate again; nothing happens where it shows the server's.
    ///
    /// # Errors
    /// When a file is no good; the old certificate is shown then.
    pub async fn reload(&self) -> Result<(), ProxyError> {
        let Some((certificate, key)) = &self.own else {
            return Ok(());
        };
        let credentials = own_credentials(certificate, key)?;
        let shown = self.listener.replace_credentials(credentials).await;
        shown.map_err(|error| wrong("proxy.certificate", certificate, error))
    }

    /// Takes over the server's new certificate, where it has none of its own.
    pub(crate) async fn replace_credentials(&self, new: Credentials) -> std::io::Result<()> {
        match self.own {
            Some(_) => Ok(()),
            None => self.listener.replace_credentials(new).await,
        }
    }

    /// What is counted, for `/metrics`.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        samples::of(&self.listener.stats(), &self.counts(), &self.upstreams())
    }

    /// Says goodbye to the devices and ends.
    pub async fn shutdown(&self) {
        self.listener.shutdown().await;
    }
}

/// Reads everything that the configuration names, as a start would.
///
/// # Errors
/// Names the first file that is no good.
pub fn check(config: &Proxy) -> Result<(), ProxyError> {
    if let (Some(certificate), Some(key)) = (&config.certificate, &config.key) {
        own_credentials(certificate, key)?;
    }
    passing(config).map(drop)
}

/// The library's proxy, and the CAs of those who have a role by their certificate.
fn passing(config: &Proxy) -> Result<(Passing, Vec<Anchor>), ProxyError> {
    let upstreams: Result<Vec<Upstream>, ProxyError> = config
        .upstream
        .iter()
        .map(|it| upstream(config, it))
        .collect();
    let routes = config.route.iter().filter_map(|route| {
        let mut upstreams = config.upstream.iter();
        Some(Route {
            label: route.label.clone(),
            host: route.host.clone(),
            upstream: upstreams.position(|it| it.name == route.upstream)?,
        })
    });
    let roles: Result<Vec<Role>, ProxyError> = config.role.iter().map(role).collect();
    let roles = roles?;
    let mut known: Vec<Anchor> = Vec::new();
    for anchor in roles.iter().flat_map(|role| &role.anchors) {
        if known
            .iter()
            .all(|other| other.fingerprint() != anchor.fingerprint())
        {
            known.push(anchor.clone());
        }
    }
    let room = Room {
        bytes: config.held_bytes,
        per_client: config.held_bytes_per_client,
    };
    let passing = Passing::new(upstreams?, routes.collect());
    let passing = passing.map_err(|error| ProxyError::Upstream {
        name: error.0.to_string(),
        problem: error.to_string(),
    })?;
    Ok((passing.with_roles(roles).with_room(room), known))
}

fn upstream(config: &Proxy, it: &ProxyUpstream) -> Result<Upstream, ProxyError> {
    let failed = |problem: String| ProxyError::Upstream {
        name: it.name.clone(),
        problem,
    };
    let identity = match (&it.certificate, &it.key) {
        (Some(certificate), Some(key)) => Some(credentials(
            ("proxy.upstream[].certificate", certificate),
            ("proxy.upstream[].key", key),
        )?),
        _ => None,
    };
    let client = Client::new(ClientConfig {
        identity,
        timeout: Duration::from_secs(it.timeout),
        chunked: it.chunked,
        chunk: match it.chunk_size {
            0 => usize::MAX,
            bytes => bytes,
        },
        max_answer: config.max_message.max(128 * 1024),
        max_idle: it.connections,
        ..ClientConfig::new(ServerTrust::Anchors(anchors(
            "proxy.upstream[].ca",
            &it.ca,
        )?))
    });
    let check = match it.check {
        ProxyCheck::Nothing => Check::Nothing,
        ProxyCheck::Shape => Check::Shape,
        ProxyCheck::Header => Check::Header,
        ProxyCheck::Protection => Check::Protection(Keys {
            anchors: anchors("proxy.upstream[].signers", &it.signers)?,
            strangers: it.signers.is_empty(),
            macs: it.macs,
        }),
    };
    Ok(Upstream {
        name: it.name.clone(),
        url: it.url().map_err(failed)?,
        client: client.map_err(|error| failed(error.to_string()))?,
        kinds: config::kinds("proxy.upstream[].allow", &it.allow)?,
        check,
        max_under_way: it.at_once,
        rest: Rest {
            after: it.rest_after,
            time: Duration::from_secs(it.rest),
        },
    })
}

fn role(it: &ProxyRole) -> Result<Role, ProxyError> {
    Ok(Role {
        name: it.name.clone(),
        anchors: anchors("proxy.role[].ca", &it.ca)?,
        secure: it.coaps_only,
        labels: (!it.labels.is_empty()).then(|| it.labels.clone()),
        kinds: config::kinds("proxy.role[].allow", &it.allow)?,
    })
}

fn own_credentials(certificate: &Path, key: &Path) -> Result<Credentials, ProxyError> {
    credentials(("proxy.certificate", certificate), ("proxy.key", key))
}

type File<'a> = (&'static str, &'a Path);

fn credentials(certificate: File<'_>, key: File<'_>) -> Result<Credentials, ProxyError> {
    let chain = read(certificate.0, certificate.1)?;
    let secret = read(key.0, key.1)?;
    Credentials::from_pem(&chain, &secret)
        .map_err(|error| wrong(certificate.0, certificate.1, error))
}

fn anchors(key: &'static str, files: &[PathBuf]) -> Result<Vec<Anchor>, ProxyError> {
    let mut all = Vec::new();
    for path in files {
        let found = anchors_from_pem(&read(key, path)?);
        all.extend(found.map_err(|error| wrong(key, path, error))?);
    }
    Ok(all)
}

fn read(key: &'static str, path: &Path) -> Result<String, ProxyError> {
    std::fs::read_to_string(path).map_err(|error| wrong(key, path, error))
}

fn wrong(key: &'static str, path: &Path, problem: impl std::fmt::Display) -> ProxyError {
    ProxyError::File {
        key,
        path: path.to_owned(),
        problem: problem.to_string(),
    }
}

/// Which of the addresses cannot be had.
fn taken(config: &Proxy) -> (&'static str, SocketAddr) {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let free = |address: SocketAddr| std::net::UdpSocket::bind(address).is_ok();
    match (config.coap_listen, config.coaps_listen) {
        (plain, Some(address)) if plain.is_none() || !free(address) => {
            ("proxy.coaps_listen", address)
        }
        (plain, _) => ("proxy.coap_listen", plain.unwrap_or(any)),
    }
}
