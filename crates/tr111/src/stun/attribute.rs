//! The attributes of a message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{error_code::ErrorCode, message::DecodeError};

/// Attribute types. Those up to 0x7FFF are mandatory: who does not understand one says so; the others are ignored (RFC 3489 §11.2).
pub mod kind {
    /// Where a request came from, as the server saw it.
    pub const MAPPED_ADDRESS: u16 = 0x0001;
    /// Where the response is to go.
    pub const RESPONSE_ADDRESS: u16 = 0x0002;
    /// Whether the response is to come from another address or port.
    pub const CHANGE_REQUEST: u16 = 0x0003;
    /// Where a response came from.
    pub const SOURCE_ADDRESS: u16 = 0x0004;
    /// The server's other address and port.
    pub const CHANGED_ADDRESS: u16 = 0x0005;
    /// Whose password MESSAGE-INTEGRITY is made with.
    pub const USERNAME: u16 = 0x0006;
    /// A password, in a Shared Secret Response only.
    pub const PASSWORD: u16 = 0x0007;
    /// HMAC-SHA1 over what precedes it.
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    /// Why a request was refused.
    pub const ERROR_CODE: u16 = 0x0009;
    /// Which attributes were not understood.
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
    /// Who asked for a response that went elsewhere.
    pub const REFLECTED_FROM: u16 = 0x000B;
    /// MAPPED-ADDRESS in the form of RFC 5389.
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    /// The binding on which UDP Connection Requests are listened for (TR-111).
    pub const CONNECTION_REQUEST_BINDING: u16 = 0xC001;
    /// The binding has changed (TR-111).
    pub const BINDING_CHANGE: u16 = 0xC002;
    /// The first type that may be ignored.
    pub const FIRST_OPTIONAL: u16 = 0x8000;
}

/// One attribute; values of no fixed form borrow from the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attribute<'a> {
    /// Where the request came from, as the server saw it.
    MappedAddress(SocketAddr),
    /// Where the response is to go.
    ResponseAddress(SocketAddr),
    /// The response is to come from another address, another port.
    ChangeRequest {
        /// From the other address.
        address: bool,
        /// From the other port.
        port: bool,
    },
    /// Where the response comes from.
    SourceAddress(SocketAddr),
    /// The server's other address and port.
    ChangedAddress(SocketAddr),
    /// Whose password the integrity is made with; at most 513 octets.
    Username(&'a [u8]),
    /// HMAC-SHA1 over what precedes it.
    MessageIntegrity(&'a [u8; 20]),
    /// Why the request was refused.
    ErrorCode(ErrorCode),
    /// The types that were not understood, two octets each.
    UnknownAttributes(&'a [u8]),
    /// Who asked for a response that went elsewhere.
    ReflectedFrom(SocketAddr),
    /// MAPPED-ADDRESS as RFC 5389 hides it from gateways that rewrite addresses; here it is plain.
    XorMappedAddress(SocketAddr),
    /// This is the binding on which UDP Connection Requests are listened for; whether the value is the one of TR-111 is checked here.
    ConnectionRequestBinding,
    /// The binding has changed.
    BindingChange,
    /// Anything else.
    Other {
        /// Its type.
        kind: u16,
        /// Its value.
        value: &'a [u8],
    },
}

impl<'a> Attribute<'a> {
    /// Reads the value of an attribute.
    pub(super) fn decode(
        kind: u16,
        value: &'a [u8],
        transaction: &[u8; 16],
    ) -> Result<Self, DecodeError> {
        let wrong = DecodeError::Value { kind };
        Ok(match kind {
            kind::MAPPED_ADDRESS => Self::MappedAddress(address(value).ok_or(wrong)?),
            kind::RESPONSE_ADDRESS => Self::ResponseAddress(address(value).ok_or(wrong)?),
            kind::CHANGE_REQUEST => {
                let flags = u32::from_be_bytes(value.try_into().map_err(|_| wrong)?);
                Self::ChangeRequest {
                    address: flags & 4 != 0,
                    port: flags & 2 != 0,
                }
            }
            kind::SOURCE_ADDRESS => Self::SourceAddress(address(value).ok_or(wrong)?),
            kind::CHANGED_ADDRESS => Self::ChangedAddress(address(value).ok_or(wrong)?),
            kind::USERNAME if value.is_empty() || value.len() > MAX_USERNAME => return Err(wrong),
            kind::USERNAME => Self::Username(value),
            kind::MESSAGE_INTEGRITY => Self::MessageIntegrity(value.try_into().map_err(|_| wrong)?),
            kind::ERROR_CODE => Self::ErrorCode(error_code(value).ok_or(wrong)?),
            kind::UNKNOWN_ATTRIBUTES => Self::UnknownAttributes(value),
            kind::REFLECTED_FROM => Self::ReflectedFrom(address(value).ok_or(wrong)?),
            kind::XOR_MAPPED_ADDRESS => {
                Self::XorMappedAddress(mask(address(value).ok_or(wrong)?, transaction))
            }
            // A binding that is marked with another text is not marked for us (TR-111 Table 5).
            kind::CONNECTION_REQUEST_BINDING if value == super::CONNECTION_REQUEST_BINDING => {
                Self::ConnectionRequestBinding
            }
            kind::BINDING_CHANGE if value.is_empty() => Self::BindingChange,
            kind => Self::Other { kind, value },
        })
    }

    /// Its type.
    pub fn kind(&self) -> u16 {
        match self {
            Self::MappedAddress(_) => kind::MAPPED_ADDRESS,
            Self::ResponseAddress(_) => kind::RESPONSE_ADDRESS,
            Self::ChangeRequest { .. } => kind::CHANGE_REQUEST,
            Self::SourceAddress(_) => kind::SOURCE_ADDRESS,
            Self::ChangedAddress(_) => kind::CHANGED_ADDRESS,
            Self::Username(_) => kind::USERNAME,
            Self::MessageIntegrity(_) => kind::MESSAGE_INTEGRITY,
            Self::ErrorCode(_) => kind::ERROR_CODE,
            Self::UnknownAttributes(_) => kind::UNKNOWN_ATTRIBUTES,
            Self::ReflectedFrom(_) => kind::REFLECTED_FROM,
            Self::XorMappedAddress(_) => kind::XOR_MAPPED_ADDRESS,
            Self::ConnectionRequestBinding => kind::CONNECTION_REQUEST_BINDING,
            Self::BindingChange => kind::BINDING_CHANGE,
            Self::Other { kind, .. } => *kind,
        }
    }

    /// Appends the value, without the padding.
    pub(super) fn encode_value(&self, transaction: &[u8; 16], out: &mut Vec<u8>) {
        match *self {
            Self::MappedAddress(at)
            | Self::ResponseAddress(at)
            | Self::SourceAddress(at)
            | Self::ChangedAddress(at)
            | Self::ReflectedFrom(at) => encode_address(at, out),
            Self::XorMappedAddress(at) => encode_address(mask(at, transaction), out),
            Self::ChangeRequest { address, port } => {
                let flags = u32::from(address) << 2 | u32::from(port) << 1;
                out.extend_from_slice(&flags.to_be_bytes());
            }
            Self::Username(value) | Self::UnknownAttributes(value) | Self::Other { value, .. } => {
                out.extend_from_slice(value);
            }
            Self::MessageIntegrity(value) => out.extend_from_slice(value),
            Self::ErrorCode(code) => {
                let [class, number] =
                    [code.get() / 100, code.get() % 100].map(|n| n.to_be_bytes()[1]);
                out.extend_from_slice(&[0, 0, class, number]);
                out.extend_from_slice(code.reason().as_bytes());
            }
            Self::ConnectionRequestBinding => {
                out.extend_from_slice(super::CONNECTION_REQUEST_BINDING);
            }
            Self::BindingChange => {}
        }
    }
}

/// Longest USERNAME that is read (RFC 5389 §15.3); TR-111's parameter has at most 256 characters.
const MAX_USERNAME: usize = 513;

/// An address attribute (RFC 3489 §11.2.1); family 2, IPv6, came with RFC 5389.
fn address(value: &[u8]) -> Option<SocketAddr> {
    let (&[_, family, high, low], ip) = value.split_first_chunk::<4>()?;
    let ip: IpAddr = match family {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?).into(),
        2 => Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([high, low])))
}

fn encode_address(at: SocketAddr, out: &mut Vec<u8>) {
    let family = if at.is_ipv4() { 1 } else { 2 };
    out.extend_from_slice(&[0, family]);
    out.extend_from_slice(&at.port().to_be_bytes());
    match at.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
}

/// Hides an address by the transaction ID, which begins with the magic cookie, or brings it back (RFC 5389 §15.2).
fn mask(at: SocketAddr, transaction: &[u8; 16]) -> SocketAddr {
    let [high, low, ..] = *transaction;
    let port = at.port() ^ u16::from_be_bytes([high, low]);
    let ip: IpAddr = match at.ip() {
        IpAddr::V4(ip) => {
            let mut octets = ip.octets();
            octets
                .iter_mut()
                .zip(transaction)
                .for_each(|(o, t)| *o ^= t);
            octets.into()
        }
        IpAddr::V6(ip) => {
            let mut octets = ip.octets();
            octets
                .iter_mut()
                .zip(transaction)
                .for_each(|(o, t)| *o ^= t);
            octets.into()
        }
    };
    SocketAddr::new(ip, port)
}

fn error_code(value: &[u8]) -> Option<ErrorCode> {
    let &[_, _, class, number] = value.first_chunk::<4>()?;
    let number = u16::from(number);
    (number < 100)
        .then(|| ErrorCode::new(u16::from(class & 7) * 100 + number))
        .flatten()
}
