//! What is ordered of the CA, and what comes back.

use std::fmt;

use der::Decode as _;
use der::asn1::ObjectIdentifier;
use x509_cert::ext::Extensions;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};
use x509_cert::name::Name;

use super::error::IssueError;
use super::name::AltName;
use super::serial::Serial;
use crate::clock::Millis;
use crate::store::pki::CertificateRecord;

/// An order of a certificate. Whoever gives it has verified who asks and that they have the private key.
#[derive(Debug, Clone)]
pub struct Order {
    /// Name of the profile; `None` = the default one.
    pub profile: Option<String>,
    /// What was asked for.
    pub requested: Requested,
    /// The key: SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    /// Which device it is for, as far as the authorisation tells: an Endpoint ID, or another name.
    pub device: Option<String>,
    /// Who asks, for the inventory.
    pub requester: String,
    /// By what right.
    pub authorisation: Authorisation,
    /// The CA made the key pair.
    pub central_key: bool,
    /// Whether its owner has yet to confirm it.
    pub initial: Initial,
}

/// State of a certificate when it is issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initial {
    /// It has to be confirmed.
    Unconfirmed,
    /// It is in use at once.
    Valid,
}

/// By what right a certificate is ordered. What it rests on is checked and used up in the same write as the certificate.
#[derive(Clone, PartialEq, Eq)]
pub enum Authorisation {
    /// The message was protected by an enrolment secret: one use of it is taken.
    Secret {
        /// Its reference.
        reference: Vec<u8>,
    },
    /// The message was protected by a certificate of a manufacturer that is trusted.
    Manufacturer {
        /// Subject of that certificate.
        subject: String,
    },
    /// An operator approved the request: the approval is used.
    Approval {
        /// Its identifier.
        id: String,
    },
    /// The message was protected by another certificate of this CA.
    Certificate {
        /// Its serial number.
        serial: Serial,
    },
    /// The message was protected by the certificate that is renewed.
    Renewal {
        /// Its serial number.
        serial: Serial,
    },
    /// An operator asks.
    Operator {
        /// Name of the token.
        name: String,
    },
}

impl fmt::Display for Authorisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret { reference } => {
                write!(f, "secret {}", super::secret::shown(reference))
            }
            Self::Manufacturer { subject } => write!(f, "manufacturer's certificate {subject}"),
            Self::Approval { id } => write!(f, "approval {id}"),
            Self::Certificate { serial } => write!(f, "certificate {serial}"),
            Self::Renewal { serial } => write!(f, "renewal of {serial}"),
            Self::Operator { name } => write!(f, "operator {name}"),
        }
    }
}

impl fmt::Debug for Authorisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requested {
    /// Subject.
    pub subject: Option<Name>,
    /// Names in subjectAltName.
    pub san: Vec<AltName>,
    /// End of validity.
    pub not_after: Option<Millis>,
    /// Key usage: named bits, digitalSignature is the highest.
    pub key_usage: Option<u16>,
    /// Extended key usage.
    pub extended_key_usage: Option<Vec<ObjectIdentifier>>,
    /// A certificate of a CA.
    pub ca: bool,
    /// Other extensions.
    pub others: Vec<ObjectIdentifier>,
}

impl Requested {
    /// Reads a subject (`Name`) and extensions (`Extensions`), both in DER.
    pub fn read(subject: Option<&[u8]>, extensions: Option<&[u8]>) -> Result<Self, IssueError> {
        let mut requested = Self {
            subject: subject
                .map(Name::from_der)
                .transpose()
                .map_err(|_| IssueError::Malformed("the subject"))?,
            ..Self::default()
        };
        let Some(extensions) = extensions else {
            return Ok(requested);
        };
        let all = Extensions::from_der(extensions)
            .map_err(|_| IssueError::Malformed("the extensions"))?;
        for extension in &all {
            requested.take(extension.extn_id, extension.extn_value.as_bytes())?;
        }
        Ok(requested)
    }

    fn take(&mut self, id: ObjectIdentifier, value: &[u8]) -> Result<(), IssueError> {
        use der::oid::AssociatedOid as _;
        match id {
            SubjectAltName::OID => {
                let names = SubjectAltName::from_der(value)
                    .map_err(|_| IssueError::Malformed("subjectAltName"))?;
                self.san = names.0.iter().map(AltName::from_general).collect();
            }
            KeyUsage::OID => {
                let bits = der::asn1::BitString::from_der(value)
                    .map_err(|_| IssueError::Malformed("keyUsage"))?;
                let mut bytes = bits.raw_bytes().iter().copied();
                let (high, low) = (bytes.next(), bytes.next());
                self.key_usage = Some(u16::from_be_bytes([high.unwrap_or(0), low.unwrap_or(0)]));
            }
            ExtendedKeyUsage::OID => {
                let usages = ExtendedKeyUsage::from_der(value)
                    .map_err(|_| IssueError::Malformed("extendedKeyUsage"))?;
                self.extended_key_usage = Some(usages.0);
            }
            BasicConstraints::OID => {
                let constraints = BasicConstraints::from_der(value)
                    .map_err(|_| IssueError::Malformed("basicConstraints"))?;
                self.ca |= constraints.ca;
            }
            other => self.others.push(other),
        }
        Ok(())
    }
}

/// A certificate that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// Serial number.
    pub serial: Serial,
    /// The certificate in DER.
    pub der: Vec<u8>,
    /// As the inventory has it.
    pub record: CertificateRecord,
    /// It differs from what was asked for (grantedWithMods).
    pub modified: bool,
}
