//! One transaction of an end entity, from its request to its end, over a transfer that may fail (RFC 9483 §4).
//!
//! [`Session::run`] drives [`homefleet_cmp::client::Client`]: it sends what the machine wants sent, again when the transfer failed, polls
//! when it is told to wait, and asks the [`Applicant`] whether an offered certificate is wanted. A message is sent again byte for byte. Who
//! had it already answers with an error then, because each message counts once; for a request that means that its answer was lost, and a
//! new transaction begins. For a confirmation it means that nobody here knows whether the certificate is confirmed:
//! [`SessionError::ConfirmationUnclear`].
//!
//! Dropping the future ends the transaction on this side; the other side ends it by its own time limits. A confirmation that an applicant
//! kept ([`Applicant::sending`]) can be sent again later, by another process too: [`Session::confirm_again`].

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use homefleet_cmp::{
    Moment, Refusal,
    asn1::{Body, BodyKind, Failure, Message, StatusInfo},
    client::{Client, ClientConfig, ClientError, ClientEvent, Offer, Outcome, Request},
    protection::{Peers, ProtectError, Protection, verify},
};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{BoxFuture, ExchangeError, Operation, Url};

/// New transactions after lost answers, at most.
const MAX_RESTARTS: u32 = 8;

/// Takes a message to the other side, and its answer back. It bounds the time of one exchange itself.
pub trait Transfer: Send + Sync {
    /// Sends a PKIMessage; the PKIMessage that answers it.
    fn exchange<'a>(&'a self, message: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, TransferError>>;
}

/// A server that is reached by a [`Client`](super::Client).
#[derive(Clone, Debug)]
pub struct Server {
    /// How it is reached.
    pub client: super::Client,
    /// Where it is.
    pub url: Url,
    /// The operation that the path names, if it shall.
    pub operation: Option<Operation>,
}

impl Transfer for Server {
    fn exchange<'a>(&'a self, message: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, TransferError>> {
        Box::pin(async move {
            let exchange = self.client.exchange(&self.url, self.operation, message);
            exchange.await.map_err(TransferError::from)
        })
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// It may go better next time.
    #[error("{reason}")]
    Failed {
        /// Why.
        reason: String,
        /// When the other side wants to be asked again.
        again_after: Option<Duration>,
    },
    /// It would not go better next time: no such resource, a peer that is not trusted.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
}

impl From<ExchangeError> for TransferError {
    fn from(error: ExchangeError) -> Self {
        let reason = error.to_string();
        match &error {
            error if !error.is_transient() => Self::Refused { reason },
            ExchangeError::Refused { retry_after, .. } => Self::Failed {
                reason,
                again_after: *retry_after,
            },
            _ => Self::Failed {
                reason,
                again_after: None,
            },
        }
    }
}

/// How often and after which time a message is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The rest after the first failure; it doubles with each one, and is varied by a quarter.
    pub first: Duration,
    /// The longest rest.
    pub longest: Duration,
    /// How often one message is sent at most.
    pub attempts: u32,
}

impl Default for Backoff {
    /// After 1 s first, after 5 minutes at most, 8 times.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            attempts: 8,
        }
    }
}

impl Backoff {
    /// The rest after so many failures; `random` varies it by a quarter in both directions.
    pub fn rest(&self, failures: u32, random: u8) -> Duration {
        let factor = 1_u32
            .checked_shl(failures.saturating_sub(1).min(31))
            .unwrap_or(u32::MAX);
        let rest = self.first.saturating_mul(factor).min(self.longest);
        rest * 3 / 4 + rest / 2 * u32::from(random) / 255
    }
}

/// Settings of a session.
#[derive(Clone)]
pub struct SessionConfig {
    /// The transaction's. Its `answer_within` and `give_up_after` are those of the session, [`within`](Self::within).
    pub client: ClientConfig,
    /// When the transfer fails.
    pub backoff: Backoff,
    /// How long everything may take, polling included.
    pub within: Duration,
    /// The time of day for `messageTime`, if it is known.
    pub time: Arc<dyn Fn() -> Option<SystemTime> + Send + Sync>,
    /// Fresh random bytes.
    pub seed: Arc<dyn Fn() -> [u8; 32] + Send + Sync>,
}

impl SessionConfig {
    /// With this machine's clock and random numbers; a day in all.
    pub fn new(client: ClientConfig) -> Self {
        Self {
            client,
            backoff: Backoff::default(),
            within: Duration::from_secs(86_400),
            time: Arc::new(|| Some(SystemTime::now())),
            seed: Arc::new(|| {
                let mut seed = [0; 32];
                // Without random numbers nothing here would be safe.
                getrandom::fill(&mut seed).expect("the system has random numbers");
                seed
            }),
        }
    }
}

impl fmt::Debug for SessionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionConfig")
            .field("client", &self.client)
            .field("backoff", &self.backoff)
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}

/// Who wants something. Its methods may block for as long as writing to a disk takes.
pub trait Applicant: Send {
    /// What is asked for. It is asked again when a transaction has to begin anew.
    ///
    /// # Errors
    /// Why nothing can be asked for; the session ends.
    fn request(&mut self) -> Result<Request, String>;

    /// A certificate for the key that was asked for: whether it is wanted. Before this returns `Ok`, it has to be kept: it is confirmed
    /// next, or is so already ([`Offer::implicit`]).
    ///
    /// # Errors
    /// What the other side is told instead.
    fn offered(&mut self, offer: &Offer) -> Result<(), StatusInfo> {
        let _ = offer;
        Ok(())
    }

    /// This message goes out next, for the first time.
    ///
    /// # Errors
    /// Why it must not; the session ends.
    fn sending(&mut self, kind: BodyKind, message: &[u8]) -> Result<(), String> {
        let (_, _) = (kind, message);
        Ok(())
    }

    /// Something that a person may want to see.
    fn progress(&mut self, progress: &Progress) {
        let _ = progress;
    }
}

/// How it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A transaction began: its `transactionID`.
    Began(Vec<u8>),
    /// A message was sent.
    Sent(BodyKind),
    /// The transfer failed.
    TransferFailed {
        /// Why.
        reason: String,
        /// After which time the message is sent again.
        again_after: Duration,
    },
    /// The answer takes time.
    Waiting {
        /// After which time it is asked for.
        check_after: Duration,
        /// Why.
        reason: Option<String>,
    },
    /// An answer was lost: everything begins anew.
    Restarted,
    /// A certificate is there. One for another key was declined.
    Offered {
        /// Whether it is for our key.
        key_fits: bool,
    },
}

/// Why a session has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The transfer fails for good, or failed too often.
    #[error("{0}")]
    Transfer(TransferError),
    /// The time is over.
    #[error("there was no answer in time")]
    TimedOut,
    /// The answer is not acceptable.
    #[error("the answer is not acceptable: {refusal}{}", .said.as_ref().map(|said| format!(" (it says, unverified: {said})")).unwrap_or_default())]
    Unacceptable {
        /// Why.
        refusal: Refusal,
        /// What an error message says that could not be verified.
        said: Option<StatusInfo>,
    },
    /// Whether the certificate is confirmed is not known.
    #[error("the answer to the confirmation was lost, and asking again was answered by {0}")]
    ConfirmationUnclear(StatusInfo),
    /// The applicant ends it.
    #[error("{0}")]
    Applicant(String),
    /// A message cannot be made.
    #[error(transparent)]
    Protect(#[from] ProtectError),
    /// Answers were lost too often.
    #[error("answers were lost too often")]
    Restarts,
}

/// What a session needs.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    /// The transfer.
    pub transfer: &'a dyn Transfer,
    /// Who may answer.
    pub peers: &'a (dyn Peers + Sync),
    /// The settings.
    pub config: &'a SessionConfig,
}

impl fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// How a transaction ended.
enum End {
    Outcome(Outcome),
    /// The answer to the request or to a poll was lost.
    Lost,
}

/// The message that was answered last.
#[derive(Clone, Copy)]
struct Sent {
    kind: BodyKind,
    /// The transfer failed before it was answered.
    again: bool,
}

impl Session<'_> {
    /// One request and whatever it takes until it is answered for good.
    ///
    /// # Errors
    /// When there is no outcome; a request that is refused is one.
    pub async fn run(&self, applicant: &mut dyn Applicant) -> Result<Outcome, SessionError> {
        let until = Instant::now() + self.config.within;
        for _ in 0..MAX_RESTARTS {
            match self.transaction(applicant, until).await? {
                End::Outcome(outcome) => return Ok(outcome),
                End::Lost => applicant.progress(&Progress::Restarted),
            }
        }
        Err(SessionError::Restarts)
    }

    async fn transaction(
        &self,
        applicant: &mut dyn Applicant,
        until: Instant,
    ) -> Result<End, SessionError> {
        let config = ClientConfig {
            answer_within: self.config.within,
            give_up_after: self.config.within,
            ..self.config.client.clone()
        };
        let request = applicant.request().map_err(SessionError::Applicant)?;
        let mut client = Client::start(config, request, self.moment(), (self.config.seed)())?;
        applicant.progress(&Progress::Began(client.transaction().to_vec()));
        let mut sent = Sent {
            kind: BodyKind::Error,
            again: false,
        };
        let mut answer = Vec::new();
        loop {
            while let Some(event) = client.poll_event() {
                match event {
                    ClientEvent::Waiting {
                        check_after,
                        reason,
                    } => applicant.progress(&Progress::Waiting {
                        check_after,
                        reason,
                    }),
                    ClientEvent::Offered(offer) => {
                        let key_fits = offer.key_fits;
                        applicant.progress(&Progress::Offered { key_fits });
                        if key_fits {
                            match applicant.offered(&offer) {
                                Ok(()) => client.accept(self.moment())?,
                                Err(status) => client.decline(self.moment(), status)?,
                            }
                        }
                    }
                    ClientEvent::Ignored(refusal) => {
                        let said = self.said(&answer);
                        return Err(SessionError::Unacceptable { refusal, said });
                    }
                    ClientEvent::Finished(outcome) => return end(outcome, sent),
                }
            }
            if let Some(message) = client.poll_transmit() {
                (sent, answer) = self.exchange(&message, applicant, until).await?;
                client.handle_input(self.moment(), &answer, self.peers);
                continue;
            }
            let Some(at) = client.poll_timeout() else {
                // An implicit acceptance leaves nothing to wait for; the event is there already.
                continue;
            };
            let at = Instant::from_std(at);
            if at > until {
                return Err(SessionError::TimedOut);
            }
            sleep_until(at).await;
            client.handle_timeout(self.moment())?;
        }
    }

    /// Sends a message until it is answered.
    async fn exchange(
        &self,
        message: &[u8],
        applicant: &mut dyn Applicant,
        until: Instant,
    ) -> Result<(Sent, Vec<u8>), SessionError> {
        let kind = Message::decode(message, &self.config.client.limits)
            .map_or(BodyKind::Error, |message| message.body.kind());
        applicant
            .sending(kind, message)
            .map_err(SessionError::Applicant)?;
        let mut failures = 0;
        loop {
            applicant.progress(&Progress::Sent(kind));
            let exchange = timeout_at(until, self.transfer.exchange(message)).await;
            let (reason, again_after) = match exchange {
                Ok(Ok(answer)) => {
                    let again = failures > 0;
                    return Ok((Sent { kind, again }, answer));
                }
                Ok(Err(TransferError::Failed {
                    reason,
                    again_after,
                })) => (reason, again_after),
                Ok(Err(refused)) => return Err(SessionError::Transfer(refused)),
                Err(_) => return Err(SessionError::TimedOut),
            };
            failures += 1;
            let [random, ..] = (self.config.seed)();
            let rest = self.config.backoff.rest(failures, random);
            let again_after = again_after.unwrap_or_default().max(rest);
            let at = Instant::now() + again_after;
            if failures >= self.config.backoff.attempts || at > until {
                let again_after = None;
                return Err(SessionError::Transfer(TransferError::Failed {
                    reason,
                    again_after,
                }));
            }
            applicant.progress(&Progress::TransferFailed {
                reason,
                again_after,
            });
            sleep_until(at).await;
        }
    }

    /// Sends a confirmation again that an applicant kept: `Ok` when the other side has it now.
    ///
    /// # Errors
    /// [`SessionError::ConfirmationUnclear`] when it is answered by an error: it was confirmed before, or is not any more to be.
    pub async fn confirm_again(
        &self,
        confirmation: &[u8],
        applicant: &mut dyn Applicant,
    ) -> Result<(), SessionError> {
        let until = Instant::now() + self.config.within;
        let limits = &self.config.client.limits;
        let ours = Message::decode(confirmation, limits)
            .map_err(|error| SessionError::Applicant(error.to_string()))?;
        let (_, answer) = self.exchange(confirmation, applicant, until).await?;
        self.confirmed(&ours, &answer)
            .map_err(|refusal| SessionError::Unacceptable {
                refusal,
                said: self.said(&answer),
            })?
            .map_or(Ok(()), |status| {
                Err(SessionError::ConfirmationUnclear(status))
            })
    }

    /// What the answer to a confirmation says: nothing when it is confirmed.
    fn confirmed(&self, ours: &Message, answer: &[u8]) -> Result<Option<StatusInfo>, Refusal> {
        let client = &self.config.client;
        let answer = Message::decode(answer, &client.limits)?;
        if answer.header.transaction_id != ours.header.transaction_id {
            return Err(Refusal::TransactionDiffers);
        }
        if answer.header.recip_nonce.is_none()
            || answer.header.recip_nonce != ours.header.sender_nonce
        {
            return Err(Refusal::RecipNonce);
        }
        let protection = verify(&answer, &client.protection, self.peers)?;
        match (&*answer.body, protection) {
            (Body::Error(error), Protection::None) if client.unprotected_errors => {
                Ok(Some(error.status_info.clone()))
            }
            (_, Protection::None) => Err(Refusal::Unprotected),
            (Body::Pkiconf(_), _) => Ok(None),
            (Body::Error(error), _) => Ok(Some(error.status_info.clone())),
            (other, _) => Err(Refusal::UnexpectedBody(other.kind())),
        }
    }

    /// What an error message says, whoever sent it.
    fn said(&self, answer: &[u8]) -> Option<StatusInfo> {
        let message = Message::decode(answer, &self.config.client.limits).ok()?;
        match &*message.body {
            Body::Error(error) => Some(error.status_info.clone()),
            _ => None,
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            now: Instant::now().into_std(),
            time: (self.config.time)(),
        }
    }
}

fn end(outcome: Outcome, sent: Sent) -> Result<End, SessionError> {
    let status = match outcome {
        Outcome::Failed(ClientError::TimedOut | ClientError::GaveUp) => {
            return Err(SessionError::TimedOut);
        }
        Outcome::Rejected(status) if sent.again => status,
        outcome => return Ok(End::Outcome(outcome)),
    };
    let lost = match sent.kind {
        BodyKind::CertConf => return Err(SessionError::ConfirmationUnclear(status)),
        // The other side has gone on since.
        BodyKind::PollReq => [
            Failure::BadSenderNonce,
            Failure::BadRecipientNonce,
            Failure::BadRequest,
        ]
        .into_iter()
        .any(|failure| status.has(failure)),
        _ => status.has(Failure::TransactionIdInUse),
    };
    Ok(if lost {
        End::Lost
    } else {
        End::Outcome(Outcome::Rejected(status))
    })
}
