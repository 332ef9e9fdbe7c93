//! The listening side: the socket file, and who is let in.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use homefleet_usp::mtp::uds::{Frame, frame};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::session::{self, Opened};
use super::{Shared, check_path, count, user_of};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// Pause after a failure to accept, such as no file descriptor left, which would otherwise fail again at once.
const BREATH: Duration = Duration::from_millis(100);

/// A socket that listens, and its file.
pub(super) struct Bound {
    listener: UnixListener,
    _file: SocketFile,
}

/// The file of a listening socket; removed with this, unless another took its place.
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket file stays behind");
        }
    }
}

/// Makes the socket file with these permissions and listens on it. Nobody can connect before the permissions are set.
pub(super) fn bind(path: &Path, mode: u32) -> io::Result<Bound> {
    check_path(path)?;
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket
        .bind(&SockAddr::unix(path)?)
        .map_err(|error| told(error, path, "cannot be made"))?;
    let made = fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        device: made.dev(),
        inode: made.ino(),
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777))?;
    socket.listen(BACKLOG)?;
    let listener = UnixListener::from_std(socket.into())?;
    Ok(Bound {
        listener,
        _file: file,
    })
}

/// Removes what an earlier process left behind: a socket on which nobody listens. Nothing else is touched.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(told(error, path, "cannot be looked at")),
    };
    if !found.file_type().is_socket() {
        let error = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(told(error, path, "is there and is no socket"));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| told(error, path, "cannot be removed"))
        }
        // Connected, or the server is too busy to be connected to.
        Ok(()) => Err(in_use(path)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(in_use(path)),
        Err(error) => Err(told(error, path, "cannot be tried")),
    }
}

fn in_use(path: &Path) -> io::Error {
    let error = io::Error::from(io::ErrorKind::AddrInUse);
    told(error, path, "has a server already")
}

fn told(error: io::Error, path: &Path, what: &str) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("the socket {} {what}: {error}", path.display()),
    )
}

/// Lets others in until told to stop.
pub(super) async fn accept(
    shared: Arc<Shared>,
    bound: Bound,
    allowed: Option<Vec<u32>>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            accepted = bound.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => admit(&shared, stream, allowed.as_deref(), &stopped),
            Err(error) => {
                count(&shared.counters.accept_failed);
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

fn admit(
    shared: &Arc<Shared>,
    stream: UnixStream,
    allowed: Option<&[u32]>,
    stopped: &watch::Receiver<bool>,
) {
    count(&shared.counters.accepted);
    let uid = match user_of(&stream, allowed) {
        Ok(uid) => uid,
        Err(why) => {
            count(&shared.counters.refused_user);
            tracing::info!(%why, "a connection was refused");
            return turn_away(&stream, "this user is not allowed here");
        }
    };
    let Ok(room) = shared.room.clone().try_acquire_owned() else {
        count(&shared.counters.refused_full);
        return turn_away(&stream, "too many sessions");
    };
    let opened = Opened {
        stream,
        uid,
        connection: None,
        expected: None,
        status: None,
    };
    let (shared, stopped) = (shared.clone(), stopped.clone());
    tokio::spawn(async move {
        session::run(shared, opened, stopped).await;
        drop(room);
    });
}

/// Says why in an Error, if the peer can take it at once, and lets go (R-UDS.21).
fn turn_away(stream: &UnixStream, why: &str) {
    if let Err(error) = stream.try_write(&Frame::one(frame::ERROR, why).encode()) {
        tracing::trace!(%error, "a peer could not be told why it was turned away");
    }
}
