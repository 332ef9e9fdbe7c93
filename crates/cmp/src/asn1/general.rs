//! General information: of headers and of general messages (RFC 9810 §5.3.19, §5.3.20).

use der::{
    Choice, Sequence,
    asn1::{Any, GeneralizedTime, ObjectIdentifier},
};

use super::{
    Algorithm, CertTemplate, Certificate, CertificateList, GeneralNames, Name, RootCaKeyUpdate,
    Time, TypeAndValue,
};
use crate::oid;

/// `InfoTypeAndValue` (RFC 9810 §5.3.19).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct InfoTypeAndValue {
    /// What it is.
    pub info_type: ObjectIdentifier,
    /// Its value; absent in most questions.
    #[asn1(optional = "true")]
    pub info_value: Option<Any>,
}

impl InfoTypeAndValue {
    /// A question: the type alone.
    pub fn ask(info_type: ObjectIdentifier) -> Self {
        Self {
            info_type,
            info_value: None,
        }
    }
}

/// General information, understood. The value is absent where one asks, and where there is nothing to answer (RFC 9483 §4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Info {
    /// `currentCRL` (RFC 9810 §5.3.19.6).
    CurrentCrl(Option<CertificateList>),
    /// `unsupportedOIDs` (RFC 9810 §5.3.19.7).
    UnsupportedOids(Vec<ObjectIdentifier>),
    /// `implicitConfirm` (RFC 9810 §5.1.1.1).
    ImplicitConfirm,
    /// `confirmWaitTime` (RFC 9810 §5.1.1.2).
    ConfirmWaitTime(GeneralizedTime),
    /// `suppLangTags` (RFC 9810 §5.3.19.13).
    SuppLangTags(Vec<String>),
    /// `caCerts` (RFC 9810 §5.3.19.14).
    CaCerts(Option<Vec<Certificate>>),
    /// `rootCaCert`, the question for updates of this root (RFC 9810 §5.3.19.15).
    RootCaCert(Option<Certificate>),
    /// `rootCaKeyUpdate` (RFC 9810 §5.3.19.15).
    RootCaKeyUpdate(Option<Box<RootCaKeyUpdate>>),
    /// `certReqTemplate` (RFC 9810 §5.3.19.16).
    CertReqTemplate(Option<Box<CertReqTemplate>>),
    /// `certProfile` (RFC 9810 §5.1.1.4).
    CertProfile(Vec<String>),
    /// `crlStatusList`, the question for CRLs newer than these (RFC 9810 §5.3.19.17).
    CrlStatusList(Vec<CrlStatus>),
    /// `crls` (RFC 9810 §5.3.19.17).
    Crls(Option<Vec<CertificateList>>),
    /// Supported algorithms: `signKeyPairTypes`, `encKeyPairTypes` (RFC 9810 §5.3.19.2, §5.3.19.3).
    KeyPairTypes(ObjectIdentifier, Option<Vec<Algorithm>>),
    /// Any other.
    Other(InfoTypeAndValue),
}

impl Info {
    /// What an entry says; its value has to be of its type.
    pub fn read(entry: &InfoTypeAndValue) -> der::Result<Self> {
        let value = entry.info_value.as_ref();
        let needed = || value.ok_or_else(|| der::ErrorKind::Failed.to_error());
        Ok(match entry.info_type {
            oid::CURRENT_CRL => Self::CurrentCrl(value.map(Any::decode_as).transpose()?),
            oid::UNSUPPORTED_OIDS => Self::UnsupportedOids(needed()?.decode_as()?),
            oid::IMPLICIT_CONFIRM => match value {
                // The value is NULL; an absent one is understood.
                Some(any) if !any.is_null() => return Err(der::ErrorKind::Failed.to_error()),
                _ => Self::ImplicitConfirm,
            },
            oid::CONFIRM_WAIT_TIME => Self::ConfirmWaitTime(needed()?.decode_as()?),
            oid::SUPP_LANG_TAGS => Self::SuppLangTags(needed()?.decode_as()?),
            oid::CA_CERTS => Self::CaCerts(value.map(Any::decode_as).transpose()?),
            oid::ROOT_CA_CERT => Self::RootCaCert(value.map(Any::decode_as).transpose()?),
            oid::ROOT_CA_KEY_UPDATE => {
                Self::RootCaKeyUpdate(value.map(Any::decode_as).transpose()?.map(Box::new))
            }
            oid::CERT_REQ_TEMPLATE => {
                Self::CertReqTemplate(value.map(Any::decode_as).transpose()?.map(Box::new))
            }
            oid::CERT_PROFILE => Self::CertProfile(needed()?.decode_as()?),
            oid::CRL_STATUS_LIST => Self::CrlStatusList(needed()?.decode_as()?),
            oid::CRLS => Self::Crls(value.map(Any::decode_as).transpose()?),
            types @ (oid::SIGN_KEY_PAIR_TYPES | oid::ENC_KEY_PAIR_TYPES) => {
                Self::KeyPairTypes(types, value.map(Any::decode_as).transpose()?)
            }
            _ => Self::Other(entry.clone()),
        })
    }

    /// As it stands in a message.
    pub fn write(&self) -> der::Result<InfoTypeAndValue> {
        let encode = |value: der::Result<Any>| value.map(Some);
        let (info_type, info_value) = match self {
            Self::CurrentCrl(crl) => (
                oid::CURRENT_CRL,
                crl.as_ref().map(Any::encode_from).transpose()?,
            ),
            Self::UnsupportedOids(oids) => (oid::UNSUPPORTED_OIDS, encode(Any::encode_from(oids))?),
            Self::ImplicitConfirm => (oid::IMPLICIT_CONFIRM, Some(Any::null())),
            Self::ConfirmWaitTime(time) => {
                (oid::CONFIRM_WAIT_TIME, encode(Any::encode_from(time))?)
            }
            Self::SuppLangTags(tags) => (oid::SUPP_LANG_TAGS, encode(Any::encode_from(tags))?),
            Self::CaCerts(certs) => (
                oid::CA_CERTS,
                certs.as_ref().map(Any::encode_from).transpose()?,
            ),
            Self::RootCaCert(cert) => (
                oid::ROOT_CA_CERT,
                cert.as_ref().map(Any::encode_from).transpose()?,
            ),
            Self::RootCaKeyUpdate(update) => (
                oid::ROOT_CA_KEY_UPDATE,
                update
                    .as_ref()
                    .map(|update| Any::encode_from(&**update))
                    .transpose()?,
            ),
            Self::CertReqTemplate(template) => (
                oid::CERT_REQ_TEMPLATE,
                template
                    .as_ref()
                    .map(|template| Any::encode_from(&**template))
                    .transpose()?,
            ),
            Self::CertProfile(names) => (oid::CERT_PROFILE, encode(Any::encode_from(names))?),
            Self::CrlStatusList(list) => (oid::CRL_STATUS_LIST, encode(Any::encode_from(list))?),
            Self::Crls(crls) => (oid::CRLS, crls.as_ref().map(Any::encode_from).transpose()?),
            Self::KeyPairTypes(oid, algorithms) => {
                (*oid, algorithms.as_ref().map(Any::encode_from).transpose()?)
            }
            Self::Other(entry) => return Ok(entry.clone()),
        };
        Ok(InfoTypeAndValue {
            info_type,
            info_value,
        })
    }
}

/// `CertReqTemplateContent` (RFC 9810 §5.3.19.16).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct CertReqTemplate {
    /// What a request should contain; an empty value is for the requester to fill in.
    pub cert_template: CertTemplate,
    /// Which keys are allowed: controls `algId` and `rsaKeyLen`.
    #[asn1(optional = "true")]
    pub key_spec: Option<Vec<TypeAndValue>>,
}

/// `CRLStatus` (RFC 9810 §5.3.19.17).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct CrlStatus {
    /// Which CRL.
    pub source: CrlSource,
    /// `thisUpdate` of the CRL at hand; absent when there is none.
    #[asn1(optional = "true")]
    pub this_update: Option<Time>,
}

/// `CRLSource` (RFC 9810 §5.3.19.17).
#[derive(Clone, Debug, PartialEq, Eq, Choice)]
#[asn1(tag_mode = "EXPLICIT")]
pub enum CrlSource {
    /// By its distribution point.
    #[asn1(context_specific = "0", constructed = "true")]
    DistributionPoint(DistributionPointName),
    /// By its issuer.
    #[asn1(context_specific = "1", constructed = "true")]
    Issuer(GeneralNames),
}

/// `DistributionPointName` (RFC 5280 §4.2.1.13).
#[derive(Clone, Debug, PartialEq, Eq, Choice)]
#[asn1(tag_mode = "IMPLICIT")]
pub enum DistributionPointName {
    /// In full.
    #[asn1(context_specific = "0", constructed = "true")]
    FullName(GeneralNames),
    /// Relative to the CRL's issuer: the contents of one RDN.
    #[asn1(context_specific = "1", constructed = "true")]
    Relative(Name),
}
