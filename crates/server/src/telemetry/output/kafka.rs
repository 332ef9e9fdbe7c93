//! Kafka: one record a message, with the device as its key, so that what one device says stays in order. A batch is delivered when the
//! brokers have it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rskafka::BackoffConfig;
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use tokio::time::timeout;

use super::{Sending, Sink, SinkError};
use crate::config::NotifOutput;
use crate::telemetry::message::Message;

/// Longest time for a batch.
const BATCH: Duration = Duration::from_secs(20);
/// Longest time for an attempt of the client; behind it the attempts are ours.
const ATTEMPT: Duration = Duration::from_secs(5);
/// Port when none is given.
const PORT: u16 = 9092;

/// A topic.
pub(super) struct Kafka {
    servers: Vec<String>,
    topic: String,
    link: Option<Link>,
}

struct Link {
    /// Keeps the connections.
    _client: Client,
    partitions: Vec<PartitionClient>,
}

impl Kafka {
    pub(super) fn new(config: &NotifOutput) -> Result<Self, String> {
        let servers = config
            .servers
            .iter()
            .map(|server| {
                let (host, port) = super::host_port(server, PORT)?;
                Ok(format!("{host}:{port}"))
            })
            .collect::<Result<Vec<_>, String>>()?;
        if config.ca.is_some() {
            return Err("ca: Kafka over TLS is not supported".to_owned());
        }
        Ok(Self {
            servers,
            topic: config.topic.clone().ok_or("topic: it is missing")?,
            link: None,
        })
    }

    async fn connect(&self) -> Result<Link, SinkError> {
        let client = ClientBuilder::new(self.servers.clone())
            .client_id("homefleet")
            .backoff_config(BackoffConfig {
                deadline: Some(ATTEMPT),
                ..BackoffConfig::default()
            })
            .build()
            .await
            .map_err(SinkError::away)?;
        let topics = client.list_topics().await.map_err(SinkError::away)?;
        let topic = topics.into_iter().find(|topic| topic.name == self.topic);
        let topic =
            topic.ok_or_else(|| SinkError::Away(format!("there is no topic `{}`", self.topic)))?;
        let mut partitions = Vec::new();
        for partition in topic.partitions {
            let client = client
                .partition_client(&self.topic, partition, UnknownTopicHandling::Error)
                .await
                .map_err(SinkError::away)?;
            partitions.push(client);
        }
        if partitions.is_empty() {
            return Err(SinkError::Away(format!(
                "the topic `{}` has no partition",
                self.topic
            )));
        }
        Ok(Link {
            _client: client,
            partitions,
        })
    }

    async fn produce(&mut self, batch: &[Arc<Message>]) -> Result<u64, SinkError> {
        let link = match self.link.take() {
            Some(link) => link,
            None => self.connect().await?,
        };
        let mut by_partition: BTreeMap<usize, Vec<Record>> = BTreeMap::new();
        for message in batch {
            let place = partition(message, link.partitions.len());
            by_partition.entry(place).or_default().push(record(message));
        }
        for (place, records) in by_partition {
            if let Some(partition) = link.partitions.get(place) {
                partition
                    .produce(records, Compression::NoCompression)
                    .await
                    .map_err(SinkError::away)?;
            }
        }
        // Kept only when all went well: after a failure everything is looked up again.
        self.link = Some(link);
        Ok(0)
    }
}

impl Sink for Kafka {
    fn deliver<'a>(&'a mut self, batch: &'a [Arc<Message>]) -> Sending<'a> {
        Box::pin(async move {
            match timeout(BATCH, self.produce(batch)).await {
                Ok(done) => done,
                Err(_) => Err(SinkError::away("no answer in time")),
            }
        })
    }
}

fn record(message: &Message) -> Record {
    let millis = i64::try_from(message.at.0).unwrap_or(i64::MAX);
    Record {
        key: Some(key(message)),
        value: Some(message.record().to_vec()),
        headers: BTreeMap::new(),
        timestamp: DateTime::<Utc>::from_timestamp_millis(millis).unwrap_or_default(),
    }
}

/// The device, or where the message came from.
fn key(message: &Message) -> Vec<u8> {
    match &message.device {
        Some(device) => device.clone().into_bytes(),
        None => message.from.ip().to_string().into_bytes(),
    }
}

fn partition(message: &Message, count: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    key(message).hash(&mut hasher);
    let count = u64::try_from(count.max(1)).unwrap_or(1);
    usize::try_from(hasher.finish() % count).unwrap_or(0)
}
