//! What is asked for: the bodies of first messages, checked (RFC 9483 §4.1 to §4.3).

use der::{Decode, asn1::ObjectIdentifier};
use x509_cert::ext::Extensions as ParsedExtensions;

use super::{AuthorityConfig, Event, TransactionId};
use crate::{
    asn1::{
        Body, CertId, CertReqMsg, CertTemplate, CertificationRequest, Control, Message, Name,
        RevDetails, TypeAndValue,
    },
    certificate::{CertificateParts, RequestParts},
    oid,
    possession::{self, Possession},
    protection::Protection,
    refusal::Refusal,
    rules,
};

/// `certReqId` of the one request of the Lightweight CMP Profile (RFC 9483 §4.1.1).
const CERT_REQ_ID: i64 = 0;
/// That of a response to p10cr, which has none of its own (RFC 9483 §4.1.4).
const P10CR_ID: i64 = -1;

/// Which kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// `ir`: into a new PKI, with a secret or with a certificate of another PKI (RFC 9483 §4.1.1).
    Initialization,
    /// `cr`: another certificate of a PKI that one is part of (RFC 9483 §4.1.2).
    Certification,
    /// `kur`: a new certificate for the one that protects the request (RFC 9483 §4.1.3).
    KeyUpdate,
    /// `p10cr`: by a PKCS #10 request (RFC 9483 §4.1.4).
    Pkcs10,
}

/// A request for a certificate. Its protection and its proof of possession are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// Which kind.
    pub kind: RequestKind,
    /// What the certificate shall contain. Of a PKCS #10 request: subject and key, the rest is in [`Self::pkcs10`].
    pub template: CertTemplate,
    /// Controls besides `oldCertID`.
    pub controls: Vec<TypeAndValue>,
    /// The certificate to be updated, as `oldCertID` names it; the one that protects the request when a kur has no `oldCertID`.
    pub old_certificate: Option<CertId>,
    /// The PKCS #10 request.
    pub pkcs10: Option<CertificationRequest>,
    /// What was proven about the key.
    pub possession: Possession,
    /// `certProfile`.
    pub profile: Option<String>,
    /// Who asks.
    pub requester: Protection,
    /// The RA that added its protection to the request.
    pub relay: Option<Protection>,
    /// Whether implicit confirmation is asked for.
    pub implicit_confirm: bool,
    pub(super) cert_req_id: i64,
}

/// Reads the body of a first message.
pub(super) fn read(
    transaction: TransactionId,
    message: &Message,
    requester: &Protection,
    relay: Option<Protection>,
    config: &AuthorityConfig,
) -> Result<Event, Refusal> {
    let mut request = match &*message.body {
        Body::Ir(requests) => crmf(
            requests,
            RequestKind::Initialization,
            message,
            requester,
            config,
        )?,
        Body::Cr(requests) => crmf(
            requests,
            RequestKind::Certification,
            message,
            requester,
            config,
        )?,
        Body::Kur(requests) => crmf(requests, RequestKind::KeyUpdate, message, requester, config)?,
        Body::P10cr(request) => pkcs10(request, message, requester)?,
        Body::Rr(details) => {
            let details = revocation(details, config.revocation_needs_reason)?;
            return Ok(Event::RevocationRequested {
                transaction,
                details: Box::new(details.clone()),
                requester: requester.clone(),
                relay,
            });
        }
        Body::Genm(infos) => {
            return Ok(Event::InfoRequested {
                transaction,
                infos: rules::read_infos(infos)?,
                profile: rules::profile(&message.header),
                requester: requester.clone(),
            });
        }
        other => return Err(Refusal::UnexpectedBody(other.kind())),
    };
    request.relay = relay;
    Ok(Event::Requested {
        transaction,
        request: Box::new(request),
    })
}

fn crmf(
    requests: &[CertReqMsg],
    kind: RequestKind,
    message: &Message,
    requester: &Protection,
    config: &AuthorityConfig,
) -> Result<CertificateRequest, Refusal> {
    let [request] = requests else {
        return Err(Refusal::Count {
            found: requests.len(),
        });
    };
    let cert_req = &request.cert_req;
    if cert_req.cert_req_id != CERT_REQ_ID {
        return Err(Refusal::CertReqId {
            expected: CERT_REQ_ID,
            found: cert_req.cert_req_id,
        });
    }
    let template = &cert_req.cert_template;
    check_template(template)?;
    let possession = possession::verify(request, requester, &config.protection.mac)?;
    let old_certificate = old_certificate(request, kind, requester)?;
    let controls = cert_req
        .controls
        .iter()
        .flatten()
        .filter(|control| control.oid != oid::OLD_CERT_ID)
        .cloned()
        .collect();
    Ok(CertificateRequest {
        kind,
        template: template.clone(),
        controls,
        old_certificate,
        pkcs10: None,
        possession,
        profile: rules::profile(&message.header),
        requester: requester.clone(),
        relay: None,
        implicit_confirm: rules::implicit_confirm(&message.header),
        cert_req_id: CERT_REQ_ID,
    })
}

/// RFC 4211 §5: serial number, signature algorithm and unique identifiers are not for the requester to choose.
fn check_template(template: &CertTemplate) -> Result<(), Refusal> {
    if template.version.is_some_and(|version| version != 2) {
        return Err(Refusal::Template("version is not v3"));
    }
    if template.serial_number.is_some() {
        return Err(Refusal::Template("the CA chooses the serial number"));
    }
    if template.signing_alg.is_some() {
        return Err(Refusal::Template("the CA chooses its signature algorithm"));
    }
    if template.issuer_uid.is_some() || template.subject_uid.is_some() {
        return Err(Refusal::Template("unique identifiers are obsolete"));
    }
    if let Some(extensions) = &template.extensions
        && ParsedExtensions::from_der(&extensions.to_der()).is_err()
    {
        return Err(Refusal::Template("the extensions cannot be read"));
    }
    // RFC 9483 §4.1.1: the subject is there; where the names are in subjectAltName alone, it is NULL-DN.
    if template.subject.is_none() {
        return Err(Refusal::Template("the subject is missing"));
    }
    Ok(())
}

/// The certificate that a kur updates is the one that protects it (RFC 9483 §4.1.3).
fn old_certificate(
    request: &CertReqMsg,
    kind: RequestKind,
    requester: &Protection,
) -> Result<Option<CertId>, Refusal> {
    let named = request
        .cert_req
        .control(oid::OLD_CERT_ID)
        .map(|control| match Control::read(control) {
            Ok(Control::OldCertId(id)) => Ok(id),
            _ => Err(Refusal::Control(oid::OLD_CERT_ID)),
        })
        .transpose()?;
    if kind != RequestKind::KeyUpdate {
        return Ok(named);
    }
    let Protection::Certificate { parts, .. } = requester else {
        return Err(Refusal::WrongProtection("a MAC"));
    };
    let own = cert_id(parts)?;
    match named {
        Some(id) if !same_certificate(&id, &own) => Err(Refusal::OldCertId),
        Some(id) => Ok(Some(id)),
        None => Ok(Some(own)),
    }
}

/// `CertId` of a certificate.
fn cert_id(parts: &CertificateParts) -> Result<CertId, Refusal> {
    let build = || -> der::Result<CertId> {
        Ok(CertId {
            issuer: crate::asn1::GeneralName::directory(&parts.issuer)?,
            serial_number: der::asn1::Int::new(&parts.serial)?,
        })
    };
    build().map_err(|_| Refusal::CertificateMalformed)
}

fn same_certificate(a: &CertId, b: &CertId) -> bool {
    let issuer: fn(&CertId) -> Option<Name> = |id| id.issuer.as_directory();
    issuer(a).is_some() && issuer(a) == issuer(b) && a.serial_number == b.serial_number
}

fn pkcs10(
    request: &CertificationRequest,
    message: &Message,
    requester: &Protection,
) -> Result<CertificateRequest, Refusal> {
    let parts = RequestParts::read(request)
        .map_err(|error| Refusal::Malformed(crate::DecodeError::from(error)))?;
    let possession = possession::verify_pkcs10(&parts)?;
    Ok(CertificateRequest {
        kind: RequestKind::Pkcs10,
        template: CertTemplate {
            subject: Some(parts.subject),
            public_key: Some(parts.public_key),
            ..CertTemplate::default()
        },
        controls: Vec::new(),
        old_certificate: None,
        pkcs10: Some(request.clone()),
        possession,
        profile: rules::profile(&message.header),
        requester: requester.clone(),
        relay: None,
        implicit_confirm: rules::implicit_confirm(&message.header),
        cert_req_id: P10CR_ID,
    })
}

/// One certificate, named by issuer and serial number, with a reason (RFC 9483 §4.2).
fn revocation(details: &[RevDetails], needs_reason: bool) -> Result<&RevDetails, Refusal> {
    let [details] = details else {
        return Err(Refusal::Count {
            found: details.len(),
        });
    };
    if details.cert_details.issuer.is_none() || details.cert_details.serial_number.is_none() {
        return Err(Refusal::RevocationDetails("issuer and serial number"));
    }
    if needs_reason && details.reason().is_none() {
        return Err(Refusal::RevocationDetails("a reason"));
    }
    Ok(details)
}

impl RevDetails {
    /// The reason code in `crlEntryDetails` (RFC 5280 §5.3.1); 8 is removeFromCRL: revive the certificate (RFC 9483 §4.2).
    pub fn reason(&self) -> Option<u8> {
        const REASON: ObjectIdentifier = oid::REASON_CODE;
        let extensions =
            ParsedExtensions::from_der(&self.crl_entry_details.as_ref()?.to_der()).ok()?;
        let value = extensions
            .iter()
            .find(|extension| extension.extn_id == REASON)?
            .extn_value
            .as_bytes();
        match value {
            // ENUMERATED of one byte.
            [0x0A, 1, code @ 0..=10] => Some(*code),
            _ => None,
        }
    }
}
