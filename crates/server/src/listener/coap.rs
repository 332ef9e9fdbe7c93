//! USP over CoAP, in DTLS with certificates on both sides.
//!
//! The MTP underneath answers 4.03 to a Record whose `from_id` is not in the peer's certificate (R-SEC.10a) and
//! never delivers it; what arrives here is established. Records are processed in the order of arrival; their
//! answers leave when the store has what they acknowledge.

use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use homefleet_coap::{Code, Scheme, Uri};
use homefleet_net::dtls::{Credentials, Role, TrustVerifier, Verifier};
use homefleet_net::mtp::{CoapMtp, Destination, Received, SendError};
use homefleet_trust::{Anchor, Decision, PeerIdentity, Refusal};
use homefleet_usp::EndpointId;
use tokio::sync::{mpsc, watch};

use crate::account::hex;
use crate::clock::{Clock, Millis};
use crate::controller::{Controller, Finish, Incoming, Transport};
use crate::metrics::Sample;
use crate::store::{AddressRecord, CertificateRecord};
use crate::task::driver::Sending;
use crate::task::queue::Delivery;
use crate::tls::{Evidence, List, Refusals, Target};

/// Records being stored at a time; beyond it the MTP's own queue fills and devices are told 5.03.
const IN_STORE: usize = 4096;

/// Sends through the MTP.
#[derive(Debug, Clone)]
pub struct CoapTransport(pub CoapMtp);

impl Transport for CoapTransport {
    fn send(&self, uri: &str, endpoint: &EndpointId, record: Vec<u8>) -> Sending {
        let mtp = self.0.clone();
        let destination = uri.parse::<Uri>().map(|uri| Destination {
            uri,
            endpoint_id: Some(endpoint.clone()),
        });
        let uri = uri.to_owned();
        Box::pin(async move {
            let destination = match destination {
                Ok(destination) => destination,
                Err(error) => {
                    return Delivery::NotDelivered(format!("`{uri}` is not a CoAP URI: {error}"));
                }
            };
            match mtp.send(&destination, record).await {
                Ok(()) => Delivery::Taken,
                Err(error) => delivery(&uri, &error),
            }
        })
    }
}

/// What a failure to send means for the task (R-COAP.9, R-COAP.10).
fn delivery(uri: &str, error: &SendError) -> Delivery {
    let problem = format!("{uri}: {error}");
    match error {
        SendError::Timeout | SendError::Closed => Delivery::Unclear(problem),
        SendError::Refused { code, .. } if *code == Code::SERVICE_UNAVAILABLE => {
            Delivery::NotDelivered(problem)
        }
        // It failed over it: before or after it did what was asked.
        SendError::Refused { code, .. } if code.class() == 5 => Delivery::Unclear(problem),
        SendError::Refused { .. } | SendError::TooLarge => Delivery::Refused(problem),
        // A peer we do not trust, no association, no address, a Reset: nothing of the Record was processed.
        _ => Delivery::NotDelivered(problem),
    }
}

/// Decides about devices: Figure MTP.1, and of a device that we reach out to, that it is the one meant. The figure is content
/// when the host name fits, which is right for finding a Controller; a request for one device must not reach another
/// that has its address now (R-SEC.0a).
#[derive(Debug)]
pub struct DeviceVerifier {
    trust: TrustVerifier,
    refusals: Arc<Refusals>,
}

impl DeviceVerifier {
    /// Decides as `trust` does, and notes the refusals.
    pub fn new(trust: TrustVerifier, refusals: Arc<Refusals>) -> Self {
        Self { trust, refusals }
    }
}

impl Verifier for DeviceVerifier {
    fn verify(&self, chain: &[Vec<u8>], role: Role<'_>, cached: bool) -> Decision {
        let mut decision = self.trust.verify(chain, role, cached);
        if let Role::Initiated {
            endpoint_id: Some(meant),
            ..
        } = role
            && decision
                .peer
                .as_ref()
                .is_some_and(|peer| !peer.is_endpoint(meant))
        {
            decision.refuse(Refusal::NameMismatch);
        }
        self.refusals.note(
            SystemTime::now().into(),
            &decision,
            matches!(role, Role::Initiated { .. }),
        );
        decision
    }

    fn generation(&self) -> u64 {
        self.trust.generation()
    }

    fn time(&self) -> Option<SystemTime> {
        self.trust.time()
    }
}

/// Takes over new certificates.
pub(crate) struct Certificates {
    /// Shows the own one.
    pub(crate) mtp: CoapMtp,
    /// Judges the peers'.
    pub(crate) verifier: Arc<DeviceVerifier>,
    /// Knows which were revoked.
    pub(crate) evidence: Option<Evidence>,
}

impl Target for Certificates {
    fn credentials(
        &self,
        new: Credentials,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async move {
            self.mtp
                .replace_credentials(new)
                .await
                .map_err(|error| error.to_string())
        })
    }

    fn anchors(&self, new: Vec<Anchor>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            self.verifier.trust.replace_anchors(new);
            self.mtp.judge_again().await;
        })
    }

    fn lists(&self, new: Vec<List>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            if let Some(evidence) = &self.evidence {
                evidence.take(&new);
                self.mtp.judge_again().await;
            }
        })
    }

    fn revocation(&self) -> (Vec<Sample>, Vec<String>) {
        match &self.evidence {
            Some(evidence) => (evidence.samples(), evidence.troubles()),
            None => Default::default(),
        }
    }
}

/// Runs until `stop` changes or the MTP ends.
pub(crate) async fn run(
    controller: Controller,
    mut records: mpsc::Receiver<Received>,
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
        let received = tokio::select! {
            received = records.recv() => received,
            _ = stop.changed() => None,
        };
        let Some(received) = received else { break };
        if let Some(finish) = controller.accept(incoming(received, clock.now()))
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

fn incoming(received: Received, now: Millis) -> Incoming {
    Incoming {
        certificate: received
            .identity
            .map(|identity| certificate(&identity, now)),
        reply_to: AddressRecord {
            uri: received.reply_to.uri.to_string(),
            secure: received.reply_to.uri.scheme == Scheme::Coaps,
            seen: now,
        },
        record: received.record,
    }
}

fn certificate(identity: &Arc<PeerIdentity>, now: Millis) -> CertificateRecord {
    CertificateRecord {
        fingerprint: hex(&identity.fingerprint),
        subject: identity.subject.clone(),
        not_after: identity.not_after.into(),
        first_seen: now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_device_that_has_no_room_certainly_did_nothing() {
        let refused = |code| {
            let diagnostic = String::new();
            delivery("coaps://a/", &SendError::Refused { code, diagnostic })
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
}
