//! The way to the broker: TCP, or TLS over it.

use super::Context;
use super::settings::MqttClient;
use crate::tls::{self, Stream};

/// Connects. The broker is expected to be the host, and no Endpoint.
pub(super) async fn dial(context: &Context, settings: &MqttClient) -> Result<Stream, String> {
    let tls = match (settings.tls, &context.tls) {
        (false, _) => None,
        (true, Some(tls)) => Some((tls, None)),
        (true, None) => return Err("there is no certificate of ours to connect with".to_owned()),
    };
    tls::dial(&settings.host, settings.port, tls)
        .await
        .map_err(|error| error.to_string())
}
