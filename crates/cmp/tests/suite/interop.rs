//! `openssl cmp` against our RA/CA, and our client against `openssl cmp` as mock server, over HTTP on the loopback interface.
#![allow(clippy::disallowed_methods)]

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use homefleet_cmp::{
    Refusal,
    asn1::{Failure, Info, RevRepContent, Status, StatusInfo},
    authority::{Authority, AuthorityConfig, Decision, Event, ExchangeId, RequestKind},
    client::{Client, ClientConfig, ClientEvent, Outcome, Request},
    crypto::{Hash, KeyKind, Mac, MacError, MacPolicy, Secret},
    oid,
    protection::{ProtectionPolicy, Protector},
};

use crate::{
    openssl::{Known, REFERENCE, SECRET, by_certificate, by_secret, pki},
    transactions::revocation,
    world::{authority_config, by_key, certificate_request, grant, moment, nobody},
};

/// Reads one HTTP message; gives its body.
fn read_http(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            return Some(body);
        }
    }
}

type Decide = Box<dyn FnMut(&Event) -> Option<Decision> + Send>;

/// Our authority behind HTTP, until it is stopped.
struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Event>>>,
}

impl Server {
    fn start(config: AuthorityConfig, decide: Decide) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || serve(&listener, &stopped, config, decide));
        Self {
            address,
            stop,
            thread: Some(thread),
        }
    }

    /// What happened.
    fn stop(mut self) -> Vec<Event> {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
        self.thread.take().unwrap().join().unwrap()
    }
}

fn serve(
    listener: &TcpListener,
    stopped: &AtomicBool,
    config: AuthorityConfig,
    mut decide: Decide,
) -> Vec<Event> {
    let mut authority = Authority::new(config, [3; 32]);
    let mut events = Vec::new();
    // Those who were told to wait, to be decided about before the next message is answered.
    let mut undecided: VecDeque<Event> = VecDeque::new();
    for (exchange, stream) in (0..).map(ExchangeId).zip(listener.incoming()) {
        if stopped.load(Ordering::SeqCst) {
            break;
        }
        let mut stream = stream.unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let Some(body) = read_http(&mut stream) else {
            continue;
        };
        while let Some(event) = undecided.pop_front() {
            answer(&mut authority, &event, &mut decide);
        }
        authority.handle_input(moment(), exchange, &body, &Known);
        while let Some(event) = authority.poll_event() {
            if let Some(Decision::Wait { .. }) = answer(&mut authority, &event, &mut decide) {
                undecided.push_back(event.clone());
            }
            events.push(event);
        }
        let (to, bytes) = authority.poll_transmit().unwrap();
        assert_eq!(to, exchange);
        let head = format!(
            "HTTP/1.0 200 OK\r\nContent-Type: application/pkixcmp\r\nContent-Length: {}\r\n\r\n",
            bytes.len()
        );
        stream
            .write_all(&[head.as_bytes(), &bytes].concat())
            .unwrap();
    }
    events
}

fn answer(authority: &mut Authority, event: &Event, decide: &mut Decide) -> Option<Decision> {
    let (Event::Requested { transaction, .. }
    | Event::RevocationRequested { transaction, .. }
    | Event::InfoRequested { transaction, .. }) = event
    else {
        return None;
    };
    let decision = decide(event)?;
    authority
        .decide(moment(), transaction, decision.clone())
        .unwrap();
    Some(decision)
}

/// Runs `openssl cmp` against our authority. Gives whether it succeeded, what it printed, and what happened at our side.
fn openssl(config: AuthorityConfig, decide: Decide, options: &str) -> (bool, String, Vec<Event>) {
    let server = Server::start(config, decide);
    let script = format!(
        "exec timeout 120 openssl cmp -config '' -server {} -path pkix/ -recipient /O=Test/CN=server {options} 2>&1",
        server.address
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(pki().path(""))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), printed, server.stop())
}

fn lenient() -> AuthorityConfig {
    AuthorityConfig {
        protection: ProtectionPolicy {
            mac: MacPolicy::lenient(),
            ..ProtectionPolicy::default()
        },
        ..authority_config()
    }
}

/// Grants every request.
fn yes(event: &Event) -> Option<Decision> {
    match event {
        Event::Requested { .. } => grant(event),
        Event::RevocationRequested { .. } => Some(Decision::Revoked(RevRepContent {
            status: vec![StatusInfo::new(Status::ACCEPTED)],
            rev_certs: None,
            crls: None,
        })),
        Event::InfoRequested { .. } => {
            let types = Info::KeyPairTypes(oid::SIGN_KEY_PAIR_TYPES, None);
            Some(Decision::Answer(vec![types]))
        }
        _ => None,
    }
}

/// The requests for certificates that `openssl cmp` makes, each with the kind that we have to see.
fn certificate_options(certificate: &str) -> [(String, RequestKind); 6] {
    let out = pki().path(&format!("{certificate}-out.pem"));
    let out = format!("-certout {}", out.display());
    let by_certificate = by_certificate(certificate);
    let by_secret = by_secret();
    let new = "-newkey new.key -subject /CN=new";
    [
        (
            format!("-cmd ir {new} {by_secret} {out}"),
            RequestKind::Initialization,
        ),
        (
            format!("-cmd cr {new} {by_secret} {out}"),
            RequestKind::Certification,
        ),
        (
            format!("-cmd p10cr -csr new.csr {by_secret} {out}"),
            RequestKind::Pkcs10,
        ),
        (
            format!("-cmd cr {new} {by_certificate} {out}"),
            RequestKind::Certification,
        ),
        (
            format!("-cmd p10cr -csr new.csr {by_certificate} {out}"),
            RequestKind::Pkcs10,
        ),
        (
            format!("-cmd kur -newkey new.key {by_certificate} {out}"),
            RequestKind::KeyUpdate,
        ),
    ]
}

#[test]
fn openssl_gets_and_confirms_certificates_of_ours() {
    for certificate in ["device", "rsa", "p384"] {
        for (options, wanted) in certificate_options(certificate) {
            let (success, printed, events) = openssl(lenient(), Box::new(yes), &options);
            assert!(success, "{options}\n{printed}\n{events:#?}");
            let [
                Event::Requested { request, .. },
                Event::Confirmed {
                    certificate,
                    implicit: false,
                    ..
                },
            ] = &events[..]
            else {
                panic!("{options}: {events:#?}");
            };
            assert_eq!(request.kind, wanted);
            assert!(!certificate.to_der().is_empty());
        }
    }
}

#[test]
fn openssl_takes_implicit_confirmation_from_us() {
    let (options, _) = &certificate_options("device")[0];
    let options = format!("{options} -implicit_confirm");
    let (success, printed, events) = openssl(lenient(), Box::new(yes), &options);
    assert!(success, "{printed}");
    assert!(
        matches!(events.last(), Some(Event::Confirmed { implicit: true, .. })),
        "{events:?}"
    );
}

#[test]
fn openssl_polls_us_until_the_certificate_is_there() {
    // OpenSSL 3.0 knows nothing of RFC 9483's rule for the nonce in a delayed answer.
    let config = AuthorityConfig {
        delayed_answer_names_poll: true,
        ..lenient()
    };
    let mut asked = 0;
    let decide = move |event: &Event| {
        asked += 1;
        if asked == 1 {
            Some(Decision::Wait {
                check_after: Duration::from_secs(1),
                reason: Some("an operator looks at it".to_owned()),
            })
        } else {
            yes(event)
        }
    };
    let (options, _) = &certificate_options("device")[0];
    let (success, printed, events) = openssl(config, Box::new(decide), options);
    assert!(success, "{printed}\n{events:?}");
    assert!(printed.contains("sending POLLREQ"), "{printed}");
    assert!(matches!(events.last(), Some(Event::Confirmed { .. })));
}

#[test]
fn openssl_revokes_at_ours() {
    for protection in [by_certificate("device"), by_secret()] {
        let options = format!("-cmd rr -oldcert device.pem -revreason 4 {protection}");
        let (success, printed, events) = openssl(lenient(), Box::new(yes), &options);
        assert!(success, "{printed}\n{events:?}");
        let [Event::RevocationRequested { details, .. }] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(details.reason(), Some(4));
        assert_eq!(
            details.cert_details.serial_number,
            revocation("device", 4).cert_details.serial_number
        );
    }
}

#[test]
fn openssl_revokes_without_a_reason_only_where_that_is_allowed() {
    let options = format!("-cmd rr -oldcert device.pem {}", by_certificate("device"));
    let (success, printed, _) = openssl(lenient(), Box::new(yes), &options);
    assert!(!success);
    assert!(printed.contains("addInfoNotAvailable"), "{printed}");
    let config = AuthorityConfig {
        revocation_needs_reason: false,
        ..lenient()
    };
    let (success, printed, _) = openssl(config, Box::new(yes), &options);
    assert!(success, "{printed}");
}

#[test]
fn openssl_asks_us_for_information() {
    for protection in [by_certificate("device"), by_secret()] {
        let options = format!("-cmd genm -infotype signKeyPairTypes {protection}");
        let (success, printed, events) = openssl(lenient(), Box::new(yes), &options);
        assert!(success, "{printed}\n{events:?}");
        assert!(printed.contains("id-it-signKeyPairTypes"), "{printed}");
        assert!(matches!(&events[..], [Event::InfoRequested { .. }]));
    }
}

#[test]
fn openssl_reads_our_refusals() {
    let no = |event: &Event| {
        matches!(event, Event::Requested { .. }).then(|| {
            Decision::Reject(StatusInfo::rejection(
                Failure::BadCertTemplate,
                "a key outside of the profile",
            ))
        })
    };
    for (options, _) in certificate_options("device") {
        let (success, printed, _) = openssl(lenient(), Box::new(no), &options);
        assert!(!success);
        assert!(
            printed.contains("badCertTemplate") && printed.contains("a key outside of the profile"),
            "{printed}"
        );
    }
}

#[test]
fn the_default_mac_of_openssl_is_refused_unless_the_policy_is_lenient() {
    let (options, _) = &certificate_options("device")[0];
    let options = format!("{options} -unprotected_errors");
    let (success, printed, events) = openssl(authority_config(), Box::new(yes), &options);
    assert!(!success);
    assert!(printed.contains("badAlg"), "{printed}");
    assert!(matches!(
        &events[..],
        [Event::Refused {
            refusal: Refusal::MacAlgorithm(MacError::Sha1),
            ..
        }]
    ));
}

#[test]
fn a_wrong_secret_of_openssl_is_refused() {
    let options = format!(
        "-cmd ir -newkey new.key -subject /CN=new -ref {REFERENCE} -secret pass:wrong -unprotected_errors -certout {}",
        pki().path("none.pem").display()
    );
    let (success, printed, events) = openssl(lenient(), Box::new(yes), &options);
    assert!(!success);
    assert!(printed.contains("badMessageCheck"), "{printed}");
    assert!(matches!(
        &events[..],
        [Event::Refused {
            refusal: Refusal::BadProtection,
            ..
        }]
    ));
}

/// `openssl cmp` as server, killed when it is dropped and when the test dies.
struct Mock {
    child: Child,
    port: u16,
}

impl Mock {
    fn start(options: &str) -> Self {
        let mut child = Command::new("sh")
            .args([
                "-c",
                &format!(
                    "exec setpriv --pdeathsig KILL openssl cmp -config '' -port 0 -srv_ref {REFERENCE} -srv_secret 'pass:{SECRET}' \
                     -srv_cert server.pem -srv_key server.key -srv_trusted ca.pem -rsp_cert new.pem {options}"
                ),
            ])
            .current_dir(pki().path(""))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        // ACCEPT [::]:40639 PID=20761
        let port = line
            .split(':')
            .next_back()
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|port| port.parse().ok())
            .unwrap_or_else(|| panic!("no port in {line:?}"));
        Self { child, port }
    }

    fn post(&self, body: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let head = format!(
            "POST /pkix/ HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/pkixcmp\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        read_http(&mut stream).unwrap()
    }

    /// Runs our client until it is finished. Time passes as fast as the client wishes.
    fn run(&self, config: ClientConfig, request: Request, seed: u8) -> (Outcome, Vec<ClientEvent>) {
        let mut at = moment();
        let mut client = Client::start(config, request, at, [seed; 32]).unwrap();
        let mut events = Vec::new();
        loop {
            if let Some(bytes) = client.poll_transmit() {
                let answer = self.post(&bytes);
                client.handle_input(at, &answer, &Known);
            } else if let Some(event) = client.poll_event() {
                match &event {
                    ClientEvent::Offered(_) => client.accept(at).unwrap(),
                    ClientEvent::Finished(outcome) => return (outcome.clone(), events),
                    ClientEvent::Ignored(refusal) => panic!("{refusal} after {events:?}"),
                    ClientEvent::Waiting { .. } => {}
                }
                events.push(event);
            } else if let Some(until) = client.poll_timeout() {
                at.now = at.now.max(until);
                client.handle_timeout(at).unwrap();
            }
        }
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

fn client_secret(mac: Mac) -> Protector {
    Protector::secret(REFERENCE.as_bytes(), Secret::new(SECRET), mac).unwrap()
}

/// Each way of protecting what OpenSSL can verify.
fn protectors() -> Vec<Protector> {
    let mac = |owf, mac| {
        client_secret(Mac::PasswordBased {
            salt: vec![1; 16],
            owf,
            iterations: 1_000,
            mac,
        })
    };
    let pss = Protector::signer(
        pki().key_as("rsa", KeyKind::RsaPss),
        vec![pki().certificate("rsa")],
    );
    vec![
        mac(Hash::Sha256, Hash::Sha256),
        mac(Hash::Sha512, Hash::Sha384),
        by_key("device"),
        by_key("p384"),
        by_key("rsa"),
        pss.unwrap(),
    ]
}

fn client_config(protector: Protector) -> ClientConfig {
    ClientConfig {
        protection: ProtectionPolicy {
            // The mock server answers with its own default.
            mac: MacPolicy::lenient(),
            ..ProtectionPolicy::default()
        },
        ..ClientConfig::new(protector, nobody())
    }
}

#[test]
fn our_client_gets_and_confirms_certificates_of_openssl() {
    let mock = Mock::start("");
    let mut seed = 0;
    for protector in protectors() {
        let mut kinds = vec![RequestKind::Initialization, RequestKind::Certification];
        if matches!(protector, Protector::Signer { .. }) {
            kinds.push(RequestKind::KeyUpdate);
        }
        for kind in kinds {
            seed += 1;
            let mut request = certificate_request(kind);
            if let (RequestKind::KeyUpdate, Request::Certificate { controls, .. }) =
                (kind, &mut request)
            {
                // The mock server only updates the certificate that it issues.
                controls.push(old_certificate("new").write().unwrap());
            }
            let (outcome, events) = mock.run(client_config(protector.clone()), request, seed);
            let Outcome::Certificate(offer) = outcome else {
                panic!("{protector:?} {kind:?}: {outcome:?} {events:?}");
            };
            assert_eq!(offer.certificate, pki().certificate("new"));
        }
    }
}

fn old_certificate(name: &str) -> homefleet_cmp::asn1::Control {
    let parts = homefleet_cmp::CertificateParts::read(&pki().certificate(name)).unwrap();
    homefleet_cmp::asn1::Control::OldCertId(homefleet_cmp::asn1::CertId {
        issuer: homefleet_cmp::asn1::GeneralName::directory(&parts.issuer).unwrap(),
        serial_number: der::asn1::Int::new(&parts.serial).unwrap(),
    })
}

#[test]
fn our_client_polls_openssl() {
    let mock = Mock::start("-poll_count 2 -check_after 1");
    let (outcome, events) = mock.run(
        client_config(by_key("device")),
        certificate_request(RequestKind::Certification),
        1,
    );
    assert!(matches!(outcome, Outcome::Certificate(_)), "{outcome:?}");
    let waits = events
        .iter()
        .filter(|event| matches!(event, ClientEvent::Waiting { .. }))
        .count();
    assert_eq!(waits, 2, "{events:?}");
}

#[test]
fn our_client_takes_implicit_confirmation_from_openssl() {
    let mock = Mock::start("-grant_implicitconf");
    let mut config = client_config(by_key("device"));
    config.implicit_confirm = true;
    let request = certificate_request(RequestKind::Certification);
    let (outcome, _) = mock.run(config, request, 1);
    assert!(matches!(outcome, Outcome::Certificate(offer) if offer.implicit));
}

#[test]
fn our_client_revokes_at_and_asks_openssl() {
    let mock = Mock::start("");
    for (seed, protector) in (1..).zip(protectors()) {
        let request = Request::Revocation(Box::new(revocation("new", 1)));
        let (outcome, _) = mock.run(client_config(protector.clone()), request, seed);
        assert!(matches!(outcome, Outcome::Revoked(_)), "{outcome:?}");
        let request = Request::Info(Vec::new());
        let (outcome, _) = mock.run(client_config(protector), request, seed + 100);
        assert_eq!(outcome, Outcome::Info(Vec::new()));
    }
}

#[test]
fn our_client_reads_the_refusals_of_openssl() {
    let mock = Mock::start("-pkistatus 2 -failure 25");
    for (seed, protector) in (1..).zip(protectors()) {
        let request = certificate_request(RequestKind::Initialization);
        let (outcome, _) = mock.run(client_config(protector), request, seed);
        assert!(
            matches!(&outcome, Outcome::Rejected(status) if status.has(Failure::SystemFailure)),
            "{outcome:?}"
        );
    }
}
