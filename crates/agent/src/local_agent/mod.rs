//! `Device.LocalAgent.`: what the core itself keeps in the tree, and its rules beyond the schema.

use homefleet_model::{
    path::{ObjectPath, ParamPath},
    tree::Tree,
};

use crate::{request::Fault, role};

pub mod schema;
mod transports;

pub(crate) use self::transports::MAX_MQTT_SUBSCRIPTIONS;
pub use self::{schema::OBJECTS, transports::TRANSPORTS};

/// Parameters of non-functional unique keys, which a row keeps for life (R-KEY.1), by name, wherever they are.
const KEPT_FOR_LIFE: &[&str] = &["Alias"];

/// Parameters of a Subscription that cannot change once they have a value: `ID` is a non-functional unique
/// key, `ReferenceList` and with it `NotifType` are immutable (Device:2.16, Subscription).
const SUBSCRIPTION_KEPT: &[&str] = &["ID", "NotifType", "ReferenceList"];

/// Rows that controllers can make in one table other than that of the subscriptions, and Controllers by coming.
pub(crate) const MAX_ROWS: usize = 256;

/// A controller wants to set `path` to `value`, which the schema allows: do the rules of the data model?
/// `new` is the row that the same message creates, which may still take any value.
pub(crate) fn check_set(
    tree: &Tree,
    path: &ParamPath,
    value: &str,
    new: Option<&ObjectPath>,
) -> Result<(), Fault> {
    let supported = path.supported();
    let current = tree.text(path.as_str()).unwrap_or_default();
    let in_new_row = new.is_some_and(|row| path.object().starts_with(row));
    let table = supported.rsplit_once('.').map_or("", |(object, _)| object);
    let kept = KEPT_FOR_LIFE.contains(&path.name())
        || (table == "Device.LocalAgent.Subscription.{i}"
            && SUBSCRIPTION_KEPT.contains(&path.name()))
        || supported == "Device.MQTT.Client.{i}.Name";
    if kept && !in_new_row && !current.is_empty() && current != value {
        return Err(Fault::new(
            7013,
            format!("{path} was given its value when the row was made and keeps it"),
        ));
    }
    if role::is_protected(tree, &path.object(), false) {
        return Err(Fault::new(
            7013,
            format!("{path}: the agent's own role stays as it is; make another one"),
        ));
    }
    if table == "Device.LocalAgent.ControllerTrust.Role.{i}.Permission.{i}" {
        check_permission(path, value)?;
    }
    if supported == "Device.LocalAgent.Subscription.{i}.ReferenceList" {
        for reference in homefleet_model::value::list_items(value) {
            homefleet_model::path::Path::parse(reference)
                .map_err(|error| Fault::new(7012, format!("{reference}: {error}")))?;
        }
    }
    Ok(())
}

/// The form of a permission: strings of `rwxn`, and targets that are paths.
fn check_permission(path: &ParamPath, value: &str) -> Result<(), Fault> {
    match path.name() {
        "Param" | "Obj" | "InstantiatedObj" | "CommandEvent" => {
            role::Grant::parse(value).map(drop).ok_or_else(|| {
                Fault::new(
                    7012,
                    format!("{path}: {value:?} is not rwxn, with - for what is not granted"),
                )
            })
        }
        "Targets" => homefleet_model::value::list_items(value).try_for_each(|target| {
            use homefleet_model::path::Path;
            Path::parse_reference(target)
                .or_else(|_| Path::parse(&format!("{target}.")))
                .map(drop)
                .map_err(|error| Fault::new(7012, format!("{target}: {error}")))
        }),
        _ => Ok(()),
    }
}

/// A controller wants to delete `row`, which the schema allows.
pub(crate) fn check_delete(tree: &Tree, row: &ObjectPath) -> Result<(), Fault> {
    if role::is_protected(tree, row, true) {
        return Err(Fault::new(
            7024,
            format!("{row} is the agent's own and stays"),
        ));
    }
    Ok(())
}

/// A controller wants to add a row to `table`, which the schema allows.
pub(crate) fn check_add(
    tree: &Tree,
    table: &ObjectPath,
    max_subscriptions: usize,
) -> Result<(), Fault> {
    if role::is_protected(tree, table, false) {
        return Err(Fault::new(
            7017,
            format!("{table}: the agent's own role stays as it is; make another one"),
        ));
    }
    match table.as_str() {
        "Device.LocalAgent.Subscription." if tree.rows(table).len() >= max_subscriptions => {
            Err(Fault::new(
                7005,
                format!("there are {max_subscriptions} subscriptions already"),
            ))
        }
        _ if tree.rows(table).len() >= MAX_ROWS => Err(Fault::new(
            7005,
            format!("there are {MAX_ROWS} rows in {table} already"),
        )),
        _ => Ok(()),
    }
}

/// The enabled entry of the controller table with this Endpoint ID.
pub(crate) fn controller(tree: &Tree, endpoint_id: &str) -> Option<ObjectPath> {
    let table = table("Device.LocalAgent.Controller.");
    tree.rows(&table)
        .into_iter()
        .find(|row| text(tree, row, "EndpointID") == endpoint_id && is_true(tree, row, "Enable"))
}

/// The value of a parameter of `object`, empty when there is none.
pub(crate) fn text<'a>(tree: &'a Tree, object: &ObjectPath, name: &str) -> &'a str {
    tree.text(object.param(name).as_str()).unwrap_or_default()
}

/// Whether a boolean parameter of `object` is true.
pub(crate) fn is_true(tree: &Tree, object: &ObjectPath, name: &str) -> bool {
    text(tree, object, name) == "true"
}

/// The value of an unsigned parameter of `object`, 0 when there is none.
pub(crate) fn number(tree: &Tree, object: &ObjectPath, name: &str) -> u32 {
    text(tree, object, name).parse().unwrap_or(0)
}

/// An object path known at compile time.
pub(crate) fn table(path: &'static str) -> ObjectPath {
    path.parse().unwrap_or_else(|_| ObjectPath::root())
}
