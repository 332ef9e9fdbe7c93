//! Reading the tree.

use std::time::Instant;

use homefleet_model::error::GetError;

use crate::fixture::{object, param, tree};

fn walked(path: &str, depth: u32) -> Vec<String> {
    let mut found = Vec::new();
    tree().walk(&object(path), depth, |path, _| found.push(path.to_string()));
    found
}

#[test]
fn depth_limits_the_levels_below_the_path() {
    assert_eq!(walked("Device.IP.", 1), ["Device.IP."]);
    assert_eq!(
        walked("Device.IP.", 2),
        [
            "Device.IP.",
            "Device.IP.Interface.1.",
            "Device.IP.Interface.2."
        ]
    );
    assert_eq!(walked("Device.IP.", 3).len(), 7);
    assert_eq!(walked("Device.IP.", 0), walked("Device.IP.", 9));
    assert_eq!(
        walked("Device.IP.Interface.", 1),
        ["Device.IP.Interface.1.", "Device.IP.Interface.2."]
    );
    assert_eq!(
        walked("Device.IP.Interface.2.", 0),
        [
            "Device.IP.Interface.2.",
            "Device.IP.Interface.2.Stats.",
            "Device.IP.Interface.2.IPv4Address.1."
        ]
    );
    assert_eq!(walked("Device.IP.Interface.3.", 0), Vec::<String>::new());
}

#[test]
fn parameters_come_in_declared_order() {
    let tree = tree();
    let names: Vec<&str> = tree
        .params(&object("Device.IP.Interface.1."))
        .unwrap()
        .map(|(param, _)| param.name)
        .collect();
    assert_eq!(
        names,
        [
            "Enable",
            "Alias",
            "Name",
            "Type",
            "MaxMTUSize",
            "IPv4AddressNumberOfEntries"
        ]
    );
    assert!(tree.params(&object("Device.IP.Interface.")).is_none());
    assert_eq!(
        tree.children(&object("Device.IP.Interface.1.")),
        [
            object("Device.IP.Interface.1.Stats."),
            object("Device.IP.Interface.1.IPv4Address.")
        ]
    );
    assert_eq!(
        tree.children(&object("Device.IP.Interface.")),
        tree.rows(&object("Device.IP.Interface."))
    );
    assert!(tree.exists(&object("Device.IP.Interface.1.Stats.")));
    assert!(!tree.exists(&object("Device.IP.Interface.4.Stats.")));
}

#[test]
fn a_secret_reads_as_empty_everywhere_but_on_the_device() {
    let mut tree = tree();
    let path = param("Device.DeviceInfo.Secret");
    tree.put(&path, "hush").unwrap();
    assert_eq!(tree.get(&path).unwrap().as_str(), "");
    assert_eq!(tree.text(path.as_str()), Some(""));
    tree.walk(&object("Device.DeviceInfo."), 0, |_, params| {
        for (param, value) in params {
            assert!(param.name != "Secret" || value.as_str().is_empty());
        }
    });
    assert!(!format!("{:?}", tree.drain_changes()).contains("hush"));
    assert_eq!(tree.reveal(&path).unwrap().as_str(), "hush");
}

#[test]
fn a_wrong_path_and_a_missing_instance_are_told_apart() {
    let tree = tree();
    let error = |text| tree.get(&param(text)).unwrap_err();
    assert!(matches!(
        error("Device.IP.Nothing"),
        GetError::Unsupported(_)
    ));
    assert!(matches!(
        error("Device.IP.Interface.9.Nothing"),
        GetError::Unsupported(_)
    ));
    assert!(matches!(
        error("Device.IP.Interface.Name"),
        GetError::Unsupported(_)
    ));
    assert_eq!(error("Device.IP.Interface.9.Name").code(), 7016);
    assert_eq!(error("Device.IP.Interface.9.Stats.ErrorsSent").code(), 7016);
    assert_eq!(error("Device.IP.Interface.9.Stats.Nothing").code(), 7026);
}

/// The aim is well under a millisecond; the bound leaves room for an unoptimised build on a busy machine.
#[test]
#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn a_subtree_of_a_thousand_parameters_is_read_quickly() {
    let mut tree = tree();
    for number in 1..=125 {
        tree.ensure_instance(&object("Device.IP.Interface.").row(number))
            .unwrap();
    }
    let best = (0..20)
        .map(|_| {
            let start = Instant::now();
            let mut read = Vec::new();
            tree.walk(&object("Device.IP."), 0, |path, params| {
                let params: Vec<(&str, String)> = params
                    .map(|(param, value)| (param.name, value.to_string()))
                    .collect();
                read.push((path.to_string(), params));
            });
            let count: usize = read.iter().map(|(_, params)| params.len()).sum();
            assert!(count > 1000, "{count}");
            start.elapsed()
        })
        .min()
        .unwrap();
    assert!(best.as_millis() < 10, "{best:?}");
}
