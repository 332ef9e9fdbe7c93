//! Challenging, and checking what comes back.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{
    Algorithm, Stored,
    hash::hex,
    header::{Challenge, quoted},
};

/// Settings of a [`DigestServer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestConfig {
    /// What the passwords are for.
    pub realm: String,
    /// What is offered, in this order. Default SHA-256, MD5.
    pub algorithms: Vec<Algorithm>,
    /// How long a nonce is good for. Default 300 s.
    pub lifetime: Duration,
    /// The most nonces in use that are remembered; at the bound the oldest goes, and all as old with it. Default 65,536.
    pub most_nonces: usize,
}

impl DigestConfig {
    /// The defaults, for a realm.
    pub fn new(realm: impl Into<String>) -> Self {
        Self {
            realm: realm.into(),
            algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
            lifetime: Duration::from_secs(300),
            most_nonces: 65_536,
        }
    }
}

/// Why somebody is not let in. All but [`Refusal::Stale`] are answered with a challenge that says nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No Digest credentials with all that belongs to them.
    #[error("no credentials of Digest")]
    Malformed,
    /// For another realm, by an algorithm that was not offered, or without `qop=auth`.
    #[error("credentials that were not asked for")]
    NotAsked,
    /// For another URI.
    #[error("credentials for another URI")]
    Uri,
    /// The nonce is too old, or not ours: the challenge says `stale`, so that the client answers it without asking for a password.
    #[error("a nonce that is not good any more")]
    Stale,
    /// The nonce was used with this count.
    #[error("credentials that were used before")]
    Replayed,
    /// Wrong password, or nobody of this name.
    #[error("wrong credentials")]
    Credentials,
}

/// Challenges and checks.
///
/// A nonce carries its age and proves that it is ours, so that a challenge costs no memory; what is remembered is only how nonces were used by
/// those who knew the password.
pub struct DigestServer {
    config: DigestConfig,
    rng: ChaCha20Rng,
    key: [u8; 32],
    epoch: Instant,
    used: HashMap<[u8; 16], Window>,
    order: VecDeque<([u8; 16], u64)>,
    /// Nonces made before are not good any more: some of them were used and are forgotten.
    floor: u64,
}

/// Which counts were used: the highest, and of the 64 up to it each.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    highest: u32,
    seen: u64,
}

impl DigestServer {
    /// A server. `now` is when its nonces begin to count.
    pub fn new(now: Instant, config: DigestConfig, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        Self {
            config,
            rng,
            key,
            epoch: now,
            used: HashMap::new(),
            order: VecDeque::new(),
            floor: 0,
        }
    }

    /// The realm.
    pub fn realm(&self) -> &str {
        &self.config.realm
    }

    /// The `WWW-Authenticate` headers of a 401, one for each algorithm.
    pub fn challenge(&mut self, now: Instant, refusal: Option<Refusal>) -> Vec<String> {
        let nonce = self.nonce(now);
        let stale = if refusal == Some(Refusal::Stale) {
            ", stale=true"
        } else {
            ""
        };
        let realm = quoted(&self.config.realm);
        let all = self.config.algorithms.iter();
        all.map(|algorithm| {
            let name = algorithm.name();
            format!(
                "Digest realm={realm}, qop=\"auth\", algorithm={name}, nonce=\"{nonce}\"{stale}"
            )
        })
        .collect()
    }

    /// Checks an `Authorization` header for a request of this method and target, and returns who it is.
    ///
    /// `password` finds what is kept of a username's password. Somebody who is not there costs as much as a wrong password.
    ///
    /// # Errors
    /// Why not.
    pub fn authorize(
        &mut self,
        now: Instant,
        method: &str,
        uri: &str,
        header: &str,
        password: impl FnOnce(&str) -> Option<Stored>,
    ) -> Result<String, Refusal> {
        let all = Challenge::parse_all(header).ok_or(Refusal::Malformed)?;
        let [given] = all.as_slice() else {
            return Err(Refusal::Malformed);
        };
        let parameter = |name| given.parameter(name).ok_or(Refusal::Malformed);
        if !given.is("Digest") {
            return Err(Refusal::Malformed);
        }
        let (username, nonce) = (parameter("username")?, parameter("nonce")?);
        let (response, cnonce) = (parameter("response")?, parameter("cnonce")?);
        let (count_text, qop) = (parameter("nc")?, parameter("qop")?);
        let count = u32::from_str_radix(count_text, 16).map_err(|_| Refusal::Malformed)?;
        let algorithm = match given.parameter("algorithm") {
            Some(name) => Algorithm::parse(name),
            None => Some((Algorithm::Md5, false)),
        };
        let offered = |algorithm| self.config.algorithms.contains(&algorithm);
        let algorithm = match algorithm {
            Some((algorithm, false)) if offered(algorithm) => algorithm,
            _ => return Err(Refusal::NotAsked),
        };
        if parameter("realm")? != self.config.realm || !qop.eq_ignore_ascii_case("auth") {
            return Err(Refusal::NotAsked);
        }
        if parameter("uri")? != uri {
            return Err(Refusal::Uri);
        }
        let (id, made) = self.own(now, nonce).ok_or(Refusal::Stale)?;
        let known = password(username);
        let ha1 = known
            .as_ref()
            .and_then(|kept| kept.ha1(algorithm, username, &self.config.realm));
        let is_known = ha1.is_some();
        let ha1 = ha1.unwrap_or_else(|| algorithm.hash(&[username, &self.config.realm, ""]));
        let ha2 = algorithm.hash(&[method, uri]);
        let right = algorithm.hash(&[&ha1, nonce, count_text, cnonce, qop, &ha2]);
        let lower = response.to_ascii_lowercase();
        let same: bool = right.as_bytes().ct_eq(lower.as_bytes()).into();
        if !(same && is_known) {
            return Err(Refusal::Credentials);
        }
        self.forget(now);
        self.count(id, made, count)?;
        Ok(username.to_owned())
    }

    /// Milliseconds since we began, random bytes, and a proof that both are ours.
    fn nonce(&mut self, now: Instant) -> String {
        let mut bytes = [0; 32];
        let (head, proof) = bytes.split_at_mut(16);
        let (made, random) = head.split_at_mut(8);
        made.copy_from_slice(&self.age(now).to_be_bytes());
        self.rng.fill_bytes(random);
        let own = self.proof(head);
        proof.copy_from_slice(&own);
        hex(&bytes)
    }

    fn age(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX)
    }

    fn proof(&self, head: &[u8]) -> [u8; 16] {
        let hash = Sha256::new()
            .chain_update(self.key)
            .chain_update(head)
            .finalize();
        let mut proof = [0; 16];
        proof.copy_from_slice(hash.split_at(16).0);
        proof
    }

    /// A nonce of ours that is still good: what it is remembered by, and when it was made.
    fn own(&self, now: Instant, nonce: &str) -> Option<([u8; 16], u64)> {
        let bytes = unhex(nonce)?;
        let (head, proof) = bytes.split_first_chunk::<16>()?;
        if !bool::from(self.proof(head).ct_eq(proof)) {
            return None;
        }
        let made = u64::from_be_bytes(*head.first_chunk()?);
        let lifetime = u64::try_from(self.config.lifetime.as_millis()).unwrap_or(u64::MAX);
        let fresh = self.age(now).saturating_sub(made) <= lifetime;
        let remembered = made > self.floor || self.floor == 0 || self.used.contains_key(head);
        (fresh && remembered).then_some((*head, made))
    }

    /// What is too old to come again needs no memory.
    fn forget(&mut self, now: Instant) {
        let lifetime = u64::try_from(self.config.lifetime.as_millis()).unwrap_or(u64::MAX);
        let age = self.age(now);
        while let Some((id, made)) = self.order.front()
            && age.saturating_sub(*made) > lifetime
        {
            self.used.remove(id);
            self.order.pop_front();
        }
    }

    /// Marks a count as used, once.
    fn count(&mut self, id: [u8; 16], made: u64, count: u32) -> Result<(), Refusal> {
        if !self.used.contains_key(&id) {
            while self.used.len() >= self.config.most_nonces.max(1) {
                let Some((oldest, made)) = self.order.pop_front() else {
                    break;
                };
                self.used.remove(&oldest);
                self.floor = self.floor.max(made).max(1);
            }
            self.order.push_back((id, made));
        }
        let window = self.used.entry(id).or_default();
        if window.mark(count) {
            Ok(())
        } else {
            Err(Refusal::Replayed)
        }
    }
}

impl Window {
    fn mark(&mut self, count: u32) -> bool {
        if count == 0 {
            return false;
        }
        if count > self.highest {
            let shift = count - self.highest;
            self.seen = self.seen.checked_shl(shift).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        let back = self.highest - count;
        let bit = 1u64.checked_shl(back).unwrap_or(0);
        let fresh = bit != 0 && self.seen & bit == 0;
        self.seen |= bit;
        fresh
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (slot, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *slot = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

impl std::fmt::Debug for DigestServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DigestServer")
            .field("realm", &self.config.realm)
            .finish_non_exhaustive()
    }
}
