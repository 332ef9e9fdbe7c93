//! Path names: the grammar of TR-369 §2.6 (R-ARC.7), addressing, searching and reference following.
//!
//! ```text
//! Device.IP.Interface.[Type=="Normal"&&Stats.ErrorsSent>0].IPv4Address.*.IPAddress
//! Device.WiFi.SSID.1.LowerLayers#1+.Name
//! Device.IP.Interface.3.Reset()
//! Device.Boot!
//! ```
//!
//! [`Path`] is any of these. [`ObjectPath`] and [`ParamPath`] address exactly one thing by instance numbers,
//! as an agent reports it (R-MSG.3).

mod concrete;
mod parse;

use std::{borrow::Cow, fmt, str::FromStr};

pub use concrete::{ObjectPath, ParamPath};

/// The longest path that is parsed, in bytes; a bound of ours.
pub const MAX_LENGTH: usize = 2048;

/// The most segments of a path; a bound of ours (TR-181 goes to about a dozen).
pub const MAX_SEGMENTS: usize = 32;

/// The most components of one expression; a bound of ours.
pub const MAX_CONDITIONS: usize = 16;

/// A path name, parsed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    segments: Vec<Segment>,
    target: Target,
}

/// One step of a path's object part.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// A child object.
    Name(String),
    /// A row by its instance number.
    Instance(u32),
    /// Every row, `*` (R-ARC.10).
    Wildcard,
    /// The rows for which every condition holds, `[…]` (R-ARC.9).
    Search(Vec<Condition>),
    /// The object that a reference parameter points to, `Param+` or `Param#2+`.
    Follow {
        /// The reference parameter.
        param: String,
        /// Which item of a list of references.
        item: Item,
    },
}

/// Which item of a list of references is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Item {
    /// One item, counted from 1.
    Number(u32),
    /// Every item, `#*`.
    All,
}

/// What a path names in the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The object itself (a path that ends in a dot).
    Object,
    /// A parameter.
    Param(String),
    /// A command, with its `()`.
    Command(String),
    /// An event, with its `!`.
    Event(String),
}

/// One component of a search expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// The parameter, relative to the row.
    pub parameter: RelativePath,
    /// The comparison.
    pub operator: Operator,
    /// What it is compared with.
    pub constant: Constant,
}

/// A relative path without instance identifiers: names, of which all but the last may follow a reference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelativePath(pub(crate) Vec<Segment>, pub(crate) String);

impl RelativePath {
    /// The objects on the way.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The parameter.
    pub fn name(&self) -> &str {
        &self.1
    }
}

/// An expression operator, in the order of the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `~=`, for lists
    Contains,
    /// `<`
    Less,
    /// `>`
    Greater,
    /// `<=`
    LessEqual,
    /// `>=`
    GreaterEqual,
}

impl Operator {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Contains => "~=",
            Self::Less => "<",
            Self::Greater => ">",
            Self::LessEqual => "<=",
            Self::GreaterEqual => ">=",
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An expression constant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Constant {
    /// A number, boolean, dateTime or hexBinary, without quotes.
    Bare(String),
    /// A string, here without quotes and with `%22` and `%25` decoded.
    Quoted(String),
}

impl Constant {
    /// The text that is compared.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Bare(text) | Self::Quoted(text) => Cow::Borrowed(text),
        }
    }
}

impl fmt::Display for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bare(text) => f.write_str(text),
            Self::Quoted(text) => write!(f, "\"{}\"", text.replace('%', "%25").replace('"', "%22")),
        }
    }
}

/// A text is no path name (7008).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at offset {offset}")]
pub struct PathError {
    /// Where, in bytes from the start.
    pub offset: usize,
    /// What.
    pub kind: PathErrorKind,
}

impl PathError {
    /// The USP error code, 7008.
    pub fn code(&self) -> u32 {
        7008
    }
}

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathErrorKind {
    /// Nothing there.
    #[error("empty path")]
    Empty,
    /// Longer than [`MAX_LENGTH`].
    #[error("path longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// More than [`MAX_SEGMENTS`] segments.
    #[error("more than {MAX_SEGMENTS} segments")]
    TooDeep,
    /// More than [`MAX_CONDITIONS`] components in an expression.
    #[error("more than {MAX_CONDITIONS} conditions")]
    TooManyConditions,
    /// Where a name should be.
    #[error("expected a name")]
    ExpectedName,
    /// Where an instance number or a name should be.
    #[error("expected a name or an instance identifier")]
    ExpectedSegment,
    /// A dot should follow; a path that ends in an instance identifier ends in a dot.
    #[error("expected a '.'")]
    ExpectedDot,
    /// An instance identifier after the root, or after another one.
    #[error("an instance identifier follows the name of a table")]
    UnexpectedInstance,
    /// Not an instance number from 1 to 4294967295, without leading zeros.
    #[error("no instance number")]
    InstanceNumber,
    /// `[]`
    #[error("empty expression")]
    EmptyExpression,
    /// Where an operator should be.
    #[error("expected ==, !=, ~=, <, >, <= or >=")]
    ExpectedOperator,
    /// Where a constant should be.
    #[error("expected a constant")]
    ExpectedConstant,
    /// A string without its closing quote.
    #[error("the closing quote is missing")]
    UnclosedString,
    /// An expression without its closing bracket.
    #[error("expected && or ]")]
    UnclosedExpression,
    /// A `%` in a string that is not followed by two hexadecimal digits.
    #[error("'%' is written %25")]
    Escape,
    /// `#` without an item number or `*`, or without `+`.
    #[error("expected an item number or '*', then '+'")]
    ExpectedFollow,
    /// `(` without `)`.
    #[error("expected '()'")]
    ExpectedCommand,
    /// Something after the end.
    #[error("unexpected text after the path")]
    Trailing,
    /// A search, reference following, command or event where only instance numbers may stand.
    #[error("only names and instance numbers may stand here")]
    NotConcrete,
}

impl Path {
    /// Parses a path name.
    ///
    /// # Errors
    /// [`PathError`] with the offset of the first byte that does not fit.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        parse::path(text, false)
    }

    /// Parses the value of a reference parameter: as [`parse`](Self::parse), but an object may come without
    /// its trailing dot. `Device.IP` is then read as a parameter; whoever resolves it tries both.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_reference(text: &str) -> Result<Self, PathError> {
        parse::path(text, true)
    }

    /// The object part, from the root.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// What the path names in the object.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether it is a Search Path: with a wildcard or an expression (TR-369 §2.5).
    pub fn is_search(&self) -> bool {
        self.segments.iter().any(|segment| {
            matches!(
                segment,
                Segment::Wildcard
                    | Segment::Search(_)
                    | Segment::Follow {
                        item: Item::All,
                        ..
                    }
            )
        })
    }

    /// The object, when the path names one by names and instance numbers alone.
    pub fn to_object(&self) -> Option<ObjectPath> {
        (self.target == Target::Object)
            .then(|| concrete::object(&self.segments))
            .flatten()
    }

    /// The parameter, when the path names one by names and instance numbers alone.
    pub fn to_param(&self) -> Option<ParamPath> {
        let Target::Param(name) = &self.target else {
            return None;
        };
        Some(concrete::object(&self.segments)?.param(name))
    }

    /// The same path with its target read as a child object: `Device.IP` becomes `Device.IP.`.
    pub(crate) fn into_object(mut self) -> Option<Self> {
        match self.target {
            Target::Object => Some(self),
            Target::Param(name) => {
                self.segments.push(Segment::Name(name));
                self.target = Target::Object;
                Some(self)
            }
            Target::Command(_) | Target::Event(_) => None,
        }
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::parse(text)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            write!(f, "{segment}.")?;
        }
        match &self.target {
            Target::Object => Ok(()),
            Target::Param(name) | Target::Command(name) | Target::Event(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Instance(number) => write!(f, "{number}"),
            Self::Wildcard => f.write_str("*"),
            Self::Search(conditions) => {
                f.write_str("[")?;
                for (index, condition) in conditions.iter().enumerate() {
                    if index > 0 {
                        f.write_str("&&")?;
                    }
                    write!(f, "{condition}")?;
                }
                f.write_str("]")
            }
            Self::Follow { param, item } => match item {
                Item::Number(1) => write!(f, "{param}+"),
                Item::Number(number) => write!(f, "{param}#{number}+"),
                Item::All => write!(f, "{param}#*+"),
            },
        }
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.0 {
            write!(f, "{segment}.")?;
        }
        f.write_str(&self.1)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.parameter, self.operator, self.constant)
    }
}

/// Whether `text` is a name: `[A-Za-z_][A-Za-z_0-9]*` (vendor prefixes such as `X_00256D_` included).
pub(crate) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
