//! Who a device is before it says anything: by the certificate of its connection, or by Digest, or over TLS by Basic (TR-069 §3.4.4).
//!
//! A device has the common name and password that every device is made with, until it proves that it has taken its own. From then on the common
//! one does not do for it any more, unless an operator or a factory reset lets it begin again.

use std::sync::Arc;
use std::time::Instant;

use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use homefleet_cwmp::auth::{BasicLogin, Refusal, Stored};
use homefleet_cwmp::message::DeviceId;
use homefleet_trust::PeerIdentity;

use super::listen::Peer;
use super::{Acs, REALM, identity};
use crate::clock::Millis;
use crate::device::Proof;
use crate::store::{CertificateRecord, CwmpRecord, HashedLogin, SecretText};

/// What the IDs of devices begin with that speak CWMP.
const SCHEME: &str = "cwmp:";

/// Who logged in.
#[derive(Clone, Debug)]
pub(super) enum Login {
    /// Nobody has to.
    Nobody,
    /// Whoever knows what all devices know.
    Common,
    /// One device, by its own password.
    Own {
        /// Its ID.
        device: String,
        /// It is the password that it was given last.
        new: bool,
    },
    /// Whoever the certificate names.
    Certificate(Arc<PeerIdentity>),
}

/// It is not the device that it says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Foreign;

impl Login {
    /// Whether this device may begin a session by this login, and what stands for it. `known`: what is known of the device.
    pub(super) fn proof(
        &self,
        id: &str,
        device: &DeviceId,
        known: Option<&CwmpRecord>,
        now: Millis,
    ) -> Result<Proof, Foreign> {
        match self {
            Self::Nobody | Self::Common => {
                let has_its_own = known.is_some_and(|cwmp| cwmp.login.is_some() && !cwmp.again);
                if has_its_own {
                    Err(Foreign)
                } else {
                    Ok(Proof::Nobody)
                }
            }
            Self::Own { device: own, .. } if own == id => Ok(Proof::Nobody),
            Self::Own { .. } => Err(Foreign),
            Self::Certificate(peer) if identity::is_named(peer, device) => {
                Ok(Proof::Certificate(CertificateRecord {
                    fingerprint: crate::account::hex(&peer.fingerprint),
                    subject: peer.subject.clone(),
                    not_after: peer.not_after.into(),
                    first_seen: now,
                }))
            }
            Self::Certificate(_) => Err(Foreign),
        }
    }
}

/// The name that a device logs in with, once it has its own: `OUI-ProductClass-SerialNumber` (TR-069 §3.4.4).
pub(super) fn name_of(device: &str) -> Option<&str> {
    device.strip_prefix(SCHEME)
}

/// What is kept of a device's password.
pub(super) fn hashed(username: &str, password: &str) -> HashedLogin {
    let text = |secret: Option<homefleet_cwmp::Secret>| {
        SecretText::new(secret.map_or_else(String::new, |secret| secret.reveal().to_owned()))
    };
    match Stored::hashed(username, REALM, password) {
        Stored::Hashes { md5, sha256 } => HashedLogin {
            md5: text(md5),
            sha256: text(sha256),
        },
        Stored::Password(_) => HashedLogin::default(),
    }
}

/// Who is there. An error is the challenge, for somebody who has not logged in as one has to.
pub(super) fn login(
    acs: &Acs,
    peer: &Peer,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Login, Box<Response>> {
    if let Some(identity) = &peer.identity {
        return Ok(Login::Certificate(Arc::clone(identity)));
    }
    let given = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    if acs.0.policy.login.is_none() && given.is_none() {
        return Ok(Login::Nobody);
    }
    let refusal = match given {
        None => None,
        Some(given) => match check(acs, peer, method, uri, given) {
            Ok(login) => return Ok(login),
            Err(refusal) => Some(refusal),
        },
    };
    match refusal {
        None | Some(Refusal::Stale) => acs.counted().challenged += 1,
        Some(refusal) => {
            tracing::debug!(%refusal, "a device's login was refused");
            acs.counted().refused_logins += 1;
        }
    }
    Err(Box::new(challenge(acs, peer, refusal)))
}

fn check(
    acs: &Acs,
    peer: &Peer,
    method: &Method,
    uri: &Uri,
    given: &str,
) -> Result<Login, Refusal> {
    let common = acs.0.policy.login.as_ref().map(|(name, _)| name.as_str());
    let login = |name: String, new: bool| {
        if common == Some(name.as_str()) {
            Login::Common
        } else {
            let device = format!("{SCHEME}{name}");
            Login::Own { device, new }
        }
    };
    if let Some(basic) = BasicLogin::parse(given) {
        // In the open it would tell the password to whoever listens.
        if !peer.secure {
            return Err(Refusal::NotAsked);
        }
        let fits = |kept: Option<Stored>| {
            kept.is_some_and(|kept| kept.is(&basic.username, REALM, &basic.password))
        };
        let name = basic.username.clone();
        return if fits(kept(acs, &name, false)) {
            Ok(login(name, false))
        } else if fits(kept(acs, &name, true)) {
            Ok(login(name, true))
        } else {
            Err(Refusal::Credentials)
        };
    }
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let now = Instant::now();
    let mut digest = super::lock(&acs.0.digest);
    let mut authorize = |new: bool| {
        let found = digest.authorize(now, method.as_str(), target, given, |name| {
            kept(acs, name, new)
        });
        found.map(|name| login(name, new))
    };
    match authorize(false) {
        // Its old password, or the one that it was given last.
        Err(Refusal::Credentials) => authorize(true),
        other => other,
    }
}

/// What is kept of the password to a name: the one in use, or the one that was given last.
fn kept(acs: &Acs, name: &str, new: bool) -> Option<Stored> {
    if let Some((common, kept)) = &acs.0.policy.login
        && common == name
    {
        return (!new).then(|| kept.clone());
    }
    let state = acs.0.core.state();
    let cwmp = state
        .registry
        .device(&format!("{SCHEME}{name}"))?
        .cwmp
        .as_ref()?;
    let login = if new { &cwmp.next_login } else { &cwmp.login };
    let secret = |text: &SecretText| Some(text.reveal().into());
    login.as_ref().map(|login| Stored::Hashes {
        md5: secret(&login.md5),
        sha256: secret(&login.sha256),
    })
}

fn challenge(acs: &Acs, peer: &Peer, refusal: Option<Refusal>) -> Response {
    let mut challenges = super::lock(&acs.0.digest).challenge(Instant::now(), refusal);
    if peer.secure {
        challenges.push(format!("Basic realm=\"{REALM}\""));
    }
    let mut response = StatusCode::UNAUTHORIZED.into_response();
    for challenge in challenges {
        if let Ok(challenge) = HeaderValue::try_from(challenge) {
            response.headers_mut().append(WWW_AUTHENTICATE, challenge);
        }
    }
    response
}
