//! A connection whose TLS was ended by a proxy in front of us, which hands the peer's certificate on (RFC 9440).

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use homefleet_trust::PeerIdentity;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Tls;
use super::error::{Distrust, TlsError};
use super::link::Link;
use super::stream::Guard;
use super::watch::Direction;
use crate::dtls::Purpose;

impl Tls {
    /// Decides about a peer that came to us through somebody who vouches that the peer holds the key of this certificate: leaf
    /// first, as it was presented there. `stream` leads there. The decision is that of [`Tls::accept`], and waits and is made
    /// again as that is.
    ///
    /// # Errors
    /// [`TlsError::Refused`], also for an empty chain (R-MTP.1), and [`TlsError::Undecided`], with the stream, so that the peer
    /// can be told.
    pub async fn vouch<S>(
        &self,
        stream: S,
        chain: Vec<Vec<u8>>,
    ) -> Result<Vouched<S>, (TlsError, S)> {
        let link = Link::new(self.shared.verifier.clone(), Purpose::Accepted);
        link.decide(chain.into(), false);
        let Some(verdict) = link.verdict() else {
            return Err((TlsError::Undecided, stream));
        };
        match self.decided(link, verdict).await {
            Ok((guard, identity)) => Ok(Vouched {
                inner: stream,
                guard,
                identity,
            }),
            Err(error) => Err((error, stream)),
        }
    }
}

/// The connection to who vouches for a peer that the [`Verifier`](crate::dtls::Verifier) accepted. The peer is judged again as that
/// of a [`TlsStream`](super::TlsStream), and nothing passes when it is refused.
pub struct Vouched<S> {
    inner: S,
    guard: Guard,
    /// By the first decision.
    identity: Arc<PeerIdentity>,
}

impl<S> Vouched<S> {
    /// Who the peer is, by the last decision that accepted it.
    pub fn identity(&self) -> Arc<PeerIdentity> {
        let last = self.guard.watch.identity();
        last.unwrap_or_else(|| self.identity.clone())
    }

    /// Resolves when the peer, judged again, is not trusted any more, see [`TlsStream::distrusted`](super::TlsStream::distrusted).
    pub fn distrusted(&self) -> impl Future<Output = Distrust> + Send + 'static + use<S> {
        self.guard.distrusted()
    }

    /// The connection underneath.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Vouched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.guard.watch.poll_pass(cx, Direction::Read))?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.guard.watch.heard();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Vouched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.guard.watch.poll_pass(cx, Direction::Write))?;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.guard.watch.poll_pass(cx, Direction::Write))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S> fmt::Debug for Vouched<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vouched")
            .field("peer", &self.identity().subject)
            .finish_non_exhaustive()
    }
}
