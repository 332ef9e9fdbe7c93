//! Name constraints (RFC 5280 §4.2.1.10, §6.1.3 (b), (c), §6.1.4 (g)).
//!
//! Applied from each CA certificate, the anchor included, to every certificate below it but self-issued intermediates.
//! A form that is limited and cannot be compared makes a certificate that has a name of this form refused.

use std::net::IpAddr;

use crate::{
    certificate::Certificate,
    extension::{GeneralName, NameConstraints},
};

/// Comparisons one CA certificate may cause for one certificate below it.
const MAX_COMPARISONS: usize = 1 << 20;

/// Why a certificate is outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// This name.
    Name(String),
    /// The constraints themselves cannot be applied.
    Unsupported,
}

/// Whether every name of the certificate is permitted and none is excluded.
pub(crate) fn check(
    constraints: &NameConstraints<'_>,
    certificate: &Certificate<'_>,
) -> Result<(), Violation> {
    let mut names: Vec<&GeneralName<'_>> =
        certificate.extensions.subject_alt_names.iter().collect();
    let subject = GeneralName::Directory(certificate.subject.clone());
    if !certificate.subject.is_empty() {
        names.push(&subject);
    }
    let emails: Vec<GeneralName<'_>> = certificate
        .subject
        .emails()
        .iter()
        .map(|email| GeneralName::Email(email))
        .collect();
    names.extend(&emails);
    let bases = constraints.permitted.len() + constraints.excluded.len();
    if constraints.has_distances || bases.saturating_mul(names.len()) > MAX_COMPARISONS {
        return Err(Violation::Unsupported);
    }
    names
        .into_iter()
        .try_for_each(|name| one(constraints, name))
}

fn one(constraints: &NameConstraints<'_>, name: &GeneralName<'_>) -> Result<(), Violation> {
    let refused = || Violation::Name(show(name));
    let mut limited = false;
    let mut permitted = false;
    for base in &constraints.permitted {
        match within(name, base, Role::Permitted) {
            Fit::OtherForm => {}
            Fit::Inside => (limited, permitted) = (true, true),
            Fit::Outside => limited = true,
            Fit::Unclear => return Err(refused()),
        }
    }
    for base in &constraints.excluded {
        match within(name, base, Role::Excluded) {
            Fit::OtherForm | Fit::Outside => {}
            Fit::Inside | Fit::Unclear => return Err(refused()),
        }
    }
    if limited && !permitted {
        Err(refused())
    } else {
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Permitted,
    Excluded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// Name and base are of different forms: the base says nothing about the name.
    OtherForm,
    Inside,
    Outside,
    /// Same form, but the comparison cannot be made.
    Unclear,
}

impl From<bool> for Fit {
    fn from(inside: bool) -> Self {
        if inside { Fit::Inside } else { Fit::Outside }
    }
}

fn within(name: &GeneralName<'_>, base: &GeneralName<'_>, role: Role) -> Fit {
    match (name, base) {
        (GeneralName::Dns(name), GeneralName::Dns(base)) => dns(name, base, role).into(),
        (GeneralName::Directory(name), GeneralName::Directory(base)) => name.is_within(base).into(),
        (GeneralName::Email(name), GeneralName::Email(base)) => email(name, base),
        (GeneralName::Uri(name), GeneralName::Uri(base)) => uri(name, base),
        (GeneralName::Ip(name), GeneralName::Ip(base)) => ip(name, base),
        (GeneralName::Other(name), GeneralName::Other(base)) if name == base => Fit::Unclear,
        _ => Fit::OtherForm,
    }
}

/// A name is inside when labels can be added to the left of the base to make it. A wildcard is permitted when all it
/// stands for is, and excluded when any of it is. A leading dot (labels have to be added) is the field's habit.
fn dns(name: &str, base: &str, role: Role) -> bool {
    if base.is_empty() {
        return true;
    }
    match (name.strip_prefix("*."), role) {
        (Some(domain), Role::Excluded) => {
            let bare = base.strip_prefix('.').unwrap_or(base);
            let one_below = bare
                .split_once('.')
                .is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain));
            one_below || below(domain, bare)
        }
        (Some(_), Role::Permitted) => match base.strip_prefix('.') {
            Some(bare) => name_below(name, bare),
            None => name_below(name, base),
        },
        (None, _) => match base.strip_prefix('.') {
            Some(bare) => name_below(name, bare),
            None => below(name, base),
        },
    }
}

/// The base itself or a name below it.
fn below(name: &str, base: &str) -> bool {
    name.eq_ignore_ascii_case(base) || name_below(name, base)
}

/// A name below the base.
fn name_below(name: &str, base: &str) -> bool {
    name.len()
        .checked_sub(base.len())
        .and_then(|at| name.split_at_checked(at))
        .is_some_and(|(left, right)| {
            left.len() > 1 && left.ends_with('.') && right.eq_ignore_ascii_case(base)
        })
}

/// A base is one mailbox, all mailboxes of one host, or with a leading dot of every host in a domain.
fn email(name: &str, base: &str) -> Fit {
    let Some((mailbox, host)) = name.rsplit_once('@') else {
        return Fit::Unclear;
    };
    match base.rsplit_once('@') {
        Some((base_mailbox, base_host)) => {
            (mailbox == base_mailbox && host.eq_ignore_ascii_case(base_host)).into()
        }
        None => host_fits(host, base),
    }
}

/// The constraint applies to the host; a URI without one, or with an address, is refused (RFC 5280 §4.2.1.10).
/// So a CA with URI constraints cannot issue Endpoint ID URNs.
fn uri(name: &str, base: &str) -> Fit {
    let Some((_, rest)) = name.split_once("://") else {
        return Fit::Unclear;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_port = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = host_port
        .split_once(':')
        .map_or(host_port, |(host, _)| host);
    if host.is_empty() || host.starts_with('[') || host.parse::<IpAddr>().is_ok() {
        return Fit::Unclear;
    }
    host_fits(host, base)
}

fn host_fits(host: &str, base: &str) -> Fit {
    match base.strip_prefix('.') {
        Some(domain) => name_below(host, domain).into(),
        None => (base.is_empty() || host.eq_ignore_ascii_case(base)).into(),
    }
}

/// A base is an address and a mask of the same length.
fn ip(name: &[u8], base: &[u8]) -> Fit {
    if !matches!(base.len(), 8 | 32) || !matches!(name.len(), 4 | 16) {
        return Fit::Unclear;
    }
    let (address, mask) = base.split_at(base.len() / 2);
    if name.len() != address.len() {
        return Fit::Outside;
    }
    let same = name
        .iter()
        .zip(address)
        .zip(mask)
        .all(|((n, a), m)| n & m == a & m);
    same.into()
}

fn show(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::Email(text) => format!("email:{}", text.escape_default()),
        GeneralName::Dns(text) => format!("DNS:{}", text.escape_default()),
        GeneralName::Directory(dn) => format!("DirName:{dn}"),
        GeneralName::Uri(text) => format!("URI:{}", text.escape_default()),
        GeneralName::Ip(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes))
        {
            (Ok(v4), _) => format!("IP:{}", IpAddr::from(v4)),
            (_, Ok(v6)) => format!("IP:{}", IpAddr::from(v6)),
            _ => format!("IP:{} bytes", bytes.len()),
        },
        GeneralName::Other(number) => format!("a name of form [{number}]"),
    }
}
