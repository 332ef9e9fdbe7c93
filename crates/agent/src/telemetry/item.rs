//! Data as YANG has it, and the three ways to write it: JSON (RFC 7951), CBOR with names (RFC 9254), XML (RFC 7950).

use std::borrow::Cow;

/// Modules that names come from, with their XML namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Module {
    /// `ietf-notification`, which in XML is the notification of RFC 5277 itself.
    Notification,
    /// `ietf-subscribed-notifications` (RFC 8639).
    Subscribed,
    /// `homefleet-tr181`: TR-181 as the data model of a device has it.
    Tr181,
    /// `ietf-yang-push` (RFC 8641).
    YangPush,
    /// `ietf-yp-notification` (draft-ietf-netconf-notif-envelope).
    YpNotification,
}

impl Module {
    fn name(self) -> &'static str {
        match self {
            Self::Notification => "ietf-notification",
            Self::Subscribed => "ietf-subscribed-notifications",
            Self::Tr181 => "homefleet-tr181",
            Self::YangPush => "ietf-yang-push",
            Self::YpNotification => "ietf-yp-notification",
        }
    }

    fn namespace(self) -> &'static str {
        match self {
            Self::Notification => "urn:ietf:params:xml:ns:netconf:notification:1.0",
            Self::Subscribed => "urn:ietf:params:xml:ns:yang:ietf-subscribed-notifications",
            Self::Tr181 => "urn:homefleet:yang:homefleet-tr181",
            Self::YangPush => "urn:ietf:params:xml:ns:yang:ietf-yang-push",
            Self::YpNotification => "urn:ietf:params:xml:ns:yang:ietf-yp-notification",
        }
    }
}

/// A name; its module where that is another one than its parent's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) module: Option<Module>,
    pub(crate) local: Cow<'static, str>,
}

/// A name of its parent's module.
pub(crate) fn local(name: impl Into<Cow<'static, str>>) -> Name {
    Name {
        module: None,
        local: name.into(),
    }
}

/// A name of this module.
pub(crate) fn of(module: Module, name: impl Into<Cow<'static, str>>) -> Name {
    Name {
        module: Some(module),
        local: name.into(),
    }
}

/// Data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Bool(bool),
    /// At most 32 bits: a number in JSON, too.
    Int(i64),
    /// 64 bits: a string in JSON (RFC 7951 §6.1).
    Long(i64),
    Object(Vec<(Name, Item)>),
    List(Vec<Item>),
    Text(Cow<'static, str>),
    UnsignedLong(u64),
}

impl Item {
    pub(crate) fn text(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Text(text.into())
    }
}

/// `{"module:name": …}`.
pub(crate) fn json(root: &Name, item: &Item) -> Vec<u8> {
    let mut out = String::from("{");
    json_name(root, &mut out);
    json_item(item, &mut out);
    out.push('}');
    out.into_bytes()
}

fn json_item(item: &Item, out: &mut String) {
    match item {
        Item::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Item::Int(value) => out.push_str(&value.to_string()),
        Item::Long(value) => json_text(&value.to_string(), out),
        Item::UnsignedLong(value) => json_text(&value.to_string(), out),
        Item::Text(text) => json_text(text, out),
        Item::Object(members) => {
            out.push('{');
            for (number, (name, item)) in members.iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                json_name(name, out);
                json_item(item, out);
            }
            out.push('}');
        }
        Item::List(entries) => {
            out.push('[');
            for (number, item) in entries.iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                json_item(item, out);
            }
            out.push(']');
        }
    }
}

fn json_name(name: &Name, out: &mut String) {
    match name.module {
        Some(module) => json_text(&format!("{}:{}", module.name(), name.local), out),
        None => json_text(&name.local, out),
    }
    out.push(':');
}

fn json_text(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A map of one member, with names as keys (RFC 9254 §3.3).
pub(crate) fn cbor(root: &Name, item: &Item) -> Vec<u8> {
    let mut out = Vec::new();
    cbor_head(5, 1, &mut out);
    cbor_name(root, &mut out);
    cbor_item(item, &mut out);
    out
}

fn cbor_item(item: &Item, out: &mut Vec<u8>) {
    match item {
        Item::Bool(value) => out.push(if *value { 0xf5 } else { 0xf4 }),
        Item::Int(value) | Item::Long(value) => match u64::try_from(*value) {
            Ok(value) => cbor_head(0, value, out),
            Err(_) => cbor_head(1, value.unsigned_abs() - 1, out),
        },
        Item::UnsignedLong(value) => cbor_head(0, *value, out),
        Item::Text(text) => cbor_text(text, out),
        Item::Object(members) => {
            cbor_head(5, members.len() as u64, out);
            for (name, item) in members {
                cbor_name(name, out);
                cbor_item(item, out);
            }
        }
        Item::List(entries) => {
            cbor_head(4, entries.len() as u64, out);
            for item in entries {
                cbor_item(item, out);
            }
        }
    }
}

fn cbor_name(name: &Name, out: &mut Vec<u8>) {
    match name.module {
        Some(module) => cbor_text(&format!("{}:{}", module.name(), name.local), out),
        None => cbor_text(&name.local, out),
    }
}

fn cbor_text(text: &str, out: &mut Vec<u8>) {
    cbor_head(3, text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn cbor_head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    let bytes = argument.to_be_bytes();
    match argument {
        0..=23 => out.push(major | bytes[7]),
        24..=0xff => out.extend_from_slice(&[major | 24, bytes[7]]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&bytes[4..]);
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&bytes);
        }
    }
}

/// One element.
pub(crate) fn xml(root: &Name, item: &Item) -> Vec<u8> {
    let mut out = String::new();
    xml_item(root, item, &mut out);
    out.into_bytes()
}

fn xml_item(name: &Name, item: &Item, out: &mut String) {
    if let Item::List(entries) = item {
        for entry in entries {
            xml_item(name, entry, out);
        }
        return;
    }
    out.push('<');
    out.push_str(&name.local);
    if let Some(module) = name.module {
        out.push_str(" xmlns=\"");
        out.push_str(module.namespace());
        out.push('"');
    }
    out.push('>');
    match item {
        Item::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Item::Int(value) | Item::Long(value) => out.push_str(&value.to_string()),
        Item::UnsignedLong(value) => out.push_str(&value.to_string()),
        Item::Text(text) => xml_text(text, out),
        Item::Object(members) => {
            for (name, item) in members {
                xml_item(name, item, out);
            }
        }
        Item::List(_) => {}
    }
    out.push_str("</");
    out.push_str(&name.local);
    out.push('>');
}

fn xml_text(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // What XML 1.0 has no way to write.
            c if c < ' ' && !matches!(c, '\t' | '\n' | '\r') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Name, Item) {
        let item = Item::Object(vec![
            (local("event-time"), Item::text("t")),
            (
                of(Module::Tr181, "Device"),
                Item::Object(vec![(
                    local("Interface"),
                    Item::List(vec![
                        Item::Object(vec![
                            (local("index"), Item::Int(1)),
                            (local("Bytes"), Item::UnsignedLong(u64::MAX)),
                            (local("Up"), Item::Bool(true)),
                        ]),
                        Item::Object(vec![
                            (local("index"), Item::Int(2)),
                            (local("Loss"), Item::Long(-300)),
                            (local("Name"), Item::text("a\"<&\n\u{1}")),
                        ]),
                    ]),
                )]),
            ),
        ]);
        (of(Module::YpNotification, "envelope"), item)
    }

    #[test]
    fn json_names_modules_where_they_change_and_writes_64_bits_as_text() {
        let (name, item) = sample();
        assert_eq!(
            String::from_utf8_lossy(&json(&name, &item)),
            r#"{"ietf-yp-notification:envelope":{"event-time":"t","homefleet-tr181:Device":{"Interface":["#.to_owned()
                + r#"{"index":1,"Bytes":"18446744073709551615","Up":true},"#
                + r#"{"index":2,"Loss":"-300","Name":"a\"<&\n\u0001"}]}}}"#
        );
    }

    #[test]
    fn xml_has_a_namespace_where_the_module_changes_and_an_element_for_each_entry() {
        let (name, item) = sample();
        assert_eq!(
            String::from_utf8_lossy(&xml(&name, &item)),
            "<envelope xmlns=\"urn:ietf:params:xml:ns:yang:ietf-yp-notification\"><event-time>t</event-time>\
             <Device xmlns=\"urn:homefleet:yang:homefleet-tr181\">\
             <Interface><index>1</index><Bytes>18446744073709551615</Bytes><Up>true</Up></Interface>\
             <Interface><index>2</index><Loss>-300</Loss><Name>a\"&lt;&amp;\n\u{fffd}</Name></Interface>\
             </Device></envelope>"
        );
    }

    #[test]
    fn cbor_has_the_shortest_heads_and_names_as_keys() {
        let (name, item) = sample();
        let bytes = cbor(&name, &item);
        assert_eq!(bytes[..3], [0xa1, 0x78, 29]);
        assert_eq!(&bytes[3..32], b"ietf-yp-notification:envelope");
        let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        assert!(has(b"\x65index\x01"));
        assert!(has(
            b"\x65Bytes\x1b\xff\xff\xff\xff\xff\xff\xff\xff\x62Up\xf5"
        ));
        assert!(has(b"\x64Loss\x39\x01\x2b"), "-300 is -1 - 299");
        let mut head = Vec::new();
        for argument in [23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX) + 1] {
            head.clear();
            cbor_head(0, argument, &mut head);
            let longer = [1, 2, 2, 3, 3, 5, 9];
            let at = [23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX) + 1];
            let at = at.iter().position(|known| *known == argument);
            assert_eq!(Some(head.len()), at.map(|at| longer[at]));
        }
    }
}
