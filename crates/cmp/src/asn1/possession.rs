//! Proof of possession of the private key (RFC 4211 §4).

use der::{
    Choice, Sequence,
    asn1::{BitString, Null, OctetString},
};

use super::{Algorithm, EnvelopedData, GeneralName, PublicKeyInfo};

/// `ProofOfPossession` (RFC 4211 §4). `POPOPrivKey` is a CHOICE, so that the tags around it are explicit.
#[derive(Clone, Debug, PartialEq, Eq, Choice)]
#[asn1(tag_mode = "IMPLICIT")]
pub enum ProofOfPossession {
    /// The RA has verified it.
    #[asn1(context_specific = "0")]
    RaVerified(Null),
    /// A signature by the key.
    #[asn1(context_specific = "1", constructed = "true")]
    Signature(SigningKeyProof),
    /// For keys that encrypt.
    #[asn1(context_specific = "2", constructed = "true", tag_mode = "EXPLICIT")]
    KeyEncipherment(PrivateKeyProof),
    /// For keys that agree on keys.
    #[asn1(context_specific = "3", constructed = "true", tag_mode = "EXPLICIT")]
    KeyAgreement(PrivateKeyProof),
}

/// `POPOSigningKey` (RFC 4211 §4.1).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct SigningKeyProof {
    /// What is signed when the template lacks subject or key; otherwise the `CertRequest` is.
    #[asn1(context_specific = "0", optional = "true", tag_mode = "IMPLICIT")]
    pub input: Option<SignatureInput>,
    /// The signature algorithm.
    pub algorithm: Algorithm,
    /// The signature.
    pub signature: BitString,
}

/// `POPOSigningKeyInput` (RFC 4211 §4.1).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct SignatureInput {
    /// Who asks.
    pub auth_info: AuthInfo,
    /// The key.
    pub public_key: PublicKeyInfo,
}

/// `authInfo` of `POPOSigningKeyInput` (RFC 4211 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthInfo {
    /// The authenticated identity of the requester.
    Sender(GeneralName),
    /// A MAC over the key with a shared secret.
    PublicKeyMac(MacValue),
}

impl<'a> Choice<'a> for AuthInfo {
    fn can_decode(tag: der::Tag) -> bool {
        tag == SENDER || tag == der::Tag::Sequence
    }
}

const SENDER: der::Tag = der::Tag::ContextSpecific {
    constructed: true,
    number: der::TagNumber(0),
};

impl<'a> der::Decode<'a> for AuthInfo {
    type Error = der::Error;

    fn decode<R: der::Reader<'a>>(reader: &mut R) -> der::Result<Self> {
        if der::Tag::peek(reader)? == SENDER {
            let any: der::asn1::AnyRef<'a> = reader.decode()?;
            GeneralName::from_der(any.value()).map(Self::Sender)
        } else {
            reader.decode().map(Self::PublicKeyMac)
        }
    }
}

impl der::Tagged for AuthInfo {
    fn tag(&self) -> der::Tag {
        match self {
            Self::Sender(_) => SENDER,
            Self::PublicKeyMac(_) => der::Tag::Sequence,
        }
    }
}

impl der::EncodeValue for AuthInfo {
    fn value_len(&self) -> der::Result<der::Length> {
        match self {
            Self::Sender(name) => der::Encode::encoded_len(name),
            Self::PublicKeyMac(mac) => mac.value_len(),
        }
    }

    fn encode_value(&self, writer: &mut impl der::Writer) -> der::Result<()> {
        match self {
            Self::Sender(name) => der::Encode::encode(name, writer),
            Self::PublicKeyMac(mac) => mac.encode_value(writer),
        }
    }
}

/// `PKMACValue` (RFC 4211 §4.4).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct MacValue {
    /// The MAC algorithm.
    pub algorithm: Algorithm,
    /// The MAC.
    pub value: BitString,
}

/// `POPOPrivKey` (RFC 4211 §4.2, RFC 9480 §2.27).
#[derive(Clone, Debug, PartialEq, Eq, Choice)]
#[asn1(tag_mode = "IMPLICIT")]
pub enum PrivateKeyProof {
    /// The private key itself, deprecated.
    #[asn1(context_specific = "0")]
    ThisMessage(BitString),
    /// What follows proves it: 0 an encrypted certificate, 1 a challenge.
    #[asn1(context_specific = "1")]
    SubsequentMessage(i64),
    /// A MAC by Diffie-Hellman, deprecated.
    #[asn1(context_specific = "2")]
    DhMac(BitString),
    /// A MAC by key agreement.
    #[asn1(context_specific = "3", constructed = "true")]
    AgreeMac(MacValue),
    /// The private key, encrypted for the CA.
    #[asn1(context_specific = "4", constructed = "true")]
    EncryptedKey(EnvelopedData),
}

/// `Challenge` (RFC 9810 §5.2.8.3).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Challenge {
    /// The one-way function; absent means that of the challenge before.
    #[asn1(optional = "true")]
    pub owf: Option<Algorithm>,
    /// The function's result on the random number.
    pub witness: OctetString,
    /// The encrypted random number.
    pub challenge: OctetString,
    /// The same as EnvelopedData (version 3).
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub encrypted_rand: Option<EnvelopedData>,
}
