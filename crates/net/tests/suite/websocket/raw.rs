//! WebSocket byte by byte, on either side.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::PATIENCE;

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;
/// The bit of a message's last frame.
pub(crate) const FIN: u8 = 0x80;

/// The key of RFC 6455 §1.3, and what it is answered with.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A request as it should be, for `target`, with more lines.
pub(crate) fn request(target: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{more}\r\n"
    )
}

pub(crate) const V1: &str = "Sec-WebSocket-Protocol: v1.usp\r\n";

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// A connection.
pub(crate) struct Raw {
    pub(crate) stream: Box<dyn Duplex>,
    masks: bool,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    /// A client over this connection.
    pub(crate) fn over(stream: impl Duplex + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            masks: true,
        }
    }

    /// A client whose opening handshake is done.
    pub(crate) async fn open(address: SocketAddr, target: &str) -> Self {
        Self::connect(address).await.opened(target).await
    }

    /// Does the opening handshake.
    pub(crate) async fn opened(self, target: &str) -> Self {
        let mut raw = self;
        raw.write(request(target, V1).as_bytes()).await;
        let response = raw.head().await;
        assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
        raw
    }

    /// A server that answers the next opening handshake with `answer`, where `ACCEPT` is put in; also what was asked for.
    pub(crate) async fn accept(listener: &TcpListener, answer: &str) -> (Self, String) {
        let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        let mut raw = Self {
            stream: Box::new(stream),
            masks: false,
        };
        let asked = raw.head().await;
        let key = asked
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
            .unwrap();
        let answer = answer.replace("ACCEPT", &accept_key(key));
        raw.write(answer.as_bytes()).await;
        (raw, asked)
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// A request or a response.
    pub(crate) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = timeout(PATIENCE, self.stream.read_u8()).await.unwrap();
            head.push(byte.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    /// Writes a frame: its first byte as it is, its payload masked when this is a client.
    pub(crate) async fn frame(&mut self, first: u8, payload: &[u8]) {
        let mask = self.masks.then_some([7, 1, 200, 33]);
        self.write(&frame(first, payload, mask)).await;
    }

    pub(crate) async fn record(&mut self, record: &[u8]) {
        self.frame(FIN | BINARY, record).await;
    }

    /// Reads a frame: its first byte, its payload.
    pub(crate) async fn read(&mut self) -> (u8, Vec<u8>) {
        timeout(PATIENCE, async {
            let first = self.stream.read_u8().await.unwrap();
            let second = self.stream.read_u8().await.unwrap();
            let length = match second & 0x7f {
                126 => u64::from(self.stream.read_u16().await.unwrap()),
                127 => self.stream.read_u64().await.unwrap(),
                length => length.into(),
            };
            let mut mask = [0; 4];
            assert_eq!(second & 0x80 != 0, !self.masks, "only clients mask");
            if second & 0x80 != 0 {
                self.stream.read_exact(&mut mask).await.unwrap();
            }
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.stream.read_exact(&mut payload).await.unwrap();
            for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
                *byte ^= mask;
            }
            (first, payload)
        })
        .await
        .unwrap()
    }

    /// The code of the Close that comes next.
    pub(crate) async fn close_code(&mut self) -> u16 {
        let (first, payload) = self.read().await;
        assert_eq!(first, FIN | CLOSE, "{payload:?}");
        u16::from_be_bytes(*payload.first_chunk().unwrap())
    }

    /// Waits until the other side has ended the connection.
    pub(crate) async fn end(&mut self) {
        let mut rest = Vec::new();
        let read = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await;
        assert_eq!(read.unwrap().unwrap(), 0, "{rest:?}");
    }
}

pub(crate) fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut frame = vec![first];
    let masked = if mask.is_some() { 0x80 } else { 0 };
    match payload.len() {
        length @ 0..=125 => frame.push(masked | u8::try_from(length).unwrap()),
        length @ 126..=0xffff => {
            frame.push(masked | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            frame.push(masked | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    let mask = mask.inspect(|mask| frame.extend(mask)).unwrap_or_default();
    let masks = mask.iter().cycle();
    frame.extend(payload.iter().zip(masks).map(|(byte, mask)| byte ^ mask));
    frame
}

fn accept_key(key: &str) -> String {
    if key == KEY {
        return ACCEPT.to_owned();
    }
    tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.trim().as_bytes())
}

/// A server's good answer, with more lines.
pub(crate) fn switching(more: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: ACCEPT\r\n{more}\r\n"
    )
}
