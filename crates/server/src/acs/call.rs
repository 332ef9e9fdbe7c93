//! Connection Requests over TCP (TR-069 §3.2.2): an HTTP GET, with Digest.

use std::net::IpAddr;
use std::time::Duration;

use axum::http::Request;
use axum::http::header::{AUTHORIZATION, CONNECTION, HOST, WWW_AUTHENTICATE};
use homefleet_cwmp::auth::DigestClient;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::reach::Reach;
use crate::store::DeviceRecord;

/// How long a device may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// Calls a device. On success it will open a session.
///
/// # Errors
/// What went wrong, in words.
pub(super) async fn call(
    device: &DeviceRecord,
    login: Option<(String, Zeroizing<String>)>,
    reach: &Reach,
) -> Result<(), String> {
    let known = device.cwmp.as_ref();
    let url = known
        .and_then(|cwmp| cwmp.connection_request_url.as_deref())
        .ok_or("the device told no address for Connection Requests; it is waited for")?;
    let (username, password) = login
        .as_ref()
        .map_or(("", ""), |(username, password)| (username, password));
    let from = known.and_then(|cwmp| cwmp.address.as_deref());
    let from = from.and_then(|address| address.parse().ok());
    let allowed = |to: IpAddr| reach.allows(to, from);
    tokio::time::timeout(ANSWERS_WITHIN, get(url, username, password, allowed))
        .await
        .map_err(|_| format!("{url}: no answer to the Connection Request"))?
        .map_err(|problem| format!("{url}: {problem}"))
}

async fn get(
    url: &str,
    username: &str,
    password: &str,
    allowed: impl Fn(IpAddr) -> bool,
) -> Result<(), String> {
    let rest = url
        .strip_prefix("http://")
        .ok_or("Connection Requests go to http URLs")?;
    let (host, target) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    };
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let found = tokio::net::lookup_host(&address)
        .await
        .map_err(|error| error.to_string())?;
    // The very address that was looked at is called: a name may lead elsewhere the next time.
    let address = found
        .into_iter()
        .find(|found| allowed(found.ip()))
        .ok_or("Connection Requests do not go there; acs.call_networks says where they may")?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| format!("no randomness: {error}"))?;
    // Basic would tell the password to whoever answers.
    let mut login = DigestClient::new(username, password.into(), false, seed);
    for _ in 0..3 {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| error.to_string())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let driven = tokio::spawn(connection);
        let mut request = Request::get(target)
            .header(HOST, host)
            .header(CONNECTION, "close");
        if let Some(authorization) = login.authorization("GET", target) {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await;
        driven.abort();
        let response = response.map_err(|error| error.to_string())?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        if status.as_u16() != 401 {
            return Err(format!(
                "the device answered the Connection Request with {status}"
            ));
        }
        let challenges = response.headers().get_all(WWW_AUTHENTICATE).into_iter();
        let challenges: Vec<_> = challenges.filter_map(|value| value.to_str().ok()).collect();
        login
            .challenged(&challenges)
            .map_err(|error| error.to_string())?;
    }
    Err("the device does not take the credentials of its Connection Requests".to_owned())
}
