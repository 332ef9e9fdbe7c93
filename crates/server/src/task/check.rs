//! Whether an operation makes sense, before it is accepted: a mistake is told to whoever made it, at once.

use homefleet_api::Operation;
use homefleet_model::path::{Path, Target};

use crate::core::CoreError;

/// Most paths or objects in one operation.
const MAX_ITEMS: usize = 1000;
/// Longest value, in bytes.
const MAX_VALUE: usize = 256 * 1024;

/// Checks an operation.
pub fn operation(operation: &Operation) -> Result<(), CoreError> {
    match operation {
        Operation::Add { objects, .. } => {
            count(objects.len(), "objects")?;
            for object in objects {
                object_path(&object.path)?;
                object
                    .params
                    .iter()
                    .try_for_each(|param| setting(&param.name, &param.value))?;
            }
        }
        Operation::Delete { paths, .. } => {
            count(paths.len(), "paths")?;
            paths
                .iter()
                .try_for_each(|path| object_path(path).map(drop))?;
        }
        Operation::Get { paths, .. } => {
            count(paths.len(), "paths")?;
            for path in paths {
                match parse(path)?.target() {
                    Target::Object | Target::Param(_) => {}
                    _ => {
                        return Err(CoreError::bad(
                            "a command or event cannot be read, expected an object or parameter path",
                            path,
                        ));
                    }
                }
            }
        }
        Operation::GetInstances { paths, .. } => {
            count(paths.len(), "paths")?;
            paths
                .iter()
                .try_for_each(|path| object_path(path).map(drop))?;
        }
        Operation::GetSupportedDm { paths, .. } => {
            count(paths.len(), "paths")?;
            for path in paths {
                // Supported paths carry `{i}`, which instantiated paths do not.
                if !path.starts_with("Device.") || !path.ends_with('.') {
                    return Err(CoreError::bad(
                        "expected an object path ending with a dot",
                        path,
                    ));
                }
            }
        }
        Operation::GetSupportedProtocol {} | Operation::Wake {} => {}
        Operation::Operate {
            command,
            args,
            command_key,
        } => {
            if !matches!(parse(command)?.target(), Target::Command(_)) {
                return Err(CoreError::bad(
                    "expected a command path such as `Device.Reboot()`",
                    command,
                ));
            }
            args.iter()
                .try_for_each(|(name, value)| setting(name, value))?;
            if command_key.as_ref().is_some_and(|key| key.len() > 32) {
                return Err(CoreError::bad(
                    "a command key has at most 32 characters",
                    "command_key",
                ));
            }
        }
        Operation::Set { objects, .. } => {
            count(objects.len(), "objects")?;
            for object in objects {
                object_path(&object.path)?;
                count(object.params.len(), "params")?;
                object
                    .params
                    .iter()
                    .try_for_each(|param| setting(&param.name, &param.value))?;
            }
        }
    }
    Ok(())
}

/// Checks a path for stored values: `*` for instances, no expressions.
pub fn stored_path(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Ok(());
    }
    if path.len() > 1024 {
        return Err("the path has more than 1024 characters".to_owned());
    }
    if path.contains(['[', '+', '#', '(', '!']) {
        return Err(
            "stored values are found by plain paths, with `*` for instance numbers".to_owned(),
        );
    }
    Ok(())
}

/// One line for the audit log; never a value, which may be a secret.
pub fn describe(operation: &Operation) -> String {
    let what = match operation {
        Operation::Add { objects, .. } => join(objects.iter().map(|object| object.path.as_str())),
        Operation::Delete { paths, .. } | Operation::Get { paths, .. } => {
            join(paths.iter().map(String::as_str))
        }
        Operation::GetInstances { paths, .. } | Operation::GetSupportedDm { paths, .. } => {
            join(paths.iter().map(String::as_str))
        }
        Operation::GetSupportedProtocol {} | Operation::Wake {} => String::new(),
        Operation::Operate { command, .. } => command.clone(),
        Operation::Set { objects, .. } => join(objects.iter().map(|object| object.path.as_str())),
    };
    format!("{} {what}", operation.kind()).trim_end().to_owned()
}

fn join<'a>(paths: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for (place, path) in paths.enumerate() {
        if place == 8 {
            text.push_str(", …");
            break;
        }
        if place > 0 {
            text.push_str(", ");
        }
        text.push_str(path);
    }
    text
}

fn count(items: usize, field: &'static str) -> Result<(), CoreError> {
    match items {
        0 => Err(CoreError::bad("expected at least one entry", field)),
        1..=MAX_ITEMS => Ok(()),
        more => Err(CoreError::bad(
            format!("{more} entries, expected at most {MAX_ITEMS}"),
            field,
        )),
    }
}

fn parse(path: &str) -> Result<Path, CoreError> {
    Path::parse(path).map_err(|error| CoreError::bad(error.to_string(), path))
}

fn object_path(path: &str) -> Result<Path, CoreError> {
    let parsed = parse(path)?;
    if !matches!(parsed.target(), Target::Object) {
        return Err(CoreError::bad(
            "expected an object path ending with a dot",
            path,
        ));
    }
    Ok(parsed)
}

fn setting(name: &str, value: &str) -> Result<(), CoreError> {
    if name.is_empty() || name.len() > 256 {
        return Err(CoreError::bad(
            "a parameter name has 1 to 256 characters",
            name,
        ));
    }
    if value.len() > MAX_VALUE {
        return Err(CoreError::bad(
            format!(
                "the value has {} bytes, expected at most {MAX_VALUE}",
                value.len()
            ),
            name,
        ));
    }
    Ok(())
}
