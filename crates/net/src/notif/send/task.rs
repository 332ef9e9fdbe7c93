//! The task behind a publisher: reaches the receiver, sends, and begins anew when it is lost.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use homefleet_notif::publisher::MIN_ROOM;
use nix::errno::Errno;

use super::session::{News, Session};
use super::socket::{BATCH, Refusal, SendSocket};
use super::{SenderConfig, Shared, Status, random};

/// Bytes of one batch, more or less: what one call with UDP_SEGMENT takes.
const BATCH_BYTES: usize = 60_000;
/// Batches sent before it is looked whether something else is due.
const ROUNDS: usize = 16;
/// How often it is looked whether the path has room for more again.
const LOOK_AT_PATH: Duration = Duration::from_secs(60);
/// Longest datagram of a receiver: flights of its handshake.
const RECEIVE: usize = 65_536;

/// Why the receiver is served no longer.
enum End {
    Away(String),
    Stopped,
}

/// Runs until it is told to stop.
pub(super) async fn run(mut config: SenderConfig, shared: Arc<Shared>) {
    let mut pause = config.first_pause;
    loop {
        if shared.is_stopping() {
            break;
        }
        let connected = shared.state().connected;
        let (replaced, newest) = shared.credentials().clone();
        if let (Some(dtls), Some(credentials)) = (&mut config.dtls, newest) {
            dtls.credentials = credentials;
        }
        let end = match Link::open(&config, &shared, replaced).await {
            Ok(mut link) => link.serve().await,
            Err(error) => End::Away(error.to_string()),
        };
        shared.publisher().set_ready(false);
        let reason = match end {
            End::Stopped => break,
            End::Away(reason) => reason,
        };
        tracing::debug!(reason, "the receiver is away");
        {
            let mut state = shared.state();
            state.failed += 1;
            if state.connected > connected {
                pause = config.first_pause;
            }
        }
        shared.tell(Status::Away { reason });
        if !rest(&shared, jittered(pause)).await {
            break;
        }
        pause = pause.saturating_mul(2).min(config.longest_pause);
    }
    shared.publisher().abandon();
    shared.tell(Status::Stopped);
}

/// Waits; false when it is to stop.
async fn rest(shared: &Shared, pause: Duration) -> bool {
    let until = tokio::time::Instant::now() + pause;
    while !shared.is_stopping() {
        tokio::select! {
            () = tokio::time::sleep_until(until) => return true,
            () = shared.news.notified() => {}
        }
    }
    false
}

/// Between half of it and all of it, so that devices that lost one receiver do not come back at once.
fn jittered(pause: Duration) -> Duration {
    // Without random numbers there is no DTLS either; the pause is kept whole.
    let share = random().unwrap_or(u32::MAX);
    pause / 2 + (pause / 2).mul_f64(f64::from(share) / f64::from(u32::MAX))
}

/// The way to the receiver, from a socket to its end.
struct Link<'a> {
    shared: &'a Shared,
    socket: SendSocket,
    session: Option<Session>,
    /// Datagrams on their way, and whether each is one of the publisher's.
    out: Vec<Vec<u8>>,
    ours: VecDeque<bool>,
    look_at_path: Instant,
    /// Which replacement of the credentials the session has.
    replaced: u64,
}

impl<'a> Link<'a> {
    async fn open(config: &SenderConfig, shared: &'a Shared, replaced: u64) -> io::Result<Self> {
        let remote = resolve(config).await?;
        let local = (config.local_address, config.local_port);
        let socket = SendSocket::connect(remote, local, config.dscp)?;
        let now = Instant::now();
        let session = match &config.dtls {
            Some(dtls) => Some(
                Session::begin(dtls, &config.host, remote, socket.path_room(), now)
                    .map_err(io::Error::other)?,
            ),
            None => None,
        };
        let link = Self {
            shared,
            socket,
            session,
            out: Vec::new(),
            ours: VecDeque::new(),
            look_at_path: now + LOOK_AT_PATH,
            replaced,
        };
        link.set_room(link.socket.path_room());
        if link.session.is_none() {
            link.is_up(None)?;
        }
        Ok(link)
    }

    /// Sends until the receiver is lost, or it is to stop.
    async fn serve(&mut self) -> End {
        let mut buffer = vec![0; RECEIVE];
        loop {
            let now = Instant::now();
            if self.shared.is_stopping() {
                return self.close(now);
            }
            if let Some(end) = self.look(now) {
                self.flush_session();
                return end;
            }
            let full = match self.send(now) {
                Ok(full) => full,
                Err(end) => {
                    self.shared.publisher().take_back();
                    return end;
                }
            };
            let wake = [
                self.session.as_ref().and_then(Session::poll_timeout),
                // With a full socket, room is waited for.
                (!full)
                    .then(|| self.shared.publisher().poll_timeout(now))
                    .flatten(),
                Some(self.look_at_path),
            ];
            let wake = wake.into_iter().flatten().min().unwrap_or(now);
            let (socket, shared) = (&self.socket, self.shared);
            tokio::select! {
                () = shared.news.notified() => {}
                received = socket.receive(&mut buffer) => {
                    if let Some(end) = self.received(received, &buffer) {
                        return end;
                    }
                }
                () = socket.writable(), if full => {}
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    /// Lets time pass and hears what the session has to say.
    fn look(&mut self, now: Instant) -> Option<End> {
        if self.look_at_path <= now {
            self.look_at_path = now + LOOK_AT_PATH;
            self.set_room(self.socket.path_room());
        }
        let session = self.session.as_mut()?;
        let newest = self.shared.credentials();
        if newest.0 != self.replaced
            && let Some(credentials) = &newest.1
        {
            self.replaced = newest.0;
            session.replace_credentials(credentials.clone());
        }
        drop(newest);
        if session.poll_timeout().is_some_and(|at| at <= now) {
            session.handle_timeout(now);
        }
        while let Some(news) = self.session.as_mut().and_then(|session| session.poll(now)) {
            match news {
                News::Up(version, cipher) => {
                    if let Err(error) = self.is_up(Some((version, cipher))) {
                        return Some(End::Away(error.to_string()));
                    }
                }
                News::Renewed(..) => self.shared.state().renewed += 1,
                News::Over(reason) => {
                    self.shared.publisher().take_back();
                    return Some(End::Away(reason));
                }
            }
        }
        None
    }

    fn is_up(&self, session: Option<(crate::dtls::Version, &'static str)>) -> io::Result<()> {
        let status = Status::Up {
            remote: self.socket.remote(),
            local: self.socket.local_addr()?,
            session,
        };
        self.shared.publisher().set_ready(true);
        self.shared.state().connected += 1;
        self.shared.tell(status);
        Ok(())
    }

    fn set_room(&self, path: usize) {
        let room = match &self.session {
            Some(session) => session.room(path),
            None => path,
        };
        self.shared.publisher().set_room(room);
    }

    /// Sends what may leave now; whether the socket is full.
    fn send(&mut self, now: Instant) -> Result<bool, End> {
        for _ in 0..ROUNDS {
            if !self.fill(now)? {
                // Something may have been given up since somebody looked.
                self.shared.room.notify_waiters();
                return Ok(false);
            }
            let (sent, refusal) = self.socket.send(&self.out);
            self.out.drain(..sent);
            let confirmed = self.ours.drain(..sent).filter(|ours| *ours).count();
            if confirmed > 0 {
                let mut publisher = self.shared.publisher();
                for _ in 0..confirmed {
                    publisher.confirm();
                }
                drop(publisher);
                self.shared.room.notify_waiters();
            }
            if let Some(refusal) = refusal
                && self.refused(refusal)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes a batch, if there is none; false when there is nothing to send now.
    fn fill(&mut self, now: Instant) -> Result<bool, End> {
        if let Some(session) = &mut self.session {
            while let Some(datagram) = session.poll_transmit() {
                self.out.push(datagram);
                self.ours.push_back(false);
            }
        }
        let mut bytes: usize = self.out.iter().map(Vec::len).sum();
        let mut publisher = self.shared.publisher();
        while self.out.len() < BATCH
            && bytes < BATCH_BYTES
            && let Some(message) = publisher.poll_transmit(now)
        {
            bytes += message.len();
            let Some(session) = &mut self.session else {
                self.out.push(message);
                self.ours.push_back(true);
                continue;
            };
            match session.protect(now, &message) {
                Ok(datagrams) => {
                    let last = datagrams.len();
                    for (number, datagram) in datagrams.into_iter().enumerate() {
                        self.out.push(datagram);
                        self.ours.push_back(number + 1 == last);
                    }
                }
                Err(error) => return Err(End::Away(error.to_string())),
            }
        }
        Ok(!self.out.is_empty())
    }

    /// The first of the batch was refused; whether to wait for room.
    fn refused(&mut self, refusal: Refusal) -> Result<bool, End> {
        let ours = self.ours.front().copied().unwrap_or(false);
        match refusal {
            Refusal::Full => return Ok(true),
            Refusal::NobodyThere => {
                self.shared.state().nobody_there += 1;
                if self.session.is_some() {
                    return Err(End::Away("nobody listens there".to_owned()));
                }
            }
            Refusal::TooLong if ours => self.narrower(),
            Refusal::TooLong => {
                return Err(End::Away("the path has become narrower".to_owned()));
            }
            Refusal::Other(
                error @ (Errno::ENETUNREACH
                | Errno::EHOSTUNREACH
                | Errno::ENETDOWN
                | Errno::EHOSTDOWN
                | Errno::EADDRNOTAVAIL
                | Errno::EBADF
                | Errno::ENODEV),
            ) => return Err(End::Away(error.desc().to_owned())),
            Refusal::Other(error) => {
                tracing::debug!(%error, "the system refuses a datagram");
                self.out.remove(0);
                self.ours.pop_front();
                if ours {
                    self.shared.publisher().fail();
                }
            }
        }
        Ok(false)
    }

    /// The path takes less than was known: what has not left is cut again.
    fn narrower(&mut self) {
        let before = self.shared.publisher().room();
        self.set_room(self.socket.path_room());
        let mut publisher = self.shared.publisher();
        if publisher.room() >= before {
            // The kernel does not know better: some less, until it goes.
            publisher.set_room(before - before / 8);
        }
        if before <= MIN_ROOM {
            publisher.fail();
        }
        publisher.take_back();
        drop(publisher);
        let mut ours = std::mem::take(&mut self.ours).into_iter();
        self.out.retain(|_| !ours.next().unwrap_or(true));
        self.ours = self.out.iter().map(|_| false).collect();
    }

    /// What came from the receiver, or about it.
    fn received(&mut self, received: io::Result<usize>, buffer: &[u8]) -> Option<End> {
        match received {
            Ok(len) => {
                if let (Some(session), Some(datagram)) = (&mut self.session, buffer.get(..len)) {
                    session.handle_input(Instant::now(), datagram);
                }
                None
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.shared.state().nobody_there += 1;
                self.session.is_some().then(|| {
                    self.shared.publisher().take_back();
                    End::Away("nobody listens there".to_owned())
                })
            }
            Err(_) => {
                // Of an earlier datagram, which was lost: the path may have become narrower.
                self.set_room(self.socket.path_room());
                None
            }
        }
    }

    /// Says good-bye.
    fn close(&mut self, now: Instant) -> End {
        if let Some(session) = &mut self.session {
            session.close(now);
            self.flush_session();
        }
        End::Stopped
    }

    /// Sends the last words of the session: close_notify, or the alert that says why not.
    fn flush_session(&mut self) {
        while let Some(datagram) = self.session.as_mut().and_then(Session::poll_transmit) {
            // It may be lost on the path just as well (-26 §6.1.3).
            let _told = self.socket.send(&[datagram]);
        }
    }
}

async fn resolve(config: &SenderConfig) -> io::Result<SocketAddr> {
    let host = config.host.trim_start_matches('[').trim_end_matches(']');
    let mut found = tokio::net::lookup_host((host, config.port)).await?;
    let fits = |addr: &SocketAddr| {
        config
            .local_address
            .is_none_or(|local| local.is_ipv4() == addr.is_ipv4())
    };
    found.find(fits).map(crate::udp::canonical).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("{} has no address that can be sent to", config.host),
        )
    })
}
