//! A task in one line, with its result and its errors in full below.

use std::collections::BTreeMap;

use homefleet_api::client::encode;
use homefleet_api::{Operation, ParamError, PathError, Task, TaskResult, TaskState};

use super::when::{Clock, When, between};

/// Values of a result on a page; what lies beyond is counted and said.
const VALUES: usize = 300;

/// A task.
#[derive(Debug)]
pub(crate) struct Item {
    /// Identifier.
    pub(crate) id: String,
    /// Endpoint ID of its device.
    pub(crate) device: String,
    /// The device's page.
    pub(crate) device_href: String,
    /// State.
    pub(crate) state: &'static str,
    /// What was asked.
    pub(crate) verb: &'static str,
    /// On what.
    pub(crate) what: String,
    /// When.
    pub(crate) created: When,
    /// How long it took; empty while it lasts.
    pub(crate) took: String,
    /// How often it was tried; empty when that says nothing.
    pub(crate) attempts: String,
    /// Who asked.
    pub(crate) by: String,
    /// Whether its details start unfolded.
    pub(crate) open: bool,
    /// Whether it can still be withdrawn.
    pub(crate) cancellable: bool,
    /// What went wrong, in whole or in part.
    pub(crate) problems: Vec<Line>,
    /// What was answered.
    pub(crate) results: Vec<Part>,
}

/// Something that went wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// With what; empty for the whole.
    pub(crate) path: String,
    /// USP error code; empty when it has none.
    pub(crate) code: String,
    /// The device's words, or the server's.
    pub(crate) message: String,
}

/// A part of the answer.
#[derive(Debug, Default)]
pub(crate) struct Part {
    /// What it is about; empty when that is clear.
    pub(crate) title: String,
    /// Names and values.
    pub(crate) values: Vec<(String, String)>,
    /// Values left out.
    pub(crate) more: usize,
}

impl Item {
    /// This task.
    pub(crate) fn new(task: &Task, clock: &Clock) -> Self {
        let mut problems = Vec::new();
        let mut results = asked(&task.operation);
        if let Some(error) = &task.error {
            problems.push(Line {
                path: String::new(),
                code: error
                    .usp_code
                    .map(|code| code.to_string())
                    .unwrap_or_default(),
                message: error.message.clone(),
            });
            parts(&mut problems, "", &error.param_errors);
        } else if let (false, Some(problem)) = (task.state.is_final(), &task.last_problem) {
            problems.push(Line {
                path: String::new(),
                code: String::new(),
                message: format!("Last attempt: {problem}"),
            });
        }
        if let Some(result) = &task.result {
            read(result, &mut results, &mut problems);
        }
        limit(&mut results);
        let (verb, what) = words(&task.operation);
        Self {
            id: task.id.clone(),
            device: task.device.clone(),
            device_href: format!("/devices/{}", encode(&task.device)),
            state: task.state.as_str(),
            verb,
            what,
            created: clock.when(&task.created),
            took: if task.state.is_final() {
                between(&task.created, &task.updated)
            } else {
                String::new()
            },
            attempts: match task.attempts {
                0 | 1 => String::new(),
                several => format!("{several} attempts"),
            },
            by: task.created_by.clone(),
            open: task.error.is_some() || !problems.is_empty(),
            cancellable: task.state == TaskState::Queued,
            problems,
            results,
        }
    }
}

fn read(result: &TaskResult, results: &mut Vec<Part>, problems: &mut Vec<Line>) {
    match result {
        TaskResult::Get { paths } => {
            let mut part = Part::default();
            for path in paths {
                whole(problems, &path.requested, path.error.as_ref());
                for object in &path.objects {
                    part.values.extend(prefixed(&object.path, &object.params));
                }
            }
            results.push(part);
        }
        TaskResult::Set { objects } => {
            let mut part = Part::default();
            for object in objects {
                whole(problems, &object.requested, object.error.as_ref());
                for instance in &object.instances {
                    part.values
                        .extend(prefixed(&instance.path, &instance.params));
                    parts(problems, &instance.path, &instance.failures);
                }
            }
            results.push(part);
        }
        TaskResult::Add { objects } => {
            for object in objects {
                whole(problems, &object.requested, object.error.as_ref());
                parts(
                    problems,
                    object.path.as_deref().unwrap_or(&object.requested),
                    &object.failures,
                );
                if let Some(path) = &object.path {
                    results.push(Part {
                        title: format!("created {path}"),
                        values: prefixed("", &object.unique_keys).collect(),
                        more: 0,
                    });
                }
            }
        }
        TaskResult::Delete { paths } => {
            for path in paths {
                whole(problems, &path.requested, path.error.as_ref());
                parts(problems, "", &path.failures);
                results.extend(path.deleted.iter().map(|deleted| Part {
                    title: format!("deleted {deleted}"),
                    ..Part::default()
                }));
            }
        }
        TaskResult::Operate { commands } => {
            for command in commands {
                whole(problems, &command.command, command.error.as_ref());
                if command.error.is_none() {
                    results.push(Part {
                        title: "answered".to_owned(),
                        values: prefixed("", &command.output).collect(),
                        ..Part::default()
                    });
                }
            }
        }
        TaskResult::GetInstances { paths } => {
            let mut part = Part::default();
            for path in paths {
                whole(problems, &path.requested, path.error.as_ref());
                for instance in &path.instances {
                    let keys: Vec<String> = instance
                        .unique_keys
                        .iter()
                        .map(|(name, value)| format!("{name}={value}"))
                        .collect();
                    part.values.push((instance.path.clone(), keys.join(" ")));
                }
            }
            results.push(part);
        }
        TaskResult::GetSupportedDm { paths } => {
            for path in paths {
                whole(problems, &path.requested, path.error.as_ref());
                let mut part = Part {
                    title: path.data_model.clone(),
                    ..Part::default()
                };
                for object in &path.objects {
                    part.values
                        .push((object.path.clone(), object.access.clone()));
                    for param in &object.params {
                        let kind = format!("{} {}", param.access, param.value_type);
                        part.values
                            .push((format!("{}{}", object.path, param.name), kind));
                    }
                    for command in &object.commands {
                        part.values.push((
                            format!("{}{}", object.path, command.name),
                            "command".to_owned(),
                        ));
                    }
                    for event in &object.events {
                        part.values
                            .push((format!("{}{}", object.path, event.name), "event".to_owned()));
                    }
                }
                results.push(part);
            }
        }
        TaskResult::Wake { attempts, events } => {
            let mut values: Vec<_> = attempts
                .iter()
                .map(|attempt| ("tried".to_owned(), attempt.to_string()))
                .collect();
            values.extend(
                events
                    .iter()
                    .map(|event| ("came".to_owned(), event.clone())),
            );
            results.push(Part {
                values,
                ..Part::default()
            });
        }
        TaskResult::GetSupportedProtocol { versions } => results.push(Part {
            title: versions.join(", "),
            ..Part::default()
        }),
    }
}

fn prefixed<'a>(
    path: &'a str,
    values: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (String, String)> + 'a {
    values
        .iter()
        .map(move |(name, value)| (format!("{path}{name}"), value.clone()))
}

fn whole(problems: &mut Vec<Line>, path: &str, error: Option<&PathError>) {
    problems.extend(error.map(|error| Line {
        path: path.to_owned(),
        code: error.code.to_string(),
        message: error.message.clone(),
    }));
}

fn parts(problems: &mut Vec<Line>, object: &str, errors: &[ParamError]) {
    problems.extend(errors.iter().map(|error| Line {
        path: if error.path.starts_with(object) {
            error.path.clone()
        } else {
            format!("{object}{}", error.path)
        },
        code: error.code.to_string(),
        message: error.message.clone(),
    }));
}

/// Keeps the page readable: the whole answer is one `homefleet task show` away.
fn limit(results: &mut [Part]) {
    let mut left = VALUES;
    for part in results {
        let kept = part.values.len().min(left);
        part.more = part.values.len() - kept;
        part.values.truncate(kept);
        left -= kept;
    }
}

/// What the operation is called, and on what it acts, in one line.
fn words(operation: &Operation) -> (&'static str, String) {
    match operation {
        Operation::Get { paths, .. } => ("Get", paths.join(", ")),
        Operation::Set { objects, .. } => {
            let settings: Vec<String> = objects
                .iter()
                .flat_map(|object| {
                    object
                        .params
                        .iter()
                        .map(|param| format!("{}{} = {}", object.path, param.name, param.value))
                })
                .collect();
            ("Set", settings.join(", "))
        }
        Operation::Add { objects, .. } => {
            let paths: Vec<&str> = objects.iter().map(|object| object.path.as_str()).collect();
            ("Add", paths.join(", "))
        }
        Operation::Delete { paths, .. } => ("Delete", paths.join(", ")),
        Operation::Operate { command, .. } => ("Operate", command.clone()),
        Operation::GetInstances { paths, .. } => ("Instances", paths.join(", ")),
        Operation::GetSupportedDm { paths, .. } => ("Supported", paths.join(", ")),
        Operation::GetSupportedProtocol {} => ("Supported", "USP versions".to_owned()),
        Operation::Wake {} => ("Wake", String::new()),
    }
}

/// What was asked beyond that line: the parameters of a new object, the arguments of a command.
fn asked(operation: &Operation) -> Vec<Part> {
    let with = |values: Vec<(String, String)>| Part {
        title: "with".to_owned(),
        values,
        more: 0,
    };
    let parts: Vec<Part> = match operation {
        Operation::Add { objects, .. } => objects
            .iter()
            .map(|object| {
                let params = object.params.iter();
                with(
                    params
                        .map(|param| (param.name.clone(), param.value.clone()))
                        .collect(),
                )
            })
            .collect(),
        Operation::Operate { args, .. } => vec![with(prefixed("", args).collect())],
        _ => Vec::new(),
    };
    parts
        .into_iter()
        .filter(|part| !part.values.is_empty())
        .collect()
}
