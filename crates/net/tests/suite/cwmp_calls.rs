//! Calls of an ACS, and the files that it names, over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use homefleet_cwmp::auth::DigestClient;
use homefleet_net::cwmp::{
    CallHandle, CallListener, Caller, CallsConfig, FileError, FileServer, fetch, send,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

struct Device {
    address: SocketAddr,
    handle: CallHandle,
    called: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn device(config: CallsConfig) -> Device {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = CallListener::bind(loopback, config, [3; 32]).await.unwrap();
    let (address, handle) = (listener.local_addr().unwrap(), listener.handle());
    handle.set(Caller {
        path: "/secret".into(),
        username: "acs".into(),
        password: "word".into(),
    });
    let called = Arc::new(AtomicU64::new(0));
    let counter = called.clone();
    let task = tokio::spawn(listener.run(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    Device {
        address,
        handle,
        called,
        task,
    }
}

/// One request on a connection of its own; the whole answer.
async fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // A refused connection may be reset.
    stream.read_to_end(&mut answer).await.ok();
    String::from_utf8(answer).unwrap()
}

fn get(target: &str, authorization: Option<String>) -> Vec<u8> {
    let authorization = authorization.map(|value| format!("Authorization: {value}\r\n"));
    let authorization = authorization.unwrap_or_default();
    format!("GET {target} HTTP/1.1\r\nHost: device\r\n{authorization}\r\n").into_bytes()
}

/// A call with this login: the status of its last answer.
async fn call(device: &Device, target: &str, username: &str, password: &str) -> u16 {
    let mut login = DigestClient::new(username, password.into(), false, [4; 32]);
    let first = ask(device.address, &get(target, None)).await;
    let challenges: Vec<&str> = first
        .lines()
        .filter_map(|line| line.strip_prefix("WWW-Authenticate: "))
        .collect();
    if challenges.is_empty() {
        return status(&first);
    }
    login.challenged(&challenges).unwrap();
    let authorization = login.authorization("GET", target);
    status(&ask(device.address, &get(target, authorization)).await)
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn only_who_knows_path_and_password_makes_the_device_call() {
    let device = device(CallsConfig::default()).await;
    assert_eq!(call(&device, "/secret", "acs", "word").await, 200);
    assert_eq!(device.called.load(Ordering::SeqCst), 1);
    for (target, username, password, expected) in [
        ("/secret", "acs", "wrong", 401),
        ("/secret", "other", "word", 401),
        ("/", "acs", "word", 404),
        ("/secret2", "acs", "word", 404),
    ] {
        let found = call(&device, target, username, password).await;
        assert_eq!(found, expected, "{target} {username} {password}");
    }
    assert_eq!(device.called.load(Ordering::SeqCst), 1);
    let stats = device.handle.stats();
    assert_eq!((stats.taken, stats.unauthorized, stats.refused), (1, 5, 2));
    device.handle.set(Caller::default());
    assert_eq!(call(&device, "/secret", "acs", "word").await, 404);
    assert_eq!(
        call(&device, "", "", "").await,
        404,
        "no path is not an empty one"
    );
}

#[tokio::test]
async fn more_calls_than_allowed_get_503_and_wrong_ones_do_not_count() {
    let config = CallsConfig {
        most: 2,
        within: Duration::from_secs(3600),
        ..CallsConfig::default()
    };
    let device = device(config).await;
    for _ in 0..4 {
        assert_eq!(call(&device, "/secret", "acs", "wrong").await, 401);
    }
    assert_eq!(call(&device, "/secret", "acs", "word").await, 200);
    assert_eq!(call(&device, "/secret", "acs", "word").await, 200);
    assert_eq!(call(&device, "/secret", "acs", "word").await, 503);
    assert_eq!(device.called.load(Ordering::SeqCst), 2);
    assert_eq!(device.handle.stats().too_many, 1);
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_bounded() {
    let device = device(CallsConfig::default()).await;
    assert_eq!(ask(device.address, &[b'x'; 20_000]).await, "");
    let post = b"POST /secret HTTP/1.1\r\n\r\n";
    assert_eq!(status(&ask(device.address, post).await), 404);
    assert_eq!(device.called.load(Ordering::SeqCst), 0);
    assert_eq!(call(&device, "/secret", "acs", "word").await, 200);
}

/// Answers connections one after the other with these bytes, and closes each.
async fn files(answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/firmware", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
                let mut buffer = [0; 1024];
                let read = stream.read(&mut buffer).await.unwrap();
                assert!(read > 0);
                head.extend_from_slice(&buffer[..read]);
            }
            asked.push(String::from_utf8_lossy(&head).into_owned());
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.ok();
        }
        asked
    });
    (url, task)
}

fn server(url: &str, most: u64) -> FileServer {
    FileServer {
        url: url.to_owned(),
        username: "device".into(),
        password: "word".into(),
        tls: None,
        most,
        patience: Duration::from_secs(30),
        seed: [5; 32],
    }
}

#[tokio::test]
async fn a_fetch_that_broke_goes_on_where_it_was_when_the_file_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("file");
    let (url, asked) = files(vec![
        "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nContent-Length: 10\r\n\r\n01234".into(),
        "HTTP/1.1 206 Partial\r\nETag: \"a\"\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\n56789".into(),
    ])
    .await;
    let fetched = fetch(server(&url, 100), &to).await.unwrap();
    assert_eq!((fetched.size, fetched.resumed), (10, 1));
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "0123456789");
    let asked = asked.await.unwrap();
    assert!(!asked[0].to_lowercase().contains("range:"));
    let second = asked[1].to_lowercase();
    assert!(second.contains("range: bytes=5-\r\n") && second.contains("if-range: \"a\"\r\n"));
}

#[tokio::test]
async fn a_file_that_changed_meanwhile_begins_anew() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("file");
    let (url, _asked) = files(vec![
        "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nContent-Length: 10\r\n\r\n01234".into(),
        "HTTP/1.1 200 OK\r\nETag: \"b\"\r\nContent-Length: 3\r\n\r\nnew".into(),
    ])
    .await;
    fetch(server(&url, 100), &to).await.unwrap();
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "new");
}

#[tokio::test]
async fn what_cannot_be_fetched_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("file");
    let answer = |answer: &str| vec![answer.to_owned()];
    let (url, _asked) = files(answer("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")).await;
    let error = fetch(server(&url, 100), &to).await.unwrap_err();
    assert!(matches!(error, FileError::Status(404)), "{error}");
    let (url, _asked) = files(answer("HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n")).await;
    let error = fetch(server(&url, 100), &to).await.unwrap_err();
    assert!(matches!(error, FileError::TooLarge(100)), "{error}");
    let long = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}",
        "x".repeat(101)
    );
    let (url, _asked) = files(vec![long]).await;
    let error = fetch(server(&url, 100), &to).await.unwrap_err();
    assert!(
        matches!(error, FileError::TooLarge(100)),
        "without a length: {error}"
    );
    let error = fetch(server("ftp://host/file", 100), &to)
        .await
        .unwrap_err();
    assert!(matches!(error, FileError::Url), "{error}");
    let error = fetch(server("http://127.0.0.1:1/", 100), &to)
        .await
        .unwrap_err();
    assert!(matches!(error, FileError::Contact), "{error}");
    let basic =
        "HTTP/1.1 401 Who\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n";
    let (url, _asked) = files(answer(basic)).await;
    let error = fetch(server(&url, 100), &to).await.unwrap_err();
    assert!(
        matches!(error, FileError::Unauthorized),
        "Basic in the open: {error}"
    );
}

#[tokio::test]
async fn a_file_is_sent_after_a_challenge_of_digest() {
    let challenge = "HTTP/1.1 401 Who\r\nWWW-Authenticate: Digest realm=\"x\", qop=\"auth\", nonce=\"n\"\r\nContent-Length: 0\r\n\r\n";
    let (url, asked) = files(vec![
        challenge.into(),
        "HTTP/1.1 201 Made\r\nContent-Length: 0\r\n\r\n".into(),
    ])
    .await;
    send(server(&url, 0), b"configuration".to_vec())
        .await
        .unwrap();
    let asked = asked.await.unwrap();
    assert!(asked[1].starts_with("PUT /firmware "));
    assert!(
        asked[1]
            .to_lowercase()
            .contains("authorization: digest username=\"device\"")
    );
}
