//! Names as people read them.

use der::Decode as _;
use homefleet_cmp::CertificateParts;
use homefleet_cmp::asn1::Name;
use homefleet_cmp::protection::Protection;

/// A name as RFC 4514 text; nothing for one that cannot be read.
pub(super) fn name(name: &Name) -> String {
    x509_cert::name::Name::from_der(&name.to_der())
        .map_or_else(|_| String::new(), |name| name.to_string())
}

/// Who protects a message.
pub(super) fn requester(protection: &Protection) -> String {
    match protection {
        Protection::None => "nobody".to_owned(),
        Protection::Secret { reference, .. } => {
            format!("secret {}", crate::pki::shown_reference(reference))
        }
        Protection::Certificate { parts, .. } => format!("certificate {}", certificate(parts)),
    }
}

/// Whose certificate it is: its subject, or where it has none its serial number.
pub(super) fn certificate(parts: &CertificateParts) -> String {
    match name(&parts.subject) {
        subject if subject.is_empty() => crate::account::hex(&parts.serial),
        subject => subject,
    }
}
