//! A telemetry message on its way to series and outputs: as it came, with what is known of its sender. Its envelope and its form
//! for the outputs are made when somebody asks, once.

use std::net::SocketAddr;
use std::sync::OnceLock;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::envelope::{Encoding, Envelope, EnvelopeError};
use crate::clock::Millis;

/// A message.
#[derive(Debug)]
pub struct Message {
    /// When it was received.
    pub at: Millis,
    /// Endpoint ID of the device that it is from; `None` when its publisher is tied to none.
    pub device: Option<String>,
    /// Where it came from.
    pub from: SocketAddr,
    /// Message Publisher ID (Observation Domain ID, generator ID).
    pub publisher: u32,
    /// Message ID.
    pub message_id: u32,
    /// Media type as its header has it, for example `json`, or the text of a private encoding.
    pub media: String,
    /// How it is encoded; `None` for what is none of the three.
    pub encoding: Option<Encoding>,
    /// The message itself, whole.
    pub payload: Bytes,
    envelope: OnceLock<Result<Envelope, EnvelopeError>>,
    record: OnceLock<Bytes>,
}

/// As outputs have it.
#[derive(Serialize)]
struct Record<'a> {
    time: String,
    device: Option<&'a str>,
    address: SocketAddr,
    publisher_id: u32,
    message_id: u32,
    media_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence_number: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notification: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    envelope_error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

impl Message {
    /// A message as received.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        at: Millis,
        device: Option<String>,
        from: SocketAddr,
        publisher: u32,
        message_id: u32,
        media: impl Into<String>,
        encoding: Option<Encoding>,
        payload: Bytes,
    ) -> Self {
        Self {
            at,
            device,
            from,
            publisher,
            message_id,
            media: media.into(),
            encoding,
            payload,
            envelope: OnceLock::new(),
            record: OnceLock::new(),
        }
    }

    /// Its envelope, read when first asked for.
    ///
    /// # Errors
    /// When it has none that is known; of an encoding that is not known too.
    pub fn envelope(&self) -> Result<&Envelope, EnvelopeError> {
        self.envelope
            .get_or_init(|| match self.encoding {
                Some(encoding) => Envelope::decode(encoding, &self.payload),
                None => Err(EnvelopeError::Unknown),
            })
            .as_ref()
            .map_err(|error| *error)
    }

    /// As one line of JSON, without the end of the line: what outputs write and send. A message in JSON stands in it as it came, one
    /// in XML as a text (`payload_text`), any other, and what is not well-formed, in base64 (`payload_base64`).
    pub fn record(&self) -> &Bytes {
        self.record.get_or_init(|| self.make_record())
    }

    /// Bytes that it takes in a queue.
    pub fn weight(&self) -> usize {
        // The record holds the payload once more.
        2 * self.payload.len() + 512
    }

    fn make_record(&self) -> Bytes {
        let envelope = self.envelope();
        let known = envelope.ok();
        let text = std::str::from_utf8(&self.payload).ok();
        // White space between tokens is all that can hold a line's end in JSON.
        let json = (self.encoding == Some(Encoding::Json)
            && !matches!(envelope, Err(EnvelopeError::Malformed(_))))
        .then(|| text.map(|text| text.replace(['\n', '\r'], " ")))
        .flatten();
        let payload = json.and_then(|json| RawValue::from_string(json).ok());
        let payload_text = text.filter(|_| {
            payload.is_none()
                && self.encoding == Some(Encoding::Xml)
                && !matches!(envelope, Err(EnvelopeError::Malformed(_)))
        });
        let payload_base64 =
            (payload.is_none() && payload_text.is_none()).then(|| base64(&self.payload));
        let record = Record {
            time: self.at.to_timestamp(),
            device: self.device.as_deref(),
            address: self.from,
            publisher_id: self.publisher,
            message_id: self.message_id,
            media_type: &self.media,
            event_time: known.and_then(|envelope| envelope.event_time.map(Millis::to_timestamp)),
            hostname: known.and_then(|envelope| envelope.hostname.as_deref()),
            sequence_number: known.and_then(|envelope| envelope.sequence),
            notification: known.and_then(|envelope| envelope.notification.as_deref()),
            subscription_id: known.and_then(|envelope| envelope.subscription.as_deref()),
            envelope_error: envelope.err().map(EnvelopeError::as_str),
            payload: payload.as_deref(),
            payload_text,
            payload_base64,
        };
        // Our own types serialise; a record that did not would be an empty line.
        serde_json::to_vec(&record).unwrap_or_default().into()
    }
}

/// Base64 with padding (RFC 4648 §4).
fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn record(encoding: Option<Encoding>, payload: &[u8]) -> Value {
        let from = "192.0.2.1:4000".parse().unwrap();
        let payload = Bytes::copy_from_slice(payload);
        let message = Message::new(
            Millis(0),
            Some("os::1".to_owned()),
            from,
            7,
            9,
            "x",
            encoding,
            payload,
        );
        let line = message.record();
        assert!(!line.contains(&b'\n'));
        serde_json::from_slice(line).unwrap()
    }

    #[test]
    fn a_record_has_the_message_as_it_came() {
        let json = record(Some(Encoding::Json), b"{\"a\":\n [1, 1.50]}");
        assert_eq!(
            json,
            json!({"time": "1970-01-01T00:00:00.000Z", "device": "os::1", "address": "192.0.2.1:4000", "publisher_id": 7,
                "message_id": 9, "media_type": "x", "envelope_error": "unknown", "payload": {"a": [1, 1.5]}})
        );
        let xml = record(
            Some(Encoding::Xml),
            b"<notification><eventTime>2026-11-20T12:00:00Z</eventTime></notification>",
        );
        assert_eq!(xml["event_time"], "2026-11-20T12:00:00.000Z");
        assert!(
            xml["payload_text"]
                .as_str()
                .unwrap()
                .starts_with("<notification>")
        );
    }

    #[test]
    fn what_is_not_well_formed_is_kept_all_the_same() {
        for (encoding, error) in [
            (Some(Encoding::Json), "malformed"),
            (Some(Encoding::Xml), "malformed"),
            (Some(Encoding::Cbor), "malformed"),
            (None, "unknown"),
        ] {
            let record = record(encoding, b"\xff\x00");
            assert_eq!(record["payload_base64"], "/wA=");
            assert_eq!(record["envelope_error"], error);
        }
    }
}
