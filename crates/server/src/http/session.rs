//! The console's session cookie, and where a request comes from.

use axum::http::header::{COOKIE as COOKIE_HEADER, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue};

/// Name of the cookie.
pub const COOKIE: &str = "homefleet_session";

/// `Set-Cookie` for a new session.
pub fn set_cookie(secret: &str, secure: bool) -> HeaderValue {
    header(&format!(
        "{COOKIE}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200{}",
        mark(secure)
    ))
}

/// `Set-Cookie` that ends a session.
pub fn clear_cookie(secure: bool) -> HeaderValue {
    header(&format!(
        "{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0{}",
        mark(secure)
    ))
}

/// The session's secret from the request's cookies.
pub fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(COOKIE_HEADER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
        .filter(|secret| !secret.is_empty())
}

/// Whether a request that changes something was made by a page of this server: by `Sec-Fetch-Site` where the browser
/// sends it, else by `Origin`, whose host must be the one the request was sent to. Neither = not.
pub fn same_origin(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    match (text(ORIGIN), text(HOST)) {
        (Some(origin), Some(host)) => {
            origin
                .strip_prefix("http://")
                .or_else(|| origin.strip_prefix("https://"))
                == Some(host)
        }
        _ => false,
    }
}

fn mark(secure: bool) -> &'static str {
    if secure { "; Secure" } else { "" }
}

fn header(text: &str) -> HeaderValue {
    // The secret is base64 text: always a valid header.
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn another_site_is_not_the_same_origin() {
        assert!(same_origin(&headers(&[("sec-fetch-site", "same-origin")])));
        assert!(!same_origin(&headers(&[
            ("sec-fetch-site", "cross-site"),
            ("origin", "http://a"),
            ("host", "a")
        ])));
        assert!(!same_origin(&headers(&[("sec-fetch-site", "same-site")])));
        assert!(same_origin(&headers(&[
            ("origin", "http://127.0.0.1:8080"),
            ("host", "127.0.0.1:8080")
        ])));
        assert!(!same_origin(&headers(&[
            ("origin", "http://evil.example"),
            ("host", "127.0.0.1:8080")
        ])));
        assert!(!same_origin(&headers(&[("host", "127.0.0.1:8080")])));
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        assert_eq!(
            cookie(&headers(&[(
                "cookie",
                "a=b; homefleet_session=s3cret; c=d"
            )])),
            Some("s3cret")
        );
        assert_eq!(
            cookie(&headers(&[("cookie", "xhomefleet_session=s3cret")])),
            None
        );
    }
}
