//! Does a certificate name the host we connected to? (RFC 6125 §6.4, RFC 9525; Figure MTP.1)

use std::net::IpAddr;

use crate::extension::GeneralName;

/// How the host was found in the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostMatch {
    /// By this `dNSName`, which may be a wildcard.
    Dns(String),
    /// By an `iPAddress`.
    Ip(IpAddr),
}

/// Looks for the host among the subject alternative names. The common name is not looked at (RFC 6125 §6.4.4 allows that).
pub(crate) fn find(host: &str, names: &[GeneralName<'_>]) -> Option<HostMatch> {
    if let Some(address) = ip(host) {
        let matches = |name: &GeneralName<'_>| match (name, address) {
            (GeneralName::Ip(bytes), IpAddr::V4(v4)) => *bytes == v4.octets(),
            (GeneralName::Ip(bytes), IpAddr::V6(v6)) => *bytes == v6.octets(),
            _ => false,
        };
        return names.iter().any(matches).then_some(HostMatch::Ip(address));
    }
    let host = dns(host)?;
    names.iter().find_map(|name| match name {
        GeneralName::Dns(pattern) if matches(pattern, host) => {
            Some(HostMatch::Dns((*pattern).to_owned()))
        }
        _ => None,
    })
}

/// Whether the host lies in a domain for which no CA can vouch: `*.local` or `*.home.arpa` (Figure MTP.1 and its note).
pub(crate) fn is_lan_only(host: &str) -> bool {
    // A host that `dns` lets through has no empty label, so at least one label precedes the suffix.
    dns(host).is_some_and(|host| {
        let host = host.to_ascii_lowercase();
        host.ends_with(".local") || host.ends_with(".home.arpa")
    })
}

/// An IP literal, with or without the brackets of a URL.
fn ip(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse().ok()
}

/// A DNS name in letters, digits, hyphens and underscores (A-labels), without its final dot.
fn dns(host: &str) -> Option<&str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    (host.len() <= 253 && host.split('.').all(label)).then_some(host)
}

/// RFC 6125 §6.4.3: a wildcard is the whole left-most label, stands for exactly one label, and has at least two labels
/// to its right (no `*.com`). Anything else compares label by label, without regard to case (§6.4.1).
fn matches(pattern: &str, host: &str) -> bool {
    let pattern = pattern.strip_suffix('.').unwrap_or(pattern);
    match pattern.strip_prefix("*.") {
        Some(rest) => host.split_once('.').is_some_and(|(_, domain)| {
            rest.contains('.') && dns(rest).is_some() && domain.eq_ignore_ascii_case(rest)
        }),
        None => dns(pattern).is_some() && pattern.eq_ignore_ascii_case(host),
    }
}
