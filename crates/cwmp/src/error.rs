//! Why bytes are no message, and what answers them.

use crate::{FaultCode, Header, Namespace, SoapCode};

/// Which end of a session somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The server: its fault codes are 8000 to 8899.
    Acs,
    /// The device: its fault codes are 9000 to 9899.
    Cpe,
}

/// What is wrong with received bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More than [`crate::Limits::bytes`].
    #[error("the envelope has {bytes} bytes, at most {limit} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// More elements than [`crate::Limits::elements`].
    #[error("the envelope has more than {limit} elements, at byte {offset}")]
    TooMany {
        /// The limit.
        limit: usize,
        /// Where the first one too many begins.
        offset: u64,
    },
    /// Elements nested deeper than [`crate::Limits::depth`].
    #[error("elements are nested deeper than {limit}, at byte {offset}")]
    TooDeep {
        /// The limit.
        limit: usize,
        /// Where.
        offset: u64,
    },
    /// The attributes of one element are longer than [`crate::Limits::attributes`].
    #[error("the attributes of an element are longer than {limit} bytes, at byte {offset}")]
    Attributes {
        /// The limit.
        limit: usize,
        /// Where.
        offset: u64,
    },
    /// Not UTF-8, and not declared to be ISO-8859-1.
    #[error("neither UTF-8 nor declared ISO-8859-1, from byte {offset}")]
    Encoding {
        /// The first byte that is none.
        offset: usize,
    },
    /// A document type declaration; SOAP 1.1 §3 forbids it, and entities come with it.
    #[error("a document type declaration at byte {offset}")]
    DocumentType {
        /// Where.
        offset: u64,
    },
    /// A reference to an entity other than XML's own five.
    #[error("the entity {name:?} at byte {offset} is not one of XML's own")]
    Entity {
        /// Its name, shortened.
        name: String,
        /// Where.
        offset: u64,
    },
    /// Not well-formed.
    #[error("not well-formed at byte {offset}: {what}")]
    Syntax {
        /// What the parser found, shortened.
        what: String,
        /// Where.
        offset: u64,
    },
    /// Well-formed, but no SOAP 1.1 envelope with something in its body.
    #[error("no SOAP envelope: {what}")]
    Soap {
        /// What is missing or there instead.
        what: &'static str,
    },
    /// A SOAP version other than 1.1.
    #[error("an envelope of another SOAP version")]
    SoapVersion,
    /// The body holds no message of CWMP.
    #[error("{name:?} is no method")]
    Method {
        /// The element's local name, shortened.
        name: String,
    },
    /// An argument that has to be there is not.
    #[error("{element} is missing in {within}")]
    Missing {
        /// The element that is missing.
        element: &'static str,
        /// Where it belongs.
        within: &'static str,
    },
    /// An argument that is not of its type.
    #[error("{element} is {found:?}, not {expected}")]
    Argument {
        /// The element, shortened.
        element: String,
        /// Its text, shortened.
        found: String,
        /// What it has to be.
        expected: &'static str,
    },
}

impl DecodeError {
    /// The fault that `side`, who could not read the message, answers with; `None` when it was no SOAP at all, which HTTP answers.
    pub fn fault_code(&self, side: Side) -> Option<FaultCode> {
        let (cpe, acs) = match self {
            Self::Method { .. } => (
                FaultCode::METHOD_NOT_SUPPORTED,
                FaultCode::ACS_METHOD_NOT_SUPPORTED,
            ),
            Self::Missing { .. } | Self::Argument { .. } => (
                FaultCode::INVALID_ARGUMENTS,
                FaultCode::ACS_INVALID_ARGUMENTS,
            ),
            Self::TooLarge { .. } | Self::TooMany { .. } => (
                FaultCode::RESOURCES_EXCEEDED,
                FaultCode::ACS_RESOURCES_EXCEEDED,
            ),
            Self::TooDeep { .. }
            | Self::Attributes { .. }
            | Self::Encoding { .. }
            | Self::DocumentType { .. }
            | Self::Entity { .. }
            | Self::Syntax { .. }
            | Self::Soap { .. }
            | Self::SoapVersion => return None,
        };
        Some(match side {
            Side::Acs => acs,
            Side::Cpe => cpe,
        })
    }

    /// The SOAP faultcode of such an answer (SOAP 1.1 §4.4.1).
    pub fn soap_code(&self) -> SoapCode {
        match self {
            Self::SoapVersion => SoapCode::VersionMismatch,
            _ => SoapCode::Client,
        }
    }
}

/// What could not be read, with as much of the envelope as could: an answer repeats its ID and namespace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Malformed {
    /// What is wrong.
    pub error: DecodeError,
    /// The headers, when they stood before it.
    pub header: Box<Header>,
    /// The namespace, when it was declared before it.
    pub namespace: Option<Namespace>,
}

/// Text of a peer, short enough to be shown.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
