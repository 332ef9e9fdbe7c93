//! A look at the protobuf wire form before decoding: how often fields occur.
//!
//! A protobuf decoder keeps the last element of a `oneof` and merges repeated messages, and so hides what
//! R-ENC.3, R-MSG.6 and R-MSG.7 forbid. This looks at the bytes.

/// The fields of a message that are counted.
pub(crate) struct Shape {
    /// What it is called in errors.
    pub(crate) name: &'static str,
    /// Fields that occur exactly once.
    pub(crate) once: &'static [u32],
    /// Fields of which exactly one occurs, once; none when there is no `oneof`.
    pub(crate) one_of: &'static [u32],
    /// Other fields that this version knows.
    pub(crate) plain: &'static [u32],
    /// Messages inside that are looked at too.
    pub(crate) inside: &'static [(u32, &'static Shape)],
}

/// What is wrong with the wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not protobuf.
    #[error("no protobuf at offset {0}")]
    Malformed(usize),
    /// A required message is missing or there more than once.
    #[error("{name} has field {field} {count} times, exactly one is required")]
    Once {
        /// The message.
        name: &'static str,
        /// The field's number.
        field: u32,
        /// How often it is there.
        count: usize,
    },
    /// A `oneof` with no element or several (R-ENC.3).
    #[error("the oneof of {name} has {count} elements, exactly one is required")]
    OneOf {
        /// The message.
        name: &'static str,
        /// How many there are.
        count: usize,
    },
    /// A `oneof` with an element that this version does not know.
    #[error("the oneof of {name} has only the unknown element {field}")]
    Unknown {
        /// The message.
        name: &'static str,
        /// The field's number.
        field: u32,
    },
}

/// Checks `bytes` against `shape`. Messages nest as deep as the shapes do.
pub(crate) fn check(shape: &Shape, bytes: &[u8]) -> Result<(), WireError> {
    let mut once = vec![0_usize; shape.once.len()];
    let mut one_of = 0;
    let mut unknown = None;
    fields(bytes, |field, payload| {
        if let Some(count) = shape
            .once
            .iter()
            .position(|known| *known == field)
            .and_then(|index| once.get_mut(index))
        {
            *count += 1;
        }
        if shape.one_of.contains(&field) {
            one_of += 1;
        } else if !shape.once.contains(&field) && !shape.plain.contains(&field) {
            unknown = Some(field);
        }
        if let (Some((_, inside)), Some(payload)) = (
            shape.inside.iter().find(|(known, _)| *known == field),
            payload,
        ) {
            check(inside, payload)?;
        }
        Ok(())
    })?;
    for (field, count) in shape.once.iter().zip(&once) {
        if *count != 1 {
            return Err(WireError::Once {
                name: shape.name,
                field: *field,
                count: *count,
            });
        }
    }
    if !shape.one_of.is_empty() && one_of != 1 {
        return Err(match unknown {
            Some(field) if one_of == 0 => WireError::Unknown {
                name: shape.name,
                field,
            },
            _ => WireError::OneOf {
                name: shape.name,
                count: one_of,
            },
        });
    }
    Ok(())
}

/// The text of a string field inside nested messages, as far as the bytes can be read.
pub(crate) fn text(bytes: &[u8], path: &[u32]) -> Option<String> {
    let found = payload(bytes, path)?;
    std::str::from_utf8(found).ok().map(str::to_owned)
}

/// The bytes of a field inside nested messages, the last of several, as far as the bytes can be read.
pub(crate) fn payload<'a>(bytes: &'a [u8], path: &[u32]) -> Option<&'a [u8]> {
    let (first, rest) = path.split_first()?;
    let mut found = None;
    // What was found before the bytes went wrong still counts.
    fields(bytes, |field, inside| {
        if field == *first
            && let Some(inside) = inside
        {
            found = if rest.is_empty() {
                Some(inside)
            } else {
                payload(inside, rest)
            };
        }
        Ok(())
    })
    .ok();
    found
}

/// Calls `f` with each field's number, and its bytes when it is length-delimited.
fn fields<'a>(
    bytes: &'a [u8],
    mut f: impl FnMut(u32, Option<&'a [u8]>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let offset = bytes.len() - rest.len();
        let wrong = || WireError::Malformed(offset);
        let tag = varint(&mut rest).ok_or_else(wrong)?;
        let field = u32::try_from(tag >> 3)
            .ok()
            .filter(|field| *field != 0)
            .ok_or_else(wrong)?;
        let payload = match tag & 7 {
            0 => {
                varint(&mut rest).ok_or_else(wrong)?;
                None
            }
            1 => {
                rest = rest.get(8..).ok_or_else(wrong)?;
                None
            }
            2 => {
                let length = varint(&mut rest)
                    .and_then(|length| usize::try_from(length).ok())
                    .ok_or_else(wrong)?;
                let (payload, tail) = rest.split_at_checked(length).ok_or_else(wrong)?;
                rest = tail;
                Some(payload)
            }
            5 => {
                rest = rest.get(4..).ok_or_else(wrong)?;
                None
            }
            // Groups are not part of proto3.
            _ => return Err(wrong()),
        };
        f(field, payload)?;
    }
    Ok(())
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        if shift == 63 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Whether nested messages hold a field, as far as the bytes can be read.
pub(crate) fn has(bytes: &[u8], path: &[u32]) -> bool {
    let Some((first, rest)) = path.split_first() else {
        return true;
    };
    let mut found = false;
    fields(bytes, |field, payload| {
        found |= field == *first
            && (rest.is_empty() || payload.is_some_and(|payload| has(payload, rest)));
        Ok(())
    })
    .ok();
    found
}
