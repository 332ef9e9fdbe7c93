//! The transactions: machines without I/O, each behind a lock, and what happens between a message and its answer.
//!
//! ```text
//!   message ─► acquaint (whose secret?) ─► [machine: protection, header, possession] ─► question ─► decide ─► [machine] ─► answer
//!                                                     │                                                          ▲
//!                                                     └─► news (refused, confirmed, unwanted) ─► noted durably ──┘
//! ```
//!
//! A transaction belongs to the machine that its identifier says, so several cores work and none waits for another's transaction for longer
//! than a signature takes. What a message sets going is done to its end, also when whoever sent it has gone. A requester that was told to
//! wait is decided about again whenever it polls; one that was told so before this server was started is taken up again from what was kept.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use homefleet_cmp::asn1::{
    Body, BodyKind, Certificate, Info, Limits, Message, RevDetails, StatusInfo,
};
use homefleet_cmp::authority::{
    Authority, AuthorityConfig, CertificateRequest, Decision, Event, ExchangeId, TransactionId,
};
use homefleet_cmp::protection::{Peers, Protection, Protector};
use homefleet_cmp::{Moment, Refusal};
use homefleet_net::cmp::{Answer, BoxFuture, Request, Scheme, Status, Target};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use tokio::sync::{Semaphore, oneshot, watch};

use super::limit::{Rate, Sources};
use crate::metrics::Sample;

/// Machines; more than cores, so that two messages seldom want the same.
const MACHINES: usize = 16;
/// How often it is looked at what is due.
const TICK: Duration = Duration::from_millis(500);
/// When somebody comes for whom there is no room, it shall come again after this.
const RETRY: Duration = Duration::from_secs(5);

/// Bounds of the front.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    /// Messages worked on at a time; more are told to come again.
    pub(super) at_once: usize,
    /// How much one source may ask for.
    pub(super) rate: Rate,
}

/// How a message came.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// Where it was sent to.
    pub(super) target: Target,
    /// Who sent it.
    pub(super) from: SocketAddr,
    /// Over which scheme.
    pub(super) scheme: Scheme,
}

/// Something to be decided.
#[derive(Debug)]
pub(super) struct Question {
    /// Of which transaction.
    pub(super) transaction: TransactionId,
    /// What is asked for.
    pub(super) asked: Asked,
    /// How the message came.
    pub(super) origin: Origin,
    /// The message itself, to be kept while it waits.
    pub(super) message: Arc<Vec<u8>>,
}

/// What is asked for.
#[derive(Debug)]
pub(super) enum Asked {
    /// A certificate.
    Certificate(Box<CertificateRequest>),
    /// A revocation.
    Revocation {
        /// Which certificate, and why.
        details: Box<RevDetails>,
        /// Who asks.
        requester: Protection,
        /// The RA that added its protection.
        relay: Option<Protection>,
    },
    /// Information.
    Infos {
        /// Which.
        infos: Vec<Info>,
        /// About which profile.
        profile: Option<String>,
        /// Who asks.
        requester: Protection,
    },
}

/// Something that happened, to be noted before anybody is told.
#[derive(Debug)]
pub(super) enum News {
    /// The requester has the certificate.
    Confirmed {
        /// The certificate.
        certificate: Certificate,
        /// Nobody had to say so.
        implicit: bool,
    },
    /// Nobody wants the certificate, or nobody said that it is wanted: it is to be revoked.
    Unwanted {
        /// The certificate.
        certificate: Certificate,
        /// Why.
        why: String,
    },
    /// The transaction ended without a decision.
    Abandoned,
    /// A message was refused.
    Refused {
        /// How it came.
        origin: Origin,
        /// Who sent it, if that was established.
        requester: Option<Protection>,
        /// Why.
        refusal: Refusal,
    },
}

/// A first message that was kept while it waits for a decision.
#[derive(Debug, Clone)]
pub(super) struct KeptRequest {
    /// The message.
    pub(super) message: Vec<u8>,
    /// How it came.
    pub(super) origin: Origin,
}

/// Something could not be made durable, or not be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store failed")]
pub(super) struct StoreFailed;

/// What the machines ask: who is known, what is decided. Everything may take its time.
pub(super) trait Decider: Send + Sync + 'static {
    /// Whether there is such a label.
    fn has_label(&self, label: &str) -> bool;

    /// Who may have sent a message of this kind: what is needed to verify its protection.
    fn acquaint<'a>(
        &'a self,
        message: &'a Message,
    ) -> BoxFuture<'a, Result<Box<dyn Peers + Send + Sync>, StoreFailed>>;

    /// The first message of a transaction that waits for a decision.
    fn kept<'a>(
        &'a self,
        transaction: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<KeptRequest>, StoreFailed>>;

    /// Decides; what is decided is durable.
    fn decide<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Decision>;

    /// Notes what happened; it is durable then.
    fn note(&self, news: News) -> BoxFuture<'_, Result<(), StoreFailed>>;
}

/// What the front counts itself; refusals are counted by who decides.
#[derive(Debug, Default)]
struct Counts {
    messages: AtomicU64,
    busy: AtomicU64,
    too_many: AtomicU64,
    failed: AtomicU64,
}

/// All machines.
pub(super) struct Machines {
    machines: Vec<Mutex<Machine>>,
    decider: Arc<dyn Decider>,
    limits: Limits,
    sources: Sources,
    places: Arc<Semaphore>,
    next: AtomicU64,
    counts: Counts,
}

struct Machine {
    authority: Authority,
    exchanges: HashMap<ExchangeId, Exchange>,
    undecided: HashMap<TransactionId, Question>,
}

/// A message whose answer is not out yet.
struct Exchange {
    origin: Origin,
    message: Arc<Vec<u8>>,
    answer: oneshot::Sender<Result<Vec<u8>, StoreFailed>>,
}

/// What came of one call of a machine.
struct Outcome {
    answers: Vec<(ExchangeId, Vec<u8>)>,
    questions: Vec<Question>,
    news: Vec<News>,
}

impl Machines {
    /// Machines that ask `decider`, with these settings each. The bounds of transactions in `config` are for all together.
    pub(super) fn new(
        config: &AuthorityConfig,
        bounds: &Bounds,
        decider: Arc<dyn Decider>,
        seed: [u8; 32],
    ) -> Self {
        let mut seeds = ChaCha20Rng::from_seed(seed);
        let share = AuthorityConfig {
            max_transactions: config.max_transactions.div_ceil(MACHINES),
            max_finished: config.max_finished.div_ceil(MACHINES),
            ..config.clone()
        };
        let machine = |_| {
            let mut seed = [0; 32];
            seeds.fill_bytes(&mut seed);
            Mutex::new(Machine {
                authority: Authority::new(share.clone(), seed),
                exchanges: HashMap::new(),
                undecided: HashMap::new(),
            })
        };
        Self {
            machines: (0..MACHINES).map(machine).collect(),
            decider,
            limits: config.limits,
            sources: Sources::new(bounds.rate),
            places: Arc::new(Semaphore::new(bounds.at_once)),
            next: AtomicU64::new(0),
            counts: Counts::default(),
        }
    }

    /// Protects answers by this from now on.
    pub(super) fn replace_protector(&self, protector: &Protector) {
        for place in 0..MACHINES {
            self.lock(place)
                .authority
                .replace_protector(protector.clone());
        }
    }

    /// What is counted of the messages themselves.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.counts;
        let open = i64::try_from(self.open()).unwrap_or(i64::MAX);
        vec![
            Sample::gauge("cmp_transactions", "CMP transactions under way", open),
            Sample::counter(
                "cmp_messages",
                "CMP messages received",
                read(&counts.messages),
            ),
            Sample::counter(
                "cmp_busy",
                "CMP messages told to come again, because there was no room",
                read(&counts.busy),
            ),
            Sample::counter(
                "cmp_too_many",
                "CMP messages told to come again, because their source asked too often",
                read(&counts.too_many),
            ),
            Sample::counter(
                "cmp_failed",
                "CMP messages that could not be answered",
                read(&counts.failed),
            ),
        ]
    }

    /// Transactions that are open.
    pub(super) fn open(&self) -> usize {
        (0..MACHINES)
            .map(|place| self.lock(place).authority.open())
            .sum()
    }

    /// Answers a message.
    pub(super) async fn answer(self: Arc<Self>, request: Request) -> Answer {
        self.counts.messages.fetch_add(1, Ordering::Relaxed);
        if let Some(label) = &request.target.label
            && !self.decider.has_label(label)
        {
            return Answer::NoSuchTarget;
        }
        if let Err(retry_after) = self.sources.take(Instant::now(), request.from.ip()) {
            self.counts.too_many.fetch_add(1, Ordering::Relaxed);
            return Answer::TooMany { retry_after };
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.counts.busy.fetch_add(1, Ordering::Relaxed);
            return Answer::Busy { retry_after: RETRY };
        };
        let (answer, answered) = oneshot::channel();
        let machines = Arc::clone(&self);
        // A task of its own: what was begun is ended, whether or not somebody still waits for the answer.
        tokio::spawn(async move {
            let exchange = Exchange {
                origin: Origin {
                    target: request.target,
                    from: request.from,
                    scheme: request.scheme,
                },
                message: Arc::new(request.message),
                answer,
            };
            machines.take(exchange).await;
            drop(place);
        });
        match answered.await {
            Ok(Ok(bytes)) => Answer::message(bytes),
            Ok(Err(StoreFailed)) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                Answer::Busy { retry_after: RETRY }
            }
            Err(_) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                Answer::Refused(Status::Failure)
            }
        }
    }

    /// One message, to the end of what it sets going.
    async fn take(&self, exchange: Exchange) {
        let message = Message::decode(&exchange.message, &self.limits).ok();
        let Some(message) = message else {
            // The machine knows what to say to that.
            let bytes = Arc::clone(&exchange.message);
            let outcome = self.with(0, |machine, moment, id| {
                machine.exchanges.insert(id, exchange);
                machine.authority.handle_input(moment, id, &bytes, &Nobody);
            });
            return self.finish(0, outcome).await;
        };
        let (transaction, kind) = inside(&message, &self.limits);
        let place = place(&transaction);
        let Ok(peers) = self.decider.acquaint(&message).await else {
            return fail(exchange);
        };
        if matches!(kind, BodyKind::PollReq | BodyKind::Error)
            && self.look_again(place, &transaction).await.is_err()
        {
            return fail(exchange);
        }
        let outcome = self.with(place, |machine, moment, id| {
            machine.exchanges.insert(id, exchange);
            machine
                .authority
                .handle_message(moment, id, &message, &*peers);
        });
        self.finish(place, outcome).await;
    }

    /// Somebody who was told to wait is here again: takes its transaction up if it is not open any more, and decides again.
    async fn look_again(&self, place: usize, transaction: &[u8]) -> Result<(), StoreFailed> {
        if !self.lock(place).authority.is_open(transaction) {
            let Some(kept) = self.decider.kept(transaction).await? else {
                return Ok(());
            };
            let Ok(message) = Message::decode(&kept.message, &self.limits) else {
                return Ok(());
            };
            let peers = self.decider.acquaint(&message).await?;
            let mut machine = self.lock(place);
            let resumed = machine.authority.resume(moment(), &message, &*peers);
            // Whoever is not believed any more is refused when its message is looked at.
            if let Ok(event) = resumed
                && let Some(question) = question(event, &kept.origin, &Arc::new(kept.message))
            {
                machine
                    .undecided
                    .insert(question.transaction.clone(), question);
            }
        }
        let question = {
            let mut machine = self.lock(place);
            let id = machine
                .undecided
                .keys()
                .find(|id| id.as_bytes() == transaction)
                .cloned();
            id.and_then(|id| machine.undecided.remove(&id))
        };
        let Some(question) = question else {
            return Ok(());
        };
        let outcome = self.decide(place, question).await;
        Box::pin(self.finish(place, outcome)).await;
        Ok(())
    }

    /// Has a question decided, and tells the machine.
    async fn decide(&self, place: usize, question: Question) -> Outcome {
        let decision = self.decider.decide(&question).await;
        let id = question.transaction.clone();
        let issued = match &decision {
            Decision::Issue(issued) => Some(issued.certificate.clone()),
            _ => None,
        };
        let waits = matches!(decision, Decision::Wait { .. });
        let mut known = true;
        let mut outcome = self.with(place, |machine, moment, _| {
            known = machine.authority.decide(moment, &id, decision).is_ok();
            if waits && known {
                machine.undecided.insert(id, question);
            }
        });
        if let (false, Some(certificate)) = (known, issued) {
            outcome.news.push(News::Unwanted {
                certificate,
                why: "the transaction was over before it was issued".to_owned(),
            });
        }
        outcome
    }

    /// Calls a machine, and takes out what came of it.
    fn with(&self, place: usize, call: impl FnOnce(&mut Machine, Moment, ExchangeId)) -> Outcome {
        let id = ExchangeId(self.next.fetch_add(1, Ordering::Relaxed));
        let mut machine = self.lock(place);
        call(&mut machine, moment(), id);
        machine.drain(Some(id))
    }

    /// Notes the news, then sends the answers, then has the questions decided, until nothing is left.
    async fn finish(&self, place: usize, mut outcome: Outcome) {
        loop {
            let mut stored = Ok(());
            for news in outcome.news {
                let noted = self.decider.note(news).await;
                stored = stored.and(noted);
            }
            for (id, bytes) in outcome.answers {
                let exchange = self.lock(place).exchanges.remove(&id);
                if let Some(exchange) = exchange {
                    // Whoever has gone does not hear it.
                    drop(exchange.answer.send(stored.map(|()| bytes)));
                }
            }
            let Some(question) = outcome.questions.pop() else {
                return;
            };
            // A call makes at most one question.
            outcome = self.decide(place, question).await;
        }
    }

    /// Does what is due, until `stop`.
    pub(super) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => self.pass(moment()).await,
                _ = stop.changed() => return,
            }
        }
    }

    /// Does what is due at this moment.
    async fn pass(&self, moment: Moment) {
        for place in 0..MACHINES {
            let outcome = {
                let mut machine = self.lock(place);
                if machine
                    .authority
                    .poll_timeout()
                    .is_none_or(|at| at > moment.now)
                {
                    continue;
                }
                machine.authority.handle_timeout(moment);
                machine.drain(None)
            };
            self.finish(place, outcome).await;
        }
    }

    fn lock(&self, place: usize) -> MutexGuard<'_, Machine> {
        self.machines[place % MACHINES]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine {
    /// What came of a call for this exchange.
    fn drain(&mut self, exchange: Option<ExchangeId>) -> Outcome {
        let mut outcome = Outcome {
            answers: Vec::new(),
            questions: Vec::new(),
            news: Vec::new(),
        };
        while let Some(answer) = self.authority.poll_transmit() {
            outcome.answers.push(answer);
        }
        while let Some(event) = self.authority.poll_event() {
            self.sort(event, exchange, &mut outcome);
        }
        outcome
    }

    fn sort(&mut self, event: Event, exchange: Option<ExchangeId>, outcome: &mut Outcome) {
        match event {
            Event::Confirmed {
                certificate,
                implicit,
                ..
            } => outcome.news.push(News::Confirmed {
                certificate,
                implicit,
            }),
            Event::Declined {
                certificate,
                status,
                ..
            } => outcome.news.push(News::Unwanted {
                certificate,
                why: declined(&status),
            }),
            Event::Unconfirmed { certificate, .. } => outcome.news.push(News::Unwanted {
                certificate,
                why: "nobody confirmed it in time".to_owned(),
            }),
            Event::Abandoned { transaction } => {
                self.undecided.remove(&transaction);
                outcome.news.push(News::Abandoned);
            }
            Event::Refused {
                exchange,
                requester,
                refusal,
            } => {
                if let Some(exchange) = self.exchanges.get(&exchange) {
                    outcome.news.push(News::Refused {
                        origin: exchange.origin.clone(),
                        requester,
                        refusal,
                    });
                }
            }
            Event::Failed { exchange, why } => {
                tracing::error!(why, "a CMP message could not be answered");
                self.exchanges.remove(&exchange);
            }
            asked => {
                if let Some(exchange) = exchange.and_then(|id| self.exchanges.get(&id)) {
                    outcome
                        .questions
                        .extend(question(asked, &exchange.origin, &exchange.message));
                }
            }
        }
    }
}

/// What an event asks; nothing for one that only tells.
fn question(event: Event, origin: &Origin, message: &Arc<Vec<u8>>) -> Option<Question> {
    let (transaction, asked) = match event {
        Event::Requested {
            transaction,
            request,
        } => (transaction, Asked::Certificate(request)),
        Event::RevocationRequested {
            transaction,
            details,
            requester,
            relay,
        } => (
            transaction,
            Asked::Revocation {
                details,
                requester,
                relay,
            },
        ),
        Event::InfoRequested {
            transaction,
            infos,
            profile,
            requester,
        } => (
            transaction,
            Asked::Infos {
                infos,
                profile,
                requester,
            },
        ),
        _ => return None,
    };
    Some(Question {
        transaction,
        asked,
        origin: origin.clone(),
        message: Arc::clone(message),
    })
}

fn declined(status: &StatusInfo) -> String {
    format!("it was declined: {status}")
}

fn fail(exchange: Exchange) {
    // Whoever has gone does not hear it.
    drop(exchange.answer.send(Err(StoreFailed)));
}

/// The transaction and the body of a message, of the innermost one when an RA added its protection.
fn inside(message: &Message, limits: &Limits) -> (Vec<u8>, BodyKind) {
    let (mut transaction, mut kind) = outside(message);
    if let Body::Nested(_) = &*message.body
        && let Ok([inner]) = message.nested(limits).as_deref()
    {
        (transaction, kind) = outside(inner);
    }
    (transaction, kind)
}

fn outside(message: &Message) -> (Vec<u8>, BodyKind) {
    let id = message.header.transaction_id.as_ref();
    let id = id.map(|id| id.as_bytes().to_vec());
    (id.unwrap_or_default(), message.body.kind())
}

fn place(transaction: &[u8]) -> usize {
    let mut hasher = DefaultHasher::new();
    transaction.hash(&mut hasher);
    usize::try_from(hasher.finish() % MACHINES as u64).unwrap_or(0)
}

fn moment() -> Moment {
    Moment {
        now: Instant::now(),
        time: Some(SystemTime::now()),
    }
}

/// For what cannot be read: nobody is asked about it.
struct Nobody;

impl Peers for Nobody {
    fn secret(&self, _: &[u8]) -> Option<homefleet_cmp::crypto::Secret> {
        None
    }

    fn judge(
        &self,
        _: &Certificate,
        _: &[Certificate],
    ) -> Result<(), homefleet_cmp::protection::Distrust> {
        Err(homefleet_cmp::protection::Distrust::Untrusted(String::new()))
    }
}
