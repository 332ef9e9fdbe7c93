//! Decisions: who may have which certificate, and everything else that requesters ask (RFC 9483 §4).
//!
//! The profile is named by the label of the path or by `certProfile`, and says who may ask; who asks is established by the protection of the
//! message ([`Standing`]). Every decision is in the audit log: what is issued or revoked by the CA's own hand, what is refused by this one's.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use homefleet_cmp::asn1::{
    Algorithm, Certificate, EncryptedKey, Failure, Limits, Message, Name, Status, StatusInfo,
};
use homefleet_cmp::authority::{CertificateRequest, Decision, Issued, RequestKind};
use homefleet_cmp::crypto::Secret;
use homefleet_cmp::possession::Possession;
use homefleet_cmp::protection::{Peers, Protection};
use homefleet_cmp::{CertificateParts, Refusal};
use homefleet_net::cmp::BoxFuture;

use super::counts::Counts;
use super::keys;
use super::machine::{Asked, Decider, KeptRequest, News, Origin, Question, StoreFailed};
use super::standing::{Acquaintance, Grounds, Standing};
use super::text;
use super::waiting::{self, Waiting};
use crate::clock::{Clock, Millis};
use crate::pki::{
    Authorisation, Initial, IssueError, IssuedCertificate, NewApproval, Order, Pki, Profile,
    Reason, Requested, Serial, Who,
};
use crate::store::pki::{ApprovalRecord, ApprovalState, CertificateState};

/// The CA behind the machines.
pub(super) struct Ca {
    pub(super) pki: Pki,
    pub(super) grounds: Arc<Grounds>,
    pub(super) waiting: Waiting,
    pub(super) counts: Arc<Counts>,
    pub(super) limits: Limits,
    pub(super) check_after: Duration,
    /// Keys that the CA made are delivered without the package around them.
    pub(super) bare_keys: bool,
    pub(super) clock: Clock,
}

/// Why not: what the requester is told.
#[derive(Debug)]
pub(super) struct No {
    pub(super) failure: Failure,
    pub(super) text: String,
}

impl No {
    pub(super) fn new(failure: Failure, text: impl Into<String>) -> Self {
        Self {
            failure,
            text: text.into(),
        }
    }

    fn store() -> Self {
        Self::new(Failure::SystemUnavail, "try again later")
    }

    pub(super) fn decision(&self) -> Decision {
        Decision::Reject(StatusInfo::rejection(self.failure, self.text.clone()))
    }
}

impl From<IssueError> for No {
    fn from(error: IssueError) -> Self {
        let text = match &error {
            // What happens inside is for the log.
            IssueError::Sign(_) | IssueError::Random(_) | IssueError::Store(_) => {
                tracing::error!(%error, "a certificate could not be issued");
                "the CA failed, no certificate was issued".to_owned()
            }
            other => other.to_string(),
        };
        Self::new(error.failure(), text)
    }
}

impl Decider for Ca {
    fn has_label(&self, label: &str) -> bool {
        self.pki.profile(Some(label)).is_some()
    }

    fn acquaint<'a>(
        &'a self,
        message: &'a Message,
    ) -> BoxFuture<'a, Result<Box<dyn Peers + Send + Sync>, StoreFailed>> {
        Box::pin(async move {
            let nested = message.nested(&self.limits).unwrap_or_default();
            let inner = nested.first().unwrap_or(message);
            let reference = inner.header.sender_kid.as_ref();
            let algorithm = inner.header.protection_alg.as_ref();
            let secret = match (reference, algorithm) {
                (Some(reference), Some(algorithm)) if is_mac(algorithm) => {
                    self.secret(reference.as_bytes()).await?
                }
                _ => None,
            };
            let acquaintance = Acquaintance {
                grounds: Arc::clone(&self.grounds),
                secret,
                kind: inner.body.kind(),
                now: SystemTime::now(),
            };
            Ok(Box::new(acquaintance) as Box<dyn Peers + Send + Sync>)
        })
    }

    fn kept<'a>(
        &'a self,
        transaction: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<KeptRequest>, StoreFailed>> {
        Box::pin(async move {
            let Some(id) = self.waiting.of_transaction(transaction) else {
                return Ok(None);
            };
            let found = self.pki.approval(&id).await.map_err(|_| StoreFailed)?;
            let kept = found.and_then(|approval| waiting::read(&approval.request));
            // Somebody who began anew shares the approval, not the message.
            Ok(kept.filter(|kept| {
                waiting::transaction(&kept.message, &self.limits).as_deref() == Some(transaction)
            }))
        })
    }

    fn decide<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Decision> {
        Box::pin(async move {
            let (action, requester, decided) = match &question.asked {
                Asked::Certificate(request) => (
                    "certificate.issue",
                    &request.requester,
                    self.certificate(question, request).await,
                ),
                Asked::Revocation {
                    details,
                    requester,
                    relay,
                } => (
                    "certificate.revoke",
                    requester,
                    self.revocation(details, requester, relay.as_ref()).await,
                ),
                Asked::Infos {
                    infos,
                    profile,
                    requester,
                } => (
                    "pki.ask",
                    requester,
                    self.infos(&question.origin, infos, profile.as_deref(), requester)
                        .await,
                ),
            };
            match decided {
                Ok(decision) => {
                    self.counts.decided(&decision);
                    decision
                }
                Err(no) => {
                    self.refused(action, &text::requester(requester), &question.origin, &no)
                        .await;
                    no.decision()
                }
            }
        })
    }

    fn note(&self, news: News) -> BoxFuture<'_, Result<(), StoreFailed>> {
        Box::pin(async move {
            match news {
                News::Confirmed {
                    certificate,
                    implicit,
                } => {
                    self.counts.confirmed();
                    // One that needs no confirmation was in use from the start.
                    if implicit {
                        Ok(())
                    } else {
                        self.confirm(&certificate).await
                    }
                }
                News::Unwanted { certificate, why } => {
                    self.counts.unwanted();
                    self.take_back(&certificate, &why).await
                }
                // The request stays until an operator has decided or its time is over: whoever asked may come again.
                News::Abandoned => Ok(()),
                News::Refused {
                    origin,
                    requester,
                    refusal,
                } => {
                    let who = requester.as_ref().map(text::requester);
                    let who = who.unwrap_or_else(|| "unknown".to_owned());
                    let no = No::new(refusal.failure(), told(&refusal));
                    self.refused("cmp.message", &who, &origin, &no).await;
                    Ok(())
                }
            }
        })
    }
}

/// What goes into the audit log about a refused message.
fn told(refusal: &Refusal) -> String {
    refusal.to_string()
}

fn is_mac(algorithm: &Algorithm) -> bool {
    homefleet_cmp::crypto::Mac::is_mac(algorithm.oid)
}

impl Ca {
    async fn secret(&self, reference: &[u8]) -> Result<Option<(Vec<u8>, Secret)>, StoreFailed> {
        let found = self.pki.secret(reference).await.map_err(|error| {
            tracing::error!(%error, "an enrolment secret could not be read");
            StoreFailed
        })?;
        Ok(found.map(|found| (found.reference, Secret::new(found.secret.to_vec()))))
    }

    /// Writes a refusal into the audit log, as far as there is room for refusals in it, and counts it.
    pub(super) async fn refused(&self, action: &str, who: &str, origin: &Origin, no: &No) {
        if !self.counts.refused(no.failure) {
            return;
        }
        let who = format!("{who} at {}", origin.from);
        let detail = format!("{:?}: {}", no.failure, no.text);
        let subject = origin.target.label.as_deref().unwrap_or_default();
        if let Err(error) = self.pki.audit(&who, action, subject, &detail, false).await {
            tracing::error!(%error, "a refusal could not be written into the audit log");
        }
    }

    async fn confirm(&self, certificate: &Certificate) -> Result<(), StoreFailed> {
        let Some(serial) = serial(certificate) else {
            return Ok(());
        };
        match self.pki.confirm(&serial).await {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "a certificate could not be confirmed");
                Err(StoreFailed)
            }
        }
    }

    async fn take_back(&self, certificate: &Certificate, why: &str) -> Result<(), StoreFailed> {
        let Some(serial) = serial(certificate) else {
            return Ok(());
        };
        let revoked = self
            .pki
            .revoke(&serial, Reason::CessationOfOperation, why)
            .await;
        match revoked {
            Ok(()) | Err(crate::pki::RevokeError::Revoked(_)) => Ok(()),
            Err(error) => {
                tracing::error!(%error, "a certificate that nobody confirmed could not be revoked");
                Err(StoreFailed)
            }
        }
    }

    /// The profile that a request names; the path and the message must not contradict each other.
    pub(super) fn named<'a>(
        &self,
        origin: &'a Origin,
        profile: Option<&'a str>,
    ) -> Result<Option<&'a str>, No> {
        let label = origin.target.label.as_deref();
        if let (Some(label), Some(profile)) = (label, profile)
            && label != profile
        {
            return Err(No::new(
                Failure::BadRequest,
                format!("the path names the profile {label}, certProfile {profile}"),
            ));
        }
        let name = label.or(profile);
        if let Some(name) = name
            && self.pki.profile(Some(name)).is_none()
        {
            return Err(No::new(
                Failure::BadRequest,
                format!("there is no profile {name}"),
            ));
        }
        Ok(name)
    }

    /// As whom a requester is believed; a certificate of ours has to be in use.
    pub(super) async fn who(&self, requester: &Protection, late: bool) -> Result<Requester, No> {
        let (certificate, parts) = match requester {
            Protection::None => {
                return Err(No::new(Failure::BadMessageCheck, "nobody asks"));
            }
            Protection::Secret {
                reference, secret, ..
            } => {
                return Ok(Requester::Secret {
                    reference: reference.clone(),
                    secret: secret.clone(),
                });
            }
            Protection::Certificate { certificate, parts } => (certificate, parts),
        };
        let standing = self
            .grounds
            .standing(certificate, &[], SystemTime::now(), late);
        if let Standing::Own { serial, .. } = &standing {
            let record = self
                .pki
                .certificate(serial)
                .await
                .map_err(|_| No::store())?;
            match record.map(|record| record.state) {
                Some(CertificateState::Valid) => {}
                Some(CertificateState::Revoked) => {
                    return Err(No::new(
                        Failure::CertRevoked,
                        "the certificate that protects the request is revoked",
                    ));
                }
                Some(CertificateState::Unconfirmed) => {
                    return Err(No::new(
                        Failure::SignerNotTrusted,
                        "the certificate that protects the request was not confirmed",
                    ));
                }
                None => {
                    return Err(No::new(
                        Failure::SignerNotTrusted,
                        "the certificate that protects the request is not known",
                    ));
                }
            }
        }
        Ok(Requester::Certificate {
            standing,
            parts: parts.clone(),
        })
    }

    async fn certificate(
        &self,
        question: &Question,
        request: &CertificateRequest,
    ) -> Result<Decision, No> {
        let renews = request.kind == RequestKind::KeyUpdate;
        let name = self.named(&question.origin, request.profile.as_deref())?;
        let requester = self.who(&request.requester, renews).await?;
        // `issuer` of a template is a wish that is not asked for: clients put in whoever issued their old certificate.
        let (authorisation, device, bound) = self.authorise(request, &requester).await?;
        let name = name.map(str::to_owned).or(bound);
        let profile = self
            .pki
            .profile(name.as_deref())
            .ok_or_else(|| No::new(Failure::BadRequest, "there is no such profile"))?;
        let key = match &request.possession {
            Possession::Proven(key) => Some(key),
            Possession::RaVerified(key) => {
                if !requester.is_relay() {
                    return Err(No::new(
                        Failure::BadPop,
                        "only an RA may say that possession was verified",
                    ));
                }
                Some(key)
            }
            Possession::KeyWanted(_) => None,
        };
        let mut order = Order {
            profile: name,
            requested: requested(request)?,
            public_key: key.map(|key| key.to_der()).unwrap_or_default(),
            device,
            requester: format!(
                "{} at {}",
                text::requester(&request.requester),
                question.origin.from
            ),
            authorisation,
            central_key: key.is_none(),
            initial: Initial::Unconfirmed,
        };
        if request.implicit_confirm && profile.implicit_confirm() {
            order.initial = Initial::Valid;
        }
        let must_ask = match &order.authorisation {
            // Nobody vouches for it.
            Authorisation::Approval { .. } => true,
            other => !profile.admits(other.who()) && profile.admits(Who::Approval) && !renews,
        };
        if must_ask {
            match self.approval(question, profile, &order).await? {
                Asking::Wait(decision) => return Ok(decision),
                Asking::Approved(id) => order.authorisation = Authorisation::Approval { id },
            }
        }
        let implicit = profile.implicit_confirm();
        let issued = match key {
            Some(_) => (self.issue(order).await?, None),
            None => {
                self.issue_with_key(order, request, profile, &requester)
                    .await?
            }
        };
        Ok(Decision::Issue(Box::new(
            self.issued(issued, &requester, implicit)?,
        )))
    }

    async fn issue(&self, order: Order) -> Result<IssuedCertificate, No> {
        let approval = match &order.authorisation {
            Authorisation::Approval { id } => Some(id.clone()),
            _ => None,
        };
        let issued = self.pki.issue(order, self.clock.now()).await?;
        if let Some(approval) = approval {
            self.waiting.remove(&approval);
        }
        Ok(issued)
    }

    /// A certificate with a key that the CA makes (RFC 9483 §4.1.6).
    async fn issue_with_key(
        &self,
        mut order: Order,
        request: &CertificateRequest,
        profile: &Profile,
        requester: &Requester,
    ) -> Result<(IssuedCertificate, Option<EncryptedKey>), No> {
        if !profile.central_keys() {
            return Err(IssueError::CentralKey.into());
        }
        let Possession::KeyWanted(wanted) = &request.possession else {
            return Err(No::new(Failure::BadPop, "there is a key"));
        };
        let recipient = keys::Recipient::of(requester)?;
        let kind = keys::kind(wanted.as_ref(), profile)?;
        let made = keys::make(kind).await?;
        order.public_key = made.public_key.clone();
        let credential = self.pki.signer().map_err(|error| {
            tracing::error!(%error, "the CA has no key to sign with");
            No::new(Failure::SystemFailure, "the CA failed")
        })?;
        // Encrypted before it is issued: a certificate whose key cannot be delivered is good for nobody.
        let sealed = keys::seal(&made, &credential, &recipient, self.bare_keys)?;
        Ok((self.issue(order).await?, Some(sealed)))
    }

    fn issued(
        &self,
        (issued, private_key): (IssuedCertificate, Option<EncryptedKey>),
        requester: &Requester,
        implicit_confirm: bool,
    ) -> Result<Issued, No> {
        let read = |der: &[u8]| {
            Certificate::from_der(der)
                .map_err(|_| No::new(Failure::SystemFailure, "a certificate cannot be read"))
        };
        let root = match requester {
            // Who knows a secret learns from it whom to trust (RFC 9483 §4.1.1).
            Requester::Secret { .. } => vec![read(&self.pki.root())?],
            Requester::Certificate { .. } => Vec::new(),
        };
        let chain: Result<Vec<_>, _> = self.pki.chain().iter().map(|der| read(der)).collect();
        Ok(Issued {
            status: if issued.modified {
                Status::GRANTED_WITH_MODS
            } else {
                Status::ACCEPTED
            },
            ca_pubs: root,
            extra_certs: chain?,
            private_key,
            implicit_confirm,
            ..Issued::new(read(&issued.der)?)
        })
    }

    /// The subject of the issuing CA.
    pub(super) fn ca_name(&self) -> Option<Name> {
        let ca = Certificate::from_der(self.pki.chain().first()?).ok()?;
        Some(CertificateParts::read(&ca).ok()?.subject)
    }

    /// By what right the requester asks, for which device, and by which profile when it names none.
    async fn authorise(
        &self,
        request: &CertificateRequest,
        requester: &Requester,
    ) -> Result<(Authorisation, Option<String>, Option<String>), No> {
        let standing = match requester {
            Requester::Secret { reference, .. } => {
                let found = self.pki.secret(reference).await.map_err(|_| No::store())?;
                let (device, profile) = found.map_or((None, None), |it| (it.device, it.profile));
                let reference = reference.clone();
                return Ok((Authorisation::Secret { reference }, device, profile));
            }
            Requester::Certificate { standing, .. } => standing,
        };
        match standing {
            Standing::Own { serial, .. } => {
                let serial = serial.clone();
                if request.kind != RequestKind::KeyUpdate {
                    return Ok((Authorisation::Certificate { serial }, None, None));
                }
                let old = self.pki.certificate(&serial).await;
                let old = old.map_err(|_| No::store())?;
                let profile = old.map(|old| old.profile);
                same_names(request, requester)?;
                Ok((Authorisation::Renewal { serial }, None, profile))
            }
            _ if request.kind == RequestKind::KeyUpdate => Err(No::new(
                Failure::NotAuthorized,
                "only a certificate of this CA is updated here",
            )),
            Standing::Manufacturer { subject } => {
                let subject = subject.clone();
                Ok((Authorisation::Manufacturer { subject }, None, None))
            }
            Standing::Relay { subject } => Err(No::new(
                Failure::NotAuthorized,
                format!("the RA {subject} does not ask for itself"),
            )),
            Standing::Stranger { .. } => {
                // Which one it is is found out below.
                Ok((Authorisation::Approval { id: String::new() }, None, None))
            }
        }
    }

    /// Asks an operator, or finds out what one has said.
    async fn approval(
        &self,
        question: &Question,
        profile: &Profile,
        order: &Order,
    ) -> Result<Asking, No> {
        if !profile.admits(Who::Approval) {
            return Err(No::new(
                Failure::SignerNotTrusted,
                "nobody vouches for the certificate that protects the request",
            ));
        }
        if order.central_key {
            return Err(No::new(
                Failure::BadRequest,
                "an operator approves a key, and the request has none",
            ));
        }
        profile
            .check_key(&order.public_key)
            .map_err(|refusal| No::from(IssueError::Key(refusal)))?;
        let Asked::Certificate(request) = &question.asked else {
            return Err(No::new(Failure::BadRequest, "nothing to approve"));
        };
        let who = text::requester(&request.requester);
        let key = sha256(&order.public_key);
        let transaction = question.transaction.as_bytes();
        let known = self.waiting.of_transaction(transaction);
        let known = known.or_else(|| self.waiting.of_key(key, &who));
        if let Some(id) = known {
            let found = self.pki.approval(&id).await.map_err(|_| No::store())?;
            let now = self.clock.now();
            if let Some(approval) = found.filter(|approval| approval.key == key) {
                self.waiting.add(transaction, key, &who, &id);
                if let Some(asking) = self.decided(&approval, now)? {
                    return Ok(asking);
                }
            }
            self.waiting.remove(&id);
        }
        let added = self
            .pki
            .add_approval(NewApproval {
                profile: profile.name().to_owned(),
                subject: request
                    .template
                    .subject
                    .as_ref()
                    .map(text::name)
                    .unwrap_or_default(),
                device: order
                    .device
                    .clone()
                    .or_else(|| asked_device(&order.requested)),
                requester: order.requester.clone(),
                public_key: order.public_key.clone(),
                request: waiting::write(&question.origin, &question.message),
            })
            .await
            .map_err(|error| {
                tracing::warn!(%error, "a request for approval could not be kept");
                No::new(
                    Failure::SystemUnavail,
                    "no more requests can wait for an operator",
                )
            })?;
        self.waiting.add(transaction, key, &who, &added.id);
        Ok(Asking::Wait(self.wait()))
    }

    /// What became of a request; nothing when it is over, and may be made again.
    fn decided(&self, approval: &ApprovalRecord, now: Millis) -> Result<Option<Asking>, No> {
        match approval.state {
            ApprovalState::Pending if approval.expires <= now => Ok(None),
            ApprovalState::Pending => Ok(Some(Asking::Wait(self.wait()))),
            ApprovalState::Approved => Ok(Some(Asking::Approved(approval.id.clone()))),
            ApprovalState::Denied => {
                let reason = approval
                    .decision
                    .as_ref()
                    .and_then(|it| it.reason.as_deref());
                let text = match reason {
                    Some(reason) => format!("an operator denied the request: {reason}"),
                    None => "an operator denied the request".to_owned(),
                };
                Err(No::new(Failure::NotAuthorized, text))
            }
            ApprovalState::Used => Ok(None),
        }
    }

    fn wait(&self) -> Decision {
        Decision::Wait {
            check_after: self.check_after,
            reason: Some("an operator has to approve the request".to_owned()),
        }
    }
}

/// What came of asking an operator.
enum Asking {
    Wait(Decision),
    /// By this approval.
    Approved(String),
}

/// Who asks.
pub(super) enum Requester {
    /// Whoever knows the secret.
    Secret {
        /// Its reference.
        reference: Vec<u8>,
        /// The secret.
        secret: Secret,
    },
    /// The holder of a certificate.
    Certificate {
        /// As whom it is believed.
        standing: Standing,
        /// The certificate.
        parts: Box<CertificateParts>,
    },
}

impl Requester {
    /// Whether it may act for others.
    pub(super) fn is_relay(&self) -> bool {
        matches!(
            self,
            Self::Certificate {
                standing: Standing::Own { relay: true, .. } | Standing::Relay { .. },
                ..
            }
        )
    }
}

/// The number of a certificate that this CA issued.
fn serial(certificate: &Certificate) -> Option<Serial> {
    let parts = CertificateParts::read(certificate).ok()?;
    Serial::from_integer(&parts.serial).ok()
}

/// The subject of an updated certificate stays what it was (RFC 9483 §4.1.3).
fn same_names(request: &CertificateRequest, requester: &Requester) -> Result<(), No> {
    let Requester::Certificate { parts, .. } = requester else {
        return Ok(());
    };
    match &request.template.subject {
        Some(subject) if !subject.is_null() && *subject != parts.subject => Err(No::new(
            Failure::BadCertTemplate,
            "an updated certificate keeps its subject",
        )),
        _ => Ok(()),
    }
}

/// What the request wishes for, from its template or its PKCS #10 request.
fn requested(request: &CertificateRequest) -> Result<Requested, No> {
    let template = &request.template;
    let subject = template.subject.as_ref().map(Name::to_der);
    let extensions = match &request.pkcs10 {
        Some(pkcs10) => super::pkcs10::extensions(pkcs10)
            .map_err(|_| No::new(Failure::BadCertTemplate, "the attributes cannot be read"))?,
        None => template.extensions.as_ref().map(|it| it.to_der()),
    };
    let mut requested = Requested::read(subject.as_deref(), extensions.as_deref())?;
    let end = template
        .validity
        .as_ref()
        .and_then(|validity| validity.not_after);
    requested.not_after = end.map(|end| Millis::from(end.to_system_time()));
    Ok(requested)
}

/// The Endpoint ID that a request names, for the operator to see.
fn asked_device(requested: &Requested) -> Option<String> {
    let names = requested.san.iter().map(ToString::to_string);
    names
        .filter_map(|name| {
            name.split_once("urn:bbf:usp:id:")
                .map(|(_, id)| id.to_owned())
        })
        .next()
}

fn sha256(data: &[u8]) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(data).into()
}
