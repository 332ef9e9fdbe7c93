//! Get: R-GET.0 to R-GET.5.

use std::collections::BTreeMap;

use homefleet_usp::{
    message::{Response, get},
    proto::msg::get_resp::RequestedPathResult,
};

use crate::bench::Bench;

fn results(bench: &mut Bench, paths: &[&str], depth: u32) -> Vec<RequestedPathResult> {
    match bench.ask(get(paths.iter().copied(), depth)) {
        Response::GetResp(response) => response.req_path_results,
        other => panic!("{other:?}"),
    }
}

fn one(bench: &mut Bench, path: &str, depth: u32) -> RequestedPathResult {
    results(bench, &[path], depth).remove(0)
}

#[test]
fn r_get_0_a_path_that_matches_nothing_is_7026() {
    let mut bench = Bench::new();
    for path in [
        "Device.X_Test.Item.9.",
        "Device.X_Test.Nothing",
        "Device.Nothing.",
        "Device.X_Test.Nothing.*.Name",
    ] {
        let result = one(&mut bench, path, 0);
        assert_eq!(
            (result.err_code, result.resolved_path_results.len()),
            (7026, 0),
            "{path}"
        );
        assert!(!result.err_msg.is_empty());
    }
}

#[test]
fn a_path_that_is_no_path_is_7008_and_the_others_are_answered() {
    let mut bench = Bench::new();
    let results = results(&mut bench, &["Device..X", "Device.X_Test.Label"], 0);
    assert_eq!((results[0].err_code, results[1].err_code), (7008, 0));
    assert_eq!(results[1].resolved_path_results.len(), 1);
}

#[test]
fn r_get_1a_a_search_path_without_a_match_is_empty_and_no_error() {
    let mut bench = Bench::new();
    for path in [
        "Device.X_Test.Item.*.",
        "Device.X_Test.Item.[Name==\"nobody\"].Label",
    ] {
        let result = one(&mut bench, path, 0);
        assert_eq!(
            (result.err_code, result.resolved_path_results.len()),
            (0, 0),
            "{path}"
        );
    }
}

#[test]
fn r_get_1b_a_table_without_rows_is_empty_and_no_error() {
    let mut bench = Bench::new();
    let result = one(&mut bench, "Device.X_Test.Item.", 0);
    assert_eq!(
        (result.err_code, result.resolved_path_results.len()),
        (0, 0)
    );
}

#[test]
fn r_get_2_r_get_3_a_parameter_gives_its_parent_and_itself_alone() {
    let mut bench = Bench::new();
    let result = one(&mut bench, "Device.X_Test.Level", 0);
    assert_eq!(result.requested_path, "Device.X_Test.Level");
    assert_eq!(result.resolved_path_results.len(), 1);
    let resolved = &result.resolved_path_results[0];
    assert_eq!(resolved.resolved_path, "Device.X_Test.");
    assert_eq!(
        resolved.result_params,
        BTreeMap::from([("Level".to_owned(), "5".to_owned())])
    );
}

#[test]
fn r_get_5_max_depth_limits_the_tree() {
    let mut bench = Bench::new();
    bench.add("Device.X_Test.Item.", &[("Name", "a")]);
    let paths = |bench: &mut Bench, depth| -> Vec<String> {
        let result = one(bench, "Device.X_Test.Item.1.", depth);
        result
            .resolved_path_results
            .into_iter()
            .map(|resolved| resolved.resolved_path)
            .collect()
    };
    assert_eq!(paths(&mut bench, 1), ["Device.X_Test.Item.1."]);
    assert_eq!(
        paths(&mut bench, 2),
        ["Device.X_Test.Item.1.", "Device.X_Test.Item.1.Stats."]
    );
    assert_eq!(paths(&mut bench, 0), paths(&mut bench, 2));
}

#[test]
fn r_msg_3_results_name_rows_by_instance_number() {
    let mut bench = Bench::new();
    bench.add("Device.X_Test.Item.", &[("Name", "a")]);
    let result = one(&mut bench, "Device.X_Test.Item.[Name==\"a\"].Name", 0);
    assert_eq!(
        result.resolved_path_results[0].resolved_path,
        "Device.X_Test.Item.1."
    );
}

#[test]
fn a_get_reads_the_system_as_it_is_now() {
    let mut bench = Bench::new();
    assert_eq!(bench.value("Device.X_Test.Counter"), "0");
    bench.system.lock().unwrap().counter = 17;
    assert_eq!(bench.value("Device.X_Test.Counter"), "17");
}

#[test]
fn a_secret_reads_as_empty() {
    let mut bench = Bench::new();
    bench.set("Device.X_Test.", "Password", "hunter2");
    assert_eq!(bench.value("Device.X_Test.Password"), "");
    assert!(
        bench
            .system
            .lock()
            .unwrap()
            .applied
            .contains(&("Device.X_Test.Password".into(), "hunter2".into()))
    );
}

#[test]
fn a_command_has_no_value() {
    let mut bench = Bench::new();
    assert_eq!(one(&mut bench, "Device.X_Test.Echo()", 0).err_code, 7026);
}

#[test]
fn references_are_followed() {
    let mut bench = Bench::new();
    bench.subscribe("Event", "Device.Boot!", &[]);
    let result = one(
        &mut bench,
        "Device.LocalAgent.Subscription.*.Recipient+.EndpointID",
        0,
    );
    assert_eq!(
        result.resolved_path_results[0].resolved_path,
        "Device.LocalAgent.Controller.1."
    );
    assert_eq!(
        result.resolved_path_results[0].result_params["EndpointID"],
        "proto::controller"
    );
}
