//! `homefleet notif send`: a publisher of telemetry that stands alone, for trying a receiver and for loading it.

use std::io::BufRead as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use clap::{Args, ValueEnum};
use homefleet_net::dtls::{Credentials, TrustVerifier, Versions};
use homefleet_net::notif::send::{CS2, Dtls, Sender, SenderConfig, Stats, Status};
use homefleet_notif::publisher::{self, Framing, MIN_ROOM, Pacing, PublishError};
use homefleet_notif::{Generation, MediaType};
use homefleet_trust::{Policy, Time, anchors_from_pem};
use serde_json::json;
use tokio::sync::mpsc;

use crate::cli::Global;
use crate::failure::Failure;
use crate::output;
use crate::serve::{Ended, runtime};

/// Lines read ahead.
const AHEAD: usize = 256;
/// How long what waits may take to leave at the end.
const LAST: Duration = Duration::from_secs(10);

/// `notif send`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each line of FILE, or of standard input, is one message, sent as it is. At the end the statistics are printed: what was sent, in how many datagrams,
and what was not and why.

Examples:
  homefleet notif send --to collector.example.net:10515 < messages.ndjson
  homefleet notif send --to 127.0.0.1:10514 --certificate me.pem --key me-key.pem --ca receivers-ca.pem one.json
  homefleet notif send --to 127.0.0.1:10515 --repeat 100000 --size 1200 --rate 50000"
)]
pub(crate) struct Send {
    /// File with a message in each line; standard input when there is none
    #[arg(value_name = "FILE", conflicts_with = "repeat")]
    file: Option<PathBuf>,
    /// The receiver: host and UDP port
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// Send this many messages made up, for load
    #[arg(long, value_name = "NUMBER")]
    repeat: Option<u64>,
    /// Bytes of each message made up
    #[arg(long, value_name = "BYTES", default_value_t = 200, requires = "repeat",
        value_parser = clap::value_parser!(u32).range(64..=1_048_576))]
    size: u32,
    /// Messages per second; without, as fast as the receiver's path takes them [default: 1000 for lines]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Own certificate and its intermediates, PEM: over DTLS
    #[arg(long, value_name = "FILE", requires_all = ["key", "ca"])]
    certificate: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// CAs that the receiver's certificate must lead to, PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    ca: Option<PathBuf>,
    /// DTLS 1.2 instead of 1.3
    #[arg(long, requires = "certificate")]
    dtls12: bool,
    /// Generation of UDP-notif; nothing is negotiated, it has to be the receiver's
    #[arg(long, value_enum, default_value = "draft-26")]
    generation: Drafts,
    /// How messages are put into records of DTLS [default: as the generation has it]
    #[arg(long, value_enum, requires = "certificate")]
    framing: Option<Frames>,
    /// What the messages are in: json, xml, cbor, or private:0 to private:15
    #[arg(long, value_name = "TYPE", default_value = "json", value_parser = media_type)]
    media_type: MediaType,
    /// Text of the private encoding option, up to draft-09
    #[arg(long, value_name = "TEXT")]
    private_encoding: Option<String>,
    /// Most bytes of a segment with its header [default: what the path takes]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(MIN_ROOM as i64..))]
    max_segment_size: Option<u16>,
    /// Refuse messages that do not fit a datagram
    #[arg(long)]
    no_segmentation: bool,
    /// Message Publisher ID
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    publisher_id: u32,
    /// Address to send from
    #[arg(long, value_name = "ADDRESS")]
    local_address: Option<IpAddr>,
    /// Port to send from [default: a random one]
    #[arg(long, value_name = "PORT")]
    local_port: Option<u16>,
    /// Differentiated services code point
    #[arg(long, value_name = "NUMBER", default_value_t = CS2, value_parser = clap::value_parser!(u8).range(0..64))]
    dscp: u8,
    /// Seconds to wait for the receiver over DTLS
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    wait: u64,
}

/// Generations that can be published.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Drafts {
    /// -01 to -03
    #[value(name = "draft-03")]
    Draft03,
    /// -04 to -06
    #[value(name = "draft-04")]
    Draft04,
    /// -07 and -08
    #[value(name = "draft-07")]
    Draft07,
    /// -09 to -18
    #[value(name = "draft-09")]
    Draft09,
    /// -19 to -25
    #[value(name = "draft-19")]
    Draft19,
    /// -26
    #[value(name = "draft-26")]
    Draft26,
}

/// How records are framed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Frames {
    /// One message or segment in a record (-26)
    Bare,
    /// A length in digits before each, several in a record (up to -25)
    Framed,
}

impl Send {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        let config = self.config()?;
        runtime()?.block_on(self.send(config, global.json))
    }

    fn config(&self) -> Result<SenderConfig, Failure> {
        let (host, port) = self
            .to
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse().ok()?)))
            .filter(|(host, port)| !host.is_empty() && *port > 0)
            .ok_or_else(|| {
                Failure::Usage(format!("--to {}: a host and a port are wanted", self.to))
            })?;
        let generation = match self.generation {
            Drafts::Draft03 => Generation::Draft03,
            Drafts::Draft04 => Generation::Draft04,
            Drafts::Draft07 => Generation::Draft07,
            Drafts::Draft09 => Generation::Draft09,
            Drafts::Draft19 => Generation::Draft19,
            Drafts::Draft26 => Generation::Draft26,
        };
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let publisher = publisher::Config {
            private_encoding: self.private_encoding.clone(),
            segmentation: !self.no_segmentation,
            max_segment_size: self.max_segment_size.unwrap_or(u16::MAX),
            framing: match self.framing {
                Some(Frames::Bare) => Framing::Bare,
                Some(Frames::Framed) => Framing::Framed { share: true },
                None => publisher::default_framing(generation),
            },
            pacing: self.pacing(),
            max_message: size.max(98_304),
            max_segments: 4096,
            ..publisher::Config::new(generation, self.publisher_id, self.media_type)
        };
        publisher
            .check()
            .map_err(|error| Failure::Usage(error.to_string()))?;
        let dtls = match (&self.certificate, &self.key, &self.ca) {
            (Some(certificate), Some(key), Some(ca)) => {
                let credentials = Credentials::from_pem(&read(certificate)?, &read(key)?)
                    .map_err(|error| wrong(certificate, &error))?;
                let anchors = anchors_from_pem(&read(ca)?).map_err(|error| wrong(ca, &error))?;
                let verifier = TrustVerifier::new(anchors, Policy::default(), || {
                    Time::Accurate(SystemTime::now())
                });
                let mut dtls = Dtls::new(credentials, Arc::new(verifier));
                if self.dtls12 {
                    dtls.versions = Versions::Dtls12;
                }
                Some(dtls)
            }
            _ => None,
        };
        Ok(SenderConfig {
            local_address: self.local_address,
            local_port: self.local_port,
            dscp: self.dscp,
            dtls,
            ..SenderConfig::new(host, port, publisher)
        })
    }

    fn pacing(&self) -> Option<Pacing> {
        match (self.rate, self.repeat) {
            // Bursts of a hundredth of a second at most.
            (Some(rate), _) => Some(Pacing {
                messages_per_second: rate.into(),
                message_burst: u64::from(rate / 100).max(1),
                bytes_per_second: u64::MAX >> 32,
                byte_burst: u64::MAX >> 32,
            }),
            // Whoever asks for load without a rate asks for all there is (-26 §5.1).
            (None, Some(_)) => None,
            (None, None) => Some(Pacing::default()),
        }
    }

    async fn send(&self, config: SenderConfig, as_json: bool) -> Result<(), Failure> {
        let secure = config.dtls.is_some();
        let sender = Sender::start(config, None)
            .map_err(|error| Failure::Failed(format!("cannot send: {error}")))?;
        let mut ended = Ended::new()?;
        let wait = tokio::time::timeout(Duration::from_secs(self.wait), sender.up());
        let in_time = tokio::select! {
            up = wait => up.is_ok(),
            () = ended.wait() => return Ok(()),
        };
        if !in_time {
            let reason = match sender.stats().status {
                Status::Away { reason } => reason,
                _ if secure => "no answer to the handshake".to_owned(),
                _ => "no way to it".to_owned(),
            };
            return Err(Failure::Unreachable(format!("{}: {reason}", self.to)));
        }
        let session = match sender.stats().status {
            Status::Up { session, .. } => session,
            _ => None,
        };
        let begun = Instant::now();
        let too_large = tokio::select! {
            sent = self.publish(&sender) => sent?,
            () = ended.wait() => 0,
        };
        let stats = sender.stop(LAST).await;
        let seconds = begun.elapsed().as_secs_f64();
        if as_json {
            output::json(&report(
                &stats,
                session.map(|(version, cipher)| format!("{version}, {cipher}")),
                seconds,
            ))?;
        } else {
            output::line(&words(&stats, seconds))?;
        }
        let messages = stats.messages;
        if too_large + messages.failed + messages.dropped_away + messages.dropped_paced > 0 {
            return Err(Failure::Failed("not everything was sent".to_owned()));
        }
        Ok(())
    }

    /// Publishes everything; how many messages were too large.
    async fn publish(&self, sender: &Sender) -> Result<u64, Failure> {
        let mut too_large = 0;
        let mut count = |result: Result<(), PublishError>| {
            if let Err(error) = result {
                output::note(&format!("homefleet: {error}"));
                too_large += 1;
            }
        };
        if let Some(repeat) = self.repeat {
            let size = usize::try_from(self.size).unwrap_or(usize::MAX);
            for number in 0..repeat {
                count(sender.publish_in_turn(made_up(number, size)).await);
            }
        } else {
            let mut lines = self.lines()?;
            while let Some(line) = lines.recv().await {
                let line =
                    line.map_err(|error| Failure::Failed(format!("cannot read: {error}")))?;
                if !line.is_empty() {
                    count(sender.publish_in_turn(line).await);
                }
            }
        }
        sender.idle().await;
        Ok(too_large)
    }

    /// The messages of the file or of standard input, read by a thread of its own, which may wait.
    fn lines(&self) -> Result<mpsc::Receiver<std::io::Result<Vec<u8>>>, Failure> {
        let input: Box<dyn std::io::Read + std::marker::Send> = match &self.file {
            Some(path) => Box::new(
                std::fs::File::open(path)
                    .map_err(|error| Failure::NotFound(format!("{}: {error}", path.display())))?,
            ),
            None => Box::new(std::io::stdin()),
        };
        let (lines, queue) = mpsc::channel(AHEAD);
        std::thread::spawn(move || {
            for line in std::io::BufReader::new(input).split(b'\n') {
                let line = line.map(|mut line| {
                    line.truncate(line.trim_ascii_end().len());
                    line
                });
                let failed = line.is_err();
                if lines.blocking_send(line).is_err() || failed {
                    return;
                }
            }
        });
        Ok(queue)
    }
}

/// A message of this size, of the form that receivers know.
fn made_up(number: u64, size: usize) -> Vec<u8> {
    let mut text = format!(
        "{{\"ietf-yp-notification:envelope\":{{\"sequence-number\":{},\"x\":\"",
        number % (1 << 32)
    );
    let end = "\"}}";
    while text.len() + end.len() < size {
        text.push('.');
    }
    text.push_str(end);
    text.into_bytes()
}

fn report(stats: &Stats, session: Option<String>, seconds: f64) -> serde_json::Value {
    let messages = &stats.messages;
    json!({
        "offered": messages.offered,
        "sent": messages.sent,
        "bytes": messages.sent_bytes,
        "datagrams": messages.datagrams,
        "segments": messages.segments,
        "failed": messages.failed,
        "dropped_away": messages.dropped_away,
        "dropped_pacing": messages.dropped_paced,
        "too_large": messages.too_large,
        "connections": stats.connected,
        "nobody_there": stats.nobody_there,
        "room": stats.room,
        "session": session,
        "seconds": seconds,
    })
}

fn words(stats: &Stats, seconds: f64) -> String {
    let messages = &stats.messages;
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = messages.sent as f64 / seconds.max(1e-9);
    let mut text = format!(
        "{} messages sent, {} bytes, in {} datagrams ({} segments) within {seconds:.3} s: {rate:.0} per second",
        messages.sent, messages.sent_bytes, messages.datagrams, messages.segments
    );
    for (count, what) in [
        (messages.failed, "refused by the system"),
        (messages.dropped_away, "dropped while the receiver was away"),
        (messages.dropped_paced, "dropped for the pace"),
        (messages.too_large, "too large"),
        (
            stats.nobody_there,
            "times the receiver's host said that nobody listens",
        ),
    ] {
        if count > 0 {
            text.push_str(&format!("\n{count} {what}"));
        }
    }
    text
}

fn media_type(text: &str) -> Result<MediaType, String> {
    match text {
        "json" => Ok(MediaType::Json),
        "xml" => Ok(MediaType::Xml),
        "cbor" => Ok(MediaType::Cbor),
        other => other
            .strip_prefix("private:")
            .and_then(|code| code.parse().ok())
            .filter(|code| *code <= 15)
            .map(MediaType::Private)
            .ok_or_else(|| "json, xml, cbor, or private:0 to private:15".to_owned()),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::NotFound(format!("{}: {error}", path.display())))
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Failed(format!("{}: {error}", path.display()))
}
