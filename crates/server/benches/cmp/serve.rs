//! The server, as `homefleet serve` runs it.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use homefleet_api::NewToken;
use homefleet_server::clock::Millis;
use homefleet_server::config::{PkiProfile, Tls};
use homefleet_server::pki::{self, CaKeyKind, CaShape, Init};
use homefleet_server::{Config, Server};

use crate::device::{MAKER, SECRET};

const PASSPHRASE: &str = "correct horse";

/// Serves until nobody is there any more; says where.
pub(crate) fn main(directory: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let config = config(directory);
    let server = runtime.block_on(async {
        let server = Server::start(config).await.unwrap();
        let token = server
            .create_token(NewToken {
                name: "bench".to_owned(),
                role: homefleet_api::Role::Admin,
                expires_in: None,
            })
            .await
            .unwrap();
        let access = server.core().authenticate(&token.secret).await.unwrap();
        access
            .add_enrolment_secret(homefleet_api::NewEnrolmentSecret {
                reference: Some("bench".to_owned()),
                secret: Some(SECRET.to_owned()),
                uses: Some(0),
                ..Default::default()
            })
            .await
            .unwrap();
        server
    });
    let (http, coaps) = (
        server.cmp_http_addr().unwrap(),
        server.cmp_coaps_addr().unwrap(),
    );
    println!("{http} {coaps}");
    let mut nothing = Vec::new();
    std::io::stdin().read_to_end(&mut nothing).unwrap();
}

fn config(directory: &Path) -> Config {
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI(
        "urn:bbf:usp:id:proto::controller".try_into().unwrap(),
    )];
    let certificate = params.self_signed(&key).unwrap().pem();
    let tls = Tls::new(
        write("server.pem", &certificate),
        write("server.key", &key.serialize_pem()),
        write("anchors.pem", &certificate),
    );
    let mut config = Config::new("proto::controller", directory.join("data"), tls);
    let year = Duration::from_secs(365 * 86_400);
    let shape = |name: &str, years| CaShape {
        subject: format!("CN={name}"),
        key: CaKeyKind::P256,
        lifetime: years * year,
    };
    std::fs::create_dir_all(directory.join("data")).unwrap();
    let init = Init {
        directory: config.pki_directory(),
        root: shape("Root", 20),
        issuing: shape("Issuing", 10),
        path_len: 0,
        root_crl_urls: Vec::new(),
        root_ca_issuers_urls: Vec::new(),
        passphrase: PASSPHRASE.to_owned().into(),
        root_passphrase: None,
        iterations: Some(1000),
        token: None,
    };
    pki::init(&init, Millis::from(SystemTime::now())).unwrap();
    config.pki.enabled = true;
    config.pki.passphrase_file = Some(write("passphrase", PASSPHRASE));
    config.pki.default_profile = "bench".to_owned();
    config.pki.profile.push(PkiProfile {
        name: "bench".to_owned(),
        subject: None,
        san: Vec::new(),
        from_request: vec!["subject".to_owned()],
        who: ["secret", "manufacturer"].map(str::to_owned).into(),
        implicit_confirm: true,
        ..PkiProfile::device()
    });
    config.cmp.http_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.cmp.coaps_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.cmp.manufacturers = vec![directory.join(MAKER)];
    (config.cmp.per_second, config.cmp.burst) = (1_000_000, 1_000_000);
    config.cmp.transactions = 1_000_000;
    config
}
