//! CPU per confirmable request of 300 bytes: our live plain endpoint, and libcoap's `coap-server-notls` in the same run.
//!
//! A hundred sockets each keep one request under way (NSTART 1). The load generator and the server share the machine, so the
//! figure is the server's own CPU time per answered request, not the rate. `cargo bench -p homefleet-net --bench coap_post`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use homefleet_coap::{Code, Response};
use homefleet_net::coap::{Incoming, Node, NodeConfig};
use rustix::time::{ClockId, clock_gettime};

const CLIENTS: usize = 100;
const BODY: usize = 300;
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURE: Duration = Duration::from_secs(5);
const POST: u8 = 2;
const PUT: u8 = 3;

/// CPU time of the calling thread.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.try_into().unwrap(),
        time.tv_nsec.try_into().unwrap(),
    )
}

/// CPU time of a process, in clock ticks of 10 ms.
fn process_cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// A CON request to `/x` with Content-Format 42 and a Uri-Query, as USP sends them.
fn request(method: u8, id: u16) -> Vec<u8> {
    let mut bytes = vec![0x42, method];
    bytes.extend(id.to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend([0xb1, b'x', 0x11, 42]);
    let query = b"reply-to=coap://192.0.2.1:5683/usp";
    bytes.extend([0x3d, (query.len() - 13) as u8]);
    bytes.extend(query);
    bytes.push(0xff);
    bytes.extend([b'p'; BODY]);
    bytes
}

/// Keeps `CLIENTS` requests under way until told to stop; counts answers.
fn load(to: SocketAddr, method: u8, stop: &AtomicBool, count: &std::sync::atomic::AtomicU64) {
    struct Client {
        socket: UdpSocket,
        id: u16,
        sent: Instant,
    }
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|n| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(to).unwrap();
            socket.set_nonblocking(true).unwrap();
            let id = (n * 600) as u16;
            socket.send(&request(method, id)).unwrap();
            Client {
                socket,
                id,
                sent: Instant::now(),
            }
        })
        .collect();
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        for client in &mut clients {
            match client.socket.recv(&mut buffer) {
                Ok(_) => {
                    count.fetch_add(1, Ordering::Relaxed);
                    client.id = client.id.wrapping_add(1);
                }
                Err(_) if client.sent.elapsed() > Duration::from_secs(2) => {}
                Err(_) => continue,
            }
            client.sent = Instant::now();
            // A refused send shows as silence, and is repeated.
            let _sent = client.socket.send(&request(method, client.id));
        }
    }
}

struct Figure {
    requests: u64,
    cpu: Duration,
}

fn measure(to: SocketAddr, method: u8, cpu: impl Fn() -> Duration) -> Figure {
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let generator = {
        let (stop, count) = (stop.clone(), count.clone());
        std::thread::spawn(move || load(to, method, &stop, &count))
    };
    std::thread::sleep(WARM_UP);
    let (before, cpu_before) = (count.load(Ordering::Relaxed), cpu());
    std::thread::sleep(MEASURE);
    let figure = Figure {
        requests: count.load(Ordering::Relaxed) - before,
        cpu: cpu() - cpu_before,
    };
    stop.store(true, Ordering::Relaxed);
    generator.join().unwrap();
    figure
}

fn report(name: &str, figure: &Figure) {
    println!(
        "{name}: {} requests/s, {:.2} us of CPU each",
        figure.requests / MEASURE.as_secs(),
        figure.cpu.as_secs_f64() * 1e6 / figure.requests as f64
    );
}

fn ours() -> Figure {
    let (addr_out, addr_in) = mpsc::channel();
    let (ask, asked) = mpsc::channel::<mpsc::Sender<Duration>>();
    let (done, end) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let node = Node::bind(
                NodeConfig {
                    secure: None,
                    plain_listen: Some("127.0.0.1:0".parse().unwrap()),
                    coap: homefleet_coap::Config::default(),
                    max_requests: 1000,
                    doubt_after: Duration::from_secs(5),
                },
                |_: Incoming<'_>| Some(Response::new(Code::CHANGED)),
            )
            .unwrap();
            addr_out.send(node.plain_addr().unwrap()).unwrap();
            let answer = tokio::spawn(async move {
                loop {
                    // Asked twice in a run; looking every millisecond costs nothing beside the load.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    if let Ok(reply) = asked.try_recv() {
                        reply.send(thread_cpu()).unwrap();
                    }
                }
            });
            end.await.unwrap();
            answer.abort();
            node.shutdown().await;
        });
    });
    let to = addr_in.recv().unwrap();
    let figure = measure(to, POST, || {
        let (reply, answer) = mpsc::channel();
        ask.send(reply).unwrap();
        answer.recv().unwrap()
    });
    done.send(()).unwrap();
    thread.join().unwrap();
    figure
}

fn libcoap() -> Option<Figure> {
    let port = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut child = Command::new("coap-server-notls")
        .args(["-A", "127.0.0.1", "-p", &port.to_string(), "-d", "10"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    std::thread::sleep(Duration::from_millis(500));
    let pid = child.id();
    // Its dynamic resources take PUT, not POST.
    let figure = measure(([127, 0, 0, 1], port).into(), PUT, || process_cpu(pid));
    child.kill().unwrap();
    child.wait().unwrap();
    Some(figure)
}

fn main() {
    let ours = ours();
    report("homefleet", &ours);
    match libcoap() {
        Some(theirs) => {
            report("coap-server-notls", &theirs);
            let each = |figure: &Figure| figure.cpu.as_secs_f64() / figure.requests as f64;
            println!("ratio: {:.2}", each(&theirs) / each(&ours));
        }
        None => println!("coap-server-notls is missing: nothing to compare with"),
    }
}
