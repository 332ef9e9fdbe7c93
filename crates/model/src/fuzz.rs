//! Entry points for fuzzing; they never panic.

use std::sync::Arc;

use crate::{
    path::{ObjectPath, ParamPath, Path},
    schema::{Event, Object, ObjectAccess, Param, Schema},
    tree::{Row, RowKind, Tree},
    value::{ListType, Strength, Type, Value},
};

static REFERENCES: ListType = ListType::of(Type::Reference(Strength::Strong));
static NUMBERS: ListType = ListType::of(Type::Int);

static OBJECTS: &[Object] = &[
    Object {
        path: "Device.",
        params: &[
            Param::ro("ANumberOfEntries", Type::UnsignedInt),
            Param::rw("When", Type::DateTime),
        ],
        events: &[Event {
            name: "Boot!",
            args: &[],
        }],
        ..Object::EMPTY
    },
    Object {
        path: "Device.A.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["Alias"], &["Name", "Number"]],
        params: &[
            Param::rw("Alias", Type::string(64)),
            Param::rw("Name", Type::STRING),
            Param::rw("Number", Type::Int),
            Param::rw("Ref", Type::Reference(Strength::Strong)),
            Param::rw("Refs", Type::List(&REFERENCES)),
            Param::rw("Numbers", Type::List(&NUMBERS)),
            Param::rw("Key", Type::STRING).secret(),
            Param::rw("Raw", Type::HEX),
            Param::rw("Ratio", Type::Decimal),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.A.{i}.B.{i}.",
        access: ObjectAccess::AddDelete,
        params: &[Param::rw("Value", Type::BASE64)],
        ..Object::EMPTY
    },
];

/// Text as a path and as values of every type: what parses is shown again and parses to the same.
///
/// # Panics
/// When a round trip loses something: that is what fuzzing looks for.
pub fn codec(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(path) = Path::parse(&text) {
        assert_eq!(Path::parse(&path.to_string()).as_ref(), Ok(&path));
        if let Some(object) = path.to_object() {
            assert_eq!(
                object.to_string().parse::<ObjectPath>().as_ref(),
                Ok(&object)
            );
        }
        if let Some(param) = path.to_param() {
            assert_eq!(param.to_string().parse::<ParamPath>().as_ref(), Ok(&param));
        }
    }
    for ty in [
        Type::BASE64,
        Type::Boolean,
        Type::DateTime,
        Type::Decimal,
        Type::HEX,
        Type::Int,
        Type::Long,
        Type::UnsignedInt,
        Type::UnsignedLong,
        Type::STRING,
        Type::Reference(Strength::Weak),
        Type::List(&NUMBERS),
        Type::List(&REFERENCES),
    ] {
        if let Ok(value) = Value::new(ty, &text) {
            assert_eq!(Value::new(ty, value.as_str()).as_ref(), Ok(&value));
        }
    }
}

/// Lines as operations on a tree; afterwards an export imports to the same tree.
///
/// # Panics
/// When the tree's invariants do not hold: that is what fuzzing looks for.
pub fn machine(bytes: &[u8]) {
    let Ok(schema) = Schema::new(&[OBJECTS]) else {
        return;
    };
    let schema = Arc::new(schema);
    let mut tree = Tree::new(Arc::clone(&schema));
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().take(200).peekable();
    while lines.peek().is_some() {
        let before = tree.export();
        let mut transaction = tree.transaction();
        let mut keep = false;
        for line in lines.by_ref() {
            let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
            let (path, value) = rest.split_once(' ').unwrap_or((rest, ""));
            let savepoint = transaction.savepoint();
            match verb {
                "commit" => {
                    keep = true;
                    break;
                }
                "rollback" => break,
                "set" => path
                    .parse()
                    .ok()
                    .map(|path| transaction.set(&path, value).is_ok()),
                "add" => path.parse().ok().map(|path| transaction.add(&path).is_ok()),
                "delete" => path
                    .parse()
                    .ok()
                    .map(|path| transaction.delete(&path).is_ok()),
                "undo" => {
                    transaction.rollback_to(savepoint);
                    None
                }
                _ => Path::parse(rest)
                    .ok()
                    .map(|path| transaction.tree().resolve(&path).is_ok()),
            };
        }
        if keep {
            let kept = transaction.commit().is_ok();
            assert!(kept || without_numbers(&tree.export()) == without_numbers(&before));
        } else {
            transaction.rollback();
            assert_eq!(without_numbers(&tree.export()), without_numbers(&before));
        }
    }
    let exported = tree.export();
    let mut again = Tree::new(schema);
    let report = again.import(exported.clone());
    assert_eq!((report.refused.len(), report.waiting), (0, 0));
    assert_eq!(again.export(), exported);
}

/// Instance numbers that were given stay given, whatever becomes of the row.
fn without_numbers(rows: &[Row]) -> Vec<Row> {
    rows.iter()
        .filter(|row| row.kind != RowKind::Next)
        .cloned()
        .collect()
}
