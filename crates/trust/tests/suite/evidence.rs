//! Makes CRLs and OCSP responses of every kind.

use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::digest;
use der::{
    Encode,
    asn1::{GeneralizedTime, UtcTime},
};
use homefleet_trust::Wanted;
use rcgen::{CrlDistributionPoint, SerialNumber, SigningKey};

use crate::forge::{Entity, With, endpoint, extension, now, tlv};

pub const CRL_URL: &str = "http://crl.example.com/issuer.crl";
pub const OCSP_URL: &str = "http://ocsp.example.com/";
pub const DAY: Duration = Duration::from_secs(86_400);

pub const ECDSA_SHA384: &[u8] = &[
    0x30, 0x0A, 0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x03,
];
const ECDSA_SHA256: &[u8] = &[
    0x30, 0x0A, 0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02,
];
pub const REASON: &[u8] = &[0x55, 0x1D, 0x15];
pub const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1D, 0x1D];
pub const DELTA: &[u8] = &[0x55, 0x1D, 0x1B];
pub const POINT: &[u8] = &[0x55, 0x1D, 0x1C];
pub const CRL_NUMBER: &[u8] = &[0x55, 0x1D, 0x14];
pub const ODD: &[u8] = &[0x2A, 0x03, 0x04];
pub const NONCE: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02];
const BASIC: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];

/// An instant to count from; any will do.
#[expect(
    clippy::disallowed_methods,
    reason = "there is no other way to have one"
)]
pub fn instant() -> Instant {
    Instant::now()
}

pub fn serial(number: u32) -> Vec<u8> {
    // A first byte below 0x80 and not 0 keeps it as it is.
    [&[0x11][..], &number.to_be_bytes()].concat()
}

/// A peer's certificate parameters with this serial number that names addresses.
pub fn revocable(number: u32, crl: Option<&str>, ocsp: Option<&str>) -> rcgen::CertificateParams {
    endpoint("peer").with(|p| name_addresses(p, number, crl, ocsp))
}

pub fn name_addresses(
    p: &mut rcgen::CertificateParams,
    number: u32,
    crl: Option<&str>,
    ocsp: Option<&str>,
) {
    p.serial_number = Some(SerialNumber::from(serial(number)));
    p.crl_distribution_points = crl
        .map(|url| CrlDistributionPoint {
            uris: vec![url.into()],
        })
        .into_iter()
        .collect();
    if let Some(url) = ocsp {
        let value = access(&[(1, url)]);
        let oid = [1, 3, 6, 1, 5, 5, 7, 1, 1];
        p.custom_extensions.push(extension(&oid, false, &value));
    }
}

/// `AuthorityInfoAccess` with methods id-ad-(number).
pub fn access(entries: &[(u8, &str)]) -> Vec<u8> {
    let entries: Vec<Vec<u8>> = entries
        .iter()
        .map(|(method, url)| {
            let oid = [0x2B, 6, 1, 5, 5, 7, 0x30, *method];
            tlv(0x30, &[&tlv(6, &[&oid]), &tlv(0x86, &[url.as_bytes()])])
        })
        .collect();
    tlv(0x30, &[&entries.concat()])
}

/// `Extension`.
pub fn raw_extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[1, 1, 0xFF] } else { &[] };
    tlv(0x30, &[&tlv(6, &[oid]), critical, &tlv(4, &[value])])
}

fn utc(time: SystemTime) -> Vec<u8> {
    UtcTime::from_system_time(time).unwrap().to_der().unwrap()
}

fn generalized(time: SystemTime) -> Vec<u8> {
    GeneralizedTime::from_system_time(time)
        .unwrap()
        .to_der()
        .unwrap()
}

/// The subject's DER, as the certificate has it.
pub fn subject(entity: &Entity) -> Vec<u8> {
    use der::Decode;
    let certificate = x509_cert::Certificate::from_der(&entity.der).unwrap();
    certificate.tbs_certificate().subject().to_der().unwrap()
}

fn key_bits(entity: &Entity) -> Vec<u8> {
    use der::Decode;
    let certificate = x509_cert::Certificate::from_der(&entity.der).unwrap();
    let info = certificate.tbs_certificate().subject_public_key_info();
    info.subject_public_key.raw_bytes().to_vec()
}

pub fn sha1(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes)
        .as_ref()
        .to_vec()
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

fn signed(tbs: Vec<u8>, signer: &Entity, more: &[u8]) -> Vec<u8> {
    let signature = signer.key.sign(&tbs).unwrap();
    let bits = tlv(3, &[&[0], &signature]);
    tlv(0x30, &[&tbs, ECDSA_SHA256, &bits, more])
}

/// A CRL as it should be; change what it is about.
#[derive(Clone)]
pub struct Crl {
    pub version: Option<u8>,
    pub this_update: SystemTime,
    pub next_update: Option<SystemTime>,
    /// Serial number, extensions of the entry (each an `Extension`).
    pub revoked: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
    pub extensions: Vec<Vec<u8>>,
    /// The algorithm named in the signed part.
    pub algorithm: &'static [u8],
}

impl Crl {
    pub fn of(serials: &[u32]) -> Self {
        Self {
            version: Some(1),
            this_update: now() - DAY,
            next_update: Some(now() + 7 * DAY),
            revoked: serials.iter().map(|n| (serial(*n), Vec::new())).collect(),
            extensions: vec![raw_extension(CRL_NUMBER, false, &[2, 1, 5])],
            algorithm: ECDSA_SHA256,
        }
    }

    pub fn signed(&self, issuer: &Entity) -> Vec<u8> {
        self.signed_by(issuer, issuer)
    }

    /// Says that it is from `issuer` and is signed by another.
    pub fn signed_by(&self, issuer: &Entity, signer: &Entity) -> Vec<u8> {
        let date = utc(self.this_update);
        let mut entries = Vec::new();
        for (serial, extensions) in &self.revoked {
            let extensions = match extensions.as_slice() {
                [] => Vec::new(),
                list => tlv(0x30, &[&list.concat()]),
            };
            entries.extend(tlv(0x30, &[&tlv(2, &[serial]), &date, &extensions]));
        }
        if !entries.is_empty() {
            entries = tlv(0x30, &[&entries]);
        }
        let extensions = match self.extensions.as_slice() {
            [] => Vec::new(),
            list => tlv(0xA0, &[&tlv(0x30, &[&list.concat()])]),
        };
        let version = self.version.map(|v| tlv(2, &[&[v]])).unwrap_or_default();
        let next = self.next_update.map(utc).unwrap_or_default();
        let tbs = tlv(
            0x30,
            &[
                &version,
                self.algorithm,
                &subject(issuer),
                &date,
                &next,
                &entries,
                &extensions,
            ],
        );
        signed(tbs, signer, &[])
    }
}

pub fn reason(code: u8) -> Vec<Vec<u8>> {
    vec![raw_extension(REASON, false, &[0x0A, 1, code])]
}

/// `IssuingDistributionPoint` with these fields, critical as it has to be.
pub fn point(fields: &[&[u8]]) -> Vec<u8> {
    raw_extension(POINT, true, &tlv(0x30, fields))
}

/// `distributionPoint [0] fullName [0]` with one URL.
pub fn full_name(url: &str) -> Vec<u8> {
    tlv(0xA0, &[&tlv(0xA0, &[&tlv(0x86, &[url.as_bytes()])])])
}

#[derive(Clone, Copy)]
pub enum Said {
    Good,
    Revoked(Option<u8>),
    Unknown,
}

/// An OCSP response as it should be; change what it is about.
#[derive(Clone)]
pub struct Ocsp {
    pub said: Said,
    pub serial: Vec<u8>,
    pub this_update: SystemTime,
    pub next_update: Option<SystemTime>,
    pub sha256: bool,
    /// ResponderID by name instead of by key.
    pub by_name: bool,
    pub nonce: Option<Vec<u8>>,
    pub extensions: Vec<Vec<u8>>,
    /// Of the answer itself.
    pub single_extensions: Vec<Vec<u8>>,
    pub version: Option<u8>,
    /// In `certs`.
    pub certificates: Vec<Vec<u8>>,
    pub kind: &'static [u8],
}

impl Ocsp {
    pub fn says(said: Said, number: u32) -> Self {
        Self {
            said,
            serial: serial(number),
            this_update: now() - Duration::from_secs(60),
            next_update: Some(now() + DAY),
            sha256: false,
            by_name: false,
            nonce: None,
            extensions: Vec::new(),
            single_extensions: Vec::new(),
            version: None,
            certificates: Vec::new(),
            kind: BASIC,
        }
    }

    /// About a certificate of `issuer`, in the name of `responder`, signed by `signer`.
    pub fn signed(&self, issuer: &Entity, responder: &Entity, signer: &Entity) -> Vec<u8> {
        let (oid, name, key): (&[u8], _, _) = if self.sha256 {
            let oid = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
            (oid, sha256(&subject(issuer)), sha256(&key_bits(issuer)))
        } else {
            let oid = &[0x2B, 0x0E, 3, 2, 0x1A];
            (oid, sha1(&subject(issuer)), sha1(&key_bits(issuer)))
        };
        let id = tlv(
            0x30,
            &[
                &tlv(0x30, &[&tlv(6, &[oid]), &[5, 0]]),
                &tlv(4, &[&name]),
                &tlv(4, &[&key]),
                &tlv(2, &[&self.serial]),
            ],
        );
        let status = match self.said {
            Said::Good => vec![0x80, 0],
            Said::Unknown => vec![0x82, 0],
            Said::Revoked(reason) => {
                let reason = reason.map(|r| tlv(0xA0, &[&[0x0A, 1, r]]));
                let date = generalized(self.this_update);
                tlv(0xA1, &[&date, &reason.unwrap_or_default()])
            }
        };
        let next = self.next_update.map(|n| tlv(0xA0, &[&generalized(n)]));
        let of_single = match self.single_extensions.as_slice() {
            [] => Vec::new(),
            list => tlv(0xA1, &[&tlv(0x30, &[&list.concat()])]),
        };
        let single = tlv(
            0x30,
            &[
                &id,
                &status,
                &generalized(self.this_update),
                &next.unwrap_or_default(),
                &of_single,
            ],
        );
        let responder = if self.by_name {
            tlv(0xA1, &[&subject(responder)])
        } else {
            tlv(0xA2, &[&tlv(4, &[&sha1(&key_bits(responder))])])
        };
        let mut extensions = self.extensions.clone();
        if let Some(nonce) = &self.nonce {
            extensions.push(raw_extension(NONCE, false, &tlv(4, &[nonce])));
        }
        let extensions = match extensions.as_slice() {
            [] => Vec::new(),
            list => tlv(0xA1, &[&tlv(0x30, &[&list.concat()])]),
        };
        let version = self
            .version
            .map(|v| tlv(0xA0, &[&tlv(2, &[&[v]])]))
            .unwrap_or_default();
        let tbs = tlv(
            0x30,
            &[
                &version,
                &responder,
                &generalized(now()),
                &tlv(0x30, &[&single]),
                &extensions,
            ],
        );
        let certificates = match self.certificates.as_slice() {
            [] => Vec::new(),
            list => tlv(0xA0, &[&tlv(0x30, &[&list.concat()])]),
        };
        let basic = signed(tbs, signer, &certificates);
        let bytes = tlv(0x30, &[&tlv(6, &[self.kind]), &tlv(4, &[&basic])]);
        tlv(0x30, &[&[0x0A, 1, 0], &tlv(0xA0, &[&bytes])])
    }

    pub fn by(&self, issuer: &Entity) -> Vec<u8> {
        self.signed(issuer, issuer, issuer)
    }
}

pub fn wanted_crl(issuer: &Entity) -> Wanted {
    Wanted::Crl {
        url: CRL_URL.into(),
        issuer: issuer.der.clone(),
        for_ca: false,
    }
}

pub fn wanted_ocsp(issuer: &Entity, number: u32) -> Wanted {
    Wanted::Ocsp {
        url: OCSP_URL.into(),
        issuer: issuer.der.clone(),
        serial: serial(number),
        hash: homefleet_trust::CertIdHash::Sha1,
    }
}
