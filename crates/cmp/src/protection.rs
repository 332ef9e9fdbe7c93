//! Protection of messages: verifying that of others over the received bytes, and protecting our own (RFC 9810 §5.1.3, RFC 9483 §3.2).

use std::{fmt, sync::Arc};

use der::asn1::{BitString, OctetString};
use rand_core::Rng;

use crate::{
    asn1::{
        Algorithm, Body, Certificate, GeneralName, Header, Kept, Message, Name, protected_part,
    },
    certificate::CertificateParts,
    crypto::{Mac, MacPolicy, Secret, SignError, SignatureError, Signer, verify_signature},
    refusal::Refusal,
};

/// What is known about those who send to us.
pub trait Peers {
    /// The secret shared with whoever this reference (`senderKID`) names.
    fn secret(&self, reference: &[u8]) -> Option<Secret>;

    /// Whether the signer of a message is trusted: its certificate, and whatever the message has besides for building a path.
    fn judge(&self, signer: &Certificate, others: &[Certificate]) -> Result<(), Distrust>;

    /// Whether the signer is an RA that may add its protection to the messages of others (RFC 9483 §5.2.2.1). Nobody is, unless this says so.
    fn judge_relay(&self, signer: &Certificate, others: &[Certificate]) -> Result<(), Distrust> {
        let _ = (signer, others);
        Err(Distrust::Unauthorized("not an RA".to_owned()))
    }

    /// A certificate that is known already, for messages that leave it out (RFC 9483 §3.3).
    fn certificate(&self, sender: &Name, key_id: Option<&[u8]>) -> Option<Certificate> {
        let _ = (sender, key_id);
        None
    }
}

/// Why a signer is not accepted, for the other side and the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// No path to a trusted CA, expired, revoked: signerNotTrusted.
    Untrusted(String),
    /// Trusted, but not for this: notAuthorized.
    Unauthorized(String),
}

/// Who protected a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Nobody. Only error and pkiConf messages may come so, and only where that is accepted.
    None,
    /// Somebody who knows the secret.
    Secret {
        /// The reference of the secret, `senderKID`.
        reference: Vec<u8>,
        /// The secret.
        secret: Secret,
        /// How the MAC was made.
        mac: Mac,
    },
    /// The holder of a certificate.
    Certificate {
        /// The certificate.
        certificate: Certificate,
        /// Its parts.
        parts: Box<CertificateParts>,
    },
}

impl Protection {
    /// Whether both are by the same secret or the same certificate.
    pub fn same_peer(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Secret { reference: a, .. }, Self::Secret { reference: b, .. }) => a == b,
            (
                Self::Certificate { certificate: a, .. },
                Self::Certificate { certificate: b, .. },
            ) => a == b,
            _ => false,
        }
    }
}

/// Which protection is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtectionPolicy {
    /// MAC algorithms.
    pub mac: MacPolicy,
    /// Whether a MAC is accepted at all.
    pub secrets: bool,
    /// Whether a signature is accepted at all.
    pub signatures: bool,
}

impl Default for ProtectionPolicy {
    /// Both, with the default MAC policy.
    fn default() -> Self {
        Self {
            mac: MacPolicy::default(),
            secrets: true,
            signatures: true,
        }
    }
}

/// Verifies the protection of a message (RFC 9483 §3.2, §3.5). `Protection::None` comes back for one without.
pub fn verify(
    message: &Message,
    policy: &ProtectionPolicy,
    peers: &dyn Peers,
) -> Result<Protection, Refusal> {
    let (algorithm, protection) = match (&message.header.protection_alg, &message.protection) {
        (None, None) => return Ok(Protection::None),
        (Some(algorithm), Some(protection)) => (algorithm, protection),
        _ => return Err(Refusal::ProtectionIncomplete),
    };
    let protection = protection.as_bytes().ok_or(Refusal::BadProtection)?;
    if Mac::is_mac(algorithm.oid) {
        if !policy.secrets {
            return Err(Refusal::WrongProtection("a MAC"));
        }
        verify_mac(message, algorithm, protection, policy, peers)
    } else {
        if !policy.signatures {
            return Err(Refusal::WrongProtection("a signature"));
        }
        verify_certificate(message, algorithm, protection, peers)
    }
}

fn verify_mac(
    message: &Message,
    algorithm: &Algorithm,
    protection: &[u8],
    policy: &ProtectionPolicy,
    peers: &dyn Peers,
) -> Result<Protection, Refusal> {
    let mac = Mac::read(algorithm, &policy.mac).map_err(Refusal::MacAlgorithm)?;
    let reference = message
        .header
        .sender_kid
        .as_ref()
        .ok_or(Refusal::SenderKidMissing)?
        .as_bytes();
    let secret = peers.secret(reference).ok_or(Refusal::SecretUnknown)?;
    if !mac.verify(&secret, &message.protected_part(), protection) {
        return Err(Refusal::BadProtection);
    }
    Ok(Protection::Secret {
        reference: reference.to_vec(),
        secret,
        mac,
    })
}

fn verify_certificate(
    message: &Message,
    algorithm: &Algorithm,
    protection: &[u8],
    peers: &dyn Peers,
) -> Result<Protection, Refusal> {
    let header = &message.header;
    let sender = header.sender.as_directory();
    let key_id = header.sender_kid.as_ref().map(OctetString::as_bytes);
    let known = || peers.certificate(sender.as_ref()?, key_id);
    let (certificate, others) = match message.extra_certs().split_first() {
        Some((first, others)) => (first.clone(), others),
        None => (known().ok_or(Refusal::CertificateMissing)?, &[][..]),
    };
    let parts = CertificateParts::read(&certificate).map_err(|_| Refusal::CertificateMalformed)?;
    if sender.as_ref() != Some(&parts.subject) {
        return Err(Refusal::SenderDiffers);
    }
    if let (Some(named), Some(actual)) = (key_id, parts.key_id.as_deref())
        && named != actual
    {
        return Err(Refusal::SenderKidDiffers);
    }
    verify_signature(
        algorithm,
        &parts.public_key,
        &message.protected_part(),
        protection,
    )
    .map_err(|error| match error {
        SignatureError::Bad => Refusal::BadProtection,
        other => Refusal::SignatureAlgorithm(other),
    })?;
    peers
        .judge(&certificate, others)
        .map_err(|distrust| match distrust {
            Distrust::Untrusted(why) => Refusal::Untrusted(why),
            Distrust::Unauthorized(why) => Refusal::Unauthorized(why),
        })?;
    Ok(Protection::Certificate {
        certificate,
        parts: Box::new(parts),
    })
}

/// How we protect what we send.
#[derive(Clone)]
pub enum Protector {
    /// Not at all: for errors to somebody whom we share nothing with.
    None {
        /// The name to send under.
        sender: GeneralName,
    },
    /// By a MAC.
    Secret {
        /// The name to send under.
        sender: GeneralName,
        /// The reference of the secret, `senderKID`.
        reference: Vec<u8>,
        /// The secret.
        secret: Secret,
        /// The algorithm; each message gets a fresh salt.
        mac: Mac,
    },
    /// By a signature.
    Signer {
        /// The key.
        signer: Arc<dyn Signer>,
        /// Its certificate first, then those for the path to the root; sent in `extraCerts`.
        chain: Arc<[Certificate]>,
        /// The subject of the certificate.
        sender: GeneralName,
        /// The key identifier of the certificate.
        key_id: Option<Vec<u8>>,
    },
}

impl Protector {
    /// A MAC, under a name of the reference as `commonName` (RFC 9483 §3.1).
    pub fn secret(reference: &[u8], secret: Secret, mac: Mac) -> der::Result<Self> {
        let name = match std::str::from_utf8(reference) {
            Ok(text) => Name::common(text),
            Err(_) => Name::null(),
        };
        Ok(Self::Secret {
            sender: GeneralName::directory(&name)?,
            reference: reference.to_vec(),
            secret,
            mac,
        })
    }

    /// A signature by the key of the first certificate.
    pub fn signer(signer: Arc<dyn Signer>, chain: Vec<Certificate>) -> der::Result<Self> {
        let first = chain
            .first()
            .ok_or_else(|| der::ErrorKind::Failed.to_error())?;
        let parts = CertificateParts::read(first)?;
        Ok(Self::Signer {
            signer,
            sender: parts.subject_name()?,
            key_id: parts.key_id,
            chain: chain.into(),
        })
    }

    /// The name we send under.
    pub fn sender(&self) -> &GeneralName {
        match self {
            Self::None { sender } | Self::Secret { sender, .. } | Self::Signer { sender, .. } => {
                sender
            }
        }
    }

    /// Protects a message: fills in `sender`, `senderKID` and `protectionAlg`, and computes the protection over header and body.
    pub fn protect(
        &self,
        header: Header,
        body: Body,
        extra_certs: &[Certificate],
        rng: &mut impl Rng,
    ) -> Result<Message, ProtectError> {
        self.protect_kept(header, Kept::new(body)?, extra_certs, rng)
    }

    /// The same for a body of somebody else's, which stays as it is to the byte.
    pub fn protect_kept(
        &self,
        mut header: Header,
        body: Kept<Body>,
        extra_certs: &[Certificate],
        rng: &mut impl Rng,
    ) -> Result<Message, ProtectError> {
        header.sender = self.sender().clone();
        let mut certificates: Vec<Certificate> = Vec::new();
        let (header, protection) = match self {
            Self::None { .. } => (Kept::new(header)?, None),
            Self::Secret {
                reference,
                secret,
                mac,
                ..
            } => {
                let mac = mac.with_fresh_salt(rng);
                header.sender_kid = Some(OctetString::new(reference.as_slice())?);
                header.protection_alg = Some(mac.write()?);
                let header = Kept::new(header)?;
                let tag = mac.compute(secret, &protected_part(&header, &body));
                (header, Some(tag))
            }
            Self::Signer {
                signer,
                chain,
                key_id,
                ..
            } => {
                header.sender_kid = key_id.as_deref().map(OctetString::new).transpose()?;
                header.protection_alg = Some(signer.algorithm());
                let header = Kept::new(header)?;
                let signature = signer.sign(&protected_part(&header, &body))?;
                certificates.extend_from_slice(chain);
                (header, Some(signature))
            }
        };
        for certificate in extra_certs {
            if !certificates.contains(certificate) {
                certificates.push(certificate.clone());
            }
        }
        Ok(Message {
            header,
            body,
            protection: protection
                .map(|bytes| BitString::from_bytes(&bytes))
                .transpose()?,
            extra_certs: (!certificates.is_empty()).then_some(certificates),
        })
    }
}

impl fmt::Debug for Protector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None { .. } => "Protector::None",
            Self::Secret { .. } => "Protector::Secret",
            Self::Signer { .. } => "Protector::Signer",
        })
    }
}

/// Why a message could not be protected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtectError {
    /// It cannot be encoded.
    #[error("the message cannot be encoded: {0}")]
    Encode(der::Error),
    /// The key refused.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl From<der::Error> for ProtectError {
    fn from(error: der::Error) -> Self {
        Self::Encode(error)
    }
}
