//! OCSP: the request, and the response to it (RFC 6960, RFC 5019, RFC 9654).

use std::time::SystemTime;

use aws_lc_rs::digest;
use der::{
    Decode, Reader, SliceReader, Tag, TagNumber,
    asn1::{AnyRef, GeneralizedTime, IntRef, ObjectIdentifier, OctetStringRef},
};

use super::{
    CertIdHash, EvidenceError,
    crl::{malformed, not_verified, reason_code},
};
use crate::{
    certificate::{Algorithm, Certificate, bits},
    context::Time,
    dn::Dn,
    error::RevocationReason,
    extension::list,
    path, signature,
};

const BASIC_RESPONSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
const NONCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.2");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");

/// Certificates of a response that are tried as its responder's.
const MAX_RESPONDERS: usize = 3;

impl CertIdHash {
    fn oid(self) -> ObjectIdentifier {
        match self {
            CertIdHash::Sha1 => SHA1,
            CertIdHash::Sha256 => SHA256,
        }
    }

    fn of(oid: ObjectIdentifier) -> Option<Self> {
        [CertIdHash::Sha1, CertIdHash::Sha256]
            .into_iter()
            .find(|hash| hash.oid() == oid)
    }

    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            CertIdHash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            CertIdHash::Sha256 => &digest::SHA256,
        };
        digest::digest(algorithm, bytes).as_ref().to_vec()
    }
}

/// An `OCSPRequest` for one certificate, unsigned (RFC 6960 §4.1.1).
pub(super) fn request(
    issuer: &Certificate<'_>,
    serial: &[u8],
    hash: CertIdHash,
    nonce: Option<&[u8]>,
) -> Vec<u8> {
    let algorithm = tlv(0x30, &[&tlv(6, &[hash.oid().as_bytes()]), &[5, 0]]);
    let name = tlv(4, &[&hash.hash(issuer.subject.der())]);
    let key = tlv(4, &[&hash.hash(issuer.key.bytes)]);
    let cert_id = tlv(0x30, &[&algorithm, &name, &key, &tlv(2, &[serial])]);
    let requests = tlv(0x30, &[&tlv(0x30, &[&cert_id])]);
    let extensions = nonce.map(|nonce| {
        let value = tlv(4, &[&tlv(4, &[nonce])]);
        let extension = tlv(0x30, &[&tlv(6, &[NONCE.as_bytes()]), &value]);
        tlv(0xA2, &[&tlv(0x30, &[&extension])])
    });
    let tbs = tlv(0x30, &[&requests, &extensions.unwrap_or_default()]);
    tlv(0x30, &[&tbs])
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    if let Ok(short @ 0..=127) = u8::try_from(length) {
        out.push(short);
    } else {
        let bytes = length.to_be_bytes();
        let bytes = &bytes[bytes.iter().take_while(|b| **b == 0).count()..];
        // At most 8 of them.
        out.push(0x80 | u8::try_from(bytes.len()).unwrap_or(8));
        out.extend_from_slice(bytes);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// What a responder says about one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CertStatus {
    Good,
    Revoked(RevocationReason),
    /// It does not know the certificate.
    Unknown,
}

/// A verified answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: CertStatus,
    pub(super) this_update: SystemTime,
    pub(super) next_update: Option<SystemTime>,
}

/// Who is asked about, and with what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) issuer: &'a Certificate<'a>,
    pub(super) serial: &'a [u8],
    pub(super) nonce: Option<&'a [u8]>,
    pub(super) time: Time,
}

impl Question<'_> {
    /// Reads an `OCSPResponse` and verifies it as the answer to this.
    pub(super) fn answer(&self, der: &[u8]) -> Result<Answer, EvidenceError> {
        let basic = basic_response(der)?;
        let response = Basic::parse(basic)?;
        let data = Data::parse(response.tbs)?;
        self.authorise(&response, &data)?;
        if let (Some(sent), Some(received)) = (self.nonce, data.nonce)
            && sent != received
        {
            return Err(EvidenceError::Nonce);
        }
        data.answers
            .iter()
            .find(|single| self.is_about(&single.id))
            .map(|single| single.answer)
            .ok_or(EvidenceError::OtherCertificate)
    }

    /// The signature by the issuer, or by a responder it authorised (RFC 6960 §3.2, §4.2.2.2).
    fn authorise(&self, response: &Basic<'_>, data: &Data<'_>) -> Result<(), EvidenceError> {
        let issuer = self.issuer;
        let verify = |certificate: &Certificate<'_>| {
            signature::verify_bytes(
                &response.algorithm,
                response.tbs,
                response.signature,
                &certificate.key,
            )
            .map_err(not_verified)
        };
        if data.responder.is(issuer) {
            return verify(issuer);
        }
        let mut result = EvidenceError::Responder;
        let matching = response
            .certificates
            .iter()
            .filter_map(|der| Certificate::parse(der).ok())
            .filter(|c| data.responder.is(c));
        for certificate in matching.take(MAX_RESPONDERS) {
            if self.is_authorised(&certificate) {
                match verify(&certificate) {
                    Ok(()) => return Ok(()),
                    Err(error) => result = error,
                }
            }
        }
        Err(result)
    }

    /// Issued by the very CA for this very purpose, and good now.
    fn is_authorised(&self, responder: &Certificate<'_>) -> bool {
        let extensions = &responder.extensions;
        responder.issuer == self.issuer.subject
            && extensions.allows_ocsp_signing()
            && extensions.unknown_critical.is_none()
            && extensions.key_usage.is_none_or(|u| u.digital_signature())
            && path::date(responder, 0, self.time).is_ok()
            && signature::check_key(&responder.key, 0).is_ok()
            && signature::verify(responder, &self.issuer.key).is_ok()
    }

    fn is_about(&self, id: &CertId<'_>) -> bool {
        let Some(hash) = CertIdHash::of(id.algorithm) else {
            return false;
        };
        id.serial == self.serial
            && id.name == hash.hash(self.issuer.subject.der())
            && id.key == hash.hash(self.issuer.key.bytes)
    }
}

/// The `BasicOCSPResponse` in an `OCSPResponse`.
fn basic_response(der: &[u8]) -> Result<&[u8], EvidenceError> {
    let mut reader = SliceReader::new(der).map_err(malformed)?;
    let (status, bytes) = reader
        .sequence(|r| {
            let status: AnyRef<'_> = r.decode()?;
            status.header().tag().assert_eq(Tag::Enumerated)?;
            let [status] = status.value() else {
                return Err(Tag::Enumerated.value_error().into());
            };
            let bytes = if r.is_finished() {
                None
            } else {
                Some(explicit(r, 0)?)
            };
            Ok::<_, der::Error>((*status, bytes))
        })
        .map_err(malformed)?;
    reader.finish().map_err(malformed)?;
    let bytes = match (status, bytes) {
        (0, Some(bytes)) => bytes,
        (0, None) => return Err(EvidenceError::Malformed { offset: 0 }),
        (status, _) => return Err(EvidenceError::Status(status)),
    };
    let mut reader = SliceReader::new(bytes).map_err(malformed)?;
    let (kind, response) = reader
        .sequence(|r| {
            let kind: ObjectIdentifier = r.decode()?;
            let response: &OctetStringRef = r.decode()?;
            Ok::<_, der::Error>((kind, response.as_bytes()))
        })
        .map_err(malformed)?;
    reader.finish().map_err(malformed)?;
    match kind {
        BASIC_RESPONSE => Ok(response),
        _ => Err(EvidenceError::Malformed { offset: 0 }),
    }
}

/// The contents of a field `[number] EXPLICIT`.
fn explicit<'a>(r: &mut SliceReader<'a>, number: u32) -> der::Result<&'a [u8]> {
    let field: AnyRef<'a> = r.decode()?;
    field.header().tag().assert_eq(Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(number),
    })?;
    Ok(field.value())
}

/// Whether the next field is `[number]`.
fn is_next(r: &SliceReader<'_>, number: u32) -> bool {
    matches!(Tag::peek(r), Ok(Tag::ContextSpecific { number: n, .. }) if n.value() == number)
}

/// `BasicOCSPResponse`.
struct Basic<'a> {
    tbs: &'a [u8],
    algorithm: Algorithm<'a>,
    signature: &'a [u8],
    certificates: Vec<&'a [u8]>,
}

impl<'a> Basic<'a> {
    fn parse(der: &'a [u8]) -> Result<Self, EvidenceError> {
        let mut reader = SliceReader::new(der).map_err(malformed)?;
        let out = reader
            .sequence(|r| {
                let mut out = Self {
                    tbs: r.tlv_bytes()?,
                    algorithm: Algorithm::read(r)?,
                    signature: bits(r)?,
                    certificates: Vec::new(),
                };
                if !r.is_finished() {
                    let mut inner = SliceReader::new(explicit(r, 0)?)?;
                    inner.sequence(|r| {
                        while !r.is_finished() {
                            out.certificates.push(r.tlv_bytes()?);
                        }
                        Ok::<_, der::Error>(())
                    })?;
                    inner.finish()?;
                }
                Ok::<_, der::Error>(out)
            })
            .map_err(malformed)?;
        reader.finish().map_err(malformed)?;
        Ok(out)
    }
}

/// `ResponderID`.
enum Responder<'a> {
    Name(Dn<'a>),
    /// SHA-1 of the key's bits.
    Key(&'a [u8]),
}

impl Responder<'_> {
    fn is(&self, certificate: &Certificate<'_>) -> bool {
        match self {
            Responder::Name(name) => *name == certificate.subject,
            Responder::Key(hash) => *hash == CertIdHash::Sha1.hash(certificate.key.bytes),
        }
    }
}

/// `CertID`.
struct CertId<'a> {
    algorithm: ObjectIdentifier,
    name: &'a [u8],
    key: &'a [u8],
    serial: &'a [u8],
}

/// `SingleResponse`.
struct Single<'a> {
    id: CertId<'a>,
    answer: Answer,
    extensions: Option<&'a [u8]>,
}

/// `ResponseData`.
struct Data<'a> {
    responder: Responder<'a>,
    answers: Vec<Single<'a>>,
    nonce: Option<&'a [u8]>,
}

impl<'a> Data<'a> {
    fn parse(tbs: &'a [u8]) -> Result<Self, EvidenceError> {
        let mut reader = SliceReader::new(tbs).map_err(malformed)?;
        let (version, mut data, extensions) = reader.sequence(Self::read).map_err(malformed)?;
        reader.finish().map_err(malformed)?;
        if version != 0 {
            return Err(EvidenceError::Version);
        }
        for single in &data.answers {
            if let Some(der) = single.extensions {
                only_known(der, &[])?;
            }
        }
        if let Some(der) = extensions {
            only_known(der, &[NONCE])?;
            let entries = list(der).map_err(malformed)?;
            if let Some((_, _, value)) = entries.into_iter().find(|(oid, _, _)| *oid == NONCE) {
                let nonce = <&OctetStringRef>::from_der(value).map_err(malformed)?;
                data.nonce = Some(nonce.as_bytes());
            }
        }
        Ok(data)
    }

    fn read(r: &mut SliceReader<'a>) -> der::Result<(u8, Self, Option<&'a [u8]>)> {
        let version = if is_next(r, 0) {
            u8::from_der(explicit(r, 0)?)?
        } else {
            0
        };
        let responder = if is_next(r, 1) {
            Responder::Name(Dn::parse(explicit(r, 1)?)?)
        } else {
            Responder::Key(<&OctetStringRef>::from_der(explicit(r, 2)?)?.as_bytes())
        };
        let _produced_at: GeneralizedTime = r.decode()?;
        let mut answers = Vec::new();
        r.sequence(|r| {
            while !r.is_finished() {
                answers.push(r.sequence(single)?);
            }
            Ok::<_, der::Error>(())
        })?;
        let extensions = if r.is_finished() {
            None
        } else {
            Some(explicit(r, 1)?)
        };
        let data = Self {
            responder,
            answers,
            nonce: None,
        };
        Ok((version, data, extensions))
    }
}

fn only_known(der: &[u8], known: &[ObjectIdentifier]) -> Result<(), EvidenceError> {
    for (oid, critical, _) in list(der).map_err(malformed)? {
        if critical && !known.contains(&oid) {
            return Err(EvidenceError::CriticalExtension(oid));
        }
    }
    Ok(())
}

fn single<'a>(r: &mut SliceReader<'a>) -> der::Result<Single<'a>> {
    let id = r.sequence(|r| {
        let algorithm = Algorithm::read(r)?;
        let name: &'a OctetStringRef = r.decode()?;
        let key: &'a OctetStringRef = r.decode()?;
        let serial: IntRef<'a> = r.decode()?;
        Ok::<_, der::Error>(CertId {
            algorithm: algorithm.oid,
            name: name.as_bytes(),
            key: key.as_bytes(),
            serial: serial.as_bytes(),
        })
    })?;
    let status: AnyRef<'a> = r.decode()?;
    let tag = status.header().tag();
    let status = match tag {
        Tag::ContextSpecific {
            constructed: false,
            number: TagNumber(0),
        } => CertStatus::Good,
        Tag::ContextSpecific {
            constructed: true,
            number: TagNumber(1),
        } => CertStatus::Revoked(revoked_info(status.value())?),
        Tag::ContextSpecific {
            constructed: false,
            number: TagNumber(2),
        } => CertStatus::Unknown,
        tag => return Err(tag.value_error().into()),
    };
    let this_update: GeneralizedTime = r.decode()?;
    let next_update = if is_next(r, 0) {
        Some(GeneralizedTime::from_der(explicit(r, 0)?)?.to_system_time())
    } else {
        None
    };
    let extensions = if r.is_finished() {
        None
    } else {
        Some(explicit(r, 1)?)
    };
    Ok(Single {
        id,
        answer: Answer {
            status,
            this_update: this_update.to_system_time(),
            next_update,
        },
        extensions,
    })
}

/// The contents of `RevokedInfo`.
fn revoked_info(content: &[u8]) -> der::Result<RevocationReason> {
    let mut reader = SliceReader::new(content)?;
    let _time: GeneralizedTime = reader.decode()?;
    if reader.is_finished() {
        return Ok(RevocationReason::Unspecified);
    }
    reason_code(explicit(&mut reader, 0)?)
}
