//! Envelopes in CBOR (RFC 8949, RFC 9254), with names as keys or with SIDs.
//!
//! SIDs are assigned outside of the documents (RFC 9595), and those of the envelopes are not final. An envelope with SIDs is
//! therefore told by its form: one member with a whole number as its key, which holds a date-and-time, perhaps a whole number (the sequence
//! number) and another text (the host's name), and an object with the notification. The paths of data with SIDs have the numbers
//! as they stand, which are differences to the SID above (RFC 9254 §4.4).

use super::{
    Encoding, Envelope, EnvelopeError, MAX_DEPTH, MAX_MEMBERS, MAX_NODES, Node, Shape, instant,
    local, short,
};

const MALFORMED: EnvelopeError = EnvelopeError::Malformed(Encoding::Cbor);

/// An item's head.
enum Head {
    Unsigned(u64),
    Negative(u64),
    Bytes(Option<usize>),
    Text(Option<usize>),
    Array(Option<usize>),
    Map(Option<usize>),
    Tag(u64),
    Float(f64),
    Simple,
    Break,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: usize,
}

/// A key of a map.
#[derive(PartialEq)]
enum Key {
    Name(String),
    Sid(i64),
    Other,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            nodes: 0,
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], EnvelopeError> {
        let end = self.at.checked_add(length).ok_or(MALFORMED)?;
        let part = self.bytes.get(self.at..end).ok_or(MALFORMED)?;
        self.at = end;
        Ok(part)
    }

    fn number(&mut self, length: usize) -> Result<u64, EnvelopeError> {
        let bytes = self.take(length)?;
        Ok(bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn head(&mut self) -> Result<Head, EnvelopeError> {
        let first = self.number(1)?;
        let (major, info) = (first >> 5, first & 31);
        if major == 7 {
            return match info {
                24 => self.take(1).map(|_| Head::Simple),
                25 => Ok(Head::Float(half(self.number(2)?))),
                26 => {
                    let bits = u32::try_from(self.number(4)?).unwrap_or(0);
                    Ok(Head::Float(f64::from(f32::from_bits(bits))))
                }
                27 => Ok(Head::Float(f64::from_bits(self.number(8)?))),
                31 => Ok(Head::Break),
                28..=30 => Err(MALFORMED),
                _ => Ok(Head::Simple),
            };
        }
        let argument = match info {
            0..=23 => Some(info),
            24 => Some(self.number(1)?),
            25 => Some(self.number(2)?),
            26 => Some(self.number(4)?),
            27 => Some(self.number(8)?),
            31 if (2..=5).contains(&major) => None,
            _ => return Err(MALFORMED),
        };
        // What is longer than the message cannot be there.
        let length = argument.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        Ok(match major {
            0 => Head::Unsigned(argument.unwrap_or(0)),
            1 => Head::Negative(argument.unwrap_or(0)),
            2 => Head::Bytes(length),
            3 => Head::Text(length),
            4 => Head::Array(length),
            5 => Head::Map(length),
            _ => Head::Tag(argument.unwrap_or(0)),
        })
    }

    fn is_break(&mut self) -> bool {
        let is = self.bytes.get(self.at) == Some(&0xff);
        self.at += usize::from(is);
        is
    }

    /// A text whose head has been read.
    fn text(&mut self, length: Option<usize>) -> Result<String, EnvelopeError> {
        let part = |bytes: &[u8]| {
            std::str::from_utf8(bytes)
                .map(str::to_owned)
                .map_err(|_| MALFORMED)
        };
        let Some(length) = length else {
            let mut text = String::new();
            while !self.is_break() {
                let Head::Text(Some(length)) = self.head()? else {
                    return Err(MALFORMED);
                };
                text.push_str(&part(self.take(length)?)?);
            }
            return Ok(text);
        };
        part(self.take(length)?)
    }

    fn key(&mut self) -> Result<Key, EnvelopeError> {
        match self.head()? {
            Head::Text(length) => Ok(Key::Name(short(&self.text(length)?))),
            Head::Unsigned(sid) => Ok(i64::try_from(sid).map_or(Key::Other, Key::Sid)),
            Head::Negative(sid) => {
                Ok(i64::try_from(sid).map_or(Key::Other, |sid| Key::Sid(-1 - sid)))
            }
            // An absolute SID (RFC 9254 §3.2).
            Head::Tag(47) => match self.head()? {
                Head::Unsigned(sid) => Ok(i64::try_from(sid).map_or(Key::Other, Key::Sid)),
                _ => Err(MALFORMED),
            },
            _ => Err(MALFORMED),
        }
    }

    /// Steps over an item.
    fn skip(&mut self, depth: usize) -> Result<(), EnvelopeError> {
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(EnvelopeError::Bound);
        }
        match self.head()? {
            Head::Bytes(Some(length)) => self.take(length).map(drop),
            Head::Text(length @ Some(_)) => self.text(length).map(drop),
            Head::Text(None) => self.text(None).map(drop),
            Head::Bytes(None) => {
                while !self.is_break() {
                    let Head::Bytes(Some(length)) = self.head()? else {
                        return Err(MALFORMED);
                    };
                    self.take(length)?;
                }
                Ok(())
            }
            Head::Array(length) => self.each(length, |reader| reader.skip(depth + 1)),
            Head::Map(length) => self.each(length, |reader| {
                reader.skip(depth + 1)?;
                reader.skip(depth + 1)
            }),
            Head::Tag(_) => self.skip(depth + 1),
            Head::Break => Err(MALFORMED),
            _ => Ok(()),
        }
    }

    fn each(
        &mut self,
        length: Option<usize>,
        mut entry: impl FnMut(&mut Self) -> Result<(), EnvelopeError>,
    ) -> Result<(), EnvelopeError> {
        match length {
            // Each takes at least a byte, so that this ends with the message.
            Some(length) => (0..length).try_for_each(|_| entry(self)),
            None => {
                while !self.is_break() {
                    entry(self)?;
                }
                Ok(())
            }
        }
    }

    /// The members of a map: key, and where its value begins.
    fn members(&mut self) -> Result<Vec<(Key, usize)>, EnvelopeError> {
        let Head::Map(length) = self.head()? else {
            return Err(EnvelopeError::Unknown);
        };
        let mut members = Vec::new();
        self.each(length, |reader| {
            let key = reader.key()?;
            if members.len() >= MAX_MEMBERS {
                return Err(EnvelopeError::Bound);
            }
            members.push((key, reader.at));
            reader.skip(0)
        })?;
        Ok(members)
    }

    fn at(&self, place: usize) -> Self {
        Self {
            bytes: self.bytes,
            at: place,
            nodes: 0,
        }
    }

    /// A text or number at a place, as text.
    fn scalar(&self, place: usize) -> Option<String> {
        let mut reader = self.at(place);
        match reader.head().ok()? {
            Head::Tag(_) => self.scalar(reader.at),
            Head::Text(length) => reader.text(length).ok(),
            Head::Unsigned(number) => Some(number.to_string()),
            _ => None,
        }
    }

    fn is_map(&self, place: usize) -> bool {
        self.bytes.get(place).is_some_and(|byte| byte >> 5 == 5)
    }
}

/// The envelope of a message.
pub(super) fn envelope(message: &[u8]) -> Result<Envelope, EnvelopeError> {
    let mut whole = Reader::new(message);
    whole.skip(0)?;
    if whole.at != message.len() {
        return Err(MALFORMED);
    }
    let mut reader = Reader::new(message);
    if !reader.is_map(0) {
        return Err(EnvelopeError::Unknown);
    }
    let root = reader.members()?;
    for (key, place) in &root {
        let shape = match key {
            Key::Name(name) => match name.as_str() {
                "ietf-yp-notification:envelope" => Shape::Envelope,
                "ietf-notification:notification" => Shape::Notification,
                _ => continue,
            },
            Key::Sid(_) if root.len() == 1 => Shape::Envelope,
            _ => continue,
        };
        if !reader.is_map(*place) {
            return Err(EnvelopeError::Unknown);
        }
        return inside(&reader, shape, *place);
    }
    Err(EnvelopeError::Unknown)
}

fn inside(reader: &Reader<'_>, shape: Shape, place: usize) -> Result<Envelope, EnvelopeError> {
    let mut envelope = Envelope::new(shape, Encoding::Cbor);
    for (key, place) in reader.at(place).members()? {
        let scalar = reader.scalar(place);
        match (&key, scalar) {
            (Key::Name(name), Some(value)) if envelope.take(local(name), &value) => {}
            (Key::Sid(_), Some(value)) => by_form(&mut envelope, reader, place, &value),
            (Key::Name(name), None)
                if reader.is_map(place)
                    && (shape == Shape::Notification || local(name) != "contents") =>
            {
                notification(&mut envelope, reader, &key, place)?;
            }
            (_, None) if reader.is_map(place) => {
                // `contents`, by name or by SID: the notification is its first member.
                if let Some((key, place)) = reader.at(place).members()?.into_iter().next()
                    && reader.is_map(place)
                {
                    notification(&mut envelope, reader, &key, place)?;
                }
            }
            _ => {}
        }
    }
    if envelope.event_time.is_none() && shape == Shape::Envelope && envelope.notification.is_none()
    {
        return Err(EnvelopeError::Unknown);
    }
    Ok(envelope)
}

/// A member of an envelope with SIDs.
fn by_form(envelope: &mut Envelope, reader: &Reader<'_>, place: usize, value: &str) {
    let is_number = reader.bytes.get(place).is_some_and(|byte| byte >> 5 == 0);
    if is_number {
        if envelope.sequence.is_none() {
            envelope.sequence = value.parse().ok();
        }
    } else if envelope.event_time.is_none() && instant(value).is_some() {
        envelope.event_time = instant(value);
    } else if envelope.hostname.is_none() {
        envelope.hostname = Some(short(value));
    }
}

fn notification(
    envelope: &mut Envelope,
    reader: &Reader<'_>,
    key: &Key,
    place: usize,
) -> Result<(), EnvelopeError> {
    if envelope.notification.is_some() {
        return Ok(());
    }
    let name = step(key);
    let mut end = reader.at(place);
    end.skip(0)?;
    envelope.contents = place..end.at;
    if matches!(local(&name), "push-update" | "push-change-update") {
        for (key, place) in reader.at(place).members()? {
            if let Key::Name(name) = &key
                && matches!(local(name), "id" | "subscription-id")
            {
                envelope.subscription = reader.scalar(place).map(|id| short(&id));
            }
        }
    }
    envelope.notification = Some(name);
    Ok(())
}

/// A key as a step of a path.
fn step(key: &Key) -> String {
    match key {
        Key::Name(name) => name.clone(),
        Key::Sid(sid) => sid.to_string(),
        Key::Other => "?".to_owned(),
    }
}

/// The data as a tree.
pub(super) fn node(contents: &[u8]) -> Result<Node, EnvelopeError> {
    tree(&mut Reader::new(contents), 0)
}

#[allow(clippy::cast_precision_loss)]
fn tree(reader: &mut Reader<'_>, depth: usize) -> Result<Node, EnvelopeError> {
    reader.nodes += 1;
    if depth > MAX_DEPTH || reader.nodes > MAX_NODES {
        return Err(EnvelopeError::Bound);
    }
    Ok(match reader.head()? {
        Head::Unsigned(number) => Node::Number(number as f64),
        Head::Negative(number) => Node::Number(-1.0 - number as f64),
        Head::Float(number) => Node::Number(number),
        Head::Text(length) => Node::Text(short(&reader.text(length)?)),
        Head::Bytes(Some(length)) => {
            reader.take(length)?;
            Node::Other
        }
        Head::Bytes(None) => {
            while !reader.is_break() {
                let Head::Bytes(Some(length)) = reader.head()? else {
                    return Err(MALFORMED);
                };
                reader.take(length)?;
            }
            Node::Other
        }
        Head::Array(length) => {
            let mut entries = Vec::new();
            reader.each(length, |reader| {
                entries.push(tree(reader, depth + 1)?);
                Ok(())
            })?;
            Node::List(entries)
        }
        Head::Map(length) => {
            let mut members = Vec::new();
            reader.each(length, |reader| {
                let key = step(&reader.key()?);
                members.push((key, tree(reader, depth + 1)?));
                Ok(())
            })?;
            Node::Object(members)
        }
        // decimal64 is a decimal fraction (RFC 9254 §6.3): an exponent and a whole number.
        Head::Tag(4) => match tree(reader, depth + 1)? {
            Node::List(parts) => match parts.as_slice() {
                [Node::Number(exponent), Node::Number(mantissa)] if exponent.abs() <= 64.0 => {
                    Node::Number(mantissa * 10f64.powf(*exponent))
                }
                _ => Node::Other,
            },
            _ => Node::Other,
        },
        Head::Tag(_) => tree(reader, depth + 1)?,
        Head::Simple => Node::Other,
        Head::Break => return Err(MALFORMED),
    })
}

/// A number of 16 bits (RFC 8949 Appendix D).
fn half(bits: u64) -> f64 {
    let exponent = i32::try_from(bits >> 10 & 31).unwrap_or(0);
    let fraction = f64::from(u16::try_from(bits & 0x3ff).unwrap_or(0));
    let value = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (fraction + 1024.0) * 2f64.powi(exponent - 25),
    };
    if bits & 0x8000 == 0 { value } else { -value }
}
