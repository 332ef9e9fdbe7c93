//! One session: the socket, the machine of [`homefleet_usp::mtp::uds`], and what goes between them.
//!
//! One task owns all of it. Reading waits while events wait for their receiver, so that the peer's own socket fills up;
//! writing does not, so that two sides that both have much to say cannot block each other.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use homefleet_usp::EndpointId;
use homefleet_usp::mtp::uds as binding;
use homefleet_usp::mtp::uds::{CloseReason, Session};
use tokio::io::{Interest, Ready};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::mtp::{Channel, ChannelId, Connect, Event, Origin, Route, State, Status};

use super::registry::{Command, Handle, WAITING};
use super::{Shared, add, count, lock};

/// How much is read at once.
const READ: usize = 16 * 1024;
/// How often in a row, before others have their turn.
const READS: usize = 16;
/// How long a session that is over may take to write its last words.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Writes per system call.
const SLICES: usize = 64;

/// A connection that stands, before its handshake.
pub(super) struct Opened {
    pub(super) stream: UnixStream,
    /// The user ID at the other end.
    pub(super) uid: u32,
    /// Its name, when we connected.
    pub(super) connection: Option<String>,
    /// The Endpoint that is expected, if one is.
    pub(super) expected: Option<EndpointId>,
    /// Where its state is told, when we connected.
    pub(super) status: Option<Arc<Mutex<Status>>>,
}

/// How a session ended.
pub(super) struct Ended {
    /// Whether its handshake was done.
    pub(super) was_open: bool,
    /// Why, for a person.
    pub(super) reason: String,
}

/// Runs a session to its end.
pub(super) async fn run(
    shared: Arc<Shared>,
    opened: Opened,
    stopped: watch::Receiver<bool>,
) -> Ended {
    let mut task = Task::new(shared, opened, stopped);
    let reason = task.run().await;
    task.end(reason).await
}

/// Bytes to write, and who waits for them.
struct Write {
    bytes: Vec<u8>,
    waiting: Option<(OwnedSemaphorePermit, oneshot::Sender<()>)>,
}

/// What a session waits for.
enum Wake {
    /// It is no longer wanted.
    Stop,
    /// It is to end, with an Error that says why.
    End(&'static str),
    /// There is room for an event.
    Room,
    /// Nobody listens to events any more.
    Deaf,
    /// The socket can be read or written.
    Socket(io::Result<Ready>),
    /// A Record is to be sent.
    Command(Command),
    /// Time is up.
    Due,
}

struct Task {
    shared: Arc<Shared>,
    opened: Opened,
    stopped: watch::Receiver<bool>,
    id: ChannelId,
    session: Session,
    /// What the session has counted, as far as it is counted for all.
    counted: binding::Stats,
    /// The peer, once it has a place among the sessions.
    peer: Option<EndpointId>,
    commands: mpsc::Receiver<Command>,
    handle: Handle,
    end: watch::Receiver<Option<&'static str>>,
    out: VecDeque<Write>,
    /// How much of the first write is written.
    written: usize,
    /// When the peer last took something, while something waits for it.
    progress: Instant,
    /// Events that wait for room.
    pending: VecDeque<Event>,
    over: Option<CloseReason>,
}

impl Task {
    fn new(shared: Arc<Shared>, opened: Opened, stopped: watch::Receiver<bool>) -> Self {
        let now = Instant::now();
        let (own, config) = (
            shared.config.endpoint_id.clone(),
            shared.config.session.clone(),
        );
        let room = config.max_queued.max(config.max_record);
        let ours = opened.connection.is_some();
        let session = if ours {
            Session::client(now, own, config)
        } else {
            Session::server(now, own, config)
        };
        let (sender, commands) = mpsc::channel(WAITING);
        let (end_sender, end) = watch::channel(None);
        let id = ChannelId::next();
        let handle = Handle {
            id,
            uid: opened.uid,
            ours,
            commands: sender,
            room: Arc::new(Semaphore::new(room.min(Semaphore::MAX_PERMITS))),
            end: end_sender,
        };
        Self {
            shared,
            opened,
            stopped,
            id,
            session,
            counted: binding::Stats::default(),
            peer: None,
            commands,
            handle,
            end,
            out: VecDeque::new(),
            written: 0,
            progress: now,
            pending: VecDeque::new(),
            over: None,
        }
    }

    /// Until it is over and the last words are written.
    async fn run(&mut self) -> CloseReason {
        let mut last_words = None;
        loop {
            self.drain();
            self.write();
            self.deliver();
            if let Some(reason) = &self.over {
                if self.out.is_empty() {
                    return reason.clone();
                }
                last_words.get_or_insert_with(|| Instant::now() + LAST_WORDS);
            }
            match self.wake(last_words).await {
                Wake::Stop => self.session.close(),
                Wake::End(why) => self.session.refuse(why),
                Wake::Room => {}
                Wake::Deaf => {
                    self.pending.clear();
                    self.session.close();
                }
                Wake::Socket(Ok(ready)) => {
                    if self.reads() && (ready.is_readable() || ready.is_read_closed()) {
                        self.read();
                    }
                }
                Wake::Socket(Err(_)) => self.session.handle_disconnect(),
                Wake::Command(command) => self.command(command),
                Wake::Due if last_words.is_some() => self.out.clear(),
                Wake::Due => self.timeout(),
            }
        }
    }

    /// Whether more is to be read now.
    fn reads(&self) -> bool {
        self.over.is_none() && self.pending.is_empty()
    }

    /// Waits for what comes first.
    async fn wake(&mut self, last_words: Option<Instant>) -> Wake {
        let open = self.over.is_none();
        let interest = match (self.reads(), !self.out.is_empty()) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        };
        let due = last_words.or_else(|| self.due());
        tokio::select! {
            _ = self.stopped.wait_for(|stopped| *stopped), if open => Wake::Stop,
            _ = self.end.changed(), if open => {
                Wake::End(self.end.borrow_and_update().unwrap_or("ended"))
            }
            room = self.shared.config.events.reserve(), if !self.pending.is_empty() => {
                room.map_or(Wake::Deaf, |_| Wake::Room)
            }
            ready = self.opened.stream.ready(interest.unwrap_or(Interest::READABLE)),
                if interest.is_some() => Wake::Socket(ready),
            Some(command) = self.commands.recv(), if open && self.peer.is_some() => {
                Wake::Command(command)
            }
            () = sleep_until(due), if due.is_some() => Wake::Due,
        }
    }

    /// When something is due: the end of the handshake, or of patience with a peer that reads nothing.
    fn due(&self) -> Option<Instant> {
        let stalled = (!self.out.is_empty())
            .then(|| self.progress.checked_add(self.shared.config.write_timeout))
            .flatten();
        self.session.poll_timeout().into_iter().chain(stalled).min()
    }

    fn timeout(&mut self) {
        let now = Instant::now();
        self.session.handle_timeout(now);
        let stalled = self.progress.checked_add(self.shared.config.write_timeout);
        if !self.out.is_empty() && stalled.is_some_and(|due| due <= now) {
            count(&self.shared.counters.stalled);
            self.out.clear();
            self.session.close();
            self.over = Some(CloseReason::Refused(
                "the other side reads nothing".to_owned(),
            ));
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; READ];
        for _ in 0..READS {
            if !self.reads() {
                return;
            }
            match self.opened.stream.try_read(&mut buffer) {
                Ok(0) => self.session.handle_disconnect(),
                Ok(length) => {
                    if let Some(bytes) = buffer.get(..length) {
                        self.session.handle_input(bytes);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => self.session.handle_disconnect(),
            }
            self.drain();
            self.deliver();
        }
    }

    fn command(&mut self, command: Command) {
        let mut next = Some(command);
        while let Some(command) = next {
            // Refused only when the session is over: who waits is told by the sender being dropped.
            if self.session.send_encoded(command.record).is_ok() {
                self.transmit();
                if let Some(last) = self.out.back_mut() {
                    last.waiting = Some((command.room, command.written));
                }
            }
            next = self.commands.try_recv().ok();
        }
    }

    /// What the session has to say, to the socket and to us.
    fn drain(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                binding::Event::Open { peer } => self.open(peer),
                binding::Event::Record(record) => {
                    let record = Box::new(record);
                    let origin = self.origin();
                    self.pending.push_back(Event::Record { record, origin });
                }
                binding::Event::Erroneous(error) => {
                    let origin = self.origin();
                    self.pending.push_back(Event::Erroneous { error, origin });
                }
                binding::Event::Closed(reason) => self.over = self.over.take().or(Some(reason)),
            }
        }
        self.transmit();
        self.count();
    }

    fn transmit(&mut self) {
        while let Some(bytes) = self.session.poll_transmit() {
            if self.out.is_empty() {
                self.progress = Instant::now();
            }
            self.out.push_back(Write {
                bytes,
                waiting: None,
            });
        }
    }

    /// The handshake is done: a place among the sessions, then the greeting, and only then anything else.
    fn open(&mut self, peer: EndpointId) {
        let counters = &self.shared.counters;
        if self
            .opened
            .expected
            .as_ref()
            .is_some_and(|expected| *expected != peer)
        {
            count(&counters.refused_endpoint);
            return self.session.refuse("another Endpoint is expected here");
        }
        match self.shared.registry.insert(&peer, self.handle.clone()) {
            Ok(false) => {}
            Ok(true) => count(&counters.replaced),
            Err(why) => {
                count(&counters.refused_endpoint);
                return self.session.refuse(why);
            }
        }
        self.peer = Some(peer.clone());
        let channel = Channel {
            id: self.id,
            connection: self.opened.connection.clone(),
            endpoint_id: Some(peer.clone()),
            identity: None,
            connect: Connect::Uds,
        };
        for greeting in self.shared.config.greeter.greet(&channel) {
            if greeting.route != Route::Uds || greeting.endpoint_id != peer {
                continue;
            }
            match self.session.send_encoded(greeting.record) {
                Ok(()) => count(&counters.records_out),
                Err(error) => {
                    count(&counters.records_failed);
                    tracing::warn!(endpoint_id = %peer, %error, "a greeting could not be sent");
                }
            }
        }
        if let Some(status) = &self.opened.status {
            lock(status).becomes(State::Up, 0);
        }
        tracing::debug!(endpoint_id = %peer, "a UNIX domain socket session is open");
        self.pending.push_back(Event::Up(channel));
    }

    fn origin(&self) -> Origin {
        Origin {
            channel: Some(self.id),
            identity: None,
            reply_to: Some(Route::Uds),
        }
    }

    /// Writes what the socket takes now.
    fn write(&mut self) {
        while let Some(first) = self.out.front() {
            let rest = first.bytes.get(self.written..).unwrap_or_default();
            let mut slices = vec![io::IoSlice::new(rest)];
            slices.extend(
                self.out
                    .iter()
                    .skip(1)
                    .take(SLICES - 1)
                    .map(|write| io::IoSlice::new(&write.bytes)),
            );
            match self.opened.stream.try_write_vectored(&slices) {
                Ok(length) => {
                    self.progress = Instant::now();
                    self.wrote(length);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.out.clear();
                    // What the peer said before it went is still read; it may say why.
                    if self.over.is_none() {
                        self.read();
                    }
                    self.session.handle_disconnect();
                    self.drain();
                    self.out.clear();
                    return;
                }
            }
        }
    }

    fn wrote(&mut self, length: usize) {
        let mut left = self.written + length;
        while let Some(first) = self.out.front() {
            if left < first.bytes.len() {
                break;
            }
            left -= first.bytes.len();
            if let Some((room, written)) = self.out.pop_front().and_then(|write| write.waiting) {
                drop(room);
                // Whoever sent it may have stopped waiting.
                let _told = written.send(());
            }
        }
        self.written = left;
    }

    /// Hands on the events that have room.
    fn deliver(&mut self) {
        while !self.pending.is_empty() {
            let Ok(permit) = self.shared.config.events.try_reserve() else {
                return;
            };
            if let Some(event) = self.pending.pop_front() {
                permit.send(event);
            }
        }
    }

    fn count(&mut self) {
        let (now, then) = (self.session.stats(), self.counted);
        let counters = &self.shared.counters;
        for (counter, now, then) in [
            (&counters.records_in, now.records_in, then.records_in),
            (
                &counters.erroneous,
                now.erroneous_records,
                then.erroneous_records,
            ),
            (&counters.forged, now.forged_records, then.forged_records),
            (
                &counters.early_records,
                now.early_records,
                then.early_records,
            ),
            (
                &counters.late_handshakes,
                now.late_handshakes,
                then.late_handshakes,
            ),
            (&counters.unknown_tlvs, now.unknown_tlvs, then.unknown_tlvs),
        ] {
            if now > then {
                add(counter, now - then);
            }
        }
        self.counted = now;
    }

    /// Lets go of the socket, then tells that the session has ended. Whoever waits for the end of the socket does not wait
    /// for the receiver of the events, which may be the same.
    async fn end(mut self, reason: CloseReason) -> Ended {
        let was_open = self.peer.is_some();
        if let Some(peer) = &self.peer {
            self.shared.registry.remove(peer, self.id);
            self.pending.push_back(Event::Down {
                id: self.id,
                reason: reason.to_string(),
            });
        }
        let counters = &self.shared.counters;
        match &reason {
            CloseReason::Peer(_) => count(&counters.errors_received),
            CloseReason::Local | CloseReason::Lost | CloseReason::Refused(_) => {}
            _ => count(&counters.errors_sent),
        }
        self.deliver();
        let Self {
            shared,
            opened,
            mut stopped,
            pending,
            commands,
            out,
            ..
        } = self;
        // Whoever waits for a Record to be written learns that it was not.
        drop((opened.stream, commands, out));
        let ended = Ended {
            was_open,
            reason: reason.to_string(),
        };
        if pending.is_empty() {
            return ended;
        }
        let mut rest = Box::pin(async move {
            for event in pending {
                if shared.config.events.send(event).await.is_err() {
                    break;
                }
            }
        });
        tokio::select! {
            () = &mut rest => {}
            _ = stopped.wait_for(|stopped| *stopped) => {
                tokio::spawn(rest);
            }
        }
        ended
    }
}

async fn sleep_until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due.into()).await;
    }
}
