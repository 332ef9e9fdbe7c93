//! GetSupportedDM (R-GSP.0) and GetSupportedProtocol.

use homefleet_usp::{
    message::{Response, get_supported_dm, get_supported_protocol},
    proto::msg::{
        GetSupportedDm,
        get_supported_dm_resp::{
            CmdType, ObjAccessType, ParamAccessType, ParamValueType, RequestedObjectResult,
            ValueChangeType,
        },
    },
};

use crate::bench::Bench;

fn one(bench: &mut Bench, path: &str, first_level_only: bool) -> RequestedObjectResult {
    match bench.ask(get_supported_dm([path], first_level_only)) {
        Response::GetSupportedDmResp(mut response) => response.req_obj_results.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn objects_params_commands_events_and_keys_are_told() {
    let mut bench = Bench::new();
    let result = one(&mut bench, "Device.X_Test.", false);
    assert_eq!(
        result.data_model_inst_uri,
        "urn:broadband-forum-org:tr-181-2-16-0-usp"
    );
    let paths: Vec<&str> = result
        .supported_objs
        .iter()
        .map(|object| object.supported_obj_path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "Device.X_Test.",
            "Device.X_Test.Item.{i}.",
            "Device.X_Test.Item.{i}.Stats.",
            "Device.X_Test.Row.{i}."
        ]
    );
    let test = &result.supported_objs[0];
    let param = |name: &str| {
        test.supported_params
            .iter()
            .find(|param| param.param_name == name)
            .unwrap()
    };
    assert_eq!(param("Counter").access(), ParamAccessType::ParamReadOnly);
    assert_eq!(
        param("Counter").value_type(),
        ParamValueType::ParamUnsignedInt
    );
    assert_eq!(
        param("Counter").value_change(),
        ValueChangeType::ValueChangeAllowed
    );
    assert_eq!(
        param("Clock").value_change(),
        ValueChangeType::ValueChangeWillIgnore
    );
    assert_eq!(param("Label").access(), ParamAccessType::ParamReadWrite);
    let slow = test
        .supported_commands
        .iter()
        .find(|command| command.command_name == "Slow()")
        .unwrap();
    assert_eq!(
        (slow.command_type(), slow.input_arg_names.as_slice()),
        (CmdType::CmdAsync, &["Text".to_owned()][..])
    );
    assert_eq!(test.supported_events[0].event_name, "Alarm!");
    assert_eq!(test.supported_events[0].arg_names, ["Reason"]);
    let item = &result.supported_objs[1];
    assert!(item.is_multi_instance && !test.is_multi_instance);
    assert_eq!(item.access(), ObjAccessType::ObjAddDelete);
    let keys: Vec<_> = item
        .unique_key_sets
        .iter()
        .map(|set| set.key_names.join("+"))
        .collect();
    assert_eq!(keys, ["Name", "Alias"]);
}

#[test]
fn first_level_only_names_the_children_without_what_they_hold() {
    let mut bench = Bench::new();
    let result = one(&mut bench, "Device.X_Test.", true);
    assert_eq!(result.supported_objs.len(), 3);
    assert!(!result.supported_objs[0].supported_params.is_empty());
    let bare = |at: usize| {
        let object = &result.supported_objs[at];
        object.supported_params.is_empty()
            && object.supported_commands.is_empty()
            && object.unique_key_sets.is_empty()
    };
    assert!(bare(1) && bare(2));
}

#[test]
fn the_last_instance_placeholder_may_be_left_out_or_be_an_instance() {
    let mut bench = Bench::new();
    bench.add("Device.X_Test.Item.", &[("Name", "a")]);
    for path in [
        "Device.X_Test.Item.{i}.",
        "Device.X_Test.Item.",
        "Device.X_Test.Item.1.",
    ] {
        let result = one(&mut bench, path, true);
        assert_eq!(
            result.supported_objs[0].supported_obj_path, "Device.X_Test.Item.{i}.",
            "{path}"
        );
        assert_eq!(result.supported_objs.len(), 2);
    }
    assert_eq!(
        one(&mut bench, "Device.X_Test.Item.7.", true).err_code,
        7016
    );
}

#[test]
fn a_param_command_or_event_path_tells_that_alone() {
    let mut bench = Bench::new();
    let counts = |result: &RequestedObjectResult| {
        let object = &result.supported_objs[0];
        (
            object.supported_params.len(),
            object.supported_commands.len(),
            object.supported_events.len(),
        )
    };
    assert_eq!(
        counts(&one(&mut bench, "Device.X_Test.Label", false)),
        (1, 0, 0)
    );
    assert_eq!(
        counts(&one(&mut bench, "Device.X_Test.Echo()", false)),
        (0, 1, 0)
    );
    assert_eq!(
        counts(&one(&mut bench, "Device.X_Test.Alarm!", false)),
        (0, 0, 1)
    );
}

#[test]
fn only_what_is_asked_for_is_returned() {
    let mut bench = Bench::new();
    let request = GetSupportedDm {
        obj_paths: vec!["Device.X_Test.".into()],
        return_events: true,
        ..Default::default()
    };
    let Response::GetSupportedDmResp(response) = bench.ask(request) else {
        panic!()
    };
    let object = &response.req_obj_results[0].supported_objs[0];
    assert_eq!(
        (
            object.supported_params.len(),
            object.supported_commands.len(),
            object.supported_events.len()
        ),
        (0, 0, 1)
    );
}

#[test]
fn what_is_not_supported_is_7026() {
    let mut bench = Bench::new();
    for path in [
        "Device.Nothing.",
        "Device.X_Test.Nope",
        "Device.X_Test.Item.*.",
    ] {
        assert_eq!(one(&mut bench, path, false).err_code, 7026, "{path}");
    }
    assert_eq!(one(&mut bench, "nonsense", false).err_code, 7008);
}

#[test]
fn the_protocol_versions_are_told() {
    let mut bench = Bench::new();
    let Response::GetSupportedProtocolResp(response) = bench.ask(get_supported_protocol("1.2,1.4"))
    else {
        panic!()
    };
    assert_eq!(
        response.agent_supported_protocol_versions,
        "1.0,1.1,1.2,1.3,1.4"
    );
}
