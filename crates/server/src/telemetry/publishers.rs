//! Which device a publisher is: by its certificate, or by an address that the configuration gives.

use std::collections::HashMap;
use std::net::IpAddr;

use homefleet_trust::{Basis, PeerIdentity};

use crate::config::NotifPublisher;
use crate::core::Core;

/// Ties publishers to devices.
#[derive(Debug)]
pub(super) struct Ties {
    core: Core,
    addresses: HashMap<IpAddr, String>,
}

impl Ties {
    pub(super) fn new(core: Core, publishers: &[NotifPublisher]) -> Self {
        let addresses = publishers.iter();
        Self {
            core,
            addresses: addresses
                .map(|publisher| (publisher.address, publisher.device.clone()))
                .collect(),
        }
    }

    /// The device of a message. A certificate that names Endpoint IDs decides alone: its bearer's address says nothing more.
    pub(super) fn device(&self, identity: Option<&PeerIdentity>, from: IpAddr) -> Option<String> {
        let state = self.core.state();
        if let Some(identity) = identity
            && !identity.endpoint_ids.is_empty()
        {
            // Whom nobody verified is nobody.
            let is_verified = matches!(identity.basis, Basis::TrustedCa | Basis::StoredCertificate);
            return state
                .registry
                .bearer(identity)
                .filter(|_| is_verified)
                .map(str::to_owned);
        }
        let device = self.addresses.get(&from.to_canonical())?;
        state
            .registry
            .device(device)
            .map(|device| device.id.clone())
    }
}
