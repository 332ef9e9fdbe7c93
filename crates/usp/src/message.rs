//! USP Messages (TR-369 §6): decoding with every check of R-ENC.2 to R-ENC.5 and R-MSG.5 to R-MSG.10, and
//! constructors.
//!
//! ```
//! use homefleet_usp::{Message, message::{self, Body, Request}};
//!
//! let bytes = Message::request("7", message::get(["Device.DeviceInfo."], 1)).encode();
//! let message = Message::decode(&bytes).unwrap();
//! assert!(matches!(message.body, Body::Request(Request::Get(_))));
//! ```

use std::{collections::BTreeMap, fmt};

use prost::Message as _;

use crate::{
    error::ErrorCode,
    proto::msg::{self as pb, body::MsgBody},
    wire::{self, Shape, WireError},
};

pub use crate::proto::msg::{
    header::MsgType, request::ReqType as Request, response::RespType as Response,
};

/// The largest Message that [`Message::decode`] looks at, in bytes; a bound of ours.
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// The longest Message ID that is taken, in bytes; a bound of ours.
pub const MAX_MSG_ID: usize = 256;

const STATUS: Shape = Shape {
    name: "OperationStatus",
    once: &[],
    one_of: &[1, 2],
    plain: &[],
    inside: &[],
};
const RESULT: Shape = Shape {
    name: "result",
    once: &[2],
    one_of: &[],
    plain: &[1],
    inside: &[(2, &STATUS)],
};
const RESULTS: Shape = Shape {
    name: "results",
    once: &[],
    one_of: &[],
    plain: &[],
    inside: &[(1, &RESULT)],
};
const OPERATION: Shape = Shape {
    name: "OperationResult",
    once: &[],
    one_of: &[2, 3, 4],
    plain: &[1],
    inside: &[],
};
const OPERATIONS: Shape = Shape {
    name: "OperateResp",
    once: &[],
    one_of: &[],
    plain: &[],
    inside: &[(1, &OPERATION)],
};
const COMPLETE: Shape = Shape {
    name: "OperationComplete",
    once: &[],
    one_of: &[4, 5],
    plain: &[1, 2, 3],
    inside: &[],
};
const NOTIFY: Shape = Shape {
    name: "Notify",
    once: &[],
    one_of: &[3, 4, 5, 6, 7, 8],
    plain: &[1, 2],
    inside: &[(7, &COMPLETE)],
};
const KINDS: &[u32] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
const REQUEST: Shape = Shape {
    name: "Request",
    once: &[],
    one_of: KINDS,
    plain: &[],
    inside: &[(8, &NOTIFY)],
};
const RESPONSE: Shape = Shape {
    name: "Response",
    once: &[],
    one_of: KINDS,
    plain: &[],
    inside: &[
        (4, &RESULTS),
        (5, &RESULTS),
        (6, &RESULTS),
        (7, &OPERATIONS),
        (10, &RESULTS),
        (11, &RESULTS),
    ],
};
const BODY: Shape = Shape {
    name: "Body",
    once: &[],
    one_of: &[1, 2, 3],
    plain: &[],
    inside: &[(1, &REQUEST), (2, &RESPONSE)],
};
const MSG: Shape = Shape {
    name: "Msg",
    once: &[1, 2],
    one_of: &[],
    plain: &[],
    inside: &[(2, &BODY)],
};

/// A Message ID: never empty (R-MSG.8), opaque.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MsgId(String);

impl MsgId {
    /// The ID, when it has 1 to [`MAX_MSG_ID`] bytes.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        (1..=MAX_MSG_ID).contains(&text.len()).then_some(Self(text))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MsgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is given for the ID of a Message that is made here: an ID that came in, or a text of ours. A text
/// outside the bounds is cut, and an empty one becomes `0`.
impl From<&str> for MsgId {
    fn from(text: &str) -> Self {
        let mut end = text.len().min(MAX_MSG_ID);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = text.get(..end).unwrap_or_default();
        Self(if text.is_empty() {
            "0".to_owned()
        } else {
            text.to_owned()
        })
    }
}

impl From<String> for MsgId {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

/// A Message with one header and one body that holds one thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its ID; a response has that of its request (R-MSG.9).
    pub id: MsgId,
    /// What it says.
    pub body: Body,
    /// Whether the header named another type than the body has. The body counts (R-MSG.10).
    pub header_mismatch: bool,
}

/// What a Message says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A request.
    Request(Request),
    /// The answer to a request.
    Response(Response),
    /// The refusal of a request.
    Error(pb::Error),
}

/// Bytes that are no valid Message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct MessageError {
    /// What is wrong.
    pub kind: MessageErrorKind,
    msg_id: Option<MsgId>,
    is_request: bool,
}

/// What is wrong with a Message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageErrorKind {
    /// Larger than [`MAX_MESSAGE`].
    #[error("{0} bytes, at most {MAX_MESSAGE} are taken")]
    TooLarge(usize),
    /// The wire form is wrong: not protobuf, not one header and body, or a `oneof` without exactly one
    /// element.
    #[error("{0}")]
    Wire(WireError),
    /// It does not decode, for example a string that is not UTF-8.
    #[error("no Message: {0}")]
    Decode(String),
    /// No Message ID (R-MSG.8), or one that is too long.
    #[error("msg_id has {0} bytes, 1 to {MAX_MSG_ID} are taken")]
    MsgId(usize),
    /// An enumeration value that this version does not know (R-ENC.2).
    #[error("{field} has the unknown value {value}")]
    UnknownEnum {
        /// The field.
        field: &'static str,
        /// Its value.
        value: i32,
    },
}

impl MessageError {
    /// The error code of the answer: 7001 for a kind of Message that is not known (R-MSG.1), 7004 for a
    /// wrong structure (R-ENC.5), 7100 and 7104 for what does not decode (R-MTP.5).
    pub fn code(&self) -> ErrorCode {
        match &self.kind {
            MessageErrorKind::TooLarge(_) => ErrorCode::RESOURCES_EXCEEDED,
            MessageErrorKind::Wire(WireError::Unknown { .. }) => ErrorCode::MESSAGE_NOT_SUPPORTED,
            MessageErrorKind::Wire(WireError::Malformed(_)) | MessageErrorKind::Decode(_) => {
                ErrorCode::RECORD_NOT_PARSED
            }
            MessageErrorKind::Wire(_) | MessageErrorKind::MsgId(_) => ErrorCode::INVALID_ARGUMENTS,
            MessageErrorKind::UnknownEnum { .. } => ErrorCode::INVALID_RECORD_VALUE,
        }
    }

    /// The Message's ID, when it could be read.
    pub fn msg_id(&self) -> Option<&MsgId> {
        self.msg_id.as_ref()
    }

    /// Whether the bytes look like a request: only then is an error answered (R-MTP.5).
    pub fn is_request(&self) -> bool {
        self.is_request
    }
}

impl Message {
    /// A request.
    pub fn request(id: impl Into<MsgId>, request: impl Into<Request>) -> Self {
        Self {
            id: id.into(),
            body: Body::Request(request.into()),
            header_mismatch: false,
        }
    }

    /// A response to the request with this ID (R-MSG.9).
    pub fn response(id: impl Into<MsgId>, response: impl Into<Response>) -> Self {
        Self {
            id: id.into(),
            body: Body::Response(response.into()),
            header_mismatch: false,
        }
    }

    /// The refusal of the request with this ID (R-MSG.9).
    pub fn error(id: impl Into<MsgId>, code: ErrorCode, text: impl Into<String>) -> Self {
        Self::error_with(id, code, text, Vec::new())
    }

    /// The refusal of an Add, Set or Delete, with what was wrong with each object or parameter.
    pub fn error_with(
        id: impl Into<MsgId>,
        code: ErrorCode,
        text: impl Into<String>,
        param_errs: Vec<pb::error::ParamError>,
    ) -> Self {
        let error = pb::Error {
            err_code: code.0,
            err_msg: text.into(),
            param_errs,
        };
        Self {
            id: id.into(),
            body: Body::Error(error),
            header_mismatch: false,
        }
    }

    /// What the body is, as the header names it.
    pub fn kind(&self) -> MsgType {
        match &self.body {
            Body::Request(request) => request_type(request),
            Body::Response(response) => response_type(response),
            Body::Error(_) => MsgType::Error,
        }
    }

    /// The Message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let header = pb::Header {
            msg_id: self.id.0.clone(),
            msg_type: self.kind().into(),
        };
        let body = match self.body.clone() {
            Body::Request(request) => MsgBody::Request(pb::Request {
                req_type: Some(request),
            }),
            Body::Response(response) => MsgBody::Response(pb::Response {
                resp_type: Some(response),
            }),
            Body::Error(error) => MsgBody::Error(error),
        };
        pb::Msg {
            header: Some(header),
            body: Some(pb::Body {
                msg_body: Some(body),
            }),
        }
        .encode_to_vec()
    }

    /// The Message that `bytes` are.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let fail = |kind| MessageError {
            kind,
            msg_id: wire::text(bytes, &[1, 1]).and_then(MsgId::new),
            is_request: wire::has(bytes, &[2, 1]),
        };
        if bytes.len() > MAX_MESSAGE {
            let kind = MessageErrorKind::TooLarge(bytes.len());
            return Err(MessageError {
                kind,
                msg_id: None,
                is_request: false,
            });
        }
        wire::check(&MSG, bytes).map_err(|error| fail(MessageErrorKind::Wire(error)))?;
        let message = pb::Msg::decode(bytes)
            .map_err(|error| fail(MessageErrorKind::Decode(error.to_string())))?;
        Self::from_proto(message).map_err(fail)
    }

    fn from_proto(message: pb::Msg) -> Result<Self, MessageErrorKind> {
        let missing = |name| MessageErrorKind::Wire(WireError::OneOf { name, count: 0 });
        let header = message.header.ok_or(missing("Msg"))?;
        let length = header.msg_id.len();
        let id = MsgId::new(header.msg_id).ok_or(MessageErrorKind::MsgId(length))?;
        let body = match message
            .body
            .and_then(|body| body.msg_body)
            .ok_or(missing("Body"))?
        {
            MsgBody::Request(request) => Body::Request(request.req_type.ok_or(missing("Request"))?),
            MsgBody::Response(response) => {
                Body::Response(response.resp_type.ok_or(missing("Response"))?)
            }
            MsgBody::Error(error) => Body::Error(error),
        };
        let named =
            MsgType::try_from(header.msg_type).map_err(|error| MessageErrorKind::UnknownEnum {
                field: "msg_type",
                value: error.0,
            })?;
        if let Body::Response(Response::GetSupportedDmResp(response)) = &body {
            check_enums(response)?;
        }
        let mut message = Self {
            id,
            body,
            header_mismatch: false,
        };
        message.header_mismatch = message.kind() != named;
        Ok(message)
    }
}

/// Every enumeration of a GetSupportedDMResp (R-ENC.2).
fn check_enums(response: &pb::GetSupportedDmResp) -> Result<(), MessageErrorKind> {
    use pb::get_supported_dm_resp::{
        CmdType, ObjAccessType, ParamAccessType, ParamValueType, ValueChangeType,
    };
    fn known<T: TryFrom<i32, Error = prost::UnknownEnumValue>>(
        field: &'static str,
        value: i32,
    ) -> Result<(), MessageErrorKind> {
        match T::try_from(value) {
            Ok(_) => Ok(()),
            Err(error) => Err(MessageErrorKind::UnknownEnum {
                field,
                value: error.0,
            }),
        }
    }
    for object in response
        .req_obj_results
        .iter()
        .flat_map(|result| &result.supported_objs)
    {
        known::<ObjAccessType>("access", object.access)?;
        for param in &object.supported_params {
            known::<ParamAccessType>("access", param.access)?;
            known::<ParamValueType>("value_type", param.value_type)?;
            known::<ValueChangeType>("value_change", param.value_change)?;
        }
        for command in &object.supported_commands {
            known::<CmdType>("command_type", command.command_type)?;
        }
    }
    Ok(())
}

macro_rules! kinds {
    ($kind:ident, $function:ident: $($variant:ident => $ty:ident, $msg_type:ident;)*) => {
        fn $function(kind: &$kind) -> MsgType {
            match kind {
                $($kind::$variant(_) => MsgType::$msg_type,)*
            }
        }

        $(impl From<pb::$ty> for $kind {
            fn from(value: pb::$ty) -> Self {
                Self::$variant(value)
            }
        })*
    };
}

kinds! { Request, request_type:
    Get => Get, Get;
    GetSupportedDm => GetSupportedDm, GetSupportedDm;
    GetInstances => GetInstances, GetInstances;
    Set => Set, Set;
    Add => Add, Add;
    Delete => Delete, Delete;
    Operate => Operate, Operate;
    Notify => Notify, Notify;
    GetSupportedProtocol => GetSupportedProtocol, GetSupportedProto;
    Register => Register, Register;
    Deregister => Deregister, Deregister;
}

kinds! { Response, response_type:
    GetResp => GetResp, GetResp;
    GetSupportedDmResp => GetSupportedDmResp, GetSupportedDmResp;
    GetInstancesResp => GetInstancesResp, GetInstancesResp;
    SetResp => SetResp, SetResp;
    AddResp => AddResp, AddResp;
    DeleteResp => DeleteResp, DeleteResp;
    OperateResp => OperateResp, OperateResp;
    NotifyResp => NotifyResp, NotifyResp;
    GetSupportedProtocolResp => GetSupportedProtocolResp, GetSupportedProtoResp;
    RegisterResp => RegisterResp, RegisterResp;
    DeregisterResp => DeregisterResp, DeregisterResp;
}

/// What a Notify tells (`notification`).
pub use crate::proto::msg::notify::Notification;

/// The `send` of a path list.
fn strings<T: Into<String>>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(Into::into).collect()
}

/// Reads objects and parameters; `max_depth` 0 is no limit.
pub fn get<T: Into<String>>(paths: impl IntoIterator<Item = T>, max_depth: u32) -> Request {
    pb::Get {
        param_paths: strings(paths),
        max_depth,
    }
    .into()
}

/// Asks for the existing rows of tables.
pub fn get_instances<T: Into<String>>(
    paths: impl IntoIterator<Item = T>,
    first_level_only: bool,
) -> Request {
    pb::GetInstances {
        obj_paths: strings(paths),
        first_level_only,
    }
    .into()
}

/// Asks for the supported data model with everything that can be told about it.
pub fn get_supported_dm<T: Into<String>>(
    paths: impl IntoIterator<Item = T>,
    first_level_only: bool,
) -> Request {
    pb::GetSupportedDm {
        obj_paths: strings(paths),
        first_level_only,
        return_commands: true,
        return_events: true,
        return_params: true,
        return_unique_key_sets: true,
    }
    .into()
}

/// Asks an agent which protocol versions it supports.
pub fn get_supported_protocol(versions: impl Into<String>) -> Request {
    pb::GetSupportedProtocol {
        controller_supported_protocol_versions: versions.into(),
    }
    .into()
}

/// Sets parameters.
pub fn set(allow_partial: bool, update_objs: Vec<pb::set::UpdateObject>) -> Request {
    pb::Set {
        allow_partial,
        update_objs,
    }
    .into()
}

/// One object of a [`set`]; each parameter is a name, a value, and whether it is required.
pub fn update_object<N: Into<String>, V: Into<String>>(
    path: impl Into<String>,
    params: impl IntoIterator<Item = (N, V, bool)>,
) -> pb::set::UpdateObject {
    let param_settings = params
        .into_iter()
        .map(|(name, value, required)| pb::set::UpdateParamSetting {
            param: name.into(),
            value: value.into(),
            required,
        })
        .collect();
    pb::set::UpdateObject {
        obj_path: path.into(),
        param_settings,
    }
}

/// Adds rows.
pub fn add(allow_partial: bool, create_objs: Vec<pb::add::CreateObject>) -> Request {
    pb::Add {
        allow_partial,
        create_objs,
    }
    .into()
}

/// One row of an [`add`]; each parameter is a name, a value, and whether it is required.
pub fn create_object<N: Into<String>, V: Into<String>>(
    table: impl Into<String>,
    params: impl IntoIterator<Item = (N, V, bool)>,
) -> pb::add::CreateObject {
    let param_settings = params
        .into_iter()
        .map(|(name, value, required)| pb::add::CreateParamSetting {
            param: name.into(),
            value: value.into(),
            required,
        })
        .collect();
    pb::add::CreateObject {
        obj_path: table.into(),
        param_settings,
    }
}

/// Deletes rows.
pub fn delete<T: Into<String>>(allow_partial: bool, paths: impl IntoIterator<Item = T>) -> Request {
    pb::Delete {
        allow_partial,
        obj_paths: strings(paths),
    }
    .into()
}

/// Runs a command.
pub fn operate(
    command: impl Into<String>,
    command_key: impl Into<String>,
    send_resp: bool,
    input_args: BTreeMap<String, String>,
) -> Request {
    pb::Operate {
        command: command.into(),
        command_key: command_key.into(),
        send_resp,
        input_args,
    }
    .into()
}

/// Tells a subscriber something.
pub fn notify(
    subscription_id: impl Into<String>,
    send_resp: bool,
    notification: Notification,
) -> Request {
    pb::Notify {
        subscription_id: subscription_id.into(),
        send_resp,
        notification: Some(notification),
    }
    .into()
}

/// Registers paths with a broker.
pub fn register<T: Into<String>>(
    allow_partial: bool,
    paths: impl IntoIterator<Item = T>,
) -> Request {
    let reg_paths = paths
        .into_iter()
        .map(|path| pb::register::RegistrationPath { path: path.into() })
        .collect();
    pb::Register {
        allow_partial,
        reg_paths,
    }
    .into()
}

/// Takes registered paths back.
pub fn deregister<T: Into<String>>(paths: impl IntoIterator<Item = T>) -> Request {
    pb::Deregister {
        paths: strings(paths),
    }
    .into()
}
