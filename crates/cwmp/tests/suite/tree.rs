//! The parameter RPCs on a tree.

use std::sync::Arc;

use homefleet_cwmp::{message::GetParameterNames, tree::*, *};
use homefleet_model::{
    schema::{Object, ObjectAccess, Param, Schema},
    tree::{Limits as TreeLimits, Tree},
    value::Type,
};

static OBJECTS: &[Object] = &[
    Object {
        path: "Device.DeviceInfo.",
        params: &[
            Param::ro("UpTime", Type::UnsignedInt),
            Param::rw("FriendlyName", Type::string(8)).default("box"),
            Param::rw("Password", Type::STRING).secret(),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.Hosts.Host.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["Name"]],
        params: &[
            Param::rw("Name", Type::string(16)),
            Param::rw("Size", Type::UnsignedIntIn(64, 1500)).default("1500"),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.Ports.Port.{i}.",
        params: &[Param::rw("Enable", Type::Boolean)],
        ..Object::EMPTY
    },
];

fn tree() -> Tree {
    let limits = TreeLimits::default();
    let mut tree = Tree::with_limits(Arc::new(Schema::new(&[OBJECTS]).unwrap()), limits);
    tree.ensure_instance(&"Device.Ports.Port.1.".parse().unwrap())
        .unwrap();
    tree.set_text("Device.DeviceInfo.UpTime", 7).unwrap();
    tree
}

fn names(path: &str, next_level: bool) -> Result<Vec<(String, bool)>, FaultCode> {
    let request = GetParameterNames {
        path: path.to_owned(),
        next_level,
    };
    let infos = get_names(&tree(), &request, 100).map_err(|fault| fault.code)?;
    Ok(infos
        .iter()
        .map(|(name, writable)| (name.to_owned(), writable))
        .collect())
}

fn own(all: &[(&str, bool)]) -> Result<Vec<(String, bool)>, FaultCode> {
    Ok(all
        .iter()
        .map(|(name, writable)| ((*name).to_owned(), *writable))
        .collect())
}

fn values(all: &[(&str, ValueType, &str)]) -> ParameterValues {
    all.iter().copied().collect()
}

#[test]
fn values_are_read_by_name_and_by_path_and_secrets_are_empty() {
    let mut tree = tree();
    tree.set_text("Device.DeviceInfo.Password", "hidden")
        .unwrap();
    let read = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        get_values(&tree, &names, 100).map_err(|fault| fault.code)
    };
    let info = values(&[
        ("Device.DeviceInfo.UpTime", ValueType::UnsignedInt, "7"),
        ("Device.DeviceInfo.FriendlyName", ValueType::String, "box"),
        ("Device.DeviceInfo.Password", ValueType::String, ""),
    ]);
    assert_eq!(read(&["Device.DeviceInfo."]), Ok(info.clone()));
    let up = values(&[("Device.DeviceInfo.UpTime", ValueType::UnsignedInt, "7")]);
    assert_eq!(read(&["Device.DeviceInfo.UpTime"]), Ok(up));
    assert_eq!(
        read(&["Device.Hosts.Host."]),
        Ok(values(&[])),
        "an empty table"
    );
    let whole = read(&[""]).unwrap();
    assert_eq!(whole.len(), 4);
    assert_eq!(whole, read(&["Device."]).unwrap());
    for wrong in [
        "Device.DeviceInfo.Nothing",
        "Device.Nothing.",
        "Device.Hosts.Host.1.",
        "Device.Hosts",
        "Device..",
        "x",
        ".",
    ] {
        assert_eq!(
            read(&["Device.DeviceInfo.", wrong]),
            Err(FaultCode::INVALID_PARAMETER_NAME),
            "{wrong}"
        );
    }
    let few = get_values(&tree, &[String::new()], 3).unwrap_err();
    assert_eq!(few.code, FaultCode::RESOURCES_EXCEEDED);
    assert_eq!(
        get_values(&tree, &[String::new()], 4).map(|all| all.len()),
        Ok(4)
    );
}

#[test]
fn names_are_listed_whole_or_by_level() {
    assert_eq!(names("", true), own(&[("Device.", false)]));
    let info = [
        ("Device.DeviceInfo.UpTime", false),
        ("Device.DeviceInfo.FriendlyName", true),
        ("Device.DeviceInfo.Password", true),
    ];
    assert_eq!(names("Device.DeviceInfo.", true), own(&info));
    let with_itself = [&[("Device.DeviceInfo.", false)], info.as_slice()].concat();
    assert_eq!(names("Device.DeviceInfo.", false), own(&with_itself));
    assert_eq!(
        names("Device.DeviceInfo.UpTime", false),
        own(&[("Device.DeviceInfo.UpTime", false)])
    );
    assert_eq!(
        names("Device.DeviceInfo.UpTime", true),
        Err(FaultCode::INVALID_ARGUMENTS)
    );
    assert_eq!(
        names("Device.Nothing.", false),
        Err(FaultCode::INVALID_PARAMETER_NAME)
    );
    assert_eq!(
        names("Device.Hosts.", true),
        own(&[("Device.Hosts.Host.", true)]),
        "rows can be added"
    );
    let ports = [
        ("Device.Ports.", false),
        ("Device.Ports.Port.", false),
        ("Device.Ports.Port.1.", false),
        ("Device.Ports.Port.1.Enable", true),
    ];
    assert_eq!(names("Device.Ports.", false), own(&ports));
    assert_eq!(names("", false), names("Device.", false));
    let request = GetParameterNames::default();
    let few = get_names(&tree(), &request, 5).unwrap_err();
    assert_eq!(few.code, FaultCode::RESOURCES_EXCEEDED);
}

#[test]
fn values_are_set_all_or_none_and_each_fault_is_told() {
    let mut tree = tree();
    let mut transaction = tree.transaction();
    let right = values(&[
        ("Device.DeviceInfo.FriendlyName", ValueType::String, "desk"),
        ("Device.Ports.Port.1.Enable", ValueType::Boolean, "1"),
    ]);
    assert_eq!(set_values(&mut transaction, &right), Ok(()));
    let wrong = values(&[
        ("Device.DeviceInfo.FriendlyName", ValueType::String, "shelf"),
        ("Device.Ports.Port.1.Enable", ValueType::Int, "0"),
        ("Device.Ports.Port.2.Enable", ValueType::Boolean, "0"),
        ("Device.DeviceInfo.UpTime", ValueType::UnsignedInt, "1"),
        ("Device.DeviceInfo.Password", ValueType::String, "s3cret"),
        ("Device.Ports.", ValueType::String, ""),
    ]);
    let fault = set_values(&mut transaction, &wrong).unwrap_err();
    assert_eq!(fault.code, FaultCode::INVALID_ARGUMENTS);
    let told: Vec<_> = fault
        .parameters
        .iter()
        .map(|one| (one.name.as_str(), one.code.0))
        .collect();
    assert_eq!(
        told,
        [
            ("Device.Ports.Port.1.Enable", 9006),
            ("Device.Ports.Port.2.Enable", 9005),
            ("Device.DeviceInfo.UpTime", 9008),
            ("Device.Ports.", 9005),
        ]
    );
    transaction.commit().unwrap();
    assert_eq!(tree.text("Device.DeviceInfo.FriendlyName"), Some("desk"));
    assert_eq!(tree.text("Device.Ports.Port.1.Enable"), Some("true"));
}

#[test]
fn a_value_that_the_parameter_does_not_take_is_told_without_its_text() {
    let mut tree = tree();
    let mut transaction = tree.transaction();
    let cases = [
        (
            "Device.DeviceInfo.FriendlyName",
            ValueType::String,
            "much too long",
            9007,
        ),
        (
            "Device.Ports.Port.1.Enable",
            ValueType::String,
            "perhaps",
            9006,
        ),
        (
            "Device.Ports.Port.1.Enable",
            ValueType::Boolean,
            "perhaps",
            9006,
        ),
    ];
    for (name, kind, text, code) in cases {
        let fault = set_values(&mut transaction, &values(&[(name, kind, text)])).unwrap_err();
        assert_eq!(fault.parameters[0].code.0, code, "{text}");
        assert!(!format!("{fault:?}").contains(text));
    }
    let untyped = values(&[("Device.Ports.Port.1.Enable", ValueType::String, "true")]);
    assert_eq!(
        set_values(&mut transaction, &untyped),
        Ok(()),
        "a type that was left out"
    );
}

#[test]
fn a_name_that_stands_twice_is_refused() {
    let mut tree = tree();
    let mut transaction = tree.transaction();
    let twice = values(&[
        ("Device.DeviceInfo.FriendlyName", ValueType::String, "a"),
        ("Device.Ports.Port.1.Enable", ValueType::Boolean, "1"),
        ("Device.DeviceInfo.FriendlyName", ValueType::String, "a"),
    ]);
    let fault = set_values(&mut transaction, &twice).unwrap_err();
    assert_eq!(
        (fault.code, fault.parameters.len()),
        (FaultCode::INVALID_ARGUMENTS, 0)
    );
}

#[test]
fn rows_are_added_and_deleted_where_they_may_be() {
    let mut tree = tree();
    let mut transaction = tree.transaction();
    let (row, number) = add_object(&mut transaction, "Device.Hosts.Host.").unwrap();
    assert_eq!((row.as_str(), number), ("Device.Hosts.Host.1.", 1));
    let (_, number) = add_object(&mut transaction, "Device.Hosts.Host.").unwrap();
    assert_eq!(number, 2);
    let name = |row: u32, name: &str| {
        let path = format!("Device.Hosts.Host.{row}.Name");
        [(path, ValueType::String, name.to_owned())]
            .into_iter()
            .collect::<ParameterValues>()
    };
    assert_eq!(set_values(&mut transaction, &name(1, "a")), Ok(()));
    let fault = set_values(&mut transaction, &name(2, "a")).unwrap_err();
    assert_eq!(fault.code, FaultCode::INVALID_ARGUMENTS, "the key is taken");
    assert_eq!(set_values(&mut transaction, &name(2, "b")), Ok(()));
    for wrong in [
        "Device.Ports.Port.",
        "Device.Hosts.",
        "Device.Hosts.Host",
        "Device.Nothing.",
        "Device.Hosts.Host.[a].",
        "",
    ] {
        let fault = add_object(&mut transaction, wrong).unwrap_err();
        assert_eq!(fault.code, FaultCode::INVALID_PARAMETER_NAME, "{wrong}");
    }
    assert_eq!(
        delete_object(&mut transaction, "Device.Hosts.Host.1."),
        Ok(())
    );
    for wrong in [
        "Device.Hosts.Host.1.",
        "Device.Hosts.Host.",
        "Device.Ports.Port.1.",
        "Device.Hosts.Host.2",
        "Device.",
    ] {
        let fault = delete_object(&mut transaction, wrong).unwrap_err();
        assert_eq!(fault.code, FaultCode::INVALID_PARAMETER_NAME, "{wrong}");
    }
    transaction.commit().unwrap();
    let listed = parameters(&tree, "Device.Hosts.", 10).unwrap();
    assert_eq!(
        listed,
        ["Device.Hosts.Host.2.Name", "Device.Hosts.Host.2.Size"]
    );
    let names = GetParameterNames {
        path: "Device.Hosts.Host.2.".to_owned(),
        next_level: false,
    };
    let infos = get_names(&tree, &names, 10).unwrap();
    assert_eq!(
        infos.iter().next(),
        Some(("Device.Hosts.Host.2.", true)),
        "it can be deleted"
    );
}
