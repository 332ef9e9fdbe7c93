//! A client's session with its broker: what USP puts into the packets, and what it reads out of them.
//!
//! ```text
//! connect() ─> CONNECT … CONNACK ─> connected() ─> SUBSCRIBE … SUBACK ─> subscribed() ─> publish(), receive()
//!                                        └─ nothing to subscribe to          └─ nothing granted: DISCONNECT
//! ```

use std::collections::BTreeMap;

use crate::{
    endpoint::EndpointId,
    record::{MAX_RECORD, Record, RecordBody, RecordError},
};

use super::{
    CONTENT_TYPE, ENDPOINT_ID, MqttVersion, REGISTERED_CONTENT_TYPE, SUBSCRIBE_TOPIC, Senders,
    topic::{TopicError, check_filter, check_name, covers, split_reply_to, with_reply_to},
};

/// The most Topic Filters that are taken from the broker; a bound of ours.
pub const MAX_FROM_BROKER: usize = 32;

/// The most Endpoints whose version does not fit that are remembered; a bound of ours.
pub const MAX_MISMATCHED: usize = 1024;

/// A Quality of Service (MQTT 5.0 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    /// QoS 0
    AtMostOnce,
    /// QoS 1
    AtLeastOnce,
    /// QoS 2
    ExactlyOnce,
}

/// A Topic Filter and the Quality of Service that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The Topic Filter.
    pub filter: String,
    /// The Quality of Service.
    pub qos: Qos,
}

/// What a session is told.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// `ProtocolVersion`
    pub version: MqttVersion,
    /// This Endpoint.
    pub endpoint_id: EndpointId,
    /// `ClientID`, which also holds what a broker assigned before (R-MQTT.8, R-MQTT.9).
    pub client_id: Option<String>,
    /// `Username` and `Password` (R-MQTT.7).
    pub login: Option<(String, String)>,
    /// `KeepAliveTime`, in seconds; 0 for none (R-MQTT.14).
    pub keep_alive: u16,
    /// The enabled ones of `Subscription.{i}.`
    pub subscriptions: Vec<Subscription>,
    /// `ResponseTopicConfigured`
    pub response_topic: Option<String>,
    /// Where each Endpoint publishes what is for us: it is named this topic as the way back, and what comes over another
    /// Endpoint's is not its own. All of them are subscribed to. Its place in the topic is a whole level.
    pub senders: Option<Senders>,
    /// The Quality of Service for what is subscribed to besides `subscriptions`.
    pub subscribe_qos: Qos,
    /// `PublishQoS`
    pub publish_qos: Qos,
    /// The largest Record that is taken and sent, in bytes.
    pub max_record: usize,
}

impl Config {
    /// An Endpoint with nothing configured: no login, 60 s of Keep Alive, QoS 1.
    pub fn new(version: MqttVersion, endpoint_id: EndpointId) -> Self {
        Self {
            version,
            endpoint_id,
            client_id: None,
            login: None,
            keep_alive: 60,
            subscriptions: Vec::new(),
            response_topic: None,
            senders: None,
            subscribe_qos: Qos::AtLeastOnce,
            publish_qos: Qos::AtLeastOnce,
            max_record: MAX_RECORD,
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The password goes into no log.
        f.debug_struct("Config")
            .field("version", &self.version)
            .field("endpoint_id", &self.endpoint_id)
            .field("client_id", &self.client_id)
            .field("login", &self.login.as_ref().map(|(name, _)| name))
            .field("subscriptions", &self.subscriptions)
            .field("response_topic", &self.response_topic)
            .finish_non_exhaustive()
    }
}

/// What stands in CONNECT.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// The Client Identifier; empty asks an MQTT 5.0 broker to assign one (R-MQTT.8).
    pub client_id: String,
    /// User Name and Password (R-MQTT.7).
    pub login: Option<(String, String)>,
    /// Keep Alive, in seconds (R-MQTT.14).
    pub keep_alive: u16,
    /// The Request Response Information property; MQTT 5.0 only (R-MQTT.12).
    pub request_response_information: bool,
    /// The User Properties; MQTT 5.0 only (R-MQTT.13).
    pub user_properties: Vec<(String, String)>,
}

/// What is read out of a CONNACK that says success. With MQTT 3.1.1 all of it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connack {
    /// Assigned Client Identifier.
    pub assigned_client_id: Option<String>,
    /// Response Information.
    pub response_information: Option<String>,
    /// The User Properties.
    pub user_properties: Vec<(String, String)>,
    /// Maximum QoS.
    pub maximum_qos: Option<Qos>,
}

/// What a CONNACK leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// What SUBSCRIBE asks for; never empty.
    pub subscribe: Vec<Subscription>,
    /// A Client Identifier that is kept over a restart, as `ClientID` (R-MQTT.9).
    pub save_client_id: Option<String>,
    /// What the broker told as Response Information, `ResponseTopicDiscovered`.
    pub response_topic: Option<String>,
}

/// What a changed configuration leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What UNSUBSCRIBE names (R-MQTT.34); no packet when it is empty.
    pub unsubscribe: Vec<String>,
    /// What SUBSCRIBE asks for; no packet when it is empty.
    pub subscribe: Vec<Subscription>,
}

/// Why the client sends DISCONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// Neither the broker nor the configuration names a Topic: the MTP is disabled (R-MQTT.16).
    #[error("neither the broker nor the configuration names a Topic to subscribe to")]
    NothingToSubscribe,
    /// The broker granted no subscription (R-MQTT.17).
    #[error("the broker granted no subscription")]
    NotSubscribed,
}

impl Stop {
    /// Whether the client connects again: not until the configuration has changed, when it has no Topic.
    pub fn is_retried(self) -> bool {
        self != Self::NothingToSubscribe
    }
}

/// A PUBLISH to send; never retained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The Topic Name.
    pub topic: String,
    /// The Quality of Service.
    pub qos: Qos,
    /// Content Type; MQTT 5.0 only (R-MQTT.27).
    pub content_type: Option<&'static str>,
    /// Response Topic; MQTT 5.0 only (R-MQTT.23).
    pub response_topic: Option<String>,
    /// The Record (R-MQTT.18, R-MQTT.19).
    pub payload: Vec<u8>,
}

/// A PUBLISH that came.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// The Topic Name.
    pub topic: &'a str,
    /// Content Type, if there is one.
    pub content_type: Option<&'a str>,
    /// Response Topic, if there is one.
    pub response_topic: Option<&'a str>,
    /// The payload.
    pub payload: &'a [u8],
}

/// What a PUBLISH means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A Record. Who sent it and whether it is for us is not looked at here.
    Record {
        /// The Record.
        record: Record,
        /// Where its response goes (R-MQTT.25, R-MQTT.26).
        reply_to: Option<String>,
    },
    /// No Record, or a wrong one: dropped, and answered as R-MTP.5 says if it has a code and a way back.
    Erroneous {
        /// What is wrong.
        error: RecordError,
        /// Where an answer goes.
        reply_to: Option<String>,
    },
    /// A Record from an Endpoint that uses another version of MQTT (R-MQTT.26a). One Record more, the answer with
    /// an error, may go to it, and no other until the version fits.
    Mismatch {
        /// The Record.
        record: Record,
        /// Where an answer goes.
        reply_to: Option<String>,
    },
    /// A Record that came over a topic that is not its sender's: dropped (R-SEC.4c).
    Forged,
    /// Not for USP.
    Other,
}

/// Why a Record is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No subscription is granted yet (R-MQTT.17).
    #[error("nothing is subscribed to yet")]
    NotSubscribed,
    /// There is no Topic to name as the way back (R-MQTT.22).
    #[error("no Topic without wildcards is known where this Endpoint is reached")]
    NoReplyTo,
    /// The Topic cannot be published to, or not with the way back.
    #[error("{0}")]
    Topic(TopicError),
    /// The receiver uses another version of MQTT (R-MQTT.26a).
    #[error("the receiver uses another version of MQTT")]
    Mismatch,
    /// Larger than is sent.
    #[error("a Record of {length} bytes, at most {max} are sent")]
    TooLarge {
        /// How large it is.
        length: usize,
        /// How large it may be.
        max: usize,
    },
}

/// Counters since the session was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Records handed to the application.
    pub records_in: u64,
    /// Records handed out for sending.
    pub records_out: u64,
    /// PUBLISH packets handed to the application as wrong.
    pub erroneous_records: u64,
    /// PUBLISH packets that are not USP's; dropped.
    pub other_content: u64,
    /// Records that came over a topic that is not their sender's; dropped.
    pub forged: u64,
    /// Records from Endpoints of another version of MQTT.
    pub mismatches: u64,
    /// Topics that were left out because they are none, or too many.
    pub topics_left_out: u64,
}

/// One client of one broker, over all its connections.
#[derive(Debug)]
pub struct Session {
    config: Config,
    connack: Connack,
    /// What SUBSCRIBE asked for, and SUBACK has not answered.
    pending: Vec<Subscription>,
    granted: Vec<Subscription>,
    reply_to: Option<String>,
    /// Endpoints of another version, and whether an answer may still go to each.
    mismatched: BTreeMap<EndpointId, bool>,
    stats: Stats,
}

impl Session {
    /// A client that has not connected yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            connack: Connack::default(),
            pending: Vec::new(),
            granted: Vec::new(),
            reply_to: None,
            mismatched: BTreeMap::new(),
            stats: Stats::default(),
        }
    }

    /// Where this Endpoint is reached, once it has subscribed: what a Connect Record and an Agent's DNS-SD record
    /// tell (R-MTP.6, R-MQTT.36).
    pub fn reply_to(&self) -> Option<&str> {
        self.reply_to.as_deref()
    }

    /// The Client Identifier: configured, assigned by the broker, or our Endpoint ID; empty when an MQTT 5.0 broker is to
    /// assign one (R-MQTT.8, R-MQTT.11).
    pub fn client_id(&self) -> &str {
        match self.config.client_id.as_deref() {
            Some(id) if !id.is_empty() => id,
            _ if self.is_v5() => "",
            _ => self.config.endpoint_id.as_str(),
        }
    }

    /// What the broker granted.
    pub fn granted(&self) -> &[Subscription] {
        &self.granted
    }

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// What CONNECT says. Whatever an earlier connection granted is forgotten.
    pub fn connect(&mut self) -> Connect {
        self.connack = Connack::default();
        self.pending.clear();
        self.granted.clear();
        self.reply_to = None;
        let is_v5 = self.is_v5();
        let endpoint_id = self.config.endpoint_id.as_str().to_owned();
        Connect {
            client_id: self.client_id().to_owned(),
            login: self.config.login.clone(),
            keep_alive: self.config.keep_alive,
            request_response_information: is_v5,
            user_properties: if is_v5 {
                vec![(ENDPOINT_ID.to_owned(), endpoint_id)]
            } else {
                Vec::new()
            },
        }
    }

    /// The broker took us: what to subscribe to (R-MQTT.15).
    ///
    /// # Errors
    /// [`Stop::NothingToSubscribe`].
    pub fn connected(&mut self, connack: Connack) -> Result<Connected, Stop> {
        self.connack = connack;
        let assigned = self.connack.assigned_client_id.clone();
        let save_client_id = assigned.filter(|id| self.is_v5() && !id.is_empty());
        if save_client_id.is_some() {
            // R-MQTT.11: the next connection of this session has it too.
            self.config.client_id.clone_from(&save_client_id);
        }
        self.pending = self.wanted();
        if self.pending.is_empty() {
            return Err(Stop::NothingToSubscribe);
        }
        Ok(Connected {
            subscribe: self.pending.clone(),
            save_client_id,
            response_topic: self.response_information().map(str::to_owned),
        })
    }

    /// The broker answered SUBSCRIBE: for each Topic Filter in its order, whether it is granted.
    ///
    /// # Errors
    /// [`Stop::NotSubscribed`] when none is, now and before (R-MQTT.17).
    pub fn subscribed(&mut self, answers: &[bool]) -> Result<(), Stop> {
        let answered = std::mem::take(&mut self.pending);
        for (subscription, granted) in answered.into_iter().zip(answers) {
            if *granted {
                self.granted.push(subscription);
            }
        }
        self.settle()
    }

    /// The configured Topics changed while the connection stands (R-MQTT.34). [`Session::subscribed`] is called
    /// for the answer, if anything is subscribed to.
    ///
    /// # Errors
    /// [`Stop::NothingToSubscribe`].
    pub fn reconfigure(
        &mut self,
        subscriptions: Vec<Subscription>,
        response_topic: Option<String>,
    ) -> Result<Changes, Stop> {
        self.config.subscriptions = subscriptions;
        self.config.response_topic = response_topic;
        let wanted = self.wanted();
        if wanted.is_empty() {
            return Err(Stop::NothingToSubscribe);
        }
        let (kept, dropped): (Vec<_>, Vec<_>) = std::mem::take(&mut self.granted)
            .into_iter()
            .partition(|granted| wanted.contains(granted));
        let is_wanted = |filter: &str| wanted.iter().any(|other| other.filter == filter);
        let changes = Changes {
            // Another Quality of Service replaces the subscription as it is (MQTT 5.0 §3.8.4).
            unsubscribe: dropped
                .into_iter()
                .map(|dropped| dropped.filter)
                .filter(|filter| !is_wanted(filter))
                .collect(),
            subscribe: wanted
                .iter()
                .filter(|wanted| !kept.contains(wanted))
                .cloned()
                .collect(),
        };
        self.granted = kept;
        self.pending.clone_from(&changes.subscribe);
        if self.pending.is_empty() {
            self.settle()?;
        }
        Ok(changes)
    }

    /// The PUBLISH of an encoded Record for `to_id` to a Topic: a configured one, or the `reply_to` of what is answered
    /// (R-MQTT.18 to R-MQTT.27).
    ///
    /// # Errors
    /// [`SendError`].
    pub fn publish(
        &mut self,
        topic: &str,
        to_id: &EndpointId,
        payload: Vec<u8>,
    ) -> Result<Publish, SendError> {
        if self.granted.is_empty() {
            return Err(SendError::NotSubscribed);
        }
        let reply_to = self.way_back(to_id).ok_or(SendError::NoReplyTo)?;
        let topic = if self.is_v5() {
            check_name(topic).map(|()| topic.to_owned())
        } else {
            with_reply_to(topic, &reply_to)
        };
        let topic = topic.map_err(SendError::Topic)?;
        let (length, max) = (payload.len(), self.config.max_record);
        if length > max {
            return Err(SendError::TooLarge { length, max });
        }
        let publish = Publish {
            topic,
            qos: self
                .connack
                .maximum_qos
                .map_or(self.config.publish_qos, |most| {
                    most.min(self.config.publish_qos)
                }),
            content_type: self.is_v5().then_some(CONTENT_TYPE),
            response_topic: self.is_v5().then_some(reply_to),
            payload,
        };
        match self.mismatched.get_mut(to_id) {
            Some(answer) if *answer => *answer = false,
            Some(_) => return Err(SendError::Mismatch),
            None => {}
        }
        self.stats.records_out += 1;
        Ok(publish)
    }

    /// What a PUBLISH means (R-MQTT.25 to R-MQTT.27a).
    pub fn receive(&mut self, incoming: Incoming<'_>) -> Received {
        let in_topic = split_reply_to(incoming.topic).map(|(_, reply_to)| reply_to);
        let (reply_to, fits) = if self.is_v5() {
            let told = incoming
                .response_topic
                .filter(|topic| check_name(topic).is_ok());
            match incoming.content_type {
                Some(CONTENT_TYPE | REGISTERED_CONTENT_TYPE) => (told.map(str::to_owned), true),
                // What an MQTT 3.1.1 client published has no properties, but the way back in its Topic.
                None if in_topic.is_some() => (in_topic, false),
                _ => {
                    self.stats.other_content += 1;
                    return Received::Other;
                }
            }
        } else {
            let fits = in_topic.is_some();
            (in_topic, fits)
        };
        let decoded = Record::decode_within(incoming.payload, self.config.max_record);
        let from_id = match &decoded {
            Ok(record) => Some(record.from_id()),
            Err(error) => error.from_id(),
        };
        if let Some(from_id) = from_id
            && !self.is_sender(from_id, incoming.topic)
        {
            self.stats.forged += 1;
            return Received::Forged;
        }
        match decoded {
            Ok(record) => self.record(record, reply_to, fits),
            // In MQTT 3.1.1 nothing says that this was for USP.
            Err(_) if reply_to.is_none() && !self.is_v5() => {
                self.stats.other_content += 1;
                Received::Other
            }
            Err(error) => {
                self.stats.erroneous_records += 1;
                Received::Erroneous { error, reply_to }
            }
        }
    }

    fn record(&mut self, record: Record, reply_to: Option<String>, fits: bool) -> Received {
        let mut reply_to = reply_to;
        let mut fits = fits;
        if let RecordBody::MqttConnect { version, topic } = &record.body {
            fits &= *version == self.config.version;
            reply_to = reply_to.or_else(|| check_name(topic).is_ok().then(|| topic.clone()));
        }
        if fits {
            self.mismatched.remove(&record.from_id);
            self.stats.records_in += 1;
            return Received::Record { record, reply_to };
        }
        self.stats.mismatches += 1;
        if self.mismatched.len() < MAX_MISMATCHED || self.mismatched.contains_key(&record.from_id) {
            self.mismatched.insert(record.from_id.clone(), true);
        }
        Received::Mismatch { record, reply_to }
    }

    /// Whether what came over this topic may be of this Endpoint.
    fn is_sender(&self, from_id: &EndpointId, topic: &str) -> bool {
        let Some(senders) = &self.config.senders else {
            return true;
        };
        let topic = match split_reply_to(topic) {
            Some((topic, _)) if !self.is_v5() => topic,
            _ => topic,
        };
        senders.destination(from_id) == topic
    }

    /// What `to_id` is told as the way back.
    fn way_back(&self, to_id: &EndpointId) -> Option<String> {
        match &self.config.senders {
            Some(senders) => {
                let topic = senders.destination(to_id);
                let is_heard = self.is_granted(&self.response_filter(&topic));
                (is_heard && check_name(&topic).is_ok()).then_some(topic)
            }
            None => self.reply_to.clone(),
        }
    }

    /// The Topic Filters of R-MQTT.15, each once, in the order of its list.
    fn wanted(&mut self) -> Vec<Subscription> {
        let mut wanted: Vec<Subscription> = Vec::new();
        let mut left_out = 0;
        let mut add = |filter: &str, qos, at_most: usize| {
            if check_filter(filter).is_err() || wanted.len() >= at_most {
                left_out += 1;
            } else if !wanted.iter().any(|other| other.filter == filter) {
                let filter = filter.to_owned();
                wanted.push(Subscription { filter, qos });
            }
        };
        for subscription in &self.config.subscriptions {
            add(&subscription.filter, subscription.qos, usize::MAX);
        }
        let qos = self.config.subscribe_qos;
        let most = self.config.subscriptions.len() + MAX_FROM_BROKER;
        for filter in self.told_filters() {
            add(filter, qos, most);
        }
        if let Some(senders) = &self.config.senders {
            add(
                &self.response_filter(&senders.pattern("+")),
                qos,
                usize::MAX,
            );
        }
        let response_topic = match self.response_information() {
            Some(topic) => Some(topic.to_owned()),
            None => self
                .configured_response_topic()
                .map(|topic| self.response_filter(topic)),
        };
        if let Some(topic) = response_topic
            && !wanted.iter().any(|other| covers(&other.filter, &topic))
        {
            wanted.push(Subscription { filter: topic, qos });
        }
        self.stats.topics_left_out += left_out;
        wanted
    }

    /// Chooses the way back anew (R-MQTT.21, R-MQTT.22).
    fn settle(&mut self) -> Result<(), Stop> {
        self.reply_to = None;
        if self.granted.is_empty() {
            return Err(Stop::NotSubscribed);
        }
        let configured = self
            .configured_response_topic()
            .filter(|topic| self.is_granted(&self.response_filter(topic)));
        self.reply_to = match self.response_information().or(configured) {
            Some(topic) => Some(topic.to_owned()),
            None => self
                .granted
                .iter()
                .find_map(|granted| self.reached_by(&granted.filter)),
        };
        Ok(())
    }

    /// A Topic Name where `filter` reaches this Endpoint, if there is one to tell: the filter itself, or what
    /// stands before its last `/#`. Over MQTT 3.1.1 only the latter also matches with a way back after it.
    fn reached_by(&self, filter: &str) -> Option<String> {
        let name = match filter.strip_suffix("/#") {
            Some(name) => name,
            None if self.is_v5() => filter,
            None => return None,
        };
        let is_shared = filter.starts_with("$share/");
        (!is_shared && check_name(name).is_ok()).then(|| name.to_owned())
    }

    /// What is subscribed to for a configured way back. Over MQTT 3.1.1, what comes has the sender's own way back
    /// after it (R-MQTT.24).
    fn response_filter(&self, topic: &str) -> String {
        if self.is_v5() {
            topic.to_owned()
        } else {
            format!("{topic}/#")
        }
    }

    fn is_granted(&self, filter: &str) -> bool {
        let mut granted = self.granted.iter();
        granted.any(|granted| covers(&granted.filter, filter))
    }

    fn told_filters(&self) -> impl Iterator<Item = &str> {
        let properties = self.connack.user_properties.iter();
        properties
            .filter(|(name, _)| self.is_v5() && name == SUBSCRIBE_TOPIC)
            .map(|(_, filter)| filter.as_str())
    }

    fn response_information(&self) -> Option<&str> {
        let told = self.connack.response_information.as_deref();
        told.filter(|topic| self.is_v5() && check_name(topic).is_ok())
    }

    fn configured_response_topic(&self) -> Option<&str> {
        let configured = self.config.response_topic.as_deref();
        configured.filter(|topic| check_name(topic).is_ok())
    }

    fn is_v5(&self) -> bool {
        self.config.version == MqttVersion::V5
    }
}
