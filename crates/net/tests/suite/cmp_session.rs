//! One transaction of an end entity over a transfer that fails.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use homefleet_cmp::{
    Refusal,
    asn1::{BodyKind, CertTemplate, Certificate, Failure, GeneralName, Info, Name, StatusInfo},
    authority::RequestKind,
    client::{ClientConfig, Offer, Outcome, Request},
    crypto::{KeyKind, KeyPair, Mac, Secret},
    protection::{Distrust, Peers, Protector},
};
use homefleet_net::cmp::BoxFuture;
use homefleet_net::cmp::session::{
    Applicant, Backoff, Progress, Session, SessionConfig, SessionError, Transfer, TransferError,
};

use crate::support::cmp_ca::{CmpCa, Standing};

/// What becomes of one exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Good,
    /// The message does not arrive.
    Unsent,
    /// The answer does not arrive.
    Lost,
    /// The other side says never.
    Refused,
    /// The answer never comes.
    Silence,
    /// The answer is garbled.
    Garbled,
}

struct Wire {
    ca: Arc<CmpCa>,
    fates: Mutex<VecDeque<Fate>>,
    seen: Mutex<Vec<Vec<u8>>>,
}

impl Transfer for Wire {
    fn exchange<'a>(&'a self, message: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, TransferError>> {
        self.seen.lock().unwrap().push(message.to_vec());
        let fate = self.fates.lock().unwrap().pop_front();
        let failed = |reason: &str| TransferError::Failed {
            reason: reason.to_owned(),
            again_after: None,
        };
        Box::pin(async move {
            match fate.unwrap_or(Fate::Good) {
                Fate::Good => Ok(self.ca.answer(message).unwrap()),
                Fate::Unsent => Err(failed("unreachable")),
                Fate::Lost => {
                    self.ca.answer(message).unwrap();
                    Err(failed("no answer"))
                }
                Fate::Refused => Err(TransferError::Refused {
                    reason: "4.04 Not Found".into(),
                }),
                Fate::Silence => std::future::pending().await,
                Fate::Garbled => {
                    let mut answer = self.ca.answer(message).unwrap();
                    let end = answer.len() - 1;
                    answer[end] ^= 1;
                    Ok(answer)
                }
            }
        })
    }
}

struct Known;

impl Peers for Known {
    fn secret(&self, reference: &[u8]) -> Option<Secret> {
        (reference == b"device-1").then(|| Secret::new("correct horse"))
    }

    fn judge(&self, _: &Certificate, _: &[Certificate]) -> Result<(), Distrust> {
        Err(Distrust::Untrusted("nobody is".into()))
    }
}

/// Asks for a certificate, and writes down what happens.
struct Device {
    key: Arc<KeyPair>,
    request: fn(Arc<KeyPair>) -> Request,
    wants: bool,
    offered: usize,
    progress: Vec<String>,
    confirmation: Vec<u8>,
}

impl Device {
    fn new(request: fn(Arc<KeyPair>) -> Request) -> Self {
        let pkcs8 = KeyPair::generate_pkcs8(KeyKind::P256).unwrap();
        Self {
            key: Arc::new(KeyPair::from_pkcs8(KeyKind::P256, &pkcs8).unwrap()),
            request,
            wants: true,
            offered: 0,
            progress: Vec::new(),
            confirmation: Vec::new(),
        }
    }
}

impl Applicant for Device {
    fn request(&mut self) -> Result<Request, String> {
        Ok((self.request)(self.key.clone()))
    }

    fn offered(&mut self, _: &Offer) -> Result<(), StatusInfo> {
        self.offered += 1;
        if self.wants {
            Ok(())
        } else {
            Err(StatusInfo::rejection(Failure::BadCertTemplate, "no"))
        }
    }

    fn sending(&mut self, kind: BodyKind, message: &[u8]) -> Result<(), String> {
        if kind == BodyKind::CertConf {
            self.confirmation = message.to_vec();
        }
        Ok(())
    }

    fn progress(&mut self, progress: &Progress) {
        self.progress.push(match progress {
            Progress::Sent(kind) => kind.to_string(),
            Progress::Began(_) => "began".into(),
            Progress::TransferFailed { reason, .. } => reason.clone(),
            Progress::Waiting { .. } => "waiting".into(),
            Progress::Restarted => "restarted".into(),
            Progress::Offered { key_fits } => format!("offered {key_fits}"),
        });
    }
}

fn initial(key: Arc<KeyPair>) -> Request {
    Request::Certificate {
        kind: RequestKind::Initialization,
        template: Box::new(CertTemplate {
            subject: Some(Name::common("device-1")),
            ..CertTemplate::default()
        }),
        controls: Vec::new(),
        key: Some(key),
    }
}

fn question(_: Arc<KeyPair>) -> Request {
    Request::Info(vec![Info::CaCerts(None)])
}

fn config() -> SessionConfig {
    let mac = Mac::Pbmac1 {
        salt: vec![7; 16],
        iterations: 1_000,
        key_bytes: 32,
        prf: homefleet_cmp::crypto::Hash::Sha256,
        mac: homefleet_cmp::crypto::Hash::Sha256,
    };
    let protector = Protector::secret(b"device-1", Secret::new("correct horse"), mac).unwrap();
    let recipient = GeneralName::directory(&Name::null()).unwrap();
    let mut client = ClientConfig::new(protector, recipient);
    client.poll_at_least = Duration::ZERO;
    SessionConfig {
        client,
        backoff: Backoff {
            first: Duration::from_millis(1),
            longest: Duration::from_millis(4),
            attempts: 4,
        },
        within: Duration::from_secs(60),
        time: Arc::new(|| Some(SystemTime::now())),
        seed: Arc::new(|| {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).unwrap();
            seed
        }),
    }
}

fn wire(fates: &[Fate]) -> Wire {
    let ca = CmpCa::new();
    ca.add_secret("device-1", "correct horse");
    Wire {
        ca,
        fates: Mutex::new(fates.iter().copied().collect()),
        seen: Mutex::default(),
    }
}

async fn run(wire: &Wire, device: &mut Device) -> Result<Outcome, SessionError> {
    run_with(wire, device, &config()).await
}

async fn run_with(
    wire: &Wire,
    device: &mut Device,
    config: &SessionConfig,
) -> Result<Outcome, SessionError> {
    let session = Session {
        transfer: wire,
        peers: &Known,
        config,
    };
    session.run(device).await
}

#[tokio::test]
async fn a_certificate_is_asked_for_kept_and_confirmed() {
    let (wire, mut device) = (wire(&[]), Device::new(initial));
    let outcome = run(&wire, &mut device).await.unwrap();
    assert!(matches!(outcome, Outcome::Certificate(_)), "{outcome:?}");
    assert_eq!(device.progress, ["began", "ir", "offered true", "certConf"]);
    assert_eq!(wire.ca.trace(), ["ir ip", "certConf pkiconf"]);
    assert_eq!(wire.ca.valid().len(), 1);
}

#[tokio::test]
async fn a_message_that_did_not_arrive_is_sent_again_as_it_is() {
    let (wire, mut device) = (wire(&[Fate::Unsent, Fate::Unsent]), Device::new(initial));
    let outcome = run(&wire, &mut device).await.unwrap();
    assert!(matches!(outcome, Outcome::Certificate(_)), "{outcome:?}");
    let seen = wire.seen.lock().unwrap();
    assert_eq!((&seen[0], &seen[1]), (&seen[1], &seen[2]));
    assert_eq!(wire.ca.trace(), ["ir ip", "certConf pkiconf"]);
}

#[tokio::test]
async fn a_lost_answer_to_a_request_begins_a_new_transaction() {
    let (wire, mut device) = (wire(&[Fate::Lost]), Device::new(initial));
    let outcome = run(&wire, &mut device).await.unwrap();
    assert!(matches!(outcome, Outcome::Certificate(_)), "{outcome:?}");
    assert_eq!(
        wire.ca.trace(),
        ["ir ip", "ir error", "ir ip", "certConf pkiconf"]
    );
    assert_eq!(
        device.progress,
        [
            "began",
            "ir",
            "no answer",
            "ir",
            "restarted",
            "began",
            "ir",
            "offered true",
            "certConf"
        ]
    );
    assert_eq!(wire.ca.valid().len(), 1, "the other was never confirmed");
}

#[tokio::test]
async fn a_lost_answer_to_a_confirmation_leaves_it_unclear() {
    let (wire, mut device) = (wire(&[Fate::Good, Fate::Lost]), Device::new(initial));
    let error = run(&wire, &mut device).await.unwrap_err();
    assert!(
        matches!(&error, SessionError::ConfirmationUnclear(status) if status.has(Failure::BadRequest)),
        "{error:?}"
    );
    assert_eq!((wire.ca.valid().len(), device.offered), (1, 1));
}

#[tokio::test]
async fn a_confirmation_that_was_kept_is_sent_again_by_another_session() {
    let wire = wire(&[Fate::Good, Fate::Refused]);
    let mut device = Device::new(initial);
    let error = run(&wire, &mut device).await.unwrap_err();
    assert!(matches!(error, SessionError::Transfer(_)), "{error:?}");
    assert_eq!(wire.ca.records()[0].standing, Standing::Unconfirmed);
    let config = config();
    let session = Session {
        transfer: &wire,
        peers: &Known,
        config: &config,
    };
    let kept = device.confirmation.clone();
    session.confirm_again(&kept, &mut device).await.unwrap();
    assert_eq!(wire.ca.records()[0].standing, Standing::Valid);
    // And once more: now nobody can tell.
    let error = session.confirm_again(&kept, &mut device).await.unwrap_err();
    assert!(
        matches!(error, SessionError::ConfirmationUnclear(_)),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_answer_to_a_confirmation_sent_again_is_verified() {
    let wire = wire(&[Fate::Good, Fate::Refused, Fate::Garbled]);
    let mut device = Device::new(initial);
    run(&wire, &mut device).await.unwrap_err();
    let config = config();
    let session = Session {
        transfer: &wire,
        peers: &Known,
        config: &config,
    };
    let kept = device.confirmation.clone();
    let error = session.confirm_again(&kept, &mut device).await.unwrap_err();
    assert!(
        matches!(
            &error,
            SessionError::Unacceptable {
                refusal: Refusal::BadProtection,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_waiting_answer_is_polled_for() {
    let (wire, mut device) = (wire(&[]), Device::new(initial));
    wire.ca.change(|policy| policy.waits = 1);
    let ca = wire.ca.clone();
    let config = config();
    let session = Session {
        transfer: &wire,
        peers: &Known,
        config: &config,
    };
    let approved = async {
        while !ca.trace().iter().any(|line| line == "pollReq pollRep") {
            tokio::task::yield_now().await;
        }
        ca.approve();
    };
    let (outcome, ()) = tokio::join!(session.run(&mut device), approved);
    assert!(
        matches!(outcome, Ok(Outcome::Certificate(_))),
        "{outcome:?}"
    );
    assert!(device.progress.contains(&"waiting".to_owned()));
}

#[tokio::test]
async fn polling_ends_with_the_time() {
    let (wire, mut device) = (wire(&[]), Device::new(initial));
    wire.ca.change(|policy| policy.waits = 1);
    let config = SessionConfig {
        within: Duration::from_millis(50),
        ..config()
    };
    let error = run_with(&wire, &mut device, &config).await.unwrap_err();
    assert_eq!(error, SessionError::TimedOut);
}

#[tokio::test]
async fn silence_ends_with_the_time() {
    let (wire, mut device) = (wire(&[Fate::Silence]), Device::new(initial));
    let config = SessionConfig {
        within: Duration::from_millis(20),
        ..config()
    };
    let error = run_with(&wire, &mut device, &config).await.unwrap_err();
    assert_eq!(error, SessionError::TimedOut);
}

#[tokio::test]
async fn a_transfer_that_goes_on_failing_is_given_up() {
    let (wire, mut device) = (wire(&[Fate::Unsent; 4]), Device::new(initial));
    let error = run(&wire, &mut device).await.unwrap_err();
    assert!(matches!(error, SessionError::Transfer(_)), "{error:?}");
    assert_eq!(wire.seen.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn a_transfer_that_is_refused_is_not_tried_again() {
    let (wire, mut device) = (wire(&[Fate::Refused]), Device::new(initial));
    let error = run(&wire, &mut device).await.unwrap_err();
    assert_eq!(error.to_string(), "4.04 Not Found");
    assert_eq!(wire.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn answers_that_are_always_lost_end_it() {
    // Each transaction: the answer is lost, and asking again tells that it was.
    let fates: Vec<Fate> = (0..64)
        .map(|turn| {
            if turn % 2 == 0 {
                Fate::Lost
            } else {
                Fate::Good
            }
        })
        .collect();
    let (wire, mut device) = (wire(&fates), Device::new(initial));
    let error = run(&wire, &mut device).await.unwrap_err();
    assert_eq!(error, SessionError::Restarts);
    assert_eq!(wire.ca.valid(), Vec::<u64>::new());
}

#[tokio::test]
async fn what_cannot_be_verified_is_told_as_such() {
    let (wire, mut device) = (wire(&[]), Device::new(initial));
    wire.ca.add_secret("device-1", "another secret");
    let error = run(&wire, &mut device).await.unwrap_err();
    let SessionError::Unacceptable { refusal, said } = &error else {
        panic!("{error:?}");
    };
    // The error is signed by the CA, whom this device does not know.
    assert!(matches!(refusal, Refusal::Untrusted(_)), "{refusal}");
    assert!(said.as_ref().unwrap().has(Failure::BadMessageCheck));
    assert!(error.to_string().contains("it says, unverified"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_is_not_wanted_is_declined() {
    let (wire, mut device) = (wire(&[]), Device::new(initial));
    device.wants = false;
    let outcome = run(&wire, &mut device).await.unwrap();
    assert!(matches!(outcome, Outcome::Declined(_)), "{outcome:?}");
    assert_eq!(wire.ca.records()[0].standing, Standing::Revoked);
}

#[tokio::test]
async fn a_refusal_is_an_outcome() {
    let (wire, mut device) = (wire(&[]), Device::new(initial));
    wire.ca
        .change(|policy| policy.refuse = Some(Failure::NotAuthorized));
    let outcome = run(&wire, &mut device).await.unwrap();
    assert!(
        matches!(&outcome, Outcome::Rejected(status) if status.has(Failure::NotAuthorized)),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn information_is_asked_for() {
    let (wire, mut device) = (wire(&[]), Device::new(question));
    let outcome = run(&wire, &mut device).await.unwrap();
    assert_eq!(
        outcome,
        Outcome::Info(vec![Info::CaCerts(Some(vec![wire.ca.root()]))])
    );
}

#[test]
fn the_rest_between_attempts_doubles_up_to_a_bound_and_varies_by_a_quarter() {
    let backoff = Backoff {
        first: Duration::from_secs(4),
        longest: Duration::from_secs(60),
        attempts: 100,
    };
    assert_eq!(backoff.rest(1, 0), Duration::from_secs(3));
    assert_eq!(backoff.rest(1, 255), Duration::from_secs(5));
    assert_eq!(backoff.rest(2, 0), Duration::from_secs(6));
    assert_eq!(backoff.rest(99, 255), Duration::from_secs(75));
}
