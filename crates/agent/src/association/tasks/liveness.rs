//! Whether the devices of a gateway are still there: the kernel's neighbour table, and a datagram where that does not know.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use netlink_packet_route::neighbour::NeighbourState;

use super::Shared;
use crate::{
    association::Mac,
    provider::kernel::{Kernel, Neighbour},
};

/// Discard (RFC 863): what comes there is thrown away. To send it the kernel has to find the neighbour.
const PORT: u16 = 9;

/// Looks every `interval`, for ever.
pub(super) async fn look(shared: Shared, interval: Duration) {
    let mut kernel = Kernel::new();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = round(&shared, &mut kernel, interval) {
            tracing::debug!(%error, "nobody knows whether devices are there");
        }
    }
}

fn round(shared: &Shared, kernel: &mut Kernel, interval: Duration) -> io::Result<()> {
    let now = Instant::now();
    let devices: Vec<(Mac, Ipv4Addr)> = shared.change_leases(now, |leases, _| {
        leases
            .iter()
            .map(|(mac, lease)| (mac, lease.address))
            .collect()
    });
    if devices.is_empty() {
        return Ok(());
    }
    let neighbours = kernel.neighbours()?;
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    probe.set_nonblocking(true)?;
    let fresh = interval.as_secs().saturating_add(10);
    let looked: Vec<(Mac, bool)> = devices
        .into_iter()
        .map(|(mac, address)| {
            let seen = neighbours.iter().any(|neighbour| {
                neighbour.ip == IpAddr::V4(address) && is_there(neighbour, mac, fresh)
            });
            if !seen {
                // That it cannot be sent is an answer too.
                probe.send_to(&[], (address, PORT)).ok();
            }
            (mac, seen)
        })
        .collect();
    shared.change_leases(now, |leases, counters| {
        for (mac, seen) in looked {
            counters.absent += u64::from(leases.looked(now, mac, seen));
        }
    });
    Ok(())
}

/// Whether the neighbour is this device, and was heard within the last `fresh` seconds.
fn is_there(neighbour: &Neighbour, mac: Mac, fresh: u64) -> bool {
    let alive = match neighbour.state {
        NeighbourState::Reachable | NeighbourState::Permanent => true,
        NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe => {
            u64::from(neighbour.confirmed) <= fresh
        }
        _ => false,
    };
    alive && neighbour.address == mac.0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_counts_when_it_is_the_device_and_was_heard_lately() {
        let neighbour = |last: u8, state, confirmed| Neighbour {
            index: 2,
            ip: "192.0.2.1".parse().unwrap(),
            address: vec![2, 0, 0, 0, 0, last],
            state,
            confirmed,
        };
        let ours = Mac([2, 0, 0, 0, 0, 1]);
        for (last, state, confirmed, there) in [
            (1, NeighbourState::Reachable, 400, true),
            (1, NeighbourState::Permanent, u32::MAX, true),
            (1, NeighbourState::Stale, 40, true),
            (1, NeighbourState::Stale, 41, false),
            (1, NeighbourState::Probe, 41, false),
            (1, NeighbourState::Failed, 1, false),
            (1, NeighbourState::Incomplete, 1, false),
            // Somebody else has its address now.
            (2, NeighbourState::Reachable, 1, false),
        ] {
            assert_eq!(
                is_there(&neighbour(last, state, confirmed), ours, 40),
                there
            );
        }
    }
}
