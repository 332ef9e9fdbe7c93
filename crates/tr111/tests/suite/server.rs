//! The operator's STUN server: what it answers, what it learns, what it refuses.

use std::net::SocketAddr;

use homefleet_tr111::{
    server::{Authenticate, Binding, Outcome, Reply, Server, ServerConfig, ServerStats, Via},
    stun::{Attribute, Builder, ErrorCode, Message, Method, Padding, TransactionId},
};

use crate::world::{PASSWORD, SERVER, USERNAME, address, known, secs, start};

const ID: TransactionId = TransactionId(*b"0123456789abcdef");

fn from() -> SocketAddr {
    address("198.51.100.9:50001")
}

fn other() -> SocketAddr {
    address("203.0.113.2:3479")
}

fn server(authenticate: Authenticate) -> Server {
    Server::new(ServerConfig {
        authenticate,
        ..ServerConfig::default()
    })
}

fn request() -> Builder {
    Builder::new(Method::BindingRequest, ID)
}

/// A request that says on which binding the device listens, and that it has changed.
fn change(id: TransactionId) -> Builder {
    Builder::new(Method::BindingRequest, id)
        .attribute(Attribute::Username(USERNAME.as_bytes()))
        .attribute(Attribute::ConnectionRequestBinding)
        .attribute(Attribute::BindingChange)
}

fn ask(server: &mut Server, datagram: &[u8]) -> (Outcome, Vec<u8>) {
    let mut out = b"what was here before".to_vec();
    let outcome = server.handle_input(start(), address(SERVER), from(), datagram, &known, &mut out);
    (outcome, out)
}

fn answered(server: &mut Server, datagram: &[u8]) -> (Reply, Vec<u8>) {
    let (outcome, out) = ask(server, datagram);
    (outcome.reply.unwrap(), out)
}

fn refusal(server: &mut Server, datagram: &[u8]) -> ErrorCode {
    let (reply, out) = answered(server, datagram);
    assert_eq!(
        reply,
        Reply {
            to: from(),
            via: Via::default()
        }
    );
    let message = Message::decode(&out).unwrap();
    assert_eq!(
        (message.method, message.transaction),
        (Method::BindingErrorResponse, ID)
    );
    message.error_code().unwrap()
}

#[test]
fn a_request_is_answered_with_where_it_came_from() {
    let mut server = server(Authenticate::Changes);
    let (reply, out) = answered(&mut server, &request().build());
    assert_eq!(
        reply,
        Reply {
            to: from(),
            via: Via::default()
        }
    );
    let message = Message::decode(&out).unwrap();
    assert_eq!(
        (message.method, message.transaction),
        (Method::BindingResponse, ID)
    );
    assert_eq!(
        message.attributes().collect::<Vec<_>>(),
        [
            Attribute::MappedAddress(from()),
            Attribute::SourceAddress(address(SERVER)),
            // There is no other address (TR-111 §2.2.2.1).
            Attribute::ChangedAddress(address(SERVER)),
        ]
    );
}

#[test]
fn who_speaks_rfc_5389_gets_its_address_twice() {
    let mut server = server(Authenticate::Nothing);
    let mut id = *b"....456789abcdef";
    id[..4].copy_from_slice(&[0x21, 0x12, 0xA4, 0x42]);
    let datagram = Builder::new(Method::BindingRequest, TransactionId(id)).build();
    let (_, out) = answered(&mut server, &datagram);
    let message = Message::decode(&out).unwrap();
    assert!(message.has(Attribute::MappedAddress(from())));
    assert!(message.has(Attribute::XorMappedAddress(from())));
}

#[test]
fn ipv6_is_answered_alike() {
    let mut server = server(Authenticate::Nothing);
    let (local, from) = (
        address("[2001:db8::1]:3478"),
        address("[2001:db8:7::9]:50001"),
    );
    let mut out = Vec::new();
    server.handle_input(start(), local, from, &request().build(), &known, &mut out);
    let message = Message::decode(&out).unwrap();
    assert_eq!(message.mapped_address(), Some(from));
    assert!(message.has(Attribute::SourceAddress(local)));
}

#[test]
fn with_another_address_change_request_is_followed() {
    let config = ServerConfig {
        pair: Some((address(SERVER), other())),
        ..ServerConfig::default()
    };
    let mut server = Server::new(config);
    for (address_too, port_too, source) in [
        (false, false, "203.0.113.1:3478"),
        (false, true, "203.0.113.1:3479"),
        (true, false, "203.0.113.2:3478"),
        (true, true, "203.0.113.2:3479"),
    ] {
        let asked = Attribute::ChangeRequest {
            address: address_too,
            port: port_too,
        };
        let (reply, out) = answered(&mut server, &request().attribute(asked).build());
        let via = Via {
            other_address: address_too,
            other_port: port_too,
        };
        assert_eq!(reply, Reply { to: from(), via });
        let message = Message::decode(&out).unwrap();
        assert!(message.has(Attribute::SourceAddress(address(source))));
        assert!(message.has(Attribute::ChangedAddress(other())));
    }
}

#[test]
fn what_came_to_the_other_address_is_answered_from_there() {
    let config = ServerConfig {
        pair: Some((address(SERVER), other())),
        ..ServerConfig::default()
    };
    let mut server = Server::new(config);
    let mut out = Vec::new();
    let datagram = request().build();
    server.handle_input(start(), other(), from(), &datagram, &known, &mut out);
    let message = Message::decode(&out).unwrap();
    assert!(message.has(Attribute::SourceAddress(other())));
    assert!(message.has(Attribute::ChangedAddress(address(SERVER))));
}

#[test]
fn without_another_address_change_request_is_ignored() {
    let mut server = server(Authenticate::Nothing);
    let asked = Attribute::ChangeRequest {
        address: true,
        port: true,
    };
    let (reply, out) = answered(&mut server, &request().attribute(asked).build());
    assert_eq!(reply.via, Via::default());
    assert!(
        Message::decode(&out)
            .unwrap()
            .has(Attribute::SourceAddress(address(SERVER)))
    );
}

#[test]
fn a_response_goes_to_another_port_of_the_requester() {
    let mut server = server(Authenticate::Nothing);
    let wanted = address("198.51.100.9:7547");
    let asked = request()
        .attribute(Attribute::ResponseAddress(wanted))
        .build();
    let (reply, out) = answered(&mut server, &asked);
    assert_eq!(reply.to, wanted);
    let message = Message::decode(&out).unwrap();
    assert!(message.has(Attribute::ReflectedFrom(from())));
    assert_eq!(message.mapped_address(), Some(from()));
}

#[test]
fn it_never_sends_to_a_third_party() {
    let mut server = server(Authenticate::Nothing);
    for victim in [
        "192.0.2.66:53",
        "[2001:db8::1]:53",
        "198.51.100.9:0",
        "224.0.0.1:5353",
    ] {
        let asked = request()
            .attribute(Attribute::ResponseAddress(address(victim)))
            .build();
        let (reply, out) = answered(&mut server, &asked);
        assert_eq!(reply.to, from(), "{victim}");
        let reflected = Message::decode(&out)
            .unwrap()
            .attributes()
            .any(|a| matches!(a, Attribute::ReflectedFrom(_)));
        assert!(!reflected);
    }
    assert_eq!(server.stats().foreign_responses, 4);
}

#[test]
fn unknown_mandatory_attributes_are_refused_and_named() {
    let mut server = server(Authenticate::Nothing);
    for kinds in [
        &[0x0040u16][..],
        &[0x0040, 0x7FFF],
        &[0x0040, 0x0041, 0x0042],
    ] {
        let asked = kinds.iter().fold(request(), |builder, kind| {
            builder.attribute(Attribute::Other {
                kind: *kind,
                value: b"",
            })
        });
        let datagram = asked.build();
        assert_eq!(
            refusal(&mut server, &datagram),
            ErrorCode::UNKNOWN_ATTRIBUTE
        );
        let (_, out) = answered(&mut server, &datagram);
        let mut named: Vec<u8> = kinds.iter().flat_map(|kind| kind.to_be_bytes()).collect();
        if kinds.len() % 2 == 1 {
            named.extend(kinds[kinds.len() - 1].to_be_bytes());
        }
        assert!(
            Message::decode(&out)
                .unwrap()
                .has(Attribute::UnknownAttributes(&named))
        );
    }
    let optional = request()
        .attribute(Attribute::Other {
            kind: 0x8040,
            value: b"",
        })
        .build();
    let (_, out) = answered(&mut server, &optional);
    assert_eq!(
        Message::decode(&out).unwrap().method,
        Method::BindingResponse
    );
}

#[test]
fn what_says_that_a_binding_changed_must_prove_itself() {
    let mut server = server(Authenticate::Changes);
    assert_eq!(
        refusal(&mut server, &change(ID).build()),
        ErrorCode::UNAUTHORIZED
    );
    assert_eq!(server.binding(USERNAME.as_bytes()), None);
    for padding in [Padding::Block, Padding::None] {
        let id = TransactionId([padding as u8; 16]);
        let (outcome, out) = ask(&mut server, &change(id).protect(PASSWORD, padding));
        let new = (padding == Padding::Block).then(|| USERNAME.as_bytes().to_vec());
        assert_eq!(outcome.learned, new);
        // The answer is protected, in the device's own way.
        let message = Message::decode(&out).unwrap();
        assert_eq!(message.integrity().unwrap().verify(PASSWORD), Some(padding));
    }
    let binding = server.binding(USERNAME.as_bytes()).unwrap();
    assert_eq!((binding.at, binding.local), (from(), address(SERVER)));
    assert_eq!((server.bindings(), server.stats().learned), (1, 1));
}

#[test]
fn who_must_prove_itself_is_the_operators_choice() {
    let listening = request()
        .attribute(Attribute::Username(USERNAME.as_bytes()))
        .attribute(Attribute::ConnectionRequestBinding)
        .build();
    let method = |server: &mut Server, datagram: &[u8]| {
        Message::decode(&answered(server, datagram).1)
            .unwrap()
            .method
    };
    let (yes, no) = (Method::BindingErrorResponse, Method::BindingResponse);
    for (authenticate, plain, listens, changed) in [
        (Authenticate::Nothing, no, no, no),
        (Authenticate::Changes, no, no, yes),
        (Authenticate::Listening, no, yes, yes),
    ] {
        let mut server = server(authenticate);
        assert_eq!(method(&mut server, &request().build()), plain);
        assert_eq!(method(&mut server, &listening), listens);
        assert_eq!(method(&mut server, &change(ID).build()), changed);
        assert_eq!(
            server.bindings(),
            0,
            "nothing is learned from what proves nothing"
        );
    }
}

#[test]
fn a_change_without_the_mark_is_no_business_of_ours() {
    let mut server = server(Authenticate::Changes);
    let unmarked = request()
        .attribute(Attribute::Username(USERNAME.as_bytes()))
        .attribute(Attribute::BindingChange);
    let (outcome, _) = ask(
        &mut server,
        &unmarked.clone().protect(PASSWORD, Padding::Block),
    );
    assert_eq!((outcome.learned, server.bindings()), (None, 0));
    let (_, out) = ask(&mut server, &unmarked.build());
    assert_eq!(
        Message::decode(&out).unwrap().method,
        Method::BindingResponse
    );
}

#[test]
fn what_proves_nothing_is_refused_with_its_reason() {
    let mut server = server(Authenticate::Changes);
    let forged = change(ID).protect(b"guess", Padding::Block);
    assert_eq!(
        refusal(&mut server, &forged),
        ErrorCode::INTEGRITY_CHECK_FAILURE
    );
    let nameless = request()
        .attribute(Attribute::ConnectionRequestBinding)
        .protect(PASSWORD, Padding::Block);
    assert_eq!(refusal(&mut server, &nameless), ErrorCode::MISSING_USERNAME);
    let stranger = request()
        .attribute(Attribute::Username(b"cpe-0002"))
        .attribute(Attribute::ConnectionRequestBinding)
        .protect(PASSWORD, Padding::Block);
    assert_eq!(
        refusal(&mut server, &stranger),
        ErrorCode::STALE_CREDENTIALS
    );
    let stats = server.stats();
    assert_eq!(
        (stats.forged, stats.unknown_users, server.bindings()),
        (1, 2, 0)
    );
}

#[test]
fn a_transaction_is_taken_once_and_answered_each_time() {
    let mut server = server(Authenticate::Changes);
    let datagram = change(ID).protect(PASSWORD, Padding::Block);
    let (first, answer) = ask(&mut server, &datagram);
    let (second, again) = ask(&mut server, &datagram);
    assert!(first.learned.is_some() && second.learned.is_none());
    assert_eq!(answer, again, "its answer may have been lost");
    assert_eq!(server.stats().repeated, 1);
    let (third, _) = ask(
        &mut server,
        &change(TransactionId([1; 16])).protect(PASSWORD, Padding::Block),
    );
    assert_eq!(
        (third.learned, server.stats().repeated),
        (None, 1),
        "confirmed, and no other"
    );
}

#[test]
fn bindings_are_bounded() {
    let config = ServerConfig {
        max_bindings: 1,
        ..ServerConfig::default()
    };
    let mut server = Server::new(config);
    let anybody = |_: &[u8]| Some(PASSWORD);
    let mut out = Vec::new();
    let mut tell = |server: &mut Server, name: &[u8], id: u8, from: SocketAddr| {
        let datagram = Builder::new(Method::BindingRequest, TransactionId([id; 16]))
            .attribute(Attribute::Username(name))
            .attribute(Attribute::ConnectionRequestBinding)
            .protect(PASSWORD, Padding::Block);
        server.handle_input(
            start(),
            address(SERVER),
            from,
            &datagram,
            &anybody,
            &mut out,
        )
    };
    assert!(tell(&mut server, b"one.", 1, from()).learned.is_some());
    let refused = tell(&mut server, b"two.", 2, from());
    assert!(refused.learned.is_none() && refused.reply.is_some());
    let moved = address("198.51.100.9:50002");
    assert!(
        tell(&mut server, b"one.", 3, moved).learned.is_some(),
        "who is known may move"
    );
    assert_eq!((server.bindings(), server.stats().full), (1, 1));
    server.forget(b"one.");
    assert!(tell(&mut server, b"two.", 4, from()).learned.is_some());
}

#[test]
fn bindings_survive_a_restart_by_their_keeper() {
    let mut server = server(Authenticate::Changes);
    let now = start();
    let binding = |seen| Binding {
        at: from(),
        local: address(SERVER),
        since: now,
        seen,
    };
    server.restore(b"one.", binding(now + secs(5)));
    server.restore(b"one.", binding(now));
    assert_eq!(server.binding(b"one."), Some(binding(now + secs(5))));
}

#[test]
fn what_is_no_request_is_ignored_and_counted() {
    let mut server = server(Authenticate::Changes);
    let shared_secret = Builder::new(Method::SharedSecretRequest, ID).build();
    let response = Builder::new(Method::BindingResponse, ID).build();
    let mut truncated = change(ID).protect(PASSWORD, Padding::Block);
    truncated.pop();
    for datagram in [
        &shared_secret,
        &response,
        &truncated,
        &b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        &Vec::new(),
    ] {
        assert_eq!(ask(&mut server, datagram).0, Outcome::default());
    }
    let mut out = Vec::new();
    for nobody in ["198.51.100.9:0", "0.0.0.0:7", "224.0.0.1:7"] {
        let outcome = server.handle_input(
            start(),
            address(SERVER),
            address(nobody),
            &request().build(),
            &known,
            &mut out,
        );
        assert_eq!(outcome, Outcome::default());
    }
    let counted = ServerStats {
        unexpected: 2,
        malformed: 3,
        unanswerable: 3,
        ..ServerStats::default()
    };
    assert_eq!(server.stats(), counted);
}
