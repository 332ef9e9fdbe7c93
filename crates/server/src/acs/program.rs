//! An operation as RPCs: what to ask next, what the answers mean.
//!
//! One operation may take several RPCs: names are listed before a pattern can be read, types are read before values can be set (CWMP sends each
//! value with its type, and devices refuse a wrong one).

use std::collections::{BTreeMap, VecDeque};

use homefleet_api::{
    AddResult, DeleteResult, GetResult, Instance, InstancesResult, Operation, ParamError,
    ParamSetting, PathError, ResolvedObject, SetResult, TaskError, TaskErrorCode, TaskResult,
    UpdatedInstance,
};
use homefleet_cwmp::{
    Fault, Message, ParameterValues, ValueType,
    message::{
        AddObject, DeleteObject, GetParameterNames, GetParameterValues, SetParameterValues, Status,
    },
};

use super::command::Commanding;

/// Names in one GetParameterValues.
const NAMES_AT_ONCE: usize = 256;
/// Most names that a pattern or a table is looked for in.
const MOST_NAMES: usize = 200_000;

/// What to do next.
#[derive(Debug)]
pub(super) enum Step {
    /// Ask the device.
    Send(Box<Message>),
    /// That was all.
    Done(Result<TaskResult, TaskError>),
}

/// What the answers teach.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Learned {
    /// Names and values.
    pub(super) values: Vec<(String, String)>,
    /// Object paths that were read completely.
    pub(super) complete: Vec<String>,
    /// Objects that are gone.
    pub(super) removed: Vec<String>,
    /// Objects below the one that was listed.
    pub(super) objects: Vec<String>,
}

/// An operation under way.
pub(super) struct Program {
    work: Work,
    pub(super) learned: Learned,
}

enum Work {
    Add(Adding),
    Delete {
        left: VecDeque<String>,
        results: Vec<DeleteResult>,
    },
    Get(Getting),
    Instances {
        left: VecDeque<String>,
        first_level_only: bool,
        results: Vec<InstancesResult>,
    },
    Command(Box<Commanding>),
    Discover(Discovering),
    Set(Setting),
    /// These, one after the other.
    Requests(VecDeque<Message>),
    Over(Option<Result<TaskResult, TaskError>>),
}

struct Discovering {
    path: String,
    listed: bool,
    /// Parameters that were not read yet.
    names: VecDeque<String>,
}

struct Getting {
    left: VecDeque<String>,
    /// Names that a pattern stands for and that were not read yet.
    names: VecDeque<String>,
    listing: bool,
    results: Vec<GetResult>,
}

struct Setting {
    left: VecDeque<(String, Vec<ParamSetting>)>,
    allow_partial: bool,
    /// Types of what is set now.
    types: Option<BTreeMap<String, ValueType>>,
    results: Vec<SetResult>,
}

struct Adding {
    left: VecDeque<(String, Vec<ParamSetting>)>,
    stage: AddStage,
    results: Vec<AddResult>,
}

enum AddStage {
    Create,
    Types(String),
    Values(String, BTreeMap<String, ValueType>),
    /// Its values were refused: it goes again.
    Undo(String, Box<AddResult>),
}

impl Program {
    /// The operation, for a device whose data model begins with `root`. `key` is the command key where the operation names none.
    pub(super) fn new(operation: &Operation, version: &str, key: &str) -> Self {
        let work = match operation {
            Operation::Add { objects, .. } => Work::Add(Adding {
                left: objects
                    .iter()
                    .map(|o| (o.path.clone(), o.params.clone()))
                    .collect(),
                stage: AddStage::Create,
                results: Vec::new(),
            }),
            Operation::Delete { paths, .. } => Work::Delete {
                left: paths.iter().cloned().collect(),
                results: Vec::new(),
            },
            Operation::Get { paths, .. } => Work::Get(Getting {
                left: paths.iter().cloned().collect(),
                names: VecDeque::new(),
                listing: false,
                results: Vec::new(),
            }),
            Operation::GetInstances {
                paths,
                first_level_only,
            } => Work::Instances {
                left: paths.iter().cloned().collect(),
                first_level_only: *first_level_only,
                results: Vec::new(),
            },
            Operation::GetSupportedDm { .. } => Work::Over(Some(Err(impossible(
                "a CWMP device cannot tell its supported data model; list its instances, or read it",
            )))),
            Operation::GetSupportedProtocol {} => {
                let versions = vec![format!("cwmp {version}")];
                Work::Over(Some(Ok(TaskResult::GetSupportedProtocol { versions })))
            }
            Operation::Operate {
                command,
                args,
                command_key,
            } => {
                let key = command_key.as_deref().unwrap_or(key);
                match Commanding::new(command, args, key) {
                    Ok(command) => Work::Command(Box::new(command)),
                    Err(error) => Work::Over(Some(Err(error))),
                }
            }
            // A device in a session is awake.
            Operation::Wake {} => Work::Over(Some(Ok(TaskResult::Wake {
                attempts: Vec::new(),
                events: Vec::new(),
            }))),
            Operation::Set {
                allow_partial,
                objects,
            } => Work::Set(Setting {
                left: objects
                    .iter()
                    .map(|o| (o.path.clone(), o.params.clone()))
                    .collect(),
                allow_partial: *allow_partial,
                types: None,
                results: Vec::new(),
            }),
        };
        Self {
            work,
            learned: Learned::default(),
        }
    }

    /// Nothing: it failed before it began.
    pub(super) fn failed(error: TaskError) -> Self {
        Self {
            work: Work::Over(Some(Err(error))),
            learned: Learned::default(),
        }
    }

    /// Lists what is directly below an object, and reads the parameters among it.
    pub(super) fn discover(path: String) -> Self {
        Self {
            work: Work::Discover(Discovering {
                path,
                listed: false,
                names: VecDeque::new(),
            }),
            learned: Learned::default(),
        }
    }

    /// These requests, one after the other, until one is refused.
    pub(super) fn requests(requests: Vec<Message>) -> Self {
        Self {
            work: Work::Requests(requests.into()),
            learned: Learned::default(),
        }
    }

    /// What to do next.
    pub(super) fn next(&mut self) -> Step {
        match &mut self.work {
            Work::Add(adding) => adding.next(),
            Work::Delete { left, results } => match left.front() {
                Some(path) if path.contains(['*', '[']) => {
                    let error = some_error(9005, "patterns cannot be deleted over CWMP");
                    results.push(DeleteResult {
                        requested: path.clone(),
                        deleted: Vec::new(),
                        failures: Vec::new(),
                        error: Some(error),
                    });
                    left.pop_front();
                    self.next()
                }
                Some(path) => send(DeleteObject {
                    object: path.clone(),
                    ..Default::default()
                }),
                None => {
                    let paths = std::mem::take(results);
                    let errors = paths
                        .iter()
                        .map(|p| (p.requested.as_str(), p.error.as_ref()));
                    Step::Done(all_failed(errors).map(|()| TaskResult::Delete { paths }))
                }
            },
            Work::Get(getting) => getting.next(),
            Work::Instances { left, results, .. } => match left.front() {
                Some(path) => send(GetParameterNames {
                    path: path.clone(),
                    next_level: false,
                }),
                None => {
                    let paths = std::mem::take(results);
                    let errors = paths
                        .iter()
                        .map(|p| (p.requested.as_str(), p.error.as_ref()));
                    Step::Done(all_failed(errors).map(|()| TaskResult::GetInstances { paths }))
                }
            },
            Work::Command(command) => command.next(),
            Work::Discover(discovering) => discovering.next(),
            Work::Set(setting) => setting.next(),
            Work::Requests(left) => match left.pop_front() {
                Some(request) => Step::Send(Box::new(request)),
                None => Step::Done(Ok(TaskResult::Set {
                    objects: Vec::new(),
                })),
            },
            Work::Over(result) => Step::Done(
                result
                    .take()
                    .unwrap_or_else(|| Err(invalid("the operation is over"))),
            ),
        }
    }

    /// Takes the device's answer to what was sent last.
    pub(super) fn answer(&mut self, answer: Result<Message, Fault>) {
        let learned = &mut self.learned;
        let over = match &mut self.work {
            Work::Add(adding) => adding.answer(answer, learned),
            Work::Delete { left, results } => {
                let path = left.pop_front().unwrap_or_default();
                let mut result = DeleteResult {
                    requested: path.clone(),
                    deleted: Vec::new(),
                    failures: Vec::new(),
                    error: None,
                };
                match answer {
                    Ok(Message::DeleteObjectResponse(_)) => {
                        learned.removed.push(path.clone());
                        result.deleted.push(path);
                    }
                    Ok(other) => result.error = Some(unexpected(&other)),
                    Err(fault) => result.error = Some(fault_error(&fault)),
                }
                results.push(result);
                None
            }
            Work::Get(getting) => {
                getting.answer(answer, learned);
                None
            }
            Work::Instances {
                left,
                first_level_only,
                results,
            } => {
                let path = left.pop_front().unwrap_or_default();
                results.push(instances(path, *first_level_only, answer));
                None
            }
            Work::Command(command) => command.answer(answer),
            Work::Discover(discovering) => discovering.answer(answer, learned),
            Work::Set(setting) => setting.answer(answer, learned),
            Work::Requests(_) => answer.err().map(|fault| Err(fault_task_error(&fault))),
            Work::Over(_) => None,
        };
        if let Some(over) = over {
            self.work = Work::Over(Some(over));
        }
    }
}

impl Discovering {
    fn next(&mut self) -> Step {
        if !self.listed {
            return send(GetParameterNames {
                path: self.path.clone(),
                next_level: true,
            });
        }
        if self.names.is_empty() {
            return Step::Done(Ok(TaskResult::Get { paths: Vec::new() }));
        }
        let names = self.names.iter().take(NAMES_AT_ONCE).cloned().collect();
        send(GetParameterValues { names })
    }

    fn answer(
        &mut self,
        answer: Result<Message, Fault>,
        learned: &mut Learned,
    ) -> Option<Result<TaskResult, TaskError>> {
        match answer {
            Ok(Message::GetParameterNamesResponse(response)) if !self.listed => {
                self.listed = true;
                for (name, _) in response.infos.iter().take(MOST_NAMES) {
                    // Some devices tell more than the next level, and the object itself.
                    let below = name.strip_prefix(self.path.as_str()).unwrap_or_default();
                    match below.split_once('.') {
                        Some((_, "")) => learned.objects.push(name.to_owned()),
                        None if !below.is_empty() => self.names.push_back(name.to_owned()),
                        _ => {}
                    }
                }
                None
            }
            Ok(Message::GetParameterValuesResponse(response)) if self.listed => {
                let values = response.values.iter();
                let values = values.map(|(name, value)| (name.to_owned(), value.text.to_owned()));
                learned.values.extend(values);
                self.names.drain(..self.names.len().min(NAMES_AT_ONCE));
                None
            }
            Ok(other) => Some(Err(invalid(&unexpected(&other).message))),
            Err(fault) => Some(Err(fault_task_error(&fault))),
        }
    }
}

impl Getting {
    fn next(&mut self) -> Step {
        if !self.names.is_empty() {
            let names = self.names.iter().take(NAMES_AT_ONCE).cloned().collect();
            return send(GetParameterValues { names });
        }
        match self.left.front() {
            Some(path) if path.contains(['[', '#', '+']) => {
                let requested = path.clone();
                self.left.pop_front();
                let why = "a CWMP device knows no search expressions; use `*` for instances";
                self.results.push(failed(requested, some_error(9005, why)));
                self.next()
            }
            Some(path) => {
                self.listing = path.contains('*');
                match path.split_once('*') {
                    Some((before, _)) => send(GetParameterNames {
                        path: before.to_owned(),
                        next_level: false,
                    }),
                    None => send(GetParameterValues {
                        names: vec![path.clone()],
                    }),
                }
            }
            None => {
                let paths = std::mem::take(&mut self.results);
                let errors = paths
                    .iter()
                    .map(|p| (p.requested.as_str(), p.error.as_ref()));
                Step::Done(all_failed(errors).map(|()| TaskResult::Get { paths }))
            }
        }
    }

    fn answer(&mut self, answer: Result<Message, Fault>, learned: &mut Learned) {
        let requested = self.left.front().cloned().unwrap_or_default();
        match answer {
            Ok(Message::GetParameterNamesResponse(response)) if self.listing => {
                self.listing = false;
                let all = response.infos.iter().take(MOST_NAMES).map(|(name, _)| name);
                let found = all.filter(|name| !name.ends_with('.') && fits(&requested, name));
                self.names = found.map(str::to_owned).collect();
                self.results.push(GetResult {
                    requested,
                    error: None,
                    objects: Vec::new(),
                });
                if self.names.is_empty() {
                    self.left.pop_front();
                }
            }
            Ok(Message::GetParameterValuesResponse(response)) => {
                let objects = objects(&response.values);
                for (name, value) in response.values.iter() {
                    learned
                        .values
                        .push((name.to_owned(), value.text.to_owned()));
                }
                if self.names.is_empty() {
                    if requested.ends_with('.') {
                        learned.complete.push(requested.clone());
                    }
                    self.results.push(GetResult {
                        requested,
                        error: None,
                        objects,
                    });
                    self.left.pop_front();
                    return;
                }
                self.names.drain(..self.names.len().min(NAMES_AT_ONCE));
                if let Some(last) = self.results.last_mut() {
                    merge(&mut last.objects, objects);
                }
                if self.names.is_empty() {
                    self.left.pop_front();
                }
            }
            other => {
                let error = match other {
                    Ok(message) => unexpected(&message),
                    Err(fault) => fault_error(&fault),
                };
                let began = !std::mem::take(&mut self.names).is_empty();
                if began && let Some(last) = self.results.last_mut() {
                    last.error = Some(error);
                } else {
                    self.results.push(failed(requested, error));
                }
                self.listing = false;
                self.left.pop_front();
            }
        }
    }
}

impl Setting {
    /// Which objects are set together: all of them, unless each may fail for itself.
    fn together(&self) -> usize {
        if self.allow_partial {
            1
        } else {
            self.left.len()
        }
    }

    fn names(&self) -> Vec<String> {
        let now = self.left.iter().take(self.together());
        now.flat_map(|(path, params)| params.iter().map(move |param| join(path, &param.name)))
            .collect()
    }

    fn next(&mut self) -> Step {
        if let Some(pattern) = self.left.iter().find(|(path, _)| path.contains(['*', '['])) {
            let why = format!("{}: values are set by full names over CWMP", pattern.0);
            return Step::Done(Err(impossible(&why)));
        }
        match (&self.types, self.left.is_empty()) {
            (_, true) => {
                let objects = std::mem::take(&mut self.results);
                let errors = objects
                    .iter()
                    .map(|o| (o.requested.as_str(), o.error.as_ref()));
                Step::Done(all_failed(errors).map(|()| TaskResult::Set { objects }))
            }
            (None, false) => send(GetParameterValues {
                names: self.names(),
            }),
            (Some(types), false) => {
                let mut values = ParameterValues::new();
                for (path, params) in self.left.iter().take(self.together()) {
                    push(&mut values, path, params, types);
                }
                send(SetParameterValues {
                    values,
                    parameter_key: String::new(),
                })
            }
        }
    }

    fn answer(
        &mut self,
        answer: Result<Message, Fault>,
        learned: &mut Learned,
    ) -> Option<Result<TaskResult, TaskError>> {
        match (answer, self.types.take()) {
            (Ok(Message::GetParameterValuesResponse(response)), None) => {
                self.types = Some(types(&response.values));
                None
            }
            (Ok(Message::SetParameterValuesResponse(response)), Some(_)) => {
                for (path, params) in self.left.drain(..self.together()).collect::<Vec<_>>() {
                    let mut instance = UpdatedInstance {
                        path: path.clone(),
                        params: BTreeMap::new(),
                        failures: Vec::new(),
                    };
                    for param in params {
                        // Checked and kept, but not in effect: what is read now is still the old value.
                        if response.status == Status::Applied {
                            let value = (join(&path, &param.name), param.value.clone());
                            learned.values.push(value);
                        }
                        instance.params.insert(param.name, param.value);
                    }
                    self.results.push(SetResult {
                        requested: path,
                        error: None,
                        instances: vec![instance],
                    });
                }
                None
            }
            (other, _) => {
                let error = match other {
                    Ok(message) => Err(unexpected(&message)),
                    Err(fault) => Ok(fault),
                };
                if !self.allow_partial {
                    return Some(Err(match error {
                        Ok(fault) => fault_task_error(&fault),
                        Err(error) => invalid(&error.message),
                    }));
                }
                let (requested, _) = self.left.pop_front().unwrap_or_default();
                let failures = error.as_ref().map(failures).unwrap_or_default();
                let path = requested.clone();
                self.results.push(SetResult {
                    requested,
                    error: Some(error.map_or_else(|error| error, |fault| fault_error(&fault))),
                    instances: vec![UpdatedInstance {
                        path,
                        params: BTreeMap::new(),
                        failures,
                    }],
                });
                None
            }
        }
    }
}

impl Adding {
    fn next(&mut self) -> Step {
        let Some((path, params)) = self.left.front() else {
            let objects = std::mem::take(&mut self.results);
            let errors = objects
                .iter()
                .map(|o| (o.requested.as_str(), o.error.as_ref()));
            return Step::Done(all_failed(errors).map(|()| TaskResult::Add { objects }));
        };
        match &self.stage {
            AddStage::Create => send(AddObject {
                object: path.clone(),
                ..Default::default()
            }),
            AddStage::Types(object) => send(GetParameterValues {
                names: params
                    .iter()
                    .map(|param| join(object, &param.name))
                    .collect(),
            }),
            AddStage::Values(object, types) => {
                let mut values = ParameterValues::new();
                push(&mut values, object, params, types);
                send(SetParameterValues {
                    values,
                    parameter_key: String::new(),
                })
            }
            AddStage::Undo(object, _) => send(DeleteObject {
                object: object.clone(),
                ..Default::default()
            }),
        }
    }

    fn answer(
        &mut self,
        answer: Result<Message, Fault>,
        learned: &mut Learned,
    ) -> Option<Result<TaskResult, TaskError>> {
        let requested = self.left.front().map(|(path, _)| path.clone());
        let requested = requested.unwrap_or_default();
        let no_values = self
            .left
            .front()
            .is_none_or(|(_, params)| params.is_empty());
        let blank = |path: Option<String>, error: Option<PathError>| AddResult {
            requested: requested.clone(),
            path,
            unique_keys: BTreeMap::new(),
            failures: Vec::new(),
            error,
        };
        let stage = std::mem::replace(&mut self.stage, AddStage::Create);
        let finished = match (stage, answer) {
            (AddStage::Create, Ok(Message::AddObjectResponse(response))) => {
                let object = format!("{requested}{}.", response.instance);
                if no_values {
                    blank(Some(object), None)
                } else {
                    self.stage = AddStage::Types(object);
                    return None;
                }
            }
            (AddStage::Types(object), Ok(Message::GetParameterValuesResponse(response))) => {
                self.stage = AddStage::Values(object, types(&response.values));
                return None;
            }
            (AddStage::Values(object, _), Ok(Message::SetParameterValuesResponse(_))) => {
                for param in self.left.front().into_iter().flat_map(|(_, params)| params) {
                    learned
                        .values
                        .push((join(&object, &param.name), param.value.clone()));
                }
                blank(Some(object), None)
            }
            (AddStage::Create, Ok(other)) => blank(None, Some(unexpected(&other))),
            (AddStage::Create, Err(fault)) => blank(None, Some(fault_error(&fault))),
            (AddStage::Types(object) | AddStage::Values(object, _), refused) => {
                let mut result = match &refused {
                    Ok(other) => blank(None, Some(unexpected(other))),
                    Err(fault) => blank(None, Some(fault_error(fault))),
                };
                result.failures = refused.err().as_ref().map(failures).unwrap_or_default();
                self.stage = AddStage::Undo(object, Box::new(result));
                return None;
            }
            // Whether or not it went: the first fault is what the operator is told.
            (AddStage::Undo(_, result), _) => *result,
        };
        self.results.push(finished);
        self.left.pop_front();
        None
    }
}

pub(super) fn send(message: impl Into<Message>) -> Step {
    Step::Send(Box::new(message.into()))
}

/// The path of a parameter in an object.
fn join(object: &str, name: &str) -> String {
    let dot = if object.ends_with('.') { "" } else { "." };
    format!("{object}{dot}{name}")
}

pub(super) fn types(values: &ParameterValues) -> BTreeMap<String, ValueType> {
    values
        .iter()
        .map(|(name, value)| (name.to_owned(), value.kind))
        .collect()
}

fn push(
    values: &mut ParameterValues,
    path: &str,
    params: &[ParamSetting],
    types: &BTreeMap<String, ValueType>,
) {
    for param in params {
        let name = join(path, &param.name);
        let kind = types.get(&name).copied().unwrap_or_default();
        let text = param.value.as_str();
        values.push(&name, homefleet_cwmp::Value { kind, text });
    }
}

/// Whether a full name fits a path in which `*` stands for instance numbers.
fn fits(pattern: &str, name: &str) -> bool {
    let mut wanted = pattern.split('.').peekable();
    let mut found = name.split('.');
    while let Some(word) = wanted.next() {
        // The end of an object path: everything below it.
        if word.is_empty() && wanted.peek().is_none() {
            return true;
        }
        let fits = match found.next() {
            Some(found) if word == "*" => is_number(found),
            Some(found) => word == found,
            None => false,
        };
        if !fits {
            return false;
        }
    }
    found.next().is_none()
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// Values by their objects.
fn objects(values: &ParameterValues) -> Vec<ResolvedObject> {
    let mut objects: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
    for (name, value) in values.iter() {
        let (object, leaf) = match name.rfind('.') {
            Some(dot) => name.split_at(dot + 1),
            None => ("", name),
        };
        let params = objects.entry(object).or_default();
        params.insert(leaf.to_owned(), value.text.to_owned());
    }
    objects
        .into_iter()
        .map(|(path, params)| ResolvedObject {
            path: path.to_owned(),
            params,
        })
        .collect()
}

fn merge(all: &mut Vec<ResolvedObject>, more: Vec<ResolvedObject>) {
    for object in more {
        match all.iter_mut().find(|known| known.path == object.path) {
            Some(known) => known.params.extend(object.params),
            None => all.push(object),
        }
    }
}

/// Instances at or below a table, from a list of names.
fn instances(
    requested: String,
    first_level_only: bool,
    answer: Result<Message, Fault>,
) -> InstancesResult {
    let (instances, error) = match answer {
        Ok(Message::GetParameterNamesResponse(response)) => {
            let all = response.infos.iter().take(MOST_NAMES).map(|(name, _)| name);
            let found = all.filter(|name| {
                let below = name.strip_prefix(requested.as_str());
                let instance = name
                    .strip_suffix('.')
                    .and_then(|path| path.rsplit('.').next())
                    .is_some_and(is_number);
                let depth = below.map_or(0, |below| below.matches('.').count());
                instance && depth >= 1 && (depth == 1 || !first_level_only)
            });
            let instances = found.map(|path| Instance {
                path: path.to_owned(),
                unique_keys: BTreeMap::new(),
            });
            (instances.collect(), None)
        }
        Ok(other) => (Vec::new(), Some(unexpected(&other))),
        Err(fault) => (Vec::new(), Some(fault_error(&fault))),
    };
    InstancesResult {
        requested,
        instances,
        error,
    }
}

/// Fails when there were parts and none succeeded.
fn all_failed<'a>(
    parts: impl Iterator<Item = (&'a str, Option<&'a PathError>)>,
) -> Result<(), TaskError> {
    let mut errors = Vec::new();
    for (path, error) in parts {
        let Some(error) = error else { return Ok(()) };
        errors.push(ParamError {
            path: path.to_owned(),
            code: error.code,
            message: error.message.clone(),
        });
    }
    let Some(first) = errors.first() else {
        return Ok(());
    };
    Err(TaskError {
        code: TaskErrorCode::Device,
        usp_code: None,
        message: format!("{} {}", first.code, first.message),
        param_errors: errors,
    })
}

fn failed(requested: String, error: PathError) -> GetResult {
    GetResult {
        requested,
        error: Some(error),
        objects: Vec::new(),
    }
}

fn some_error(code: u32, message: &str) -> PathError {
    PathError {
        code,
        message: message.to_owned(),
    }
}

fn fault_error(fault: &Fault) -> PathError {
    some_error(fault.code.0, &fault.text)
}

fn unexpected(message: &Message) -> PathError {
    some_error(0, &format!("the device answered with {}", message.name()))
}

/// What SetParameterValues says was wrong with which parameter.
fn failures(fault: &Fault) -> Vec<ParamError> {
    let parameters = fault.parameters.iter();
    parameters
        .map(|parameter| ParamError {
            path: parameter.name.clone(),
            code: parameter.code.0,
            message: parameter.text.clone(),
        })
        .collect()
}

pub(super) fn fault_task_error(fault: &Fault) -> TaskError {
    TaskError {
        code: TaskErrorCode::Device,
        usp_code: None,
        message: format!("{} {}", fault.code.0, fault.text),
        param_errors: failures(fault),
    }
}

pub(super) fn impossible(why: &str) -> TaskError {
    plain(TaskErrorCode::InvalidRequest, why)
}

pub(super) fn invalid(why: &str) -> TaskError {
    plain(TaskErrorCode::InvalidAnswer, why)
}

fn plain(code: TaskErrorCode, why: &str) -> TaskError {
    TaskError {
        code,
        usp_code: None,
        message: why.to_owned(),
        param_errors: Vec::new(),
    }
}
