//! The device's side.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use homefleet_tr111::{
    client::{self, Client, ClientConfig, ClientStats, Socket},
    connection_request::{self, ConnectionRequest, Last},
    stun::is_stun,
};
use tokio::sync::{mpsc, watch};

use crate::udp::UdpSocket;

/// How often the local address and the server's name are looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Time for the server's name to be resolved.
const LOOKUP: Duration = Duration::from_secs(10);
/// Events that nobody took yet; beyond it the sockets are not read.
const EVENTS: usize = 256;
/// Batches taken from a socket before the other gets its turn.
const BATCHES_PER_TURN: usize = 4;

/// How this device is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceConfig {
    /// What the ACS set about STUN; `None` with STUNEnable false. UDP Connection Requests are listened for in either case (§2.2.1.4).
    pub stun: Option<StunSettings>,
    /// Who may wake it.
    pub waker: Waker,
}

/// ConnectionRequestUsername and ConnectionRequestPassword. Without a password nobody can wake the device over UDP.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Waker {
    /// `un` of a UDP Connection Request.
    pub username: String,
    /// The key of `sig`.
    pub password: Vec<u8>,
}

/// The STUN parameters of `ManagementServer.` (TR-111 Part 2 Table 6).
#[derive(Clone, PartialEq, Eq)]
pub struct StunSettings {
    /// STUNServerAddress, or the host of the ACS's URL: a name or an IP address.
    pub host: String,
    /// STUNServerPort.
    pub port: u16,
    /// STUNUsername; empty for none.
    pub username: String,
    /// STUNPassword.
    pub password: Vec<u8>,
    /// STUNMinimumKeepAlivePeriod.
    pub minimum: Duration,
    /// STUNMaximumKeepAlivePeriod; `None` for -1.
    pub maximum: Option<Duration>,
}

/// What happened to a device's reachability.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceEvent {
    /// UDPConnectionRequestAddress and NATDetected: the binding where STUN found one, else our own address and port.
    Address {
        /// Where UDP Connection Requests reach the device.
        address: SocketAddr,
        /// Whether there is translation on the way.
        nat: bool,
    },
    /// A UDP Connection Request that is valid and authentic; `last` must be kept as long as the device runs.
    Woken {
        /// What it said.
        request: ConnectionRequest,
        /// What must be remembered.
        last: Last,
    },
    /// Something else about the binding.
    Stun(client::Event),
    /// The server's name could not be resolved.
    Unresolved,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceStats {
    /// STUN.
    pub stun: ClientStats,
    /// UDP Connection Requests that were taken.
    pub woken: u64,
    /// Datagrams that were neither STUN nor a valid and authentic UDP Connection Request, ignored; copies of one that was taken are
    /// among them.
    pub ignored: u64,
}

/// A device that can be woken; it ends when it is dropped.
pub struct Device {
    local: SocketAddr,
    config: watch::Sender<DeviceConfig>,
    stats: Arc<Mutex<DeviceStats>>,
    task: tokio::task::AbortHandle,
}

impl Device {
    /// Binds the primary port, and one for tests beside it, and starts. `last` is what was remembered of the last request, if anything. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn bind(
        listen: SocketAddr,
        config: DeviceConfig,
        last: Last,
    ) -> io::Result<(Self, mpsc::Receiver<DeviceEvent>)> {
        let primary = UdpSocket::bind(listen)?;
        let secondary = UdpSocket::bind(SocketAddr::new(listen.ip(), 0))?;
        let local = primary.local_addr();
        let (events, taken) = mpsc::channel(EVENTS);
        let stats = Arc::new(Mutex::new(DeviceStats::default()));
        let (config, changes) = watch::channel(config);
        let task = Task {
            primary,
            secondary,
            client: None,
            config: changes,
            last,
            told: None,
            events,
            stats: stats.clone(),
            woken: 0,
            ignored: 0,
        };
        let task = tokio::spawn(task.run()).abort_handle();
        Ok((
            Self {
                local,
                config,
                stats,
                task,
            },
            taken,
        ))
    }

    /// The primary port's address as it was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Goes on with other settings.
    pub fn configure(&self, config: DeviceConfig) {
        self.config.send_if_modified(|now| {
            let other = *now != config;
            *now = config;
            other
        });
    }

    /// Something about this host's addresses changed: looks at them at once.
    pub fn addresses_changed(&self) {
        self.config.send_modify(|_| {});
    }

    /// Counters since the start.
    pub fn stats(&self) -> DeviceStats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DeviceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceConfig")
            .field(
                "stun",
                &self.stun.as_ref().map(|stun| (&stun.host, stun.port)),
            )
            .finish_non_exhaustive()
    }
}

struct Task {
    primary: UdpSocket,
    secondary: UdpSocket,
    client: Option<Client>,
    config: watch::Receiver<DeviceConfig>,
    last: Last,
    /// The last address that was told.
    told: Option<(SocketAddr, bool)>,
    events: mpsc::Sender<DeviceEvent>,
    stats: Arc<Mutex<DeviceStats>>,
    woken: u64,
    ignored: u64,
}

impl Task {
    async fn run(mut self) {
        let mut look = Instant::now();
        loop {
            if look <= Instant::now() {
                look = Instant::now() + LOOK_AGAIN;
                if self.look().await.is_err() {
                    return;
                }
            }
            if self.settle().await.is_err() {
                return;
            }
            let due = self.client.as_ref().and_then(Client::poll_timeout);
            let wake = due.map_or(look, |due| due.min(look));
            tokio::select! {
                ready = self.primary.ready() => if ready.is_err() {
                    return;
                },
                ready = self.secondary.ready() => if ready.is_err() {
                    return;
                },
                changed = self.config.changed() => match changed {
                    Ok(()) => look = Instant::now(),
                    Err(_) => return,
                },
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            if self.receive().await.is_err() {
                return;
            }
            if let Some(client) = &mut self.client {
                client.handle_timeout(Instant::now());
            }
        }
    }

    /// Looks at the settings, the server's name and our own address, and (re)starts or ends STUN.
    async fn look(&mut self) -> Result<(), Gone> {
        let config = self.config.borrow_and_update().clone();
        let port = self.primary.local_addr().port();
        let Some(stun) = config.stun else {
            self.client = None;
            // Any address would do to ask which one of ours leads to the world; nothing is sent.
            let world = match self.primary.local_addr() {
                SocketAddr::V4(_) => (Ipv4Addr::new(192, 0, 2, 1), 9).into(),
                SocketAddr::V6(_) => (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into(),
            };
            let ip = self.own_address(world).await;
            return match ip {
                Some(ip) => self.tell(SocketAddr::new(ip, port), false).await,
                None => Ok(()),
            };
        };
        let Some(server) = self.resolve(&stun).await else {
            return self.event(DeviceEvent::Unresolved).await;
        };
        let Some(ip) = self.own_address(server).await else {
            return Ok(());
        };
        let wanted = ClientConfig {
            username: stun.username,
            password: stun.password,
            minimum: stun.minimum,
            maximum: stun.maximum,
            ..ClientConfig::new(server, SocketAddr::new(ip, port))
        };
        let now = Instant::now();
        match &mut self.client {
            Some(client) => client.configure(wanted, now),
            None => {
                let mut seed = [0; 32];
                // Without randomness transaction IDs could be guessed; the next look tries again.
                if getrandom::fill(&mut seed).is_ok() {
                    self.client = Some(Client::new(wanted, seed, now));
                }
            }
        }
        Ok(())
    }

    async fn resolve(&self, stun: &StunSettings) -> Option<SocketAddr> {
        let ours_is_v4 = self.primary.local_addr().is_ipv4();
        let found = tokio::net::lookup_host((stun.host.as_str(), stun.port));
        let found = tokio::time::timeout(LOOKUP, found).await.ok()?.ok()?;
        let mut found: Vec<_> = found.filter(|at| at.is_ipv4() || !ours_is_v4).collect();
        // The address in use stays, as long as the name has it.
        let current = self.client.as_ref().map(Client::server);
        found.sort_by_key(|at| (Some(*at) != current, at.is_ipv6()));
        found.first().copied()
    }

    /// Which of our addresses leads to `to`.
    async fn own_address(&self, to: SocketAddr) -> Option<IpAddr> {
        let bound = self.primary.local_addr().ip();
        if !bound.is_unspecified() {
            return Some(bound);
        }
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let probe = tokio::net::UdpSocket::bind(any).await.ok()?;
        probe.connect(to).await.ok()?;
        probe.local_addr().ok().map(|at| at.ip())
    }

    async fn receive(&mut self) -> Result<(), Gone> {
        let now = Instant::now();
        let mut requests = Vec::new();
        for (socket, which) in [
            (&mut self.primary, Socket::Primary),
            (&mut self.secondary, Socket::Secondary),
        ] {
            for _ in 0..BATCHES_PER_TURN {
                let count = socket.receive(|from, datagram| match &mut self.client {
                    Some(client) if is_stun(datagram) => {
                        client.handle_input(now, which, from, datagram);
                    }
                    _ if which == Socket::Primary && !is_stun(datagram) => {
                        requests.push(datagram.to_vec());
                    }
                    _ => self.ignored += 1,
                });
                if count == 0 {
                    break;
                }
            }
        }
        for datagram in requests {
            self.request(&datagram).await?;
        }
        Ok(())
    }

    async fn request(&mut self, datagram: &[u8]) -> Result<(), Gone> {
        let taken = {
            let config = self.config.borrow();
            let Waker { username, password } = &config.waker;
            // An empty key would make every signature one that anybody can compute.
            (!password.is_empty())
                .then(|| connection_request::accept(datagram, username, password, &mut self.last))
        };
        match taken {
            Some(Ok(request)) => {
                self.woken += 1;
                let last = self.last;
                self.event(DeviceEvent::Woken { request, last }).await
            }
            _ => {
                self.ignored += 1;
                Ok(())
            }
        }
    }

    /// Sends and tells what is there to send and tell.
    async fn settle(&mut self) -> Result<(), Gone> {
        while let Some(transmit) = self.client.as_mut().and_then(Client::poll_transmit) {
            match transmit.socket {
                Socket::Primary => self.primary.queue(transmit.to, transmit.octets),
                Socket::Secondary => self.secondary.queue(transmit.to, transmit.octets),
            }
        }
        self.primary.flush();
        self.secondary.flush();
        while let Some(event) = self.client.as_mut().and_then(Client::poll_event) {
            match event {
                client::Event::Binding { address, nat } => self.tell(address, nat).await?,
                event => self.event(DeviceEvent::Stun(event)).await?,
            }
        }
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = DeviceStats {
            stun: self.client.as_ref().map(Client::stats).unwrap_or_default(),
            woken: self.woken,
            ignored: self.ignored,
        };
        Ok(())
    }

    async fn tell(&mut self, address: SocketAddr, nat: bool) -> Result<(), Gone> {
        if self.told.replace((address, nat)) == Some((address, nat)) {
            return Ok(());
        }
        self.event(DeviceEvent::Address { address, nat }).await
    }

    async fn event(&self, event: DeviceEvent) -> Result<(), Gone> {
        self.events.send(event).await.map_err(|_| Gone)
    }
}

/// Nobody takes events any more.
struct Gone;
