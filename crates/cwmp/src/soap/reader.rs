//! Elements out of bytes, one after the other, within limits.

use std::{borrow::Cow, io::BufRead as _};

use quick_xml::{
    Reader as XmlReader, XmlVersion,
    events::{BytesEnd, BytesRef, BytesStart, Event},
};

use super::Limits;
use crate::{DecodeError, error::shortened};

/// The replacement of a character that XML 1.0 does not have (§2.2).
pub(super) const REPLACEMENT: char = '\u{FFFD}';

/// Reads elements by descending into them: [`Reader::child`] enters, and [`Reader::text`], [`Reader::skip`], or a `child` that
/// returns `None`, leave again.
pub(crate) struct Reader<'a> {
    xml: XmlReader<&'a [u8]>,
    text: &'a str,
    limits: &'a Limits,
    depth: usize,
    elements: usize,
    /// The current element has no content, and its end is still to come.
    empty: bool,
    /// Whether items in their usual form are read at once.
    shortcuts: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str, limits: &'a Limits, shortcuts: bool) -> Self {
        let mut xml = XmlReader::from_str(text);
        let config = xml.config_mut();
        config.check_comments = false;
        Self {
            xml,
            text,
            limits,
            depth: 0,
            elements: 0,
            empty: false,
            shortcuts,
        }
    }

    /// The next child with two children of its own, when all three stand there in their usual form: no attributes but one on the second,
    /// nothing but plain text inside. `None` means that [`Reader::child`] is to look.
    ///
    /// Lists of thousands of parameters are this, again and again; taking each at once costs a tenth of looking at all its tags.
    pub(crate) fn pair(&mut self, names: [&str; 3]) -> Option<Pair<'a>> {
        let fits = self.shortcuts
            && !self.empty
            && self.depth + 2 <= self.limits.depth
            && self.elements + 3 <= self.limits.elements;
        let start = usize::try_from(self.xml.buffer_position()).ok()?;
        let before = self.text.get(start..).filter(|_| fits)?;
        let (pair, rest) = Pair::read(before, names)?;
        if pair.attributes.len() > self.limits.attributes {
            return None;
        }
        self.elements += 3;
        self.xml.stream().consume(before.len() - rest.len());
        Some(pair)
    }

    /// Enters the next element inside the current one; `None` after leaving the current one.
    pub(crate) fn child(&mut self) -> Result<Option<BytesStart<'a>>, DecodeError> {
        loop {
            match self.event()? {
                Event::Start(start) => return Ok(Some(start)),
                Event::End(_) => return Ok(None),
                Event::Eof if self.depth == 0 => return Ok(None),
                Event::Eof => return Err(self.syntax("the end inside an element")),
                // Text stands for nothing between elements, but entities are refused everywhere.
                Event::GeneralRef(name) => drop(self.reference(&name)?),
                _ => {}
            }
        }
    }

    /// The text of the current element, without that of elements inside it; leaves it.
    pub(crate) fn text(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        let mut all = Cow::Borrowed("");
        loop {
            let piece = match self.event()? {
                Event::Text(text) => clean(text.into_inner()),
                Event::CData(text) => clean(text.into_inner()),
                Event::GeneralRef(name) => self.reference(&name)?,
                Event::Start(_) => {
                    self.skip()?;
                    continue;
                }
                Event::End(_) => return Ok(all),
                Event::Eof => return Err(self.syntax("the end inside an element")),
                _ => continue,
            };
            if all.is_empty() {
                all = piece;
            } else {
                all.to_mut().push_str(&piece);
            }
        }
    }

    /// Leaves the current element with everything in it.
    pub(crate) fn skip(&mut self) -> Result<(), DecodeError> {
        let outside = self.depth.saturating_sub(1);
        while self.depth > outside {
            match self.event()? {
                Event::Eof => return Err(self.syntax("the end inside an element")),
                Event::GeneralRef(name) => drop(self.reference(&name)?),
                _ => {}
            }
        }
        Ok(())
    }

    /// The value of the attribute with this local name.
    pub(crate) fn attribute<'e>(
        &self,
        element: &'e BytesStart<'_>,
        local: &str,
    ) -> Result<Option<Cow<'e, str>>, DecodeError> {
        let mut attributes = element.attributes();
        for attribute in attributes.with_checks(false) {
            let attribute = attribute.map_err(|error| self.syntax(&error.to_string()))?;
            if attribute.key.local_name().as_ref() == local {
                let value = attribute
                    .normalized_value(XmlVersion::Explicit1_0)
                    .map_err(|error| self.syntax(&error.to_string()))?;
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The namespaces that an element declares: prefix (empty for the default) and URI.
    pub(super) fn declared(
        &self,
        element: &BytesStart<'_>,
        into: &mut Vec<(String, String)>,
    ) -> Result<(), DecodeError> {
        let mut attributes = element.attributes();
        for attribute in attributes.with_checks(false) {
            let attribute = attribute.map_err(|error| self.syntax(&error.to_string()))?;
            let key = attribute.key.as_ref();
            let prefix = match key.strip_prefix("xmlns:") {
                Some(prefix) => prefix,
                None if key == "xmlns" => "",
                None => continue,
            };
            let value = attribute
                .normalized_value(XmlVersion::Explicit1_0)
                .map_err(|error| self.syntax(&error.to_string()))?;
            into.push((prefix.to_owned(), value.into_owned()));
        }
        Ok(())
    }

    /// Nothing but the end may follow.
    pub(super) fn finish(&mut self) -> Result<(), DecodeError> {
        match self.child()? {
            None => Ok(()),
            Some(_) => Err(self.syntax("a second root element")),
        }
    }

    fn event(&mut self) -> Result<Event<'a>, DecodeError> {
        if self.empty {
            self.empty = false;
            self.depth = self.depth.saturating_sub(1);
            return Ok(Event::End(BytesEnd::new("")));
        }
        let event = self.xml.read_event().map_err(|error| DecodeError::Syntax {
            what: shortened(&error.to_string()),
            offset: self.xml.error_position(),
        })?;
        match &event {
            Event::Start(start) => self.enter(start)?,
            Event::Empty(_) => {
                let Event::Empty(start) = event else {
                    return Ok(event);
                };
                self.enter(&start)?;
                self.empty = true;
                return Ok(Event::Start(start));
            }
            Event::End(_) => self.depth = self.depth.saturating_sub(1),
            Event::DocType(_) => {
                return Err(DecodeError::DocumentType {
                    offset: self.xml.buffer_position(),
                });
            }
            _ => {}
        }
        Ok(event)
    }

    fn enter(&mut self, start: &BytesStart<'_>) -> Result<(), DecodeError> {
        let offset = self.xml.buffer_position();
        self.depth += 1;
        self.elements += 1;
        if self.depth > self.limits.depth {
            let limit = self.limits.depth;
            return Err(DecodeError::TooDeep { limit, offset });
        }
        if self.elements > self.limits.elements {
            let limit = self.limits.elements;
            return Err(DecodeError::TooMany { limit, offset });
        }
        if start.attributes_raw().len() > self.limits.attributes {
            let limit = self.limits.attributes;
            return Err(DecodeError::Attributes { limit, offset });
        }
        Ok(())
    }

    fn reference(&self, reference: &BytesRef<'_>) -> Result<Cow<'a, str>, DecodeError> {
        if reference.is_char_ref() {
            let character = match reference.resolve_char_ref() {
                Ok(Some(character)) => character,
                _ => REPLACEMENT,
            };
            let character = if is_xml(character) {
                character
            } else {
                REPLACEMENT
            };
            return Ok(Cow::Owned(character.to_string()));
        }
        let name = reference.xml10_content();
        Ok(Cow::Borrowed(match name.as_ref() {
            "amp" => "&",
            "apos" => "'",
            "gt" => ">",
            "lt" => "<",
            "quot" => "\"",
            _ => {
                return Err(DecodeError::Entity {
                    name: shortened(&name),
                    offset: self.xml.buffer_position(),
                });
            }
        }))
    }

    pub(super) fn syntax(&self, what: &str) -> DecodeError {
        DecodeError::Syntax {
            what: shortened(what),
            offset: self.xml.buffer_position(),
        }
    }
}

/// An element with two plain ones in it.
pub(crate) struct Pair<'a> {
    /// The text of the first.
    pub(crate) first: &'a str,
    /// The attributes of the second, as they stand.
    attributes: &'a str,
    /// The text of the second.
    pub(crate) second: &'a str,
    /// The value of the second's only attribute, when that is called `type`.
    pub(crate) kind: Option<&'a str>,
}

impl<'a> Pair<'a> {
    /// A pair, and what follows it.
    fn read(text: &'a str, [item, first, second]: [&str; 3]) -> Option<(Self, &'a str)> {
        let (attributes, rest) = open(text, item)?;
        attributes.is_empty().then_some(())?;
        let (attributes, rest) = open(rest, first)?;
        attributes.is_empty().then_some(())?;
        let (first, rest) = plain(rest, first)?;
        let (attributes, rest) = open(rest, second)?;
        let (kind, (second, rest)) = match attributes.strip_suffix('/') {
            Some(attributes) => (only_type(attributes)?, ("", rest)),
            None => (only_type(attributes)?, plain(rest, second)?),
        };
        let rest = close(rest.trim_start_matches(SPACES), item)?;
        let pair = Self {
            first,
            attributes,
            second,
            kind,
        };
        Some((pair, rest))
    }
}

const SPACES: [char; 4] = [' ', '\n', '\t', '\r'];

/// What is between the name and the end of an opening tag, and what follows it.
fn open<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let rest = text.trim_start_matches(SPACES);
    let rest = rest.strip_prefix('<')?.strip_prefix(name)?;
    if let Some(rest) = rest.strip_prefix('>') {
        return Some(("", rest));
    }
    let goes_on = rest.starts_with(SPACES) || rest.starts_with('/');
    goes_on.then(|| rest.split_once('>'))?
}

/// Text that stands for itself up to the closing tag, and what follows that.
fn plain<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let (content, rest) = text.split_at(text.find('<')?);
    let odd =
        |byte: u8| matches!(byte, b'&' | 0xEF) || (byte < 0x20 && byte != b'\n' && byte != b'\t');
    let is_plain = !content.bytes().fold(false, |found, byte| found | odd(byte));
    Some((content, close(rest, name).filter(|_| is_plain)?))
}

fn close<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let rest = text.strip_prefix("</")?.strip_prefix(name)?;
    rest.strip_prefix('>')
}

/// No attribute, or the value of the only one, which is called `type` whatever its prefix.
#[allow(clippy::option_option)] // no attribute, or something that is not looked at here
fn only_type(attributes: &str) -> Option<Option<&str>> {
    let text = attributes.trim_matches(SPACES);
    if text.is_empty() {
        return Some(None);
    }
    let (name, value) = text.split_once('=')?;
    let is_type = name == "type"
        || name
            .strip_suffix(":type")
            .is_some_and(|prefix| !prefix.contains(':'));
    let quote = value
        .chars()
        .next()
        .filter(|quote| matches!(quote, '"' | '\''))?;
    let value = value.strip_prefix(quote)?.strip_suffix(quote)?;
    let odd = |c: char| matches!(c, '"' | '\'' | '&' | '<') || c.is_control();
    let fits = is_type && !name.contains(odd) && !name.contains(SPACES) && !value.contains(odd);
    fits.then_some(Some(value))
}

/// Whether XML 1.0 has the character.
pub(super) fn is_xml(character: char) -> bool {
    !matches!(character, '\0'..='\u{8}' | '\u{B}' | '\u{C}' | '\u{E}'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}')
}

/// Text with line ends as XML 1.0 §2.11 wants them. What is no character of XML is replaced: a device with one odd byte in a
/// value is still one to talk to.
fn clean(text: Cow<'_, str>) -> Cow<'_, str> {
    // All that needs a look begins with one of these bytes. Looking at every byte is faster than leaving early: it goes by vectors.
    let odd = |byte: u8| (byte < 0x20 && byte != b'\n' && byte != b'\t') || byte == 0xEF;
    if !text.bytes().fold(false, |found, byte| found | odd(byte)) {
        return text;
    }
    let lines = text.replace("\r\n", "\n").replace('\r', "\n");
    Cow::Owned(lines.replace(|character| !is_xml(character), "\u{FFFD}"))
}
