//! The objects that the agent's core owns: `Device.` and `Device.LocalAgent.`, as in TR-181 Device:2.16.

use homefleet_model::{
    schema::{Command, Event, Object, ObjectAccess, Param},
    value::{ListType, Strength, Type},
};

use super::transports::PROTOCOL_LIST;

static REFERENCES: ListType = ListType {
    item: Type::string(256),
    ..ListType::of(Type::STRING)
};
static ROLES: ListType = ListType::of(Type::Reference(Strength::Strong));
static ONE_ROLE: ListType = ListType {
    max_items: Some(1),
    ..ListType::of(Type::Reference(Strength::Strong))
};
static CERTIFICATES: ListType = ListType::of(Type::Reference(Strength::Strong));
/// Bounded, because every request of a restricted Controller is compared with it.
static TARGETS: ListType = ListType {
    max: Some(4096),
    ..ListType::of(Type::STRING)
};
static FINGERPRINTS: ListType = ListType::of(Type::Enum(&[
    "SHA-1", "SHA-224", "SHA-256", "SHA-384", "SHA-512",
]));

/// Version of the root data model (`Device.RootDataModelVersion`).
pub const ROOT_DATA_MODEL_VERSION: &str = "2.16";

/// URI of the data model, as GetSupportedDM reports it.
pub const DATA_MODEL_URI: &str = "urn:broadband-forum-org:tr-181-2-16-0-usp";

pub(super) const PORT: Type = Type::UnsignedIntIn(1, 65_535);
pub(crate) const NUMBER: Type = Type::UnsignedInt;

/// `rwxn`, with `-` for what is not granted; its form is checked beside the type.
const PERMISSION: Type = Type::string(4);
const NOTHING: &str = "----";

pub(crate) const fn alias() -> Param {
    Param::rw("Alias", Type::string(64))
}

pub(crate) const fn enable() -> Param {
    Param::rw("Enable", Type::Boolean).default("false")
}

/// Everything the core declares.
pub static OBJECTS: &[Object] = &[
    Object {
        path: "Device.",
        params: &[
            Param::ro("RootDataModelVersion", Type::string(32)).default(ROOT_DATA_MODEL_VERSION)
        ],
        commands: &[
            Command {
                name: "Reboot()",
                is_async: false,
                input: &[],
                output: &[],
            },
            Command {
                name: "FactoryReset()",
                is_async: false,
                input: &[],
                output: &[],
            },
        ],
        events: &[Event {
            name: "Boot!",
            args: &["CommandKey", "Cause", "FirmwareUpdated", "ParameterMap"],
        }],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.",
        params: &[
            Param::ro("EndpointID", Type::STRING),
            Param::ro("SoftwareVersion", Type::string(64)).default(env!("CARGO_PKG_VERSION")),
            Param::ro("UpTime", NUMBER).quiet(),
            Param::ro("SupportedProtocols", Type::list(&PROTOCOL_LIST))
                .default("CoAP,MQTT,STOMP,UDS,WebSocket"),
            Param::ro("SupportedFingerprintAlgorithms", Type::list(&FINGERPRINTS))
                .default("SHA-256"),
            Param::ro("MTPNumberOfEntries", NUMBER),
            Param::ro("ControllerNumberOfEntries", NUMBER),
            Param::ro("CertificateNumberOfEntries", NUMBER),
            Param::ro("SubscriptionNumberOfEntries", NUMBER),
            Param::ro("RequestNumberOfEntries", NUMBER),
            Param::ro("SupportedNumberOfSubscriptions", Type::Int).default("-1"),
        ],
        commands: &[Command {
            name: "AddCertificate()",
            is_async: false,
            input: &["Alias", "Certificate"],
            output: &[],
        }],
        events: &[Event {
            name: "Periodic!",
            args: &[],
        }],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.Controller.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["EndpointID"], &["Alias"]],
        params: &[
            alias(),
            Param::rw("EndpointID", Type::STRING),
            Param::rw("ControllerCode", Type::string(128)),
            Param::rw("ProvisioningCode", Type::string(64)),
            enable(),
            Param::rw("PeriodicNotifInterval", Type::UnsignedIntIn(1, u32::MAX)).default("86400"),
            Param::rw("PeriodicNotifTime", Type::DateTime),
            Param::rw(
                "USPNotifRetryMinimumWaitInterval",
                Type::UnsignedIntIn(1, 65_535),
            )
            .default("5"),
            Param::rw(
                "USPNotifRetryIntervalMultiplier",
                Type::UnsignedIntIn(1000, 65_535),
            )
            .default("2000"),
            Param::rw("Credential", Type::list(&CERTIFICATES)),
            Param::rw("AssignedRole", Type::list(&ROLES)),
            Param::ro("InheritedRole", Type::list(&ROLES)),
            Param::ro("MTPNumberOfEntries", NUMBER),
            Param::ro("BootParameterNumberOfEntries", NUMBER),
        ],
        commands: &[
            Command {
                name: "AddMyCertificate()",
                is_async: false,
                input: &["Alias", "Certificate"],
                output: &[],
            },
            Command {
                name: "SendOnBoardRequest()",
                is_async: false,
                input: &[],
                output: &[],
            },
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.Controller.{i}.BootParameter.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["ParameterName"], &["Alias"]],
        params: &[
            alias(),
            enable(),
            Param::rw("ParameterName", Type::string(256)),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.Certificate.{i}.",
        unique_keys: &[&["SerialNumber", "Issuer"], &["Alias"]],
        params: &[
            alias(),
            Param::rw("Enable", Type::Boolean).default("true"),
            Param::ro("SerialNumber", Type::string(64)),
            Param::ro("Issuer", Type::string(256)),
        ],
        commands: &[
            Command {
                name: "Delete()",
                is_async: false,
                input: &[],
                output: &[],
            },
            Command {
                name: "GetFingerprint()",
                is_async: false,
                input: &["FingerprintAlgorithm"],
                output: &["Fingerprint"],
            },
        ],
        ..Object::EMPTY
    },
    Object {
        // Challenges and SecuredRoles are not offered.
        path: "Device.LocalAgent.ControllerTrust.",
        params: &[
            Param::rw("UntrustedRole", Type::list(&ONE_ROLE)),
            Param::rw("BannedRole", Type::Reference(Strength::Strong)),
            Param::rw("TOFUAllowed", Type::Boolean).default("false"),
            Param::rw("TOFUInactivityTimer", NUMBER).default("60"),
            Param::ro("RoleNumberOfEntries", NUMBER),
            Param::ro("CredentialNumberOfEntries", NUMBER),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.ControllerTrust.Role.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["Name"], &["Alias"]],
        params: &[
            alias(),
            enable(),
            Param::rw("Name", Type::string(64)),
            Param::ro("PermissionNumberOfEntries", NUMBER),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.ControllerTrust.Role.{i}.Permission.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["Order"], &["Alias"]],
        params: &[
            alias(),
            enable(),
            Param::rw("Order", NUMBER).default("0"),
            Param::rw("Targets", Type::list(&TARGETS)),
            Param::rw("Param", PERMISSION).default(NOTHING),
            Param::rw("Obj", PERMISSION).default(NOTHING),
            Param::rw("InstantiatedObj", PERMISSION).default(NOTHING),
            Param::rw("CommandEvent", PERMISSION).default(NOTHING),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.ControllerTrust.Credential.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["Credential"], &["Alias"]],
        params: &[
            alias(),
            enable(),
            Param::rw("Role", Type::list(&ROLES)),
            Param::rw("Credential", Type::Reference(Strength::Strong)),
            Param::rw(
                "AllowedUses",
                Type::Enum(&["MTP-only", "MTP-and-USP", "MTP-and-broker"]),
            ),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.Subscription.{i}.",
        access: ObjectAccess::AddDelete,
        unique_keys: &[&["Alias"], &["Recipient", "ID"]],
        params: &[
            alias(),
            enable(),
            Param::ro("Recipient", Type::Reference(Strength::Strong)),
            Param::rw("ID", Type::string(64)),
            Param::ro("CreationDate", Type::DateTime),
            Param::rw(
                "NotifType",
                Type::Enum(&[
                    "ValueChange",
                    "ObjectCreation",
                    "ObjectDeletion",
                    "OperationComplete",
                    "Event",
                ]),
            ),
            Param::rw("ReferenceList", Type::list(&REFERENCES)),
            Param::rw("Persistent", Type::Boolean).default("false"),
            Param::rw("TimeToLive", NUMBER).default("0"),
            Param::rw("NotifRetry", Type::Boolean).default("false"),
            Param::rw("NotifExpiration", NUMBER).default("0"),
        ],
        ..Object::EMPTY
    },
    Object {
        path: "Device.LocalAgent.Request.{i}.",
        unique_keys: &[&["Originator", "Command", "CommandKey"], &["Alias"]],
        params: &[
            alias(),
            Param::ro("Originator", Type::STRING),
            Param::ro("Command", Type::STRING),
            Param::ro("CommandKey", Type::STRING),
            Param::ro(
                "Status",
                Type::Enum(&[
                    "Requested",
                    "Active",
                    "Canceling",
                    "Canceled",
                    "Success",
                    "Error",
                ]),
            )
            .default("Requested"),
        ],
        commands: &[Command {
            name: "Cancel()",
            is_async: false,
            input: &[],
            output: &[],
        }],
        ..Object::EMPTY
    },
];
