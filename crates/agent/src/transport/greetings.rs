//! Connect Records (R-MTP.6): who is greeted over a channel that has come up.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use homefleet_net::mtp::{Channel, ChannelId, Connect, Greeter, Outgoing, Route};
use homefleet_usp::{EndpointId, Record, record::RecordBody};

/// Channels of which it is kept who was greeted, until the engine asks.
const MAX_REMEMBERED: usize = 1024;

/// Whom to greet, kept up to date by the engine, asked by the MTPs.
#[derive(Debug, Default)]
pub struct Greetings {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    own: Option<EndpointId>,
    /// Controllers with their ways.
    known: Vec<(EndpointId, Route)>,
    /// Who was greeted over channels that the engine has not heard of.
    greeted: BTreeMap<ChannelId, Vec<EndpointId>>,
}

impl Greetings {
    /// From now on these are greeted.
    pub(crate) fn set(&self, own: EndpointId, known: Vec<(EndpointId, Route)>) {
        let mut state = self.state();
        state.own = Some(own);
        state.known = known;
    }

    /// Who was greeted over this channel when it came up; once.
    pub(crate) fn take(&self, channel: ChannelId) -> Vec<EndpointId> {
        self.state().greeted.remove(&channel).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Greeter for Greetings {
    fn greet(&self, channel: &Channel) -> Vec<Outgoing> {
        let mut state = self.state();
        let Some(own) = state.own.clone() else {
            return Vec::new();
        };
        let mut greetings: Vec<Outgoing> = Vec::new();
        let mut greet = |to: &EndpointId, route: Route| {
            if *to != own && greetings.iter().all(|known| known.endpoint_id != *to) {
                greetings.push(Outgoing {
                    route,
                    endpoint_id: to.clone(),
                    record: connect_record(to.clone(), own.clone(), channel),
                });
            }
        };
        if let Some(peer) = &channel.endpoint_id {
            greet(peer, session_route(channel));
        } else {
            for (to, route) in &state.known {
                if leads_over(route, to, channel) {
                    greet(to, route.clone());
                }
            }
        }
        let greeted = greetings
            .iter()
            .map(|one| one.endpoint_id.clone())
            .collect();
        while state.greeted.len() >= MAX_REMEMBERED {
            state.greeted.pop_first();
        }
        state.greeted.insert(channel.id, greeted);
        greetings
    }
}

/// The Connect Record of this channel's kind.
pub(crate) fn connect_record(to: EndpointId, from: EndpointId, channel: &Channel) -> Vec<u8> {
    let body = match &channel.connect {
        Connect::WebSocket => RecordBody::WebSocketConnect,
        Connect::Stomp { destination } => RecordBody::StompConnect {
            destination: destination.clone(),
        },
        Connect::Mqtt { version, topic } => RecordBody::MqttConnect {
            version: *version,
            topic: topic.clone(),
        },
        Connect::Uds => RecordBody::UdsConnect,
    };
    Record::with(to, from, body).encode()
}

/// The route of a channel that is a session with one Endpoint.
pub(crate) fn session_route(channel: &Channel) -> Route {
    match channel.connect {
        Connect::Uds => Route::Uds,
        _ => Route::WebSocket {
            secure: channel.identity.is_some(),
        },
    }
}

/// Whether what is sent this way to this Endpoint goes over this channel.
pub(crate) fn leads_over(route: &Route, to: &EndpointId, channel: &Channel) -> bool {
    let named = |name: &String| channel.connection.as_ref() == Some(name);
    let there = || channel.endpoint_id.as_ref() == Some(to);
    match (route, &channel.connect) {
        (Route::WebSocket { secure }, Connect::WebSocket) => {
            there() && (channel.identity.is_some() || !*secure)
        }
        (Route::Uds, Connect::Uds) => there(),
        (Route::Stomp { connection, .. }, Connect::Stomp { .. }) => named(connection),
        (Route::Mqtt { connection, .. }, Connect::Mqtt { .. }) => named(connection),
        _ => false,
    }
}
