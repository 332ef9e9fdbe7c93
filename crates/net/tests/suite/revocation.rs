//! Revocation: evidence is fetched within bounds, and decisions follow it, with lists and a responder of OpenSSL.

use std::sync::{Arc, OnceLock, RwLock};
use std::time::{Duration, Instant, SystemTime};

use homefleet_coap::{Request, Scheme};
use homefleet_net::coap::{Node, RequestFailure, Target};
use homefleet_net::dtls::TrustVerifier;
use homefleet_net::revocation::{FetchConfig, FetchError, FetchStats, Fetcher};
use homefleet_trust::{
    Anchor, Connection, Context, Decision, Outcome, Policy, Refusal, Revocation, RevocationPolicy,
    Time, Unknown, Wanted, anchors_from_pem, chain_from_pem, decide,
};
use tokio::sync::mpsc;

use crate::support::authority::{Authority, responder_url};
use crate::support::nodes::node;
use crate::support::pair::{AGENT, CONTROLLER};
use crate::support::pki::Issued;
use crate::support::tool::have;
use crate::support::web::{Page, Web};

const WAIT: Duration = Duration::from_secs(60);

fn openssl() -> bool {
    have("openssl", &["version"])
}

/// Fetching that gives up soon, and looks often for what is due.
fn brisk() -> FetchConfig {
    FetchConfig {
        timeout: Duration::from_millis(500),
        connect_timeout: Duration::from_millis(500),
        look: Duration::from_millis(50),
        ..FetchConfig::default()
    }
}

/// Fetching that waits for a busy machine.
fn patient() -> FetchConfig {
    FetchConfig {
        timeout: WAIT,
        connect_timeout: WAIT,
        look: Duration::from_millis(50),
        ..FetchConfig::default()
    }
}

/// A fetcher with its store, and whom it tells.
struct Lab {
    revocation: Arc<RwLock<Revocation>>,
    fetcher: Fetcher,
    told: mpsc::UnboundedReceiver<()>,
}

impl Lab {
    fn new(policy: RevocationPolicy, config: FetchConfig) -> Self {
        let revocation = Arc::new(RwLock::new(Revocation::new(policy)));
        let (tell, told) = mpsc::unbounded_channel();
        let fetcher = Fetcher::start(
            revocation.clone(),
            config,
            || Time::Accurate(SystemTime::now()),
            move || {
                // The test may have ended.
                let _told = tell.send(());
            },
        );
        Self {
            revocation,
            fetcher,
            told,
        }
    }

    fn patient(policy: RevocationPolicy) -> Self {
        Self::new(policy, patient())
    }

    /// Waits until the counters are as wanted.
    async fn until(&mut self, wanted: impl Fn(FetchStats) -> bool) {
        let waited = async {
            while !wanted(self.fetcher.stats()) {
                self.told.recv().await.unwrap();
            }
        };
        if tokio::time::timeout(WAIT, waited).await.is_err() {
            panic!("{:?} {:?}", self.fetcher.stats(), self.fetcher.troubles());
        }
    }

    fn judge(&self, peer: &Issued, anchors: &[Anchor]) -> Decision {
        let revocation = self.revocation.read().unwrap();
        let policy = Policy::default();
        let mut context = Context::new(
            anchors,
            Time::Accurate(SystemTime::now()),
            Connection::Accepted,
            &policy,
        );
        context.revocation = Some(&revocation);
        decide(&chain_from_pem(&peer.chain).unwrap(), &context)
    }

    /// What is decided once everything wanted has come or failed.
    async fn decide(&mut self, peer: &Issued, authority: &Authority) -> Decision {
        let anchors = anchors_from_pem(&authority.pem()).unwrap();
        let decided = async {
            loop {
                let decision = self.judge(peer, &anchors);
                match &decision.outcome {
                    Outcome::Hold(wanted) => self.fetcher.want(wanted),
                    _ => return decision,
                }
                self.told.recv().await.unwrap();
            }
        };
        let decision = tokio::time::timeout(WAIT, decided).await;
        decision.unwrap_or_else(|_| panic!("{:?}", self.fetcher))
    }
}

fn refusing() -> RevocationPolicy {
    RevocationPolicy {
        unknown: Unknown::Refuse,
        ..RevocationPolicy::default()
    }
}

fn is_revoked(decision: &Decision) -> bool {
    matches!(decision.refusal(), Some(Refusal::Revoked { .. }))
}

fn is_unknown(decision: &Decision) -> bool {
    matches!(decision.refusal(), Some(Refusal::RevocationUnknown { .. }))
}

fn list_at(url: &str) -> String {
    format!("crlDistributionPoints = URI:{url}")
}

fn responder_at(url: &str) -> String {
    format!("authorityInfoAccess = OCSP;URI:{url}")
}

/// A list that nobody has issued, at this address.
fn any_list(url: String) -> Wanted {
    Wanted::Crl {
        url,
        issuer: Vec::new(),
        for_ca: false,
    }
}

#[tokio::test]
async fn a_list_tells_the_good_from_the_revoked() {
    if !openssl() {
        return;
    }
    let (authority, web) = (Authority::new(), Web::start().await);
    let extension = list_at(&web.url("/ca.crl"));
    let (good, bad) = (
        authority.issue(AGENT, &extension),
        authority.issue("os::revoked", &extension),
    );
    authority.revoke("os::revoked");
    web.put("/ca.crl", Page::ok(&authority.list("")));
    let mut lab = Lab::patient(refusing());
    let decision = lab.decide(&good, &authority).await;
    assert!(decision.is_established(), "{decision:?}");
    let decision = lab.decide(&bad, &authority).await;
    assert!(is_revoked(&decision), "{decision:?}");
    assert_eq!(decision.refusal().unwrap().alert().code(), 44);
    assert_eq!((web.asked().len(), lab.fetcher.stats().taken), (1, 1));
    assert!(web.asked()[0].starts_with("GET /ca.crl HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_responder_tells_the_good_from_the_revoked_and_the_unknown() {
    if !openssl() {
        return;
    }
    let authority = Authority::new();
    let url = responder_url();
    let extension = responder_at(&url);
    let (good, bad) = (
        authority.issue(AGENT, &extension),
        authority.issue("os::revoked", &extension),
    );
    authority.revoke("os::revoked");
    let _responder = authority.responder(&url);
    let mut lab = Lab::patient(refusing());
    let decision = lab.decide(&good, &authority).await;
    assert!(decision.is_established(), "{decision:?} {:?}", lab.fetcher);
    let decision = lab.decide(&bad, &authority).await;
    assert!(is_revoked(&decision), "{decision:?}");
    assert_eq!(lab.fetcher.stats().taken, 2);

    let url = responder_url();
    let stranger = authority.issue("os::stranger", &responder_at(&url));
    authority.forget();
    let _forgetful = authority.responder(&url);
    let decision = lab.decide(&stranger, &authority).await;
    assert!(is_unknown(&decision), "{decision:?}");
}

#[tokio::test]
async fn a_silent_responder_is_waited_for_only_so_long_and_the_policy_decides() {
    if !openssl() {
        return;
    }
    let (authority, web) = (Authority::new(), Web::start().await);
    web.put("/", Page::Silence);
    let peer = authority.issue(AGENT, &responder_at(&web.url("/")));
    let mut lab = Lab::new(RevocationPolicy::default(), brisk());
    assert!(lab.decide(&peer, &authority).await.is_established());
    let mut lab = Lab::new(refusing(), brisk());
    let decision = lab.decide(&peer, &authority).await;
    assert!(is_unknown(&decision), "{decision:?}");
    assert_eq!(lab.fetcher.stats().failed, 1);
    assert_eq!(lab.fetcher.troubles()[0].problem, FetchError::Timeout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_is_verified_beside_decisions() {
    let web = Web::start().await;
    web.put("/junk", Page::ok(b"not a list"));
    let lab = Lab::patient(refusing());
    let (revocation, fetcher) = (lab.revocation.clone(), lab.fetcher.clone());
    let wanted = any_list(web.url("/junk"));
    let looking = tokio::task::spawn_blocking(move || {
        // A decision looks at what is known for as long as this.
        let known = revocation.read().unwrap();
        fetcher.want(&[wanted]);
        let end = Instant::now() + WAIT;
        while fetcher.stats().no_evidence == 0 {
            assert!(Instant::now() < end, "it was not verified meanwhile");
            std::thread::sleep(Duration::from_millis(1));
        }
        known.sizes()
    });
    assert_eq!(looking.await.unwrap(), (0, 0, 0));
}

#[tokio::test]
async fn a_list_that_is_forged_out_of_date_or_too_large_is_no_evidence() {
    if !openssl() {
        return;
    }
    let (authority, web) = (Authority::new(), Web::start().await);
    let small = RevocationPolicy {
        max_crl_bytes: 20,
        ..refusing()
    };
    let out_of_date =
        authority.list("-crl_lastupdate 20200101000000Z -crl_nextupdate 20200102000000Z");
    // Another authority of the same name.
    let forged = Authority::new().list("");
    for (path, page, policy, came) in [
        ("/old", Page::ok(&out_of_date), refusing(), true),
        ("/forged", Page::ok(&forged), refusing(), true),
        (
            "/junk",
            Page::ok(b"<html>not a list</html>"),
            refusing(),
            true,
        ),
        (
            "/large",
            Page::ok(&authority.list("")),
            small.clone(),
            false,
        ),
        (
            "/endless",
            Page::unannounced(&authority.list("")),
            small,
            false,
        ),
    ] {
        web.put(path, page);
        let peer = authority.issue(AGENT, &list_at(&web.url(path)));
        let mut lab = Lab::patient(policy);
        let decision = lab.decide(&peer, &authority).await;
        assert!(is_unknown(&decision), "{path}: {decision:?}");
        let stats = lab.fetcher.stats();
        assert_eq!(
            (stats.taken, stats.no_evidence),
            (0, u64::from(came)),
            "{path}"
        );
        if !came {
            let trouble = lab.fetcher.troubles().remove(0);
            assert_eq!(
                trouble.problem,
                FetchError::TooLarge { limit: 20 },
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn evidence_in_use_is_fetched_again_and_a_revocation_becomes_known() {
    if !openssl() {
        return;
    }
    let (authority, web) = (Authority::new(), Web::start().await);
    let peer = authority.issue(AGENT, &list_at(&web.url("/ca.crl")));
    web.put("/ca.crl", Page::ok(&authority.list("")));
    let mut lab = Lab::patient(RevocationPolicy {
        refresh_after: Duration::ZERO,
        ..refusing()
    });
    assert!(lab.decide(&peer, &authority).await.is_established());
    authority.revoke(AGENT);
    web.put("/ca.crl", Page::ok(&authority.list("")));
    let anchors = anchors_from_pem(&authority.pem()).unwrap();
    let refreshed = async {
        while !is_revoked(&lab.judge(&peer, &anchors)) {
            lab.told.recv().await.unwrap();
        }
    };
    tokio::time::timeout(WAIT, refreshed).await.unwrap();
    assert!(lab.fetcher.stats().refreshed >= 1);
}

#[tokio::test]
async fn redirects_are_not_followed_and_https_is_not_fetched() {
    let web = Web::start().await;
    let moved = format!(
        "HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
        web.url("/elsewhere")
    );
    web.put("/moved", Page::Bytes(moved.into_bytes()));
    let mut lab = Lab::patient(RevocationPolicy::default());
    lab.fetcher.want(&[any_list(web.url("/moved"))]);
    lab.until(|stats| stats.failed == 1).await;
    assert_eq!(lab.fetcher.troubles()[0].problem, FetchError::Status(302));
    assert_eq!(web.asked().len(), 1);

    let secure = web.url("/secure").replace("http:", "https:");
    lab.fetcher.want(&[any_list(secure)]);
    lab.until(|stats| stats.not_tried == 1).await;
    assert_eq!(web.asked().len(), 1);
}

#[tokio::test]
async fn answers_that_are_not_http_or_encoded_are_failures() {
    for (bytes, says) in [
        ("SSH-2.0-OpenSSH_9.2\r\n", "not understood"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort",
            "not understood",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
            "encoded",
        ),
        (
            "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
            "status 500",
        ),
        ("", "not understood"),
    ] {
        let web = Web::start().await;
        web.put("/x", Page::Bytes(bytes.as_bytes().to_vec()));
        let mut lab = Lab::patient(RevocationPolicy::default());
        lab.fetcher.want(&[any_list(web.url("/x"))]);
        lab.until(|stats| stats.failed == 1).await;
        let problem = lab.fetcher.troubles()[0].problem.to_string();
        assert!(problem.contains(says), "{bytes:?}: {problem}");
    }
    let web = Web::start().await;
    let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    web.put("/x", Page::Bytes(head.into_bytes()));
    let mut lab = Lab::patient(RevocationPolicy::default());
    lab.fetcher.want(&[any_list(web.url("/x"))]);
    lab.until(|stats| stats.failed == 1).await;
}

#[tokio::test]
async fn what_many_want_is_fetched_once_and_a_host_is_not_overrun() {
    let web = Web::start().await;
    for n in 0..20 {
        web.put(&format!("/{n}"), Page::Silence);
    }
    let mut lab = Lab::new(
        RevocationPolicy::default(),
        FetchConfig {
            timeout: WAIT,
            per_host: 3,
            ..FetchConfig::default()
        },
    );
    let wanted: Vec<_> = (0..20)
        .map(|n| any_list(web.url(&format!("/{n}"))))
        .collect();
    for _ in 0..10 {
        lab.fetcher.want(&wanted);
    }
    while web.asked().len() < 3 || lab.fetcher.stats().waiting != 17 {
        tokio::task::yield_now().await;
    }
    assert_eq!((web.asked().len(), web.open()), (3, 3));
    let stats = lab.fetcher.stats();
    assert_eq!((stats.under_way, stats.waiting), (3, 17));

    // The queue is bounded as well.
    let mut small = Lab::new(
        RevocationPolicy::default(),
        FetchConfig {
            timeout: WAIT,
            concurrency: 1,
            queue: 2,
            ..FetchConfig::default()
        },
    );
    small.fetcher.want(&wanted);
    assert!(small.fetcher.stats().dropped > 0);
    small.told.close();
    lab.told.close();
}

#[tokio::test]
async fn a_host_that_failed_is_left_alone_and_nobody_waits_for_it() {
    let web = Web::start().await;
    let mut lab = Lab::new(
        RevocationPolicy::default(),
        FetchConfig {
            pause: WAIT,
            pause_max: WAIT,
            per_host: 1,
            ..FetchConfig::default()
        },
    );
    let wanted: Vec<_> = (0..50)
        .map(|n| any_list(web.url(&format!("/{n}"))))
        .collect();
    lab.fetcher.want(&wanted);
    lab.until(|stats| stats.failed + stats.not_tried == 50)
        .await;
    assert_eq!((web.asked().len(), lab.fetcher.stats().failed), (1, 1));
    lab.fetcher.want(&wanted);
    lab.until(|stats| stats.not_tried == 99).await;
    assert_eq!(web.asked().len(), 1);
    assert_eq!(lab.fetcher.troubles()[0].problem, FetchError::Status(404));
}

/// A node that asks about revocation, and a peer with this certificate.
fn nodes(
    authority: &Authority,
    peer: &Issued,
    policy: RevocationPolicy,
    config: FetchConfig,
) -> (Node, Node, Fetcher) {
    let trust = || {
        TrustVerifier::new(
            anchors_from_pem(&authority.pem()).unwrap(),
            Policy::default(),
            || Time::Accurate(SystemTime::now()),
        )
    };
    let revocation = Arc::new(RwLock::new(Revocation::new(policy)));
    let served: Arc<OnceLock<Node>> = Arc::default();
    let judge = served.clone();
    let fetcher = Fetcher::start(
        revocation.clone(),
        config,
        || Time::Accurate(SystemTime::now()),
        move || {
            if let Some(node) = judge.get().cloned() {
                tokio::spawn(async move { node.judge_again().await });
            }
        },
    );
    let verifier = trust();
    let wanting = fetcher.clone();
    verifier.set_revocation(revocation, move |wanted| wanting.want(wanted));
    let server = node(&authority.issue(CONTROLLER, ""), Arc::new(verifier));
    served.set(server.clone()).unwrap();
    (server, node(peer, Arc::new(trust())), fetcher)
}

async fn ask(client: &Node, server: &Node) -> Result<Vec<u8>, RequestFailure> {
    let target = Target {
        scheme: Scheme::Coaps,
        host: "localhost".to_owned(),
        port: server.local_addr().unwrap().port(),
        endpoint_id: Some(CONTROLLER.to_owned()),
    };
    let asked = tokio::time::timeout(WAIT, client.request(&target, Request::get("who"))).await;
    asked.expect("no answer").map(|response| response.payload)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_is_held_while_evidence_is_fetched_and_then_established() {
    if !openssl() {
        return;
    }
    let (authority, web) = (Authority::new(), Web::start().await);
    let peer = authority.issue(AGENT, &list_at(&web.url("/ca.crl")));
    web.put("/ca.crl", Page::Held);
    let (server, client, _fetcher) = nodes(&authority, &peer, refusing(), patient());
    let (asking, to) = (client.clone(), server.clone());
    let asking = tokio::spawn(async move { ask(&asking, &to).await });
    until(|| server.stats().held == 1 && web.asked().len() == 1).await;
    // Nothing of it was answered: it is held, neither refused nor let in.
    assert!(!asking.is_finished());
    assert_eq!(server.stats().dtls.refused, 0);
    web.put("/ca.crl", Page::ok(&authority.list("")));
    assert_eq!(asking.await.unwrap().unwrap(), AGENT.as_bytes());
    assert_eq!((server.stats().held, web.asked().len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_peer_is_held_and_refused_with_alert_44() {
    if !openssl() {
        return;
    }
    let authority = Authority::new();
    let url = responder_url();
    let peer = authority.issue(AGENT, &responder_at(&url));
    authority.revoke(AGENT);
    let _responder = authority.responder(&url);
    let (server, client, _fetcher) = nodes(&authority, &peer, refusing(), patient());
    let refused = ask(&client, &server).await.unwrap_err();
    assert!(refused.to_string().contains("44"), "{refused}");
    until(|| server.stats().dtls.refused == 1).await;
    assert_eq!(server.stats().dtls.held, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_session_ends_when_its_certificate_is_revoked() {
    if !openssl() {
        return;
    }
    let (authority, web) = (Authority::new(), Web::start().await);
    let peer = authority.issue(AGENT, &list_at(&web.url("/ca.crl")));
    web.put("/ca.crl", Page::ok(&authority.list("")));
    let policy = RevocationPolicy {
        refresh_after: Duration::ZERO,
        ..refusing()
    };
    let (server, client, fetcher) = nodes(&authority, &peer, policy, patient());
    assert_eq!(ask(&client, &server).await.unwrap(), AGENT.as_bytes());
    until(|| fetcher.stats().refreshed >= 1).await;
    assert_eq!(ask(&client, &server).await.unwrap(), AGENT.as_bytes());
    assert_eq!(server.stats().dtls.handshakes_in, 1);
    authority.revoke(AGENT);
    web.put("/ca.crl", Page::ok(&authority.list("")));
    until(|| server.stats().dtls.distrusted == 1).await;
    assert!(ask(&client, &server).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_decides_about_a_peer_whose_responder_is_silent() {
    if !openssl() {
        return;
    }
    let (authority, web) = (Authority::new(), Web::start().await);
    web.put("/", Page::Silence);
    let peer = authority.issue(AGENT, &responder_at(&web.url("/")));
    let (server, client, _fetcher) = nodes(&authority, &peer, RevocationPolicy::default(), brisk());
    assert_eq!(ask(&client, &server).await.unwrap(), AGENT.as_bytes());
    assert_eq!(server.stats().dtls.held, 1);
    let (server, client, _fetcher) = nodes(&authority, &peer, refusing(), brisk());
    assert!(ask(&client, &server).await.is_err());
    until(|| server.stats().dtls.refused == 1).await;
}

/// Waits for something that a counter tells.
async fn until(wanted: impl Fn() -> bool) {
    let waited = async {
        while !wanted() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WAIT, waited)
        .await
        .expect("never came");
}
