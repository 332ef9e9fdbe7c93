//! The engine's configuration for both roles.

use std::io;
use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme, SupportedProtocolVersion, version};
use zeroize::Zeroize;

use super::config::{TlsConfig, TlsVersions};
use super::resume::{Sessions, Tickets};
use super::verifier::Judge;
use crate::dtls::Credentials;

/// Configurations for both roles; sessions are resumed only within one engine.
pub(super) struct Engine {
    pub(super) client: Arc<ClientConfig>,
    pub(super) server: Arc<ServerConfig>,
}

fn unusable(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
}

impl Engine {
    /// # Errors
    /// When the credentials cannot be used.
    pub(super) fn new(config: &TlsConfig, credentials: &Credentials) -> io::Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions: &[&SupportedProtocolVersion] = match config.versions {
            TlsVersions::Both => &[&version::TLS13, &version::TLS12],
            TlsVersions::Tls12 => &[&version::TLS12],
            TlsVersions::Tls13 => &[&version::TLS13],
        };
        let judge = Arc::new(Judge {
            algorithms: provider.signature_verification_algorithms,
            anonymous: config.anonymous,
        });
        let ours = Arc::new(Ours(certified(credentials)?.map(Arc::new)));

        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(judge.clone())
            .with_client_cert_resolver(ours.clone());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(unusable)?
            .with_client_cert_verifier(judge)
            .with_cert_resolver(ours);
        // For the last record of a peer that is refused after it was held, see `alert`.
        client.enable_secret_extraction = true;
        server.enable_secret_extraction = true;
        if config.resumption {
            client.resumption = Resumption::store(Arc::new(Tickets::new(config.max_servers)));
            server.session_storage = Arc::new(Sessions::new(config.max_sessions));
            server.send_tls13_tickets = 1;
        } else {
            client.resumption = Resumption::disabled();
            server.session_storage = Arc::new(NoServerSessionStorage {});
            server.send_tls13_tickets = 0;
        }
        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
        })
    }
}

/// Our certificate and key, whoever asks. Without, a client shows none, and a server gets no further.
#[derive(Debug)]
struct Ours(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Ours {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

impl ResolvesServerCert for Ours {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}

fn certified(credentials: &Credentials) -> io::Result<Option<CertifiedKey>> {
    let Some(key) = credentials.key_pkcs8()? else {
        return Ok(None);
    };
    let chain = credentials
        .chain_der()?
        .into_iter()
        .map(CertificateDer::from)
        .collect();
    let mut key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    let signing = aws_lc_rs::sign::any_supported_type(&key);
    key.zeroize();
    Ok(Some(CertifiedKey::new(chain, signing.map_err(unusable)?)))
}
