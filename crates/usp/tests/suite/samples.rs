//! One Message of every kind and one Record of every kind. Every text field holds its own name, so that an
//! independent decoder shows whether it stands in the right place.

use std::{collections::BTreeMap, time::Instant};

use homefleet_usp::{
    EndpointId, ErrorCode, Message, Record,
    message::{self, Notification, Request},
    proto::msg as pb,
    record::{MqttVersion, PayloadSarState, PayloadSecurity, RecordBody, SessionContext},
};

fn s(text: &str) -> String {
    text.to_owned()
}

fn map() -> BTreeMap<String, String> {
    [("k1", "v1"), ("k2", "")]
        .into_iter()
        .map(|(key, value)| (s(key), s(value)))
        .collect()
}

fn requests() -> Vec<Request> {
    let mut requests = vec![
        message::get(["Device.DeviceInfo.", "Device.IP.Interface.*.Name"], 3),
        pb::GetSupportedDm {
            obj_paths: vec![s("Device.")],
            first_level_only: true,
            return_commands: false,
            return_events: true,
            return_params: false,
            return_unique_key_sets: true,
        }
        .into(),
        message::get_instances(["Device.IP.Interface."], true),
        message::set(
            true,
            vec![
                message::update_object(
                    "obj_path",
                    [("param", "value", true), ("param", "value", false)],
                ),
                message::update_object("obj_path", [("param", "value", false)]),
            ],
        ),
        message::add(
            true,
            vec![message::create_object(
                "obj_path",
                [("param", "value", true)],
            )],
        ),
        message::delete(true, ["Device.A.1."]),
        message::operate("command", "command_key", true, map()),
        message::get_supported_protocol("controller_supported_protocol_versions"),
        message::register(true, ["path", "path"]),
        message::deregister(["Device.A."]),
    ];
    let complete = |operation_resp| {
        Notification::OperComplete(pb::notify::OperationComplete {
            obj_path: s("obj_path"),
            command_name: s("command_name"),
            command_key: s("command_key"),
            operation_resp: Some(operation_resp),
        })
    };
    use pb::notify::operation_complete::{CommandFailure, OperationResp, OutputArgs};
    for notification in [
        Notification::Event(pb::notify::Event {
            obj_path: s("obj_path"),
            event_name: s("event_name"),
            params: map(),
        }),
        Notification::ValueChange(pb::notify::ValueChange {
            param_path: s("param_path"),
            param_value: s("param_value"),
        }),
        Notification::ObjCreation(pb::notify::ObjectCreation {
            obj_path: s("obj_path"),
            unique_keys: map(),
        }),
        Notification::ObjDeletion(pb::notify::ObjectDeletion {
            obj_path: s("obj_path"),
        }),
        complete(OperationResp::ReqOutputArgs(OutputArgs {
            output_args: map(),
        })),
        complete(OperationResp::CmdFailure(CommandFailure {
            err_code: 7022,
            err_msg: s("err_msg"),
        })),
        Notification::OnBoardReq(pb::notify::OnBoardRequest {
            oui: s("oui"),
            product_class: s("product_class"),
            serial_number: s("serial_number"),
            agent_supported_protocol_versions: s("agent_supported_protocol_versions"),
        }),
    ] {
        requests.push(message::notify("subscription_id", true, notification));
    }
    requests
}

fn get_supported_dm_resp() -> pb::GetSupportedDmResp {
    use pb::get_supported_dm_resp::*;
    pb::GetSupportedDmResp {
        req_obj_results: vec![RequestedObjectResult {
            req_obj_path: s("req_obj_path"),
            err_code: 7026,
            err_msg: s("err_msg"),
            data_model_inst_uri: s("data_model_inst_uri"),
            supported_objs: vec![SupportedObjectResult {
                supported_obj_path: s("supported_obj_path"),
                access: ObjAccessType::ObjAddOnly.into(),
                is_multi_instance: true,
                supported_commands: vec![SupportedCommandResult {
                    command_name: s("command_name"),
                    input_arg_names: vec![s("in")],
                    output_arg_names: vec![s("out")],
                    command_type: CmdType::CmdAsync.into(),
                }],
                supported_events: vec![SupportedEventResult {
                    event_name: s("event_name"),
                    arg_names: vec![s("arg")],
                }],
                supported_params: vec![SupportedParamResult {
                    param_name: s("param_name"),
                    access: ParamAccessType::ParamReadWrite.into(),
                    value_type: ParamValueType::ParamUnsignedLong.into(),
                    value_change: ValueChangeType::ValueChangeWillIgnore.into(),
                }],
                divergent_paths: vec![s("Device.A.2.")],
                unique_key_sets: vec![SupportedUniqueKeySet {
                    key_names: vec![s("Alias")],
                }],
            }],
        }],
    }
}

fn responses() -> Vec<message::Response> {
    let mut responses: Vec<message::Response> = vec![
        pb::GetResp {
            req_path_results: vec![pb::get_resp::RequestedPathResult {
                requested_path: s("requested_path"),
                err_code: 7016,
                err_msg: s("err_msg"),
                resolved_path_results: vec![pb::get_resp::ResolvedPathResult {
                    resolved_path: s("resolved_path"),
                    result_params: map(),
                }],
            }],
        }
        .into(),
        get_supported_dm_resp().into(),
        pb::GetInstancesResp {
            req_path_results: vec![pb::get_instances_resp::RequestedPathResult {
                requested_path: s("requested_path"),
                err_code: 7018,
                err_msg: s("err_msg"),
                curr_insts: vec![pb::get_instances_resp::CurrInstance {
                    instantiated_obj_path: s("instantiated_obj_path"),
                    unique_keys: map(),
                }],
            }],
        }
        .into(),
        pb::NotifyResp {
            subscription_id: s("subscription_id"),
        }
        .into(),
        pb::GetSupportedProtocolResp {
            agent_supported_protocol_versions: s("agent_supported_protocol_versions"),
        }
        .into(),
    ];
    responses.extend(set_responses().into_iter().map(Into::into));
    responses.extend(add_responses().into_iter().map(Into::into));
    responses.extend(delete_responses().into_iter().map(Into::into));
    responses.extend(operate_responses().into_iter().map(Into::into));
    responses.extend(registrations());
    responses
}

fn set_responses() -> Vec<pb::SetResp> {
    use pb::set_resp::{updated_object_result::operation_status as status, *};
    let errors = || {
        vec![ParameterError {
            param: s("param"),
            err_code: 7012,
            err_msg: s("err_msg"),
        }]
    };
    let failure = status::OperStatus::OperFailure(status::OperationFailure {
        err_code: 7021,
        err_msg: s("err_msg"),
        updated_inst_failures: vec![UpdatedInstanceFailure {
            affected_path: s("affected_path"),
            param_errs: errors(),
        }],
    });
    let success = status::OperStatus::OperSuccess(status::OperationSuccess {
        updated_inst_results: vec![UpdatedInstanceResult {
            affected_path: s("affected_path"),
            param_errs: errors(),
            updated_params: map(),
        }],
    });
    [failure, success]
        .map(|oper_status| pb::SetResp {
            updated_obj_results: vec![UpdatedObjectResult {
                requested_path: s("requested_path"),
                oper_status: Some(updated_object_result::OperationStatus {
                    oper_status: Some(oper_status),
                }),
            }],
        })
        .into()
}

fn add_responses() -> Vec<pb::AddResp> {
    use pb::add_resp::{created_object_result::operation_status as status, *};
    let failure = status::OperStatus::OperFailure(status::OperationFailure {
        err_code: 7017,
        err_msg: s("err_msg"),
    });
    let success = status::OperStatus::OperSuccess(status::OperationSuccess {
        instantiated_path: s("instantiated_path"),
        param_errs: vec![ParameterError {
            param: s("param"),
            err_code: 7012,
            err_msg: s("err_msg"),
        }],
        unique_keys: map(),
    });
    [failure, success]
        .map(|oper_status| pb::AddResp {
            created_obj_results: vec![CreatedObjectResult {
                requested_path: s("requested_path"),
                oper_status: Some(created_object_result::OperationStatus {
                    oper_status: Some(oper_status),
                }),
            }],
        })
        .into()
}

fn delete_responses() -> Vec<pb::DeleteResp> {
    use pb::delete_resp::{deleted_object_result::operation_status as status, *};
    let failure = status::OperStatus::OperFailure(status::OperationFailure {
        err_code: 7024,
        err_msg: s("err_msg"),
    });
    let success = status::OperStatus::OperSuccess(status::OperationSuccess {
        affected_paths: vec![s("Device.A.1.")],
        unaffected_path_errs: vec![UnaffectedPathError {
            unaffected_path: s("unaffected_path"),
            err_code: 7006,
            err_msg: s("err_msg"),
        }],
    });
    [failure, success]
        .map(|oper_status| pb::DeleteResp {
            deleted_obj_results: vec![DeletedObjectResult {
                requested_path: s("requested_path"),
                oper_status: Some(deleted_object_result::OperationStatus {
                    oper_status: Some(oper_status),
                }),
            }],
        })
        .into()
}

fn operate_responses() -> Vec<pb::OperateResp> {
    use pb::operate_resp::{operation_result::*, *};
    [
        OperationResp::ReqObjPath(s("req_obj_path")),
        OperationResp::ReqOutputArgs(OutputArgs { output_args: map() }),
        OperationResp::CmdFailure(CommandFailure {
            err_code: 7022,
            err_msg: s("err_msg"),
        }),
    ]
    .map(|operation_resp| pb::OperateResp {
        operation_results: vec![OperationResult {
            executed_command: s("executed_command"),
            operation_resp: Some(operation_resp),
        }],
    })
    .into()
}

fn registrations() -> Vec<message::Response> {
    let mut responses = Vec::new();
    {
        use pb::register_resp::{registered_path_result::operation_status as status, *};
        for oper_status in [
            status::OperStatus::OperFailure(status::OperationFailure {
                err_code: 7028,
                err_msg: s("err_msg"),
            }),
            status::OperStatus::OperSuccess(status::OperationSuccess {
                registered_path: s("registered_path"),
            }),
        ] {
            let oper_status = registered_path_result::OperationStatus {
                oper_status: Some(oper_status),
            };
            let result = RegisteredPathResult {
                requested_path: s("requested_path"),
                oper_status: Some(oper_status),
            };
            responses.push(
                pb::RegisterResp {
                    registered_path_results: vec![result],
                }
                .into(),
            );
        }
    }
    use pb::deregister_resp::{deregistered_path_result::operation_status as status, *};
    for oper_status in [
        status::OperStatus::OperFailure(status::OperationFailure {
            err_code: 7030,
            err_msg: s("err_msg"),
        }),
        status::OperStatus::OperSuccess(status::OperationSuccess {
            deregistered_path: vec![s("Device.A.")],
        }),
    ] {
        let oper_status = deregistered_path_result::OperationStatus {
            oper_status: Some(oper_status),
        };
        let result = DeregisteredPathResult {
            requested_path: s("requested_path"),
            oper_status: Some(oper_status),
        };
        responses.push(
            pb::DeregisterResp {
                deregistered_path_results: vec![result],
            }
            .into(),
        );
    }
    responses
}

/// One Message of every kind, with every element of every `oneof`.
pub(crate) fn messages() -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    messages.extend(
        requests()
            .into_iter()
            .map(|request| Message::request("msg_id", request)),
    );
    messages.extend(
        responses()
            .into_iter()
            .map(|response| Message::response("msg_id", response)),
    );
    let param_err = pb::error::ParamError {
        param_path: s("param_path"),
        err_code: 7013,
        err_msg: s("err_msg"),
    };
    messages.push(Message::error_with(
        "msg_id",
        ErrorCode::INVALID_ARGUMENTS,
        "err_msg",
        vec![param_err],
    ));
    messages
}

/// Where virtual time starts.
#[allow(clippy::disallowed_methods)] // the only reading of a clock, and nothing waits for it
pub(crate) fn start() -> Instant {
    Instant::now()
}

pub(crate) fn agent() -> EndpointId {
    "os::00256D-0123456789".parse().unwrap()
}

pub(crate) fn controller() -> EndpointId {
    "self::controller".parse().unwrap()
}

/// One Record of every kind.
pub(crate) fn records() -> Vec<Record> {
    let session = SessionContext {
        session_id: 1 << 40,
        sequence_id: 2,
        expected_id: 3,
        retransmit_id: 4,
        payload_sar_state: PayloadSarState::Begin,
        payloadrec_sar_state: PayloadSarState::Complete,
        payload: vec![vec![1], vec![2, 3]],
    };
    [
        RecordBody::NoSession(vec![1, 2, 3]),
        RecordBody::Session(session),
        RecordBody::WebSocketConnect,
        RecordBody::MqttConnect {
            version: MqttVersion::V5,
            topic: s("subscribed_topic"),
        },
        RecordBody::StompConnect {
            destination: s("subscribed_destination"),
        },
        RecordBody::Disconnect {
            reason: s("reason"),
            code: 7105,
        },
        RecordBody::UdsConnect,
    ]
    .map(|body| Record {
        payload_security: PayloadSecurity::Tls12,
        mac_signature: vec![7; 3],
        sender_cert: vec![8; 4],
        ..Record::with(agent(), controller(), body)
    })
    .into()
}
