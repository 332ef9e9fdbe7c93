//! The supported data model.

use homefleet_model::{
    schema::{Command, Event, Object, ObjectAccess, Param, Schema, SchemaError},
    value::Type,
};

use crate::fixture::{param, schema};

#[test]
fn objects_are_found_by_supported_and_by_concrete_path() {
    let schema = schema();
    for path in [
        "Device.IP.Interface.{i}.",
        "Device.IP.Interface.7.",
        "Device.IP.Interface.",
    ] {
        let object = schema.object(path).unwrap();
        assert_eq!(
            (object.path(), object.name(), object.is_table()),
            ("Device.IP.Interface.{i}.", "Interface", true)
        );
    }
    assert_eq!(
        schema
            .object("Device.IP.Interface.7.Stats.")
            .unwrap()
            .path(),
        "Device.IP.Interface.{i}.Stats."
    );
    for path in [
        "Device.IP.Interface.0.",
        "Device.IP",
        "Device.Nothing.",
        "Devices.",
        "Device.IP.1.",
        "",
    ] {
        assert!(schema.object(path).is_none(), "{path}");
    }
    assert_eq!(
        schema
            .param(&param("Device.IP.Interface.9.Name"))
            .unwrap()
            .name,
        "Name"
    );
    assert!(
        schema
            .param(&param("Device.IP.Interface.9.Nothing"))
            .is_none()
    );
    let interface = schema.object("Device.IP.Interface.{i}.").unwrap();
    assert!(interface.command("Reset()").unwrap().is_async);
    assert_eq!(schema.root().event("Boot!").unwrap().args, ["Cause"]);
}

#[test]
fn objects_above_a_named_one_are_made_and_everything_is_listed_depth_first() {
    let schema = schema();
    let paths: Vec<&str> = schema.iter().map(|object| object.path()).collect();
    assert_eq!(
        paths,
        [
            "Device.",
            "Device.DeviceInfo.",
            "Device.IP.",
            "Device.IP.Interface.{i}.",
            "Device.IP.Interface.{i}.Stats.",
            "Device.IP.Interface.{i}.IPv4Address.{i}.",
            "Device.NAT.",
            "Device.NAT.PortMapping.{i}.",
            "Device.WiFi.",
            "Device.WiFi.SSID.{i}.",
            "Device.LocalAgent.",
            "Device.LocalAgent.Subscription.{i}.",
            "Device.LocalAgent.Fixed.{i}.",
        ]
    );
    let below: Vec<&str> = schema
        .children(schema.object("Device.IP.Interface.{i}.").unwrap())
        .map(|o| o.name())
        .collect();
    assert_eq!(below, ["Stats", "IPv4Address"]);
}

const A: Param = Param::ro("A", Type::Int);

#[test]
fn tables_that_name_one_object_are_united() {
    static ONE: &[Object] = &[Object {
        path: "Device.X.",
        params: &[A],
        ..Object::EMPTY
    }];
    static TWO: &[Object] = &[Object {
        path: "Device.X.",
        params: &[Param::rw("B", Type::Int)],
        ..Object::EMPTY
    }];
    let schema = Schema::new(&[ONE, TWO]).unwrap();
    let names: Vec<&str> = schema
        .object("Device.X.")
        .unwrap()
        .params()
        .iter()
        .map(|param| param.name)
        .collect();
    assert_eq!(names, ["A", "B"]);
    assert!(matches!(
        Schema::new(&[ONE, ONE]),
        Err(SchemaError::Twice { name: "A", .. })
    ));
}

#[test]
fn tables_that_do_not_fit_are_refused() {
    static CASES: &[(&[Object], &str)] = &[
        (&[], "no object"),
        (
            &[Object {
                path: "Device.X",
                ..Object::EMPTY
            }],
            "\"Device.X\" is no object path",
        ),
        (
            &[Object {
                path: "Device.{i}.",
                ..Object::EMPTY
            }],
            "\"Device.{i}.\" is no object path",
        ),
        (
            &[Object {
                path: "Device.{i}.X.",
                ..Object::EMPTY
            }],
            "\"Device.{i}.X.\" is no object path",
        ),
        (
            &[
                Object {
                    path: "Device.X.",
                    ..Object::EMPTY
                },
                Object {
                    path: "Device.X.{i}.",
                    ..Object::EMPTY
                },
            ],
            "\"Device.X.{i}.\" is no object path",
        ),
        (
            &[
                Object {
                    path: "Device.X.",
                    ..Object::EMPTY
                },
                Object {
                    path: "Other.Y.",
                    ..Object::EMPTY
                },
            ],
            "Other. is under another root than Device.",
        ),
        (
            &[Object {
                path: "Device.X.{i}.",
                unique_keys: &[&["B"]],
                params: &[A],
                ..Object::EMPTY
            }],
            "Device.X.{i}.: unique key B is no parameter of it",
        ),
        (
            &[Object {
                path: "Device.X.",
                params: &[Param::ro("A", Type::Int).default("x")],
                ..Object::EMPTY
            }],
            "Device.X.A: the default \"x\" is no value of it",
        ),
        (
            &[Object {
                path: "Device.X.",
                commands: &[Command {
                    name: "Do",
                    is_async: false,
                    input: &[],
                    output: &[],
                }],
                ..Object::EMPTY
            }],
            "Device.X.: \"Do\" is no name here",
        ),
        (
            &[Object {
                path: "Device.X.",
                events: &[Event {
                    name: "Up",
                    args: &[],
                }],
                ..Object::EMPTY
            }],
            "Device.X.: \"Up\" is no name here",
        ),
        (
            &[
                Object {
                    path: "Device.X.{i}.",
                    ..Object::EMPTY
                },
                Object {
                    path: "Device.X.{i}.",
                    access: ObjectAccess::AddDelete,
                    ..Object::EMPTY
                },
            ],
            "Device.X.{i}. is defined twice with different access or unique keys",
        ),
    ];
    for (objects, message) in CASES {
        assert_eq!(Schema::new(&[objects]).unwrap_err().to_string(), *message);
    }
}
