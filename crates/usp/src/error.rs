//! Error codes (TR-369 §6.6 and §4.3.1).

use std::fmt;

/// A USP error code: 7000–7999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub u32);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        impl ErrorCode {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// Every code that the standard names, ascending.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name that the standard gives the code; the range's name when it has none.
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($code => $text,)*
                    7100..=7199 => "USP Record error",
                    7200..=7299 => "Data model defined error",
                    7800..=7999 => "Vendor defined error",
                    _ => "Unknown error",
                }
            }
        }
    };
}

codes! {
    /// A general failure that `err_msg` describes.
    MESSAGE_FAILED = 7000, "Message failed";
    /// The message was not understood.
    MESSAGE_NOT_SUPPORTED = 7001, "Message not supported";
    /// The target cannot or will not process it.
    REQUEST_DENIED = 7002, "Request denied";
    /// Hardware or software failed.
    INTERNAL_ERROR = 7003, "Internal error";
    /// Invalid values in the message.
    INVALID_ARGUMENTS = 7004, "Invalid arguments";
    /// Memory or processing limits.
    RESOURCES_EXCEEDED = 7005, "Resources exceeded";
    /// The source may not do this.
    PERMISSION_DENIED = 7006, "Permission denied";
    /// It would bring the target into an invalid state.
    INVALID_CONFIGURATION = 7007, "Invalid configuration";
    /// The path name was not understood.
    INVALID_PATH_SYNTAX = 7008, "Invalid path syntax";
    /// A parameter failed to update.
    PARAMETER_ACTION_FAILED = 7009, "Parameter action failed";
    /// No such parameter.
    UNSUPPORTED_PARAMETER = 7010, "Unsupported parameter";
    /// The text is no value of the parameter's type.
    INVALID_TYPE = 7011, "Invalid type";
    /// The value is outside what the parameter accepts.
    INVALID_VALUE = 7012, "Invalid value";
    /// The parameter is read-only.
    NON_WRITEABLE_PARAMETER = 7013, "Attempt to update non-writeable parameter";
    /// The value contradicts other parameters.
    VALUE_CONFLICT = 7014, "Value conflict";
    /// Creating, updating or deleting an object failed.
    OPERATION_ERROR = 7015, "Operation error";
    /// The path addresses no object.
    OBJECT_DOES_NOT_EXIST = 7016, "Object does not exist";
    /// The object was not created.
    OBJECT_NOT_CREATED = 7017, "Object could not be created";
    /// The path is not a table.
    NOT_A_TABLE = 7018, "Object is not a table";
    /// Controllers do not create this object.
    NON_CREATABLE_OBJECT = 7019, "Attempt to create non-creatable object";
    /// The object was not updated.
    OBJECT_NOT_UPDATED = 7020, "Object could not be updated";
    /// A required parameter failed.
    REQUIRED_PARAMETER_FAILED = 7021, "Required parameter failed";
    /// A command failed.
    COMMAND_FAILURE = 7022, "Command failure";
    /// A command was cancelled.
    COMMAND_CANCELED = 7023, "Command canceled";
    /// An object was not deleted.
    DELETE_FAILURE = 7024, "Delete failure";
    /// An object with these unique keys exists already.
    DUPLICATE_KEY = 7025, "Object exists with duplicate key";
    /// The path is not in the data model.
    INVALID_PATH = 7026, "Invalid path";
    /// Invalid or unknown command arguments.
    INVALID_COMMAND_ARGUMENTS = 7027, "Invalid command arguments";
    /// A path was not registered.
    REGISTER_FAILURE = 7028, "Register failure";
    /// A path is registered by another agent.
    ALREADY_IN_USE = 7029, "Already in use";
    /// A path was not deregistered.
    DEREGISTER_FAILURE = 7030, "Deregister failure";
    /// A path to be deregistered belongs to another agent.
    PATH_ALREADY_REGISTERED = 7031, "Path already registered";
    /// The Record could not be parsed.
    RECORD_NOT_PARSED = 7100, "Record could not be parsed";
    /// Secure message exchange is required.
    SECURE_SESSION_REQUIRED = 7101, "Secure session required";
    /// Secure message exchange is not supported.
    SECURE_SESSION_NOT_SUPPORTED = 7102, "Secure session not supported";
    /// Segmentation and reassembly is not supported.
    SAR_NOT_SUPPORTED = 7103, "Segmentation and reassembly not supported";
    /// A Record field has an invalid value.
    INVALID_RECORD_VALUE = 7104, "Invalid Record value";
    /// An existing Session Context ends.
    SESSION_CONTEXT_TERMINATED = 7105, "Session Context terminated";
    /// A Session Context is not allowed or not supported.
    SESSION_CONTEXT_NOT_ALLOWED = 7106, "Session Context not allowed";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.name())
    }
}

impl From<ErrorCode> for u32 {
    fn from(code: ErrorCode) -> Self {
        code.0
    }
}

impl From<u32> for ErrorCode {
    fn from(code: u32) -> Self {
        Self(code)
    }
}
