//! Resolution: from a path name to what exists (R-ARC.7, R-ARC.9 to R-ARC.11).
//!
//! The path is walked segment by segment with the set of objects that match so far. Beside it walks the
//! path's place in the supported data model, so that a search that matches nothing still tells a wrong path
//! (7026) from an empty result (R-MSG.4a, R-GET.0).

use std::{cell::Cell, collections::BTreeSet};

use super::{
    Tree,
    node::{Found, Miss, Node},
};
use crate::{
    error::ResolveError,
    path::{Condition, Item, ObjectPath, ParamPath, Path, Segment, Target},
    schema::{Command, Event, ObjectId},
    value,
};

/// References that lead to references by key: how deep they are followed.
const MAX_REFERENCE_DEPTH: u32 = 4;

/// How much work one path may be: rows looked at, conditions evaluated, references followed. A path in a
/// tree of 10,000 parameters takes some thousand.
const MAX_STEPS: u32 = 250_000;

/// What a path resolved to.
#[derive(Clone, Debug)]
pub enum Resolved {
    /// A single object or a row.
    Object(ObjectPath),
    /// A table.
    Table(ObjectPath),
    /// A parameter.
    Param(ParamPath),
    /// A command of an object.
    Command(ObjectPath, &'static Command),
    /// An event of an object.
    Event(ObjectPath, &'static Event),
}

/// An object that matches so far.
struct Here<'a> {
    path: String,
    found: Found<'a>,
}

/// What holds for the whole walk along a path.
struct Walk<'w> {
    /// Whether the path is a search: then what is missing is no error.
    search: bool,
    /// How many references by key led here.
    depth: u32,
    /// Steps that are left, shared with the walks inside.
    steps: &'w Cell<u32>,
}

impl Walk<'_> {
    fn step(&self) -> Result<(), ResolveError> {
        let left = self.steps.get();
        self.steps.set(left.saturating_sub(1));
        if left == 0 {
            Err(ResolveError::TooMuchWork(MAX_STEPS))
        } else {
            Ok(())
        }
    }
}

/// The place in the supported data model; unknown after a reference was followed.
type Place = Option<(ObjectId, bool)>;

impl Tree {
    /// Everything that `path` names, in instance order.
    ///
    /// A Search Path ([`Path::is_search`]) that matches nothing resolves to nothing; any other path that
    /// names nothing is an error.
    ///
    /// # Errors
    /// [`ResolveError`], with the USP code that fits ([`ResolveError::code`]).
    pub fn resolve(&self, path: &Path) -> Result<Vec<Resolved>, ResolveError> {
        self.resolve_at(path, 0, &Cell::new(MAX_STEPS))
    }

    fn resolve_at(
        &self,
        path: &Path,
        depth: u32,
        steps: &Cell<u32>,
    ) -> Result<Vec<Resolved>, ResolveError> {
        let unsupported = || ResolveError::Unsupported(path.to_string());
        let walk = Walk {
            search: path.is_search(),
            depth,
            steps,
        };
        let mut segments = path.segments().iter();
        let root = self.schema.root();
        if !matches!(segments.next(), Some(Segment::Name(name)) if name == root.name()) {
            return Err(unsupported());
        }
        let mut heres = vec![Here {
            path: format!("{}.", root.name()),
            found: Found::Object(&self.root),
        }];
        let mut place: Place = Some((0, true));
        for segment in segments {
            let next_place = self
                .next_place(place, segment)
                .map_err(|()| unsupported())?;
            if let Segment::Search(conditions) = segment
                && let Some((table, _)) = place
            {
                self.check_conditions(table, conditions)
                    .map_err(|error| error.unwrap_or_else(unsupported))?;
            }
            let mut next = Vec::with_capacity(heres.len());
            let mut unsupported_here = 0;
            let all = heres.len();
            for here in heres {
                let fits = self.step(&here, segment, &walk, &mut next)?;
                unsupported_here += usize::from(!fits);
                if next.len() > self.limits.max_matches {
                    return Err(ResolveError::TooMany(self.limits.max_matches));
                }
            }
            // Objects of several kinds can stand here after references were followed: one that fits is enough.
            if all > 0 && unsupported_here == all {
                return Err(unsupported());
            }
            heres = next;
            place = next_place;
        }
        self.targets(path, heres, place)
    }

    fn targets(
        &self,
        path: &Path,
        heres: Vec<Here<'_>>,
        place: Place,
    ) -> Result<Vec<Resolved>, ResolveError> {
        let unsupported = || ResolveError::Unsupported(path.to_string());
        if let Some((id, in_row)) = place {
            let info = self.schema.info(id);
            let known = match path.target() {
                Target::Object => true,
                Target::Param(name) => in_row && info.param(name).is_some(),
                Target::Command(name) => in_row && info.command(name).is_some(),
                Target::Event(name) => in_row && info.event(name).is_some(),
            };
            if !known {
                return Err(unsupported());
            }
        }
        let any = !heres.is_empty();
        // Several references can lead to one object.
        let mut seen = BTreeSet::new();
        let follows = path
            .segments()
            .iter()
            .any(|segment| matches!(segment, Segment::Follow { .. }));
        let resolved: Vec<Resolved> = heres
            .into_iter()
            .filter(|here| !follows || seen.insert(here.path.clone()))
            .filter_map(|here| {
                let object = ObjectPath::from_text(here.path);
                match (here.found, path.target()) {
                    (Found::Object(_), Target::Object) => Some(Resolved::Object(object)),
                    (Found::Table(..), Target::Object) => Some(Resolved::Table(object)),
                    (Found::Table(..), _) => None,
                    (Found::Object(node), Target::Param(name)) => self
                        .schema
                        .info(node.id)
                        .param(name)
                        .map(|_| Resolved::Param(object.param(name))),
                    (Found::Object(node), Target::Command(name)) => self
                        .schema
                        .info(node.id)
                        .command(name)
                        .map(|command| Resolved::Command(object, command)),
                    (Found::Object(node), Target::Event(name)) => self
                        .schema
                        .info(node.id)
                        .event(name)
                        .map(|event| Resolved::Event(object, event)),
                }
            })
            .collect();
        if any && resolved.is_empty() {
            return Err(unsupported());
        }
        Ok(resolved)
    }

    fn next_place(&self, place: Place, segment: &Segment) -> Result<Place, ()> {
        let Some((id, in_row)) = place else {
            return Ok(None);
        };
        let info = self.schema.info(id);
        match segment {
            Segment::Name(name) => {
                let child = in_row.then(|| info.child(name)).flatten().ok_or(())?;
                Ok(Some((child, !self.schema.info(child).is_table())))
            }
            Segment::Instance(_) | Segment::Wildcard | Segment::Search(_) => {
                if in_row {
                    return Err(());
                }
                Ok(Some((id, true)))
            }
            Segment::Follow { param, .. } => {
                if !in_row || info.param(param).is_none() {
                    return Err(());
                }
                Ok(None)
            }
        }
    }

    /// One segment from one object; `false` when the data model has no such step here.
    fn step<'a>(
        &'a self,
        here: &Here<'a>,
        segment: &Segment,
        walk: &Walk<'_>,
        next: &mut Vec<Here<'a>>,
    ) -> Result<bool, ResolveError> {
        match (here.found, segment) {
            (Found::Object(node), Segment::Name(name)) => {
                let Some(found) = self.child(node, name) else {
                    return Ok(false);
                };
                next.push(Here {
                    path: format!("{}{name}.", here.path),
                    found,
                });
            }
            (Found::Table(table, _), Segment::Instance(number)) => match table.rows.get(number) {
                Some(row) => next.push(Here {
                    path: format!("{}{number}.", here.path),
                    found: Found::Object(row),
                }),
                None if walk.search => {}
                None => return Err(ResolveError::NoInstance(format!("{}{number}.", here.path))),
            },
            (Found::Table(table, _), Segment::Wildcard) => {
                for (number, row) in &table.rows {
                    next.push(Here {
                        path: format!("{}{number}.", here.path),
                        found: Found::Object(row),
                    });
                }
            }
            (Found::Table(table, _), Segment::Search(conditions)) => {
                for (number, row) in &table.rows {
                    walk.step()?;
                    let mut all = true;
                    for condition in conditions {
                        if !self.holds(row, condition, walk)? {
                            all = false;
                            break;
                        }
                    }
                    if all {
                        next.push(Here {
                            path: format!("{}{number}.", here.path),
                            found: Found::Object(row),
                        });
                    }
                }
            }
            (Found::Object(node), Segment::Follow { param, item }) => {
                return self.follow(&here.path, node, param, *item, walk, next);
            }
            (Found::Object(_) | Found::Table(..), _) => return Ok(false),
        }
        Ok(true)
    }

    /// Follows a reference parameter (TR-369 §2.5.5). `false` when the object has no such parameter.
    fn follow<'a>(
        &'a self,
        path: &str,
        node: &'a Node,
        param: &str,
        item: Item,
        walk: &Walk<'_>,
        next: &mut Vec<Here<'a>>,
    ) -> Result<bool, ResolveError> {
        let info = self.schema.info(node.id);
        let Some(slot) = info
            .param_index(param)
            .and_then(|index| node.slots.get(index))
        else {
            return Ok(false);
        };
        if !is_text(slot.value.ty()) {
            return Err(ResolveError::NotReference(format!("{path}{param}")));
        }
        let text = slot.shown().as_str();
        let dangling = || ResolveError::Dangling(format!("{path}{param}"));
        match item {
            Item::Number(number) => {
                let index = usize::try_from(number).unwrap_or(usize::MAX) - 1;
                match value::list_items(text)
                    .nth(index)
                    .and_then(|text| self.reference(text, walk))
                {
                    Some(here) => next.push(here),
                    None if walk.search => {}
                    None => return Err(dangling()),
                }
            }
            Item::All => {
                for text in value::list_items(text) {
                    walk.step()?;
                    next.extend(self.reference(text, walk));
                }
            }
        }
        Ok(true)
    }

    /// The object that the text of a reference means: by instance numbers or by unique key (R-ARC.11).
    fn reference<'a>(&'a self, text: &str, walk: &Walk<'_>) -> Option<Here<'a>> {
        let path = format!("{}.", text.strip_suffix('.').unwrap_or(text));
        match self.find(&path) {
            Ok(found) => return Some(Here { path, found }),
            Err(Miss::NoInstance) => return None,
            Err(Miss::Unsupported) if walk.depth >= MAX_REFERENCE_DEPTH || !text.contains('[') => {
                return None;
            }
            Err(Miss::Unsupported) => {}
        }
        let path = Path::parse_reference(text).ok()?.into_object()?;
        let mut resolved = self
            .resolve_at(&path, walk.depth + 1, walk.steps)
            .ok()?
            .into_iter();
        match (resolved.next(), resolved.next()) {
            (Some(Resolved::Object(object) | Resolved::Table(object)), None) => {
                let found = self.find(object.as_str()).ok()?;
                Some(Here {
                    path: object.as_str().to_owned(),
                    found,
                })
            }
            _ => None,
        }
    }

    /// What the text of a reference means, with instance numbers and without a trailing dot; `None` when
    /// there is no such object or parameter.
    pub(super) fn canonical_reference(&self, text: &str) -> Option<String> {
        let steps = Cell::new(MAX_STEPS);
        let walk = Walk {
            search: false,
            depth: 0,
            steps: &steps,
        };
        if let Some(here) = self.reference(text, &walk) {
            return Some(here.path.strip_suffix('.').unwrap_or(&here.path).to_owned());
        }
        let path = Path::parse_reference(text).ok()?;
        let mut resolved = self.resolve_at(&path, 1, &steps).ok()?.into_iter();
        match (resolved.next(), resolved.next()) {
            (Some(Resolved::Param(param)), None) => Some(param.to_string()),
            (Some(Resolved::Object(object)), None) => Some(object.to_reference().to_owned()),
            _ => None,
        }
    }

    /// Whether a condition holds for a row. A reference that leads nowhere makes it not hold.
    fn holds(
        &self,
        row: &Node,
        condition: &Condition,
        walk: &Walk<'_>,
    ) -> Result<bool, ResolveError> {
        let unsupported = || ResolveError::Unsupported(condition.parameter.to_string());
        // A reference that leads nowhere makes the condition not hold.
        let inside = Walk {
            search: true,
            ..*walk
        };
        let mut nodes = vec![row];
        let mut followed = false;
        for segment in condition.parameter.segments() {
            let mut next = Vec::with_capacity(nodes.len());
            for node in nodes {
                walk.step()?;
                match segment {
                    Segment::Name(name) => match self.child(node, name) {
                        Some(Found::Object(node)) => next.push(node),
                        _ if followed => {}
                        _ => return Err(unsupported()),
                    },
                    Segment::Follow { param, item } => {
                        let mut heres = Vec::new();
                        if !self.follow("", node, param, *item, &inside, &mut heres)? && !followed {
                            return Err(unsupported());
                        }
                        next.extend(heres.into_iter().filter_map(|here| match here.found {
                            Found::Object(node) => Some(node),
                            Found::Table(..) => None,
                        }));
                    }
                    Segment::Instance(_) | Segment::Wildcard | Segment::Search(_) => {
                        return Err(unsupported());
                    }
                }
            }
            followed |= matches!(segment, Segment::Follow { .. });
            nodes = next;
        }
        for node in nodes {
            let index = self
                .schema
                .info(node.id)
                .param_index(condition.parameter.name());
            let Some(slot) = index.and_then(|index| node.slots.get(index)) else {
                if followed {
                    continue;
                }
                return Err(unsupported());
            };
            let holds = slot
                .shown()
                .compare(condition.operator, &condition.constant);
            if holds.map_err(|source| ResolveError::Expression {
                parameter: condition.parameter.to_string(),
                source,
            })? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Checks conditions against the supported data model, as far as no reference is followed, so that an
    /// empty table does not hide a wrong expression. `Err(None)` is an unsupported path.
    fn check_conditions(
        &self,
        table: ObjectId,
        conditions: &[Condition],
    ) -> Result<(), Option<ResolveError>> {
        for condition in conditions {
            let mut info = self.schema.info(table);
            let mut known = true;
            for segment in condition.parameter.segments() {
                match segment {
                    Segment::Name(name) => {
                        info = self.schema.info(info.child(name).ok_or(None)?);
                        if info.is_table() {
                            return Err(None);
                        }
                    }
                    Segment::Follow { param, .. } => {
                        let param = info.param(param).ok_or(None)?;
                        if !is_text(param.ty) {
                            return Err(Some(ResolveError::NotReference(
                                condition.parameter.to_string(),
                            )));
                        }
                        known = false;
                        break;
                    }
                    Segment::Instance(_) | Segment::Wildcard | Segment::Search(_) => {
                        return Err(None);
                    }
                }
            }
            if known {
                let param = info.param(condition.parameter.name()).ok_or(None)?;
                value::compare(
                    param.ty,
                    &param.ty.zero(),
                    condition.operator,
                    &condition.constant,
                )
                .map_err(|source| ResolveError::Expression {
                    parameter: condition.parameter.to_string(),
                    source,
                })?;
            }
        }
        Ok(())
    }
}

/// Whether a parameter of this type can hold a reference; older tables declare references as strings.
fn is_text(ty: value::Type) -> bool {
    match ty {
        value::Type::Reference(_) | value::Type::String { .. } => true,
        value::Type::List(list) => matches!(
            list.item,
            value::Type::Reference(_) | value::Type::String { .. }
        ),
        _ => false,
    }
}
