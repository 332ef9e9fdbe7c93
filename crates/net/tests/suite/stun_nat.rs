//! A device behind a real Linux NAT: found, kept reachable, woken (TR-111 Part 2).

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use homefleet_net::stun::{Device, DeviceEvent, Learned, Server, ServerConfig};
use homefleet_tr111::client::Event;
use homefleet_tr111::connection_request::Last;

use crate::stun::{PASSWORD, USERNAME, request, settings};
use crate::support::nat::Home;

const LIMIT: Duration = Duration::from_secs(240);
/// The gateway's timeout in seconds.
const TIMEOUT: u64 = 12;

/// Runs something of tokio's in a thread of its own, which lives as long as the process; its events come out.
fn run<T, E>(
    home: &Home,
    place: &str,
    start: impl FnOnce() -> (T, tokio::sync::mpsc::Receiver<E>) + Send + 'static,
) -> (T, mpsc::Receiver<E>)
where
    T: Send + 'static,
    E: Send + 'static,
{
    let (handles, handle) = mpsc::channel();
    let (told, tells) = mpsc::channel();
    home.enter(place, move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let (thing, mut events) = start();
            handles.send(thing).unwrap();
            while let Some(event) = events.recv().await {
                if told.send(event).is_err() {
                    return;
                }
            }
        });
    });
    (handle.recv_timeout(LIMIT).unwrap(), tells)
}

fn learned(told: &mpsc::Receiver<Learned>) -> Learned {
    told.recv_timeout(LIMIT).unwrap()
}

/// Events until one that `wanted` takes.
fn wait<T>(
    events: &mpsc::Receiver<DeviceEvent>,
    mut wanted: impl FnMut(&DeviceEvent) -> Option<T>,
) -> T {
    loop {
        if let Some(found) = wanted(&events.recv_timeout(LIMIT).unwrap()) {
            return found;
        }
    }
}

/// The same, within a few seconds.
fn soon<T>(
    events: &mpsc::Receiver<DeviceEvent>,
    wanted: impl Fn(&DeviceEvent) -> Option<T>,
) -> Option<T> {
    let limit = std::time::Instant::now() + Duration::from_secs(5);
    loop {
        let left = limit.saturating_duration_since(std::time::Instant::now());
        match events.recv_timeout(left) {
            Ok(event) => match wanted(&event) {
                Some(found) => return Some(found),
                None => continue,
            },
            Err(_) => return None,
        }
    }
}

fn woken(event: &DeviceEvent) -> Option<u64> {
    match event {
        DeviceEvent::Woken { request, .. } => Some(request.timestamp),
        _ => None,
    }
}

#[test]
fn a_device_behind_linux_nat_stays_reachable_where_tcp_cannot_get_in() {
    let Some(home) = Home::new(u32::try_from(TIMEOUT).unwrap()) else {
        return;
    };
    let listen: SocketAddr = "203.0.113.1:3478".parse().unwrap();
    let (server, told) = run(&home, "world", move || {
        Server::bind(ServerConfig::new(listen)).unwrap()
    });
    server.set_password(USERNAME.as_bytes(), Some(PASSWORD));
    let primary: SocketAddr = "0.0.0.0:7547".parse().unwrap();
    let (device, events) = run(&home, "inside", move || {
        Device::bind(primary, settings(listen), Last::default()).unwrap()
    });

    // Its binding is the gateway's, and the server knows it as the device's own.
    let (address, nat) = wait(&events, |event| match event {
        DeviceEvent::Address { address, nat } => Some((*address, *nat)),
        _ => None,
    });
    assert!(nat && address.ip().to_string() == "203.0.113.2");
    let first = learned(&told);
    assert_eq!((first.binding.at, first.binding.local), (address, listen));

    // TCP does not get in; a UDP Connection Request from the server's socket does.
    let refused = home.enter("world", move || {
        TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_err()
    });
    assert!(refused.join().unwrap());
    server
        .wake(
            first.binding.at,
            Some(first.binding.local),
            request(address, 100),
        )
        .unwrap();
    assert_eq!(wait(&events, woken), 100);

    // How long the gateway keeps it is found to a second; the bindings lost on the way are learned again.
    let (alive, expired) = wait(&events, |event| match event {
        DeviceEvent::Stun(Event::Timeout { alive, expired }) => Some((*alive, *expired)),
        _ => None,
    });
    let timeout = Duration::from_secs(TIMEOUT);
    let close = |found: Duration| found.abs_diff(timeout) <= Duration::from_secs(1);
    assert!(
        close(alive) && close(expired.unwrap()),
        "{alive:?} {expired:?}"
    );

    // A gateway that forgets: the next refresh tells the new binding, and the device is reachable again. What was told first may
    // still be the last binding of the search.
    home.forget();
    let mut timestamp = 101;
    let (last, at) = loop {
        let binding = learned(&told).binding;
        let wake = request(binding.at, timestamp);
        server
            .wake(binding.at, Some(binding.local), wake.clone())
            .unwrap();
        if soon(&events, woken) == Some(timestamp) {
            break (wake, binding);
        }
        timestamp += 1;
    };
    assert_eq!(
        server.binding(USERNAME.as_bytes()).map(|now| now.at),
        Some(at.at)
    );

    // Replayed, it does nothing; a newer one does.
    server.wake(at.at, Some(at.local), last).unwrap();
    let newer = request(at.at, timestamp + 1);
    server.wake(at.at, Some(at.local), newer).unwrap();
    assert_eq!(wait(&events, woken), timestamp + 1);
    assert_eq!(device.stats().stun.unauthentic, 0);
}
