//! At most one session between two Endpoints (R-WS.4).

use std::time::Duration;

use crate::endpoint::EndpointId;

/// Two sessions that both sides opened within this time crossed each other.
pub const CROSSING: Duration = Duration::from_secs(10);

/// Who opened a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opener {
    /// This Endpoint.
    Us,
    /// The other one.
    Peer,
}

/// Whether the new one of two sessions with `peer` stays, and the one that is `age` old is closed with 1000;
/// otherwise the other way round.
///
/// The new one stays: who opens a session again has lost the old one, and knows it sooner than we do. Only when
/// both sides opened one at the same time does the one stay that the smaller Endpoint ID opened, on both sides, in
/// whatever order each sees them; otherwise each side might close the one that the other keeps.
pub fn newcomer_stays(
    own: &EndpointId,
    peer: &EndpointId,
    old: Opener,
    age: Duration,
    new: Opener,
) -> bool {
    if old == new || age > CROSSING {
        return true;
    }
    let first = if own < peer { Opener::Us } else { Opener::Peer };
    new == first
}
