//! Issuing: from an order to a certificate on disk.

use std::time::Duration;

use der::Encode as _;

use super::certificate::{
    self, Unsigned, authority_key_id, basic_constraints, extended_key_usage, key_usage,
    subject_alt_name, subject_key_id,
};
use super::error::IssueError;
use super::order::{Authorisation, Initial, IssuedCertificate, Order};
use super::profile::{Choice, Names, Profile};
use super::serial::Serial;
use super::{Pki, audit, authority, sha256, unmet};
use crate::clock::Millis;
use crate::store::pki::{CertificateRecord, CertificateState, PkiWrite};
use crate::store::{Batch, StoreError, Write};

impl Pki {
    /// Issues a certificate. When this returns it is on disk, with what it used up and its line in the audit log.
    ///
    /// # Errors
    /// [`IssueError`] says which rule was broken; then nothing was issued or used up.
    pub async fn issue(&self, order: Order, now: Millis) -> Result<IssuedCertificate, IssueError> {
        let mut order = order;
        self.check_grounds(&mut order, now).await?;
        let name = order.profile.as_deref();
        let profile = self
            .profile(name)
            .ok_or_else(|| IssueError::Profile(name.unwrap_or_default().to_owned()))?;
        profile.check_who(&order)?;
        profile
            .check_key(&order.public_key)
            .map_err(IssueError::Key)?;
        if order.requested.ca {
            return Err(IssueError::CaRequested);
        }
        let names = profile.names(&order)?;
        let mut modified = names.modified;
        modified |= check_extensions(profile, &order)?;
        let validity = self.validity(profile, &order, now)?;
        modified |= validity.modified;
        if !self.0.store.has_room() {
            return Err(IssueError::Busy);
        }
        let serial = Serial::random().map_err(|error| IssueError::Random(error.to_string()))?;
        let subject = names
            .subject
            .to_der()
            .map_err(|_| IssueError::Malformed("the subject"))?;
        let contents = Unsigned {
            serial: &serial,
            algorithm: &self.0.authority().algorithm,
            issuer: &self.0.authority().name,
            not_before: validity.not_before,
            not_after: validity.not_after,
            subject: &subject,
            public_key: &order.public_key,
            extensions: &self.extensions(profile, &order, &names),
        }
        .to_der();
        let der = self
            .0
            .authority()
            .sign(contents)
            .await
            .map_err(|error| IssueError::Sign(error.0))?;
        let record = CertificateRecord {
            sequence: 0,
            serial: serial.as_bytes().to_vec(),
            issuer: self.0.authority().key_id.clone(),
            state: match order.initial {
                Initial::Unconfirmed => CertificateState::Unconfirmed,
                Initial::Valid => CertificateState::Valid,
            },
            revocation: None,
            profile: profile.name().to_owned(),
            subject: names.subject.to_string(),
            device: names.device,
            requester: order.requester.clone(),
            secret: match &order.authorisation {
                Authorisation::Secret { reference } => Some(reference.clone()),
                _ => None,
            },
            issued: now,
            not_before: validity.not_before,
            not_after: validity.not_after,
            fingerprint: sha256(&der),
            der: der.clone(),
        };
        self.store_issued(&order, &record, now).await?;
        Ok(IssuedCertificate {
            serial,
            der,
            record,
            modified,
        })
    }

    /// What the order rests on: the certificate that is renewed, or that protects the request.
    async fn check_grounds(&self, order: &mut Order, now: Millis) -> Result<(), IssueError> {
        let (serial, renewal) = match &order.authorisation {
            Authorisation::Certificate { serial } => (serial.clone(), false),
            Authorisation::Renewal { serial } => (serial.clone(), true),
            _ => return Ok(()),
        };
        let found = self.0.store.certificate(serial.as_bytes()).await;
        let found = found.map_err(|error| IssueError::Store(error.to_string()))?;
        let Some(old) = found.filter(|old| old.issuer == self.0.authority().key_id) else {
            return Err(IssueError::UnknownCertificate(serial));
        };
        match old.state {
            CertificateState::Valid => {}
            CertificateState::Revoked => return Err(IssueError::RevokedCertificate(serial)),
            CertificateState::Unconfirmed => {
                return Err(IssueError::UnconfirmedCertificate(serial));
            }
        }
        // A renewal stays what it was: the profile, and whose it is, are those of the old certificate.
        if renewal {
            order.profile.get_or_insert(old.profile);
        }
        let grace = match self.profile(order.profile.as_deref()) {
            Some(profile) if renewal => profile.renewal_grace(),
            _ => Duration::ZERO,
        };
        if now >= old.not_after.plus(grace) {
            return Err(IssueError::ExpiredCertificate {
                serial,
                end: old.not_after,
            });
        }
        match (&order.device, old.device) {
            (Some(known), Some(old)) if *known != old => Err(IssueError::OtherDevice {
                asked: known.clone(),
                known: old,
            }),
            (None, Some(old)) => {
                order.device = Some(old);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn validity(
        &self,
        profile: &Profile,
        order: &Order,
        now: Millis,
    ) -> Result<Validity, IssueError> {
        let authority = self.0.authority();
        if !authority.is_valid(now) {
            return Err(IssueError::AuthorityExpired);
        }
        let backdate = u64::try_from(profile.backdate().as_millis()).unwrap_or(u64::MAX);
        let begin = Millis(now.0.saturating_sub(backdate)).max(authority.not_before);
        let longest = now.plus(profile.lifetime());
        let mut end = longest;
        let mut modified = false;
        if let Some(asked) = order.requested.not_after {
            let shorter = asked < longest && asked > now;
            if shorter && profile.leaves(Choice::Lifetime) {
                end = asked;
            } else if asked.0 / 1000 != longest.0 / 1000 {
                modified = true;
                if profile.strict() {
                    return Err(IssueError::Validity);
                }
            }
        }
        Ok(Validity {
            not_before: whole_seconds(begin),
            // A certificate does not outlive its CA: nobody could verify it.
            not_after: whole_seconds(end.min(authority.not_after)),
            modified,
        })
    }

    fn extensions(&self, profile: &Profile, order: &Order, names: &Names) -> Vec<Vec<u8>> {
        let settings = &self.0.settings;
        let mut extensions = vec![
            basic_constraints(false, None),
            subject_key_id(&authority::key_id(&order.public_key)),
            authority_key_id(&self.0.authority().key_id),
        ];
        if profile.key_usage() != 0 {
            extensions.push(key_usage(profile.key_usage()));
        }
        if !profile.extended_key_usage().is_empty() {
            extensions.push(extended_key_usage(profile.extended_key_usage()));
        }
        if !names.san.is_empty() {
            extensions.push(subject_alt_name(&names.san, names.subject.is_empty()));
        }
        if !settings.crl_urls.is_empty() {
            extensions.push(certificate::crl_distribution_points(&settings.crl_urls));
        }
        if !(settings.ocsp_urls.is_empty() && settings.ca_issuers_urls.is_empty()) {
            extensions.push(certificate::authority_info(
                &settings.ocsp_urls,
                &settings.ca_issuers_urls,
            ));
        }
        extensions
    }

    async fn store_issued(
        &self,
        order: &Order,
        record: &CertificateRecord,
        now: Millis,
    ) -> Result<(), IssueError> {
        let mut batch = Batch::default();
        match &order.authorisation {
            Authorisation::Secret { reference } => {
                batch.push(Write::Pki(PkiWrite::SpendSecret {
                    reference: reference.clone(),
                    device: record.device.clone(),
                    profile: record.profile.clone(),
                    now,
                }));
            }
            Authorisation::Approval { id } => batch.push(Write::Pki(PkiWrite::UseApproval {
                id: id.clone(),
                key: sha256(&order.public_key),
                serial: record.serial.clone(),
            })),
            // It may have been revoked since it was looked at.
            Authorisation::Certificate { serial } | Authorisation::Renewal { serial } => {
                batch.push(Write::Pki(PkiWrite::RequireValid {
                    serial: serial.as_bytes().to_vec(),
                }));
            }
            Authorisation::Manufacturer { .. } | Authorisation::Operator { .. } => {}
        }
        batch.push(Write::Pki(PkiWrite::Issue(Box::new(record.clone()))));
        let serial = crate::account::hex(&record.serial);
        let detail = format!(
            "{} by {}, profile {}",
            record.subject, order.authorisation, record.profile
        );
        batch.push(audit(
            now,
            &order.requester,
            "certificate.issue",
            &serial,
            &detail,
            true,
        ));
        match self.0.store.write(batch).await {
            Ok(written) => {
                if written.revoked > 0 {
                    self.0.crl.changed();
                }
                Ok(())
            }
            Err(error) => Err(refused(&order.authorisation, &error)),
        }
    }
}

struct Validity {
    not_before: Millis,
    not_after: Millis,
    modified: bool,
}

fn whole_seconds(at: Millis) -> Millis {
    Millis(at.0 / 1000 * 1000)
}

fn refused(authorisation: &Authorisation, error: &StoreError) -> IssueError {
    match (unmet(error), authorisation) {
        (Some(problem), Authorisation::Secret { .. }) => IssueError::Secret(problem),
        (Some(problem), Authorisation::Approval { .. }) => IssueError::Approval(problem),
        (Some(_), Authorisation::Certificate { serial } | Authorisation::Renewal { serial }) => {
            IssueError::RevokedCertificate(serial.clone())
        }
        _ => IssueError::Store(error.to_string()),
    }
}

/// Whether the certificate has other usages and extensions than those asked for.
fn check_extensions(profile: &Profile, order: &Order) -> Result<bool, IssueError> {
    use der::asn1::ObjectIdentifier;
    const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
    const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
    let requested = &order.requested;
    let mut differing = Vec::new();
    if requested
        .key_usage
        .is_some_and(|usage| usage != profile.key_usage())
    {
        differing.push(KEY_USAGE);
    }
    if let Some(asked) = &requested.extended_key_usage {
        let given = profile.extended_key_usage();
        if asked.len() != given.len() || !asked.iter().all(|usage| given.contains(usage)) {
            differing.push(EXTENDED_KEY_USAGE);
        }
    }
    differing.extend(&requested.others);
    match differing.first() {
        Some(first) if profile.strict() => Err(IssueError::Extension(*first)),
        first => Ok(first.is_some()),
    }
}
