//! Where devices connect: what every MTP tells, and what is sent over each.
//!
//! The MTPs underneath deliver no Record whose `from_id` the channel does not prove (R-SEC.0a, R-SEC.10a), except where the
//! operator allowed a channel without security. Records are processed in the order of arrival; their answers leave when the
//! store has what they acknowledge.

use std::sync::Arc;

use homefleet_coap::Code;
use homefleet_net::mtp::{Event, Origin, Route, SendError};
use homefleet_trust::{Basis, PeerIdentity};
use homefleet_usp::EndpointId;
use tokio::sync::{mpsc, watch};

use crate::account::hex;
use crate::clock::{Clock, Millis};
use crate::controller::{Controller, Finish, Incoming, Wrong};
use crate::device::Proof;
use crate::store::CertificateRecord;
use crate::task::queue::Delivery;

pub(crate) mod cmp;
pub(crate) mod network;
mod samples;
pub mod verifier;

/// Records being stored at a time; beyond it the MTPs' own queues fill, and devices wait or are told to.
const IN_STORE: usize = 4096;

/// Runs until `stop` changes or the MTPs end.
pub(crate) async fn run(
    controller: Controller,
    mut events: mpsc::Receiver<Event>,
    clock: Clock,
    mut stop: watch::Receiver<bool>,
) {
    let (finishes, mut inbox) = mpsc::channel::<Finish>(IN_STORE);
    let finisher = tokio::spawn(async move {
        // The store commits in order: waiting in order costs nothing, and events keep their order.
        while let Some(finish) = inbox.recv().await {
            finish.await;
        }
    });
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = stop.changed() => None,
        };
        let Some(event) = event else { break };
        if let Some(finish) = take(&controller, event, clock.now())
            && finishes.send(finish).await.is_err()
        {
            break;
        }
    }
    drop(finishes);
    if let Err(error) = finisher.await {
        tracing::error!(%error, "the finisher of Records failed");
    }
}

fn take(controller: &Controller, event: Event, now: Millis) -> Option<Finish> {
    match event {
        Event::Up(channel) => {
            controller.up(&channel);
            None
        }
        Event::Record { record, origin } => controller.accept(Incoming {
            proof: proof(origin.identity.as_ref(), &record.from_id, now),
            channel: origin.channel,
            reply_to: origin.reply_to,
            record: *record,
        }),
        Event::Erroneous { error, origin } => controller.wrong(wrong(error, origin, now)?),
        Event::ClientId { connection, .. } => {
            tracing::debug!(connection, "the broker assigned a client identifier");
            None
        }
        Event::Down { id, reason } => Some(controller.down(id, &reason)),
    }
}

/// What is wrong, and who sent it; `None` when the channel proves that it was somebody else: an answer would tell the one
/// named what another did.
fn wrong(error: homefleet_usp::record::RecordError, origin: Origin, now: Millis) -> Option<Wrong> {
    let from = error.from_id()?;
    if !homefleet_net::mtp::proves(origin.identity.as_deref(), from) {
        return None;
    }
    Some(Wrong {
        secure: proof(origin.identity.as_ref(), from, now).is_secure(),
        reply_to: origin.reply_to,
        error,
    })
}

/// Who stands for the sender of a Record.
fn proof(identity: Option<&Arc<PeerIdentity>>, from: &EndpointId, now: Millis) -> Proof {
    match identity {
        Some(identity) if identity.basis == Basis::TrustedBroker => {
            Proof::Broker(certificate(identity, now))
        }
        Some(identity) if identity.is_endpoint(from.as_str()) => {
            Proof::Certificate(certificate(identity, now))
        }
        // TLS to a broker that is not trusted keeps others from listening; it proves nobody.
        _ => Proof::Nobody,
    }
}

fn certificate(identity: &PeerIdentity, now: Millis) -> CertificateRecord {
    CertificateRecord {
        fingerprint: hex(&identity.fingerprint),
        subject: identity.subject.clone(),
        not_after: identity.not_after.into(),
        first_seen: now,
    }
}

/// What a sent Record means for the task: only CoAP's 2.04 is the device's own word.
pub(crate) fn sent(route: &Route) -> Delivery {
    match route {
        Route::Coap(_) => Delivery::Taken,
        Route::WebSocket { .. } | Route::Stomp { .. } | Route::Mqtt { .. } | Route::Uds => {
            Delivery::OnItsWay
        }
    }
}

/// What a failure to send means for the task (R-COAP.9, R-COAP.10).
pub(crate) fn failed(route: &Route, error: &SendError) -> Delivery {
    let problem = format!("{route}: {error}");
    match error {
        SendError::Timeout | SendError::Closed | SendError::Lost => Delivery::Unclear(problem),
        SendError::Refused { code, .. } if *code == Code::SERVICE_UNAVAILABLE => {
            Delivery::NotDelivered(problem)
        }
        // It failed over it: before or after it did what was asked.
        SendError::Refused { code, .. } if code.class() == 5 => Delivery::Unclear(problem),
        SendError::Refused { .. } | SendError::TooLarge => Delivery::Refused(problem),
        // A peer we do not trust, no association, no session, no address, a Reset, a broker that did not take it: nothing
        // of the Record was processed.
        _ => Delivery::NotDelivered(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_device_that_has_no_room_certainly_did_nothing() {
        let refused = |code| {
            let diagnostic = String::new();
            let error = SendError::Refused { code, diagnostic };
            failed(&Route::WebSocket { secure: true }, &error)
        };
        assert!(matches!(
            refused(Code::SERVICE_UNAVAILABLE),
            Delivery::NotDelivered(_)
        ));
        assert!(matches!(
            refused(Code::INTERNAL_SERVER_ERROR),
            Delivery::Unclear(_)
        ));
        assert!(matches!(refused(Code::BAD_REQUEST), Delivery::Refused(_)));
    }

    #[test]
    fn without_a_session_nothing_was_delivered_and_with_a_broken_one_nobody_knows() {
        let after = |error| failed(&Route::Uds, &error);
        assert!(matches!(
            after(SendError::NotConnected),
            Delivery::NotDelivered(_)
        ));
        assert!(matches!(after(SendError::Busy), Delivery::NotDelivered(_)));
        assert!(matches!(
            after(SendError::Broker("no".to_owned())),
            Delivery::NotDelivered(_)
        ));
        assert!(matches!(after(SendError::Lost), Delivery::Unclear(_)));
        assert!(matches!(after(SendError::Closed), Delivery::Unclear(_)));
    }

    #[test]
    fn only_over_coap_is_what_left_known_to_have_arrived() {
        let coap = "coaps://192.0.2.1/usp".parse();
        assert_eq!(coap.map(|route| sent(&route)), Ok(Delivery::Taken));
        assert_eq!(sent(&Route::WebSocket { secure: true }), Delivery::OnItsWay);
    }
}
