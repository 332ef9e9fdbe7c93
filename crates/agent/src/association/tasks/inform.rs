//! The device's own DHCPINFORM (RFC 2131 §3.4, §4.4.3), where its address comes from elsewhere.
//!
//! Asked is when the interface gets its address or another one, and then again and again. A gateway that does not answer a whole round is
//! not taken to be there any more.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};

use homefleet_tr111::identity::Identity;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, sync::Notify, time::timeout};

use super::{AGAIN, Shared};
use crate::{
    association::{
        Event, Mac,
        message::{CLIENT, Kind, Message, SERVER},
    },
    provider::{
        Wake,
        kernel::{self, Kernel},
    },
};

/// How long each try of a round waits for DHCPACK (RFC 2131 §4.1).
const TRIES: [Duration; 4] = [
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(32),
];
/// The pause after a round without an answer, at most.
const PAUSE: Duration = Duration::from_secs(60);
/// Longest message that is read.
const BUFFER: usize = 2048;

/// The interface as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    mac: Mac,
    address: Ipv4Addr,
}

/// Asks for ever.
pub(super) async fn ask(interface: String, own: Identity, interval: Duration, shared: Shared) {
    let changed = Arc::new(Notify::new());
    let wake = changed.clone();
    // Without news of the kernel, changes are seen at the next round.
    let _watch = kernel::watch(Wake::new(move || wake.notify_one()))
        .inspect_err(|error| tracing::warn!(%error, "address changes are not heard"));
    let mut kernel = Kernel::new();
    loop {
        let place = place(&mut kernel, &interface);
        let Some(at) = place else {
            lost(&shared, &interface);
            // Until the interface has an address.
            timeout(PAUSE, changed.notified()).await.ok();
            continue;
        };
        let asked = tokio::select! {
            asked = round(&interface, at, &own) => asked,
            () = moved(&interface, at, &changed) => continue,
        };
        let pause = match asked {
            Ok(Some([oui, serial_number, product_class])) => {
                let event = Event::Acknowledged {
                    interface: interface.clone(),
                    oui,
                    serial_number,
                    product_class,
                    lease: None,
                };
                shared.handle(Instant::now(), event);
                interval
            }
            Ok(None) => {
                tracing::debug!(interface, "DHCPINFORM was not answered");
                lost(&shared, &interface);
                PAUSE.min(interval)
            }
            Err(error) => {
                tracing::warn!(interface, %error, "DHCPINFORM cannot be sent");
                AGAIN
            }
        };
        timeout(pause, moved(&interface, at, &changed)).await.ok();
    }
}

fn lost(shared: &Shared, interface: &str) {
    let interface = interface.to_owned();
    shared.handle(Instant::now(), Event::Lost { interface });
}

/// Ends when the interface is not as it was.
async fn moved(interface: &str, was: Place, changed: &Notify) {
    let mut kernel = Kernel::new();
    while place(&mut kernel, interface) == Some(was) {
        changed.notified().await;
    }
}

/// Hardware address and first IPv4 address of an interface that is up.
fn place(kernel: &mut Kernel, interface: &str) -> Option<Place> {
    let links = kernel.links().ok()?;
    let link = links
        .iter()
        .find(|link| link.name == interface && link.running)?;
    let mac = Mac(link.address.as_slice().try_into().ok()?);
    let addresses = kernel.addresses().ok()?;
    let mut ours = addresses
        .iter()
        .filter(|address| address.index == link.index);
    let address = ours.find_map(|address| match address.ip {
        IpAddr::V4(ip) if !ip.is_link_local() => Some(ip),
        _ => None,
    })?;
    Some(Place { mac, address })
}

/// One round: what the DHCPACK says of the gateway, or nothing.
async fn round(interface: &str, at: Place, own: &Identity) -> io::Result<Option<[String; 3]>> {
    let socket = open(interface, at.address)?;
    let mut xid = [0; 4];
    getrandom::fill(&mut xid).map_err(io::Error::other)?;
    let xid = u32::from_be_bytes(xid);
    let request = Message::inform(xid, at.mac, at.address, own);
    for wait in TRIES {
        socket
            .send_to(&request, (Ipv4Addr::BROADCAST, SERVER))
            .await?;
        if let Ok(answer) = timeout(wait, answer(&socket, xid, at.mac)).await {
            return answer.map(Some);
        }
    }
    Ok(None)
}

async fn answer(socket: &UdpSocket, xid: u32, mac: Mac) -> io::Result<[String; 3]> {
    let mut buffer = [0; BUFFER];
    loop {
        let (length, _) = socket.recv_from(&mut buffer).await?;
        let message = buffer.get(..length).and_then(Message::decode);
        let ours = |message: &Message| {
            message.kind == Kind::Ack && message.xid == xid && message.mac == mac
        };
        if let Some(message) = message.filter(ours) {
            return Ok(message.gateway());
        }
    }
}

fn open(interface: &str, address: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.bind(&SocketAddrV4::new(address, CLIENT).into())?;
    UdpSocket::from_std(socket.into())
}
