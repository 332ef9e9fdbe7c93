//! Channels that are up, who was greeted over them, and which way a Record goes.

use std::collections::BTreeMap;

use homefleet_net::mtp::{Channel, ChannelId, Connect, Route};
use homefleet_trust::Basis;
use homefleet_usp::{EndpointId, Record, error::ErrorCode};

use super::{Action, Engine, Transmit};
use crate::{
    provider::Now,
    transport::{Plan, Way, connect_record, leads_over, session_route},
};

/// Channels at the same time; further ones are not used for what nobody asked for.
const MAX_CHANNELS: usize = 1024;

/// Endpoints greeted over one channel; beyond it the one goes that comes first by name, and is greeted again.
const MAX_GREETED: usize = 256;

/// Channels that are up.
#[derive(Debug, Default)]
pub(super) struct Channels {
    up: BTreeMap<ChannelId, Up>,
}

#[derive(Debug)]
struct Up {
    channel: Channel,
    /// Who was sent a Connect Record, and the way it went; without a way when a Disconnect Record has come since (R-MTP.8).
    greeted: BTreeMap<String, Option<Route>>,
}

impl Channels {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.up.values().map(|up| &up.channel)
    }

    pub(super) fn of(&self, id: ChannelId) -> Option<&Channel> {
        self.up.get(&id).map(|up| &up.channel)
    }

    /// The channel that a Record for this Endpoint takes on this way.
    pub(super) fn over(&self, route: &Route, to: &EndpointId) -> Option<&Channel> {
        let mut channels = self.iter();
        channels.find(|channel| leads_over(route, to, channel))
    }

    /// The connection of this name that leads to a broker.
    pub(super) fn broker(&self, name: &str) -> Option<&Channel> {
        self.iter().find(|channel| {
            channel.connection.as_deref() == Some(name)
                && matches!(
                    channel.connect,
                    Connect::Stomp { .. } | Connect::Mqtt { .. }
                )
        })
    }

    fn greeted(&mut self, id: ChannelId, to: &EndpointId, route: &Route) -> bool {
        let Some(up) = self.up.get_mut(&id) else {
            return true;
        };
        if matches!(up.greeted.get(to.as_str()), Some(Some(_))) {
            return true;
        }
        if up.greeted.len() >= MAX_GREETED {
            up.greeted.pop_first();
        }
        up.greeted.insert(to.to_string(), Some(route.clone()));
        false
    }
}

impl Engine {
    /// A channel has come up, and the greetings of [`Greetings`](crate::transport::Greetings) are on their way over it.
    pub fn handle_up(&mut self, now: Now, channel: Channel) {
        if self.channels.up.len() >= MAX_CHANNELS {
            tracing::warn!("too many channels: one is not used");
            return;
        }
        self.stats.channels_up += 1;
        if channel.endpoint_id.is_none()
            && !self.settings.allow_insecure
            && !is_trusted_broker(&channel)
        {
            tracing::warn!(
                connection = channel.connection,
                "connected, but the broker's certificate is not a Trusted Broker's (trust.brokers): nothing passes"
            );
        }
        let greeted = self.settings.greetings.take(channel.id);
        let greeted = greeted.into_iter().map(|to| {
            let route = self.way_over(&to, &channel);
            (
                to.to_string(),
                Some(route.unwrap_or_else(|| session_route(&channel))),
            )
        });
        let greeted = greeted.collect();
        self.confirm_by_channel(&channel);
        self.channels.up.insert(
            channel.id,
            Up {
                channel: channel.clone(),
                greeted,
            },
        );
        self.greet_all();
        self.refresh_links(now);
        self.resume_over(now, &channel);
        self.settle(now, None);
    }

    /// A channel has gone.
    pub fn handle_down(&mut self, now: Now, id: ChannelId) {
        if self.channels.up.remove(&id).is_some() {
            self.stats.channels_down += 1;
            self.refresh_links(now);
        }
        self.settle(now, None);
    }

    /// A broker has given this client its identifier, which is kept (R-MQTT.9).
    pub fn handle_client_id(&mut self, now: Now, connection: &str, client_id: &str) {
        let Ok(row) = format!("{connection}.").parse::<homefleet_model::path::ObjectPath>() else {
            return;
        };
        if !connection.starts_with("Device.MQTT.Client.") || !self.device.tree.exists(&row) {
            return;
        }
        let param = row.param("ClientID");
        if let Err(error) = self.device.tree.put_persistent(&param, client_id) {
            tracing::warn!(%row, %error, "the broker's client identifier is not kept");
        }
        // It is in use already: nothing needs to be opened anew for it.
        for plan in [&mut self.plan, &mut self.published] {
            if let Some(link) = plan.mqtt.get_mut(connection) {
                link.client_id = Some(client_id.to_owned());
            }
        }
        self.settle(now, None);
    }

    /// The agent ends: who was greeted is told so (R-MTP.7). Then what [`poll_action`](Self::poll_action) gives is sent, and the
    /// channels are closed.
    pub fn handle_stop(&mut self) {
        let all: Vec<ChannelId> = self.channels.up.keys().copied().collect();
        self.take_leave(&all, "the agent stops");
    }

    /// Tells everyone who was greeted over these channels that they end (R-MTP.7, R-MTP.9).
    pub(super) fn take_leave(&mut self, channels: &[ChannelId], reason: &str) {
        for id in channels {
            let Some(up) = self.channels.up.get_mut(id) else {
                continue;
            };
            for (to, route) in std::mem::take(&mut up.greeted) {
                let (Ok(to), Some(route)) = (to.parse::<EndpointId>(), route) else {
                    continue;
                };
                let own = self.settings.endpoint_id.clone();
                // The code for the end of what the receiver keeps about its exchanges with us (R-MTP.7).
                let code = ErrorCode::SESSION_CONTEXT_TERMINATED;
                let record = Record::disconnect(to.clone(), own, code, reason).encode();
                self.stats.disconnects_sent += 1;
                self.actions.push_back(Action::Transmit(Transmit {
                    route,
                    endpoint_id: to,
                    record,
                    notification: None,
                }));
            }
        }
    }

    /// An Endpoint has sent a Disconnect Record: before anything else passes it is greeted again (R-MTP.8).
    pub(super) fn disconnected(&mut self, from: &EndpointId, channel: Option<ChannelId>) {
        self.stats.disconnects += 1;
        let up = channel.and_then(|id| self.channels.up.get_mut(&id));
        if let Some(greeted) = up.and_then(|up| up.greeted.get_mut(from.as_str())) {
            *greeted = None;
        }
    }

    /// Queues a Record, and the Connect Record before it when that is due (R-MTP.8).
    pub(super) fn push(&mut self, transmit: Transmit) {
        self.greet(&transmit.route, &transmit.endpoint_id);
        self.actions.push_back(Action::Transmit(transmit));
    }

    fn greet(&mut self, route: &Route, to: &EndpointId) {
        let Some(channel) = self.channels.over(route, to).cloned() else {
            return;
        };
        if self.channels.greeted(channel.id, to, route) {
            return;
        }
        self.stats.connects_sent += 1;
        let record = connect_record(to.clone(), self.settings.endpoint_id.clone(), &channel);
        self.actions.push_back(Action::Transmit(Transmit {
            route: route.clone(),
            endpoint_id: to.clone(),
            record,
            notification: None,
        }));
    }

    /// Greets every Controller that has a way over a channel since that came up (R-MTP.6).
    pub(super) fn greet_all(&mut self) {
        let known: Vec<(EndpointId, Vec<Route>)> = self
            .controllers
            .values()
            .filter(|known| known.enabled)
            .filter_map(|known| {
                let to = known.endpoint_id.parse().ok()?;
                let routes = known.ways.iter().map(|way| way.route.clone());
                Some((to, routes.collect()))
            })
            .collect();
        for (to, routes) in &known {
            for route in routes {
                let named = matches!(route, Route::Stomp { .. } | Route::Mqtt { .. });
                if named && !self.was_ever_greeted(route, to) {
                    self.greet(route, to);
                }
            }
        }
        let known = known
            .into_iter()
            .flat_map(|(to, routes)| routes.into_iter().map(move |route| (to.clone(), route)));
        let own = self.settings.endpoint_id.clone();
        self.settings.greetings.set(own, known.collect());
    }

    /// Whether there is nothing to say unasked: it was greeted, or has said good-bye itself.
    fn was_ever_greeted(&self, route: &Route, to: &EndpointId) -> bool {
        let Some(channel) = self.channels.over(route, to) else {
            return true;
        };
        let up = self.channels.up.get(&channel.id);
        up.is_none_or(|up| up.greeted.contains_key(to.as_str()))
    }

    /// The way of a Controller that leads over this channel.
    pub(super) fn way_over(&self, to: &EndpointId, channel: &Channel) -> Option<Route> {
        if channel.endpoint_id.as_ref() == Some(to) {
            return Some(session_route(channel));
        }
        let mut known = self.controllers.values();
        let known = known.find(|known| known.enabled && known.endpoint_id == to.as_str())?;
        let mut routes = known.ways.iter().map(|way| &way.route);
        routes.find(|route| leads_over(route, to, channel)).cloned()
    }

    /// How this way is gone now, if it can be: the route of the channel that is up, or that of CoAP.
    pub(super) fn usable(&self, to: &EndpointId, way: &Way) -> Option<Route> {
        let insecure = self.settings.allow_insecure;
        if !way.secure && !insecure && way.route != Route::Uds {
            return None;
        }
        if let Route::Coap(_) = way.route {
            return Some(way.route.clone());
        }
        let channel = self.channels.over(&way.route, to)?;
        match way.route {
            Route::WebSocket { .. } | Route::Uds => Some(session_route(channel)),
            _ if insecure || is_trusted_broker(channel) => Some(way.route.clone()),
            _ => None,
        }
    }

    /// Channels that do not live on when the plan changes so.
    pub(super) fn doomed(&self, old: &Plan, new: &Plan) -> Vec<ChannelId> {
        let ends = |channel: &&Channel| {
            let route = match (&channel.connect, &channel.connection) {
                (Connect::Stomp { destination }, Some(connection)) => Route::Stomp {
                    connection: connection.clone(),
                    destination: destination.clone(),
                },
                (Connect::Mqtt { topic, .. }, Some(connection)) => Route::Mqtt {
                    connection: connection.clone(),
                    topic: topic.clone(),
                },
                _ => session_route(channel),
            };
            let name = channel.connection.as_deref();
            old.lifeline(&route, name) != new.lifeline(&route, name)
        };
        self.channels
            .iter()
            .filter(ends)
            .map(|channel| channel.id)
            .collect()
    }
}

/// Whether what this broker hands on may be taken to be from whom it says (R-SEC.4a).
pub(super) fn is_trusted_broker(channel: &Channel) -> bool {
    let identity = channel.identity.as_ref();
    identity.is_some_and(|identity| identity.basis == Basis::TrustedBroker)
}
