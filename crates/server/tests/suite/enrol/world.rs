//! A server that is a CA, over real sockets, and clients that ask it for certificates.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use homefleet_api::{NewEnrolmentSecret, Role};
use homefleet_server::clock::Millis;
use homefleet_server::config::PkiProfile;
use homefleet_server::pki::{self, CaKeyKind};
use homefleet_server::{Access, Config, RunningServer, Server};
use tempfile::TempDir;

use crate::live::{self, Authority};
use crate::pki::world::{PASSPHRASE, init};

/// The Endpoint ID of the device that most tests are about.
pub(crate) const DEVICE: &str = "os::00D09E-42";
/// The secret that it has on its label.
pub(crate) const SECRET: &str = "on the label";

/// A directory with everything, and the server.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) config: Config,
    pub(crate) server: RunningServer,
    pub(crate) access: Access,
}

/// A profile in which requests choose their subject, for everybody.
pub(crate) fn open_profile() -> PkiProfile {
    PkiProfile {
        name: "open".to_owned(),
        subject: None,
        san: Vec::new(),
        from_request: ["subject", "dns", "device", "lifetime"]
            .map(str::to_owned)
            .into(),
        who: ["secret", "manufacturer", "certificate", "renewal"]
            .map(str::to_owned)
            .into(),
        central_keys: true,
        implicit_confirm: true,
        ..PkiProfile::device()
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// A server whose configuration `change` has changed.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let own = Authority::new("operator");
        let mut config = live::config(dir.path(), &own, &own);
        // Wherever the store is going to be.
        config.pki.directory = Some(dir.path().join("ca"));
        pki::init(
            &init(&config.pki_directory(), CaKeyKind::P256),
            Millis::from(SystemTime::now()),
        )
        .unwrap();
        let passphrase = dir.path().join("passphrase");
        std::fs::write(&passphrase, PASSPHRASE).unwrap();
        config.pki.enabled = true;
        config.pki.passphrase_file = Some(passphrase);
        config.pki.profile.push(open_profile());
        config.cmp.http_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        config.cmp.weak_macs = true;
        config.cmp.check_after = 1;
        (config.cmp.per_second, config.cmp.burst) = (100_000, 100_000);
        change(&mut config);
        let server = Server::start(config.clone()).await.unwrap();
        let access = live::access(&server, Role::Admin).await;
        let world = Self {
            dir,
            config,
            server,
            access,
        };
        world.write_root().await;
        world
    }

    /// The same server once more, on the same address.
    pub(crate) async fn restart(self) -> Self {
        self.restart_with(|_| ()).await
    }

    /// The same with another configuration.
    pub(crate) async fn restart_with(self, change: impl FnOnce(&mut Config)) -> Self {
        let Self {
            dir,
            mut config,
            server,
            ..
        } = self;
        config.cmp.http_listen = server.cmp_http_addr();
        change(&mut config);
        server.stop().await;
        let server = Server::start(config.clone()).await.unwrap();
        let access = live::access(&server, Role::Admin).await;
        Self {
            dir,
            config,
            server,
            access,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.cmp_http_addr().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    async fn write_root(&self) {
        for (path, name) in [("pki/root.cer", "root"), ("pki/ca.cer", "ca")] {
            let (status, der) = self.get(path);
            assert_eq!(status, "200");
            std::fs::write(self.path(&format!("{name}.der")), der).unwrap();
            self.shell(&format!(
                "openssl x509 -inform DER -in {name}.der -out {name}.pem"
            ));
        }
    }

    /// Adds a secret of the device, for one use.
    pub(crate) async fn add_secret(&self, device: &str, secret: &str) {
        self.add(NewEnrolmentSecret {
            device: Some(device.to_owned()),
            secret: Some(secret.to_owned()),
            ..NewEnrolmentSecret::default()
        })
        .await;
    }

    pub(crate) async fn add(&self, secret: NewEnrolmentSecret) {
        self.access.add_enrolment_secret(secret).await.unwrap();
    }

    /// Runs a shell script in the directory; it has to succeed. Gives what it printed.
    pub(crate) fn shell(&self, script: &str) -> String {
        let (good, printed) = run(self.dir.path(), script);
        assert!(good, "{script}\n{printed}");
        printed
    }

    /// A key in `NAME.key`.
    pub(crate) fn key(&self, name: &str) {
        self.shell(&format!(
            "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"
        ));
    }

    /// Runs `openssl cmp` with these options; whether it succeeded, and what it printed.
    pub(crate) async fn cmp(&self, options: &str) -> (bool, String) {
        self.cmp_at(".well-known/cmp", options).await
    }

    /// The same at another path.
    pub(crate) async fn cmp_at(&self, path: &str, options: &str) -> (bool, String) {
        self.cmp_by("openssl", path, options).await
    }

    /// The same with another program.
    pub(crate) async fn cmp_by(&self, program: &str, path: &str, options: &str) -> (bool, String) {
        let script = format!(
            "exec timeout 120 {program} cmp -config '' -server {} -path {path} {options} 2>&1",
            self.address()
        );
        let dir = self.dir.path().to_owned();
        tokio::task::spawn_blocking(move || run(&dir, &script))
            .await
            .unwrap()
    }

    /// A certificate of the device by its secret, in `NAME.pem`, with the key in `NAME.key`.
    pub(crate) async fn enrol(&self, name: &str, device: &str) {
        self.add_secret(device, SECRET).await;
        self.key(name);
        let (good, printed) = self
            .cmp(&format!(
                "-cmd ir {} -newkey {name}.key -subject /CN=new -certout {name}.pem",
                by_secret(device)
            ))
            .await;
        assert!(good, "{printed}");
    }

    /// GET of a path: the status, and the body.
    pub(crate) fn get(&self, path: &str) -> (String, Vec<u8>) {
        let body = self.path("body");
        let script = format!(
            "curl -s -o {} -w '%{{http_code}}' http://{}/{path}",
            body.display(),
            self.address()
        );
        let status = self.shell(&script);
        (status, std::fs::read(body).unwrap_or_default())
    }

    /// The audit log's lines, newest first: action, subject, detail, whether it was allowed.
    pub(crate) async fn audit(&self) -> Vec<(String, String, String, bool)> {
        let page = self.access.audit(None, 200).await.unwrap();
        page.entries
            .into_iter()
            .map(|it| (it.action, it.subject, it.detail, it.allowed))
            .collect()
    }

    /// How many certificates there are, other than those of the CA's own services.
    pub(crate) async fn issued(&self) -> usize {
        let found = self.access.certificates(Default::default()).await.unwrap();
        let own = |profile: &str| profile.starts_with('(');
        found
            .certificates
            .iter()
            .filter(|it| !own(&it.profile))
            .count()
    }
}

/// Protection by the secret of a device.
pub(crate) fn by_secret(device: &str) -> String {
    format!("-secret 'pass:{SECRET}' -ref {device} -recipient /CN=anybody")
}

/// Protection by the key and certificate in `NAME.key` and `NAME.pem`, which trusts our root.
pub(crate) fn by_certificate(name: &str) -> String {
    format!("-cert {name}.pem -key {name}.key -trusted root.pem -untrusted ca.pem")
}

pub(crate) fn run(directory: &Path, script: &str) -> (bool, String) {
    let output = Command::new("sh")
        .args(["-euc", script])
        .current_dir(directory)
        .output()
        .unwrap();
    let printed = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output.status.success(), printed)
}
