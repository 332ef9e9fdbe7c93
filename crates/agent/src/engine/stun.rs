//! How the device is reached behind address translation: what the data model says about STUN goes to the runtime, what it learned
//! comes back into the data model (TR-111 Part 2 §2.2.1).
//!
//! The timestamp of the last UDP Connection Request is on disk before the session that it leads to begins: none is taken twice, across restarts either.

use std::time::Duration;

use homefleet_net::stun::{DeviceConfig, DeviceEvent, StunSettings, Waker};
use homefleet_tr111::client::Event as Binding;
use homefleet_tr111::connection_request::{Last, authority};

use super::{Action, Engine, EngineError, boot::fact};
use crate::{
    cwmp::OBJECT,
    provider::Now,
    stun::{PORT, host},
};

/// What the runtime was told last.
#[derive(Debug, Default)]
pub(super) struct Stun {
    published: Option<DeviceConfig>,
    /// The last UDP Connection Request that was taken.
    last: Last,
}

impl Engine {
    /// At a start: the configuration file's values, and what was remembered.
    pub(super) fn boot_stun(&mut self) -> Result<(), EngineError> {
        if self.settings.stun.listen.is_none() {
            return Ok(());
        }
        if let Some(text) = self.store.fact(fact::WOKEN)? {
            self.stun.last = read(&text);
        }
        let config = self.settings.stun.clone();
        let secret = config.password.as_ref().map(|password| password.reveal());
        let number = |number: Option<u32>| number.map(|number| number.to_string());
        let port = config.port.unwrap_or(PORT).to_string();
        let (minimum, maximum) = (number(config.minimum), number(config.maximum));
        let wanted = serde_json::json!([
            config.enable,
            config.server,
            port,
            config.username,
            secret,
            minimum,
            maximum
        ])
        .to_string();
        if self.store.fact(fact::STUN_FILE)?.as_deref() == Some(&wanted) {
            return Ok(());
        }
        self.batch.facts.push((fact::STUN_FILE.into(), wanted));
        self.keep("STUNEnable", if config.enable { "true" } else { "false" });
        self.keep("STUNServerAddress", &config.server);
        self.keep("STUNServerPort", &port);
        self.keep("STUNUsername", &config.username);
        self.keep("STUNPassword", secret.unwrap_or_default());
        let periods = [
            ("STUNMinimumKeepAlivePeriod", minimum),
            ("STUNMaximumKeepAlivePeriod", maximum),
        ];
        for (name, value) in periods {
            if let Some(value) = value {
                self.keep(name, &value);
            }
        }
        Ok(())
    }

    /// Something happened where UDP Connection Requests are listened for.
    pub fn handle_stun(&mut self, now: Now, event: DeviceEvent) {
        match event {
            DeviceEvent::Address { address, nat } => {
                tracing::info!(%address, nat, "UDP Connection Requests arrive here");
                let own = |name: &str| format!("{OBJECT}{name}");
                self.put(&own("UDPConnectionRequestAddress"), &authority(address));
                self.put(&own("NATDetected"), if nat { "true" } else { "false" });
            }
            DeviceEvent::Woken { request, last } => {
                // What was taken before a restart of the engine alone is not taken again.
                if request.timestamp <= self.stun.last.timestamp {
                    return;
                }
                tracing::info!(timestamp = request.timestamp, "the ACS calls over UDP");
                self.stun.last = last;
                self.batch.facts.push((fact::WOKEN.into(), write(last)));
                if !self.write_batch() {
                    tracing::warn!("the call is not followed: the state could not be written");
                    return;
                }
                return self.handle_connection_request(now);
            }
            DeviceEvent::Stun(Binding::Timeout { alive, expired }) => {
                tracing::info!(?alive, ?expired, "how long the gateway keeps a binding");
            }
            DeviceEvent::Stun(Binding::CannotTest) => {
                tracing::info!("the STUN server does not let find out how long a binding lasts");
            }
            DeviceEvent::Stun(Binding::Refused(code)) => {
                tracing::warn!(%code, "the STUN server refuses the device");
            }
            DeviceEvent::Stun(event) => tracing::debug!(?event, "STUN"),
            DeviceEvent::Unresolved => tracing::info!("the STUN server's name has no address"),
            event => tracing::debug!(?event, "STUN"),
        }
        self.settle(now, None);
    }

    /// Tells the runtime what the data model says, when that has changed; part of settling, after it was written.
    pub(super) fn publish_stun(&mut self) {
        let Some(listen) = self.settings.stun.listen else {
            return;
        };
        let wanted = DeviceConfig {
            stun: self.stun_settings(),
            waker: Waker {
                username: self.acs_value("ConnectionRequestUsername").to_owned(),
                password: self.acs_value("ConnectionRequestPassword").into(),
            },
        };
        if self.stun.published.as_ref() == Some(&wanted) {
            return;
        }
        self.stun.published = Some(wanted.clone());
        let last = self.stun.last;
        self.actions.push_back(Action::Stun {
            listen,
            config: wanted,
            last,
        });
    }

    /// The STUN server and how it is used; `None` when STUN is disabled, or there is nobody to ask.
    fn stun_settings(&self) -> Option<StunSettings> {
        if self.acs_value("STUNEnable") != "true" {
            return None;
        }
        let server = match self.acs_value("STUNServerAddress") {
            "" => host(self.acs_value("URL"))?,
            server => server,
        };
        let number = |name: &str| self.acs_value(name).parse::<u64>().ok();
        let port = self.acs_value("STUNServerPort").parse::<u16>().ok();
        Some(StunSettings {
            host: server.to_owned(),
            port: port.filter(|port| *port > 0).unwrap_or(PORT),
            username: self.acs_value("STUNUsername").to_owned(),
            password: self.acs_value("STUNPassword").into(),
            minimum: Duration::from_secs(number("STUNMinimumKeepAlivePeriod").unwrap_or(0)),
            // -1 is none.
            maximum: number("STUNMaximumKeepAlivePeriod").map(Duration::from_secs),
        })
    }
}

fn write(last: Last) -> String {
    serde_json::json!([last.timestamp, last.id]).to_string()
}

fn read(text: &str) -> Last {
    let (timestamp, id) = serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::error!(%error, "the last UDP Connection Request that was stored cannot be read");
        (0, None)
    });
    Last { timestamp, id }
}
