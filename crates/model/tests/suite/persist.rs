//! What survives a restart.

use homefleet_model::tree::{Row, RowKind, Tree};

use crate::fixture::{object, param, schema, tree};

/// The device after a restart, before and after it has found its interfaces again.
fn restarted(rows: Vec<Row>) -> Tree {
    let mut tree = Tree::new(schema());
    let report = tree.import(rows);
    assert!(report.refused.is_empty(), "{report:?}");
    tree
}

fn sorted_rows(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|left, right| (left.kind, &left.path).cmp(&(right.kind, &right.path)));
    rows
}

fn sorted(tree: &Tree) -> Vec<Row> {
    sorted_rows(tree.export())
}

#[test]
fn what_a_controller_wrote_survives_a_restart() {
    let mut tree = tree();
    let mut transaction = tree.transaction();
    let row = transaction
        .add(&object("Device.LocalAgent.Subscription."))
        .unwrap();
    transaction.set(&row.param("ID"), "a").unwrap();
    let gone = transaction
        .add(&object("Device.LocalAgent.Subscription."))
        .unwrap();
    transaction.delete(&gone).unwrap();
    transaction
        .set(&param("Device.DeviceInfo.Secret"), "hush")
        .unwrap();
    transaction.commit().unwrap();
    let rows = tree.export();

    let mut tree = restarted(rows.clone());
    assert_eq!(sorted(&tree), sorted_rows(rows));
    assert!(tree.drain_changes().is_empty());
    assert_eq!(tree.unique_keys(&row)["ID"], "a");
    assert_eq!(
        tree.reveal(&param("Device.DeviceInfo.Secret"))
            .unwrap()
            .as_str(),
        "hush"
    );
    let mut transaction = tree.transaction();
    assert_eq!(
        transaction.set(&row.param("ID"), "b").unwrap_err().code(),
        7013
    );
    assert_eq!(
        transaction
            .add(&object("Device.LocalAgent.Subscription."))
            .unwrap()
            .instance(),
        Some(3)
    );
}

#[test]
fn the_devices_rows_get_their_numbers_again_and_take_what_waited_for_them() {
    let mut tree = tree();
    let mut transaction = tree.transaction();
    transaction
        .set(&param("Device.IP.Interface.2.MaxMTUSize"), "1400")
        .unwrap();
    let address = transaction
        .add(&object("Device.IP.Interface.2.IPv4Address."))
        .unwrap();
    transaction
        .set(&address.param("IPAddress"), "192.0.2.1")
        .unwrap();
    transaction.commit().unwrap();
    let rows = tree.export();

    let mut tree = restarted(rows);
    let before = sorted(&tree);
    let table = object("Device.IP.Interface.");
    // Found in another order than the first time.
    let lo = tree.ensure_row(&table, &[("Name", "lo")]).unwrap();
    assert_eq!(lo, table.row(2));
    assert_eq!(tree.get(&lo.param("MaxMTUSize")).unwrap().as_str(), "1400");
    assert_eq!(
        tree.text("Device.IP.Interface.2.IPv4Address.2.IPAddress"),
        Some("192.0.2.1")
    );
    assert_eq!(
        tree.ensure_row(&table, &[("Name", "wan")]).unwrap(),
        table.row(3)
    );
    tree.remove_instance(&table.row(3));
    assert_eq!(
        tree.ensure_row(&table, &[("Name", "eth0")]).unwrap(),
        table.row(1)
    );
    let after = sorted(&tree);
    let missing: Vec<&Row> = before
        .iter()
        .filter(|row| row.kind != RowKind::Next && !after.contains(row))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_revision_tells_when_to_export_again() {
    let mut tree = tree();
    let mut seen = tree.revision();
    let mut changed = |tree: &Tree, expected: bool, what: &str| {
        assert_eq!(tree.revision() != seen, expected, "{what}");
        seen = tree.revision();
    };
    tree.set_text("Device.DeviceInfo.UpTime", 5).unwrap();
    changed(&tree, false, "a value of the device");
    tree.ensure_instance(&object("Device.IP.Interface.4242."))
        .unwrap();
    changed(&tree, false, "a row with the device's own number");
    let rows = tree.export();
    tree.remove_instance(&object("Device.IP.Interface.4242."));
    changed(&tree, false, "the end of such a row");
    assert_eq!(tree.export(), rows);
    tree.ensure_row(&object("Device.IP.Interface."), &[("Name", "eth0")])
        .unwrap();
    changed(&tree, false, "a row that is there");
    tree.ensure_row(&object("Device.IP.Interface."), &[("Name", "wan")])
        .unwrap();
    changed(&tree, true, "a row with a new key");
    let mut transaction = tree.transaction();
    transaction
        .set(&param("Device.DeviceInfo.FriendlyName"), "x")
        .unwrap();
    transaction.commit().unwrap();
    changed(&tree, true, "a controller's value");
    tree.put_persistent(&param("Device.DeviceInfo.UpTime"), "6")
        .unwrap();
    changed(&tree, true, "a value for keeps");
    let row = tree
        .create_persistent(&object("Device.LocalAgent.Subscription."))
        .unwrap();
    changed(&tree, true, "a row for keeps");
    tree.remove_instance(&row);
    changed(&tree, true, "the end of a row for keeps");
}

#[test]
fn rows_that_do_not_fit_the_data_model_are_reported() {
    let row = |kind, path: &str, value: &str| Row {
        kind,
        path: path.to_owned(),
        value: value.to_owned(),
    };
    let rows = vec![
        row(RowKind::Value, "Device.Gone", "1"),
        row(RowKind::Value, "Device.IP.Interface.1.MaxMTUSize", "1400"),
        row(
            RowKind::Value,
            "Device.DeviceInfo.FriendlyName",
            "much too long",
        ),
        row(RowKind::Value, "no path", ""),
        row(RowKind::Next, "Device.DeviceInfo.", "4"),
        row(RowKind::Next, "Device.IP.Interface.", "many"),
        row(RowKind::Instance, "Device.DeviceInfo.", ""),
        row(RowKind::Known, "Device.IP.Interface.1.", "no expression"),
        row(
            RowKind::Known,
            "Device.IP.Interface.1.",
            "Name==\"a%22%25&&\"",
        ),
    ];
    let mut tree = Tree::new(schema());
    let report = tree.import(rows);
    assert_eq!(
        (report.applied, report.waiting, report.refused.len()),
        (1, 1, 7),
        "{report:?}"
    );
    let table = object("Device.IP.Interface.");
    assert_eq!(
        tree.ensure_row(&table, &[("Name", "a\"%&&")]).unwrap(),
        table.row(1)
    );
    assert_eq!(tree.text("Device.IP.Interface.1.MaxMTUSize"), Some("1400"));
    for kind in [
        RowKind::Next,
        RowKind::Instance,
        RowKind::Known,
        RowKind::Value,
    ] {
        assert_eq!(kind.as_str().parse(), Ok(kind));
    }
    assert!("other".parse::<RowKind>().is_err());
}

#[test]
fn what_lies_below_a_prefix_is_put_back_with_its_numbers_and_reported() {
    let mut tree = tree();
    let table = object("Device.LocalAgent.Subscription.");
    let mut transaction = tree.transaction();
    let kept = transaction.add(&table).unwrap();
    transaction.set(&kept.param("ID"), "a").unwrap();
    let secret = param("Device.DeviceInfo.Secret");
    transaction.set(&secret, "hush").unwrap();
    transaction.commit().unwrap();
    let before = tree.export();

    let mut transaction = tree.transaction();
    transaction.delete(&kept).unwrap();
    let new = transaction.add(&table).unwrap();
    let name = param("Device.DeviceInfo.FriendlyName");
    transaction.set(&name, "other").unwrap();
    transaction.set(&secret, "loud").unwrap();
    transaction.commit().unwrap();
    tree.drain_changes();
    tree.restore(&["Device.LocalAgent."], &before);
    assert!(tree.exists(&kept) && !tree.exists(&new));
    assert_eq!(tree.unique_keys(&kept)["ID"], "a");
    assert_eq!(tree.text(name.as_str()), Some("other"), "that is elsewhere");
    let changes = tree.drain_changes();
    assert!(!changes.is_empty() && tree.revision() > 0);
    tree.restore(&["Device.DeviceInfo."], &before);
    assert_eq!(
        tree.text(name.as_str()),
        Some("box"),
        "nobody had written it"
    );
    assert_eq!(tree.reveal(&secret).unwrap().as_str(), "hush");
    assert!(!format!("{:?}", tree.drain_changes()).contains("hush"));
    let survives = restarted(tree.export());
    assert!(survives.exists(&kept) && !survives.exists(&new));
}
