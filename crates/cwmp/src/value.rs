//! Values with their types, and long lists of them.

use std::fmt;

use homefleet_model::value::{Type, ValueError};

use crate::{
    DecodeError,
    soap::{Field, Reader, Word as _, Writer},
};

/// The type of a value (TR-106 §3.2), which SOAP carries as `xsi:type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// `xsd:base64Binary`.
    Base64,
    /// `xsd:boolean`.
    Boolean,
    /// `xsd:dateTime`.
    DateTime,
    /// `xsd:decimal`.
    Decimal,
    /// `xsd:hexBinary`.
    HexBinary,
    /// `xsd:int`.
    Int,
    /// `xsd:long`.
    Long,
    /// `xsd:string`; also what has no type, or one that CWMP does not know.
    #[default]
    String,
    /// `xsd:unsignedInt`.
    UnsignedInt,
    /// `xsd:unsignedLong`.
    UnsignedLong,
}

impl ValueType {
    /// All.
    pub const ALL: [Self; 10] = [
        Self::Base64,
        Self::Boolean,
        Self::DateTime,
        Self::Decimal,
        Self::HexBinary,
        Self::Int,
        Self::Long,
        Self::String,
        Self::UnsignedInt,
        Self::UnsignedLong,
    ];

    /// The name in the namespace of XML Schema.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Base64 => "base64Binary",
            Self::Boolean => "boolean",
            Self::DateTime => "dateTime",
            Self::Decimal => "decimal",
            Self::HexBinary => "hexBinary",
            Self::Int => "int",
            Self::Long => "long",
            Self::String => "string",
            Self::UnsignedInt => "unsignedInt",
            Self::UnsignedLong => "unsignedLong",
        }
    }

    /// The type of an `xsi:type` attribute, whatever its prefix; `base64` is SOAP's name for `base64Binary`.
    pub fn parse(text: &str) -> Self {
        match text.rsplit(':').next().unwrap_or_default().trim() {
            "base64" => Self::Base64,
            name => Self::ALL
                .into_iter()
                .find(|kind| kind.name() == name)
                .unwrap_or_default(),
        }
    }

    /// The type in terms of the data model, without facets.
    pub const fn data_type(self) -> Type {
        match self {
            Self::Base64 => Type::BASE64,
            Self::Boolean => Type::Boolean,
            Self::DateTime => Type::DateTime,
            Self::Decimal => Type::Decimal,
            Self::HexBinary => Type::HEX,
            Self::Int => Type::Int,
            Self::Long => Type::Long,
            Self::String => Type::STRING,
            Self::UnsignedInt => Type::UnsignedInt,
            Self::UnsignedLong => Type::UnsignedLong,
        }
    }

    /// How a value of a type of the data model is sent.
    pub const fn of(kind: Type) -> Self {
        match kind {
            Type::Base64 { .. } => Self::Base64,
            Type::Boolean => Self::Boolean,
            Type::DateTime | Type::LocalDateTime => Self::DateTime,
            Type::Decimal => Self::Decimal,
            Type::HexBinary { .. } => Self::HexBinary,
            Type::Int | Type::IntIn(..) => Self::Int,
            Type::Long | Type::LongIn(..) => Self::Long,
            Type::Enum(_) | Type::List(_) | Type::Reference(_) | Type::String { .. } => {
                Self::String
            }
            Type::UnsignedInt | Type::UnsignedIntIn(..) => Self::UnsignedInt,
            Type::UnsignedLong | Type::UnsignedLongIn(..) => Self::UnsignedLong,
        }
    }
}

/// A value as it was sent: text, and the type that it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// The claimed type.
    pub kind: ValueType,
    /// The text, not looked at yet.
    pub text: &'a str,
}

impl<'a> Value<'a> {
    /// A text.
    pub const fn string(text: &'a str) -> Self {
        Self {
            kind: ValueType::String,
            text,
        }
    }

    /// The one canonical text of the value.
    ///
    /// # Errors
    /// When the text is not of the claimed type.
    pub fn canonical(self) -> Result<String, ValueError> {
        self.kind.data_type().canonical(self.text)
    }
}

/// Names with their values, in order: a ParameterList.
///
/// All texts lie in one buffer, so that thousands of parameters cost two allocations.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ParameterValues {
    texts: String,
    /// Where each name and its value end.
    ends: Vec<(usize, usize, ValueType)>,
}

impl ParameterValues {
    /// None.
    pub const fn new() -> Self {
        Self {
            texts: String::new(),
            ends: Vec::new(),
        }
    }

    /// Adds one.
    pub fn push(&mut self, name: &str, value: Value<'_>) {
        self.texts.push_str(name);
        let middle = self.texts.len();
        self.texts.push_str(value.text);
        self.ends.push((middle, self.texts.len(), value.kind));
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Each name with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        let mut start = 0;
        self.ends.iter().map(move |(middle, end, kind)| {
            let name = self.texts.get(start..*middle).unwrap_or_default();
            let text = self.texts.get(*middle..*end).unwrap_or_default();
            start = *end;
            (name, Value { kind: *kind, text })
        })
    }

    /// The value of a name; the first, if it stands there more than once.
    pub fn value(&self, name: &str) -> Option<Value<'_>> {
        self.iter()
            .find(|(own, _)| *own == name)
            .map(|(_, value)| value)
    }
}

impl fmt::Debug for ParameterValues {
    /// The names: a value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|(name, _)| name))
            .finish()
    }
}

impl<N: AsRef<str>, T: AsRef<str>> FromIterator<(N, ValueType, T)> for ParameterValues {
    fn from_iter<I: IntoIterator<Item = (N, ValueType, T)>>(all: I) -> Self {
        let mut list = Self::new();
        for (name, kind, text) in all {
            let text = text.as_ref();
            list.push(name.as_ref(), Value { kind, text });
        }
        list
    }
}

impl Field for ParameterValues {
    fn write(&self, name: &str, writer: &mut Writer) {
        writer.open_array(name, "cwmp:ParameterValueStruct", self.len());
        for (name, value) in self.iter() {
            writer.raw("<ParameterValueStruct><Name>");
            writer.text(name);
            writer.raw("</Name><Value xsi:type=\"xsd:");
            writer.raw(value.kind.name());
            writer.raw("\">");
            writer.text(value.text);
            writer.raw("</Value></ParameterValueStruct>");
        }
        writer.close(name);
    }

    fn read(reader: &mut Reader<'_>, _: &str) -> Result<Self, DecodeError> {
        let mut list = Self::new();
        loop {
            while let Some(pair) = reader.pair(["ParameterValueStruct", "Name", "Value"]) {
                let kind = pair.kind.map_or(ValueType::String, ValueType::parse);
                let text = pair.second;
                list.push(pair.first.trim(), Value { kind, text });
            }
            if reader.child()?.is_none() {
                return Ok(list);
            }
            let (mut name, mut text, mut kind) = (None, None, ValueType::String);
            while let Some(child) = reader.child()? {
                match child.local_name().as_ref() {
                    "Name" => name = Some(reader.text()?),
                    "Value" => {
                        let attribute = reader.attribute(&child, "type")?;
                        kind = attribute.map_or(ValueType::String, |text| ValueType::parse(&text));
                        text = Some(reader.text()?);
                    }
                    _ => reader.skip()?,
                }
            }
            let name = name.ok_or(DecodeError::Missing {
                element: "Name",
                within: "ParameterValueStruct",
            })?;
            let text = text.as_deref().unwrap_or_default();
            list.push(name.trim(), Value { kind, text });
        }
    }
}

/// Names, and for each whether it can be written: what GetParameterNames answers with, in one buffer.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ParameterInfos {
    texts: String,
    ends: Vec<(usize, bool)>,
}

impl ParameterInfos {
    /// None.
    pub const fn new() -> Self {
        Self {
            texts: String::new(),
            ends: Vec::new(),
        }
    }

    /// Adds a parameter, or with a trailing dot an object. An object is writable when instances of it can be added or deleted.
    pub fn push(&mut self, name: &str, writable: bool) {
        self.texts.push_str(name);
        self.ends.push((self.texts.len(), writable));
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Each name, and whether it can be written.
    pub fn iter(&self) -> impl Iterator<Item = (&str, bool)> {
        let mut start = 0;
        self.ends.iter().map(move |(end, writable)| {
            let name = self.texts.get(start..*end).unwrap_or_default();
            start = *end;
            (name, *writable)
        })
    }
}

impl fmt::Debug for ParameterInfos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<N: AsRef<str>> FromIterator<(N, bool)> for ParameterInfos {
    fn from_iter<I: IntoIterator<Item = (N, bool)>>(all: I) -> Self {
        let mut list = Self::new();
        for (name, writable) in all {
            list.push(name.as_ref(), writable);
        }
        list
    }
}

impl Field for ParameterInfos {
    fn write(&self, name: &str, writer: &mut Writer) {
        writer.open_array(name, "cwmp:ParameterInfoStruct", self.len());
        for (name, writable) in self.iter() {
            writer.raw("<ParameterInfoStruct><Name>");
            writer.text(name);
            writer.raw("</Name><Writable>");
            writer.raw(if writable { "1" } else { "0" });
            writer.raw("</Writable></ParameterInfoStruct>");
        }
        writer.close(name);
    }

    fn read(reader: &mut Reader<'_>, _: &str) -> Result<Self, DecodeError> {
        let mut list = Self::new();
        loop {
            while let Some(pair) = reader.pair(["ParameterInfoStruct", "Name", "Writable"]) {
                let writable = bool::parse(pair.second, "Writable")?;
                list.push(pair.first.trim(), writable);
            }
            if reader.child()?.is_none() {
                return Ok(list);
            }
            let (mut name, mut writable) = (None, false);
            while let Some(child) = reader.child()? {
                match child.local_name().as_ref() {
                    "Name" => name = Some(reader.text()?),
                    "Writable" => writable = bool::read(reader, "Writable")?,
                    _ => reader.skip()?,
                }
            }
            let name = name.ok_or(DecodeError::Missing {
                element: "Name",
                within: "ParameterInfoStruct",
            })?;
            list.push(name.trim(), writable);
        }
    }
}

/// A password, which no log shows.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The password itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "secret" })
    }
}

impl Field for Secret {
    fn write(&self, name: &str, writer: &mut Writer) {
        writer.leaf(name, &self.0);
    }

    fn read(reader: &mut Reader<'_>, _: &str) -> Result<Self, DecodeError> {
        Ok(Self(reader.text()?.into_owned()))
    }
}
