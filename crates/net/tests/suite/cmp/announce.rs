//! Announcements by GET and Observe (RFC 9482 §2.6): our server, our client, and programs of others.

use std::sync::Arc;
use std::time::Duration;

use homefleet_coap::{Code, Request, content_format, link};
use homefleet_net::cmp::{
    Announcements, Answer, BoxFuture, Bulletin, Client, CoapConfig, CoapListener, ExchangeError,
    Request as CmpRequest, Service, Url,
};

use super::client::config;
use super::rules::Asker;
use super::world::{bind, echo, plain, plain_url, secure, secure_url};
use crate::interop_aiocoap::python;
use crate::support::pki::Ca;
use crate::support::relay::lossy;
use crate::support::tool::{Tool, have};
use homefleet_net::cmp::ServerTrust;
use homefleet_net::cmp::watch::{Heard, Schedule, Watch};

const ANN: &str = ".well-known/cmp/ann";
const LIMIT: Duration = Duration::from_secs(120);

/// Announces under no label and under `home`, and echoes what it is sent.
struct Announcer {
    bulletin: Bulletin,
    home: Bulletin,
}

impl Service for Announcer {
    fn answer(self: Arc<Self>, request: CmpRequest) -> BoxFuture<'static, Answer> {
        Box::pin(async move { Answer::message(request.message) })
    }

    fn labels(&self) -> Vec<String> {
        vec!["home".to_owned(), "silent".to_owned()]
    }

    fn bulletin(&self, label: Option<&str>, _: Option<&str>) -> Option<Bulletin> {
        match label {
            None => Some(self.bulletin.clone()),
            Some("home") => Some(self.home.clone()),
            Some(_) => None,
        }
    }
}

/// A listener, and what it announces without a label and under `home`.
fn announcing(config: CoapConfig) -> (CoapListener, Bulletin, Bulletin) {
    let (bulletin, home) = (Bulletin::default(), Bulletin::default());
    let service = Announcer {
        bulletin: bulletin.clone(),
        home: home.clone(),
    };
    (bind(config, Arc::new(service)), bulletin, home)
}

/// A state that needs several blocks.
fn state(n: u8) -> Vec<u8> {
    vec![n; 3000]
}

fn client() -> Client {
    Client::new(config(ServerTrust::FromCmp)).unwrap()
}

async fn heard(announcements: &mut Announcements) -> Result<Vec<u8>, ExchangeError> {
    let next = tokio::time::timeout(LIMIT, announcements.next());
    next.await.expect("in time").expect("one more")
}

async fn observe(client: &Client, url: &Url) -> Announcements {
    client.observe(url).await.unwrap()
}

/// Waits until so many observe.
async fn observers(listener: &CoapListener, count: u64) {
    let all = async {
        while listener.stats().node.observers != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, all).await.expect("in time");
}

#[tokio::test]
async fn an_observer_hears_what_is_announced_and_each_change() {
    let (listener, bulletin, _) = announcing(plain());
    let client = client();
    let mut announcements = observe(&client, &plain_url(&listener)).await;
    // Nothing yet: a success without content.
    assert_eq!(heard(&mut announcements).await.unwrap(), b"");
    assert!(announcements.is_kept());
    for n in 1..4 {
        bulletin.post(state(n));
        assert_eq!(heard(&mut announcements).await.unwrap(), state(n));
    }
    // Who comes late is told of it all the same.
    let mut late = observe(&client, &plain_url(&listener)).await;
    assert_eq!(heard(&mut late).await.unwrap(), state(3));
    observers(&listener, 2).await;
    drop((late, announcements));
    observers(&listener, 0).await;
}

#[tokio::test]
async fn over_dtls_too() {
    let ca = Ca::new("CMP CA");
    let (listener, bulletin, _) = announcing(secure(&ca, None));
    bulletin.post(state(1));
    let mut announcements = observe(&client(), &secure_url(&listener)).await;
    assert_eq!(heard(&mut announcements).await.unwrap(), state(1));
    bulletin.post(state(2));
    assert_eq!(heard(&mut announcements).await.unwrap(), state(2));
}

#[tokio::test]
async fn each_label_has_its_own_announcements() {
    let (listener, bulletin, home) = announcing(plain());
    let client = client();
    let url = plain_url(&listener);
    let mut general = observe(&client, &url).await;
    let mut labelled = observe(&client, &url.with_label("home").unwrap()).await;
    assert_eq!(heard(&mut general).await.unwrap(), b"");
    assert_eq!(heard(&mut labelled).await.unwrap(), b"");
    home.post(state(1));
    assert_eq!(heard(&mut labelled).await.unwrap(), state(1));
    bulletin.post(state(2));
    assert_eq!(heard(&mut general).await.unwrap(), state(2));
    let mut none = observe(&client, &url.with_label("silent").unwrap()).await;
    let error = heard(&mut none).await.unwrap_err();
    assert!(error.to_string().contains("4.04"), "{error}");
    assert!(none.next().await.is_none());
}

#[tokio::test]
async fn the_same_announcement_is_told_once() {
    let (listener, bulletin, _) = announcing(plain());
    let mut announcements = observe(&client(), &plain_url(&listener)).await;
    assert_eq!(heard(&mut announcements).await.unwrap(), b"");
    bulletin.post(state(1));
    assert_eq!(heard(&mut announcements).await.unwrap(), state(1));
    bulletin.post(state(1));
    bulletin.post(state(2));
    assert_eq!(heard(&mut announcements).await.unwrap(), state(2));
}

#[tokio::test]
async fn who_finds_no_room_is_answered_without_the_observe_option() {
    let config = CoapConfig {
        max_observers: 1,
        ..plain()
    };
    let (listener, bulletin, _) = announcing(config);
    bulletin.post(state(1));
    let url = plain_url(&listener);
    let (first, second) = (client(), client());
    let mut kept = observe(&first, &url).await;
    assert_eq!(heard(&mut kept).await.unwrap(), state(1));
    let mut other = observe(&second, &url).await;
    assert_eq!(heard(&mut other).await.unwrap(), state(1));
    assert!(kept.is_kept() && !other.is_kept());
    assert!(other.next().await.is_none());
    assert_eq!(listener.stats().node.coap.observers_refused, 1);
    // When the first one leaves there is room.
    drop(kept);
    observers(&listener, 0).await;
    let mut other = observe(&second, &url).await;
    assert_eq!(heard(&mut other).await.unwrap(), state(1));
    assert!(other.is_kept());
}

#[tokio::test]
async fn one_client_has_a_bounded_number_of_observations() {
    let config = CoapConfig {
        max_observers_per_client: 1,
        ..plain()
    };
    let (listener, bulletin, _) = announcing(config);
    bulletin.post(state(1));
    let (url, one) = (plain_url(&listener), client());
    let mut first = observe(&one, &url).await;
    assert_eq!(heard(&mut first).await.unwrap(), state(1));
    let mut second = observe(&one, &url).await;
    assert_eq!(heard(&mut second).await.unwrap(), state(1));
    assert!(first.is_kept() && !second.is_kept());
}

#[tokio::test]
async fn with_dtls_takes_the_place_of_without() {
    let ca = Ca::new("CMP CA");
    let config = CoapConfig {
        max_observers: 1,
        ..secure(&ca, None)
    };
    let (listener, bulletin, _) = announcing(config);
    bulletin.post(state(1));
    let mut stranger = observe(&client(), &plain_url(&listener)).await;
    assert_eq!(heard(&mut stranger).await.unwrap(), state(1));
    let mut secure = observe(&client(), &secure_url(&listener)).await;
    assert_eq!(heard(&mut secure).await.unwrap(), state(1));
    assert!(secure.is_kept());
    assert_eq!(listener.stats().node.coap.observers_evicted, 1);
}

#[tokio::test]
async fn observers_are_told_times_of_their_own_to_register_again() {
    let config = CoapConfig {
        announced_again: Duration::from_secs(1000),
        ..plain()
    };
    let (listener, bulletin, _) = announcing(config);
    bulletin.post(state(1));
    let asker = Asker::new(&listener);
    let mut ages = Vec::new();
    for _ in 0..20 {
        let response = asker.ask(Request::get(ANN)).await;
        assert_eq!(response.code, Code::CONTENT);
        assert_eq!(
            response.options.content_format(),
            Some(content_format::PKIXCMP)
        );
        // It did not ask for more.
        assert_eq!(response.options.observe(), None);
        ages.push(response.options.max_age().unwrap());
    }
    assert!(
        ages.iter().all(|age| (500..=1000).contains(age)),
        "{ages:?}"
    );
    ages.dedup();
    assert!(ages.len() > 1);
}

#[tokio::test]
async fn announcements_are_read_and_nothing_else() {
    let (listener, ..) = announcing(plain());
    let asker = Asker::new(&listener);
    let post = Request::post(ANN).content_format(259).payload("x");
    assert_eq!(asker.ask(post).await.code, Code::METHOD_NOT_ALLOWED);
    let other = Request::get(ANN).accept(42);
    assert_eq!(asker.ask(other).await.code, Code::NOT_ACCEPTABLE);
    let got = asker.ask(Request::get(ANN).accept(259)).await;
    assert_eq!((got.code, got.payload.len()), (Code::CONTENT, 0));
    // Who announces nothing has no such resource.
    let quiet = bind(plain(), echo());
    let asker = Asker::new(&quiet);
    assert_eq!(asker.ask(Request::get(ANN)).await.code, Code::NOT_FOUND);
}

#[tokio::test]
async fn who_registers_too_often_is_told_to_come_later() {
    let config = CoapConfig {
        client_budget: homefleet_net::dtls::Budget {
            burst: 2,
            per_second: 1,
        },
        ..plain()
    };
    let (listener, ..) = announcing(config);
    let asker = Asker::new(&listener);
    let mut codes = Vec::new();
    for _ in 0..4 {
        codes.push(asker.ask(Request::get(ANN)).await.code);
    }
    assert_eq!(codes[0], Code::CONTENT);
    assert!(codes.contains(&Code::TOO_MANY_REQUESTS), "{codes:?}");
}

#[tokio::test]
async fn announcements_are_discovered_as_observable() {
    let (listener, ..) = announcing(plain());
    let asker = Asker::new(&listener);
    let request = Request::get(".well-known/core").query("obs");
    let text = String::from_utf8(asker.ask(request).await.payload).unwrap();
    let links = link::parse(&text).unwrap();
    let targets: Vec<&str> = links.iter().map(|link| link.target.as_str()).collect();
    assert_eq!(
        targets,
        ["/.well-known/cmp/ann", "/.well-known/cmp/p/home/ann"]
    );
    assert!(links.iter().all(|link| link.value("ct") == Some("259")));
}

#[tokio::test]
async fn over_http_nothing_is_observed() {
    let url = "http://127.0.0.1:1/".parse().unwrap();
    let error = client().observe(&url).await.err().unwrap();
    assert!(matches!(error, ExchangeError::NotObservable), "{error}");
}

#[tokio::test]
async fn announcements_arrive_at_25_percent_loss() {
    let (listener, bulletin, _) = announcing(plain());
    let through = lossy(listener.plain_addr().unwrap()).await;
    let url: Url = format!("coap://{through}").parse().unwrap();
    bulletin.post(state(1));
    let one = client();
    let mut last = 0;
    let mut announcements = None;
    // A registration or an observation may be given up after too many losses: one observes again, as a device does.
    while last < 5 {
        let open = match &mut announcements {
            Some(open) => open,
            none => none.insert(observe(&one, &url).await),
        };
        match heard(open).await {
            Ok(told) => {
                assert_eq!(told.len(), 3000);
                assert!(told[0] >= last, "{} after {last}", told[0]);
                last = told[0];
                if last < 5 && told == state(last) && *bulletin.current() == told {
                    bulletin.post(state(last + 1));
                }
            }
            Err(_) => announcements = None,
        }
    }
}

/// Whether a program says this in time.
fn says(tool: &Tool, text: &str) -> bool {
    tool.wait_for(text, LIMIT)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libcoap_observes_announcements() {
    let program = "coap-client-notls";
    if !have(program, &["-?"]) {
        return;
    }
    let (listener, bulletin, _) = announcing(plain());
    let port = listener.plain_addr().unwrap().port();
    bulletin.post(b"the first".to_vec());
    let url = format!("coap://127.0.0.1:{port}/{ANN}");
    let tool = Tool::start(program, &["-s", "60", "-A", "259", &url]);
    observers(&listener, 1).await;
    assert!(says(&tool, "the first"), "{}", tool.output());
    bulletin.post(b"the second".to_vec());
    assert!(says(&tool, "the second"), "{}", tool.output());
    bulletin.post(format!("{}the third", "x".repeat(2500)).into_bytes());
    assert!(says(&tool, "the third"), "{}", tool.output());
}

const AIOCOAP: &str = r#"
import asyncio, sys
from aiocoap import Context, Message, GET

async def main():
    context = await Context.create_client_context()
    request = context.request(Message(code=GET, uri=sys.argv[1], observe=0))
    first = await request.response
    print("first", first.code, first.opt.content_format, first.opt.observe is not None, first.payload[-9:], flush=True)
    async for response in request.observation:
        print("then", len(response.payload), response.payload[-9:], flush=True)

asyncio.run(main())
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aiocoap_observes_announcements() {
    let Some(python) = python() else { return };
    let config = CoapConfig {
        // aiocoap answers no Echo challenge outside OSCORE.
        coap: homefleet_coap::Config {
            amplification: 0,
            ..plain().coap
        },
        ..plain()
    };
    let (listener, bulletin, _) = announcing(config);
    let port = listener.plain_addr().unwrap().port();
    bulletin.post(b"the first".to_vec());
    let url = format!("coap://127.0.0.1:{port}/{ANN}");
    let tool = Tool::start(&python, &["-u", "-c", AIOCOAP, &url]);
    assert!(says(&tool, "b'the first'"), "{}", tool.output());
    assert!(tool.output().contains("True"), "{}", tool.output());
    bulletin.post(b"the second".to_vec());
    assert!(says(&tool, "b'he second'"), "{}", tool.output());
    bulletin.post(format!("{}the third", "x".repeat(2500)).into_bytes());
    assert!(says(&tool, "then 2509 b'the third'"), "{}", tool.output());
}

#[tokio::test]
async fn who_has_no_room_asks_again_and_an_observation_that_ends_is_begun_anew() {
    let config = CoapConfig {
        max_observers: 1,
        announced_again: Duration::from_secs(2),
        ..plain()
    };
    let (listener, bulletin, _) = announcing(config);
    bulletin.post(state(1));
    let url = plain_url(&listener);
    let holder = client();
    let mut kept = observe(&holder, &url).await;
    assert_eq!(heard(&mut kept).await.unwrap(), state(1));
    let soon = Duration::from_millis(50);
    let schedule = Schedule {
        first: soon,
        longest: soon,
        without_room: soon,
        not_there: soon,
    };
    let mut watch = Watch::new(client(), url, schedule);
    for _ in 0..3 {
        let Heard::Announced { message, kept } = watch.next().await else {
            panic!("an answer");
        };
        assert_eq!((message, kept), (state(1), false));
    }
    drop(kept);
    observers(&listener, 0).await;
    loop {
        match watch.next().await {
            Heard::Announced { kept: true, .. } => break,
            Heard::Announced { .. } => {}
            Heard::Failed { error, .. } => panic!("{error}"),
        }
    }
    // The registration is renewed when its time is over, without a word of the server.
    let before = listener.stats().announcements;
    let renewed = async {
        while listener.stats().announcements == before {
            let _again = watch.next().await;
        }
    };
    tokio::time::timeout(LIMIT, renewed).await.expect("in time");
}

#[tokio::test]
async fn where_nothing_is_announced_or_nobody_is_it_is_tried_again() {
    let quiet = bind(plain(), echo());
    let soon = Duration::from_millis(20);
    let schedule = Schedule {
        first: soon,
        longest: soon,
        without_room: soon,
        not_there: soon,
    };
    let mut watch = Watch::new(client(), plain_url(&quiet), schedule);
    for _ in 0..3 {
        let Heard::Failed { error, again_in } = watch.next().await else {
            panic!("nothing is announced");
        };
        assert!(error.to_string().contains("4.04"), "{error}");
        assert!(again_in >= soon && again_in <= 2 * soon);
    }
    let nowhere = "http://127.0.0.1:1/".parse().unwrap();
    let mut watch = Watch::new(client(), nowhere, schedule);
    assert!(matches!(
        watch.next().await,
        Heard::Failed {
            error: ExchangeError::NotObservable,
            ..
        }
    ));
}
