//! Set: R-SET.0 to R-SET.3, R-KEY.1, R-KEY.2.

use std::collections::BTreeMap;

use homefleet_usp::{
    message::{Response, set, update_object},
    proto::msg::set_resp::{
        UpdatedObjectResult, updated_object_result::operation_status::OperStatus,
    },
};

use crate::bench::Bench;

type Params<'a> = &'a [(&'a str, &'a str, bool)];

fn update(
    bench: &mut Bench,
    allow_partial: bool,
    objects: &[(&str, Params<'_>)],
) -> Vec<UpdatedObjectResult> {
    let objects = objects
        .iter()
        .map(|(path, params)| update_object(*path, params.iter().copied()))
        .collect();
    match bench.ask(set(allow_partial, objects)) {
        Response::SetResp(response) => response.updated_obj_results,
        other => panic!("{other:?}"),
    }
}

fn update_error(bench: &mut Bench, objects: &[(&str, Params<'_>)]) -> (u32, Vec<(String, u32)>) {
    let objects = objects
        .iter()
        .map(|(path, params)| update_object(*path, params.iter().copied()))
        .collect();
    let (code, errors) = bench.ask_error(set(false, objects));
    (
        code,
        errors
            .into_iter()
            .map(|error| (error.param_path, error.err_code))
            .collect(),
    )
}

fn status(result: &UpdatedObjectResult) -> &OperStatus {
    result
        .oper_status
        .as_ref()
        .unwrap()
        .oper_status
        .as_ref()
        .unwrap()
}

#[test]
fn a_set_changes_tree_and_system_and_reports_the_new_values() {
    let mut bench = Bench::new();
    let params: Params<'_> = &[("Label", "kitchen", true), ("Level", "007", true)];
    let results = update(&mut bench, false, &[("Device.X_Test.", params)]);
    let OperStatus::OperSuccess(success) = status(&results[0]) else {
        panic!("{results:?}")
    };
    assert_eq!(
        success.updated_inst_results[0].affected_path,
        "Device.X_Test."
    );
    let expected = BTreeMap::from([
        ("Label".to_owned(), "kitchen".to_owned()),
        ("Level".to_owned(), "7".to_owned()),
    ]);
    assert_eq!(success.updated_inst_results[0].updated_params, expected);
    assert_eq!(bench.value("Device.X_Test.Level"), "7");
    let applied = bench.system.lock().unwrap().applied.clone();
    assert_eq!(
        applied,
        [
            ("Device.X_Test.Label".to_owned(), "kitchen".to_owned()),
            ("Device.X_Test.Level".to_owned(), "7".to_owned())
        ]
    );
}

#[test]
fn a_parameter_set_to_the_value_it_has_is_reported_too() {
    let mut bench = Bench::new();
    let results = update(
        &mut bench,
        false,
        &[("Device.X_Test.", &[("Level", "5", true)])],
    );
    let OperStatus::OperSuccess(success) = status(&results[0]) else {
        panic!("{results:?}")
    };
    assert_eq!(success.updated_inst_results[0].updated_params["Level"], "5");
}

#[test]
fn r_set_0_with_allow_partial_the_valid_objects_are_updated() {
    let mut bench = Bench::new();
    bench.add("Device.X_Test.Item.", &[("Name", "a")]);
    let results = update(
        &mut bench,
        true,
        &[
            (
                "Device.X_Test.",
                &[("Label", "x", true), ("Level", "11", true)],
            ),
            ("Device.X_Test.Item.7.", &[("Label", "x", true)]),
            ("Device.Nowhere.", &[("Label", "x", true)]),
            ("Device.X_Test.Item.1.", &[("Label", "y", true)]),
        ],
    );
    let codes: Vec<u32> = results
        .iter()
        .map(|result| match status(result) {
            OperStatus::OperSuccess(_) => 0,
            OperStatus::OperFailure(failure) => failure.err_code,
        })
        .collect();
    assert_eq!(codes, [7021, 7016, 7026, 0]);
    assert_eq!(
        bench.value("Device.X_Test.Label"),
        "",
        "a failed object keeps its old values"
    );
    assert_eq!(bench.value("Device.X_Test.Item.1.Label"), "y");
}

#[test]
fn r_set_1_without_allow_partial_one_failure_undoes_the_message() {
    let mut bench = Bench::new();
    bench.set("Device.X_Test.", "Label", "old");
    let objects: &[(&str, Params<'_>)] = &[
        ("Device.X_Test.", &[("Label", "new", true)]),
        (
            "Device.X_Test.",
            &[
                ("Level", "99", true),
                ("Counter", "1", true),
                ("Missing", "1", true),
            ],
        ),
    ];
    let (code, errors) = update_error(&mut bench, objects);
    assert_eq!(code, 7021);
    assert_eq!(
        errors,
        [
            ("Device.X_Test.Level".to_owned(), 7012),
            ("Device.X_Test.Counter".to_owned(), 7013),
            ("Device.X_Test.Missing".to_owned(), 7010)
        ]
    );
    assert_eq!(bench.value("Device.X_Test.Label"), "old");
    let applied = bench.system.lock().unwrap().applied.clone();
    let last = applied
        .iter()
        .rfind(|(path, _)| path.ends_with("Label"))
        .unwrap();
    assert_eq!(last.1, "old", "the system went back as well: {applied:?}");
}

#[test]
fn r_set_2_only_a_required_parameter_fails_its_object() {
    let mut bench = Bench::new();
    let params: Params<'_> = &[("Level", "many", false), ("Label", "ok", true)];
    let results = update(&mut bench, false, &[("Device.X_Test.", params)]);
    let OperStatus::OperSuccess(success) = status(&results[0]) else {
        panic!("{results:?}")
    };
    let instance = &success.updated_inst_results[0];
    assert_eq!(
        instance.updated_params.keys().collect::<Vec<_>>(),
        ["Label"]
    );
    assert_eq!(
        (
            instance.param_errs[0].param.as_str(),
            instance.param_errs[0].err_code
        ),
        ("Level", 7011)
    );
}

#[test]
fn r_set_2a_a_search_path_is_updated_as_a_whole() {
    let mut bench = Bench::new();
    for name in ["a", "b"] {
        bench.add("Device.X_Test.Item.", &[("Name", name), ("Label", "old")]);
    }
    // The first row takes the key, the second cannot.
    let params: Params<'_> = &[("Label", "new", true), ("Name", "same", true)];
    let results = update(&mut bench, true, &[("Device.X_Test.Item.*.", params)]);
    let OperStatus::OperFailure(failure) = status(&results[0]) else {
        panic!("{results:?}")
    };
    assert_eq!(failure.err_code, 7025);
    assert_eq!(
        failure.updated_inst_failures[0].affected_path,
        "Device.X_Test.Item.2."
    );
    for row in [1, 2] {
        assert_eq!(
            bench.value(&format!("Device.X_Test.Item.{row}.Label")),
            "old"
        );
    }
    assert_eq!(bench.value("Device.X_Test.Item.1.Name"), "a");
}

#[test]
fn r_msg_4a_a_search_path_without_a_match_succeeds_with_nothing() {
    let mut bench = Bench::new();
    let results = update(
        &mut bench,
        false,
        &[("Device.X_Test.Item.[Name==\"x\"].", &[("Label", "y", true)])],
    );
    let OperStatus::OperSuccess(success) = status(&results[0]) else {
        panic!("{results:?}")
    };
    assert!(success.updated_inst_results.is_empty());
}

#[test]
fn r_key_1_a_non_functional_key_never_changes() {
    let mut bench = Bench::new();
    bench.add("Device.X_Test.Item.", &[("Name", "a"), ("Alias", "mine")]);
    let (code, errors) = update_error(
        &mut bench,
        &[("Device.X_Test.Item.1.", &[("Alias", "yours", true)])],
    );
    assert_eq!(
        (code, errors),
        (7021, vec![("Device.X_Test.Item.1.Alias".to_owned(), 7013)])
    );
    let subscription = bench.subscribe("Event", "Device.Boot!", &[]);
    let (_, errors) = update_error(&mut bench, &[(&subscription, &[("ID", "other", true)])]);
    assert_eq!(errors[0].1, 7013);
}

#[test]
fn r_key_2_a_functional_key_changes_within_uniqueness() {
    let mut bench = Bench::new();
    bench.add("Device.X_Test.Item.", &[("Name", "a")]);
    bench.add("Device.X_Test.Item.", &[("Name", "b")]);
    bench.set("Device.X_Test.Item.1.", "Name", "c");
    assert_eq!(bench.value("Device.X_Test.Item.1.Name"), "c");
    let (code, _) = update_error(
        &mut bench,
        &[("Device.X_Test.Item.1.", &[("Name", "b", true)])],
    );
    assert_eq!(code, 7025);
    assert_eq!(bench.value("Device.X_Test.Item.1.Name"), "c");
}

#[test]
fn keys_need_be_unique_only_after_the_whole_message() {
    let mut bench = Bench::new();
    bench.add("Device.X_Test.Item.", &[("Name", "a")]);
    bench.add("Device.X_Test.Item.", &[("Name", "b")]);
    update(
        &mut bench,
        false,
        &[
            ("Device.X_Test.Item.1.", &[("Name", "b", true)]),
            ("Device.X_Test.Item.2.", &[("Name", "a", true)]),
        ],
    );
    assert_eq!(bench.value("Device.X_Test.Item.1.Name"), "b");
    assert_eq!(bench.value("Device.X_Test.Item.2.Name"), "a");
}

#[test]
fn what_the_device_refuses_is_refused_with_its_reason() {
    let mut bench = Bench::new();
    let objects = vec![update_object("Device.X_Test.", [("Stubborn", "x", true)])];
    let (code, errors) = bench.ask_error(set(false, objects));
    assert_eq!(
        (code, errors[0].err_code, errors[0].err_msg.as_str()),
        (7021, 7012, "it stays as it is")
    );
    assert_eq!(bench.value("Device.X_Test.Stubborn"), "");
}

#[test]
fn a_table_is_no_object_to_set() {
    let mut bench = Bench::new();
    let (code, _) = update_error(
        &mut bench,
        &[("Device.X_Test.Item.", &[("Label", "x", true)])],
    );
    assert_eq!(code, 7020);
}

#[test]
fn a_parameter_of_a_nested_single_object_is_set() {
    let mut bench = Bench::new();
    bench.add("Device.X_Test.Item.", &[("Name", "a")]);
    bench.set("Device.X_Test.Item.1.", "Stats.Limit", "9");
    assert_eq!(bench.value("Device.X_Test.Item.1.Stats.Limit"), "9");
}

#[test]
fn what_a_subscription_refers_to_never_changes() {
    let mut bench = Bench::new();
    let subscription = bench.subscribe("ValueChange", "Device.X_Test.Label", &[]);
    for (name, value) in [
        ("ReferenceList", "Device.X_Test.Level"),
        ("NotifType", "Event"),
    ] {
        let (_, errors) = update_error(&mut bench, &[(&subscription, &[(name, value, true)])]);
        assert_eq!(errors[0].1, 7013, "{name}");
    }
    bench.set(&subscription, "ReferenceList", "Device.X_Test.Label");
    bench.set(&subscription, "Enable", "false");
}
