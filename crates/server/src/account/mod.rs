//! Who may do what: API tokens, browser sessions, roles.
//!
//! A token is 256 random bits, shown once and stored as SHA-256. Because the secret is random and long, a
//! plain hash is enough; comparison is in constant time over all tokens.

use std::collections::HashMap;
use std::time::Duration;

use homefleet_api::{NewToken, Role};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::clock::Millis;
use crate::store::TokenRecord;

/// Most tokens.
pub const MAX_TOKENS: usize = 1000;
/// Most browser sessions; at the bound the oldest ends.
const MAX_SESSIONS: usize = 1000;
/// How long a browser session lasts.
const SESSION_LIFE: Duration = Duration::from_secs(12 * 3600);
/// What every token's secret begins with, so that scanners of leaked secrets recognise it.
const PREFIX: &str = "hf_";

/// Who an authenticated request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Identifier of the token; `None` for the server's own process.
    pub token: Option<String>,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// Tokens and sessions in memory.
#[derive(Debug, Default)]
pub struct Accounts {
    tokens: Vec<TokenRecord>,
    sessions: HashMap<[u8; 32], Session>,
    /// Counts tokens made and revoked here.
    generation: u64,
}

#[derive(Debug, Clone)]
struct Session {
    token: String,
    opened: Millis,
}

impl Accounts {
    /// Takes over what is stored.
    pub fn load(&mut self, tokens: Vec<TokenRecord>) {
        self.tokens = tokens;
        let tokens = &self.tokens;
        self.sessions
            .retain(|_, session| tokens.iter().any(|token| token.id == session.token));
    }

    /// Changes with every token made or revoked here.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Takes over what was read from the store, unless a token was made or revoked since `generation`: what was
    /// read may be older than that.
    pub fn refresh(&mut self, generation: u64, tokens: Vec<TokenRecord>) {
        if generation == self.generation {
            self.load(tokens);
        }
    }

    /// All tokens.
    pub fn tokens(&self) -> &[TokenRecord] {
        &self.tokens
    }

    /// Adds a token that was stored.
    pub fn add(&mut self, token: TokenRecord) {
        self.generation += 1;
        self.tokens.push(token);
    }

    /// Removes a token and its sessions.
    pub fn remove(&mut self, id: &str) {
        self.generation += 1;
        self.tokens.retain(|token| token.id != id);
        self.sessions.retain(|_, session| session.token != id);
    }

    /// Whom a secret belongs to.
    pub fn authenticate(&self, now: Millis, secret: &str) -> Option<Identity> {
        let presented = digest(secret);
        let mut found = None;
        // No early exit: the time taken does not depend on which token matches.
        for token in &self.tokens {
            if bool::from(token.hash.ct_eq(&presented)) {
                found = Some(token);
            }
        }
        found.filter(|token| is_live(token, now)).map(identity)
    }

    /// Whether a token still stands.
    pub fn still_valid(&self, now: Millis, identity: &Identity) -> bool {
        match &identity.token {
            None => true,
            Some(id) => self
                .tokens
                .iter()
                .any(|token| token.id == *id && is_live(token, now)),
        }
    }

    /// Opens a browser session for a token.
    pub fn open_session(
        &mut self,
        now: Millis,
        identity: &Identity,
        random: [u8; 32],
    ) -> Option<String> {
        let token = identity.token.clone()?;
        self.sessions
            .retain(|_, session| now.since(session.opened) < SESSION_LIFE);
        if self.sessions.len() >= MAX_SESSIONS
            && let Some(oldest) = self
                .sessions
                .iter()
                .min_by_key(|(_, session)| session.opened)
                .map(|(key, _)| *key)
        {
            self.sessions.remove(&oldest);
        }
        let secret = text(&random);
        self.sessions
            .insert(digest(&secret), Session { token, opened: now });
        Some(secret)
    }

    /// Whom a session belongs to.
    pub fn session(&self, now: Millis, secret: &str) -> Option<Identity> {
        // Found by its digest: timing tells nothing about the secret.
        let session = self.sessions.get(&digest(secret))?;
        if now.since(session.opened) >= SESSION_LIFE {
            return None;
        }
        self.tokens
            .iter()
            .find(|token| token.id == session.token && is_live(token, now))
            .map(identity)
    }

    /// Ends a session.
    pub fn close_session(&mut self, secret: &str) {
        self.sessions.remove(&digest(secret));
    }
}

/// Makes a token from 32 random bytes for the secret and 8 for its identifier.
pub fn new_token(
    now: Millis,
    new: &NewToken,
    random: [u8; 32],
    id: [u8; 8],
) -> Result<(TokenRecord, String), NewTokenError> {
    let name = new.name.trim();
    if name.is_empty() || name.chars().count() > 64 || name.chars().any(char::is_control) {
        return Err(NewTokenError::Name);
    }
    let expires = match new.expires_in {
        Some(0) => return Err(NewTokenError::Expiry),
        Some(seconds) => Some(now.plus(Duration::from_secs(seconds))),
        None => None,
    };
    let secret = format!("{PREFIX}{}", text(&random));
    let record = TokenRecord {
        id: hex(&id),
        name: name.to_owned(),
        role: new.role,
        hash: digest(&secret),
        created: now,
        expires,
    };
    Ok((record, secret))
}

/// Why a token cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NewTokenError {
    /// Bad lifetime.
    #[error("expires_in is 0, expected at least 1 second")]
    Expiry,
    /// Bad name.
    #[error("a token's name has 1 to 64 characters and no control characters")]
    Name,
    /// Too many.
    #[error("there are already {MAX_TOKENS} tokens, revoke one first")]
    TooMany,
}

impl TokenRecord {
    /// As listed.
    pub fn to_api(&self) -> homefleet_api::Token {
        homefleet_api::Token {
            id: self.id.clone(),
            name: self.name.clone(),
            role: self.role,
            created: self.created.to_timestamp(),
            expires: self.expires.map(Millis::to_timestamp),
        }
    }
}

fn identity(token: &TokenRecord) -> Identity {
    Identity {
        token: Some(token.id.clone()),
        name: token.name.clone(),
        role: token.role,
    }
}

fn is_live(token: &TokenRecord, now: Millis) -> bool {
    token.expires.is_none_or(|expires| expires > now)
}

fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Bytes in the URL-safe base64 alphabet, without padding.
fn text(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0u8; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for place in 0..=chunk.len() {
            // Six bits: always a valid index.
            out.push(char::from(
                ALPHABET[(bits >> (18 - 6 * place) & 63) as usize],
            ));
        }
    }
    out
}

/// Bytes as lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Eight hexadecimal digits that stand for a text.
pub(crate) fn short_digest(text: &str) -> String {
    hex(&digest(text)[..4])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn new(expires_in: Option<u64>) -> NewToken {
        NewToken {
            name: "ci".to_owned(),
            role: Role::Viewer,
            expires_in,
        }
    }

    #[test]
    fn a_secret_has_256_bits_and_is_not_stored() {
        let (record, secret) = new_token(Millis(5), &new(None), [7; 32], [1; 8]).unwrap();
        assert_eq!(secret.len(), 3 + 43);
        assert!(secret.starts_with("hf_"));
        assert!(!format!("{record:?}").contains(&secret));
    }

    #[test]
    fn an_expired_token_and_its_session_are_refused() {
        let (record, secret) = new_token(Millis(0), &new(Some(10)), [7; 32], [1; 8]).unwrap();
        let mut accounts = Accounts::default();
        accounts.load(vec![record]);
        let identity = accounts.authenticate(Millis(9_999), &secret).unwrap();
        let session = accounts
            .open_session(Millis(9_999), &identity, [3; 32])
            .unwrap();
        assert!(accounts.session(Millis(9_999), &session).is_some());
        assert_eq!(accounts.authenticate(Millis(10_000), &secret), None);
        assert_eq!(accounts.session(Millis(10_000), &session), None);
        assert!(!accounts.still_valid(Millis(10_000), &identity));
    }

    #[test]
    fn an_old_reading_brings_no_revoked_token_back() {
        let (record, secret) = new_token(Millis(0), &new(None), [7; 32], [1; 8]).unwrap();
        let mut accounts = Accounts::default();
        accounts.load(vec![record.clone()]);
        let before = accounts.generation();
        accounts.remove(&record.id);
        accounts.refresh(before, vec![record]);
        assert_eq!(accounts.authenticate(Millis(1), &secret), None);
    }

    #[test]
    fn revoking_a_token_ends_its_sessions() {
        let (record, secret) = new_token(Millis(0), &new(None), [7; 32], [1; 8]).unwrap();
        let id = record.id.clone();
        let mut accounts = Accounts::default();
        accounts.load(vec![record]);
        let identity = accounts.authenticate(Millis(1), &secret).unwrap();
        let session = accounts
            .open_session(Millis(1), &identity, [3; 32])
            .unwrap();
        accounts.remove(&id);
        assert_eq!(accounts.session(Millis(1), &session), None);
        assert_eq!(accounts.authenticate(Millis(1), &secret), None);
    }
}
