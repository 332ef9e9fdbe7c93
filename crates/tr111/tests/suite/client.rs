//! The device's binding machine: what it sends, what it believes.

use homefleet_tr111::{
    client::{Client, ClientConfig, Event, Socket},
    server::Authenticate,
    stun::{Attribute, Builder, ErrorCode, Message, Method, Padding, TransactionId},
};

use crate::world::{
    LOCAL, Nat, PASSWORD, PUBLIC, SERVER, USERNAME, World, address, behind, config, secs, start,
};

const NO_NAT: Nat = Nat {
    on: false,
    timeout: secs_const(1),
    moves: false,
};

const fn secs_const(seconds: u64) -> std::time::Duration {
    std::time::Duration::from_secs(seconds)
}

fn username() -> Attribute<'static> {
    Attribute::Username(USERNAME.as_bytes())
}

fn mapped() -> std::net::SocketAddr {
    address("198.51.100.9:50001")
}

/// A client that has sent its first request, and that request's ID.
fn asked(config: &ClientConfig) -> (Client, TransactionId) {
    let mut client = Client::new(config.clone(), [1; 32], start());
    let first = client.poll_transmit().unwrap();
    let id = Message::decode(&first.octets).unwrap().transaction;
    (client, id)
}

fn response(id: TransactionId) -> Builder {
    Builder::new(Method::BindingResponse, id).attribute(Attribute::MappedAddress(mapped()))
}

fn error(id: TransactionId, code: ErrorCode) -> Vec<u8> {
    Builder::new(Method::BindingErrorResponse, id)
        .attribute(Attribute::ErrorCode(code))
        .build()
}

#[test]
fn the_first_request_marks_the_binding_and_names_the_device() {
    let mut client = Client::new(config(), [1; 32], start());
    let first = client.poll_transmit().unwrap();
    assert_eq!((first.socket, first.to), (Socket::Primary, address(SERVER)));
    let message = Message::decode(&first.octets).unwrap();
    assert!(message.has(Attribute::ConnectionRequestBinding) && message.has(username()));
    assert!(!message.has(Attribute::BindingChange) && message.integrity().is_none());
    assert_eq!(client.poll_transmit(), None);
}

#[test]
fn without_a_username_none_is_sent() {
    let config = ClientConfig {
        username: String::new(),
        ..config()
    };
    let mut client = Client::new(config, [1; 32], start());
    let first = client.poll_transmit().unwrap();
    assert_eq!(Message::decode(&first.octets).unwrap().username(), None);
}

#[test]
fn the_first_binding_is_told_at_once_and_only_then() {
    let mut world = World::new(config(), behind(100), Authenticate::Nothing);
    world.run(secs(30));
    let changes: Vec<_> = world
        .seen
        .iter()
        .filter(|seen| seen.has(Attribute::BindingChange))
        .collect();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].at, secs(0));
    assert!(changes[0].has(Attribute::ConnectionRequestBinding));
    let message = Message::decode(&changes[0].octets).unwrap();
    let elsewhere = |a: Attribute<'_>| {
        matches!(
            a,
            Attribute::ResponseAddress(_) | Attribute::ChangeRequest { .. }
        )
    };
    assert!(!message.attributes().any(elsewhere));
    let told = Event::Binding {
        address: mapped(),
        nat: true,
    };
    assert_eq!(world.events[0], (secs(0), told));
    assert_eq!(world.client.binding(), Some((mapped(), true)));
}

#[test]
fn only_the_primary_socket_marks_the_binding() {
    let mut world = World::new(config(), behind(12), Authenticate::Nothing);
    world.run(secs(200));
    let primary = |sent: &&(_, homefleet_tr111::client::Transmit)| sent.1.socket == Socket::Primary;
    let (from_primary, from_secondary): (Vec<_>, Vec<_>) = world.sent.iter().partition(primary);
    assert!(from_primary.len() > 10 && from_secondary.len() > 5);
    for (_, transmit) in &world.sent {
        let message = Message::decode(&transmit.octets).unwrap();
        let primary = transmit.socket == Socket::Primary;
        assert_eq!(message.has(Attribute::ConnectionRequestBinding), primary);
        assert_eq!(message.has(username()), primary);
        let answer_elsewhere = message
            .attributes()
            .any(|a| matches!(a, Attribute::ResponseAddress(_)));
        assert_eq!(answer_elsewhere, !primary);
    }
}

#[test]
fn integrity_is_sent_only_after_401() {
    let mut world = World::new(config(), behind(100), Authenticate::Changes);
    world.run(secs(10));
    let protected: Vec<_> = world
        .seen
        .iter()
        .map(|seen| Message::decode(&seen.octets).unwrap())
        .filter(|message| message.integrity().is_some())
        .collect();
    assert_eq!(protected.len(), 1, "the change, again");
    assert!(protected[0].has(Attribute::BindingChange) && protected[0].has(username()));
    let integrity = protected[0].integrity().unwrap();
    assert_eq!(integrity.verify(PASSWORD), Some(Padding::Block));
    assert_eq!(world.learned, 1);
    assert_eq!(world.server.stats().unauthorized, 1);
}

#[test]
fn every_request_may_be_made_to_prove_itself() {
    let mut world = World::new(config(), behind(100), Authenticate::Listening);
    world.run(secs(70));
    let stats = world.server.stats();
    assert_eq!((stats.learned, stats.forged), (1, 0));
    assert!(world.client.binding().is_some() && stats.unauthorized > 3);
    assert!(world.server.binding(USERNAME.as_bytes()).unwrap().seen > world.start + secs(30));
}

#[test]
fn a_401_without_credentials_is_an_answer_like_any_other() {
    for bare in [
        ClientConfig {
            username: String::new(),
            ..config()
        },
        ClientConfig {
            password: Vec::new(),
            ..config()
        },
    ] {
        let (mut client, id) = asked(&bare);
        let refusal = error(id, ErrorCode::UNAUTHORIZED);
        client.handle_input(start(), Socket::Primary, bare.server, &refusal);
        assert_eq!(
            client.poll_event(),
            Some(Event::Refused(ErrorCode::UNAUTHORIZED))
        );
        assert_eq!(client.poll_transmit(), None);
    }
}

#[test]
fn a_second_401_ends_the_attempt() {
    let config = config();
    let (mut client, id) = asked(&config);
    client.handle_input(
        start(),
        Socket::Primary,
        config.server,
        &error(id, ErrorCode::UNAUTHORIZED),
    );
    let again = client.poll_transmit().unwrap();
    let message = Message::decode(&again.octets).unwrap();
    assert!(message.integrity().is_some() && message.transaction != id);
    let refusal = error(message.transaction, ErrorCode::UNAUTHORIZED);
    client.handle_input(start(), Socket::Primary, config.server, &refusal);
    assert_eq!(client.poll_transmit(), None);
    assert_eq!(
        client.poll_event(),
        Some(Event::Refused(ErrorCode::UNAUTHORIZED))
    );
    assert_eq!(client.stats().refused, 1);
}

#[test]
fn a_response_to_a_protected_request_needs_valid_integrity() {
    let config = config();
    let (mut client, id) = asked(&config);
    let now = start();
    client.handle_input(
        now,
        Socket::Primary,
        config.server,
        &error(id, ErrorCode::UNAUTHORIZED),
    );
    let id = Message::decode(&client.poll_transmit().unwrap().octets)
        .unwrap()
        .transaction;
    for forged in [
        response(id).build(),
        response(id).protect(b"guess", Padding::Block),
    ] {
        client.handle_input(now, Socket::Primary, config.server, &forged);
        assert_eq!(client.poll_event(), None);
    }
    assert_eq!((client.stats().unauthentic, client.binding()), (2, None));
    // A server of the RFC 5389 kind does not pad.
    let valid = response(id).protect(PASSWORD, Padding::None);
    client.handle_input(now, Socket::Primary, config.server, &valid);
    assert_eq!(client.binding(), Some((mapped(), true)));
}

#[test]
fn a_change_is_repeated_as_the_rfc_says_and_then_never_again() {
    let mut world = World::new(config(), behind(1000), Authenticate::Nothing);
    world.run(secs(0));
    world.up = false;
    // The one that tells the first binding was answered; this one is not.
    world.reboot_gateway();
    world.client.configure(
        ClientConfig {
            minimum: secs(2),
            ..config()
        },
        world.now,
    );
    world.up = true;
    world.run(secs(0));
    let told = |world: &World| {
        let all = world
            .seen
            .iter()
            .filter(|seen| seen.has(Attribute::BindingChange));
        all.map(|seen| seen.at.as_millis()).collect::<Vec<_>>()
    };
    assert_eq!(told(&world), [0, 0]);
    // From now on nothing is answered that tells of a change.
    world.up = false;
    world.reboot_gateway();
    let mut client = Client::new(config(), [9; 32], world.now);
    let first = client.poll_transmit().unwrap();
    let id = Message::decode(&first.octets).unwrap().transaction;
    client.handle_input(
        world.now,
        Socket::Primary,
        address(SERVER),
        &response(id).build(),
    );
    let mut sent = Vec::new();
    let mut now = world.now;
    loop {
        while let Some(transmit) = client.poll_transmit() {
            let message = Message::decode(&transmit.octets).unwrap();
            if message.has(Attribute::BindingChange) {
                sent.push((now - world.now).as_millis());
            }
        }
        now = client.poll_timeout().unwrap();
        if now - world.now > secs(600) {
            break;
        }
        client.handle_timeout(now);
        while client.poll_event().is_some() {}
    }
    assert_eq!(sent, [0, 100, 300, 700, 1500, 3100, 4700, 6300, 7900]);
}

#[test]
fn a_gateway_that_forgets_is_noticed_at_the_next_refresh_and_told() {
    let mut world = World::new(config(), behind(1000), Authenticate::Changes);
    world.run(secs(400));
    let known = world.client.binding().unwrap();
    assert_eq!(world.learned, 1);
    world.reboot_gateway();
    let period = world.client.period();
    world.run(period + secs(5));
    let (now_at, nat) = world.client.binding().unwrap();
    assert!(nat && now_at != known.0);
    assert_eq!(world.learned, 2);
    let bound = world.server.binding(USERNAME.as_bytes()).unwrap();
    assert_eq!((bound.at, bound.local), (now_at, address(SERVER)));
    let last = world
        .events
        .iter()
        .rev()
        .find(|(_, e)| matches!(e, Event::Binding { .. }));
    assert_eq!(
        last.unwrap().1,
        Event::Binding {
            address: now_at,
            nat: true
        }
    );
}

#[test]
fn another_local_address_means_rediscovery_at_once() {
    let mut world = World::new(config(), behind(1000), Authenticate::Changes);
    world.run(secs(20));
    let before = world.seen.len();
    world.config.local = address("192.168.7.3:7547");
    world.client.configure(world.config.clone(), world.now);
    world.run(secs(0));
    let new: Vec<_> = world.seen[before..].iter().map(|seen| seen.at).collect();
    assert!(
        new.len() >= 2 && new.iter().all(|at| *at == secs(20)),
        "{new:?}"
    );
    assert_eq!(world.learned, 2);
}

#[test]
fn without_nat_the_device_says_so_and_only_looks_again() {
    let mut world = World::new(config(), NO_NAT, Authenticate::Nothing);
    world.run(secs(300));
    let told = Event::Binding {
        address: address(LOCAL),
        nat: false,
    };
    assert_eq!(world.events, [(secs(0), told)]);
    assert!(
        world
            .sent
            .iter()
            .all(|(_, transmit)| transmit.socket == Socket::Primary)
    );
    // Discovery, its change, and one refresh per maximum.
    assert_eq!(world.sent.len(), 2 + 5);
    world.nat = behind(1000);
    world.run(secs(60));
    let (at, nat) = world.client.binding().unwrap();
    assert!(nat && at.ip() == PUBLIC.parse::<std::net::IpAddr>().unwrap());
}

#[test]
fn what_is_not_for_it_changes_nothing() {
    let config = config();
    let (mut client, id) = asked(&config);
    let now = start();
    let good = response(id).build();
    client.handle_input(now, Socket::Primary, address("203.0.113.2:3478"), &good);
    client.handle_input(
        now,
        Socket::Primary,
        config.server,
        &response(TransactionId([0; 16])).build(),
    );
    client.handle_input(now, Socket::Primary, config.server, b"\x01\x01garbage");
    client.handle_input(now, Socket::Secondary, config.server, &good);
    let request = Builder::new(Method::BindingRequest, id).build();
    client.handle_input(now, Socket::Primary, config.server, &request);
    let unknown = response(id)
        .attribute(Attribute::Other {
            kind: 0x0040,
            value: b"",
        })
        .build();
    client.handle_input(now, Socket::Primary, config.server, &unknown);
    let bare = Builder::new(Method::BindingResponse, id).build();
    client.handle_input(now, Socket::Primary, config.server, &bare);
    let codeless = Builder::new(Method::BindingErrorResponse, id).build();
    client.handle_input(now, Socket::Primary, config.server, &codeless);
    let stats = client.stats();
    assert_eq!(
        (
            stats.strangers,
            stats.malformed,
            stats.unmatched,
            stats.unusable
        ),
        (1, 1, 3, 3)
    );
    assert_eq!((client.poll_event(), client.binding()), (None, None));
    client.handle_input(now, Socket::Primary, config.server, &good);
    assert_eq!(client.binding(), Some((mapped(), true)));
}

#[test]
fn an_unanswered_refresh_is_told_and_tried_again_no_sooner_than_allowed() {
    let config = ClientConfig {
        minimum: secs(20),
        ..config()
    };
    let mut world = World::new(config, behind(1000), Authenticate::Nothing);
    world.up = false;
    world.run(secs(100));
    let unanswered = world
        .events
        .iter()
        .filter(|(_, e)| *e == Event::Unanswered)
        .count();
    // Each fails after 9.5 s, and the next comes 20 s later.
    assert_eq!(unanswered, 4);
    assert_eq!(world.client.stats().unanswered, 4);
    let ids: std::collections::BTreeMap<_, _> = world
        .seen
        .iter()
        .rev()
        .map(|seen| (Message::decode(&seen.octets).unwrap().transaction, seen.at))
        .collect();
    let mut starts: Vec<_> = ids.into_values().collect();
    starts.sort();
    assert!(
        starts.windows(2).all(|pair| pair[1] - pair[0] >= secs(20)),
        "{starts:?}"
    );
}

#[test]
fn secrets_do_not_show() {
    let text = format!("{:?}", config());
    assert!(text.contains(USERNAME) && !text.contains("strong"));
}
