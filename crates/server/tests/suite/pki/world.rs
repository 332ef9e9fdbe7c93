//! A CA in a directory of its own, with a clock that stands until it is moved.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use homefleet_cmp::crypto::{KeyKind, KeyPair, Signer as _};
use homefleet_server::Config;
use homefleet_server::clock::{Clock, Millis};
use homefleet_server::config::{PkiProfile, Tls};
use homefleet_server::pki::{
    self, Authorisation, CaKeyKind, CaShape, Init, Initial, Order, Pki, PkiConfig, Requested,
};
use homefleet_server::store::sqlite::SqliteStore;
use tempfile::TempDir;

pub(crate) const PASSPHRASE: &str = "correct horse";
pub(crate) const DEVICE: &str = "os::00D09E-42";

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) config: PkiConfig,
    pub(crate) time: Arc<AtomicU64>,
    pub(crate) pki: Pki,
}

/// What `ca init` would make, with less work for the passphrase.
pub(crate) fn init(directory: &Path, key: CaKeyKind) -> Init {
    let year = Duration::from_secs(365 * 86_400);
    Init {
        directory: directory.to_owned(),
        root: CaShape {
            subject: "CN=Root,O=Test".to_owned(),
            key,
            lifetime: 20 * year,
        },
        issuing: CaShape {
            subject: "CN=Issuing,O=Test".to_owned(),
            key,
            lifetime: 10 * year,
        },
        path_len: 0,
        root_crl_urls: Vec::new(),
        root_ca_issuers_urls: Vec::new(),
        passphrase: PASSPHRASE.to_owned().into(),
        token: None,
        root_passphrase: None,
        iterations: Some(1000),
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(CaKeyKind::P256, |_| ()).await
    }

    /// A CA whose configuration `change` has changed.
    pub(crate) async fn with(key: CaKeyKind, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = Millis::from(SystemTime::now());
        pki::init(&init(&dir.path().join("pki"), key), now).unwrap();
        let mut config = Config::new("proto::controller", dir.path(), Tls::new("", "", ""));
        config.pki.enabled = true;
        let file = dir.path().join("passphrase");
        std::fs::write(&file, format!("{PASSPHRASE}\n")).unwrap();
        config.pki.passphrase_file = Some(file);
        change(&mut config);
        config.check().unwrap();
        let store = Arc::new(SqliteStore::open(&config.store_path()).unwrap());
        let config = config.pki_config().unwrap();
        let time = Arc::new(AtomicU64::new(now.0));
        let pki = Pki::open(&config, store.clone(), clock(&time))
            .await
            .unwrap();
        Self {
            dir,
            store,
            config,
            time,
            pki,
        }
    }

    /// The same after a restart.
    pub(crate) async fn again(&mut self) {
        self.pki = Pki::open(&self.config, self.store.clone(), clock(&self.time))
            .await
            .unwrap();
    }

    pub(crate) fn now(&self) -> Millis {
        Millis(self.time.load(Ordering::Relaxed))
    }

    pub(crate) fn pass(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.time.fetch_add(millis, Ordering::Relaxed);
    }

    /// Writes DER as PEM and tells its path.
    pub(crate) fn pem(&self, name: &str, label: &str, ders: &[&[u8]]) -> String {
        let text: String = ders
            .iter()
            .map(|der| der::pem::encode_string(label, der::pem::LineEnding::LF, der).unwrap())
            .collect();
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// The files that OpenSSL verifies with: root, chain, certificate.
    pub(crate) fn files(&self, certificate: &[u8]) -> [String; 3] {
        let chain = self.pki.chain();
        let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
        [
            self.pem("root.pem", "CERTIFICATE", &[&self.pki.root()]),
            self.pem("chain.pem", "CERTIFICATE", &chain),
            self.pem("certificate.pem", "CERTIFICATE", &[certificate]),
        ]
    }
}

fn clock(time: &Arc<AtomicU64>) -> Clock {
    let time = Arc::clone(time);
    Clock::new(move || Millis(time.load(Ordering::Relaxed)))
}

/// A public key of a kind.
pub(crate) fn key(kind: KeyKind) -> Vec<u8> {
    let pkcs8 = KeyPair::generate_pkcs8(kind).unwrap();
    KeyPair::from_pkcs8(kind, &pkcs8)
        .unwrap()
        .public_key()
        .to_der()
}

/// An order of the built-in profile by an operator's approval of nothing in particular: a manufacturer's certificate.
pub(crate) fn order(device: &str) -> Order {
    Order {
        profile: None,
        requested: Requested::default(),
        public_key: key(KeyKind::P256),
        device: Some(device.to_owned()),
        requester: device.to_owned(),
        authorisation: Authorisation::Manufacturer {
            subject: "CN=42".to_owned(),
        },
        central_key: false,
        initial: Initial::Unconfirmed,
    }
}

/// The built-in profile under another name, changed.
pub(crate) fn profile(name: &str, change: impl FnOnce(&mut PkiProfile)) -> PkiProfile {
    let mut profile = PkiProfile::device();
    profile.name = name.to_owned();
    change(&mut profile);
    profile
}

/// What OpenSSL says, and whether it is content.
pub(crate) fn openssl(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.success(), text)
}
