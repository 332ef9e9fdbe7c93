//! One request and its answer (RFC 9112).

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::address::Address;
use super::{FetchConfig, FetchError};

/// Addresses of a host that are tried.
const MAX_ADDRESSES: usize = 4;
/// Bytes of the head of an answer.
const MAX_HEAD: usize = 16 * 1024;

/// Fetches: POST of an OCSP request when there is one, GET of a list otherwise. At most `limit` bytes come back.
pub(super) async fn exchange(
    address: &Address,
    body: Option<Vec<u8>>,
    limit: usize,
    config: &FetchConfig,
) -> Result<Vec<u8>, FetchError> {
    timeout(config.timeout, async {
        let stream = connect(address, config.connect_timeout).await?;
        let response = send(stream, request(address, body)?).await?;
        read(response, limit).await
    })
    .await
    .unwrap_or(Err(FetchError::Timeout))
}

async fn connect(address: &Address, limit: Duration) -> Result<TcpStream, FetchError> {
    let found = timeout(
        limit,
        tokio::net::lookup_host((address.host.as_str(), address.port)),
    )
    .await
    .map_err(|_| FetchError::Timeout)?
    .map_err(|error| FetchError::Resolve(error.to_string()))?;
    let mut last = FetchError::Resolve("the name has no address".to_owned());
    for addr in found.take(MAX_ADDRESSES).collect::<Vec<SocketAddr>>() {
        match timeout(limit, TcpStream::connect(addr)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = FetchError::Connect(error.to_string()),
            Err(_) => last = FetchError::Timeout,
        }
    }
    Err(last)
}

fn request(address: &Address, body: Option<Vec<u8>>) -> Result<Request<Full<Bytes>>, FetchError> {
    let request = Request::builder()
        .uri(&address.target)
        .header(HOST, &address.authority)
        .header(USER_AGENT, concat!("homefleet/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close");
    match body {
        Some(body) => request
            .method(Method::POST)
            .header(CONTENT_TYPE, "application/ocsp-request")
            .header(ACCEPT, "application/ocsp-response")
            .body(Full::new(body.into())),
        None => request
            .method(Method::GET)
            .header(ACCEPT, "application/pkix-crl, */*;q=0.5")
            .body(Full::default()),
    }
    .map_err(|error| FetchError::Http(error.to_string()))
}

async fn send(
    stream: TcpStream,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, FetchError> {
    let broken = |error: hyper::Error| FetchError::Http(error.to_string());
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // It ends with the body, or when the body is dropped.
    tokio::spawn(async move { drop(connection.await) });
    sender.send_request(request).await.map_err(broken)
}

async fn read(response: Response<Incoming>, limit: usize) -> Result<Vec<u8>, FetchError> {
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status().as_u16()));
    }
    let headers = response.headers();
    if headers
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(FetchError::Encoded);
    }
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(FetchError::TooLarge { limit });
    }
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| FetchError::Http(error.to_string()))?;
        if let Some(data) = frame.data_ref() {
            if bytes.len() + data.len() > limit {
                return Err(FetchError::TooLarge { limit });
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes)
}
