//! Certificate requests (RFC 4211 §3 to §7; its module has IMPLICIT tags).

use der::{
    Sequence,
    asn1::{Any, BitString, Int, ObjectIdentifier},
};

use super::{
    Algorithm, Extensions, GeneralName, Kept, Name, ProofOfPossession, PublicKeyInfo, Time,
};
use crate::oid;

/// `CertReqMsg` (RFC 4211 §3).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct CertReqMsg {
    /// What is asked for; the bytes are kept because the proof of possession signs them.
    pub cert_req: Kept<CertRequest>,
    /// Proof that the requester has the private key.
    #[asn1(optional = "true")]
    pub popo: Option<ProofOfPossession>,
    /// More about the request.
    #[asn1(optional = "true")]
    pub reg_info: Option<Vec<TypeAndValue>>,
}

/// `CertRequest` (RFC 4211 §5).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct CertRequest {
    /// Links request and response; 0 in the Lightweight CMP Profile.
    pub cert_req_id: i64,
    /// What the certificate shall contain.
    pub cert_template: CertTemplate,
    /// What controls its issue.
    #[asn1(optional = "true")]
    pub controls: Option<Vec<TypeAndValue>>,
}

impl CertRequest {
    /// The first control of this type.
    pub fn control(&self, oid: ObjectIdentifier) -> Option<&TypeAndValue> {
        self.controls
            .iter()
            .flatten()
            .find(|control| control.oid == oid)
    }
}

/// `CertTemplate` (RFC 4211 §5): every field is optional, an absent one is for the CA to choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Sequence)]
#[asn1(tag_mode = "IMPLICIT")]
pub struct CertTemplate {
    /// Version of the certificate: 2 for v3.
    #[asn1(context_specific = "0", optional = "true")]
    pub version: Option<i64>,
    /// Only in revocation requests.
    #[asn1(context_specific = "1", optional = "true")]
    pub serial_number: Option<Int>,
    /// Never set by a requester.
    #[asn1(context_specific = "2", optional = "true")]
    pub signing_alg: Option<Algorithm>,
    /// The CA.
    #[asn1(context_specific = "3", optional = "true", tag_mode = "EXPLICIT")]
    pub issuer: Option<Name>,
    /// The wished validity.
    #[asn1(context_specific = "4", optional = "true")]
    pub validity: Option<OptionalValidity>,
    /// The subject.
    #[asn1(context_specific = "5", optional = "true", tag_mode = "EXPLICIT")]
    pub subject: Option<Name>,
    /// The key; one without bits names the algorithm that the CA shall generate a key for (RFC 9483 §4.1.6).
    #[asn1(context_specific = "6", optional = "true")]
    pub public_key: Option<PublicKeyInfo>,
    /// Obsolete.
    #[asn1(context_specific = "7", optional = "true")]
    pub issuer_uid: Option<BitString>,
    /// Obsolete.
    #[asn1(context_specific = "8", optional = "true")]
    pub subject_uid: Option<BitString>,
    /// The extensions.
    #[asn1(context_specific = "9", optional = "true")]
    pub extensions: Option<Extensions>,
}

/// `OptionalValidity` (RFC 4211 §5).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct OptionalValidity {
    /// Not before.
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub not_before: Option<Time>,
    /// Not after.
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    pub not_after: Option<Time>,
}

/// `AttributeTypeAndValue` of controls and regInfo (RFC 4211 §6, §7).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct TypeAndValue {
    /// What it is.
    pub oid: ObjectIdentifier,
    /// Its value.
    pub value: Any,
}

/// `CertId` (RFC 4211 §6.5).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct CertId {
    /// The CA.
    pub issuer: GeneralName,
    /// The certificate.
    pub serial_number: Int,
}

/// A control, understood (RFC 4211 §6, RFC 9480 §2.15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// `regToken`: a one-time secret (RFC 4211 §6.1).
    RegToken(String),
    /// `authenticator`: a secret for a longer time (RFC 4211 §6.2).
    Authenticator(String),
    /// `oldCertID`: the certificate to be updated (RFC 4211 §6.5).
    OldCertId(CertId),
    /// `algId`: key algorithm in a template for requests (RFC 9480 §2.15).
    AlgId(Algorithm),
    /// `rsaKeyLen`: bits of an RSA key in a template for requests (RFC 9480 §2.15).
    RsaKeyLen(u64),
    /// Any other.
    Other(TypeAndValue),
}

impl Control {
    /// What a control says; its value has to be of its type.
    pub fn read(control: &TypeAndValue) -> der::Result<Self> {
        let value = &control.value;
        Ok(match control.oid {
            oid::REG_TOKEN => Self::RegToken(value.decode_as()?),
            oid::AUTHENTICATOR => Self::Authenticator(value.decode_as()?),
            oid::OLD_CERT_ID => Self::OldCertId(value.decode_as()?),
            oid::ALG_ID => Self::AlgId(value.decode_as()?),
            oid::RSA_KEY_LEN => Self::RsaKeyLen(value.decode_as()?),
            _ => Self::Other(control.clone()),
        })
    }

    /// As it stands in a request.
    pub fn write(&self) -> der::Result<TypeAndValue> {
        let (oid, value) = match self {
            Self::RegToken(text) => (oid::REG_TOKEN, Any::encode_from(text)?),
            Self::Authenticator(text) => (oid::AUTHENTICATOR, Any::encode_from(text)?),
            Self::OldCertId(id) => (oid::OLD_CERT_ID, Any::encode_from(id)?),
            Self::AlgId(algorithm) => (oid::ALG_ID, Any::encode_from(algorithm)?),
            Self::RsaKeyLen(bits) => (oid::RSA_KEY_LEN, Any::encode_from(bits)?),
            Self::Other(control) => return Ok(control.clone()),
        };
        Ok(TypeAndValue { oid, value })
    }
}
