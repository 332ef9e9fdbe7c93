//! `Device.ManagementServer.` (TR-181 Device:2.17), without what other modules add to it.

use homefleet_model::{
    schema::{Object, Param},
    value::{ListType, Type},
};

use crate::local_agent::schema::NUMBER;

static METHODS: ListType = ListType::of(Type::Enum(&["HTTP", "XMPP"]));

/// What an ACS is told at once unless it says otherwise (TR-069 A.3.2.4, TR-111 §2.2.3), by supported paths. Those that a device
/// does not have do not count.
pub const DEFAULT_ACTIVE: &[&str] = &[
    "Device.DeviceInfo.SoftwareVersion",
    "Device.DeviceInfo.ProvisioningCode",
    "Device.ManagementServer.ConnectionRequestURL",
    "Device.ManagementServer.UDPConnectionRequestAddress",
    "Device.GatewayInfo.ManufacturerOUI",
    "Device.GatewayInfo.SerialNumber",
    "Device.GatewayInfo.ProductClass",
];

/// What is in every Inform (TR-181 Device:2.17 `forcedInform`, TR-069 §3.7.1.5), by names of the tree.
pub const FORCED: &[&str] = &[
    "Device.RootDataModelVersion",
    "Device.DeviceInfo.HardwareVersion",
    "Device.DeviceInfo.SoftwareVersion",
    "Device.DeviceInfo.ProvisioningCode",
    "Device.ManagementServer.ParameterKey",
    "Device.ManagementServer.ConnectionRequestURL",
    "Device.ManagementServer.AliasBasedAddressing",
];

/// The object.
pub static OBJECTS: &[Object] = &[Object {
    path: super::OBJECT,
    params: &[
        Param::rw("EnableCWMP", Type::Boolean).default("false"),
        Param::rw("URL", Type::string(2048)),
        Param::rw("Username", Type::string(256)),
        Param::rw("Password", Type::string(256)).secret(),
        Param::rw("PeriodicInformEnable", Type::Boolean).default("true"),
        Param::rw("PeriodicInformInterval", Type::UnsignedIntIn(1, u32::MAX)).default("86400"),
        Param::rw("PeriodicInformTime", Type::DateTime),
        Param::ro("ParameterKey", Type::string(32)).quiet(),
        Param::ro("ConnectionRequestURL", Type::string(2048)),
        Param::rw("ConnectionRequestUsername", Type::string(256)),
        Param::rw("ConnectionRequestPassword", Type::string(256)).secret(),
        Param::rw("UpgradesManaged", Type::Boolean).default("true"),
        Param::rw("DefaultActiveNotificationThrottle", NUMBER),
        Param::rw(
            "CWMPRetryMinimumWaitInterval",
            Type::UnsignedIntIn(1, 65_535),
        )
        .default("5"),
        Param::rw(
            "CWMPRetryIntervalMultiplier",
            Type::UnsignedIntIn(1000, 65_535),
        )
        .default("2000"),
        Param::rw("HTTPConnectionRequestEnable", Type::Boolean).default("true"),
        Param::ro("SupportedConnReqMethods", Type::list(&METHODS)).default("HTTP"),
        Param::ro("AliasBasedAddressing", Type::Boolean).default("false"),
    ],
    ..Object::EMPTY
}];
