//! The server, as `homefleet serve` runs it.

use std::io::Read;
use std::path::Path;

use homefleet_api::Mtp;
use homefleet_server::{Config, Server};

use crate::Way;
use crate::pki::{CONTROLLER, CONTROLLER_USER, Ca, PASSWORD};

const FILE: &str = "homefleet.toml";

/// Writes what a server for this MTP needs, `port` being that of the broker; the port for CoAP without security.
pub(crate) fn configure(directory: &Path, ca: &Ca, way: Way, port: u16) -> u16 {
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    let issued = ca.issue(CONTROLLER);
    write("server.pem", &issued.chain);
    write("server.key", &issued.key);
    write("ca.pem", &ca.pem());
    write("password", PASSWORD);
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let listen = "127.0.0.1:0";
    let mtp = match way {
        Way::Coap { .. } => String::new(),
        Way::WebSocket { secure } => {
            let key = if secure { "listen" } else { "plain_listen" };
            format!("[websocket]\n{key} = {listen:?}\n")
        }
        Way::Stomp { secure } => {
            let login = if secure {
                String::new()
            } else {
                format!(
                    "login = {CONTROLLER:?}\npassword_file = {:?}\n",
                    path("password")
                )
            };
            format!(
                "[[stomp]]\nname = \"bench\"\nhost = \"localhost\"\nport = {port}\ntls = {secure}\n\
                 destination = \"/topic/usp.controller.#\"\n\
                 senders = \"/topic/usp.controller.{{endpoint-id}}\"\n{login}"
            )
        }
        Way::Mqtt { secure } => {
            let login = if secure {
                String::new()
            } else {
                format!(
                    "username = {CONTROLLER_USER:?}\npassword_file = {:?}\n",
                    path("password")
                )
            };
            format!(
                "[[mqtt]]\nname = \"bench\"\nhost = \"localhost\"\nport = {port}\ntls = {secure}\n\
                 topic = \"usp/controller\"\nsession_expiry = 0\n{login}"
            )
        }
        Way::Uds => format!("[uds]\nlisten = {:?}\n", socket(directory)),
    };
    // The server tells its secure address only.
    let plain_port = free_port();
    let plain = match way {
        Way::Coap { secure: false } => format!("plain_listen = \"127.0.0.1:{plain_port}\"\n"),
        _ => String::new(),
    };
    let config = format!(
        "version = 1\nendpoint_id = {CONTROLLER:?}\ndata_dir = {:?}\n\
         [tls]\ncertificate = {:?}\nkey = {:?}\nanchors = {:?}\nallow_untrusted_brokers = true\n\
         [http]\nlisten = {listen:?}\n\
         [coap]\nlisten = {listen:?}\n{plain}{mtp}",
        path("data"),
        path("server.pem"),
        path("server.key"),
        path("ca.pem"),
    );
    write(FILE, &config);
    plain_port
}

/// The socket file.
pub(crate) fn socket(directory: &Path) -> String {
    directory.join("usp.sock").to_str().unwrap().to_owned()
}

/// A UDP port that was free a moment ago.
fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

/// Serves until nobody is there any more; says where.
pub(crate) fn main(directory: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let config = Config::load(&directory.join(FILE)).unwrap();
    let server = runtime.block_on(Server::start(config)).unwrap();
    let websocket = server.address(Mtp::Websocket).unwrap_or_default();
    println!("{} {websocket}", server.coap_addr());
    let mut nothing = Vec::new();
    std::io::stdin().read_to_end(&mut nothing).unwrap();
}
