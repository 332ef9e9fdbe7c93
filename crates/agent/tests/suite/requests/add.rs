//! Add: R-ADD.0 to R-ADD.6.

use homefleet_usp::{
    message::{Response, add, create_object},
    proto::msg::add_resp::{
        CreatedObjectResult, created_object_result::operation_status::OperStatus,
    },
};

use crate::bench::Bench;

type Params<'a> = &'a [(&'a str, &'a str, bool)];

fn create(
    bench: &mut Bench,
    allow_partial: bool,
    objects: &[(&str, Params<'_>)],
) -> Vec<CreatedObjectResult> {
    let objects = objects
        .iter()
        .map(|(path, params)| create_object(*path, params.iter().copied()))
        .collect();
    match bench.ask(add(allow_partial, objects)) {
        Response::AddResp(response) => response.created_obj_results,
        other => panic!("{other:?}"),
    }
}

fn create_error(bench: &mut Bench, objects: &[(&str, Params<'_>)]) -> u32 {
    let objects = objects
        .iter()
        .map(|(path, params)| create_object(*path, params.iter().copied()))
        .collect();
    bench.ask_error(add(false, objects)).0
}

fn status(result: &CreatedObjectResult) -> &OperStatus {
    result
        .oper_status
        .as_ref()
        .unwrap()
        .oper_status
        .as_ref()
        .unwrap()
}

fn code(result: &CreatedObjectResult) -> u32 {
    match status(result) {
        OperStatus::OperSuccess(_) => 0,
        OperStatus::OperFailure(failure) => failure.err_code,
    }
}

fn rows(bench: &mut Bench) -> usize {
    bench
        .value("Device.X_Test.ItemNumberOfEntries")
        .parse()
        .unwrap()
}

#[test]
fn r_add_0_with_allow_partial_the_valid_rows_are_made() {
    let mut bench = Bench::new();
    let results = create(
        &mut bench,
        true,
        &[
            ("Device.X_Test.Item.", &[("Name", "a", true)]),
            (
                "Device.X_Test.Item.",
                &[("Name", "b", true), ("Level", "99", true)],
            ),
            ("Device.X_Test.Row.", &[]),
            ("Device.X_Test.", &[]),
            ("Device.Nothing.", &[]),
            ("Device.X_Test.Item.", &[("Name", "c", true)]),
        ],
    );
    let codes: Vec<u32> = results.iter().map(code).collect();
    assert_eq!(codes, [0, 7021, 7019, 7018, 7026, 0]);
    assert_eq!(rows(&mut bench), 2);
}

#[test]
fn r_add_1_without_allow_partial_one_failure_makes_no_row() {
    let mut bench = Bench::new();
    let objects: &[(&str, Params<'_>)] = &[
        ("Device.X_Test.Item.", &[("Name", "a", true)]),
        (
            "Device.X_Test.Item.",
            &[("Name", "b", true), ("Level", "99", true)],
        ),
    ];
    assert_eq!(create_error(&mut bench, objects), 7021);
    assert_eq!(rows(&mut bench), 0);
}

#[test]
fn r_add_2a_a_failure_under_a_search_path_leaves_the_data_model_unchanged() {
    let mut bench = Bench::new();
    bench.add(
        "Device.LocalAgent.Controller.",
        &[("EndpointID", "proto::second")],
    );
    let before = bench.values("Device.LocalAgent.Controller.");
    // The first controller has a CoAP MTP already, the second has none.
    let objects: &[(&str, Params<'_>)] = &[(
        "Device.LocalAgent.Controller.*.MTP.",
        &[("Protocol", "CoAP", true), ("Enable", "true", true)],
    )];
    assert_eq!(create_error(&mut bench, objects), 7025);
    assert_eq!(bench.values("Device.LocalAgent.Controller."), before);
}

#[test]
fn a_search_path_makes_a_row_in_every_table_it_names() {
    let mut bench = Bench::new();
    bench.add(
        "Device.LocalAgent.Controller.",
        &[("EndpointID", "proto::second")],
    );
    let objects: &[(&str, Params<'_>)] = &[(
        "Device.LocalAgent.Controller.*.BootParameter.",
        &[("ParameterName", "Device.X_Test.Label", true)],
    )];
    let results = create(&mut bench, false, objects);
    let paths: Vec<&str> = results
        .iter()
        .map(|result| match status(result) {
            OperStatus::OperSuccess(success) => success.instantiated_path.as_str(),
            OperStatus::OperFailure(failure) => panic!("{failure:?}"),
        })
        .collect();
    assert_eq!(
        paths,
        [
            "Device.LocalAgent.Controller.1.BootParameter.1.",
            "Device.LocalAgent.Controller.2.BootParameter.1."
        ]
    );
}

#[test]
fn r_add_3_a_required_parameter_that_fails_makes_no_row() {
    let mut bench = Bench::new();
    let results = create(
        &mut bench,
        true,
        &[(
            "Device.X_Test.Item.",
            &[("Name", "a", true), ("Nope", "1", true)],
        )],
    );
    let OperStatus::OperFailure(failure) = status(&results[0]) else {
        panic!("{results:?}")
    };
    assert_eq!(failure.err_code, 7021);
    assert!(failure.err_msg.contains("Nope"), "{}", failure.err_msg);
    assert_eq!(rows(&mut bench), 0);
}

#[test]
fn r_add_4_an_optional_parameter_that_fails_is_reported_and_the_row_is_made() {
    let mut bench = Bench::new();
    let params: Params<'_> = &[
        ("Name", "a", true),
        ("Level", "99", false),
        ("Label", "ok", false),
    ];
    let results = create(&mut bench, false, &[("Device.X_Test.Item.", params)]);
    let OperStatus::OperSuccess(success) = status(&results[0]) else {
        panic!("{results:?}")
    };
    assert_eq!(success.param_errs.len(), 1);
    assert_eq!(
        (
            success.param_errs[0].param.as_str(),
            success.param_errs[0].err_code
        ),
        ("Level", 7012)
    );
    assert_eq!(bench.value("Device.X_Test.Item.1.Label"), "ok");
    assert_eq!(bench.value("Device.X_Test.Item.1.Level"), "5");
}

#[test]
fn r_add_5_keys_that_the_controller_left_out_are_assigned_and_returned() {
    let mut bench = Bench::new();
    let results = create(&mut bench, false, &[("Device.X_Test.Item.", &[])]);
    let OperStatus::OperSuccess(success) = status(&results[0]) else {
        panic!("{results:?}")
    };
    assert_eq!(success.instantiated_path, "Device.X_Test.Item.1.");
    assert_eq!(
        success.unique_keys.keys().collect::<Vec<_>>(),
        ["Alias", "Name"]
    );
    assert!(
        success.unique_keys.values().all(|value| !value.is_empty()),
        "{success:?}"
    );
    assert_eq!(
        bench.value("Device.X_Test.Item.1.Alias"),
        success.unique_keys["Alias"]
    );
}

#[test]
fn a_unique_key_is_required_whatever_the_message_says() {
    let mut bench = Bench::new();
    bench.add("Device.X_Test.Item.", &[("Name", "a")]);
    let results = create(
        &mut bench,
        true,
        &[
            (
                "Device.X_Test.Item.",
                &[("Name", "a name that is too long", false)],
            ),
            ("Device.X_Test.Item.", &[("Name", "a", false)]),
        ],
    );
    assert_eq!(results.iter().map(code).collect::<Vec<_>>(), [7021, 7025]);
    assert_eq!(rows(&mut bench), 1);
}

#[test]
fn instance_numbers_are_not_used_again() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.add("Device.X_Test.Item.", &[("Name", "a")]),
        "Device.X_Test.Item.1."
    );
    bench.ask(homefleet_usp::message::delete(
        false,
        ["Device.X_Test.Item.1."],
    ));
    assert_eq!(
        bench.add("Device.X_Test.Item.", &[("Name", "a")]),
        "Device.X_Test.Item.2."
    );
}

#[test]
fn a_subscription_gets_its_recipient_and_date_from_the_agent() {
    let mut bench = Bench::new();
    let path = bench.subscribe("Event", "Device.Boot!", &[]);
    assert_eq!(
        bench.value(&format!("{path}Recipient")),
        "Device.LocalAgent.Controller.1"
    );
    let date = bench.value(&format!("{path}CreationDate"));
    assert_eq!(date, homefleet_model::value::date_time(bench.wall()));
}

#[test]
fn the_same_subscription_id_twice_is_a_duplicate_key() {
    let mut bench = Bench::new();
    bench.subscribe("Event", "Device.Boot!", &[]);
    let params: Params<'_> = &[("ID", "sub", true)];
    assert_eq!(
        create_error(&mut bench, &[("Device.LocalAgent.Subscription.", params)]),
        7025
    );
}

#[test]
fn a_reference_that_is_no_path_is_refused() {
    let mut bench = Bench::new();
    let params: Params<'_> = &[("ReferenceList", "Device.X_Test.Label,no path", true)];
    assert_eq!(
        create_error(&mut bench, &[("Device.LocalAgent.Subscription.", params)]),
        7021
    );
}

#[test]
fn the_number_of_subscriptions_is_bounded() {
    let mut settings = crate::bench::settings();
    settings.limits.max_subscriptions = 2;
    let mut bench = Bench::started(
        settings,
        homefleet_agent::store::Store::in_memory().unwrap(),
    );
    bench.add("Device.LocalAgent.Subscription.", &[("ID", "one")]);
    let params: Params<'_> = &[("ID", "two", true)];
    assert_eq!(
        create_error(&mut bench, &[("Device.LocalAgent.Subscription.", params)]),
        7005
    );
    assert_eq!(
        bench.value("Device.LocalAgent.SupportedNumberOfSubscriptions"),
        "2"
    );
}

#[test]
fn a_table_has_a_bound() {
    let mut bench = Bench::new();
    for number in 0..256 {
        bench.add("Device.X_Test.Item.", &[("Name", &format!("n{number}"))]);
    }
    let one_more = create_object("Device.X_Test.Item.", [("Name", "more", true)]);
    let (code, _) = bench.ask_error(add(false, vec![one_more]));
    assert_eq!(code, 7005);
}
