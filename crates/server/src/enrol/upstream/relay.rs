//! What becomes of a message under the label of a CA elsewhere.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use homefleet_cmp::asn1::{Body, BodyKind, Failure, Message, StatusInfo};
use homefleet_cmp::protection::{ProtectError, Protection, ProtectionPolicy, Protector, verify};
use homefleet_cmp::relay::{Words, own_only, protector_for, reprotect};
use homefleet_cmp::{Refusal, RequestParts, TimePolicy, inspect};
use homefleet_net::cmp::{Answer, Gateway, Request, Status};
use tokio::sync::Semaphore;

use super::way::{Failed, Usual, Way, issues, moment, rng};
use crate::enrol::decide::{Ca, No, Requester};
use crate::enrol::limit::Sources;
use crate::enrol::machine::{Bounds, Decider as _, Origin};
use crate::enrol::standing::Standing;
use crate::enrol::{text, waiting};
use crate::metrics::Sample;
use crate::pki::{NewApproval, Relayed};
use crate::store::pki::{ApprovalRecord, ApprovalState};

/// What a requester is told that waits.
const ASKING: &str = "an operator has to approve the request";
const NOT_THERE: &str = "the CA cannot be reached, the request is kept";
/// Who approves what only waits for a CA that is not there.
const POLICY: &str = "policy";

/// What may be asked for under a label, and how.
pub(super) struct Rules {
    /// Kinds of messages that pass; `None`: all.
    pub(super) kinds: Option<Vec<BodyKind>>,
    /// Kinds that an operator approves.
    pub(super) approve: Vec<BodyKind>,
    /// Whether requests for certificates wait here for a CA that is not there.
    pub(super) wait: bool,
    /// Answer what was polled for with the nonce of the poll.
    pub(super) old_polling: bool,
    pub(super) policy: ProtectionPolicy,
}

/// A CA elsewhere, under its label.
pub(in crate::enrol) struct Relay {
    label: String,
    rules: Rules,
    ca: Ca,
    way: Way,
    usual: Usual,
    sources: Sources,
    places: Arc<Semaphore>,
    /// Transactions whose kept request is on its way: a second poll waits.
    going: Mutex<HashSet<Vec<u8>>>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    passed: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    waiting: AtomicU64,
    refused: AtomicU64,
    busy: AtomicU64,
}

/// A message that was verified, and whose.
struct Asked<'a> {
    message: &'a Message,
    origin: &'a Origin,
    who: Protection,
    /// How it is answered.
    protector: Protector,
}

/// What the requester gets instead of an answer of the CA.
enum Instead {
    /// A message of ours.
    Words(Box<Result<Message, ProtectError>>),
    /// No message.
    Code(Answer),
}

impl From<Answer> for Instead {
    fn from(answer: Answer) -> Self {
        Self::Code(answer)
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Relay {
    pub(super) fn new(
        label: String,
        rules: Rules,
        bounds: Bounds,
        ca: Ca,
        way: Way,
        protector: Protector,
    ) -> Self {
        Self {
            label,
            rules,
            ca,
            way,
            usual: Usual::new(protector),
            sources: Sources::new(bounds.rate),
            places: Arc::new(Semaphore::new(bounds.at_once)),
            going: Mutex::default(),
            counts: Counts::default(),
        }
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn replace_roots(
        &self,
        hierarchy: &crate::pki::Hierarchy,
    ) -> Result<(), homefleet_trust::AnchorError> {
        self.ca.grounds.replace_roots(hierarchy)
    }

    pub(super) fn replace_protector(&self, protector: &Protector) {
        self.usual.replace(protector);
    }

    /// Answers a message. What was begun is ended, whether or not somebody still waits for the answer.
    pub(in crate::enrol) async fn answer(self: Arc<Self>, request: Request) -> Answer {
        if let Err(retry_after) = self.sources.take(Instant::now(), request.from.ip()) {
            count(&self.counts.busy);
            return Answer::TooMany { retry_after };
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            count(&self.counts.busy);
            let retry_after = self.ca.check_after;
            return Answer::Busy { retry_after };
        };
        let working = tokio::spawn(async move {
            let answer = self.take(request).await;
            drop(place);
            answer
        });
        working.await.unwrap_or(Answer::Refused(Status::Failure))
    }

    async fn take(&self, request: Request) -> Answer {
        let origin = Origin {
            target: request.target,
            from: request.from,
            scheme: request.scheme,
        };
        let Ok(message) = Message::decode(&request.message, &self.ca.limits) else {
            count(&self.counts.refused);
            return Answer::Refused(Status::BadRequest);
        };
        match self.work(&message, &origin).await {
            Ok(answer) => answer_of(Ok(answer)),
            Err(Instead::Words(words)) => answer_of(*words),
            Err(Instead::Code(answer)) => answer,
        }
    }

    async fn work(&self, message: &Message, origin: &Origin) -> Result<Message, Instead> {
        let who = match self.verified(message).await? {
            Ok(who) => who,
            Err(refusal) => return Err(self.refuse(message, origin, &refusal).await),
        };
        let protector = protector_for(&who, &self.usual.get());
        let asked = Asked {
            message,
            origin,
            who,
            protector,
        };
        if let Err(no) = self.may(&asked).await {
            return Err(self.reject(&asked, message, &no).await);
        }
        match message.body.kind() {
            BodyKind::PollReq => self.polled(&asked).await,
            BodyKind::Ir | BodyKind::Cr | BodyKind::Kur | BodyKind::P10cr => {
                self.first(&asked).await
            }
            _ => self.pass(&asked).await,
        }
    }

    /// Whose message it is; an inner failure is one of the sender's.
    async fn verified(&self, message: &Message) -> Result<Result<Protection, Refusal>, Instead> {
        let limits = &self.ca.limits;
        if let Err(refusal) = inspect::request(message, limits, moment(), &TimePolicy::default()) {
            return Ok(Err(refusal));
        }
        let kind = message.body.kind();
        if kind == BodyKind::Nested {
            return Ok(Err(Refusal::UnsupportedBody(kind)));
        }
        let peers = self.ca.acquaint(message).await;
        let peers = peers.map_err(|_| self.later())?;
        Ok(match verify(message, &self.rules.policy, &*peers) {
            Ok(Protection::None) => Err(Refusal::Unprotected),
            other => other,
        })
    }

    /// Whether the sender may have this passed on.
    async fn may(&self, asked: &Asked<'_>) -> Result<(), No> {
        let kind = asked.message.body.kind();
        let passes = |kinds: &Vec<BodyKind>| kinds.contains(&kind);
        if !self.rules.kinds.as_ref().is_none_or(passes) {
            let text = format!("{kind} is not passed on");
            return Err(No::new(Failure::NotAuthorized, text));
        }
        let who = self.ca.who(&asked.who, false).await?;
        // Where the CA sees our protection alone, it takes our word for whose certificate it is.
        if !self.way.nests() && !who.is_relay() {
            own_only(asked.message, &asked.who)
                .map_err(|refusal| No::new(refusal.failure(), refusal.to_string()))?;
        }
        match who {
            Requester::Secret { reference, .. } if begins(kind) => {
                let found = self.ca.pki.secret(&reference).await;
                let found = found.map_err(|_| unavailable())?;
                let profile = found.as_ref().and_then(|it| it.profile.as_deref());
                match found {
                    Some(ref found) if found.left && profile.is_none_or(|it| it == self.label) => {
                        Ok(())
                    }
                    _ => Err(No::new(
                        Failure::NotAuthorized,
                        "the secret is not for this, or was used before",
                    )),
                }
            }
            Requester::Certificate {
                standing: Standing::Stranger { why, .. },
                ..
            } if begins(kind) && !self.rules.approve.contains(&kind) => {
                Err(No::new(Failure::SignerNotTrusted, why))
            }
            _ => Ok(()),
        }
    }

    /// The first message of a transaction for a certificate.
    async fn first(&self, asked: &Asked<'_>) -> Result<Message, Instead> {
        let kind = asked.message.body.kind();
        let mut approval = None;
        if self.rules.approve.contains(&kind) {
            let found = self.known(asked).await?;
            match found.as_ref().map(|found| found.state) {
                None => {
                    self.keep(asked, false).await?;
                    return Err(self.waits(asked, ASKING));
                }
                Some(ApprovalState::Pending) => return Err(self.waits(asked, ASKING)),
                Some(ApprovalState::Denied) => {
                    return Err(self.denied(asked, asked.message, found.as_ref()).await);
                }
                Some(ApprovalState::Approved | ApprovalState::Used) => approval = found,
            }
        }
        match self.up(asked, asked.message, approval.as_ref()).await {
            Ok(answer) => self.reprotected(asked, answer),
            Err(Failed::NotThere(error)) if self.rules.wait => {
                tracing::warn!(label = self.label, %error, "a CA is not there, a request waits for it");
                if approval.is_none() {
                    self.keep(asked, true).await?;
                }
                Err(self.waits(asked, NOT_THERE))
            }
            Err(failed) => Err(self.failed(&failed)),
        }
    }

    /// Somebody asks whether its request is through.
    async fn polled(&self, asked: &Asked<'_>) -> Result<Message, Instead> {
        let transaction = transaction(asked.message);
        let Some(found) = self.record(&transaction).await? else {
            // It waits at the CA.
            return self.pass(asked).await;
        };
        let who = found.requester.rsplit_once(" at ").map(|(who, _)| who);
        if who != Some(&text::requester(&asked.who)) {
            let why = "it is another's transaction".to_owned();
            let refusal = Refusal::Unauthorized(why);
            return Err(self.refuse(asked.message, asked.origin, &refusal).await);
        }
        let kept = waiting::read(&found.request);
        let kept = kept.and_then(|kept| Message::decode(&kept.message, &self.ca.limits).ok());
        let Some(first) = kept.filter(|first| self::transaction(first) == transaction) else {
            return self.pass(asked).await;
        };
        match found.state {
            ApprovalState::Pending if found.expires > self.ca.clock.now() => {
                Err(self.still_waits(asked, ASKING))
            }
            ApprovalState::Pending => {
                self.ca.waiting.remove(&found.id);
                let no = No::new(
                    Failure::NotAuthorized,
                    "nobody approved the request in time",
                );
                Err(self.reject(asked, &first, &no).await)
            }
            ApprovalState::Denied => Err(self.denied(asked, &first, Some(&found)).await),
            ApprovalState::Used => self.pass(asked).await,
            ApprovalState::Approved => {
                let Some(_going) = Going::new(self, &transaction) else {
                    return Err(self.still_waits(asked, ASKING));
                };
                match self.up(asked, &first, Some(&found)).await {
                    Ok(answer) => self.reprotected(asked, answer),
                    Err(Failed::NotThere(_)) => Err(self.still_waits(asked, NOT_THERE)),
                    Err(failed) => Err(self.failed(&failed)),
                }
            }
        }
    }

    /// Whatever goes on, and questions: to the CA and back.
    async fn pass(&self, asked: &Asked<'_>) -> Result<Message, Instead> {
        match self.up(asked, asked.message, None).await {
            Ok(answer) => self.reprotected(asked, answer),
            Err(Failed::NotThere(_)) if asked.message.body.kind() == BodyKind::PollReq => {
                Err(self.still_waits(asked, NOT_THERE))
            }
            Err(failed) => Err(self.failed(&failed)),
        }
    }

    /// To the CA and back; what it used up is on disk before the answer leaves.
    async fn up(
        &self,
        asked: &Asked<'_>,
        message: &Message,
        approval: Option<&ApprovalRecord>,
    ) -> Result<Message, Failed> {
        count(&self.counts.passed);
        let operation = asked.origin.target.operation;
        let operation = operation.filter(|_| message.body.kind() == asked.message.body.kind());
        let usual = self.usual.get();
        let limits = &self.ca.limits;
        let answer = self.way.exchange(message, operation, &usual, limits).await;
        match &answer {
            Ok(_) => count(&self.counts.answered),
            Err(failed) => {
                count(&self.counts.failed);
                tracing::debug!(label = self.label, %failed, "no answer of a CA");
            }
        }
        // Where nobody knows whether the CA has it, it is not sent again.
        if matches!(answer, Err(Failed::NotThere(_) | Failed::Here(_))) {
            return answer;
        }
        // Also when it comes with a poll; an update is nobody's first.
        let first = |answer: &Message| answer.body.kind() != BodyKind::Kup && issues(answer);
        let secret = match &asked.who {
            Protection::Secret { reference, .. } if answer.as_ref().is_ok_and(first) => {
                Some(reference.clone())
            }
            _ => None,
        };
        let approval = approval.filter(|found| found.state == ApprovalState::Approved);
        if secret.is_none() && approval.is_none() {
            return answer;
        }
        let relayed = Relayed {
            approval: approval.map(|found| (found.id.clone(), found.key)),
            secret,
            label: self.label.clone(),
            who: format!("{} at {}", text::requester(&asked.who), asked.origin.from),
        };
        let stored = self.ca.pki.relayed(relayed).await;
        if let Some(found) = approval {
            self.ca.waiting.remove(&found.id);
        }
        match stored {
            Ok(()) => answer,
            Err(error) => {
                tracing::warn!(label = self.label, %error, "a CA's answer is not handed on");
                Err(Failed::Here(error.to_string()))
            }
        }
    }

    /// The CA's answer as its requester gets it.
    fn reprotected(&self, asked: &Asked<'_>, answer: Message) -> Result<Message, Instead> {
        if self.way.nests() {
            return Ok(answer);
        }
        let mut rng = rng().map_err(|_| Answer::Refused(Status::Failure))?;
        let polled = asked.message.body.kind() == BodyKind::PollReq;
        let nonce = asked.message.header.sender_nonce.clone();
        let change = |header: &mut homefleet_cmp::asn1::Header| {
            header.recipient = asked.message.header.sender.clone();
            if polled && self.rules.old_polling {
                header.recip_nonce = nonce;
            }
        };
        reprotect(&answer, &asked.protector, change, &mut rng)
            .map_err(|error| Instead::Words(Box::new(Err(error))))
    }

    /// The request for approval of this transaction, or of this key by the same requester.
    async fn known(&self, asked: &Asked<'_>) -> Result<Option<ApprovalRecord>, Instead> {
        let transaction = transaction(asked.message);
        let key = self.key(asked.message);
        let who = text::requester(&asked.who);
        let waiting = &self.ca.waiting;
        let id = waiting.of_transaction(&transaction);
        let Some(id) = id.or_else(|| waiting.of_key(key, &who)) else {
            return Ok(None);
        };
        let found = self.ca.pki.approval(&id).await;
        let found = found.map_err(|_| self.later())?;
        let now = self.ca.clock.now();
        let good = |found: &ApprovalRecord| {
            let over = found.state == ApprovalState::Used
                || found.state == ApprovalState::Pending && found.expires <= now;
            found.key == key && found.profile == self.label && !over
        };
        let found = found.filter(good);
        match &found {
            Some(found) => waiting.add(&transaction, key, &who, &found.id),
            None => waiting.remove(&id),
        }
        Ok(found)
    }

    /// The request for approval that a poll is about.
    async fn record(&self, transaction: &[u8]) -> Result<Option<ApprovalRecord>, Instead> {
        let Some(id) = self.ca.waiting.of_transaction(transaction) else {
            return Ok(None);
        };
        let found = self.ca.pki.approval(&id).await;
        let found = found.map_err(|_| self.later())?;
        Ok(found.filter(|found| found.profile == self.label))
    }

    /// Keeps a request until somebody has decided; `decided`: by policy, it only waits for the CA.
    async fn keep(&self, asked: &Asked<'_>, decided: bool) -> Result<(), Instead> {
        let message = asked.message.encode();
        let message = message.map_err(|_| Answer::Refused(Status::BadRequest))?;
        let who = text::requester(&asked.who);
        let new = NewApproval {
            profile: self.label.clone(),
            subject: subject(asked.message),
            device: None,
            requester: format!("{who} at {}", asked.origin.from),
            public_key: key_of(asked.message),
            request: waiting::write(asked.origin, &message),
        };
        let kept = self.ca.pki.add_approval(new).await;
        let kept = kept.map_err(|error| {
            tracing::warn!(label = self.label, %error, "a request cannot be kept");
            self.later()
        })?;
        if decided {
            let reason = Some("the CA cannot be reached");
            let done = self.ca.pki.decide(&kept.id, true, POLICY, reason).await;
            done.map_err(|_| self.later())?;
        }
        let transaction = transaction(asked.message);
        let key = self.key(asked.message);
        self.ca.waiting.add(&transaction, key, &who, &kept.id);
        Ok(())
    }

    fn key(&self, message: &Message) -> [u8; 32] {
        use sha2::{Digest as _, Sha256};
        Sha256::digest(key_of(message)).into()
    }

    fn waits(&self, asked: &Asked<'_>, why: &str) -> Instead {
        count(&self.counts.waiting);
        match rng() {
            Ok(mut rng) => said(words(asked).waiting(why, &mut rng)),
            Err(_) => Answer::Refused(Status::Failure).into(),
        }
    }

    fn still_waits(&self, asked: &Asked<'_>, why: &str) -> Instead {
        let after = self.ca.check_after;
        match rng() {
            Ok(mut rng) => said(words(asked).still_waiting(after, why, &mut rng)),
            Err(_) => Answer::Refused(Status::Failure).into(),
        }
    }

    async fn denied(
        &self,
        asked: &Asked<'_>,
        first: &Message,
        found: Option<&ApprovalRecord>,
    ) -> Instead {
        let decision = found.and_then(|found| found.decision.as_ref());
        let reason = decision.and_then(|it| it.reason.as_deref());
        let text = match reason {
            Some(reason) => format!("an operator denied the request: {reason}"),
            None => "an operator denied the request".to_owned(),
        };
        self.reject(asked, first, &No::new(Failure::NotAuthorized, text))
            .await
    }

    /// Rejects what the first message asked for.
    async fn reject(&self, asked: &Asked<'_>, first: &Message, no: &No) -> Instead {
        count(&self.counts.refused);
        let who = text::requester(&asked.who);
        self.ca.refused("cmp.relay", &who, asked.origin, no).await;
        let status = StatusInfo::rejection(no.failure, no.text.clone());
        match rng() {
            Ok(mut rng) => said(words(asked).status(first, status, &mut rng)),
            Err(_) => Answer::Refused(Status::Failure).into(),
        }
    }

    /// Refuses a message whose sender is not believed.
    async fn refuse(&self, message: &Message, origin: &Origin, refusal: &Refusal) -> Instead {
        count(&self.counts.refused);
        let no = No::new(refusal.failure(), refusal.to_string());
        self.ca.refused("cmp.relay", "unknown", origin, &no).await;
        let protector = self.usual.get();
        let words = Words {
            to: message,
            protector: &protector,
            moment: moment(),
        };
        match rng() {
            Ok(mut rng) => said(words.refuse(refusal, &mut rng)),
            Err(_) => Answer::Refused(Status::Failure).into(),
        }
    }

    fn failed(&self, failed: &Failed) -> Instead {
        Instead::Code(match failed {
            Failed::NotThere(_) | Failed::Answer(_) => Answer::Gateway(Gateway::Bad),
            Failed::Unclear(_) => Answer::Gateway(Gateway::Timeout),
            Failed::Here(why) => {
                tracing::error!(label = self.label, why, "a message could not be passed on");
                Answer::Refused(Status::Failure)
            }
        })
    }

    fn later(&self) -> Instead {
        let retry_after = self.ca.check_after;
        Instead::Code(Answer::Busy { retry_after })
    }

    fn going(&self) -> MutexGuard<'_, HashSet<Vec<u8>>> {
        self.going.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A kept request on its way; there is one at a time.
struct Going<'a> {
    relay: &'a Relay,
    transaction: Vec<u8>,
}

impl<'a> Going<'a> {
    fn new(relay: &'a Relay, transaction: &[u8]) -> Option<Self> {
        let new = relay.going().insert(transaction.to_vec());
        new.then(|| Self {
            relay,
            transaction: transaction.to_vec(),
        })
    }
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        self.relay.going().remove(&self.transaction);
    }
}

fn words<'a>(asked: &'a Asked<'_>) -> Words<'a> {
    Words {
        to: asked.message,
        protector: &asked.protector,
        moment: moment(),
    }
}

fn said(message: Result<Message, ProtectError>) -> Instead {
    Instead::Words(Box::new(message))
}

fn answer_of(message: Result<Message, ProtectError>) -> Answer {
    let bytes = match message {
        Ok(message) => message.encode().map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match bytes {
        Ok(bytes) => Answer::message(bytes),
        Err(error) => {
            tracing::error!(error, "a CMP message could not be answered");
            Answer::Refused(Status::Failure)
        }
    }
}

/// Whether it asks for a first, or another, certificate.
fn begins(kind: BodyKind) -> bool {
    matches!(kind, BodyKind::Ir | BodyKind::Cr | BodyKind::P10cr)
}

fn unavailable() -> No {
    No::new(Failure::SystemUnavail, "try again later")
}

fn transaction(message: &Message) -> Vec<u8> {
    let id = message.header.transaction_id.as_ref();
    id.map(|id| id.as_bytes().to_vec()).unwrap_or_default()
}

/// What an approval is for: the key, or where the CA is to make it all of the request.
fn key_of(message: &Message) -> Vec<u8> {
    let key = match &*message.body {
        Body::Ir(requests) | Body::Cr(requests) | Body::Kur(requests) => requests
            .first()
            .and_then(|it| Some(it.cert_req.cert_template.public_key.as_ref()?.to_der())),
        Body::P10cr(request) => RequestParts::read(request)
            .ok()
            .map(|parts| parts.public_key.to_der()),
        _ => None,
    };
    key.unwrap_or_else(|| message.body.der().to_vec())
}

fn subject(message: &Message) -> String {
    let name = match &*message.body {
        Body::Ir(requests) | Body::Cr(requests) | Body::Kur(requests) => requests
            .first()
            .and_then(|it| it.cert_req.cert_template.subject.clone()),
        Body::P10cr(request) => RequestParts::read(request).ok().map(|parts| parts.subject),
        _ => None,
    };
    name.map(|name| text::name(&name)).unwrap_or_default()
}

/// Samples of one name follow each other.
pub(super) fn samples(all: &[Arc<Relay>]) -> Vec<Sample> {
    type Read = fn(&Counts) -> &AtomicU64;
    let counters: [(&'static str, &'static str, Read); 6] = [
        (
            "cmp_upstream_passed",
            "CMP messages passed on to a CA elsewhere",
            |it| &it.passed,
        ),
        (
            "cmp_upstream_answered",
            "CMP messages that a CA elsewhere answered",
            |it| &it.answered,
        ),
        (
            "cmp_upstream_failed",
            "CMP messages that a CA elsewhere did not answer",
            |it| &it.failed,
        ),
        (
            "cmp_upstream_waiting",
            "Requests for a CA elsewhere told to wait for an operator, or for the CA",
            |it| &it.waiting,
        ),
        (
            "cmp_upstream_refused",
            "CMP messages refused before a CA elsewhere heard of them",
            |it| &it.refused,
        ),
        (
            "cmp_upstream_busy",
            "CMP messages for a CA elsewhere told to come again",
            |it| &it.busy,
        ),
    ];
    let mut samples = Vec::new();
    for (name, help, read) in counters {
        samples.extend(all.iter().map(|relay| {
            let value = read(&relay.counts).load(Ordering::Relaxed);
            Sample::counter(name, help, value).labelled("label", &relay.label)
        }));
    }
    samples
}
