//! The publishers of telemetry: one for each receiver that the data model has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use homefleet_net::dtls::{Credentials, Role, Verifier};
use homefleet_net::notif::send::{Dtls, Sender, SenderConfig, Stats};
use homefleet_notif::publisher::{self, MessageIds};
use homefleet_trust::{Basis, Decision, Refusal};
use tokio::runtime::Handle;

use super::trust::ControllerVerifier;
use crate::engine::Publishers;
use crate::telemetry::Receiver;

/// How long what waits may take to leave when a publisher ends.
const LINGER: Duration = Duration::from_millis(500);

/// The publishers that run.
#[derive(Clone)]
pub(super) struct Telemetry {
    shared: Arc<Mutex<Shared>>,
    verifier: Arc<dyn Verifier>,
    handle: Handle,
}

struct Shared {
    credentials: Credentials,
    senders: BTreeMap<String, (Receiver, Sender)>,
    /// Up to -08 all receivers of a publisher share one sequence of Message IDs.
    ids: BTreeMap<u32, MessageIds>,
}

impl Telemetry {
    pub(super) fn new(credentials: Credentials, verifier: Arc<ControllerVerifier>) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared {
                credentials,
                senders: BTreeMap::new(),
                ids: BTreeMap::new(),
            })),
            verifier: Arc::new(ReceiverVerifier(verifier)),
            handle: Handle::current(),
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on there are these receivers. Those that stay as they are go on.
    pub(super) fn apply(&self, receivers: Vec<(String, Receiver)>) {
        let _runtime = self.handle.enter();
        let mut shared = self.shared();
        let before = std::mem::take(&mut shared.senders);
        for (name, (receiver, sender)) in before {
            if receivers.contains(&(name.clone(), receiver.clone())) {
                shared.senders.insert(name, (receiver, sender));
            } else {
                self.handle.spawn(sender.stop(LINGER));
            }
        }
        for (name, receiver) in receivers {
            if shared.senders.contains_key(&name) {
                continue;
            }
            match self.start(&mut shared, &receiver) {
                Ok(sender) => {
                    shared.senders.insert(name, (receiver, sender));
                }
                Err(error) => {
                    tracing::error!(receiver = name, %error, "telemetry is not published there");
                }
            }
        }
    }

    fn start(&self, shared: &mut Shared, receiver: &Receiver) -> std::io::Result<Sender> {
        let generation = receiver.generation;
        let publisher = publisher::Config {
            segmentation: receiver.segmentation,
            max_segment_size: receiver.max_segment_size,
            framing: receiver.framing,
            pacing: receiver.pacing,
            max_waiting: receiver.max_waiting,
            dropped: receiver.dropped,
            ..publisher::Config::new(
                generation,
                receiver.publisher_id,
                receiver.encoding.media_type(),
            )
        };
        let dtls = receiver.dtls.map(|versions| Dtls {
            versions,
            ..Dtls::new(shared.credentials.clone(), self.verifier.clone())
        });
        let config = SenderConfig {
            local_address: receiver.local_address,
            local_port: receiver.local_port,
            dscp: receiver.dscp,
            dtls,
            ..SenderConfig::new(receiver.address.clone(), receiver.port, publisher)
        };
        let ids = MessageIds::are_shared(generation).then(|| {
            let ids = shared.ids.entry(receiver.publisher_id);
            ids.or_insert_with(|| MessageIds::new(generation, 0))
                .clone()
        });
        Sender::start(config, ids)
    }

    /// Uses another certificate for sessions from now on; those that there are stay.
    pub(super) fn replace_credentials(&self, credentials: &Credentials) {
        let mut shared = self.shared();
        shared.credentials = credentials.clone();
        for (_, sender) in shared.senders.values() {
            sender.replace_credentials(credentials.clone());
        }
    }

    /// Gives a message to the publisher of this receiver. What is dropped is counted there.
    pub(super) fn publish(&self, receiver: &str, message: Vec<u8>) {
        if let Some((_, sender)) = self.shared().senders.get(receiver)
            && let Err(error) = sender.publish(message)
        {
            tracing::debug!(receiver, %error, "telemetry dropped");
        }
    }

    /// Ends all of them in order.
    pub(super) async fn shutdown(&self) {
        let senders = std::mem::take(&mut self.shared().senders);
        let ends = senders
            .into_values()
            .map(|(_, sender)| tokio::spawn(sender.stop(LINGER)));
        for end in ends.collect::<Vec<_>>() {
            // It panicked, which was logged.
            end.await.ok();
        }
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry")
            .field("receivers", &self.shared().senders.len())
            .finish_non_exhaustive()
    }
}

impl Publishers for Telemetry {
    fn stats(&self, receiver: &str) -> Option<Stats> {
        let shared = self.shared();
        let (_, sender) = shared.senders.get(receiver)?;
        Some(sender.stats())
    }
}

/// Whom telemetry is told: whom the CAs vouch for, or whose certificate is stored. Nobody is told anything on first use.
pub(super) struct ReceiverVerifier(pub(super) Arc<ControllerVerifier>);

impl Verifier for ReceiverVerifier {
    fn verify(&self, chain: &[Vec<u8>], role: Role<'_>, cached: bool) -> Decision {
        let mut decision = self.0.verify(chain, role, cached);
        let first_use = decision
            .peer
            .as_ref()
            .is_some_and(|peer| peer.basis == Basis::FirstUse);
        if first_use {
            decision.refuse(Refusal::UnknownIssuer);
        }
        decision
    }

    fn generation(&self) -> u64 {
        self.0.generation()
    }

    fn time(&self) -> Option<SystemTime> {
        self.0.time()
    }
}
