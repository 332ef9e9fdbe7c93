//! Hearing what a server announces for as long as one wants to, whatever becomes of servers and observations (RFC 9482 §2.6).

use std::time::Duration;

use super::client::{Announcements, Client, ExchangeError, ResponseCode};
use super::session::Backoff;
use super::url::Url;

/// When one tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The rest after a failure; it doubles with each, up to `longest`.
    pub first: Duration,
    /// The longest rest after a failure.
    pub longest: Duration,
    /// The rest after an answer of a server that has no room for an observer (RFC 9482 §2.6), and half as much again at most.
    pub without_room: Duration,
    /// The rest where a server announces nothing at all, likewise.
    pub not_there: Duration,
}

impl Default for Schedule {
    /// 10 seconds up to an hour, half an hour, and a day.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(10),
            longest: Duration::from_secs(3600),
            without_room: Duration::from_secs(1800),
            not_there: Duration::from_secs(86_400),
        }
    }
}

/// What is heard.
#[derive(Debug)]
pub enum Heard {
    /// What is announced now, a PKIMessage in DER that nobody has looked at; empty: nothing. It may be the same as before.
    Announced {
        /// The message.
        message: Vec<u8>,
        /// Whether the server tells of changes. If not it is asked again after a while.
        kept: bool,
    },
    /// Nothing is heard.
    Failed {
        /// Why.
        error: ExchangeError,
        /// When it is tried again.
        again_in: Duration,
    },
}

/// Observes a server, and begins again when that ends.
pub struct Watch {
    client: Client,
    url: Url,
    schedule: Schedule,
    open: Option<Announcements>,
    rest: Duration,
    failures: u32,
}

impl Watch {
    /// One that has not asked yet. The URL is that of the server, or of a label of it.
    pub fn new(client: Client, url: Url, schedule: Schedule) -> Self {
        Self {
            client,
            url,
            schedule,
            open: None,
            rest: Duration::ZERO,
            failures: 0,
        }
    }

    /// Waits for the next. It never ends; whoever has heard enough drops it.
    pub async fn next(&mut self) -> Heard {
        loop {
            if !self.rest.is_zero() {
                tokio::time::sleep(self.rest).await;
                self.rest = Duration::ZERO;
            }
            let heard = match &mut self.open {
                Some(open) => open.next().await,
                None => match self.client.observe(&self.url).await {
                    Ok(announcements) => {
                        self.open = Some(announcements);
                        continue;
                    }
                    Err(error) => Some(Err(error)),
                },
            };
            match heard {
                Some(Ok(message)) => {
                    self.failures = 0;
                    let kept = self.open.as_ref().is_some_and(Announcements::is_kept);
                    if !kept {
                        self.again(spread(self.schedule.without_room));
                    }
                    return Heard::Announced { message, kept };
                }
                Some(Err(error)) => {
                    self.failures = self.failures.saturating_add(1);
                    let rest = self.rest_after(&error);
                    self.again(rest);
                    return Heard::Failed {
                        error,
                        again_in: rest,
                    };
                }
                None => self.again(spread(self.schedule.first)),
            }
        }
    }

    fn again(&mut self, rest: Duration) {
        self.open = None;
        self.rest = rest.max(Duration::from_millis(1));
    }

    fn rest_after(&self, error: &ExchangeError) -> Duration {
        use homefleet_coap::Code;

        match error {
            ExchangeError::NotObservable
            | ExchangeError::Refused {
                code: ResponseCode::Coap(Code::NOT_FOUND | Code::METHOD_NOT_ALLOWED),
                ..
            } => spread(self.schedule.not_there),
            ExchangeError::Refused {
                retry_after: Some(after),
                ..
            } => spread(*after),
            _ => {
                let backoff = Backoff {
                    first: self.schedule.first,
                    longest: self.schedule.longest,
                    attempts: u32::MAX,
                };
                backoff.rest(self.failures, random())
            }
        }
    }
}

/// Up to half as much again, so that not all come together.
fn spread(rest: Duration) -> Duration {
    rest + rest / 512 * u32::from(random())
}

/// Without random numbers all come at once: a pity, and no more.
fn random() -> u8 {
    let mut random = [0];
    getrandom::fill(&mut random).ok();
    random[0]
}
