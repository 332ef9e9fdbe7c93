//! One handshake, from the first byte to the decision.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use homefleet_trust::{Alert, PeerIdentity, Refusal};
use rustls::HandshakeKind;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::error::{Distrust, TlsError};
use super::link::{LINK, Link, Verdict};
use super::places::{Place, Waiting};
use super::stats::count;
use super::stream::{Guard, TlsStream};
use super::watch::{Standing, Watch};
use super::{Tls, alert};

/// How long, and for how many bytes, a refused peer is listened to, so that what is left of its flight does not cost it the
/// alert.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 65_536;

/// What the engine gives back: the stream, or the connection underneath with what went wrong.
pub(super) type Shaken<S> = Result<tokio_rustls::TlsStream<S>, (io::Error, S)>;

impl Tls {
    pub(super) async fn shake<S>(
        &self,
        link: Arc<Link>,
        handshake: impl Future<Output = Shaken<S>>,
        place: Option<Place>,
    ) -> Result<TlsStream<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let evicted = async {
            match &place {
                Some(place) => place.evicted.notified().await,
                None => std::future::pending().await,
            }
        };
        let limit = self.shared.config.handshake_timeout;
        let shaken = tokio::select! {
            biased;
            shaken = timeout(limit, LINK.scope(link.clone(), handshake)) => shaken,
            () = evicted => return Err(TlsError::Evicted),
        };
        match shaken {
            Err(_) => {
                count(&self.shared.counters.handshake_timeouts);
                Err(TlsError::Timeout)
            }
            Ok(Err((error, stream))) => {
                let error = self.failure(&link, error);
                linger(stream).await;
                Err(error)
            }
            Ok(Ok(stream)) => {
                drop(place);
                self.settle(link, stream).await
            }
        }
    }

    fn failure(&self, link: &Link, error: io::Error) -> TlsError {
        let counters = &self.shared.counters;
        let engine = error
            .get_ref()
            .and_then(|error| error.downcast_ref::<rustls::Error>());
        match engine {
            Some(rustls::Error::AlertReceived(alert)) => {
                count(&counters.peer_alerts);
                return TlsError::Alert(u8::from(*alert));
            }
            Some(rustls::Error::NoCertificatesPresented) => {
                // R-MTP.1: decided all the same, so that the refusal carries its reasons.
                link.decide(Arc::from([]), false);
            }
            _ => {}
        }
        if let Some(verdict) = link.verdict()
            && verdict.decision.refusal().is_some()
        {
            count(&counters.refused);
            return TlsError::Refused(Box::new(verdict.decision));
        }
        count(&counters.handshake_errors);
        match engine {
            Some(engine) => TlsError::Engine(engine.to_string()),
            None => TlsError::Io(Arc::new(error)),
        }
    }

    /// The handshake is done: the decision, or the wait for it.
    async fn settle<S>(
        &self,
        link: Arc<Link>,
        stream: tokio_rustls::TlsStream<S>,
    ) -> Result<TlsStream<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let shared = &self.shared;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        if shown.is_empty() && shared.config.anonymous {
            link.decide(Arc::from([]), resumed);
        }
        let verdict = link.verdict().filter(|verdict| {
            verdict.decision.refusal().is_none()
                && verdict.chain.iter().eq(shown.iter().map(AsRef::as_ref))
        });
        let Some(verdict) = verdict else {
            count(&shared.counters.handshake_errors);
            return Err(TlsError::Engine(
                "the peer was not decided about".to_owned(),
            ));
        };
        match self.decided(link, verdict).await {
            Ok((guard, identity)) => {
                if resumed {
                    count(&shared.counters.resumed);
                }
                Ok(TlsStream::new(stream, guard, identity, resumed))
            }
            Err(error) => {
                let alert = match &error {
                    TlsError::Refused(decision) => decision.refusal().map(Refusal::alert),
                    _ => None,
                };
                goodbye(stream, alert.unwrap_or(Alert::CERTIFICATE_UNKNOWN)).await;
                Err(error)
            }
        }
    }

    /// Waits for the decision if it is still to be made; then the peer is in, or refused.
    pub(super) async fn decided(
        &self,
        link: Arc<Link>,
        verdict: Verdict,
    ) -> Result<(Guard, Arc<PeerIdentity>), TlsError> {
        let shared = &self.shared;
        let watch = Arc::new(Watch::new(shared.id(), shared.clone(), link, verdict));
        let guard = Guard::new(shared.clone(), watch.clone());
        let waiting = watch
            .is_held()
            .then(|| Waiting::take(shared, watch.id, watch.chain()));
        let mut standing = watch.subscribe();
        let decided = standing
            .wait_for(|standing| !matches!(standing, Standing::Held))
            .await
            .map(|standing| standing.clone());
        drop(waiting);
        match (decided, watch.identity()) {
            (Ok(Standing::Trusted), Some(identity)) => {
                watch.establish();
                count(&shared.counters.established);
                Ok((guard, identity))
            }
            (Ok(Standing::Distrusted(Distrust::Refused(decision))), _) => {
                count(&shared.counters.refused);
                Err(TlsError::Refused(Box::new((*decision).clone())))
            }
            _ => Err(TlsError::Undecided),
        }
    }
}

/// Tells a peer why it is refused after all. Whether it hears of it is its own affair.
async fn goodbye<S: AsyncRead + AsyncWrite + Unpin>(
    stream: tokio_rustls::TlsStream<S>,
    alert: Alert,
) {
    let said = timeout(LINGER, alert::send(stream, alert.code())).await;
    if let Ok(Some(stream)) = said {
        linger(stream).await;
    }
}

/// Closes our side and waits until the peer has closed its own: what it still sends would have it lose our last words.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let bye = async {
        stream.shutdown().await?;
        let mut left = LINGER_BYTES;
        let mut buffer = [0; 2048];
        while left > 0 {
            match stream.read(&mut buffer).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        io::Result::Ok(())
    };
    // However it ends, it is over.
    let _over = timeout(LINGER, bye).await;
}
