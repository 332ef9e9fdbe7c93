//! Mosquitto, for MQTT.

use std::fs::DirBuilder;
use std::net::TcpStream;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::{Parties, Process, free_port, installed};
use crate::demo::failed;
use crate::demo::pki::write;
use crate::failure::Failure;

const SERVER: &str = "/usr/sbin/mosquitto";

/// A broker that runs.
#[derive(Debug)]
pub(crate) struct Mosquitto {
    port: u16,
    _process: Process,
}

impl Mosquitto {
    /// Starts one in `dir`.
    ///
    /// # Errors
    /// [`Failure::Failed`] when it is not installed, or does not start.
    pub(crate) async fn start(dir: &Path, parties: &Parties<'_>) -> Result<Self, Failure> {
        installed(SERVER, "mosquitto", "mqtt")?;
        let dir = dir.join("mosquitto");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|error| failed(&error))?;
        let port = free_port()?;
        let (conf, acl, log) = (dir.join("conf"), dir.join("acl"), dir.join("log"));
        let settings = format!(
            "user root\n\
             persistence false\n\
             log_dest stdout\n\
             acl_file {}\n\
             set_tcp_nodelay true\n\
             listener {port} 127.0.0.1\n\
             cafile {}\n\
             certfile {}\n\
             keyfile {}\n\
             require_certificate true\n\
             use_identity_as_username true\n",
            acl.display(),
            parties.ca.display(),
            parties.broker.certificate.display(),
            parties.broker.key.display(),
        );
        // `%u` is the common name of a certificate, which is the Endpoint ID here.
        let rights = format!(
            "pattern read usp/agent/%u\n\
             pattern read usp/agent/%u/#\n\
             pattern write usp/from/%u\n\
             pattern write usp/from/%u/#\n\
             user {}\n\
             topic read usp/from/#\n\
             topic write usp/agent/#\n",
            parties.controller
        );
        for (path, text) in [(&conf, &settings), (&acl, &rights)] {
            write(path, text, 0o600).map_err(|error| failed(&error))?;
        }
        let mut process = Process::start(SERVER, &log, |command| {
            command.arg("-c").arg(&conf);
        })?;
        let ready = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        process.wait(&log, ready).await?;
        Ok(Self {
            port,
            _process: process,
        })
    }

    /// The port for MQTT over TLS, on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}
