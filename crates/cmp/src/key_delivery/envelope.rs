//! `EnvelopedData` (RFC 5652 §6) with one recipient and AES-CBC (RFC 9481 §5).

use aws_lc_rs::{
    cipher::{
        AES_128, AES_256, Algorithm as Cipher, DecryptionContext, EncryptionContext,
        PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
    },
    iv::FixedLength,
};
use der::{
    Decode, Encode, Reader, Sequence, SliceReader, Tag, Tagged,
    asn1::{Any, ObjectIdentifier, OctetString},
};
use rand_core::Rng;

use super::{KeyDeliveryError, Opener, Recipient, recipient};
use crate::{
    asn1::{Algorithm, EnvelopedData},
    oid,
};

#[derive(Sequence)]
struct Enveloped {
    version: u8,
    recipients: Any,
    content: EncryptedContent,
}

#[derive(Sequence)]
struct EncryptedContent {
    content_type: ObjectIdentifier,
    algorithm: Algorithm,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    content: Option<OctetString>,
}

/// Encrypts a SignedData.
pub(super) fn encrypt(
    signed: &[u8],
    recipient: &Recipient<'_>,
    rng: &mut impl Rng,
) -> Result<EnvelopedData, KeyDeliveryError> {
    let failed = |_| KeyDeliveryError::Encrypt;
    let mut key = [0; 32];
    rng.fill_bytes(&mut key);
    let mut iv = [0; 16];
    rng.fill_bytes(&mut iv);
    let cipher = UnboundCipherKey::new(&AES_256, &key)
        .and_then(PaddedBlockEncryptingKey::cbc_pkcs7)
        .map_err(failed)?;
    let mut content = signed.to_vec();
    cipher
        .less_safe_encrypt(
            &mut content,
            EncryptionContext::Iv128(FixedLength::from(iv)),
        )
        .map_err(failed)?;
    let (version, info) = recipient::wrap(recipient, &key, rng)?;
    let enveloped = Enveloped {
        version,
        recipients: Any::new(Tag::Set, info)?,
        content: EncryptedContent {
            content_type: oid::SIGNED_DATA,
            algorithm: Algorithm {
                oid: oid::AES256_CBC,
                parameters: Some(Any::new(Tag::OctetString, iv)?),
            },
            content: Some(OctetString::new(content)?),
        },
    };
    Ok(EnvelopedData::from_der(&enveloped.to_der()?)?)
}

/// Decrypts the SignedData.
pub(super) fn decrypt(
    data: &EnvelopedData,
    opener: &Opener<'_>,
) -> Result<Vec<u8>, KeyDeliveryError> {
    let enveloped = Enveloped::from_der(&data.to_der())?;
    enveloped.recipients.tag().assert_eq(Tag::Set)?;
    let mut reader = SliceReader::new(enveloped.recipients.value())?;
    let info = reader.tlv_bytes()?;
    if !reader.is_finished() {
        return Err(KeyDeliveryError::Unsupported("more than one recipient"));
    }
    let content = enveloped.content;
    if content.content_type != oid::SIGNED_DATA {
        return Err(KeyDeliveryError::Unsupported("a content without signature"));
    }
    let cipher: &'static Cipher = match content.algorithm.oid {
        oid::AES128_CBC => &AES_128,
        oid::AES256_CBC => &AES_256,
        _ => return Err(KeyDeliveryError::Unsupported("the content encryption")),
    };
    let iv: OctetString = content
        .algorithm
        .parameters
        .ok_or(KeyDeliveryError::Decrypt)?
        .decode_as()?;
    let iv: [u8; 16] = iv
        .as_bytes()
        .try_into()
        .map_err(|_| KeyDeliveryError::Decrypt)?;
    let key = recipient::unwrap(info, opener)?;
    let cipher = UnboundCipherKey::new(cipher, &key)
        .and_then(PaddedBlockDecryptingKey::cbc_pkcs7)
        .map_err(|_| KeyDeliveryError::Decrypt)?;
    let mut bytes = content
        .content
        .ok_or(KeyDeliveryError::Decrypt)?
        .as_bytes()
        .to_vec();
    let plain = cipher
        .decrypt(&mut bytes, DecryptionContext::Iv128(FixedLength::from(iv)))
        .map_err(|_| KeyDeliveryError::Decrypt)?;
    Ok(plain.to_vec())
}
