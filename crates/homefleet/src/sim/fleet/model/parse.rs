//! The text of a model.

use std::collections::BTreeSet;

use homefleet_cwmp::ValueType;

use super::{Model, Param, Root, Start};

/// Most parameters of a model.
const MOST: usize = 200_000;

/// What is wrong with the text of a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ModelError {
    /// A line that is none.
    #[error("line {line} of the model: {problem}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// More than can be.
    #[error("a model has at most {MOST} parameters")]
    TooMany,
}

/// An object of the text with its parameters.
struct Object {
    /// With its braces.
    path: String,
    params: Vec<Line>,
}

struct Line {
    informed: bool,
    name: String,
    kind: ValueType,
    writable: bool,
    start: Start,
}

pub(super) fn parse(root: Root, text: &str, parameters: usize) -> Result<Model, ModelError> {
    if parameters > MOST {
        return Err(ModelError::TooMany);
    }
    let objects = read(root, text)?;
    let fills = |object: &&Object| object.path.contains("{*}");
    let count = |object: &Object, fill| instances(root, &object.path, fill).len();
    let fixed: usize = objects
        .iter()
        .filter(|object| !fills(object))
        .map(|object| count(object, 0) * object.params.len())
        .sum();
    let each: usize = objects
        .iter()
        .filter(fills)
        .map(|object| object.params.len())
        .sum();
    let fill = parameters.saturating_sub(fixed).div_ceil(each.max(1));
    let mut model = Model {
        root,
        params: Vec::with_capacity(fixed + fill * each),
        tables: BTreeSet::new(),
        informed: Vec::new(),
    };
    let mut informed = BTreeSet::new();
    for object in &objects {
        if let Some(table) = object.path.strip_suffix("+}.") {
            let table = table.rsplit_once('{').map_or("", |(table, _)| table);
            for (path, _) in instances(root, table, fill) {
                model.tables.insert(path);
            }
        }
        for (path, number) in instances(root, &object.path, fill) {
            for line in &object.params {
                let name = format!("{path}{}", line.name);
                if line.informed {
                    informed.insert(name.clone());
                }
                model.params.push(Param {
                    name,
                    kind: line.kind,
                    writable: line.writable,
                    start: numbered(&line.start, number),
                });
            }
        }
    }
    model.params.sort_by(|a, b| a.name.cmp(&b.name));
    model.params.dedup_by(|a, b| a.name == b.name);
    let places = model.params.iter().enumerate();
    model.informed = places
        .filter(|(_, param)| informed.contains(&param.name))
        .map(|(place, _)| place)
        .collect();
    Ok(model)
}

fn read(root: Root, text: &str) -> Result<Vec<Object>, ModelError> {
    let mut objects: Vec<Object> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let wrong = |problem| ModelError::Line {
            line: number + 1,
            problem,
        };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some(rest) = line.strip_prefix(['*', ' ']) else {
            objects.push(Object {
                path: line.trim().replace("(root)", ""),
                params: Vec::new(),
            });
            continue;
        };
        let object = objects.last_mut().ok_or(wrong("no object before it"))?;
        let mut parts = rest.trim_start().splitn(3, ' ');
        let name = parts.next().unwrap_or_default();
        let kind = parts.next().ok_or(wrong("no type"))?;
        let (kind, writable) = match kind.strip_suffix(":w") {
            Some(kind) => (kind, true),
            None => (kind, false),
        };
        let mut start = start(root, parts.next().unwrap_or_default())
            .ok_or(wrong("a value that is not known"))?;
        if kind == "secret" {
            start = Start::Secret;
        }
        let known = ValueType::ALL.iter().find(|known| known.name() == kind);
        let kind = match known {
            Some(kind) => *kind,
            None if kind == "secret" => ValueType::String,
            None => return Err(wrong("a type that is not known")),
        };
        object.params.push(Line {
            informed: line.starts_with('*'),
            name: name.to_owned(),
            kind,
            writable,
            start,
        });
    }
    if root == Root::Usp {
        objects.retain(|object| object.path != "ManagementServer.");
    }
    Ok(objects)
}

fn start(root: Root, text: &str) -> Option<Start> {
    if let Some(table) = text.strip_prefix('#') {
        return Some(Start::Count(format!("{}{table}", root.prefix())));
    }
    let mut words = text.split(' ');
    Some(match words.next()? {
        "$oui" => Start::Oui,
        "$class" => Start::Class,
        "$serial" => Start::Serial,
        "$mac" => Start::Mac,
        "$ip" => Start::Ip,
        "$ip6" => Start::Ip6,
        "$uptime" => Start::Uptime,
        "$now" => Start::Now,
        "$acs" => Start::Acs,
        "$login" => Start::Login,
        "$period" => Start::Period,
        "$call" => Start::Call,
        "$counter" => Start::Counter(words.next()?.parse().ok()?),
        "$between" => {
            let (low, high) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            (low <= high).then_some(Start::Between(low, high))?
        }
        _ if text.contains("$serial") => Start::WithSerial(text.to_owned()),
        _ => Start::Text(text.to_owned()),
    })
}

/// With the number of its instance, where the text has one.
fn numbered(start: &Start, number: usize) -> Start {
    match start {
        Start::Text(text) if text.contains("$n") => {
            Start::Text(text.replace("$n", &number.to_string()))
        }
        other => other.clone(),
    }
}

/// The paths that a path with braces stands for, each with the number of its last instance.
fn instances(root: Root, path: &str, fill: usize) -> Vec<(String, usize)> {
    let mut all = vec![(root.prefix().to_owned(), 0)];
    for part in path.split_inclusive('.') {
        let braces = part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix("}."));
        let Some(braces) = braces else {
            all.iter_mut().for_each(|(path, _)| path.push_str(part));
            continue;
        };
        let count = match braces.trim_end_matches('+') {
            "*" => fill,
            digits => digits.parse().unwrap_or(0),
        };
        all = all
            .into_iter()
            .flat_map(|(path, _)| (1..=count).map(move |n| (format!("{path}{n}."), n)))
            .collect();
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(text: &str, parameters: usize) -> Result<Model, ModelError> {
        parse(Root::Device, text, parameters)
    }

    #[test]
    fn objects_have_instances_and_tables_can_be_added_to() {
        let text = "A.{2}.B.{2+}.\n* X string:w x$n\nHosts.{*}.\n  Y int 1\n";
        let model = parsed(text, 7).unwrap();
        let names: Vec<&str> = model
            .params
            .iter()
            .map(|param| param.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "Device.A.1.B.1.X",
                "Device.A.1.B.2.X",
                "Device.A.2.B.1.X",
                "Device.A.2.B.2.X",
                "Device.Hosts.1.Y",
                "Device.Hosts.2.Y",
                "Device.Hosts.3.Y"
            ]
        );
        assert_eq!(model.informed, [0, 1, 2, 3]);
        assert_eq!(model.params[1].start, Start::Text("x2".to_owned()));
        let tables: Vec<&str> = model.tables.iter().map(String::as_str).collect();
        assert_eq!(tables, ["Device.A.1.B.", "Device.A.2.B."]);
    }

    #[test]
    fn what_is_no_model_is_refused_with_its_line() {
        let wrong = |line, problem| Some(ModelError::Line { line, problem });
        assert_eq!(
            parsed("  X int 1", 1).err(),
            wrong(1, "no object before it")
        );
        assert_eq!(
            parsed("A.\n  X real 1", 1).err(),
            wrong(2, "a type that is not known")
        );
        assert_eq!(parsed("A.\n  X", 1).err(), wrong(2, "no type"));
        assert_eq!(
            parsed("A.\n  X int $between 2 1", 1).err(),
            wrong(2, "a value that is not known")
        );
        assert_eq!(parsed("", MOST + 1).err(), Some(ModelError::TooMany));
    }
}
