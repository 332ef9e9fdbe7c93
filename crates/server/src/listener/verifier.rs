//! Who may connect, and what is shown to them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use homefleet_net::cmp::CoapListener;
use homefleet_net::dtls::{Credentials, Role, TrustVerifier, Verifier};
use homefleet_trust::{Anchor, Basis, Decision, Refusal};

use super::network::Network;
use crate::metrics::Sample;
use crate::proxy::Front;
use crate::telemetry::Telemetry;
use crate::tls::{Evidence, List, Refusals, Target};

/// Decides about devices: Figure MTP.1, and of a device that we reach out to, that it is the one meant. The figure is content
/// when the host name fits, which is right for finding a Controller; a request for one device must not reach another
/// that has its address now (R-SEC.0a). And a broker is one that we connected to: who comes to us with a Trusted Broker's
/// certificate vouches for nobody.
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
        if role == Role::Accepted
            && decision
                .peer
                .as_ref()
                .is_some_and(|peer| peer.basis == Basis::TrustedBroker)
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
    pub(crate) network: Network,
    /// Shows it too, to those who ask for certificates.
    pub(crate) cmp_tls: Option<homefleet_net::tls::Tls>,
    /// And to devices that speak TR-069.
    pub(crate) acs_tls: Option<homefleet_net::tls::Tls>,
    /// Judges the peers'.
    pub(crate) verifier: Arc<DeviceVerifier>,
    /// Receives from publishers.
    pub(crate) telemetry: Option<Telemetry>,
    /// Takes requests for certificates over CoAP.
    pub(crate) cmp: Option<CoapListener>,
    /// Passes such requests on.
    pub(crate) proxy: Option<Front>,
    /// Knows which were revoked.
    pub(crate) evidence: Option<Evidence>,
}

impl Certificates {
    async fn judge_again(&self) {
        self.network.mtps.judge_again().await;
        if let Some(tls) = &self.acs_tls {
            tls.judge_again().await;
        }
        if let Some(telemetry) = &self.telemetry {
            telemetry.judge_again();
        }
    }
}

impl Target for Certificates {
    fn credentials(
        &self,
        new: Credentials,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async move {
            self.network
                .mtps
                .replace_credentials(&new)
                .await
                .map_err(|error| error.to_string())?;
            for tls in self.cmp_tls.iter().chain(&self.acs_tls) {
                tls.replace_credentials(&new)
                    .map_err(|error| error.to_string())?;
            }
            if let Some(telemetry) = &self.telemetry {
                telemetry.replace_credentials(&new)?;
            }
            if let Some(proxy) = &self.proxy {
                let shown = proxy.replace_credentials(new.clone()).await;
                shown.map_err(|error| error.to_string())?;
            }
            match &self.cmp {
                Some(cmp) => cmp
                    .replace_credentials(new)
                    .await
                    .map_err(|error| error.to_string()),
                None => Ok(()),
            }
        })
    }

    fn anchors(&self, new: Vec<Anchor>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            self.verifier.trust.replace_anchors(new);
            self.judge_again().await;
        })
    }

    fn brokers(&self, new: Vec<Anchor>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            self.verifier.trust.replace_brokers(new);
            self.network.meet_brokers_again().await;
        })
    }

    fn lists(&self, new: Vec<List>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            if let Some(evidence) = &self.evidence {
                evidence.take(&new);
                self.judge_again().await;
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
