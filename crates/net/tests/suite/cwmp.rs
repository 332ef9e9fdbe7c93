//! The HTTP of a device's sessions, against a server played by hand.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use homefleet_cwmp::acs::{self, AcsEvent};
use homefleet_cwmp::auth::{DigestConfig, DigestServer, Stored};
use homefleet_cwmp::cpe::{self, Cpe, CpeEvent, HttpFailure, InformContent, Saved};
use homefleet_cwmp::message::{RebootResponse, TransferComplete, TransferCompleteResponse};
use homefleet_cwmp::{Event, EventCode, Message, Method};
use homefleet_net::cwmp::{Answer, Client, ClientConfig, UrlError};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Clone, Debug)]
struct Asked {
    connection: usize,
    target: String,
    head: String,
    body: Vec<u8>,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// Answers each request with whole bytes; an empty answer closes the connection.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(answer: impl FnMut(&Asked) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/acs?x=1", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&asked), Arc::new(Mutex::new(answer)));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                connections.spawn(async move {
                    let mut stream = BufReader::new(stream);
                    while let Some(asked) = read(&mut stream, connection).await {
                        log.lock().unwrap().push(asked.clone());
                        let answer = answer.lock().unwrap()(&asked);
                        if answer.is_empty() || stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, asked, task }
    }

    /// Answers in a row; the last again and again.
    async fn scripted<const N: usize>(answers: [&str; N]) -> Self {
        let mut answers = answers.map(str::to_owned).to_vec().into_iter().peekable();
        Self::start(move |_| {
            let answer = answers.next().unwrap();
            if answers.peek().is_none() {
                answers = vec![answer.clone()].into_iter().peekable();
            }
            answer
        })
        .await
    }

    fn client(&self) -> Client {
        Client::new(self.config(), [1; 32]).unwrap()
    }

    fn config(&self) -> ClientConfig {
        ClientConfig {
            username: "00D09E-S1".to_owned(),
            password: "secret".into(),
            ..ClientConfig::new(&self.url)
        }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn read(stream: &mut BufReader<TcpStream>, connection: usize) -> Option<Asked> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let target = head.split(' ').nth(1)?.to_owned();
    let mut asked = Asked {
        connection,
        target,
        head,
        body: Vec::new(),
    };
    let length = asked
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    asked.body.resize(length, 0);
    stream.read_exact(&mut asked.body).await.ok()?;
    Some(asked)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

fn envelope(text: &str) -> Answer {
    Answer::Envelope(text.as_bytes().to_vec())
}

#[tokio::test]
async fn posts_of_a_session_share_a_connection_and_its_cookies() {
    let first = answer(
        "200 OK",
        "Set-Cookie: a=1; Path=/\r\nSet-Cookie: b=\"2\"; HttpOnly\r\n",
        "<x/>",
    );
    let second = answer(
        "200 OK",
        "Set-Cookie: a=3\r\nSet-Cookie: b=; Max-Age=0\r\n",
        "",
    );
    let last = "HTTP/1.1 204 No Content\r\n\r\n";
    let server = Server::scripted([&first, &second, last]).await;
    let mut client = server.client();
    assert_eq!(client.post(b"<inform/>".to_vec()).await, envelope("<x/>"));
    assert_eq!(client.post(Vec::new()).await, Answer::Empty);
    assert_eq!(client.post(Vec::new()).await, Answer::Empty);
    client.close();
    assert_eq!(client.post(b"<inform/>".to_vec()).await, Answer::Empty);
    let asked = server.asked();
    let connections: Vec<_> = asked.iter().map(|asked| asked.connection).collect();
    assert_eq!(connections, [0, 0, 0, 1], "a session is a connection");
    let cookies: Vec<_> = asked.iter().map(|asked| asked.header("cookie")).collect();
    assert_eq!(cookies, [None, Some("a=1; b=\"2\""), Some("a=3"), None]);
    assert_eq!(asked[0].target, "/acs?x=1");
    assert_eq!(asked[0].body, b"<inform/>");
    assert_eq!(
        asked[0].header("content-type"),
        Some("text/xml; charset=\"utf-8\"")
    );
    assert_eq!(asked[0].header("soapaction"), Some(""));
    assert_eq!(
        (
            asked[1].header("content-type"),
            asked[1].header("soapaction")
        ),
        (None, None)
    );
    assert_eq!(asked[1].header("content-length"), Some("0"));
}

/// A server that lets in who knows the password, and counts how it was asked.
async fn guarded(password: &'static str, lifetime: Duration) -> Server {
    let start = Instant::now();
    let config = DigestConfig {
        lifetime,
        ..DigestConfig::new("acs")
    };
    let mut digest = DigestServer::new(start, config, [2; 32]);
    // Each request is a minute after the last.
    let mut now = start;
    Server::start(move |asked| {
        now += Duration::from_secs(60);
        let given = asked.header("authorization").map(|header| {
            digest.authorize(now, "POST", &asked.target, header, |_| {
                Some(Stored::Password(password.into()))
            })
        });
        match given {
            Some(Ok(_)) => answer("200 OK", "", "<in/>"),
            refused => {
                let refusal = refused.and_then(Result::err);
                let all = digest.challenge(now, refusal);
                let all: String = all
                    .iter()
                    .map(|one| format!("WWW-Authenticate: {one}\r\n"))
                    .collect();
                answer("401 Unauthorized", &all, "who are you")
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_challenge_is_answered_and_the_login_stays_known() {
    let server = guarded("secret", Duration::from_secs(3600)).await;
    let mut client = server.client();
    assert_eq!(client.post(b"<a/>".to_vec()).await, envelope("<in/>"));
    assert_eq!(client.post(b"<b/>".to_vec()).await, envelope("<in/>"));
    client.close();
    assert_eq!(client.post(b"<c/>".to_vec()).await, envelope("<in/>"));
    let bodies: Vec<_> = server.asked().into_iter().map(|asked| asked.body).collect();
    assert_eq!(
        bodies,
        [b"<a/>", b"<a/>", b"<b/>", b"<c/>"],
        "one challenge only"
    );
}

#[tokio::test]
async fn a_nonce_that_is_too_old_costs_no_login() {
    let server = guarded("secret", Duration::from_secs(60)).await;
    let mut client = server.client();
    for _ in 0..3 {
        assert_eq!(client.post(b"<a/>".to_vec()).await, envelope("<in/>"));
    }
}

#[tokio::test]
async fn a_wrong_password_and_a_challenge_without_a_login_are_told() {
    let server = guarded("another", Duration::from_secs(3600)).await;
    let unauthorized = Answer::Failed(HttpFailure::Unauthorized);
    assert_eq!(server.client().post(Vec::new()).await, unauthorized);
    assert_eq!(server.asked().len(), 2, "tried once");
    let mut nobody = Client::new(ClientConfig::new(&server.url), [1; 32]).unwrap();
    assert_eq!(nobody.post(Vec::new()).await, unauthorized);
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn basic_is_not_answered_in_the_open() {
    let challenge = answer(
        "401 Unauthorized",
        "WWW-Authenticate: Basic realm=\"acs\"\r\n",
        "",
    );
    let server = Server::scripted([&challenge]).await;
    let unauthorized = Answer::Failed(HttpFailure::Unauthorized);
    assert_eq!(server.client().post(Vec::new()).await, unauthorized);
    assert!(
        server
            .asked()
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
}

#[tokio::test]
async fn a_redirect_is_followed_with_the_whole_message_until_the_session_ends() {
    let other = Server::scripted([&answer("200 OK", "Set-Cookie: o=1\r\n", "<there/>")]).await;
    let away = answer(
        "307 Temporary Redirect",
        &format!("Set-Cookie: s=1\r\nLocation: {}\r\n", other.url),
        "",
    );
    let near = answer("302 Found", "Location: /near\r\n", "");
    let server = Server::scripted([&near, &away]).await;
    let mut client = server.client();
    assert_eq!(
        client.post(b"<inform/>".to_vec()).await,
        envelope("<there/>")
    );
    assert_eq!(client.post(Vec::new()).await, envelope("<there/>"));
    let targets: Vec<_> = server
        .asked()
        .into_iter()
        .map(|asked| asked.target)
        .collect();
    assert_eq!(targets, ["/acs?x=1", "/near"]);
    let asked = other.asked();
    assert_eq!(asked[0].body, b"<inform/>");
    let cookies: Vec<_> = asked.iter().map(|asked| asked.header("cookie")).collect();
    assert_eq!(cookies, [None, Some("o=1")], "cookies stay with their host");
    client.close();
    client.post(b"<inform/>".to_vec()).await;
    assert_eq!(
        server.asked().len(),
        3,
        "the next session begins where it should"
    );
}

#[tokio::test]
async fn redirects_are_followed_up_to_five_times_and_only_to_where_an_acs_can_be() {
    let around = answer("302 Found", "Location: /acs\r\n", "");
    let server = Server::scripted([&around]).await;
    assert_eq!(
        server.client().post(Vec::new()).await,
        Answer::Failed(HttpFailure::Redirects)
    );
    assert_eq!(server.asked().len(), 6);
    for headers in [
        "Location: ftp://127.0.0.1/\r\n",
        "Location: //127.0.0.1/\r\n",
        "",
    ] {
        let server = Server::scripted([&answer("302 Found", headers, "")]).await;
        let failed = Answer::Failed(HttpFailure::Status(302));
        assert_eq!(server.client().post(Vec::new()).await, failed, "{headers}");
    }
}

#[tokio::test]
async fn every_other_status_is_told() {
    let busy = |headers: &str| answer("503 Service Unavailable", headers, "later");
    let cases = [
        (
            busy("Retry-After: 77\r\n"),
            Answer::Unavailable(Some(Duration::from_secs(77))),
        ),
        (
            busy("Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n"),
            Answer::Unavailable(None),
        ),
        (busy(""), Answer::Unavailable(None)),
        (
            answer("500 Oops", "", "<x/>"),
            Answer::Failed(HttpFailure::Status(500)),
        ),
        (
            answer("404 Not Found", "", ""),
            Answer::Failed(HttpFailure::Status(404)),
        ),
        (String::new(), Answer::Failed(HttpFailure::Connection)),
        (
            "garbage\r\n\r\n".to_owned(),
            Answer::Failed(HttpFailure::Connection),
        ),
    ];
    for (given, expected) in cases {
        let server = Server::scripted([&given]).await;
        assert_eq!(
            server.client().post(b"<a/>".to_vec()).await,
            expected,
            "{given}"
        );
    }
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n<x\r\n2\r\n/>\r\n0\r\n\r\n";
    let server = Server::scripted([chunked]).await;
    assert_eq!(server.client().post(Vec::new()).await, envelope("<x/>"));
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read() {
    let server = Server::scripted([&answer("200 OK", "", &"x".repeat(1000))]).await;
    let config = |max_answer| ClientConfig {
        max_answer,
        ..server.config()
    };
    let mut client = Client::new(config(999), [1; 32]).unwrap();
    assert_eq!(
        client.post(Vec::new()).await,
        Answer::Failed(HttpFailure::Connection)
    );
    let mut client = Client::new(config(1000), [1; 32]).unwrap();
    assert_eq!(client.post(Vec::new()).await, envelope(&"x".repeat(1000)));
}

#[tokio::test]
async fn an_acs_that_does_not_answer_is_left_and_one_that_is_not_there_too() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let config = ClientConfig {
        timeout: Duration::from_millis(50),
        ..ClientConfig::new(format!("http://{address}/"))
    };
    let failed = Answer::Failed(HttpFailure::Connection);
    assert_eq!(
        Client::new(config, [1; 32]).unwrap().post(Vec::new()).await,
        failed
    );
    drop(silent);
    let config = ClientConfig::new(format!("http://{address}/"));
    assert_eq!(
        Client::new(config, [1; 32]).unwrap().post(Vec::new()).await,
        failed
    );
    let config = ClientConfig::new(format!("https://{address}/"));
    let without_tls = Client::new(config, [1; 32]).unwrap().post(Vec::new()).await;
    assert_eq!(without_tls, failed, "nothing goes into the open instead");
}

#[tokio::test]
async fn a_connection_that_was_closed_between_posts_is_opened_again() {
    let server = Server::scripted([&answer(
        "200 OK",
        "Connection: close\r\nSet-Cookie: a=1\r\n",
        "<x/>",
    )])
    .await;
    let mut client = server.client();
    assert_eq!(client.post(b"<a/>".to_vec()).await, envelope("<x/>"));
    assert_eq!(client.post(b"<b/>".to_vec()).await, envelope("<x/>"));
    let asked = server.asked();
    assert_eq!((asked.len(), asked[1].connection), (2, 1));
    assert_eq!(
        asked[1].header("cookie"),
        Some("a=1"),
        "the session goes on"
    );
}

#[test]
fn what_is_no_url_of_an_acs_is_refused() {
    for url in ["", "acs", "ftp://acs/", "http://", "/acs", "http:acs"] {
        let client = Client::new(ClientConfig::new(url), [1; 32]);
        assert_eq!(client.err(), Some(UrlError), "{url}");
    }
    for url in [
        "http://acs",
        "https://[::1]:7547/a",
        " http://acs.example:80/ ",
    ] {
        assert!(
            Client::new(ClientConfig::new(url), [1; 32]).is_ok(),
            "{url}"
        );
    }
}

#[tokio::test]
async fn a_device_and_a_server_have_a_session_over_http() {
    let start = Instant::now();
    let mut session = acs::Session::new(start, acs::Config::default());
    let mut asked_reboot = false;
    let server = Server::start(move |asked| {
        session.handle_input(start, &asked.body).unwrap();
        while let Some(event) = session.poll_event() {
            match event {
                AcsEvent::Inform { .. } => session.accept(start).unwrap(),
                AcsEvent::Request(_) => {
                    session.respond(start, TransferCompleteResponse {}).unwrap()
                }
                AcsEvent::Ready if asked_reboot => session.finish(start).unwrap(),
                AcsEvent::Ready => {
                    asked_reboot = true;
                    session
                        .send(start, homefleet_cwmp::message::Reboot::default())
                        .unwrap();
                }
                _ => {}
            }
        }
        let transmit = session.poll_transmit().unwrap();
        match transmit.status {
            204 => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            _ => answer(
                "200 OK",
                "Set-Cookie: session=1\r\n",
                &String::from_utf8(transmit.body).unwrap(),
            ),
        }
    })
    .await;
    let mut client = server.client();
    let mut device = Cpe::new(start, cpe::Config::default(), Saved::default(), [3; 32]);
    device.raise(Event::new(EventCode::Boot));
    device
        .queue(TransferComplete::default().into(), Some(Method::Download))
        .unwrap();
    let mut seen = Vec::new();
    loop {
        while let Some(event) = device.poll_event() {
            match &event {
                CpeEvent::Starting => device.begin(start, InformContent::default()).unwrap(),
                CpeEvent::Request(Message::Reboot(_)) => {
                    device.respond(start, RebootResponse {}).unwrap()
                }
                _ => {}
            }
            seen.push(event);
        }
        match device.poll_transmit() {
            Some(cpe::Transmit::Post(body)) => {
                let answer = client.post(body).await;
                device.handle_reply(start, answer.as_reply());
            }
            Some(cpe::Transmit::Close) => client.close(),
            None => break,
        }
    }
    assert_eq!(seen.last(), Some(&CpeEvent::Ended));
    assert!(
        seen.iter()
            .any(|event| matches!(event, CpeEvent::Answered { .. }))
    );
    assert_eq!(device.saved(start), Saved::default());
    let connections: Vec<_> = server
        .asked()
        .into_iter()
        .map(|asked| asked.connection)
        .collect();
    assert_eq!(
        connections, [0; 4],
        "Inform, TransferComplete, nothing, RebootResponse"
    );
}
