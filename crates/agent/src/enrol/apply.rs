//! What the agent asks a CA for, what it keeps of the answer at which step, and whom it believes.

use homefleet_cmp::{
    asn1::{BodyKind, CertTemplate, Certificate, Failure, GeneralName, Name, StatusInfo},
    authority::RequestKind,
    client::{Offer, Request},
    crypto::{Hash, Mac, Secret, Signer},
    protection::Protector,
};
use homefleet_net::cmp::{
    entity::{AltName, Believed, certificates_to_pem, der_of, extensions, old_certificate},
    session::{Applicant, Progress},
};
use homefleet_trust::{
    Anchor, Connection, Context, Policy, Purpose, Time, chain_from_pem, decide, validate_signer,
};
use homefleet_usp::EndpointId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    fault,
    keys::{Credential, Keys},
};

/// Iterations of the password-based MAC.
const ITERATIONS: u32 = 10_000;

/// Who asks, and with what.
pub(super) struct Applying<'a> {
    pub(super) keys: &'a Mutex<Keys>,
    pub(super) endpoint_id: &'a EndpointId,
    /// What is asked for.
    pub(super) kind: RequestKind,
    /// The certificate that a kur updates.
    pub(super) old: Option<Certificate>,
    /// The key that the certificate is for, and its place in the store.
    pub(super) signer: Arc<dyn Signer>,
    pub(super) credential: Credential,
    /// CAs that are trusted whatever comes.
    pub(super) anchors: Vec<Anchor>,
    pub(super) time: Time,
}

impl Applying<'_> {
    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What of an offered certificate is kept: the chain, and the CAs to be trusted from now on.
    fn judge(&self, offer: &Offer) -> Result<(String, Option<String>), StatusInfo> {
        let refuse = |text: String| StatusInfo::rejection(Failure::BadCertTemplate, text);
        let pubs: Vec<Vec<u8>> = offer.ca_pubs.iter().map(Certificate::to_der).collect();
        let mut anchors = self.anchors.clone();
        anchors.extend(pubs.iter().filter_map(|der| Anchor::from_der(der).ok()));
        let mut others = offer.extra_certs.clone();
        others.extend(offer.ca_pubs.iter().cloned());
        let chain = der_of(&offer.certificate, &others);
        let policy = Policy::default();
        let path = validate_signer(&chain, &anchors, self.time, Purpose::ClientAuth, &policy)
            .map_err(|refusal| refuse(format!("no path to a CA that is trusted: {refusal}")))?;
        is_endpoint(&chain[0], self.endpoint_id).map_err(refuse)?;
        let in_path = |fingerprint: [u8; 32]| {
            path.iter()
                .take(path.len().saturating_sub(1))
                .any(|certificate| certificate.fingerprint == fingerprint)
        };
        let sent = chain.iter().enumerate().filter(|(index, der)| {
            *index == 0 || Anchor::from_der(der).is_ok_and(|one| in_path(one.fingerprint()))
        });
        let chain = certificates_to_pem(sent.map(|(_, der)| der.as_slice()));
        // Only an answer by a secret has any (RFC 9483 §4.1.1).
        let cas = match pubs.is_empty() {
            false => Some(certificates_to_pem(pubs.iter().map(Vec::as_slice))),
            true => {
                let anchor = path.last().map(|last| last.fingerprint);
                let mut all = anchors.iter();
                let anchor = all.find(|one| Some(one.fingerprint()) == anchor);
                // That of a kur is trusted already.
                anchor
                    .filter(|_| self.kind != RequestKind::KeyUpdate)
                    .map(|anchor| certificates_to_pem([anchor.der()]))
            }
        };
        Ok((chain, cas))
    }
}

impl Applicant for Applying<'_> {
    fn request(&mut self) -> Result<Request, String> {
        let failed = |error: x509_cert::der::Error| format!("cannot make the request: {error}");
        let urn = AltName::Uri(self.endpoint_id.to_urn());
        let template = CertTemplate {
            subject: Some(Name::common(self.endpoint_id.as_str())),
            extensions: Some(extensions(&[urn]).map_err(failed)?),
            ..CertTemplate::default()
        };
        let old = self.old.as_ref();
        let controls = old.map(|old| old_certificate(old).map_err(failed));
        Ok(Request::Certificate {
            kind: self.kind,
            template: Box::new(template),
            controls: controls.transpose()?.into_iter().collect(),
            key: Some(self.signer.clone()),
        })
    }

    fn offered(&mut self, offer: &Offer) -> Result<(), StatusInfo> {
        fault::point("answered");
        let (chain, cas) = self.judge(offer).inspect_err(|status| {
            tracing::error!(%status, "the CA's certificate is declined");
        })?;
        let failed = |error: crate::store::StoreError| {
            tracing::error!(%error, "the certificate cannot be kept");
            StatusInfo::rejection(Failure::SystemFailure, "the certificate cannot be kept")
        };
        let mut credential = self.credential.clone();
        self.keys()
            .received(&mut credential, chain, cas)
            .map_err(failed)?;
        if offer.implicit {
            self.keys().confirmed(&mut credential).map_err(failed)?;
        }
        self.credential = credential;
        fault::point("received");
        Ok(())
    }

    fn sending(&mut self, kind: BodyKind, message: &[u8]) -> Result<(), String> {
        let failed = |error: crate::store::StoreError| error.to_string();
        let mut credential = self.credential.clone();
        match kind {
            BodyKind::Ir | BodyKind::Cr | BodyKind::Kur => {
                self.keys().requested(&mut credential).map_err(failed)?;
                self.credential = credential;
                fault::point("requested");
            }
            BodyKind::CertConf => {
                // One that declines has nothing to be repeated.
                if credential.chain.is_some() {
                    self.keys()
                        .confirming(&mut credential, message)
                        .map_err(failed)?;
                    self.credential = credential;
                }
                fault::point("confirming");
            }
            _ => {}
        }
        Ok(())
    }

    fn progress(&mut self, progress: &Progress) {
        log(progress);
    }
}

/// Tells the log how it goes.
pub(super) fn log(progress: &Progress) {
    match progress {
        Progress::Began(_) | Progress::Sent(_) => tracing::debug!(?progress, "enrolment"),
        Progress::TransferFailed {
            reason,
            again_after,
        } => tracing::warn!(reason, ?again_after, "the CA is not reached"),
        Progress::Waiting {
            check_after,
            reason,
        } => {
            let reason = reason.as_deref().unwrap_or("no reason given");
            tracing::info!(reason, ?check_after, "the CA has not decided yet");
        }
        Progress::Restarted => tracing::info!("an answer of the CA was lost: asking again"),
        Progress::Offered { key_fits } => tracing::debug!(key_fits, "a certificate came"),
    }
}

/// Asks for information, and keeps nothing.
pub(super) struct Asking(pub(super) Vec<homefleet_cmp::asn1::Info>);

impl Applicant for Asking {
    fn request(&mut self) -> Result<Request, String> {
        Ok(Request::Info(self.0.clone()))
    }

    fn progress(&mut self, progress: &Progress) {
        log(progress);
    }
}

/// Whether a certificate, DER, is for this Endpoint, as controllers see it (R-SEC.10).
pub(crate) fn is_endpoint(leaf: &[u8], endpoint_id: &EndpointId) -> Result<(), String> {
    // The certificate trusted as itself: the decision then only reads who it is.
    let anchor = Anchor::from_der(leaf).map_err(|error| error.to_string())?;
    let (anchors, policy) = ([anchor], Policy::default());
    let context = Context::new(&anchors, Time::Unknown, Connection::Accepted, &policy);
    let decision = decide(&[leaf.to_vec()], &context);
    let wanted = endpoint_id.to_string();
    match &decision.peer {
        Some(peer) if peer.is_endpoint(&wanted) => Ok(()),
        Some(peer) => Err(format!(
            "it is for {}, not for {wanted}",
            match peer.endpoint_ids.as_slice() {
                [] => "no Endpoint ID".to_owned(),
                ids => ids.join(", "),
            }
        )),
        None => Err(decision.refusal().map_or_else(
            || "controllers would refuse it".to_owned(),
            |refusal| format!("controllers would refuse it: {refusal}"),
        )),
    }
}

/// Protection by a secret, under a fresh salt.
pub(super) fn by_secret(reference: &str, secret: &Secret) -> Result<Protector, String> {
    let mut salt = vec![0; 16];
    getrandom::fill(&mut salt).map_err(|error| format!("no random numbers: {error}"))?;
    let mac = Mac::PasswordBased {
        salt,
        owf: Hash::Sha256,
        iterations: ITERATIONS,
        mac: Hash::Sha256,
    };
    Protector::secret(reference.as_bytes(), secret.clone(), mac)
        .map_err(|error| format!("the reference cannot be used: {error}"))
}

/// Protection by the key of a certificate, with the chain of a PEM text.
pub(super) fn by_key(signer: Arc<dyn Signer>, chain: &str) -> Result<Protector, String> {
    let certificates = certificates(chain)?;
    Protector::signer(signer, certificates)
        .map_err(|error| format!("the certificate cannot be used: {error}"))
}

/// The certificates of a PEM text.
pub(super) fn certificates(pem: &str) -> Result<Vec<Certificate>, String> {
    let chain = chain_from_pem(pem).map_err(|error| error.to_string())?;
    chain
        .iter()
        .map(|der| Certificate::from_der(der).map_err(|error| error.to_string()))
        .collect()
}

/// Nobody in particular: the CA's name is not known before it has answered.
pub(super) fn anybody() -> Result<GeneralName, String> {
    GeneralName::directory(&Name::null()).map_err(|error| error.to_string())
}

/// Whom we believe.
pub(super) fn believed(
    secret: Option<(Vec<u8>, Secret)>,
    anchors: Vec<Anchor>,
    time: Time,
) -> Believed {
    Believed {
        secret,
        time,
        ..Believed::new(anchors)
    }
}
