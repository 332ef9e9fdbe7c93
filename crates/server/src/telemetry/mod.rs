//! Telemetry: what devices stream as UDP-notif, tied to the registry, stored, plotted and handed on.
//!
//! ```text
//!   net::notif::Receiver ──► publishers (which device?) ──┬─► series ──► REST, console
//!      whole messages         unknown: counted, refused   └─► outputs, each with its queue
//! ```
//!
//! - [`envelope`]: what stands around the data, and the numbers in it,
//! - [`message`]: a message on its way,
//! - `publishers`: which device a publisher is,
//! - [`output`]: files, Kafka, NATS, webhooks,
//! - [`series`]: numbers as time series,
//! - `status`: how all that fares, for the REST API and `/metrics`.
//!
//! Nothing here waits for anything: a queue that is full drops what comes, at one point, where it is counted.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use homefleet_api::Event;
use homefleet_net::dtls::{Credentials, Verifier, Versions};
use homefleet_net::notif::{Received, Receiver, ReceiverConfig, Security};
use homefleet_notif::{CollectorConfig, MediaType, Profile, ReassemblyConfig};
use tokio::sync::{mpsc, watch};

use crate::clock::Millis;
use crate::config::{DtlsVersions, Notif, NotifProfile, UnknownPublishers};
use crate::core::Core;
use crate::store::StoreError;

pub mod envelope;
pub mod message;
pub mod output;
mod publishers;
pub mod series;
mod status;

use envelope::{Encoding, Envelope, EnvelopeError};
use message::Message;
use output::{Output, OutputStatus};
use publishers::Ties;
use series::{Sampled, SeriesLimits, SeriesStore};

/// Most numbers of one message.
const LEAVES: usize = 2000;
/// A publisher's clock is believed so far from ours; what it says beyond is taken for a clock that is wrong.
const SKEW: Duration = Duration::from_secs(300);
/// Time between two events about one device.
const TELL: Duration = Duration::from_secs(1);
/// Devices that are remembered as told; beyond, all are told again.
const TOLD: usize = 10_000;

/// Handle to telemetry.
#[derive(Debug, Clone)]
pub struct Telemetry(Arc<Inner>);

/// Telemetry as the core knows it, which telemetry knows in turn.
#[derive(Debug, Clone)]
pub(crate) struct WeakTelemetry(Weak<Inner>);

impl WeakTelemetry {
    pub(crate) fn upgrade(&self) -> Option<Telemetry> {
        self.0.upgrade().map(Telemetry)
    }
}

struct Inner {
    core: Core,
    ties: Ties,
    unknown: UnknownPublishers,
    receiver: Mutex<Option<Receiver>>,
    outputs: Vec<Output>,
    series: Option<SeriesStore>,
    counters: Counters,
    told: Mutex<HashMap<String, (Millis, u64)>>,
    /// Ends the outputs.
    stop: watch::Sender<bool>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Counters {
    unknown_refused: AtomicU64,
    unknown_kept: AtomicU64,
    left_out: AtomicU64,
    envelope_errors: Mutex<BTreeMap<&'static str, u64>>,
}

/// Why telemetry does not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// An output cannot work.
    #[error("notif.output `{name}`: {problem}")]
    Output {
        /// Its name.
        name: String,
        /// Key and reason.
        problem: String,
    },
    /// The receiver cannot listen.
    #[error("notif.listen: {0}")]
    Listen(io::Error),
    /// The series cannot be opened.
    #[error(transparent)]
    Series(#[from] StoreError),
}

impl Telemetry {
    /// Opens series and outputs. Must be called within a runtime, in which the outputs run until [`Telemetry::run`] ends.
    ///
    /// # Errors
    /// When the series cannot be opened or an output cannot work; a peer of it that is away is no error.
    pub fn open(config: &Notif, data_dir: &Path, core: Core) -> Result<Self, TelemetryError> {
        let series = if config.series.enabled {
            let limits = SeriesLimits {
                keep: config.keep(),
                raw: config.raw(),
                per_device: config.series.per_device,
                total: config.series.total,
            };
            Some(SeriesStore::open(
                &data_dir.join("telemetry.sqlite"),
                limits,
            )?)
        } else {
            None
        };
        let (stop, stopped) = watch::channel(false);
        let mut outputs = Vec::new();
        for output in &config.output {
            let started = Output::start(output, stopped.clone()).map_err(|problem| {
                TelemetryError::Output {
                    name: output.name.clone(),
                    problem,
                }
            })?;
            outputs.push(started);
        }
        let ties = Ties::new(core.clone(), &config.publisher);
        Ok(Self(Arc::new(Inner {
            core,
            ties,
            unknown: config.unknown,
            receiver: Mutex::default(),
            outputs,
            series,
            counters: Counters::default(),
            told: Mutex::default(),
            stop,
        })))
    }

    pub(crate) fn downgrade(&self) -> WeakTelemetry {
        WeakTelemetry(Arc::downgrade(&self.0))
    }

    /// Starts to listen, as the configuration says.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub fn listen(
        &self,
        config: &Notif,
        credentials: &Credentials,
        verifier: Arc<dyn Verifier>,
    ) -> Result<mpsc::Receiver<Vec<Received>>, TelemetryError> {
        let config = receiver_config(config, credentials, verifier);
        let (receiver, inbox) = Receiver::bind(config).map_err(TelemetryError::Listen)?;
        *self.receiver() = Some(receiver);
        Ok(inbox)
    }

    /// Takes what comes until `stop` changes and everything that came before is taken; then ends outputs and series.
    pub async fn run(self, mut inbox: mpsc::Receiver<Vec<Received>>, stop: watch::Receiver<bool>) {
        let mut stopped = stop.clone();
        let mut stopping = false;
        loop {
            tokio::select! {
                batch = inbox.recv() => match batch {
                    Some(batch) => self.take(batch),
                    None => break,
                },
                _ = stopped.changed(), if !stopping => {
                    stopping = true;
                    if let Some(receiver) = self.receiver().take() {
                        // It waits for its threads.
                        drop(tokio::task::spawn_blocking(move || receiver.shutdown()));
                    }
                }
            }
        }
        self.close().await;
    }

    /// Ends outputs and series, with what they have.
    async fn close(&self) {
        self.0.stop.send_replace(true);
        let until = tokio::time::Instant::now() + output::LAST + Duration::from_secs(1);
        for output in &self.0.outputs {
            output.ended(until).await;
        }
        let telemetry = self.clone();
        let closed = tokio::task::spawn_blocking(move || {
            if let Some(series) = &telemetry.0.series {
                series.close();
            }
        });
        // A thread that panicked has nothing left to close.
        drop(closed.await);
    }

    /// Where publishers send to without DTLS.
    pub fn plain_addr(&self) -> Option<SocketAddr> {
        let receiver = self.receiver();
        receiver.as_ref()?.plain_addrs().first().copied()
    }

    /// Where publishers send to over DTLS.
    pub fn secure_addr(&self) -> Option<SocketAddr> {
        let receiver = self.receiver();
        receiver.as_ref()?.secure_addrs().first().copied()
    }

    fn receiver(&self) -> MutexGuard<'_, Option<Receiver>> {
        self.0
            .receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses renewed credentials for handshakes from now on; what publishers are judged by has changed too.
    pub(crate) fn replace_credentials(&self, credentials: &Credentials) -> Result<(), String> {
        if let Some(receiver) = self.receiver().as_ref() {
            receiver
                .replace_credentials(credentials)
                .map_err(|error| error.to_string())?;
            receiver.judge_again();
        }
        Ok(())
    }

    /// Has every publisher judged again: new evidence about certificates has come.
    pub(crate) fn judge_again(&self) {
        if let Some(receiver) = self.receiver().as_ref() {
            receiver.judge_again();
        }
    }

    /// Takes messages as they come from the receiver.
    pub fn take(&self, batch: Vec<Received>) {
        let mut last = None;
        for received in batch {
            // Messages of one publisher come one after the other.
            let key = (
                received.from,
                received
                    .identity
                    .as_ref()
                    .map(|identity| identity.fingerprint),
            );
            let device = match &last {
                Some((known, device)) if *known == key => Clone::clone(device),
                _ => {
                    let identity = received.identity.as_deref();
                    let device = self.0.ties.device(identity, received.from.ip());
                    last = Some((key, device.clone()));
                    device
                }
            };
            if device.is_none() {
                let counters = &self.0.counters;
                match self.0.unknown {
                    UnknownPublishers::Refuse => {
                        counters.unknown_refused.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    UnknownPublishers::Keep => {
                        counters.unknown_kept.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            self.one(received, device);
        }
    }

    fn one(&self, received: Received, device: Option<String>) {
        let message = Arc::new(message_of(received, device));
        match message.envelope() {
            Ok(envelope) => self.sample(&message, envelope),
            Err(error) => self.count_error(error),
        }
        if let Some(device) = &message.device {
            self.tell(device, message.at);
        }
        for output in &self.0.outputs {
            output.offer(&message);
        }
    }

    fn count_error(&self, error: EnvelopeError) {
        let errors = &self.0.counters.envelope_errors;
        let mut errors = errors.lock().unwrap_or_else(PoisonError::into_inner);
        *errors.entry(error.as_str()).or_default() += 1;
    }

    /// Keeps the numbers of a message.
    fn sample(&self, message: &Message, envelope: &Envelope) {
        let (Some(series), Some(device)) = (&self.0.series, &message.device) else {
            return;
        };
        match envelope.leaves(&message.payload, LEAVES) {
            Ok(found) => {
                let left_out = &self.0.counters.left_out;
                left_out.fetch_add(found.left_out, Ordering::Relaxed);
                series.add(Sampled {
                    device: device.clone(),
                    time: believed(envelope.event_time, message.at),
                    leaves: found.leaves,
                });
            }
            Err(error) => self.count_error(error),
        }
    }

    /// Tells listeners of the live stream, about once a second for each device.
    fn tell(&self, device: &str, at: Millis) {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= TOLD && !told.contains_key(device) {
            told.clear();
        }
        let (last, messages) = told.entry(device.to_owned()).or_default();
        *messages += 1;
        if at.since(*last) < TELL && at >= *last {
            return;
        }
        *last = at;
        let messages = std::mem::take(messages);
        drop(told);
        self.0.core.publish(Event::Telemetry {
            device: device.to_owned(),
            time: at.to_timestamp(),
            messages,
        });
    }

    /// The series; `None` when none are kept.
    pub fn series(&self) -> Option<&SeriesStore> {
        self.0.series.as_ref()
    }

    /// How every output fares.
    pub fn outputs(&self) -> Vec<OutputStatus> {
        self.0.outputs.iter().map(Output::status).collect()
    }
}

/// Checks what a start would find wrong: secrets and CAs of the outputs.
///
/// # Errors
/// The first problem.
pub fn check(config: &Notif) -> Result<(), TelemetryError> {
    for output in &config.output {
        output::check(output).map_err(|problem| TelemetryError::Output {
            name: output.name.clone(),
            problem,
        })?;
    }
    Ok(())
}

/// A message as the receiver hands it on.
pub fn message_of(received: Received, device: Option<String>) -> Message {
    let encoding = match received.media_type {
        MediaType::Json => Some(Encoding::Json),
        MediaType::Xml => Some(Encoding::Xml),
        MediaType::Cbor => Some(Encoding::Cbor),
        _ => None,
    };
    let media = match received.encoding {
        Some(text) => format!("{}: {text}", received.media_type),
        None => received.media_type.to_string(),
    };
    Message::new(
        received.at.into(),
        device,
        received.from,
        received.publisher_id,
        received.message_id,
        media,
        encoding,
        received.message,
    )
}

/// The publisher's time, where its clock can be right.
fn believed(event: Option<Millis>, at: Millis) -> Millis {
    match event {
        Some(event) if event.since(at).max(at.since(event)) <= SKEW => event,
        _ => at,
    }
}

fn receiver_config(
    config: &Notif,
    credentials: &Credentials,
    verifier: Arc<dyn Verifier>,
) -> ReceiverConfig {
    let secure = config.listen.map(|address| {
        let mut dtls = Security::dtls();
        dtls.idle_timeout = Duration::from_secs(config.idle_timeout);
        dtls.versions = match config.dtls {
            DtlsVersions::Dtls13 => Versions::Dtls13,
            DtlsVersions::Dtls12 => Versions::Both,
        };
        Security {
            listen: vec![address],
            credentials: credentials.clone(),
            verifier,
            dtls,
        }
    });
    ReceiverConfig {
        plain: config.plain_listen.into_iter().collect(),
        secure,
        workers: config.workers,
        receive_buffer: config.receive_buffer,
        gro: config.gro,
        queue: config.queue,
        collector: CollectorConfig {
            profile: match config.profile {
                NotifProfile::Draft07 => Profile::Draft07,
                NotifProfile::Draft09 => Profile::Draft09,
                NotifProfile::Draft19 => Profile::Draft19,
                NotifProfile::Draft26 => Profile::Draft26,
            },
            reassembly: ReassemblyConfig {
                max_bytes: config.reassembly_bytes,
                max_message: config.max_message,
                timeout: Duration::from_secs(config.reassembly_timeout),
                ..ReassemblyConfig::default()
            },
            max_publishers: config.max_publishers,
            ..CollectorConfig::default()
        },
    }
}
