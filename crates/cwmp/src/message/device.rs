//! The device itself: Inform, Reboot, and what is rarely used (TR-069 A.3.1, A.3.3.1, A.4).

use crate::{
    DateTime, DecodeError, Event, ParameterValues,
    soap::{Field, Reader, Writer, structure},
};

structure! {
    /// Who a device is.
    DeviceId within "DeviceId" {
        /// The manufacturer's name; for people only.
        may manufacturer: String = "Manufacturer",
        /// Six hexadecimal digits, upper case.
        must oui: String = "OUI",
        /// What the serial number is unique within, together with the OUI; may be empty.
        may product_class: String = "ProductClass",
        /// The serial number.
        must serial_number: String = "SerialNumber",
    }
}

impl Field for DeviceId {
    fn write(&self, name: &str, writer: &mut Writer) {
        writer.open(name);
        self.write_fields(writer);
        writer.close(name);
    }

    fn read(reader: &mut Reader<'_>, _: &str) -> Result<Self, DecodeError> {
        let id = Self::read_fields(reader)?;
        Ok(Self {
            manufacturer: id.manufacturer,
            oui: id.oui.trim().to_owned(),
            product_class: id.product_class,
            serial_number: id.serial_number.trim().to_owned(),
        })
    }
}

structure! {
    /// Begins a session.
    Inform within "Inform" {
        /// Who.
        must device: DeviceId = "DeviceId",
        /// Why; at most 64 events.
        must events: Vec<Event> = "Event",
        /// 1.
        may max_envelopes: u32 = "MaxEnvelopes",
        /// The device's clock.
        may current_time: DateTime = "CurrentTime",
        /// How often this session was tried before.
        may retry_count: u32 = "RetryCount",
        /// The forced parameters, and those that changed.
        may values: ParameterValues = "ParameterList",
    }
}

structure! {
    /// The session goes on.
    InformResponse within "InformResponse" {
        /// 1.
        may max_envelopes: u32 = "MaxEnvelopes",
    }
}

structure! {
    /// Asks which methods the other side has.
    GetRPCMethods within "GetRPCMethods" {}
}

structure! {
    /// The methods, vendors' own with `X_` included.
    GetRPCMethodsResponse within "GetRPCMethodsResponse" {
        /// By name.
        may methods: Vec<String> = "MethodList",
    }
}

structure! {
    /// Restarts the device after the session.
    Reboot within "Reboot" {
        /// Comes back with the event `M Reboot`; at most 32 characters.
        may command_key: String = "CommandKey",
    }
}

structure! {
    /// It will restart.
    RebootResponse within "RebootResponse" {}
}

structure! {
    /// Brings the device back to how it left the factory, after the session.
    FactoryReset within "FactoryReset" {}
}

structure! {
    /// It will be reset.
    FactoryResetResponse within "FactoryResetResponse" {}
}

structure! {
    /// Asks for a session later.
    ScheduleInform within "ScheduleInform" {
        /// Seconds from now; more than 0.
        must delay_seconds: u32 = "DelaySeconds",
        /// Comes back with the event `M ScheduleInform`; at most 32 characters.
        may command_key: String = "CommandKey",
    }
}

structure! {
    /// There will be a session.
    ScheduleInformResponse within "ScheduleInformResponse" {}
}

structure! {
    /// Gives the device vouchers for options (TR-069 Annex C; legacy).
    SetVouchers within "SetVouchers" {
        /// Each a signed XML document.
        must vouchers: Vec<Vec<u8>> = "VoucherList",
    }
}

structure! {
    /// The vouchers are taken.
    SetVouchersResponse within "SetVouchersResponse" {}
}

structure! {
    /// Asks for the options of the device (legacy).
    GetOptions within "GetOptions" {
        /// Of one option, or empty for all.
        may name: String = "OptionName",
    }
}

structure! {
    /// An option.
    DeviceOption as "OptionStruct" {
        /// Its name; at most 64 characters.
        must name: String = "OptionName",
        /// Serial number of its voucher.
        may voucher_serial_number: u32 = "VoucherSN",
        /// 0 to 3: whether it is enabled and set up.
        may state: u32 = "State",
        /// 0: disabled, 1: enabled with an end, 2: enabled for ever.
        may mode: i32 = "Mode",
        /// From when.
        may start_date: DateTime = "StartDate",
        /// Until when.
        may expiration_date: Option<DateTime> = "ExpirationDate",
        /// 1 when it stays with the owner rather than the device.
        may is_transferable: i32 = "IsTransferable",
    }
}

structure! {
    /// The options.
    GetOptionsResponse within "GetOptionsResponse" {
        /// As asked for.
        may options: Vec<DeviceOption> = "OptionList",
    }
}

structure! {
    /// A browser was sent to the CPE by a page of the ACS (TR-069 Annex D).
    Kicked within "Kicked" {
        /// What it is about; at most 32 characters.
        may command: String = "Command",
        /// The page; at most 64 characters.
        may referer: String = "Referer",
        /// For the command; at most 256 characters.
        may argument: String = "Arg",
        /// Where the browser would go next.
        may next: String = "Next",
    }
}

structure! {
    /// Where the browser is sent.
    KickedResponse within "KickedResponse" {
        /// The URL.
        may next_url: String = "NextURL",
    }
}
