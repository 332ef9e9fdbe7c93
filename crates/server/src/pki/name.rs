//! Names in certificates, and the templates that they are made from.
//!
//! A template's variables stand in braces: `{endpoint_id}`, `{oui}`, `{product_class}` and `{serial}` of an Endpoint ID of
//! the schemes `os` and `ops`, `{device}` as it is known here, `{cn}`, the common name that was asked for. What a variable
//! stands for goes into one attribute or one name: it cannot add others.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use der::asn1::{Any, ObjectIdentifier, SetOfVec};
use der::{Decode as _, Encode as _, Tag};
use homefleet_usp::EndpointId;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};

use super::asn1;

/// Longest value of an attribute or name, in bytes (RFC 5280 Appendix A.1 allows 64 for a common name; devices' names are longer).
const MAX_VALUE: usize = 255;

/// What stands in a subjectAltName. As text `URI:urn:…`, `DNS:example.net`, `IP:192.0.2.1`, `email:a@example.net`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AltName {
    /// dNSName.
    Dns(String),
    /// rfc822Name.
    Email(String),
    /// iPAddress.
    Ip(IpAddr),
    /// uniformResourceIdentifier.
    Uri(String),
    /// Any other: its DER.
    Other(Vec<u8>),
}

impl AltName {
    /// Reads what a request asks for.
    pub(super) fn from_general(name: &GeneralName) -> Self {
        match name {
            GeneralName::DnsName(name) => Self::Dns(name.to_string()),
            GeneralName::Rfc822Name(name) => Self::Email(name.to_string()),
            GeneralName::UniformResourceIdentifier(name) => Self::Uri(name.to_string()),
            GeneralName::IpAddress(bytes) => match (
                <[u8; 4]>::try_from(bytes.as_bytes()),
                <[u8; 16]>::try_from(bytes.as_bytes()),
            ) {
                (Ok(four), _) => Self::Ip(four.into()),
                (_, Ok(sixteen)) => Self::Ip(sixteen.into()),
                _ => Self::Other(name.to_der().unwrap_or_default()),
            },
            other => Self::Other(other.to_der().unwrap_or_default()),
        }
    }

    /// The Endpoint ID in a URN of USP (R-SEC).
    pub fn endpoint_id(&self) -> Option<EndpointId> {
        match self {
            Self::Uri(uri) => EndpointId::from_urn(uri).ok(),
            _ => None,
        }
    }

    /// `GeneralName` (RFC 5280 §4.2.1.6).
    pub(super) fn to_der(&self) -> Vec<u8> {
        match self {
            Self::Email(text) => asn1::context_primitive(1, text.as_bytes()),
            Self::Dns(text) => asn1::context_primitive(2, text.as_bytes()),
            Self::Uri(text) => asn1::context_primitive(6, text.as_bytes()),
            Self::Ip(IpAddr::V4(address)) => asn1::context_primitive(7, &address.octets()),
            Self::Ip(IpAddr::V6(address)) => asn1::context_primitive(7, &address.octets()),
            Self::Other(der) => der.clone(),
        }
    }
}

impl fmt::Display for AltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(text) => write!(f, "DNS:{text}"),
            Self::Email(text) => write!(f, "email:{text}"),
            Self::Ip(address) => write!(f, "IP:{address}"),
            Self::Uri(text) => write!(f, "URI:{text}"),
            Self::Other(der) => write!(f, "other:{}", crate::account::hex(der)),
        }
    }
}

impl FromStr for AltName {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let bad = || TemplateError::Name(text.to_owned());
        let (kind, value) = text.split_once(':').ok_or_else(bad)?;
        if value.is_empty() || !value.is_ascii() || value.len() > MAX_VALUE {
            return Err(bad());
        }
        // IA5String, without what has no place in any of these names.
        if value
            .chars()
            .any(|letter| letter.is_control() || letter == ' ')
        {
            return Err(bad());
        }
        Ok(match kind {
            "DNS" => Self::Dns(value.to_owned()),
            "email" => Self::Email(value.to_owned()),
            "IP" => Self::Ip(value.parse().map_err(|_| bad())?),
            "URI" => Self::Uri(value.to_owned()),
            _ => return Err(bad()),
        })
    }
}

/// Why a template, or what it was to become, is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A value is too long, or not of its kind.
    #[error(
        "`{0}` is no name: expected URI:…, DNS:…, IP:… or email:… in at most {MAX_VALUE} ASCII characters"
    )]
    Name(String),
    /// The text is no name.
    #[error("`{0}` is no subject: expected attributes such as CN={{endpoint_id}},O=Example")]
    Subject(String),
    /// The variable stands for nothing here.
    #[error("`{{{0}}}` is not known of this device")]
    Unknown(String),
    /// There is no such variable.
    #[error("there is no variable `{{{0}}}`, expected one of {list}", list = VARIABLES.join(", "))]
    Variable(String),
}

const VARIABLES: [&str; 6] = [
    "endpoint_id",
    "oui",
    "product_class",
    "serial",
    "device",
    "cn",
];

/// What variables stand for.
#[derive(Debug, Clone, Default)]
pub(super) struct Variables {
    device: Option<String>,
    endpoint_id: Option<EndpointId>,
    common_name: Option<String>,
}

impl Variables {
    pub(super) fn new(device: Option<&str>, common_name: Option<String>) -> Self {
        Self {
            endpoint_id: device.and_then(|device| device.parse().ok()),
            device: device.map(str::to_owned),
            common_name,
        }
    }

    fn value(&self, name: &str) -> Option<String> {
        let id = self.endpoint_id.as_ref();
        match name {
            "device" => self.device.clone(),
            "endpoint_id" => id.map(|id| id.as_str().to_owned()),
            "cn" => self.common_name.clone(),
            "oui" => part(id?, 0),
            "product_class" if id?.authority_scheme() == "ops" => part(id?, 1),
            "serial" if id?.authority_scheme() == "ops" => part(id?, 2),
            "serial" => part(id?, 1),
            _ => None,
        }
    }
}

/// A part of the instance-id `<OUI>-<serial>` of `os`, `<OUI>-<product class>-<serial>` of `ops` (R-ARC.2a).
fn part(id: &EndpointId, index: usize) -> Option<String> {
    let parts = match id.authority_scheme() {
        "os" => 2,
        "ops" => 3,
        _ => return None,
    };
    let part = id.instance_id().splitn(parts, '-').nth(index)?;
    Some(percent_decoded(part).unwrap_or_else(|| part.to_owned()))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.chars().any(char::is_control))
}

/// A text with variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Plain(String),
    Variable(String),
}

impl Text {
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((plain, after)) = rest.split_once('{') {
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| TemplateError::Variable(after.to_owned()))?;
            if !VARIABLES.contains(&name) {
                return Err(TemplateError::Variable(name.to_owned()));
            }
            pieces.push(Piece::Plain(plain.to_owned()));
            pieces.push(Piece::Variable(name.to_owned()));
            rest = after;
        }
        pieces.push(Piece::Plain(rest.to_owned()));
        Ok(Self(pieces))
    }

    pub(super) fn fill(&self, variables: &Variables) -> Result<String, TemplateError> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Plain(text) => out.push_str(text),
                Piece::Variable(name) => out.push_str(
                    &variables
                        .value(name)
                        .ok_or_else(|| TemplateError::Unknown(name.clone()))?,
                ),
            }
        }
        Ok(out)
    }
}

/// A subject with variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SubjectTemplate(Vec<Vec<(AttributeTypeAndValue, Option<Text>)>>);

impl SubjectTemplate {
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let bad = || TemplateError::Subject(text.to_owned());
        let name = Name::from_str(text).map_err(|_| bad())?;
        if name.is_empty() {
            return Err(bad());
        }
        name.iter_rdn()
            .map(|rdn| {
                rdn.iter()
                    .map(|attribute| {
                        let value = match std::str::from_utf8(attribute.value.value()) {
                            Ok(value) if value.contains('{') => Some(Text::parse(value)?),
                            _ => None,
                        };
                        Ok((attribute.clone(), value))
                    })
                    .collect()
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(super) fn fill(&self, variables: &Variables) -> Result<Name, TemplateError> {
        let mut sequence = RdnSequence::default();
        for rdn in &self.0 {
            let mut set = SetOfVec::new();
            for (attribute, text) in rdn {
                let mut attribute = attribute.clone();
                if let Some(text) = text {
                    let value = text.fill(variables)?;
                    let bad = || TemplateError::Subject(value.clone());
                    if value.is_empty() || value.len() > MAX_VALUE {
                        return Err(bad());
                    }
                    attribute.value =
                        Any::new(Tag::Utf8String, value.as_bytes()).map_err(|_| bad())?;
                }
                set.insert(attribute)
                    .map_err(|error| TemplateError::Subject(error.to_string()))?;
            }
            sequence.push(RelativeDistinguishedName::from(set));
        }
        sequence
            .to_der()
            .and_then(|der| Name::from_der(&der))
            .map_err(|error| TemplateError::Subject(error.to_string()))
    }
}

/// A name below another one: one more common name.
pub(super) fn below(parent: &Name, common_name: &str) -> der::Result<Name> {
    let mut sequence: RdnSequence = parent.clone().into();
    let attribute = AttributeTypeAndValue {
        oid: COMMON_NAME,
        value: Any::new(Tag::Utf8String, common_name.as_bytes())?,
    };
    let mut set = SetOfVec::new();
    set.insert(attribute)?;
    sequence.push(RelativeDistinguishedName::from(set));
    Name::from_der(&sequence.to_der()?)
}

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fill(template: &str, device: &str) -> Result<String, TemplateError> {
        Text::parse(template)?.fill(&Variables::new(Some(device), None))
    }

    #[test]
    fn variables_come_from_the_endpoint_id() {
        let os = "os::00D09E-A%2FB-7";
        assert_eq!(fill("{oui}-{serial}", os).unwrap(), "00D09E-A/B-7");
        assert_eq!(
            fill("{product_class}/{serial}/{oui}", "ops::00D09E-Box-7").unwrap(),
            "Box/7/00D09E"
        );
        assert_eq!(
            fill("urn:bbf:usp:id:{endpoint_id}", os).unwrap(),
            format!("urn:bbf:usp:id:{os}")
        );
        assert_eq!(fill("{device}", "anything").unwrap(), "anything");
    }

    #[test]
    fn a_variable_that_is_not_known_is_refused() {
        for (template, device) in [
            ("{oui}", "uuid::f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
            ("{product_class}", "os::00D09E-7"),
            ("{endpoint_id}", "no endpoint"),
            ("{cn}", "os::00D09E-7"),
        ] {
            assert!(
                matches!(fill(template, device), Err(TemplateError::Unknown(_))),
                "{template} of {device}"
            );
        }
        for template in ["{uid}", "{", "{}", "{oui"] {
            assert!(matches!(
                Text::parse(template),
                Err(TemplateError::Variable(_))
            ));
        }
    }

    #[test]
    fn what_a_variable_stands_for_adds_no_attribute() {
        let template = SubjectTemplate::parse("CN={cn},O=Example").unwrap();
        let variables = Variables::new(None, Some("x,O=Other+OU=y".to_owned()));
        let name = template.fill(&variables).unwrap();
        assert_eq!(name.iter().count(), 2);
        let variables = Variables::new(None, Some("x".repeat(256)));
        assert!(matches!(
            template.fill(&variables),
            Err(TemplateError::Subject(_))
        ));
    }

    #[test]
    fn names_have_their_kind_before_them() {
        for text in [
            "URI:urn:x",
            "DNS:example.net",
            "IP:192.0.2.1",
            "IP:2001:db8::1",
            "email:a@b",
        ] {
            let name: AltName = text.parse().unwrap();
            assert_eq!(name.to_string(), text);
            let read = GeneralName::from_der(&name.to_der()).unwrap();
            assert_eq!(AltName::from_general(&read), name);
        }
        for text in [
            "x",
            "DNS:",
            "IP:300.1.1.1",
            "DNS:ä",
            "DNS:a b",
            "dir:x",
            "URI:a\0b",
        ] {
            assert!(text.parse::<AltName>().is_err(), "{text}");
        }
    }
}
