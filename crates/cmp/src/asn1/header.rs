//! `PKIHeader` (RFC 9810 §5.1.1).

use der::{
    Sequence,
    asn1::{GeneralizedTime, ObjectIdentifier, OctetString},
};

use super::{Algorithm, FreeText, GeneralName, InfoTypeAndValue};

/// `PKIHeader` (RFC 9810 §5.1.1); which fields have to be there says RFC 9483 §3.1.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Header {
    /// 1 (cmp1999), 2 (cmp2000) or 3 (cmp2021).
    pub pvno: i64,
    /// Who protects the message.
    pub sender: GeneralName,
    /// For whom it is.
    pub recipient: GeneralName,
    /// When it was made.
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub message_time: Option<GeneralizedTime>,
    /// How it is protected.
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    pub protection_alg: Option<Algorithm>,
    /// Which key of the sender protects it: the certificate's key identifier, or the reference of the shared secret.
    #[asn1(context_specific = "2", optional = "true", tag_mode = "EXPLICIT")]
    pub sender_kid: Option<OctetString>,
    /// Which key of the recipient it is for.
    #[asn1(context_specific = "3", optional = "true", tag_mode = "EXPLICIT")]
    pub recip_kid: Option<OctetString>,
    /// The transaction it belongs to.
    #[asn1(context_specific = "4", optional = "true", tag_mode = "EXPLICIT")]
    pub transaction_id: Option<OctetString>,
    /// The sender's fresh nonce.
    #[asn1(context_specific = "5", optional = "true", tag_mode = "EXPLICIT")]
    pub sender_nonce: Option<OctetString>,
    /// `sender_nonce` of the message that this one answers.
    #[asn1(context_specific = "6", optional = "true", tag_mode = "EXPLICIT")]
    pub recip_nonce: Option<OctetString>,
    /// For people.
    #[asn1(context_specific = "7", optional = "true", tag_mode = "EXPLICIT")]
    pub free_text: Option<FreeText>,
    /// More about the message or the sender's wishes, such as implicitConfirm.
    #[asn1(context_specific = "8", optional = "true", tag_mode = "EXPLICIT")]
    pub general_info: Option<Vec<InfoTypeAndValue>>,
}

impl Header {
    /// A header with names only.
    pub fn new(pvno: i64, sender: GeneralName, recipient: GeneralName) -> Self {
        Self {
            pvno,
            sender,
            recipient,
            message_time: None,
            protection_alg: None,
            sender_kid: None,
            recip_kid: None,
            transaction_id: None,
            sender_nonce: None,
            recip_nonce: None,
            free_text: None,
            general_info: None,
        }
    }

    /// The first entry of this type in `generalInfo`.
    pub fn info(&self, info_type: ObjectIdentifier) -> Option<&InfoTypeAndValue> {
        self.general_info
            .iter()
            .flatten()
            .find(|info| info.info_type == info_type)
    }
}
