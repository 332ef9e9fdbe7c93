//! The path grammar, TR-369 §2.6.

use homefleet_model::path::{
    Constant, Item, MAX_LENGTH, ObjectPath, ParamPath, Path, PathError, PathErrorKind, Segment,
    Target,
};
use proptest::prelude::*;

use crate::fixture::{object, param};

#[test]
fn every_kind_of_path_is_parsed_and_shown_again() {
    for text in [
        "Device.",
        "Device.IP.",
        "Device.IP.Interface.",
        "Device.IP.Interface.3.",
        "Device.IP.Interface.3.Name",
        "Device.IP.Interface.*.",
        "Device.IP.Interface.*.Type",
        "Device.IP.Interface.[Name==\"eth0\"].IPv4Address.[Status==\"Enabled\"].IPAddress",
        "Device.NAT.PortMapping.[RemoteHost==\"\"&&ExternalPort==0&&Protocol==\"TCP\"].",
        "Device.IP.Interface.[Type==\"Normal\"&&Stats.ErrorsSent>0].Status",
        "Device.DSL.Line.[Enable==true].CurrentProfile",
        "Device.DSL.Line.[Enable==1].CurrentProfile",
        "Device.IP.Interface.*.IPv6Address.[ValidLifetime<2021-06-06T08:00:00Z].IPAddress",
        "Device.USB.USBHosts.Host.*.Device.[DeviceClass==08].",
        "Device.PCP.Client.*.Server.[Capabilities~=\"IPv6Firewall\"].",
        "Device.PeriodicStatistics.SampleSet.[SampleSeconds~=5].",
        "Device.X.[A<1&&B<=2&&C>3&&D>=-4&&E!=\"x\"].",
        "Device.NAT.PortMapping.1.Interface+.Name",
        "Device.NAT.PortMapping.1.Interface+.",
        "Device.WiFi.SSID.1.LowerLayers#2+.Name",
        "Device.WiFi.SSID.1.LowerLayers#*+.Name",
        "Device.WiFi.AccessPoint.[SSIDReference+.SSID==\"MyHome\"].AssociatedDevice.*.SignalStrength",
        "Device.IP.Interface.[Name==\"eth0\"].Reset()",
        "Device.Boot!",
        "Device.X_00256D-".trim_end_matches('-'),
    ] {
        let path = Path::parse(text).unwrap();
        assert_eq!(path.to_string(), text);
    }
}

#[test]
fn the_parts_of_a_path_are_told_apart() {
    let path = Path::parse("Device.A.2.B.[C.D~=\"x%22%25\"].Ref#3+.E.Do()").unwrap();
    let [
        Segment::Name(_),
        Segment::Name(a),
        Segment::Instance(2),
        Segment::Name(_),
        Segment::Search(search),
        rest @ ..,
    ] = path.segments()
    else {
        panic!("{path:?}");
    };
    assert_eq!(a, "A");
    assert_eq!(search[0].parameter.to_string(), "C.D");
    assert_eq!(search[0].constant, Constant::Quoted("x\"%".to_owned()));
    assert!(
        matches!(rest, [Segment::Follow { param, item: Item::Number(3) }, Segment::Name(_)] if param == "Ref")
    );
    assert_eq!(path.target(), &Target::Command("Do()".to_owned()));
    assert!(path.is_search());
    assert!(!Path::parse("Device.A.2.Ref+.B").unwrap().is_search());
    assert_eq!(
        Path::parse("Device.Boot!").unwrap().target(),
        &Target::Event("Boot!".to_owned())
    );
}

#[test]
fn white_space_around_an_operator_is_tolerated() {
    let spaced =
        Path::parse("Device.IP.Interface.[ Type == \"Normal\" && Stats.ErrorsSent  >  0 ].")
            .unwrap();
    assert_eq!(
        spaced.to_string(),
        "Device.IP.Interface.[Type==\"Normal\"&&Stats.ErrorsSent>0]."
    );
}

#[test]
fn the_first_list_item_is_followed_when_none_is_given() {
    assert_eq!(
        Path::parse("Device.A.Ref+.").unwrap(),
        Path::parse("Device.A.Ref#1+.").unwrap()
    );
}

#[test]
fn a_wrong_path_tells_the_offset() {
    use PathErrorKind as Kind;
    for (text, offset, kind) in [
        ("", 0, Kind::Empty),
        (".", 0, Kind::ExpectedName),
        ("Device", 6, Kind::ExpectedDot),
        ("Device.1.", 8, Kind::UnexpectedInstance),
        ("Device.*.", 8, Kind::UnexpectedInstance),
        ("Device..", 7, Kind::ExpectedSegment),
        ("Device.IP..Name", 10, Kind::ExpectedSegment),
        ("Device.IP.Interface.1", 21, Kind::ExpectedDot),
        ("Device.IP.Interface.1.2.", 23, Kind::UnexpectedInstance),
        ("Device.IP.Interface.0.", 20, Kind::InstanceNumber),
        ("Device.IP.Interface.01.", 20, Kind::InstanceNumber),
        ("Device.IP.Interface.4294967296.", 20, Kind::InstanceNumber),
        ("Device.IP.Interface.{i}.", 20, Kind::ExpectedSegment),
        (
            "Device.IP.Interface.{Type==\"Normal\"}.Status",
            20,
            Kind::ExpectedSegment,
        ),
        ("Device.IP.Interface.[].", 21, Kind::EmptyExpression),
        ("Device.IP.Interface.[A].", 22, Kind::ExpectedOperator),
        ("Device.IP.Interface.[A=1].", 22, Kind::ExpectedOperator),
        ("Device.IP.Interface.[A==].", 24, Kind::ExpectedConstant),
        ("Device.IP.Interface.[A==\"x].", 24, Kind::UnclosedString),
        ("Device.IP.Interface.[A==\"%zz\"].", 25, Kind::Escape),
        (
            "Device.IP.Interface.[A==1&B==2].",
            25,
            Kind::UnclosedExpression,
        ),
        (
            "Device.IP.Interface.[A==1||B==2].",
            25,
            Kind::UnclosedExpression,
        ),
        ("Device.IP.Interface.[A==1", 25, Kind::UnclosedExpression),
        ("Device.IP.Interface.[B.*.A==1].", 23, Kind::ExpectedName),
        ("Device.A.Ref#+.", 13, Kind::ExpectedFollow),
        ("Device.A.Ref#0+.", 13, Kind::ExpectedFollow),
        ("Device.A.Ref#2.", 14, Kind::ExpectedFollow),
        ("Device.A.Ref+", 13, Kind::ExpectedDot),
        ("Device.Reboot(", 13, Kind::ExpectedCommand),
        ("Device.Reboot().", 15, Kind::Trailing),
        ("Device.Boot!x", 12, Kind::Trailing),
        ("Device.Na me", 9, Kind::ExpectedDot),
        ("Device.Größe", 9, Kind::ExpectedDot),
    ] {
        assert_eq!(Path::parse(text), Err(PathError { offset, kind }), "{text}");
    }
    let error = Path::parse("Device.IP.Interface.1").unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.code()),
        ("expected a '.' at offset 21", 7008)
    );
}

#[test]
fn length_depth_and_conditions_are_bounded() {
    let long = format!("Device.{}", "A".repeat(MAX_LENGTH));
    assert_eq!(Path::parse(&long).unwrap_err().kind, PathErrorKind::TooLong);
    let deep = format!("Device.{}", "A.".repeat(40));
    assert_eq!(Path::parse(&deep).unwrap_err().kind, PathErrorKind::TooDeep);
    let wide = format!("Device.A.[{}].", vec!["A==1"; 17].join("&&"));
    assert_eq!(
        Path::parse(&wide).unwrap_err().kind,
        PathErrorKind::TooManyConditions
    );
    let nested = format!("Device.A.[{}A==1].", "B.".repeat(40));
    assert_eq!(
        Path::parse(&nested).unwrap_err().kind,
        PathErrorKind::TooDeep
    );
}

#[test]
fn a_reference_value_needs_no_trailing_dot() {
    let path = Path::parse_reference("Device.IP.Interface.1").unwrap();
    assert_eq!(path.to_object().unwrap(), object("Device.IP.Interface.1."));
    let by_key = Path::parse_reference("Device.IP.Interface.[Name==\"eth0\"]").unwrap();
    assert!(by_key.to_object().is_none());
}

#[test]
fn concrete_paths_take_names_and_instance_numbers_only() {
    let row = object("Device.IP.Interface.12.");
    assert_eq!(row.instance(), Some(12));
    assert_eq!(row.parent(), Some(object("Device.IP.Interface.")));
    assert_eq!(row.supported(), "Device.IP.Interface.{i}.");
    assert_eq!(row.param("Name"), param("Device.IP.Interface.12.Name"));
    assert_eq!(row.param("Name").object(), row);
    assert_eq!(
        row.child("Stats").to_reference(),
        "Device.IP.Interface.12.Stats"
    );
    assert_eq!(ObjectPath::root().parent(), None);
    assert!(row.starts_with(&object("Device.IP.")));
    for text in [
        "Device.IP.Interface.*.",
        "Device.IP.Interface.[A==1].",
        "Device.A+.",
        "Device.IP.Name",
        "Device.Boot!",
    ] {
        assert!(text.parse::<ObjectPath>().is_err(), "{text}");
    }
    assert!("Device.IP.".parse::<ParamPath>().is_err());
    let mut paths = vec![
        object("Device.A.10."),
        object("Device.A.9."),
        object("Device.A.9.B."),
    ];
    paths.sort();
    assert_eq!(
        paths,
        [
            object("Device.A.9."),
            object("Device.A.9.B."),
            object("Device.A.10.")
        ]
    );
}

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z_][A-Za-z0-9_]{0,8}"
}

fn constant() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~äß€]{0,12}"
            .prop_map(|text| format!("\"{}\"", text.replace('%', "%25").replace('"', "%22"))),
        "(-?[1-9][0-9]{0,5}|0|true|false|2021-06-06T08:00:00Z)",
    ]
}

fn step() -> impl Strategy<Value = String> {
    let operator = prop::sample::select(vec!["==", "!=", "~=", "<", ">", "<=", ">="]);
    let condition =
        (name(), name(), operator, constant()).prop_map(|(object, param, operator, constant)| {
            format!("{object}.{param}{operator}{constant}")
        });
    prop_oneof![
        3 => name().prop_map(|name| format!("{name}.")),
        1 => (name(), 1..u32::MAX).prop_map(|(name, number)| format!("{name}.{number}.")),
        1 => name().prop_map(|name| format!("{name}.*.")),
        1 => (name(), 2..99_u32).prop_map(|(name, item)| format!("{name}#{item}+.")),
        1 => name().prop_map(|name| format!("{name}#*+.")),
        2 => (name(), prop::collection::vec(condition, 1..4))
            .prop_map(|(name, conditions)| format!("{name}.[{}].", conditions.join("&&"))),
    ]
}

proptest! {
    #[test]
    fn paths_of_the_grammar_round_trip(steps in prop::collection::vec(step(), 0..8), last in "([A-Z][a-z]{0,5}(\\(\\)|!)?)?") {
        let text = format!("Device.{}{last}", steps.concat());
        let path = Path::parse(&text).unwrap();
        prop_assert_eq!(path.to_string(), text);
    }

    #[test]
    fn any_text_is_a_path_or_an_error_within_it(text in "[Device.*\\[\\]=&\"0-9#+()! ~<>%{}-]{0,60}") {
        if let Err(error) = Path::parse(&text) {
            prop_assert!(error.offset <= text.len());
        }
    }
}
