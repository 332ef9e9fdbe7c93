//! Envelopes in XML (RFC 5277, RFC 7950). No document type, no processing instruction, no entity but the five of XML itself: what
//! could make a short message long is refused.

use quick_xml::NsReader;
use quick_xml::events::Event;
use quick_xml::name::ResolveResult;

use super::{
    Encoding, Envelope, EnvelopeError, KEYS, MAX_DEPTH, MAX_NODES, Node, Shape, local, short,
};

const MALFORMED: EnvelopeError = EnvelopeError::Malformed(Encoding::Xml);
/// YANG modules' namespaces that carry their name.
const YANG: &str = "urn:ietf:params:xml:ns:yang:";

/// A part of a document.
enum Token {
    /// A start tag: qualified name, offset of its first byte.
    Open(String, usize),
    /// Character data.
    Text(String),
    /// An end tag: offset behind it.
    Close(usize),
    /// The end of the document.
    End,
}

struct Document<'a> {
    reader: NsReader<&'a [u8]>,
    depth: usize,
    nodes: usize,
    roots: usize,
}

impl<'a> Document<'a> {
    fn new(text: &'a str) -> Self {
        let mut reader = NsReader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        Self {
            reader,
            depth: 0,
            nodes: 0,
            roots: 0,
        }
    }

    fn position(&self) -> usize {
        usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX)
    }

    fn next(&mut self) -> Result<Token, EnvelopeError> {
        loop {
            let at = self.position();
            let (namespace, event) = self.reader.read_resolved_event().map_err(|_| MALFORMED)?;
            match event {
                Event::Start(tag) | Event::Empty(tag) => {
                    let name = tag.local_name();
                    let name: &str = name.as_ref();
                    let name = match namespace {
                        ResolveResult::Bound(namespace) => match namespace.0.strip_prefix(YANG) {
                            Some(module) => format!("{module}:{name}"),
                            None => name.to_owned(),
                        },
                        _ => name.to_owned(),
                    };
                    self.roots += usize::from(self.depth == 0);
                    self.depth += 1;
                    self.nodes += 1;
                    if self.depth > MAX_DEPTH || self.nodes > MAX_NODES {
                        return Err(EnvelopeError::Bound);
                    }
                    if self.roots > 1 {
                        return Err(MALFORMED);
                    }
                    return Ok(Token::Open(name, at));
                }
                Event::End(_) => {
                    self.depth = self.depth.saturating_sub(1);
                    return Ok(Token::Close(self.position()));
                }
                Event::Text(text) => return self.text(text.xml10_content().into_owned()),
                Event::CData(text) => return self.text(text.xml10_content().into_owned()),
                Event::GeneralRef(reference) => {
                    let character = match reference.resolve_char_ref() {
                        Ok(Some(character)) => character,
                        Ok(None) => match reference.into_inner().as_ref() {
                            "lt" => '<',
                            "gt" => '>',
                            "amp" => '&',
                            "quot" => '"',
                            "apos" => '\'',
                            _ => return Err(EnvelopeError::Forbidden),
                        },
                        Err(_) => return Err(MALFORMED),
                    };
                    return self.text(character.to_string());
                }
                Event::DocType(_) | Event::PI(_) => return Err(EnvelopeError::Forbidden),
                Event::Comment(_) | Event::Decl(_) => {}
                Event::Eof if self.depth > 0 || self.roots == 0 => return Err(MALFORMED),
                Event::Eof => return Ok(Token::End),
            }
        }
    }

    fn text(&self, text: String) -> Result<Token, EnvelopeError> {
        if self.depth == 0 && !text.trim().is_empty() {
            return Err(MALFORMED);
        }
        Ok(Token::Text(text))
    }
}

/// The envelope of a message.
pub(super) fn envelope(message: &[u8]) -> Result<Envelope, EnvelopeError> {
    let text = std::str::from_utf8(message).map_err(|_| MALFORMED)?;
    let mut document = Document::new(text.trim_start_matches('\u{feff}'));
    let skipped = text.len() - text.trim_start_matches('\u{feff}').len();
    // Names from the root to here.
    let mut way: Vec<String> = Vec::new();
    let mut value = String::new();
    let mut envelope: Option<Envelope> = None;
    // How many levels the notification lies under the root: one more within `contents`.
    let mut level = 2;
    loop {
        match document.next()? {
            Token::Open(name, at) => {
                way.push(name);
                value.clear();
                match &mut envelope {
                    None => {
                        let shape = match way.last().map(|name| local(name)) {
                            Some("notification") => Shape::Notification,
                            Some("envelope") => Shape::Envelope,
                            _ => {
                                // Well-formed all the same?
                                while !matches!(document.next()?, Token::End) {}
                                return Err(EnvelopeError::Unknown);
                            }
                        };
                        level = if shape == Shape::Envelope { 3 } else { 2 };
                        envelope = Some(Envelope::new(shape, Encoding::Xml));
                    }
                    Some(envelope) if way.len() == level => {
                        let name = way.last().map_or("", String::as_str);
                        let inside =
                            level == 2 || way.get(1).map(|name| local(name)) == Some("contents");
                        if inside && !is_header(local(name)) && envelope.notification.is_none() {
                            envelope.notification = Some(short(name));
                            envelope.contents = at + skipped..at + skipped;
                        }
                    }
                    Some(_) => {}
                }
            }
            Token::Text(text) => {
                if value.len() < super::MAX_TEXT {
                    value.push_str(&text);
                }
            }
            Token::Close(at) => {
                let depth = way.len();
                let name = way.pop().unwrap_or_default();
                let Some(envelope) = &mut envelope else {
                    continue;
                };
                if depth == 2 {
                    envelope.take(local(&name), value.trim());
                }
                if depth == level
                    && envelope.contents.is_empty()
                    && envelope.notification.as_deref() == Some(short(&name).as_str())
                {
                    envelope.contents.end = at + skipped;
                }
                if depth == level + 1
                    && matches!(local(&name), "id" | "subscription-id")
                    && envelope.contents.is_empty()
                    && envelope
                        .notification
                        .as_deref()
                        .is_some_and(|name| local(name).starts_with("push-"))
                {
                    envelope.subscription = Some(short(value.trim()));
                }
                value.clear();
            }
            Token::End => return envelope.ok_or(EnvelopeError::Unknown),
        }
    }
}

fn is_header(name: &str) -> bool {
    matches!(
        name,
        "eventTime" | "event-time" | "hostname" | "sysName" | "sequence-number" | "sequenceNumber"
    )
}

/// The notification's element as a tree.
pub(super) fn node(contents: &[u8]) -> Result<Node, EnvelopeError> {
    let text = std::str::from_utf8(contents).map_err(|_| MALFORMED)?;
    let mut document = Document::new(text);
    match document.next()? {
        Token::Open(..) => Ok(element(&mut document)?.inner()),
        _ => Err(MALFORMED),
    }
}

/// What an element holds.
enum Content {
    Leaf(String),
    Tree(Vec<(String, Content)>),
}

/// Reads an element behind its start tag. The depth is bounded by the document.
fn element(document: &mut Document<'_>) -> Result<Content, EnvelopeError> {
    let mut text = String::new();
    let mut children = Vec::new();
    loop {
        match document.next()? {
            Token::Open(name, _) => children.push((name, element(document)?)),
            Token::Text(more) => {
                if text.len() < super::MAX_TEXT {
                    text.push_str(&more);
                }
            }
            Token::Close(_) if children.is_empty() => return Ok(Content::Leaf(text)),
            Token::Close(_) => return Ok(Content::Tree(children)),
            Token::End => return Err(MALFORMED),
        }
    }
}

impl Content {
    /// As a child of another element: an entry of a list when it looks like one.
    fn node(self) -> Node {
        match self {
            Self::Tree(children) => {
                // Keys stand first (RFC 7950 §7.8.5).
                let is_entry = children.first().is_some_and(|(name, first)| {
                    KEYS.contains(&local(name)) && matches!(first, Self::Leaf(_))
                });
                let object = Self::Tree(children).inner();
                if is_entry {
                    Node::List(vec![object])
                } else {
                    object
                }
            }
            leaf => leaf.inner(),
        }
    }

    /// What it holds; siblings of one name become one list.
    fn inner(self) -> Node {
        let children = match self {
            Self::Leaf(text) => return Node::Text(text),
            Self::Tree(children) => children,
        };
        let mut members: Vec<(String, Node)> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for (name, child) in children {
            let child = child.node();
            let Some(&place) = places.get(&name) else {
                places.insert(name.clone(), members.len());
                members.push((name, child));
                continue;
            };
            let Some((_, known)) = members.get_mut(place) else {
                continue;
            };
            let mut entries = match std::mem::replace(known, Node::Other) {
                Node::List(entries) => entries,
                one => vec![one],
            };
            match child {
                Node::List(more) => entries.extend(more),
                one => entries.push(one),
            }
            *known = Node::List(entries);
        }
        Node::Object(members)
    }
}
