//! A file on its way from a device, whole or piece by piece.

use std::io;
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderName};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use super::{Files, REPR_DIGEST, SILENCE, Span, UPLOADS, with};

impl Files {
    fn places(&self, task: &str) -> (PathBuf, PathBuf) {
        let whole = self.directory.join(UPLOADS).join(task);
        (whole.with_extension("part"), whole)
    }

    /// How much a device has sent.
    pub(super) async fn length(&self, task: &str) -> Option<u64> {
        let (part, whole) = self.places(task);
        for path in [whole, part] {
            if let Ok(data) = tokio::fs::metadata(path).await {
                return Some(data.len());
            }
        }
        None
    }

    /// Takes what a device sends: whole, or a piece that begins where the last one ended (RFC 9110 §14.5).
    pub(super) async fn take(&self, task: &str, headers: &HeaderMap, body: Body) -> Response {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
