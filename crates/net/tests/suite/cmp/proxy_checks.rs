//! What the proxy looks at before a CA hears of a message: rules, protection, roles, room, and a CA that is not there (RFC 9482 §4).

use std::sync::Arc;
use std::time::Duration;

use homefleet_cmp::asn1::{Body, BodyKind, EncodedMessage, Header, Message};
use homefleet_coap::Code;
use homefleet_net::cmp::proxy::{
    Check, Health, Keys, Proxy, Rest, Role, Room, Route, Upstream, UpstreamStats,
};
use homefleet_net::cmp::{
    Client, ClientConfig, CoapListener, ExchangeError, ResponseCode, ServerTrust, Url,
};
use homefleet_trust::{Anchor, anchors_from_pem};
use tokio::io::AsyncReadExt as _;

use super::client::{config, http};
use super::world::{bind, direct, plain, plain_url, secure, secure_url};
use crate::cmp_world::{Requester, by_key, by_secret};
use crate::openssl::pki;
use crate::support::pair::AGENT;
use crate::support::pki::Ca;
use crate::support::web::{Page, Web};

/// The web server that stands for a CA, a proxy before it, and where that listens.
struct Front {
    web: Web,
    proxy: Arc<Proxy>,
    listener: CoapListener,
}

fn client() -> Client {
    Client::new(config(ServerTrust::FromCmp)).unwrap()
}

fn question(protector: homefleet_cmp::protection::Protector) -> Message {
    Requester::new(protector, 1).message(Body::Genm(Vec::new()), None, |_| {})
}

fn bytes(message: &Message) -> Vec<u8> {
    message.encode().unwrap()
}

/// As if it were a CA's answer.
fn answer() -> Vec<u8> {
    bytes(&question(by_secret()))
}

fn upstream(web: &Web, check: Check) -> Upstream {
    Upstream {
        name: "ca".to_owned(),
        url: web.url("/cmp").parse().unwrap(),
        client: client(),
        kinds: None,
        check,
        max_under_way: 16,
        rest: Rest::default(),
    }
}

fn everything() -> Vec<Route> {
    ["home", "work"]
        .map(Some)
        .into_iter()
        .chain([None])
        .map(|label| Route {
            label: label.map(str::to_owned),
            host: None,
            upstream: 0,
        })
        .collect()
}

impl Front {
    async fn new(check: Check, with: impl FnOnce(Proxy) -> Proxy) -> Self {
        let web = Web::start().await;
        web.put("/cmp", http("200 OK", "application/pkixcmp", &answer()));
        let proxy = Proxy::new(vec![upstream(&web, check)], everything()).unwrap();
        let proxy = Arc::new(with(proxy));
        Self {
            listener: bind(plain(), proxy.clone()),
            web,
            proxy,
        }
    }

    /// The code of a refusal; `None` for an answer of the CA.
    async fn send(&self, message: &[u8]) -> Option<Code> {
        code(&client(), &plain_url(&self.listener), message).await
    }

    fn stats(&self) -> UpstreamStats {
        self.proxy.stats().remove(0)
    }
}

async fn code(client: &Client, url: &Url, message: &[u8]) -> Option<Code> {
    match client.exchange(url, None, message).await {
        Ok(_) => None,
        Err(ExchangeError::Refused {
            code: ResponseCode::Coap(code),
            ..
        }) => Some(code),
        Err(other) => panic!("{other}"),
    }
}

fn our_ca() -> Vec<Anchor> {
    vec![Anchor::from_der(&pki().read("ca.der")).unwrap()]
}

fn with_flipped_protection(message: &Message) -> Vec<u8> {
    let mut message = message.clone();
    let mut bits = message.protection.unwrap().as_bytes().unwrap().to_vec();
    *bits.last_mut().unwrap() ^= 1;
    message.protection = Some(der::asn1::BitString::from_bytes(&bits).unwrap());
    bytes(&message)
}

#[tokio::test]
async fn a_message_that_breaks_a_rule_for_headers_is_refused_and_the_ca_not_asked() {
    let front = Front::new(Check::Header, |proxy| proxy).await;
    let mut requester = Requester::new(by_secret(), 2);
    let mut bent =
        |change: fn(&mut Header)| bytes(&requester.message(Body::Genm(Vec::new()), None, change));
    for message in [
        bent(|header| header.pvno = 1),
        bent(|header| header.transaction_id = None),
        bent(|header| header.sender_nonce = None),
        bent(|header| header.recip_nonce = header.sender_nonce.clone()),
    ] {
        assert_eq!(front.send(&message).await, Some(Code::BAD_REQUEST));
    }
    let mut half = question(by_secret());
    half.protection = None;
    let half = bytes(&half);
    assert_eq!(front.send(&half).await, Some(Code::UNAUTHORIZED));
    assert!(front.web.asked().is_empty());
    assert_eq!(front.stats().refused, 5);
    // Its protection is not looked at.
    let flipped = with_flipped_protection(&question(by_key("device")));
    assert_eq!(front.send(&flipped).await, None);
}

#[tokio::test]
async fn protection_is_verified_where_the_key_is_known() {
    let keys = |anchors, strangers, macs| {
        Check::Protection(Keys {
            anchors,
            strangers,
            macs,
        })
    };
    let good = bytes(&question(by_key("device")));
    let flipped = with_flipped_protection(&question(by_key("device")));
    let secret = bytes(&question(by_secret()));
    let elsewhere = anchors_from_pem(&Ca::new("Elsewhere").root_pem()).unwrap();

    let front = Front::new(keys(our_ca(), false, true), |proxy| proxy).await;
    assert_eq!(front.send(&good).await, None);
    assert_eq!(front.send(&secret).await, None);
    assert_eq!(front.send(&flipped).await, Some(Code::UNAUTHORIZED));
    assert_eq!(front.web.asked().len(), 2);

    let front = Front::new(keys(elsewhere.clone(), false, false), |proxy| proxy).await;
    assert_eq!(front.send(&good).await, Some(Code::UNAUTHORIZED));
    assert_eq!(front.send(&secret).await, Some(Code::UNAUTHORIZED));
    assert!(front.web.asked().is_empty());

    let front = Front::new(keys(elsewhere, true, false), |proxy| proxy).await;
    assert_eq!(front.send(&good).await, None);
    assert_eq!(front.send(&flipped).await, Some(Code::UNAUTHORIZED));
}

fn role(name: &str, anchors: Vec<Anchor>, kinds: &[BodyKind]) -> Role {
    Role {
        name: name.to_owned(),
        anchors,
        secure: false,
        labels: None,
        kinds: Some(kinds.to_vec()),
    }
}

#[tokio::test]
async fn a_role_by_the_certificate_that_signs_may_ask_for_what_others_may_not() {
    let roles = vec![
        role("devices", our_ca(), &[BodyKind::Genm, BodyKind::Kur]),
        role("anybody", Vec::new(), &[BodyKind::Ir, BodyKind::CertConf]),
    ];
    let front = Front::new(Check::Nothing, |proxy| proxy.with_roles(roles)).await;
    assert_eq!(front.send(&bytes(&question(by_key("device")))).await, None);
    let secret = bytes(&question(by_secret()));
    assert_eq!(front.send(&secret).await, Some(Code::FORBIDDEN));
    // Whoever shows a certificate without its key has no role by it.
    let flipped = with_flipped_protection(&question(by_key("device")));
    assert_eq!(front.send(&flipped).await, Some(Code::UNAUTHORIZED));
    // What is in a nested message counts as well.
    let inner = EncodedMessage::from_der(&bytes(&question(by_key("device")))).unwrap();
    let nested = Body::Nested(vec![inner]);
    let nested = Requester::new(by_key("server"), 3).message(nested, None, |_| {});
    assert_eq!(front.send(&bytes(&nested)).await, Some(Code::FORBIDDEN));
    assert_eq!(front.web.asked().len(), 1);
    assert_eq!(front.proxy.counts().forbidden, 2);
}

#[tokio::test]
async fn a_role_by_the_certificate_of_the_association_holds_under_its_labels_only() {
    let ca = Ca::new("Operator");
    let web = Web::start().await;
    web.put("/cmp", http("200 OK", "application/pkixcmp", &answer()));
    let operator = Role {
        labels: Some(vec!["home".to_owned()]),
        secure: true,
        ..role(
            "operators",
            anchors_from_pem(&ca.root_pem()).unwrap(),
            &[BodyKind::Genm],
        )
    };
    let proxy = Proxy::new(vec![upstream(&web, Check::Shape)], everything()).unwrap();
    let proxy = Arc::new(proxy.with_roles(vec![operator]));
    let listener = bind(secure(&ca, Some(ca.verifier())), proxy);
    let message = bytes(&question(by_secret()));
    let known = Client::new(ClientConfig {
        identity: Some(direct(&ca, AGENT).credentials()),
        ..config(ServerTrust::FromCmp)
    });
    let known = known.unwrap();
    let (secure, plain) = (secure_url(&listener), plain_url(&listener));
    let at = |url: &Url, label: &str| url.with_label(label).unwrap();
    assert_eq!(code(&known, &at(&secure, "home"), &message).await, None);
    let forbidden = Some(Code::FORBIDDEN);
    for (client, url) in [
        (&known, at(&secure, "work")),
        (&known, secure.clone()),
        (&known, at(&plain, "home")),
        (&client(), at(&secure, "home")),
    ] {
        assert_eq!(code(client, &url, &message).await, forbidden, "{url}");
    }
}

#[tokio::test]
async fn bytes_under_way_are_bounded_per_client_and_in_all() {
    for (room, expected) in [
        ((100_000, 5000), Code::TOO_MANY_REQUESTS),
        ((5000, 100_000), Code::SERVICE_UNAVAILABLE),
    ] {
        let (bytes, per_client) = room;
        let room = Room { bytes, per_client };
        let front = Front::new(Check::Nothing, |proxy| proxy.with_room(room)).await;
        front.web.put("/cmp", Page::Silence);
        let url = plain_url(&front.listener);
        let first = client();
        let second = async {
            while front.stats().forwarded == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (front.send(&[0; 2001]).await, front.proxy.counts())
        };
        tokio::select! {
            _ = first.exchange(&url, None, &[0; 3000]) => panic!("nobody answers that"),
            (code, counts) = second => {
                assert_eq!(code, Some(expected));
                assert_eq!((counts.no_room, counts.held), (1, 3000));
            }
        }
    }
}

#[tokio::test]
async fn a_ca_that_is_not_there_is_left_alone_for_a_while_and_then_found_again() {
    // An address of ours that does not listen yet.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let behind = Upstream {
        name: "ca".to_owned(),
        url: format!("http://{address}/cmp").parse().unwrap(),
        client: client(),
        kinds: None,
        check: Check::Nothing,
        max_under_way: 16,
        rest: Rest {
            after: 2,
            time: Duration::from_secs(3600),
        },
    };
    let proxy = |behind| Arc::new(Proxy::new(vec![behind], everything()).unwrap());
    let resting = proxy(behind.clone());
    let front = bind(plain(), resting.clone());
    let url = plain_url(&front);
    for (expected, health) in [
        (Code::BAD_GATEWAY, Health::Failing),
        (Code::BAD_GATEWAY, Health::Resting),
        (Code::SERVICE_UNAVAILABLE, Health::Resting),
    ] {
        assert_eq!(code(&client(), &url, b"x").await, Some(expected));
        assert_eq!(resting.stats().remove(0).health, health);
    }
    let stats = resting.stats().remove(0);
    assert_eq!((stats.forwarded, stats.busy), (2, 1));

    // With no time to rest, the next message tries.
    let trying = proxy(Upstream {
        rest: Rest {
            after: 2,
            time: Duration::ZERO,
        },
        ..behind
    });
    let front = bind(plain(), trying.clone());
    let url = plain_url(&front);
    for _ in 0..3 {
        assert_eq!(code(&client(), &url, b"x").await, Some(Code::BAD_GATEWAY));
    }
    let listener = socket.listen(16).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let Page::Bytes(page) = http("200 OK", "application/pkixcmp", b"answer") else {
            return;
        };
        tokio::io::AsyncWriteExt::write_all(&mut stream, &page)
            .await
            .unwrap();
        let _end = stream.read_to_end(&mut Vec::new()).await;
    });
    assert_eq!(code(&client(), &url, b"x").await, None);
    assert_eq!(trying.stats().remove(0).health, Health::Good);
}

#[tokio::test]
async fn an_answer_that_calls_itself_a_message_and_is_none_is_5_02() {
    let front = Front::new(Check::Shape, |proxy| proxy).await;
    let message = bytes(&question(by_secret()));
    assert_eq!(front.send(&message).await, None);
    front
        .web
        .put("/cmp", http("200 OK", "application/pkixcmp", b"garbage"));
    assert_eq!(front.send(&message).await, Some(Code::BAD_GATEWAY));
    let stats = front.stats();
    assert_eq!((stats.answered, stats.failed), (1, 1));
    assert_eq!(stats.health, Health::Failing);
}

#[tokio::test]
async fn a_gateway_behind_that_waits_in_vain_is_5_04() {
    let front = Front::new(Check::Nothing, |proxy| proxy).await;
    for status in ["408 Late", "504 Late"] {
        front.web.put("/cmp", http(status, "text/plain", b""));
        assert_eq!(front.send(b"x").await, Some(Code::GATEWAY_TIMEOUT));
    }
    assert_eq!(front.stats().failures_in_a_row, 2);
}

/// What the server reads first, and all of it.
async fn as_sent(chunked: bool, chunk: usize, message: &'static [u8]) -> (Vec<u8>, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/cmp", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let sending = tokio::spawn(async move {
        let client = Client::new(ClientConfig {
            chunked,
            chunk,
            ..config(ServerTrust::FromCmp)
        });
        client.unwrap().exchange(&url, None, message).await
    });
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.readable().await.unwrap();
    let mut all = vec![0; 100_000];
    let first = stream.read(&mut all).await.unwrap();
    all.truncate(first);
    let first = all.clone();
    while !all.ends_with(b"0\r\n\r\n") && !all.ends_with(message) {
        assert!(stream.read_buf(&mut all).await.unwrap() > 0);
    }
    sending.abort();
    (first, String::from_utf8(all).unwrap())
}

#[tokio::test]
async fn a_chunk_is_as_long_as_the_message_unless_the_server_wants_them_shorter() {
    static MESSAGE: [u8; 3000] = [b'x'; 3000];
    let body = |all: &str| all.split_once("\r\n\r\n").unwrap().1.to_owned();
    let (first, all) = as_sent(true, usize::MAX, &MESSAGE).await;
    assert_eq!(
        body(&all),
        format!("BB8\r\n{}\r\n0\r\n\r\n", "x".repeat(3000))
    );
    // Head, chunk and end leave together: the fewest packets that there can be.
    assert_eq!(first.len(), all.len());
    let (_, all) = as_sent(true, 2000, &MESSAGE).await;
    let parts = format!(
        "7D0\r\n{}\r\n3E8\r\n{}\r\n0\r\n\r\n",
        "x".repeat(2000),
        "x".repeat(1000)
    );
    assert_eq!(body(&all), parts);
    let (first, all) = as_sent(false, 2000, &MESSAGE).await;
    assert!(all.to_ascii_lowercase().contains("content-length: 3000"));
    assert_eq!(body(&all).len(), 3000);
    assert_eq!(first.len(), all.len());
}

#[tokio::test]
async fn a_question_of_our_own_goes_to_an_upstream_and_is_counted() {
    let front = Front::new(Check::Nothing, |proxy| proxy).await;
    let got = front.proxy.ask(0, None, b"question").await.unwrap();
    assert_eq!(got, answer());
    assert_eq!(front.stats().answered, 1);
    assert!(front.proxy.ask(1, None, b"question").await.is_err());
}
