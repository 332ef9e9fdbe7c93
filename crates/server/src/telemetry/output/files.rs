//! Files that are written, finished, and renamed when they are: `NAME-20261121T193000123Z.ndjson.zst`. While a file is written its name
//! ends in `.part`; one that a crash left behind is given its name at the next start where its format allows, and stays as it is where not.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{Sending, Sink, SinkError};
use crate::clock::Millis;
use crate::config::NotifOutput;
use crate::telemetry::message::Message;

/// Of a name, the part that tells the time: `20261121T193000123Z`.
const STAMP: usize = 19;

/// A format of files.
pub(super) trait Format: Send + 'static {
    /// Takes messages into the file under way.
    fn write(&mut self, batch: &[Arc<Message>]) -> io::Result<()>;

    /// Puts out what is held back, and ends a file that is old.
    fn tick(&mut self) -> io::Result<()>;

    /// Ends the file under way.
    fn close(&mut self) -> io::Result<()>;
}

/// A format behind a sink: files are written where it holds up nobody.
#[derive(Debug)]
pub(super) struct Blocking<F> {
    /// `None` while it is away in a thread.
    format: Option<F>,
}

impl<F: Format> Blocking<F> {
    pub(super) fn new(format: F) -> Self {
        Self {
            format: Some(format),
        }
    }

    async fn with(
        &mut self,
        work: impl FnOnce(&mut F) -> io::Result<()> + Send + 'static,
    ) -> Result<u64, SinkError> {
        let Some(mut format) = self.format.take() else {
            return Err(SinkError::away("the files' thread ended"));
        };
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&mut format);
            (format, done)
        });
        let (format, done) = done.await.map_err(SinkError::away)?;
        self.format = Some(format);
        done.map(|()| 0).map_err(SinkError::away)
    }
}

impl<F: Format> Sink for Blocking<F> {
    fn deliver<'a>(&'a mut self, batch: &'a [Arc<Message>]) -> Sending<'a> {
        let batch = batch.to_vec();
        Box::pin(self.with(move |format| format.write(&batch)))
    }

    fn tick(&mut self) -> Sending<'_> {
        Box::pin(self.with(Format::tick))
    }

    fn close(&mut self) -> Sending<'_> {
        Box::pin(self.with(Format::close))
    }
}

/// Names, ages and number of an output's files.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    prefix: String,
    suffix: &'static str,
    keep: usize,
    /// Bytes at which a file is ended.
    pub(super) max_size: u64,
    max_age: Duration,
}

/// A file under way.
#[derive(Debug)]
pub(super) struct Part {
    name: PathBuf,
    began: Instant,
}

impl Directory {
    /// Makes the directory when it is missing. `whole` says whether a file that a crash left is good up to its last write.
    pub(super) fn new(
        config: &NotifOutput,
        suffix: &'static str,
        whole: bool,
    ) -> Result<Self, String> {
        let path = config.directory.clone().ok_or("directory: it is missing")?;
        let failed = |error: io::Error| format!("directory: {}: {error}", path.display());
        {
            use std::os::unix::fs::DirBuilderExt as _;
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(&path).map_err(failed)?;
        }
        let directory = Self {
            path: path.clone(),
            prefix: format!("{}-", config.name),
            suffix,
            keep: config.keep_files,
            max_size: config.max_size,
            max_age: Duration::from_secs(config.max_age),
        };
        if whole {
            for left in directory.list(&format!("{suffix}.part")).map_err(failed)? {
                fs::rename(&left, left.with_extension("")).map_err(failed)?;
            }
        }
        Ok(directory)
    }

    /// A new file.
    pub(super) fn create(&self) -> io::Result<(File, Part)> {
        let mut at: Millis = SystemTime::now().into();
        loop {
            let stamp: String = at
                .to_timestamp()
                .chars()
                .filter(|letter| !matches!(letter, '-' | ':' | '.'))
                .collect();
            let base = format!("{}{stamp}{}", self.prefix, self.suffix);
            let (name, part) = (
                self.path.join(&base),
                self.path.join(format!("{base}.part")),
            );
            // Two in one millisecond: the later has the next one's name.
            if !name.exists() {
                let mut options = OpenOptions::new();
                options.write(true).create_new(true);
                {
                    use std::os::unix::fs::OpenOptionsExt as _;
                    options.mode(0o640);
                }
                match options.open(&part) {
                    Ok(file) => {
                        let began = Instant::now();
                        return Ok((file, Part { name, began }));
                    }
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error),
                }
            }
            at = at.plus(Duration::from_millis(1));
        }
    }

    /// A file is complete: it goes to disk under its own name, and the oldest beyond the number go.
    pub(super) fn finish(&self, file: &File, part: Part) -> io::Result<()> {
        file.sync_all()?;
        let mut from = part.name.clone().into_os_string();
        from.push(".part");
        fs::rename(from, &part.name)?;
        File::open(&self.path)?.sync_all()?;
        if self.keep > 0 {
            let all = self.list(self.suffix)?;
            for old in all.iter().take(all.len().saturating_sub(self.keep)) {
                fs::remove_file(old)?;
            }
        }
        Ok(())
    }

    /// Whether a file has its age or size.
    pub(super) fn is_over(&self, part: &Part, size: u64) -> bool {
        size >= self.max_size || part.began.elapsed() >= self.max_age
    }

    /// Our files, the oldest first.
    fn list(&self, suffix: &str) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if self.is_ours(&path, suffix) {
                names.push(path);
            }
        }
        names.sort();
        Ok(names)
    }

    fn is_ours(&self, path: &Path, suffix: &str) -> bool {
        let stamp = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix(self.prefix.as_str()))
            .and_then(|name| name.strip_suffix(suffix));
        // Another output's name may begin with ours.
        stamp.is_some_and(|stamp| stamp.len() == STAMP && stamp.as_bytes().get(8) == Some(&b'T'))
    }
}
