//! How the demo's server and agent talk.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use homefleet_server::Config;
use homefleet_server::config::{Mqtt, Stomp, Version};

use super::broker::{Mosquitto, Parties, Rabbit};
use super::failed;
use super::home::CONTROLLER_ID;
use super::pki::{Authority, Issued};
use crate::failure::Failure;

/// The name of the one broker in the server's configuration.
const BROKER: &str = "demo";
/// Where brokers are.
const HOST: &str = "127.0.0.1";

/// A Message Transfer Protocol to choose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Mtp {
    /// CoAP in DTLS
    #[default]
    Coap,
    /// MQTT 5.0 over TLS, through a mosquitto of the demo's own
    Mqtt,
    /// STOMP over TLS, through a RabbitMQ of the demo's own
    Stomp,
    /// WebSocket over TLS
    Websocket,
}

impl Mtp {
    /// As a person reads it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Coap => "CoAP in DTLS",
            Self::Mqtt => "MQTT over TLS, through a broker",
            Self::Stomp => "STOMP over TLS, through a broker",
            Self::Websocket => "WebSocket over TLS",
        }
    }
}

/// An MTP with what it needs, which runs for as long as this lives.
#[derive(Debug)]
pub(super) enum Way {
    Coap,
    Mqtt(Mosquitto, PathBuf),
    Stomp(Rabbit, PathBuf),
    Websocket(SocketAddr),
}

impl Way {
    pub(super) async fn open(
        mtp: Mtp,
        dir: &Path,
        authority: &Authority,
        device: &str,
    ) -> Result<Self, Failure> {
        let parties = |broker| Parties {
            broker,
            ca: &authority.certificate,
            controller: CONTROLLER_ID,
            device,
        };
        let issue = || -> Result<Issued, Failure> {
            let hosts = &["localhost", HOST];
            authority
                .host(dir, "broker", hosts)
                .map_err(|error| failed(&error))
        };
        Ok(match mtp {
            Mtp::Coap => Self::Coap,
            Mtp::Mqtt => {
                let issued = issue()?;
                let broker = Mosquitto::start(dir, &parties(&issued)).await?;
                Self::Mqtt(broker, issued.certificate)
            }
            Mtp::Stomp => {
                let issued = issue()?;
                let broker = Rabbit::start(dir, &parties(&issued)).await?;
                Self::Stomp(broker, issued.certificate)
            }
            Mtp::Websocket => {
                let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
                let address = free.and_then(|listener| listener.local_addr());
                Self::Websocket(address.map_err(|error| failed(&error))?)
            }
        })
    }

    pub(super) fn mtp(&self) -> Mtp {
        match self {
            Self::Coap => Mtp::Coap,
            Self::Mqtt(..) => Mtp::Mqtt,
            Self::Stomp(..) => Mtp::Stomp,
            Self::Websocket(_) => Mtp::Websocket,
        }
    }

    /// PEM file of the certificate of the broker, which both sides trust.
    pub(super) fn broker(&self) -> Option<PathBuf> {
        match self {
            Self::Mqtt(_, certificate) | Self::Stomp(_, certificate) => Some(certificate.clone()),
            Self::Coap | Self::Websocket(_) => None,
        }
    }

    /// What the server's configuration says of it.
    pub(super) fn enter(&self, config: &mut Config) {
        config.tls.brokers = self.broker();
        match self {
            Self::Coap => {}
            Self::Mqtt(broker, _) => config.mqtt.push(Mqtt {
                name: BROKER.to_owned(),
                host: HOST.to_owned(),
                port: Some(broker.port()),
                tls: true,
                version: Version::V5,
                client_id: None,
                username: None,
                password_file: None,
                topic: None,
                senders: Some("usp/from/{endpoint-id}".to_owned()),
                qos: 1,
                keep_alive: 60,
                session_expiry: 0,
            }),
            Self::Stomp(broker, _) => config.stomp.push(Stomp {
                name: BROKER.to_owned(),
                host: HOST.to_owned(),
                port: Some(broker.port()),
                tls: true,
                virtual_host: None,
                login: None,
                password_file: None,
                destination: Some("/topic/usp.controller.#".to_owned()),
                senders: Some("/topic/usp.controller.{endpoint-id}".to_owned()),
                heart_beat: 10,
            }),
            Self::Websocket(address) => config.websocket.listen = Some(*address),
        }
    }

    /// Where the agent finds the server, whose address for CoAP is `coap`.
    pub(super) fn controller(&self, coap: SocketAddr, device: &str) -> String {
        match self {
            Self::Coap => format!("coaps://{coap}/usp"),
            Self::Mqtt(broker, _) => {
                format!("mqtts://{HOST}:{}/usp/from/{device}", broker.port())
            }
            Self::Stomp(broker, _) => format!(
                "stomps://{HOST}:{}/topic/usp.controller.{device}",
                broker.port()
            ),
            Self::Websocket(address) => format!("wss://{address}/usp"),
        }
    }

    /// Where the agent is reached at the broker.
    pub(super) fn agent(&self, device: &str) -> Option<String> {
        match self {
            Self::Coap | Self::Websocket(_) => None,
            Self::Mqtt(..) => Some(format!("usp/agent/{device}")),
            Self::Stomp(..) => Some(format!("/topic/usp.agent.{device}")),
        }
    }
}
