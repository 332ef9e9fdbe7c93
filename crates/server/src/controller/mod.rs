//! The server as a USP Controller (TR-369).
//!
//! A Record comes in only after the channel established its sender (R-SEC.9, R-SEC.10a: the MTP compares
//! `from_id` with the certificate). [`Controller::accept`] does everything that must happen in order at once,
//! in memory and into the store's queue; the future it returns waits for the disk, then tells and answers.
//! So a notification is acknowledged only when it is stored. An answer goes the way its request came.
//!
//! Requests go out through [`Protocol`]: the task queue decides when. Which way, decides what is known of the device at that
//! moment: open sessions first, then what may lead to it; never where less stands for it than ever did, and never where it
//! said that it leaves (R-MTP.8).

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use homefleet_api::{DeviceChange, Event, Mtp, TaskError, TaskErrorCode, TaskResult};
use homefleet_net::mtp::{Channel, ChannelId, Route};
use homefleet_usp::message::{self, Body, Message, MsgId, Request, Response};
use homefleet_usp::record::{PayloadSarState, PayloadSecurity, RecordBody, RecordError};
use homefleet_usp::{EndpointId, ErrorCode, Record};
use tokio::sync::Semaphore;

use crate::clock::Millis;
use crate::core::{Core, State};
use crate::device::presence::Says;
use crate::device::{Alive, Contact, ContactError, Heard, Proof};
use crate::store::{AddressRecord, AuditRecord, Batch, DeviceRecord, TaskRecord, Write};
use crate::task::driver::{Protocol, Sending};
use crate::task::queue::Delivery;

mod answer;
mod notify;
mod onboard;
mod request;

/// Who the server is in its own tasks.
const SELF: &str = "server";
/// Most answers on their way to devices; beyond it the device asks again.
const ANSWERS: usize = 4096;
/// Longest answer to an own task that is kept, in bytes of JSON: what it says is stored as values anyway.
const MAX_KEPT: usize = 64 * 1024;
/// Versions of USP this Controller speaks, for GetSupportedProtocol.
pub(crate) const VERSIONS: &str = homefleet_usp::record::SUPPORTED_VERSIONS;

/// A Record on its way to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// Which way.
    pub route: Route,
    /// Nothing weaker than a channel with security will do.
    pub secure: bool,
    /// To whom.
    pub endpoint: EndpointId,
    /// The Record, encoded.
    pub record: Vec<u8>,
    /// It must not be processed twice: it is not sent again on a guess.
    pub once: bool,
}

/// Carries Records to devices.
pub trait Transport: Send + Sync {
    /// Sends a Record.
    fn send(&self, parcel: Parcel) -> Sending;
}

/// A Record from an established sender.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The Record.
    pub record: Record,
    /// Who stands for the sender.
    pub proof: Proof,
    /// The channel; `None` over CoAP.
    pub channel: Option<ChannelId>,
    /// Where the answer goes, when that is known.
    pub reply_to: Option<Route>,
}

/// Something from an established sender that is no Record.
#[derive(Debug, Clone)]
pub struct Wrong {
    /// What is wrong, and what could be read.
    pub error: RecordError,
    /// Whether somebody stands for the sender.
    pub secure: bool,
    /// Where the answer goes, when that is known.
    pub reply_to: Option<Route>,
}

/// What remains to be done for a Record, once the store has it.
pub type Finish = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The Controller.
#[derive(Clone)]
pub struct Controller(Arc<Inner>);

struct Inner {
    core: Core,
    id: EndpointId,
    transport: Box<dyn Transport>,
    answers: Arc<Semaphore>,
    /// Answers on their way, by device.
    answering: Mutex<HashMap<EndpointId, usize>>,
    /// Requests being processed: a duplicate is ignored meanwhile (R-MSG.4).
    busy: Mutex<HashSet<(String, String)>>,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller")
            .field("id", &self.0.id)
            .finish_non_exhaustive()
    }
}

/// What processing a message came to.
#[derive(Default)]
struct Outcome {
    heard: Option<Heard>,
    changed: bool,
    reply: Option<Message>,
    notification: Option<Event>,
    label: &'static str,
}

impl Controller {
    /// A Controller with this Endpoint ID.
    pub fn new(core: Core, id: EndpointId, transport: Box<dyn Transport>) -> Self {
        Self(Arc::new(Inner {
            core,
            id,
            transport,
            answers: Arc::new(Semaphore::new(ANSWERS)),
            answering: Mutex::default(),
            busy: Mutex::default(),
        }))
    }

    /// Takes a Record. `None` when it was ignored; a counter says why.
    pub fn accept(&self, incoming: Incoming) -> Option<Finish> {
        let this = &self.0;
        let metrics = &this.core.inner().metrics;
        if incoming.record.to_id != this.id {
            metrics.record("not_for_us");
            return None;
        }
        let from = incoming.record.from_id.clone();
        let message = match self.message(&incoming.record) {
            Ok(message) => message,
            Err(reply) => {
                metrics.record("malformed");
                let way = self.way_back(&from, incoming.channel, incoming.reply_to.clone())?;
                return reply
                    .map(|reply| self.answer(way, incoming.proof.is_secure(), &from, *reply));
            }
        };
        let busy = match &message {
            Some(Message {
                id,
                body: Body::Request(_),
                ..
            }) => {
                let key = (from.to_string(), id.to_string());
                if !self.busy().insert(key.clone()) {
                    metrics.record("duplicate_in_progress");
                    return None;
                }
                Some(key)
            }
            _ => None,
        };
        let (outcome, stored) = this
            .core
            .change(|state, now| self.process(state, now, &incoming, message));
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(refusal) => {
                metrics.record("refused");
                tracing::warn!(device = %from, %refusal, "a Record was refused");
                self.release(busy);
                return None;
            }
        };
        metrics.record(outcome.label);
        let way = match outcome.reply {
            Some(_) => self.way_back(&from, incoming.channel, incoming.reply_to.clone()),
            None => None,
        };
        let controller = self.clone();
        Some(Box::pin(async move {
            let written = stored.await;
            controller.release(busy);
            // A failed write was logged: without an answer, the device comes again.
            let Ok(written) = written else { return };
            let metrics = &controller.0.core.inner().metrics;
            controller.tell(&incoming.record.from_id, outcome.heard, outcome.changed);
            if let Some(event) = outcome.notification {
                if written.duplicate {
                    metrics.notifications_repeated.inc();
                } else {
                    metrics.notifications.inc();
                    controller.0.core.publish(event);
                }
            }
            if let Some(reply) = outcome.reply {
                let Some(way) = way else {
                    metrics.record("no_way_back");
                    return;
                };
                let secure = incoming.proof.is_secure();
                controller
                    .answer(way, secure, &incoming.record.from_id, reply)
                    .await;
            }
        }))
    }

    /// Takes what is no Record. It is answered with an Error when the sender is valid, we are meant, a Message of type
    /// Request with a Message ID could be read, and there is a way back; otherwise it is ignored (R-MTP.5).
    pub fn wrong(&self, wrong: Wrong) -> Option<Finish> {
        self.0.core.inner().metrics.record("erroneous");
        let error = &wrong.error;
        let from = error.from_id()?;
        // R-ENC.4: some are discarded without an answer.
        let code = error.code()?;
        if error.to_id() != Some(&self.0.id) || *from == self.0.id {
            return None;
        }
        let id = request_id(error.payload()?)?;
        let way = wrong.reply_to?;
        let reply = Message::error(id, code, error.to_string());
        Some(self.answer(way, wrong.secure, from, reply))
    }

    /// A channel is up.
    pub fn up(&self, channel: &Channel) {
        self.0.core.state().presence.up(channel);
    }

    /// A channel has gone: what was on its way over it may be lost.
    pub fn down(&self, id: ChannelId, reason: &str) -> Finish {
        let problem = format!("the connection ended: {reason}");
        let (gone, stored) = self.0.core.change(|state, now| {
            let gone = state.presence.down(id);
            for device in &gone {
                state.queue.disconnected(now, device, &problem);
                if !state.is_anywhere(device) {
                    state.registry.failed(now, device, &problem);
                }
            }
            (gone, Batch::default())
        });
        let core = self.0.core.clone();
        Box::pin(async move {
            // A failed write was logged.
            drop(stored.await);
            for device in gone {
                core.publish_device(&device, DeviceChange::Contact);
            }
        })
    }

    /// Where an answer goes: where the MTP says, else to the address at the same broker.
    fn way_back(
        &self,
        device: &EndpointId,
        channel: Option<ChannelId>,
        stated: Option<Route>,
    ) -> Option<Route> {
        if stated.is_some() {
            return stated;
        }
        let state = self.0.core.state();
        let broker = state.presence.broker(channel?)?;
        let addresses = &state.registry.device(device.as_str())?.addresses;
        addresses
            .iter()
            .filter_map(|address| address.uri.parse().ok())
            .find(|route| match route {
                Route::Stomp { connection, .. } | Route::Mqtt { connection, .. } => {
                    connection == broker
                }
                _ => false,
            })
    }

    /// The Message in a Record; `Ok(None)` for a Record without one; an Error to answer with, where R-MTP.5 asks for it.
    fn message(&self, record: &Record) -> Result<Option<Message>, Option<Box<Message>>> {
        let (bytes, refusal) = match &record.body {
            RecordBody::NoSession(bytes) => (bytes.clone(), None),
            // This Controller keeps no session contexts.
            RecordBody::Session(context) => {
                let segmented = PayloadSarState::None;
                let code = if (context.payload_sar_state, context.payloadrec_sar_state)
                    == (segmented, segmented)
                {
                    ErrorCode::SESSION_CONTEXT_NOT_ALLOWED
                } else {
                    ErrorCode::SAR_NOT_SUPPORTED
                };
                (context.payload.concat(), Some(code))
            }
            // Nothing is cached about session contexts that R-MTP.7 would have to clear.
            RecordBody::Disconnect { .. }
            | RecordBody::WebSocketConnect
            | RecordBody::MqttConnect { .. }
            | RecordBody::StompConnect { .. }
            | RecordBody::UdsConnect => return Ok(None),
        };
        // What the payload is secured with, we cannot undo.
        let refusal = match record.payload_security {
            PayloadSecurity::Plaintext => refusal,
            PayloadSecurity::Tls12 => Some(ErrorCode::SECURE_SESSION_NOT_SUPPORTED),
        };
        match (Message::decode(&bytes), refusal) {
            (Ok(message), None) => Ok(Some(message)),
            (
                Ok(Message {
                    id,
                    body: Body::Request(_),
                    ..
                }),
                Some(code),
            ) => Err(Some(Box::new(Message::error(
                id,
                code,
                "this Controller supports no session contexts and no secured payloads",
            )))),
            (Ok(_), Some(_)) => Err(None),
            (Err(error), _) => Err(error
                .msg_id()
                .filter(|_| error.is_request())
                .map(|id| Box::new(Message::error(id.clone(), error.code(), error.to_string())))),
        }
    }

    fn process(
        &self,
        state: &mut State,
        now: Millis,
        incoming: &Incoming,
        message: Option<Message>,
    ) -> (Result<Outcome, ContactError>, Batch) {
        let id = incoming.record.from_id.to_string();
        let secure = incoming.proof.is_secure();
        let contact = Contact {
            id: id.clone(),
            proof: incoming.proof.clone(),
            address: stated(state, incoming).map(|route| AddressRecord {
                uri: route.to_string(),
                secure,
                seen: now,
            }),
        };
        let bound = fingerprint(state, &id);
        let heard = match state.registry.heard(now, contact) {
            Ok(heard) => heard,
            Err(refusal) => return (Err(refusal), Batch::default()),
        };
        let mut batch = Batch::default();
        if heard != Heard::Known
            && let Some(device) = state.registry.device(&id)
        {
            batch.push(Write::Device(Box::new(device.clone())));
        }
        let presented = fingerprint(state, &id);
        if let (Some(bound), Some(presented)) = (&bound, &presented)
            && bound != presented
        {
            tracing::warn!(
                device = id,
                presented,
                "a device presents another certificate"
            );
            batch.push(Write::Audit(AuditRecord {
                sequence: 0,
                time: now,
                who: SELF.to_owned(),
                action: "device.certificate".to_owned(),
                subject: id.clone(),
                detail: format!("{bound} replaced by {presented}"),
                allowed: true,
            }));
        }
        let says = says(&incoming.record.body);
        let moved = match state.presence.said(now, &id, incoming.channel, says) {
            Ok(moved) => moved,
            Err(misplaced) => {
                tracing::debug!(device = id, %misplaced, "a Record was ignored");
                let outcome = Outcome {
                    heard: Some(heard),
                    label: "misplaced",
                    ..Outcome::default()
                };
                return (Ok(outcome), batch);
            }
        };
        if says == Says::Leaves {
            let outcome = Outcome {
                heard: Some(heard),
                changed: moved,
                label: "disconnect",
                ..Outcome::default()
            };
            if moved {
                let problem = "the device disconnected";
                state.queue.disconnected(now, &id, problem);
                if !state.is_anywhere(&id) {
                    state.registry.failed(now, &id, problem);
                }
            }
            return (Ok(outcome), batch);
        }
        state.queue.contact(now, &id);
        // One whose first reading failed or expired is read again: without it, nothing is subscribed to.
        if heard == Heard::New || state.registry.is_unread(now, &id) {
            self.read_device(state, now, &id);
        }
        let mut outcome = Outcome {
            heard: Some(heard),
            changed: moved,
            label: "connect",
            ..Outcome::default()
        };
        match message {
            None => {}
            Some(Message {
                id: msg_id,
                body: Body::Request(Request::Notify(notify)),
                ..
            }) => {
                outcome.label = "notify";
                if notify.send_resp {
                    // R-NOT.10: the subscription_id goes back as it came.
                    let response = homefleet_usp::proto::msg::NotifyResp {
                        subscription_id: notify.subscription_id.clone(),
                    };
                    outcome.reply = Some(Message::response(
                        msg_id.clone(),
                        Response::NotifyResp(response),
                    ));
                }
                let (event, changed) =
                    self.notified(state, now, &id, msg_id.as_str(), notify, &mut batch);
                outcome.notification = event;
                outcome.changed |= changed;
            }
            Some(Message {
                id: msg_id,
                body: Body::Request(_),
                ..
            }) => {
                outcome.label = "unsupported_request";
                outcome.reply = Some(Message::error(
                    msg_id,
                    ErrorCode::MESSAGE_NOT_SUPPORTED,
                    "a Controller takes Notify requests only",
                ));
            }
            Some(Message {
                id: msg_id,
                body: Body::Response(response),
                ..
            }) => {
                let known =
                    self.answered(state, now, &id, msg_id.as_str(), Ok(response), &mut batch);
                outcome.label = if known {
                    "response"
                } else {
                    "unexpected_response"
                };
                outcome.changed |= known;
            }
            Some(Message {
                id: msg_id,
                body: Body::Error(error),
                ..
            }) => {
                let known = self.answered(
                    state,
                    now,
                    &id,
                    msg_id.as_str(),
                    Err(answer::error(error)),
                    &mut batch,
                );
                outcome.label = if known {
                    "error"
                } else {
                    "unexpected_response"
                };
            }
        }
        (Ok(outcome), batch)
    }

    /// A response or error came. False when it belongs to no open task of this device: then it is ignored (R-MSG.9).
    fn answered(
        &self,
        state: &mut State,
        now: Millis,
        device: &str,
        msg_id: &str,
        response: Result<Response, TaskError>,
        batch: &mut Batch,
    ) -> bool {
        let id = request::task_of(msg_id);
        let Some(task) = state
            .queue
            .answerable(id)
            .filter(|task| task.device == device)
            .cloned()
        else {
            return false;
        };
        let (answer, learned) = match response {
            Ok(response) => answer::read(&task.operation, response, now),
            Err(error) => (Err(error), answer::Learned::default()),
        };
        let kept = if task.created_by == SELF {
            brief(answer.clone())
        } else {
            answer.clone()
        };
        if !state.queue.answered(now, device, id, kept) {
            return false;
        }
        self.learn(state, device, &learned, batch);
        if let Some(versions) = &learned.versions
            && let Some(changed) = state
                .registry
                .update(device, |record| record.versions.clone_from(versions))
        {
            batch.push(Write::Device(Box::new(changed)));
        }
        if task.created_by == SELF {
            self.after_own_task(state, now, &task, &answer, &learned, batch);
        }
        batch.push(Write::Parameters {
            device: device.to_owned(),
            values: learned.values,
            complete: learned.complete,
        });
        for path in learned.removed {
            batch.push(Write::RemoveParameters {
                device: device.to_owned(),
                path,
            });
        }
        true
    }

    fn tell(&self, id: &EndpointId, heard: Option<Heard>, changed: bool) {
        let change = match heard {
            Some(Heard::New) => DeviceChange::Registered,
            Some(_) if changed => DeviceChange::Updated,
            _ => DeviceChange::Contact,
        };
        self.0.core.publish_device(id.as_str(), change);
    }

    /// Sends a response or error, beside everything else.
    fn answer(
        &self,
        route: Route,
        secure: bool,
        endpoint: &EndpointId,
        message: Message,
    ) -> Finish {
        let record =
            Record::no_session(endpoint.clone(), self.0.id.clone(), message.encode()).encode();
        let permit = Arc::clone(&self.0.answers).try_acquire_owned().ok();
        let sending = permit.zip(self.turn(endpoint)).map(|permit| {
            let parcel = Parcel {
                route,
                secure,
                endpoint: endpoint.clone(),
                record,
                once: false,
            };
            (permit, self.0.transport.send(parcel))
        });
        if sending.is_none() {
            self.0.core.inner().metrics.answers_dropped.inc();
        }
        let endpoint = endpoint.clone();
        Box::pin(async move {
            let Some((permit, sending)) = sending else {
                tracing::debug!("too many answers on their way: one was not sent");
                return;
            };
            tokio::spawn(async move {
                let delivery = sending.await;
                if !matches!(delivery, Delivery::Taken | Delivery::OnItsWay) {
                    // The device retries what it needs an answer to.
                    tracing::debug!(device = %endpoint, ?delivery, "an answer did not arrive");
                }
                drop(permit);
            });
        })
    }

    /// Room for one more answer to this device, given back when it is dropped.
    fn turn(&self, endpoint: &EndpointId) -> Option<Turn> {
        let mut answering = self.answering();
        let count = answering.entry(endpoint.clone()).or_default();
        if *count >= self.0.core.inner().config.limits.answers {
            return None;
        }
        *count += 1;
        Some(Turn {
            controller: self.clone(),
            endpoint: endpoint.clone(),
        })
    }

    fn answering(&self) -> std::sync::MutexGuard<'_, HashMap<EndpointId, usize>> {
        self.0
            .answering
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(&self) -> std::sync::MutexGuard<'_, HashSet<(String, String)>> {
        self.0.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, key: Option<(String, String)>) {
        if let Some(key) = key {
            self.busy().remove(&key);
        }
    }

    fn send(&self, device: &DeviceRecord, message: Message, once: bool) -> Sending {
        let Ok(endpoint) = device.id.parse::<EndpointId>() else {
            return done(Delivery::Refused(format!(
                "`{}` is not an Endpoint ID",
                device.id
            )));
        };
        let routes = match self.routes(device) {
            Ok(routes) => routes,
            Err(problem) => return done(Delivery::NotDelivered(problem.to_owned())),
        };
        let record =
            Record::no_session(endpoint.clone(), self.0.id.clone(), message.encode()).encode();
        let controller = self.clone();
        Box::pin(async move {
            let mut problems = Vec::new();
            for (route, secure) in routes {
                let parcel = Parcel {
                    route,
                    secure,
                    endpoint: endpoint.clone(),
                    record: record.clone(),
                    once,
                };
                // Another way is tried only when this one certainly led nowhere.
                match controller.0.transport.send(parcel).await {
                    Delivery::NotDelivered(problem) => problems.push(problem),
                    other => return other,
                }
            }
            Delivery::NotDelivered(problems.join("; "))
        })
    }

    /// The ways to a device, the best first: open sessions, what may lead to it, what may yet come up. What nobody stood
    /// for it on is left out once somebody did, and so is what it left.
    fn routes(&self, device: &DeviceRecord) -> Result<Vec<(Route, bool)>, &'static str> {
        let state = self.0.core.state();
        let mut found: Vec<(Alive, Route, bool)> = device
            .addresses
            .iter()
            .filter(|address| address.secure || !device.is_secure())
            .filter_map(|address| Some((address.uri.parse::<Route>().ok()?, address.secure)))
            .map(|(route, secure)| (state.presence.alive(&device.id, &route), route, secure))
            .collect();
        if found.is_empty() {
            return Err("no address of the device is known");
        }
        found.retain(|(alive, ..)| *alive != Alive::Left);
        if found.is_empty() {
            return Err("the device disconnected");
        }
        // Stable: of two that are as good, the one heard of last.
        found.sort_by_key(|(alive, ..)| *alive);
        Ok(found
            .into_iter()
            .map(|(_, route, secure)| (route, secure))
            .collect())
    }
}

/// One answer on its way to a device.
struct Turn {
    controller: Controller,
    endpoint: EndpointId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut answering = self.controller.answering();
        if let Some(count) = answering.get_mut(&self.endpoint) {
            *count -= 1;
            if *count == 0 {
                answering.remove(&self.endpoint);
            }
        }
    }
}

impl Protocol for Controller {
    fn probe(&self, device: &DeviceRecord) -> Sending {
        let request = message::get_supported_protocol(VERSIONS);
        self.send(device, Message::request("probe", request), false)
    }

    fn run(&self, device: &DeviceRecord, task: &TaskRecord) -> Sending {
        let id = request::msg_id(task);
        let once = !task.operation.is_idempotent();
        self.send(device, Message::request(id, request::build(task)), once)
    }
}

/// What a Record says about where its sender is.
fn says(body: &RecordBody) -> Says {
    match body {
        RecordBody::WebSocketConnect => Says::Here(Mtp::Websocket),
        RecordBody::MqttConnect { .. } => Says::Here(Mtp::Mqtt),
        RecordBody::StompConnect { .. } => Says::Here(Mtp::Stomp),
        RecordBody::UdsConnect => Says::Here(Mtp::Uds),
        RecordBody::Disconnect { .. } => Says::Leaves,
        RecordBody::NoSession(_) | RecordBody::Session(_) => Says::Speaks,
    }
}

/// Where a Record says that its sender is reached: a Connect Record by what it holds, any other by where its answer goes.
fn stated(state: &State, incoming: &Incoming) -> Option<Route> {
    let broker = || {
        let name = state.presence.broker(incoming.channel?)?;
        Some(name.to_owned())
    };
    match &incoming.record.body {
        RecordBody::MqttConnect { topic, .. } if is_topic(topic) => Some(Route::Mqtt {
            connection: broker()?,
            topic: topic.clone(),
        }),
        RecordBody::StompConnect { destination } if !destination.is_empty() => Some(Route::Stomp {
            connection: broker()?,
            destination: destination.clone(),
        }),
        _ => incoming.reply_to.clone(),
    }
}

/// Whether it is the name of one topic: no filter.
fn is_topic(topic: &str) -> bool {
    !topic.is_empty() && topic.len() <= 65_535 && !topic.contains(['#', '+', '\0'])
}

/// The Message ID of a Message that is a Request, or was to be one.
fn request_id(payload: &[u8]) -> Option<MsgId> {
    match Message::decode(payload) {
        Ok(message) => matches!(message.body, Body::Request(_)).then_some(message.id),
        Err(error) => error.msg_id().filter(|_| error.is_request()).cloned(),
    }
}

/// The certificate a device is bound to.
fn fingerprint(state: &State, id: &str) -> Option<String> {
    let certificate = state.registry.device(id)?.certificate.as_ref()?;
    Some(certificate.fingerprint.clone())
}

fn done(delivery: Delivery) -> Sending {
    Box::pin(std::future::ready(delivery))
}

/// What is kept of the answer to an own task.
fn brief(answer: Result<TaskResult, TaskError>) -> Result<TaskResult, TaskError> {
    let size = match &answer {
        Ok(result) => serde_json::to_string(result),
        Err(error) => serde_json::to_string(error),
    };
    if size.is_ok_and(|text| text.len() <= MAX_KEPT) {
        return answer;
    }
    match answer {
        Ok(TaskResult::Get { .. }) => Ok(TaskResult::Get { paths: Vec::new() }),
        _ => Err(invalid_answer(
            "the answer is too long to be kept".to_owned(),
        )),
    }
}

/// An answer that does not fit its request.
fn invalid_answer(message: String) -> TaskError {
    TaskError {
        code: TaskErrorCode::InvalidAnswer,
        usp_code: None,
        message,
        param_errors: Vec::new(),
    }
}
