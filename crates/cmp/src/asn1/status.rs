//! Status, failure and text (RFC 9810 §5.2.3, §5.3.21).

use std::fmt;

use der::{Sequence, asn1::BitString};

/// `PKIFreeText`: one or more UTF-8 texts.
pub type FreeText = Vec<String>;

/// `PKIStatus` (RFC 9810 §5.2.3). Values that the specification does not name are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status(pub i64);

impl Status {
    /// Exactly what was asked for.
    pub const ACCEPTED: Self = Self(0);
    /// Something like it; the requester has to compare.
    pub const GRANTED_WITH_MODS: Self = Self(1);
    /// Not granted; the reason stands elsewhere in the message.
    pub const REJECTION: Self = Self(2);
    /// Not decided yet; a polling request is expected.
    pub const WAITING: Self = Self(3);
    /// A revocation is imminent.
    pub const REVOCATION_WARNING: Self = Self(4);
    /// A revocation has happened.
    pub const REVOCATION_NOTIFICATION: Self = Self(5);
    /// The certificate that a kur names is updated already.
    pub const KEY_UPDATE_WARNING: Self = Self(6);

    /// Accepted, with or without changes.
    pub fn is_granted(self) -> bool {
        self == Self::ACCEPTED || self == Self::GRANTED_WITH_MODS
    }
}

/// `PKIStatusInfo` (RFC 9810 §5.2.3).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct StatusInfo {
    /// The status; see [`StatusInfo::status`].
    pub status: i64,
    /// For people.
    #[asn1(optional = "true")]
    pub status_string: Option<FreeText>,
    /// What went wrong.
    #[asn1(optional = "true")]
    pub fail_info: Option<FailInfo>,
}

impl StatusInfo {
    /// A status without text and failure.
    pub fn new(status: Status) -> Self {
        Self {
            status: status.0,
            status_string: None,
            fail_info: None,
        }
    }

    /// A rejection for one reason.
    pub fn rejection(failure: Failure, text: impl Into<String>) -> Self {
        Self {
            status: Status::REJECTION.0,
            status_string: Some(vec![text.into()]),
            fail_info: Some(FailInfo::from(failure)),
        }
    }

    /// The status.
    pub fn status(&self) -> Status {
        Status(self.status)
    }

    /// Whether the failure is among those named.
    pub fn has(&self, failure: Failure) -> bool {
        self.fail_info
            .as_ref()
            .is_some_and(|info| info.contains(failure))
    }
}

impl fmt::Display for StatusInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status() {
            Status::ACCEPTED => write!(f, "accepted")?,
            Status::GRANTED_WITH_MODS => write!(f, "granted with modifications")?,
            Status::REJECTION => write!(f, "rejection")?,
            Status::WAITING => write!(f, "waiting")?,
            Status::REVOCATION_WARNING => write!(f, "revocation warning")?,
            Status::REVOCATION_NOTIFICATION => write!(f, "revocation notification")?,
            Status::KEY_UPDATE_WARNING => write!(f, "key update warning")?,
            Status(other) => write!(f, "status {other}")?,
        }
        for failure in self.fail_info.iter().flat_map(FailInfo::iter) {
            write!(f, " {failure:?}")?;
        }
        for text in self.status_string.iter().flatten() {
            write!(f, ": {}", text.escape_debug())?;
        }
        Ok(())
    }
}

/// `PKIFailureInfo` (RFC 9810 §5.2.3). The bit string is kept as received: others send trailing zero bits, which DER leaves out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailInfo(BitString);

impl FailInfo {
    /// Whether the bit of this failure is set.
    pub fn contains(&self, failure: Failure) -> bool {
        let bit = failure as usize;
        bit < self.0.bit_len()
            && self
                .0
                .raw_bytes()
                .get(bit / 8)
                .is_some_and(|byte| byte & (0x80 >> (bit % 8)) != 0)
    }

    /// The failures named, those without a name left out.
    pub fn iter(&self) -> impl Iterator<Item = Failure> + '_ {
        Failure::ALL
            .iter()
            .copied()
            .filter(|failure| self.contains(*failure))
    }
}

impl From<Failure> for FailInfo {
    fn from(failure: Failure) -> Self {
        let bit = failure as usize;
        let mut bytes = vec![0; bit / 8 + 1];
        bytes[bit / 8] = 0x80 >> (bit % 8);
        let unused = [7, 6, 5, 4, 3, 2, 1, 0][bit % 8];
        Self(BitString::new(unused, bytes).expect("less than 8 unused bits, all of them zero"))
    }
}

impl der::FixedTag for FailInfo {
    const TAG: der::Tag = der::Tag::BitString;
}

impl<'a> der::DecodeValue<'a> for FailInfo {
    type Error = der::Error;

    fn decode_value<R: der::Reader<'a>>(reader: &mut R, header: der::Header) -> der::Result<Self> {
        BitString::decode_value(reader, header).map(Self)
    }
}

impl der::EncodeValue for FailInfo {
    fn value_len(&self) -> der::Result<der::Length> {
        self.0.value_len()
    }

    fn encode_value(&self, writer: &mut impl der::Writer) -> der::Result<()> {
        self.0.encode_value(writer)
    }
}

macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident = $bit:literal,)*) => {
        /// The bits of `PKIFailureInfo` (RFC 9810 §5.2.3).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Failure {
            $($(#[$doc])* $name = $bit,)*
        }

        impl Failure {
            /// All of them, in the order of their bits.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

failures! {
    /// Unrecognised or unsupported algorithm identifier.
    BadAlg = 0,
    /// The integrity check failed, for example the signature did not verify.
    BadMessageCheck = 1,
    /// The transaction is not permitted or not supported.
    BadRequest = 2,
    /// `messageTime` is not close enough to the receiver's time.
    BadTime = 3,
    /// No certificate that matches the identification.
    BadCertId = 4,
    /// The data submitted has the wrong format.
    BadDataFormat = 5,
    /// The authority named is another one than the receiver.
    WrongAuthority = 6,
    /// The requester's data is incorrect.
    IncorrectData = 7,
    /// The timestamp is missing.
    MissingTimeStamp = 8,
    /// The proof of possession failed.
    BadPop = 9,
    /// The certificate is revoked already.
    CertRevoked = 10,
    /// The certificate is confirmed already.
    CertConfirmed = 11,
    /// A password instead of a signature, or the other way round.
    WrongIntegrity = 12,
    /// `recipNonce` is missing or wrong.
    BadRecipientNonce = 13,
    /// The time source of the TSA is not available.
    TimeNotAvailable = 14,
    /// The TSA policy is not supported.
    UnacceptedPolicy = 15,
    /// An extension is not supported.
    UnacceptedExtension = 16,
    /// Additional information is not available.
    AddInfoNotAvailable = 17,
    /// `senderNonce` is missing or too short.
    BadSenderNonce = 18,
    /// The certificate template is wrong or misses something.
    BadCertTemplate = 19,
    /// The signer of the message is not known or not trusted.
    SignerNotTrusted = 20,
    /// The transaction identifier is in use already.
    TransactionIdInUse = 21,
    /// The version of the message is not supported.
    UnsupportedVersion = 22,
    /// The sender may not do this.
    NotAuthorized = 23,
    /// Busy; it may be tried again later.
    SystemUnavail = 24,
    /// It cannot be done because of a failure.
    SystemFailure = 25,
    /// A certificate for this request exists already.
    DuplicateCertReq = 26,
}

/// `ErrorMsgContent` (RFC 9810 §5.3.21).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct ErrorMsg {
    /// What happened.
    pub status_info: StatusInfo,
    /// The implementation's own code.
    #[asn1(optional = "true")]
    pub error_code: Option<i64>,
    /// For people.
    #[asn1(optional = "true")]
    pub error_details: Option<FreeText>,
}

impl From<StatusInfo> for ErrorMsg {
    fn from(status_info: StatusInfo) -> Self {
        Self {
            status_info,
            error_code: None,
            error_details: None,
        }
    }
}
