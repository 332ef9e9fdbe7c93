//! One connection to the broker, from CONNECT to its end.
//!
//! ```text
//! CONNECT ─> CONNACK ─> SUBSCRIBE ─> SUBACK ─> greeting, Event::Up ─> PUBLISH both ways ─> DISCONNECT
//! ```
//!
//! While the owner's queue is full nothing is read: TCP holds the broker back, and a PUBLISH is acknowledged only when its
//! Record is in the queue.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Buf, BytesMut};
use homefleet_trust::PeerIdentity;
use homefleet_usp::mtp::mqtt::{self as usp, MqttVersion, Qos, Received, Session, Stop};
use homefleet_usp::record::{RecordError, RecordErrorKind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::client::{Client, Sending, Sends};
use super::counters::count;
use super::flow::{Flow, Resend, Step};
use super::packet::{self, Ack, Codec, Connack, Fault, MAX_FIRST, Packet, Publish, Verdict};
use super::settings::MqttClient;
use crate::mtp::{Channel, ChannelId, Connect, Event, Origin, Route, SendError, State, proves};
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
        for (event, ack) in std::mem::take(&mut self.held) {
            // What the broker has no acknowledgement of comes again.
            if ack.is_none() {
                self.client.tell(event).await;
            }
        }
        if was_up {
            let reason = match &end {
                End::Closed => "closed".to_owned(),
                End::Again => "its settings changed".to_owned(),
                End::Failed(reason) | End::Stopped(reason) => reason.clone(),
            };
            let id = self.channel;
            self.client.tell(Event::Down { id, reason }).await;
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
                } else if self.early.len() < MAX_EARLY {
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

    fn connack(&mut self, connack: Connack) -> Result<Option<End>, Failure> {
        if let Some(reason) = connack.refused {
            return Err(Failure::Gone(format!("the broker refused: {reason}")));
        }
        if connack.session_present && self.settings.clean_start {
            return Err(Fault::Protocol("a session that was not asked for".to_owned()).into());
        }
        if !connack.session_present {
            self.flow.clear();
        }
        if let Some(seconds) = connack.server_keep_alive {
            self.keep_alive = Duration::from_secs(seconds.into());
        }
        if let Some(most) = connack.receive_maximum {
            self.receive_maximum = most.into();
        }
        if let Some(most) = connack.maximum_packet_size {
            self.max_out = usize::try_from(most).unwrap_or(usize::MAX);
        }
        let name = self.client.name.clone();
        let response_information = connack.usp.response_information.clone();
        let connected = self.session.connected(connack.usp);
        self.client.note(|details| {
            details.response_information = response_information;
            details.client_id = Some(self.session.client_id().to_owned());
        });
        let connected = match connected {
            Ok(connected) => connected,
            Err(stop) => return Ok(Some(stopped(stop))),
        };
        if let Some(client_id) = connected.save_client_id {
            let event = Event::ClientId {
                connection: name,
                client_id,
            };
            self.held.push_back((event, None));
        }
        self.subscribe(&connected.subscribe);
        self.phase = Phase::AwaitSuback;
        Ok(None)
    }

    fn subscribe(&mut self, wanted: &[usp::Subscription]) {
        let id = self.flow.allocate();
        let at = self.out.len();
        self.codec.subscribe(id, wanted, &mut self.out);
        self.queue(at);
        count(&self.client.counters.subscribe_sent);
        self.subscribing = Some(id);
        self.waiting.get_or_insert_with(Instant::now);
    }

    fn suback(&mut self, id: u16, granted: &[bool]) -> Result<Option<End>, Failure> {
        if self.subscribing.take() != Some(id) {
            return Err(Fault::Protocol("a SUBACK to nothing".to_owned()).into());
        }
        self.progress();
        if let Err(stop) = self.session.subscribed(granted) {
            return Ok(Some(stopped(stop)));
        }
        self.note_granted();
        if self.phase == Phase::AwaitSuback {
            self.rise();
        } else {
            self.rise_again();
        }
        Ok(None)
    }

    /// The channel is up: the greeting goes out before anything else may pass (R-MTP.6, R-MTP.8).
    fn rise(&mut self) {
        self.phase = Phase::Up;
        count(&self.client.counters.connections);
        self.client
            .counters
            .note(|times| times.established = Some(SystemTime::now()));
        // What an earlier connection left comes after the greeting.
        let left = self.flow.resume(MAX_FLIGHTS.min(self.receive_maximum));
        self.greet();
        self.client.becomes(State::Up);
        for resend in left {
            match resend {
                Resend::Publish(id, publish) => self.write_publish(id, true, &publish),
                Resend::Release(id) => self.write_ack(Ack::Pubrel, id, true),
            }
            self.waiting.get_or_insert_with(Instant::now);
        }
        for publish in std::mem::take(&mut self.early) {
            self.publish(publish);
        }
    }

    /// Other Topics are subscribed to: when we are reached elsewhere now, that is another channel.
    fn rise_again(&mut self) {
        if self.client.details().reply_to.as_deref() == self.session.reply_to() {
            return;
        }
        let event = Event::Down {
            id: self.channel,
            reason: "it is reached by another topic now".to_owned(),
        };
        self.held.push_back((event, None));
        self.channel = ChannelId::next();
        self.greet();
    }

    fn greet(&mut self) {
        let reply_to = self.session.reply_to().map(str::to_owned);
        let topic = reply_to.clone().unwrap_or_default();
        self.client.note(|details| details.reply_to = reply_to);
        let channel = Channel {
            id: self.channel,
            connection: Some(self.client.name.clone()),
            endpoint_id: None,
            identity: self.identity.clone(),
            connect: Connect::Mqtt {
                version: self.settings.version,
                topic,
            },
        };
        for outgoing in self.client.context.greeter.greet(&channel) {
            if let Route::Mqtt { connection, topic } = outgoing.route
                && connection == self.client.name
            {
                self.send(Sending {
                    topic,
                    endpoint_id: outgoing.endpoint_id,
                    record: outgoing.record,
                    done: None,
                });
            }
        }
        self.held.push_back((Event::Up(channel), None));
    }

    /// What of a PUBLISH is wrong for MQTT.
    fn check(&self, publish: &Publish) -> Result<(), Fault> {
        if usp::topic::check_name(&publish.topic).is_err() {
            return Err(Fault::Malformed("a topic that is none".to_owned()));
        }
        let most = usize::from(self.own_receive_maximum());
        let more = publish.qos == Qos::ExactlyOnce && self.flow.is_new(publish.id);
        if self.settings.version == MqttVersion::V5 && more && self.flow.taken() >= most {
            return Err(Fault::ReceiveMaximum(most));
        }
        Ok(())
    }

    fn publish(&mut self, publish: Publish) {
        let ack = match publish.qos {
            Qos::AtMostOnce => None,
            Qos::AtLeastOnce => Some((Ack::Puback, publish.id)),
            Qos::ExactlyOnce => Some((Ack::Pubrec, publish.id)),
        };
        if publish.qos == Qos::ExactlyOnce && !self.flow.is_new(publish.id) {
            count(&self.client.counters.duplicates);
            return self.acknowledge(ack);
        }
        match self.meaning(&publish) {
            Some(event) => self.held.push_back((event, ack)),
            None => self.acknowledge(ack),
        }
    }

    /// What the owner is told of a PUBLISH.
    fn meaning(&mut self, publish: &Publish) -> Option<Event> {
        let counters = &self.client.counters;
        let received = self.session.receive(usp::Incoming {
            topic: &publish.topic,
            content_type: publish.content_type.as_deref(),
            response_topic: publish.response_topic.as_deref(),
            payload: &publish.payload,
        });
        let identity = self.identity.as_deref();
        let allow = self.client.context.allow_untrusted_broker;
        let is_proved = |from_id| allow || proves(identity, from_id);
        let (reply_to, is_believed) = match &received {
            Received::Other => {
                count(&counters.other_content);
                return None;
            }
            Received::Forged => {
                count(&counters.forged);
                return None;
            }
            Received::Record { record, reply_to } | Received::Mismatch { record, reply_to } => {
                (reply_to, is_proved(record.from_id()))
            }
            Received::Erroneous { error, reply_to } => {
                (reply_to, error.from_id().is_some_and(is_proved))
            }
        };
        let origin = Origin {
            channel: Some(self.channel),
            identity: self.identity.clone(),
            reply_to: reply_to.clone().map(|topic| Route::Mqtt {
                connection: self.client.name.clone(),
                topic,
            }),
        };
        match received {
            Received::Erroneous { error, .. } => {
                count(&counters.erroneous);
                is_believed.then_some(Event::Erroneous { error, origin })
            }
            _ if !is_believed => {
                count(&counters.untrusted);
                None
            }
            Received::Record { record, .. } => {
                count(&counters.records_in);
                let record = Box::new(record);
                Some(Event::Record { record, origin })
            }
            Received::Mismatch { record, .. } => {
                count(&counters.mismatched);
                let error = RecordError::of(RecordErrorKind::MqttVersion, record);
                Some(Event::Erroneous { error, origin })
            }
            Received::Forged | Received::Other => None,
        }
    }

    /// Tells the broker that a PUBLISH was taken.
    fn acknowledge(&mut self, ack: Option<(Ack, u16)>) {
        if let Some((ack, id)) = ack {
            if ack == Ack::Pubrec {
                self.flow.take(id);
            }
            self.write_ack(ack, id, true);
        }
    }

    fn acknowledged(&mut self, ack: Ack, id: u16, verdict: Verdict) -> Result<(), Fault> {
        let step = match ack {
            Ack::Pubrel => {
                let known = self.flow.release(id);
                self.write_ack(Ack::Pubcomp, id, known);
                return Ok(());
            }
            Ack::Puback => self.flow.puback(id),
            Ack::Pubrec => self.flow.pubrec(id, matches!(verdict, Verdict::Refused(_))),
            Ack::Pubcomp => self.flow.pubcomp(id),
        };
        self.progress();
        let outcome = match verdict {
            Verdict::Taken => Ok(()),
            Verdict::Nobody => Err(SendError::Broker(
                "nobody has subscribed to the topic".to_owned(),
            )),
            Verdict::Refused(reason) => Err(SendError::Broker(reason)),
        };
        match step {
            Step::Done(waiter) => self.finish(waiter, outcome),
            Step::Release => {
                if outcome.is_err() {
                    let waiter = self.flow.waiter(id);
                    self.finish(waiter, outcome);
                }
                self.write_ack(Ack::Pubrel, id, true);
            }
            Step::Unknown if ack == Ack::Pubrec => self.write_ack(Ack::Pubrel, id, false),
            // An answer to what a session of before sent.
            Step::Unknown => {}
        }
        Ok(())
    }

    fn finish(&self, waiter: Option<Waiter>, outcome: Result<(), SendError>) {
        count(if outcome.is_ok() {
            &self.client.counters.records_out
        } else {
            &self.client.counters.publish_errors
        });
        if let Some(waiter) = waiter {
            answer(waiter, outcome);
        }
    }

    fn send(&mut self, sending: Sending) {
        let Sending {
            topic,
            endpoint_id,
            record,
            done,
        } = sending;
        if done.as_ref().is_some_and(Waiter::is_closed) {
            // Whoever wanted it sent has given up.
            return;
        }
        let publish = match self.session.publish(&topic, &endpoint_id, record) {
            Ok(publish) => publish,
            Err(error) => return self.finish(done, Err(send_error(error))),
        };
        let at = self.out.len();
        let limit = self.max_out;
        let expiry = self.settings.message_expiry;
        if publish.qos == Qos::AtMostOnce {
            let encoded = self
                .codec
                .publish(0, false, &publish, expiry, limit, &mut self.out);
            if encoded.is_err() {
                self.out.truncate(at);
                return self.finish(done, Err(SendError::TooLarge));
            }
            self.published(at);
            self.unwritten.push_back((self.queued, done));
            return;
        }
        let id = self.flow.publish(publish, done);
        let Some(publish) = self.flow.published(id) else {
            return;
        };
        let encoded = self
            .codec
            .publish(id, false, publish, expiry, limit, &mut self.out);
        if encoded.is_err() {
            self.out.truncate(at);
            if let Step::Done(waiter) = self.flow.forget(id) {
                self.finish(waiter, Err(SendError::TooLarge));
            }
            return;
        }
        self.published(at);
        self.waiting.get_or_insert_with(Instant::now);
    }

    fn write_publish(&mut self, id: u16, again: bool, publish: &usp::Publish) {
        let at = self.out.len();
        let expiry = self.settings.message_expiry;
        let encoded = self
            .codec
            .publish(id, again, publish, expiry, self.max_out, &mut self.out);
        match encoded {
            Ok(()) => self.published(at),
            Err(_) => {
                self.out.truncate(at);
                self.flow.forget(id);
            }
        }
    }

    fn published(&mut self, at: usize) {
        self.queue(at);
        count(&self.client.counters.publish_sent);
        self.client
            .counters
            .note(|times| times.last_sent = Some(SystemTime::now()));
    }

    fn write_ack(&mut self, ack: Ack, id: u16, known: bool) {
        let at = self.out.len();
        self.codec.acknowledge(ack, id, known, &mut self.out);
        self.queue(at);
    }

    /// A packet was put into `out` from `at` on.
    fn queue(&mut self, at: usize) {
        self.queued += (self.out.len() - at) as u64;
        self.stalled.get_or_insert_with(Instant::now);
        count(&self.client.counters.packets_sent);
    }

    /// So many bytes have left, or with none of them all are flushed.
    fn advance(&mut self, written: usize) {
        self.out.advance(written);
        self.written += written as u64;
        self.unflushed = written > 0;
        self.last_written = Instant::now();
        self.stalled = (!self.out.is_empty()).then_some(self.last_written);
        if !self.unflushed {
            self.settle();
        }
    }

    /// What has left is sent, as far as QoS 0 goes.
    fn settle(&mut self) {
        while let Some((end, _)) = self.unwritten.front()
            && *end <= self.written
        {
            if let Some((_, waiter)) = self.unwritten.pop_front() {
                self.finish(waiter, Ok(()));
            }
        }
    }

    /// An acknowledgement came: the next is waited for anew.
    fn progress(&mut self) {
        let is_due = self.flow.len() > 0 || self.subscribing.is_some();
        self.waiting = is_due.then(Instant::now);
    }

    /// The settings changed: what of it needs no other connection is done over this one (R-MQTT.34).
    fn change(&mut self, wanted: &mut watch::Receiver<Option<Arc<MqttClient>>>) -> Option<End> {
        let Some(settings) = wanted.borrow_and_update().clone() else {
            return Some(End::Closed);
        };
        if self.phase != Phase::Up
            || settings.check().is_err()
            || !self.settings.is_same_connection(&settings)
        {
            return Some(End::Again);
        }
        if self.subscribing.is_some() {
            self.postponed = true;
            return None;
        }
        self.settings = settings;
        let changed = self.session.reconfigure(
            self.settings.subscriptions.clone(),
            self.settings.response_topic.clone(),
        );
        let changes = match changed {
            Ok(changes) => changes,
            Err(stop) => return Some(stopped(stop)),
        };
        // The new ones first: what both match is not missed.
        let settled = changes.subscribe.is_empty();
        if !settled {
            self.subscribe(&changes.subscribe);
        }
        if !changes.unsubscribe.is_empty() {
            let id = self.flow.allocate();
            let at = self.out.len();
            self.codec
                .unsubscribe(id, changes.unsubscribe, &mut self.out);
            self.queue(at);
            count(&self.client.counters.unsubscribe_sent);
        }
        self.note_granted();
        if settled {
            self.rise_again();
        }
        None
    }

    fn note_granted(&self) {
        let granted = self.session.granted();
        let granted = granted.iter().map(|granted| granted.filter.clone());
        self.client
            .note(|details| details.subscribed = granted.collect());
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

fn stopped(stop: Stop) -> End {
    if stop.is_retried() {
        End::Failed(stop.to_string())
    } else {
        End::Stopped(stop.to_string())
    }
}

fn send_error(error: usp::SendError) -> SendError {
    match error {
        usp::SendError::NotSubscribed => SendError::NotConnected,
        usp::SendError::TooLarge { .. } => SendError::TooLarge,
        other => SendError::Binding(other.to_string()),
    }
}

/// Tells whoever waits, if somebody still does.
pub(super) fn answer(waiter: Waiter, outcome: Result<(), SendError>) {
    let _gave_up = waiter.send(outcome);
}
