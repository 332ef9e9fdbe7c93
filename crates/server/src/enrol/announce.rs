//! What the CA announces (RFC 9482 §2.6): roots that follow others, its own certificate by a new root, roots that are given up, and its list of
//! revoked certificates.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use der::asn1::{GeneralizedTime, Int};
use homefleet_cmp::CertificateParts;
use homefleet_cmp::announce::Announcer;
use homefleet_cmp::asn1::{
    Body, CaKeyUpdate, CertId, Certificate, CertificateList, GeneralName, RevocationAnnouncement,
    RootCaKeyUpdate, Status,
};
use homefleet_cmp::protection::Protector;
use homefleet_net::cmp::Bulletin;

use crate::clock::Millis;
use crate::pki::{Hierarchy, Rollover, Stage};

/// How often what has not changed is signed anew: its messageTime says that it is still so.
const ANEW: Duration = Duration::from_secs(86_400);

/// What is announced.
#[derive(Default)]
pub(super) struct Announcements {
    bulletin: Bulletin,
    /// What was posted, and when.
    posted: Mutex<Option<(Vec<Body>, SystemTime)>>,
}

impl Announcements {
    pub(super) fn bulletin(&self) -> Bulletin {
        self.bulletin.clone()
    }

    /// Posts what is to be announced now, if that is something else than before. Whether it was.
    pub(super) fn post(
        &self,
        bodies: Vec<Body>,
        protector: &Protector,
        now: SystemTime,
    ) -> Result<bool, String> {
        let mut posted = self.lock();
        if let Some((before, at)) = &*posted
            && *before == bodies
            && now.duration_since(*at).is_ok_and(|since| since < ANEW)
        {
            return Ok(false);
        }
        let announcer = Announcer::new(protector.clone(), Vec::new());
        self.bulletin
            .announce(&announcer, bodies.clone(), now)
            .map_err(|error| error.to_string())?;
        *posted = Some((bodies, now));
        Ok(true)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Vec<Body>, SystemTime)>> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What there is to announce: of each rollover for as long as its old root would be good, and the list, if one is given.
pub(super) fn bodies(
    hierarchy: &Hierarchy,
    list: Option<&[u8]>,
    now: Millis,
) -> der::Result<Vec<Body>> {
    let mut updates = Vec::new();
    let mut certificates = Vec::new();
    let mut revoked = Vec::new();
    for rollover in &hierarchy.rollovers {
        let old = CertificateParts::read(&Certificate::from_der(&rollover.old)?)?;
        if Millis::from(old.not_after.to_system_time()) <= now {
            continue;
        }
        let update = update(rollover)?;
        updates.push(Body::Ckuann(CaKeyUpdate::V3(update)));
        if rollover.stage >= Stage::Switched {
            // The last one only: those before it lead to roots that were replaced.
            certificates = vec![Body::Cann(Certificate::from_der(&rollover.issuing)?)];
        }
        if rollover.stage == Stage::Retired {
            revoked.push(Body::Rann(retired(&old, rollover.since)?));
        }
    }
    let mut all = updates;
    all.extend(certificates);
    all.extend(revoked);
    if let Some(list) = list {
        all.push(Body::Crlann(vec![CertificateList::from_der(list)?]));
    }
    Ok(all)
}

/// The root that followed, with both links.
pub(super) fn update(rollover: &Rollover) -> der::Result<RootCaKeyUpdate> {
    Ok(RootCaKeyUpdate {
        new_with_new: Certificate::from_der(&rollover.new)?,
        new_with_old: Some(Certificate::from_der(&rollover.new_with_old)?),
        old_with_new: Some(Certificate::from_der(&rollover.old_with_new)?),
    })
}

/// RFC 9810 §5.3.15: from this moment on the root is not to be trusted.
fn retired(root: &CertificateParts, since: Millis) -> der::Result<RevocationAnnouncement> {
    let at = GeneralizedTime::from_unix_duration(Duration::from_secs(since.0 / 1000))?;
    Ok(RevocationAnnouncement {
        status: Status::REVOCATION_NOTIFICATION.0,
        cert_id: CertId {
            issuer: GeneralName::directory(&root.issuer)?,
            serial_number: Int::new(&root.serial)?,
        },
        will_be_revoked_at: at,
        bad_since_date: at,
        crl_details: None,
    })
}
