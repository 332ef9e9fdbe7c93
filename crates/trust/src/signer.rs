//! Who signs messages, wherever they came from: path validation without the figure, which is about connections.

use crate::{
    anchor::Anchor,
    context::{Policy, Time},
    decision::ChainCertificate,
    error::{Purpose, Refusal},
    path::{self, Search},
    presented::{describe, read},
};

/// The path from a signer's certificate, the first of `chain`, DER, to an anchor (RFC 5280 §6.1): its own first, the anchor last.
/// The others of the chain may be out of order or superfluous. A certificate that is itself an anchor is a path.
///
/// Names are not looked at, nor whether anything was revoked.
///
/// # Errors
/// Why there is no path, or what in the certificate does not allow the purpose.
pub fn validate_signer(
    chain: &[Vec<u8>],
    anchors: &[Anchor],
    time: Time,
    purpose: Purpose,
    policy: &Policy,
) -> Result<Vec<ChainCertificate>, Refusal> {
    let (presented, _) = read(chain, policy)?;
    let anchors = path::relevant(anchors, &presented);
    let search = Search {
        presented: &presented,
        anchors: &anchors,
        purpose,
        time,
        policy,
        signatures: None,
    };
    match search.run() {
        Ok(path) => Ok(path
            .iter()
            .map(|link| describe(link.certificate, link.source))
            .collect()),
        Err(failure) => Err(failure.refusal),
    }
}
