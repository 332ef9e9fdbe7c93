//! TR-106 data types, the canonical text of their values, and comparison (TR-106 §3.2, R-ENC.6).
//!
//! A value is text in the one canonical form of its type, so that equal values are equal strings:
//! `boolean` is `true` or `false`, numbers have no sign `+` and no leading zero, `dateTime` is UTC with
//! `Z`, `hexBinary` is upper case, list items are separated by a lone comma.

mod compare;

use std::{borrow::Cow, fmt, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use crate::path::{Constant, Operator, Path, Segment};

pub use crate::error::{CompareError, ValueError};

pub(crate) use compare::compare;

/// The Unknown Time of TR-106 §3.2.1.
pub const UNKNOWN_TIME: &str = "0001-01-01T00:00:00Z";

/// The Infinite Time of TR-106 §3.2.1.
pub const INFINITE_TIME: &str = "9999-12-31T23:59:59Z";

/// The longest text that is accepted as a value, in bytes; a bound of ours.
pub const MAX_TEXT: usize = 64 * 1024;

/// Whether the device keeps a reference valid (TR-106 §3.2.4, R-ARC.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// The target exists; when it is deleted the reference becomes empty.
    Strong,
    /// The target need not exist.
    Weak,
}

/// A TR-106 data type with its facets; usable in constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `base64`, at most `max` octets when decoded.
    Base64 {
        /// The most octets, decoded.
        max: Option<u32>,
    },
    /// `boolean`: `true` or `false`; `1` and `0` are understood.
    Boolean,
    /// `dateTime`, canonical in UTC.
    DateTime,
    /// `decimal`, of any length.
    Decimal,
    /// `string` restricted to an enumeration.
    Enum(&'static [&'static str]),
    /// `hexBinary`, at most `max` octets when decoded.
    HexBinary {
        /// The most octets, decoded.
        max: Option<u32>,
    },
    /// `int`, 32 bits.
    Int,
    /// `int` from the first to the second number.
    IntIn(i32, i32),
    /// Comma-separated list.
    List(&'static ListType),
    /// `dateTime` whose definition says local time: canonical with its offset, `Z` only in UTC.
    LocalDateTime,
    /// `long`, 64 bits.
    Long,
    /// `long` from the first to the second number.
    LongIn(i64, i64),
    /// `string` that is the path of an object or parameter; canonical without a trailing dot.
    Reference(Strength),
    /// `string`, at most `max` characters.
    String {
        /// The most characters.
        max: Option<u32>,
    },
    /// `unsignedInt`, 32 bits.
    UnsignedInt,
    /// `unsignedInt` from the first to the second number.
    UnsignedIntIn(u32, u32),
    /// `unsignedLong`, 64 bits.
    UnsignedLong,
    /// `unsignedLong` from the first to the second number.
    UnsignedLongIn(u64, u64),
}

/// The facets of a comma-separated list (TR-106 §3.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListType {
    /// The type of every item; not itself a list.
    pub item: Type,
    /// The most items.
    pub max_items: Option<u32>,
    /// The most characters of the whole text.
    pub max: Option<u32>,
}

impl ListType {
    /// A list of any length.
    pub const fn of(item: Type) -> Self {
        Self {
            item,
            max_items: None,
            max: None,
        }
    }
}

impl Type {
    /// A `string` of any length (up to [`MAX_TEXT`]).
    pub const STRING: Self = Self::String { max: None };
    /// `base64` of any length.
    pub const BASE64: Self = Self::Base64 { max: None };
    /// `hexBinary` of any length.
    pub const HEX: Self = Self::HexBinary { max: None };

    /// A `string` of at most `max` characters.
    pub const fn string(max: u32) -> Self {
        Self::String { max: Some(max) }
    }

    /// A comma-separated list.
    pub const fn list(of: &'static ListType) -> Self {
        Self::List(of)
    }

    /// What a new parameter without a default holds, in canonical form.
    pub fn zero(self) -> Cow<'static, str> {
        match self {
            Self::Boolean => "false".into(),
            Self::DateTime | Self::LocalDateTime => UNKNOWN_TIME.into(),
            Self::Decimal | Self::Int | Self::Long | Self::UnsignedInt | Self::UnsignedLong => {
                "0".into()
            }
            Self::IntIn(low, high) => 0.clamp(low, high).to_string().into(),
            Self::LongIn(low, high) => 0.clamp(low, high).to_string().into(),
            Self::UnsignedIntIn(low, high) => 0.clamp(low, high).to_string().into(),
            Self::UnsignedLongIn(low, high) => 0.clamp(low, high).to_string().into(),
            Self::Enum(values) => values.first().copied().unwrap_or("").into(),
            Self::Base64 { .. }
            | Self::HexBinary { .. }
            | Self::List(_)
            | Self::Reference(_)
            | Self::String { .. } => "".into(),
        }
    }

    /// The canonical text of `text` as a value of this type (R-ENC.6).
    ///
    /// # Errors
    /// [`ValueError::Type`] when `text` is no such value at all (7011), [`ValueError::Value`] when it is
    /// one but outside the facets (7012).
    pub fn canonical(self, text: &str) -> Result<String, ValueError> {
        if text.len() > MAX_TEXT {
            return Err(ValueError::Value {
                reason: format!("longer than {MAX_TEXT} bytes"),
            });
        }
        match self {
            Self::Base64 { max } => {
                let joined: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
                let bytes = STANDARD.decode(joined).map_err(|_| self.no_such(text))?;
                within(bytes.len(), max, "octets")?;
                Ok(STANDARD.encode(bytes))
            }
            Self::Boolean => match text.trim() {
                "true" | "1" => Ok("true".to_owned()),
                "false" | "0" => Ok("false".to_owned()),
                _ => Err(self.no_such(text)),
            },
            Self::DateTime => canonical_date_time(text, false).ok_or_else(|| self.no_such(text)),
            Self::LocalDateTime => {
                canonical_date_time(text, true).ok_or_else(|| self.no_such(text))
            }
            Self::Decimal => canonical_decimal(text.trim()).ok_or_else(|| self.no_such(text)),
            Self::Enum(values) => {
                if values.contains(&text) {
                    Ok(text.to_owned())
                } else {
                    Err(ValueError::Value {
                        reason: format!("{text:?} is not one of {}", values.join(", ")),
                    })
                }
            }
            Self::HexBinary { max } => {
                let text = text.trim();
                if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(self.no_such(text));
                }
                within(text.len() / 2, max, "octets")?;
                Ok(text.to_ascii_uppercase())
            }
            Self::Int => self.signed(text, i32::MIN.into(), i32::MAX.into(), true),
            Self::IntIn(low, high) => self.signed(text, low.into(), high.into(), false),
            Self::Long => self.signed(text, i64::MIN, i64::MAX, true),
            Self::LongIn(low, high) => self.signed(text, low, high, false),
            Self::UnsignedInt => self.unsigned(text, 0, u32::MAX.into(), true),
            Self::UnsignedIntIn(low, high) => self.unsigned(text, low.into(), high.into(), false),
            Self::UnsignedLong => self.unsigned(text, 0, u64::MAX, true),
            Self::UnsignedLongIn(low, high) => self.unsigned(text, low, high, false),
            Self::List(list) => canonical_list(list, text),
            Self::Reference(_) => {
                if text.is_empty() || text == "." {
                    return Ok(String::new());
                }
                let path = Path::parse_reference(text).map_err(|error| ValueError::Value {
                    reason: format!("{text:?} is no path: {error}"),
                })?;
                // A reference names a row by its number or key (R-ARC.11), it does not follow another one.
                let follows = |segment: &Segment| matches!(segment, Segment::Follow { .. });
                if path.segments().iter().any(follows) {
                    return Err(ValueError::Value {
                        reason: format!("{text:?} follows another reference"),
                    });
                }
                Ok(text.strip_suffix('.').unwrap_or(text).to_owned())
            }
            Self::String { max } => {
                within(text.chars().count(), max, "characters")?;
                Ok(text.to_owned())
            }
        }
    }

    /// The name that TR-106 gives the type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base64 { .. } => "base64",
            Self::Boolean => "boolean",
            Self::DateTime | Self::LocalDateTime => "dateTime",
            Self::Decimal => "decimal",
            Self::HexBinary { .. } => "hexBinary",
            Self::Int | Self::IntIn(..) => "int",
            Self::Long | Self::LongIn(..) => "long",
            Self::UnsignedInt | Self::UnsignedIntIn(..) => "unsignedInt",
            Self::UnsignedLong | Self::UnsignedLongIn(..) => "unsignedLong",
            Self::Enum(_) | Self::List(_) | Self::Reference(_) | Self::String { .. } => "string",
        }
    }

    fn no_such(self, text: &str) -> ValueError {
        let mut found: String = text.chars().take(40).collect();
        if found.len() < text.len() {
            found.push('…');
        }
        ValueError::Type {
            expected: self.name(),
            found,
        }
    }

    /// A number outside the 32 or 64 bits of its type is of the wrong type, one outside a facet is a
    /// wrong value.
    fn signed(self, text: &str, low: i64, high: i64, bits: bool) -> Result<String, ValueError> {
        let number: i64 = digits(text)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| self.no_such(text))?;
        if (low..=high).contains(&number) {
            Ok(number.to_string())
        } else if bits {
            Err(self.no_such(text))
        } else {
            Err(ValueError::Value {
                reason: format!("{number} is not in {low}..{high}"),
            })
        }
    }

    fn unsigned(self, text: &str, low: u64, high: u64, bits: bool) -> Result<String, ValueError> {
        let number: u64 = digits(text)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| self.no_such(text))?;
        if (low..=high).contains(&number) {
            Ok(number.to_string())
        } else if bits {
            Err(self.no_such(text))
        } else {
            Err(ValueError::Value {
                reason: format!("{number} is not in {low}..{high}"),
            })
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Text in the canonical form of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    ty: Type,
    text: Box<str>,
}

impl Value {
    /// The value that `text` is in `ty`.
    ///
    /// # Errors
    /// As [`Type::canonical`].
    pub fn new(ty: Type, text: &str) -> Result<Self, ValueError> {
        Ok(Self {
            ty,
            text: ty.canonical(text)?.into_boxed_str(),
        })
    }

    /// The initial value of a parameter without a default.
    pub fn zero(ty: Type) -> Self {
        Self {
            ty,
            text: ty.zero().into(),
        }
    }

    /// What a secret parameter reads as.
    pub(crate) fn masked(ty: Type) -> Self {
        Self {
            ty,
            text: "".into(),
        }
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its type.
    pub fn ty(&self) -> Type {
        self.ty
    }

    /// Whether `self operator constant` holds, as a search expression asks (TR-369 §2.5.4).
    ///
    /// Strings, booleans and the Unknown Time know only `==` and `!=`; only lists know `~=`. A boolean is
    /// not compared with a quoted constant (`[Enable=="true"]` is not valid), a string only with one. A
    /// quoted number or dateTime is understood, though the grammar writes them without quotes.
    ///
    /// # Errors
    /// [`CompareError`] when the operator or the constant does not fit the type.
    pub fn compare(&self, operator: Operator, constant: &Constant) -> Result<bool, CompareError> {
        compare(self.ty, &self.text, operator, constant)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `time` as a dateTime in UTC with whole seconds; times outside the years 1 to 9999 are the Unknown Time.
pub fn date_time(time: SystemTime) -> String {
    let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds)
        }
    };
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| UNKNOWN_TIME.to_owned())
}

/// The time that a dateTime in canonical form means; `None` for the Unknown Time and for anything else.
pub fn system_time(text: &str) -> Option<SystemTime> {
    if text == UNKNOWN_TIME {
        return None;
    }
    Some(OffsetDateTime::parse(text, &Rfc3339).ok()?.into())
}

/// The canonical text of a list; commas and percent signs in an item are percent-escaped (TR-106 §3.2.3).
pub fn list<I: IntoIterator<Item = T>, T: AsRef<str>>(items: I) -> String {
    let mut text = String::new();
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        for character in item.as_ref().chars() {
            match character {
                ',' => text.push_str("%2C"),
                '%' => text.push_str("%25"),
                other => text.push(other),
            }
        }
    }
    text
}

/// The items of a list as they stand in it, without surrounding white space; an empty text has none.
pub fn list_items(text: &str) -> impl Iterator<Item = &str> {
    let empty = text.trim().is_empty();
    text.split(',').map(str::trim).filter(move |_| !empty)
}

/// The first number of decimal digits with an optional sign, as XML Schema writes integers.
fn digits(text: &str) -> Option<&str> {
    let text = text.trim();
    let bare = text.strip_prefix(['+', '-']).unwrap_or(text);
    if bare.is_empty() || !bare.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text)
}

fn within(found: usize, max: Option<u32>, unit: &str) -> Result<(), ValueError> {
    match max {
        Some(max) if found > usize::try_from(max).unwrap_or(usize::MAX) => Err(ValueError::Value {
            reason: format!("{found} {unit}, at most {max} are allowed"),
        }),
        _ => Ok(()),
    }
}

fn canonical_date_time(text: &str, local: bool) -> Option<String> {
    let text = text.trim();
    // RFC 3339 asks for an offset; XML Schema does not, and TR-106 says that times are UTC.
    let tail = text.get(10..)?;
    let zoned = tail.ends_with(['Z', 'z']) || tail.contains(['+', '-']);
    let time = if zoned {
        OffsetDateTime::parse(text, &Rfc3339).ok()?
    } else {
        OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339).ok()?
    };
    let time = if local {
        time
    } else {
        time.checked_to_offset(UtcOffset::UTC)?
    };
    // RFC 3339 tolerates a space for the T; XML Schema does not.
    if text.as_bytes().get(10) != Some(&b'T') || time.year() < 1 {
        return None;
    }
    time.format(&Rfc3339).ok()
}

fn canonical_decimal(text: &str) -> Option<String> {
    let (negative, bare) = match text.strip_prefix('-') {
        Some(bare) => (true, bare),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = bare.split_once('.').unwrap_or((bare, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    if !whole
        .bytes()
        .chain(fraction.bytes())
        .all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    let mut out = String::new();
    if negative && !(whole.is_empty() && fraction.is_empty()) {
        out.push('-');
    }
    out.push_str(if whole.is_empty() { "0" } else { whole });
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    Some(out)
}

fn canonical_list(list: &ListType, text: &str) -> Result<String, ValueError> {
    let mut out = String::new();
    let mut count = 0;
    for item in list_items(text) {
        if count > 0 {
            out.push(',');
        }
        count += 1;
        match list.item {
            // Items of strings keep their escapes; the facets count the item as it is meant.
            Type::String { .. } | Type::Enum(_) => {
                list.item.canonical(&unescape(item))?;
                out.push_str(item);
            }
            Type::List(_) => {
                return Err(ValueError::Value {
                    reason: "a list in a list".to_owned(),
                });
            }
            other => out.push_str(&other.canonical(item)?),
        }
    }
    within(count, list.max_items, "items")?;
    within(out.chars().count(), list.max, "characters")?;
    Ok(out)
}

/// Replaces `%XX` by the byte it means, where the result is UTF-8; anything else stays as it is.
pub(crate) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|two| std::str::from_utf8(two).ok())
            .filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(text), Cow::Owned)
}
