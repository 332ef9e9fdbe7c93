//! Answering challenges.

use std::fmt;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::{
    Algorithm, Stored, basic,
    hash::hex,
    header::{Challenge, quoted},
};
use crate::Secret;

/// Somebody who logs in.
pub struct DigestClient {
    username: String,
    password: Secret,
    /// Answer a challenge for Basic when there is none for Digest.
    takes_basic: bool,
    answer: Option<Answer>,
    rng: ChaCha20Rng,
}

enum Answer {
    Basic,
    Digest(Given),
}

/// What the server has given.
struct Given {
    algorithm: Algorithm,
    session: bool,
    realm: String,
    nonce: String,
    opaque: Option<String>,
    /// With `qop=auth`; without, it is as in RFC 2069.
    qop: bool,
    count: u32,
    /// Of the first answer to the nonce, for `-sess`.
    cnonce: Option<String>,
}

/// Why a challenge is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// It was answered already, and nothing says that only the nonce was too old.
    #[error("the server does not take the credentials")]
    Refused,
    /// No challenge that can be answered, or only for Basic where that is not wanted.
    #[error("no challenge that can be answered")]
    Unsupported,
}

impl DigestClient {
    /// Somebody with a username and a password. `takes_basic` only over TLS.
    pub fn new(
        username: impl Into<String>,
        password: Secret,
        takes_basic: bool,
        seed: [u8; 32],
    ) -> Self {
        Self {
            username: username.into(),
            password,
            takes_basic,
            answer: None,
            rng: ChaCha20Rng::from_seed(seed),
        }
    }

    /// The `WWW-Authenticate` headers of a 401. Of several challenges SHA-256 goes before MD5, and that before Basic.
    ///
    /// # Errors
    /// When there is no use in sending the request again.
    pub fn challenged(&mut self, headers: &[&str]) -> Result<(), ClientError> {
        let all = headers
            .iter()
            .filter_map(|header| Challenge::parse_all(header));
        let all: Vec<Challenge> = all.flatten().collect();
        let digests = all.iter().filter_map(|one| Some((Given::new(one)?, one)));
        let best = digests.max_by_key(|(given, _)| (given.algorithm, !given.session));
        let answered = self.answer.is_some();
        if let Some((given, challenge)) = best {
            let stale = challenge.parameter("stale");
            let stale = stale.is_some_and(|text| text.eq_ignore_ascii_case("true"));
            if answered && !stale && !self.may_be_old() {
                return Err(ClientError::Refused);
            }
            self.answer = Some(Answer::Digest(given));
            return Ok(());
        }
        let basic = self.takes_basic && all.iter().any(|one| one.is("Basic"));
        match (basic, answered) {
            (true, false) => {
                self.answer = Some(Answer::Basic);
                Ok(())
            }
            (true, true) => Err(ClientError::Refused),
            (false, _) => Err(ClientError::Unsupported),
        }
    }

    /// The `Authorization` header of a request; `None` before any challenge.
    pub fn authorization(&mut self, method: &str, uri: &str) -> Option<String> {
        match self.answer.as_mut()? {
            Answer::Basic => Some(basic(&self.username, &self.password)),
            Answer::Digest(given) => {
                let mut cnonce = [0; 16];
                self.rng.fill_bytes(&mut cnonce);
                let stored = Stored::Password(self.password.clone());
                Some(given.answer(&self.username, &stored, method, uri, &hex(&cnonce)))
            }
        }
    }

    /// The `Authentication-Info` header of a response: the nonce that comes next.
    pub fn handle_info(&mut self, header: &str) {
        // Parameters without a scheme: one in front makes a challenge of it.
        let all = Challenge::parse_all(&format!("Digest {header}")).unwrap_or_default();
        let next = all.first().and_then(|info| info.parameter("nextnonce"));
        if let (Some(next), Some(Answer::Digest(given))) = (next, &mut self.answer) {
            given.nonce = next.to_owned();
            given.count = 0;
            given.cnonce = None;
        }
    }

    /// Forgets the challenge: the next is the first of another server.
    pub fn forget(&mut self) {
        self.answer = None;
    }

    /// Some servers do not say that a nonce is too old: after a nonce was taken at least once, a challenge is worth a new answer.
    fn may_be_old(&self) -> bool {
        matches!(&self.answer, Some(Answer::Digest(given)) if given.count > 1)
    }
}

impl fmt::Debug for DigestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestClient").finish_non_exhaustive()
    }
}

impl Given {
    fn new(challenge: &Challenge) -> Option<Self> {
        let (algorithm, session) = match challenge.parameter("algorithm") {
            Some(name) => Algorithm::parse(name)?,
            None => (Algorithm::Md5, false),
        };
        let qop = match challenge.parameter("qop") {
            Some(offered) => {
                let mut all = offered.split(',');
                all.any(|one| one.trim().eq_ignore_ascii_case("auth"))
                    .then_some(true)?
            }
            None => false,
        };
        challenge.is("Digest").then_some(())?;
        Some(Self {
            algorithm,
            session,
            realm: challenge.parameter("realm")?.to_owned(),
            nonce: challenge.parameter("nonce")?.to_owned(),
            opaque: challenge.parameter("opaque").map(str::to_owned),
            qop,
            count: 0,
            cnonce: None,
        })
    }

    /// RFC 7616 §3.4.1.
    fn answer(
        &mut self,
        username: &str,
        stored: &Stored,
        method: &str,
        uri: &str,
        cnonce: &str,
    ) -> String {
        self.count = self.count.saturating_add(1);
        let count = format!("{:08x}", self.count);
        let first = self.cnonce.get_or_insert_with(|| cnonce.to_owned()).clone();
        let hash = |parts: &[&str]| self.algorithm.hash(parts);
        let mut ha1 = stored
            .ha1(self.algorithm, username, &self.realm)
            .unwrap_or_default();
        // The session's key is of its first nonces.
        let cnonce = if self.session { &first } else { cnonce };
        if self.session {
            ha1 = hash(&[&ha1, &self.nonce, cnonce]);
        }
        let ha2 = hash(&[method, uri]);
        let response = match self.qop {
            true => hash(&[&ha1, &self.nonce, &count, cnonce, "auth", &ha2]),
            false => hash(&[&ha1, &self.nonce, &ha2]),
        };
        let mut header = format!(
            "Digest username={}, realm={}, nonce={}, uri={}, response=\"{response}\", algorithm={}{}",
            quoted(username),
            quoted(&self.realm),
            quoted(&self.nonce),
            quoted(uri),
            self.algorithm.name(),
            if self.session { "-sess" } else { "" },
        );
        if self.qop || self.session {
            header.push_str(&format!(", cnonce={}", quoted(cnonce)));
        }
        if self.qop {
            header.push_str(&format!(", qop=auth, nc={count}"));
        }
        if let Some(opaque) = &self.opaque {
            header.push_str(&format!(", opaque={}", quoted(opaque)));
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(challenge: &str) -> Given {
        let all = Challenge::parse_all(challenge).expect("a header");
        Given::new(&all[0]).expect("a challenge")
    }

    #[test]
    fn the_example_of_rfc_2617_is_reproduced() {
        let mut given = given(
            r#"Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41""#,
        );
        let stored = Stored::Password("Circle Of Life".into());
        let header = given.answer("Mufasa", &stored, "GET", "/dir/index.html", "0a4f113b");
        assert!(
            header.contains("response=\"6629fae49393a05397450978507c4ef1\""),
            "{header}"
        );
        assert!(
            header.contains("opaque=\"5ccc069c403ebaf9f0171e9517f40e41\""),
            "{header}"
        );
    }

    #[test]
    fn the_examples_of_rfc_7616_are_reproduced() {
        let cases = [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            (
                "SHA-256",
                "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            ),
        ];
        for (algorithm, response) in cases {
            let mut given = given(&format!(
                r#"Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v""#
            ));
            let stored = Stored::hashed("Mufasa", "http-auth@example.org", "Circle of Life");
            let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
            let header = given.answer("Mufasa", &stored, "GET", "/dir/index.html", cnonce);
            assert!(
                header.contains(&format!("response=\"{response}\"")),
                "{header}"
            );
        }
    }

    #[test]
    fn without_qop_it_is_as_in_rfc_2069() {
        let mut given = given(r#"Digest realm="r", nonce="n""#);
        let header = given.answer("u", &Stored::Password("p".into()), "GET", "/", "c");
        let md5 = |parts: &[&str]| Algorithm::Md5.hash(parts);
        let response = md5(&[&md5(&["u", "r", "p"]), "n", &md5(&["GET", "/"])]);
        assert!(header.contains(&response), "{header}");
        assert!(!header.contains("nc="), "{header}");
    }

    #[test]
    fn of_the_session_variant_the_first_nonces_stay_in_the_key() {
        let mut given = given(r#"Digest realm="r", nonce="n", qop=auth, algorithm=MD5-sess"#);
        let stored = Stored::Password("p".into());
        given.answer("u", &stored, "GET", "/", "c1");
        let header = given.answer("u", &stored, "GET", "/", "c2");
        let md5 = |parts: &[&str]| Algorithm::Md5.hash(parts);
        let ha1 = md5(&[&md5(&["u", "r", "p"]), "n", "c1"]);
        let response = md5(&[&ha1, "n", "00000002", "c1", "auth", &md5(&["GET", "/"])]);
        assert!(header.contains(&response), "{header}");
    }

    #[test]
    fn the_strongest_challenge_is_answered_and_basic_only_where_it_is_taken() {
        let md5 = r#"Digest realm="r", nonce="a", qop="auth", algorithm=MD5"#;
        let sha256 = r#"Digest realm="r", nonce="b", qop="auth", algorithm=SHA-256"#;
        let basic = r#"Basic realm="r""#;
        let mut client = DigestClient::new("u", "p".into(), true, [1; 32]);
        assert_eq!(client.authorization("GET", "/"), None);
        assert_eq!(client.challenged(&[basic, md5, sha256]), Ok(()));
        let header = client.authorization("GET", "/").expect("an answer");
        assert!(header.contains("algorithm=SHA-256"), "{header}");
        client.forget();
        assert_eq!(client.challenged(&[basic]), Ok(()));
        assert_eq!(
            client.authorization("GET", "/").as_deref(),
            Some("Basic dTpw")
        );
        assert_eq!(client.challenged(&[basic]), Err(ClientError::Refused));
        let mut wary = DigestClient::new("u", "p".into(), false, [1; 32]);
        assert_eq!(wary.challenged(&[basic]), Err(ClientError::Unsupported));
        let other = r#"Digest realm="r", nonce="n", qop="auth-int""#;
        assert_eq!(
            wary.challenged(&[other, "Negotiate", "\""]),
            Err(ClientError::Unsupported)
        );
    }

    #[test]
    fn a_second_challenge_means_refused_unless_the_nonce_was_too_old() {
        let first = r#"Digest realm="r", nonce="a", qop="auth""#;
        let stale = r#"Digest realm="r", nonce="b", qop="auth", stale=TRUE"#;
        let mut client = DigestClient::new("u", "p".into(), false, [1; 32]);
        assert_eq!(client.challenged(&[first]), Ok(()));
        client.authorization("GET", "/");
        assert_eq!(client.challenged(&[stale]), Ok(()));
        client.authorization("GET", "/");
        assert_eq!(client.challenged(&[first]), Err(ClientError::Refused));
        client.authorization("GET", "/");
        assert_eq!(
            client.challenged(&[first]),
            Ok(()),
            "a nonce that was good for a while"
        );
    }

    #[test]
    fn the_next_nonce_is_used_when_the_server_tells_one() {
        let mut client = DigestClient::new("u", "p".into(), false, [1; 32]);
        assert_eq!(
            client.challenged(&[r#"Digest realm="r", nonce="a", qop="auth""#]),
            Ok(())
        );
        client.authorization("GET", "/");
        client.handle_info("nextnonce=\"b\", qop=auth");
        let header = client.authorization("GET", "/").expect("an answer");
        assert!(
            header.contains("nonce=\"b\"") && header.contains("nc=00000001"),
            "{header}"
        );
    }
}
