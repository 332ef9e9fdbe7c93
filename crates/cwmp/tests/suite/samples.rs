//! One of every message, filled, valid by the schemas.

use homefleet_cwmp::{message::*, value::ParameterInfos, *};

const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

pub(crate) fn moment() -> DateTime {
    DateTime::from_unix(1_700_000_000)
}

pub(crate) fn values() -> ParameterValues {
    [
        (
            "Device.DeviceInfo.SoftwareVersion",
            ValueType::String,
            "1.2 <beta> & \"more\"\r\n\u{e9}",
        ),
        (
            "Device.DeviceInfo.UpTime",
            ValueType::UnsignedInt,
            "4294967295",
        ),
        ("Device.X.Int", ValueType::Int, "-7"),
        ("Device.X.Long", ValueType::Long, "-9223372036854775808"),
        (
            "Device.X.UnsignedLong",
            ValueType::UnsignedLong,
            "18446744073709551615",
        ),
        ("Device.X.Enable", ValueType::Boolean, "1"),
        (
            "Device.X.Since",
            ValueType::DateTime,
            "2024-02-29T23:59:59Z",
        ),
        ("Device.X.Blob", ValueType::Base64, "AAEC"),
        ("Device.X.Hex", ValueType::HexBinary, "00FF"),
        ("Device.X.Ratio", ValueType::Decimal, "0.5"),
        ("Device.X.Empty", ValueType::String, ""),
    ]
    .into_iter()
    .collect()
}

pub(crate) fn inform() -> Inform {
    Inform {
        device: DeviceId {
            manufacturer: "Example & Sons".to_owned(),
            oui: "00D09E".to_owned(),
            product_class: "Gateway".to_owned(),
            serial_number: "S-1".to_owned(),
        },
        events: vec![
            Event::new(EventCode::Bootstrap),
            Event::new(EventCode::Boot),
            Event::of(Method::Reboot, "why not"),
        ],
        max_envelopes: 1,
        current_time: moment(),
        retry_count: 3,
        values: values(),
    }
}

fn window(start: u32, end: u32) -> TimeWindow {
    TimeWindow {
        start,
        end,
        mode: "3 When Idle".to_owned(),
        user_message: String::new(),
        max_retries: -1,
    }
}

/// Requests that an ACS sends.
pub(crate) fn to_cpe() -> Vec<Message> {
    let names = vec!["Device.DeviceInfo.".to_owned(), "Device.X.Int".to_owned()];
    vec![
        GetRPCMethods {}.into(),
        SetParameterValues {
            values: values(),
            parameter_key: "key".to_owned(),
        }
        .into(),
        GetParameterValues {
            names: names.clone(),
        }
        .into(),
        GetParameterNames {
            path: "Device.".to_owned(),
            next_level: true,
        }
        .into(),
        SetParameterAttributes {
            attributes: vec![SetAttributes {
                name: "Device.X.".to_owned(),
                notification_change: true,
                notification: Notification::Active,
                access_list_change: true,
                access_list: vec!["Subscriber".to_owned()],
            }],
        }
        .into(),
        GetParameterAttributes { names }.into(),
        AddObject {
            object: "Device.X.".to_owned(),
            parameter_key: "key".to_owned(),
        }
        .into(),
        DeleteObject {
            object: "Device.X.1.".to_owned(),
            parameter_key: "key".to_owned(),
        }
        .into(),
        Reboot {
            command_key: "reboot".to_owned(),
        }
        .into(),
        Download {
            command_key: "upgrade".to_owned(),
            file_type: "1 Firmware Upgrade Image".to_owned(),
            url: "https://acs.example/a?b=1&c=2".to_owned(),
            username: "user".to_owned(),
            password: "pass".into(),
            file_size: 1000,
            target_file_name: "image".to_owned(),
            delay_seconds: 5,
            success_url: String::new(),
            failure_url: String::new(),
        }
        .into(),
        ScheduleDownload {
            command_key: "later".to_owned(),
            file_type: "2 Web Content".to_owned(),
            url: "https://acs.example/web".to_owned(),
            username: String::new(),
            password: Secret::default(),
            file_size: 0,
            target_file_name: String::new(),
            windows: vec![window(0, 3600), window(7200, 9000)],
        }
        .into(),
        Upload {
            command_key: "logs".to_owned(),
            file_type: "4 Vendor Log File 1".to_owned(),
            url: "https://acs.example/logs".to_owned(),
            username: "user".to_owned(),
            password: "pass".into(),
            delay_seconds: 0,
        }
        .into(),
        FactoryReset {}.into(),
        GetQueuedTransfers {}.into(),
        GetAllQueuedTransfers {}.into(),
        CancelTransfer {
            command_key: "later".to_owned(),
        }
        .into(),
        ScheduleInform {
            delay_seconds: 60,
            command_key: "soon".to_owned(),
        }
        .into(),
        ChangeDUState {
            operations: vec![
                Operation::Install(Install {
                    url: "https://acs.example/unit".to_owned(),
                    uuid: Some(UUID.to_owned()),
                    username: Some("user".to_owned()),
                    password: Some("pass".into()),
                    environment: Some("Device.SoftwareModules.ExecEnv.1".to_owned()),
                }),
                Operation::Install(Install::default()),
                Operation::Update(Update {
                    uuid: Some(UUID.to_owned()),
                    version: Some("1".to_owned()),
                    url: Some("https://acs.example/unit2".to_owned()),
                    ..Update::default()
                }),
                Operation::Update(Update::default()),
                Operation::Uninstall(Uninstall {
                    uuid: UUID.to_owned(),
                    version: None,
                    environment: None,
                }),
            ],
            command_key: "units".to_owned(),
        }
        .into(),
        SetVouchers {
            vouchers: vec![b"<a/>".to_vec(), vec![0, 255]],
        }
        .into(),
        GetOptions {
            name: String::new(),
        }
        .into(),
    ]
}

/// The response that answers a request.
pub(crate) fn response(request: &Message) -> Message {
    match request.method().unwrap() {
        Method::GetRpcMethods => GetRPCMethodsResponse {
            methods: vec!["GetRPCMethods".to_owned(), "X_EXAMPLE_Do".to_owned()],
        }
        .into(),
        Method::SetParameterValues => SetParameterValuesResponse {
            status: Status::Pending,
        }
        .into(),
        Method::GetParameterValues => GetParameterValuesResponse { values: values() }.into(),
        Method::GetParameterNames => GetParameterNamesResponse {
            infos: [
                ("Device.", false),
                ("Device.X.", true),
                ("Device.X.Int", true),
            ]
            .into_iter()
            .collect::<ParameterInfos>(),
        }
        .into(),
        Method::SetParameterAttributes => SetParameterAttributesResponse {}.into(),
        Method::GetParameterAttributes => GetParameterAttributesResponse {
            attributes: vec![
                Attributes {
                    name: "Device.X.Int".to_owned(),
                    notification: Notification::PassiveWithActiveLightweight,
                    access_list: vec!["Subscriber".to_owned()],
                },
                Attributes {
                    name: "Device.X.Long".to_owned(),
                    ..Attributes::default()
                },
            ],
        }
        .into(),
        Method::AddObject => AddObjectResponse {
            instance: 1,
            status: Status::Applied,
        }
        .into(),
        Method::DeleteObject => DeleteObjectResponse::default().into(),
        Method::Reboot => RebootResponse {}.into(),
        Method::Download => DownloadResponse {
            status: Status::Pending,
            ..DownloadResponse::default()
        }
        .into(),
        Method::ScheduleDownload => ScheduleDownloadResponse {}.into(),
        Method::Upload => UploadResponse {
            status: Status::Applied,
            start_time: moment(),
            complete_time: moment(),
        }
        .into(),
        Method::FactoryReset => FactoryResetResponse {}.into(),
        Method::GetQueuedTransfers => GetQueuedTransfersResponse {
            transfers: vec![QueuedTransfer {
                command_key: "upgrade".to_owned(),
                state: TransferState::InProgress,
            }],
        }
        .into(),
        Method::GetAllQueuedTransfers => GetAllQueuedTransfersResponse {
            transfers: vec![AnyQueuedTransfer {
                command_key: String::new(),
                state: TransferState::Completed,
                is_download: true,
                file_type: "X 00D09E Own".to_owned(),
                file_size: 1,
                target_file_name: "a".to_owned(),
            }],
        }
        .into(),
        Method::CancelTransfer => CancelTransferResponse {}.into(),
        Method::ScheduleInform => ScheduleInformResponse {}.into(),
        Method::ChangeDuState => ChangeDUStateResponse {}.into(),
        Method::SetVouchers => SetVouchersResponse {}.into(),
        Method::GetOptions => GetOptionsResponse {
            options: vec![
                DeviceOption {
                    name: "Fast".to_owned(),
                    voucher_serial_number: 9,
                    state: 3,
                    mode: 1,
                    start_date: moment(),
                    expiration_date: Some(moment()),
                    is_transferable: 1,
                },
                DeviceOption {
                    name: "Free".to_owned(),
                    ..DeviceOption::default()
                },
            ],
        }
        .into(),
        Method::Inform => InformResponse { max_envelopes: 1 }.into(),
        Method::TransferComplete => TransferCompleteResponse {}.into(),
        Method::AutonomousTransferComplete => AutonomousTransferCompleteResponse {}.into(),
        Method::DuStateChangeComplete => DUStateChangeCompleteResponse {}.into(),
        Method::AutonomousDuStateChangeComplete => {
            AutonomousDUStateChangeCompleteResponse {}.into()
        }
        Method::RequestDownload => RequestDownloadResponse {}.into(),
        Method::Kicked => KickedResponse {
            next_url: "https://acs.example/next".to_owned(),
        }
        .into(),
    }
}

/// Requests that a CPE sends after its Inform.
pub(crate) fn to_acs() -> Vec<Message> {
    let unit_fault = UnitFault {
        code: FaultCode::UNKNOWN_ENVIRONMENT,
        text: "no such environment".to_owned(),
    };
    vec![
        GetRPCMethods {}.into(),
        TransferComplete {
            command_key: "upgrade".to_owned(),
            fault: TransferFault {
                code: FaultCode::TRANSFER_CORRUPTED,
                text: "checksum".to_owned(),
            },
            start_time: moment(),
            complete_time: DateTime::UNKNOWN,
        }
        .into(),
        AutonomousTransferComplete {
            announce_url: String::new(),
            transfer_url: "https://peer.example/file".to_owned(),
            is_download: true,
            file_type: "1 Firmware Upgrade Image".to_owned(),
            file_size: 5,
            target_file_name: String::new(),
            fault: TransferFault::default(),
            start_time: moment(),
            complete_time: moment(),
        }
        .into(),
        DUStateChangeComplete {
            results: vec![OperationResult {
                uuid: UUID.to_owned(),
                unit: "Device.SoftwareModules.DeploymentUnit.1".to_owned(),
                version: "1".to_owned(),
                state: UnitState::Failed,
                resolved: false,
                execution_units: String::new(),
                start_time: moment(),
                complete_time: moment(),
                fault: unit_fault.clone(),
            }],
            command_key: "units".to_owned(),
        }
        .into(),
        AutonomousDUStateChangeComplete {
            results: vec![AutonomousResult {
                uuid: UUID.to_owned(),
                unit: "Device.SoftwareModules.DeploymentUnit.1".to_owned(),
                version: "2".to_owned(),
                state: UnitState::Installed,
                resolved: true,
                execution_units: "a,b".to_owned(),
                start_time: moment(),
                complete_time: moment(),
                fault: UnitFault::default(),
                operation: "Update".to_owned(),
            }],
        }
        .into(),
        RequestDownload {
            file_type: "2 Web Content".to_owned(),
            arguments: vec![Argument {
                name: "Version".to_owned(),
                value: "1".to_owned(),
            }],
        }
        .into(),
        Kicked {
            command: "Restart".to_owned(),
            referer: "https://portal.example/".to_owned(),
            argument: "1".to_owned(),
            next: "https://portal.example/next".to_owned(),
        }
        .into(),
    ]
}

/// Faults of every named code, and one about parameters.
pub(crate) fn faults() -> Vec<Message> {
    let details = FaultCode::ALL
        .iter()
        .filter(|code| (9003..=9008).contains(&code.0))
        .map(|code| ParameterFault {
            name: format!("Device.X.{}", code.0),
            code: *code,
            text: code.text().to_owned(),
        })
        .collect();
    let mut all: Vec<Message> = FaultCode::ALL
        .iter()
        .map(|code| Fault::new(*code).into())
        .collect();
    all.push(Fault::of_parameters(details).into());
    all
}

/// Everything.
pub(crate) fn messages() -> Vec<Message> {
    let mut requests = to_cpe();
    requests.extend(to_acs());
    requests.push(inform().into());
    let mut all: Vec<_> = requests.iter().map(response).collect();
    all.extend(requests);
    all.extend(faults());
    all
}
