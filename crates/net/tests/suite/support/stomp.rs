//! A STOMP broker that does what the test says.

use std::time::Duration;

use homefleet_usp::Record;
use homefleet_usp::mtp::stomp::{CONTENT_TYPE, Command, Decoder, Frame, Limits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// How long anything may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Where clients come to.
pub(crate) struct Broker {
    listener: TcpListener,
}

impl Broker {
    pub(crate) async fn start() -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// The next client, before it said anything.
    pub(crate) async fn accept(&self) -> Client {
        let (stream, _) = timeout(LIMIT, self.listener.accept())
            .await
            .expect("nobody came")
            .unwrap();
        Client {
            stream,
            decoder: Decoder::new(Limits {
                headers: 64,
                line: 8192,
                body: 1 << 24,
            }),
            heard: Vec::new(),
        }
    }

    /// The next client, taken and subscribed, with these headers in CONNECTED.
    pub(crate) async fn take(&self, headers: &[(&str, &str)]) -> Client {
        let mut client = self.accept().await;
        client.hear(Command::Stomp).await;
        client.connected(headers).await;
        client.subscribed().await;
        client
    }
}

/// A client's connection.
pub(crate) struct Client {
    stream: TcpStream,
    decoder: Decoder,
    /// Every byte that came.
    pub(crate) heard: Vec<u8>,
}

impl Client {
    /// The next frame; `None` when the client closed.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            let mut buffer = vec![0; 65_536];
            let read = timeout(LIMIT, self.stream.read(&mut buffer)).await;
            match read.expect("the client says nothing") {
                Ok(0) | Err(_) => return None,
                Ok(length) => {
                    self.heard.extend(&buffer[..length]);
                    self.decoder.push(&buffer[..length]);
                }
            }
        }
    }

    /// The next frame, which is this.
    pub(crate) async fn hear(&mut self, command: Command) -> Frame {
        let frame = self.next().await.expect("the client closed");
        assert_eq!(frame.command, command, "{frame:?}");
        frame
    }

    /// Waits for heart-beats, with nothing else between them.
    pub(crate) async fn beats(&mut self, count: usize) {
        let mut beats = 0;
        while beats < count {
            let mut buffer = [0; 64];
            let read = timeout(LIMIT, self.stream.read(&mut buffer)).await;
            let length = read.expect("the client says nothing").unwrap();
            assert!(length > 0, "the client closed");
            assert!(buffer[..length].iter().all(|byte| *byte == b'\n'));
            beats += length;
        }
    }

    /// Waits until the client closes; nothing but heart-beats comes until then.
    pub(crate) async fn closed(&mut self) {
        assert_eq!(self.next().await, None);
    }

    pub(crate) async fn say(&mut self, frame: &Frame) {
        self.write(&frame.encode()).await;
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn connected(&mut self, headers: &[(&str, &str)]) {
        let mut frame = Frame::new(Command::Connected).with("version", "1.2");
        for (name, value) in headers {
            frame = frame.with(name, *value);
        }
        self.say(&frame).await;
    }

    /// Hears SUBSCRIBE, and acknowledges it.
    pub(crate) async fn subscribed(&mut self) -> Frame {
        let frame = self.hear(Command::Subscribe).await;
        self.receipt(&frame).await;
        frame
    }

    /// Acknowledges a frame.
    pub(crate) async fn receipt(&mut self, frame: &Frame) {
        let id = frame.header("receipt").expect("a receipt was asked for");
        let receipt = Frame::new(Command::Receipt).with("receipt-id", id);
        self.say(&receipt).await;
    }
}

/// A Record as a broker brings it.
pub(crate) fn message(record: &Record, reply_to: &str) -> Frame {
    Frame::new(Command::Message)
        .with("destination", "/queue/agent")
        .with("message-id", "1")
        .with("subscription", "1")
        .with("content-type", CONTENT_TYPE)
        .with("reply-to-dest", reply_to)
        .with_body(record.encode())
}
