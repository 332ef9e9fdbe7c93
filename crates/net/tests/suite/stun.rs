//! STUN and UDP Connection Requests over loopback: a device, the operator's server, and the peers of the field.

use std::net::SocketAddr;
use std::time::Duration;

use homefleet_net::stun::{
    Device, DeviceConfig, DeviceEvent, Learned, Server, ServerConfig, StunSettings, WakeError,
    Waker,
};
use homefleet_tr111::client::Event;
use homefleet_tr111::connection_request::{ConnectionRequest, Last, authority};
use tokio::sync::mpsc;

use crate::support::live::free_port;
use crate::support::tool::{Tool, have};

const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const USERNAME: &str = "cpe-0001";
pub(crate) const PASSWORD: &[u8] = b"a strong password";
pub(crate) const WAKER: &str = "wake me";

pub(crate) fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

pub(crate) fn settings(server: SocketAddr) -> DeviceConfig {
    DeviceConfig {
        stun: Some(StunSettings {
            host: server.ip().to_string(),
            port: server.port(),
            username: USERNAME.into(),
            password: PASSWORD.into(),
            minimum: Duration::from_secs(8),
            maximum: Some(Duration::from_secs(30)),
        }),
        waker: waker(),
    }
}

pub(crate) fn waker() -> Waker {
    Waker {
        username: WAKER.into(),
        password: b"only the ACS knows".into(),
    }
}

/// A UDP Connection Request for whoever listens at `to`.
pub(crate) fn request(to: SocketAddr, timestamp: u64) -> Vec<u8> {
    let request = ConnectionRequest {
        timestamp,
        id: timestamp * 7,
        username: WAKER.into(),
        cnonce: "XTGRWIPC6D3IPXS3".into(),
    };
    request.encode(&authority(to), &waker().password)
}

async fn next(events: &mut mpsc::Receiver<DeviceEvent>) -> DeviceEvent {
    tokio::time::timeout(LIMIT, events.recv())
        .await
        .unwrap()
        .unwrap()
}

async fn learned(told: &mut mpsc::Receiver<Learned>) -> Learned {
    tokio::time::timeout(LIMIT, told.recv())
        .await
        .unwrap()
        .unwrap()
}

async fn woken(events: &mut mpsc::Receiver<DeviceEvent>) -> (ConnectionRequest, Last) {
    loop {
        if let DeviceEvent::Woken { request, last } = next(events).await {
            return (request, last);
        }
    }
}

/// Waits until `done`; nothing tells when a datagram was ignored.
async fn until(mut done: impl FnMut() -> bool) {
    let limit = tokio::time::Instant::now() + LIMIT;
    while !done() {
        assert!(tokio::time::Instant::now() < limit, "not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_device_tells_its_binding_and_is_woken_from_the_same_socket() {
    let (server, mut told) = Server::bind(ServerConfig::new(loopback())).unwrap();
    let at = server.local_addrs()[0];
    server.set_password(USERNAME.as_bytes(), Some(PASSWORD));
    let (device, mut events) = Device::bind(loopback(), settings(at), Last::default()).unwrap();
    let here = device.local_addr();
    let address = DeviceEvent::Address {
        address: here,
        nat: false,
    };
    assert_eq!(next(&mut events).await, address);
    let learned = learned(&mut told).await;
    assert_eq!(learned.username, USERNAME.as_bytes());
    assert_eq!((learned.binding.at, learned.binding.local), (here, at));
    assert_eq!(server.binding(USERNAME.as_bytes()), Some(learned.binding));

    server.wake(here, Some(at), request(here, 100)).unwrap();
    let (request_taken, last) = woken(&mut events).await;
    assert_eq!((request_taken.timestamp, last.timestamp), (100, 100));
    // Its two other copies are ignored.
    until(|| device.stats().ignored == 2).await;
    assert_eq!((server.stats().wakes_sent, device.stats().woken), (3, 1));
    assert_eq!(server.stats().stun.learned, 1);
}

#[tokio::test]
async fn a_request_that_is_old_forged_or_not_for_it_does_nothing() {
    let (server, _told) = Server::bind(ServerConfig::new(loopback())).unwrap();
    let at = server.local_addrs()[0];
    let last = Last {
        timestamp: 100,
        id: Some(700),
    };
    let config = DeviceConfig {
        stun: None,
        waker: waker(),
    };
    let (device, mut events) = Device::bind(loopback(), config.clone(), last).unwrap();
    let here = device.local_addr();
    let address = DeviceEvent::Address {
        address: here,
        nat: false,
    };
    assert_eq!(
        next(&mut events).await,
        address,
        "listened for without STUN, too"
    );
    let mut forged = request(here, 101);
    let sig = forged.windows(4).position(|w| w == b"sig=").unwrap() + 4;
    forged[sig] = if forged[sig] == b'0' { b'1' } else { b'0' };
    for (count, bad) in [request(here, 100), forged, b"hello".to_vec(), vec![0; 30]]
        .iter()
        .enumerate()
    {
        server.wake(here, None, bad.clone()).unwrap();
        until(|| device.stats().ignored == 3 * (count as u64 + 1)).await;
    }
    // Without a password nobody could be told from the ACS.
    device.configure(DeviceConfig {
        waker: Waker::default(),
        ..config.clone()
    });
    let keyless = ConnectionRequest {
        timestamp: 102,
        id: 1,
        username: String::new(),
        cnonce: String::new(),
    };
    server
        .wake(here, None, keyless.encode(&authority(here), b""))
        .unwrap();
    until(|| device.stats().ignored == 15).await;
    device.configure(config);
    server.wake(here, Some(at), request(here, 103)).unwrap();
    assert_eq!(woken(&mut events).await.0.timestamp, 103);
}

#[tokio::test]
async fn a_device_that_is_not_known_is_not_learned() {
    let (server, mut told) = Server::bind(ServerConfig::new(loopback())).unwrap();
    let at = server.local_addrs()[0];
    let (_device, mut events) = Device::bind(loopback(), settings(at), Last::default()).unwrap();
    let refused = |event: &DeviceEvent| matches!(event, DeviceEvent::Stun(Event::Refused(_)));
    while !refused(&next(&mut events).await) {}
    assert!(told.try_recv().is_err());
    assert_eq!(
        (server.stats().stun.unknown_users, server.stats().bindings),
        (1, 0)
    );
}

#[tokio::test]
async fn a_request_leaves_only_from_a_socket_that_fits() {
    let (server, _told) = Server::bind(ServerConfig::new(loopback())).unwrap();
    let six: SocketAddr = "[::1]:7".parse().unwrap();
    let wrong: SocketAddr = "127.0.0.1:1".parse().unwrap();
    assert_eq!(server.wake(six, None, vec![]), Err(WakeError::NoSocket));
    assert_eq!(
        server.wake(wrong, Some(wrong), vec![]),
        Err(WakeError::NoSocket)
    );
    let same = ServerConfig {
        other: Some(([127, 0, 0, 1], free_port()).into()),
        ..ServerConfig::new(loopback())
    };
    assert!(
        Server::bind(same).is_err(),
        "the other address must be another one"
    );
}

/// A server with two addresses, as classic clients want it.
fn classic() -> (Server, SocketAddr) {
    let config = ServerConfig {
        other: Some(([127, 0, 0, 2], free_port()).into()),
        ..ServerConfig::new(([127, 0, 0, 1], free_port()).into())
    };
    let (server, _) = Server::bind(config).unwrap();
    let at = server.local_addrs()[0];
    (server, at)
}

#[tokio::test]
async fn the_classic_client_finds_no_nat_with_our_server() {
    if !have("stun", &["-v"]) {
        return;
    }
    let (server, at) = classic();
    let output = tokio::process::Command::new("stun")
        .args([&at.to_string(), "-v"])
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, output).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("Primary: Open"), "{text}");
    assert!(server.stats().stun.responses >= 4, "{:?}", server.stats());
}

#[tokio::test]
async fn coturns_client_reads_our_answers() {
    if !have("turnutils_stunclient", &["--help"]) {
        return;
    }
    let (server, at) = classic();
    let output = tokio::process::Command::new("turnutils_stunclient")
        .args(["-p", &at.port().to_string(), &at.ip().to_string()])
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, output).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("reflexive addr: 127.0.0.1:"), "{text}");
    assert!(server.stats().stun.responses >= 1);
}

#[tokio::test]
async fn our_device_finds_its_address_with_stund() {
    if !have("stund", &["-v", "-h"]) {
        return;
    }
    let at: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let other = free_port().to_string();
    let port = at.port().to_string();
    let args = [
        "-h",
        "127.0.0.1",
        "-a",
        "127.0.0.2",
        "-p",
        &port,
        "-o",
        &other,
    ];
    let _stund = Tool::start("stund", &args);
    finds_itself(at).await;
}

#[tokio::test]
async fn our_device_finds_its_address_with_coturn() {
    if !have("turnserver", &["--version"]) {
        return;
    }
    let at: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let port = at.port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let args = [
        "-n",
        "--no-auth",
        "--no-cli",
        "--no-tls",
        "--no-dtls",
        "-L",
        "127.0.0.1",
        "-p",
        &port,
        "--pidfile",
        &path("pid"),
        "--userdb",
        &path("db"),
        "--log-file",
        "stdout",
    ];
    let _coturn = Tool::start("turnserver", &args);
    finds_itself(at).await;
}

/// On loopback there is no translation; the peer's answers say so.
async fn finds_itself(server: SocketAddr) {
    let (device, mut events) = Device::bind(loopback(), settings(server), Last::default()).unwrap();
    let address = DeviceEvent::Address {
        address: device.local_addr(),
        nat: false,
    };
    assert_eq!(next(&mut events).await, address);
    assert!(device.stats().stun.responses >= 1);
}
