//! `homefleet notif receive`: a receiver of telemetry that stands alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use homefleet_net::dtls::{Credentials, TrustVerifier, Versions};
use homefleet_net::notif::{Received, Receiver, ReceiverConfig, Security};
use homefleet_notif::{CollectorConfig, Profile};
use homefleet_server::config::{NotifOutput, OutputKind};
use homefleet_server::telemetry::message_of;
use homefleet_server::telemetry::output::Output;
use homefleet_trust::{Policy, Time, anchors_from_pem};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::report::Report;
use crate::cli::Global;
use crate::failure::Failure;
use crate::output;
use crate::serve::{Ended, runtime};

/// Longest time that outputs may take at the end.
const LAST: Duration = Duration::from_secs(5);

/// `notif receive`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every message is a line of JSON on standard output. At the end, after Ctrl-C, --count or --seconds, the statistics are on
standard error: what was delivered, lost in the kernel, lost on the path, refused and why.

Examples:
  homefleet notif receive --plain 127.0.0.1:10515
  homefleet notif receive --dtls 0.0.0.0:10514 --certificate me.pem --key me-key.pem --ca publishers-ca.pem
  homefleet notif receive --plain [::]:10515 --output ndjson=/var/log/telemetry --quiet"
)]
pub(crate) struct Receive {
    /// Address for UDP-notif without security; may be given several times
    #[arg(long, value_name = "ADDRESS", required_unless_present = "dtls")]
    plain: Vec<SocketAddr>,
    /// Address for UDP-notif in DTLS
    #[arg(long, value_name = "ADDRESS", requires_all = ["certificate", "key", "ca"])]
    dtls: Option<SocketAddr>,
    /// Own certificate and its intermediates, PEM
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// CAs that publishers' certificates must lead to, PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Accept DTLS 1.2 besides 1.3
    #[arg(long)]
    dtls12: bool,
    /// What messages of version 1 are taken for, since nothing in them says it
    #[arg(long, value_enum, default_value = "draft-26")]
    profile: Drafts,
    /// Hand messages on as well: ndjson=DIRECTORY, parquet=DIRECTORY, webhook=URL, kafka=HOST:PORT/TOPIC or nats=HOST:PORT/SUBJECT
    #[arg(long, value_name = "KIND=WHERE")]
    output: Vec<String>,
    /// Print no messages
    #[arg(long)]
    quiet: bool,
    /// End after so many messages
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Tell the statistics each so many seconds too
    #[arg(long, value_name = "SECONDS")]
    every: Option<u64>,
    /// Receive buffer asked for, per socket, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 32 * 1024 * 1024)]
    buffer: usize,
    /// Threads that receive
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
}

/// What messages of version 1 are taken for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Drafts {
    /// -07 and -08: no loss is claimed
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

impl Receive {
    pub(crate) fn run(self, global: &Global) -> Result<(), Failure> {
        let config = self.config()?;
        let outputs = self.outputs()?;
        runtime()?.block_on(self.receive(config, outputs, global.json))
    }

    fn config(&self) -> Result<ReceiverConfig, Failure> {
        let secure = match (self.dtls, &self.certificate, &self.key, &self.ca) {
            (Some(address), Some(certificate), Some(key), Some(ca)) => {
                let credentials = Credentials::from_pem(&read(certificate)?, &read(key)?)
                    .map_err(|error| wrong(certificate, &error))?;
                let anchors = anchors_from_pem(&read(ca)?).map_err(|error| wrong(ca, &error))?;
                let verifier = TrustVerifier::new(anchors, Policy::default(), || {
                    Time::Accurate(SystemTime::now())
                });
                let mut dtls = Security::dtls();
                if self.dtls12 {
                    dtls.versions = Versions::Both;
                }
                Some(Security {
                    listen: vec![address],
                    credentials,
                    verifier: Arc::new(verifier),
                    dtls,
                })
            }
            _ => None,
        };
        Ok(ReceiverConfig {
            plain: self.plain.clone(),
            secure,
            workers: usize::from(self.workers),
            receive_buffer: self.buffer,
            collector: CollectorConfig {
                profile: match self.profile {
                    Drafts::Draft07 => Profile::Draft07,
                    Drafts::Draft09 => Profile::Draft09,
                    Drafts::Draft19 => Profile::Draft19,
                    Drafts::Draft26 => Profile::Draft26,
                },
                ..CollectorConfig::default()
            },
            ..ReceiverConfig::default()
        })
    }

    fn outputs(&self) -> Result<Vec<NotifOutput>, Failure> {
        let each = self.output.iter().enumerate();
        each.map(|(place, text)| {
            parse(place, text)
                .map_err(|problem| Failure::Usage(format!("--output {text}: {problem}")))
        })
        .collect()
    }

    async fn receive(
        self,
        config: ReceiverConfig,
        outputs: Vec<NotifOutput>,
        json: bool,
    ) -> Result<(), Failure> {
        let mut ended = Ended::new()?;
        let (stop, stopped) = watch::channel(false);
        let mut running = Vec::new();
        for output in &outputs {
            let started = Output::start(output, stopped.clone());
            running.push(started.map_err(|problem| {
                Failure::Usage(format!("--output {}: {problem}", output.kind.as_str()))
            })?);
        }
        let (receiver, mut inbox) = Receiver::bind(config)
            .map_err(|error| Failure::Failed(format!("cannot listen: {error}")))?;
        for address in receiver.plain_addrs() {
            output::note(&format!("listening: udp://{address}, not protected"));
        }
        for address in receiver.secure_addrs() {
            output::note(&format!("listening: dtls://{address}"));
        }
        let deadline = self
            .seconds
            .map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut tally = Tally::default();
        let mut told = Instant::now();
        let closed = loop {
            if self.count.is_some_and(|most| tally.handed_on >= most) {
                break None;
            }
            let tell = self
                .every
                .map(|every| told + Duration::from_secs(every.max(1)));
            tokio::select! {
                batch = inbox.recv() => match batch {
                    Some(batch) => {
                        if let Err(failure) = self.take(batch, &running, &mut tally) {
                            break Some(failure);
                        }
                    }
                    None => break None,
                },
                () = at(deadline) => break None,
                () = at(tell) => {
                    told = Instant::now();
                    report(&receiver, &running, &tally).tell(json);
                }
                () = ended.wait() => break None,
            }
        };
        // What arrived before the end is counted and handed on, but for what --count does not want.
        let before = receiver.stats();
        let publishers = receiver.publishers();
        let sessions = before.sessions;
        let shut = tokio::task::spawn_blocking(move || receiver.shutdown());
        let closed = match closed {
            Some(failure) => Some(failure),
            None => self.drain(&mut inbox, &running, &mut tally).await.err(),
        };
        drop(inbox);
        drop(shut.await);
        stop.send_replace(true);
        let until = Instant::now() + LAST;
        for output in &running {
            output.ended(until).await;
        }
        let statuses = running.iter().map(Output::status).collect();
        Report::new(&before, publishers.len(), sessions, &tally, statuses).tell(json);
        match closed {
            // A reader that has enough is no failure.
            Some(Failure::OutputClosed) | None => Ok(()),
            Some(failure) => Err(failure),
        }
    }

    async fn drain(
        &self,
        inbox: &mut mpsc::Receiver<Vec<Received>>,
        running: &[Output],
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        while let Some(batch) = inbox.recv().await {
            self.take(batch, running, tally)?;
        }
        Ok(())
    }

    fn take(
        &self,
        batch: Vec<Received>,
        running: &[Output],
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        for received in batch {
            if self.count.is_some_and(|most| tally.handed_on >= most) {
                tally.beyond += 1;
                continue;
            }
            tally.handed_on += 1;
            // Who it is, as far as a certificate says it.
            let identity = received.identity.as_deref();
            let device = identity.and_then(|identity| identity.endpoint_ids.first().cloned());
            let message = Arc::new(message_of(received, device));
            if let Err(error) = message.envelope() {
                *tally.envelope_errors.entry(error.as_str()).or_default() += 1;
            }
            for output in running {
                output.offer(&message);
            }
            if !self.quiet {
                // Records are JSON, and so UTF-8.
                output::line(&String::from_utf8_lossy(message.record()))?;
            }
        }
        Ok(())
    }
}

/// What this command counts itself.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Messages printed and handed on.
    pub(super) handed_on: u64,
    /// Messages that came although --count had its number.
    pub(super) beyond: u64,
    /// Messages without an envelope that can be read, by reason.
    pub(super) envelope_errors: BTreeMap<&'static str, u64>,
}

fn report(receiver: &Receiver, running: &[Output], tally: &Tally) -> Report {
    let stats = receiver.stats();
    let statuses = running.iter().map(Output::status).collect();
    let publishers = receiver.publishers().len();
    Report::new(&stats, publishers, stats.sessions, tally, statuses)
}

/// At a moment; never when there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// `kind=where` as an output.
fn parse(place: usize, text: &str) -> Result<NotifOutput, String> {
    let (kind, place_to) = text.split_once('=').ok_or("expected KIND=WHERE")?;
    let kind = match kind {
        "kafka" => OutputKind::Kafka,
        "nats" => OutputKind::Nats,
        "ndjson" => OutputKind::Ndjson,
        "parquet" => OutputKind::Parquet,
        "webhook" => OutputKind::Webhook,
        other => {
            return Err(format!(
                "found `{other}`, expected ndjson, parquet, webhook, kafka or nats"
            ));
        }
    };
    let name = match place {
        0 => "telemetry".to_owned(),
        place => format!("telemetry-{}", place + 1),
    };
    let mut output = NotifOutput::new(name, kind);
    match kind {
        OutputKind::Ndjson | OutputKind::Parquet => output.directory = Some(place_to.into()),
        OutputKind::Webhook => output.url = Some(place_to.to_owned()),
        OutputKind::Kafka | OutputKind::Nats => {
            let (server, topic) = place_to
                .split_once('/')
                .ok_or("expected HOST:PORT/TOPIC behind it")?;
            output.servers = vec![server.to_owned()];
            output.topic = Some(topic.to_owned());
        }
    }
    Ok(output)
}

fn read(path: &PathBuf) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        let text = format!("{}: {error}", path.display());
        if error.kind() == std::io::ErrorKind::NotFound {
            Failure::NotFound(text)
        } else {
            Failure::Failed(text)
        }
    })
}

fn wrong(path: &std::path::Path, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::Usage(format!(
        "{}: {}",
        path.display(),
        crate::serve::with_causes(error)
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_output_is_a_kind_and_where() {
        let kafka = parse(0, "kafka=h:9092/fleet").unwrap();
        assert_eq!(
            (kafka.servers[0].as_str(), kafka.topic.as_deref()),
            ("h:9092", Some("fleet"))
        );
        assert_eq!(parse(1, "ndjson=/x").unwrap().name, "telemetry-2");
        for text in ["ndjson", "file=/x", "nats=h:4222"] {
            assert!(parse(0, text).is_err(), "{text}");
        }
    }
}
