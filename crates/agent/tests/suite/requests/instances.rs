//! GetInstances: R-GIN.0, R-GIN.1.

use homefleet_usp::{
    message::{Response, get_instances},
    proto::msg::get_instances_resp::RequestedPathResult,
};

use crate::bench::Bench;

fn one(bench: &mut Bench, path: &str, first_level_only: bool) -> RequestedPathResult {
    match bench.ask(get_instances([path], first_level_only)) {
        Response::GetInstancesResp(mut response) => response.req_path_results.remove(0),
        other => panic!("{other:?}"),
    }
}

fn paths(result: &RequestedPathResult) -> Vec<&str> {
    assert_eq!(result.err_code, 0, "{}", result.err_msg);
    result
        .curr_insts
        .iter()
        .map(|row| row.instantiated_obj_path.as_str())
        .collect()
}

#[test]
fn the_rows_of_a_table_come_with_their_unique_keys() {
    let mut bench = Bench::new();
    bench.add("Device.X_Test.Item.", &[("Name", "a"), ("Alias", "first")]);
    bench.system.lock().unwrap().rows = vec!["from the system".into()];
    let result = one(&mut bench, "Device.X_Test.Item.", false);
    assert_eq!(paths(&result), ["Device.X_Test.Item.1."]);
    let keys = &result.curr_insts[0].unique_keys;
    assert_eq!(
        (keys["Name"].as_str(), keys["Alias"].as_str()),
        ("a", "first")
    );
    let result = one(&mut bench, "Device.X_Test.Row.", false);
    assert_eq!(paths(&result), ["Device.X_Test.Row.1."]);
}

#[test]
fn first_level_only_leaves_out_what_is_below() {
    let mut bench = Bench::new();
    assert_eq!(
        paths(&one(&mut bench, "Device.LocalAgent.Controller.", true)),
        ["Device.LocalAgent.Controller.1."]
    );
    assert_eq!(
        paths(&one(&mut bench, "Device.LocalAgent.Controller.", false)),
        [
            "Device.LocalAgent.Controller.1.",
            "Device.LocalAgent.Controller.1.MTP.1."
        ]
    );
}

#[test]
fn what_is_no_table_is_7018_and_what_is_not_there_7016() {
    let mut bench = Bench::new();
    assert_eq!(one(&mut bench, "Device.X_Test.", false).err_code, 7018);
    assert_eq!(one(&mut bench, "Device.X_Test.Label", false).err_code, 7018);
    assert_eq!(
        one(&mut bench, "Device.LocalAgent.Controller.9.MTP.", false).err_code,
        7016
    );
    assert_eq!(one(&mut bench, "Device.Nothing.", false).err_code, 7026);
}

#[test]
fn a_search_path_names_rows_and_none_is_no_error() {
    let mut bench = Bench::new();
    bench.add("Device.X_Test.Item.", &[("Name", "a")]);
    bench.add("Device.X_Test.Item.", &[("Name", "b")]);
    assert_eq!(
        paths(&one(&mut bench, "Device.X_Test.Item.[Name==\"b\"].", true)),
        ["Device.X_Test.Item.2."]
    );
    assert!(paths(&one(&mut bench, "Device.X_Test.Item.[Name==\"c\"].", true)).is_empty());
    assert_eq!(
        paths(&one(
            &mut bench,
            "Device.LocalAgent.Controller.*.MTP.",
            true
        )),
        ["Device.LocalAgent.Controller.1.MTP.1."]
    );
}
