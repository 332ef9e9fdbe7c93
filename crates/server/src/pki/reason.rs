//! Why a certificate is revoked.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// CRLReason (RFC 5280 §5.3.1). As text, `key-compromise`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No particular one.
    Unspecified,
    /// The private key is known to others.
    KeyCompromise,
    /// The CA's private key is known to others.
    CaCompromise,
    /// The subject's affiliation changed.
    AffiliationChanged,
    /// Another certificate took its place.
    Superseded,
    /// It is no longer needed.
    CessationOfOperation,
    /// On hold: it may come back.
    CertificateHold,
    /// Off hold.
    RemoveFromCrl,
    /// The subject may no longer do what the certificate says.
    PrivilegeWithdrawn,
    /// The attribute authority's key is known to others.
    AaCompromise,
}

/// No reason has this name or code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no reason `{0}`, expected one of {list}", list = Reason::ALL.map(Reason::as_str).join(", "))]
pub struct ReasonError(String);

impl Reason {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 10] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::CertificateHold,
        Self::RemoveFromCrl,
        Self::PrivilegeWithdrawn,
        Self::AaCompromise,
    ];

    /// Its code.
    pub fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::CaCompromise => 2,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::CertificateHold => 6,
            Self::RemoveFromCrl => 8,
            Self::PrivilegeWithdrawn => 9,
            Self::AaCompromise => 10,
        }
    }

    /// By its code; 7 is not used.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key-compromise",
            Self::CaCompromise => "ca-compromise",
            Self::AffiliationChanged => "affiliation-changed",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation-of-operation",
            Self::CertificateHold => "certificate-hold",
            Self::RemoveFromCrl => "remove-from-crl",
            Self::PrivilegeWithdrawn => "privilege-withdrawn",
            Self::AaCompromise => "aa-compromise",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Reason {
    type Err = ReasonError;

    /// By name, or by the name that RFC 5280 writes (`keyCompromise`), or by code.
    fn from_str(text: &str) -> Result<Self, ReasonError> {
        let plain = |name: &str| name.replace('-', "").to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|reason| {
                plain(reason.as_str()) == plain(text) || reason.code().to_string() == text
            })
            .ok_or_else(|| ReasonError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_reason_has_its_code_and_name() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
            assert_eq!(reason.as_str().parse(), Ok(reason));
            assert_eq!(reason.code().to_string().parse(), Ok(reason));
        }
        assert_eq!("keyCompromise".parse(), Ok(Reason::KeyCompromise));
        assert_eq!("removeFromCRL".parse(), Ok(Reason::RemoveFromCrl));
    }

    #[test]
    fn code_7_and_unknown_names_are_no_reason() {
        for code in [7, 11, 255] {
            assert_eq!(Reason::from_code(code), None);
        }
        assert!("7".parse::<Reason>().is_err());
        assert!("because".parse::<Reason>().is_err());
    }
}
