//! What is fetched when.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use homefleet_trust::{Evidence, Revocation, Time, Wanted};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::address::Address;
use super::exchange::exchange;
use super::{FetchConfig, FetchError, Shared, Trouble, count};

/// Hosts remembered as failed.
const MAX_TROUBLES: usize = 1024;
/// Bytes of a nonce (RFC 9654 §2.1).
const NONCE: usize = 32;
/// What came within so long is told together: judging again looks at every session.
const TOGETHER: Duration = Duration::from_millis(20);

/// Why something is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// A peer is held for it.
    Held,
    /// It is in use and getting old.
    Due,
}

struct Job {
    wanted: Wanted,
    reason: Reason,
    address: Address,
}

struct Pause {
    until: Instant,
    length: Duration,
    problem: FetchError,
}

/// The scheduler. All that waits for something runs in `under_way`.
pub(super) struct Task {
    revocation: Arc<RwLock<Revocation>>,
    config: Arc<FetchConfig>,
    time: Arc<dyn Fn() -> Time + Send + Sync>,
    judge_again: Box<dyn Fn() + Send + Sync>,
    shared: Arc<Shared>,
    /// Waiting or under way.
    known: HashSet<Wanted>,
    waiting: VecDeque<Job>,
    under_way: JoinSet<(Job, Result<(), FetchError>)>,
    /// Fetches under way per host.
    busy: HashMap<String, usize>,
    /// Lists under way: one at a time each.
    lists: HashSet<String>,
    pauses: HashMap<String, Pause>,
    next_look: Instant,
    judge_at: Option<Instant>,
}

impl Task {
    pub(super) fn new(
        revocation: Arc<RwLock<Revocation>>,
        config: FetchConfig,
        time: Arc<dyn Fn() -> Time + Send + Sync>,
        judge_again: Box<dyn Fn() + Send + Sync>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            revocation,
            next_look: Instant::now() + config.look,
            config: Arc::new(config),
            time,
            judge_again,
            shared,
            known: HashSet::new(),
            waiting: VecDeque::new(),
            under_way: JoinSet::new(),
            busy: HashMap::new(),
            lists: HashSet::new(),
            pauses: HashMap::new(),
            judge_at: None,
        }
    }

    /// Runs until every handle is gone.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Wanted>) {
        loop {
            self.begin();
            let wake = tokio::time::Instant::from_std(self.next_timeout());
            tokio::select! {
                wanted = inbox.recv() => match wanted {
                    Some(wanted) => self.want(wanted, Reason::Held),
                    None => return,
                },
                Some(ended) = self.under_way.join_next(), if !self.under_way.is_empty() => {
                    // A task of ours neither panics nor is aborted.
                    if let Ok((job, result)) = ended {
                        self.ended(&job, result);
                    }
                }
                () = tokio::time::sleep_until(wake) => self.handle_timeout(Instant::now()),
            }
        }
    }

    fn next_timeout(&self) -> Instant {
        let forgotten = self.read(|revocation| revocation.poll_timeout());
        [Some(self.next_look), forgotten, self.judge_at]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.next_look)
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.judge_at.is_some_and(|at| at <= now) {
            self.judge_at = None;
            (self.judge_again)();
        }
        if self
            .read(|revocation| revocation.poll_timeout())
            .is_some_and(|at| at <= now)
        {
            self.write(|revocation| revocation.handle_timeout(now));
            // Who passed without evidence is asked about once more.
            self.judge_soon(now);
        }
        if self.next_look <= now {
            self.next_look = now + self.config.look;
            if let Time::Accurate(time) = (self.time)() {
                for wanted in self.read(|revocation| revocation.due(time)) {
                    self.want(wanted, Reason::Due);
                }
            }
        }
    }

    /// Puts something into the queue, or tells at once that it is not to be had.
    fn want(&mut self, wanted: Wanted, reason: Reason) {
        if self.known.contains(&wanted) {
            return;
        }
        if !self.config.fetch {
            return self.not_tried(&wanted, &FetchError::Off);
        }
        let address = match Address::parse(wanted.url()) {
            Ok(address) => address,
            Err(error) => return self.not_tried(&wanted, &error),
        };
        let now = Instant::now();
        if self
            .pauses
            .get(&address.place())
            .is_some_and(|pause| pause.until > now)
        {
            return self.not_tried(&wanted, &FetchError::LeftAlone);
        }
        if self.waiting.len() >= self.config.queue {
            return count(&self.shared.counters.dropped);
        }
        self.known.insert(wanted.clone());
        let job = Job {
            wanted,
            reason,
            address,
        };
        match reason {
            // Before what nobody waits for.
            Reason::Held => {
                let at = self
                    .waiting
                    .iter()
                    .position(|job| job.reason == Reason::Due)
                    .unwrap_or(self.waiting.len());
                self.waiting.insert(at, job);
            }
            Reason::Due => self.waiting.push_back(job),
        }
    }

    fn not_tried(&mut self, wanted: &Wanted, error: &FetchError) {
        tracing::debug!(%wanted, %error, "not fetched");
        count(&self.shared.counters.not_tried);
        let now = Instant::now();
        self.write(|revocation| revocation.failed(wanted, now));
        self.judge_soon(now);
    }

    /// Begins what may begin now.
    fn begin(&mut self) {
        let mut at = 0;
        while self.under_way.len() < self.config.concurrency.max(1) && at < self.waiting.len() {
            let may = self.waiting.get(at).is_some_and(|job| self.may_begin(job));
            if !may {
                at += 1;
                continue;
            }
            let Some(job) = self.waiting.remove(at) else {
                break;
            };
            *self.busy.entry(job.address.place()).or_default() += 1;
            if matches!(job.wanted, Wanted::Crl { .. }) {
                self.lists.insert(job.wanted.url().to_owned());
            }
            let (revocation, config, time) = (
                self.revocation.clone(),
                self.config.clone(),
                self.time.clone(),
            );
            self.under_way.spawn(async move {
                let result = fetch(&job, &revocation, &config, time.as_ref()).await;
                (job, result)
            });
        }
        self.tell_sizes();
    }

    fn may_begin(&self, job: &Job) -> bool {
        let busy = self.busy.get(&job.address.place()).copied().unwrap_or(0);
        busy < self.config.per_host.max(1)
            && !(matches!(job.wanted, Wanted::Crl { .. }) && self.lists.contains(job.wanted.url()))
    }

    fn ended(&mut self, job: &Job, result: Result<(), FetchError>) {
        let now = Instant::now();
        let place = job.address.place();
        self.known.remove(&job.wanted);
        if matches!(job.wanted, Wanted::Crl { .. }) {
            self.lists.remove(job.wanted.url());
        }
        if let Some(busy) = self.busy.get_mut(&place) {
            *busy -= 1;
            if *busy == 0 {
                self.busy.remove(&place);
            }
        }
        let counters = &self.shared.counters;
        match result {
            Ok(()) => {
                count(&counters.taken);
                if job.reason == Reason::Due {
                    count(&counters.refreshed);
                }
                if self.pauses.remove(&place).is_some() {
                    tracing::info!(host = place, "evidence about revocation comes again");
                    self.tell_troubles();
                }
            }
            Err(error) => {
                let came = matches!(error, FetchError::Evidence(_));
                count(if came {
                    &counters.no_evidence
                } else {
                    &counters.failed
                });
                tracing::debug!(wanted = %job.wanted, %error, "evidence about revocation is not to be had");
                self.write(|revocation| revocation.failed(&job.wanted, now));
                // A responder that knows nothing of one certificate may know others.
                if came {
                    self.trouble(now, &place, error);
                } else {
                    self.pause(now, &place, error);
                }
                self.tell_troubles();
            }
        }
        self.judge_soon(now);
    }

    /// Takes note of what is wrong with a host.
    fn trouble(&mut self, now: Instant, place: &str, problem: FetchError) -> &mut Pause {
        if !self.pauses.contains_key(place) {
            tracing::warn!(host = place, %problem, "evidence about revocation is not to be had");
            if self.pauses.len() >= MAX_TROUBLES
                && let Some(first) = self
                    .pauses
                    .iter()
                    .min_by_key(|(_, pause)| pause.until)
                    .map(|(place, _)| place.clone())
            {
                self.pauses.remove(&first);
            }
        }
        let length = self.config.pause / 2;
        let pause = self.pauses.entry(place.to_owned()).or_insert(Pause {
            until: now,
            length,
            problem: problem.clone(),
        });
        pause.problem = problem;
        pause
    }

    /// Leaves a host alone for a while. What waits for it fails.
    fn pause(&mut self, now: Instant, place: &str, problem: FetchError) {
        let longest = self.config.pause_max;
        let entry = self.trouble(now, place, problem);
        // Several fetches that fail together are one failure.
        if entry.until <= now {
            entry.length = (entry.length * 2).min(longest);
            entry.until = now + entry.length;
        }
        let (failed, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<VecDeque<_>, _>(|job: &Job| job.address.place() == place);
        self.waiting = waiting;
        for job in failed {
            self.known.remove(&job.wanted);
            self.not_tried(&job.wanted, &FetchError::LeftAlone);
        }
    }

    fn judge_soon(&mut self, now: Instant) {
        self.judge_at.get_or_insert(now + TOGETHER);
    }

    fn tell_sizes(&self) {
        let counters = &self.shared.counters;
        let number = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        counters
            .under_way
            .store(number(self.under_way.len()), Ordering::Relaxed);
        counters
            .waiting
            .store(number(self.waiting.len()), Ordering::Relaxed);
    }

    fn tell_troubles(&self) {
        let mut troubles: Vec<Trouble> = self
            .pauses
            .iter()
            .map(|(host, pause)| Trouble {
                host: host.clone(),
                problem: pause.problem.clone(),
            })
            .collect();
        troubles.sort_by(|a, b| a.host.cmp(&b.host));
        *self
            .shared
            .troubles
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = troubles;
    }

    fn read<T>(&self, read: impl FnOnce(&Revocation) -> T) -> T {
        read(
            &self
                .revocation
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn write<T>(&self, write: impl FnOnce(&mut Revocation) -> T) -> T {
        write(
            &mut self
                .revocation
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

/// Fetches, verifies and keeps one piece of evidence.
async fn fetch(
    job: &Job,
    revocation: &Arc<RwLock<Revocation>>,
    config: &FetchConfig,
    time: &(dyn Fn() -> Time + Send + Sync),
) -> Result<(), FetchError> {
    let (limit, policy) = {
        let revocation = revocation.read().unwrap_or_else(PoisonError::into_inner);
        (
            revocation.max_bytes(&job.wanted),
            revocation.policy().clone(),
        )
    };
    let nonce = (config.nonce && matches!(job.wanted, Wanted::Ocsp { .. }))
        .then(random)
        .flatten();
    let nonce = nonce.as_ref().map(|nonce| nonce.as_slice());
    let body = job.wanted.request(nonce);
    let bytes = exchange(&job.address, body, limit, config).await?;
    let (revocation, wanted, nonce, now) = (
        revocation.clone(),
        job.wanted.clone(),
        nonce.map(<[u8]>::to_vec),
        time(),
    );
    // A long list takes a while to verify, and decisions must not wait for it.
    tokio::task::spawn_blocking(move || {
        let evidence = Evidence::fetched(&policy, &wanted, nonce.as_deref(), &bytes, now)?;
        revocation
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take(evidence)
    })
    .await
    .map_err(|error| FetchError::Http(error.to_string()))??;
    Ok(())
}

/// Without random bytes there is no nonce.
fn random() -> Option<[u8; NONCE]> {
    let mut bytes = [0; NONCE];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}
