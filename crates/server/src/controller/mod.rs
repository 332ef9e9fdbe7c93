//! The server as a USP Controller (TR-369).
//!
//! A Record comes in only after the channel established its sender (R-SEC.9, R-SEC.10a: the listener compares
//! `from_id` with the certificate). [`Controller::accept`] does everything that must happen in order at once,
//! in memory and into the store's queue; the future it returns waits for the disk, then tells and answers.
//! So a notification is acknowledged only when it is stored.
//!
//! Requests go out through [`Protocol`]: the task queue decides when.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use homefleet_api::{DeviceChange, Event, TaskError, TaskErrorCode, TaskResult};
use homefleet_usp::message::{self, Body, Message, Request, Response};
use homefleet_usp::record::RecordBody;
use homefleet_usp::{EndpointId, ErrorCode, Record};
use tokio::sync::Semaphore;

use crate::clock::Millis;
use crate::core::{Core, State};
use crate::device::{Contact, ContactError, Heard};
use crate::store::{
    AddressRecord, AuditRecord, Batch, CertificateRecord, DeviceRecord, TaskRecord, Write,
};
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

/// Carries Records to devices.
pub trait Transport: Send + Sync {
    /// Sends an encoded Record to `endpoint` at `uri`.
    fn send(&self, uri: &str, endpoint: &EndpointId, record: Vec<u8>) -> Sending;
}

/// A Record from an established sender.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The Record.
    pub record: Record,
    /// Certificate of the channel; `None` on a channel without security.
    pub certificate: Option<CertificateRecord>,
    /// Where the answer goes.
    pub reply_to: AddressRecord,
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
            Err(Some(reply)) => {
                metrics.record("malformed");
                return Some(self.answer(&incoming.reply_to, &from, *reply));
            }
            Err(None) => {
                metrics.record("malformed");
                return None;
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
        let controller = self.clone();
        Some(Box::pin(async move {
            let written = stored.await;
            controller.release(busy);
            // A failed write was logged: without an answer, the device comes again.
            let Ok(written) = written else { return };
            controller.tell(&incoming.record.from_id, outcome.heard, outcome.changed);
            if let Some(event) = outcome.notification {
                let metrics = &controller.0.core.inner().metrics;
                if written.duplicate {
                    metrics.notifications_repeated.inc();
                } else {
                    metrics.notifications.inc();
                    controller.0.core.publish(event);
                }
            }
            if let Some(reply) = outcome.reply {
                controller
                    .answer(&incoming.reply_to, &incoming.record.from_id, reply)
                    .await;
            }
        }))
    }

    /// The Message in a Record; `Ok(None)` for a Record without one; an Error to answer with, where R-MTP.5 asks for it.
    fn message(&self, record: &Record) -> Result<Option<Message>, Option<Box<Message>>> {
        let (bytes, refusal) = match &record.body {
            RecordBody::NoSession(bytes) => (bytes.clone(), None),
            // This Controller keeps no session contexts.
            RecordBody::Session(context) => (
                context.payload.concat(),
                Some(ErrorCode::SECURE_SESSION_NOT_SUPPORTED),
            ),
            // Nothing is cached about session contexts that R-MTP.7 would have to clear.
            RecordBody::Disconnect { .. }
            | RecordBody::WebSocketConnect
            | RecordBody::MqttConnect { .. }
            | RecordBody::StompConnect { .. }
            | RecordBody::UdsConnect => return Ok(None),
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
                "this Controller supports no session contexts",
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
        let contact = Contact {
            id: id.clone(),
            certificate: incoming.certificate.clone(),
            address: Some(incoming.reply_to.clone()),
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
        state.queue.contact(now, &id);
        // One whose first reading failed or expired is read again: without it, nothing is subscribed to.
        if heard == Heard::New || state.registry.is_unread(now, &id) {
            self.read_device(state, now, &id);
        }
        let mut outcome = Outcome {
            heard: Some(heard),
            label: "no_message",
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
                outcome.changed = changed;
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
                outcome.changed = known;
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
            .task(id)
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
    fn answer(&self, to: &AddressRecord, endpoint: &EndpointId, message: Message) -> Finish {
        let record =
            Record::no_session(endpoint.clone(), self.0.id.clone(), message.encode()).encode();
        let permit = Arc::clone(&self.0.answers).try_acquire_owned().ok();
        let sending = permit.zip(self.turn(endpoint)).map(|permit| {
            let sending = self.0.transport.send(&to.uri, endpoint, record);
            (permit, sending)
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
                if delivery != Delivery::Taken {
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

    fn send(&self, device: &DeviceRecord, message: Message) -> Sending {
        let Ok(endpoint) = device.id.parse::<EndpointId>() else {
            return done(Delivery::Refused(format!(
                "`{}` is not an Endpoint ID",
                device.id
            )));
        };
        // A device that proved itself is spoken to over DTLS only.
        let uris: Vec<String> = device
            .addresses
            .iter()
            .filter(|address| address.secure || device.certificate.is_none())
            .map(|address| address.uri.clone())
            .collect();
        if uris.is_empty() {
            return done(Delivery::NotDelivered(
                "no address of the device is known".to_owned(),
            ));
        }
        let record =
            Record::no_session(endpoint.clone(), self.0.id.clone(), message.encode()).encode();
        let controller = self.clone();
        Box::pin(async move {
            let mut last = Delivery::NotDelivered("no address of the device is known".to_owned());
            for uri in uris {
                last = controller
                    .0
                    .transport
                    .send(&uri, &endpoint, record.clone())
                    .await;
                // Another address is tried only when the first certainly got nothing.
                if !matches!(last, Delivery::NotDelivered(_)) {
                    break;
                }
            }
            last
        })
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
        self.send(device, Message::request("probe", request))
    }

    fn run(&self, device: &DeviceRecord, task: &TaskRecord) -> Sending {
        let id = request::msg_id(task);
        self.send(device, Message::request(id, request::build(task)))
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
