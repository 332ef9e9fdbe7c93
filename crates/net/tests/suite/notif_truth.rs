//! The truth about loss: what a publisher sent is what the receiver delivered, plus what the kernel dropped, plus what the path lost, plus
//! what was refused, each counted by itself and exactly; plain and over DTLS, segmented and not.
//!
//! Between the two stands a relay that loses, reorders, duplicates and spoils datagrams by a seed, and knows exactly which. It does what
//! `sch_netem` would, on any kernel. What it must not lose itself it does not: the publisher waits for it.

use std::collections::{BTreeSet, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use homefleet_net::notif::send::{Dtls, Sender, SenderConfig};
use homefleet_net::notif::{Received, Receiver, ReceiverConfig, Security, Stats};
use homefleet_notif::publisher::{self, Framing, MessageIds};
use homefleet_notif::{
    CollectorConfig, Generation, MediaType, Message, Profile, ReassemblyConfig, WindowConfig,
};
use tokio::sync::mpsc;

use super::support::pki::Ca;

/// Longer than anything takes.
const LIMIT: Duration = Duration::from_secs(60);
/// Datagrams below this are of the session itself: acknowledgements, alerts. They pass untouched.
const SMALLEST: usize = 150;
/// The relay holds a datagram back for at most so many others.
const REORDER: usize = 8;

/// What the path does to datagrams, of a thousand.
#[derive(Clone, Copy, Default)]
struct Path {
    lose: u32,
    duplicate: u32,
    reorder: u32,
    spoil: u32,
}

/// What the relay did, exactly.
#[derive(Default)]
struct Done {
    seen: AtomicU64,
    lost: AtomicU64,
    duplicated: AtomicU64,
    held_back: AtomicU64,
    spoiled: AtomicU64,
    /// Message IDs of which something was lost, without DTLS.
    ids: Mutex<BTreeSet<u32>>,
}

/// A relay of datagrams between one publisher and its receiver.
struct Relay {
    addr: SocketAddr,
    done: Arc<Done>,
    armed: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Relay {
    fn start(to: SocketAddr, path: Path, seed: u64, secure: bool) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").unwrap();
        let back = UdpSocket::bind("127.0.0.1:0").unwrap();
        back.connect(to).unwrap();
        for socket in [&front, &back] {
            // More than net.core.rmem_max needs a privilege; what is waited for fits without.
            rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, 8 << 20)
                .or_else(|_| rustix::net::sockopt::set_socket_recv_buffer_size(socket, 8 << 20))
                .unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(5)))
                .unwrap();
        }
        let (done, armed, stop) = <(Arc<Done>, Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let addr = front.local_addr().unwrap();
        let publisher = Arc::new(Mutex::new(None));
        let up = Up {
            front: front.try_clone().unwrap(),
            back: back.try_clone().unwrap(),
            publisher: publisher.clone(),
            path,
            random: seed,
            secure,
            done: done.clone(),
            armed: armed.clone(),
            stop: stop.clone(),
        };
        let down = {
            let stop = stop.clone();
            move || {
                let mut buffer = vec![0; 65_536];
                while !stop.load(Ordering::Relaxed) {
                    let known = *publisher.lock().unwrap();
                    if let (Ok(len), Some(to)) = (back.recv(&mut buffer), known) {
                        front.send_to(&buffer[..len], to).unwrap();
                    }
                }
            }
        };
        let threads = vec![std::thread::spawn(|| up.run()), std::thread::spawn(down)];
        Self {
            addr,
            done,
            armed,
            stop,
            threads,
        }
    }

    fn seen(&self) -> u64 {
        self.done.seen.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// The way from the publisher to the receiver.
struct Up {
    front: UdpSocket,
    back: UdpSocket,
    publisher: Arc<Mutex<Option<SocketAddr>>>,
    path: Path,
    random: u64,
    secure: bool,
    done: Arc<Done>,
    armed: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Up {
    fn run(mut self) {
        let mut buffer = vec![0; 65_536];
        // What is held back, and for how many others still.
        let mut held: VecDeque<(usize, Vec<u8>)> = VecDeque::new();
        while !self.stop.load(Ordering::Relaxed) {
            let received = self.front.recv_from(&mut buffer);
            let armed = self.armed.load(Ordering::SeqCst);
            let Ok((len, from)) = received else {
                if !armed {
                    held.drain(..)
                        .for_each(|(_, datagram)| self.pass(&datagram));
                }
                continue;
            };
            *self.publisher.lock().unwrap() = Some(from);
            let mut datagram = buffer[..len].to_vec();
            if len < SMALLEST {
                self.pass(&datagram);
                continue;
            }
            for entry in &mut held {
                entry.0 -= 1;
            }
            while held.front().is_some_and(|(left, _)| *left == 0 || !armed) {
                let (_, datagram) = held.pop_front().unwrap();
                self.pass(&datagram);
            }
            let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::SeqCst);
            let draw = if armed { self.draw() } else { u32::MAX };
            let path = self.path;
            if draw < path.lose {
                count(&self.done.lost);
                if !self.secure {
                    let message = Message::decode(&datagram, Profile::Draft26).unwrap();
                    self.done
                        .ids
                        .lock()
                        .unwrap()
                        .insert(message.header.message_id);
                }
            } else if draw < path.lose + path.spoil {
                count(&self.done.spoiled);
                if self.secure {
                    datagram[len / 2] ^= 0x55;
                } else {
                    // Media type 0 is reserved.
                    datagram[0] &= 0xF0;
                }
                self.pass(&datagram);
            } else if draw < path.lose + path.spoil + path.duplicate {
                count(&self.done.duplicated);
                self.pass(&datagram);
                self.pass(&datagram);
            } else if draw < path.lose + path.spoil + path.duplicate + path.reorder
                && held.len() < REORDER
            {
                count(&self.done.held_back);
                held.push_back((REORDER, datagram));
            } else {
                self.pass(&datagram);
            }
            count(&self.done.seen);
        }
    }

    fn pass(&self, datagram: &[u8]) {
        self.back.send(datagram).unwrap();
    }

    /// Of a thousand (xorshift).
    fn draw(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        u32::try_from(self.random % 1000).unwrap()
    }
}

/// What is sent, how, over what.
#[derive(Clone)]
struct Case {
    secure: bool,
    size: usize,
    count: usize,
    path: Path,
    /// Receive buffer of the receiver; small: its kernel drops.
    buffer: usize,
    publisher: publisher::Config,
}

impl Case {
    fn new(secure: bool, segmented: bool, path: Path) -> Self {
        Self {
            secure,
            size: if segmented { 5000 } else { 600 },
            count: 2000,
            path,
            buffer: 32 << 20,
            publisher: publisher::Config {
                pacing: None,
                max_segment_size: 1400,
                max_waiting: 64,
                ..publisher::Config::new(Generation::Draft26, 3, MediaType::Json)
            },
        }
    }
}

/// What became of it.
#[derive(Debug)]
struct Outcome {
    sent: publisher::Stats,
    relay_lost: u64,
    relay_duplicated: u64,
    relay_held_back: u64,
    relay_spoiled: u64,
    relay_ids: u64,
    receiver: Stats,
    kernel: u64,
    delivered: u64,
    /// Delivered with another content than what was sent under its ID.
    wrong: u64,
}

fn content(id: u32, size: usize) -> Vec<u8> {
    let mut content = vec![b' '; size];
    content[..4].copy_from_slice(&id.to_be_bytes());
    content[size - 4..].copy_from_slice(&id.to_be_bytes());
    content
}

struct Run {
    case: Case,
    ids: u32,
    sender: Sender,
    relay: Option<Relay>,
    receiver: Receiver,
    channel: mpsc::Receiver<Vec<Received>>,
    delivered: BTreeSet<u32>,
    twice: u64,
    wrong: u64,
}

impl Run {
    fn start(case: &Case) -> Self {
        let ca = Ca::new("truth");
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let (receiver, channel) = Receiver::bind(ReceiverConfig {
            plain: if case.secure {
                Vec::new()
            } else {
                vec![loopback]
            },
            secure: case.secure.then(|| Security {
                listen: vec![loopback],
                credentials: ca.endpoint("proto::receiver").credentials(),
                verifier: ca.verifier(),
                dtls: Security::dtls(),
            }),
            receive_buffer: case.buffer,
            // The test takes messages only between others that it sends.
            queue: 1 << 20,
            // Under GRO the kernel counts coalesced datagrams.
            gro: false,
            collector: CollectorConfig {
                window: WindowConfig {
                    reorder: 65_536,
                    ..WindowConfig::default()
                },
                reassembly: ReassemblyConfig {
                    // Longer than a busy machine keeps the rest of a message waiting.
                    timeout: Duration::from_secs(5),
                    ..ReassemblyConfig::default()
                },
                ..CollectorConfig::default()
            },
            ..ReceiverConfig::default()
        })
        .unwrap();
        let mut addrs = receiver.plain_addrs().iter();
        let addr = *addrs.next().unwrap_or_else(|| &receiver.secure_addrs()[0]);
        let path = case.path;
        let impaired = path.lose + path.duplicate + path.reorder + path.spoil > 0;
        let relay = impaired.then(|| Relay::start(addr, path, 0x9E37_79B9_7F4A_7C15, case.secure));
        let to = relay.as_ref().map_or(addr, |relay| relay.addr);
        let sender = Sender::start(
            SenderConfig {
                dtls: case.secure.then(|| {
                    let credentials = ca.endpoint("os::publisher").credentials();
                    Dtls::new(credentials, ca.verifier())
                }),
                local_address: Some(to.ip()),
                ..SenderConfig::new("localhost", to.port(), case.publisher.clone())
            },
            // It wraps on the way.
            Some(MessageIds::starting_at(u32::MAX - 100)),
        )
        .unwrap();
        Self {
            case: case.clone(),
            ids: u32::MAX - 100,
            sender,
            relay,
            receiver,
            channel,
            delivered: BTreeSet::new(),
            twice: 0,
            wrong: 0,
        }
    }

    fn take(&mut self) {
        while let Ok(batch) = self.channel.try_recv() {
            for received in batch {
                let expected = content(received.message_id, self.case.size);
                self.wrong += u64::from(received.message[..] != expected[..]);
                self.twice += u64::from(!self.delivered.insert(received.message_id));
            }
        }
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        loop {
            self.take();
            if done(self) {
                return;
            }
            assert!(
                start.elapsed() < LIMIT,
                "{what}: {:?} {:?}",
                self.sender.stats(),
                self.receiver.stats()
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn publish(&mut self) {
        let message = content(self.ids, self.case.size);
        self.sender.publish_in_turn(message).await.unwrap();
        self.ids = self.ids.wrapping_add(1);
    }

    /// The relay has everything that left.
    async fn caught_up(&mut self) {
        self.sender.idle().await;
        self.until("the relay", |run| {
            let left = run.sender.stats().messages.datagrams;
            run.relay.as_ref().is_none_or(|relay| relay.seen() >= left)
        })
        .await;
    }

    /// Messages one by one that do arrive: the first, so that the receiver knows where the sequence begins, and the last.
    async fn certain(&mut self) {
        for _ in 0..3 {
            let id = self.ids;
            self.publish().await;
            self.until("a message for certain", |run| run.delivered.contains(&id))
                .await;
        }
    }

    async fn run(mut self) -> Outcome {
        self.sender.up().await;
        self.certain().await;
        if let Some(relay) = &self.relay {
            relay.armed.store(true, Ordering::SeqCst);
        }
        for number in 0..self.case.count {
            self.publish().await;
            if number % 16 == 0 && self.relay.is_some() {
                self.caught_up().await;
            }
        }
        self.caught_up().await;
        if let Some(relay) = &self.relay {
            relay.armed.store(false, Ordering::SeqCst);
        }
        self.certain().await;
        self.until("segments that do not come", |run| {
            run.receiver.stats().collector.totals.pending == 0
        })
        .await;
        // What has arrived was counted as sent, too.
        self.sender.idle().await;
        let receiver = self.receiver.stats();
        let count = |counter: fn(&Done) -> &AtomicU64| {
            let relay = self.relay.as_ref();
            relay.map_or(0, |relay| counter(&relay.done).load(Ordering::SeqCst))
        };
        let relay_ids = self.relay.as_ref();
        let outcome = Outcome {
            sent: self.sender.stats().messages,
            relay_lost: count(|done| &done.lost),
            relay_duplicated: count(|done| &done.duplicated),
            relay_held_back: count(|done| &done.held_back),
            relay_spoiled: count(|done| &done.spoiled),
            relay_ids: relay_ids.map_or(0, |relay| relay.done.ids.lock().unwrap().len() as u64),
            kernel: receiver
                .sockets
                .iter()
                .map(|socket| socket.kernel_drops)
                .sum(),
            receiver,
            delivered: self.delivered.len() as u64,
            wrong: self.wrong + self.twice,
        };
        self.sender.stop(LIMIT).await;
        self.receiver.shutdown();
        outcome
    }
}

async fn run(case: Case) -> Outcome {
    let outcome = Run::start(&case).run().await;
    let totals = &outcome.receiver.collector.totals;
    // The first equation, of messages: each that was sent is in exactly one place.
    assert_eq!(outcome.sent.failed, 0, "{outcome:?}");
    assert_eq!(outcome.sent.sent, case.count as u64 + 6, "{outcome:?}");
    assert_eq!(
        outcome.sent.sent,
        totals.received + totals.refused + totals.incomplete + totals.lost + totals.missing,
        "{outcome:?}"
    );
    assert_eq!(totals.received, outcome.delivered, "{outcome:?}");
    assert_eq!(outcome.wrong, 0, "{outcome:?}");
    assert_eq!(outcome.receiver.queue_dropped, 0, "{outcome:?}");
    outcome
}

const LOSSY: Path = Path {
    lose: 30,
    duplicate: 30,
    reorder: 60,
    spoil: 0,
};

#[tokio::test(flavor = "multi_thread")]
async fn plain_over_a_lossy_path_every_loss_is_the_paths() {
    let outcome = run(Case::new(false, false, LOSSY)).await;
    let totals = &outcome.receiver.collector.totals;
    assert!(
        outcome.relay_lost > 20 && outcome.relay_duplicated > 20,
        "{outcome:?}"
    );
    assert_eq!(outcome.kernel, 0, "{outcome:?}");
    assert_eq!(
        totals.lost + totals.missing,
        outcome.relay_lost,
        "{outcome:?}"
    );
    assert_eq!(outcome.relay_ids, outcome.relay_lost, "{outcome:?}");
    assert_eq!(totals.duplicate, outcome.relay_duplicated, "{outcome:?}");
    assert!(
        totals.reordered > 0 && outcome.relay_held_back > 0,
        "{outcome:?}"
    );
    assert_eq!((totals.refused, totals.incomplete), (0, 0), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_in_segments_a_message_is_lost_with_any_of_its_segments() {
    let outcome = run(Case::new(false, true, LOSSY)).await;
    let totals = &outcome.receiver.collector.totals;
    assert_eq!(outcome.kernel, 0, "{outcome:?}");
    assert!(totals.incomplete > 20, "{outcome:?}");
    assert_eq!(
        totals.incomplete + totals.lost + totals.missing,
        outcome.relay_ids,
        "{outcome:?}"
    );
    // The second equation, of datagrams.
    assert_eq!(
        outcome.sent.datagrams + outcome.relay_duplicated,
        outcome.relay_lost + outcome.receiver.sockets[0].datagrams,
        "{outcome:?}"
    );
    assert_eq!(
        totals.duplicate_segments + totals.late_segments,
        outcome.relay_duplicated,
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_no_loss() {
    let path = Path {
        lose: 20,
        spoil: 40,
        ..Path::default()
    };
    let outcome = run(Case::new(false, false, path)).await;
    let totals = &outcome.receiver.collector.totals;
    assert!(outcome.relay_spoiled > 20, "{outcome:?}");
    assert_eq!(totals.refused, outcome.relay_spoiled, "{outcome:?}");
    assert_eq!(
        totals.lost + totals.missing,
        outcome.relay_lost,
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn over_dtls_lost_and_spoiled_records_are_losses_and_repeated_ones_are_nothing() {
    let path = Path { spoil: 20, ..LOSSY };
    let outcome = run(Case::new(true, false, path)).await;
    let totals = &outcome.receiver.collector.totals;
    assert!(
        outcome.relay_lost > 20 && outcome.relay_spoiled > 10,
        "{outcome:?}"
    );
    assert_eq!(
        totals.lost + totals.missing,
        outcome.relay_lost + outcome.relay_spoiled,
        "{outcome:?}"
    );
    assert_eq!(
        totals.duplicate, 0,
        "DTLS lets no record in twice: {outcome:?}"
    );
    assert!(totals.reordered > 0, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_dtls_in_segments_records_balance_too() {
    let outcome = run(Case::new(true, true, LOSSY)).await;
    assert!(
        outcome.receiver.collector.totals.incomplete > 20,
        "{outcome:?}"
    );
    assert_eq!(
        outcome.sent.datagrams,
        outcome.relay_lost + outcome.receiver.collector.datagrams,
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn over_dtls_framed_as_the_draft_says_it_balances_as_well() {
    let mut case = Case::new(true, false, LOSSY);
    case.publisher = publisher::Config {
        generation: Generation::Draft19,
        framing: Framing::Framed { share: false },
        ..case.publisher
    };
    let outcome = run(case).await;
    let totals = &outcome.receiver.collector.totals;
    assert_eq!(
        totals.lost + totals.missing,
        outcome.relay_lost,
        "{outcome:?}"
    );
    assert!(
        outcome.receiver.collector.framed_records > 1000,
        "{outcome:?}"
    );
}

/// A receiver with hardly a buffer, whose kernel therefore drops.
fn flooded(secure: bool, segmented: bool) -> Case {
    Case {
        count: 20_000,
        // One message has to fit, in segments too.
        buffer: if segmented { 16_384 } else { 4096 },
        publisher: publisher::Config {
            max_waiting: 1024,
            ..Case::new(secure, segmented, Path::default()).publisher
        },
        ..Case::new(secure, segmented, Path::default())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_what_the_kernel_drops_is_exactly_what_is_missing() {
    let outcome = run(flooded(false, false)).await;
    let totals = &outcome.receiver.collector.totals;
    assert!(outcome.kernel > 0, "{outcome:?}");
    assert_eq!(totals.lost + totals.missing, outcome.kernel, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_in_segments_datagrams_dropped_by_the_kernel_balance() {
    let outcome = run(flooded(false, true)).await;
    assert!(outcome.kernel > 0, "{outcome:?}");
    assert_eq!(
        outcome.sent.datagrams,
        outcome.kernel + outcome.receiver.sockets[0].datagrams,
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn over_dtls_what_the_kernel_drops_is_exactly_what_is_missing() {
    let outcome = run(flooded(true, false)).await;
    let totals = &outcome.receiver.collector.totals;
    assert!(outcome.kernel > 0, "{outcome:?}");
    assert_eq!(totals.lost + totals.missing, outcome.kernel, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn path_and_kernel_together_balance_to_zero() {
    for secure in [false, true] {
        let path = Path {
            lose: 30,
            reorder: 60,
            ..Path::default()
        };
        let case = Case {
            buffer: 4096,
            ..Case::new(secure, false, path)
        };
        let outcome = run(case).await;
        let totals = &outcome.receiver.collector.totals;
        assert_eq!(
            totals.lost + totals.missing,
            outcome.relay_lost + outcome.kernel,
            "{outcome:?}"
        );
    }
}
