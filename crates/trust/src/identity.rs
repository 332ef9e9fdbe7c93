//! Who the peer is, as its certificate says (R-SEC.0a, R-SEC.10a, R-SEC.12).

use std::time::SystemTime;

use crate::{certificate::Certificate, decision::Basis, extension::GeneralName};

/// What precedes an Endpoint ID in a certificate (TR-369 "Endpoint Identifier").
const URN_NAMESPACE: &str = "urn:bbf:";
const URN_ENDPOINT: &str = "usp:id:";

/// Identity of an authenticated peer, taken from its certificate's `subjectAltName`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Endpoint IDs of the `urn:bbf:usp:id:` URIs, in the certificate's order, without the URN prefix (R-SEC.0a).
    /// Percent-encoding is normalised (RFC 3986 §6.2.2): octets that need none are decoded, hex digits are upper case,
    /// so that an entry is an Endpoint ID as in a Record. An entry may hold the wildcard `*` (R-SEC.12): compare with
    /// [`PeerIdentity::is_endpoint`].
    pub endpoint_ids: Vec<String>,
    /// The `dNSName`s, in the certificate's order, lower case.
    pub dns_names: Vec<String>,
    /// Subject, as RFC 4514 text.
    pub subject: String,
    /// SHA-256 of the certificate's DER.
    pub fingerprint: [u8; 32],
    /// End of validity.
    pub not_after: SystemTime,
    /// SHA-256 of the DER of the anchor that the path ended in; `None` when the identity rests on none.
    pub anchor: Option<[u8; 32]>,
    /// What the identity rests on: never [`Basis::CachedSession`], but what the resumed session rested on.
    pub basis: Basis,
}

impl PeerIdentity {
    /// What the certificate says.
    pub(crate) fn of(
        certificate: &Certificate<'_>,
        anchor: Option<[u8; 32]>,
        basis: Basis,
    ) -> Self {
        let names = &certificate.extensions.subject_alt_names;
        Self {
            endpoint_ids: names
                .iter()
                .filter_map(|name| match name {
                    GeneralName::Uri(uri) => endpoint_id(uri),
                    _ => None,
                })
                .collect(),
            dns_names: names
                .iter()
                .filter_map(|name| match name {
                    GeneralName::Dns(name) if name.bytes().all(|b| b.is_ascii_graphic()) => {
                        Some(name.to_ascii_lowercase())
                    }
                    _ => None,
                })
                .collect(),
            subject: certificate.subject.to_string(),
            fingerprint: certificate.fingerprint(),
            not_after: certificate.not_after,
            anchor,
            basis,
        }
    }

    /// Nobody in particular, see [`Basis::NotVerified`].
    pub(crate) fn not_verified(certificate: Option<&[u8]>) -> Self {
        Self {
            endpoint_ids: Vec::new(),
            dns_names: Vec::new(),
            subject: String::new(),
            fingerprint: certificate.map_or([0; 32], crate::fingerprint),
            not_after: SystemTime::UNIX_EPOCH,
            anchor: None,
            basis: Basis::NotVerified,
        }
    }

    /// Whether it is somebody: the usual, unless whoever took the peer takes anybody ([`Basis::NotVerified`]).
    pub fn is_verified(&self) -> bool {
        self.basis != Basis::NotVerified
    }

    /// Whether the certificate authenticates this Endpoint ID: one of its URNs is the ID (R-SEC.0a), or is a wildcard
    /// that R-SEC.12 allows and that covers it, or the ID is `fqdn::<name>` and `<name>` is one of the `dNSName`s,
    /// letter by letter (a wildcard `dNSName` is no representation of an Endpoint ID).
    pub fn is_endpoint(&self, endpoint_id: &str) -> bool {
        let Some(wanted) = normalise(endpoint_id) else {
            return false;
        };
        // An Endpoint ID holds no wildcard (R-ARC.5); only a certificate's representation of several may.
        if wanted.contains('*') {
            return false;
        }
        self.endpoint_ids
            .iter()
            .any(|own| *own == wanted || covers(own, &wanted))
            || wanted.strip_prefix("fqdn::").is_some_and(|host| {
                self.dns_names
                    .iter()
                    .any(|name| name.eq_ignore_ascii_case(host))
            })
    }

    /// Whether several Agents share the certificate by design: one of its URNs has a wildcard that R-SEC.12 allows (R-SEC.11).
    pub fn is_shared(&self) -> bool {
        self.endpoint_ids.iter().any(|own| {
            split(own).is_some_and(|(scheme, authority, instance)| {
                instance.contains('*') && wildcard_allowed(scheme, authority, instance)
            })
        })
    }
}

/// Whether one certificate authenticates both Endpoint IDs because they are one, written in two ways: percent-encoding
/// and the case of a domain name make no difference. A wildcard or what is no Endpoint ID is never the same.
pub fn same_endpoint(a: &str, b: &str) -> bool {
    match (normalise(a), normalise(b)) {
        (Some(a), Some(b)) => {
            let is_name = |id: &str| id.starts_with("fqdn::");
            !a.contains('*') && (a == b || is_name(&a) && is_name(&b) && a.eq_ignore_ascii_case(&b))
        }
        _ => false,
    }
}

/// The Endpoint ID in a URI, if it is the URN of one.
fn endpoint_id(uri: &str) -> Option<String> {
    // "urn" and the namespace identifier ignore case, what follows does not (RFC 8141 §3.1).
    let (namespace, rest) = uri.split_at_checked(URN_NAMESPACE.len())?;
    if !namespace.eq_ignore_ascii_case(URN_NAMESPACE) {
        return None;
    }
    normalise(rest.strip_prefix(URN_ENDPOINT)?)
}

/// `scheme ":" [authority] ":" instance` with percent-encoding normalised; `None` when it has not that form.
pub(crate) fn normalise(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let (high, low) = (hex(bytes.next()?)?, hex(bytes.next()?)?);
                let octet = high << 4 | low;
                if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_') {
                    out.push(char::from(octet));
                } else {
                    out.push_str(&format!("%{octet:02X}"));
                }
            }
            _ if byte.is_ascii_graphic() => out.push(char::from(byte)),
            _ => return None,
        }
    }
    let (scheme, _, instance) = split(&out)?;
    (!scheme.is_empty() && !instance.is_empty()).then_some(out)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

fn split(endpoint_id: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = endpoint_id.split_once(':')?;
    let (authority, instance) = rest.split_once(':')?;
    Some((scheme, authority, instance))
}

/// Whether a wildcarded Endpoint ID is one that R-SEC.12 allows, and covers the wanted one.
fn covers(pattern: &str, wanted: &str) -> bool {
    let (Some((scheme, authority, instance)), Some(wanted)) = (split(pattern), split(wanted))
    else {
        return false;
    };
    instance.contains('*')
        && wildcard_allowed(scheme, authority, instance)
        && (scheme, authority) == (wanted.0, wanted.1)
        && glob(instance.as_bytes(), wanted.2.as_bytes())
}

/// R-SEC.12: only where the assigning entity is explicit. For `os` and `ops` it is the OUI that begins the instance-id.
fn wildcard_allowed(scheme: &str, authority: &str, instance: &str) -> bool {
    match scheme {
        "oui" | "cid" | "pen" => !authority.is_empty() && !authority.contains('*'),
        "os" | "ops" => {
            let oui = instance.split_once('-').map_or("", |(oui, _)| oui);
            authority.is_empty()
                && matches!(oui.len(), 6 | 7 | 9)
                && oui.bytes().all(|b| b.is_ascii_hexdigit())
        }
        _ => false,
    }
}

/// `*` stands for any number of characters. Linear memory, at most pattern × text steps.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(&byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(&expected) if expected == byte => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after, from)) = retry else {
                    return false;
                };
                retry = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
        }
    }
    pattern
        .get(p..)
        .is_some_and(|rest| rest.iter().all(|&b| b == b'*'))
}
