//! Receivers as processes of their own, and what they tell.

use std::io::{BufRead, IoSliceMut, Write};
use std::net::{SocketAddr, UdpSocket};
use std::ops::Sub;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use homefleet_net::dtls;
use homefleet_net::notif::{Receiver, ReceiverConfig, Security};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg};

use super::pki::{self, Issued};
use super::process::Own;
use super::report::Report;

/// A receiver in a process of its own.
pub(crate) struct Server {
    own: Own,
    pub(crate) addr: SocketAddr,
}

impl Server {
    pub(crate) fn start(role: &[&str]) -> Self {
        let mut own = Own::start(&[&["serve"], role].concat());
        let addr = own.addr();
        Self { own, addr }
    }
}

/// What a receiver has counted, and used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Snapshot {
    /// Messages.
    pub(crate) received: u64,
    /// Datagrams or records.
    pub(crate) datagrams: u64,
    pub(crate) kernel_drops: u64,
    pub(crate) queue_dropped: u64,
    /// IDs lost or missing, and messages incomplete.
    pub(crate) gone: u64,
    /// CPU of the receiver's thread and of the process, nanoseconds.
    pub(crate) thread: u64,
    pub(crate) process: u64,
    pub(crate) sessions: u64,
    /// Bytes in memory.
    pub(crate) resident: u64,
}

impl Snapshot {
    pub(crate) fn ask(server: &mut Server) -> Self {
        let own = &mut server.own;
        let answer = own.ask("stats");
        let [
            received,
            datagrams,
            kernel_drops,
            queue_dropped,
            gone,
            sessions,
        ] = answer[..]
        else {
            panic!("six numbers");
        };
        Self {
            received,
            datagrams,
            kernel_drops,
            queue_dropped,
            gone,
            sessions,
            thread: thread_cpu(own.pid()),
            process: super::process::process_cpu(own.pid()).as_nanos() as u64,
            resident: super::process::resident(own.pid()),
        }
    }

    /// When nothing more comes.
    pub(crate) fn settled(server: &mut Server) -> Self {
        let mut last = Self::ask(server);
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = Self::ask(server);
            if now.datagrams == last.datagrams {
                return now;
            }
            last = now;
        }
    }

    pub(crate) fn figures(&self, report: &mut Report, name: &str, seconds: f64) {
        let per = |nanoseconds: u64| nanoseconds as f64 / 1e3 / self.datagrams.max(1) as f64;
        report.figure(
            &format!("{name}: CPU of its thread"),
            per(self.thread),
            "µs/datagram",
        );
        report.figure(
            &format!("{name}: CPU with the taker"),
            per(self.process),
            "µs/datagram",
        );
        report.figure(
            &format!("{name}: taken"),
            self.datagrams as f64 / seconds,
            "datagrams/s",
        );
        let offered = self.datagrams + self.kernel_drops;
        let loss = self.kernel_drops as f64 / offered.max(1) as f64 * 100.0;
        report.figure(&format!("{name}: dropped by the kernel"), loss, "%");
        if self.queue_dropped > 0 {
            report.figure(
                &format!("{name}: dropped before the channel"),
                self.queue_dropped as f64,
                "messages",
            );
        }
    }

    /// Everything sent is somewhere.
    pub(crate) fn balance(&self, report: &mut Report, sent: u64) {
        report.say(&format!(
            "sent {sent} = received {} + gone {} (the kernel says {}), short by {}",
            self.received,
            self.gone,
            self.kernel_drops,
            sent as i64 - self.received as i64 - self.gone as i64
        ));
    }
}

impl Sub for Snapshot {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            received: self.received - before.received,
            datagrams: self.datagrams - before.datagrams,
            kernel_drops: self.kernel_drops - before.kernel_drops,
            queue_dropped: self.queue_dropped - before.queue_dropped,
            gone: self.gone - before.gone,
            thread: self.thread - before.thread,
            process: self.process - before.process,
            sessions: self.sessions,
            resident: self.resident,
        }
    }
}

/// CPU of the threads that receive, nanoseconds.
fn thread_cpu(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads
        .flatten()
        .filter(|thread| {
            std::fs::read_to_string(thread.path().join("comm"))
                .is_ok_and(|name| name.trim() == "notif")
        })
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

pub(crate) fn main(args: &[&str]) {
    match args {
        ["bare"] => bare(),
        ["plain", gro] => receive(ReceiverConfig {
            plain: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            receive_buffer: 64 << 20,
            gro: *gro == "gro",
            ..ReceiverConfig::default()
        }),
        ["dtls", directory] => {
            let directory = Path::new(directory);
            receive(ReceiverConfig {
                secure: Some(Security {
                    listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
                    credentials: Issued::read(directory, "receiver").credentials(),
                    verifier: pki::verifier(
                        &std::fs::read_to_string(directory.join("ca.pem")).unwrap(),
                    ),
                    dtls: dtls::Config {
                        // All of them have one certificate here.
                        max_per_certificate: 100_000,
                        ..Security::dtls()
                    },
                }),
                receive_buffer: 64 << 20,
                ..ReceiverConfig::default()
            });
        }
        _ => panic!("unknown role {args:?}"),
    }
}

/// The receiver, and somebody who takes what it hands on.
fn receive(config: ReceiverConfig) {
    let (receiver, mut channel) = Receiver::bind(config).unwrap();
    let addr = receiver
        .plain_addrs()
        .iter()
        .chain(receiver.secure_addrs())
        .next();
    println!("{}", addr.unwrap());
    std::thread::spawn(move || while channel.blocking_recv().is_some() {});
    for line in std::io::stdin().lock().lines() {
        if line.is_err() {
            return;
        }
        let stats = receiver.stats();
        let totals = stats.collector.totals;
        println!(
            "{} {} {} {} {} {}",
            totals.received,
            stats.sockets[0].datagrams,
            stats.sockets[0].kernel_dropped_datagrams,
            stats.queue_dropped,
            totals.lost + totals.missing + totals.incomplete + totals.pending,
            stats.sessions
        );
        std::io::stdout().flush().unwrap();
    }
}

/// The least that a receiver can do: recvmmsg, the header's numbers, the gap to the message before.
fn bare() {
    const BATCH: usize = 64;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let borrowed = socket2::SockRef::from(&socket);
    let asked = 64 << 20;
    if nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &asked)
        .is_err()
    {
        borrowed.set_recv_buffer_size(asked).unwrap();
    }
    println!("{}", socket.local_addr().unwrap());
    let counters = Arc::new([const { AtomicU64::new(0) }; 2]);
    let shared = counters.clone();
    let loop_ = move || {
        let mut buffers = vec![[0_u8; 2048 + 64]; BATCH];
        let mut last = [None::<u32>; 64];
        loop {
            let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
            let mut slices: Vec<[IoSliceMut<'_>; 1]> = buffers
                .iter_mut()
                .map(|buffer| [IoSliceMut::new(buffer)])
                .collect();
            let results = recvmmsg(
                socket.as_raw_fd(),
                &mut headers,
                slices.iter_mut(),
                MsgFlags::MSG_WAITFORONE,
                None,
            );
            let Ok(results) = results else { continue };
            let (mut count, mut gone) = (0, 0);
            for read in results {
                count += 1;
                let Some(bytes) = read.iovs().next() else {
                    continue;
                };
                let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
                let last = &mut last[word(4) as usize % 64];
                let id = word(8);
                if let Some(last) = last {
                    gone += u64::from(id.wrapping_sub(*last).wrapping_sub(1));
                }
                *last = Some(id);
            }
            shared[0].fetch_add(count, Ordering::Relaxed);
            shared[1].fetch_add(gone, Ordering::Relaxed);
        }
    };
    std::thread::Builder::new()
        .name("notif".to_owned())
        .spawn(loop_)
        .unwrap();
    for line in std::io::stdin().lock().lines() {
        if line.is_err() {
            return;
        }
        let [received, gone] = [0, 1].map(|index: usize| counters[index].load(Ordering::Relaxed));
        println!("{received} {received} {gone} 0 {gone} 0");
        std::io::stdout().flush().unwrap();
    }
}
