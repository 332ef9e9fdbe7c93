//! Certificates issued, stored and confirmed per second and core: each is on disk before it counts. `cargo bench -p homefleet-server --bench pki`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use homefleet_cmp::crypto::{KeyKind, KeyPair, Signer as _};
use homefleet_server::Config;
use homefleet_server::clock::{Clock, Millis};
use homefleet_server::config::Tls;
use homefleet_server::pki::{
    self, Authorisation, CaKeyKind, CaShape, Init, Initial, NewSecret, Order, Pki, Requested,
};
use homefleet_server::store::sqlite::SqliteStore;

/// At the same time.
const WIDTH: usize = 64;
/// In all.
const COUNT: usize = 20_000;

fn cpu() -> Duration {
    let of = |time: rustix::time::Timespec| {
        Duration::new(
            u64::try_from(time.tv_sec).unwrap(),
            u32::try_from(time.tv_nsec).unwrap(),
        )
    };
    of(rustix::time::clock_gettime(
        rustix::time::ClockId::ProcessCPUTime,
    ))
}

fn now() -> Millis {
    Millis::from(SystemTime::now())
}

async fn measure<F, Fut>(name: &str, count: usize, work: F)
where
    F: Fn(usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    let work = Arc::new(work);
    let (start, before) = (Instant::now(), cpu());
    let workers: Vec<_> = (0..WIDTH)
        .map(|worker| {
            let work = Arc::clone(&work);
            tokio::spawn(async move {
                for number in (worker..count).step_by(WIDTH) {
                    work(number).await;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let (elapsed, cpu) = (start.elapsed(), cpu() - before);
    println!(
        "{name}: {:.0}/s, {:.0} µs CPU each, so {:.0}/s and core",
        count as f64 / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / count as f64,
        count as f64 / cpu.as_secs_f64(),
    );
}

#[tokio::main]
async fn main() {
    // Not on a memory file system: what is measured is reaching the disk.
    let directory =
        tempfile::tempdir_in(std::env::var_os("CARGO_TARGET_TMPDIR").unwrap_or_else(|| ".".into()))
            .unwrap();
    let year = Duration::from_secs(365 * 86_400);
    let shape = |subject: &str, years| CaShape {
        subject: subject.to_owned(),
        key: CaKeyKind::P256,
        lifetime: years * year,
    };
    let init = Init {
        directory: directory.path().join("pki"),
        root: shape("CN=Root", 20),
        issuing: shape("CN=Issuing", 10),
        path_len: 0,
        root_crl_urls: Vec::new(),
        root_ca_issuers_urls: Vec::new(),
        token: None,
        passphrase: "correct horse".to_owned().into(),
        root_passphrase: None,
        iterations: Some(1000),
    };
    pki::init(&init, now()).unwrap();
    let config = Config::new("proto::c", directory.path(), Tls::new("", "", ""));
    let mut config = config.pki_config().unwrap();
    config.passphrase = Some("correct horse".to_owned().into());
    let store = Arc::new(SqliteStore::open(&directory.path().join("store.sqlite")).unwrap());
    let pki = Pki::open(&config, store, Clock::system()).await.unwrap();
    let secret = NewSecret {
        reference: Some(b"all".to_vec()),
        ..NewSecret::default()
    };
    pki.add_secret(secret, "bench").await.unwrap();
    let pkcs8 = KeyPair::generate_pkcs8(KeyKind::P256).unwrap();
    let key = KeyPair::from_pkcs8(KeyKind::P256, &pkcs8).unwrap();
    let key = key.public_key().to_der();

    let order = move |number: usize, authorisation| Order {
        profile: None,
        requested: Requested::default(),
        public_key: key.clone(),
        device: Some(format!("os::00D09E-{number}")),
        requester: format!("os::00D09E-{number}"),
        authorisation,
        central_key: false,
        initial: Initial::Unconfirmed,
    };
    let (issuing, ordering) = (pki.clone(), order.clone());
    measure("issue", COUNT, move |number| {
        let subject = "CN=x".to_owned();
        let order = ordering(number, Authorisation::Manufacturer { subject });
        let pki = issuing.clone();
        async move {
            pki.issue(order, now()).await.unwrap();
        }
    })
    .await;
    let enrolling = pki.clone();
    measure("secret, issue, confirm", COUNT, move |number| {
        let reference = b"all".to_vec();
        let order = order(number, Authorisation::Secret { reference });
        let pki = enrolling.clone();
        async move {
            pki.secret(b"all").await.unwrap().unwrap();
            let issued = pki.issue(order, now()).await.unwrap();
            pki.confirm(&issued.serial).await.unwrap();
        }
    })
    .await;
}
