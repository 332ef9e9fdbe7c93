//! Cookies of one session (TR-069 §3.4.1, RFC 6265).

use hyper::HeaderMap;
use hyper::header::SET_COOKIE;

/// The most cookies, and the longest, that a session keeps.
const MOST: usize = 20;
const LONGEST: usize = 4096;

/// What the server has set. They live no longer than the session, and go to no other host.
#[derive(Default)]
pub(super) struct Cookies(Vec<(String, String)>);

impl Cookies {
    /// Takes what a response sets: the last of one name counts.
    pub(super) fn take(&mut self, headers: &HeaderMap) {
        for header in headers.get_all(SET_COOKIE) {
            let Ok(text) = header.to_str() else {
                continue;
            };
            let mut parts = text.split(';');
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
                continue;
            };
            let (name, value) = (name.trim(), value.trim());
            if name.is_empty() || name.len() + value.len() > LONGEST {
                continue;
            }
            self.0.retain(|(own, _)| own != name);
            let gone = parts.any(|attribute| {
                let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
                let age = value.trim().parse::<i64>();
                key.trim().eq_ignore_ascii_case("max-age") && age.is_ok_and(|age| age <= 0)
            });
            if !gone && self.0.len() < MOST {
                self.0.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    /// The `Cookie` header.
    pub(super) fn header(&self) -> Option<String> {
        let pairs: Vec<String> = self
            .0
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
