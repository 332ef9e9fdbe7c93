//! Digest: client and server together, and everything that is not let in.

use std::time::Instant;

use homefleet_cwmp::auth::{
    Algorithm, ClientError, DigestClient, DigestConfig, DigestServer, Refusal, Stored,
};
use proptest::prelude::*;

use crate::world::{seconds, start};

struct Login {
    now: Instant,
    server: DigestServer,
    client: DigestClient,
}

impl Login {
    fn new(config: DigestConfig) -> Self {
        let now = start();
        Self {
            now,
            server: DigestServer::new(now, config, [3; 32]),
            client: DigestClient::new("00D09E-\"S 1\"", "pass:word".into(), false, [4; 32]),
        }
    }

    fn challenge(&mut self, refusal: Option<Refusal>) -> Result<(), ClientError> {
        let headers = self.server.challenge(self.now, refusal);
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        self.client.challenged(&headers)
    }

    fn header(&mut self) -> String {
        self.client.authorization("POST", "/acs").unwrap()
    }

    fn check(&mut self, header: &str) -> Result<String, Refusal> {
        let now = self.now;
        self.server
            .authorize(now, "POST", "/acs", header, |username| {
                (username == "00D09E-\"S 1\"").then(|| Stored::Password("pass:word".into()))
            })
    }
}

fn challenged() -> Login {
    let mut login = Login::new(DigestConfig::new("Homefleet"));
    login.challenge(None).unwrap();
    login
}

#[test]
fn who_knows_the_password_is_let_in_by_either_algorithm() {
    for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
        let mut login = Login::new(DigestConfig {
            algorithms: vec![algorithm],
            ..DigestConfig::new("Homefleet")
        });
        login.challenge(None).unwrap();
        for _ in 0..3 {
            let header = login.header();
            assert!(header.contains(algorithm.name()), "{header}");
            assert_eq!(login.check(&header), Ok("00D09E-\"S 1\"".to_owned()));
        }
    }
}

#[test]
fn hashes_do_instead_of_the_password() {
    let mut login = challenged();
    let header = login.header();
    let stored = Stored::hashed("00D09E-\"S 1\"", "Homefleet", "pass:word");
    assert!(
        !format!("{stored:?}").contains(|c: char| c.is_ascii_digit()),
        "no secret is shown"
    );
    let now = login.now;
    let admitted = login
        .server
        .authorize(now, "POST", "/acs", &header, |_| Some(stored));
    assert_eq!(admitted, Ok("00D09E-\"S 1\"".to_owned()));
    let header = login.header();
    let only_md5 = Stored::Hashes {
        md5: Some("0".into()),
        sha256: None,
    };
    let admitted = login
        .server
        .authorize(now, "POST", "/acs", &header, |_| Some(only_md5));
    assert_eq!(
        admitted,
        Err(Refusal::Credentials),
        "SHA-256 was the answer"
    );
}

#[test]
fn credentials_are_good_once() {
    let mut login = challenged();
    let headers: Vec<String> = (0..70).map(|_| login.header()).collect();
    assert!(login.check(&headers[4]).is_ok());
    assert_eq!(login.check(&headers[4]), Err(Refusal::Replayed));
    assert!(
        login.check(&headers[2]).is_ok(),
        "requests may overtake each other"
    );
    assert_eq!(login.check(&headers[2]), Err(Refusal::Replayed));
    assert!(login.check(&headers[69]).is_ok());
    assert_eq!(
        login.check(&headers[3]),
        Err(Refusal::Replayed),
        "but not by that much"
    );
    assert_eq!(
        login.challenge(Some(Refusal::Replayed)),
        Ok(()),
        "a nonce that was good for a while"
    );
}

#[test]
fn a_count_of_nothing_is_no_count() {
    let mut login = challenged();
    let header = login.header().replace("nc=00000001", "nc=00000000");
    assert_eq!(
        login.check(&header),
        Err(Refusal::Credentials),
        "it is in the hash"
    );
}

#[test]
fn a_nonce_is_good_for_its_lifetime_and_then_stale() {
    let mut login = challenged();
    login.now += seconds(300);
    let header = login.header();
    assert!(login.check(&header).is_ok());
    login.now += seconds(1);
    let header = login.header();
    assert_eq!(login.check(&header), Err(Refusal::Stale));
    assert_eq!(login.challenge(Some(Refusal::Stale)), Ok(()));
    let header = login.header();
    assert!(login.check(&header).is_ok());
}

#[test]
fn a_nonce_of_somebody_else_is_stale() {
    let mut login = challenged();
    let header = login.header();
    let mut other = DigestServer::new(login.now, DigestConfig::new("Homefleet"), [5; 32]);
    let refused = other.authorize(login.now, "POST", "/acs", &header, |_| {
        Some(Stored::Password("pass:word".into()))
    });
    assert_eq!(refused, Err(Refusal::Stale));
}

#[test]
fn nonces_in_use_are_bounded_and_none_that_is_forgotten_comes_back() {
    let mut login = Login::new(DigestConfig {
        most_nonces: 2,
        ..DigestConfig::new("Homefleet")
    });
    let mut first = Vec::new();
    for _ in 0..4 {
        login.now += seconds(1);
        login.client.forget();
        login.challenge(None).unwrap();
        let header = login.header();
        assert!(login.check(&header).is_ok());
        first.push(header);
    }
    let again: Vec<_> = first
        .iter()
        .map(|header| login.check(header).unwrap_err())
        .collect();
    assert_eq!(
        again,
        [
            Refusal::Stale,
            Refusal::Stale,
            Refusal::Replayed,
            Refusal::Replayed
        ]
    );
}

#[test]
fn every_other_header_is_refused_for_its_reason() {
    let mut login = challenged();
    let right = login.header();
    let cases = [
        ("response=\"", "response=\"0", Refusal::Credentials),
        ("00D09E-", "00D09F-", Refusal::Credentials),
        ("uri=\"/acs\"", "uri=\"/other\"", Refusal::Uri),
        ("realm=\"Homefleet\"", "realm=\"Other\"", Refusal::NotAsked),
        ("algorithm=SHA-256", "algorithm=SHA-512", Refusal::NotAsked),
        (
            "algorithm=SHA-256",
            "algorithm=SHA-256-sess",
            Refusal::NotAsked,
        ),
        ("qop=auth", "qop=auth-int", Refusal::NotAsked),
        (", qop=auth", "", Refusal::Malformed),
        ("nc=00000001", "nc=one", Refusal::Malformed),
        ("nc=00000001", "nc=00000002", Refusal::Credentials),
        ("cnonce=", "other=", Refusal::Malformed),
        ("Digest ", "Basic ", Refusal::Malformed),
        ("nonce=\"", "nonce=\"0", Refusal::Stale),
        ("Digest ", "Digest a=\"", Refusal::Malformed),
        ("Digest ", "Digest username=\"x\", ", Refusal::Malformed),
    ];
    for (from, to, refusal) in cases {
        let wrong = right.replacen(from, to, 1);
        assert_ne!(wrong, right, "{from}");
        assert_eq!(login.check(&wrong), Err(refusal), "{from} as {to}");
    }
    let two = format!("{right}, {right}");
    assert_eq!(login.check(&two), Err(Refusal::Malformed));
    let now = login.now;
    let get = login.server.authorize(now, "GET", "/acs", &right, |_| {
        Some(Stored::Password("pass:word".into()))
    });
    assert_eq!(get, Err(Refusal::Credentials), "another method");
    assert!(
        login.check(&right).is_ok(),
        "what was refused used nothing up"
    );
}

#[test]
fn nobody_is_let_in_without_a_password_that_is_kept() {
    for password in ["", "pass:word"] {
        let now = start();
        let mut server = DigestServer::new(now, DigestConfig::new("Homefleet"), [3; 32]);
        let mut stranger = DigestClient::new("stranger", password.into(), false, [4; 32]);
        let headers = server.challenge(now, None);
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        stranger.challenged(&headers).unwrap();
        let header = stranger.authorization("GET", "/").unwrap();
        let refused = server.authorize(now, "GET", "/", &header, |_| None);
        assert_eq!(refused, Err(Refusal::Credentials), "{password:?}");
    }
}

#[test]
fn an_algorithm_that_was_not_offered_is_not_taken() {
    let mut login = Login::new(DigestConfig {
        algorithms: vec![Algorithm::Md5],
        ..DigestConfig::new("Homefleet")
    });
    login.challenge(None).unwrap();
    let header = login.header();
    login.server = DigestServer::new(
        login.now,
        DigestConfig {
            algorithms: vec![Algorithm::Sha256],
            ..DigestConfig::new("Homefleet")
        },
        [3; 32],
    );
    assert_eq!(login.check(&header), Err(Refusal::NotAsked));
}

proptest! {
    #[test]
    fn any_username_and_password_and_uri_go_together(
        username in "[^\\p{Cc}]{1,20}",
        password in "\\PC{0,20}",
        uri in "/[!-~]{0,20}",
    ) {
        let now = start();
        let mut server = DigestServer::new(now, DigestConfig::new("a \"realm\""), [1; 32]);
        let mut client = DigestClient::new(username.clone(), password.clone().into(), false, [2; 32]);
        let headers = server.challenge(now, None);
        client.challenged(&headers.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        let header = client.authorization("GET", &uri).unwrap();
        let admitted = server.authorize(now, "GET", &uri, &header, |_| Some(Stored::Password(password.into())));
        prop_assert_eq!(admitted, Ok(username));
    }
}
