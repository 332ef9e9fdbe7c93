//! A file on its way to a device, whole or from where it broke off.

use std::io;
use std::path::Path;

use axum::body::{Body, Bytes};
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH,
    IF_RANGE, RANGE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{Acs, CHUNK, REPR_DIGEST, SILENCE, Served, Span, Sum, with};
use crate::account::hex;

/// A file, or the range of it that is wanted (RFC 9110 §14).
pub(super) async fn answer(
    acs: &Acs,
    served: Served,
    method: &Method,
    headers: &HeaderMap,
    place: OwnedSemaphorePermit,
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
}
