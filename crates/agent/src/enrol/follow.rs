//! What the CA announces, and what the agent makes of it (RFC 9482 §2.6).
//!
//! ```text
//! …/ann ──▶ signed by whom a trusted root vouches for? ──▶ ckuann: both links prove it ──▶ trusted, too
//!                                                     ├──▶ rann of a root: believed without it ──▶ given up, if it was received
//!                                                     ├──▶ cann: the own chain, where it leads to no trusted root any more
//!                                                     └──▶ crlann: to what is known about revocation
//! ```

use std::{sync::Arc, time::Duration};

use homefleet_cmp::{CertificateParts, asn1::Certificate};
use homefleet_net::{
    cmp::{
        BoxFuture, Client, ClientConfig as TransferConfig, ServerTrust as Believe,
        entity::certificates_to_pem,
        roots::{News, news},
        watch::{Heard as Told, Schedule, Watch},
    },
    dtls::TrustVerifier,
};
use homefleet_trust::{Anchor, Policy, Purpose, validate_signer};

use super::{
    Apply, EnrolError, Enrolment, Identity,
    apply::{believed, certificates},
    here,
    keys::Credential,
};

/// Takes lists of revoked certificates, DER, that nobody has looked at.
pub(crate) type TakeLists = Box<dyn Fn(Vec<Vec<u8>>) -> BoxFuture<'static, ()> + Send + Sync>;

/// What has come of an announcement.
#[derive(Debug, Default)]
pub struct Heard {
    /// Who the agent is, when that or whom it trusts has changed.
    pub identity: Option<Identity>,
    /// Lists of revoked certificates, DER, not looked at.
    pub lists: Vec<Vec<u8>>,
}

impl Enrolment {
    /// Hears what the CA announces for as long as the agent runs, where it is reached over CoAP; `apply` is told what is new.
    pub(crate) async fn follow(self: Arc<Self>, apply: Apply, take: TakeLists) {
        if !self.config.observe || !self.config.url.scheme.is_coap() {
            return;
        }
        let (mut watch, verifier) = match self.watch() {
            Ok(watch) => watch,
            Err(error) => return tracing::error!(%error, "what the CA announces is not heard"),
        };
        loop {
            let message = match watch.next().await {
                Told::Announced { message, kept } => {
                    tracing::debug!(bytes = message.len(), kept, "the CA announces");
                    message
                }
                Told::Failed { error, again_in } => {
                    tracing::info!(%error, ?again_in, "what the CA announces is not heard");
                    continue;
                }
            };
            match self.hear(&message) {
                Ok(heard) => {
                    if let Some(identity) = heard.identity {
                        match self.anchors() {
                            Ok(anchors) => verifier.replace_anchors(anchors),
                            Err(error) => tracing::error!(%error, "the state"),
                        }
                        apply(identity).await;
                    }
                    if !heard.lists.is_empty() {
                        take(heard.lists).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "what the CA announces is not taken"),
            }
        }
    }

    fn watch(&self) -> Result<(Watch, Arc<TrustVerifier>), EnrolError> {
        let anchors = self.anchors()?;
        let clock = self.clock.clone();
        let verifier = TrustVerifier::new(anchors, Policy::default(), move || clock.time());
        let verifier = Arc::new(verifier);
        let trust = Believe::Verifier(verifier.clone());
        let client = Client::new(TransferConfig::new(trust)).map_err(here)?;
        let schedule = Schedule {
            first: self.config.retry.max(Duration::from_secs(1)),
            ..Schedule::default()
        };
        let watch = Watch::new(client, self.config.url.clone(), schedule);
        Ok((watch, verifier))
    }

    /// Makes of an announcement, a PKIMessage in DER, what it says, as far as it is believed: roots that follow are trusted, roots that were
    /// received and are given up are not any more.
    ///
    /// # Errors
    /// When nothing of it is believed, or the state cannot be read or written.
    pub fn hear(&self, message: &[u8]) -> Result<Heard, EnrolError> {
        let time = self.clock.time();
        let before = self.anchors()?;
        let believed = believed(None, before.clone(), time);
        let news = news(message, &believed).map_err(here)?;
        for why in &news.refused {
            tracing::warn!(why, "the CA announces what is not believed");
        }
        for (old, new) in &news.followed {
            tracing::info!(
                old = old.subject(),
                new = new.subject(),
                "a root is followed by another"
            );
        }
        let mut trusted = before;
        let mut changed = news.apply(&mut trusted, time);
        // What stands in a file stays trusted until somebody takes it out.
        for (root, _) in &news.retired {
            let is = |other: &&Anchor| other.der() == root.der();
            if self.files.iter().any(|file| is(&file)) {
                tracing::warn!(
                    subject = root.subject(),
                    "this root was given up by its CA: take it out of the files of `trust.ca` and `enrol.ca`"
                );
            } else if !trusted.iter().any(|other| is(&other)) {
                tracing::info!(subject = root.subject(), "a root is not trusted any more");
            }
        }
        if changed {
            let is_file = |one: &Anchor| self.files.iter().any(|file| file.der() == one.der());
            let received: Vec<Anchor> = trusted.into_iter().filter(|one| !is_file(one)).collect();
            self.keys().put_anchors(&received)?;
        }
        changed |= self.relink(&news)?;
        Ok(Heard {
            identity: if changed { self.identity()? } else { None },
            lists: news.lists.iter().map(|list| list.to_der()).collect(),
        })
    }

    /// Where the own chain leads to no trusted root any more, a certificate of its CA that does takes its place in it.
    fn relink(&self, news: &News) -> Result<bool, EnrolError> {
        let Some(mut credential) = self.keys().in_use()? else {
            return Ok(false);
        };
        let anchors = self.anchors()?;
        let chain = self.chain(&credential)?;
        if chain.is_empty() || self.leads_to(&chain, &anchors) {
            return Ok(false);
        }
        for certificate in &news.certificates {
            let Some(place) = chain
                .iter()
                .skip(1)
                .position(|ca| is_same_ca(ca, certificate))
            else {
                continue;
            };
            let mut new = chain[..=place].to_vec();
            new.push(certificate.clone());
            if self.leads_to(&new, &anchors) {
                let ders: Vec<Vec<u8>> = new.iter().map(Certificate::to_der).collect();
                let text = certificates_to_pem(ders.iter().map(Vec::as_slice));
                self.keys().rechain(&mut credential, text)?;
                tracing::info!("the agent's chain leads to the new root");
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn chain(&self, credential: &Credential) -> Result<Vec<Certificate>, EnrolError> {
        certificates(credential.chain.as_deref().unwrap_or_default()).map_err(here)
    }

    fn leads_to(&self, chain: &[Certificate], anchors: &[Anchor]) -> bool {
        let ders: Vec<Vec<u8>> = chain.iter().map(Certificate::to_der).collect();
        let (time, policy) = (self.clock.time(), Policy::default());
        validate_signer(&ders, anchors, time, Purpose::ClientAuth, &policy).is_ok()
    }
}

/// Whether both are certificates of one CA: its name and its key.
fn is_same_ca(one: &Certificate, other: &Certificate) -> bool {
    let parts = |certificate| CertificateParts::read(certificate).ok();
    match (parts(one), parts(other)) {
        (Some(one), Some(other)) => {
            one.subject == other.subject && one.public_key == other.public_key
        }
        _ => false,
    }
}
