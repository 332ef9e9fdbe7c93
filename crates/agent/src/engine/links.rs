//! How the MTPs and their connections stand, for the `Status` parameters.

use homefleet_model::{path::ObjectPath, value::date_time};
use homefleet_net::mtp::{
    Connect, State, Status,
    mqtt::{MqttStats, MqttTimes},
};

use super::Engine;
use crate::{
    controllers,
    local_agent::{is_true, table, text},
    provider::Now,
    transport::{MTPS, name},
};

/// Who knows how the connections of a [`Plan`](crate::transport::Plan) stand.
pub trait Links: Send + std::fmt::Debug {
    /// The connection of this name; `None` when there is none.
    fn link(&self, name: &str) -> Option<Link>;
}

/// How a connection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it is doing.
    pub status: Status,
    /// What the broker told to listen at.
    pub told: Option<String>,
    /// Topic Filters that the broker does not serve.
    pub refused: Vec<String>,
    /// What an MQTT client has counted.
    pub counted: Option<(MqttStats, MqttTimes)>,
}

impl Link {
    /// A connection of which nothing more is known.
    pub fn new(status: Status) -> Self {
        Self {
            status,
            told: None,
            refused: Vec::new(),
            counted: None,
        }
    }
}

impl Engine {
    /// Asks these how connections stand.
    pub fn set_links(&mut self, links: Box<dyn Links>) {
        self.links = Some(links);
    }

    /// Puts how everything stands into the tree.
    pub(super) fn refresh_links(&mut self, _: Now) {
        for row in self.device.tree.rows(&table("Device.STOMP.Connection.")) {
            self.refresh_stomp(&row);
        }
        for row in self.device.tree.rows(&table("Device.MQTT.Client.")) {
            self.refresh_mqtt(&row);
        }
        for row in self.device.tree.rows(&table(MTPS)) {
            self.refresh_mtp(&row);
        }
        for controller in self.device.tree.rows(&table(controllers::TABLE)) {
            for row in self.device.tree.rows(&controller.child("MTP")) {
                let failures = self.status(&name(&row)).map_or(0, |status| status.failures);
                self.fill(
                    &row.child("WebSocket"),
                    "CurrentRetryCount",
                    &failures.to_string(),
                );
            }
        }
    }

    fn status(&self, name: &str) -> Option<Status> {
        Some(self.link(name)?.status)
    }

    fn link(&self, name: &str) -> Option<Link> {
        self.links.as_ref()?.link(name)
    }

    fn refresh_stomp(&mut self, row: &ObjectPath) {
        let (name, tree) = (name(row), &self.device.tree);
        let status = self.status(&name);
        let text = match &status {
            _ if !is_true(tree, row, "Enable") => "Disabled",
            _ if self.channels.broker(&name).is_some() => "Enabled",
            // Nobody uses it, or something is missing, or it is not protected and has to be.
            _ if !self.published.stomp.contains_key(&name) => "Error_Misconfigured",
            Some(Status {
                state: State::Error(_),
                ..
            }) => "ServerNotPresent",
            _ => "Connecting",
        };
        self.fill(row, "Status", text);
        if let Some(status) = status {
            self.fill(row, "LastChangeDate", &date_time(status.since));
        }
    }

    fn refresh_mqtt(&mut self, row: &ObjectPath) {
        let (name, tree) = (name(row), &self.device.tree);
        let up = self.channels.broker(&name);
        let status = match self.status(&name) {
            _ if !is_true(tree, row, "Enable") => "Disabled",
            _ if up.is_some() => "Connected",
            _ if !self.published.mqtt.contains_key(&name) => "Error_Misconfigured",
            Some(Status {
                state: State::Error(_),
                ..
            }) => "Error_BrokerUnreachable",
            _ => "Connecting",
        };
        let subscribed = if up.is_some() {
            "Subscribed"
        } else {
            "Unsubscribed"
        };
        let told = self.told(&name);
        let link = self.link(&name);
        if let Some((stats, times)) = link.as_ref().and_then(|link| link.counted) {
            self.fill_stats(&row.child("Stats"), stats, times);
        }
        let refused = link.map(|link| link.refused).unwrap_or_default();
        self.fill(row, "Status", status);
        self.fill(row, "ResponseInformation", &told);
        for row in self.device.tree.rows(&row.child("Subscription")) {
            let tree = &self.device.tree;
            let on = is_true(tree, &row, "Enable");
            let subscribed = if refused
                .iter()
                .any(|filter| filter == text(tree, &row, "Topic"))
            {
                "Error"
            } else {
                subscribed
            };
            self.fill(&row, "Status", if on { subscribed } else { "Unsubscribed" });
        }
    }

    fn fill_stats(&mut self, object: &ObjectPath, stats: MqttStats, times: MqttTimes) {
        let counters = [
            ("PublishSent", stats.publish_sent),
            ("PublishReceived", stats.publish_received),
            ("SubscribeSent", stats.subscribe_sent),
            ("UnSubscribeSent", stats.unsubscribe_sent),
            ("MQTTMessagesSent", stats.packets_sent),
            ("MQTTMessagesReceived", stats.packets_received),
            // These two have 32 bits.
            ("ConnectionErrors", stats.connection_errors & 0xFFFF_FFFF),
            ("PublishErrors", stats.publish_errors & 0xFFFF_FFFF),
        ];
        for (param, value) in counters {
            self.fill(object, param, &value.to_string());
        }
        let times = [
            ("BrokerConnectionEstablished", times.established),
            ("LastPublishMessageSent", times.last_sent),
            ("LastPublishMessageReceived", times.last_received),
        ];
        for (param, time) in times {
            if let Some(time) = time {
                self.fill(object, param, &date_time(time));
            }
        }
    }

    fn refresh_mtp(&mut self, row: &ObjectPath) {
        let tree = &self.device.tree;
        let protocol = text(tree, row, "Protocol").to_owned();
        let refers = |param: &str| text(tree, &row.child(&protocol), param).to_owned();
        let plan = &self.published;
        let failed = |name: &str| {
            let status = self.status(name);
            status.is_some_and(|status| matches!(status.state, State::Error(_)))
        };
        let mut told = None;
        let status = match protocol.as_str() {
            _ if !is_true(tree, row, "Enable") => "Down",
            "CoAP" if is_true(tree, &row.child("CoAP"), "EnableEncryption") => {
                up(plan.coaps.is_some() && !failed("coap"))
            }
            "CoAP" => up(plan.coap.is_some() && !failed("coap")),
            "WebSocket" => {
                up(plan.websocket_servers.contains_key(&name(row)) && !failed(&name(row)))
            }
            "STOMP" => {
                let name = refers("Reference");
                told = Some(("DestinationFromServer", self.told(&name)));
                up(self.channels.broker(&name).is_some())
            }
            "MQTT" => {
                let name = refers("Reference");
                told = Some(("ResponseTopicDiscovered", self.told(&name)));
                up(self.channels.broker(&name).is_some())
            }
            "UDS" => {
                let name = refers("UnixDomainSocketRef");
                up(plan.uds.contains_key(&name) && !failed(&name))
            }
            _ => "Down",
        };
        self.fill(row, "Status", status);
        if let Some((param, value)) = told {
            self.fill(&row.child(&protocol), param, &value);
        }
    }

    /// What the broker told to listen at; without [`Links`], what is listened at and not configured.
    fn told(&self, name: &str) -> String {
        if let Some(link) = self.link(name) {
            return link.told.unwrap_or_default();
        }
        let plan = &self.published;
        let channel = self.channels.broker(name);
        match channel.map(|channel| &channel.connect) {
            Some(Connect::Stomp { destination }) => {
                let link = plan.stomp.get(name);
                let configured = link.and_then(|link| link.destination.as_ref());
                Some(destination).filter(|told| Some(*told) != configured)
            }
            Some(Connect::Mqtt { topic, .. }) => {
                let link = plan.mqtt.get(name);
                let configured = link.and_then(|link| link.response_topic.as_ref());
                Some(topic).filter(|told| Some(*told) != configured)
            }
            _ => None,
        }
        .cloned()
        .unwrap_or_default()
    }

    pub(super) fn fill(&mut self, object: &ObjectPath, param: &str, value: &str) {
        self.put(object.param(param).as_str(), value);
    }
}

fn up(is: bool) -> &'static str {
    if is { "Up" } else { "Down" }
}
