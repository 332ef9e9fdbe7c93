//! What is wrong with what was received.

/// Why bytes are no message that is read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More than [`crate::asn1::Limits::bytes`].
    #[error("the message has {bytes} bytes, at most {limit} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A list longer than [`crate::asn1::Limits::entries`].
    #[error("a list of the message has {entries} entries, at most {limit} are read")]
    TooMany {
        /// Its length.
        entries: usize,
        /// The limit.
        limit: usize,
    },
    /// Messages nested deeper than [`crate::asn1::Limits::nesting`].
    #[error("messages are nested deeper than is read")]
    TooDeep,
    /// Not the DER of a PKIMessage.
    #[error("no PKIMessage: {what} at byte {offset}")]
    Der {
        /// What the decoder found.
        what: String,
        /// Where, as far as it is known.
        offset: u32,
    },
}

impl From<der::Error> for DecodeError {
    fn from(error: der::Error) -> Self {
        Self::Der {
            what: error.kind().to_string(),
            offset: error.position().map_or(0, u32::from),
        }
    }
}
