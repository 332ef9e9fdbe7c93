//! What CMP has to know about a certificate (RFC 5280 §4.1). Its path is judged elsewhere.

use der::{
    Decode, Reader, Sequence, SliceReader, Tag, TagNumber,
    asn1::{Any, AnyRef, BitString, ContextSpecific, ObjectIdentifier, OctetString},
};

use crate::{
    asn1::{Algorithm, Certificate, GeneralName, Name, PublicKeyInfo, Time},
    crypto::{Hash, SignatureError, verify_signature},
    oid,
};

/// The parts of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateParts {
    /// The contents of the serial number's INTEGER.
    pub serial: Vec<u8>,
    /// Who issued it.
    pub issuer: Name,
    /// Whose it is.
    pub subject: Name,
    /// From when it is valid.
    pub not_before: Time,
    /// Until when it is valid.
    pub not_after: Time,
    /// The key.
    pub public_key: PublicKeyInfo,
    /// The subject's key identifier.
    pub key_id: Option<Vec<u8>>,
    /// How it is signed.
    pub algorithm: Algorithm,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

impl CertificateParts {
    /// Reads a certificate.
    pub fn read(certificate: &Certificate) -> der::Result<Self> {
        let outer: Outer = Outer::from_der(&certificate.to_der())?;
        let signed = outer.signed;
        let mut reader = SliceReader::new(&signed)?;
        let parts = reader.sequence(|r| {
            let _version: Option<ContextSpecific<u8>> =
                ContextSpecific::decode_explicit(r, TagNumber(0))?;
            let serial: AnyRef<'_> = r.decode()?;
            serial.header().tag().assert_eq(Tag::Integer)?;
            let _algorithm: Algorithm = r.decode()?;
            let issuer = r.decode()?;
            let validity: Validity = r.decode()?;
            let subject = r.decode()?;
            let public_key = r.decode()?;
            let mut key_id = None;
            while !r.is_finished() {
                let any: AnyRef<'_> = r.decode()?;
                if any.header().tag() == EXTENSIONS {
                    key_id = key_identifier(any.value())?;
                }
            }
            Ok::<_, der::Error>(Self {
                serial: serial.value().to_vec(),
                issuer,
                subject,
                not_before: validity.not_before,
                not_after: validity.not_after,
                public_key,
                key_id,
                algorithm: outer.algorithm,
                signed: Vec::new(),
                signature: Vec::new(),
            })
        })?;
        reader.finish()?;
        let signature = outer
            .signature
            .as_bytes()
            .ok_or_else(|| Tag::BitString.value_error())?
            .to_vec();
        Ok(Self {
            signed,
            signature,
            ..parts
        })
    }

    /// Whether this certificate is signed by the key of `issuer`.
    pub fn verify(&self, issuer: &PublicKeyInfo) -> Result<(), SignatureError> {
        verify_signature(&self.algorithm, issuer, &self.signed, &self.signature)
    }

    /// The hash for `certHash` of a confirmation: that of the certificate's signature; SHA-512 for Ed25519 (RFC 9481 §2).
    pub fn confirmation_hash(&self) -> Option<Hash> {
        match self.algorithm.oid {
            oid::ED25519 => Some(Hash::Sha512),
            _ => Hash::of_signature(&self.algorithm),
        }
    }

    /// The subject as GeneralName.
    pub fn subject_name(&self) -> der::Result<GeneralName> {
        GeneralName::directory(&self.subject)
    }
}

const EXTENSIONS: Tag = Tag::ContextSpecific {
    constructed: true,
    number: TagNumber(3),
};

struct Outer {
    signed: Vec<u8>,
    algorithm: Algorithm,
    signature: BitString,
}

impl Outer {
    fn from_der(der: &[u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let outer = reader.sequence(|r| {
            Ok::<_, der::Error>(Self {
                signed: r.tlv_bytes()?.to_vec(),
                algorithm: r.decode()?,
                signature: r.decode()?,
            })
        })?;
        reader.finish()?;
        Ok(outer)
    }
}

#[derive(Sequence)]
struct Validity {
    not_before: Time,
    not_after: Time,
}

#[derive(Sequence)]
struct Extension {
    oid: ObjectIdentifier,
    #[asn1(default = "Default::default")]
    critical: bool,
    value: OctetString,
}

fn key_identifier(extensions: &[u8]) -> der::Result<Option<Vec<u8>>> {
    let extensions: Vec<Extension> = Decode::from_der(extensions)?;
    extensions
        .iter()
        .find(|extension| extension.oid == oid::SUBJECT_KEY_IDENTIFIER)
        .map(|extension| {
            OctetString::from_der(extension.value.as_bytes()).map(|id| id.as_bytes().to_vec())
        })
        .transpose()
}

/// The parts of a PKCS #10 request (RFC 2986 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestParts {
    /// The subject.
    pub subject: Name,
    /// The key.
    pub public_key: PublicKeyInfo,
    /// The contents of `attributes`.
    pub attributes: Vec<u8>,
    algorithm: Algorithm,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

impl RequestParts {
    /// Reads a request.
    pub fn read(request: &crate::asn1::CertificationRequest) -> der::Result<Self> {
        let outer = Outer::from_der(&request.to_der())?;
        let mut reader = SliceReader::new(&outer.signed)?;
        let (subject, public_key, attributes) = reader.sequence(|r| {
            let _version: u8 = r.decode()?;
            let subject = r.decode()?;
            let public_key = r.decode()?;
            let attributes: Any = r.decode()?;
            Ok::<_, der::Error>((subject, public_key, attributes.value().to_vec()))
        })?;
        reader.finish()?;
        Ok(Self {
            subject,
            public_key,
            attributes,
            algorithm: outer.algorithm,
            signature: outer
                .signature
                .as_bytes()
                .ok_or_else(|| Tag::BitString.value_error())?
                .to_vec(),
            signed: outer.signed,
        })
    }

    /// Whether the requester has the key: its signature verifies under it.
    pub fn verify(&self) -> Result<(), SignatureError> {
        verify_signature(
            &self.algorithm,
            &self.public_key,
            &self.signed,
            &self.signature,
        )
    }
}
