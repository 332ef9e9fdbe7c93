//! The walk through Figure MTP.1 ("Receiving a X.509 Certificate"), box by box.
//!
//! ```text
//! presented? ─ cached session? ─ dates valid? ─ name matches? ─ stored cert? ─ trusted CA? ─ revoked? ─ Establish
//!     │           (OPT, N)            │               │           (OPT, N)         │         (OPT, N)
//!  R-MTP.1: none                      N               N                            N
//!     └───────────────────────────────┴───────────────┴─────── trusted signature required? (OPT, Y) ─ Terminate
//! ```

use std::time::SystemTime;

use der::DateTime;

use crate::{
    certificate::Certificate,
    context::{Connection, Context, Policy, Time},
    decision::{
        Answer, Basis, ChainCertificate, Decision, DefaultEdge, Element, Outcome, Source, Step,
    },
    error::Refusal,
    host::{self, HostMatch},
    identity::PeerIdentity,
    path::{self, Failure, Link, Search},
};

/// Decides about the certificates a peer presented, DER, the peer's own first, exactly as Figure MTP.1 says (R-MTP.1 to R-MTP.4a).
pub fn decide(chain: &[Vec<u8>], context: &Context<'_>) -> Decision {
    let mut walk = Walk {
        steps: Vec::new(),
        chain: Vec::new(),
    };
    match walk.run(chain, context) {
        Ok(peer) => Decision {
            outcome: Outcome::Establish,
            steps: walk.steps,
            peer: Some(peer),
            chain: walk.chain,
            basis: Some(Basis::TrustedCa),
            valid_until: None,
        },
        Err(refusal) => Decision {
            outcome: Outcome::Terminate(refusal),
            steps: walk.steps,
            peer: None,
            chain: walk.chain,
            basis: None,
            valid_until: None,
        },
    }
}

struct Walk {
    steps: Vec<Step>,
    chain: Vec<ChainCertificate>,
}

impl Walk {
    fn run(&mut self, chain: &[Vec<u8>], context: &Context<'_>) -> Result<PeerIdentity, Refusal> {
        let (presented, unread) = self.presented(chain, context.policy)?;
        let Some((_, leaf)) = presented.first() else {
            return Err(Refusal::NoCertificate);
        };
        self.chain = presented
            .iter()
            .map(|(index, c)| describe(c, Source::Presented(*index)))
            .collect();
        self.not_done(
            Element::CachedSession,
            DefaultEdge::No,
            "no session is resumed without its certificates",
        );

        let anchors = path::relevant(context.anchors, &presented);
        let search = Search {
            presented: &presented,
            anchors: &anchors,
            purpose: context.connection.purpose(),
            time: context.time,
            policy: context.policy,
        };
        let early = path::date(leaf, 0, context.time).err();
        let result = if early.is_none() {
            Some(search.run())
        } else {
            None
        };
        let found = match &result {
            Some(Ok(path)) => path.as_slice(),
            Some(Err(failure)) => failure.path.as_slice(),
            None => &[],
        };
        if !found.is_empty() {
            self.chain = found
                .iter()
                .map(|link| describe(link.certificate, link.source))
                .collect();
        }
        self.dates(leaf, context.time, early, result.as_ref())?;
        self.name(leaf, &context.connection)?;
        self.not_done(
            Element::StoredCertificate,
            DefaultEdge::No,
            "a stored certificate alone does not admit a peer",
        );
        let anchor = self.trusted(result, context.anchors.len(), unread)?;
        self.not_done(
            Element::Revoked,
            DefaultEdge::No,
            "revocation is not checked",
        );
        Ok(PeerIdentity::of(leaf, Some(anchor), Basis::TrustedCa))
    }

    /// R-MTP.1, and the limits on what is read at all. The second value counts superfluous certificates that cannot be read.
    fn presented<'a>(
        &mut self,
        chain: &'a [Vec<u8>],
        policy: &Policy,
    ) -> Result<(Vec<(usize, Certificate<'a>)>, usize), Refusal> {
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

    fn dates(
        &mut self,
        leaf: &Certificate<'_>,
        time: Time,
        early: Option<Refusal>,
        result: Option<&Result<Vec<Link<'_>>, Failure<'_>>>,
    ) -> Result<(), Refusal> {
        let Time::Accurate(now) = time else {
            let detail =
                "ignored at every level, there is no accurate absolute time (R-MTP.2)".into();
            self.step(Element::DatesValid, Answer::NotApplicable, detail);
            return Ok(());
        };
        let refusal = early.or_else(|| match result {
            Some(Err(failure)) => Some(failure.refusal.clone()),
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

    /// Gives the anchor's fingerprint.
    fn trusted(
        &mut self,
        result: Option<Result<Vec<Link<'_>>, Failure<'_>>>,
        anchors: usize,
        unread: usize,
    ) -> Result<[u8; 32], Refusal> {
        let refusal = match result {
            Some(Ok(path)) => {
                if let Some(anchor) = path.last() {
                    let detail = match path.len() {
                        1 => "the certificate is itself configured as trusted".into(),
                        _ => format!(
                            "path of {} certificates to {}",
                            path.len(),
                            anchor.certificate.subject
                        ),
                    };
                    self.step(Element::TrustedCa, Answer::Yes, detail);
                    return Ok(anchor.certificate.fingerprint());
                }
                Refusal::UnknownIssuer
            }
            Some(Err(failure)) => failure.refusal,
            None => Refusal::UnknownIssuer,
        };
        let mut detail = refusal.to_string();
        if refusal == Refusal::UnknownIssuer {
            match anchors {
                0 => detail.push_str("; none is configured"),
                1 => detail.push_str("; 1 is configured"),
                _ => detail.push_str(&format!("; {anchors} are configured")),
            }
            if unread > 0 {
                detail.push_str(&format!(
                    ", and {unread} presented certificates cannot be read"
                ));
            }
        }
        self.step(Element::TrustedCa, Answer::No, detail);
        self.not_done(
            Element::TrustedSignatureRequired,
            DefaultEdge::Yes,
            "no peer is trusted on first use",
        );
        Err(refusal)
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

/// Reads the presented certificates. The peer's own has to be readable; others only fail to help.
fn read<'a>(
    chain: &'a [Vec<u8>],
    policy: &Policy,
) -> Result<(Vec<(usize, Certificate<'a>)>, usize), Refusal> {
    let Some(leaf) = chain.first() else {
        return Err(Refusal::NoCertificate);
    };
    let (presented, limit) = (chain.len(), policy.max_chain);
    if presented > limit {
        return Err(Refusal::ChainTooLong { presented, limit });
    }
    let limit = policy.max_certificate_bytes;
    if let Some((index, der)) = chain.iter().enumerate().find(|(_, der)| der.len() > limit) {
        return Err(Refusal::CertificateTooLarge {
            index,
            bytes: der.len(),
            limit,
        });
    }
    let bytes = chain.iter().map(Vec::len).sum();
    if bytes > policy.max_chain_bytes {
        return Err(Refusal::ChainTooLarge {
            bytes,
            limit: policy.max_chain_bytes,
        });
    }
    let leaf = Certificate::parse(leaf).map_err(|problem| Refusal::Malformed { problem })?;
    let mut certificates = vec![(0, leaf)];
    certificates.extend(
        chain
            .iter()
            .enumerate()
            .skip(1)
            .filter_map(|(index, der)| Some((index, Certificate::parse(der).ok()?))),
    );
    let unread = chain.len() - certificates.len();
    Ok((certificates, unread))
}

fn describe(certificate: &Certificate<'_>, source: Source) -> ChainCertificate {
    ChainCertificate {
        subject: certificate.subject.to_string(),
        issuer: certificate.issuer.to_string(),
        not_before: certificate.not_before,
        not_after: certificate.not_after,
        fingerprint: certificate.fingerprint(),
        source,
    }
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
