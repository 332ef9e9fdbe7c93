//! Files: fetched, installed, sent, and told (TR-069 A.3.2.8, A.4.1), and what else comes after its answer.
//!
//! ```text
//! asked for ─▶ Waiting ─ due, no session ─▶ Running ─ the file is there ─▶ Installing ─▶ TransferComplete, until it is answered
//!                 ▲                            │ failed                        │ the device starts again meanwhile
//!                 └── another try in a window ─┴─▶ TransferComplete            └─▶ told by what software runs now
//! ```
//!
//! Each step is on disk before the next begins.

use std::time::{Duration, Instant, SystemTime};

use homefleet_cwmp::{
    DateTime, Envelope, Event, EventCode, Fault, FaultCode, Header, Limits, Message, Method,
    Namespace,
    message::{
        AnyQueuedTransfer, CancelTransfer, CancelTransferResponse, ChangeDUState,
        ChangeDUStateResponse, DUStateChangeComplete, DownloadResponse,
        GetAllQueuedTransfersResponse, GetQueuedTransfersResponse, Operation, OperationResult,
        QueuedTransfer, ScheduleDownloadResponse, Status, TransferComplete, TransferFault,
        UnitFault, UnitState, UploadResponse,
    },
};

use super::rpc::Answer;
use crate::{
    cwmp::{
        AcsAction, Content, FileDone, TransferJob, diagnostics,
        stored::seconds,
        transfer::{self, Kind, Next, State, Transfer},
        view,
    },
    engine::{Action, Engine, commands::Output},
    provider::{Now, Operation as Running},
};

/// The UUID of no deployment unit (RFC 9562 §5.9).
const NO_UNIT: &str = "00000000-0000-0000-0000-000000000000";

impl Engine {
    pub(super) fn acs_transfer(&mut self, now: Now, request: Message) -> Answer {
        if self.cwmp.stored.transfers.len() >= transfer::MOST {
            return Err(Fault::new(FaultCode::RESOURCES_EXCEEDED));
        }
        self.cwmp.stored.transfer_ids += 1;
        let (id, wall) = (self.cwmp.stored.transfer_ids, seconds(now.wall));
        let status = Status::Pending;
        let (transfer, answer) = match request {
            Message::Download(request) => {
                let answer = DownloadResponse {
                    status,
                    ..Default::default()
                };
                (Transfer::download(id, wall, request)?, answer.into())
            }
            Message::Upload(request) => {
                let answer = UploadResponse {
                    status,
                    ..Default::default()
                };
                (Transfer::upload(id, wall, request)?, answer.into())
            }
            Message::ScheduleDownload(request) => (
                Transfer::scheduled(id, wall, request)?,
                ScheduleDownloadResponse {}.into(),
            ),
            _ => return Err(Fault::new(FaultCode::METHOD_NOT_SUPPORTED)),
        };
        self.cwmp.stored.transfers.push(transfer);
        self.cwmp.dirty = true;
        Ok(answer)
    }

    pub(super) fn acs_queued(&self) -> Answer {
        let transfers = self.cwmp.stored.transfers.iter().map(|one| QueuedTransfer {
            command_key: one.command_key.clone(),
            state: one.progress(),
        });
        let transfers = transfers.collect();
        Ok(GetQueuedTransfersResponse { transfers }.into())
    }

    pub(super) fn acs_all_queued(&self) -> Answer {
        let transfers = self
            .cwmp
            .stored
            .transfers
            .iter()
            .map(|one| AnyQueuedTransfer {
                command_key: one.command_key.clone(),
                state: one.progress(),
                is_download: one.kind.is_download(),
                file_type: one.file_type.clone(),
                file_size: one.file_size,
                target_file_name: one.target.clone(),
            });
        let transfers = transfers.collect();
        Ok(GetAllQueuedTransfersResponse { transfers }.into())
    }

    /// Those of the key that have not begun; of those that have, 9021 (TR-069 A.4.1.8).
    pub(super) fn acs_cancel(&mut self, request: &CancelTransfer) -> Answer {
        let of_key = |one: &Transfer| one.command_key == request.command_key;
        let all = &mut self.cwmp.stored.transfers;
        if all
            .iter()
            .any(|one| of_key(one) && one.state != State::Waiting)
        {
            return Err(Fault::new(FaultCode::CANCEL_NOT_PERMITTED));
        }
        all.retain(|one| !of_key(one));
        self.cwmp.dirty = true;
        Ok(CancelTransferResponse {}.into())
    }

    /// This device has no place where deployment units could be (9023): each operation is told to have failed.
    pub(super) fn acs_change_units(&mut self, now: Now, request: ChangeDUState) -> Answer {
        let time = super::date_time(now);
        let result = |operation: &Operation| {
            let uuid = match operation {
                Operation::Install(one) => one.uuid.clone(),
                Operation::Update(one) => one.uuid.clone(),
                Operation::Uninstall(one) => Some(one.uuid.clone()),
            };
            let code = FaultCode::UNKNOWN_ENVIRONMENT;
            OperationResult {
                // The schema wants one; a unit that never was has none.
                uuid: uuid.unwrap_or_else(|| NO_UNIT.to_owned()),
                state: UnitState::Failed,
                start_time: time,
                complete_time: time,
                fault: UnitFault {
                    code,
                    text: code.text().to_owned(),
                },
                ..OperationResult::default()
            }
        };
        let complete = DUStateChangeComplete {
            results: request.operations.iter().map(result).collect(),
            command_key: request.command_key,
        };
        self.tell_later(complete.into(), Some(Method::ChangeDuState));
        Ok(ChangeDUStateResponse {}.into())
    }

    /// A request to the ACS, which goes into a session with its event: none that goes on.
    fn tell_later(&mut self, message: Message, cause: Option<Method>) {
        let xml = Envelope::new(Namespace::V1_2, Header::default(), message).encode();
        let xml = String::from_utf8_lossy(&xml).into_owned();
        let cause = cause.map(|method| method.name().to_owned());
        self.cwmp.stored.late.push((xml, cause));
        self.cwmp.dirty = true;
    }

    /// No session goes on: what waited for that is queued, and what is due begins.
    pub(super) fn begin_what_waits(&mut self, now: Now) {
        if self.cwmp.cpe.is_in_session() && self.cwmp.is_on() {
            return;
        }
        while let Some((xml, cause)) = self.cwmp.stored.late.first().cloned() {
            let cause = cause.and_then(|name| name.parse::<Method>().ok());
            if let Ok(envelope) = Envelope::decode(xml.as_bytes(), &Limits::default())
                && self.cwmp.cpe.queue(envelope.message, cause).is_err()
            {
                // Too many wait already: after the next session there is room.
                break;
            }
            self.cwmp.stored.late.remove(0);
            self.cwmp.dirty = true;
        }
        if self.cwmp.diagnose {
            self.cwmp.diagnose = false;
            self.start_diagnostics();
        }
        self.start_transfers(now);
    }

    /// At a start: what was going on is begun again, but for what was being installed.
    pub(super) fn resume_transfers(&mut self, now: Now) {
        let software = self.software();
        for mut one in std::mem::take(&mut self.cwmp.stored.transfers) {
            match &one.state {
                State::Installing(before) => {
                    // Firmware takes the device down while it is installed.
                    let is_firmware = one.file_type.starts_with("1 ");
                    let done = !is_firmware || *before != software;
                    let result = match done {
                        true => Ok(()),
                        false => Err((FaultCode::DOWNLOAD_FAILURE, "the software is as before")),
                    };
                    let result = result.map_err(|(code, text)| (code, text.to_owned()));
                    self.complete_transfer(now, &one, result);
                }
                State::Running | State::Waiting => {
                    one.state = State::Waiting;
                    self.cwmp.stored.transfers.push(one);
                }
            }
        }
        self.cwmp.dirty = true;
    }

    fn software(&self) -> String {
        let text = self.device.tree.text("Device.DeviceInfo.SoftwareVersion");
        text.unwrap_or_default().to_owned()
    }

    /// Begins the next transfer that is due; one at a time.
    fn start_transfers(&mut self, now: Now) {
        let wall = seconds(now.wall);
        let mut late = Vec::new();
        let transfers = &mut self.cwmp.stored.transfers;
        transfers.retain_mut(|one| {
            let keeps = one.state != State::Waiting || one.has_time(wall);
            if !keeps {
                late.push(one.clone());
            }
            keeps
        });
        for one in late {
            let code = FaultCode::TRANSFER_WINDOW;
            self.complete_transfer(now, &one, Err((code, code.text().to_owned())));
        }
        let transfers = &mut self.cwmp.stored.transfers;
        if transfers.iter().any(|one| one.state != State::Waiting) {
            return;
        }
        let due = transfers.iter_mut().filter(|one| one.due <= wall);
        let Some(one) = due.min_by_key(|one| (one.due, one.id)) else {
            return;
        };
        one.state = State::Running;
        one.started = Some(wall);
        let one = one.clone();
        self.cwmp.dirty = true;
        let content = match one.kind {
            Kind::Download | Kind::Scheduled => Content::Fetch,
            Kind::Upload if one.file_type.starts_with(['1', '3']) => {
                Content::Send(self.vendor_configuration())
            }
            Kind::Upload => Content::SendLog,
        };
        self.cwmp.out.push(AcsAction::Transfer(TransferJob {
            id: one.id,
            url: one.url,
            username: one.username,
            password: one.password,
            content,
        }));
    }

    /// Every parameter that can be set, by the ACS's names, as JSON: the file of an Upload `1 Vendor Configuration File`. Without secrets.
    fn vendor_configuration(&self) -> Vec<u8> {
        let root = self.cwmp.root;
        let mut all = serde_json::Map::new();
        let names = [root.name().to_owned()];
        let values = view::values(root, &self.device.tree, &names, super::rpc::MOST);
        for (name, value) in values.iter().flat_map(|values| values.iter()) {
            let path = root.inward(name).and_then(|path| path.parse().ok());
            let param = path.and_then(|path| self.device.tree.schema().param(&path));
            let is_setting = param.is_some_and(|param| {
                param.access != homefleet_model::schema::Access::ReadOnly && !param.secret
            });
            if is_setting {
                all.insert(name.to_owned(), value.text.into());
            }
        }
        serde_json::Value::Object(all).to_string().into_bytes()
    }

    /// A step of a transfer is over.
    pub(super) fn file_done(&mut self, now: Now, id: u64, done: FileDone) {
        let software = self.software();
        let wall = seconds(now.wall);
        let Some(at) = self
            .cwmp
            .stored
            .transfers
            .iter()
            .position(|one| one.id == id)
        else {
            return;
        };
        self.cwmp.dirty = true;
        let Some(one) = self.cwmp.stored.transfers.get_mut(at) else {
            return;
        };
        let result = match (done, &one.state) {
            (FileDone::Fetched, State::Running) => {
                one.state = State::Installing(software);
                let install = AcsAction::Install {
                    id,
                    file_type: one.file_type.clone(),
                    target: one.target.clone(),
                };
                self.cwmp.out.push(install);
                return;
            }
            (FileDone::Fetched, _) => return,
            (FileDone::Complete, _) => Ok(()),
            (FileDone::Failed(code, text), _) => {
                if matches!(one.failed(wall), Next::Again) {
                    return;
                }
                Err((code, text))
            }
        };
        let one = self.cwmp.stored.transfers.remove(at);
        self.complete_transfer(now, &one, result);
    }

    fn complete_transfer(
        &mut self,
        now: Now,
        one: &Transfer,
        result: Result<(), (FaultCode, String)>,
    ) {
        let (code, text) = result.err().unwrap_or((FaultCode(0), String::new()));
        let time = |seconds: u64| DateTime::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX));
        let began = one.started.map(time);
        let complete = TransferComplete {
            command_key: one.command_key.clone(),
            fault: TransferFault { code, text },
            start_time: began.unwrap_or(DateTime::UNKNOWN),
            complete_time: began.map_or(DateTime::UNKNOWN, |_| super::date_time(now)),
        };
        tracing::info!(code = code.0, "a transfer is over");
        self.tell_later(complete.into(), Some(one.kind.method()));
    }

    /// When the next transfer is due.
    pub(super) fn next_transfer(&self, now: Now) -> Option<Instant> {
        let transfers = &self.cwmp.stored.transfers;
        if transfers.iter().any(|one| one.state != State::Waiting) {
            return None;
        }
        let due = transfers.iter().map(|one| one.due).min()?;
        let due = SystemTime::UNIX_EPOCH + Duration::from_secs(due.min(u32::MAX.into()));
        let wait = due.duration_since(now.wall).unwrap_or_default();
        Some(now.instant + wait.min(Duration::from_secs(365 * 86_400)))
    }

    /// A diagnostic test begins when its state is set to Requested (TR-181 `IP.Diagnostics.IPPing.`), after the session.
    fn start_diagnostics(&mut self) {
        let arguments = diagnostics::arguments(&self.device.tree);
        let object = diagnostics::object();
        match self.device.operate(diagnostics::COMMAND, &arguments) {
            Some(Running::Async(running)) => self.actions.push_back(Action::Spawn {
                request: object,
                running,
            }),
            Some(Running::Done(result)) => self.diagnosed(result),
            None => self.diagnosed(Err(crate::provider::OperateError::failed(
                "this device cannot do that",
            ))),
        }
    }

    /// A diagnostic test is over: event `8 DIAGNOSTICS COMPLETE`.
    pub(in crate::engine) fn diagnosed(&mut self, result: Output) {
        if self.device.tree.text(diagnostics::STATE) != Some("Requested") {
            // Its settings were changed meanwhile.
            return;
        }
        for (path, value) in diagnostics::outcome(result) {
            self.put(&path, &value);
        }
        self.cwmp
            .cpe
            .raise(Event::new(EventCode::DiagnosticsComplete));
    }
}
