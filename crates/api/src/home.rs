//! Homes: which device is behind which gateway, as both say and the server cross-checked (TR-111 Part 1).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{DeviceSummary, Timestamp};

/// What names a device or gateway on its own network (TR-111 Part 1 §1.2.5).
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, ToSchema,
)]
pub struct LocalIdentity {
    /// Manufacturer's OUI.
    pub oui: String,
    /// Serial number.
    pub serial_number: String,
    /// Product class; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub product_class: String,
}

impl std::fmt::Display for LocalIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.oui)?;
        if !self.product_class.is_empty() {
            write!(f, "-{}", self.product_class)?;
        }
        write!(f, "-{}", self.serial_number)
    }
}

/// The gateway that a device says it is behind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct GatewayClaim {
    /// What the gateway told the device by DHCP.
    #[serde(flatten)]
    pub identity: LocalIdentity,
    /// The gateway's Endpoint ID, where the device knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_id: Option<String>,
}

/// What the server knows of a claim.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AssociationStatus {
    /// The gateway is being asked.
    Checking,
    /// The gateway lists the device with every element of its identity.
    Confirmed,
    /// It was confirmed; the gateway lists the device no longer, or the device names no gateway any more.
    Left,
    /// The gateway does not list the device.
    Refuted,
    /// It cannot be found out.
    Unverifiable,
}

impl AssociationStatus {
    /// All, as the API orders them.
    pub const ALL: [Self; 5] = [
        Self::Checking,
        Self::Confirmed,
        Self::Left,
        Self::Refuted,
        Self::Unverifiable,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Checking => "checking",
            Self::Confirmed => "confirmed",
            Self::Left => "left",
            Self::Refuted => "refuted",
            Self::Unverifiable => "unverifiable",
        }
    }
}

impl std::fmt::Display for AssociationStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for AssociationStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| {
                format!(
                    "found `{text}`, expected checking, confirmed, left, refuted or unverifiable"
                )
            })
    }
}

/// Why a claim cannot be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnverifiableReason {
    /// Several devices say that they are this gateway.
    AmbiguousGateway,
    /// The device is in quarantine.
    DeviceQuarantined,
    /// The device did not say who it is, or says otherwise than its name does.
    DeviceUnidentified,
    /// The gateway is in quarantine.
    GatewayQuarantined,
    /// The gateway could not be asked.
    GatewayUnreachable,
    /// What the device says is no identity of a gateway.
    MalformedClaim,
    /// The gateway keeps no table of devices.
    NoTable,
    /// Nobody stands for the device or the gateway: it came over a channel without security.
    Unauthenticated,
    /// No such gateway is known.
    UnknownGateway,
}

/// An element of the device's identity in which the gateway's table differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IdentityDifference {
    /// `ManufacturerOUI`, `SerialNumber` or `ProductClass`.
    pub element: String,
    /// As the device says.
    pub device: String,
    /// As the gateway's closest entry says.
    pub gateway: String,
}

/// A device and the gateway it says it is behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Association {
    /// Endpoint ID of the device.
    pub device: String,
    /// What is known of the claim.
    pub status: AssociationStatus,
    /// What the device says; absent when it names no gateway any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<GatewayClaim>,
    /// Endpoint ID of the gateway that is meant, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Why it cannot be checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<UnverifiableReason>,
    /// The status in words.
    pub detail: String,
    /// Of a refuted claim: how the gateway's closest entry differs; empty when none is close.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<IdentityDifference>,
    /// When the device first said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed: Option<Timestamp>,
    /// Since when it has this status.
    pub since: Timestamp,
    /// When the gateway's table was last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Timestamp>,
    /// Endpoint ID of the gateway of the last claim that was confirmed and holds still. It differs from `gateway` while another claim is not confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub associated: Option<String>,
    /// What it was before, the newest first; only where one association is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<AssociationChange>,
}

/// What an association came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AssociationChange {
    /// When.
    pub time: Timestamp,
    /// To what.
    pub status: AssociationStatus,
    /// The gateway as the device named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<GatewayClaim>,
    /// Endpoint ID of the gateway, where it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// In words.
    pub detail: String,
}

/// A page of associations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AssociationPage {
    /// In the order of the devices' Endpoint IDs.
    pub associations: Vec<Association>,
    /// `after` of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How many claims name a gateway, by status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct AssociationCounts {
    /// Being checked.
    pub checking: u32,
    /// Confirmed.
    pub confirmed: u32,
    /// Left.
    pub left: u32,
    /// Refuted.
    pub refuted: u32,
    /// Not to be found out.
    pub unverifiable: u32,
}

impl AssociationCounts {
    /// Counts one more.
    pub fn add(&mut self, status: AssociationStatus) {
        let count = self.of(status);
        *count = count.saturating_add(1);
    }

    /// Counts one less.
    pub fn remove(&mut self, status: AssociationStatus) {
        let count = self.of(status);
        *count = count.saturating_sub(1);
    }

    fn of(&mut self, status: AssociationStatus) -> &mut u32 {
        match status {
            AssociationStatus::Checking => &mut self.checking,
            AssociationStatus::Confirmed => &mut self.confirmed,
            AssociationStatus::Left => &mut self.left,
            AssociationStatus::Refuted => &mut self.refuted,
            AssociationStatus::Unverifiable => &mut self.unverifiable,
        }
    }
}

/// One line of the list of homes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HomeSummary {
    /// The gateway.
    pub gateway: DeviceSummary,
    /// The claims that name it.
    pub devices: AssociationCounts,
    /// How many devices it lists itself; absent when its table is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<u32>,
    /// When its table was last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Timestamp>,
    /// Why its table could not be read last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A page of homes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HomePage {
    /// In the order of the gateways' Endpoint IDs.
    pub homes: Vec<HomeSummary>,
    /// All claims, by status, those that name no gateway that is known among them.
    pub claims: AssociationCounts,
    /// `after` of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A device of a home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HomeMember {
    /// The device.
    pub device: DeviceSummary,
    /// What is known of its claim.
    pub association: Association,
}

/// A device that the gateway lists and that does not itself say that it is behind this gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HomeStranger {
    /// As the gateway lists it.
    pub identity: LocalIdentity,
    /// Endpoint ID of the device that is called so, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// A gateway and the devices behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Home {
    /// The line of the list.
    #[serde(flatten)]
    pub summary: HomeSummary,
    /// Devices that say they are behind it, in the order of their Endpoint IDs.
    pub members: Vec<HomeMember>,
    /// Devices that it lists and that do not say so.
    pub strangers: Vec<HomeStranger>,
    /// Members and strangers that are not shown, because there are too many.
    pub more: u32,
}
