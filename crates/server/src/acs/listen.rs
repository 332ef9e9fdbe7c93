//! The connections of devices: HTTP, and HTTPS where a device may show a certificate.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use homefleet_net::dtls::{Credentials, Role, Verifier};
use homefleet_net::tls::{Tls, TlsConfig};
use homefleet_trust::{Basis, Decision, PeerIdentity};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::{Acs, http};

/// Connections beyond the sessions there may be: of those who have yet to log in, are turned away, or fetch files.
const SPARE_CONNECTIONS: usize = 1024;
/// How much longer than a device may take for its next message its connection stays.
const GRACE: Duration = Duration::from_secs(5);
/// Pause after a failed accept: out of descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection.
pub(super) struct Peer {
    /// Where it comes from: the device, or a proxy.
    pub(super) from: IpAddr,
    /// Whether the connection has TLS, ended here.
    pub(super) secure: bool,
    /// The certificate that it showed and that was found good.
    pub(super) identity: Option<Arc<PeerIdentity>>,
    /// The cookie of the last session that was begun here, for devices that keep none.
    pub(super) last: Mutex<Option<String>>,
}

impl Peer {
    /// SHA-256 of its certificate.
    pub(super) fn fingerprint(&self) -> Option<[u8; 32]> {
        self.identity.as_ref().map(|identity| identity.fingerprint)
    }
}

/// Accepts and answers until `stop` changes, then finishes what is under way. With `tls`, every connection has it.
pub(super) async fn serve(
    acs: Acs,
    listener: TcpListener,
    tls: Option<Tls>,
    mut stop: watch::Receiver<bool>,
) {
    let most = acs.0.policy.sessions.saturating_add(SPARE_CONNECTIONS);
    let room = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(acs.0.policy.timeout + GRACE);
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, (stream, from)) = tokio::select! {
            accepted = accepted => match accepted {
                (Ok(permit), Ok(accepted)) => (permit, accepted),
                (_, accepted) => {
                    if let Err(error) = accepted {
                        tracing::warn!(%error, "a device's connection could not be accepted");
                    }
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
            _ = stop.changed() => break,
        };
        // Each message waits for the one before it.
        drop(stream.set_nodelay(true));
        let (acs, http, watcher) = (acs.clone(), http.clone(), graceful.watcher());
        let Some(tls) = tls.clone() else {
            let service = service(acs, peer(from, false, None));
            let connection = watcher.watch(http.serve_connection(TokioIo::new(stream), service));
            tokio::spawn(async move {
                // A device that goes away in the middle comes again.
                drop(connection.await);
                drop(permit);
            });
            continue;
        };
        tokio::spawn(async move {
            // Handshakes are bounded and counted by whoever makes them.
            if let Ok(stream) = tls.accept_from(stream, from).await {
                let identity = stream.identity();
                let judged = identity.basis != Basis::NotVerified;
                let service = service(acs, peer(from, true, judged.then_some(identity)));
                let connection = http.serve_connection(TokioIo::new(stream), service);
                drop(watcher.watch(connection).await);
            }
            drop(permit);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

fn peer(from: SocketAddr, secure: bool, identity: Option<Arc<PeerIdentity>>) -> Arc<Peer> {
    Arc::new(Peer {
        from: from.ip().to_canonical(),
        secure,
        identity,
        last: Mutex::new(None),
    })
}

fn service(
    acs: Acs,
    peer: Arc<Peer>,
) -> impl hyper::service::Service<
    hyper::Request<hyper::body::Incoming>,
    Response = axum::response::Response,
    Error = Infallible,
    Future: Send,
> {
    service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (acs, peer) = (acs.clone(), Arc::clone(&peer));
        async move { Ok(http::answer(acs, peer, request.map(Body::new)).await) }
    })
}

/// TLS for devices: one without a certificate logs in, one with a certificate is judged by it, and refused when it is no good.
///
/// # Errors
/// When the credentials cannot be used.
pub(super) fn tls(credentials: &Credentials, verifier: Arc<dyn Verifier>) -> std::io::Result<Tls> {
    let mut config = TlsConfig::default();
    config.anonymous = true;
    // A peer without a certificate has nothing to be judged by again.
    config.resumption = false;
    Tls::with_config(config, credentials, Arc::new(Visitors(verifier)))
}

/// Takes peers without a certificate as nobody in particular, and has the others judged.
struct Visitors(Arc<dyn Verifier>);

impl Verifier for Visitors {
    fn verify(&self, chain: &[Vec<u8>], role: Role<'_>, cached: bool) -> Decision {
        if chain.is_empty() {
            Decision::not_verified(chain)
        } else {
            self.0.verify(chain, role, cached)
        }
    }

    fn generation(&self) -> u64 {
        self.0.generation()
    }

    fn time(&self) -> Option<std::time::SystemTime> {
        self.0.time()
    }
}
