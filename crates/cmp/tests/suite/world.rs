//! A CA in memory, and a client that talks to it, in virtual time.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant, SystemTime};

use der::Decode;
use homefleet_cmp::{
    Moment,
    asn1::{
        Body, CertTemplate, Certificate, GeneralName, Header, Limits, Message, Name, PublicKeyInfo,
    },
    authority::{Authority, AuthorityConfig, Decision, Event, ExchangeId, Issued, RequestKind},
    client::{Client, ClientConfig, ClientEvent, Outcome, Request},
    crypto::{Mac, Secret},
    possession::Possession,
    protection::Protector,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use rcgen::{CertificateParams, DnType, Issuer, KeyPair, PublicKeyData, SignatureAlgorithm};

use crate::openssl::{Known, REFERENCE, SECRET, pki};

pub const CONFIRM_WITHIN: Duration = Duration::from_secs(300);

/// The start of virtual time. Its time of day is now, because openssl's certificates are valid now.
pub fn moment() -> Moment {
    Moment {
        now: Instant::now(),
        time: Some(SystemTime::now()),
    }
}

pub fn later(moment: Moment, by: Duration) -> Moment {
    Moment {
        now: moment.now + by,
        time: moment.time.map(|time| time + by),
    }
}

/// A certificate for a key, by the CA.
pub fn issue(common_name: &str, key: &PublicKeyInfo) -> Certificate {
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::OrganizationName, "Test");
    ca.distinguished_name.push(DnType::CommonName, "CA");
    let ca_key = KeyPair::try_from(pki().read("ca.pk8")).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let info = x509_cert::spki::SubjectPublicKeyInfoOwned::from_der(&key.to_der()).unwrap();
    let key = Point(info.subject_public_key.raw_bytes().to_vec());
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Certificate::from_der(certificate.der()).unwrap()
}

/// The public key of somebody, on P-256.
struct Point(Vec<u8>);

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// What a CA that grants everything decides.
pub fn grant(event: &Event) -> Option<Decision> {
    let Event::Requested { request, .. } = event else {
        return None;
    };
    let (Possession::Proven(key) | Possession::RaVerified(key)) = &request.possession else {
        return None;
    };
    let mut issued = Issued::new(issue("new", key));
    issued.extra_certs = vec![pki().certificate("ca")];
    Some(Decision::Issue(Box::new(issued)))
}

pub fn by_secret() -> Protector {
    Protector::secret(
        REFERENCE.as_bytes(),
        Secret::new(SECRET),
        Mac::password_based(1_000, &mut ChaCha8Rng::seed_from_u64(1)),
    )
    .unwrap()
}

pub fn by_key(name: &str) -> Protector {
    Protector::signer(pki().key(name), vec![pki().certificate(name)]).unwrap()
}

pub fn nobody() -> GeneralName {
    GeneralName::directory(&Name::null()).unwrap()
}

pub fn authority_config() -> AuthorityConfig {
    AuthorityConfig {
        confirm_within: CONFIRM_WITHIN,
        ..AuthorityConfig::new(by_key("server"))
    }
}

pub fn certificate_request(kind: RequestKind) -> Request {
    Request::Certificate {
        kind,
        template: Box::new(CertTemplate {
            subject: Some(Name::common("new")),
            ..CertTemplate::default()
        }),
        controls: Vec::new(),
        key: Some(pki().key("new")),
    }
}

/// An authority that is sent messages one at a time.
pub struct Ca {
    pub authority: Authority,
    pub moment: Moment,
    exchange: u64,
}

impl Ca {
    pub fn new() -> Self {
        Self::with(authority_config())
    }

    pub fn with(config: AuthorityConfig) -> Self {
        Self {
            authority: Authority::new(config, [1; 32]),
            moment: moment(),
            exchange: 0,
        }
    }

    /// Sends bytes; gives the answer that is there at once.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Option<Message> {
        self.exchange += 1;
        self.authority
            .handle_input(self.moment, ExchangeId(self.exchange), bytes, &Known);
        self.answer()
    }

    pub fn send(&mut self, message: &Message) -> Option<Message> {
        self.send_bytes(&message.encode().unwrap())
    }

    /// The next answer, which belongs to the last exchange.
    pub fn answer(&mut self) -> Option<Message> {
        let (exchange, bytes) = self.authority.poll_transmit()?;
        assert_eq!(exchange, ExchangeId(self.exchange));
        Some(Message::decode(&bytes, &Limits::default()).unwrap())
    }

    pub fn event(&mut self) -> Option<Event> {
        self.authority.poll_event()
    }

    /// Decides the request that the next event is about.
    pub fn decide(&mut self, decision: Decision) {
        let transaction = match self.event().unwrap() {
            Event::Requested { transaction, .. }
            | Event::RevocationRequested { transaction, .. }
            | Event::InfoRequested { transaction, .. } => transaction,
            other => panic!("{other:?}"),
        };
        self.authority
            .decide(self.moment, &transaction, decision)
            .unwrap();
    }

    pub fn sleep(&mut self, by: Duration) {
        self.moment = later(self.moment, by);
        self.authority.handle_timeout(self.moment);
    }
}

/// A requester whose every message can be bent.
pub struct Requester {
    pub protector: Protector,
    pub transaction: Vec<u8>,
    rng: ChaCha8Rng,
}

impl Requester {
    pub fn new(protector: Protector, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut transaction = vec![0; 16];
        rng.fill_bytes(&mut transaction);
        Self {
            protector,
            transaction,
            rng,
        }
    }

    /// A message as it should be, after `change`.
    pub fn message(
        &mut self,
        body: Body,
        answers: Option<&Message>,
        change: impl FnOnce(&mut Header),
    ) -> Message {
        let octets = |bytes: &[u8]| Some(der::asn1::OctetString::new(bytes).unwrap());
        let mut nonce = [0; 16];
        self.rng.fill_bytes(&mut nonce);
        let mut header = Header::new(2, self.protector.sender().clone(), nobody());
        header.transaction_id = octets(&self.transaction);
        header.sender_nonce = octets(&nonce);
        header.recip_nonce = answers.and_then(|message| message.header.sender_nonce.clone());
        change(&mut header);
        self.protector
            .protect(header, body, &[], &mut self.rng)
            .unwrap()
    }
}

/// A client and an authority.
pub struct Pair {
    pub client: Client,
    pub ca: Ca,
    pub client_events: Vec<ClientEvent>,
    pub ca_events: Vec<Event>,
    /// Bodies in the order they were sent, abbreviated.
    pub trace: Vec<String>,
    /// The messages themselves.
    pub messages: Vec<Vec<u8>>,
    /// Whether an offered certificate is accepted.
    pub accept: bool,
}

impl Pair {
    pub fn new(config: ClientConfig, request: Request, authority: AuthorityConfig) -> Self {
        let ca = Ca::with(authority);
        let client = Client::start(config, request, ca.moment, [2; 32]).unwrap();
        Self {
            client,
            ca,
            client_events: Vec::new(),
            ca_events: Vec::new(),
            trace: Vec::new(),
            messages: Vec::new(),
            accept: true,
        }
    }

    /// Runs until nobody has anything to do before time passes; `decide` decides what the authority is asked.
    pub fn run(&mut self, mut decide: impl FnMut(&Event) -> Option<Decision>) {
        loop {
            let mut moved = false;
            while let Some(bytes) = self.client.poll_transmit() {
                moved = true;
                self.note(&bytes);
                let answer = self.ca.send_bytes(&bytes);
                self.deliver(answer);
            }
            while let Some(event) = self.ca.event() {
                moved = true;
                if let (
                    Event::Requested { transaction, .. }
                    | Event::RevocationRequested { transaction, .. }
                    | Event::InfoRequested { transaction, .. },
                    Some(decision),
                ) = (&event, decide(&event))
                {
                    self.ca
                        .authority
                        .decide(self.ca.moment, transaction, decision)
                        .unwrap();
                }
                self.ca_events.push(event);
                let answer = self.ca.answer();
                self.deliver(answer);
            }
            while let Some(event) = self.client.poll_event() {
                moved = true;
                if let ClientEvent::Offered(_) = &event {
                    if self.accept {
                        self.client.accept(self.ca.moment).unwrap();
                    } else {
                        let status = homefleet_cmp::asn1::StatusInfo::rejection(
                            homefleet_cmp::asn1::Failure::BadCertTemplate,
                            "not what I asked for",
                        );
                        self.client.decline(self.ca.moment, status).unwrap();
                    }
                }
                self.client_events.push(event);
            }
            if !moved {
                return;
            }
        }
    }

    /// Lets time pass for both, then runs.
    pub fn pass(&mut self, by: Duration, decide: impl FnMut(&Event) -> Option<Decision>) {
        self.ca.sleep(by);
        let answer = self.ca.answer();
        self.deliver(answer);
        self.client.handle_timeout(self.ca.moment).unwrap();
        self.run(decide);
    }

    fn deliver(&mut self, answer: Option<Message>) {
        if let Some(message) = answer {
            let bytes = message.encode().unwrap();
            self.note(&bytes);
            self.client.handle_input(self.ca.moment, &bytes, &Known);
        }
    }

    fn note(&mut self, bytes: &[u8]) {
        let message = Message::decode(bytes, &Limits::default()).unwrap();
        self.trace.push(message.body.kind().to_string());
        self.messages.push(bytes.to_vec());
    }

    pub fn outcome(&self) -> &Outcome {
        match self.client_events.last() {
            Some(ClientEvent::Finished(outcome)) => outcome,
            other => panic!("{other:?} after {}", self.trace.join(" ")),
        }
    }
}
