//! Where devices ask for certificates over CoAP and CoAP over DTLS (RFC 9482).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use homefleet_net::cmp::{CoapConfig, CoapListener, Secure, Service};
use homefleet_net::dtls::{Budget, Credentials, TrustVerifier, Verifier};
use homefleet_trust::{Anchor, Policy, Time};

use crate::config::Cmp;
use crate::metrics::Sample;
use crate::server::StartError;

/// All sources together may ask for this many times what one may.
const SOURCES: u32 = 20;

/// Listens as the configuration says; `None` when it says nothing. Devices whose certificate is of one of the `known` CAs are named to the
/// service.
///
/// # Errors
/// When an address cannot be listened on.
pub(crate) fn start(
    config: &Cmp,
    credentials: &Credentials,
    known: Vec<Anchor>,
    service: Arc<dyn Service>,
) -> Result<Option<CoapListener>, StartError> {
    if config.coap_listen.is_none() && config.coaps_listen.is_none() {
        return Ok(None);
    }
    let callers: Arc<dyn Verifier> = Arc::new(TrustVerifier::new(known, Policy::default(), || {
        Time::Accurate(SystemTime::now())
    }));
    let listener = CoapListener::bind(
        CoapConfig {
            plain_listen: config.coap_listen,
            secure: config.coaps_listen.map(|listen| Secure {
                listen,
                credentials: credentials.clone(),
                callers: Some(callers),
            }),
            max_observers: config.observers,
            announced_again: Duration::from_secs(config.announced_again),
            max_message: config.max_message,
            accept_octet_stream: config.accept_octet_stream,
            max_under_way: config.at_once,
            client_budget: Budget {
                burst: config.burst,
                per_second: config.per_second,
            },
            budget: Budget {
                burst: config.burst.saturating_mul(SOURCES),
                per_second: config.per_second.saturating_mul(SOURCES),
            },
            ..CoapConfig::default()
        },
        service,
    );
    listener.map(Some).map_err(|error| {
        let (key, address) = match (config.coap_listen, config.coaps_listen) {
            (Some(address), None) => ("cmp.coap_listen", address),
            (None, Some(address)) => ("cmp.coaps_listen", address),
            (plain, secure) => which(plain, secure),
        };
        StartError::Listen {
            key,
            address,
            problem: error.to_string(),
        }
    })
}

/// Which of the two cannot be had.
fn which(plain: Option<SocketAddr>, secure: Option<SocketAddr>) -> (&'static str, SocketAddr) {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    match secure {
        Some(address) if std::net::UdpSocket::bind(address).is_err() => {
            ("cmp.coaps_listen", address)
        }
        _ => ("cmp.coap_listen", plain.unwrap_or(any)),
    }
}

/// What the listener counts.
pub(crate) fn samples(listener: &CoapListener) -> Vec<Sample> {
    let stats = listener.stats();
    vec![
        Sample::counter(
            "cmp_coap_messages",
            "CMP messages that came over CoAP",
            stats.messages,
        ),
        Sample::counter(
            "cmp_coap_rejected",
            "CoAP requests to the CMP server that are none of CMP",
            stats.rejected,
        ),
        Sample::counter(
            "cmp_coap_over_limit",
            "CoAP requests to the CMP server that were told to come again later",
            stats.over_limit,
        ),
        Sample::counter(
            "homefleet_cmp_announcement_requests",
            "Requests for announcements, registrations of observers and others",
            stats.announcements,
        ),
        Sample::gauge(
            "homefleet_cmp_observers",
            "Observers of announcements",
            i64::try_from(stats.node.observers).unwrap_or(i64::MAX),
        ),
        Sample::counter(
            "homefleet_cmp_observers_refused",
            "Observers of announcements that found no room",
            stats.node.coap.observers_refused,
        ),
        Sample::gauge(
            "cmp_coap_associations",
            "DTLS associations of the CMP server",
            i64::try_from(stats.node.sessions).unwrap_or(i64::MAX),
        ),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use homefleet_net::cmp::{Answer, BoxFuture, Client, ClientConfig, Request, ServerTrust};

    use super::*;

    struct Echo;

    impl Service for Echo {
        fn answer(self: Arc<Self>, request: Request) -> BoxFuture<'static, Answer> {
            Box::pin(async move { Answer::message(request.message) })
        }
    }

    fn loopback() -> Option<SocketAddr> {
        Some(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    #[tokio::test]
    async fn without_an_address_nobody_listens() {
        let none = start(
            &Cmp::default(),
            &Credentials::default(),
            Vec::new(),
            Arc::new(Echo),
        );
        assert!(none.unwrap().is_none());
    }

    #[tokio::test]
    async fn the_limits_of_the_configuration_hold() {
        let config = Cmp {
            coap_listen: loopback(),
            max_message: 4096,
            ..Cmp::default()
        };
        let service = Arc::new(Echo);
        let listener = start(&config, &Credentials::default(), Vec::new(), service);
        let listener = listener.unwrap().unwrap();
        let url = format!("coap://{}", listener.plain_addr().unwrap());
        let url = url.parse().unwrap();
        let client = Client::new(ClientConfig::new(ServerTrust::FromCmp)).unwrap();
        let answer = client.exchange(&url, None, &[0; 4096]).await.unwrap();
        assert_eq!(answer.len(), 4096);
        let error = client.exchange(&url, None, &[0; 4097]).await.unwrap_err();
        assert!(error.to_string().contains("4.13"), "{error}");
        assert_eq!(samples(&listener).len(), 7);
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named() {
        let taken = std::net::UdpSocket::bind(loopback().unwrap()).unwrap();
        let config = Cmp {
            coap_listen: Some(taken.local_addr().unwrap()),
            ..Cmp::default()
        };
        let error = start(&config, &Credentials::default(), Vec::new(), Arc::new(Echo));
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("cmp.coap_listen: cannot listen on"),
            "{error}"
        );
    }
}
