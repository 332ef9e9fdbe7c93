//! Certificates issued: the whole server over HTTP connections that are kept, with devices that each have one request under way.
//!
//! ```sh
//! cargo bench -p homefleet-server --bench cmp             # every part; some minute
//! cargo bench -p homefleet-server --bench cmp -- implicit # some: implicit, confirmed, secret, coaps, openssl
//! ```
//!
//! The server is a process of its own (this program again, with `serve`) with its store on a disk; its CPU time is its own. A certificate
//! counts when its answer is there: the server sends that when the certificate is on the disk. The load generator shares the machine, so the
//! rate says less about the server than its CPU time per certificate does. Both sides sign with ECDSA P-256: the device its request and
//! the proof that it has the key, the server the certificate and its answer. Beside it: the mock server of `openssl cmp`, which issues and stores
//! nothing, but answers with a certificate that it was given.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod device;
#[path = "../notify/process.rs"]
mod process;
mod serve;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::device::{Maker, Places};
use crate::process::{Own, process_cpu, resident};

/// Devices, each with a connection of its own.
const DEVICES: usize = 32;
/// How long is measured.
const MEASURE: Duration = Duration::from_secs(10);
/// For the connections to warm up.
const WARM_UP: Duration = Duration::from_secs(2);
/// Requests of `openssl cmp` to its own server.
const REPEAT: u32 = 300;

/// How devices ask.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Signed, and implicitly confirmed: ir, ip.
    Implicit,
    /// Signed, and confirmed: ir, ip, certConf, pkiConf.
    Confirmed,
    /// By a secret, PBM with 1,000 iterations, and implicitly confirmed.
    Secret,
    /// Signed, and implicitly confirmed, over CoAP in a DTLS association that is kept.
    Coaps,
}

const WAYS: [(&str, Way, &str); 4] = [
    ("implicit", Way::Implicit, "signed, implicitly confirmed"),
    ("confirmed", Way::Confirmed, "signed, confirmed"),
    ("secret", Way::Secret, "by a secret, implicitly confirmed"),
    (
        "coaps",
        Way::Coaps,
        "signed, implicitly confirmed, over coaps",
    ),
];

fn main() {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    if let [role, directory] = args.as_slice()
        && role == "serve"
    {
        return serve::main(Path::new(directory));
    }
    let wanted = |name: &str| args.is_empty() || args.iter().any(|arg| arg == name);
    println!(
        "ir, issued and stored on disk, answered; {DEVICES} devices with one under way each, connections and associations kept"
    );
    for (name, way, label) in WAYS {
        if wanted(name) {
            run(way, label);
        }
    }
    if wanted("openssl") {
        openssl();
    }
}

fn run(way: Way, label: &str) {
    // Not on a memory file system: what is measured is reaching the disk.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let maker = Arc::new(Maker::new());
    maker.write(directory.path());
    let mut server = Own::start(&["serve", directory.path().to_str().unwrap()]);
    let line = server.line();
    let (http, coaps) = line.split_once(' ').unwrap();
    let places = Places {
        http: http.parse().unwrap(),
        coaps: coaps.parse().unwrap(),
    };
    let (done, stop) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let threads: Vec<_> = (0..DEVICES)
        .map(|number| {
            let (maker, done, stop) = (Arc::clone(&maker), Arc::clone(&done), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut device = maker.device(number, way, &places);
                while !stop.load(Ordering::Relaxed) {
                    device.enrol();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    std::thread::sleep(WARM_UP);
    let (before, cpu, start) = (
        done.load(Ordering::Relaxed),
        process_cpu(server.pid()),
        Instant::now(),
    );
    std::thread::sleep(MEASURE);
    let issued = done.load(Ordering::Relaxed) - before;
    let cpu = process_cpu(server.pid()) - cpu;
    tell(label, issued, start.elapsed(), cpu);
    println!("{:>46} {:.1} MB", "", resident(server.pid()) as f64 / 1e6);
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
}

fn tell(label: &str, issued: u64, elapsed: Duration, cpu: Duration) {
    let issued = f64::from(u32::try_from(issued.max(1)).unwrap());
    let each = cpu.as_secs_f64() * 1e6 / issued;
    println!(
        "  {label:<42} {:>7.0}/s here, {each:>7.1} µs of server CPU each: {:>7.0}/s on a core",
        issued / elapsed.as_secs_f64(),
        1e6 / each,
    );
}

/// The mock server of `openssl cmp`, asked by `openssl cmp -repeat`: a connection each, as it cannot keep one.
fn openssl() {
    let directory = tempfile::tempdir().unwrap();
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-euc", script]).current_dir(directory.path());
        command
    };
    let made = shell(
        "for name in ca server device new; do openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $name.key; done
         openssl req -x509 -new -key ca.key -subj /CN=ca -days 2 -out ca.pem
         for name in server device new; do
           openssl req -new -key $name.key -subj /CN=$name -out $name.csr
           openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -set_serial 7 -days 2 -out $name.pem
         done",
    )
    .output()
    .unwrap();
    assert!(made.status.success(), "{made:?}");
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let mut server = shell(&format!(
        "exec setpriv --pdeathsig KILL openssl cmp -config '' -port {port} -srv_cert server.pem -srv_key server.key -srv_trusted ca.pem \
         -rsp_cert new.pem -grant_implicitconf"
    ))
    .stdout(Stdio::null())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (cpu, start) = (process_cpu(server.id()), Instant::now());
    let asked = shell(&format!(
        "openssl cmp -config '' -server 127.0.0.1:{port} -path pkix/ -cmd ir -cert device.pem -key device.key -trusted ca.pem \
         -recipient /CN=server -newkey new.key -subject /CN=new -implicit_confirm -certout out.pem -repeat {REPEAT}"
    ))
    .output()
    .unwrap();
    let (elapsed, cpu) = (start.elapsed(), process_cpu(server.id()) - cpu);
    if asked.status.success() {
        tell(
            "beside: openssl cmp, its mock",
            u64::from(REPEAT),
            elapsed,
            cpu,
        );
    } else {
        println!(
            "  openssl cmp failed: {}",
            String::from_utf8_lossy(&asked.stderr)
        );
    }
    // An error means that it has ended already.
    let _killed = server.kill();
    let _reaped = server.wait();
}
