//! `SignedData` (RFC 5652 §5) around a key package, with one signer.

use der::{
    Decode, Encode, Reader, Sequence, SliceReader, Tag, TagNumber, Tagged,
    asn1::{Any, ObjectIdentifier, OctetString},
};

use super::KeyDeliveryError;
use crate::{
    asn1::{Algorithm, Certificate},
    certificate::CertificateParts,
    crypto::{Hash, Signer, verify_signature},
    oid,
};

#[derive(Sequence)]
struct Signed {
    version: u8,
    digests: Any,
    content: Content,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    certificates: Option<Set>,
    signers: Set,
}

#[derive(Sequence)]
struct Content {
    content_type: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    content: Option<OctetString>,
}

#[derive(Sequence)]
struct SignerInfo {
    version: u8,
    signer: Any,
    digest: Algorithm,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    attributes: Option<Set>,
    algorithm: Algorithm,
    signature: OctetString,
}

#[derive(Sequence)]
struct Attribute {
    kind: ObjectIdentifier,
    values: Set,
}

/// The contents of a SET, in the order they came.
struct Set(Vec<u8>);

impl der::FixedTag for Set {
    const TAG: Tag = Tag::Set;
}

impl<'a> der::DecodeValue<'a> for Set {
    type Error = der::Error;

    fn decode_value<R: Reader<'a>>(reader: &mut R, header: der::Header) -> der::Result<Self> {
        Ok(Self(reader.read_slice(header.length())?.to_vec()))
    }
}

impl der::EncodeValue for Set {
    fn value_len(&self) -> der::Result<der::Length> {
        der::Length::try_from(self.0.len())
    }

    fn encode_value(&self, writer: &mut impl der::Writer) -> der::Result<()> {
        writer.write(&self.0)
    }
}

impl Set {
    fn of(parts: &[Vec<u8>]) -> Self {
        // DER sorts a SET OF by the encodings.
        let mut parts = parts.to_vec();
        parts.sort();
        Self(parts.concat())
    }

    fn elements<T: for<'a> Decode<'a, Error = der::Error>>(&self) -> der::Result<Vec<T>> {
        let mut reader = SliceReader::new(&self.0)?;
        let mut elements = Vec::new();
        while !reader.is_finished() {
            elements.push(T::from_der(reader.tlv_bytes()?)?);
        }
        Ok(elements)
    }

    fn only<T: for<'a> Decode<'a, Error = der::Error>>(&self) -> Result<T, KeyDeliveryError> {
        match <[T; 1]>::try_from(self.elements()?) {
            Ok([element]) => Ok(element),
            Err(_) => Err(KeyDeliveryError::Unsupported("more or less than one entry")),
        }
    }
}

const KEY_ID: Tag = Tag::ContextSpecific {
    constructed: false,
    number: TagNumber(0),
};

/// The SignedData of a key package (RFC 9483 §4.1.6).
pub(super) fn sign(
    package: &[u8],
    signer: &dyn Signer,
    chain: &[Certificate],
) -> Result<Vec<u8>, KeyDeliveryError> {
    let parts = CertificateParts::read(chain.first().ok_or(KeyDeliveryError::Unsupported(
        "an authority without certificate",
    ))?)?;
    let key_id = parts.key_id.ok_or(KeyDeliveryError::Unsupported(
        "an authority without key identifier",
    ))?;
    let algorithm = signer.algorithm();
    // RFC 8419 §3.1 asks for SHA-512 with Ed25519.
    let hash = match algorithm.oid {
        oid::ED25519 => Hash::Sha512,
        _ => {
            Hash::of_signature(&algorithm).ok_or(KeyDeliveryError::Unsupported("the signature"))?
        }
    };
    let attribute = |kind, value: Vec<u8>| {
        Attribute {
            kind,
            values: Set(value),
        }
        .to_der()
    };
    let attributes = Set::of(&[
        attribute(oid::CONTENT_TYPE, oid::KEY_PACKAGE.to_der()?)?,
        attribute(
            oid::MESSAGE_DIGEST,
            OctetString::new(hash.digest(package))?.to_der()?,
        )?,
    ]);
    let info = SignerInfo {
        version: 3,
        signer: Any::new(KEY_ID, key_id)?,
        digest: hash.algorithm(),
        signature: OctetString::new(signer.sign(&attributes.to_der()?)?)?,
        attributes: Some(attributes),
        algorithm,
    };
    let certificates: Vec<Vec<u8>> = chain.iter().map(Certificate::to_der).collect();
    let signed = Signed {
        version: 3,
        digests: Any::new(Tag::Set, hash.algorithm().to_der()?)?,
        content: Content {
            content_type: oid::KEY_PACKAGE,
            content: Some(OctetString::new(package)?),
        },
        certificates: Some(Set::of(&certificates)),
        signers: Set(info.to_der()?),
    };
    Ok(signed.to_der()?)
}

/// The key package, its verified signer, and the other certificates.
pub(super) fn verify(
    signed: &[u8],
) -> Result<(Vec<u8>, Certificate, Vec<Certificate>), KeyDeliveryError> {
    let signed = Signed::from_der(signed)?;
    if signed.content.content_type != oid::KEY_PACKAGE {
        return Err(KeyDeliveryError::Unsupported(
            "a content that is no key package",
        ));
    }
    let package = signed
        .content
        .content
        .ok_or(KeyDeliveryError::Signature)?
        .as_bytes()
        .to_vec();
    let info: SignerInfo = signed.signers.only()?;
    let mut certificates: Vec<Certificate> = match &signed.certificates {
        Some(set) => set.elements()?,
        None => Vec::new(),
    };
    let position = certificates
        .iter()
        .position(|certificate| is_signer(&info.signer, certificate))
        .ok_or(KeyDeliveryError::Signature)?;
    let signer = certificates.remove(position);
    let parts = CertificateParts::read(&signer)?;
    let hash = Hash::from_oid(info.digest.oid)
        .filter(|hash| *hash != Hash::Sha1)
        .ok_or(KeyDeliveryError::Unsupported("the digest"))?;
    // Without attributes the content itself would be signed; RFC 5652 §5.3 asks for them with this content.
    let attributes = info.attributes.ok_or(KeyDeliveryError::Signature)?;
    check_attributes(&attributes, &hash.digest(&package))?;
    verify_signature(
        &info.algorithm,
        &parts.public_key,
        &attributes.to_der()?,
        info.signature.as_bytes(),
    )
    .map_err(|_| KeyDeliveryError::Signature)?;
    Ok((package, signer, certificates))
}

fn is_signer(id: &Any, certificate: &Certificate) -> bool {
    let Ok(parts) = CertificateParts::read(certificate) else {
        return false;
    };
    if id.tag() == KEY_ID {
        return parts.key_id.as_deref() == Some(id.value());
    }
    let serial = Any::new(Tag::Integer, parts.serial.as_slice()).and_then(|any| any.to_der());
    serial.is_ok_and(|serial| id.value() == [parts.issuer.to_der(), serial].concat())
}

fn check_attributes(attributes: &Set, digest: &[u8]) -> Result<(), KeyDeliveryError> {
    let mut content_type = None;
    let mut message_digest = None;
    for attribute in attributes.elements::<Attribute>()? {
        match attribute.kind {
            oid::CONTENT_TYPE => content_type = Some(attribute.values.only::<ObjectIdentifier>()?),
            oid::MESSAGE_DIGEST => message_digest = Some(attribute.values.only::<OctetString>()?),
            _ => {}
        }
    }
    let fits = content_type == Some(oid::KEY_PACKAGE)
        && message_digest.is_some_and(|found| found.as_bytes() == digest);
    if fits {
        Ok(())
    } else {
        Err(KeyDeliveryError::Signature)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn attributes(content_type: Option<ObjectIdentifier>, digest: Option<&[u8]>) -> Set {
        let attribute = |kind, value| {
            let values = Set(value);
            Attribute { kind, values }.to_der().unwrap()
        };
        let content_type =
            content_type.map(|oid| attribute(oid::CONTENT_TYPE, oid.to_der().unwrap()));
        let digest = digest.map(|digest| {
            let octets = OctetString::new(digest).unwrap();
            attribute(oid::MESSAGE_DIGEST, octets.to_der().unwrap())
        });
        let both: Vec<_> = content_type.into_iter().chain(digest).collect();
        Set::of(&both)
    }

    /// RFC 5652 §5.3: both have to be there, and to be about this content.
    #[test]
    fn signed_attributes_name_the_content_and_its_digest() {
        let digest = [7; 32];
        let check =
            |content_type, found| check_attributes(&attributes(content_type, found), &digest);
        assert_eq!(check(Some(oid::KEY_PACKAGE), Some(&digest)), Ok(()));
        for (content_type, found) in [
            (Some(oid::DATA), Some(&digest[..])),
            (Some(oid::KEY_PACKAGE), Some(&[8; 32][..])),
            (None, Some(&digest[..])),
            (Some(oid::KEY_PACKAGE), None),
        ] {
            assert_eq!(check(content_type, found), Err(KeyDeliveryError::Signature));
        }
    }
}
