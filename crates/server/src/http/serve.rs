//! Accepting HTTP connections, so that none costs more than it may.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// Most connections at a time; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
/// Pause after a failed accept: out of descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts and answers until `stop` changes, then finishes what is under way. A connection whose request head is not
/// complete within `head_timeout` is closed, also one that is kept open between requests.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    head_timeout: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(head_timeout);
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, stream) = tokio::select! {
            accepted = accepted => match accepted {
                (Ok(permit), Ok((stream, _))) => (permit, stream),
                (_, accepted) => {
                    if let Err(error) = accepted {
                        tracing::warn!(%error, "an HTTP connection could not be accepted");
                    }
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
            _ = stop.changed() => break,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A client that goes away in the middle is its own affair.
            drop(connection.await);
            drop(permit);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn server(head_timeout: Duration) -> (std::net::SocketAddr, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let router = Router::new().route("/", get(|| async { "hello" }));
        tokio::spawn(serve(listener, router, head_timeout, stopped));
        (address, stop)
    }

    #[tokio::test]
    async fn a_request_whose_head_does_not_end_is_closed() {
        let (address, _stop) = server(Duration::from_millis(20)).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(!answer.contains("hello"), "{answer}");
    }

    #[tokio::test]
    async fn a_stop_lets_idle_connections_go() {
        let (address, stop) = server(Duration::from_secs(600)).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
        }
        stop.send_replace(true);
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        assert!(TcpStream::connect(address).await.is_err());
    }
}
