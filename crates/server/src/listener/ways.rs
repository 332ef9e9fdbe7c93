//! The ways out: one transport over every MTP of the server.

use std::io;

use homefleet_net::dtls::Credentials;
use homefleet_net::mtp::{CoapMtp, Destination, Route, SendError};

use super::{failed, sent};
use crate::controller::{Parcel, Transport};
use crate::task::driver::Sending;

/// The server's MTPs. Clones share them.
#[derive(Debug, Clone)]
pub struct Ways {
    /// CoAP.
    pub coap: CoapMtp,
}

impl Ways {
    async fn send(&self, parcel: Parcel) -> Result<(), SendError> {
        match parcel.route {
            Route::Coap(uri) => {
                let destination = Destination {
                    uri,
                    endpoint_id: Some(parcel.endpoint),
                };
                if parcel.once {
                    self.coap.send_once(&destination, parcel.record).await
                } else {
                    self.coap.send(&destination, parcel.record).await
                }
            }
            _ => Err(SendError::NoMtp),
        }
    }

    /// Has the decision about every peer made anew.
    pub async fn judge_again(&self) {
        self.coap.judge_again().await;
    }

    /// Shows this certificate in handshakes from now on.
    ///
    /// # Errors
    /// When it is not usable; nothing changes then.
    pub async fn replace_credentials(&self, new: &Credentials) -> io::Result<()> {
        self.coap.replace_credentials(new.clone()).await
    }

    /// Tells peers goodbye.
    pub async fn shutdown(&self) {
        self.coap.shutdown().await;
    }
}

impl Transport for Ways {
    fn send(&self, parcel: Parcel) -> Sending {
        let (ways, route) = (self.clone(), parcel.route.clone());
        Box::pin(async move {
            match ways.send(parcel).await {
                Ok(()) => sent(&route),
                Err(error) => failed(&route, &error),
            }
        })
    }
}
