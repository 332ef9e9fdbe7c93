//! Addressing, searching and reference following, TR-369 §2.5.

use homefleet_model::{
    error::ResolveError,
    tree::{Limits, Tree},
};

use crate::fixture::{object, param, resolve, schema, tree};

#[test]
fn addressing_finds_one_thing() {
    let tree = tree();
    for (path, found) in [
        ("Device.", "Device."),
        ("Device.IP.Interface.", "table Device.IP.Interface."),
        ("Device.IP.Interface.2.", "Device.IP.Interface.2."),
        (
            "Device.IP.Interface.2.Stats.ErrorsSent",
            "Device.IP.Interface.2.Stats.ErrorsSent",
        ),
        ("Device.Reboot()", "Device.Reboot()"),
        ("Device.Boot!", "Device.Boot!"),
    ] {
        assert_eq!(resolve(&tree, path).unwrap(), [found], "{path}");
    }
}

#[test]
fn search_expressions_find_every_row_that_matches() {
    let tree = tree();
    for (path, found) in [
        (
            "Device.IP.Interface.[Type==\"Normal\"].Name",
            vec!["Device.IP.Interface.1.Name"],
        ),
        (
            "Device.IP.Interface.[Type!=\"Tunnel\"].",
            vec!["Device.IP.Interface.1.", "Device.IP.Interface.2."],
        ),
        (
            "Device.IP.Interface.[Stats.ErrorsSent>0].Enable",
            vec!["Device.IP.Interface.2.Enable"],
        ),
        (
            "Device.IP.Interface.[Stats.BytesSent>\"5\"].",
            vec!["Device.IP.Interface.1."],
        ),
        (
            "Device.IP.Interface.[Enable==true&&Stats.BytesSent>=5000000000].",
            vec!["Device.IP.Interface.1."],
        ),
        (
            "Device.IP.Interface.[Enable==0].Reset()",
            vec!["Device.IP.Interface.2.Reset()"],
        ),
        (
            "Device.IP.Interface.[Name==\"lo\"].IPv4Address.[SubnetMask==\"255.0.0.0\"].IPAddress",
            vec!["Device.IP.Interface.2.IPv4Address.1.IPAddress"],
        ),
        (
            "Device.IP.Interface.[ Name == \"lo\" ].IPv4Address.",
            vec!["table Device.IP.Interface.2.IPv4Address."],
        ),
    ] {
        assert_eq!(resolve(&tree, path).unwrap(), found, "{path}");
    }
}

#[test]
fn a_wildcard_finds_every_row() {
    let tree = tree();
    assert_eq!(
        resolve(&tree, "Device.IP.Interface.*.Type").unwrap(),
        ["Device.IP.Interface.1.Type", "Device.IP.Interface.2.Type"]
    );
    assert_eq!(
        resolve(&tree, "Device.IP.Interface.*.IPv4Address.*.").unwrap(),
        [
            "Device.IP.Interface.1.IPv4Address.1.",
            "Device.IP.Interface.2.IPv4Address.1."
        ]
    );
}

#[test]
fn a_search_that_matches_nothing_is_no_error_but_a_wrong_path_is() {
    let tree = tree();
    for path in [
        "Device.NAT.PortMapping.*.Protocol",
        "Device.IP.Interface.[Name==\"wan\"].",
        "Device.IP.Interface.[Name==\"wan\"].IPv4Address.3.IPAddress",
        "Device.IP.Interface.*.IPv4Address.9.",
        "Device.NAT.PortMapping.*.Interface#*+.Name",
    ] {
        assert_eq!(
            resolve(&tree, path).unwrap(),
            Vec::<String>::new(),
            "{path}"
        );
    }
    for path in [
        "Device.Nothing.",
        "Device.Nothing",
        "Devices.",
        "Device.DeviceInfo",
        "Device.DeviceInfo.1.",
        "Device.IP.Interface.Name",
        "Device.IP.Interface.1.Nothing()",
        "Device.Restart!",
        "Device.NAT.PortMapping.*.Nothing",
        "Device.NAT.PortMapping.[Nothing==1].",
        "Device.NAT.PortMapping.[Alias.Nothing==1].",
        "Device.IP.Interface.[IPv4Address.Alias==\"x\"].",
        "Device.NAT.PortMapping.*.Nothing+.",
    ] {
        let error = resolve(&tree, path).unwrap_err();
        assert!(
            matches!(error, ResolveError::Unsupported(_)),
            "{path}: {error}"
        );
        assert_eq!(error.code(), 7026);
    }
    let error = resolve(&tree, "Device.IP.Interface.3.Name").unwrap_err();
    assert_eq!(
        (error.clone(), error.code()),
        (
            ResolveError::NoInstance("Device.IP.Interface.3.".into()),
            7016
        )
    );
}

#[test]
fn a_wrong_expression_is_an_error_also_on_an_empty_table() {
    let tree = tree();
    for path in [
        "Device.IP.Interface.[Enable==\"true\"].",
        "Device.IP.Interface.[Name>\"a\"].",
        "Device.IP.Interface.[Name~=\"eth0\"].",
        "Device.NAT.PortMapping.[ExternalPort==\"many\"].",
        "Device.NAT.PortMapping.[Protocol<=\"TCP\"].",
    ] {
        let error = resolve(&tree, path).unwrap_err();
        assert!(
            matches!(error, ResolveError::Expression { .. }),
            "{path}: {error}"
        );
        assert_eq!(error.code(), 7008);
    }
}

/// A mapping on interface 1, and an SSID above both interfaces.
fn with_references() -> Tree {
    let mut tree = tree();
    let mut transaction = tree.transaction();
    let mapping = transaction.add(&object("Device.NAT.PortMapping.")).unwrap();
    transaction
        .set(&mapping.param("Interface"), "Device.IP.Interface.1")
        .unwrap();
    let ssid = transaction.add(&object("Device.WiFi.SSID.")).unwrap();
    transaction
        .set(
            &ssid.param("LowerLayers"),
            "Device.IP.Interface.1,Device.IP.Interface.2",
        )
        .unwrap();
    transaction.set(&ssid.param("Samples"), "1,5").unwrap();
    transaction
        .set(&ssid.param("Passphrase"), "hidden")
        .unwrap();
    transaction.commit().unwrap();
    tree
}

#[test]
fn references_are_followed() {
    let tree = with_references();
    for (path, found) in [
        (
            "Device.NAT.PortMapping.1.Interface+.Name",
            vec!["Device.IP.Interface.1.Name"],
        ),
        (
            "Device.NAT.PortMapping.1.Interface+.",
            vec!["Device.IP.Interface.1."],
        ),
        (
            "Device.NAT.PortMapping.1.Interface+.Reset()",
            vec!["Device.IP.Interface.1.Reset()"],
        ),
        (
            "Device.NAT.PortMapping.1.Interface+.IPv4Address.1.IPAddress",
            vec!["Device.IP.Interface.1.IPv4Address.1.IPAddress"],
        ),
        (
            "Device.WiFi.SSID.1.LowerLayers+.Name",
            vec!["Device.IP.Interface.1.Name"],
        ),
        (
            "Device.WiFi.SSID.1.LowerLayers#2+.Name",
            vec!["Device.IP.Interface.2.Name"],
        ),
        (
            "Device.WiFi.SSID.*.LowerLayers#*+.Name",
            vec!["Device.IP.Interface.1.Name", "Device.IP.Interface.2.Name"],
        ),
        (
            "Device.NAT.PortMapping.[Interface+.Name==\"eth0\"].Protocol",
            vec!["Device.NAT.PortMapping.1.Protocol"],
        ),
        (
            "Device.NAT.PortMapping.[Interface+.Stats.ErrorsSent==7].Protocol",
            vec![],
        ),
        (
            "Device.WiFi.SSID.[LowerLayers#*+.Name==\"lo\"].",
            vec!["Device.WiFi.SSID.1."],
        ),
        (
            "Device.WiFi.SSID.[Samples~=5].",
            vec!["Device.WiFi.SSID.1."],
        ),
    ] {
        assert_eq!(resolve(&tree, path).unwrap(), found, "{path}");
    }
}

#[test]
fn a_reference_that_leads_nowhere_is_told() {
    let tree = with_references();
    let error = |path| resolve(&tree, path).unwrap_err();
    assert_eq!(error("Device.NAT.PortMapping.1.Hint+.Name").code(), 7016);
    assert_eq!(error("Device.WiFi.SSID.1.LowerLayers#3+.Name").code(), 7016);
    assert!(matches!(
        error("Device.NAT.PortMapping.1.Interface+.Nothing"),
        ResolveError::Unsupported(_)
    ));
    assert!(matches!(
        error("Device.IP.Interface.1.MaxMTUSize+."),
        ResolveError::NotReference(_)
    ));
    assert_eq!(
        resolve(&tree, "Device.NAT.PortMapping.*.Hint+.Name").unwrap(),
        Vec::<String>::new()
    );
}

#[test]
fn references_by_unique_key_are_followed_and_read_as_instance_numbers() {
    let mut tree = with_references();
    let mut transaction = tree.transaction();
    let path = param("Device.NAT.PortMapping.1.Interface");
    transaction
        .set(&path, "Device.IP.Interface.[Name==\"lo\"].")
        .unwrap();
    transaction.commit().unwrap();
    assert_eq!(tree.get(&path).unwrap().as_str(), "Device.IP.Interface.2");
    tree.put(
        &param("Device.NAT.PortMapping.1.Hint"),
        "Device.IP.Interface.[Alias==\"cpe-1\"]",
    )
    .unwrap();
    assert_eq!(
        resolve(&tree, "Device.NAT.PortMapping.1.Hint+.Name").unwrap(),
        ["Device.IP.Interface.1.Name"]
    );
}

#[test]
fn a_secret_cannot_be_searched_for() {
    let tree = with_references();
    let found = resolve(&tree, "Device.WiFi.SSID.[Passphrase==\"hidden\"].").unwrap();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn matches_are_bounded() {
    let mut tree = Tree::with_limits(
        schema(),
        Limits {
            max_matches: 3,
            ..Limits::default()
        },
    );
    for number in 1..=4 {
        tree.ensure_instance(&object("Device.IP.Interface.").row(number))
            .unwrap();
    }
    let error = resolve(&tree, "Device.IP.Interface.*.Name").unwrap_err();
    assert_eq!(
        (error.clone(), error.code()),
        (ResolveError::TooMany(3), 7005)
    );
}

#[test]
fn several_references_to_one_object_find_it_once() {
    let mut tree = with_references();
    let mut transaction = tree.transaction();
    let ssid = transaction.add(&object("Device.WiFi.SSID.")).unwrap();
    transaction
        .set(&ssid.param("LowerLayers"), "Device.IP.Interface.2")
        .unwrap();
    transaction.commit().unwrap();
    assert_eq!(
        resolve(&tree, "Device.WiFi.SSID.*.LowerLayers#*+.Name").unwrap(),
        ["Device.IP.Interface.1.Name", "Device.IP.Interface.2.Name"]
    );
}

#[test]
fn the_work_of_a_path_is_bounded() {
    let mut tree = with_references();
    let list = vec!["Device.WiFi.SSID.1"; 2000].join(",");
    tree.put(&param("Device.WiFi.SSID.1.LowerLayers"), &list)
        .unwrap();
    for path in [
        "Device.WiFi.SSID.1.LowerLayers#*+.LowerLayers#*+.LowerLayers#*+.Name",
        "Device.WiFi.SSID.[LowerLayers#*+.LowerLayers#*+.LowerLayers#*+.Name==\"x\"].",
    ] {
        assert_eq!(resolve(&tree, path).unwrap_err().code(), 7005, "{path}");
    }
}
