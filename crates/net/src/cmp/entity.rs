//! What an end entity needs beside a session: whom it believes, names for its certificate, keys of any kind.

use std::{net::IpAddr, time::SystemTime};

use homefleet_cmp::{
    CertificateParts,
    asn1::{
        CertTemplate, Certificate, Control, Extensions, GeneralName as CmpName, GeneralNames,
        RevDetails, TypeAndValue,
    },
    crypto::{KeyKind, KeyPair, Secret},
    protection::{Distrust, Peers},
};
use homefleet_trust::{Anchor, Policy, Purpose, Refusal, Time, validate_signer};
use x509_cert::{
    der::{
        self, Encode as _,
        asn1::{Ia5String, Int, OctetString},
        pem::{self, LineEnding},
    },
    ext::{
        Extension,
        pkix::{SubjectAltName, name::GeneralName},
    },
};

/// `id-ce-subjectAltName`.
const SUBJECT_ALT_NAME: der::asn1::ObjectIdentifier =
    der::asn1::ObjectIdentifier::new_unwrap("2.5.29.17");

/// Whom an end entity believes: who shares its secret, and whose certificate a trusted CA vouches for.
#[derive(Clone, Debug)]
pub struct Believed {
    /// Reference and secret.
    pub secret: Option<(Vec<u8>, Secret)>,
    /// The CAs.
    pub anchors: Vec<Anchor>,
    /// The time, if dates are looked at.
    pub time: Time,
    /// What a signer's certificate is used for: [`Purpose::Messages`], or [`Purpose::KeyGeneration`] of who made a private key.
    pub purpose: Purpose,
}

impl Believed {
    /// Those who protect messages, by these CAs, now.
    pub fn new(anchors: Vec<Anchor>) -> Self {
        Self {
            secret: None,
            anchors,
            time: Time::Accurate(SystemTime::now()),
            purpose: Purpose::Messages,
        }
    }
}

impl Peers for Believed {
    fn secret(&self, reference: &[u8]) -> Option<Secret> {
        let (known, secret) = self.secret.as_ref()?;
        (known == reference).then(|| secret.clone())
    }

    fn judge(&self, signer: &Certificate, others: &[Certificate]) -> Result<(), Distrust> {
        let chain = der_of(signer, others);
        let judged = validate_signer(
            &chain,
            &self.anchors,
            self.time,
            self.purpose,
            &Policy::default(),
        );
        match judged {
            Ok(_) => Ok(()),
            Err(refusal @ (Refusal::ExtendedKeyUsage { .. } | Refusal::KeyUsage { .. })) => {
                Err(Distrust::Unauthorized(refusal.to_string()))
            }
            Err(refusal) => Err(Distrust::Untrusted(refusal.to_string())),
        }
    }
}

/// Certificates as DER, in this order, each once; as many as a path may have.
pub fn der_of(first: &Certificate, others: &[Certificate]) -> Vec<Vec<u8>> {
    let mut chain = vec![first.to_der()];
    for other in others {
        let der = other.to_der();
        if chain.len() < Policy::default().max_chain && !chain.contains(&der) {
            chain.push(der);
        }
    }
    chain
}

/// A name in a certificate's `subjectAltName`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AltName {
    /// `uniformResourceIdentifier`.
    Uri(String),
    /// `dNSName`.
    Dns(String),
    /// `iPAddress`.
    Ip(IpAddr),
    /// `rfc822Name`.
    Email(String),
}

impl std::str::FromStr for AltName {
    type Err = String;

    /// `uri:…`, `dns:…`, `ip:…` or `email:…`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || format!("`{text}` begins with none of uri: dns: ip: email:");
        let (kind, name) = text.split_once(':').ok_or_else(unknown)?;
        if name.is_empty() || !name.is_ascii() {
            return Err(format!("`{text}` holds no name of ASCII characters"));
        }
        Ok(match kind.to_ascii_lowercase().as_str() {
            "uri" => Self::Uri(name.to_owned()),
            "dns" => Self::Dns(name.to_owned()),
            "email" => Self::Email(name.to_owned()),
            "ip" => Self::Ip(
                name.parse()
                    .map_err(|_| format!("`{name}` is no IP address"))?,
            ),
            _ => return Err(unknown()),
        })
    }
}

/// Extensions that ask for these alternative names.
///
/// # Errors
/// When a name cannot be encoded.
pub fn extensions(names: &[AltName]) -> der::Result<Extensions> {
    let names: der::Result<Vec<GeneralName>> = names
        .iter()
        .map(|name| {
            Ok(match name {
                AltName::Uri(text) => {
                    GeneralName::UniformResourceIdentifier(Ia5String::new(text.as_str())?)
                }
                AltName::Dns(text) => GeneralName::DnsName(Ia5String::new(text.as_str())?),
                AltName::Email(text) => GeneralName::Rfc822Name(Ia5String::new(text.as_str())?),
                AltName::Ip(IpAddr::V4(address)) => {
                    GeneralName::IpAddress(OctetString::new(address.octets())?)
                }
                AltName::Ip(IpAddr::V6(address)) => {
                    GeneralName::IpAddress(OctetString::new(address.octets())?)
                }
            })
        })
        .collect();
    let extension = Extension {
        extn_id: SUBJECT_ALT_NAME,
        critical: false,
        extn_value: OctetString::new(SubjectAltName(names?).to_der()?)?,
    };
    Extensions::from_der(&vec![extension].to_der()?)
}

/// `oldCertID`: the certificate that a kur updates (RFC 9483 §4.1.3).
///
/// # Errors
/// When the certificate cannot be read.
pub fn old_certificate(certificate: &Certificate) -> der::Result<TypeAndValue> {
    let parts = CertificateParts::read(certificate)?;
    Control::OldCertId(homefleet_cmp::asn1::CertId {
        issuer: CmpName::directory(&parts.issuer)?,
        serial_number: Int::new(&parts.serial)?,
    })
    .write()
}

/// What a request for the revocation of a certificate says (RFC 9483 §4.2), with the number of a reason of RFC 5280 §5.3.1.
///
/// # Errors
/// When the certificate cannot be read.
pub fn revocation(certificate: &Certificate, reason: u8) -> der::Result<RevDetails> {
    let parts = CertificateParts::read(certificate)?;
    let extension = Extension {
        extn_id: homefleet_cmp::oid::REASON_CODE,
        critical: false,
        // ENUMERATED of one byte.
        extn_value: OctetString::new([0x0A, 0x01, reason])?,
    };
    Ok(RevDetails {
        cert_details: CertTemplate {
            serial_number: Some(Int::new(&parts.serial)?),
            issuer: Some(parts.issuer),
            ..CertTemplate::default()
        },
        crl_entry_details: Some(Extensions::from_der(&vec![extension].to_der()?)?),
    })
}

/// The subject of a CA's certificate, as the issuer of a revocation list is named.
///
/// # Errors
/// When the certificate cannot be read.
pub fn issuer_names(certificate: &Certificate) -> der::Result<GeneralNames> {
    let parts = CertificateParts::read(certificate)?;
    let names = vec![parts.subject_name()?];
    GeneralNames::from_der(&names.to_der()?)
}

/// A private key in PKCS #8, whatever its kind.
pub fn key_pair(pkcs8: &[u8]) -> Option<KeyPair> {
    [KeyKind::P256, KeyKind::P384, KeyKind::Rsa, KeyKind::Ed25519]
        .into_iter()
        .find_map(|kind| KeyPair::from_pkcs8(kind, pkcs8).ok())
}

/// The PKCS #8 private key in a PEM text.
pub fn key_from_pem(text: &str) -> Option<Vec<u8>> {
    const LABEL: &str = "PRIVATE KEY";
    let begin = text.find("-----BEGIN PRIVATE KEY-----")?;
    let (label, key) = pem::decode_vec(text[begin..].trim_end().as_bytes()).ok()?;
    (label == LABEL).then_some(key)
}

/// A PKCS #8 private key as PEM.
pub fn key_to_pem(pkcs8: &[u8]) -> String {
    // A key as long as one that was read has a text.
    pem::encode_string("PRIVATE KEY", LineEnding::LF, pkcs8).unwrap_or_default()
}

/// Certificates as PEM, one after the other.
pub fn certificates_to_pem<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> String {
    let certificates = certificates.into_iter();
    certificates
        .filter_map(|der| pem::encode_string("CERTIFICATE", LineEnding::LF, der).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn alternative_names_are_read_and_written() {
        for (text, name) in [
            (
                "uri:urn:bbf:usp:id:os::1",
                AltName::Uri("urn:bbf:usp:id:os::1".into()),
            ),
            ("DNS:a.example", AltName::Dns("a.example".into())),
            ("ip:::1", AltName::Ip("::1".parse().unwrap())),
            ("email:a@b", AltName::Email("a@b".into())),
        ] {
            assert_eq!(text.parse(), Ok(name), "{text}");
        }
        for text in ["a.example", "dns:", "ip:a", "x:y", "dns:ü"] {
            assert!(text.parse::<AltName>().is_err(), "{text}");
        }
        let names = [AltName::Dns("a".into()), AltName::Ip([1, 2, 3, 4].into())];
        let der = extensions(&names).unwrap().to_der();
        assert_eq!(
            der,
            b"\x30\x14\x30\x12\x06\x03\x55\x1d\x11\x04\x0b\x30\x09\x82\x01a\x87\x04\x01\x02\x03\x04"
        );
    }

    #[test]
    fn keys_of_every_kind_are_recognised_and_come_back_from_pem() {
        for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519] {
            let pkcs8 = KeyPair::generate_pkcs8(kind).unwrap();
            assert_eq!(key_pair(&pkcs8).unwrap().kind(), kind);
            let text = key_to_pem(&pkcs8);
            assert_eq!(key_from_pem(&text).as_deref(), Some(&*pkcs8));
            let behind = format!("something else\n{text}\n\n");
            assert_eq!(key_from_pem(&behind).as_deref(), Some(&*pkcs8));
        }
        assert!(key_pair(b"no key").is_none());
        assert!(key_from_pem("-----BEGIN PRIVATE KEY-----\n").is_none());
        assert!(key_from_pem("-----BEGIN EC PRIVATE KEY-----\n").is_none());
    }
}
