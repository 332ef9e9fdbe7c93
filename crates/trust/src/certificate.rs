//! A certificate as it was received: its parts borrow from the DER (RFC 5280 §4.1).
//!
//! The signed part is kept as the bytes that came in, so that a signature is never checked over a re-encoding.

use std::time::SystemTime;

use der::{
    Decode, Reader, SliceReader, Tag, TagNumber,
    asn1::{AnyRef, BitStringRef, IntRef, ObjectIdentifier},
};
use x509_cert::time::Time;

use crate::{dn::Dn, error::Problem, extension::Extensions, fingerprint};

/// An `AlgorithmIdentifier` (RFC 5280 §4.1.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Algorithm<'a> {
    pub(crate) oid: ObjectIdentifier,
    pub(crate) parameters: Option<AnyRef<'a>>,
}

impl<'a> Algorithm<'a> {
    pub(crate) fn read(reader: &mut SliceReader<'a>) -> der::Result<Self> {
        reader.sequence(|r| {
            let oid = r.decode()?;
            let parameters = if r.is_finished() {
                None
            } else {
                Some(r.decode()?)
            };
            Ok::<_, der::Error>(Self { oid, parameters })
        })
    }

    /// No parameters, or NULL.
    pub(crate) fn is_bare(&self) -> bool {
        self.parameters.is_none_or(AnyRef::is_null)
    }
}

/// A `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7).
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublicKey<'a> {
    pub(crate) algorithm: Algorithm<'a>,
    pub(crate) bytes: &'a [u8],
}

impl PublicKey<'_> {
    /// What tells keys apart: SHA-256 over kind and bits.
    pub(crate) fn id(&self) -> [u8; 32] {
        let mut input = self.algorithm.oid.as_bytes().to_vec();
        input.push(0);
        input.extend_from_slice(self.bytes);
        fingerprint(&input)
    }
}

/// The certificate.
#[derive(Clone, Debug)]
pub(crate) struct Certificate<'a> {
    /// All of it.
    pub(crate) der: &'a [u8],
    /// The signed part, header included.
    pub(crate) tbs: &'a [u8],
    pub(crate) algorithm: Algorithm<'a>,
    pub(crate) signature: &'a [u8],
    /// The contents of the serial number's INTEGER.
    pub(crate) serial: &'a [u8],
    /// 1, 2 or 3.
    pub(crate) version: u8,
    pub(crate) issuer: Dn<'a>,
    pub(crate) subject: Dn<'a>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) key: PublicKey<'a>,
    pub(crate) extensions: Extensions<'a>,
}

impl<'a> Certificate<'a> {
    /// Reads one certificate; nothing may follow it.
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, Problem> {
        let outer = Outer::parse(der).map_err(problem)?;
        let inner = Inner::parse(outer.tbs).map_err(problem)?;
        if outer.algorithm != inner.algorithm {
            return Err(Problem::SignatureAlgorithmsDiffer);
        }
        if !(1..=3).contains(&inner.version) || (inner.version < 3 && inner.extensions.is_some()) {
            return Err(Problem::Version);
        }
        let extensions = match inner.extensions {
            Some(der) => Extensions::parse(der)?,
            None => Extensions::default(),
        };
        Ok(Self {
            der,
            tbs: outer.tbs,
            algorithm: outer.algorithm,
            signature: outer.signature,
            serial: inner.serial,
            version: inner.version,
            issuer: inner.issuer,
            subject: inner.subject,
            not_before: inner.validity.0.to_system_time(),
            not_after: inner.validity.1.to_system_time(),
            key: inner.key,
            extensions,
        })
    }

    /// SHA-256 of the DER.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        fingerprint(self.der)
    }

    /// Subject and issuer are the same entity (RFC 5280 §6.1).
    pub(crate) fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }
}

fn problem(error: der::Error) -> Problem {
    let offset = error
        .position()
        .and_then(|p| usize::try_from(p).ok())
        .unwrap_or(0);
    Problem::Der { offset }
}

/// What is signed, how, and the signature: the outside of certificates and CRLs.
pub(crate) struct Outer<'a> {
    pub(crate) tbs: &'a [u8],
    pub(crate) algorithm: Algorithm<'a>,
    pub(crate) signature: &'a [u8],
}

impl<'a> Outer<'a> {
    pub(crate) fn parse(der: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let outer = reader.sequence(|r| {
            Ok::<_, der::Error>(Self {
                tbs: r.tlv_bytes()?,
                algorithm: Algorithm::read(r)?,
                signature: bits(r)?,
            })
        })?;
        reader.finish()?;
        Ok(outer)
    }
}

struct Inner<'a> {
    version: u8,
    serial: &'a [u8],
    algorithm: Algorithm<'a>,
    issuer: Dn<'a>,
    validity: (Time, Time),
    subject: Dn<'a>,
    key: PublicKey<'a>,
    extensions: Option<&'a [u8]>,
}

impl<'a> Inner<'a> {
    fn parse(tbs: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(tbs)?;
        let inner = reader.sequence(Self::read)?;
        reader.finish()?;
        Ok(inner)
    }

    fn read(r: &mut SliceReader<'a>) -> der::Result<Self> {
        let version = version(r)?;
        let serial: IntRef<'a> = r.decode()?;
        let algorithm = Algorithm::read(r)?;
        let issuer = Dn::parse(r.tlv_bytes()?)?;
        let validity =
            r.sequence(|r| Ok::<_, der::Error>((r.decode::<Time>()?, r.decode::<Time>()?)))?;
        let subject = Dn::parse(r.tlv_bytes()?)?;
        let key = r.sequence(|r| {
            Ok::<_, der::Error>(PublicKey {
                algorithm: Algorithm::read(r)?,
                bytes: bits(r)?,
            })
        })?;
        let mut extensions = None;
        let mut last = 0;
        while !r.is_finished() {
            // issuerUniqueID [1], subjectUniqueID [2], extensions [3], each once and in order.
            let field: AnyRef<'a> = r.decode()?;
            let number = match field.header().tag() {
                Tag::ContextSpecific { number, .. } => number.value(),
                tag => return Err(tag.value_error().into()),
            };
            if number <= last || number > 3 {
                return Err(field.header().tag().value_error().into());
            }
            last = number;
            if number == 3 {
                extensions = Some(field.value());
            }
        }
        Ok(Self {
            version,
            serial: serial.as_bytes(),
            algorithm,
            issuer,
            validity,
            subject,
            key,
            extensions,
        })
    }
}

/// `version [0] EXPLICIT INTEGER DEFAULT v1`, as the number people use (1, 2, 3).
fn version(r: &mut SliceReader<'_>) -> der::Result<u8> {
    let field = Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(0),
    };
    if Tag::peek(r)? != field {
        return Ok(1);
    }
    let any: AnyRef<'_> = r.decode()?;
    Ok(u8::from_der(any.value())?.saturating_add(1))
}

pub(crate) fn bits<'a>(r: &mut SliceReader<'a>) -> der::Result<&'a [u8]> {
    let string: BitStringRef<'a> = r.decode()?;
    string
        .as_bytes()
        .ok_or_else(|| Tag::BitString.value_error().into())
}
