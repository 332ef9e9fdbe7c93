//! What the ACS asks, answered from the tree and the providers behind it (TR-069 A.3, A.4).

use homefleet_cwmp::{
    Event, Fault, FaultCode, Message, Method, ParameterFault, ValueType,
    message::{
        AddObject, AddObjectResponse, Attributes, DeleteObject, DeleteObjectResponse,
        FactoryResetResponse, GetOptionsResponse, GetParameterAttributes,
        GetParameterAttributesResponse, GetParameterNames, GetParameterNamesResponse,
        GetParameterValues, GetParameterValuesResponse, Notification, RebootResponse,
        ScheduleInform, ScheduleInformResponse, SetParameterAttributes,
        SetParameterAttributesResponse, SetParameterValues, SetParameterValuesResponse, Status,
    },
    notify::Author,
};
use homefleet_model::{
    path::{ObjectPath, ParamPath, Path},
    schema::Access,
};

use super::{After, UrlSource};
use crate::{
    cwmp::view,
    engine::{Engine, boot::fact},
    local_agent,
    provider::{Now, Operation},
    request::{self, Writer},
    store::Batch,
};

/// The most names or values in one answer.
pub(super) const MOST: usize = 50_000;

/// The longest ParameterKey and CommandKey, characters.
const LONGEST_KEY: usize = 32;

pub(super) type Answer = Result<Message, Fault>;

impl Engine {
    /// The answer to a request of the ACS.
    pub(super) fn answer_acs(&mut self, now: Now, request: Message) -> Message {
        let answer = match request {
            Message::GetParameterValues(request) => self.acs_values(now, &request),
            Message::GetParameterNames(request) => self.acs_names(now, &request),
            Message::SetParameterValues(request) => self.acs_set(now, &request),
            Message::GetParameterAttributes(request) => self.acs_attributes(now, &request),
            Message::SetParameterAttributes(request) => self.acs_set_attributes(now, &request),
            Message::AddObject(request) => self.acs_add(now, &request),
            Message::DeleteObject(request) => self.acs_delete(now, &request),
            Message::Reboot(request) => self.acs_reboot(request.command_key),
            Message::FactoryReset(_) => {
                // On disk, should the power fail before the session is over.
                self.cwmp.stored.reset = true;
                self.cwmp.dirty = true;
                self.cwmp.after = After::FactoryReset;
                Ok(FactoryResetResponse {}.into())
            }
            Message::ScheduleInform(request) => self.acs_schedule(now, request),
            request
            @ (Message::Download(_) | Message::Upload(_) | Message::ScheduleDownload(_)) => {
                self.acs_transfer(now, request)
            }
            Message::GetQueuedTransfers(_) => self.acs_queued(),
            Message::GetAllQueuedTransfers(_) => self.acs_all_queued(),
            Message::CancelTransfer(request) => self.acs_cancel(&request),
            Message::ChangeDUState(request) => self.acs_change_units(now, request),
            // There are no options on this device, and no voucher gives it one.
            Message::GetOptions(_) => Ok(GetOptionsResponse::default().into()),
            Message::SetVouchers(_) => Err(Fault::with_text(
                FaultCode::REQUEST_DENIED,
                "this device has no options",
            )),
            _ => Err(Fault::new(FaultCode::METHOD_NOT_SUPPORTED)),
        };
        answer.unwrap_or_else(Message::from)
    }

    /// Lets the providers behind these names look; what they find is no change of the ACS's.
    fn look_for_acs(&mut self, now: Now, names: &[String]) {
        self.refresh_own(now);
        let root = self.cwmp.root;
        let parts = names.iter().flat_map(|name| root.parts(name));
        let paths: Vec<Path> = parts
            .map(|part| match part.is_empty() {
                true => String::from("Device."),
                false => part,
            })
            .filter_map(|part| Path::parse(&part).ok())
            .collect();
        self.device.refresh_any(&paths, now);
        self.absorb(now, Author::Other);
    }

    fn acs_values(&mut self, now: Now, request: &GetParameterValues) -> Answer {
        self.look_for_acs(now, &request.names);
        let tree = &self.device.tree;
        let values = view::values(self.cwmp.root, tree, &request.names, MOST)?;
        Ok(GetParameterValuesResponse { values }.into())
    }

    fn acs_names(&mut self, now: Now, request: &GetParameterNames) -> Answer {
        self.look_for_acs(now, std::slice::from_ref(&request.path));
        let infos = view::names(self.cwmp.root, &self.device.tree, request, MOST)?;
        Ok(GetParameterNamesResponse { infos }.into())
    }

    /// All of them, or none (TR-069 A.3.2.1).
    fn acs_set(&mut self, now: Now, request: &SetParameterValues) -> Answer {
        check_key(&request.parameter_key)?;
        let names: Vec<String> = request.values.iter().map(|(n, _)| n.to_owned()).collect();
        let mut sorted: Vec<&String> = names.iter().collect();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            let text = format!("{} stands there twice", pair[0]);
            return Err(Fault::with_text(FaultCode::INVALID_ARGUMENTS, text));
        }
        self.look_for_acs(now, &names);
        let root = self.cwmp.root;
        let mut writer = Writer::new(&mut self.device);
        let start = writer.mark();
        let mut faults = Vec::new();
        for (name, value) in request.values.iter() {
            let result = set_one(&mut writer, root, name, value);
            faults.extend(result.err().map(|(code, text)| ParameterFault {
                name: name.to_owned(),
                code,
                text,
            }));
        }
        if !faults.is_empty() {
            writer.undo(start);
            return Err(Fault::of_parameters(faults));
        }
        if let Err(fault) = writer.check(start) {
            writer.undo(start);
            return Err(Fault::with_text(
                FaultCode::INVALID_ARGUMENTS,
                fault.message,
            ));
        }
        writer.commit().map_err(internal)?;
        if names.iter().any(|name| {
            let inner = root.inward(name);
            inner.as_deref() == Some("Device.ManagementServer.URL")
        }) {
            self.cwmp.stored.source = UrlSource::Remote;
        }
        self.keep("ParameterKey", &request.parameter_key);
        self.absorb(now, Author::Acs);
        let status = Status::Applied;
        Ok(SetParameterValuesResponse { status }.into())
    }

    fn acs_add(&mut self, now: Now, request: &AddObject) -> Answer {
        check_key(&request.parameter_key)?;
        let table = self.acs_object(&request.object)?;
        let most = self.settings.limits.max_subscriptions;
        local_agent::check_add(&self.device.tree, &table, most).map_err(as_object_fault)?;
        let mut writer = Writer::new(&mut self.device);
        let start = writer.mark();
        let row = writer.add(&table).map_err(as_object_fault)?;
        if let Err(fault) = writer.check(start) {
            writer.undo(start);
            return Err(as_object_fault(fault));
        }
        writer.commit().map_err(internal)?;
        self.keep("ParameterKey", &request.parameter_key);
        self.absorb(now, Author::Acs);
        let instance = row.instance().unwrap_or_default();
        let status = Status::Applied;
        Ok(AddObjectResponse { instance, status }.into())
    }

    fn acs_delete(&mut self, now: Now, request: &DeleteObject) -> Answer {
        check_key(&request.parameter_key)?;
        let row = self.acs_object(&request.object)?;
        local_agent::check_delete(&self.device.tree, &row).map_err(as_object_fault)?;
        let mut writer = Writer::new(&mut self.device);
        writer.delete(&row).map_err(as_object_fault)?;
        writer.commit().map_err(internal)?;
        self.keep("ParameterKey", &request.parameter_key);
        self.absorb(now, Author::Acs);
        let status = Status::Applied;
        Ok(DeleteObjectResponse { status }.into())
    }

    /// The object that a name with a trailing dot means.
    fn acs_object(&self, name: &str) -> Result<ObjectPath, Fault> {
        let inner = self.cwmp.root.inward(name);
        let inner = inner.filter(|_| name.ends_with('.'));
        inner
            .and_then(|inner| inner.parse().ok())
            .ok_or_else(|| Fault::new(FaultCode::INVALID_PARAMETER_NAME))
    }

    fn acs_attributes(&mut self, now: Now, request: &GetParameterAttributes) -> Answer {
        self.look_for_acs(now, &request.names);
        let root = self.cwmp.root;
        let values = view::values(root, &self.device.tree, &request.names, MOST)?;
        let attributes = values.iter().map(|(name, _)| {
            let path = root.inward(name).unwrap_or_default();
            Attributes {
                name: name.to_owned(),
                notification: self.notification_of(&path),
                access_list: vec![String::from("Subscriber")],
            }
        });
        let attributes = attributes.collect();
        Ok(GetParameterAttributesResponse { attributes }.into())
    }

    fn notification_of(&self, path: &str) -> Notification {
        let set = self.cwmp.stored.attributes.get(path);
        let set = set.and_then(|number| Notification::ALL.get(usize::from(*number)));
        set.copied()
            .unwrap_or_else(|| self.cwmp.notifications.notification(path))
    }

    /// All of them, or none; a later one goes over an earlier (TR-069 A.3.2.4).
    fn acs_set_attributes(&mut self, now: Now, request: &SetParameterAttributes) -> Answer {
        let root = self.cwmp.root;
        let names: Vec<String> = request.attributes.iter().map(|a| a.name.clone()).collect();
        self.look_for_acs(now, &names);
        let mut all = Vec::new();
        for one in &request.attributes {
            let name = std::slice::from_ref(&one.name);
            let values = view::values(root, &self.device.tree, name, MOST)?;
            if !one.notification_change {
                continue;
            }
            let single = !one.name.is_empty() && !one.name.ends_with('.');
            for (name, value) in values.iter() {
                let Some(path) = root.inward(name).map(|path| path.into_owned()) else {
                    continue;
                };
                let tells = path.parse::<ParamPath>().ok();
                let tells = tells.and_then(|path| self.device.tree.schema().param(&path));
                if tells.is_some_and(|param| param.notify) || one.notification == Notification::Off
                {
                    all.push((path, one.notification, value.text.to_owned()));
                } else if single {
                    // Under an object those that tell nothing are passed over.
                    let text = format!("{name} changes all the time");
                    return Err(Fault::with_text(FaultCode::NOTIFICATION_REJECTED, text));
                }
            }
        }
        let (notifications, stored) = (
            self.cwmp.notifications.clone(),
            self.cwmp.stored.attributes.clone(),
        );
        for (path, notification, value) in all {
            let set = self.cwmp.notifications.set(&path, notification, &value);
            if set.is_err() {
                self.cwmp.notifications = notifications;
                self.cwmp.stored.attributes = stored;
                return Err(Fault::new(FaultCode::RESOURCES_EXCEEDED));
            }
            let number = notification.number();
            let attributes = &mut self.cwmp.stored.attributes;
            if notification == Notification::Off
                && !super::schema::DEFAULT_ACTIVE.contains(&path.as_str())
            {
                attributes.remove(&path);
            } else {
                attributes.insert(path, number);
            }
        }
        self.cwmp.dirty = true;
        self.reload_subscriptions(now);
        Ok(SetParameterAttributesResponse {}.into())
    }

    fn acs_reboot(&mut self, key: String) -> Answer {
        check_key(&key)?;
        self.cwmp.cpe.note(Event::of(Method::Reboot, key.clone()));
        self.cwmp.after = After::Reboot(key);
        Ok(RebootResponse {}.into())
    }

    fn acs_schedule(&mut self, now: Now, request: ScheduleInform) -> Answer {
        check_key(&request.command_key)?;
        if request.delay_seconds == 0 {
            let text = "DelaySeconds has to be more than 0";
            return Err(Fault::with_text(FaultCode::INVALID_ARGUMENTS, text));
        }
        let delay = std::time::Duration::from_secs(request.delay_seconds.into());
        let scheduled = self
            .cwmp
            .cpe
            .schedule(now.instant, delay, request.command_key);
        scheduled.map_err(|_| Fault::new(FaultCode::RESOURCES_EXCEEDED))?;
        Ok(ScheduleInformResponse {}.into())
    }

    /// The device starts again, as after the commands of USP.
    pub(super) fn restart_for_acs(&mut self, command: &str, key: &str) {
        let reset = command == "Device.FactoryReset()";
        let cause = match reset {
            true => "RemoteFactoryReset",
            false => "RemoteReboot",
        };
        let result = self.device.operate(command, &Default::default());
        if !matches!(result, Some(Operation::Done(Ok(_)))) {
            tracing::error!(command, "this device cannot do what the ACS wants");
            return;
        }
        let facts = vec![
            (fact::CAUSE.to_owned(), cause.to_owned()),
            (fact::COMMAND_KEY.to_owned(), key.to_owned()),
        ];
        if self.settings.restarts {
            // The next session is that of the start.
            self.cwmp.ready = false;
        }
        if !reset || !self.settings.restarts {
            self.cwmp.stored.reset = false;
            self.cwmp.dirty = true;
            self.batch.facts.extend(facts);
            return;
        }
        let wiped = self.store.clear().and_then(|()| {
            self.store.write(Batch {
                facts,
                ..Batch::default()
            })
        });
        match wiped {
            Ok(()) => self.wiped = true,
            Err(error) => tracing::error!(%error, "the factory reset failed"),
        }
    }
}

/// Sets one parameter: its type, then what any other change has to pass.
fn set_one(
    writer: &mut Writer<'_>,
    root: view::Root,
    name: &str,
    value: homefleet_cwmp::Value<'_>,
) -> Result<(), (FaultCode, String)> {
    let of = |code: FaultCode| (code, code.text().to_owned());
    let unknown = || of(FaultCode::INVALID_PARAMETER_NAME);
    let path = root.inward(name).ok_or_else(unknown)?;
    let path: ParamPath = path.parse().map_err(|_| unknown())?;
    let tree = writer.tree();
    let own = tree.get(&path).map_err(|_| unknown())?;
    let access = tree.schema().param(&path).map(|param| param.access);
    if access.is_none_or(|access| access == Access::ReadOnly) {
        return Err(of(FaultCode::NOT_WRITABLE));
    }
    let expected = ValueType::of(own.ty());
    if value.kind != expected && value.kind != ValueType::String {
        let text = format!("{} where {} is due", value.kind.name(), expected.name());
        return Err((FaultCode::INVALID_PARAMETER_TYPE, text));
    }
    writer.set(&path, value.text, None).map_err(|fault| {
        let code = match fault.code {
            7010 | 7016 | 7026 => FaultCode::INVALID_PARAMETER_NAME,
            7011 => FaultCode::INVALID_PARAMETER_TYPE,
            7012 => FaultCode::INVALID_PARAMETER_VALUE,
            7013 => FaultCode::NOT_WRITABLE,
            7005 => FaultCode::RESOURCES_EXCEEDED,
            _ => FaultCode::INTERNAL_ERROR,
        };
        // The code's own words: the fault's could repeat a secret.
        of(code)
    })
}

fn check_key(key: &str) -> Result<(), Fault> {
    if key.chars().count() <= LONGEST_KEY {
        return Ok(());
    }
    let text = "a key of more than 32 characters";
    Err(Fault::with_text(FaultCode::INVALID_ARGUMENTS, text))
}

fn internal(fault: request::Fault) -> Fault {
    Fault::with_text(FaultCode::INTERNAL_ERROR, fault.message)
}

/// Why a row was not added or deleted (TR-069 A.3.2.6, A.3.2.7).
fn as_object_fault(fault: request::Fault) -> Fault {
    let code = match fault.code {
        7005 => FaultCode::RESOURCES_EXCEEDED,
        7003 => FaultCode::INTERNAL_ERROR,
        _ => FaultCode::INVALID_PARAMETER_NAME,
    };
    Fault::with_text(code, fault.message)
}
