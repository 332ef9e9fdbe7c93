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

/// The attributes that names of the field are made of, as RFC 4514 §3 writes them.
const KEYWORDS: [(ObjectIdentifier, &str); 6] = [
    (ObjectIdentifier::new_unwrap("2.5.4.3"), "CN"),
    (ObjectIdentifier::new_unwrap("2.5.4.6"), "C"),
    (ObjectIdentifier::new_unwrap("2.5.4.7"), "L"),
    (ObjectIdentifier::new_unwrap("2.5.4.8"), "ST"),
    (ObjectIdentifier::new_unwrap("2.5.4.10"), "O"),
    (ObjectIdentifier::new_unwrap("2.5.4.11"), "OU"),
];

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
        // The whole registry of attributes is searched otherwise, several times for every handshake.
        if let Some(text) = ordinary(self.der) {
            return f.write_str(&text);
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

/// RFC 4514 text of a name with one common attribute in each relative name and nothing to escape; `None` for others.
fn ordinary(der: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    let mut reader = SliceReader::new(der).ok()?;
    reader
        .sequence(|r| {
            while !r.is_finished() {
                let set: AnyRef<'_> = r.decode()?;
                set.header().tag().assert_eq(Tag::Set)?;
                parts.push(attribute(set.value())?);
            }
            Ok::<_, der::Error>(())
        })
        .ok()?;
    reader.finish().ok()?;
    let mut out = String::new();
    for (keyword, value) in parts.iter().rev() {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(keyword);
        out.push('=');
        out.push_str(value);
    }
    Some(out)
}

fn attribute(set: &[u8]) -> der::Result<(&'static str, &str)> {
    let mut reader = SliceReader::new(set)?;
    let part = reader.sequence(|r| {
        let oid: ObjectIdentifier = r.decode()?;
        let value: AnyRef<'_> = r.decode()?;
        let tag = value.header().tag();
        let other = || der::Error::from(tag.value_error());
        let (_, keyword) = KEYWORDS
            .iter()
            .find(|(known, _)| *known == oid)
            .ok_or_else(other)?;
        if !matches!(tag, Tag::Utf8String | Tag::PrintableString | Tag::Ia5String)
            || !plain(value.value())
        {
            return Err(other());
        }
        let text = std::str::from_utf8(value.value()).map_err(|_| other())?;
        Ok::<_, der::Error>((*keyword, text))
    })?;
    reader.finish()?;
    Ok(part)
}

/// Characters of every string type that need no escape.
fn plain(value: &[u8]) -> bool {
    let ends = [value.first(), value.last()];
    !ends.contains(&Some(&b' '))
        && value
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b" '()-./:=?".contains(byte))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// One relative name per attribute: OID's last arc, tag, value.
    fn name(attributes: &[(u8, u8, &[u8])]) -> Vec<u8> {
        let mut rdns = Vec::new();
        for (arc, tag, value) in attributes {
            let value_len = value.len() as u8;
            rdns.extend([
                0x31,
                value_len + 9,
                0x30,
                value_len + 7,
                6,
                3,
                0x55,
                4,
                *arc,
            ]);
            rdns.extend([*tag, value_len]);
            rdns.extend_from_slice(value);
        }
        let mut der = vec![0x30, rdns.len() as u8];
        der.extend(rdns);
        der
    }

    #[test]
    fn text_of_an_ordinary_name_is_what_the_general_way_writes() {
        const UTF8: u8 = 12;
        const PRINTABLE: u8 = 19;
        const IA5: u8 = 22;
        type Attributes = [(u8, u8, &'static [u8])];
        let cases: [(&Attributes, bool); 8] = [
            (&[(3, UTF8, b"os::00D09E-0001")], true),
            (
                &[
                    (6, PRINTABLE, b"DE"),
                    (8, UTF8, b"Hessen (HE)"),
                    (7, UTF8, b"Frankfurt a.M."),
                    (10, IA5, b"Homes/Fleet"),
                    (11, UTF8, b"it's = ?"),
                    (3, UTF8, b"CA 1"),
                ],
                true,
            ),
            (&[(3, UTF8, b"a,b")], false),
            (&[(3, UTF8, b" a")], false),
            (&[(3, UTF8, b"a ")], false),
            (&[(3, UTF8, b"#a")], false),
            (&[(3, UTF8, "\u{e9}".as_bytes())], false),
            (&[(5, PRINTABLE, b"1234")], false),
        ];
        for (attributes, fast) in cases {
            let der = name(attributes);
            let general = Name::from_der(&der).map(|name| name.to_string());
            assert_eq!(ordinary(&der).is_some(), fast, "{attributes:?}");
            assert_eq!(Dn::parse(&der).map(|dn| dn.to_string()), general);
        }
    }
}
