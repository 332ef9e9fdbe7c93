//! What stands in messages as a whole: certificates, names, keys. The bytes are kept as they came.

use der::{
    Choice, Decode, DecodeValue, Encode, EncodeValue, FixedTag, Header, Length, Reader, Tag,
    TagNumber, Tagged, Writer, asn1::Any,
};

macro_rules! sequences {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name {
            contents: Vec<u8>,
        }

        impl $name {
            /// Reads the one DER SEQUENCE that `der` has to be.
            pub fn from_der(der: &[u8]) -> der::Result<Self> {
                Decode::from_der(der)
            }

            /// The DER, header included.
            pub fn to_der(&self) -> Vec<u8> {
                // A SEQUENCE as long as one that was decoded, or that fits into memory, has a header.
                Encode::to_der(self).unwrap_or_default()
            }

            /// What is inside the SEQUENCE.
            pub fn contents(&self) -> &[u8] {
                &self.contents
            }
        }

        impl FixedTag for $name {
            const TAG: Tag = Tag::Sequence;
        }

        impl<'a> DecodeValue<'a> for $name {
            type Error = der::Error;

            fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<Self> {
                Ok(Self { contents: reader.read_slice(header.length())?.to_vec() })
            }
        }

        impl EncodeValue for $name {
            fn value_len(&self) -> der::Result<Length> {
                Length::try_from(self.contents.len())
            }

            fn encode_value(&self, writer: &mut impl Writer) -> der::Result<()> {
                writer.write(&self.contents)
            }
        }
    )*};
}

sequences! {
    /// `CMPCertificate`: an X.509 certificate (RFC 9810 §5.1).
    Certificate;
    /// `CertificateList` (RFC 5280 §5.1).
    CertificateList;
    /// `CertificationRequest` of PKCS #10 (RFC 2986 §4.2).
    CertificationRequest;
    /// A PKIMessage inside a nested one (RFC 9810 §5.1.3.4); read with [`super::Message::decode`].
    EncodedMessage;
    /// `EncryptedValue`, deprecated since RFC 9480 (RFC 4211 Appendix B).
    EncryptedValue;
    /// `EnvelopedData` (RFC 5652 §6.1).
    EnvelopedData;
    /// `Extensions` (RFC 5280 §4.1.2.9).
    Extensions;
    /// `GeneralNames` (RFC 5280 §4.2.1.6).
    GeneralNames;
    /// `Name` (RFC 5280 §4.1.2.4).
    Name;
    /// `PKIPublicationInfo` (RFC 4211 §6.3).
    PublicationInfo;
    /// `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7).
    PublicKeyInfo;
}

impl Name {
    /// The name without any part, NULL-DN.
    pub fn null() -> Self {
        Self {
            contents: Vec::new(),
        }
    }

    /// A name of one `commonName`, as UTF8String.
    pub fn common(text: &str) -> Self {
        let mut name = Self::null();
        // An attribute of an OID and a short text always encodes; a text over 256 MiB leaves NULL-DN.
        if let Ok(contents) = common_name(text) {
            name.contents = contents;
        }
        name
    }

    /// Whether it is NULL-DN.
    pub fn is_null(&self) -> bool {
        self.contents.is_empty()
    }
}

fn common_name(text: &str) -> der::Result<Vec<u8>> {
    let attribute = x509_cert::attr::AttributeTypeAndValue {
        oid: der::asn1::ObjectIdentifier::new_unwrap("2.5.4.3"),
        value: Any::new(Tag::Utf8String, text.as_bytes())?,
    };
    Any::new(Tag::Set, attribute.to_der()?)?.to_der()
}

/// `GeneralName` (RFC 5280 §4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneralName(Any);

impl GeneralName {
    /// A `directoryName`.
    pub fn directory(name: &Name) -> der::Result<Self> {
        Any::new(DIRECTORY_NAME, name.to_der()).map(Self)
    }

    /// The name in a `directoryName`; nothing for the other kinds.
    pub fn as_directory(&self) -> Option<Name> {
        (self.0.tag() == DIRECTORY_NAME)
            .then(|| Name::from_der(self.0.value()).ok())
            .flatten()
    }

    /// The `directoryName` NULL-DN, for a name that is not known (RFC 9810 §5.1.1).
    pub fn is_null(&self) -> bool {
        self.as_directory().is_some_and(|name| name.is_null())
    }
}

const DIRECTORY_NAME: Tag = Tag::ContextSpecific {
    constructed: true,
    number: TagNumber(4),
};

impl<'a> Choice<'a> for GeneralName {
    fn can_decode(tag: Tag) -> bool {
        matches!(tag, Tag::ContextSpecific { number, .. } if number.value() <= 8)
    }
}

impl<'a> Decode<'a> for GeneralName {
    type Error = der::Error;

    fn decode<R: Reader<'a>>(reader: &mut R) -> der::Result<Self> {
        let any: Any = reader.decode()?;
        if !Self::can_decode(any.tag()) {
            return Err(reader.error(any.tag().unexpected_error(None)));
        }
        Ok(Self(any))
    }
}

impl Tagged for GeneralName {
    fn tag(&self) -> Tag {
        self.0.tag()
    }
}

impl EncodeValue for GeneralName {
    fn value_len(&self) -> der::Result<Length> {
        self.0.value_len()
    }

    fn encode_value(&self, writer: &mut impl Writer) -> der::Result<()> {
        self.0.encode_value(writer)
    }
}
