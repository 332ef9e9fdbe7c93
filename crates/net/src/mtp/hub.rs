//! All Message Transfer Protocols of an Endpoint as one.

use std::fmt;
use std::io;

use homefleet_usp::EndpointId;

use super::mqtt::{MqttMtp, MqttStats};
use super::stomp::{StompMtp, StompStats};
use super::{
    CoapMtp, Destination, NetStats, Route, SendError, UdsMtp, UdsStats, WebSocketMtp,
    WebSocketStats,
};
use crate::dtls::Credentials;
use crate::tls::{Tls, TlsStats};

/// The MTPs that an Endpoint has. What happens on each goes to the queue of [`Event`](super::Event)s that it was made with. Clones
/// share them.
#[derive(Clone, Default)]
pub struct Mtps {
    /// CoAP.
    pub coap: Option<CoapMtp>,
    /// MQTT.
    pub mqtt: Option<MqttMtp>,
    /// STOMP.
    pub stomp: Option<StompMtp>,
    /// TLS of all those over TCP.
    pub tls: Option<Tls>,
    /// UNIX domain sockets.
    pub uds: Option<UdsMtp>,
    /// WebSocket.
    pub websocket: Option<WebSocketMtp>,
}

/// Counters of all MTPs; `None` of those that are not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MtpsStats {
    /// CoAP.
    pub coap: Option<NetStats>,
    /// MQTT.
    pub mqtt: Option<MqttStats>,
    /// STOMP.
    pub stomp: Option<StompStats>,
    /// TLS of all those over TCP.
    pub tls: Option<TlsStats>,
    /// UNIX domain sockets.
    pub uds: Option<UdsStats>,
    /// WebSocket.
    pub websocket: Option<WebSocketStats>,
}

impl Mtps {
    /// Sends one encoded Record the way that `to` says.
    ///
    /// # Errors
    /// [`SendError`]; [`SendError::NoMtp`] when there is no such MTP here.
    pub async fn send(
        &self,
        to: &Route,
        endpoint_id: &EndpointId,
        record: Vec<u8>,
    ) -> Result<(), SendError> {
        self.dispatch(to, endpoint_id, record, false).await
    }

    /// The same for a Record that is not to be processed twice: none is sent again where it is not certain whether the first
    /// arrived. See [`CoapMtp::send_once`].
    ///
    /// # Errors
    /// [`SendError`]; [`SendError::Timeout`], [`SendError::Lost`] and [`SendError::Closed`] leave open whether it arrived.
    pub async fn send_once(
        &self,
        to: &Route,
        endpoint_id: &EndpointId,
        record: Vec<u8>,
    ) -> Result<(), SendError> {
        self.dispatch(to, endpoint_id, record, true).await
    }

    async fn dispatch(
        &self,
        to: &Route,
        endpoint_id: &EndpointId,
        record: Vec<u8>,
        once: bool,
    ) -> Result<(), SendError> {
        match to {
            Route::Coap(uri) => {
                let mtp = self.coap.as_ref().ok_or(SendError::NoMtp)?;
                let to = Destination {
                    uri: uri.clone(),
                    endpoint_id: Some(endpoint_id.clone()),
                };
                if once {
                    mtp.send_once(&to, record).await
                } else {
                    mtp.send(&to, record).await
                }
            }
            Route::Mqtt { .. } => {
                let mtp = self.mqtt.as_ref().ok_or(SendError::NoMtp)?;
                mtp.send(to, endpoint_id, record).await
            }
            Route::Stomp { .. } => {
                let mtp = self.stomp.as_ref().ok_or(SendError::NoMtp)?;
                mtp.send(to, endpoint_id, record).await
            }
            Route::Uds => {
                let mtp = self.uds.as_ref().ok_or(SendError::NoMtp)?;
                mtp.send(to, endpoint_id, record).await
            }
            Route::WebSocket { .. } => {
                let mtp = self.websocket.as_ref().ok_or(SendError::NoMtp)?;
                mtp.send(to, endpoint_id, record).await
            }
        }
    }

    /// Has the decision about every peer made anew: for when evidence about revocation has come, the time has become
    /// accurate, or the verifier's grounds have changed.
    pub async fn judge_again(&self) {
        if let Some(coap) = &self.coap {
            coap.judge_again().await;
        }
        if let Some(tls) = &self.tls {
            tls.judge_again().await;
        }
    }

    /// Presents this certificate and key in handshakes from now on; what is open stays.
    ///
    /// # Errors
    /// When they are not usable. Those MTPs that had taken them keep them.
    pub async fn replace_credentials(&self, credentials: &Credentials) -> io::Result<()> {
        if let Some(tls) = &self.tls {
            tls.replace_credentials(credentials)?;
        }
        if let Some(coap) = &self.coap {
            coap.replace_credentials(credentials.clone()).await?;
        }
        Ok(())
    }

    /// Puts peers that were accepted on nothing but first use out after this time without a message, from now on (R-SEC.6).
    pub async fn set_first_use_idle(&self, idle: std::time::Duration) {
        if let Some(tls) = &self.tls {
            tls.set_first_use_idle(idle);
        }
        if let Some(coap) = &self.coap {
            coap.set_first_use_idle(idle).await;
        }
    }

    /// Takes leave of every peer and ends the MTPs.
    pub async fn shutdown(&self) {
        // None waits for another's farewells.
        tokio::join!(
            async {
                if let Some(coap) = &self.coap {
                    coap.shutdown().await;
                }
            },
            async {
                if let Some(mqtt) = &self.mqtt {
                    mqtt.shutdown().await;
                }
            },
            async {
                if let Some(stomp) = &self.stomp {
                    stomp.shutdown().await;
                }
            },
            async {
                if let Some(uds) = &self.uds {
                    uds.shutdown().await;
                }
            },
            async {
                if let Some(websocket) = &self.websocket {
                    websocket.shutdown().await;
                }
            },
        );
    }

    /// The counters.
    pub fn stats(&self) -> MtpsStats {
        MtpsStats {
            coap: self.coap.as_ref().map(CoapMtp::stats),
            mqtt: self.mqtt.as_ref().map(MqttMtp::stats),
            stomp: self.stomp.as_ref().map(StompMtp::stats),
            tls: self.tls.as_ref().map(Tls::stats),
            uds: self.uds.as_ref().map(UdsMtp::stats),
            websocket: self.websocket.as_ref().map(WebSocketMtp::stats),
        }
    }
}

impl fmt::Debug for Mtps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mtps")
            .field("coap", &self.coap)
            .field("mqtt", &self.mqtt)
            .field("stomp", &self.stomp)
            .field("tls", &self.tls)
            .field("uds", &self.uds)
            .field("websocket", &self.websocket)
            .finish_non_exhaustive()
    }
}
