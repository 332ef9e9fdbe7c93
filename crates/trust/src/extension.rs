//! The extensions that are processed (RFC 5280 §4.2); of the others only whether one is critical.

use der::{
    Decode, Reader, SliceReader, Tag, TagNumber,
    asn1::{AnyRef, ObjectIdentifier, OctetStringRef},
};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, ExtendedKeyUsage, KeyUsage};

use crate::{
    dn::Dn,
    error::{Problem, Purpose},
};

const SUBJECT_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const NAME_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.30");
/// Without a demanded policy, policies alone never fail a path (RFC 5280 §6.1.1 (c), (e)); what could make them
/// matter (policyConstraints, inhibitAnyPolicy, policyMappings) is refused when critical.
const CERTIFICATE_POLICIES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.32");
const AUTHORITY_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");

const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

/// `basicConstraints` (RFC 5280 §4.2.1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BasicConstraints {
    pub(crate) ca: bool,
    pub(crate) path_len: Option<u64>,
}

/// A `GeneralName` (RFC 5280 §4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GeneralName<'a> {
    Email(&'a str),
    Dns(&'a str),
    Directory(Dn<'a>),
    Uri(&'a str),
    Ip(&'a [u8]),
    /// A form that is not compared: otherName \[0\], x400Address \[3\], ediPartyName \[5\], registeredID \[8\].
    Other(u32),
}

/// `nameConstraints` (RFC 5280 §4.2.1.10).
#[derive(Clone, Debug, Default)]
pub(crate) struct NameConstraints<'a> {
    pub(crate) permitted: Vec<GeneralName<'a>>,
    pub(crate) excluded: Vec<GeneralName<'a>>,
    /// A subtree with a minimum or maximum distance, which no profile uses and nothing here applies.
    pub(crate) has_distances: bool,
}

/// The extensions of one certificate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extensions<'a> {
    pub(crate) basic_constraints: Option<BasicConstraints>,
    pub(crate) key_usage: Option<KeyUsage>,
    pub(crate) extended_key_usage: Option<Vec<ObjectIdentifier>>,
    pub(crate) subject_alt_names: Vec<GeneralName<'a>>,
    pub(crate) name_constraints: Option<NameConstraints<'a>>,
    pub(crate) subject_key_id: Option<&'a [u8]>,
    pub(crate) authority_key_id: Option<Vec<u8>>,
    /// The first critical one that is not processed.
    pub(crate) unknown_critical: Option<ObjectIdentifier>,
}

impl<'a> Extensions<'a> {
    /// Reads `Extensions`, header included.
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, Problem> {
        let mut out = Self::default();
        let mut seen = Vec::new();
        for (oid, critical, value) in list(der).map_err(|_| Problem::Der { offset: 0 })? {
            if seen.contains(&oid) {
                return Err(Problem::DuplicateExtension(oid));
            }
            seen.push(oid);
            let known = out.take(oid, value).map_err(|_| Problem::Extension(oid))?;
            if critical && !known && out.unknown_critical.is_none() {
                out.unknown_critical = Some(oid);
            }
        }
        Ok(out)
    }

    /// Whether the extension is one that is processed.
    fn take(&mut self, oid: ObjectIdentifier, value: &'a [u8]) -> der::Result<bool> {
        match oid {
            BASIC_CONSTRAINTS => self.basic_constraints = Some(basic_constraints(value)?),
            KEY_USAGE => self.key_usage = Some(KeyUsage::from_der(value)?),
            EXTENDED_KEY_USAGE => {
                self.extended_key_usage = Some(ExtendedKeyUsage::from_der(value)?.0);
            }
            SUBJECT_ALT_NAME => self.subject_alt_names = general_names(value)?,
            NAME_CONSTRAINTS => self.name_constraints = Some(name_constraints(value)?),
            // Key identifiers only order the search, so one that cannot be read is as good as none.
            SUBJECT_KEY_ID => {
                self.subject_key_id = <&OctetStringRef>::from_der(value)
                    .ok()
                    .map(|id| id.as_bytes());
            }
            AUTHORITY_KEY_ID => {
                self.authority_key_id = AuthorityKeyIdentifier::from_der(value)
                    .ok()
                    .and_then(|id| id.key_identifier)
                    .map(|id| id.as_bytes().to_vec());
            }
            CERTIFICATE_POLICIES => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether the extended key usage, if there is one, allows the purpose.
    pub(crate) fn allows(&self, purpose: Purpose) -> bool {
        let wanted = match purpose {
            Purpose::ServerAuth => SERVER_AUTH,
            Purpose::ClientAuth => CLIENT_AUTH,
        };
        self.extended_key_usage
            .as_ref()
            .is_none_or(|list| list.contains(&wanted) || list.contains(&ANY_PURPOSE))
    }
}

type Entry<'a> = (ObjectIdentifier, bool, &'a [u8]);

fn list<'a>(der: &'a [u8]) -> der::Result<Vec<Entry<'a>>> {
    let mut reader = SliceReader::new(der)?;
    let mut out = Vec::new();
    reader.sequence(|r| {
        while !r.is_finished() {
            out.push(r.sequence(|r| {
                let oid = r.decode()?;
                let critical = Tag::peek(r)? == Tag::Boolean && r.decode()?;
                let value: &OctetStringRef = r.decode()?;
                Ok::<_, der::Error>((oid, critical, value.as_bytes()))
            })?);
        }
        Ok::<_, der::Error>(())
    })?;
    reader.finish()?;
    Ok(out)
}

fn basic_constraints(der: &[u8]) -> der::Result<BasicConstraints> {
    let mut reader = SliceReader::new(der)?;
    let out = reader.sequence(|r| {
        let ca = !r.is_finished() && Tag::peek(r)? == Tag::Boolean && r.decode()?;
        let path_len = if r.is_finished() {
            None
        } else {
            Some(r.decode()?)
        };
        Ok::<_, der::Error>(BasicConstraints { ca, path_len })
    })?;
    reader.finish()?;
    Ok(out)
}

fn general_names<'a>(der: &'a [u8]) -> der::Result<Vec<GeneralName<'a>>> {
    let mut reader = SliceReader::new(der)?;
    let mut out = Vec::new();
    reader.sequence(|r| {
        while !r.is_finished() {
            out.push(general_name(r)?);
        }
        Ok::<_, der::Error>(())
    })?;
    reader.finish()?;
    Ok(out)
}

fn general_name<'a>(r: &mut SliceReader<'a>) -> der::Result<GeneralName<'a>> {
    let any: AnyRef<'a> = r.decode()?;
    let tag = any.header().tag();
    let Tag::ContextSpecific {
        number: TagNumber(number),
        constructed,
    } = tag
    else {
        return Err(tag.value_error().into());
    };
    let bad = || der::Error::from(tag.value_error());
    // IA5String is ASCII; a byte beyond it must not reach a comparison.
    let text = |bytes: &'a [u8]| match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Ok(text),
        _ => Err(bad()),
    };
    Ok(match (number, constructed) {
        (1, false) => GeneralName::Email(text(any.value())?),
        (2, false) => GeneralName::Dns(text(any.value())?),
        (4, true) => GeneralName::Directory(Dn::parse(any.value())?),
        (6, false) => GeneralName::Uri(text(any.value())?),
        (7, false) => GeneralName::Ip(any.value()),
        (0 | 3 | 5, true) | (8, false) => GeneralName::Other(number),
        _ => return Err(bad()),
    })
}

fn name_constraints<'a>(der: &'a [u8]) -> der::Result<NameConstraints<'a>> {
    let mut reader = SliceReader::new(der)?;
    let mut out = NameConstraints::default();
    reader.sequence(|r| {
        let mut last = None;
        while !r.is_finished() {
            let any: AnyRef<'a> = r.decode()?;
            let tag = any.header().tag();
            let Tag::ContextSpecific {
                number: TagNumber(number @ 0..=1),
                constructed: true,
            } = tag
            else {
                return Err(tag.value_error().into());
            };
            if last.is_some_and(|last| last >= number) {
                return Err(tag.value_error().into());
            }
            last = Some(number);
            let mut subtrees = SliceReader::new(any.value())?;
            while !subtrees.is_finished() {
                let (base, plain) = subtrees.sequence(|r| {
                    let base = general_name(r)?;
                    let plain = r.is_finished();
                    while !r.is_finished() {
                        r.tlv_bytes()?;
                    }
                    Ok::<_, der::Error>((base, plain))
                })?;
                out.has_distances |= !plain;
                if number == 0 {
                    out.permitted.push(base)
                } else {
                    out.excluded.push(base)
                }
            }
        }
        Ok::<_, der::Error>(())
    })?;
    reader.finish()?;
    Ok(out)
}

/// Each reader of an extension's contents, for [`crate::fuzz`].
pub(crate) fn fuzz(data: &[u8]) {
    for oid in [
        BASIC_CONSTRAINTS,
        KEY_USAGE,
        EXTENDED_KEY_USAGE,
        SUBJECT_ALT_NAME,
        NAME_CONSTRAINTS,
        SUBJECT_KEY_ID,
        AUTHORITY_KEY_ID,
    ] {
        let _known = Extensions::default().take(oid, data);
    }
    let _extensions = Extensions::parse(data);
}
