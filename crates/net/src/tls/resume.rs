//! Sessions that can be resumed, with the chain that each was accepted for.
//!
//! Before a session is resumed its chain is judged again, as of now and for the purpose at hand. When the answer is anything
//! but yes, the session is not resumed: a whole handshake follows, in which the peer is decided about as a new one. Sessions
//! from before the verifier's grounds changed are void.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use homefleet_trust::Outcome;
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::server::StoresServerSessions;

use super::link::{self, Chain, Link};
use crate::dtls::Purpose;

/// TLS 1.3 tickets kept of one server; each is used once.
const TICKETS: usize = 2;

/// Bytes of a chain beyond which a session is not kept: what peers show takes room for as long as they please.
const MAX_CHAIN: usize = 8192;

/// A session, and what it was accepted for.
#[derive(Clone)]
struct Kept<T> {
    generation: u64,
    chain: Chain,
    session: T,
}

impl<T> Kept<T> {
    /// `None` when the peer is not accepted (any more, or yet).
    fn new(link: &Link, session: T) -> Option<Self> {
        let verdict = link.verdict()?;
        let bytes: usize = verdict.chain.iter().map(Vec::len).sum();
        (verdict.decision.is_established() && bytes <= MAX_CHAIN).then_some(Self {
            generation: verdict.generation,
            chain: verdict.chain,
            session,
        })
    }

    /// The session, if its peer is still accepted without anything left to find out.
    fn judged(self, link: &Link) -> Option<T> {
        (self.generation == link.verifier.generation()
            && link.decide(self.chain, true) == Outcome::Establish)
            .then_some(self.session)
    }
}

/// A table that forgets the oldest at its bound.
struct Bounded<K, V> {
    max: usize,
    entries: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Clone + Eq + Hash, V> Bounded<K, V> {
    fn new(max: usize) -> Mutex<Self> {
        Mutex::new(Self {
            max: max.max(1),
            entries: HashMap::new(),
            order: VecDeque::new(),
        })
    }

    fn entry(&mut self, key: K, default: impl FnOnce() -> V) -> &mut V {
        if !self.entries.contains_key(&key) {
            while self.entries.len() >= self.max
                && let Some(oldest) = self.order.pop_front()
            {
                self.entries.remove(&oldest);
            }
            // Those that were taken out have left their keys behind.
            if self.order.len() >= self.max.saturating_mul(2) {
                let entries = &self.entries;
                self.order.retain(|key| entries.contains_key(key));
            }
            self.order.push_back(key.clone());
        }
        self.entries.entry(key).or_insert_with(default)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The engine's number of a session, and what it keeps of it; empty for a moment while it is put in.
type Numbered = Bounded<Vec<u8>, Option<Kept<Vec<u8>>>>;

/// Sessions of those who came to us.
pub(super) struct Sessions(Mutex<Numbered>);

impl Sessions {
    pub(super) fn new(max: usize) -> Self {
        Self(Bounded::new(max))
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let Some(kept) = link::current().and_then(|link| Kept::new(&link, value)) else {
            return false;
        };
        *lock(&self.0).entry(key, || None) = Some(kept);
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let kept = lock(&self.0).entries.get(key).cloned()??;
        kept.judged(&*link::current()?)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let kept = lock(&self.0).entries.remove(key)??;
        kept.judged(&*link::current()?)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

/// Sessions with servers, by what we wanted of them: the host and the Endpoint expected there.
pub(super) struct Tickets(Mutex<Bounded<Purpose, Server>>);

#[derive(Default)]
struct Server {
    group: Option<NamedGroup>,
    tls12: Option<Kept<Tls12ClientSessionValue>>,
    tls13: VecDeque<Kept<Tls13ClientSessionValue>>,
}

impl Tickets {
    pub(super) fn new(max: usize) -> Self {
        Self(Bounded::new(max))
    }

    fn with<T>(&self, purpose: &Purpose, ask: impl FnOnce(&mut Server) -> T) -> Option<T> {
        lock(&self.0).entries.get_mut(purpose).map(ask)
    }

    fn change(&self, purpose: &Purpose, change: impl FnOnce(&mut Server)) {
        change(lock(&self.0).entry(purpose.clone(), Server::default));
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        if let Some(link) = link::current() {
            self.change(&link.purpose, |server| server.group = Some(group));
        }
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.with(&link::current()?.purpose, |server| server.group)?
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        if let Some(link) = link::current()
            && let Some(kept) = Kept::new(&link, value)
        {
            self.change(&link.purpose, |server| server.tls12 = Some(kept));
        }
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let link = link::current()?;
        self.with(&link.purpose, |server| server.tls12.clone())??
            .judged(&link)
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        if let Some(link) = link::current() {
            self.with(&link.purpose, |server| server.tls12 = None);
        }
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        if let Some(link) = link::current()
            && let Some(kept) = Kept::new(&link, value)
        {
            self.change(&link.purpose, |server| {
                server.tls13.push_back(kept);
                while server.tls13.len() > TICKETS {
                    server.tls13.pop_front();
                }
            });
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let link = link::current()?;
        self.with(&link.purpose, |server| server.tls13.pop_back())??
            .judged(&link)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}
