//! Elements out of bytes, one after the other, within limits.

use std::borrow::Cow;

use quick_xml::{
    Reader as XmlReader, XmlVersion,
    events::{BytesRef, BytesStart, Event},
};

use super::Limits;
use crate::{DecodeError, error::shortened};

/// The replacement of a character that XML 1.0 does not have (§2.2).
pub(super) const REPLACEMENT: char = '\u{FFFD}';

/// Reads elements by descending into them: [`Reader::child`] enters, and [`Reader::text`], [`Reader::skip`], or a `child` that
/// returns `None`, leave again.
pub(crate) struct Reader<'a> {
    xml: XmlReader<&'a [u8]>,
    limits: &'a Limits,
    depth: usize,
    elements: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str, limits: &'a Limits) -> Self {
        let mut xml = XmlReader::from_str(text);
        let config = xml.config_mut();
        config.expand_empty_elements = true;
        config.check_comments = false;
        Self {
            xml,
            limits,
            depth: 0,
            elements: 0,
        }
    }

    /// Enters the next element inside the current one; `None` after leaving the current one.
    pub(crate) fn child(&mut self) -> Result<Option<BytesStart<'a>>, DecodeError> {
        loop {
            match self.event()? {
                Event::Start(start) => return Ok(Some(start)),
                Event::End(_) => return Ok(None),
                Event::Eof if self.depth == 0 => return Ok(None),
                Event::Eof => return Err(self.syntax("the end inside an element")),
                // References count as text, which stands for nothing between elements.
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
        let event = self.xml.read_event().map_err(|error| DecodeError::Syntax {
            what: error.to_string(),
            offset: self.xml.error_position(),
        })?;
        match &event {
            Event::Start(start) => self.enter(start)?,
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
            what: what.to_owned(),
            offset: self.xml.buffer_position(),
        }
    }
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
