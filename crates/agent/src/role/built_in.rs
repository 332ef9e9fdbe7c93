//! The agent's own roles, and the parts of `Device.LocalAgent.ControllerTrust.` it enters itself.

use homefleet_model::{error::PutError, path::ObjectPath, tree::Tree};

use crate::local_agent::{table, text};

/// The object above everything here.
pub(crate) const TRUST: &str = "Device.LocalAgent.ControllerTrust.";

/// Path of the role table.
const ROLES: &str = "Device.LocalAgent.ControllerTrust.Role.";

/// Path of the table of trusted credentials.
pub(crate) const CREDENTIALS: &str = "Device.LocalAgent.ControllerTrust.Credential.";

/// Alias of the role that may do everything.
pub(crate) const FULL_ACCESS: &str = "cpe-full-access";

/// Alias of the role of Controllers that nobody has given another (R-SEC.6).
const UNTRUSTED: &str = "cpe-untrusted";

/// The role with this Alias, as a reference.
pub(crate) fn role(tree: &Tree, alias: &str) -> Option<String> {
    row(tree, alias).map(|row| row.to_reference().to_owned())
}

fn row(tree: &Tree, alias: &str) -> Option<ObjectPath> {
    let mut rows = tree.rows(&table(ROLES)).into_iter();
    rows.find(|row| text(tree, row, "Alias") == alias)
}

/// Whether `path` is a part of the device's own roles that Controllers do not change: without one that may do
/// everything, nobody could ever give rights again. What the untrusted may do is theirs to say.
pub(crate) fn is_protected(tree: &Tree, path: &ObjectPath, delete: bool) -> bool {
    row(tree, FULL_ACCESS).is_some_and(|full| path.starts_with(&full))
        || (delete && row(tree, UNTRUSTED).as_ref() == Some(path))
}

/// Makes the roles that are not there.
pub(crate) fn enter(tree: &mut Tree) -> Result<(), PutError> {
    if row(tree, FULL_ACCESS).is_none() {
        let role = make(tree, FULL_ACCESS, "Full access")?;
        let permission = tree.create_persistent(&role.child("Permission"))?;
        let values = [
            ("Enable", "true"),
            ("Order", "1"),
            ("Targets", "Device."),
            ("Param", "rwxn"),
            ("Obj", "rwxn"),
            ("InstantiatedObj", "rwxn"),
            ("CommandEvent", "rwxn"),
        ];
        for (name, value) in values {
            tree.put_persistent(&permission.param(name), value)?;
        }
    }
    if row(tree, UNTRUSTED).is_none() {
        let role = make(tree, UNTRUSTED, "Untrusted")?;
        let untrusted = table(TRUST).param("UntrustedRole");
        tree.put_persistent(&untrusted, role.to_reference())?;
    }
    Ok(())
}

fn make(tree: &mut Tree, alias: &str, name: &str) -> Result<ObjectPath, PutError> {
    let role = tree.create_persistent(&table(ROLES))?;
    for (param, value) in [("Alias", alias), ("Name", name), ("Enable", "true")] {
        tree.put_persistent(&role.param(param), value)?;
    }
    Ok(role)
}
