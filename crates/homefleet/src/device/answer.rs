//! A device's answer as a table, and the parts of it that failed.

use homefleet_api::{ObjectSupport, ParamError, PathError, SupportedResult, TaskResult};

use crate::failure::Failure;
use crate::output::{self, Table};

/// How values are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Paths and values.
    Table,
    /// Values alone.
    Values,
}

/// Prints what succeeded.
pub(crate) fn print(result: &TaskResult, style: Style) -> Result<(), Failure> {
    let mut table = Table::default();
    match result {
        TaskResult::Get { paths } => {
            for object in paths.iter().flat_map(|path| &path.objects) {
                for (name, value) in &object.params {
                    if style == Style::Values {
                        output::line(&output::printable(value))?;
                    } else {
                        table.row([format!("{}{name}", object.path), value.clone()]);
                    }
                }
            }
        }
        TaskResult::Set { objects } => {
            for instance in objects.iter().flat_map(|object| &object.instances) {
                for (name, value) in &instance.params {
                    table.row([format!("{}{name}", instance.path), value.clone()]);
                }
            }
        }
        TaskResult::Add { objects } => {
            for object in objects {
                if let Some(path) = &object.path {
                    table.row([path.clone(), keys(&object.unique_keys)]);
                }
            }
        }
        TaskResult::Delete { paths } => {
            for path in paths.iter().flat_map(|path| &path.deleted) {
                table.row([path.clone(), "deleted".to_owned()]);
            }
        }
        TaskResult::GetInstances { paths } => {
            for instance in paths.iter().flat_map(|path| &path.instances) {
                table.row([instance.path.clone(), keys(&instance.unique_keys)]);
            }
        }
        TaskResult::GetSupportedDm { paths } => return supported(paths),
        TaskResult::Wake { attempts, events } => {
            for attempt in attempts {
                table.row(["tried".to_owned(), attempt.to_string()]);
            }
            for event in events {
                table.row(["came".to_owned(), event.clone()]);
            }
        }
        TaskResult::GetSupportedProtocol { versions } => {
            return output::line(&versions.join(" "));
        }
        TaskResult::Operate { commands } => {
            for command in commands.iter().filter(|command| command.error.is_none()) {
                table.row([command.command.clone(), "done".to_owned()]);
                for (name, value) in &command.output {
                    table.row([format!("  {name}"), value.clone()]);
                }
            }
        }
    }
    table.print()
}

/// An error when a part of the answer is one.
pub(crate) fn failures(result: Option<&TaskResult>, json: bool) -> Result<(), Failure> {
    let mut lines = Vec::new();
    match result {
        None | Some(TaskResult::GetSupportedProtocol { .. } | TaskResult::Wake { .. }) => {}
        Some(TaskResult::Get { paths }) => {
            for path in paths {
                whole(&mut lines, &path.requested, path.error.as_ref());
            }
        }
        Some(TaskResult::GetInstances { paths }) => {
            for path in paths {
                whole(&mut lines, &path.requested, path.error.as_ref());
            }
        }
        Some(TaskResult::GetSupportedDm { paths }) => {
            for path in paths {
                whole(&mut lines, &path.requested, path.error.as_ref());
            }
        }
        Some(TaskResult::Set { objects }) => {
            for object in objects {
                whole(&mut lines, &object.requested, object.error.as_ref());
                for instance in &object.instances {
                    parts(&mut lines, &instance.path, &instance.failures);
                }
            }
        }
        Some(TaskResult::Add { objects }) => {
            for object in objects {
                whole(&mut lines, &object.requested, object.error.as_ref());
                parts(&mut lines, &object.requested, &object.failures);
            }
        }
        Some(TaskResult::Delete { paths }) => {
            for path in paths {
                whole(&mut lines, &path.requested, path.error.as_ref());
                parts(&mut lines, "", &path.failures);
            }
        }
        Some(TaskResult::Operate { commands }) => {
            for command in commands {
                whole(&mut lines, &command.command, command.error.as_ref());
            }
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    let text = if json || lines.len() == 1 {
        lines.join("; ")
    } else {
        format!(
            "the device refused {} parts\n  {}",
            lines.len(),
            lines.join("\n  ")
        )
    };
    Err(Failure::Refused(text))
}

fn whole(lines: &mut Vec<String>, path: &str, error: Option<&PathError>) {
    if let Some(error) = error {
        lines.push(format!(
            "{path}: {} {}",
            error.code,
            output::printable(&error.message)
        ));
    }
}

fn parts(lines: &mut Vec<String>, object: &str, failures: &[ParamError]) {
    for failure in failures {
        let path = if failure.path.starts_with(object) {
            failure.path.clone()
        } else {
            format!("{object}{}", failure.path)
        };
        lines.push(format!(
            "{path}: {} {}",
            failure.code,
            output::printable(&failure.message)
        ));
    }
}

fn keys(keys: &std::collections::BTreeMap<String, String>) -> String {
    keys.iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn supported(paths: &[SupportedResult]) -> Result<(), Failure> {
    let mut table = Table::new(&["PATH", "ACCESS", "TYPE"]);
    for object in paths.iter().flat_map(|path| &path.objects) {
        object_rows(&mut table, object);
    }
    table.print()
}

fn object_rows(table: &mut Table, object: &ObjectSupport) {
    let kind = if object.multi_instance {
        "table"
    } else {
        "object"
    };
    table.row([object.path.as_str(), &object.access, kind]);
    for param in &object.params {
        table.row([
            format!("{}{}", object.path, param.name),
            param.access.clone(),
            param.value_type.clone(),
        ]);
    }
    for command in &object.commands {
        let kind = if command.is_async {
            "asynchronous command"
        } else {
            "command"
        };
        table.row([
            format!("{}{}", object.path, command.name),
            String::new(),
            kind.to_owned(),
        ]);
        for name in &command.input {
            table.row([format!("{}{} input {name}", object.path, command.name)]);
        }
        for name in &command.output {
            table.row([format!("{}{} output {name}", object.path, command.name)]);
        }
    }
    for event in &object.events {
        table.row([
            format!("{}{}", object.path, event.name),
            String::new(),
            "event".to_owned(),
        ]);
        for name in &event.args {
            table.row([format!("{}{} argument {name}", object.path, event.name)]);
        }
    }
}
