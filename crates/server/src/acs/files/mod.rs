//! Files that devices fetch (Download) and send (Upload): at secret URLs, one for each task, good as long as the task is open.
//!
//! ```text
//! /files/TASK/TAG/NAME     GET, HEAD: the file NAME, whole or a range of it
//! /files/TASK/TAG          PUT: what the device sends, whole or piece by piece; HEAD: how much of it is there
//! ```
//!
//! TAG is a MAC over the rest under a key of the data directory, so that it is good after a restart and nothing has to be remembered. What a device sends is on
//! disk, whole, before it is told so.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use homefleet_api::{Operation, TaskError};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use super::keeper::Keeper;
use super::program::impossible;
use super::{Acs, lock};
use crate::account::hex;
use crate::store::TaskRecord;

mod fetch;
mod take;

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
pub(super) fn is_ours(command: &str, args: &BTreeMap<String, String>) -> bool {
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
        _ => {
            acs.counted().refused_files += 1;
            return refused;
        }
    };
    let known = bool::from(right.as_bytes().ct_eq(tag.as_bytes()));
    let open = known && acs.0.core.state().queue.answerable(task).is_some();
    if !open {
        acs.counted().refused_files += 1;
        return refused;
    }
    let Ok(place) = files.room.clone().try_acquire_owned() else {
        acs.counted().overloaded += 1;
        return super::http::come_again();
    };
    match (name, method) {
        (Some(name), &Method::GET | &Method::HEAD) => match files.served(name).await {
            Ok(served) => fetch::answer(acs, served, method, headers, place).await,
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
