//! The receiver of UDP-notif on real sockets of loopback: plain, and as the server of DTLS against our own publisher, `dimpl` and OpenSSL.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Dtls, DtlsCertificate, Output};
use homefleet_net::dtls::{self, Versions};
use homefleet_net::notif::{Received, Receiver, ReceiverConfig, Security, Stats, send};
use homefleet_notif::publisher::{self, Framing, MessageIds};
use homefleet_notif::{Generation, Header, MediaType, Reason, Segments};
use homefleet_trust::chain_from_pem;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use tokio::sync::mpsc;

use super::support::pki::{Ca, Issued, Leaf};
use super::support::tool::{Files, Tool, have};

/// Longer than anything takes.
const LIMIT: Duration = Duration::from_secs(60);

/// A receiver with what it hands on.
struct Live {
    receiver: Receiver,
    channel: mpsc::Receiver<Vec<Received>>,
    taken: Vec<Received>,
}

impl Live {
    fn bind(config: ReceiverConfig) -> Self {
        let (receiver, channel) = Receiver::bind(config).unwrap();
        Self {
            receiver,
            channel,
            taken: Vec::new(),
        }
    }

    fn plain() -> Self {
        Self::bind(ReceiverConfig {
            plain: vec![loopback()],
            ..ReceiverConfig::default()
        })
    }

    fn secure(ca: &Ca, dtls: dtls::Config) -> Self {
        Self::bind(ReceiverConfig {
            secure: Some(Security {
                listen: vec![loopback()],
                credentials: direct(ca, "proto::receiver").credentials(),
                verifier: ca.verifier(),
                dtls,
            }),
            ..ReceiverConfig::default()
        })
    }

    fn addr(&self) -> SocketAddr {
        let mut addrs = self.receiver.plain_addrs().iter();
        *addrs
            .next()
            .unwrap_or_else(|| &self.receiver.secure_addrs()[0])
    }

    /// Takes messages until there are so many in all.
    fn take(&mut self, count: usize) {
        let ok = self.until(|live, _| live.taken.len() >= count);
        assert!(
            ok,
            "{} of {count}: {:?}",
            self.taken.len(),
            self.receiver.stats()
        );
        assert_eq!(self.taken.len(), count);
    }

    /// Takes messages until this holds. `false`: it did not in time.
    fn until(&mut self, done: impl Fn(&Self, &Stats) -> bool) -> bool {
        let start = Instant::now();
        loop {
            while let Ok(batch) = self.channel.try_recv() {
                self.taken.extend(batch);
            }
            if done(self, &self.receiver.stats()) {
                return true;
            }
            if start.elapsed() > LIMIT {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn ids(&self) -> Vec<u32> {
        self.taken
            .iter()
            .map(|received| received.message_id)
            .collect()
    }

    fn payloads(&self) -> Vec<&[u8]> {
        self.taken
            .iter()
            .map(|received| &received.message[..])
            .collect()
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn client() -> UdpSocket {
    UdpSocket::bind(loopback()).unwrap()
}

/// A certificate right under the root: `dimpl` shows exactly one.
fn direct(ca: &Ca, id: &str) -> Issued {
    let mut leaf = Leaf::endpoint(id);
    leaf.through_intermediate = false;
    ca.issue(&leaf)
}

fn header(message_id: u32) -> Header {
    Header {
        generation: Generation::Draft26,
        media_type: MediaType::Json,
        publisher_id: 7,
        message_id,
        segment: None,
    }
}

fn message(message_id: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    header(message_id).encode(None, payload, &mut out).unwrap();
    out
}

fn framed(message: &[u8]) -> Vec<u8> {
    [format!("{} ", message.len()).as_bytes(), message].concat()
}

/// Sends one message more at a time until one of them is received, so that what the kernel dropped before is known. How many.
fn tail(live: &mut Live, socket: &UdpSocket, first: u32) -> u32 {
    let mut sent = 0;
    loop {
        let id = first + sent;
        socket.send_to(&message(id, b"tail"), live.addr()).unwrap();
        sent += 1;
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(500) {
            while let Ok(batch) = live.channel.try_recv() {
                live.taken.extend(batch);
            }
            if live.taken.iter().any(|received| received.message_id == id) {
                return sent;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn messages_of_every_generation_arrive_whole() {
    let mut live = Live::plain();
    let socket = client();
    let large = vec![b'x'; 98_304];
    let mut sent = 0;
    for generation in Generation::ALL {
        if !generation.is_publishable() {
            continue;
        }
        // One publisher each: their Message IDs are their own.
        let header = Header {
            generation,
            publisher_id: sent,
            ..header(5)
        };
        let mut datagram = Vec::new();
        header.encode(None, b"{}", &mut datagram).unwrap();
        socket.send_to(&datagram, live.addr()).unwrap();
        for (segment, range) in Segments::new(large.len(), 12, 2_000).unwrap() {
            let mut datagram = Vec::new();
            let header = Header {
                segment,
                message_id: 6,
                ..header
            };
            header.encode(None, &large[range], &mut datagram).unwrap();
            socket.send_to(&datagram, live.addr()).unwrap();
        }
        sent += 1;
        live.take(usize::try_from(sent).unwrap() * 2);
    }
    socket
        .send_to(b"\0\x02\0\x0e\0\0\0\x63\0\0\0\x01{}", live.addr())
        .unwrap();
    live.take(13);
    let legacy = live.taken.pop().unwrap();
    assert_eq!(legacy.generation, Generation::PubChannel);
    assert_eq!((legacy.publisher_id, legacy.message_id), (0x63, 1));
    for (index, pair) in live.taken.chunks(2).enumerate() {
        assert_eq!(pair[0].message, b"{}"[..]);
        assert_eq!(pair[1].message, large);
        for received in pair {
            assert_eq!(received.from, socket.local_addr().unwrap());
            assert_eq!(usize::try_from(received.publisher_id).unwrap(), index);
            assert_eq!(received.media_type, MediaType::Json);
            assert!(received.identity.is_none());
        }
    }
    let stats = live.receiver.stats();
    assert_eq!((stats.delivered, stats.queue_dropped), (13, 0));
    assert_eq!(stats.collector.all_refused(), 0);
    assert!(stats.sockets[0].receive_buffer > 0);
    assert_eq!(live.receiver.publishers().len(), 7);
}

#[test]
fn one_source_stays_on_one_of_several_sockets() {
    let mut live = Live::bind(ReceiverConfig {
        plain: vec![loopback()],
        workers: 4,
        ..ReceiverConfig::default()
    });
    let sources: Vec<UdpSocket> = (0..16).map(|_| client()).collect();
    for id in 0..50 {
        for socket in &sources {
            socket.send_to(&message(id, b"{}"), live.addr()).unwrap();
        }
    }
    live.take(800);
    let publishers = live.receiver.publishers();
    assert_eq!(publishers.len(), 16);
    for publisher in publishers {
        assert_eq!(publisher.counters.received, 50);
        assert_eq!(
            (publisher.counters.reordered, publisher.counters.missing),
            (0, 0)
        );
        assert!(publisher.counts_loss);
        assert!(publisher.first_heard <= publisher.last_heard);
    }
    let stats = live.receiver.stats();
    assert_eq!(stats.sockets.len(), 4);
    let used = stats
        .sockets
        .iter()
        .filter(|socket| socket.datagrams > 0)
        .count();
    assert!(
        used > 1,
        "16 sources are spread over more than one of 4 sockets"
    );
}

#[test]
fn what_the_kernel_drops_is_counted_and_is_what_is_missing() {
    let mut live = Live::bind(ReceiverConfig {
        plain: vec![loopback()],
        receive_buffer: 4_096,
        gro: false,
        ..ReceiverConfig::default()
    });
    let socket = client();
    let first = message(1, b"first");
    socket.send_to(&first, live.addr()).unwrap();
    live.take(1);
    let mut next = 2;
    while live.receiver.stats().sockets[0].kernel_drops == 0 {
        for _ in 0..2_000 {
            socket
                .send_to(&message(next, &[0; 1000]), live.addr())
                .unwrap();
            next += 1;
        }
        next += tail(&mut live, &socket, next);
    }
    let stats = live.receiver.stats();
    let totals = stats.collector.totals;
    assert_eq!(
        totals.received + totals.lost + totals.missing,
        u64::from(next - 1)
    );
    assert_eq!(stats.sockets[0].kernel_drops, totals.lost + totals.missing);
    assert_eq!(
        stats.sockets[0].kernel_dropped_datagrams,
        stats.sockets[0].kernel_drops
    );
    assert_eq!(stats.queue_dropped, 0);
}

#[test]
fn what_the_kernel_drops_under_gro_is_counted_in_datagrams_too() {
    const SEGMENTS: u32 = 32;
    let mut live = Live::bind(ReceiverConfig {
        plain: vec![loopback()],
        receive_buffer: 40_000,
        ..ReceiverConfig::default()
    });
    let socket = client();
    let SocketAddr::V4(addr) = live.addr() else {
        panic!("loopback of IPv4");
    };
    socket.send_to(&message(1, b"first"), live.addr()).unwrap();
    live.take(1);
    let mut next = 2;
    while live.receiver.stats().sockets[0].kernel_drops == 0 {
        for _ in 0..500 {
            let many: Vec<u8> = (0..SEGMENTS)
                .flat_map(|n| message(next + n, &[0; 188]))
                .collect();
            sendmsg(
                socket.as_raw_fd(),
                &[IoSlice::new(&many)],
                &[ControlMessage::UdpGsoSegments(&200)],
                MsgFlags::empty(),
                Some(&SockaddrIn::from(addr)),
            )
            .unwrap();
            next += SEGMENTS;
        }
        next += tail(&mut live, &socket, next);
    }
    let stats = live.receiver.stats();
    let (socket, totals) = (stats.sockets[0], stats.collector.totals);
    assert_eq!(
        totals.received + totals.lost + totals.missing,
        u64::from(next - 1)
    );
    assert_eq!(
        socket.kernel_dropped_datagrams,
        totals.lost + totals.missing
    );
    assert!(socket.kernel_drops < socket.kernel_dropped_datagrams);
    assert!(socket.reads < socket.datagrams, "datagrams came together");
}

#[test]
fn who_does_not_take_messages_has_them_dropped_before_the_channel_and_not_at_the_socket() {
    let mut live = Live::bind(ReceiverConfig {
        plain: vec![loopback()],
        queue: 1,
        ..ReceiverConfig::default()
    });
    let socket = client();
    for id in 1..=20_000 {
        socket.send_to(&message(id, b"{}"), live.addr()).unwrap();
        if id % 500 == 0 {
            // Only as fast as the receiver reads.
            let limit = Instant::now() + LIMIT;
            while live.receiver.stats().collector.messages < u64::from(id) {
                assert!(Instant::now() < limit);
                std::thread::yield_now();
            }
        }
    }
    let stats = live.receiver.stats();
    assert_eq!(stats.sockets[0].kernel_drops, 0);
    assert_eq!(stats.collector.totals.received, 20_000);
    assert!(stats.queue_dropped > 0);
    assert!(stats.delivered <= 4_096);
    // What waited comes when there is room.
    assert!(live.until(|live, stats| live.taken.len() as u64 == 20_000 - stats.queue_dropped));
    let stats = live.receiver.stats();
    assert_eq!(stats.delivered + stats.queue_dropped, 20_000);
}

#[test]
fn bad_datagrams_are_counted_and_the_next_message_arrives() {
    let mut live = Live::plain();
    let socket = client();
    let bad: [&[u8]; 4] = [
        b"",
        b"\x21\x0c\0\x04",
        b"\x41\x0c\0\x0c\0\0\0\x01\0\0\0\x01",
        &[0xFF; 2_000],
    ];
    for datagram in bad {
        socket.send_to(datagram, live.addr()).unwrap();
    }
    socket.send_to(&message(1, b"{}"), live.addr()).unwrap();
    live.take(1);
    let stats = live.receiver.stats();
    assert_eq!(stats.collector.refused(Reason::TooShort), 2);
    assert_eq!(stats.collector.refused(Reason::Version), 2);
    assert_eq!(stats.sockets[0].datagrams, 5);
}

#[test]
fn forged_source_spoils_nothing_of_the_true_one() {
    let mut live = Live::plain();
    let (honest, forger) = (client(), client());
    let segments: Vec<Vec<u8>> = Segments::new(3_000, 12, 1_200)
        .unwrap()
        .map(|(segment, range)| {
            let mut out = Vec::new();
            let header = Header {
                segment,
                ..header(1)
            };
            header
                .encode(None, &vec![b'h'; range.len()], &mut out)
                .unwrap();
            out
        })
        .collect();
    honest.send_to(&segments[0], live.addr()).unwrap();
    for segment in &segments {
        let mut forged = segment.clone();
        let len = forged.len();
        forged[len - 100..].fill(b'f');
        forger.send_to(&forged, live.addr()).unwrap();
    }
    live.take(1);
    assert_eq!(live.taken[0].from, forger.local_addr().unwrap());
    for segment in &segments[1..] {
        honest.send_to(segment, live.addr()).unwrap();
    }
    live.take(2);
    assert_eq!(live.taken[1].message, vec![b'h'; 3_000]);
}

#[test]
fn no_address_and_one_that_is_not_ours_are_errors() {
    let error = Receiver::bind(ReceiverConfig::default()).err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    let foreign = ReceiverConfig {
        plain: vec![SocketAddr::from(([192, 0, 2, 1], 0))],
        ..ReceiverConfig::default()
    };
    assert!(Receiver::bind(foreign).is_err());
}

#[test]
fn port_of_another_receiver_is_taken() {
    let live = Live::plain();
    let same = ReceiverConfig {
        plain: vec![live.addr()],
        workers: 2,
        ..ReceiverConfig::default()
    };
    let error = Receiver::bind(same).err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn both_families_are_received_on_one_socket() {
    let mut live = Live::bind(ReceiverConfig {
        plain: vec!["[::]:0".parse().unwrap()],
        ..ReceiverConfig::default()
    });
    let port = live.addr().port();
    client()
        .send_to(&message(1, b"{}"), ("127.0.0.1", port))
        .unwrap();
    live.take(1);
    assert!(live.taken[0].from.is_ipv4());
    let six = UdpSocket::bind("[::1]:0").unwrap();
    six.send_to(&message(1, b"{}"), ("::1", port)).unwrap();
    live.take(2);
    assert_eq!(live.taken[1].from, six.local_addr().unwrap());
}

fn publish(ca: &Ca, to: SocketAddr, generation: Generation) -> send::Sender {
    let publisher = publisher::Config {
        pacing: None,
        framing: if generation.is_framed() {
            Framing::Framed { share: true }
        } else {
            Framing::Bare
        },
        ..publisher::Config::new(generation, 7, MediaType::Json)
    };
    let mut config = send::SenderConfig::new("localhost".to_owned(), to.port(), publisher);
    config.local_address = Some("127.0.0.1".parse().unwrap());
    config.dtls = Some(send::Dtls::new(
        direct(ca, "os::publisher").credentials(),
        ca.verifier(),
    ));
    send::Sender::start(config, Some(MessageIds::starting_at(1))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn our_publisher_is_received_over_dtls_1_3_and_known_by_its_certificate() {
    for generation in [
        Generation::Draft03,
        Generation::Draft19,
        Generation::Draft26,
    ] {
        let ca = Ca::new("notif");
        let mut live = Live::secure(&ca, Security::dtls());
        let sender = publish(&ca, live.addr(), generation);
        let large = vec![b'x'; 98_304];
        sender.publish(*b"{}").unwrap();
        sender.publish(large.clone()).unwrap();
        let live = tokio::task::spawn_blocking(move || {
            live.take(2);
            live
        })
        .await
        .unwrap();
        assert_eq!(live.payloads(), [b"{}", large.as_slice()]);
        for received in &live.taken {
            assert!(
                received
                    .identity
                    .as_ref()
                    .unwrap()
                    .is_endpoint("os::publisher")
            );
        }
        let publishers = live.receiver.publishers();
        assert_eq!(publishers.len(), 1);
        assert!(
            publishers[0]
                .identity
                .as_ref()
                .unwrap()
                .is_endpoint("os::publisher")
        );
        let stats = live.receiver.stats();
        assert_eq!((stats.sessions, stats.dtls.established), (1, 1));
        let framed = stats.collector.framed_records > 0;
        assert_eq!(framed, generation.is_framed(), "{generation}");
    }
}

/// `dimpl` as publisher on a real socket.
struct Peer {
    dtls: Dtls,
    socket: UdpSocket,
    to: SocketAddr,
    connected: bool,
    closed: bool,
    failed: bool,
}

impl Peer {
    fn new(issued: &Issued, to: SocketAddr, version: dtls::Version, config: dimpl::Config) -> Self {
        let key = boring::pkey::PKey::private_key_from_pem(issued.key.as_bytes()).unwrap();
        let certificate = DtlsCertificate {
            certificate: chain_from_pem(&issued.chain).unwrap().remove(0),
            private_key: key.private_key_to_der_pkcs8().unwrap(),
        };
        let config = Arc::new(config);
        let now = Instant::now();
        let mut dtls = match version {
            dtls::Version::Dtls12 => Dtls::new_12(config, certificate, now),
            dtls::Version::Dtls13 => Dtls::new_13(config, certificate, now),
        };
        dtls.set_active(true);
        let socket = client();
        socket
            .set_read_timeout(Some(Duration::from_millis(5)))
            .unwrap();
        Self {
            dtls,
            socket,
            to,
            connected: false,
            closed: false,
            failed: false,
        }
    }

    fn drain(&mut self) {
        let mut buffer = vec![0; 32_768];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => {
                    self.socket.send_to(packet, self.to).unwrap();
                }
                Output::Connected => self.connected = true,
                Output::CloseNotify => self.closed = true,
                Output::Timeout(_) => return,
                _ => {}
            }
        }
    }

    /// Goes on until this holds. `false`: it did not in time.
    fn until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let start = Instant::now();
        let mut buffer = vec![0; 65_536];
        loop {
            if self.dtls.handle_timeout(Instant::now()).is_err() {
                self.failed = true;
            }
            self.drain();
            if done(self) {
                return true;
            }
            if start.elapsed() > limit {
                return false;
            }
            if let Ok(len) = self.socket.recv(&mut buffer) {
                if self.dtls.handle_packet(&buffer[..len]).is_err() {
                    self.failed = true;
                }
                self.drain();
            }
        }
    }

    fn connect(issued: &Issued, to: SocketAddr) -> Self {
        let config = dimpl::Config::builder().build().unwrap();
        let mut peer = Self::new(issued, to, dtls::Version::Dtls13, config);
        assert!(peer.until(LIMIT, |peer| peer.connected));
        peer
    }

    fn say(&mut self, record: &[u8]) {
        self.dtls.send_application_data(record).unwrap();
        self.drain();
    }
}

#[test]
fn each_of_the_three_suites_of_tls_1_3_is_accepted() {
    let ca = Ca::new("notif");
    let mut live = Live::secure(&ca, Security::dtls());
    let suites = [
        dimpl::crypto::Dtls13CipherSuite::AES_128_GCM_SHA256,
        dimpl::crypto::Dtls13CipherSuite::AES_256_GCM_SHA384,
        dimpl::crypto::Dtls13CipherSuite::CHACHA20_POLY1305_SHA256,
    ];
    for (index, suite) in suites.into_iter().enumerate() {
        let config = dimpl::Config::builder()
            .dtls13_cipher_suites(&[suite])
            .build()
            .unwrap();
        let issued = direct(&ca, "os::publisher");
        let mut peer = Peer::new(&issued, live.addr(), dtls::Version::Dtls13, config);
        assert!(peer.until(LIMIT, |peer| peer.connected), "{suite:?}");
        peer.say(&message(1, b"{}"));
        live.take(index + 1);
    }
}

#[test]
fn records_framed_and_bare_garbage_and_wrong_framing_are_told_apart() {
    let ca = Ca::new("notif");
    let mut live = Live::secure(&ca, Security::dtls());
    let mut peer = Peer::connect(&direct(&ca, "os::publisher"), live.addr());
    peer.say(&message(1, b"bare"));
    peer.say(&[framed(&message(2, b"two")), framed(&message(3, b"three"))].concat());
    let across = framed(&message(4, &[b'a'; 1_500]));
    peer.say(&across[..700]);
    peer.say(&across[700..]);
    peer.say(b"\xFF\xFF garbage");
    peer.say(b"99 wrong framing");
    peer.say(&message(5, b"bare again"));
    live.take(5);
    assert_eq!(live.ids(), [1, 2, 3, 4, 5]);
    let stats = live.receiver.stats();
    assert_eq!(
        (stats.collector.bare_records, stats.collector.framed_records),
        (3, 3)
    );
    assert_eq!(stats.collector.refused(Reason::Framing), 1);
    assert_eq!(stats.collector.all_refused(), 2);
    assert_eq!((stats.sessions, stats.collector.publishers), (1, 1));
}

#[test]
fn nothing_is_accepted_before_the_handshake_ends_nor_beside_it() {
    let ca = Ca::new("notif");
    let mut live = Live::secure(&ca, Security::dtls());
    let mut peer = Peer::connect(&direct(&ca, "os::publisher"), live.addr());
    // Messages without DTLS, from a stranger and in the name of the publisher; records that nobody protected.
    let forger = client();
    let mut record = vec![23, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0];
    record.extend(message(1, b"forged"));
    let len = record.len();
    record[12] = u8::try_from(len - 13).unwrap();
    for socket in [&forger, &peer.socket] {
        socket.send_to(&message(1, b"forged"), live.addr()).unwrap();
        socket.send_to(&record, live.addr()).unwrap();
    }
    peer.say(&message(1, b"true"));
    live.take(1);
    assert_eq!(live.payloads(), [b"true"]);
    let stats = live.receiver.stats();
    assert_eq!((stats.collector.messages, stats.dtls.established), (1, 1));
}

#[test]
fn publisher_that_nobody_vouches_for_is_refused() {
    let (ca, other) = (Ca::new("notif"), Ca::new("other"));
    let mut live = Live::secure(&ca, Security::dtls());
    let config = dimpl::Config::builder().build().unwrap();
    let issued = direct(&other, "os::publisher");
    let mut peer = Peer::new(&issued, live.addr(), dtls::Version::Dtls13, config);
    let start = Instant::now();
    while live.receiver.stats().dtls.refused == 0 && start.elapsed() < LIMIT {
        peer.until(Duration::from_millis(20), |_| false);
        // Its own side of the handshake is done before we have decided.
        if peer.connected && !peer.failed {
            let _sent = peer.dtls.send_application_data(&message(1, b"forged"));
        }
    }
    let stats = live.receiver.stats();
    assert_eq!(
        (stats.dtls.refused, stats.dtls.established, stats.sessions),
        (1, 0, 0)
    );
    assert!(live.until(|live, stats| live.taken.is_empty() && stats.collector.messages == 0));
}

#[test]
fn version_1_2_is_spoken_only_where_it_is_configured() {
    let ca = Ca::new("notif");
    for (versions, served) in [
        (Versions::Dtls13, false),
        (Versions::Both, true),
        (Versions::Dtls12, true),
    ] {
        let mut live = Live::secure(
            &ca,
            dtls::Config {
                versions,
                ..Security::dtls()
            },
        );
        let config = dimpl::Config::builder().build().unwrap();
        let issued = direct(&ca, "os::publisher");
        let mut peer = Peer::new(&issued, live.addr(), dtls::Version::Dtls12, config);
        if served {
            assert!(peer.until(LIMIT, |peer| peer.connected), "{versions:?}");
            peer.say(&message(1, b"{}"));
            live.take(1);
        } else {
            let start = Instant::now();
            while live.receiver.stats().dtls.handshake_errors == 0 && start.elapsed() < LIMIT {
                peer.until(Duration::from_millis(20), |_| false);
            }
            assert!(!peer.connected);
            assert_eq!(live.receiver.stats().dtls.handshake_errors, 1);
        }
    }
    assert_eq!(Security::dtls().versions, Versions::Dtls13);
}

#[test]
fn idle_publisher_is_told_close_notify_after_10_minutes_or_what_is_configured() {
    assert_eq!(Security::dtls().idle_timeout, Duration::from_secs(600));
    let ca = Ca::new("notif");
    let mut live = Live::secure(
        &ca,
        dtls::Config {
            idle_timeout: Duration::from_millis(300),
            ..Security::dtls()
        },
    );
    let mut peer = Peer::connect(&direct(&ca, "os::publisher"), live.addr());
    peer.say(&message(1, b"{}"));
    live.take(1);
    assert!(peer.until(LIMIT, |peer| peer.closed));
    assert!(live.until(|_, stats| stats.sessions == 0));
    let stats = live.receiver.stats();
    assert_eq!((stats.dtls.idle, stats.collector.publishers), (1, 0));
    assert_eq!(stats.collector.totals.received, 1);
}

#[test]
fn receiver_that_stops_says_close_notify() {
    let ca = Ca::new("notif");
    let mut live = Live::secure(&ca, Security::dtls());
    let mut peer = Peer::connect(&direct(&ca, "os::publisher"), live.addr());
    peer.say(&message(1, b"{}"));
    live.take(1);
    let stats = live.receiver.shutdown();
    assert_eq!((stats.sessions, stats.delivered), (0, 1));
    assert!(peer.until(LIMIT, |peer| peer.closed));
}

#[test]
fn close_notify_of_a_publisher_is_answered() {
    let ca = Ca::new("notif");
    let mut live = Live::secure(&ca, Security::dtls());
    let mut peer = Peer::connect(&direct(&ca, "os::publisher"), live.addr());
    peer.say(&message(1, b"{}"));
    live.take(1);
    // A message that comes right before it still counts.
    peer.dtls.send_application_data(&message(2, b"{}")).unwrap();
    peer.dtls.close().unwrap();
    peer.drain();
    assert!(live.until(|_, stats| stats.dtls.closed_by_peer == 1));
    live.take(2);
    assert_eq!(live.receiver.stats().sessions, 0);
    assert!(peer.until(LIMIT, |peer| peer.closed));
}

#[test]
fn one_publisher_again_from_another_port_begins_anew() {
    let ca = Ca::new("notif");
    let mut live = Live::secure(&ca, Security::dtls());
    let issued = direct(&ca, "os::publisher");
    let mut peer = Peer::connect(&issued, live.addr());
    peer.say(&message(100, b"{}"));
    live.take(1);
    let mut again = Peer::connect(&issued, live.addr());
    again.say(&message(7, b"{}"));
    live.take(2);
    assert_eq!(live.receiver.stats().collector.totals.out_of_window, 0);
}

fn s_client(files: &Files, port: u16, more: &[&str]) -> Tool {
    let target = format!("127.0.0.1:{port}");
    let (ca, chain, key) = (
        files.text("ca.pem"),
        files.text("chain.pem"),
        files.text("key.pem"),
    );
    let mut args = vec![
        "s_client",
        "-dtls1_2",
        "-connect",
        &target,
        "-CAfile",
        &ca,
        "-verify_return_error",
        "-nocommands",
        "-cert",
        &chain,
        "-key",
        &key,
    ];
    args.extend(more);
    Tool::start("openssl", &args)
}

#[test]
fn openssl_publishes_over_dtls_1_2_and_its_close_notify_is_answered() {
    if !have("openssl", &["version"]) {
        return;
    }
    let ca = Ca::new("notif");
    let mut live = Live::secure(
        &ca,
        dtls::Config {
            versions: Versions::Dtls12,
            ..Security::dtls()
        },
    );
    let files = Files::new(&ca, &direct(&ca, "os::publisher"));
    let mut publisher = s_client(&files, live.addr().port(), &["-msg"]);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    publisher.say(&text(message(1, b"{\"bare\":1}")));
    live.take(1);
    publisher.say(&text(
        [framed(&message(2, b"{}")), framed(&message(3, b"{}"))].concat(),
    ));
    live.take(3);
    assert_eq!(live.ids(), [1, 2, 3]);
    assert!(
        live.taken[0]
            .identity
            .as_ref()
            .unwrap()
            .is_endpoint("os::publisher")
    );
    publisher.hang_up();
    assert!(live.until(|_, stats| stats.dtls.closed_by_peer == 1 && stats.sessions == 0));
}

#[test]
fn openssl_without_certificate_publishes_nothing() {
    if !have("openssl", &["version"]) {
        return;
    }
    let ca = Ca::new("notif");
    let mut live = Live::secure(
        &ca,
        dtls::Config {
            versions: Versions::Both,
            ..Security::dtls()
        },
    );
    let files = Files::new(&ca, &direct(&ca, "os::publisher"));
    let target = format!("127.0.0.1:{}", live.addr().port());
    let root = files.text("ca.pem");
    let mut publisher = Tool::start(
        "openssl",
        &[
            "s_client",
            "-dtls1_2",
            "-connect",
            &target,
            "-CAfile",
            &root,
            "-nocommands",
        ],
    );
    publisher.say(&String::from_utf8(message(1, b"{}")).unwrap());
    assert!(live.until(|_, stats| stats.dtls.refused == 1));
    assert_eq!(live.receiver.stats().collector.messages, 0);
}
