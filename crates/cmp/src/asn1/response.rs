//! Responses to certificate requests (RFC 9810 §5.3.4, §5.3.8).

use der::{
    Choice, Decode, DecodeValue, EncodeValue, Header, Reader, Sequence, Tag, TagNumber, Tagged,
    asn1::OctetString,
};

use super::{Certificate, EncryptedValue, EnvelopedData, PublicationInfo, StatusInfo};

/// `CertRepMessage` (RFC 9810 §5.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct CertRepMessage {
    /// CA certificates that the recipient may trust, under the conditions of RFC 9483 §4.1.1.
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    pub ca_pubs: Option<Vec<Certificate>>,
    /// One for each request.
    pub response: Vec<CertResponse>,
}

/// `CertResponse` (RFC 9810 §5.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct CertResponse {
    /// Of the request; -1 for p10cr.
    pub cert_req_id: i64,
    /// What became of it.
    pub status: StatusInfo,
    /// The certificate.
    #[asn1(optional = "true")]
    pub certified_key_pair: Option<CertifiedKeyPair>,
    /// More about the response.
    #[asn1(optional = "true")]
    pub rsp_info: Option<OctetString>,
}

/// `CertifiedKeyPair` (RFC 9810 §5.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct CertifiedKeyPair {
    /// The certificate.
    pub cert_or_enc_cert: CertOrEncCert,
    /// The private key when the CA generated it.
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub private_key: Option<EncryptedKey>,
    /// How the certificate is published.
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    pub publication_info: Option<PublicationInfo>,
}

impl CertifiedKeyPair {
    /// A certificate alone.
    pub fn new(certificate: Certificate) -> Self {
        Self {
            cert_or_enc_cert: CertOrEncCert::Certificate(certificate),
            private_key: None,
            publication_info: None,
        }
    }
}

/// `CertOrEncCert` (RFC 9810 §5.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Choice)]
#[asn1(tag_mode = "EXPLICIT")]
pub enum CertOrEncCert {
    /// In the clear.
    #[asn1(context_specific = "0", constructed = "true")]
    Certificate(Certificate),
    /// Encrypted, so that decrypting it proves possession (RFC 9810 §5.2.8.3).
    #[asn1(context_specific = "1", constructed = "true")]
    EncryptedCert(EncryptedKey),
}

/// `EncryptedKey` (RFC 4211 Appendix A, RFC 9480 §2.7): version 2 has the one, version 3 the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EncryptedKey {
    /// Deprecated.
    EncryptedValue(EncryptedValue),
    /// `[0] IMPLICIT EnvelopedData`.
    EnvelopedData(EnvelopedData),
}

const ENVELOPED: Tag = Tag::ContextSpecific {
    constructed: true,
    number: TagNumber(0),
};

impl<'a> Choice<'a> for EncryptedKey {
    fn can_decode(tag: Tag) -> bool {
        tag == Tag::Sequence || tag == ENVELOPED
    }
}

impl<'a> Decode<'a> for EncryptedKey {
    type Error = der::Error;

    fn decode<R: Reader<'a>>(reader: &mut R) -> der::Result<Self> {
        let header = Header::decode(reader)?;
        reader.read_nested(header.length(), |reader| Self::decode_value(reader, header))
    }
}

impl<'a> DecodeValue<'a> for EncryptedKey {
    type Error = der::Error;

    fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<Self> {
        match header.tag() {
            Tag::Sequence => EncryptedValue::decode_value(reader, header).map(Self::EncryptedValue),
            ENVELOPED => EnvelopedData::decode_value(reader, header).map(Self::EnvelopedData),
            tag => Err(tag.unexpected_error(Some(ENVELOPED)).into()),
        }
    }
}

impl Tagged for EncryptedKey {
    fn tag(&self) -> Tag {
        match self {
            Self::EncryptedValue(_) => Tag::Sequence,
            Self::EnvelopedData(_) => ENVELOPED,
        }
    }
}

impl EncodeValue for EncryptedKey {
    fn value_len(&self) -> der::Result<der::Length> {
        match self {
            Self::EncryptedValue(value) => value.value_len(),
            Self::EnvelopedData(data) => data.value_len(),
        }
    }

    fn encode_value(&self, writer: &mut impl der::Writer) -> der::Result<()> {
        match self {
            Self::EncryptedValue(value) => value.encode_value(writer),
            Self::EnvelopedData(data) => data.encode_value(writer),
        }
    }
}

/// `KeyRecRepContent` (RFC 9810 §5.3.8).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct KeyRecovery {
    /// What became of the request.
    pub status: StatusInfo,
    /// The new certificate for signing.
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub new_sig_cert: Option<Certificate>,
    /// Certificates of the CA.
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    pub ca_certs: Option<Vec<Certificate>>,
    /// The old keys.
    #[asn1(context_specific = "2", optional = "true", tag_mode = "EXPLICIT")]
    pub key_pair_hist: Option<Vec<CertifiedKeyPair>>,
}
