//! The supported data model: objects, parameters, commands and events as constant tables.
//!
//! ```
//! use homefleet_model::{schema::{Access, Object, Param, Schema}, value::Type};
//!
//! static OBJECTS: &[Object] = &[Object {
//!     path: "Device.DeviceInfo.",
//!     params: &[Param::ro("UpTime", Type::UnsignedInt).quiet(), Param::rw("FriendlyName", Type::string(32))],
//!     ..Object::EMPTY
//! }];
//! let schema = Schema::new(&[OBJECTS]).unwrap();
//! assert_eq!(schema.object("Device.DeviceInfo.").unwrap().param("FriendlyName").unwrap().access, Access::ReadWrite);
//! ```

use std::collections::BTreeMap;

use crate::{
    path::{ParamPath, is_name},
    value::Type,
};

pub use crate::error::SchemaError;

/// Who makes and deletes the rows of a table (`ObjAccessType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectAccess {
    /// The device alone; also every object that is no table.
    ReadOnly,
    /// Controllers add and delete rows.
    AddDelete,
    /// Controllers add rows.
    AddOnly,
    /// Controllers delete rows.
    DeleteOnly,
}

impl ObjectAccess {
    /// Whether a controller adds rows.
    pub fn adds(self) -> bool {
        matches!(self, Self::AddDelete | Self::AddOnly)
    }

    /// Whether a controller deletes rows.
    pub fn deletes(self) -> bool {
        matches!(self, Self::AddDelete | Self::DeleteOnly)
    }
}

/// What a controller may do with a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    ReadOnly,
    /// Read and write.
    ReadWrite,
    /// Write once, then only read (`writeOnceReadOnly`, TR-369 §6.1.3.3).
    WriteOnce,
}

/// An object of the supported data model.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    /// `Device.IP.Interface.{i}.`; a table ends in `{i}.`.
    pub path: &'static str,
    /// Who makes and deletes rows.
    pub access: ObjectAccess,
    /// Each inner list is one key: no two rows agree in all its parameters.
    pub unique_keys: &'static [&'static [&'static str]],
    /// Its parameters.
    pub params: &'static [Param],
    /// Its commands.
    pub commands: &'static [Command],
    /// Its events.
    pub events: &'static [Event],
}

impl Object {
    /// An object with nothing in it, for `..Object::EMPTY`.
    pub const EMPTY: Self = Self {
        path: "",
        access: ObjectAccess::ReadOnly,
        unique_keys: &[],
        params: &[],
        commands: &[],
        events: &[],
    };
}

/// A parameter of an object.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// Its type with facets.
    pub ty: Type,
    /// What a controller may do with it.
    pub access: Access,
    /// What a new instance holds; else [`Type::zero`].
    pub default: Option<&'static str>,
    /// Whether ValueChange notifications are sent for it.
    pub notify: bool,
    /// Whether it reads as empty, whoever asks (TR-106 `hidden`).
    pub secret: bool,
}

impl Param {
    /// A read-only parameter.
    pub const fn ro(name: &'static str, ty: Type) -> Self {
        Self {
            name,
            ty,
            access: Access::ReadOnly,
            default: None,
            notify: true,
            secret: false,
        }
    }

    /// A parameter that controllers read and write.
    pub const fn rw(name: &'static str, ty: Type) -> Self {
        Self {
            access: Access::ReadWrite,
            ..Self::ro(name, ty)
        }
    }

    /// A parameter that a controller writes once.
    pub const fn once(name: &'static str, ty: Type) -> Self {
        Self {
            access: Access::WriteOnce,
            ..Self::ro(name, ty)
        }
    }

    /// With a default.
    #[must_use]
    pub const fn default(self, default: &'static str) -> Self {
        Self {
            default: Some(default),
            ..self
        }
    }

    /// Without ValueChange notifications, as counters and clocks are.
    #[must_use]
    pub const fn quiet(self) -> Self {
        Self {
            notify: false,
            ..self
        }
    }

    /// Reads as empty.
    #[must_use]
    pub const fn secret(self) -> Self {
        Self {
            secret: true,
            ..self
        }
    }
}

/// A command of an object.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// With its parentheses: `IPPing()`.
    pub name: &'static str,
    /// Whether it runs on after its response (R-OPR.0).
    pub is_async: bool,
    /// Names of its input arguments.
    pub input: &'static [&'static str],
    /// Names of its output arguments.
    pub output: &'static [&'static str],
}

/// An event of an object.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// With its exclamation mark: `Boot!`.
    pub name: &'static str,
    /// Names of its arguments.
    pub args: &'static [&'static str],
}

/// Index of an object in its schema.
pub(crate) type ObjectId = usize;

/// An object as the schema knows it: the union of the tables that name its path.
#[derive(Debug)]
pub struct ObjectInfo {
    path: String,
    name: String,
    table: bool,
    access: ObjectAccess,
    unique_keys: Vec<&'static [&'static str]>,
    params: Vec<&'static Param>,
    by_name: BTreeMap<&'static str, usize>,
    commands: Vec<&'static Command>,
    events: Vec<&'static Event>,
    defined: bool,
    pub(crate) id: ObjectId,
    pub(crate) parent: Option<ObjectId>,
    /// Its place among its parent's children.
    pub(crate) at: usize,
    pub(crate) children: Vec<ObjectId>,
    child_by_name: BTreeMap<String, ObjectId>,
    /// For a table: the index of `…NumberOfEntries` among the parent's parameters.
    pub(crate) counter: Option<usize>,
    /// Indices of parameters that are derived.
    pub(crate) derived: Vec<usize>,
}

impl ObjectInfo {
    /// `Device.IP.Interface.{i}.`
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The last name: `Interface`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has instances.
    pub fn is_table(&self) -> bool {
        self.table
    }

    /// Who makes and deletes rows.
    pub fn access(&self) -> ObjectAccess {
        self.access
    }

    /// Its unique keys.
    pub fn unique_keys(&self) -> &[&'static [&'static str]] {
        &self.unique_keys
    }

    /// Its parameters, as declared.
    pub fn params(&self) -> &[&'static Param] {
        &self.params
    }

    /// The parameter `name`.
    pub fn param(&self, name: &str) -> Option<&'static Param> {
        self.params.get(self.param_index(name)?).copied()
    }

    /// Its commands.
    pub fn commands(&self) -> &[&'static Command] {
        &self.commands
    }

    /// The command `name`, with its parentheses.
    pub fn command(&self, name: &str) -> Option<&'static Command> {
        self.commands
            .iter()
            .copied()
            .find(|command| command.name == name)
    }

    /// Its events.
    pub fn events(&self) -> &[&'static Event] {
        &self.events
    }

    /// The event `name`, with its exclamation mark.
    pub fn event(&self, name: &str) -> Option<&'static Event> {
        self.events.iter().copied().find(|event| event.name == name)
    }

    pub(crate) fn param_index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn child(&self, name: &str) -> Option<ObjectId> {
        self.child_by_name.get(name).copied()
    }

    /// Whether `param` is part of a unique key.
    pub(crate) fn is_key(&self, param: &str) -> bool {
        self.unique_keys.iter().any(|key| key.contains(&param))
    }
}

/// The supported data model.
#[derive(Debug)]
pub struct Schema {
    objects: Vec<ObjectInfo>,
    /// Objects with strong references, and the indices of those parameters.
    pub(crate) strong: Vec<(ObjectId, Vec<usize>)>,
}

impl Schema {
    /// Joins tables to one schema. A path that several tables name is one object with the parameters,
    /// commands and events of all; objects above a named one are made when no table names them.
    ///
    /// # Errors
    /// [`SchemaError`] names the table entry that does not fit.
    pub fn new(tables: &[&'static [Object]]) -> Result<Self, SchemaError> {
        let mut schema = Self {
            objects: Vec::new(),
            strong: Vec::new(),
        };
        for object in tables.iter().flat_map(|table| table.iter()) {
            schema.add(object)?;
        }
        if schema.objects.is_empty() {
            return Err(SchemaError::Empty);
        }
        schema.check()?;
        schema.derive();
        Ok(schema)
    }

    fn add(&mut self, object: &'static Object) -> Result<(), SchemaError> {
        let id = self.make(object.path)?;
        let Some(info) = self.objects.get_mut(id) else {
            return Ok(());
        };
        if !info.defined {
            info.defined = true;
            info.access = object.access;
            info.unique_keys = object.unique_keys.to_vec();
        } else if info.access != object.access || info.unique_keys != object.unique_keys {
            return Err(SchemaError::Differs {
                path: info.path.clone(),
            });
        }
        for param in object.params {
            if !is_name(param.name) {
                return Err(SchemaError::Name {
                    path: info.path.clone(),
                    name: param.name,
                });
            }
            if info.by_name.insert(param.name, info.params.len()).is_some() {
                return Err(SchemaError::Twice {
                    path: info.path.clone(),
                    name: param.name,
                });
            }
            if let Some(default) = param.default
                && param.ty.canonical(default).is_err()
            {
                return Err(SchemaError::Default {
                    path: info.path.clone(),
                    name: param.name,
                    default,
                });
            }
            info.params.push(param);
        }
        for command in object.commands {
            if !command.name.strip_suffix("()").is_some_and(is_name) {
                return Err(SchemaError::Name {
                    path: info.path.clone(),
                    name: command.name,
                });
            }
            if info.command(command.name).is_some() {
                return Err(SchemaError::Twice {
                    path: info.path.clone(),
                    name: command.name,
                });
            }
            info.commands.push(command);
        }
        for event in object.events {
            if !event.name.strip_suffix('!').is_some_and(is_name) {
                return Err(SchemaError::Name {
                    path: info.path.clone(),
                    name: event.name,
                });
            }
            if info.event(event.name).is_some() {
                return Err(SchemaError::Twice {
                    path: info.path.clone(),
                    name: event.name,
                });
            }
            info.events.push(event);
        }
        Ok(())
    }

    /// The object at `path`, made with everything above it when it is not there.
    fn make(&mut self, path: &'static str) -> Result<ObjectId, SchemaError> {
        let wrong = || SchemaError::Path { path };
        let bare = path.strip_suffix('.').ok_or_else(wrong)?;
        let mut parts = bare.split('.').peekable();
        let mut above: Option<ObjectId> = None;
        let mut so_far = String::new();
        while let Some(name) = parts.next() {
            if !is_name(name) {
                return Err(wrong());
            }
            let table = parts.next_if_eq(&"{i}").is_some();
            if table && above.is_none() {
                return Err(wrong());
            }
            so_far.push_str(name);
            so_far.push_str(if table { ".{i}." } else { "." });
            if let Some(root) = self.objects.first()
                && above.is_none()
                && root.name != name
            {
                return Err(SchemaError::Root {
                    path: so_far,
                    root: root.path.clone(),
                });
            }
            let known = match above {
                Some(id) => self.objects.get(id).and_then(|object| object.child(name)),
                None => (!self.objects.is_empty()).then_some(0),
            };
            let id = match known {
                Some(id) => {
                    // One name is a table everywhere or nowhere.
                    if self
                        .objects
                        .get(id)
                        .is_none_or(|object| object.table != table)
                    {
                        return Err(wrong());
                    }
                    id
                }
                None => self.insert(above, name, table, so_far.clone()),
            };
            above = Some(id);
        }
        above.ok_or_else(wrong)
    }

    fn insert(
        &mut self,
        parent: Option<ObjectId>,
        name: &str,
        table: bool,
        path: String,
    ) -> ObjectId {
        let id = self.objects.len();
        let at = parent
            .and_then(|parent| self.objects.get(parent))
            .map_or(0, |parent| parent.children.len());
        self.objects.push(ObjectInfo {
            path,
            name: name.to_owned(),
            table,
            access: ObjectAccess::ReadOnly,
            unique_keys: Vec::new(),
            params: Vec::new(),
            by_name: BTreeMap::new(),
            commands: Vec::new(),
            events: Vec::new(),
            defined: false,
            id,
            parent,
            at,
            children: Vec::new(),
            child_by_name: BTreeMap::new(),
            counter: None,
            derived: Vec::new(),
        });
        if let Some(parent) = parent.and_then(|parent| self.objects.get_mut(parent)) {
            parent.children.push(id);
            parent.child_by_name.insert(name.to_owned(), id);
        }
        id
    }

    fn check(&self) -> Result<(), SchemaError> {
        for object in &self.objects {
            for name in object.unique_keys.iter().flat_map(|key| key.iter()) {
                if object.param_index(name).is_none() {
                    return Err(SchemaError::Key {
                        path: object.path.clone(),
                        name,
                    });
                }
            }
        }
        Ok(())
    }

    /// Finds the counters of tables and the strong references.
    fn derive(&mut self) {
        for id in 0..self.objects.len() {
            let Some(object) = self.objects.get(id) else {
                continue;
            };
            let strong: Vec<usize> = (object.params.iter().enumerate())
                .filter(|(_, param)| is_strong(param.ty))
                .map(|(index, _)| index)
                .collect();
            let (table, parent) = (object.table, object.parent);
            let counter_name = format!("{}NumberOfEntries", object.name);
            if !strong.is_empty() {
                self.strong.push((id, strong));
            }
            if let (true, Some(parent)) = (table, parent)
                && let Some(above) = self.objects.get_mut(parent)
                && let Some(index) = above.param_index(&counter_name)
            {
                above.derived.push(index);
                if let Some(object) = self.objects.get_mut(id) {
                    object.counter = Some(index);
                }
            }
        }
    }

    /// The object at a path of the supported data model (`{i}`) or at a concrete path (instance numbers);
    /// the path of a table without its instance also names it. Ends in a dot.
    pub fn object(&self, path: &str) -> Option<&ObjectInfo> {
        let bare = path.strip_suffix('.')?;
        let mut parts = bare.split('.').peekable();
        let mut object = self
            .objects
            .first()
            .filter(|root| parts.next() == Some(root.name.as_str()))?;
        while let Some(name) = parts.next() {
            object = self.objects.get(object.child(name)?)?;
            if object.table {
                parts.next_if(|part| {
                    *part == "{i}" || part.parse::<u32>().is_ok_and(|number| number > 0)
                });
            }
        }
        Some(object)
    }

    /// The parameter at a concrete path.
    pub fn param(&self, path: &ParamPath) -> Option<&'static Param> {
        let (object, name) = path.split();
        self.object(object)?.param(name)
    }

    /// The root object.
    pub fn root(&self) -> &ObjectInfo {
        // `new` refuses a schema without objects.
        &self.objects[0]
    }

    /// The children of an object, as declared.
    pub fn children<'a>(&'a self, object: &'a ObjectInfo) -> impl Iterator<Item = &'a ObjectInfo> {
        object
            .children
            .iter()
            .filter_map(|id| self.objects.get(*id))
    }

    /// Every object, depth first, children as declared.
    pub fn iter(&self) -> impl Iterator<Item = &ObjectInfo> {
        let mut stack = vec![0];
        std::iter::from_fn(move || {
            let object = self.objects.get(stack.pop()?)?;
            stack.extend(object.children.iter().rev());
            Some(object)
        })
    }

    pub(crate) fn info(&self, id: ObjectId) -> &ObjectInfo {
        &self.objects[id]
    }
}

fn is_strong(ty: Type) -> bool {
    use crate::value::Strength::Strong;
    match ty {
        Type::Reference(Strong) => true,
        Type::List(list) => matches!(list.item, Type::Reference(Strong)),
        _ => false,
    }
}
