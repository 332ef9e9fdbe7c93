//! A CA for tests, certificates from it, a configuration file that uses them, and a controller on a real
//! socket.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use homefleet_net::{
    dtls::{Credentials, Role, TrustVerifier, Verifier},
    mtp::{CoapMtp, CoapMtpConfig, Destination, Event, Interface, Route, SendError},
};
use homefleet_trust::{Decision, Policy, Time, anchors_from_pem};
use homefleet_usp::{
    Message, Record,
    message::{Body, Request, Response},
    proto::msg::{Notify, NotifyResp},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    CrlDistributionPoint, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber,
};
use tokio::sync::mpsc;

use crate::bench::{AGENT, CONTROLLER, id};

/// Long enough for a handshake on a machine that builds something else at the same time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A CA below this one.
    pub(crate) fn intermediate(&self) -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Test issuing CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(params, key, &self.0).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn issue(&self, endpoint_id: &str) -> Issued {
        self.issue_from(endpoint_id, CertificateParams::default())
    }

    pub(crate) fn issue_expired(&self, endpoint_id: &str) -> Issued {
        let mut params = CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        self.issue_from(endpoint_id, params)
    }

    /// A certificate that names the loopback address too.
    pub(crate) fn issue_for_this_host(&self, endpoint_id: &str) -> Issued {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
        self.issue_from(endpoint_id, params)
    }

    /// The certificate of a broker by the name of `localhost`.
    pub(crate) fn issue_broker(&self) -> Issued {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "Test broker");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        Issued {
            chain: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// A certificate with this serial number, that says where the list of revoked ones is.
    pub(crate) fn issue_revocable(
        &self,
        endpoint_id: &str,
        serial: u64,
        list: Option<String>,
    ) -> Issued {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(serial));
        let uris = list.into_iter().collect::<Vec<_>>();
        if !uris.is_empty() {
            params.crl_distribution_points = vec![CrlDistributionPoint { uris }];
        }
        self.issue_from(endpoint_id, params)
    }

    /// The list of revoked certificates, good for `lasts` from an hour ago.
    pub(crate) fn list(
        &self,
        revoked: &[u64],
        lasts: Duration,
    ) -> rcgen::CertificateRevocationList {
        let start = time::OffsetDateTime::now_utc() - Duration::from_secs(3600);
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: start,
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: start,
            next_update: start + lasts,
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap()
    }

    fn issue_from(&self, endpoint_id: &str, mut params: CertificateParams) -> Issued {
        params.subject_alt_names.push(SanType::URI(
            format!("urn:bbf:usp:id:{endpoint_id}").try_into().unwrap(),
        ));
        params
            .distinguished_name
            .push(DnType::CommonName, endpoint_id);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        Issued {
            chain: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A certificate that nobody vouches for.
pub(crate) fn self_signed(endpoint_id: &str) -> Issued {
    let mut params = CertificateParams::default();
    let urn = format!("urn:bbf:usp:id:{endpoint_id}");
    params.subject_alt_names = vec![SanType::URI(urn.try_into().unwrap())];
    params
        .distinguished_name
        .push(DnType::CommonName, endpoint_id);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate().unwrap();
    Issued {
        chain: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

/// The first certificate of a PEM text, DER.
pub(crate) fn der(pem: &str) -> Vec<u8> {
    homefleet_trust::chain_from_pem(pem).unwrap().remove(0)
}

/// Writes the files of an agent into `directory`; the text of its configuration.
pub(crate) fn install(directory: &Path, ca: &Ca, controller_port: u16) -> String {
    let own = ca.issue(AGENT);
    fs::write(directory.join("ca.pem"), ca.pem()).unwrap();
    fs::write(directory.join("agent.pem"), own.chain).unwrap();
    fs::write(directory.join("agent.key"), own.key).unwrap();
    let text = format!(
        "version = 1\nendpoint_id = \"{AGENT}\"\ndata_dir = \"state\"\nlisten = \"127.0.0.1:0\"\n\
         [controller]\nurl = \"coaps://127.0.0.1:{controller_port}/usp\"\nendpoint_id = \"{CONTROLLER}\"\n\
         [trust]\nca = \"ca.pem\"\ncertificate = \"agent.pem\"\nkey = \"agent.key\"\ntime = \"accurate\"\n\
         [device]\nrestart = \"agent\"\n"
    );
    fs::write(directory.join("agent.toml"), &text).unwrap();
    text
}

/// Waits until the agent has so many sessions.
pub(crate) async fn sessions_become(agent: &homefleet_agent::Agent, wanted: u64) {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let node = agent.net_stats().node;
        if node.sessions == wanted {
            return;
        }
        assert!(
            std::time::Instant::now() < end,
            "{} sessions, not {wanted}",
            node.sessions
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A controller on a real socket.
pub(crate) struct Controller {
    pub(crate) mtp: CoapMtp,
    records: mpsc::Receiver<Event>,
    /// Where the agent is: its `reply-to`.
    pub(crate) agent: Option<Destination>,
    /// The Endpoint ID in its Records.
    pub(crate) claims: String,
    /// Notify requests that nobody has taken yet.
    pub(crate) notifications: Vec<Notify>,
    next_id: u32,
    shown: Arc<Mutex<Option<Vec<u8>>>>,
}

/// Decides as usual, and remembers whose certificate it was about.
struct Shown {
    inner: TrustVerifier,
    leaf: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Verifier for Shown {
    fn verify(&self, chain: &[Vec<u8>], role: Role<'_>, cached: bool) -> Decision {
        *self.leaf.lock().unwrap() = chain.first().cloned();
        self.inner.verify(chain, role, cached)
    }

    fn generation(&self) -> u64 {
        self.inner.generation()
    }

    fn time(&self) -> Option<std::time::SystemTime> {
        self.inner.time()
    }
}

impl Controller {
    pub(crate) async fn start(ca: &Ca, trusted: &Ca, endpoint_id: &str) -> Self {
        Self::with(ca.issue(endpoint_id), trusted, endpoint_id).await
    }

    pub(crate) async fn with(issued: Issued, trusted: &Ca, endpoint_id: &str) -> Self {
        Self::trusting(issued, &trusted.pem(), endpoint_id).await
    }

    /// One that trusts the CAs of this PEM text.
    pub(crate) async fn trusting(issued: Issued, trusted: &str, endpoint_id: &str) -> Self {
        let anchors = anchors_from_pem(trusted).unwrap();
        let shown = Arc::new(Mutex::new(None));
        let verifier = Shown {
            inner: TrustVerifier::new(anchors, Policy::default(), || Time::Unknown),
            leaf: shown.clone(),
        };
        let (events, records) = mpsc::channel(4096);
        let config = CoapMtpConfig {
            endpoint_id: id(endpoint_id),
            interface: Interface::Controller,
            listen: "127.0.0.1:0".parse().unwrap(),
            plain_listen: None,
            groups: Vec::new(),
            path: "usp".into(),
            advertise: None,
            credentials: Credentials::from_pem(&issued.chain, &issued.key).unwrap(),
            verifier: Arc::new(verifier),
            coap: homefleet_coap::Config::default(),
            dtls: homefleet_net::dtls::Config::default(),
            events,
        };
        let mtp = CoapMtp::bind(config).await.unwrap();
        Self {
            mtp,
            records,
            agent: None,
            claims: CONTROLLER.into(),
            notifications: Vec::new(),
            next_id: 0,
            shown,
        }
    }

    /// The certificate that was shown last, DER.
    pub(crate) fn shown(&self) -> Option<Vec<u8>> {
        self.shown.lock().unwrap().clone()
    }

    pub(crate) fn port(&self) -> u16 {
        self.mtp.local_addr().port()
    }

    /// The next Message of the agent; a Notify is answered at once.
    async fn next(&mut self) -> Message {
        let event = tokio::time::timeout(PATIENCE, self.records.recv())
            .await
            .expect("a Record")
            .unwrap();
        let Event::Record { record, origin } = event else {
            panic!("no Record: {event:?}");
        };
        assert_eq!(record.from_id.as_str(), AGENT);
        assert!(origin.identity.is_some(), "over DTLS with a certificate");
        let message = Message::decode(record.message().unwrap()).unwrap();
        let Some(Route::Coap(uri)) = origin.reply_to else {
            panic!("no way back over CoAP");
        };
        self.agent = Some(Destination {
            uri,
            endpoint_id: Some(record.from_id),
        });
        if let Body::Request(Request::Notify(notify)) = &message.body {
            self.notifications.push(notify.clone());
            if notify.send_resp {
                let response = NotifyResp {
                    subscription_id: notify.subscription_id.clone(),
                };
                self.send(&Message::response(message.id.clone(), response))
                    .await
                    .unwrap();
            }
        }
        message
    }

    /// Waits until a Notify is there for which `wanted` holds, and takes it.
    pub(crate) async fn notified(&mut self, wanted: impl Fn(&Notify) -> bool) -> Notify {
        loop {
            if let Some(at) = self.notifications.iter().position(&wanted) {
                return self.notifications.remove(at);
            }
            self.next().await;
        }
    }

    pub(crate) async fn send(&self, message: &Message) -> Result<(), SendError> {
        let record = Record::no_session(id(AGENT), id(&self.claims), message.encode());
        self.mtp
            .send(self.agent.as_ref().unwrap(), record.encode())
            .await
    }

    /// Asks the agent; the response.
    pub(crate) async fn ask(&mut self, request: impl Into<Request>) -> Response {
        match self.try_ask(request).await {
            Ok(response) => response,
            Err(code) => panic!("Error {code}"),
        }
    }

    /// Asks the agent; the response, or the code of the Error.
    pub(crate) async fn try_ask(&mut self, request: impl Into<Request>) -> Result<Response, u32> {
        self.next_id += 1;
        let message = Message::request(format!("{}-{}", self.claims, self.next_id), request);
        self.send(&message).await.unwrap();
        loop {
            let answer = self.next().await;
            match answer.body {
                Body::Response(response) if answer.id == message.id => return Ok(response),
                Body::Error(error) => return Err(error.err_code),
                _ => {}
            }
        }
    }

    /// The value of one parameter.
    pub(crate) async fn value(&mut self, path: &str) -> String {
        let Response::GetResp(response) = self.ask(homefleet_usp::message::get([path], 0)).await
        else {
            panic!()
        };
        let result = &response.req_path_results[0];
        assert_eq!(result.err_code, 0, "{path}: {}", result.err_msg);
        result.resolved_path_results[0]
            .result_params
            .values()
            .next()
            .unwrap()
            .clone()
    }

    pub(crate) async fn set(&mut self, object: &str, param: &str, value: &str) {
        let update = homefleet_usp::message::update_object(object, [(param, value, true)]);
        let response = self
            .ask(homefleet_usp::message::set(false, vec![update]))
            .await;
        assert!(matches!(response, Response::SetResp(_)));
    }
}
