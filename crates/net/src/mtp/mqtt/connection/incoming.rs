//! What the broker's PUBLISH means for the owner, and its acknowledgements for those who wait.

use homefleet_usp::mtp::mqtt::{self as usp, MqttVersion, Qos, Received};
use homefleet_usp::record::{RecordError, RecordErrorKind};

use super::Connection;
use crate::mtp::mqtt::counters::count;
use crate::mtp::mqtt::flow::Step;
use crate::mtp::mqtt::packet::{Ack, Fault, Publish, Verdict};
use crate::mtp::{Event, Origin, Route, SendError, proves};

impl Connection<'_> {
    /// What of a PUBLISH is wrong for MQTT.
    pub(super) fn check(&self, publish: &Publish) -> Result<(), Fault> {
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

    pub(super) fn publish(&mut self, publish: Publish) {
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
    pub(super) fn meaning(&mut self, publish: &Publish) -> Option<Event> {
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
    pub(super) fn acknowledge(&mut self, ack: Option<(Ack, u16)>) {
        if let Some((ack, id)) = ack {
            if ack == Ack::Pubrec {
                self.flow.take(id);
            }
            self.write_ack(ack, id, true);
        }
    }

    pub(super) fn acknowledged(
        &mut self,
        ack: Ack,
        id: u16,
        verdict: Verdict,
    ) -> Result<(), Fault> {
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
}
