//! Whole envelopes.

use std::borrow::Cow;

use quick_xml::events::BytesStart;

use super::{Header, Limits, Reader, Writer};
use crate::{DecodeError, Malformed, Message, Namespace};

const SOAP_1_1: &str = "http://schemas.xmlsoap.org/soap/envelope/";
const SOAP_1_2: &str = "http://www.w3.org/2003/05/soap-envelope";

/// A message with its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The namespace of the message. Received: `None` when the sender declared none that we know.
    pub namespace: Option<Namespace>,
    /// The SOAP Header.
    pub header: Header,
    /// The only message of the SOAP Body: MaxEnvelopes is always 1 (TR-069 §3.7.2.1).
    pub message: Message,
}

/// How an envelope is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Begin with an XML declaration. Off: some devices reject a message that begins with one.
    pub declaration: bool,
}

impl Envelope {
    /// A message in a namespace.
    pub fn new(namespace: Namespace, header: Header, message: impl Into<Message>) -> Self {
        Self {
            namespace: Some(namespace),
            header,
            message: message.into(),
        }
    }

    /// The bytes, in the namespace or else in cwmp-1-0. Prefixes are those of the TR-069 text: some devices know no others.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_with(&EncodeOptions::default())
    }

    /// The same, otherwise.
    pub fn encode_with(&self, options: &EncodeOptions) -> Vec<u8> {
        let mut writer = Writer::new();
        if options.declaration {
            writer.raw("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        }
        writer.raw("<SOAP-ENV:Envelope xmlns:SOAP-ENV=\"");
        writer.raw(SOAP_1_1);
        writer.raw("\" xmlns:SOAP-ENC=\"http://schemas.xmlsoap.org/soap/encoding/\"");
        writer.raw(" xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\"");
        writer.raw(" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns:cwmp=\"");
        writer.raw(self.namespace.unwrap_or(Namespace::V1_0).urn());
        writer.raw("\">");
        if self.header != Header::default() {
            self.header.write(&mut writer);
        }
        writer.open("SOAP-ENV:Body");
        self.message.write(&mut writer);
        writer.close("SOAP-ENV:Body");
        writer.close("SOAP-ENV:Envelope");
        writer.finish()
    }

    /// Reads bytes.
    ///
    /// # Errors
    /// What is wrong, with the headers as far as they were read.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, Malformed> {
        Self::read(bytes, limits, true)
    }

    /// The same without shortcuts, to compare with.
    pub(crate) fn decode_slowly(bytes: &[u8], limits: &Limits) -> Result<Self, Malformed> {
        Self::read(bytes, limits, false)
    }

    fn read(bytes: &[u8], limits: &Limits, shortcuts: bool) -> Result<Self, Malformed> {
        let mut parts = Parts::default();
        match parts.read(bytes, limits, shortcuts) {
            Ok(message) => Ok(Self {
                namespace: parts.namespace,
                header: parts.header,
                message,
            }),
            Err(error) => Err(Malformed {
                error,
                header: Box::new(parts.header),
                namespace: parts.namespace,
            }),
        }
    }
}

/// What is known so far.
#[derive(Default)]
struct Parts {
    namespace: Option<Namespace>,
    header: Header,
}

impl Parts {
    fn read(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        shortcuts: bool,
    ) -> Result<Message, DecodeError> {
        if bytes.len() > limits.bytes {
            return Err(DecodeError::TooLarge {
                bytes: bytes.len(),
                limit: limits.bytes,
            });
        }
        let text = text(bytes)?;
        let mut reader = Reader::new(&text, limits, shortcuts);
        let root = reader.child()?.ok_or(DecodeError::Soap {
            what: "nothing at all",
        })?;
        if root.local_name().as_ref() != "Envelope" {
            return Err(DecodeError::Soap {
                what: "another root element",
            });
        }
        let mut declared = Vec::new();
        reader.declared(&root, &mut declared)?;
        if resolve(&root, &declared) == Some(SOAP_1_2) {
            return Err(DecodeError::SoapVersion);
        }
        self.namespace = namespace(&declared);
        let outside = declared.len();
        let mut message = None;
        while let Some(part) = reader.child()? {
            reader.declared(&part, &mut declared)?;
            self.namespace = namespace(&declared).or(self.namespace);
            match part.local_name().as_ref() {
                "Header" => self.header.read(&mut reader)?,
                "Body" if message.is_none() => {
                    message = self.read_body(&mut reader, &mut declared)?;
                }
                _ => reader.skip()?,
            }
            declared.truncate(outside);
        }
        reader.finish()?;
        message.ok_or(DecodeError::Soap {
            what: "an envelope without a message",
        })
    }

    fn read_body(
        &mut self,
        reader: &mut Reader<'_>,
        declared: &mut Vec<(String, String)>,
    ) -> Result<Option<Message>, DecodeError> {
        let mut message = None;
        while let Some(child) = reader.child()? {
            if message.is_some() {
                reader.skip()?;
                continue;
            }
            reader.declared(&child, declared)?;
            // The namespace of the element itself, or of whatever declares one of ours: some devices forget the prefix.
            let own = resolve(&child, declared).and_then(Namespace::from_urn);
            self.namespace = own.or_else(|| namespace(declared)).or(self.namespace);
            message = Some(Message::read(child.local_name().as_ref(), reader)?);
        }
        Ok(message)
    }
}

/// The URI of an element's prefix.
fn resolve<'d>(element: &BytesStart<'_>, declared: &'d [(String, String)]) -> Option<&'d str> {
    let name = element.name();
    let prefix = name.prefix();
    let prefix = prefix.as_ref().map_or("", |prefix| prefix.as_ref());
    let mut newest = declared.iter().rev();
    let (_, uri) = newest.find(|(own, _)| own == prefix)?;
    Some(uri.trim())
}

/// The newest declaration of a namespace of ours.
fn namespace(declared: &[(String, String)]) -> Option<Namespace> {
    declared
        .iter()
        .rev()
        .find_map(|(_, uri)| Namespace::from_urn(uri))
}

/// The text of an envelope: UTF-8 with a byte order mark or without, or ISO-8859-1 where it says so.
fn text(bytes: &[u8]) -> Result<Cow<'_, str>, DecodeError> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Cow::Borrowed(text)),
        Err(_) if says_latin_1(bytes) => {
            Ok(Cow::Owned(bytes.iter().copied().map(char::from).collect()))
        }
        Err(error) => Err(DecodeError::Encoding {
            offset: error.valid_up_to(),
        }),
    }
}

fn says_latin_1(bytes: &[u8]) -> bool {
    let head = bytes.get(..bytes.len().min(200)).unwrap_or_default();
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let declaration = head.trim_start().split("?>").next().unwrap_or_default();
    declaration.starts_with("<?xml") && declaration.contains("iso-8859-1")
}
