//! Parameters, their attributes, and objects (TR-069 A.3.2.1 to A.3.2.7).

use crate::{
    DecodeError, ParameterValues,
    soap::{Field, Reader, Writer, argument, structure},
    value::ParameterInfos,
};

/// Whether a change is in effect already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// 0: done.
    #[default]
    Applied,
    /// 1: checked and kept, but not in effect yet; of transfers, that TransferComplete will tell.
    Pending,
}

impl Field for Status {
    fn write(&self, name: &str, writer: &mut Writer) {
        writer.leaf(name, if *self == Self::Applied { "0" } else { "1" });
    }

    fn read(reader: &mut Reader<'_>, name: &str) -> Result<Self, DecodeError> {
        let text = reader.text()?;
        match text.trim() {
            "0" | "" => Ok(Self::Applied),
            "1" => Ok(Self::Pending),
            _ => Err(argument(name, &text, "0 or 1")),
        }
    }
}

/// What is told about changes of a parameter (TR-069 A.3.2.4, Table 22).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Notification {
    /// 0: nothing.
    #[default]
    Off,
    /// 1: with the next session.
    Passive,
    /// 2: at once, in a session of its own.
    Active,
    /// 3: with the next lightweight notification.
    PassiveLightweight,
    /// 4: 1 and 3.
    PassiveWithPassiveLightweight,
    /// 5: at once, as a lightweight notification.
    ActiveLightweight,
    /// 6: 1 and 5.
    PassiveWithActiveLightweight,
}

impl Notification {
    /// All, by their numbers.
    pub const ALL: [Self; 7] = [
        Self::Off,
        Self::Passive,
        Self::Active,
        Self::PassiveLightweight,
        Self::PassiveWithPassiveLightweight,
        Self::ActiveLightweight,
        Self::PassiveWithActiveLightweight,
    ];

    /// 0 to 6.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Whether a change goes into an Inform at all.
    pub const fn is_informed(self) -> bool {
        !matches!(
            self,
            Self::Off | Self::PassiveLightweight | Self::ActiveLightweight
        )
    }

    /// Whether a change begins a session.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Active)
    }
}

impl Field for Notification {
    fn write(&self, name: &str, writer: &mut Writer) {
        writer.leaf(name, &self.number().to_string());
    }

    fn read(reader: &mut Reader<'_>, name: &str) -> Result<Self, DecodeError> {
        let text = reader.text()?;
        let number = match text.trim() {
            "" => Some(0),
            digits => digits.parse::<usize>().ok(),
        };
        number
            .and_then(|number| Self::ALL.get(number).copied())
            .ok_or_else(|| argument(name, &text, "0 to 6"))
    }
}

structure! {
    /// Changes values, all or none.
    SetParameterValues within "SetParameterValues" {
        /// Full names with their new values.
        must values: ParameterValues = "ParameterList",
        /// What the ParameterKey is after it; at most 32 characters.
        may parameter_key: String = "ParameterKey",
    }
}

structure! {
    /// All values are changed.
    SetParameterValuesResponse within "SetParameterValuesResponse" {
        /// Whether they are in effect.
        may status: Status = "Status",
    }
}

structure! {
    /// Reads values.
    GetParameterValues within "GetParameterValues" {
        /// Names, or paths with a trailing dot for all that is below.
        must names: Vec<String> = "ParameterNames",
    }
}

structure! {
    /// Full names with their values.
    GetParameterValuesResponse within "GetParameterValuesResponse" {
        /// What was asked for.
        may values: ParameterValues = "ParameterList",
    }
}

structure! {
    /// Lists what there is.
    GetParameterNames within "GetParameterNames" {
        /// A name, a path with a trailing dot, or nothing for all.
        may path: String = "ParameterPath",
        /// Only what is directly below.
        may next_level: bool = "NextLevel",
    }
}

structure! {
    /// What there is.
    GetParameterNamesResponse within "GetParameterNamesResponse" {
        /// Names, those of objects with a trailing dot.
        may infos: ParameterInfos = "ParameterList",
    }
}

structure! {
    /// New attributes of parameters.
    SetAttributes as "SetParameterAttributesStruct" {
        /// A name, or a path with a trailing dot for all that is below.
        must name: String = "Name",
        /// Whether `notification` counts.
        may notification_change: bool = "NotificationChange",
        /// What is told about changes.
        may notification: Notification = "Notification",
        /// Whether `access_list` counts.
        may access_list_change: bool = "AccessListChange",
        /// Who else may write: `Subscriber`, or nobody.
        may access_list: Vec<String> = "AccessList",
    }
}

structure! {
    /// Changes attributes.
    SetParameterAttributes within "SetParameterAttributes" {
        /// In order: a later one goes over an earlier.
        must attributes: Vec<SetAttributes> = "ParameterList",
    }
}

structure! {
    /// Attributes are changed.
    SetParameterAttributesResponse within "SetParameterAttributesResponse" {}
}

structure! {
    /// Reads attributes.
    GetParameterAttributes within "GetParameterAttributes" {
        /// Names, or paths with a trailing dot.
        must names: Vec<String> = "ParameterNames",
    }
}

structure! {
    /// Attributes of a parameter.
    Attributes as "ParameterAttributeStruct" {
        /// Its full name.
        must name: String = "Name",
        /// What is told about changes.
        may notification: Notification = "Notification",
        /// Who else may write.
        may access_list: Vec<String> = "AccessList",
    }
}

structure! {
    /// Attributes as asked for.
    GetParameterAttributesResponse within "GetParameterAttributesResponse" {
        /// One for each parameter.
        may attributes: Vec<Attributes> = "ParameterList",
    }
}

structure! {
    /// Makes an instance of an object.
    AddObject within "AddObject" {
        /// The object's path with a trailing dot, without an instance.
        must object: String = "ObjectName",
        /// What the ParameterKey is after it; at most 32 characters.
        may parameter_key: String = "ParameterKey",
    }
}

structure! {
    /// The instance is made.
    AddObjectResponse within "AddObjectResponse" {
        /// Its number, from 1.
        must instance: u32 = "InstanceNumber",
        /// Whether it is in effect.
        may status: Status = "Status",
    }
}

structure! {
    /// Removes an instance of an object.
    DeleteObject within "DeleteObject" {
        /// The instance's path with a trailing dot.
        must object: String = "ObjectName",
        /// What the ParameterKey is after it; at most 32 characters.
        may parameter_key: String = "ParameterKey",
    }
}

structure! {
    /// The instance is removed.
    DeleteObjectResponse within "DeleteObjectResponse" {
        /// Whether that is in effect.
        may status: Status = "Status",
    }
}
