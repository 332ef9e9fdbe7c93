//! What a device answers its ACS, and what follows from it.

use std::time::Duration;

use homefleet_cwmp::message::{
    AddObjectResponse, Attributes, DeleteObjectResponse, DownloadResponse, FactoryResetResponse,
    GetParameterAttributesResponse, GetParameterNamesResponse, GetParameterValuesResponse,
    RebootResponse, ScheduleInformResponse, SetParameterAttributesResponse,
    SetParameterValuesResponse, Status, UploadResponse,
};
use homefleet_cwmp::{Fault, FaultCode, Message, Method};

use super::model::{Place, Values};

/// The methods that devices answer.
pub(super) const METHODS: [Method; 12] = [
    Method::SetParameterValues,
    Method::GetParameterValues,
    Method::GetParameterNames,
    Method::SetParameterAttributes,
    Method::GetParameterAttributes,
    Method::AddObject,
    Method::DeleteObject,
    Method::Reboot,
    Method::Download,
    Method::Upload,
    Method::FactoryReset,
    Method::ScheduleInform,
];

/// What a device does because of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// Nothing.
    Nothing,
    /// It looks whether its logins and its period have changed.
    Settings,
    /// After the session it restarts.
    Reboot(String),
    /// After the session it is as it left the factory.
    Reset,
    /// After this time it opens a session.
    Inform(Duration, String),
    /// After this time and the session it transfers a file.
    Transfer(Method, Duration, String),
}

/// Answers a request.
pub(super) fn answer(values: &mut Values, request: Message, place: Place) -> (Message, Follows) {
    let done = |answer: Result<Message, Fault>| answer.unwrap_or_else(Message::from);
    let mut follows = Follows::Nothing;
    let answer = match request {
        Message::GetParameterValues(request) => done(
            values
                .read(&request.names, place)
                .map(|values| GetParameterValuesResponse { values }.into()),
        ),
        Message::GetParameterNames(request) => done(
            values
                .names(&request.path, request.next_level)
                .map(|infos| GetParameterNamesResponse { infos }.into()),
        ),
        Message::SetParameterValues(request) => done(values.write(&request.values).map(|()| {
            follows = Follows::Settings;
            values.change("ManagementServer.ParameterKey", request.parameter_key);
            let status = Status::Applied;
            SetParameterValuesResponse { status }.into()
        })),
        Message::GetParameterAttributes(request) => {
            done(values.attributes(&request.names).map(|all| {
                let all = all.into_iter().map(|(name, notification)| Attributes {
                    name,
                    notification,
                    access_list: vec!["Subscriber".to_owned()],
                });
                let attributes = all.collect();
                GetParameterAttributesResponse { attributes }.into()
            }))
        }
        Message::SetParameterAttributes(request) => done(
            values
                .set_attributes(&request.attributes)
                .map(|()| SetParameterAttributesResponse {}.into()),
        ),
        Message::AddObject(request) => done(values.add(&request.object).map(|instance| {
            values.change("ManagementServer.ParameterKey", request.parameter_key);
            let status = Status::Applied;
            AddObjectResponse { instance, status }.into()
        })),
        Message::DeleteObject(request) => done(values.delete(&request.object).map(|()| {
            values.change("ManagementServer.ParameterKey", request.parameter_key);
            let status = Status::Applied;
            DeleteObjectResponse { status }.into()
        })),
        Message::Reboot(request) => {
            follows = Follows::Reboot(request.command_key);
            RebootResponse {}.into()
        }
        Message::FactoryReset(_) => {
            follows = Follows::Reset;
            FactoryResetResponse {}.into()
        }
        Message::ScheduleInform(request) if request.delay_seconds > 0 => {
            let after = Duration::from_secs(request.delay_seconds.into());
            follows = Follows::Inform(after, request.command_key);
            ScheduleInformResponse {}.into()
        }
        Message::ScheduleInform(_) => Fault::new(FaultCode::INVALID_ARGUMENTS).into(),
        Message::Download(request) => {
            let after = Duration::from_secs(request.delay_seconds.into());
            follows = Follows::Transfer(Method::Download, after, request.command_key);
            DownloadResponse {
                status: Status::Pending,
                ..DownloadResponse::default()
            }
            .into()
        }
        Message::Upload(request) => {
            let after = Duration::from_secs(request.delay_seconds.into());
            follows = Follows::Transfer(Method::Upload, after, request.command_key);
            UploadResponse {
                status: Status::Pending,
                ..UploadResponse::default()
            }
            .into()
        }
        _ => Fault::new(FaultCode::METHOD_NOT_SUPPORTED).into(),
    };
    (answer, follows)
}
