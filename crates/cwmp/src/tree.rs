//! The parameter RPCs on an instance tree (TR-069 A.3.2.1 to A.3.2.7): what a CPE answers.
//!
//! Changes are made in a transaction, which the caller commits: what the device does about them, and whether that is done at once, is its own business.

use homefleet_model::{
    path::{ObjectPath, ParamPath},
    tree::{AddError, DeleteError, SetError, Transaction, Tree},
    value::ValueError,
};

use crate::{
    Fault, FaultCode, ParameterFault, ParameterValues, Value, ValueType,
    message::GetParameterNames, value::ParameterInfos,
};

/// The values of parameters, and of all parameters under names with a trailing dot; an empty name is the whole tree. Secrets are empty.
///
/// # Errors
/// 9005 when something is not there, 9004 for more than `most` values.
pub fn get_values(tree: &Tree, names: &[String], most: usize) -> Result<ParameterValues, Fault> {
    let mut values = ParameterValues::new();
    for name in names {
        if let Some(path) = partial(tree, name)? {
            tree.walk(&path, 0, |object, params| {
                for (param, value) in params {
                    if values.len() <= most {
                        let kind = ValueType::of(param.ty);
                        let text = value.as_str();
                        values.push(object.param(param.name).as_str(), Value { kind, text });
                    }
                }
            });
        } else {
            let path: ParamPath = name.parse().map_err(|_| unknown(name))?;
            let value = tree.get(&path).map_err(|_| unknown(name))?;
            let kind = ValueType::of(value.ty());
            let text = value.as_str();
            values.push(name, Value { kind, text });
        }
        if values.len() > most {
            return Err(too_many(most));
        }
    }
    Ok(values)
}

/// What there is, and what of it can be written.
///
/// # Errors
/// 9005 when the path is not there, 9003 for the next level of a parameter, 9004 for more than `most` names.
pub fn get_names(
    tree: &Tree,
    request: &GetParameterNames,
    most: usize,
) -> Result<ParameterInfos, Fault> {
    let mut infos = ParameterInfos::new();
    let name = request.path.as_str();
    if name.is_empty() && request.next_level {
        infos.push(ObjectPath::root().as_str(), false);
        return Ok(infos);
    }
    match partial(tree, name)? {
        Some(path) => {
            if !request.next_level {
                infos.push(path.as_str(), is_writable(tree, &path));
            }
            list(tree, &path, !request.next_level, most, &mut infos);
        }
        None => {
            let path: ParamPath = name.parse().map_err(|_| unknown(name))?;
            tree.get(&path).map_err(|_| unknown(name))?;
            if request.next_level {
                let text = "the next level of a parameter";
                return Err(Fault::with_text(FaultCode::INVALID_ARGUMENTS, text));
            }
            infos.push(name, can_be_set(tree, &path));
        }
    }
    if infos.len() > most {
        return Err(too_many(most));
    }
    Ok(infos)
}

/// Sets values, all or none. A value without a type, or with that of a string, is taken as the parameter's own.
///
/// # Errors
/// 9003 with what is wrong with each parameter: 9005 when it is not there, 9006 for another type, 9007 for a value that it does not take, 9008 when
/// it can only be read; 9003 alone when one stands there twice or rows would have the same key. Nothing has changed then.
pub fn set_values(
    transaction: &mut Transaction<'_>,
    values: &ParameterValues,
) -> Result<(), Fault> {
    let mut names: Vec<&str> = values.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find_map(|pair| match pair {
        [one, other] if one == other => Some(*one),
        _ => None,
    }) {
        let text = format!("{twice} stands there twice");
        return Err(Fault::with_text(FaultCode::INVALID_ARGUMENTS, text));
    }
    let before = transaction.savepoint();
    let faults: Vec<_> = values
        .iter()
        .filter_map(|(name, value)| set(transaction, name, value).err())
        .collect();
    if !faults.is_empty() {
        transaction.rollback_to(before);
        return Err(Fault::of_parameters(faults));
    }
    transaction.check(before).map_err(|conflict| {
        transaction.rollback_to(before);
        Fault::with_text(FaultCode::INVALID_ARGUMENTS, conflict.to_string())
    })
}

/// Adds a row to a table, and returns it with its instance number.
///
/// # Errors
/// 9005 when there is no table of this name to which rows can be added, 9004 when it is full.
pub fn add_object(
    transaction: &mut Transaction<'_>,
    name: &str,
) -> Result<(ObjectPath, u32), Fault> {
    let table = object(name)?;
    let row = transaction.add(&table).map_err(|error| match error {
        AddError::Full(_) => Fault::with_text(FaultCode::RESOURCES_EXCEEDED, error.to_string()),
        other => Fault::with_text(FaultCode::INVALID_PARAMETER_NAME, other.to_string()),
    })?;
    let number = row.instance().unwrap_or_default();
    Ok((row, number))
}

/// Deletes a row.
///
/// # Errors
/// 9005 when there is no row of this name that can be deleted.
pub fn delete_object(transaction: &mut Transaction<'_>, name: &str) -> Result<(), Fault> {
    let row = object(name)?;
    transaction.delete(&row).map_err(|error: DeleteError| {
        Fault::with_text(FaultCode::INVALID_PARAMETER_NAME, error.to_string())
    })
}

/// The parameters that a name of SetParameterAttributes or GetParameterAttributes means: itself, or all under a path.
///
/// # Errors
/// As [`get_values`].
pub fn parameters(tree: &Tree, name: &str, most: usize) -> Result<Vec<String>, Fault> {
    let values = get_values(tree, &[name.to_owned()], most)?;
    Ok(values.iter().map(|(name, _)| name.to_owned()).collect())
}

/// The object that a name with a trailing dot, or nothing, means; `None` for what may be a parameter.
fn partial(tree: &Tree, name: &str) -> Result<Option<ObjectPath>, Fault> {
    if name.is_empty() {
        return Ok(Some(ObjectPath::root()));
    }
    if !name.ends_with('.') {
        return Ok(None);
    }
    let path: ObjectPath = name.parse().map_err(|_| unknown(name))?;
    if tree.exists(&path) {
        Ok(Some(path))
    } else {
        Err(unknown(name))
    }
}

/// The parameters and objects in an object, or with `all` under it; a little more than `most` at most.
fn list(tree: &Tree, path: &ObjectPath, all: bool, most: usize, infos: &mut ParameterInfos) {
    for (param, _) in tree.params(path).into_iter().flatten() {
        let param = path.param(param.name);
        infos.push(param.as_str(), can_be_set(tree, &param));
    }
    for child in tree.children(path) {
        if infos.len() > most {
            return;
        }
        infos.push(child.as_str(), is_writable(tree, &child));
        if all {
            list(tree, &child, all, most, infos);
        }
    }
}

/// Of a table whether rows can be added, of a row whether it can be deleted.
fn is_writable(tree: &Tree, path: &ObjectPath) -> bool {
    let supported = path.supported();
    if path.instance().is_some() {
        return tree
            .schema()
            .object(&supported)
            .is_some_and(|row| row.access().deletes());
    }
    let row = tree.schema().object(&format!("{supported}{{i}}."));
    row.is_some_and(|row| row.access().adds())
}

fn can_be_set(tree: &Tree, path: &ParamPath) -> bool {
    use homefleet_model::schema::Access;
    let param = tree.schema().param(path);
    param.is_some_and(|param| param.access != Access::ReadOnly)
}

fn set(
    transaction: &mut Transaction<'_>,
    name: &str,
    value: Value<'_>,
) -> Result<(), ParameterFault> {
    let fault = |code: FaultCode, text: String| ParameterFault {
        name: name.to_owned(),
        code,
        text,
    };
    let unknown = || {
        fault(
            FaultCode::INVALID_PARAMETER_NAME,
            FaultCode::INVALID_PARAMETER_NAME.text().to_owned(),
        )
    };
    let path: ParamPath = name.parse().map_err(|_| unknown())?;
    let own = transaction.tree().get(&path).map_err(|_| unknown())?;
    let expected = ValueType::of(own.ty());
    if value.kind != expected && value.kind != ValueType::String {
        let text = format!("{} where {} is due", value.kind.name(), expected.name());
        return Err(fault(FaultCode::INVALID_PARAMETER_TYPE, text));
    }
    transaction.set(&path, value.text).map_err(|error| {
        let code = match &error {
            SetError::Unsupported(_) | SetError::NoInstance(_) => FaultCode::INVALID_PARAMETER_NAME,
            SetError::NotWritable(_) => FaultCode::NOT_WRITABLE,
            SetError::Value {
                source: ValueError::Type { .. },
                ..
            } => FaultCode::INVALID_PARAMETER_TYPE,
            SetError::Value { .. } | SetError::Reference { .. } => {
                FaultCode::INVALID_PARAMETER_VALUE
            }
        };
        // The code's own words: the error's could repeat a secret.
        fault(code, code.text().to_owned())
    })
}

fn object(name: &str) -> Result<ObjectPath, Fault> {
    let path = if name.ends_with('.') {
        name.parse().ok()
    } else {
        None
    };
    path.ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Fault {
    let name = crate::error::shortened(name);
    Fault::with_text(
        FaultCode::INVALID_PARAMETER_NAME,
        format!("{name} is not there"),
    )
}

fn too_many(most: usize) -> Fault {
    Fault::with_text(
        FaultCode::RESOURCES_EXCEEDED,
        format!("more than {most} at once"),
    )
}
