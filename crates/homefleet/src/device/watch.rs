//! `homefleet device watch`: a subscription for as long as the command runs.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use homefleet_api::client::{Client, ClientError, EventStream};
use homefleet_api::{AddObject, Event, Notification, Operation, ParamSetting, TaskResult};
use serde_json::json;

use super::answer;
use crate::cli::Global;
use crate::failure::Failure;
use crate::{output, pick, wait};

/// The device removes the subscription by itself after this time, should this command be killed, in seconds.
const TIME_TO_LIVE: u64 = 86_400;
/// How long the device has for the subscription, and for its removal at the end.
const SUBSCRIBE_TIME: Duration = Duration::from_secs(30);
const REMOVE_TIME: Duration = Duration::from_secs(5);
/// Pauses between attempts to reach the server again: they double.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// `device watch`.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Endpoint ID, the unambiguous beginning of one, or a serial number
    #[arg(value_name = "DEVICE")]
    device: String,
    /// Parameters or objects to watch; none: show what the device tells anyway
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
    /// What to be told of
    #[arg(long = "type", value_name = "TYPE", value_enum, default_value_t = Kind::ValueChange)]
    kind: Kind,
    /// End after this many
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after this time
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
}

/// NotifType of the subscription (TR-181 `Device.LocalAgent.Subscription.{i}.NotifType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A parameter changes its value
    ValueChange,
    /// An event of the data model happens
    Event,
    /// An object is created
    ObjectCreation,
    /// An object is deleted
    ObjectDeletion,
    /// A command completes
    OperationComplete,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::ValueChange => "ValueChange",
            Self::Event => "Event",
            Self::ObjectCreation => "ObjectCreation",
            Self::ObjectDeletion => "ObjectDeletion",
            Self::OperationComplete => "OperationComplete",
        }
    }
}

enum Seen {
    Event(Box<Event>),
    Interrupted,
    /// The connection to the server broke; it is tried again.
    Lost(String),
    /// There is one again.
    Back,
    Ended(ClientError),
}

/// Tells what the stream says. When it ends, as when the server is started anew, another one is asked for until the command ends or
/// the server refuses it.
fn listen(client: &Client, device: &str, mut stream: EventStream, tell: &mpsc::Sender<Seen>) {
    loop {
        let mut reason = "the server ended the stream".to_owned();
        for event in stream {
            // The receiver is gone when the command ends: nobody is left to be told.
            let told = match event {
                Ok(event) => tell.send(Seen::Event(Box::new(event))),
                Err(ClientError::Unreachable { reason: why, .. }) => {
                    reason = why;
                    break;
                }
                Err(error) => return tell.send(Seen::Ended(error)).unwrap_or_default(),
            };
            if told.is_err() {
                return;
            }
        }
        if tell.send(Seen::Lost(reason)).is_err() {
            return;
        }
        let mut pause = FIRST_PAUSE;
        stream = loop {
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
            match client.events(Some(device)) {
                Ok(stream) => break stream,
                Err(ClientError::Unreachable { .. } | ClientError::Failed(_)) => {}
                Err(error) => return tell.send(Seen::Ended(error)).unwrap_or_default(),
            }
        };
        if tell.send(Seen::Back).is_err() {
            return;
        }
    }
}

impl Watch {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.client()?;
        let device = pick::device(&client, &self.device)?;
        // The stream is open before the subscription is made: nothing is missed between.
        let stream = client.events(Some(&device))?;
        let (tell, seen) = mpsc::channel();
        on_interrupt(tell.clone())?;
        let (listening, of) = (client.clone(), device.clone());
        std::thread::spawn(move || listen(&listening, &of, stream, &tell));
        if self.paths.is_empty() {
            return self.show(global, &client, &device, None, &seen);
        }
        let id = format!("watch-{}-{:x}", std::process::id(), started());
        let instance = subscribe(&client, &device, &id, self.kind, &self.paths)?;
        let result = self.begin(global, &client, &device, &id, &seen);
        let removed = unsubscribe(&client, &device, &instance);
        result.and(removed)
    }

    fn begin(
        &self,
        global: &Global,
        client: &Client,
        device: &str,
        id: &str,
        seen: &mpsc::Receiver<Seen>,
    ) -> Result<(), Failure> {
        if self.kind == Kind::ValueChange {
            let operation = Operation::Get {
                paths: self.paths.clone(),
                max_depth: 0,
            };
            let task = wait::run(client, device, operation, SUBSCRIBE_TIME)?;
            if let Some(TaskResult::Get { paths }) = &task.result {
                for object in paths.iter().flat_map(|path| &path.objects) {
                    for (name, value) in &object.params {
                        show_line(
                            global,
                            &task.updated,
                            "Value",
                            &json!({ "path": format!("{}{name}", object.path), "value": value }),
                            &format!("{}{name}  {value}", object.path),
                        )?;
                    }
                }
            }
            answer::failures(task.result.as_ref(), global.json)?;
        }
        self.show(global, client, device, Some(id), seen)
    }

    /// Prints notifications until the count, the time or the person ends it.
    fn show(
        &self,
        global: &Global,
        client: &Client,
        device: &str,
        only: Option<&str>,
        seen: &mpsc::Receiver<Seen>,
    ) -> Result<(), Failure> {
        let end = self
            .seconds
            .map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut count = 0;
        while self.count.is_none_or(|limit| count < limit) {
            let left = end.map_or(Duration::from_secs(3600), |end| {
                end.saturating_duration_since(Instant::now())
            });
            match seen.recv_timeout(left) {
                Ok(Seen::Event(event)) => match *event {
                    Event::Notification {
                        time,
                        subscription_id,
                        notification,
                        ..
                    } if only.is_none_or(|id| id == subscription_id) => {
                        print(global, &time, &notification)?;
                        count += 1;
                    }
                    Event::Missed { count } => {
                        output::note(&format!(
                            "{count} events were missed: this client was too slow"
                        ));
                    }
                    _ => {}
                },
                Ok(Seen::Interrupted) => break,
                Ok(Seen::Lost(reason)) => output::note(&format!(
                    "the connection to the server is lost ({reason}); it is tried again"
                )),
                Ok(Seen::Back) => {
                    output::note("the server is there again; what happened in between is not shown")
                }
                Ok(Seen::Ended(error)) => return Err(error.into()),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Client(ClientError::Unreachable {
                        url: client.url().to_owned(),
                        reason: format!("the server ended the stream of {device}"),
                    }));
                }
                Err(RecvTimeoutError::Timeout) if end.is_some() => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        Ok(())
    }
}

fn subscribe(
    client: &Client,
    device: &str,
    id: &str,
    kind: Kind,
    paths: &[String],
) -> Result<String, Failure> {
    let param = |name: &str, value: String, required| ParamSetting {
        name: name.to_owned(),
        value,
        required,
    };
    let operation = Operation::Add {
        allow_partial: false,
        objects: vec![AddObject {
            path: "Device.LocalAgent.Subscription.".to_owned(),
            params: vec![
                param("Enable", "true".to_owned(), true),
                param("ID", id.to_owned(), true),
                param("NotifType", kind.name().to_owned(), true),
                param("ReferenceList", paths.join(","), true),
                param("Persistent", "false".to_owned(), false),
                param("TimeToLive", TIME_TO_LIVE.to_string(), false),
            ],
        }],
    };
    let task = wait::run(client, device, operation, SUBSCRIBE_TIME)?;
    let Some(TaskResult::Add { objects }) = &task.result else {
        return Err(Failure::Task(Box::new(task)));
    };
    match objects.iter().find_map(|object| object.path.clone()) {
        Some(path) => Ok(path),
        None => {
            answer::failures(task.result.as_ref(), false)?;
            Err(Failure::Failed(
                "the device made no subscription".to_owned(),
            ))
        }
    }
}

fn unsubscribe(client: &Client, device: &str, instance: &str) -> Result<(), Failure> {
    let operation = Operation::Delete {
        allow_partial: false,
        paths: vec![instance.to_owned()],
    };
    match wait::run(client, device, operation, REMOVE_TIME) {
        Err(Failure::Waiting(task)) => {
            output::note(&format!(
                "the subscription is not removed yet: task {} stays queued",
                task.id
            ));
            Ok(())
        }
        other => other.map(|_| ()),
    }
}

fn print(global: &Global, time: &str, notification: &Notification) -> Result<(), Failure> {
    let pairs = |map: &std::collections::BTreeMap<String, String>| {
        map.iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let (kind, text) = match notification {
        Notification::ValueChange { path, value } => ("ValueChange", format!("{path}  {value}")),
        Notification::Event {
            object,
            event,
            params,
        } => ("Event", format!("{object}{event}  {}", pairs(params))),
        Notification::ObjectCreation { path, unique_keys } => {
            ("ObjectCreation", format!("{path}  {}", pairs(unique_keys)))
        }
        Notification::ObjectDeletion { path } => ("ObjectDeletion", path.clone()),
        Notification::OnBoardRequest { serial_number, .. } => {
            ("OnBoardRequest", serial_number.clone())
        }
        Notification::OperationComplete {
            object,
            command,
            command_key,
            output,
            error,
        } => {
            let outcome = match (error, output) {
                (Some(error), _) => format!("{} {}", error.code, error.message),
                (None, Some(output)) => pairs(output),
                (None, None) => String::new(),
            };
            (
                "OperationComplete",
                format!("{object}{command} [{command_key}]  {outcome}"),
            )
        }
    };
    let value =
        serde_json::to_value(notification).map_err(|error| Failure::Failed(error.to_string()))?;
    show_line(global, time, kind, &value, &text)
}

/// One line: JSON with `time` and the notification's own fields, or time and text.
fn show_line(
    global: &Global,
    time: &str,
    kind: &str,
    value: &serde_json::Value,
    text: &str,
) -> Result<(), Failure> {
    if global.json {
        let mut line = json!({ "time": time, "type": kind });
        if let (Some(line), Some(fields)) = (line.as_object_mut(), value.as_object()) {
            for (name, field) in fields.iter().filter(|(name, _)| *name != "kind") {
                line.insert(name.clone(), field.clone());
            }
        }
        return output::json_line(&line);
    }
    let clock = time.get(11..19).unwrap_or(time);
    output::line(&format!("{clock}  {}", output::printable(text)))
}

/// Tells the channel when Ctrl-C or SIGTERM comes, so that the subscription is removed first.
fn on_interrupt(tell: mpsc::Sender<Seen>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot wait for Ctrl-C: {error}")))?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let terminate = signal(SignalKind::terminate());
            match terminate {
                Ok(mut terminate) => {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = tokio::signal::ctrl_c() => {}
                    }
                }
                Err(_) => tokio::signal::ctrl_c().await.unwrap_or_default(),
            }
        });
        tell.send(Seen::Interrupted).unwrap_or_default();
    });
    Ok(())
}

fn started() -> u128 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| time.as_millis())
}
