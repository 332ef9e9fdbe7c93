//! Certificate revocation lists (RFC 5280 §5): complete ones, of the certificates' own issuer.

use std::time::SystemTime;

use der::{
    Decode, Reader, SliceReader, Tag, TagNumber,
    asn1::{AnyRef, IntRef, ObjectIdentifier},
};
use x509_cert::time::Time as Date;

use super::EvidenceError;
use crate::{
    certificate::{Algorithm, Certificate, Outer, PublicKey},
    dn::Dn,
    error::RevocationReason,
    extension::{list, point_urls},
    signature::{self, SignatureProblem},
};

const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
const REASON_CODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");
const INVALIDITY_DATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.24");
const DELTA_CRL_INDICATOR: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.27");
const ISSUING_DISTRIBUTION_POINT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.28");
const CERTIFICATE_ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.29");
const AUTHORITY_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");

/// A CRL as received; its signature is not verified yet.
pub(super) struct SignedCrl<'a> {
    outer: Outer<'a>,
    pub(super) issuer: Dn<'a>,
    pub(super) list: List,
}

/// What a CRL says, without its signature and issuer.
#[derive(Debug)]
pub(super) struct List {
    pub(super) this_update: SystemTime,
    pub(super) next_update: Option<SystemTime>,
    pub(super) scope: Scope,
    revoked: Serials,
}

/// Which certificates of its issuer a CRL covers (RFC 5280 §5.2.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// Those with a distribution point of one of these URLs; `None`: wherever their point is.
    points: Option<Vec<String>>,
    only_users: bool,
    only_cas: bool,
}

impl Scope {
    /// RFC 5280 §6.3.3 (b)(2).
    fn covers(&self, certificate: &Certificate<'_>) -> bool {
        let extensions = &certificate.extensions;
        let is_ca = extensions.basic_constraints.is_some_and(|c| c.ca);
        self.covers_one_of(&extensions.crl_points, is_ca)
    }

    /// The same for any certificate with one of these distribution points.
    pub(super) fn covers_one_of(&self, urls: &[&str], is_ca: bool) -> bool {
        let here = self
            .points
            .as_ref()
            .is_none_or(|points| urls.iter().any(|url| points.iter().any(|p| p == url)));
        here && !(if is_ca {
            self.only_users
        } else {
            self.only_cas
        })
    }
}

impl List {
    /// The reason for which the certificate is revoked; `None` when it is not. The outer `None`: this list says nothing about it.
    pub(super) fn status(&self, certificate: &Certificate<'_>) -> Option<Option<RevocationReason>> {
        self.scope
            .covers(certificate)
            .then(|| self.revoked.reason(certificate.serial))
    }

    /// The reason for which the serial number is listed.
    pub(super) fn reason(&self, serial: &[u8]) -> Option<RevocationReason> {
        self.revoked.reason(serial)
    }

    /// How many certificates are listed.
    pub(super) fn len(&self) -> usize {
        self.revoked.index.len()
    }
}

impl<'a> SignedCrl<'a> {
    /// Reads a `CertificateList` that lists at most so many certificates.
    pub(super) fn parse(der: &'a [u8], max_entries: usize) -> Result<Self, EvidenceError> {
        let outer = Outer::parse(der).map_err(malformed)?;
        let mut reader = SliceReader::new(outer.tbs).map_err(malformed)?;
        let inner = reader.sequence(Inner::read).map_err(malformed)?;
        reader.finish().map_err(malformed)?;
        // Both algorithm fields agree (RFC 5280 §5.1.1.2); extensions need version 2 (§5.1.2.1).
        if inner.algorithm != outer.algorithm {
            return Err(EvidenceError::Malformed { offset: 0 });
        }
        let is_v2 = match inner.version {
            None => false,
            Some(1) => true,
            Some(_) => return Err(EvidenceError::Version),
        };
        let scope = match inner.extensions {
            None => Scope::default(),
            Some(_) if !is_v2 => return Err(EvidenceError::Version),
            Some(der) => extensions(der)?,
        };
        let revoked = match inner.revoked {
            None => Serials::default(),
            Some(content) => Serials::read(content, is_v2, max_entries)?,
        };
        Ok(Self {
            outer,
            issuer: inner.issuer,
            list: List {
                this_update: inner.this_update,
                next_update: inner.next_update,
                scope,
                revoked,
            },
        })
    }

    /// RFC 5280 §6.3.3 (g): the signature, over the bytes received.
    pub(super) fn verify(&self, key: &PublicKey<'_>) -> Result<(), EvidenceError> {
        let outer = &self.outer;
        signature::verify_bytes(&outer.algorithm, outer.tbs, outer.signature, key)
            .map_err(not_verified)
    }
}

pub(super) fn malformed(error: der::Error) -> EvidenceError {
    let offset = error
        .position()
        .and_then(|p| usize::try_from(p).ok())
        .unwrap_or(0);
    EvidenceError::Malformed { offset }
}

pub(super) fn not_verified(problem: SignatureProblem) -> EvidenceError {
    match problem {
        SignatureProblem::Bad => EvidenceError::Signature,
        SignatureProblem::Algorithm(algorithm) => EvidenceError::SignatureAlgorithm(algorithm),
    }
}

struct Inner<'a> {
    version: Option<u8>,
    algorithm: Algorithm<'a>,
    issuer: Dn<'a>,
    this_update: SystemTime,
    next_update: Option<SystemTime>,
    /// The contents of `revokedCertificates`.
    revoked: Option<&'a [u8]>,
    extensions: Option<&'a [u8]>,
}

impl<'a> Inner<'a> {
    fn read(r: &mut SliceReader<'a>) -> der::Result<Self> {
        let version = match Tag::peek(r)? {
            Tag::Integer => Some(r.decode()?),
            _ => None,
        };
        let algorithm = Algorithm::read(r)?;
        let issuer = Dn::parse(r.tlv_bytes()?)?;
        let this_update = r.decode::<Date>()?.to_system_time();
        let mut out = Self {
            version,
            algorithm,
            issuer,
            this_update,
            next_update: None,
            revoked: None,
            extensions: None,
        };
        if !r.is_finished() && matches!(Tag::peek(r)?, Tag::UtcTime | Tag::GeneralizedTime) {
            out.next_update = Some(r.decode::<Date>()?.to_system_time());
        }
        if !r.is_finished() && Tag::peek(r)? == Tag::Sequence {
            out.revoked = Some(r.decode::<AnyRef<'a>>()?.value());
        }
        if !r.is_finished() {
            let field: AnyRef<'a> = r.decode()?;
            field.header().tag().assert_eq(Tag::ContextSpecific {
                constructed: true,
                number: TagNumber(0),
            })?;
            out.extensions = Some(field.value());
        }
        Ok(out)
    }
}

/// RFC 5280 §5.2. What is passed over does not change what the list says.
fn extensions(der: &[u8]) -> Result<Scope, EvidenceError> {
    let mut scope = Scope::default();
    let mut seen = Vec::new();
    for (oid, critical, value) in list(der).map_err(malformed)? {
        if seen.contains(&oid) {
            return Err(EvidenceError::Malformed { offset: 0 });
        }
        seen.push(oid);
        match oid {
            DELTA_CRL_INDICATOR => return Err(EvidenceError::Delta),
            ISSUING_DISTRIBUTION_POINT => scope = issuing_distribution_point(value)?,
            CRL_NUMBER | AUTHORITY_KEY_ID => {}
            _ if critical => return Err(EvidenceError::CriticalExtension(oid)),
            _ => {}
        }
    }
    Ok(scope)
}

fn issuing_distribution_point(der: &[u8]) -> Result<Scope, EvidenceError> {
    let any = AnyRef::from_der(der).map_err(malformed)?;
    any.header()
        .tag()
        .assert_eq(Tag::Sequence)
        .map_err(malformed)?;
    let mut reader = SliceReader::new(any.value()).map_err(malformed)?;
    let mut scope = Scope::default();
    while !reader.is_finished() {
        let field: AnyRef<'_> = reader.decode().map_err(malformed)?;
        let Tag::ContextSpecific {
            number: TagNumber(number),
            ..
        } = field.header().tag()
        else {
            return Err(EvidenceError::Malformed { offset: 0 });
        };
        // BOOLEAN DEFAULT FALSE, implicitly tagged: anything but FALSE limits.
        let set = field.value() != [0];
        match number {
            0 => {
                let urls = point_urls(field.value()).map_err(malformed)?;
                scope.points = Some(urls.into_iter().map(str::to_owned).collect());
            }
            1 => scope.only_users = set,
            2 => scope.only_cas = set,
            3 => return Err(EvidenceError::Scope),
            4 if set => return Err(EvidenceError::Indirect),
            5 if set => return Err(EvidenceError::Scope),
            4 | 5 => {}
            _ => return Err(EvidenceError::Malformed { offset: 0 }),
        }
    }
    Ok(scope)
}

/// Serial numbers with reasons, sorted, in one piece of memory.
#[derive(Debug, Default)]
struct Serials {
    bytes: Vec<u8>,
    index: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    end: u32,
    reason: RevocationReason,
}

impl Serials {
    /// Reads the contents of `revokedCertificates`.
    fn read(content: &[u8], is_v2: bool, max_entries: usize) -> Result<Self, EvidenceError> {
        let mut reader = SliceReader::new(content).map_err(malformed)?;
        let mut out = Self::default();
        while !reader.is_finished() {
            let (serial, extensions) = reader.sequence(entry).map_err(malformed)?;
            let reason = match extensions {
                None => RevocationReason::Unspecified,
                Some(_) if !is_v2 => return Err(EvidenceError::Version),
                Some(der) => entry_extensions(der)?,
            };
            // In a complete list it says that the certificate is not revoked any more (RFC 5280 §5.3.1).
            if reason == RevocationReason::RemoveFromCrl {
                continue;
            }
            if out.index.len() >= max_entries {
                return Err(EvidenceError::TooManyEntries { limit: max_entries });
            }
            let start = out.bytes.len();
            out.bytes.extend_from_slice(serial);
            let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(out.bytes.len()))
            else {
                return Err(EvidenceError::TooManyEntries { limit: max_entries });
            };
            out.index.push(Entry { start, end, reason });
        }
        let Self { bytes, index } = &mut out;
        index.sort_by(|a, b| slice(bytes, a).cmp(slice(bytes, b)));
        bytes.shrink_to_fit();
        index.shrink_to_fit();
        Ok(out)
    }

    fn reason(&self, serial: &[u8]) -> Option<RevocationReason> {
        let at = self
            .index
            .binary_search_by(|entry| slice(&self.bytes, entry).cmp(serial))
            .ok()?;
        self.index.get(at).map(|entry| entry.reason)
    }
}

fn slice<'a>(bytes: &'a [u8], entry: &Entry) -> &'a [u8] {
    bytes
        .get(entry.start as usize..entry.end as usize)
        .unwrap_or_default()
}

fn entry<'a>(r: &mut SliceReader<'a>) -> der::Result<(&'a [u8], Option<&'a [u8]>)> {
    let serial: IntRef<'a> = r.decode()?;
    let _date: Date = r.decode()?;
    let extensions = if r.is_finished() {
        None
    } else {
        Some(r.tlv_bytes()?)
    };
    Ok((serial.as_bytes(), extensions))
}

/// RFC 5280 §5.3.
fn entry_extensions(der: &[u8]) -> Result<RevocationReason, EvidenceError> {
    let mut reason = RevocationReason::Unspecified;
    for (oid, critical, value) in list(der).map_err(malformed)? {
        match oid {
            REASON_CODE => reason = reason_code(value).map_err(malformed)?,
            INVALIDITY_DATE => {}
            CERTIFICATE_ISSUER => return Err(EvidenceError::Indirect),
            _ if critical => return Err(EvidenceError::CriticalExtension(oid)),
            _ => {}
        }
    }
    Ok(reason)
}

/// `CRLReason`, an ENUMERATED.
pub(super) fn reason_code(der: &[u8]) -> der::Result<RevocationReason> {
    let any = AnyRef::from_der(der)?;
    any.header().tag().assert_eq(Tag::Enumerated)?;
    match any.value() {
        [code] => Ok(RevocationReason::from(*code)),
        _ => Err(Tag::Enumerated.value_error().into()),
    }
}
