//! One configured client: its connections one after the other, and what is kept between them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use homefleet_usp::EndpointId;
use homefleet_usp::mtp::mqtt::Session;
use homefleet_usp::mtp::retry::Retry;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::connection::{Connection, End, Waiter, answer};
use super::counters::{Counters, count};
use super::dial::dial;
use super::flow::Flow;
use super::settings::MqttClient;
use super::{Context, MqttStatus, SubscriptionStatus};
use crate::mtp::{Event, SendError, State, Status};

/// Records that wait for their turn, and their bytes.
const MAX_WAITING: usize = 256;
const MAX_WAITING_BYTES: usize = 8 * 1024 * 1024;

/// The shortest pause before another attempt, whatever is configured.
const MIN_PAUSE: Duration = Duration::from_millis(10);

/// A Record on its way to a connection.
pub(super) struct Sending {
    pub(super) topic: String,
    pub(super) endpoint_id: EndpointId,
    pub(super) record: Vec<u8>,
    /// Who waits; a greeting waits for nobody.
    pub(super) done: Option<Waiter>,
}

/// Where connections take Records from.
pub(super) struct Sends {
    queue: mpsc::Receiver<Sending>,
    bytes: Arc<AtomicUsize>,
}

impl Sends {
    pub(super) async fn recv(&mut self) -> Option<Sending> {
        let sending = self.queue.recv().await?;
        self.bytes
            .fetch_sub(sending.record.len(), Ordering::Relaxed);
        Some(sending)
    }
}

/// What a client's task and its handles share.
pub(super) struct Client {
    pub(super) name: String,
    pub(super) context: Arc<Context>,
    pub(super) counters: Counters,
    state: Mutex<(Status, Details)>,
}

/// What is known of the connection, for the data model.
#[derive(Debug, Clone, Default)]
pub(super) struct Details {
    pub(super) client_id: Option<String>,
    pub(super) response_information: Option<String>,
    pub(super) reply_to: Option<String>,
    pub(super) subscribed: Vec<String>,
}

impl Client {
    fn state(&self) -> MutexGuard<'_, (Status, Details)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_up(&self) -> bool {
        self.state().0.is_up()
    }

    pub(super) fn details(&self) -> Details {
        self.state().1.clone()
    }

    pub(super) fn note(&self, note: impl FnOnce(&mut Details)) {
        note(&mut self.state().1);
    }

    /// Another state; how often connecting has failed begins anew when it is up.
    pub(super) fn becomes(&self, state: State) {
        let mut shared = self.state();
        let failures = match state {
            State::Up => 0,
            _ => shared.0.failures,
        };
        shared.0.becomes(state, failures);
    }

    fn failed(&self, reason: String, failures: u32) {
        count(&self.counters.connection_errors);
        tracing::info!(client = %self.name, %reason, failures, "MQTT connection");
        self.state().0.becomes(State::Error(reason), failures);
    }

    /// Tells the owner, however long it takes.
    pub(super) async fn tell(&self, event: Event) {
        // An owner that has gone is noticed by whoever waits for room.
        if self.context.events.send(event).await.is_err() {
            tracing::debug!(client = %self.name, "MQTT: nobody listens any more");
        }
    }
}

impl Client {
    /// Tells the owner what is left to say, without waiting for room.
    pub(super) fn tell_later(&self, left: Vec<Event>) {
        let mut left = left.into_iter();
        while let Some(event) = left.next() {
            let Err(mpsc::error::TrySendError::Full(event)) = self.context.events.try_send(event)
            else {
                continue;
            };
            let events = self.context.events.clone();
            tokio::spawn(async move {
                for event in std::iter::once(event).chain(left) {
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
            });
            return;
        }
    }
}

/// The owner's end of a client.
pub(super) struct Handle {
    pub(super) client: Arc<Client>,
    wanted: watch::Sender<Option<Arc<MqttClient>>>,
    sends: mpsc::Sender<Sending>,
    bytes: Arc<AtomicUsize>,
}

impl Handle {
    /// Starts the client.
    pub(super) fn new(name: &str, context: &Arc<Context>, settings: MqttClient) -> Self {
        let client = Arc::new(Client {
            name: name.to_owned(),
            context: context.clone(),
            counters: Counters::default(),
            state: Mutex::new((Status::connecting(), Details::default())),
        });
        let (wanted, receiver) = watch::channel(Some(Arc::new(settings)));
        let (sends, queue) = mpsc::channel(MAX_WAITING);
        let bytes = Arc::new(AtomicUsize::new(0));
        let queue = Sends {
            queue,
            bytes: bytes.clone(),
        };
        tokio::spawn(run(client.clone(), receiver, queue));
        Self {
            client,
            wanted,
            sends,
            bytes,
        }
    }

    /// Goes on with these settings.
    pub(super) fn change(&self, settings: MqttClient) {
        self.wanted.send_if_modified(|wanted| {
            let changes = wanted.as_deref() != Some(&settings);
            *wanted = Some(Arc::new(settings));
            changes
        });
    }

    /// Sends DISCONNECT and ends (R-MQTT.35).
    pub(super) async fn close(&self) {
        self.wanted.send_replace(None);
        self.wanted.closed().await;
    }

    /// Puts a Record into the queue.
    pub(super) fn send(
        &self,
        topic: String,
        endpoint_id: EndpointId,
        record: Vec<u8>,
    ) -> Result<oneshot::Receiver<Result<(), SendError>>, SendError> {
        if !self.client.is_up() {
            return Err(SendError::NotConnected);
        }
        let length = record.len();
        let waiting = self.bytes.fetch_add(length, Ordering::Relaxed);
        let (done, outcome) = oneshot::channel();
        let sending = Sending {
            topic,
            endpoint_id,
            record,
            done: Some(done),
        };
        let has_room = waiting == 0 || waiting + length <= MAX_WAITING_BYTES;
        let error = match self.sends.try_reserve() {
            Ok(permit) if has_room => {
                permit.send(sending);
                return Ok(outcome);
            }
            Ok(_) | Err(mpsc::error::TrySendError::Full(())) => SendError::Busy,
            Err(mpsc::error::TrySendError::Closed(())) => SendError::Closed,
        };
        self.bytes.fetch_sub(length, Ordering::Relaxed);
        if error == SendError::Busy {
            count(&self.client.counters.busy);
        }
        Err(error)
    }

    /// How it stands.
    pub(super) fn status(&self) -> MqttStatus {
        let (status, details) = self.client.state().clone();
        let is_up = status.is_up();
        let settings = self.wanted.borrow().clone();
        let configured = settings.iter().flat_map(|settings| &settings.subscriptions);
        let subscriptions = configured.map(|subscription| {
            let is_granted = details.subscribed.contains(&subscription.filter);
            let state = match (is_up, is_granted) {
                (false, _) => SubscriptionStatus::Unsubscribed,
                (true, true) => SubscriptionStatus::Subscribed,
                (true, false) => SubscriptionStatus::Error,
            };
            (subscription.filter.clone(), state)
        });
        MqttStatus {
            subscriptions: subscriptions.collect(),
            client_id: details.client_id,
            response_information: details.response_information,
            reply_to: details.reply_to.filter(|_| is_up),
            stats: self.client.counters.read(),
            times: self.client.counters.read_times(),
            status,
        }
    }
}

/// Connects, and connects again, until the client is closed.
async fn run(
    client: Arc<Client>,
    mut wanted: watch::Receiver<Option<Arc<MqttClient>>>,
    mut sends: Sends,
) {
    let mut flow = Flow::new();
    let mut session: Option<(Arc<MqttClient>, Session)> = None;
    let mut retry: Option<Retry> = None;
    loop {
        let Some(settings) = wanted.borrow_and_update().clone() else {
            return;
        };
        let retry = retry.get_or_insert_with(|| Retry::new(settings.retry));
        retry.set_policy(settings.retry);
        client.becomes(State::Connecting);
        let end = match settings.check() {
            Err(wrong) => End::Stopped(wrong),
            Ok(()) => {
                let session = renewed(&mut session, &client, &settings, &mut flow);
                let (connection, end) = attempt(
                    &client,
                    &settings,
                    session,
                    &mut flow,
                    &mut wanted,
                    &mut sends,
                )
                .await;
                if connection == Came::Up {
                    retry.succeeded();
                }
                if !settings.keeps_session() {
                    flow.clear();
                }
                end
            }
        };
        let pause = match end {
            End::Closed => return,
            End::Again => continue,
            End::Stopped(reason) => {
                client.failed(reason, retry.count());
                None
            }
            End::Failed(reason) => {
                let pause = retry.failed(random()).max(MIN_PAUSE);
                client.failed(reason, retry.count());
                Some(pause)
            }
        };
        if !wait(pause, &mut wanted, &mut sends).await {
            return;
        }
    }
}

/// Whether a connection came up.
#[derive(PartialEq, Eq)]
enum Came {
    Up,
    Nowhere,
}

/// The session of these settings. Another broker's is another one; the identifier that a broker assigned stays (R-MQTT.11).
fn renewed<'a>(
    kept: &'a mut Option<(Arc<MqttClient>, Session)>,
    client: &Client,
    settings: &Arc<MqttClient>,
    flow: &mut Flow<Waiter>,
) -> &'a mut Session {
    let context = &client.context;
    let is_same = kept.as_ref().is_some_and(|(before, _)| before == settings);
    if !is_same {
        let mut config = settings.session(&context.endpoint_id, context.max_record);
        match kept.as_ref() {
            Some((before, session))
                if (&before.host, before.port, before.version)
                    == (&settings.host, settings.port, settings.version) =>
            {
                let assigned = Some(session.client_id()).filter(|id| !id.is_empty());
                let configured = config.client_id.take().filter(|id| !id.is_empty());
                config.client_id = configured.or_else(|| assigned.map(str::to_owned));
            }
            _ => flow.clear(),
        }
        *kept = None;
        return &mut kept.insert((settings.clone(), Session::new(config))).1;
    }
    &mut kept
        .get_or_insert_with(|| {
            let config = settings.session(&context.endpoint_id, context.max_record);
            (settings.clone(), Session::new(config))
        })
        .1
}

async fn attempt(
    client: &Client,
    settings: &Arc<MqttClient>,
    session: &mut Session,
    flow: &mut Flow<Waiter>,
    wanted: &mut watch::Receiver<Option<Arc<MqttClient>>>,
    sends: &mut Sends,
) -> (Came, End) {
    let failed = |reason: String| (Came::Nowhere, End::Failed(reason));
    let context = &client.context;
    if !settings.tls && !context.allow_plain {
        let reason = "a connection without TLS is not enabled here (R-MTP.0)".to_owned();
        return (Came::Nowhere, End::Stopped(reason));
    }
    let dialled = tokio::select! {
        dialled = timeout(context.connect_time, dial(context, settings)) => dialled,
        changed = wanted.changed() => {
            let end = if changed.is_ok() { End::Again } else { End::Closed };
            return (Came::Nowhere, end);
        }
    };
    let stream = match dialled {
        Ok(Ok(stream)) => stream,
        Ok(Err(reason)) => return failed(reason),
        Err(_) => return failed("the broker did not answer in time".to_owned()),
    };
    let before = client.counters.read().connections;
    let identity = stream.identity();
    let distrusted = stream.distrusted();
    let connection = Connection::new(client, settings.clone(), session, flow, identity);
    let end = connection.run(stream, distrusted, wanted, sends).await;
    let came = if client.counters.read().connections > before {
        Came::Up
    } else {
        Came::Nowhere
    };
    (came, end)
}

/// Waits until it is time to connect again, or the settings change. Whether the client goes on.
async fn wait(
    pause: Option<Duration>,
    wanted: &mut watch::Receiver<Option<Arc<MqttClient>>>,
    sends: &mut Sends,
) -> bool {
    let time = async {
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(time);
    loop {
        tokio::select! {
            () = &mut time => return true,
            changed = wanted.changed() => return changed.is_ok(),
            sending = sends.recv() => match sending {
                // It was put in when the connection was about to end.
                Some(Sending { done: Some(done), .. }) => answer(done, Err(SendError::NotConnected)),
                Some(_) => {}
                None => return false,
            },
        }
    }
}

/// Any 32 bits; without a source of randomness the middle.
fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}
