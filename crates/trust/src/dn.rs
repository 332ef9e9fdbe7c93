//! Distinguished names and their comparison (RFC 5280 §7.1).
//!
//! Strings of the types UTF8String, PrintableString, IA5String and BMPString compare as text: white space trimmed and
//! collapsed, letter case ignored. Everything else compares as bytes with its type. This is what issuers of the field
//! rely on; the full string preparation of RFC 4518 is not done.

use std::fmt;

use der::{
    Decode, Reader, SliceReader, Tag,
    asn1::{AnyRef, ObjectIdentifier},
};
use x509_cert::name::Name;

/// pkcs-9 emailAddress, which name constraints on mail addresses apply to (RFC 5280 §4.2.1.10).
const EMAIL_ADDRESS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.1");

/// A distinguished name: the DER, and its relative names in comparable form.
#[derive(Clone, Debug)]
pub(crate) struct Dn<'a> {
    der: &'a [u8],
    rdns: Vec<Vec<u8>>,
    emails: Vec<String>,
}

impl PartialEq for Dn<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rdns == other.rdns
    }
}

impl Eq for Dn<'_> {}

impl<'a> Dn<'a> {
    /// Reads a `Name`, header included.
    pub(crate) fn parse(der: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let mut rdns = Vec::new();
        let mut emails = Vec::new();
        reader.sequence(|r| {
            while !r.is_finished() {
                let set: AnyRef<'a> = r.decode()?;
                set.header().tag().assert_eq(Tag::Set)?;
                rdns.push(rdn(set.value(), &mut emails)?);
            }
            Ok::<_, der::Error>(())
        })?;
        reader.finish()?;
        Ok(Self { der, rdns, emails })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rdns.is_empty()
    }

    /// Whether this name lies in the subtree below `base` (itself included).
    pub(crate) fn is_within(&self, base: &Self) -> bool {
        self.rdns.starts_with(&base.rdns)
    }

    /// The comparable form as one key, equal exactly when the names are equal.
    pub(crate) fn key(&self) -> Vec<u8> {
        let mut key = Vec::new();
        for rdn in &self.rdns {
            push(&mut key, rdn);
        }
        key
    }

    /// As received, header included.
    pub(crate) fn der(&self) -> &'a [u8] {
        self.der
    }

    /// The mail addresses in it.
    pub(crate) fn emails(&self) -> &[String] {
        &self.emails
    }
}

impl fmt::Display for Dn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("(no subject)");
        }
        match Name::from_der(self.der) {
            Ok(name) => write!(f, "{name}"),
            Err(_) => {
                f.write_str("#")?;
                self.der.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

fn rdn(content: &[u8], emails: &mut Vec<String>) -> der::Result<Vec<u8>> {
    let mut reader = SliceReader::new(content)?;
    let mut attributes = Vec::new();
    while !reader.is_finished() {
        let attribute = reader.sequence(|r| {
            let oid: ObjectIdentifier = r.decode()?;
            let tlv = r.tlv_bytes()?;
            let value = AnyRef::from_der(tlv)?;
            if !r.is_finished() {
                return Err(Tag::Sequence.value_error().into());
            }
            if oid == EMAIL_ADDRESS
                && let Some(text) = text(value)
            {
                emails.push(text);
            }
            let mut out = Vec::new();
            push(&mut out, oid.as_bytes());
            match text(value) {
                Some(text) => {
                    out.push(0);
                    push(&mut out, fold(&text).as_bytes());
                }
                None => {
                    out.push(1);
                    push(&mut out, tlv);
                }
            }
            Ok::<_, der::Error>(out)
        })?;
        attributes.push(attribute);
    }
    // A SET has no order of its own.
    attributes.sort();
    let mut out = Vec::new();
    for attribute in attributes {
        push(&mut out, &attribute);
    }
    Ok(out)
}

/// Length-prefixed, so that neighbours cannot run into each other.
fn push(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&(part.len() as u64).to_be_bytes());
    out.extend_from_slice(part);
}

fn text(value: AnyRef<'_>) -> Option<String> {
    let bytes = value.value();
    match value.header().tag() {
        Tag::Utf8String => String::from_utf8(bytes.to_vec()).ok(),
        Tag::PrintableString | Tag::Ia5String | Tag::TeletexString if bytes.is_ascii() => {
            String::from_utf8(bytes.to_vec()).ok()
        }
        Tag::BmpString if bytes.len().is_multiple_of(2) => {
            let units = bytes
                .chunks_exact(2)
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units)
                .collect::<Result<String, _>>()
                .ok()
        }
        _ => None,
    }
}

fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.chars().flat_map(char::to_lowercase));
    }
    out
}
