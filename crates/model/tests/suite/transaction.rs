//! A controller's side: access, keys, references, savepoints.

use homefleet_model::{
    error::{AddError, DeleteError, SetError},
    tree::{Limits, Tree},
};

use crate::fixture::{object, param, resolve, schema, told, tree};

#[test]
fn a_set_is_checked_against_the_schema() {
    let mut tree = tree();
    let mut transaction = tree.transaction();
    for (path, value, code) in [
        ("Device.DeviceInfo.Nothing", "x", 7010),
        ("Device.IP.Interface.Name", "x", 7010),
        ("Device.IP.Interface.9.Nothing", "x", 7010),
        ("Device.IP.Interface.9.Enable", "1", 7016),
        ("Device.DeviceInfo.UpTime", "1", 7013),
        ("Device.IP.InterfaceNumberOfEntries", "1", 7013),
        ("Device.IP.Interface.1.Enable", "maybe", 7011),
        ("Device.IP.Interface.1.MaxMTUSize", "63", 7012),
        ("Device.DeviceInfo.FriendlyName", "much too long", 7012),
    ] {
        let error = transaction.set(&param(path), value).unwrap_err();
        assert_eq!((error.code(), error.path().as_str()), (code, path));
    }
    assert!(transaction.pending().is_empty());
    transaction
        .set(&param("Device.IP.Interface.1.Enable"), "0")
        .unwrap();
    transaction.commit().unwrap();
    assert_eq!(
        told(&tree.drain_changes()),
        ["Device.IP.Interface.1.Enable: true -> false"]
    );
}

#[test]
fn a_write_once_parameter_is_written_once() {
    let mut tree = tree();
    let path = param("Device.DeviceInfo.ProvisioningCode");
    let mut transaction = tree.transaction();
    transaction.set(&path, "one").unwrap();
    transaction.commit().unwrap();
    let mut transaction = tree.transaction();
    assert_eq!(
        transaction.set(&path, "two"),
        Err(SetError::NotWritable(path.clone()))
    );
    transaction.commit().unwrap();
    assert_eq!(tree.get(&path).unwrap().as_str(), "one");
}

#[test]
fn keys_that_identify_a_row_never_change_after_its_creation() {
    let mut tree = tree();
    let mut transaction = tree.transaction();
    let row = transaction
        .add(&object("Device.LocalAgent.Subscription."))
        .unwrap();
    transaction.set(&row.param("ID"), "a").unwrap();
    transaction.set(&row.param("ID"), "b").unwrap();
    transaction.set(&row.param("Alias"), "mine").unwrap();
    transaction.commit().unwrap();
    let mut transaction = tree.transaction();
    for name in ["ID", "Alias"] {
        assert_eq!(
            transaction.set(&row.param(name), "c"),
            Err(SetError::NotWritable(row.param(name)))
        );
    }
    transaction.set(&row.param("Kind"), "once").unwrap();
    assert_eq!(
        transaction
            .set(&param("Device.IP.Interface.1.Alias"), "x")
            .unwrap_err()
            .code(),
        7013
    );
}

#[test]
fn an_add_is_checked_against_the_schema() {
    let mut tree = tree();
    let mut transaction = tree.transaction();
    for (path, code) in [
        ("Device.Nothing.", 7026),
        ("Device.DeviceInfo.", 7018),
        ("Device.NAT.PortMapping.1.", 7016),
        ("Device.IP.Interface.", 7019),
        ("Device.LocalAgent.Fixed.", 7019),
        ("Device.IP.Interface.9.IPv4Address.", 7016),
    ] {
        let error = transaction.add(&object(path)).unwrap_err();
        assert_eq!((error.code(), error.path().as_str()), (code, path));
    }
    let mut small = Tree::with_limits(
        schema(),
        Limits {
            max_instances: 1,
            ..Limits::default()
        },
    );
    let mut transaction = small.transaction();
    let table = object("Device.NAT.PortMapping.");
    transaction.add(&table).unwrap();
    assert_eq!(transaction.add(&table), Err(AddError::Full(table)));
}

#[test]
fn an_added_row_gets_the_keys_that_nobody_set() {
    let mut tree = tree();
    let mut transaction = tree.transaction();
    let subscription = transaction
        .add(&object("Device.LocalAgent.Subscription."))
        .unwrap();
    let ssid = transaction.add(&object("Device.WiFi.SSID.")).unwrap();
    transaction.commit().unwrap();
    let keys = tree.unique_keys(&subscription);
    assert_eq!(
        (
            keys["Alias"].as_str(),
            keys["ID"].as_str(),
            keys["Recipient"].as_str()
        ),
        ("cpe-1", "cpe-1", "")
    );
    assert_eq!(tree.unique_keys(&ssid)["Name"], "cpe-1");
    assert_eq!(
        told(&tree.drain_changes()),
        [
            "+ Device.LocalAgent.Subscription.1.",
            "+ Device.WiFi.SSID.1."
        ]
    );
}

fn mapping(
    transaction: &mut homefleet_model::tree::Transaction<'_>,
    port: &str,
) -> homefleet_model::path::ObjectPath {
    let row = transaction.add(&object("Device.NAT.PortMapping.")).unwrap();
    transaction.set(&row.param("ExternalPort"), port).unwrap();
    row
}

#[test]
fn two_rows_with_one_unique_key_are_refused_together() {
    let mut tree = tree();
    let mut transaction = tree.transaction();
    mapping(&mut transaction, "80");
    transaction.commit().unwrap();
    tree.drain_changes();
    let mut transaction = tree.transaction();
    mapping(&mut transaction, "81");
    mapping(&mut transaction, "80");
    let conflict = transaction.commit().unwrap_err();
    assert_eq!(
        conflict.to_string(),
        "Device.NAT.PortMapping.3. and Device.NAT.PortMapping.1. have the same RemoteHost, ExternalPort, Protocol"
    );
    assert_eq!(
        (conflict.code(), conflict.path()),
        (7025, &object("Device.NAT.PortMapping.3."))
    );
    assert_eq!(
        tree.rows(&object("Device.NAT.PortMapping.")),
        [object("Device.NAT.PortMapping.1.")]
    );
    assert!(tree.drain_changes().is_empty());
}

#[test]
fn keys_need_only_be_unique_in_the_end() {
    let mut tree = tree();
    let mut transaction = tree.transaction();
    let (first, second) = (
        mapping(&mut transaction, "80"),
        mapping(&mut transaction, "81"),
    );
    transaction.commit().unwrap();
    let mut transaction = tree.transaction();
    transaction.set(&first.param("ExternalPort"), "81").unwrap();
    transaction
        .set(&second.param("ExternalPort"), "80")
        .unwrap();
    transaction.commit().unwrap();
    let mut transaction = tree.transaction();
    transaction.set(&first.param("ExternalPort"), "80").unwrap();
    assert_eq!(transaction.commit().unwrap_err().code(), 7025);
    assert_eq!(
        tree.text("Device.NAT.PortMapping.1.ExternalPort"),
        Some("81")
    );
}

#[test]
fn an_object_is_undone_alone() {
    let mut tree = tree();
    let mut transaction = tree.transaction();
    let kept = mapping(&mut transaction, "80");
    let savepoint = transaction.savepoint();
    let failed = mapping(&mut transaction, "80");
    assert_eq!(transaction.check(savepoint).unwrap_err().code(), 7025);
    transaction.rollback_to(savepoint);
    assert!(!transaction.tree().exists(&failed));
    let savepoint = transaction.savepoint();
    transaction
        .set(&param("Device.IP.Interface.1.Enable"), "false")
        .unwrap();
    transaction.rollback_to(savepoint);
    transaction.commit().unwrap();
    assert_eq!(tree.rows(&object("Device.NAT.PortMapping.")), [kept]);
    assert_eq!(told(&tree.drain_changes()), ["+ Device.NAT.PortMapping.1."]);
    assert_eq!(tree.text("Device.IP.Interface.1.Enable"), Some("true"));
    assert!(
        tree.export()
            .iter()
            .all(|row| !row.path.ends_with("Enable"))
    );
}

#[test]
fn a_transaction_that_is_dropped_leaves_nothing() {
    let mut tree = tree();
    let before: Vec<_> = tree.export();
    {
        let mut transaction = tree.transaction();
        mapping(&mut transaction, "80");
        transaction
            .set(&param("Device.DeviceInfo.Secret"), "x")
            .unwrap();
        let address = transaction
            .add(&object("Device.IP.Interface.1.IPv4Address."))
            .unwrap();
        transaction.delete(&address).unwrap();
        transaction
            .delete(&object("Device.IP.Interface.2.IPv4Address.1."))
            .unwrap();
        assert!(transaction.pending().len() > 3);
    }
    assert!(tree.drain_changes().is_empty());
    let after: Vec<_> = tree
        .export()
        .into_iter()
        .filter(|row| before.contains(row))
        .collect();
    assert_eq!(after.len(), before.len() - 1, "only a next number moved on");
    assert_eq!(
        tree.text("Device.IP.Interface.1.IPv4AddressNumberOfEntries"),
        Some("1")
    );
    assert_eq!(
        tree.text("Device.IP.Interface.2.IPv4AddressNumberOfEntries"),
        Some("1")
    );
    assert_eq!(
        tree.reveal(&param("Device.DeviceInfo.Secret"))
            .unwrap()
            .as_str(),
        ""
    );
}

#[test]
fn an_instance_number_is_never_given_again() {
    let mut tree = tree();
    let mut transaction = tree.transaction();
    let first = mapping(&mut transaction, "80");
    transaction.commit().unwrap();
    let mut transaction = tree.transaction();
    transaction.delete(&first).unwrap();
    let second = mapping(&mut transaction, "80");
    transaction.commit().unwrap();
    assert_eq!((first.instance(), second.instance()), (Some(1), Some(2)));
}

#[test]
fn a_delete_is_checked_against_the_schema() {
    let mut tree = tree();
    tree.ensure_instance(&object("Device.LocalAgent.Fixed.1."))
        .unwrap();
    let mut transaction = tree.transaction();
    for (path, code) in [
        ("Device.Nothing.", 7026),
        ("Device.NAT.PortMapping.", 7018),
        ("Device.DeviceInfo.", 7018),
        ("Device.NAT.PortMapping.1.", 7016),
        ("Device.IP.Interface.1.", 7024),
    ] {
        let error = transaction.delete(&object(path)).unwrap_err();
        assert_eq!(
            (error.code(), error.path().as_str()),
            (code, path),
            "{error}"
        );
    }
    assert!(matches!(
        transaction.delete(&object("Device.IP.")),
        Err(DeleteError::NotRow(_))
    ));
    transaction
        .delete(&object("Device.LocalAgent.Fixed.1."))
        .unwrap();
    transaction.commit().unwrap();
}

#[test]
fn a_strong_reference_points_to_something() {
    let mut tree = tree();
    let mut transaction = tree.transaction();
    let row = mapping(&mut transaction, "80");
    let strong = row.param("Interface");
    for wrong in [
        "Device.IP.Interface.9",
        "Device.IP.Interface.[Name==\"wan\"]",
        "Device.Nothing",
        "no path",
    ] {
        assert_eq!(
            transaction.set(&strong, wrong).unwrap_err().code(),
            7012,
            "{wrong}"
        );
    }
    for right in [
        "Device.IP.Interface.1",
        "Device.IP.Interface.1.",
        "Device.IP.Interface.1.Name",
        "Device.IP",
        "",
    ] {
        transaction.set(&strong, right).unwrap();
    }
    transaction
        .set(&row.param("Hint"), "Device.IP.Interface.9")
        .unwrap();
    let ssid = transaction.add(&object("Device.WiFi.SSID.")).unwrap();
    let list = ssid.param("LowerLayers");
    assert_eq!(
        transaction
            .set(&list, "Device.IP.Interface.1,Device.IP.Interface.9")
            .unwrap_err()
            .code(),
        7012
    );
    transaction
        .set(
            &list,
            "Device.IP.Interface.[Name==\"lo\"], Device.IP.Interface.1.",
        )
        .unwrap();
    assert_eq!(
        transaction.tree().get(&list).unwrap().as_str(),
        "Device.IP.Interface.2,Device.IP.Interface.1"
    );
}

#[test]
fn strong_references_to_what_is_deleted_become_empty_and_weak_ones_stay() {
    let mut tree = tree();
    let mut transaction = tree.transaction();
    let row = mapping(&mut transaction, "80");
    transaction
        .set(&row.param("Interface"), "Device.IP.Interface.1.Stats")
        .unwrap();
    transaction
        .set(&row.param("Hint"), "Device.IP.Interface.1")
        .unwrap();
    let ssid = transaction.add(&object("Device.WiFi.SSID.")).unwrap();
    transaction
        .set(
            &ssid.param("LowerLayers"),
            "Device.IP.Interface.1,Device.IP.Interface.2",
        )
        .unwrap();
    transaction.commit().unwrap();
    tree.drain_changes();
    tree.remove_instance(&object("Device.IP.Interface.1."));
    assert_eq!(tree.get(&row.param("Interface")).unwrap().as_str(), "");
    assert_eq!(
        tree.get(&row.param("Hint")).unwrap().as_str(),
        "Device.IP.Interface.1"
    );
    assert_eq!(
        tree.get(&ssid.param("LowerLayers")).unwrap().as_str(),
        "Device.IP.Interface.2"
    );
    let changes = told(&tree.drain_changes());
    assert!(
        changes.contains(
            &"Device.NAT.PortMapping.1.Interface: Device.IP.Interface.1.Stats -> ".to_owned()
        ),
        "{changes:?}"
    );
}

#[test]
fn an_undone_deletion_brings_references_back() {
    let mut tree = tree();
    let mut transaction = tree.transaction();
    let target = transaction
        .add(&object("Device.IP.Interface.1.IPv4Address."))
        .unwrap();
    transaction
        .set(&target.param("IPAddress"), "10.9.9.9")
        .unwrap();
    let row = mapping(&mut transaction, "80");
    transaction
        .set(&row.param("Interface"), target.to_reference())
        .unwrap();
    let savepoint = transaction.savepoint();
    transaction.delete(&target).unwrap();
    assert_eq!(
        transaction
            .tree()
            .get(&row.param("Interface"))
            .unwrap()
            .as_str(),
        ""
    );
    transaction.rollback_to(savepoint);
    transaction.commit().unwrap();
    assert_eq!(
        tree.get(&row.param("Interface")).unwrap().as_str(),
        target.to_reference()
    );
    assert_eq!(
        resolve(&tree, "Device.NAT.PortMapping.1.Interface+.IPAddress")
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn changes_past_their_bound_are_undone_too() {
    let mut tree = Tree::with_limits(
        schema(),
        Limits {
            max_changes: 2,
            ..Limits::default()
        },
    );
    tree.set_text("Device.DeviceInfo.UpTime", 1).unwrap();
    tree.drain_changes();
    tree.set_text("Device.DeviceInfo.UpTime", 2).unwrap();
    let mut transaction = tree.transaction();
    for port in ["80", "81", "82"] {
        mapping(&mut transaction, port);
    }
    transaction.rollback();
    assert_eq!(
        told(&tree.drain_changes()),
        ["Device.DeviceInfo.UpTime: 1 -> 2"]
    );
    let mut transaction = tree.transaction();
    for port in ["80", "81", "82"] {
        mapping(&mut transaction, port);
    }
    transaction.commit().unwrap();
    assert_eq!((tree.drain_changes().len(), tree.lost_changes()), (2, 1));
}

#[test]
fn what_the_device_fills_in_is_kept_checked_and_undone_with_the_rest() {
    let mut tree = tree();
    let mut transaction = tree.transaction();
    let subscription = |transaction: &mut homefleet_model::tree::Transaction<'_>| {
        let row = transaction
            .add(&object("Device.LocalAgent.Subscription."))
            .unwrap();
        transaction.set(&row.param("ID"), "one").unwrap();
        assert!(
            transaction
                .put(&row.param("Recipient"), "Device.IP.Interface.1")
                .unwrap()
        );
        row
    };
    let first = subscription(&mut transaction);
    let savepoint = transaction.savepoint();
    transaction
        .put(&first.param("Recipient"), "Device.IP.Interface.2")
        .unwrap();
    transaction.rollback_to(savepoint);
    subscription(&mut transaction);
    assert_eq!(
        transaction.check(savepoint).unwrap_err().keys,
        ["Recipient", "ID"]
    );
    transaction.rollback_to(savepoint);
    transaction.commit().unwrap();
    assert_eq!(
        tree.get(&first.param("Recipient")).unwrap().as_str(),
        "Device.IP.Interface.1"
    );
    assert!(
        tree.export()
            .iter()
            .any(|row| row.path == first.param("Recipient").as_str())
    );
}
