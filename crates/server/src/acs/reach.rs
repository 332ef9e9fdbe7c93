//! Where Connection Requests may go. A device tells the address itself, so it must not make the server call the operator's own hosts.

use std::net::IpAddr;
use std::str::FromStr;

/// The networks that Connection Requests may go to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach(Vec<Network>);

impl Reach {
    /// These networks; with none, only the address that a device's own session came from.
    ///
    /// # Errors
    /// The text that is no network.
    pub(crate) fn parse(networks: &[String]) -> Result<Self, String> {
        let networks = networks.iter();
        let networks = networks.map(|text| text.parse().map_err(|()| text.clone()));
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a device whose last session came from `from` may be called at `to`. Loopback, link-local and the like only where they are named.
    pub(crate) fn allows(&self, to: IpAddr, from: Option<IpAddr>) -> bool {
        let to = to.to_canonical();
        if self.0.is_empty() {
            return from == Some(to) && is_ordinary(to);
        }
        self.0.iter().any(|network| network.has(to))
    }
}

/// An address with the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    fn has(&self, address: IpAddr) -> bool {
        let same = |own: u128, other: u128, width: u8| {
            let rest = u32::from(width - self.prefix.min(width));
            own.checked_shr(rest).unwrap_or(0) == other.checked_shr(rest).unwrap_or(0)
        };
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                same(own.to_bits().into(), other.to_bits().into(), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => same(own.to_bits(), other.to_bits(), 128),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, prefix) = text
            .split_once('/')
            .map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= width),
            None => Some(width),
        };
        Ok(Self {
            address,
            prefix: prefix.ok_or(())?,
        })
    }
}

/// Not this machine, not only this link, not many.
fn is_ordinary(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_broadcast())
        }
        IpAddr::V6(address) => {
            !(address.is_loopback()
                || address.is_unicast_link_local()
                || address.is_unspecified()
                || address.is_multicast())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn reach(networks: &[&str]) -> Reach {
        let networks: Vec<_> = networks.iter().map(|text| (*text).to_owned()).collect();
        Reach::parse(&networks).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn by_itself_a_device_is_called_where_its_session_came_from_and_nowhere_else() {
        let reach = reach(&[]);
        for own in ["192.0.2.1", "10.1.2.3", "2001:db8::1"] {
            assert!(reach.allows(ip(own), Some(ip(own))), "{own}");
            assert!(!reach.allows(ip(own), None), "{own}");
            assert!(!reach.allows(ip(own), Some(ip("192.0.2.2"))), "{own}");
        }
        assert!(reach.allows(ip("::ffff:192.0.2.1"), Some(ip("192.0.2.1"))));
        for never in [
            "127.0.0.1",
            "::ffff:127.0.0.1",
            "::1",
            "169.254.169.254",
            "fe80::1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            let never = ip(never);
            assert!(!reach.allows(never, Some(never.to_canonical())), "{never}");
        }
    }

    #[test]
    fn where_networks_are_named_these_are_called() {
        let reach = reach(&["10.0.0.0/8", "127.0.0.1", "2001:db8::/32", "0.0.0.0/32"]);
        for inside in ["10.255.0.1", "127.0.0.1", "2001:db8:ffff::1", "0.0.0.0"] {
            assert!(reach.allows(ip(inside), None), "{inside}");
        }
        for outside in [
            "11.0.0.1",
            "127.0.0.2",
            "2001:db9::1",
            "192.0.2.1",
            "0.0.0.1",
        ] {
            assert!(!reach.allows(ip(outside), Some(ip(outside))), "{outside}");
        }
        assert!(self::reach(&["0.0.0.0/0"]).allows(ip("127.0.0.1"), None));
    }

    #[test]
    fn what_is_no_network_is_told() {
        for wrong in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "host",
            "::/129",
            "10.0.0.0/x",
        ] {
            let wrong = wrong.to_owned();
            assert_eq!(Reach::parse(std::slice::from_ref(&wrong)), Err(wrong));
        }
    }
}
