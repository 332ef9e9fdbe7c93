//! The rules for headers that both sides follow (RFC 9483 §3.1, §3.5).

use std::time::{Duration, Instant, SystemTime};

use der::asn1::{GeneralizedTime, OctetString};
use rand_core::Rng;

use crate::{
    asn1::{GeneralName, Header, Info, InfoTypeAndValue},
    oid,
    refusal::Refusal,
};

/// Bytes of transaction identifiers and nonces: 128 bits (RFC 9483 §3.1).
pub(crate) const NONCE: usize = 16;

/// When something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// For waiting.
    pub now: Instant,
    /// The time of day for `messageTime`, if it is known.
    pub time: Option<SystemTime>,
}

/// How far `messageTime` may be from our time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimePolicy {
    /// The tolerance in both directions; `None`: not checked.
    pub tolerance: Option<Duration>,
    /// Whether it has to be there.
    pub required: bool,
}

impl Default for TimePolicy {
    /// Ten minutes, if it is there.
    fn default() -> Self {
        Self {
            tolerance: Some(Duration::from_secs(600)),
            required: false,
        }
    }
}

/// What a header that follows the rules has.
pub(crate) struct Checked {
    pub(crate) transaction: Vec<u8>,
    pub(crate) sender_nonce: Vec<u8>,
}

/// Checks version, transaction, nonce, time and general information.
pub(crate) fn check(
    header: &Header,
    moment: Moment,
    policy: &TimePolicy,
) -> Result<Checked, Refusal> {
    if !(2..=3).contains(&header.pvno) {
        return Err(Refusal::Version(header.pvno));
    }
    let transaction =
        octets(header.transaction_id.as_ref()).map_err(|bytes| Refusal::TransactionId { bytes })?;
    let sender_nonce =
        octets(header.sender_nonce.as_ref()).map_err(|bytes| Refusal::SenderNonce { bytes })?;
    check_time(header, moment, policy)?;
    read_infos(header.general_info.as_deref().unwrap_or_default())?;
    Ok(Checked {
        transaction,
        sender_nonce,
    })
}

/// General information, every value of its type.
pub(crate) fn read_infos(infos: &[InfoTypeAndValue]) -> Result<Vec<Info>, Refusal> {
    infos
        .iter()
        .map(|info| Info::read(info).map_err(|_| Refusal::GeneralInfo(info.info_type)))
        .collect()
}

/// At least 128 bits, and no more than 64 bytes, which nobody needs.
fn octets(field: Option<&OctetString>) -> Result<Vec<u8>, usize> {
    let bytes = field.map_or(&[][..], OctetString::as_bytes);
    if (NONCE..=64).contains(&bytes.len()) {
        Ok(bytes.to_vec())
    } else {
        Err(bytes.len())
    }
}

fn check_time(header: &Header, moment: Moment, policy: &TimePolicy) -> Result<(), Refusal> {
    let Some(sent) = header.message_time else {
        return if policy.required {
            Err(Refusal::TimeMissing)
        } else {
            Ok(())
        };
    };
    let (Some(now), Some(tolerance)) = (moment.time, policy.tolerance) else {
        return Ok(());
    };
    let sent = sent.to_system_time();
    let away = now
        .duration_since(sent)
        .unwrap_or_else(|error| error.duration());
    if away > tolerance {
        return Err(Refusal::Time {
            seconds: away.as_secs(),
        });
    }
    Ok(())
}

/// Whether the header asks for, or grants, implicit confirmation.
pub(crate) fn implicit_confirm(header: &Header) -> bool {
    header.info(oid::IMPLICIT_CONFIRM).is_some()
}

/// The first name in `certProfile`.
pub(crate) fn profile(header: &Header) -> Option<String> {
    match Info::read(header.info(oid::CERT_PROFILE)?) {
        Ok(Info::CertProfile(names)) => names.into_iter().next(),
        _ => None,
    }
}

/// What a header of ours needs besides what the protection fills in.
pub(crate) struct Draft<'a> {
    pub(crate) pvno: i64,
    pub(crate) sender: &'a GeneralName,
    pub(crate) recipient: &'a GeneralName,
    pub(crate) transaction: Option<&'a [u8]>,
    pub(crate) sender_nonce: &'a [u8],
    pub(crate) recip_nonce: Option<&'a [u8]>,
    pub(crate) time: Option<SystemTime>,
    pub(crate) general_info: Vec<InfoTypeAndValue>,
}

impl Draft<'_> {
    pub(crate) fn header(self) -> der::Result<Header> {
        let mut header = Header::new(self.pvno, self.sender.clone(), self.recipient.clone());
        header.message_time = self.time.and_then(generalized);
        header.transaction_id = self.transaction.map(OctetString::new).transpose()?;
        header.sender_nonce = Some(OctetString::new(self.sender_nonce)?);
        header.recip_nonce = self.recip_nonce.map(OctetString::new).transpose()?;
        header.general_info = (!self.general_info.is_empty()).then_some(self.general_info);
        Ok(header)
    }
}

/// In whole seconds; nothing for a time that GeneralizedTime does not reach.
pub(crate) fn generalized(time: SystemTime) -> Option<GeneralizedTime> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    GeneralizedTime::from_unix_duration(Duration::from_secs(since.as_secs())).ok()
}

/// A fresh nonce or transaction identifier.
pub(crate) fn fresh(rng: &mut impl Rng) -> Vec<u8> {
    let mut nonce = vec![0; NONCE];
    rng.fill_bytes(&mut nonce);
    nonce
}
