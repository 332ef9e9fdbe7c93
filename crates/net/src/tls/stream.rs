//! A connection whose peer was accepted, and through which nothing passes when it is not any more.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use homefleet_trust::PeerIdentity;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;

use super::Shared;
use super::error::Distrust;
use super::link::LINK;
use super::watch::{Direction, Standing, Watch};

/// Keeps a decision up to date for as long as it is there.
pub(super) struct Guard {
    shared: Arc<Shared>,
    pub(super) watch: Arc<Watch>,
    keeper: AbortHandle,
}

impl Guard {
    pub(super) fn new(shared: Arc<Shared>, watch: Arc<Watch>) -> Self {
        let keeper = tokio::spawn(watch.clone().keep()).abort_handle();
        shared.insert(&watch);
        Self {
            shared,
            watch,
            keeper,
        }
    }

    /// Resolves when the peer is not trusted any more; never after the guard has gone.
    pub(super) fn distrusted(&self) -> impl Future<Output = Distrust> + Send + 'static + use<> {
        let mut standing = self.watch.subscribe();
        async move {
            let why = standing
                .wait_for(|standing| matches!(standing, Standing::Distrusted(_)))
                .await
                .map(|standing| standing.clone());
            match why {
                Ok(Standing::Distrusted(why)) => why,
                _ => std::future::pending().await,
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.keeper.abort();
        self.shared.remove(self.watch.id);
    }
}

/// TLS with a peer that the [`Verifier`](crate::dtls::Verifier) accepted (R-MTP.4).
///
/// The peer is judged again when what the decision rests on changes or is out of date. From then on not a byte passes, either
/// way, until it is accepted again; when it is refused, reading and writing fail with
/// [`PermissionDenied`](io::ErrorKind::PermissionDenied). Shutting down is always possible.
pub struct TlsStream<S> {
    inner: tokio_rustls::TlsStream<S>,
    guard: Guard,
    /// By the first decision.
    identity: Arc<PeerIdentity>,
    resumed: bool,
}

impl<S> TlsStream<S> {
    pub(super) fn new(
        inner: tokio_rustls::TlsStream<S>,
        guard: Guard,
        identity: Arc<PeerIdentity>,
        resumed: bool,
    ) -> Self {
        Self {
            inner,
            guard,
            identity,
            resumed,
        }
    }

    /// Who the peer is, by the last decision that accepted it.
    pub fn identity(&self) -> Arc<PeerIdentity> {
        let last = self.guard.watch.identity();
        last.unwrap_or_else(|| self.identity.clone())
    }

    /// Resolves when the peer, judged again, is not trusted any more: the connection is to be closed then. Lives apart from
    /// the stream, so that it can be waited for when that is split; never resolves after the stream has gone.
    pub fn distrusted(&self) -> impl Future<Output = Distrust> + Send + 'static + use<S> {
        self.guard.distrusted()
    }

    /// Whether the keys came from an earlier connection. The peer was judged again.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// The version negotiated: `TLSv1_2` or `TLSv1_3`.
    pub fn version(&self) -> String {
        self.inner
            .get_ref()
            .1
            .protocol_version()
            .map_or_else(String::new, |version| format!("{version:?}"))
    }

    /// The connection underneath.
    pub fn get_ref(&self) -> &S {
        self.inner.get_ref().0
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.guard.watch.poll_pass(cx, Direction::Read))?;
        let before = buffer.filled().len();
        // Tickets come with the data.
        let link = self.guard.watch.link().clone();
        let read = LINK.sync_scope(link, || Pin::new(&mut self.inner).poll_read(cx, buffer));
        if buffer.filled().len() > before {
            self.guard.watch.heard();
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.guard.watch.poll_pass(cx, Direction::Write))?;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.guard.watch.poll_pass(cx, Direction::Write))?;
        Pin::new(&mut self.inner).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.guard.watch.poll_pass(cx, Direction::Write))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("peer", &self.identity().subject)
            .field("resumed", &self.resumed)
            .finish_non_exhaustive()
    }
}
