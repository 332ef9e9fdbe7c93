//! Core NATS: one publication a message, and after each batch a PING whose PONG says that the server has all of it.
//!
//! The protocol's few commands are spoken here (<https://docs.nats.io/reference/reference-protocols/nats-protocol>): a client library would
//! bring more dependencies than this has lines.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::stream::{self, Stream};
use super::{Sending, Sink, SinkError};
use crate::config::NotifOutput;
use crate::telemetry::message::Message;

/// Longest time for a batch.
const BATCH: Duration = Duration::from_secs(30);
/// Longest line of the server.
const LINE: u64 = 64 * 1024;
/// Port when none is given.
const PORT: u16 = 4222;

/// A NATS server.
pub(super) struct Nats {
    servers: Vec<(String, u16)>,
    next: usize,
    subject: String,
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    tls: Option<TlsConnector>,
    link: Option<Link>,
}

struct Link {
    stream: BufReader<Box<dyn Stream>>,
    max_payload: usize,
}

/// What the server says of itself.
#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    max_payload: usize,
    #[serde(default)]
    tls_required: bool,
}

impl Nats {
    pub(super) fn new(config: &NotifOutput) -> Result<Self, String> {
        let servers = config
            .servers
            .iter()
            .map(|server| super::host_port(server, PORT))
            .collect::<Result<Vec<_>, _>>()?;
        let read = |key: &str, path: &Option<PathBuf>| {
            let path = path.as_deref();
            path.map(|path| stream::secret(key, path)).transpose()
        };
        Ok(Self {
            servers,
            next: 0,
            subject: config.topic.clone().ok_or("topic: it is missing")?,
            user: config.user.clone(),
            password: read("password_file", &config.password_file)?,
            token: read("token_file", &config.token_file)?,
            tls: config.ca.as_deref().map(stream::connector).transpose()?,
            link: None,
        })
    }

    async fn connect(&mut self) -> Result<Link, SinkError> {
        let place = self.next % self.servers.len().max(1);
        self.next = self.next.wrapping_add(1);
        let Some((host, port)) = self.servers.get(place) else {
            return Err(SinkError::away("servers: it is empty"));
        };
        let mut plain = stream::connect(host, *port).await?;
        // Its INFO comes before TLS, and byte by byte, so that nothing of the handshake is read with it.
        let mut line = Vec::new();
        while !line.ends_with(b"\n") && line.len() < 64 * 1024 {
            line.push(plain.read_u8().await.map_err(SinkError::away)?);
        }
        let info = line
            .strip_prefix(b"INFO ")
            .and_then(|info| serde_json::from_slice::<Info>(info).ok())
            .ok_or_else(|| SinkError::away("it is no NATS server"))?;
        let stream: Box<dyn Stream> = match &self.tls {
            Some(tls) => stream::secure(tls, host, plain).await?,
            None if info.tls_required => {
                return Err(SinkError::away("it wants TLS: set ca"));
            }
            None => Box::new(plain),
        };
        let mut stream = BufReader::new(stream);
        let mut hello = json!({"verbose": false, "pedantic": false, "lang": "rust", "name": "homefleet",
            "version": env!("CARGO_PKG_VERSION"), "protocol": 0, "tls_required": self.tls.is_some()});
        let secrets = [
            ("user", &self.user),
            ("pass", &self.password),
            ("auth_token", &self.token),
        ];
        if let Some(hello) = hello.as_object_mut() {
            for (key, secret) in secrets {
                if let Some(secret) = secret {
                    hello.insert(key.to_owned(), secret.clone().into());
                }
            }
        }
        let hello = format!("CONNECT {hello}\r\nPING\r\n");
        stream
            .write_all(hello.as_bytes())
            .await
            .map_err(SinkError::away)?;
        stream.flush().await.map_err(SinkError::away)?;
        pong(&mut stream).await?;
        let max_payload = match info.max_payload {
            0 => 1024 * 1024,
            most => most,
        };
        Ok(Link {
            stream,
            max_payload,
        })
    }

    async fn publish(&mut self, batch: &[Arc<Message>]) -> Result<u64, SinkError> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.connect().await?,
        };
        let (mut bytes, mut refused) = (Vec::new(), 0);
        for message in batch {
            let record = message.record();
            if record.len() > link.max_payload {
                refused += 1;
                continue;
            }
            let subject = subject(&self.subject, message.device.as_deref());
            bytes.extend_from_slice(format!("PUB {subject} {}\r\n", record.len()).as_bytes());
            bytes.extend_from_slice(record);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"PING\r\n");
        link.stream
            .write_all(&bytes)
            .await
            .map_err(SinkError::away)?;
        link.stream.flush().await.map_err(SinkError::away)?;
        pong(&mut link.stream).await?;
        self.link = Some(link);
        Ok(refused)
    }
}

impl Sink for Nats {
    fn deliver<'a>(&'a mut self, batch: &'a [Arc<Message>]) -> Sending<'a> {
        Box::pin(async move {
            match timeout(BATCH, self.publish(batch)).await {
                Ok(done) => done,
                Err(_) => Err(SinkError::away("no answer in time")),
            }
        })
    }

    /// Answers the server's PINGs, without which it would end the connection.
    fn tick(&mut self) -> Sending<'_> {
        Box::pin(async move {
            if self.link.is_some() {
                return timeout(BATCH, self.publish(&[]))
                    .await
                    .unwrap_or(Err(SinkError::away("no answer in time")));
            }
            Ok(0)
        })
    }
}

/// Reads until the PONG.
async fn pong(stream: &mut BufReader<Box<dyn Stream>>) -> Result<(), SinkError> {
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut *stream).take(LINE);
        limited
            .read_until(b'\n', &mut line)
            .await
            .map_err(SinkError::away)?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        match line.split_whitespace().next() {
            Some("PONG") => return Ok(()),
            Some("PING") => {
                stream
                    .write_all(b"PONG\r\n")
                    .await
                    .map_err(SinkError::away)?;
                stream.flush().await.map_err(SinkError::away)?;
            }
            Some("INFO" | "+OK") => {}
            Some("-ERR") => return Err(SinkError::Away(line.to_owned())),
            _ => return Err(SinkError::away("the connection ended")),
        }
    }
}

/// The subject of a message: `{device}` stands for its Endpoint ID, in which what a subject's token must not hold is `_`.
fn subject(pattern: &str, device: Option<&str>) -> String {
    let device: String = device
        .unwrap_or("unknown")
        .chars()
        .map(|letter| match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => letter,
            _ => '_',
        })
        .collect();
    pattern.replace("{device}", &device)
}

#[cfg(test)]
mod tests {
    use super::subject;

    #[test]
    fn a_device_cannot_choose_its_subject() {
        let made = subject("fleet.{device}.up", Some("os::00D09E-a b.>*\r\nPUB x"));
        assert_eq!(made, "fleet.os__00D09E-a_b_____PUB_x.up");
        assert_eq!(subject("fleet.{device}", None), "fleet.unknown");
    }
}
