//! The server, as `homefleet serve` runs it, with an ACS that takes every device.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

use homefleet_api::{NewToken, Role};
use homefleet_server::config::{Tls, UnknownCpes};
use homefleet_server::{Config, Server};

use crate::{LOGIN, PASSWORD};

/// Serves until nobody is there any more; says where devices and operators come, and the operator's token.
pub(crate) fn main(directory: &Path, login: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let config = config(directory, login);
    let (server, token) = runtime.block_on(async {
        let server = Server::start(config).await.unwrap();
        let new = NewToken {
            name: "bench".to_owned(),
            role: Role::Admin,
            expires_in: None,
        };
        let token = server.create_token(new).await.unwrap();
        (server, token.secret)
    });
    let acs = server.acs_addr().unwrap();
    println!("http://{acs}/ http://{} {token}", server.http_addr());
    let mut nothing = Vec::new();
    std::io::stdin().read_to_end(&mut nothing).unwrap();
}

fn config(directory: &Path, login: bool) -> Config {
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
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = Config::new("proto::controller", directory.join("data"), tls);
    config.http.listen = any;
    config.coap.listen = any;
    config.acs.listen = Some(any);
    config.acs.unknown = UnknownCpes::Admit;
    config.acs.call_networks = vec!["127.0.0.0/8".to_owned()];
    // The measured sessions are not of the devices that would remember them.
    config.acs.device_logins = false;
    // One that is over lingers for five seconds; here there are thousands a second.
    config.acs.sessions = 100_000;
    config.acs.call_networks = vec!["127.0.0.0/8".to_owned()];
    if login {
        config.acs.username = Some(LOGIN.to_owned());
        let file = write("acs-password", PASSWORD);
        #[allow(clippy::permissions_set_readonly_false)]
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        config.acs.password_file = Some(file);
    }
    config
}
