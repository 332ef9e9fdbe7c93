//! Building a path from the peer's certificate to an anchor and validating it (RFC 5280 §6.1, RFC 4158).
//!
//! The search follows issuer names through the presented certificates, which may be out of order, superfluous or
//! repeated, until an anchor bears the name. A complete path is then validated from the anchor down: signatures first,
//! dates next, everything else last. When no path is valid, the failure that came furthest is reported.

use std::collections::HashMap;

use crate::{
    anchor::Anchor,
    certificate::Certificate,
    constraints::{self, Violation},
    context::{Policy, Time},
    decision::Source,
    error::{Purpose, Refusal},
    remembered::SignatureMemory,
    signature::{self, KeyProblem, SignatureProblem},
};

/// One certificate of a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link<'a> {
    pub(crate) certificate: &'a Certificate<'a>,
    pub(crate) source: Source,
}

/// What a search needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search<'a> {
    /// The presented certificates that could be read, with their index; the first is the peer's.
    pub(crate) presented: &'a [(usize, Certificate<'a>)],
    pub(crate) anchors: &'a [(usize, Certificate<'a>)],
    pub(crate) purpose: Purpose,
    pub(crate) time: Time,
    pub(crate) policy: &'a Policy,
    pub(crate) signatures: Option<&'a SignatureMemory>,
}

/// No path, and why.
#[derive(Clone, Debug)]
pub(crate) struct Failure<'a> {
    pub(crate) refusal: Refusal,
    /// The path it was found on; empty when there was none.
    pub(crate) path: Vec<Link<'a>>,
    rank: Rank,
}

/// How far a path came; a failure that came further says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// No anchor was reached.
    Unknown,
    /// An anchor of the right name was reached, the signatures do not hold.
    Signature,
    /// The search was cut off.
    Limit,
    /// The signatures hold, something else does not.
    Verified,
}

/// Anchors whose subject is the issuer of one of the presented certificates, or that are among them.
pub(crate) fn relevant<'a>(
    anchors: &'a [Anchor],
    presented: &[(usize, Certificate<'_>)],
) -> Vec<(usize, Certificate<'a>)> {
    let wanted: Vec<Vec<u8>> = presented.iter().map(|(_, c)| c.issuer.key()).collect();
    let fits = |anchor: &Anchor| {
        wanted.iter().any(|key| key == anchor.subject_key())
            || presented.iter().any(|(_, c)| c.der == anchor.der())
    };
    anchors
        .iter()
        .enumerate()
        .filter(|(_, anchor)| fits(anchor))
        .filter_map(|(index, anchor)| Some((index, Certificate::parse(anchor.der()).ok()?)))
        .collect()
}

impl<'a> Search<'a> {
    /// The first valid path, the peer's certificate first, the anchor last.
    pub(crate) fn run(self) -> Result<Vec<Link<'a>>, Failure<'a>> {
        let mut work = Work {
            search: self,
            steps: self.policy.max_search_steps,
            checks: self.policy.max_signature_checks,
            verified: HashMap::new(),
            failure: Failure {
                refusal: Refusal::UnknownIssuer,
                path: Vec::new(),
                rank: Rank::Unknown,
            },
        };
        let Some((index, leaf)) = self.presented.first() else {
            return Err(work.failure);
        };
        let mut path = vec![Link {
            certificate: leaf,
            source: Source::Presented(*index),
        }];
        match work.extend(&mut path) {
            Some(found) => Ok(found),
            None => Err(work.failure),
        }
    }
}

struct Work<'a> {
    search: Search<'a>,
    /// Candidates that may still be looked at.
    steps: usize,
    /// Signatures that may still be verified.
    checks: usize,
    /// Results of signature checks by (child, issuer).
    verified: HashMap<(Source, Source), Result<(), SignatureProblem>>,
    failure: Failure<'a>,
}

impl<'a> Work<'a> {
    /// Depth-first: completes the path if an anchor fits, else tries each presented certificate that could be next.
    fn extend(&mut self, path: &mut Vec<Link<'a>>) -> Option<Vec<Link<'a>>> {
        let tip = *path.last()?;
        let search = self.search;
        // The peer's certificate is itself trusted; further up, an anchor that is presented is found by its name.
        if path.len() == 1
            && let Some((index, anchor)) = search
                .anchors
                .iter()
                .find(|(_, a)| a.der == tip.certificate.der)
        {
            return self.complete(&[Link {
                certificate: anchor,
                source: Source::Anchor(*index),
            }]);
        }
        if path.len() >= search.policy.max_chain {
            self.note(Rank::Limit, Refusal::SearchLimit, path);
            return None;
        }
        for candidate in self.candidates(path) {
            if self.steps == 0 {
                self.note(Rank::Limit, Refusal::SearchLimit, path);
                return None;
            }
            self.steps -= 1;
            path.push(candidate);
            let found = match candidate.source {
                Source::Anchor(_) | Source::Broker(_) => self.complete(path),
                Source::Presented(_) => self.extend(path),
            };
            if found.is_some() {
                return found;
            }
            path.pop();
        }
        None
    }

    /// Possible issuers of the last certificate: anchors before others, matching key identifiers before others.
    fn candidates(&self, path: &[Link<'a>]) -> Vec<Link<'a>> {
        let Some(tip) = path.last() else {
            return Vec::new();
        };
        let search = self.search;
        let anchors = search
            .anchors
            .iter()
            .map(|(index, c)| (Source::Anchor(*index), c));
        let presented = search
            .presented
            .iter()
            .map(|(index, c)| (Source::Presented(*index), c))
            .filter(|(_, c)| path.iter().all(|link| link.certificate.der != c.der))
            .filter(|(_, c)| search.anchors.iter().all(|(_, a)| a.der != c.der));
        let mut out: Vec<Link<'a>> = anchors
            .chain(presented)
            .filter(|(_, c)| c.subject == tip.certificate.issuer)
            .map(|(source, certificate)| Link {
                certificate,
                source,
            })
            .collect();
        let wanted = tip.certificate.extensions.authority_key_id.as_deref();
        out.sort_by_key(|link| {
            let own = link.certificate.extensions.subject_key_id;
            let foreign = matches!((wanted, own), (Some(wanted), Some(own)) if wanted != own);
            (foreign, matches!(link.source, Source::Presented(_)))
        });
        out
    }

    fn complete(&mut self, path: &[Link<'a>]) -> Option<Vec<Link<'a>>> {
        if let Err((rank, refusal)) = self.signatures(path) {
            self.note(rank, refusal, path);
            return None;
        }
        let search = self.search;
        let valid = dates(path, search.time).and_then(|()| {
            (0..path.len())
                .rev()
                .try_for_each(|level| validate(path, level, search.purpose, search.policy))
        });
        match valid {
            Ok(()) => Some(path.to_vec()),
            Err(refusal) => {
                self.note(Rank::Verified, refusal, path);
                None
            }
        }
    }

    /// Every signature, the one by the anchor first (RFC 5280 §6.1.3 (a)(1)). An anchor's own is not looked at.
    fn signatures(&mut self, path: &[Link<'a>]) -> Result<(), (Rank, Refusal)> {
        for level in (0..path.len().saturating_sub(1)).rev() {
            let (child, issuer) = (path[level], path[level + 1]);
            let key = &issuer.certificate.key;
            signature::check_key(key, self.search.policy.min_rsa_bits)
                .map_err(|problem| (Rank::Signature, key_refusal(level + 1, problem)))?;
            let pair = (child.source, issuer.source);
            let result = match self.verified.get(&pair) {
                Some(result) => *result,
                None if self.checks == 0 => return Err((Rank::Limit, Refusal::SearchLimit)),
                None => {
                    self.checks -= 1;
                    let verify = || signature::verify(child.certificate, key);
                    let result = match self.search.signatures {
                        Some(known) => known.check(child.certificate, issuer.certificate, verify),
                        None => verify(),
                    };
                    self.verified.insert(pair, result);
                    result
                }
            };
            result.map_err(|problem| (Rank::Signature, signature_refusal(level, problem)))?;
        }
        Ok(())
    }

    fn note(&mut self, rank: Rank, refusal: Refusal, path: &[Link<'a>]) {
        if rank > self.failure.rank {
            self.failure = Failure {
                refusal,
                path: path.to_vec(),
                rank,
            };
        }
    }
}

fn key_refusal(level: usize, problem: KeyProblem) -> Refusal {
    match problem {
        KeyProblem::Size(bits) => Refusal::KeySize { level, bits },
        KeyProblem::Algorithm(algorithm) => Refusal::KeyAlgorithm { level, algorithm },
    }
}

/// The dates of every certificate, the anchor's too (RFC 5280 §6.1.3 (a)(2), R-MTP.3), or of none (R-MTP.2).
fn dates(path: &[Link<'_>], time: Time) -> Result<(), Refusal> {
    path.iter()
        .enumerate()
        .try_for_each(|(level, link)| date(link.certificate, level, time))
}

/// The dates of one certificate; both ends are part of its validity.
pub(crate) fn date(certificate: &Certificate<'_>, level: usize, time: Time) -> Result<(), Refusal> {
    match time {
        Time::Accurate(now) if now < certificate.not_before => Err(Refusal::NotYetValid { level }),
        Time::Accurate(now) if now > certificate.not_after => Err(Refusal::Expired { level }),
        Time::Accurate(_) | Time::Unknown => Ok(()),
    }
}

/// What a peer's certificate has to be on whatever ground it is accepted: everything but path and dates.
pub(crate) fn validate_alone(
    leaf: &Certificate<'_>,
    purpose: Purpose,
    policy: &Policy,
) -> Result<(), Refusal> {
    let link = Link {
        certificate: leaf,
        source: Source::Presented(0),
    };
    validate(&[link], 0, purpose, policy)
}

/// That a certificate which says that it signed itself did.
pub(crate) fn self_signature(leaf: &Certificate<'_>) -> Result<(), Refusal> {
    if !leaf.is_self_issued() {
        return Ok(());
    }
    signature::verify(leaf, &leaf.key).map_err(|problem| signature_refusal(0, problem))
}

fn signature_refusal(level: usize, problem: SignatureProblem) -> Refusal {
    match problem {
        SignatureProblem::Bad => Refusal::BadSignature { level },
        SignatureProblem::Algorithm(algorithm) => Refusal::SignatureAlgorithm { level, algorithm },
    }
}

/// Everything but signature and dates, for the certificate at one level.
fn validate(
    path: &[Link<'_>],
    level: usize,
    purpose: Purpose,
    policy: &Policy,
) -> Result<(), Refusal> {
    let certificate = path[level].certificate;
    let extensions = &certificate.extensions;
    // RFC 5280 §6.1.4 (o), §6.1.5 (e).
    if let Some(extension) = extensions.unknown_critical {
        return Err(Refusal::CriticalExtension { level, extension });
    }
    if level == 0 {
        signature::check_key(&certificate.key, policy.min_rsa_bits)
            .map_err(|problem| key_refusal(level, problem))?;
        // Every cipher suite offered authenticates by a signature (RFC 5280 §4.2.1.3, RFC 8446 §4.4.2.2).
        if extensions
            .key_usage
            .is_some_and(|usage| !usage.digital_signature())
        {
            return Err(Refusal::KeyUsage { level });
        }
    } else {
        validate_ca(path, level)?;
    }
    // A CA's extended key usage limits what it issues: not in RFC 5280, but what the field does, for connections.
    let limits = level == 0 || matches!(purpose, Purpose::ServerAuth | Purpose::ClientAuth);
    if limits && !extensions.allows(purpose) {
        return Err(Refusal::ExtendedKeyUsage { level, purpose });
    }
    // RFC 5280 §6.1.3 (b), (c).
    if level > 0 && certificate.is_self_issued() {
        return Ok(());
    }
    for (by, link) in path.iter().enumerate().skip(level + 1) {
        if let Some(constraints) = &link.certificate.extensions.name_constraints {
            constraints::check(constraints, certificate).map_err(|violation| match violation {
                Violation::Name(name) => Refusal::NameConstraint { level, by, name },
                Violation::Unsupported => Refusal::UnsupportedNameConstraint { level: by },
            })?;
        }
    }
    Ok(())
}

/// RFC 5280 §6.1.4 (k) to (n).
fn validate_ca(path: &[Link<'_>], level: usize) -> Result<(), Refusal> {
    let certificate = path[level].certificate;
    let extensions = &certificate.extensions;
    let is_anchor = level + 1 == path.len();
    match extensions.basic_constraints {
        Some(constraints) if constraints.ca => {
            let below = path[1..level]
                .iter()
                .filter(|link| !link.certificate.is_self_issued())
                .count();
            if let Some(allowed) = constraints.path_len
                && u64::try_from(below).is_ok_and(|below| below > allowed)
            {
                return Err(Refusal::PathLength { level, allowed });
            }
        }
        // An old root without extensions is a CA because it was configured as one.
        None if is_anchor && certificate.version < 3 => {}
        _ => return Err(Refusal::NotACa { level }),
    }
    if extensions
        .key_usage
        .is_some_and(|usage| !usage.key_cert_sign())
    {
        return Err(Refusal::KeyUsage { level });
    }
    Ok(())
}
