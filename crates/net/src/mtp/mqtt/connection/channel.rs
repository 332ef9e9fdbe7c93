//! How the channel comes up, and what becomes of it when the settings change.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use homefleet_usp::mtp::mqtt::{self as usp, Stop};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Connection, End, Failure, MAX_FLIGHTS, Phase};
use crate::mtp::mqtt::client::Sending;
use crate::mtp::mqtt::counters::count;
use crate::mtp::mqtt::flow::Resend;
use crate::mtp::mqtt::packet::{Ack, Connack, Fault};
use crate::mtp::mqtt::settings::MqttClient;
use crate::mtp::{Channel, ChannelId, Connect, Event, Route, State};

impl Connection<'_> {
    pub(super) fn connack(&mut self, connack: Connack) -> Result<Option<End>, Failure> {
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

    pub(super) fn subscribe(&mut self, wanted: &[usp::Subscription]) {
        let id = self.flow.allocate();
        let at = self.out.len();
        self.codec.subscribe(id, wanted, &mut self.out);
        self.queue(at);
        count(&self.client.counters.subscribe_sent);
        self.subscribing = Some(id);
        self.waiting.get_or_insert_with(Instant::now);
    }

    pub(super) fn suback(&mut self, id: u16, granted: &[bool]) -> Result<Option<End>, Failure> {
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
    pub(super) fn rise(&mut self) {
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
    pub(super) fn rise_again(&mut self) {
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

    pub(super) fn greet(&mut self) {
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

    /// The settings changed: what of it needs no other connection is done over this one (R-MQTT.34).
    pub(super) fn change(
        &mut self,
        wanted: &mut watch::Receiver<Option<Arc<MqttClient>>>,
    ) -> Option<End> {
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

    pub(super) fn note_granted(&self) {
        let granted = self.session.granted();
        let granted = granted.iter().map(|granted| granted.filter.clone());
        self.client
            .note(|details| details.subscribed = granted.collect());
    }
}

fn stopped(stop: Stop) -> End {
    if stop.is_retried() {
        End::Failed(stop.to_string())
    } else {
        End::Stopped(stop.to_string())
    }
}
