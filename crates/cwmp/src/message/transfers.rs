//! Files (TR-069 A.3.2.8, A.4.1): what the ACS asks for, what waits, and how it ended.

use super::Status;
use crate::{
    DateTime, DecodeError, FaultCode, Secret,
    soap::{Field, Reader, Writer, argument, structure},
};

structure! {
    /// Asks the CPE to fetch a file.
    Download within "Download" {
        /// What its events and TransferComplete name it by; at most 32 characters.
        may command_key: String = "CommandKey",
        /// `1 Firmware Upgrade Image`, `2 Web Content`, `3 Vendor Configuration File`, `4 Tone File`, `5 Ringer File`, or `X`, an OUI and a name.
        must file_type: String = "FileType",
        /// Where.
        must url: String = "URL",
        /// For the file server; empty for none.
        may username: String = "Username",
        /// For the file server.
        may password: Secret = "Password",
        /// In bytes; 0 when not known.
        may file_size: u32 = "FileSize",
        /// The name on the device; mostly empty.
        may target_file_name: String = "TargetFileName",
        /// Seconds to wait after the session.
        may delay_seconds: u32 = "DelaySeconds",
        /// Where a browser goes after success.
        may success_url: String = "SuccessURL",
        /// Where a browser goes after failure.
        may failure_url: String = "FailureURL",
    }
}

structure! {
    /// The download is done, or will be.
    DownloadResponse within "DownloadResponse" {
        /// Done, or TransferComplete will tell.
        may status: Status = "Status",
        /// Of a transfer that is done; unknown otherwise.
        may start_time: DateTime = "StartTime",
        /// Of a transfer that is done; unknown otherwise.
        may complete_time: DateTime = "CompleteTime",
    }
}

structure! {
    /// Asks the CPE to send a file.
    Upload within "Upload" {
        /// What its events and TransferComplete name it by; at most 32 characters.
        may command_key: String = "CommandKey",
        /// `1 Vendor Configuration File`, `2 Vendor Log File`, the same as 3 and 4 with an instance number, or `X`, an OUI and a name.
        must file_type: String = "FileType",
        /// Where to.
        must url: String = "URL",
        /// For the file server; empty for none.
        may username: String = "Username",
        /// For the file server.
        may password: Secret = "Password",
        /// Seconds to wait after the session.
        may delay_seconds: u32 = "DelaySeconds",
    }
}

structure! {
    /// The upload is done, or will be.
    UploadResponse within "UploadResponse" {
        /// Done, or TransferComplete will tell.
        may status: Status = "Status",
        /// Of a transfer that is done; unknown otherwise.
        may start_time: DateTime = "StartTime",
        /// Of a transfer that is done; unknown otherwise.
        may complete_time: DateTime = "CompleteTime",
    }
}

structure! {
    /// When a scheduled download may happen.
    TimeWindow as "TimeWindowStruct" {
        /// Seconds from now to its beginning.
        must start: u32 = "WindowStart",
        /// Seconds from now to its end.
        must end: u32 = "WindowEnd",
        /// `1 At Any Time`, `2 Immediately`, `3 When Idle`, `4 Confirmation Needed`, or `X`, an OUI and a name.
        must mode: String = "WindowMode",
        /// Shown to whoever confirms.
        may user_message: String = "UserMessage",
        /// How often it is tried again within the window; -1 leaves it to the CPE.
        may max_retries: i32 = "MaxRetries",
    }
}

structure! {
    /// Asks the CPE to fetch a file in one of at most two time windows.
    ScheduleDownload within "ScheduleDownload" {
        /// What its events and TransferComplete name it by; at most 32 characters.
        may command_key: String = "CommandKey",
        /// As of [`Download`].
        must file_type: String = "FileType",
        /// Where.
        must url: String = "URL",
        /// For the file server; empty for none.
        may username: String = "Username",
        /// For the file server.
        may password: Secret = "Password",
        /// In bytes; 0 when not known.
        may file_size: u32 = "FileSize",
        /// The name on the device; mostly empty.
        may target_file_name: String = "TargetFileName",
        /// One or two, not overlapping.
        must windows: Vec<TimeWindow> = "TimeWindowList",
    }
}

structure! {
    /// It is scheduled; TransferComplete will tell.
    ScheduleDownloadResponse within "ScheduleDownloadResponse" {}
}

/// How far a transfer has come (TR-069 A.4.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransferState {
    /// 1: not begun.
    #[default]
    NotYetStarted,
    /// 2: going on.
    InProgress,
    /// 3: over, what follows is going on.
    Completed,
}

impl Field for TransferState {
    fn write(&self, name: &str, writer: &mut Writer) {
        let number = match self {
            Self::NotYetStarted => "1",
            Self::InProgress => "2",
            Self::Completed => "3",
        };
        writer.leaf(name, number);
    }

    fn read(reader: &mut Reader<'_>, name: &str) -> Result<Self, DecodeError> {
        let text = reader.text()?;
        match text.trim() {
            "1" => Ok(Self::NotYetStarted),
            "2" => Ok(Self::InProgress),
            "3" => Ok(Self::Completed),
            _ => Err(argument(name, &text, "1, 2 or 3")),
        }
    }
}

structure! {
    /// Lists the transfers that the ACS asked for.
    GetQueuedTransfers within "GetQueuedTransfers" {}
}

structure! {
    /// A transfer that the ACS asked for.
    QueuedTransfer as "QueuedTransferStruct" {
        /// Its key.
        may command_key: String = "CommandKey",
        /// How far it is.
        must state: TransferState = "State",
    }
}

structure! {
    /// At most 16 transfers.
    GetQueuedTransfersResponse within "GetQueuedTransfersResponse" {
        /// Those that are not told to be complete yet.
        may transfers: Vec<QueuedTransfer> = "TransferList",
    }
}

structure! {
    /// Lists all transfers.
    GetAllQueuedTransfers within "GetAllQueuedTransfers" {}
}

structure! {
    /// A transfer, whoever asked for it.
    AnyQueuedTransfer as "AllQueuedTransferStruct" {
        /// Its key; empty unless the ACS asked for it.
        may command_key: String = "CommandKey",
        /// How far it is.
        must state: TransferState = "State",
        /// Towards the CPE.
        may is_download: bool = "IsDownload",
        /// As of [`Download`] or [`Upload`].
        may file_type: String = "FileType",
        /// In bytes; 0 when not known.
        may file_size: u32 = "FileSize",
        /// The name on the device.
        may target_file_name: String = "TargetFileName",
    }
}

structure! {
    /// At most 16 transfers.
    GetAllQueuedTransfersResponse within "GetAllQueuedTransfersResponse" {
        /// Those that are not told to be complete yet.
        may transfers: Vec<AnyQueuedTransfer> = "TransferList",
    }
}

structure! {
    /// Takes a transfer back.
    CancelTransfer within "CancelTransfer" {
        /// Its key.
        must command_key: String = "CommandKey",
    }
}

structure! {
    /// It is taken back.
    CancelTransferResponse within "CancelTransferResponse" {}
}

structure! {
    /// How a transfer ended.
    TransferFault within "FaultStruct" {
        /// 0 when it succeeded.
        may code: FaultCode = "FaultCode",
        /// In words; empty when it succeeded. At most 256 characters.
        may text: String = "FaultString",
    }
}

impl Field for TransferFault {
    fn write(&self, name: &str, writer: &mut Writer) {
        writer.open(name);
        self.write_fields(writer);
        writer.close(name);
    }

    fn read(reader: &mut Reader<'_>, _: &str) -> Result<Self, DecodeError> {
        Self::read_fields(reader)
    }
}

structure! {
    /// A transfer that the ACS asked for has ended.
    TransferComplete within "TransferComplete" {
        /// Its key.
        may command_key: String = "CommandKey",
        /// How it ended.
        may fault: TransferFault = "FaultStruct",
        /// When it began; unknown when it did not.
        may start_time: DateTime = "StartTime",
        /// When it ended; unknown when it did not begin.
        may complete_time: DateTime = "CompleteTime",
    }
}

structure! {
    /// The ACS knows.
    TransferCompleteResponse within "TransferCompleteResponse" {}
}

structure! {
    /// A transfer that the ACS did not ask for has ended.
    AutonomousTransferComplete within "AutonomousTransferComplete" {
        /// Where it was announced; empty for nowhere.
        may announce_url: String = "AnnounceURL",
        /// Where the file is from or went.
        may transfer_url: String = "TransferURL",
        /// Towards the CPE.
        may is_download: bool = "IsDownload",
        /// As of [`Download`] or [`Upload`].
        may file_type: String = "FileType",
        /// In bytes; 0 when not known.
        may file_size: u32 = "FileSize",
        /// The name on the device.
        may target_file_name: String = "TargetFileName",
        /// How it ended.
        may fault: TransferFault = "FaultStruct",
        /// When it began.
        may start_time: DateTime = "StartTime",
        /// When it ended.
        may complete_time: DateTime = "CompleteTime",
    }
}

structure! {
    /// The ACS knows.
    AutonomousTransferCompleteResponse within "AutonomousTransferCompleteResponse" {}
}

structure! {
    /// An argument of a RequestDownload, which its file type gives a meaning.
    Argument as "ArgStruct" {
        /// At most 64 characters.
        must name: String = "Name",
        /// At most 256 characters.
        may value: String = "Value",
    }
}

structure! {
    /// The CPE asks to be sent a [`Download`].
    RequestDownload within "RequestDownload" {
        /// As of [`Download`].
        must file_type: String = "FileType",
        /// At most 16.
        may arguments: Vec<Argument> = "FileTypeArg",
    }
}

structure! {
    /// The ACS knows; whether a Download follows is its decision.
    RequestDownloadResponse within "RequestDownloadResponse" {}
}
