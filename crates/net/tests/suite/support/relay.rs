//! A relay between one UDP client and a server that loses every fourth datagram, for peers that cannot lose any themselves.

use std::net::SocketAddr;

use tokio::net::UdpSocket;

use super::nodes::LOOPBACK;

/// The relay's address. It loses a quarter of the datagrams, both directions counted together, and never two in a row: the
/// same in every run.
pub(crate) async fn lossy(server: SocketAddr) -> SocketAddr {
    let front = UdpSocket::bind(LOOPBACK).await.unwrap();
    let back = UdpSocket::bind(LOOPBACK).await.unwrap();
    back.connect(server).await.unwrap();
    let address = front.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut up, mut down) = ([0; 2048], [0; 2048]);
        let mut client = None;
        let mut count = 0_u32;
        loop {
            tokio::select! {
                Ok((length, from)) = front.recv_from(&mut up) => {
                    client = Some(from);
                    count += 1;
                    if !count.is_multiple_of(4) {
                        // A datagram that is refused is one more that is lost.
                        back.send(&up[..length]).await.ok();
                    }
                }
                Ok(length) = back.recv(&mut down) => {
                    count += 1;
                    if let Some(client) = client && !count.is_multiple_of(4) {
                        front.send_to(&down[..length], client).await.ok();
                    }
                }
            }
        }
    });
    address
}
