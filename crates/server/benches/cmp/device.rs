//! A device that asks for one certificate after the other, each for another transaction.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use homefleet_cmp::asn1::{
    Body, BodyKind, CertOrEncCert, CertReqMsg, CertRequest, CertStatus, CertTemplate, Certificate,
    GeneralName, Header, Info, Kept, Limits, Message, Name,
};
use homefleet_cmp::crypto::{Hash, KeyKind, KeyPair, Mac, Secret, Signer as _};
use homefleet_cmp::possession;
use homefleet_cmp::protection::Protector;
use homefleet_net::cmp::{Client, ClientConfig, ServerTrust, Url};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::Way;

/// File with the manufacturer's CA.
pub(crate) const MAKER: &str = "maker.pem";
/// What devices know that ask by a secret.
pub(crate) const SECRET: &str = "benchmarks";

/// A manufacturer.
pub(crate) struct Maker {
    pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Maker {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "maker");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self {
            pem: params.self_signed(&key).unwrap().pem(),
            issuer: rcgen::Issuer::new(params, key),
        }
    }

    pub(crate) fn write(&self, directory: &Path) {
        std::fs::write(directory.join(MAKER), &self.pem).unwrap();
    }

    pub(crate) fn device(&self, number: usize, way: Way, to: &Places) -> Device {
        let seed = [u8::try_from(number).unwrap(); 32];
        let mut rng = ChaCha20Rng::from_seed(seed);
        let protector = match way {
            Way::Secret => {
                let mac = Mac::password_based(1_000, &mut rng);
                Protector::secret(b"bench", Secret::new(SECRET), mac).unwrap()
            }
            Way::Implicit | Way::Confirmed | Way::Coaps => {
                let pkcs8 = KeyPair::generate_pkcs8(KeyKind::P256).unwrap();
                let key = rcgen::KeyPair::try_from(pkcs8.clone()).unwrap();
                let mut params = rcgen::CertificateParams::default();
                let name = format!("device {number}");
                params
                    .distinguished_name
                    .push(rcgen::DnType::CommonName, name);
                let certificate = params.signed_by(&key, &self.issuer).unwrap();
                let certificate = Certificate::from_der(certificate.der()).unwrap();
                let signer = KeyPair::from_pkcs8(KeyKind::P256, &pkcs8).unwrap();
                Protector::signer(Arc::new(signer), vec![certificate]).unwrap()
            }
        };
        let pkcs8 = KeyPair::generate_pkcs8(KeyKind::P256).unwrap();
        Device {
            key: KeyPair::from_pkcs8(KeyKind::P256, &pkcs8).unwrap(),
            road: match way {
                Way::Coaps => Road::coaps(to.coaps),
                _ => Road::Http(BufReader::new(TcpStream::connect(to.http).unwrap())),
            },
            protector,
            rng,
            way,
        }
    }
}

/// Where the server is.
#[derive(Clone, Copy)]
pub(crate) struct Places {
    pub(crate) http: SocketAddr,
    pub(crate) coaps: SocketAddr,
}

/// How messages get there: over a connection or an association that is kept.
enum Road {
    Http(BufReader<TcpStream>),
    Coaps {
        runtime: tokio::runtime::Runtime,
        client: Client,
        url: Url,
    },
}

impl Road {
    fn coaps(to: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let client = Client::new(ClientConfig::new(ServerTrust::FromCmp)).unwrap();
        let url = format!("coaps://{to}").parse().unwrap();
        Self::Coaps {
            runtime,
            client,
            url,
        }
    }

    fn carry(&mut self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Http(stream) => post(stream, message),
            Self::Coaps {
                runtime,
                client,
                url,
            } => runtime
                .block_on(client.exchange(url, None, message))
                .unwrap(),
        }
    }
}

pub(crate) struct Device {
    protector: Protector,
    key: KeyPair,
    road: Road,
    rng: ChaCha20Rng,
    way: Way,
}

impl Device {
    /// One certificate.
    pub(crate) fn enrol(&mut self) {
        let cert_req = Kept::new(CertRequest {
            cert_req_id: 0,
            cert_template: CertTemplate {
                subject: Some(Name::common("device")),
                public_key: Some(self.key.public_key()),
                ..CertTemplate::default()
            },
            controls: None,
        })
        .unwrap();
        let popo = Some(possession::prove(&cert_req, &self.key).unwrap());
        let body = Body::Ir(vec![CertReqMsg {
            cert_req,
            popo,
            reg_info: None,
        }]);
        let mut transaction = vec![0; 16];
        self.rng.fill_bytes(&mut transaction);
        let answer = self.exchange(&transaction, body, None);
        let Body::Ip(content) = &*answer.body else {
            panic!("{:?}", answer.body);
        };
        let pair = content.response[0].certified_key_pair.as_ref();
        let pair = pair.unwrap_or_else(|| panic!("{}", content.response[0].status));
        if self.way == Way::Confirmed {
            let CertOrEncCert::Certificate(certificate) = &pair.cert_or_enc_cert else {
                panic!("an encrypted certificate");
            };
            let hash = Hash::Sha256.digest(&certificate.to_der());
            let body = Body::CertConf(vec![CertStatus {
                cert_hash: der::asn1::OctetString::new(hash).unwrap(),
                cert_req_id: 0,
                status_info: None,
                hash_alg: None,
            }]);
            let answer = self.exchange(&transaction, body, Some(&answer));
            assert_eq!(answer.body.kind(), BodyKind::Pkiconf);
        }
    }

    fn exchange(&mut self, transaction: &[u8], body: Body, answers: Option<&Message>) -> Message {
        let octets = |bytes: &[u8]| Some(der::asn1::OctetString::new(bytes).unwrap());
        let mut nonce = [0; 16];
        self.rng.fill_bytes(&mut nonce);
        let nobody = GeneralName::directory(&Name::null()).unwrap();
        let mut header = Header::new(2, self.protector.sender().clone(), nobody);
        header.transaction_id = octets(transaction);
        header.sender_nonce = octets(&nonce);
        header.recip_nonce = answers.and_then(|message| message.header.sender_nonce.clone());
        if answers.is_none() && self.way != Way::Confirmed {
            header.general_info = Some(vec![Info::ImplicitConfirm.write().unwrap()]);
        }
        let message = self
            .protector
            .protect(header, body, &[], &mut self.rng)
            .unwrap();
        let bytes = message.encode().unwrap();
        let answer = self.road.carry(&bytes);
        Message::decode(&answer, &Limits::default()).unwrap()
    }
}

/// A POST on a connection that stays.
fn post(stream: &mut BufReader<TcpStream>, bytes: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /.well-known/cmp HTTP/1.1\r\nHost: ca\r\nContent-Type: application/pkixcmp\r\nContent-Length: {}\r\n\r\n",
        bytes.len()
    );
    stream
        .get_mut()
        .write_all(&[head.as_bytes(), bytes].concat())
        .unwrap();
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        stream.read_line(&mut line).unwrap();
        let text = line.trim_end();
        if text.is_empty() {
            break;
        }
        if let Some(value) = text.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).unwrap();
    answer
}
