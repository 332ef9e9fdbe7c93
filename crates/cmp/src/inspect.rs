//! What somebody between the two sides can say of a request without taking part in its transaction.

use crate::{
    asn1::{BodyKind, Limits, Message},
    refusal::Refusal,
    rules::{self, Moment, TimePolicy},
};

/// Kinds that an end entity or an RA sends to an RA or CA (RFC 9810 §5.1.2).
const REQUESTS: [BodyKind; 13] = [
    BodyKind::Ir,
    BodyKind::Cr,
    BodyKind::P10cr,
    BodyKind::Popdecr,
    BodyKind::Kur,
    BodyKind::Krr,
    BodyKind::Rr,
    BodyKind::Ccr,
    BodyKind::Nested,
    BodyKind::Genm,
    BodyKind::Error,
    BodyKind::CertConf,
    BodyKind::PollReq,
];

/// Checks a message on its way to an RA or CA by the rules for headers (RFC 9483 §3.1), those in a nested one too: version, transaction,
/// nonces, time, the types of general information, a body that goes this way, protection that is there. Whether the protection holds, and
/// whether there is such a transaction, is not looked at.
///
/// # Errors
/// The first rule that is broken.
pub fn request(
    message: &Message,
    limits: &Limits,
    moment: Moment,
    policy: &TimePolicy,
) -> Result<(), Refusal> {
    let kind = message.body.kind();
    if !REQUESTS.contains(&kind) {
        return Err(Refusal::UnexpectedBody(kind));
    }
    let header = &*message.header;
    rules::check(header, moment, policy)?;
    match (kind, &header.recip_nonce) {
        (BodyKind::CertConf | BodyKind::PollReq, None) => return Err(Refusal::RecipNonce),
        // An error may answer what had no nonce, and nested ones have their nonces in them.
        (BodyKind::CertConf | BodyKind::PollReq | BodyKind::Error | BodyKind::Popdecr, _) => {}
        (BodyKind::Nested, _) | (_, None) => {}
        (_, Some(_)) => return Err(Refusal::RecipNonceUnasked),
    }
    match (&header.protection_alg, &message.protection) {
        (Some(_), Some(_)) => {}
        // Messages without protection of their own: RFC 9483 §3.6.4 and §5.2.2.2.
        (None, None) if matches!(kind, BodyKind::Error | BodyKind::Nested) => {}
        (None, None) => return Err(Refusal::Unprotected),
        _ => return Err(Refusal::ProtectionIncomplete),
    }
    if kind == BodyKind::Nested {
        let inner = message.nested(limits)?;
        if inner.is_empty() {
            return Err(Refusal::Count { found: 0 });
        }
        let limits = Limits {
            nesting: limits.nesting.saturating_sub(1),
            ..*limits
        };
        for message in &inner {
            request(message, &limits, moment, policy)?;
        }
    }
    Ok(())
}

/// The kinds of a message and of all that are nested in it, its own first.
///
/// # Errors
/// When a nested one cannot be read.
pub fn kinds(message: &Message, limits: &Limits) -> Result<Vec<BodyKind>, Refusal> {
    let mut all = vec![message.body.kind()];
    let inner = message.nested(limits)?;
    let limits = Limits {
        nesting: limits.nesting.saturating_sub(1),
        ..*limits
    };
    for message in &inner {
        all.extend(kinds(message, &limits)?);
    }
    Ok(all)
}
