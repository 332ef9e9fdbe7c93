//! How `homefleet-agent dhcp-event` reaches the running agent: one event as a line of JSON on a UNIX socket, answered with a line.
//!
//! A DHCP client often has its lease before the agent has started. What nobody takes waits in a directory beside the socket, the last
//! event of each device or interface, and is read at the start.

use std::{
    fs, io,
    io::{Read as _, Write as _},
    os::unix::{
        fs::{DirBuilderExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
    sync::Semaphore,
};

use super::{Shared, event::Event, event::is_interface};

/// Longest line.
const MAX_LINE: usize = 4096;
/// Most events that wait for the agent's start.
const MAX_WAITING: usize = 1024;
/// Connections at the same time; others wait.
const MAX_CONNECTIONS: usize = 16;
/// How long one may take: a DHCP client waits for its script.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The agent took it.
    Taken,
    /// No agent runs: it will be read at the start.
    Waits,
}

/// An event that waits.
#[derive(Deserialize, Serialize)]
struct Waiting {
    /// Seconds since 1970.
    at: u64,
    event: Event,
}

/// Tells the agent at `socket`, or whichever starts there next.
///
/// # Errors
///
/// When the agent refuses the event, does not answer, or it cannot be left for it.
pub fn tell(socket: &Path, event: &Event) -> io::Result<Told> {
    if let Event::Acknowledged { interface, .. } | Event::Lost { interface } = event
        && !is_interface(interface)
    {
        let reason = format!("{interface:?} is not the name of an interface");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    let mut stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            leave(socket, event)?;
            return Ok(Told::Waits);
        }
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(event).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    stream.take(MAX_LINE as u64).read_to_string(&mut answer)?;
    match answer.trim_end() {
        "ok" => Ok(Told::Taken),
        "" => Err(io::Error::other("the agent ended before it answered")),
        refused => Err(io::Error::other(refused.to_owned())),
    }
}

fn directory(socket: &Path) -> PathBuf {
    socket.with_extension("waiting")
}

fn leave(socket: &Path, event: &Event) -> io::Result<()> {
    let directory = directory(socket);
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&directory)?;
    let name = match event {
        Event::Leased { mac, .. } | Event::Ended { mac, .. } => format!("device-{mac}"),
        Event::Acknowledged { interface, .. } | Event::Lost { interface } => {
            format!("interface-{interface}")
        }
    };
    let file = directory.join(name);
    if !file.exists() && fs::read_dir(&directory)?.count() >= MAX_WAITING {
        return Err(io::Error::other("too many events wait for the agent"));
    }
    let waiting = Waiting {
        at: seconds(SystemTime::now()),
        event: event.clone(),
    };
    let text = serde_json::to_vec(&waiting).map_err(io::Error::other)?;
    let new = directory.join(format!("new-{}", std::process::id()));
    fs::write(&new, text)?;
    fs::rename(&new, &file)
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Takes what waits, in the order in which it came.
pub(super) fn take_waiting(shared: &Shared, now: Instant, wall: SystemTime) {
    let directory = directory(&shared.settings().socket);
    let Ok(files) = fs::read_dir(&directory) else {
        return;
    };
    let mut waiting = Vec::new();
    for file in files.flatten().take(MAX_WAITING) {
        let short = file
            .metadata()
            .is_ok_and(|metadata| metadata.len() <= MAX_LINE as u64);
        let text = if short {
            fs::read(file.path()).ok()
        } else {
            None
        };
        match text.and_then(|text| serde_json::from_slice::<Waiting>(&text).ok()) {
            Some(event) => waiting.push(event),
            None => shared.malformed(),
        }
        if let Err(error) = fs::remove_file(file.path()) {
            tracing::warn!(file = %file.path().display(), %error, "an event of DHCP stays");
        }
    }
    waiting.sort_by_key(|waiting| waiting.at);
    for Waiting { at, mut event } in waiting {
        let passed = seconds(wall).saturating_sub(at);
        if let Event::Leased { lease, .. } | Event::Acknowledged { lease, .. } = &mut event
            && let Some(left) = lease
        {
            *left = left.saturating_sub(passed);
        }
        shared.handle(now, event);
    }
}

/// Takes events at the socket; only its owner may connect.
pub(super) fn listen(socket: &Path) -> io::Result<UnixListener> {
    // One of an earlier run, whose process has ended.
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

pub(super) async fn serve(listener: UnixListener, shared: Shared) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "an event of DHCP could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            // One that takes too long has its own patience.
            tokio::time::timeout(PATIENCE, answer(stream, &shared))
                .await
                .ok();
            drop(permit);
        });
    }
}

async fn answer(mut stream: tokio::net::UnixStream, shared: &Shared) {
    let mut line = Vec::new();
    let mut buffer = [0; 512];
    while !line.contains(&b'\n') && line.len() <= MAX_LINE {
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => line.extend_from_slice(buffer.get(..count).unwrap_or(&[])),
            _ => break,
        }
    }
    let answer = match serde_json::from_slice::<Event>(line.trim_ascii_end()) {
        _ if line.len() > MAX_LINE => Err("too long".to_owned()),
        Ok(Event::Acknowledged { interface, .. } | Event::Lost { interface })
            if !is_interface(&interface) =>
        {
            Err(format!("{interface:?} is not the name of an interface"))
        }
        Ok(event) => Ok(event),
        Err(error) => Err(error.to_string()),
    };
    let text = match answer {
        Ok(event) => {
            tracing::debug!(?event, "DHCP");
            shared.handle(Instant::now(), event);
            "ok\n".to_owned()
        }
        Err(reason) => {
            shared.malformed();
            format!("refused: {reason}\n")
        }
    };
    // Whoever asked may be gone.
    stream.write_all(text.as_bytes()).await.ok();
    stream.shutdown().await.ok();
}
