//! The publisher of UDP-notif on real sockets of loopback: plain and as the client of DTLS, against a bare socket and a bare table of associations.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use homefleet_net::dtls::{Config, Event, Version, Versions};
use homefleet_net::notif::send::{CS2, Dtls, Sender, SenderConfig, Stats, Status};
use homefleet_notif::publisher::{self, Dropped, Framing, MessageIds, PublishError};
use homefleet_notif::{Generation, MediaType, Message, Profile};

use super::support::live::Live;
use super::support::pki::Ca;

/// Longer than anything takes.
const LIMIT: Duration = Duration::from_secs(60);

fn publisher() -> publisher::Config {
    publisher::Config {
        pacing: None,
        ..publisher::Config::new(Generation::Draft26, 1, MediaType::Json)
    }
}

fn to(addr: SocketAddr, publisher: publisher::Config) -> SenderConfig {
    SenderConfig {
        first_pause: Duration::from_millis(20),
        longest_pause: Duration::from_millis(100),
        ..SenderConfig::new(addr.ip().to_string(), addr.port(), publisher)
    }
}

fn start(config: SenderConfig) -> Sender {
    Sender::start(config, Some(MessageIds::starting_at(1))).unwrap()
}

fn receiver() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

fn take(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let len = socket.recv(&mut buffer).unwrap();
    buffer.truncate(len);
    buffer
}

async fn until(sender: &Sender, what: impl Fn(&Stats) -> bool) -> Stats {
    let wait = async {
        loop {
            let stats = sender.stats();
            if what(&stats) {
                return stats;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_messages_arrive_whole() {
    let (socket, addr) = receiver();
    let sender = start(to(addr, publisher()));
    let large = vec![b'x'; 98_304];
    sender.publish(*b"{}").unwrap();
    sender.publish(large.clone()).unwrap();
    let first = take(&socket);
    let message = Message::decode(&first, Profile::Draft26).unwrap();
    assert_eq!(
        (message.header.message_id, message.payload),
        (1, b"{}".as_slice())
    );
    let mut whole = Vec::new();
    while whole.len() < large.len() {
        let datagram = take(&socket);
        let segment = Message::decode(&datagram, Profile::Draft26).unwrap();
        assert_eq!(segment.header.message_id, 2);
        whole.extend_from_slice(segment.payload);
    }
    assert_eq!(whole, large);
    let stats = sender.stop(LIMIT).await;
    assert_eq!(
        (stats.messages.sent, stats.messages.failed, stats.waiting),
        (2, 0, 0)
    );
    assert_eq!(stats.status, Status::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_carry_class_selector_2() {
    use std::io::IoSliceMut;
    let (socket, addr) = receiver();
    rustix::net::sockopt::set_ip_recvtos(&socket, true).unwrap();
    let sender = start(to(addr, publisher()));
    sender.publish(*b"{}").unwrap();
    sender.idle().await;
    let mut bytes = [0; 64];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!(u8);
    let message = nix::sys::socket::recvmsg::<()>(
        std::os::fd::AsRawFd::as_raw_fd(&socket),
        &mut parts,
        Some(&mut space),
        nix::sys::socket::MsgFlags::empty(),
    )
    .unwrap();
    let tos = message.cmsgs().unwrap().find_map(|control| match control {
        nix::sys::socket::ControlMessageOwned::Ipv4Tos(tos) => Some(tos),
        _ => None,
    });
    assert_eq!(tos, Some(CS2 << 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_of_one_size_leave_in_order() {
    let (socket, addr) = receiver();
    let sender = start(to(addr, publisher()));
    let count = 150u32;
    for number in 0..count {
        sender.publish(number.to_be_bytes()).unwrap();
    }
    for number in 0..count {
        let datagram = take(&socket);
        let message = Message::decode(&datagram, Profile::Draft26).unwrap();
        assert_eq!(message.header.message_id, number + 1);
        assert_eq!(message.payload, number.to_be_bytes());
    }
    let stats = sender.stop(LIMIT).await;
    assert_eq!(stats.messages.datagrams, u64::from(count));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_port_is_kept_and_others_are_the_kernels() {
    let (socket, addr) = receiver();
    let free = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let sender = start(SenderConfig {
        local_address: Some(addr.ip()),
        local_port: Some(port),
        ..to(addr, publisher())
    });
    sender.publish(*b"{}").unwrap();
    let mut buffer = [0; 64];
    let (_, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from, SocketAddr::new(addr.ip(), port));
}

#[tokio::test(flavor = "multi_thread")]
async fn that_nobody_listens_is_counted_and_does_not_stop_a_plain_publisher() {
    let (socket, addr) = receiver();
    drop(socket);
    let sender = start(to(addr, publisher()));
    sender.up().await;
    for _ in 0..20 {
        sender.publish(*b"{}").unwrap();
        tokio::task::yield_now().await;
        sender.idle().await;
    }
    let stats = until(&sender, |stats| stats.nobody_there > 0).await;
    assert_eq!((stats.messages.sent, stats.messages.failed), (20, 0));
    assert!(matches!(stats.status, Status::Up { session: None, .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_refused_at_the_start() {
    let config = publisher::Config::new(Generation::PubChannel, 1, MediaType::Json);
    let error = Sender::start(SenderConfig::new("127.0.0.1", 9, config), None).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

/// A receiver with DTLS that runs in a thread until its test says otherwise.
fn dtls(ca: &Ca, publisher_ca: &Ca) -> Dtls {
    let credentials = publisher_ca.endpoint("os::publisher").credentials();
    Dtls::new(credentials, ca.verifier())
}

fn server(ca: &Ca) -> Live {
    Live::new(
        Config::default(),
        &ca.endpoint("proto::receiver"),
        ca.verifier(),
    )
}

/// Runs the receiver until `done`, beside the publisher.
async fn run(mut live: Live, done: impl FnMut(&mut Live) -> bool + Send + 'static) -> Live {
    tokio::task::spawn_blocking(move || {
        assert!(live.run(LIMIT, done), "{:?}", live.events);
        live
    })
    .await
    .unwrap()
}

fn records(live: &Live) -> Vec<Vec<u8>> {
    let data = live.events.iter().filter_map(|event| match event {
        Event::Data { payload, .. } => Some(payload.clone()),
        _ => None,
    });
    data.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn over_dtls_1_3_messages_wait_for_the_handshake_and_the_end_is_close_notify() {
    let ca = Ca::new("notif");
    let live = server(&ca);
    let config = SenderConfig {
        dtls: Some(dtls(&ca, &ca)),
        ..to(live.addr(), publisher())
    };
    let sender = start(SenderConfig {
        host: "localhost".to_owned(),
        local_address: Some("127.0.0.1".parse().unwrap()),
        ..config
    });
    let large = vec![b'y'; 50_000];
    sender.publish(*b"{}").unwrap();
    sender.publish(large.clone()).unwrap();
    assert_eq!(
        sender.stats().messages.sent,
        0,
        "the handshake has not ended"
    );
    let live = run(live, |live| live.data().len() >= 50_000).await;
    let stats = until(&sender, |stats| stats.waiting == 0).await;
    assert!(
        matches!(
            stats.status,
            Status::Up {
                session: Some((Version::Dtls13, _)),
                ..
            }
        ),
        "{stats:?}"
    );
    // -26: a record is one message or segment.
    let records = records(&live);
    let first = Message::decode(&records[0], Profile::Draft26).unwrap();
    assert_eq!(first.payload, b"{}");
    let whole: Vec<u8> = records[1..]
        .iter()
        .flat_map(|record| {
            Message::decode(record, Profile::Draft26)
                .unwrap()
                .payload
                .to_vec()
        })
        .collect();
    assert_eq!(whole, large);
    let stop = tokio::spawn(sender.stop(LIMIT));
    let live = run(live, |live| {
        live.has(|event| {
            matches!(
                event,
                Event::Closed {
                    reason: homefleet_net::dtls::CloseReason::Peer,
                    ..
                }
            )
        })
    })
    .await;
    drop(live);
    assert_eq!(stop.await.unwrap().messages.sent, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_dtls_1_2_by_configuration_and_framed_as_the_draft_says() {
    let ca = Ca::new("notif");
    let live = server(&ca);
    let mut config = to(
        live.addr(),
        publisher::Config {
            framing: Framing::Framed { share: true },
            ..publisher::Config::new(Generation::Draft03, 1, MediaType::Json)
        },
    );
    config.dtls = Some(Dtls {
        versions: Versions::Dtls12,
        ..dtls(&ca, &ca)
    });
    config.host = "localhost".to_owned();
    config.local_address = Some("127.0.0.1".parse().unwrap());
    let sender = start(config);
    for _ in 0..5 {
        sender.publish(*b"{}").unwrap();
    }
    let live = run(live, |live| live.data().len() >= 5 * 17).await;
    assert!(live.has(|event| matches!(
        event,
        Event::Established {
            version: Version::Dtls12,
            ..
        }
    )));
    let records = records(&live);
    assert!(records[0].starts_with(b"14 "), "{records:?}");
    assert_eq!(records.len(), 1, "they waited together");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_nobody_vouches_for_gets_nothing() {
    let ca = Ca::new("notif");
    let other = Ca::new("somebody");
    let live = Live::new(
        Config::default(),
        &other.endpoint("proto::receiver"),
        ca.verifier(),
    );
    let mut config = to(live.addr(), publisher());
    config.host = "localhost".to_owned();
    config.local_address = Some("127.0.0.1".parse().unwrap());
    config.dtls = Some(dtls(&ca, &ca));
    let sender = start(config);
    sender.publish(*b"secret").unwrap();
    let live = run(live, |live| {
        live.has(|event| matches!(event, Event::Failed { .. }))
    })
    .await;
    let stats = until(&sender, |stats| stats.failed > 0).await;
    assert_eq!(
        (stats.messages.sent, stats.waiting, stats.connected),
        (0, 1, 0)
    );
    let Status::Away { reason } = stats.status else {
        // It tries again already.
        return;
    };
    assert!(reason.contains("refused"), "{reason}");
    drop(live);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_receiver_is_away_a_bounded_queue_waits_and_what_is_dropped_is_counted() {
    let ca = Ca::new("notif");
    let live = server(&ca);
    let addr = live.addr();
    let mut config = to(
        addr,
        publisher::Config {
            max_waiting: 3,
            dropped: Dropped::Newest,
            ..publisher()
        },
    );
    config.host = "localhost".to_owned();
    config.local_address = Some("127.0.0.1".parse().unwrap());
    config.dtls = Some(dtls(&ca, &ca));
    let sender = start(config);
    let live = run(live, |live| live.is_established()).await;
    until(&sender, |stats| stats.connected == 1).await;
    // Its program ends: the port is closed, the session gone.
    drop(live);
    until(&sender, |stats| {
        let _noticed_only_by_sending = sender.publish(*b"gone");
        stats.failed > 0
    })
    .await;
    let before = until(&sender, |stats| matches!(stats.status, Status::Away { .. })).await;
    for _ in 0..5 {
        let _some_are_refused = sender.publish(*b"wait");
    }
    assert_eq!(sender.publish(*b"full"), Err(PublishError::Away));
    let stats = sender.stats();
    assert_eq!(stats.waiting, 3);
    assert!(stats.messages.dropped_away > before.messages.dropped_away);
    // It comes back on the same port, and knows nothing of a session.
    let socket = UdpSocket::bind(addr).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(10)))
        .unwrap();
    let live = Live {
        socket,
        ..server(&ca)
    };
    let live = run(live, |live| records(live).len() >= 3).await;
    let stats = until(&sender, |stats| stats.waiting == 0).await;
    assert_eq!(stats.connected, 2);
    let known = stats.messages.sent + stats.messages.failed + stats.messages.dropped_away;
    assert_eq!(stats.messages.offered, known);
    drop(live);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_renewed_beside_the_old_one_and_nothing_is_lost() {
    let ca = Ca::new("notif");
    let live = server(&ca);
    let mut config = to(live.addr(), publisher());
    config.host = "localhost".to_owned();
    config.local_address = Some("127.0.0.1".parse().unwrap());
    config.dtls = Some(Dtls {
        renew_every: Duration::from_millis(50),
        ..dtls(&ca, &ca)
    });
    let sender = Arc::new(start(config));
    let publishing = {
        let sender = sender.clone();
        tokio::spawn(async move {
            let mut count = 0u64;
            while sender.stats().renewed < 3 {
                sender.publish(*b"{}").unwrap();
                count += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            sender.idle().await;
            count
        })
    };
    let handle = tokio::task::spawn_blocking(move || {
        let mut live = live;
        assert!(live.run(LIMIT, |live| {
            live.events
                .iter()
                .filter(|event| matches!(event, Event::Established { .. }))
                .count()
                >= 4
        }));
        live.run(Duration::from_millis(300), |_| false);
        live
    });
    let count = tokio::time::timeout(LIMIT, publishing).await;
    let count = count
        .unwrap_or_else(|_| panic!("{:?}", sender.stats()))
        .unwrap();
    let live = handle.await.unwrap();
    let stats = sender.stats();
    assert_eq!((stats.connected, stats.messages.sent), (1, count));
    assert!(live.has(|event| matches!(event, Event::Established { resumed: true, .. })));
}
