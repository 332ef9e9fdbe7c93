//! A TCP connection to an output's peer, in TLS where a CA is given.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::SinkError;

/// Longest time until a connection stands.
const CONNECT: Duration = Duration::from_secs(10);
/// Addresses of a name that are tried.
const ADDRESSES: usize = 4;

/// What is read from and written to.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// TLS that trusts the CAs of a file, PEM.
pub(super) fn connector(ca: &Path) -> Result<TlsConnector, String> {
    let failed = |problem: String| format!("ca: {}: {problem}", ca.display());
    let mut roots = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(ca).map_err(|error| failed(error.to_string()))?
    {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(failed("there is no certificate in it".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Connects.
pub(super) async fn connect(host: &str, port: u16) -> Result<TcpStream, SinkError> {
    let late = || SinkError::Away(format!("{host}:{port}: it did not answer in time"));
    let failed = |error: std::io::Error| SinkError::Away(format!("{host}:{port}: {error}"));
    // An IPv6 address stands in brackets in a URL.
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let found = timeout(CONNECT, tokio::net::lookup_host((name, port)))
        .await
        .map_err(|_| late())?
        .map_err(failed)?;
    let mut last = SinkError::Away(format!("{host}: the name has no address"));
    for address in found.take(ADDRESSES) {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Batches are written at once; a failure costs speed only.
                drop(stream.set_nodelay(true));
                return Ok(stream);
            }
            Ok(Err(error)) => last = failed(error),
            Err(_) => last = late(),
        }
    }
    Err(last)
}

/// Puts TLS over a connection; the peer's certificate must be good for `host`.
pub(super) async fn secure(
    connector: &TlsConnector,
    host: &str,
    stream: TcpStream,
) -> Result<Box<dyn Stream>, SinkError> {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(name.to_owned())
        .map_err(|error| SinkError::Away(format!("{host}: {error}")))?;
    match timeout(CONNECT, connector.connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(SinkError::Away(format!("{host}: TLS: {error}"))),
        Err(_) => Err(SinkError::Away(format!("{host}: TLS: no answer in time"))),
    }
}

/// The first line of a file that holds a secret.
pub(super) fn secret(key: &str, path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{key}: {}: {error}", path.display()))?;
    let line = text.lines().next().unwrap_or_default().to_owned();
    if line.is_empty() {
        return Err(format!(
            "{key}: {}: its first line is empty",
            path.display()
        ));
    }
    Ok(line)
}
