//! The few fields of DHCP messages that association needs (RFC 2131, RFC 2132), and our own DHCPINFORM.
//!
//! Only message type, lease time and option 125 are looked at: an option that somebody filled badly does not hide the others.

use std::net::Ipv4Addr;

use dhcproto::{
    Encodable as _,
    v4::{
        self, DhcpOption, HType, MessageType, Opcode, OptionCode, UnknownOption,
        borrowed::{DhcpOptionIterator, Message as Borrowed},
    },
};
use homefleet_tr111::identity::{Found, Identity, OPTION, Role};

use super::event::Mac;

/// The port of servers.
pub const SERVER: u16 = 67;
/// The port of clients.
pub const CLIENT: u16 = 68;
/// Most options of one message that are looked at.
const MAX_OPTIONS: usize = 256;
/// Where `sname`, `file` and the magic cookie stand (RFC 2131 §2, §4.1).
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
const COOKIE: std::ops::Range<usize> = 236..240;

/// A DHCP message, as far as it is of interest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Option 53.
    pub kind: Kind,
    /// Transaction ID, chosen by the client.
    pub xid: u32,
    /// The client's hardware address.
    pub mac: Mac,
    /// The client's address, when it has one and answers to it.
    pub ciaddr: Ipv4Addr,
    /// The address that the server gives.
    pub yiaddr: Ipv4Addr,
    /// Option 51, seconds; absent too when it is for ever.
    pub lease: Option<u64>,
    /// Option 125.
    pub identity: Found,
}

/// The messages of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// DHCPDISCOVER.
    Discover,
    /// DHCPREQUEST.
    Request,
    /// DHCPDECLINE.
    Decline,
    /// DHCPACK.
    Ack,
    /// DHCPRELEASE.
    Release,
    /// DHCPINFORM.
    Inform,
}

impl Message {
    /// Reads a message; `None` when it is none of interest, or of a client without an Ethernet address.
    pub fn decode(octets: &[u8]) -> Option<Self> {
        // dhcproto takes the length of the hardware address on trust.
        if octets.get(COOKIE)? != v4::MAGIC || octets.get(2) != Some(&6) {
            return None;
        }
        let message = Borrowed::new(octets).ok()?;
        if message.htype() != HType::Eth {
            return None;
        }
        let mac = Mac(message.chaddr().try_into().ok()?);
        let mut options = Options::default();
        options.read(message.opts());
        // What overflowed stands in fields that are free then; their order is that of RFC 3396 §5.
        let overload = options.overload.unwrap_or(0);
        if overload & 1 != 0 {
            options.read(DhcpOptionIterator::new(octets.get(FILE)?));
        }
        if overload & 2 != 0 {
            options.read(DhcpOptionIterator::new(octets.get(SNAME)?));
        }
        let (kind, from) = match MessageType::from(options.kind?) {
            MessageType::Discover => (Kind::Discover, Opcode::BootRequest),
            MessageType::Request => (Kind::Request, Opcode::BootRequest),
            MessageType::Decline => (Kind::Decline, Opcode::BootRequest),
            MessageType::Ack => (Kind::Ack, Opcode::BootReply),
            MessageType::Release => (Kind::Release, Opcode::BootRequest),
            MessageType::Inform => (Kind::Inform, Opcode::BootRequest),
            _ => return None,
        };
        (message.opcode() == from).then(|| Self {
            kind,
            xid: message.xid(),
            mac,
            ciaddr: message.ciaddr(),
            yiaddr: message.yiaddr(),
            lease: options
                .lease
                .filter(|seconds| *seconds != u32::MAX)
                .map(u64::from),
            identity: Found::decode(options.identity.iter().map(Vec::as_slice)),
        })
    }

    /// OUI, serial number and product class of the gateway; empty what is not there (§1.2.2).
    pub fn gateway(&self) -> [String; 3] {
        self.identity
            .elements(Role::Gateway)
            .map(|text| text.unwrap_or_default().to_owned())
    }

    /// A DHCPINFORM with the device's identity (§1.2.2), which asks for option 125.
    pub fn inform(xid: u32, mac: Mac, address: Ipv4Addr, identity: &Identity) -> Vec<u8> {
        let none = Ipv4Addr::UNSPECIFIED;
        let mut message = v4::Message::new_with_id(xid, address, none, none, none, &mac.0);
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(MessageType::Inform));
        options.insert(DhcpOption::ParameterRequestList(vec![OptionCode::from(
            OPTION,
        )]));
        let content = identity.encode(Role::Device);
        let option = UnknownOption::new(OptionCode::from(OPTION), content);
        options.insert(DhcpOption::Unknown(option));
        message
            .to_vec()
            .expect("three short options and fixed fields")
    }
}

#[derive(Default)]
struct Options {
    kind: Option<u8>,
    lease: Option<u32>,
    overload: Option<u8>,
    identity: Vec<Vec<u8>>,
}

impl Options {
    fn read(&mut self, options: DhcpOptionIterator<'_>) {
        for option in options.take(MAX_OPTIONS) {
            let data = option.data();
            match u8::from(option.code()) {
                51 => self.lease = data.try_into().ok().map(u32::from_be_bytes).or(self.lease),
                52 => self.overload = data.first().copied().or(self.overload),
                53 => self.kind = data.first().copied().or(self.kind),
                OPTION => self.identity.push(data.to_vec()),
                _ => {}
            }
        }
    }
}

/// The payload of an unfragmented UDP datagram to a DHCP port, out of its IPv4 packet.
pub fn payload(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let fragment = u16::from_be_bytes(packet.get(6..8)?.try_into().ok()?) & 0x3fff;
    if first >> 4 != 4 || packet.get(9) != Some(&17) || fragment != 0 {
        return None;
    }
    let total = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
    let header = usize::from(first & 0x0f) * 4;
    // Short frames are filled up behind the packet.
    let udp = packet.get(header.max(20)..total)?;
    let port = u16::from_be_bytes(udp.get(2..4)?.try_into().ok()?);
    let length = usize::from(u16::from_be_bytes(udp.get(4..6)?.try_into().ok()?));
    matches!(port, SERVER | CLIENT).then(|| udp.get(8..length))?
}
