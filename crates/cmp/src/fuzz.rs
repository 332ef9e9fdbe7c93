//! Bodies for fuzzers; they must never panic. Replayed over the corpus by the test suite.

use std::time::{Duration, Instant};

use der::{Reader, SliceReader, asn1::OctetString};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::{
    CertificateParts, Moment, Refusal, RequestParts,
    asn1::{Body, Certificate, Control, GeneralName, Info, Limits, Message, Name},
    authority::{
        Authority, AuthorityConfig, Decision, Event, ExchangeId, Issued, RequestKind, TransactionId,
    },
    client::{Client, ClientConfig, ClientEvent, Request},
    crypto::{Hash, Mac, MacPolicy, Secret},
    possession,
    protection::{Distrust, Peers, Protection, ProtectionPolicy, Protector, verify},
    rules,
};

struct Anybody;

impl Peers for Anybody {
    fn secret(&self, _: &[u8]) -> Option<Secret> {
        Some(Secret::new(SECRET))
    }

    fn judge(&self, _: &Certificate, _: &[Certificate]) -> Result<(), Distrust> {
        Ok(())
    }
}

/// The bytes as a message: what decodes encodes to the same bytes, and everything in it is looked at.
pub fn codec(data: &[u8]) {
    let limits = Limits::default();
    let Ok(message) = Message::decode(data, &limits) else {
        return;
    };
    assert_eq!(message.encode().as_deref(), Ok(data));
    look(&message, &limits);
}

fn look(message: &Message, limits: &Limits) {
    let policy = ProtectionPolicy {
        mac: MacPolicy {
            max_iterations: 1_000,
            ..MacPolicy::lenient()
        },
        ..ProtectionPolicy::default()
    };
    let protection = verify(message, &policy, &Anybody).unwrap_or(Protection::None);
    for certificate in message.extra_certs() {
        let _parts = CertificateParts::read(certificate);
    }
    for info in message.header.general_info.iter().flatten() {
        let _info = Info::read(info);
    }
    match &*message.body {
        Body::Ir(requests) | Body::Cr(requests) | Body::Kur(requests) => {
            for request in requests {
                let _possession = possession::verify(request, &protection, &policy.mac);
                for control in request.cert_req.controls.iter().flatten() {
                    let _control = Control::read(control);
                }
            }
        }
        Body::P10cr(request) => {
            if let Ok(parts) = RequestParts::read(request) {
                let _possession = possession::verify_pkcs10(&parts);
            }
        }
        Body::Genm(infos) | Body::Genp(infos) => {
            for info in infos {
                if let Ok(read) = Info::read(info) {
                    let _written = read.write();
                }
            }
        }
        Body::Error(error) => {
            let _text = error.status_info.to_string();
        }
        Body::Nested(_) => {
            if let (Ok(inner), Some(nesting)) =
                (message.nested(limits), limits.nesting.checked_sub(1))
            {
                let limits = Limits { nesting, ..*limits };
                for message in &inner {
                    look(message, &limits);
                }
            }
        }
        _ => {}
    }
}

const SECRET: &[u8] = b"secret";
const TRANSACTION: [u8; 16] = [1; 16];

/// The bytes as a play: before each message a byte that says what is put right about it, to whom it goes, and what happens then. Everything
/// is protected again, so that it is not the MAC that stops it. Each exchange has one answer at most, and bounds are kept.
pub fn machine(data: &[u8], now: Instant) {
    if let Some(mut play) = Play::new(now) {
        play.run(data);
    }
}

struct Play {
    authority: Authority,
    client: Client,
    protector: Protector,
    moment: Moment,
    rng: ChaCha20Rng,
    /// The last nonce of authority and client.
    nonces: [Option<OctetString>; 2],
    asked: Vec<TransactionId>,
}

const MAX_TRANSACTIONS: usize = 3;

impl Play {
    fn new(now: Instant) -> Option<Self> {
        let mac = Mac::PasswordBased {
            salt: vec![1; 16],
            owf: Hash::Sha256,
            iterations: 1,
            mac: Hash::Sha256,
        };
        let protector = Protector::secret(b"device", Secret::new(SECRET), mac).ok()?;
        let policy = ProtectionPolicy {
            mac: MacPolicy {
                min_iterations: 1,
                max_iterations: 1,
                ..MacPolicy::default()
            },
            ..ProtectionPolicy::default()
        };
        let moment = Moment { now, time: None };
        let authority = AuthorityConfig {
            protection: policy,
            max_transactions: MAX_TRANSACTIONS,
            max_finished: 2,
            ..AuthorityConfig::new(protector.clone())
        };
        let nobody = GeneralName::directory(&Name::null()).ok()?;
        let client = ClientConfig {
            protection: policy,
            ..ClientConfig::new(protector.clone(), nobody)
        };
        let request = Request::Certificate {
            kind: RequestKind::Initialization,
            template: Box::default(),
            controls: Vec::new(),
            key: None,
        };
        Some(Self {
            authority: Authority::new(authority, [1; 32]),
            client: Client::start(client, request, moment, [2; 32]).ok()?,
            protector,
            moment,
            rng: ChaCha20Rng::from_seed([3; 32]),
            nonces: [None, None],
            asked: Vec::new(),
        })
    }

    fn run(&mut self, mut data: &[u8]) {
        let mut exchange = 0;
        while let Some((control, rest)) = data.split_first() {
            let Ok(mut reader) = SliceReader::new(rest) else {
                return;
            };
            let Ok(der) = reader.tlv_bytes() else {
                return;
            };
            data = &rest[der.len()..];
            let to_client = control & 0x20 != 0;
            let Some(bytes) = self.put_right(*control, der, usize::from(to_client)) else {
                continue;
            };
            if to_client {
                self.client.handle_input(self.moment, &bytes, &Anybody);
            } else {
                exchange += 1;
                let id = ExchangeId(exchange);
                self.authority
                    .handle_input(self.moment, id, &bytes, &Anybody);
            }
            self.go_on(*control);
        }
    }

    fn put_right(&mut self, control: u8, der: &[u8], side: usize) -> Option<Vec<u8>> {
        let message = Message::decode(der, &Limits::default()).ok()?;
        let mut header = (*message.header).clone();
        if control & 1 != 0 {
            header.recip_nonce.clone_from(&self.nonces[side]);
        }
        if control & 2 != 0 {
            let id = match side {
                0 => &TRANSACTION[..],
                _ => self.client.transaction(),
            };
            header.transaction_id = OctetString::new(id).ok();
        }
        if control & 4 != 0 {
            header.sender_nonce = OctetString::new(rules::fresh(&mut self.rng)).ok();
        }
        let body = (*message.body).clone();
        self.protector
            .protect(header, body, message.extra_certs(), &mut self.rng)
            .ok()?
            .encode()
            .ok()
    }

    fn go_on(&mut self, control: u8) {
        if control & 0x08 != 0 {
            self.moment.now += Duration::from_secs(u64::from(control) * 2);
            self.authority.handle_timeout(self.moment);
            let _sent = self.client.handle_timeout(self.moment);
        }
        while let Some(event) = self.authority.poll_event() {
            if let Event::Requested { transaction, .. }
            | Event::RevocationRequested { transaction, .. }
            | Event::InfoRequested { transaction, .. } = event
            {
                self.asked.push(transaction);
            }
        }
        if control & 0x10 != 0
            && let Some(id) = self.asked.pop()
        {
            let decision = match control & 0xC0 {
                0x00 => Decision::Issue(Box::new(Issued::new(certificate()))),
                0x40 => Decision::Answer(Vec::new()),
                0x80 => Decision::Reject(Refusal::Busy.status_info()),
                _ => Decision::wait(),
            };
            let _decided = self.authority.decide(self.moment, &id, decision);
        }
        let mut answered = std::collections::BTreeSet::new();
        while let Some((exchange, bytes)) = self.authority.poll_transmit() {
            assert!(answered.insert(exchange), "one answer for each exchange");
            self.note(0, &bytes);
        }
        assert!(self.authority.open() <= MAX_TRANSACTIONS);
        while let Some(event) = self.client.poll_event() {
            if let ClientEvent::Offered(_) = event {
                let _accepted = self.client.accept(self.moment);
            }
        }
        while let Some(bytes) = self.client.poll_transmit() {
            self.note(1, &bytes);
        }
    }

    fn note(&mut self, side: usize, bytes: &[u8]) {
        let message = Message::decode(bytes, &Limits::default());
        let message = message.expect("what we send can be read");
        self.nonces[side].clone_from(&message.header.sender_nonce);
    }
}

/// Nothing that says anything, but a SEQUENCE.
fn certificate() -> Certificate {
    Certificate::from_der(&[0x30, 0]).expect("an empty SEQUENCE")
}
