//! The RPCs by name.

use std::{fmt, str::FromStr};

use crate::Version;

/// Who can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee {
    /// Only the ACS.
    Acs,
    /// Either side.
    Both,
    /// Only the CPE.
    Cpe,
}

macro_rules! methods {
    ($($variant:ident = $name:literal, $callee:ident, $since:ident;)*) => {
        /// An RPC (TR-069 A.3 and A.4).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Method {
            $(#[doc = concat!("`", $name, "`.")] $variant,)*
        }

        impl Method {
            /// All, in the order of TR-069.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// As in `GetRPCMethodsResponse`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Who can be asked.
            pub const fn callee(self) -> Callee {
                match self {
                    $(Self::$variant => Callee::$callee,)*
                }
            }

            /// The first version that has it.
            pub const fn since(self) -> Version {
                match self {
                    $(Self::$variant => Version::$since,)*
                }
            }
        }
    };
}

methods! {
    GetRpcMethods = "GetRPCMethods", Both, V1_0;
    SetParameterValues = "SetParameterValues", Cpe, V1_0;
    GetParameterValues = "GetParameterValues", Cpe, V1_0;
    GetParameterNames = "GetParameterNames", Cpe, V1_0;
    SetParameterAttributes = "SetParameterAttributes", Cpe, V1_0;
    GetParameterAttributes = "GetParameterAttributes", Cpe, V1_0;
    AddObject = "AddObject", Cpe, V1_0;
    DeleteObject = "DeleteObject", Cpe, V1_0;
    Reboot = "Reboot", Cpe, V1_0;
    Download = "Download", Cpe, V1_0;
    ScheduleDownload = "ScheduleDownload", Cpe, V1_2;
    Upload = "Upload", Cpe, V1_0;
    FactoryReset = "FactoryReset", Cpe, V1_0;
    GetQueuedTransfers = "GetQueuedTransfers", Cpe, V1_0;
    GetAllQueuedTransfers = "GetAllQueuedTransfers", Cpe, V1_1;
    CancelTransfer = "CancelTransfer", Cpe, V1_2;
    ScheduleInform = "ScheduleInform", Cpe, V1_0;
    ChangeDuState = "ChangeDUState", Cpe, V1_2;
    SetVouchers = "SetVouchers", Cpe, V1_0;
    GetOptions = "GetOptions", Cpe, V1_0;
    Inform = "Inform", Acs, V1_0;
    TransferComplete = "TransferComplete", Acs, V1_0;
    AutonomousTransferComplete = "AutonomousTransferComplete", Acs, V1_1;
    DuStateChangeComplete = "DUStateChangeComplete", Acs, V1_2;
    AutonomousDuStateChangeComplete = "AutonomousDUStateChangeComplete", Acs, V1_2;
    RequestDownload = "RequestDownload", Acs, V1_0;
    Kicked = "Kicked", Acs, V1_0;
}

impl Method {
    /// The methods that the ACS can be asked for.
    pub fn of_acs() -> impl Iterator<Item = Self> {
        let all = Self::ALL.iter().copied();
        all.filter(|method| method.callee() != Callee::Cpe)
    }

    /// The methods that the CPE can be asked for.
    pub fn of_cpe() -> impl Iterator<Item = Self> {
        let all = Self::ALL.iter().copied();
        all.filter(|method| method.callee() != Callee::Acs)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no method of TR-069; vendors have their own, which begin with `X_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no method of TR-069")]
pub struct UnknownMethod;

impl FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(name: &str) -> Result<Self, UnknownMethod> {
        let mut all = Self::ALL.iter().copied();
        all.find(|method| method.name() == name)
            .ok_or(UnknownMethod)
    }
}
