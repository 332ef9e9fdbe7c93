//! The CA's own services, each with a key and a certificate that are made, kept and renewed without anybody's help: the one
//! that protects CMP messages, and the one that answers OCSP (RFC 6960 §4.2.2.2). The CA's key signs certificates and lists only.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use der::asn1::ObjectIdentifier;
use der::{Decode as _, Encode as _};
use homefleet_cmp::crypto::{KeyKind, KeyPair, Signer};
use x509_cert::Certificate;
use zeroize::Zeroizing;

use super::certificate::{
    DIGITAL_SIGNATURE, Unsigned, authority_key_id, basic_constraints, extended_key_usage,
    key_usage, ocsp_no_check, subject_key_id,
};
use super::error::PkiError;
use super::serial::Serial;
use super::{Pki, audit, authority, sha256};
use crate::account::hex;
use crate::clock::Millis;
use crate::store::pki::{CertificateRecord, CertificateState, PkiWrite};
use crate::store::{Batch, Write};

/// Validity of a service's certificate; it is renewed when a third is left.
const LIFETIME: Duration = Duration::from_secs(90 * 86_400);
const BACKDATE: Duration = Duration::from_secs(3600);

const CMC_CA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.27");
const CMC_RA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.28");
const CM_KGA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.32");
const OCSP_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.9");

/// A key with its certificate.
#[derive(Clone)]
pub struct Credential {
    /// The key.
    pub signer: Arc<dyn Signer>,
    /// Its certificate first, then those of the CAs above it; the root is not among them, unless it issues itself. Links between roots
    /// follow.
    pub chain: Vec<Vec<u8>>,
    not_before: Millis,
    not_after: Millis,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential(until {})", self.not_after.to_timestamp())
    }
}

impl Credential {
    fn is_fresh(&self, now: Millis) -> bool {
        let third = self.not_after.since(self.not_before) / 3;
        self.not_before <= now && now.plus(third) < self.not_after
    }
}

/// Which service.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Service {
    Cmp,
    Ocsp,
}

impl Service {
    const ALL: [Self; 2] = [Self::Cmp, Self::Ocsp];

    fn name(self) -> &'static str {
        match self {
            Self::Cmp => "CMP",
            Self::Ocsp => "OCSP",
        }
    }
}

/// The services' credentials of now.
#[derive(Default)]
pub(super) struct Services {
    cmp: RwLock<Option<Credential>>,
    ocsp: RwLock<Option<Credential>>,
}

impl Services {
    fn of(&self, service: Service) -> &RwLock<Option<Credential>> {
        match service {
            Service::Cmp => &self.cmp,
            Service::Ocsp => &self.ocsp,
        }
    }

    fn current(&self, service: Service) -> Option<Credential> {
        let current = self
            .of(service)
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }
}

impl Pki {
    /// What protects the CA's CMP messages: it may act as RA and CA, and sign private keys that the CA made (RFC 9483 §4.1.6).
    ///
    /// # Errors
    /// When there is none, which only a failed renewal can cause.
    pub fn signer(&self) -> Result<Credential, PkiError> {
        self.credential(Service::Cmp)
    }

    /// What signs OCSP responses.
    pub(super) fn ocsp_signer(&self) -> Result<Credential, PkiError> {
        self.credential(Service::Ocsp)
    }

    fn credential(&self, service: Service) -> Result<Credential, PkiError> {
        let now = self.0.clock.now();
        self.0
            .services
            .current(service)
            .filter(|credential| now < credential.not_after)
            .map(|credential| self.under_the_roots(credential))
            .ok_or_else(|| PkiError::Key(format!("no certificate for {}", service.name())))
    }

    /// With the certificates of now above its own, and the links for who trusts another root.
    fn under_the_roots(&self, mut credential: Credential) -> Credential {
        credential.chain.truncate(1);
        credential.chain.extend(self.chain());
        let authority = self.0.authority();
        credential
            .chain
            .extend(authority.hierarchy.links.iter().cloned());
        credential
    }

    /// Takes the credentials from the store, or makes those that are missing or getting old.
    pub(super) async fn load_services(&self) -> Result<(), PkiError> {
        let now = self.0.clock.now();
        for service in Service::ALL {
            let services = &self.0.services;
            if services
                .current(service)
                .is_some_and(|credential| credential.is_fresh(now))
            {
                continue;
            }
            let stored = self.0.store.pki_document(&self.document(service)).await?;
            let stored = stored.and_then(|stored| self.read(service, &stored));
            let credential = match stored.filter(|credential| credential.is_fresh(now)) {
                Some(credential) => credential,
                None => self.make(service, now).await?,
            };
            let mut current = services
                .of(service)
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            *current = Some(credential);
        }
        Ok(())
    }

    async fn make(&self, service: Service, now: Millis) -> Result<Credential, PkiError> {
        let authority = self.0.authority();
        let failed = |error: String| PkiError::Key(error);
        let pkcs8 = KeyPair::generate_pkcs8(KeyKind::P256)
            .map(Zeroizing::new)
            .map_err(|error| failed(error.to_string()))?;
        let key = KeyPair::from_pkcs8(KeyKind::P256, &pkcs8)
            .map_err(|error| failed(error.to_string()))?;
        let spki = key.public_key().to_der();
        let serial = Serial::random().map_err(|error| PkiError::Random(error.to_string()))?;
        let backdated = now.0.saturating_sub(BACKDATE.as_millis() as u64) / 1000 * 1000;
        let not_before = Millis(backdated).max(authority.not_before);
        let not_after = Millis(now.plus(LIFETIME).0 / 1000 * 1000).min(authority.not_after);
        let subject = super::name::below(
            authority.certificate.tbs_certificate().subject(),
            service.name(),
        )
        .map_err(|error| failed(error.to_string()))?;
        let mut extensions = vec![
            basic_constraints(false, None),
            subject_key_id(&authority::key_id(&spki)),
            authority_key_id(&authority.key_id),
            key_usage(DIGITAL_SIGNATURE),
        ];
        match service {
            Service::Cmp => extensions.push(extended_key_usage(&[CMC_CA, CMC_RA, CM_KGA])),
            Service::Ocsp => {
                extensions.push(extended_key_usage(&[OCSP_SIGNING]));
                extensions.push(ocsp_no_check());
            }
        }
        let contents = Unsigned {
            serial: &serial,
            algorithm: &authority.algorithm,
            issuer: &authority.name,
            not_before,
            not_after,
            subject: &subject
                .to_der()
                .map_err(|error| failed(error.to_string()))?,
            public_key: &spki,
            extensions: &extensions,
        }
        .to_der();
        let der = authority.sign(contents).await;
        let der = der.map_err(|error| failed(error.to_string()))?;
        let record = CertificateRecord {
            sequence: 0,
            serial: serial.as_bytes().to_vec(),
            issuer: authority.key_id.clone(),
            state: CertificateState::Valid,
            revocation: None,
            profile: format!("({})", service.name()),
            subject: subject.to_string(),
            device: None,
            requester: "server".to_owned(),
            secret: None,
            issued: now,
            not_before,
            not_after,
            fingerprint: sha256(&der),
            der: der.clone(),
        };
        let name = self.document(service);
        let sealed = self.0.vault.seal(name.as_bytes(), &pkcs8);
        let sealed = sealed.map_err(|error| PkiError::Random(error.to_string()))?;
        let batch = Batch(vec![
            Write::Pki(PkiWrite::Document {
                name,
                value: join(&sealed, &der),
            }),
            audit(
                now,
                "server",
                "certificate.issue",
                &serial.to_string(),
                &record.subject,
                true,
            ),
            Write::Pki(PkiWrite::Issue(Box::new(record))),
        ]);
        self.0.store.write(batch).await?;
        Ok(self.assembled(key, der, not_before, not_after))
    }

    fn assembled(
        &self,
        key: KeyPair,
        der: Vec<u8>,
        not_before: Millis,
        not_after: Millis,
    ) -> Credential {
        Credential {
            signer: Arc::new(key),
            chain: vec![der],
            not_before,
            not_after,
        }
    }

    /// A stored credential, unless it cannot be used any more: it is replaced then.
    fn read(&self, service: Service, stored: &[u8]) -> Option<Credential> {
        let (sealed, der) = split(stored)?;
        let name = self.document(service);
        let pkcs8 = self.0.vault.open(name.as_bytes(), sealed)?;
        let key = KeyPair::from_pkcs8(KeyKind::P256, &pkcs8).ok()?;
        let certificate = Certificate::from_der(der).ok()?;
        let validity = certificate.tbs_certificate().validity();
        let not_before = Millis::from(validity.not_before.to_system_time());
        let not_after = Millis::from(validity.not_after.to_system_time());
        Some(self.assembled(key, der.to_vec(), not_before, not_after))
    }

    /// Its document; that of another issuing CA is another one.
    fn document(&self, service: Service) -> String {
        format!("{} {}", service.name(), hex(&self.0.authority().key_id))
    }
}

fn join(sealed: &[u8], der: &[u8]) -> Vec<u8> {
    // A sealed key has some hundred bytes.
    let length = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), sealed, der].concat()
}

fn split(stored: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = stored.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}
