//! Commands run: those of the core, those of providers, and the Request table of those that go on (R-OPR.0).

use std::collections::BTreeMap;

use homefleet_model::{error::PutError, path::ObjectPath};
use homefleet_usp::{
    message::Response,
    proto::msg::{
        Operate,
        notify::{
            OperationComplete,
            operation_complete::{CommandFailure, OperationResp, OutputArgs},
        },
    },
};

use super::{Action, Engine, boot::fact};
use crate::{
    local_agent::{is_true, table, text},
    provider::{Now, OperateError, Operation},
    request::{self, Caller, Failure, Invocation, Operated},
    store::Batch,
    transport,
};

pub(in crate::engine) type Output = Result<BTreeMap<String, String>, OperateError>;

/// Path of the request table.
const TABLE: &str = "Device.LocalAgent.Request.";

/// A command that goes on after its answer.
#[derive(Clone, Debug)]
pub(super) struct Request {
    object: ObjectPath,
    command: &'static str,
    key: String,
}

impl Engine {
    /// Answers an Operate; `None`: it wants no answer (R-OPR.4).
    pub(super) fn operate(
        &mut self,
        now: Now,
        caller: &Caller,
        operate: &Operate,
    ) -> Result<Option<Response>, Failure> {
        let calls = request::operate(&mut self.device, &caller.rights, operate, now)?;
        let mut results = Vec::new();
        for call in calls {
            let path = call.path();
            tracing::info!(
                command = path,
                from = caller.endpoint_id,
                permitted = call.permitted,
                "operate"
            );
            // R-OPR.1: a failure concerns this object only.
            let operated = if !call.permitted {
                self.stats.permission_denied += 1;
                Operated::Failed(OperateError {
                    code: 7006,
                    message: "no role of this Controller permits it".into(),
                })
            } else if call.command.is_async {
                self.start(caller, call)
            } else {
                self.run(caller, &call)
            };
            results.push((path, operated));
        }
        Ok(operate
            .send_resp
            .then(|| request::operate_response(results).into()))
    }

    /// A synchronous command.
    fn run(&mut self, caller: &Caller, call: &Invocation) -> Operated {
        let supported = format!("{}{}", call.object.supported(), call.command.name);
        let result = match supported.as_str() {
            "Device.Reboot()" => self.reboot(call, "RemoteReboot"),
            "Device.FactoryReset()" => self.factory_reset(call),
            "Device.LocalAgent.Controller.{i}.SendOnBoardRequest()" => {
                self.send_onboard_request(call)
            }
            "Device.LocalAgent.AddCertificate()" => self.add_certificate(call),
            "Device.LocalAgent.Controller.{i}.AddMyCertificate()" => {
                self.add_my_certificate(caller, call)
            }
            "Device.LocalAgent.Certificate.{i}.Delete()" => self.delete_certificate(call),
            "Device.LocalAgent.Certificate.{i}.GetFingerprint()" => self.fingerprint(call),
            "Device.LocalAgent.Request.{i}.Cancel()" => self.cancel(call),
            "Device.MQTT.Client.{i}.ForceReconnect()" => self.reconnect(Some(call.object.clone())),
            "Device.LocalAgent.Controller.{i}.MTP.{i}.WebSocket.Reset()" => {
                self.reconnect(call.object.parent())
            }
            _ => self.run_provider(call),
        };
        match result {
            Ok(output) => Operated::Done(output),
            Err(error) => Operated::Failed(error),
        }
    }

    /// Once it is answered, this connection is made anew.
    fn reconnect(&mut self, row: Option<ObjectPath>) -> Output {
        let name = row.as_ref().map(transport::name).unwrap_or_default();
        if !self.published.mqtt.contains_key(&name) && !self.published.websocket.contains_key(&name)
        {
            return Err(OperateError::failed(
                "there is no such connection: it is not enabled, or not used",
            ));
        }
        self.reconnects.insert(name);
        Ok(BTreeMap::new())
    }

    fn run_provider(&mut self, call: &Invocation) -> Output {
        match self.device.operate(&call.path(), &call.args) {
            Some(Operation::Done(result)) => result,
            Some(Operation::Async(_)) => {
                Err(OperateError::failed("a synchronous command wants to go on"))
            }
            None => Err(OperateError::failed("this device cannot do that")),
        }
    }

    /// The cause and the key are on disk before the answer leaves; the device goes down after it.
    fn reboot(&mut self, call: &Invocation, cause: &str) -> Output {
        let output = self.run_provider(call)?;
        self.batch.facts.push((fact::CAUSE.into(), cause.into()));
        self.batch
            .facts
            .push((fact::COMMAND_KEY.into(), call.key.clone()));
        Ok(output)
    }

    fn factory_reset(&mut self, call: &Invocation) -> Output {
        let output = self.run_provider(call)?;
        if !self.settings.restarts {
            // Without the start that follows, an agent without its state would go on for ever.
            return Ok(output);
        }
        let facts = vec![
            (fact::CAUSE.to_owned(), "RemoteFactoryReset".to_owned()),
            (fact::COMMAND_KEY.to_owned(), call.key.clone()),
        ];
        let wiped = self.store.clear().and_then(|()| {
            self.store.write(Batch {
                facts,
                ..Batch::default()
            })
        });
        wiped.map_err(|error| OperateError {
            code: 7003,
            message: error.to_string(),
        })?;
        self.wiped = true;
        Ok(output)
    }

    fn send_onboard_request(&mut self, call: &Invocation) -> Output {
        if !is_true(&self.device.tree, &call.object, "Enable") {
            // R-NOT.5: only for enabled controllers.
            return Err(OperateError::failed(format!(
                "{} is not enabled",
                call.object
            )));
        }
        self.request_onboarding(&call.object);
        Ok(BTreeMap::new())
    }

    fn cancel(&mut self, call: &Invocation) -> Output {
        if !self.requests.contains_key(&call.object) {
            return Err(OperateError::failed("the command is done already"));
        }
        self.actions.push_back(Action::Abort(call.object.clone()));
        let error = OperateError {
            code: 7023,
            message: "canceled by a controller".into(),
        };
        self.finish(&call.object.clone(), "Canceled", Err(error));
        Ok(BTreeMap::new())
    }

    /// An asynchronous command: a row of the Request table for as long as it runs (R-OPR.0, R-OPR.2).
    fn start(&mut self, caller: &Caller, call: Invocation) -> Operated {
        let failed = |code, message: &str| {
            Operated::Failed(OperateError {
                code,
                message: message.into(),
            })
        };
        if self.requests.len() >= self.settings.limits.max_requests {
            return failed(7005, "too many commands are running");
        }
        let path = call.path();
        if self.is_running(&caller.endpoint_id, &path, &call.key) {
            return failed(
                7005,
                "the same command with the same command key is running",
            );
        }
        let row = match self.enter_request(&caller.endpoint_id, &path, &call.key) {
            Ok(row) => row,
            Err(error) => return failed(7003, &error.to_string()),
        };
        let running = match self.device.operate(&path, &call.args) {
            Some(Operation::Async(running)) => running,
            Some(Operation::Done(result)) => Box::pin(std::future::ready(result)),
            None => {
                self.device.tree.remove_instance(&row);
                return failed(7022, "this device cannot do that");
            }
        };
        let request = Request {
            object: call.object,
            command: call.command.name,
            key: call.key,
        };
        self.requests.insert(row.clone(), request);
        self.actions.push_back(Action::Spawn {
            request: row.clone(),
            running,
        });
        Operated::Running(row)
    }

    fn is_running(&self, originator: &str, command: &str, key: &str) -> bool {
        let tree = &self.device.tree;
        self.requests.keys().any(|row| {
            text(tree, row, "Originator") == originator
                && text(tree, row, "Command") == command
                && text(tree, row, "CommandKey") == key
        })
    }

    /// Kept on disk, so that a command that ends with the agent is told as failed.
    fn enter_request(
        &mut self,
        originator: &str,
        command: &str,
        key: &str,
    ) -> Result<ObjectPath, PutError> {
        let tree = &mut self.device.tree;
        let row = tree.create_persistent(&table(TABLE))?;
        for (name, value) in [
            ("Originator", originator),
            ("Command", command),
            ("CommandKey", key),
            ("Status", "Active"),
        ] {
            tree.put_persistent(&row.param(name), value)?;
        }
        Ok(row)
    }

    /// At a start: what ran when the agent stopped has failed.
    pub(super) fn fail_interrupted(&mut self) {
        for row in self.device.tree.rows(&table(TABLE)) {
            let of = |name| text(&self.device.tree, &row, name).to_owned();
            let (command, command_key) = (of("Command"), of("CommandKey"));
            let at = command.rfind('.').map_or(0, |dot| dot + 1);
            let (object, name) = command.split_at(at);
            if let Ok(object) = object.parse() {
                tracing::warn!(command, "the agent stopped while it ran");
                let failure = OperateError::failed("the agent stopped while the command ran");
                self.tell_complete(&object, name, command_key, Err(failure));
            }
            self.device.tree.remove_instance(&row);
        }
    }

    /// A command is done: whoever subscribed to it is told, and its row goes.
    pub(super) fn complete(&mut self, row: &ObjectPath, result: Output) {
        let status = if result.is_ok() { "Success" } else { "Error" };
        self.finish(row, status, result);
    }

    fn finish(&mut self, row: &ObjectPath, status: &str, result: Output) {
        // Not there: it was canceled, and its end was told already.
        let Some(request) = self.requests.remove(row) else {
            return;
        };
        self.put(row.param("Status").as_str(), status);
        self.tell_complete(&request.object, request.command, request.key, result);
        self.device.tree.remove_instance(row);
    }

    fn tell_complete(&mut self, object: &ObjectPath, command: &str, key: String, result: Output) {
        let done = OperationComplete {
            obj_path: object.to_string(),
            command_name: command.to_owned(),
            command_key: key,
            operation_resp: Some(match result {
                Ok(args) => OperationResp::ReqOutputArgs(OutputArgs {
                    output_args: args.into_iter().collect(),
                }),
                Err(error) => OperationResp::CmdFailure(CommandFailure {
                    err_code: error.code,
                    err_msg: error.message,
                }),
            }),
        };
        let notices = self
            .subscriptions
            .on_complete(&self.device.tree, object, &done);
        self.notices.extend(notices);
    }

    /// A controller answered a notification.
    pub(super) fn answered(
        &mut self,
        id: &homefleet_usp::message::MsgId,
        from: &str,
        accepted: bool,
    ) {
        let Some(answered) = self
            .outbox
            .answered(id.as_str(), from, accepted, &mut self.batch)
        else {
            self.stats.records_ignored += 1;
            return;
        };
        self.heard(&answered.controller);
        if answered.onboarding {
            tracing::info!(controller = from, "onboarded");
            self.batch
                .facts
                .push((format!("{}{from}", fact::ONBOARDED), "true".into()));
        }
    }
}
