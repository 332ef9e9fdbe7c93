//! Operate: R-OPR.0 to R-OPR.7.

use std::collections::BTreeMap;

use homefleet_agent::provider::OperateError;
use homefleet_usp::{
    Message,
    message::{Body, Response, get_instances, operate},
    proto::msg::{
        notify::{Notification, operation_complete},
        operate_resp::{OperationResult, operation_result::OperationResp},
    },
};

use crate::bench::{Bench, CONTROLLER};

fn args(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn call(
    bench: &mut Bench,
    command: &str,
    key: &str,
    pairs: &[(&str, &str)],
) -> Vec<OperationResult> {
    match bench.ask(operate(command, key, true, args(pairs))) {
        Response::OperateResp(response) => response.operation_results,
        other => panic!("{other:?}"),
    }
}

fn failure(result: &OperationResult) -> u32 {
    match result.operation_resp.as_ref().unwrap() {
        OperationResp::CmdFailure(failure) => failure.err_code,
        other => panic!("{other:?}"),
    }
}

fn request_path(result: &OperationResult) -> String {
    match result.operation_resp.as_ref().unwrap() {
        OperationResp::ReqObjPath(path) => path.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_synchronous_command_answers_with_its_output() {
    let mut bench = Bench::new();
    let results = call(&mut bench, "Device.X_Test.Echo()", "", &[("Text", "hello")]);
    assert_eq!(results[0].executed_command, "Device.X_Test.Echo()");
    let OperationResp::ReqOutputArgs(output) = results[0].operation_resp.clone().unwrap() else {
        panic!()
    };
    assert_eq!(output.output_args, args(&[("Text", "hello")]));
}

#[test]
fn r_opr_0_an_asynchronous_command_has_a_request_row_until_it_is_done() {
    let mut bench = Bench::new();
    bench.subscribe("OperationComplete", "Device.X_Test.Slow()", &[]);
    let results = call(
        &mut bench,
        "Device.X_Test.Slow()",
        "key-1",
        &[("Text", "x")],
    );
    let row = request_path(&results[0]);
    assert_eq!(row, "Device.LocalAgent.Request.1.");
    let values = bench.values(&row);
    let value = |name: &str| values[&format!("{row}{name}")].as_str();
    assert_eq!(
        (
            value("Originator"),
            value("Command"),
            value("CommandKey"),
            value("Status")
        ),
        (CONTROLLER, "Device.X_Test.Slow()", "key-1", "Active")
    );
    let (request, _) = bench.running.pop().unwrap();
    bench
        .engine
        .handle_completed(bench.now, &request, Ok(args(&[("Text", "done")])));
    bench.drain();
    let told = bench.told();
    let [Notification::OperComplete(done)] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(
        (
            done.obj_path.as_str(),
            done.command_name.as_str(),
            done.command_key.as_str()
        ),
        ("Device.X_Test.", "Slow()", "key-1")
    );
    let Some(operation_complete::OperationResp::ReqOutputArgs(output)) = &done.operation_resp
    else {
        panic!()
    };
    assert_eq!(output.output_args, args(&[("Text", "done")]));
    let Response::GetInstancesResp(rows) =
        bench.ask(get_instances(["Device.LocalAgent.Request."], true))
    else {
        panic!()
    };
    assert!(rows.req_path_results[0].curr_insts.is_empty());
}

#[test]
fn a_command_that_fails_later_tells_its_failure() {
    let mut bench = Bench::new();
    bench.subscribe("OperationComplete", "Device.X_Test.", &[]);
    call(&mut bench, "Device.X_Test.Slow()", "", &[]);
    let (request, _) = bench.running.pop().unwrap();
    bench
        .engine
        .handle_completed(bench.now, &request, Err(OperateError::failed("no answer")));
    bench.drain();
    let told = bench.told();
    let [Notification::OperComplete(done)] = told.as_slice() else {
        panic!("{told:?}")
    };
    let Some(operation_complete::OperationResp::CmdFailure(failure)) = &done.operation_resp else {
        panic!()
    };
    assert_eq!(
        (failure.err_code, failure.err_msg.as_str()),
        (7022, "no answer")
    );
}

#[test]
fn r_opr_1_a_failed_operation_is_no_error_message() {
    let mut bench = Bench::new();
    for name in ["a", "b"] {
        bench.add("Device.X_Test.Item.", &[("Name", name)]);
    }
    let results = call(&mut bench, "Device.X_Test.Item.*.Touch()", "", &[]);
    assert_eq!(results.len(), 2);
    assert_eq!(
        (results[0].executed_command.as_str(), failure(&results[0])),
        ("Device.X_Test.Item.1.Touch()", 7022)
    );
    assert!(matches!(
        results[1].operation_resp,
        Some(OperationResp::ReqOutputArgs(_))
    ));
}

#[test]
fn r_opr_2_each_operation_has_its_own_request_row() {
    let mut bench = Bench::new();
    let first = request_path(&call(&mut bench, "Device.X_Test.Slow()", "a", &[])[0]);
    let second = request_path(&call(&mut bench, "Device.X_Test.Slow()", "b", &[])[0]);
    assert_ne!(first, second);
    assert_eq!(bench.running.len(), 2);
}

#[test]
fn r_opr_3_a_running_operation_ends_early_only_by_cancel() {
    let mut bench = Bench::new();
    bench.subscribe("OperationComplete", "Device.X_Test.Slow()", &[]);
    let row = request_path(&call(&mut bench, "Device.X_Test.Slow()", "a", &[])[0]);
    // The same command with the same key is denied; the running one is not touched.
    assert_eq!(
        failure(&call(&mut bench, "Device.X_Test.Slow()", "a", &[])[0]),
        7005
    );
    assert!(bench.aborted.is_empty() && bench.told().is_empty());
    let results = call(&mut bench, &format!("{row}Cancel()"), "", &[]);
    assert!(matches!(
        results[0].operation_resp,
        Some(OperationResp::ReqOutputArgs(_))
    ));
    assert_eq!(bench.aborted[0].to_string(), row);
    let told = bench.told();
    let [Notification::OperComplete(done)] = told.as_slice() else {
        panic!("{told:?}")
    };
    let Some(operation_complete::OperationResp::CmdFailure(failure)) = &done.operation_resp else {
        panic!()
    };
    assert_eq!(failure.err_code, 7023);
    // A result that comes after all is too late.
    let (request, _) = bench.running.pop().unwrap();
    bench
        .engine
        .handle_completed(bench.now, &request, Ok(BTreeMap::new()));
    bench.drain();
    assert!(bench.told().is_empty());
}

#[test]
fn r_opr_4_without_send_resp_there_is_no_response() {
    let mut bench = Bench::new();
    let request = operate(
        "Device.X_Test.Echo()",
        "",
        false,
        args(&[("Text", "quiet")]),
    );
    bench.message(CONTROLLER, &Message::request("quiet", request));
    assert!(bench.answers.is_empty());
    assert_eq!(bench.system.lock().unwrap().operated.len(), 1);
}

#[test]
fn r_opr_5_a_missing_mandatory_argument_is_7027() {
    let mut bench = Bench::new();
    assert_eq!(
        failure(&call(&mut bench, "Device.X_Test.Echo()", "", &[])[0]),
        7027
    );
    let fingerprint = "Device.LocalAgent.Certificate.1.GetFingerprint()";
    assert_eq!(failure(&call(&mut bench, fingerprint, "", &[])[0]), 7027);
}

#[test]
fn r_opr_6_an_unknown_argument_is_ignored() {
    let mut bench = Bench::new();
    call(
        &mut bench,
        "Device.X_Test.Echo()",
        "",
        &[("Text", "x"), ("Unknown", "y")],
    );
    assert_eq!(
        bench.system.lock().unwrap().operated[0].1,
        args(&[("Text", "x")])
    );
}

#[test]
fn a_command_that_nobody_runs_fails() {
    let mut bench = Bench::new();
    assert_eq!(
        failure(&call(&mut bench, "Device.X_Test.Nothing()", "", &[])[0]),
        7022
    );
}

#[test]
fn a_command_that_is_not_supported_is_an_error_message() {
    let mut bench = Bench::new();
    let code = |bench: &mut Bench, command: &str| {
        bench
            .ask_error(operate(command, "", true, BTreeMap::new()))
            .0
    };
    assert_eq!(code(&mut bench, "Device.X_Test.Fly()"), 7026);
    assert_eq!(code(&mut bench, "Device.X_Test.Label"), 7026);
    assert_eq!(code(&mut bench, "Device.X_Test.Item.4.Touch()"), 7016);
    assert_eq!(code(&mut bench, "()"), 7008);
}

#[test]
fn a_search_path_without_a_match_runs_nothing() {
    let mut bench = Bench::new();
    assert!(call(&mut bench, "Device.X_Test.Item.*.Touch()", "", &[]).is_empty());
}

#[test]
fn the_number_of_running_commands_is_bounded() {
    let mut settings = crate::bench::settings();
    settings.limits.max_requests = 1;
    let mut bench = Bench::started(
        settings,
        homefleet_agent::store::Store::in_memory().unwrap(),
    );
    request_path(&call(&mut bench, "Device.X_Test.Slow()", "a", &[])[0]);
    assert_eq!(
        failure(&call(&mut bench, "Device.X_Test.Slow()", "b", &[])[0]),
        7005
    );
}

#[test]
fn the_fingerprint_of_a_trusted_ca_is_told() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.value("Device.LocalAgent.Certificate.1.Issuer"),
        "CN=Test CA"
    );
    let sha256 = [("FingerprintAlgorithm", "SHA-256")];
    let results = call(
        &mut bench,
        "Device.LocalAgent.Certificate.1.GetFingerprint()",
        "",
        &sha256,
    );
    let OperationResp::ReqOutputArgs(output) = results[0].operation_resp.clone().unwrap() else {
        panic!()
    };
    assert_eq!(output.output_args["Fingerprint"], "AB".repeat(32));
    let md5 = [("FingerprintAlgorithm", "MD5")];
    assert_eq!(
        failure(
            &call(
                &mut bench,
                "Device.LocalAgent.Certificate.1.GetFingerprint()",
                "",
                &md5
            )[0]
        ),
        7027
    );
}

#[test]
fn a_message_for_a_controller_is_not_supported_here() {
    let mut bench = Bench::new();
    for request in [
        homefleet_usp::message::register(false, ["Device.X."]),
        homefleet_usp::message::deregister(["Device.X."]),
        homefleet_usp::message::notify("", true, Notification::ObjDeletion(Default::default())),
    ] {
        let Body::Error(error) = bench.ask_as(CONTROLLER, request) else {
            panic!()
        };
        assert_eq!(error.err_code, 7001);
    }
}
