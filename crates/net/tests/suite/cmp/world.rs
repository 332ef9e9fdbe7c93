//! A CA in memory behind a service, a service that says what the test wants, and a client that walks through a transaction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use homefleet_cmp::authority::{Authority, AuthorityConfig, ExchangeId, RequestKind};
use homefleet_cmp::client::{self, ClientEvent, Outcome};
use homefleet_cmp::crypto::MacPolicy;
use homefleet_cmp::protection::{ProtectionPolicy, Protector};
use homefleet_net::cmp::{
    Answer, BoxFuture, Client, CoapConfig, CoapListener, ExchangeError, File, Media, Operation,
    Request, Secure, Service, Url,
};
use homefleet_net::dtls::Verifier;

use crate::cmp_world::{authority_config, certificate_request, grant, moment, nobody};
use crate::openssl::Known;
use crate::support::nodes::{LOOPBACK, brisk};
use crate::support::pair::CONTROLLER;
use crate::support::pki::{Ca, Issued, Leaf};

/// A CA that grants everything to everybody who knows the secret or has a certificate of it.
pub(crate) struct TestCa {
    authority: Mutex<Authority>,
    exchange: AtomicU64,
    requests: Mutex<Vec<Request>>,
    pub(crate) delay: Duration,
}

impl TestCa {
    pub(crate) fn new() -> Arc<Self> {
        Self::slow(Duration::ZERO)
    }

    /// One that takes this long for every answer.
    pub(crate) fn slow(delay: Duration) -> Arc<Self> {
        // What openssl 3.0 does unless it is told otherwise.
        let config = AuthorityConfig {
            protection: ProtectionPolicy {
                mac: MacPolicy::lenient(),
                ..ProtectionPolicy::default()
            },
            ..authority_config()
        };
        Arc::new(Self {
            authority: Mutex::new(Authority::new(config, [3; 32])),
            exchange: AtomicU64::new(0),
            requests: Mutex::default(),
            delay,
        })
    }

    /// What came, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    fn decide(&self, message: &[u8]) -> Vec<u8> {
        let mut authority = self.authority.lock().unwrap();
        let exchange = ExchangeId(self.exchange.fetch_add(1, Ordering::SeqCst));
        authority.handle_input(moment(), exchange, message, &Known);
        while let Some(event) = authority.poll_event() {
            if let Some(decision) = grant(&event)
                && let homefleet_cmp::authority::Event::Requested { transaction, .. } = &event
            {
                authority.decide(moment(), transaction, decision).unwrap();
            }
        }
        let (to, bytes) = authority.poll_transmit().unwrap();
        assert_eq!(to, exchange);
        bytes
    }
}

impl Service for TestCa {
    fn answer(self: Arc<Self>, request: Request) -> BoxFuture<'static, Answer> {
        Box::pin(async move {
            tokio::time::sleep(self.delay).await;
            if request
                .target
                .label
                .as_deref()
                .is_some_and(|label| label != "home")
            {
                return Answer::NoSuchTarget;
            }
            let answer = self.decide(&request.message);
            self.requests.lock().unwrap().push(request);
            Answer::message(answer)
        })
    }

    fn labels(&self) -> Vec<String> {
        vec!["home".to_owned()]
    }

    fn files(&self) -> Vec<(String, Media)> {
        vec![
            ("pki/ca.crl".to_owned(), Media::Crl),
            ("pki/ca.cer".to_owned(), Media::Certificate),
            ("pki/ocsp".to_owned(), Media::Ocsp),
        ]
    }

    fn file(self: Arc<Self>, path: &str) -> BoxFuture<'static, Option<File>> {
        let media = match path {
            "pki/ca.crl" => Some(Media::Crl),
            "pki/ca.cer" => Some(Media::Certificate),
            _ => None,
        };
        Box::pin(async move {
            media.map(|media| File {
                media,
                bytes: Arc::new(crl()),
                max_age: Duration::from_secs(3600),
            })
        })
    }

    fn ocsp(self: Arc<Self>, request: Vec<u8>) -> BoxFuture<'static, Option<Vec<u8>>> {
        Box::pin(async move { Some([b"about ".as_slice(), &request].concat()) })
    }
}

/// What stands for a CRL: too long for one block.
pub(crate) fn crl() -> Vec<u8> {
    (0..5000_u32).map(|n| (n % 253) as u8).collect()
}

/// Answers by a function.
pub(crate) struct Scripted<F>(pub(crate) F);

impl<F> Service for Scripted<F>
where
    F: Fn(Request) -> BoxFuture<'static, Answer> + Send + Sync + 'static,
{
    fn answer(self: Arc<Self>, request: Request) -> BoxFuture<'static, Answer> {
        (self.0)(request)
    }
}

/// Sends every message back.
pub(crate) fn echo() -> Arc<dyn Service> {
    Arc::new(Scripted(|request: Request| -> BoxFuture<'static, Answer> {
        Box::pin(async move { Answer::message(request.message) })
    }))
}

/// Always the same answer.
pub(crate) fn always(answer: Answer) -> Arc<dyn Service> {
    Arc::new(Scripted(move |_| -> BoxFuture<'static, Answer> {
        let answer = answer.clone();
        Box::pin(async move { answer })
    }))
}

/// On loopback, plain.
pub(crate) fn plain() -> CoapConfig {
    CoapConfig {
        plain_listen: Some(LOOPBACK.parse().unwrap()),
        coap: brisk(),
        ..CoapConfig::default()
    }
}

/// On loopback, both. Whom `callers` accepts is known.
pub(crate) fn secure(ca: &Ca, callers: Option<Arc<dyn Verifier>>) -> CoapConfig {
    CoapConfig {
        secure: Some(Secure {
            listen: LOOPBACK.parse().unwrap(),
            credentials: direct(ca, CONTROLLER).credentials(),
            callers,
        }),
        ..plain()
    }
}

/// A certificate without an intermediate: libcoap shows one only.
pub(crate) fn direct(ca: &Ca, id: &str) -> Issued {
    let mut leaf = Leaf::endpoint(id);
    leaf.through_intermediate = false;
    ca.issue(&leaf)
}

pub(crate) fn bind(config: CoapConfig, service: Arc<dyn Service>) -> CoapListener {
    CoapListener::bind(config, service).unwrap()
}

pub(crate) fn plain_url(listener: &CoapListener) -> Url {
    let addr = listener.plain_addr().unwrap();
    format!("coap://{addr}").parse().unwrap()
}

pub(crate) fn secure_url(listener: &CoapListener) -> Url {
    let port = listener.secure_addr().unwrap().port();
    format!("coaps://localhost:{port}").parse().unwrap()
}

/// Asks for a certificate and confirms it.
pub(crate) async fn enroll(
    client: &Client,
    url: &Url,
    protector: Protector,
) -> Result<Outcome, ExchangeError> {
    let config = client::ClientConfig::new(protector, nobody());
    let request = certificate_request(RequestKind::Initialization);
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    let mut machine = client::Client::start(config, request, moment(), seed).unwrap();
    loop {
        if let Some(message) = machine.poll_transmit() {
            let operation = Some(Operation::Initialization);
            let answer = client.exchange(url, operation, &message).await?;
            machine.handle_input(moment(), &answer, &Known);
        }
        match machine.poll_event() {
            Some(ClientEvent::Offered(_)) => machine.accept(moment()).unwrap(),
            Some(ClientEvent::Finished(outcome)) => return Ok(outcome),
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
}

/// What a message of some size is, as far as the transfer is concerned.
pub(crate) fn message(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 249) as u8).collect()
}
