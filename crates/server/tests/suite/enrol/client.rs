//! Our own client, each of whose messages can be bent, over a kept HTTP connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use homefleet_cmp::asn1::{
    Body, CertReqMsg, CertRequest, CertTemplate, Certificate, Failure, GeneralName, Header, Kept,
    Limits, Message, Name, StatusInfo,
};
use homefleet_cmp::crypto::{KeyKind, KeyPair, Mac, Secret, Signer};
use homefleet_cmp::possession;
use homefleet_cmp::protection::Protector;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::world::{SECRET, World};

/// One answer of HTTP.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub(crate) fn message(&self) -> Message {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/pkixcmp"));
        Message::decode(&self.body, &Limits::default()).unwrap()
    }

    /// The status of whatever kind of answer it is.
    pub(crate) fn status_info(&self) -> StatusInfo {
        status(&self.message())
    }

    /// What it is refused for.
    pub(crate) fn failure(&self) -> Vec<Failure> {
        let info = self.status_info();
        info.fail_info.iter().flat_map(|info| info.iter()).collect()
    }
}

pub(crate) fn status(message: &Message) -> StatusInfo {
    match &*message.body {
        Body::Ip(content) | Body::Cp(content) | Body::Kup(content) => {
            content.response[0].status.clone()
        }
        Body::Rp(content) => content.status[0].clone(),
        Body::Error(error) => error.status_info.clone(),
        other => panic!("{}", other.kind()),
    }
}

/// The certificate that an answer brings.
pub(crate) fn certificate(message: &Message) -> Certificate {
    use homefleet_cmp::asn1::CertOrEncCert;
    let (Body::Ip(content) | Body::Cp(content) | Body::Kup(content)) = &*message.body else {
        panic!("{}", message.body.kind());
    };
    match &content.response[0]
        .certified_key_pair
        .as_ref()
        .unwrap()
        .cert_or_enc_cert
    {
        CertOrEncCert::Certificate(certificate) => certificate.clone(),
        CertOrEncCert::EncryptedCert(_) => panic!("an encrypted certificate"),
    }
}

/// A connection.
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
}

impl Http {
    pub(crate) fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Sends a PKIMessage to the default address.
    pub(crate) fn post(&mut self, message: &[u8]) -> Reply {
        self.post_to("/.well-known/cmp", message)
    }

    pub(crate) fn post_to(&mut self, path: &str, message: &[u8]) -> Reply {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: ca\r\nContent-Type: application/pkixcmp\r\nContent-Length: {}\r\n\r\n",
            message.len()
        );
        self.raw(&[head.as_bytes(), message].concat())
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Reply {
        // A server that refuses early may close while it is still written to.
        drop(self.stream.get_mut().write_all(bytes));
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).unwrap() > 0, "{head:?}");
            let line = line.trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            head.push(line);
        }
        let status = head[0].split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply {
            status,
            head,
            body: Vec::new(),
        };
        let length = reply.header("content-length").unwrap().parse().unwrap();
        reply.body = vec![0; length];
        self.stream.read_exact(&mut reply.body).unwrap();
        reply
    }
}

/// Somebody who asks for certificates.
pub(crate) struct Requester {
    pub(crate) protector: Protector,
    pub(crate) transaction: Vec<u8>,
    rng: ChaCha20Rng,
}

impl Requester {
    pub(crate) fn new(protector: Protector) -> Self {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let mut rng = ChaCha20Rng::from_seed(seed);
        let mut transaction = vec![0; 16];
        rng.fill_bytes(&mut transaction);
        Self {
            protector,
            transaction,
            rng,
        }
    }

    /// By the secret of the device.
    pub(crate) fn by_secret(device: &str) -> Self {
        Self::by(device, SECRET)
    }

    pub(crate) fn by(device: &str, secret: &str) -> Self {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mac = Mac::password_based(1_000, &mut rng);
        Self::new(Protector::secret(device.as_bytes(), Secret::new(secret), mac).unwrap())
    }

    /// By a certificate in `NAME.pem` with its key in `NAME.key`.
    pub(crate) fn by_certificate(world: &World, name: &str) -> Self {
        world.shell(&format!(
            "openssl x509 -in {name}.pem -outform DER -out {name}.der
             openssl pkcs8 -topk8 -nocrypt -in {name}.key -outform DER -out {name}.pk8"
        ));
        let key = KeyPair::from_pkcs8(KeyKind::P256, &world.read(&format!("{name}.pk8"))).unwrap();
        let certificate = Certificate::from_der(&world.read(&format!("{name}.der"))).unwrap();
        let ca = Certificate::from_der(&world.read("ca.der")).unwrap();
        Self::new(Protector::signer(Arc::new(key), vec![certificate, ca]).unwrap())
    }

    /// A message as it should be, after `change`.
    pub(crate) fn message(
        &mut self,
        body: Body,
        answers: Option<&Message>,
        change: impl FnOnce(&mut Header),
    ) -> Vec<u8> {
        let octets = |bytes: &[u8]| Some(der::asn1::OctetString::new(bytes).unwrap());
        let mut nonce = [0; 16];
        self.rng.fill_bytes(&mut nonce);
        let nobody = GeneralName::directory(&Name::null()).unwrap();
        let mut header = Header::new(2, self.protector.sender().clone(), nobody);
        header.transaction_id = octets(&self.transaction);
        header.sender_nonce = octets(&nonce);
        header.recip_nonce = answers.and_then(|message| message.header.sender_nonce.clone());
        change(&mut header);
        let message = self.protector.protect(header, body, &[], &mut self.rng);
        message.unwrap().encode().unwrap()
    }

    /// An `ir` for a key.
    pub(crate) fn ir(&mut self, key: &KeyPair) -> Vec<u8> {
        let body = Body::Ir(vec![request(template("new", key), Some(key))]);
        self.message(body, None, |_| ())
    }
}

pub(crate) fn key(kind: KeyKind) -> KeyPair {
    let pkcs8 = KeyPair::generate_pkcs8(kind).unwrap();
    KeyPair::from_pkcs8(kind, &pkcs8).unwrap()
}

pub(crate) fn template(name: &str, key: &dyn Signer) -> CertTemplate {
    CertTemplate {
        subject: Some(Name::common(name)),
        public_key: Some(key.public_key()),
        ..CertTemplate::default()
    }
}

/// A request with a proof of possession by this key.
pub(crate) fn request(cert_template: CertTemplate, by: Option<&dyn Signer>) -> CertReqMsg {
    let cert_req = Kept::new(CertRequest {
        cert_req_id: 0,
        cert_template,
        controls: None,
    })
    .unwrap();
    let popo = by.map(|key| possession::prove(&cert_req, key).unwrap());
    CertReqMsg {
        cert_req,
        popo,
        reg_info: None,
    }
}
