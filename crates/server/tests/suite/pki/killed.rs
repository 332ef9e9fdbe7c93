//! A CA that is killed while it issues: whatever left it is stored, and nothing is half done.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use homefleet_server::Config;
use homefleet_server::clock::{Clock, Millis};
use homefleet_server::config::Tls;
use homefleet_server::pki::{self, Authorisation, CaKeyKind, NewSecret, Pki, Serial};
use homefleet_server::store::AuditLog as _;
use homefleet_server::store::pki::{CertificateQuery, CertificateState};
use homefleet_server::store::sqlite::SqliteStore;

use super::world::{DEVICE, PASSPHRASE, init, order};

const DIRECTORY: &str = "HOMEFLEET_TEST_CA";
/// Uses of the one secret: more than a round issues.
const USES: u32 = 1_000_000;

async fn open(dir: &Path) -> (Arc<SqliteStore>, Pki) {
    let mut config = Config::new("proto::controller", dir, Tls::new("", "", ""));
    config.pki.passphrase_file = Some(dir.join("passphrase"));
    let store = Arc::new(SqliteStore::open(&config.store_path()).unwrap());
    let config = config.pki_config().unwrap();
    let pki = Pki::open(&config, store.clone(), Clock::system()).await;
    (store, pki.unwrap())
}

/// The process that is killed: issues, eight at a time, and says what it has issued.
#[tokio::test]
#[ignore = "started by what_left_the_ca_is_stored_when_it_is_killed"]
async fn helper_issues_until_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let (_store, pki) = open(Path::new(&dir)).await;
    let mut out = std::io::stdout();
    loop {
        let issuing: Vec<_> = (0..8)
            .map(|_| {
                let pki = pki.clone();
                let mut order = order(DEVICE);
                order.authorisation = Authorisation::Secret {
                    reference: DEVICE.into(),
                };
                tokio::spawn(async move {
                    let now = Millis::from(std::time::SystemTime::now());
                    pki.issue(order, now).await.unwrap().serial
                })
            })
            .collect();
        for issued in issuing {
            writeln!(out, "issued {}", issued.await.unwrap()).unwrap();
        }
        out.flush().unwrap();
    }
}

#[tokio::test]
async fn what_left_the_ca_is_stored_when_it_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    std::fs::write(dir.join("passphrase"), PASSPHRASE).unwrap();
    let now = Millis::from(std::time::SystemTime::now());
    pki::init(&init(&dir.join("pki"), CaKeyKind::P256), now).unwrap();
    let secret = NewSecret {
        device: Some(DEVICE.to_owned()),
        uses: Some(USES),
        ..NewSecret::default()
    };
    open(dir).await.1.add_secret(secret, "test").await.unwrap();
    for rounds in [40, 3] {
        let mut helper = Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "pki::killed::helper_issues_until_killed",
            ])
            .arg("--nocapture")
            .env(DIRECTORY, dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut issued: Vec<Serial> = Vec::new();
        for line in BufReader::new(helper.stdout.take().unwrap()).lines() {
            if let Some((_, serial)) = line.unwrap().split_once("issued ") {
                issued.push(serial.parse().unwrap());
            }
            if issued.len() >= rounds {
                break;
            }
        }
        helper.kill().unwrap();
        helper.wait().unwrap();

        let (store, pki) = open(dir).await;
        let query = CertificateQuery {
            profile: Some("device".to_owned()),
            limit: usize::MAX,
            ..CertificateQuery::default()
        };
        let stored = pki.find(query).await.unwrap();
        for serial in issued {
            let record = stored
                .iter()
                .find(|record| record.serial_number() == serial);
            assert!(record.is_some(), "{serial} left the CA and is gone");
        }
        // Nobody confirmed any: all are revoked, and their uses of the secret are back.
        assert!(
            stored
                .iter()
                .all(|record| record.state == CertificateState::Revoked)
        );
        assert_eq!(pki.secrets(None, None, 1).await.unwrap()[0].used, 0);
        // Each has its line in the audit log, also those that were on their way out.
        let lines = store.audit(None, usize::MAX).await.unwrap();
        for record in &stored {
            let serial = record.serial_number().to_string();
            assert!(lines.iter().any(|line| line.subject == serial), "{serial}");
        }
    }
}
