//! What a start means: the agent's own rows, the factory configuration, OnBoardRequests, `Boot!`, and the
//! notifications that were not answered before.

use std::collections::BTreeMap;

use homefleet_model::{
    path::{ObjectPath, Path},
    tree::Resolved,
};
use homefleet_usp::proto::msg::{
    Notify,
    notify::{Notification, OnBoardRequest},
};

use super::{Engine, EngineError};
use crate::{
    identity,
    local_agent::{is_true, table, text},
    notify::{self, Notice},
    provider::Now,
    request::PROTOCOL_VERSIONS,
    role::Rights,
};

/// Facts in the store.
pub(super) mod fact {
    /// How often the agent was started.
    pub(crate) const BOOTS: &str = "boots";
    /// Cause of the coming boot, when it was asked for.
    pub(crate) const CAUSE: &str = "boot_cause";
    /// The `command_key` of the Reboot() or FactoryReset() that caused it.
    pub(crate) const COMMAND_KEY: &str = "boot_command_key";
    /// The controller of the configuration file, as it was last entered.
    pub(crate) const FACTORY: &str = "factory_controller";
    /// `Device.DeviceInfo.SoftwareVersion` at the last start.
    pub(crate) const SOFTWARE: &str = "software_version";
    /// The roles were entered, and the Controllers from before given one.
    pub(crate) const ROLES: &str = "roles";
    /// With a path of the certificate table behind it: the certificate's DER, hexadecimal.
    pub(crate) const CERTIFICATE: &str = "certificate ";
    /// With a controller's Endpoint ID behind it: it entered the table by coming.
    pub(crate) const MET: &str = "met ";
    /// What the configuration file said about trust on first use when it was last entered.
    pub(crate) const FIRST_USE: &str = "first_use";
    /// With a kind of MTP behind it: the row of the configuration file's, and what it was entered as.
    pub(crate) const MTP: &str = "factory_mtp ";
    /// What the configuration file said about telemetry when it was last entered, and where.
    pub(crate) const TELEMETRY: &str = "factory_telemetry";
    /// A change on trial, with the state before it.
    pub(crate) const TRIAL: &str = "trial";
    /// What of the sessions with the ACS survives.
    pub(crate) const CWMP: &str = "cwmp";
    /// What the configuration file said about the ACS when it was last entered.
    pub(crate) const CWMP_FILE: &str = "factory_cwmp";
    /// The last UDP Connection Request that was taken.
    pub(crate) const WOKEN: &str = "woken";
    /// What the configuration file said about STUN when it was last entered.
    pub(crate) const STUN_FILE: &str = "factory_stun";
    /// With a controller's Endpoint ID behind it: it has answered an OnBoardRequest.
    pub(crate) const ONBOARDED: &str = "onboarded ";
}

impl Engine {
    /// Everything a start means.
    pub(super) fn boot(&mut self, now: Now) -> Result<(), EngineError> {
        self.enter_own_rows();
        self.resume_trial(now)?;
        self.enter_own_mtps()?;
        self.enter_certificates()?;
        self.enter_trust(now)?;
        self.end_volatile_subscriptions();
        self.enter_factory_controller(now)?;
        self.enter_telemetry()?;
        let boots: u64 = self
            .store
            .fact(fact::BOOTS)?
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        self.batch
            .facts
            .push((fact::BOOTS.into(), (boots + 1).to_string()));
        self.device.refresh_all(now);
        self.refresh_own(now);
        self.boot_stun()?;
        self.boot_cwmp(now)?;
        // What is there at the start is no change.
        self.device.tree.drain_changes();
        self.reload_controllers();
        self.reload_subscriptions(now);
        self.reload_telemetry(now);
        self.restore_pending(now)?;
        self.fail_interrupted();
        let enabled: Vec<(ObjectPath, String)> = self
            .controllers
            .iter()
            // Where there is no way to one that came by itself, it is asked nothing.
            .filter(|(row, known)| {
                known.enabled && (!known.ways.is_empty() || !self.met.contains_key(*row))
            })
            .map(|(row, known)| (row.clone(), known.endpoint_id.clone()))
            .collect();
        for (row, endpoint_id) in enabled {
            if self
                .store
                .fact(&format!("{}{endpoint_id}", fact::ONBOARDED))?
                .is_none()
            {
                self.request_onboarding(&row);
            }
        }
        self.emit_boot(boots)?;
        self.schedule_periodic(now);
        self.settle(now, None);
        Ok(())
    }

    fn enter_own_rows(&mut self) {
        let endpoint_id = self.settings.endpoint_id.to_string();
        self.put("Device.LocalAgent.EndpointID", &endpoint_id);
        let subscriptions = self.settings.limits.max_subscriptions.to_string();
        self.put(
            "Device.LocalAgent.SupportedNumberOfSubscriptions",
            &subscriptions,
        );
    }

    /// `Persistent` false: the subscription ends with a restart.
    fn end_volatile_subscriptions(&mut self) {
        for row in self.device.tree.rows(&table(notify::TABLE)) {
            if !is_true(&self.device.tree, &row, "Persistent") {
                self.device.tree.remove_instance(&row);
            }
        }
    }

    /// Notifications of persistent subscriptions that were not answered go on; the others are forgotten.
    ///
    /// Device:2.16 lets retrying end with a restart; ours goes on, because what happened before a power cut
    /// is what an operator wants to know.
    fn restore_pending(&mut self, now: Now) -> Result<(), EngineError> {
        for stored in self.store.notifications()? {
            let controller = self
                .controllers
                .iter()
                .find(|(_, known)| known.endpoint_id == stored.controller);
            let there = stored
                .subscription
                .parse()
                .is_ok_and(|row: ObjectPath| self.device.tree.exists(&row));
            match controller {
                Some((row, _)) if there => self.outbox.restore(stored, row.clone(), now),
                _ => self.batch.remove.push(stored.msg_id),
            }
        }
        Ok(())
    }

    /// An OnBoardRequest to this controller, until it is answered (R-NOT.5, R-NOT.6, R-NOT.6a).
    pub(super) fn request_onboarding(&mut self, controller: &ObjectPath) {
        if self.outbox.onboarding(controller) {
            return;
        }
        let own = |name: &str, other: Option<String>| {
            let path = format!("Device.DeviceInfo.{name}");
            let known = self
                .device
                .tree
                .text(&path)
                .filter(|text| !text.is_empty())
                .map(str::to_owned);
            known.or(other).unwrap_or_default()
        };
        let request = OnBoardRequest {
            oui: own("ManufacturerOUI", identity::oui()),
            product_class: own("ProductClass", None),
            serial_number: own("SerialNumber", identity::serial_number()),
            agent_supported_protocol_versions: PROTOCOL_VERSIONS.into(),
        };
        self.notices.push(Notice {
            subscription: None,
            recipient: controller.clone(),
            retry: true,
            expiration: 0,
            persistent: false,
            notify: Notify {
                subscription_id: String::new(),
                send_resp: true,
                notification: Some(Notification::OnBoardReq(request)),
            },
        });
    }

    /// `Device.Boot!`, to each controller with its own `ParameterMap`.
    fn emit_boot(&mut self, boots: u64) -> Result<(), EngineError> {
        let cause = self
            .store
            .fact(fact::CAUSE)?
            .filter(|cause| !cause.is_empty());
        let key = self.store.fact(fact::COMMAND_KEY)?.unwrap_or_default();
        let before = self.store.fact(fact::SOFTWARE)?;
        let software = self
            .device
            .tree
            .text("Device.DeviceInfo.SoftwareVersion")
            .unwrap_or_default()
            .to_owned();
        let updated = boots > 0 && before.is_some_and(|before| before != software);
        for (name, value) in [
            (fact::CAUSE, ""),
            (fact::COMMAND_KEY, ""),
            (fact::SOFTWARE, software.as_str()),
        ] {
            self.batch.facts.push((name.into(), value.into()));
        }
        let rows: Vec<ObjectPath> = self.controllers.keys().cloned().collect();
        for controller in rows {
            let params = BTreeMap::from([
                ("CommandKey".to_owned(), key.clone()),
                (
                    "Cause".to_owned(),
                    cause.clone().unwrap_or_else(|| "LocalReboot".into()),
                ),
                ("FirmwareUpdated".to_owned(), updated.to_string()),
                ("ParameterMap".to_owned(), self.boot_parameters(&controller)),
            ]);
            let tree = &self.device.tree;
            let notices = self.subscriptions.on_event(
                tree,
                &ObjectPath::root(),
                "Boot!",
                &params,
                Some(&controller),
            );
            self.notices.extend(notices);
        }
        Ok(())
    }

    /// The parameters that a controller wants with `Boot!`, as a JSON object.
    fn boot_parameters(&self, controller: &ObjectPath) -> String {
        let tree = &self.device.tree;
        let rights = Rights::of(tree, controller);
        let mut values = BTreeMap::new();
        for row in tree.rows(&controller.child("BootParameter")) {
            if !is_true(tree, &row, "Enable") {
                continue;
            }
            let Ok(path) = Path::parse(text(tree, &row, "ParameterName")) else {
                continue;
            };
            let resolved = tree.resolve(&path).unwrap_or_default();
            for item in rights.matched(tree, &path, resolved) {
                if let Resolved::Param(param) = item
                    && rights.reads(param.as_str())
                {
                    values.insert(
                        param.to_string(),
                        tree.text(param.as_str()).unwrap_or_default().to_owned(),
                    );
                }
            }
        }
        json_object(&values)
    }
}

/// A JSON object of strings (RFC 8259 §4).
pub(crate) fn json_object(values: &BTreeMap<String, String>) -> String {
    let members: Vec<String> = values
        .iter()
        .map(|(name, value)| format!("{}:{}", json_string(name), json_string(value)))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// A JSON string (RFC 8259 §7).
fn json_string(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
