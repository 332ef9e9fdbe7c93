//! Announcements of a CA (RFC 9810 §5.3.13 to §5.3.16).

use der::{
    Choice, Decode, DecodeValue, EncodeValue, Header, Reader, Sequence, Tag, TagNumber, Tagged,
    asn1::GeneralizedTime,
};

use super::{CertId, Certificate, Extensions};

/// `CAKeyUpdContent`: ckuann (RFC 9810 §5.3.13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaKeyUpdate {
    /// Version 2: three certificates.
    V2(CaKeyUpdateV2),
    /// Version 3, `[0] RootCaKeyUpdateContent`.
    V3(RootCaKeyUpdate),
}

const V3: Tag = Tag::ContextSpecific {
    constructed: true,
    number: TagNumber(0),
};

impl<'a> Choice<'a> for CaKeyUpdate {
    fn can_decode(tag: Tag) -> bool {
        tag == Tag::Sequence || tag == V3
    }
}

impl<'a> Decode<'a> for CaKeyUpdate {
    type Error = der::Error;

    fn decode<R: Reader<'a>>(reader: &mut R) -> der::Result<Self> {
        let header = Header::decode(reader)?;
        reader.read_nested(header.length(), |reader| Self::decode_value(reader, header))
    }
}

impl<'a> DecodeValue<'a> for CaKeyUpdate {
    type Error = der::Error;

    fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<Self> {
        match header.tag() {
            Tag::Sequence => CaKeyUpdateV2::decode_value(reader, header).map(Self::V2),
            V3 => reader.decode().map(Self::V3),
            tag => Err(tag.unexpected_error(Some(V3)).into()),
        }
    }
}

impl Tagged for CaKeyUpdate {
    fn tag(&self) -> Tag {
        match self {
            Self::V2(_) => Tag::Sequence,
            Self::V3(_) => V3,
        }
    }
}

impl EncodeValue for CaKeyUpdate {
    fn value_len(&self) -> der::Result<der::Length> {
        match self {
            Self::V2(update) => update.value_len(),
            Self::V3(update) => der::Encode::encoded_len(update),
        }
    }

    fn encode_value(&self, writer: &mut impl der::Writer) -> der::Result<()> {
        match self {
            Self::V2(update) => update.encode_value(writer),
            Self::V3(update) => der::Encode::encode(update, writer),
        }
    }
}

/// `CAKeyUpdAnnContent` (RFC 9810 §5.3.13).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct CaKeyUpdateV2 {
    /// The old key, signed with the new one.
    pub old_with_new: Certificate,
    /// The new key, signed with the old one.
    pub new_with_old: Certificate,
    /// The new key, signed with itself.
    pub new_with_new: Certificate,
}

/// `RootCaKeyUpdateContent` (RFC 9810 §5.3.19.15).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct RootCaKeyUpdate {
    /// The new root certificate.
    pub new_with_new: Certificate,
    /// The new key, signed with the old one.
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub new_with_old: Option<Certificate>,
    /// The old key, signed with the new one.
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    pub old_with_new: Option<Certificate>,
}

/// `RevAnnContent`: rann (RFC 9810 §5.3.15).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct RevocationAnnouncement {
    /// A `PKIStatus`.
    pub status: i64,
    /// The certificate.
    pub cert_id: CertId,
    /// When it will be revoked.
    pub will_be_revoked_at: GeneralizedTime,
    /// Since when it should not be trusted.
    pub bad_since_date: GeneralizedTime,
    /// Extensions of the entry in the CRL.
    #[asn1(optional = "true")]
    pub crl_details: Option<Extensions>,
}
