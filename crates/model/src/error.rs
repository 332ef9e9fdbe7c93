//! Errors of this crate, each with the TR-369 §7 error code it is answered with.

use crate::path::{ObjectPath, Operator, ParamPath};

/// A text is no value of a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// It is of another type (7011).
    #[error("{found:?} is no {expected}")]
    Type {
        /// The TR-106 name of the type.
        expected: &'static str,
        /// The start of what was found.
        found: String,
    },
    /// It is of the type but outside its range, length or enumeration (7012).
    #[error("{reason}")]
    Value {
        /// What is wrong with it.
        reason: String,
    },
}

impl ValueError {
    /// The USP error code.
    pub fn code(&self) -> u32 {
        match self {
            Self::Type { .. } => 7011,
            Self::Value { .. } => 7012,
        }
    }
}

/// An expression compares what cannot be compared (7008).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// The operator is not defined for the type.
    #[error("{operator} is not defined for {ty}")]
    Operator {
        /// The operator.
        operator: Operator,
        /// The TR-106 name of the parameter's type.
        ty: &'static str,
    },
    /// The constant is of another type than the parameter.
    #[error("{constant} is no {ty}")]
    Constant {
        /// The constant as written.
        constant: String,
        /// The TR-106 name of the parameter's type.
        ty: &'static str,
    },
}

/// Tables of a schema that do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The path of an object is not of the supported-data-model form (TR-369 §2.6.1).
    #[error("{path:?} is no object path")]
    Path {
        /// The path.
        path: &'static str,
    },
    /// Two definitions of one parameter, command or event.
    #[error("{path}{name} is defined twice")]
    Twice {
        /// The object.
        path: String,
        /// The parameter, command or event.
        name: &'static str,
    },
    /// Two tables give one object different access or unique keys.
    #[error("{path} is defined twice with different access or unique keys")]
    Differs {
        /// The object.
        path: String,
    },
    /// A unique key names a parameter that the object does not have.
    #[error("{path}: unique key {name} is no parameter of it")]
    Key {
        /// The object.
        path: String,
        /// The key.
        name: &'static str,
    },
    /// A name does not follow the grammar, or a command lacks `()`, or an event `!`.
    #[error("{path}: {name:?} is no name here")]
    Name {
        /// The object.
        path: String,
        /// The name.
        name: &'static str,
    },
    /// A default is no value of the parameter's type.
    #[error("{path}{name}: the default {default:?} is no value of it")]
    Default {
        /// The object.
        path: String,
        /// The parameter.
        name: &'static str,
        /// The default.
        default: &'static str,
    },
    /// There is no object at all.
    #[error("no object")]
    Empty,
    /// Objects under more than one root.
    #[error("{path} is under another root than {root}")]
    Root {
        /// The object.
        path: String,
        /// The first root.
        root: String,
    },
}

/// A path was not resolved against the tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Neither the supported nor the instantiated data model has it (7026).
    #[error("{0} is not in the data model")]
    Unsupported(String),
    /// The data model supports it, but this instance does not exist (7016; 7026 in a Get).
    #[error("{0} does not exist")]
    NoInstance(String),
    /// An expression compares what cannot be compared (7008).
    #[error("expression on {parameter}: {source}")]
    Expression {
        /// The expression's parameter, as written.
        parameter: String,
        /// Why.
        source: CompareError,
    },
    /// A parameter before `+` is not a reference (7026).
    #[error("{0} is no reference")]
    NotReference(String),
    /// A followed reference is empty or points nowhere (7016).
    #[error("the reference {0} points to nothing")]
    Dangling(String),
    /// More matches than the tree's bound (7005).
    #[error("more than {0} matches")]
    TooMany(usize),
    /// The path takes more steps than the tree's bound (7005).
    #[error("the path takes more than {0} steps")]
    TooMuchWork(u32),
}

impl ResolveError {
    /// The USP error code.
    pub fn code(&self) -> u32 {
        match self {
            Self::Unsupported(_) | Self::NotReference(_) => 7026,
            Self::NoInstance(_) | Self::Dangling(_) => 7016,
            Self::Expression { .. } => 7008,
            Self::TooMany(_) | Self::TooMuchWork(_) => 7005,
        }
    }
}

/// A parameter was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// No such parameter in the data model (7026).
    #[error("{0} is not in the data model")]
    Unsupported(ParamPath),
    /// Its object does not exist (7016).
    #[error("{0} does not exist")]
    NoInstance(ParamPath),
}

impl GetError {
    /// The USP error code.
    pub fn code(&self) -> u32 {
        match self {
            Self::Unsupported(_) => 7026,
            Self::NoInstance(_) => 7016,
        }
    }
}

/// The device's own side put something that the schema does not allow: a fault in a provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// Not in the schema.
    #[error("{0} is not in the data model")]
    Unsupported(String),
    /// The object or its parent does not exist.
    #[error("{0} does not exist")]
    NoInstance(String),
    /// The path is not the path of an instance.
    #[error("{0} is not a row of a table")]
    NotRow(String),
    /// The text is not a value of the parameter.
    #[error("{path}: {source}")]
    Value {
        /// The parameter.
        path: ParamPath,
        /// What is wrong with the text.
        source: ValueError,
    },
    /// The table has its bound of instances.
    #[error("{0} is full")]
    Full(ObjectPath),
    /// The path is not a path.
    #[error("{path}: {source}")]
    Path {
        /// The text.
        path: String,
        /// What is wrong with it.
        source: crate::path::PathError,
    },
    /// The parameter is derived (`…NumberOfEntries`).
    #[error("{0} is derived from its table")]
    Derived(ParamPath),
}

/// A controller's set was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// No such parameter in the data model (7010).
    #[error("{0} is not in the data model")]
    Unsupported(ParamPath),
    /// Its object does not exist (7016).
    #[error("{0} does not exist")]
    NoInstance(ParamPath),
    /// It is read-only, was written once already, or is a key that never changes (7013, R-KEY.1).
    #[error("{0} is not writable")]
    NotWritable(ParamPath),
    /// The text is not of its type (7011) or outside its range (7012).
    #[error("{path}: {source}")]
    Value {
        /// The parameter.
        path: ParamPath,
        /// What is wrong with the text.
        source: ValueError,
    },
    /// A strong reference to something that does not exist (7012, R-ARC.12).
    #[error("{path}: {target} does not exist")]
    Reference {
        /// The parameter.
        path: ParamPath,
        /// What it was to point to.
        target: String,
    },
}

impl SetError {
    /// The USP error code.
    pub fn code(&self) -> u32 {
        match self {
            Self::Unsupported(_) => 7010,
            Self::NoInstance(_) => 7016,
            Self::NotWritable(_) => 7013,
            Self::Value { source, .. } => source.code(),
            Self::Reference { .. } => 7012,
        }
    }

    /// The parameter.
    pub fn path(&self) -> &ParamPath {
        match self {
            Self::Unsupported(path) | Self::NoInstance(path) | Self::NotWritable(path) => path,
            Self::Value { path, .. } | Self::Reference { path, .. } => path,
        }
    }
}

/// A controller's add was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// No such object in the data model (7026).
    #[error("{0} is not in the data model")]
    Unsupported(ObjectPath),
    /// The object is not a table (7018).
    #[error("{0} is not a table")]
    NotTable(ObjectPath),
    /// The table's rows are made by the device only (7019).
    #[error("rows of {0} cannot be created by a controller")]
    NotCreatable(ObjectPath),
    /// The table's parent does not exist (7016).
    #[error("{0} does not exist")]
    NoParent(ObjectPath),
    /// The table has its bound of instances (7005).
    #[error("{0} is full")]
    Full(ObjectPath),
}

impl AddError {
    /// The USP error code.
    pub fn code(&self) -> u32 {
        match self {
            Self::Unsupported(_) => 7026,
            Self::NotTable(_) => 7018,
            Self::NotCreatable(_) => 7019,
            Self::NoParent(_) => 7016,
            Self::Full(_) => 7005,
        }
    }

    /// The table.
    pub fn path(&self) -> &ObjectPath {
        match self {
            Self::Unsupported(path) | Self::NotTable(path) | Self::NotCreatable(path) => path,
            Self::NoParent(path) | Self::Full(path) => path,
        }
    }
}

/// A controller's delete was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// No such object in the data model (7026).
    #[error("{0} is not in the data model")]
    Unsupported(ObjectPath),
    /// The row does not exist (7016).
    #[error("{0} does not exist")]
    NoInstance(ObjectPath),
    /// The path is not the path of a row (7018).
    #[error("{0} is not a row of a table")]
    NotRow(ObjectPath),
    /// The table's rows are deleted by the device only (7024).
    #[error("{0} cannot be deleted by a controller")]
    NotDeletable(ObjectPath),
}

impl DeleteError {
    /// The USP error code.
    pub fn code(&self) -> u32 {
        match self {
            Self::Unsupported(_) => 7026,
            Self::NoInstance(_) => 7016,
            Self::NotRow(_) => 7018,
            Self::NotDeletable(_) => 7024,
        }
    }

    /// The object.
    pub fn path(&self) -> &ObjectPath {
        match self {
            Self::Unsupported(path)
            | Self::NoInstance(path)
            | Self::NotRow(path)
            | Self::NotDeletable(path) => path,
        }
    }
}

/// Two rows of a table have the same unique key (7025).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{row} and {other} have the same {}", keys.join(", "))]
pub struct KeyConflict {
    /// The row that was added or changed.
    pub row: ObjectPath,
    /// The row that has the key already.
    pub other: ObjectPath,
    /// The parameters of the key.
    pub keys: Vec<String>,
}

impl KeyConflict {
    /// The USP error code.
    pub fn code(&self) -> u32 {
        7025
    }

    /// The row that was added or changed.
    pub fn path(&self) -> &ObjectPath {
        &self.row
    }
}
