//! A CA for tests of end entities: the authority's machine, a root, and an inventory, behind HTTP or without any transfer.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, unreachable_pub)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant, SystemTime},
};

use homefleet_cmp::{
    CertificateParts, Moment,
    asn1::{
        Body, Certificate, Extensions, Failure, Info, PublicKeyInfo, RevRepContent,
        RootCaKeyUpdate, Status, StatusInfo,
    },
    authority::{Authority, AuthorityConfig, Decision, Event, ExchangeId, Issued, RequestKind},
    crypto::{KeyKind, KeyPair as CmpKey, Secret, Signer as _},
    possession::Possession,
    protection::{Distrust, Peers, Protection, Protector},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber,
    SignatureAlgorithm,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

const SUBJECT_ALT_NAME: [u64; 4] = [2, 5, 29, 17];

/// What became of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Unconfirmed,
    Valid,
    Revoked,
}

/// A certificate that was issued.
#[derive(Clone, Debug)]
pub struct Record {
    pub serial: u64,
    pub certificate: Certificate,
    pub kind: RequestKind,
    pub standing: Standing,
}

/// What the CA does; changed at will.
pub struct Policy {
    /// By reference; with whether it was spent by a confirmed certificate, and is good once only.
    pub secrets: BTreeMap<Vec<u8>, Secret>,
    /// A secret is gone once a certificate that was asked for with it is confirmed.
    pub one_time: bool,
    /// Certificates of others that may ask, such as a manufacturer's devices.
    pub accepted: Vec<Certificate>,
    /// So many polls are answered with "wait".
    pub waits: u32,
    /// Certificate requests are refused so.
    pub refuse: Option<Failure>,
    /// Certificates are good from and until so many seconds from now.
    pub validity: (i64, i64),
    /// How long after its end a certificate may be updated, seconds.
    pub grace: i64,
    /// So many messages are processed, and their answers lost.
    pub lose_answers: u32,
    /// Common name of certificates instead of the one asked for.
    pub other_name: bool,
    /// Certificates beside the root that are told as caCerts and caPubs.
    pub more_cas: Vec<Certificate>,
    /// The root that follows this one, and the same signed by this one.
    pub next_root: Option<Certificate>,
    pub new_with_old: Option<Certificate>,
}

/// The CA.
pub struct CmpCa {
    name: String,
    root: CertifiedIssuer<'static, KeyPair>,
    state: Mutex<State>,
}

struct State {
    authority: Authority,
    policy: Policy,
    records: Vec<Record>,
    /// Bodies in the order they came, with what answered them.
    trace: Vec<String>,
    exchange: u64,
    ahead: Duration,
    /// Transactions begun with which secret, by certificate.
    spent_by: BTreeMap<u64, Vec<u8>>,
    polls_left: BTreeMap<Vec<u8>, u32>,
    waiting: Vec<(homefleet_cmp::authority::TransactionId, Decision)>,
}

/// Long enough for a handshake of a busy machine, short enough that nobody waits for it in vain.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(3600);

impl CmpCa {
    pub fn new() -> Arc<Self> {
        Self::named("Test CMP CA")
    }

    pub fn named(name: &str) -> Arc<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let (key, certificate) = responder(&root);
        let protector = Protector::signer(key, vec![certificate]).unwrap();
        let config = AuthorityConfig {
            confirm_within: CONFIRM_WITHIN,
            check_after: Duration::from_secs(1),
            revocation_needs_reason: false,
            ..AuthorityConfig::new(protector)
        };
        let mut seed = [0; 32];
        // The private key of a key that nobody uses.
        seed.copy_from_slice(&KeyPair::generate().unwrap().serialize_der()[36..68]);
        Arc::new(Self {
            name: name.to_owned(),
            root,
            state: Mutex::new(State {
                authority: Authority::new(config, seed),
                policy: Policy {
                    secrets: BTreeMap::new(),
                    one_time: false,
                    accepted: Vec::new(),
                    waits: 0,
                    refuse: None,
                    validity: (-60, 86_400),
                    grace: 0,
                    lose_answers: 0,
                    other_name: false,
                    more_cas: Vec::new(),
                    next_root: None,
                    new_with_old: None,
                },
                records: Vec::new(),
                trace: Vec::new(),
                exchange: 0,
                ahead: Duration::ZERO,
                spent_by: BTreeMap::new(),
                polls_left: BTreeMap::new(),
                waiting: Vec::new(),
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn root_pem(&self) -> String {
        self.root.pem()
    }

    pub fn root(&self) -> Certificate {
        Certificate::from_der(self.root.der()).unwrap()
    }

    /// The root of another CA, signed by ours.
    pub fn sign_root(&self, other: &Self) -> Certificate {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, other.name.as_str());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let signed = params.signed_by(other.root.key(), &self.root).unwrap();
        Certificate::from_der(signed.der()).unwrap()
    }

    /// What this CA announces, signed by a responder of its own; it brings these along.
    pub fn announced(&self, bodies: Vec<Body>, helpers: Vec<Certificate>) -> Vec<u8> {
        let (key, certificate) = responder(&self.root);
        let protector = Protector::signer(key, vec![certificate]).unwrap();
        let announcer = homefleet_cmp::announce::Announcer::new(protector, helpers);
        homefleet_net::cmp::bulletin::message(&announcer, bodies, SystemTime::now()).unwrap()
    }

    /// A secret is known by this reference.
    pub fn add_secret(&self, reference: &str, secret: &str) {
        let secret = Secret::new(secret);
        let mut state = self.state();
        state.policy.secrets.insert(reference.into(), secret);
    }

    pub fn change(&self, change: impl FnOnce(&mut Policy)) {
        change(&mut self.state().policy);
    }

    pub fn records(&self) -> Vec<Record> {
        self.state().records.clone()
    }

    /// Serial numbers of the certificates that are valid.
    pub fn valid(&self) -> Vec<u64> {
        let state = self.state();
        let valid = |record: &&Record| record.standing == Standing::Valid;
        let records = state.records.iter();
        records.filter(valid).map(|record| record.serial).collect()
    }

    /// Bodies that came, and those that answered them: `ir ip`.
    pub fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }

    /// Time passes for the CA: what nobody confirmed is revoked.
    pub fn pass(&self, by: Duration) {
        let mut state = self.state();
        state.ahead += by;
        let moment = state.moment();
        state.authority.handle_timeout(moment);
        self.take_events(&mut state);
    }

    /// A certificate of the CA for a USP Endpoint, not by CMP: PEM and key.
    pub fn issue_endpoint(&self, endpoint_id: &str, hosts: &[&str]) -> (String, String) {
        let mut params = CertificateParams::new(
            hosts
                .iter()
                .map(|host| (*host).to_owned())
                .collect::<Vec<_>>(),
        )
        .unwrap();
        let urn = format!("urn:bbf:usp:id:{endpoint_id}");
        params
            .subject_alt_names
            .insert(0, rcgen::SanType::URI(urn.try_into().unwrap()));
        params
            .distinguished_name
            .push(DnType::CommonName, endpoint_id);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.root).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// Answers a message; nothing when the answer is lost.
    pub fn answer(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut state = self.state();
        state.exchange += 1;
        let (exchange, moment) = (ExchangeId(state.exchange), state.moment());
        let peers = state.peers();
        state
            .authority
            .handle_input(moment, exchange, bytes, &peers);
        self.take_events(&mut state);
        let (_, answer) = state.authority.poll_transmit().unwrap();
        let kind = |bytes: &[u8]| {
            homefleet_cmp::asn1::Message::decode(bytes, &Default::default())
                .map_or("?".to_owned(), |message| message.body.kind().to_string())
        };
        let line = format!("{} {}", kind(bytes), kind(&answer));
        state.trace.push(line);
        if state.policy.lose_answers > 0 {
            state.policy.lose_answers -= 1;
            return None;
        }
        Some(answer)
    }

    fn take_events(&self, state: &mut State) {
        while let Some(event) = state.authority.poll_event() {
            let decided = match &event {
                Event::Requested {
                    transaction,
                    request,
                } => {
                    let decision = self.decide(state, request);
                    let decision =
                        if state.policy.waits > 0 && matches!(decision, Decision::Issue(_)) {
                            state.policy.waits -= 1;
                            state.waiting.push((transaction.clone(), decision));
                            Decision::Wait {
                                check_after: Duration::ZERO,
                                reason: Some("somebody has to look at it".to_owned()),
                            }
                        } else {
                            decision
                        };
                    Some((transaction.clone(), decision))
                }
                Event::RevocationRequested {
                    transaction,
                    details,
                    ..
                } => {
                    let serial = details.cert_details.serial_number.as_ref();
                    let serial = serial.map_or(0, |int| number(int.as_bytes()));
                    let mut records = state.records.iter_mut();
                    let decision = match records.find(|record| record.serial == serial) {
                        Some(record) => {
                            record.standing = Standing::Revoked;
                            Decision::Revoked(RevRepContent {
                                status: vec![StatusInfo::new(Status::ACCEPTED)],
                                rev_certs: None,
                                crls: None,
                            })
                        }
                        None => {
                            Decision::Reject(StatusInfo::rejection(Failure::BadCertId, "unknown"))
                        }
                    };
                    Some((transaction.clone(), decision))
                }
                Event::InfoRequested {
                    transaction, infos, ..
                } => {
                    let answer = infos.iter().map(|info| self.info(state, info)).collect();
                    Some((transaction.clone(), Decision::Answer(answer)))
                }
                Event::Confirmed { certificate, .. } => {
                    let serial = state.set(certificate, Standing::Valid);
                    let reference = state.spent_by.get(&serial).cloned();
                    if state.policy.one_time
                        && let Some(reference) = reference
                    {
                        state.policy.secrets.remove(&reference);
                    }
                    None
                }
                Event::Declined { certificate, .. } | Event::Unconfirmed { certificate, .. } => {
                    state.set(certificate, Standing::Revoked);
                    None
                }
                _ => None,
            };
            if let Some((transaction, decision)) = decided {
                let moment = state.moment();
                state
                    .authority
                    .decide(moment, &transaction, decision)
                    .unwrap();
            }
        }
    }

    /// Those who wait are granted what they asked for.
    pub fn approve(&self) {
        let mut state = self.state();
        let moment = state.moment();
        for (transaction, decision) in std::mem::take(&mut state.waiting) {
            // Who has gone away needs no answer.
            state
                .authority
                .decide(moment, &transaction, decision)
                .unwrap_or_default();
        }
    }

    fn decide(
        &self,
        state: &mut State,
        request: &homefleet_cmp::authority::CertificateRequest,
    ) -> Decision {
        if let Some(failure) = state.policy.refuse {
            return Decision::Reject(StatusInfo::rejection(failure, "not today"));
        }
        let Possession::Proven(key) = &request.possession else {
            return Decision::Reject(StatusInfo::rejection(Failure::BadPop, "whose key?"));
        };
        let serial = state.records.len() as u64 + 0x1001;
        let subject = match &request.template.subject {
            Some(name) if !name.is_null() => common_name(name.contents()),
            _ => "nobody".to_owned(),
        };
        let subject = if state.policy.other_name {
            "somebody else".to_owned()
        } else {
            subject
        };
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(serial));
        params.distinguished_name.push(DnType::CommonName, subject);
        let (from, until) = state.policy.validity;
        params.not_before = from_now(from).into();
        params.not_after = from_now(until).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        if !state.policy.other_name
            && let Some(names) = request
                .template
                .extensions
                .as_ref()
                .and_then(subject_alt_names)
        {
            params
                .custom_extensions
                .push(CustomExtension::from_oid_content(&SUBJECT_ALT_NAME, names));
        }
        let certificate = params.signed_by(&Point::of(key), &self.root).unwrap();
        let certificate = Certificate::from_der(certificate.der()).unwrap();
        state.records.push(Record {
            serial,
            certificate: certificate.clone(),
            kind: request.kind,
            standing: Standing::Unconfirmed,
        });
        if let Protection::Secret { reference, .. } = &request.requester {
            state.spent_by.insert(serial, reference.clone());
        }
        let mut issued = Issued::new(certificate);
        issued.ca_pubs = self.cas(state);
        issued.extra_certs = vec![self.root()];
        Decision::Issue(Box::new(issued))
    }

    fn cas(&self, state: &State) -> Vec<Certificate> {
        let mut all = vec![self.root()];
        all.extend(state.policy.more_cas.iter().cloned());
        all
    }

    fn info(&self, state: &State, asked: &Info) -> Info {
        match asked {
            Info::CaCerts(_) => Info::CaCerts(Some(self.cas(state))),
            Info::RootCaCert(_) => {
                Info::RootCaKeyUpdate(state.policy.next_root.clone().map(|new_with_new| {
                    Box::new(RootCaKeyUpdate {
                        new_with_new,
                        new_with_old: state.policy.new_with_old.clone(),
                        old_with_new: None,
                    })
                }))
            }
            other => Info::UnsupportedOids(vec![other.write().unwrap().info_type]),
        }
    }

    /// Serves over HTTP at a port of its own, for as long as the result lives.
    pub async fn serve(self: &Arc<Self>) -> Http {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ca = self.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let ca = ca.clone();
                tokio::spawn(async move { ca.converse(stream).await });
            }
        });
        Http { address, task }
    }

    async fn converse(&self, mut stream: TcpStream) -> Option<()> {
        let mut buffer = Vec::new();
        loop {
            let head = loop {
                if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                    break at + 4;
                }
                if stream.read_buf(&mut buffer).await.ok()? == 0 {
                    return None;
                }
            };
            let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            while buffer.len() < head + length {
                if stream.read_buf(&mut buffer).await.ok()? == 0 {
                    return None;
                }
            }
            let body: Vec<u8> = buffer.drain(..head + length).skip(head).collect();
            let answer = self.answer(&body)?;
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/pkixcmp\r\nContent-Length: {}\r\n\r\n",
                answer.len()
            );
            stream.write_all(head.as_bytes()).await.ok()?;
            stream.write_all(&answer).await.ok()?;
        }
    }
}

/// The HTTP listener.
pub struct Http {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Http {
    pub fn url(&self) -> String {
        format!("http://{}/.well-known/cmp", self.address)
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn moment(&self) -> Moment {
        Moment {
            now: Instant::now() + self.ahead,
            time: Some(SystemTime::now()),
        }
    }

    fn set(&mut self, certificate: &Certificate, standing: Standing) -> u64 {
        let mut records = self.records.iter_mut();
        let record = records
            .find(|record| record.certificate == *certificate)
            .unwrap();
        record.standing = standing;
        record.serial
    }

    fn peers(&self) -> Known {
        let now = SystemTime::now();
        let grace = u64::try_from(self.policy.grace).unwrap();
        let in_time = |certificate: &Certificate| {
            let parts = CertificateParts::read(certificate).unwrap();
            parts.not_after.to_system_time() + Duration::from_secs(grace) > now
        };
        let ours = self
            .records
            .iter()
            .filter(|record| record.standing == Standing::Valid && in_time(&record.certificate))
            .map(|record| record.certificate.clone());
        Known {
            secrets: self.policy.secrets.clone(),
            certificates: ours.chain(self.policy.accepted.iter().cloned()).collect(),
        }
    }
}

struct Known {
    secrets: BTreeMap<Vec<u8>, Secret>,
    certificates: Vec<Certificate>,
}

impl Peers for Known {
    fn secret(&self, reference: &[u8]) -> Option<Secret> {
        self.secrets.get(reference).cloned()
    }

    fn judge(&self, signer: &Certificate, _: &[Certificate]) -> Result<(), Distrust> {
        if self.certificates.contains(signer) {
            Ok(())
        } else {
            Err(Distrust::Untrusted(
                "not one of ours, or not any more".into(),
            ))
        }
    }
}

/// The key and certificate by which the CA signs messages.
fn responder(root: &CertifiedIssuer<'static, KeyPair>) -> (Arc<CmpKey>, Certificate) {
    let pkcs8 = CmpKey::generate_pkcs8(KeyKind::P256).unwrap();
    let key = CmpKey::from_pkcs8(KeyKind::P256, &pkcs8).unwrap();
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "Test RA");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let certificate = params
        .signed_by(&Point::of(&key.public_key()), root)
        .unwrap();
    let certificate = Certificate::from_der(certificate.der()).unwrap();
    (Arc::new(key), certificate)
}

/// The public key of somebody, on P-256.
struct Point(Vec<u8>);

impl Point {
    fn of(key: &PublicKeyInfo) -> Self {
        let der = key.to_der();
        // Everything before the point of a P-256 key has one length.
        assert_eq!(der.len(), 91, "tests use P-256 here");
        Self(der[26..].to_vec())
    }
}

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

fn from_now(seconds: i64) -> SystemTime {
    let (now, by) = (
        SystemTime::now(),
        Duration::from_secs(seconds.unsigned_abs()),
    );
    if seconds < 0 { now - by } else { now + by }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Tag and contents of the first element, and what follows; short and two-byte lengths do here.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        _ => (
            usize::from(*rest.first()?) << 8 | usize::from(*rest.get(1)?),
            rest.get(2..)?,
        ),
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

/// The first text in a name.
fn common_name(contents: &[u8]) -> String {
    let (_, set, _) = element(contents).unwrap();
    let (_, attribute, _) = element(set).unwrap();
    let (_, _, value) = element(attribute).unwrap();
    let (_, text, _) = element(value).unwrap();
    String::from_utf8(text.to_vec()).unwrap()
}

/// The `GeneralNames` among extensions.
fn subject_alt_names(extensions: &Extensions) -> Option<Vec<u8>> {
    let mut rest = extensions.contents();
    while let Some((_, extension, after)) = element(rest) {
        let (_, oid, value) = element(extension)?;
        if oid == [0x55, 0x1D, 0x11] {
            let (tag, contents, after) = element(value)?;
            let contents = if tag == 0x01 {
                element(after)?.1
            } else {
                contents
            };
            return Some(contents.to_vec());
        }
        rest = after;
    }
    None
}
