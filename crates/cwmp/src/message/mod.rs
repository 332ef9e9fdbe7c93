//! Every RPC as a type.
//!
//! | module | methods |
//! |---|---|
//! | [`parameters`] | reading, writing and listing parameters, their attributes; objects |
//! | [`transfers`] | files: Download, Upload, their queue and their completion |
//! | [`software`] | ChangeDUState and its completion |
//! | [`device`] | Inform, Reboot, ScheduleInform, options, vouchers, Kicked, GetRPCMethods |

pub mod device;
mod method;
pub mod parameters;
pub mod software;
pub mod transfers;

pub use device::*;
pub use method::{Callee, Method, UnknownMethod};
pub use parameters::*;
pub use software::*;
pub use transfers::*;

use crate::{
    DecodeError, Fault,
    error::shortened,
    soap::{Reader, Writer},
};

/// A message: a request, a response, or a fault in its place.
macro_rules! messages {
    ($($method:ident: $request:ident, $response:ident;)*) => {
        /// What stands in the body of an envelope.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Message {
            $(
                #[doc = concat!("The request of [`Method::", stringify!($method), "`].")]
                $request($request),
                #[doc = concat!("The response of [`Method::", stringify!($method), "`].")]
                $response($response),
            )*
            /// A fault instead of a response.
            Fault(Fault),
        }

        impl Message {
            /// Which RPC it belongs to; `None` for a fault.
            pub fn method(&self) -> Option<Method> {
                match self {
                    $(Self::$request(_) | Self::$response(_) => Some(Method::$method),)*
                    Self::Fault(_) => None,
                }
            }

            /// Whether it asks for a response.
            pub fn is_request(&self) -> bool {
                matches!(self, $(Self::$request(_))|*)
            }

            /// The local name of its element.
            pub fn name(&self) -> &'static str {
                match self {
                    $(
                        Self::$request(_) => stringify!($request),
                        Self::$response(_) => stringify!($response),
                    )*
                    Self::Fault(_) => "Fault",
                }
            }

            pub(crate) fn write(&self, writer: &mut Writer) {
                match self {
                    $(
                        Self::$request(message) => {
                            writer.open(concat!("cwmp:", stringify!($request)));
                            message.write_fields(writer);
                            writer.close(concat!("cwmp:", stringify!($request)));
                        }
                        Self::$response(message) => {
                            writer.open(concat!("cwmp:", stringify!($response)));
                            message.write_fields(writer);
                            writer.close(concat!("cwmp:", stringify!($response)));
                        }
                    )*
                    Self::Fault(fault) => fault.write(writer),
                }
            }

            /// Reads the content of the element with this local name.
            pub(crate) fn read(name: &str, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                match name {
                    $(
                        stringify!($request) => $request::read_fields(reader).map(Self::$request),
                        stringify!($response) => $response::read_fields(reader).map(Self::$response),
                    )*
                    "Fault" => Fault::read(reader).map(Self::Fault),
                    _ => Err(DecodeError::Method { name: shortened(name) }),
                }
            }
        }

        $(
            impl From<$request> for Message {
                fn from(message: $request) -> Self {
                    Self::$request(message)
                }
            }

            impl From<$response> for Message {
                fn from(message: $response) -> Self {
                    Self::$response(message)
                }
            }
        )*
    };
}

messages! {
    GetRpcMethods: GetRPCMethods, GetRPCMethodsResponse;
    SetParameterValues: SetParameterValues, SetParameterValuesResponse;
    GetParameterValues: GetParameterValues, GetParameterValuesResponse;
    GetParameterNames: GetParameterNames, GetParameterNamesResponse;
    SetParameterAttributes: SetParameterAttributes, SetParameterAttributesResponse;
    GetParameterAttributes: GetParameterAttributes, GetParameterAttributesResponse;
    AddObject: AddObject, AddObjectResponse;
    DeleteObject: DeleteObject, DeleteObjectResponse;
    Reboot: Reboot, RebootResponse;
    Download: Download, DownloadResponse;
    ScheduleDownload: ScheduleDownload, ScheduleDownloadResponse;
    Upload: Upload, UploadResponse;
    FactoryReset: FactoryReset, FactoryResetResponse;
    GetQueuedTransfers: GetQueuedTransfers, GetQueuedTransfersResponse;
    GetAllQueuedTransfers: GetAllQueuedTransfers, GetAllQueuedTransfersResponse;
    CancelTransfer: CancelTransfer, CancelTransferResponse;
    ScheduleInform: ScheduleInform, ScheduleInformResponse;
    ChangeDuState: ChangeDUState, ChangeDUStateResponse;
    SetVouchers: SetVouchers, SetVouchersResponse;
    GetOptions: GetOptions, GetOptionsResponse;
    Inform: Inform, InformResponse;
    TransferComplete: TransferComplete, TransferCompleteResponse;
    AutonomousTransferComplete: AutonomousTransferComplete, AutonomousTransferCompleteResponse;
    DuStateChangeComplete: DUStateChangeComplete, DUStateChangeCompleteResponse;
    AutonomousDuStateChangeComplete: AutonomousDUStateChangeComplete, AutonomousDUStateChangeCompleteResponse;
    RequestDownload: RequestDownload, RequestDownloadResponse;
    Kicked: Kicked, KickedResponse;
}

impl From<Fault> for Message {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
