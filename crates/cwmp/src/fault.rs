//! Faults of both sides, and what may be done about them.

use std::fmt;

use crate::{
    DecodeError, Side,
    soap::{Field, Reader, Writer, structure},
};

/// A fault code (TR-069 A.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FaultCode(pub u32);

/// The constants, their texts and whether trying again can help.
macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident = $code:literal, $text:literal, $retry:ident;)*) => {
        impl FaultCode {
            $($(#[$meta])* pub const $name: Self = Self($code);)*

            /// Every code that has a name, in order.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// What the code means; a class for those without a name.
            pub fn text(self) -> &'static str {
                match self.0 {
                    0 => "No fault",
                    $($code => $text,)*
                    9800..=9899 => "Vendor-defined fault of the CPE",
                    8800..=8899 => "Vendor-defined fault of the ACS",
                    _ => "Unknown fault",
                }
            }

            /// Whether the same request may succeed when it is tried again.
            pub fn retry(self) -> Retry {
                match self.0 {
                    $($code => Retry::$retry,)*
                    _ => Retry::Never,
                }
            }
        }
    };
}

/// What a fault says about trying the same again. A classification of ours: TR-069 says it of 8005 only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// At once, in the same session: 8005.
    AtOnce,
    /// Later: resources, servers and states come and go.
    Later,
    /// It would fail again.
    Never,
}

codes! {
    /// The method is not supported.
    METHOD_NOT_SUPPORTED = 9000, "Method not supported", Never;
    /// Denied, no reason given.
    REQUEST_DENIED = 9001, "Request denied", Later;
    /// Something went wrong inside.
    INTERNAL_ERROR = 9002, "Internal error", Later;
    /// Arguments are missing, of the wrong type, or contradict each other.
    INVALID_ARGUMENTS = 9003, "Invalid arguments", Never;
    /// More than the device can do now.
    RESOURCES_EXCEEDED = 9004, "Resources exceeded", Later;
    /// No such parameter or object.
    INVALID_PARAMETER_NAME = 9005, "Invalid parameter name", Never;
    /// The value is of another type than the parameter.
    INVALID_PARAMETER_TYPE = 9006, "Invalid parameter type", Never;
    /// The value is outside what the parameter takes.
    INVALID_PARAMETER_VALUE = 9007, "Invalid parameter value", Never;
    /// The parameter can only be read.
    NOT_WRITABLE = 9008, "Attempt to set a non-writable parameter", Never;
    /// The parameter takes no such notification.
    NOTIFICATION_REJECTED = 9009, "Notification request rejected", Never;
    /// A download failed.
    DOWNLOAD_FAILURE = 9010, "File transfer failure", Later;
    /// An upload failed.
    UPLOAD_FAILURE = 9011, "Upload failure", Later;
    /// The file server did not take the credentials.
    TRANSFER_AUTHENTICATION = 9012, "File transfer server authentication failure", Never;
    /// The URL's scheme is not supported.
    TRANSFER_PROTOCOL = 9013, "Unsupported protocol for file transfer", Never;
    /// The multicast group could not be joined.
    TRANSFER_MULTICAST = 9014, "File transfer failure: unable to join multicast group", Later;
    /// The file server could not be reached.
    TRANSFER_CONTACT = 9015, "File transfer failure: unable to contact file server", Later;
    /// The file could not be accessed.
    TRANSFER_ACCESS = 9016, "File transfer failure: unable to access file", Later;
    /// The transfer broke off.
    TRANSFER_INCOMPLETE = 9017, "File transfer failure: unable to complete download", Later;
    /// The file is damaged.
    TRANSFER_CORRUPTED = 9018, "File transfer failure: file corrupted or otherwise unusable", Later;
    /// The file's signature is wrong.
    TRANSFER_FILE_AUTHENTICATION = 9019, "File transfer failure: file authentication failure", Never;
    /// No time window was long enough.
    TRANSFER_WINDOW = 9020, "File transfer failure: unable to complete download within specified time windows", Later;
    /// The transfer has gone too far to be cancelled.
    CANCEL_NOT_PERMITTED = 9021, "Cancelation of file transfer not permitted in current transfer state", Later;
    /// Not a UUID.
    INVALID_UUID = 9022, "Invalid UUID format", Never;
    /// No such execution environment.
    UNKNOWN_ENVIRONMENT = 9023, "Unknown execution environment", Never;
    /// The execution environment is disabled.
    DISABLED_ENVIRONMENT = 9024, "Disabled execution environment", Later;
    /// The deployment unit does not fit the execution environment.
    ENVIRONMENT_MISMATCH = 9025, "Deployment unit to execution environment mismatch", Never;
    /// The deployment unit is there already.
    DUPLICATE_UNIT = 9026, "Duplicate deployment unit", Never;
    /// The execution environment is full.
    UNIT_RESOURCES = 9027, "System resources exceeded", Later;
    /// No such deployment unit.
    UNKNOWN_UNIT = 9028, "Unknown deployment unit", Never;
    /// The deployment unit is in a state that forbids it.
    UNIT_STATE = 9029, "Invalid deployment unit state", Later;
    /// An update to an older version.
    UNIT_DOWNGRADE = 9030, "Invalid deployment unit update: downgrade not permitted", Never;
    /// An update that does not say to which version.
    UNIT_VERSION_MISSING = 9031, "Invalid deployment unit update: version not specified", Never;
    /// The version is there already.
    UNIT_VERSION_EXISTS = 9032, "Invalid deployment unit update: version already exists", Never;
    /// The ACS does not support the method.
    ACS_METHOD_NOT_SUPPORTED = 8000, "Method not supported", Never;
    /// The ACS denies it, no reason given.
    ACS_REQUEST_DENIED = 8001, "Request denied", Never;
    /// Something went wrong inside the ACS.
    ACS_INTERNAL_ERROR = 8002, "Internal error", Never;
    /// Arguments to the ACS are missing or wrong.
    ACS_INVALID_ARGUMENTS = 8003, "Invalid arguments", Never;
    /// More than the ACS can do now.
    ACS_RESOURCES_EXCEEDED = 8004, "Resources exceeded", Never;
    /// The ACS asks for the same request again.
    ACS_RETRY_REQUEST = 8005, "Retry request", AtOnce;
    /// The ACS has no version of CWMP in common with the CPE.
    ACS_VERSION_INCOMPATIBLE = 8006, "ACS version incompatible with CPE", Never;
}

impl FaultCode {
    /// Whose fault it is, when it is in either's range.
    pub fn side(self) -> Option<Side> {
        match self.0 {
            9000..=9899 => Some(Side::Cpe),
            8000..=8899 => Some(Side::Acs),
            _ => None,
        }
    }

    /// `Client` when the request is at fault, `Server` when the answerer is (TR-069 A.5, Tables 72 and 73).
    pub fn soap_code(self) -> SoapCode {
        match self.0 {
            9003 | 9005..=9009 | 9012 | 9013 | 9022..=9026 | 9028..=9032 | 8003 => SoapCode::Client,
            _ => SoapCode::Server,
        }
    }
}

impl fmt::Display for FaultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, self.text())
    }
}

impl Field for FaultCode {
    fn write(&self, name: &str, writer: &mut Writer) {
        self.0.write(name, writer);
    }

    fn read(reader: &mut Reader<'_>, name: &str) -> Result<Self, DecodeError> {
        u32::read(reader, name).map(Self)
    }
}

/// The faultcode of SOAP 1.1 §4.4.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SoapCode {
    /// The message was wrong.
    Client,
    /// A header that had to be understood was not.
    MustUnderstand,
    /// The message was right, but could not be processed.
    #[default]
    Server,
    /// Another version of SOAP.
    VersionMismatch,
}

impl SoapCode {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "Client",
            Self::MustUnderstand => "MustUnderstand",
            Self::Server => "Server",
            Self::VersionMismatch => "VersionMismatch",
        }
    }

    /// The code of a text, with or without a prefix and subcodes.
    pub fn parse(text: &str) -> Self {
        let local = text.trim().rsplit(':').next().unwrap_or_default();
        match local.split('.').next().unwrap_or_default() {
            "Client" => Self::Client,
            "MustUnderstand" => Self::MustUnderstand,
            "VersionMismatch" => Self::VersionMismatch,
            _ => Self::Server,
        }
    }
}

structure! {
    /// What was wrong with one parameter of a SetParameterValues.
    ParameterFault as "SetParameterValuesFault" {
        /// Its full name.
        must name: String = "ParameterName",
        /// Why.
        must code: FaultCode = "FaultCode",
        /// In words.
        may text: String = "FaultString",
    }
}

/// A fault instead of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// SOAP's own code.
    pub soap: SoapCode,
    /// SOAP's own text: `CWMP fault` in all faults of CWMP.
    pub soap_text: String,
    /// The code of CWMP; 0 when the fault is SOAP's alone.
    pub code: FaultCode,
    /// In words.
    pub text: String,
    /// What was wrong with which parameter, after SetParameterValues.
    pub parameters: Vec<ParameterFault>,
}

impl Fault {
    /// A fault with the usual words.
    pub fn new(code: FaultCode) -> Self {
        Self::with_text(code, code.text())
    }

    /// A fault with words of its own.
    pub fn with_text(code: FaultCode, text: impl Into<String>) -> Self {
        Self {
            soap: code.soap_code(),
            soap_text: "CWMP fault".to_owned(),
            code,
            text: text.into(),
            parameters: Vec::new(),
        }
    }

    /// 9003 with what was wrong with which parameter (TR-069 A.3.2.1).
    pub fn of_parameters(parameters: Vec<ParameterFault>) -> Self {
        Self {
            parameters,
            ..Self::new(FaultCode::INVALID_ARGUMENTS)
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.open("SOAP-ENV:Fault");
        writer.leaf("faultcode", &format!("SOAP-ENV:{}", self.soap.name()));
        writer.leaf("faultstring", &self.soap_text);
        let is_ours = self.code != FaultCode::default();
        if is_ours || !self.text.is_empty() || !self.parameters.is_empty() {
            writer.open("detail");
            writer.open("cwmp:Fault");
            self.code.write("FaultCode", writer);
            self.text.write("FaultString", writer);
            for parameter in &self.parameters {
                writer.open("SetParameterValuesFault");
                parameter.write_fields(writer);
                writer.close("SetParameterValuesFault");
            }
            writer.close("cwmp:Fault");
            writer.close("detail");
        }
        writer.close("SOAP-ENV:Fault");
    }

    /// Reads what is in a SOAP Fault, prefixes or not.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut fault = Self::default();
        while let Some(child) = reader.child()? {
            match child.local_name().as_ref() {
                "faultcode" => fault.soap = SoapCode::parse(&reader.text()?),
                "faultstring" => fault.soap_text = reader.text()?.into_owned(),
                "detail" => {
                    while let Some(detail) = reader.child()? {
                        match detail.local_name().as_ref() {
                            "Fault" => fault.read_detail(reader)?,
                            _ => reader.skip()?,
                        }
                    }
                }
                _ => reader.skip()?,
            }
        }
        Ok(fault)
    }

    fn read_detail(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        while let Some(child) = reader.child()? {
            match child.local_name().as_ref() {
                "FaultCode" => self.code = FaultCode::read(reader, "FaultCode")?,
                "FaultString" => self.text = reader.text()?.into_owned(),
                "SetParameterValuesFault" => {
                    self.parameters.push(ParameterFault::read_fields(reader)?);
                }
                _ => reader.skip()?,
            }
        }
        Ok(())
    }
}
