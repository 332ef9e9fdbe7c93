//! What the live stream `/api/v1/events` tells.
//!
//! Each server-sent event carries one [`Event`] as JSON in `data:`, and its kind in `event:`
//! (`association`, `device`, `task`, `notification`, `parameter`, `telemetry`, `missed`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Association, DeviceSummary, Task, Timestamp};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// What is known of a device's gateway changed.
    Association {
        /// When.
        time: Timestamp,
        /// As it is now.
        association: Association,
    },
    /// A device was registered, heard, changed or removed.
    Device {
        /// What happened to it.
        change: DeviceChange,
        /// The device as it is now.
        device: DeviceSummary,
    },
    /// The listener was too slow: this many events were not sent to it.
    Missed {
        /// How many.
        count: u64,
    },
    /// A device notified the server.
    Notification {
        /// Endpoint ID.
        device: String,
        /// When it arrived.
        time: Timestamp,
        /// Subscription it belongs to; empty for OnBoardRequest.
        subscription_id: String,
        /// What it says.
        notification: Notification,
    },
    /// A value was learned that differs from the one stored.
    Parameter {
        /// Endpoint ID.
        device: String,
        /// Full path.
        path: String,
        /// New value.
        value: String,
        /// When it was stated.
        seen: Timestamp,
    },
    /// A task changed its state.
    Task {
        /// The task as it is now.
        task: Task,
    },
    /// Telemetry of a device came: told about once a second at most.
    Telemetry {
        /// Endpoint ID.
        device: String,
        /// When the last of it came.
        time: Timestamp,
        /// Messages since this was told last.
        messages: u64,
    },
}

impl Event {
    /// The kind, as in the `event:` field.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Association { .. } => "association",
            Self::Device { .. } => "device",
            Self::Missed { .. } => "missed",
            Self::Notification { .. } => "notification",
            Self::Parameter { .. } => "parameter",
            Self::Task { .. } => "task",
            Self::Telemetry { .. } => "telemetry",
        }
    }

    /// Endpoint ID of the device it is about.
    pub fn device(&self) -> Option<&str> {
        match self {
            Self::Association { association, .. } => Some(&association.device),
            Self::Device { device, .. } => Some(&device.id),
            Self::Missed { .. } => None,
            Self::Notification { device, .. }
            | Self::Parameter { device, .. }
            | Self::Telemetry { device, .. } => Some(device),
            Self::Task { task } => Some(&task.device),
        }
    }
}

/// What happened to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceChange {
    /// It was heard.
    Contact,
    /// Something sent to it failed.
    Failure,
    /// It was heard for the first time.
    Registered,
    /// It was removed from the registry.
    Removed,
    /// What is known of it changed.
    Updated,
}

/// What a Notify message says (TR-369 "Notify").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Notification {
    /// An event of the data model.
    Event {
        /// Object path.
        object: String,
        /// Event name, for example `Boot!`.
        event: String,
        /// Arguments.
        params: BTreeMap<String, String>,
    },
    /// An object was created.
    ObjectCreation {
        /// Its path.
        path: String,
        /// Its unique keys.
        unique_keys: BTreeMap<String, String>,
    },
    /// An object was deleted.
    ObjectDeletion {
        /// Its path.
        path: String,
    },
    /// The device introduced itself.
    OnBoardRequest {
        /// OUI.
        oui: String,
        /// Product class.
        product_class: String,
        /// Serial number.
        serial_number: String,
        /// Versions of USP its Agent supports.
        protocol_versions: Vec<String>,
    },
    /// An asynchronous command ended.
    OperationComplete {
        /// Object path.
        object: String,
        /// Command name.
        command: String,
        /// Key given when it was started.
        command_key: String,
        /// Output arguments of a success.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<BTreeMap<String, String>>,
        /// Failure.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<crate::PathError>,
    },
    /// A parameter changed its value.
    ValueChange {
        /// Parameter path.
        path: String,
        /// New value.
        value: String,
    },
}
