//! DHCP messages as they pass a gateway.

use std::{net::Ipv4Addr, time::Instant};

use dhcproto::{
    Encodable as _,
    v4::{self, DhcpOption, MessageType, Opcode, OptionCode, UnknownOption},
};
use homefleet_agent::association::{
    Event,
    exchange::{Direction, Exchanges},
    message::{Kind, Message, payload},
};
use homefleet_tr111::identity::{Identity, Role};

use super::{SECOND, device, ip, mac};

/// A message with the given type, addresses and options.
fn message(kind: MessageType, xid: u32, number: u8, options: Vec<DhcpOption>) -> v4::Message {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = v4::Message::new_with_id(xid, none, none, none, none, &mac(number).0);
    let reply = matches!(
        kind,
        MessageType::Ack | MessageType::Offer | MessageType::Nak
    );
    if reply {
        message.set_opcode(Opcode::BootReply);
    }
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    for option in options {
        message.opts_mut().insert(option);
    }
    message
}

fn identity(who: &Identity) -> DhcpOption {
    let code = OptionCode::from(125);
    DhcpOption::Unknown(UnknownOption::new(code, who.encode(Role::Device)))
}

fn request(kind: MessageType, xid: u32, number: u8) -> Vec<u8> {
    let options = vec![identity(&device(number))];
    message(kind, xid, number, options).to_vec().unwrap()
}

fn ack(xid: u32, number: u8, lease: u32) -> Vec<u8> {
    let options = vec![DhcpOption::AddressLeaseTime(lease)];
    let mut message = message(MessageType::Ack, xid, number, options);
    message.set_yiaddr(ip(number));
    message.to_vec().unwrap()
}

fn leased(number: u8, identified: bool, lease: Option<u64>) -> Option<Event> {
    Some(Event::Leased {
        mac: mac(number),
        address: ip(number),
        identity: identified.then(|| device(number)),
        lease,
    })
}

#[test]
fn an_identity_in_any_request_counts_when_dhcpack_follows() {
    for kind in [MessageType::Discover, MessageType::Request] {
        let (mut exchanges, now) = (Exchanges::default(), Instant::now());
        assert_eq!(
            exchanges.handle(now, Direction::In, &request(kind, 7, 1)),
            None
        );
        let event = exchanges.handle(now, Direction::Out, &ack(7, 1, 120));
        assert_eq!(event, leased(1, true, Some(120)));
        // Once: what is acknowledged without an identity has none.
        let event = exchanges.handle(now, Direction::Out, &ack(7, 1, 120));
        assert_eq!(event, leased(1, false, Some(120)));
    }
}

#[test]
fn dhcpinform_is_answered_without_an_address_and_a_lease() {
    let (mut exchanges, now) = (Exchanges::default(), Instant::now());
    let inform = Message::inform(7, mac(1), ip(1), &device(1));
    assert_eq!(exchanges.handle(now, Direction::In, &inform), None);
    let mut answer = message(MessageType::Ack, 7, 1, Vec::new());
    answer.set_ciaddr(ip(1));
    let event = exchanges.handle(now, Direction::Out, &answer.to_vec().unwrap());
    assert_eq!(event, leased(1, true, None));
}

#[test]
fn only_our_own_dhcpack_makes_an_entry() {
    let (mut exchanges, now) = (Exchanges::default(), Instant::now());
    exchanges.handle(now, Direction::In, &request(MessageType::Request, 7, 1));
    assert_eq!(exchanges.handle(now, Direction::In, &ack(7, 1, 120)), None);
    assert_eq!(exchanges.counters.foreign, 1);
    // Of another transaction, and of another device.
    for answer in [ack(8, 1, 120), ack(7, 2, 120)] {
        let Some(Event::Leased { identity: None, .. }) =
            exchanges.handle(now, Direction::Out, &answer)
        else {
            panic!("an identity of somebody else")
        };
    }
    // What this machine asks itself, as a client elsewhere, is not of its LAN.
    let (mut exchanges, now) = (Exchanges::default(), Instant::now());
    exchanges.handle(now, Direction::Out, &request(MessageType::Request, 7, 1));
    assert_eq!(exchanges.counters.identified, 0);
}

#[test]
fn release_and_decline_end_a_lease() {
    let (mut exchanges, now) = (Exchanges::default(), Instant::now());
    let mut release = message(MessageType::Release, 9, 1, Vec::new());
    release.set_ciaddr(ip(1));
    let ended = |address| {
        Some(Event::Ended {
            mac: mac(1),
            address,
        })
    };
    let octets = release.to_vec().unwrap();
    assert_eq!(
        exchanges.handle(now, Direction::In, &octets),
        ended(Some(ip(1)))
    );
    assert_eq!(exchanges.handle(now, Direction::Out, &octets), None);
    let decline = message(MessageType::Decline, 9, 1, Vec::new());
    let octets = decline.to_vec().unwrap();
    assert_eq!(exchanges.handle(now, Direction::In, &octets), ended(None));
}

#[test]
fn a_lease_for_ever_has_no_end() {
    let (mut exchanges, now) = (Exchanges::default(), Instant::now());
    exchanges.handle(now, Direction::In, &request(MessageType::Request, 7, 1));
    let event = exchanges.handle(now, Direction::Out, &ack(7, 1, u32::MAX));
    assert_eq!(event, leased(1, true, None));
}

#[test]
fn what_waits_is_bounded_in_number_and_time() {
    let (mut exchanges, now) = (Exchanges::default(), Instant::now());
    for xid in 0..300 {
        exchanges.handle(now, Direction::In, &request(MessageType::Discover, xid, 1));
    }
    assert_eq!(exchanges.counters.crowded, 44, "the oldest went");
    let old = exchanges.handle(now, Direction::Out, &ack(43, 1, 60));
    assert_eq!(old, leased(1, false, Some(60)));
    let young = exchanges.handle(now, Direction::Out, &ack(44, 1, 60));
    assert_eq!(young, leased(1, true, Some(60)));
    let later = now + 60 * SECOND;
    exchanges.handle(
        later,
        Direction::In,
        &request(MessageType::Discover, 999, 1),
    );
    let event = exchanges.handle(later, Direction::Out, &ack(45, 1, 60));
    assert_eq!(event, leased(1, false, Some(60)), "a minute old");
}

#[test]
fn the_identity_may_stand_in_parts_and_where_options_overflow() {
    let content = device(1).encode(Role::Device);
    let (first, second) = content.split_at(9);
    let part = |data: &[u8]| [&[125, u8::try_from(data.len()).unwrap()], data].concat();
    let bare = message(MessageType::Discover, 7, 1, Vec::new())
        .to_vec()
        .unwrap();
    let fixed = bare[..240].to_vec();
    // Apart, with an option that nobody can read in between: a host name that is no text.
    let middle = [
        &[53, 1, 1][..],
        &part(first),
        &[12, 2, 0xff, 0xfe],
        &part(second),
    ]
    .concat();
    let split = [&fixed[..], &middle, &[255]].concat();
    // The second part in `file`, by option 52.
    let mut overflow = [&fixed[..], &[53, 1, 1, 52, 1, 1], &part(first), &[255]].concat();
    let file = [&part(second)[..], &[255]].concat();
    overflow[108..108 + file.len()].copy_from_slice(&file);
    for octets in [split, overflow] {
        let message = Message::decode(&octets).unwrap();
        assert_eq!(message.identity.identity(Role::Device), Some(device(1)));
    }
}

#[test]
fn what_is_malformed_changes_nothing_but_a_counter() {
    let (mut exchanges, now) = (Exchanges::default(), Instant::now());
    let whole = request(MessageType::Request, 7, 1);
    for length in 0..whole.len() {
        exchanges.handle(now, Direction::In, &whole[..length]);
    }
    for at in 0..whole.len() {
        for value in [0x00, 0x01, 0x7f, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] = value;
            exchanges.handle(now, Direction::In, &damaged);
        }
    }
    // A hardware address longer than its field, and one that is not of Ethernet.
    for (at, value) in [(2, 255), (2, 16), (1, 6)] {
        let mut odd = whole.clone();
        odd[at] = value;
        assert_eq!(Message::decode(&odd), None);
    }
    // A request may not come as a reply.
    let mut reply = whole.clone();
    reply[0] = 2;
    assert_eq!(Message::decode(&reply), None);
    assert!(exchanges.counters.others > 0);
    // An OUI of other digits is no identity, and is counted.
    let mut exchanges = Exchanges::default();
    let mut content = device(1).encode(Role::Device);
    content[7] = b'x';
    let code = OptionCode::from(125);
    let option = DhcpOption::Unknown(UnknownOption::new(code, content));
    let octets = message(MessageType::Request, 7, 1, vec![option])
        .to_vec()
        .unwrap();
    exchanges.handle(now, Direction::In, &octets);
    assert_eq!(
        (exchanges.counters.malformed, exchanges.counters.identified),
        (1, 0)
    );
}

#[test]
fn our_dhcpinform_is_read_by_another_codec() {
    use dhcproto::{Decodable as _, Decoder};
    let octets = Message::inform(0x0102_0304, mac(1), ip(1), &device(1));
    let message = v4::Message::decode(&mut Decoder::new(&octets)).unwrap();
    assert_eq!(message.opts().msg_type(), Some(MessageType::Inform));
    assert_eq!((message.xid(), message.ciaddr()), (0x0102_0304, ip(1)));
    assert_eq!(message.chaddr(), mac(1).0);
    let own = Message::decode(&octets).unwrap();
    assert_eq!((own.kind, own.lease), (Kind::Inform, None));
    assert_eq!(own.identity.identity(Role::Device), Some(device(1)));
}

#[test]
fn only_whole_datagrams_to_dhcp_ports_are_looked_at() {
    let udp = |port: u16, data: &[u8]| {
        let length = u16::try_from(8 + data.len()).unwrap();
        [
            &[0, 68],
            &port.to_be_bytes()[..],
            &length.to_be_bytes(),
            &[0, 0],
            data,
        ]
        .concat()
    };
    let packet = |protocol: u8, fragment: u16, data: &[u8]| {
        let mut header = vec![0x45, 0];
        header.extend(u16::try_from(20 + data.len()).unwrap().to_be_bytes());
        header.extend([0, 0]);
        header.extend(fragment.to_be_bytes());
        header.extend([64, protocol, 0, 0, 192, 168, 77, 1, 255, 255, 255, 255]);
        [&header, data].concat()
    };
    let good = packet(17, 0, &udp(67, b"dhcp"));
    assert_eq!(payload(&good), Some(&b"dhcp"[..]));
    // Short frames are filled up, and DF is no fragment.
    assert_eq!(payload(&[&good[..], &[0; 18]].concat()), Some(&b"dhcp"[..]));
    assert_eq!(
        payload(&packet(17, 0x4000, &udp(68, b"x"))),
        Some(&b"x"[..])
    );
    for bad in [
        packet(6, 0, &udp(67, b"dhcp")),
        packet(17, 0x2000, &udp(67, b"dhcp")),
        packet(17, 1, &udp(67, b"dhcp")),
        packet(17, 0, &udp(53, b"dhcp")),
        packet(17, 0, &[0, 68, 0, 67, 0, 99, 0, 0]),
    ] {
        assert_eq!(payload(&bad), None);
    }
    for length in 0..good.len() {
        assert_eq!(payload(&good[..length]), None);
    }
}
