//! The batched socket: many datagrams a call, each to whom it is for.

use std::net::{SocketAddr, UdpSocket as Client};
use std::time::Duration;

use homefleet_net::udp::UdpSocket;

fn client(at: &str, to: SocketAddr) -> Client {
    let client = Client::bind(at).unwrap();
    // Connected, it hears nobody but the address it asked.
    client.connect(to).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    client
}

/// Receives until this many datagrams are there.
async fn receive(socket: &mut UdpSocket, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut received = Vec::new();
    while received.len() < count {
        socket.ready().await.unwrap();
        socket.receive(|from, datagram| received.push((from, datagram.to_vec())));
    }
    received
}

fn heard(client: &Client) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let len = client.recv(&mut buffer).unwrap();
    buffer[..len].to_vec()
}

#[tokio::test]
async fn answers_to_many_leave_from_the_address_each_of_them_asked() {
    let mut socket = UdpSocket::bind("[::]:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().port();
    let clients: Vec<Client> = (0..150_u8)
        .map(|n| {
            let asked = SocketAddr::from(([127, 0, 0, 1 + n / 60], port));
            client(&format!("127.0.1.{}:0", 1 + n), asked)
        })
        .collect();
    for (n, client) in clients.iter().enumerate() {
        client.send(&[n as u8]).unwrap();
    }
    for (from, said) in receive(&mut socket, clients.len()).await {
        // Of every length, so that neither order nor size hides a mistake; the fifth client gets nothing but an empty one.
        let len = usize::from(said[0]) * 7;
        socket.queue(from, vec![said[0]; if said[0] == 5 { 0 } else { len + 1 }]);
    }
    socket.flush();
    for (n, client) in clients.iter().enumerate() {
        let len = if n == 5 { 0 } else { n * 7 + 1 };
        assert_eq!(heard(client), vec![n as u8; len]);
    }
    assert_eq!(socket.stats().sent, 150);
    assert_eq!(socket.stats().send_errors, 0);
}

#[tokio::test]
async fn a_datagram_that_is_refused_keeps_none_of_its_batch_back() {
    let mut socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let to = socket.local_addr();
    let clients: Vec<Client> = (0..9).map(|_| client("127.0.0.1:0", to)).collect();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.queue(nowhere, b"first".to_vec());
    for (n, client) in clients.iter().enumerate() {
        socket.queue(client.local_addr().unwrap(), vec![n as u8; 10]);
        if n.is_multiple_of(3) {
            // A run to one peer inside the batch.
            for _ in 0..3 {
                socket.queue(client.local_addr().unwrap(), vec![n as u8; 10]);
            }
            socket.queue(nowhere, b"lost".to_vec());
            socket.queue(client.local_addr().unwrap(), vec![0; 70_000]);
        }
    }
    // Until the runtime has seen that it can be written to, nothing is tried.
    socket.ready().await.unwrap();
    socket.flush();
    for (n, client) in clients.iter().enumerate() {
        for _ in 0..if n.is_multiple_of(3) { 4 } else { 1 } {
            assert_eq!(heard(client), vec![n as u8; 10]);
        }
    }
    assert_eq!(socket.stats().sent, 18);
    assert_eq!(socket.stats().send_errors, 7);
}

#[tokio::test]
async fn what_comes_after_the_socket_was_emptied_is_received_too() {
    let mut socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = client("127.0.0.1:0", socket.local_addr());
    for round in 0..200_u8 {
        // Fewer than a batch, exactly one, and more.
        let count = [1, 3, 16, 17, 40][usize::from(round % 5)];
        for n in 0..count {
            client.send(&[round, n]).unwrap();
        }
        let received = tokio::time::timeout(
            Duration::from_secs(20),
            receive(&mut socket, usize::from(count)),
        )
        .await
        .unwrap();
        let expected: Vec<Vec<u8>> = (0..count).map(|n| vec![round, n]).collect();
        let said: Vec<Vec<u8>> = received.into_iter().map(|(_, said)| said).collect();
        assert_eq!(said, expected);
    }
}
