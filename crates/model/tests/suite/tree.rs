//! The device's own side, and change events.

use homefleet_model::{
    error::PutError,
    tree::{Change, Limits, Tree},
};

use crate::fixture::{object, param, schema, told, tree};

#[test]
fn a_put_is_canonical_and_reported_once() {
    let mut tree = tree();
    let path = param("Device.IP.Interface.1.Enable");
    assert!(tree.put(&path, "0").unwrap());
    assert!(!tree.put(&path, "false").unwrap());
    assert_eq!(
        told(&tree.drain_changes()),
        ["Device.IP.Interface.1.Enable: true -> false"]
    );
    assert!(tree.drain_changes().is_empty());
}

#[test]
fn a_put_that_the_schema_does_not_know_is_refused() {
    let mut tree = tree();
    assert!(matches!(
        tree.set_text("Device.Nothing", 1),
        Err(PutError::Unsupported(_))
    ));
    assert!(matches!(
        tree.set_text("Device.IP.Interface.9.Name", "x"),
        Err(PutError::NoInstance(_))
    ));
    assert!(matches!(
        tree.set_text("Device.IP.Interface.1.MaxMTUSize", 1),
        Err(PutError::Value { .. })
    ));
    assert!(matches!(
        tree.set_text("Device.IP.InterfaceNumberOfEntries", 1),
        Err(PutError::Derived(_))
    ));
    assert!(matches!(
        tree.ensure_instance(&object("Device.IP.")),
        Err(PutError::NotRow(_))
    ));
    assert!(matches!(
        tree.ensure_instance(&object("Device.IP.Interface.9.IPv4Address.1.")),
        Err(PutError::NoInstance(_))
    ));
    assert!(matches!(
        tree.ensure_row(&object("Device.IP."), &[]),
        Err(PutError::NotRow(_))
    ));
    assert!(tree.drain_changes().is_empty());
}

#[test]
fn number_of_entries_follows_its_table() {
    let mut tree = tree();
    assert_eq!(tree.text("Device.IP.InterfaceNumberOfEntries"), Some("2"));
    assert_eq!(
        tree.text("Device.IP.Interface.1.IPv4AddressNumberOfEntries"),
        Some("1")
    );
    tree.ensure_instance(&object("Device.IP.Interface.7."))
        .unwrap();
    assert!(tree.remove_instance(&object("Device.IP.Interface.1.")));
    assert!(!tree.remove_instance(&object("Device.IP.Interface.1.")));
    assert_eq!(
        told(&tree.drain_changes()),
        [
            "+ Device.IP.Interface.7.",
            "Device.IP.InterfaceNumberOfEntries: 2 -> 3",
            "- Device.IP.Interface.1.IPv4Address.1.",
            "- Device.IP.Interface.1.",
            "Device.IP.InterfaceNumberOfEntries: 3 -> 2",
        ]
    );
}

#[test]
fn what_is_put_into_a_new_row_is_part_of_its_creation() {
    let mut tree = tree();
    let row = tree
        .ensure_row(&object("Device.IP.Interface."), &[("Name", "wan")])
        .unwrap();
    tree.set_text(&format!("{row}Stats.ErrorsSent"), 3).unwrap();
    assert_eq!(
        told(&tree.drain_changes()),
        [
            "+ Device.IP.Interface.3.",
            "Device.IP.InterfaceNumberOfEntries: 2 -> 3"
        ]
    );
    tree.set_text(&format!("{row}Stats.ErrorsSent"), 4).unwrap();
    assert_eq!(
        told(&tree.drain_changes()),
        ["Device.IP.Interface.3.Stats.ErrorsSent: 3 -> 4"]
    );
}

#[test]
fn a_deletion_tells_the_unique_keys() {
    let mut tree = tree();
    tree.remove_instance(&object("Device.IP.Interface.2."));
    let changes = tree.drain_changes();
    let Some(Change::Deleted { unique_keys, .. }) = changes.get(1) else {
        panic!("{changes:?}")
    };
    let keys: Vec<(&str, &str)> = unique_keys
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(keys, [("Alias", "cpe-2"), ("Name", "lo")]);
}

#[test]
fn new_rows_have_defaults_and_an_alias_of_their_own() {
    let mut tree = tree();
    assert_eq!(tree.text("Device.IP.Interface.1.MaxMTUSize"), Some("1500"));
    assert_eq!(tree.text("Device.IP.Interface.1.Alias"), Some("cpe-1"));
    assert_eq!(tree.text("Device.DeviceInfo.FriendlyName"), Some("box"));
    assert_eq!(
        tree.text("Device.DeviceInfo.FirstUseDate"),
        Some("0001-01-01T00:00:00Z")
    );
    tree.set_text("Device.IP.Interface.1.Alias", "cpe-3")
        .unwrap();
    let row = tree
        .ensure_row(&object("Device.IP.Interface."), &[("Name", "wan")])
        .unwrap();
    assert_eq!(tree.unique_keys(&row)["Alias"], "cpe-3-1");
}

#[test]
fn a_row_found_by_key_keeps_its_number_and_no_other_row_gets_it() {
    let mut tree = tree();
    let table = object("Device.IP.Interface.");
    let first = tree.ensure_row(&table, &[("Name", "eth0")]).unwrap();
    assert_eq!(first, table.row(1));
    tree.remove_instance(&first);
    assert_eq!(
        tree.ensure_row(&table, &[("Name", "wan")]).unwrap(),
        table.row(3)
    );
    assert_eq!(tree.ensure_row(&table, &[("Name", "eth0")]).unwrap(), first);
}

#[test]
fn remembered_keys_instances_and_changes_are_bounded() {
    let limits = Limits {
        max_instances: 3,
        max_known: 2,
        max_changes: 4,
        ..Limits::default()
    };
    let mut tree = Tree::with_limits(schema(), limits);
    let table = object("Device.IP.Interface.");
    for name in ["a", "b", "c"] {
        let row = tree.ensure_row(&table, &[("Name", name)]).unwrap();
        tree.remove_instance(&row);
    }
    assert_eq!(
        tree.ensure_row(&table, &[("Name", "c")]).unwrap(),
        table.row(3)
    );
    assert_eq!(
        tree.ensure_row(&table, &[("Name", "a")]).unwrap(),
        table.row(4)
    );
    tree.ensure_instance(&table.row(9)).unwrap();
    assert!(matches!(
        tree.ensure_instance(&table.row(10)),
        Err(PutError::Full(_))
    ));
    assert!(tree.lost_changes() > 0);
    assert_eq!(tree.drain_changes().len(), 4);
}
