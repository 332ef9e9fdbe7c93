//! Versions of the protocol, and the namespaces they stand in.

use std::{fmt, str::FromStr};

/// A version of CWMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// TR-069 Amendment 1.
    V1_0,
    /// TR-069 Amendment 2.
    V1_1,
    /// TR-069 Amendment 3.
    V1_2,
    /// TR-069 Amendment 4.
    V1_3,
    /// TR-069 Amendments 5 and 6.
    V1_4,
}

impl Version {
    /// All, the oldest first.
    pub const ALL: [Self; 5] = [Self::V1_0, Self::V1_1, Self::V1_2, Self::V1_3, Self::V1_4];

    /// As in `SupportedCWMPVersions`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
            Self::V1_4 => "1.4",
        }
    }

    /// The namespace in which its messages stand: 1.3 and 1.4 only added headers to that of 1.2.
    pub const fn namespace(self) -> Namespace {
        match self {
            Self::V1_0 => Namespace::V1_0,
            Self::V1_1 => Namespace::V1_1,
            Self::V1_2 | Self::V1_3 | Self::V1_4 => Namespace::V1_2,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Text that is no version we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 1.0, 1.1, 1.2, 1.3 or 1.4")]
pub struct UnknownVersion;

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        let text = text.trim();
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or(UnknownVersion)
    }
}

/// The namespace of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespace {
    /// `urn:dslforum-org:cwmp-1-0`.
    V1_0,
    /// `urn:dslforum-org:cwmp-1-1`.
    V1_1,
    /// `urn:dslforum-org:cwmp-1-2`.
    V1_2,
}

impl Namespace {
    /// The URN.
    pub const fn urn(self) -> &'static str {
        match self {
            Self::V1_0 => "urn:dslforum-org:cwmp-1-0",
            Self::V1_1 => "urn:dslforum-org:cwmp-1-1",
            Self::V1_2 => "urn:dslforum-org:cwmp-1-2",
        }
    }

    /// The namespace of a URN. There is none after cwmp-1-2, but devices that count on after it mean it.
    pub fn from_urn(urn: &str) -> Option<Self> {
        let minor = urn.trim().strip_prefix("urn:dslforum-org:cwmp-1-")?;
        match minor.parse::<u8>().ok()? {
            0 => Some(Self::V1_0),
            1 => Some(Self::V1_1),
            _ => Some(Self::V1_2),
        }
    }

    /// The oldest version whose messages stand in it.
    pub const fn version(self) -> Version {
        match self {
            Self::V1_0 => Version::V1_0,
            Self::V1_1 => Version::V1_1,
            Self::V1_2 => Version::V1_2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_is_read_as_it_is_written_and_has_its_namespace() {
        for version in Version::ALL {
            assert_eq!(version.as_str().parse(), Ok(version));
            assert!(version.namespace().version() <= version);
        }
        assert_eq!("1.5".parse::<Version>(), Err(UnknownVersion));
        for namespace in [Namespace::V1_0, Namespace::V1_1, Namespace::V1_2] {
            assert_eq!(Namespace::from_urn(namespace.urn()), Some(namespace));
        }
        let counted_on = Namespace::from_urn("urn:dslforum-org:cwmp-1-4");
        assert_eq!(counted_on, Some(Namespace::V1_2));
        assert_eq!(Namespace::from_urn("urn:dslforum-org:cwmp-2-0"), None);
    }
}
