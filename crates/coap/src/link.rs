//! The CoRE link format: `/.well-known/core` (RFC 6690, RFC 7252 §7.2).

use std::fmt;

use thiserror::Error;

/// One link: a target and its attributes (RFC 6690 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The URI reference between `<` and `>`.
    pub target: String,
    /// Attributes in order; `None` for one without a value, like `obs` (RFC 7641 §6).
    pub attributes: Vec<(String, Option<String>)>,
}

impl Link {
    /// A link without attributes.
    pub fn new(target: impl Into<String>) -> Link {
        Link {
            target: target.into(),
            attributes: Vec::new(),
        }
    }

    /// Adds an attribute with a value: `rt`, `if`, `sz`, `ct`, `title`, …
    #[must_use]
    pub fn attribute(mut self, name: &str, value: impl Into<String>) -> Link {
        self.attributes.push((name.to_owned(), Some(value.into())));
        self
    }

    /// Adds an attribute without a value.
    #[must_use]
    pub fn flag(mut self, name: &str) -> Link {
        self.attributes.push((name.to_owned(), None));
        self
    }

    /// The first value of an attribute.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(n, _)| n == name)
            .and_then(|(_, value)| value.as_deref())
    }

    /// Whether the link passes a filter of `/.well-known/core` (RFC 6690 §4.1).
    ///
    /// `name=value` compares the whole value, `name=start*` its beginning; `href` is the target. Values
    /// of `rt`, `if`, `rel`, `rev` and `ct` are lists, of which one member has to match. A bare `name` asks
    /// for the attribute's presence.
    pub fn matches(&self, filter: &str) -> bool {
        let Some((name, pattern)) = filter.split_once('=') else {
            return filter.is_empty() || self.attributes.iter().any(|(n, _)| n == filter);
        };
        let fits = |value: &str| match pattern.strip_suffix('*') {
            Some(start) => value.starts_with(start),
            None => value == pattern,
        };
        if name == "href" {
            return fits(&self.target);
        }
        let is_list = matches!(name, "rt" | "if" | "rel" | "rev" | "ct");
        self.attributes
            .iter()
            .filter(|(n, _)| n == name)
            .any(|(_, value)| {
                let value = value.as_deref().unwrap_or_default();
                fits(value) || (is_list && value.split_ascii_whitespace().any(fits))
            })
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.target)?;
        for (name, value) in &self.attributes {
            write!(f, ";{name}")?;
            match value {
                None => {}
                Some(value) if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                    write!(f, "={value}")?;
                }
                Some(value) => {
                    f.write_str("=\"")?;
                    for c in value.chars() {
                        if matches!(c, '"' | '\\') {
                            f.write_str("\\")?;
                        }
                        write!(f, "{c}")?;
                    }
                    f.write_str("\"")?;
                }
            }
        }
        Ok(())
    }
}

/// The body of a `/.well-known/core` response: the links that pass every filter (RFC 6690 §4.1).
///
/// `query` are the request's Uri-Query arguments, see [`crate::Options::uri_queries`].
pub fn core<'a>(links: &[Link], query: impl Iterator<Item = &'a str>) -> String {
    let filters: Vec<&str> = query.collect();
    let mut body = String::new();
    for link in links {
        if filters.iter().all(|filter| link.matches(filter)) {
            if !body.is_empty() {
                body.push(',');
            }
            body.push_str(&link.to_string());
        }
    }
    body
}

/// Why a text is no link format, and where (byte offset).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LinkError {
    /// A link does not start with `<`.
    #[error("byte {0}: a link starts with '<'")]
    Target(usize),
    /// A target without `>`.
    #[error("byte {0}: the target has no '>'")]
    UnclosedTarget(usize),
    /// An attribute without a name.
    #[error("byte {0}: an attribute has no name")]
    AttributeName(usize),
    /// A quoted value without its closing quote.
    #[error("byte {0}: the quoted value has no end")]
    UnclosedQuote(usize),
    /// Something between links that is not a comma.
    #[error("byte {0}: links are separated by ','")]
    Separator(usize),
}

/// Reads link format (RFC 6690 §2); blanks around separators are allowed.
///
/// # Errors
/// The first mistake, with its byte offset.
pub fn parse(text: &str) -> Result<Vec<Link>, LinkError> {
    let mut reader = Reader { text, at: 0 };
    let mut links = Vec::new();
    reader.blanks();
    while !reader.rest().is_empty() {
        links.push(reader.link()?);
        reader.blanks();
        if reader.rest().is_empty() {
            break;
        }
        if !reader.take(',') {
            return Err(LinkError::Separator(reader.at));
        }
        reader.blanks();
    }
    Ok(links)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, c: char) -> bool {
        let found = self.rest().starts_with(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn take_until(&mut self, stop: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.find(stop).unwrap_or(rest.len());
        self.at += len;
        rest.get(..len).unwrap_or_default()
    }

    fn blanks(&mut self) {
        self.take_until(|c| !c.is_ascii_whitespace());
    }

    fn link(&mut self) -> Result<Link, LinkError> {
        let start = self.at;
        if !self.take('<') {
            return Err(LinkError::Target(start));
        }
        let mut link = Link::new(self.take_until(|c| c == '>'));
        if !self.take('>') {
            return Err(LinkError::UnclosedTarget(start));
        }
        loop {
            self.blanks();
            if !self.take(';') {
                return Ok(link);
            }
            self.blanks();
            let name_at = self.at;
            let name = self.take_until(|c| matches!(c, '=' | ';' | ',') || c.is_whitespace());
            if name.is_empty() {
                return Err(LinkError::AttributeName(name_at));
            }
            self.blanks();
            let value = if self.take('=') {
                self.blanks();
                Some(self.value()?)
            } else {
                None
            };
            link.attributes.push((name.to_owned(), value));
        }
    }

    fn value(&mut self) -> Result<String, LinkError> {
        let start = self.at;
        if !self.take('"') {
            let value = self.take_until(|c| matches!(c, ';' | ',') || c.is_whitespace());
            return Ok(value.to_owned());
        }
        let mut value = String::new();
        let mut escaped = false;
        for (offset, c) in self.rest().char_indices() {
            match c {
                _ if escaped => {
                    value.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    self.at += offset + 1;
                    return Ok(value);
                }
                _ => value.push(c),
            }
        }
        Err(LinkError::UnclosedQuote(start))
    }
}
