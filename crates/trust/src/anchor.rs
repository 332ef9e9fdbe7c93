//! Trusted certificates, and certificates from PEM files.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{certificate::Certificate, error::Problem, fingerprint};

/// A trusted certificate: a root CA, an intermediate CA, the direct issuer of peers, or one peer's own (R-SEC.2, R-SEC.4a).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    der: Vec<u8>,
    /// The subject in comparable form.
    subject_key: Vec<u8>,
    subject: String,
}

impl Anchor {
    /// From the DER of one certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, AnchorError> {
        let certificate = Certificate::parse(der).map_err(AnchorError::Certificate)?;
        Ok(Self {
            der: der.to_vec(),
            subject_key: certificate.subject.key(),
            subject: certificate.subject.to_string(),
        })
    }

    /// From PEM text that holds exactly one certificate.
    pub fn from_pem(pem: &str) -> Result<Self, AnchorError> {
        let mut certificates = chain_from_pem(pem)?;
        if certificates.len() > 1 {
            return Err(AnchorError::Several {
                found: certificates.len(),
            });
        }
        let der = certificates.pop().unwrap_or_default();
        Self::from_der(&der)
    }

    /// The certificate's DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its subject, as RFC 4514 text.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// SHA-256 of its DER (R-SEC.2).
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.der)
    }

    pub(crate) fn subject_key(&self) -> &[u8] {
        &self.subject_key
    }
}

/// Every certificate of PEM text as an anchor.
pub fn anchors_from_pem(pem: &str) -> Result<Vec<Anchor>, AnchorError> {
    chain_from_pem(pem)?
        .iter()
        .map(|der| Anchor::from_der(der))
        .collect()
}

/// Why an anchor cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// The PEM text cannot be read.
    #[error("the trusted certificates cannot be read")]
    Pem(#[from] PemError),
    /// More than one certificate where one is expected.
    #[error("{found} certificates where one is expected; read them with anchors_from_pem")]
    Several {
        /// How many there are.
        found: usize,
    },
    /// The certificate cannot be read.
    #[error("the trusted certificate cannot be read: {0}")]
    Certificate(Problem),
}

/// Why certificates cannot be taken from PEM text (RFC 7468).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// There is no `-----BEGIN CERTIFICATE-----`.
    #[error("there is no certificate (no line -----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// A certificate begins and does not end.
    #[error("the certificate that begins in line {line} has no -----END CERTIFICATE----- line")]
    NoEnd {
        /// Line of its begin, counted from 1.
        line: usize,
    },
    /// The text between begin and end is not base64.
    #[error("the certificate that begins in line {line} is not base64")]
    Base64 {
        /// Line of its begin, counted from 1.
        line: usize,
    },
}

/// The certificates of PEM text, in its order, as DER (RFC 7468 §5.1). Text around them and other PEM blocks are skipped.
pub fn chain_from_pem(pem: &str) -> Result<Vec<Vec<u8>>, PemError> {
    let mut certificates = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in pem.lines().enumerate() {
        let line_number = number + 1;
        let line = line.trim();
        match line {
            "-----BEGIN CERTIFICATE-----" | "-----BEGIN X509 CERTIFICATE-----" => {
                if let Some((line, _)) = open {
                    return Err(PemError::NoEnd { line });
                }
                open = Some((line_number, String::new()));
            }
            "-----END CERTIFICATE-----" | "-----END X509 CERTIFICATE-----" => {
                if let Some((line, text)) = open.take() {
                    let der = STANDARD
                        .decode(text)
                        .map_err(|_| PemError::Base64 { line })?;
                    certificates.push(der);
                }
            }
            _ => {
                if let Some((_, text)) = &mut open {
                    text.push_str(line);
                }
            }
        }
    }
    match open {
        Some((line, _)) => Err(PemError::NoEnd { line }),
        None if certificates.is_empty() => Err(PemError::NoCertificate),
        None => Ok(certificates),
    }
}
