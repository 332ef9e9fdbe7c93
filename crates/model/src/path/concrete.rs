//! Paths of exactly one object or parameter, by instance numbers (TR-369 §2.5.1.2).

use std::{cmp::Ordering, fmt, str::FromStr};

use super::{Path, PathError, PathErrorKind, Segment};

/// The path of an object, a table or a row: `Device.IP.Interface.1.`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ObjectPath(String);

/// The path of a parameter: `Device.IP.Interface.1.Name`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ParamPath(String);

/// The object that `segments` name, when they are names and instance numbers alone.
pub(super) fn object(segments: &[Segment]) -> Option<ObjectPath> {
    let mut text = String::new();
    for segment in segments {
        match segment {
            Segment::Name(name) => text.push_str(name),
            Segment::Instance(number) => text.push_str(&number.to_string()),
            Segment::Wildcard | Segment::Search(_) | Segment::Follow { .. } => return None,
        }
        text.push('.');
    }
    (!text.is_empty()).then_some(ObjectPath(text))
}

impl ObjectPath {
    /// `Device.`
    pub fn root() -> Self {
        Self("Device.".to_owned())
    }

    /// A path whose text is known to follow the grammar.
    pub(crate) fn from_text(text: String) -> Self {
        debug_assert!(text.ends_with('.'));
        Self(text)
    }

    /// As it is written, with its trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The child object `name`.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self(format!("{}{name}.", self.0))
    }

    /// The row `instance` of this table.
    #[must_use]
    pub fn row(&self, instance: u32) -> Self {
        Self(format!("{}{instance}.", self.0))
    }

    /// The parameter `name` of this object.
    pub fn param(&self, name: &str) -> ParamPath {
        ParamPath(format!("{}{name}", self.0))
    }

    /// The object above: a row's table, a child's parent; `None` of the root.
    pub fn parent(&self) -> Option<Self> {
        let bare = self.0.strip_suffix('.')?;
        let end = bare.rfind('.')?;
        Some(Self(bare.get(..=end)?.to_owned()))
    }

    /// The instance number, when this is a row.
    pub fn instance(&self) -> Option<u32> {
        self.segments().next_back()?.parse().ok()
    }

    /// Whether this is `other` or under it.
    pub fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The path in the supported data model: instance numbers as `{i}`.
    pub fn supported(&self) -> String {
        supported(&self.0)
    }

    /// The names and instance numbers.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.strip_suffix('.').unwrap_or(&self.0).split('.')
    }

    /// As a reference parameter writes it: without the trailing dot.
    pub fn to_reference(&self) -> &str {
        self.0.strip_suffix('.').unwrap_or(&self.0)
    }
}

impl ParamPath {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The object that has the parameter.
    pub fn object(&self) -> ObjectPath {
        ObjectPath(self.split().0.to_owned())
    }

    /// The parameter's name.
    pub fn name(&self) -> &str {
        self.split().1
    }

    /// The path in the supported data model: instance numbers as `{i}`.
    pub fn supported(&self) -> String {
        supported(&self.0)
    }

    /// The object part with its dot, and the name.
    pub(crate) fn split(&self) -> (&str, &str) {
        let at = self.0.rfind('.').map_or(0, |at| at + 1);
        self.0.split_at(at)
    }
}

fn supported(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for (index, segment) in text.split('.').enumerate() {
        if index > 0 {
            out.push('.');
        }
        out.push_str(if segment.starts_with(|c: char| c.is_ascii_digit()) {
            "{i}"
        } else {
            segment
        });
    }
    out
}

/// Orders by segments, instance numbers as numbers.
fn natural(left: &str, right: &str) -> Ordering {
    let mut left = left.split('.');
    let mut right = right.split('.');
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(l), Some(r)) => {
                let order = match (l.parse::<u32>(), r.parse::<u32>()) {
                    (Ok(l), Ok(r)) => l.cmp(&r),
                    _ => l.cmp(r),
                };
                if order != Ordering::Equal {
                    return order;
                }
            }
        }
    }
}

impl FromStr for ObjectPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let not = PathError {
            offset: text.len(),
            kind: PathErrorKind::NotConcrete,
        };
        Path::parse(text)?.to_object().ok_or(not)
    }
}

impl FromStr for ParamPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let not = PathError {
            offset: text.len(),
            kind: PathErrorKind::NotConcrete,
        };
        Path::parse(text)?.to_param().ok_or(not)
    }
}

macro_rules! text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                natural(&self.0, &other.0)
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for Path {
            fn from(path: $name) -> Self {
                // Concrete paths are made from parsed text only; the root stands in for the impossible rest.
                Path::parse(&path.0).unwrap_or(Path {
                    segments: vec![Segment::Name("Device".to_owned())],
                    target: super::Target::Object,
                })
            }
        }
    };
}

text!(ObjectPath);
text!(ParamPath);
