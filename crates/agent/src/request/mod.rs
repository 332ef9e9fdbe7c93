//! What a controller asks, and the answer: one file per message type.
//!
//! Everything here is logic over the device's tree; a message comes in decoded and the answer goes out
//! undecided as to transport. Who asks is known and authenticated ([`Caller`]).

use homefleet_model::{
    path::{ObjectPath, Path},
    tree::Tree,
};
use homefleet_usp::{
    error::ErrorCode,
    message::{Request, Response},
    proto::msg::error::ParamError,
};

use crate::{device::Device, provider::Now, role::Rights};

mod add;
mod delete;
mod get;
mod instances;
mod operate;
mod set;
mod supported;
mod write;

pub(crate) use self::{
    get::show,
    operate::{Invocation, Operated, operate, response as operate_response},
    write::Writer,
};

/// USP versions this agent speaks (GetSupportedProtocol, OnBoardRequest).
pub const PROTOCOL_VERSIONS: &str = "1.0,1.1,1.2,1.3,1.4";

/// The controller that asks: authenticated, and in the Controller table.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Its Endpoint ID.
    pub endpoint_id: String,
    /// Its row of `Device.LocalAgent.Controller.`.
    pub row: ObjectPath,
    /// What its roles permit.
    pub rights: Rights,
}

/// 7006: the Controller's roles do not permit it.
fn denied(what: impl std::fmt::Display) -> Fault {
    Fault::new(
        7006,
        format!("{what}: no role of this Controller permits it"),
    )
}

/// Why something could not be done: a USP error code and a text for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// 7000–7999.
    pub code: u32,
    /// What was found, and what was expected.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(code: u32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// The whole message failed: becomes an Error message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    /// The reason.
    pub fault: Fault,
    /// The parameters or objects at fault (`param_errs`).
    pub errors: Vec<ParamError>,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self {
            fault,
            errors: Vec::new(),
        }
    }
}

impl Failure {
    /// The code as the message carries it.
    pub(crate) fn code(&self) -> ErrorCode {
        ErrorCode(self.fault.code)
    }
}

/// What the processing of requests may do at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Subscriptions of all controllers together.
    pub(crate) max_subscriptions: usize,
    /// Bytes of a response.
    pub(crate) max_response: usize,
}

/// Collects the results of a reading request; 7005 as soon as no MTP would take them all, however often the
/// request names the same thing. `size` is about the bytes of a result, rather too few than too many.
fn collect<T>(
    results: impl Iterator<Item = T>,
    bounds: Bounds,
    size: impl Fn(&T) -> usize,
) -> Result<Vec<T>, Failure> {
    let (mut all, mut bytes) = (Vec::new(), 0);
    for result in results {
        bytes += size(&result);
        if bytes > bounds.max_response {
            let most = bounds.max_response;
            let text = format!("the response would have more than {most} bytes: ask for less");
            return Err(Fault::new(7005, text).into());
        }
        all.push(result);
    }
    Ok(all)
}

/// The answer to every request except Operate, which may go on after its answer.
pub(crate) fn process(
    device: &mut Device,
    caller: &Caller,
    request: &Request,
    bounds: Bounds,
    now: Now,
) -> Result<Response, Failure> {
    let rights = &caller.rights;
    match request {
        Request::Get(get) => get::get(device, rights, get, bounds, now).map(Into::into),
        Request::GetInstances(get) => {
            instances::get_instances(device, rights, get, bounds, now).map(Into::into)
        }
        Request::GetSupportedDm(get) => {
            supported::get_supported_dm(device, rights, get, bounds, now).map(Into::into)
        }
        Request::GetSupportedProtocol(_) => Ok(supported::get_supported_protocol().into()),
        Request::Set(set) => set::set(device, rights, set, now).map(Into::into),
        Request::Add(add) => add::add(device, caller, add, bounds, now).map(Into::into),
        Request::Delete(delete) => delete::delete(device, rights, delete, now).map(Into::into),
        // Operate is answered by `operate`; the rest only a controller can answer.
        Request::Operate(_)
        | Request::Notify(_)
        | Request::Register(_)
        | Request::Deregister(_) => {
            Err(Fault::new(7001, "this message is for a controller").into())
        }
    }
}

/// Reads a path of a message; 7008 when it is none.
pub(crate) fn parse(text: &str) -> Result<Path, Fault> {
    Path::parse(text).map_err(|error| Fault::new(7008, format!("{text}: {error}")))
}

/// Text of a path fault for `param_errs`.
pub(crate) fn param_error(path: impl ToString, fault: &Fault) -> ParamError {
    ParamError {
        param_path: path.to_string(),
        err_code: fault.code,
        err_msg: fault.message.clone(),
    }
}

/// Unique keys of a row that may be read, as every response that names a row carries them (R-ADD.6, R-GIN.1).
fn unique_keys(
    tree: &Tree,
    rights: &Rights,
    row: &ObjectPath,
) -> std::collections::BTreeMap<String, String> {
    let mut keys = tree.unique_keys(row);
    rights.readable_keys(row, &mut keys);
    keys
}
