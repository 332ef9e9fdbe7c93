//! Whom an end entity trusts after a CA has a new root: the proof that one root follows another (RFC 9810 §4.4), and what announcements say
//! about roots (RFC 9810 §5.3.13 to §5.3.16).
//!
//! ```text
//!   old root ──signs──▶ newWithOld: the new key      proves that the owner of the old root wants the new one
//!   new root ──signs──▶ oldWithNew: the old key      proves that the owner of the new root knows of the old one
//! ```

use std::fmt;
use std::time::SystemTime;

use homefleet_cmp::announce::{Announcement, read};
use homefleet_cmp::asn1::{
    Body, CaKeyUpdate, Certificate, CertificateList, Limits, RevocationAnnouncement,
    RootCaKeyUpdate,
};
use homefleet_cmp::protection::ProtectionPolicy;
use homefleet_cmp::{CertificateParts, Refusal};
use homefleet_trust::{Anchor, Time};
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use super::entity::Believed;

/// Which certificate of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// The new root.
    NewWithNew,
    /// The new key, signed with the old one.
    NewWithOld,
    /// The old key, signed with the new one.
    OldWithNew,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NewWithNew => "newWithNew",
            Self::NewWithOld => "newWithOld",
            Self::OldWithNew => "oldWithNew",
        })
    }
}

/// Why an update proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotProven {
    /// It cannot be read.
    #[error("{0} cannot be read")]
    Unreadable(Link),
    /// It is not there.
    #[error("{0} is missing")]
    Missing(Link),
    /// It has not the name it should have.
    #[error("{0} has another subject or issuer")]
    Name(Link),
    /// It holds another key.
    #[error("{0} holds another key")]
    Key(Link),
    /// It is not signed with the key that should have signed it.
    #[error("{0} is not signed with the right key")]
    Signature(Link),
    /// It is not the certificate of a CA: its owner may have a certificate of the old root, and is no root.
    #[error("{0} is not the certificate of a CA")]
    NoCa(Link),
    /// It is not good now.
    #[error("{0} is not good now")]
    Date(Link),
}

/// The root that an update proves to follow `old`. With `both`, as for an announcement, oldWithNew has to be there; an answer to a question
/// may leave it out (RFC 9483 §4.3.2).
///
/// # Errors
/// [`NotProven`].
pub fn successor(
    old: &Anchor,
    update: &RootCaKeyUpdate,
    time: Time,
    both: bool,
) -> Result<Anchor, NotProven> {
    let new_with_old = update.new_with_old.as_ref();
    let new_with_old = new_with_old.ok_or(NotProven::Missing(Link::NewWithOld))?;
    if both && update.old_with_new.is_none() {
        return Err(NotProven::Missing(Link::OldWithNew));
    }
    let unreadable = NotProven::Unreadable(Link::NewWithNew);
    let old = Certificate::from_der(old.der()).map_err(|_| unreadable.clone())?;
    let old = CertificateParts::read(&old).map_err(|_| unreadable.clone())?;
    let new = root(Link::NewWithNew, &update.new_with_new, time)?;
    let signed = |link, parts: &CertificateParts, by: &CertificateParts| {
        if parts.issuer != by.subject {
            return Err(NotProven::Name(link));
        }
        let signed = parts.verify(&by.public_key);
        signed.map_err(|_| NotProven::Signature(link))
    };
    let is = |link, parts: &CertificateParts, root: &CertificateParts| {
        if parts.subject != root.subject {
            Err(NotProven::Name(link))
        } else if parts.public_key != root.public_key {
            Err(NotProven::Key(link))
        } else {
            Ok(())
        }
    };
    signed(Link::NewWithNew, &new, &new)?;
    let linked = root(Link::NewWithOld, new_with_old, time)?;
    is(Link::NewWithOld, &linked, &new)?;
    signed(Link::NewWithOld, &linked, &old)?;
    if let Some(old_with_new) = &update.old_with_new {
        let back = root(Link::OldWithNew, old_with_new, time)?;
        is(Link::OldWithNew, &back, &old)?;
        signed(Link::OldWithNew, &back, &new)?;
    }
    Anchor::from_der(&update.new_with_new.to_der()).map_err(|_| unreadable)
}

/// The parts of a CA's certificate that is good now.
fn root(link: Link, certificate: &Certificate, time: Time) -> Result<CertificateParts, NotProven> {
    let unreadable = || NotProven::Unreadable(link);
    let parts = CertificateParts::read(certificate).map_err(|_| unreadable())?;
    let read = x509_cert::Certificate::from_der(&certificate.to_der()).map_err(|_| unreadable())?;
    let tbs = read.tbs_certificate();
    let constraints = tbs.get_extension::<BasicConstraints>();
    let constraints = constraints.map_err(|_| unreadable())?;
    let usage = tbs.get_extension::<KeyUsage>().map_err(|_| unreadable())?;
    let may_sign = usage.is_none_or(|(_, usage)| usage.key_cert_sign());
    if !constraints.is_some_and(|(_, constraints)| constraints.ca) || !may_sign {
        return Err(NotProven::NoCa(link));
    }
    if let Time::Accurate(now) = time
        && !(parts.not_before.to_system_time()..=parts.not_after.to_system_time()).contains(&now)
    {
        return Err(NotProven::Date(link));
    }
    Ok(parts)
}

/// What is announced, as far as it is believed.
#[derive(Debug, Default)]
pub struct News {
    /// Roots that follow one that is trusted, with the one that each follows.
    pub followed: Vec<(Anchor, Anchor)>,
    /// Trusted roots that are given up, and from when on.
    pub retired: Vec<(Anchor, SystemTime)>,
    /// Certificates of the CA.
    pub certificates: Vec<Certificate>,
    /// Lists of revoked certificates, not looked at.
    pub lists: Vec<CertificateList>,
    /// Certificates that are revoked, or will be.
    pub revoked: Vec<RevocationAnnouncement>,
    /// What is not believed of it, and why.
    pub refused: Vec<String>,
}

impl News {
    /// Does to trusted roots what is announced: those that follow are added, those that are given up go when their time has come. The last
    /// one stays. Whether something has changed.
    pub fn apply(&self, trusted: &mut Vec<Anchor>, time: Time) -> bool {
        let before = trusted.len();
        for (_, new) in &self.followed {
            if trusted.iter().all(|known| known.der() != new.der()) {
                trusted.push(new.clone());
            }
        }
        let mut changed = trusted.len() != before;
        for (root, at) in &self.retired {
            let over = matches!(time, Time::Accurate(now) if *at <= now);
            let found = trusted.iter().position(|other| other.der() == root.der());
            if let Some(place) = found.filter(|_| over && trusted.len() > 1) {
                trusted.remove(place);
                changed = true;
            }
        }
        changed
    }
}

/// Reads announcements. A root is followed only where both links prove it. One is given up only by who is believed without it, so nobody
/// takes it away by what it vouches for itself.
///
/// # Errors
/// When nothing of it can be used.
pub fn news(bulletin: &[u8], believed: &Believed) -> Result<News, Refusal> {
    let mut news = News::default();
    if bulletin.is_empty() {
        return Ok(news);
    }
    let mut trusted = believed.anchors.clone();
    for one in announcements(bulletin, believed)? {
        match one {
            Ok(announcement) => match announcement.body {
                Body::Ckuann(update) => {
                    let update = match update {
                        CaKeyUpdate::V3(update) => update,
                        CaKeyUpdate::V2(update) => RootCaKeyUpdate {
                            new_with_new: update.new_with_new,
                            new_with_old: Some(update.new_with_old),
                            old_with_new: Some(update.old_with_new),
                        },
                    };
                    follow(&update, &mut trusted, believed.time, &mut news);
                }
                Body::Rann(revoked) => retire(bulletin, revoked, believed, &trusted, &mut news),
                Body::Cann(certificate) => news.certificates.push(certificate),
                Body::Crlann(lists) => news.lists.extend(lists),
                _ => {}
            },
            Err(refusal) => news.refused.push(refusal.to_string()),
        }
    }
    Ok(news)
}

fn announcements(
    bulletin: &[u8],
    believed: &Believed,
) -> Result<Vec<Result<Announcement, Refusal>>, Refusal> {
    read(
        bulletin,
        &Limits::default(),
        &ProtectionPolicy::default(),
        believed,
    )
}

fn follow(update: &RootCaKeyUpdate, trusted: &mut Vec<Anchor>, time: Time, news: &mut News) {
    let der = update.new_with_new.to_der();
    if trusted.iter().any(|known| known.der() == der) {
        return;
    }
    let mut why = None;
    for old in trusted.iter() {
        match successor(old, update, time, true) {
            Ok(new) => {
                news.followed.push((old.clone(), new.clone()));
                trusted.push(new);
                return;
            }
            // Of several roots the one that the link names says more.
            Err(NotProven::Name(_)) if why.is_some() => {}
            Err(not_proven) => why = Some(not_proven),
        }
    }
    if let Some(why) = why {
        news.refused
            .push(format!("a root that follows none: {why}"));
    }
}

fn retire(
    bulletin: &[u8],
    revoked: RevocationAnnouncement,
    believed: &Believed,
    trusted: &[Anchor],
    news: &mut News,
) {
    let is = |anchor: &&Anchor| names(&revoked, anchor);
    let Some(root) = trusted.iter().find(is).cloned() else {
        news.revoked.push(revoked);
        return;
    };
    let others: Vec<Anchor> = trusted
        .iter()
        .filter(|other| other.der() != root.der())
        .cloned()
        .collect();
    let without = Believed {
        anchors: others,
        ..believed.clone()
    };
    let again = announcements(bulletin, &without).unwrap_or_default();
    let still = again
        .iter()
        .flatten()
        .any(|announcement| matches!(&announcement.body, Body::Rann(other) if *other == revoked));
    if still {
        let at = revoked.will_be_revoked_at.to_system_time();
        news.retired.push((root, at));
    } else {
        let subject = root.subject();
        news.refused.push(format!(
            "who would have {subject} given up is not believed without it"
        ));
    }
}

/// Whether an announcement is about this root.
fn names(revoked: &RevocationAnnouncement, anchor: &Anchor) -> bool {
    let parts = Certificate::from_der(anchor.der())
        .and_then(|certificate| CertificateParts::read(&certificate));
    parts.is_ok_and(|parts| {
        revoked.cert_id.issuer.as_directory().as_ref() == Some(&parts.issuer)
            && revoked.cert_id.serial_number.as_bytes() == parts.serial
    })
}
