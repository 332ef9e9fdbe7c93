//! Delete: R-DEL.0 to R-DEL.4.

use homefleet_usp::{
    message::{Response, delete},
    proto::msg::delete_resp::{
        DeletedObjectResult, deleted_object_result::operation_status::OperStatus,
    },
};

use crate::bench::Bench;

fn bench_with(names: &[&str]) -> Bench {
    let mut bench = Bench::new();
    for name in names {
        bench.add("Device.X_Test.Item.", &[("Name", name)]);
    }
    bench.system.lock().unwrap().rows = vec!["fixed".into()];
    bench
}

fn remove(bench: &mut Bench, allow_partial: bool, paths: &[&str]) -> Vec<DeletedObjectResult> {
    match bench.ask(delete(allow_partial, paths.iter().copied())) {
        Response::DeleteResp(response) => response.deleted_obj_results,
        other => panic!("{other:?}"),
    }
}

fn affected(result: &DeletedObjectResult) -> Vec<String> {
    match result
        .oper_status
        .as_ref()
        .unwrap()
        .oper_status
        .as_ref()
        .unwrap()
    {
        OperStatus::OperSuccess(success) => success.affected_paths.clone(),
        OperStatus::OperFailure(failure) => panic!("{failure:?}"),
    }
}

fn failure(result: &DeletedObjectResult) -> u32 {
    match result
        .oper_status
        .as_ref()
        .unwrap()
        .oper_status
        .as_ref()
        .unwrap()
    {
        OperStatus::OperSuccess(success) => panic!("{success:?}"),
        OperStatus::OperFailure(failure) => failure.err_code,
    }
}

#[test]
fn r_del_0_with_allow_partial_the_valid_rows_are_deleted() {
    let mut bench = bench_with(&["a", "b"]);
    let paths = [
        "Device.X_Test.Item.1.",
        "Device.X_Test.Row.1.",
        "Device.X_Test.",
        "Device.No.1.",
        "nothing",
    ];
    let results = remove(&mut bench, true, &paths);
    assert_eq!(affected(&results[0]), ["Device.X_Test.Item.1."]);
    assert_eq!(
        results[1..].iter().map(failure).collect::<Vec<_>>(),
        [7024, 7018, 7026, 7008]
    );
    assert_eq!(bench.value("Device.X_Test.ItemNumberOfEntries"), "1");
}

#[test]
fn r_del_1_without_allow_partial_each_of_its_errors_fails_the_message() {
    for (path, code) in [
        ("Device.X_Test.Item.", 7018),
        ("Device.X_Test.Item.9.", 7016),
        ("Device.X_Test.Row.1.", 7024),
        ("Device.X_Test.Nothing.1.", 7026),
    ] {
        let mut bench = bench_with(&["a"]);
        let (found, errors) = bench.ask_error(delete(false, ["Device.X_Test.Item.1.", path]));
        assert_eq!(
            (found, errors[0].err_code, errors[0].param_path.as_str()),
            (code, code, path)
        );
        assert_eq!(
            bench.value("Device.X_Test.ItemNumberOfEntries"),
            "1",
            "the first row is still there"
        );
    }
}

#[test]
fn r_del_2a_what_is_not_there_is_deleted_successfully() {
    let mut bench = bench_with(&[]);
    let results = remove(&mut bench, true, &["Device.X_Test.Item.9."]);
    assert!(affected(&results[0]).is_empty());
    let results = remove(&mut bench, false, &["Device.X_Test.Item.[Name==\"x\"]."]);
    assert!(affected(&results[0]).is_empty());
}

#[test]
fn a_search_path_deletes_all_it_names() {
    let mut bench = bench_with(&["a", "b", "c"]);
    let results = remove(&mut bench, false, &["Device.X_Test.Item.[Name!=\"b\"]."]);
    assert_eq!(
        affected(&results[0]),
        ["Device.X_Test.Item.1.", "Device.X_Test.Item.3."]
    );
    assert_eq!(bench.value("Device.X_Test.Item.2.Name"), "b");
}

#[test]
fn a_controller_may_delete_itself_and_is_a_stranger_then() {
    let mut bench = bench_with(&[]);
    remove(&mut bench, false, &["Device.LocalAgent.Controller.1."]);
    let (code, _) = bench.ask_error(homefleet_usp::message::get(["Device."], 1));
    assert_eq!(code, 7006);
}
