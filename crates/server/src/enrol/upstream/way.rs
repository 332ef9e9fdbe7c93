//! The way to one CA elsewhere: our protection on what goes there, and whom we believe of what comes back.

use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use homefleet_cmp::asn1::{Body, Limits, Message};
use homefleet_cmp::protection::{Protection, ProtectionPolicy, Protector, verify};
use homefleet_cmp::{Moment, Refusal, relay};
use homefleet_net::cmp::entity::Believed;
use homefleet_net::cmp::{Client, ExchangeError, Operation, Url};
use homefleet_trust::Time;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

/// Where it leads, and how.
pub(super) struct Way {
    client: Client,
    url: Url,
    /// Our protection goes around the requester's, which stays.
    nest: bool,
    /// Our own towards this CA; `None`: the usual.
    own: Option<Protector>,
    believed: Believed,
    policy: ProtectionPolicy,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// The CA is not there: it has heard nothing.
    NotThere(ExchangeError),
    /// Nobody knows whether it has heard.
    Unclear(ExchangeError),
    /// It answered no CMP message, or one that is not believed.
    Answer(String),
    /// We failed.
    Here(String),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotThere(error) | Self::Unclear(error) => error.fmt(f),
            Self::Answer(why) | Self::Here(why) => f.write_str(why),
        }
    }
}

impl Way {
    pub(super) fn new(
        client: Client,
        url: Url,
        nest: bool,
        own: Option<Protector>,
        believed: Believed,
        policy: ProtectionPolicy,
    ) -> Self {
        Self {
            client,
            url,
            nest,
            own,
            believed,
            policy,
        }
    }

    /// Whether answers come from the CA itself, with its own protection.
    pub(super) fn nests(&self) -> bool {
        self.nest
    }

    /// Sends a message, and brings the answer: verified, unless it is for its requester to verify.
    pub(super) async fn exchange(
        &self,
        message: &Message,
        operation: Option<Operation>,
        usual: &Protector,
        limits: &Limits,
    ) -> Result<Message, Failed> {
        let here = |error: &dyn std::fmt::Display| Failed::Here(error.to_string());
        let own = self.own.as_ref().unwrap_or(usual);
        let mut rng = rng().map_err(|error| here(&error))?;
        let (up, operation) = if self.nest {
            let messages = std::slice::from_ref(message);
            let to = &message.header.recipient;
            let up = relay::nest(messages, to, own, moment(), &mut rng);
            (up, Some(Operation::Nested))
        } else {
            (relay::reprotect(message, own, |_| {}, &mut rng), operation)
        };
        let up = up.map_err(|error| here(&error))?;
        let bytes = up.encode().map_err(|error| here(&error))?;
        let answer = self.client.exchange(&self.url, operation, &bytes).await;
        let answer = answer.map_err(|error| match error {
            ExchangeError::Unresolvable(_)
            | ExchangeError::Socket(_)
            | ExchangeError::Connect(_)
            | ExchangeError::Untrusted(_)
            | ExchangeError::Handshake(_) => Failed::NotThere(error),
            ExchangeError::NoAnswer | ExchangeError::Interrupted(_) => Failed::Unclear(error),
            other => Failed::Answer(other.to_string()),
        })?;
        let answer = Message::decode(&answer, limits)
            .map_err(|error| Failed::Answer(format!("it cannot be read: {error}")))?;
        self.check(&answer, message)
            .map_err(|refusal| Failed::Answer(refusal.to_string()))?;
        Ok(answer)
    }

    fn check(&self, answer: &Message, message: &Message) -> Result<(), Refusal> {
        relay::belongs(answer, message)?;
        if self.nest {
            return Ok(());
        }
        let believed = Believed {
            time: Time::Accurate(SystemTime::now()),
            ..self.believed.clone()
        };
        match verify(answer, &self.policy, &believed)? {
            // An error that nobody stands for is none to end a transaction by.
            Protection::None => Err(Refusal::Unprotected),
            _ => Ok(()),
        }
    }
}

/// Whether a CA's answer has a certificate in it.
pub(super) fn issues(answer: &Message) -> bool {
    let (Body::Ip(content) | Body::Cp(content) | Body::Kup(content)) = &*answer.body else {
        return false;
    };
    let mut responses = content.response.iter();
    responses.any(|response| response.certified_key_pair.is_some())
}

/// The protector that is used when nothing else is said; it changes when our certificate is renewed.
pub(super) struct Usual(Mutex<Protector>);

impl Usual {
    pub(super) fn new(protector: Protector) -> Self {
        Self(Mutex::new(protector))
    }

    pub(super) fn get(&self) -> Protector {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn replace(&self, protector: &Protector) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = protector.clone();
    }
}

pub(super) fn moment() -> Moment {
    Moment {
        now: Instant::now(),
        time: Some(SystemTime::now()),
    }
}

pub(super) fn rng() -> Result<ChaCha20Rng, getrandom::Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(ChaCha20Rng::from_seed(seed))
}
