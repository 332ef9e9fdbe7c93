//! One connection to the broker, from CONNECT to its end.
//!
//! ```text
//! CONNECT ─> CONNACK ─> SUBSCRIBE ─> SUBACK ─> greeting, Event::Up ─> PUBLISH both ways ─> DISCONNECT
//! ```
//!
//! While the owner's queue is full nothing is read: TCP holds the broker back, and a PUBLISH is acknowledged only when its
//! Record is in the queue.

mod channel;
mod incoming;
mod outgoing;

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use homefleet_trust::PeerIdentity;
use homefleet_usp::mtp::mqtt::Session;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::client::{Client, Sends};
use super::counters::count;
use super::flow::Flow;
use super::packet::{self, Ack, Codec, Fault, MAX_FIRST, Packet, Publish};
use super::settings::MqttClient;
use crate::mtp::{ChannelId, Event, SendError};
use crate::tls::Distrust;

/// What is encoded and not written; beyond, nothing more is read or taken to send.
const MAX_UNWRITTEN: usize = 262_144;
/// What is read at once.
const READ: usize = 16_384;
/// PUBLISH of QoS 1 and 2 on their way to the broker, and their bytes.
pub(super) const MAX_FLIGHTS: usize = 64;
const MAX_FLIGHT_BYTES: usize = 8 * 1024 * 1024;
/// PUBLISH that came before the subscription stood.
const MAX_EARLY: usize = 64;
/// How long DISCONNECT may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Whoever waits for a PUBLISH.
pub(super) type Waiter = oneshot::Sender<Result<(), SendError>>;

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The owner closed the client, or dropped it.
    Closed,
    /// Other settings are to be used, at once.
    Again,
    /// It is tried again after a while (R-MQTT.10, R-MQTT.33).
    Failed(String),
    /// It is not tried again until the settings change (R-MQTT.16).
    Stopped(String),
}

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    AwaitConnack,
    AwaitSuback,
    Up,
}

/// What waits for room in the owner's queue, and the acknowledgement that follows.
type Held = (Event, Option<(Ack, u16)>);

pub(super) struct Connection<'a> {
    client: &'a Client,
    settings: Arc<MqttClient>,
    session: &'a mut Session,
    flow: &'a mut Flow<Waiter>,
    identity: Option<Arc<PeerIdentity>>,
    codec: Codec,
    phase: Phase,
    channel: ChannelId,
    input: BytesMut,
    out: BytesMut,
    /// Bytes ever put into `out`, and ever written: a PUBLISH of QoS 0 is sent when the second passes its end.
    queued: u64,
    written: u64,
    unflushed: bool,
    /// Since when nothing of `out` has left.
    stalled: Option<Instant>,
    unwritten: VecDeque<(u64, Option<Waiter>)>,
    held: VecDeque<Held>,
    early: VecDeque<Publish>,
    /// The identifier of the SUBSCRIBE that is not answered.
    subscribing: Option<u16>,
    /// Settings that wait for it.
    postponed: bool,
    max_out: usize,
    receive_maximum: usize,
    keep_alive: Duration,
    last_written: Instant,
    /// Since when PINGRESP is waited for.
    pinged: Option<Instant>,
    /// Since when no acknowledgement has come although one is due.
    waiting: Option<Instant>,
    begun: Instant,
}

impl<'a> Connection<'a> {
    pub(super) fn new(
        client: &'a Client,
        settings: Arc<MqttClient>,
        session: &'a mut Session,
        flow: &'a mut Flow<Waiter>,
        identity: Option<Arc<PeerIdentity>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            codec: Codec {
                version: settings.version,
            },
            client,
            session,
            flow,
            identity,
            phase: Phase::AwaitConnack,
            channel: ChannelId::next(),
            input: BytesMut::new(),
            out: BytesMut::new(),
            queued: 0,
            written: 0,
            unflushed: false,
            stalled: None,
            unwritten: VecDeque::new(),
            held: VecDeque::new(),
            early: VecDeque::new(),
            subscribing: None,
            postponed: false,
            max_out: usize::MAX,
            receive_maximum: usize::from(u16::MAX),
            keep_alive: Duration::from_secs(settings.keep_alive.into()),
            last_written: now,
            pinged: None,
            waiting: None,
            begun: now,
            settings,
        }
    }

    /// Runs until the end, and tells the owner of it if the connection was up.
    pub(super) async fn run<S>(
        mut self,
        stream: S,
        distrusted: impl Future<Output = Distrust>,
        wanted: &mut watch::Receiver<Option<Arc<MqttClient>>>,
        sends: &mut Sends,
    ) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let end = self
            .exchange(&mut reader, &mut writer, distrusted, wanted, sends)
            .await;
        let was_up = self.phase == Phase::Up;
        // Nothing is told to a broker that has gone; one that is wrong is told so.
        let code = match &end {
            Ok(_) => Some(packet::reason::NORMAL),
            Err(Failure::Fault(fault)) => {
                count(&self.client.counters.faults);
                Some(fault.code())
            }
            Err(Failure::Gone(_)) => None,
        };
        // Whoever waits is told first: saying goodbye takes time.
        for waiter in self.flow.interrupt() {
            answer(waiter, Err(SendError::Lost));
        }
        for waiter in self.unwritten.drain(..).filter_map(|(_, waiter)| waiter) {
            answer(waiter, Err(SendError::Lost));
        }
        if let Some(code) = code {
            self.codec.disconnect(code, &mut self.out);
            count(&self.client.counters.packets_sent);
            let goodbye = async {
                writer.write_all(&self.out).await?;
                writer.shutdown().await
            };
            // It is only a courtesy (R-MQTT.35).
            if !matches!(timeout(GOODBYE, goodbye).await, Ok(Ok(()))) {
                tracing::debug!(client = %self.client.name, "MQTT DISCONNECT was not taken");
            }
        }
        let end = match end {
            Ok(end) => end,
            Err(failure) => End::Failed(failure.to_string()),
        };
        // What the broker has no acknowledgement of comes again.
        let held = std::mem::take(&mut self.held).into_iter();
        let mut left: Vec<Event> = held
            .filter(|(_, ack)| ack.is_none())
            .map(|(event, _)| event)
            .collect();
        if was_up {
            let reason = match &end {
                End::Closed => "closed".to_owned(),
                End::Again => "its settings changed".to_owned(),
                End::Failed(reason) | End::Stopped(reason) => reason.clone(),
            };
            let id = self.channel;
            left.push(Event::Down { id, reason });
        }
        if matches!(end, End::Closed) {
            // Whoever closes may be the one who makes room in the queue.
            self.client.tell_later(left);
        } else {
            for event in left {
                self.client.tell(event).await;
            }
        }
        end
    }

    async fn exchange<R, W>(
        &mut self,
        reader: &mut R,
        writer: &mut W,
        distrusted: impl Future<Output = Distrust>,
        wanted: &mut watch::Receiver<Option<Arc<MqttClient>>>,
        sends: &mut Sends,
    ) -> Result<End, Failure>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        tokio::pin!(distrusted);
        let events = self.client.context.events.clone();
        self.connect().map_err(Failure::Gone)?;
        loop {
            while self.held.is_empty() && self.out.len() < MAX_UNWRITTEN {
                let max = match self.phase {
                    Phase::AwaitConnack => MAX_FIRST,
                    _ => self.maximum_packet_size(),
                };
                let Some(frame) = packet::take(&mut self.input, max)? else {
                    break;
                };
                count(&self.client.counters.packets_received);
                let packet = self.codec.decode(frame)?;
                if let Some(end) = self.handle(packet)? {
                    return Ok(end);
                }
            }
            if std::mem::take(&mut self.postponed) && self.subscribing.is_none() {
                if let Some(end) = self.change(wanted) {
                    return Ok(end);
                }
                continue;
            }
            let is_paused = !self.held.is_empty() || self.out.len() >= MAX_UNWRITTEN;
            let takes = self.phase == Phase::Up
                && self.out.len() < MAX_UNWRITTEN
                && self.flow.len() < MAX_FLIGHTS.min(self.receive_maximum)
                && self.flow.bytes() < MAX_FLIGHT_BYTES;
            let timer = self.timer();
            tokio::select! {
                reason = &mut distrusted => {
                    return Err(Failure::Gone(format!("the broker was {reason}")));
                }
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return Ok(End::Closed);
                    }
                    if let Some(end) = self.change(wanted) {
                        return Ok(end);
                    }
                }
                permit = events.reserve(), if !self.held.is_empty() => {
                    let Ok(permit) = permit else {
                        return Ok(End::Closed);
                    };
                    if let Some((event, ack)) = self.held.pop_front() {
                        permit.send(event);
                        self.acknowledge(ack);
                    }
                    // Time in which nothing was read does not count against the broker.
                    let now = Instant::now();
                    self.pinged = self.pinged.map(|_| now);
                    self.waiting = self.waiting.map(|_| now);
                    self.stalled = self.stalled.map(|_| now);
                }
                written = write(writer, &self.out), if !self.out.is_empty() || self.unflushed => {
                    self.advance(written?);
                }
                read = read(reader, &mut self.input), if !is_paused => {
                    if read? == 0 {
                        return Err(Failure::Gone("the broker closed the connection".to_owned()));
                    }
                }
                sending = sends.recv(), if takes => match sending {
                    Some(sending) => self.send(sending),
                    None => return Ok(End::Closed),
                },
                () = timer => self.handle_timeout()?,
            }
        }
    }

    fn connect(&mut self) -> Result<(), String> {
        let connect = self.session.connect();
        let receive_maximum = self.own_receive_maximum();
        let size = u32::try_from(self.maximum_packet_size()).unwrap_or(u32::MAX);
        let at = self.out.len();
        self.codec.connect(
            &self.settings,
            connect,
            receive_maximum,
            size,
            &mut self.out,
        )?;
        self.queue(at);
        Ok(())
    }

    fn own_receive_maximum(&self) -> u16 {
        match self.settings.receive_maximum {
            0 => self.client.context.receive_maximum,
            configured => configured,
        }
    }

    fn maximum_packet_size(&self) -> usize {
        let bound = self.client.context.maximum_packet_size();
        match usize::try_from(self.settings.maximum_packet_size) {
            Ok(configured @ 1..) => configured.min(bound),
            _ => bound,
        }
    }

    fn handle(&mut self, packet: Packet) -> Result<Option<End>, Failure> {
        if (self.phase == Phase::AwaitConnack) != matches!(packet, Packet::Connack(_)) {
            return Err(Fault::Protocol("a packet out of turn".to_owned()).into());
        }
        match packet {
            Packet::Connack(connack) => return self.connack(connack),
            Packet::Suback(id, granted) => return self.suback(id, &granted),
            Packet::Publish(publish) => {
                count(&self.client.counters.publish_received);
                self.client
                    .counters
                    .note(|times| times.last_received = Some(SystemTime::now()));
                self.check(&publish)?;
                if self.phase == Phase::Up {
                    self.publish(publish);
                } else if self.has_room_for_early() {
                    self.early.push_back(publish);
                } else {
                    // With QoS 1 and 2 it is not acknowledged, and comes again.
                    count(&self.client.counters.early);
                }
            }
            Packet::Ack(ack, id, verdict) => self.acknowledged(ack, id, verdict)?,
            // Whether the broker knew the subscription changes nothing.
            Packet::Unsuback(_) => {}
            Packet::Pong => self.pinged = None,
            Packet::Disconnect(reason) => {
                return Err(Failure::Gone(format!("the broker disconnected: {reason}")));
            }
        }
        Ok(None)
    }

    /// Whether one more PUBLISH can be kept until the subscription stands.
    fn has_room_for_early(&self) -> bool {
        let bytes: usize = self.early.iter().map(|early| early.payload.len()).sum();
        self.early.len() < MAX_EARLY && bytes <= self.maximum_packet_size()
    }

    /// Resolves when [`handle_timeout`](Self::handle_timeout) has something to do.
    fn timer(&self) -> impl Future<Output = ()> + use<> {
        let context = &self.client.context;
        // While we do not read, the broker may be unable to write, and so to read.
        let is_paused = !self.held.is_empty();
        let connecting = (self.phase != Phase::Up).then(|| self.begun + context.connect_time);
        let ping = self.is_kept_alive().then(|| self.next_ping());
        let pong = self.pinged.map(|since| since + context.answer_time);
        let answer = self.waiting.map(|since| since + context.answer_time);
        let room = self.stalled.map(|since| since + context.answer_time);
        let answers = [pong, answer, room].into_iter().filter(|_| !is_paused);
        let next = [connecting, ping]
            .into_iter()
            .chain(answers)
            .flatten()
            .min();
        async move {
            match next {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        }
    }

    fn handle_timeout(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let context = &self.client.context;
        let is_over =
            |since: Option<Instant>| since.is_some_and(|since| now >= since + context.answer_time);
        if self.phase != Phase::Up && now >= self.begun + context.connect_time {
            let what = match self.phase {
                Phase::AwaitConnack => "CONNECT",
                _ => "SUBSCRIBE",
            };
            return Err(Failure::Gone(format!("the broker did not answer {what}")));
        }
        if self.held.is_empty() {
            if is_over(self.pinged) {
                return Err(Failure::Gone(
                    "the broker did not answer PINGREQ".to_owned(),
                ));
            }
            if is_over(self.waiting) {
                return Err(Failure::Gone("the broker acknowledges nothing".to_owned()));
            }
            if is_over(self.stalled) {
                return Err(Failure::Gone("the broker takes nothing more".to_owned()));
            }
        }
        if self.is_kept_alive() && now >= self.next_ping() {
            let at = self.out.len();
            self.codec.ping(&mut self.out);
            self.queue(at);
            self.pinged = Some(now);
        }
        Ok(())
    }

    fn is_kept_alive(&self) -> bool {
        self.phase == Phase::Up
            && !self.keep_alive.is_zero()
            && self.pinged.is_none()
            && self.out.is_empty()
    }

    /// A quarter early: it must be there in time (MQTT 5.0 §3.1.2.10).
    fn next_ping(&self) -> Instant {
        self.last_written + self.keep_alive.mul_f64(0.75)
    }
}

/// Why a connection ended by itself.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("{0}")]
    Gone(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Gone(error.to_string())
    }
}

/// Writes, and flushes when there is nothing to write: 0 then.
async fn write<W: AsyncWrite + Unpin>(writer: &mut W, out: &BytesMut) -> io::Result<usize> {
    if out.is_empty() {
        writer.flush().await?;
        return Ok(0);
    }
    match writer.write(out).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        written => Ok(written),
    }
}

async fn read<R: AsyncRead + Unpin>(reader: &mut R, input: &mut BytesMut) -> io::Result<usize> {
    input.reserve(READ);
    reader.read_buf(input).await
}

/// Tells whoever waits, if somebody still does.
pub(super) fn answer(waiter: Waiter, outcome: Result<(), SendError>) {
    let _gave_up = waiter.send(outcome);
}
