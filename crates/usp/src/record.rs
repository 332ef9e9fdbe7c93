//! USP Records (TR-369 §4.3): the envelope of a Message.

use prost::Message as _;

use crate::{
    endpoint::{EndpointId, EndpointIdError},
    error::ErrorCode,
    proto::record::{self as pb, record::RecordType},
    wire::{self, Shape},
};

pub use crate::wire::WireError;

pub use crate::proto::record::{
    mqtt_connect_record::MqttVersion, record::PayloadSecurity,
    session_context_record::PayloadSarState,
};

/// The version that we write into Records.
pub const VERSION: &str = "1.4";

/// The versions that we support, as GetSupportedProtocol tells them.
pub const SUPPORTED_VERSIONS: &str = "1.0,1.1,1.2,1.3,1.4";

/// The largest Record that [`Record::decode`] looks at, in bytes; a bound of ours.
pub const MAX_RECORD: usize = 4 * 1024 * 1024;

const SHAPE: Shape = Shape {
    name: "Record",
    once: &[],
    one_of: &[7, 8, 9, 10, 11, 12, 13],
    plain: &[1, 2, 3, 4, 5, 6],
    inside: &[],
};

/// A Record whose fields are valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Version of the encoding, `1.x`.
    pub version: String,
    /// The receiver.
    pub to_id: EndpointId,
    /// The sender.
    pub from_id: EndpointId,
    /// How the payload is secured.
    pub payload_security: PayloadSecurity,
    /// Signature over the other fields; empty when there is none.
    pub mac_signature: Vec<u8>,
    /// The sender's certificate, PEM; empty when there is none.
    pub sender_cert: Vec<u8>,
    /// What it carries.
    pub body: RecordBody,
}

/// What a Record carries (`record_type`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordBody {
    /// A Message outside a session context; never empty.
    NoSession(Vec<u8>),
    /// A part of a session context.
    Session(SessionContext),
    /// Connected over WebSocket.
    WebSocketConnect,
    /// Connected over MQTT.
    MqttConnect {
        /// The MQTT version.
        version: MqttVersion,
        /// The topic that the sender subscribed to.
        topic: String,
    },
    /// Connected over STOMP 1.2.
    StompConnect {
        /// The destination that the sender subscribed to.
        destination: String,
    },
    /// About to disconnect.
    Disconnect {
        /// Why, for a person.
        reason: String,
        /// Why, as an error code; 0 when none is given.
        code: u32,
    },
    /// Connected over a Unix domain socket.
    UdsConnect,
}

/// A part of a session context (TR-369 §5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionContext {
    /// The session context.
    pub session_id: u64,
    /// This Record's place in it.
    pub sequence_id: u64,
    /// The next Record that the sender expects.
    pub expected_id: u64,
    /// A Record to be sent again; 0 for none.
    pub retransmit_id: u64,
    /// Segmentation of the payload's Messages.
    pub payload_sar_state: PayloadSarState,
    /// Segmentation of the payload's secured records.
    pub payloadrec_sar_state: PayloadSarState,
    /// The payload.
    pub payload: Vec<Vec<u8>>,
}

/// Bytes that are no valid Record. What could be read of it is kept, so that the receiver can decide on an
/// answer as R-MTP.5 says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct RecordError {
    /// What is wrong.
    pub kind: RecordErrorKind,
    readable: Box<Readable>,
}

/// What could be read of a wrong Record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Readable {
    from_id: Option<EndpointId>,
    to_id: Option<EndpointId>,
    payload: Option<Vec<u8>>,
}

/// What is wrong with a Record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordErrorKind {
    /// Larger than the bound.
    #[error("{length} bytes, at most {max} are taken")]
    TooLarge {
        /// How large it is.
        length: usize,
        /// How large it may be.
        max: usize,
    },
    /// The wire form is wrong: not protobuf, or not exactly one `record_type` (R-ENC.3).
    #[error("{0}")]
    Wire(WireError),
    /// It does not decode, for example a string that is not UTF-8.
    #[error("no Record: {0}")]
    Decode(String),
    /// A version that is not `1.x`.
    #[error("version {0:?} is not 1.x")]
    Version(String),
    /// An Endpoint ID that is none.
    #[error("{field} {text:?}: {error}")]
    Endpoint {
        /// `to_id` or `from_id`.
        field: &'static str,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        error: EndpointIdError,
    },
    /// Sender and receiver are the same (R-ARC.2).
    #[error("from_id and to_id are the same")]
    SameEndpoint,
    /// An enumeration value that this version does not know (R-ENC.2).
    #[error("{field} has the unknown value {value}")]
    UnknownEnum {
        /// The field.
        field: &'static str,
        /// Its value.
        value: i32,
    },
    /// A Record for a Message, without one.
    #[error("no payload")]
    NoPayload,
    /// It came from an Endpoint that uses another version of MQTT (R-MQTT.26a).
    #[error("sender and receiver use different versions of MQTT")]
    MqttVersion,
}

impl RecordError {
    /// Something that is too large to be looked at.
    pub(crate) fn too_large(length: usize, max: usize) -> Self {
        Self {
            kind: RecordErrorKind::TooLarge { length, max },
            readable: Box::default(),
        }
    }

    /// A Record that decodes, and is wrong for where it came from.
    pub fn of(kind: RecordErrorKind, record: Record) -> Self {
        let payload = match record.body {
            RecordBody::NoSession(payload) => Some(payload),
            _ => None,
        };
        Self {
            kind,
            readable: Box::new(Readable {
                from_id: Some(record.from_id),
                to_id: Some(record.to_id),
                payload,
            }),
        }
    }

    /// The error code of the answer; `None` when the Record is discarded without one (R-ENC.4).
    pub fn code(&self) -> Option<ErrorCode> {
        match self.kind {
            RecordErrorKind::TooLarge { .. } => Some(ErrorCode::RESOURCES_EXCEEDED),
            RecordErrorKind::Wire(WireError::Malformed(_)) | RecordErrorKind::Decode(_) => {
                Some(ErrorCode::RECORD_NOT_PARSED)
            }
            RecordErrorKind::Wire(_) => None,
            RecordErrorKind::Version(_)
            | RecordErrorKind::Endpoint { .. }
            | RecordErrorKind::SameEndpoint
            | RecordErrorKind::UnknownEnum { .. }
            | RecordErrorKind::NoPayload
            | RecordErrorKind::MqttVersion => Some(ErrorCode::INVALID_RECORD_VALUE),
        }
    }

    /// The sender, when it could be read and is valid.
    pub fn from_id(&self) -> Option<&EndpointId> {
        self.readable.from_id.as_ref()
    }

    /// The receiver, when it could be read and is valid.
    pub fn to_id(&self) -> Option<&EndpointId> {
        self.readable.to_id.as_ref()
    }

    /// The Message, when it could be read.
    pub fn payload(&self) -> Option<&[u8]> {
        self.readable.payload.as_deref()
    }
}

impl Record {
    /// A Record with a Message outside a session context, in plain text.
    pub fn no_session(to_id: EndpointId, from_id: EndpointId, message: Vec<u8>) -> Self {
        Self::with(to_id, from_id, RecordBody::NoSession(message))
    }

    /// A Record that says that the sender is about to disconnect (R-MTP.7, R-MTP.9).
    pub fn disconnect(
        to_id: EndpointId,
        from_id: EndpointId,
        code: ErrorCode,
        reason: &str,
    ) -> Self {
        Self::with(
            to_id,
            from_id,
            RecordBody::Disconnect {
                reason: reason.to_owned(),
                code: code.0,
            },
        )
    }

    /// A Record in plain text.
    pub fn with(to_id: EndpointId, from_id: EndpointId, body: RecordBody) -> Self {
        Self {
            version: VERSION.to_owned(),
            to_id,
            from_id,
            payload_security: PayloadSecurity::Plaintext,
            mac_signature: Vec::new(),
            sender_cert: Vec::new(),
            body,
        }
    }

    /// The sender.
    pub fn from_id(&self) -> &EndpointId {
        &self.from_id
    }

    /// The receiver.
    pub fn to_id(&self) -> &EndpointId {
        &self.to_id
    }

    /// The Message of a Record outside a session context.
    pub fn message(&self) -> Option<&[u8]> {
        match &self.body {
            RecordBody::NoSession(payload) => Some(payload),
            _ => None,
        }
    }

    /// The Record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.clone().into_proto().encode_to_vec()
    }

    /// The Record that `bytes` are, at most [`MAX_RECORD`].
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        Self::decode_within(bytes, MAX_RECORD)
    }

    /// The Record that `bytes` are, at most `max`.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode_within(bytes: &[u8], max: usize) -> Result<Self, RecordError> {
        let fail = |kind| {
            let id = |field| wire::text(bytes, &[field]).and_then(|text| text.parse().ok());
            let payload = wire::payload(bytes, &[7, 2]).map(<[u8]>::to_vec);
            let readable = Readable {
                from_id: id(3),
                to_id: id(2),
                payload,
            };
            RecordError {
                kind,
                readable: Box::new(readable),
            }
        };
        if bytes.len() > max {
            return Err(RecordError::too_large(bytes.len(), max));
        }
        wire::check(&SHAPE, bytes).map_err(|error| fail(RecordErrorKind::Wire(error)))?;
        let record = pb::Record::decode(bytes)
            .map_err(|error| fail(RecordErrorKind::Decode(error.to_string())))?;
        Self::from_proto(record).map_err(fail)
    }

    fn from_proto(record: pb::Record) -> Result<Self, RecordErrorKind> {
        if !is_version(&record.version) {
            return Err(RecordErrorKind::Version(record.version));
        }
        let to_id = endpoint("to_id", record.to_id)?;
        let from_id = endpoint("from_id", record.from_id)?;
        if to_id == from_id {
            return Err(RecordErrorKind::SameEndpoint);
        }
        let payload_security =
            PayloadSecurity::try_from(record.payload_security).map_err(|error| {
                RecordErrorKind::UnknownEnum {
                    field: "payload_security",
                    value: error.0,
                }
            })?;
        let body = match record.record_type {
            None => {
                return Err(RecordErrorKind::Wire(WireError::OneOf {
                    name: "Record",
                    count: 0,
                }));
            }
            Some(RecordType::NoSessionContext(body)) if body.payload.is_empty() => {
                return Err(RecordErrorKind::NoPayload);
            }
            Some(RecordType::NoSessionContext(body)) => RecordBody::NoSession(body.payload),
            Some(RecordType::SessionContext(body)) => RecordBody::Session(SessionContext {
                session_id: body.session_id,
                sequence_id: body.sequence_id,
                expected_id: body.expected_id,
                retransmit_id: body.retransmit_id,
                payload_sar_state: sar("payload_sar_state", body.payload_sar_state)?,
                payloadrec_sar_state: sar("payloadrec_sar_state", body.payloadrec_sar_state)?,
                payload: body.payload,
            }),
            Some(RecordType::WebsocketConnect(_)) => RecordBody::WebSocketConnect,
            Some(RecordType::MqttConnect(body)) => RecordBody::MqttConnect {
                version: MqttVersion::try_from(body.version).map_err(|error| {
                    RecordErrorKind::UnknownEnum {
                        field: "version",
                        value: error.0,
                    }
                })?,
                topic: body.subscribed_topic,
            },
            Some(RecordType::StompConnect(body)) => {
                if body.version != 0 {
                    return Err(RecordErrorKind::UnknownEnum {
                        field: "version",
                        value: body.version,
                    });
                }
                RecordBody::StompConnect {
                    destination: body.subscribed_destination,
                }
            }
            Some(RecordType::Disconnect(body)) => RecordBody::Disconnect {
                reason: body.reason,
                code: body.reason_code,
            },
            Some(RecordType::UdsConnect(_)) => RecordBody::UdsConnect,
        };
        Ok(Self {
            version: record.version,
            to_id,
            from_id,
            payload_security,
            mac_signature: record.mac_signature,
            sender_cert: record.sender_cert,
            body,
        })
    }

    fn into_proto(self) -> pb::Record {
        let body = match self.body {
            RecordBody::NoSession(payload) => {
                RecordType::NoSessionContext(pb::NoSessionContextRecord { payload })
            }
            RecordBody::Session(body) => RecordType::SessionContext(pb::SessionContextRecord {
                session_id: body.session_id,
                sequence_id: body.sequence_id,
                expected_id: body.expected_id,
                retransmit_id: body.retransmit_id,
                payload_sar_state: body.payload_sar_state.into(),
                payloadrec_sar_state: body.payloadrec_sar_state.into(),
                payload: body.payload,
            }),
            RecordBody::WebSocketConnect => {
                RecordType::WebsocketConnect(pb::WebSocketConnectRecord {})
            }
            RecordBody::MqttConnect { version, topic } => {
                RecordType::MqttConnect(pb::MqttConnectRecord {
                    version: version.into(),
                    subscribed_topic: topic,
                })
            }
            RecordBody::StompConnect { destination } => {
                RecordType::StompConnect(pb::StompConnectRecord {
                    version: 0,
                    subscribed_destination: destination,
                })
            }
            RecordBody::Disconnect { reason, code } => {
                RecordType::Disconnect(pb::DisconnectRecord {
                    reason,
                    reason_code: code,
                })
            }
            RecordBody::UdsConnect => RecordType::UdsConnect(pb::UdsConnectRecord {}),
        };
        pb::Record {
            version: self.version,
            to_id: self.to_id.to_string(),
            from_id: self.from_id.to_string(),
            payload_security: self.payload_security.into(),
            mac_signature: self.mac_signature,
            sender_cert: self.sender_cert,
            record_type: Some(body),
        }
    }
}

/// `1.` and a number: later minor versions stay decodable.
fn is_version(text: &str) -> bool {
    text.strip_prefix("1.").is_some_and(|minor| {
        (1..=3).contains(&minor.len()) && minor.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn endpoint(field: &'static str, text: String) -> Result<EndpointId, RecordErrorKind> {
    text.parse()
        .map_err(|error| RecordErrorKind::Endpoint { field, text, error })
}

fn sar(field: &'static str, value: i32) -> Result<PayloadSarState, RecordErrorKind> {
    PayloadSarState::try_from(value).map_err(|error| RecordErrorKind::UnknownEnum {
        field,
        value: error.0,
    })
}
