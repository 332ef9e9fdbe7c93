//! On what ground a peer could be accepted: stored certificate, Trusted Broker, path to a trusted CA.

use std::time::SystemTime;

use crate::{
    certificate::Certificate,
    context::{Connection, Context, StoredCertificate},
    decision::{Basis, ChainCertificate, Source},
    error::Refusal,
    identity::{PeerIdentity, normalise, same_endpoint},
    path::{self, Failure, Link, Search},
    presented::describe,
    revocation::{Verdict, earliest, judge, judge_without_issuer},
};

/// What there is for the peer's certificate, before any box is answered.
pub(crate) struct Ground<'a> {
    /// Dates of the peer's own certificate.
    pub(crate) early: Option<Refusal>,
    pub(crate) stored: Stored,
    /// Which Trusted Broker it is.
    pub(crate) broker: Option<usize>,
    /// The path; `None` when it was not looked for, because the peer's own certificate is out of date.
    pub(crate) search: Option<Result<Vec<Link<'a>>, Failure<'a>>>,
    /// What makes the certificate one that no ground could make good.
    pub(crate) unusable: Option<Refusal>,
}

/// "Matches stored, valid cert ok for Controller?"
pub(crate) enum Stored {
    /// Nothing is stored at all.
    Nothing,
    /// Not this certificate.
    Other,
    /// This certificate, for somebody else than the one we connected to.
    ForAnother(String),
    /// For these Endpoint IDs.
    For(Vec<String>),
}

impl<'a> Ground<'a> {
    pub(crate) fn find(
        presented: &'a [(usize, Certificate<'a>)],
        anchors: &'a [(usize, Certificate<'a>)],
        context: &Context<'a>,
    ) -> Option<Self> {
        let (_, leaf) = presented.first()?;
        let purpose = context.connection.purpose();
        let early = path::date(leaf, 0, context.time).err();
        let search = Search {
            presented,
            anchors,
            purpose,
            time: context.time,
            policy: context.policy,
            signatures: context.signatures,
        };
        Some(Self {
            search: early.is_none().then(|| search.run()),
            early,
            stored: Stored::find(leaf, context),
            broker: context.brokers.iter().position(|b| b.der() == leaf.der),
            unusable: path::validate_alone(leaf, purpose, context.policy).err(),
        })
    }

    /// The certificate itself is what is trusted, whoever issued it.
    pub(crate) fn is_pinned(&self) -> bool {
        self.unusable.is_none() && (matches!(self.stored, Stored::For(_)) || self.broker.is_some())
    }

    /// The valid path, if there is one.
    pub(crate) fn path(&self) -> Option<&[Link<'a>]> {
        match &self.search {
            Some(Ok(path)) => Some(path),
            _ => None,
        }
    }

    /// By which box the peer would be accepted.
    pub(crate) fn basis(&self) -> Option<Basis> {
        match (&self.stored, self.broker) {
            (Stored::For(_), _) if self.unusable.is_none() => Some(Basis::StoredCertificate),
            (_, Some(_)) if self.unusable.is_none() => Some(Basis::TrustedBroker),
            _ => self.path().map(|_| Basis::TrustedCa),
        }
    }

    /// The chain as it is told: the path found, or what was presented.
    pub(crate) fn chain(&self, presented: &[(usize, Certificate<'_>)]) -> Vec<ChainCertificate> {
        let found = match &self.search {
            Some(Ok(path)) => path.as_slice(),
            Some(Err(failure)) => failure.path.as_slice(),
            None => &[],
        };
        let told = |link: &Link<'_>| describe(link.certificate, link.source);
        match (found, self.broker, presented.first()) {
            ([] | [_], Some(index), Some((_, leaf))) => vec![describe(leaf, Source::Broker(index))],
            ([], _, _) => presented
                .iter()
                .map(|(index, c)| describe(c, Source::Presented(*index)))
                .collect(),
            (path, _, _) => path.iter().map(told).collect(),
        }
    }

    /// Who the peer is on this ground, and until when the certificates are good.
    pub(crate) fn identity(&self, leaf: &Certificate<'_>) -> Option<(PeerIdentity, SystemTime)> {
        let basis = self.basis()?;
        let path = self.path();
        let anchor = path
            .and_then(<[_]>::last)
            .map(|link| link.certificate.fingerprint());
        let mut peer = PeerIdentity::of(leaf, anchor, basis);
        if let (Basis::StoredCertificate, Stored::For(ids)) = (basis, &self.stored) {
            if path.is_none() {
                // Nobody vouches for what else it says.
                peer.endpoint_ids.clear();
                peer.dns_names.clear();
            }
            // What a CA vouches for stays, or whoever has a certificate stored could take it from its owner.
            let more = ids.iter().filter(|id| !peer.endpoint_ids.contains(id));
            let more: Vec<String> = more.cloned().collect();
            peer.endpoint_ids.extend(more);
        }
        let path = path.filter(|_| basis != Basis::TrustedBroker);
        let until = path
            .into_iter()
            .flatten()
            .map(|link| Some(link.certificate.not_after))
            .fold(Some(leaf.not_after), earliest);
        Some((peer, until.unwrap_or(leaf.not_after)))
    }

    /// The answer to "Revoked?"; `None`: it is not looked at.
    pub(crate) fn revocation(
        &self,
        leaf: &Certificate<'_>,
        context: &Context<'_>,
    ) -> Option<Verdict> {
        let revocation = context.revocation?;
        Some(match self.path() {
            Some(path) if path.len() > 1 => judge(revocation, path, context.time),
            _ => judge_without_issuer(revocation, leaf),
        })
    }
}

impl Stored {
    fn find(leaf: &Certificate<'_>, context: &Context<'_>) -> Self {
        if context.stored.is_empty() {
            return Stored::Nothing;
        }
        let fingerprint = leaf.fingerprint();
        let matching: Vec<&StoredCertificate> = context
            .stored
            .iter()
            .filter(|stored| stored.fingerprint == fingerprint)
            .collect();
        let Some(first) = matching.first() else {
            return Stored::Other;
        };
        let wanted = match context.connection {
            Connection::Initiated { endpoint_id, .. } => endpoint_id,
            Connection::Accepted => None,
        };
        let ids: Vec<String> = matching
            .iter()
            .filter_map(|stored| normalise(&stored.endpoint_id))
            .filter(|id| !id.contains('*') && wanted.is_none_or(|wanted| same_endpoint(wanted, id)))
            .collect();
        if ids.is_empty() {
            Stored::ForAnother(first.endpoint_id.clone())
        } else {
            Stored::For(ids)
        }
    }
}
