//! Does a reference of a subscription name this parameter, row, event or command?

use homefleet_model::{
    path::{ObjectPath, ParamPath, Path, Segment, Target},
    tree::{Resolved, Tree},
};

/// References against one state of the tree; search expressions are resolved once, when first needed.
pub(crate) struct View<'a> {
    tree: &'a Tree,
    references: &'a [Path],
    resolved: Option<Vec<Resolved>>,
}

impl<'a> View<'a> {
    pub(crate) fn new(tree: &'a Tree, references: &'a [Path]) -> Self {
        Self {
            tree,
            references,
            resolved: None,
        }
    }

    /// ValueChange: the parameter itself, or any below an object path.
    pub(crate) fn names_param(&mut self, param: &ParamPath) -> bool {
        let object = param.object();
        let simple = self
            .references
            .iter()
            .any(|reference| match reference.target() {
                Target::Param(name) => {
                    name == param.name() && shape(reference, &object) == Shape::Same
                }
                Target::Object => {
                    matches!(shape(reference, &object), Shape::Same | Shape::Below)
                }
                Target::Command(_) | Target::Event(_) => false,
            });
        simple
            || self.resolved().iter().any(|item| match item {
                Resolved::Param(named) => named == param,
                Resolved::Object(named) | Resolved::Table(named) => object.starts_with(named),
                Resolved::Command(..) | Resolved::Event(..) => false,
            })
    }

    /// Whether a row lies at or below what the references name: its making or end changes what they tell.
    pub(crate) fn names_row(&mut self, row: &ObjectPath) -> bool {
        let simple = self.references.iter().any(|reference| {
            *reference.target() == Target::Object
                && matches!(shape(reference, row), Shape::Same | Shape::Below)
        });
        simple
            || self.resolved().iter().any(|item| match item {
                Resolved::Object(named) | Resolved::Table(named) => row.starts_with(named),
                _ => false,
            })
    }

    /// ObjectCreation: a row of the named table itself, not of tables below it.
    pub(super) fn names_created(&mut self, row: &ObjectPath) -> bool {
        let Some(table) = row.parent() else {
            return false;
        };
        let simple = self.references.iter().any(|reference| {
            *reference.target() == Target::Object
                && (shape(reference, &table) == Shape::Same || shape(reference, row) == Shape::Same)
        });
        simple
            || self.resolved().iter().any(|item| match item {
                Resolved::Table(named) => *named == table,
                Resolved::Object(named) => named == row,
                _ => false,
            })
    }

    /// ObjectDeletion: the named row, or any row of the named table.
    pub(super) fn names_deleted(&mut self, row: &ObjectPath) -> bool {
        self.names_created(row)
    }

    /// What the references with expressions or followed references name now.
    fn resolved(&mut self) -> &[Resolved] {
        let (tree, references) = (self.tree, self.references);
        self.resolved.get_or_insert_with(|| {
            let complex = references.iter().filter(|reference| is_complex(reference));
            complex
                .filter_map(|reference| tree.resolve(reference).ok())
                .flatten()
                .collect()
        })
    }
}

/// How an object lies relative to a reference made of names, numbers and wildcards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Same,
    Below,
    Elsewhere,
}

/// Compares segment by segment; a reference with expressions is left to resolution.
fn shape(reference: &Path, object: &ObjectPath) -> Shape {
    let mut parts = object.as_str().trim_end_matches('.').split('.');
    for segment in reference.segments() {
        let Some(part) = parts.next() else {
            return Shape::Elsewhere;
        };
        let fits = match segment {
            Segment::Name(name) => name == part,
            Segment::Instance(number) => part.parse() == Ok(*number),
            Segment::Wildcard => part.starts_with(|c: char| c.is_ascii_digit()),
            Segment::Search(_) | Segment::Follow { .. } => return Shape::Elsewhere,
        };
        if !fits {
            return Shape::Elsewhere;
        }
    }
    if parts.next().is_none() {
        Shape::Same
    } else {
        Shape::Below
    }
}

fn is_complex(reference: &Path) -> bool {
    reference
        .segments()
        .iter()
        .any(|segment| matches!(segment, Segment::Search(_) | Segment::Follow { .. }))
}

/// Event and OperationComplete: `leaf` (an event or a command) of `object` is what the reference names, or
/// lies below the object it names.
pub(crate) fn covers(tree: &Tree, reference: &Path, object: &ObjectPath, leaf: &str) -> bool {
    if is_complex(reference) {
        let Ok(resolved) = tree.resolve(reference) else {
            return false;
        };
        return resolved.iter().any(|item| match item {
            Resolved::Object(named) | Resolved::Table(named) => object.starts_with(named),
            Resolved::Command(named, command) => named == object && command.name == leaf,
            Resolved::Event(named, event) => named == object && event.name == leaf,
            Resolved::Param(_) => false,
        });
    }
    match reference.target() {
        Target::Object => matches!(shape(reference, object), Shape::Same | Shape::Below),
        Target::Command(name) | Target::Event(name) => {
            name == leaf && shape(reference, object) == Shape::Same
        }
        Target::Param(_) => false,
    }
}
