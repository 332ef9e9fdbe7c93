//! TLS for the Message Transfer Protocols over TCP: against itself, and against independent peers.

mod abuse;
mod handshake;
mod interop;
mod resumption;
mod standing;

use std::sync::Arc;
use std::time::Duration;

use homefleet_net::dtls::Verifier;
use homefleet_net::tls::{Tls, TlsConfig, TlsError, TlsStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use crate::support::pki::Issued;

pub(crate) const AGENT: &str = "os::00256D-agent";
pub(crate) const CONTROLLER: &str = "os::00256D-controller";
/// Long enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Side = Result<TlsStream<DuplexStream>, TlsError>;

pub(crate) fn tls(issued: &Issued, verifier: Arc<dyn Verifier>) -> Tls {
    Tls::new(&issued.credentials(), verifier).unwrap()
}

pub(crate) fn tls_with(config: TlsConfig, issued: &Issued, verifier: Arc<dyn Verifier>) -> Tls {
    Tls::with_config(config, &issued.credentials(), verifier).unwrap()
}

/// Both sides of one handshake over a pipe, the client's first.
pub(crate) async fn shake(
    client: &Tls,
    server: &Tls,
    host: &str,
    endpoint_id: Option<&str>,
) -> (Side, Side) {
    let (near, far) = tokio::io::duplex(16_384);
    timeout(PATIENCE, async {
        tokio::join!(client.connect(near, host, endpoint_id), server.accept(far))
    })
    .await
    .unwrap()
}

/// Sends `bytes` one way and says whether they arrived.
pub(crate) async fn pass(
    from: &mut TlsStream<DuplexStream>,
    to: &mut TlsStream<DuplexStream>,
    bytes: &[u8],
) -> std::io::Result<()> {
    timeout(PATIENCE, async {
        from.write_all(bytes).await?;
        from.flush().await?;
        let mut got = vec![0; bytes.len()];
        to.read_exact(&mut got).await?;
        assert_eq!(got, bytes);
        Ok(())
    })
    .await
    .unwrap()
}
