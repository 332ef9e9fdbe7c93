//! The operator's side.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use homefleet_tr111::server::{
    self as machine, Binding, Credentials, Reply, ServerStats, Wake, WakeConfig, Wakes,
};
use tokio::sync::{Notify, mpsc};

use crate::udp::UdpSocket;

/// Batches taken from a socket before others get their turn.
const BATCHES_PER_TURN: usize = 8;
/// Datagrams of others waiting to leave through a socket; beyond it they are dropped, as the network might.
const OUTBOUND: usize = 4096;
/// Changes of bindings that nobody took yet; beyond it the device's next refresh tells again only if it changed, so that the owner
/// reads [`Server::binding`] before it wakes a device.
const LEARNED: usize = 65_536;

/// Sockets and bounds.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Addresses to listen on; an unspecified IPv6 address serves IPv4 too.
    pub listen: Vec<SocketAddr>,
    /// The other address and port (A2, P2 of RFC 3489), different from those of the first in `listen` of its family in both: with it
    /// there are four sockets, and CHANGE-REQUEST is followed.
    pub other: Option<SocketAddr>,
    /// Whom it believes, and bounds. Its `pair` follows from the addresses.
    pub machine: machine::ServerConfig,
    /// Copies of a UDP Connection Request.
    pub wake: WakeConfig,
}

impl ServerConfig {
    /// One address, defaults.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen: vec![listen],
            other: None,
            machine: machine::ServerConfig::default(),
            wake: WakeConfig::default(),
        }
    }
}

/// A device's binding that is new, or another one than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// Its STUNUsername.
    pub username: Vec<u8>,
    /// Where it listens, and where to send from.
    pub binding: Binding,
}

/// Why no UDP Connection Request was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WakeError {
    /// Too many requests have copies outstanding.
    #[error("too many UDP Connection Requests are under way")]
    Busy,
    /// None of our sockets can reach this address family, or has the address that the device's requests came to.
    #[error("no socket of the STUN server can send there")]
    NoSocket,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// What came in and how it was answered.
    pub stun: ServerStats,
    /// Bindings held.
    pub bindings: u64,
    /// UDP Connection Requests, copies counted.
    pub wakes_sent: u64,
    /// Datagrams dropped because a socket's queue was full.
    pub dropped: u64,
    /// Changes of bindings that were not told, because nobody took them.
    pub untold: u64,
}

/// A running STUN server; clones are handles to the same one. It ends when all are gone.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
    sockets: Arc<[Outlet]>,
    /// The tasks end when this is dropped.
    running: Arc<Running>,
}

/// One of our sockets, as others use it.
#[derive(Debug)]
struct Outlet {
    at: SocketAddr,
    outbound: mpsc::Sender<(SocketAddr, Vec<u8>)>,
}

struct Shared {
    state: Mutex<State>,
    /// Requests have been queued.
    wake: Notify,
}

struct State {
    machine: machine::Server,
    wakes: Wakes,
    passwords: Passwords,
    wakes_sent: u64,
    dropped: u64,
    untold: u64,
}

#[derive(Default)]
struct Passwords(HashMap<Box<[u8]>, Box<[u8]>>);

impl Credentials for Passwords {
    fn password(&self, username: &[u8]) -> Option<&[u8]> {
        self.0.get(username).map(|password| &**password)
    }
}

struct Running(Mutex<Vec<tokio::task::JoinHandle<()>>>);

impl Running {
    fn take(&self) -> Vec<tokio::task::JoinHandle<()>> {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tasks = std::mem::take(&mut *tasks);
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        tasks
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Binds and starts. Needs a tokio runtime.
    ///
    /// # Errors
    /// When an address cannot be bound, or the other one is not different in both address and port.
    pub fn bind(config: ServerConfig) -> io::Result<(Self, mpsc::Receiver<Learned>)> {
        let mut sockets = Vec::new();
        for at in &config.listen {
            sockets.push(UdpSocket::bind(*at)?);
        }
        let mut machine = config.machine;
        machine.pair = None;
        if let Some(other) = config.other {
            let first = pair_of(&sockets, other)?;
            for at in [
                SocketAddr::new(first.ip(), other.port()),
                SocketAddr::new(other.ip(), first.port()),
                other,
            ] {
                sockets.push(UdpSocket::bind(at)?);
            }
            machine.pair = Some((first, other));
        }
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                machine: machine::Server::new(machine),
                wakes: Wakes::new(config.wake),
                passwords: Passwords::default(),
                wakes_sent: 0,
                dropped: 0,
                untold: 0,
            }),
            wake: Notify::new(),
        });
        let (learned, told) = mpsc::channel(LEARNED);
        let (outlets, inlets): (Vec<_>, Vec<_>) = sockets
            .iter()
            .map(|socket| {
                let (outbound, inlet) = mpsc::channel(OUTBOUND);
                let at = socket.local_addr();
                (Outlet { at, outbound }, inlet)
            })
            .unzip();
        let outlets: Arc<[Outlet]> = outlets.into();
        let mut tasks = Vec::new();
        for (socket, inlet) in sockets.into_iter().zip(inlets) {
            let listener = Listener {
                socket,
                inlet,
                shared: shared.clone(),
                outlets: outlets.clone(),
                learned: learned.clone(),
            };
            tasks.push(tokio::spawn(listener.run()));
        }
        tasks.push(tokio::spawn(send_copies(shared.clone(), outlets.clone())));
        let server = Self {
            shared,
            sockets: outlets,
            running: Arc::new(Running(Mutex::new(tasks))),
        };
        Ok((server, told))
    }

    /// Ends it: its sockets are closed when this returns.
    pub async fn shutdown(&self) {
        for task in self.running.take() {
            // It was told to end, and has.
            drop(task.await);
        }
    }

    /// The addresses that are listened on.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|outlet| outlet.at).collect()
    }

    /// Sets or forgets a device's STUNPassword. Without one the device's binding is forgotten too.
    pub fn set_password(&self, username: &[u8], password: Option<&[u8]>) {
        let mut state = self.shared.lock();
        match password {
            Some(password) => {
                state.passwords.0.insert(username.into(), password.into());
            }
            None => {
                state.passwords.0.remove(username);
                state.machine.forget(username);
            }
        }
    }

    /// The binding of a device, by its STUNUsername.
    pub fn binding(&self, username: &[u8]) -> Option<Binding> {
        self.shared.lock().machine.binding(username)
    }

    /// Puts back what was learned before a restart.
    pub fn restore(&self, username: &[u8], binding: Binding) {
        self.shared.lock().machine.restore(username, binding);
    }

    /// Sends copies of a UDP Connection Request to a device, from `local`, the address of ours that its requests came to, or from any
    /// of the right family (§2.2.2.3). Returns the address of the socket that they leave from.
    ///
    /// # Errors
    /// When too many are under way, or no socket can send there.
    pub fn wake(
        &self,
        to: SocketAddr,
        local: Option<SocketAddr>,
        octets: Vec<u8>,
    ) -> Result<SocketAddr, WakeError> {
        let outlet = self.outlet(to, local).ok_or(WakeError::NoSocket)?;
        let wake = Wake {
            to,
            local: outlet.at,
            octets,
        };
        if !self.shared.lock().wakes.start(Instant::now(), wake) {
            return Err(WakeError::Busy);
        }
        self.shared.wake.notify_one();
        Ok(outlet.at)
    }

    /// Counters since the start.
    pub fn stats(&self) -> Stats {
        let state = self.shared.lock();
        Stats {
            stun: state.machine.stats(),
            bindings: state.machine.bindings() as u64,
            wakes_sent: state.wakes_sent,
            dropped: state.dropped,
            untold: state.untold,
        }
    }

    fn outlet(&self, to: SocketAddr, local: Option<SocketAddr>) -> Option<&Outlet> {
        let reaches = |outlet: &&Outlet| outlet.at.is_ipv6() || to.is_ipv4();
        match local {
            Some(local) => find(&self.sockets, local),
            None => self.sockets.iter().find(reaches),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("local", &self.local_addrs())
            .finish_non_exhaustive()
    }
}

/// The socket that has this address of ours, or is bound to all.
fn find(outlets: &[Outlet], local: SocketAddr) -> Option<&Outlet> {
    let exact = |outlet: &&Outlet| outlet.at == local;
    let any = |outlet: &&Outlet| {
        outlet.at.ip().is_unspecified()
            && outlet.at.port() == local.port()
            && (outlet.at.is_ipv6() || local.is_ipv4())
    };
    outlets
        .iter()
        .find(exact)
        .or_else(|| outlets.iter().find(any))
}

/// The first address of the same family, which `other` must differ from in both.
fn pair_of(sockets: &[UdpSocket], other: SocketAddr) -> io::Result<SocketAddr> {
    let same = |at: &SocketAddr| at.is_ipv4() == other.is_ipv4();
    let first = sockets.iter().map(UdpSocket::local_addr).find(same);
    let apart = |first: &SocketAddr| {
        first.ip() != other.ip()
            && first.port() != other.port()
            && !first.ip().is_unspecified()
            && !other.ip().is_unspecified()
    };
    first.filter(apart).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the other STUN address must differ from the first in address and port, and both must be specified",
        )
    })
}

/// Owns one socket.
struct Listener {
    socket: UdpSocket,
    inlet: mpsc::Receiver<(SocketAddr, Vec<u8>)>,
    shared: Arc<Shared>,
    outlets: Arc<[Outlet]>,
    learned: mpsc::Sender<Learned>,
}

impl Listener {
    async fn run(mut self) {
        loop {
            tokio::select! {
                ready = self.socket.ready() => if ready.is_err() {
                    return;
                },
                sent = self.inlet.recv() => match sent {
                    Some((to, octets)) => self.socket.queue(to, octets),
                    None => return,
                },
            }
            while let Ok((to, octets)) = self.inlet.try_recv() {
                self.socket.queue(to, octets);
            }
            for _ in 0..BATCHES_PER_TURN {
                if self.batch() == 0 {
                    break;
                }
            }
            self.socket.flush();
        }
    }

    /// Takes one batch under one lock.
    fn batch(&mut self) -> usize {
        let bound = self.socket.local_addr();
        let now = Instant::now();
        let mut replies: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let (outlets, learned) = (&self.outlets, &self.learned);
        let count = self.socket.receive_to(|from, sent_to, datagram| {
            let local = specific(bound, sent_to);
            let mut out = Vec::with_capacity(128);
            let outcome =
                state
                    .machine
                    .handle_input(now, local, from, datagram, &state.passwords, &mut out);
            if let Some(username) = outcome.learned
                && let Some(binding) = state.machine.binding(&username)
                && learned.try_send(Learned { username, binding }).is_err()
            {
                state.untold += 1;
            }
            match outcome.reply {
                Some(Reply { to, via }) if via == machine::Via::default() => {
                    replies.push((to, out));
                }
                Some(Reply { to, via }) => {
                    let at = state.machine.source(local, via);
                    let sent = find(outlets, at).map(|o| o.outbound.try_send((to, out)));
                    if !matches!(sent, Some(Ok(()))) {
                        state.dropped += 1;
                    }
                }
                None => {}
            }
        });
        drop(guard);
        for (to, octets) in replies {
            self.socket.queue(to, octets);
        }
        count
    }
}

/// The address of ours that a datagram was sent to.
fn specific(bound: SocketAddr, sent_to: Option<IpAddr>) -> SocketAddr {
    let ip = sent_to.filter(|_| bound.ip().is_unspecified());
    SocketAddr::new(ip.unwrap_or(bound.ip()), bound.port())
}

/// Sends requests and their copies when they are due.
async fn send_copies(shared: Arc<Shared>, outlets: Arc<[Outlet]>) {
    loop {
        let due = {
            let mut guard = shared.lock();
            let state = &mut *guard;
            state.wakes.handle_timeout(Instant::now());
            while let Some(Wake { to, local, octets }) = state.wakes.poll_transmit() {
                let sent = find(&outlets, local).map(|o| o.outbound.try_send((to, octets)));
                if matches!(sent, Some(Ok(()))) {
                    state.wakes_sent += 1;
                } else {
                    state.dropped += 1;
                }
            }
            state.wakes.poll_timeout()
        };
        let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
        tokio::select! {
            () = shared.wake.notified() => {}
            () = tokio::time::sleep(wait.unwrap_or(Duration::from_secs(3600))) => {}
        }
    }
}
