//! Putting a certificate together (RFC 5280 §4): everything but the signature, so that it may be made anywhere.

use der::asn1::ObjectIdentifier;

use super::asn1::{
    INTEGER, OCTETS, bits, context, context_primitive, list, named_bits, oid, sequence, time, tlv,
    truth, unsigned,
};
use super::name::AltName;
use super::serial::Serial;
use crate::clock::Millis;

const SUBJECT_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
pub(super) const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
pub(super) const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
pub(super) const REASON_CODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");
const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.31");
const AUTHORITY_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const AUTHORITY_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.1");
const OCSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");
const CA_ISSUERS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.2");
const OCSP_NO_CHECK: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.5");

/// digitalSignature, as named bit.
pub(super) const DIGITAL_SIGNATURE: u16 = 0x8000;
/// keyCertSign and cRLSign.
pub(super) const CA_USAGE: u16 = 0x0600;

/// Everything of a certificate but its signature; names, key and algorithm in DER.
pub(super) struct Unsigned<'a> {
    pub(super) serial: &'a Serial,
    pub(super) algorithm: &'a [u8],
    pub(super) issuer: &'a [u8],
    pub(super) not_before: Millis,
    pub(super) not_after: Millis,
    pub(super) subject: &'a [u8],
    pub(super) public_key: &'a [u8],
    pub(super) extensions: &'a [Vec<u8>],
}

impl Unsigned<'_> {
    /// `TBSCertificate`: what is signed.
    pub(super) fn to_der(&self) -> Vec<u8> {
        let version = context(0, &[&unsigned(2)]);
        let serial = tlv(INTEGER, &[self.serial.as_bytes()]);
        let validity = sequence(&[&time(self.not_before), &time(self.not_after)]);
        let extensions = context(3, &[&list(self.extensions)]);
        sequence(&[
            &version,
            &serial,
            self.algorithm,
            self.issuer,
            &validity,
            self.subject,
            self.public_key,
            &extensions,
        ])
    }
}

/// What was signed, with the signature: a certificate or a list of revoked ones.
pub(super) fn signed(contents: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    sequence(&[contents, algorithm, &bits(signature)])
}

/// `Extension` around the DER of its value.
pub(super) fn extension(id: ObjectIdentifier, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { truth() } else { Vec::new() };
    sequence(&[&oid(id), &critical, &tlv(OCTETS, &[value])])
}

pub(super) fn basic_constraints(ca: bool, path_len: Option<u8>) -> Vec<u8> {
    let ca = if ca { truth() } else { Vec::new() };
    let path_len = path_len
        .map(|length| unsigned(length.into()))
        .unwrap_or_default();
    extension(BASIC_CONSTRAINTS, true, &sequence(&[&ca, &path_len]))
}

pub(super) fn key_usage(usage: u16) -> Vec<u8> {
    extension(KEY_USAGE, true, &named_bits(usage))
}

pub(super) fn extended_key_usage(usages: &[ObjectIdentifier]) -> Vec<u8> {
    let usages: Vec<Vec<u8>> = usages.iter().map(|usage| oid(*usage)).collect();
    extension(EXTENDED_KEY_USAGE, false, &list(&usages))
}

pub(super) fn subject_key_id(id: &[u8]) -> Vec<u8> {
    extension(SUBJECT_KEY_ID, false, &tlv(OCTETS, &[id]))
}

pub(super) fn authority_key_id(id: &[u8]) -> Vec<u8> {
    extension(
        AUTHORITY_KEY_ID,
        false,
        &sequence(&[&context_primitive(0, id)]),
    )
}

/// Critical where the subject is empty (RFC 5280 §4.2.1.6).
pub(super) fn subject_alt_name(names: &[AltName], critical: bool) -> Vec<u8> {
    let names: Vec<Vec<u8>> = names.iter().map(AltName::to_der).collect();
    extension(SUBJECT_ALT_NAME, critical, &list(&names))
}

/// One distribution point with every address: the same list is at each (RFC 5280 §4.2.1.13).
pub(super) fn crl_distribution_points(urls: &[String]) -> Vec<u8> {
    let urls: Vec<u8> = urls
        .iter()
        .flat_map(|url| context_primitive(6, url.as_bytes()))
        .collect();
    let point = sequence(&[&context(0, &[&context(0, &[&urls])])]);
    extension(CRL_DISTRIBUTION_POINTS, false, &sequence(&[&point]))
}

pub(super) fn authority_info(ocsp: &[String], ca_issuers: &[String]) -> Vec<u8> {
    let access = |method: ObjectIdentifier, url: &String| {
        sequence(&[&oid(method), &context_primitive(6, url.as_bytes())])
    };
    let all: Vec<Vec<u8>> = ocsp
        .iter()
        .map(|url| access(OCSP, url))
        .chain(ca_issuers.iter().map(|url| access(CA_ISSUERS, url)))
        .collect();
    extension(AUTHORITY_INFO, false, &list(&all))
}

/// Nobody asks whether the OCSP responder's own certificate was revoked (RFC 6960 §4.2.2.2.1).
pub(super) fn ocsp_no_check() -> Vec<u8> {
    extension(OCSP_NO_CHECK, false, &[5, 0])
}
