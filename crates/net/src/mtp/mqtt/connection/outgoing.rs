//! What is written, and when whoever waits for it is told.

use std::time::SystemTime;

use bytes::Buf;
use homefleet_usp::mtp::mqtt::{self as usp, Qos};
use tokio::time::Instant;

use super::{Connection, Waiter, answer};
use crate::mtp::SendError;
use crate::mtp::mqtt::client::Sending;
use crate::mtp::mqtt::counters::count;
use crate::mtp::mqtt::flow::Step;
use crate::mtp::mqtt::packet::Ack;

impl Connection<'_> {
    pub(super) fn send(&mut self, sending: Sending) {
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

    pub(super) fn write_publish(&mut self, id: u16, again: bool, publish: &usp::Publish) {
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

    pub(super) fn published(&mut self, at: usize) {
        self.queue(at);
        count(&self.client.counters.publish_sent);
        self.client
            .counters
            .note(|times| times.last_sent = Some(SystemTime::now()));
    }

    pub(super) fn finish(&self, waiter: Option<Waiter>, outcome: Result<(), SendError>) {
        count(if outcome.is_ok() {
            &self.client.counters.records_out
        } else {
            &self.client.counters.publish_errors
        });
        if let Some(waiter) = waiter {
            answer(waiter, outcome);
        }
    }

    pub(super) fn write_ack(&mut self, ack: Ack, id: u16, known: bool) {
        let at = self.out.len();
        self.codec.acknowledge(ack, id, known, &mut self.out);
        self.queue(at);
    }

    /// A packet was put into `out` from `at` on.
    pub(super) fn queue(&mut self, at: usize) {
        self.queued += (self.out.len() - at) as u64;
        self.stalled.get_or_insert_with(Instant::now);
        count(&self.client.counters.packets_sent);
    }

    /// So many bytes have left, or with none of them all are flushed.
    pub(super) fn advance(&mut self, written: usize) {
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
    pub(super) fn settle(&mut self) {
        while let Some((end, _)) = self.unwritten.front()
            && *end <= self.written
        {
            if let Some((_, waiter)) = self.unwritten.pop_front() {
                self.finish(waiter, Ok(()));
            }
        }
    }

    /// An acknowledgement came: the next is waited for anew.
    pub(super) fn progress(&mut self) {
        let is_due = self.flow.len() > 0 || self.subscribing.is_some();
        self.waiting = is_due.then(Instant::now);
    }
}

fn send_error(error: usp::SendError) -> SendError {
    match error {
        usp::SendError::NotSubscribed => SendError::NotConnected,
        usp::SendError::TooLarge { .. } => SendError::TooLarge,
        other => SendError::Binding(other.to_string()),
    }
}
