//! Fuzz bodies, compiled with the crate so that they cannot rot. None may panic.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    client::{Client, ClientConfig, Socket},
    connection_request::{Last, accept},
    identity::{Found, Role},
    server::{Server, ServerConfig},
    stun::{Builder, Message, is_stun},
};

/// Any datagram: what is read can be written and means the same.
pub fn stun(data: &[u8]) {
    let Ok(message) = Message::decode(data) else {
        return;
    };
    let again = message
        .attributes()
        .fold(Builder::new(message.method, message.transaction), |b, a| {
            b.attribute(a)
        })
        .build();
    if let Ok(read) = Message::decode(&again) {
        assert_eq!(read.transaction, message.transaction);
        assert_eq!(read.username(), message.username());
        assert_eq!(read.mapped_address(), message.mapped_address());
    }
    let _ = (
        message.integrity().map(|i| i.verify(b"secret")),
        message.error_code(),
    );
}

/// Any datagram at a device, as UDP Connection Request; and any octets as option 125.
pub fn requests(data: &[u8]) {
    let mut last = Last::default();
    if let Ok(request) = accept(data, "CPE57689", b"password", &mut last) {
        let again = request.encode("192.0.2.1:7547", b"password");
        assert_eq!(
            accept(&again, "CPE57689", b"password", &mut Last::default()),
            Ok(request)
        );
    }
    let (first, second) = data.split_at(data.len() / 2);
    let found = Found::decode([first, second]);
    for role in [Role::Device, Role::Gateway] {
        if let Some(identity) = found.identity(role) {
            let option = identity.encode(role);
            assert_eq!(
                Found::decode([option.as_slice()]).identity(role),
                Some(identity)
            );
        }
    }
}

/// A server and a device under datagrams cut from `data`: each octet of 0xFF begins another one, and lets time pass.
pub fn machines(start: Instant, data: &[u8]) {
    let (ours, theirs): (SocketAddr, SocketAddr) = (
        ([192, 0, 2, 1], 3478).into(),
        ([198, 51, 100, 7], 40_000).into(),
    );
    let mut server = Server::new(ServerConfig {
        max_bindings: 2,
        max_recent: 2,
        ..ServerConfig::default()
    });
    let mut client = Client::new(ClientConfig::new(ours, theirs), [7; 32], start);
    let (mut now, mut out) = (start, Vec::new());
    let credentials = |name: &[u8]| (name == b"cpe-0001").then_some(&b"secret"[..]);
    for datagram in data.split(|octet| *octet == 0xFF) {
        let outcome = server.handle_input(now, ours, theirs, datagram, &credentials, &mut out);
        if let Some(reply) = outcome.reply {
            assert_eq!(reply.to.ip(), theirs.ip(), "never to a third party");
            assert!(is_stun(&out) && out.len() <= 200);
        }
        client.handle_input(now, Socket::Primary, ours, datagram);
        client.handle_input(now, Socket::Secondary, ours, datagram);
        // What the client sends comes back from the server, sometimes.
        while let Some(transmit) = client.poll_transmit() {
            let outcome =
                server.handle_input(now, ours, theirs, &transmit.octets, &credentials, &mut out);
            if let Some(reply) = outcome.reply.filter(|_| datagram.len() % 2 == 0) {
                let socket = if reply.to == theirs {
                    transmit.socket
                } else {
                    Socket::Primary
                };
                client.handle_input(now, socket, ours, &out);
            }
        }
        while client.poll_event().is_some() {}
        now += Duration::from_millis(700 + 100 * u64::from(datagram.first().copied().unwrap_or(0)));
        client.handle_timeout(now);
        assert!(client.poll_timeout().is_some(), "it always goes on");
        assert!(server.bindings() <= 2);
    }
}
