//! The ten parameters of UDPConnReq:1 in `Device.ManagementServer.` (TR-111 Part 2 Table 6).

use homefleet_model::{
    schema::{Object, Param},
    value::Type,
};

use crate::local_agent::schema::NUMBER;

/// The object.
pub static OBJECTS: &[Object] = &[Object {
    path: crate::cwmp::OBJECT,
    params: &[
        Param::ro("UDPConnectionRequestAddress", Type::string(256)),
        Param::rw("UDPConnectionRequestAddressNotificationLimit", NUMBER),
        Param::rw("STUNEnable", Type::Boolean).default("false"),
        Param::rw("STUNServerAddress", Type::string(256)),
        Param::rw("STUNServerPort", Type::UnsignedIntIn(0, 65_535)).default("3478"),
        Param::rw("STUNUsername", Type::string(256)),
        Param::rw("STUNPassword", Type::string(256)).secret(),
        Param::rw("STUNMaximumKeepAlivePeriod", Type::IntIn(-1, i32::MAX)).default("-1"),
        Param::rw("STUNMinimumKeepAlivePeriod", Type::UnsignedInt).default("30"),
        Param::ro("NATDetected", Type::Boolean).default("false"),
    ],
    ..Object::EMPTY
}];
