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
const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.31");
const AUTHORITY_INFO_ACCESS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.1");
/// Nothing to process: whether a responder's own certificate is revoked is not looked at (RFC 6960 §4.2.2.2.1).
const OCSP_NO_CHECK: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.5");
const ACCESS_OCSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");
const AUTHORITY_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");

const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
const OCSP_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.9");
const CMC_RA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.28");
const CM_KGA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.32");

/// Addresses of one kind that are read from one certificate.
const MAX_URLS: usize = 4;
const MAX_URL_BYTES: usize = 1024;

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
    /// Where complete CRLs of its issuer are (RFC 5280 §4.2.1.13): `http` URLs of points for all reasons.
    pub(crate) crl_urls: Vec<&'a str>,
    /// What a CRL that is for some distribution points may call those of the former, whatever the kind of URL.
    pub(crate) crl_points: Vec<&'a str>,
    /// Where its issuer's OCSP responders are (RFC 5280 §4.2.2.1): `http` URLs.
    pub(crate) ocsp_urls: Vec<&'a str>,
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
            // Addresses that cannot be read are as good as none; a critical extension has to be understood.
            CRL_DISTRIBUTION_POINTS => match crl_urls(value) {
                Ok(urls) => {
                    self.crl_urls = http(&urls);
                    self.crl_points = urls;
                }
                Err(_) => return Ok(false),
            },
            AUTHORITY_INFO_ACCESS => match ocsp_urls(value) {
                Ok(urls) => self.ocsp_urls = urls,
                Err(_) => return Ok(false),
            },
            CERTIFICATE_POLICIES | OCSP_NO_CHECK => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether the extended key usage, if there is one, allows the purpose.
    pub(crate) fn allows(&self, purpose: Purpose) -> bool {
        let allowed = |wanted| {
            let list = self.extended_key_usage.as_ref();
            list.is_none_or(|list| list.contains(&wanted) || list.contains(&ANY_PURPOSE))
        };
        let named = |wanted| {
            let list = self.extended_key_usage.as_ref();
            list.is_some_and(|list| list.contains(&wanted))
        };
        match purpose {
            Purpose::ServerAuth => allowed(SERVER_AUTH),
            Purpose::ClientAuth => allowed(CLIENT_AUTH),
            Purpose::Messages => true,
            Purpose::RegistrationAuthority => named(CMC_RA),
            Purpose::KeyGeneration => {
                named(CM_KGA) || self.basic_constraints.is_some_and(|known| known.ca)
            }
        }
    }
}

impl Extensions<'_> {
    /// Whether its issuer authorises it to answer OCSP requests (RFC 6960 §4.2.2.2); "any" does not.
    pub(crate) fn allows_ocsp_signing(&self) -> bool {
        self.extended_key_usage
            .as_ref()
            .is_some_and(|list| list.contains(&OCSP_SIGNING))
    }
}

/// The identifier, whether it is critical, the contents.
pub(crate) type Entry<'a> = (ObjectIdentifier, bool, &'a [u8]);

/// Reads `Extensions`, header included, entry by entry.
pub(crate) fn list<'a>(der: &'a [u8]) -> der::Result<Vec<Entry<'a>>> {
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
    let any = AnyRef::from_der(der)?;
    any.header().tag().assert_eq(Tag::Sequence)?;
    names(any.value())
}

/// The contents of `GeneralNames`.
fn names<'a>(content: &'a [u8]) -> der::Result<Vec<GeneralName<'a>>> {
    let mut reader = SliceReader::new(content)?;
    let mut out = Vec::new();
    while !reader.is_finished() {
        out.push(general_name(&mut reader)?);
    }
    Ok(out)
}

/// The URLs of a `DistributionPointName`, given its contents: `fullName [0]`, or `nameRelativeToCRLIssuer [1]`, which has none.
pub(crate) fn point_urls(content: &[u8]) -> der::Result<Vec<&str>> {
    let any = AnyRef::from_der(content)?;
    match any.header().tag() {
        Tag::ContextSpecific {
            constructed: true,
            number: TagNumber(0),
        } => Ok(names(any.value())?
            .into_iter()
            .filter_map(|name| match name {
                GeneralName::Uri(uri) => Some(uri),
                _ => None,
            })
            .collect()),
        Tag::ContextSpecific {
            constructed: true,
            number: TagNumber(1),
        } => Ok(Vec::new()),
        tag => Err(tag.value_error().into()),
    }
}

/// Of `CRLDistributionPoints`, the URLs of those for all reasons whose list the certificate's issuer itself keeps.
fn crl_urls<'a>(der: &'a [u8]) -> der::Result<Vec<&'a str>> {
    let mut reader = SliceReader::new(der)?;
    let mut out = Vec::new();
    reader.sequence(|r| {
        while !r.is_finished() {
            let (urls, plain) = r.sequence(|r| {
                let (mut urls, mut plain) = (Vec::new(), true);
                while !r.is_finished() {
                    let field: AnyRef<'a> = r.decode()?;
                    match field.header().tag() {
                        Tag::ContextSpecific {
                            number: TagNumber(0),
                            ..
                        } => urls = point_urls(field.value())?,
                        Tag::ContextSpecific { .. } => plain = false,
                        tag => return Err(tag.value_error().into()),
                    }
                }
                Ok::<_, der::Error>((urls, plain))
            })?;
            if plain {
                out.extend(urls);
            }
        }
        Ok::<_, der::Error>(())
    })?;
    reader.finish()?;
    Ok(out)
}

fn ocsp_urls(der: &[u8]) -> der::Result<Vec<&str>> {
    let mut reader = SliceReader::new(der)?;
    let mut out = Vec::new();
    reader.sequence(|r| {
        while !r.is_finished() {
            let (method, location) = r.sequence(|r| {
                let method: ObjectIdentifier = r.decode()?;
                Ok::<_, der::Error>((method, general_name(r)?))
            })?;
            if let (ACCESS_OCSP, GeneralName::Uri(url)) = (method, location) {
                out.push(url);
            }
        }
        Ok::<_, der::Error>(())
    })?;
    reader.finish()?;
    Ok(http(&out))
}

/// Those that are plain HTTP, once each. HTTPS would need a decision about a certificate to come to one (RFC 5280 §8).
fn http<'a>(urls: &[&'a str]) -> Vec<&'a str> {
    let mut out: Vec<&str> = Vec::new();
    for &url in urls {
        let rest = match url.split_at_checked(7) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http://") => rest,
            _ => continue,
        };
        let plain = url.len() <= MAX_URL_BYTES && url.bytes().all(|b| b.is_ascii_graphic());
        if plain && !rest.is_empty() && !rest.starts_with('/') && !out.contains(&url) {
            out.push(url);
        }
    }
    out.truncate(MAX_URLS);
    out
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
        CRL_DISTRIBUTION_POINTS,
        AUTHORITY_INFO_ACCESS,
    ] {
        let _known = Extensions::default().take(oid, data);
    }
    let _extensions = Extensions::parse(data);
}
