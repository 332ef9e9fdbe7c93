//! Arguments of methods as elements, and the macro that makes structures of them.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Reader, Writer};
use crate::{DateTime, DecodeError, error::shortened};

/// Something that is the content of one element.
pub(crate) trait Field: Sized {
    /// Writes the element `name`.
    fn write(&self, name: &str, writer: &mut Writer);

    /// Reads the content of the element that was entered, and leaves it. `name` is for errors.
    fn read(reader: &mut Reader<'_>, name: &str) -> Result<Self, DecodeError>;
}

/// Something that stands in arrays.
pub(crate) trait Item: Sized {
    /// The name of an item's element.
    const NAME: &'static str;
    /// The type of an item, with our prefix.
    const TYPE: &'static str;

    fn write_item(&self, writer: &mut Writer);
    fn read_item(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

impl Field for String {
    fn write(&self, name: &str, writer: &mut Writer) {
        writer.leaf(name, self);
    }

    fn read(reader: &mut Reader<'_>, _: &str) -> Result<Self, DecodeError> {
        Ok(reader.text()?.into_owned())
    }
}

impl Field for bool {
    fn write(&self, name: &str, writer: &mut Writer) {
        writer.leaf(name, if *self { "1" } else { "0" });
    }

    fn read(reader: &mut Reader<'_>, name: &str) -> Result<Self, DecodeError> {
        let text = reader.text()?;
        Self::parse(&text, name)
    }
}

/// A value of one word.
pub(crate) trait Word: Sized {
    /// Reads it; `name` is for errors.
    fn parse(text: &str, name: &str) -> Result<Self, DecodeError>;
}

impl Word for bool {
    fn parse(text: &str, name: &str) -> Result<Self, DecodeError> {
        match text.trim() {
            "1" => Ok(true),
            "0" | "" => Ok(false),
            word if word.eq_ignore_ascii_case("true") => Ok(true),
            word if word.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(argument(name, text, "a boolean")),
        }
    }
}

/// Numbers: an element that is there but empty is 0, as devices mean it.
macro_rules! number {
    ($($kind:ty, $expected:literal;)*) => {$(
        impl Field for $kind {
            fn write(&self, name: &str, writer: &mut Writer) {
                writer.leaf(name, &self.to_string());
            }

            fn read(reader: &mut Reader<'_>, name: &str) -> Result<Self, DecodeError> {
                let text = reader.text()?;
                match text.trim() {
                    "" => Ok(0),
                    digits => digits.parse().map_err(|_| argument(name, &text, $expected)),
                }
            }
        }
    )*};
}

number! {
    i32, "an int";
    u32, "an unsignedInt";
}

impl Field for DateTime {
    fn write(&self, name: &str, writer: &mut Writer) {
        writer.leaf(name, &self.to_string());
    }

    fn read(reader: &mut Reader<'_>, _: &str) -> Result<Self, DecodeError> {
        Ok(Self::parse(&reader.text()?).unwrap_or_default())
    }
}

impl Item for String {
    const NAME: &'static str = "string";
    const TYPE: &'static str = "xsd:string";

    fn write_item(&self, writer: &mut Writer) {
        self.write(Self::NAME, writer);
    }

    fn read_item(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(reader.text()?.trim().to_owned())
    }
}

/// Octets: the items of a VoucherList.
impl Item for Vec<u8> {
    const NAME: &'static str = "base64";
    const TYPE: &'static str = "SOAP-ENC:base64";

    fn write_item(&self, writer: &mut Writer) {
        writer.leaf(Self::NAME, &STANDARD.encode(self));
    }

    fn read_item(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let text = reader.text()?;
        let joined: String = text.split_ascii_whitespace().collect();
        STANDARD
            .decode(joined)
            .map_err(|_| argument(Self::NAME, &text, "base64"))
    }
}

/// An array; neither the count it claims nor the names of its items matter.
impl<T: Item> Field for Vec<T> {
    fn write(&self, name: &str, writer: &mut Writer) {
        writer.open_array(name, T::TYPE, self.len());
        for item in self {
            item.write_item(writer);
        }
        writer.close(name);
    }

    fn read(reader: &mut Reader<'_>, _: &str) -> Result<Self, DecodeError> {
        let mut all = Self::new();
        while reader.child()?.is_some() {
            all.push(T::read_item(reader)?);
        }
        Ok(all)
    }
}

/// What may be left out.
impl<T: Field> Field for Option<T> {
    fn write(&self, name: &str, writer: &mut Writer) {
        if let Some(field) = self {
            field.write(name, writer);
        }
    }

    fn read(reader: &mut Reader<'_>, name: &str) -> Result<Self, DecodeError> {
        T::read(reader, name).map(Some)
    }
}

pub(crate) fn argument(element: &str, found: &str, expected: &'static str) -> DecodeError {
    DecodeError::Argument {
        element: shortened(element),
        found: shortened(found),
        expected,
    }
}

/// Structures of elements in a fixed order: `must` be there, or `may` be missing when it is read and is then the type's default.
///
/// With a name after `as`, the structure is also an item of arrays and the content of an element.
macro_rules! structure {
    ($(#[$meta:meta])* $name:ident as $item:literal { $($body:tt)* }) => {
        structure! { $(#[$meta])* $name within $item { $($body)* } }

        impl crate::soap::Item for $name {
            const NAME: &'static str = $item;
            const TYPE: &'static str = concat!("cwmp:", $item);

            fn write_item(&self, writer: &mut crate::soap::Writer) {
                crate::soap::Field::write(self, $item, writer);
            }

            fn read_item(reader: &mut crate::soap::Reader<'_>) -> Result<Self, crate::DecodeError> {
                Self::read_fields(reader)
            }
        }

        impl crate::soap::Field for $name {
            fn write(&self, name: &str, writer: &mut crate::soap::Writer) {
                writer.open(name);
                self.write_fields(writer);
                writer.close(name);
            }

            fn read(reader: &mut crate::soap::Reader<'_>, _: &str) -> Result<Self, crate::DecodeError> {
                Self::read_fields(reader)
            }
        }
    };
    ($(#[$meta:meta])* $name:ident within $within:literal {
        $($(#[$field_meta:meta])* $need:ident $field:ident: $kind:ty = $element:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $kind,)*
        }

        impl $name {
            #[allow(unused_variables)] // some methods have no arguments
            pub(crate) fn write_fields(&self, writer: &mut crate::soap::Writer) {
                $(crate::soap::Field::write(&self.$field, $element, writer);)*
            }

            pub(crate) fn read_fields(
                reader: &mut crate::soap::Reader<'_>,
            ) -> Result<Self, crate::DecodeError> {
                $(let mut $field: Option<$kind> = None;)*
                while let Some(child) = reader.child()? {
                    match child.local_name().as_ref() {
                        $($element => $field = Some(crate::soap::Field::read(reader, $element)?),)*
                        _ => reader.skip()?,
                    }
                }
                Ok(Self {
                    $($field: structure!(@$need $field, $element, $within),)*
                })
            }
        }
    };
    (@must $field:ident, $element:literal, $within:literal) => {
        $field.ok_or(crate::DecodeError::Missing {
            element: $element,
            within: $within,
        })?
    };
    (@may $field:ident, $element:literal, $within:literal) => {
        $field.unwrap_or_default()
    };
}

pub(crate) use structure;
