//! Files that devices fetch (Download) and send (Upload): at secret URLs, one for each task, good as long as the task is open.
//!
//! ```text
//! /files/TASK/TAG/NAME     GET, HEAD: the file NAME, whole or a range of it
//! /files/TASK/TAG          PUT: what the device sends, whole or piece by piece; HEAD: how much of it is there
//! ```
//!
//! TAG is a MAC over the rest under a key of the data directory, so that it is good after a restart and nothing has to be remembered. What a device sends is on
//! disk, whole, before it is told so.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes};
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH,
    IF_RANGE, RANGE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use homefleet_api::{Operation, TaskError};
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc};

use super::keeper::Keeper;
use super::program::impossible;
use super::{Acs, lock};
use crate::account::hex;
use crate::store::TaskRecord;

/// What the paths of files begin with.
const PREFIX: &str = "/files/";
/// Where in the directory what devices send is kept.
const UPLOADS: &str = "uploads";
/// Longest name of a file, in bytes.
const MAX_NAME: usize = 128;
/// Most transfers at a time; beyond it devices are told to come again.
const TRANSFERS: usize = 256;
/// Bytes read and sent at once.
const CHUNK: usize = 64 * 1024;
/// How long a device may be silent in the middle of a file.
const SILENCE: Duration = Duration::from_secs(60);
/// Most files whose checksum is remembered.
const MOST_SUMS: usize = 4096;
/// RFC 9530 §3: a checksum of the whole file.
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// The file server.
pub(super) struct Files {
    directory: PathBuf,
    /// What URLs begin with; `None`: where the device found the ACS.
    url: Option<String>,
    max_upload: u64,
    room: Arc<Semaphore>,
    /// Tasks that are sent to at this moment.
    sending: Mutex<HashSet<String>>,
    sums: Mutex<HashMap<String, Sum>>,
}

/// A checksum, and of which state of the file.
#[derive(Clone)]
struct Sum {
    length: u64,
    modified: Option<SystemTime>,
    sha256: [u8; 32],
}

/// A file that devices may fetch.
struct Served {
    path: PathBuf,
    sum: Sum,
}

/// Bytes from `from` up to and without `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from: u64,
    to: u64,
}

impl Files {
    /// Serves this directory.
    ///
    /// # Errors
    /// When it cannot be used, in words.
    pub(super) fn open(
        directory: &Path,
        url: Option<&str>,
        max_upload: u64,
    ) -> Result<Self, String> {
        std::fs::create_dir_all(directory.join(UPLOADS))
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        Ok(Self {
            directory: directory.to_owned(),
            url: url.map(|url| url.trim_end_matches('/').to_owned()),
            max_upload,
            room: Arc::new(Semaphore::new(TRANSFERS)),
            sending: Mutex::default(),
            sums: Mutex::default(),
        })
    }

    /// The operation as the device is told it: a file of ours gets its URL, and a place for what it sends too. `found_at`: where the device found the ACS.
    ///
    /// # Errors
    /// When the file is not there.
    pub(super) async fn address(
        &self,
        keeper: &Keeper,
        task: &TaskRecord,
        found_at: &str,
    ) -> Result<Operation, TaskError> {
        let mut operation = task.operation.clone();
        let Operation::Operate { command, args, .. } = &mut operation else {
            return Ok(operation);
        };
        if !is_ours(command, args) {
            return Ok(operation);
        }
        let base = self.url.as_deref().unwrap_or(found_at);
        let id = &task.id;
        let url = if command.ends_with("Upload()") {
            format!("{base}{PREFIX}{id}/{}", keeper.tag(&["put", id]))
        } else {
            let name = args.remove("File").unwrap_or_default();
            let served = self.served(&name).await;
            let served =
                served.map_err(|error| impossible(&format!("the file {name}: {error}")))?;
            args.entry("FileSize".to_owned())
                .or_insert_with(|| served.sum.length.to_string());
            format!(
                "{base}{PREFIX}{id}/{}/{name}",
                keeper.tag(&["get", id, &name])
            )
        };
        args.insert("URL".to_owned(), url);
        Ok(operation)
    }

    /// What a task's device has sent: its place in the directory, its length and its checksum.
    pub(super) async fn sent(&self, task: &str) -> Option<Vec<(String, String)>> {
        let name = format!("{UPLOADS}/{task}");
        let sum = self.sum(&name, &self.directory.join(&name)).await.ok()?;
        Some(vec![
            ("File".to_owned(), name),
            ("Size".to_owned(), sum.length.to_string()),
            ("SHA256".to_owned(), hex(&sum.sha256)),
        ])
    }

    async fn served(&self, name: &str) -> io::Result<Served> {
        if !is_name(name) {
            let why = "a name has letters, digits, `.`, `_` and `-`, and does not begin with a dot";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let path = self.directory.join(name);
        let sum = self.sum(name, &path).await?;
        Ok(Served { path, sum })
    }

    /// The checksum of a file, computed once for each state of it.
    async fn sum(&self, name: &str, path: &Path) -> io::Result<Sum> {
        let data = tokio::fs::symlink_metadata(path).await?;
        if !data.is_file() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "not a file"));
        }
        let (length, modified) = (data.len(), data.modified().ok());
        if let Some(sum) = lock(&self.sums).get(name)
            && (sum.length, sum.modified) == (length, modified)
        {
            return Ok(sum.clone());
        }
        let path = path.to_owned();
        let summed = tokio::task::spawn_blocking(move || {
            let mut hash = Sha256::new();
            let mut file = std::fs::File::open(path)?;
            let mut bytes = vec![0; CHUNK];
            loop {
                match io::Read::read(&mut file, &mut bytes)? {
                    0 => return Ok::<[u8; 32], io::Error>(hash.finalize().into()),
                    read => hash.update(bytes.get(..read).unwrap_or_default()),
                }
            }
        });
        let sha256 = summed.await.map_err(io::Error::other)??;
        let sum = Sum {
            length,
            modified,
            sha256,
        };
        let mut sums = lock(&self.sums);
        if sums.len() >= MOST_SUMS {
            sums.clear();
        }
        sums.insert(name.to_owned(), sum.clone());
        Ok(sum)
    }
}

/// Whether a command names a file of ours rather than a URL.
pub(super) fn is_ours(command: &str, args: &std::collections::BTreeMap<String, String>) -> bool {
    let has = |name: &str| args.get(name).is_some_and(|text| !text.is_empty());
    let down = command.ends_with("Download()") && has("File");
    (down || command.ends_with("Upload()")) && !has("URL")
}

fn is_name(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(fine)
}

/// Whether a path is one of files.
pub(super) fn is_path(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// Answers a request for a file, or with one. Whoever does not know the URL learns nothing, not even whether there is such a task.
pub(super) async fn answer(
    acs: &Acs,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: Body,
) -> Response {
    let refused = StatusCode::NOT_FOUND.into_response();
    let Some(files) = &acs.0.files else {
        return refused;
    };
    let parts: Vec<&str> = path.trim_start_matches(PREFIX).split('/').collect();
    let (task, tag, right, name) = match parts.as_slice() {
        [task, tag] => (*task, *tag, acs.0.keeper.tag(&["put", task]), None),
        [task, tag, name] => {
            let right = acs.0.keeper.tag(&["get", task, name]);
            (*task, *tag, right, Some(*name))
        }
        _ => return refused,
    };
    let known = bool::from(right.as_bytes().ct_eq(tag.as_bytes()));
    let open = known && acs.0.core.state().queue.answerable(task).is_some();
    if !open {
        acs.counted().refused_files += 1;
        return refused;
    }
    let Ok(_place) = files.room.clone().try_acquire_owned() else {
        acs.counted().overloaded += 1;
        return super::http::come_again();
    };
    match (name, method) {
        (Some(name), &Method::GET | &Method::HEAD) => match files.served(name).await {
            Ok(served) => fetched(acs, served, method, headers, _place).await,
            Err(_) => refused,
        },
        (None, &Method::HEAD) => match files.length(task).await {
            Some(length) => with(StatusCode::OK, [(CONTENT_LENGTH, length.to_string())]),
            None => refused,
        },
        (None, &Method::PUT) => {
            if !lock(&files.sending).insert(task.to_owned()) {
                return StatusCode::CONFLICT.into_response();
            }
            let response = files.take(task, headers, body).await;
            lock(&files.sending).remove(task);
            acs.counted().uploads += u64::from(response.status() == StatusCode::CREATED);
            response
        }
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

/// A file, or the range of it that is wanted (RFC 9110 §14).
async fn fetched(
    acs: &Acs,
    served: Served,
    method: &Method,
    headers: &HeaderMap,
    place: tokio::sync::OwnedSemaphorePermit,
) -> Response {
    let Sum { length, sha256, .. } = served.sum;
    let tag = format!("\"{}\"", hex(&sha256));
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let common = [
        (ETAG, tag.clone()),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (
            REPR_DIGEST,
            format!("sha-256=:{}:", STANDARD.encode(sha256)),
        ),
    ];
    if text(IF_NONE_MATCH).is_some_and(|known| known == "*" || known.contains(&tag)) {
        return with(StatusCode::NOT_MODIFIED, common);
    }
    // A range of another state of the file would not fit what the device has.
    let wanted = text(RANGE).filter(|_| text(IF_RANGE).is_none_or(|known| known == tag));
    let (status, span) = match wanted.map(|range| span(range, length)) {
        None | Some(Wanted::Whole) => {
            let span = Span {
                from: 0,
                to: length,
            };
            (StatusCode::OK, span)
        }
        Some(Wanted::Part(span)) => (StatusCode::PARTIAL_CONTENT, span),
        Some(Wanted::Nothing) => {
            let range = [(CONTENT_RANGE, format!("bytes */{length}"))];
            return with(StatusCode::RANGE_NOT_SATISFIABLE, range);
        }
    };
    let mut response = with(status, common);
    let put = |response: &mut Response, name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    };
    put(
        &mut response,
        CONTENT_LENGTH,
        (span.to - span.from).to_string(),
    );
    let media = "application/octet-stream".to_owned();
    put(&mut response, CONTENT_TYPE, media);
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {}-{}/{length}", span.from, span.to - 1);
        put(&mut response, CONTENT_RANGE, range);
    }
    if method == Method::GET {
        acs.counted().downloads += 1;
        let (pieces, sent) = mpsc::channel(2);
        tokio::spawn(async move {
            let read = pour(&served.path, span, &pieces).await;
            if let Err(error) = read {
                // The body ends too early then, and the device sees that.
                tracing::warn!(file = %served.path.display(), %error, "a file could not be read to its end");
                drop(pieces.send(Err(error)).await);
            }
            drop(place);
        });
        let stream = tokio_stream::wrappers::ReceiverStream::new(sent);
        *response.body_mut() = Body::from_stream(stream);
    }
    response
}

/// Reads a part of a file piece by piece, as fast as it is taken.
async fn pour(path: &Path, span: Span, pieces: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(io::SeekFrom::Start(span.from)).await?;
    let mut left = span.to - span.from;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let mut piece = vec![0; most];
        let read = file.read(&mut piece).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        piece.truncate(read);
        left -= read as u64;
        let sent = tokio::time::timeout(SILENCE, pieces.send(Ok(piece.into())));
        if !matches!(sent.await, Ok(Ok(()))) {
            // It went away.
            return Ok(());
        }
    }
    Ok(())
}

/// What a Range header wants.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// It is no range of bytes, or several.
    Whole,
    Part(Span),
    /// None of it is there.
    Nothing,
}

/// Reads `bytes=a-b`, `bytes=a-` or `bytes=-n` (RFC 9110 §14.1.2).
fn span(range: &str, length: u64) -> Wanted {
    let Some((first, last)) = range
        .trim()
        .strip_prefix("bytes=")
        .filter(|range| !range.contains(','))
        .and_then(|range| range.split_once('-'))
    else {
        return Wanted::Whole;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let span = match (number(first), number(last)) {
        (Some(from), Some(last)) if from <= last => Span {
            from,
            to: last.saturating_add(1).min(length),
        },
        (Some(from), None) if last.trim().is_empty() => Span { from, to: length },
        (None, Some(last)) if first.trim().is_empty() => Span {
            from: length.saturating_sub(last),
            to: length,
        },
        _ => return Wanted::Whole,
    };
    if span.from < span.to {
        Wanted::Part(span)
    } else {
        Wanted::Nothing
    }
}

impl Files {
    fn places(&self, task: &str) -> (PathBuf, PathBuf) {
        let whole = self.directory.join(UPLOADS).join(task);
        (whole.with_extension("part"), whole)
    }

    /// How much a device has sent.
    async fn length(&self, task: &str) -> Option<u64> {
        let (part, whole) = self.places(task);
        for path in [whole, part] {
            if let Ok(data) = tokio::fs::metadata(path).await {
                return Some(data.len());
            }
        }
        None
    }

    /// Takes what a device sends: whole, or a piece that begins where the last one ended (RFC 9110 §14.5).
    async fn take(&self, task: &str, headers: &HeaderMap, body: Body) -> Response {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let (part, whole) = self.places(task);
        let piece = match text(CONTENT_RANGE) {
            None => None,
            Some(range) => match piece(range) {
                Some(piece) => Some(piece),
                None => return StatusCode::BAD_REQUEST.into_response(),
            },
        };
        let there = match tokio::fs::metadata(&part).await {
            Ok(data) => data.len(),
            Err(_) => 0,
        };
        let from = piece.map_or(0, |(span, _)| span.from);
        if from != 0 && from != there {
            let range = [(CONTENT_RANGE, format!("bytes */{there}"))];
            return with(StatusCode::RANGE_NOT_SATISFIABLE, range);
        }
        let told = text(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        let total = piece.map(|(_, total)| total).or(told);
        if total.is_some_and(|total| total > self.max_upload) {
            return StatusCode::PAYLOAD_TOO_LARGE.into_response();
        }
        let written = match self.write(&part, from, body).await {
            Ok(Some(written)) => written,
            Ok(None) => {
                drop(tokio::fs::remove_file(&part).await);
                return StatusCode::PAYLOAD_TOO_LARGE.into_response();
            }
            Err(error) => {
                tracing::debug!(task, %error, "what a device sends broke off");
                return StatusCode::BAD_REQUEST.into_response();
            }
        };
        if let Some((span, total)) = piece {
            if written != span.to {
                return StatusCode::BAD_REQUEST.into_response();
            }
            if written < total {
                return StatusCode::NO_CONTENT.into_response();
            }
        }
        match self.finish(task, &part, &whole, text(REPR_DIGEST)).await {
            Ok(true) => StatusCode::CREATED.into_response(),
            Ok(false) => StatusCode::BAD_REQUEST.into_response(),
            Err(error) => {
                tracing::error!(task, %error, "what a device sent could not be kept");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }

    /// Writes a body from here on; how long the file is then, or `None` when that is too long.
    async fn write(&self, part: &Path, from: u64, mut body: Body) -> io::Result<Option<u64>> {
        let mut options = tokio::fs::OpenOptions::new();
        options.create(true).write(true).truncate(false).mode(0o600);
        let mut file = options.open(part).await?;
        file.set_len(from).await?;
        file.seek(io::SeekFrom::Start(from)).await?;
        let mut length = from;
        loop {
            let frame = tokio::time::timeout(SILENCE, body.frame()).await;
            let Some(frame) = frame.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))? else {
                break;
            };
            let Ok(data) = frame.map_err(io::Error::other)?.into_data() else {
                continue;
            };
            length += data.len() as u64;
            if length > self.max_upload {
                return Ok(None);
            }
            file.write_all(&data).await?;
        }
        file.sync_all().await?;
        Ok(Some(length))
    }

    /// Puts what was sent in its place, when it is what the device says it is.
    async fn finish(
        &self,
        task: &str,
        part: &Path,
        whole: &Path,
        digest: Option<&str>,
    ) -> io::Result<bool> {
        if let Some(digest) = digest {
            let sum = self.sum(&format!("{UPLOADS}/{task}.part"), part).await?;
            let own = format!("sha-256=:{}:", STANDARD.encode(sum.sha256));
            let known = digest.split(',').map(str::trim);
            let mut known = known.filter(|digest| digest.starts_with("sha-256="));
            if known.any(|digest| digest != own) {
                tokio::fs::remove_file(part).await?;
                return Ok(false);
            }
        }
        tokio::fs::rename(part, whole).await?;
        tokio::fs::File::open(self.directory.join(UPLOADS))
            .await?
            .sync_all()
            .await?;
        Ok(true)
    }
}

/// `bytes a-b/total`.
fn piece(range: &str) -> Option<(Span, u64)> {
    let (range, total) = range.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (from, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total: u64 = total.trim().parse().ok()?;
    let span = Span {
        from,
        to: last.checked_add(1)?,
    };
    (from <= last && last < total).then_some((span, total))
}

fn with<const N: usize>(status: StatusCode, headers: [(HeaderName, String); N]) -> Response {
    let mut response = status.into_response();
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_has_them() {
        let part = |from, to| Wanted::Part(Span { from, to });
        for (range, wanted) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=2-5", part(2, 6)),
            ("bytes=2-", part(2, 10)),
            ("bytes=-3", part(7, 10)),
            ("bytes=-30", part(0, 10)),
            ("bytes=9-100", part(9, 10)),
            ("bytes=0-18446744073709551615", part(0, 10)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
            ("", Wanted::Whole),
        ] {
            assert_eq!(span(range, 10), wanted, "{range}");
        }
        assert_eq!(span("bytes=0-", 0), Wanted::Nothing);
    }

    #[test]
    fn pieces_say_where_they_belong() {
        let span = |from, to| Span { from, to };
        assert_eq!(piece("bytes 0-4/10"), Some((span(0, 5), 10)));
        assert_eq!(piece("bytes 5-9/10"), Some((span(5, 10), 10)));
        for wrong in [
            "bytes 5-10/10",
            "bytes 5-4/10",
            "bytes */10",
            "bytes 0-4/*",
            "bytes 0-18446744073709551615/18446744073709551615",
            "0-4/10",
            "",
        ] {
            assert_eq!(piece(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["firmware.bin", "a", "A_1-2.tar.gz", &"a".repeat(128)] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            ".key",
            "a/b",
            "../a",
            "a b",
            "a%2f",
            "\u{e4}",
            &"a".repeat(129),
        ] {
            assert!(!is_name(name), "{name}");
        }
    }
}
