//! The walk through Figure MTP.1 ("Receiving a X.509 Certificate"), box by box.
//!
//! ```text
//! presented? ─ cached session? ─N─ dates valid? ─Y─ name matches? ─Y─ stored certificate? ─N─ trusted CA or broker? ─N─ trusted signature required?
//!     N              Y                  N                 N                    Y                      Y                       Y             N
//!     │              │                  │                 │                    └─── revoked? ─────────┘                       │             │
//!     │              │                  │                 │                    Y       │ N                                    │             │
//! Terminate      Establish          Terminate         Terminate           Terminate  Establish                            Terminate  Establish, with a timer
//! ```
//!
//! "Revoked?" has a third way out: while the answer is being fetched, the session is held.

use std::time::SystemTime;

use der::DateTime;

use crate::{
    certificate::Certificate,
    context::{Connection, Context, FirstUse, Policy, Time},
    decision::{Answer, Basis, ChainCertificate, Decision, DefaultEdge, Element, Outcome, Step},
    error::Refusal,
    ground::{Ground, Stored},
    host::{self, HostMatch},
    identity::{PeerIdentity, same_endpoint},
    path,
    presented::{Presented, read},
    revocation::{Unknown, Verdict, Wanted, earliest},
};

/// Decides about the certificates a peer presented, DER, the peer's own first, exactly as Figure MTP.1 says (R-MTP.1 to R-MTP.4a).
pub fn decide(chain: &[Vec<u8>], context: &Context<'_>) -> Decision {
    let mut walk = Walk {
        steps: Vec::new(),
        chain: Vec::new(),
    };
    let end = walk.run(chain, context);
    let mut decision = Decision {
        outcome: Outcome::Establish,
        steps: walk.steps,
        peer: None,
        chain: walk.chain,
        basis: None,
        valid_until: None,
    };
    match end {
        Ok(established) => {
            decision.peer = Some(established.peer);
            decision.basis = Some(established.basis);
            decision.valid_until = match context.time {
                Time::Accurate(_) => established.until,
                Time::Unknown => None,
            };
        }
        Err(End::Refused(refusal)) => decision.outcome = Outcome::Terminate(refusal),
        Err(End::Held(wanted)) => decision.outcome = Outcome::Hold(wanted),
    }
    decision
}

/// The good end of the walk.
struct Established {
    peer: PeerIdentity,
    basis: Basis,
    until: Option<SystemTime>,
}

/// The other ends.
enum End {
    Refused(Refusal),
    Held(Vec<Wanted>),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        End::Refused(refusal)
    }
}

struct Walk {
    steps: Vec<Step>,
    chain: Vec<ChainCertificate>,
}

impl Walk {
    fn run(&mut self, chain: &[Vec<u8>], context: &Context<'_>) -> Result<Established, End> {
        let (presented, unread) = self.presented(chain, context.policy)?;
        let anchors = path::relevant(context.anchors, &presented);
        let (Some((_, leaf)), Some(ground)) = (
            presented.first(),
            Ground::find(&presented, &anchors, context),
        ) else {
            return Err(Refusal::NoCertificate.into());
        };
        self.chain = ground.chain(&presented);
        let verdict = ground.revocation(leaf, context);
        let established = |basis: Option<Basis>| {
            let (peer, until) = ground.identity(leaf).ok_or(Refusal::UnknownIssuer)?;
            let evidence = match &verdict {
                Some(Verdict::Good { until, .. } | Verdict::Unclear { again: until, .. }) => *until,
                _ => None,
            };
            Ok(Established {
                basis: basis.unwrap_or(peer.basis),
                peer,
                until: earliest(Some(until), evidence),
            })
        };

        if self.cached(&ground, verdict.as_ref(), context) {
            return established(Some(Basis::CachedSession));
        }
        self.dates(leaf, context.time, &ground)?;
        self.name(leaf, &context.connection)?;
        if !self.stored(&ground)
            && let Err(refusal) = self.trusted(&ground, context, unread)
        {
            return self.first_use(leaf, &ground, context, refusal);
        }
        self.revoked(verdict.as_ref(), context)?;
        established(None)
    }

    /// R-MTP.1, and the limits on what is read at all. The second value counts superfluous certificates that cannot be read.
    fn presented<'a>(
        &mut self,
        chain: &'a [Vec<u8>],
        policy: &Policy,
    ) -> Result<Presented<'a>, Refusal> {
        let read = read(chain, policy);
        match &read {
            Ok((certificates, unread)) => {
                let mut detail = match chain.len() {
                    1 => "1 certificate".to_owned(),
                    count => format!("{count} certificates"),
                };
                if let Some((_, leaf)) = certificates.first() {
                    detail.push_str(&format!(", the peer's is {}", leaf.subject));
                }
                if *unread > 0 {
                    detail.push_str(&format!("; {unread} that cannot be read are left out"));
                }
                self.step(Element::CertificatePresented, Answer::Yes, detail);
            }
            Err(refusal) => self.step(
                Element::CertificatePresented,
                Answer::No,
                refusal.to_string(),
            ),
        }
        read
    }

    /// "Cached encrypted session?" It only counts as one when the certificate would still be accepted, dates and known
    /// revocation included: otherwise the walk goes on as for a new session and finds the reason.
    fn cached(
        &mut self,
        ground: &Ground<'_>,
        verdict: Option<&Verdict>,
        context: &Context<'_>,
    ) -> bool {
        let why = match (context.cached, ground.basis(), &ground.early, verdict) {
            (false, ..) => "the session is new",
            (true, _, Some(_), _) => "it is, and its certificate is out of date",
            (true, None, ..) => "it is, and nobody vouches for its certificate",
            (true, Some(_), None, Some(Verdict::Revoked { .. })) => {
                "it is, and its certificate is revoked"
            }
            (true, Some(_), None, Some(Verdict::Wanted(_))) => {
                "it is, and whether its certificate is revoked is to be found out anew"
            }
            (true, Some(_), None, Some(Verdict::Unclear { .. }))
                if context
                    .revocation
                    .is_some_and(|r| r.policy().unknown == Unknown::Refuse) =>
            {
                "it is, and whether its certificate is revoked could not be found out"
            }
            (true, Some(basis), None, _) => {
                let detail = format!("it was accepted before and still would be: {basis}");
                self.step(Element::CachedSession, Answer::Yes, detail);
                return true;
            }
        };
        self.step(Element::CachedSession, Answer::No, why.into());
        false
    }

    fn dates(
        &mut self,
        leaf: &Certificate<'_>,
        time: Time,
        ground: &Ground<'_>,
    ) -> Result<(), Refusal> {
        let Time::Accurate(now) = time else {
            let detail =
                "ignored at every level, there is no accurate absolute time (R-MTP.2)".into();
            self.step(Element::DatesValid, Answer::NotApplicable, detail);
            return Ok(());
        };
        let refusal = ground.early.clone().or_else(|| match &ground.search {
            // What does not rest on a path does not fail with one.
            Some(Err(failure)) if !ground.is_pinned() => Some(failure.refusal.clone()),
            _ => None,
        });
        match refusal {
            Some(refusal @ (Refusal::NotYetValid { level } | Refusal::Expired { level })) => {
                let mut detail = format!("it is {}; {refusal}", date(now));
                if let Some(certificate) = self.chain.get(level) {
                    detail.push_str(&format!(
                        " (valid from {} to {})",
                        date(certificate.not_before),
                        date(certificate.not_after)
                    ));
                }
                self.step(Element::DatesValid, Answer::No, detail);
                Err(refusal)
            }
            _ => {
                let detail = format!(
                    "it is {}; valid from {} to {}",
                    date(now),
                    date(leaf.not_before),
                    date(leaf.not_after)
                );
                self.step(Element::DatesValid, Answer::Yes, detail);
                Ok(())
            }
        }
    }

    fn name(&mut self, leaf: &Certificate<'_>, connection: &Connection<'_>) -> Result<(), Refusal> {
        let Connection::Initiated { host, endpoint_id } = connection else {
            let detail = "the peer opened the connection".into();
            self.step(Element::NameMatches, Answer::NotApplicable, detail);
            return Ok(());
        };
        let shown = host.escape_debug();
        let detail = if let Some(found) = host::find(host, &leaf.extensions.subject_alt_names) {
            match found {
                HostMatch::Dns(name) => format!("host {shown} matches dNSName {name}"),
                HostMatch::Ip(address) => {
                    format!("host {address} is an iPAddress of the certificate")
                }
            }
        } else if host::is_lan_only(host) {
            format!("host {shown} is in a domain of the local network, which no CA can vouch for")
        } else if let Some(id) =
            endpoint_id.filter(|id| PeerIdentity::of(leaf, None, Basis::FirstUse).is_endpoint(id))
        {
            format!(
                "host {shown} is not in the certificate, the target's Endpoint ID {} is",
                id.escape_debug()
            )
        } else {
            let id = endpoint_id.map_or(String::new(), |id| {
                format!(" nor Endpoint ID {}", id.escape_debug())
            });
            let detail = format!(
                "neither host {shown}{id} is in the certificate, which has {}",
                names(leaf)
            );
            self.step(Element::NameMatches, Answer::No, detail);
            return Err(Refusal::NameMismatch);
        };
        self.step(Element::NameMatches, Answer::Yes, detail);
        Ok(())
    }

    /// "Matches stored, valid cert ok for Controller?"
    fn stored(&mut self, ground: &Ground<'_>) -> bool {
        let (answer, detail) = match (&ground.stored, &ground.unusable) {
            (Stored::Nothing, _) => {
                let none = "no certificate is stored";
                self.not_done(Element::StoredCertificate, DefaultEdge::No, none);
                return false;
            }
            (Stored::Other, _) => (Answer::No, "this certificate is not stored".into()),
            (Stored::ForAnother(id), _) => {
                let id = id.escape_debug();
                (
                    Answer::No,
                    format!("it is stored for {id}, which is not the one connected to"),
                )
            }
            (Stored::For(_), Some(refusal)) => (Answer::No, format!("it is stored; {refusal}")),
            (Stored::For(ids), None) => {
                let ids = ids.join(", ");
                (
                    Answer::Yes,
                    format!("it is stored for {}", ids.escape_debug()),
                )
            }
        };
        self.step(Element::StoredCertificate, answer, detail);
        answer == Answer::Yes
    }

    /// "Signed by a trusted CA or is Trusted Broker?"
    fn trusted(
        &mut self,
        ground: &Ground<'_>,
        context: &Context<'_>,
        unread: usize,
    ) -> Result<(), Refusal> {
        let refusal = match (
            ground.basis(),
            ground.path(),
            &ground.search,
            &ground.unusable,
        ) {
            (Some(Basis::TrustedBroker), ..) => {
                let detail = "the certificate is a Trusted Broker's".into();
                self.step(Element::TrustedCa, Answer::Yes, detail);
                return Ok(());
            }
            (_, Some(path), ..) => {
                let detail = match path {
                    [.., anchor] if path.len() > 1 => format!(
                        "path of {} certificates to {}",
                        path.len(),
                        anchor.certificate.subject
                    ),
                    _ => "the certificate is itself configured as trusted".into(),
                };
                self.step(Element::TrustedCa, Answer::Yes, detail);
                return Ok(());
            }
            // A broker's, and no good for this: that says more than that its issuer is unknown.
            (_, None, _, Some(unusable)) if ground.broker.is_some() => unusable.clone(),
            (_, None, Some(Err(failure)), _) => failure.refusal.clone(),
            _ => Refusal::UnknownIssuer,
        };
        let mut detail = refusal.to_string();
        if refusal == Refusal::UnknownIssuer {
            match context.anchors.len() {
                0 => detail.push_str("; none is configured"),
                1 => detail.push_str("; 1 is configured"),
                count => detail.push_str(&format!("; {count} are configured")),
            }
            if unread > 0 {
                detail.push_str(&format!(
                    ", and {unread} presented certificates cannot be read"
                ));
            }
        }
        self.step(Element::TrustedCa, Answer::No, detail);
        Err(refusal)
    }

    /// "Trusted signature required?" Not required is only that somebody known signed: a certificate that is wrong in itself, or whose
    /// path fails for another reason than that it leads nowhere, is refused all the same.
    fn first_use(
        &mut self,
        leaf: &Certificate<'_>,
        ground: &Ground<'_>,
        context: &Context<'_>,
        refusal: Refusal,
    ) -> Result<Established, End> {
        let refused = if context.first_use == FirstUse::Refuse {
            Some((
                refusal,
                "by policy, no peer is trusted on first use".to_owned(),
            ))
        } else if refusal != Refusal::UnknownIssuer {
            Some((
                refusal,
                "a certificate that only nobody knows could be trusted on first use".into(),
            ))
        } else {
            let problem = ground.unusable.clone();
            problem
                .or_else(|| path::self_signature(leaf).err())
                .or_else(|| other_stored(leaf, context))
                .map(|refusal| (refusal.clone(), format!("no trust on first use: {refusal}")))
        };
        if let Some((refusal, detail)) = refused {
            self.step(Element::TrustedSignatureRequired, Answer::Yes, detail);
            return Err(refusal.into());
        }
        let detail = "by policy, a peer is trusted on first use; it is who it says only as far as later connections go";
        self.step(Element::TrustedSignatureRequired, Answer::No, detail.into());
        let mut peer = PeerIdentity::of(leaf, None, Basis::FirstUse);
        // A claim to many identities that nobody vouches for is none.
        peer.endpoint_ids.retain(|id| !id.contains('*'));
        Ok(Established {
            peer,
            basis: Basis::FirstUse,
            until: Some(leaf.not_after),
        })
    }

    /// "Revoked?"
    fn revoked(&mut self, verdict: Option<&Verdict>, context: &Context<'_>) -> Result<(), End> {
        let unknown = context.revocation.map(|r| r.policy().unknown);
        let (answer, detail, end) = match verdict {
            None => {
                let edge = DefaultEdge::No;
                self.not_done(Element::Revoked, edge, "revocation is not checked");
                return Ok(());
            }
            Some(Verdict::Good {
                certificates,
                until,
            }) => {
                let mut detail = match certificates {
                    1 => "1 certificate is looked at".to_owned(),
                    count => format!("{count} certificates are looked at"),
                };
                if let Some(until) = until {
                    detail.push_str(&format!("; this is known until {}", date(*until)));
                }
                (Answer::No, detail, None)
            }
            Some(Verdict::NoIssuer) => {
                let detail =
                    "the certificate is trusted itself, and no trusted issuer could revoke it";
                (Answer::NotApplicable, detail.into(), None)
            }
            Some(Verdict::Revoked { level, reason }) => {
                let refusal = Refusal::Revoked {
                    level: *level,
                    reason: *reason,
                };
                (Answer::Yes, refusal.to_string(), Some(refusal.into()))
            }
            Some(Verdict::Unclear { level, why, .. }) => {
                let refusal = Refusal::RevocationUnknown { level: *level };
                let detail = format!("{refusal}: {why}");
                match unknown {
                    Some(Unknown::Refuse) => (
                        Answer::Unclear(DefaultEdge::Yes),
                        detail,
                        Some(refusal.into()),
                    ),
                    _ => (Answer::Unclear(DefaultEdge::No), detail, None),
                }
            }
            Some(Verdict::Wanted(wanted)) => {
                let list: Vec<String> = wanted.iter().map(ToString::to_string).collect();
                (
                    Answer::Waiting,
                    list.join(", "),
                    Some(End::Held(wanted.clone())),
                )
            }
        };
        self.step(Element::Revoked, answer, detail);
        end.map_or(Ok(()), Err)
    }

    fn step(&mut self, element: Element, answer: Answer, detail: String) {
        self.steps.push(Step {
            element,
            answer,
            detail,
        });
    }

    fn not_done(&mut self, element: Element, edge: DefaultEdge, detail: &str) {
        self.step(element, Answer::NotDone(edge), detail.into());
    }
}

/// R-SEC.8: an Endpoint whose certificate is known does not come with another one for the first time.
fn other_stored(leaf: &Certificate<'_>, context: &Context<'_>) -> Option<Refusal> {
    let claimed = PeerIdentity::of(leaf, None, Basis::FirstUse);
    let fingerprint = leaf.fingerprint();
    let target = match context.connection {
        Connection::Initiated { endpoint_id, .. } => endpoint_id,
        Connection::Accepted => None,
    };
    let taken = |id: &str| {
        claimed.is_endpoint(id) || target.is_some_and(|target| same_endpoint(target, id))
    };
    context
        .stored
        .iter()
        .find(|stored| stored.fingerprint != fingerprint && taken(&stored.endpoint_id))
        .map(|stored| Refusal::OtherCertificateStored {
            endpoint_id: stored.endpoint_id.clone(),
        })
}

fn names(leaf: &Certificate<'_>) -> String {
    let identity = PeerIdentity::of(leaf, None, Basis::FirstUse);
    let names: Vec<String> = identity
        .dns_names
        .iter()
        .map(|name| format!("DNS:{name}"))
        .chain(
            identity
                .endpoint_ids
                .iter()
                .map(|id| format!("Endpoint ID {id}")),
        )
        .take(8)
        .collect();
    if names.is_empty() {
        "no name of either kind".into()
    } else {
        names.join(", ")
    }
}

/// ISO 8601 in UTC.
pub(crate) fn date(time: SystemTime) -> String {
    DateTime::from_system_time(time)
        .map_or_else(|_| "a date out of range".into(), |time| time.to_string())
}
