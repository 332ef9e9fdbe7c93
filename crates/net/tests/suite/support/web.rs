//! A web server that serves what the test puts there, and counts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// An answer: all its bytes, or none ever.
#[derive(Clone)]
pub(crate) enum Page {
    Bytes(Vec<u8>),
    Silence,
    /// What is put there next, once it is.
    Held,
}

impl Page {
    /// 200 with a length.
    pub(crate) fn ok(body: &[u8]) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        Self::Bytes([head.as_bytes(), body].concat())
    }

    /// 200 without a length.
    pub(crate) fn unannounced(body: &[u8]) -> Self {
        Self::Bytes([b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), body].concat())
    }
}

#[derive(Default)]
struct Shared {
    pages: Mutex<HashMap<String, Page>>,
    asked: Mutex<Vec<String>>,
    open: AtomicUsize,
    changed: Notify,
}

/// The server; it ends with the runtime.
#[derive(Clone)]
pub(crate) struct Web {
    shared: Arc<Shared>,
    port: u16,
}

impl Web {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let web = Self {
            shared: Arc::default(),
            port: listener.local_addr().unwrap().port(),
        };
        let shared = web.shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                tokio::spawn(async move {
                    shared.open.fetch_add(1, Ordering::SeqCst);
                    // A client that goes away is none of the test's business.
                    let _served = serve(stream, &shared).await;
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        web
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn put(&self, path: &str, page: Page) {
        self.shared
            .pages
            .lock()
            .unwrap()
            .insert(path.to_owned(), page);
        self.shared.changed.notify_waiters();
    }

    /// The request lines and heads so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    shared.asked.lock().unwrap().push(head);
    let page = loop {
        let changed = shared.changed.notified();
        match shared.pages.lock().unwrap().get(&path) {
            Some(Page::Held) => {}
            page => break page.cloned(),
        }
        changed.await;
    };
    match page {
        Some(Page::Bytes(bytes)) => stream.write_all(&bytes).await?,
        Some(Page::Silence | Page::Held) => {
            // Until the other side gives up.
            stream.read_to_end(&mut Vec::new()).await?;
        }
        None => {
            stream
                .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                .await?;
        }
    }
    stream.shutdown().await
}
