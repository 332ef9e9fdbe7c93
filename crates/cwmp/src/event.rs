//! Why a session is: the events of an Inform.

use std::fmt;

use crate::soap::{Reader, Writer, structure};

/// An event code (TR-069 §3.7.1.5, Table 8).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EventCode {
    /// `0 BOOTSTRAP`: the first session ever, or the first with this ACS.
    Bootstrap,
    /// `1 BOOT`: power on, or a restart.
    Boot,
    /// `2 PERIODIC`: the periodic inform interval has passed.
    Periodic,
    /// `3 SCHEDULED`: asked for by ScheduleInform.
    Scheduled,
    /// `4 VALUE CHANGE`: parameters with a notification have changed.
    ValueChange,
    /// `5 KICKED`: for web identity management.
    Kicked,
    /// `6 CONNECTION REQUEST`: the ACS called.
    ConnectionRequest,
    /// `7 TRANSFER COMPLETE`: a transfer that the ACS asked for has ended.
    TransferComplete,
    /// `8 DIAGNOSTICS COMPLETE`: a diagnostic test has ended.
    DiagnosticsComplete,
    /// `9 REQUEST DOWNLOAD`: the device wants a file.
    RequestDownload,
    /// `10 AUTONOMOUS TRANSFER COMPLETE`: a transfer that the ACS did not ask for has ended.
    AutonomousTransferComplete,
    /// `11 DU STATE CHANGE COMPLETE`: a ChangeDUState has ended.
    DuStateChangeComplete,
    /// `12 AUTONOMOUS DU STATE CHANGE COMPLETE`: deployment units changed otherwise.
    AutonomousDuStateChangeComplete,
    /// `13 WAKEUP`: the device woke from sleep.
    Wakeup,
    /// `M` and the name of the method that caused it.
    Method(String),
    /// Anything else, as it stands: `X`, an OUI and a name, or a code from the future.
    Other(String),
}

impl EventCode {
    /// The codes with numbers, in their order.
    pub const NUMBERED: [Self; 14] = [
        Self::Bootstrap,
        Self::Boot,
        Self::Periodic,
        Self::Scheduled,
        Self::ValueChange,
        Self::Kicked,
        Self::ConnectionRequest,
        Self::TransferComplete,
        Self::DiagnosticsComplete,
        Self::RequestDownload,
        Self::AutonomousTransferComplete,
        Self::DuStateChangeComplete,
        Self::AutonomousDuStateChangeComplete,
        Self::Wakeup,
    ];

    /// The code of a text. A known number is enough.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        if let Some(method) = text.strip_prefix("M ") {
            return Self::Method(method.trim().to_owned());
        }
        let number = text.split(' ').next().unwrap_or_default();
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let known = number.parse::<usize>().ok().filter(|_| digits);
        known
            .and_then(|number| Self::NUMBERED.get(number).cloned())
            .unwrap_or_else(|| Self::Other(text.to_owned()))
    }

    /// `M` and the name of `method`.
    pub fn of(method: crate::Method) -> Self {
        Self::Method(method.name().to_owned())
    }
}

impl fmt::Display for EventCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bootstrap => "0 BOOTSTRAP",
            Self::Boot => "1 BOOT",
            Self::Periodic => "2 PERIODIC",
            Self::Scheduled => "3 SCHEDULED",
            Self::ValueChange => "4 VALUE CHANGE",
            Self::Kicked => "5 KICKED",
            Self::ConnectionRequest => "6 CONNECTION REQUEST",
            Self::TransferComplete => "7 TRANSFER COMPLETE",
            Self::DiagnosticsComplete => "8 DIAGNOSTICS COMPLETE",
            Self::RequestDownload => "9 REQUEST DOWNLOAD",
            Self::AutonomousTransferComplete => "10 AUTONOMOUS TRANSFER COMPLETE",
            Self::DuStateChangeComplete => "11 DU STATE CHANGE COMPLETE",
            Self::AutonomousDuStateChangeComplete => "12 AUTONOMOUS DU STATE CHANGE COMPLETE",
            Self::Wakeup => "13 WAKEUP",
            Self::Method(name) => return write!(f, "M {name}"),
            Self::Other(text) => text,
        })
    }
}

impl Default for EventCode {
    fn default() -> Self {
        Self::Other(String::new())
    }
}

structure! {
    /// An event and the key of the command that caused it (TR-069 A.3.3.1, Table 8).
    Event as "EventStruct" {
        /// What happened.
        must code: EventCode = "EventCode",
        /// Of the `M` events the CommandKey of the method; empty for others. At most 32 characters.
        may command_key: String = "CommandKey",
    }
}

impl Event {
    /// An event without a key.
    pub fn new(code: EventCode) -> Self {
        Self {
            code,
            command_key: String::new(),
        }
    }

    /// The event `M` of a method, with the key of its call.
    pub fn of(method: crate::Method, command_key: impl Into<String>) -> Self {
        Self {
            code: EventCode::of(method),
            command_key: command_key.into(),
        }
    }
}

impl crate::soap::Field for EventCode {
    fn write(&self, name: &str, writer: &mut Writer) {
        writer.leaf(name, &self.to_string());
    }

    fn read(reader: &mut Reader<'_>, _: &str) -> Result<Self, crate::DecodeError> {
        Ok(Self::parse(&reader.text()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_they_are_written() {
        let named = [
            EventCode::of(crate::Method::Reboot),
            EventCode::Other("X 00D09E Overheated".to_owned()),
            EventCode::Other("14 TELEPORTED".to_owned()),
            EventCode::Other("+1 BOOT".to_owned()),
        ];
        for code in EventCode::NUMBERED.into_iter().chain(named) {
            assert_eq!(EventCode::parse(&code.to_string()), code);
        }
    }

    #[test]
    fn the_number_is_enough() {
        assert_eq!(
            EventCode::parse(" 6 connection request "),
            EventCode::ConnectionRequest
        );
        assert_eq!(EventCode::parse("1"), EventCode::Boot);
    }
}
