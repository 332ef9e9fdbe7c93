//! How the content's key reaches its recipient (RFC 5652 §6.2, RFC 9481 §4): key agreement, key transport, or a secret.

use aws_lc_rs::{
    agreement::{self, ECDH_P256, ECDH_P384, UnparsedPublicKey},
    encoding::{AsDer, PublicKeyX509Der},
    key_wrap::{AES_128, AES_256, AesKek, KeyWrap},
    rsa::{
        OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
        PrivateDecryptingKey, PublicEncryptingKey,
    },
};
use der::{
    Decode, Encode, Sequence, Tag, TagNumber, Tagged,
    asn1::{Any, BitString, ObjectIdentifier, OctetString},
};
use rand_core::Rng;
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use super::KeyDeliveryError;
use crate::{
    asn1::Algorithm,
    certificate::CertificateParts,
    crypto::{Hash, MacPolicy, Secret, derive, read_pbkdf2, write_pbkdf2},
    oid,
};

/// For whom a key is encrypted.
#[derive(Clone, Copy, Debug)]
pub enum Recipient<'a> {
    /// The holder of a certificate: key agreement for P-256 and P-384 (RFC 9483 §4.1.6.1), key transport by RSAES-OAEP for RSA (§4.1.6.2).
    Certificate(&'a CertificateParts),
    /// Whoever knows the secret (RFC 9483 §4.1.6.3).
    Secret {
        /// The secret.
        secret: &'a Secret,
        /// Iterations of PBKDF2.
        iterations: u32,
    },
}

/// What opens an encrypted key.
#[derive(Clone, Copy)]
pub enum Opener<'a> {
    /// A P-256 key in PKCS #8.
    P256(&'a [u8]),
    /// A P-384 key in PKCS #8.
    P384(&'a [u8]),
    /// An RSA key in PKCS #8.
    Rsa(&'a [u8]),
    /// A secret, and which derivations are done with it.
    Secret(&'a Secret, MacPolicy),
}

/// `[1]` KeyAgreeRecipientInfo.
const AGREEMENT: Tag = tag(1);
/// `[3]` PasswordRecipientInfo.
const PASSWORD: Tag = tag(3);

const fn tag(number: u32) -> Tag {
    Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(number),
    }
}

/// `KeyTransRecipientInfo` (RFC 5652 §6.2.1).
#[derive(Sequence)]
struct Transport {
    version: u8,
    recipient: Any,
    algorithm: Algorithm,
    key: OctetString,
}

/// `KeyAgreeRecipientInfo` (RFC 5652 §6.2.2).
#[derive(Sequence)]
struct Agreement {
    version: u8,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    originator: Any,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    ukm: Option<OctetString>,
    algorithm: Algorithm,
    keys: Vec<AgreedKey>,
}

/// `RecipientEncryptedKey` (RFC 5652 §6.2.2).
#[derive(Sequence)]
struct AgreedKey {
    recipient: Any,
    key: OctetString,
}

/// `PasswordRecipientInfo` (RFC 5652 §6.2.4).
#[derive(Sequence)]
struct Password {
    version: u8,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    derivation: Option<Algorithm>,
    algorithm: Algorithm,
    key: OctetString,
}

/// `OriginatorPublicKey` (RFC 5652 §6.2.2); the curve may be left out.
#[derive(Sequence)]
struct OriginatorKey {
    algorithm: Algorithm,
    bits: BitString,
}

/// `ECC-CMS-SharedInfo` (RFC 5753 §7.2).
#[derive(Sequence)]
struct SharedInfo {
    algorithm: Algorithm,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    ukm: Option<OctetString>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT")]
    bits: OctetString,
}

/// Version of the EnvelopedData, and the RecipientInfo.
pub(super) fn wrap(
    recipient: &Recipient<'_>,
    key: &[u8],
    rng: &mut impl Rng,
) -> Result<(u8, Vec<u8>), KeyDeliveryError> {
    match recipient {
        Recipient::Secret { secret, iterations } => {
            let mut salt = [0; 16];
            rng.fill_bytes(&mut salt);
            let kek = derive(Hash::Sha256, *iterations, &salt, secret, 32);
            let info = Password {
                version: 0,
                derivation: Some(write_pbkdf2(&salt, *iterations, Some(32), Hash::Sha256)?),
                algorithm: bare(oid::AES256_WRAP),
                key: OctetString::new(aes_wrap(&kek, key)?)?,
            };
            Ok((3, implicit(&info, PASSWORD)?))
        }
        Recipient::Certificate(parts) => {
            let info = SubjectPublicKeyInfoOwned::from_der(&parts.public_key.to_der())?;
            match info.algorithm.oid {
                oid::RSA => transport(parts, key),
                oid::EC_PUBLIC_KEY => agree(parts, &info, key),
                _ => Err(KeyDeliveryError::Unsupported("a key of this kind")),
            }
        }
    }
}

/// `[0] SubjectKeyIdentifier` where the certificate has one; else issuer and serial number.
fn recipient_id(parts: &CertificateParts) -> Result<(bool, Any), KeyDeliveryError> {
    Ok(match &parts.key_id {
        Some(id) => (
            true,
            Any::new(
                Tag::ContextSpecific {
                    constructed: false,
                    number: TagNumber(0),
                },
                id.as_slice(),
            )?,
        ),
        None => {
            let serial = Any::new(Tag::Integer, parts.serial.as_slice())?;
            let issuer = [parts.issuer.to_der(), serial.to_der()?].concat();
            (false, Any::new(Tag::Sequence, issuer)?)
        }
    })
}

fn transport(parts: &CertificateParts, key: &[u8]) -> Result<(u8, Vec<u8>), KeyDeliveryError> {
    let failed = |_| KeyDeliveryError::Encrypt;
    let public = PublicEncryptingKey::from_der(&parts.public_key.to_der())
        .map_err(|_| KeyDeliveryError::Unsupported("a key of this kind"))?;
    let public = OaepPublicEncryptingKey::new(public).map_err(failed)?;
    let mut encrypted = vec![0; public.ciphertext_size()];
    let encrypted = public
        .encrypt(&OAEP_SHA256_MGF1SHA256, key, &mut encrypted, None)
        .map_err(failed)?
        .to_vec();
    let (by_key_id, recipient) = recipient_id(parts)?;
    let info = Transport {
        version: if by_key_id { 2 } else { 0 },
        recipient,
        algorithm: oaep_sha256()?,
        key: OctetString::new(encrypted)?,
    };
    Ok((info.version, info.to_der()?))
}

/// `RSAES-OAEP-params` (RFC 4055 §4.1).
#[derive(Sequence)]
struct OaepParameters {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    hash: Option<Algorithm>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    mask: Option<Algorithm>,
}

fn oaep_sha256() -> der::Result<Algorithm> {
    let sha256 = Algorithm {
        parameters: Some(Any::null()),
        ..Hash::Sha256.algorithm()
    };
    Ok(Algorithm {
        oid: oid::RSAES_OAEP,
        parameters: Some(Any::encode_from(&OaepParameters {
            mask: Some(Algorithm {
                oid: oid::MGF1,
                parameters: Some(Any::encode_from(&sha256)?),
            }),
            hash: Some(sha256),
        })?),
    })
}

/// A fresh key of ours with the recipient's (RFC 5753 §3.1).
fn agree(
    parts: &CertificateParts,
    info: &SubjectPublicKeyInfoOwned,
    key: &[u8],
) -> Result<(u8, Vec<u8>), KeyDeliveryError> {
    let curve = info
        .algorithm
        .parameters
        .as_ref()
        .and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    let algorithm = match curve {
        Some(oid::P256) => &ECDH_P256,
        Some(oid::P384) => &ECDH_P384,
        _ => return Err(KeyDeliveryError::Unsupported("a key on this curve")),
    };
    let ephemeral =
        agreement::PrivateKey::generate(algorithm).map_err(|_| KeyDeliveryError::Encrypt)?;
    let public = ephemeral
        .compute_public_key()
        .map_err(|_| KeyDeliveryError::Encrypt)?;
    let public: PublicKeyX509Der<'_> = public.as_der().map_err(|_| KeyDeliveryError::Encrypt)?;
    let originator = Any::from_der(public.as_ref())?;
    let kek = shared_key(
        &ephemeral,
        info.subject_public_key.raw_bytes(),
        Hash::Sha256,
        &bare(oid::AES256_WRAP),
        None,
        32,
        KeyDeliveryError::Encrypt,
    )?;
    let recipient = match recipient_id(parts)? {
        // RecipientKeyIdentifier is a SEQUENCE of the identifier and more (RFC 5652 §6.2.2).
        (true, id) => Any::new(tag(0), OctetString::new(id.value())?.to_der()?)?,
        (false, issuer_and_serial) => issuer_and_serial,
    };
    let info = Agreement {
        version: 3,
        originator: Any::new(tag(1), originator.value())?,
        ukm: None,
        algorithm: Algorithm {
            oid: oid::ECDH_SHA256,
            parameters: Some(Any::encode_from(&bare(oid::AES256_WRAP))?),
        },
        keys: vec![AgreedKey {
            recipient,
            key: OctetString::new(aes_wrap(&kek, key)?)?,
        }],
    };
    Ok((2, implicit(&info, AGREEMENT)?))
}

/// The content's key.
pub(super) fn unwrap(info: &[u8], opener: &Opener<'_>) -> Result<Vec<u8>, KeyDeliveryError> {
    let any = Any::from_der(info)?;
    match (any.tag(), opener) {
        (Tag::Sequence, Opener::Rsa(key)) => unwrap_transport(&Transport::from_der(info)?, key),
        (AGREEMENT, Opener::P256(key)) => unwrap_agreement(&sequence(&any)?, key, &ECDH_P256),
        (AGREEMENT, Opener::P384(key)) => unwrap_agreement(&sequence(&any)?, key, &ECDH_P384),
        (PASSWORD, Opener::Secret(secret, policy)) => {
            unwrap_password(&sequence(&any)?, secret, *policy)
        }
        (Tag::Sequence | AGREEMENT | PASSWORD, _) => Err(KeyDeliveryError::Decrypt),
        _ => Err(KeyDeliveryError::Unsupported("a recipient of this kind")),
    }
}

fn unwrap_transport(info: &Transport, key: &[u8]) -> Result<Vec<u8>, KeyDeliveryError> {
    let failed = |_| KeyDeliveryError::Decrypt;
    if info.algorithm != oaep_sha256()? {
        return Err(KeyDeliveryError::Unsupported("the key transport"));
    }
    let key = PrivateDecryptingKey::from_pkcs8(key).map_err(|_| KeyDeliveryError::Decrypt)?;
    let key = OaepPrivateDecryptingKey::new(key).map_err(failed)?;
    let mut plain = vec![0; key.min_output_size()];
    let plain = key
        .decrypt(
            &OAEP_SHA256_MGF1SHA256,
            info.key.as_bytes(),
            &mut plain,
            None,
        )
        .map_err(failed)?;
    Ok(plain.to_vec())
}

fn unwrap_agreement(
    info: &Agreement,
    key: &[u8],
    algorithm: &'static agreement::Algorithm,
) -> Result<Vec<u8>, KeyDeliveryError> {
    let hash = match info.algorithm.oid {
        oid::ECDH_SHA256 => Hash::Sha256,
        oid::ECDH_SHA384 => Hash::Sha384,
        oid::ECDH_SHA512 => Hash::Sha512,
        _ => return Err(KeyDeliveryError::Unsupported("the key agreement")),
    };
    let wrap: Algorithm = info
        .algorithm
        .parameters
        .as_ref()
        .ok_or(KeyDeliveryError::Decrypt)?
        .decode_as()?;
    let [agreed] = info.keys.as_slice() else {
        return Err(KeyDeliveryError::Unsupported("more than one recipient"));
    };
    if info.originator.tag() != tag(1) {
        return Err(KeyDeliveryError::Unsupported(
            "a key of the originator that is not in the message",
        ));
    }
    let originator: OriginatorKey = sequence(&info.originator)?;
    let private = agreement::PrivateKey::from_private_key_der(algorithm, key)
        .map_err(|_| KeyDeliveryError::Decrypt)?;
    let kek = shared_key(
        &private,
        originator.bits.raw_bytes(),
        hash,
        &wrap,
        info.ukm.clone(),
        wrap_bytes(&wrap)?,
        KeyDeliveryError::Decrypt,
    )?;
    aes_unwrap(&kek, agreed.key.as_bytes())
}

fn unwrap_password(
    info: &Password,
    secret: &Secret,
    policy: MacPolicy,
) -> Result<Vec<u8>, KeyDeliveryError> {
    let derivation = info
        .derivation
        .as_ref()
        .ok_or(KeyDeliveryError::Unsupported("a secret without derivation"))?;
    let (salt, iterations, _, prf) =
        read_pbkdf2(derivation).map_err(|_| KeyDeliveryError::Unsupported("the key derivation"))?;
    if !(policy.min_iterations..=policy.max_iterations).contains(&iterations)
        || (prf == Hash::Sha1 && !policy.sha1)
    {
        return Err(KeyDeliveryError::Unsupported(
            "a key derivation outside of the policy",
        ));
    }
    let kek = derive(prf, iterations, &salt, secret, wrap_bytes(&info.algorithm)?);
    aes_unwrap(&kek, info.key.as_bytes())
}

/// Diffie-Hellman and the derivation of ANSI X9.63 (SEC 1 §3.6.1) with `ECC-CMS-SharedInfo`.
fn shared_key(
    private: &agreement::PrivateKey,
    public: &[u8],
    hash: Hash,
    wrap: &Algorithm,
    ukm: Option<OctetString>,
    bytes: usize,
    failure: KeyDeliveryError,
) -> Result<Vec<u8>, KeyDeliveryError> {
    let bits = u32::try_from(bytes * 8).unwrap_or(0);
    let shared = SharedInfo {
        algorithm: wrap.clone(),
        ukm,
        bits: OctetString::new(bits.to_be_bytes())?,
    }
    .to_der()?;
    let public = UnparsedPublicKey::new(private.algorithm(), public);
    agreement::agree(private, public, failure, |secret| {
        let mut key = Vec::new();
        let mut counter = 1_u32;
        while key.len() < bytes {
            key.extend(hash.digest(&[secret, &counter.to_be_bytes(), &shared].concat()));
            counter += 1;
        }
        key.truncate(bytes);
        Ok(key)
    })
}

fn wrap_bytes(wrap: &Algorithm) -> Result<usize, KeyDeliveryError> {
    match wrap.oid {
        oid::AES128_WRAP => Ok(16),
        oid::AES256_WRAP => Ok(32),
        _ => Err(KeyDeliveryError::Unsupported("the key wrapping")),
    }
}

/// RFC 3394.
fn aes_wrap(kek: &[u8], key: &[u8]) -> Result<Vec<u8>, KeyDeliveryError> {
    let mut wrapped = vec![0; key.len() + 8];
    let wrapped = AesKek::new(&AES_256, kek)
        .and_then(|kek| kek.wrap(key, &mut wrapped))
        .map_err(|_| KeyDeliveryError::Encrypt)?;
    Ok(wrapped.to_vec())
}

fn aes_unwrap(kek: &[u8], wrapped: &[u8]) -> Result<Vec<u8>, KeyDeliveryError> {
    let cipher = if kek.len() == 16 { &AES_128 } else { &AES_256 };
    let mut key = vec![0; wrapped.len()];
    let key = AesKek::new(cipher, kek)
        .and_then(|kek| kek.unwrap(wrapped, &mut key))
        .map_err(|_| KeyDeliveryError::Decrypt)?;
    Ok(key.to_vec())
}

fn bare(oid: ObjectIdentifier) -> Algorithm {
    Algorithm {
        oid,
        parameters: None,
    }
}

/// The SEQUENCE under an implicit tag.
fn sequence<T: for<'a> Decode<'a, Error = der::Error>>(any: &Any) -> der::Result<T> {
    T::from_der(&Any::new(Tag::Sequence, any.value())?.to_der()?)
}

fn implicit(value: &impl Encode, tag: Tag) -> der::Result<Vec<u8>> {
    let any = Any::from_der(&value.to_der()?)?;
    Any::new(tag, any.value())?.to_der()
}
