//! The parameter RPCs on the tree, under either root (TR-069 A.3.2).

use homefleet_cwmp::{
    Message, ValueType,
    message::{AddObject, DeleteObject},
};

use super::{call, fault, gateway, get, names, set, settled, value};

fn infos(answer: Message) -> Vec<(String, bool)> {
    let Message::GetParameterNamesResponse(response) = answer else {
        panic!("{answer:?}")
    };
    let infos = response.infos.iter();
    infos
        .map(|(name, writable)| (name.to_owned(), writable))
        .collect()
}

#[test]
fn values_are_read_with_their_types_and_secrets_are_empty() {
    let mut bench = settled();
    bench.system.lock().unwrap().counter = 7;
    let Message::GetParameterValuesResponse(response) = call(&mut bench, get("Device.X_Test."))
    else {
        panic!("no values")
    };
    let value = |name: &str| {
        response
            .values
            .value(&format!("Device.X_Test.{name}"))
            .unwrap()
    };
    assert_eq!(
        (value("Counter").kind, value("Counter").text),
        (ValueType::UnsignedInt, "7")
    );
    call(
        &mut bench,
        set(&[("Device.X_Test.Password", ValueType::String, "hidden")]),
    );
    assert_eq!(super::value(&mut bench, "Device.X_Test.Password"), "");
    let refused = call(&mut bench, get("Device.X_Test.Nowhere"));
    assert_eq!(fault(refused).code.0, 9005);
}

#[test]
fn a_set_changes_all_or_nothing_and_names_every_mistake() {
    let mut bench = settled();
    let answer = call(
        &mut bench,
        set(&[
            ("Device.X_Test.Label", ValueType::String, "here"),
            ("Device.X_Test.Level", ValueType::UnsignedInt, "99"),
            ("Device.X_Test.Counter", ValueType::UnsignedInt, "1"),
            ("Device.X_Test.Nowhere", ValueType::String, ""),
            ("Device.X_Test.Stubborn", ValueType::String, "moved"),
            ("Device.LocalAgent.EndpointID", ValueType::String, "me"),
        ]),
    );
    let fault = fault(answer);
    assert_eq!(fault.code.0, 9003);
    let found: Vec<(&str, u32)> = fault
        .parameters
        .iter()
        .map(|one| (one.name.as_str(), one.code.0))
        .collect();
    assert_eq!(
        found,
        [
            ("Device.X_Test.Level", 9007),
            ("Device.X_Test.Counter", 9008),
            ("Device.X_Test.Nowhere", 9005),
            ("Device.X_Test.Stubborn", 9007),
            ("Device.LocalAgent.EndpointID", 9005),
        ]
    );
    assert_eq!(value(&mut bench, "Device.X_Test.Label"), "");
    assert_eq!(
        value(&mut bench, "Device.ManagementServer.ParameterKey"),
        ""
    );
    let wrong = set(&[("Device.X_Test.Level", ValueType::Boolean, "1")]);
    let fault = super::fault(call(&mut bench, wrong));
    assert_eq!(fault.parameters[0].code.0, 9006);
    let twice = ("Device.X_Test.Label", ValueType::String, "a");
    let fault = super::fault(call(&mut bench, set(&[twice, twice])));
    assert_eq!((fault.code.0, fault.parameters.len()), (9003, 0));
}

#[test]
fn a_set_reaches_the_system_and_leaves_its_key() {
    let mut bench = settled();
    let answer = call(
        &mut bench,
        set(&[("Device.X_Test.Level", ValueType::UnsignedInt, "7")]),
    );
    assert!(matches!(answer, Message::SetParameterValuesResponse(_)));
    let applied = bench.system.lock().unwrap().applied.clone();
    assert!(applied.contains(&("Device.X_Test.Level".into(), "7".into())));
    assert_eq!(
        value(&mut bench, "Device.ManagementServer.ParameterKey"),
        "key"
    );
}

#[test]
fn rows_are_added_named_and_deleted() {
    let mut bench = settled();
    let object = "Device.X_Test.Item.".to_owned();
    let parameter_key = "added".to_owned();
    let Message::AddObjectResponse(added) = call(
        &mut bench,
        AddObject {
            object,
            parameter_key,
        },
    ) else {
        panic!("not added")
    };
    assert_eq!(added.instance, 1);
    assert_eq!(
        value(&mut bench, "Device.ManagementServer.ParameterKey"),
        "added"
    );
    let found = infos(call(&mut bench, names("Device.X_Test.", true)));
    assert!(found.contains(&("Device.X_Test.Item.".into(), true)));
    assert!(found.contains(&("Device.X_Test.Label".into(), true)));
    assert!(found.contains(&("Device.X_Test.Counter".into(), false)));
    assert!(!found.iter().any(|(name, _)| name.contains("Item.1")));
    let found = infos(call(&mut bench, names("Device.X_Test.Item.", true)));
    assert_eq!(found, [("Device.X_Test.Item.1.".into(), true)]);
    let delete = |object: &str| DeleteObject {
        object: object.into(),
        parameter_key: String::new(),
    };
    let answer = call(&mut bench, delete("Device.X_Test.Item.1."));
    assert!(matches!(answer, Message::DeleteObjectResponse(_)));
    for object in [
        "Device.X_Test.Item.1.",
        "Device.X_Test.",
        "Device.X_Test.Item.1",
    ] {
        let refused = call(&mut bench, delete(object));
        assert_eq!(fault(refused).code.0, 9005, "{object}");
    }
}

#[test]
fn what_only_usp_has_is_not_there_for_an_acs() {
    let mut bench = settled();
    let refused = call(&mut bench, get("Device.LocalAgent."));
    assert_eq!(fault(refused).code.0, 9005);
    for next_level in [false, true] {
        let found = infos(call(&mut bench, names("Device.", next_level)));
        assert!(!found.iter().any(|(name, _)| name.contains("LocalAgent")));
        assert!(
            found
                .iter()
                .any(|(name, _)| name == "Device.ManagementServer.")
        );
    }
    let found = infos(call(&mut bench, names("", true)));
    assert_eq!(found, [("Device.".into(), false)]);
}

#[test]
fn a_gateway_of_tr_098_has_its_names_for_the_same_values() {
    let mut bench = gateway();
    let name = "InternetGatewayDevice.X_Test.Label";
    call(&mut bench, set(&[(name, ValueType::String, "here")]));
    assert_eq!(value(&mut bench, name), "here");
    assert_eq!(bench.value("Device.X_Test.Label"), "here");
    let summary = value(&mut bench, "InternetGatewayDevice.DeviceSummary");
    assert!(summary.starts_with("InternetGatewayDevice:1.4"));
    assert_eq!(
        value(&mut bench, "InternetGatewayDevice.ManagementServer.URL"),
        super::ACS
    );
    for foreign in ["Device.X_Test.Label", "InternetGatewayDevice.LocalAgent."] {
        let refused = call(&mut bench, get(foreign));
        assert_eq!(fault(refused).code.0, 9005, "{foreign}");
    }
    let found = infos(call(&mut bench, names("InternetGatewayDevice.", true)));
    for name in ["DeviceSummary", "ManagementServer.", "X_Test."] {
        let name = format!("InternetGatewayDevice.{name}");
        assert!(
            found.iter().any(|(own, _)| *own == name),
            "{name}: {found:?}"
        );
    }
    let all = infos(call(&mut bench, names("", false)));
    assert!(
        all.iter()
            .all(|(name, _)| name.starts_with("InternetGatewayDevice."))
    );
    let object = "InternetGatewayDevice.X_Test.Item.".to_owned();
    let parameter_key = String::new();
    let added = call(
        &mut bench,
        AddObject {
            object,
            parameter_key,
        },
    );
    assert!(matches!(added, Message::AddObjectResponse(_)));
}
