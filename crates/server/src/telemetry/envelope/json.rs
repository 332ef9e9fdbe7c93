//! Envelopes in JSON (RFC 7951): members are found by name, their values are stepped over unread.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Encoding, Envelope, EnvelopeError, MAX_MEMBERS, MAX_NODES, Node, Shape, local, short};

const MALFORMED: EnvelopeError = EnvelopeError::Malformed(Encoding::Json);

/// Members of an object, their values unread.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Deserialize<'a> for Members<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'a> Visitor<'a> for Visit {
            type Value = Members<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if members.len() >= MAX_MEMBERS {
                        return Err(A::Error::custom(TOO_MANY));
                    }
                    members.push((name, map.next_value::<&RawValue>()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

/// Marks an error of ours among those of the parser.
const TOO_MANY: &str = "more parts than are followed";

fn members(text: &str) -> Result<Members<'_>, EnvelopeError> {
    serde_json::from_str(text).map_err(|error| judge(&error))
}

fn judge(error: &serde_json::Error) -> EnvelopeError {
    let text = error.to_string();
    if text.starts_with(TOO_MANY) || text.starts_with("recursion limit") {
        EnvelopeError::Bound
    } else {
        MALFORMED
    }
}

/// The envelope of a message.
pub(super) fn envelope(message: &[u8]) -> Result<Envelope, EnvelopeError> {
    let text = std::str::from_utf8(message).map_err(|_| MALFORMED)?;
    let root = match members(text) {
        Ok(root) => root,
        // Any other JSON value is well-formed.
        Err(error) => {
            return Err(match serde_json::from_str::<&RawValue>(text) {
                Ok(raw) if !raw.get().starts_with('{') => EnvelopeError::Unknown,
                _ => error,
            });
        }
    };
    for (name, value) in &root.0 {
        let shape = match name.as_str() {
            "ietf-yp-notification:envelope" => Shape::Envelope,
            "ietf-notification:notification" | "ietf-restconf:notification" | "notification" => {
                Shape::Notification
            }
            _ => continue,
        };
        let mut envelope = Envelope::new(shape, Encoding::Json);
        if !value.get().starts_with('{') {
            return Err(EnvelopeError::Unknown);
        }
        for (name, value) in members(value.get())?.0 {
            if envelope.take(local(&name), unquoted(value.get()).as_ref()) {
                continue;
            }
            if shape == Shape::Envelope && local(&name) == "contents" {
                // It holds the notification as its only member of interest.
                if value.get().starts_with('{')
                    && let Some((name, value)) = members(value.get())?.0.into_iter().next()
                {
                    notification(&mut envelope, text, &name, value)?;
                }
            } else if shape == Shape::Notification && value.get().starts_with('{') {
                notification(&mut envelope, text, &name, value)?;
            }
        }
        return Ok(envelope);
    }
    Err(EnvelopeError::Unknown)
}

fn notification(
    envelope: &mut Envelope,
    text: &str,
    name: &str,
    value: &RawValue,
) -> Result<(), EnvelopeError> {
    envelope.notification = Some(short(name));
    // A raw value is a part of the text that it was read from.
    let start = (value.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    envelope.contents = start..start + value.get().len();
    if matches!(local(name), "push-update" | "push-change-update") {
        for (name, value) in members(value.get())?.0 {
            if matches!(local(&name), "id" | "subscription-id") {
                envelope.subscription = Some(short(unquoted(value.get()).as_ref()));
            }
        }
    }
    Ok(())
}

/// A text without its quotes, anything else as it stands.
fn unquoted(raw: &str) -> std::borrow::Cow<'_, str> {
    if raw.starts_with('"') {
        serde_json::from_str::<String>(raw)
            .unwrap_or_default()
            .into()
    } else {
        raw.into()
    }
}

/// The data as a tree.
pub(super) fn node(contents: &[u8]) -> Result<Node, EnvelopeError> {
    // The parser stops at 128 levels by itself; what is deeper than we follow is left out when leaves are collected.
    let node: Node = serde_json::from_slice(contents).map_err(|error| judge(&error))?;
    Ok(node)
}

impl<'a> Deserialize<'a> for Node {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'a> Visitor<'a> for Visit {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Other)
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Other)
            }

            #[allow(clippy::cast_precision_loss)]
            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Number(value as f64))
            }

            #[allow(clippy::cast_precision_loss)]
            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Number(value as f64))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Number(value))
            }

            fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Text(short(text)))
            }

            fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    if entries.len() >= MAX_NODES {
                        return Err(A::Error::custom(TOO_MANY));
                    }
                    entries.push(entry);
                }
                Ok(Node::List(entries))
            }

            fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    if members.len() >= MAX_NODES {
                        return Err(A::Error::custom(TOO_MANY));
                    }
                    members.push(member);
                }
                Ok(Node::Object(members))
            }
        }
        deserializer.deserialize_any(Visit)
    }
}
